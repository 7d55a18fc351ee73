//! What a worker makes of the records of requests that are over: counts, and what others take along. It is made of
//! several records at once, for what one needs of the processor's caches the next finds there.

use std::fmt;
use std::sync::Arc;

use super::alike::{Alike, Forms};
use super::batches::Batches;
use super::format;
use super::handover::Bells;
use super::json::Times;
use super::level::{LogLevel, Requests};
use super::lines::{Lines, Which};
use super::metrics::Counted;
use super::recent::Recent;
use super::record::Record;
use super::sightings::Agents;
use super::sink::{Place, RequestLog, Telling};
use super::traffic::Durations;
use super::words::Words;
use crate::fingerprint::{Fingerprint, FingerprintKey};
use crate::secret::Secret;

/// So many records at once; fewer where somebody asks before.
const TOGETHER: usize = 25;

/// The most bytes that wait to be sent somewhere, of one kind and one worker.
const MOST_WAITING: usize = 8 << 20;

/// One of what is sent somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outbound {
    /// Spans, over OTLP.
    Spans,
    /// Records of decisions, over OTLP.
    Logs,
    /// Envelopes, to Azure Monitor.
    AzureMonitor,
}

/// A record of which nothing is made yet, and its place in the decision log, if it was given one.
struct Pending {
    record: Box<Record>,
    place: Option<Place>,
}

/// A worker's.
pub(super) struct Kept {
    pending: Vec<Pending>,
    counted: Counted,
    durations: Durations,
    times: Times,
    alike: Alike,
    request_lines: Lines,
    decision_lines: Lines,
    spans: Batches,
    logs: Batches,
    azure_monitor: Batches,
    recent: Recent,
    /// The one that was made last, of what, and by which key.
    fingerprint: Option<(Arc<FingerprintKey>, Secret<String>, Fingerprint)>,
}

/// Records tell who called.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

impl Kept {
    /// Nothing yet.
    pub(super) fn new(agents: Agents) -> Self {
        Self {
            pending: Vec::new(),
            counted: Counted::new(agents),
            durations: Durations::default(),
            times: Times::default(),
            alike: Alike::default(),
            request_lines: Lines::default(),
            decision_lines: Lines::default(),
            spans: Batches::new(MOST_WAITING),
            logs: Batches::new(MOST_WAITING),
            azure_monitor: Batches::new(MOST_WAITING),
            recent: Recent::default(),
            fingerprint: None,
        }
    }

    /// Takes a record, and the place that it was given.
    ///
    /// The bells are to be rung once these are no longer held.
    pub(super) fn push(
        &mut self,
        record: Box<Record>,
        place: Option<Place>,
        telling: &Telling,
        level: &LogLevel,
    ) -> Bells {
        // Memory of what nobody reads is rather used again at once.
        if !telling.is_read() {
            self.count(&record, telling);
            return Bells::default();
        }
        self.pending.push(Pending { record, place });
        match self.pending.len() >= TOGETHER {
            true => self.settle(telling, level),
            false => Bells::default(),
        }
    }

    fn count(&mut self, record: &Record, telling: &Telling) {
        self.counted.count(record);
        if telling.durations {
            self.durations.count(record);
        }
    }

    /// Makes what is to be made of the records that came.
    pub(super) fn settle(&mut self, telling: &Telling, level: &LogLevel) -> Bells {
        let mut bells = Bells::default();
        let mut pending = std::mem::take(&mut self.pending);
        for Pending { record, .. } in &pending {
            self.count(record, telling);
        }
        // Who only keeps them needs no words for them.
        if telling.is_written() && !pending.is_empty() {
            self.write(&mut pending, telling, level.requests(), &mut bells);
        }
        for Pending { record, .. } in pending.drain(..) {
            if telling.recent {
                self.recent.keep(record);
            }
        }
        self.pending = pending;
        bells
    }

    /// Writes what they come to, for all who take it along: one kind after the other.
    fn write(
        &mut self,
        pending: &mut [Pending],
        telling: &Telling,
        requests: Requests,
        bells: &mut Bells,
    ) {
        let places = pending.iter_mut().map(|one| one.place.take());
        let places: Vec<Option<Place>> = places.collect();
        let all: Vec<(&Record, Words<'_>, Arc<Forms>)> = pending
            .iter()
            .map(|Pending { record, .. }| {
                let words = Words::of(record, &mut self.times);
                (&**record, words, self.alike.forms(record, telling))
            })
            .collect();
        for (record, words, forms) in &all {
            if !requests.take(record) {
                continue;
            }
            let write = |out: &mut Vec<u8>| match &forms.request {
                Some(line) => line.stamp(words, out),
                None if telling.request_log == RequestLog::Human => format::human(record, out),
                None => {}
            };
            let is_kept = self.request_lines.add(write, bells);
            self.counted.lost += u64::from(!is_kept);
        }
        for ((_, words, forms), place) in all.iter().zip(places) {
            let Some(line) = &forms.decision else {
                continue;
            };
            let lines = &mut self.decision_lines;
            let is_kept = match place {
                Some(place) => {
                    place.taken();
                    lines.add_placed(|out| line.stamp(words, out), bells);
                    true
                }
                None => lines.add(|out| line.stamp(words, out), bells),
            };
            self.counted.decisions_lost += u64::from(!is_kept);
        }
        for (_, words, forms) in &all {
            let Some((served, sent)) = &forms.spans else {
                continue;
            };
            let count = 1 + u64::from(sent.is_some());
            let write = |out: &mut Vec<u8>| {
                served.stamp(words, out);
                if let Some(sent) = sent {
                    sent.stamp(words, out);
                }
            };
            self.spans.add(count, write, bells);
        }
        for (_, words, forms) in &all {
            if let Some(item) = &forms.log {
                self.logs.add(1, |out| item.stamp(words, out), bells);
            }
            for envelope in &forms.envelopes {
                let write = |out: &mut Vec<u8>| envelope.stamp(words, out);
                self.azure_monitor.add(1, write, bells);
            }
        }
    }

    /// The fingerprint of a value by a key. Whoever calls with a signature calls with the same one again and again.
    pub(super) fn fingerprint(&mut self, key: &Arc<FingerprintKey>, value: &str) -> Fingerprint {
        if let Some((by, of, fingerprint)) = &self.fingerprint
            && Arc::ptr_eq(by, key)
            && of.expose() == value
        {
            return *fingerprint;
        }
        let fingerprint = key.fingerprint(value);
        let value = Secret::new(value.to_owned());
        self.fingerprint = Some((Arc::clone(key), value, fingerprint));
        fingerprint
    }

    /// What was counted since it was asked for last.
    pub(super) fn take_counts(&mut self) -> (Counted, Durations) {
        (self.counted.take(), self.durations.take())
    }

    /// The latest records.
    pub(super) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// The lines of a log.
    pub(super) fn lines(&mut self, which: Which) -> &mut Lines {
        match which {
            Which::Requests => &mut self.request_lines,
            Which::Decisions => &mut self.decision_lines,
        }
    }

    /// What is sent somewhere.
    pub(super) fn batches(&mut self, which: Outbound) -> &mut Batches {
        match which {
            Outbound::Spans => &mut self.spans,
            Outbound::Logs => &mut self.logs,
            Outbound::AzureMonitor => &mut self.azure_monitor,
        }
    }
}
