//! Limits: how often a caller may call, how much it has in a day or month, how many of its requests are under way at
//! once, and how much of everything the gateway takes. Rates and quotas are counted in this process's memory or, by all
//! replicas together, in Redis (`shared`); all else each replica counts by itself.

mod adaptive;
mod counts;
mod door;
mod fields;
mod gate;
mod keys;
mod limit;
mod measure;
mod overload;
pub mod shared;
mod slot;
mod store;
mod tally;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use door::Entry;
pub use fields::Standing;
pub use keys::Asker;
pub use overload::overloaded;
pub use slot::{Passing, Slot};
pub use store::{LimitStore, Standing as UnderWay};

use door::{Door, refusal};
use fields::Telling;
use gate::{Gate, Permit};
use keys::{By, Key};
use limit::Limit;
use measure::{Left, Moment};
use slot::Held;
use store::Ticking;
use tally::Tried;

use crate::clock::Now;
use crate::denial::{Denial, Reason};
use crate::files::{LimitKey, MOST_LIMITS, Mode, PolicyDocument};
use crate::policy::{BackendId, RouteId};

/// The limits that are in force.
pub struct Limits {
    ticking: Ticking,
    door: Door,
    /// By [`RouteId`].
    routes: Vec<Option<Box<OfRoute>>>,
    /// By [`BackendId`].
    backends: Vec<Option<(By, Arc<Gate>)>>,
}

/// The limits of a route.
struct OfRoute {
    limits: Box<[Arc<Limit>]>,
    telling: Telling,
    gates: Box<[(By, Arc<Gate>)]>,
}

/// A request that is within its limits.
#[derive(Debug)]
pub struct Admitted {
    /// The proof.
    pub slot: Slot,
    /// What its answer says of the limits.
    pub standing: Standing,
    /// The limit that would have refused it, had it been one that acts.
    pub rehearsed: Option<Arc<str>>,
}

/// How long who found no room is told to wait.
const COME_AGAIN: Duration = Duration::from_secs(1);

impl Limit {
    fn acts(&self) -> bool {
        self.mode == Mode::Enforce
    }
}

impl Limits {
    /// Counts a request for the address that it comes from, before anything of it is looked at.
    ///
    /// # Errors
    /// [`Reason::RateLimited`], [`Reason::Overloaded`].
    pub fn enter(&self, client: IpAddr, now: &Now) -> Result<Entry, Denial> {
        self.door.enter(client, self.ticking.at(now))
    }

    /// Counts that the caller has not proved who they are.
    pub fn failed(&self, entry: &Entry, now: &Now) {
        entry.failed(self.ticking.at(now));
    }

    /// Counts a request, if it is within all limits of its route and backend, and has it wait for its turn where
    /// too many are under way. Who is refused is not counted.
    ///
    /// # Errors
    /// [`Reason::RateLimited`], [`Reason::QuotaExceeded`], [`Reason::ConcurrencyLimited`], [`Reason::BackendBusy`],
    /// [`Reason::Overloaded`], each with the time after which it is worth coming back.
    pub async fn admit(
        &self,
        entry: Entry,
        asker: &Asker<'_>,
        now: &Now,
    ) -> Result<Admitted, Denial> {
        let one = entry.taken_by(asker.who())?;
        let route = asker.authorized.matched().route();
        let (RouteId(at), BackendId(backend)) = (route.id(), route.backend());
        let of_route = self.routes.get(at).and_then(Option::as_deref);
        let backend = self.backends.get(backend).and_then(Option::as_ref);
        let moment = self.ticking.at(now);
        let taken = match of_route {
            Some(of_route) => of_route.take(asker, now, moment).await?,
            None => Taken::default(),
        };
        let gates = of_route.map_or(&[][..], |of_route| &of_route.gates);
        let permits = match (gates, backend) {
            ([], None) => Vec::new(),
            // Boxed, for the room that it takes would be in every request.
            _ => match Box::pin(pass(gates, backend, asker)).await {
                Ok(permits) => permits,
                Err(denial) => {
                    if let Some(of_route) = of_route {
                        of_route.give_back(&taken, asker, moment);
                    }
                    return Err(denial);
                }
            },
        };
        let by_bytes = of_route.map_or_else(Vec::new, |of_route| of_route.by_bytes(asker));
        let is_held = one.is_some() || !permits.is_empty() || !by_bytes.is_empty();
        let held = is_held.then(|| Held {
            permits: RefCell::new(permits),
            by_bytes,
            bytes: Cell::new(0),
            one,
            ticking: self.ticking.clone(),
        });
        Ok(Admitted {
            slot: Slot(held.map(Rc::new)),
            standing: taken.standing,
            rehearsed: taken.rehearsed,
        })
    }
}

/// What a request has taken of the limits of its route.
#[derive(Default)]
struct Taken {
    standing: Standing,
    rehearsed: Option<Arc<str>>,
    /// Of which limits, by their places.
    of: u64,
}

impl OfRoute {
    /// Takes what the request counts for, of every limit or of none.
    async fn take(&self, asker: &Asker<'_>, now: &Now, moment: Moment) -> Result<Taken, Denial> {
        let mut left: [Option<Left>; MOST_LIMITS] = [None; MOST_LIMITS];
        let mut taken = Taken::default();
        for (at, (limit, left)) in self.limits.iter().zip(&mut left).enumerate() {
            let units = limit.units(asker.method);
            let tried = match limit.try_take(&limit.key(asker), units, now, moment) {
                Tried::Done(tried) => tried,
                // Boxed, for it is rare, and every request would carry the room for it.
                Tried::Ask(question) => Box::pin(question.ask(now, moment)).await,
            };
            match (tried, limit.mode) {
                (Ok(remains), _) => {
                    taken.of |= 1 << at;
                    *left = Some(remains);
                }
                (Err(_), Mode::ReportOnly) => {
                    taken.rehearsed.get_or_insert(Arc::clone(&limit.told.name));
                }
                (Err(wait), Mode::Enforce) => {
                    self.give_back(&taken, asker, moment);
                    return Err(self.refuse(asker, (at, wait), moment));
                }
            }
        }
        let standing = self.limits.iter().zip(left);
        let standing = standing.filter(|(limit, _)| limit.acts());
        let standing = standing.filter_map(|(limit, left)| Some((&limit.told, left?)));
        taken.standing = self.telling.standing(standing);
        Ok(taken)
    }

    fn give_back(&self, taken: &Taken, asker: &Asker<'_>, now: Moment) {
        let taken_of = |at: usize| taken.of & (1 << at) != 0;
        let limits = self.limits.iter().enumerate();
        for (_, limit) in limits.filter(|(at, _)| taken_of(*at)) {
            limit.give_back(&limit.key(asker), limit.units(asker.method), now);
        }
    }

    /// 429, with the time after which all of the limits that refuse let the request through.
    fn refuse(&self, asker: &Asker<'_>, (first, wait): (usize, Duration), now: Moment) -> Denial {
        let mut refusing: Vec<(&Limit, Duration)> = Vec::new();
        for (at, limit) in self.limits.iter().enumerate().skip(first) {
            let refused = match at == first {
                true => Err(wait),
                false if !limit.acts() => continue,
                false => limit.would_take(&limit.key(asker), limit.units(asker.method), now),
            };
            if let Err(wait) = refused {
                refusing.push((limit, wait));
            }
        }
        let Some((limit, _)) = refusing.first() else {
            return Reason::RateLimited.into();
        };
        let told = refusing.iter().map(|(limit, wait)| (&limit.told, *wait));
        refusal(limit.reason(), &self.telling, told).expected(limit.expected.as_str(), "more")
    }

    /// The limits on bytes, and whom the request counts for.
    fn by_bytes(&self, asker: &Asker<'_>) -> Vec<(Arc<Limit>, Key)> {
        let limits = self.limits.iter().filter(|limit| limit.counts_bytes());
        limits
            .map(|limit| (Arc::clone(limit), limit.key(asker)))
            .collect()
    }
}

/// Waits for its turn where too many are under way, on the route and then to the backend.
async fn pass(
    gates: &[(By, Arc<Gate>)],
    backend: Option<&(By, Arc<Gate>)>,
    asker: &Asker<'_>,
) -> Result<Vec<Permit>, Denial> {
    let gates = gates.iter().map(|gate| (gate, Reason::ConcurrencyLimited));
    let backend = backend.map(|gate| (gate, Reason::BackendBusy));
    let mut permits = Vec::new();
    for ((by, gate), reason) in gates.chain(backend) {
        let entered = gate.enter(by.key(asker), asker.who()).await;
        permits.push(entered.map_err(|gate::NoRoom| Denial::from(reason).retry_after(COME_AGAIN))?);
    }
    Ok(permits)
}

/// The claims that limits count by, in order.
pub fn claims_counted(document: &PolicyDocument) -> Vec<Box<str>> {
    let routes = document.routes.iter().map(|route| &route.value);
    let keys = routes.flat_map(|route| {
        let rates = route.rate_limits.iter().flat_map(|limit| &limit.value.by);
        let quotas = route.quotas.iter().flat_map(|limit| &limit.value.by);
        let gates = route.concurrency.iter().flat_map(|limit| &limit.value.by);
        rates.chain(quotas).chain(gates)
    });
    let claims = keys.filter_map(|key| match &key.value {
        LimitKey::Claim(claim) => Some(claim.as_str().into()),
        _ => None,
    });
    let mut claims: Vec<Box<str>> = claims.collect();
    claims.sort_unstable();
    claims.dedup();
    claims
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").finish_non_exhaustive()
    }
}
