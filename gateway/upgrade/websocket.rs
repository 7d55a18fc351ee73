//! WebSocket (RFC 6455), as far as a gateway has to know it: its handshake, where its frames end, and how to say that
//! it is over.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// Who serves is leaving (RFC 6455 section 7.4.1).
pub const GOING_AWAY: u16 = 1001;
/// Who calls may not any more.
pub const POLICY_VIOLATION: u16 = 1008;

/// Whether it is the key of a handshake: 16 bytes in Base64 (section 4.1).
pub fn is_key(value: &[u8]) -> bool {
    STANDARD.decode(value).is_ok_and(|key| key.len() == 16)
}

/// What whoever understood the key says (section 4.2.2).
pub fn accept(key: &[u8]) -> String {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let said = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    STANDARD.encode(said)
}

/// A frame by which a server closes, and says why: `why` is no longer than 123 bytes (section 5.5.1).
pub fn close(code: u16, why: &str) -> Bytes {
    const FINAL_CLOSE: u8 = 0x88;
    const LONGEST: usize = 123;
    let why = why.get(..LONGEST.min(why.len())).unwrap_or_default();
    let mut frame = vec![FINAL_CLOSE, (2 + why.len()) as u8];
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(why.as_bytes());
    frame.into()
}

/// Walks along the frames that one side sends. Between two of them another may be put, in the middle of a message too
/// (section 5.4).
#[derive(Debug, Default)]
pub struct Walk {
    /// What has come of a frame's head.
    head: [u8; Self::LONGEST_HEAD],
    length: usize,
    /// Bytes that are left of a frame's payload.
    left: u64,
    has_closed: bool,
}

impl Walk {
    const LONGEST_HEAD: usize = 14;

    /// Goes along `bytes`, to their end or, where it is asked for, to the end of the frame that they begin in. How many
    /// bytes that is.
    pub fn along(&mut self, bytes: &[u8], stops: bool) -> usize {
        let mut rest = bytes;
        while let Some((byte, behind)) = rest.split_first() {
            if stops && self.is_between() {
                break;
            }
            if self.left > 0 {
                let there = self.left.min(rest.len() as u64);
                self.left -= there;
                rest = rest.get(there as usize..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.head.get_mut(self.length) {
                *place = *byte;
            }
            self.length += 1;
            self.read_head();
            rest = behind;
        }
        bytes.len() - rest.len()
    }

    /// Whether the side has said nothing of a frame that it has not said all of.
    pub fn is_between(&self) -> bool {
        self.length == 0 && self.left == 0
    }

    /// Whether it has closed: nothing may follow.
    pub fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// Reads the head, if it is whole (section 5.2).
    fn read_head(&mut self) {
        const MASKED: u8 = 0x80;
        const CLOSE: u8 = 0x8;
        let [first, second, extended @ ..] = self.head;
        let mask = match second & MASKED {
            0 => 0,
            _ => 4,
        };
        let (more, payload) = match (second & !MASKED, extended) {
            (126, [a, b, ..]) => (2, u64::from(u16::from_be_bytes([a, b]))),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                (8, u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
            (short, _) => (0, u64::from(short)),
        };
        if self.length == 2 + more + mask {
            self.has_closed |= first & 0xF == CLOSE;
            // What is longer than a length may be ends nowhere.
            self.left = payload;
            self.length = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of this payload, as a client or a server sends it.
    fn frame(opcode: u8, payload: usize, is_masked: bool) -> Vec<u8> {
        let mask = if is_masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match payload {
            0..126 => frame.push(mask | payload as u8),
            126..65536 => {
                frame.push(mask | 126);
                frame.extend_from_slice(&(payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend_from_slice(&(payload as u64).to_be_bytes());
            }
        }
        if is_masked {
            frame.extend_from_slice(&[1, 2, 3, 4]);
        }
        // What looks like the head of a frame that closes is none in a payload.
        frame.resize(frame.len() + payload, 0x88);
        frame
    }

    #[test]
    fn the_key_of_the_standard_has_the_answer_of_the_standard() {
        let key = b"dGhlIHNhbXBsZSBub25jZQ==";
        assert!(is_key(key));
        assert_eq!(accept(key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_close_says_why() {
        let said = close(POLICY_VIOLATION, "token-expired");
        assert_eq!(&*said, b"\x88\x0f\x03\xf0token-expired");
        assert_eq!(close(GOING_AWAY, &"x".repeat(200)).len(), 2 + 125);
        let mut walk = Walk::default();
        assert_eq!(walk.along(&said, false), said.len());
        assert!(walk.is_between() && walk.has_closed());
    }

    #[test]
    fn frames_end_where_they_end_however_they_are_cut() {
        for is_masked in [false, true] {
            for payload in [0, 1, 125, 126, 127, 65535, 65536, 70000] {
                let one = frame(2, payload, is_masked);
                let both = [&*one, &*frame(1, 3, is_masked)].concat();
                for cut in [1, 2, 3, 5, 9, 13, 14, one.len() - 1, one.len()] {
                    let mut walk = Walk::default();
                    let cut = cut.min(one.len());
                    let (before, behind) = both.split_at(cut);
                    assert_eq!(walk.along(before, false), cut);
                    assert_eq!(walk.is_between(), cut == one.len(), "{payload} {cut}");
                    assert_eq!(walk.along(behind, true), one.len() - cut);
                    assert!(walk.is_between() && !walk.has_closed());
                }
            }
        }
    }

    #[test]
    fn what_is_cut_byte_by_byte_is_the_same() {
        let mut walk = Walk::default();
        let text = [frame(1, 200, true), frame(9, 5, true), frame(8, 2, true)].concat();
        let mut ends = Vec::new();
        for (at, byte) in text.iter().enumerate() {
            assert_eq!(walk.along(&[*byte], false), 1);
            if walk.is_between() {
                ends.push(at + 1);
            }
        }
        assert_eq!(ends, [208, 219, 227]);
        assert!(walk.has_closed());
    }
}
