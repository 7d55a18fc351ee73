//! The latest requests at the admin address, and what is logged.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::{Asker, SECRET, file, started};
use crate::support::{Answer, Scene, Stage, patiently};

fn id(answer: &Answer) -> String {
    answer
        .header("x-request-id")
        .expect("a request ID")
        .to_owned()
}

fn reasons(page: &Value) -> Vec<&str> {
    let decisions = page["decisions"].as_array().expect("a list").iter();
    decisions
        .map(|decision| decision["reason"].as_str().expect("a reason"))
        .collect()
}

#[test]
fn the_latest_decisions_are_told_newest_first_as_the_log_tells_them() {
    let (_raw, stage) = started("{ address: '127.0.0.1:0' }");
    let asker = Asker::new(&stage);
    let step = || stage.clock.advance(std::time::Duration::from_millis(10));
    assert_eq!(stage.call("GET", "/one").portal().send().verdict(), "200");
    step();
    let refused = stage.call("GET", "/one").send();
    assert_eq!(refused.verdict(), "401 token-missing");
    step();
    let nowhere = stage.call("GET", "/nowhere").portal().send();
    assert_eq!(nowhere.verdict(), "404 route-not-found");
    stage.until("all three", |_| asker.get("/decisions").json()["kept"] == 3);
    let all = asker.get("/decisions").json();
    assert_eq!(reasons(&all), ["route-not-found", "token-missing", "rule"]);
    assert_eq!(all["decisions"][1], stage.record_of(&refused));
    for (query, expected) in [
        ("decision=deny", vec!["route-not-found", "token-missing"]),
        ("decision=allow", vec!["rule"]),
        ("reason=token-missing", vec!["token-missing"]),
        ("route=one", vec!["token-missing", "rule"]),
        ("app=marketing-portal", vec!["route-not-found", "rule"]),
        ("tenant=contoso&decision=allow", vec!["rule"]),
        ("limit=1", vec!["route-not-found"]),
        ("app=somebody-else", vec![]),
    ] {
        let page = asker.get(&format!("/decisions?{query}")).json();
        assert_eq!(reasons(&page), expected, "{query}");
    }
    let wrong = asker.get("/decisions?sort=time");
    assert_eq!(wrong.status, 400);
    assert!(
        wrong.error().contains("decision, reason, route"),
        "{wrong:?}"
    );
}

#[test]
fn a_refusal_is_explained_by_its_request_id() {
    let scene = Scene::new();
    let raw = crate::support::RawBackend::ok(&scene, "fine");
    let stage = scene
        .raw("raw", &raw)
        .route(
            "invite",
            "match: { methods: [GET], path: '/invite' }, backend: raw, allow: [{ tenants: [contoso], apps: [marketing-portal], roles: [Guests.Delete] }, { tenants: [fabrikam] }]",
        )
        .start();
    let asker = Asker::new(&stage);
    let refused = stage.call("GET", "/invite").portal().send();
    assert_eq!(refused.verdict(), "403 role-missing");
    let path = format!("/decisions/{}", id(&refused));
    stage.until("the decision", |_| asker.get(&path).status == 200);
    let page = asker.get(&path).json();
    assert_eq!(page["reason"], "role-missing");
    let explanation = &page["explanation"];
    let steps: Vec<&str> = explanation["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|step| step.as_str().expect("a sentence"))
        .collect();
    assert_eq!(steps[0], "The route invite takes the request.");
    assert_eq!(steps[1], "The token is good: marketing-portal of contoso.");
    let closest = "allow[0] does not hold: roles asks for any of Guests.Delete, and the request has Guests.Invite.";
    assert!(steps.contains(&closest), "{steps:#?}");
    let other = steps.iter().find(|step| step.starts_with("allow[1]"));
    assert!(
        other.is_some_and(|step| step.contains("tenants asks for fabrikam")),
        "{steps:#?}"
    );
    assert!(
        explanation["advice"]
            .as_str()
            .expect("advice")
            .contains("portcullis diff"),
        "{explanation}"
    );
    let unknown = asker.get("/decisions/00000000-0000-4000-8000-000000000000");
    assert_eq!(unknown.status, 404);
    assert!(
        unknown.error().contains("portcullis explain"),
        "{unknown:?}"
    );
    assert_eq!(asker.get("/decisions/nonsense").status, 404);
}

#[test]
fn a_flood_of_requests_that_are_let_in_leaves_a_refusal_where_it_can_be_asked_for() {
    let (_raw, stage) = started("{ address: '127.0.0.1:0' }");
    let asker = Asker::new(&stage);
    let refused = stage.call("GET", "/one").send();
    for _ in 0..300 {
        assert_eq!(stage.call("GET", "/one").portal().send().verdict(), "200");
    }
    stage.until("as many as are kept", |_| {
        asker.get("/decisions").json()["kept"] == 257
    });
    assert_eq!(
        asker.get(&format!("/decisions/{}", id(&refused))).status,
        200
    );
}

#[test]
fn whoever_follows_is_told_of_those_to_come() {
    let (_raw, stage) = started("{ address: '127.0.0.1:0' }");
    assert_eq!(
        stage.call("GET", "/one").send().verdict(),
        "401 token-missing"
    );
    // It is recorded once its answer is sent, which the caller may hear of before.
    let asker = Asker::new(&stage);
    stage.until("the first is recorded", |_| {
        asker.get("/decisions").json()["kept"] == 1
    });
    let admin = stage.gateway().admin_address().expect("an admin address");
    let (mut lines, _write) = stage.runtime.block_on(async {
        let stream = TcpStream::connect(admin).await.expect("connected");
        let (read, mut write) = stream.into_split();
        let request =
            b"GET /decisions?follow=true&decision=deny HTTP/1.1\r\nHost: localhost\r\n\r\n";
        write.write_all(request).await.expect("written");
        (BufReader::new(read).lines(), write)
    });
    let mut next = |begins: &str| {
        stage.runtime.block_on(patiently(async {
            loop {
                let line = lines.next_line().await.expect("read").expect("a line");
                if let Some(rest) = line.strip_prefix(begins) {
                    return rest.to_owned();
                }
            }
        }))
    };
    assert_eq!(next("content-type: "), "text/event-stream");
    // The sign that it has begun.
    next(":");
    assert_eq!(stage.call("GET", "/one").portal().send().verdict(), "200");
    let refused = stage.call("GET", "/two").send();
    assert_eq!(next("event: "), "decision");
    let told: Value = serde_json::from_str(&next("data: ")).expect("JSON");
    assert_eq!(told["id"], id(&refused));
}

#[test]
fn an_operator_changes_what_is_logged_until_the_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let bearer = file(folder.path(), "bearer", SECRET);
    let admin = format!("{{ address: '127.0.0.1:0', bearer: {{ file: '{bearer}' }} }}");
    let (_raw, stage) = started(&admin);
    let asker = Asker::new(&stage).bearer(SECRET);
    let usual = json!({ "events": "info", "requests": "all" });
    assert_eq!(asker.get("/log-level").json(), usual);
    let put = |body: &str| asker.send("PUT", "/log-level", body).expect("an answer");
    for (body, says) in [
        ("", "JSON"),
        ("{}", "say what is to change"),
        ("{\"requests\":\"some\"}", "all, denied and none"),
        ("{\"events\":\"loud\"}", "info, warning and error"),
        ("{\"level\":\"info\"}", "JSON"),
    ] {
        let told = put(body);
        assert_eq!(told.status, 400, "{body}");
        assert!(told.error().contains(says), "{body}: {told:?}");
    }
    let changed = put("{\"requests\":\"denied\"}");
    assert_eq!(
        changed.json(),
        json!({ "events": "info", "requests": "denied" })
    );
    let allowed = stage.call("GET", "/one").portal().send();
    let refused = stage.call("GET", "/one").send();
    stage.record_of(&refused);
    let lines = stage.log.lines();
    assert!(
        !lines.iter().any(|line| line.contains(&id(&allowed))),
        "{lines:?}"
    );
    // Without a credential nobody changes it, on loopback neither.
    let told = Asker::new(&stage).send("PUT", "/log-level", "{\"requests\":\"none\"}");
    assert_eq!(told.expect("an answer").status, 401);
    let open: Stage = started("{ address: '127.0.0.1:0' }").1;
    let told = Asker::new(&open).send("PUT", "/log-level", "{\"requests\":\"none\"}");
    assert_eq!(told.expect("an answer").status, 403);
}

#[test]
fn the_console_comes_with_a_strict_policy_and_shows_nothing_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let bearer = file(folder.path(), "bearer", SECRET);
    let admin = format!("{{ address: '127.0.0.1:0', bearer: {{ file: '{bearer}' }} }}");
    let (_raw, stage) = started(&admin);
    let asker = Asker::new(&stage);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/console.css", "text/css; charset=utf-8"),
        ("/console.js", "text/javascript; charset=utf-8"),
    ] {
        let told = asker.get(path);
        assert_eq!((told.status, told.field("content-type")), (200, Some(kind)));
        let policy = told.field("content-security-policy").expect("a policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"),
            "{policy}"
        );
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    assert_eq!(asker.get("/decisions").status, 401);
}

#[test]
fn openmetrics_has_exemplars_and_ends() {
    let mut scene = Scene::new();
    let raw = crate::support::RawBackend::ok(&scene, "fine");
    scene.more = "telemetry: { otlp: { endpoint: 'http://127.0.0.1:9' } }\n".to_owned();
    let stage = scene
        .raw("raw", &raw)
        .portal_route("one", "GET", "/one", "raw")
        .start();
    assert_eq!(stage.call("GET", "/one").portal().send().verdict(), "200");
    let mut asker = Asker::new(&stage);
    assert!(!asker.get("/metrics").body.contains("trace_id"));
    asker.fields = "Accept: application/openmetrics-text; version=1.0.0\r\n".to_owned();
    stage.until("the request", |_| {
        asker.get("/metrics").body.contains("# {trace_id=\"")
    });
    let told = asker.get("/metrics");
    assert_eq!(
        told.field("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(told.body.ends_with("# EOF\n"), "{}", told.body);
}
