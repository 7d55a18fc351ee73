//! The body of an answer, read by whoever wants it, at their pace.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use tokio::io::AsyncWrite as _;
use tokio::task::AbortHandle;

use super::head::Head;
use super::{Fault, Http1, Upload};
use crate::http1::{Content, Piece, Unsent};

/// The body of an answer, and the connection on which it comes.
pub(in crate::upstream) struct AnswerBody {
    connection: Http1,
    content: Content,
    keeps_alive: bool,
    rest: Option<Rest>,
}

/// What of the request is still being sent while its answer is read. An own task, for the answer is read at
/// the caller's pace, and a caller may take nothing before it has sent everything.
struct Rest {
    is_whole: Rc<Cell<bool>>,
    task: AbortHandle,
}

impl Rest {
    /// `ends` says that nothing comes behind it on the connection.
    fn send(connection: &Http1, mut upload: Upload, ends: bool) -> Self {
        let is_whole = Rc::new(Cell::new(false));
        let (wire, told) = (Rc::clone(&connection.wire), Rc::clone(&is_whole));
        let task = tokio::task::spawn_local(async move {
            // A backend that takes no more has answered already.
            let sent = poll_fn(|cx| upload.poll(&mut *wire.borrow_mut(), cx)).await;
            told.set(sent.is_ok());
            // A backend that waits for the rest of a body that broke off has to know that nothing will come.
            let is_over = match sent {
                Ok(()) => ends,
                Err(Unsent::Body) => true,
                Err(Unsent::Io(_)) => false,
            };
            if is_over {
                let shut = poll_fn(|cx| Pin::new(&mut *wire.borrow_mut()).poll_shutdown(cx));
                let _ = shut.await;
            }
        });
        Self {
            is_whole,
            task: task.abort_handle(),
        }
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl AnswerBody {
    /// The answer, and the body behind its head. What is left of the request is sent on.
    pub(in crate::upstream) fn behind(
        head: Head,
        connection: Http1,
        upload: Option<Upload>,
    ) -> (Response<()>, Self) {
        let rest = upload.filter(|upload| !upload.is_done());
        let rest = rest.map(|upload| Rest::send(&connection, upload, false));
        let body = Self {
            connection,
            keeps_alive: head.keeps_alive,
            rest,
            content: head.content,
        };
        (head.response, body)
    }

    /// Hands the connection over to another protocol: what comes on it is passed on as it is, and so is what the
    /// caller says. Whether that can be.
    pub(in crate::upstream) fn hand_over(&mut self, caller: Upload) -> bool {
        if self.rest.is_some() {
            return false;
        }
        self.keeps_alive = false;
        self.content = Content::UntilClose { ended: false };
        self.rest = Some(Rest::send(&self.connection, caller, true));
        true
    }

    /// Sends nothing more of what the caller says.
    pub(in crate::upstream) fn hear_no_more(&mut self) {
        self.rest = None;
    }

    /// Keeps no memory while nothing comes.
    pub(in crate::upstream) fn rest(&mut self) {
        self.connection.rest();
    }

    pub(in crate::upstream) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        loop {
            match self.content.take(self.connection.input.bytes()) {
                Err(malformed) => return Poll::Ready(Some(Err(malformed.into()))),
                Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Piece::Trailers(fields)) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(fields))));
                }
                Ok(Piece::End) => return Poll::Ready(None),
                Ok(Piece::More) => {}
            }
            match ready!(self.connection.poll_read(cx)) {
                Ok(0) if self.content.end().is_err() => {
                    return Poll::Ready(Some(Err(Fault::Ended)));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(Fault::Io(error)))),
            }
        }
    }

    pub(in crate::upstream) fn is_end_stream(&self) -> bool {
        self.content.is_done(&self.connection.input)
    }

    pub(in crate::upstream) fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }

    /// The connection, if request and answer are whole and the backend keeps it open.
    pub(in crate::upstream) fn into_connection(self) -> Option<Http1> {
        let is_sent = self.rest.as_ref().is_none_or(|rest| rest.is_whole.get());
        let is_free = self.is_end_stream() && self.keeps_alive && is_sent;
        let mut connection = self.connection;
        // Bytes that nobody asked for are the beginning of somebody else's answer.
        if !is_free || !connection.input.is_empty() {
            return None;
        }
        connection.rest();
        Some(connection)
    }
}
