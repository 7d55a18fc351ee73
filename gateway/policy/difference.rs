//! Who gains and who loses access by a change of policy: computed from the rules of both, over every kind
//! of request that they tell apart.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::rc::Rc;

use super::access::{Region, TooComplex};
use super::method::MethodSet;
use super::reach::Reach;
use super::routes::{Policy, Route, RouteId};
use super::witness::{Witness, witnesses};

/// What changes for the requests that one route took and another takes, or the same.
#[derive(Debug)]
pub struct Change<'p> {
    /// The route that took them; `None` if none did.
    pub old: Option<&'p Route>,
    /// The route that takes them.
    pub new: Option<&'p Route>,
    /// Which requests, by a host and path that stand for them, and their methods.
    pub requests: Vec<(Witness, MethodSet)>,
    /// Who may call, and could not.
    pub gained: Region,
    /// Who could call, and may not.
    pub lost: Region,
}

/// What a change of policy changes.
#[derive(Debug)]
pub struct Difference<'p> {
    /// Who gains and who loses access. Nothing at all means that both let the same callers in everywhere.
    pub access: Vec<Change<'p>>,
    /// The routes that take the same requests before and after, and let somebody in.
    pub kept: Vec<Kept<'p>>,
}

/// Two routes that take the same requests, in the old policy and in the new one.
#[derive(Debug)]
pub struct Kept<'p> {
    /// The route that took them.
    pub old: &'p Route,
    /// The route that takes them.
    pub new: &'p Route,
    /// Which requests.
    pub requests: Vec<(Witness, MethodSet)>,
}

/// Why two policies were not compared to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// The answer would be too long to be worked out.
    TooComplex,
    /// Whoever asked does not want to wait any longer.
    GivenUp,
}

impl From<TooComplex> for Unfinished {
    fn from(_: TooComplex) -> Self {
        Self::TooComplex
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooComplex => TooComplex.fmt(f),
            Self::GivenUp => f.write_str("to compare the policies takes too long"),
        }
    }
}

impl std::error::Error for Unfinished {}

/// Compares two policies, for as long as `goes_on` says so. Conditions in CEL count as unknowns, the same where they
/// are written alike.
///
/// # Errors
/// When the answer would be too long to be worked out, or is not wanted any more.
pub fn difference<'p>(
    old: &'p Policy,
    new: &'p Policy,
    goes_on: &dyn Fn() -> bool,
) -> Result<Difference<'p>, Unfinished> {
    let go_on = || goes_on().then_some(()).ok_or(Unfinished::GivenUp);
    type Pair = (Option<usize>, Option<usize>);
    let mut pairs: BTreeMap<Pair, BTreeMap<Witness, MethodSet>> = BTreeMap::new();
    for witness in witnesses(old, new, goes_on)? {
        go_on()?;
        for method in MethodSet::all().methods() {
            let route = |policy: &Policy| {
                let matched = policy.find(&witness.host, &method, &witness.path).ok()?;
                let RouteId(route) = matched.route().id();
                Some(route)
            };
            let pair = (route(old), route(new));
            if pair != (None, None) {
                let requests = pairs.entry(pair).or_default();
                requests.entry(witness.clone()).or_default().insert(&method);
            }
        }
    }
    let (mut reached_old, mut reached_new) = (Reached::new(old), Reached::new(new));
    let mut difference = Difference {
        access: Vec::new(),
        kept: Vec::new(),
    };
    for ((before, after), requests) in pairs {
        go_on()?;
        let (before_reach, after_reach) = (reached_old.by(before), reached_new.by(after));
        let before = before.and_then(|route| old.routes().get(route));
        let after = after.and_then(|route| new.routes().get(route));
        let requests: Vec<_> = requests.into_iter().collect();
        if let (Some(old), Some(new)) = (before, after)
            && before_reach.lets_somebody_in
            && after_reach.lets_somebody_in
        {
            let requests = requests.clone();
            difference.kept.push(Kept { old, new, requests });
        }
        let gained = after_reach.parts.minus(&before_reach.parts)?;
        let lost = before_reach.parts.minus(&after_reach.parts)?;
        if gained.is_empty() && lost.is_empty() {
            continue;
        }
        difference.access.push(Change {
            old: before,
            new: after,
            requests,
            gained: gained.simplified(),
            lost: lost.simplified(),
        });
    }
    Ok(difference)
}

/// Whom each route lets in, worked out once.
struct Reached<'p> {
    policy: &'p Policy,
    known: HashMap<Option<usize>, Rc<ByOne>>,
}

/// Whom one route lets in.
struct ByOne {
    parts: Reach,
    lets_somebody_in: bool,
}

impl<'p> Reached<'p> {
    fn new(policy: &'p Policy) -> Self {
        Self {
            policy,
            known: HashMap::new(),
        }
    }

    /// Nobody is let in by no route.
    fn by(&mut self, route: Option<usize>) -> Rc<ByOne> {
        let known = self.known.entry(route).or_insert_with(|| {
            let route = route.and_then(|route| self.policy.routes().get(route));
            let parts = route.map_or(Reach::none(), |route| self.policy.parts(route));
            Rc::new(ByOne {
                lets_somebody_in: parts.lets_somebody_in(),
                parts,
            })
        });
        Rc::clone(known)
    }
}
