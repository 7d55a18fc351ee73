//! A worker's telemetry: what it counts, what it writes for others to take along, and what it keeps to be asked for.
//! The worker itself makes it, of some records at once; who asks before there are so many has it made first.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Method;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::azure_monitor::Form;
use super::batches::Batch;
use super::connections::Connections;
use super::handover::Handover;
use super::kept::{Kept, Outbound};
use super::level::{LogLevel, Requests};
use super::lines::{Which, Written};
use super::metrics::Counted;
use super::recent::Filter;
use super::record::Record;
use super::sightings::Agents;
use super::traffic::{Durations, METHOD_COUNT, method_index};
use crate::clock::within;
use crate::denial::{Denial, Reason};
use crate::fingerprint::{Fingerprint, FingerprintKey};
use crate::trace::Sampling;

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestLog {
    /// One JSON object a line.
    Json,
    /// One line for people.
    Human,
    /// Not at all; they are still counted.
    Off,
}

/// What is told of requests, and to whom.
#[derive(Debug)]
pub struct Telling {
    /// How requests are logged.
    pub request_log: RequestLog,
    /// Whether decisions are logged.
    pub decision_log: bool,
    /// The places of decisions that are not written yet, where requests wait for one.
    pub room: Option<Arc<Semaphore>>,
    /// Whether spans go out over OTLP.
    pub spans: bool,
    /// Which decisions go out over OTLP.
    pub logs: Requests,
    /// What goes out to Azure Monitor, if anything.
    pub azure_monitor: Option<Form>,
    /// Whether anybody can ask for the latest records.
    pub recent: bool,
    /// Whether anybody can ask for durations.
    pub durations: bool,
    /// Which traces are recorded.
    pub sampling: Sampling,
    /// `https` or `http`.
    pub scheme: &'static str,
    /// Whether callers are told by hashes alone.
    pub hashes_callers: bool,
}

impl Telling {
    /// Nothing is told, and nobody asks.
    pub const NOTHING: Self = Self {
        request_log: RequestLog::Off,
        decision_log: false,
        room: None,
        spans: false,
        logs: Requests::None,
        azure_monitor: None,
        recent: false,
        durations: false,
        sampling: Sampling::OFF,
        scheme: "https",
        hashes_callers: false,
    };

    /// Whether a record is read by anybody, and not only counted.
    pub(super) fn is_read(&self) -> bool {
        self.is_written() || self.recent
    }

    /// Whether anybody takes along what it comes to.
    pub(super) fn is_written(&self) -> bool {
        self.request_log != RequestLog::Off
            || self.decision_log
            || self.spans
            || self.logs != Requests::None
            || self.azure_monitor.is_some()
    }
}

/// How many decisions may wait to be written, where requests wait for a place.
pub const ROOM: usize = 16_384;

/// How long a request waits for such a place.
const LONGEST_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

/// A worker's.
#[derive(Debug)]
pub struct Sink {
    telling: Arc<Telling>,
    level: Arc<LogLevel>,
    kept: Mutex<Kept>,
    connections: Connections,
    active: [AtomicU64; METHOD_COUNT],
}

/// A place for a decision that will be written.
#[derive(Debug)]
pub struct Place(OwnedSemaphorePermit);

impl Place {
    /// It is given back once the decision is written.
    pub(super) fn taken(self) {
        self.0.forget();
    }
}

impl Sink {
    /// A worker's, with the `agents` and the `level` of all.
    pub fn new(telling: Arc<Telling>, agents: Agents, level: Arc<LogLevel>) -> Self {
        Self {
            telling,
            level,
            kept: Mutex::new(Kept::new(agents)),
            connections: Connections::default(),
            active: [const { AtomicU64::new(0) }; METHOD_COUNT],
        }
    }

    /// One that only counts.
    pub fn counting() -> Self {
        Self::new(
            Arc::new(Telling::NOTHING),
            Agents::default(),
            Arc::new(LogLevel::new(RequestLog::Off)),
        )
    }

    /// What the worker counts of its connections.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Whether somebody reads the records that it is handed.
    pub fn is_read(&self) -> bool {
        self.telling.is_read()
    }

    /// Whether somebody asks how long requests take.
    pub fn is_timed(&self) -> bool {
        self.is_read() || self.telling.durations
    }

    /// Which traces are recorded.
    pub fn sampling(&self) -> Sampling {
        self.telling.sampling
    }

    /// Whether callers are told by hashes alone.
    pub fn hashes_callers(&self) -> bool {
        self.telling.hashes_callers
    }

    /// `https` or `http`.
    pub(super) fn scheme(&self) -> &'static str {
        self.telling.scheme
    }

    /// The fingerprint of a value by a key. Whoever calls with a signature calls with the same one again and again.
    pub(super) fn fingerprint(&self, key: &Arc<FingerprintKey>, value: &str) -> Fingerprint {
        self.kept().fingerprint(key, value)
    }

    /// A request begins to be served.
    pub(super) fn begins(&self, method: &Method) {
        if let Some(active) = self.active.get(method_index(method)) {
            active.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many requests are being served, by their methods.
    pub(super) fn active(&self) -> [u64; METHOD_COUNT] {
        std::array::from_fn(|method| {
            let active = self.active.get(method);
            active.map_or(0, |active| active.load(Ordering::Relaxed))
        })
    }

    /// A place for the decision of a request, where decisions that are not written yet bound the requests that
    /// may come.
    ///
    /// # Errors
    /// `DecisionLogFull` when none becomes free in time.
    pub async fn place(&self) -> Result<Option<Place>, Denial> {
        let Some(room) = &self.telling.room else {
            return Ok(None);
        };
        if let Ok(permit) = Arc::clone(room).try_acquire_owned() {
            return Ok(Some(Place(permit)));
        }
        let free = within(LONGEST_WAIT, Arc::clone(room).acquire_owned()).await;
        let permit = free.and_then(Result::ok);
        let permit = permit.ok_or_else(|| Denial::from(Reason::DecisionLogFull))?;
        Ok(Some(Place(permit)))
    }

    /// Takes the record of a request that is over, and the place that it was given.
    pub(super) fn push(&self, record: Box<Record>, place: Option<Place>) {
        if let Some(active) = self.active.get(method_index(&record.method)) {
            active.fetch_sub(1, Ordering::Relaxed);
        }
        let (telling, level) = (&self.telling, &self.level);
        let bells = self.kept().push(record, place, telling, level);
        bells.ring();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With all that was pushed made into what is to be taken.
    fn settled(&self) -> MutexGuard<'_, Kept> {
        let mut kept = self.kept();
        // Whoever asks is mostly the one who would be rung.
        kept.settle(&self.telling, &self.level).ring();
        kept
    }

    /// What was counted here since it was asked for last.
    pub(super) fn take_counts(&self) -> (Counted, Durations) {
        self.settled().take_counts()
    }

    /// From now on lines are handed over there.
    pub(super) fn hand_lines_over(&self, which: Which, handover: &Arc<Handover>) {
        self.kept().lines(which).hand_over(Arc::clone(handover));
    }

    /// The lines that wait.
    pub(super) fn take_lines(&self, which: Which) -> Written {
        self.settled().lines(which).take()
    }

    /// From now on batches are handed over there.
    pub(super) fn hand_batches_over(&self, which: Outbound, handover: &Arc<Handover>) {
        self.kept().batches(which).hand_over(Arc::clone(handover));
    }

    /// How many bytes wait to be sent.
    pub(super) fn waiting(&self, which: Outbound) -> usize {
        self.settled().batches(which).waiting()
    }

    /// What waits to be sent, and how much was dropped.
    pub(super) fn take_batches(&self, which: Outbound) -> (Vec<Batch>, u64) {
        self.settled().batches(which).take()
    }

    /// How many were dropped.
    pub(super) fn take_dropped(&self, which: Outbound) -> u64 {
        self.kept().batches(which).take_dropped()
    }

    /// How many were dropped that nobody has been told of.
    pub(super) fn dropped(&self, which: Outbound) -> u64 {
        self.settled().batches(which).dropped()
    }

    /// How many records came in all, and the latest of them that the filter takes, behind the first `after`.
    pub(super) fn recent(&self, filter: &Filter, after: u64, limit: usize) -> (u64, Vec<Record>) {
        let kept = self.settled();
        let recent = kept.recent();
        (recent.count(), recent.find(filter, after, limit))
    }

    /// How many of the latest records are kept.
    pub(super) fn kept_count(&self) -> usize {
        self.settled().recent().kept()
    }
}
