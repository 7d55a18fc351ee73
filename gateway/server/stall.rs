//! Stalls. A caller who takes no bytes holds a connection, a body and perhaps a backend; one who is only
//! slow, or who waits for a slow backend, must not be mistaken for it. So a connection counts what moves
//! on it, and ends when something is due, the gateway has it, and nothing has moved for too long.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;

use super::pace::{self, MinRate, Taking, Upload};
use crate::clock::{Clock as _, SystemClock, pause};
use crate::telemetry::{Closed, RecordedBody};
use crate::upstream::BodyError;

/// What moves on one connection.
#[derive(Default)]
pub(super) struct Movement {
    /// Grows with every piece of an answer and every byte written.
    moved: Cell<u64>,
    /// Bytes written.
    written: Cell<u64>,
    /// Grows with every piece of an answer that is written over HTTP/2.
    pieces: Cell<u64>,
    /// Bodies of answers over HTTP/2.
    shelves: RefCell<Vec<Rc<Shelf>>>,
    /// Grows with every answer that has ended. Pings, which are written as well, are no use of a connection.
    served: Cell<u64>,
    write_pending: Cell<bool>,
    /// Requests whose answer has not begun: their backend is waited for.
    asking: Cell<usize>,
    /// Bodies of answers that are on their way.
    bodies: Cell<usize>,
    /// Those of them that wait for their backend.
    waiting: Cell<usize>,
    /// Whether the head of a request has begun and is not whole.
    head_begun: Cell<bool>,
    /// Requests.
    requests: Cell<u64>,
    /// Their bodies that have to be waited for.
    uploads: RefCell<Vec<Rc<Upload>>>,
    /// How often in a row the minder has seen that no request is answered.
    quiet: Cell<u32>,
    /// Whether it has looked since that was asked.
    looked: Cell<bool>,
    /// Why the connection is to end, if the gateway is who ends it.
    why: Cell<Option<Closed>>,
    /// Ends the minder, which ends the connection.
    minder: OnceCell<AbortHandle>,
}

fn add(cell: &Cell<usize>) {
    cell.set(cell.get() + 1);
}

fn take(cell: &Cell<usize>) {
    cell.set(cell.get().saturating_sub(1));
}

impl Movement {
    fn note(&self) {
        self.moved.set(self.moved.get().wrapping_add(1));
    }

    fn served(&self) {
        self.served.set(self.served.get().wrapping_add(1));
    }

    /// Whether no request is being answered, and nothing of an answer is still to be taken.
    fn is_idle(&self) -> bool {
        self.asking.get() == 0 && self.bodies.get() == 0 && !self.write_pending.get()
    }

    /// Whether the caller is the one that everything waits for.
    fn waits_for_caller(&self) -> bool {
        let due = self.write_pending.get() || self.bodies.get() > 0;
        due && self.asking.get() == 0 && self.waiting.get() == 0
    }

    /// A piece of an answer was written over HTTP/2.
    pub(super) fn wrote_piece(&self) {
        self.pieces.set(self.pieces.get().wrapping_add(1));
    }

    /// Lets go of the bodies that only the caller holds up. Their streams end when it takes something of them again.
    fn let_go(&self) {
        let due = |shelf: &&Rc<Shelf>| shelf.is_due();
        let shelves: Vec<_> = self.shelves.borrow().iter().filter(due).cloned().collect();
        for shelf in shelves {
            drop(shelf.body.take());
        }
    }

    /// A request has come.
    pub(super) fn asked(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    /// How many requests have come.
    pub(super) fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// The body of a request has to be waited for.
    pub(super) fn begins_upload(&self) -> Rc<Upload> {
        let upload = Rc::default();
        self.uploads.borrow_mut().push(Rc::clone(&upload));
        upload
    }

    /// Nobody waits any more for the body of a request.
    pub(super) fn ends_upload(&self, upload: &Rc<Upload>) {
        let mut uploads = self.uploads.borrow_mut();
        uploads.retain(|other| !Rc::ptr_eq(other, upload));
    }

    /// Whether nobody uses the connection, and nobody has told it to end.
    pub(super) fn may_go(&self) -> bool {
        self.is_idle() && !self.head_begun.get() && self.why.get().is_none()
    }

    /// For how many looks of the minder's nobody has used the connection.
    pub(super) fn quiet(&self) -> u32 {
        self.quiet.get()
    }

    /// Whether the minder has looked whether anybody uses the connection since this was asked.
    pub(super) fn has_looked(&self) -> bool {
        self.looked.take()
    }

    /// Who minds the connection. Whoever has it told to end ends its minder.
    pub(super) fn minded_by(&self, minder: AbortHandle) {
        // One that winds up has been told already.
        let _ = self.minder.set(minder);
    }

    /// Tells the connection to end once what is in flight is answered.
    pub(super) fn end(&self, why: Closed) {
        self.ends(why);
        if let Some(minder) = self.minder.get() {
            minder.abort();
        }
    }

    /// Notes why the gateway ends the connection. The first reason counts.
    pub(super) fn ends(&self, why: Closed) {
        self.why.set(self.why.get().or(Some(why)));
    }

    /// Why the gateway ends the connection, if it does.
    pub(super) fn why(&self) -> Option<Closed> {
        self.why.get()
    }

    /// The head of a request has begun, or nothing of it is left to come.
    pub(super) fn head_begun(&self, begun: bool) {
        self.head_begun.set(begun);
    }

    /// Completes when one of these has been so for its time, or a quarter longer, and says which. Looking now and
    /// then costs less than timers that are set whenever something moves, and one timer serves for all.
    /// A caller who is slower than `rate` is looked for as well.
    pub(super) async fn stops<const N: usize>(
        &self,
        limits: [(Stop, Duration); N],
        rate: Option<MinRate>,
    ) -> Stop {
        let mut watches = limits.map(|(stop, limit)| Watch::new(stop, limit));
        let mut paces = rate.map(PaceWatch::new);
        loop {
            let next = watches.iter().map(|watch| watch.left);
            let next = next.chain(paces.iter().map(|paces| paces.left)).min();
            let before = SystemClock.instant();
            pause(next.unwrap_or(Duration::MAX)).await;
            // More than that passes: timers are never early.
            let passed = SystemClock.instant().saturating_duration_since(before);
            for watch in &mut watches {
                match (watch.passes(passed, self), watch.stop) {
                    (false, _) => {}
                    (true, Stop::Untaken) => self.let_go(),
                    (true, stop) => return stop,
                }
            }
            if let Some(paces) = &mut paces
                && paces.passes(passed, self)
            {
                return Stop::SlowReader;
            }
        }
    }

    /// What stays the same as long as it is so. None while it is not.
    fn look(&self, stop: Stop) -> Option<u64> {
        match stop {
            Stop::SlowHead => self.head_begun.get().then(|| self.requests.get()),
            Stop::Stalled => self.waits_for_caller().then(|| self.moved.get()),
            Stop::Untaken => {
                let is_any_due = self.shelves.borrow().iter().any(|shelf| shelf.is_due());
                is_any_due.then(|| self.pieces.get())
            }
            Stop::Idle => self.is_idle().then(|| self.served.get()),
            Stop::Old => Some(0),
            // Its own watch looks for it.
            Stop::SlowReader => None,
        }
    }
}

/// What keeps a connection from going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// One head has been incomplete for as long as a head may take.
    SlowHead,
    /// The caller has taken nothing although something is due.
    Stalled,
    /// The same of some answers over HTTP/2, whatever is the matter with others. It ends those alone: another request
    /// may rightly wait for its backend.
    Untaken,
    /// No request has been answered.
    Idle,
    /// The connection has lasted for as long as one may.
    Old,
    /// The caller takes what is due too slowly.
    SlowReader,
}

/// Looks now and then how fast things move.
struct PaceWatch {
    rate: MinRate,
    /// Until the next look.
    left: Duration,
    taking: Taking,
}

impl PaceWatch {
    fn new(rate: MinRate) -> Self {
        Self {
            rate,
            left: rate.every(),
            taking: Taking::new(rate),
        }
    }

    /// Lets so much time pass. Whether the caller takes what is due too slowly. Who waits for a body that comes too
    /// slowly is told.
    fn passes(&mut self, time: Duration, movement: &Movement) -> bool {
        self.left = self.left.saturating_sub(time);
        if !self.left.is_zero() {
            return false;
        }
        self.left = self.rate.every();
        pace::look(&movement.uploads.borrow(), self.rate);
        let (written, is_waited_for) = (movement.written.get(), movement.waits_for_caller());
        self.taking.look(self.rate, written, is_waited_for)
    }
}

/// Looks for something now and then.
struct Watch {
    stop: Stop,
    /// Between two looks.
    every: Duration,
    /// Until the next.
    left: Duration,
    before: Option<u64>,
    /// So many looks have found what the one before them found.
    same: u32,
}

impl Watch {
    /// So many looks in its time.
    const LOOKS: u32 = 4;

    fn new(stop: Stop, limit: Duration) -> Self {
        let every = limit / Self::LOOKS;
        Self {
            stop,
            every,
            left: every,
            before: None,
            same: 0,
        }
    }

    /// Lets so much time pass. Whether its own time is over.
    fn passes(&mut self, time: Duration, movement: &Movement) -> bool {
        self.left = self.left.saturating_sub(time);
        if !self.left.is_zero() {
            return false;
        }
        self.left = self.every;
        let now = movement.look(self.stop);
        self.same = match now.is_some() && now == self.before {
            true => self.same + 1,
            false => 0,
        };
        self.before = now;
        if self.stop == Stop::Idle {
            movement.quiet.set(self.same);
            movement.looked.set(true);
        }
        self.same >= Self::LOOKS
    }
}

/// A request whose answer has not begun.
pub(super) struct Asking(Rc<Movement>);

impl Asking {
    pub(super) fn begin(movement: &Rc<Movement>) -> Self {
        add(&movement.asking);
        Self(Rc::clone(movement))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        take(&self.0.asking);
        self.0.note();
        self.0.served();
    }
}

/// Where the body of an answer over HTTP/2 lies, so that it can be let go of while nobody asks for more of it.
struct Shelf {
    body: RefCell<Option<RecordedBody>>,
    /// Whether it waits for its backend.
    waits: Cell<bool>,
}

impl Shelf {
    /// Whether its next piece waits for the caller alone.
    fn is_due(&self) -> bool {
        !self.waits.get() && self.body.borrow().is_some()
    }
}

/// The body of an answer over HTTP/2.
pub(super) struct Shelved {
    shelf: Rc<Shelf>,
    movement: Rc<Movement>,
}

impl Shelved {
    pub(super) fn new(body: RecordedBody, movement: &Rc<Movement>) -> Self {
        let shelf = Rc::new(Shelf {
            body: RefCell::new(Some(body)),
            waits: Cell::new(false),
        });
        movement.shelves.borrow_mut().push(Rc::clone(&shelf));
        Self {
            shelf,
            movement: Rc::clone(movement),
        }
    }
}

impl Drop for Shelved {
    fn drop(&mut self) {
        let mut shelves = self.movement.shelves.borrow_mut();
        shelves.retain(|other| !Rc::ptr_eq(other, &self.shelf));
    }
}

impl Body for Shelved {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(body) = &mut *self.shelf.body.borrow_mut() else {
            let why = "the caller took nothing of it for too long".to_owned();
            return Poll::Ready(Some(Err(BodyError::Broken(why))));
        };
        let frame = Pin::new(body).poll_frame(cx);
        self.shelf.waits.set(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        let body = self.shelf.body.borrow();
        body.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.shelf.body.borrow();
        body.as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}

/// The body of an answer, watched.
pub(super) struct WatchedBody<B = RecordedBody> {
    body: B,
    movement: Rc<Movement>,
    waiting: bool,
}

impl<B> WatchedBody<B> {
    pub(super) fn new(body: B, movement: Rc<Movement>) -> Self {
        add(&movement.bodies);
        Self {
            body,
            movement,
            waiting: false,
        }
    }

    fn waits(&mut self, waits: bool) {
        match (self.waiting, waits) {
            (false, true) => add(&self.movement.waiting),
            (true, false) => take(&self.movement.waiting),
            (true, true) | (false, false) => {}
        }
        self.waiting = waits;
    }
}

impl WatchedBody {
    /// As [`RecordedBody::poll_cut`].
    pub(super) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.body.poll_cut(cx)
    }
}

impl<B> Drop for WatchedBody<B> {
    fn drop(&mut self) {
        self.waits(false);
        take(&self.movement.bodies);
        self.movement.note();
        self.movement.served();
    }
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Body for WatchedBody<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.waits(frame.is_pending());
        if frame.is_ready() {
            self.movement.note();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The caller's end of a connection, whose writes are watched.
pub(super) struct WatchedIo<IO> {
    io: IO,
    movement: Rc<Movement>,
}

impl<IO> WatchedIo<IO> {
    pub(super) fn new(io: IO, movement: Rc<Movement>) -> Self {
        Self { io, movement }
    }

    fn wrote(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let movement = &self.movement;
        movement.write_pending.set(outcome.is_pending());
        if let Poll::Ready(wrote) = &outcome {
            movement.note();
            let wrote = wrote.as_ref().map_or(0, |bytes| *bytes as u64);
            movement.written.set(movement.written.get() + wrote);
        }
        outcome
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for WatchedIo<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for WatchedIo<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write_vectored(cx, pieces);
        self.wrote(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.movement.write_pending.set(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a connection on which nothing moves lasts, when so much time passes from look to look.
    fn lasts(stop: Stop, limit: Duration, step: Duration) -> Duration {
        let movement = Movement::default();
        movement.head_begun(true);
        if stop == Stop::Stalled {
            add(&movement.bodies);
        }
        let mut watch = Watch::new(stop, limit);
        let mut lasted = step;
        while !watch.passes(step, &movement) {
            lasted += step;
        }
        lasted
    }

    #[test]
    fn a_connection_lasts_as_long_as_its_limit_or_a_quarter_longer_however_often_it_is_looked_at() {
        let limit = Duration::from_secs(2);
        for stop in [Stop::SlowHead, Stop::Stalled, Stop::Idle] {
            for step in [1, 7, 100, 500].map(Duration::from_millis) {
                let lasted = lasts(stop, limit, step);
                let longest = limit + limit / 4 + 5 * step;
                assert!(lasted >= limit, "{stop:?} {step:?}: {lasted:?}");
                assert!(lasted <= longest, "{stop:?} {step:?}: {lasted:?}");
            }
        }
    }

    #[test]
    fn what_moves_begins_anew() {
        let movement = Movement::default();
        add(&movement.bodies);
        let mut watch = Watch::new(Stop::Stalled, Duration::from_secs(4));
        for _ in 0..20 {
            movement.note();
            assert!(!watch.passes(Duration::from_secs(1), &movement));
        }
        let looks = (0..).take_while(|_| !watch.passes(Duration::from_secs(1), &movement));
        assert_eq!(looks.count(), 3);
    }
}
