//! How many requests are under way at once. Who finds no room waits for a bounded time in a bounded queue, in which
//! callers take turns: one who asks for much waits behind itself.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::adaptive::Moving;
use super::keys::{Key, Who};
use crate::clock::{Clock, within};
use crate::files::Concurrency;

/// A limit on how many requests are under way at once, for each key by itself.
pub(super) struct Gate {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    limit: Limit,
    wait: Duration,
    queue: usize,
    lanes: HashMap<Key, Lane>,
    /// How many wait, on all lanes together.
    waiting: usize,
    next: u64,
}

enum Limit {
    Fixed(u32),
    Moving(Moving),
}

/// Those who are counted together.
#[derive(Default)]
struct Lane {
    under_way: u32,
    /// Whose turn it is, and who is next: each who waits, once.
    turns: VecDeque<Who>,
    lines: HashMap<Who, VecDeque<Waiter>>,
}

struct Waiter {
    number: u64,
    tell: oneshot::Sender<bool>,
}

/// The right to be under way. Given back when it is dropped.
pub(super) struct Permit {
    gate: Arc<Gate>,
    key: Key,
    /// When it was given, where the limit follows the latency and no answer has begun.
    began: Option<Instant>,
}

/// There is no room, and no time or place to wait for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

impl Gate {
    pub(super) fn new(written: &Concurrency, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            state: Mutex::new(State {
                limit: Limit::of(written),
                wait: written.wait,
                queue: written.queue as usize,
                lanes: HashMap::new(),
                waiting: 0,
                next: 0,
            }),
        })
    }

    /// Holds to other numbers from now on. Who is under way stays so.
    pub(super) fn change(&self, written: &Concurrency) {
        let mut state = self.state();
        state.wait = written.wait;
        state.queue = written.queue as usize;
        if !state.limit.is_of(written) {
            state.limit = Limit::of(written);
        }
        let calls = state.call_all();
        drop(state);
        self.tell(calls);
    }

    /// A right, if there is room now and nobody waits.
    pub(super) fn try_enter(self: &Arc<Self>, key: Key) -> Option<Permit> {
        let mut state = self.state();
        let limit = state.limit.now();
        let is_timed = matches!(state.limit, Limit::Moving(_));
        let lane = state.lanes.entry(key).or_default();
        let has_room = lane.under_way < limit && lane.turns.is_empty();
        lane.under_way += u32::from(has_room);
        drop(state);
        has_room.then(|| self.permit(key, is_timed))
    }

    /// A right, once it is one's turn.
    ///
    /// # Errors
    /// The queue is full and others have less in it, or the time is over.
    pub(super) async fn enter(self: &Arc<Self>, key: Key, who: Who) -> Result<Permit, NoRoom> {
        if let Some(permit) = self.try_enter(key) {
            return Ok(permit);
        }
        let (mut waiting, wait) = self.queue_up(key, who)?;
        match within(wait, &mut waiting.told).await {
            Some(Ok(true)) => Ok(waiting.enters()),
            Some(Ok(false) | Err(_)) | None => Err(NoRoom),
        }
    }

    fn queue_up(self: &Arc<Self>, key: Key, who: Who) -> Result<(Waiting, Duration), NoRoom> {
        let mut state = self.state();
        let wait = state.wait;
        if wait.is_zero() {
            return Err(NoRoom);
        }
        let gives_way = match state.waiting >= state.queue {
            true => Some(state.make_room(key, who).ok_or(NoRoom)?),
            false => None,
        };
        let (tell, told) = oneshot::channel();
        let number = state.next;
        state.next += 1;
        state.waiting += 1;
        let lane = state.lanes.entry(key).or_default();
        let line = lane.lines.entry(who).or_default();
        if line.is_empty() {
            lane.turns.push_back(who);
        }
        line.push_back(Waiter { number, tell });
        drop(state);
        if let Some(waiter) = gives_way {
            // Who has left needs not be told.
            let _ = waiter.tell.send(false);
        }
        let gate = Arc::clone(self);
        let waiting = Waiting {
            gate,
            key,
            who,
            number,
            told,
            is_over: false,
        };
        Ok((waiting, wait))
    }

    fn permit(self: &Arc<Self>, key: Key, is_timed: bool) -> Permit {
        Permit {
            gate: Arc::clone(self),
            key,
            began: is_timed.then(|| self.clock.instant()),
        }
    }

    /// Tells those whose turn it is. Who has left meanwhile gives the right back.
    fn tell(&self, calls: Vec<(Key, Waiter)>) {
        for (key, waiter) in calls {
            if waiter.tell.send(true).is_err() {
                self.give_back(key);
            }
        }
    }

    fn give_back(&self, key: Key) {
        let mut state = self.state();
        let calls = state.call(key, 1);
        drop(state);
        self.tell(calls);
    }

    fn answered(&self, key: Key, latency: Option<Duration>) {
        let mut state = self.state();
        let State { limit, lanes, .. } = &mut *state;
        let under_way = lanes.get(&key).map_or(0, |lane| lane.under_way);
        if let Limit::Moving(moving) = limit {
            moving.answered(latency, under_way);
        }
        let calls = state.call(key, 0);
        drop(state);
        self.tell(calls);
    }

    /// How many are under way, how many wait, and how many may be under way for each key.
    pub(super) fn standing(&self) -> (u64, u64, u32) {
        let state = self.state();
        let under_way = state.lanes.values().map(|lane| u64::from(lane.under_way));
        (under_way.sum(), state.waiting as u64, state.limit.now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Those on a lane for whom there is room now that so many have ended. The lane is forgotten when nobody is on it.
    fn call(&mut self, key: Key, ended: u32) -> Vec<(Key, Waiter)> {
        let limit = self.limit.now();
        let mut calls = Vec::new();
        let Entry::Occupied(mut entry) = self.lanes.entry(key) else {
            return calls;
        };
        let lane = entry.get_mut();
        lane.under_way = lane.under_way.saturating_sub(ended);
        while lane.under_way < limit
            && let Some(waiter) = lane.next()
        {
            lane.under_way += 1;
            self.waiting -= 1;
            calls.push((key, waiter));
        }
        if lane.under_way == 0 && lane.turns.is_empty() {
            entry.remove();
        }
        calls
    }

    fn call_all(&mut self) -> Vec<(Key, Waiter)> {
        let keys: Vec<Key> = self.lanes.keys().copied().collect();
        keys.into_iter().flat_map(|key| self.call(key, 0)).collect()
    }

    /// Has the last of whoever has most in the queue give way to one who would still have less. `None` if that is
    /// nobody.
    fn make_room(&mut self, key: Key, who: Who) -> Option<Waiter> {
        let own = self.lanes.get(&key).and_then(|lane| lane.lines.get(&who));
        let own = own.map_or(0, VecDeque::len);
        let lines = self.lanes.iter_mut().flat_map(|(key, lane)| {
            let lines = lane.lines.iter();
            lines.map(|(who, line)| (*key, *who, line.len()))
        });
        let (key, who, most) = lines.max_by_key(|(_, _, len)| *len)?;
        if most <= own + 1 {
            return None;
        }
        let lane = self.lanes.get_mut(&key)?;
        let waiter = lane.lines.get_mut(&who)?.pop_back();
        self.waiting -= usize::from(waiter.is_some());
        waiter
    }
}

impl Lane {
    /// The next whose turn it is.
    fn next(&mut self) -> Option<Waiter> {
        let who = self.turns.pop_front()?;
        let line = self.lines.get_mut(&who)?;
        let waiter = line.pop_front();
        match line.is_empty() {
            true => {
                self.lines.remove(&who);
            }
            false => self.turns.push_back(who),
        }
        waiter
    }

    /// Whoever waits under this number leaves. Whether it was still waiting.
    fn leave(&mut self, who: Who, number: u64) -> bool {
        let Some(line) = self.lines.get_mut(&who) else {
            return false;
        };
        let before = line.len();
        line.retain(|waiter| waiter.number != number);
        let has_left = line.len() < before;
        if line.is_empty() {
            self.lines.remove(&who);
            self.turns.retain(|other| *other != who);
        }
        has_left
    }
}

impl Limit {
    fn of(written: &Concurrency) -> Self {
        match written.adaptive {
            None => Self::Fixed(written.requests),
            Some(rule) => Self::Moving(Moving::new(rule, written.requests)),
        }
    }

    fn is_of(&self, written: &Concurrency) -> bool {
        match self {
            Self::Fixed(limit) => written.adaptive.is_none() && *limit == written.requests,
            Self::Moving(moving) => written
                .adaptive
                .is_some_and(|rule| moving.is_by(rule, written.requests)),
        }
    }

    fn now(&self) -> u32 {
        match self {
            Self::Fixed(limit) => *limit,
            Self::Moving(moving) => moving.limit(),
        }
    }
}

/// One who waits. Leaves the queue when it is dropped.
struct Waiting {
    gate: Arc<Gate>,
    key: Key,
    who: Who,
    number: u64,
    told: oneshot::Receiver<bool>,
    is_over: bool,
}

impl Waiting {
    fn enters(mut self) -> Permit {
        self.is_over = true;
        let is_timed = matches!(self.gate.state().limit, Limit::Moving(_));
        self.gate.permit(self.key, is_timed)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.gate.state();
        let lane = state.lanes.get_mut(&self.key);
        if lane.is_some_and(|lane| lane.leave(self.who, self.number)) {
            state.waiting -= 1;
            return;
        }
        drop(state);
        // Its turn may have come this very moment. What is told from here on is given back by who tells it.
        self.told.close();
        if self.told.try_recv() == Ok(true) {
            self.gate.give_back(self.key);
        }
    }
}

impl Permit {
    /// The answer has begun.
    pub(super) fn answered(&mut self) {
        if let Some(began) = self.began.take() {
            let latency = self.gate.clock.instant().saturating_duration_since(began);
            self.gate.answered(self.key, Some(latency));
        }
    }

    /// No answer is to come, and that says something about who should have given it.
    pub(super) fn failed(&mut self) {
        if self.began.take().is_some() {
            self.gate.answered(self.key, None);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.give_back(self.key);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use futures_util::FutureExt as _;
    use futures_util::future::LocalBoxFuture;
    use proptest::prelude::*;
    use std::net::IpAddr;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Somebody comes, by a key and as one of the callers.
        Comes(u8, u8),
        /// Somebody who was told looks, or not.
        Looks(usize),
        /// Somebody who waits leaves, whether the turn has come or not.
        Leaves(usize),
        /// A request is over.
        Ends(usize),
        /// The limit and the queue are others.
        Changes(u32, u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u8..2, 0u8..4).prop_map(|(key, who)| Step::Comes(key, who)),
            2 => any::<usize>().prop_map(Step::Looks),
            2 => any::<usize>().prop_map(Step::Leaves),
            3 => any::<usize>().prop_map(Step::Ends),
            1 => (1u32..4, 1u32..5).prop_map(|(limit, queue)| Step::Changes(limit, queue)),
        ];
        proptest::collection::vec(step, 1..80)
    }

    fn written(requests: u32, queue: u32) -> Concurrency {
        Concurrency {
            requests,
            by: Vec::new(),
            wait: Duration::from_mins(1),
            queue,
            adaptive: None,
        }
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    type Entering = LocalBoxFuture<'static, Result<Permit, NoRoom>>;

    /// Those who wait and those who are under way.
    struct Scene {
        gate: Arc<Gate>,
        waiting: Vec<Entering>,
        under_way: Vec<Permit>,
    }

    impl Scene {
        fn looks(&mut self, mut entering: Entering) {
            match entering.as_mut().now_or_never() {
                None => self.waiting.push(entering),
                Some(entered) => self.under_way.extend(entered.ok()),
            }
        }

        fn take(&mut self, step: Step) {
            let (waiting, under_way) = (self.waiting.len(), self.under_way.len());
            match step {
                Step::Comes(key, who) => {
                    let gate = Arc::clone(&self.gate);
                    let (key, who) = (Key::of_address(address(key)), Who::Address(address(who)));
                    self.looks(Box::pin(async move { gate.enter(key, who).await }));
                }
                Step::Looks(at) if waiting > 0 => {
                    let entering = self.waiting.remove(at % waiting);
                    self.looks(entering);
                }
                Step::Leaves(at) if waiting > 0 => drop(self.waiting.remove(at % waiting)),
                Step::Ends(at) if under_way > 0 => drop(self.under_way.remove(at % under_way)),
                Step::Changes(limit, queue) => self.gate.change(&written(limit, queue)),
                Step::Looks(_) | Step::Leaves(_) | Step::Ends(_) => {}
            }
        }

        /// Nobody waits where there is room, and what is counted is what there is.
        fn is_sound(&self) -> bool {
            let state = self.gate.state();
            let limit = state.limit.now();
            let lanes = state.lanes.values();
            let told = |lane: &Lane| lane.lines.values().map(VecDeque::len).sum::<usize>();
            let idles = |lane: &Lane| told(lane) > 0 && lane.under_way < limit;
            let turns = |lane: &Lane| lane.turns.len() == lane.lines.len();
            lanes.clone().map(told).sum::<usize>() == state.waiting
                && lanes.clone().all(|lane| turns(lane) && !idles(lane))
        }
    }

    proptest! {
        #[test]
        fn no_right_is_lost_and_nobody_waits_where_there_is_room(steps in steps()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.expect("a runtime");
            let _entered = runtime.enter();
            let gate = Gate::new(&written(2, 3), Arc::new(SystemClock));
            let mut scene = Scene { gate, waiting: Vec::new(), under_way: Vec::new() };
            for step in steps {
                scene.take(step);
                prop_assert!(scene.is_sound(), "{step:?}");
            }
            scene.waiting.clear();
            prop_assert_eq!(scene.gate.standing().0, scene.under_way.len() as u64);
            scene.under_way.clear();
            let (under_way, waiting, _) = scene.gate.standing();
            prop_assert_eq!((under_way, waiting), (0, 0));
            prop_assert!(scene.gate.state().lanes.is_empty());
        }
    }
}
