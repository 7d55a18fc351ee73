//! A limit on how many requests are under way that follows how soon they are answered. Pure.

use std::time::Duration;

use crate::files::Adaptive;

/// A limit that moves between two bounds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moving {
    rule: Adaptive,
    most: f64,
    limit: f64,
    /// How soon answers usually begin, in seconds; unknown before the first.
    usual: Option<f64>,
    /// How soon they began lately, in seconds.
    lately: Option<f64>,
}

/// By so much of the difference the latency of late follows each answer: where some requests cost a hundred times what
/// others do, one answer says nothing of a queue.
const SMOOTHS: f64 = 1.0 / 100.0;
/// By so much of the difference the usual latency follows that of late, with each answer.
const FOLLOWS: f64 = 1.0 / 500.0;
/// And by so much while the limit is used, when what is slow may only be waiting: a backend that has too much to do must
/// not soon be taken for one that was always slow.
const FOLLOWS_IN_USE: f64 = 1.0 / 5000.0;
/// What takes longer than usual by this factor is no sign of a queue yet.
const TOLERATED: f64 = 1.5;
/// By so much of the difference the limit follows what one answer says.
const STEP: f64 = 0.2;
/// What is left of the limit when an answer was late, or did not come.
const FALLS_TO: f64 = 0.9;

impl Moving {
    /// Begins at the most.
    pub(super) fn new(rule: Adaptive, most: u32) -> Self {
        Self {
            rule,
            most: f64::from(most),
            limit: f64::from(most),
            usual: None,
            lately: None,
        }
    }

    /// Whether it moves by this rule, up to this.
    pub(super) fn is_by(&self, rule: Adaptive, most: u32) -> bool {
        self.rule == rule && self.most.total_cmp(&f64::from(most)).is_eq()
    }

    /// How many may be under way.
    pub(super) fn limit(&self) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it lies between two numbers of 32 bits"
        )]
        let limit = self.limit as u32;
        limit.max(1)
    }

    /// An answer began after so long, or did not come, while so many requests were under way.
    pub(super) fn answered(&mut self, latency: Option<Duration>, under_way: u32) {
        // A limit that nobody has reached tells nothing about what lies above it.
        let is_used = f64::from(under_way) * 2.0 >= self.limit;
        self.limit = match (latency, self.rule.latency) {
            (None, _) => self.limit * FALLS_TO,
            (Some(latency), Some(wanted)) if latency > wanted => self.limit * FALLS_TO,
            // Additive increase: by one in each round of answers.
            (Some(_), Some(_)) if is_used => self.limit + 1.0 / self.limit,
            (Some(latency), None) => {
                let gradient = self.gradient(latency.as_secs_f64(), is_used);
                match is_used || gradient < 1.0 {
                    true => self.toward(gradient),
                    false => self.limit,
                }
            }
            (Some(_), Some(_)) => self.limit,
        };
        self.limit = self.limit.clamp(f64::from(self.rule.least), self.most);
    }

    /// How soon answers begin usually, against how soon they did lately: below 1 where they waited in a queue.
    fn gradient(&mut self, latency: f64, is_used: bool) -> f64 {
        let latency = latency.max(1e-6);
        let lately = self.lately.unwrap_or(latency);
        let latency = lately + (latency - lately) * SMOOTHS;
        self.lately = Some(latency);
        let usual = self.usual.unwrap_or(latency);
        let follows = match is_used {
            true => FOLLOWS_IN_USE,
            false => FOLLOWS,
        };
        // What was slow for long becomes fast again at once.
        let usual = match usual > 2.0 * latency {
            true => usual * 0.95,
            false => usual + (latency - usual) * follows,
        };
        self.usual = Some(usual);
        (TOLERATED * usual / latency).clamp(0.5, 1.0)
    }

    /// The limit that this gradient is for, with room for a queue of its root: so it can grow where nothing waits.
    fn toward(&self, gradient: f64) -> f64 {
        let wanted = self.limit * gradient + self.limit.sqrt();
        self.limit + (wanted - self.limit) * STEP
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEAST: u32 = 4;
    const MOST: u32 = 200;

    /// A backend that works on so many at once and queues the rest, asked by as many as the limit lets.
    fn settles(latency: Option<Duration>, works_on: f64, rounds: usize) -> Moving {
        let rule = Adaptive {
            least: LEAST,
            latency,
        };
        let mut moving = Moving::new(rule, MOST);
        // How soon it answers when nothing waits.
        moving.usual = Some(0.1);
        for _ in 0..rounds {
            let under_way = moving.limit();
            let seconds = 0.1 * (f64::from(under_way) / works_on).max(1.0);
            moving.answered(Some(Duration::from_secs_f64(seconds)), under_way);
        }
        moving
    }

    #[test]
    fn it_settles_near_what_the_backend_bears() {
        for latency in [None, Some(Duration::from_millis(150))] {
            let limit = settles(latency, 40.0, 300).limit();
            assert!((35..=95).contains(&limit), "{latency:?}: {limit}");
        }
    }

    #[test]
    fn it_opens_again_when_the_backend_is_well() {
        for latency in [None, Some(Duration::from_millis(150))] {
            let mut moving = settles(latency, 10.0, 300);
            let before = moving.limit();
            assert!(before < 60, "{latency:?}: {before}");
            for _ in 0..20_000 {
                moving.answered(Some(Duration::from_millis(100)), moving.limit());
            }
            assert_eq!(moving.limit(), MOST, "{latency:?}");
        }
    }

    #[test]
    fn a_backend_that_is_well_keeps_all_where_some_answers_take_a_hundred_times_as_long_as_others()
    {
        let rule = Adaptive {
            least: LEAST,
            latency: None,
        };
        for fast_in_ten in [1, 5, 9] {
            let mut moving = Moving::new(rule, MOST);
            for at in 0..20_000 {
                let millis = if at % 10 < fast_in_ten { 1 } else { 100 };
                moving.answered(Some(Duration::from_millis(millis)), moving.limit());
            }
            assert_eq!(moving.limit(), MOST, "{fast_in_ten}");
        }
    }

    #[test]
    fn answers_that_do_not_come_lower_it_and_idleness_does_not_raise_it() {
        let rule = Adaptive {
            least: LEAST,
            latency: Some(Duration::from_secs(1)),
        };
        let mut moving = Moving::new(rule, MOST);
        for _ in 0..100 {
            moving.answered(None, 1);
        }
        assert_eq!(moving.limit(), LEAST);
        for _ in 0..100 {
            moving.answered(Some(Duration::ZERO), 1);
        }
        assert_eq!(moving.limit(), LEAST, "one at a time says nothing of five");
    }

    proptest! {
        #[test]
        fn it_never_leaves_its_bounds(
            latency in proptest::option::of(1u64..1000),
            answers in proptest::collection::vec((proptest::option::of(0u64..100_000), 0u32..300), 0..200),
        ) {
            let latency = latency.map(Duration::from_millis);
            let mut moving = Moving::new(Adaptive { least: LEAST, latency }, MOST);
            for (latency, under_way) in answers {
                moving.answered(latency.map(Duration::from_micros), under_way);
                prop_assert!((LEAST..=MOST).contains(&moving.limit()));
            }
        }
    }
}
