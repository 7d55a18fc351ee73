//! Counters, in Prometheus' text form. They are counted where records are written, so that a request
//! pays nothing for them. Labels are bounded: routes and reasons are, and nothing else is a label.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use super::record::Record;

/// What has been counted since the start.
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    decisions: BTreeMap<Labels, u64>,
    stripped: BTreeMap<&'static str, u64>,
    lost: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    route: Option<Arc<str>>,
    decision: &'static str,
    reason: &'static str,
}

impl Metrics {
    /// Counts records, and how many were lost because the queue was full.
    pub(super) fn count(&self, records: &[Record], lost: u64) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.lost += lost;
        for record in records {
            let labels = Labels {
                route: record.route.clone(),
                decision: record.outcome.decision(),
                reason: record.outcome.reason(),
            };
            *counted.decisions.entry(labels).or_default() += 1;
            for key in record.keys() {
                *counted.stripped.entry(key).or_default() += 1;
            }
        }
    }

    /// Everything, as `/metrics` answers it.
    pub fn text(&self) -> String {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::from(
            "# HELP portcullis_decisions_total Requests by route, decision and reason.\n\
             # TYPE portcullis_decisions_total counter\n",
        );
        for (labels, count) in &counted.decisions {
            let Labels {
                route,
                decision,
                reason,
            } = labels;
            // Route names are words of letters, digits, dots and hyphens: nothing to escape.
            let route = route.as_deref().unwrap_or("none");
            let _ = writeln!(
                text,
                "portcullis_decisions_total{{route=\"{route}\",decision=\"{decision}\",reason=\"{reason}\"}} {count}"
            );
        }
        text.push_str(
            "# HELP portcullis_keys_stripped_total Keys that callers sent, by name.\n\
             # TYPE portcullis_keys_stripped_total counter\n",
        );
        for (key, count) in &counted.stripped {
            let _ = writeln!(
                text,
                "portcullis_keys_stripped_total{{key=\"{key}\"}} {count}"
            );
        }
        let _ = write!(
            text,
            "# HELP portcullis_records_lost_total Records that were dropped because the log was too slow.\n\
             # TYPE portcullis_records_lost_total counter\n\
             portcullis_records_lost_total {}\n",
            counted.lost
        );
        text
    }
}
