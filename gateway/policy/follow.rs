//! Sealed URLs: who follows one is authorised as the request that it was given in answer to would be now.

use std::time::Duration;

use http::Method;

use super::routes::{Matched, Policy, Unmatched};
use crate::denial::{Denial, Reason, allow_field};
use crate::entra::Principal;
use crate::ids::{AppId, TenantId};
use crate::seal::{Link, Methods};

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
    /// The route that a sealed URL belongs to, if it may be followed with this method to `target`: its own,
    /// with the follower's values in it.
    ///
    /// # Errors
    /// When the request that it was given in answer to finds another route now, or none; when it has come
    /// to its end at `now`; when it is followed with another method; and when it leads to what no caller may reach.
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
        if **matched.route.name() != *issued.route || !matched.route.may_be_followed_to(path) {
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
}
