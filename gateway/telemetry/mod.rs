//! What happened, told to operators: the record of each request, the log, the counters.

mod connections;
mod decision;
mod event;
mod format;
mod log;
mod metrics;
mod record;
mod ride;
mod sightings;

pub use connections::{Closed, Connections};
pub use decision::{DECISION_VERSION, DecisionLog, Recorded, decision_line};
pub use event::{Level, event};

pub use log::{Log, RequestLog, Sink};
pub use metrics::Metrics;
pub use record::{Disagreement, Followed, Outcome, Record, Sighting, UNOPENED};
pub use ride::{AnswerBody, RecordedBody, Ride};
pub use sightings::Agents;
