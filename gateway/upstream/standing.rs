//! How an endpoint stands among others of its backend, by what requests met there: how busy it is, and whether it is
//! left out for a while.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::moment::millis;
use crate::clock::doubled;
use crate::files::Ejection;

/// What workers share of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Requests under way, of backends that have several endpoints.
    under_way: AtomicUsize,
    /// Failures in a row.
    failures: AtomicU32,
    /// When it may be tried again; 0 while it is not left out.
    try_at: AtomicU64,
    /// Whether a request tries it now.
    is_tried: AtomicBool,
    /// How often it was left out lately, and when it came back last.
    times: AtomicU32,
    back_since: AtomicU64,
    ejections: AtomicU64,
}

impl Standing {
    /// Whether it is not left out.
    pub(super) fn is_in(&self) -> bool {
        self.try_at.load(Ordering::Acquire) == 0
    }

    /// How many requests are under way.
    pub(super) fn load(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// How often it has been left out since the start.
    pub(super) fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    pub(super) fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the one request that tries it again may go now: its place is taken then.
    pub(super) fn try_again(&self, at: u64) -> bool {
        let try_at = self.try_at.load(Ordering::Acquire);
        try_at != 0 && try_at <= at && !self.is_tried.swap(true, Ordering::AcqRel)
    }

    /// The request that tried it came to nothing.
    pub(super) fn give_up(&self) {
        self.is_tried.store(false, Ordering::Release);
    }

    /// A request went well.
    pub(super) fn steady(&self) {
        // Mostly nothing has to be written, so that workers leave the word to each other.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// The request that tried it went well.
    pub(super) fn come_back(&self, at: u64) {
        self.steady();
        self.back_since.store(at, Ordering::Relaxed);
        self.try_at.store(0, Ordering::Release);
        self.give_up();
    }

    /// A request failed. `may_go` says whether so many others are left that this one can be left out.
    pub(super) fn failed(
        &self,
        settings: &Ejection,
        at: u64,
        tried: bool,
        may_go: impl FnOnce() -> bool,
    ) {
        if tried {
            self.eject(settings, at);
            self.give_up();
            return;
        }
        let in_a_row = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if in_a_row >= settings.consecutive && self.is_in() && may_go() {
            self.eject(settings, at);
        }
    }

    fn eject(&self, settings: &Ejection, at: u64) {
        let back_since = self.back_since.load(Ordering::Relaxed);
        let was_well = back_since != 0 && at.saturating_sub(back_since) > millis(settings.max_time);
        if was_well && self.is_in() {
            self.times.store(0, Ordering::Relaxed);
        }
        let times = self.times.fetch_add(1, Ordering::Relaxed);
        let time = millis(doubled(settings.time, times, settings.max_time)).max(1);
        self.failures.store(0, Ordering::Relaxed);
        self.try_at.store(at + time, Ordering::Release);
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SETTINGS: Ejection = Ejection {
        consecutive: 2,
        time: Duration::from_secs(5),
        max_time: Duration::from_secs(15),
    };

    fn fails(standing: &Standing, at: u64) {
        standing.failed(&SETTINGS, at, false, || true);
    }

    #[test]
    fn an_endpoint_is_left_out_longer_each_time_and_comes_back_by_one_request() {
        let standing = Standing::default();
        fails(&standing, 1);
        standing.steady();
        fails(&standing, 1);
        assert!(standing.is_in(), "not in a row");
        fails(&standing, 1_000);
        assert!(!standing.is_in());
        let mut at = 1_000;
        for time in [5_000, 10_000, 15_000, 15_000] {
            assert!(!standing.try_again(at + time - 1), "{time}");
            at += time;
            assert!(standing.try_again(at), "{time}");
            assert!(!standing.try_again(at), "one at a time");
            standing.failed(&SETTINGS, at, true, || false);
        }
        at += 15_000;
        assert!(standing.try_again(at));
        standing.give_up();
        assert!(standing.try_again(at), "the one before left");
        standing.come_back(at);
        assert!(standing.is_in());
        assert_eq!(standing.ejections(), 5);
    }

    #[test]
    fn who_was_well_for_long_begins_anew() {
        for (well, time) in [(15_000, 10_000), (15_001, 5_000)] {
            let standing = Standing::default();
            fails(&standing, 1_000);
            fails(&standing, 1_000);
            assert!(standing.try_again(6_000));
            standing.come_back(6_000);
            let at = 6_000 + well;
            fails(&standing, at);
            fails(&standing, at);
            assert!(!standing.try_again(at + time - 1), "{well}");
            assert!(standing.try_again(at + time), "{well}");
        }
    }

    #[test]
    fn an_endpoint_that_is_needed_stays() {
        let standing = Standing::default();
        for _ in 0..5 {
            standing.failed(&SETTINGS, 1, false, || false);
        }
        assert!(standing.is_in());
        standing.failed(&SETTINGS, 1, false, || true);
        assert!(!standing.is_in());
    }
}
