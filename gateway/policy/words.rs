//! Regions of callers in the words of a policy: a row for each kind of caller, as a reviewer reads it.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::access::{Atom, Cube, Mask, Ranges, Region, Set, masks};
use super::callers::Callers;
use super::named::{Named, Register};
use super::reach::{MAPPED, ranges_of};
use crate::ids::{AppId, ObjectId, TenantId};
use crate::token::{AuthStrength, TokenKind};

/// One kind of caller: in words, and as values.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// For people.
    pub words: Words,
    /// For programs.
    #[serde(flatten)]
    pub callers: Callers,
    /// Some of these callers: what an example of them is taken from.
    #[serde(skip)]
    pub some: Cube,
}

/// One kind of caller in words. Each column is a phrase; `any` where nothing is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Words {
    /// The tenants.
    pub tenants: String,
    /// The apps.
    pub apps: String,
    /// App-only, delegated or both; `none` where no token is needed.
    pub tokens: String,
    /// What the token must hold beside: principals, strengths, roles, scopes, groups, audiences.
    pub needs: String,
    /// The networks.
    pub from: String,
    /// The conditions and times that it depends on; `always` if on none.
    pub when: String,
}

/// The columns of a table of rows.
pub const COLUMNS: [&str; 6] = ["TENANTS", "APPS", "TOKENS", "NEEDS", "FROM", "WHEN"];

impl Words {
    /// The phrases, in the order of [`COLUMNS`].
    pub fn cells(&self) -> [&str; 6] {
        [
            &self.tenants,
            &self.apps,
            &self.tokens,
            &self.needs,
            &self.from,
            &self.when,
        ]
    }
}

/// The names of one policy, or of two that are compared; the first that knows a name gives it.
#[derive(Clone, Copy, Debug)]
pub struct Naming<'n>(pub &'n [&'n Named]);

impl Naming<'_> {
    pub(super) fn tenant(&self, id: TenantId) -> Option<Arc<str>> {
        self.find(id, |named| &named.tenants)
    }

    pub(super) fn app(&self, id: AppId) -> Option<Arc<str>> {
        self.find(id, |named| &named.apps)
    }

    pub(super) fn principal(&self, id: ObjectId) -> Option<Arc<str>> {
        self.find(id, |named| &named.principals)
    }

    pub(super) fn group(&self, id: ObjectId) -> Option<Arc<str>> {
        self.find(id, |named| &named.groups)
    }

    fn find<T: Copy + Eq + Hash>(&self, id: T, of: fn(&Named) -> &Register<T>) -> Option<Arc<str>> {
        let mut known = self.0.iter().filter_map(|named| of(named).name(id));
        known.next().cloned()
    }

    /// A name as people read it: with the ID where the policies call two different things by it.
    fn shown<T>(&self, id: T, of: fn(&Named) -> &Register<T>) -> String
    where
        T: Copy + Eq + Hash + ToString,
    {
        let Some(name) = self.find(id, of) else {
            return id.to_string();
        };
        let other = |named: &&Named| of(named).id(&name).is_some_and(|other| other != id);
        match self.0.iter().any(other) {
            true => format!("{name} ({})", id.to_string()),
            false => name.to_string(),
        }
    }
}

/// The rows of a region, in an order of their own. Rows that differ only in which one of several roles,
/// scopes or groups is needed become one. `audiences` are those that every caller of the route needs,
/// and go without saying.
pub fn rows(region: &Region, naming: Naming<'_>, audiences: &[Box<str>]) -> Vec<Row> {
    let usual = Set::only(audiences.iter().cloned());
    let mut alternatives: BTreeMap<(Cube, Option<Kind>), Vec<Atom>> = BTreeMap::new();
    for cube in region.clone().simplified().cubes() {
        // A single thing that is needed is an alternative to any other single thing of its kind.
        let needed = cube.atoms.iter().filter(|(_, mask)| **mask == masks::TRUE);
        let needed: Vec<(Kind, &Atom)> = needed
            .filter_map(|(atom, _)| Some((Kind::of(atom)?, atom)))
            .collect();
        match needed.as_slice() {
            [(kind, one)] => {
                let mut others = cube.clone();
                others.atoms.remove(one);
                let any_of = alternatives.entry((others, Some(*kind))).or_default();
                any_of.push((*one).clone());
            }
            _ => drop(alternatives.insert((cube.clone(), None), Vec::new())),
        }
    }
    let rows = alternatives
        .into_iter()
        .map(|((cube, _), any_of)| row(cube, &any_of, naming, &usual));
    let mut rows: Vec<Row> = rows.collect();
    rows.sort_by(|one, other| one.words.cmp(&other.words));
    rows
}

/// What may be one of several that would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Role,
    Scope,
    Group,
}

impl Kind {
    fn of(atom: &Atom) -> Option<Self> {
        match atom {
            Atom::Role(_) => Some(Self::Role),
            Atom::Scope(_) => Some(Self::Scope),
            Atom::Group(_) => Some(Self::Group),
            Atom::GroupOverage | Atom::When(_) => None,
        }
    }
}

fn row(cube: Cube, any_of: &[Atom], naming: Naming<'_>, usual: &Set<Box<str>>) -> Row {
    let words = Words {
        tenants: set(&cube.tenants, |id| {
            naming.shown(*id, |named| &named.tenants)
        }),
        apps: set(&cube.apps, |id| naming.shown(*id, |named| &named.apps)),
        tokens: match (
            cube.callers.covers(masks::ANONYMOUS),
            cube.callers.covers(masks::AUTHENTICATED),
        ) {
            (true, true) => "none needed".to_owned(),
            (true, false) => "only without one".to_owned(),
            (false, _) => kinds(cube.kinds),
        },
        needs: needs(&cube, any_of, naming, usual),
        from: addresses(&cube.addresses, naming),
        when: when(&cube),
    };
    let callers = Callers::of(&cube, any_of, naming);
    let mut some = cube;
    some.atoms
        .extend(any_of.first().map(|one| (one.clone(), masks::TRUE)));
    Row {
        words,
        callers,
        some,
    }
}

fn set<T: Ord + Clone>(set: &Set<T>, name: impl Fn(&T) -> String) -> String {
    let names = |values: &std::collections::BTreeSet<T>| {
        let mut names: Vec<String> = values.iter().map(&name).collect();
        names.sort();
        names.join(", ")
    };
    match set {
        Set::Only(values) => names(values),
        Set::AllBut(values) if values.is_empty() => "any".to_owned(),
        Set::AllBut(values) => format!("any but {}", names(values)),
    }
}

fn kinds(mask: Mask) -> String {
    let kinds = TokenKind::ALL.iter().filter(|kind| mask.has(kind.bit()));
    let kinds: Vec<&str> = kinds.map(|kind| kind.as_str()).collect();
    match mask == masks::KINDS {
        true => "any".to_owned(),
        false => kinds.join(", "),
    }
}

fn needs(cube: &Cube, any_of: &[Atom], naming: Naming<'_>, usual: &Set<Box<str>>) -> String {
    let mut needs = Vec::new();
    if !cube.principals.is_any() {
        let names = set(&cube.principals, |id| {
            naming.shown(*id, |named| &named.principals)
        });
        needs.push(format!("principal {names}"));
    }
    if cube.strengths != masks::STRENGTHS {
        let ways = AuthStrength::ALL.iter();
        let ways = ways.filter(|way| cube.strengths.has(way.bit()));
        let ways: Vec<&str> = ways.map(|way| way.as_str()).collect();
        needs.push(format!("app proved by {}", ways.join(" or ")));
    }
    let named = |atom: &Atom| match atom {
        Atom::Role(role) => format!("role {role}"),
        Atom::Scope(scope) => format!("scope {scope}"),
        Atom::Group(group) => format!("group {}", naming.shown(*group, |named| &named.groups)),
        Atom::GroupOverage => "more groups than it lists".to_owned(),
        Atom::When(condition) => condition.to_string(),
    };
    if !any_of.is_empty() {
        let mut names: Vec<String> = any_of.iter().map(named).collect();
        names.sort();
        needs.push(names.join(" or "));
    }
    // That the groups are listed goes without saying where one of them is needed.
    let listed = any_of
        .iter()
        .chain(
            cube.atoms
                .iter()
                .filter_map(|(atom, mask)| (*mask == masks::TRUE).then_some(atom)),
        )
        .any(|atom| matches!(atom, Atom::Group(_)));
    for (atom, mask) in &cube.atoms {
        if matches!(atom, Atom::When(_)) || (listed && *atom == Atom::GroupOverage) {
            continue;
        }
        needs.push(match *mask == masks::TRUE {
            true => named(atom),
            false => format!("no {}", named(atom)),
        });
    }
    if !cube.audiences.is_any() && cube.audiences != *usual {
        needs.push(format!(
            "audience {}",
            set(&cube.audiences, ToString::to_string)
        ));
    }
    match needs.is_empty() {
        true => "nothing more".to_owned(),
        false => needs.join("; "),
    }
}

fn addresses(addresses: &Ranges<u128>, naming: Naming<'_>) -> String {
    if addresses.is_any() {
        return "anywhere".to_owned();
    }
    let outside = Ranges::any().minus(addresses);
    let inside = places(addresses, naming);
    let outside = places(&outside, naming);
    // What is shorter reads better.
    match inside.len() <= outside.len() {
        true => inside.join(", "),
        false => format!("anywhere but {}", outside.join(", ")),
    }
}

/// Names of networks where they fit, and CIDR notation for the rest.
fn places(addresses: &Ranges<u128>, naming: Naming<'_>) -> Vec<String> {
    let mut left = addresses.clone();
    let mut places = Vec::new();
    let named = naming.0.iter().flat_map(|named| named.networks());
    for (name, networks) in named {
        let own = ranges_of(networks.iter());
        let mut others = naming.0.iter().flat_map(|named| named.networks());
        let clashes =
            others.any(|(other, theirs)| other == name && ranges_of(theirs.iter()) != own);
        if !own.is_empty() && !clashes && left.covers(&own) {
            left = left.minus(&own);
            places.push(name.to_string());
        }
    }
    places.sort();
    let text = |net: IpNet| match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    };
    places.extend(networks_of(&left).into_iter().map(text));
    places
}

/// Addresses as networks, in the reading of policies: an IPv6 network holds no IPv4 address.
pub(super) fn networks_of(addresses: &Ranges<u128>) -> Vec<IpNet> {
    let mapped = Ranges::of([MAPPED]);
    let v4 = addresses.intersection(&mapped);
    let mut v6 = addresses.minus(&mapped);
    let (before, behind) = (MAPPED.0.saturating_sub(1), MAPPED.1.saturating_add(1));
    if v6.contains(before) && v6.contains(behind) {
        // No hole, for what would be in it is no IPv6 address.
        v6 = v6.union(&mapped);
    }
    let v4 = v4.iter().flat_map(|(first, last)| {
        let address = |number| Ipv6Addr::from_bits(number).to_ipv4_mapped();
        let ends = address(first).zip(address(last));
        ends.into_iter()
            .flat_map(|(first, last)| Ipv4Subnets::new(first, last, 0))
            .map(IpNet::V4)
    });
    let v6 = v6.iter().flat_map(|(first, last)| {
        let ends = (Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last));
        Ipv6Subnets::new(ends.0, ends.1, 0).map(IpNet::V6)
    });
    v4.chain(v6).collect()
}

fn when(cube: &Cube) -> String {
    let mut phrases: Vec<String> = cube
        .atoms
        .iter()
        .filter_map(|(atom, mask)| match atom {
            Atom::When(condition) => Some(hanging_on(condition, *mask)),
            Atom::Role(_) | Atom::Scope(_) | Atom::Group(_) | Atom::GroupOverage => None,
        })
        .collect();
    if !cube.times.is_any() {
        let spans = cube.times.iter().map(|(first, last)| match (first, last) {
            (0, last) => format!("until {}", timestamp(last.saturating_add(1))),
            (first, u64::MAX) => format!("from {}", timestamp(first)),
            (first, last) => format!(
                "from {} until {}",
                timestamp(first),
                timestamp(last.saturating_add(1))
            ),
        });
        phrases.push(spans.collect::<Vec<_>>().join(" or "));
    }
    match phrases.is_empty() {
        true => "always".to_owned(),
        false => phrases.join("; "),
    }
}

/// What a condition must come to. One that may come to anything is not asked about.
fn hanging_on(condition: &str, mask: Mask) -> String {
    let [can_hold, can_be_false, can_fail] =
        [masks::TRUE, masks::FALSE, masks::FAILED].map(|value| mask.covers(value));
    match (can_hold, can_be_false, can_fail) {
        (true, false, false) => format!("if {condition}"),
        (false, true, false) => format!("if not ({condition})"),
        (false, false, _) => format!("if ({condition}) cannot be evaluated"),
        (false, true, true) => format!("unless {condition}"),
        (true, false, true) => format!("unless ({condition}) is false"),
        (true, true, _) => format!("if ({condition}) can be evaluated"),
    }
}

/// A point in time as RFC 3339 writes it, in UTC.
pub fn timestamp(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    let text = time.and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| "the end of time".to_owned())
}

/// An address from its number: IPv4 where it is one.
pub fn address(number: u128) -> IpAddr {
    let v6 = Ipv6Addr::from_bits(number);
    match v6.to_ipv4_mapped() {
        Some(v4) => IpAddr::V4(v4),
        None => IpAddr::V6(v6),
    }
}
