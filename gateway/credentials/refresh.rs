//! The loop that keeps one token or secret fresh: when to fetch the next, and what to do when that fails.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;

use super::slot::{Needs, Shared};
use super::source::{FetchFailure, Fetched, Needed, Source};
use crate::clock::{Clock, Now, doubled};
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
/// An issuer that asks for more haste than this does not get it.
const SOONEST: Duration = Duration::from_secs(10);
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
    needs: Needs,
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
) {
    let mut failures = 0_u32;
    loop {
        let began = clock.now().instant;
        let outcome = fetch(&shared, &needs, &*source, &*clock).await;
        let now = clock.now();
        let mut least = REFUSAL_FLOOR;
        let wait = match outcome.and_then(|fetched| shared.hold(&fetched, &now)) {
            Ok(due) => {
                failures = 0;
                due.wait(jitter())
            }
            Err(failure) => {
                failures = failures.saturating_add(1);
                needs.refused_by(&failure);
                shared.failed(&failure, &now, failures);
                // Whoever asks for patience gets it, whatever a backend says.
                least = least.max(put_off(&failure));
                retry_in(failures, failure.is_final(shared.wanted.asked()), jitter())
                    .max(put_off(&failure))
            }
        };
        until(now.later(wait), began, least, &shared, &*clock).await;
    }
}

async fn fetch(
    shared: &Shared,
    needs: &Needs,
    source: &dyn Source,
    clock: &dyn Clock,
) -> Result<Fetched, FetchFailure> {
    let needed: Needed = needs.ready(clock, FETCH_LIMIT).await?;
    // A panic would end the loop without a word, and the token with it hours later. Nothing of the
    // attempt is used after it.
    let attempt =
        AssertUnwindSafe(async { source.fetch(&shared.wanted, needed).await }).catch_unwind();
    tokio::select! {
        biased;
        outcome = attempt => outcome.unwrap_or(Err(FetchFailure::Panicked)),
        () = clock.sleep(FETCH_LIMIT) => Err(FetchFailure::TimedOut),
    }
}

/// Waits until `due`, by whichever clock comes there first, or until a refused token calls for a
/// fetch and the last one `began` at `least` so long ago.
async fn until(due: Now, began: Instant, least: Duration, shared: &Shared, clock: &dyn Clock) {
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
                if since >= least {
                    return;
                }
            }
        }
    }
}

/// When what is held is to be fetched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A token with this lifetime, whose issuer may have said when it wants to be asked again.
    Token {
        lifetime: Duration,
        refresh_in: Option<Duration>,
    },
    /// A secret that is read so often.
    Secret { every: Duration },
}

impl Due {
    /// How long to wait. `jitter` is in `0.0..1.0`, and brings the refresh forward.
    fn wait(self, jitter: f64) -> Duration {
        let wait = match self {
            Self::Secret { every } => every,
            Self::Token {
                lifetime,
                refresh_in: Some(wanted),
            } => wanted.clamp(SOONEST, ahead_of_the_end(lifetime).max(SOONEST)),
            Self::Token {
                lifetime,
                refresh_in: None,
            } if lifetime > LONG_LIFE => lifetime / 2,
            Self::Token {
                lifetime,
                refresh_in: None,
            } => ahead_of_the_end(lifetime),
        };
        wait.mul_f64(1.0 - SPREAD * jitter)
    }
}

fn ahead_of_the_end(lifetime: Duration) -> Duration {
    (lifetime / 2).max(lifetime.saturating_sub(AHEAD))
}

/// How long to wait after this many failures in a row. What will not pass by itself is tried at the
/// slowest pace at once. `jitter` is in `0.0..1.0`.
fn retry_in(failures: u32, is_final: bool, jitter: f64) -> Duration {
    let times = match is_final {
        true => u32::MAX,
        false => failures.saturating_sub(1),
    };
    doubled(FIRST_WAIT, times, LONGEST_WAIT * 2 / 3).mul_f64(1.0 + jitter / 2.0)
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

    fn token(lifetime: u64, refresh_in: Option<u64>) -> Due {
        Due::Token {
            lifetime: Duration::from_secs(lifetime),
            refresh_in: refresh_in.map(Duration::from_secs),
        }
    }

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
            let token = token(lifetime, None);
            assert_eq!(token.wait(0.0), Duration::from_secs(wait), "{token:?}");
        }
    }

    #[test]
    fn the_issuer_says_when_to_refresh_and_never_too_late_or_too_often() {
        for (lifetime, refresh_in, wait) in [
            (24 * HOUR, 2 * HOUR, 2 * HOUR),
            (HOUR, 30 * MINUTE, 30 * MINUTE),
            (HOUR, 2 * HOUR, 55 * MINUTE),
            (HOUR, 0, 10),
        ] {
            let token = token(lifetime, Some(refresh_in));
            assert_eq!(token.wait(0.0), Duration::from_secs(wait), "{token:?}");
        }
    }

    #[test]
    fn secrets_are_read_as_often_as_the_file_says() {
        let every = Duration::from_secs(HOUR);
        let secret = Due::Secret { every };
        assert_eq!(secret.wait(0.0), every);
        assert_eq!(secret.wait(1.0), every.mul_f64(0.9));
    }

    #[test]
    fn jitter_brings_a_refresh_forward_by_a_tenth_at_most() {
        let hour = token(HOUR, None);
        assert_eq!(hour.wait(0.5), Duration::from_secs(55 * MINUTE * 95 / 100));
        assert_eq!(hour.wait(1.0), Duration::from_secs(55 * MINUTE * 90 / 100));
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
                retry_in(failures, false, 0.0),
                Duration::from_secs_f64(least),
                "{failures}"
            );
            assert_eq!(
                retry_in(failures, false, 1.0),
                Duration::from_secs_f64(most),
                "{failures}"
            );
        }
    }
    #[test]
    fn what_will_not_pass_by_itself_is_tried_at_the_slowest_pace() {
        let slow = Duration::from_secs(40);
        assert_eq!(retry_in(1, true, 0.0), slow);
        assert_eq!(retry_in(9, true, 0.0), slow);
    }
}
