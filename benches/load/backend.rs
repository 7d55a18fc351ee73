//! The backend: answers 200, and looks at what each proxy sent. It has one port for each proxy, so that
//! it knows what to expect of whom.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memchr::memmem::find;
use portcullis::demo::identity::Issued;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use crate::message::Reader;

/// What the proxies of the full job present, beside the gateway, which fetches its own.
pub(crate) const CREDENTIAL: &str = "demo.0123456789abcdef0123456789abcdef.managed-identity";

/// What must have become of a request on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// No signature in the URL, and a credential in place of the caller's token.
    Swapped,
    /// No signature in the URL, and no token: a public route of the gateway.
    Stripped,
    /// As the caller sent it.
    Untouched,
}

pub(crate) struct Backend {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    expect: Expect,
    answer: Bytes,
    issued: Issued,
    /// The credential that came last.
    known: Mutex<Vec<u8>>,
    faults: AtomicU64,
}

impl Backend {
    /// Answers with `size` bytes. `issued` are the credentials that count beside [`CREDENTIAL`].
    pub(crate) async fn start(expect: Expect, size: usize, issued: Issued) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            expect,
            answer: answer(size),
            issued,
            known: Mutex::new(CREDENTIAL.into()),
            faults: AtomicU64::new(0),
        });
        tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that were not as they should be.
    pub(crate) fn faults(&self) -> u64 {
        self.state.faults.load(Ordering::Relaxed)
    }
}

/// To the handshake of a WebSocket that every caller begins with.
const AGREED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// It has a date, so that no proxy writes one.
fn answer(size: usize) -> Bytes {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ndate: Thu, 26 Nov 2026 12:00:00 GMT\r\ncontent-length: {size}\r\n\r\n"
    )
    .into_bytes();
    answer.resize(answer.len() + size, b'x');
    answer.into()
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        // How a connection ends is the proxy's affair; what a caller misses, it says.
        tokio::spawn(serve(stream, Arc::clone(&state)));
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) -> io::Result<()> {
    let mut reader = Reader::new();
    let look = |head: &[u8]| (state.is_good(head), asks_for_websocket(head));
    while let Some((good, upgrades)) = reader.message(&mut stream, look).await? {
        if !good {
            state.faults.fetch_add(1, Ordering::Relaxed);
        }
        // Behind it nothing is said on either side.
        stream
            .write_all(if upgrades { AGREED } else { &state.answer })
            .await?;
    }
    Ok(())
}

fn asks_for_websocket(head: &[u8]) -> bool {
    // HAProxy writes names of fields as they came, nginx in its own way.
    let head = head.to_ascii_lowercase();
    find(&head, b"\r\nupgrade: websocket\r\n").is_some()
}

impl State {
    fn is_good(&self, head: &[u8]) -> bool {
        let has = |what: &[u8]| find(head, what).is_some();
        let asked = has(b"/invitations?") && has(b"api-version=2016-10-01");
        asked
            && match self.expect {
                Expect::Untouched => has(b"&sig=") && has(b"Bearer eyJ"),
                Expect::Stripped => !has(b"sig=") && !has(b"Bearer "),
                // The beginning of the callers' JOSE header.
                Expect::Swapped => !has(b"sig=") && !has(b"eyJhbGci") && self.has_credential(head),
            }
    }

    fn has_credential(&self, head: &[u8]) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if find(head, &known).is_some() {
            return true;
        }
        let bearer = find(head, b"Bearer ").map(|at| &head[at + 7..]);
        let bearer = bearer.and_then(|rest| rest.split(|byte| *byte == b'\r').next());
        let Some(token) = bearer.and_then(|token| std::str::from_utf8(token).ok()) else {
            return false;
        };
        let issued = self.issued.resource(token).is_some();
        if issued {
            *known = token.into();
        }
        issued
    }
}
