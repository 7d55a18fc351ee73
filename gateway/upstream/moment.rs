//! Moments as atomics can hold them, for what many workers share.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How far before the first moment that anybody asked about all of them count from: clocks of one process may
/// differ a little.
const BEFORE: Duration = Duration::from_hours(1);

/// Milliseconds since some moment in the past, never 0.
pub(super) fn moment(now: Instant) -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let first = FIRST.get_or_init(|| now.checked_sub(BEFORE).unwrap_or(now));
    millis(now.saturating_duration_since(*first)).max(1)
}

/// A duration as the difference of two moments.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
