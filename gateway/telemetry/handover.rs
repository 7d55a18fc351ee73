//! Between the workers, who write, and the one who takes along what they have written: a bell that is rung when there
//! is enough, and memory that goes back and forth. Memory that was never used before would have to be cleared, and as
//! long as little of it is in use it stays in the processor's caches.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// What both sides share.
#[derive(Debug)]
pub(super) struct Handover {
    waiter: Waiter,
    /// In bytes, of each piece of memory.
    piece: usize,
    /// So many pieces are kept for the next.
    most: usize,
    spare: Mutex<Vec<Vec<u8>>>,
}

/// Who takes along what there is.
#[derive(Debug)]
enum Waiter {
    Thread(Arc<Bell>),
    Task(Arc<Notify>),
}

/// Pieces that grew, or were joined, are kept as long as they are no larger than so many others.
const LARGEST: usize = 16;

impl Handover {
    /// To a thread, of pieces of so many bytes, by so many workers.
    pub(super) fn to_thread(bell: Arc<Bell>, piece: usize, workers: usize) -> Self {
        Self::to(Waiter::Thread(bell), piece, workers)
    }

    /// To a task.
    pub(super) fn to_task(bell: Arc<Notify>, piece: usize, workers: usize) -> Self {
        Self::to(Waiter::Task(bell), piece, workers)
    }

    fn to(waiter: Waiter, piece: usize, workers: usize) -> Self {
        Self {
            waiter,
            piece,
            // One that is written, one that waits, and one that is under way.
            most: 3 * workers.max(1),
            spare: Mutex::default(),
        }
    }

    /// Says that there is enough.
    fn ring(&self) {
        match &self.waiter {
            Waiter::Thread(bell) => bell.ring(|rung| rung.enough = true),
            Waiter::Task(bell) => bell.notify_one(),
        }
    }

    /// Memory without anything in it.
    pub(super) fn memory(&self) -> Vec<u8> {
        let spare = self.spare().pop();
        spare.unwrap_or_else(|| Vec::with_capacity(self.piece))
    }

    /// Takes memory back. What is of another size was not handed out here.
    pub(super) fn give_back(&self, mut memory: Vec<u8>) {
        let is_piece = (self.piece..=LARGEST * self.piece).contains(&memory.capacity());
        let mut spare = self.spare();
        if is_piece && spare.len() < self.most {
            memory.clear();
            spare.push(memory);
        }
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those to be rung, once nothing is held that whoever hears them will ask for.
#[derive(Debug, Default)]
pub(super) struct Bells(Vec<Arc<Handover>>);

impl Bells {
    /// There is enough to be taken there.
    pub(super) fn add(&mut self, handover: &Arc<Handover>) {
        self.0.push(Arc::clone(handover));
    }

    /// Rings them.
    pub(super) fn ring(self) {
        for handover in self.0 {
            handover.ring();
        }
    }
}

/// What a thread waits for.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<Rung>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rung {
    /// There is enough to take.
    enough: bool,
    /// There will be no more.
    end: bool,
}

impl Bell {
    fn ring(&self, change: impl FnOnce(&mut Rung)) {
        change(&mut self.rung.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Says that there will be no more.
    pub(super) fn end(&self) {
        self.ring(|rung| rung.end = true);
    }

    /// Waits until there is enough, or for so long. Whether there will be more.
    pub(super) fn wait(&self, longest: Duration) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let is_quiet = |rung: &mut Rung| !rung.enough && !rung.end;
        let waited = self.changed.wait_timeout_while(rung, longest, is_quiet);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        rung.enough = false;
        !rung.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_back_and_forth_and_what_is_of_another_size_does_not() {
        let handover = Handover::to_task(Arc::default(), 1000, 1);
        let mut memory = handover.memory();
        memory.extend_from_slice(b"written");
        let place = memory.as_ptr();
        handover.give_back(memory);
        for _ in 0..10 {
            handover.give_back(Vec::with_capacity(300));
            handover.give_back(Vec::with_capacity(1 << 20));
        }
        let again = handover.memory();
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        let other = handover.memory();
        assert_ne!(other.as_ptr(), place);
        // No more than are of use.
        for _ in 0..10 {
            handover.give_back(Vec::with_capacity(1000));
        }
        assert_eq!(handover.spare().len(), 3);
    }

    #[test]
    fn a_bell_that_was_rung_before_is_heard_and_the_end_for_ever() {
        let bell: Arc<Bell> = Arc::default();
        let handover = Handover::to_thread(Arc::clone(&bell), 1000, 1);
        handover.ring();
        // It would wait for an hour.
        let long = Duration::from_secs(3600);
        assert!(bell.wait(long));
        assert!(bell.wait(Duration::ZERO), "once");
        bell.end();
        assert!(!bell.wait(long));
        assert!(!bell.wait(long));
    }
}
