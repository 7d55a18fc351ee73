//! The circuit breaker of a backend: when it fails too often, or is too slow too often, nothing is sent to it for a
//! while, so that callers need not wait for what will fail and the backend can get well. Then a few requests try.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::moment::millis;
use super::window::{Tally, Window};
use crate::files::Breaker as Settings;

/// What workers share of a breaker. Its settings are the policy's and come with each question.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// When requests may try; 0 while it is closed.
    try_at: AtomicU64,
    /// Failures in a row.
    failures: AtomicU32,
    lately: Window,
    /// Requests that try now, and that have succeeded.
    trying: AtomicU32,
    succeeded: AtomicU32,
    opened: AtomicU64,
    closed: AtomicU64,
    refused: AtomicU64,
}

/// What a breaker has come to, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerState {
    /// Whether requests are sent as if there were none.
    pub is_closed: bool,
    /// How often it has opened.
    pub opened: u64,
    /// How often it has closed again.
    pub closed: u64,
    /// How many requests it has refused.
    pub refused: u64,
}

/// How a request may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// As always.
    Usual,
    /// To see whether the backend is well again.
    Trying,
}

impl Breaker {
    /// Whether a request may go now.
    ///
    /// # Errors
    /// After what time it is worth coming back.
    pub(super) fn ask(&self, settings: &Settings, at: u64) -> Result<Leave, Duration> {
        let try_at = self.try_at.load(Ordering::Acquire);
        if try_at == 0 {
            return Ok(Leave::Usual);
        }
        let refuse = |rest| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            Err(rest)
        };
        if at < try_at {
            return refuse(Duration::from_millis(try_at - at));
        }
        let more = |trying| (trying < settings.probes).then_some(trying + 1);
        let begun = self
            .trying
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        match begun {
            Ok(_) => Ok(Leave::Trying),
            // Those that try will have come to something by then.
            Err(_) => refuse(Duration::from_secs(1)),
        }
    }

    /// Counts how a request fared.
    pub(super) fn note(&self, settings: &Settings, leave: Leave, fared: Fared, at: u64) {
        match leave {
            Leave::Usual => self.count(settings, fared, at),
            Leave::Trying => {
                self.give_up();
                match fared.has_failed || fared.is_slow {
                    true => self.open(settings, at),
                    false => self.tried(settings, at),
                }
            }
        }
    }

    /// A request that tried came to nothing that says anything of the backend.
    pub(super) fn give_up(&self) {
        let less = |trying: u32| trying.checked_sub(1);
        let _ = self
            .trying
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    fn tried(&self, settings: &Settings, at: u64) {
        let try_at = self.try_at.load(Ordering::Acquire);
        // Another that tried has decided meanwhile.
        if try_at == 0 || try_at > at {
            return;
        }
        if self.succeeded.fetch_add(1, Ordering::AcqRel) + 1 >= settings.probes {
            self.lately.clear();
            self.failures.store(0, Ordering::Relaxed);
            if self.try_at.swap(0, Ordering::AcqRel) != 0 {
                self.closed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn count(&self, settings: &Settings, fared: Fared, at: u64) {
        let Fared {
            has_failed,
            is_slow,
        } = fared;
        let more = Tally {
            all: 1,
            one: has_failed.into(),
            other: is_slow.into(),
        };
        self.lately.add(at, settings.window, more);
        let in_a_row = match has_failed {
            true => self.failures.fetch_add(1, Ordering::Relaxed) + 1,
            // Most requests change nothing, and write nothing that others read.
            false if self.failures.load(Ordering::Relaxed) == 0 => 0,
            false => {
                self.failures.store(0, Ordering::Relaxed);
                0
            }
        };
        if (has_failed || is_slow) && self.is_too_much(settings, in_a_row, at) {
            self.open(settings, at);
        }
    }

    fn is_too_much(&self, settings: &Settings, in_a_row: u32, at: u64) -> bool {
        if in_a_row >= settings.failures {
            return true;
        }
        let Tally { all, one, other } = self.lately.sum(at, settings.window);
        let is_part = |count: u64, percent: u32| count * 100 >= all * u64::from(percent);
        all >= u64::from(settings.minimum)
            && (is_part(one, settings.failure_rate) || is_part(other, settings.slow_rate))
    }

    fn open(&self, settings: &Settings, at: u64) {
        let before = self.try_at.load(Ordering::Acquire);
        // Requests that were under way when it opened change nothing.
        if before > at {
            return;
        }
        let try_at = at + millis(settings.open).max(1);
        let opened =
            self.try_at
                .compare_exchange(before, try_at, Ordering::AcqRel, Ordering::Acquire);
        if opened.is_ok() {
            self.succeeded.store(0, Ordering::Release);
            self.opened.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// For operators.
    pub(super) fn state(&self) -> BreakerState {
        BreakerState {
            is_closed: self.try_at.load(Ordering::Acquire) == 0,
            opened: self.opened.load(Ordering::Relaxed),
            closed: self.closed.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

/// How a request fared with the backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fared {
    pub(super) has_failed: bool,
    pub(super) is_slow: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        failures: 3,
        failure_rate: 50,
        slow_after: Duration::from_secs(1),
        slow_rate: 80,
        window: Duration::from_secs(10),
        minimum: 10,
        open: Duration::from_secs(30),
        probes: 2,
    };
    const GOOD: Fared = Fared {
        has_failed: false,
        is_slow: false,
    };
    const BAD: Fared = Fared {
        has_failed: true,
        is_slow: false,
    };
    const SLOW: Fared = Fared {
        has_failed: false,
        is_slow: true,
    };

    /// Sends what fares so, as far as it may go.
    fn send(breaker: &Breaker, all: &[Fared], at: u64) -> usize {
        let mut sent = 0;
        for fared in all {
            if let Ok(leave) = breaker.ask(&SETTINGS, at) {
                breaker.note(&SETTINGS, leave, *fared, at);
                sent += 1;
            }
        }
        sent
    }

    #[test]
    fn a_breaker_opens_by_failures_in_a_row_by_their_part_or_by_slowness() {
        for (name, all, sent) in [
            ("in a row", [GOOD, BAD, BAD, BAD, GOOD, GOOD].to_vec(), 4),
            ("broken rows", [BAD, GOOD, GOOD].repeat(8), 24),
            ("half of enough", [BAD, GOOD].repeat(10), 11),
            ("too few", [BAD, GOOD].repeat(4), 8),
            ("slow", [GOOD, SLOW, SLOW, SLOW, SLOW].repeat(4), 10),
            ("slow at times", [GOOD, SLOW, SLOW].repeat(10), 30),
        ] {
            let breaker = Breaker::default();
            assert_eq!(send(&breaker, &all, 1_000), sent, "{name}");
            assert_eq!(breaker.state().is_closed, sent == all.len(), "{name}");
        }
    }

    #[test]
    fn an_open_breaker_says_for_how_long_and_lets_a_few_try_then() {
        let breaker = Breaker::default();
        send(&breaker, &[BAD; 3], 1_000);
        let rest = breaker.ask(&SETTINGS, 11_000).expect_err("open");
        assert_eq!(rest, Duration::from_secs(20));
        let trying = [(); 3].map(|()| breaker.ask(&SETTINGS, 31_000));
        let waits = Err(Duration::from_secs(1));
        assert_eq!(trying, [Ok(Leave::Trying), Ok(Leave::Trying), waits]);
        breaker.note(&SETTINGS, Leave::Trying, GOOD, 31_000);
        assert!(!breaker.state().is_closed, "one of two");
        breaker.note(&SETTINGS, Leave::Trying, GOOD, 31_000);
        let BreakerState {
            is_closed,
            opened,
            closed,
            refused,
        } = breaker.state();
        assert_eq!((is_closed, opened, closed, refused), (true, 1, 1, 2));
        assert_eq!(breaker.ask(&SETTINGS, 31_000), Ok(Leave::Usual));
        // What was counted before is over.
        assert_eq!(send(&breaker, &[BAD, BAD, GOOD], 31_000), 3);
    }

    #[test]
    fn a_failure_of_who_tries_opens_it_anew_and_who_leaves_makes_room() {
        for fared in [BAD, SLOW] {
            let breaker = Breaker::default();
            send(&breaker, &[BAD; 3], 1_000);
            assert_eq!(send(&breaker, &[GOOD, fared, GOOD], 31_000), 2);
            let rest = breaker.ask(&SETTINGS, 31_000).expect_err("open");
            assert_eq!(rest, Duration::from_secs(30));
            // The success before it does not count any more.
            assert_eq!(send(&breaker, &[GOOD], 61_000), 1);
            assert!(!breaker.state().is_closed);
            assert_eq!(breaker.ask(&SETTINGS, 61_000), Ok(Leave::Trying));
            breaker.give_up();
            assert_eq!(send(&breaker, &[GOOD], 61_000), 1);
            assert!(breaker.state().is_closed);
        }
    }

    #[test]
    fn what_was_under_way_when_it_opened_changes_nothing() {
        let breaker = Breaker::default();
        send(&breaker, &[BAD; 3], 1_000);
        breaker.note(&SETTINGS, Leave::Usual, BAD, 20_000);
        breaker.note(&SETTINGS, Leave::Usual, GOOD, 20_000);
        let rest = breaker.ask(&SETTINGS, 20_000).expect_err("open");
        assert_eq!(rest, Duration::from_secs(11));
    }
}
