//! Backends that cannot be reached, are not who they should be, are late or break off: each failure
//! has its own reason, in the answer and in the record.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use portcullis::demo::ca::Ca;
use portcullis::demo::serve::{Served, serve};
use portcullis::running::{Gateway, Options};
use socket2::{Domain, Socket, Type};

use super::{Named, behind};
use crate::support::{RawBackend, Scene, Stage, Step};

const SHORT: &str = "timeouts: { connect: 200ms, tls: 200ms, firstByte: 300ms, idle: 300ms }";

/// What the caller and the record say of a request to a backend that fails.
fn verdict(stage: &Stage) -> (String, String) {
    let answer = stage.call("GET", "/a").portal().send();
    let record = stage.record("the record", |record| record["path"] == "/a");
    assert_eq!(record["reason"], answer.reason(), "{record}");
    assert_eq!(record["status"], answer.status.as_u16(), "{record}");
    let status = answer.header("proxy-status").expect("Proxy-Status");
    (answer.verdict(), status.to_owned())
}

fn failure(verdict: &str, error: &str) -> (String, String) {
    (verdict.to_owned(), format!("portcullis; error={error}"))
}

/// A port that is taken, on which nobody listens.
fn silent(listen: Option<i32>) -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("bound");
    if let Some(backlog) = listen {
        socket.listen(backlog).expect("listening");
    }
    let address = socket.local_addr().expect("an address");
    (socket, address.as_socket().expect("IP"))
}

#[test]
fn a_port_on_which_nobody_listens_is_a_refused_connection() {
    let (_held, address) = silent(None);
    let stage = Scene::new()
        .backend("b", &format!("http: 'http://{address}', credential: none"))
        .all("b")
        .start();
    let expected = failure("502 backend-connection-refused", "connection_refused");
    assert_eq!(verdict(&stage), expected);
}

#[test]
fn a_backend_that_takes_no_connection_in_time_is_late() {
    let (_held, address) = silent(Some(0));
    // Fills the queue of connections that nobody accepts, until the kernel leaves one unanswered.
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        queue.push(stream);
    }
    let stage = Scene::new()
        .backend(
            "b",
            &format!("http: 'http://{address}', credential: none, {SHORT}"),
        )
        .all("b")
        .start();
    let expected = failure("504 backend-connect-timeout", "connection_timeout");
    assert_eq!(verdict(&stage), expected);
}

#[test]
fn a_handshake_that_nobody_answers_is_late_as_well() {
    let (_held, address) = silent(Some(16));
    let url = format!("https://{address}");
    let stage = Scene::new()
        .backend(
            "b",
            &format!("http: '{url}', credential: none, ca: ca.crt, {SHORT}"),
        )
        .all("b")
        .start();
    let expected = failure("504 backend-tls-timeout", "connection_timeout");
    assert_eq!(verdict(&stage), expected);
}

#[test]
fn a_backend_that_does_not_answer_in_time_is_late_and_its_connection_is_closed() {
    let scene = Scene::new();
    let raw = RawBackend::start(&scene, vec![Step::Wait]);
    let url = raw.url();
    let stage = scene
        .backend("b", &format!("http: '{url}', credential: none, {SHORT}"))
        .all("b")
        .start();
    let expected = failure("504 backend-timeout", "http_response_timeout");
    assert_eq!(verdict(&stage), expected);
    stage.until("the end", |_| raw.seen().closed == 1);
}

#[test]
fn an_answer_that_stalls_is_broken_off_and_the_record_says_why() {
    let scene = Scene::new();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let raw = RawBackend::start(&scene, vec![Step::text(head), Step::Wait]);
    let url = raw.url();
    let stage = scene
        .backend("b", &format!("http: '{url}', credential: none, {SHORT}"))
        .all("b")
        .start();
    let mut wire = stage.wire();
    let token = stage.portal_token();
    wire.send(format!(
        "GET /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
    ));
    let text = wire.rest();
    assert!(text.ends_with("5\r\nhello\r\n"), "{text}");
    let record = stage.record("the record", |record| record["path"] == "/a");
    assert_eq!(record["reason"], "backend-timeout", "{record}");
    assert_eq!(record["complete"], false, "{record}");
    assert_eq!(record["sentBytes"], 5, "{record}");
    stage.until("the end", |_| raw.seen().closed == 1);
}

#[test]
fn an_answer_that_ends_too_early_is_broken_off_for_the_caller_too() {
    for (answer, sent) in [
        // Not a length that ends like a body by chunks.
        ("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello", 5),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            5,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n",
            5,
        ),
    ] {
        let (_raw, stage) = behind(vec![Step::text(answer), Step::Close]);
        let mut wire = stage.wire();
        let token = stage.portal_token();
        wire.send(format!(
            "GET /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        ));
        let text = wire.rest();
        assert!(!text.contains("0\r\n\r\n"), "{text}");
        let record = stage.record("the record", |record| record["path"] == "/a");
        assert_eq!(record["reason"], "backend-broken", "{record}");
        assert_eq!(record["complete"], false, "{record}");
        assert_eq!(record["sentBytes"], sent, "{record}");
    }
}

#[test]
fn what_is_no_answer_is_a_broken_backend() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: 1\r\n".repeat(2000));
    for answer in [
        "",
        "HTTP/1.1 ",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "this is not HTTP\r\n\r\n",
        "HTTP/1.1 twohundred OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "\0\0\0\x04\0\0\0\0\0",
        &many,
    ] {
        let (_raw, stage) = behind(vec![Step::text(answer), Step::Close]);
        let expected = failure("502 backend-broken", "connection_terminated");
        assert_eq!(verdict(&stage), expected, "{answer}");
    }
}

#[test]
fn a_connection_on_which_something_odd_was_said_serves_no_other_request() {
    for (answer, connections) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", 1),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", 2),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na",
            2,
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", 2),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            2,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            2,
        ),
    ] {
        let (raw, stage) = behind(vec![Step::text(answer)]);
        for _ in 0..2 {
            stage.call("GET", "/a").portal().send();
        }
        assert_eq!(raw.seen().connections, connections, "{answer}");
    }
}

/// A backend with a certificate for loopback names, of the world's CA or another, called as `host`.
fn secure(other: Option<Ca>, host: &str) -> (Served, Stage) {
    let mut scene = Scene::new();
    scene.resolver = Arc::new(Named(
        "elsewhere.test",
        vec!["127.0.0.1".parse().expect("IP")],
    ));
    let ca = other.as_ref().unwrap_or(&scene.world.ca);
    let tls = ca.server_config(&[b"http/1.1"]).expect("TLS");
    let answer = |_| async { Some(http::Response::new(Full::new(Bytes::from("fine")))) };
    let served = scene.runtime.block_on(serve(Some(tls), answer));
    let served = served.expect("served");
    let url = format!("https://{host}:{}", served.address.port());
    let stage = scene
        .backend("b", &format!("http: '{url}', credential: none, ca: ca.crt"))
        .all("b")
        .start();
    (served, stage)
}

#[test]
fn a_backend_must_prove_its_name_by_a_certificate_of_its_ca() {
    let (_served, stage) = secure(None, "localhost");
    assert_eq!(stage.call("GET", "/a").portal().send().text(), "fine");

    let expected = failure("502 backend-tls", "tls_protocol_error");
    let (_served, stage) = secure(Some(Ca::new().expect("a CA")), "localhost");
    assert_eq!(verdict(&stage), expected, "another CA");

    let (_served, stage) = secure(None, "elsewhere.test");
    assert_eq!(verdict(&stage), expected, "another name");
}

#[test]
fn a_backend_that_speaks_no_tls_is_not_spoken_to_without() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let url = raw.url().replace("http://", "https://");
    let short = "timeouts: { tls: 2s }";
    let stage = scene
        .backend(
            "b",
            &format!("http: '{url}', credential: none, ca: ca.crt, {short}"),
        )
        .all("b")
        .start();
    let answer = stage.call("GET", "/a").portal().send();
    // The raw backend waits for the end of a request that never comes.
    assert_eq!(answer.verdict(), "504 backend-tls-timeout");
    assert!(raw.seen().requests.is_empty());
}

#[test]
fn a_name_that_leads_to_the_metadata_service_is_not_called() {
    for addresses in [
        vec!["169.254.169.254"],
        vec!["127.0.0.1", "169.254.169.254"],
        vec!["::ffff:169.254.169.254"],
        vec!["fe80::1"],
        vec!["168.63.129.16"],
        vec!["0.0.0.0"],
    ] {
        let mut scene = Scene::new();
        let raw = RawBackend::ok(&scene, "secret");
        let port = raw.url().rsplit_once(':').expect("a port").1.to_owned();
        let ips = addresses.iter().map(|ip| ip.parse().expect("IP")).collect();
        scene.resolver = Arc::new(Named("inner.test", ips));
        let url = format!("https://inner.test:{port}");
        let stage = scene
            .backend("b", &format!("http: '{url}', credential: none, ca: ca.crt"))
            .all("b")
            .start();
        let expected = failure("502 backend-address-refused", "destination_ip_prohibited");
        assert_eq!(verdict(&stage), expected, "{addresses:?}");
        assert_eq!(raw.seen().connections, 0, "{addresses:?}");
    }
}

#[test]
fn plain_http_goes_to_this_machine_alone_whatever_a_name_says() {
    let mut scene = Scene::new();
    scene.resolver = Arc::new(Named("localhost", vec!["192.0.2.1".parse().expect("IP")]));
    // The world itself is on localhost, so this gateway knows no keys and needs none.
    let stage = scene
        .backend("b", "http: 'http://localhost:9', credential: none")
        .route(
            "open",
            "match: { methods: [GET], path: '/a' }, backend: b, public: true",
        )
        .start_unready();
    let expected = failure("502 backend-address-refused", "destination_ip_prohibited");
    assert_eq!(verdict(&stage), expected);
}

#[test]
fn a_name_that_nobody_knows_is_told_from_a_refused_connection() {
    let mut scene = Scene::new();
    scene.resolver = Arc::new(Named("gone.test", vec![]));
    let stage = scene
        .backend(
            "b",
            "http: 'https://gone.test', credential: none, ca: ca.crt",
        )
        .all("b")
        .start();
    assert_eq!(verdict(&stage), failure("502 backend-dns", "dns_error"));
}

#[test]
fn addresses_that_hand_out_credentials_are_refused_before_the_gateway_starts() {
    for url in [
        "https://169.254.169.254/metadata",
        "https://[::ffff:169.254.169.254]",
        "https://[fe80::1]",
        "https://168.63.129.16",
        "https://0.0.0.0",
        "https://100.100.100.200",
    ] {
        let scene = Scene::new()
            .backend("b", &format!("http: '{url}', credential: none"))
            .all("b");
        let folder = tempfile::tempdir().expect("a folder");
        let config = scene.write(folder.path());
        let Err(error) = Gateway::start(&config, Options::system()) else {
            panic!("{url} was taken");
        };
        let error = error.to_string();
        assert!(
            error.contains("this address may not be a backend"),
            "{error}"
        );
        let checked = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .arg("check")
            .arg(&config)
            .output()
            .expect("run");
        assert_eq!(checked.status.code(), Some(1), "{url}");
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(said.contains("this address may not be a backend"), "{said}");
    }
}

#[test]
fn a_caller_that_breaks_off_its_body_is_not_the_backends_fault() {
    let (raw, stage) = behind(vec![Step::text(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    )]);
    let mut wire = stage.wire();
    let token = stage.portal_token();
    wire.send(format!(
        "POST /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 10\r\n\r\nhello"
    ));
    stage.until("a connection", |_| raw.seen().connections == 1);
    drop(wire);
    let record = stage.record("the record", |record| record["path"] == "/a");
    let reason = record["reason"].as_str().expect("a reason");
    assert!(
        ["caller-left", "request-body-broken"].contains(&reason),
        "{record}"
    );
    stage.until("the end", |_| raw.seen().closed == 1);
    assert!(raw.seen().requests.is_empty());
}

#[test]
fn a_connection_that_the_backend_resets_is_a_broken_backend() {
    let (raw, stage) = behind(vec![Step::Reset]);
    let expected = failure("502 backend-broken", "connection_terminated");
    assert_eq!(verdict(&stage), expected);
    assert_eq!(raw.seen().requests.len(), 1);
}
