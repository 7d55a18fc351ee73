//! The records of the latest requests, for who asks at the admin address. Refusals are kept apart, so that a busy
//! gateway's answers do not push out the one that somebody asks about.

use std::collections::VecDeque;

use super::record::{Outcome, Record};
use crate::ids::RequestId;

/// A worker's latest records that were let in.
const MOST_ALLOWED: usize = 256;
/// A worker's latest records that were refused.
const MOST_DENIED: usize = 1024;

/// A worker's latest records.
#[derive(Debug, Default)]
pub(super) struct Recent {
    allowed: VecDeque<(u64, Box<Record>)>,
    denied: VecDeque<(u64, Box<Record>)>,
    /// How many came in all.
    count: u64,
}

/// Which of them are asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `allow` or `deny`.
    pub decision: Option<String>,
    /// A reason's code.
    pub reason: Option<String>,
    /// A route's name.
    pub route: Option<String>,
    /// An app's name or ID.
    pub app: Option<String>,
    /// A tenant's name or ID.
    pub tenant: Option<String>,
    /// A request.
    pub id: Option<RequestId>,
}

impl Filter {
    fn takes(&self, record: &Record) -> bool {
        let is = |asked: &Option<String>, value: Option<&str>| {
            asked.as_deref().is_none_or(|asked| value == Some(asked))
        };
        let is_either = |asked: &Option<String>, name: Option<&str>, id: Option<String>| {
            asked.as_deref().is_none_or(|asked| {
                name == Some(asked) || id.is_some_and(|id| id.eq_ignore_ascii_case(asked))
            })
        };
        let principal = record.principal.as_deref();
        is(&self.decision, Some(record.outcome.decision()))
            && is(&self.reason, Some(record.outcome.reason()))
            && is(&self.route, record.route.as_deref())
            && is_either(
                &self.app,
                record.app_name.as_deref(),
                principal.map(|principal| principal.app().to_string()),
            )
            && is_either(
                &self.tenant,
                record.tenant_name.as_deref(),
                principal.map(|principal| principal.tenant().to_string()),
            )
            && self.id.is_none_or(|id| record.id == id)
    }
}

impl Recent {
    /// Keeps a record in the place of the oldest of its kind.
    pub(super) fn keep(&mut self, record: Box<Record>) {
        let (kept, most) = match record.outcome {
            Outcome::Denied(_) => (&mut self.denied, MOST_DENIED),
            Outcome::Allowed | Outcome::Public | Outcome::ReportOnly => {
                (&mut self.allowed, MOST_ALLOWED)
            }
        };
        self.count += 1;
        if kept.len() >= most {
            kept.pop_front();
        }
        kept.push_back((self.count, record));
    }

    /// How many came in all.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// How many of them are kept.
    pub(super) fn kept(&self) -> usize {
        self.allowed.len() + self.denied.len()
    }

    /// Copies of those that the filter takes, behind the first `after` that came: the latest, at most `limit`.
    pub(super) fn find(&self, filter: &Filter, after: u64, limit: usize) -> Vec<Record> {
        let newest = |kept: &VecDeque<(u64, Box<Record>)>| {
            let late = kept.iter().rev().take_while(|(at, _)| *at > after);
            let taken = late.filter(|(_, record)| filter.takes(record));
            taken
                .take(limit)
                .map(|(_, record)| Record::clone(record))
                .collect::<Vec<_>>()
        };
        let mut found = newest(&self.allowed);
        found.extend(newest(&self.denied));
        found
    }
}
