//! The body of a request, read by whoever wants it, at their pace.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};

use super::line::Line;
use crate::body::{Broken, Source};
use crate::http1::{Content, Piece};

/// The body of one request, and the connection that it comes on. Whoever still holds it when the next request
/// is read gets nothing of that.
pub(super) struct RequestBody<IO> {
    line: Rc<Line<IO>>,
    content: RefCell<Content>,
    broken: Cell<bool>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> RequestBody<IO> {
    pub(super) fn new(line: Rc<Line<IO>>, content: Content) -> Rc<Self> {
        Rc::new(Self {
            line,
            content: RefCell::new(content),
            broken: Cell::new(false),
        })
    }

    /// Whether its end can be found within so many bytes, as far as is known.
    pub(super) fn ends_within(&self, bytes: u64) -> bool {
        !self.broken.get() && self.content.borrow().size_hint().lower() <= bytes
    }

    fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        let mut content = self.content.borrow_mut();
        loop {
            match self.line.take(&mut content) {
                Ok(Piece::More) => {}
                Ok(piece) => return Poll::Ready(Ok(piece)),
                Err(malformed) => return Poll::Ready(Err(Broken(malformed.to_string()))),
            }
            ready!(self.line.poll_continue(cx)).map_err(|error| Broken(error.to_string()))?;
            match ready!(self.line.poll_read(cx)) {
                Ok(0) => content
                    .end()
                    .map_err(|malformed| Broken(malformed.to_string()))?,
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(Broken(error.to_string()))),
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Source for RequestBody<IO> {
    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Poll::Ready(match ready!(self.poll_piece(cx)) {
            Ok(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Piece::Trailers(fields)) => Some(Ok(Frame::trailers(fields))),
            Ok(Piece::End | Piece::More) => None,
            Err(broken) => {
                self.broken.set(true);
                Some(Err(broken))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.line.is_done(&self.content.borrow())
    }

    fn size_hint(&self) -> SizeHint {
        self.content.borrow().size_hint()
    }
}
