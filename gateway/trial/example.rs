//! A caller of a region as a request that somebody could send: the example that shows a difference.

use std::time::Duration;

use http::{HeaderMap, Method, Version};
use uuid::Uuid;

use super::token::TokenSpec;
use super::{Caller, Question};
use crate::ids::{AppId, ObjectId, TenantId};
use crate::policy::access::{Atom, Point, TokenPoint};
use crate::policy::{Witness, words};

/// An ID that was never given to anybody, for what no policy names.
const NOBODY: Uuid = Uuid::from_u128(0x4e4f_424f_4459_0000_8000_0000_0000_0002);

/// The request that a caller of a region would send, to a host and path that stand for others. What
/// conditions come to is not in it: nobody but their authors knows what makes them true.
pub fn example(point: &Point, witness: &Witness, method: &Method) -> Question {
    let now = Duration::from_secs(point.time);
    Question {
        method: method.clone(),
        host: witness.host.clone(),
        target: witness.path.clone(),
        headers: HeaderMap::new(),
        client: words::address(point.address),
        now,
        version: Version::HTTP_11,
        caller: match &point.token {
            None => Caller::Nobody,
            Some(token) => Caller::Claims(spec(token, now).claims()),
        },
    }
}

/// What the token of a caller says.
pub fn spec(token: &TokenPoint, now: Duration) -> TokenSpec {
    let tenant = token.tenant.unwrap_or(TenantId::new(NOBODY));
    let app = token.app.unwrap_or(AppId::new(NOBODY));
    let audience = token.audience.as_deref().unwrap_or("api://nobody");
    let mut spec = TokenSpec::new(tenant, app, audience, now);
    spec.principal = Some(token.principal.unwrap_or(ObjectId::new(NOBODY)));
    spec.kind = token.kind;
    spec.strength = token.strength;
    for atom in &token.has {
        match atom {
            Atom::Role(role) => spec.roles.push(role.to_string()),
            Atom::Scope(scope) => spec.scopes.push(scope.to_string()),
            Atom::Group(group) => spec.groups.push(group.to_string()),
            Atom::GroupOverage => spec.group_overage = true,
            Atom::When(_) => {}
        }
    }
    spec
}
