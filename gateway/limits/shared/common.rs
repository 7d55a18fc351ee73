//! What all meters of a replica share: the clock, when the store was reached last, and what is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::meter::Meter;
use super::settings::OnStoreFailure;
use crate::clock::Clock;

/// Who has not reached the store for so long is cut off. Longer than Redis takes to call it unheard (`group.lua`).
const CUT: Duration = Duration::from_millis(500);
/// Who has reached the store so lately cannot be cut off yet, but for this moment.
const FRESH: Duration = Duration::from_millis(150);

/// What all meters of a replica share.
pub(super) struct Common {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) timeout: Duration,
    pub(super) on_failure: OnStoreFailure,
    /// Meters that have something to ask.
    pub(super) queue: UnboundedSender<Arc<Meter>>,
    pub(super) counters: Counters,
    start: Instant,
    /// When the last contact was begun, in nanoseconds since `start`.
    contact: AtomicU64,
    replicas: AtomicU64,
    seq: AtomicU64,
    session: AtomicU64,
    epoch: AtomicU64,
}

impl Common {
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        timeout: Duration,
        on_failure: OnStoreFailure,
        queue: UnboundedSender<Arc<Meter>>,
    ) -> Arc<Self> {
        let start = clock.instant();
        Arc::new(Self {
            clock,
            timeout,
            on_failure,
            queue,
            counters: Counters::default(),
            start,
            contact: AtomicU64::new(0),
            replicas: AtomicU64::new(1),
            seq: AtomicU64::new(0),
            session: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
        })
    }

    /// The store was reached by what was sent then.
    pub(super) fn reached(&self, sent: Instant, replicas: u64) {
        let sent = sent.saturating_duration_since(self.start);
        let sent = u64::try_from(sent.as_nanos()).unwrap_or(u64::MAX);
        self.contact.store(sent, Ordering::Relaxed);
        self.replicas.store(replicas.max(1), Ordering::Relaxed);
    }

    /// When what reached the store last was sent.
    pub(super) fn contact(&self) -> Instant {
        self.start + Duration::from_nanos(self.contact.load(Ordering::Relaxed))
    }

    /// Whether the store has not been reached for so long that others count this replica as unheard.
    pub(super) fn is_cut(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.contact()) > CUT
    }

    /// Whether the store was reached just now.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.contact()) < FRESH
    }

    /// Since when it is cut off, if it is.
    pub(super) fn cut_since(&self) -> Instant {
        self.contact() + CUT
    }

    /// How many replicas there were when the store was reached last; this one alone, if it never was.
    pub(super) fn replicas(&self) -> u64 {
        self.replicas.load(Ordering::Relaxed)
    }

    /// The next number of a question.
    pub(super) fn next_seq(&self) -> u64 {
        self.seq.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// How often this replica has joined, and in how many epochs.
    pub(super) fn session(&self) -> (u64, u64) {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (of(&self.session), of(&self.epoch))
    }

    /// It has joined anew, and perhaps in another epoch.
    pub(super) fn joined(&self, another: bool) {
        self.epoch.fetch_add(u64::from(another), Ordering::Relaxed);
        self.session.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is counted, for the metrics.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) leases: Count,
    pub(super) waits: Count,
    pub(super) failures: Count,
    pub(super) admitted_locally: Count,
}

#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, many: u64) {
        self.0.fetch_add(many, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
