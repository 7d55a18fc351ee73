//! What is made of secrets that may change while the gateway runs: sealing keys, the key of fingerprints, a
//! SAS signature. It is made anew when one of them has changed; what cannot be used is told, and the last
//! good one stays.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::{Held, Slot};
use crate::clock::Now;
use crate::secret::Secret;

/// Something made of secrets.
pub struct Derived<T> {
    places: Vec<Held<String>>,
    make: Make<T>,
    seen: ArcSwapOption<Seen<T>>,
}

/// Makes it of the secrets that are there, or says why it cannot, without showing them.
pub type Make<T> = fn(&[Secret<String>]) -> Result<T, String>;

/// The secrets as they were seen last, and what came of them.
struct Seen<T> {
    texts: Vec<Option<Secret<String>>>,
    value: Option<Arc<T>>,
    fault: Option<String>,
}

impl<T> Derived<T> {
    /// Made by `make` of what these places hold.
    pub fn new(places: Vec<Held<String>>, make: Make<T>) -> Arc<Self> {
        Arc::new(Self {
            places,
            make,
            seen: ArcSwapOption::empty(),
        })
    }

    /// What can be made of the secrets as they are now, or was made last. Secrets that were not read yet
    /// are left out.
    pub fn current(&self, now: &Now) -> Option<Arc<T>> {
        self.looked(now).value.clone()
    }

    /// As [`Derived::current`], but waits, no longer than `wait`, while secrets are read for the first
    /// time.
    pub async fn ready(&self, now: &Now, wait: Duration) -> Option<Arc<T>> {
        if let Some(value) = self.current(now) {
            return Some(value);
        }
        for slot in self.slots() {
            slot.first_fetch(wait).await;
        }
        self.current(now)
    }

    /// Why what is there cannot be used.
    pub fn fault(&self, now: &Now) -> Option<String> {
        self.looked(now).fault.clone()
    }

    fn looked(&self, now: &Now) -> Arc<Seen<T>> {
        let seen = self.seen.load_full();
        if let Some(seen) = seen.as_ref().filter(|seen| self.is_unchanged(seen, now)) {
            return Arc::clone(seen);
        }
        let texts: Vec<_> = self.places.iter().map(|place| place.text(now)).collect();
        let there: Vec<Secret<String>> = texts.iter().flatten().cloned().collect();
        let last = || seen.as_ref().and_then(|seen| seen.value.clone());
        let (value, fault) = match there.is_empty() {
            true => (last(), None),
            false => match (self.make)(&there) {
                Ok(value) => (Some(Arc::new(value)), None),
                Err(fault) => (last(), Some(fault)),
            },
        };
        let seen = Arc::new(Seen {
            texts,
            value,
            fault,
        });
        self.seen.store(Some(Arc::clone(&seen)));
        seen
    }

    fn is_unchanged(&self, seen: &Seen<T>, now: &Now) -> bool {
        let mut places = self.places.iter().zip(&seen.texts);
        places.all(|(place, text)| match place {
            Held::Fixed(_) => true,
            Held::Slot(slot) => slot.holds(text.as_ref(), now),
        })
    }

    /// The slots of the secrets that are kept fresh.
    pub fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.places.iter().filter_map(Held::slot)
    }
}

impl Held<String> {
    /// What is held now. `None` where it has not been fetched.
    pub fn text(&self, now: &Now) -> Option<Secret<String>> {
        match self {
            Self::Fixed(text) => Some(text.clone()),
            Self::Slot(slot) => slot.text(now),
        }
    }
}

impl<T> fmt::Debug for Derived<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Derived").field(&self.places.len()).finish()
    }
}
