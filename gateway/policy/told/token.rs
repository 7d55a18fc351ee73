//! The token of a caller of a region.

use std::time::Duration;

use uuid::Uuid;

use crate::entra::TokenSpec;
use crate::ids::{AppId, ObjectId, TenantId};
use crate::policy::access::{Atom, TokenPoint};

/// An ID that was never given to anybody, for what no policy names.
const NOBODY: Uuid = Uuid::from_u128(0x4e4f_424f_4459_0000_8000_0000_0000_0002);

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
