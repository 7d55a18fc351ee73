//! Requests that are tried more than once. What was never sent may be sent again, whatever it is; what was sent only
//! if it may be repeated (RFC 9110 section 9.2.2) and has no body, for bodies are never kept. A POST or PATCH of which
//! anything was sent is never sent again.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::uri::{Authority, Uri};
use http::{Method, Request, Response};

use super::body::{Progress, RequestBody, Stream, Withheld};
use super::breaker::{Fared, Leave};
use super::care::{Care, Kept, Load, Member, Waiting};
use super::http1::{bodiless, readdress};
use super::moment::moment;
use super::send::{Going, Outbound, Way};
use crate::body::CallerBody;
use crate::clock::{Clock, Stopwatch, doubled, pause};
use crate::denial::{Denial, Reason};
use crate::files::{self, RetryOn};
use crate::http1::Scratch;
use crate::ids::jitter;
use crate::limits::Passing;

/// The longest wait before a backend that starts is tried again for the first time, and later.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What a request needs whose backend gets more than being called.
pub(super) struct Careful<'r> {
    care: &'r Arc<Care>,
    load: Load,
    pass: Option<Pass<'r>>,
    spare: Option<Spare>,
    /// Further attempts, and those made while the backend starts.
    retries: u32,
    tries: u32,
    start: Option<(Waiting, Stopwatch)>,
    /// Since the first attempt that is not part of a start.
    watch: Stopwatch,
}

impl<'r> Careful<'r> {
    /// Chooses an endpoint.
    ///
    /// # Errors
    /// `BackendOpen` while the breaker lets nothing through.
    pub(super) fn begin(care: &'r Arc<Care>, way: &Way<'r>) -> Result<Box<Self>, Denial> {
        let at = moment(way.now.instant);
        let pass = Pass::ask(care, way, at)?;
        if care.retry.is_some() {
            care.kept.count_request(at);
        }
        Ok(Box::new(Self {
            care,
            load: Care::choose(care, at, None),
            pass,
            spare: None,
            retries: 0,
            tries: 0,
            start: None,
            watch: Stopwatch::start(),
        }))
    }

    /// The endpoint that was chosen.
    pub(super) fn member(&self) -> Option<&'r Member> {
        self.care.members.get(self.load.place())
    }

    /// Keeps what is needed to send the request again, where that may be.
    pub(super) fn keep(&mut self, request: &Outbound, progress: &Progress) {
        if self.care.retry.is_some() || self.care.cold_start.is_some() {
            self.spare = Spare::of(request, progress);
        }
    }

    /// Its place at the endpoint that has answered.
    pub(super) fn into_load(self) -> Load {
        self.load
    }

    /// How long to wait before the next attempt; `None` when there is to be none.
    fn again(
        &mut self,
        met: Met,
        after: Option<Duration>,
        first_byte: Duration,
        at: u64,
    ) -> Option<Duration> {
        match self.care.cold_start {
            Some(limit) if met.may_be_a_start() => self.wait_for_start(limit, after),
            Some(_) | None => self.retry(met, after, first_byte, at),
        }
    }

    fn wait_for_start(&mut self, limit: Duration, after: Option<Duration>) -> Option<Duration> {
        if self.start.is_none() {
            self.start = Some((Waiting::begin(&self.care.kept)?, Stopwatch::start()));
        }
        let (_, since) = self.start.as_ref()?;
        let wait = after.unwrap_or_default().max(patience(self.tries));
        self.tries += 1;
        // A start takes its time; who is slow behind it is.
        if let Some(pass) = &mut self.pass {
            pass.since = None;
        }
        (since.elapsed().saturating_add(wait) < limit).then_some(wait)
    }

    fn retry(
        &mut self,
        met: Met,
        after: Option<Duration>,
        first_byte: Duration,
        at: u64,
    ) -> Option<Duration> {
        let retry = self.care.retry.as_ref()?;
        let on = met.as_written()?;
        if !retry.on.contains(&on) || self.retries + 1 >= retry.attempts {
            return None;
        }
        let by_chance = doubled(retry.backoff, self.retries, retry.max_backoff).mul_f64(jitter());
        let wait = after.unwrap_or(by_chance);
        let is_in_time = wait <= retry.max_backoff && self.watch.elapsed() + wait < first_byte;
        let is_granted = is_in_time && self.care.kept.may_retry(retry, at);
        self.retries += u32::from(is_granted);
        is_granted.then_some(wait)
    }

    /// The request has come to its end.
    fn end(&mut self, met: Met, now: Instant) {
        let has_failed = met.has_failed(self.care);
        if let Some((waiting, since)) = self.start.take() {
            waiting.end(!has_failed, since.elapsed());
        }
        match (self.pass.take(), met) {
            // The pass says by itself that nothing can be said.
            (_, Met::NotTheBackend) | (None, _) => {}
            (Some(pass), _) => pass.note(has_failed, now),
        }
    }

    /// Notes how an endpoint fared.
    fn note(&mut self, met: Met, at: u64) {
        match met {
            Met::NotTheBackend => {}
            _ if met.has_failed(self.care) => self.load.failed(at),
            _ => self.load.good(at),
        }
    }
}

/// How long to wait for a backend that starts, after so many waits: by chance, but never not at all.
fn patience(before: u32) -> Duration {
    doubled(FIRST_WAIT, before, LONGEST_WAIT).mul_f64(0.5 + jitter() / 2.0)
}

/// What an attempt met with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Met {
    /// An answer.
    Answer(u16),
    /// No connection.
    Unreached,
    /// No address.
    Unknown,
    /// Somebody else than the backend.
    Impostor,
    /// The connection ended.
    Broken,
    /// Nothing in time.
    Late,
    /// Whatever failed was not the backend.
    NotTheBackend,
}

impl Met {
    fn of(attempt: &Result<Response<Stream>, Denial>, progress: &Progress) -> Self {
        match attempt {
            Ok(response) => Self::Answer(response.status().as_u16()),
            Err(denial) => match denial.reason() {
                Reason::BackendConnectionRefused
                | Reason::BackendConnectTimeout
                | Reason::BackendTlsTimeout => Self::Unreached,
                Reason::BackendDns => Self::Unknown,
                Reason::BackendTls | Reason::BackendAddressRefused => Self::Impostor,
                Reason::BackendBroken => Self::Broken,
                // Who waits for the caller is not late.
                Reason::BackendTimeout if progress.is_awaited() => Self::NotTheBackend,
                Reason::BackendTimeout => Self::Late,
                _ => Self::NotTheBackend,
            },
        }
    }

    fn has_failed(self, care: &Care) -> bool {
        match self {
            Self::Answer(status) => care.is_failure(status),
            Self::Unreached | Self::Unknown | Self::Impostor | Self::Broken | Self::Late => true,
            Self::NotTheBackend => false,
        }
    }

    /// How policies call it, if it can be tried again.
    fn as_written(self) -> Option<RetryOn> {
        match self {
            Self::Answer(status) => Some(RetryOn::Status(status)),
            Self::Unreached | Self::Unknown => Some(RetryOn::Connect),
            Self::Broken => Some(RetryOn::Reset),
            Self::Impostor | Self::Late | Self::NotTheBackend => None,
        }
    }

    /// Whether a backend may look so that is starting from nothing: nobody listens, or what stands in front of it has
    /// nobody to pass a request on to.
    fn may_be_a_start(self) -> bool {
        matches!(self, Self::Unreached | Self::Answer(502 | 503))
    }
}

/// A request's leave from the breaker.
struct Pass<'r> {
    breaker: &'r files::Breaker,
    kept: &'r Kept,
    clock: &'r dyn Clock,
    leave: Leave,
    /// Since when the backend alone is waited for: before that, the caller sends.
    since: Option<Instant>,
    is_noted: bool,
}

impl<'r> Pass<'r> {
    fn ask(care: &'r Care, way: &Way<'r>, at: u64) -> Result<Option<Self>, Denial> {
        let Some(breaker) = &care.breaker else {
            return Ok(None);
        };
        let leave = care.kept.breaker.ask(breaker, at);
        let leave = leave.map_err(|rest| Denial::from(Reason::BackendOpen).retry_after(rest))?;
        Ok(Some(Self {
            breaker,
            kept: &care.kept,
            clock: &**way.pools.clock(),
            leave,
            since: None,
            is_noted: false,
        }))
    }

    fn note(mut self, has_failed: bool, now: Instant) {
        self.count(has_failed, now);
    }

    fn count(&mut self, has_failed: bool, now: Instant) {
        let fared = Fared {
            has_failed,
            is_slow: self.is_slow(now),
        };
        self.is_noted = true;
        let at = moment(now);
        self.kept.breaker.note(self.breaker, self.leave, fared, at);
    }

    fn is_slow(&self, now: Instant) -> bool {
        let waited = self.since.map(|since| now.saturating_duration_since(since));
        waited >= Some(self.breaker.slow_after)
    }
}

impl Drop for Pass<'_> {
    /// Who leaves before the backend has answered says nothing of it, unless that took long.
    fn drop(&mut self) {
        if self.is_noted {
            return;
        }
        let now = self.clock.instant();
        if self.is_slow(now) {
            self.count(false, now);
        } else if self.leave == Leave::Trying {
            self.kept.breaker.give_up();
        }
    }
}

/// A request as it can be sent again: it has no body.
enum Spare {
    Http1(Method, Vec<u8>),
    Http2(Request<()>),
}

impl Spare {
    /// Of a request that may be repeated.
    fn of(request: &Outbound, progress: &Progress) -> Option<Self> {
        let may_be_repeated = |method: &Method| {
            let methods = [
                Method::GET,
                Method::HEAD,
                Method::OPTIONS,
                Method::PUT,
                Method::DELETE,
            ];
            methods.contains(method) && progress.is_whole()
        };
        match request {
            Outbound::Http1(method, Some(upload)) if may_be_repeated(method) => {
                Some(Self::Http1(method.clone(), upload.unsent()?.to_vec()))
            }
            Outbound::Http2(Some(request)) if may_be_repeated(request.method()) => {
                let mut spare = Request::new(());
                *spare.method_mut() = request.method().clone();
                *spare.uri_mut() = request.uri().clone();
                *spare.version_mut() = request.version();
                *spare.headers_mut() = request.headers().clone();
                Some(Self::Http2(spare))
            }
            Outbound::Http1(..) | Outbound::Http2(_) => None,
        }
    }

    fn request(&self, scratch: Scratch) -> (Outbound, Progress) {
        let (body, progress) = RequestBody::new(
            CallerBody::nothing(),
            Withheld::default(),
            Passing::default(),
        );
        let request = match self {
            Self::Http1(method, head) => {
                let upload = bodiless(head.clone(), body, scratch);
                Outbound::Http1(method.clone(), Some(upload))
            }
            Self::Http2(spare) => Outbound::Http2(Some(spare.clone().map(|()| body))),
        };
        (request, progress)
    }
}

impl Outbound {
    /// Whether all of it is there still.
    fn is_unsent(&self) -> bool {
        match self {
            Self::Http1(_, upload) => upload.as_ref().is_some_and(|upload| !upload.has_begun()),
            Self::Http2(request) => request.is_some(),
        }
    }

    fn go_to(&mut self, host: &HeaderValue) {
        match self {
            Self::Http1(_, Some(upload)) => readdress(upload, host),
            Self::Http2(Some(request)) => {
                let uri = with_authority(request.uri(), host);
                *request.uri_mut() = uri.unwrap_or_else(|| request.uri().clone());
            }
            Self::Http1(_, None) | Self::Http2(None) => {}
        }
    }
}

fn with_authority(uri: &Uri, host: &HeaderValue) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(Authority::try_from(host.as_bytes()).ok()?);
    Uri::from_parts(parts).ok()
}

impl Going<'_> {
    /// Tries, and tries again where that is safe and worth it.
    pub(super) async fn with_care(&mut self) -> Result<Response<Stream>, Denial> {
        let Self {
            exchange,
            request,
            progress,
            careful,
            ..
        } = self;
        let careful = careful.as_deref_mut().ok_or(Reason::Internal)?;
        let (way, first_byte) = (exchange.way, exchange.first_byte);
        careful.watch = Stopwatch::start();
        loop {
            let attempt = careful.attempt(exchange.once(request, progress), progress);
            let attempt = attempt.await;
            way.attempts.set(way.attempts.get() + 1);
            let met = Met::of(&attempt, progress);
            let now = way.pools.clock().instant();
            let at = moment(now);
            careful.note(met, at);
            let is_unsent = request.is_unsent();
            let answer = attempt.as_ref().ok();
            let after = answer.and_then(|answer| retry_after(answer, &way));
            let wait = match is_unsent || careful.spare.is_some() {
                true => careful.again(met, after, first_byte, at),
                false => None,
            };
            let Some(wait) = wait else {
                careful.end(met, now);
                return attempt;
            };
            drop(attempt);
            pause(wait).await;
            if let Some(spare) = careful.spare.as_ref().filter(|_| !is_unsent) {
                (*request, *progress) = spare.request(way.pools.scratch());
            }
            if let Some(member) = careful.choose_anew(&way) {
                exchange.endpoint = &member.endpoint;
                request.go_to(&member.host);
            }
            exchange.first_byte = careful.left(met, first_byte);
        }
    }
}

impl<'r> Careful<'r> {
    /// Another endpoint, if there is one.
    fn choose_anew(&mut self, way: &Way<'_>) -> Option<&'r Member> {
        let at = moment(way.pools.clock().instant());
        self.load = Care::choose(self.care, at, Some(self.load.place()));
        self.member()
    }

    /// Tries once, and notes when the request was whole.
    async fn attempt<T>(&mut self, once: impl Future<Output = T>, progress: &Progress) -> T {
        let mut once = pin!(once);
        poll_fn(|cx| {
            self.note_whole(progress);
            let tried = once.as_mut().poll(cx);
            self.note_whole(progress);
            tried
        })
        .await
    }

    fn note_whole(&mut self, progress: &Progress) {
        if let Some(pass) = &mut self.pass
            && pass.since.is_none()
            && progress.is_whole()
        {
            pass.since = Some(pass.clock.instant());
        }
    }

    /// The time for all of it is over, whatever is under way.
    pub(super) fn late(&mut self, progress: &Progress, now: Instant) {
        let met = match progress.is_awaited() {
            true => Met::NotTheBackend,
            false => Met::Late,
        };
        self.note(met, moment(now));
        self.end(met, now);
    }

    /// What of the time for an answer's head is left for the next attempt: all attempts together have what one has.
    /// What met a backend that starts has not run, and takes no time from what will.
    fn left(&mut self, met: Met, first_byte: Duration) -> Duration {
        if self.start.is_some() && met.may_be_a_start() {
            self.watch = Stopwatch::start();
        }
        first_byte.saturating_sub(self.watch.elapsed())
    }
}

/// How long a backend asks to be left alone (RFC 9110 section 10.2.3), with what means that it will serve later.
fn retry_after(response: &Response<Stream>, way: &Way<'_>) -> Option<Duration> {
    if !matches!(response.status().as_u16(), 429 | 503) {
        return None;
    }
    let text = response
        .headers()
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let date = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(date.saturating_sub(way.now.unix))
}
