//! Sending: the one function that lets a request out, to the backend that its route names.

use std::pin::pin;
use std::sync::Arc;

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};

use super::backend::Backend;
use super::body::{Progress, RequestBody, ResponseBody, Withheld};
use super::connect::{Connection, connect};
use super::outgoing::{Caller, Parts};
use super::pool::{Lease, Pools};
use super::unsealed::Unsealed;
use crate::canonical::{self, strip_response};
use crate::clock::{Now, pause, within};
use crate::credentials::Presented;
use crate::denial::{Denial, Reason};
use crate::files::Protocol;
use crate::ids::RequestId;
use crate::limits::Slot;
use crate::net::address::Resolver;
use crate::policy::Authorized;
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
/// # Errors
/// 502 when the backend cannot be reached, is not who it should be, breaks off or refuses the
/// gateway's credential; 504 when it is late.
pub async fn send(
    proofs: Proofs<'_>,
    way: Way<'_>,
    caller: &Caller,
    trace: Trace,
    id: RequestId,
    request: canonical::Request,
    body: Incoming,
) -> Result<Unsealed, Denial> {
    let Proofs {
        authorized,
        slot: Slot { .. },
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
    let (body, progress) = RequestBody::new(body, withheld);
    let mut request = parts.head(request, credential)?.map(|()| body);
    frame(&mut request);
    let mut response = Exchange { way, backend }.deliver(request, progress).await?;
    // The backend refused the gateway, not the caller: its challenge would mislead the caller, and
    // tell a stranger how the backend is called.
    if response.status() == StatusCode::UNAUTHORIZED && presented {
        if is_own {
            backend.credential().refused();
        }
        return Err(Reason::BackendRefusedCredential.into());
    }
    if presented {
        // An echo of what the gateway presented, or of how.
        let headers = response.headers_mut();
        headers.remove(header::WWW_AUTHENTICATE);
        if let Some(name) = &echo {
            headers.remove(name);
        }
    }
    reframe(&mut response);
    strip_response(response.headers_mut());
    Ok(Unsealed::new(response, route.seals_body()))
}

/// A body of unknown length needs its framing written out: hyper assumes that a GET has none.
fn frame(request: &mut Request<RequestBody>) {
    let is_open = !request.body().is_end_stream();
    let is_http1 = request.version() == Version::HTTP_11;
    if is_open && is_http1 && !request.headers().contains_key(header::CONTENT_LENGTH) {
        let chunked = HeaderValue::from_static("chunked");
        request
            .headers_mut()
            .insert(header::TRANSFER_ENCODING, chunked);
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

type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

impl Exchange<'_> {
    async fn deliver(
        &self,
        mut request: Request<RequestBody>,
        progress: Progress,
    ) -> Result<Response<ResponseBody>, Denial> {
        let endpoint = self.backend.endpoint.id;
        // An idle connection may be closed under us just now. As long as nothing was sent, the request
        // comes back unharmed, and the next connection is tried.
        while let Some(mut pooled) = self.pooled() {
            match self.in_time(pooled.try_send(request), &progress).await? {
                Ok(response) => return self.wrap(response, pooled, progress),
                Err(error) => request = unsent(error, &progress)?,
            }
        }
        let connecting = connect(&self.backend.endpoint, self.way.resolver);
        let connected = within(self.backend.timeouts.connect, connecting).await;
        let mut fresh = connected.ok_or(Reason::BackendConnectTimeout)??;
        if let Connection::Http2(sender) = &fresh {
            self.way.pools.keep_http2(endpoint, sender.clone());
        }
        match self.in_time(fresh.try_send(request), &progress).await? {
            Ok(response) => self.wrap(response, fresh, progress),
            Err(mut error) => {
                drop(error.take_message());
                Err(broken(&error.into_error(), &progress))
            }
        }
    }

    fn pooled(&self) -> Option<Connection> {
        let endpoint = &self.backend.endpoint;
        match endpoint.protocol {
            Protocol::Http1 => {
                let taken = self.way.pools.take(endpoint.id, self.way.now.instant)?;
                Some(Connection::Http1(taken))
            }
            Protocol::Http2 => Some(Connection::Http2(self.way.pools.http2(endpoint.id)?)),
        }
    }

    /// Waits for the head of the answer. As long as the caller's body is on its way and moves, the
    /// backend is not late: its time counts from the end of the request.
    async fn in_time(
        &self,
        sending: impl Future<Output = Sent>,
        progress: &Progress,
    ) -> Result<Sent, Denial> {
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

    fn wrap(
        &self,
        response: Response<Incoming>,
        connection: Connection,
        request: Progress,
    ) -> Result<Response<ResponseBody>, Denial> {
        // Nobody asked for another protocol, so what follows is nothing that anybody could read.
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Denial::from(Reason::BackendBroken)
                .expected("an answer", "101 Switching Protocols"));
        }
        let lease = match connection {
            Connection::Http1(connection) => Some(Lease {
                pools: self.way.pools.clone(),
                endpoint: self.backend.endpoint.id,
                connection,
                request,
            }),
            // Shared by all; nothing to give back.
            Connection::Http2(_) => None,
        };
        let idle = self.backend.timeouts.idle;
        Ok(response.map(|body| ResponseBody::new(body, idle, lease)))
    }
}

impl Connection {
    async fn try_send(&mut self, request: Request<RequestBody>) -> Sent {
        match self {
            Self::Http1(connection) => send_http1(&mut connection.sender, request).await,
            Self::Http2(sender) => send_http2(sender, request).await,
        }
    }
}

async fn send_http1(
    sender: &mut http1::SendRequest<RequestBody>,
    request: Request<RequestBody>,
) -> Sent {
    // A connection that was just given back may need a turn before it is ready. If it closed
    // meanwhile, sending says so and returns the request.
    let _ = sender.ready().await;
    sender.try_send_request(request).await
}

async fn send_http2(
    sender: &mut http2::SendRequest<RequestBody>,
    request: Request<RequestBody>,
) -> Sent {
    let _ = sender.ready().await;
    sender.try_send_request(request).await
}

/// The request, if nothing of it was sent.
fn unsent(
    mut error: TrySendError<Request<RequestBody>>,
    progress: &Progress,
) -> Result<Request<RequestBody>, Denial> {
    let request = error.take_message();
    request.ok_or_else(|| broken(&error.into_error(), progress))
}

fn broken(error: &hyper::Error, progress: &Progress) -> Denial {
    if progress.is_broken() {
        return Reason::RequestBodyBroken.into();
    }
    Denial::from(Reason::BackendBroken).expected("an answer", error.to_string())
}
