//! Plain HTTP, by which nothing is forwarded: callers are sent to `https`, probes are answered, and a certificate
//! authority finds what it asks for. On a thread of its own: who floods it delays neither requests nor what the gateway
//! fetches.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::canonical;
use crate::clock::{pause, within};
use crate::denial::Reason;
use crate::drain::Drain;
use crate::metric::{Family, Metric, Point, Unit};

/// Connections at once. For a further one the oldest is ended, so that nobody keeps probes out by holding connections.
const MOST_CONNECTIONS: usize = 256;

/// From the connection to the end of a request's head.
const LONGEST_HEAD: Duration = Duration::from_secs(10);

/// A connection answers one request.
const LONGEST_CONNECTION: Duration = Duration::from_secs(30);

const LARGEST_HEAD: usize = 16 * 1024;

/// How long to wait when no connection can be accepted.
const BREATH: Duration = Duration::from_millis(50);

/// Where a certificate authority asks (RFC 8555 section 8.3).
const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// Tells what belongs to a token.
pub type Challenge = dyn Fn(&str) -> Option<String> + Send + Sync;

/// What is answered.
#[derive(Clone, Default)]
pub struct Answers {
    /// Whether callers are sent to `https`.
    pub redirect: bool,
    /// Where they are sent: scheme, host and port. The host that they asked for where it tells none.
    pub base: Option<Arc<dyn Fn() -> Option<String> + Send + Sync>>,
    /// Whether requests could be served, if probes may ask.
    pub ready: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
    /// What belongs to a token that a certificate authority asks for.
    pub challenge: Option<Arc<Challenge>>,
    /// What has been answered.
    pub given: Arc<Given>,
}

macro_rules! kinds {
    ($($name:ident $code:literal;)*) => {
        /// What was answered.
        #[derive(Clone, Copy)]
        enum Kind { $($name,)* }

        const KINDS: &[&str] = &[$($code,)*];
    };
}

kinds! {
    Redirect "redirect";
    SecretRefused "secret-refused";
    MethodRefused "method-refused";
    AmbiguousRefused "ambiguous-refused";
    Probe "probe";
    Challenge "challenge";
    NotFound "not-found";
}

static GIVEN: Metric = Metric::counter(
    "portcullis.plain_http.answers",
    Unit::Of("{answer}"),
    "What was answered by plain HTTP. secret-refused: a token, signature or key had come in plain.",
);

/// How often each thing was answered, by all porters.
#[derive(Debug, Default)]
pub struct Given([AtomicU64; KINDS.len()]);

impl Given {
    fn count(&self, kind: Kind) {
        if let Some(count) = self.0.get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The metric.
    pub fn family(&self) -> Family {
        let points = KINDS
            .iter()
            .zip(&self.0)
            .map(|(code, count)| Point::new([("answer", *code)], count.load(Ordering::Relaxed)));
        GIVEN.with(points.collect())
    }
}

/// A thread that answers plain HTTP.
pub struct Porter {
    thread: Option<JoinHandle<()>>,
    end: Option<oneshot::Sender<()>>,
}

impl Porter {
    /// Begins to answer on a socket, until the drain has come or it is dropped.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be started.
    pub fn start(socket: StdListener, answers: Answers, drain: Drain) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("porter".to_owned());
        let thread = thread.spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(socket, Arc::new(answers), &drain) => {}
                    _ = ended => {}
                }
            });
        })?;
        Ok(Self {
            thread: Some(thread),
            end: Some(end),
        })
    }
}

impl Drop for Porter {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // One that panicked has ended too.
            let _ = thread.join();
        }
    }
}

async fn serve(socket: StdListener, answers: Arc<Answers>, drain: &Drain) {
    let Ok(listener) = TcpListener::from_std(socket) else {
        return;
    };
    let mut held: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.draining() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let answers = Arc::clone(&answers);
                if held.len() >= MOST_CONNECTIONS {
                    held.retain(|one| !one.is_finished());
                }
                if held.len() >= MOST_CONNECTIONS
                    && let Some(oldest) = held.pop_front()
                {
                    oldest.abort();
                }
                let conversation = async move {
                    let _ = within(LONGEST_CONNECTION, converse(stream, answers)).await;
                };
                held.push_back(tokio::spawn(conversation).abort_handle());
            }
            Err(_) => pause(BREATH).await,
        }
    }
}

async fn converse(stream: TcpStream, answers: Arc<Answers>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (head, _) = request.into_parts();
        let (kind, answer) = answers.answer(&head);
        answers.given.count(kind);
        async { Ok::<_, Infallible>(answer) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(LONGEST_HEAD)
        .max_buf_size(LARGEST_HEAD)
        .keep_alive(false);
    // What fails here has failed for the caller alone.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

type Answer = Response<Full<Bytes>>;

/// What else a request says than where it wants to go.
enum Beside {
    Nothing,
    /// A token, signature or key has come in plain, in any of the spellings that the gateway takes out elsewhere.
    Secrets,
    /// Nobody can say: it may be read in several ways.
    Ambiguous(Reason),
}

impl Beside {
    fn of(head: &Parts) -> Self {
        if head.headers.contains_key(header::AUTHORIZATION) {
            return Self::Secrets;
        }
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        match canonical::Request::new(head.clone(), nowhere) {
            Err(refused) => Self::Ambiguous(refused.into_denial().reason()),
            Ok(request) => {
                let parameters = request.key_parameters_seen().keys();
                match parameters.is_empty() && request.key_headers_seen().is_empty() {
                    true => Self::Nothing,
                    false => Self::Secrets,
                }
            }
        }
    }
}

impl Answers {
    fn answer(&self, head: &Parts) -> (Kind, Answer) {
        let is_safe = matches!(head.method, Method::GET | Method::HEAD);
        let ok = || text(StatusCode::OK, "ok\n".to_owned());
        match head.uri.path() {
            "/livez" if is_safe && self.ready.is_some() => (Kind::Probe, ok()),
            "/readyz" if is_safe && let Some(ready) = &self.ready => {
                let not_ready = || text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned());
                (Kind::Probe, if ready() { ok() } else { not_ready() })
            }
            path if is_safe && let Some(token) = path.strip_prefix(CHALLENGES) => {
                match self.challenge.as_ref().and_then(|answer| answer(token)) {
                    Some(found) => (Kind::Challenge, text(StatusCode::OK, found)),
                    None => (Kind::NotFound, not_found()),
                }
            }
            _ if !self.redirect => (Kind::NotFound, not_found()),
            // What has come in plain must not be sent once more as if nothing had happened.
            _ => match Beside::of(head) {
                Beside::Secrets => (Kind::SecretRefused, https_required()),
                Beside::Nothing | Beside::Ambiguous(_) if !is_safe => {
                    (Kind::MethodRefused, https_required())
                }
                Beside::Ambiguous(reason) => (Kind::AmbiguousRefused, ambiguous(reason)),
                Beside::Nothing => match self.to_https(head) {
                    Some(answer) => (Kind::Redirect, answer),
                    None => (Kind::AmbiguousRefused, ambiguous(Reason::AmbiguousHost)),
                },
            },
        }
    }

    fn to_https(&self, head: &Parts) -> Option<Answer> {
        let own = |host: String| format!("https://{host}");
        let base = match self.base.as_ref().and_then(|base| base()) {
            Some(base) => base,
            None => canonical::host_of(head).map(own).ok()?,
        };
        let target = head
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let target = if target.starts_with('/') { target } else { "/" };
        let location = HeaderValue::try_from(base + target).ok()?;
        let mut answer = text(StatusCode::PERMANENT_REDIRECT, String::new());
        answer.headers_mut().insert(header::LOCATION, location);
        Some(answer)
    }
}

fn text(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, plain);
    answer
}

fn not_found() -> Answer {
    problem(
        StatusCode::NOT_FOUND,
        "not-found",
        "Nothing is answered here by plain HTTP.",
    )
}

fn https_required() -> Answer {
    problem(
        StatusCode::FORBIDDEN,
        "https-required",
        "Call by https. A token or key that was sent in plain should be withdrawn.",
    )
}

fn ambiguous(reason: Reason) -> Answer {
    problem(
        StatusCode::BAD_REQUEST,
        reason.code(),
        "Send one Host, and a path, query and header fields that can be read in one way alone.",
    )
}

/// RFC 9457.
fn problem(status: StatusCode, reason: &str, detail: &str) -> Answer {
    let body = serde_json::json!({
        "type": format!("urn:portcullis:denial:{reason}"),
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
        "reason": reason,
    });
    let mut answer = text(status, body.to_string());
    let kind = HeaderValue::from_static("application/problem+json");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
