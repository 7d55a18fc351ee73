//! One kind of telemetry on its way to one place: collected when there is enough or it is old enough, sent in order,
//! tried again while that may help.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::Sources;
use super::counts::{Exported, Lost, Signal};
use crate::clock::{Clock, doubled, pause};
use crate::telemetry::event::{Level, OnceAMinute, event};
use crate::telemetry::health::Health;

/// What is sent at once.
pub(super) struct Load {
    /// As it is sent, one piece behind the other.
    pub(super) pieces: Vec<Bytes>,
    /// How many items.
    pub(super) items: u64,
}

impl Load {
    /// In bytes.
    pub(super) fn length(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }
}

/// What came of sending.
pub(super) enum Delivered {
    /// So many were not wanted; all others were taken.
    Taken {
        /// How many.
        refused: u64,
    },
    /// Nothing is wanted, and would not be if it were sent again.
    Refused(String),
    /// It may go better later, or after so long; of a part, what is to be sent again.
    Later {
        /// Why.
        why: String,
        /// How long to wait, where whom it was sent to has said so.
        after: Option<Duration>,
        /// What is to be sent again; all of it where it is absent.
        again: Option<Again>,
    },
}

/// A part of a load that may be taken later.
pub(super) struct Again {
    /// It.
    pub(super) load: Load,
    /// How many of the others were not wanted.
    pub(super) refused: u64,
}

/// Where loads come from.
pub(super) trait Source: Send {
    /// Whether there is enough to send, or what there is has waited long enough.
    fn is_due(&mut self, now: Duration) -> bool;
    /// What there is to send, and how many items were dropped for want of room.
    fn take(&mut self, now: Duration) -> (Vec<Load>, u64);
    /// Whether all that was taken last has been taken over.
    fn settle(&mut self, taken: bool);
    /// How many items there still are that nobody will take any more.
    fn left(&mut self) -> u64 {
        0
    }
    /// How many items were dropped since, for want of room.
    fn dropped(&mut self) -> u64 {
        0
    }
    /// Takes memory back that a load lay in.
    fn give_back(&mut self, memory: Vec<u8>) {
        drop(memory);
    }
}

/// How loads are sent.
pub(super) trait Way: Send {
    /// Sends one.
    fn send(&mut self, load: &Load) -> impl Future<Output = Delivered> + Send;
    /// To whom, for operators.
    fn name(&self) -> String;
}

/// The pipe.
pub(super) struct Pipe<S, W> {
    signal: Signal,
    source: S,
    way: W,
    exported: Arc<Exported>,
    clock: Arc<dyn Clock>,
    is_failing: bool,
    /// Until when nothing is to be sent, as it was asked for; since the Unix epoch.
    not_before: Duration,
    /// How it stands, for readiness.
    health: Arc<Health>,
    /// Rung when there is enough to send.
    bell: Arc<Notify>,
    /// How many items are being sent.
    in_hand: u64,
    /// Lost for want of room, and because they were not wanted, while others were taken.
    overflowed: Losses,
    unwanted: Losses,
    /// How many were lost since the gateway ends.
    lost_at_end: u64,
}

/// Items that were lost.
#[derive(Default)]
struct Losses {
    /// How many nobody was told of.
    untold: u64,
    told: OnceAMinute,
}

impl Losses {
    /// How many are to be told now: not more often than once a minute.
    fn due(&mut self, now: Duration) -> Option<u64> {
        if self.untold == 0 || !self.told.is_due(now) {
            return None;
        }
        Some(std::mem::take(&mut self.untold))
    }
}

/// How often it is looked whether there is something to send, where nobody says that there is enough.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The first wait before something is sent again, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// After so long it is given up.
const LONGEST_LIFE: Duration = Duration::from_secs(60);
/// How long it may take to send what is left when the gateway ends.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// No longer is anybody left alone who asks for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

impl<S: Source, W: Way> Pipe<S, W> {
    pub(super) fn new(
        signal: Signal,
        (source, bell): (S, Arc<Notify>),
        way: W,
        sources: &Sources,
    ) -> Self {
        Self {
            bell,
            signal,
            source,
            way,
            exported: Arc::clone(&sources.exported),
            clock: Arc::clone(&sources.clock),
            is_failing: false,
            not_before: Duration::ZERO,
            health: Arc::clone(&sources.health),
            in_hand: 0,
            overflowed: Losses::default(),
            unwanted: Losses::default(),
            lost_at_end: 0,
        }
    }

    /// Sends for ever, and what is left when it is stopped, as far as that is taken in time.
    pub(super) async fn run(mut self, stop: watch::Receiver<bool>) {
        let mut ended = stop.clone();
        let late = async {
            let _ = ended.wait_for(|stop| *stop).await;
            pause(LAST_WORDS).await;
        };
        let left = tokio::select! {
            () = self.send_all(stop) => 0,
            () = late => self.source.left(),
        };
        let cut = self.in_hand + left;
        self.exported.lost(self.signal, Lost::Failed, cut);
        self.tell_losses(Duration::MAX);
        self.tell_end(self.lost_at_end + cut);
    }

    async fn send_all(&mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let ends = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => true,
                () = self.bell.notified() => false,
                () = self.clock.sleep(LOOK_EVERY) => false,
            };
            let now = self.clock.now().unix;
            self.tell_losses(now);
            if !ends && (now < self.not_before || !self.source.is_due(now)) {
                continue;
            }
            let (loads, dropped) = self.source.take(now);
            self.exported.lost(self.signal, Lost::QueueFull, dropped);
            match ends {
                true => self.lost_at_end += dropped,
                false => self.overflowed.untold += dropped,
            }
            self.in_hand = loads.iter().map(|load| load.items).sum();
            let mut taken = true;
            // All that was taken at once has the same time, or what waits would wait behind it for long.
            let began = self.clock.now().instant;
            for load in loads {
                let pieces = load.pieces.clone();
                // With whom is slow, much may be lost before all of this is taken.
                self.look_for_losses();
                taken &= self.deliver(load, began, &mut stop).await;
                for piece in pieces {
                    if let Ok(mut memory) = piece.try_into_mut() {
                        // What is left in it would be moved.
                        memory.clear();
                        self.source.give_back(memory.into());
                    }
                }
            }
            self.source.settle(taken);
            if ends {
                return;
            }
        }
    }

    /// Sends a load until it is taken or given up. Whether it was taken.
    async fn deliver(
        &mut self,
        mut load: Load,
        began: Instant,
        stop: &mut watch::Receiver<bool>,
    ) -> bool {
        let mut attempts = 0;
        loop {
            let (why, after, again) = match self.way.send(&load).await {
                Delivered::Taken { refused } => {
                    let refused = refused.min(load.items);
                    self.exported.sent(self.signal, load.items - refused);
                    self.exported.lost(self.signal, Lost::Refused, refused);
                    self.unwanted.untold += refused;
                    self.in_hand = self.in_hand.saturating_sub(load.items);
                    self.tell(None);
                    return true;
                }
                Delivered::Refused(why) => {
                    self.tell(Some(&why));
                    self.give_up(&load, Lost::Refused, *stop.borrow());
                    return false;
                }
                Delivered::Later { why, after, again } => (why, after, again),
            };
            self.tell(Some(&why));
            if let Some(Again {
                load: again,
                refused,
            }) = again
            {
                let taken = load.items.saturating_sub(again.items + refused);
                self.exported.sent(self.signal, taken);
                self.exported.lost(self.signal, Lost::Refused, refused);
                self.unwanted.untold += refused;
                self.in_hand = self.in_hand.saturating_sub(load.items) + again.items;
                load = again;
            }
            let wait = after.unwrap_or_else(|| doubled(FIRST_WAIT, attempts, LONGEST_WAIT));
            attempts += 1;
            let now = self.clock.now();
            if let Some(after) = after {
                self.not_before = now.unix + after.min(LONGEST_PAUSE);
            }
            let lasted = now.instant.saturating_duration_since(began);
            let ends = *stop.borrow();
            if ends || lasted + wait > LONGEST_LIFE {
                self.give_up(&load, Lost::Failed, ends);
                return false;
            }
            // Once the gateway ends, it is tried once more at once.
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    fn look_for_losses(&mut self) {
        let dropped = self.source.dropped();
        self.exported.lost(self.signal, Lost::QueueFull, dropped);
        self.overflowed.untold += dropped;
        self.tell_losses(self.clock.now().unix);
    }

    fn give_up(&mut self, load: &Load, why: Lost, ends: bool) {
        self.exported.lost(self.signal, why, load.items);
        self.in_hand = self.in_hand.saturating_sub(load.items);
        if ends {
            self.lost_at_end += load.items;
        }
    }

    /// Tells operators of losses while all else goes well.
    fn tell_losses(&mut self, now: Duration) {
        let overflowed = self
            .overflowed
            .due(now)
            .map(|lost| (lost, "there was no room for them to wait"));
        let unwanted = self
            .unwanted
            .due(now)
            .map(|lost| (lost, "it did not want them"));
        for (lost, why) in overflowed.into_iter().chain(unwanted) {
            self.tell_lost(lost, why);
        }
    }

    fn tell_lost(&self, lost: u64, why: &str) {
        let (signal, to) = (self.signal.name(), self.way.name());
        let detail = format!("{lost} items of {signal} did not come to {to}: {why}");
        let now = self.clock.now().unix;
        event(now, Level::Error, "export-lost", &detail);
    }

    /// What is lost when the gateway ends, nobody can ask for any more.
    fn tell_end(&self, lost: u64) {
        if lost > 0 {
            self.tell_lost(lost, "the gateway ends");
        }
    }

    /// Tells operators when it begins to fail, and when it goes again.
    fn tell(&mut self, fault: Option<&str>) {
        let now = self.clock.now().unix;
        let (signal, to) = (self.signal.name(), self.way.name());
        match fault {
            Some(why) if !self.is_failing => {
                self.is_failing = true;
                let detail = format!("{signal} cannot be sent to {to}: {why}");
                self.health.fails(self.signal.check(), &detail);
                event(now, Level::Warning, "export-failing", &detail);
            }
            None if self.is_failing => {
                self.is_failing = false;
                self.health.recovers(self.signal.check());
                let detail = format!("{signal} are sent to {to} again");
                event(now, Level::Info, "export-recovered", &detail);
            }
            Some(_) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_whole_and_at_most_once_a_minute() {
        let mut losses = Losses::default();
        let mut due = |lost, second| {
            losses.untold += lost;
            losses.due(Duration::from_secs(second))
        };
        assert_eq!(due(0, 1_000), None);
        assert_eq!(due(2, 1_001), Some(2));
        assert_eq!(due(3, 1_002), None);
        assert_eq!(due(4, 1_060), None);
        assert_eq!(due(0, 1_061), Some(7));
        assert_eq!(due(0, 2_000), None);
        assert_eq!(due(1, 2_001), Some(1));
    }
}
