//! One limit of a route on how often or how much, with the counts of its callers.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::fields::Told;
use super::keys::{Asker, By, Key};
use super::measure::{Measure, Moment};
use super::tally::{Tally, Tried};
use crate::clock::Now;
use crate::denial::Reason;
use crate::files::{Amount, Cost, Mode, Quota, RateLimit};

/// A limit, ready to be asked.
pub(super) struct Limit {
    pub(super) told: Told,
    pub(super) mode: Mode,
    spec: Spec,
    cost: Vec<(Method, u64)>,
    /// For the log: how much there is.
    pub(super) expected: String,
    tally: Arc<Tally>,
}

/// What a limit counts and by what: where both stay as they were, a reload leaves the counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spec {
    pub(super) measure: Measure,
    pub(super) by: By,
}

impl Spec {
    pub(super) fn of_rate(written: &RateLimit) -> Self {
        // Without a burst of its own, a limit lets its requests come all at once.
        let burst = written.burst.unwrap_or(written.requests);
        Self {
            measure: Measure::rate(written.requests, written.per, burst),
            by: By::read(&written.by),
        }
    }

    pub(super) fn of_quota(written: &Quota) -> Self {
        Self {
            measure: Measure::Quota {
                amount: written.amount,
                per: written.per,
            },
            by: By::read(&written.by),
        }
    }
}

/// What a limit is called where its file does not say.
pub(super) fn rate_name(written: &RateLimit) -> Arc<str> {
    let name = written.name.as_ref();
    name.map_or("route", |name| name.value.as_str()).into()
}

/// See [`rate_name`].
pub(super) fn quota_name(written: &Quota) -> Arc<str> {
    let name = written.name.as_ref();
    name.map_or("quota", |name| name.value.as_str()).into()
}

impl Limit {
    pub(super) fn rate(written: &RateLimit, spec: Spec, tally: Arc<Tally>) -> Self {
        let RateLimit {
            name: _,
            requests,
            per,
            burst,
            by: _,
            cost,
            mode,
        } = written;
        let burst = burst.unwrap_or(*requests);
        Self {
            told: Told::rate(rate_name(written), *requests, *per),
            mode: *mode,
            spec,
            cost: costs(cost),
            expected: format!("{requests} in {} s, burst {burst}", per.as_secs()),
            tally,
        }
    }

    pub(super) fn quota(written: &Quota, spec: Spec, tally: Arc<Tally>) -> Self {
        let Quota {
            name: _,
            amount,
            per,
            by: _,
            cost,
            mode,
        } = written;
        let what = match amount {
            Amount::Requests(most) => format!("{most} requests"),
            Amount::Bytes(most) => format!("{most} bytes"),
        };
        Self {
            told: Told::quota(quota_name(written), *amount, *per),
            mode: *mode,
            spec,
            cost: costs(cost),
            expected: format!("{what} a {per:?}").to_lowercase(),
            tally,
        }
    }

    /// Why it refuses.
    pub(super) fn reason(&self) -> Reason {
        match self.spec.measure {
            Measure::Rate { .. } => Reason::RateLimited,
            Measure::Quota { .. } => Reason::QuotaExceeded,
        }
    }

    /// Whether what has passed counts, and not that it came.
    pub(super) fn counts_bytes(&self) -> bool {
        matches!(
            self.spec.measure,
            Measure::Quota {
                amount: Amount::Bytes(_),
                ..
            }
        )
    }

    pub(super) fn key(&self, asker: &Asker<'_>) -> Key {
        self.spec.by.key(asker)
    }

    /// As how much a request of a method counts when it comes.
    pub(super) fn units(&self, method: &Method) -> u64 {
        if self.counts_bytes() {
            return self.tally.bytes_at_first();
        }
        let mut costs = self.cost.iter();
        costs
            .find(|(other, _)| other == method)
            .map_or(1, |(_, units)| *units)
    }

    pub(super) fn try_take(&self, key: &Key, units: u64, now: &Now, moment: Moment) -> Tried {
        self.tally.try_take(key, units, now, moment)
    }

    pub(super) fn would_take(&self, key: &Key, units: u64, now: Moment) -> Result<(), Duration> {
        self.tally.would_take(key, units, now)
    }

    pub(super) fn give_back(&self, key: &Key, units: u64, now: Moment) {
        self.tally.give_back(key, units, now);
    }

    /// Counts the bytes that have passed, but for those that counted when the request came.
    pub(super) fn passed(&self, key: &Key, bytes: u64, now: &Now, moment: Moment) {
        let rest = bytes.saturating_sub(self.tally.bytes_at_first());
        self.tally.charge(key, rest, now, moment);
    }
}

fn costs(written: &[Cost]) -> Vec<(Method, u64)> {
    let costs = written.iter();
    costs
        .map(|cost| (cost.method.value.clone(), u64::from(cost.units)))
        .collect()
}
