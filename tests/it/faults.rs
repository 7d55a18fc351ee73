//! The fault matrix of docs/faults.md: each fault is brought about, and comes out as the matrix says.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use portcullis::net::address::{Found, Resolver, resolve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::documents::{bare, marked, read, rows, spans};
use crate::support::{RawBackend, Scene, Stage, Step, patiently};

/// One row, carried out: what the caller saw, and the gateway that it saw it of.
type Carried = (String, Stage);

/// A row, and how its fault is brought about.
type Fault = (&'static str, fn() -> Carried);

/// Every row of the matrix.
const FAULTS: &[Fault] = &[
    ("the backend's name does not resolve", || {
        let mut scene = Scene::new();
        scene.resolver = Arc::new(NobodyKnows);
        let stage = scene
            .backend(
                "b",
                "http: 'https://gone.test', credential: none, ca: ca.crt",
            )
            .route("r", ROUTE)
            .start();
        called(stage)
    }),
    ("nobody listens at the backend's address", || {
        let scene = Scene::new();
        let address = nobody(&scene);
        called(backend(scene, &format!("http://{address}"), "").start())
    }),
    ("the backend takes the connection and never answers", || {
        called(doing(vec![Step::Wait], "timeouts: { firstByte: 100ms }"))
    }),
    ("the backend sends a head that never ends", || {
        let steps = vec![Step::text("HTTP/1.1 200 OK\r\nx: y"), Step::Wait];
        called(doing(steps, "timeouts: { firstByte: 100ms }"))
    }),
    (
        "the backend closes the connection instead of answering",
        || called(doing(vec![Step::Close], "")),
    ),
    ("the backend answers what is no HTTP", || {
        called(doing(vec![Step::text("SSH-2.0-OpenSSH_9.2\r\n\r\n")], ""))
    }),
    ("the backend dies in the middle of a body", || {
        let scene = Scene::new();
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
        let steps = vec![Step::text(head), Step::Wait, Step::Close];
        let raw = RawBackend::start(&scene, steps);
        let stage = scene.raw("b", &raw).route("r", ROUTE).start();
        let mut wire = stage.wire();
        wire.send("GET /a HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let mut said = wire.until("half");
        raw.release();
        said += &wire.rest();
        (seen(said.as_bytes()), stage)
    }),
    ("the backend stops in the middle of a body", || {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
        let steps = vec![Step::text(head), Step::Wait];
        cut(doing(steps, "timeouts: { idle: 100ms }"))
    }),
    (
        "the backend hands over the connection, and nobody asked for that",
        || {
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
            called(doing(vec![Step::text(head), Step::Wait], ""))
        },
    ),
    ("the backend never ends the TLS handshake", || {
        called(deaf("timeouts: { tls: 100ms }"))
    }),
    ("the backend speaks no TLS", || {
        let scene = Scene::new();
        let plain = Plain::start(&scene, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let url = format!("https://{}", plain.0);
        called(backend(scene, &url, "ca: ca.crt").start())
    }),
    (
        "the backend failed so often that its breaker is open",
        || {
            let stage = doing(vec![Step::Close], "breaker: { failures: 2 }");
            for _ in 0..2 {
                assert_eq!(call(&stage), "502 backend-broken");
            }
            called(stage)
        },
    ),
    (
        "one of two endpoints is gone, and what fails is sent again",
        || {
            let scene = Scene::new();
            let (gone, raw) = (nobody(&scene), RawBackend::ok(&scene, "fine"));
            let urls = format!("[http://{gone}, {}]", raw.url());
            let rest = format!("http: {urls}, credential: none, retry: {{}}");
            let stage = scene.backend("b", &rest).route("r", ROUTE).start();
            for _ in 0..8 {
                assert_eq!(call(&stage), "200");
            }
            assert_eq!(raw.seen().requests.len(), 8);
            called(stage)
        },
    ),
    (
        "as many requests as the backend takes are under way",
        || {
            let more = "concurrency: { requests: 1, wait: 0s }";
            second_of_two(doing(vec![Step::Wait], more))
        },
    ),
    ("a caller calls too often", || {
        let limit = "rateLimit: { requests: 1, per: 1h, by: [route] }";
        second(limited(limit))
    }),
    ("a caller has used up its quota", || {
        second(limited("quota: { requests: 1, per: month, by: [route] }"))
    }),
    ("a caller asks for too much at once", || {
        let scene = Scene::new();
        let raw = RawBackend::start(&scene, vec![Step::Wait]);
        let route = format!("{ROUTE}, concurrency: {{ requests: 1, wait: 0s }}");
        second_of_two(scene.raw("b", &raw).route("r", &route).start_with(raw))
    }),
    (
        "an address calls too often before anybody knows who it is",
        || {
            second(with(
                "limits: { beforeAuthentication: { requests: 1, per: 1h } }",
            ))
        },
    ),
    ("more is under way than the gateway takes", || {
        let mut scene = Scene::new();
        let raw = RawBackend::start(&scene, vec![Step::Wait]);
        scene.more = "limits: { maxRequests: 2 }".to_owned();
        let stage = scene.raw("b", &raw).portal_route("r", "GET", "/a", "b");
        let stage = stage.start_with(raw);
        let (mut asked, token) = (Vec::new(), stage.portal_token());
        for under_way in ["1\n", "2\n"] {
            let sending = stage.call("GET", "/a").bearer(&token).sending();
            asked.push(stage.runtime.spawn(sending));
            let gauge = format!("portcullis_requests_under_way {under_way}");
            stage.until("one more under way", |stage| {
                stage.admin("/metrics").contains(&gauge)
            });
        }
        let seen = call(&stage);
        asked.iter().for_each(tokio::task::JoinHandle::abort);
        (seen, stage)
    }),
    ("a caller's head is too large", || {
        let stage = with("");
        let filler = "y".repeat(40 * 1024);
        said_to(
            stage,
            &format!("GET /a HTTP/1.1\r\nhost: localhost\r\nx: {filler}\r\n\r\n"),
        )
    }),
    ("a caller's head never ends", || {
        let stage = listening("headerTimeout: 100ms");
        said_to(stage, "GET /a HTTP/1.1\r\nhost: localhost\r\nx: y")
    }),
    ("a caller's body is longer than the route takes", || {
        let stage = limited("maxBody: 4");
        said_to(
            stage,
            "GET /a HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 5\r\n\r\n12345",
        )
    }),
    ("a caller's body has no end and no length", || {
        let stage = limited("maxBody: 4");
        let chunks = "2\r\n12\r\n".repeat(1000);
        said_to(
            stage,
            &format!(
                "GET /a HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"
            ),
        )
    }),
    ("a caller's body is wrongly framed", || {
        let stage = with("");
        said_to(
            stage,
            "GET /a HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n",
        )
    }),
    ("a caller leaves before the answer", || {
        let scene = Scene::new();
        let raw = RawBackend::start(&scene, vec![Step::Wait]);
        let stage = scene.raw("b", &raw).route("r", ROUTE).start();
        let asked = stage.runtime.spawn(stage.call("GET", "/a").sending());
        stage
            .runtime
            .block_on(patiently(raw.saw(|seen| seen.requests.len() == 1)));
        asked.abort();
        stage
            .runtime
            .block_on(patiently(raw.saw(|seen| seen.closed == 1)));
        ("closed".to_owned(), stage)
    }),
    ("a caller takes nothing of an answer", || {
        let mut scene = Scene::new();
        let raw = RawBackend::ok(&scene, &"x".repeat(32 * 1024 * 1024));
        scene.listen = "  idleTimeout: 200ms\n".to_owned();
        let stage = scene.raw("b", &raw).route("r", ROUTE).start_with(raw);
        let mut wire = stage.wire();
        wire.send("GET /a HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stage.until("a stalled connection", |stage| {
            counted(
                stage,
                r#"portcullis_connections_closed_total{reason="stalled"}"#,
            ) == 1
        });
        let seen = seen(wire.rest().as_bytes());
        (seen, stage)
    }),
    ("a caller says nothing on a new connection", || {
        let stage = listening("handshakeTimeout: 100ms");
        let seen = stage.runtime.block_on(silent(stage.address));
        (seen, stage)
    }),
    (
        "a caller opens more connections than an address may have",
        || {
            let stage = listening("maxConnectionsPerAddress: 1");
            let first = stage.runtime.block_on(stage.tls(b"http/1.1"));
            let seen = stage.runtime.block_on(silent(stage.address));
            drop(first);
            (seen, stage)
        },
    ),
    ("the token of a caller on a WebSocket ends", || {
        let scene = Scene::new();
        let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        let raw = RawBackend::start(&scene, vec![Step::text(agreed), Step::Wait]);
        let route = "match: { methods: [GET], path: /a }, backend: b, upgrades: [websocket], allow: [{ tenants: [contoso] }]";
        let stage = scene.raw("b", &raw).route("r", route).start_with(raw);
        let token = stage.portal_token();
        let mut wire = stage.wire();
        wire.send(format!("GET /a HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"));
        let said = wire.until("\r\n\r\n");
        stage.clock.advance(Duration::from_hours(2));
        let seen = seen((said + &wire.rest()).as_bytes());
        (seen, stage)
    }),
    ("nobody listens at the collector's address", || {
        let scene = Scene::new();
        let address = nobody(&scene);
        exported(scene, &format!("http://{address}"), "failed")
    }),
    ("the collector refuses what it is sent", || {
        let scene = Scene::new();
        let refusal = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
        let collector = RawBackend::start(&scene, vec![Step::text(refusal)]);
        let url = collector.url();
        std::mem::forget(collector);
        exported(scene, url.trim_end_matches('/'), "refused")
    }),
    (
        "the decision log's disk is full, and lines may be lost",
        || {
            // It takes nothing, as a disk that is full.
            let log = "decisionLog: { path: /dev/full, whenFull: drop }";
            called(with(&format!("telemetry: {{ {log} }}")))
        },
    ),
];

const ROUTE: &str = "match: { methods: [GET], path: /a }, backend: b, public: true";

/// Knows no name but this machine's.
struct NobodyKnows;

impl Resolver for NobodyKnows {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, std::io::Result<Found>> {
        async move {
            match host {
                "gone.test" => Err(std::io::ErrorKind::NotFound.into()),
                host => resolve(host, port).await,
            }
        }
        .boxed()
    }
}

/// An address at which nobody listens.
fn nobody(scene: &Scene) -> SocketAddr {
    let listening = tokio::net::TcpListener::bind("127.0.0.1:0");
    let listener = scene.runtime.block_on(listening).expect("bound");
    listener.local_addr().expect("an address")
}

/// Somebody who says the same to everybody, or nothing.
struct Plain(SocketAddr);

impl Plain {
    fn start(scene: &Scene, says: &'static [u8]) -> Self {
        let listening = tokio::net::TcpListener::bind("127.0.0.1:0");
        let listener = scene.runtime.block_on(listening).expect("bound");
        let address = listener.local_addr().expect("an address");
        scene.runtime.spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(says).await;
                held.push(stream);
            }
        });
        Self(address)
    }
}

fn backend(scene: Scene, url: &str, more: &str) -> Scene {
    let rest = format!("http: '{url}', credential: none, {more}");
    scene
        .backend("b", rest.trim_end_matches(", "))
        .route("r", ROUTE)
}

/// A backend that does this with every request.
fn doing(steps: Vec<Step>, more: &str) -> Stage {
    let scene = Scene::new();
    let raw = RawBackend::start(&scene, steps);
    let url = raw.url();
    backend(scene, &url, more).start_with(raw)
}

/// A backend that takes connections and says nothing at all.
fn deaf(more: &str) -> Stage {
    let scene = Scene::new();
    let plain = Plain::start(&scene, b"");
    backend(
        scene,
        &format!("https://{}", plain.0),
        &format!("ca: ca.crt, {more}"),
    )
    .start()
}

/// An ordinary backend, and something more to say of the route.
fn limited(more: &str) -> Stage {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let route = format!("{ROUTE}, {more}");
    scene.raw("b", &raw).route("r", &route).start_with(raw)
}

/// An ordinary backend, and something more to say in gateway.yaml.
fn with(more: &str) -> Stage {
    let mut scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    scene.more = more.to_owned();
    scene.raw("b", &raw).route("r", ROUTE).start_with(raw)
}

/// What a caller sees while its span is lost on the way to the collector, for this reason.
fn exported(mut scene: Scene, collector: &str, why: &str) -> Carried {
    let raw = RawBackend::ok(&scene, "fine");
    scene.more = format!("telemetry: {{ otlp: {{ endpoint: '{collector}', signals: [traces] }} }}");
    let stage = scene.raw("b", &raw).route("r", ROUTE).start_with(raw);
    let seen = call(&stage);
    let dropped =
        format!("portcullis_telemetry_dropped_total{{signal=\"traces\",reason=\"{why}\"}}");
    stage.until("the loss", |stage| {
        stage.clock.advance(Duration::from_secs(1));
        counted(stage, &dropped) > 0
    });
    (seen, stage)
}

/// An ordinary backend, and something more to say of the listener.
fn listening(more: &str) -> Stage {
    let mut scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    scene.listen = format!("  {more}\n");
    scene.raw("b", &raw).route("r", ROUTE).start_with(raw)
}

trait StartWith {
    /// Starts the gateway with a backend that lasts as long as the test.
    fn start_with(self, raw: RawBackend) -> Stage;
}

impl StartWith for Scene {
    fn start_with(self, raw: RawBackend) -> Stage {
        // It ends with the runtime that it runs on, which the stage holds.
        std::mem::forget(raw);
        self.start()
    }
}

fn call(stage: &Stage) -> String {
    stage.call("GET", "/a").send().verdict()
}

fn called(stage: Stage) -> Carried {
    (call(&stage), stage)
}

fn second(stage: Stage) -> Carried {
    assert_eq!(call(&stage), "200");
    called(stage)
}

/// What the second of two sees that are under way at once.
fn second_of_two(stage: Stage) -> Carried {
    let first = stage.runtime.spawn(stage.call("GET", "/a").sending());
    stage.until("one under way", |stage| {
        let text = stage.admin("/metrics");
        let mut lines = text.lines();
        lines.any(|line| {
            line.starts_with("portcullis_concurrency_requests{") && line.ends_with(" 1")
        })
    });
    let seen = call(&stage);
    first.abort();
    (seen, stage)
}

/// What comes of an answer that is cut off.
fn cut(stage: Stage) -> Carried {
    said_to(stage, "GET /a HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

fn said_to(stage: Stage, request: &str) -> Carried {
    let said = stage.raw(request.as_bytes());
    (seen(said.as_bytes()), stage)
}

/// An answer in the words of the matrix.
fn seen(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return "closed".to_owned();
    };
    let status = head.split(' ').nth(1).expect("a status");
    if status == "101" {
        let why = body.rsplit(|letter: char| !letter.is_ascii_lowercase() && letter != '-');
        return format!("{status} {}", why.into_iter().next().unwrap_or_default());
    }
    let length = head.to_lowercase();
    let length = length.split("content-length: ").nth(1);
    let length: usize = length
        .and_then(|rest| rest.lines().next()?.parse().ok())
        .expect("a length");
    if body.len() < length {
        return format!("{status} cut off");
    }
    let problem: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let reason = problem["reason"].as_str().unwrap_or_default();
    format!("{status} {reason}").trim().to_owned()
}

/// What a caller sees who connects and says nothing.
async fn silent(to: SocketAddr) -> String {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("bound");
    let mut stream = socket.connect(to).await.expect("connected");
    let mut said = Vec::new();
    let _ = patiently(stream.read_to_end(&mut said)).await;
    seen(&said)
}

fn counted(stage: &Stage, name: &str) -> u64 {
    let text = stage.admin("/metrics");
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.map_or(0, |value| value.trim().parse().expect("a number"))
}

#[test]
fn every_fault_comes_out_as_the_matrix_says() {
    let page = read("docs/faults.md");
    let matrix = rows(marked(&page, "faults"));
    let told: Vec<String> = matrix.iter().map(|row| bare(&row[0])).collect();
    let known: Vec<&str> = FAULTS.iter().map(|(fault, _)| *fault).collect();
    assert_eq!(told, known);
    for (row, (fault, carry_out)) in matrix.iter().zip(FAULTS) {
        let (seen, stage) = carry_out();
        assert_eq!(bare(&row[1]), seen, "{fault}");
        let counter = spans(&row[2])[0].to_owned();
        stage.until(fault, |stage| counted(stage, &counter) > 0);
    }
}
