//! The connections that a worker serves, so that those that nobody uses can be asked to go when there is want.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::stall::Movement;
use crate::telemetry::Closed;

/// A worker's connections, in the order in which they came.
#[derive(Default)]
pub(super) struct Present {
    next: Cell<u64>,
    movements: RefCell<BTreeMap<u64, Rc<Movement>>>,
}

/// At least so many go at once. Each that is served needs a descriptor for its backend as well.
const LEAST: usize = 4;

/// Of those that could go, at most this part goes at once: looking through all of them is not free.
const PART: usize = 16;

impl Present {
    /// Adds a connection. What it is called here, until it leaves.
    pub(super) fn enter(&self, movement: &Rc<Movement>) -> u64 {
        let name = self.next.get();
        self.next.set(name + 1);
        let mut movements = self.movements.borrow_mut();
        movements.insert(name, Rc::clone(movement));
        name
    }

    /// Removes one.
    pub(super) fn leave(&self, name: u64) {
        self.movements.borrow_mut().remove(&name);
    }

    /// Sees to it that some connection goes, if nobody uses it.
    pub(super) fn make_room(&self) {
        let goes = |movement: &Rc<Movement>| movement.why() == Some(Closed::Descriptors);
        let is_going = self.movements.borrow().values().any(goes);
        if !is_going {
            self.shed();
        }
    }

    /// Ends some of the connections on which no request is answered: those that have been idle longest, as far as
    /// their minders have noticed, and of the others those that came first. How many.
    pub(super) fn shed(&self) -> usize {
        let movements = self.movements.borrow();
        let idle = movements.values().filter(|movement| movement.may_go());
        let mut idle: Vec<&Rc<Movement>> = idle.collect();
        idle.sort_by_key(|movement| Reverse(movement.quiet()));
        idle.truncate(LEAST.max(idle.len() / PART));
        for movement in &idle {
            movement.end(Closed::Descriptors);
        }
        idle.len()
    }
}
