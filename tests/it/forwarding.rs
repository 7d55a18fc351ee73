//! Requests on their way to backends and back.

mod answers;
mod connections;
mod failures;
mod grpc;
mod streams;

use std::io;
use std::net::{IpAddr, SocketAddr};

use futures_util::future::BoxFuture;
use portcullis::net::address::{Found, Resolver, SystemResolver};

use crate::support::{RawBackend, Scene, Stage, Step};

const ALL_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

impl Scene {
    /// Lets the portal call a raw backend on every path.
    fn all_to(self, raw: &RawBackend) -> Self {
        self.raw("raw", raw).all("raw")
    }

    /// The same for a backend that is there already.
    fn all(self, backend: &str) -> Self {
        self.portal_route("all", ALL_METHODS, "/{*rest}", backend)
    }
}

/// A gateway in front of a raw backend that answers every request by these steps.
fn behind(steps: Vec<Step>) -> (RawBackend, Stage) {
    let scene = Scene::new();
    let raw = RawBackend::start(&scene, steps);
    let stage = scene.all_to(&raw).start();
    (raw, stage)
}

/// Knows one name of its own.
struct Named(&'static str, Vec<IpAddr>);

impl Resolver for Named {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Found>> {
        let Self(name, addresses) = self;
        if host != *name {
            return SystemResolver.resolve(host, port);
        }
        let addresses = addresses.iter().map(|ip| SocketAddr::new(*ip, port));
        let found = Found {
            addresses: addresses.collect(),
            holds: None,
        };
        Box::pin(async { Ok(found) })
    }
}

#[test]
fn a_request_is_forwarded_with_what_the_gateway_asserts_and_nothing_that_the_caller_claims() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene
        .raw("raw", &raw)
        .portal_route("all", "GET, POST", "/{*rest}", "raw")
        .start();
    let answer = stage
        .call("POST", "/a/b?x=1&sig=planted-sig&y=%20z")
        .portal()
        .header("x-functions-key", "planted-key")
        .header("x-ms-client-principal-id", "forged")
        .header("x-forwarded-for", "6.6.6.6")
        .header("connection", "x-private")
        .header("x-private", "1")
        .header("x-public", "2")
        .body("hello")
        .send();
    assert_eq!(answer.verdict(), "200");
    assert_eq!(answer.text(), "fine");
    let request = raw.only().to_lowercase();
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    assert!(
        head.starts_with("post /a/b?x=1&y=%20z http/1.1\r\n"),
        "{head}"
    );
    assert_eq!(body, "hello");
    for line in [
        "x-public: 2",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: https",
        "x-forwarded-host: localhost",
        "forwarded: for=127.0.0.1;proto=https",
        "via: 1.1 portcullis",
        "x-ms-client-principal-idp: aad",
    ] {
        assert!(
            head.lines().any(|found| found == line),
            "{line} is missing in {head}"
        );
    }
    for gone in ["planted", "forged", "6.6.6.6", "x-private", "authorization"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    let record = stage.record("the record", |record| record["path"] == "/a/b");
    assert_eq!(record["decision"], "allow");
    assert_eq!(
        record["keysStripped"],
        serde_json::json!(["sig", "x-functions-key", "x-ms-client-principal"])
    );
}

#[test]
fn a_connection_to_a_backend_serves_one_caller_after_the_other() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene.all_to(&raw).start();
    for http2 in [false, true, false] {
        let call = stage.call("POST", "/a").portal().body("hello");
        let call = if http2 { call.http2() } else { call };
        assert_eq!(call.send().text(), "fine");
    }
    let seen = raw.seen();
    assert_eq!((seen.connections, seen.requests.len()), (1, 3), "{seen:?}");
}

#[test]
fn a_connection_that_the_backend_closed_meanwhile_is_replaced_and_the_caller_sees_nothing_of_it() {
    let fine = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
    let (raw, stage) = behind(vec![Step::text(fine), Step::Close]);
    for sent in 1..=3 {
        let answer = stage.call("POST", "/a").portal().body("hello").send();
        assert_eq!(
            (answer.verdict().as_str(), answer.text().as_str()),
            ("200", "fine")
        );
        let seen = raw.seen();
        assert_eq!((seen.connections, seen.requests.len()), (sent, sent));
    }
}

#[test]
fn a_request_that_the_backend_may_have_seen_is_not_sent_twice() {
    let scene = Scene::new();
    let raw = RawBackend::answering(&scene, |request| {
        if request.starts_with("POST /first ") {
            vec![Step::text("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")]
        } else {
            vec![Step::Close]
        }
    });
    let stage = scene.all_to(&raw).start();
    let post = |path: &str| stage.call("POST", path).portal().body("hello").send();
    assert_eq!(post("/first").verdict(), "200");
    assert_eq!(post("/second").verdict(), "502 backend-broken");
    let seen = raw.seen();
    assert_eq!((seen.connections, seen.requests.len()), (1, 2), "{seen:?}");
}

#[test]
fn what_a_backend_sends_unasked_is_nobodys_answer() {
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen";
    let (raw, stage) = behind(vec![Step::text(two)]);
    for sent in 1..=2 {
        assert_eq!(stage.call("GET", "/a").portal().send().text(), "ok");
        assert_eq!(raw.seen().connections, sent);
    }
}
