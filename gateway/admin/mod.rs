//! The admin address: health, metrics, and how the gateway and what it holds stand, for platforms and operators. Read
//! only, and apart from the callers' listener.

mod access;
mod answer;
mod backends;
mod bearer;
mod certificates;
mod changes;
mod connection;
mod console;
mod credentials;
mod decisions;
mod endpoints;
mod gauges;
mod keys;
mod limits;
mod log_level;
mod policies;
mod profile;
mod protection;
mod readiness;
mod tls;
mod written;

use std::net::SocketAddr;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::access::Access;
use self::answer::{Answer, error, json, of_kind, text};
use self::changes::Changes;
use self::endpoints::{Found, What, Who};
use self::profile::Profiler;
use crate::reload::Reloads;
use crate::snapshot::Snapshot;
use crate::telemetry::{Exposition, Gather, LogLevel, Metrics};

pub use bearer::Bearer;
pub use endpoints::endpoints;
pub use gauges::standing;
pub use protection::Protection;
pub use readiness::{Check, Readiness, SERVING};
pub use tls::client_ca;

/// What is answered, for programs (OpenAPI 3.1).
pub const DESCRIPTION: &str = include_str!("../../deploy/admin.openapi.json");

/// What the admin address answers from.
pub struct Admin {
    readiness: Readiness,
    observed: Observed,
    reloads: watch::Receiver<Reloads>,
    protection: Arc<Protection>,
    /// What was in force at first.
    first: Arc<Snapshot>,
    changes: Arc<Changes>,
    access: Access,
    profiler: Profiler,
}

/// What telemetry has to tell, and what can be changed of it.
pub struct Observed {
    /// All metrics as they stand.
    pub gather: Gather,
    /// The latest requests.
    pub requests: Arc<Metrics>,
    /// What is logged.
    pub level: Arc<LogLevel>,
}

impl Admin {
    /// Answers from these, to whom the protection lets in.
    pub fn new(
        readiness: Readiness,
        observed: Observed,
        reloads: watch::Receiver<Reloads>,
        protection: Arc<Protection>,
    ) -> Arc<Self> {
        Arc::new(Self {
            first: readiness.snapshot.load_full(),
            readiness,
            observed,
            reloads,
            protection,
            changes: Arc::default(),
            access: Access::default(),
            profiler: Profiler::default(),
        })
    }

    /// Answers for ever.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let (snapshot, reloads) = (Arc::clone(&self.readiness.snapshot), self.reloads.clone());
        let changes = Arc::clone(&self.changes);
        tokio::spawn(changes.watch(Arc::clone(&self.first), snapshot, reloads));
        self.accept(listener).await;
    }

    async fn answer(&self, request: Request<Incoming>, by_certificate: bool) -> Answer {
        let (head, body) = request.into_parts();
        let found = endpoints::find(&head.method, head.uri.path());
        let who = match &found {
            Found::Endpoint(endpoint) if is_verbose(&head) && endpoint.what == What::Ready => {
                Who::Readers
            }
            Found::Endpoint(endpoint) => endpoint.who,
            Found::OtherMethods(at) => at.first().map_or(Who::Readers, |endpoint| endpoint.who),
            Found::Nothing => Who::Readers,
        };
        let now = self.readiness.clock.now();
        if let Err(refused) = self.protection.admit(who, &head, by_certificate, &now) {
            return refused.answer();
        }
        match found {
            Found::Endpoint(endpoint) => self.tell(endpoint.what, &head, body).await,
            Found::OtherMethods(at) => not_allowed(&endpoints::allowed(&at)),
            Found::Nothing => error(
                StatusCode::NOT_FOUND,
                &format!("there is nothing here; there are {}", endpoints::paths()),
            ),
        }
    }

    async fn tell(&self, what: What, head: &Parts, body: Incoming) -> Answer {
        let snapshot = self.readiness.snapshot.load_full();
        let now = self.readiness.clock.now();
        match what {
            What::Live => text(StatusCode::OK, "ok\n".to_owned()),
            What::Ready => self.ready(is_verbose(head)),
            What::Metrics => self.metrics(head),
            What::Policies => self.policies(),
            What::Certificates => json(&certificates::page(&self.readiness)),
            What::Keys => json(&keys::page(&snapshot, &now)),
            What::Credentials => json(&credentials::page(&snapshot, &now)),
            What::Backends => json(&backends::page(&snapshot)),
            What::Limits => json(&limits::page(&self.readiness.limits)),
            What::Access => self.access.of(snapshot).await,
            What::Profile => self.profile(head).await,
            What::Decisions => decisions::list(&self.observed.requests, head.uri.query()),
            What::Decision => decisions::one(&self.observed.requests, &snapshot, head.uri.path()),
            What::LogLevel => json(&log_level::page(&self.observed.level)),
            What::SetLogLevel => log_level::change(&self.observed.level, body, &now).await,
            What::Page => console::page(),
            What::PageStyle => console::style(),
            What::PageScript => console::script(),
            What::Description => of_kind(StatusCode::OK, "application/json", DESCRIPTION),
        }
    }

    fn metrics(&self, head: &Parts) -> Answer {
        let accept = head.headers.get(header::ACCEPT);
        let accept = accept.and_then(|accept| accept.to_str().ok());
        let exposition = Exposition::accepted(accept.unwrap_or_default());
        let text = exposition.write(&(self.observed.gather)());
        of_kind(StatusCode::OK, exposition.media_type(), text)
    }

    fn policies(&self) -> Answer {
        // In this order, a reload that counts as taken is never missing from what is in force.
        let reloads = self.reloads.borrow().clone();
        let snapshot = self.readiness.snapshot.load();
        json(&policies::page(&snapshot, &reloads, self.changes.last()))
    }

    fn ready(&self, verbose: bool) -> Answer {
        let checks = self.readiness.checks();
        let ready = checks.iter().all(|check| check.passes || !check.required);
        let (status, word) = match ready {
            true => (StatusCode::OK, "ok"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        };
        let mut body = String::new();
        if verbose {
            for check in &checks {
                body.push_str(&check.line());
            }
        }
        text(status, body + word + "\n")
    }

    async fn profile(&self, head: &Parts) -> Answer {
        if !self.protection.lets_profile() {
            return error(
                StatusCode::FORBIDDEN,
                "the process may not be profiled: write `admin.profile: true`",
            );
        }
        self.profiler.profile(head.uri.query()).await
    }
}

fn is_verbose(head: &Parts) -> bool {
    let query = head.uri.query().unwrap_or_default();
    let mut names = query.split('&').map(|pair| pair.split('=').next());
    names.any(|name| name == Some("verbose"))
}

fn not_allowed(allowed: &str) -> Answer {
    let sentence = format!("only {allowed} can ask this");
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, &sentence);
    if let Ok(allowed) = HeaderValue::try_from(allowed) {
        answer.headers_mut().insert(header::ALLOW, allowed);
    }
    answer
}

/// Binds the admin address, on the runtime that will serve it.
///
/// # Errors
/// When the address cannot be bound.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}
