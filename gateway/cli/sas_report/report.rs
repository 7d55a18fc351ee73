//! Requests counted: by who called, by what they brought, and by route.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::call::{Call, Sas};
use crate::fingerprint::Fingerprint;

/// What the logs show.
#[derive(Default)]
pub(super) struct Report {
    callers: BTreeMap<Caller, Calls>,
    fingerprints: BTreeMap<Fingerprint, Uses>,
    routes: BTreeMap<String, Traffic>,
    /// All requests, with a key or without.
    pub(super) requests: u64,
    /// Requests whose key has no fingerprint.
    pub(super) without_fingerprint: u64,
    /// Lines that are torn or no decisions.
    pub(super) unreadable: u64,
    /// Lines of another version.
    pub(super) unknown_version: u64,
}

/// Who called with a key, as far as the log knows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Caller {
    pub(super) route: Option<String>,
    pub(super) app: Option<String>,
    pub(super) agent: Option<String>,
}

/// The requests of one of them.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) count: u64,
    pub(super) refused: u64,
    pub(super) seen: Seen,
    pub(super) keys: BTreeSet<String>,
    pub(super) fingerprints: BTreeSet<Fingerprint>,
}

/// The requests that brought one signature or key.
#[derive(Default)]
pub(super) struct Uses {
    pub(super) count: u64,
    pub(super) routes: BTreeSet<Option<String>>,
    pub(super) apps: BTreeSet<Option<String>>,
    pub(super) seen: Seen,
}

/// The requests of a route.
#[derive(Default)]
pub(super) struct Traffic {
    pub(super) requests: u64,
    pub(super) with_keys: u64,
    /// All of them.
    pub(super) seen: Seen,
    /// Those with a key.
    pub(super) seen_with_key: Seen,
    /// Those without.
    seen_without: Seen,
}

/// When requests came, as the log writes it; empty where there were none.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) first: String,
    pub(super) last: String,
}

impl Seen {
    fn add(&mut self, time: &str) {
        if self.first.is_empty() || *time < *self.first {
            time.clone_into(&mut self.first);
        }
        if *time > *self.last {
            time.clone_into(&mut self.last);
        }
    }
}

impl Traffic {
    /// Since when requests came without a key only: when the last with one came, if later ones came at all.
    pub(super) fn clean_since(&self) -> Option<&str> {
        let last = &self.seen_with_key.last;
        (!last.is_empty() && self.seen_without.last > *last).then_some(last)
    }
}

impl Report {
    pub(super) fn add(&mut self, call: Call) {
        self.requests += 1;
        if let Some(route) = &call.route {
            self.add_to_route(route, &call);
        }
        let Some(sas) = call.sas else { return };
        let caller = Caller {
            route: call.route,
            app: call.app,
            agent: sas.agent.clone(),
        };
        self.add_to_fingerprint(&sas, &caller, &call.time);
        let calls = self.callers.entry(caller).or_default();
        calls.count += 1;
        calls.refused += u64::from(sas.refused);
        calls.seen.add(&call.time);
        calls.keys.extend(sas.keys);
        calls.fingerprints.extend(sas.fingerprint);
    }

    fn add_to_route(&mut self, route: &str, call: &Call) {
        let traffic = self.routes.entry(route.to_owned()).or_default();
        traffic.requests += 1;
        traffic.seen.add(&call.time);
        match call.sas {
            Some(_) => {
                traffic.with_keys += 1;
                traffic.seen_with_key.add(&call.time);
            }
            None => traffic.seen_without.add(&call.time),
        }
    }

    fn add_to_fingerprint(&mut self, sas: &Sas, caller: &Caller, time: &str) {
        let Some(fingerprint) = sas.fingerprint else {
            self.without_fingerprint += 1;
            return;
        };
        let uses = self.fingerprints.entry(fingerprint).or_default();
        uses.count += 1;
        uses.routes.insert(caller.route.clone());
        uses.apps.insert(caller.app.clone());
        uses.seen.add(time);
    }

    /// Requests that brought a key.
    pub(super) fn with_keys(&self) -> u64 {
        self.callers.values().map(|calls| calls.count).sum()
    }

    /// Requests that were refused because they did.
    pub(super) fn refused(&self) -> u64 {
        self.callers.values().map(|calls| calls.refused).sum()
    }

    /// Who called with a key; those with the most requests first.
    pub(super) fn callers(&self) -> Vec<(&Caller, &Calls)> {
        most_first(&self.callers, |calls| calls.count)
    }

    /// What was brought; what came with the most requests first.
    pub(super) fn fingerprints(&self) -> Vec<(&Fingerprint, &Uses)> {
        most_first(&self.fingerprints, |uses| uses.count)
    }

    /// Every route that was called; those with the most requests first.
    pub(super) fn routes(&self) -> Vec<(&String, &Traffic)> {
        most_first(&self.routes, |traffic| traffic.requests)
    }
}

/// The largest first; those of one size stay in the order of their keys.
fn most_first<K, V>(map: &BTreeMap<K, V>, count: impl Fn(&V) -> u64) -> Vec<(&K, &V)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by_key(|(_, value)| Reverse(count(value)));
    entries
}
