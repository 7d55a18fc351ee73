//! A candidate beside the policy in force: what it would do otherwise is recorded, and nothing waits for it.

use std::fs;
use std::time::Duration;

use portcullis::demo::entra::Fault;
use portcullis::demo::mint::Token;
use portcullis::demo::names::{AUDIENCE, CONTOSO, MARKETING_PORTAL, STRANGERS};
use portcullis::entra::Version;
use serde_json::{Value, json};

use super::in_force::page;
use super::send;
use crate::support::{RawBackend, Scene, Stage};

#[test]
fn a_candidate_watches_and_only_its_disagreement_is_recorded() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene
        .raw("raw", &raw)
        .portal_route("both", "GET", "/both", "raw")
        .portal_route("old", "GET", "/old", "raw")
        .route(
            "closed",
            "match: { methods: [GET], path: /closed }, backend: raw",
        )
        .candidate(|policy| {
            let policy = policy
                .replace("/old", "/new")
                .replace("api://contoso-gateway", "api://contoso-gateway, api://next");
            policy.replace(
                "path: /closed }, backend: raw",
                "path: /closed }, backend: raw, public: true",
            )
        })
        .start();
    let other = stage.portal().claim("aud", "api://next");
    for (answer, verdict, candidate) in [
        (
            stage.call("GET", "/both").portal().send(),
            "200",
            Value::Null,
        ),
        (
            stage.call("GET", "/old").portal().send(),
            "200",
            json!({ "decision": "deny", "reason": "route-not-found", "app": MARKETING_PORTAL, "appName": "marketing-portal" }),
        ),
        (
            stage.call("GET", "/new").portal().send(),
            "404 route-not-found",
            json!({ "decision": "allow", "route": "old", "rule": "allow[0]", "app": MARKETING_PORTAL, "appName": "marketing-portal" }),
        ),
        (
            stage.call("GET", "/closed").send(),
            "401 token-missing",
            json!({ "decision": "allow", "route": "closed" }),
        ),
        (
            send(&stage, "/both", &other),
            "401 audience-mismatch",
            json!({ "decision": "allow", "route": "both", "rule": "allow[0]", "app": MARKETING_PORTAL, "appName": "marketing-portal" }),
        ),
        (
            stage.call("GET", "/both").send(),
            "401 token-missing",
            Value::Null,
        ),
    ] {
        assert_eq!(answer.verdict(), verdict);
        assert_eq!(
            stage.record_of(&answer)["candidate"],
            candidate,
            "{verdict}"
        );
    }
    let metrics = stage.admin("/metrics");
    let line = "portcullis_candidate_disagreements_total{route=\"old\",app=\"marketing-portal\",rule=\"allow[0]\",decision=\"allow\",reason=\"\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn a_candidate_at_fault_is_told_and_changes_nothing_and_the_page_shows_what_is_in_force() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene
        .raw("raw", &raw)
        .portal_route("both", "GET", "/both", "raw")
        .candidate(|policy| policy.replace("apps: [marketing-portal]", "apps: [marketing-portl]"))
        .start();
    assert_eq!(stage.call("GET", "/both").portal().send().verdict(), "200");
    let before = page(&stage);
    assert_eq!(
        before["candidate"]["diagnostics"][0]["message"],
        "no app is named `marketing-portl`"
    );
    assert_eq!(before["lastRefused"], Value::Null);
    assert_eq!(before["inForce"]["routes"], 1);

    let path = stage.folder.path().join("candidate.yaml");
    let mended = fs::read_to_string(&path)
        .expect("there")
        .replace("marketing-portl", "nightly-batch");
    fs::write(&path, mended).expect("written");
    stage.until("the reload", |stage| {
        stage.clock.advance(Duration::from_secs(1));
        stage.gateway().reloads().borrow().taken == 1
    });
    let now = page(&stage);
    assert_eq!(now["candidate"]["routes"], 1);
    assert_eq!(now["inForce"]["digest"], before["inForce"]["digest"]);
    let answer = stage.call("GET", "/both").portal().send();
    assert_eq!(
        stage.record_of(&answer)["candidate"]["reason"],
        "app-not-allowed"
    );

    let path = stage.folder.path().join("policy.yaml");
    let policy = fs::read_to_string(&path).expect("there");
    fs::write(&path, policy.replace("backend: raw", "backend: rwa")).expect("written");
    stage.until("the refusal", |stage| {
        stage.clock.advance(Duration::from_secs(1));
        stage.gateway().reloads().borrow().refused == 1
    });
    let refused = page(&stage);
    assert_eq!(
        refused["lastRefused"]["diagnostics"][0]["message"],
        "no backend is named `rwa`"
    );
    assert_eq!(refused["inForce"]["digest"], before["inForce"]["digest"]);
}

/// `/a` for the portal of Contoso; a candidate that lets in that of another tenant too.
fn another_tenant() -> (RawBackend, Scene) {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let trusting = |policy: String| {
        policy
            .replace(
                "tenants: {",
                &format!("tenants: {{ strangers: {STRANGERS},"),
            )
            .replace("tenants: [contoso]", "tenants: [contoso, strangers]")
    };
    let scene = scene
        .raw("raw", &raw)
        .portal_route("a", "GET", "/a", "raw")
        .candidate(trusting);
    (raw, scene)
}

fn portal_of(stage: &Stage, tenant: &str) -> Token {
    let now = stage.world.entra.now();
    Token::app(Version::V2, tenant, MARKETING_PORTAL, AUDIENCE, now)
}

fn undecided(stage: &Stage) -> u64 {
    let metrics = stage.admin("/metrics");
    let count = metrics
        .lines()
        .find_map(|line| line.strip_prefix("portcullis_candidate_undecided_total "));
    count.expect("the counter").parse().expect("a number")
}

#[test]
fn a_candidate_that_trusts_another_tenant_lets_in_nobody_and_says_whom_it_would() {
    let (raw, scene) = another_tenant();
    let stage = scene.start();
    // The candidate's keys are fetched like those in force, and readiness does not ask for them.
    stage.until("the candidate's keys", |stage| {
        let answer = send(stage, "/a", &portal_of(stage, STRANGERS));
        assert_eq!(answer.verdict(), "401 issuer-not-trusted");
        stage.record_of(&answer)["candidate"] != Value::Null
    });
    let answer = send(&stage, "/a", &portal_of(&stage, STRANGERS));
    let record = stage.record_of(&answer);
    assert_eq!(
        record["candidate"],
        json!({ "decision": "allow", "route": "a", "rule": "allow[0]", "app": MARKETING_PORTAL, "appName": "marketing-portal" })
    );
    assert_eq!(record["decision"], "deny");
    // Who was let in beside the record is no caller that the policy in force knows.
    assert_eq!(record["tenant"], Value::Null);
    assert_eq!(raw.seen().requests.len(), 0);

    let known = send(&stage, "/a", &portal_of(&stage, CONTOSO));
    assert_eq!(known.verdict(), "200");
    assert_eq!(stage.record_of(&known)["candidate"], Value::Null);
}

#[test]
fn a_candidate_whose_keys_are_not_there_is_not_waited_for_and_that_is_counted() {
    let (_raw, mut scene) = another_tenant();
    // Longer than the test client waits for anything.
    scene.entra = "  keyWait: 30s".to_owned();
    let entra = &scene.world.entra;
    for version in Version::ALL {
        entra.set_fault(STRANGERS, version, Some(Fault::Hang));
    }
    let stage = scene.start();
    let begun = portcullis::clock::Clock::now(&portcullis::clock::SystemClock).instant;
    for times in 1..=3 {
        let answer = send(&stage, "/a", &portal_of(&stage, STRANGERS));
        assert_eq!(answer.verdict(), "401 issuer-not-trusted");
        assert_eq!(stage.record_of(&answer)["candidate"], Value::Null);
        stage.until("the count", |stage| undecided(stage) == times);
    }
    let waited = portcullis::clock::Clock::now(&portcullis::clock::SystemClock)
        .instant
        .duration_since(begun);
    assert!(waited < Duration::from_secs(9), "{waited:?}");
    // Where the candidate needs no keys that are missing, it decides.
    let known = send(&stage, "/a", &portal_of(&stage, CONTOSO));
    assert_eq!(known.verdict(), "200");
    assert_eq!(stage.record_of(&known)["candidate"], Value::Null);
    assert_eq!(undecided(&stage), 3);
}

#[test]
fn a_disagreement_names_the_app_where_only_the_candidate_looks_at_the_token() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene
        .raw("raw", &raw)
        .route(
            "open",
            "match: { methods: [GET], path: /open }, backend: raw, public: true",
        )
        .candidate(|policy| {
            policy.replace(
                "public: true",
                "allow: [{ tenants: [contoso], apps: [nightly-batch], tokenKinds: [appOnly] }]",
            )
        })
        .start();
    stage.until("the candidate's keys", |stage| {
        let answer = stage.call("GET", "/open").portal().send();
        let candidate = stage.record_of(&answer)["candidate"].clone();
        candidate["app"] == json!(MARKETING_PORTAL) && candidate["appName"] == "marketing-portal"
    });
    let nobody = stage.call("GET", "/open").send();
    assert_eq!(stage.record_of(&nobody)["candidate"]["app"], Value::Null);
    let line = |app: &str, rule: &str, reason: &str| {
        format!(
            "portcullis_candidate_disagreements_total{{route=\"open\",app=\"{app}\",rule=\"{rule}\",decision=\"deny\",reason=\"{reason}\"}}"
        )
    };
    let metrics = stage.admin("/metrics");
    for line in [
        line("marketing-portal", "allow[0]", "app-not-allowed"),
        line("none", "none", "token-missing"),
    ] {
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
}
