//! The tests of a policy, run: each request is decided on, and what came is held against what was
//! expected. Which rules some test reached is kept, to say which none does.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::{HeaderMap, Request};

use super::TokenSpec;
use super::{Answer, Caller, Question, Trial};
use crate::denial::Reason;
use crate::entra::Version;
use crate::files::{
    Diagnostics, Expectation, ExpectedBackend, PolicyDocument, Spanned, TestCase, TestRequest,
    TestToken, is_secretive, nearest, without_tokens,
};
use crate::ids::{AppId, ObjectId, TenantId};
use crate::policy::{Named, Policy, Rehearsed, Route, RouteId, RuleId};
use crate::token::TokenKind;
use crate::upstream;

/// What `Host` says where a test names none.
const HOST: &str = "localhost";

/// Where requests come from where a test says nothing of it.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A policy, and the tests that are run on it.
pub struct Suite<'p> {
    trial: Trial<'p>,
    document: &'p PolicyDocument,
    now: Duration,
    reached: BTreeSet<Reached>,
}

/// Something that a test may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reached {
    Route(usize),
    Rule(usize, RuleId),
}

/// A test that was run.
#[derive(Debug)]
pub struct Tested {
    /// What did not come as expected; nothing if the test passed. One line each.
    pub failures: Vec<String>,
    /// The request that was decided on.
    pub question: Question,
    /// The route that took it, and the rules of it that held, if it was let in.
    pub let_in: Option<(RouteId, Vec<RuleId>)>,
}

/// How much of a policy the tests reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Rules, and routes that are public, that some test reached.
    pub reached: usize,
    /// How many there are.
    pub all: usize,
}

impl Coverage {
    /// In percent; a policy without rules is covered.
    pub fn percent(self) -> f64 {
        match self.all {
            0 => 100.0,
            #[expect(clippy::cast_precision_loss, reason = "no policy has 2^52 rules")]
            all => self.reached as f64 * 100.0 / all as f64,
        }
    }
}

/// What no test reached.
#[derive(Clone, Copy, Debug)]
pub struct Unreached<'p> {
    /// The route.
    pub route: &'p Route,
    /// The rule, or `None` where the route is public.
    pub rule: Option<RuleId>,
}

impl<'p> Suite<'p> {
    /// Tests of a policy, which was compiled from `document`. Requests come at `now` (since the Unix
    /// epoch) where a test says nothing else.
    pub fn new(trial: Trial<'p>, document: &'p PolicyDocument, now: Duration) -> Self {
        Self {
            trial,
            document,
            now,
            reached: BTreeSet::new(),
        }
    }

    /// The policy, to ask it more.
    pub fn trial(&self) -> &Trial<'p> {
        &self.trial
    }

    /// The document that the policy was compiled from.
    pub fn document(&self) -> &'p PolicyDocument {
        self.document
    }

    /// When requests come where nothing else is said.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Runs a test. `None` when it names what the policy does not know; the reason has been added then.
    pub fn run(&mut self, case: &TestCase, diagnostics: &mut Diagnostics) -> Option<Tested> {
        let question = self.question(case, diagnostics)?;
        check_expectation(&case.expect.value, self.trial.policy(), diagnostics)?;
        let mut answer = self.trial.ask(&question);
        self.note(&answer);
        let let_in = answer.decision.as_ref().ok().filter(|d| d.lets_in());
        let let_in = let_in.map(|decision| (decision.route().id(), answer.holding.clone()));
        let mut failures = Vec::new();
        expect(&case.expect.value, &answer, &mut failures);
        if let Some(expected) = &case.expect.value.backend {
            match self.preview(&mut answer) {
                Some((name, head)) => backend(&expected.value, &name, &head, &mut failures),
                None => {
                    failures.push("the backend gets nothing: the request is refused".to_owned())
                }
            }
        }
        Some(Tested {
            failures,
            question,
            let_in,
        })
    }

    fn note(&mut self, answer: &Answer<'_>) {
        let Ok(decision) = &answer.decision else {
            return;
        };
        let RouteId(route) = decision.route().id();
        self.reached.insert(Reached::Route(route));
        for rule in &answer.holding {
            self.reached.insert(Reached::Rule(route, *rule));
        }
    }

    /// Whether some test reached a route.
    pub fn reaches(&self, route: &Route) -> bool {
        self.reached.contains(&Reached::Route(route.id().0))
    }

    /// How much was reached so far.
    pub fn coverage(&self) -> Coverage {
        let all = self.to_reach().count();
        Coverage {
            all,
            reached: all - self.unreached().count(),
        }
    }

    /// What no test reached so far, in the order of the files.
    pub fn unreached(&self) -> impl Iterator<Item = Unreached<'p>> {
        self.to_reach().filter(|place| {
            let RouteId(route) = place.route.id();
            let place = match place.rule {
                None => Reached::Route(route),
                Some(rule) => Reached::Rule(route, rule),
            };
            !self.reached.contains(&place)
        })
    }

    fn to_reach(&self) -> impl Iterator<Item = Unreached<'p>> + use<'p> {
        self.trial.policy().routes().iter().flat_map(|route| {
            let public = route.is_public().then_some(None);
            let allow = route.allow().rules().iter();
            let rules = allow.chain(route.deny().rules());
            let rules = rules.filter(|rule| {
                // Allow rules of a public route say nothing, and `check` says so.
                !route.is_public() || rule.id().effect == crate::policy::Effect::Deny
            });
            let places = public.into_iter().chain(rules.map(|rule| Some(rule.id())));
            places.map(move |rule| Unreached { route, rule })
        })
    }

    /// What the backend would get, and its name. `None` if nothing.
    pub fn preview(&self, answer: &mut Answer<'p>) -> Option<(String, Request<()>)> {
        let request = answer.request.take()?;
        let denied = || Err(Reason::Internal.into());
        let decision = std::mem::replace(&mut answer.decision, denied());
        let authorized = decision.ok()?.enforce().ok()?;
        let backend = self
            .document
            .backends
            .get(authorized.matched().route().backend().0)?;
        let head = upstream::preview(&backend.value, &authorized, request).ok()?;
        Some((backend.name.value.clone(), head))
    }

    fn question(&self, case: &TestCase, diagnostics: &mut Diagnostics) -> Option<Question> {
        let TestRequest {
            method,
            path,
            host,
            headers,
            client,
            certificate,
            protocol,
        } = &case.request;
        let mut question = Question {
            method: method.value.clone(),
            host: host.clone().unwrap_or_else(|| HOST.to_owned()),
            target: path.value.clone(),
            headers: HeaderMap::new(),
            client: client.unwrap_or(CLIENT),
            certificate: certificate.clone(),
            now: case.at.unwrap_or(self.now),
            version: *protocol,
            caller: Caller::Nobody,
        };
        for (name, value) in headers {
            question.headers.append(name.clone(), value.clone());
        }
        if let Some(token) = &case.token {
            let spec = self.token(&token.value, &question, diagnostics)?;
            question.caller = Caller::Claims(spec.claims());
        }
        Some(question)
    }

    fn token(
        &self,
        written: &TestToken,
        question: &Question,
        diagnostics: &mut Diagnostics,
    ) -> Option<TokenSpec> {
        let policy = self.trial.policy();
        let names = policy.names();
        let tenant = named("tenant", &written.tenant, names, diagnostics);
        let app: Option<AppId> = named("app", &written.app, names, diagnostics);
        let principal = match &written.principal {
            None => Some(None),
            Some(principal) => named("principal", principal, names, diagnostics).map(Some),
        };
        let route = self.trial.route(question).ok();
        let audiences = route.map_or(policy.audiences(), |route| policy.audiences_of(route));
        let audience = audiences.first().map(|audience| &**audience);
        let kind = match written.scopes.is_empty() {
            true => TokenKind::AppOnly,
            false => TokenKind::Delegated,
        };
        let groups = written
            .groups
            .iter()
            .map(|group| match names.groups().id(group) {
                Some(id) => id.to_string(),
                None => group.clone(),
            });
        let spec = TokenSpec::new(tenant?, app?, audience.unwrap_or_default(), question.now);
        Some(TokenSpec {
            version: match written.v1 {
                true => Version::V1,
                false => Version::V2,
            },
            principal: principal?,
            kind: written.kind.unwrap_or(kind),
            strength: written.auth_strength,
            audience: written.audience.clone().unwrap_or(spec.audience.clone()),
            roles: written.roles.clone(),
            scopes: written.scopes.clone(),
            groups: groups.collect(),
            group_overage: written.group_overage,
            not_before: written.not_before.unwrap_or(spec.not_before),
            expires: written.expires.unwrap_or(spec.expires),
            claims: written.claims.clone(),
            ..spec
        })
    }
}

/// An ID that a policy may have a name for.
trait NamedId: std::str::FromStr {
    fn of(names: &Named, name: &str) -> Option<Self>;
    fn all(names: &Named) -> Vec<&str>;
}

impl NamedId for TenantId {
    fn of(names: &Named, name: &str) -> Option<Self> {
        names.tenants().id(name)
    }

    fn all(names: &Named) -> Vec<&str> {
        names.tenants().names().collect()
    }
}

impl NamedId for AppId {
    fn of(names: &Named, name: &str) -> Option<Self> {
        names.apps().id(name)
    }

    fn all(names: &Named) -> Vec<&str> {
        names.apps().names().collect()
    }
}

impl NamedId for ObjectId {
    fn of(names: &Named, name: &str) -> Option<Self> {
        names.principals().id(name)
    }

    fn all(names: &Named) -> Vec<&str> {
        names.principals().names().collect()
    }
}

fn named<T: NamedId>(
    kind: &str,
    written: &Spanned<String>,
    names: &Named,
    diagnostics: &mut Diagnostics,
) -> Option<T> {
    let found = T::of(names, &written.value).or_else(|| written.value.parse().ok());
    if found.is_none() {
        let error = diagnostics.error(
            &written.span,
            format!("no {kind} is named `{}`", without_tokens(&written.value)),
        );
        match nearest(&written.value, T::all(names)) {
            Some(near) => error.did_you_mean(Some(near)),
            None => error.help(format!(
                "write a name of the policy, or the ID of any {kind}"
            )),
        };
    }
    found
}

/// An expectation that could never be met is a mistake in the test.
fn check_expectation(
    expected: &Expectation,
    policy: &Policy,
    diagnostics: &mut Diagnostics,
) -> Option<()> {
    let before = diagnostics.errors();
    let codes = || Reason::ALL.iter().map(|reason| reason.code());
    let others = ["rule", "public", "report-only", "none"];
    for reason in [&expected.reason, &expected.report_only]
        .into_iter()
        .flatten()
    {
        let known = codes().chain(others).any(|code| code == reason.value);
        if !known {
            diagnostics
                .error(&reason.span, "there is no such reason")
                .did_you_mean(nearest(&reason.value, codes()));
        }
    }
    let routes = || policy.routes().iter().map(|route| &**route.name());
    if let Some(route) = &expected.route
        && !routes().any(|name| name == route.value)
    {
        diagnostics
            .error(&route.span, format!("no route is named `{}`", route.value))
            .did_you_mean(nearest(&route.value, routes()));
    }
    (diagnostics.errors() == before).then_some(())
}

fn expect(expected: &Expectation, answer: &Answer<'_>, failures: &mut Vec<String>) {
    let Expectation {
        allow,
        reason,
        route,
        rule,
        report_only,
        backend: _,
    } = expected;
    let decision = answer.decision.as_ref().ok();
    let lets_in = answer.lets_in();
    let came = came(answer);
    let word = |allow: bool| if allow { "allow" } else { "deny" };
    if let Some(allow) = allow.filter(|allow| *allow != lets_in) {
        failures.push(format!("expected {}, came {came}", word(allow)));
    }
    let code = answer.reason();
    if let Some(reason) = reason.as_ref().filter(|reason| reason.value != code) {
        failures.push(format!("expected the reason {}, came {came}", reason.value));
    }
    let name = decision.map_or("none", |decision| decision.route().name());
    if let Some(route) = route.as_ref().filter(|route| route.value != name) {
        failures.push(format!("expected the route {}, came {name}", route.value));
    }
    let held = decision.and_then(crate::policy::Decision::rule);
    let held = held.map_or_else(|| "none".to_owned(), |rule| rule.to_string());
    if let Some(rule) = rule.as_ref().filter(|rule| rule.value != held) {
        failures.push(format!("expected the rule {}, came {held}", rule.value));
    }
    let rehearsed = decision.and_then(|decision| decision.rehearsed());
    let rehearsed = match &rehearsed {
        Some(Rehearsed::Denial(reason, _)) => reason.code(),
        Some(Rehearsed::Allow(_)) => "rule",
        None => "none",
    };
    if let Some(expected) = report_only.as_ref().filter(|e| e.value != rehearsed) {
        failures.push(format!(
            "expected that only reported {}, came {rehearsed}",
            expected.value
        ));
    }
}

/// What came, in words for who reads a failed test.
fn came(answer: &Answer<'_>) -> String {
    let reason = answer.reason();
    let note = answer.denial().and_then(|denial| denial.note());
    let decision = if answer.lets_in() { "allow" } else { "deny" };
    let place = answer.decision.as_ref().ok().map(|decision| {
        let rule = decision.rule().map(|rule| format!(", {rule}"));
        format!(" ({}{})", decision.route().name(), rule.unwrap_or_default())
    });
    let place = place.unwrap_or_default();
    match note {
        Some(note) => format!(
            "{decision}: {reason}{place}; expected {}, got {}",
            note.expected, note.got
        ),
        None => format!("{decision}: {reason}{place}"),
    }
}

fn backend(expected: &ExpectedBackend, name: &str, head: &Request<()>, failures: &mut Vec<String>) {
    let ExpectedBackend {
        name: wanted,
        path,
        query,
        headers,
    } = expected;
    let mut compare = |what: &str, expected: &Option<Spanned<String>>, came: &str| {
        if let Some(expected) = expected.as_ref().filter(|expected| expected.value != came) {
            failures.push(format!(
                "expected that the backend's {what} is {:?}, came {came:?}",
                expected.value
            ));
        }
    };
    compare("name", wanted, name);
    compare("path", path, head.uri().path());
    compare(
        "query",
        query,
        &shown_query(head.uri().query().unwrap_or_default(), query),
    );
    for (field, expected) in headers {
        let came = head
            .headers()
            .get(field)
            .map(|value| value.to_str().unwrap_or("(bytes)"));
        if came != expected.value.as_deref() {
            failures.push(format!(
                "expected that the backend gets {field}: {}, came {}",
                shown(expected.value.as_deref()),
                match (is_secretive(field.as_str()), came) {
                    (true, Some(_)) => "(a value that is not shown)".to_owned(),
                    _ => shown(came),
                }
            ));
        }
    }
}

/// A query as a failed test tells it: values that were not expected, under names that promise a secret or
/// in the form of a token, are left out.
fn shown_query(query: &str, expected: &Option<Spanned<String>>) -> String {
    if expected
        .as_ref()
        .is_some_and(|expected| expected.value == query)
    {
        return query.to_owned();
    }
    let parameters = query
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if is_secretive(name) => format!("{name}=***"),
            _ => without_tokens(parameter),
        });
    parameters.collect::<Vec<_>>().join("&")
}

fn shown(value: Option<&str>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| format!("{value:?}"))
}
