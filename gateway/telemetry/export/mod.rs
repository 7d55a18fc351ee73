//! Export: what waits with the workers is sent to collectors and to Azure Monitor. It runs on the control plane; a
//! place that is slow, down or refuses delays no request, and what waits for it is bounded and, beyond that, dropped
//! and counted.

mod breeze;
mod counts;
mod deltas;
mod otlp;
mod pipe;
mod probe;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use breeze::AzureMonitorTo;
use counts::{AZURE_MONITOR, OTLP};

pub use counts::Exported;
pub use otlp::{OtlpProtocol, OtlpTo};
pub use probe::{Fault, Step, ask_collector, reach_azure_monitor};

use super::health::Health;
use super::otlp::Resource;
use super::sink::Sink;
use crate::clock::Clock;
use crate::metric::Family;

/// All metrics as they stand now.
pub type Gather = Arc<dyn Fn() -> Vec<Family> + Send + Sync>;

/// What is sent where.
pub struct Export {
    /// Who sends.
    pub resource: Resource,
    /// The collector, if there is one.
    pub otlp: Option<OtlpTo>,
    /// The Application Insights resource, if there is one.
    pub azure_monitor: Option<AzureMonitorTo>,
    /// How often metrics are sent.
    pub metrics_interval: Duration,
}

/// What all that is sent comes from.
#[derive(Clone)]
pub struct Sources {
    /// The workers' telemetry.
    pub sinks: Vec<Arc<Sink>>,
    /// The metrics.
    pub gather: Gather,
    /// What came of it.
    pub exported: Arc<Exported>,
    /// How it stands.
    pub health: Arc<Health>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// Export under way.
pub struct Exporting {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Exporting {
    /// Begins on the runtime `control`.
    pub fn start(export: Export, sources: &Sources, control: &Handle) -> Self {
        if export.otlp.is_some() {
            sources.health.watch(OTLP, false);
        }
        if export.azure_monitor.is_some() {
            sources.health.watch(AZURE_MONITOR, false);
        }
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Vec::new();
        let interval = export.metrics_interval;
        if let Some(to) = export.otlp {
            for pipe in otlp::pipes(&to, &export.resource, interval, sources) {
                tasks.push(control.spawn(pipe.run(stopped.clone())));
            }
        }
        if let Some(to) = export.azure_monitor {
            let pipe = breeze::pipe(to, interval, sources);
            tasks.push(control.spawn(pipe.run(stopped.clone())));
        }
        Self { stop, tasks }
    }

    /// Sends what is left, within bounds of each pipe's own.
    pub async fn finish(self) {
        let _ = self.stop.send(true);
        for task in self.tasks {
            // One that has panicked has nothing left to send.
            let _ = task.await;
        }
    }
}
