//! How many instructions each stage of a request's path takes, in the order of the path:
//! `benches/counts` compares them with benches/counts.txt.
//!
//! Every count is a process of its own under Callgrind. It does the stage once before it is counted, so
//! that the count is that of one request among many and not of the first, and then a hundred times, so that
//! what comes with one in many, as when the allocator has to look for room, is spread over all of them.
#![allow(clippy::expect_used, reason = "a benchmark that fails says where")]
#![allow(missing_docs, reason = "a benchmark has no outside")]

mod stages;

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use gungraun::Callgrind;
use gungraun::prelude::*;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use mimalloc::MiMalloc;
use portcullis::body::Reply;
use portcullis::canonical::{self, Refused};
use portcullis::clock::{Clock, Now, SystemClock};
use portcullis::credentials::source::Needed;
use portcullis::credentials::{
    Credential, Credentials, FetchFailure, Fetched, Identity, Presented, Source, Wanted,
    WantedToken,
};
use portcullis::demo::mint::damaged;
use portcullis::denial::{Denial, Reason};
use portcullis::entra::Principal;
use portcullis::files::{self, GatewayLimits, PolicyDocument};
use portcullis::http1::write_field;
use portcullis::ids::RequestId;
use portcullis::limits::{Admitted, Asker, LimitStore, Limits};
use portcullis::policy::{Authorized, Circumstances, Decision, Matched, Policy, Unrouted};
use portcullis::seal::{Signed, may_hold_urls};
use portcullis::secret::Secret;
use portcullis::server::http1::{Authorizations, Head, Heads};
use portcullis::telemetry::{
    Agents, LogLevel, Record, Recorded, RequestLog, Requests, Ride, Sink, Telling,
};
use portcullis::trace::{Parent, Sampling, Trace};
use portcullis::upstream;
use portcullis::upstream::Site;
use tokio::runtime::Runtime;

use stages::{
    Authority, CLIENT, HOST, PLAIN, SIGNED, USUAL, canonical, circumstances, compiled, document,
    fields, parts, path,
};

/// The gateway's own allocator, in the way in which it has it: allocating is part of what is counted.
#[used]
static MALLOC: unsafe fn(&MiMalloc, Layout) -> *mut u8 = <MiMalloc as GlobalAlloc>::alloc;

/// A process counts once and ends: what a stage borrows needs no owner.
fn leaked<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// How often a stage is counted: `benches/counts` divides by it.
const TIMES: usize = 100;

/// What a stage uses up, for each time.
fn each<T>(input: impl FnMut() -> T) -> Vec<T> {
    std::iter::repeat_with(input).take(TIMES).collect()
}

/// Does a stage to each of its inputs. What comes out is dropped later, and not counted.
fn all<I, O>(inputs: Vec<I>, mut stage: impl FnMut(I) -> O) -> Vec<O> {
    let mut out = Vec::with_capacity(TIMES);
    for input in inputs {
        out.push(stage(black_box(input)));
    }
    out
}

/// Does a stage that uses nothing up.
fn again<O>(mut stage: impl FnMut() -> O) -> Vec<O> {
    let mut out = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        out.push(black_box(stage()));
    }
    out
}

// Stage 2: the head on the wire.

/// A connection that has brought a request already, and brings the same again and again.
fn connection() -> (Heads, Vec<BytesMut>) {
    let Parts {
        method,
        uri,
        headers,
        ..
    } = parts(PLAIN);
    let mut sent = format!("{method} {uri} HTTP/1.1\r\n").into_bytes();
    for (name, value) in &headers {
        write_field(name, value, &mut sent);
    }
    sent.extend_from_slice(b"\r\n");
    let mut heads = Heads::new(64 * 1024, Authorizations::default());
    let came = || BytesMut::from(sent.as_slice());
    heads.take(&mut came()).expect("a head").expect("whole");
    (heads, each(came))
}

#[library_benchmark]
#[bench::head(setup = connection)]
fn wire((mut heads, came): (Heads, Vec<BytesMut>)) -> (Vec<Head>, Heads) {
    let take = |mut input| heads.take(&mut input).expect("a head").expect("whole");
    (all(came, take), heads)
}

// Stage 3: the canonical form.

/// Two readers could read this one in two ways.
const AMBIGUOUS: &str = "/invitations/42%2Fadmin?top=10&skip=20";

fn arrived(target: &str) -> Vec<Parts> {
    drop(canonical(parts(target)));
    each(|| parts(target))
}

#[library_benchmark]
#[bench::plain(args = (PLAIN), setup = arrived)]
#[bench::signed(args = (SIGNED), setup = arrived)]
#[bench::refused(args = (AMBIGUOUS), setup = arrived)]
fn canonical_form(arrived: Vec<Parts>) -> Vec<Result<(canonical::Request, usize), Refused>> {
    all(arrived, canonical)
}

// Stage 4: the route.

fn published(routes: usize) -> (&'static Policy, String) {
    let policy: &Policy = leaked(compiled(&document(routes)));
    let path = path(routes);
    policy.find(HOST, &Method::POST, &path).expect("a route");
    (policy, path)
}

#[library_benchmark]
#[bench::of_10(args = (10), setup = published)]
#[bench::of_10_000(args = (10_000), setup = published)]
fn find((policy, path): (&'static Policy, String)) -> (Vec<Matched<'static>>, String) {
    let find = || policy.find(HOST, &Method::POST, black_box(&path));
    (again(|| find().expect("a route")), path)
}

// Stage 5: the token.

fn known() -> (Authority, String) {
    let authority = Authority::new(10_000);
    let token = authority.token(0);
    authority.authenticate(&token);
    // The cache's own housekeeping comes with one look-up of many.
    authority.recognise(&token);
    authority.recognise(&token);
    (authority, token)
}

#[library_benchmark]
#[bench::verified_before(setup = known)]
fn token((authority, token): (Authority, String)) -> (Vec<Arc<Principal>>, Authority, String) {
    let principals = again(|| authority.recognise(black_box(&token)));
    (principals, authority, token)
}

type Strangers = (Authority, Vec<String>);

/// Tokens that were never seen.
fn strangers() -> Strangers {
    let authority = Authority::new(10_000);
    authority.authenticate(&authority.token(TIMES));
    let tokens = (0..TIMES).map(|number| authority.token(number)).collect();
    (authority, tokens)
}

/// The same with other signatures.
fn forgeries() -> Strangers {
    let (authority, tokens) = strangers();
    let forged = tokens.iter().map(|token| damaged(token)).collect();
    (authority, forged)
}

#[library_benchmark]
#[bench::good(setup = strangers)]
#[bench::forged(setup = forgeries)]
fn new_token((authority, tokens): Strangers) -> (Vec<Result<Arc<Principal>, Denial>>, Strangers) {
    let mut came = Vec::with_capacity(TIMES);
    for token in &tokens {
        came.push(authority.judge(black_box(token)));
    }
    (came, (authority, tokens))
}

// Stages 6 and 7: the decision and the limit.

/// What a request meets behind its token.
struct Met {
    document: &'static PolicyDocument,
    policy: &'static Policy,
    principal: Arc<Principal>,
    circumstances: &'static Circumstances<'static>,
}

impl Met {
    fn new() -> Self {
        let authority = Authority::new(10);
        let document: &PolicyDocument = leaked(document(10));
        Self {
            document,
            policy: leaked(compiled(document)),
            principal: authority.authenticate(&authority.token(0)),
            circumstances: leaked(circumstances(leaked(HeaderMap::new()))),
        }
    }

    fn matched(&self) -> Matched<'static> {
        let matched = self.policy.find(HOST, &Method::POST, &path(10));
        matched.expect("a route")
    }

    fn authorized(&self) -> Authorized<'static> {
        let principal = Arc::clone(&self.principal);
        let decision = self.matched().decide(Ok(principal), self.circumstances);
        decision.enforce().expect("allowed")
    }
}

struct Deciding {
    matched: Matched<'static>,
    principal: Arc<Principal>,
    circumstances: &'static Circumstances<'static>,
}

fn deciding() -> Vec<Deciding> {
    let met = Met::new();
    met.authorized();
    each(|| Deciding {
        matched: met.matched(),
        principal: Arc::clone(&met.principal),
        circumstances: met.circumstances,
    })
}

impl Deciding {
    fn decide(self) -> Authorized<'static> {
        let Self {
            matched,
            principal,
            circumstances,
        } = self;
        let decision = matched.decide(Ok(principal), circumstances);
        decision.enforce().expect("allowed")
    }
}

#[library_benchmark]
#[bench::allowed(setup = deciding)]
fn decide(deciding: Vec<Deciding>) -> Vec<Authorized<'static>> {
    all(deciding, Deciding::decide)
}

/// The same for a caller whose role is not the one that the rule asks for.
fn deciding_against() -> Vec<Deciding> {
    let authority = Authority::new(10);
    let principal = authority.authenticate(&authority.token_of("Guests.Watch", 0));
    let mut deciding = deciding();
    for one in &mut deciding {
        one.principal = Arc::clone(&principal);
    }
    deciding
}

fn refuse(deciding: Deciding) -> Denial {
    let Deciding {
        matched,
        principal,
        circumstances,
    } = deciding;
    let decision = matched.decide(Ok(principal), circumstances);
    decision.enforce().expect_err("refused")
}

#[library_benchmark]
#[bench::for_a_role(setup = deciding_against)]
fn decide_against(deciding: Vec<Deciding>) -> Vec<Denial> {
    all(deciding, refuse)
}

type Limited = (Limits, Authorized<'static>, HeaderMap, Now);

fn admit(
    limits: &Limits,
    authorized: &Authorized<'static>,
    headers: &HeaderMap,
    now: &Now,
) -> Admitted {
    let entry = limits.enter(CLIENT.ip(), now).expect("no limit");
    let asker = Asker {
        authorized,
        client: CLIENT.ip(),
        method: &Method::POST,
        headers,
    };
    let admitted = limits.admit(entry, &asker, now).now_or_never();
    admitted.expect("at once").expect("within the limit")
}

fn limited() -> Limited {
    let met = Met::new();
    let limits = LimitStore::new(Arc::new(SystemClock), None);
    let limits = limits.compile(met.document, &GatewayLimits::default());
    let authorized = met.authorized();
    let now = SystemClock.now();
    admit(&limits, &authorized, &HeaderMap::new(), &now);
    (limits, authorized, HeaderMap::new(), now)
}

#[library_benchmark]
#[bench::admitted(setup = limited)]
fn limit(limited: Limited) -> (Vec<Admitted>, Limited) {
    let (limits, authorized, headers, now) = &limited;
    let admit = || admit(limits, black_box(authorized), headers, now);
    (again(admit), limited)
}

// Stage 8: the credential.

struct Identities;

impl Source for Identities {
    fn fetch<'a>(
        &'a self,
        _: &'a Wanted,
        _: Needed,
    ) -> BoxFuture<'a, Result<Fetched, FetchFailure>> {
        let fetched = Fetched {
            secret: Secret::new("x".repeat(1500)),
            expires: Some(SystemClock.now().unix + Duration::from_secs(24 * 3600)),
            refresh_in: None,
        };
        Box::pin(async { Ok(fetched) })
    }
}

struct Presenting {
    credential: Credential,
    now: Now,
    _control: Runtime,
}

impl Presenting {
    fn present(&self) -> Presented {
        let wait = Duration::from_secs(5);
        let presented = self.credential.present(&self.now, wait, Signed::None);
        let presented = presented.now_or_never().expect("ready in memory");
        presented.expect("a credential")
    }
}

fn presenting() -> Presenting {
    let control = Runtime::new().expect("a runtime");
    let handle = control.handle().clone();
    let credentials = Credentials::new(Arc::new(SystemClock), Arc::new(Identities), handle);
    let slot = credentials.slot(Wanted::Token(WantedToken {
        resource: "api://contoso".to_owned(),
        identity: Identity::System,
    }));
    control.block_on(slot.first_fetch(Duration::from_secs(60)));
    let presenting = Presenting {
        credential: Credential::Token(slot),
        now: SystemClock.now(),
        _control: control,
    };
    drop(presenting.present());
    presenting
}

#[library_benchmark]
#[bench::present(setup = presenting)]
fn credential(presenting: Presenting) -> (Vec<Presented>, Presenting) {
    (again(|| presenting.present()), presenting)
}

// Stage 9: the outgoing head, by the code that makes it and a placeholder for the credential. Reading where
// the backend is and writing the caller's address, which a connection does once, are counted with it.

struct Outgoing {
    backend: &'static files::Backend,
    authorized: Authorized<'static>,
    request: canonical::Request,
}

impl Outgoing {
    fn head(self) -> Request<()> {
        let Self {
            backend,
            authorized,
            request,
        } = self;
        let head = upstream::preview(backend, &authorized, request);
        head.expect("a head")
    }
}

fn outgoing() -> Vec<Outgoing> {
    let met = Met::new();
    let backend = &met.document.backends.first().expect("a backend").value;
    let outgoing = || Outgoing {
        backend,
        authorized: met.authorized(),
        request: canonical::Request::new(parts(PLAIN), CLIENT).expect("canonical"),
    };
    drop(outgoing().head());
    each(outgoing)
}

#[library_benchmark]
#[bench::head(setup = outgoing)]
fn send(outgoing: Vec<Outgoing>) -> Vec<Request<()>> {
    all(outgoing, Outgoing::head)
}

// Stage 10: the answer's fields.

fn answered() -> HeaderMap {
    let answered = fields(&USUAL);
    may_hold_urls(&answered);
    answered
}

#[library_benchmark]
#[bench::no_link(setup = answered)]
fn seal(fields: HeaderMap) -> (Vec<bool>, HeaderMap) {
    (again(|| may_hold_urls(black_box(&fields))), fields)
}

// Stage 11: the record on the worker's thread, and its lines on the log's.

struct Recording {
    met: Met,
    arrived: Request<()>,
    request: canonical::Request,
    recorded: Arc<Recorded>,
    backend: Arc<str>,
    site: Arc<Site>,
    now: Now,
}

impl Recording {
    fn new() -> Self {
        Self {
            met: Met::new(),
            arrived: Request::from_parts(parts(PLAIN), ()),
            request: canonical::Request::new(parts(PLAIN), CLIENT).expect("canonical"),
            recorded: Arc::new(Recorded {
                fields: Vec::new(),
                claims: Vec::new(),
                policy: "d".repeat(64),
                trust: "d".repeat(64),
            }),
            backend: "b".into(),
            site: Arc::new(Site {
                host: "backend.example".into(),
                port: 443,
                secure: true,
            }),
            now: SystemClock.now(),
        }
    }

    fn decided(&self) -> Decided {
        let principal = Arc::clone(&self.met.principal);
        let matched = self.met.matched();
        Decided {
            decision: Ok(matched.decide(Ok(principal), self.met.circumstances)),
            authorized: self.met.authorized(),
            trace: Trace::begin(),
        }
    }

    fn record(&self, decided: &Decided) -> Record {
        let mut record = Record::open(self.now, &CLIENT, &self.arrived);
        record.trace = Some(decided.trace);
        record.request(&self.request);
        record.decided(&decided.decision, self.met.policy);
        record.keep(&self.request, &self.recorded);
        let now = Some(self.now.instant);
        record.authorized(&decided.authorized, &self.backend, &self.site, now);
        record.answered(Some(self.now.instant));
        record
    }
}

struct Decided {
    decision: Result<Decision<'static>, Unrouted>,
    authorized: Authorized<'static>,
    trace: Trace,
}

fn recording() -> (Recording, Decided) {
    let recording = Recording::new();
    let decided = recording.decided();
    drop(recording.record(&decided));
    (recording, decided)
}

#[library_benchmark]
#[bench::kept(setup = recording)]
fn record((recording, decided): (Recording, Decided)) -> (Vec<Record>, Recording, Decided) {
    let records = again(|| recording.record(&decided));
    (records, recording, decided)
}

/// Nothing is told of a request; it is only counted.
const NOTHING: Telling = Telling::NOTHING;

const REQUEST_LOG: Telling = Telling {
    request_log: RequestLog::Json,
    ..NOTHING
};

const BOTH_LOGS: Telling = Telling {
    decision_log: true,
    ..REQUEST_LOG
};

/// Both logs, both spans, the record of the decision, durations, and what the admin address shows.
const EVERYTHING: Telling = Telling {
    spans: true,
    logs: Requests::All,
    recent: true,
    durations: true,
    sampling: Sampling {
        parent: Parent::Follow,
        ratio: 1.0,
    },
    ..BOTH_LOGS
};

/// As many records as a worker waits for, and a part of those that are counted.
const TOGETHER: usize = 25;

/// Requests that are over but for what is told of them, which are like one before.
fn rides(telling: Telling) -> Vec<Ride> {
    rides_of(telling, |_, _| ())
}

/// The same of requests that are like none before.
fn rides_of_strangers(telling: Telling) -> Vec<Ride> {
    rides_of(telling, |record, at| {
        record.host = format!("host-{at}.example").into();
    })
}

fn rides_of(telling: Telling, change: fn(&mut Record, usize)) -> Vec<Ride> {
    let (recording, decided) = recording();
    let mut record = recording.record(&decided);
    record.trace = Some(Trace::take(&mut HeaderMap::new(), telling.sampling));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let level = Arc::new(LogLevel::new(telling.request_log));
    let sink = Arc::new(Sink::new(Arc::new(telling), Agents::default(), level));
    let mut count = 0;
    let mut ride = || {
        let mut record = Box::new(record.clone());
        change(&mut record, count);
        count += 1;
        Ride::new(record, Arc::clone(&sink), Arc::clone(&clock))
    };
    for _ in 0..TOGETHER {
        drop(ride());
    }
    each(ride)
}

#[library_benchmark]
#[bench::nothing(args = (NOTHING), setup = rides)]
#[bench::request_log(args = (REQUEST_LOG), setup = rides)]
#[bench::both_logs(args = (BOTH_LOGS), setup = rides)]
#[bench::everything(args = (EVERYTHING), setup = rides)]
#[bench::everything_of_strangers(args = (EVERYTHING), setup = rides_of_strangers)]
fn told(rides: Vec<Ride>) {
    drop(rides);
}

// What a refused caller gets, from any stage.

fn refused(reason: Reason) -> (Denial, RequestId) {
    let denial = Denial::from(reason);
    let id = RequestId::fresh();
    drop(denial.answer(id));
    (denial, id)
}

#[library_benchmark]
#[bench::answer(args = (Reason::TokenExpired), setup = refused)]
fn denial((denial, id): (Denial, RequestId)) -> (Vec<Response<Reply>>, Denial) {
    (again(|| black_box(&denial).answer(id)), denial)
}

library_benchmark_group!(
    name = stages_of_a_request,
    benchmarks = [
        wire,
        canonical_form,
        find,
        token,
        new_token,
        decide,
        decide_against,
        limit,
        credential,
        send,
        seal,
        record,
        told,
        denial
    ]
);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = stages_of_a_request
);
