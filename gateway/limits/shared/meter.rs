//! One meter as a replica holds it: units leased in advance, those who wait for more, and what was admitted without
//! asking. What it has to say to the store it says in one question at a time, which stays the same until it is
//! answered.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::bucket::{self, AWAY, Rate, Share, View};
use super::common::Common;
use super::script::{Ask, Memory, Told, Why};
use super::settings::OnStoreFailure;
use crate::clock::{Now, within};

/// Who was refused is refused without asking for this long, unless enough has leaked by then.
const REFRESH: Duration = Duration::from_millis(100);
/// Others keep back what they need not: they will have heard of it after this.
const RECALL: Duration = Duration::from_millis(60);
/// While not everybody has told what the store has lost, it is asked again after this.
const GATHER: Duration = Duration::from_millis(50);
/// What nobody used for so long gives back what it holds.
const QUIET: Duration = Duration::from_secs(10);
/// For what nobody used for so long nothing is leased ahead.
const LIVELY: Duration = Duration::from_secs(1);

/// What became of a wish for units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// They are granted.
    Granted {
        /// Units that remain, as far as is known.
        remaining: u64,
    },
    /// They are not.
    Refused {
        /// After what time it is worth coming back. Never zero.
        retry_after: Duration,
    },
    /// Only the store can say: [`Meter::take`] asks it.
    Wait,
}

/// A meter that replicas share.
pub struct Meter {
    name: Arc<str>,
    /// Where it lies in the store: its rate and its name, for another rate makes another meter of it.
    place: Box<str>,
    rate: Rate,
    common: Arc<Common>,
    state: Mutex<State>,
}

struct State {
    /// Units leased and not spent.
    lease: u64,
    /// Units that the store keeps back for this replica, for when it is cut off.
    standby: u64,
    /// More than this need not be kept back.
    ceiling: u64,
    /// Units admitted without asking, of which the store has not been told.
    owed: u64,
    /// Of those, the ones that were admitted before it was certain that the store is away.
    gap: u64,
    /// What may be admitted without asking. None while the store is there.
    share: Option<Share>,
    view: Option<View>,
    /// Until then not everybody has told the store what it has lost.
    gathering: Option<Instant>,
    /// What lies at its key is none of the gateway's.
    astray: Option<Astray>,
    /// The session and epoch of the view.
    session: u64,
    epoch: u64,
    sent: Option<Sent>,
    queued: bool,
    waiting: VecDeque<Waiter>,
    used: Instant,
    parting: bool,
}

/// Since when a key holds something else, and when it is looked at again.
#[derive(Clone, Copy)]
struct Astray {
    since: Instant,
    again: Instant,
}

struct Waiter {
    units: u64,
    answer: oneshot::Sender<Taken>,
}

/// A question that has no answer yet.
struct Sent {
    ask: Ask,
    /// How many of those who wait it asks for.
    covers: usize,
}

/// When a meter is to be asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    Never,
    AtOnce,
    In(Duration),
}

impl Meter {
    pub(super) fn new(name: Arc<str>, rate: Rate, common: Arc<Common>) -> Arc<Self> {
        let ends = rate.ends.unwrap_or_default().as_millis();
        let used = common.clock.instant();
        Arc::new(Self {
            place: format!("{}/{}/{ends}:{name}", rate.capacity, rate.per_second).into(),
            name,
            rate,
            common,
            state: Mutex::new(State {
                lease: 0,
                standby: 0,
                ceiling: 0,
                owed: 0,
                gap: 0,
                share: None,
                view: None,
                gathering: None,
                astray: None,
                session: 0,
                epoch: 0,
                sent: None,
                queued: false,
                waiting: VecDeque::new(),
                used,
                parting: false,
            }),
        })
    }

    /// Its name. Whoever holds it knows by the number of its holders whether there still is a meter of it.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// The name of a meter that lies at `place`.
    pub(super) fn name_of(place: &str) -> &str {
        place.split_once(':').map_or(place, |(_, name)| name)
    }

    /// What it holds, and how it empties.
    pub fn rate(&self) -> &Rate {
        &self.rate
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes units if that can be decided at once.
    pub fn try_take(self: &Arc<Self>, units: u64, now: &Now) -> Taken {
        let mut state = self.lock();
        self.decide(&mut state, units, now).unwrap_or(Taken::Wait)
    }

    /// Takes units, and asks the store if it must. Waits no longer than the settings say, and never returns
    /// [`Taken::Wait`].
    pub async fn take(self: &Arc<Self>, units: u64, now: &Now) -> Taken {
        let mut answer = match self.queue_up(units, now) {
            Ok(taken) => return taken,
            Err(answer) => answer,
        };
        self.common.counters.waits.add(1);
        if let Some(Ok(taken)) = within(self.common.timeout, &mut answer).await {
            return taken;
        }
        // It may have come in this very moment, and is not to be lost.
        answer.close();
        answer.try_recv().unwrap_or_else(|_| self.overdue(units))
    }

    /// Counts units that were used already, whatever is left.
    pub fn charge(self: &Arc<Self>, units: u64, now: &Now) {
        let mut state = self.lock();
        state.used = now.instant;
        let leased = state.lease.min(units);
        state.lease -= leased;
        let owed = units - leased;
        state.owed = state.owed.saturating_add(owed);
        if let Some(share) = &mut state.share {
            share.lower(owed);
        }
        if owed > 0 {
            self.ask(&mut state);
        }
    }

    /// Gives back units that were granted and are not used after all.
    pub fn give_back(&self, units: u64) {
        let mut state = self.lock();
        // What was admitted without asking is owed no more.
        let unowed = state.owed.min(units);
        state.owed -= unowed;
        state.gap = state.gap.saturating_sub(unowed);
        if let Some(share) = &mut state.share {
            share.put_back(unowed);
        }
        state.lease = state.lease.saturating_add(units - unowed);
    }

    fn queue_up(
        self: &Arc<Self>,
        units: u64,
        now: &Now,
    ) -> Result<Taken, oneshot::Receiver<Taken>> {
        let mut state = self.lock();
        if let Some(taken) = self.decide(&mut state, units, now) {
            return Ok(taken);
        }
        let (answer, answered) = oneshot::channel();
        state.waiting.push_back(Waiter { units, answer });
        self.ask(&mut state);
        Err(answered)
    }

    fn decide(self: &Arc<Self>, state: &mut State, units: u64, now: &Now) -> Option<Taken> {
        state.used = now.instant;
        if let Some(granted) = self.spend(state, units, now) {
            self.ask_ahead(state, now);
            return Some(granted);
        }
        if units > self.rate.most() {
            let retry_after = bucket::never(&self.rate, now.unix);
            return Some(Taken::Refused { retry_after });
        }
        self.look_again(state, now.instant);
        let gathering = state.gathering.is_some_and(|until| now.instant < until);
        if gathering || state.astray.is_some() || self.common.is_cut(now.instant) {
            return Some(self.alone(state, units, now));
        }
        let retry_after = self.is_dry(state, units, now)?;
        Some(Taken::Refused { retry_after })
    }

    fn spend(&self, state: &mut State, units: u64, now: &Now) -> Option<Taken> {
        state.lease = state.lease.checked_sub(units)?;
        Some(self.granted(state, now))
    }

    fn granted(&self, state: &State, now: &Now) -> Taken {
        let free = state.view.map(|view| view.free_at(&self.rate, now.instant));
        let free = free.unwrap_or(0.0).max(0.0) as u64;
        Taken::Granted {
            remaining: state.lease.saturating_add(free),
        }
    }

    /// What was seen a moment ago says that there is nothing.
    fn is_dry(&self, state: &State, units: u64, now: &Now) -> Option<Duration> {
        let view = state.view.filter(|view| !view.contended)?;
        let seen = now.instant.saturating_duration_since(view.at);
        let missing = units.saturating_sub(state.lease);
        let dry = view.free_at(&self.rate, now.instant) < missing as f64;
        (dry && seen < REFRESH).then(|| view.wait(missing, &self.rate, now.instant, now.unix))
    }

    /// The store cannot be asked, or not about this one.
    fn alone(&self, state: &mut State, units: u64, now: &Now) -> Taken {
        match self.common.on_failure {
            OnStoreFailure::Allow => self.admit(state, units, now),
            OnStoreFailure::Deny => Taken::Refused { retry_after: AWAY },
            OnStoreFailure::LocalShare => self.share(state, units, now),
        }
    }

    fn admit(&self, state: &mut State, units: u64, now: &Now) -> Taken {
        state.owed = state.owed.saturating_add(units);
        self.common.counters.admitted_locally.add(units);
        self.granted(state, now)
    }

    fn share(&self, state: &mut State, units: u64, now: &Now) -> Taken {
        let replicas = self.common.replicas();
        let begins = state.astray.map(|astray| astray.since);
        let begins = begins.unwrap_or_else(|| self.common.cut_since());
        let begins = state.view.map_or(begins, |view| begins.max(view.at));
        let kept = state.standby.saturating_sub(state.owed);
        let share = state.share.get_or_insert_with(|| Share::new(kept, begins));
        match share.take(units, &self.rate, replicas, now.instant) {
            Ok(remaining) => {
                self.admit(state, units, now);
                Taken::Granted { remaining }
            }
            Err(retry_after) => self.bridge(state, units, now, retry_after),
        }
    }

    /// One batch is admitted without knowing, unless it is known that nothing is left.
    fn bridge(&self, state: &mut State, units: u64, now: &Now, retry_after: Duration) -> Taken {
        let batch = self.rate.batch(self.common.replicas());
        let spent = state.owed.saturating_add(units) as f64;
        let left = |view: View| view.free_at(&self.rate, now.instant) >= spent;
        if state.gap.saturating_add(units) > batch || !state.view.is_none_or(left) {
            return Taken::Refused { retry_after };
        }
        state.gap += units;
        self.admit(state, units, now)
    }

    /// The store did not answer in time.
    fn overdue(&self, units: u64) -> Taken {
        let now = self.common.clock.now();
        let mut state = self.lock();
        if let Some(granted) = self.spend(&mut state, units, &now) {
            return granted;
        }
        if state.view.is_some_and(|view| view.contended) && self.common.is_fresh(now.instant) {
            return Taken::Refused {
                retry_after: REFRESH,
            };
        }
        match self.common.on_failure {
            OnStoreFailure::LocalShare if !self.common.is_cut(now.instant) => {
                self.bridge(&mut state, units, &now, REFRESH)
            }
            _ => self.alone(&mut state, units, &now),
        }
    }

    fn ask(self: &Arc<Self>, state: &mut State) {
        if state.sent.is_none() && state.astray.is_none() && !state.queued {
            state.queued = self.common.queue.send(Arc::clone(self)).is_ok();
        }
    }

    /// Asks again for what was found astray, now and then.
    fn look_again(self: &Arc<Self>, state: &mut State, now: Instant) {
        if let Some(astray) = &mut state.astray
            && astray.again <= now
            && state.sent.is_none()
            && !state.queued
        {
            astray.again = now + AWAY;
            state.queued = self.common.queue.send(Arc::clone(self)).is_ok();
        }
    }

    /// Asks for the next batch when half of this one is spent.
    fn ask_ahead(self: &Arc<Self>, state: &mut State, now: &Now) {
        let ahead = self.rate.ahead(self.common.replicas());
        if state.lease * 2 < ahead
            && !self.common.is_cut(now.instant)
            && self
                .is_dry(state, ahead.min(state.lease + 1), now)
                .is_none()
        {
            self.ask(state);
        }
    }
}

/// What the keeper does with meters.
impl Meter {
    /// What there is to say and to ask. The same again, while there is no answer.
    pub(super) fn compose(&self, now: &Now) -> (Ask, Memory) {
        let mut state = self.lock();
        let state = &mut *state;
        state.queued = false;
        let memory = self.memory(state, now.instant);
        if let Some(sent) = &state.sent {
            return (sent.ask.clone(), memory);
        }
        state.waiting.retain(|waiter| !waiter.answer.is_closed());
        let ask = self.compose_anew(state, now.instant);
        let level = (memory.level - ask.back as f64).max(0.0);
        (ask, Memory { level, ..memory })
    }

    fn compose_anew(&self, state: &mut State, now: Instant) -> Ask {
        let idle = now.saturating_duration_since(state.used);
        let quiet = state.parting || (state.waiting.is_empty() && idle > QUIET);
        let waiting: u64 = state.waiting.iter().map(|waiter| waiter.units).sum();
        let ahead = match quiet || idle > LIVELY {
            true => 0,
            false => self.rate.ahead(self.common.replicas()),
        };
        let debt = std::mem::take(&mut state.owed);
        let before = state.standby.saturating_sub(debt);
        let keep = if quiet { 0 } else { before.min(state.ceiling) };
        if let Some(share) = &mut state.share {
            share.lower(before - keep);
        }
        state.standby = keep;
        let ask = Ask {
            seq: self.common.next_seq(),
            want: (waiting + ahead).saturating_sub(state.lease),
            keep,
            stand: !quiet && self.common.on_failure == OnStoreFailure::LocalShare,
            debt,
            back: if quiet {
                std::mem::take(&mut state.lease)
            } else {
                0
            },
        };
        state.sent = Some(Sent {
            ask: ask.clone(),
            covers: state.waiting.len(),
        });
        ask
    }

    /// What is remembered, for the first question of a session: the store may have lost it.
    fn memory(&self, state: &State, now: Instant) -> Memory {
        let (session, epoch) = self.common.session();
        let level = match state.view {
            Some(view) if state.session != session || state.astray.is_some() => {
                view.level_at(&self.rate, now)
            }
            _ => 0.0,
        };
        let lost = state.epoch != epoch;
        Memory { level, lost }
    }

    /// Takes an answer in. `asked` is when it was asked for.
    pub(super) fn answered(&self, told: &Told, asked: Instant, now: &Now) -> Again {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(sent) = state.sent.take() else {
            return Again::Never;
        };
        self.common.counters.leases.add(u64::from(told.granted > 0));
        state.lease = state.lease.saturating_add(told.granted);
        state.standby = told.reserve;
        state.ceiling = bucket::part(self.rate.most() as f64 - told.level, told.replicas);
        if told.why != Why::Gathering {
            state.gap = 0;
        }
        state.share = None;
        state.astray = None;
        state.view = Some(View {
            level: told.level,
            free: told.free,
            at: asked,
            contended: told.why == Why::Contended,
        });
        state.gathering = (told.why == Why::Gathering).then(|| now.instant + GATHER);
        (state.session, state.epoch) = self.common.session();
        self.serve(state, sent.covers, now);
        self.again(state, told.why)
    }

    /// Its key holds something else, so that nothing of the question has been counted. Until another one is answered
    /// the replica is by itself here. Whether that is news.
    pub(super) fn strayed(&self, now: &Now) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        let before = state.astray;
        state.astray = Some(Astray {
            since: before.map_or(now.instant, |astray| astray.since),
            again: now.instant + AWAY,
        });
        if let Some(Sent { ask, .. }) = state.sent.take() {
            state.owed = state.owed.saturating_add(ask.debt);
            state.standby = state.standby.saturating_add(ask.debt);
            state.lease = state.lease.saturating_add(ask.back);
        }
        for waiter in std::mem::take(&mut state.waiting) {
            if !waiter.answer.is_closed() {
                let taken = self.alone(state, waiter.units, now);
                self.tell(state, waiter, taken);
            }
        }
        before.is_none()
    }

    /// Whether its key holds something else, as far as is known.
    pub(super) fn is_astray(&self) -> bool {
        self.lock().astray.is_some()
    }

    fn serve(&self, state: &mut State, covers: usize, now: &Now) {
        let waiting = std::mem::take(&mut state.waiting);
        for (at, waiter) in waiting.into_iter().enumerate() {
            if waiter.answer.is_closed() {
                continue;
            }
            match self.serve_one(state, waiter.units, at < covers, now) {
                Some(taken) => self.tell(state, waiter, taken),
                None => state.waiting.push_back(waiter),
            }
        }
    }

    fn serve_one(&self, state: &mut State, units: u64, covered: bool, now: &Now) -> Option<Taken> {
        if let Some(granted) = self.spend(state, units, now) {
            return Some(granted);
        }
        if state.gathering.is_some() {
            return Some(self.alone(state, units, now));
        }
        let view = state.view.filter(|view| covered && !view.contended)?;
        let missing = units.saturating_sub(state.lease);
        // Whoever came in between took what was meant for this one: there is more.
        if view.free_at(&self.rate, now.instant) >= missing as f64 {
            return None;
        }
        let retry_after = view.wait(missing, &self.rate, now.instant, now.unix);
        Some(Taken::Refused { retry_after })
    }

    fn tell(&self, state: &mut State, waiter: Waiter, taken: Taken) {
        let granted = matches!(taken, Taken::Granted { .. });
        if waiter.answer.send(taken).is_err() && granted {
            // Gone meanwhile. If it was admitted as a debt, that is counted all the same.
            state.lease = state.lease.saturating_add(waiter.units);
        }
    }

    fn again(&self, state: &mut State, why: Why) -> Again {
        if state.waiting.is_empty() {
            return Again::Never;
        }
        state.queued = true;
        match why {
            Why::Contended => Again::In(RECALL),
            Why::Plain | Why::Gathering => Again::AtOnce,
        }
    }

    /// Others want more than there is, while this one keeps back more than its part of what is left.
    pub(super) fn recall(self: &Arc<Self>, rest: f64) {
        let mut state = self.lock();
        let part = bucket::part(rest, self.common.replicas());
        state.ceiling = state.ceiling.min(part);
        if state.standby > state.ceiling {
            self.ask(&mut state);
        }
    }

    /// Whether the store has to be told before this replica counts as heard again.
    pub(super) fn owes_report(&self, now: Instant) -> bool {
        let state = self.lock();
        let (_, epoch) = self.common.session();
        let level = state
            .view
            .map_or(0.0, |view| view.level_at(&self.rate, now));
        let lost = state.view.is_some() && state.epoch != epoch;
        state.sent.is_some() || state.owed > 0 || (lost && (state.standby > 0 || level > 0.0))
    }

    /// Has it give back what it holds. Whether it holds anything.
    pub(super) fn part(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        state.parting = true;
        state.holds()
    }

    /// Gives back what it holds if nobody has used it for long. Whether it may be forgotten.
    pub(super) fn tidy(self: &Arc<Self>, now: &Now) -> bool {
        let mut state = self.lock();
        let idle = now.instant.saturating_duration_since(state.used);
        if idle <= QUIET || !state.waiting.is_empty() {
            return false;
        }
        if state.holds() {
            self.ask(&mut state);
            self.look_again(&mut state, now.instant);
            return false;
        }
        let level = state
            .view
            .map_or(0.0, |view| view.level_at(&self.rate, now.instant));
        let over = self.rate.ends.is_some_and(|ends| ends <= now.unix);
        over || level <= 0.0
    }

    /// Asks, whoever wants it.
    pub(super) fn ask_now(self: &Arc<Self>) {
        self.ask(&mut self.lock());
    }
}

impl State {
    fn holds(&self) -> bool {
        self.lease > 0 || self.standby > 0 || self.owed > 0 || self.sent.is_some()
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A name may hold who calls, which is nobody's business here.
        f.debug_struct("Meter")
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}
