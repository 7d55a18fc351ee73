//! Bodies: small ones that the gateway makes itself, and what a caller sends.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

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
pub struct CallerBody {
    /// None where there is no body.
    source: Option<Rc<dyn Source>>,
    /// How many bytes of it may still come.
    left: u64,
}

/// What a body comes on: a connection of HTTP/1, or a stream of HTTP/2.
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

    /// It may come as slowly as the caller likes.
    fn take_time(&self);

    /// Whether the connection itself reads what nobody wants.
    fn is_read_on(&self) -> bool;

    /// From here on it is all that comes on the connection, which is handed over to another protocol. Whether that can
    /// be.
    fn hand_over(&self) -> bool {
        false
    }
}

/// Why a caller's body came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// It ended early, or is no body.
    BrokenOff,
    /// It came more slowly than callers may be.
    TooSlow,
    /// It is longer than it may be.
    TooLarge,
}

/// A caller's body that came to nothing.
#[derive(Debug)]
pub struct Broken {
    /// Why.
    pub fault: BodyFault,
    detail: String,
}

impl Broken {
    /// It broke off.
    pub fn off(detail: impl Into<String>) -> Self {
        Self {
            fault: BodyFault::BrokenOff,
            detail: detail.into(),
        }
    }

    /// It comes too slowly.
    pub fn slow() -> Self {
        Self {
            fault: BodyFault::TooSlow,
            detail: "it comes too slowly".to_owned(),
        }
    }

    fn large() -> Self {
        Self {
            fault: BodyFault::TooLarge,
            detail: "it is too large".to_owned(),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the caller's body came to nothing: {}", self.detail)
    }
}

impl Error for Broken {}

impl CallerBody {
    /// No body.
    pub fn nothing() -> Self {
        Self {
            source: None,
            left: u64::MAX,
        }
    }

    /// One that comes on this.
    pub fn on(source: Rc<dyn Source>) -> Self {
        Self {
            source: Some(source),
            left: u64::MAX,
        }
    }

    /// Lets no more than so many bytes of it through.
    ///
    /// # Errors
    /// When it is known already that it is longer.
    pub fn limit(&mut self, most: u64) -> Result<(), Broken> {
        self.left = most;
        match self.size_hint().lower() > most {
            true => Err(Broken::large()),
            false => Ok(()),
        }
    }

    /// Lets it come as slowly as the caller likes.
    pub fn take_time(&self) {
        if let Some(source) = &self.source {
            source.take_time();
        }
    }

    /// All that comes on the connection from here on, of whatever protocol, as slowly as the caller likes. None where
    /// the connection cannot be handed over.
    pub fn hand_over(self) -> Option<Self> {
        let source = self.source?;
        source.hand_over().then(|| Self::on(source))
    }

    /// Reads on what the caller still sends of a body that nobody wants, within bounds: over HTTP/2 an answer
    /// before the end of the request is followed by a reset, which some clients take for a failure. A
    /// connection of HTTP/1 sees to it itself, once the answer is sent.
    pub fn read_on(self) {
        if let Some(source) = self.source
            && !source.is_read_on()
            && !source.is_end_stream()
        {
            tokio::task::spawn_local(within(LONGEST_UNWANTED, discard(source)));
        }
    }
}

/// The most that is read of a body that nobody wants, in bytes, and the longest that it is waited for.
pub const MOST_UNWANTED: usize = 64 * 1024;
/// See [`MOST_UNWANTED`].
pub const LONGEST_UNWANTED: Duration = Duration::from_secs(1);

async fn discard(body: Rc<dyn Source>) {
    let mut read = 0;
    while let Some(Ok(frame)) = poll_fn(|cx| body.poll_frame(cx)).await {
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
        let Some(source) = &self.source else {
            return Poll::Ready(None);
        };
        let frame = ready!(source.poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(Broken::large()))),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source
            .as_ref()
            .is_none_or(|source| source.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            None => SizeHint::with_exact(0),
            Some(source) => source.size_hint(),
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
