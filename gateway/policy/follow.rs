//! Sealed URLs: who follows one is authorised as the request that it was given in answer to would be now.

use std::time::Duration;

use http::Method;

use super::routes::{Matched, Policy, Route, Unmatched};
use crate::canonical::canonical_path;
use crate::denial::{Denial, Reason, allow_field};
use crate::entra::Principal;
use crate::ids::{AppId, TenantId};
use crate::seal::{Link, Methods, Signed};

/// Whom a sealed URL was given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    tenant: Option<TenantId>,
    app: Option<AppId>,
}

impl Bound {
    /// Whether this caller may follow it. One that was given to nobody known is for whoever the route lets
    /// in.
    pub(super) fn admits(self, caller: Option<&Principal>) -> bool {
        let Some(tenant) = self.tenant else {
            return true;
        };
        caller.is_some_and(|caller| caller.tenant() == tenant && Some(caller.app()) == self.app)
    }
}

impl Policy {
    /// The path at the gateway of what lies at a canonical path of a route's backend, if another route takes
    /// it as it is: by that one's rules it is decided on, and by no link's.
    pub fn published(
        &self,
        route: &Route,
        host: &str,
        method: &Method,
        at_backend: &str,
    ) -> Option<String> {
        let path = route.at_gateway(at_backend)?;
        let other = self.find(host, method, path).ok()?;
        let is_other = other.route.id != route.id && other.route.backend == route.backend;
        (is_other && other.rewritten().is_none()).then(|| path.to_owned())
    }

    /// The route that a sealed URL belongs to, if it may be followed with this method to `target`: its own,
    /// with the follower's values in it.
    ///
    /// # Errors
    /// When the request that it was given in answer to finds another route now, or none; when it has come
    /// to its end at `now`; when it is followed with another method; and when it leads to what no caller may
    /// reach, or without a key to what another route takes.
    pub fn follow(
        &self,
        link: &Link,
        target: &str,
        method: &Method,
        now: Duration,
    ) -> Result<Matched<'_>, Unmatched> {
        let issued = &link.issued;
        let mut matched = self.find(&issued.host, &issued.method, &issued.path)?;
        let path = target.split('?').next().unwrap_or_default();
        let route = matched.route;
        let may = **route.name() == *issued.route
            && route.may_be_followed_to(path)
            && (link.signed != Signed::None || self.leads_on(route, &issued.host, path));
        if !may {
            return Err(Unmatched::by(Reason::SealedUrlInvalid.into()));
        }
        if now >= link.expires {
            let denial = Denial::from(Reason::SealedUrlExpired);
            return Err(Unmatched::by(denial).within(matched.route));
        }
        if !link.methods.allow(method) {
            let methods = match &link.methods {
                Methods::Read => vec![Method::GET, Method::HEAD],
                Methods::Only(method) => vec![method.clone()],
            };
            let (name, value) = allow_field(&methods);
            let denial = Denial::from(Reason::MethodNotAllowed).field(name, value);
            return Err(Unmatched::by(denial).within(matched.route));
        }
        matched.bound = Some(Bound {
            tenant: issued.tenant,
            app: issued.app,
        });
        Ok(matched)
    }

    /// Whether a link that is followed with the gateway's own credential may lead to a path at the backend:
    /// to no door that its route has not named, and to nothing that another route decides on.
    fn leads_on(&self, route: &Route, host: &str, path: &str) -> bool {
        let Ok(path) = canonical_path(path) else {
            return false;
        };
        let guard = route.guard.as_ref();
        let at_gateway = route.at_gateway(&path);
        guard.is_none_or(|guard| guard.lets_reach(&path))
            && !at_gateway.is_some_and(|path| self.is_anothers(route, host, path))
    }
}
