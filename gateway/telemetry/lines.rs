//! Lines of a log that wait to be written.

use std::sync::Arc;

use super::handover::{Bells, Handover};

/// One of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// A line for each request.
    Requests,
    /// A line for each decision.
    Decisions,
}

/// The most bytes that wait, of one worker: half a second of a busy one.
const MOST: usize = 16 << 20;
/// As soon as so many bytes wait, they are written.
const ENOUGH: usize = 256 << 10;
/// Room for as many, and for the last line.
pub(super) const ROOM: usize = ENOUGH + (32 << 10);

/// Lines that wait.
#[derive(Debug, Default)]
pub(super) struct Lines {
    text: Vec<u8>,
    placed: usize,
    handover: Option<Arc<Handover>>,
}

impl Lines {
    /// From now on they are handed over there.
    pub(super) fn hand_over(&mut self, handover: Arc<Handover>) {
        self.handover = Some(handover);
    }

    /// Has a line written, if there is room. Whether there was.
    pub(super) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>), bells: &mut Bells) -> bool {
        let has_room = self.text.len() < MOST;
        if has_room {
            self.write(write, bells);
        }
        has_room
    }

    /// Has a line written for which there is a place.
    pub(super) fn add_placed(&mut self, write: impl FnOnce(&mut Vec<u8>), bells: &mut Bells) {
        self.write(write, bells);
        self.placed += 1;
    }

    fn write(&mut self, write: impl FnOnce(&mut Vec<u8>), bells: &mut Bells) {
        let before = self.text.len();
        if self.text.capacity() == 0 {
            let memory = self.handover.as_deref().map(Handover::memory);
            self.text = memory.unwrap_or_else(|| Vec::with_capacity(ROOM));
        }
        write(&mut self.text);
        if let (true, Some(handover)) =
            (before < ENOUGH && self.text.len() >= ENOUGH, &self.handover)
        {
            bells.add(handover);
        }
    }

    /// Hands over the lines, each with its end, and how many of them were given a place, which is free again once they
    /// are written.
    pub(super) fn take(&mut self) -> (Vec<u8>, usize) {
        (
            std::mem::take(&mut self.text),
            std::mem::take(&mut self.placed),
        )
    }
}
