//! Where the body of an HTTP/1 request ends. Content is skipped, never looked at; the lines of the
//! chunked coding (RFC 9112 section 7.1) are read as strictly as those of a head.

use super::head::{Framing, is_token};

/// The most hexadecimal digits of a chunk's size: 64 bits.
const MAX_DIGITS: u8 = 16;

/// The longest chunk extension, in bytes. Nobody needs one; parsers disagree about them.
const MAX_EXTENSION: u16 = 256;

/// The longest trailer section, in bytes.
const MAX_TRAILERS: u16 = 8 * 1024;

/// What a look at the body came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All of it belongs to the body, and more is to come.
    More,
    /// The body ends in front of this byte.
    Done(usize),
    /// This byte may not stand here.
    Broken(usize),
}

/// How far a body was read.
#[derive(Debug)]
pub(super) enum Body {
    /// This many bytes are left.
    Length(u64),
    Chunked(Chunked),
}

impl Body {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::default()),
        }
    }

    /// Looks at the next bytes. An empty body is done before its first byte.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Progress {
        match self {
            Self::Length(left) => match skip(left, bytes) {
                skipped if *left == 0 => Progress::Done(skipped),
                _ => Progress::More,
            },
            Self::Chunked(chunked) => chunked.read(bytes),
        }
    }
}

/// Counts off what of `left` is there.
fn skip(left: &mut u64, bytes: &[u8]) -> usize {
    let there = bytes.len() as u64;
    if *left >= there {
        *left -= there;
        bytes.len()
    } else {
        // It is less than a length in memory, so it is one.
        usize::try_from(std::mem::take(left)).unwrap_or(bytes.len())
    }
}

#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    trailers: u16,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size { digits: u8, size: u64 },
    Extension { length: u16, size: u64 },
    SizeLineFeed { size: u64 },
    Content { left: u64 },
    ContentReturn,
    ContentLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

impl Default for State {
    fn default() -> Self {
        Self::Size { digits: 0, size: 0 }
    }
}

impl Chunked {
    fn read(&mut self, bytes: &[u8]) -> Progress {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            at += match self.step(rest) {
                Some(read) => read,
                None => return Progress::Broken(at),
            };
            if matches!(self.state, State::Done) {
                return Progress::Done(at);
            }
        }
        Progress::More
    }

    /// Reads one byte, or content as far as it is there. `None` if the byte may not stand there.
    fn step(&mut self, rest: &[u8]) -> Option<usize> {
        if let State::Content { left } = &mut self.state {
            let skipped = skip(left, rest);
            if *left == 0 {
                self.state = State::ContentReturn;
            }
            return Some(skipped);
        }
        let byte = *rest.first()?;
        self.count_trailer()?;
        self.state = self.state.after(byte)?;
        Some(1)
    }

    fn count_trailer(&mut self) -> Option<()> {
        if let State::TrailerStart | State::TrailerName | State::TrailerValue = self.state {
            self.trailers += 1;
        }
        (self.trailers <= MAX_TRAILERS).then_some(())
    }
}

impl State {
    fn after(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Size { digits, size }, _) => size_byte(digits, size, byte),
            (Self::Extension { size, .. }, b'\r') => Some(Self::SizeLineFeed { size }),
            (Self::Extension { length, size }, _) if is_text(byte) && length < MAX_EXTENSION => {
                Some(Self::Extension {
                    length: length + 1,
                    size,
                })
            }
            (Self::SizeLineFeed { size: 0 }, b'\n') => Some(Self::TrailerStart),
            (Self::SizeLineFeed { size }, b'\n') => Some(Self::Content { left: size }),
            (Self::ContentReturn, b'\r') => Some(Self::ContentLineFeed),
            (Self::ContentLineFeed, b'\n') => Some(Self::default()),
            (Self::TrailerStart, b'\r') => Some(Self::LastLineFeed),
            (Self::TrailerStart | Self::TrailerName, _) if is_token(byte) => {
                Some(Self::TrailerName)
            }
            (Self::TrailerName, b':') => Some(Self::TrailerValue),
            (Self::TrailerValue, b'\r') => Some(Self::TrailerLineFeed),
            (Self::TrailerValue, _) if is_text(byte) => Some(Self::TrailerValue),
            (Self::TrailerLineFeed, b'\n') => Some(Self::TrailerStart),
            (Self::LastLineFeed, b'\n') => Some(Self::Done),
            _ => None,
        }
    }
}

/// `chunk-size`, then an extension or the end of the line. No space: what is behind it would be a
/// size to one reader and an extension to another.
fn size_byte(digits: u8, size: u64, byte: u8) -> Option<State> {
    match byte {
        b'\r' if digits > 0 => Some(State::SizeLineFeed { size }),
        b';' if digits > 0 => Some(State::Extension { length: 1, size }),
        _ if digits < MAX_DIGITS => {
            let digit = char::from(byte).to_digit(16)?;
            Some(State::Size {
                digits: digits + 1,
                size: size << 4 | u64::from(digit),
            })
        }
        _ => None,
    }
}

/// What may stand in a field's value or in an extension.
const fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7F)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked(bytes: &str) -> Progress {
        Body::new(Framing::Chunked).read(bytes.as_bytes())
    }

    #[test]
    fn a_body_of_known_length_ends_there() {
        for (length, bytes, progress) in [
            (0, "", Progress::Done(0)),
            (0, "GET", Progress::Done(0)),
            (3, "ab", Progress::More),
            (3, "abc", Progress::Done(3)),
            (3, "abcGET", Progress::Done(3)),
            (u64::MAX, "abc", Progress::More),
        ] {
            let mut body = Body::new(Framing::Length(length));
            assert_eq!(body.read(bytes.as_bytes()), progress, "{length} {bytes}");
        }
    }

    #[test]
    fn a_chunked_body_ends_behind_its_trailers() {
        for body in [
            "0\r\n\r\n",
            "000\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "3;a=b;c=\"d e\"\r\nabc\r\n0;x\r\n\r\n",
            "A\r\n0123456789\r\n1\r\n\n\r\n0\r\n\r\n",
            "a\r\n0\r\n\r\n34567\r\n0\r\n\r\n",
            "0\r\nx-checksum: 1\r\ny:\r\n\r\n",
            "0000000000000001\r\na\r\n0\r\n\r\n",
        ] {
            let more = format!("{body}GET / HTTP/1.1");
            assert_eq!(chunked(&more), Progress::Done(body.len()), "{body:?}");
            assert_eq!(chunked(&body[..body.len() - 1]), Progress::More, "{body:?}");
        }
    }

    #[test]
    fn what_is_ambiguous_breaks_at_its_byte() {
        for (why, body, at) in [
            ("no digit", "\r\n", 0),
            ("no hexadecimal digit", "g\r\n", 0),
            ("a sign", "+3\r\n", 0),
            ("a prefix", "0x3\r\n", 1),
            ("a space in front", " 3\r\n", 0),
            ("a space behind", "3 \r\n", 1),
            ("a tab behind", "3\t;a\r\n", 1),
            ("seventeen digits", "00000000000000003\r\n", 16),
            ("a bare line feed", "3\nabc", 1),
            ("a bare carriage return", "3\rabc", 2),
            ("a bare line feed in an extension", "3;a\nabc", 3),
            ("a bare carriage return in an extension", "3;a\rb", 4),
            ("NUL in an extension", "3;a\0\r\n", 3),
            ("content too long", "3\r\nabcd\r\n", 6),
            ("a bare line feed behind content", "3\r\nabc\n0\r\n", 6),
            (
                "a bare carriage return behind content",
                "3\r\nabc\r0\r\n",
                7,
            ),
            ("a trailer that goes on", "0\r\nx: a\r\n b\r\n\r\n", 9),
            ("a trailer without a name", "0\r\n: a\r\n\r\n", 3),
            ("a trailer without a colon", "0\r\nx\r\n\r\n", 4),
            ("a space before the colon", "0\r\nx : a\r\n\r\n", 4),
            ("a bare line feed in the trailers", "0\r\nx: a\n\r\n", 7),
            ("a bare line feed at the end", "0\r\n\n", 3),
            ("a bare carriage return at the end", "0\r\n\rG", 4),
        ] {
            assert_eq!(chunked(body), Progress::Broken(at), "{why}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let extension = |length: usize| format!("0;{}\r\n\r\n", "a".repeat(length - 1));
        assert_eq!(chunked(&extension(256)), Progress::Done(261));
        assert_eq!(chunked(&extension(257)), Progress::Broken(257));
        let trailer = |length: usize| format!("0\r\nx:{}\r\n\r\n", "a".repeat(length));
        assert!(matches!(chunked(&trailer(8000)), Progress::Done(_)));
        assert!(matches!(chunked(&trailer(8200)), Progress::Broken(_)));
    }
}
