//! A connection, and the requests on it, one after the other.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::Response;
use tokio::io::{AsyncRead, AsyncWrite};

use super::answer::{Answer, Asked};
use super::body::RequestBody;
use super::head::{Head, Heads};
use crate::body::{CallerBody, LONGEST_UNWANTED, MOST_UNWANTED, Source as _};
use crate::clock::within;
use crate::denial::Reason;
use crate::http1::{Content, Input, Malformed, Piece};
use crate::server::MOST_LINGERED;
use crate::server::connection::Served;
use crate::server::stall::{Movement, WatchedBody};
use crate::telemetry::Closed;

/// So many bytes of what follows on a request are read while that is answered.
const MOST_AHEAD: usize = 4 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A connection on which a caller speaks HTTP/1.
pub(in crate::server) struct Line<IO> {
    open: RefCell<Open<IO>>,
    movement: Rc<Movement>,
    /// No request is waited for any more.
    ends: Cell<bool>,
    /// Another protocol is spoken.
    is_handed_over: Cell<bool>,
}

struct Open<IO> {
    io: IO,
    input: Input,
    heads: Heads,
    /// What is left to be written of the interim answer that asks for the body, until that is sent.
    asks: Option<&'static [u8]>,
}

/// The body of a request, if it has one; some of it may be unread.
type Unread<IO> = Option<Rc<RequestBody<IO>>>;

/// An answer as it is sent now.
fn framed(
    served: &Served,
    asked: Asked,
    response: Response<WatchedBody>,
    keeps_alive: bool,
) -> Answer<WatchedBody> {
    Answer::new(
        asked,
        response,
        keeps_alive,
        || served.date(),
        served.scratch(),
    )
}

/// A request that is being answered; whether another may follow it.
type Answering<'l> = Pin<Box<dyn Future<Output = ControlFlow<()>> + 'l>>;

/// Takes a body from whoever else holds it, however its request ends: what sends it on may be a task of its own,
/// and would keep the connection open.
struct GivesUp<IO: AsyncRead + AsyncWrite + Unpin>(Unread<IO>);

impl<IO: AsyncRead + AsyncWrite + Unpin> Drop for GivesUp<IO> {
    fn drop(&mut self) {
        if let Some(body) = &self.0 {
            body.give_up();
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + 'static> Line<IO> {
    /// A connection that is open.
    pub(in crate::server) fn new(io: IO, served: &Served) -> Rc<Self> {
        Rc::new(Self {
            open: RefCell::new(Open {
                io,
                input: Input::new(served.scratch()),
                heads: Heads::new(served.max_head(), served.authorizations()),
                asks: None,
            }),
            movement: Rc::clone(served.movement()),
            ends: Cell::new(false),
            is_handed_over: Cell::new(false),
        })
    }

    /// What has begun is answered, and nothing behind it. Shows when the connection is polled again.
    pub(in crate::server) fn wind_up(&self) {
        self.ends.set(true);
    }

    /// Answers requests, until no other can follow or the caller leaves.
    pub(in crate::server) async fn serve(self: Rc<Self>, served: Rc<Served>) {
        while let Some(answering) = poll_fn(|cx| self.poll_request(&served, cx)).await {
            if answering.await.is_break() {
                return;
            }
            self.open.borrow_mut().input.rest();
        }
        self.close().await;
    }

    /// How the next request is answered. None when no request follows.
    fn poll_request<'l>(
        self: &'l Rc<Self>,
        served: &'l Rc<Served>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Answering<'l>>> {
        let head = ready!(self.poll_head(cx));
        // Boxed: what a request needs is given back when it is over, and a connection that waits holds little.
        Poll::Ready(head.map(|head| match head {
            Ok(head) => Box::pin(self.answer(served, head)) as _,
            Err(reason) => Box::pin(self.refuse(served, reason)) as _,
        }))
    }

    /// The next head, or why it is refused. None when no request follows.
    fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Head, Reason>>> {
        loop {
            let mut open = self.open.borrow_mut();
            let Open { input, heads, .. } = &mut *open;
            if let Some(taken) = heads.take(input.bytes()).transpose() {
                self.movement.head_begun(false);
                return Poll::Ready(Some(taken));
            }
            drop(open);
            match self.poll_read(cx) {
                Poll::Ready(Ok(1..)) => {}
                // A head that was cut off is forgotten.
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Pending => {
                    let has_begun = !self.open.borrow().input.is_empty();
                    self.movement.head_begun(has_begun);
                    return match self.is_over() && !has_begun {
                        true => Poll::Ready(None),
                        false => Poll::Pending,
                    };
                }
            }
        }
    }

    /// Whether no request is waited for any more. Who was let in before the gateway drained is answered once: it
    /// cannot know, and nobody has told it.
    fn is_over(&self) -> bool {
        let is_new = self.movement.why() == Some(Closed::Draining) && self.movement.requests() == 0;
        self.ends.get() && !is_new
    }

    fn answer<'l>(
        self: &'l Rc<Self>,
        served: &'l Rc<Served>,
        head: Head,
    ) -> impl Future<Output = ControlFlow<()>> + use<'l, IO> {
        self.movement.asked();
        let asked = Asked::of(&head);
        let Head {
            request,
            brought,
            content,
            wishes,
        } = head;
        let body = match self.is_done(&content) && !wishes.upgrades {
            true => None,
            false => Some(RequestBody::new(Rc::clone(self), content)),
        };
        let gives_up = GivesUp(body.clone());
        if wishes.expects_continue && body.as_ref().is_some_and(|body| !body.is_end_stream()) {
            self.open.borrow_mut().asks = Some(CONTINUE);
        }
        let request = request.map(|()| match &body {
            None => CallerBody::nothing(),
            Some(body) => CallerBody::on(Rc::clone(body) as Rc<_>),
        });
        async move {
            let _gives_up = gives_up;
            // Unless the caller leaves before it begins.
            let begun = {
                let asking = served.asking();
                let mut answering = pin!(served.answer(request, brought, None));
                let answered = poll_fn(|cx| match answering.as_mut().poll(cx) {
                    Poll::Ready(response) => Poll::Ready(Some(response)),
                    Poll::Pending => self.poll_left(&body, cx).map(|()| None),
                });
                let response = answered.await;
                drop(asking);
                response
                    .and_then(|response| self.begin(served, asked, served.watched(response), &body))
            };
            let Some(mut answer) = begun else {
                return ControlFlow::Break(());
            };
            let keeps_alive = answer.keeps_alive;
            let upgraded = self.is_handed_over.get().then(|| served.upgraded());
            let is_whole = self.write(&mut answer, &body).await;
            // Its record says when it was over, whatever is read behind it.
            drop((answer, upgraded));
            match is_whole {
                true => self.go_on(keeps_alive, &body).await,
                false => ControlFlow::Break(()),
            }
        }
    }

    /// Answers a head that can be read in two ways, so that nothing behind it can be read at all.
    async fn refuse(&self, served: &Rc<Served>, reason: Reason) -> ControlFlow<()> {
        let request = self.open.borrow().heads.refused();
        let request = request.map(|()| CallerBody::nothing());
        let response = served.answered(request, Some(reason)).await;
        self.movement.ends(Closed::Malformed);
        let mut answer = framed(served, Asked::default(), response, false);
        let is_whole = self.write(&mut answer, &None).await;
        drop(answer);
        if is_whole {
            self.linger().await;
        }
        ControlFlow::Break(())
    }

    /// The answer as it is to be sent. None if it cannot be, for an interim one was cut off.
    fn begin(
        &self,
        served: &Served,
        asked: Asked,
        response: Response<WatchedBody>,
        body: &Unread<IO>,
    ) -> Option<Answer<WatchedBody>> {
        let asks = self.open.borrow_mut().asks.take();
        // Who was not told to send the body may or may not do so now, unless it has done so.
        let untold = match asks {
            Some(left) if left.len() == CONTINUE.len() => {
                body.as_ref().is_some_and(|body| !body.is_end_stream())
            }
            Some([_, ..]) => return None,
            Some([]) | None => false,
        };
        let readable = |body: &Rc<RequestBody<IO>>| body.ends_within(MOST_UNWANTED as u64);
        let keeps_alive = asked.keeps_alive()
            && !self.ends.get()
            && !served.is_draining()
            && !untold
            && !self.is_last(served)
            && !self.is_handed_over.get()
            && body.as_ref().is_none_or(readable);
        Some(framed(served, asked, response, keeps_alive))
    }

    /// Whether the connection has served as many requests as it may. It then ends for that reason.
    fn is_last(&self, served: &Served) -> bool {
        let is_last = served.is_last_request();
        if is_last {
            self.movement.ends(Closed::MaxRequests);
        }
        is_last
    }

    /// Reads what of the request is still to come behind its answer.
    async fn go_on(&self, keeps_alive: bool, body: &Unread<IO>) -> ControlFlow<()> {
        let is_read = match body {
            None => true,
            Some(body) => {
                body.give_up();
                body.is_end_stream() || (keeps_alive && self.read_rest(body).await)
            }
        };
        let is_quiet = is_read && self.open.borrow().input.is_empty();
        match (keeps_alive && is_read, is_quiet) {
            (true, _) => return ControlFlow::Continue(()),
            (false, true) => self.close().await,
            (false, false) => self.linger().await,
        }
        ControlFlow::Break(())
    }

    /// Writes the answer. Whether it is whole.
    async fn write(&self, answer: &mut Answer<WatchedBody>, body: &Unread<IO>) -> bool {
        let sent = poll_fn(|cx| {
            let sent = answer.sending.poll(&mut self.open.borrow_mut().io, cx);
            match sent {
                Poll::Ready(sent) => Poll::Ready(sent.is_ok()),
                Poll::Pending if self.is_handed_over.get() => {
                    answer.sending.body().poll_cut(cx).map(|()| false)
                }
                Poll::Pending => self.poll_left(body, cx).map(|()| false),
            }
        });
        sent.await
    }

    /// Ready when the caller has closed its side behind a request that is whole: nobody waits for the answer. What
    /// follows is read already, but no more than a little of it: who leaves behind more is noticed when the answer is
    /// written.
    fn poll_left(&self, body: &Unread<IO>, cx: &mut Context<'_>) -> Poll<()> {
        let is_whole = body.as_ref().is_none_or(|body| body.is_end_stream());
        while is_whole && self.open.borrow().input.len() < MOST_AHEAD {
            match ready!(self.poll_read(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Reads what is left of a body that nobody wants. Whether that was all of it.
    async fn read_rest(&self, body: &Rc<RequestBody<IO>>) -> bool {
        let mut read = 0;
        let reading = async {
            loop {
                match poll_fn(|cx| body.poll_piece(cx)).await {
                    Ok(Piece::Data(data)) => read += data.len(),
                    Ok(Piece::Trailers(_)) => {}
                    Ok(Piece::End | Piece::More) => return true,
                    Err(_) => return false,
                }
                if read > MOST_UNWANTED {
                    return false;
                }
            }
        };
        within(LONGEST_UNWANTED, reading).await.unwrap_or(false)
    }

    /// Closes the connection, on which nothing more is to come.
    async fn close(&self) {
        let _ = within(LONGEST_UNWANTED, poll_fn(|cx| self.poll_shutdown(cx))).await;
    }

    /// Closes our side, and reads on a little: what comes on a closed connection is answered by a reset, which
    /// may overtake the answer on its way.
    async fn linger(&self) {
        let mut read = 0;
        let lingering = poll_fn(|cx| {
            ready!(self.poll_shutdown(cx));
            while read < MOST_LINGERED {
                match ready!(self.poll_read(cx)) {
                    Ok(0) | Err(_) => break,
                    Ok(more) => read += more,
                }
                self.open.borrow_mut().input.bytes().clear();
            }
            Poll::Ready(())
        });
        let _ = within(LONGEST_UNWANTED, lingering).await;
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut open = self.open.borrow_mut();
        // Whether it closes well or not, it is over.
        Pin::new(&mut open.io).poll_shutdown(cx).map(|_| ())
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Line<IO> {
    /// From here on another protocol is spoken.
    pub(super) fn hand_over(&self) {
        self.is_handed_over.set(true);
    }

    /// Keeps no memory while nothing comes that may not come for hours.
    pub(super) fn rest(&self) {
        if self.is_handed_over.get() {
            self.open.borrow_mut().input.rest();
        }
    }

    /// What moves on it.
    pub(super) fn movement(&self) -> &Rc<Movement> {
        &self.movement
    }

    /// Reads once.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Open { io, input, .. } = &mut *self.open.borrow_mut();
        input.poll_read(io, cx)
    }

    /// Takes the next piece of a body.
    pub(super) fn take(&self, content: &mut Content) -> Result<Piece, Malformed> {
        content.take(self.open.borrow_mut().input.bytes())
    }

    /// Whether nothing of a body is left.
    pub(super) fn is_done(&self, content: &Content) -> bool {
        content.is_done(&self.open.borrow().input)
    }

    /// Asks the caller for the body, if it waits for that.
    pub(super) fn poll_continue(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Open { io, asks, .. } = &mut *self.open.borrow_mut();
        while let Some(left) = asks {
            if left.is_empty() {
                ready!(Pin::new(&mut *io).poll_flush(cx))?;
                *asks = None;
                break;
            }
            let written = ready!(Pin::new(&mut *io).poll_write(cx, left))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *left = left.get(written..).unwrap_or_default();
        }
        Poll::Ready(Ok(()))
    }
}
