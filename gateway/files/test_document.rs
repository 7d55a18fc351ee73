//! *.test.yaml, the tests of a policy: requests, the tokens that come with them, and what is expected.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{Method, Version};
use serde_json::{Map, Value as Json};

use super::decode::{Table, expected, list, scalar, spanned};
use super::diagnostics::Diagnostics;
use super::nearest::nearest;
use super::node::{Node, Value};
use super::rule::instant;
use super::source::{Span, Spanned};
use super::values::{choice, text, token};
use crate::client_certificate::ClientCertificate;
use crate::denial::Reason;
use crate::token::{AuthStrength, TokenKind};

/// The methods that a route can take.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The tests of one file, in its order.
#[derive(Clone, Debug, Default)]
pub struct TestDocument {
    /// The tests that could be understood; the others have left an error.
    pub cases: Vec<TestCase>,
}

/// A test: one request and what is expected of it.
#[derive(Clone, Debug)]
pub struct TestCase {
    /// `name`: the sentence that the test proves.
    pub name: Spanned<String>,
    /// `request`.
    pub request: TestRequest,
    /// `token`: what the caller's token says; none is sent where it is absent.
    pub token: Option<Spanned<TestToken>>,
    /// `at`: when the request comes, since the Unix epoch; now where it is absent.
    pub at: Option<Duration>,
    /// `expect`.
    pub expect: Spanned<Expectation>,
}

/// `request`.
#[derive(Clone, Debug)]
pub struct TestRequest {
    /// `method`. One that is never routed stands here only where the test expects that it is refused.
    pub method: Spanned<Method>,
    /// `path`: path and query as a caller would send them. It begins with `/`, unless the test expects
    /// that it is refused.
    pub path: Spanned<String>,
    /// `host`: what `Host` says.
    pub host: Option<String>,
    /// `headers`: a value or a list of values by name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// `client`: the address that the request comes from.
    pub client: Option<IpAddr>,
    /// `certificate`: the one that the caller has proved to hold; none where it is absent.
    pub certificate: Option<ClientCertificate>,
    /// `protocol`: `http1` or `http2`.
    pub protocol: Version,
}

/// `token`.
#[derive(Clone, Debug)]
pub struct TestToken {
    /// `version`: `v1` or `v2`; `v2` where it is absent.
    pub v1: bool,
    /// `tenant`: a name of the policy, or the ID of any tenant.
    pub tenant: Spanned<String>,
    /// `app`: a name of the policy, or the ID of any app.
    pub app: Spanned<String>,
    /// `principal`: a name of the policy, or any object ID.
    pub principal: Option<Spanned<String>>,
    /// `kind`: `appOnly`, `delegated` or `unknown`. Where it is absent: delegated if there are scopes.
    pub kind: Option<TokenKind>,
    /// `authStrength`: `public`, `secret`, `certificate` or `unknown`; `secret` where it is absent.
    pub auth_strength: AuthStrength,
    /// `audience`: the route's first where it is absent.
    pub audience: Option<String>,
    /// `roles`.
    pub roles: Vec<String>,
    /// `scopes`.
    pub scopes: Vec<String>,
    /// `groups`: names of the policy, or what else a token may list.
    pub groups: Vec<String>,
    /// `groupOverage`: whether there are more groups than a token lists.
    pub group_overage: bool,
    /// `notBefore`, since the Unix epoch; when the request comes, where it is absent.
    pub not_before: Option<Duration>,
    /// `expires`, since the Unix epoch; an hour later where it is absent.
    pub expires: Option<Duration>,
    /// `claims`: further claims as they stand; `null` takes one away.
    pub claims: Map<String, Json>,
}

/// `expect`: `allow`, `deny`, or a mapping with more.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    /// `decision`: whether the request is let in.
    pub allow: Option<bool>,
    /// `reason`, or the value of `deny`: a reason code.
    pub reason: Option<Spanned<String>>,
    /// `route`: the name of the route that takes the request.
    pub route: Option<Spanned<String>>,
    /// `rule`: `allow[0]`, `deny[1]`, or `none`.
    pub rule: Option<Spanned<String>>,
    /// `reportOnly`: the reason that would have refused, had everything acted that only reports; or
    /// `none`.
    pub report_only: Option<Spanned<String>>,
    /// `backend`: what the backend would get.
    pub backend: Option<Spanned<ExpectedBackend>>,
}

/// `expect.backend`.
#[derive(Clone, Debug, Default)]
pub struct ExpectedBackend {
    /// `name`.
    pub name: Option<Spanned<String>>,
    /// `path`.
    pub path: Option<Spanned<String>>,
    /// `query`; empty for none.
    pub query: Option<Spanned<String>>,
    /// `headers`: the value of each; `null` where it must not be there.
    pub headers: Vec<(HeaderName, Spanned<Option<String>>)>,
}

/// Takes a test file apart.
pub(super) fn document(root: &Node, d: &mut Diagnostics) -> TestDocument {
    let why = "a file of tests holds at least one";
    let cases = list(root, why, d, case).unwrap_or_default();
    let mut seen: HashMap<&str, &Span> = HashMap::new();
    for case in &cases {
        match seen.get(&*case.name.value) {
            Some(first) => {
                d.error(&case.name.span, "there are two tests of this name")
                    .also(first, "first named here");
            }
            None => {
                seen.insert(&case.name.value, &case.name.span);
            }
        }
    }
    TestDocument { cases }
}

fn case(node: &Node, d: &mut Diagnostics) -> Option<TestCase> {
    let mut table = Table::of(node, "a test: `name`, `request`, `expect`", d)?;
    let name = table.required(
        "name",
        "say in a sentence what the test proves",
        d,
        spanned(|node, d| text(node, "a sentence", d)),
    );
    let help = "write `request: { method: GET, path: /guests }`";
    let request = table.required("request", help, d, request);
    let before = d.errors();
    let token = table.optional("token", d, spanned(test_token));
    let token_is_sound = d.errors() == before;
    let at = table.optional("at", d, instant);
    let help = "write `expect: allow`, or `expect: { deny: app-not-allowed }`";
    let expect = table.required("expect", help, d, spanned(expectation));
    table.finish(d);
    let (request, expect) = (request?, expect?);
    reaches_the_policy(&request, expect.value.reason.as_ref(), d)?;
    Some(TestCase {
        name: name?,
        request,
        token: token_is_sound.then_some(token)?,
        at,
        expect,
    })
}

/// A slip in the request is refused before a policy is asked: `expect: deny` would pass whatever the
/// policy says. Whoever means it names the reason.
fn reaches_the_policy(
    request: &TestRequest,
    expected: Option<&Spanned<String>>,
    d: &mut Diagnostics,
) -> Option<()> {
    let before = d.errors();
    let meant = |reason: Reason| expected.is_some_and(|expected| expected.value == reason.code());
    let method = &request.method;
    if !METHODS.contains(&method.value.as_str()) && !meant(Reason::MethodNotSupported) {
        d.error(&method.span, "this is not a method that can be routed")
            .did_you_mean(nearest(method.value.as_str(), METHODS))
            .help("to test that it is refused, write `expect: { deny: method-not-supported }`");
    }
    let path = &request.path;
    if !path.value.starts_with('/') && !meant(Reason::AmbiguousPath) {
        d.error(&path.span, "a path begins with `/`")
            .help("to test that it is refused, write `expect: { deny: ambiguous-path }`");
    }
    (d.errors() == before).then_some(())
}

fn request(node: &Node, d: &mut Diagnostics) -> Option<TestRequest> {
    const PROTOCOLS: [(&str, Version); 2] =
        [("http1", Version::HTTP_11), ("http2", Version::HTTP_2)];
    let mut table = Table::of(node, "`{ method: .., path: .. }`", d)?;
    let method = table.required("method", "write `method: GET`", d, spanned(method));
    let help = "write `path: /guests?top=3`";
    let path = table.required("path", help, d, spanned(|n, d| token(n, "a path", d)));
    let host = table.optional("host", d, |node, d| token(node, "a host", d));
    let headers = table.optional("headers", d, headers);
    let client = table.optional("client", d, client);
    let certificate = table.optional("certificate", d, certificate);
    let protocol = table.optional("protocol", d, |node, d| choice(node, &PROTOCOLS, d));
    table.finish(d);
    Some(TestRequest {
        method: method?,
        path: path?,
        host,
        headers: headers.unwrap_or_default(),
        client,
        certificate,
        protocol: protocol.unwrap_or(Version::HTTP_11),
    })
}

fn method(node: &Node, d: &mut Diagnostics) -> Option<Method> {
    let text = token(node, "a method", d)?;
    let method = Method::from_bytes(text.as_bytes()).ok();
    if method.is_none() {
        d.error(&node.span, "this is not a method");
    }
    method
}

fn client(node: &Node, d: &mut Diagnostics) -> Option<IpAddr> {
    let text = scalar(node, "an address", d)?;
    let address = text.parse().ok();
    if address.is_none() {
        d.error(&node.span, "this is not an IP address")
            .help("write `203.0.113.7` or `2001:db8::7`, without a port");
    }
    address
}

/// A certificate of a test's own. What is not written is that of nobody.
fn certificate(node: &Node, d: &mut Diagnostics) -> Option<ClientCertificate> {
    let mut table = Table::of(node, "the keys `thumbprint`, `subject` and `issuer`", d)?;
    let thumbprint = table.optional("thumbprint", d, |n, d| token(n, "a thumbprint", d));
    let name = |n: &Node, d: &mut Diagnostics| text(n, "a distinguished name", d);
    let subject = table.optional("subject", d, name);
    let issuer = table.optional("issuer", d, name);
    table.finish(d);
    Some(ClientCertificate {
        thumbprint: thumbprint.unwrap_or_else(|| "0".repeat(64)).into(),
        subject: subject.unwrap_or_else(|| "CN=nobody".to_owned()).into(),
        issuer: issuer.unwrap_or_else(|| "CN=nobody".to_owned()).into(),
    })
}

fn header_name(text: &str, span: &Span, d: &mut Diagnostics) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(text.as_bytes()).ok();
    if name.is_none() {
        d.error(span, "this is not the name of a header field");
    }
    name
}

fn headers(node: &Node, d: &mut Diagnostics) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let Value::Mapping(entries) = &node.value else {
        expected(node, "a mapping from names to values", d);
        return None;
    };
    let mut headers = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.refused) {
        let name = header_name(&entry.key, &entry.span, d)?;
        if name == AUTHORIZATION {
            d.error(&entry.span, "a token is not written as a field")
                .help("say beside `request` what it holds: `token: { tenant: .., app: .. }`");
            return None;
        }
        let values = match &entry.value.value {
            Value::List(_) => list(&entry.value, "leave the field out", d, header_value)?,
            _ => vec![header_value(&entry.value, d)?],
        };
        headers.extend(values.into_iter().map(|value| (name.clone(), value)));
    }
    Some(headers)
}

fn header_value(node: &Node, d: &mut Diagnostics) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(scalar(node, "a value", d)?).ok();
    if value.is_none() {
        d.error(&node.span, "this cannot be the value of a header field");
    }
    value
}

fn test_token(node: &Node, d: &mut Diagnostics) -> Option<TestToken> {
    let mut table = Table::of(node, "`{ tenant: .., app: .. }`", d)?;
    let before = d.errors();
    let word = |what: &'static str| move |n: &Node, d: &mut Diagnostics| token(n, what, d);
    let versions = [("v1", true), ("v2", false)];
    let v1 = table.optional("version", d, |n, d| choice(n, &versions, d));
    let help = "name a tenant of the policy, or write the ID of any tenant";
    let tenant = table.required("tenant", help, d, spanned(word("a tenant")));
    let help = "name an app of the policy, or write the ID of any app";
    let app = table.required("app", help, d, spanned(word("an app")));
    let principal = table.optional("principal", d, spanned(word("a principal")));
    let kinds: Vec<_> = TokenKind::ALL.iter().map(|k| (k.as_str(), *k)).collect();
    let kind = table.optional("kind", d, |n, d| choice(n, &kinds, d));
    let strengths: Vec<_> = AuthStrength::ALL.iter().map(|s| (s.as_str(), *s)).collect();
    let auth_strength = table.optional("authStrength", d, |n, d| choice(n, &strengths, d));
    let audience = table.optional("audience", d, word("an audience"));
    let mut names = |key: &'static str, what: &'static str, d: &mut Diagnostics| {
        let read = |n: &Node, d: &mut Diagnostics| list(n, "leave the key out", d, word(what));
        table.optional(key, d, read).unwrap_or_default()
    };
    let roles = names("roles", "a role", d);
    let scopes = names("scopes", "a scope", d);
    let groups = names("groups", "a group", d);
    let yes_or_no = [("true", true), ("false", false)];
    let group_overage = table.optional("groupOverage", d, |n, d| choice(n, &yes_or_no, d));
    let not_before = table.optional("notBefore", d, instant);
    let expires = table.optional("expires", d, instant);
    let claims = table.optional("claims", d, claims);
    table.finish(d);
    if d.errors() > before {
        return None;
    }
    Some(TestToken {
        v1: v1.unwrap_or(false),
        tenant: tenant?,
        app: app?,
        principal,
        kind,
        auth_strength: auth_strength.unwrap_or(AuthStrength::Secret),
        audience,
        roles,
        scopes,
        groups,
        group_overage: group_overage.unwrap_or(false),
        not_before,
        expires,
        claims: claims.unwrap_or_default(),
    })
}

fn claims(node: &Node, d: &mut Diagnostics) -> Option<Map<String, Json>> {
    match json(node) {
        Json::Object(claims) => Some(claims),
        _ => {
            expected(node, "a mapping from claims to values", d);
            None
        }
    }
}

/// YAML as JSON, by the core schema (YAML 1.2.2 section 10.3.2): here alone a plain scalar's look
/// decides what it is, as claims have types.
fn json(node: &Node) -> Json {
    match &node.value {
        Value::Null | Value::Refused => Json::Null,
        Value::Quoted(text) => Json::from(text.as_str()),
        Value::Plain(text) => match text.as_str() {
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            number => match number.parse::<i64>() {
                Ok(number) => Json::from(number),
                Err(_) => Json::from(number),
            },
        },
        Value::List(items) => items.iter().map(json).collect(),
        Value::Mapping(entries) => Json::Object(
            entries
                .iter()
                .map(|entry| (entry.key.clone(), json(&entry.value)))
                .collect(),
        ),
    }
}

fn expectation(node: &Node, d: &mut Diagnostics) -> Option<Expectation> {
    const DECISIONS: [(&str, bool); 2] = [("allow", true), ("deny", false)];
    if let Value::Plain(_) | Value::Quoted(_) = &node.value {
        return Some(Expectation {
            allow: Some(choice(node, &DECISIONS, d)?),
            ..Expectation::default()
        });
    }
    let mut table = Table::of(node, "`allow`, `deny`, or `{ deny: a-reason }`", d)?;
    let before = d.errors();
    let word = |what: &'static str| spanned(move |n: &Node, d: &mut Diagnostics| token(n, what, d));
    let decision = table.optional("decision", d, |n, d| choice(n, &DECISIONS, d));
    let deny = table.optional("deny", d, word("a reason code"));
    let reason = table.optional("reason", d, word("a reason code"));
    if let (Some(deny), Some(reason)) = (&deny, &reason) {
        d.error(&reason.span, "the reason is written twice")
            .also(&deny.span, "first written here");
    }
    let expectation = Expectation {
        allow: decision.or(deny.as_ref().map(|_| false)),
        reason: deny.or(reason),
        route: table.optional("route", d, word("the name of a route")),
        rule: table.optional("rule", d, word("a rule such as `allow[0]`")),
        report_only: table.optional("reportOnly", d, word("a reason code or `none`")),
        backend: table.optional("backend", d, spanned(expected_backend)),
    };
    table.finish(d);
    let says_nothing = expectation.allow.is_none()
        && expectation.reason.is_none()
        && expectation.route.is_none()
        && expectation.rule.is_none()
        && expectation.report_only.is_none()
        && expectation.backend.is_none();
    if says_nothing && d.errors() == before {
        d.error(
            &node.span,
            "nothing is expected here, so the test cannot fail",
        )
        .help("write `expect: allow`, or `expect: { deny: app-not-allowed }`");
    }
    (d.errors() == before).then_some(expectation)
}

fn expected_backend(node: &Node, d: &mut Diagnostics) -> Option<ExpectedBackend> {
    let mut table = Table::of(node, "`{ path: .., headers: { .. } }`", d)?;
    let word = |what: &'static str| spanned(move |n: &Node, d: &mut Diagnostics| token(n, what, d));
    let query = spanned(|node: &Node, d: &mut Diagnostics| match &node.value {
        Value::Quoted(text) if text.is_empty() => Some(String::new()),
        _ => token(node, "a query without `?`", d),
    });
    let backend = ExpectedBackend {
        name: table.optional("name", d, word("the name of a backend")),
        path: table.optional("path", d, word("a path")),
        query: table.optional("query", d, query),
        headers: table
            .optional("headers", d, expected_headers)
            .unwrap_or_default(),
    };
    table.finish(d);
    Some(backend)
}

fn expected_headers(
    node: &Node,
    d: &mut Diagnostics,
) -> Option<Vec<(HeaderName, Spanned<Option<String>>)>> {
    let Value::Mapping(entries) = &node.value else {
        expected(node, "a mapping from names to values, `null` for absent", d);
        return None;
    };
    let mut headers = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.refused) {
        let name = header_name(&entry.key, &entry.span, d)?;
        let value = match &entry.value.value {
            Value::Null => None,
            _ => Some(text(&entry.value, "a value, or `null`", d)?),
        };
        headers.push((name, Spanned::new(value, entry.value.span.clone())));
    }
    Some(headers)
}
