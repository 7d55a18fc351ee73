//! Between the workers, who write, and the one who takes along what they have written: a bell that is rung when there
//! is enough, and memory that goes back and forth. Memory that was never used before would have to be cleared, and as
//! long as little of it is in use it stays in the processor's caches.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What both sides share.
pub(super) struct Handover {
    ring: Box<dyn Fn() + Send + Sync>,
    spare: Mutex<Vec<Vec<u8>>>,
}

/// So many pieces of memory are kept for the next.
const MOST_SPARE: usize = 8;
/// None that is larger is kept, in bytes.
const LARGEST_SPARE: usize = 1 << 20;

impl Handover {
    /// One whose bell is rung so.
    pub(super) fn new(ring: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            ring: Box::new(ring),
            spare: Mutex::default(),
        }
    }

    /// Says that there is enough.
    pub(super) fn ring(&self) {
        (self.ring)();
    }

    /// Takes memory back.
    pub(super) fn give_back(&self, mut memory: Vec<u8>) {
        let is_of_use = (1..=LARGEST_SPARE).contains(&memory.capacity());
        let mut spare = self.spare();
        if is_of_use && spare.len() < MOST_SPARE {
            memory.clear();
            spare.push(memory);
        }
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory without anything in it, for so many bytes: what came back, if there is any.
pub(super) fn memory(handover: Option<&Handover>, bytes: usize) -> Vec<u8> {
    let spare = handover.and_then(|handover| handover.spare().pop());
    spare.unwrap_or_else(|| Vec::with_capacity(bytes))
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover").finish_non_exhaustive()
    }
}
