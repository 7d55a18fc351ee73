//! Connections that are open and idle, of one worker. Nothing here is shared between threads.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http2;

use super::body::RequestBody;
use super::endpoint::EndpointId;
use super::http1::Http1;
use crate::clock::Clock;
use crate::http1::Scratch;

/// Azure's front ends close connections that are idle for 230 s; a connection that might just be
/// closing is not used.
const LONGEST_IDLE: Duration = Duration::from_secs(90);

/// A connection that is older serves no further request, so that all of them follow when a name moves on to other
/// addresses. What it serves by then it serves to the end.
const LONGEST_LIFE: Duration = Duration::from_mins(5);

/// Idle connections of one endpoint that a worker keeps.
const MOST_IDLE: usize = 1024;

/// A worker's pools.
#[derive(Clone)]
pub struct Pools(Rc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    pools: RefCell<BTreeMap<EndpointId, Pool>>,
    scratch: Scratch,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Idle>,
    http2: Option<Common>,
}

/// A connection of HTTP/1.1, which nobody uses.
struct Idle {
    connection: Http1,
    since: Instant,
}

impl Idle {
    fn may_serve(&mut self, now: Instant) -> bool {
        let is_young = u64::from(self.connection.age(now)) < LONGEST_LIFE.as_secs();
        let idle = now.saturating_duration_since(self.since);
        idle < LONGEST_IDLE && is_young && self.connection.is_open()
    }
}

/// A connection of HTTP/2, which all use.
struct Common {
    sender: http2::SendRequest<RequestBody>,
    since: Instant,
}

impl Common {
    fn may_be_joined(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.since);
        age < LONGEST_LIFE && !self.sender.is_closed()
    }
}

impl Pools {
    /// No connections yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Rc::new(Shared {
            clock,
            pools: RefCell::default(),
            scratch: Scratch::default(),
        }))
    }

    /// The gateway's clock.
    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Where the worker's connections read.
    pub fn scratch(&self) -> Scratch {
        self.0.scratch.clone()
    }

    /// An idle HTTP/1.1 connection: the one used last, which is the likeliest to be open still.
    pub(super) fn take(&self, endpoint: EndpointId, now: Instant) -> Option<Http1> {
        let mut pools = self.0.pools.borrow_mut();
        let pool = pools.get_mut(&endpoint)?;
        while let Some(mut idle) = pool.idle.pop() {
            if idle.may_serve(now) {
                return Some(idle.connection);
            }
        }
        None
    }

    /// The HTTP/2 connection, if one is open.
    pub(super) fn http2(
        &self,
        endpoint: EndpointId,
        now: Instant,
    ) -> Option<http2::SendRequest<RequestBody>> {
        let pools = self.0.pools.borrow();
        let common = pools.get(&endpoint)?.http2.as_ref()?;
        common.may_be_joined(now).then(|| common.sender.clone())
    }

    /// Keeps the HTTP/2 connection for others.
    pub(super) fn keep_http2(&self, endpoint: EndpointId, sender: http2::SendRequest<RequestBody>) {
        let since = self.0.clock.instant();
        let mut pools = self.0.pools.borrow_mut();
        pools.entry(endpoint).or_default().http2 = Some(Common { sender, since });
    }

    /// Forgets the HTTP/2 connection, so that the next request makes another.
    pub(super) fn forget_http2(&self, endpoint: EndpointId) {
        if let Some(pool) = self.0.pools.borrow_mut().get_mut(&endpoint) {
            pool.http2 = None;
        }
    }

    /// Closes connections that have been idle for too long. To be called now and then.
    pub fn tidy(&self) {
        let now = self.0.clock.now().instant;
        self.0.pools.borrow_mut().retain(|_, pool| {
            pool.idle.retain_mut(|idle| {
                let may_serve = idle.may_serve(now);
                idle.connection.rest();
                may_serve
            });
            pool.http2.take_if(|common| !common.may_be_joined(now));
            !pool.idle.is_empty() || pool.http2.is_some()
        });
    }
}

/// The way of a connection back to its pool.
pub(super) struct Lease {
    pub(super) pools: Pools,
    pub(super) endpoint: EndpointId,
}

impl Lease {
    /// Gives a connection back that is free for another request.
    pub(super) fn give_back(self, connection: Http1) {
        let since = self.pools.0.clock.instant();
        let mut pools = self.pools.0.pools.borrow_mut();
        let pool = pools.entry(self.endpoint).or_default();
        if pool.idle.len() < MOST_IDLE {
            pool.idle.push(Idle { connection, since });
        }
    }
}
