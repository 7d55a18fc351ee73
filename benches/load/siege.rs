//! Connections that ask for nothing more, in a state that costs a proxy something: what it holds for each of them,
//! and whether an honest caller is served meanwhile.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portcullis::clock::{pause, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::client::TlsStream;

use crate::caller::http1::Caller;
use crate::caller::{Door, between, now, said};
use crate::proxy::Proxy;
use crate::tokens::Request;

/// How connections are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Siege {
    /// After one request that was answered.
    Idle,
    /// In the middle of a head.
    HalfHead,
    /// With a head of nearly 8 KiB that goes on.
    LongHead,
    /// In the middle of a body that the backend gets.
    HalfBody,
    /// With a large answer that nobody takes.
    Untaken,
    /// By HTTP/2, after its first frames.
    Http2,
    /// By HTTP/2, with a head of nearly 8 KiB in CONTINUATION frames that go on.
    Http2LongHead,
    /// By HTTP/2, with two large answers that nobody makes room for.
    Http2Untaken,
    /// By HTTP/2, after a flood of frames that ask for nothing but an answer, of which nothing is read.
    Http2Flood,
    /// Handed over to WebSocket, on which nothing is said.
    Websocket,
}

/// So many connections are opened at a time.
const AT_ONCE: usize = 64;
/// For what is on its way to arrive.
const SETTLE: Duration = Duration::from_millis(500);
/// An honest caller who waits for longer is not served.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of a body that is half sent, and how many of them are.
const WHOLE_BODY: usize = 1024 * 1024;
const HALF_BODY: usize = 16 * 1024;

/// What came of a siege.
pub(crate) struct Besieged {
    /// Bytes that the proxy holds for each connection.
    pub(crate) bytes: f64,
    /// Milliseconds that an honest caller waited, with a connection of its own.
    pub(crate) honest: f64,
}

/// One connection that is held.
enum Held {
    Http1(#[expect(dead_code, reason = "it is held")] Box<TlsStream<TcpStream>>),
    Http2(
        #[expect(dead_code, reason = "it is held")] h2::client::SendRequest<Bytes>,
        AbortHandle,
    ),
    Answered(#[expect(dead_code, reason = "it is held")] Box<Caller>),
    Asking(
        #[expect(dead_code, reason = "they are held")] Vec<h2::client::ResponseFuture>,
        #[expect(dead_code, reason = "it is held")] h2::client::SendRequest<Bytes>,
        AbortHandle,
    ),
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Self::Http2(_, connection) | Self::Asking(_, _, connection) = self {
            connection.abort();
        }
    }
}

/// Holds so many connections in that state, and sees what that costs.
pub(crate) async fn besiege(
    proxy: &Proxy,
    siege: Siege,
    doors: &Doors,
    connections: usize,
    request: &Arc<Request>,
) -> Result<Besieged, String> {
    let before = proxy.memory();
    let mut held = Vec::with_capacity(connections);
    while held.len() < connections {
        let mut laying = JoinSet::new();
        for _ in 0..AT_ONCE.min(connections - held.len()) {
            let (doors, request) = (doors.clone(), Arc::clone(request));
            laying.spawn(async move { siege.lay(&doors, &request).await });
        }
        while let Some(laid) = laying.join_next().await {
            held.push(laid.map_err(said)??);
        }
    }
    pause(SETTLE).await;
    let after = proxy.memory();
    let begun = now();
    let asking = async {
        let mut honest = Caller::connect(&doors.http1).await?;
        honest.ask(request).await
    };
    let status = within(PATIENCE, asking).await;
    let status = status.ok_or_else(|| proxy.fault("does not serve an honest caller"))??;
    if status != 200 {
        return Err(proxy.fault(&format!("answers an honest caller {status}")));
    }
    Ok(Besieged {
        bytes: (after - before) * 1024.0 * 1024.0 / connections as f64,
        honest: between(begun, now()),
    })
}

/// By which protocols callers connect.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) http1: Door,
    pub(crate) http2: Door,
}

impl Siege {
    async fn lay(self, doors: &Doors, request: &Request) -> Result<Held, String> {
        let head = head(request);
        let bytes: Vec<u8> = match self {
            Self::Idle => {
                let mut caller = Caller::connect(&doors.http1).await?;
                caller.ask(request).await?;
                return Ok(Held::Answered(Box::new(caller)));
            }
            Self::Http2 => {
                let (sender, connection) = handshake(doors, u16::MAX.into()).await?;
                return Ok(Held::Http2(sender, connection));
            }
            Self::Http2Untaken => {
                let (mut sender, connection) = handshake(doors, 0).await?;
                let mut asked = Vec::new();
                for _ in 0..STREAMS {
                    sender = sender.ready().await.map_err(said)?;
                    let (answer, mut body) =
                        sender.send_request(request.http2(), false).map_err(said)?;
                    body.send_data(request.body.clone(), true).map_err(said)?;
                    asked.push(answer);
                }
                return Ok(Held::Asking(asked, sender, connection));
            }
            Self::Http2LongHead | Self::Http2Flood => {
                let mut stream = doors.http2.connect().await?;
                let frames = match self {
                    Self::Http2Flood => [PREFACE, &PING.repeat(PINGS)].concat(),
                    _ => [PREFACE, &long_head()].concat(),
                };
                // Who floods may be sent away meanwhile.
                let _ = within(SETTLE, stream.write_all(&frames)).await;
                let _ = within(SETTLE, stream.flush()).await;
                return Ok(Held::Http1(Box::new(stream)));
            }
            Self::Websocket => {
                let mut stream = doors.http1.connect().await?;
                return upgrade(&mut stream, head)
                    .await
                    .map(|()| Held::Http1(Box::new(stream)));
            }
            Self::HalfHead => head[..head.len() / 2].into(),
            Self::LongHead => {
                let mut long = head;
                long.truncate(long.len() - 2);
                let room = 7 * 1024 - long.len();
                long.extend_from_slice(format!("x-filler: {}", "y".repeat(room)).as_bytes());
                long
            }
            Self::HalfBody => {
                let text = String::from_utf8(head).map_err(said)?;
                let text = text.replace(
                    &format!("content-length: {}", request.body.len()),
                    &format!("content-length: {WHOLE_BODY}"),
                );
                let mut half = text.into_bytes();
                half.resize(half.len() + HALF_BODY, b'x');
                half
            }
            Self::Untaken => request.http1.to_vec(),
        };
        let mut stream = doors.http1.connect().await?;
        stream.write_all(&bytes).await.map_err(said)?;
        stream.flush().await.map_err(said)?;
        Ok(Held::Http1(Box::new(stream)))
    }
}

/// Speaks HTTP/2, with so much room for each answer.
async fn handshake(
    doors: &Doors,
    window: u32,
) -> Result<(h2::client::SendRequest<Bytes>, AbortHandle), String> {
    let stream = doors.http2.connect().await?;
    let mut builder = h2::client::Builder::new();
    let shaken = builder.initial_window_size(window).handshake(stream).await;
    let (sender, connection) = shaken.map_err(said)?;
    let connection = tokio::spawn(async move {
        // How it ends is the proxy's affair.
        let _ = connection.await;
    });
    Ok((sender, connection.abort_handle()))
}

/// What a caller says first, with empty SETTINGS (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
const PING: &[u8] = b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678";
/// Pings of one flood.
const PINGS: usize = 10_000;
/// Requests of one connection.
const STREAMS: usize = 2;

/// HEADERS of a POST, and CONTINUATION with fields of 1 KiB behind it, none of which is the last (section 6.10).
fn long_head() -> Vec<u8> {
    const HEADERS: u8 = 1;
    const CONTINUATION: u8 = 9;
    let frame = |kind: u8, block: &[u8]| {
        let length = (block.len() as u32).to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], block].concat()
    };
    // `:method: POST`, `:scheme: https`, `:path: /`, `:authority: localhost` (RFC 7541 appendix A).
    let mut frames = frame(HEADERS, b"\x83\x87\x84\x41\x09localhost");
    // A field that is not remembered: `x-filler` and 1,000 bytes, whose length is 127 and 873 in groups of seven bits.
    let field = [&b"\x00\x08x-filler\x7f\xe9\x06"[..], &[b'y'; 1000]].concat();
    for _ in 0..7 {
        frames.extend(frame(CONTINUATION, &field));
    }
    frames
}

/// Has the connection handed over to WebSocket (the handshake of RFC 6455 section 1.3).
async fn upgrade(stream: &mut TlsStream<TcpStream>, head: Vec<u8>) -> Result<(), String> {
    const HANDSHAKE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let head = String::from_utf8(head).map_err(said)?;
    let fields = head.trim_end().lines();
    let fields = fields.filter(|line| !line.starts_with("content-"));
    let mut request = String::new();
    for line in fields {
        request += &line.replacen("POST ", "GET ", 1);
        request += "\r\n";
    }
    request += HANDSHAKE;
    stream.write_all(request.as_bytes()).await.map_err(said)?;
    stream.flush().await.map_err(said)?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.map_err(said)?);
    }
    match answer.starts_with(b"HTTP/1.1 101 ") {
        true => Ok(()),
        false => Err(format!(
            "no WebSocket: {}",
            String::from_utf8_lossy(&answer)
        )),
    }
}

/// The head of a request as it stands on the wire.
fn head(request: &Request) -> Vec<u8> {
    request.http1[..request.http1.len() - request.body.len()].to_vec()
}
