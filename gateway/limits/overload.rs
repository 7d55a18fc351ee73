//! Overload: a bound on the requests that are under way through the whole gateway. What is cheapest to refuse goes
//! first: who has not proved who they are, then who holds more than their share, then everybody. Health is told on an
//! address of its own and never refused.

use std::collections::hash_map::{Entry, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::keys::Who;
use crate::denial::{Denial, Reason};

/// The requests that are under way.
#[derive(Default)]
pub(super) struct UnderWay {
    all: AtomicU64,
    /// Those who have proved who they are: nobody else has a share, for addresses can be had by the thousand.
    callers: Mutex<HashMap<Who, u64>>,
}

/// One of them, for as long as it is held.
pub(super) struct OneOf {
    under_way: Arc<UnderWay>,
    most: u64,
    who: Option<Who>,
}

/// From so many hundredths of the bound on, the unproved are refused.
const UNPROVED: u64 = 80;
/// And from so many on, those beyond their share.
const BEYOND_SHARE: u64 = 90;

impl UnderWay {
    /// Counts one more, if there is room for any.
    ///
    /// # Errors
    /// [`Reason::Overloaded`].
    pub(super) fn enter(self: &Arc<Self>, most: u64) -> Result<OneOf, Denial> {
        let before = self.all.fetch_add(1, Ordering::Relaxed);
        let one = OneOf {
            under_way: Arc::clone(self),
            most,
            who: None,
        };
        match before < most {
            true => Ok(one),
            false => Err(overloaded()),
        }
    }

    /// How many are under way.
    pub(super) fn count(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }
}

impl OneOf {
    /// Whether there is no room for who has not proved who they are.
    pub(super) fn is_pressed(&self) -> bool {
        self.is_beyond(UNPROVED)
    }

    /// The caller is known, and counted among those under way.
    ///
    /// # Errors
    /// [`Reason::Overloaded`], if it holds more than its share while there is little room.
    pub(super) fn taken_by(&mut self, who: Who) -> Result<(), Denial> {
        if matches!(who, Who::Address(_)) {
            return match self.is_pressed() {
                true => Err(overloaded()),
                false => Ok(()),
            };
        }
        let is_pressed = self.is_beyond(BEYOND_SHARE);
        let mut callers = self
            .under_way
            .callers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let others = callers.len() as u64;
        let held = callers.entry(who).or_default();
        let of_all = others + u64::from(*held == 0);
        let share = (self.most / of_all.max(1)).max(1);
        *held += 1;
        let is_beyond = *held > share;
        drop(callers);
        self.who = Some(who);
        match is_pressed && is_beyond {
            true => Err(overloaded()),
            false => Ok(()),
        }
    }

    fn is_beyond(&self, hundredths: u64) -> bool {
        self.under_way.count() * 100 > self.most * hundredths
    }
}

impl Drop for OneOf {
    fn drop(&mut self) {
        self.under_way.all.fetch_sub(1, Ordering::Relaxed);
        let Some(who) = self.who else { return };
        let mut callers = self
            .under_way
            .callers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut held) = callers.entry(who) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

impl fmt::Debug for OneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneOf").finish_non_exhaustive()
    }
}

/// What is refused for want of room may be asked again soon.
pub fn overloaded() -> Denial {
    Denial::from(Reason::Overloaded).retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AppId, TenantId};
    use uuid::Uuid;

    fn app(number: u128) -> Who {
        let id = Uuid::from_u128(number);
        Who::App(TenantId::new(id), AppId::new(id))
    }

    fn stranger() -> Who {
        Who::Address(std::net::IpAddr::from([192, 0, 2, 1]))
    }

    fn enters(under_way: &Arc<UnderWay>, who: Who) -> Result<OneOf, Denial> {
        let mut one = under_way.enter(100)?;
        one.taken_by(who).map(|()| one)
    }

    fn fill(under_way: &Arc<UnderWay>, who: Who, count: usize) -> Vec<OneOf> {
        let ones = (0..count).map(|_| enters(under_way, who).expect("room"));
        ones.collect()
    }

    #[test]
    fn strangers_from_many_addresses_make_nobodys_share_smaller() {
        let under_way = Arc::default();
        let addresses = (0..60).map(|last| Who::Address([192, 0, 2, last].into()));
        let mut held: Vec<OneOf> = addresses
            .map(|address| enters(&under_way, address).expect("room"))
            .collect();
        held.extend(fill(&under_way, app(1), 35));
        assert!(enters(&under_way, app(1)).is_ok());
    }

    #[test]
    fn the_unproved_go_first_then_those_beyond_their_share_then_everybody() {
        let under_way = Arc::default();
        let mut held = fill(&under_way, app(1), 78);
        held.extend(fill(&under_way, app(2), 1));
        held.extend(fill(&under_way, stranger(), 1));
        assert!(enters(&under_way, stranger()).is_err(), "the unproved");
        held.extend(fill(&under_way, app(1), 10));
        // The greedy one holds 88 of 90; its share, of two, is 50.
        assert!(enters(&under_way, app(1)).is_err(), "beyond its share");
        held.extend(fill(&under_way, app(2), 10));
        assert!(enters(&under_way, app(3)).is_err(), "everybody");
        assert_eq!(under_way.count(), 100, "who is refused is not counted");
        held.truncate(50);
        assert!(enters(&under_way, stranger()).is_ok());
        drop(held);
        assert_eq!(under_way.count(), 0);
        assert!(under_way.callers.lock().expect("not poisoned").is_empty());
    }
}
