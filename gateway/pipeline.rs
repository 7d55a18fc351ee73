//! The path of one request, from top to bottom. Nothing else knows the order of the stages, and the
//! types let none be skipped: `canonical::Request` → `Matched` → `Decision` → `Authorized` → `Slot` →
//! `Presented`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use http::header::HeaderName;
use http::{Method, Request, Response};
use hyper::body::Incoming;

use crate::body::{Reply, read_on};
use crate::canonical;
use crate::clock::{Clock, Now};
use crate::denial::{Denial, Reason};
use crate::entra::{Entra, Principal, TokenRules};
use crate::ids::RequestId;
use crate::net::address::Resolver;
use crate::policy::{Circumstances, Decision, Unrouted};
use crate::seal::Signed;
use crate::snapshot::{Candidate, Rules, Snapshot};
use crate::telemetry::{AnswerBody, Record, RecordedBody, Ride, Sink};
use crate::trace::Trace;
use crate::upstream::{self, Caller, Pools, Proofs, Way};

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
    /// Where records go.
    pub sink: Arc<Sink>,
}

/// Where a request came in.
pub struct Arrival<'c> {
    /// The caller's address.
    pub client: SocketAddr,
    /// What the gateway says of it to backends.
    pub caller: &'c Caller,
    /// What was wrong with the message on the wire, if anything was.
    pub framing: Option<Reason>,
}

/// Answers a request; cannot fail.
pub async fn handle(
    worker: &Worker,
    arrival: Arrival<'_>,
    request: Request<Incoming>,
) -> Response<RecordedBody> {
    let now = worker.clock.now();
    let record = Record::open(now, &arrival.client, &request);
    let (id, is_head) = (record.id, record.method == Method::HEAD);
    let mut ride = Ride::new(record, Arc::clone(&worker.sink), Arc::clone(&worker.clock));
    let (parts, body) = request.into_parts();
    let mut body = Some(body);
    let mut response = match forward(worker, &arrival, parts, &mut body, &now, id, &mut ride).await
    {
        Ok(response) => response.map(AnswerBody::Backend),
        Err(denial) => {
            ride.note(|record| record.denied(&denial));
            if let Some(unread) = body {
                read_on(unread);
            }
            let answer = denial.answer(id);
            // RFC 9110 section 9.3.2. hyper sees to it for HTTP/1 alone.
            let answer = answer.map(|body| if is_head { Reply::empty() } else { body });
            answer.map(AnswerBody::Own)
        }
    };
    response.headers_mut().insert(REQUEST_ID, id.header());
    ride.onto(response)
}

async fn forward(
    worker: &Worker,
    arrival: &Arrival<'_>,
    parts: http::request::Parts,
    body: &mut Option<Incoming>,
    now: &Now,
    id: RequestId,
    ride: &mut Ride,
) -> Result<Response<upstream::ResponseBody>, Denial> {
    if let Some(framing) = arrival.framing {
        return Err(framing.into());
    }
    let request = canonical::Request::new(parts, arrival.client);
    let mut request = request.map_err(|refused| {
        ride.note(|record| record.refused(&refused));
        refused.into_denial()
    })?;
    let trace = Trace::take(request.headers_mut());
    ride.note(|record| record.request(&request, trace));

    let snapshot = worker.snapshot.load_full();
    let decision = decide(worker, &snapshot.rules, &request, None, now).await;
    ride.note(|record| record.decided(&decision, &snapshot.rules.policy));
    if let Candidate::Watching {
        rules, same_trust, ..
    } = &snapshot.candidate
    {
        let known = same_trust.then(|| caller(&decision)).flatten();
        // It only watches: what it would have to wait for, it does without.
        let other = decide(worker, rules, &request, known, now).now_or_never();
        ride.note(|record| record.rehearsed(&decision, other.as_ref(), rules.policy.names()));
    }
    if let Some(recorded) = &snapshot.recorded {
        ride.note(|record| record.keep(&request, recorded));
    }
    let decision = decision.map_err(|unrouted| unrouted.denial)?;
    let authorized = decision.enforce(request.key_parameters_seen(), now.unix)?;
    let slot = snapshot.limits.admit(&authorized, arrival.client.ip())?;
    let backend = snapshot.backends.of(&authorized);
    let credential = backend
        .credential()
        .present(now, CREDENTIAL_WAIT, Signed::None)
        .await?;
    ride.note(|record| record.authorized(&authorized, backend.name(), worker.clock.now()));
    let proofs = Proofs {
        authorized: &authorized,
        slot,
        backend,
        credential,
    };
    let way = Way {
        pools: &worker.pools,
        resolver: &worker.resolver,
        now,
    };
    let body = body.take().ok_or(Reason::Internal)?;
    let response = upstream::send(proofs, way, arrival.caller, trace, id, request, body).await;
    ride.note(|record| record.answered(worker.clock.now()));
    response
}

/// Who calls, or why nobody knows.
type Authenticated = Result<Arc<Principal>, Denial>;

/// Stages 3, 5 and 6 by one set of rules: those in force, or a candidate's that only watch. Who calls need
/// not be found out again where it is known.
///
/// # Errors
/// The refusal of a request that no route takes.
async fn decide<'s>(
    worker: &Worker,
    rules: &'s Rules,
    request: &canonical::Request,
    known: Option<Authenticated>,
    now: &Now,
) -> Result<Decision<'s>, Unrouted> {
    let (host, method, path) = (request.host(), request.method(), request.path());
    let matched = rules.policy.find(host, method, path);
    let caller = match (&matched, known) {
        (Ok(matched), _) if matched.is_public() => Err(Reason::TokenMissing.into()),
        (_, Some(known)) => known,
        (_, None) => authenticate(worker, &rules.tokens, request, now).await,
    };
    match matched {
        Ok(matched) => Ok(matched.decide(caller, &Circumstances::of(request, now.unix))),
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

/// The bearer token becomes a principal, or a denial that is an input to the decision.
async fn authenticate(
    worker: &Worker,
    rules: &TokenRules,
    request: &canonical::Request,
    now: &Now,
) -> Authenticated {
    let token = request.bearer()?;
    worker.entra.authenticate(token, rules, now).await
}
