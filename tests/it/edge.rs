//! The edge towards callers: how many there may be, how the gateway ends connections and counts why, and what happens
//! when the machine has nothing more to give.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use http::Request;
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::clock::{Clock as _, SystemClock, within};
use portcullis::net::tls::{Roots, client_config};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{Piped, RawBackend, Scene, Stage, Step, patiently};

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
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Process {
    /// Runs `command` and waits until the gateway that it becomes listens.
    pub(crate) fn start(command: Command) -> Self {
        Self::start_on(command, Stdio::null())
    }

    /// The same, with a standard input.
    fn start_on(mut command: Command, input: Stdio) -> Self {
        command
            .stdin(input)
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

    /// Asks it to end, as platforms do.
    pub(crate) fn ask_to_end(&self) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("told");
    }

    /// Waits for an event.
    pub(crate) fn event(&self, name: &str) -> Value {
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
pub(crate) async fn shake(
    scene: &Scene,
    to: SocketAddr,
    alpn: &[u8],
) -> Option<TlsStream<TcpStream>> {
    let roots = Roots::Pem(scene.world.ca.pem().into());
    let config = client_config(&roots, &[alpn]).expect("TLS");
    let stream = TcpStream::connect(to).await.ok()?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(config).connect(name, stream).await.ok()
}

/// What is answered to a request on a connection, up to the end of its head.
pub(crate) async fn ask(stream: &mut TlsStream<TcpStream>, request: &str) -> String {
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
    // What one worker gives up to learn who waits, another may get.
    for workers in [1, 2] {
        without_descriptors(workers);
    }
}

fn without_descriptors(workers: usize) {
    let (_raw, scene) = simple("handshakeTimeout: 5m\n  headerTimeout: 5m");
    let scene = scene.workers(workers);
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
        // Once it says so, it has the keys that tokens are verified with.
        let known = head.replace("GET", "DELETE") + "\r\n";
        while !ask(&mut used, &known).await.starts_with("HTTP/1.1 405") {}
        // A head that has begun: nobody may take the connection away.
        used.write_all(head.as_bytes()).await.expect("written");
        let mut held = Vec::new();
        while process.has_told("descriptors-exhausted") == 0 {
            // What it cannot take, it may reset before anybody hears that it was connected.
            held.push(TcpStream::connect(process.address).await);
            assert!(held.len() < 1000, "never exhausted");
        }
        let (before, begun) = (process.computed(), SystemClock.instant());
        let lasted = || SystemClock.instant().duration_since(begun);
        let (mut sent_away, mut let_in) = (0, Vec::new());
        while lasted() < Duration::from_secs(2) {
            // None is left to wait. The gateway gives back a descriptor now and then, which one of them may have.
            match patiently(shake(&scene, process.address, b"http/1.1")).await {
                None => sent_away += 1,
                Some(mut late) => {
                    late.write_all(head.as_bytes()).await.expect("written");
                    let_in.push(late);
                }
            }
        }
        assert!(sent_away > let_in.len(), "{sent_away}, {}", let_in.len());
        let share = (process.computed() - before).as_secs_f64() / lasted().as_secs_f64();
        assert!(share < 0.5, "a share of {share} of a processor");
        let said = ask(&mut used, "\r\n").await;
        assert!(said.starts_with("HTTP/1.1 503"), "{said}");
        assert!(said.contains("retry-after: 1\r\n"), "{said}");
        drop((held, let_in));
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
        // Room for a connection to the backend as well may take another moment, which the answer then says.
        let served = async {
            loop {
                let said = ask(&mut last, &request).await;
                match said.starts_with("HTTP/1.1 503") {
                    true => assert!(said.contains("descriptors-exhausted"), "{said}"),
                    false => break said,
                }
            }
        };
        let said = patiently(served).await;
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        // The first have gone in order: TLS says so before the connection ends.
        let mut first = held.swap_remove(0);
        let mut said = Vec::new();
        let ended = patiently(first.read_to_end(&mut said)).await;
        assert!(ended.is_ok() && said.is_empty(), "{ended:?}");
    });
    process.event("descriptors-exhausted");
}

/// Waits a moment: how fast somebody is takes time to show.
async fn moment() {
    portcullis::clock::pause(Duration::from_millis(50)).await;
}

/// Sends `piece` again and again, a moment apart, until something is answered, at most so often. What was answered.
async fn trickle(stream: &mut TlsStream<TcpStream>, piece: &[u8], times: usize) -> String {
    for _ in 0..times {
        if stream.write_all(piece).await.is_err() {
            break;
        }
        let mut buffer = [0; 4096];
        if let Some(read) = within(Duration::from_millis(50), stream.read(&mut buffer)).await {
            let mut said = buffer[..read.unwrap_or(0)].to_vec();
            let _ = patiently(stream.read_to_end(&mut said)).await;
            return String::from_utf8_lossy(&said).into_owned();
        }
    }
    String::new()
}

fn upload(token: &str, framing: &str) -> String {
    format!(
        "POST /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{framing}\r\n\r\n"
    )
}

#[test]
fn a_body_that_trickles_in_is_refused_and_frees_its_backend() {
    let (raw, scene) = simple("minRate: 1KiB\n  minRateGrace: 400ms\n  idleTimeout: 1h");
    let stage = scene.start();
    let token = stage.portal_token();
    for (framing, piece) in [
        ("Content-Length: 100000", &b"x"[..]),
        // What frames the body is none of it.
        (
            "Transfer-Encoding: chunked",
            b"1;a=0123456789012345678901234567890123456789\r\nx\r\n",
        ),
    ] {
        let said = stage.runtime.block_on(async {
            let mut stream = stage.tls(b"http/1.1").await;
            let head = upload(&token, framing);
            stream.write_all(head.as_bytes()).await.expect("written");
            trickle(&mut stream, piece, 200).await
        });
        assert!(said.starts_with("HTTP/1.1 408"), "{framing}: {said}");
        assert!(said.contains("body-too-slow"), "{said}");
        assert!(said.contains("connection: close\r\n"), "{said}");
    }
    closed(&stage, "slow-body", 2);
    stage.runtime.block_on(raw.saw(|seen| seen.closed == 2));
    assert_eq!(raw.seen().requests.len(), 0, "none was whole");
    let record = stage.record("the refusal", |record| record["status"] == 408);
    assert_eq!(record["reason"], "body-too-slow");
}

#[test]
fn a_body_that_is_no_slower_than_it_may_be_arrives() {
    let (raw, scene) = simple("minRate: 240\n  minRateGrace: 200ms");
    let stage = scene.start();
    let token = stage.portal_token();
    let said = stage.runtime.block_on(async {
        let mut stream = stage.tls(b"http/1.1").await;
        let head = upload(&token, "Connection: close\r\nContent-Length: 4000");
        stream.write_all(head.as_bytes()).await.expect("written");
        trickle(&mut stream, &[b'x'; 100], 40).await
    });
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    assert!(raw.only().ends_with("xxx"));
}

#[test]
fn a_stream_that_trickles_in_is_refused_and_its_neighbours_are_not() {
    let (raw, scene) = simple("minRate: 1KiB\n  minRateGrace: 400ms\n  idleTimeout: 1h");
    let stage = scene.start();
    let token = stage.portal_token();
    stage.runtime.block_on(async {
        let mut sender = stage.http2().await;
        let request = |method: &str, body: Piped| {
            let request = Request::builder().method(method).uri("https://localhost/a");
            let request = request.header("authorization", format!("Bearer {token}"));
            request.body(body).expect("a request")
        };
        let (pieces, body) = Piped::new();
        let slow = sender.send_request(request("POST", body));
        let trickling = async {
            let frame = || Frame::data(Bytes::from_static(b"x"));
            while pieces.send(frame()).await.is_ok() {
                moment().await;
            }
        };
        let (refused, ()) = patiently(join(slow, trickling)).await;
        assert_eq!(refused.expect("an answer").status(), 408);
        let next = sender.send_request(request("GET", Piped::empty()));
        assert_eq!(patiently(next).await.expect("an answer").status(), 200);
    });
    let whole = raw.seen().requests;
    assert_eq!(whole.len(), 1, "{whole:?}");
}

#[test]
fn an_answer_that_trickles_out_is_given_up_and_one_that_is_taken_fast_is_not() {
    const LENGTH: usize = 8 << 20;
    let scene = Scene::new();
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + LENGTH, b'x');
    let raw = RawBackend::start(&scene, vec![Step::Send(answer)]);
    let mut scene = scene
        .raw("raw", &raw)
        .portal_route("all", "GET", "/{*rest}", "raw");
    scene.listen = "  minRate: 1MiB\n  minRateGrace: 400ms\n  idleTimeout: 1h\n".to_owned();
    let stage = scene.start();
    assert_eq!(
        stage.call("GET", "/fast").portal().send().body.len(),
        LENGTH
    );
    let head = format!(
        "GET /slow HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        stage.portal_token()
    );
    stage.runtime.block_on(async {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("set");
        let mut stream = stage.tls_on(socket, b"http/1.1").await;
        stream.write_all(head.as_bytes()).await.expect("written");
        let mut buffer = vec![0; 4 * 1024];
        let mut taken = 0;
        // Some 80 KB a second.
        while let Ok(read @ 1..) = patiently(stream.read(&mut buffer)).await {
            taken += read;
            moment().await;
        }
        assert!(taken < LENGTH, "all of it");
    });
    closed(&stage, "slow-reader", 1);
    let record = stage.record("the record", |record| record["path"] == "/slow");
    assert_eq!(record["complete"], false);
}

#[test]
fn a_connection_ends_in_order_behind_its_last_request() {
    let (_raw, scene) = simple("maxRequests: 3");
    let stage = scene.start();
    let token = stage.portal_token();
    let request =
        format!("GET /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    let said = stage.raw(request.repeat(5).as_bytes());
    assert_eq!(said.matches("HTTP/1.1 200").count(), 3, "{said}");
    assert_eq!(said.matches("connection: close\r\n").count(), 1, "{said}");
    closed(&stage, "max-requests", 1);
    stage.runtime.block_on(async {
        let io = TokioIo::new(stage.tls(b"h2").await);
        let shaken = http2::handshake(TokioExecutor::new(), io).await;
        let (mut sender, connection) = shaken.expect("HTTP/2");
        let connection = tokio::spawn(connection);
        for _ in 0..3 {
            let request = Request::get("https://localhost/a")
                .header("authorization", format!("Bearer {token}"));
            let answer = sender.send_request(request.body(Piped::empty()).expect("a request"));
            assert_eq!(patiently(answer).await.expect("an answer").status(), 200);
        }
        let ended = patiently(connection).await.expect("no panic");
        ended.expect("closed in order");
    });
    closed(&stage, "max-requests", 2);
}

#[test]
fn a_connection_that_has_lasted_its_time_ends_in_order_though_it_is_used() {
    let (_raw, scene) = simple("maxAge: 300ms\n  idleTimeout: 1h");
    let stage = scene.start();
    let token = stage.portal_token();
    stage.runtime.block_on(async {
        let mut stream = stage.tls(b"http/1.1").await;
        let request =
            format!("GET /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
        let mut answered = 0;
        loop {
            let said = ask(&mut stream, &request).await;
            if !said.starts_with("HTTP/1.1 200") {
                assert_eq!(said, "", "a whole answer, or none");
                break;
            }
            answered += 1;
        }
        assert!(answered > 0);
        let io = TokioIo::new(stage.tls(b"h2").await);
        let shaken = http2::handshake::<_, _, Piped>(TokioExecutor::new(), io).await;
        let (_sender, connection) = shaken.expect("HTTP/2");
        patiently(connection).await.expect("closed in order");
    });
    closed(&stage, "max-age", 2);
}

#[test]
fn a_body_longer_than_the_route_takes_is_refused_before_and_while_it_is_sent() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene
        .raw("raw", &raw)
        .function("function")
        .route("short", "match: { methods: [POST], path: /short }, backend: raw, maxBody: 10, allow: [{ tenants: [contoso] }]")
        .portal_route("any", "POST", "/any", "raw")
        .portal_route("function", "POST", "/function", "function")
        .start();
    let long = "x".repeat(11);
    for http2 in [false, true] {
        let call = |body: &str| {
            let call = stage.call("POST", "/short").portal().body(body.to_owned());
            if http2 { call.http2() } else { call }
        };
        assert_eq!(call(&long).send().verdict(), "413 body-too-large");
        assert_eq!(
            raw.seen().connections,
            usize::from(http2),
            "before anything is sent"
        );
        assert_eq!(call(&long[1..]).send().verdict(), "200");
    }
    assert_eq!(
        stage
            .call("POST", "/any")
            .portal()
            .body(long.repeat(9))
            .send()
            .verdict(),
        "200"
    );
    let before = raw.seen();
    let token = stage.portal_token();
    let chunked = |body: &str| {
        format!(
            "POST /short HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        )
    };
    let said = stage.raw(chunked("6\r\n123456\r\n5\r\n78901\r\n0\r\n\r\n").as_bytes());
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    stage.runtime.block_on(async {
        let mut sender = stage.http2().await;
        let (pieces, body) = Piped::new();
        let request = Request::post("https://localhost/short")
            .header("authorization", format!("Bearer {token}"));
        let answer = sender.send_request(request.body(body).expect("a request"));
        let sending = async {
            // An endless body ends when nobody takes it.
            let piece = Bytes::from_static(&[b'x'; 1024]);
            while pieces.send(Frame::data(piece.clone())).await.is_ok() {}
        };
        let (answer, ()) = patiently(join(answer, sending)).await;
        assert_eq!(answer.expect("an answer").status(), 413);
    });
    stage
        .runtime
        .block_on(raw.saw(|seen| seen.closed > before.closed));
    assert_eq!(
        raw.seen().requests.len(),
        before.requests.len(),
        "none that seems whole"
    );
    let said = stage.raw(chunked("a\r\n1234567890\r\n0\r\n\r\n").as_bytes());
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");

    // What Azure would not take is not sent there.
    let head = format!(
        "POST /function HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 104857601\r\n\r\n"
    );
    let said = stage.raw(head.as_bytes());
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    assert_eq!(stage.world.function.seen().len(), 0);
}

/// What callers met while gateways came and went.
#[derive(Debug, Default)]
struct Met {
    answered: u64,
    failed: Vec<String>,
}

/// Calls again and again, until told to end: each time by a connection of its own, by one that is kept as long as the
/// gateway keeps it, or by one of HTTP/2.
async fn call_on(scene: &Scene, to: SocketAddr, kind: usize, end: &AtomicBool) -> Met {
    let token = token(scene);
    let close = if kind == 0 {
        "Connection: close\r\n"
    } else {
        ""
    };
    let text = format!(
        "GET /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{close}\r\n"
    );
    let mut met = Met::default();
    while !end.load(Ordering::Relaxed) {
        let alpn: &[u8] = if kind == 2 { b"h2" } else { b"http/1.1" };
        let Some(mut stream) = patiently(shake(scene, to, alpn)).await else {
            met.failed.push("not let in".to_owned());
            continue;
        };
        if kind < 2 {
            loop {
                let said = ask(&mut stream, &text).await;
                // What follows on the head is left for the next reading.
                match said.starts_with("HTTP/1.1 200") {
                    true => met.answered += 1,
                    false => met.failed.push(format!("{kind}: {said:?}")),
                }
                let goes_on = said.starts_with("HTTP/1.1 200")
                    && !said.contains("connection: close")
                    && !end.load(Ordering::Relaxed);
                if !goes_on {
                    break;
                }
            }
            continue;
        }
        let shaken = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.expect("HTTP/2");
        let connection = tokio::spawn(connection);
        while !end.load(Ordering::Relaxed) && sender.ready().await.is_ok() {
            let request = Request::get("https://localhost/a")
                .header("authorization", format!("Bearer {token}"));
            let request = request.body(Piped::empty()).expect("a request");
            match patiently(sender.try_send_request(request)).await {
                Ok(answer) if answer.status() == 200 => met.answered += 1,
                Ok(answer) => met.failed.push(answer.status().to_string()),
                // GOAWAY came first, and the request was not sent.
                Err(mut error) => match error.take_message() {
                    Some(_unsent) => break,
                    None => met.failed.push(error.into_error().to_string()),
                },
            }
        }
        connection.abort();
    }
    met
}

/// Lets callers of each kind call, while `meanwhile` happens.
fn under_load(scene: &Scene, to: SocketAddr, meanwhile: impl FnOnce()) {
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let calling: Vec<_> = (0..6)
            .map(|kind| {
                let end = &end;
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .expect("a runtime");
                    runtime.block_on(call_on(scene, to, kind % 3, end))
                })
            })
            .collect();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
        end.store(true, Ordering::Relaxed);
        for caller in calling {
            let met = caller.join().expect("no panic");
            assert_eq!(met.failed, [""; 0], "of {}", met.answered);
            assert!(met.answered > 0);
        }
        done.expect("it went well");
    });
}

/// The same scene's files with another address and whatever else in `listen`.
fn files(
    scene: &mut Scene,
    folder: &std::path::Path,
    address: &str,
    listen: &str,
) -> std::path::PathBuf {
    scene.listen = format!("  {listen}\n");
    let config = scene.write(folder);
    let text = std::fs::read_to_string(&config).expect("written");
    let text = text.replace(
        "  address: 127.0.0.1:0\n",
        &format!("  address: {address}\n"),
    );
    std::fs::write(&config, text).expect("written");
    config
}

pub(crate) fn gateway(config: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.arg("run").arg("--config").arg(config);
    command
}

impl Process {
    /// Ends it, and waits until it has ended well.
    fn terminate(mut self) {
        self.ask_to_end();
        let ended = self.child.wait().expect("ended");
        assert!(ended.success(), "{ended}");
        assert_eq!(self.has_told("drain-timeout"), 0);
    }
}

/// Waits until a gateway answers, which has keys then.
fn serves(scene: &Scene, process: &Process) {
    let request = format!(
        "GET /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        token(scene)
    );
    scene.runtime.block_on(patiently(async {
        loop {
            let mut stream = shake(scene, process.address, b"http/1.1")
                .await
                .expect("let in");
            if ask(&mut stream, &request).await.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    }));
}

#[test]
fn one_gateway_takes_over_from_another_on_its_port_and_no_request_fails() {
    let (_raw, scene) = simple("");
    let mut scene = scene.workers(2).drain("{ delay: 100ms, timeout: 10s }");
    let folder = tempfile::tempdir().expect("a folder");
    let listen = "reusePort: true";
    let first = Process::start(gateway(&files(
        &mut scene,
        folder.path(),
        "127.0.0.1:0",
        listen,
    )));
    serves(&scene, &first);
    let address = first.address;
    let config = files(&mut scene, folder.path(), &address.to_string(), listen);
    let mut last = Some(first);
    under_load(&scene, address, || {
        for _ in 0..3 {
            let next = Process::start(gateway(&config));
            assert_eq!(next.address, address);
            last.replace(next).expect("one").terminate();
        }
    });
    // Whom nobody has let share does not.
    let config = files(
        &mut scene,
        folder.path(),
        &address.to_string(),
        "reusePort: false",
    );
    let refused = gateway(&config).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}

#[test]
fn gateways_take_a_socket_over_that_outlives_them_and_no_request_fails() {
    let (_raw, scene) = simple("");
    let mut scene = scene.workers(2).drain("{ delay: 100ms, timeout: 10s }");
    let folder = tempfile::tempdir().expect("a folder");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let config = files(&mut scene, folder.path(), &address.to_string(), "");
    // As systemd does it (sd_listen_fds(3)): the socket is number 3, and the process that it is for is named.
    let start = || {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(
                "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" run --config \"$1\"",
            )
            .arg(env!("CARGO_BIN_EXE_portcullis"))
            .arg(&config);
        let socket = std::os::fd::OwnedFd::from(listener.try_clone().expect("cloned"));
        Process::start_on(command, socket.into())
    };
    let first = start();
    assert_eq!(first.address, address);
    serves(&scene, &first);
    let mut last = None;
    under_load(&scene, address, || {
        let second = start();
        first.terminate();
        // Nobody is there for a while, and callers wait.
        second.terminate();
        let third = start();
        let fourth = start();
        third.terminate();
        serves(&scene, &fourth);
        last = Some(fourth);
    });
}

#[test]
fn who_is_let_in_before_the_drain_is_answered_once_though_it_asks_later() {
    let (_raw, scene) = simple("");
    let mut stage = scene.start();
    let gateway = stage.gateway.take().expect("running");
    let request = format!(
        "GET /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        stage.portal_token()
    );
    stage.runtime.block_on(async {
        let mut used = stage.tls(b"http/1.1").await;
        let mut unused = stage.tls(b"http/1.1").await;
        let said = ask(&mut used, &request).await;
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        let draining = std::thread::spawn(move || gateway.drain(true));
        // Who was answered already is let go at once: that is when the drain has begun.
        let mut rest = Vec::new();
        let ended = patiently(used.read_to_end(&mut rest)).await;
        ended.expect("closed in order");
        let said = ask(&mut unused, &request).await;
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        assert!(said.contains("connection: close\r\n"), "{said}");
        let ended = patiently(unused.read_to_end(&mut rest)).await;
        ended.expect("closed in order");
        draining.join().expect("ended");
    });
}
