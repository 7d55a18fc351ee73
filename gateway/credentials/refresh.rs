//! The loop that keeps one token fresh: when to fetch the next, and what to do when that fails.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::identity::{FetchFailure, FetchedToken, TokenSource};
use super::slot::Shared;
use crate::clock::{Clock, Now};
use crate::ids::jitter;

/// A fetch that takes longer has failed.
const FETCH_LIMIT: Duration = Duration::from_secs(20);
/// Tokens that live longer than this are refreshed at half their life: it is the identity endpoint
/// that is likely to be away for hours, not the backend.
const LONG_LIFE: Duration = Duration::from_secs(2 * 60 * 60);
/// Other tokens are refreshed this long before their end.
const AHEAD: Duration = Duration::from_secs(5 * 60);
/// How far jitter brings a refresh forward, as a share of the wait.
const SPREAD: f64 = 0.1;
/// The wait after the first failure, doubled after each further one, up to two thirds of
/// [`LONGEST_WAIT`]: jitter adds up to half.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between failures.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The longest that an endpoint may put us off with `Retry-After`.
const LONGEST_PUT_OFF: Duration = Duration::from_secs(5 * 60);
/// How far apart two fetches are, at the least, when a backend refuses the token. The platform hands
/// out the same token for hours; asking more often helps nobody.
const REFUSAL_FLOOR: Duration = Duration::from_secs(30);
/// The clocks are looked at this often: the monotonic one stands still while a machine is
/// suspended, the wall clock may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Runs until its task is aborted, which the slot does when it is dropped.
pub(super) async fn keep_fresh(
    shared: Arc<Shared>,
    source: Arc<dyn TokenSource>,
    clock: Arc<dyn Clock>,
) {
    let mut failures = 0_u32;
    loop {
        let began = clock.now().instant;
        let outcome = fetch(&shared, &*source, &*clock).await;
        let now = clock.now();
        let wait = match outcome.and_then(|token| shared.hold(&token, &now)) {
            Ok(lifetime) => {
                failures = 0;
                refresh_in(lifetime, jitter())
            }
            Err(failure) => {
                failures = failures.saturating_add(1);
                shared.failed(&failure, &now, failures);
                retry_in(failures, jitter()).max(put_off(&failure))
            }
        };
        until(now.later(wait), began, &shared, &*clock).await;
    }
}

async fn fetch(
    shared: &Shared,
    source: &dyn TokenSource,
    clock: &dyn Clock,
) -> Result<FetchedToken, FetchFailure> {
    // A panic would end the loop without a word, and the token with it hours later. Nothing of the
    // attempt is used after it.
    let attempt = AssertUnwindSafe(async { source.fetch(&shared.wanted).await }).catch_unwind();
    tokio::select! {
        biased;
        outcome = attempt => outcome.unwrap_or(Err(FetchFailure::Panicked)),
        () = clock.sleep(FETCH_LIMIT) => Err(FetchFailure::TimedOut),
    }
}

/// Waits until `due`, by whichever clock comes there first, or until a refused token calls for a
/// fetch and the last one `began` long enough ago.
async fn until(due: Now, began: Instant, shared: &Shared, clock: &dyn Clock) {
    loop {
        let now = clock.now();
        let left = due.instant.saturating_duration_since(now.instant);
        if left.is_zero() || now.unix >= due.unix {
            return;
        }
        tokio::select! {
            () = clock.sleep(left.min(LONGEST_SLEEP)) => {}
            () = shared.again.notified() => {
                let since = clock.now().instant.saturating_duration_since(began);
                if since >= REFUSAL_FLOOR {
                    return;
                }
            }
        }
    }
}

/// How long after it came a token with this lifetime is to be refreshed. `jitter` is in `0.0..1.0`.
fn refresh_in(lifetime: Duration, jitter: f64) -> Duration {
    let half = lifetime / 2;
    let wait = if lifetime > LONG_LIFE {
        half
    } else {
        half.max(lifetime.saturating_sub(AHEAD))
    };
    wait.mul_f64(1.0 - SPREAD * jitter)
}

/// How long to wait after this many failures in a row. `jitter` is in `0.0..1.0`.
fn retry_in(failures: u32, jitter: f64) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    let wait = FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT * 2 / 3);
    wait.mul_f64(1.0 + jitter / 2.0)
}

fn put_off(failure: &FetchFailure) -> Duration {
    failure
        .retry_after()
        .unwrap_or(Duration::ZERO)
        .min(LONGEST_PUT_OFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;

    #[test]
    fn long_tokens_are_refreshed_at_half_life_and_others_five_minutes_early() {
        for (lifetime, wait) in [
            (24 * HOUR, 12 * HOUR),
            (2 * HOUR + 2, HOUR + 1),
            (2 * HOUR, 2 * HOUR - 5 * MINUTE),
            (HOUR, 55 * MINUTE),
            (10 * MINUTE, 5 * MINUTE),
            (4 * MINUTE, 2 * MINUTE),
            (20, 10),
        ] {
            let lifetime = Duration::from_secs(lifetime);
            assert_eq!(
                refresh_in(lifetime, 0.0),
                Duration::from_secs(wait),
                "{lifetime:?}"
            );
        }
    }

    #[test]
    fn jitter_brings_a_refresh_forward_by_a_tenth_at_most() {
        let hour = Duration::from_secs(HOUR);
        assert_eq!(
            refresh_in(hour, 0.5),
            Duration::from_secs(55 * MINUTE * 95 / 100)
        );
        assert_eq!(
            refresh_in(hour, 1.0),
            Duration::from_secs(55 * MINUTE * 90 / 100)
        );
    }

    #[test]
    fn failures_are_retried_after_one_second_up_to_sixty() {
        for (failures, least, most) in [
            (1, 1.0, 1.5),
            (2, 2.0, 3.0),
            (3, 4.0, 6.0),
            (6, 32.0, 48.0),
            (7, 40.0, 60.0),
            (u32::MAX, 40.0, 60.0),
        ] {
            assert_eq!(
                retry_in(failures, 0.0),
                Duration::from_secs_f64(least),
                "{failures}"
            );
            assert_eq!(
                retry_in(failures, 1.0),
                Duration::from_secs_f64(most),
                "{failures}"
            );
        }
    }
}
