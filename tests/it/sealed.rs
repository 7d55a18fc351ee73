//! Keys in answers: sealed on their way out, opened on their way back, for the caller they were given to.

use std::process::Command;
use std::time::Duration;

use portcullis::demo::backend::{ASYNC_TRIGGER, SYSTEM_KEY};
use portcullis::demo::mint::Token;
use portcullis::demo::names::{
    AUDIENCE, CONTOSO, FABRIKAM, LOGIC_APP_RESOURCE, MARKETING_PORTAL, NIGHTLY_BATCH,
};
use portcullis::entra::Version;
use serde_json::Value;

use crate::support::{Answer, RawBackend, Scene, Stage, Step};

/// A Functions app `f`, which is called with the gateway's identity.
fn called_with_identity(scene: Scene, raw: &RawBackend) -> Scene {
    let url = raw.url();
    scene.backend(
        "f",
        &format!("function: '{url}', credential: {{ managedIdentity: {{ resource: 'api://f' }} }}"),
    )
}

/// What a request says in a field.
fn field<'r>(request: &'r str, name: &str) -> &'r str {
    let value = request.split(&format!("\r\n{name}: ")).nth(1);
    value
        .and_then(|value| value.split("\r\n").next())
        .unwrap_or_default()
}

const DAY: Duration = Duration::from_hours(24);
const KEY_ONE: &str = "planted-seal-key-one-0123456789abcdef";
const KEY_TWO: &str = "planted-seal-key-two-0123456789abcdef";

/// A workflow that answers 202 and is polled, behind `POST /orders/{id}`.
fn workflow() -> Scene {
    let scene = Scene::new();
    let url = format!("{}{ASYNC_TRIGGER}", scene.world.logic_app.url());
    scene
        .backend(
            "flow",
            &format!("logicApp: '{url}', credential: {{ managedIdentity: {{ resource: '{LOGIC_APP_RESOURCE}' }} }}, ca: ca.crt"),
        )
        .portal_route("order", "POST", "/orders/{id}", "flow")
}

/// Path and query of a sealed URL on the host that was asked for.
fn target(url: &str) -> String {
    let target = url.strip_prefix("https://localhost").expect(url);
    assert!(target.starts_with("/.sealed/"), "{url}");
    target.to_owned()
}

fn location(answer: &Answer) -> String {
    target(answer.header("location").expect("a Location"))
}

fn begun(stage: &Stage) -> String {
    let answer = stage.call("POST", "/orders/7").portal().body("{}").send();
    assert_eq!(answer.status, 202, "{answer:?}");
    location(&answer)
}

fn follow(stage: &Stage, target: &str) -> Answer {
    stage.call("GET", target).portal().send()
}

/// A token of another app of the tenant, or of another tenant, that the route lets in too.
fn another(stage: &Stage, tenant: &str, app: &str) -> String {
    let token = Token::app(Version::V2, tenant, app, AUDIENCE, stage.world.entra.now());
    stage.world.entra.sign(&token).expect("signed")
}

#[test]
fn a_workflows_run_is_polled_to_its_end_and_no_signature_leaves() {
    let stage = workflow().start();
    stage.world.logic_app.set_polls(2);
    let answer = stage.call("POST", "/orders/7").portal().body("{}").send();
    assert_eq!(answer.header("retry-after"), Some("1"));
    // One in the field, two in the body, which no route has to ask for.
    let record = stage.record_of(&answer);
    assert_eq!(record["sealed"], 3, "{record}");
    assert!(!answer.text().contains("sig="), "{}", answer.text());
    for signature in stage.world.logic_app.signatures() {
        assert!(!answer.text().contains(&signature), "{}", answer.text());
    }
    let mut next = location(&answer);
    for _ in 0..2 {
        let answer = follow(&stage, &next);
        assert_eq!(answer.status, 202, "{answer:?}");
        let record = stage.record_of(&answer);
        assert_eq!(record["path"], "/.sealed");
        assert_eq!(record["followed"], "/orders/7");
        assert_eq!(record["route"], "order");
        next = location(&answer);
    }
    assert_eq!(follow(&stage, &next).status, 200);
    let seen = stage.world.logic_app.seen();
    assert_eq!(seen.len(), 4);
    assert!(seen[0].bearer().is_some() && !seen[0].target.contains("sig="));
    for poll in &seen[1..] {
        assert!(poll.target.contains("sig="), "{}", poll.target);
        assert_eq!(poll.headers.get("authorization"), None);
        assert!(poll.headers.contains_key("x-ms-client-principal"));
    }
}

/// The client is curl, told to go where `Location` says.
#[test]
fn curl_follows_location_to_the_end_of_a_run() {
    let stage = workflow().start();
    stage.world.logic_app.set_polls(1);
    let ca = stage.folder.path().join("ca.crt");
    let headers = stage.folder.path().join("headers");
    let curl = |method: &str, url: &str| {
        let output = Command::new("curl")
            .args(["-sS", "--cacert"])
            .arg(&ca)
            .args([
                "-H",
                &format!("Authorization: Bearer {}", stage.portal_token()),
            ])
            .args(["-X", method, "-o", "/dev/null", "-D"])
            .arg(&headers)
            .args(["-w", "%{http_code}", url])
            .output()
            .expect("curl runs");
        assert!(output.status.success(), "{output:?}");
        let text = std::fs::read_to_string(&headers).expect("headers");
        let line = text.lines().find_map(|line| {
            line.to_lowercase()
                .starts_with("location: ")
                .then(|| line[10..].to_owned())
        });
        (String::from_utf8_lossy(&output.stdout).into_owned(), line)
    };
    let (status, next) = curl(
        "POST",
        &format!("https://localhost:{}/orders/7", stage.address.port()),
    );
    assert_eq!(status, "202");
    let (status, next) = curl("GET", &next.expect("a Location"));
    assert_eq!(status, "202");
    let (status, next) = curl("GET", &next.expect("a Location"));
    assert_eq!((status.as_str(), next), ("200", None));
}

#[test]
fn a_sealed_url_is_for_its_caller_until_its_end_as_it_was_given() {
    let mut scene = workflow();
    let url = format!("{}{ASYNC_TRIGGER}", scene.world.logic_app.url());
    scene = scene
        .backend("other", &format!("logicApp: '{url}', credential: {{ managedIdentity: {{ resource: '{LOGIC_APP_RESOURCE}' }} }}, ca: ca.crt"))
        .route("wide", "match: { methods: [POST], path: /wide }, backend: other, allow: [{ tenants: [contoso, fabrikam] }]")
        .route("watched", "match: { methods: [POST], path: /watched }, backend: other, mode: reportOnly, allow: [{ tenants: [contoso] }]");
    let stage = scene.start();
    for path in ["/wide", "/watched"] {
        let answer = stage.call("POST", path).portal().body("{}").send();
        let sealed = location(&answer);
        let blob = sealed.strip_prefix("/.sealed/").expect("a blob");
        let middle = blob.len() / 2;
        let letter = if &blob[middle..=middle] == "A" {
            "B"
        } else {
            "A"
        };
        let flipped = format!(
            "/.sealed/{}{letter}{}",
            &blob[..middle],
            &blob[middle + 1..]
        );
        let portal = stage.portal_token();
        let (other_app, other_tenant) = (
            another(&stage, CONTOSO, NIGHTLY_BATCH),
            another(&stage, FABRIKAM, MARKETING_PORTAL),
        );
        for (method, target, token, expected) in [
            ("GET", sealed.as_str(), None, "401 token-missing"),
            ("GET", flipped.as_str(), None, "401 token-missing"),
            (
                "GET",
                sealed.as_str(),
                Some(&other_app),
                "403 sealed-url-not-yours",
            ),
            (
                "GET",
                sealed.as_str(),
                Some(&other_tenant),
                "403 sealed-url-not-yours",
            ),
            (
                "GET",
                flipped.as_str(),
                Some(&portal),
                "404 sealed-url-invalid",
            ),
            (
                "GET",
                "/.sealed/AAAA",
                Some(&portal),
                "404 sealed-url-invalid",
            ),
            (
                "GET",
                &format!("{sealed}?x=1"),
                Some(&portal),
                "404 sealed-url-invalid",
            ),
            (
                "POST",
                sealed.as_str(),
                Some(&portal),
                "405 method-not-allowed",
            ),
            (
                "DELETE",
                sealed.as_str(),
                Some(&portal),
                "405 method-not-allowed",
            ),
            ("GET", sealed.as_str(), Some(&portal), "202"),
        ] {
            let seen = stage.world.logic_app.seen().len();
            let mut call = stage.call(method, target);
            if let Some(token) = token {
                call = call.bearer(token);
            }
            let answer = call.send();
            assert_eq!(answer.verdict(), expected, "{path} {method} {target:.30}");
            let went = stage.world.logic_app.seen().len() > seen;
            assert_eq!(went, expected == "202", "{path} {method} {target:.30}");
            if expected.starts_with("405") {
                assert_eq!(answer.header("allow"), Some("GET, HEAD"));
            }
        }
        stage.clock.advance(DAY - Duration::from_secs(2));
        assert_eq!(follow(&stage, &sealed).status, 200, "its last moment");
        stage.clock.advance(Duration::from_secs(2));
        assert_eq!(follow(&stage, &sealed).verdict(), "410 sealed-url-expired");
    }
}

#[test]
fn who_follows_is_authorised_as_the_first_request_would_be_now() {
    let scene = workflow().route(
        "asked",
        "match: { methods: [POST], path: '/asked/{id}' }, backend: flow, allow: [{ tenants: [contoso], when: \"request.path == '/asked/7' && request.method == 'POST' && request.parameters.id == '7'\" }], rateLimit: { requests: 2, per: 1h, by: [app] }",
    );
    let stage = scene.start();
    stage.world.logic_app.set_polls(9);
    let answer = stage.call("POST", "/asked/7").portal().body("{}").send();
    let sealed = location(&answer);
    assert_eq!(
        follow(&stage, &sealed).status,
        202,
        "the condition holds of the first request"
    );
    assert_eq!(follow(&stage, &sealed).verdict(), "429 rate-limited");

    let sealed = begun(&stage);
    assert_eq!(follow(&stage, &sealed).status, 202);
    stage.change_policy(|policy| policy.replace("order: { match: { methods: [POST], path: '/orders/{id}' }, backend: flow, allow: [{ tenants: [contoso], apps: [marketing-portal] }]", "order: { match: { methods: [POST], path: '/orders/{id}' }, backend: flow, allow: [{ tenants: [contoso], apps: [nightly-batch] }]"));
    assert_eq!(follow(&stage, &sealed).verdict(), "403 app-not-allowed");
    stage.change_policy(|policy| {
        policy
            .replace("  order: {", "  renamed: {")
            .replace("apps: [nightly-batch] }]", "apps: [marketing-portal] }]")
    });
    assert_eq!(follow(&stage, &sealed).verdict(), "404 sealed-url-invalid");
    stage.change_policy(|policy| policy.replace("'/orders/{id}'", "'/elsewhere/{id}'"));
    assert_eq!(follow(&stage, &sealed).verdict(), "404 route-not-found");
}

#[test]
fn replicas_with_one_key_open_each_others_urls_and_keys_rotate() {
    let mut scene = workflow();
    scene.more += "seal: { keys: [{ file: seal.keys }], lifetime: 2h }\n";
    let folder = tempfile::tempdir().expect("a folder");
    let keys = folder.path().join("seal.keys");
    let write = |text: &str| std::fs::write(&keys, text).expect("written");
    scene.more = scene
        .more
        .replace("seal.keys", keys.to_str().expect("text"));
    write(KEY_ONE);
    let mut stage = scene.start();
    stage.world.logic_app.set_polls(99);
    let old = begun(&stage);
    // What another process with the same key has sealed.
    stage.restart();
    assert_eq!(follow(&stage, &old).status, 202);

    let reload = |stage: &Stage, text: &str| {
        write(text);
        stage.reload();
    };
    reload(&stage, &format!("{KEY_TWO}\n{KEY_ONE}\n"));
    assert_eq!(follow(&stage, &old).status, 202);
    let new = begun(&stage);
    reload(&stage, KEY_TWO);
    assert_eq!(follow(&stage, &old).verdict(), "404 sealed-url-invalid");
    assert_eq!(follow(&stage, &new).status, 202);
    stage.clock.advance(Duration::from_hours(2));
    assert_eq!(follow(&stage, &new).verdict(), "410 sealed-url-expired");

    // A key that is none changes nothing.
    let refused = stage.gateway().reloads().borrow().refused;
    write("short");
    stage.gateway().reload();
    stage.until("the refusal", |stage| {
        stage.gateway().reloads().borrow().refused > refused
    });
    let fault = stage
        .gateway()
        .reloads()
        .borrow()
        .fault
        .clone()
        .expect("a fault");
    assert!(
        fault.contains("too short") && !fault.contains("\"short"),
        "{fault}"
    );
    let again = begun(&stage);
    assert_eq!(follow(&stage, &again).status, 202);
}

#[test]
fn without_configured_keys_a_sealed_url_ends_with_its_process() {
    let mut stage = workflow().start();
    let sealed = begun(&stage);
    stage.restart();
    assert_eq!(follow(&stage, &sealed).verdict(), "404 sealed-url-invalid");
}

#[test]
fn sealed_urls_are_built_on_the_public_url() {
    let mut scene = workflow();
    scene.more += "publicUrl: https://api.contoso.com/\n";
    let stage = scene.start();
    let answer = stage.call("POST", "/orders/7").portal().body("{}").send();
    let url = answer.header("location").expect("a Location");
    let target = url.strip_prefix("https://api.contoso.com").expect(url);
    assert_eq!(follow(&stage, target).status, 202);
}

/// Durable Functions behind `POST /orchestrations/{name}`.
fn durable() -> Scene {
    Scene::new().function("function").route(
        "orchestrate",
        "match: { methods: [POST], path: '/orchestrations/{name}' }, backend: function, rewrite: '/api/orchestrators/{name}', sealBody: true, allow: [{ tenants: [contoso], apps: [marketing-portal] }]",
    )
}

#[test]
fn durable_functions_are_managed_by_sealed_urls_alone() {
    let stage = durable().start();
    stage.world.function.set_polls(1);
    let answer = stage
        .call("POST", "/orchestrations/Hello")
        .header("accept-encoding", "gzip")
        .portal()
        .body("{}")
        .send();
    assert_eq!(answer.status, 202);
    assert!(!answer.text().contains("code="), "{}", answer.text());
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let members = body.as_object().expect("an object");
    let urls = members.iter().filter(|(name, _)| name.ends_with("Uri"));
    let mut count = 0;
    for (name, url) in urls {
        target(url.as_str().expect("a URL"));
        assert!(!name.is_empty());
        count += 1;
    }
    assert!(count >= 8, "{body}");
    let record = stage.record_of(&answer);
    assert_eq!(record["sealed"], count + 1, "the body's and Location");
    let url = |name: &str| target(body[name].as_str().expect(name));

    // An unmodified client: it puts the event's name into the text of the URL.
    let event = url("sendEventPostUri").replace("{eventName}", "Approved");
    let raised = stage.call("POST", &event).portal().body("\"yes\"").send();
    assert_eq!(raised.verdict(), "202");
    let events = stage.world.function.durable_events();
    assert_eq!(
        (events[0].name.as_str(), events[0].body.as_bytes()),
        ("Approved", &b"\"yes\""[..])
    );
    for (value, expected) in [
        ("..", "404 sealed-url-invalid"),
        ("a%2Fb", "404 sealed-url-invalid"),
        ("a/b", "404 sealed-url-invalid"),
        ("a&x=1", "404 sealed-url-invalid"),
        ("{eventName}", "404 sealed-url-invalid"),
    ] {
        let event = url("sendEventPostUri").replace("{eventName}", value);
        let answer = stage.call("POST", &event).portal().send();
        assert_eq!(answer.verdict(), expected, "{value}");
    }
    assert_eq!(
        stage.call("GET", &event).portal().send().verdict(),
        "405 method-not-allowed"
    );

    let mut next = url("statusQueryGetUri");
    let mut answer = follow(&stage, &next);
    while answer.status == 202 {
        next = location(&answer);
        answer = follow(&stage, &next);
    }
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("Completed"), "{}", answer.text());
    assert_eq!(
        stage
            .call("DELETE", &url("purgeHistoryDeleteUri"))
            .portal()
            .send()
            .status,
        200
    );

    // The host's key went along, and beside it the gateway's own token, which built-in authentication asks for.
    for seen in &stage.world.function.seen()[1..] {
        assert!(
            seen.target.contains(&format!("code={SYSTEM_KEY}")),
            "{}",
            seen.target
        );
        assert!(seen.bearer().is_some());
        assert!(seen.headers.contains_key("x-arr-log-id"));
    }
}

#[test]
fn nothing_but_its_links_is_changed_in_a_sealed_body_and_a_compressed_one_is_refused() {
    let scene = Scene::new();
    let body = "{\"a\": \"ä, \\u00e4\", \"n\": [1.50, null],\r\n \"url\": \"https://elsewhere.example/?x=1\"}";
    let plain = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nETag: \"1\"\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let raw = RawBackend::answering(&scene, move |request| {
        let line = request.lines().next().unwrap_or_default();
        assert!(
            request.contains("\r\naccept-encoding: identity\r\n"),
            "{request}"
        );
        assert!(!request.to_lowercase().contains("\r\nrange:"), "{request}");
        vec![Step::text(match line.contains("/zipped") {
            true => {
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"
            }
            false => &plain,
        })]
    });
    let stage = scene
        .raw("raw", &raw)
        .route("r", "match: { methods: [GET, HEAD], path: '/r/{x}' }, backend: raw, sealBody: true, allow: [{ tenants: [contoso] }]")
        .start();
    for http2 in [false, true] {
        let call = stage
            .call("GET", "/r/plain")
            .header("range", "bytes=0-1")
            .portal();
        let answer = if http2 { call.http2() } else { call }.send();
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (200, body)
        );
        assert_eq!(answer.header("etag"), None);
        assert_eq!(answer.header("content-length"), None);
    }
    let answer = stage.call("GET", "/r/zipped").portal().send();
    assert_eq!(answer.verdict(), "502 answer-unreadable");
}

#[test]
fn a_link_with_a_key_to_elsewhere_is_withheld_and_told() {
    let scene = Scene::new();
    let raw = RawBackend::with_links(&scene);
    let stage = scene
        .raw("raw", &raw)
        .portal_route("r", "GET", "/r", "raw")
        .start();
    let answer = stage.call("GET", "/r").portal().send();
    assert_eq!(answer.header("x-test"), None);
    assert_eq!(follow(&stage, &location(&answer)).text(), "done");
    let record = stage.record_of(&answer);
    assert_eq!(
        (&record["sealed"], &record["withheld"]),
        (&1.into(), &1.into())
    );
    let metrics = stage.admin("/metrics");
    for line in [
        "portcullis_sealed_urls_total{route=\"r\",outcome=\"sealed\"} 1",
        "portcullis_sealed_urls_total{route=\"r\",outcome=\"withheld\"} 1",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

/// Who can have a backend redirect to a URL of their own making must not have the gateway's credential
/// sent there.
#[test]
fn an_open_redirect_reaches_nothing_with_the_gateways_credential() {
    let scene = Scene::new();
    let raw = RawBackend::answering(&scene, |request| {
        let line = request.lines().next().unwrap_or_default();
        let wanted = line
            .split("to=")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let host = field(request, "host");
        vec![Step::text(&match wanted {
            Some(wanted) => format!(
                "HTTP/1.1 302 Found\r\nLocation: http://{host}{}\r\nContent-Length: 0\r\n\r\n",
                wanted
                    .replace("%26", "&")
                    .replace("%3F", "?")
                    .replace("%3D", "=")
                    .replace("%7B", "{")
                    .replace("%7D", "}")
                    .replace("%25", "%")
            ),
            None => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine".to_owned(),
        })]
    });
    let stage = called_with_identity(scene, &raw)
        .portal_route("r", "GET", "/api/orders/{*rest}", "f")
        .start();
    for (wanted, reached) in [
        ("/api/orders/1/status", Some(true)),
        ("/api/other", None),
        ("/admin/host/keys", None),
        ("/api/orders/1/../../other", None),
        ("/api/other%3Fcode%3Dx", Some(false)),
        (
            "/runtime/webhooks/durabletask/../../api/other%3Fcode%3Dx",
            Some(false),
        ),
        ("/api/other%3Fsv%3D1", Some(false)),
        ("/api/other%3Faccess_token%3D1", Some(false)),
        ("/api/other%3Fx%3D%253Fsig%253D1", Some(false)),
    ] {
        let answer = stage
            .call("GET", &format!("/api/orders/1?to={wanted}"))
            .portal()
            .unchecked()
            .send();
        let location = answer.header("location").unwrap_or_default();
        let Some(sealed) = location.strip_prefix("https://localhost/.sealed") else {
            assert_eq!(reached, None, "{wanted}: {location}");
            continue;
        };
        let before = raw.seen().requests.len();
        let followed = follow(&stage, &format!("/.sealed{sealed}"));
        let request = raw.seen().requests.get(before).cloned().unwrap_or_default();
        let shows_token = request.contains("authorization: Bearer");
        assert_eq!(
            Some(shows_token),
            reached,
            "{wanted}: {} {request}",
            followed.verdict()
        );
    }
    for administered in [
        "/admin/host/keys",
        "/./admin/host/keys",
        "//admin/host/keys",
        "/api/x/../../admin/host/keys",
        "/api/%252e%252e/admin/host/keys",
        "/api/%252E./%2561dmin/host/keys",
        "/api/functions/admin/masterkey",
        "/runtime/webhooks/workflow/api/management/workflows/w",
        "/runtime/./webhooks/Workflow/API/management/workflows/w",
    ] {
        let target = format!("/api/orders/1?to={administered}%3Fcode%3Dx");
        let answer = stage.call("GET", &target).portal().unchecked().send();
        let location = answer.header("location");
        let sealed = location.and_then(|url| url.strip_prefix("https://localhost"));
        let sealed = sealed.expect("sealed");
        let before = raw.seen().requests.len();
        let followed = follow(&stage, sealed).verdict();
        assert_eq!(followed, "404 sealed-url-invalid", "{administered}");
        assert_eq!(raw.seen().requests.len(), before, "{administered}");
    }
    // Nor by a placeholder that the follower fills in.
    let target = "/api/orders/1?to=/%7Bx%7D/host/keys%3Fcode%3Dx";
    let filled = stage.call("GET", target).portal().unchecked().send();
    let sealed = filled
        .header("location")
        .and_then(|url| url.strip_prefix("https://localhost"))
        .expect("sealed");
    for (value, verdict) in [("admin", "404 sealed-url-invalid"), ("api", "200")] {
        let before = raw.seen().requests.len();
        let filled = sealed.replace("{x}", value);
        assert_ne!(filled, sealed);
        assert_eq!(follow(&stage, &filled).verdict(), verdict);
        let reached = usize::from(verdict == "200");
        assert_eq!(raw.seen().requests.len(), before + reached);
    }
}

/// A link without a key is followed with the gateway's credential, so it goes no further than its request.
#[test]
fn a_link_without_a_key_leads_on_and_not_to_what_others_are_let_into() {
    let scene = Scene::new();
    let raw = RawBackend::answering(&scene, |request| {
        let (host, to) = (field(request, "host"), field(request, "x-to"));
        vec![Step::text(&format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{host}{to}\r\nContent-Length: 0\r\n\r\n"
        ))]
    });
    let url = raw.url();
    let token = "credential: { managedIdentity: { resource: 'api://f' } }";
    let mut scene = scene;
    for (name, backend) in [
        ("f", format!("function: '{url}'")),
        ("based", format!("function: '{url}/api'")),
        ("wide", format!("logicApp: '{url}'")),
        (
            "flow",
            format!("logicApp: '{url}/api/wf/triggers/manual/invoke'"),
        ),
    ] {
        scene = scene.backend(name, &format!("{backend}, {token}"));
    }
    let nobody = "allow: [{ tenants: [fabrikam] }]";
    let stage = scene
        .portal_route("root", "GET", "/", "f")
        .portal_route("orders", "GET, POST", "/api/orders/{*rest}", "f")
        .route("secret", &format!("match: {{ methods: [GET, POST], path: /api/orders/secret }}, backend: f, {nobody}"))
        .portal_route("all", "GET", "/api/orders", "f")
        .route("put", &format!("match: {{ methods: [PUT], path: /api/orders/put }}, backend: f, {nobody}"))
        .portal_route("short", "GET", "/short", "based")
        .route("others", &format!("match: {{ methods: [GET], path: /short/others }}, backend: based, {nobody}"))
        .route("wide", "match: { methods: [GET], path: /wide }, backend: wide, rewrite: /api/wf/triggers/manual/invoke, allow: [{ tenants: [contoso] }]")
        .portal_route("flow", "GET", "/flow", "flow")
        .start();
    let here = "https://localhost";
    let sealed = "https://localhost/.sealed/";
    let runs = "/runtime/webhooks/workflow/scaleUnits/prod-00/workflows/1";
    for (target, to, becomes) in [
        ("/", "/api/secret".to_owned(), ""),
        (
            "/",
            "/runtime/webhooks/durabletask/instances".to_owned(),
            "",
        ),
        ("/api/orders/1", "/api/orders/1/lines".to_owned(), sealed),
        (
            "/api/orders/1",
            "/api/orders/1/caf%c3%a9".to_owned(),
            sealed,
        ),
        ("/api/orders/1", "/api/orders/2".to_owned(), ""),
        // What another route takes is that one's to decide on.
        (
            "/api/orders/1",
            "/api/orders/secret?x=1".to_owned(),
            "https://localhost/api/orders/secret?x=1",
        ),
        ("/short", "/api/short/mine".to_owned(), sealed),
        (
            "/short",
            "/api/short/others".to_owned(),
            "https://localhost/short/others",
        ),
        ("/wide", "/api/wf/runs/1".to_owned(), sealed),
        ("/wide", "/api/other/triggers/manual/invoke".to_owned(), ""),
        ("/flow", "/api/wf/runs/1".to_owned(), sealed),
        ("/flow", "/api/other/runs/1".to_owned(), ""),
        ("/flow", format!("{runs}/runs/08585"), sealed),
        ("/flow", format!("{runs}/triggers/manual/run"), ""),
    ] {
        let call = stage.call("GET", target).header("x-to", &to);
        let answer = call.portal().unchecked().send();
        let location = answer.header("location").expect(&to);
        match becomes {
            "" => assert_eq!(location, format!("{url}{to}"), "{target} {to}"),
            start => assert!(location.starts_with(start), "{target} {to}: {location}"),
        }
        let Some(followed) = location.strip_prefix(here) else {
            continue;
        };
        let followed = stage.call("GET", followed).portal().header("x-to", "/x");
        let expected = match becomes == sealed {
            true => "307",
            false => "403 tenant-not-allowed",
        };
        assert_eq!(
            followed.unchecked().send().verdict(),
            expected,
            "{target} {to}"
        );
    }
    // Nor in another spelling, nor with a method that the other route does not take.
    for (target, to) in [
        ("/api/orders", "/api/orders/SECRET"),
        ("/api/orders", "/api/Orders/secret;x"),
        ("/api/orders", "/api/orders/put"),
    ] {
        let call = stage.call("GET", target).header("x-to", to);
        let answer = call.portal().unchecked().send();
        let location = answer.header("location").expect(to);
        let link = location.strip_prefix(here).expect("sealed");
        let followed = stage.call("GET", link).portal().header("x-to", "/x");
        let verdict = followed.unchecked().send().verdict();
        assert_eq!(verdict, "404 sealed-url-invalid", "{to}");
    }
    // Nor does a placeholder lead there, whoever fills it in.
    let to = "/{runtime}/{webhooks}/{durabletask}/?code=planted-code";
    let call = stage.call("GET", "/api/orders/1").header("x-to", to);
    let answer = call.portal().unchecked().send();
    let link = answer
        .header("location")
        .and_then(|link| link.strip_prefix(here));
    let link = link.expect("sealed");
    let filled = link
        .replace("{runtime}", "api")
        .replace("{webhooks}", "orders")
        .replace("{durabletask}", "secret");
    let before = raw.seen().requests.len();
    let followed = stage.call("GET", &filled).portal().header("x-to", "/x");
    assert_eq!(followed.unchecked().send().verdict(), "307");
    let requests = raw.seen().requests;
    let request = requests.get(before).expect("the followed one");
    assert!(
        request.starts_with("GET /api/orders/secret/?code=planted-code "),
        "{request}"
    );
    assert!(!request.contains("authorization"), "{request}");
}

/// A link that a backend's own signature is for goes without what else the caller could bring.
#[test]
fn who_follows_a_signed_url_brings_neither_a_key_nor_a_token_of_their_own() {
    let scene = Scene::new();
    let raw = RawBackend::answering(&scene, |request| {
        let host = field(request, "host");
        vec![Step::text(&match request.contains("sig=") {
            true => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine".to_owned(),
            false => format!(
                "HTTP/1.1 202 Accepted\r\nLocation: http://{host}/runs/1?sig=planted-sig\r\nContent-Length: 0\r\n\r\n"
            ),
        })]
    });
    let url = raw.url();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "planted-key").expect("a key");
    let key = file.path().display();
    let stage = scene
        .backend(
            "b",
            &format!("http: '{url}', credential: {{ header: {{ name: x-api-key, value: {{ file: '{key}' }} }} }}"),
        )
        .route("r", "match: { methods: [POST], path: /r }, backend: b, forwardCallerToken: true, allow: [{ tenants: [contoso] }]")
        .start();
    let begun = stage.call("POST", "/r").portal().body("{}").send();
    let location = begun.header("location").expect("a location").to_owned();
    let sealed = location.strip_prefix("https://localhost").expect("sealed");
    let followed = stage
        .call("GET", sealed)
        .portal()
        .header("x-api-key", "chosen")
        .header("X_Api_Key", "chosen")
        .send();
    assert_eq!(followed.verdict(), "200");
    let requests = raw.seen().requests;
    let [first, second] = requests.as_slice() else {
        panic!("{requests:?}");
    };
    assert!(first.contains("\r\nx-api-key: planted-key\r\n"), "{first}");
    assert!(first.contains("\r\nauthorization: Bearer "), "{first}");
    assert!(
        second.starts_with("GET /runs/1?sig=planted-sig "),
        "{second}"
    );
    for absent in ["chosen", "planted-key", "authorization"] {
        assert!(!second.contains(absent), "{absent}: {second}");
    }
}

/// What cannot be searched is not passed on where links are expected.
#[test]
fn the_body_of_a_202_that_hides_what_it_holds_is_refused() {
    let scene = Scene::new();
    let raw = RawBackend::answering(&scene, |request| {
        let head = field(request, "x-answer").replace('|', "\r\n");
        vec![Step::text(&format!(
            "HTTP/1.1 {head}\r\nContent-Length: 4\r\n\r\nbody"
        ))]
    });
    let url = raw.url();
    let stage = scene
        .backend("f", &format!("function: '{url}', credential: none"))
        .portal_route("r", "GET, POST", "/r", "f")
        .route("passed", "match: { methods: [GET], path: /passed }, backend: f, sealBody: false, allow: [{ tenants: [contoso] }]")
        .start();
    for (method, path, head, verdict) in [
        (
            "GET",
            "/r",
            "202 Accepted|Content-Encoding: gzip",
            "502 answer-unreadable",
        ),
        (
            "POST",
            "/r",
            "202 Accepted|Content-Encoding: gzip",
            "502 answer-unreadable",
        ),
        (
            "GET",
            "/r",
            "202 Accepted|Content-Type: application/json; charset =utf-16",
            "502 answer-unreadable",
        ),
        (
            "GET",
            "/r",
            "202 Accepted|Content-Type: image/png|Content-Type: application/json",
            "502 answer-unreadable",
        ),
        (
            "GET",
            "/r",
            "202 Accepted|Content-Type: image/png|Content-Encoding: gzip",
            "202",
        ),
        ("GET", "/r", "200 OK|Content-Encoding: gzip", "200"),
        (
            "GET",
            "/passed",
            "202 Accepted|Content-Encoding: gzip",
            "202",
        ),
    ] {
        let call = stage.call(method, path).portal().header("x-answer", head);
        assert_eq!(
            call.unchecked().send().verdict(),
            verdict,
            "{method} {path} {head}"
        );
    }
}

/// A Function that answers a 202 without its route asking for anything, and redirects that keep the method.
#[test]
fn a_202_is_searched_by_default_and_redirects_keep_the_method_that_was_used() {
    let scene = Scene::new();
    let raw = RawBackend::answering(&scene, |request| {
        let line = request.lines().next().unwrap_or_default();
        let host = field(request, "host");
        let moved = |to: &str| {
            format!(
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{host}{to}\r\nContent-Length: 0\r\n\r\n"
            )
        };
        let text = if line.contains("/api/begin") {
            assert!(
                request.contains("\r\naccept-encoding: identity\r\n"),
                "{request}"
            );
            let body = format!(
                "{{\"statusQueryGetUri\":\"http://{host}/api/begin/1?code=planted-code\"}}"
            );
            format!(
                "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
        } else if line.contains("/api/moved ") {
            moved("/api/moved/on")
        } else if line.contains("code=planted-code") {
            moved("/api/begin/1/on?sig=planted-sig")
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine".to_owned()
        };
        // The begin's own status is asked for at a URL below it.
        let text = match line.contains("/api/begin/1") && line.contains("code=") {
            true => moved("/api/begin/1/on?sig=planted-sig"),
            false if line.contains("/on?sig=") => {
                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine".to_owned()
            }
            false => text,
        };
        vec![Step::text(&text)]
    });
    let stage = called_with_identity(scene, &raw)
        .portal_route("begin", "POST", "/api/begin", "f")
        .portal_route("moved", "POST, GET", "/api/moved", "f")
        .start();
    let call = stage
        .call("POST", "/api/begin")
        .header("accept-encoding", "gzip");
    let answer = call.portal().body("{}").send();
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let status = target(body["statusQueryGetUri"].as_str().expect("a URL"));
    // The poll is a GET, and so is what it is redirected to, whatever the first request was.
    let moved = follow(&stage, &status);
    assert_eq!(moved.status, 307);
    assert_eq!(follow(&stage, &location(&moved)).text(), "fine");
    // A POST that is sent on stays a POST.
    let moved = stage.call("POST", "/api/moved").portal().body("{}").send();
    let on = location(&moved);
    assert_eq!(follow(&stage, &on).verdict(), "405 method-not-allowed");
    assert_eq!(
        stage.call("POST", &on).portal().body("{}").send().text(),
        "fine"
    );
}

#[test]
fn a_callers_token_does_not_go_beside_a_sealed_signature() {
    let scene = Scene::new();
    let raw = RawBackend::with_links(&scene);
    let stage = scene
        .raw("raw", &raw)
        .route("r", "match: { methods: [GET], path: /r }, backend: raw, forwardCallerToken: true, allow: [{ tenants: [contoso] }]")
        .start();
    let answer = stage.call("GET", "/r").portal().send();
    assert!(raw.only().contains("\r\nauthorization: Bearer "));
    assert_eq!(follow(&stage, &location(&answer)).text(), "done");
    let request = raw.seen().requests[1].clone();
    assert!(!request.contains("authorization"), "{request}");
}

#[test]
fn on_a_public_route_a_sealed_url_is_for_everybody_and_its_end_is_told() {
    let scene = Scene::new();
    let raw = RawBackend::with_links(&scene);
    let stage = scene
        .raw("raw", &raw)
        .route(
            "r",
            "match: { methods: [GET], path: /r }, backend: raw, public: true",
        )
        .start();
    let sealed = location(&stage.call("GET", "/r").send());
    assert_eq!(stage.call("GET", &sealed).send().text(), "done");
    assert_eq!(
        stage.call("POST", &sealed).send().verdict(),
        "405 method-not-allowed"
    );
    stage.clock.advance(DAY);
    assert_eq!(
        stage.call("GET", &sealed).send().verdict(),
        "410 sealed-url-expired"
    );
    for lines in stage.log.lines() {
        assert!(!lines.contains(&sealed[10..30]), "{lines}");
    }
}
