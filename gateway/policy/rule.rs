//! A compiled rule: the clauses that it consists of, and whether they hold for a caller.
//!
//! Each clause is a value, judged in one place, so that deciding, explaining and computing who may call
//! cannot differ.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::circumstances::Circumstances;
use super::condition::{Condition, Failure, Outcome};
use crate::entra::Principal;
use crate::files::{Mode, Span};
use crate::ids::{AppId, ObjectId, TenantId};
use crate::token::{AuthStrength, TokenKind};

/// Whether a rule lets in or keeps out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// A rule of `allow`.
    Allow,
    /// A rule of `deny`.
    Deny,
}

/// Names a rule within its route, as the files do: `allow[0]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId {
    /// The list that it stands in.
    pub effect: Effect,
    /// Its place there, from 0.
    pub index: usize,
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = match self.effect {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        };
        write!(f, "{list}[{}]", self.index)
    }
}

/// A rule. All its clauses must hold.
#[derive(Debug)]
pub struct Rule {
    pub(super) id: RuleId,
    /// In the order in which they are judged: what comes first is asked first, and what comes last is
    /// the closest to being let in.
    pub(super) clauses: Box<[Clause]>,
    pub(super) mode: Mode,
    pub(super) owner: Option<Box<str>>,
    pub(super) reason: Option<Box<str>>,
    pub(super) span: Span,
}

/// One condition of a rule.
#[derive(Debug)]
pub enum Clause {
    /// The token's tenant is one of these.
    Tenants(Ids<TenantId>),
    /// The token's app is one of these.
    Apps(Ids<AppId>),
    /// The token's principal is one of these.
    Principals(Ids<ObjectId>),
    /// The token is of one of these kinds.
    Kinds(Box<[TokenKind]>),
    /// The app proved itself in one of these ways.
    Strengths(Box<[AuthStrength]>),
    /// The token holds these roles.
    Roles(Wanted<Box<str>>),
    /// The token holds these scopes.
    Scopes(Wanted<Box<str>>),
    /// The token lists these groups.
    Groups(Wanted<ObjectId>),
    /// The caller connects from one of these networks.
    From(Box<[Network]>),
    /// The expression is true.
    When(Condition),
    /// The time is within these bounds, in seconds since the Unix epoch.
    Window {
        /// From then on.
        not_before: Option<u64>,
        /// Until just before then.
        expires: Option<u64>,
    },
}

/// A set of IDs, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Ids<T>(Box<[T]>);

impl<T: Ord + Copy> Ids<T> {
    pub(super) fn new(mut ids: Vec<T>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        Self(ids.into_boxed_slice())
    }

    /// Whether an ID is in it.
    pub fn contains(&self, id: T) -> bool {
        // A few are found faster one by one.
        match self.0.len() {
            0..=8 => self.0.contains(&id),
            _ => self.0.binary_search(&id).is_ok(),
        }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        self.0.iter().copied()
    }
}

/// What must be there of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted<T> {
    /// At least one of these; not asked for if it is empty.
    pub any_of: Box<[T]>,
    /// Every one of these.
    pub all_of: Box<[T]>,
}

impl<T> Wanted<T> {
    /// All of them.
    pub fn names(&self) -> impl Iterator<Item = &T> {
        self.any_of.iter().chain(&self.all_of)
    }

    fn holds(&self, has: impl Fn(&T) -> bool) -> bool {
        (self.any_of.is_empty() || self.any_of.iter().any(&has)) && self.all_of.iter().all(&has)
    }
}

/// A network, and what the files call it.
#[derive(Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name under `networks`, or its CIDR notation.
    pub name: Box<str>,
    /// The addresses.
    pub addresses: IpNet,
}

/// What a clause says of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not.
    Fails,
    /// Nobody can tell: an allow rule does not hold then, a deny rule does.
    Undecided(Undecided),
}

/// Why nobody can tell whether a clause holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undecided {
    /// The token names more groups than it lists.
    GroupOverage,
    /// The token proves neither that an app calls by itself nor that it acts for a user.
    Kind,
    /// The token does not say how the app proved itself.
    Strength,
    /// The expression could not be evaluated.
    Condition(Failure),
    /// The record that is replayed does not hold what the expression asks for.
    NotRecorded,
}

impl From<bool> for Verdict {
    fn from(holds: bool) -> Self {
        match holds {
            true => Self::Holds,
            false => Self::Fails,
        }
    }
}

impl Clause {
    /// Whether it holds. Without a principal, what is asked of a token does not.
    pub fn judge(
        &self,
        principal: Option<&Principal>,
        circumstances: &Circumstances<'_>,
    ) -> Verdict {
        let token = |asked: &dyn Fn(&Principal) -> bool| principal.is_some_and(asked).into();
        match self {
            Self::Tenants(ids) => token(&|caller| ids.contains(caller.tenant())),
            Self::Apps(ids) => token(&|caller| ids.contains(caller.app())),
            Self::Principals(_) | Self::From(_) if circumstances.is_hashed() => {
                Verdict::Undecided(Undecided::NotRecorded)
            }
            Self::Principals(ids) => {
                token(&|caller| caller.object().is_some_and(|id| ids.contains(id)))
            }
            Self::Kinds(kinds) => match principal.map(Principal::kind) {
                Some(TokenKind::Unknown) => Verdict::Undecided(Undecided::Kind),
                kind => kind.is_some_and(|kind| kinds.contains(&kind)).into(),
            },
            Self::Strengths(strengths) => match principal.map(Principal::strength) {
                Some(AuthStrength::Unknown) => Verdict::Undecided(Undecided::Strength),
                strength => strength
                    .is_some_and(|strength| strengths.contains(&strength))
                    .into(),
            },
            Self::Roles(wanted) => token(&|caller| wanted.holds(|role| caller.has_role(role))),
            Self::Scopes(wanted) => token(&|caller| wanted.holds(|scope| caller.has_scope(scope))),
            Self::Groups(wanted) => match principal {
                None => Verdict::Fails,
                Some(caller) if caller.groups_unknown() => {
                    Verdict::Undecided(Undecided::GroupOverage)
                }
                Some(caller) => wanted.holds(|group| caller.has_group(*group)).into(),
            },
            Self::From(networks) => networks
                .iter()
                .any(|network| network.addresses.contains(&circumstances.client()))
                .into(),
            Self::When(condition) => match condition.evaluate(&circumstances.facts(principal)) {
                Outcome::Is(holds) => holds.into(),
                Outcome::Failed(Failure::GroupOverage) => {
                    Verdict::Undecided(Undecided::GroupOverage)
                }
                Outcome::Failed(failure) => Verdict::Undecided(Undecided::Condition(failure)),
                Outcome::Unknown => Verdict::Undecided(Undecided::NotRecorded),
            },
            Self::Window {
                not_before,
                expires,
            } => {
                let now = circumstances.now.as_secs();
                (not_before.is_none_or(|from| from <= now) && expires.is_none_or(|to| now < to))
                    .into()
            }
        }
    }
}

impl Clause {
    /// Whether it asks what a token holds.
    pub fn asks_for_a_token(&self) -> bool {
        match self {
            Self::Tenants(_)
            | Self::Apps(_)
            | Self::Principals(_)
            | Self::Kinds(_)
            | Self::Strengths(_)
            | Self::Roles(_)
            | Self::Scopes(_)
            | Self::Groups(_) => true,
            Self::When(condition) => condition.reads_token(),
            Self::From(_) | Self::Window { .. } => false,
        }
    }
}

impl Rule {
    /// Its condition in CEL, if it has one.
    pub fn condition(&self) -> Option<&Condition> {
        self.clauses.iter().find_map(|clause| match clause {
            Clause::When(condition) => Some(condition),
            Clause::Tenants(_)
            | Clause::Apps(_)
            | Clause::Principals(_)
            | Clause::Kinds(_)
            | Clause::Strengths(_)
            | Clause::Roles(_)
            | Clause::Scopes(_)
            | Clause::Groups(_)
            | Clause::From(_)
            | Clause::Window { .. } => None,
        })
    }

    /// Whether its condition asks for parameters of the path.
    pub(super) fn reads_parameters(&self) -> bool {
        self.condition().is_some_and(Condition::reads_parameters)
    }

    /// Its name within the route.
    pub fn id(&self) -> RuleId {
        self.id
    }

    /// What it consists of.
    pub fn clauses(&self) -> &[Clause] {
        &self.clauses
    }

    /// Whether it acts, or is only recorded.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Who answers for it.
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// Why it is there.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Where it was written.
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// The first clause that does not hold, by its place, and what it says. `None` if all hold.
    pub(super) fn falls_short(
        &self,
        principal: Option<&Principal>,
        circumstances: &Circumstances<'_>,
    ) -> Option<(&Clause, Verdict)> {
        self.clauses
            .iter()
            .find_map(|clause| match clause.judge(principal, circumstances) {
                Verdict::Holds => None,
                Verdict::Undecided(Undecided::NotRecorded) if circumstances.hopeful() => None,
                verdict => Some((clause, verdict)),
            })
    }

    /// Whether an allow rule lets a caller in.
    pub(super) fn allows(
        &self,
        principal: Option<&Principal>,
        circumstances: &Circumstances<'_>,
    ) -> bool {
        self.falls_short(principal, circumstances).is_none()
    }

    /// What a deny rule says of a caller. It keeps out unless a clause is known not to hold: what cannot
    /// be evaluated must not let in whom the rule is about.
    pub(super) fn denies(
        &self,
        principal: Option<&Principal>,
        circumstances: &Circumstances<'_>,
    ) -> Verdict {
        let mut unless = Verdict::Holds;
        for clause in &self.clauses {
            match clause.judge(principal, circumstances) {
                Verdict::Fails => return Verdict::Fails,
                Verdict::Holds => {}
                Verdict::Undecided(Undecided::NotRecorded) if circumstances.hopeful() => {
                    return Verdict::Fails;
                }
                undecided @ Verdict::Undecided(_) if unless == Verdict::Holds => unless = undecided,
                Verdict::Undecided(_) => {}
            }
        }
        unless
    }

    pub(super) fn enforced(&self) -> bool {
        self.mode == Mode::Enforce
    }
}

/// How a client's address is compared: an IPv4 address that arrives in IPv6 form is an IPv4 address.
pub(super) fn comparable(client: IpAddr) -> IpAddr {
    client.to_canonical()
}
