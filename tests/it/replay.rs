//! The decision log, and what `replay` makes of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use portcullis::demo::names::{MARKETING_PORTAL, NIGHTLY_BATCH};

use crate::support::{Call, RawBackend, Scene, Stage};

const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");

const ALLOW: &str =
    "allow: [{ tenants: [contoso], apps: [marketing-portal], tokenKinds: [appOnly] }]";

/// A gateway that records decisions, with routes of several kinds.
fn stage(raw: &RawBackend, linked: &RawBackend, scene: Scene) -> Stage {
    let mut scene = scene
        .raw("raw", raw)
        .raw("linked", linked)
        .portal_route("linked", "GET", "/linked", "linked")
        .route("read", &format!("match: {{ methods: [GET], path: '/read/{{id}}' }}, backend: raw, {ALLOW}"))
        .route("open", "match: { methods: [GET], path: /open }, backend: raw, public: true")
        .route(
            "watched",
            &format!("match: {{ methods: [GET], path: /watched }}, backend: raw, mode: reportOnly, {ALLOW}"),
        )
        .route(
            "asked",
            "match: { methods: [GET], path: /asked }, backend: raw, allow: [{ tenants: [contoso], apps: [marketing-portal], tokenKinds: [appOnly], when: \"request.headers['x-case'] == 'a' && has(token.uti)\" }]",
        );
    scene.more += "telemetry: { decisionLog: { path: decisions.jsonl } }\n";
    scene.start()
}

/// A dozen requests of all kinds; how many of them a decision log holds.
fn send(stage: &Stage) -> usize {
    for (target, expected) in [
        ("/read/2", "200"),
        ("/nothing", "404 route-not-found"),
        ("/open", "200"),
        ("/watched", "200"),
        ("/asked", "403 condition-failed"),
    ] {
        assert_eq!(
            stage.call("GET", target).portal().send().verdict(),
            expected,
            "{target}"
        );
    }
    let signed = stage.call("GET", "/read/1?sig=planted-sig");
    let signed = signed.header("user-agent", "curl/8.5.0").portal().send();
    assert_eq!(signed.verdict(), "200");
    for (value, expected) in [("a", "200"), ("b", "403 condition-not-met")] {
        let answer = stage
            .call("GET", "/asked")
            .header("x-case", value)
            .portal()
            .send();
        assert_eq!(answer.verdict(), expected);
    }
    for (target, expected) in [
        ("/open", "200"),
        ("/watched", "200"),
        ("/read/1", "401 token-missing"),
    ] {
        assert_eq!(
            stage.call("GET", target).send().verdict(),
            expected,
            "{target}"
        );
    }
    let late = stage.portal().claim("exp", stage.world.entra.now() - 3600);
    let late = stage.world.entra.sign(&late).expect("signed");
    assert_eq!(
        stage.call("GET", "/read/1").bearer(&late).send().verdict(),
        "401 token-expired"
    );
    let other = stage.portal().claim("aud", "api://another");
    let other = stage.world.entra.sign(&other).expect("signed");
    assert_eq!(
        stage.call("GET", "/read/1").bearer(&other).send().verdict(),
        "401 audience-mismatch"
    );
    let begun = stage.call("GET", "/linked").portal().send();
    let sealed = begun.header("location").expect("a sealed URL");
    let sealed = sealed
        .strip_prefix("https://localhost")
        .expect("the host that was asked for");
    for (app, expected) in [
        (MARKETING_PORTAL, "200"),
        (NIGHTLY_BATCH, "403 sealed-url-not-yours"),
    ] {
        let token = stage.portal().claim("azp", app);
        let token = stage.world.entra.sign(&token).expect("signed");
        let answer = stage.call("GET", sealed).bearer(&token).send();
        assert_eq!(answer.verdict(), expected);
    }
    let upgrade = upgrading(stage.call("GET", "/read/1").portal()).send();
    assert_eq!(upgrade.verdict(), "400 upgrade-not-supported");
    // What has no canonical form is refused whatever the policy, and is no decision.
    assert_eq!(
        stage.call("GET", "/read/%2F").portal().send().verdict(),
        "400 ambiguous-path"
    );
    17
}

/// A handshake for a WebSocket.
const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fn upgrading(call: Call<'_>) -> Call<'_> {
    let fields = HANDSHAKE.into_iter();
    fields.fold(call, |call, (name, value)| call.header(name, value))
}

/// The lines that are whole: a reader may see the first pages of what is being written and not the last.
fn lines(stage: &Stage) -> Vec<Value> {
    let text = fs::read_to_string(stage.folder.path().join("decisions.jsonl")).unwrap_or_default();
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// The fields that the README names.
fn documented() -> BTreeSet<String> {
    let readme = include_str!("../../README.md");
    let table = readme.split("<!-- decisions -->").nth(1).expect("a table");
    let table = table.split("<!-- /decisions -->").next().expect("its end");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned()));
    // Only a candidate that disagrees leaves its field, and only a caller with a certificate.
    let seldom = ["candidate", "certificate"];
    names
        .filter(|name| !seldom.contains(&name.as_str()))
        .collect()
}

/// The fields that lines hold, those of the token among them.
fn written(lines: &[Value]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in lines {
        let object = line.as_object().expect("an object");
        names.extend(object.keys().cloned());
        for part in ["token", "sas"] {
            let inner = line.get(part).and_then(Value::as_object);
            let inner = inner.into_iter().flat_map(|inner| inner.keys());
            names.extend(inner.map(|name| format!("{part}.{name}")));
        }
    }
    names
}

fn replay(folder: &Path, arguments: &[&str]) -> (Value, Option<i32>) {
    let output = Command::new(PORTCULLIS)
        .current_dir(folder)
        .args(["replay", "--format", "json"])
        .args(arguments)
        .output()
        .expect("it runs");
    let told = serde_json::from_slice(&output.stdout);
    let told = told.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (told, output.status.code())
}

#[test]
fn what_was_recorded_is_decided_alike_by_the_same_policy_and_otherwise_by_another() {
    let scene = Scene::new();
    let (raw, linked) = (
        RawBackend::ok(&scene, "fine"),
        RawBackend::with_links(&scene),
    );
    let stage = stage(&raw, &linked, scene);
    let sent = send(&stage);
    stage.until("all decisions", |stage| lines(stage).len() == sent);
    let folder = stage.folder.path();
    assert_eq!(documented(), written(&lines(&stage)));

    let (told, code) = replay(folder, &["--policies", "policy.yaml", "decisions.jsonl"]);
    assert_eq!(
        (&told["same"], &told["groups"], code),
        (&json!(sent), &json!([]), Some(0))
    );

    // Nobody may read any more, everybody must be known to enter, and the watched route acts.
    let policy = fs::read_to_string(folder.join("policy.yaml")).expect("the policy");
    let changed = policy
        .replace("path: '/read/{id}'", "path: '/elsewhere/{id}'")
        .replace("public: true", ALLOW)
        .replace("mode: reportOnly, ", "")
        .replace("== 'a'", "== 'b'");
    fs::write(folder.join("new.yaml"), changed).expect("written");
    let (told, code) = replay(folder, &["--policies", "new.yaml", "decisions.jsonl"]);
    assert_eq!(code, Some(1));
    let groups: Vec<_> = told["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .map(|group| {
            let text = |name: &str| group[name].as_str().expect(name).to_owned();
            (
                text("becomes"),
                text("route"),
                text("was"),
                text("is"),
                group["count"].as_u64().expect("a count"),
            )
        })
        .collect();
    let expected = |becomes: &str, route: &str, was: &str, is: &str, count: u64| {
        (
            becomes.to_owned(),
            route.to_owned(),
            was.to_owned(),
            is.to_owned(),
            count,
        )
    };
    let mut sorted = groups.clone();
    sorted.sort();
    assert_eq!(
        sorted,
        [
            expected(
                "cannotBeTold",
                "open",
                "allow: public",
                "asks for a token, and nobody looked for one",
                2
            ),
            expected(
                "letIn",
                "asked",
                "deny: condition-not-met (allow[0])",
                "allow: rule (asked allow[0])",
                1
            ),
            expected(
                "refused",
                "asked",
                "allow: rule (allow[0])",
                "deny: condition-not-met (asked allow[0])",
                1
            ),
            expected(
                "refused",
                "read",
                "allow: rule (allow[0])",
                "deny: route-not-found",
                2
            ),
            expected(
                "refused",
                "watched",
                "allow: report-only",
                "deny: token-missing (watched)",
                1
            ),
        ]
    );

    // A condition on what nobody recorded, and trust in another audience, cannot be told.
    let asks = policy
        .replace(
            "request.headers['x-case'] == 'a'",
            "request.headers['x-other'] == 'a'",
        )
        .replace(
            "audiences: [api://contoso-gateway",
            "audiences: [api://another, api://contoso-gateway",
        );
    fs::write(folder.join("new.yaml"), asks).expect("written");
    let (told, _) = replay(folder, &["--policies", "new.yaml", "decisions.jsonl"]);
    let cannot: Vec<_> = told["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .map(|group| {
            (
                group["is"].as_str().expect("why"),
                group["count"].as_u64().expect("a count"),
            )
        })
        .collect();
    assert_eq!(told["cannotBeTold"], 4, "{cannot:?}");
    assert!(
        cannot.contains(&(
            "trusts other tenants or audiences, and the token was never verified",
            1
        )),
        "{cannot:?}"
    );

    // A torn line and one of a later version are passed over and counted; one that is being written
    // is no fault.
    let text = fs::read_to_string(folder.join("decisions.jsonl")).expect("the log");
    let half = &text[..40];
    let torn = format!("{half}\n{text}{{\"v\":99}}\n{half}");
    fs::write(folder.join("torn.jsonl"), torn).expect("written");
    let (told, code) = replay(folder, &["--policies", "policy.yaml", "torn.jsonl"]);
    assert_eq!(
        (&told["same"], &told["unreadable"], code),
        (&json!(sent), &json!(2), Some(0))
    );
}

#[test]
fn a_file_that_is_no_decision_log_is_not_taken_for_one_in_which_nothing_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let write =
        |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    write(
        "policy.yaml",
        "audiences: [api://gateway]\nbackends: { b: { http: 'http://127.0.0.1:9', credential: none } }\nroutes: { open: { match: { methods: [GET], path: /open }, backend: b, public: true } }\n",
    );
    let none = "none of its lines is a decision; name a file that the gateway wrote by `telemetry.decisionLog` of gateway.yaml";
    for (text, expected) in [
        ("", None),
        ("\n\n", None),
        ("one\ntwo\n", Some(none)),
        ("{\"level\":\"info\"}\n{\"lev", Some(none)),
        ("{}", Some(none)),
        (
            "{\"v\":99}\n",
            Some("its decisions are of a version that this one does not know"),
        ),
    ] {
        write("log.jsonl", text);
        let output = Command::new(PORTCULLIS)
            .current_dir(folder.path())
            .args(["replay", "--policies", "policy.yaml", "log.jsonl"])
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let (error, code) = match expected {
            Some(why) => (format!("error: log.jsonl: {why}\n"), 2),
            None => (String::new(), 0),
        };
        assert_eq!(
            (said, output.status.code()),
            (error, Some(code)),
            "{text:?}"
        );
    }
}

#[test]
fn the_decision_log_holds_what_decides_and_no_secret_and_is_followed_when_it_is_moved() {
    let scene = Scene::new();
    let (raw, linked) = (
        RawBackend::ok(&scene, "fine"),
        RawBackend::with_links(&scene),
    );
    let stage = stage(&raw, &linked, scene);
    let sent = send(&stage);
    stage.until("all decisions", |stage| lines(stage).len() == sent);
    let path = stage.folder.path().join("decisions.jsonl");
    let text = fs::read_to_string(&path).expect("the log");
    let token = stage.portal_token();
    let signature = token.rsplit('.').next().expect("a signature");
    for secret in ["planted", "sig=", signature, "Bearer", "eyJ"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let asked = lines(&stage)
        .into_iter()
        .find(|line| line["fields"]["x-case"] == json!(["a"]));
    let asked = asked.expect("the field is kept");
    assert_eq!(asked["token"]["kind"], "appOnly");
    assert!(asked["token"]["claims"]["uti"].is_string());
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).expect("there"));
    assert_eq!(mode & 0o777, 0o600);

    let id = asked["id"].as_str().expect("an ID");
    let explain = |policy: &str, more: &[&str]| {
        let recorded = ["--log", "decisions.jsonl", "--decision", id];
        let output = Command::new(PORTCULLIS)
            .current_dir(stage.folder.path())
            .args(["explain", "--policies", policy])
            .args(recorded)
            .args(more)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (said, output.status.code())
    };
    let (said, code) = explain("policy.yaml", &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("request.headers['x-case'] is \"a\""),
        "{said}"
    );
    let time = asked["time"].as_str().expect("a time");
    let recorded = format!(
        "recorded  allow: rule (asked allow[0]) at {time}; the rest is what these policies say\n"
    );
    let decision = "decision  allow: rule by allow[0]\n";
    assert!(said.contains(&format!("{recorded}{decision}")), "{said}");

    // Other policies decide otherwise, and what was recorded stays what it was.
    let policy = fs::read_to_string(stage.folder.path().join("policy.yaml")).expect("the policy");
    fs::write(
        stage.folder.path().join("new.yaml"),
        policy.replace("== 'a'", "== 'b'"),
    )
    .expect("written");
    let (said, code) = explain("new.yaml", &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&format!(
            "{recorded}decision  deny, 403: condition-not-met:"
        )),
        "{said}"
    );
    let (said, _) = explain("new.yaml", &["--format", "json"]);
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (&told["recorded"], &told["decision"]["reason"]),
        (
            &json!({ "time": time, "decision": "allow", "reason": "rule", "route": "asked", "rule": "allow[0]", "tokenLookedAt": true }),
            &json!("condition-not-met")
        )
    );
    // What the record says cannot be said otherwise.
    for option in [
        "--at=2027-01-15T12:00:00Z",
        "--client=127.0.0.1",
        "--host=x",
        "--header=a: b",
    ] {
        assert_eq!(
            explain("policy.yaml", &[option]),
            (String::new(), Some(2)),
            "{option}"
        );
    }

    fs::rename(&path, stage.folder.path().join("decisions.1")).expect("moved");
    stage.until("a new file", |stage| {
        stage.call("GET", "/open").send();
        !lines(stage).is_empty()
    });
}

#[test]
fn a_decision_log_that_cannot_be_opened_ends_the_start() {
    let mut scene = Scene::new();
    scene.more += "telemetry: { decisionLog: { path: nowhere/decisions.jsonl } }\n";
    let folder = tempfile::tempdir().expect("a folder");
    let scene = scene
        .route(
            "open",
            "match: { methods: [GET], path: /open }, backend: b, public: true",
        )
        .backend("b", "http: 'http://127.0.0.1:9', credential: none");
    let config = scene.write(folder.path());
    let output = Command::new(PORTCULLIS)
        .args(["run", "--config"])
        .arg(config)
        .output()
        .expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("telemetry.decisionLog.path") && said.contains("nowhere"),
        "{said}"
    );
}

#[test]
fn what_was_not_recorded_leaves_a_request_open_whichever_rule_asks_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let write =
        |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    let record = json!({
        "v": 1, "time": "2027-01-15T12:00:00Z", "id": "1", "client": "127.0.0.1", "method": "GET",
        "host": "localhost", "path": "/read", "protocol": "HTTP/1.1", "decision": "allow", "reason": "rule",
        "route": "read", "policy": "x", "trust": "x",
        "token": {
            "tenant": "11111111-1111-1111-1111-111111111111", "version": "2.0",
            "app": "aaaaaaaa-0000-0000-0000-000000000001", "kind": "appOnly", "strength": "secret",
            "audience": "api://gateway", "roles": [], "scopes": [], "groupOverage": false,
        },
    });
    write("log.jsonl", &format!("{record}\n"));
    let asked = "when: \"request.headers['x-a'] == 'yes'\"";
    let usual = "tenants: [contoso], apps: [portal], tokenKinds: [appOnly]";
    for (rules, expected) in [
        (format!("allow: [{{ {usual} }}]"), "same"),
        (format!("allow: [{{ {usual}, {asked} }}]"), "cannotBeTold"),
        (
            format!("allow: [{{ {usual} }}], deny: [{{ {asked} }}]"),
            "cannotBeTold",
        ),
        (
            format!(
                "allow: [{{ {usual}, {asked} }}], deny: [{{ when: \"request.headers['x-b'] == 'yes'\" }}]"
            ),
            "cannotBeTold",
        ),
        (
            format!("allow: [{{ {usual}, {asked} }}], deny: [{{ tenants: [contoso] }}]"),
            "refused",
        ),
    ] {
        write(
            "policy.yaml",
            &format!(
                "tenants: {{ contoso: 11111111-1111-1111-1111-111111111111 }}\napps: {{ portal: aaaaaaaa-0000-0000-0000-000000000001 }}\naudiences: [api://gateway]\nbackends: {{ b: {{ http: 'http://127.0.0.1:9', credential: none }} }}\nroutes: {{ read: {{ match: {{ methods: [GET], path: /read }}, backend: b, {rules} }} }}\n"
            ),
        );
        let (told, _) = replay(folder.path(), &["--policies", "policy.yaml", "log.jsonl"]);
        assert_eq!(told[expected], json!(1), "{rules}\n{told}");
    }
}

#[test]
fn a_value_that_is_too_long_for_the_log_is_left_out_and_a_long_path_is_kept() {
    let scene = Scene::new();
    let (raw, linked) = (
        RawBackend::ok(&scene, "fine"),
        RawBackend::with_links(&scene),
    );
    let stage = stage(&raw, &linked, scene);
    let long = "a".repeat(1025);
    for value in ["a", &long] {
        let call = stage.call("GET", "/asked").header("x-case", value);
        call.portal().send();
    }
    let path = format!("/read/{}", "b".repeat(4000));
    assert_eq!(stage.call("GET", &path).portal().send().verdict(), "200");
    stage.until("all decisions", |stage| lines(stage).len() == 3);
    let lines = lines(&stage);
    let kept: Vec<&Value> = lines.iter().map(|line| &line["fields"]["x-case"]).collect();
    assert_eq!(kept, [&json!(["a"]), &Value::Null, &json!([])]);
    assert_eq!(lines[2]["path"], json!(path));
    let folder = stage.folder.path();
    let (told, _) = replay(folder, &["--policies", "policy.yaml", "decisions.jsonl"]);
    assert_eq!(
        (&told["same"], &told["cannotBeTold"]),
        (&json!(2), &json!(1)),
        "{told}"
    );
}

#[test]
fn what_nobody_may_call_any_more_would_be_refused_whoever_called() {
    let folder = tempfile::tempdir().expect("a folder");
    let write =
        |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    let record = |decision: &str, reason: &str, authentication: Option<&str>| {
        json!({
            "v": 1, "time": "2027-01-15T12:00:00Z", "id": "1", "client": "127.0.0.1", "method": "GET",
            "host": "localhost", "path": "/open", "protocol": "HTTP/1.1", "decision": decision,
            "reason": reason, "route": "open\nforged", "policy": "x", "trust": "x",
            "authentication": authentication,
        })
    };
    let usual = "tenants: { contoso: 11111111-1111-1111-1111-111111111111 }\naudiences: [api://gateway]\nbackends: { b: { http: 'http://127.0.0.1:9', credential: none } }\n";
    let allow = "allow: [{ tenants: [contoso] }]";
    for (routes, expected) in [
        ("{}".to_owned(), "refused"),
        (
            "{ open: { match: { methods: [POST], path: /open }, backend: b, public: true } }"
                .to_owned(),
            "refused",
        ),
        (
            "{ open: { match: { methods: [GET], path: /open }, backend: b } }".to_owned(),
            "refused",
        ),
        (
            format!(
                "{{ open: {{ match: {{ methods: [GET], path: /open }}, backend: b, {allow}, deny: [{{ tenants: [contoso] }}] }} }}"
            ),
            "refused",
        ),
        (
            format!(
                "{{ open: {{ match: {{ methods: [GET], path: /open }}, backend: b, {allow} }} }}"
            ),
            "cannotBeTold",
        ),
    ] {
        write("policy.yaml", &format!("{usual}routes: {routes}\n"));
        write(
            "log.jsonl",
            &format!("{}\n", record("allow", "public", None)),
        );
        let (told, _) = replay(folder.path(), &["--policies", "policy.yaml", "log.jsonl"]);
        assert_eq!(told[expected], json!(1), "{routes}\n{told}");
    }
    // What settings refused may be let in by others.
    let refused = record(
        "deny",
        "token-version-not-accepted",
        Some("token-version-not-accepted"),
    );
    write("log.jsonl", &format!("{refused}\n"));
    write(
        "gateway.yaml",
        "listen: { address: 127.0.0.1:8080, tls: platform }\npolicies: policy.yaml\n",
    );
    for (policies, expected) in [("policy.yaml", "same"), ("gateway.yaml", "cannotBeTold")] {
        let (told, _) = replay(folder.path(), &["--policies", policies, "log.jsonl"]);
        assert_eq!(told[expected], json!(1), "{policies}\n{told}");
    }
    // A record forges no line.
    let output = Command::new(PORTCULLIS)
        .current_dir(folder.path())
        .args(["replay", "--policies", "gateway.yaml", "log.jsonl"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("open forged"), "{said}");
}

/// Keys in URLs, and links that nobody can open, are told as the gateway told them.
#[test]
fn what_the_gateway_refuses_for_a_key_in_the_url_every_command_refuses() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let mut scene = scene
        .raw("raw", &raw)
        .route("closed", "match: { methods: [GET], path: '/closed/{*rest}' }, backend: raw, public: true, sas: reject")
        .route("open", "match: { methods: [GET], path: '/{*rest}' }, backend: raw, public: true");
    scene.more += "telemetry: { decisionLog: { path: decisions.jsonl } }\n";
    let stage = scene.start();
    for (target, verdict) in [
        ("/closed/x?sig=planted-sig&a=1", "400 key-in-url"),
        ("/closed/x?a=1", "200"),
        ("/open?sig=planted-sig", "200"),
        ("/.sealed/nonsense", "404 sealed-url-invalid"),
    ] {
        let answer = stage.call("GET", target).portal().send();
        assert_eq!(answer.verdict(), verdict);
    }
    stage.until("the decisions", |stage| lines(stage).len() == 4);
    let folder = stage.folder.path();
    let first = lines(&stage).remove(0);
    assert_eq!(
        (
            &first["decision"],
            &first["reason"],
            &first["sas"]["refused"]
        ),
        (&json!("deny"), &json!("key-in-url"), &json!(true))
    );
    let policies = ["--policies", "policy.yaml"];
    let (told, code) = replay(
        folder,
        &[policies.as_slice(), &["decisions.jsonl"]].concat(),
    );
    assert_eq!((&told["same"], code), (&json!(4), Some(0)), "{told}");

    let explain = |target: &str| {
        let output = Command::new(PORTCULLIS)
            .current_dir(folder)
            .args(["explain", "GET", target])
            .args(policies)
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!told.contains("planted"), "{told}");
        (told, output.status.code())
    };
    for (target, reason) in [
        (
            "/closed/x?sig=planted-sig",
            "decision  deny, 400: key-in-url",
        ),
        (
            "/.sealed/nonsense",
            // As to any stranger.
            "decision  deny, 401: token-missing",
        ),
    ] {
        let (told, code) = explain(target);
        assert!(told.contains(reason), "{told}");
        assert_eq!(code, Some(1), "{told}");
    }

    // A policy under which the key would have been stripped lets the request in, and says so.
    let policy = fs::read_to_string(folder.join("policy.yaml")).expect("a policy");
    fs::write(
        folder.join("other.yaml"),
        policy.replace(", sas: reject", ""),
    )
    .expect("written");
    let (told, code) = replay(folder, &["--policies", "other.yaml", "decisions.jsonl"]);
    assert_eq!(
        (&told["same"], &told["letIn"], code),
        (&json!(3), &json!(1), Some(1)),
        "{told}"
    );

    let tests = "- name: a key is refused\n  request: { method: GET, path: '/closed/x?sig=planted-sig' }\n  expect: { deny: key-in-url }\n- name: none is fine\n  request: { method: GET, path: /closed/x }\n  expect: allow\n- name: elsewhere, too\n  request: { method: GET, path: /open }\n  expect: allow\n";
    passes(folder, &policy, tests);
}

/// Has `portcullis test` run these tests of a policy, which all pass.
fn passes(folder: &Path, policy: &str, tests: &str) {
    let tested = folder.join("tested");
    fs::create_dir(&tested).expect("a folder");
    fs::write(tested.join("policy.yaml"), policy).expect("written");
    fs::write(tested.join("policy.test.yaml"), tests).expect("written");
    let output = Command::new(PORTCULLIS)
        .current_dir(folder)
        .args(["test", "tested"])
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Whether a route hands connections over is part of the decision, for every command.
#[test]
fn what_the_gateway_does_not_hand_over_every_command_refuses() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let mut scene = scene
        .raw("raw", &raw)
        .route("open", "match: { methods: [GET], path: /open }, backend: raw, public: true, upgrades: [websocket]")
        .route("closed", "match: { methods: [GET], path: /closed }, backend: raw, public: true");
    scene.more += "telemetry: { decisionLog: { path: decisions.jsonl } }\n";
    let stage = scene.start();
    for (target, verdict) in [
        ("/closed", "400 upgrade-not-supported"),
        // The backend does not want to, which is its own affair.
        ("/open", "200"),
    ] {
        let answer = upgrading(stage.call("GET", target)).send();
        assert_eq!(answer.verdict(), verdict);
    }
    assert!(raw.only().contains("\r\nupgrade: websocket\r\n"));
    stage.until("the decisions", |stage| lines(stage).len() == 2);
    let folder = stage.folder.path();
    let first = lines(&stage).remove(0);
    assert_eq!(
        (&first["decision"], &first["reason"], &first["upgrade"]),
        (
            &json!("deny"),
            &json!("upgrade-not-supported"),
            &json!("websocket")
        )
    );
    let policy = fs::read_to_string(folder.join("policy.yaml")).expect("a policy");
    let shut = policy.replace(", upgrades: [websocket]", "");
    fs::write(folder.join("shut.yaml"), &shut).expect("written");
    for (policies, same, code) in [("policy.yaml", 2, 0), ("shut.yaml", 1, 1)] {
        let (told, exit) = replay(folder, &["--policies", policies, "decisions.jsonl"]);
        assert_eq!((&told["same"], exit), (&json!(same), Some(code)), "{told}");
    }

    let headers = HANDSHAKE.map(|(name, value)| format!("{name}: {value}"));
    let headers = headers.iter().flat_map(|field| ["--header", field]);
    for (policies, decision, code) in [
        ("policy.yaml", "decision  allow", 0),
        ("shut.yaml", "decision  deny, 400: upgrade-not-supported", 1),
    ] {
        let output = Command::new(PORTCULLIS)
            .current_dir(folder)
            .args(["explain", "GET", "/open", "--policies", policies])
            .args(headers.clone())
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.contains(decision), "{told}");
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert_eq!(told.contains("connection, upgrade"), code == 0, "{told}");
    }

    let fields: String = HANDSHAKE
        .map(|(name, value)| format!("{name}: '{value}', "))
        .concat();
    let tests = format!(
        "- name: nothing is handed over\n  request: {{ method: GET, path: /closed, headers: {{ {fields} }} }}\n  expect: {{ deny: upgrade-not-supported }}\n- name: here it is\n  request: {{ method: GET, path: /open, headers: {{ {fields} }} }}\n  expect: allow\n"
    );
    passes(folder, &policy, &tests);
}
