//! What waits to be sent somewhere: in batches of a bounded size, and of these a bounded number. What has no room is
//! dropped and counted; nobody waits for it.

use std::sync::Arc;

use super::handover::{Bells, Handover};

/// Bytes after which another batch is begun. Collectors take 4 MiB by default.
pub(super) const BATCH: usize = 256 * 1024;
/// Room for as many, and for the last item.
pub(super) const ROOM: usize = BATCH + (16 << 10);

/// Items of one kind.
#[derive(Debug)]
pub(super) struct Batches {
    ready: Vec<Batch>,
    bytes: usize,
    /// The most bytes that may wait.
    most: usize,
    dropped: u64,
    handover: Option<Arc<Handover>>,
}

/// Items that are sent together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The items, one behind the other.
    pub(super) bytes: Vec<u8>,
    /// How many.
    pub(super) items: u64,
}

impl Batches {
    /// None yet, and never more than `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            ready: Vec::new(),
            bytes: 0,
            most,
            dropped: 0,
            handover: None,
        }
    }

    /// From now on they are handed over there.
    pub(super) fn hand_over(&mut self, handover: Arc<Handover>) {
        self.handover = Some(handover);
    }

    /// Has so many items written behind the others, or counts them as dropped where there is no room.
    pub(super) fn add(&mut self, items: u64, write: impl FnOnce(&mut Vec<u8>), bells: &mut Bells) {
        if self.bytes >= self.most {
            self.dropped += items;
            return;
        }
        let is_whole = |batch: &Batch| batch.bytes.len() >= BATCH;
        if self.ready.last().is_none_or(is_whole) {
            let memory = self.handover.as_deref().map(Handover::memory);
            self.ready.push(Batch {
                bytes: memory.unwrap_or_else(|| Vec::with_capacity(ROOM)),
                items: 0,
            });
        }
        let Some(batch) = self.ready.last_mut() else {
            return;
        };
        let before = batch.bytes.len();
        write(&mut batch.bytes);
        batch.items += items;
        self.bytes += batch.bytes.len() - before;
        if let (true, Some(handover)) = (is_whole(batch), &self.handover) {
            bells.add(handover);
        }
    }

    /// How many bytes wait.
    pub(super) fn waiting(&self) -> usize {
        self.bytes
    }

    /// How many were dropped since.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Hands over how many were dropped.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Hands over all that wait, and how many were dropped.
    pub(super) fn take(&mut self) -> (Vec<Batch>, u64) {
        self.bytes = 0;
        (std::mem::take(&mut self.ready), self.take_dropped())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_counted_and_what_was_taken_makes_room() {
        let (mut batches, mut bells) = (Batches::new(BATCH * 2), Bells::default());
        let item = vec![7; BATCH / 2];
        for _ in 0..6 {
            batches.add(1, |out| out.extend_from_slice(&item), &mut bells);
        }
        let (taken, dropped) = batches.take();
        let sizes: Vec<(usize, u64)> = taken
            .iter()
            .map(|batch| (batch.bytes.len(), batch.items))
            .collect();
        assert_eq!(sizes, [(BATCH, 2), (BATCH, 2)]);
        assert_eq!(dropped, 2);
        batches.add(1, |out| out.push(1), &mut bells);
        let (taken, dropped) = batches.take();
        assert_eq!((taken.len(), dropped), (1, 0));
    }
}
