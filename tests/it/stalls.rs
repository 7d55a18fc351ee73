//! Callers who hold things up, on purpose or not, and shapes of messages that hyper would repair or lose.

use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::clock::pause;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{RawBackend, Scene, Stage, Step, patiently};

fn impatient(raw: &RawBackend, scene: Scene) -> Stage {
    let mut scene = scene
        .raw("raw", raw)
        .portal_route("all", "GET, POST", "/{*rest}", "raw");
    scene.listen = "  idleTimeout: 400ms\n  headerTimeout: 400ms\n".to_owned();
    scene.start()
}

/// Sends bytes on a connection for HTTP/2 and waits until the gateway closes it.
fn closed_by_gateway(stage: &Stage, bytes: &[u8]) {
    stage.runtime.block_on(async {
        let mut stream = stage.tls(b"h2").await;
        stream.write_all(bytes).await.expect("written");
        let mut said = Vec::new();
        // Closed in order or not, but closed.
        let _ = stream.read_to_end(&mut said).await;
    });
}

#[test]
fn a_connection_for_http_2_on_which_nothing_is_said_is_closed() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = impatient(&raw, scene);
    closed_by_gateway(&stage, b"");
    closed_by_gateway(&stage, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}

#[test]
fn a_caller_over_http_2_who_lets_no_answer_through_is_given_up() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = impatient(&raw, scene);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE = 0 (RFC 9113 section 6.5.2).
    bytes.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    // HEADERS of GET https://localhost/, with END_STREAM and END_HEADERS.
    let mut head = vec![0x82, 0x87, 0x84, 0x41, 9];
    head.extend(b"localhost");
    bytes.extend([0, 0, head.len() as u8, 1, 5, 0, 0, 0, 1]);
    bytes.extend(head);
    closed_by_gateway(&stage, &bytes);
    stage.record("the refusal", |record| record["status"] == 401);
}

#[test]
fn a_caller_over_http_1_who_does_not_read_frees_the_backend() {
    let scene = Scene::new();
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n".to_vec();
    answer.resize(answer.len() + (64 << 20), b'x');
    let raw = RawBackend::start(&scene, vec![Step::Send(answer)]);
    let stage = impatient(&raw, scene);
    let token = stage.portal_token();
    stage.runtime.block_on(async {
        let mut stream = stage.tls(b"http/1.1").await;
        let head =
            format!("GET /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("written");
        raw.saw(|seen| seen.closed == 1).await;
        drop(stream);
    });
    let record = stage.record("the record", |record| record["path"] == "/a");
    assert_eq!(record["complete"], false);
}

#[test]
fn a_slow_backend_is_not_mistaken_for_a_caller_who_takes_nothing() {
    let scene = Scene::new();
    let raw = RawBackend::start(
        &scene,
        vec![
            Step::text("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),
            Step::Wait,
            Step::text("done"),
        ],
    );
    let stage = impatient(&raw, scene);
    for http2 in [false, true] {
        let call = stage.call("GET", "/a").portal();
        let call = if http2 { call.http2() } else { call };
        let answer = stage.runtime.block_on(async {
            let sending = call.sending();
            let releasing = async {
                // Three times as long as a connection may be idle.
                portcullis::clock::pause(std::time::Duration::from_millis(1200)).await;
                raw.release();
            };
            futures_util::future::join(sending, releasing).await.0
        });
        assert_eq!(answer.text(), "done");
    }
}

/// An answer of so many bytes.
fn answer_of(bytes: usize) -> Vec<Step> {
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + bytes, b'x');
    vec![Step::Send(answer)]
}

/// Two routes, `/large` and `/slow`, of which one answers with so many bytes and the other when it is released.
fn large_and_slow(bytes: usize, idle: &str) -> (RawBackend, RawBackend, Stage) {
    let scene = Scene::new();
    let large = RawBackend::start(&scene, answer_of(bytes));
    let slow = vec![
        Step::Wait,
        Step::text("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"),
    ];
    let slow = RawBackend::start(&scene, slow);
    let mut scene = scene.raw("large", &large).raw("slow", &slow);
    for name in ["large", "slow"] {
        scene = scene.portal_route(name, "GET", &format!("/{name}"), name);
    }
    scene.listen = format!("  idleTimeout: {idle}\n");
    (large, slow, scene.start())
}

/// A caller over HTTP/2 who lets so much of an answer come before it takes any of it.
async fn reluctant(stage: &Stage, window: u32) -> SendRequest<Empty<Bytes>> {
    let io = TokioIo::new(stage.tls(b"h2").await);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (sender, connection) = builder.handshake(io).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

fn get(path: &str, token: &str) -> Request<Empty<Bytes>> {
    let request = Request::get(format!("https://localhost{path}"));
    let request = request.header("authorization", format!("Bearer {token}"));
    request.body(Empty::new()).expect("a request")
}

#[test]
fn an_answer_that_is_not_taken_is_let_go_although_another_request_waits_for_its_backend() {
    let (large, slow, stage) = large_and_slow(64 << 20, "400ms");
    let token = stage.portal_token();
    stage.runtime.block_on(async {
        let mut sender = reluctant(&stage, 1 << 16).await;
        let waiting = tokio::spawn(sender.send_request(get("/slow", &token)));
        patiently(slow.saw(|seen| seen.requests.len() == 1)).await;
        let untaken = patiently(sender.send_request(get("/large", &token))).await;
        let untaken = untaken.expect("an answer");
        patiently(large.saw(|seen| seen.closed == 1)).await;
        // The other one is served on the same connection as if nothing had been.
        slow.release();
        let answer = patiently(waiting).await.expect("asked").expect("an answer");
        let body = patiently(answer.into_body().collect())
            .await
            .expect("a body");
        assert_eq!(body.to_bytes(), "done");
        let taken = patiently(untaken.into_body().collect()).await;
        assert!(taken.is_err(), "it breaks off");
    });
    let record = stage.record("the record", |record| record["path"] == "/large");
    assert_eq!(record["complete"], false);
}

#[test]
fn an_answer_that_is_taken_slowly_while_another_request_waits_comes_whole() {
    // More than the gateway has on its way: the rest waits for the caller.
    const ALL: usize = 640 << 10;
    let (_large, slow, stage) = large_and_slow(ALL, "1s");
    let token = stage.portal_token();
    stage.runtime.block_on(async {
        let mut sender = reluctant(&stage, 1 << 14).await;
        let waiting = tokio::spawn(sender.send_request(get("/slow", &token)));
        patiently(slow.saw(|seen| seen.requests.len() == 1)).await;
        let answer = patiently(sender.send_request(get("/large", &token))).await;
        let mut body = answer.expect("an answer").into_body();
        let mut taken = 0;
        while let Some(frame) = patiently(body.frame()).await {
            taken += frame.expect("more").into_data().expect("data").len();
            // Several times as long in all as a caller may take nothing.
            pause(Duration::from_millis(100)).await;
        }
        assert_eq!(taken, ALL);
        slow.release();
        let answer = patiently(waiting).await.expect("asked");
        assert_eq!(answer.expect("an answer").status(), 200);
    });
}

#[test]
fn curl_reads_a_refusal_of_its_upload_over_http_2() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene
        .raw("raw", &raw)
        .portal_route("all", "POST", "/{*rest}", "raw")
        .start();
    let ca = stage.folder.path().join("ca.crt");
    for _ in 0..5 {
        let output = Command::new("curl")
            .args([
                "-sS",
                "--http2",
                "-d",
                "{}",
                "-w",
                "%{http_code}",
                "-o",
                "/dev/null",
                "--cacert",
            ])
            .arg(&ca)
            .arg(format!(
                "https://localhost:{}/invitations",
                stage.address.port()
            ))
            .output()
            .expect("curl runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "401");
    }
}

#[test]
fn a_get_with_a_body_of_unknown_length_is_forwarded_with_it() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene
        .raw("raw", &raw)
        .portal_route("all", "GET", "/{*rest}", "raw")
        .start();
    let token = stage.portal_token();
    let said = stage.raw(
        format!("GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            .as_bytes(),
    );
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    let request = raw.only();
    assert!(request.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{request}");
}

#[test]
fn a_backends_length_beside_its_chunks_counts_for_nothing() {
    let scene = Scene::new();
    let raw = RawBackend::start(
        &scene,
        vec![Step::text(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n",
        )],
    );
    let stage = scene
        .raw("raw", &raw)
        .portal_route("all", "GET", "/{*rest}", "raw")
        .start();
    assert_eq!(stage.call("GET", "/a").portal().send().text(), "0123456789");
    assert_eq!(
        stage.call("GET", "/a").portal().http2().send().text(),
        "0123456789"
    );
}

#[test]
fn a_backend_that_speaks_http_1_0_does_not_lower_what_the_caller_is_spoken_to_in() {
    let scene = Scene::new();
    let raw = RawBackend::start(
        &scene,
        vec![Step::text("HTTP/1.0 200 OK\r\n\r\nold"), Step::Close],
    );
    let stage = scene
        .raw("raw", &raw)
        .portal_route("all", "GET", "/{*rest}", "raw")
        .start();
    let token = stage.portal_token();
    let said = stage.raw(
        format!("GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n").as_bytes(),
    );
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
}

#[test]
fn a_caller_does_not_choose_the_api_version_of_a_logic_app() {
    let scene = Scene::new();
    let url = format!(
        "{}{}",
        scene.world.logic_app.url(),
        portcullis::demo::backend::TRIGGER
    );
    let resource = portcullis::demo::names::LOGIC_APP_RESOURCE;
    let stage = scene
        .backend("flow", &format!("logicApp: '{url}', credential: {{ managedIdentity: {{ resource: '{resource}' }} }}, ca: ca.crt"))
        .portal_route("invite", "POST", "/invitations", "flow")
        .start();
    for target in [
        "/invitations",
        "/invitations?api-version=2016-10-01",
        "/invitations?API-VERSION=evil",
        "/invitations?api%2Dversion=evil",
        "/invitations?x=;api-version=evil",
    ] {
        assert_eq!(
            stage.call("POST", target).portal().send().verdict(),
            "200",
            "{target}"
        );
    }
    for seen in stage.world.logic_app.seen() {
        assert!(
            seen.target.contains("?api-version=2016-10-01"),
            "{}",
            seen.target
        );
        assert!(!seen.target.contains("evil"), "{}", seen.target);
    }
}
