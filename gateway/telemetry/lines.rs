//! Lines of a log that wait to be written.

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

/// Lines that wait.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The lines, each with its end.
    pub(super) text: Vec<u8>,
    /// How many of them were given a place, which is free again once they are written.
    pub(super) placed: usize,
}

impl Lines {
    /// Has a line written, if there is room. Whether there was.
    pub(super) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let has_room = self.text.len() < MOST;
        if has_room {
            write(&mut self.text);
        }
        has_room
    }

    /// Has a line written for which there is a place.
    pub(super) fn add_placed(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.text);
        self.placed += 1;
    }
}
