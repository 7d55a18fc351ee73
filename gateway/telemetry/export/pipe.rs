//! One kind of telemetry on its way to one place: collected when there is enough or it is old enough, sent in order,
//! tried again while that may help.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::Sources;
use super::counts::{Exported, Lost, Signal};
use crate::clock::{Clock, doubled};
use crate::telemetry::event::{Level, event};
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
        again: Option<Load>,
    },
}

/// Where loads come from.
pub(super) trait Source: Send {
    /// Whether there is enough to send, or what there is has waited long enough.
    fn is_due(&mut self, now: Duration) -> bool;
    /// What there is to send, and how many items were dropped for want of room.
    fn take(&mut self, now: Duration) -> (Vec<Load>, u64);
    /// Whether all that was taken last has been taken over.
    fn settle(&mut self, taken: bool);
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
}

/// How often it is looked whether there is something to send, where nobody says that there is enough.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The first wait before something is sent again, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// After so long it is given up.
const LONGEST_LIFE: Duration = Duration::from_secs(60);
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
        }
    }

    /// Sends for ever, and what is left when it is stopped.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let ends = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => true,
                () = self.bell.notified() => false,
                () = self.clock.sleep(LOOK_EVERY) => false,
            };
            let now = self.clock.now().unix;
            if !ends && (now < self.not_before || !self.source.is_due(now)) {
                continue;
            }
            let (loads, dropped) = self.source.take(now);
            self.exported.lost(self.signal, Lost::QueueFull, dropped);
            let (mut taken, mut lost_in_all) = (true, 0);
            // All that was taken at once has the same time, or what waits would wait behind it for long.
            let began = self.clock.now().instant;
            for load in loads {
                let pieces = load.pieces.clone();
                let lost = self.deliver(load, began, &mut stop).await;
                taken &= lost == 0;
                lost_in_all += lost;
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
                self.tell_end(dropped + lost_in_all);
                return;
            }
        }
    }

    /// Sends a load until it is taken or given up. How many items nobody took.
    async fn deliver(
        &mut self,
        mut load: Load,
        began: Instant,
        stop: &mut watch::Receiver<bool>,
    ) -> u64 {
        let mut attempts = 0;
        loop {
            let (why, after, again) = match self.way.send(&load).await {
                Delivered::Taken { refused } => {
                    let refused = refused.min(load.items);
                    self.exported.sent(self.signal, load.items - refused);
                    self.exported.lost(self.signal, Lost::Refused, refused);
                    self.tell(None);
                    return 0;
                }
                Delivered::Refused(why) => {
                    self.exported.lost(self.signal, Lost::Refused, load.items);
                    self.tell(Some(&why));
                    return load.items;
                }
                Delivered::Later { why, after, again } => (why, after, again),
            };
            self.tell(Some(&why));
            if let Some(again) = again {
                self.exported
                    .sent(self.signal, load.items.saturating_sub(again.items));
                load = again;
            }
            let wait = after.unwrap_or_else(|| doubled(FIRST_WAIT, attempts, LONGEST_WAIT));
            attempts += 1;
            let now = self.clock.now();
            if let Some(after) = after {
                self.not_before = now.unix + after.min(LONGEST_PAUSE);
            }
            let lasted = now.instant.saturating_duration_since(began);
            let is_over = lasted + wait > LONGEST_LIFE || *stop.borrow();
            if is_over {
                self.exported.lost(self.signal, Lost::Failed, load.items);
                return load.items;
            }
            // Once the gateway ends, it is tried once more at once.
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    /// What is lost when the gateway ends, nobody can ask for any more.
    fn tell_end(&self, lost: u64) {
        if lost > 0 {
            let (signal, to) = (self.signal.name(), self.way.name());
            let detail = format!("{lost} items of {signal} could not be sent to {to}");
            let now = self.clock.now().unix;
            event(now, Level::Error, "export-lost", &detail);
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
