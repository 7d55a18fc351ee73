//! A connection on which another protocol is spoken lasts no longer than its caller would be let in: the request that
//! it began with is decided on again and again, by the policy that is then in force.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderMap;

use super::{Asked, Read, Worker, decide};
use crate::clock::{Clock, pause};
use crate::denial::Reason;
use crate::drain::Drain;
use crate::entra::{Entra, LastToken};
use crate::policy::Authorized;
use crate::snapshot::Snapshot;
use crate::upstream::{Backend, EndpointId};

/// How often it is decided on again.
const DECIDE_EVERY: Duration = Duration::from_secs(1);

/// What is asked for again and again.
pub(super) struct Upgraded {
    read: Box<Read>,
    /// The names of the route that let it in and of its backend.
    route: Arc<str>,
    backend: Arc<str>,
    last: LastToken,
    entra: Arc<Entra>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    clock: Arc<dyn Clock>,
    drain: Drain,
}

impl Upgraded {
    /// Of a request that was let in, with the fields that it had.
    pub(super) fn new(
        worker: &Worker,
        mut read: Box<Read>,
        fields: HeaderMap,
        authorized: &Authorized<'_>,
        backend: &Backend,
    ) -> Self {
        *read.request.headers_mut() = fields;
        Self {
            read,
            route: Arc::clone(authorized.matched().route().name()),
            backend: Arc::clone(backend.name()),
            last: LastToken::default(),
            entra: Arc::clone(&worker.entra),
            snapshot: Arc::clone(&worker.snapshot),
            clock: Arc::clone(&worker.clock),
            drain: worker.drain.clone(),
        }
    }

    /// Completes when it is to end, with why the caller would not be let in any more, or would not get to that endpoint,
    /// or without a reason when the gateway leaves.
    pub(super) async fn ends(self, endpoint: EndpointId) -> Option<Reason> {
        let refused = async {
            loop {
                pause(DECIDE_EVERY).await;
                if let Some(reason) = self.refusal(endpoint).await {
                    return reason;
                }
            }
        };
        tokio::select! {
            reason = refused => Some(reason),
            () = self.drain.draining() => None,
        }
    }

    /// Why the caller would not be let in now.
    async fn refusal(&self, endpoint: EndpointId) -> Option<Reason> {
        let snapshot = self.snapshot.load_full();
        let asked = Asked {
            request: &self.read.request,
            last: &self.last,
            lasts: true,
            lookup: &std::cell::Cell::new(None),
            opened: None,
            entry: None,
        };
        let now = self.clock.now();
        let decision = decide(&self.entra, &snapshot.rules, &asked, None, &now).await;
        let decided = decision.map_err(|unrouted| unrouted.denial);
        let authorized = match decided.and_then(|decision| decision.enforce()) {
            Ok(authorized) => authorized,
            Err(denial) => return Some(denial.reason()),
        };
        let route = authorized.matched().route();
        let backend = snapshot.backends.of(&authorized);
        let leads_here =
            *route.name() == self.route && *backend.name() == self.backend && backend.has(endpoint);
        (!leads_here).then_some(Reason::RouteNotFound)
    }
}
