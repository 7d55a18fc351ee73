//! Time, as the rest of the gateway sees it: read once per request and passed down, and the only
//! place where the system's clocks are read and where anything sleeps. Tests hand in a clock that
//! they move by hand.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt as _;
use tokio::sync::oneshot;

/// One reading of the clocks: wall time for tokens, monotonic time for durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time since the Unix epoch, by the wall clock.
    pub unix: Duration,
    /// The monotonic clock.
    pub instant: Instant,
}

impl Now {
    /// Whole seconds since the Unix epoch, as `exp` and `nbf` count them (RFC 7519 section 2).
    pub fn unix_seconds(&self) -> u64 {
        self.unix.as_secs()
    }

    /// The same reading, `by` later.
    pub fn later(self, by: Duration) -> Self {
        Self {
            unix: self.unix + by,
            instant: self.instant + by,
        }
    }
}

/// A sleep that ends when its clock says so.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The seam that tests replace.
pub trait Clock: Send + Sync + 'static {
    /// Reads both clocks.
    fn now(&self) -> Now;
    /// Reads the monotonic clock alone, for who measures a duration.
    fn instant(&self) -> Instant {
        self.now().instant
    }
    /// Completes when `duration` has passed on this clock.
    fn sleep(&self, duration: Duration) -> Sleep;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the room of the system clock"
    )]
    fn now(&self) -> Now {
        Now {
            // A clock before 1970 would let no token verify: every `nbf` lies ahead. That is the
            // safe direction, so it is not an error of its own.
            unix: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or(Duration::ZERO),
            instant: Instant::now(),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the room of the system clock"
    )]
    fn instant(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(pause(duration))
    }
}

/// Sleeps by the machine's timer: for limits on input and output, which no test needs to move.
#[expect(clippy::disallowed_methods, reason = "this is the room of sleep")]
pub fn pause(duration: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(duration)
}

/// Bounds a future by the machine's timer. `None` when the time ran out. To be called on a runtime.
///
/// No `async fn`: that would keep room for the future twice, as it is given and as it is awaited.
pub fn within<F: Future>(
    limit: Duration,
    future: F,
) -> impl Future<Output = Option<F::Output>> + use<F> {
    #[expect(clippy::disallowed_methods, reason = "this is the room of timeouts")]
    tokio::time::timeout(limit, future).map(Result::ok)
}

/// A wait that is doubled each time, up to `most`.
pub fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(most)
}

/// How long something takes, by the machine's clock: for limits on input and output, which no test needs to move.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(tokio::time::Instant);

impl Stopwatch {
    /// Begins to measure.
    #[expect(clippy::disallowed_methods, reason = "this is the room of timeouts")]
    pub fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// What has passed since.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A timer, by the machine's clock, that is set anew for every request and hardly ever rings: setting it costs no
/// more than reading the clock.
pub struct Alarm {
    sleep: Pin<Box<tokio::time::Sleep>>,
    deadline: tokio::time::Instant,
}

impl Alarm {
    /// An alarm that is set to `limit` from now.
    pub fn new(limit: Duration) -> Self {
        let sleep = Box::pin(pause(limit));
        Self {
            deadline: sleep.deadline(),
            sleep,
        }
    }

    /// Sets it to `limit` from now.
    #[expect(clippy::disallowed_methods, reason = "this is the room of timeouts")]
    pub fn set(&mut self, limit: Duration) {
        self.deadline = tokio::time::Instant::now() + limit;
        // A later deadline is looked at when the earlier one has come.
        if self.deadline < self.sleep.deadline() {
            self.sleep.as_mut().reset(self.deadline);
        }
    }

    /// Rings once the time that it was set to has passed.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if self.sleep.deadline() >= self.deadline {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.deadline);
        }
    }
}

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub struct ManualClock(Arc<Mutex<Manual>>);

struct Manual {
    now: Now,
    sleepers: Vec<(Instant, oneshot::Sender<()>)>,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: Now) -> Self {
        Self(Arc::new(Mutex::new(Manual {
            now,
            sleepers: Vec::new(),
        })))
    }

    /// Moves the clock and wakes those whose sleep is over.
    pub fn advance(&self, by: Duration) {
        let mut manual = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        manual.now = manual.now.later(by);
        let now = manual.now.instant;
        let (due, waiting) = std::mem::take(&mut manual.sleepers)
            .into_iter()
            .partition::<Vec<_>, _>(|(at, _)| *at <= now);
        manual.sleepers = waiting;
        drop(manual);
        for (_, sleeper) in due {
            // A sleeper that was dropped needs no waking.
            let _ = sleeper.send(());
        }
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let (sleeper, woken) = oneshot::channel();
        let mut manual = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = manual.now.instant + duration;
        manual.sleepers.push((at, sleeper));
        drop(manual);
        Box::pin(async move {
            // INVARIANT: the sender lives in the clock, so this errs only when the clock is gone.
            if woken.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}
