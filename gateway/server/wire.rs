//! The guard on the wire of HTTP/1. hyper accepts more than a gateway may pass on (bare line feeds,
//! doubled lengths, a length beside a coding) and repairs it silently, so that nobody behind it can
//! see what came. The guard reads the bytes first, and hyper only sees what can be read in one way.

mod body;
mod head;

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::body::{Body, Progress};
use self::head::{Scan, Step};
use crate::denial::Reason;

/// What hyper reads in place of a head that is refused. `connection: close` makes its answer the
/// last on the connection.
const REPLACEMENT: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// The bytes of one HTTP/1 server connection, checked before they are delivered. Writes pass through.
///
/// A head is delivered when it is complete and unambiguous. In the place of one that is not stands a
/// replacement, the [`Fault`] says why, and nothing more is delivered. A body is delivered as it
/// comes, up to the first byte that may not stand in its chunked coding; there reading fails with
/// `InvalidData`, and hyper ends the connection.
///
/// A read that brings whole heads and bodies, as nearly every read does, is checked where hyper
/// wants it: nothing is copied or allocated. What a read brings of an incomplete head is held back.
///
/// # Timeouts
/// hyper does not see a head that is held back. Its `header_read_timeout` nevertheless covers it,
/// because it starts when the connection begins to wait for a head, not with the head's first byte:
/// it bounds idle time and the time for the head together. Who wants a shorter limit for a head
/// that has begun asks [`HeadWatch`] on a timer of its own.
#[derive(Debug)]
pub struct Guard<IO> {
    io: IO,
    max_head: usize,
    place: Place,
    /// What was read and not delivered: in front what may be delivered, then the incomplete head.
    held: BytesMut,
    /// How much of `held` may be delivered.
    ready: usize,
    course: Course,
    shared: Rc<Shared>,
}

/// Where the next byte stands.
#[derive(Debug)]
enum Place {
    Head(Scan),
    Body(Body),
}

/// How the connection goes on once `ready` is delivered.
#[derive(Clone, Copy, Debug)]
enum Course {
    Open,
    /// A head was ambiguous; its replacement is due.
    Refuse(Reason),
    /// A body was ambiguous.
    Broken,
    /// The replacement is delivered. `answered` when something was written since the
    /// service took the fault.
    Discard {
        answered: bool,
    },
}

#[derive(Debug, Default)]
struct Shared {
    fault: Cell<Option<Reason>>,
    head_begun: Cell<bool>,
    /// Heads that were delivered.
    heads: Cell<u64>,
}

/// Why the head that hyper reads next was refused.
#[derive(Clone, Debug)]
pub struct Fault(Rc<Shared>);

impl Fault {
    /// Takes the reason, if the request that is being read is the replacement of a refused one. It
    /// must be taken when the service is called, not when the future that it returns is first
    /// polled: hyper may read the next head in between.
    pub fn take(&self) -> Option<Reason> {
        self.0.fault.take()
    }
}

/// Whether a connection waits for the rest of a head.
#[derive(Clone, Debug)]
pub struct HeadWatch(Rc<Shared>);

impl HeadWatch {
    /// The number of the head that has begun and is not complete: who sees the same number twice
    /// has seen one head wait all the time between.
    pub fn incomplete(&self) -> Option<u64> {
        self.0.head_begun.get().then(|| self.0.heads.get())
    }
}

impl<IO> Guard<IO> {
    /// Guards a connection whose heads may be `max_head` bytes long.
    pub fn new(io: IO, max_head: usize) -> Self {
        Self {
            io,
            max_head,
            place: Place::Head(Scan::default()),
            held: BytesMut::new(),
            ready: 0,
            course: Course::Open,
            shared: Rc::default(),
        }
    }

    /// The handle that tells the service why a head was refused.
    pub fn fault(&self) -> Fault {
        Fault(Rc::clone(&self.shared))
    }

    /// The handle that tells a timer whether a head has begun.
    pub fn head_watch(&self) -> HeadWatch {
        HeadWatch(Rc::clone(&self.shared))
    }

    /// Reads on through `bytes` and says how many of them may be delivered. The rest is an
    /// incomplete head while the course is open, and lost when it is not.
    fn examine(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        loop {
            let rest = bytes.get(passed..).unwrap_or_default();
            match &mut self.place {
                Place::Head(scan) => match scan.read(rest, self.max_head) {
                    Ok(Step::More) => return passed,
                    Ok(Step::Done(length, framing)) => {
                        passed += length;
                        self.shared.heads.set(self.shared.heads.get() + 1);
                        self.place = Place::Body(Body::new(framing));
                    }
                    Err(reason) => {
                        self.course = Course::Refuse(reason);
                        return passed;
                    }
                },
                Place::Body(body) => match body.read(rest) {
                    Progress::More => return bytes.len(),
                    Progress::Done(length) => {
                        passed += length;
                        self.place = Place::Head(Scan::default());
                    }
                    Progress::Broken(length) => {
                        self.course = Course::Broken;
                        return passed + length;
                    }
                },
            }
        }
    }

    fn deliver(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.ready.min(buf.remaining());
        buf.put_slice(self.held.get(..length).unwrap_or_default());
        self.held.advance(length);
        self.ready -= length;
        if self.held.is_empty() {
            // An idle connection keeps no buffer.
            self.held = BytesMut::new();
        }
    }

    /// Checks what was just read into `buf` behind `before`.
    fn admit(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if self.held.is_empty() {
            let passed = self.examine(fresh);
            if let Course::Open = self.course {
                self.held
                    .extend_from_slice(fresh.get(passed..).unwrap_or_default());
            }
            buf.set_filled(before + passed);
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(fresh);
            self.ready = self.examine(&held);
            if !matches!(self.course, Course::Open) {
                held.truncate(self.ready);
            }
            self.held = held;
            buf.set_filled(before);
        }
        self.shared.head_begun.set(self.held.len() > self.ready);
    }

    fn replace(&mut self, reason: Reason) {
        self.shared.fault.set(Some(reason));
        self.held = BytesMut::from(REPLACEMENT);
        self.ready = REPLACEMENT.len();
        self.course = Course::Discard { answered: false };
    }

    /// What is written before the fault was taken answers an earlier request.
    fn note_write(&mut self) {
        if let Course::Discard { answered } = &mut self.course {
            *answered = self.shared.fault.get().is_none();
        }
    }
}

impl<IO: AsyncRead + Unpin> Guard<IO> {
    /// Reads once. False if what came is held back, so that there is nothing to deliver yet.
    fn poll_admit(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() == before {
            self.shared.head_begun.set(false);
            return Poll::Ready(Ok(true));
        }
        self.admit(buf, before);
        Poll::Ready(Ok(buf.filled().len() > before))
    }

    /// Reads and forgets, so that the peer's leaving is noticed. A peer that only stops sending
    /// still gets its answer: hyper would drop it at the end of input, so the end is not told
    /// before something of it is written. The answer closes the connection.
    fn poll_discard(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        answered: bool,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            // tokio's budget for a task bounds this loop.
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return if answered {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            buf.set_filled(before);
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.ready > 0 {
                this.deliver(buf);
                return Poll::Ready(Ok(()));
            }
            match this.course {
                Course::Open => {
                    if ready!(this.poll_admit(cx, buf))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Course::Refuse(reason) => this.replace(reason),
                Course::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Course::Discard { answered } => return this.poll_discard(cx, buf, answered),
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.note_write();
        Pin::new(&mut this.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.note_write();
        Pin::new(&mut this.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
