//! One product of sets: callers of these tenants, with these apps, of these kinds, and so on.

use std::collections::BTreeMap;

use super::ranges::Ranges;
use super::set::{Mask, Set, masks};
use crate::ids::{AppId, ObjectId, TenantId};
use crate::token::{AuthStrength, TokenKind};

/// Something that is so of a request or not, each by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Atom {
    /// The token has this role.
    Role(Box<str>),
    /// The token has this scope.
    Scope(Box<str>),
    /// The token lists this group.
    Group(ObjectId),
    /// The token has more groups than it lists.
    GroupOverage,
    /// This condition is true, or false, or cannot be evaluated.
    When(Box<str>),
}

impl Atom {
    /// Every value that it may have.
    pub fn domain(&self) -> Mask {
        let either = masks::TRUE.union(masks::FALSE);
        match self {
            Self::Role(_) | Self::Scope(_) | Self::Group(_) | Self::GroupOverage => either,
            Self::When(_) => either.union(masks::FAILED),
        }
    }

    /// Whether only a token can have it.
    fn is_of_a_token(&self) -> bool {
        !matches!(self, Self::When(_))
    }
}

/// A product of sets: whoever is in each of them is in it.
///
/// INVARIANT, kept by [`Cube::normal`]: what two facts of the domain exclude is not in it. A caller
/// without a token has none of a token's properties, so a cube that asks for one holds none of those
/// callers; and an app's own token has no scopes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cube {
    /// With a token or without.
    pub callers: Mask,
    /// The token's tenant.
    pub tenants: Set<TenantId>,
    /// The token's app.
    pub apps: Set<AppId>,
    /// The token's principal; one that names none is in everything but a finite set.
    pub principals: Set<ObjectId>,
    /// The kind of token.
    pub kinds: Mask,
    /// How the app proved itself.
    pub strengths: Mask,
    /// Whom the token is meant for.
    pub audiences: Set<Box<str>>,
    /// Where the caller connects from, as IPv6 numbers.
    pub addresses: Ranges<u128>,
    /// When, in seconds since the Unix epoch.
    pub times: Ranges<u64>,
    /// What must be so; what is absent may be either way.
    pub atoms: BTreeMap<Atom, Mask>,
}

/// How what is left of a cube is cut into cubes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// They overlap, and each is as large as it can be: that is what people read best, while it is little.
    Largest,
    /// None overlaps another: fewer where much is cut out.
    Apart,
}

/// One caller at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// What the token says; `None` without one.
    pub token: Option<TokenPoint>,
    /// The address, as an IPv6 number.
    pub address: u128,
    /// The time, in seconds since the Unix epoch.
    pub time: u64,
    /// What conditions come to; those that are absent are false.
    pub conditions: BTreeMap<Box<str>, Mask>,
}

/// What one token says. `None` stands for a value that nobody names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPoint {
    /// The tenant.
    pub tenant: Option<TenantId>,
    /// The app.
    pub app: Option<AppId>,
    /// The principal.
    pub principal: Option<ObjectId>,
    /// The kind.
    pub kind: TokenKind,
    /// How the app proved itself.
    pub strength: AuthStrength,
    /// The audience.
    pub audience: Option<Box<str>>,
    /// The roles, scopes and groups that it has, and whether it has more groups.
    pub has: Vec<Atom>,
}

impl Cube {
    /// Everybody, always.
    pub fn any() -> Self {
        Self {
            callers: masks::CALLERS,
            tenants: Set::any(),
            apps: Set::any(),
            principals: Set::any(),
            kinds: masks::KINDS,
            strengths: masks::STRENGTHS,
            audiences: Set::any(),
            addresses: Ranges::any(),
            times: Ranges::any(),
            atoms: BTreeMap::new(),
        }
    }

    /// Whether anything is asked of a token.
    fn asks_for_a_token(&self) -> bool {
        !(self.tenants.is_any()
            && self.apps.is_any()
            && self.principals.is_any()
            && self.kinds == masks::KINDS
            && self.strengths == masks::STRENGTHS
            && self.audiences.is_any()
            && !self.atoms.keys().any(Atom::is_of_a_token))
    }

    /// The same callers in the one form that respects the facts of the domain. `None` if there are none.
    pub fn normal(mut self) -> Option<Self> {
        self.atoms.retain(|atom, mask| {
            *mask = mask.intersection(atom.domain());
            *mask != atom.domain()
        });
        let scoped = self
            .atoms
            .iter()
            .any(|(atom, mask)| matches!(atom, Atom::Scope(_)) && *mask == masks::TRUE);
        if scoped {
            self.kinds = self.kinds.minus(masks::APP_ONLY);
        }
        if self.kinds == masks::APP_ONLY {
            // It has none of them anyhow.
            self.atoms.retain(|atom, _| !matches!(atom, Atom::Scope(_)));
        }
        if self.asks_for_a_token() {
            self.callers = self.callers.minus(masks::ANONYMOUS);
        }
        let empty = self.callers.is_empty()
            || self.tenants.is_empty()
            || self.apps.is_empty()
            || self.principals.is_empty()
            || self.kinds.is_empty()
            || self.strengths.is_empty()
            || self.audiences.is_empty()
            || self.addresses.is_empty()
            || self.times.is_empty()
            || self.atoms.values().any(|mask| mask.is_empty());
        (!empty).then_some(self)
    }

    /// Whether nobody is in both, by what is cheap to see.
    pub(super) fn is_apart_from(&self, other: &Self) -> bool {
        self.callers.intersection(other.callers).is_empty()
            || self.kinds.intersection(other.kinds).is_empty()
            || self.apps.is_disjoint(&other.apps)
            || self.tenants.is_disjoint(&other.tenants)
            || self.atoms.iter().any(|(atom, mask)| {
                let theirs = other.atoms.get(atom);
                theirs.is_some_and(|theirs| mask.intersection(*theirs).is_empty())
            })
    }

    /// Who is in both.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        if self.is_apart_from(other) {
            return None;
        }
        let mut atoms = self.atoms.clone();
        for (atom, mask) in &other.atoms {
            let entry = atoms.entry(atom.clone()).or_insert(*mask);
            *entry = entry.intersection(*mask);
        }
        Self {
            callers: self.callers.intersection(other.callers),
            tenants: self.tenants.intersection(&other.tenants),
            apps: self.apps.intersection(&other.apps),
            principals: self.principals.intersection(&other.principals),
            kinds: self.kinds.intersection(other.kinds),
            strengths: self.strengths.intersection(other.strengths),
            audiences: self.audiences.intersection(&other.audiences),
            addresses: self.addresses.intersection(&other.addresses),
            times: self.times.intersection(&other.times),
            atoms,
        }
        .normal()
    }

    /// Who is in this and not in the other: a cube for each property by which somebody can be outside.
    pub fn minus(&self, other: &Self, pieces: Pieces) -> Vec<Self> {
        if self.intersection(other).is_none() {
            return vec![self.clone()];
        }
        let mut left = Vec::new();
        let mut rest = self.clone();
        macro_rules! cut {
            ($field:ident, $theirs:expr) => {
                let outside = rest.$field.minus($theirs);
                if !outside.is_empty() {
                    left.push(Self {
                        $field: outside,
                        ..rest.clone()
                    });
                }
                if pieces == Pieces::Apart {
                    rest.$field = rest.$field.intersection($theirs);
                }
            };
        }
        cut!(callers, other.callers);
        cut!(tenants, &other.tenants);
        cut!(apps, &other.apps);
        cut!(principals, &other.principals);
        cut!(kinds, other.kinds);
        cut!(strengths, other.strengths);
        cut!(audiences, &other.audiences);
        cut!(addresses, &other.addresses);
        cut!(times, &other.times);
        for (atom, mask) in &other.atoms {
            let own = self.atoms.get(atom).copied().unwrap_or(atom.domain());
            let outside = own.minus(*mask);
            if !outside.is_empty() {
                let mut without = rest.clone();
                without.atoms.insert(atom.clone(), outside);
                left.push(without);
            }
            if pieces == Pieces::Apart {
                rest.atoms.insert(atom.clone(), own.intersection(*mask));
            }
        }
        left.into_iter().filter_map(Self::normal).collect()
    }

    /// Whether all of the other is plainly in this. A no may be wrong where a fact of the domain is
    /// needed to see it; [`Region::covers`](super::Region::covers) is exact.
    pub fn covers(&self, other: &Self) -> bool {
        self.callers.covers(other.callers)
            && self.kinds.covers(other.kinds)
            && self.strengths.covers(other.strengths)
            && self.atoms.iter().all(|(atom, mask)| {
                let theirs = other.atoms.get(atom).copied();
                mask.covers(theirs.unwrap_or(atom.domain()))
            })
            && self.tenants.covers(&other.tenants)
            && self.apps.covers(&other.apps)
            && self.principals.covers(&other.principals)
            && self.audiences.covers(&other.audiences)
            && self.addresses.covers(&other.addresses)
            && self.times.covers(&other.times)
    }

    /// Whether a caller is in it.
    pub fn contains(&self, point: &Point) -> bool {
        let around = self.addresses.contains(point.address) && self.times.contains(point.time);
        let holds = |(atom, mask): (&Atom, &Mask)| {
            let value = match atom {
                Atom::When(condition) => {
                    let known = point.conditions.get(condition);
                    known.copied().unwrap_or(masks::FALSE)
                }
                Atom::Role(_) | Atom::Scope(_) | Atom::Group(_) | Atom::GroupOverage => {
                    let token = point.token.as_ref();
                    match token.is_some_and(|token| token.has.contains(atom)) {
                        true => masks::TRUE,
                        false => masks::FALSE,
                    }
                }
            };
            mask.covers(value)
        };
        let by_token = match &point.token {
            None => self.callers.covers(masks::ANONYMOUS),
            Some(token) => {
                self.callers.covers(masks::AUTHENTICATED)
                    && self.tenants.contains(token.tenant.as_ref())
                    && self.apps.contains(token.app.as_ref())
                    && self.principals.contains(token.principal.as_ref())
                    && self.kinds.has(token.kind.bit())
                    && self.strengths.has(token.strength.bit())
                    && self.audiences.contains(token.audience.as_ref())
            }
        };
        around && by_token && self.atoms.iter().all(holds)
    }

    /// Somebody who is in it: from the documentation's network and at `now` (seconds since the Unix
    /// epoch) where that will do.
    pub fn point(&self, now: u64) -> Option<Point> {
        /// 192.0.2.1 (RFC 5737).
        const EXAMPLE: u128 = 0xffff_c000_0201;
        fn one<T: Ord + Clone>(set: &Set<T>) -> Option<T> {
            match set {
                Set::Only(values) => values.first().cloned(),
                Set::AllBut(_) => None,
            }
        }
        let needs_token = !self.callers.covers(masks::ANONYMOUS);
        let token = needs_token.then(|| {
            let kinds = TokenKind::ALL.iter();
            let strengths = AuthStrength::ALL.iter();
            let has = self
                .atoms
                .iter()
                .filter(|(atom, mask)| atom.is_of_a_token() && **mask == masks::TRUE);
            Some(TokenPoint {
                tenant: one(&self.tenants),
                app: one(&self.apps),
                principal: one(&self.principals),
                kind: *kinds.into_iter().find(|kind| self.kinds.has(kind.bit()))?,
                strength: *strengths
                    .into_iter()
                    .find(|strength| self.strengths.has(strength.bit()))?,
                audience: one(&self.audiences),
                has: has.map(|(atom, _)| atom.clone()).collect(),
            })
        });
        let token = match token {
            None => None,
            Some(None) => return None,
            Some(token) => token,
        };
        let conditions = self.atoms.iter().filter_map(|(atom, mask)| match atom {
            Atom::When(condition) => {
                // False where that will do, else true.
                let value = [masks::FALSE, masks::TRUE, masks::FAILED]
                    .into_iter()
                    .find(|value| mask.covers(*value))?;
                Some((condition.clone(), value))
            }
            Atom::Role(_) | Atom::Scope(_) | Atom::Group(_) | Atom::GroupOverage => None,
        });
        Some(Point {
            token,
            address: match self.addresses.contains(EXAMPLE) {
                true => EXAMPLE,
                false => self.addresses.first()?,
            },
            time: match self.times.contains(now) {
                true => now,
                false => self.times.first()?,
            },
            conditions: conditions.collect(),
        })
    }
}
