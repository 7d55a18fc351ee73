//! Near misses of every allow rule: requests that differ in one thing from one that the rule lets in,
//! and must be refused for it. A policy whose near misses get in says more than its author meant.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderMap, Method, Version};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::suite::{Suite, Tested};
use super::token::TokenSpec;
use super::{Answer, Caller, Question};
use crate::entra;
use crate::files::Mode;
use crate::ids::{AppId, ObjectId, PERSONAL_ACCOUNTS, TenantId};
use crate::policy::{Clause, Effect, Policy, Route, Rule, RuleId, Wanted};
use crate::token::{AuthStrength, TokenKind};

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
    Question {
        method: route
            .taken()
            .methods
            .methods()
            .next()
            .unwrap_or(Method::GET),
        host: host_of(route),
        target: path_of(&route.taken().path),
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

/// A host that the route takes.
pub(super) fn host_of(route: &Route) -> String {
    match route.taken().host.as_deref() {
        None => "localhost".to_owned(),
        Some(host) => match host.strip_prefix('*') {
            Some(suffix) => format!("any{suffix}"),
            None => host.to_owned(),
        },
    }
}

/// A path that a pattern takes.
pub(super) fn path_of(pattern: &str) -> String {
    let mut path = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        path.push_str(before);
        path.push_str("any");
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    path + rest
}

/// Every near miss of a request that a rule lets in.
fn misses(base: &Question, route: &Route, rule: &Rule, policy: &Policy) -> Vec<(String, Question)> {
    let mut misses = Misses {
        base,
        found: Vec::new(),
    };
    misses.tokens_in_general(policy);
    for clause in rule.clauses() {
        misses.clause(clause, rule, policy);
    }
    misses.paths(route);
    misses.methods(route);
    misses.found
}

struct Misses<'b> {
    base: &'b Question,
    found: Vec<(String, Question)>,
}

impl Misses<'_> {
    fn add(&mut self, change: impl Into<String>, miss: Question) {
        self.found.push((change.into(), miss));
    }

    /// The same request with other claims.
    fn claims(&mut self, change: impl Into<String>, edit: impl FnOnce(&mut Map<String, Value>)) {
        if let Caller::Claims(claims) = &self.base.caller {
            let mut claims = claims.clone();
            edit(&mut claims);
            let miss = Question {
                caller: Caller::Claims(claims),
                ..self.base.clone()
            };
            self.add(change, miss);
        }
    }

    fn tokens_in_general(&mut self, policy: &Policy) {
        let nobody = Question {
            caller: Caller::Nobody,
            ..self.base.clone()
        };
        self.add("no token", nobody);
        self.claims("a tenant that nobody names", |claims| {
            of_tenant(claims, TenantId::new(STRANGER));
        });
        self.claims("a personal account", |claims| {
            of_tenant(claims, PERSONAL_ACCOUNTS)
        });
        self.claims("the issuer of another tenant", |claims| {
            let claimed = claims.get("tid").cloned();
            of_tenant(claims, TenantId::new(STRANGER));
            set(claims, "tid", claimed.unwrap_or_default());
        });
        let audience = "api://near-miss";
        if !policy.audiences().iter().any(|own| **own == *audience) {
            self.claims("another audience", |claims| {
                set(claims, "aud", json!(audience))
            });
        }
        let now = self.base.now.as_secs();
        self.claims("an expired token", |claims| {
            set(claims, "nbf", json!(now.saturating_sub(7200)));
            set(claims, "exp", json!(now.saturating_sub(3600)));
        });
        self.claims("a token that is not valid yet", |claims| {
            set(claims, "nbf", json!(now.saturating_add(3600)));
            set(claims, "exp", json!(now.saturating_add(7200)));
        });
    }

    fn clause(&mut self, clause: &Clause, rule: &Rule, policy: &Policy) {
        match clause {
            Clause::Tenants(ids) => {
                let other = policy.names().tenants().find(|(id, _)| !ids.contains(*id));
                if let Some((id, name)) = other {
                    self.claims(format!("the tenant {name}"), |claims| of_tenant(claims, id));
                }
            }
            Clause::Apps(ids) => {
                let app = |claims: &mut Map<String, Value>, id: AppId| {
                    let claim = if claims.contains_key("appid") {
                        "appid"
                    } else {
                        "azp"
                    };
                    set(claims, claim, json!(id.to_string()));
                };
                self.claims("an app that nobody names", |claims| {
                    app(claims, AppId::new(STRANGER))
                });
                let other = policy.names().apps().find(|(id, _)| !ids.contains(*id));
                if let Some((id, name)) = other {
                    self.claims(format!("the app {name}"), |claims| app(claims, id));
                }
                self.users_of_the_app(rule);
            }
            Clause::Principals(_) => {
                let other = ObjectId::new(STRANGER).to_string();
                self.claims("another principal", |claims| {
                    set(claims, "oid", json!(other))
                });
                self.claims("a token that names no principal", |claims| {
                    claims.remove("oid");
                });
            }
            Clause::Kinds(kinds) => {
                if !kinds.contains(&TokenKind::Delegated) {
                    self.claims("a user's token with the same app ID and roles", users);
                }
                if !kinds.contains(&TokenKind::AppOnly) {
                    self.claims("an app's own token", |claims| {
                        claims.remove("scp");
                        set(claims, "idtyp", json!("app"));
                    });
                }
            }
            Clause::Strengths(ways) => {
                let claimed = |way: AuthStrength| match way {
                    AuthStrength::Public => Some("0"),
                    AuthStrength::Secret => Some("1"),
                    AuthStrength::Certificate => Some("2"),
                    AuthStrength::Unknown => None,
                };
                for way in AuthStrength::ALL.iter().filter(|way| !ways.contains(way)) {
                    self.claims(
                        format!("an app that proved itself otherwise: {way}"),
                        |claims| {
                            let v1 = claims.contains_key("appid");
                            let claim = if v1 { "appidacr" } else { "azpacr" };
                            match claimed(*way) {
                                Some(value) => set(claims, claim, json!(value)),
                                None => drop(claims.remove(claim)),
                            }
                        },
                    );
                }
            }
            Clause::Roles(wanted) => self.names("roles", "role", wanted),
            Clause::Scopes(wanted) => self.names("scp", "scope", wanted),
            Clause::Groups(wanted) => {
                self.names("groups", "group", wanted);
                self.claims("more groups than a token lists", |claims| {
                    claims.remove("groups");
                    set(claims, "_claim_names", json!({ "groups": "src1" }));
                });
            }
            Clause::From(networks) => {
                let inside =
                    |client: &IpAddr| networks.iter().any(|n| n.addresses.contains(client));
                let candidates = (0..=255u8).map(|part| IpAddr::from([part, 51, 100, 77]));
                if let Some(client) = candidates.into_iter().find(|client| !inside(client)) {
                    let miss = Question {
                        client,
                        ..self.base.clone()
                    };
                    self.add("another network", miss);
                }
            }
            // Nobody but a test knows what makes it false.
            Clause::When(_) => {}
            Clause::Window {
                not_before,
                expires,
            } => {
                let early = not_before.map(|from| from.saturating_sub(1));
                let edges = [
                    ("before the rule begins", early),
                    ("after it has ended", *expires),
                ];
                for (change, now) in edges {
                    let Some(now) = now.map(Duration::from_secs) else {
                        continue;
                    };
                    self.at(change, now);
                }
            }
        }
    }

    /// The request at another time, with a token that is valid then.
    fn at(&mut self, change: &str, now: Duration) {
        let mut miss = self.base.clone();
        miss.now = now;
        if let Caller::Claims(claims) = &mut miss.caller {
            set(claims, "nbf", json!(now.as_secs()));
            set(claims, "exp", json!(now.as_secs().saturating_add(3600)));
        }
        self.add(change, miss);
    }

    /// A user may hold a token with the app's ID; what the app was given, the user was not.
    fn users_of_the_app(&mut self, rule: &Rule) {
        let asks_more = |clause: &Clause| matches!(clause, Clause::Scopes(_) | Clause::Kinds(_));
        if !rule.clauses().iter().any(asks_more) {
            self.claims("a user's token with the same app ID", |claims| {
                users(claims);
                claims.remove("roles");
            });
        }
    }

    /// Without one of several that are all needed, and without any.
    fn names<T: ToString>(&mut self, claim: &str, what: &str, wanted: &Wanted<T>) {
        self.claims(format!("a token without the {what}"), |claims| {
            claims.remove(claim);
        });
        self.claims(format!("a {what} of a similar name"), |claims| {
            let similar = |text: &str| json!(format!("{text}x"));
            let value = match claims.get(claim) {
                Some(Value::String(text)) => similar(text),
                Some(Value::Array(names)) => names
                    .iter()
                    .filter_map(Value::as_str)
                    .map(similar)
                    .collect(),
                _ => Value::Null,
            };
            set(claims, claim, value);
        });
        for missing in wanted.all_of.iter().map(T::to_string) {
            self.claims(format!("a token without the {what} {missing}"), |claims| {
                let kept = |name: &&str| !name.eq_ignore_ascii_case(&missing);
                let value = match claims.get(claim) {
                    Some(Value::String(text)) => {
                        json!(text.split(' ').filter(kept).collect::<Vec<_>>().join(" "))
                    }
                    Some(Value::Array(names)) => names
                        .iter()
                        .filter_map(Value::as_str)
                        .filter(kept)
                        .collect(),
                    _ => Value::Null,
                };
                set(claims, claim, value);
            });
        }
    }

    /// The path as a looser reader might take it for the same.
    fn paths(&mut self, route: &Route) {
        let (path, query) = match self.base.target.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (&*self.base.target, String::new()),
        };
        let pattern = &*route.taken().path;
        let literal = pattern
            .split('/')
            .find(|part| !part.is_empty() && !part.contains('{'));
        let mut variants = vec![
            (
                "an encoded slash in the path",
                path.replacen('/', "/%2F", 1),
            ),
            ("a double slash in the path", path.replacen('/', "//", 1)),
            ("a backslash in the path", path.replacen('/', "/%5C", 1)),
            ("a climb in the path", format!("/..{path}")),
        ];
        if let Some(literal) = literal {
            let upper = literal.to_ascii_uppercase();
            if upper != literal {
                variants.push(("the path in capitals", path.replacen(literal, &upper, 1)));
            }
            let first = literal.bytes().next().unwrap_or(b'a');
            let twice = format!("%25{first:02X}{}", literal.get(1..).unwrap_or_default());
            variants.push((
                "a path that is encoded twice",
                path.replacen(literal, &twice, 1),
            ));
        }
        if !pattern.contains('{') && pattern != "/" {
            variants.push(("a slash at the end of the path", format!("{path}/")));
            variants.push(("a parameter at the end of the path", format!("{path};x=1")));
        }
        for (change, path) in variants {
            let miss = Question {
                target: format!("{path}{query}"),
                ..self.base.clone()
            };
            self.add(change, miss);
        }
    }

    fn methods(&mut self, route: &Route) {
        let own: Vec<Method> = route.taken().methods.methods().collect();
        for method in [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::TRACE,
        ] {
            if !own.contains(&method) {
                let miss = Question {
                    method: method.clone(),
                    ..self.base.clone()
                };
                self.add(format!("the method {method}"), miss);
            }
        }
    }
}

fn set(claims: &mut Map<String, Value>, name: &str, value: Value) {
    claims.insert(name.to_owned(), value);
}

/// Makes it a token of another tenant, as its own authority would write it.
fn of_tenant(claims: &mut Map<String, Value>, tenant: TenantId) {
    let version = match claims.contains_key("appid") {
        true => entra::Version::V1,
        false => entra::Version::V2,
    };
    set(claims, "tid", json!(tenant.to_string()));
    set(claims, "iss", json!(version.issuers(tenant).first()));
}

/// Makes it a user's token.
fn users(claims: &mut Map<String, Value>) {
    set(claims, "idtyp", json!("user"));
    set(claims, "scp", json!("access_as_user"));
}
