//! Connections that are open and idle, of one worker. Nothing here is shared between threads.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http2;

use super::body::{Progress, RequestBody};
use super::connect::Http1;
use super::endpoint::EndpointId;
use crate::clock::Clock;

/// Azure's front ends close connections that are idle for 230 s; a connection that might just be
/// closing is not used.
const LONGEST_IDLE: Duration = Duration::from_secs(90);

/// Idle connections of one endpoint that a worker keeps.
const MOST_IDLE: usize = 256;

/// A worker's pools.
#[derive(Clone)]
pub struct Pools(Rc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    pools: RefCell<HashMap<EndpointId, Pool>>,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Idle>,
    http2: Option<http2::SendRequest<RequestBody>>,
}

struct Idle {
    connection: Http1,
    since: Instant,
}

impl Pools {
    /// No connections yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self(Rc::new(Shared {
            clock,
            pools: RefCell::default(),
        }))
    }

    /// An idle HTTP/1.1 connection: the one used last, which is the likeliest to be open still.
    pub(super) fn take(&self, endpoint: EndpointId, now: Instant) -> Option<Http1> {
        let mut pools = self.0.pools.borrow_mut();
        let pool = pools.get_mut(&endpoint)?;
        while let Some(Idle { connection, since }) = pool.idle.pop() {
            let idle = now.saturating_duration_since(since);
            if !connection.sender.is_closed() && idle < LONGEST_IDLE {
                return Some(connection);
            }
        }
        None
    }

    /// The HTTP/2 connection, if one is open.
    pub(super) fn http2(&self, endpoint: EndpointId) -> Option<http2::SendRequest<RequestBody>> {
        let pools = self.0.pools.borrow();
        let sender = pools.get(&endpoint)?.http2.as_ref()?;
        (!sender.is_closed()).then(|| sender.clone())
    }

    /// Keeps the HTTP/2 connection for others.
    pub(super) fn keep_http2(&self, endpoint: EndpointId, sender: http2::SendRequest<RequestBody>) {
        self.0.pools.borrow_mut().entry(endpoint).or_default().http2 = Some(sender);
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
            pool.idle.retain(|idle| {
                !idle.connection.sender.is_closed()
                    && now.saturating_duration_since(idle.since) < LONGEST_IDLE
            });
            pool.http2 = pool.http2.take().filter(|sender| !sender.is_closed());
            !pool.idle.is_empty() || pool.http2.is_some()
        });
    }
}

/// A connection in use, and the way back to its pool.
pub(super) struct Lease {
    pub(super) pools: Pools,
    pub(super) endpoint: EndpointId,
    pub(super) connection: Http1,
    pub(super) request: Progress,
}

impl Lease {
    /// Gives the connection back, unless the caller's body is still on its way: the next request on it
    /// would wait for that.
    pub(super) fn give_back(self) {
        if !self.request.is_whole() || self.connection.sender.is_closed() {
            return;
        }
        let since = self.pools.0.clock.now().instant;
        let mut pools = self.pools.0.pools.borrow_mut();
        let pool = pools.entry(self.endpoint).or_default();
        if pool.idle.len() < MOST_IDLE {
            pool.idle.push(Idle {
                connection: self.connection,
                since,
            });
        }
    }
}
