//! What the gateway tells of requests: a line each, and the counts.

use std::collections::BTreeMap;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::Request;
use hyper_util::rt::TokioIo;
use portcullis::clock::Clock as _;
use portcullis::demo::ca::Ca;
use portcullis::demo::mint::Token;
use portcullis::demo::names::{AUDIENCE, CONTOSO, MARKETING_PORTAL, STRANGERS};
use portcullis::denial::Reason;
use portcullis::entra::Version;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{Call, RawBackend, Scene, Stage, Step, patiently};

fn open(steps: Vec<Step>) -> (RawBackend, Scene) {
    let scene = Scene::new();
    let raw = RawBackend::start(&scene, steps);
    let scene = scene
        .raw("raw", &raw)
        .portal_route("all", "GET, POST", "/{*rest}", "raw");
    (raw, scene)
}

fn fine() -> Vec<Step> {
    vec![Step::text(
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine",
    )]
}

/// The time as RFC 3339 writes it, put together by hand.
fn rfc3339(stage: &Stage) -> String {
    let unix = stage.clock.now().unix;
    let at = OffsetDateTime::from_unix_timestamp(unix.as_secs() as i64).expect("a time");
    format!(
        "{}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        unix.subsec_millis()
    )
}

#[test]
fn a_line_holds_who_called_what_was_decided_and_how_long_it_took() {
    let (raw, scene) = open(vec![
        Step::Wait,
        Step::text("HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\nfi"),
        Step::Wait,
        Step::text("ne"),
    ]);
    let stage = scene.start();
    let time = rfc3339(&stage);
    let token = stage.portal_token();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let id = stage.runtime.block_on(patiently(async {
        let io = TokioIo::new(stage.tls(b"http/1.1").await);
        let shaken = hyper::client::conn::http1::handshake(io).await;
        let (mut sender, connection) = shaken.expect("HTTP/1.1");
        tokio::spawn(connection);
        let request = Request::post("/a/%62?x=planted-query")
            .header("host", "LocalHost:8443")
            .header("authorization", format!("Bearer {token}"))
            .header("traceparent", trace)
            .body("hello".to_owned())
            .expect("a request");
        let conduct = async {
            raw.saw(|seen| seen.requests.len() == 1).await;
            stage.clock.advance(Duration::from_micros(250_125));
            raw.release();
        };
        let (answer, ()) = tokio::join!(sender.send_request(request), conduct);
        let (parts, body) = answer.expect("an answer").into_parts();
        assert_eq!(parts.status, 201);
        stage.clock.advance(Duration::from_millis(100));
        raw.release();
        assert_eq!(body.collect().await.expect("a body").to_bytes(), "fine");
        parts.headers["x-request-id"]
            .to_str()
            .expect("text")
            .to_owned()
    }));
    let mut record = stage.record("the record", |record| record["id"] == id.as_str());
    let fields = record.as_object_mut().expect("an object");
    let span = fields.remove("trace").expect("a trace").to_string();
    assert!(span.contains("0af7651916cd43dd8448eb211c80319c"), "{span}");
    let expected = json!({
        "time": time,
        "id": id,
        "client": "127.0.0.1",
        "method": "POST",
        "host": "localhost",
        "path": "/a/b",
        "protocol": "HTTP/1.1",
        "route": "all",
        "decision": "allow",
        "reason": "rule",
        "rule": "allow[0]",
        "tenant": CONTOSO,
        "tenantName": "contoso",
        "app": MARKETING_PORTAL,
        "appName": "marketing-portal",
        "principal": "0b1ec7aa-0000-0000-0000-000000000001",
        "tokenKind": "appOnly",
        "tokenVersion": "v2",
        "backend": "raw",
        "status": 201,
        "sentBytes": 4,
        "complete": true,
        "durationMs": 350.125,
        "upstreamMs": 250.125,
    });
    assert_eq!(record, expected);
}

#[test]
fn a_refused_request_has_a_line_with_what_is_known_of_it() {
    let (_raw, scene) = open(fine());
    let stage = scene.start();
    let answer = stage.call("GET", "/a").http2().send();
    let record = stage.record_of(&answer);
    let names: Vec<&str> = record
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        names,
        [
            "client",
            "complete",
            "decision",
            "durationMs",
            "host",
            "id",
            "method",
            "path",
            "protocol",
            "reason",
            "route",
            "sentBytes",
            "status",
            "time",
            "trace",
        ]
    );
    assert_eq!(record["protocol"], "HTTP/2");
    assert_eq!(record["decision"], "deny");
    assert_eq!(record["reason"], "token-missing");
    assert_eq!(record["sentBytes"], answer.body.len());
    assert_eq!(record["complete"], true);
}

#[test]
fn no_line_holds_a_query_a_token_a_key_or_what_passes_through() {
    let scene = Scene::new();
    let stage = scene
        .function("api")
        .portal_route("all", "GET, POST", "/{*rest}", "api")
        .start();
    let token = stage.portal_token();
    let secretive = |call: Call<'_>| {
        call.header("x-functions-key", "planted-function-key")
            .header("x-ms-client-principal", "planted-principal")
            .header("cookie", "AppServiceAuthSession=planted-cookie")
            .header("ocp-apim-subscription-key", "planted-apim-key")
            .header("x-custom", "planted-header")
            .body("planted-body")
            .unchecked()
            .send()
    };
    let target = "/a?sig=planted-sig&x=planted-query&code=planted-code&access_token=planted-token";
    let allowed = secretive(stage.call("POST", target).bearer(&token));
    assert_eq!(allowed.verdict(), "200");
    let refused = secretive(stage.call("POST", target));
    assert_eq!(refused.verdict(), "401 token-missing");
    let basic = stage
        .call("POST", target)
        .header("authorization", "Basic planted-basic");
    assert_eq!(secretive(basic).verdict(), "401 scheme-not-supported");
    let malformed = secretive(stage.call("POST", target).bearer("planted-bearer"));
    assert_eq!(malformed.verdict(), "401 token-malformed");
    let ambiguous = secretive(stage.call("POST", "/a%2fb?sig=planted-sig").bearer(&token));
    assert_eq!(ambiguous.verdict(), "400 ambiguous-path");
    for answer in [&allowed, &refused, &malformed] {
        let mut keys = vec!["sig", "code", "access_token"];
        keys.extend(["x-functions-key", "x-ms-client-principal"]);
        assert_eq!(stage.record_of(answer)["keysStripped"], json!(keys));
    }
    assert_eq!(stage.record_of(&ambiguous)["path"], "/a%2fb");
    let log = stage.log.lines().join("\n");
    for part in token
        .split('.')
        .chain(["planted", "managed-identity", "Bearer", "x="])
    {
        assert!(!log.contains(part), "{part} in {log}");
    }
    let metrics = stage.admin("/metrics");
    assert!(
        metrics.contains("portcullis_keys_stripped_total{key=\"sig\"} 4\n"),
        "{metrics}"
    );
    assert!(!metrics.contains("planted"), "{metrics}");
    assert_eq!(stage.log.lines().len(), 5, "one line a request");
}

/// Who tries to be read in two ways is who is looked for in the log.
#[test]
fn a_head_that_cannot_be_read_is_told_as_far_as_it_was() {
    let (_raw, scene) = open(fine());
    let stage = scene.start();
    for (head, method, protocol) in [
        (
            "DELETE /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "DELETE",
            "HTTP/1.1",
        ),
        (
            "PUT /a HTTP/1.1\r\nHost: localhost\r\nX : b\r\n\r\n",
            "PUT",
            "HTTP/1.1",
        ),
        (
            "POST /a HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
            "POST",
            "HTTP/1.0",
        ),
        (
            "GET  /a HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "_OTHER",
            "HTTP/1.1",
        ),
    ] {
        let before = stage.log.lines().len();
        let answer = stage.raw(head.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        stage.until("the record", |stage| stage.log.lines().len() > before);
        let line = stage.log.lines().pop().expect("a line");
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(
            (&line["method"], &line["protocol"]),
            (&json!(method), &json!(protocol)),
            "{head}"
        );
    }
}

#[test]
fn the_human_form_is_one_line_that_no_caller_can_forge() {
    let (_raw, mut scene) = open(fine());
    scene.more = "telemetry: { requestLog: human }".to_owned();
    let stage = scene.start();
    let allowed = stage.call("GET", "/a?sig=planted-sig").portal().send();
    let forging = "x\" decision=allow reason=rule\n\u{202e}";
    let token = stage.portal().header("kid", forging);
    let token = stage.world.entra.sign(&token).expect("signed");
    let refused = stage.call("GET", "/a").bearer(&token).send();
    assert_eq!(refused.verdict(), "401 key-unknown");
    stage.until("two lines", |stage| stage.log.lines().len() == 2);
    let lines = stage.log.lines();
    let time = rfc3339(&stage);
    let id =
        |answer: &crate::support::Answer| answer.header("x-request-id").expect("an ID").to_owned();
    assert_eq!(
        lines[0],
        format!(
            "{time} allow GET localhost/a 200 0.00 ms reason=rule route=all tenant=contoso app=marketing-portal stripped=sig id={}",
            id(&allowed)
        )
    );
    assert_eq!(
        lines[1],
        format!(
            "{time} deny  GET localhost/a 401 0.00 ms reason=key-unknown route=all expected=\"a key of the issuer\" got=\"kid x\\\" decision=allow reason=rule\\u{{202e}}\" id={}",
            id(&refused)
        )
    );
}

#[test]
fn a_log_that_is_off_says_nothing_and_counts_all_the_same() {
    let (_raw, mut scene) = open(fine());
    scene.more = "telemetry: { requestLog: off }".to_owned();
    let stage = scene.start();
    let wanted = BTreeMap::from([("rule".to_owned(), 3), ("token-missing".to_owned(), 1)]);
    for round in 1..=2 {
        stage.call("GET", "/a").portal().send();
        stage.call("GET", "/a").send();
        stage.call("GET", "/a?sig=planted").portal().send();
        stage.call("GET", "/a").portal().send();
        let wanted: BTreeMap<_, _> = wanted
            .iter()
            .map(|(key, n)| (key.clone(), n * round))
            .collect();
        stage.until("the counts", |stage| counts(stage) == wanted);
        let stripped = format!("portcullis_keys_stripped_total{{key=\"sig\"}} {round}\n");
        stage.until("the key", |stage| {
            stage.admin("/metrics").contains(&stripped)
        });
    }
    assert_eq!(stage.log.lines(), Vec::<String>::new());
}

/// The gateway has closed its side, and reads on so that the answer is not lost.
#[test]
fn a_record_ends_with_its_answer_though_the_request_goes_on() {
    let (_raw, scene) = open(fine());
    let stage = scene.start();
    let head = "POST /a HTTP/1.1\r\nhost: localhost\r\ncontent-length: 300000\r\n\r\nbegun";
    stage.runtime.block_on(patiently(async {
        let mut stream = stage.tls(b"http/1.1").await;
        stream.write_all(head.as_bytes()).await.expect("written");
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer).await;
        read.expect("an answer, and that nothing follows it");
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        stage.clock.advance(Duration::from_millis(250));
        stage.until("the record", |stage| stage.records().len() == 1);
    }));
    assert_eq!(stage.records()[0]["durationMs"], 0.0);
}

#[test]
fn a_caller_who_leaves_in_the_midst_of_an_answer_is_recorded_as_such() {
    let (raw, scene) = open(vec![
        Step::text("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbeginning"),
        Step::Wait,
    ]);
    let stage = scene.start();
    let token = stage.portal_token();
    stage.runtime.block_on(patiently(async {
        let io = TokioIo::new(stage.tls(b"http/1.1").await);
        let shaken = hyper::client::conn::http1::handshake(io).await;
        let (mut sender, connection) = shaken.expect("HTTP/1.1");
        let connection = tokio::spawn(connection);
        let request = Request::get("/a")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {token}"))
            .body(String::new());
        let answer = sender.send_request(request.expect("a request")).await;
        let mut answer = answer.expect("an answer").into_body();
        let frame = answer.frame().await.expect("a frame").expect("good");
        assert_eq!(frame.data_ref().expect("data").as_ref(), b"beginning");
        connection.abort();
        drop((answer, sender));
        raw.saw(|seen| seen.closed == 1).await;
    }));
    let record = stage.record("the record", |record| record["path"] == "/a");
    assert_eq!(record["complete"], false);
    assert_eq!(record["sentBytes"], 9);
    assert_eq!(record["status"], 200);
    assert_eq!(record["decision"], "allow", "what was decided stays true");
}

#[test]
fn a_caller_who_leaves_before_the_answer_is_recorded_as_such() {
    let (raw, scene) = open(vec![Step::Wait]);
    let stage = scene.start();
    let token = stage.portal_token();
    for alpn in [b"http/1.1".as_slice(), b"h2"] {
        stage.runtime.block_on(patiently(async {
            let http2 = alpn == b"h2";
            let before = raw.seen().closed;
            let call = stage
                .call("GET", if http2 { "/h2" } else { "/h1" })
                .bearer(&token);
            let call = if http2 { call.http2() } else { call };
            let requests = raw.seen().requests.len() + 1;
            tokio::select! {
                answer = call.sending() => panic!("answered: {answer:?}"),
                _ = raw.saw(|seen| seen.requests.len() == requests) => {}
            }
            raw.saw(|seen| seen.closed > before).await;
        }));
    }
    for path in ["/h1", "/h2"] {
        let record = stage.record("the record", |record| record["path"] == path);
        assert_eq!(record["reason"], "caller-left", "{path}");
        assert_eq!(record["complete"], false, "{path}");
        assert_eq!(record["sentBytes"], 0, "{path}");
        assert_eq!(record["route"], "all", "{path}");
    }
    assert_eq!(counts(&stage).get("caller-left"), Some(&2));
}

/// The counts of `/metrics` by reason, all routes together.
fn counts(stage: &Stage) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in stage.admin("/metrics").lines() {
        let Some(labels) = line.strip_prefix("portcullis_decisions_total{") else {
            continue;
        };
        let reason = labels
            .split("reason=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let count = line
            .rsplit(' ')
            .next()
            .and_then(|count| count.parse::<u64>().ok());
        *counts
            .entry(reason.expect("a reason").to_owned())
            .or_default() += count.expect("a count");
    }
    counts
}

#[test]
fn the_reason_is_the_same_in_answer_log_and_metrics() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let silent = RawBackend::start(&scene, vec![Step::Wait]);
    let broken = RawBackend::start(&scene, vec![Step::Close]);
    let gone = scene
        .runtime
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .expect("bound");
    let gone_at = gone.local_addr().expect("an address");
    drop(gone);
    let function = scene.world.function.url();
    let refusing = RawBackend::start(
        &scene,
        vec![Step::text(
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
        )],
    );
    let refusing_url = refusing.url();
    let silent_url = silent.url();
    let keys = tempfile::tempdir().expect("a folder");
    let key = keys.path().join("key");
    std::fs::write(&key, "planted-key").expect("written");
    let key = key.display();
    // A CA that did not sign the backend's certificate.
    let ca = keys.path().join("other.crt");
    let other = Ca::new().expect("a CA");
    std::fs::write(&ca, other.pem()).expect("written");
    let ca = ca.display();
    let scene = scene
        .raw("raw", &raw)
        .raw("broken", &broken)
        .backend("silent", &format!("http: '{silent_url}', credential: none, timeouts: {{ firstByte: 200ms }}"))
        .backend("gone", &format!("http: 'http://{gone_at}', credential: none"))
        .backend("untrusted", &format!("http: '{function}', credential: none, ca: '{ca}'"))
        .backend("refusing", &format!("http: '{refusing_url}', credential: {{ header: {{ name: x-api-key, value: {{ file: '{key}' }} }} }}"))
        .portal_route("all", "GET", "/all", "raw")
        .portal_route("silent", "GET", "/silent", "silent")
        .portal_route("broken", "GET", "/broken", "broken")
        .portal_route("gone", "GET", "/gone", "gone")
        .portal_route("untrusted", "GET", "/untrusted", "untrusted")
        .portal_route("refusing", "GET", "/refusing", "refusing")
        .route("batch", "match: { methods: [GET], path: /batch }, backend: raw, allow: [{ tenants: [contoso], apps: [nightly-batch] }]")
        .route("fabrikam", "match: { methods: [GET], path: /fabrikam }, backend: raw, allow: [{ tenants: [fabrikam] }]")
        .route("role", "match: { methods: [GET], path: /role }, backend: raw, allow: [{ tenants: [contoso], roles: [Yes] }]")
        .route("scope", "match: { methods: [GET], path: /scope }, backend: raw, allow: [{ tenants: [contoso], scopes: [Yes] }]")
        .route("once", "match: { methods: [GET], path: /once }, backend: raw, public: true, rateLimit: { requests: 1, per: 1h, by: [route] }");
    let stage = scene.start();
    let get = |target: &str| stage.call("GET", target).portal();
    let with = |token: Token| {
        let token = stage.world.entra.sign(&token).expect("signed");
        stage.call("GET", "/all").bearer(&token)
    };
    let app = |tenant: &str, app: &str| {
        Token::app(Version::V2, tenant, app, AUDIENCE, stage.world.entra.now())
    };
    assert_eq!(stage.call("GET", "/once").send().verdict(), "200");
    let rows: Vec<(Reason, Option<&str>, Call<'_>)> = vec![
        (
            Reason::AmbiguousHost,
            None,
            get("/all").header("host", "a b"),
        ),
        (Reason::AmbiguousPath, None, get("/all%2f")),
        (Reason::AmbiguousQuery, None, get("/all?%zz=1")),
        (
            Reason::MethodNotSupported,
            None,
            stage.call("TRACE", "/all").portal(),
        ),
        (
            Reason::UpgradeNotSupported,
            None,
            get("/all")
                .header("connection", "upgrade")
                .header("upgrade", "h2c"),
        ),
        (Reason::TokenMissing, Some("all"), stage.call("GET", "/all")),
        (
            Reason::AuthorizationAmbiguous,
            Some("all"),
            get("/all").bearer("x"),
        ),
        (
            Reason::SchemeNotSupported,
            Some("all"),
            stage.call("GET", "/all").header("authorization", "Basic x"),
        ),
        (
            Reason::TokenMalformed,
            Some("all"),
            stage.call("GET", "/all").bearer("x"),
        ),
        (
            Reason::AlgorithmNotAllowed,
            Some("all"),
            with(stage.portal().header("alg", "none")),
        ),
        (
            Reason::IssuerNotTrusted,
            Some("all"),
            with(app(STRANGERS, MARKETING_PORTAL)),
        ),
        (
            Reason::AudienceMismatch,
            Some("all"),
            with(stage.portal().claim("aud", "api://x")),
        ),
        (
            Reason::TokenExpired,
            Some("all"),
            with(stage.portal().claim("exp", 1)),
        ),
        (Reason::RouteNotFound, None, get("/nothing")),
        (
            Reason::MethodNotAllowed,
            None,
            stage.call("POST", "/all").portal(),
        ),
        (Reason::TenantNotAllowed, Some("fabrikam"), get("/fabrikam")),
        (Reason::AppNotAllowed, Some("batch"), get("/batch")),
        (Reason::RoleMissing, Some("role"), get("/role")),
        (Reason::ScopeMissing, Some("scope"), get("/scope")),
        (
            Reason::RateLimited,
            Some("once"),
            stage.call("GET", "/once"),
        ),
        (Reason::BackendTimeout, Some("silent"), get("/silent")),
        (Reason::BackendBroken, Some("broken"), get("/broken")),
        (Reason::BackendConnectionRefused, Some("gone"), get("/gone")),
        (Reason::BackendTls, Some("untrusted"), get("/untrusted")),
        (
            Reason::BackendRefusedCredential,
            Some("refusing"),
            get("/refusing"),
        ),
    ];
    let mut expected = BTreeMap::from([("rule".to_owned(), 0), ("public".to_owned(), 1)]);
    for (reason, route, call) in rows {
        let answer = call.send();
        let verdict = format!("{} {}", reason.status().as_u16(), reason.code());
        assert_eq!(answer.verdict(), verdict);
        let problem: Value = serde_json::from_slice(&answer.body).expect("a problem");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(
            problem["type"],
            format!("urn:portcullis:denial:{}", reason.code())
        );
        assert_eq!(problem["status"], reason.status().as_u16());
        assert_eq!(problem["title"], reason.title());
        let id = answer.header("x-request-id").expect("an ID");
        assert_eq!(problem["instance"], format!("urn:uuid:{id}"));
        let record = stage.record_of(&answer);
        assert_eq!(record["reason"], reason.code());
        assert_eq!(record["decision"], "deny");
        assert_eq!(record["status"], reason.status().as_u16());
        assert_eq!(record["route"].as_str(), route, "{reason}");
        *expected.entry(reason.code().to_owned()).or_default() += 1;
    }
    assert_eq!(stage.call("GET", "/all").portal().send().verdict(), "200");
    expected.insert("rule".to_owned(), 1);
    stage.until("the counts", |stage| counts(stage).get("rule") == Some(&1));
    assert_eq!(counts(&stage), expected);
    let one = "portcullis_decisions_total{route=\"fabrikam\",decision=\"deny\",reason=\"tenant-not-allowed\"} 1\n";
    assert!(stage.admin("/metrics").contains(one));
}
