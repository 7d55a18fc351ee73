//! Where a limit counts: in this process's memory, or in a store that all replicas share.

use std::hash::RandomState;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::counts::{ByCaller, Counts, Hashed};
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
    names: Names,
}

/// The names of a limit's meters by who is counted there, for making one takes a digest. Who has no meter of its own
/// has no name here.
struct Names {
    parts: Box<[RwLock<ByCaller<Arc<str>>>; PARTS]>,
    hasher: RandomState,
}

const PARTS: usize = 16;

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
                names: Names::new(),
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

    /// As [`Counts::tidy`]. A store that is shared tidies by itself, and only names are left behind.
    pub(super) fn tidy(&self, now: Moment) {
        match self {
            Self::Here(counts) => counts.tidy(now),
            Self::Shared(replicated) => replicated.names.tidy(),
        }
    }
}

impl Replicated {
    fn meter(&self, key: &Key, now: Moment) -> Arc<Meter> {
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
        let key = Hashed::new(key, &self.names.hasher);
        let part = self.names.part(&key);
        let known = part.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(&key) {
            return self.shared.meter(name, rate);
        }
        drop(known);
        let name = format!("{}{}", self.prefix, key.name());
        let meter = self.shared.meter(&name, rate);
        // Who shares one with others is not remembered: strangers can make callers up.
        if **meter.name() == *name {
            let mut known = part.write().unwrap_or_else(PoisonError::into_inner);
            known.insert(key, Arc::clone(meter.name()));
        }
        meter
    }
}

impl Names {
    fn new() -> Self {
        Self {
            parts: Default::default(),
            hasher: RandomState::new(),
        }
    }

    fn part(&self, key: &Hashed) -> &RwLock<ByCaller<Arc<str>>> {
        #[expect(clippy::indexing_slicing, reason = "the remainder is a place of it")]
        &self.parts[key.place(PARTS)]
    }

    /// Forgets those of which there is no meter any more.
    fn tidy(&self) {
        for part in self.parts.iter() {
            let mut part = part.write().unwrap_or_else(PoisonError::into_inner);
            part.retain(|_, name| Arc::strong_count(name) > 1);
            let len = part.len();
            if part.capacity() > 4 * len + 64 {
                part.shrink_to(2 * len);
            }
        }
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

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::runtime::Runtime;

    use super::*;
    use crate::clock::SystemClock;
    use crate::files::{Amount, Window};
    use crate::limits::shared::{Node, Settings};

    /// A quota by a store where nobody is, which keeps so many meters.
    fn quota(most_meters: usize) -> (Runtime, Replicated) {
        let runtime = Runtime::new().expect("a runtime");
        let node = Node {
            host: "127.0.0.1".to_owned(),
            port: 1,
            tls: false,
        };
        let mut settings = Settings::new(node);
        settings.most_meters = most_meters;
        let shared = Shared::start(settings, Arc::new(SystemClock), runtime.handle());
        let measure = Measure::Quota {
            amount: Amount::Requests(10),
            per: Window::Day,
        };
        match Tally::new(Some(&shared), measure, "orders", "daily") {
            Tally::Shared(replicated) => (runtime, replicated),
            Tally::Here(_) => panic!("a store was given"),
        }
    }

    fn caller(at: u32) -> Key {
        Key::of_address(IpAddr::V4(Ipv4Addr::from_bits(at)))
    }

    fn on_day(day: u64) -> Moment {
        Moment {
            ticks: 0,
            unix: Duration::from_secs(day * 86_400),
        }
    }

    fn remembered(replicated: &Replicated) -> usize {
        let parts = replicated.names.parts.iter();
        parts
            .map(|part| part.read().expect("not poisoned").len())
            .sum()
    }

    #[test]
    fn a_name_is_made_once_and_is_the_one_that_every_gateway_makes() {
        let (_runtime, replicated) = quota(10);
        let first = replicated.meter(&caller(1), on_day(1));
        let expected = format!("orders/daily/{}", caller(1).name());
        assert_eq!(**first.name(), *expected);
        assert!(Arc::ptr_eq(
            &first,
            &replicated.meter(&caller(1), on_day(1))
        ));
        // Another window is another meter of the same name.
        let next = replicated.meter(&caller(1), on_day(2));
        assert!(!Arc::ptr_eq(&first, &next) && Arc::ptr_eq(first.name(), next.name()));
        let other = replicated.meter(&caller(2), on_day(2));
        assert_ne!(other.name(), next.name());
        assert_eq!(remembered(&replicated), 2);
    }

    #[test]
    fn a_name_is_remembered_for_as_long_as_there_is_a_meter_of_it_and_for_nobody_who_has_none() {
        let (_runtime, replicated) = quota(2);
        for at in 0..100 {
            replicated.meter(&caller(at), on_day(1));
        }
        assert_eq!(remembered(&replicated), 2);
        replicated.names.tidy();
        assert_eq!(remembered(&replicated), 2);
        let gone = Hashed::new(&caller(200), &replicated.names.hasher);
        let part = replicated.names.part(&gone);
        part.write()
            .expect("not poisoned")
            .insert(gone, "orders/daily/gone".into());
        replicated.names.tidy();
        assert_eq!(remembered(&replicated), 2);
    }
}
