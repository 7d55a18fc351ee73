//! What workers have counted, fetched when somebody asks for it. Labels are bounded: they are named in the files, or
//! few.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::connections;
use super::lines::Which;
use super::recent::Filter;
use super::record::{Disagreement, Record, UNOPENED};
use super::sightings::{Agents, Sightings};
use super::sink::Sink;
use super::traffic::{self, AllDurations, METHOD_COUNT};
use crate::canonical::{KeyHeaders, KeyParameters};
use crate::entra::Lookup;
use crate::metric::{Family, Label, Metric, Point, Unit};
use crate::policy::{Rehearsed, RuleId};

/// What has been counted since the start.
#[derive(Debug)]
pub struct Metrics {
    counted: Mutex<(Counted, AllDurations)>,
    workers: Vec<Arc<Sink>>,
    failed: Failed,
}

/// Lines that could not be written.
#[derive(Debug, Default)]
struct Failed {
    requests: AtomicU64,
    decisions: AtomicU64,
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
    lookups: [u64; Lookup::ALL.len()],
    /// Lines that were dropped.
    pub(super) lost: u64,
    pub(super) decisions_lost: u64,
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
        // INVARIANT: there is a count for each, in their order.
        let lookup = record.lookup.map(|lookup| lookup as usize);
        if let Some(count) = lookup.and_then(|at| self.lookups.get_mut(at)) {
            *count += 1;
        }
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
        for (all, one) in self.lookups.iter_mut().zip(other.lookups) {
            *all += one;
        }
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
    /// What is counted by these workers, with whom it shares `agents`.
    pub fn new(workers: Vec<Arc<Sink>>, agents: Agents) -> Self {
        Self {
            counted: Mutex::new((Counted::new(agents), AllDurations::default())),
            workers,
            failed: Failed::default(),
        }
    }

    /// Lines that could not be written, to count them where that is noticed.
    pub(super) fn failed(&self, which: Which) -> &AtomicU64 {
        match which {
            Which::Requests => &self.failed.requests,
            Which::Decisions => &self.failed.decisions,
        }
    }

    /// Everything that has been counted.
    pub fn families(&self) -> Vec<Family> {
        let counted = self.counted.lock();
        let mut counted = counted.unwrap_or_else(PoisonError::into_inner);
        let (counts, durations) = &mut *counted;
        let mut active = [0; METHOD_COUNT];
        let mut scheme = "https";
        for worker in &self.workers {
            let (more, times) = worker.take_counts();
            counts.add(more);
            scheme = worker.scheme();
            durations.add(times, scheme);
            for (all, one) in active.iter_mut().zip(worker.active()) {
                *all += one;
            }
        }
        let mut families = Vec::from(durations.families());
        families.push(traffic::active(&active, scheme));
        families.extend(counts.families(&self.failed));
        families.extend(connections::families(
            self.workers.iter().map(|worker| worker.connections()),
        ));
        families
    }

    /// The latest requests that the filter takes, newest first, behind the `marks` of a look before, and the marks of
    /// this one.
    pub fn recent(&self, filter: &Filter, marks: &[u64], limit: usize) -> (Vec<Record>, Vec<u64>) {
        let mut found = Vec::new();
        let mut now = Vec::new();
        for (at, worker) in self.workers.iter().enumerate() {
            let after = marks.get(at).copied().unwrap_or(0);
            let (count, records) = worker.recent(filter, after, limit);
            now.push(count);
            found.extend(records);
        }
        found.sort_by_key(|record| std::cmp::Reverse(record.arrived.unix));
        found.truncate(limit);
        (found, now)
    }

    /// How many of the latest requests are kept.
    pub fn kept(&self) -> usize {
        self.workers.iter().map(|worker| worker.kept_count()).sum()
    }
}

static DECISIONS: Metric = Metric::counter(
    "portcullis.decisions",
    REQUESTS,
    "Requests by route, decision and reason.",
);
static REPORT_ONLY: Metric = Metric::counter(
    "portcullis.report_only",
    REQUESTS,
    "What would have been decided otherwise, had everything acted that only reports.",
);
static DISAGREEMENTS: Metric = Metric::counter(
    "portcullis.candidate.disagreements",
    REQUESTS,
    "What the candidate policy would have decided otherwise.",
);
static UNDECIDED: Metric = Metric::counter(
    "portcullis.candidate.undecided",
    REQUESTS,
    "Requests on which the candidate could not decide without waiting for keys.",
);
static STRIPPED: Metric = Metric::counter(
    "portcullis.keys_stripped",
    Unit::Of("{key}"),
    "Keys that callers sent, by name.",
);
static SEALED: Metric = Metric::counter(
    "portcullis.sealed_urls",
    Unit::Of("{url}"),
    "URLs in answers that carried a key or led past the gateway, by what became of them.",
);
static FOLLOWED: Metric = Metric::counter(
    "portcullis.sealed_urls.followed",
    REQUESTS,
    "Requests that followed a sealed URL, by how they ended.",
);
static LIMITED: Metric = Metric::counter(
    "portcullis.limited",
    REQUESTS,
    "Requests that a limit refused, or would have refused had it acted.",
);
static LOOKUPS: Metric = Metric::counter(
    "portcullis.token.lookups",
    Unit::Of("{token}"),
    "Tokens by how they were found to be good: known from the connection, known to the process, verified; or refused.",
);
static RECORDS_LOST: Metric = Metric::counter(
    "portcullis.records.lost",
    Unit::Of("{record}"),
    "Lines of the request log that were dropped because it was too slow, or could not be written.",
);
static DECISIONS_LOST: Metric = Metric::counter(
    "portcullis.decisions.lost",
    Unit::Of("{record}"),
    "Decisions that are not in the decision log although they should be.",
);

const REQUESTS: Unit = Unit::Of("{request}");

impl Counted {
    fn families(&self, failed: &Failed) -> Vec<Family> {
        let named = |name: &Option<Arc<str>>| name.as_deref().unwrap_or("none").to_owned();
        let by = |labels: &Labels| {
            vec![
                ("route", named(&labels.route)),
                ("decision", labels.decision.to_owned()),
                ("reason", labels.reason.to_owned()),
            ]
        };
        let limited = |(route, limit, acted): &Limited| {
            let mode = if *acted { "enforce" } else { "reportOnly" };
            vec![
                ("route", named(route)),
                ("limit", limit.to_string()),
                ("mode", mode.to_owned()),
            ]
        };
        let lost = |count: u64, failed: &AtomicU64| count + failed.load(Ordering::Relaxed);
        vec![
            family(&DECISIONS, &self.decisions, by),
            family(&REPORT_ONLY, &self.report_only, |labels| {
                let mut by = by(labels);
                by.push(("rule", rule_label(labels.rule)));
                by
            }),
            family(&DISAGREEMENTS, &self.candidate, |labels| {
                let unnamed = if labels.is_known { "other" } else { "none" };
                vec![
                    ("route", named(&labels.route)),
                    ("app", labels.app.as_deref().unwrap_or(unnamed).to_owned()),
                    ("rule", rule_label(labels.rule)),
                    ("decision", labels.decision.to_owned()),
                    ("reason", labels.reason.to_owned()),
                ]
            }),
            UNDECIDED.of(self.candidate_undecided),
            family(&STRIPPED, &self.stripped, |key| {
                vec![("key", (*key).to_owned())]
            }),
            self.sas.family(),
            family(&SEALED, &self.sealed, |(route, outcome)| {
                vec![("route", named(route)), ("outcome", (*outcome).to_owned())]
            }),
            family(&FOLLOWED, &self.followed, |(route, reason)| {
                vec![("route", named(route)), ("reason", (*reason).to_owned())]
            }),
            family(&LIMITED, &self.limited, limited),
            LOOKUPS.with(
                Lookup::ALL
                    .iter()
                    .zip(self.lookups)
                    .map(|(lookup, count)| Point::new([("outcome", lookup.code())], count))
                    .collect(),
            ),
            RECORDS_LOST.of(lost(self.lost, &failed.requests)),
            DECISIONS_LOST.of(lost(self.decisions_lost, &failed.decisions)),
        ]
    }
}

fn family<K>(
    metric: &'static Metric,
    counts: &BTreeMap<K, u64>,
    labels: impl Fn(&K) -> Vec<Label>,
) -> Family {
    let points = counts.iter().map(|(key, count)| Point {
        labels: labels(key),
        value: (*count).into(),
    });
    metric.with(points.collect())
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
}
