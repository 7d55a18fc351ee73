//! Names and addresses: which one is dialled, how long an answer holds, and how long a connection does.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use portcullis::clock::{Clock as _, SystemClock};
use portcullis::net::address::{Found, Resolver, SystemResolver};
use socket2::{Domain, Socket, Type};

use super::{OK, before, get};
use crate::support::{RawBackend, Scene, Step};

/// Knows one name, whose addresses a test may change, and how long they hold.
#[derive(Clone)]
struct Moving {
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    asked: Arc<AtomicUsize>,
}

const NAME: &str = "moving.test";

impl Moving {
    fn at(addresses: &[SocketAddr]) -> Self {
        Self {
            addresses: Arc::new(Mutex::new(addresses.to_vec())),
            asked: Arc::default(),
        }
    }

    fn moves_to(&self, addresses: &[SocketAddr]) {
        *self.addresses.lock().expect("not poisoned") = addresses.to_vec();
    }
}

impl Resolver for Moving {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Found>> {
        if host != NAME {
            return SystemResolver.resolve(host, port);
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        let addresses = self.addresses.lock().expect("not poisoned").clone();
        Box::pin(async move {
            if addresses.is_empty() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(Found {
                addresses,
                holds: Some(Duration::from_secs(60)),
            })
        })
    }
}

/// A listener at an address of loopback, with a port.
fn listener(ip: &str, port: u16, backlog: i32) -> Socket {
    let address = SocketAddr::new(ip.parse().expect("an address"), port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("set");
    socket.bind(&address.into()).expect("bound");
    socket.listen(backlog).expect("listening");
    socket.set_nonblocking(true).expect("set");
    socket
}

fn address(socket: &Socket) -> SocketAddr {
    socket
        .local_addr()
        .expect("an address")
        .as_socket()
        .expect("IP")
}

/// A backend on such a listener, which answers every request.
fn fine(scene: &Scene, socket: Socket) -> RawBackend {
    let entered = scene.runtime.enter();
    let listener = tokio::net::TcpListener::from_std(socket.into()).expect("a listener");
    drop(entered);
    RawBackend::on(&scene.runtime, listener, |_| vec![Step::text(OK)])
}

/// The port of the name is the first address's; only the addresses change.
fn stage(mut scene: Scene, moving: &Moving, port: u16) -> crate::support::Stage {
    scene.resolver = Arc::new(moving.clone());
    before(
        scene,
        &[format!("https://{NAME}:{port}")],
        "ca: ca.crt, timeouts: { connect: 5s, tls: 1s }",
    )
}

#[test]
fn an_address_that_does_not_answer_holds_nobody_up_when_there_is_another() {
    let scene = Scene::new();
    // A queue that is full answers no more.
    let full = listener("127.0.0.1", 0, 0);
    let port = address(&full).port();
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address(&full), Duration::from_millis(100)) {
        queue.push(stream);
    }
    let raw = fine(&scene, listener("127.0.0.2", port, 16));
    let other = SocketAddr::new(IpAddr::from([127, 0, 0, 2]), port);
    let moving = Moving::at(&[address(&full), other]);
    let stage = stage(scene, &moving, port);
    let begun = SystemClock.now().instant;
    // It speaks no TLS: that it was reached is enough.
    let verdict = get(&stage).verdict();
    let waited = SystemClock.now().instant.duration_since(begun);
    assert_ne!(verdict, "504 backend-connect-timeout");
    assert_eq!(raw.seen().connections, 1);
    assert!(waited >= Duration::from_millis(250), "{waited:?}");
    assert!(waited < Duration::from_secs(4), "{waited:?}");
}

#[test]
fn an_address_that_refuses_is_followed_by_the_next_at_once() {
    let scene = Scene::new();
    let socket = listener("127.0.0.1", 0, 16);
    let port = address(&socket).port();
    let good = address(&socket);
    let raw = fine(&scene, socket);
    let refusing =
        ["127.0.0.3", "127.0.0.4"].map(|ip| SocketAddr::new(ip.parse().expect("IP"), port));
    let moving = Moving::at(&[refusing[0], refusing[1], good]);
    let stage = stage(scene, &moving, port);
    get(&stage);
    assert_eq!(raw.seen().connections, 1);
}

#[test]
fn a_name_is_asked_for_again_when_its_time_is_over_and_not_before() {
    let scene = Scene::new();
    let first = listener("127.0.0.1", 0, 16);
    let port = address(&first).port();
    let old = address(&first);
    let new = SocketAddr::new(IpAddr::from([127, 0, 0, 2]), port);
    let second = fine(&scene, listener("127.0.0.2", port, 16));
    let first = fine(&scene, first);
    let moving = Moving::at(&[old]);
    let stage = stage(scene, &moving, port);
    let connections = || (first.seen().connections, second.seen().connections);
    get(&stage);
    assert_eq!(
        (connections(), moving.asked.load(Ordering::SeqCst)),
        ((1, 0), 1)
    );
    moving.moves_to(&[new]);
    stage.clock.advance(Duration::from_secs(59));
    get(&stage);
    assert_eq!(
        (connections(), moving.asked.load(Ordering::SeqCst)),
        ((2, 0), 1)
    );
    stage.clock.advance(Duration::from_secs(1));
    get(&stage);
    assert_eq!(
        (connections(), moving.asked.load(Ordering::SeqCst)),
        ((2, 1), 2)
    );
    // When nobody answers any more, the last answer serves for a while.
    moving.moves_to(&[]);
    stage.clock.advance(Duration::from_secs(60));
    get(&stage);
    assert_eq!(connections(), (2, 2));
    stage.clock.advance(Duration::from_mins(5));
    assert_eq!(get(&stage).verdict(), "502 backend-dns");
}

#[test]
fn an_address_that_may_not_be_called_is_refused_in_every_answer() {
    let scene = Scene::new();
    let socket = listener("127.0.0.1", 0, 16);
    let (good, port) = (address(&socket), address(&socket).port());
    let raw = fine(&scene, socket);
    let moving = Moving::at(&[good]);
    let stage = stage(scene, &moving, port);
    get(&stage);
    moving.moves_to(&[
        good,
        SocketAddr::new(IpAddr::from([169, 254, 169, 254]), port),
    ]);
    stage.clock.advance(Duration::from_secs(60));
    assert_eq!(get(&stage).verdict(), "502 backend-address-refused");
    assert_eq!(raw.seen().connections, 1);
}

#[test]
fn a_connection_serves_no_further_request_after_five_minutes() {
    let scene = Scene::new();
    let raw = RawBackend::start(&scene, vec![Step::text(OK)]);
    let stage = scene
        .raw("raw", &raw)
        .portal_route("a", "GET", "/a", "raw")
        .start();
    for _ in 0..5 {
        assert_eq!(get(&stage).verdict(), "200");
        stage.clock.advance(Duration::from_secs(60));
    }
    assert_eq!(raw.seen().connections, 1);
    stage.clock.advance(Duration::from_secs(1));
    assert_eq!(get(&stage).verdict(), "200");
    assert_eq!(raw.seen().connections, 2);
    stage.until("the end of the first", |_| raw.seen().closed == 1);
}
