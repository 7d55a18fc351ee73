//! The drain: how a gateway that is told to end lets its requests finish.

use tokio::sync::watch;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// All is well.
    Serving,
    /// Not ready any more, but still accepting: load balancers need time to notice.
    Leaving,
    /// Nothing new is accepted; what is in flight finishes.
    Draining,
}

/// Announces the phases to all who serve.
#[derive(Clone, Debug)]
pub struct Drain(watch::Sender<Phase>);

impl Default for Drain {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }
}

impl Drain {
    /// Goes on to a phase. There is no way back.
    pub fn enter(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let forward = *now < phase;
            *now = phase.max(*now);
            forward
        });
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Completes when nothing new is to be accepted.
    pub async fn draining(&self) {
        let mut phases = self.0.subscribe();
        // INVARIANT: the sender lives as long as this borrow of it.
        let _ = phases.wait_for(|phase| *phase >= Phase::Draining).await;
    }
}
