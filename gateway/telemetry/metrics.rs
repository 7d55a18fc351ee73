//! Counters, in Prometheus' text form. Records that are written are counted where they are written, so that a
//! request pays nothing for it; others by their worker, which then need not hand them over, and whose counts are
//! fetched when somebody asks for them. Labels are bounded: they are named in the files, or few.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::connections;
use super::log::Sink;
use super::record::{Disagreement, Record, UNOPENED};
use super::sightings::{Agents, Sightings};
use crate::canonical::{KeyHeaders, KeyParameters};
use crate::policy::{Rehearsed, RuleId};

/// What has been counted since the start.
#[derive(Debug)]
pub struct Metrics {
    counted: Mutex<Counted>,
    /// Those who may count by themselves.
    workers: Vec<Arc<Sink>>,
}

/// Counts, of a worker or of all.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// What was counted last and is not yet among the others.
    latest: Option<(Labels, u64)>,
    decisions: BTreeMap<Labels, u64>,
    report_only: BTreeMap<Labels, u64>,
    candidate: BTreeMap<Disagreed, u64>,
    candidate_undecided: u64,
    /// The keys that came together last, and how often they are not yet among the others.
    latest_stripped: ((KeyParameters, KeyHeaders), u64),
    stripped: BTreeMap<&'static str, u64>,
    sas: Sightings,
    sealed: BTreeMap<(Option<Arc<str>>, &'static str), u64>,
    followed: BTreeMap<(Option<Arc<str>>, &'static str), u64>,
    limited: BTreeMap<Limited, u64>,
    lost: u64,
    decisions_lost: u64,
}

/// A route, a limit of it, and whether it acted.
type Limited = (Option<Arc<str>>, Arc<str>, bool);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    route: Option<Arc<str>>,
    decision: &'static str,
    reason: &'static str,
    /// Of what only reports.
    rule: Option<RuleId>,
}

/// A disagreement with the candidate, by what is bounded: names of routes, rules and apps in the files.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Disagreed {
    route: Option<Arc<str>>,
    app: Option<Arc<str>>,
    /// Whether anybody knows the app, though the policies have no name for it.
    is_known: bool,
    rule: Option<RuleId>,
    decision: &'static str,
    reason: &'static str,
}

impl Disagreed {
    fn of(record: &Record, other: &Disagreement) -> Self {
        Self {
            route: other.route.clone().or_else(|| record.route.clone()),
            app: other.app_name.clone().or_else(|| record.app_name.clone()),
            is_known: other.app.is_some() || record.principal.is_some(),
            rule: other.rule,
            decision: other.decision(),
            reason: other.denial.map_or("", |reason| reason.code()),
        }
    }
}

impl Counted {
    /// Nothing yet.
    pub(super) fn new(agents: Agents) -> Self {
        Self {
            sas: Sightings::new(agents),
            ..Self::default()
        }
    }

    /// Hands over what was counted, and begins anew.
    pub(super) fn take(&mut self) -> Self {
        let taken = std::mem::take(self);
        self.sas = taken.sas.beside();
        taken
    }

    /// Counts a record.
    pub(super) fn count(&mut self, record: &Record) {
        self.decision(record);
        if let Some(rehearsed) = &record.rehearsed {
            let (decision, reason, rule) = match rehearsed {
                Rehearsed::Denial(reason, rule) => ("deny", reason.code(), *rule),
                Rehearsed::Allow(rule) => ("allow", "", Some(*rule)),
            };
            let labels = Labels {
                route: record.route.clone(),
                decision,
                reason,
                rule,
            };
            *self.report_only.entry(labels).or_default() += 1;
        }
        if let Some(other) = &record.candidate {
            let labels = Disagreed::of(record, other);
            *self.candidate.entry(labels).or_default() += 1;
        }
        self.candidate_undecided += u64::from(record.candidate_undecided);
        let keys = (record.key_parameters, record.key_headers);
        if keys != self.latest_stripped.0 {
            self.settle_stripped();
            self.latest_stripped.0 = keys;
        }
        self.latest_stripped.1 += 1;
        self.sas.count(record);
        for (outcome, count) in [
            ("sealed", record.caught.sealed),
            ("withheld", record.caught.withheld),
        ] {
            if count > 0 {
                let labels = (record.route.clone(), outcome);
                *self.sealed.entry(labels).or_default() += u64::from(count);
            }
        }
        if let Some(limit) = &record.limit {
            let labels = (record.route.clone(), Arc::clone(limit), record.limited);
            *self.limited.entry(labels).or_default() += 1;
        }
        if record.followed.is_some() || record.path.as_ref() == UNOPENED {
            let labels = (record.route.clone(), record.outcome.reason());
            *self.followed.entry(labels).or_default() += 1;
        }
    }

    /// Most requests end as the one before.
    fn decision(&mut self, record: &Record) {
        if let Some((labels, count)) = &mut self.latest
            && labels.are_of(record)
        {
            *count += 1;
            return;
        }
        self.settle_decision();
        let labels = Labels {
            route: record.route.clone(),
            decision: record.outcome.decision(),
            reason: record.outcome.reason(),
            rule: None,
        };
        self.latest = Some((labels, 1));
    }

    /// Puts what was counted last among the others.
    fn settle(&mut self) {
        self.settle_decision();
        self.settle_stripped();
        self.sas.settle();
    }

    fn settle_decision(&mut self) {
        if let Some((labels, count)) = self.latest.take() {
            *self.decisions.entry(labels).or_default() += count;
        }
    }

    fn settle_stripped(&mut self) {
        let ((parameters, headers), count) = std::mem::take(&mut self.latest_stripped);
        for key in parameters.names().chain(headers.names()) {
            *self.stripped.entry(key).or_default() += count;
        }
    }

    /// Adds what another has counted.
    fn add(&mut self, mut other: Self) {
        self.settle();
        other.settle();
        merge(&mut self.decisions, other.decisions);
        merge(&mut self.report_only, other.report_only);
        merge(&mut self.candidate, other.candidate);
        self.candidate_undecided += other.candidate_undecided;
        merge(&mut self.stripped, other.stripped);
        self.sas.add(other.sas);
        merge(&mut self.sealed, other.sealed);
        merge(&mut self.followed, other.followed);
        merge(&mut self.limited, other.limited);
        self.lost += other.lost;
        self.decisions_lost += other.decisions_lost;
    }
}

/// Adds counts to counts.
fn merge<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
    for (labels, count) in from {
        *into.entry(labels).or_default() += count;
    }
}

impl Metrics {
    /// What is counted here and by these workers, with whom it shares `agents`.
    pub fn new(workers: Vec<Arc<Sink>>, agents: Agents) -> Self {
        Self {
            counted: Mutex::new(Counted::new(agents)),
            workers,
        }
    }

    /// Counts records, and how many were lost because the queue was full or the decision log could not
    /// be written.
    pub(super) fn count(&self, records: &[Record], lost: u64, decisions_lost: u64) {
        let mut counted = self.counted();
        counted.lost += lost;
        counted.decisions_lost += decisions_lost;
        for record in records {
            counted.count(record);
        }
        counted.settle();
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything, as `/metrics` answers it.
    pub fn text(&self) -> String {
        let mut counted = self.counted();
        for worker in &self.workers {
            counted.add(worker.take_counts());
        }
        let mut text = String::from(
            "# HELP portcullis_decisions_total Requests by route, decision and reason.\n\
             # TYPE portcullis_decisions_total counter\n",
        );
        for (labels, count) in &counted.decisions {
            let _ = writeln!(
                text,
                "portcullis_decisions_total{{{}}} {count}",
                labels.text()
            );
        }
        text.push_str(
            "# HELP portcullis_report_only_total What would have been decided otherwise, had everything acted that only reports.\n\
             # TYPE portcullis_report_only_total counter\n",
        );
        for (labels, count) in &counted.report_only {
            let rule = rule_label(labels.rule);
            let labels = labels.text();
            let _ = writeln!(
                text,
                "portcullis_report_only_total{{{labels},rule=\"{rule}\"}} {count}"
            );
        }
        text.push_str(
            "# HELP portcullis_candidate_disagreements_total What the candidate policy would have decided otherwise.\n\
             # TYPE portcullis_candidate_disagreements_total counter\n",
        );
        for (labels, count) in &counted.candidate {
            let route = labels.route.as_deref().unwrap_or("none");
            let unnamed = if labels.is_known { "other" } else { "none" };
            let app = labels.app.as_deref().unwrap_or(unnamed);
            let rule = rule_label(labels.rule);
            let (decision, reason) = (labels.decision, labels.reason);
            let _ = writeln!(
                text,
                "portcullis_candidate_disagreements_total{{route=\"{route}\",app=\"{app}\",rule=\"{rule}\",decision=\"{decision}\",reason=\"{reason}\"}} {count}"
            );
        }
        let _ = write!(
            text,
            "# HELP portcullis_candidate_undecided_total Requests on which the candidate could not decide without waiting for keys.\n\
             # TYPE portcullis_candidate_undecided_total counter\n\
             portcullis_candidate_undecided_total {}\n",
            counted.candidate_undecided
        );
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
        counted.sas.text(&mut text);
        text.push_str(
            "# HELP portcullis_sealed_urls_total URLs in answers that carried a key or led past the gateway, by what became of them.\n\
             # TYPE portcullis_sealed_urls_total counter\n",
        );
        for ((route, outcome), count) in &counted.sealed {
            let route = route.as_deref().unwrap_or("none");
            let _ = writeln!(
                text,
                "portcullis_sealed_urls_total{{route=\"{route}\",outcome=\"{outcome}\"}} {count}"
            );
        }
        text.push_str(
            "# HELP portcullis_sealed_urls_followed_total Requests that followed a sealed URL, by how they ended.\n\
             # TYPE portcullis_sealed_urls_followed_total counter\n",
        );
        for ((route, reason), count) in &counted.followed {
            let route = route.as_deref().unwrap_or("none");
            let _ = writeln!(
                text,
                "portcullis_sealed_urls_followed_total{{route=\"{route}\",reason=\"{reason}\"}} {count}"
            );
        }
        text.push_str(
            "# HELP portcullis_limited_total Requests that a limit refused, or would have refused had it acted.\n\
             # TYPE portcullis_limited_total counter\n",
        );
        for ((route, limit, acted), count) in &counted.limited {
            let route = route.as_deref().unwrap_or("none");
            let mode = match acted {
                true => "enforce",
                false => "reportOnly",
            };
            let _ = writeln!(
                text,
                "portcullis_limited_total{{route=\"{route}\",limit=\"{limit}\",mode=\"{mode}\"}} {count}"
            );
        }
        let _ = write!(
            text,
            "# HELP portcullis_records_lost_total Records that were dropped because the log was too slow.\n\
             # TYPE portcullis_records_lost_total counter\n\
             portcullis_records_lost_total {}\n\
             # HELP portcullis_decisions_lost_total Decisions that are not in the decision log although they should be.\n\
             # TYPE portcullis_decisions_lost_total counter\n\
             portcullis_decisions_lost_total {}\n",
            counted.lost, counted.decisions_lost
        );
        connections::text(
            self.workers.iter().map(|worker| worker.connections()),
            &mut text,
        );
        text
    }
}

fn rule_label(rule: Option<RuleId>) -> String {
    rule.map_or_else(|| "none".to_owned(), |rule| rule.to_string())
}

impl Labels {
    /// Whether they are those of a record's decision.
    fn are_of(&self, record: &Record) -> bool {
        self.route == record.route
            && self.decision == record.outcome.decision()
            && self.reason == record.outcome.reason()
    }

    fn text(&self) -> String {
        // Route names are words of letters, digits, dots and hyphens: nothing to escape.
        let route = self.route.as_deref().unwrap_or("none");
        let (decision, reason) = (self.decision, self.reason);
        format!("route=\"{route}\",decision=\"{decision}\",reason=\"{reason}\"")
    }
}
