//! Bodies on their way through: streamed both ways, never held. What the caller sends behind its body
//! is held to the same rules as its headers; what the backend sends must keep coming.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::Notify;

use super::care::Load;
use super::endpoint::EndpointId;
use super::http1::{AnswerBody, Fault, Upload, as_it_is};
use super::moment::moment;
use super::pool::Lease;
use super::tunnel::{Next, Tunnel};
use crate::body::{BodyFault, Broken, CallerBody};
use crate::canonical::{folds_alike, gateway_writes, strip_trailers};
use crate::clock::{Clock, pause};
use crate::denial::Reason;
use crate::http1::Scratch;
use crate::limits::{Passing, Slot};
use crate::seal::{BodySealer, Caught, withhold};

/// The caller's body, as the backend receives it.
pub(super) struct RequestBody {
    incoming: CallerBody,
    state: Progress,
    withheld: Withheld,
    passing: Passing,
}

/// The fields that the gateway asserts on a route, which no trailer may be taken for.
#[derive(Default)]
pub(super) struct Withheld {
    /// The one that carries the credential.
    pub(super) credential: Option<HeaderName>,
    /// Those that carry claims.
    pub(super) claims: Arc<[(HeaderName, Box<str>)]>,
}

impl Withheld {
    fn holds(&self, name: &HeaderName) -> bool {
        let claims = self.claims.iter().map(|(name, _)| name);
        let mut names = self.credential.iter().chain(claims);
        names.any(|other| folds_alike(name, other))
    }
}

/// How far the caller's body has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    sent: Cell<Sent>,
    pieces: Cell<u64>,
    /// Whether the backend's connection waits for more of it, rather than it for the connection.
    is_awaited: Cell<bool>,
    ended: Notify,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sent {
    #[default]
    Partly,
    Whole,
    Broken(BodyFault),
}

impl Progress {
    /// Whether the body was sent whole, so that the connection is free for another request.
    pub(super) fn is_whole(&self) -> bool {
        self.0.sent.get() == Sent::Whole
    }

    /// Whether the caller broke off, which is not the backend's fault.
    pub(super) fn is_broken(&self) -> bool {
        self.fault().is_some()
    }

    /// Why the caller's body came to nothing, if it did.
    pub(super) fn fault(&self) -> Option<BodyFault> {
        match self.0.sent.get() {
            Sent::Broken(fault) => Some(fault),
            Sent::Partly | Sent::Whole => None,
        }
    }

    /// Whether the caller is waited for: more of its body is to come.
    pub(super) fn is_awaited(&self) -> bool {
        self.0.is_awaited.get() && self.0.sent.get() == Sent::Partly
    }

    /// Whether it is the caller's doing that nothing comes of the request.
    pub(super) fn is_to_blame(&self) -> bool {
        self.is_broken() || self.is_awaited()
    }

    /// How many pieces of it the backend's connection has taken.
    pub(super) fn pieces(&self) -> u64 {
        self.0.pieces.get()
    }

    /// Completes when nothing more of it is to come.
    pub(super) async fn ended(&self) {
        if self.0.sent.get() == Sent::Partly {
            self.0.ended.notified().await;
        }
    }

    fn end(&self, sent: Sent) {
        self.0.sent.set(sent);
        self.0.ended.notify_one();
    }
}

impl RequestBody {
    pub(super) fn new(
        incoming: CallerBody,
        withheld: Withheld,
        passing: Passing,
    ) -> (Self, Progress) {
        let state = Progress::default();
        if incoming.is_end_stream() {
            state.end(Sent::Whole);
        }
        let progress = state.clone();
        let body = Self {
            incoming,
            state,
            withheld,
            passing,
        };
        (body, progress)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        self.state.0.is_awaited.set(frame.is_pending());
        let frame = match ready!(frame) {
            None => {
                self.state.end(Sent::Whole);
                return Poll::Ready(None);
            }
            Some(Err(error)) => {
                self.state.end(Sent::Broken(error.fault));
                return Poll::Ready(Some(Err(error)));
            }
            Some(Ok(frame)) => frame,
        };
        self.state.0.pieces.set(self.state.pieces() + 1);
        if let Some(data) = frame.data_ref() {
            self.passing.add(data.len());
        }
        if self.incoming.is_end_stream() {
            self.state.end(Sent::Whole);
        }
        Poll::Ready(Some(Ok(clean(frame, &self.withheld))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A trailer may say no more than a header may: backends merge the two.
fn clean(frame: Frame<Bytes>, withheld: &Withheld) -> Frame<Bytes> {
    match frame.into_trailers() {
        Err(data) => data,
        Ok(trailers) => {
            let mut kept = HeaderMap::with_capacity(trailers.len());
            for (name, value) in &trailers {
                if !gateway_writes(name) && !withheld.holds(name) {
                    kept.append(name, value.clone());
                }
            }
            Frame::trailers(kept)
        }
    }
}

/// The backend's body, as the caller receives it.
pub struct ResponseBody {
    stream: Stream,
    idle: Duration,
    // Made when the body first has to be waited for: most are there already.
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    /// What few bodies have.
    held: Option<Box<Held>>,
    /// What seals the URLs in it, where the route asks for that.
    sealing: Option<Box<Sealing>>,
    /// Where it is no body at all, for another protocol is spoken.
    tunnel: Option<Box<Tunnel>>,
    /// What was withheld behind it.
    behind: Caught,
    /// What its request holds until the answer is over.
    slot: Slot,
}

/// What is held until a body has ended.
#[derive(Default)]
struct Held {
    /// When all of it must be there.
    end: Option<Pin<Box<tokio::time::Sleep>>>,
    stay: Option<Stay>,
}

/// An answer's place at an endpoint of a backend that gets more than being called.
pub(super) struct Stay {
    pub(super) load: Load,
    /// What failures there are noted by.
    pub(super) clock: Arc<dyn Clock>,
    /// How far the request's body has come, for an answer may begin before its end.
    pub(super) progress: Progress,
}

impl Held {
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        let end = self.end.as_mut();
        end.is_some_and(|end| end.as_mut().poll(cx).is_ready())
    }

    fn failed(&mut self) {
        if let Some(mut stay) = self.stay.take()
            && !stay.progress.is_to_blame()
        {
            stay.load.failed(moment(stay.clock.instant()));
        }
    }
}

/// A body whose URLs are sealed on their way.
struct Sealing {
    sealer: BodySealer,
    /// Trailers that wait until what is before them has been passed on.
    trailers: Option<Frame<Bytes>>,
    finished: bool,
}

/// What a backend may not say in a header, it may not say behind its body.
fn strip(frame: Frame<Bytes>, caught: &mut Caught) -> Frame<Bytes> {
    match frame.into_trailers() {
        Err(data) => data,
        Ok(mut trailers) => {
            strip_trailers(&mut trailers);
            *caught += withhold(&mut trailers);
            Frame::trailers(trailers)
        }
    }
}

/// How the body comes.
pub(super) enum Stream {
    /// With the connection that it comes on, which is free again behind it.
    Http1(Option<(AnswerBody, Lease)>),
    /// The connection is shared by all; there is nothing to give back.
    Http2(Incoming),
}

impl Stream {
    fn hand_over(&mut self, caller: Upload) -> bool {
        match self {
            Self::Http1(Some((body, _))) => body.hand_over(caller),
            Self::Http1(None) | Self::Http2(_) => false,
        }
    }

    /// Passes on nothing more of what the caller says.
    fn hear_no_more(&mut self) {
        if let Self::Http1(Some((body, _))) = self {
            body.hear_no_more();
        }
    }

    /// Keeps no memory while nothing comes.
    fn rest(&mut self) {
        if let Self::Http1(Some((body, _))) = self {
            body.rest();
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Http1(None) => Poll::Ready(None),
            Self::Http1(Some((body, _))) => body
                .poll_frame(cx)
                .map_err(|fault: Fault| BodyError::Broken(fault.to_string())),
            Self::Http2(incoming) => Pin::new(incoming)
                .poll_frame(cx)
                .map_err(|error| BodyError::Broken(error.to_string())),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.as_ref().is_none_or(|(body, _)| body.is_end_stream()),
            Self::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(Some((body, _))) => body.size_hint(),
            Self::Http1(None) => SizeHint::with_exact(0),
            Self::Http2(incoming) => incoming.size_hint(),
        }
    }
}

/// A connection whose answer was read whole is free again; any other is closed, which tells the backend that
/// nobody waits for the rest.
impl Drop for Stream {
    fn drop(&mut self) {
        if let Self::Http1(body) = self
            && let Some((body, lease)) = body.take()
            && let Some(connection) = body.into_connection()
        {
            lease.give_back(connection);
        }
    }
}

/// Why a backend's body broke off.
#[derive(Debug)]
pub enum BodyError {
    /// The connection failed, or what came is no body.
    Broken(String),
    /// Nothing came for the backend's idle time.
    Idle,
    /// The time for all of it is over.
    Total,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => write!(f, "the backend's body broke off: {error}"),
            Self::Idle => f.write_str("the backend's body stalled"),
            Self::Total => f.write_str("the backend's body took too long"),
        }
    }
}

impl std::error::Error for BodyError {}

impl ResponseBody {
    pub(super) fn new(stream: Stream, idle: Duration, slot: Slot) -> Self {
        Self {
            stream,
            idle,
            timer: None,
            held: None,
            sealing: None,
            tunnel: None,
            behind: Caught::default(),
            slot,
        }
    }

    /// Has it end by then, whole or not.
    pub(super) fn end_by(&mut self, time: Pin<Box<tokio::time::Sleep>>) {
        self.held.get_or_insert_default().end = Some(time);
    }

    /// Keeps a place at an endpoint until it has ended.
    pub(super) fn hold(&mut self, stay: Stay) {
        self.held.get_or_insert_default().stay = Some(stay);
    }

    /// Hands the connection over: from here on what comes on either side goes to the other as it is. Whether that can be.
    pub(super) fn hand_over(
        &mut self,
        caller: CallerBody,
        is_websocket: bool,
        scratch: Scratch,
    ) -> bool {
        let Some(caller) = caller.hand_over() else {
            return false;
        };
        let (said, progress) = RequestBody::new(caller, Withheld::default(), self.slot.passing());
        self.tunnel = Some(Box::new(Tunnel::new(progress, is_websocket)));
        self.stream.hand_over(as_it_is(said, scratch))
    }

    /// Has the connection that was handed over end when `watch` says so, with why the caller may go on no longer, or
    /// without a reason where the gateway leaves.
    pub fn end_when(&mut self, watch: impl Future<Output = Option<Reason>> + 'static) {
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.watch(Box::pin(watch));
        }
    }

    /// The endpoint whose connection it comes on, where that is its alone.
    pub fn endpoint(&self) -> Option<EndpointId> {
        match &self.stream {
            Stream::Http1(body) => body.as_ref().map(|(_, lease)| lease.endpoint),
            Stream::Http2(_) => None,
        }
    }

    /// Why the caller might not go on, where a connection that was handed over ended for that.
    pub fn ended_by(&self) -> Option<Reason> {
        self.tunnel.as_ref()?.ended_by()
    }

    /// Has the URLs in it sealed.
    pub(super) fn seal(&mut self, sealer: BodySealer) {
        self.sealing = Some(Box::new(Sealing {
            sealer,
            trailers: None,
            finished: false,
        }));
    }

    /// How many URLs have been sealed in it, and how many withheld.
    pub fn caught(&self) -> Caught {
        let sealing = self.sealing.as_ref();
        let within = sealing.map_or_else(Caught::default, |sealing| sealing.sealer.caught());
        within + self.behind
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let idle = self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(pause(idle)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(BodyError::Idle)
    }
}

impl Sealing {
    /// What becomes of a frame: data sealed, which may be nothing yet; the end, or trailers, once all
    /// data is out.
    fn pass(&mut self, frame: Option<Frame<Bytes>>) -> Option<Option<Frame<Bytes>>> {
        let mut out = Vec::new();
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => self.sealer.push(&data, &mut out),
            Some(Err(trailers)) => {
                self.sealer.finish(&mut out);
                self.finished = true;
                self.trailers = Some(trailers);
            }
            None => {
                self.sealer.finish(&mut out);
                self.finished = true;
            }
        }
        match (out.is_empty(), self.finished) {
            (false, _) => Some(Some(Frame::data(out.into()))),
            (true, false) => None,
            (true, true) => Some(self.trailers.take()),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.tunnel.is_some() {
            return self.poll_tunnel(cx);
        }
        loop {
            let waiting = self.sealing.as_mut();
            if let Some(sealing) = waiting.filter(|sealing| sealing.finished) {
                return Poll::Ready(sealing.trailers.take().map(Ok));
            }
            let frame = match ready!(self.as_mut().poll_incoming(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => Some(frame),
                None => None,
            };
            let Some(sealing) = self.sealing.as_mut() else {
                return Poll::Ready(frame.map(Ok));
            };
            if let Some(passed) = sealing.pass(frame) {
                return Poll::Ready(passed.map(Ok));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match (&self.tunnel, &self.sealing) {
            (Some(tunnel), _) => tunnel.is_over(),
            (None, None) => self.stream.is_end_stream(),
            (None, Some(sealing)) => sealing.finished && sealing.trailers.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.sealing {
            None => self.stream.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}

impl ResponseBody {
    /// Ready when the caller, who takes nothing just now, is to be cut off: a connection that was handed over ends even
    /// so, and what the caller says goes nowhere any more.
    pub fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.end_in_time(cx);
        let Some(tunnel) = &mut self.tunnel else {
            return Poll::Pending;
        };
        let cut = tunnel.poll_cut(cx);
        if !tunnel.is_open() {
            self.stream.hear_no_more();
        }
        cut
    }

    /// Has what was handed over end when all its time is over.
    fn end_in_time(&mut self, cx: &mut Context<'_>) {
        if let (Some(held), Some(tunnel)) = (&mut self.held, &mut self.tunnel)
            && held.is_over(cx)
        {
            tunnel.end(None);
        }
    }

    fn poll_tunnel(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.end_in_time(cx);
        while let Some(tunnel) = &mut self.tunnel {
            let next = tunnel.next(cx);
            if !tunnel.is_open() {
                self.stream.hear_no_more();
            }
            match next {
                Next::PassOn => {}
                Next::Last(said) => return Poll::Ready(Some(Ok(Frame::data(said)))),
                Next::End => break,
            }
            let Poll::Ready(said) = self.stream.poll_frame(cx) else {
                self.stream.rest();
                ready!(self.wait(cx));
                // It is quiet on both sides, or on this one alone.
                self.timer = None;
                if let Some(tunnel) = &mut self.tunnel
                    && !tunnel.has_moved()
                {
                    tunnel.end(None);
                }
                continue;
            };
            self.timer = None;
            let Some(said) = said else {
                tunnel.is_closed();
                break;
            };
            // How it ends is between the two, and no failure of the endpoint.
            let said = said?;
            let said = tunnel.pass(said.into_data().unwrap_or_default());
            self.slot.add(said.len());
            if !said.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(said))));
            }
        }
        Poll::Ready(None)
    }

    fn poll_incoming(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(held) = &mut self.held
            && held.is_over(cx)
        {
            return Poll::Ready(Some(Err(BodyError::Total)));
        }
        let frame = match self.stream.poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => Some(Err(ready!(self.wait(cx)))),
        };
        self.timer = None;
        if let Some(Ok(frame)) = &frame {
            self.slot.add(frame.data_ref().map_or(0, Bytes::len));
        }
        if let (Some(held), Some(Err(_))) = (&mut self.held, &frame) {
            held.failed();
        }
        let caught = &mut self.behind;
        Poll::Ready(frame.map(|frame| frame.map(|frame| strip(frame, caught))))
    }
}
