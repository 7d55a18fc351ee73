//! Near misses of every allow rule: requests that differ in one thing from one that the rule lets in,
//! and must be refused for it. A policy whose near misses get in says more than its author meant.

mod misses;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderMap, Method, Version};
use uuid::Uuid;

use self::misses::misses;
use super::suite::{Suite, Tested};
use super::token::TokenSpec;
use super::{Answer, Caller, Question};
use crate::files::Mode;
use crate::ids::{AppId, TenantId};
use crate::policy::{Clause, Effect, Route, Rule, RuleId, Wanted, some_host, some_path};
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
    /// What let it in, if anything did that should not have.
    pub breach: Option<String>,
}

/// Attacks every allow rule of a policy. `tested` are tests that ran on it: what they were let in with
/// is what is changed; for a rule that none reached, a request is made up.
pub fn attack<'p>(suite: &Suite<'p>, tested: &[Tested]) -> Attack<'p> {
    let mut attack = Attack::default();
    for route in suite.trial().policy().routes() {
        // Whoever only watches, and whoever lets everybody in, cannot be missed.
        if route.is_public() || route.mode() == Mode::ReportOnly {
            continue;
        }
        let acting = |rule: &&Rule| rule.mode() == Mode::Enforce;
        for rule in route.allow().rules().iter().filter(acting) {
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
    if !answer.lets_in() || !answer.holding.contains(&rule.id()) {
        attack.unattacked.push((route, rule.id()));
        return;
    }
    for (change, miss) in misses(&base, route, rule, suite.trial().policy()) {
        let answer = suite.trial().ask(&miss);
        attack.strikes.push(Strike {
            route,
            rule: rule.id(),
            change,
            breach: breach(&answer, rule.id(), route),
        });
    }
    attack.strikes.push(Strike {
        route,
        rule: rule.id(),
        change: "a SAS signature added to the URL".to_owned(),
        breach: leaks(suite, &base),
    });
}

/// What let a near miss in, if it is not another rule that says so.
fn breach(answer: &Answer<'_>, attacked: RuleId, route: &Route) -> Option<String> {
    let decision = answer.decision.as_ref().ok().filter(|d| d.lets_in())?;
    let same = decision.route().id() == route.id();
    let other = |rule: &RuleId| rule.effect == Effect::Allow && !(same && *rule == attacked);
    // Another rule, or another route, may well let in what this one does not.
    let explained =
        answer.holding.iter().any(other) && !(same && answer.holding.contains(&attacked));
    let name = decision.route().name();
    match (explained, decision.route().is_public(), same) {
        (true, ..) => None,
        (false, true, false) => None,
        (false, _, true) => Some(format!("{attacked} of {name}")),
        (false, false, false) => Some(format!("route {name}")),
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
    answer
        .lets_in()
        .then(|| "a signature without a token".to_owned())
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
        now,
        version: Version::HTTP_11,
        caller: Caller::Claims(token.claims()),
    }
}

fn enough<T: ToString>(wanted: &Wanted<T>) -> Vec<String> {
    let any = wanted.any_of.iter().take(1);
    any.chain(&wanted.all_of).map(T::to_string).collect()
}
