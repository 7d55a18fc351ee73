//! The decision: deny by default, allow by a rule of which every clause holds, unless a deny rule
//! applies. What acts and what is only recorded is told apart in [`Decision::enforce`].

use std::sync::Arc;

use super::circumstances::Circumstances;
use super::refusal;
use super::routes::{Matched, Route};
use super::rule::{Rule, RuleId, Verdict};
use crate::denial::{Denial, Reason};
use crate::entra::Principal;
use crate::files::Mode;
use crate::upgrade::{Asked, Protocol};

/// What the policy says of a request, before anything acts on it.
#[derive(Debug)]
pub struct Decision<'p> {
    matched: Matched<'p>,
    principal: Option<Arc<Principal>>,
    verdict: Result<Grounds, Refusal>,
    /// What a report-only rule would have changed.
    rehearsed: Option<Rehearsed>,
}

/// Why a request was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grounds {
    /// The route is public.
    Public,
    /// An allow rule.
    Rule(RuleId),
    /// The route only reports, and would have refused.
    ReportOnly,
}

/// Why a request is refused.
#[derive(Debug)]
pub struct Refusal {
    denial: Denial,
    rule: Option<RuleId>,
    /// Whoever else a route that only reports lets in: a sealed URL is its caller's alone, and `sas: reject` and
    /// `upgrades` are no rules.
    acts_always: bool,
}

/// What did not act, because its mode is report-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rehearsed {
    /// This would have been the refusal, by this rule if it was one.
    Denial(Reason, Option<RuleId>),
    /// This rule would have let the request in.
    Allow(RuleId),
}

/// The proof that a request was let in. Only a decision makes it.
#[derive(Debug)]
pub struct Authorized<'p> {
    matched: Matched<'p>,
    principal: Option<Arc<Principal>>,
    grounds: Grounds,
}

/// The proof that the caller's connection may be handed over to another protocol, if the backend agrees. Only an
/// [`Authorized`] makes it.
#[derive(Debug)]
pub struct Upgrade(Box<Asked>);

impl Upgrade {
    /// What was asked for.
    pub fn asked(&self) -> &Asked {
        &self.0
    }
}

impl<'p> Authorized<'p> {
    /// Lets a connection be handed over.
    ///
    /// # Errors
    /// `UpgradeNotSupported` where the route does not name the protocol, or a sealed URL was followed.
    pub fn upgrade(&self, asked: &Asked) -> Result<Upgrade, Denial> {
        self.matched.upgrades_to(asked.protocol())?;
        Ok(Upgrade(Box::new(asked.clone())))
    }

    /// The route that matched, which is the route that was decided on.
    pub fn matched(&self) -> &Matched<'p> {
        &self.matched
    }

    /// Who calls; nobody known on a public route, and perhaps on one that only reports.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.as_ref()
    }

    /// Why it was let in.
    pub fn grounds(&self) -> Grounds {
        self.grounds
    }
}

impl Matched<'_> {
    /// Whether a connection may be handed over to a protocol. Who follows a sealed URL goes where the answer to
    /// another request led, and no further.
    fn upgrades_to(&self, protocol: &Protocol) -> Result<(), Denial> {
        match self.bound.is_none() && self.route.upgrades_to(protocol) {
            true => Ok(()),
            false => Err(Denial::from(Reason::UpgradeNotSupported).expected(
                "a protocol that the route names in `upgrades`",
                protocol.name(),
            )),
        }
    }
}

impl<'p> Matched<'p> {
    /// Decides. The outcome of authentication is an input: a public route does not ask for it, and one
    /// that only reports goes on without.
    pub fn decide(
        self,
        caller: Result<Arc<Principal>, Denial>,
        circumstances: &Circumstances<'_>,
    ) -> Decision<'p> {
        let circumstances = Circumstances {
            parameters: &self.parameters,
            ..*circumstances
        };
        let route = self.route;
        let is_theirs =
            |principal: Option<&Principal>| self.bound.is_none_or(|bound| bound.admits(principal));
        let (principal, verdict) = match caller {
            Ok(principal) if !is_theirs(Some(&principal)) => {
                (Some(principal), (Err(Refusal::not_theirs()), None))
            }
            Ok(principal) => {
                let verdict = judge(route, Some(&principal), &circumstances);
                (Some(principal), verdict)
            }
            Err(_) if route.public => (None, judge(route, None, &circumstances)),
            Err(denial) => {
                let refusal = Refusal {
                    denial,
                    rule: None,
                    acts_always: !is_theirs(None),
                };
                (None, (Err(refusal), None))
            }
        };
        let (verdict, rehearsed) = verdict;
        let upgrades =
            |()| (circumstances.upgrade).map_or(Ok(()), |protocol| self.upgrades_to(protocol));
        let accepted = route.accepts_keys(&circumstances).and_then(upgrades);
        let decision = Decision {
            matched: self,
            principal,
            verdict,
            rehearsed,
        };
        // Last, and for whomever the mode lets in: who may not call learns nothing of it.
        match accepted {
            Err(denial) if decision.lets_in() => Decision {
                verdict: Err(Refusal {
                    denial,
                    rule: None,
                    acts_always: true,
                }),
                ..decision
            },
            Err(_) | Ok(()) => decision,
        }
    }
}

impl Matched<'_> {
    /// The rules of the route that hold, whether or not they decide, and whether or not they act: none for
    /// a token that is meant for another route. For tools; a decision stops at the first.
    pub fn holding(
        &self,
        principal: Option<&Principal>,
        circumstances: &Circumstances<'_>,
    ) -> Vec<RuleId> {
        let circumstances = Circumstances {
            parameters: &self.parameters,
            ..*circumstances
        };
        if principal.is_some_and(|caller| self.route.accepts_audience(caller).is_err()) {
            return Vec::new();
        }
        let allow = self.route.allow.rules().iter();
        let allow = allow.filter(|rule| rule.allows(principal, &circumstances));
        let deny = self.route.deny.rules().iter();
        let deny = deny.filter(|rule| rule.denies(principal, &circumstances) != Verdict::Fails);
        allow.chain(deny).map(|rule| rule.id).collect()
    }
}

type Judged = (Result<Grounds, Refusal>, Option<Rehearsed>);

fn judge(
    route: &Route,
    principal: Option<&Arc<Principal>>,
    circumstances: &Circumstances<'_>,
) -> Judged {
    let caller = principal.map(Arc::as_ref);
    let audience = caller.map(|caller| route.accepts_audience(caller));
    if let Some(Err(denial)) = audience {
        return (Err(Refusal::new(denial, None)), None);
    }
    let (mut undecided, mut rehearsed) = (None, None);
    for rule in route.deny.candidates(caller) {
        match (rule.denies(caller, circumstances), rule.enforced()) {
            (Verdict::Fails, _) => {}
            (Verdict::Holds, true) => return (Err(refusal::denied(rule, &Verdict::Holds)), None),
            // One that holds is named before one of which nobody can tell.
            (verdict @ Verdict::Undecided(_), true) => {
                undecided.get_or_insert((rule, verdict));
            }
            (verdict, false) => surest(&mut rehearsed, rule, verdict),
        }
    }
    if let Some((rule, verdict)) = undecided {
        return (Err(refusal::denied(rule, &verdict)), None);
    }
    let rehearsed = rehearsed
        .map(|(rule, verdict)| Rehearsed::Denial(refusal::reason(&verdict), Some(rule.id)));
    if route.public {
        return (Ok(Grounds::Public), rehearsed);
    }
    let mut would_allow = None;
    let allow = route.allow.candidates(caller);
    for rule in allow.filter(|rule| rule.allows(caller, circumstances)) {
        if rule.enforced() {
            return (Ok(Grounds::Rule(rule.id)), rehearsed);
        }
        would_allow.get_or_insert(rule.id);
    }
    let refusal = refusal::closest(&route.allow, caller, circumstances);
    (Err(refusal), would_allow.map(Rehearsed::Allow))
}

/// Of several deny rules that only report, one that holds is named before one of which nobody can tell, and
/// then the first in the file.
fn surest<'r>(named: &mut Option<(&'r Rule, Verdict)>, rule: &'r Rule, verdict: Verdict) {
    let surer = |held: &Verdict| *held != Verdict::Holds && verdict == Verdict::Holds;
    if named.as_ref().is_none_or(|(_, held)| surer(held)) {
        *named = Some((rule, verdict));
    }
}

impl Refusal {
    pub(super) fn new(denial: Denial, rule: Option<RuleId>) -> Self {
        Self {
            denial,
            rule,
            acts_always: false,
        }
    }

    fn not_theirs() -> Self {
        Self {
            denial: Reason::SealedUrlNotYours.into(),
            rule: None,
            acts_always: true,
        }
    }

    /// The answer, and why.
    pub fn denial(&self) -> &Denial {
        &self.denial
    }

    /// The deny rule that applied, or the allow rule that came closest.
    pub fn rule(&self) -> Option<RuleId> {
        self.rule
    }
}

impl<'p> Decision<'p> {
    /// The route.
    pub fn route(&self) -> &'p Route {
        self.matched.route
    }

    /// The route and what of the path it takes.
    pub fn matched(&self) -> &Matched<'p> {
        &self.matched
    }

    /// Who calls, if a token proved it.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.as_ref()
    }

    /// Who calls, or why nobody knows; `None` where the decision does not hold that.
    pub fn caller(&self) -> Option<Result<&Arc<Principal>, &Denial>> {
        match (&self.principal, &self.verdict) {
            (Some(principal), _) => Some(Ok(principal)),
            // Of what authentication came to, a refusal for a key says nothing.
            (None, Err(refusal)) if refusal.denial.reason() == Reason::KeyInUrl => None,
            (None, Err(refusal)) if !self.matched.is_public() => Some(Err(&refusal.denial)),
            (None, Ok(_) | Err(_)) => None,
        }
    }

    /// What the rules say, whether that acts or not.
    ///
    /// # Errors
    /// The refusal.
    pub fn verdict(&self) -> Result<Grounds, &Refusal> {
        self.verdict.as_ref().copied()
    }

    /// The rule that let in or kept out, or that came closest.
    pub fn rule(&self) -> Option<RuleId> {
        match &self.verdict {
            Ok(Grounds::Rule(rule)) => Some(*rule),
            Ok(Grounds::Public | Grounds::ReportOnly) => None,
            Err(refusal) => refusal.rule,
        }
    }

    /// What would have been otherwise, if every rule and the route acted.
    pub fn rehearsed(&self) -> Option<Rehearsed> {
        match (&self.verdict, self.route().mode) {
            (Err(refusal), Mode::ReportOnly) if !refusal.acts_always => {
                Some(Rehearsed::Denial(refusal.denial.reason(), refusal.rule))
            }
            (_, Mode::ReportOnly | Mode::Enforce) => self.rehearsed.clone(),
        }
    }

    /// Whether [`Decision::enforce`] will let the request in.
    pub fn lets_in(&self) -> bool {
        let only_reports = self.route().mode == Mode::ReportOnly;
        match &self.verdict {
            Ok(_) => true,
            Err(refusal) => only_reports && !refusal.acts_always,
        }
    }

    /// Turns the decision into the proof or the refusal. Here, and nowhere else, the route's mode acts.
    ///
    /// # Errors
    /// The denial, if the policy keeps the request out.
    pub fn enforce(self) -> Result<Authorized<'p>, Denial> {
        let grounds = match (self.verdict, self.matched.route.mode) {
            (Ok(grounds), Mode::Enforce | Mode::ReportOnly) => grounds,
            (Err(refusal), Mode::ReportOnly) if refusal.acts_always => return Err(refusal.denial),
            (Err(_), Mode::ReportOnly) => Grounds::ReportOnly,
            (Err(refusal), Mode::Enforce) => return Err(refusal.denial),
        };
        Ok(Authorized {
            matched: self.matched,
            principal: self.principal,
            grounds,
        })
    }
}
