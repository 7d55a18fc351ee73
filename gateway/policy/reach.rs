//! Whom a route lets in, as a region of all callers: computed from its rules, clause by clause.

use std::net::IpAddr;

use ipnet::IpNet;

use super::access::{Atom, Cube, Mask, Ranges, Region, Set, TooComplex, masks};
use super::routes::{Policy, Route};
use super::rule::{Clause, Effect, Network, Rule, Wanted};
use super::rule_set::RuleSet;
use crate::files::Mode;
use crate::token::{AuthStrength, TokenKind};

/// Whom a route lets in, in two parts: those of the first who are not in the second.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// Whom its allow rules are for.
    pub(super) allowed: Region,
    /// Whom its deny rules keep out.
    pub(super) denied: Region,
}

impl Reach {
    /// Nobody.
    pub(super) fn none() -> Self {
        Self {
            allowed: Region::none(),
            denied: Region::none(),
        }
    }

    fn everybody() -> Self {
        Self {
            allowed: Region::from(vec![Cube::any()]),
            denied: Region::none(),
        }
    }

    /// The one without the other.
    pub(super) fn region(&self) -> Result<Region, TooComplex> {
        self.allowed.minus(&self.denied)
    }

    /// Whether it lets anybody in. What is too much to work out is not nobody.
    pub(super) fn lets_somebody_in(&self) -> bool {
        let mut allowed = self.allowed.cubes().iter();
        allowed.any(|cube| self.lets_in_some_of(cube))
    }

    /// Whether deny rules leave anybody of those in a cube.
    pub(super) fn lets_in_some_of(&self, cube: &Cube) -> bool {
        self.denied.leaves_some_of(cube)
    }

    /// Who is in this, and not in the other. Worked out without the whole of either, so that rules that stay
    /// as they are cost nothing, however many there are.
    pub(super) fn minus(&self, other: &Self) -> Result<Region, TooComplex> {
        let not_allowed = self.allowed.minus(&other.allowed)?;
        let kept_out = self.allowed.intersection(&other.denied);
        not_allowed.union(kept_out).minus(&self.denied)
    }
}

impl Policy {
    /// Everybody whom a route lets in, whenever.
    ///
    /// # Errors
    /// When the answer would be too long to be worked out.
    pub fn reach(&self, route: &Route) -> Result<Region, TooComplex> {
        self.parts(route).region()
    }

    /// Everybody whom a route will let in once everything acts that only reports. `None` where everything
    /// acts already.
    ///
    /// # Errors
    /// When the answer would be too long to be worked out.
    pub fn reach_once_enforced(&self, route: &Route) -> Result<Option<Region>, TooComplex> {
        let acts = route.mode() == Mode::Enforce && route.rules().all(Rule::enforced);
        let parts = || self.parts_of(route, |_| true).region();
        (!acts).then(parts).transpose()
    }

    pub(super) fn parts(&self, route: &Route) -> Reach {
        match route.mode() {
            // What only reports refuses nobody.
            Mode::ReportOnly => Reach::everybody(),
            Mode::Enforce => self.parts_by_rules(route),
        }
    }

    /// By the rules that act, whether or not the route's refusals do.
    pub(super) fn parts_by_rules(&self, route: &Route) -> Reach {
        self.parts_of(route, Rule::enforced)
    }

    fn parts_of(&self, route: &Route, acts: fn(&Rule) -> bool) -> Reach {
        let denied = self.region(route, route.deny(), Effect::Deny, acts);
        match route.is_public() {
            true => Reach {
                denied,
                ..Reach::everybody()
            },
            false => Reach {
                allowed: self.region(route, route.allow(), Effect::Allow, acts),
                denied,
            },
        }
    }

    /// Whom those rules of a list hold for that act.
    fn region(
        &self,
        route: &Route,
        rules: &RuleSet,
        effect: Effect,
        acts: fn(&Rule) -> bool,
    ) -> Region {
        let acting = rules.rules().iter().filter(|rule| acts(rule));
        let cubes = acting.flat_map(|rule| self.cubes(route, rule, effect));
        Region::from(cubes.collect::<Vec<_>>())
    }

    /// Whom one rule holds for: several cubes where it has alternatives.
    pub(super) fn cubes(&self, route: &Route, rule: &Rule, effect: Effect) -> Vec<Cube> {
        let mut start = Cube::any();
        if !route.is_public() {
            start.callers = masks::AUTHENTICATED;
            start.audiences = Set::only(self.audiences_of(route).iter().cloned());
        }
        let cubes = vec![start];
        let clauses = rule.clauses().iter();
        clauses.fold(cubes, |cubes, clause| {
            let alternatives = alternatives(clause, effect, route);
            let narrowed = cubes.iter().flat_map(|cube| {
                alternatives
                    .iter()
                    .filter_map(|alternative| cube.intersection(alternative))
            });
            narrowed.collect()
        })
    }
}

/// The cubes in which a clause holds; in a deny rule also those in which nobody can tell.
fn alternatives(clause: &Clause, effect: Effect, route: &Route) -> Vec<Cube> {
    let token = || Cube {
        callers: masks::AUTHENTICATED,
        ..Cube::any()
    };
    match clause {
        Clause::Tenants(ids) => vec![Cube {
            tenants: Set::only(ids.iter()),
            ..token()
        }],
        Clause::Apps(ids) => vec![Cube {
            apps: Set::only(ids.iter()),
            ..token()
        }],
        Clause::Principals(ids) => vec![Cube {
            principals: Set::only(ids.iter()),
            ..token()
        }],
        Clause::Kinds(kinds) => {
            let unknown = (effect == Effect::Deny).then_some(TokenKind::Unknown);
            let kinds = kinds.iter().copied().chain(unknown);
            vec![Cube {
                kinds: Mask::of(kinds.map(TokenKind::bit)),
                ..token()
            }]
        }
        Clause::Strengths(strengths) => {
            let unknown = (effect == Effect::Deny).then_some(AuthStrength::Unknown);
            let strengths = strengths.iter().copied().chain(unknown);
            vec![Cube {
                strengths: Mask::of(strengths.map(AuthStrength::bit)),
                ..token()
            }]
        }
        Clause::Roles(wanted) => holding(wanted, |role| Atom::Role(role.clone()), token),
        Clause::Scopes(wanted) => holding(wanted, |scope| Atom::Scope(scope.clone()), token),
        Clause::Groups(wanted) => {
            let listed = || with(token(), Atom::GroupOverage, masks::FALSE);
            let mut cubes = holding(wanted, |group| Atom::Group(*group), listed);
            if effect == Effect::Deny {
                cubes.push(with(token(), Atom::GroupOverage, masks::TRUE));
            }
            cubes
        }
        Clause::From(networks) => vec![Cube {
            addresses: ranges(networks),
            ..Cube::any()
        }],
        Clause::When(condition) => {
            let truth = match effect {
                Effect::Allow => masks::TRUE,
                Effect::Deny => masks::TRUE.union(masks::FAILED),
            };
            match condition.constant() {
                Some(true) => vec![Cube::any()],
                Some(false) => Vec::new(),
                None => {
                    let start = match condition.reads_token() {
                        true => token(),
                        false => Cube::any(),
                    };
                    vec![with(start, atom(condition, route), truth)]
                }
            }
        }
        Clause::Window {
            not_before,
            expires,
        } => {
            let first = not_before.unwrap_or(0);
            let last = expires.map_or(u64::MAX, |expires| expires.saturating_sub(1));
            vec![Cube {
                times: Ranges::of([(first, last)]),
                ..Cube::any()
            }]
        }
    }
}

/// A condition as something unknown. Path parameters make it another one on another path.
fn atom(condition: &super::condition::Condition, route: &Route) -> Atom {
    let normal = condition.normal();
    Atom::When(match condition.reads_parameters() {
        true => format!("{normal} on {}", route.taken().path).into(),
        false => normal.into(),
    })
}

fn with(mut cube: Cube, atom: Atom, truth: Mask) -> Cube {
    cube.atoms.insert(atom, truth);
    cube
}

/// One cube for each of `any_of`, with all of `all_of` in it.
fn holding<T>(
    wanted: &Wanted<T>,
    atom: impl Fn(&T) -> Atom,
    start: impl Fn() -> Cube,
) -> Vec<Cube> {
    let all = wanted
        .all_of
        .iter()
        .fold(start(), |cube, name| with(cube, atom(name), masks::TRUE));
    if wanted.any_of.is_empty() {
        return vec![all];
    }
    let any = wanted.any_of.iter();
    any.map(|name| with(all.clone(), atom(name), masks::TRUE))
        .collect()
}

fn ranges(networks: &[Network]) -> Ranges<u128> {
    ranges_of(networks.iter().map(|network| &network.addresses))
}

/// Where IPv4 stands among the numbers of addresses: `::ffff:0:0/96`, first and last.
pub(super) const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

/// The addresses of networks, as IPv6 numbers: IPv4 stands at `::ffff:0:0/96`, and belongs to no IPv6
/// network, however wide.
pub(super) fn ranges_of<'n>(networks: impl Iterator<Item = &'n IpNet>) -> Ranges<u128> {
    let mut all = Ranges::none();
    for network in networks {
        let own = Ranges::of([(number(network.network()), number(network.broadcast()))]);
        let own = match network {
            IpNet::V4(_) => own,
            IpNet::V6(_) => own.minus(&Ranges::of([MAPPED])),
        };
        all = all.union(&own);
    }
    all
}

/// An address as a number.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}
