//! What happened, told to operators: the record of each request, logs, counters, traces.

mod alike;
mod attributes;
mod azure_monitor;
mod batches;
mod connections;
mod decision;
mod event;
mod export;
mod file;
mod format;
mod handover;
mod health;
mod json;
mod kept;
mod level;
mod lines;
mod log;
mod metrics;
mod otlp;
mod prometheus;
mod recent;
mod record;
mod ride;
mod series;
mod sightings;
mod sink;
mod stencil;
mod traffic;
mod words;

pub use azure_monitor::{ConnectionString, Form, NotAConnectionString};
pub use connections::{Closed, Connections};
pub use decision::{DECISION_VERSION, Recorded};
pub use event::{Level, OnceAMinute, event, level_changed};
pub use export::{
    AzureMonitorTo, Export, Exported, Exporting, Fault, Gather, OtlpProtocol, OtlpTo, Sources,
    Step, ask_collector, reach_azure_monitor,
};
pub use file::{LogFile, Rotation};
pub use format::request_line;
pub use health::{Health, Standing};
pub use json::Times;
pub use level::{LogLevel, Requests};
pub use lines::Which;
pub use log::{Log, LogSettings, Sync, Target};
pub use metrics::Metrics;
pub use otlp::{Resource, Temporality};
pub use prometheus::Exposition;
pub use recent::Filter;
pub use record::{Disagreement, Followed, Outcome, Record, Sighting, Told, UNOPENED};
pub use ride::{AnswerBody, RecordedBody, Ride};
pub use sightings::Agents;
pub use sink::{Place, ROOM, RequestLog, Sink, Telling};
pub use traffic::OTHER_METHOD;
