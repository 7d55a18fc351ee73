//! The slots that are in use. Routes, backends and snapshots that want the same token share one, so
//! that a reload fetches nothing that is there already, and the identity endpoint, which throttles,
//! is asked once.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::Handle;

use super::identity::{FetchFailure, ManagedIdentity, TokenSource};
use super::slot::Slot;
use crate::clock::Clock;

/// All managed identity tokens of the process.
pub struct Credentials {
    clock: Arc<dyn Clock>,
    source: Arc<dyn TokenSource>,
    control: Handle,
    slots: Mutex<HashMap<ManagedIdentity, Weak<Slot>>>,
}

impl Credentials {
    /// Tokens come from `source`, and are kept fresh by tasks on the runtime `control`.
    pub fn new(clock: Arc<dyn Clock>, source: Arc<dyn TokenSource>, control: Handle) -> Arc<Self> {
        Arc::new(Self {
            clock,
            source,
            control,
            slots: Mutex::default(),
        })
    }

    /// The slot of this token. The first to ask starts the fetching; when the last holder lets go,
    /// it ends.
    pub fn managed_identity(&self, wanted: ManagedIdentity) -> Arc<Slot> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(&wanted).and_then(Weak::upgrade) {
            return slot;
        }
        slots.retain(|_, slot| slot.strong_count() > 0);
        let slot = Slot::start(
            wanted.clone(),
            self.source.clone(),
            self.clock.clone(),
            &self.control,
        );
        slots.insert(wanted, Arc::downgrade(&slot));
        slot
    }

    /// Whether this identity can be had here at all, as far as can be said without asking anybody:
    /// for the checks at start and reload.
    pub fn check(&self, wanted: &ManagedIdentity) -> Result<(), FetchFailure> {
        self.source.check(wanted)
    }

    /// Every slot in use, in no order: for readiness and metrics.
    pub fn in_use(&self) -> Vec<Arc<Slot>> {
        self.slots().values().filter_map(Weak::upgrade).collect()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<ManagedIdentity, Weak<Slot>>> {
        // Whole after every statement: a panic elsewhere spoils nothing.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}
