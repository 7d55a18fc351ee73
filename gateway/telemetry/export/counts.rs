//! What came of all that was to be sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metric::{Family, Metric, Point, Unit};
use crate::telemetry::kept::Outbound;
use crate::telemetry::sink::Sink;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Spans, over OTLP.
    Traces,
    /// Metrics, over OTLP.
    Metrics,
    /// Decisions and events, over OTLP.
    Logs,
    /// All of it, to Azure Monitor.
    AzureMonitor,
}

impl Signal {
    const ALL: [Self; 4] = [Self::Traces, Self::Metrics, Self::Logs, Self::AzureMonitor];

    /// The check of readiness that it belongs to.
    pub(super) const fn check(self) -> &'static str {
        match self {
            Self::Traces | Self::Metrics | Self::Logs => OTLP,
            Self::AzureMonitor => AZURE_MONITOR,
        }
    }

    /// What waits with the workers for it, if anything does.
    const fn outbound(self) -> Option<Outbound> {
        match self {
            Self::Traces => Some(Outbound::Spans),
            Self::Logs => Some(Outbound::Logs),
            Self::AzureMonitor => Some(Outbound::AzureMonitor),
            Self::Metrics => None,
        }
    }

    /// The value of the label `signal`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::AzureMonitor => "azure-monitor",
        }
    }
}

/// The checks of readiness.
pub(super) const OTLP: &str = "telemetry.otlp";
pub(super) const AZURE_MONITOR: &str = "telemetry.azureMonitor";

/// Why something was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Too much waited already.
    QueueFull,
    /// Whom it was sent to does not want it.
    Refused,
    /// It could not be sent for too long.
    Failed,
}

impl Lost {
    const ALL: [Self; 3] = [Self::QueueFull, Self::Refused, Self::Failed];

    const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Counts, by signal.
#[derive(Debug, Default)]
pub struct Exported([OfSignal; Signal::ALL.len()]);

#[derive(Debug, Default)]
struct OfSignal {
    sent: AtomicU64,
    lost: [AtomicU64; Lost::ALL.len()],
}

static SENT: Metric = Metric::counter(
    "portcullis.telemetry.exported",
    ITEMS,
    "Spans, points, records and envelopes that were sent and taken.",
);
static DROPPED: Metric = Metric::counter(
    "portcullis.telemetry.dropped",
    ITEMS,
    "Spans, points, records and envelopes that nobody took.",
);

const ITEMS: Unit = Unit::Of("{item}");

impl Exported {
    /// So many items were taken.
    pub(super) fn sent(&self, signal: Signal, count: u64) {
        if let Some(of) = self.0.get(signal as usize) {
            of.sent.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// So many were not.
    pub(super) fn lost(&self, signal: Signal, why: Lost, count: u64) {
        let of = self.0.get(signal as usize);
        if let Some(lost) = of.and_then(|of| of.lost.get(why as usize)) {
            lost.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The families, with what these workers had to drop and nobody has fetched yet.
    pub fn families(&self, sinks: &[Arc<Sink>]) -> [Family; 2] {
        let waiting = |signal: Signal, why: Lost| match (signal.outbound(), why) {
            (Some(outbound), Lost::QueueFull) => {
                sinks.iter().map(|sink| sink.dropped(outbound)).sum()
            }
            _ => 0,
        };
        let signals = || Signal::ALL.iter().zip(&self.0);
        let sent = signals().map(|(signal, of)| {
            Point::new([("signal", signal.name())], of.sent.load(Ordering::Relaxed))
        });
        let dropped = signals().flat_map(|(signal, of)| {
            Lost::ALL.iter().zip(&of.lost).map(move |(why, count)| {
                let labels = [("signal", signal.name()), ("reason", why.name())];
                Point::new(
                    labels,
                    count.load(Ordering::Relaxed) + waiting(*signal, *why),
                )
            })
        });
        [SENT.with(sent.collect()), DROPPED.with(dropped.collect())]
    }
}
