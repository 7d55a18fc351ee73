//! The `Authorization`s that the connections of a worker hold on to. Many bring the same one: it is held once.

use std::cell::RefCell;
use std::fmt;
use std::hash::BuildHasher as _;
use std::rc::Rc;

use bytes::Bytes;
use foldhash::fast::RandomState;

use crate::secret::Secret;

/// So many are found again; of further ones, each connection holds its own.
const PLACES: usize = 64;

/// By so many bytes at its end, where the signature of a token stands, one is told from another. Who could learn
/// something from how long it takes to compare the rest knows all of these.
const TOLD_BY: usize = 32;

/// What was brought last, by its end.
#[derive(Clone, Default)]
pub struct Authorizations(Rc<Shared>);

struct Shared {
    hasher: RandomState,
    places: RefCell<[Option<Secret<Bytes>>; PLACES]>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            hasher: RandomState::default(),
            places: RefCell::new([const { None }; PLACES]),
        }
    }
}

impl Authorizations {
    /// What tells a value from others: equal for equal values, and hardly ever for different ones.
    pub(super) fn told(&self, value: &[u8]) -> u64 {
        self.0.hasher.hash_one(end(value))
    }

    /// The value, told by `told`, if a connection holds it.
    pub(super) fn find(&self, value: &[u8], told: u64) -> Option<Secret<Bytes>> {
        let places = self.0.places.borrow();
        let held = places.get(place(told))?.as_ref()?;
        let is_it = end(held.expose()) == end(value) && **held.expose() == *value;
        is_it.then(|| held.clone())
    }

    /// The value, told by `told`, in a copy that is shared with whoever brings the same.
    pub(super) fn keep(&self, value: &[u8], told: u64) -> Secret<Bytes> {
        self.find(value, told).unwrap_or_else(|| {
            let kept = Secret::new(Bytes::copy_from_slice(value));
            if let Some(place) = self.0.places.borrow_mut().get_mut(place(told)) {
                *place = Some(kept.clone());
            }
            kept
        })
    }

    /// Forgets those that no connection holds any more. To be called now and then.
    pub(in crate::server) fn tidy(&self) {
        for place in self.0.places.borrow_mut().iter_mut() {
            *place = place.take().filter(|held| !held.expose().is_unique());
        }
    }
}

fn place(told: u64) -> usize {
    told as usize % PLACES
}

fn end(value: &[u8]) -> &[u8] {
    value.last_chunk::<TOLD_BY>().map_or(value, |end| end)
}

/// Says nothing of what is held.
impl fmt::Debug for Authorizations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorizations").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(held: &Authorizations, value: &[u8]) -> Secret<Bytes> {
        held.keep(value, held.told(value))
    }

    fn is_one(one: &Secret<Bytes>, other: &Secret<Bytes>) -> bool {
        one.expose().as_ptr() == other.expose().as_ptr()
    }

    #[test]
    fn what_is_brought_again_is_held_once() {
        let held = Authorizations::default();
        let long = format!("Bearer {}", "a".repeat(2000));
        for value in [&long, "Bearer a", ""] {
            let told = held.told(value.as_bytes());
            assert!(held.find(value.as_bytes(), told).is_none());
            let (one, other) = (keep(&held, value.as_bytes()), keep(&held, value.as_bytes()));
            assert_eq!(one.expose(), value.as_bytes());
            assert!(is_one(&one, &other), "{} bytes", value.len());
        }
    }

    #[test]
    fn what_differs_anywhere_is_another() {
        let held = Authorizations::default();
        let value = format!("Bearer {}", "a".repeat(100));
        for at in 0..value.len() {
            let mut other = value.clone().into_bytes();
            other[at] = b'b';
            let (one, other_kept) = (keep(&held, value.as_bytes()), keep(&held, &other));
            assert_eq!(one.expose(), value.as_bytes(), "{at}");
            assert_eq!(*other_kept.expose(), other, "{at}");
        }
        let shorter = &value[1..];
        assert_eq!(keep(&held, shorter.as_bytes()).expose(), shorter.as_bytes());
    }

    #[test]
    fn what_no_connection_holds_is_forgotten() {
        let held = Authorizations::default();
        let (one, other) = (keep(&held, b"one"), keep(&held, b"other"));
        drop(other);
        held.tidy();
        let left = || held.0.places.borrow().iter().flatten().count();
        assert_eq!(left(), 1);
        assert!(is_one(&one, &keep(&held, b"one")));
        drop(one);
        held.tidy();
        assert_eq!(left(), 0);
    }
}
