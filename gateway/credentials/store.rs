//! The slots that are in use. Routes, backends and snapshots that want the same share one, so that a
//! reload fetches nothing that is there already, and the identity endpoint, which throttles, is asked
//! once.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::Handle;

use super::slot::{Needs, Slot};
use super::source::{FetchFailure, Source};
use super::wanted::{Identity, Place, Proof, Wanted, WantedToken};
use crate::clock::{Clock, Now};

/// All tokens and fetched secrets of the process.
pub struct Credentials {
    clock: Arc<dyn Clock>,
    source: Arc<dyn Source>,
    control: Handle,
    slots: Mutex<HashMap<Wanted, Weak<Slot>>>,
}

impl Credentials {
    /// They come from `source`, and are kept fresh by tasks on the runtime `control`.
    pub fn new(clock: Arc<dyn Clock>, source: Arc<dyn Source>, control: Handle) -> Arc<Self> {
        Arc::new(Self {
            clock,
            source,
            control,
            slots: Mutex::default(),
        })
    }

    /// The slot of this token or secret. The first to ask starts the fetching; when the last holder lets
    /// go, it ends.
    pub fn slot(&self, wanted: Wanted) -> Arc<Slot> {
        if let Some(slot) = self.slots().get(&wanted).and_then(Weak::upgrade) {
            return slot;
        }
        // Before the lock is taken: what is needed is a slot, too.
        let needs = self.needs(&wanted);
        let mut slots = self.slots();
        if let Some(slot) = slots.get(&wanted).and_then(Weak::upgrade) {
            return slot;
        }
        slots.retain(|_, slot| slot.strong_count() > 0);
        let slot = Slot::start(
            wanted.clone(),
            needs,
            self.source.clone(),
            self.clock.clone(),
            &self.control,
        );
        slots.insert(wanted, Arc::downgrade(&slot));
        slot
    }

    fn needs(&self, wanted: &Wanted) -> Needs {
        match wanted {
            Wanted::Secret(wanted) => Needs::Slot(self.slot(Wanted::Token(wanted.shown()))),
            Wanted::Token(WantedToken {
                identity: Identity::App { proof, .. },
                ..
            }) => {
                let (Proof::Secret(place) | Proof::Certificate(place)) = proof;
                match place {
                    Place::Here(from) => Needs::Here(from.clone()),
                    Place::Vault(secret) => {
                        Needs::Slot(self.slot(Wanted::Secret((**secret).clone())))
                    }
                }
            }
            Wanted::Token(_) => Needs::Nothing,
        }
    }

    /// The time.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// Whether this can be had here at all, as far as can be said without asking anybody: for the checks
    /// at start and reload.
    ///
    /// # Errors
    /// What to write instead.
    pub fn check(&self, wanted: &Wanted) -> Result<(), FetchFailure> {
        self.source.check(wanted)
    }

    /// Every slot in use, in no order: for readiness and metrics.
    pub fn in_use(&self) -> Vec<Arc<Slot>> {
        self.slots().values().filter_map(Weak::upgrade).collect()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Wanted, Weak<Slot>>> {
        // Whole after every statement: a panic elsewhere spoils nothing.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}
