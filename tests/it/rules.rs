//! What rules can say, through the real listener with real tokens: every key, for v1 and v2, and what only
//! reports or watches.

mod candidate;
mod in_force;
mod networks;
mod refused;
mod tokens;

use std::time::Duration;

use portcullis::demo::mint::Token;
use portcullis::demo::names::{AUDIENCE, CONTOSO, MARKETING_PORTAL, NIGHTLY_BATCH};
use portcullis::entra::Version;
use serde_json::{Value, json};

use crate::support::{Answer, RawBackend, Scene, Stage};

const NAMES: &str = "principals: { ada: cccccccc-0000-0000-0000-000000000001 }
groups: { managers: dddddddd-0000-0000-0000-000000000001, desk: dddddddd-0000-0000-0000-000000000002 }
networks: { here: [127.0.0.0/8], elsewhere: 203.0.113.0/24 }
";

/// A route `/N` for each of these bodies.
fn stage(bodies: &[&str]) -> (RawBackend, Stage) {
    let mut scene = Scene::new();
    scene.names = NAMES.to_owned();
    let raw = RawBackend::ok(&scene, "fine");
    let scene = scene.raw("raw", &raw);
    let scene = bodies.iter().enumerate().fold(scene, |scene, (at, body)| {
        scene.route(
            &format!("r{at}"),
            &format!("match: {{ methods: [GET], path: /{at} }}, backend: raw, {body}"),
        )
    });
    (raw, scene.start())
}

fn token(stage: &Stage, version: Version) -> Token {
    let now = stage.world.entra.now();
    Token::app(version, CONTOSO, MARKETING_PORTAL, AUDIENCE, now).without("idtyp")
}

fn send(stage: &Stage, target: &str, token: &Token) -> Answer {
    let token = stage.world.entra.sign(token).expect("signed");
    stage.call("GET", target).bearer(&token).send()
}

#[test]
fn a_rule_asks_for_what_its_keys_say_in_tokens_of_both_versions() {
    let allow = |keys: &str| format!("allow: [{{ tenants: [contoso], {keys} }}]");
    let bodies = [
        allow("principals: [ada]"),
        allow("tokenKinds: [appOnly]"),
        allow("tokenKinds: [delegated]"),
        allow("authStrength: [certificate]"),
        allow("roles: { allOf: [A, B] }"),
        allow("scopes: { anyOf: [A, B], allOf: [C] }"),
        allow("groups: [managers, desk]"),
        allow("from: [elsewhere]"),
        allow("from: [here]"),
        allow("when: \"token.upn.endsWith('@contoso.example') && request.method == 'GET'\""),
        format!(
            "{}, deny: [{{ groups: [managers] }}]",
            allow("apps: [marketing-portal]")
        ),
        allow("when: \"'dddddddd-0000-0000-0000-000000000001' in token.groups\""),
    ];
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    let (_raw, stage) = stage(&bodies);
    let managers = "DDDDDDDD-0000-0000-0000-000000000001";
    let overage = json!({ "groups": "src1" });
    for version in Version::ALL {
        let strength = if version == Version::V1 {
            "appidacr"
        } else {
            "azpacr"
        };
        type Claims = Vec<(&'static str, Value)>;
        let rows: Vec<(&str, Claims, &str)> = vec![
            (
                "/0",
                vec![("oid", json!("CCCCCCCC-0000-0000-0000-000000000001"))],
                "200",
            ),
            ("/0", vec![], "403 principal-not-allowed"),
            ("/1", vec![("idtyp", json!("app"))], "200"),
            ("/1", vec![("roles", json!(["A"]))], "200"),
            ("/1", vec![], "403 token-kind-not-allowed"),
            (
                "/1",
                vec![("scp", json!("A"))],
                "403 token-kind-not-allowed",
            ),
            (
                "/1",
                vec![("idtyp", json!("device"))],
                "403 token-kind-not-allowed",
            ),
            (
                "/1",
                vec![("idtyp", json!("app")), ("scp", json!("A"))],
                "403 token-kind-not-allowed",
            ),
            ("/2", vec![("scp", json!("A"))], "200"),
            ("/2", vec![("idtyp", json!("user"))], "200"),
            (
                "/2",
                vec![("roles", json!(["A"]))],
                "403 token-kind-not-allowed",
            ),
            (
                "/2",
                vec![("idtyp", json!("app")), ("scp", json!("A"))],
                "403 token-kind-not-allowed",
            ),
            ("/3", vec![(strength, json!("2"))], "200"),
            (
                "/3",
                vec![(strength, json!("1"))],
                "403 auth-strength-not-allowed",
            ),
            (
                "/3",
                vec![(strength, json!("9"))],
                "403 auth-strength-not-allowed",
            ),
            ("/4", vec![("roles", json!(["B", "A"]))], "200"),
            ("/4", vec![("roles", json!(["A"]))], "403 role-missing"),
            ("/5", vec![("scp", json!("B C"))], "200"),
            ("/5", vec![("scp", json!("A B"))], "403 scope-missing"),
            ("/5", vec![("scp", json!("C"))], "403 scope-missing"),
            ("/6", vec![("groups", json!([managers]))], "200"),
            ("/6", vec![("groups", json!([]))], "403 group-missing"),
            (
                "/6",
                vec![("_claim_names", overage.clone())],
                "403 group-overage",
            ),
            ("/6", vec![("hasgroups", json!(true))], "403 group-overage"),
            ("/7", vec![], "403 network-not-allowed"),
            ("/8", vec![], "200"),
            ("/9", vec![("upn", json!("ada@contoso.example"))], "200"),
            (
                "/9",
                vec![("upn", json!("eve@fabrikam.example"))],
                "403 condition-not-met",
            ),
            ("/9", vec![], "403 condition-failed"),
            ("/9", vec![("upn", json!(7))], "403 condition-failed"),
            (
                "/10",
                vec![("groups", json!([managers]))],
                "403 denied-by-rule",
            ),
            (
                "/10",
                vec![("_claim_names", overage.clone())],
                "403 group-overage",
            ),
            ("/10", vec![], "200"),
            (
                "/11",
                vec![("_claim_names", overage.clone())],
                "403 group-overage",
            ),
            ("/11", vec![("groups", json!([]))], "403 condition-not-met"),
        ];
        for (target, claims, expected) in rows {
            let base = token(&stage, version);
            let token = claims.iter().fold(base, |token, (name, value)| {
                token.claim(name, value.clone())
            });
            let answer = send(&stage, target, &token);
            assert_eq!(
                answer.verdict(),
                expected,
                "{version:?} {target} {claims:?}"
            );
        }
    }
}

#[test]
fn a_rule_holds_from_its_beginning_until_just_before_its_end() {
    let mut scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    scene.clock.advance(Duration::from_millis(
        1000 - u64::from(scene_millis(&scene)),
    ));
    let now = scene_seconds(&scene);
    let at = |seconds: u64| portcullis::policy::words::timestamp(now + seconds);
    let window = format!("notBefore: {}, expires: {}", at(100), at(200));
    scene.names = NAMES.to_owned();
    let stage = scene
        .raw("raw", &raw)
        .route("r", &format!("match: {{ methods: [GET], path: /r }}, backend: raw, allow: [{{ tenants: [contoso], {window} }}]"))
        .start();
    let long = stage
        .portal()
        .claim("exp", now + 100_000)
        .claim("nbf", now - 1000);
    for (seconds, expected) in [
        (0, "403 access-not-yet-valid"),
        (99, "403 access-not-yet-valid"),
        (100, "200"),
        (199, "200"),
        (200, "403 access-expired"),
    ] {
        let elapsed = scene_now(&stage) - now;
        stage.clock.advance(Duration::from_secs(seconds - elapsed));
        assert_eq!(send(&stage, "/r", &long).verdict(), expected, "{seconds}");
    }
}

fn scene_seconds(scene: &Scene) -> u64 {
    use portcullis::clock::Clock as _;
    scene.clock.now().unix.as_secs()
}

fn scene_millis(scene: &Scene) -> u32 {
    use portcullis::clock::Clock as _;
    scene.clock.now().unix.subsec_millis()
}

fn scene_now(stage: &Stage) -> u64 {
    use portcullis::clock::Clock as _;
    stage.clock.now().unix.as_secs()
}

#[test]
fn deny_wins_in_any_order_and_guards_public_routes_too() {
    let (_raw, stage) = stage(&[
        "deny: [{ apps: [marketing-portal] }], allow: [{ tenants: [contoso] }]",
        "allow: [{ tenants: [contoso] }], deny: [{ apps: [nightly-batch] }, { apps: [marketing-portal] }]",
        "public: true, deny: [{ from: [here] }]",
        "public: true, deny: [{ from: [elsewhere] }]",
        // What cannot be evaluated keeps out whom the rule may be about, and says so.
        "allow: [{ tenants: [contoso] }], deny: [{ when: \"token.upn == 'eve'\" }]",
    ]);
    let portal = token(&stage, Version::V2);
    for (target, expected, rule) in [
        ("/0", "403 denied-by-rule", json!("deny[0]")),
        ("/1", "403 denied-by-rule", json!("deny[1]")),
        ("/2", "403 denied-by-rule", json!("deny[0]")),
        ("/3", "200", Value::Null),
        ("/4", "403 condition-failed", json!("deny[0]")),
    ] {
        let answer = send(&stage, target, &portal);
        assert_eq!(answer.verdict(), expected, "{target}");
        assert_eq!(stage.record_of(&answer)["rule"], rule, "{target}");
    }
    assert_eq!(
        stage.call("GET", "/2").send().verdict(),
        "403 denied-by-rule"
    );
    assert_eq!(stage.call("GET", "/3").send().verdict(), "200");
}

#[test]
fn a_token_for_one_routes_audience_is_not_one_for_anothers() {
    let (_raw, stage) = stage(&[
        "allow: [{ tenants: [contoso] }]",
        "audiences: [api://payments], allow: [{ tenants: [contoso] }]",
    ]);
    let usual = token(&stage, Version::V2);
    let payments = token(&stage, Version::V2).claim("aud", "api://payments");
    let other = token(&stage, Version::V2).claim("aud", "api://other");
    for (target, token, expected) in [
        ("/0", &usual, "200"),
        ("/1", &usual, "401 audience-mismatch"),
        ("/0", &payments, "401 audience-mismatch"),
        ("/1", &payments, "200"),
        ("/0", &other, "401 audience-mismatch"),
    ] {
        assert_eq!(send(&stage, target, token).verdict(), expected, "{target}");
    }
}

#[test]
fn defaults_hold_where_nothing_else_is_said() {
    let mut scene = Scene::new();
    scene.names = "defaults: { mode: reportOnly, tokenKinds: [appOnly], owner: desk, rateLimit: { requests: 1, per: 1m, by: [route] } }\n".to_owned();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene
        .raw("raw", &raw)
        .route("soft", "match: { methods: [GET], path: /soft }, backend: raw, allow: [{ tenants: [contoso] }]")
        .route("hard", "match: { methods: [GET], path: /hard }, backend: raw, mode: enforce, allow: [{ tenants: [contoso] }]")
        .route("user", "match: { methods: [GET], path: /user }, backend: raw, mode: enforce, allow: [{ tenants: [contoso], tokenKinds: [delegated] }]")
        .start();
    let user = token(&stage, Version::V2).claim("scp", "A");
    assert_eq!(
        send(&stage, "/hard", &user).verdict(),
        "403 token-kind-not-allowed"
    );
    assert_eq!(send(&stage, "/user", &user).verdict(), "200");
    assert_eq!(send(&stage, "/user", &user).verdict(), "429 rate-limited");
    assert_eq!(stage.call("GET", "/soft").send().verdict(), "200");
}

#[test]
fn a_route_that_only_reports_lets_in_whom_it_would_refuse_and_says_so() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene
        .function("function")
        .raw("raw", &raw)
        .route("soft", "match: { methods: [GET], path: '/soft/{id}' }, backend: raw, mode: reportOnly, allow: [{ tenants: [contoso], apps: [nightly-batch] }], deny: [{ tenants: [fabrikam] }], rateLimit: { requests: 4, per: 1m, by: [route] }")
        .route("signed", "match: { methods: [GET], path: /signed }, backend: function, mode: reportOnly")
        .start();
    let damaged = portcullis::demo::mint::damaged(&stage.portal_token());
    for (answer, reported) in [
        (
            stage.call("GET", "/soft/1").send(),
            json!({ "decision": "deny", "reason": "token-missing" }),
        ),
        (
            stage.call("GET", "/soft/1").bearer(&damaged).send(),
            json!({ "decision": "deny", "reason": "signature-invalid" }),
        ),
        (
            stage.call("GET", "/soft/1").portal().send(),
            json!({ "decision": "deny", "reason": "app-not-allowed" }),
        ),
    ] {
        assert_eq!(answer.verdict(), "200");
        let record = stage.record_of(&answer);
        assert_eq!(record["reason"], "report-only");
        assert_eq!(record["decision"], "allow");
        let mut told = record["reportOnly"].clone();
        told.as_object_mut().expect("an object").remove("rule");
        assert_eq!(told, reported);
    }
    let batch = Token::app(
        Version::V2,
        CONTOSO,
        NIGHTLY_BATCH,
        AUDIENCE,
        stage.world.entra.now(),
    );
    let answer = send(&stage, "/soft/1", &batch);
    assert_eq!(stage.record_of(&answer)["reason"], "rule");
    // Limits hold, and so does the canonical form.
    assert_eq!(
        send(&stage, "/soft/1", &batch).verdict(),
        "429 rate-limited"
    );
    assert_eq!(
        stage.call("GET", "/soft/%2F").send().verdict(),
        "400 ambiguous-path"
    );
    // The backend gets the gateway's credential, not the caller's.
    assert_eq!(
        stage.call("GET", "/signed").bearer(&damaged).send().status,
        200
    );
    let metrics = stage.admin("/metrics");
    assert!(
        metrics.contains("portcullis_report_only_total{route=\"soft\",decision=\"deny\",reason=\"signature-invalid\",rule=\"none\"} 1"),
        "{metrics}"
    );
    for request in &raw.seen().requests {
        assert!(
            !request.to_lowercase().contains("authorization"),
            "{request}"
        );
    }
}

#[test]
fn a_rule_that_only_reports_does_nothing_and_is_recorded() {
    let (_raw, stage) = stage(&[
        "allow: [{ tenants: [contoso], mode: reportOnly }]",
        "allow: [{ tenants: [contoso] }], deny: [{ apps: [marketing-portal], mode: reportOnly }]",
    ]);
    let portal = token(&stage, Version::V2);
    let answer = send(&stage, "/0", &portal);
    assert_eq!(answer.verdict(), "403 tenant-not-allowed");
    assert_eq!(
        stage.record_of(&answer)["reportOnly"],
        json!({ "decision": "allow", "rule": "allow[0]" })
    );
    let answer = send(&stage, "/1", &portal);
    assert_eq!(answer.verdict(), "200");
    assert_eq!(
        stage.record_of(&answer)["reportOnly"],
        json!({ "decision": "deny", "reason": "denied-by-rule", "rule": "deny[0]" })
    );
}
