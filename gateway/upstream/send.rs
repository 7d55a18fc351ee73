//! Sending: the one function that lets a request out, to the backend that its route names.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};

use super::again::Careful;
use super::backend::Backend;
use super::body::{Progress, RequestBody, ResponseBody, Stay, Stream, Withheld};
use super::connect::{connect, late, speak_http2};
use super::endpoint::Endpoint;
use super::http1::{AnswerBody, Fault, Head, Http1, Upload, Wire, upload};
use super::outgoing::{Caller, Parts, upgrade_field};
use super::pool::{Lease, Pools};
use super::unsealed::Unsealed;
use crate::body::{BodyFault, CallerBody};
use crate::canonical::{self, strip_response};
use crate::clock::{Now, pause, within};
use crate::credentials::Presented;
use crate::denial::{Denial, Reason};
use crate::files::{self, RouteTimeouts};
use crate::limits::Slot;
use crate::net::address::Resolver;
use crate::policy::{Authorized, SealsBody, Upgrade};
use crate::trace::Trace;

/// What a request must have before it may go: that it was let in, is within its limits, and has a
/// credential for the backend of its route.
pub struct Proofs<'r> {
    /// The policy lets it in.
    pub authorized: &'r Authorized<'r>,
    /// It is within its limits.
    pub slot: Slot,
    /// The backend of its route.
    pub backend: &'r Backend,
    /// What the gateway presents to that backend.
    pub credential: Presented,
    /// Path and query at the backend, where a sealed URL is followed.
    pub followed: Option<&'r str>,
    /// What the connection may be handed over to, where the caller asks for that.
    pub upgrade: Option<Upgrade>,
}

/// What a request goes by.
#[derive(Clone, Copy)]
pub struct Way<'r> {
    /// The worker's connections.
    pub pools: &'r Pools,
    /// Finds addresses.
    pub resolver: &'r Arc<dyn Resolver>,
    /// When the request arrived.
    pub now: &'r Now,
    /// Where it is told how often the request was tried, for a backend that may be tried again.
    pub attempts: &'r Cell<u32>,
}

/// Sends a request and returns the head of the answer, its body still streaming.
///
/// The request is put together before the first wait: nothing that it is made from takes room while it is on its
/// way.
///
/// # Errors
/// 502 when the backend cannot be reached, is not who it should be, breaks off or refuses the
/// gateway's credential; 504 when it is late.
pub fn send<'r>(
    proofs: Proofs<'r>,
    way: Way<'r>,
    caller: &'r Caller,
    trace: Trace,
    id: &'r HeaderValue,
    request: &mut canonical::Request,
    body: CallerBody,
) -> impl Future<Output = Result<Unsealed, Denial>> + use<'r> {
    let mut going = Going::new(proofs, way, caller, trace, id, request, body);
    async move {
        match &mut going {
            Ok(going) => going.send().await,
            Err(denial) => Err(denial.clone()),
        }
    }
}

/// A request on its way.
pub(super) struct Going<'r> {
    pub(super) exchange: Exchange<'r>,
    pub(super) request: Outbound,
    pub(super) progress: Progress,
    /// What is needed where the backend gets more than being called. Boxed, for most do not.
    pub(super) careful: Option<Box<Careful<'r>>>,
    /// Whether something is presented to the backend, and whether that is the gateway's own.
    presented: bool,
    is_own: bool,
    /// The field that carries it.
    echo: Option<HeaderName>,
    bodies: SealsBody,
    /// Until the answer's body takes it along.
    slot: Option<Slot>,
    /// What comes on the caller's side, where the connection may be handed over. Boxed, for hardly any request asks for
    /// that.
    caller: Option<Box<CallerBody>>,
}

pub(super) enum Outbound {
    /// Nothing of it is left where the answer's body has taken it along.
    Http1(Method, Option<Upload>),
    /// It is there as long as nothing of it was sent.
    Http2(Option<Request<RequestBody>>),
}

impl<'r> Going<'r> {
    fn new(
        proofs: Proofs<'r>,
        way: Way<'r>,
        caller: &'r Caller,
        trace: Trace,
        id: &'r HeaderValue,
        request: &mut canonical::Request,
        mut body: CallerBody,
    ) -> Result<Self, Denial> {
        let Proofs {
            authorized,
            slot,
            backend,
            credential,
            followed,
            upgrade,
        } = proofs;
        let callers = upgrade
            .as_ref()
            .map(|_| Box::new(std::mem::replace(&mut body, CallerBody::nothing())));
        let (presented, is_own) = (credential.carries(), credential.is_own());
        let route = authorized.matched().route();
        let echo = credential.name().cloned();
        let withheld = Withheld {
            credential: echo.clone(),
            claims: Arc::clone(route.claim_headers()),
        };
        // What both sides say piece by piece may take its time: gRPC.
        if backend.endpoint.protocol == files::Protocol::Http2 {
            body.take_time();
        }
        let mut careful = match &backend.care {
            None => None,
            Some(care) => Some(Careful::begin(care, &way)?),
        };
        let member = careful.as_ref().and_then(|careful| careful.member());
        let (endpoint, host) = match member {
            None => (&backend.endpoint, &backend.target.host),
            Some(member) => (&member.endpoint, &member.host),
        };
        let parts = Parts {
            authorized,
            target: &backend.target,
            host,
            followed,
            caller,
            trace,
            id,
            upgrade: upgrade.as_ref().map(|upgrade| upgrade.asked().protocol()),
        };
        let (body, progress) = RequestBody::new(body, withheld, slot.passing());
        let head = parts.head(request, credential)?;
        let request = match backend.endpoint.protocol {
            files::Protocol::Http1 => {
                let upload = upload(&head, body, way.pools.scratch());
                Outbound::Http1(head.method().clone(), Some(upload))
            }
            files::Protocol::Http2 => {
                let request = head.into_request(&backend.target, host)?.map(|()| body);
                Outbound::Http2(Some(request))
            }
        };
        if let Some(careful) = &mut careful {
            careful.keep(&request, &progress);
        }
        let timeouts = route.timeouts();
        Ok(Self {
            exchange: Exchange {
                way,
                backend,
                endpoint,
                route: timeouts,
                first_byte: timeouts.first_byte.unwrap_or(backend.timeouts.first_byte),
                upgrade,
            },
            request,
            progress,
            careful,
            presented,
            is_own,
            echo,
            bodies: route.seals_body(),
            slot: Some(slot),
            caller: callers,
        })
    }

    async fn send(&mut self) -> Result<Unsealed, Denial> {
        let delivered = match self.exchange.total() {
            None => self.deliver().await,
            Some(total) => Box::pin(self.deliver_within(total)).await,
        };
        if let (Err(denial), Some(slot)) = (&delivered, &self.slot)
            && !is_callers(denial.reason())
            && !self.progress.is_awaited()
        {
            slot.failed();
        }
        let mut response = delivered?;
        // The backend refused the gateway, not the caller: its challenge would mislead the caller, and
        // tell a stranger how the backend is called.
        if response.status() == StatusCode::UNAUTHORIZED && self.presented {
            if self.is_own {
                self.exchange.backend.credential().refused();
            }
            return Err(Reason::BackendRefusedCredential.into());
        }
        reframe(&mut response);
        // An echo of what the gateway presented, or of how.
        let echoes = |name: &HeaderName| {
            self.presented
                && (*name == header::WWW_AUTHENTICATE || Some(name) == self.echo.as_ref())
        };
        strip_response(response.headers_mut(), echoes);
        let mut bodies = self.bodies;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // What is no message of HTTP is nobody's to look through.
            bodies = SealsBody::Never;
            let upgrade = self.exchange.upgrade.as_ref();
            if let Some(value) = upgrade.and_then(|one| upgrade_field(one.asked().protocol())) {
                response.headers_mut().insert(header::UPGRADE, value);
            }
        }
        Ok(Unsealed::new(response, bodies))
    }

    /// Has the whole answer come in time, its body too.
    async fn deliver_within(&mut self, total: Duration) -> Result<Response<ResponseBody>, Denial> {
        let mut time = Box::pin(pause(total));
        let delivered = tokio::select! {
            delivered = self.deliver() => delivered,
            () = time.as_mut() => {
                if let Some(careful) = &mut self.careful {
                    let now = self.exchange.way.pools.clock().instant();
                    careful.late(&self.progress, now);
                }
                return Err(late(Reason::BackendTimeout, "total", total));
            }
        };
        let mut response = delivered?;
        response.body_mut().end_by(time);
        Ok(response)
    }

    async fn deliver(&mut self) -> Result<Response<ResponseBody>, Denial> {
        let (exchange, progress) = (&self.exchange, &self.progress);
        let response = match (&self.careful, &mut self.request) {
            (None, Outbound::Http1(method, upload)) => {
                exchange.by_http1(method, upload, progress).await?
            }
            // Boxed, for the room that these take would be in every request.
            (None, Outbound::Http2(request)) => {
                Box::pin(exchange.by_http2(request, progress)).await?
            }
            (Some(_), _) => Box::pin(self.with_care()).await?,
        };
        let is_handed_over = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let idle = self.exchange.idle();
        let slot = self.slot.take().ok_or(Reason::Internal)?;
        slot.answered();
        let mut response = response.map(|stream| ResponseBody::new(stream, idle, slot));
        if is_handed_over && !self.hand_over(response.body_mut()) {
            return Err(unasked());
        }
        if let Some(careful) = self.careful.take() {
            response.body_mut().hold(Stay {
                load: careful.into_load(),
                clock: Arc::clone(self.exchange.way.pools.clock()),
                progress: self.progress.clone(),
            });
        }
        Ok(response)
    }
}

impl Going<'_> {
    fn hand_over(&mut self, body: &mut ResponseBody) -> bool {
        let upgrade = self.exchange.upgrade.as_ref();
        let (Some(caller), Some(upgrade)) = (self.caller.take(), upgrade) else {
            return false;
        };
        let is_websocket = upgrade.asked().protocol().is_websocket();
        body.hand_over(*caller, is_websocket, self.exchange.way.pools.scratch())
    }
}

/// What came says that another protocol follows, and nobody asked for that: it is nothing that anybody could read.
fn unasked() -> Denial {
    Denial::from(Reason::BackendBroken).expected("an answer", "101 Switching Protocols")
}

/// Whether a request came to nothing by its own body.
fn is_callers(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::RequestBodyBroken | Reason::BodyTooSlow | Reason::BodyTooLarge
    )
}

/// The answer's framing is the gateway's own: a length beside a coding, or where there is no body, is a
/// second reading of it, and so is the backend's version.
fn reframe(response: &mut Response<ResponseBody>) {
    let bodiless = response.status() == StatusCode::NO_CONTENT;
    if bodiless || response.headers().contains_key(header::TRANSFER_ENCODING) {
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    *response.version_mut() = Version::HTTP_11;
}

pub(super) struct Exchange<'r> {
    pub(super) way: Way<'r>,
    pub(super) backend: &'r Backend,
    /// Which of the backend's.
    pub(super) endpoint: &'r Endpoint,
    /// What of the backend's times is otherwise.
    pub(super) route: &'r RouteTimeouts,
    /// How long to wait for the head of the answer: the route's time, or else the backend's.
    pub(super) first_byte: Duration,
    /// What the connection may be handed over to.
    upgrade: Option<Upgrade>,
}

/// What came of sending a request by one connection.
enum Sent {
    Answered(Http1, Head),
    /// Nothing of it was sent, and it can go by another.
    Not,
    Failed(Fault),
    Late,
}

impl Exchange<'_> {
    /// Tries once, whatever the protocol.
    pub(super) async fn once(
        &self,
        request: &mut Outbound,
        progress: &Progress,
    ) -> Result<Response<Stream>, Denial> {
        match request {
            Outbound::Http1(method, upload) => self.by_http1(method, upload, progress).await,
            Outbound::Http2(request) => self.by_http2(request, progress).await,
        }
    }

    /// Whether an answer hands nothing over that was not asked for.
    fn expects(&self, head: &Head) -> bool {
        let response = &head.response;
        let is_agreed = |upgrade: &Upgrade| upgrade.asked().is_agreed_by(response.headers());
        response.status() != StatusCode::SWITCHING_PROTOCOLS
            || self.upgrade.as_ref().is_some_and(is_agreed)
    }

    fn idle(&self) -> Duration {
        self.route.idle.unwrap_or(self.backend.timeouts.idle)
    }

    fn total(&self) -> Option<Duration> {
        self.route.total.or(self.backend.timeouts.total)
    }

    async fn connect(&self) -> Result<Wire, Denial> {
        let timeouts = &self.backend.timeouts;
        connect(self.endpoint, self.way.resolver, timeouts).await
    }

    async fn open(&self) -> Result<Http1, Denial> {
        let wire = self.connect().await?;
        let pools = self.way.pools;
        Ok(Http1::new(wire, pools.scratch(), pools.clock().instant()))
    }

    async fn by_http1(
        &self,
        method: &Method,
        upload: &mut Option<Upload>,
        progress: &Progress,
    ) -> Result<Response<Stream>, Denial> {
        let (pools, endpoint) = (self.way.pools, self.endpoint.id);
        loop {
            let sending = upload.as_mut().ok_or(Reason::Internal)?;
            // An idle connection may be closed under us just now. As long as nothing was sent, the next one
            // is tried.
            let pooled = pools.take(endpoint, self.way.now.instant);
            let is_fresh = pooled.is_none();
            let connection = match pooled {
                Some(connection) => connection,
                None => Box::pin(self.open()).await?,
            };
            match self.exchange(connection, sending, method, progress).await {
                Sent::Answered(_, head) if !self.expects(&head) => return Err(unasked()),
                Sent::Answered(connection, head) => {
                    let lease = Lease {
                        pools: pools.clone(),
                        endpoint,
                    };
                    let (response, body) = AnswerBody::behind(head, connection, upload.take());
                    return Ok(response.map(|()| Stream::Http1(Some((body, lease)))));
                }
                Sent::Not if !is_fresh => {}
                Sent::Not => return Err(broken(&Fault::Ended, progress)),
                Sent::Failed(fault) => return Err(broken(&fault, progress)),
                Sent::Late => return Err(self.late()),
            }
        }
    }

    /// Sends a request by one connection, and waits for the head of the answer. As long as the caller's body
    /// is on its way and moves, the backend is not late: its time counts from the end of the request.
    async fn exchange(
        &self,
        mut connection: Http1,
        upload: &mut Upload,
        method: &Method,
        progress: &Progress,
    ) -> Sent {
        let limit = self.first_byte;
        connection.wait(limit);
        let mut seen = None;
        let exchanged = poll_fn(|cx| {
            if let Poll::Ready(exchanged) = connection.poll_exchange(upload, method, cx) {
                return Poll::Ready(Some(exchanged));
            }
            let so_far = Some((progress.pieces(), progress.is_whole()));
            if seen.is_some() && seen != so_far {
                connection.wait(limit);
            }
            seen = so_far;
            connection.poll_late(cx).map(|()| None)
        });
        match exchanged.await {
            None => Sent::Late,
            Some(Ok(head)) => Sent::Answered(connection, head),
            Some(Err(Fault::Io(_) | Fault::Ended)) if !upload.has_begun() => Sent::Not,
            Some(Err(fault)) => Sent::Failed(fault),
        }
    }

    async fn by_http2(
        &self,
        unsent: &mut Option<Request<RequestBody>>,
        progress: &Progress,
    ) -> Result<Response<Stream>, Denial> {
        let (pools, endpoint) = (self.way.pools, self.endpoint.id);
        loop {
            let pooled = pools.http2(endpoint, self.way.now.instant);
            let is_fresh = pooled.is_none();
            let mut sender = match pooled {
                Some(sender) => sender,
                None => {
                    let sender = speak_http2(self.connect().await?).await?;
                    pools.keep_http2(endpoint, sender.clone());
                    sender
                }
            };
            let request = unsent.take().ok_or(Reason::Internal)?;
            let sending = async {
                // If it closed meanwhile, sending says so and returns the request.
                let _ = sender.ready().await;
                sender.try_send_request(request).await
            };
            match self.in_time(sending, progress).await? {
                Ok(response) => return Ok(response.map(Stream::Http2)),
                Err(mut error) => {
                    // It is given back if nothing of it was sent.
                    *unsent = error.take_message();
                    if is_fresh || unsent.is_none() {
                        return Err(broken(&error.into_error(), progress));
                    }
                }
            }
        }
    }

    /// Waits for the head of the answer. As long as the caller's body is on its way and moves, the
    /// backend is not late: its time counts from the end of the request.
    async fn in_time<T>(
        &self,
        sending: impl Future<Output = T>,
        progress: &Progress,
    ) -> Result<T, Denial> {
        let limit = self.first_byte;
        let mut sending = pin!(sending);
        while !progress.is_whole() && !progress.is_broken() {
            let before = progress.pieces();
            tokio::select! {
                sent = sending.as_mut() => return Ok(sent),
                () = progress.ended() => {}
                () = pause(limit) => if progress.pieces() == before {
                    return Err(self.late_http2());
                }
            }
        }
        let sent = within(limit, sending).await;
        sent.ok_or_else(|| self.late_http2())
    }

    /// Too late. Others may go on on a shared connection, but nobody new joins them.
    fn late_http2(&self) -> Denial {
        self.way.pools.forget_http2(self.endpoint.id);
        self.late()
    }

    fn late(&self) -> Denial {
        late(Reason::BackendTimeout, "firstByte", self.first_byte)
    }
}

fn broken(error: &dyn std::fmt::Display, progress: &Progress) -> Denial {
    match progress.fault() {
        Some(BodyFault::BrokenOff) => Reason::RequestBodyBroken.into(),
        Some(BodyFault::TooSlow) => Reason::BodyTooSlow.into(),
        Some(BodyFault::TooLarge) => Reason::BodyTooLarge.into(),
        None => Denial::from(Reason::BackendBroken).expected("an answer", error.to_string()),
    }
}
