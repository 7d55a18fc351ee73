//! Bodies: small ones that the gateway makes itself, and what a caller sends.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::clock::within;

/// A body that is there in full: a problem, a health answer, or nothing.
#[derive(Debug, Default)]
pub struct Reply(Option<Bytes>);

impl Reply {
    /// A body of these bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self((!bytes.is_empty()).then_some(bytes))
    }

    /// No body.
    pub fn empty() -> Self {
        Self(None)
    }

    /// Takes what has not been sent yet.
    pub fn take(&mut self) -> Option<Bytes> {
        self.0.take()
    }

    /// How many bytes are still to be sent.
    pub fn remaining(&self) -> u64 {
        self.0.as_ref().map_or(0, |bytes| bytes.len() as u64)
    }
}

/// What a caller sends behind a request's head.
pub struct CallerBody(Sent);

enum Sent {
    Nothing,
    Http1(Rc<dyn Source>),
    Http2(Incoming),
}

/// An HTTP/1 connection that a body comes on.
pub trait Source {
    /// The next piece.
    ///
    /// # Errors
    /// When the connection fails or ends, or what came is no body.
    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>>;

    /// Whether nothing more is to come.
    fn is_end_stream(&self) -> bool;

    /// How much is to come.
    fn size_hint(&self) -> SizeHint;
}

/// A caller's body that broke off.
#[derive(Debug)]
pub struct Broken(pub String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the caller's body broke off: {}", self.0)
    }
}

impl Error for Broken {}

impl CallerBody {
    /// No body.
    pub fn nothing() -> Self {
        Self(Sent::Nothing)
    }

    /// One that comes on a connection of HTTP/1.
    pub fn http1(source: Rc<dyn Source>) -> Self {
        Self(Sent::Http1(source))
    }

    /// One that comes in a stream of HTTP/2.
    pub fn http2(incoming: Incoming) -> Self {
        Self(Sent::Http2(incoming))
    }

    /// Reads on what the caller still sends of a body that nobody wants, within bounds: over HTTP/2 an answer
    /// before the end of the request is followed by a reset, which some clients take for a failure. A
    /// connection of HTTP/1 sees to it itself, once the answer is sent.
    pub fn read_on(self) {
        match self.0 {
            Sent::Http2(incoming) if !incoming.is_end_stream() => {
                tokio::task::spawn_local(within(LONGEST_UNWANTED, discard(incoming)));
            }
            Sent::Nothing | Sent::Http1(_) | Sent::Http2(_) => {}
        }
    }
}

/// The most that is read of a body that nobody wants, in bytes, and the longest that it is waited for.
pub const MOST_UNWANTED: usize = 64 * 1024;
/// See [`MOST_UNWANTED`].
pub const LONGEST_UNWANTED: Duration = Duration::from_secs(1);

async fn discard(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MOST_UNWANTED {
            return;
        }
    }
}

impl Body for CallerBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.0 {
            Sent::Nothing => Poll::Ready(None),
            Sent::Http1(source) => source.poll_frame(cx),
            Sent::Http2(incoming) => Pin::new(incoming)
                .poll_frame(cx)
                .map_err(|error| Broken(error.to_string())),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Sent::Nothing => true,
            Sent::Http1(source) => source.is_end_stream(),
            Sent::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Sent::Nothing => SizeHint::with_exact(0),
            Sent::Http1(source) => source.size_hint(),
            Sent::Http2(incoming) => incoming.size_hint(),
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining())
    }
}
