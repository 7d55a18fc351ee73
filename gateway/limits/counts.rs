//! What has been counted for each caller, in this process's memory. Bounded: strangers can make callers up.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::keys::Key;
use super::measure::{Left, Level, Measure, Moment};

/// So many locks, so that workers seldom meet at one.
const SHARDS: usize = 32;

/// So many callers have a count of their own behind each lock: a million in all, in some 150 MB.
const MOST: usize = if cfg!(test) { 64 } else { (1 << 20) / SHARDS };

/// How often a full shard is looked through for who is rested, in ticks.
const BETWEEN_LOOKS: u64 = 1_000_000_000;

/// The counts of one limit.
pub(super) struct Counts {
    measure: Measure,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>; SHARDS]>,
}

/// A caller and its hash, which is reckoned once: for the lock and for what lies behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Hashed {
    hash: u64,
    key: Key,
}

impl Hashed {
    pub(super) fn new(key: &Key, hasher: &RandomState) -> Self {
        Self {
            hash: hasher.hash_one(key),
            key: *key,
        }
    }

    /// As [`Key::name`].
    pub(super) fn name(&self) -> String {
        self.key.name()
    }

    /// Which of so many locks it lies behind: by other bits than those by which a map finds its places.
    pub(super) fn place(&self, many: usize) -> usize {
        (self.hash >> 40) as usize % many
    }
}

/// By callers.
pub(super) type ByCaller<T> = HashMap<Hashed, T, BuildHasherDefault<AsItIs>>;

impl Hash for Hashed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Takes the hash as it is.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        // INVARIANT: nothing else is written.
        debug_assert!(bytes.is_empty(), "a hash alone");
    }
}

#[derive(Default)]
struct Shard {
    levels: ByCaller<Level>,
    /// Those for whom there is no room share one count.
    crowd: Level,
    /// When it was looked through last.
    looked: Option<u64>,
}

impl Shard {
    /// The level of a caller, who may be new.
    fn level(&mut self, key: &Hashed, measure: &Measure, now: Moment) -> &mut Level {
        let Self {
            levels,
            crowd,
            looked,
        } = self;
        if levels.len() >= MOST && !levels.contains_key(key) {
            if looked.is_none_or(|looked| now.ticks.saturating_sub(looked) >= BETWEEN_LOOKS) {
                *looked = Some(now.ticks);
                levels.retain(|_, level| !measure.is_rested(*level, now));
            }
            if levels.len() >= MOST {
                return crowd;
            }
        }
        levels.entry(*key).or_default()
    }
}

impl Counts {
    pub(super) fn new(measure: Measure) -> Self {
        Self {
            measure,
            hasher: RandomState::new(),
            shards: Default::default(),
        }
    }

    /// As [`Measure::take`].
    pub(super) fn take(&self, key: &Key, units: u64, now: Moment) -> Result<Left, Duration> {
        let key = self.hashed(key);
        let mut shard = self.shard(&key);
        let level = shard.level(&key, &self.measure, now);
        self.measure.take(level, units, now)
    }

    /// Whether so many units would be let through now.
    pub(super) fn would_take(&self, key: &Key, units: u64, now: Moment) -> Result<Left, Duration> {
        let key = self.hashed(key);
        let shard = self.shard(&key);
        let level = shard.levels.get(&key).copied().unwrap_or_default();
        drop(shard);
        self.measure.take(&mut { level }, units, now)
    }

    /// As [`Measure::charge`].
    pub(super) fn charge(&self, key: &Key, units: u64, now: Moment) {
        let key = self.hashed(key);
        let mut shard = self.shard(&key);
        let level = shard.level(&key, &self.measure, now);
        self.measure.charge(level, units, now);
    }

    /// As [`Measure::give_back`].
    pub(super) fn give_back(&self, key: &Key, units: u64, now: Moment) {
        let key = self.hashed(key);
        let mut shard = self.shard(&key);
        if let Some(level) = shard.levels.get_mut(&key) {
            self.measure.give_back(level, units, now);
        }
    }

    /// Frees the memory of callers who are rested.
    pub(super) fn tidy(&self, now: Moment) {
        for shard in self.shards.iter() {
            let mut shard = lock(shard);
            let levels = &mut shard.levels;
            levels.retain(|_, level| !self.measure.is_rested(*level, now));
            let len = levels.len();
            if levels.capacity() > 4 * len + 64 {
                levels.shrink_to(2 * len);
            }
        }
    }

    fn hashed(&self, key: &Key) -> Hashed {
        Hashed::new(key, &self.hasher)
    }

    fn shard(&self, key: &Hashed) -> MutexGuard<'_, Shard> {
        #[expect(clippy::indexing_slicing, reason = "the remainder is a place of it")]
        lock(&self.shards[key.place(SHARDS)])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn now(seconds: u64) -> Moment {
        Moment {
            ticks: seconds * 1_000_000_000,
            unix: Duration::from_secs(seconds),
        }
    }

    fn caller(at: u32) -> Key {
        Key::of_address(IpAddr::V4(Ipv4Addr::from_bits(at)))
    }

    fn held(counts: &Counts) -> usize {
        let shards = counts.shards.iter();
        shards.map(|shard| lock(shard).levels.len()).sum()
    }

    #[test]
    fn callers_beyond_all_bounds_share_a_count_and_take_no_memory() {
        let counts = Counts::new(Measure::rate(1, Duration::from_secs(60), 1));
        let most = u32::try_from(SHARDS * MOST).expect("small");
        let passed = (0..2 * most).filter(|at| counts.take(&caller(*at), 1, now(0)).is_ok());
        let passed = passed.count();
        assert_eq!(held(&counts), SHARDS * MOST);
        // One of those for whom there was no room, behind each lock.
        assert_eq!(passed, SHARDS * MOST + SHARDS);
        // Those who came in time have their own.
        assert!(counts.take(&caller(0), 1, now(60)).is_ok());
        // And who is rested makes room.
        assert!(counts.take(&caller(3 * most), 1, now(60)).is_ok());
        assert!(counts.take(&caller(3 * most), 1, now(60)).is_err());
    }

    #[test]
    fn who_is_rested_is_forgotten() {
        let counts = Counts::new(Measure::rate(1, Duration::from_secs(60), 1));
        for at in 0..1000 {
            let _ = counts.take(&caller(at), 1, now(0));
        }
        counts.tidy(now(59));
        assert_eq!(held(&counts), 1000);
        counts.tidy(now(60));
        assert_eq!(held(&counts), 0);
    }
}
