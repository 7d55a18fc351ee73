//! How what the gateway holds stands.

use std::fs;
use std::time::Duration;

use portcullis::demo::entra::Fault;
use portcullis::demo::names::{CONTOSO, FUNCTION_RESOURCE};
use portcullis::entra::Version;
use serde_json::{Value, json};

use super::{Asker, file, started};
use crate::support::{RawBackend, Scene};

const HOUR: Duration = Duration::from_secs(3600);

fn by<'v>(list: &'v Value, key: &str, value: &str) -> &'v Value {
    let mut found = list.as_array().expect("a list").iter();
    found.find(|one| one[key] == value).expect(value)
}

#[test]
fn keys_say_whose_they_are_and_how_old() {
    let (_raw, stage) = started("{ address: '127.0.0.1:0' }");
    stage.clock.advance(Duration::from_secs(90));
    let page = Asker::new(&stage).get("/keys").json();
    assert_eq!(page["issuers"].as_array().expect("issuers").len(), 4);
    let contoso = by(&page["issuers"], "tenant", CONTOSO);
    assert_eq!(contoso["tenantName"], "contoso");
    assert_eq!(contoso["version"], "v1");
    assert_eq!(contoso["failure"], Value::Null);
    assert!(contoso["ageSeconds"].as_u64().expect("an age") >= 90);
    assert_eq!(
        contoso["keyIds"].as_array().expect("keys").len(),
        1,
        "{page:#}"
    );
}

#[test]
fn fetches_of_keys_are_counted_and_the_last_failure_is_told() {
    let (_raw, stage) = started("{ address: '127.0.0.1:0' }");
    let contoso = CONTOSO.parse().expect("a tenant");
    let status = || {
        let snapshot = stage.gateway().readiness().snapshot.load_full();
        let keys = &snapshot.rules.tokens.tenants[&contoso];
        keys.of(Version::V2).status()
    };
    assert_eq!((status().taken, status().failed), (1, 0));
    let fault = Some(Fault::Status(500));
    stage.world.entra.set_fault(CONTOSO, Version::V2, fault);
    stage.clock.advance(2 * HOUR);
    stage.until("a failure", |_| status().failed == 1);
    assert_eq!(status().taken, 1);
    let page = Asker::new(&stage).get("/keys").json();
    let mut issuers = page["issuers"].as_array().expect("issuers").iter();
    let found = issuers.find(|one| one["tenant"] == CONTOSO && one["version"] == "v2");
    let failure = found.expect("that issuer")["failure"].as_str();
    assert!(failure.is_some_and(|why| why.contains("500")), "{page:#}");
}

#[test]
fn credentials_say_whence_they_are_and_how_they_stand_and_never_what_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = file(folder.path(), "key", "planted-key");
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let url = raw.url();
    let key_of_file = format!("http: '{url}', credential: {{ functionKey: {{ file: '{key}' }} }}");
    let stage = scene
        .function("guests")
        .raw("nothing", &raw)
        .backend("keyed", &key_of_file)
        .portal_route("one", "GET", "/one", "nothing")
        .start();
    let page = Asker::new(&stage).get("/credentials").json();
    let list = &page["credentials"];
    assert_eq!(list.as_array().expect("a list").len(), 2, "{page:#}");
    let token = by(list, "backend", "guests");
    assert_eq!(token["kind"], "token");
    assert_eq!(token["resource"], FUNCTION_RESOURCE);
    assert_eq!(
        token["from"],
        format!("token of the system-assigned identity for {FUNCTION_RESOURCE}")
    );
    assert_eq!(
        (&token["ready"], &token["lastError"]),
        (&json!(true), &Value::Null)
    );
    assert!(token["expiresInSeconds"].as_i64().expect("a time") > 0);
    assert!(token["fetched"].is_string() && token["expires"].is_string());
    let keyed = by(list, "backend", "keyed");
    assert_eq!(keyed["kind"], "secret");
    assert_eq!(keyed["from"], format!("function key from the file {key}"));
    assert_eq!(
        (&keyed["ready"], &keyed["fetched"]),
        (&json!(true), &Value::Null)
    );

    stage.clock.advance(72 * HOUR);
    let page = Asker::new(&stage).get("/credentials").json();
    let token = by(&page["credentials"], "backend", "guests");
    let left = token["expiresInSeconds"].as_i64().expect("a time");
    assert_eq!(token["ready"], left > 10, "{token:#}");
}

#[test]
fn backends_tell_where_they_are_and_nothing_of_their_queries() {
    let scene = Scene::new();
    let (one, other) = (RawBackend::ok(&scene, "a"), RawBackend::ok(&scene, "b"));
    let urls = format!("'{}/x', '{}/x'", one.url(), other.url());
    let careful = "credential: none, breaker: {}, retry: {}, coldStart: 30s";
    let stage = scene
        .backend("several", &format!("http: [{urls}], {careful}"))
        .raw("plain", &one)
        .portal_route("one", "GET", "/one", "several")
        .start();
    let answer = stage.call("GET", "/one").portal().send();
    assert_eq!(answer.verdict(), "200");
    let page = Asker::new(&stage).get("/backends").json();
    let several = by(&page["backends"], "name", "several");
    assert_eq!(several["kind"], "http");
    assert_eq!(
        several["urls"],
        json!([format!("{}/x", one.url()), format!("{}/x", other.url())])
    );
    assert_eq!(several["endpoints"].as_array().expect("endpoints").len(), 2);
    assert_eq!(several["endpoints"][0]["isWell"], true);
    assert_eq!(
        several["breaker"],
        json!({ "isClosed": true, "opened": 0, "closed": 0, "refused": 0 })
    );
    assert_eq!(several["retries"], json!({ "made": 0, "refused": 0 }));
    assert_eq!(several["coldStarts"]["waiting"], 0);
    let plain = by(&page["backends"], "name", "plain");
    for key in ["fault", "breaker", "retries", "coldStarts"] {
        assert_eq!(plain[key], Value::Null, "{key}");
    }
}

#[test]
fn the_last_change_says_who_gains_and_who_loses_as_diff_does() {
    let (_raw, stage) = started("{ address: '127.0.0.1:0' }");
    let asker = Asker::new(&stage);
    let policies = || asker.get("/policies").json();
    let before = policies();
    assert_eq!(before["lastDiff"], Value::Null);
    let policy = stage.folder.path().join("policy.yaml");
    let old = stage.folder.path().join("old.yaml");
    fs::copy(&policy, &old).expect("copied");
    stage.change_policy(|policy| {
        policy.replace("apps: [marketing-portal]", "apps: [nightly-batch]")
    });
    stage.until("the difference", |_| policies()["lastDiff"].is_object());
    let after = policies();
    let diff = &after["lastDiff"];
    assert_eq!(diff["from"], before["inForce"]["digest"]);
    assert_eq!(diff["to"], after["inForce"]["digest"]);
    assert_eq!(diff["time"], after["inForce"]["since"]);
    assert_eq!(diff["exact"], true);

    let told = |format: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["diff", "--format", format])
            .args([&old, &policy])
            .output();
        String::from_utf8(output.expect("it runs").stdout).expect("text")
    };
    let shown = |text: &str| -> Vec<String> {
        // The examples are of their own time.
        let lines = text.lines().filter(|line| !line.contains("for example"));
        lines.map(str::to_owned).collect()
    };
    let text = diff["text"].as_str().expect("text");
    assert_eq!(shown(text), shown(&told("human")));
    let by_command: Value = serde_json::from_str(&told("json")).expect("JSON");
    let of = |changes: &Value, side: &str| changes[0][side][0]["callers"].clone();
    for side in ["gained", "lost"] {
        let change = of(&diff["changes"], side);
        assert!(change.is_object(), "{diff:#}");
        assert_eq!(change, of(&by_command["access"], side), "{side}");
    }
    // What changes nothing of the policies leaves it.
    stage.reload();
    assert_eq!(policies()["lastDiff"], *diff);
}

#[test]
fn who_can_call_what_is_told_of_the_policy_in_force() {
    let (_raw, stage) = started("{ address: '127.0.0.1:0' }");
    let asker = Asker::new(&stage);
    let first = asker.get("/access").json();
    let in_force = || asker.get("/policies").json()["inForce"]["digest"].clone();
    assert_eq!(first["digest"], in_force());
    let route = by(&first["routes"], "route", "one");
    assert_eq!(route["methods"], json!(["GET"]));
    assert_eq!(
        (&route["path"], &route["hosts"]),
        (&json!("/one"), &json!([]))
    );
    assert_eq!(
        (&route["mode"], &route["exact"]),
        (&json!("enforce"), &json!(true))
    );
    let callers = &route["callers"][0];
    assert_eq!(callers["apps"]["only"][0]["name"], "marketing-portal");
    let policy = stage.folder.path().join("policy.yaml");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["who-can", "--all", "--format", "json", "--policies"])
        .arg(policy)
        .output();
    let told: Value = serde_json::from_slice(&output.expect("it runs").stdout).expect("JSON");
    assert_eq!(route["callers"], told[0]["callers"]);

    stage.change_policy(|policy| {
        policy.replace("apps: [marketing-portal]", "apps: [nightly-batch]")
    });
    let second = asker.get("/access").json();
    assert_eq!(second["digest"], in_force());
    let callers = &by(&second["routes"], "route", "one")["callers"][0];
    assert_eq!(callers["apps"]["only"][0]["name"], "nightly-batch");
}

#[test]
fn limits_say_what_is_under_way() {
    let mut scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    scene.more = "limits: { maxRequests: 100 }\n".to_owned();
    let stage = scene
        .raw("raw", &raw)
        .route(
            "one",
            "match: { methods: [GET], path: /one }, backend: raw, public: true, concurrency: { requests: 9 }",
        )
        .start();
    let page = Asker::new(&stage).get("/limits").json();
    assert_eq!(
        page,
        json!({
            "requestsUnderWay": 0,
            "concurrency": [{ "of": "route", "name": "one", "by": "", "underWay": 0, "waiting": 0, "limit": 9 }],
            "store": null,
        })
    );
}
