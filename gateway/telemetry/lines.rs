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

impl Which {
    /// What it is called.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Requests => "request log",
            Self::Decisions => "decision log",
        }
    }
}

/// The most bytes that wait, of one worker: half a second of a busy one.
const MOST: usize = 16 << 20;
/// As soon as so many bytes wait, they are written.
const ENOUGH: usize = 256 << 10;
/// Room for as many, and for the last line.
pub(super) const ROOM: usize = ENOUGH + (32 << 10);

/// Lines that are handed over.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The lines, each with its end.
    pub(super) text: Vec<u8>,
    /// How many.
    pub(super) lines: u64,
    /// How many of them were given a place, which is free again once they are written.
    pub(super) placed: usize,
}

/// Lines that wait.
#[derive(Debug, Default)]
pub(super) struct Lines {
    written: Written,
    handover: Option<Arc<Handover>>,
}

impl Lines {
    /// From now on they are handed over there.
    pub(super) fn hand_over(&mut self, handover: Arc<Handover>) {
        self.handover = Some(handover);
    }

    /// Has a line written, if there is room. Whether there was.
    pub(super) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>), bells: &mut Bells) -> bool {
        let has_room = self.written.text.len() < MOST;
        if has_room {
            self.write(write, bells);
        }
        has_room
    }

    /// Has a line written for which there is a place.
    pub(super) fn add_placed(&mut self, write: impl FnOnce(&mut Vec<u8>), bells: &mut Bells) {
        self.write(write, bells);
        self.written.placed += 1;
    }

    fn write(&mut self, write: impl FnOnce(&mut Vec<u8>), bells: &mut Bells) {
        let Written { text, lines, .. } = &mut self.written;
        let before = text.len();
        if text.capacity() == 0 {
            let memory = self.handover.as_deref().map(Handover::memory);
            *text = memory.unwrap_or_else(|| Vec::with_capacity(ROOM));
        }
        write(text);
        *lines += 1;
        if let (true, Some(handover)) = (before < ENOUGH && text.len() >= ENOUGH, &self.handover) {
            bells.add(handover);
        }
    }

    /// Hands over the lines.
    pub(super) fn take(&mut self) -> Written {
        std::mem::take(&mut self.written)
    }
}
