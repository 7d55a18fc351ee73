//! The gateway's clock, as governor reads it.

use std::sync::Arc;
use std::time::Instant;

use governor::clock::Clock as Governor;
use governor::nanos::Nanos;

use crate::clock::Clock;

/// Nanoseconds since the clock was made.
#[derive(Clone)]
pub(super) struct LimitClock {
    clock: Arc<dyn Clock>,
    start: Instant,
}

impl LimitClock {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let start = clock.now().instant;
        Self { clock, start }
    }
}

impl Governor for LimitClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        let elapsed = self.clock.instant().saturating_duration_since(self.start);
        Nanos::from(elapsed)
    }
}
