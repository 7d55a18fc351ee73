//! Kinds of callers as values, for programs: what `who-can`, `what-can` and `diff` write as JSON.

use std::sync::Arc;

use serde::Serialize;

use super::access::{Atom, Cube, Mask, Ranges, Set, masks};
use super::words::{Naming, networks_of, timestamp};
use crate::ids::ObjectId;
use crate::token::{AuthStrength, TokenKind};

/// One kind of caller: whoever meets all of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Callers {
    /// Whether it takes a token to be one of them: `required`, `optional` or `absent`.
    token: &'static str,
    tenants: Choice<Id>,
    apps: Choice<Id>,
    principals: Choice<Id>,
    token_kinds: Vec<&'static str>,
    auth_strengths: Vec<&'static str>,
    audiences: Choice<Box<str>>,
    roles: Held<Box<str>>,
    scopes: Held<Box<str>>,
    groups: Held<Id>,
    /// Whether the token has more groups than it lists; `null` where either will do.
    group_overage: Option<bool>,
    /// In CIDR notation; an IPv6 network holds no IPv4 address.
    from: Choice<String>,
    /// One of these spans must hold the time of the request.
    times: Vec<Span>,
    /// What conditions must come to; those that play no part are left out.
    when: Vec<Condition>,
}

/// Some of all values.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Choice<T> {
    /// These.
    Only(Vec<T>),
    /// All but these; every value where there are none.
    AllBut(Vec<T>),
}

/// An ID, and what the policy calls it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Id {
    /// First, so that values are in the order of the alphabet.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    id: String,
}

/// What a list of the token must hold.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Held<T> {
    /// At least one of these; not asked for if it is empty.
    any_of: Vec<T>,
    all_of: Vec<T>,
    none_of: Vec<T>,
}

/// From when until when, in UTC; `null` where it has no bound.
#[derive(Clone, Debug, Serialize)]
struct Span {
    from: Option<String>,
    /// It ends just before.
    until: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Condition {
    /// In its normal form.
    condition: Box<str>,
    /// Any of `true`, `false` and `failed`.
    is: Vec<&'static str>,
}

impl Callers {
    /// The callers in a cube who also have one of `any_of`, where that names some.
    pub(super) fn of(cube: &Cube, any_of: &[Atom], naming: Naming<'_>) -> Self {
        let kinds = TokenKind::ALL.iter();
        let strengths = AuthStrength::ALL.iter();
        let group = |id: &ObjectId| Id::new(naming.group(*id), id);
        Self {
            token: match (
                cube.callers.covers(masks::ANONYMOUS),
                cube.callers.covers(masks::AUTHENTICATED),
            ) {
                (true, true) => "optional",
                (true, false) => "absent",
                (false, _) => "required",
            },
            tenants: Choice::of(&cube.tenants, |id| Id::new(naming.tenant(*id), id)),
            apps: Choice::of(&cube.apps, |id| Id::new(naming.app(*id), id)),
            principals: Choice::of(&cube.principals, |id| Id::new(naming.principal(*id), id)),
            token_kinds: kinds
                .filter(|kind| cube.kinds.has(kind.bit()))
                .map(|kind| kind.as_str())
                .collect(),
            auth_strengths: strengths
                .filter(|way| cube.strengths.has(way.bit()))
                .map(|way| way.as_str())
                .collect(),
            audiences: Choice::of(&cube.audiences, Clone::clone),
            roles: Held::of(cube, any_of, |atom| match atom {
                Atom::Role(role) => Some(role.clone()),
                _ => None,
            }),
            scopes: Held::of(cube, any_of, |atom| match atom {
                Atom::Scope(scope) => Some(scope.clone()),
                _ => None,
            }),
            groups: Held::of(cube, any_of, |atom| match atom {
                Atom::Group(id) => Some(group(id)),
                _ => None,
            }),
            group_overage: cube
                .atoms
                .get(&Atom::GroupOverage)
                .map(|mask| *mask == masks::TRUE),
            from: Choice::of_addresses(&cube.addresses),
            times: cube.times.iter().map(Span::of).collect(),
            when: conditions(cube),
        }
    }
}

impl<T: Ord> Choice<T> {
    fn of<V: Ord + Clone>(set: &Set<V>, shown: impl Fn(&V) -> T) -> Self {
        let sorted = |values: &std::collections::BTreeSet<V>| {
            let mut shown: Vec<T> = values.iter().map(&shown).collect();
            shown.sort();
            shown
        };
        match set {
            Set::Only(values) => Self::Only(sorted(values)),
            Set::AllBut(values) => Self::AllBut(sorted(values)),
        }
    }
}

impl Choice<String> {
    fn of_addresses(addresses: &Ranges<u128>) -> Self {
        let shown = |addresses| {
            let networks = networks_of(addresses).into_iter();
            networks
                .map(|network| network.to_string())
                .collect::<Vec<_>>()
        };
        let inside = shown(addresses);
        let outside = shown(&Ranges::any().minus(addresses));
        match inside.len() <= outside.len() {
            true => Self::Only(inside),
            false => Self::AllBut(outside),
        }
    }
}

impl Id {
    fn new(name: Option<Arc<str>>, id: &impl ToString) -> Self {
        Self {
            name: name.map(|name| name.to_string()),
            id: id.to_string(),
        }
    }
}

impl<T: Ord> Held<T> {
    fn of(cube: &Cube, any_of: &[Atom], of_this_kind: impl Fn(&Atom) -> Option<T>) -> Self {
        let atoms = |value: Mask| {
            let atoms = cube.atoms.iter().filter(move |(_, mask)| **mask == value);
            let mut atoms: Vec<T> = atoms.filter_map(|(atom, _)| of_this_kind(atom)).collect();
            atoms.sort();
            atoms
        };
        let mut any_of: Vec<T> = any_of.iter().filter_map(&of_this_kind).collect();
        any_of.sort();
        Self {
            any_of,
            all_of: atoms(masks::TRUE),
            none_of: atoms(masks::FALSE),
        }
    }
}

impl Span {
    fn of((first, last): (u64, u64)) -> Self {
        Self {
            from: (first > 0).then(|| timestamp(first)),
            until: last.checked_add(1).map(timestamp),
        }
    }
}

fn conditions(cube: &Cube) -> Vec<Condition> {
    let values = [
        (masks::TRUE, "true"),
        (masks::FALSE, "false"),
        (masks::FAILED, "failed"),
    ];
    let conditions = cube.atoms.iter().filter_map(|(atom, mask)| match atom {
        Atom::When(condition) => {
            let is = values.iter().filter(|(value, _)| mask.covers(*value));
            Some(Condition {
                condition: condition.clone(),
                is: is.map(|(_, name)| *name).collect(),
            })
        }
        Atom::Role(_) | Atom::Scope(_) | Atom::Group(_) | Atom::GroupOverage => None,
    });
    conditions.collect()
}
