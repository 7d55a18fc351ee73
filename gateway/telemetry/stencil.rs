//! What is told of requests that are alike, written once, with slots for what differs between them: when they came, who
//! they are, their paths, sizes and durations. Most requests are like one before, and words put together anew for each
//! would cost more than all else that is told of it.

use super::words::{Fixed, Loose, Words};

/// A line, a span or an envelope, with slots.
#[derive(Debug, Default)]
pub(super) struct Stencil {
    text: Vec<u8>,
    /// The slots of a known width, for which there is room in the text.
    fixed: Vec<(usize, Fixed)>,
    /// Where pieces of the text end, how many fixed slots lie before, and what follows.
    pieces: Vec<(usize, usize, Loose)>,
}

impl Stencil {
    /// The text, to write behind it.
    pub(super) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// A slot as wide as it is in every request.
    pub(super) fn fixed(&mut self, slot: Fixed) {
        self.fixed.push((self.text.len(), slot));
        self.text.resize(self.text.len() + slot.width(), b'0');
    }

    /// A slot as wide as what comes into it.
    pub(super) fn loose(&mut self, slot: Loose) {
        self.pieces.push((self.text.len(), self.fixed.len(), slot));
    }

    /// Writes what is told of one of the requests.
    pub(super) fn stamp(&self, words: &Words<'_>, out: &mut Vec<u8>) {
        let (mut from, mut filled) = (0, 0);
        for (end, fixed, slot) in &self.pieces {
            self.piece((from, *end), (filled, *fixed), words, out);
            words.write(*slot, out);
            (from, filled) = (*end, *fixed);
        }
        let (end, fixed) = (self.text.len(), self.fixed.len());
        self.piece((from, end), (filled, fixed), words, out);
    }

    fn piece(
        &self,
        (from, to): (usize, usize),
        (filled, fixed): (usize, usize),
        words: &Words<'_>,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        out.extend_from_slice(self.text.get(from..to).unwrap_or_default());
        let Some(piece) = out.get_mut(start..) else {
            return;
        };
        for (at, slot) in self.fixed.get(filled..fixed).unwrap_or_default() {
            if let Some(place) = piece.get_mut(at - from..) {
                words.put(*slot, place);
            }
        }
    }

    /// About how many bytes of memory it takes.
    pub(super) fn size(&self) -> usize {
        self.text.capacity()
            + size_of_val(self.fixed.as_slice())
            + size_of_val(self.pieces.as_slice())
    }

    /// The text of one without slots.
    pub(super) fn whole(self) -> Vec<u8> {
        debug_assert!(self.fixed.is_empty() && self.pieces.is_empty());
        self.text
    }
}
