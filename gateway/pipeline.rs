//! The path of one request, from top to bottom. Nothing else knows the order of the stages, and the
//! types let none be skipped: `canonical::Request` → `Matched` → `Decision` → `Authorized` → `Slot` →
//! `Presented`.

mod upgraded;

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, header};

use self::upgraded::Upgraded;
use crate::body::{CallerBody, Reply};
use crate::canonical::{self, KeptParameters};
use crate::client_certificate::ClientCertificate;
use crate::clock::{Clock, Now};
use crate::denial::{Denial, Reason};
use crate::drain::Drain;
use crate::entra::{Entra, LastToken, Lookup, Principal, TokenRules};
use crate::limits::{self, Admitted, Asker, Entry};
use crate::net::address::Resolver;
use crate::policy::{Authorized, Circumstances, Decision, Matched, Policy, Unmatched, Unrouted};
use crate::seal::{Issued, Signed};
use crate::secret::Secret;
use crate::snapshot::{Candidate, Rules, Snapshot};
use crate::telemetry::{AnswerBody, Record, RecordedBody, Ride, Sink};
use crate::trace::{Sampling, Trace};
use crate::upstream::{self, Caller, Opened, Pools, Proofs, Way};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest that a request waits for a credential's very first token.
const CREDENTIAL_WAIT: Duration = Duration::from_secs(5);

/// What a worker's requests share.
pub struct Worker {
    /// What is in force.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Keys and verified tokens.
    pub entra: Arc<Entra>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Finds backends' addresses.
    pub resolver: Arc<dyn Resolver>,
    /// The worker's connections to backends.
    pub pools: Pools,
    /// How far the end of the gateway has come.
    pub drain: Drain,
    /// Where records go.
    pub sink: Arc<Sink>,
}

/// Where a request came in.
pub struct Arrival<'c> {
    /// The caller's address.
    pub client: SocketAddr,
    /// What the gateway says of it to backends.
    pub caller: Rc<Caller>,
    /// The certificate that the caller has proved to hold.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The token that came on the connection before.
    pub last_token: &'c LastToken,
    /// What was wrong with the message on the wire or with how it came, if anything was.
    pub fault: Option<Reason>,
    /// How its token came.
    pub brought: Brought,
}

/// How the token of a request came.
pub struct Brought {
    /// The only `Authorization`, where it was taken out of the fields as they were read.
    pub authorization: Option<Secret<Bytes>>,
    /// Whether the connection may hold on to it.
    pub lasts: bool,
}

impl Brought {
    /// It stands among the other fields, if there is one.
    pub fn among_fields() -> Self {
        Self {
            authorization: None,
            lasts: true,
        }
    }
}

/// Answers a request; cannot fail.
///
/// What need not wait is done at once: a future keeps room for what it is made from besides what it works with.
pub fn handle<'w>(
    worker: &'w Worker,
    mut arrival: Arrival<'w>,
    request: Request<CallerBody>,
) -> impl Future<Output = Response<RecordedBody>> + use<'w> {
    let now = worker.clock.now();
    let record = Box::new(Record::open(now, &arrival.client, &request));
    let (id, is_head) = (record.id, record.method == Method::HEAD);
    let id_field = id.header();
    let mut ride = Ride::new(record, Arc::clone(&worker.sink), Arc::clone(&worker.clock));
    if worker.sink.hashes_callers() {
        hash_caller(&worker.snapshot.load(), &now, &mut ride);
    }
    let (parts, body) = request.into_parts();
    let mut body = Some(body);
    let sampling = worker.sink.sampling();
    let mut read = read(&mut arrival, parts, sampling, &mut ride).map(Some);
    async move {
        let forwarded = match &mut read {
            Ok(read) => {
                forward(
                    worker, &arrival, read, &mut body, &now, &id_field, &mut ride,
                )
                .await
            }
            Err(denial) => Err(unreadable(worker, &arrival, denial, &now)),
        };
        let mut response = match forwarded {
            Ok(response) => response.map(AnswerBody::Backend),
            Err(denial) => {
                let now = ride.instant();
                ride.note(|record| record.denied(&denial, now));
                if let Some(unread) = body {
                    unread.read_on();
                }
                let answer = denial.answer(id);
                // RFC 9110 section 9.3.2.
                let answer = answer.map(|body| if is_head { Reply::empty() } else { body });
                answer.map(AnswerBody::Own)
            }
        };
        response.headers_mut().insert(REQUEST_ID, id_field);
        ride.onto(response)
    }
}

/// A request that can be read in one way alone.
struct Read {
    request: canonical::Request,
    trace: Trace,
}

fn read(
    arrival: &mut Arrival<'_>,
    mut parts: http::request::Parts,
    sampling: Sampling,
    ride: &mut Ride,
) -> Result<Box<Read>, Denial> {
    if let Some(fault) = arrival.fault {
        return Err(fault.into());
    }
    let authorization = arrival.brought.authorization.take();
    // Whoever is refused from here on is told of in the trace that they brought.
    let trace = Trace::take(&mut parts.headers, sampling);
    ride.note(|record| record.trace = Some(trace));
    let request = canonical::Request::of(parts, authorization, arrival.client);
    let request = request.map_err(|refused| {
        ride.note(|record| record.refused(&refused));
        refused.into_denial()
    })?;
    let request = request.certified(arrival.certificate.take());
    ride.note(|record| record.request(&request));
    Ok(Box::new(Read { request, trace }))
}

/// What a request that cannot be read is answered. It counts for its address as one without a good token does, or it
/// would be the only one that may come as often as it likes.
fn unreadable(worker: &Worker, arrival: &Arrival<'_>, denial: &Denial, now: &Now) -> Denial {
    let snapshot = worker.snapshot.load();
    match snapshot.limits.enter(arrival.client.ip(), now) {
        Err(limited) => limited,
        Ok(entry) => {
            if entry.counts_failures() {
                snapshot.limits.failed(&entry, now);
            }
            denial.clone()
        }
    }
}

async fn forward(
    worker: &Worker,
    arrival: &Arrival<'_>,
    read: &mut Option<Box<Read>>,
    body: &mut Option<CallerBody>,
    now: &Now,
    id: &HeaderValue,
    ride: &mut Ride,
) -> Result<Response<upstream::ResponseBody>, Denial> {
    let Read { request, trace } = read.as_deref_mut().ok_or(Reason::Internal)?;
    let snapshot = worker.snapshot.load_full();
    let client = arrival.client.ip();
    let entry = snapshot.limits.enter(client, now)?;
    ride.hold(worker.sink.place().await?);
    let opened = snapshot.sealing.open(request, now);
    let lookup = Cell::new(None);
    let asked = Asked {
        request,
        last: arrival.last_token,
        lasts: arrival.brought.lasts,
        lookup: &lookup,
        opened: opened.as_ref(),
        entry: Some(&entry),
    };
    if let Some(issued) = asked.issued() {
        ride.note(|record| record.follows(issued));
    }
    let decision = decide(&worker.entra, &snapshot.rules, &asked, None, now).await;
    ride.note(|record| {
        record.lookup = lookup.get();
        record.decided(&decision, &snapshot.rules.policy);
    });
    if worker.sink.hashes_callers() {
        hash_caller(&snapshot, now, ride);
    }
    if let Candidate::Watching {
        rules, same_trust, ..
    } = &snapshot.candidate
    {
        let known = same_trust.then(|| caller(&decision)).flatten();
        // It only watches: what it would have to wait for, it does without.
        let other = decide(&worker.entra, rules, &asked, known, now).now_or_never();
        ride.note(|record| record.rehearsed(&decision, other.as_ref(), rules.policy.names()));
    }
    if let Some(recorded) = &snapshot.recorded {
        ride.note(|record| record.keep(request, recorded));
    }
    see_keys(request, &decision, &snapshot, now, ride);
    if entry.counts_failures() && has_failed(&decision) {
        snapshot.limits.failed(&entry, now);
    }
    let decision = decision.map_err(|unrouted| unrouted.denial)?;
    let opened = opened.transpose()?;
    let authorized = decision.enforce()?;
    let upgrade = request.upgrade();
    let upgrade = upgrade.map(|asked| authorized.upgrade(asked)).transpose()?;
    bound(body, &authorized)?;
    let asker = Asker {
        authorized: &authorized,
        client,
        method: request.method(),
        headers: request.headers(),
    };
    let admitted = snapshot.limits.admit(entry, &asker, now).await?;
    let Admitted {
        slot,
        standing,
        rehearsed,
    } = admitted;
    if let Some(limit) = rehearsed {
        ride.note(|record| record.would_limit(limit));
    }
    let backend = snapshot.backends.of(&authorized);
    let signed = opened
        .as_ref()
        .map_or(Signed::None, |opened| opened.link.signed);
    let credential = backend.credential();
    let credential = credential.present(now, CREDENTIAL_WAIT, signed).await?;
    let sent_on = ride.instant();
    ride.note(|record| record.authorized(&authorized, backend.name(), backend.site(), sent_on));
    let proofs = Proofs {
        authorized: &authorized,
        slot,
        backend,
        credential,
        followed: opened.as_ref().map(|opened| opened.target.as_str()),
        upgrade,
    };
    let attempts = Cell::new(0);
    let way = Way {
        pools: &worker.pools,
        resolver: &worker.resolver,
        now,
        attempts: &attempts,
    };
    let body = body.take().ok_or(Reason::Internal)?;
    let method = request.method().clone();
    // Sending moves them out.
    let fields = (proofs.upgrade.as_ref()).map(|_| request.headers().clone());
    let caller = &arrival.caller;
    let mut sending = pin!(upstream::send(
        proofs, way, caller, *trace, id, request, body
    ));
    // It takes no room while the answer is waited for.
    let read = read.take();
    let upgraded = fields
        .zip(read)
        .map(|(fields, read)| Box::new(Upgraded::new(worker, read, fields, &authorized, backend)));
    let answer = sending.as_mut().await;
    let answered_on = ride.instant();
    ride.note(|record| {
        record.attempts = attempts.get();
        record.answered(answered_on);
    });
    let matched = authorized.matched();
    let policy = &snapshot.rules.policy;
    let published = |host: &str, method: &Method, path: &str| {
        policy.published(matched.route(), host, method, path)
    };
    let sealer = || {
        let (issued, asked_for) = ride.issued();
        let sealing = &snapshot.sealing;
        sealing.sealer(backend, matched, &asked_for, issued, &worker.clock.now())
    };
    let (mut response, caught) = answer?.seal(&method, sealer, &published)?;
    ride.note(|record| record.caught = caught);
    standing.tell(response.headers_mut());
    if let (Some(upgraded), Some(endpoint)) = (upgraded, response.body().endpoint()) {
        response.body_mut().end_when(upgraded.ends(endpoint));
    }
    Ok(response)
}

/// Has the caller told by hashes alone, from the first on, for a caller who leaves is told of too.
fn hash_caller(snapshot: &Snapshot, now: &Now, ride: &mut Ride) {
    ride.note(|record| record.hash(|text| snapshot.fingerprints.of_caller(text, now)));
}

/// Holds a request's body to the longest that its route takes.
fn bound(body: &mut Option<CallerBody>, authorized: &Authorized<'_>) -> Result<(), Denial> {
    let body = body.as_mut().ok_or(Reason::Internal)?;
    let most = authorized.matched().route().max_body();
    body.limit(most)
        .map_err(|_| Denial::from(Reason::BodyTooLarge))
}

/// The request as it is decided on: itself, or the one that the sealed URL which it follows was given in
/// answer to.
#[derive(Clone, Copy)]
struct Asked<'r> {
    request: &'r canonical::Request,
    last: &'r LastToken,
    /// Whether the connection may hold on to the token.
    lasts: bool,
    /// How the token was found to be good.
    lookup: &'r Cell<Option<Lookup>>,
    opened: Option<&'r Result<Opened, Denial>>,
    /// It may be looked at; whoever has been let in has none.
    entry: Option<&'r Entry>,
}

impl<'r> Asked<'r> {
    /// The request that a sealed URL was given in answer to, if one is followed.
    fn issued(&self) -> Option<&'r Issued> {
        Some(&self.opened?.as_ref().ok()?.link.issued)
    }

    fn find<'p>(&self, policy: &'p Policy, now: Duration) -> Result<Matched<'p>, Unmatched> {
        let request = self.request;
        match self.opened {
            None => policy.find(request.host(), request.method(), request.path()),
            Some(Ok(opened)) => policy.follow(&opened.link, &opened.target, request.method(), now),
            Some(Err(denial)) => Err(Unmatched::by(denial.clone())),
        }
    }

    fn circumstances(&self, now: Duration) -> Circumstances<'r> {
        let of_request = Circumstances::of(self.request, now);
        match self.issued() {
            None => of_request,
            Some(issued) => Circumstances {
                method: &issued.method,
                host: &issued.host,
                path: &issued.path,
                ..of_request
            },
        }
    }
}

/// Notes a signature or key in the caller's URL, unless the route means something else by it.
fn see_keys(
    request: &canonical::Request,
    decision: &Result<Decision<'_>, Unrouted>,
    snapshot: &Snapshot,
    now: &Now,
    ride: &mut Ride,
) {
    let seen = request.key_parameters_seen().keys();
    if seen.is_empty() {
        return;
    }
    let kept = decision.as_ref().map_or(KeptParameters::NONE, |decision| {
        decision.route().kept_parameters()
    });
    let keys = seen.without(kept);
    if keys.is_empty() {
        return;
    }
    // A fingerprint that nobody will read is not made.
    let value = ride.is_read().then(|| request.key_in_url(kept));
    let fingerprint = value.flatten().and_then(|value| {
        let key = snapshot.fingerprints.key(now)?;
        Some(ride.fingerprint(&key, value))
    });
    let agent = request.headers().get(header::USER_AGENT);
    let agent = agent.and_then(|agent| agent.to_str().ok());
    ride.note(|record| record.saw(keys, fingerprint, agent));
}

/// Who calls, or why nobody knows.
type Authenticated = Result<Arc<Principal>, Denial>;

/// Stages 3, 5 and 6 by one set of rules: those in force, or a candidate's that only watch. Who calls need
/// not be found out again where it is known.
///
/// # Errors
/// The refusal of a request that no route takes.
async fn decide<'s>(
    entra: &Arc<Entra>,
    rules: &'s Rules,
    asked: &Asked<'_>,
    known: Option<Authenticated>,
    now: &Now,
) -> Result<Decision<'s>, Unrouted> {
    let matched = asked.find(&rules.policy, now.unix);
    let caller = match (&matched, known) {
        (Ok(matched), _) if matched.is_public() => Err(Reason::TokenMissing.into()),
        (_, Some(known)) => known,
        (_, None) => authenticate(entra, &rules.tokens, asked, now).await,
    };
    match matched {
        Ok(matched) => Ok(matched.decide(caller, &asked.circumstances(now.unix))),
        Err(unmatched) => Err(unmatched.unrouted(caller)),
    }
}

/// What authentication came to, if a decision asked for it.
fn caller(decision: &Result<Decision<'_>, Unrouted>) -> Option<Authenticated> {
    let caller = match decision {
        Ok(decision) => decision.caller()?,
        Err(unrouted) => unrouted.principal.as_ref().ok_or(&unrouted.denial),
    };
    Some(caller.map(Arc::clone).map_err(Denial::clone))
}

/// Whether the caller has not proved who they are.
fn has_failed(decision: &Result<Decision<'_>, Unrouted>) -> bool {
    let denial = match decision {
        Ok(decision) => decision.caller().and_then(Result::err),
        Err(unrouted) => unrouted.principal.is_none().then_some(&unrouted.denial),
    };
    denial.is_some_and(|denial| denial.reason().status() == StatusCode::UNAUTHORIZED)
}

/// The bearer token becomes a principal, or a denial that is an input to the decision.
async fn authenticate(
    entra: &Arc<Entra>,
    rules: &TokenRules,
    asked: &Asked<'_>,
    now: &Now,
) -> Authenticated {
    let (request, last) = (asked.request, asked.last);
    let authorization = request.authorization();
    let known = authorization.and_then(|authorization| last.known(authorization));
    if let Some(outcome) = known.and_then(|known| known.admit(rules, now)) {
        asked.lookup.set(Some(Lookup::Connection));
        return outcome;
    }
    let token = request.bearer()?;
    asked.lookup.set(Some(Lookup::Refused));
    if asked.entry.is_some_and(Entry::is_pressed) && !entra.knows(token) {
        return Err(limits::overloaded());
    }
    let (principal, known) = entra.authenticate(token, rules, now).await?;
    asked.lookup.set(Some(known.lookup()));
    if let Some(authorization) = authorization.filter(|_| asked.lasts) {
        last.keep(authorization, known);
    }
    Ok(principal)
}
