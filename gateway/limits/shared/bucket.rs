//! The arithmetic of a meter, without a store and without a clock: what a meter was seen to hold, what a replica
//! may lease of it, and what it may admit while nobody can be asked.

use std::time::{Duration, Instant};

/// Of what is left, each replica may admit half of its part without asking, while it is cut off: the other half
/// is there for whoever comes, at once. `ask.lua` counts by the same part.
pub(super) const SHARE: f64 = 0.5;
/// What lies leased and unspent in all replicas together stays below this part of a limit.
const LEASED: u64 = 40;
/// More units than this are not counted: Redis counts in doubles.
const MOST: u64 = 1 << 53;

/// What a meter holds, and how it empties: a leaky bucket. A quota of a calendar window leaks nothing and ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Units that fit.
    pub capacity: u64,
    /// Units that leak in a second. 0 if none do.
    pub per_second: f64,
    /// When the window ends, since the Unix epoch, for what ends instead of leaking.
    pub ends: Option<Duration>,
}

impl Rate {
    /// Units that fit, as many as can be counted.
    pub(super) fn most(&self) -> u64 {
        self.capacity.min(MOST)
    }

    /// How many units one of so many replicas leases at a time.
    pub(super) fn batch(&self, replicas: u64) -> u64 {
        (self.most() / LEASED / replicas.max(1)).max(1)
    }

    /// How many units are worth having before anybody asks for them. None, where a batch is a single unit: the
    /// few that there are would lie with those who have no use for them.
    pub(super) fn ahead(&self, replicas: u64) -> u64 {
        match self.batch(replicas) {
            1 => 0,
            batch => batch,
        }
    }

    fn leaks(&self, during: Duration) -> f64 {
        self.per_second.max(0.0) * during.as_secs_f64()
    }

    /// How long so many units take to leak, or the time until the window ends.
    fn until(&self, units: f64, unix: Duration) -> Duration {
        let leaking = Duration::try_from_secs_f64(units.max(0.0) / self.per_second);
        match (leaking, self.ends) {
            (Ok(leaking), _) if self.per_second > 0.0 => leaking,
            (_, Some(ends)) => ends.saturating_sub(unix),
            _ => LONG,
        }
    }
}

/// What never comes is told as this.
const LONG: Duration = Duration::from_secs(86_400);
/// Nobody is told to come back sooner than this.
const SOON: Duration = Duration::from_millis(1);

/// After what time to come back for what never fits: when the window is over, as for everybody else.
pub(super) fn never(rate: &Rate, unix: Duration) -> Duration {
    rate.until(rate.most() as f64, unix).max(SOON)
}

/// How much of what is left one of so many replicas may admit while it is cut off.
pub(super) fn part(rest: f64, replicas: u64) -> u64 {
    let part = match replicas {
        0 | 1 => rest,
        many => rest * SHARE / many as f64,
    };
    part.max(0.0) as u64
}

/// A meter as the store told of it last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct View {
    /// Units in it.
    pub(super) level: f64,
    /// Units that may still be granted: what the others keep back is none of it.
    pub(super) free: f64,
    /// When it was asked for.
    pub(super) at: Instant,
    /// Others keep back more than is theirs, and will hear of it at once.
    pub(super) contended: bool,
}

impl View {
    /// Units in it by now, if nobody has added any.
    pub(super) fn level_at(&self, rate: &Rate, now: Instant) -> f64 {
        let leaked = rate.leaks(now.saturating_duration_since(self.at));
        (self.level - leaked).max(0.0)
    }

    /// Units that may be granted by now, if nobody was granted any.
    pub(super) fn free_at(&self, rate: &Rate, now: Instant) -> f64 {
        let leaked = rate.leaks(now.saturating_duration_since(self.at));
        // What leaks out of an empty meter makes no room.
        self.free + leaked.min(self.level)
    }

    /// After what time so many units may be granted.
    pub(super) fn wait(&self, units: u64, rate: &Rate, now: Instant, unix: Duration) -> Duration {
        let missing = units as f64 - self.free_at(rate, now);
        match self.contended {
            true => SOON.max(Duration::from_millis(100)),
            false => rate.until(missing, unix).max(SOON),
        }
    }
}

/// A replica's part of a limit while it is cut off: what it kept back at the beginning, then its part of what leaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share {
    tokens: f64,
    at: Instant,
}

impl Share {
    /// One that holds `kept` units at first.
    pub(super) fn new(kept: u64, at: Instant) -> Self {
        Self {
            tokens: kept as f64,
            at,
        }
    }

    /// Takes units, or says after what time there are enough.
    pub(super) fn take(
        &mut self,
        units: u64,
        rate: &Rate,
        replicas: u64,
        now: Instant,
    ) -> Result<u64, Duration> {
        self.fill(rate, replicas, now);
        let units = units as f64;
        if self.tokens >= units {
            self.tokens -= units;
            return Ok(self.tokens as u64);
        }
        let missing = (units - self.tokens) * replicas.max(1) as f64;
        // The store may be back long before a window ends.
        Err(rate.until(missing, LONG).clamp(SOON, AWAY))
    }

    /// Gives up units, as far as there are any.
    pub(super) fn lower(&mut self, by: u64) {
        self.tokens = (self.tokens - by as f64).max(0.0);
    }

    /// Takes back units that were not used.
    pub(super) fn put_back(&mut self, units: u64) {
        self.tokens += units as f64;
    }

    fn fill(&mut self, rate: &Rate, replicas: u64, now: Instant) {
        let replicas = replicas.max(1) as f64;
        let leaked = rate.leaks(now.saturating_duration_since(self.at)) / replicas;
        let most = (rate.most() as f64 / replicas).max(self.tokens);
        self.tokens = (self.tokens + leaked).min(most);
        self.at = self.at.max(now);
    }
}

/// While the store is away, nobody knows when it will be back. To come back after this is worth a try.
pub(super) const AWAY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::{Clock as _, SystemClock};

    fn rates() -> impl Strategy<Value = Rate> {
        (1_u64..1_000_000, 0.0_f64..10_000.0).prop_map(|(capacity, per_second)| Rate {
            capacity,
            per_second,
            ends: None,
        })
    }

    proptest! {
        #[test]
        fn what_lies_leased_in_all_replicas_is_little_or_one_each(rate in rates(), replicas in 1_u64..200) {
            let batch = rate.batch(replicas);
            prop_assert!(batch == 1 || batch * replicas * LEASED <= rate.capacity);
            prop_assert!(rate.ahead(replicas) <= batch && rate.ahead(replicas) != 1);
        }

        #[test]
        fn the_parts_of_all_replicas_are_no_more_than_what_is_left(rest in -100.0_f64..1e9, replicas in 1_u64..200) {
            let all = (part(rest, replicas) * replicas) as f64;
            prop_assert!(all <= rest.max(0.0));
        }

        #[test]
        fn a_share_admits_what_was_kept_and_its_part_of_what_leaks(
            rate in rates(),
            replicas in 1_u64..50,
            kept in 0_u64..1_000,
            wishes in prop::collection::vec((1_u64..50, 0_u64..2_000), 1..100),
        ) {
            let begun = SystemClock.instant();
            let (mut now, mut admitted) = (begun, 0);
            let mut share = Share::new(kept, begun);
            for (units, millis) in wishes {
                now += Duration::from_millis(millis);
                match share.take(units, &rate, replicas, now) {
                    Ok(_) => admitted += units,
                    Err(after) => prop_assert!(after > Duration::ZERO && after <= AWAY),
                }
                let passed = now.duration_since(begun).as_secs_f64();
                let most = kept as f64 + passed * rate.per_second / replicas as f64;
                prop_assert!(admitted as f64 <= most + 1e-3, "{admitted} of {most}");
            }
        }

        #[test]
        fn a_share_holds_no_more_than_its_part_of_the_limit(rate in rates(), replicas in 1_u64..50) {
            let begun = SystemClock.instant();
            let mut share = Share::new(0, begun);
            let later = begun + Duration::from_secs(1_000_000_000);
            let units = rate.capacity / replicas + 1;
            prop_assert!(share.take(units, &rate, replicas, later).is_err());
        }

        #[test]
        fn who_comes_back_when_told_finds_room(
            rate in rates(),
            used in 0.0_f64..1.0,
            units in 1_u64..1_000,
        ) {
            prop_assume!(rate.per_second > 0.01 && units <= rate.capacity);
            let begun = SystemClock.instant();
            let level = rate.capacity as f64 * used;
            let free = rate.capacity as f64 - level;
            let view = View { level, free, at: begun, contended: false };
            let wait = view.wait(units, &rate, begun, Duration::ZERO);
            prop_assert!(wait > Duration::ZERO);
            prop_assert!(view.free_at(&rate, begun + wait) >= units as f64 - 1e-3);
        }
    }

    #[test]
    fn what_is_full_of_what_ends_is_worth_coming_back_to_at_its_end() {
        let now = SystemClock.now();
        let rate = Rate {
            capacity: 10,
            per_second: 0.0,
            ends: Some(now.unix + Duration::from_secs(90)),
        };
        let view = View {
            level: 10.0,
            free: 0.0,
            at: now.instant,
            contended: false,
        };
        assert_eq!(
            view.wait(1, &rate, now.instant, now.unix),
            Duration::from_secs(90)
        );
        assert_eq!(never(&rate, now.unix), Duration::from_secs(90));
        let contended = View {
            contended: true,
            ..view
        };
        assert_eq!(
            contended.wait(1, &rate, now.instant, now.unix),
            Duration::from_millis(100)
        );
    }
}
