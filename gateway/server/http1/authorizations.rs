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

/// By so many bytes at its end, where the signature of a token stands, one is told from another. What is shorter is
/// no token.
const TOLD_BY: usize = 32;

/// What is longer is not held: usual tokens are shorter, and strangers could fill memory with it.
const LONGEST: usize = 4 * 1024;

/// What was brought last, by its end.
#[derive(Clone, Default)]
pub struct Authorizations(Rc<Shared>);

struct Shared {
    hasher: RandomState,
    places: RefCell<[Place; PLACES]>,
}

type Place = Option<(Told, Secret<Bytes>)>;

/// What tells a value from others: equal for equal values, and hardly ever for different ones. Nobody else can
/// reckon it, so that nobody can have a value compared with one whose end they do not know, and learn something from
/// how long that takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told(u64);

impl Told {
    fn place(self) -> usize {
        self.0 as usize % PLACES
    }
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
    /// What tells a value from others. None for one that is not held.
    pub(super) fn told(&self, value: &[u8]) -> Option<Told> {
        let end = value.last_chunk::<TOLD_BY>()?;
        (value.len() <= LONGEST).then(|| Told(self.0.hasher.hash_one(end)))
    }

    /// The value, if a connection holds it.
    pub(super) fn find(&self, value: &[u8], told: Told) -> Option<Secret<Bytes>> {
        let places = self.0.places.borrow();
        let (held_told, held) = places.get(told.place())?.as_ref()?;
        (*held_told == told && **held.expose() == *value).then(|| held.clone())
    }

    /// The value, in a copy that is shared with whoever brings the same.
    pub(super) fn keep(&self, value: &[u8], told: Told) -> Secret<Bytes> {
        self.find(value, told).unwrap_or_else(|| {
            let kept = Secret::new(Bytes::copy_from_slice(value));
            if let Some(place) = self.0.places.borrow_mut().get_mut(told.place()) {
                *place = Some((told, kept.clone()));
            }
            kept
        })
    }

    /// Forgets those that no connection holds any more. To be called now and then.
    pub(in crate::server) fn tidy(&self) {
        for place in self.0.places.borrow_mut().iter_mut() {
            *place = place.take().filter(|(_, held)| !held.expose().is_unique());
        }
    }
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

    fn keep(held: &Authorizations, value: &str) -> Secret<Bytes> {
        let told = held.told(value.as_bytes()).expect("a value to be held");
        held.keep(value.as_bytes(), told)
    }

    fn is_one(one: &Secret<Bytes>, other: &Secret<Bytes>) -> bool {
        one.expose().as_ptr() == other.expose().as_ptr()
    }

    fn token(letter: &str, length: usize) -> String {
        format!("Bearer {}", letter.repeat(length))
    }

    #[test]
    fn what_is_brought_again_is_held_once() {
        let held = Authorizations::default();
        for value in [token("a", 2000), token("a", TOLD_BY)] {
            let told = held.told(value.as_bytes()).expect("a value to be held");
            assert!(held.find(value.as_bytes(), told).is_none());
            let (one, other) = (keep(&held, &value), keep(&held, &value));
            assert_eq!(one.expose(), value.as_bytes());
            assert!(is_one(&one, &other), "{} bytes", value.len());
        }
    }

    #[test]
    fn what_is_no_token_and_what_is_longer_than_any_is_not_held() {
        let held = Authorizations::default();
        for value in ["", "Bearer a", &token("a", LONGEST)] {
            assert_eq!(held.told(value.as_bytes()), None, "{} bytes", value.len());
        }
    }

    #[test]
    fn what_differs_anywhere_is_another() {
        let held = Authorizations::default();
        let value = token("a", 100);
        for at in 0..value.len() {
            let mut other = value.clone();
            other.replace_range(at..=at, "b");
            let (one, other_kept) = (keep(&held, &value), keep(&held, &other));
            assert_eq!(one.expose(), value.as_bytes(), "{at}");
            assert_eq!(other_kept.expose(), other.as_bytes(), "{at}");
        }
        let shorter = &value[1..];
        assert_eq!(keep(&held, shorter).expose(), shorter.as_bytes());
    }

    #[test]
    fn what_no_connection_holds_is_forgotten() {
        let held = Authorizations::default();
        let (one, other) = (token("a", 100), token("b", 100));
        let (kept, given_up) = (keep(&held, &one), keep(&held, &other));
        drop(given_up);
        held.tidy();
        let is_held = |value: &str| {
            let told = held.told(value.as_bytes()).expect("a value to be held");
            held.find(value.as_bytes(), told).is_some()
        };
        assert!(is_held(&one) && !is_held(&other));
        drop(kept);
        held.tidy();
        assert!(!is_held(&one));
    }
}
