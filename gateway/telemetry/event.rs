//! Events of the gateway itself: a reload, keys that cannot be fetched, a drain. One line of JSON each
//! on standard error, so that the request log on standard output stays one thing.

use std::cell::Cell;
use std::io::Write as _;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Info,
    /// Something failed, and the gateway goes on with what it has.
    Warning,
    /// Somebody has to act.
    Error,
}

impl Level {
    /// Every one, with its name.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("info", Self::Info),
        ("warning", Self::Warning),
        ("error", Self::Error),
    ];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        let mut named = Self::NAMES.iter().filter(|(known, _)| *known == name);
        named.next().map(|(_, level)| *level)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The least level that is told: a place in [`Level::NAMES`]. One for the process, as its standard error is.
static LEAST: AtomicU8 = AtomicU8::new(0);

/// Who exports events.
static LISTENERS: Mutex<Vec<Weak<Events>>> = Mutex::new(Vec::new());

/// Events of less than this level are told to nobody from now on.
pub(super) fn set_least_level(level: Level) {
    LEAST.store(level as u8, Ordering::Relaxed);
}

/// The least level that is told.
pub(super) fn least_level() -> Level {
    let least = usize::from(LEAST.load(Ordering::Relaxed));
    Level::NAMES
        .get(least)
        .map_or(Level::Info, |(_, level)| *level)
}

/// Events that wait to be exported.
#[derive(Debug, Default)]
pub(super) struct Events(Mutex<Vec<Event>>);

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) at: Duration,
    pub(super) level: Level,
    pub(super) name: String,
    pub(super) detail: String,
}

/// More events than these are not kept.
const MOST: usize = 1000;

impl Events {
    /// Listens from now on.
    pub(super) fn listen() -> Arc<Self> {
        let events = Arc::new(Self::default());
        listeners().push(Arc::downgrade(&events));
        events
    }

    /// Whether any was heard since.
    pub(super) fn any(&self) -> bool {
        !self.heard().is_empty()
    }

    /// What was heard since.
    pub(super) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.heard())
    }

    fn heard(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listeners() -> MutexGuard<'static, Vec<Weak<Events>>> {
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets something be told at most once a minute: what whoever connects can cause, or what goes on for long.
#[derive(Debug, Default)]
pub struct OnceAMinute {
    /// When it was told last, since the Unix epoch.
    told: Cell<Option<Duration>>,
}

impl OnceAMinute {
    /// Whether it is to be told now, which it then counts as told.
    pub fn is_due(&self, now: Duration) -> bool {
        const BETWEEN: Duration = Duration::from_secs(60);
        let told = self.told.get();
        let is_due = told.is_none_or(|told| now.saturating_sub(told) >= BETWEEN);
        if is_due {
            self.told.set(Some(now));
        }
        is_due
    }
}

/// Tells operators of an event. `detail` must hold no secret.
pub fn event(at: Duration, level: Level, name: &str, detail: &str) {
    if level >= least_level() {
        tell(at, level, name, detail);
    }
}

/// Tells that it was changed what is told, whatever the level.
pub fn level_changed(at: Duration, detail: &str) {
    tell(at, Level::Warning, "log-level-changed", detail);
}

fn tell(at: Duration, level: Level, name: &str, detail: &str) {
    let mut line = json!({
        "time": timestamp(at),
        "level": level.name(),
        "event": name,
        "detail": detail,
    })
    .to_string();
    line.push('\n');
    // Nobody is left to tell if standard error is closed.
    let _ = std::io::stderr().write_all(line.as_bytes());
    listeners().retain(|listener| {
        let Some(listener) = listener.upgrade() else {
            return false;
        };
        let mut heard = listener.heard();
        if heard.len() < MOST {
            heard.push(Event {
                at,
                level,
                name: name.to_owned(),
                detail: detail.to_owned(),
            });
        }
        true
    });
}

/// RFC 3339, UTC, milliseconds.
pub(super) fn timestamp(unix: Duration) -> String {
    const FORM: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let nanos = i128::try_from(unix.as_nanos()).unwrap_or_default();
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos);
    let text = time.ok().and_then(|time| time.format(FORM).ok());
    text.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_always_has_milliseconds() {
        for (millis, expected) in [
            (1_795_454_645_000, "2026-11-23T17:24:05.000Z"),
            (1_795_454_645_039, "2026-11-23T17:24:05.039Z"),
        ] {
            assert_eq!(timestamp(Duration::from_millis(millis)), expected);
        }
    }
}
