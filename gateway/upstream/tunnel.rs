//! A connection on which another protocol is spoken: what the backend says goes to the caller as it comes, until one of
//! the two ends it, nothing is said for too long, or the caller may go on no longer.

use std::future::{Future, pending};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Sleep;

use super::body::Progress;
use crate::clock::pause;
use crate::denial::Reason;
use crate::upgrade::websocket::{self, GOING_AWAY, POLICY_VIOLATION, Walk};

/// How long a frame that has begun may take to be whole, once the connection is to end.
const LAST_FRAME: Duration = Duration::from_secs(1);
/// How long the caller may then take for what it is told last.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// When a connection is to end, and why the caller may go on no longer; none where the gateway just leaves.
pub(super) type Watch = Pin<Box<dyn Future<Output = Option<Reason>>>>;

/// How a handed-over connection stands.
pub(super) struct Tunnel {
    /// How much the caller has said.
    said: Progress,
    pieces: u64,
    /// Completes when the caller is gone.
    gone: Pin<Box<dyn Future<Output = ()>>>,
    watch: Watch,
    /// Where the backend's frames end, if it is a WebSocket.
    frames: Option<Walk>,
    state: State,
    ended_by: Option<Reason>,
    /// When the caller is cut off, whatever it has not taken by then.
    cut: Option<Pin<Box<Sleep>>>,
}

enum State {
    Open,
    /// It ends with the frame that has begun.
    Ends(Pin<Box<Sleep>>),
    Over,
}

/// What is to be done next.
pub(super) enum Next {
    /// What the backend says is passed on.
    PassOn,
    /// The last that the caller is told.
    Last(Bytes),
    /// Nothing more.
    End,
}

impl Tunnel {
    pub(super) fn new(said: Progress, is_websocket: bool) -> Self {
        let caller = said.clone();
        let gone = async move {
            caller.ended().await;
            // Who has said all may still listen.
            if !caller.is_broken() {
                pending().await
            }
        };
        Self {
            said,
            pieces: 0,
            gone: Box::pin(gone),
            watch: Box::pin(pending()),
            frames: is_websocket.then(Walk::default),
            state: State::Open,
            ended_by: None,
            cut: None,
        }
    }

    /// Has it end when `watch` says so.
    pub(super) fn watch(&mut self, watch: Watch) {
        self.watch = watch;
    }

    /// Why the caller might not go on.
    pub(super) fn ended_by(&self) -> Option<Reason> {
        self.ended_by
    }

    /// Whether what the caller says may still go to the backend.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether the caller has said more since this was last asked, or the backend spoke.
    pub(super) fn has_moved(&mut self) -> bool {
        let before = std::mem::replace(&mut self.pieces, self.said.pieces());
        before != self.pieces
    }

    /// It ends as soon as no frame is cut by that.
    pub(super) fn end(&mut self, why: Option<Reason>) {
        if self.is_open() {
            self.ended_by = why;
            self.state = State::Ends(Box::pin(pause(LAST_FRAME)));
            self.cut = Some(Box::pin(pause(LAST_WORDS)));
        }
    }

    fn look(&mut self, cx: &mut Context<'_>) {
        if !self.is_open() {
            return;
        }
        if self.gone.as_mut().poll(cx).is_ready() {
            self.state = State::Over;
        } else if let Poll::Ready(why) = self.watch.as_mut().poll(cx) {
            self.end(why);
        }
    }

    /// Ready when the caller is to be cut off, whatever it has not taken. To be asked while it takes nothing.
    pub(super) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_open() {
            self.look(cx);
            // If it is to end only now, whoever would take more can be told.
            if !self.is_open() {
                cx.waker().wake_by_ref();
            }
        }
        match (&mut self.cut, &self.state) {
            (Some(cut), _) => cut.as_mut().poll(cx),
            // Nobody is there any more.
            (None, State::Over) => Poll::Ready(()),
            (None, State::Open | State::Ends(_)) => Poll::Pending,
        }
    }

    /// Looks whether it is to end.
    pub(super) fn next(&mut self, cx: &mut Context<'_>) -> Next {
        self.look(cx);
        let is_late = match &mut self.state {
            State::Open => return Next::PassOn,
            State::Over => return Next::End,
            State::Ends(late) => late.as_mut().poll(cx).is_ready(),
        };
        let last = self.frames.as_ref().filter(|frames| !frames.has_closed());
        match last {
            Some(frames) if frames.is_between() => {
                self.state = State::Over;
                Next::Last(match self.ended_by {
                    Some(why) => websocket::close(POLICY_VIOLATION, why.code()),
                    None => websocket::close(GOING_AWAY, ""),
                })
            }
            Some(_) if !is_late => Next::PassOn,
            Some(_) | None => {
                self.state = State::Over;
                Next::End
            }
        }
    }

    /// The backend has said this. What of it is passed on.
    pub(super) fn pass(&mut self, mut data: Bytes) -> Bytes {
        self.pieces = self.said.pieces();
        let ends = matches!(self.state, State::Ends(_));
        if let Some(frames) = &mut self.frames {
            data.truncate(frames.along(&data, ends));
        }
        data
    }

    /// The backend has closed.
    pub(super) fn is_closed(&mut self) {
        self.state = State::Over;
    }
}
