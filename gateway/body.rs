//! Small bodies that the gateway makes itself.

use std::convert::Infallible;
use std::pin::Pin;
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

/// Reads on what a caller still sends of a body that nobody wants, within bounds: over HTTP/2 an answer
/// before the end of the request is followed by a reset, which some clients take for a failure.
pub fn read_on(mut body: Incoming) {
    const MOST: usize = 64 * 1024;
    const LONGEST: Duration = Duration::from_secs(1);
    if body.is_end_stream() {
        return;
    }
    tokio::task::spawn_local(within(LONGEST, async move {
        let mut read = 0;
        while let Some(Ok(frame)) =
            std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > MOST {
                return;
            }
        }
    }));
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
