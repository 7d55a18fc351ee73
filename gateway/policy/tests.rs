//! Compiling and finding, from texts as people write them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use proptest::prelude::*;

use super::*;
use crate::canonical::KeyParameters;
use crate::denial::{Denial, Reason};
use crate::entra::{ClaimRules, Version, simulate};
use crate::files::{Diagnostics, parse_policies};

const NAMES: &str = "
tenants: { contoso: 11111111-1111-1111-1111-111111111111 }
apps: { portal: aaaaaaaa-0000-0000-0000-000000000001 }
audiences: [api://gateway]
backends:
  b: { http: http://127.0.0.1:9000, credential: none }
routes:
";

fn compiled(routes: &str) -> (Option<Policy>, String) {
    let text = format!("{NAMES}{routes}");
    let mut diagnostics = Diagnostics::new();
    let document = parse_policies(&[(Path::new("p.yaml"), &text)], &mut diagnostics);
    let policy = compile(&document, &mut diagnostics);
    (policy, diagnostics.render())
}

fn policy(routes: &str) -> Policy {
    let (policy, faults) = compiled(routes);
    policy.unwrap_or_else(|| panic!("{faults}"))
}

fn route(name: &str, matches: &str) -> String {
    format!(
        "  {name}: {{ match: {{ {matches} }}, backend: b, allow: [{{ tenants: [contoso] }}] }}\n"
    )
}

fn found(policy: &Policy, host: &str, method: &Method, path: &str) -> Result<String, Reason> {
    match policy.find(host, method, path) {
        Ok(matched) => Ok(matched.route().name().to_string()),
        Err(unmatched) => Err(unmatched.denial().reason()),
    }
}

#[test]
fn the_most_specific_host_then_path_then_method_wins() {
    let policy = policy(
        &[
            route("any", "methods: [GET], path: '/a/{*rest}'"),
            route("any-post", "methods: [POST], path: '/a/{*rest}'"),
            route(
                "suffix",
                "host: '*.contoso.com', methods: [GET], path: '/a/{*rest}'",
            ),
            route(
                "longer",
                "host: '*.api.contoso.com', methods: [GET], path: '/a/{*rest}'",
            ),
            route(
                "exact",
                "host: eu.api.contoso.com, methods: [GET], path: '/a/{*rest}'",
            ),
            route(
                "exact-path",
                "host: eu.api.contoso.com, methods: [GET], path: '/a/b'",
            ),
        ]
        .concat(),
    );
    for (host, method, path, expected) in [
        ("example.org", Method::GET, "/a/b", Ok("any")),
        ("example.org", Method::POST, "/a/b", Ok("any-post")),
        (
            "example.org",
            Method::PUT,
            "/a/b",
            Err(Reason::MethodNotAllowed),
        ),
        ("example.org", Method::GET, "/b", Err(Reason::RouteNotFound)),
        ("x.contoso.com", Method::GET, "/a/b", Ok("suffix")),
        ("contoso.com", Method::GET, "/a/b", Ok("any")),
        ("evilcontoso.com", Method::GET, "/a/b", Ok("any")),
        ("us.api.contoso.com", Method::GET, "/a/b", Ok("longer")),
        ("eu.api.contoso.com", Method::GET, "/a/b", Ok("exact-path")),
        ("eu.api.contoso.com", Method::GET, "/a/c", Ok("exact")),
        (
            "eu.api.contoso.com",
            Method::POST,
            "/a/c",
            Err(Reason::MethodNotAllowed),
        ),
        (
            "eu.api.contoso.com",
            Method::GET,
            "/A/c",
            Err(Reason::AmbiguousPath),
        ),
    ] {
        let got = found(&policy, host, &method, path);
        assert_eq!(got, expected.map(str::to_owned), "{method} {host}{path}");
    }
}

#[test]
fn a_405_names_the_methods_that_are_allowed() {
    let policy = policy(
        &[
            route("one", "methods: [GET, HEAD], path: /a"),
            route("two", "methods: [DELETE], path: /a"),
        ]
        .concat(),
    );
    let unmatched = policy.find("h", &Method::POST, "/a").unwrap_err();
    let answer = unmatched.denial().answer(crate::ids::RequestId::fresh());
    assert_eq!(answer.headers()["allow"], "GET, HEAD, DELETE");
}

#[test]
fn a_rewrite_replaces_the_path() {
    let routes = "  r: { match: { methods: [GET], path: '/guests/{*rest}' }, backend: b, rewrite: '/api/guests/{rest}', public: true }\n";
    let policy = policy(routes);
    let matched = policy
        .find("h", &Method::GET, "/guests/a/b%20c")
        .expect("matched");
    assert_eq!(matched.rewritten(), Some("/api/guests/a/b%20c"));
}

#[test]
fn routes_of_other_methods_share_a_pattern_but_not_one_that_overlaps() {
    let shared = "  r: { match: { methods: [GET], path: '/g/{id}' }, backend: b, rewrite: '/api/{id}', public: true }\n  s: { match: { methods: [PUT], path: '/g/{guest}' }, backend: b, rewrite: '/put/{guest}', public: true }\n";
    let policy = policy(shared);
    let rewritten = |method| {
        let matched = policy.find("h", &method, "/g/7").expect("matched");
        matched.rewritten().map(str::to_owned)
    };
    assert_eq!(rewritten(Method::GET).as_deref(), Some("/api/7"));
    assert_eq!(rewritten(Method::PUT).as_deref(), Some("/put/7"));

    let no_order = "this is the path of route `one`";
    for (one, two, expected) in [
        ("/g/f-{x}", "/g/{x}.pdf", no_order),
        ("/g/{x}.pdf", "/g/F-{x}", no_order),
        ("/G", "/g", "route `one` takes them too"),
    ] {
        let (policy, faults) = compiled(
            &[
                route("one", &format!("methods: [GET], path: '{one}'")),
                route("two", &format!("methods: [POST], path: '{two}'")),
            ]
            .concat(),
        );
        assert!(policy.is_none(), "{one} {two}");
        assert!(faults.contains(expected), "{faults}");
    }
}

#[test]
fn a_rewrite_that_a_parameter_would_make_climb_is_refused() {
    let routes = "  r: { match: { methods: [GET], path: '/v{*rest}' }, backend: b, rewrite: '/api/{rest}', public: true }\n  s: { match: { methods: [GET], path: '/w{id}' }, backend: b, rewrite: '/api/{id}', public: true }\n";
    let policy = policy(routes);
    for (path, expected) in [
        ("/v1/admin", Ok("r")),
        ("/v../admin", Err(Reason::AmbiguousPath)),
        ("/v./admin", Err(Reason::AmbiguousPath)),
        ("/w..", Err(Reason::AmbiguousPath)),
        ("/w1", Ok("s")),
    ] {
        let got = found(&policy, "h", &Method::GET, path);
        assert_eq!(got, expected.map(str::to_owned), "{path}");
    }
}

#[test]
fn every_fault_of_a_policy_is_told_with_its_place() {
    let (policy, faults) = compiled(&[
        route("one", "methods: [GET], path: '/a/{x}'"),
        route("two", "methods: [GET, POST], path: '/a/{y}'"),
        route("three", "methods: [GET], path: '/b//c'"),
        "  four: { match: { methods: [GET], path: /d }, backend: c, rewrite: '/{nothing}', allow: [{ tenants: [contos], apps: [portal, prtal] }] }\n".to_owned(),
    ].concat());
    assert!(policy.is_none());
    for expected in [
        "route `two` takes requests of another route",
        "route `one` takes them too",
        "this path is not in canonical form",
        "no backend is named `c`",
        "the route's path has no parameter `nothing`",
        "no tenant is named `contos`",
        "did you mean `contoso`?",
        "no app is named `prtal`",
        "did you mean `portal`?",
        "p.yaml:9:",
        "p.yaml:10:",
        "p.yaml:11:",
    ] {
        assert!(
            faults.contains(expected),
            "{expected:?} is missing in:\n{faults}"
        );
    }
}

#[test]
fn a_slip_in_upgrades_is_told() {
    for (protocol, is_told) in [
        ("websocket", false),
        ("WebSocket", false),
        ("websockets", true),
        ("web-socket", true),
        ("websocket/13", true),
        ("wss", true),
        ("tcp", false),
        ("spdy/3.1", false),
    ] {
        let text = format!(
            "backends: {{ b: {{ http: http://127.0.0.1:9000, credential: none }} }}\nroutes: {{ r: {{ match: {{ methods: [GET], path: /r }}, backend: b, public: true, upgrades: [{protocol}] }} }}"
        );
        let mut diagnostics = Diagnostics::new();
        let document = parse_policies(&[(Path::new("p.yaml"), &text)], &mut diagnostics);
        assert!(compile(&document, &mut diagnostics).is_some(), "{protocol}");
        let rendered = diagnostics.render();
        let meant = rendered.contains("did you mean `websocket`?");
        assert_eq!(meant, is_told, "{protocol}: {rendered}");
    }
}

#[test]
fn what_a_route_cannot_give_to_its_backend_is_refused() {
    const BACKENDS: &str = "
tenants: { contoso: 11111111-1111-1111-1111-111111111111 }
audiences: [api://gateway]
backends:
  keyed: { http: http://127.0.0.1:9000, credential: { header: { name: x-api-key, value: { env: K } } } }
  own: { http: http://127.0.0.1:9000, credential: { header: { name: authorization, value: { env: K } } } }
  token: { http: http://127.0.0.1:9000, credential: { managedIdentity: { resource: 'api://b' } } }
  spoken: { http: 'https://b.contoso.com', credential: none, protocol: http2 }
  sas: { logicApp: 'https://b.logic.azure.com/workflows/w', credential: { sas: { env: K } } }
";
    const ALLOW: &str = "allow: [{ tenants: [contoso] }]";
    for (route, message) in [
        (
            "backend: keyed, claimHeaders: { x-department: d }, keepParameters: [se]",
            None,
        ),
        ("backend: keyed, forwardCallerToken: true", None),
        ("backend: keyed, upgrades: [WebSocket, tcp]", None),
        (
            "backend: sas, upgrades: [tcp]",
            Some("a Logic App hands no connection over to another protocol"),
        ),
        (
            "backend: spoken, upgrades: [tcp]",
            Some("over HTTP/2 no connection is handed over to another protocol"),
        ),
        (
            "backend: keyed, upgrades: [h2c]",
            Some("no connection is handed over to this protocol"),
        ),
        (
            "backend: keyed, upgrades: [websocket]",
            Some("a WebSocket begins with a GET"),
        ),
        ("backend: keyed, upgrades: []", Some("this list is empty")),
        ("backend: sas, keepParameters: [code]", None),
        (
            "backend: sas, keepParameters: [SE]",
            Some("the signature for this backend brings this parameter itself"),
        ),
        (
            "backend: sas, forwardCallerToken: true",
            Some("the caller's token cannot go to this backend"),
        ),
        (
            "backend: token, forwardCallerToken: true",
            Some("the caller's token cannot go to this backend"),
        ),
        (
            "backend: own, forwardCallerToken: true",
            Some("the caller's token cannot go to this backend"),
        ),
        (
            "backend: keyed, claimHeaders: { X-Api_Key: d }",
            Some("backend `keyed` is given its credential in this header"),
        ),
        (
            "backend: keyed, claimHeaders: { x-arr-log-id: d }",
            Some("the gateway or the platform writes this header itself"),
        ),
        (
            "backend: keyed, claimHeaders: { X-Request_Id: d }",
            Some("the gateway or the platform writes this header itself"),
        ),
        (
            "backend: keyed, claimHeaders: { x-ms-client-principal-id: d }",
            Some("this header cannot carry a claim"),
        ),
        (
            "backend: keyed, claimHeaders: { x-a-b: d, x-a_b: e }",
            Some("some backends take this header and another here for one"),
        ),
    ] {
        let method = if route.ends_with("[websocket]") {
            "POST"
        } else {
            "GET"
        };
        let text = format!(
            "{BACKENDS}routes: {{ r: {{ match: {{ methods: [{method}], path: /r }}, {route}, {ALLOW} }} }}"
        );
        let mut diagnostics = Diagnostics::new();
        let document = parse_policies(&[(Path::new("p.yaml"), &text)], &mut diagnostics);
        let policy = compile(&document, &mut diagnostics);
        assert_eq!(policy.is_none(), message.is_some(), "{route}");
        let rendered = diagnostics.render();
        match message {
            Some(message) => assert!(rendered.contains(message), "{route}: {rendered}"),
            None => assert!(!diagnostics.has_errors(), "{rendered}"),
        }
    }
}

#[test]
fn a_route_refuses_keys_in_urls_from_its_date_on_and_whatever_its_mode() {
    let policy = policy(
        "
  now: { match: { methods: [GET], path: /now }, backend: b, public: true, sas: reject }
  watched: { match: { methods: [GET], path: /watched }, backend: b, mode: reportOnly, sas: reject, allow: [{ tenants: [contoso] }] }
  closed: { match: { methods: [GET], path: /closed }, backend: b, sas: reject, allow: [{ tenants: [contoso] }] }
  then: { match: { methods: [GET], path: /then }, backend: b, public: true, rejectFrom: 1970-01-01T00:00:10Z }
  kept: { match: { methods: [GET], path: /kept }, backend: b, public: true, sas: reject, keepParameters: [code] }
  stripped: { match: { methods: [GET], path: /stripped }, backend: b, public: true }
",
    );
    let (sig, code) = (KeyParameters::SIG, KeyParameters::CODE);
    let headers = http::HeaderMap::new();
    for (path, keys, time, refused) in [
        ("/now", sig, 0, Some(Reason::KeyInUrl)),
        ("/now", KeyParameters::SE, 0, None),
        ("/now", KeyParameters::NONE, 0, None),
        ("/watched", code, 0, Some(Reason::KeyInUrl)),
        ("/watched", KeyParameters::NONE, 0, None),
        ("/closed", sig, 0, Some(Reason::TokenMissing)),
        ("/then", sig, 9, None),
        ("/then", sig, 10, Some(Reason::KeyInUrl)),
        ("/kept", code, 0, None),
        ("/kept", sig.with(code), 0, Some(Reason::KeyInUrl)),
        ("/stripped", sig, 0, None),
    ] {
        let circumstances = Circumstances {
            certificate: None,
            now: Duration::from_secs(time),
            client: std::net::Ipv4Addr::LOCALHOST.into(),
            method: &Method::GET,
            host: "h",
            path,
            headers: &headers,
            keys,
            upgrade: None,
            version: http::Version::HTTP_11,
            parameters: &[],
            known: None,
        };
        let matched = policy.find("h", &Method::GET, path).expect("matched");
        let decision = matched.decide(Err(Reason::TokenMissing.into()), &circumstances);
        let lets_in = decision.lets_in();
        // What a candidate is told of who calls is never that of a key.
        let told = decision
            .caller()
            .and_then(|caller| caller.err().map(Denial::reason));
        assert_ne!(told, Some(Reason::KeyInUrl), "{path}");
        let denial = decision.enforce().err().map(|denial| denial.reason());
        assert_eq!(denial, refused, "{path} {keys:?} {time}");
        assert_eq!(lets_in, refused.is_none(), "{path}");
    }
}

#[test]
fn a_policy_without_an_audience_or_for_personal_accounts_is_refused() {
    let text = NAMES.replace("audiences: [api://gateway]", "").replace(
        "11111111-1111-1111-1111-111111111111",
        "9188040d-6c67-4c5b-b112-36a304b66dad",
    ) + &route("r", "methods: [GET], path: /a");
    let mut diagnostics = Diagnostics::new();
    let document = parse_policies(&[(Path::new("p.yaml"), &text)], &mut diagnostics);
    assert!(compile(&document, &mut diagnostics).is_none());
    let faults = diagnostics.render();
    assert!(faults.contains("no audience is named"), "{faults}");
    assert!(faults.contains("personal Microsoft accounts"), "{faults}");
}

/// A rule over a few tenants, apps and roles.
fn rule() -> impl Strategy<Value = String> {
    let tenants = proptest::sample::select(vec!["contoso", "fabrikam", "contoso, fabrikam"]);
    let apps = proptest::sample::select(vec![
        "",
        "apps: [portal], ",
        "apps: [batch], ",
        "apps: [portal, batch], ",
    ]);
    let more = proptest::sample::select(vec![
        "roles: [A], ",
        "roles: [B], ",
        "tokenKinds: [delegated], ",
        "mode: reportOnly, ",
    ]);
    (tenants, apps, more)
        .prop_map(|(tenants, apps, more)| format!("{{ {apps}{more}tenants: [{tenants}] }}"))
}

proptest! {
    /// Many rules are found by app. Nothing but speed may come of that.
    #[test]
    fn rules_found_by_app_decide_as_rules_looked_at_one_by_one(
        allow in proptest::collection::vec(rule(), 16..24),
        deny in proptest::collection::vec(rule(), 0..20),
        tenant in 1..4_u8,
        app in 1..4_u8,
        role in proptest::sample::select(vec!["A", "B", "C"]),
    ) {
        let deny = if deny.is_empty() { String::new() } else { format!(", deny: [{}]", deny.join(", ")) };
        let names = NAMES
            .replace("tenants: {", "tenants: { fabrikam: 11111111-1111-1111-1111-111111111112,")
            .replace("apps: {", "apps: { batch: aaaaaaaa-0000-0000-0000-000000000002,");
        let text = format!("{names}  r: {{ match: {{ methods: [GET], path: /a }}, backend: b, allow: [{}]{deny} }}\n", allow.join(", "));
        let compiled = || {
            let mut diagnostics = Diagnostics::new();
            let document = parse_policies(&[(Path::new("p.yaml"), &text)], &mut diagnostics);
            compile(&document, &mut diagnostics).expect("sound")
        };
        let indexed = compiled();
        let mut plain = compiled();
        prop_assert!(plain.routes[0].allow.forget_index());
        plain.routes[0].deny.forget_index();
        let tid = format!("11111111-1111-1111-1111-11111111111{tenant}");
        let claims = serde_json::json!({
            "iss": format!("https://login.microsoftonline.com/{tid}/v2.0"),
            "tid": tid, "ver": "2.0", "aud": "api://gateway", "exp": 4_000_000_000_u64,
            "azp": format!("aaaaaaaa-0000-0000-0000-00000000000{app}"), "roles": [role], "idtyp": "app",
        });
        let rules = ClaimRules {
            audiences: vec!["api://gateway".into()],
            versions: Version::ALL.to_vec(),
            clock_skew: Duration::ZERO,
        };
        let claims = claims.as_object().expect("an object");
        let caller = simulate(claims, |_| true, &rules, 1).expect("a principal");
        let headers = http::HeaderMap::new();
        let circumstances = Circumstances {
            certificate: None,
            now: Duration::from_secs(1),
            client: std::net::Ipv4Addr::LOCALHOST.into(),
            method: &Method::GET,
            host: "h",
            path: "/a",
            headers: &headers,
            keys: KeyParameters::NONE,
            upgrade: None,
            version: http::Version::HTTP_11,
            parameters: &[],
            known: None,
        };
        let decide = |policy: &Policy| {
            let matched = policy.find("h", &Method::GET, "/a").expect("matched");
            let decision = matched.decide(Ok(Arc::clone(&caller)), &circumstances);
            let reason = decision.verdict().err().map(|refusal| refusal.denial().reason());
            (decision.lets_in(), decision.rehearsed(), reason, decision.rule().filter(|_| reason.is_none()))
        };
        prop_assert_eq!(decide(&indexed), decide(&plain), "{}", text);
    }
}
