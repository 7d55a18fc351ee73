//! What the gateway presents to backends: its own, ahead of need, and to nobody else.

use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, Request};
use portcullis::demo;
use portcullis::demo::gateway::GatewayProcess;
use portcullis::demo::identity::Asked;
use portcullis::demo::mint::Token;
use portcullis::demo::names::{AUDIENCE, CONTOSO, FUNCTION_RESOURCE, NIGHTLY_BATCH};
use portcullis::entra::Version;
use portcullis::net::client::Bounds;

use crate::support::{Piped, RawBackend, Scene, Stage, Step, patiently};

const RESOURCE: &str = "api://guests";
const CLIENT_ID: &str = "cccccccc-0000-0000-0000-000000000001";
const OBJECT_ID: &str = "0b1ec700-0000-0000-0000-000000000001";
const HOUR: Duration = Duration::from_hours(1);

impl Scene {
    /// Lets the portal call a raw backend, which is presented a managed identity's token.
    fn identified(self, name: &str, raw: &RawBackend, identity: &str) -> Self {
        let url = raw.url();
        let path = format!("/{name}/{{*rest}}");
        self.backend(
            name,
            &format!(
                "http: '{url}', credential: {{ managedIdentity: {{ resource: '{RESOURCE}'{identity} }} }}"
            ),
        )
        .portal_route(name, "GET, POST", &path, name)
    }
}

/// One backend that is called with the system's identity.
fn identified(answer: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static) -> (Scene, RawBackend) {
    let scene = Scene::new();
    let raw = RawBackend::answering(&scene, answer);
    (scene.identified("own", &raw, ""), raw)
}

fn fine() -> Vec<Step> {
    vec![Step::text(
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine",
    )]
}

/// The only bearer token of a request.
fn bearer(request: &str) -> String {
    let (head, _) = request.split_once("\r\n\r\n").expect("a head");
    let lines: Vec<&str> = head
        .lines()
        .filter(|line| line.to_lowercase().starts_with("authorization:"))
        .collect();
    assert_eq!(lines.len(), 1, "{request}");
    let token = lines[0].split_once(": Bearer ").expect("a bearer token").1;
    token.to_owned()
}

fn asked(stage: &Stage) -> usize {
    stage.world.identity.asked().borrow().len()
}

fn get(stage: &Stage, target: &str) -> String {
    stage.call("GET", target).portal().send().verdict()
}

/// The token that the backend saw last, after one more call.
fn presented(stage: &Stage, raw: &RawBackend) -> String {
    assert_eq!(get(stage, "/own/a"), "200");
    bearer(raw.seen().requests.last().expect("a request"))
}

#[test]
fn each_identity_is_fetched_at_start_by_its_selector_and_the_backend_sees_its_token_alone() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let client = format!(", clientId: {CLIENT_ID}");
    let object = format!(", objectId: {OBJECT_ID}");
    let stage = scene
        .identified("own", &raw, "")
        .identified("client", &raw, &client)
        .identified("object", &raw, &object)
        .start();
    let wanted = |identity: Option<(&str, &str)>| Asked {
        resource: RESOURCE.to_owned(),
        identity: identity.map(|(name, value)| (name.to_owned(), value.to_owned())),
        imds: true,
    };
    // Before any request came.
    let mut before = stage.world.identity.asked().borrow().clone();
    before.sort_by_key(|asked| asked.identity.clone());
    assert_eq!(
        before,
        [
            wanted(None),
            wanted(Some(("client_id", CLIENT_ID))),
            wanted(Some(("object_id", OBJECT_ID))),
        ]
    );
    let callers = stage.portal_token();
    let issued = stage.world.identity.issued();
    let mut tokens = Vec::new();
    for target in ["/own/a", "/client/a", "/object/a", "/own/a"] {
        let answer = stage.call("POST", target).bearer(&callers).body("x").send();
        assert_eq!(answer.verdict(), "200");
        let request = raw.seen().requests.last().expect("a request").clone();
        assert!(!request.contains(&callers), "{request}");
        let token = bearer(&request);
        assert_eq!(issued.resource(&token).as_deref(), Some(RESOURCE));
        tokens.push(token);
    }
    assert_eq!(tokens[0], tokens[3]);
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 3);
    assert_eq!(asked(&stage), 3, "no request fetches a token");
}

#[test]
fn a_token_is_refreshed_ahead_of_its_end_while_requests_go_on() {
    let (scene, raw) = identified(|_| fine());
    let stage = scene.start();
    let first = presented(&stage, &raw);
    assert_eq!(presented(&stage, &raw), first);
    // Tokens live for a day.
    stage.clock.advance(10 * HOUR);
    assert_eq!(presented(&stage, &raw), first);
    assert_eq!(asked(&stage), 1);
    stage.clock.advance(2 * HOUR);
    stage.until("a refresh", |stage| asked(stage) == 2);
    stage.until("the new token", |stage| presented(stage, &raw) != first);
}

#[test]
fn the_old_token_serves_while_refresh_fails_and_an_expired_one_never_does() {
    let (scene, raw) = identified(|_| fine());
    let stage = scene.start();
    let first = presented(&stage, &raw);
    stage.world.identity.set_fault(Some(500));
    stage.clock.advance(12 * HOUR);
    stage.until("a failure", |stage| asked(stage) > 1);
    assert_eq!(presented(&stage, &raw), first);
    stage.clock.advance(11 * HOUR);
    assert_eq!(presented(&stage, &raw), first);
    let seen = raw.seen().requests.len();

    stage.clock.advance(HOUR);
    for http2 in [false, true] {
        let call = stage.call("GET", "/own/a").portal();
        let answer = if http2 { call.http2() } else { call }.send();
        assert_eq!(answer.verdict(), "503 credential-unavailable");
        assert_eq!(answer.header("retry-after"), Some("5"));
        assert_eq!(answer.header("www-authenticate"), None);
        let status = "portcullis; error=proxy_internal_error";
        assert_eq!(answer.header("proxy-status"), Some(status));
    }
    assert_eq!(raw.seen().requests.len(), seen, "the backend saw nothing");

    stage.world.identity.set_fault(None);
    stage.until("recovery", |stage| {
        stage.clock.advance(Duration::from_secs(5));
        get(stage, "/own/a") == "200"
    });
    let second = bearer(raw.seen().requests.last().expect("a request"));
    assert_ne!(second, first);
}

#[test]
fn a_token_that_is_about_to_expire_is_not_sent_any_more() {
    let (scene, raw) = identified(|_| fine());
    let stage = scene.start();
    let first = presented(&stage, &raw);
    stage.world.identity.set_fault(Some(500));
    let day = 24 * HOUR;
    stage.clock.advance(day - Duration::from_secs(12));
    assert_eq!(presented(&stage, &raw), first);
    stage.clock.advance(Duration::from_secs(2));
    assert_eq!(get(&stage, "/own/a"), "503 credential-unavailable");
}

#[test]
fn without_a_token_from_the_start_nothing_is_forwarded_and_other_backends_are_served() {
    let (scene, raw) = identified(|_| fine());
    let bare = RawBackend::ok(&scene, "bare");
    scene.world.identity.set_fault(Some(500));
    let stage = scene
        .raw("bare", &bare)
        .portal_route("bare", "GET", "/bare", "bare")
        .start_unready();
    let answer = stage.call("GET", "/own/a").portal().send();
    assert_eq!(answer.verdict(), "503 credential-unavailable");
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_eq!(raw.seen().connections, 0);
    let record = stage.record("the record", |record| record["path"] == "/own/a");
    assert_eq!(record["reason"], "credential-unavailable");
    let expected = record["expected"].as_str().expect("a note");
    assert!(expected.contains(RESOURCE), "{record}");
    assert_eq!(get(&stage, "/bare"), "200");
    // Who may not call learns nothing of the trouble.
    let answer = stage.call("GET", "/own/a").send();
    assert_eq!(answer.verdict(), "401 token-missing");

    stage.world.identity.set_fault(None);
    stage.until("recovery", |stage| {
        stage.clock.advance(Duration::from_secs(5));
        get(stage, "/own/a") == "200"
    });
}

#[test]
fn a_token_that_the_backend_refuses_is_replaced_and_not_asked_for_too_often() {
    let refusing = Arc::new(AtomicBool::new(true));
    let refuses = Arc::clone(&refusing);
    let (scene, raw) = identified(move |_| {
        if refuses.load(Ordering::Relaxed) {
            let text = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n";
            vec![Step::text(text)]
        } else {
            fine()
        }
    });
    let stage = scene.start();
    let refused = "502 backend-refused-credential";
    for _ in 0..5 {
        assert_eq!(get(&stage, "/own/a"), refused);
    }
    assert_eq!(asked(&stage), 1, "the last fetch was just now");
    let first = bearer(&raw.seen().requests[0]);
    stage.clock.advance(Duration::from_secs(31));
    assert_eq!(get(&stage, "/own/a"), refused);
    stage.until("a new token", |stage| asked(stage) == 2);
    refusing.store(false, Ordering::Relaxed);
    stage.until("the new token", |stage| presented(stage, &raw) != first);
    assert_eq!(asked(&stage), 2);
}

#[test]
fn keys_from_files_go_to_their_backend_and_callers_cannot_send_their_own_beside_them() {
    let scene = Scene::new();
    let keys = tempfile::tempdir().expect("a folder");
    let path = keys.path().join("key");
    fs::write(&path, "planted-key\n").expect("written");
    let path = path.display();
    let raw = RawBackend::ok(&scene, "fine");
    let url = raw.url();
    let stage = scene
        .backend(
            "function",
            &format!("function: '{url}', credential: {{ functionKey: {{ file: '{path}' }} }}"),
        )
        .backend(
            "legacy",
            &format!(
                "http: '{url}', credential: {{ header: {{ name: X-Api-Key, value: {{ file: '{path}' }} }} }}"
            ),
        )
        .portal_route("function", "POST", "/function", "function")
        .portal_route("legacy", "POST", "/legacy", "legacy")
        .start();
    for (path, field) in [("/function", "x-functions-key"), ("/legacy", "x-api-key")] {
        let spellings = [
            field.to_owned(),
            field.replace('-', "_"),
            field.replace('-', "."),
        ];
        let mut call = stage.call("POST", path).portal();
        let mut trailers = HeaderMap::new();
        for name in &spellings {
            call = call.header(name, "forged");
            let name: HeaderName = name.parse().expect("a name");
            trailers.insert(name, "forged".parse().expect("a value"));
        }
        assert_eq!(call.send().verdict(), "200");
        stage.runtime.block_on(async {
            let mut sender = stage.http2().await;
            let request = Request::post(format!("https://localhost{path}"))
                .header("authorization", format!("Bearer {}", stage.portal_token()))
                .header("trailer", spellings.join(", "))
                .body(Piped::of("hello", trailers))
                .expect("a request");
            let answer = patiently(sender.send_request(request)).await;
            assert_eq!(answer.expect("an answer").status(), 200);
        });
        for request in raw.seen().requests.iter().rev().take(2) {
            assert!(request.starts_with(&format!("POST {path} ")), "{request}");
            let ours = format!("\r\n{field}: planted-key\r\n");
            assert!(request.contains(&ours), "{request}");
            assert_eq!(request.matches("planted-key").count(), 1, "{request}");
            assert!(!request.contains("forged"), "{request}");
            assert!(!request.contains("authorization"), "{request}");
        }
    }
    assert_eq!(raw.seen().requests.len(), 4);
}

#[test]
fn no_host_target_or_redirect_sends_a_credential_elsewhere() {
    let scene = Scene::new();
    let thief = RawBackend::ok(&scene, "stolen");
    let elsewhere = thief.url();
    let redirect = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {elsewhere}/x\r\nContent-Length: 0\r\n\r\n"
    );
    let raw = RawBackend::start(&scene, vec![Step::text(&redirect)]);
    let own = raw.url();
    let own = own.strip_prefix("http://").expect("plain").to_owned();
    let stage = scene.identified("own", &raw, "").start();
    let host = elsewhere.strip_prefix("http://").expect("plain");
    let token = stage.portal_token();
    let ask = |line: &str, host: &str, fields: &str| {
        let request = format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{fields}Connection: close\r\n\r\n"
        );
        let answer = stage.raw(request.as_bytes());
        answer.split(' ').nth(1).expect("a status").to_owned()
    };
    let absolute = format!("GET {elsewhere}/own/a");
    let at = format!("GET /own/@{host}/a");
    let query = format!("GET /own/a?url={elsewhere}");
    let fields = format!(
        "X-Forwarded-Host: {host}\r\nX-Original-URL: {elsewhere}\r\nForwarded: host={host}\r\nDisguised-Host: {host}\r\n"
    );
    for (line, named, more) in [
        ("GET /own/a", host, ""),
        (absolute.as_str(), host, ""),
        (at.as_str(), "localhost", ""),
        (query.as_str(), "localhost", ""),
        ("GET /own/a", "localhost", fields.as_str()),
    ] {
        assert_eq!(ask(line, named, more), "307", "{line} {named} {more}");
    }
    // Two hosts at once are refused; so is a path that climbs to another route.
    assert_eq!(ask(&absolute, "localhost", ""), "400");
    assert_eq!(ask("GET /own/../../x", "localhost", ""), "400");
    let seen = raw.seen();
    assert_eq!(seen.requests.len(), 5);
    for request in &seen.requests {
        let line = format!("\r\nhost: {own}\r\n");
        assert!(request.contains(&line), "{request}");
        bearer(request);
    }
    assert_eq!(thief.seen().connections, 0);
}

/// A gateway in a process of its own, whose environment names an identity endpoint.
fn spawn(scene: &Scene, policy: impl Fn(String) -> String) -> std::io::Result<GatewayProcess> {
    let folder = tempfile::tempdir().expect("a folder");
    let config = scene.world.write_files(folder.path(), 0).expect("written");
    let path = folder.path().join("policies/contoso.yaml");
    let text = fs::read_to_string(&path).expect("written above");
    fs::write(&path, policy(text)).expect("written");
    let program = env!("CARGO_BIN_EXE_portcullis");
    let identity = &scene.world.identity;
    GatewayProcess::start(program.as_ref(), &config, identity, Stdio::null())
}

#[test]
fn the_platforms_identity_endpoint_is_asked_where_the_environment_names_one() {
    let scene = Scene::new();
    let gateway = spawn(&scene, |policy| policy).expect("started");
    let now = scene.world.entra.now();
    let token = Token::app(Version::V1, CONTOSO, NIGHTLY_BATCH, AUDIENCE, now);
    let token = token.roles(&["Guests.Read.All"]);
    let token = scene.world.entra.sign(&token).expect("signed");
    let client = demo::client(&scene.world).expect("a client");
    let port = gateway.address.port();
    let request = Request::get(format!("https://localhost:{port}/guests/42"))
        .header("authorization", format!("Bearer {token}"))
        .body(Bytes::new())
        .expect("a request");
    let bounds = Bounds {
        timeout: Duration::from_secs(20),
        max_body: 64 * 1024,
    };
    let answer = scene.runtime.block_on(client.send(request, bounds));
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), 200, "{answer:?}");
    let seen = scene.world.function.seen();
    let issued = scene.world.identity.issued();
    let shown = seen[0].bearer().expect("a token");
    assert_ne!(shown, token);
    assert_eq!(issued.resource(shown).as_deref(), Some(FUNCTION_RESOURCE));
    let asked = scene.world.identity.asked();
    let asked = asked.borrow();
    assert!(
        !asked.is_empty() && asked.iter().all(|asked| !asked.imds),
        "{asked:?}"
    );
}

#[test]
fn the_identity_endpoint_itself_is_refused_as_a_backend_by_whatever_name() {
    let scene = Scene::new();
    let port = scene.world.identity.imds().port();
    for host in ["127.0.0.1", "localhost", "127.0.0.2", "[::1]", "LOCALHOST"] {
        let thief = format!(
            "backends:\n  thief: {{ http: 'http://{host}:{port}/msi', credential: none }}\n"
        );
        let Err(error) = spawn(&scene, |policy| policy.replace("backends:\n", &thief)) else {
            panic!("{host} was taken");
        };
        let error = error.to_string();
        assert!(error.contains("hands out this machine's tokens"), "{error}");
    }
}
