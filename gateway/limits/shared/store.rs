//! The meters that a replica knows, by name, and how it stands with the store.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use redis::RedisError;

use super::bucket::Rate;
use super::common::Common;
use super::link::LinkError;
use super::meter::Meter;
use super::script;
use super::settings::{OnStoreFailure, Settings};
use crate::clock::Now;

/// What a replica knows and the keeper keeps.
pub(super) struct Store {
    pub(super) common: Arc<Common>,
    pub(super) settings: Settings,
    pub(super) meters: Meters,
    standing: Mutex<Standing>,
    /// Meters whose keys held something else, and what the store said of it.
    astray: Mutex<Vec<(Weak<Meter>, String)>>,
}

/// How it stands with the store.
#[derive(Clone, Debug)]
struct Standing {
    reachable: bool,
    met: bool,
    since: Duration,
    away: u64,
    why: String,
}

/// How it stands with the store, for metrics and readiness. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Whether it answers.
    pub reachable: bool,
    /// Whether it ever did: until then nobody knows how many replicas there are.
    pub met: bool,
    /// Since when that is so, since the Unix epoch.
    pub since: Duration,
    /// Replicas when it answered last, this one among them.
    pub replicas: u64,
    /// Of those, the ones that the store did not hear.
    pub unheard: u64,
    /// Why it does not answer. Empty if it does.
    pub why: String,
    /// Keys that hold something else than the gateway wrote, by what they begin with, and what the store says of it.
    /// The limits whose they are count as if it did not answer.
    pub astray: BTreeMap<String, String>,
    /// What holds while it does not.
    pub on_failure: OnStoreFailure,
    /// Meters in memory.
    pub meters: usize,
    /// Batches that were leased.
    pub leases: u64,
    /// Requests that waited for the store.
    pub waits: u64,
    /// Connections that failed or could not be made.
    pub failures: u64,
    /// Units admitted without the store.
    pub admitted_locally: u64,
}

impl Store {
    pub(super) fn new(common: Arc<Common>, settings: Settings) -> Arc<Self> {
        let since = common.clock.now().unix;
        Arc::new(Self {
            common,
            meters: Meters::new(settings.most_meters),
            settings,
            standing: Mutex::new(Standing {
                reachable: false,
                met: false,
                since,
                away: 0,
                why: "not reached yet".to_owned(),
            }),
            astray: Mutex::default(),
        })
    }

    /// The meter of this name and rate.
    pub(super) fn meter(&self, name: &str, rate: Rate) -> Arc<Meter> {
        self.meters.meter(name, rate, &self.common)
    }

    /// The store answered to what was sent then.
    pub(super) fn reached(&self, sent: Instant, replicas: u64, away: u64) {
        self.common.reached(sent, replicas);
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.away = away;
        if !standing.reachable {
            *standing = Standing {
                reachable: true,
                met: true,
                since: self.common.clock.now().unix,
                away,
                why: String::new(),
            };
        }
    }

    /// It did not.
    pub(super) fn failed(&self, why: &LinkError) {
        self.common.counters.failures.add(1);
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.reachable {
            standing.since = self.common.clock.now().unix;
        }
        standing.reachable = false;
        standing.why = why.to_string();
    }

    /// It answered that the key of this meter holds something else.
    pub(super) fn strayed(&self, meter: &Arc<Meter>, why: &RedisError, now: &Now) {
        if meter.strayed(now) {
            let mut astray = self.astray.lock().unwrap_or_else(PoisonError::into_inner);
            astray.push((Arc::downgrade(meter), why.to_string()));
        }
    }

    fn astray(&self) -> BTreeMap<String, String> {
        let mut astray = self.astray.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_limit = BTreeMap::new();
        astray.retain(|(meter, why)| {
            let Some(meter) = meter.upgrade().filter(|meter| meter.is_astray()) else {
                return false;
            };
            // Who is counted there stands last.
            let limit = meter
                .place()
                .rsplit_once('/')
                .map_or("", |(limit, _)| limit);
            let key = script::meters(&self.settings.prefix) + limit + "/";
            by_limit.entry(key).or_insert_with(|| why.clone());
            true
        });
        by_limit
    }

    pub(super) fn state(&self) -> State {
        let Standing {
            reachable,
            met,
            since,
            away,
            why,
        } = self
            .standing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let counters = &self.common.counters;
        State {
            reachable,
            met,
            since,
            replicas: self.common.replicas(),
            unheard: away,
            why,
            astray: if reachable {
                self.astray()
            } else {
                BTreeMap::new()
            },
            on_failure: self.settings.on_failure,
            meters: self.meters.len(),
            leases: counters.leases.get(),
            waits: counters.waits.get(),
            failures: counters.failures.get(),
            admitted_locally: counters.admitted_locally.get(),
        }
    }
}

/// Meters by name, in parts, so that who adds one holds up few others.
pub(super) struct Meters {
    parts: [RwLock<Part>; PARTS],
    hasher: RandomState,
    many: AtomicUsize,
    most: usize,
}

type Part = HashMap<Arc<str>, Arc<Meter>>;

const PARTS: usize = 16;

impl Meters {
    fn new(most: usize) -> Self {
        Self {
            parts: Default::default(),
            hasher: RandomState::new(),
            many: AtomicUsize::new(0),
            most,
        }
    }

    fn len(&self) -> usize {
        self.many.load(Ordering::Relaxed)
    }

    #[expect(clippy::indexing_slicing, reason = "the remainder is a place of it")]
    fn part(&self, name: &str) -> &RwLock<Part> {
        &self.parts[self.hasher.hash_one(name) as usize % PARTS]
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<Meter>> {
        let part = self.part(name).read();
        part.unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    fn meter(&self, name: &str, rate: Rate, common: &Arc<Common>) -> Arc<Meter> {
        let is_known = match self.find(name) {
            Some(meter) if *meter.rate() == rate => return meter,
            found => found.is_some(),
        };
        if is_known || self.len() < self.most {
            return self.make(name, rate, common);
        }
        // Full. Who is new shares one meter with all others who are, of the same limit: strict, but never open. What
        // names who is counted stands last.
        let limit = name.rsplit_once('/').map_or("", |(limit, _)| limit);
        let shared = format!("{limit}/rest:{}/{}", rate.capacity, rate.per_second);
        let found = self.find(&shared).filter(|meter| *meter.rate() == rate);
        found.unwrap_or_else(|| self.make(&shared, rate, common))
    }

    fn make(&self, name: &str, rate: Rate, common: &Arc<Common>) -> Arc<Meter> {
        let part = self.part(name).write();
        let mut part = part.unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = part.get(name).filter(|meter| *meter.rate() == rate) {
            return Arc::clone(meter);
        }
        let known = part.get_key_value(name);
        let name = known.map_or_else(|| name.into(), |(name, _)| Arc::clone(name));
        let meter = Meter::new(Arc::clone(&name), rate, Arc::clone(common));
        match part.insert(name, Arc::clone(&meter)) {
            None => drop(self.many.fetch_add(1, Ordering::Relaxed)),
            // Of another rate, or of the window before.
            Some(former) => {
                if former.part() {
                    former.ask_now();
                }
            }
        }
        meter
    }

    pub(super) fn each(&self, mut visit: impl FnMut(&Arc<Meter>)) {
        for part in &self.parts {
            let part = part.read().unwrap_or_else(PoisonError::into_inner);
            part.values().for_each(&mut visit);
        }
    }

    /// Has one part of the meters give back what nobody uses, and forgets those that hold nothing.
    pub(super) fn tidy(&self, turn: u64, now: &Now) {
        let Some(part) = self.parts.get(turn as usize % PARTS) else {
            return;
        };
        let mut part = part.write().unwrap_or_else(PoisonError::into_inner);
        let before = part.len();
        // Whoever holds one goes on using it: it has to stay the only one of its name.
        part.retain(|_, meter| !meter.tidy(now) || Arc::strong_count(meter) > 1);
        self.many.fetch_sub(before - part.len(), Ordering::Relaxed);
        if part.len() * 4 < part.capacity() {
            part.shrink_to_fit();
        }
    }
}
