//! Regions of callers in the words of a policy: a row for each kind of caller, as a reviewer reads it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::access::{Atom, Cube, Mask, Ranges, Region, Set, masks};
use super::reach::ranges_of;
use super::routes::Named;
use crate::ids::{AppId, ObjectId, TenantId};
use crate::token::{AuthStrength, TokenKind};

/// One kind of caller. Each column is a phrase; `any` where nothing is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
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

impl Row {
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

/// Names of one policy or of several; the first that knows a name gives it.
#[derive(Clone, Copy, Debug)]
pub struct Naming<'n>(pub &'n [&'n Named]);

impl Naming<'_> {
    fn find<T: ToString + Copy>(
        &self,
        id: T,
        name: impl Fn(&Named, T) -> Option<&std::sync::Arc<str>>,
    ) -> String {
        let mut names = self.0.iter().filter_map(|named| name(named, id));
        names
            .next()
            .map_or_else(|| id.to_string(), |name| name.to_string())
    }

    fn tenant(&self, id: TenantId) -> String {
        self.find(id, Named::tenant)
    }

    fn app(&self, id: AppId) -> String {
        self.find(id, Named::app)
    }

    fn principal(&self, id: ObjectId) -> String {
        self.find(id, Named::principal)
    }

    fn group(&self, id: ObjectId) -> String {
        self.find(id, Named::group)
    }
}

/// The rows of a region, in an order of their own. Rows that differ only in which one of several roles,
/// scopes or groups is needed become one. `audiences` are those that every caller of the route needs,
/// and go without saying.
pub fn rows(region: &Region, naming: Naming<'_>, audiences: &[Box<str>]) -> Vec<Row> {
    let usual = Set::only(audiences.iter().cloned());
    let mut alternatives: BTreeMap<Cube, Vec<Atom>> = BTreeMap::new();
    for cube in region.clone().simplified().cubes() {
        let mut cube = cube.clone();
        if cube.audiences == usual {
            cube.audiences = Set::any();
        }
        // A single thing that is needed is an alternative to any other single thing of its kind.
        let needed: Vec<Atom> = cube
            .atoms
            .iter()
            .filter(|(atom, mask)| is_named(atom) && **mask == masks::TRUE)
            .map(|(atom, _)| atom.clone())
            .collect();
        match needed.as_slice() {
            [one] => {
                cube.atoms.remove(one);
                cube.atoms.insert(placeholder(one), masks::TRUE);
                alternatives.entry(cube).or_default().push(one.clone());
            }
            _ => drop(alternatives.insert(cube, Vec::new())),
        }
    }
    let mut rows: Vec<Row> = alternatives
        .iter()
        .map(|(cube, any_of)| row(cube, any_of, naming))
        .collect();
    rows.sort();
    rows.dedup();
    rows
}

fn is_named(atom: &Atom) -> bool {
    matches!(atom, Atom::Role(_) | Atom::Scope(_) | Atom::Group(_))
}

/// What stands for an alternative while rows are put together.
fn placeholder(atom: &Atom) -> Atom {
    match atom {
        Atom::Role(_) => Atom::Role(Box::default()),
        Atom::Scope(_) => Atom::Scope(Box::default()),
        Atom::Group(_) => Atom::Group(ObjectId::new(uuid::Uuid::nil())),
        Atom::GroupOverage | Atom::When(_) => atom.clone(),
    }
}

fn row(cube: &Cube, any_of: &[Atom], naming: Naming<'_>) -> Row {
    let token_needed = !cube.callers.covers(masks::ANONYMOUS);
    Row {
        tenants: set(&cube.tenants, |id| naming.tenant(*id)),
        apps: set(&cube.apps, |id| naming.app(*id)),
        tokens: match token_needed {
            false => "none needed".to_owned(),
            true => kinds(cube.kinds),
        },
        needs: needs(cube, any_of, naming),
        from: addresses(&cube.addresses, naming),
        when: when(cube),
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

fn needs(cube: &Cube, any_of: &[Atom], naming: Naming<'_>) -> String {
    let mut needs = Vec::new();
    if !cube.principals.is_any() {
        let names = set(&cube.principals, |id| naming.principal(*id));
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
        Atom::Group(group) => format!("group {}", naming.group(*group)),
        Atom::GroupOverage => "more groups than it lists".to_owned(),
        Atom::When(condition) => condition.to_string(),
    };
    match any_of {
        [] => {}
        [one] => needs.push(named(one)),
        several => {
            let mut names: Vec<String> = several.iter().map(named).collect();
            names.sort();
            needs.push(names.join(" or "));
        }
    }
    for (atom, mask) in &cube.atoms {
        let stands_in = any_of.first().is_some_and(|one| placeholder(one) == *atom);
        // That the groups are listed goes without saying where one of them is needed.
        let listed = *atom == Atom::GroupOverage && *mask == masks::FALSE;
        if stands_in || listed || matches!(atom, Atom::When(_)) {
            continue;
        }
        needs.push(match *mask == masks::TRUE {
            true => named(atom),
            false => format!("no {}", named(atom)),
        });
    }
    if !cube.audiences.is_any() {
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
        if !own.is_empty() && left.covers(&own) {
            left = left.minus(&own);
            places.push(name.to_string());
        }
    }
    places.sort();
    places.extend(left.iter().flat_map(|(first, last)| subnets(first, last)));
    places
}

fn subnets(first: u128, last: u128) -> Vec<String> {
    let v4 = |number: u128| Ipv6Addr::from_bits(number).to_ipv4_mapped();
    let text = |net: IpNet| match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    };
    match (v4(first), v4(last)) {
        (Some(first), Some(last)) => Ipv4Subnets::new(first, last, 0)
            .map(|net| text(IpNet::V4(net)))
            .collect(),
        _ => Ipv6Subnets::new(Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last), 0)
            .map(|net| text(IpNet::V6(net)))
            .collect(),
    }
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
