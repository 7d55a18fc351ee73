//! One connection: TLS, then HTTP/1.1 or HTTP/2, each request through the pipeline, until the caller
//! leaves, is idle for too long, or the gateway drains.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::certified::{self, Certified, Judged, Refusals};
use super::frames::Frames;
use super::http1::{Authorizations, Dates, Line};
use super::http2::body as http2_body;
use super::present::Present;
use super::proxied;
use super::stall::{Asking, Movement, Shelved, Stop, WatchedBody, WatchedIo};
use super::tls::{self, TlsScratch};
use super::worker::ListenSettings;
use crate::body::{CallerBody, LONGEST_UNWANTED};
use crate::certificates::ACME_PROTOCOL;
use crate::client_certificate::ClientCertificate;
use crate::clock::{pause, within};
use crate::denial::Reason;
use crate::drain::Phase;
use crate::entra::LastToken;
use crate::http1::Scratch;
use crate::ids::jitter;
use crate::pipeline::{self, Arrival, Brought, Worker};
use crate::telemetry::{Closed, RecordedBody};
use crate::upstream::Caller;

/// What the connections of a worker share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) worker: Rc<Worker>,
    pub(super) dates: Rc<Dates>,
    pub(super) authorizations: Authorizations,
    pub(super) tls: TlsScratch,
    pub(super) present: Rc<Present>,
}

impl Common {
    pub(super) fn of(worker: Worker) -> Self {
        Self {
            worker: Rc::new(worker),
            dates: Rc::default(),
            authorizations: Authorizations::default(),
            tls: TlsScratch::default(),
            present: Rc::default(),
        }
    }

    /// The same with what holds on one of its listeners.
    pub(super) fn listening(&self, settings: ListenSettings) -> Rc<Shared> {
        Rc::new(Shared {
            common: self.clone(),
            settings,
            judged: Judged::default(),
            refusals: Refusals::default(),
        })
    }
}

/// What the connections that a worker has of one listener share.
pub(super) struct Shared {
    common: Common,
    pub(super) settings: ListenSettings,
    judged: Judged,
    refusals: Refusals,
}

impl Deref for Shared {
    type Target = Common;

    fn deref(&self) -> &Common {
        &self.common
    }
}

/// Runs on this worker what hyper hands over: the streams of HTTP/2.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// Reads whose connection somebody passes on. `None` if that is not said as it should be, or not in time.
pub(super) async fn introduced(
    shared: &Shared,
    stream: &mut TcpStream,
    peer: SocketAddr,
) -> Option<Peer> {
    let connections = shared.worker.sink.connections();
    let read = proxied::read(stream);
    match within(shared.settings.handshake_timeout, read).await {
        None => connections.closed(Closed::SlowHandshake),
        // What comes from nobody in particular is nobody's word on callers.
        Some(Ok(caller)) => {
            return Some(Peer {
                address: caller.unwrap_or(peer),
                may_speak: caller.is_some(),
            });
        }
        Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            connections.closed(Closed::ProxyProtocol);
        }
        // Who leaves has not been sent away.
        Some(Err(_)) => {}
    }
    None
}

/// Who connects, or whose connection is passed on.
#[derive(Clone, Copy)]
pub(super) struct Peer {
    address: SocketAddr,
    /// Whether what it says of callers counts, if it is one of those who may speak for them.
    may_speak: bool,
}

impl Peer {
    /// Who connects itself.
    pub(super) fn itself(address: SocketAddr) -> Self {
        Self {
            address,
            may_speak: true,
        }
    }
}

/// Serves a connection on which callers speak TLS.
pub(super) async fn serve_tls(
    shared: Rc<Shared>,
    config: Arc<ServerConfig>,
    stream: TcpStream,
    peer: Peer,
) {
    // Boxed, as are the requests below: what a part of a connection's life needs is given back when it is over, and
    // a connection that waits holds little.
    if let Some(conversation) = Box::pin(greet(shared, config, stream, peer)).await {
        conversation.await;
    }
}

/// What follows on a handshake.
type Conversation = Pin<Box<dyn Future<Output = ()>>>;

async fn greet(
    shared: Rc<Shared>,
    config: Arc<ServerConfig>,
    stream: TcpStream,
    peer: Peer,
) -> Option<Conversation> {
    let handshake = tls::accept(config, shared.tls.clone(), stream);
    let connections = shared.worker.sink.connections();
    let Some(stream) = within(shared.settings.handshake_timeout, handshake).await else {
        connections.closed(Closed::SlowHandshake);
        return None;
    };
    // A caller who leaves has not been sent away.
    let stream = stream.inspect_err(|error| {
        if error.kind() == io::ErrorKind::InvalidData {
            match certified::refused(error) {
                None => connections.closed(Closed::Handshake),
                Some(why) => {
                    connections.closed(Closed::ClientCertificate);
                    shared.refusals.tell(&why, shared.worker.clock.now().unix);
                }
            }
        }
    });
    let mut stream = stream.ok()?;
    if stream.alpn_protocol() == Some(ACME_PROTOCOL) {
        // The handshake was all that was asked for.
        let _ = within(shared.settings.handshake_timeout, stream.shutdown()).await;
        return None;
    }
    let is_http2 = stream.alpn_protocol() == Some(b"h2");
    let certificate = match stream.peer_certificate() {
        None => None,
        Some(der) => match ClientCertificate::of(der) {
            Some(certificate) => Some(certificate),
            // What cannot be read is not the same as none.
            None => {
                connections.closed(Closed::ClientCertificate);
                return None;
            }
        },
    };
    let served = Served::new(shared, peer, certificate.map(Arc::new));
    Some(served.conversation(is_http2, stream))
}

/// Serves a connection behind a platform that has ended TLS in front of us.
pub(super) async fn serve_plain(shared: Rc<Shared>, stream: TcpStream, peer: Peer) {
    // HTTP/2 begins with "PRI", and no method that we forward does.
    let mut first = [0; 3];
    let peeked = within(shared.settings.handshake_timeout, async {
        let mut wait = Duration::from_millis(1);
        loop {
            match stream.peek(&mut first).await {
                Ok(0) | Err(_) => return None,
                Ok(3) => return Some(first == *b"PRI"),
                // A lone "P" or "PR" is rare; more of it is on its way, or nothing ever is.
                Ok(_) => pause(wait).await,
            }
            wait = (wait * 2).min(Duration::from_millis(250));
        }
    });
    let is_http2 = match peeked.await {
        Some(Some(is_http2)) => is_http2,
        Some(None) => return,
        None => {
            return shared
                .worker
                .sink
                .connections()
                .closed(Closed::SlowHandshake);
        }
    };
    let served = Served::new(shared, peer, None);
    served.conversation(is_http2, stream).await;
}

pub(super) struct Served {
    shared: Rc<Shared>,
    peer: Peer,
    /// The certificate that the caller has proved to hold in the handshake.
    certificate: Option<Arc<ClientCertificate>>,
    caller: Rc<Caller>,
    movement: Rc<Movement>,
    /// What it is called among the worker's connections.
    name: u64,
    last_token: LastToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shared.present.leave(self.name);
        if let Some(why) = self.movement.why() {
            self.shared.worker.sink.connections().closed(why);
        }
    }
}

impl Served {
    fn new(
        shared: Rc<Shared>,
        peer: Peer,
        certificate: Option<Arc<ClientCertificate>>,
    ) -> Rc<Self> {
        let movement = Rc::default();
        Rc::new(Self {
            caller: Rc::new(Caller::new(peer.address.ip())),
            name: shared.present.enter(&movement),
            shared,
            peer,
            certificate,
            movement,
            last_token: LastToken::default(),
        })
    }

    /// What the connection's requests are answered by.
    pub(super) fn answer(
        &self,
        request: Request<CallerBody>,
        brought: Brought,
        framing: Option<Reason>,
    ) -> impl Future<Output = Response<RecordedBody>> {
        let peer = self.peer.address;
        let (mut client, mut caller, mut fault) = (peer, Rc::clone(&self.caller), framing);
        if let Some(hops) = &self.shared.settings.hops {
            if self.peer.may_speak {
                let said = hops.client(request.headers(), peer);
                client = said.unwrap_or_else(|reason| {
                    fault = fault.or(Some(reason));
                    peer
                });
            }
            if client != peer {
                caller = Rc::new(Caller::new(client.ip()));
            }
            if !hops.came_through(request.headers()) {
                fault = fault.or(Some(Reason::FrontDoorMissing));
            }
        }
        let certificate = self.certificate(request.headers());
        let certificate = certificate.unwrap_or_else(|reason| {
            fault = fault.or(Some(reason));
            None
        });
        let arrival = Arrival {
            certificate,
            client,
            caller,
            last_token: &self.last_token,
            fault,
            brought,
        };
        pipeline::handle(&self.shared.worker, arrival, request)
    }

    /// The certificate that the caller of a request has proved to hold.
    fn certificate(&self, headers: &HeaderMap) -> Result<Option<Arc<ClientCertificate>>, Reason> {
        let settings = &self.shared.settings;
        let Certified::PassedOn { header, clients } = &settings.certified else {
            return Ok(self.certificate.clone());
        };
        let hops = settings.hops.as_ref();
        let Peer { address, may_speak } = self.peer;
        let speaks = may_speak && hops.is_some_and(|hops| hops.trusts(address.ip()));
        let now = self.shared.worker.clock.now().unix;
        let Shared {
            judged, refusals, ..
        } = &*self.shared;
        judged.passed_on(headers, *header, clients, speaks, refusals, now)
    }

    /// The same for who only waits for it: the answer, whose body is known to move.
    pub(super) async fn answered(
        &self,
        request: Request<CallerBody>,
        framing: Option<Reason>,
    ) -> Response<WatchedBody> {
        let asking = self.asking();
        let response = self.answer(request, Brought::among_fields(), framing).await;
        drop(asking);
        self.watched(response)
    }

    /// The same over HTTP/2, where one answer may be let go without the others.
    async fn answered_apart(&self, request: Request<CallerBody>) -> Response<WatchedBody<Shelved>> {
        let asking = self.asking();
        let response = self.answer(request, Brought::among_fields(), None).await;
        drop(asking);
        let movement = &self.movement;
        response.map(|body| WatchedBody::new(Shelved::new(body, movement), Rc::clone(movement)))
    }

    /// An answer whose body is known to move.
    pub(super) fn watched(&self, response: Response<RecordedBody>) -> Response<WatchedBody> {
        let movement = Rc::clone(&self.movement);
        response.map(|body| WatchedBody::new(body, movement))
    }

    /// Says that a request is being answered, as long as it is held.
    pub(super) fn asking(&self) -> Asking {
        Asking::begin(&self.movement)
    }

    /// Counts that the connection has been handed over to another protocol, as long as what is given is held.
    pub(super) fn upgraded(&self) -> impl Drop + use<'_> {
        self.shared.worker.sink.connections().upgraded()
    }

    fn conversation<IO>(self: Rc<Self>, is_http2: bool, io: IO) -> Conversation
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let io = WatchedIo::new(io, Rc::clone(&self.movement));
        match is_http2 {
            true => Box::pin(self.http2(io)),
            false => {
                let line = Line::new(io, &self);
                Box::pin(self.http1(line))
            }
        }
    }

    /// Where the connection reads.
    pub(super) fn scratch(&self) -> Scratch {
        self.shared.worker.pools.scratch()
    }

    /// The longest head, in bytes.
    pub(super) fn max_head(&self) -> usize {
        self.shared.settings.max_head_bytes
    }

    /// What the worker's connections hold on to of what callers bring.
    pub(super) fn authorizations(&self) -> Authorizations {
        self.shared.authorizations.clone()
    }

    /// What moves on the connection.
    pub(super) fn movement(&self) -> &Rc<Movement> {
        &self.movement
    }

    /// Whether the connection has served as many requests as one may.
    pub(super) fn is_last_request(&self) -> bool {
        let most = self.shared.settings.max_requests;
        most.is_some_and(|most| self.movement.requests() >= most)
    }

    /// How long the connection may last: a tenth less than it may, or more, so that those which began together do
    /// not all end together.
    fn lasts(&self) -> Duration {
        let most = self.shared.settings.max_age;
        most.mul_f64(0.9 + jitter() / 10.0)
    }

    /// Whether the gateway takes no more requests.
    pub(super) fn is_draining(&self) -> bool {
        self.shared.worker.drain.phase() > Phase::Serving
    }

    /// What an answer that is sent now says of the time.
    pub(super) fn date(&self) -> HeaderValue {
        self.shared.dates.at(self.shared.worker.clock.now().unix)
    }

    /// Minds the connection until one of these has been so for its time, or the gateway drains.
    fn minded<const N: usize>(self: &Rc<Self>, limits: [(Stop, Duration); N]) -> Minder {
        let served = Rc::clone(self);
        Minder::begin(&self.movement, async move {
            let min_rate = served.shared.settings.min_rate;
            tokio::select! {
                stop = served.movement.stops(limits, min_rate) => stop.into(),
                () = served.shared.worker.drain.draining() => End::Gracefully(Closed::Draining),
            }
        })
    }

    async fn http1<IO: AsyncRead + AsyncWrite + Unpin + 'static>(
        self: Rc<Self>,
        line: Rc<Line<IO>>,
    ) {
        let mut connection = pin!(Rc::clone(&line).serve(Rc::clone(&self)));
        let ListenSettings {
            header_timeout,
            idle_timeout,
            min_rate,
            ..
        } = self.shared.settings;
        let slow = (Stop::SlowHead, header_timeout);
        let stalled = (Stop::Stalled, idle_timeout);
        let idle = (Stop::Idle, idle_timeout);
        let old = (Stop::Old, self.lasts());
        let mut minder = self.minded([slow, stalled, idle, old]);
        loop {
            tokio::select! {
                () = connection.as_mut() => return,
                end = minder.end(&self.movement) => match end {
                    // A request that comes this very moment is answered.
                    End::Gracefully(why) => {
                        self.movement.ends(why);
                        line.wind_up();
                    }
                    End::Now(why) => return self.movement.ends(why),
                }
            }
            // One that was let in just now has as long for its first request as for a head.
            let unused = (Stop::Idle, header_timeout);
            let movement = Rc::clone(&self.movement);
            minder = Minder::begin(&self.movement, async move {
                let stop = movement.stops([slow, stalled, unused], min_rate).await;
                match End::from(stop) {
                    End::Now(why) | End::Gracefully(why) => End::Now(why),
                }
            });
        }
    }

    async fn http2<IO: AsyncRead + AsyncWrite + Unpin + 'static>(self: Rc<Self>, io: IO) {
        let settings = &self.shared.settings;
        let service = service_fn(|request: Request<Incoming>| {
            let served = Rc::clone(&self);
            let request = request.map(|incoming| http2_body(incoming, &served.movement));
            served.movement.asked();
            // GOAWAY takes a moment to arrive; what comes meanwhile is answered, too.
            if served.is_last_request() {
                served.movement.end(Closed::MaxRequests);
            }
            Box::pin(async move { Ok::<_, Infallible>(served.answered_apart(request).await) })
        });
        let mut builder = http2::Builder::new(Local);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(settings.max_streams)
            .max_send_buf_size(MOST_UNSENT)
            .max_header_list_size(settings.max_head_bytes.try_into().unwrap_or(u32::MAX))
            .keep_alive_interval(settings.idle_timeout)
            .keep_alive_timeout(settings.header_timeout);
        let sink = Arc::clone(&self.shared.worker.sink);
        let io = TokioIo::new(Frames::new(io, Rc::clone(&self.movement), sink));
        let mut connection = pin!(builder.serve_connection(io, service));
        let limit = settings.idle_timeout;
        let (stalled, idle) = ((Stop::Stalled, limit), (Stop::Idle, limit));
        let untaken = (Stop::Untaken, limit);
        let old = (Stop::Old, self.lasts());
        let mut minder = self.minded([stalled, untaken, idle, old]);
        tokio::select! {
            ended = connection.as_mut() => return self.ended(ended.err()),
            end = minder.end(&self.movement) => match end {
                End::Gracefully(why) => self.movement.ends(why),
                End::Now(why) => return self.movement.ends(why),
            }
        }
        // GOAWAY; what is in flight is answered, as long as somebody takes the answers.
        connection.as_mut().graceful_shutdown();
        // Others wait for its descriptor, or nobody for what it says.
        let is_brief = matches!(
            self.movement.why(),
            Some(Closed::Descriptors | Closed::Flood)
        );
        tokio::select! {
            _ = connection => {}
            _ = self.movement.stops([stalled, untaken, idle], settings.min_rate) => {}
            () = pause(LONGEST_UNWANTED), if is_brief => {}
        }
    }

    /// Notes why a connection has failed, if the gateway is who ended it.
    fn ended(&self, error: Option<hyper::Error>) {
        let error = error.as_ref().and_then(Error::source);
        let error = error.and_then(|error| error.downcast_ref::<h2::Error>());
        let is_ours = |error: &&h2::Error| error.is_go_away() && error.is_library();
        match error.filter(is_ours).and_then(h2::Error::reason) {
            None => {}
            Some(h2::Reason::ENHANCE_YOUR_CALM) => self.movement.ends(Closed::Flood),
            Some(_) => self.movement.ends(Closed::Malformed),
        }
    }
}

/// Bytes of an answer over HTTP/2 that wait to be written, for each stream.
const MOST_UNSENT: usize = 64 * 1024;

/// How a connection is to end, and why.
enum End {
    /// Whatever is on its way.
    Now(Closed),
    /// Once what is in flight is answered.
    Gracefully(Closed),
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::SlowHead => Self::Now(Closed::SlowHead),
            Stop::SlowReader => Self::Now(Closed::SlowReader),
            Stop::Old => Self::Gracefully(Closed::MaxAge),
            // Whoever minds a connection deals with the latter itself.
            Stop::Stalled | Stop::Untaken => Self::Now(Closed::Stalled),
            Stop::Idle => Self::Gracefully(Closed::Idle),
        }
    }
}

/// What says when a connection is to end. A task of its own, so that its timers are not looked at whenever
/// something moves on the connection.
struct Minder(JoinHandle<End>);

impl Minder {
    fn begin(movement: &Movement, minding: impl Future<Output = End> + 'static) -> Self {
        let minder = tokio::task::spawn_local(minding);
        movement.minded_by(minder.abort_handle());
        Self(minder)
    }

    async fn end(&mut self, movement: &Movement) -> End {
        match ((&mut self.0).await, movement.why()) {
            (Ok(end), _) => end,
            // It was ended by who told the connection to end.
            (Err(_), Some(why)) => End::Gracefully(why),
            // One that cannot go on minds nothing.
            (Err(_), None) => End::Now(Closed::Stalled),
        }
    }
}

impl Drop for Minder {
    fn drop(&mut self) {
        self.0.abort();
    }
}
