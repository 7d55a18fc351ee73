//! HTTP/1.1 to a backend (RFC 9112), driven by the request that uses it. There is no task for a connection and
//! no channel between the two: what a request writes and reads, it writes and reads itself.

mod answer;
mod head;
mod upload;
mod wire;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::Method;
use tokio::task::unconstrained;

use super::moment::moment;
use crate::clock::Alarm;
use crate::http1::{Input, Malformed, Scratch, Unsent};

pub(super) use self::answer::AnswerBody;
pub(super) use self::head::Head;
pub(super) use self::upload::{Upload, as_it_is, bodiless, readdress, upload};
pub(super) use self::wire::Wire;

/// The longest head of an answer, in bytes.
const LONGEST_HEAD: usize = 64 * 1024;

/// When the alarm of a new connection first looks at what it is set to.
const FIRST_ALARM: Duration = Duration::from_secs(60);

/// A connection to a backend. Dropping it closes it.
pub(super) struct Http1 {
    /// Shared with what is still being sent while the answer is read already.
    wire: Rc<RefCell<Wire>>,
    input: Input,
    alarm: Alarm,
    /// When it was opened, in seconds: it has to be small, for it stands in every request.
    since: u32,
}

/// Why an exchange failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection.
    Io(io::Error),
    /// The backend closed before its message was whole.
    Ended,
    /// What came is no HTTP/1.1, or can be read in two ways.
    Malformed(&'static str),
    /// The caller broke off its body, or sent more or less than it said.
    Caller,
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Ended => f.write_str("the connection closed before the message was complete"),
            Self::Malformed(what) => f.write_str(what),
            Self::Caller => f.write_str("the caller's body broke off"),
        }
    }
}

fn seconds(at: Instant) -> u32 {
    u32::try_from(moment(at) / 1000).unwrap_or(u32::MAX)
}

impl Http1 {
    /// Speaks HTTP/1.1 on a connection that is open.
    pub(super) fn new(wire: Wire, scratch: Scratch, since: Instant) -> Self {
        Self {
            wire: Rc::new(RefCell::new(wire)),
            input: Input::new(scratch),
            alarm: Alarm::new(FIRST_ALARM),
            since: seconds(since),
        }
    }

    /// How many seconds it has been open for.
    pub(super) fn age(&self, now: Instant) -> u32 {
        seconds(now).saturating_sub(self.since)
    }

    /// Begins to wait for so long.
    pub(super) fn wait(&mut self, limit: Duration) {
        self.alarm.set(limit);
    }

    /// Completes when it has been waited for too long.
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.poll(cx)
    }

    /// Whether another request may be sent: nobody has closed the connection, and nothing came that nobody
    /// asked for. Asks what is known already, without a system call.
    pub(super) fn is_open(&mut self) -> bool {
        // Outside of the task's budget: once it is spent, every connection would seem to be open.
        let look = poll_fn(|cx| self.poll_read(cx));
        let looked = pin!(unconstrained(look)).poll(&mut Context::from_waker(Waker::noop()));
        looked.is_pending() && self.input.is_empty()
    }

    /// Keeps no memory while nothing is on its way.
    pub(super) fn rest(&mut self) {
        self.input.rest();
    }

    /// Sends the request and reads the head of the answer, which may come before the request is whole.
    pub(super) fn poll_exchange(
        &mut self,
        upload: &mut Upload,
        method: &Method,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Head, Fault>> {
        let sent = upload.poll(&mut *self.wire.borrow_mut(), cx);
        let fault = match sent {
            Poll::Ready(Err(Unsent::Body)) => return Poll::Ready(Err(Fault::Caller)),
            // Some backends answer and close while the request is still coming: the answer counts.
            Poll::Ready(Err(Unsent::Io(error))) => Some(Fault::Io(error)),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        };
        loop {
            if let Some(head) = head::take(self.input.bytes(), method)? {
                return Poll::Ready(Ok(head));
            }
            if self.input.bytes().len() >= LONGEST_HEAD {
                return Poll::Ready(Err(Fault::Malformed("the head of the answer is too long")));
            }
            match (self.poll_read(cx), fault.is_some()) {
                (Poll::Ready(Ok(1..)), _) => {}
                (Poll::Pending, false) => return Poll::Pending,
                (_, true) => return Poll::Ready(Err(fault.unwrap_or(Fault::Ended))),
                (Poll::Ready(Ok(0)), false) => return Poll::Ready(Err(Fault::Ended)),
                (Poll::Ready(Err(error)), false) => return Poll::Ready(Err(Fault::Io(error))),
            }
        }
    }

    /// Reads once. Nothing read is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.poll_read(&mut *self.wire.borrow_mut(), cx)
    }
}
