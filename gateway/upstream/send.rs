//! Sending: the one function that lets a request out, to the backend that its route names.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::client::conn::TrySendError;

use super::backend::Backend;
use super::body::{Progress, RequestBody, ResponseBody, Stream, Withheld};
use super::connect::{connect, speak_http2};
use super::http1::{AnswerBody, Fault, Head, Http1, Upload, Wire, upload};
use super::outgoing::{Caller, Parts};
use super::pool::{Lease, Pools};
use super::unsealed::Unsealed;
use crate::body::{BodyFault, CallerBody};
use crate::canonical::{self, strip_response};
use crate::clock::{Now, pause, within};
use crate::credentials::Presented;
use crate::denial::{Denial, Reason};
use crate::files::Protocol;
use crate::limits::Slot;
use crate::net::address::Resolver;
use crate::policy::{Authorized, SealsBody};
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
}

/// What a request goes by.
pub struct Way<'r> {
    /// The worker's connections.
    pub pools: &'r Pools,
    /// Finds addresses.
    pub resolver: &'r Arc<dyn Resolver>,
    /// When the request arrived.
    pub now: &'r Now,
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
struct Going<'r> {
    exchange: Exchange<'r>,
    request: Outbound,
    progress: Progress,
    /// Whether something is presented to the backend, and whether that is the gateway's own.
    presented: bool,
    is_own: bool,
    /// The field that carries it.
    echo: Option<HeaderName>,
    bodies: SealsBody,
    /// Until the answer's body takes it along.
    slot: Option<Slot>,
}

enum Outbound {
    /// Nothing of it is left where the answer's body has taken it along.
    Http1(Method, Option<Upload>),
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
        body: CallerBody,
    ) -> Result<Self, Denial> {
        let Proofs {
            authorized,
            slot,
            backend,
            credential,
            followed,
        } = proofs;
        let (presented, is_own) = (credential.carries(), credential.is_own());
        let route = authorized.matched().route();
        let echo = credential.name().cloned();
        let withheld = Withheld {
            credential: echo.clone(),
            claims: Arc::clone(route.claim_headers()),
        };
        let parts = Parts {
            authorized,
            target: &backend.target,
            followed,
            caller,
            trace,
            id,
        };
        // What both sides say piece by piece may take its time: gRPC.
        if backend.endpoint.protocol == Protocol::Http2 {
            body.take_time();
        }
        let (body, progress) = RequestBody::new(body, withheld, slot.passing());
        let head = parts.head(request, credential)?;
        let request = match backend.endpoint.protocol {
            Protocol::Http1 => {
                let upload = upload(&head, body, way.pools.scratch());
                Outbound::Http1(head.method().clone(), Some(upload))
            }
            Protocol::Http2 => {
                let request = head.into_request(&backend.target)?.map(|()| body);
                Outbound::Http2(Some(request))
            }
        };
        Ok(Self {
            exchange: Exchange { way, backend },
            request,
            progress,
            presented,
            is_own,
            echo,
            bodies: route.seals_body(),
            slot: Some(slot),
        })
    }

    async fn send(&mut self) -> Result<Unsealed, Denial> {
        let slot = self.slot.take().ok_or(Reason::Internal)?;
        let delivered = self.deliver().await;
        match &delivered {
            Ok(_) => slot.answered(),
            Err(denial) if denial.reason() == Reason::RequestBodyBroken => {}
            Err(_) => slot.failed(),
        }
        let idle = self.exchange.backend.timeouts.idle;
        let mut response = delivered?.map(|stream| ResponseBody::new(stream, idle, slot));
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
        Ok(Unsealed::new(response, self.bodies))
    }

    async fn deliver(&mut self) -> Result<Response<Stream>, Denial> {
        let (exchange, progress) = (&self.exchange, &self.progress);
        let response = match &mut self.request {
            Outbound::Http1(method, upload) => exchange.by_http1(method, upload, progress).await?,
            Outbound::Http2(request) => {
                let request = request.take().ok_or(Reason::Internal)?;
                // Boxed, for the room that it takes would be in every request.
                Box::pin(exchange.by_http2(request, progress)).await?
            }
        };
        // Nobody asked for another protocol, so what follows is nothing that anybody could read.
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Denial::from(Reason::BackendBroken)
                .expected("an answer", "101 Switching Protocols"));
        }
        Ok(response)
    }
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

struct Exchange<'r> {
    way: Way<'r>,
    backend: &'r Backend,
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
    async fn connect(&self) -> Result<Wire, Denial> {
        let connecting = connect(&self.backend.endpoint, self.way.resolver);
        let connected = within(self.backend.timeouts.connect, connecting).await;
        connected.ok_or(Reason::BackendConnectTimeout)?
    }

    async fn by_http1(
        &self,
        method: &Method,
        upload: &mut Option<Upload>,
        progress: &Progress,
    ) -> Result<Response<Stream>, Denial> {
        let (pools, endpoint) = (self.way.pools, self.backend.endpoint.id);
        loop {
            let sending = upload.as_mut().ok_or(Reason::Internal)?;
            // An idle connection may be closed under us just now. As long as nothing was sent, the next one
            // is tried.
            let pooled = pools.take(endpoint, self.way.now.instant);
            let is_fresh = pooled.is_none();
            let connection = match pooled {
                Some(connection) => connection,
                None => Http1::new(Box::pin(self.connect()).await?, pools.scratch()),
            };
            match self.exchange(connection, sending, method, progress).await {
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
                Sent::Late => return Err(Reason::BackendTimeout.into()),
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
        let limit = self.backend.timeouts.first_byte;
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
        mut request: Request<RequestBody>,
        progress: &Progress,
    ) -> Result<Response<Stream>, Denial> {
        let (pools, endpoint) = (self.way.pools, self.backend.endpoint.id);
        loop {
            let pooled = pools.http2(endpoint);
            let is_fresh = pooled.is_none();
            let mut sender = match pooled {
                Some(sender) => sender,
                None => {
                    let sender = speak_http2(self.connect().await?).await?;
                    pools.keep_http2(endpoint, sender.clone());
                    sender
                }
            };
            let sending = async {
                // If it closed meanwhile, sending says so and returns the request.
                let _ = sender.ready().await;
                sender.try_send_request(request).await
            };
            match self.in_time(sending, progress).await? {
                Ok(response) => return Ok(response.map(Stream::Http2)),
                Err(error) if is_fresh => return Err(broken(&error.into_error(), progress)),
                Err(error) => request = unsent(error, progress)?,
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
        let limit = self.backend.timeouts.first_byte;
        let mut sending = pin!(sending);
        while !progress.is_whole() && !progress.is_broken() {
            let before = progress.pieces();
            tokio::select! {
                sent = sending.as_mut() => return Ok(sent),
                () = progress.ended() => {}
                () = pause(limit) => if progress.pieces() == before {
                    return Err(self.late());
                }
            }
        }
        let sent = within(limit, sending).await;
        sent.ok_or_else(|| self.late())
    }

    /// Too late. Others may go on on a shared connection, but nobody new joins them.
    fn late(&self) -> Denial {
        self.way.pools.forget_http2(self.backend.endpoint.id);
        Reason::BackendTimeout.into()
    }
}

/// The request, if nothing of it was sent.
fn unsent(
    mut error: TrySendError<Request<RequestBody>>,
    progress: &Progress,
) -> Result<Request<RequestBody>, Denial> {
    let request = error.take_message();
    request.ok_or_else(|| broken(&error.into_error(), progress))
}

fn broken(error: &dyn std::fmt::Display, progress: &Progress) -> Denial {
    let reason = match progress.fault() {
        Some(BodyFault::BrokenOff) => Reason::RequestBodyBroken,
        Some(BodyFault::TooSlow) => Reason::BodyTooSlow,
        Some(BodyFault::TooLarge) => Reason::BodyTooLarge,
        None => Reason::BackendBroken,
    };
    if reason != Reason::BackendBroken {
        return reason.into();
    }
    Denial::from(reason).expected("an answer", error.to_string())
}
