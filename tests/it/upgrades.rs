//! WebSocket and other protocols on a caller's connection: who may, what passes, and when it ends.

mod ends;
mod libraries;

use std::sync::Arc;

use portcullis::clock::within;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;

use crate::support::{RawBackend, STILL, Scene, Stage, Step, patiently};

/// The handshake of RFC 6455 section 1.3.
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nServer: Kestrel\r\n\r\n";

const HANDSHAKE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A backend that agrees to whatever is asked for, and on whose connections a test then says what it likes.
struct Peer {
    address: String,
    connections: mpsc::Receiver<(String, TcpStream)>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    fn start(scene: &Scene, agreed: &'static str) -> Self {
        let bound = scene.runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = bound.expect("bound");
        let address = listener.local_addr().expect("an address").to_string();
        let (sender, connections) = mpsc::channel(8);
        let task = scene.runtime.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let _ = stream.write_all(agreed.as_bytes()).await;
                let _ = sender.send((head, stream)).await;
            }
        });
        Self {
            address,
            connections,
            task,
        }
    }

    /// The next connection, and the head of the request that came on it.
    async fn next(&mut self) -> (String, TcpStream) {
        let next = patiently(self.connections.recv()).await;
        next.expect("the backend lives")
    }
}

/// A stage on which the portal may open WebSockets at `/ws`, and nobody at `/plain`; `more` is said of the route.
fn stage(peer: &Peer, scene: Scene, more: &str) -> Stage {
    scene
        .backend("peer", &format!("http: 'http://{}', credential: none", peer.address))
        .route("ws", &format!("match: {{ methods: [GET, POST], path: /ws }}, backend: peer, upgrades: [websocket, tcp], allow: [{{ tenants: [contoso], apps: [marketing-portal] }}]{more}"))
        .portal_route("plain", "GET", "/plain", "peer")
        .start()
}

/// Asks for another protocol, and returns the head of the answer.
async fn ask(stream: &mut TlsStream<TcpStream>, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("written");
    stream.flush().await.expect("flushed");
    answer(stream).await
}

async fn answer(stream: &mut TlsStream<TcpStream>) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(patiently(stream.read_u8()).await.expect("an answer"));
    }
    String::from_utf8(head).expect("text")
}

fn request(stage: &Stage, path: &str, fields: &str) -> String {
    let token = stage.portal_token();
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{fields}\r\n"
    )
}

/// Opens a WebSocket of the portal's.
async fn open(stage: &Stage) -> TlsStream<TcpStream> {
    let mut stream = stage.tls(b"http/1.1").await;
    let said = ask(&mut stream, &request(stage, "/ws", HANDSHAKE)).await;
    assert!(said.starts_with("HTTP/1.1 101 "), "{said}");
    stream
}

async fn read<const N: usize>(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> [u8; N] {
    let mut bytes = [0; N];
    let read = patiently(stream.read_exact(&mut bytes)).await;
    read.expect("as much as was said");
    bytes
}

async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A connection that is reset has said all it will.
    let _ = patiently(stream.read_to_end(&mut bytes)).await;
    bytes
}

fn upgraded(stage: &Stage) -> u64 {
    let text = stage.admin("/metrics");
    let mut lines = text.lines();
    let count = lines.find_map(|line| line.strip_prefix("portcullis_connections_upgraded "));
    count.expect("a count").parse().expect("a number")
}

/// The record of the request that opened a connection, which is written when that ends.
fn record(stage: &Stage) -> Value {
    stage.record("the record", |record| record["status"] == 101)
}

#[test]
fn what_caller_and_backend_agree_on_passes_both_ways_as_it_is() {
    let scene = Scene::new();
    let mut peer = Peer::start(&scene, AGREED);
    let stage = stage(&peer, scene, "");
    stage.runtime.block_on(async {
        let mut stream = stage.tls(b"http/1.1").await;
        // What comes right behind the head is the other protocol's, if it comes to that.
        let fields = format!("{HANDSHAKE}Sec-WebSocket-Protocol: chat\r\nX-Functions-Key: planted\r\nX-MS-Client-Principal: planted\r\n");
        let early = request(&stage, "/ws?code=planted&a=1", &fields) + "early";
        let said = ask(&mut stream, &early).await;
        assert!(said.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{said}");
        for field in ["connection: upgrade", "upgrade: websocket", "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "x-request-id: "] {
            assert!(said.contains(&format!("\r\n{field}")), "{field}: {said}");
        }
        for field in ["server", "content-length", "transfer-encoding", "close"] {
            assert!(!said.to_lowercase().contains(field), "{field}: {said}");
        }
        let (head, mut backend) = peer.next().await;
        assert!(head.starts_with("GET /ws?a=1 HTTP/1.1\r\n"), "{head}");
        for field in ["connection: upgrade", "upgrade: websocket", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version: 13", "sec-websocket-protocol: chat"] {
            assert_eq!(head.matches(&format!("\r\n{field}\r\n")).count(), 1, "{field}: {head}");
        }
        assert!(!head.contains("planted") && !head.contains("Bearer"), "{head}");
        assert_eq!(&read(&mut backend).await, b"early");

        // More than any buffer holds, on both sides at once.
        let large: Arc<[u8]> = (0..4 << 20).map(|at: u32| (at % 251) as u8).collect();
        let (mut from_caller, mut to_caller) = tokio::io::split(stream);
        let (mut from_backend, mut to_backend) = backend.into_split();
        let (down, up) = (Arc::clone(&large), Arc::clone(&large));
        let sending = tokio::spawn(async move {
            to_backend.write_all(&down).await.expect("written");
            to_backend
        });
        let saying = tokio::spawn(async move {
            to_caller.write_all(&up).await.expect("written");
            to_caller.flush().await.expect("flushed");
            to_caller
        });
        let (mut heard, mut got) = (vec![0; large.len()], vec![0; large.len()]);
        let (first, second) = tokio::join!(
            patiently(from_caller.read_exact(&mut heard)),
            patiently(from_backend.read_exact(&mut got))
        );
        assert!(first.is_ok() && second.is_ok());
        assert!(*heard == *large && *got == *large, "not what was sent");
        let (to_backend, to_caller) = (sending.await, saying.await);
        drop((to_backend, from_backend));
        // The backend has closed.
        assert_eq!(rest(&mut from_caller).await, b"");
        drop(to_caller);
    });
    let record = record(&stage);
    assert_eq!(record["complete"], true, "{record}");
    assert_eq!(record["decision"], "allow", "{record}");
    assert_eq!(record["sentBytes"], 4 << 20, "{record}");
    stage.until("none", |stage| upgraded(stage) == 0);
}

#[test]
fn who_is_not_let_in_or_asks_for_something_else_reaches_no_backend() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let scene = scene.raw("raw", &raw);
    let stage = scene
        .route("ws", "match: { methods: [GET, POST], path: /ws }, backend: raw, upgrades: [websocket], allow: [{ tenants: [contoso], apps: [marketing-portal] }]")
        .route("batch", "match: { methods: [GET], path: /batch }, backend: raw, upgrades: [websocket], allow: [{ tenants: [contoso], apps: [nightly-batch] }]")
        .portal_route("plain", "GET", "/plain", "raw")
        .start();
    let with = |change: (&str, &str)| {
        assert!(HANDSHAKE.contains(change.0), "{change:?}");
        HANDSHAKE.replacen(change.0, change.1, 1)
    };
    let mut rows = vec![
        ("/plain", HANDSHAKE.to_owned(), "400 upgrade-not-supported"),
        ("/batch", HANDSHAKE.to_owned(), "403 app-not-allowed"),
        ("/none", HANDSHAKE.to_owned(), "404 route-not-found"),
    ];
    for change in [
        ("websocket", "h2c"),
        ("websocket", "tcp"),
        ("websocket", "websocket, h2c"),
        ("websocket", "websocket/13"),
        (
            "Upgrade: websocket",
            "Upgrade: websocket\r\nUpgrade: websocket",
        ),
        ("Connection: Upgrade", "Connection: close"),
        ("Connection: Upgrade\r\n", ""),
        ("Version: 13", "Version: 8"),
        ("Sec-WebSocket-Version: 13\r\n", ""),
        ("dGhlIHNhbXBsZSBub25jZQ==", "short"),
        (
            "Sec-WebSocket-Key: ",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: ",
        ),
        ("Connection", "Content-Length: 4\r\nConnection"),
    ] {
        rows.push(("/ws", with(change), "400 upgrade-not-supported"));
    }
    for (path, fields, expected) in rows {
        let mut wire = stage.wire();
        wire.send(request(&stage, path, &fields));
        let said = wire.until("}");
        let (status, code) = expected.split_once(' ').expect("two words");
        assert!(
            said.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path} {fields}: {said}"
        );
        assert!(
            said.contains(&format!("\"reason\":\"{code}\"")),
            "{path} {fields}: {said}"
        );
        assert!(!said.contains("HTTP/1.1 101"), "{said}");
    }
    // Who brings no token learns nothing of what a route passes on.
    for path in ["/ws", "/plain"] {
        let mut wire = stage.wire();
        wire.send(format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\r\n"
        ));
        let said = wire.until("}");
        assert!(said.starts_with("HTTP/1.1 401 "), "{said}");
    }
    assert_eq!(raw.seen().connections, 0, "{:?}", raw.seen());
}

#[test]
fn an_answer_that_agrees_to_nothing_is_an_answer_like_any_other() {
    let scene = Scene::new();
    let raw = RawBackend::answering(&scene, |head| {
        let is_asked = head.contains("upgrade: websocket");
        let answer = match is_asked {
            true => {
                "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\nContent-Length: 3\r\n\r\nold"
            }
            false => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine",
        };
        vec![Step::text(answer)]
    });
    let stage = scene
        .raw("raw", &raw)
        .route("ws", "match: { methods: [GET], path: /ws }, backend: raw, upgrades: [websocket], allow: [{ tenants: [contoso], apps: [marketing-portal] }]")
        .start();
    let mut wire = stage.wire();
    // What the caller took for the other protocol is its next request, and held to everything that a request is.
    let stranger = "GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n";
    wire.send(request(&stage, "/ws", HANDSHAKE) + stranger);
    let said = wire.until("old");
    assert!(said.starts_with("HTTP/1.1 426 "), "{said}");
    assert!(said.contains("\r\nsec-websocket-version: 8\r\n"), "{said}");
    let said = wire.until("token-missing");
    assert!(said.starts_with("HTTP/1.1 401 "), "{said}");
    wire.until("}");
    wire.send(request(&stage, "/ws", ""));
    let said = wire.until("fine");
    assert!(said.contains("HTTP/1.1 200 "), "{said}");
    let seen = raw.seen();
    assert_eq!((seen.connections, seen.requests.len()), (1, 2), "{seen:?}");
}

#[test]
fn a_101_that_does_not_say_what_was_asked_for_is_no_answer() {
    for (fields, said) in [
        (HANDSHAKE, AGREED.replace("xOo=", "xOO=")),
        (
            HANDSHAKE,
            AGREED.replace("Upgrade: websocket", "Upgrade: h2c"),
        ),
        (
            HANDSHAKE,
            AGREED.replace("Connection: Upgrade", "Connection: close"),
        ),
        (
            HANDSHAKE,
            AGREED.replace("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", ""),
        ),
        ("", AGREED.to_owned()),
    ] {
        let scene = Scene::new();
        let raw = RawBackend::start(
            &scene,
            vec![Step::text(&said), Step::text("planted"), Step::Wait],
        );
        let stage = scene
            .raw("raw", &raw)
            .route("ws", "match: { methods: [GET], path: /ws }, backend: raw, upgrades: [websocket], allow: [{ tenants: [contoso], apps: [marketing-portal] }]")
            .start();
        let mut wire = stage.wire();
        wire.send(request(&stage, "/ws", fields));
        let answer = wire.until("backend-broken");
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert!(!answer.contains("planted"), "{answer}");
        stage.runtime.block_on(raw.saw(|seen| seen.closed == 1));
    }
}

#[test]
fn a_connection_on_which_nothing_is_said_for_a_while_is_nobodys_fault() {
    let mut scene = Scene::new();
    scene.listen =
        "  idleTimeout: 200ms\n  headerTimeout: 200ms\n  minRate: 100000\n  minRateGrace: 1s\n"
            .to_owned();
    let mut peer = Peer::start(&scene, AGREED);
    let stage = stage(&peer, scene, "");
    stage.runtime.block_on(async {
        let mut stream = open(&stage).await;
        let (_, mut backend) = peer.next().await;
        // Three times as long as a connection may be idle that is none.
        let mut byte = [0];
        for _ in 0..4 {
            assert!(within(STILL, stream.read(&mut byte)).await.is_none());
        }
        stream.write_all(b"up").await.expect("written");
        stream.flush().await.expect("flushed");
        assert_eq!(&read(&mut backend).await, b"up");
        backend.write_all(b"down").await.expect("written");
        assert_eq!(&read(&mut stream).await, b"down");
    });
}

#[test]
fn a_connection_holds_its_place_as_long_as_it_lasts() {
    let scene = Scene::new();
    let mut peer = Peer::start(&scene, AGREED);
    let stage = stage(&peer, scene, ", concurrency: { requests: 1, wait: 0s }");
    stage.runtime.block_on(async {
        let stream = open(&stage).await;
        let (_, mut backend) = peer.next().await;
        let mut other = stage.tls(b"http/1.1").await;
        let refused = ask(&mut other, &request(&stage, "/ws", HANDSHAKE)).await;
        assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
        drop(stream);
        assert_eq!(rest(&mut backend).await, b"");
    });
    record(&stage);
    stage.runtime.block_on(open(&stage));
}

#[test]
fn what_passes_is_counted_while_it_passes() {
    let scene = Scene::new();
    let mut peer = Peer::start(&scene, AGREED);
    let more = ", quota: { bytes: 4MiB, per: day, by: [app] }";
    let stage = stage(&peer, scene, more);
    stage.runtime.block_on(async {
        let mut stream = open(&stage).await;
        let (_, mut backend) = peer.next().await;
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..3 {
            stream.write_all(&piece).await.expect("written");
            stream.flush().await.expect("flushed");
            let mut got = vec![0; 1 << 20];
            patiently(backend.read_exact(&mut got)).await.expect("up");
            backend.write_all(&got).await.expect("written");
            patiently(stream.read_exact(&mut got)).await.expect("down");
        }
        let mut other = stage.tls(b"http/1.1").await;
        let refused = ask(&mut other, &request(&stage, "/ws", HANDSHAKE)).await;
        assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
        // What is open goes on.
        backend.write_all(b"down").await.expect("written");
        assert_eq!(&read(&mut stream).await, b"down");
    });
}
