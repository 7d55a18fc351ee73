//! The body of a request over HTTP/2, read by whoever wants it, at their pace.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::pace::Pace;
use super::stall::Movement;
use crate::body::{Broken, CallerBody, Source};

/// A body that comes in a stream.
struct StreamBody {
    incoming: RefCell<Incoming>,
    pace: Pace,
}

/// What comes behind the head of a request.
pub(super) fn body(incoming: Incoming, movement: &Rc<Movement>) -> CallerBody {
    match incoming.is_end_stream() {
        true => CallerBody::nothing(),
        false => CallerBody::on(Rc::new(StreamBody {
            incoming: RefCell::new(incoming),
            pace: Pace::new(movement),
        })),
    }
}

impl Source for StreamBody {
    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut incoming = self.incoming.borrow_mut();
        let frame = Pin::new(&mut *incoming).poll_frame(cx);
        match &frame {
            Poll::Pending if self.pace.waits(cx.waker()) => {
                return Poll::Ready(Some(Err(Broken::slow())));
            }
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                self.pace.came(frame.data_ref().map_or(0, Bytes::len));
            }
            Poll::Ready(Some(Err(_)) | None) => self.pace.came(0),
        }
        frame.map_err(|error| Broken::off(error.to_string()))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.borrow().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.borrow().size_hint()
    }

    fn take_time(&self) {
        self.pace.take_time();
    }

    fn is_read_on(&self) -> bool {
        false
    }
}
