//! Places for connections: so many in all workers, and so many for each address. They are counted when a
//! connection is accepted and when it ends, and at no other time.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::net::address::subscriber;
use crate::telemetry::Closed;

/// The places that all workers share.
#[derive(Debug)]
pub(super) struct Places {
    taken: AtomicUsize,
    most: usize,
    addresses: Option<Addresses>,
}

/// How many connections each address has, in parts of their own, so that workers seldom wait for each other.
#[derive(Debug)]
struct Addresses {
    most: usize,
    parts: [Mutex<HashMap<IpAddr, usize>>; 16],
    hash: RandomState,
}

/// A connection's place, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    /// The address, where it is counted.
    counted: Option<IpAddr>,
}

impl Places {
    /// So many in all, and so many for each address.
    pub(super) fn new(most: usize, most_per_address: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            most,
            addresses: most_per_address.map(|most| Addresses {
                most,
                parts: Default::default(),
                hash: RandomState::new(),
            }),
        })
    }

    /// A place for a connection from `peer`.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr) -> Result<Place, Closed> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        // Given back when it is dropped, whatever comes of it.
        let mut place = Place {
            places: Arc::clone(self),
            counted: None,
        };
        if before >= self.most {
            return Err(Closed::TooMany);
        }
        if let Some(addresses) = &self.addresses {
            let network = subscriber(peer);
            if !addresses.take(network) {
                return Err(Closed::TooManyFromAddress);
            }
            place.counted = Some(network);
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let (Some(addresses), Some(network)) = (&self.places.addresses, self.counted) {
            addresses.leave(network);
        }
        self.places.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Addresses {
    fn part(&self, network: IpAddr) -> Option<MutexGuard<'_, HashMap<IpAddr, usize>>> {
        let at = self.hash.hash_one(network) % self.parts.len() as u64;
        let part = self.parts.get(usize::try_from(at).ok()?)?;
        Some(part.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there was room for one more.
    fn take(&self, network: IpAddr) -> bool {
        let Some(mut part) = self.part(network) else {
            return false;
        };
        let count = part.entry(network).or_default();
        let has_room = *count < self.most;
        *count += usize::from(has_room);
        has_room
    }

    fn leave(&self, network: IpAddr) {
        let Some(mut part) = self.part(network) else {
            return;
        };
        if let Some(count) = part.get_mut(&network) {
            *count -= 1;
            // Who has left costs nothing.
            if *count == 0 {
                part.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_its_places_and_no_more_until_it_gives_one_back() {
        let places = Places::new(10, Some(2));
        for (one, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"),
        ] {
            let first = places.take(address(one)).expect("room");
            let second = places.take(address(same)).expect("room");
            let third = places.take(address(one));
            assert_eq!(third.err(), Some(Closed::TooManyFromAddress), "{one}");
            let elsewhere = places.take(address(other)).expect("room");
            drop(first);
            let again = places.take(address(same)).expect("room");
            drop((second, elsewhere, again));
        }
        assert_eq!(places.taken.load(Ordering::Relaxed), 0);
        let parts = &places.addresses.as_ref().expect("counted").parts;
        let kept = parts.iter().map(|part| part.lock().expect("sound").len());
        assert_eq!(kept.sum::<usize>(), 0, "who has left is forgotten");
    }

    #[test]
    fn there_are_so_many_in_all_whoever_has_them() {
        let places = Places::new(2, None);
        let first = places.take(address("192.0.2.1")).expect("room");
        let _second = places.take(address("192.0.2.1")).expect("room");
        for _ in 0..3 {
            let third = places.take(address("192.0.2.3"));
            assert_eq!(third.err(), Some(Closed::TooMany));
        }
        drop(first);
        assert!(places.take(address("192.0.2.3")).is_ok());
    }

    #[test]
    fn workers_that_take_and_leave_at_once_never_exceed_what_there_is() {
        let places = Places::new(100, Some(3));
        let peer = address("192.0.2.1");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let held: Vec<_> = (0..4).map_while(|_| places.take(peer).ok()).collect();
                        assert!(held.len() <= 3);
                    }
                });
            }
        });
        assert_eq!(places.taken.load(Ordering::Relaxed), 0);
        assert!(places.take(peer).is_ok());
    }
}
