//! Counts of what happened lately, shared by all workers without a lock: each part of a window is one word.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::moment::millis;

/// So many parts has a window.
const PARTS: u64 = 10;

/// Bits of a count. What remains of a word says which part of time it is about, so that nobody has to sweep.
const BITS: u32 = 14;
const MOST: u64 = (1 << BITS) - 1;

/// What was counted in the last so many milliseconds.
#[derive(Debug, Default)]
pub(super) struct Window([AtomicU64; PARTS as usize]);

/// Counts: of all, and of two kinds of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) all: u64,
    pub(super) one: u64,
    pub(super) other: u64,
}

impl Tally {
    /// Of a word, if it is about this part of time.
    fn read(word: u64, part: u64) -> Option<Self> {
        (word >> (3 * BITS) == stamp(part)).then_some(Self {
            all: word & MOST,
            one: (word >> BITS) & MOST,
            other: (word >> (2 * BITS)) & MOST,
        })
    }

    fn word(self, part: u64) -> u64 {
        (stamp(part) << (3 * BITS)) | (self.other << (2 * BITS)) | (self.one << BITS) | self.all
    }

    /// What is too much to hold keeps its proportions.
    fn plus(self, more: Self) -> Self {
        let sum = Self {
            all: self.all + more.all,
            one: self.one + more.one,
            other: self.other + more.other,
        };
        match sum.all.max(sum.one).max(sum.other) > MOST {
            false => sum,
            true => Self {
                all: sum.all / 2,
                one: sum.one / 2,
                other: sum.other / 2,
            },
        }
    }
}

/// What is left of a part's number in a word: it comes again after months.
fn stamp(part: u64) -> u64 {
    part & (u64::MAX >> (3 * BITS))
}

impl Window {
    /// Counts at a moment. `span` is how far back the window reaches.
    pub(super) fn add(&self, at: u64, span: Duration, more: Tally) {
        let part = at / length(span);
        let Some(word) = self.0.get((part % PARTS) as usize) else {
            return;
        };
        let add = |word| {
            let before = Tally::read(word, part).unwrap_or_default();
            Some(before.plus(more).word(part))
        };
        let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// What was counted in the span that ends at a moment.
    pub(super) fn sum(&self, at: u64, span: Duration) -> Tally {
        let part = at / length(span);
        let mut sum = Tally::default();
        for (index, word) in (0..).zip(&self.0) {
            // The youngest part with this place in the ring.
            let back = (part + PARTS - index) % PARTS;
            let counted = part
                .checked_sub(back)
                .and_then(|part| Tally::read(word.load(Ordering::Relaxed), part));
            let counted = counted.unwrap_or_default();
            sum.all += counted.all;
            sum.one += counted.one;
            sum.other += counted.other;
        }
        sum
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        for word in &self.0 {
            word.store(0, Ordering::Relaxed);
        }
    }
}

/// How many milliseconds a part is long.
fn length(span: Duration) -> u64 {
    (millis(span) / PARTS).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPAN: Duration = Duration::from_secs(10);
    const ONE: Tally = Tally {
        all: 1,
        one: 1,
        other: 0,
    };

    #[test]
    fn what_is_older_than_the_window_counts_no_more() {
        let window = Window::default();
        window.add(5_000, SPAN, ONE);
        window.add(14_000, SPAN, ONE);
        for (at, all) in [(14_999, 2), (15_000, 1), (23_999, 1), (24_000, 0)] {
            assert_eq!(window.sum(at, SPAN).all, all, "{at}");
        }
    }

    #[test]
    fn what_is_too_much_to_hold_keeps_its_proportions() {
        let window = Window::default();
        for _ in 0..40_000 {
            window.add(1, SPAN, ONE);
            window.add(
                1,
                SPAN,
                Tally {
                    all: 1,
                    ..Tally::default()
                },
            );
        }
        let Tally { all, one, .. } = window.sum(1, SPAN);
        assert!(all > MOST / 4 && all <= MOST, "{all}");
        assert!(one.abs_diff(all / 2) <= 20, "{one} of {all}");
    }

    proptest! {
        #[test]
        fn a_window_counts_what_a_list_would(times in proptest::collection::vec(0_u64..60_000, 0..80)) {
            let mut times = times;
            times.sort_unstable();
            let window = Window::default();
            for (index, at) in times.iter().enumerate() {
                window.add(*at, SPAN, ONE);
                let since = (at / 1_000).saturating_sub(9) * 1_000;
                let expected = times[..=index].iter().filter(|time| **time >= since).count();
                prop_assert_eq!(window.sum(*at, SPAN).all, expected as u64);
            }
        }
    }
}
