//! What is kept of limits across reloads: a limit that stands unchanged under a route's name keeps its counts, so that
//! a reload is no way to a fresh allowance.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::counts::Counts;
use super::door::{ByAddress, Door};
use super::fields::Telling;
use super::gate::Gate;
use super::keys::By;
use super::limit::{Limit, Spec, quota_name, rate_name};
use super::measure::{Measure, Moment};
use super::overload::UnderWay;
use super::shared::Shared;
use super::tally::Tally;
use super::{Limits, OfRoute};
use crate::clock::{Clock, Now};
use crate::files::{Concurrency, GatewayLimits, LimitFields, PolicyDocument, Route, Spanned};

/// The counts of limits.
pub struct LimitStore {
    ticking: Ticking,
    /// Where rates and quotas are counted with other replicas; in this process where it is absent.
    shared: Option<Arc<Shared>>,
    under_way: Arc<UnderWay>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    tallies: HashMap<(String, Arc<str>, Spec), Arc<Tally>>,
    by_address: Option<(Measure, Arc<Counts>)>,
    gates: HashMap<(Place, By), Arc<Gate>>,
}

/// Where a limit on how many are under way stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Route(String),
    Backend(String),
}

/// Reads the time as limits count it.
#[derive(Clone)]
pub(super) struct Ticking {
    pub(super) clock: Arc<dyn Clock>,
    start: Instant,
}

impl Ticking {
    pub(super) fn now(&self) -> Moment {
        self.at(&self.clock.now())
    }

    pub(super) fn at(&self, now: &Now) -> Moment {
        let passed = now.instant.saturating_duration_since(self.start);
        Moment {
            ticks: u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX),
            unix: now.unix,
        }
    }
}

impl LimitStore {
    /// A store that counts by `clock`, in this process or with other replicas.
    pub fn new(clock: Arc<dyn Clock>, shared: Option<Arc<Shared>>) -> Arc<Self> {
        let start = clock.now().instant;
        Arc::new(Self {
            ticking: Ticking { clock, start },
            shared,
            under_way: Arc::default(),
            kept: Mutex::default(),
        })
    }

    /// The limits of a policy document, and those that gateway.yaml holds everybody to.
    pub fn compile(&self, document: &PolicyDocument, gateway: &GatewayLimits) -> Limits {
        let GatewayLimits {
            fields,
            before_authentication,
            max_requests,
            // The store is chosen once, when the process starts.
            store: _,
            on_store_failure: _,
        } = gateway;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Kept::default();
        let routes = document.routes.iter().map(|route| {
            let name = &route.name.value;
            self.of_route(name, &route.value, *fields, &kept, &mut next)
        });
        let routes = routes.collect();
        let backends = document.backends.iter().map(|backend| {
            let written = backend.value.concurrency.as_ref()?;
            let place = Place::Backend(backend.name.value.clone());
            Some(self.gate(place, written, &kept, &mut next))
        });
        let backends = backends.collect();
        let by_address = before_authentication.as_ref().map(|written| {
            let measure = ByAddress::measure(written);
            let before = kept.by_address.as_ref();
            let counts = before.filter(|(before, _)| *before == measure).map_or_else(
                || Arc::new(Counts::new(measure)),
                |(_, counts)| Arc::clone(counts),
            );
            next.by_address = Some((measure, Arc::clone(&counts)));
            Arc::new(ByAddress::new(written, *fields, counts))
        });
        *kept = next;
        Limits {
            ticking: self.ticking.clone(),
            door: Door {
                by_address,
                most_under_way: *max_requests,
                under_way: Arc::clone(&self.under_way),
            },
            routes,
            backends,
        }
    }

    fn of_route(
        &self,
        name: &str,
        route: &Route,
        fields: LimitFields,
        kept: &Kept,
        next: &mut Kept,
    ) -> Option<Box<OfRoute>> {
        let mut tally = |limit: Arc<str>, spec: &Spec| {
            let shared = self.shared.as_ref();
            let make = || Arc::new(Tally::new(shared, spec.measure, name, &limit));
            let key = (name.to_owned(), Arc::clone(&limit), spec.clone());
            let tally = kept.tallies.get(&key).map_or_else(make, Arc::clone);
            next.tallies.insert(key, Arc::clone(&tally));
            tally
        };
        let mut limits = Vec::new();
        for written in &route.rate_limits {
            let spec = Spec::of_rate(&written.value);
            let tally = tally(rate_name(&written.value), &spec);
            limits.push(Arc::new(Limit::rate(&written.value, spec, tally)));
        }
        for written in &route.quotas {
            let spec = Spec::of_quota(&written.value);
            let tally = tally(quota_name(&written.value), &spec);
            limits.push(Arc::new(Limit::quota(&written.value, spec, tally)));
        }
        let gates = route.concurrency.iter();
        let gates = gates.map(|written| {
            let place = Place::Route(name.to_owned());
            self.gate(place, written, kept, next)
        });
        let gates: Box<[_]> = gates.collect();
        if limits.is_empty() && gates.is_empty() {
            return None;
        }
        let told = limits.iter().filter(|limit| limit.acts());
        let telling = Telling::of(fields, told.map(|limit| &limit.told));
        Some(Box::new(OfRoute {
            limits: limits.into(),
            telling,
            gates,
        }))
    }

    fn gate(
        &self,
        place: Place,
        written: &Spanned<Concurrency>,
        kept: &Kept,
        next: &mut Kept,
    ) -> (By, Arc<Gate>) {
        let by = By::read(&written.value.by);
        let key = (place, by.clone());
        let gate = match kept.gates.get(&key) {
            Some(gate) => {
                gate.change(&written.value);
                Arc::clone(gate)
            }
            None => Gate::new(&written.value, Arc::clone(&self.ticking.clock)),
        };
        next.gates.insert(key, Arc::clone(&gate));
        (by, gate)
    }

    /// Frees the memory of callers who have long been quiet. To be called now and then.
    pub fn tidy(&self) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let by_address = kept.by_address.as_ref();
        let by_address = by_address.map(|(_, counts)| Arc::clone(counts));
        let tallies: Vec<_> = kept.tallies.values().cloned().collect();
        drop(kept);
        let now = self.ticking.now();
        if let Some(counts) = by_address {
            counts.tidy(now);
        }
        for tally in tallies {
            tally.tidy(now);
        }
    }

    /// Where rates and quotas are counted with other replicas, if they are.
    pub fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.as_ref()
    }

    /// How many requests are under way through the whole gateway; none, where nothing bounds them.
    pub fn requests_under_way(&self) -> u64 {
        self.under_way.count()
    }

    /// What is under way now, for `/metrics`.
    pub fn under_way(&self) -> Vec<Standing> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = kept.gates.iter().map(|((place, by), gate)| {
            let (under_way, waiting, limit) = gate.standing();
            let (kind, name) = match place {
                Place::Route(name) => ("route", name),
                Place::Backend(name) => ("backend", name),
            };
            Standing {
                kind,
                name: name.clone(),
                by: by.text(),
                under_way,
                waiting,
                limit,
            }
        });
        let mut standing: Vec<Standing> = standing.collect();
        standing.sort_by(|one, other| one.order().cmp(&other.order()));
        standing
    }
}

/// How a limit on how many are under way stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// `route` or `backend`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What has a count of its own there; empty where all share one.
    pub by: String,
    /// How many requests are under way, for all callers together.
    pub under_way: u64,
    /// How many wait.
    pub waiting: u64,
    /// How many may be under way, for each that has a count of its own.
    pub limit: u32,
}

impl Standing {
    fn order(&self) -> (&str, &str, &str) {
        (self.kind, &self.name, &self.by)
    }
}

impl fmt::Debug for LimitStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitStore").finish_non_exhaustive()
    }
}
