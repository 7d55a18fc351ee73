//! What is logged, which can be changed while the gateway runs.

use std::sync::atomic::{AtomicU8, Ordering};

use super::event::{Level, least_level, set_least_level};
use super::record::{Outcome, Record};
use super::sink::RequestLog;

/// Of which requests something is told: in the request log, or each decision as a record of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requests {
    /// All.
    All,
    /// Those that were refused or failed.
    Denied,
    /// None.
    None,
}

impl Requests {
    const ALL: [Self; 3] = [Self::All, Self::Denied, Self::None];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Denied => "denied",
            Self::None => "none",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|each| each.name() == name)
    }

    pub(super) fn take(self, record: &Record) -> bool {
        match self {
            Self::All => true,
            Self::Denied => matches!(record.outcome, Outcome::Denied(_)),
            Self::None => false,
        }
    }
}

/// What is logged.
#[derive(Debug)]
pub struct LogLevel {
    requests: AtomicU8,
    has_log: bool,
}

impl LogLevel {
    /// Everything, where there is a request log.
    pub fn new(log: RequestLog) -> Self {
        let has_log = log != RequestLog::Off;
        let requests = if has_log {
            Requests::All
        } else {
            Requests::None
        };
        Self {
            requests: AtomicU8::new(requests as u8),
            has_log,
        }
    }

    /// Whether there is a request log.
    pub fn logs_requests(&self) -> bool {
        self.has_log
    }

    /// Which requests are logged.
    pub fn requests(&self) -> Requests {
        let at = usize::from(self.requests.load(Ordering::Relaxed));
        Requests::ALL.get(at).copied().unwrap_or(Requests::All)
    }

    /// The least level of events that are told. One for the process.
    pub fn events(&self) -> Level {
        least_level()
    }

    /// Changes either.
    pub fn set(&self, events: Option<Level>, requests: Option<Requests>) {
        if let Some(level) = events {
            set_least_level(level);
        }
        if let Some(requests) = requests {
            self.requests.store(requests as u8, Ordering::Relaxed);
        }
    }
}
