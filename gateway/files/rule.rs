//! Rules as they are written: whom one describes, when it holds, and who answers for it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::decode::{Table, list, scalar, spanned, warn_of_repeats};
use super::diagnostics::Diagnostics;
use super::node::{Node, Value};
use super::source::Spanned;
use super::values::{choice, text, token};
use crate::token::{AuthStrength, TokenKind};

/// A rule of `allow` or `deny`. All its conditions must hold; an empty list is a condition that was
/// not written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Names of tenants. In an allow rule never empty.
    pub tenants: Vec<Spanned<String>>,
    /// Names of client applications.
    pub apps: Vec<Spanned<String>>,
    /// Names of principals (`oid`).
    pub principals: Vec<Spanned<String>>,
    /// App-only or delegated.
    pub token_kinds: Vec<Spanned<TokenKind>>,
    /// How the app proved itself.
    pub auth_strength: Vec<Spanned<AuthStrength>>,
    /// Roles (`roles`).
    pub roles: Wanted,
    /// Scopes (`scp`).
    pub scopes: Wanted,
    /// Names of groups (`groups`).
    pub groups: Wanted,
    /// Where the caller connects from.
    pub from: Vec<Spanned<Network>>,
    /// A CEL expression.
    pub when: Option<Spanned<String>>,
    /// Whether the rule acts, or is only recorded. Acts where it is absent.
    pub mode: Option<Spanned<Mode>>,
    /// From when on the rule holds, since the Unix epoch.
    pub not_before: Option<Spanned<Duration>>,
    /// From when on it holds no more, since the Unix epoch.
    pub expires: Option<Spanned<Duration>>,
    /// Who answers for it.
    pub owner: Option<Spanned<String>>,
    /// Why it is there.
    pub reason: Option<Spanned<String>>,
}

/// What a token must hold of a list: one of these, and all of those.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// At least one of them; no condition if it is empty.
    pub any_of: Vec<Spanned<String>>,
    /// Every one of them.
    pub all_of: Vec<Spanned<String>>,
}

impl Wanted {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.any_of.is_empty() && self.all_of.is_empty()
    }

    /// All names in it.
    pub fn names(&self) -> impl Iterator<Item = &Spanned<String>> {
        self.any_of.iter().chain(&self.all_of)
    }
}

/// Whether a route or rule acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// It acts.
    #[default]
    Enforce,
    /// What it would do is recorded and counted, and not done.
    ReportOnly,
}

/// Where callers connect from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// A name from `networks`.
    Name(String),
    /// A network in CIDR notation.
    Cidr(IpNet),
}

/// A rule of `allow`, which must name tenants.
pub(super) fn allow_rule(node: &Node, d: &mut Diagnostics) -> Option<Rule> {
    let before = d.errors();
    let read = rule(node, d)?;
    if read.tenants.is_empty() && d.errors() == before {
        d.error(&node.title, "the key `tenants` is missing here")
            .help("name the tenants: a rule without them would let every tenant in");
        return None;
    }
    Some(read)
}

/// A rule of `deny`, which must say something.
pub(super) fn deny_rule(node: &Node, d: &mut Diagnostics) -> Option<Rule> {
    let before = d.errors();
    let read = rule(node, d)?;
    if !read.says_something() && d.errors() == before {
        d.error(
            &node.span,
            "this rule says nothing of callers, and so would refuse everybody",
        )
        .help("write whom it refuses: `tenants`, `apps`, `from`, `when`, or remove the route");
        return None;
    }
    Some(read)
}

impl Rule {
    /// Whether it holds for some callers only.
    fn says_something(&self) -> bool {
        !(self.tenants.is_empty()
            && self.apps.is_empty()
            && self.principals.is_empty()
            && self.token_kinds.is_empty()
            && self.auth_strength.is_empty()
            && self.roles.is_empty()
            && self.scopes.is_empty()
            && self.groups.is_empty()
            && self.from.is_empty()
            && self.when.is_none())
    }
}

fn rule(node: &Node, d: &mut Diagnostics) -> Option<Rule> {
    let mut table = Table::of(node, "a rule such as `{ tenants: [..], apps: [..] }`", d)?;
    let before = d.errors();
    let read = Rule {
        tenants: table
            .optional("tenants", d, |node, d| names(node, "a tenant", d))
            .unwrap_or_default(),
        apps: table
            .optional("apps", d, |node, d| names(node, "an app", d))
            .unwrap_or_default(),
        principals: table
            .optional("principals", d, |node, d| names(node, "a principal", d))
            .unwrap_or_default(),
        token_kinds: table
            .optional("tokenKinds", d, token_kinds)
            .unwrap_or_default(),
        auth_strength: table
            .optional("authStrength", d, auth_strength)
            .unwrap_or_default(),
        roles: table
            .optional("roles", d, |node, d| wanted(node, "a role", d))
            .unwrap_or_default(),
        scopes: table
            .optional("scopes", d, |node, d| wanted(node, "a scope", d))
            .unwrap_or_default(),
        groups: table
            .optional("groups", d, |node, d| wanted(node, "a group", d))
            .unwrap_or_default(),
        from: table.optional("from", d, from).unwrap_or_default(),
        when: table.optional(
            "when",
            d,
            spanned(|node, d| text(node, "a condition in CEL", d)),
        ),
        mode: table.optional("mode", d, spanned(mode)),
        not_before: table.optional("notBefore", d, spanned(instant)),
        expires: table.optional("expires", d, spanned(instant)),
        owner: table.optional("owner", d, spanned(owner)),
        reason: table.optional("reason", d, spanned(|node, d| text(node, "a sentence", d))),
    };
    table.finish(d);
    if let (Some(from), Some(to)) = (&read.not_before, &read.expires)
        && from.value >= to.value
    {
        d.error(&to.span, "this rule ends before it begins")
            .also(&from.span, "it begins here");
    }
    // A condition that was skipped would let in more than was written.
    (d.errors() == before).then_some(read)
}

/// `mode`.
pub(super) fn mode(node: &Node, d: &mut Diagnostics) -> Option<Mode> {
    choice(
        node,
        &[("enforce", Mode::Enforce), ("reportOnly", Mode::ReportOnly)],
        d,
    )
}

/// `owner`.
pub(super) fn owner(node: &Node, d: &mut Diagnostics) -> Option<String> {
    text(node, "who answers for it, such as an address", d)
}

/// `tokenKinds`.
pub(super) fn token_kinds(node: &Node, d: &mut Diagnostics) -> Option<Vec<Spanned<TokenKind>>> {
    const KINDS: [(&str, TokenKind); 2] = [
        (TokenKind::AppOnly.as_str(), TokenKind::AppOnly),
        (TokenKind::Delegated.as_str(), TokenKind::Delegated),
    ];
    let why = "no token would be of a kind that is let in; leave the key out for both";
    let decode = |node: &Node, d: &mut Diagnostics| choice(node, &KINDS, d);
    let kinds = list(node, why, d, spanned(decode))?;
    warn_of_repeats(&kinds, d);
    Some(kinds)
}

fn auth_strength(node: &Node, d: &mut Diagnostics) -> Option<Vec<Spanned<AuthStrength>>> {
    const STRENGTHS: [(&str, AuthStrength); 3] = [
        (AuthStrength::Public.as_str(), AuthStrength::Public),
        (AuthStrength::Secret.as_str(), AuthStrength::Secret),
        (
            AuthStrength::Certificate.as_str(),
            AuthStrength::Certificate,
        ),
    ];
    let why = "no app could prove itself; leave the key out if it does not matter how";
    let decode = |node: &Node, d: &mut Diagnostics| choice(node, &STRENGTHS, d);
    let strengths = list(node, why, d, spanned(decode))?;
    warn_of_repeats(&strengths, d);
    Some(strengths)
}

fn names(node: &Node, what: &str, d: &mut Diagnostics) -> Option<Vec<Spanned<String>>> {
    let why = "it could be read as nobody or as anybody; name who is meant, or leave the key out";
    let decode = |node: &Node, d: &mut Diagnostics| token(node, what, d);
    let names = list(node, why, d, spanned(decode))?;
    warn_of_repeats(&names, d);
    Some(names)
}

/// A list, any of which will do, or a mapping with `anyOf` and `allOf`.
fn wanted(node: &Node, what: &str, d: &mut Diagnostics) -> Option<Wanted> {
    if !matches!(node.value, Value::Mapping(_)) {
        return Some(Wanted {
            any_of: names(node, what, d)?,
            all_of: Vec::new(),
        });
    }
    let mut table = Table::of(node, "a list, or `{ allOf: [..] }`", d)?;
    let any_of = table.optional("anyOf", d, |node, d| names(node, what, d));
    let all_of = table.optional("allOf", d, |node, d| names(node, what, d));
    table.finish(d);
    let wanted = Wanted {
        any_of: any_of.unwrap_or_default(),
        all_of: all_of.unwrap_or_default(),
    };
    if wanted.is_empty() {
        d.error(&node.span, "neither `anyOf` nor `allOf` is written here")
            .help("write `{ allOf: [one, another] }`, or a list if any of them will do");
        return None;
    }
    let any: HashSet<&str> = wanted.any_of.iter().map(|name| &*name.value).collect();
    if let Some(both) = wanted.all_of.iter().find(|name| any.contains(&*name.value)) {
        d.warning(
            &both.span,
            "with this in `allOf`, the names in `anyOf` play no part",
        )
        .help("remove it from one of the two lists");
    }
    Some(wanted)
}

fn from(node: &Node, d: &mut Diagnostics) -> Option<Vec<Spanned<Network>>> {
    let why = "no caller would connect from there; leave the key out for everywhere";
    let networks = list(node, why, d, spanned(place))?;
    warn_of_repeats(&networks, d);
    Some(networks)
}

/// A network by name or in CIDR notation. What looks like an address is meant as one.
fn place(node: &Node, d: &mut Diagnostics) -> Option<Network> {
    let word = token(node, "a network", d)?;
    match word.contains([':', '/']) || word.parse::<IpAddr>().is_ok() {
        true => cidr(node, d).map(Network::Cidr),
        false => Some(Network::Name(word)),
    }
}

/// A value of `networks`: one network in CIDR notation, or a list of them.
pub(super) fn cidrs(node: &Node, d: &mut Diagnostics) -> Option<Vec<Spanned<IpNet>>> {
    match node.value {
        Value::List(_) => {
            let networks = list(node, "name at least one network", d, spanned(cidr))?;
            warn_of_repeats(&networks, d);
            Some(networks)
        }
        _ => Some(vec![spanned(cidr)(node, d)?]),
    }
}

fn cidr(node: &Node, d: &mut Diagnostics) -> Option<IpNet> {
    let text = scalar(node, "a network such as `203.0.113.0/24`", d)?;
    let network = text.parse::<IpNet>().ok();
    let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(network) = network else {
        d.error(&node.span, "this is not a network in CIDR notation")
            .help("write `203.0.113.0/24`, `2001:db8::/32`, or one address");
        return None;
    };
    if let IpNet::V6(v6) = network
        && v6.addr().to_ipv4_mapped().is_some()
    {
        d.error(&node.span, "this is an IPv4 network in the clothes of IPv6")
            .help("write it as IPv4: callers are compared by that form");
        return None;
    }
    if network.trunc() != network {
        d.error(&node.span, "bits are set behind the prefix of this network")
            .label(format!("did you mean `{}`?", network.trunc()));
        return None;
    }
    Some(network)
}

/// A point in time (RFC 3339), with its offset: a date alone would leave open which midnight is meant.
pub(super) fn instant(node: &Node, d: &mut Diagnostics) -> Option<Duration> {
    let text = scalar(node, "a point in time", d)?;
    let seconds = point_in_time(text);
    if seconds.is_none() {
        d.error(&node.span, "this is not a point in time")
            .help("write date, time and offset: `2027-03-31T00:00:00Z`");
    }
    seconds
}

/// Reads a point in time (RFC 3339), since the Unix epoch. `None` if it is not one, or lies before 1970.
pub fn point_in_time(text: &str) -> Option<Duration> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp())
        .ok()
        .map(Duration::from_secs)
}
