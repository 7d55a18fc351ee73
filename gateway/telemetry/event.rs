//! Events of the gateway itself: a reload, keys that cannot be fetched, a drain. One line of JSON each
//! on standard error, so that the request log on standard output stays one thing.

use std::io::Write as _;
use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Info,
    /// Something failed, and the gateway goes on with what it has.
    Warning,
    /// Somebody has to act.
    Error,
}

/// Tells operators of an event. `detail` must hold no secret.
pub fn event(at: Duration, level: Level, name: &str, detail: &str) {
    let level = match level {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    let mut line = json!({
        "time": timestamp(at),
        "level": level,
        "event": name,
        "detail": detail,
    })
    .to_string();
    line.push('\n');
    // Nobody is left to tell if standard error is closed.
    let _ = std::io::stderr().write_all(line.as_bytes());
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
