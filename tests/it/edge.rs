//! The edge towards callers: how many there may be, how the gateway ends connections and counts why, and what happens
//! when the machine has nothing more to give.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis::clock::{Clock as _, SystemClock, within};
use portcullis::net::tls::{Roots, client_config};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{RawBackend, Scene, Stage, patiently};

fn simple(listen: &str) -> (RawBackend, Scene) {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let mut scene = scene
        .raw("raw", &raw)
        .portal_route("all", "GET, POST", "/{*rest}", "raw");
    scene.listen = format!("  {listen}\n");
    (raw, scene)
}

/// A count that `/metrics` tells.
fn count(stage: &Stage, name: &str) -> u64 {
    let text = stage.admin("/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    number.trim().parse().expect("a number")
}

/// Waits until so many connections were closed for a reason.
fn closed(stage: &Stage, reason: &str, times: u64) {
    let name = format!("portcullis_connections_closed_total{{reason=\"{reason}\"}}");
    stage.until(reason, |stage| count(stage, &name) >= times);
    assert_eq!(count(stage, &name), times, "{reason}");
}

/// A connection without a word, from one of this machine's addresses.
async fn dial(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("bound");
    socket.connect(to).await.expect("connected")
}

/// Whether the gateway has closed a connection on which it has nothing to say.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    !matches!(patiently(stream.read(&mut byte)).await, Ok(1))
}

#[test]
fn connections_that_the_gateway_ends_are_counted_by_why() {
    let (_raw, scene) =
        simple("handshakeTimeout: 200ms\n  headerTimeout: 200ms\n  idleTimeout: 400ms");
    let mut stage = scene.start();
    assert_eq!(count(&stage, "portcullis_connections "), 0);
    stage.runtime.block_on(async {
        assert!(is_closed(&mut dial(Ipv4Addr::LOCALHOST, stage.address).await).await);
        let mut stranger = dial(Ipv4Addr::LOCALHOST, stage.address).await;
        stranger
            .write_all(b"GET / HTTP/1.1\r\n\r\n")
            .await
            .expect("written");
        let mut alert = Vec::new();
        let _ = patiently(stranger.read_to_end(&mut alert)).await;
    });
    closed(&stage, "slow-handshake", 1);
    closed(&stage, "handshake", 1);

    stage.raw(b"GET /a HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    closed(&stage, "slow-head", 1);
    let said = stage.raw(b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(said.starts_with("HTTP/1.1 401"), "{said}");
    closed(&stage, "idle", 1);
    let said = stage.raw(b"GET /a HTTP/1.1\nHost: localhost\r\n\r\n");
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    closed(&stage, "malformed", 1);
    stage.runtime.block_on(async {
        let mut stream = stage.tls(b"h2").await;
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .expect("written");
        // DATA on a stream that nobody opened (RFC 9113 section 5.1).
        stream
            .write_all(&[0, 0, 1, 0, 0, 0, 0, 0, 1, 0])
            .await
            .expect("written");
        let mut said = Vec::new();
        let _ = patiently(stream.read_to_end(&mut said)).await;
    });
    closed(&stage, "malformed", 2);

    // Who leaves by itself is not counted as sent away.
    stage.runtime.block_on(async {
        drop(dial(Ipv4Addr::LOCALHOST, stage.address).await);
        drop(stage.tls(b"http/1.1").await);
    });
    stage.until("all gone", |stage| {
        count(stage, "portcullis_connections ") == 0
    });
    assert_eq!(count(&stage, "portcullis_connections_accepted_total"), 8);
    let ended: u64 = [
        "slow-handshake",
        "handshake",
        "slow-head",
        "idle",
        "malformed",
    ]
    .map(|why| {
        count(
            &stage,
            &format!("portcullis_connections_closed_total{{reason=\"{why}\"}}"),
        )
    })
    .iter()
    .sum();
    assert_eq!(ended, 6);
    stage.gateway.take().expect("running").drain(true);
}

#[test]
fn an_address_has_so_many_connections_in_all_workers_and_others_have_theirs() {
    let (_raw, scene) = simple("maxConnectionsPerAddress: 3");
    let stage = scene.workers(2).start();
    let (here, there) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
    let held = stage.runtime.block_on(async {
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(stage.tls_from(here, b"http/1.1").await);
        }
        for _ in 0..4 {
            assert!(is_closed(&mut dial(here, stage.address).await).await);
        }
        held
    });
    closed(&stage, "too-many-from-address", 4);
    let answer = stage.call("GET", "/a").portal().from(there).send();
    assert_eq!(answer.verdict(), "200");
    drop(held);
    stage.until("room", |stage| count(stage, "portcullis_connections ") == 0);
    assert_eq!(stage.call("GET", "/a").portal().send().verdict(), "200");
}

#[test]
fn there_are_so_many_connections_in_all_workers_together() {
    let (_raw, scene) = simple("maxConnections: 3");
    let stage = scene.workers(2).start();
    let here = Ipv4Addr::LOCALHOST;
    stage.runtime.block_on(async {
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(stage.tls_from(here, b"http/1.1").await);
        }
        for _ in 0..8 {
            assert!(is_closed(&mut dial(here, stage.address).await).await);
        }
    });
    closed(&stage, "too-many", 8);
}

/// The gateway as a process of its own, ended when this is dropped.
struct Process {
    child: Child,
    address: SocketAddr,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Process {
    /// Runs `command` and waits until the gateway that it becomes listens.
    fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let events = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&events);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                heard.lock().expect("sound").push(event);
            }
        });
        let mut process = Self {
            child,
            address: (Ipv4Addr::UNSPECIFIED, 0).into(),
            events,
        };
        let started = process.event("started");
        let detail = started["detail"].as_str().expect("a detail");
        let address = detail.rsplit(' ').next().expect("an address");
        process.address = address.parse().expect("an address");
        process
    }

    /// Waits for an event.
    fn event(&self, name: &str) -> Value {
        let begun = SystemClock.instant();
        loop {
            let events = self.events.lock().expect("sound").clone();
            if let Some(event) = events.iter().find(|event| event["event"] == name) {
                return event.clone();
            }
            let waited = SystemClock.instant().duration_since(begun);
            assert!(
                waited.as_secs() < 20,
                "waited in vain for {name}: {events:?}"
            );
            std::thread::yield_now();
        }
    }

    fn has_told(&self, name: &str) -> usize {
        let events = self.events.lock().expect("sound");
        events.iter().filter(|event| event["event"] == name).count()
    }

    /// How long it has computed.
    fn computed(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = std::fs::read_to_string(path).expect("it runs");
        // proc_pid_stat(5): `utime` and `stime` are the fields 14 and 15, in hundredths of a second; the name of the
        // program, which may hold anything, ends with a parenthesis.
        let fields = stat.rsplit(')').next().expect("fields").split_whitespace();
        let ticks = fields
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().expect("ticks"));
        Duration::from_millis(10 * ticks.sum::<u64>())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A TLS connection, or none where it is not let in.
async fn shake(scene: &Scene, to: SocketAddr, alpn: &[u8]) -> Option<TlsStream<TcpStream>> {
    let roots = Roots::Pem(scene.world.ca.pem().into());
    let config = client_config(&roots, &[alpn]).expect("TLS");
    let stream = TcpStream::connect(to).await.ok()?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(config).connect(name, stream).await.ok()
}

/// What is answered to a request on a connection, up to the end of its head.
async fn ask(stream: &mut TlsStream<TcpStream>, request: &str) -> String {
    let mut said = Vec::new();
    if stream.write_all(request.as_bytes()).await.is_ok() {
        while !said.windows(4).any(|window| window == b"\r\n\r\n") {
            let mut buffer = [0; 4096];
            match patiently(stream.read(&mut buffer)).await {
                Ok(0) | Err(_) => break,
                Ok(read) => said.extend(&buffer[..read]),
            }
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn token(scene: &Scene) -> String {
    use portcullis::demo::mint::Token;
    use portcullis::demo::names::{AUDIENCE, CONTOSO, MARKETING_PORTAL};
    use portcullis::entra::Version;
    let now = scene.world.entra.now();
    let token = Token::app(Version::V2, CONTOSO, MARKETING_PORTAL, AUDIENCE, now);
    scene
        .world
        .entra
        .sign(&token.roles(&["Guests.Invite"]))
        .expect("signed")
}

/// A gateway with few descriptors.
fn narrow(scene: &Scene, folder: &std::path::Path, descriptors: u32) -> Process {
    let config = scene.write(folder);
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!(
            "ulimit -n {descriptors}; exec \"$0\" run --config \"$1\""
        ))
        .arg(env!("CARGO_BIN_EXE_portcullis"))
        .arg(config);
    Process::start(command)
}

#[test]
fn a_gateway_without_descriptors_neither_spins_nor_sleeps_and_is_not_taken_for_its_backend() {
    let (_raw, scene) = simple("handshakeTimeout: 5m\n  headerTimeout: 5m");
    let folder = tempfile::tempdir().expect("a folder");
    let process = narrow(&scene, folder.path(), 96);
    let head = format!(
        "GET /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n",
        token(&scene)
    );
    scene.runtime.block_on(async {
        let mut used = shake(&scene, process.address, b"http/1.1")
            .await
            .expect("let in");
        // A head that has begun: nobody may take the connection away.
        used.write_all(head.as_bytes()).await.expect("written");
        let mut held = Vec::new();
        while process.has_told("descriptors-exhausted") == 0 {
            held.push(dial(Ipv4Addr::LOCALHOST, process.address).await);
            assert!(held.len() < 1000, "never exhausted");
        }
        let (before, begun) = (process.computed(), SystemClock.instant());
        let lasted = || SystemClock.instant().duration_since(begun);
        while lasted() < Duration::from_secs(2) {
            let mut late = dial(Ipv4Addr::LOCALHOST, process.address).await;
            assert!(is_closed(&mut late).await, "sent away, not left to wait");
        }
        let share = (process.computed() - before).as_secs_f64() / lasted().as_secs_f64();
        assert!(share < 0.5, "a share of {share} of a processor");
        let said = ask(&mut used, "\r\n").await;
        assert!(said.starts_with("HTTP/1.1 503"), "{said}");
        assert!(said.contains("retry-after: 1\r\n"), "{said}");
        drop(held);
        let answer = within(Duration::from_secs(20), async {
            loop {
                let Some(mut stream) = shake(&scene, process.address, b"http/1.1").await else {
                    continue;
                };
                let said = ask(&mut stream, &format!("{head}\r\n")).await;
                if said.starts_with("HTTP/1.1 200") {
                    return said;
                }
            }
        });
        answer.await.expect("it serves again");
    });
    process.event("descriptors-recovered");
    assert_eq!(process.has_told("descriptors-exhausted"), 1, "told once");
}

#[test]
fn connections_that_nobody_uses_make_room_for_callers_when_descriptors_run_out() {
    let (_raw, scene) = simple("idleTimeout: 1h");
    let folder = tempfile::tempdir().expect("a folder");
    let process = narrow(&scene, folder.path(), 96);
    let request = format!(
        "GET /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        token(&scene)
    );
    scene.runtime.block_on(async {
        let mut held = Vec::new();
        for at in 0..150 {
            // In turn, so that both kinds are asked to go.
            let alpn: &[u8] = if at % 2 == 0 { b"http/1.1" } else { b"h2" };
            let stream = patiently(shake(&scene, process.address, alpn)).await;
            held.push(stream.unwrap_or_else(|| panic!("{at} is not let in")));
        }
        let mut last = shake(&scene, process.address, b"http/1.1")
            .await
            .expect("let in");
        let said = ask(&mut last, &request).await;
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        // The first have gone in order: TLS says so before the connection ends.
        let mut first = held.swap_remove(0);
        let mut said = Vec::new();
        let ended = patiently(first.read_to_end(&mut said)).await;
        assert!(ended.is_ok() && said.is_empty(), "{ended:?}");
    });
    process.event("descriptors-exhausted");
}
