//! OTLP, over HTTP and by gRPC.
//! <https://opentelemetry.io/docs/specs/otlp/>

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use rustls::ClientConfig;
use tokio::sync::Notify;

use super::Gather;
use super::Sources;
use super::breeze::gzip;
use super::counts::Signal;
use super::deltas::Deltas;
use super::pipe::{Delivered, Load, Pipe, Source, Way};
use crate::clock::Clock;
use crate::credentials::Derived;
use crate::metric::Family;
use crate::net::address::Resolver;
use crate::net::channel::{Channel, Pieces, Protocol};
use crate::net::client::{Bounds, FetchError};
use crate::telemetry::batches::{BATCH, Batch, ROOM};
use crate::telemetry::event::Events;
use crate::telemetry::handover::Handover;
use crate::telemetry::kept::Outbound;
use crate::telemetry::otlp::{self, Resource, Temporality};
use crate::telemetry::sink::Sink;

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// `http/protobuf`.
    Http,
    /// gRPC.
    Grpc,
}

/// A collector.
#[derive(Clone)]
pub struct OtlpTo {
    /// Its URL, without the signal's path.
    pub endpoint: Uri,
    /// How it is spoken to.
    pub protocol: OtlpProtocol,
    /// Fields of each request.
    pub headers: Vec<(HeaderName, Arc<Derived<HeaderValue>>)>,
    /// Whom to believe.
    pub tls: Arc<ClientConfig>,
    /// Whether plain http may go to other machines.
    pub plain: bool,
    /// Whether requests are compressed.
    pub gzip: bool,
    /// Longest time for one request.
    pub timeout: Duration,
    /// Whether spans, metrics and records are sent.
    pub traces: bool,
    /// As above.
    pub metrics: bool,
    /// As above.
    pub logs: bool,
    /// What sums are told since.
    pub temporality: Temporality,
    /// Finds its addresses.
    pub resolver: Arc<dyn Resolver>,
}

/// The pipes of what is sent.
pub(super) fn pipes(
    to: &OtlpTo,
    resource: &Resource,
    interval: Duration,
    sources: &Sources,
) -> Vec<Pipe<Box<dyn Source>, OtlpWay>> {
    let pipe = |signal, source| {
        let way = OtlpWay::new(to, signal, Arc::clone(&sources.clock));
        Pipe::new(signal, source, way, sources)
    };
    let batches = |outbound, events| {
        let (workers, bell) = Workers::of(&sources.sinks, outbound);
        let resource = resource.clone();
        let source: Box<dyn Source> = Box::new(Records {
            workers,
            events,
            resource,
        });
        (source, bell)
    };
    let mut pipes = Vec::new();
    if to.traces {
        pipes.push(pipe(Signal::Traces, batches(Outbound::Spans, None)));
    }
    if to.logs {
        let events = Some(Events::listen());
        pipes.push(pipe(Signal::Logs, batches(Outbound::Logs, events)));
    }
    if to.metrics {
        let now = sources.clock.now().unix;
        let metrics: Box<dyn Source> = Box::new(Points {
            gather: Arc::clone(&sources.gather),
            temporality: to.temporality,
            interval,
            resource: resource.clone(),
            deltas: Deltas::default(),
            began: now,
            told: now,
            pending: None,
        });
        pipes.push(pipe(Signal::Metrics, (metrics, Arc::default())));
    }
    pipes
}

impl Source for Box<dyn Source> {
    fn is_due(&mut self, now: Duration) -> bool {
        self.as_mut().is_due(now)
    }

    fn take(&mut self, now: Duration) -> (Vec<Load>, u64) {
        self.as_mut().take(now)
    }

    fn settle(&mut self, taken: bool) {
        self.as_mut().settle(taken);
    }

    fn left(&mut self) -> u64 {
        self.as_mut().left()
    }

    fn dropped(&mut self) -> u64 {
        self.as_mut().dropped()
    }

    fn give_back(&mut self, memory: Vec<u8>) {
        self.as_mut().give_back(memory);
    }
}

/// What waits with the workers.
pub(super) struct Workers {
    sinks: Vec<Arc<Sink>>,
    outbound: Outbound,
    handover: Arc<Handover>,
    /// When something was first seen to wait.
    since: Option<Duration>,
}

/// What waits longer than this is sent.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// As soon as so many bytes wait, they are sent.
const ENOUGH: usize = BATCH;
/// The most bytes that are joined to be sent at once: what was begun behind a whole batch goes with it.
const JOINED: usize = BATCH + BATCH / 4;

impl Workers {
    /// What these have for it, and the bell that they ring when there is enough.
    pub(super) fn of(sinks: &[Arc<Sink>], outbound: Outbound) -> (Self, Arc<Notify>) {
        let bell: Arc<Notify> = Arc::default();
        let handover = Handover::to_task(Arc::clone(&bell), ROOM, sinks.len());
        let handover = Arc::new(handover);
        for sink in sinks {
            sink.hand_batches_over(outbound, &handover);
        }
        let workers = Self {
            sinks: sinks.to_vec(),
            outbound,
            handover,
            since: None,
        };
        (workers, bell)
    }

    /// Whether what waits is due.
    pub(super) fn are_due(&mut self, now: Duration) -> bool {
        let waiting = |sink: &Arc<Sink>| sink.waiting(self.outbound);
        let waiting: usize = self.sinks.iter().map(waiting).sum();
        if waiting == 0 {
            self.since = None;
            return false;
        }
        let first = *self.since.get_or_insert(now);
        waiting >= ENOUGH || now.saturating_sub(first) >= LONGEST_REST
    }

    /// What waits, as loads of a convenient size, and how much was dropped.
    pub(super) fn take(&mut self) -> (Vec<Load>, u64) {
        self.since = None;
        let mut loads: Vec<Load> = Vec::new();
        let mut dropped = 0;
        for sink in &self.sinks {
            let (batches, lost) = sink.take_batches(self.outbound);
            dropped += lost;
            for batch in batches {
                let piece = Bytes::from(batch.bytes);
                match loads.last_mut() {
                    Some(last) if last.length() + piece.len() <= JOINED => {
                        last.pieces.push(piece);
                        last.items += batch.items;
                    }
                    _ => loads.push(Load {
                        pieces: vec![piece],
                        items: batch.items,
                    }),
                }
            }
        }
        (loads, dropped)
    }

    /// How many items wait, or were dropped, that nobody will take any more.
    pub(super) fn left(&mut self) -> u64 {
        let (loads, dropped) = self.take();
        dropped + loads.iter().map(|load| load.items).sum::<u64>()
    }

    /// How many were dropped since.
    pub(super) fn dropped(&self) -> u64 {
        let dropped = |sink: &Arc<Sink>| sink.take_dropped(self.outbound);
        self.sinks.iter().map(dropped).sum()
    }

    /// Gives them memory back.
    pub(super) fn give_back(&self, memory: Vec<u8>) {
        self.handover.give_back(memory);
    }
}

/// Spans, or records of decisions and events.
struct Records {
    workers: Workers,
    events: Option<Arc<Events>>,
    resource: Resource,
}

impl Source for Records {
    fn is_due(&mut self, now: Duration) -> bool {
        let heard = self.events.as_ref().is_some_and(|events| events.any());
        self.workers.are_due(now) || heard
    }

    fn take(&mut self, _: Duration) -> (Vec<Load>, u64) {
        let (mut loads, dropped) = self.workers.take();
        let events = self.events.iter().flat_map(|events| events.take());
        let mut own = Batch::default();
        for event in events {
            otlp::event(&event, &mut own.bytes);
            own.items += 1;
        }
        if own.items > 0 {
            loads.push(Load {
                pieces: vec![own.bytes.into()],
                items: own.items,
            });
        }
        for load in &mut loads {
            let before = self.resource.before(load.length());
            load.pieces.insert(0, before.into());
        }
        (loads, dropped)
    }

    fn settle(&mut self, _: bool) {}

    fn left(&mut self) -> u64 {
        self.workers.left()
    }

    fn dropped(&mut self) -> u64 {
        self.workers.dropped()
    }

    fn give_back(&mut self, memory: Vec<u8>) {
        self.workers.give_back(memory);
    }
}

/// Metrics.
struct Points {
    gather: Gather,
    temporality: Temporality,
    interval: Duration,
    resource: Resource,
    deltas: Deltas,
    /// Since when is counted.
    began: Duration,
    /// When it was told last.
    told: Duration,
    /// Of what is being told as a difference: how it all stood, and when.
    pending: Option<(Vec<Family>, Duration)>,
}

impl Source for Points {
    fn is_due(&mut self, now: Duration) -> bool {
        now.saturating_sub(self.told) >= self.interval
    }

    fn take(&mut self, now: Duration) -> (Vec<Load>, u64) {
        let families = (self.gather)();
        let (told, pending) = match self.temporality {
            Temporality::Cumulative => (families, None),
            Temporality::Delta => (self.deltas.since(&families), Some((families, now))),
        };
        let mut items = Vec::new();
        otlp::metrics(&told, self.temporality, (self.began, now), &mut items);
        let points = told.iter().map(|family| family.points.len() as u64).sum();
        // Tried and not taken, it is next told an interval later.
        self.told = now;
        self.pending = pending;
        let before = self.resource.before(items.len());
        let load = Load {
            pieces: vec![before.into(), items.into()],
            items: points,
        };
        (vec![load], 0)
    }

    fn settle(&mut self, taken: bool) {
        if let (Some((families, at)), true) = (self.pending.take(), taken) {
            self.deltas.told(families);
            self.began = at;
        }
    }
}

/// How it goes to the collector.
pub(super) struct OtlpWay {
    to: OtlpTo,
    url: Option<Uri>,
    channel: Channel,
    clock: Arc<dyn Clock>,
}

/// The longest answer of a collector.
const LONGEST_ANSWER: usize = 64 * 1024;

impl OtlpWay {
    pub(super) fn new(to: &OtlpTo, signal: Signal, clock: Arc<dyn Clock>) -> Self {
        let (protocol, path) = match (to.protocol, signal) {
            (OtlpProtocol::Http, Signal::Metrics) => (Protocol::Http1, "/v1/metrics"),
            (OtlpProtocol::Http, Signal::Logs) => (Protocol::Http1, "/v1/logs"),
            (OtlpProtocol::Http, _) => (Protocol::Http1, "/v1/traces"),
            (OtlpProtocol::Grpc, Signal::Metrics) => (
                Protocol::Http2,
                "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            ),
            (OtlpProtocol::Grpc, Signal::Logs) => (
                Protocol::Http2,
                "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            ),
            (OtlpProtocol::Grpc, _) => (
                Protocol::Http2,
                "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            ),
        };
        let base = to.endpoint.to_string();
        Self {
            url: format!("{}{path}", base.trim_end_matches('/')).parse().ok(),
            channel: Channel::new(&to.tls, protocol, Arc::clone(&to.resolver), to.plain),
            to: to.clone(),
            clock,
        }
    }

    fn request(&self, load: &Load) -> Result<Request<Pieces>, String> {
        let url = self.url.clone().ok_or("the endpoint is no base of a URL")?;
        let mut body = match self.to.gzip {
            true => vec![gzip(load.pieces.iter().map(|piece| &**piece)).into()],
            false => load.pieces.clone(),
        };
        let kind = match self.to.protocol {
            OtlpProtocol::Http => "application/x-protobuf",
            OtlpProtocol::Grpc => {
                let length = body.iter().map(Bytes::len).sum();
                body.insert(0, frame(length, self.to.gzip));
                "application/grpc"
            }
        };
        let mut request = Request::post(url).header(header::CONTENT_TYPE, kind);
        // A POST that does not say so is refused by some (RFC 9110 section 8.6).
        if body.iter().all(Bytes::is_empty) {
            request = request.header(header::CONTENT_LENGTH, 0);
        }
        if self.to.gzip {
            request = match self.to.protocol {
                OtlpProtocol::Http => request.header(header::CONTENT_ENCODING, "gzip"),
                OtlpProtocol::Grpc => request.header("grpc-encoding", "gzip"),
            };
        }
        let now = self.clock.now();
        for (name, value) in &self.to.headers {
            let value = value.current(&now);
            let value = value.ok_or_else(|| format!("the value of `{name}` is not read yet"))?;
            request = request.header(name, (*value).clone());
        }
        request
            .body(Pieces::new(body))
            .map_err(|_| "the request cannot be made".to_owned())
    }

    /// Sends a load once, and gives what is answered.
    pub(super) async fn ask(&mut self, load: &Load) -> Result<Response<Bytes>, Unanswered> {
        let request = self.request(load).map_err(Unanswered::Unmade)?;
        let bounds = Bounds {
            timeout: self.to.timeout,
            max_body: LONGEST_ANSWER,
        };
        let answer = self.channel.send(request, bounds).await;
        answer.map_err(Unanswered::Unsent)
    }
}

/// Why there is no answer.
pub(super) enum Unanswered {
    /// There was no request.
    Unmade(String),
    /// It did not arrive, or nothing came back.
    Unsent(FetchError),
}

impl Way for OtlpWay {
    async fn send(&mut self, load: &Load) -> Delivered {
        match self.ask(load).await {
            Err(Unanswered::Unmade(why)) => later(why, None),
            Err(Unanswered::Unsent(why)) => unsent(&why),
            Ok(answer) => delivered(self.to.protocol, &answer),
        }
    }

    fn name(&self) -> String {
        let authority = self.to.endpoint.authority();
        authority.map_or_else(String::new, ToString::to_string)
    }
}

/// What gRPC has stand before a message of so many bytes: whether it is compressed, and its length.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
fn frame(length: usize, is_compressed: bool) -> Bytes {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let [a, b, c, d] = length.to_be_bytes();
    Bytes::copy_from_slice(&[is_compressed.into(), a, b, c, d])
}

pub(super) fn later(why: String, after: Option<Duration>) -> Delivered {
    Delivered::Later {
        why,
        after,
        again: None,
    }
}

/// What was not answered may go better later; a URL that may not be called will not.
pub(super) fn unsent(why: &FetchError) -> Delivered {
    match why {
        FetchError::BadRequest(_)
        | FetchError::AddressRefused(_)
        | FetchError::PlainHttpRefused(_) => Delivered::Refused(why.to_string()),
        _ => later(why.to_string(), None),
    }
}

/// What `Retry-After` asks for, in seconds; dates are nobody's here.
pub(super) fn retry_after<B>(answer: &Response<B>) -> Option<Duration> {
    let value = answer.headers().get(header::RETRY_AFTER)?;
    let seconds = value.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What an answer says.
pub(super) fn delivered(protocol: OtlpProtocol, answer: &Response<Bytes>) -> Delivered {
    match protocol {
        OtlpProtocol::Http => over_http(answer),
        OtlpProtocol::Grpc => over_grpc(answer),
    }
}

/// The status of gRPC, if an answer has one.
pub(super) fn grpc_status<B>(answer: &Response<B>) -> Option<u32> {
    let status = answer.headers().get("grpc-status")?;
    status.to_str().ok()?.parse().ok()
}

fn over_http(answer: &Response<Bytes>) -> Delivered {
    let status = answer.status();
    let kind = answer.headers().get(header::CONTENT_TYPE);
    match status {
        // Whatever it was, nobody has kept anything.
        StatusCode::OK if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) => {
            Delivered::Refused("it answers with a page for people".to_owned())
        }
        StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => Delivered::Taken {
            refused: rejected(answer.body()),
        },
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => later(
            format!("it answers {}", status.as_u16()),
            retry_after(answer),
        ),
        _ => Delivered::Refused(format!("it answers {}", status.as_u16())),
    }
}

fn over_grpc(answer: &Response<Bytes>) -> Delivered {
    let Some(status) = grpc_status(answer) else {
        let status = answer.status().as_u16();
        return later(format!("it answers {status} without a gRPC status"), None);
    };
    match status {
        0 => Delivered::Taken {
            refused: rejected(answer.body().get(5..).unwrap_or_default()),
        },
        // Cancelled, deadline exceeded, aborted, out of range, unavailable, data loss.
        1 | 4 | 10 | 11 | 14 | 15 => later(format!("it answers {}", named(status)), None),
        // Resource exhausted: only where it says when there will be some.
        8 if answer.headers().contains_key("grpc-status-details-bin") => {
            later(format!("it answers {}", named(status)), None)
        }
        _ => Delivered::Refused(format!("it answers {}", named(status))),
    }
}

/// A status of gRPC, with what it is called.
/// <https://grpc.io/docs/guides/status-codes/>
fn named(status: u32) -> String {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let name = usize::try_from(status).ok().and_then(|at| NAMES.get(at));
    match name {
        Some(name) => format!("gRPC status {status} ({name})"),
        None => format!("gRPC status {status}"),
    }
}

/// How many items a collector did not want of a request that it took: field 1 of `partial_success`, field 1 of the
/// answer.
fn rejected(answer: &[u8]) -> u64 {
    let success = field(answer, 1).and_then(|(value, bytes)| value.is_none().then_some(bytes));
    let count = success.and_then(|success| field(success, 1));
    count.and_then(|(value, _)| value).unwrap_or(0)
}

/// A field of a message: its number, or its bytes.
fn field(mut message: &[u8], wanted: u64) -> Option<(Option<u64>, &[u8])> {
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let (number, bytes) = match tag & 7 {
            0 => (Some(varint(&mut message)?), &[][..]),
            1 => (None, message.split_off(..8)?),
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                (None, message.split_off(..length)?)
            }
            5 => (None, message.split_off(..4)?),
            _ => return None,
        };
        if tag >> 3 == wanted {
            return Some((number, bytes));
        }
    }
    None
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let byte = *message.split_off_first()?;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::otlp::Message;

    #[test]
    fn what_a_collector_did_not_want_is_read_in_its_answer() {
        let mut answer = Vec::new();
        Message::new(&mut answer).message(1, |success| {
            success.number(1, 300);
            success.bytes(2, b"too old");
        });
        assert_eq!(rejected(&answer), 300);
        assert_eq!(rejected(&[]), 0);
        let mut warning = Vec::new();
        Message::new(&mut warning).message(1, |success| success.bytes(2, b"only a warning"));
        assert_eq!(rejected(&warning), 0);
        for cut in 0..answer.len() {
            assert!(rejected(&answer[..cut]) <= 300);
        }
    }
}
