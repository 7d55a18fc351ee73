//! The proof that a request is within its limits, and what lasts as long as the request does.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use super::gate::Permit;
use super::keys::Key;
use super::limit::Limit;
use super::overload::OneOf;
use super::store::Ticking;

/// The proof that a request is within its limits, for as long as it is under way. Only
/// [`Limits::admit`](super::Limits::admit) makes it.
#[derive(Debug)]
pub struct Slot(pub(super) Option<Rc<Held>>);

/// Counts bytes of a request's body beside its [`Slot`].
#[derive(Clone, Debug, Default)]
pub struct Passing(Option<Rc<Held>>);

/// What a request holds until it is over.
pub(super) struct Held {
    pub(super) permits: RefCell<Vec<Permit>>,
    /// The limits on bytes, and whom they count for.
    pub(super) by_bytes: Vec<(Arc<Limit>, Key)>,
    pub(super) bytes: Cell<u64>,
    #[expect(dead_code, reason = "it is counted for as long as it is held")]
    pub(super) one: Option<OneOf>,
    pub(super) ticking: Ticking,
}

impl Slot {
    /// The answer has begun, by the backend's own word.
    pub fn answered(&self) {
        self.permits(Permit::answered);
    }

    /// No answer came.
    pub fn failed(&self) {
        self.permits(Permit::failed);
    }

    /// So many bytes of the answer's body have passed.
    pub fn add(&self, bytes: usize) {
        if let Some(held) = &self.0 {
            held.add(bytes);
        }
    }

    fn permits(&self, tell: impl Fn(&mut Permit)) {
        if let Some(held) = &self.0 {
            held.permits.borrow_mut().iter_mut().for_each(tell);
        }
    }

    /// What counts the bytes that pass, if any limit asks for them.
    pub fn passing(&self) -> Passing {
        let held = self.0.as_ref().filter(|held| !held.by_bytes.is_empty());
        Passing(held.cloned())
    }
}

impl Passing {
    /// So many bytes have passed.
    pub fn add(&self, bytes: usize) {
        if let Some(held) = &self.0 {
            held.add(bytes);
        }
    }
}

impl Held {
    /// What lasts for long is not counted at its end alone: no more than so many bytes are, at once.
    const COUNTED_AT_ONCE: u64 = 1024 * 1024;

    fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
        if self.bytes.get() >= Self::COUNTED_AT_ONCE {
            self.count();
        }
    }

    /// Counts the bytes that have passed since it last did.
    fn count(&self) {
        let bytes = self.bytes.take();
        // Most requests have no limit on bytes, and need no clock.
        if bytes == 0 || self.by_bytes.is_empty() {
            return;
        }
        let now = self.ticking.clock.now();
        let moment = self.ticking.at(&now);
        for (limit, key) in &self.by_bytes {
            limit.passed(key, bytes, &now, moment);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.count();
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}
