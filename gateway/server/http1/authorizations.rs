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
    /// The value, in a copy that is shared with whoever brought the same.
    pub(super) fn keep(&self, value: &[u8]) -> Secret<Bytes> {
        let Shared { hasher, places } = &*self.0;
        let end = end(value);
        let place = hasher.hash_one(end) as usize % PLACES;
        let mut places = places.borrow_mut();
        let place = places.get_mut(place);
        if let Some(Some(held)) = &place
            && self::end(held.expose()) == end
            && **held.expose() == *value
        {
            return held.clone();
        }
        let kept = Secret::new(Bytes::copy_from_slice(value));
        if let Some(place) = place {
            *place = Some(kept.clone());
        }
        kept
    }

    /// Forgets those that no connection holds any more. To be called now and then.
    pub(in crate::server) fn tidy(&self) {
        for place in self.0.places.borrow_mut().iter_mut() {
            *place = place.take().filter(|held| !held.expose().is_unique());
        }
    }
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

    fn is_one(one: &Secret<Bytes>, other: &Secret<Bytes>) -> bool {
        one.expose().as_ptr() == other.expose().as_ptr()
    }

    #[test]
    fn what_is_brought_again_is_held_once() {
        let held = Authorizations::default();
        let long = format!("Bearer {}", "a".repeat(2000));
        for value in [&long, "Bearer a", ""] {
            let (one, other) = (held.keep(value.as_bytes()), held.keep(value.as_bytes()));
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
            let (one, other_kept) = (held.keep(value.as_bytes()), held.keep(&other));
            assert_eq!(one.expose(), value.as_bytes(), "{at}");
            assert_eq!(*other_kept.expose(), other, "{at}");
        }
        let shorter = &value[1..];
        assert_eq!(held.keep(shorter.as_bytes()).expose(), shorter.as_bytes());
    }

    #[test]
    fn what_no_connection_holds_is_forgotten() {
        let held = Authorizations::default();
        let (one, other) = (held.keep(b"one"), held.keep(b"other"));
        drop(other);
        held.tidy();
        let left = || held.0.places.borrow().iter().flatten().count();
        assert_eq!(left(), 1);
        assert!(is_one(&one, &held.keep(b"one")));
        drop(one);
        held.tidy();
        assert_eq!(left(), 0);
    }
}
