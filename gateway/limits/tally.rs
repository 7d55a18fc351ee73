//! Where a limit counts: in this process's memory, or in a store that all replicas share.

use std::sync::Arc;
use std::time::Duration;

use super::counts::Counts;
use super::keys::Key;
use super::measure::{Left, Measure, Moment};
use super::shared::{Meter, Rate, Shared, Taken};
use crate::clock::Now;

/// What one limit has counted.
pub(super) enum Tally {
    Here(Counts),
    Shared(Replicated),
}

/// A limit that replicas share: a meter for each who has a count of their own.
pub(super) struct Replicated {
    shared: Arc<Shared>,
    measure: Measure,
    /// What all names of its meters begin with.
    prefix: Box<str>,
}

/// What came of a wish that was not to wait.
pub(super) enum Tried {
    Done(Result<Left, Duration>),
    /// The store has to be asked.
    Ask(Question),
}

/// What only the store can say.
pub(super) struct Question {
    meter: Arc<Meter>,
    measure: Measure,
    units: u64,
}

impl Question {
    /// Asks, and waits for as long as the settings let a request wait.
    pub(super) async fn ask(self, now: &Now, moment: Moment) -> Result<Left, Duration> {
        let taken = self.meter.take(self.units, now).await;
        told(&self.measure, taken, moment)
    }
}

impl Tally {
    /// Of the limit of this name, on this route.
    pub(super) fn new(
        shared: Option<&Arc<Shared>>,
        measure: Measure,
        route: &str,
        limit: &str,
    ) -> Self {
        match shared {
            None => Self::Here(Counts::new(measure)),
            Some(shared) => Self::Shared(Replicated {
                shared: Arc::clone(shared),
                measure,
                prefix: format!("{route}/{limit}/").into(),
            }),
        }
    }

    /// As [`Measure::take`], but for what only the store can say.
    pub(super) fn try_take(&self, key: &Key, units: u64, now: &Now, moment: Moment) -> Tried {
        match self {
            Self::Here(counts) => Tried::Done(counts.take(key, units, moment)),
            Self::Shared(replicated) => {
                let meter = replicated.meter(key, moment);
                let measure = replicated.measure;
                match meter.try_take(units, now) {
                    Taken::Wait => Tried::Ask(Question {
                        meter,
                        measure,
                        units,
                    }),
                    taken => Tried::Done(told(&measure, taken, moment)),
                }
            }
        }
    }

    /// Whether so many units would be let through now, as far as is known here.
    pub(super) fn would_take(&self, key: &Key, units: u64, now: Moment) -> Result<(), Duration> {
        match self {
            Self::Here(counts) => counts.would_take(key, units, now).map(|_| ()),
            // Asking takes.
            Self::Shared(_) => Ok(()),
        }
    }

    /// As [`Measure::give_back`].
    pub(super) fn give_back(&self, key: &Key, units: u64, now: Moment) {
        match self {
            Self::Here(counts) => counts.give_back(key, units, now),
            Self::Shared(replicated) => replicated.meter(key, now).give_back(units),
        }
    }

    /// As [`Measure::charge`].
    pub(super) fn charge(&self, key: &Key, units: u64, now: &Now, moment: Moment) {
        match self {
            Self::Here(counts) => counts.charge(key, units, moment),
            Self::Shared(replicated) => replicated.meter(key, moment).charge(units, now),
        }
    }

    /// With how many bytes who begins to use up bytes is let in. None is not enough for a store that leases: it would
    /// never hear that none are left.
    pub(super) fn bytes_at_first(&self) -> u64 {
        match self {
            Self::Here(_) => 0,
            Self::Shared(_) => 1,
        }
    }

    /// As [`Counts::tidy`]. A store that is shared tidies by itself.
    pub(super) fn tidy(&self, now: Moment) {
        match self {
            Self::Here(counts) => counts.tidy(now),
            Self::Shared(_) => {}
        }
    }
}

impl Replicated {
    fn meter(&self, key: &Key, now: Moment) -> Arc<Meter> {
        let name = format!("{}{}", self.prefix, key.name());
        let rate = match self.measure {
            Measure::Rate { interval, burst } => Rate {
                capacity: burst,
                per_second: 1e9 / interval as f64,
                ends: None,
            },
            Measure::Quota { amount, per } => Rate {
                capacity: amount.most(),
                per_second: 0.0,
                ends: Some(Duration::from_secs(per.ends(now.unix))),
            },
        };
        self.shared.meter(&name, rate)
    }
}

fn told(measure: &Measure, taken: Taken, now: Moment) -> Result<Left, Duration> {
    match taken {
        Taken::Granted { remaining } => Ok(measure.told(remaining, now)),
        Taken::Refused { retry_after } => Err(retry_after),
        // INVARIANT: who waits is answered otherwise. Who was not is not let in.
        Taken::Wait => Err(Duration::from_secs(1)),
    }
}
