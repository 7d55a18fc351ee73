//! Listeners, TLS, connections, the drain, reloads and the admin address.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{RawBackend, Scene, Stage, Step, simple};

/// Shakes hands with the versions given, and returns the leaf certificate that the gateway showed.
async fn shake(
    stage: &Stage,
    name: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Option<Vec<u8>> {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    let ca = rustls::pki_types::CertificateDer::from_pem_slice(stage.world.ca.pem().as_bytes())
        .expect("a CA");
    roots.add(ca).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(stage.address).await.expect("connected");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
}

/// A plain GET on an address, as probes make it: the status line and the body.
fn probe(stage: &Stage, address: SocketAddr, path: &str) -> String {
    stage.runtime.block_on(async {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    })
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_a_stranger_ca_is_not_believed() {
    let (_raw, scene) = simple();
    let stage = scene.start();
    stage.runtime.block_on(async {
        assert!(
            shake(&stage, "localhost", &[&rustls::version::TLS12])
                .await
                .is_some()
        );
        assert!(
            shake(&stage, "localhost", &[&rustls::version::TLS13])
                .await
                .is_some()
        );
        assert!(
            shake(&stage, "elsewhere.example", &[&rustls::version::TLS13])
                .await
                .is_none()
        );
    });
}

#[test]
fn alpn_chooses_http_2_or_http_1_1() {
    let (_raw, scene) = simple();
    let stage = scene.start();
    assert_eq!(stage.call("GET", "/a").portal().send().verdict(), "200");
    assert_eq!(
        stage.call("GET", "/a").portal().http2().send().verdict(),
        "200"
    );
    stage.record("HTTP/1.1", |record| record["protocol"] == "HTTP/1.1");
    stage.record("HTTP/2", |record| record["protocol"] == "HTTP/2");
}

#[test]
fn the_certificate_is_chosen_by_name_and_changed_without_a_restart() {
    let (_raw, scene) = simple();
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let other = scene
        .world
        .ca
        .certificate(&["other.example"])
        .expect("a certificate");
    fs::write(path("other.crt"), &other.cert_pem).expect("written");
    fs::write(path("other.key"), &other.key_pem).expect("written");
    let replacement = scene
        .world
        .ca
        .certificate(&["other.example"])
        .expect("a certificate");
    let pair = format!(
        "{{ cert: '{}', key: '{}' }}",
        path("other.crt"),
        path("other.key")
    );
    let stage = scene.certificate(&pair).start();
    let tls13 = [&rustls::version::TLS13];
    let shown = |name: &str| {
        stage
            .runtime
            .block_on(shake(&stage, name, &tls13))
            .expect("a certificate")
    };
    let (local, before) = (shown("localhost"), shown("other.example"));
    assert_ne!(local, before);

    fs::write(path("other.crt"), &replacement.cert_pem).expect("written");
    stage.gateway().reload();
    stage.until_refused(1);
    assert_eq!(
        shown("other.example"),
        before,
        "a certificate without its key changes nothing"
    );

    fs::write(path("other.key"), &replacement.key_pem).expect("written");
    fs::write(stage.folder.path().join("policy.yaml"), "faulty: yes").expect("written");
    stage.gateway().reload();
    stage.until_refused(2);
    assert_ne!(
        shown("other.example"),
        before,
        "a faulty policy keeps no certificate back"
    );
    assert_eq!(shown("localhost"), local);
}

#[test]
fn a_head_that_does_not_end_and_a_handshake_that_does_not_begin_are_cut_off() {
    let (_raw, mut scene) = simple();
    scene.listen =
        "  headerTimeout: 200ms\n  handshakeTimeout: 200ms\n  idleTimeout: 10s\n".to_owned();
    let stage = scene.start();
    let said = stage.raw(b"GET /a HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    assert_eq!(said, "", "nothing is answered");
    stage.runtime.block_on(async {
        let mut stream = TcpStream::connect(stage.address).await.expect("connected");
        let mut said = Vec::new();
        let read = stream.read_to_end(&mut said).await;
        assert!(read.is_err() || said.is_empty(), "{said:?}");
    });
}

#[test]
fn an_idle_connection_is_closed() {
    let (_raw, mut scene) = simple();
    scene.listen = "  idleTimeout: 200ms\n".to_owned();
    let stage = scene.start();
    let said = stage.raw(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(said.starts_with("HTTP/1.1 401"), "{said}");
    stage.runtime.block_on(async {
        let stream = stage.tls(b"h2").await;
        let (_sender, connection) = hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(
            TokioExecutor::new(),
            TokioIo::new(stream),
        )
        .await
        .expect("HTTP/2");
        // GOAWAY ends it; nobody asked anything.
        connection.await.expect("closed in order");
    });
}

#[test]
fn more_connections_than_allowed_are_closed_as_they_come() {
    let (_raw, mut scene) = simple();
    scene.listen = "  maxConnections: 1\n".to_owned();
    let stage = scene.start();
    stage.runtime.block_on(async {
        let first = stage.tls(b"http/1.1").await;
        let mut second = TcpStream::connect(stage.address).await.expect("connected");
        let mut said = Vec::new();
        // Closed, or reset: either way nothing is said.
        let _ = second.read_to_end(&mut said).await;
        assert!(said.is_empty());
        drop(first);
    });
}

#[test]
fn behind_a_platform_the_caller_is_the_last_that_the_platform_names() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene
        .raw("raw", &raw)
        .portal_route("all", "GET", "/{*rest}", "raw")
        .platform()
        .start();
    let token = stage.portal_token();
    stage.runtime.block_on(async {
        let mut stream = TcpStream::connect(stage.address).await.expect("connected");
        let request = format!(
            "GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.7\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let io = TokioIo::new(TcpStream::connect(stage.address).await.expect("connected"));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("h2c");
        tokio::spawn(connection);
        let request = Request::get("http://localhost/b").header("x-forwarded-for", "203.0.113.8");
        let request = request.header("authorization", format!("Bearer {token}")).body(Full::new(Bytes::new()));
        let answer = sender.send_request(request.expect("a request")).await.expect("an answer");
        assert_eq!(answer.status(), 200);
    });
    let seen = raw.seen().requests.join("\n").to_lowercase();
    assert!(seen.contains("x-forwarded-for: 203.0.113.7\r\n"), "{seen}");
    assert!(seen.contains("x-forwarded-for: 203.0.113.8\r\n"), "{seen}");
    assert!(!seen.contains("6.6.6.6"), "{seen}");
}

#[test]
fn several_workers_share_one_port() {
    let (_raw, scene) = simple();
    let stage = scene.workers(4).start();
    for _ in 0..16 {
        assert_eq!(stage.call("GET", "/a").portal().send().verdict(), "200");
    }
}

#[test]
fn a_drain_answers_what_is_in_flight_over_both_protocols_and_then_ends() {
    let scene = Scene::new();
    let raw = RawBackend::start(
        &scene,
        vec![
            Step::text("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),
            Step::Wait,
            Step::text("done"),
        ],
    );
    let mut stage = scene
        .raw("raw", &raw)
        .portal_route("all", "GET", "/{*rest}", "raw")
        .start();
    let admin = stage.gateway().admin_address().expect("an admin address");
    assert!(probe(&stage, admin, "/readyz").starts_with("HTTP/1.1 200"));
    let gateway = stage.gateway.take().expect("running");
    let token = stage.portal_token();
    let mut senders = stage.runtime.block_on(async {
        let (http1, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stage.tls(b"http/1.1").await))
                .await
                .expect("HTTP/1.1");
        tokio::spawn(connection);
        let io = TokioIo::new(stage.tls(b"h2").await);
        let (http2, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        (http1, http2)
    });
    let request = |uri: &str| {
        let request = Request::get(uri).header("authorization", format!("Bearer {token}"));
        let request = if uri.starts_with('/') {
            request.header("host", "localhost")
        } else {
            request
        };
        request.body(Full::new(Bytes::new())).expect("a request")
    };
    let (one, two) = (request("/a"), request("https://localhost/b"));
    let draining = stage.runtime.block_on(async {
        // Both have their heads, and wait for their bodies, when the drain begins.
        let first = senders.0.send_request(one).await.expect("a head");
        let second = senders.1.send_request(two).await.expect("a head");
        let draining = std::thread::spawn(move || gateway.drain(true));
        // Nothing new is accepted any more: that is when the drain has begun.
        while TcpStream::connect(stage.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        raw.release();
        raw.release();
        for answer in [first, second] {
            assert_eq!(
                answer
                    .into_body()
                    .collect()
                    .await
                    .expect("a whole body")
                    .to_bytes(),
                "done"
            );
        }
        draining
    });
    draining.join().expect("ended");
    assert_eq!(stage.records().len(), 2, "the log is whole");
    assert!(
        stage
            .records()
            .iter()
            .all(|record| record["complete"] == true)
    );
}

#[test]
fn readiness_fails_first_while_requests_are_served_still() {
    let (_raw, mut scene) = simple();
    scene.more = String::new();
    let mut stage = scene.drain("{ delay: 10s, timeout: 5s }").start();
    let admin = stage.gateway().admin_address().expect("an admin address");
    let gateway = stage.gateway.take().expect("running");
    let draining = std::thread::spawn(move || gateway.drain(false));
    while probe(&stage, admin, "/readyz").starts_with("HTTP/1.1 200") {
        std::thread::yield_now();
    }
    assert!(probe(&stage, admin, "/livez").starts_with("HTTP/1.1 200"));
    let answer = stage.call("GET", "/a").portal().send();
    assert_eq!(answer.verdict(), "200");
    assert_eq!(
        answer.header("connection"),
        Some("close"),
        "callers are told to go elsewhere"
    );
    while !draining.is_finished() {
        stage.clock.advance(std::time::Duration::from_secs(1));
        std::thread::yield_now();
    }
    draining.join().expect("ended");
}

#[test]
fn a_changed_policy_is_taken_whole_and_a_faulty_one_changes_nothing() {
    let (_raw, scene) = simple();
    let stage = scene.start();
    let path = stage.folder.path().join("policy.yaml");
    let policy = fs::read_to_string(&path).expect("a policy");
    assert_eq!(stage.call("GET", "/a").portal().send().verdict(), "200");

    fs::write(
        &path,
        policy.replace("apps: [marketing-portal]", "apps: [marketing-portl]"),
    )
    .expect("written");
    stage.until("the refusal", |stage| {
        stage.clock.advance(std::time::Duration::from_secs(1));
        stage.gateway().reloads().borrow().refused == 1
    });
    let fault = stage
        .gateway()
        .reloads()
        .borrow()
        .fault
        .clone()
        .expect("a fault");
    assert!(
        fault.contains("did you mean `marketing-portal`?"),
        "{fault}"
    );
    assert_eq!(
        stage.call("GET", "/a").portal().send().verdict(),
        "200",
        "what was in force stays"
    );

    fs::write(
        &path,
        policy.replace("apps: [marketing-portal]", "apps: [nightly-batch]"),
    )
    .expect("written");
    stage.until("the reload", |stage| {
        stage.clock.advance(std::time::Duration::from_secs(1));
        stage.gateway().reloads().borrow().taken == 1
    });
    assert_eq!(
        stage.call("GET", "/a").portal().send().verdict(),
        "403 app-not-allowed"
    );
    assert_eq!(stage.gateway().reloads().borrow().refused, 1);
}

#[test]
fn the_admin_address_tells_health_and_how_it_goes() {
    let (_raw, scene) = simple();
    let stage = scene.start();
    let admin = stage.gateway().admin_address().expect("an admin address");
    let ready = probe(&stage, admin, "/readyz?verbose");
    assert!(
        ready.starts_with("HTTP/1.1 200") && ready.contains("[+] serving ok"),
        "{ready}"
    );
    assert!(probe(&stage, admin, "/metrics").contains("portcullis_decisions_total"));
    assert!(probe(&stage, admin, "/nowhere").starts_with("HTTP/1.1 404"));
    stage.call("GET", "/a").send();
    stage.until("the count", |stage| {
        let wanted = "portcullis_decisions_total{route=\"all\",decision=\"deny\",reason=\"token-missing\"} 1";
        probe(stage, admin, "/metrics").contains(wanted)
    });
}

#[test]
fn a_refused_head_request_has_no_body_over_either_protocol() {
    let (_raw, scene) = simple();
    let stage = scene.start();
    for call in [stage.call("HEAD", "/a"), stage.call("HEAD", "/a").http2()] {
        let answer = call.send();
        assert_eq!(answer.status, 401);
        assert_eq!(answer.text(), "");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
    }
}
