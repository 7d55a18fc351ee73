//! Who stands in front of the gateway, and what of their word on callers is believed.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};

use socket2::{Domain, Socket, Type};

use crate::support::handshake::{Caller, shake_on};
use crate::support::{RawBackend, Scene, Stage};

const FRONT_DOOR: &str = "11111111-2222-3333-4444-555555555555";

/// A gateway with a route for callers from one network, and one for callers from anywhere.
fn scene(listen: &str) -> (RawBackend, Scene) {
    let mut scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let allow = "allow: [{ tenants: [contoso], apps: [marketing-portal], from: [office] }]";
    scene.names += "networks: { office: 203.0.113.0/24 }\n";
    scene.listen += listen;
    let scene = scene
        .raw("raw", &raw)
        .route(
            "office",
            &format!("match: {{ methods: [GET], path: /office }}, backend: raw, {allow}"),
        )
        .portal_route("all", "GET", "/all", "raw");
    (raw, scene)
}

/// Connects from an address of this machine's own.
fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .bind(&SocketAddr::new(from.into(), 0).into())
        .expect("bound");
    socket.connect(&to.into()).expect("connected");
    socket.into()
}

fn ask(stage: &Stage, path: &str, fields: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{fields}Connection: close\r\n\r\n",
        stage.portal_token()
    )
}

/// Asks in plain; nothing where the connection is closed.
fn plain(stage: &Stage, from: Ipv4Addr, path: &str, fields: &str) -> String {
    let mut stream = connect_from(from, stage.address);
    let mut answer = String::new();
    let _ = stream.write_all(ask(stage, path, fields).as_bytes());
    let _ = stream.read_to_string(&mut answer);
    answer.lines().next().unwrap_or_default().to_owned()
}

/// Asks over TLS, behind what is said in front.
fn behind(stage: &Stage, said: &[u8], path: &str, fields: &str) -> Result<String, String> {
    let mut stream = TcpStream::connect(stage.address).expect("connected");
    stream.write_all(said).expect("written");
    let caller = Caller::new(stage, "localhost");
    let shaken = shake_on(&caller.config(), "localhost", stream)?;
    let token = format!("Authorization: Bearer {}\r\n{fields}", stage.portal_token());
    let answer = shaken.get(path, &token)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

fn closed(stage: &Stage, why: &str) -> bool {
    let line = format!("portcullis_connections_closed_total{{reason=\"{why}\"}} 1");
    stage.admin("/metrics").contains(&line)
}

const OK: &str = "HTTP/1.1 200 OK";
const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden";
const BAD_REQUEST: &str = "HTTP/1.1 400 Bad Request";

#[test]
fn behind_a_platform_only_its_networks_may_connect_and_say_who_calls() {
    let (_raw, scene) = scene("  trustedHops: { networks: [127.0.0.1, 10.0.0.0/8] }\n");
    let stage = scene.platform().start();
    let hop = Ipv4Addr::LOCALHOST;
    for (said, line) in [
        ("X-Forwarded-For: 203.0.113.7\r\n", OK),
        ("X-Forwarded-For: 203.0.113.7, 10.1.1.1\r\n", OK),
        ("X-Forwarded-For: 203.0.113.7, 198.51.100.1\r\n", FORBIDDEN),
        ("X-Forwarded-For: 203.0.113.7, what\r\n", BAD_REQUEST),
        ("X-Forwarded-For: what, 203.0.113.7\r\n", OK),
        ("Forwarded: for=203.0.113.7\r\n", FORBIDDEN),
        ("", FORBIDDEN),
    ] {
        assert_eq!(plain(&stage, hop, "/office", said), line, "{said}");
    }
    stage.record("the reason", |record| {
        record["reason"] == "forwarded-address-invalid" && record["client"] == "127.0.0.1"
    });
    let stranger = Ipv4Addr::new(127, 0, 0, 2);
    let said = "X-Forwarded-For: 203.0.113.7\r\n";
    assert_eq!(plain(&stage, stranger, "/all", said), "", "nobody else may");
    stage.until("the count", |stage| closed(stage, "untrusted-hop"));
}

#[test]
fn callers_who_connect_themselves_speak_for_nobody_and_known_hops_do() {
    let (_raw, mut scene) = scene("  trustedHops: { networks: [127.0.0.9], header: forwarded }\n");
    scene.admin = "{ address: '127.0.0.1:0' }".to_owned();
    let stage = scene.start();
    let said = "Forwarded: for=203.0.113.7\r\n";
    let token = format!("Authorization: Bearer {}\r\n{said}", stage.portal_token());
    let caller = Caller::new(&stage, "localhost");
    for (from, line) in [
        (Ipv4Addr::new(127, 0, 0, 9), OK),
        (Ipv4Addr::new(127, 0, 0, 8), FORBIDDEN),
    ] {
        let stream = connect_from(from, stage.address);
        let shaken = shake_on(&caller.config(), "localhost", stream).expect("a handshake");
        let answer = shaken.get("/office", &token).expect("an answer");
        assert!(answer.starts_with(line), "{from}: {answer}");
    }
    stage.record("the caller's address", |record| {
        record["client"] == "203.0.113.7" && record["status"] == 200
    });
}

#[test]
fn a_request_that_came_past_front_door_is_refused_whoever_sends_it() {
    let listen = format!("  trustedHops: {{ count: 2, frontDoor: [{FRONT_DOOR}] }}\n");
    let (raw, scene) = scene(&listen);
    let stage = scene.platform().start();
    let hop = Ipv4Addr::LOCALHOST;
    let forwarded = "X-Forwarded-For: 6.6.6.6, 203.0.113.7, 198.51.100.1\r\n";
    let other = FRONT_DOOR.replace('5', "6");
    for (said, line) in [
        (format!("X-Azure-FDID: {FRONT_DOOR}\r\n{forwarded}"), OK),
        (forwarded.to_owned(), FORBIDDEN),
        (format!("X-Azure-FDID: {other}\r\n{forwarded}"), FORBIDDEN),
        (
            format!("X-Azure-FDID: {other}\r\nX-Azure-FDID: {FRONT_DOOR}\r\n{forwarded}"),
            FORBIDDEN,
        ),
    ] {
        assert_eq!(plain(&stage, hop, "/office", &said), line, "{said}");
    }
    stage.record("the reason", |record| {
        record["reason"] == "front-door-missing"
    });
    assert_eq!(raw.seen().requests.len(), 1);
}

#[test]
fn the_proxy_protocol_says_who_calls_in_either_version() {
    let (_raw, scene) =
        scene("  proxyProtocol: true\n  trustedHops: { networks: [127.0.0.0/8] }\n");
    let stage = scene.start();
    let v1 = |source: &str| format!("PROXY TCP4 {source} 127.0.0.1 4711 443\r\n").into_bytes();
    let v2 = |source: [u8; 4]| {
        let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
        [head.as_slice(), &source, &[127, 0, 0, 1, 1, 1, 1, 187]].concat()
    };
    // A balancer that says nothing of who calls says nothing of the field either.
    for said in [
        b"PROXY UNKNOWN\r\n".as_slice(),
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
    ] {
        let answer = behind(&stage, said, "/office", "X-Forwarded-For: 203.0.113.7\r\n");
        assert_eq!(answer.as_deref(), Ok(FORBIDDEN), "{}", said.escape_ascii());
    }
    // What callers say of themselves is theirs: they are no hop.
    let forged = "X-Forwarded-For: 203.0.113.7\r\n";
    for (said, line) in [
        (v1("203.0.113.7"), OK),
        (v1("198.51.100.1"), FORBIDDEN),
        (v2([203, 0, 113, 7]), OK),
        (v2([198, 51, 100, 1]), FORBIDDEN),
    ] {
        let answer = behind(&stage, &said, "/office", forged);
        assert_eq!(answer.as_deref(), Ok(line), "{}", said.escape_ascii());
    }
    assert!(
        behind(&stage, b"", "/all", "").is_err(),
        "it has to be spoken"
    );
    stage.until("the count", |stage| closed(stage, "proxy-protocol"));
}

#[test]
fn haproxy_passes_callers_on_by_the_proxy_protocol() {
    let (_raw, scene) = scene("  proxyProtocol: true\n  trustedHops: { networks: [127.0.0.1] }\n");
    let stage = scene.start();
    let folder = tempfile::tempdir().expect("a folder");
    for version in ["send-proxy", "send-proxy-v2"] {
        // A port that was free just now.
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let front = listener.local_addr().expect("an address");
        drop(listener);
        let config = folder.path().join(version);
        let text = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 20s\n timeout server 20s\nlisten front\n bind {front}\n source 127.0.0.1\n server gateway {} {version}\n",
            stage.address
        );
        fs::write(&config, text).expect("written");
        let haproxy = Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&config)
            .spawn();
        let _haproxy = Ending(haproxy.expect("haproxy"));
        stage.until("haproxy", |_| TcpStream::connect(front).is_ok());
        let stream = connect_from(Ipv4Addr::new(127, 9, 9, 9), front);
        let caller = Caller::new(&stage, "localhost");
        let shaken = shake_on(&caller.config(), "localhost", stream).expect("a handshake");
        let token = format!(
            "Authorization: Bearer {}\r\nUser-Agent: by/{version}\r\n",
            stage.portal_token()
        );
        let answer = shaken.get("/all", &token).expect("an answer");
        assert!(answer.starts_with(OK), "{answer}");
        stage.record(version, |record| record["client"] == "127.9.9.9");
    }
}

/// A process that ends with the test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
