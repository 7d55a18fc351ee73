//! The decision: deny by default, allow by a rule of which every condition holds.

use std::sync::Arc;

use super::routes::{Access, Matched, Rule};
use crate::denial::{Denial, Reason};
use crate::entra::Principal;

/// What the policy says of a request, with its reason.
#[derive(Debug)]
pub enum Decision<'p> {
    /// Let in.
    Allow(Authorized<'p>),
    /// Kept out.
    Deny(Denial),
}

/// Why a request was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// The route is public.
    Public,
    /// The allow rule of this index.
    Rule(usize),
}

/// The proof that a request was let in. Only a decision makes it.
#[derive(Debug)]
pub struct Authorized<'p> {
    matched: Matched<'p>,
    principal: Option<Arc<Principal>>,
    grounds: Grounds,
}

impl<'p> Authorized<'p> {
    /// The route that matched, which is the route that was decided on.
    pub fn matched(&self) -> &Matched<'p> {
        &self.matched
    }

    /// Who calls; nobody known on a public route.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.as_ref()
    }

    /// Why it was let in.
    pub fn grounds(&self) -> Grounds {
        self.grounds
    }
}

impl<'p> Matched<'p> {
    /// Decides. The outcome of authentication is an input: a public route does not ask for it.
    pub fn decide(self, caller: Result<Arc<Principal>, Denial>) -> Decision<'p> {
        let rules = match &self.route.access {
            Access::Public => {
                return Decision::Allow(Authorized {
                    principal: caller.ok(),
                    grounds: Grounds::Public,
                    matched: self,
                });
            }
            Access::Rules(rules) => rules,
        };
        let principal = match caller {
            Ok(principal) => principal,
            Err(denial) => return Decision::Deny(denial),
        };
        match rules.iter().position(|rule| rule.judge(&principal).is_ok()) {
            Some(rule) => Decision::Allow(Authorized {
                matched: self,
                principal: Some(principal),
                grounds: Grounds::Rule(rule),
            }),
            None => Decision::Deny(refuse(rules, &principal)),
        }
    }
}

impl<'p> Decision<'p> {
    /// Turns the decision into the proof or the refusal.
    ///
    /// # Errors
    /// The denial, if the policy keeps the request out.
    pub fn enforce(self) -> Result<Authorized<'p>, Denial> {
        match self {
            Self::Allow(authorized) => Ok(authorized),
            Self::Deny(denial) => Err(denial),
        }
    }
}

/// How far a rule went before it did not hold: the further, the more useful it is to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Short {
    Tenant,
    App,
    Role,
    Scope,
}

impl Rule {
    fn judge(&self, principal: &Principal) -> Result<(), Short> {
        if !self.tenants.contains(&principal.tenant()) {
            return Err(Short::Tenant);
        }
        if !self.apps.is_empty() && !self.apps.contains(&principal.app()) {
            return Err(Short::App);
        }
        if !self.roles.is_empty() && !self.roles.iter().any(|role| principal.has_role(role)) {
            return Err(Short::Role);
        }
        if !self.scopes.is_empty() && !self.scopes.iter().any(|scope| principal.has_scope(scope)) {
            return Err(Short::Scope);
        }
        Ok(())
    }
}

/// The denial of the rule that came closest.
fn refuse(rules: &[Rule], principal: &Principal) -> Denial {
    let short = rules
        .iter()
        .filter_map(|rule| Some((rule.judge(principal).err()?, rule)));
    // The first of the closest, so that the order of rules does not change what callers see less
    // than it must: any of them is true.
    let closest = short.reduce(|best, next| if next.0 > best.0 { next } else { best });
    let named = |wanted: &[Box<str>]| wanted.join(" ");
    match closest {
        None | Some((Short::Tenant, _)) => Denial::from(Reason::TenantNotAllowed)
            .expected("a tenant of a rule", principal.tenant().to_string()),
        Some((Short::App, _)) => Denial::from(Reason::AppNotAllowed)
            .expected("an app of a rule", principal.app().to_string()),
        Some((Short::Role, rule)) => Denial::from(Reason::RoleMissing).expected(
            format!("one of the roles: {}", named(&rule.roles)),
            "none of them",
        ),
        Some((Short::Scope, rule)) => Denial::from(Reason::ScopeMissing)
            .scope(named(&rule.scopes))
            .expected(
                format!("one of the scopes: {}", named(&rule.scopes)),
                "none of them",
            ),
    }
}
