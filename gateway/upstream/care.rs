//! What a backend gets beyond being called: a choice among its endpoints, a breaker, further attempts, patience
//! while it starts. A backend that asks for none of it has none of it, and pays for none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;

use super::breaker::{Breaker, BreakerState};
use super::endpoint::Endpoint;
use super::health::Checked;
use super::moment::millis;
use super::window::{Tally, Window};
use crate::files::{self, Ejection, Health, Retry};
use crate::ids::random_below;

/// What a backend asks for.
pub(super) struct Care {
    /// Where it is; at least one.
    pub(super) members: Vec<Member>,
    pub(super) failure_statuses: Vec<u16>,
    pub(super) ejection: Ejection,
    pub(super) breaker: Option<files::Breaker>,
    pub(super) retry: Option<Retry>,
    pub(super) health: Option<Health>,
    pub(super) cold_start: Option<Duration>,
    pub(super) kept: Arc<Kept>,
}

/// An endpoint of a backend.
pub(super) struct Member {
    pub(super) endpoint: Arc<Endpoint>,
    /// What `Host` says there.
    pub(super) host: HeaderValue,
    /// What is known of it by asking.
    pub(super) checked: Option<Arc<Checked>>,
}

/// What of a backend outlives a snapshot.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) breaker: Breaker,
    requests: Window,
    pub(super) retries: AtomicU64,
    pub(super) retries_refused: AtomicU64,
    waiting: AtomicUsize,
    pub(super) starts_served: AtomicU64,
    pub(super) starts_failed: AtomicU64,
    pub(super) waited: AtomicU64,
}

/// How far back a budget for further attempts reckons, and how many it grants beside its part.
const BUDGET_SPAN: Duration = Duration::from_secs(10);
const LEAST_RETRIES: u64 = 3 * BUDGET_SPAN.as_secs();

/// So many requests wait for a backend's start; others fail at once, for the gateway's memory is bounded.
const MOST_WAITING: usize = 1024;

impl Member {
    fn is_healthy(&self) -> bool {
        self.checked
            .as_ref()
            .is_none_or(|checked| checked.is_healthy())
    }
}

impl Care {
    /// Chooses an endpoint: of two, taken by chance among those that are well, the less busy one (Mitzenmacher,
    /// "The Power of Two Choices in Randomized Load Balancing"). Where none is well, any is tried: what is known
    /// may be wrong, and a refusal would help nobody. `avoid` failed just now.
    pub(super) fn choose(care: &Arc<Self>, at: u64, avoid: Option<usize>) -> Load {
        if care.members.len() == 1 {
            return Load::begin(care, 0, false);
        }
        let mut members = care.members.iter().enumerate();
        let due = members.find(|(place, member)| {
            Some(*place) != avoid && member.is_healthy() && member.endpoint.standing.try_again(at)
        });
        if let Some((place, _)) = due {
            return Load::begin(care, place, true);
        }
        let is_other = |place: usize| Some(place) != avoid;
        let place = care
            .less_busy(|place, member| is_other(place) && care.is_well(member))
            .or_else(|| care.less_busy(|place, _| is_other(place)))
            .unwrap_or_default();
        Load::begin(care, place, false)
    }

    /// Whether an endpoint is thought to be well. The only one is never left out, though it may be where another backend
    /// has it among several.
    fn is_well(&self, member: &Member) -> bool {
        let is_in = self.members.len() == 1 || member.endpoint.standing.is_in();
        is_in && member.is_healthy()
    }

    fn less_busy(&self, fits: impl Fn(usize, &Member) -> bool) -> Option<usize> {
        let members = || {
            let members = self.members.iter().enumerate();
            members.filter(|(place, member)| fits(*place, member))
        };
        let count = members().count();
        let one = random_below(count);
        // Another than the first, if there is one.
        let other = match count {
            0 => return None,
            1 => one,
            _ => (one + 1 + random_below(count - 1)) % count,
        };
        let (one, other) = (members().nth(one)?, members().nth(other)?);
        let load = |member: &Member| member.endpoint.standing.load();
        Some(match load(other.1) < load(one.1) {
            true => other.0,
            false => one.0,
        })
    }

    /// Whether one more may be left out: never more than half of them are.
    fn can_spare_one(&self) -> bool {
        let out = self.members.iter();
        let out = out
            .filter(|member| !member.endpoint.standing.is_in())
            .count();
        (out + 1) * 2 <= self.members.len()
    }

    /// Whether an answer with this status is a failure of the backend.
    pub(super) fn is_failure(&self, status: u16) -> bool {
        self.failure_statuses.contains(&status)
    }

    /// What is wrong, where no endpoint is well.
    pub(super) fn fault(&self) -> Option<String> {
        if self.members.iter().any(|member| self.is_well(member)) {
            return None;
        }
        let why = self
            .members
            .iter()
            .find_map(|member| member.checked.as_ref()?.why());
        Some(why.unwrap_or_else(|| "no endpoint is well".to_owned()))
    }
}

/// A request's place at an endpoint, from its choice until its answer is whole.
pub(super) struct Load {
    care: Arc<Care>,
    place: usize,
    /// Whether it is the one that tries an endpoint that was left out, and has not come to anything yet.
    tries: bool,
    /// Whether all goes well so far: that is known for sure when the answer is whole.
    is_good: bool,
}

impl Load {
    fn begin(care: &Arc<Care>, place: usize, tries: bool) -> Self {
        let load = Self {
            care: Arc::clone(care),
            place,
            tries,
            is_good: false,
        };
        if let Some(member) = load.member() {
            member.endpoint.standing.begin();
        }
        load
    }

    fn member(&self) -> Option<&Member> {
        self.care.members.get(self.place)
    }

    /// Which member it is.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// An answer has begun. Who tries an endpoint has seen enough then, for its answer may last for hours.
    pub(super) fn good(&mut self, at: u64) {
        self.is_good = true;
        if std::mem::take(&mut self.tries)
            && let Some(member) = self.member()
        {
            member.endpoint.standing.come_back(at);
        }
    }

    /// The endpoint failed.
    pub(super) fn failed(&mut self, at: u64) {
        self.is_good = false;
        let tries = std::mem::take(&mut self.tries);
        if self.care.members.len() == 1 {
            return;
        }
        if let Some(member) = self.member() {
            let standing = &member.endpoint.standing;
            let can_spare = || self.care.can_spare_one();
            standing.failed(&self.care.ejection, at, tries, can_spare);
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(member) = self.member() {
            let standing = &member.endpoint.standing;
            standing.end();
            if self.tries {
                standing.give_up();
            } else if self.is_good {
                standing.steady();
            }
        }
    }
}

impl Kept {
    /// Counts a request, of which a part may be sent again.
    pub(super) fn count_request(&self, at: u64) {
        let one = Tally {
            all: 1,
            ..Tally::default()
        };
        self.requests.add(at, BUDGET_SPAN, one);
    }

    /// Takes a further attempt out of the budget, if there is one in it.
    pub(super) fn may_retry(&self, retry: &Retry, at: u64) -> bool {
        let Tally { all, one, .. } = self.requests.sum(at, BUDGET_SPAN);
        let is_granted = one < LEAST_RETRIES + all * u64::from(retry.budget) / 100;
        match is_granted {
            true => {
                let retried = Tally {
                    one: 1,
                    ..Tally::default()
                };
                self.requests.add(at, BUDGET_SPAN, retried);
                self.retries.fetch_add(1, Ordering::Relaxed);
            }
            false => {
                self.retries_refused.fetch_add(1, Ordering::Relaxed);
            }
        }
        is_granted
    }

    /// How many requests wait for the backend's start.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// A request that waits for a backend's start.
pub(super) struct Waiting(Arc<Kept>);

impl Waiting {
    /// Begins to wait, if not too many do.
    pub(super) fn begin(kept: &Arc<Kept>) -> Option<Self> {
        let before = kept.waiting.fetch_add(1, Ordering::Relaxed);
        // Dropped at once, it gives its place back.
        let waiting = Self(Arc::clone(kept));
        (before < MOST_WAITING).then_some(waiting)
    }

    /// The wait is over.
    pub(super) fn end(self, served: bool, waited: Duration) {
        let count = match served {
            true => &self.0.starts_served,
            false => &self.0.starts_failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.0.waited.fetch_add(millis(waited), Ordering::Relaxed);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a backend's care has come to, for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendState {
    /// The breaker, if it has one.
    pub breaker: Option<BreakerState>,
    /// Its endpoints, if it has several or they are asked whether they are well.
    pub endpoints: Vec<EndpointState>,
    /// Attempts after the first, and those that the budget did not grant.
    pub retries: Option<(u64, u64)>,
    /// Requests that waited for a start and were served, and those that were not; how long all of them waited, in
    /// milliseconds; how many wait now.
    pub cold_starts: Option<(u64, u64, u64, usize)>,
}

/// What is known of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointState {
    /// Its host and port.
    pub name: String,
    /// Whether it is thought to be well.
    pub is_well: bool,
    /// How many requests are under way there.
    pub under_way: usize,
    /// How often it was left out.
    pub ejections: u64,
}

impl Care {
    /// What it has come to.
    pub(super) fn state(&self) -> BackendState {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let kept = &self.kept;
        let endpoints = self.members.iter().map(|member| EndpointState {
            name: format!("{}:{}", member.endpoint.host, member.endpoint.port),
            is_well: self.is_well(member),
            under_way: member.endpoint.standing.load(),
            ejections: member.endpoint.standing.ejections(),
        });
        let are_told =
            self.members.len() > 1 || self.members.iter().any(|member| member.checked.is_some());
        BackendState {
            breaker: self.breaker.as_ref().map(|_| kept.breaker.state()),
            endpoints: endpoints.filter(|_| are_told).collect(),
            retries: self
                .retry
                .as_ref()
                .map(|_| (count(&kept.retries), count(&kept.retries_refused))),
            cold_starts: self.cold_start.map(|_| {
                let (served, failed) = (count(&kept.starts_served), count(&kept.starts_failed));
                (served, failed, count(&kept.waited), kept.waiting())
            }),
        }
    }
}
