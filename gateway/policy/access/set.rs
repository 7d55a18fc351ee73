//! Sets of values: finite ones and their complements, and small ones as bits.

use std::collections::BTreeSet;

/// A finite set, or everything but a finite set. The values that exist are more than are ever named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set<T: Ord> {
    /// These.
    Only(BTreeSet<T>),
    /// All but these.
    AllBut(BTreeSet<T>),
}

impl<T: Ord + Clone> Set<T> {
    /// Everything.
    pub fn any() -> Self {
        Self::AllBut(BTreeSet::new())
    }

    /// These.
    pub fn only(values: impl IntoIterator<Item = T>) -> Self {
        Self::Only(values.into_iter().collect())
    }

    /// Whether it is everything.
    pub fn is_any(&self) -> bool {
        matches!(self, Self::AllBut(values) if values.is_empty())
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Only(values) if values.is_empty())
    }

    /// Whether a value is in it. `None` stands for a value that nobody names, or for none at all.
    pub fn contains(&self, value: Option<&T>) -> bool {
        match self {
            Self::Only(values) => value.is_some_and(|value| values.contains(value)),
            Self::AllBut(values) => value.is_none_or(|value| !values.contains(value)),
        }
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Only(a), Self::Only(b)) => Self::Only(a.intersection(b).cloned().collect()),
            (Self::Only(a), Self::AllBut(b)) | (Self::AllBut(b), Self::Only(a)) => {
                Self::Only(a.difference(b).cloned().collect())
            }
            (Self::AllBut(a), Self::AllBut(b)) => Self::AllBut(a.union(b).cloned().collect()),
        }
    }

    /// Whether nothing is in both. Cheaper than the intersection.
    pub fn is_disjoint(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Only(a), Self::Only(b)) => {
                let (few, many) = if a.len() <= b.len() { (a, b) } else { (b, a) };
                few.iter().all(|value| !many.contains(value))
            }
            (Self::Only(a), Self::AllBut(b)) | (Self::AllBut(b), Self::Only(a)) => a.is_subset(b),
            (Self::AllBut(_), Self::AllBut(_)) => false,
        }
    }

    /// What is in this and not in the other.
    pub fn minus(&self, other: &Self) -> Self {
        self.intersection(&other.complement())
    }

    /// What is in either.
    pub fn union(&self, other: &Self) -> Self {
        self.complement()
            .intersection(&other.complement())
            .complement()
    }

    /// Whether all of the other is in it.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Only(a), Self::Only(b)) => b.is_subset(a),
            (Self::Only(_), Self::AllBut(_)) => false,
            (Self::AllBut(a), Self::Only(b)) => a.is_disjoint(b),
            (Self::AllBut(a), Self::AllBut(b)) => a.is_subset(b),
        }
    }

    fn complement(&self) -> Self {
        match self {
            Self::Only(values) => Self::AllBut(values.clone()),
            Self::AllBut(values) => Self::Only(values.clone()),
        }
    }
}

/// A set of a few values, each a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mask(u8);

/// The values of each small dimension.
pub mod masks {
    use super::Mask;
    use crate::token::{AuthStrength, TokenKind};

    /// A caller without a token.
    pub const ANONYMOUS: Mask = Mask(1);
    /// A caller whose token is good.
    pub const AUTHENTICATED: Mask = Mask(2);
    /// Every caller.
    pub const CALLERS: Mask = Mask(3);
    /// An app's own token.
    pub const APP_ONLY: Mask = Mask(TokenKind::AppOnly.bit());
    /// Every kind of token.
    pub const KINDS: Mask =
        Mask(TokenKind::AppOnly.bit() | TokenKind::Delegated.bit() | TokenKind::Unknown.bit());
    /// Every way in which an app proves itself.
    pub const STRENGTHS: Mask = Mask(
        AuthStrength::Public.bit()
            | AuthStrength::Secret.bit()
            | AuthStrength::Certificate.bit()
            | AuthStrength::Unknown.bit(),
    );
    /// It is so.
    pub const TRUE: Mask = Mask(1);
    /// It is not.
    pub const FALSE: Mask = Mask(2);
    /// It cannot be evaluated.
    pub const FAILED: Mask = Mask(4);
}

impl Mask {
    /// The values of these bits.
    pub fn of(bits: impl IntoIterator<Item = u8>) -> Self {
        Self(bits.into_iter().fold(0, |all, bit| all | bit))
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in both.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in either.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in this and not in the other.
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of the other is in it.
    pub const fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Whether the value of this bit is in it.
    pub const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// Each value, as a set of its own.
    pub fn each(self) -> impl Iterator<Item = Self> {
        (0..8)
            .map(|at| Self(1 << at))
            .filter(move |one| self.covers(*one))
    }
}
