//! What is measured: every case, with who takes part in it.

use crate::contender::{Contender, Job, Program, Told};
use crate::siege::Siege;

/// Bytes of an answer, unless a case asks for another size.
const ANSWER: usize = 256;
const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

/// Connections at once, unless a case says otherwise.
const CONNECTIONS: usize = 32;
/// Of a case with many.
const THOUSAND: usize = 1000;
/// Of one with as many as a gateway is to bear.
const TEN_THOUSAND: usize = 10_000;
/// Of bodies of 10 MiB: enough to keep the proxy busy.
const FEW: usize = 8;

#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Cases of the same group take turns in the same rounds, because targets compare them.
    pub(crate) group: &'static str,
    /// What it is, for the report.
    pub(crate) says: &'static str,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) load: Load,
    pub(crate) sends: Sends,
    /// Bytes that the backend answers with.
    pub(crate) answer: usize,
    /// How proxies that guard have to answer.
    pub(crate) status: u16,
}

/// How callers call.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Load {
    /// Connections with one request in flight each.
    Http1 { connections: usize },
    /// Connections with several requests in flight each.
    Http2 { connections: usize, streams: usize },
    /// A new connection for each request.
    Handshakes { callers: usize, resumed: bool },
    /// So many requests a second, each at its time.
    Fixed { connections: usize, rate: f64 },
    /// None: how long it takes from spawning the process to the first request that is served.
    Start,
    /// None for the one figure, so many connections for the other: memory.
    Memory { connections: usize },
    /// So many connections that are held in some state: memory of each, and whether an honest caller is served.
    Held { connections: usize, siege: Siege },
}

/// What callers send.
#[derive(Clone, Copy)]
pub(crate) enum Sends {
    /// The same request over and over.
    OneToken,
    /// So many tokens in turn.
    Tokens(usize),
    /// No token twice: so many requests a round.
    NewTokens(usize),
    /// A token with a bad signature.
    BadSignature,
    /// A token without the role.
    WrongClaim,
    /// Bodies of so many bytes.
    Body(usize),
    /// A token of each app of the policy, in turn.
    TokensOfApps,
}

const fn who(program: Program, job: Job) -> Contender {
    Contender { program, job }
}

const PORTCULLIS: Contender = who(Program::Portcullis, Job::Full);
const PORTCULLIS_PLAIN: Contender = who(Program::Portcullis, Job::Plain);
const HAPROXY: Contender = who(Program::Haproxy, Job::Full);
const HAPROXY_PLAIN: Contender = who(Program::Haproxy, Job::Plain);
const SPLICE: Contender = who(Program::Haproxy, Job::Splice);
const ENVOY: Contender = who(Program::Envoy, Job::Full);
const ENVOY_CACHED: Contender = who(Program::Envoy, Job::Cached);
const ENVOY_PLAIN: Contender = who(Program::Envoy, Job::Plain);
const NGINX: Contender = who(Program::Nginx, Job::Full);
const NGINX_PLAIN: Contender = who(Program::Nginx, Job::Plain);

/// Few routes and many.
pub(crate) const FEW_ROUTES: Contender = who(Program::Portcullis, Job::Routes(10));
pub(crate) const MANY_ROUTES: Contender = who(Program::Portcullis, Job::Routes(10_000));

const FULL: [Contender; 5] = [PORTCULLIS, HAPROXY, ENVOY_CACHED, ENVOY, NGINX];
const PLAIN: [Contender; 4] = [PORTCULLIS_PLAIN, HAPROXY_PLAIN, NGINX_PLAIN, ENVOY_PLAIN];
const CACHES: [Contender; 3] = [PORTCULLIS, HAPROXY, ENVOY_CACHED];
const REFUSING: [Contender; 4] = [PORTCULLIS, HAPROXY, ENVOY_CACHED, ENVOY];

impl Case {
    fn new(name: &'static str, says: &'static str, contenders: &[Contender]) -> Self {
        Self {
            name,
            group: name,
            says,
            contenders: contenders.to_vec(),
            load: Load::Http1 {
                connections: CONNECTIONS,
            },
            sends: Sends::OneToken,
            answer: ANSWER,
            status: 200,
        }
    }

    fn in_group(mut self, group: &'static str) -> Self {
        self.group = group;
        self
    }

    fn load(mut self, load: Load) -> Self {
        self.load = load;
        self
    }

    fn sends(mut self, sends: Sends) -> Self {
        self.sends = sends;
        self
    }

    fn answers(mut self, size: usize) -> Self {
        self.answer = size;
        self
    }

    fn refused(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// For how many connections proxies are set up.
    pub(crate) fn room(&self) -> usize {
        match self.load {
            Load::Held { connections, .. } => Self::USUAL_ROOM.max(connections + 1000),
            Load::Http1 { .. }
            | Load::Http2 { .. }
            | Load::Handshakes { .. }
            | Load::Fixed { .. }
            | Load::Start
            | Load::Memory { .. } => Self::USUAL_ROOM,
        }
    }

    /// For all but the largest crowds.
    pub(crate) const USUAL_ROOM: usize = 8192;

    /// The same without peers, if there is something left to do.
    pub(crate) fn alone(mut self) -> Option<Self> {
        let is_own = |contender: &Contender| contender.program == Program::Portcullis;
        self.contenders.retain(is_own);
        (!self.contenders.is_empty()).then_some(self)
    }

    /// Is it one of those that are asked for? All are when none is named. A word with a dash at its end means
    /// all whose names begin so.
    pub(crate) fn is_asked_for(&self, words: &[String]) -> bool {
        let names = |word: &String| match word.ends_with('-') {
            true => self.name.starts_with(word.as_str()),
            false => self.name == word,
        };
        words.is_empty() || words.iter().any(names)
    }
}

/// Every case, in the order of the report.
pub(crate) fn all() -> Vec<Case> {
    [http1(), tokens(), http2(), refusals(), connections()]
        .into_iter()
        .chain([bodies(), rest(), telemetry(), held()])
        .flatten()
        .collect()
}

fn http1() -> Vec<Case> {
    vec![
        Case::new(
            "full",
            "HTTP/1.1, 32 connections, one token, 256 B answers, every policy on",
            &FULL,
        )
        .in_group("http1"),
        Case::new("plain", "the same request passed on with no policy", &PLAIN).in_group("http1"),
        Case::new(
            "splice",
            "the same request without TLS, passed on without being read: the floor",
            &[SPLICE],
        )
        .in_group("http1"),
    ]
}

fn tokens() -> Vec<Case> {
    vec![
        Case::new("full-2000-tokens", "2,000 tokens in turn", &CACHES).sends(Sends::Tokens(2000)),
        Case::new("full-10000-tokens", "10,000 tokens in turn", &CACHES)
            .sends(Sends::Tokens(10_000)),
        Case::new(
            "full-new-tokens",
            "every token new, so that no cache can help; 4,000 requests a round",
            &CACHES,
        )
        .sends(Sends::NewTokens(4000)),
    ]
}

fn http2() -> Vec<Case> {
    let load = Load::Http2 {
        connections: 4,
        streams: 8,
    };
    vec![
        Case::new(
            "full-h2",
            "HTTP/2, 4 connections with 8 requests in flight each",
            &FULL,
        )
        .in_group("http2")
        .load(load),
        Case::new("plain-h2", "the same passed on with no policy", &PLAIN)
            .in_group("http2")
            .load(load),
    ]
}

fn refusals() -> Vec<Case> {
    vec![
        Case::new(
            "refused-signature",
            "401: the token's signature is bad; requests without a body",
            &REFUSING,
        )
        .sends(Sends::BadSignature)
        .refused(401),
        Case::new(
            "refused-claim",
            "403: the token lacks the role; requests without a body",
            &REFUSING,
        )
        .sends(Sends::WrongClaim)
        .refused(403),
    ]
}

fn connections() -> Vec<Case> {
    let thousand = Load::Http1 {
        connections: THOUSAND,
    };
    let handshakes = |resumed| Load::Handshakes {
        callers: CONNECTIONS,
        resumed,
    };
    vec![
        Case::new("full-1000-connections", "1,000 connections, each with a request in flight", &[PORTCULLIS, HAPROXY])
            .in_group("1000 connections")
            .load(thousand),
        Case::new("plain-1000-connections", "the same with no policy", &[PORTCULLIS_PLAIN, HAPROXY_PLAIN])
            .in_group("1000 connections")
            .load(thousand),
        Case::new("handshake", "a connection for each request, with a full TLS 1.3 handshake, never resumed; no policy", &PLAIN)
            .load(handshakes(false)),
        Case::new("handshake-resumed", "the same, and callers offer the session of the connection before", &PLAIN)
            .load(handshakes(true)),
    ]
}

fn telemetry() -> Vec<Case> {
    let told = |told| who(Program::Portcullis, Job::Told(told));
    let contenders = [
        PORTCULLIS,
        told(Told::All),
        told(Told::Twice),
        told(Told::Usual),
        told(Told::Admin),
        told(Told::RequestLog),
        told(Told::Logs),
        told(Told::Traces),
        told(Told::AzureMonitor),
    ];
    let at = |rate| Load::Fixed {
        connections: CONNECTIONS,
        rate,
    };
    vec![
        Case::new(
            "telemetry",
            "what it costs to tell of each of 10,000 requests a second; a collector that takes all, on the callers' core",
            &contenders,
        )
        .load(at(10_000.0)),
        Case::new(
            "telemetry-flat-out",
            "the same as fast as callers can",
            &contenders,
        ),
    ]
}

fn bodies() -> Vec<Case> {
    let both = [PORTCULLIS, HAPROXY];
    let large = Load::Http1 { connections: FEW };
    vec![
        Case::new("upload-64k", "64 KiB to the backend", &both).sends(Sends::Body(64 * KIB)),
        Case::new("download-64k", "64 KiB from the backend", &both).answers(64 * KIB),
        Case::new("upload-10m", "10 MiB to the backend, 8 connections", &both)
            .sends(Sends::Body(10 * MIB))
            .load(large),
        Case::new(
            "download-10m",
            "10 MiB from the backend, 8 connections",
            &both,
        )
        .answers(10 * MIB)
        .load(large),
    ]
}

fn rest() -> Vec<Case> {
    let fixed = Load::Fixed {
        connections: CONNECTIONS,
        rate: 2000.0,
    };
    let memory = Load::Memory {
        connections: THOUSAND,
    };
    vec![
        Case::new("latency", "2,000 requests a second, each at its time; latency counts from then", &CACHES).load(fixed),
        Case::new("routes", "10 routes, apps and cached tokens against 10,000 of each", &[FEW_ROUTES, MANY_ROUTES])
            .sends(Sends::TokensOfApps),
        Case::new(
            "start",
            "from spawning the process to the first request that is served",
            &[PORTCULLIS, NGINX_PLAIN, HAPROXY_PLAIN, HAPROXY, ENVOY_PLAIN, ENVOY],
        )
        .load(Load::Start),
        Case::new(
            "memory",
            "after the first few requests, and with 1,000 connections open that have been busy for a second",
            &[PORTCULLIS, HAPROXY, PORTCULLIS_PLAIN, HAPROXY_PLAIN, NGINX_PLAIN, ENVOY_PLAIN],
        )
        .load(memory),
    ]
}

fn held() -> Vec<Case> {
    let case = |name, says, connections, siege| {
        Case::new(name, says, &[PORTCULLIS, HAPROXY_PLAIN, NGINX_PLAIN])
            .load(Load::Held { connections, siege })
    };
    vec![
        case(
            "held-idle",
            "10,000 TLS connections that lie idle after a request",
            TEN_THOUSAND,
            Siege::Idle,
        ),
        case(
            "held-half-head",
            "1,000 connections in the middle of a head",
            THOUSAND,
            Siege::HalfHead,
        ),
        case(
            "held-long-head",
            "1,000 connections with 7 KiB of a head that goes on",
            THOUSAND,
            Siege::LongHead,
        ),
        case(
            "held-half-body",
            "1,000 connections that have sent 16 KiB of a body of 1 MiB",
            THOUSAND,
            Siege::HalfBody,
        ),
        case(
            "held-untaken",
            "200 connections that take nothing of an answer of 10 MiB",
            200,
            Siege::Untaken,
        )
        .answers(10 * MIB),
        case(
            "held-h2",
            "1,000 connections by HTTP/2 that ask for nothing",
            THOUSAND,
            Siege::Http2,
        ),
        case(
            "held-h2-long-head",
            "1,000 connections by HTTP/2 with 7 KiB of a head in CONTINUATION frames that go on",
            THOUSAND,
            Siege::Http2LongHead,
        ),
        case(
            "held-h2-untaken",
            "200 connections by HTTP/2 that make no room for two answers of 10 MiB each",
            200,
            Siege::Http2Untaken,
        )
        .answers(10 * MIB),
        case(
            "held-h2-flood",
            "200 connections by HTTP/2 after 10,000 pings each, of whose answers nothing is read",
            200,
            Siege::Http2Flood,
        ),
        case(
            "held-websocket",
            "1,000 connections that were handed over to WebSocket, on which nothing is said",
            THOUSAND,
            Siege::Websocket,
        ),
    ]
}
