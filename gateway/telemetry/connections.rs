//! Connections of callers, counted by the worker that serves them: when one comes, when it ends, and why, where it
//! was the gateway that ended it. No request pays for it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metric::{Family, Metric, Point, Unit};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident $code:literal;)*) => {
        /// Why the gateway closed a connection by itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Closed { $($(#[$doc])* $name,)* }

        impl Closed {
            /// Every reason.
            pub const ALL: &'static [Closed] = &[$(Closed::$name,)*];

            /// The value of the label `reason`.
            pub const fn code(self) -> &'static str {
                match self { $(Closed::$name => $code,)* }
            }
        }
    };
}

reasons! {
    /// As many are open as there may be.
    TooMany "too-many";
    /// As many are open from this address as there may be.
    TooManyFromAddress "too-many-from-address";
    /// The process has no file descriptor left.
    Descriptors "descriptors";
    /// It came from elsewhere than those who may speak for callers.
    UntrustedHop "untrusted-hop";
    /// What came first was no PROXY protocol.
    ProxyProtocol "proxy-protocol";
    /// The TLS handshake failed.
    Handshake "handshake";
    /// The caller's certificate does not do, or is missing where one is required.
    ClientCertificate "client-certificate";
    /// The TLS handshake was not over in time, or nothing was said.
    SlowHandshake "slow-handshake";
    /// The head of a request was not whole in time.
    SlowHead "slow-head";
    /// The caller took nothing although something was due.
    Stalled "stalled";
    /// A request's body came too slowly.
    SlowBody "slow-body";
    /// The caller took an answer too slowly.
    SlowReader "slow-reader";
    /// It served as many requests as it may.
    MaxRequests "max-requests";
    /// It lasted as long as it may.
    MaxAge "max-age";
    /// No request came.
    Idle "idle";
    /// More was sent that asks for nothing than any honest caller sends.
    Flood "flood";
    /// What came is no HTTP, or can be read in two ways.
    Malformed "malformed";
    /// The gateway drains.
    Draining "draining";
}

/// Error codes of HTTP/2, by their numbers (RFC 9113 section 7); the last stands for all that are none.
const CODES: [&str; 15] = [
    "no-error",
    "protocol-error",
    "internal-error",
    "flow-control-error",
    "settings-timeout",
    "stream-closed",
    "frame-size-error",
    "refused-stream",
    "cancel",
    "compression-error",
    "connect-error",
    "enhance-your-calm",
    "inadequate-security",
    "http-1-1-required",
    "other",
];

/// What a worker counts of its connections.
#[derive(Debug)]
pub struct Connections {
    accepted: AtomicU64,
    ended: AtomicU64,
    upgraded: AtomicU64,
    closed: [AtomicU64; Closed::ALL.len()],
    reset: [AtomicU64; CODES.len()],
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            accepted: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            upgraded: AtomicU64::new(0),
            closed: [const { AtomicU64::new(0) }; Closed::ALL.len()],
            reset: [const { AtomicU64::new(0) }; CODES.len()],
        }
    }
}

impl Connections {
    /// One was accepted.
    pub fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// One has ended, whoever ended it.
    pub fn ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// One is handed over to another protocol, as long as what is given is held.
    pub fn upgraded(&self) -> impl Drop + use<'_> {
        self.upgraded.fetch_add(1, Ordering::Relaxed);
        Upgraded(&self.upgraded)
    }

    /// The gateway ends one by itself.
    pub fn closed(&self, why: Closed) {
        // INVARIANT: there is a count for each reason, in their order.
        if let Some(count) = self.closed.get(why as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The gateway resets a stream of HTTP/2, with this error code.
    pub fn reset(&self, code: u32) {
        let place = usize::try_from(code).unwrap_or(usize::MAX);
        let count = self.reset.get(place).or(self.reset.last());
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What is counted in a place.
fn counted(counts: &[AtomicU64], place: usize) -> u64 {
    let count = counts.get(place);
    count.map_or(0, |count| count.load(Ordering::Relaxed))
}

/// A connection on which another protocol is spoken.
struct Upgraded<'c>(&'c AtomicU64);

impl Drop for Upgraded<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

static OPEN: Metric = Metric::gauge(
    "portcullis.connections",
    CONNECTIONS,
    "Callers' connections that are open.",
);
static UPGRADED: Metric = Metric::gauge(
    "portcullis.connections.upgraded",
    CONNECTIONS,
    "Those of them on which another protocol is spoken, such as WebSocket.",
);
static ACCEPTED: Metric = Metric::counter(
    "portcullis.connections.accepted",
    CONNECTIONS,
    "Callers' connections that were accepted.",
);
static CLOSED: Metric = Metric::counter(
    "portcullis.connections.closed",
    CONNECTIONS,
    "Callers' connections that the gateway ended by itself, by why.",
);

static RESET: Metric = Metric::counter(
    "portcullis.streams.reset",
    Unit::Of("{stream}"),
    "Streams of HTTP/2 that the gateway reset, by the error code of RFC 9113. What is malformed ends so (protocol-error), or with its connection, before it is a request, and leaves no record.",
);

const CONNECTIONS: Unit = Unit::Of("{connection}");

/// What several workers have counted.
pub(super) fn families<'c>(workers: impl Iterator<Item = &'c Connections> + Clone) -> [Family; 5] {
    let sum = |of: &dyn Fn(&Connections) -> u64| workers.clone().map(of).sum::<u64>();
    // In this order, none has ended that was not accepted.
    let ended = sum(&|worker| worker.ended.load(Ordering::Relaxed));
    let accepted = sum(&|worker| worker.accepted.load(Ordering::Relaxed));
    let upgraded = sum(&|worker| worker.upgraded.load(Ordering::Relaxed));
    let closed = Closed::ALL.iter().map(|why| {
        let count = sum(&|worker| counted(&worker.closed, *why as usize));
        Point::new([("reason", why.code())], count)
    });
    let reset = CODES.iter().enumerate().map(|(place, code)| {
        let count = sum(&|worker| counted(&worker.reset, place));
        Point::new([("code", *code)], count)
    });
    [
        OPEN.of(accepted.saturating_sub(ended)),
        UPGRADED.of(upgraded),
        ACCEPTED.of(accepted),
        CLOSED.with(closed.collect()),
        RESET.with(reset.collect()),
    ]
}
