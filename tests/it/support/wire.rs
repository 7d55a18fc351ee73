//! A caller that writes bytes as it likes and reads them as they come, and bodies that a test sends
//! piece by piece.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::clock::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;

use super::Stage;

/// Long past anything that a test waits for; a test that gets here has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Nothing has moved for this long: what had to come has come. Only a bound is asserted with it.
pub const STILL: Duration = Duration::from_millis(400);

/// A connection with HTTP/1.1 in the test's own bytes.
pub struct Wire<'s> {
    stage: &'s Stage,
    stream: TlsStream<TcpStream>,
    held: Vec<u8>,
}

impl Stage {
    /// A connection on which the portal asks: by method and path, and with all that follows on the fields that each
    /// request has.
    pub fn asking(&self, what: &str, rest: &str) -> Wire<'_> {
        let mut wire = self.wire();
        let token = self.portal_token();
        wire.send(format!(
            "{what} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{rest}"
        ));
        wire
    }

    /// Opens a connection for HTTP/1.1.
    pub fn wire(&self) -> Wire<'_> {
        Wire {
            stage: self,
            stream: self.runtime.block_on(self.tls(b"http/1.1")),
            held: Vec::new(),
        }
    }

    /// Opens a connection for HTTP/2, with bodies that the test sends piece by piece.
    pub async fn http2(&self) -> http2::SendRequest<Piped> {
        let io = TokioIo::new(self.tls(b"h2").await);
        let shaken = http2::handshake(TokioExecutor::new(), io).await;
        let (sender, connection) = shaken.expect("HTTP/2");
        tokio::spawn(connection);
        sender
    }
}

impl Wire<'_> {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sending = async {
            self.stream.write_all(bytes.as_ref()).await?;
            // What TLS has taken is not on its way yet.
            self.stream.flush().await
        };
        let sent = self.stage.runtime.block_on(patiently(sending));
        sent.expect("written");
    }

    /// Reads until `needle` has come, and returns everything up to its end.
    pub fn until(&mut self, needle: &str) -> String {
        loop {
            let needle = needle.as_bytes();
            let found = self.held.windows(needle.len()).position(|at| at == needle);
            if let Some(at) = found {
                let taken: Vec<u8> = self.held.drain(..at + needle.len()).collect();
                return String::from_utf8_lossy(&taken).into_owned();
            }
            let mut buffer = [0; 16 * 1024];
            let read = self.stream.read(&mut buffer);
            match self.stage.runtime.block_on(patiently(read)) {
                Ok(0) | Err(_) => panic!("closed after {:?}", String::from_utf8_lossy(&self.held)),
                Ok(read) => self.held.extend_from_slice(&buffer[..read]),
            }
        }
    }

    /// What has come and was not asked for.
    pub fn held(&self) -> String {
        String::from_utf8_lossy(&self.held).into_owned()
    }

    /// Reads until the gateway closes the connection.
    pub fn rest(mut self) -> String {
        // A connection that is reset has said all it will.
        let read = self.stream.read_to_end(&mut self.held);
        let _ = self.stage.runtime.block_on(patiently(read));
        String::from_utf8_lossy(&self.held).into_owned()
    }

    /// Writes until the gateway takes no more, or `most` is written, and says how much it took.
    pub fn pour(&mut self, most: usize) -> usize {
        let piece = vec![b'x'; 64 * 1024];
        let mut taken = 0;
        while taken < most {
            let next = &piece[..piece.len().min(most - taken)];
            let write = async { within(STILL, self.stream.write(next)).await };
            match self.stage.runtime.block_on(write) {
                None => break,
                Some(written) => taken += written.expect("written"),
            }
        }
        taken
    }
}

/// Fails the test instead of waiting for ever.
pub async fn patiently<F: Future>(future: F) -> F::Output {
    within(PATIENCE, future).await.expect("waited in vain")
}

/// A body that comes as the test sends it, and ends when the sender is dropped.
pub struct Piped(mpsc::Receiver<Frame<Bytes>>);

impl Piped {
    pub fn new() -> (mpsc::Sender<Frame<Bytes>>, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, Self(receiver))
    }

    /// A body of nothing.
    pub fn empty() -> Self {
        Self::new().1
    }

    /// A body of these bytes, and trailers behind it.
    pub fn of(bytes: &'static str, trailers: HeaderMap) -> Self {
        let (sender, receiver) = mpsc::channel(2);
        for frame in [
            Frame::data(Bytes::from_static(bytes.as_bytes())),
            Frame::trailers(trailers),
        ] {
            sender.try_send(frame).expect("room for two");
        }
        Self(receiver)
    }
}

impl Body for Piped {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}
