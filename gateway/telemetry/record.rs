//! The record of one request: opened when it arrives, and written when the last byte of the answer is
//! sent or the caller has left. It holds what a decision needs to be understood, and no secret.

use std::borrow::Cow;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, Request, StatusCode, Version};

use super::decision::Recorded;
use crate::canonical::{self, KeyHeaders, KeyParameters, Refused};
use crate::client_certificate::ClientCertificate;
use crate::clock::Now;
use crate::denial::{Denial, Names, Note, Reason};
use crate::entra::{Lookup, Principal};
use crate::fingerprint::Fingerprint;
use crate::ids::{AppId, ObjectId, RequestId};
use crate::policy::{
    Authorized, Circumstances, Decision, Grounds, Known, Named, Policy, Rehearsed, RuleId, Unrouted,
};
use crate::seal::{Caught, Issued, SEALED_PATH};
use crate::trace::Trace;
use crate::upgrade::Protocol;
use crate::upstream::Site;

/// What identifies a caller, as it is told: in the open, or by a hash that only who has the key can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// An address.
    Address(IpAddr),
    /// A user or service principal.
    Object(ObjectId),
    /// Either, hashed. `None` as long as there is no key.
    Hashed(Option<Fingerprint>),
}

impl Told {
    /// Hands the text on.
    pub fn told<T>(self, to: impl FnOnce(&str) -> T) -> T {
        match self {
            Self::Object(object) => {
                let mut digits = [0; uuid::fmt::Hyphenated::LENGTH];
                to(object.uuid().as_hyphenated().encode_lower(&mut digits))
            }
            Self::Address(_) | Self::Hashed(_) => to(&self.to_string()),
        }
    }
}

/// A hash is `h:` and 16 hexadecimal digits; without a key `h:unknown`.
impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Object(object) => write!(f, "{object}"),
            Self::Hashed(Some(hash)) => write!(f, "h:{hash}"),
            Self::Hashed(None) => f.write_str("h:unknown"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hashed {
    client: Option<Fingerprint>,
    object: Option<Fingerprint>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Let in by a rule.
    Allowed,
    /// Let in because the route is public.
    Public,
    /// Let in because the route only reports; its refusal is recorded beside.
    ReportOnly,
    /// Refused, or failed on the way to the backend.
    Denied(Reason),
}

impl Outcome {
    /// `allow` or `deny`, as logs and metrics write it.
    pub const fn decision(self) -> &'static str {
        match self {
            Self::Allowed | Self::Public | Self::ReportOnly => "allow",
            Self::Denied(_) => "deny",
        }
    }

    /// The reason code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Allowed => "rule",
            Self::Public => "public",
            Self::ReportOnly => "report-only",
            Self::Denied(reason) => reason.code(),
        }
    }
}

/// What a candidate policy would have done otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// `None` if it would have let the request in.
    pub denial: Option<Reason>,
    /// The route that the candidate found.
    pub route: Option<Arc<str>>,
    /// The rule of it that let in, kept out or came closest.
    pub rule: Option<RuleId>,
    /// The app, where the candidate looked at the token.
    pub app: Option<AppId>,
    /// The name that the candidate gives it.
    pub app_name: Option<Arc<str>>,
}

impl Disagreement {
    /// `allow` or `deny`.
    pub const fn decision(&self) -> &'static str {
        match self.denial {
            None => "allow",
            Some(_) => "deny",
        }
    }
}

/// What a record says of the path of a sealed URL that was not opened.
pub const UNOPENED: &str = "/.sealed";

/// A signature or key in a caller's URL. Never the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The names of the parameters.
    pub keys: KeyParameters,
    /// Which key it was, to who has the key of fingerprints.
    pub fingerprint: Option<Fingerprint>,
    /// What the caller says that it is.
    pub agent: Option<Box<str>>,
}

/// The request that a sealed URL was given in answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Its method.
    pub method: Method,
    /// Its host.
    pub host: Box<str>,
    /// Its path.
    pub path: Box<str>,
}

/// What is known of one request.
#[derive(Clone, Debug)]
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
    client: IpAddr,
    /// The caller's address and the principal, hashed, where they are to be told so.
    hashed: Option<Hashed>,
    /// The method.
    pub method: Method,
    /// HTTP/1.1 or HTTP/2.
    pub version: Version,
    /// The canonical path, whole, and never the query; empty when there is none to speak of.
    pub path: Box<str>,
    /// The canonical host.
    pub host: Box<str>,
    /// The port that the caller named beside it.
    pub port: Option<u16>,
    /// The route that matched.
    pub route: Option<Arc<str>>,
    /// Its path's pattern.
    pub template: Option<Arc<str>>,
    /// The backend that was called.
    pub backend: Option<Arc<str>>,
    /// Where it is.
    pub site: Option<Arc<Site>>,
    /// How the token was found to be good, if any was.
    pub lookup: Option<Lookup>,
    /// Who calls.
    pub principal: Option<Arc<Principal>>,
    /// The name that the policy gives the app.
    pub app_name: Option<Arc<str>>,
    /// The name that the policy gives the tenant.
    pub tenant_name: Option<Arc<str>>,
    /// The rule that let the request in or kept it out, or that came closest to letting it in.
    pub rule: Option<RuleId>,
    /// What would have been otherwise if everything acted that only reports.
    pub rehearsed: Option<Rehearsed>,
    /// What the candidate would have done, where that is something else.
    pub candidate: Option<Disagreement>,
    /// Whether the candidate could not decide without waiting for keys.
    pub candidate_undecided: bool,
    /// The values of the fields that conditions may read, in the order in which `recorded` names them.
    /// `None` for one that is too long, or no text. Empty unless decisions are recorded.
    pub fields: Vec<Option<Vec<Box<str>>>>,
    /// What else is kept for the decision log; `None` where decisions are not recorded.
    pub recorded: Option<Arc<Recorded>>,
    /// Why the token was refused, if it was.
    pub authentication: Option<Reason>,
    /// What the policy decided, whatever came of the request afterwards.
    pub decided: Outcome,
    /// How it ended.
    pub outcome: Outcome,
    /// The limit that refused the request, or would have, had it acted.
    pub limit: Option<Arc<str>>,
    /// Whether it did.
    pub limited: bool,
    granted: Option<Outcome>,
    sent_on: Option<Instant>,
    refused_on: Option<Instant>,
    note: Option<Note>,
    /// How often it was tried, where its backend may be tried again; otherwise 0.
    pub attempts: u32,
    /// The key parameters that the caller sent in the query.
    pub key_parameters: KeyParameters,
    /// The key headers that the caller sent.
    pub key_headers: KeyHeaders,
    /// The certificate that the caller has proved to hold.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// What the caller wanted to speak on the connection from then on.
    pub upgrade: Option<Protocol>,
    /// The signature or key that the caller brought in the URL.
    pub sighting: Option<Box<Sighting>>,
    /// The request that a sealed URL was given in answer to, where one was followed: what was decided on.
    pub followed: Option<Box<Followed>>,
    /// URLs in the answer that were sealed or withheld.
    pub caught: Caught,
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
            hashed: None,
            method: request.method().clone(),
            version: request.version(),
            path: Box::default(),
            host: Box::default(),
            port: None,
            route: None,
            template: None,
            backend: None,
            site: None,
            lookup: None,
            principal: None,
            app_name: None,
            tenant_name: None,
            rule: None,
            rehearsed: None,
            candidate: None,
            candidate_undecided: false,
            fields: Vec::new(),
            recorded: None,
            authentication: None,
            decided: Outcome::Denied(Reason::CallerLeft),
            // Until something else is known: whoever leaves before that was not answered.
            outcome: Outcome::Denied(Reason::CallerLeft),
            limit: None,
            limited: false,
            granted: None,
            sent_on: None,
            refused_on: None,
            note: None,
            attempts: 0,
            key_parameters: KeyParameters::default(),
            key_headers: KeyHeaders::default(),
            certificate: None,
            upgrade: None,
            sighting: None,
            followed: None,
            caught: Caught::default(),
            status: StatusCode::REQUEST_TIMEOUT,
            sent: 0,
            complete: false,
        }
    }

    /// Notes a request that has no canonical form: its path as it was sent, for the log alone.
    pub fn refused(&mut self, refused: &Refused) {
        self.path = shortened(unsealed(refused.raw_path())).into();
    }

    /// Notes the request, once it is in canonical form.
    pub fn request(&mut self, request: &canonical::Request) {
        self.path = unsealed(request.path()).into();
        self.host = request.host().into();
        self.port = request.port();
        self.certificate = request.certificate().cloned();
        self.upgrade = request.upgrade().map(|asked| asked.protocol().clone());
        self.key_parameters = request.key_parameters_seen();
        self.key_headers = request.key_headers_seen();
    }

    /// The keys that the caller sent, by name.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.key_parameters.names().chain(self.key_headers.names())
    }

    /// Whether the caller sent any.
    pub fn has_keys(&self) -> bool {
        !self.key_parameters.is_empty() || !self.key_headers.is_empty()
    }

    /// The caller's address, as it is to be told.
    pub fn client(&self) -> Told {
        match &self.hashed {
            None => Told::Address(self.client),
            Some(hashed) => Told::Hashed(hashed.client),
        }
    }

    /// The principal's object, as it is to be told, if there is one.
    pub fn object(&self) -> Option<Told> {
        let object = self.principal.as_ref()?.object()?;
        Some(match &self.hashed {
            None => Told::Object(object),
            Some(hashed) => Told::Hashed(hashed.object),
        })
    }

    /// The request that was decided on: itself, or the one that a followed URL was given in answer to.
    pub fn decided_on(&self) -> (&Method, &str, &str) {
        match self.followed.as_deref() {
            Some(first) => (&first.method, &first.host, &first.path),
            None => (&self.method, &self.host, &self.path),
        }
    }

    /// The circumstances that it was decided in, as far as they are `known`.
    pub fn circumstances<'r>(
        &'r self,
        headers: &'r HeaderMap,
        known: &'r Known,
    ) -> Circumstances<'r> {
        let (method, host, path) = self.decided_on();
        Circumstances {
            now: self.arrived.unix,
            client: self.client,
            method,
            host,
            path,
            headers,
            keys: self
                .sighting
                .as_ref()
                .map_or(KeyParameters::default(), |seen| seen.keys),
            certificate: self.certificate.as_deref(),
            upgrade: self.upgrade.as_ref(),
            version: self.version,
            parameters: &[],
            known: Some(known),
        }
    }

    /// What was expected and what came, as it is to be told.
    pub fn note(&self) -> Option<Cow<'_, Note>> {
        let note = self.note.as_ref()?;
        let hash = self.hashed.and_then(|_| match note.names {
            Names::Nobody => None,
            Names::Principal => Some(self.object().unwrap_or(Told::Hashed(None))),
            Names::Address => Some(self.client()),
        });
        Some(match hash {
            None => Cow::Borrowed(note),
            Some(hash) => Cow::Owned(Note {
                got: hash.to_string(),
                ..note.clone()
            }),
        })
    }

    /// Whether the caller is told by hashes alone.
    pub fn is_hashed(&self) -> bool {
        self.hashed.is_some()
    }

    /// Has the caller's address and the principal told by their hashes alone.
    pub fn hash(&mut self, hash: impl Fn(&str) -> Option<Fingerprint>) {
        let object = self
            .principal
            .as_ref()
            .and_then(|principal| principal.object());
        self.hashed = Some(Hashed {
            client: Told::Address(self.client).told(&hash),
            object: object.and_then(|object| Told::Object(object).told(&hash)),
        });
    }

    /// The trace that the request belongs to; of one that could not be read, a trace of its own.
    pub(super) fn trace_or_own(&self) -> Trace {
        self.trace
            .unwrap_or_else(|| Trace::of(self.id.uuid().as_u128()))
    }

    /// Whether those who record traces are told: it is sampled, or was refused.
    pub(super) fn is_told(&self) -> bool {
        matches!(self.outcome, Outcome::Denied(_))
            || self.trace.is_some_and(|trace| trace.is_sampled())
    }

    /// Whether what is told of it is what is told of the other, but for what each request has its own of: the slots of
    /// a stencil.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        // Every field is named, so that one that is added is thought of here.
        let Self {
            id: _,
            arrived: _,
            duration: _,
            sent: _,
            path: _,
            client: _,
            // Counted, and not told.
            lookup: _,
            candidate_undecided: _,
            refused_on: _,
            // What became of it is the outcome.
            granted: _,
            sent_on,
            upstream,
            trace,
            hashed,
            method,
            version,
            host,
            port,
            route,
            template,
            backend,
            site,
            principal,
            app_name,
            tenant_name,
            rule,
            rehearsed,
            candidate,
            fields,
            recorded,
            authentication,
            decided,
            outcome,
            limit,
            limited,
            note,
            attempts,
            key_parameters,
            key_headers,
            certificate,
            upgrade,
            sighting,
            followed,
            caught,
            status,
            complete,
        } = self;
        // The most telling first.
        is_one(principal, &other.principal)
            && is_one(route, &other.route)
            && *status == other.status
            && *outcome == other.outcome
            && is_like_trace(*trace, other.trace)
            && *host == other.host
            && *method == other.method
            && *version == other.version
            && *port == other.port
            && *sighting == other.sighting
            && same(template, &other.template)
            && same(backend, &other.backend)
            && same(site, &other.site)
            && same(app_name, &other.app_name)
            && same(tenant_name, &other.tenant_name)
            && *rule == other.rule
            && *decided == other.decided
            && *authentication == other.authentication
            && is_one(recorded, &other.recorded)
            && sent_on.is_some() == other.sent_on.is_some()
            && upstream.is_some() == other.upstream.is_some()
            && *attempts == other.attempts
            && *key_parameters == other.key_parameters
            && *key_headers == other.key_headers
            && *caught == other.caught
            && *complete == other.complete
            && *limited == other.limited
            && same(limit, &other.limit)
            && is_like_hash(hashed, &other.hashed, note.is_some())
            && *note == other.note
            && *rehearsed == other.rehearsed
            && *candidate == other.candidate
            && *fields == other.fields
            && *certificate == other.certificate
            && *upgrade == other.upgrade
            && *followed == other.followed
    }

    /// What records that are alike have in common. All that callers can choose is in it: of what they could make to
    /// look alike and be none, each would be compared with all others.
    pub(super) fn mark(&self) -> impl Hash {
        let principal = self.principal.as_ref().map(|one| Arc::as_ptr(one).addr());
        let route = self.route.as_ref().map(|one| Arc::as_ptr(one).addr());
        let is_sampled = self.trace.is_some_and(|trace| trace.is_sampled());
        let sighting = self.sighting.as_deref();
        let asked = (&self.method, self.version, &self.host, self.port);
        let brought = (
            self.key_parameters,
            self.key_headers,
            sighting.map(|seen| (seen.keys, seen.fingerprint, &seen.agent)),
            &self.upgrade,
            &self.certificate,
            &self.fields,
        );
        let became = (
            self.status,
            self.outcome,
            self.note.as_ref().map(|note| &note.got),
            self.followed.as_ref().map(|first| &first.path),
            (self.caught.sealed, self.caught.withheld, self.attempts),
        );
        (principal, route, is_sampled, asked, brought, became)
    }

    /// The record as it stands for all like it: without what it alone has.
    pub(super) fn stands_for_all(&self) -> Self {
        Self {
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            path: Box::default(),
            ..self.clone()
        }
    }

    /// About how many bytes of memory it takes, with the principal that it holds on to.
    pub(super) fn size(&self) -> usize {
        /// Of a principal, with the claims of a usual token.
        const PRINCIPAL: usize = 4096;
        let texts = self.fields.iter().flatten().flatten();
        let note = self.note.as_ref();
        let seen = self.sighting.as_ref();
        let first = self.followed.as_ref();
        size_of::<Self>()
            + self.host.len()
            + self.principal.as_ref().map_or(0, |_| PRINCIPAL)
            + note.map_or(0, |note| note.expected.len() + note.got.len())
            + seen.map_or(0, |_| size_of::<Sighting>() + 128)
            + first.map_or(0, |first| size_of::<Followed>() + first.path.len())
            + texts.map(|text| text.len()).sum::<usize>()
    }

    /// When the backend was called, since the Unix epoch, and how long it took until it answered, if it did.
    pub(super) fn called(&self) -> Option<(Duration, Duration)> {
        let sent_on = self.sent_on?;
        let before = sent_on.saturating_duration_since(self.arrived.instant);
        let lasted = self
            .upstream
            .unwrap_or(self.duration.saturating_sub(before));
        Some((self.arrived.unix + before, lasted))
    }

    /// The path, no longer than a line can bear.
    pub(super) fn shown_path(&self) -> &str {
        shortened(&self.path)
    }

    /// From the arrival until it was sent on; of what was not, until its answer was begun.
    pub fn overhead(&self) -> Duration {
        let sent_on = self.sent_on.or(self.refused_on);
        sent_on.map_or(self.duration, |sent_on| {
            sent_on.saturating_duration_since(self.arrived.instant)
        })
    }

    /// Notes the request that the followed URL was given in answer to.
    pub fn follows(&mut self, issued: &Issued) {
        self.followed = Some(Box::new(Followed {
            method: issued.method.clone(),
            host: issued.host.as_str().into(),
            path: issued.path.as_str().into(),
        }));
    }

    /// Notes a signature or key in the URL.
    pub fn saw(
        &mut self,
        keys: KeyParameters,
        fingerprint: Option<Fingerprint>,
        agent: Option<&str>,
    ) {
        /// The longest name of a caller's that is kept, in bytes.
        const LONGEST: usize = 128;
        let agent = agent.map(|agent| agent.get(..agent.floor_char_boundary(LONGEST)));
        self.sighting = Some(Box::new(Sighting {
            keys,
            fingerprint,
            agent: agent.flatten().map(Into::into),
        }));
    }

    /// Whether the request was refused because of the signature or key that it brought.
    pub fn refused_for_key(&self) -> bool {
        self.outcome == Outcome::Denied(Reason::KeyInUrl)
    }

    /// What an answer to this request is sealed for, and the host and port that the caller asked for.
    pub fn issued(&self) -> (Issued, String) {
        let (method, host, path) = match &self.followed {
            Some(first) => (&first.method, &first.host, &first.path),
            None => (&self.method, &self.host, &self.path),
        };
        let asked_for = match self.port {
            None => (*self.host).to_owned(),
            Some(port) => format!("{}:{port}", self.host),
        };
        let issued = Issued {
            route: self.route.as_deref().unwrap_or_default().to_owned(),
            tenant: self.principal.as_ref().map(|principal| principal.tenant()),
            app: self.principal.as_ref().map(|principal| principal.app()),
            method: method.clone(),
            host: (**host).to_owned(),
            path: (**path).to_owned(),
        };
        (issued, asked_for)
    }

    /// Notes what the policy decided, whether that acts or not, and for whom, with the names that the
    /// policy gives.
    pub fn decided(&mut self, decision: &Result<Decision<'_>, Unrouted>, policy: &Policy) {
        let principal = match decision {
            Ok(decision) => decision.principal(),
            Err(unrouted) => unrouted.principal.as_ref(),
        };
        if let Some(caller) = principal {
            self.app_name = policy.names().apps().name(caller.app()).cloned();
            self.tenant_name = policy.names().tenants().name(caller.tenant()).cloned();
            self.principal = Some(Arc::clone(caller));
        }
        let decision = match decision {
            Ok(decision) => decision,
            Err(unrouted) => {
                let reason = unrouted.denial.reason();
                self.decided = Outcome::Denied(reason);
                self.authentication = principal.is_none().then_some(reason);
                return;
            }
        };
        self.route = Some(Arc::clone(decision.route().name()));
        self.template = Some(Arc::clone(&decision.route().taken().path));
        self.rule = decision.rule();
        self.rehearsed = decision.rehearsed();
        self.decided = match decision.verdict() {
            Ok(Grounds::Public) => Outcome::Public,
            Ok(Grounds::Rule(_)) => Outcome::Allowed,
            Ok(Grounds::ReportOnly) => Outcome::ReportOnly,
            Err(refusal) => {
                let denial = refusal.denial();
                self.note = denial.note().cloned();
                if principal.is_none() && !decision.route().is_public() {
                    self.authentication = Some(denial.reason());
                }
                match decision.lets_in() {
                    true => Outcome::ReportOnly,
                    false => Outcome::Denied(denial.reason()),
                }
            }
        };
    }

    /// Notes what the candidate decided, where that is something else. `None` if it could not decide
    /// without waiting. `names` are the candidate's.
    pub fn rehearsed(
        &mut self,
        decision: &Result<Decision<'_>, Unrouted>,
        candidate: Option<&Result<Decision<'_>, Unrouted>>,
        names: &Named,
    ) {
        let lets_in = |decision: &Result<Decision<'_>, Unrouted>| {
            decision.as_ref().is_ok_and(Decision::lets_in)
        };
        let Some(candidate) = candidate else {
            self.candidate_undecided = true;
            return;
        };
        if lets_in(decision) == lets_in(candidate) {
            return;
        }
        let (denial, route, rule, principal) = match candidate {
            Err(unrouted) => (
                Some(unrouted.denial.reason()),
                None,
                None,
                unrouted.principal.as_ref(),
            ),
            Ok(candidate) => (
                match candidate.verdict() {
                    Err(refusal) if !candidate.lets_in() => Some(refusal.denial().reason()),
                    Ok(_) | Err(_) => None,
                },
                Some(Arc::clone(candidate.route().name())),
                candidate.rule(),
                candidate.principal(),
            ),
        };
        let app = principal.map(|principal| principal.app());
        self.candidate = Some(Disagreement {
            denial,
            route,
            rule,
            app,
            app_name: app.and_then(|app| names.apps().name(app).cloned()),
        });
    }

    /// Keeps what conditions may read, so that the decision can be made again.
    pub fn keep(&mut self, request: &canonical::Request, recorded: &Arc<Recorded>) {
        /// The longest value, in bytes.
        const LONGEST: usize = 1024;
        self.recorded = Some(Arc::clone(recorded));
        let values = |name: &str| {
            let values = request.headers().get_all(name).iter();
            let texts = values.map(|value| {
                let text = value.to_str().ok()?;
                (text.len() <= LONGEST).then(|| text.into())
            });
            // Whole or not at all: half a value would be decided on as if it were one.
            texts.collect::<Option<Vec<Box<str>>>>()
        };
        // What else is known of a caller may say who it is.
        if self.hashed.is_none() {
            self.fields = recorded.fields.iter().map(|name| values(name)).collect();
        }
    }

    /// Notes that the request was let in, and that it is sent on now.
    pub fn authorized(
        &mut self,
        authorized: &Authorized<'_>,
        backend: &Arc<str>,
        site: &Arc<Site>,
        now: Option<Instant>,
    ) {
        self.granted = Some(match authorized.grounds() {
            Grounds::Public => Outcome::Public,
            Grounds::Rule(_) => Outcome::Allowed,
            Grounds::ReportOnly => Outcome::ReportOnly,
        });
        self.backend = Some(Arc::clone(backend));
        self.site = Some(Arc::clone(site));
        self.sent_on = now;
    }

    /// Notes that the backend's answer began, or that it failed.
    pub fn answered(&mut self, now: Option<Instant>) {
        let times = self.sent_on.zip(now);
        self.upstream = times.map(|(sent, now)| now.saturating_duration_since(sent));
        if let Some(granted) = self.granted {
            self.outcome = granted;
        }
    }

    /// Notes that a limit would have refused the request, had it acted.
    pub fn would_limit(&mut self, limit: Arc<str>) {
        self.limit = Some(limit);
    }

    /// Notes a refusal.
    pub fn denied(&mut self, denial: &Denial, now: Option<Instant>) {
        self.refused_on = now;
        self.outcome = Outcome::Denied(denial.reason());
        self.note = denial.note().cloned();
        if let Some(limit) = denial.limit() {
            self.limit = Some(Arc::clone(limit));
            self.limited = true;
        }
    }
}

/// Most that is equal is one and the same.
fn same<T: PartialEq + ?Sized>(one: &Option<Arc<T>>, other: &Option<Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        (None, None) => true,
        _ => false,
    }
}

/// After a reload, what is equal is another, and what was told before is made anew.
fn is_one<T: ?Sized>(one: &Option<Arc<T>>, other: &Option<Arc<T>>) -> bool {
    let place = |one: &Option<Arc<T>>| one.as_ref().map(|one| Arc::as_ptr(one).addr());
    place(one) == place(other)
}

fn is_like_trace(one: Option<Trace>, other: Option<Trace>) -> bool {
    let shape = |trace: Option<Trace>| {
        trace.map(|trace| (trace.is_sampled(), trace.parent_span().is_some()))
    };
    shape(one) == shape(other)
}

/// What a note names may be the caller's address, or its hash.
fn is_like_hash(one: &Option<Hashed>, other: &Option<Hashed>, has_note: bool) -> bool {
    match has_note {
        true => one == other,
        false => one.map(|one| one.object) == other.map(|other| other.object),
    }
}

/// A path without what is sealed in it, which is the caller's to hold and not the log's.
fn unsealed(path: &str) -> &str {
    match path.get(..SEALED_PATH.len()) {
        Some(start) if start.eq_ignore_ascii_case(SEALED_PATH) => UNOPENED,
        Some(_) | None => path,
    }
}

/// Text of the caller's, no longer than a line for people can bear, and not cut within a percent escape.
pub(super) fn shortened(text: &str) -> &str {
    const LONGEST: usize = 1024;
    const ESCAPE: usize = "%2F".len();
    if text.len() <= LONGEST {
        return text;
    }
    let cut = text
        .get(..text.floor_char_boundary(LONGEST))
        .unwrap_or_default();
    let escape = cut.rfind('%').filter(|at| at + ESCAPE > cut.len());
    escape.and_then(|at| cut.get(..at)).unwrap_or(cut)
}

#[cfg(test)]
mod tests;
