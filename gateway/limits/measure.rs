//! The arithmetic of limits. Pure: what has been counted and the time come in, and what is left comes out.

use std::time::Duration;

use time::{Date, OffsetDateTime};

use crate::files::{Amount, Window};

/// The time by both clocks: rates go by the one, windows of the calendar by the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Nanoseconds since the limits began to count.
    pub(super) ticks: u64,
    /// Since the Unix epoch.
    pub(super) unix: Duration,
}

/// What has been counted for one caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    /// Of a rate: the tick at which all that was let through will have been let through evenly (GCRA's theoretical
    /// arrival time). Of a quota: the second at which the window began.
    mark: u64,
    /// Of a quota: what was let through in that window.
    used: u64,
}

/// How much is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Measure {
    /// Evenly, after a burst: the generic cell rate algorithm (GCRA; ITU-T I.371).
    Rate {
        /// Ticks from one request to the next.
        interval: u64,
        /// How many may come at once.
        burst: u64,
    },
    /// So much in a window.
    Quota {
        /// What, and how much of it.
        amount: Amount,
        /// The window.
        per: Window,
    },
}

/// What is left after a request was let through, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// Units that may come now.
    pub(super) units: u64,
    /// Until all may come again.
    pub(super) full_in: Duration,
}

impl Left {
    /// Nothing, for so long.
    pub(super) fn none(wait: Duration) -> Self {
        Self {
            units: 0,
            full_in: wait,
        }
    }
}

impl Measure {
    /// A rate of `requests` in each period, `burst` of them at once.
    pub(super) fn rate(requests: u32, per: Duration, burst: u32) -> Self {
        let interval = per.as_nanos() / u128::from(requests.max(1));
        Self::Rate {
            // Less than a nanosecond between requests is no limit that this machine could reach.
            interval: u64::try_from(interval).unwrap_or(u64::MAX).max(1),
            burst: u64::from(burst.max(1)),
        }
    }

    /// Lets so many units through. Nothing is counted for who is refused.
    ///
    /// # Errors
    /// The time after which so many may come.
    pub(super) fn take(
        &self,
        level: &mut Level,
        units: u64,
        now: Moment,
    ) -> Result<Left, Duration> {
        let taken = self.with(*level, units, now)?;
        *level = taken;
        Ok(self.left(taken, now))
    }

    /// Counts units that are let through already, whatever is left. Of a rate never more than a burst: who sends much at
    /// once owes no more than who is let through.
    pub(super) fn charge(&self, level: &mut Level, units: u64, now: Moment) {
        match self {
            Self::Rate { interval, burst } => {
                let cost = units.saturating_mul(*interval);
                let most = now.ticks.saturating_add(burst.saturating_mul(*interval));
                let owed = level.mark.max(now.ticks).saturating_add(cost);
                level.mark = level.mark.max(owed.min(most));
            }
            Self::Quota { per, .. } => {
                *level = current(*level, *per, now);
                level.used = level.used.saturating_add(units);
            }
        }
    }

    /// Takes back what was counted at that time for a request that then did not come through.
    pub(super) fn give_back(&self, level: &mut Level, units: u64, now: Moment) {
        match self {
            Self::Rate { interval, .. } => {
                level.mark = level.mark.saturating_sub(units.saturating_mul(*interval));
            }
            // What a window that is over has counted is gone already.
            Self::Quota { per, .. } if level.mark == per.began(now.unix) => {
                level.used = level.used.saturating_sub(units);
            }
            Self::Quota { .. } => {}
        }
    }

    /// Whether a caller with this level is as one who never came.
    pub(super) fn is_rested(&self, level: Level, now: Moment) -> bool {
        match self {
            Self::Rate { .. } => level.mark <= now.ticks,
            Self::Quota { per, .. } => current(level, *per, now).used == 0,
        }
    }

    /// The level once so many more units were let through.
    fn with(&self, level: Level, units: u64, now: Moment) -> Result<Level, Duration> {
        match self {
            Self::Rate { interval, burst } => {
                let cost = units.saturating_mul(*interval);
                let mark = level.mark.max(now.ticks).saturating_add(cost);
                let most = now.ticks.saturating_add(burst.saturating_mul(*interval));
                match mark.checked_sub(most) {
                    None | Some(0) => Ok(Level { mark, ..level }),
                    Some(wait) => Err(Duration::from_nanos(wait)),
                }
            }
            Self::Quota { amount, per } => {
                let level = current(level, *per, now);
                let used = level.used.saturating_add(units);
                let most = amount.most();
                // Bytes count when they have passed; who has none left gets none.
                match level.used < most && used <= most {
                    true => Ok(Level { used, ..level }),
                    false => Err(per.until_next(now.unix)),
                }
            }
        }
    }

    /// What is left where somebody else counts, who says that so many units are.
    pub(super) fn told(&self, units: u64, now: Moment) -> Left {
        match self {
            Self::Rate { interval, burst } => Left {
                units: units.min(*burst),
                full_in: Duration::from_nanos(
                    burst.saturating_sub(units).saturating_mul(*interval),
                ),
            },
            Self::Quota { amount, per } => Left {
                units: units.min(amount.most()),
                full_in: per.until_next(now.unix),
            },
        }
    }

    fn left(&self, level: Level, now: Moment) -> Left {
        match self {
            Self::Rate { interval, burst } => {
                let ahead = level.mark.saturating_sub(now.ticks);
                let free = burst.saturating_mul(*interval).saturating_sub(ahead);
                Left {
                    units: free / interval,
                    full_in: Duration::from_nanos(ahead),
                }
            }
            Self::Quota { amount, per } => Left {
                units: amount.most().saturating_sub(level.used),
                full_in: per.until_next(now.unix),
            },
        }
    }
}

/// The level in the window that is now. Who read the time just before a window began and comes behind somebody who did
/// not counts in the new one.
fn current(level: Level, per: Window, now: Moment) -> Level {
    let began = per.began(now.unix);
    match level.mark == began || level.mark == per.ends(now.unix) {
        true => level,
        false => Level {
            mark: began,
            used: 0,
        },
    }
}

impl Amount {
    pub(super) fn most(self) -> u64 {
        match self {
            Self::Requests(most) | Self::Bytes(most) => most,
        }
    }
}

const SECONDS_A_DAY: u64 = 24 * 60 * 60;

impl Window {
    /// The second at which the window of a time began, since the Unix epoch. A day of UTC always has as many seconds
    /// as the next, by the clock of computers.
    pub(super) fn began(self, unix: Duration) -> u64 {
        let midnight = unix.as_secs() / SECONDS_A_DAY * SECONDS_A_DAY;
        match self {
            Self::Day => midnight,
            Self::Month => {
                let days = date(midnight).map_or(0, |date| u64::from(date.day()) - 1);
                midnight - days * SECONDS_A_DAY
            }
        }
    }

    /// The second at which the window of a time ends.
    pub(super) fn ends(self, unix: Duration) -> u64 {
        let began = self.began(unix);
        match self {
            Self::Day => began + SECONDS_A_DAY,
            Self::Month => {
                let days = date(began).map_or(31, |date| date.month().length(date.year()));
                began + u64::from(days) * SECONDS_A_DAY
            }
        }
    }

    fn until_next(self, unix: Duration) -> Duration {
        Duration::from_secs(self.ends(unix)).saturating_sub(unix)
    }
}

fn date(seconds: u64) -> Option<Date> {
    let seconds = i64::try_from(seconds).ok()?;
    Some(OffsetDateTime::from_unix_timestamp(seconds).ok()?.date())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::{Month, Time};

    fn at(millis: u64) -> Moment {
        Moment {
            ticks: millis * 1_000_000,
            unix: Duration::from_millis(1_790_000_000_000 + millis),
        }
    }

    fn unix(year: i32, month: Month, day: u8) -> u64 {
        let date = Date::from_calendar_date(year, month, day).expect("a date");
        let time = OffsetDateTime::new_utc(date, Time::MIDNIGHT);
        u64::try_from(time.unix_timestamp()).expect("after 1970")
    }

    #[test]
    fn windows_begin_and_end_with_days_and_months_of_utc() {
        use Month::{April, December, February, January, March};
        let day = |year, month, day| unix(year, month, day);
        for (window, second, began, ends) in [
            (
                Window::Day,
                day(2028, February, 29),
                day(2028, February, 29),
                day(2028, March, 1),
            ),
            (
                Window::Day,
                day(2026, March, 2) - 1,
                day(2026, March, 1),
                day(2026, March, 2),
            ),
            (
                Window::Month,
                day(2026, February, 1),
                day(2026, February, 1),
                day(2026, March, 1),
            ),
            (
                Window::Month,
                day(2028, February, 29) + 7,
                day(2028, February, 1),
                day(2028, March, 1),
            ),
            (
                Window::Month,
                day(2026, December, 31) + 86_399,
                day(2026, December, 1),
                day(2027, January, 1),
            ),
            (
                Window::Month,
                day(2026, April, 30),
                day(2026, April, 1),
                unix(2026, Month::May, 1),
            ),
        ] {
            let time = Duration::from_secs(second);
            assert_eq!(
                (window.began(time), window.ends(time)),
                (began, ends),
                "{window:?} {second}"
            );
        }
    }

    #[test]
    fn a_quota_of_bytes_lets_in_whoever_has_any_left_and_counts_afterwards() {
        let measure = Measure::Quota {
            amount: Amount::Bytes(100),
            per: Window::Day,
        };
        let mut level = Level::default();
        assert_eq!(
            measure.take(&mut level, 0, at(0)).expect("let in").units,
            100
        );
        measure.charge(&mut level, 99, at(0));
        assert_eq!(measure.take(&mut level, 0, at(0)).expect("let in").units, 1);
        measure.charge(&mut level, 5000, at(0));
        let wait = measure.take(&mut level, 0, at(0)).expect_err("refused");
        assert_eq!(wait, Window::Day.until_next(at(0).unix));
        let next = Moment {
            unix: at(0).unix + wait,
            ..at(0)
        };
        assert_eq!(
            measure.take(&mut level, 0, next).expect("let in").units,
            100
        );
    }

    #[test]
    fn who_comes_late_out_of_the_window_before_begins_no_window_anew() {
        let measure = Measure::Quota {
            amount: Amount::Requests(2),
            per: Window::Day,
        };
        let after = at(0);
        let before = Moment {
            unix: after.unix - Duration::from_hours(24),
            ..after
        };
        let mut level = Level::default();
        assert!(measure.take(&mut level, 1, before).is_ok());
        assert!(measure.take(&mut level, 2, after).is_ok());
        measure.give_back(&mut level, 1, before);
        assert!(measure.take(&mut level, 1, after).is_err(), "given back");
        assert!(measure.take(&mut level, 1, before).is_err(), "taken");
        measure.charge(&mut level, 1, before);
        assert!(measure.take(&mut level, 1, after).is_err(), "charged");
        // A clock that was far ahead and was set right counts from where it is.
        let early = Moment {
            unix: before.unix - Duration::from_hours(24),
            ..before
        };
        assert!(measure.take(&mut level, 1, early).is_ok());
    }

    #[test]
    fn however_much_is_charged_at_once_the_next_may_come_after_one_interval() {
        let measure = Measure::rate(60, Duration::from_mins(1), 5);
        let mut level = Level::default();
        for _ in 0..10_000 {
            measure.charge(&mut level, 1, at(0));
        }
        let wait = measure.take(&mut level, 1, at(0)).expect_err("refused");
        assert_eq!(wait, Duration::from_secs(1));
        measure.charge(&mut level, u64::MAX, at(500));
        assert!(measure.take(&mut level, 1, at(1_499)).is_err());
        assert!(measure.take(&mut level, 1, at(1_500)).is_ok());
    }

    fn measures() -> impl Strategy<Value = Measure> {
        prop_oneof![
            (1u32..50, 1u64..100, 1u32..30).prop_map(|(requests, seconds, burst)| {
                Measure::rate(requests, Duration::from_secs(seconds), burst)
            }),
            (1u64..30).prop_map(|most| Measure::Quota {
                amount: Amount::Requests(most),
                per: Window::Day,
            }),
        ]
    }

    proptest! {
        #[test]
        fn who_waits_as_told_is_let_in_and_nobody_sooner(
            measure in measures(),
            steps in proptest::collection::vec((0u64..3_000, 1u64..5), 1..60),
        ) {
            let mut level = Level::default();
            let mut now = 0;
            for (passed, units) in steps {
                now += passed;
                let before = level;
                if let Err(wait) = measure.take(&mut level, units, at(now)) {
                    prop_assert_eq!(level, before, "who is refused is not counted");
                    let later = |wait: Duration| Moment {
                        ticks: at(now).ticks + u64::try_from(wait.as_nanos()).expect("short"),
                        unix: at(now).unix + wait,
                    };
                    let sooner = wait - Duration::from_nanos(1);
                    prop_assert!(measure.take(&mut level.clone(), units, later(sooner)).is_err());
                    let fits = match measure {
                        Measure::Rate { burst, .. } => units <= burst,
                        Measure::Quota { amount, .. } => units <= amount.most(),
                    };
                    let then = measure.take(&mut level.clone(), units, later(wait));
                    prop_assert!(then.is_ok() || !fits);
                }
            }
        }

        #[test]
        fn what_is_left_may_come_and_no_unit_more(
            measure in measures(),
            steps in proptest::collection::vec((0u64..3_000, 1u64..5), 1..60),
        ) {
            let mut level = Level::default();
            let mut now = 0;
            for (passed, units) in steps {
                now += passed;
                if let Ok(left) = measure.take(&mut level, units, at(now)) {
                    if left.units > 0 {
                        prop_assert!(measure.take(&mut level.clone(), left.units, at(now)).is_ok());
                    }
                    prop_assert!(measure.take(&mut level.clone(), left.units + 1, at(now)).is_err());
                }
            }
        }

        #[test]
        fn what_is_given_back_was_never_taken(measure in measures(), units in 1u64..5, more in 1u64..5) {
            let mut level = Level::default();
            if measure.take(&mut level, units, at(5_000)).is_ok() {
                let before = level;
                if measure.take(&mut level, more, at(5_000)).is_ok() {
                    measure.give_back(&mut level, more, at(5_000));
                }
                prop_assert_eq!(level, before);
            }
        }

        #[test]
        fn who_is_rested_is_as_one_who_never_came(measure in measures(), units in 1u64..5, later in 0u64..200_000_000) {
            let mut level = Level::default();
            let _ = measure.take(&mut level, units, at(0));
            if measure.is_rested(level, at(later)) {
                let mut fresh = Level::default();
                prop_assert_eq!(
                    measure.take(&mut level, 1, at(later)),
                    measure.take(&mut fresh, 1, at(later))
                );
            }
        }
    }
}
