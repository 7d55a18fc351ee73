//! Near misses of every allow rule: requests that differ in one thing from one that the rule lets in,
//! and must be refused for it. A policy whose near misses get in says more than its author meant.

mod misses;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderMap, Method, Version};
use uuid::Uuid;

use self::misses::misses;
use super::TokenSpec;
use super::suite::{Suite, Tested};
use super::{Answer, Caller, Question};
use crate::files::Mode;
use crate::ids::{AppId, TenantId};
use crate::policy::{Clause, Effect, Grounds, Route, Rule, RuleId, Wanted, some_host, some_path};
use crate::token::TokenKind;

/// IDs that no policy names: they were never given to anybody.
const STRANGER: Uuid = Uuid::from_u128(0x5742_4e47_4552_0000_8000_0000_0000_0001);

/// What came of attacking a policy.
#[derive(Debug, Default)]
pub struct Attack<'p> {
    /// Every near miss that was tried.
    pub strikes: Vec<Strike<'p>>,
    /// The rules for which no request was found that they let in: `when` asks for something that only
    /// a test can know.
    pub unattacked: Vec<(&'p Route, RuleId)>,
}

/// One near miss.
#[derive(Debug)]
pub struct Strike<'p> {
    /// The route.
    pub route: &'p Route,
    /// The rule that was nearly met.
    pub rule: RuleId,
    /// What was otherwise.
    pub change: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a near miss, once everything acts that only reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is refused.
    Refused,
    /// This lets it in: another rule that says so, or another route. Whether it should is for people to say.
    LetInElsewhere(String),
    /// This lets it in, and must not.
    Breach(String),
}

/// Attacks every allow rule of a policy. `tested` are tests that ran on it: what they were let in with
/// is what is changed; for a rule that none reached, a request is made up.
pub fn attack<'p>(suite: &Suite<'p>, tested: &[Tested]) -> Attack<'p> {
    let mut attack = Attack::default();
    for route in suite.trial().policy().routes() {
        // Whoever lets everybody in cannot be missed.
        if route.is_public() {
            continue;
        }
        for rule in route.allow().rules() {
            strike(suite, tested, route, rule, &mut attack);
        }
    }
    attack
}

fn strike<'p>(
    suite: &Suite<'p>,
    tested: &[Tested],
    route: &'p Route,
    rule: &'p Rule,
    attack: &mut Attack<'p>,
) {
    let held = |tested: &&Tested| {
        let let_in = tested.let_in.as_ref();
        let_in.is_some_and(|(of, rules)| *of == route.id() && rules.contains(&rule.id()))
    };
    let known = tested
        .iter()
        .find(held)
        .map(|tested| tested.question.clone());
    let base = known.unwrap_or_else(|| made_up(suite, route, rule));
    let answer = suite.trial().ask(&base);
    if !lets_in(&answer, route, rule.id()) {
        attack.unattacked.push((route, rule.id()));
        return;
    }
    for (change, miss) in misses(&base, route, rule, suite.trial().policy()) {
        let answer = suite.trial().ask(&miss);
        attack.strikes.push(Strike {
            route,
            rule: rule.id(),
            change,
            outcome: outcome(&answer, route, rule.id()),
        });
    }
    attack.strikes.push(Strike {
        route,
        rule: rule.id(),
        change: "a SAS signature added to the URL".to_owned(),
        outcome: leaks(suite, &base).map_or(Outcome::Refused, Outcome::Breach),
    });
}

/// Whether a rule lets a request in, once it and its route act.
fn lets_in(answer: &Answer<'_>, route: &Route, rule: RuleId) -> bool {
    let is_denied = |holding: &RuleId| {
        let rule = route.rule(*holding);
        holding.effect == Effect::Deny && rule.is_some_and(|rule| rule.mode() == Mode::Enforce)
    };
    let decision = answer.decision.as_ref();
    decision.is_ok_and(|decision| decision.route().id() == route.id())
        && answer.holding.contains(&rule)
        && !answer.holding.iter().any(is_denied)
}

fn outcome(answer: &Answer<'_>, route: &Route, attacked: RuleId) -> Outcome {
    if lets_in(answer, route, attacked) {
        return Outcome::Breach(format!("{attacked} of {}", route.name()));
    }
    let Ok(decision) = &answer.decision else {
        return Outcome::Refused;
    };
    let (name, mode) = (decision.route().name(), decision.route().mode());
    match (decision.verdict(), mode) {
        (Ok(Grounds::Rule(rule)), _) => Outcome::LetInElsewhere(format!("{rule} of {name}")),
        (Ok(Grounds::Public | Grounds::ReportOnly), _) => {
            Outcome::LetInElsewhere(format!("{name}, which is public"))
        }
        (Err(_), Mode::ReportOnly) if decision.route().id() != route.id() => {
            Outcome::LetInElsewhere(format!("{name}, which only reports"))
        }
        (Err(_), Mode::ReportOnly | Mode::Enforce) => Outcome::Refused,
    }
}

/// Whether a signature in the URL lets somebody in without a token, or reaches the backend.
fn leaks(suite: &Suite<'_>, base: &Question) -> Option<String> {
    let sas = "sig=planted&Sig=planted&%73ig=planted";
    let mut signed = base.clone();
    let separator = if signed.target.contains('?') {
        '&'
    } else {
        '?'
    };
    signed.target = format!("{}{separator}{sas}", signed.target);
    let mut answer = suite.trial().ask(&signed);
    let sent = suite.preview(&mut answer);
    if sent.is_some_and(|(_, head)| head.uri().to_string().contains("planted")) {
        return Some("the backend, which gets the signature".to_owned());
    }
    signed.caller = Caller::Nobody;
    let answer = suite.trial().ask(&signed);
    let let_in = answer
        .decision
        .is_ok_and(|decision| decision.verdict().is_ok());
    let_in.then(|| "a signature without a token".to_owned())
}

/// A request that the rule lets in, if its conditions in CEL let it.
fn made_up(suite: &Suite<'_>, route: &Route, rule: &Rule) -> Question {
    let policy = suite.trial().policy();
    let audience = policy.audiences_of(route).first();
    let audience = audience.map(|audience| &**audience).unwrap_or_default();
    let stranger = (TenantId::new(STRANGER), AppId::new(STRANGER));
    let mut token = TokenSpec::new(stranger.0, stranger.1, audience, suite.now());
    let mut client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut now = suite.now();
    let mut kind = None;
    for clause in rule.clauses() {
        match clause {
            Clause::Tenants(ids) => token.tenant = ids.iter().next().unwrap_or(token.tenant),
            Clause::Apps(ids) => token.app = ids.iter().next().unwrap_or(token.app),
            Clause::Principals(ids) => token.principal = ids.iter().next(),
            Clause::Kinds(kinds) => kind = kinds.first().copied(),
            Clause::Strengths(ways) => {
                token.strength = ways.first().copied().unwrap_or(token.strength)
            }
            Clause::Roles(wanted) => token.roles = enough(wanted),
            Clause::Scopes(wanted) => token.scopes = enough(wanted),
            Clause::Groups(wanted) => token.groups = enough(wanted),
            Clause::From(networks) => {
                let first = networks.first().map(|network| network.addresses.addr());
                client = first.unwrap_or(client);
            }
            Clause::When(_) => {}
            Clause::Window {
                not_before,
                expires,
            } => {
                let from = not_before.map_or(now, |from| now.max(Duration::from_secs(from)));
                let last = expires.map(|to| Duration::from_secs(to.saturating_sub(1)));
                now = last.map_or(from, |last| from.min(last));
            }
        }
    }
    token.kind = kind.unwrap_or(match token.scopes.is_empty() {
        true => TokenKind::AppOnly,
        false => TokenKind::Delegated,
    });
    token.not_before = now;
    token.expires = now.saturating_add(Duration::from_secs(3600));
    let host = route.taken().host.as_deref();
    Question {
        method: route
            .taken()
            .methods
            .methods()
            .next()
            .unwrap_or(Method::GET),
        host: host.map_or_else(|| "localhost".to_owned(), |host| some_host(host, "any")),
        target: some_path(&route.taken().path, "any"),
        headers: HeaderMap::new(),
        client,
        certificate: None,
        now,
        version: Version::HTTP_11,
        caller: Caller::Claims(token.claims()),
    }
}

fn enough<T: ToString>(wanted: &Wanted<T>) -> Vec<String> {
    let any = wanted.any_of.iter().take(1);
    any.chain(&wanted.all_of).map(T::to_string).collect()
}
