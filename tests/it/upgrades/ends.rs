//! When it ends, and what the caller is told.

use std::time::Duration;

use portcullis::clock::Stopwatch;
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{AGREED, HANDSHAKE, Peer, ask, open, read, record, request, rest, stage, upgraded};
use crate::support::{RawBackend, Scene, Stage, Step};

const TCP: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

/// A frame by which the gateway says that it closes.
fn close(code: u16, why: &str) -> Vec<u8> {
    let mut frame = vec![0x88, 2 + why.len() as u8];
    frame.extend(code.to_be_bytes());
    frame.extend(why.as_bytes());
    frame
}

/// A stage, and both ends of a WebSocket of the portal's; `more` is said of the route.
fn websocket(more: &str) -> (Stage, TlsStream<TcpStream>, TcpStream) {
    let scene = Scene::new();
    let mut peer = Peer::start(&scene, AGREED);
    let stage = stage(&peer, scene, more);
    let (stream, backend) = opened(&stage, &mut peer);
    (stage, stream, backend)
}

/// Both ends of a WebSocket of the portal's.
fn opened(stage: &Stage, peer: &mut Peer) -> (TlsStream<TcpStream>, TcpStream) {
    stage.runtime.block_on(async {
        let stream = open(stage).await;
        (stream, peer.next().await.1)
    })
}

#[test]
fn it_ends_with_the_token_and_the_caller_is_told_between_two_frames() {
    let (stage, mut stream, mut backend) = websocket("");
    stage.runtime.block_on(async {
        backend.write_all(b"\x81\x03one").await.expect("written");
        assert_eq!(&read(&mut stream).await, b"\x81\x03one");
        stage.clock.advance(Duration::from_hours(2));
        assert_eq!(rest(&mut stream).await, close(1008, "token-expired"));
        assert_eq!(rest(&mut backend).await, b"");
    });
    let record = record(&stage);
    assert_eq!(record["reason"], "token-expired", "{record}");
    assert_eq!(record["sentBytes"], 5 + 17, "{record}");
}

#[test]
fn a_frame_that_is_not_whole_in_time_is_the_last() {
    let (stage, mut stream, mut backend) = websocket("");
    stage.runtime.block_on(async {
        backend.write_all(b"\x82\x04tw").await.expect("written");
        assert_eq!(&read(&mut stream).await, b"\x82\x04tw");
        stage.clock.advance(Duration::from_hours(2));
        // What would look like a frame in the middle of another.
        assert_eq!(rest(&mut stream).await, b"");
    });
}

#[test]
fn it_ends_for_who_takes_nothing_too_and_nothing_more_of_theirs_arrives() {
    let (stage, stream, backend) = websocket("");
    stage.runtime.block_on(async {
        let (mut from_backend, mut to_backend) = backend.into_split();
        let (_untaken, mut to_gateway) = tokio::io::split(stream);
        // More than the kernel and the gateway hold together, of which the caller takes nothing.
        let filling = tokio::spawn(async move {
            let frame = [
                &b"\x82\x7f\x00\x00\x00\x00\x04\x00\x00\x00"[..],
                &vec![b'x'; 64 << 20],
            ]
            .concat();
            let _ = to_backend.write_all(&frame).await;
        });
        to_gateway.write_all(b"heard").await.expect("written");
        to_gateway.flush().await.expect("flushed");
        assert_eq!(&read(&mut from_backend).await, b"heard");
        stage.clock.advance(Duration::from_hours(2));
        // The caller goes on saying something as long as anybody listens.
        let saying = async {
            loop {
                if to_gateway.write_all(b"more").await.is_err() || to_gateway.flush().await.is_err()
                {
                    return;
                }
                portcullis::clock::pause(Duration::from_millis(20)).await;
            }
        };
        let heard = async {
            let heard = rest(&mut from_backend).await;
            assert!(heard.len() < 4 * 100, "{} bytes arrived", heard.len());
        };
        tokio::join!(saying, heard);
        filling.abort();
    });
    assert_eq!(record(&stage)["reason"], "token-expired");
}

#[test]
fn what_is_no_websocket_ends_without_a_word() {
    let scene = Scene::new();
    let mut peer = Peer::start(&scene, TCP);
    let stage = stage(&peer, scene, "");
    stage.runtime.block_on(async {
        let mut stream = stage.tls(b"http/1.1").await;
        let asking = request(&stage, "/ws", "Connection: upgrade\r\nUpgrade: TCP\r\n");
        let said = ask(&mut stream, &asking.replacen("GET", "POST", 1)).await;
        assert!(said.starts_with("HTTP/1.1 101 "), "{said}");
        assert!(said.contains("\r\nupgrade: tcp\r\n"), "{said}");
        let (head, mut backend) = peer.next().await;
        assert!(head.contains("\r\nupgrade: tcp\r\n"), "{head}");
        backend.write_all(b"text").await.expect("written");
        assert_eq!(&read(&mut stream).await, b"text");
        stage.clock.advance(Duration::from_hours(2));
        assert_eq!(rest(&mut stream).await, b"");
    });
    assert_eq!(record(&stage)["reason"], "token-expired");
}

#[test]
fn it_ends_when_the_policy_would_not_let_the_caller_in_any_more() {
    for (from, to, reason) in [
        (
            "apps: [marketing-portal] }]",
            "apps: [nightly-batch] }]",
            "app-not-allowed",
        ),
        (
            "upgrades: [websocket, tcp]",
            "upgrades: [tcp]",
            "upgrade-not-supported",
        ),
        ("path: /ws", "path: /other", "route-not-found"),
        (
            "/ws }, backend: peer",
            "/ws }, backend: spare",
            "route-not-found",
        ),
        (
            "peer: { http: 'http://127.0.0.1:",
            "peer: { http: 'http://127.0.0.2:",
            "route-not-found",
        ),
        (
            "methods: [GET, POST], path: /ws }, backend: peer, upgrades: [websocket, tcp]",
            "methods: [POST], path: /ws }, backend: peer, upgrades: [tcp]",
            "method-not-allowed",
        ),
    ] {
        let scene = Scene::new();
        let mut peer = Peer::start(&scene, AGREED);
        let scene = scene.backend("spare", "http: 'http://127.0.0.1:9', credential: none");
        let stage = stage(&peer, scene, "");
        let (mut stream, mut backend) = opened(&stage, &mut peer);
        stage.change_policy(|policy| {
            assert!(policy.contains(from), "{policy}");
            policy.replacen(from, to, 1)
        });
        stage.runtime.block_on(async {
            assert_eq!(rest(&mut stream).await, close(1008, reason), "{reason}");
            assert_eq!(rest(&mut backend).await, b"");
        });
        assert_eq!(record(&stage)["reason"], reason);
    }
}

#[test]
fn it_ends_for_those_alone_whom_a_change_concerns() {
    let scene = Scene::new();
    let mut peer = Peer::start(&scene, AGREED);
    let scene = scene.route("other", "match: { methods: [GET], path: /other }, backend: peer, upgrades: [websocket], allow: [{ tenants: [contoso], apps: [marketing-portal] }]");
    let stage = stage(&peer, scene, "");
    let (mut stream, mut backend) = opened(&stage, &mut peer);
    let mut other = stage.runtime.block_on(async {
        let mut stream = stage.tls(b"http/1.1").await;
        let said = ask(&mut stream, &request(&stage, "/other", HANDSHAKE)).await;
        assert!(said.starts_with("HTTP/1.1 101 "), "{said}");
        stream
    });
    stage.change_policy(|policy| policy.replace("path: /other", "path: /moved"));
    // Both have been decided on again once the one has ended, for they began together.
    stage.runtime.block_on(async {
        assert_eq!(rest(&mut other).await, close(1008, "route-not-found"));
        backend.write_all(b"\x81\x00").await.expect("written");
        assert_eq!(&read(&mut stream).await, b"\x81\x00");
    });
    stage.until("one of them", |stage| upgraded(stage) == 1);
}

#[test]
fn a_gateway_that_leaves_says_so_and_waits_for_nobody() {
    let scene = Scene::new().drain("{ delay: 0s, timeout: 1m }");
    let mut peer = Peer::start(&scene, AGREED);
    let mut stage = stage(&peer, scene, "");
    let (mut stream, mut backend) = opened(&stage, &mut peer);
    let gateway = stage.gateway.take().expect("running");
    let watch = Stopwatch::start();
    let draining = std::thread::spawn(move || gateway.drain(true));
    stage.runtime.block_on(async {
        assert_eq!(rest(&mut stream).await, close(1001, ""));
        assert_eq!(rest(&mut backend).await, b"");
    });
    drop(stream);
    draining.join().expect("drained");
    assert!(watch.elapsed() < Duration::from_secs(50), "it waited");
    let record = record(&stage);
    assert_eq!(
        (&record["decision"], &record["complete"]),
        (&"allow".into(), &true.into()),
        "{record}"
    );
}

#[test]
fn it_ends_when_nothing_is_said_or_when_its_time_is_over() {
    for more in [
        ", timeouts: { idle: 200ms }",
        ", timeouts: { total: 300ms }",
    ] {
        let (stage, mut stream, mut backend) = websocket(more);
        stage.runtime.block_on(async {
            assert_eq!(rest(&mut stream).await, close(1001, ""), "{more}");
            assert_eq!(rest(&mut backend).await, b"");
        });
        let record = record(&stage);
        assert_eq!(record["decision"], "allow", "{more}: {record}");
    }
}

#[test]
fn who_has_said_all_may_still_listen() {
    let scene = Scene::new();
    let mut peer = Peer::start(&scene, TCP);
    let stage = stage(&peer, scene, "");
    stage.runtime.block_on(async {
        let mut stream = stage.tls(b"http/1.1").await;
        let asking = request(&stage, "/ws", "Connection: upgrade\r\nUpgrade: tcp\r\n");
        ask(&mut stream, &asking).await;
        let (_, mut backend) = peer.next().await;
        stream.write_all(b"all").await.expect("written");
        stream.shutdown().await.expect("half closed");
        assert_eq!(rest(&mut backend).await, b"all");
        backend.write_all(b"understood").await.expect("written");
        drop(backend);
        assert_eq!(rest(&mut stream).await, b"understood");
    });
    assert_eq!(record(&stage)["complete"], true);
}

#[test]
fn who_leaves_is_not_waited_for_on_the_other_side() {
    let (stage, stream, mut backend) = websocket("");
    let socket = SockRef::from(stream.get_ref().0);
    socket.set_linger(Some(Duration::ZERO)).expect("a reset");
    drop(stream);
    assert_eq!(stage.runtime.block_on(rest(&mut backend)), b"");
    record(&stage);
    stage.until("none", |stage| upgraded(stage) == 0);

    let (stage, mut stream, backend) = websocket("");
    let socket = SockRef::from(&backend);
    socket.set_linger(Some(Duration::ZERO)).expect("a reset");
    drop(backend);
    assert_eq!(stage.runtime.block_on(rest(&mut stream)), b"");
    stage.record("the break", |record| record["reason"] == "backend-broken");
}

#[test]
fn how_it_ends_says_nothing_of_an_endpoint_but_a_101_that_is_none_does() {
    let scene = Scene::new();
    let (mut peer, mut other) = (Peer::start(&scene, AGREED), Peer::start(&scene, AGREED));
    let wrong = RawBackend::start(&scene, vec![Step::text(&AGREED.replace("xOo=", "xOO="))]);
    let allow = "allow: [{ tenants: [contoso], apps: [marketing-portal] }]";
    let stage = scene
        .backend("peer", &format!("http: ['http://{}', 'http://{}'], credential: none, ejection: {{ consecutive: 1 }}", peer.address, other.address))
        .backend("wrong", &format!("http: '{}', credential: none, breaker: {{ failures: 1 }}", wrong.url()))
        .route("ws", &format!("match: {{ methods: [GET], path: /ws }}, backend: peer, upgrades: [websocket], {allow}"))
        .route("wrong", &format!("match: {{ methods: [GET], path: /wrong }}, backend: wrong, upgrades: [websocket], {allow}"))
        .start();
    for _ in 0..4 {
        stage.runtime.block_on(async {
            let mut stream = open(&stage).await;
            let (_, backend) = tokio::select! {
                backend = peer.next() => backend,
                backend = other.next() => backend,
            };
            let socket = SockRef::from(&backend);
            socket.set_linger(Some(Duration::ZERO)).expect("a reset");
            drop(backend);
            assert_eq!(rest(&mut stream).await, b"");
        });
    }
    let text = stage.admin("/metrics");
    let ejected = text.lines();
    let ejected: Vec<_> = ejected
        .filter(|line| line.starts_with("portcullis_backend_ejections_total{"))
        .collect();
    assert_eq!(ejected.len(), 2, "{text}");
    assert!(
        ejected.iter().all(|line| line.ends_with(" 0")),
        "{ejected:?}"
    );
    for reason in ["backend-broken", "backend-open"] {
        let mut wire = stage.wire();
        wire.send(request(&stage, "/wrong", HANDSHAKE));
        wire.until(reason);
    }
}
