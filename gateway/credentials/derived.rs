//! What is made of secrets that may change while the gateway runs: sealing keys, the key of fingerprints.
//! It is made anew when one of them has changed, and the last good one stays.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::Held;
use crate::clock::Now;
use crate::secret::Secret;

/// Something made of secrets.
pub struct Derived<T> {
    places: Vec<Held<String>>,
    make: fn(&[Secret<String>]) -> Option<T>,
    made: ArcSwapOption<Made<T>>,
}

struct Made<T> {
    of: Vec<Secret<String>>,
    value: Arc<T>,
}

impl<T> Derived<T> {
    /// Made by `make` of what these places hold.
    pub fn new(places: Vec<Held<String>>, make: fn(&[Secret<String>]) -> Option<T>) -> Self {
        Self {
            places,
            make,
            made: ArcSwapOption::empty(),
        }
    }

    /// What can be made of the secrets as they are now, or was made last.
    pub fn current(&self, now: &Now) -> Option<Arc<T>> {
        let made = self.made.load();
        let is_fixed = self
            .places
            .iter()
            .all(|place| matches!(place, Held::Fixed(_)));
        if let (Some(made), true) = (&*made, is_fixed) {
            return Some(Arc::clone(&made.value));
        }
        let last = || made.as_ref().map(|made| Arc::clone(&made.value));
        let texts = self.places.iter().map(|place| match place {
            Held::Fixed(text) => Some(text.clone()),
            Held::Slot(slot) => slot.text(now),
        });
        let Some(texts) = texts.collect::<Option<Vec<_>>>() else {
            return last();
        };
        if made.as_ref().is_some_and(|made| made.of == texts) {
            return last();
        }
        let Some(value) = (self.make)(&texts) else {
            return last();
        };
        let value = Arc::new(value);
        self.made.store(Some(Arc::new(Made {
            of: texts,
            value: Arc::clone(&value),
        })));
        Some(value)
    }

    /// The slots of the secrets that are kept fresh.
    pub fn slots(&self) -> impl Iterator<Item = &Arc<super::Slot>> {
        self.places.iter().filter_map(Held::slot)
    }
}

impl<T> fmt::Debug for Derived<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Derived").field(&self.places.len()).finish()
    }
}
