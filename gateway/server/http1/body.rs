//! The body of a request, read by whoever wants it, at their pace.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};

use super::line::Line;
use crate::body::{Broken, Source};
use crate::http1::{Content, Piece};
use crate::server::pace::Pace;
use crate::telemetry::Closed;

/// The body of one request, and the connection that it comes on. Two may hold it: who sends it on to a backend,
/// which may go on when the answer has been sent already, and the connection.
pub(super) struct RequestBody<IO> {
    line: Rc<Line<IO>>,
    content: RefCell<Content>,
    broken: Cell<bool>,
    /// Whether the connection alone may read it.
    given_up: Cell<bool>,
    /// Who waits for more of it.
    waits: Cell<Option<Waker>>,
    pace: Pace,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> RequestBody<IO> {
    pub(super) fn new(line: Rc<Line<IO>>, content: Content) -> Rc<Self> {
        let pace = Pace::new(line.movement());
        Rc::new(Self {
            line,
            pace,
            content: RefCell::new(content),
            broken: Cell::new(false),
            given_up: Cell::new(false),
            waits: Cell::new(None),
        })
    }

    /// Whether its end can be found within so many bytes, as far as is known.
    pub(super) fn ends_within(&self, bytes: u64) -> bool {
        !self.broken.get() && self.content.borrow().size_hint().lower() <= bytes
    }

    /// From here on the connection alone reads it. Whoever else holds it is told that it broke off, and so lets
    /// go of it: what it did not get must not seem to be the end.
    pub(super) fn give_up(&self) {
        self.given_up.set(true);
        if let Some(waits) = self.waits.take() {
            waits.wake();
        }
    }

    /// The next piece of it, for the connection.
    pub(super) fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Result<Piece, Broken>> {
        let mut content = self.content.borrow_mut();
        loop {
            match self.line.take(&mut content) {
                Ok(Piece::More) => {}
                Ok(piece) => return Poll::Ready(Ok(piece)),
                Err(malformed) => return Poll::Ready(Err(Broken::off(malformed.to_string()))),
            }
            ready!(self.line.poll_continue(cx)).map_err(|error| Broken::off(error.to_string()))?;
            match ready!(self.line.poll_read(cx)) {
                Ok(0) => content
                    .end()
                    .map_err(|malformed| Broken::off(malformed.to_string()))?,
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(Broken::off(error.to_string()))),
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Source for RequestBody<IO> {
    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.given_up.get() && !self.is_end_stream() {
            let broken = Broken::off("the request was given up");
            return Poll::Ready(Some(Err(broken)));
        }
        let Poll::Ready(piece) = self.poll_piece(cx) else {
            if self.pace.waits(cx.waker()) {
                self.broken.set(true);
                self.line.movement().ends(Closed::SlowBody);
                return Poll::Ready(Some(Err(Broken::slow())));
            }
            self.waits.set(Some(cx.waker().clone()));
            self.line.rest();
            return Poll::Pending;
        };
        self.waits.set(None);
        self.pace.came(match &piece {
            Ok(Piece::Data(data)) => data.len(),
            Ok(Piece::Trailers(_) | Piece::End | Piece::More) | Err(_) => 0,
        });
        Poll::Ready(match piece {
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

    fn take_time(&self) {
        self.pace.take_time();
    }

    fn is_read_on(&self) -> bool {
        true
    }

    fn hand_over(&self) -> bool {
        if !self.is_end_stream() {
            return false;
        }
        *self.content.borrow_mut() = Content::UntilClose { ended: false };
        self.take_time();
        self.line.hand_over();
        true
    }
}
