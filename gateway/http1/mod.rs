//! What HTTP/1.1 is made of on both sides of the gateway (RFC 9112): what was read and not yet taken, where a
//! body ends, and how a message goes out.

mod block;
mod chunked;
mod content;
mod input;
mod sending;

use std::fmt;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, StatusCode};

pub use block::Block;
pub use chunked::{Chunked, Reader};
pub use content::{Content, Piece};
pub use input::{Input, Scratch};
pub use sending::{Coding, Sending, Unsent};

/// What came is no HTTP/1.1, or can be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Where something stands in a head, which is shorter than 4 GiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    from: u32,
    length: u32,
}

impl Place {
    /// Where `part` of `whole` stands in it.
    pub fn of(part: &[u8], whole: &[u8]) -> Self {
        let from = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
        Self {
            from: from as u32,
            length: part.len() as u32,
        }
    }

    /// The same, where the whole stands `from` bytes behind the beginning.
    pub fn behind(self, from: usize) -> Self {
        Self {
            from: self.from + from as u32,
            length: self.length,
        }
    }

    /// From where to where.
    pub fn range(self) -> Range<usize> {
        let from = self.from as usize;
        from..from + self.length as usize
    }
}

/// `tchar` (RFC 9110 section 5.6.2).
pub fn is_token(byte: u8) -> bool {
    TOKEN.get(usize::from(byte)).copied().unwrap_or(false)
}

/// Whether a control character stands in `text`, the tab aside: no field holds one (RFC 9110 section 5.5). Without
/// a branch for each byte, so that the compiler can look at many at once.
pub fn has_controls(text: &[u8]) -> bool {
    let found = text.iter().fold(0, |found, byte| {
        found | u8::from(((*byte < 0x20) & (*byte != b'\t')) | (*byte == 0x7F))
    });
    found != 0
}

/// Writes a field.
pub fn write_field(name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A length of a body (RFC 9110 section 8.6): digits alone, and no more of them than surely fit 64 bits.
pub fn length(value: &[u8]) -> Option<u64> {
    if !matches!(value.len(), 1..=19) {
        return None;
    }
    value.iter().try_fold(0u64, |number, byte| match byte {
        b'0'..=b'9' => Some(number * 10 + u64::from(byte - b'0')),
        _ => None,
    })
}

/// Takes the first `length` bytes off `input`, or all that there are.
pub fn take_off(length: usize, input: &mut BytesMut) -> Bytes {
    match length >= input.len() {
        // Splitting would leave two halves that share a counter.
        true => std::mem::take(input).freeze(),
        false => input.split_to(length).freeze(),
    }
}

/// Whether an answer may have a body, by its status and by what was asked (RFC 9112 section 6.3).
pub fn may_have_body(is_head: bool, status: StatusCode) -> bool {
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    !is_head && !bodiless && !status.is_informational()
}

/// Whether a comma-separated field names an option.
pub fn lists(value: &[u8], option: &[u8]) -> bool {
    let mut options = value.split(|byte| *byte == b',');
    options.any(|one| one.trim_ascii().eq_ignore_ascii_case(option))
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let character = byte as u8;
        #[expect(clippy::indexing_slicing, reason = "256 entries, one for every byte")]
        {
            table[byte] = character.is_ascii_alphanumeric()
                || matches!(
                    character,
                    b'!' | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'-'
                        | b'.'
                        | b'^'
                        | b'_'
                        | b'`'
                        | b'|'
                        | b'~'
                );
        }
        byte += 1;
    }
    table
};
