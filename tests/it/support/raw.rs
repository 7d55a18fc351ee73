//! A backend that answers with the very bytes that a test writes, and keeps the very bytes that came.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::pause;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::Scene;

/// What a raw backend does, in order, when a request has come.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Waits until the test calls [`RawBackend::release`] once more.
    Wait,
    /// Sends these bytes again and again, a little apart, until the gateway closes.
    Trickle(Vec<u8>),
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
}

impl Step {
    pub fn text(text: &str) -> Self {
        Self::Send(text.as_bytes().to_vec())
    }
}

/// What a raw backend has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Requests, head and body as they came.
    pub requests: Vec<String>,
    /// Connections accepted.
    pub connections: usize,
    /// Connections that the gateway closed.
    pub closed: usize,
}

pub struct RawBackend {
    address: SocketAddr,
    seen: watch::Sender<Seen>,
    gate: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl Drop for RawBackend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawBackend {
    /// Answers every request by the same steps.
    pub fn start(scene: &Scene, steps: Vec<Step>) -> Self {
        Self::answering(scene, move |_| steps.clone())
    }

    /// Answers an ordinary 200 with this body.
    pub fn ok(scene: &Scene, body: &str) -> Self {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Self::start(scene, vec![Step::text(&answer)])
    }

    /// Answers each request by the steps that `script` chooses for it.
    pub fn answering(
        scene: &Scene,
        script: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = scene
            .runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("bound");
        Self::on(&scene.runtime, listener, script)
    }

    /// The same, on a listener that is there already.
    pub fn on(
        runtime: &Runtime,
        listener: TcpListener,
        script: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let seen = watch::Sender::new(Seen::default());
        let gate = Arc::new(Semaphore::new(0));
        let (writing, waiting, script) = (seen.clone(), Arc::clone(&gate), Arc::new(script));
        let task = runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                writing.send_modify(|seen| seen.connections += 1);
                let (writing, waiting, script) =
                    (writing.clone(), Arc::clone(&waiting), Arc::clone(&script));
                tokio::spawn(async move {
                    serve(stream, &writing, &waiting, &*script).await;
                });
            }
        });
        Self {
            address,
            seen,
            gate,
            task,
        }
    }

    /// Answers 202 with a link of its own that carries a signature, and one to elsewhere; 200 to who
    /// comes with the signature.
    pub fn with_links(scene: &Scene) -> Self {
        Self::answering(scene, |request| {
            let host = request.split("\r\nhost: ").nth(1).unwrap_or_default();
            let host = host.split("\r\n").next().unwrap_or_default();
            let is_signed = request
                .lines()
                .next()
                .unwrap_or_default()
                .contains("sig=planted-sig");
            let answer = match is_signed {
                true => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone".to_owned(),
                false => format!(
                    "HTTP/1.1 202 Accepted\r\nLocation: http://{host}/runs/1?sig=planted-sig\r\nX-Test: https://elsewhere.example/x?sig=planted-sig\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
                ),
            };
            vec![Step::text(&answer)]
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// The only request so far.
    pub fn only(&self) -> String {
        let seen = self.seen();
        assert_eq!(seen.requests.len(), 1, "{seen:?}");
        seen.requests[0].clone()
    }

    /// Lets one [`Step::Wait`] go on.
    pub fn release(&self) {
        self.gate.add_permits(1);
    }

    /// Completes when what was seen fits.
    pub async fn saw(&self, fits: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.subscribe();
        seen.wait_for(|seen| fits(seen))
            .await
            .expect("the sender lives")
            .clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: &watch::Sender<Seen>,
    gate: &Semaphore,
    script: &(dyn Fn(&str) -> Vec<Step> + Send + Sync),
) {
    let mut held = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut held).await {
        let text = String::from_utf8_lossy(&request).into_owned();
        let steps = script(&text);
        seen.send_modify(|seen| seen.requests.push(text));
        for step in steps {
            match step {
                Step::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        seen.send_modify(|seen| seen.closed += 1);
                        return;
                    }
                }
                Step::Wait => {
                    // The gateway may close meanwhile; a backend notices by reading.
                    let mut byte = [0];
                    tokio::select! {
                        permit = gate.acquire() => permit.expect("open").forget(),
                        read = stream.read(&mut byte) => {
                            if matches!(read, Ok(0) | Err(_)) {
                                seen.send_modify(|seen| seen.closed += 1);
                                return;
                            }
                            held.push(byte[0]);
                        }
                    }
                }
                Step::Trickle(bytes) => {
                    while stream.write_all(&bytes).await.is_ok() {
                        pause(Duration::from_millis(10)).await;
                    }
                    seen.send_modify(|seen| seen.closed += 1);
                    return;
                }
                Step::Close => return,
                Step::Reset => {
                    let socket = SockRef::from(&stream);
                    socket.set_linger(Some(Duration::ZERO)).expect("set");
                    return;
                }
            }
        }
    }
    seen.send_modify(|seen| seen.closed += 1);
}

/// Reads one request: its head, and its body by length or by chunks. `None` when the peer closes.
async fn read_request(stream: &mut TcpStream, held: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(length) = whole(held) {
            return Some(held.drain(..length).collect());
        }
        let mut buffer = [0; 16 * 1024];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => held.extend_from_slice(&buffer[..read]),
        }
    }
}

/// The length of the request at the front of `bytes`, once all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    if text.contains("\r\ntransfer-encoding: chunked") {
        // Ends with the last chunk and its trailer section.
        let body = &bytes[head..];
        let last = if body.starts_with(b"0\r\n") {
            0
        } else {
            body.windows(5).position(|window| window == b"\r\n0\r\n")? + 2
        };
        let end = body[last..]
            .windows(4)
            .position(|window| window == b"\r\n\r\n")?
            + 4;
        return Some(head + last + end);
    }
    let length = text.split("\r\ncontent-length: ").nth(1);
    let length: usize = length.map_or(0, |rest| {
        rest.split("\r\n")
            .next()
            .expect("a line")
            .parse()
            .expect("a length")
    });
    (bytes.len() >= head + length).then_some(head + length)
}
