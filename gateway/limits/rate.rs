//! Rate limits by GCRA (the leaky bucket as a meter): a steady rate, and a burst above it.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use http::header::{HeaderName, HeaderValue};

use super::clock::LimitClock;
use crate::clock::Clock;
use crate::denial::{Denial, Reason, whole_seconds};
use crate::files::{self, LimitKey, PolicyDocument};
use crate::ids::{AppId, ObjectId, TenantId};
use crate::policy::{Authorized, RouteId};

/// The proof that a request is within its limits. Only [`Limits::admit`] makes it.
#[derive(Debug)]
pub struct Slot(());

/// The rate limits of a policy, by route.
#[derive(Debug)]
pub struct Limits(Vec<Option<Arc<Limit>>>);

/// What is kept across reloads: a limit that stands unchanged under a route's name keeps its count, so
/// that a reload is no way to a fresh allowance.
pub struct LimitStore {
    clock: LimitClock,
    limits: Mutex<HashMap<(String, Spec), Arc<Limit>>>,
}

impl LimitStore {
    /// A store that counts by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock: LimitClock::new(clock),
            limits: Mutex::default(),
        })
    }

    /// The limits of a policy document, route by route.
    pub fn compile(&self, document: &PolicyDocument) -> Limits {
        let mut kept = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = HashMap::new();
        let routes = document.routes.iter().map(|route| {
            let spec = Spec::read(&route.value.rate_limit.as_ref()?.value);
            let key = (route.name.value.clone(), spec);
            let limit = kept.get(&key).cloned();
            let limit = limit.unwrap_or_else(|| Arc::new(Limit::new(spec, self.clock.clone())));
            next.insert(key, Arc::clone(&limit));
            Some(limit)
        });
        let limits = Limits(routes.collect());
        *kept = next;
        limits
    }

    /// Frees the memory of callers who have long been quiet. To be called now and then.
    pub fn tidy(&self) {
        let kept = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let limits: Vec<_> = kept.values().cloned().collect();
        drop(kept);
        for limit in limits {
            limit.limiter.retain_recent();
            limit.limiter.shrink_to_fit();
        }
    }
}

impl fmt::Debug for LimitStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitStore").finish_non_exhaustive()
    }
}

/// A limit as written, ready to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Spec {
    requests: NonZeroU32,
    per: Duration,
    burst: NonZeroU32,
    by: By,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct By {
    tenant: bool,
    app: bool,
    principal: bool,
    client_address: bool,
}

impl Spec {
    fn read(written: &files::RateLimit) -> Self {
        let files::RateLimit {
            requests,
            per,
            burst,
            by,
        } = written;
        let mut keys = By::default();
        for key in by {
            match key.value {
                LimitKey::Tenant => keys.tenant = true,
                LimitKey::App => keys.app = true,
                LimitKey::Principal => keys.principal = true,
                LimitKey::ClientAddress => keys.client_address = true,
                // Every limit stands by its own route already.
                LimitKey::Route => {}
            }
        }
        let requests = NonZeroU32::new(*requests).unwrap_or(NonZeroU32::MIN);
        Self {
            requests,
            per: *per,
            // Without a burst of its own, a limit lets its requests come all at once.
            burst: burst.and_then(NonZeroU32::new).unwrap_or(requests),
            by: keys,
        }
    }
}

/// Whom a request is counted for. Small and copied: counting allocates only for who is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    tenant: Option<TenantId>,
    app: Option<AppId>,
    principal: Option<ObjectId>,
    client: Option<IpAddr>,
}

/// Only what a limit counts by: the keys of one limit name the same parts, so that which they are says nothing.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self {
            tenant,
            app,
            principal,
            client,
        } = self;
        let tenant = tenant.map(TenantId::uuid);
        let app = app.map(AppId::uuid);
        let principal = principal.map(ObjectId::uuid);
        for id in [tenant, app, principal].into_iter().flatten() {
            state.write_u128(id.as_u128());
        }
        if let Some(client) = client {
            client.hash(state);
        }
    }
}

struct Limit {
    spec: Spec,
    clock: LimitClock,
    limiter: RateLimiter<Key, DashMapStateStore<Key>, LimitClock, NoOpMiddleware<Nanos>>,
}

impl Limit {
    fn new(spec: Spec, clock: LimitClock) -> Self {
        let interval = spec.per / spec.requests.get();
        // Less than a nanosecond between requests is no limit that this machine could reach.
        let quota = Quota::with_period(interval.max(Duration::from_nanos(1)));
        let quota = quota
            .unwrap_or(Quota::per_second(NonZeroU32::MIN))
            .allow_burst(spec.burst);
        Self {
            spec,
            limiter: RateLimiter::new(quota, DashMapStateStore::default(), clock.clone()),
            clock,
        }
    }

    fn key(&self, authorized: &Authorized<'_>, client: IpAddr) -> Key {
        let By {
            tenant,
            app,
            principal,
            client_address,
        } = self.spec.by;
        let caller = authorized.principal();
        Key {
            tenant: caller.filter(|_| tenant).map(|caller| caller.tenant()),
            app: caller.filter(|_| app).map(|caller| caller.app()),
            principal: caller
                .filter(|_| principal)
                .and_then(|caller| caller.object()),
            client: client_address.then(|| subscriber(client)),
        }
    }

    fn admit(&self, key: &Key) -> Result<(), Denial> {
        let Err(until) = self.limiter.check_key(key) else {
            return Ok(());
        };
        let wait = until.wait_time_from(self.clock.now());
        Err(self.refuse(wait))
    }

    /// 429 with `Retry-After`, and the fields of draft-ietf-httpapi-ratelimit-headers-10.
    fn refuse(&self, wait: Duration) -> Denial {
        let Spec {
            requests,
            per,
            burst,
            ..
        } = self.spec;
        let (seconds, window) = (whole_seconds(wait).max(1), whole_seconds(per));
        let text =
            |text: String| HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        Denial::from(Reason::RateLimited)
            .retry_after(Duration::from_secs(seconds))
            .expected(format!("{requests} in {window} s, burst {burst}"), "more")
            .field(
                HeaderName::from_static("ratelimit-policy"),
                text(format!(r#""route";q={requests};w={window}"#)),
            )
            .field(
                HeaderName::from_static("ratelimit"),
                text(format!(r#""route";r=0;t={seconds}"#)),
            )
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spec.fmt(f)
    }
}

impl Limits {
    /// Counts a request, if it is within the limit of its route.
    ///
    /// # Errors
    /// [`Reason::RateLimited`], with the time after which the next request is let in.
    pub fn admit(&self, authorized: &Authorized<'_>, client: IpAddr) -> Result<Slot, Denial> {
        let RouteId(route) = authorized.matched().route().id();
        if let Some(limit) = self.0.get(route).and_then(Option::as_ref) {
            limit.admit(&limit.key(authorized, client))?;
        }
        Ok(Slot(()))
    }
}

/// An IPv6 subscriber has a /64 at least, and may use any address in it.
fn subscriber(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    }
}
