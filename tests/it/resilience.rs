//! Backends that are slow, fail or come and go: what the gateway waits for, tries again, and leaves alone.

mod breaker;
mod endpoints;
mod health;
mod http2;
mod names;
mod retries;
mod starts;
mod timeouts;
mod written;

use std::net::SocketAddr;
use std::process::Command;

use socket2::{Domain, Socket, Type};

use crate::support::{Answer, RawBackend, Scene, Stage, Step};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";

/// A gateway in front of these URLs as one backend `b`, which also says `more`.
fn before(scene: Scene, urls: &[String], more: &str) -> Stage {
    let urls = urls.join(", ");
    let backend = format!("http: [{urls}], credential: none, {more}");
    let methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    let scene = scene.backend("b", &backend);
    scene.portal_route("all", methods, "/{*rest}", "b").start()
}

/// A port that is taken, on which nobody listens.
pub fn silent() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("bound");
    let address = socket.local_addr().expect("an address");
    (socket, address.as_socket().expect("IP"))
}

/// Answers of this status, as many as `count`.
fn gets(stage: &Stage, count: usize, status: u16) -> usize {
    let answers = (0..count).map(|_| stage.call("GET", "/a").portal().send());
    answers.filter(|answer| answer.status == status).count()
}

fn get(stage: &Stage) -> Answer {
    stage.call("GET", "/a").portal().send()
}

/// What `check` says of a scene's files, which it refuses.
fn refused(scene: &Scene) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let config = scene.write(folder.path());
    let mut check = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let checked = check.arg("check").arg(&config).output().expect("run");
    assert_eq!(checked.status.code(), Some(1));
    String::from_utf8_lossy(&checked.stdout).into_owned()
}

/// The value of a metric.
fn metric(stage: &Stage, name: &str) -> Option<String> {
    let text = stage.admin("/metrics");
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(str::to_owned)
}

/// Answers fine, but for requests on which it is told to do otherwise.
fn moody(
    scene: &Scene,
    mood: impl Fn(&str) -> Option<Vec<Step>> + Send + Sync + 'static,
) -> RawBackend {
    RawBackend::answering(scene, move |request| {
        mood(request).unwrap_or_else(|| vec![Step::text(OK)])
    })
}
