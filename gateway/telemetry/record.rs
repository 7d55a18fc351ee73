//! The record of one request: opened when it arrives, and written when the last byte of the answer is
//! sent or the caller has left. It holds what a decision needs to be understood, and no secret.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode, Version};

use crate::canonical::{self, KeyHeaders, KeyParameters, Refused};
use crate::clock::Now;
use crate::denial::{Denial, Note, Reason};
use crate::entra::Principal;
use crate::ids::RequestId;
use crate::policy::{Authorized, Grounds, Matched, Policy};
use crate::trace::Trace;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Let in by a rule.
    Allowed,
    /// Let in because the route is public.
    Public,
    /// Refused, or failed on the way to the backend.
    Denied(Reason),
}

impl Outcome {
    /// `allow` or `deny`, as logs and metrics write it.
    pub const fn decision(self) -> &'static str {
        match self {
            Self::Allowed | Self::Public => "allow",
            Self::Denied(_) => "deny",
        }
    }

    /// The reason code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Allowed => "rule",
            Self::Public => "public",
            Self::Denied(reason) => reason.code(),
        }
    }
}

/// What is known of one request.
#[derive(Debug)]
pub struct Record {
    /// Its ID, which the caller sees too.
    pub id: RequestId,
    /// When it arrived.
    pub arrived: Now,
    /// From arrival to the last byte.
    pub duration: Duration,
    /// From sending to the backend until its answer began.
    pub upstream: Option<Duration>,
    /// The trace, once the headers have been read.
    pub trace: Option<Trace>,
    /// The caller's address.
    pub client: IpAddr,
    /// The method.
    pub method: Method,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// The canonical path, never the query; empty when there is none to speak of.
    pub path: Box<str>,
    /// The canonical host.
    pub host: Box<str>,
    /// The route that matched.
    pub route: Option<Arc<str>>,
    /// The backend that was called.
    pub backend: Option<Arc<str>>,
    /// Who calls.
    pub principal: Option<Arc<Principal>>,
    /// The name that the policy gives the app.
    pub app_name: Option<Arc<str>>,
    /// The name that the policy gives the tenant.
    pub tenant_name: Option<Arc<str>>,
    /// The allow rule that let the request in.
    pub rule: Option<usize>,
    /// How it ended.
    pub outcome: Outcome,
    granted: Option<Outcome>,
    sent_on: Option<Now>,
    /// What was expected and what came.
    pub note: Option<Note>,
    /// The key parameters that the caller sent in the query.
    pub key_parameters: KeyParameters,
    /// The key headers that the caller sent.
    pub key_headers: KeyHeaders,
    /// The status of the answer.
    pub status: StatusCode,
    /// Bytes of the answer's body that were handed to the connection.
    pub sent: u64,
    /// Whether the answer was sent whole. If not, the caller left or the backend broke off.
    pub complete: bool,
}

impl Record {
    /// Opens the record of a request.
    pub fn open<B>(arrived: Now, client: &SocketAddr, request: &Request<B>) -> Self {
        Self {
            id: RequestId::fresh(),
            arrived,
            duration: Duration::ZERO,
            upstream: None,
            trace: None,
            client: client.ip(),
            method: request.method().clone(),
            version: request.version(),
            path: Box::default(),
            host: Box::default(),
            route: None,
            backend: None,
            principal: None,
            app_name: None,
            tenant_name: None,
            rule: None,
            // Until something else is known: whoever leaves before that was not answered.
            outcome: Outcome::Denied(Reason::CallerLeft),
            granted: None,
            sent_on: None,
            note: None,
            key_parameters: KeyParameters::default(),
            key_headers: KeyHeaders::default(),
            status: StatusCode::REQUEST_TIMEOUT,
            sent: 0,
            complete: false,
        }
    }

    /// Notes a request that has no canonical form: its path as it was sent, for the log alone.
    pub fn refused(&mut self, refused: &Refused) {
        self.path = shortened(refused.raw_path());
    }

    /// Notes the request, once it is in canonical form.
    pub fn request(&mut self, request: &canonical::Request, trace: Trace) {
        self.path = shortened(request.path());
        self.host = shortened(request.host());
        self.key_parameters = request.key_parameters_seen();
        self.key_headers = request.key_headers_seen();
        self.trace = Some(trace);
    }

    /// Notes the route, and who calls, with the names that the policy gives.
    pub fn matched(
        &mut self,
        matched: &Matched<'_>,
        caller: Option<&Arc<Principal>>,
        policy: &Policy,
    ) {
        self.route = Some(Arc::clone(matched.route().name()));
        if let Some(caller) = caller {
            self.app_name = policy.app_name(caller.app()).cloned();
            self.tenant_name = policy.tenant_name(caller.tenant()).cloned();
            self.principal = Some(Arc::clone(caller));
        }
    }

    /// The keys that the caller sent, by name.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.key_parameters.names().chain(self.key_headers.names())
    }

    /// Notes that the request was let in, and that it is sent on now.
    pub fn authorized(&mut self, authorized: &Authorized<'_>, backend: &Arc<str>, now: Now) {
        (self.granted, self.rule) = match authorized.grounds() {
            Grounds::Public => (Some(Outcome::Public), None),
            Grounds::Rule(rule) => (Some(Outcome::Allowed), Some(rule)),
        };
        self.backend = Some(Arc::clone(backend));
        self.sent_on = Some(now);
    }

    /// Notes that the backend's answer began, or that it failed.
    pub fn answered(&mut self, now: Now) {
        let since = self
            .sent_on
            .map(|sent| now.instant.saturating_duration_since(sent.instant));
        self.upstream = since;
        if let Some(granted) = self.granted {
            self.outcome = granted;
        }
    }

    /// Notes a refusal.
    pub fn denied(&mut self, denial: &Denial) {
        self.outcome = Outcome::Denied(denial.reason());
        self.note = denial.note().cloned();
    }
}

/// Text of the caller's, no longer than a line can bear. The path is ASCII, so any place will do.
fn shortened(text: &str) -> Box<str> {
    const LONGEST: usize = 1024;
    text.get(..LONGEST).unwrap_or(text).into()
}
