//! A want of file descriptors: what is kept back for it, and who is told when it begins and ends.

use std::cell::Cell;
use std::fs::File;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::Shared;
use crate::clock::pause;
use crate::telemetry::{Level, event};

/// Descriptors are there again when none were missing for so long.
const RELIEVED_AFTER: Duration = Duration::from_secs(1);

/// What all workers share of the process's descriptors.
pub(super) struct Scarce {
    /// How many workers are out of them.
    short: AtomicUsize,
    /// One that is given up to learn who waits when there is no other. One for all: what a worker gives up, another
    /// one may get, and then it knows that none is left.
    spare: Mutex<Option<File>>,
}

impl Scarce {
    pub(super) fn new() -> Self {
        Self {
            short: AtomicUsize::new(0),
            spare: Mutex::new(open()),
        }
    }

    /// Keeps one descriptor back, unless one is already. Whether one is then: `false` where none is left.
    pub(super) fn keep_spare(&self) -> bool {
        let mut spare = self.lock();
        *spare = spare.take().or_else(open);
        spare.is_some()
    }

    /// Does something with the descriptor that is kept back, and keeps one back again if one is left then. None where
    /// there is none to be had.
    pub(super) fn without_spare<T>(&self, does: impl FnOnce() -> T) -> Option<T> {
        // Locked until it is over, so that no other worker gives up what may be the last.
        let mut spare = self.lock();
        drop(spare.take().or_else(open)?);
        let done = does();
        *spare = open();
        Some(done)
    }

    fn lock(&self) -> MutexGuard<'_, Option<File>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A descriptor that holds a place, where there is one left.
fn open() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Whether a worker is out of descriptors.
#[derive(Default)]
pub(super) struct Shortage {
    lasts: Cell<bool>,
    /// Whether it was seen since it was looked for.
    seen: Cell<bool>,
}

impl Shortage {
    pub(super) fn begins(self: &Rc<Self>, shared: &Rc<Shared>, scarce: &Arc<Scarce>) {
        self.seen.set(true);
        if self.lasts.replace(true) {
            return;
        }
        let clock = Arc::clone(&shared.worker.clock);
        if scarce.short.fetch_add(1, Ordering::Relaxed) == 0 {
            event(
                clock.now().unix,
                Level::Warning,
                "descriptors-exhausted",
                "the process has no file descriptors left: connections that nobody uses are closed, and further callers are sent away",
            );
        }
        let (shortage, scarce) = (Rc::clone(self), Arc::clone(scarce));
        tokio::task::spawn_local(async move {
            shortage.passes().await;
            if scarce.short.fetch_sub(1, Ordering::Relaxed) == 1 {
                event(
                    clock.now().unix,
                    Level::Info,
                    "descriptors-recovered",
                    "there are file descriptors again",
                );
            }
        });
    }

    /// Completes when none was missing for a while.
    async fn passes(&self) {
        while self.seen.take() {
            pause(RELIEVED_AFTER).await;
        }
        self.lasts.set(false);
    }
}
