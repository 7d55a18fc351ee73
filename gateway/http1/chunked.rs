//! The chunked coding (RFC 9112 section 7.1), taken off piece by piece. Its lines are read byte by byte and as
//! strictly as those of a head: two readers must not find two ends.

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::content::up_to;
use super::{Malformed, Piece, is_token};

/// The most hexadecimal digits of a chunk's size: 64 bits.
const MAX_DIGITS: u8 = 16;

/// The longest chunk extension, in bytes, and the most of them in one body. Nobody needs them; parsers disagree
/// about them, and each costs its sender less than us.
const MAX_EXTENSION: u16 = 256;
const MAX_EXTENSIONS: u16 = 16 * 1024;

/// The longest trailer section, in bytes, and the most fields of it.
const MAX_TRAILERS: usize = 8 * 1024;
const MAX_TRAILER_FIELDS: u8 = 32;

/// A chunked body, and how far it was read.
#[derive(Debug)]
pub struct Chunked {
    state: State,
    reader: Reader,
    extensions: u16,
    trailers: Vec<u8>,
    fields: u8,
}

/// Whose body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A caller's. Nothing is forgiven.
    OfRequest,
    /// A backend's: some pad the size with spaces.
    OfAnswer,
}

/// Where the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { digits: u8, size: u64 },
    Padding { size: u64 },
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

const SIZE: State = State::Size { digits: 0, size: 0 };

impl Chunked {
    /// A body of which nothing was read.
    pub fn new(reader: Reader) -> Self {
        Self {
            state: SIZE,
            reader,
            extensions: 0,
            trailers: Vec::new(),
            fields: 0,
        }
    }

    /// Whether nothing more of it is to come.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes the next piece off `input`.
    ///
    /// # Errors
    /// At the first byte that may not stand where it stands; it is left in `input`.
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Piece, Malformed> {
        if self.is_done() {
            return Ok(Piece::End);
        }
        self.read_lines(input)?;
        match &mut self.state {
            State::Content { left } if !input.is_empty() => {
                let data = up_to(left, input);
                if *left == 0 {
                    self.state = State::ContentReturn;
                }
                Ok(Piece::Data(data))
            }
            State::Done => self.end(),
            _ => Ok(Piece::More),
        }
    }

    /// Reads up to where content begins, or the body ends.
    fn read_lines(&mut self, input: &mut BytesMut) -> Result<(), Malformed> {
        let mut read = 0;
        let mut read_all = Ok(());
        for byte in input.iter() {
            if let State::Content { .. } | State::Done = self.state {
                break;
            }
            if let Err(malformed) = self.step(*byte) {
                read_all = Err(malformed);
                break;
            }
            read += 1;
        }
        input.advance(read);
        read_all
    }

    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        let next = self.state.after(byte, self.reader);
        let next = next.ok_or_else(|| self.state.fault())?;
        match next {
            State::Extension { .. } => self.count_extension()?,
            State::TrailerStart | State::TrailerName | State::TrailerValue
                if self.state.is_in_trailers() =>
            {
                self.keep_trailer(byte)?;
            }
            _ => {}
        }
        self.state = next;
        Ok(())
    }

    fn count_extension(&mut self) -> Result<(), Malformed> {
        self.extensions += 1;
        match self.extensions <= MAX_EXTENSIONS {
            true => Ok(()),
            false => Err(Malformed("too many chunk extensions")),
        }
    }

    fn keep_trailer(&mut self, byte: u8) -> Result<(), Malformed> {
        self.trailers.push(byte);
        self.fields += u8::from(byte == b'\n');
        match self.trailers.len() <= MAX_TRAILERS && self.fields <= MAX_TRAILER_FIELDS {
            true => Ok(()),
            false => Err(Malformed("the trailers are too long")),
        }
    }

    fn end(&mut self) -> Result<Piece, Malformed> {
        let section = Bytes::from(std::mem::take(&mut self.trailers));
        match section.is_empty() {
            true => Ok(Piece::End),
            false => trailers(&section).map(Piece::Trailers),
        }
    }
}

impl State {
    fn after(self, byte: u8, reader: Reader) -> Option<Self> {
        match (self, byte) {
            (Self::Size { digits: 1.., size }, b' ' | b'\t') if reader == Reader::OfAnswer => {
                Some(Self::Padding { size })
            }
            (Self::Size { digits, size }, _) => size_byte(digits, size, byte),
            (Self::Padding { size }, b' ' | b'\t') => Some(Self::Padding { size }),
            (Self::Padding { size }, b';') => Some(Self::Extension { length: 1, size }),
            (Self::Padding { size } | Self::Extension { size, .. }, b'\r') => {
                Some(Self::SizeLineFeed { size })
            }
            (Self::Extension { length, size }, _) if is_text(byte) && length < MAX_EXTENSION => {
                Some(Self::Extension {
                    length: length + 1,
                    size,
                })
            }
            (Self::SizeLineFeed { size: 0 }, b'\n') => Some(Self::TrailerStart),
            (Self::SizeLineFeed { size }, b'\n') => Some(Self::Content { left: size }),
            (Self::ContentReturn, b'\r') => Some(Self::ContentLineFeed),
            (Self::ContentLineFeed, b'\n') => Some(SIZE),
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

    fn is_in_trailers(self) -> bool {
        matches!(
            self,
            Self::TrailerStart | Self::TrailerName | Self::TrailerValue | Self::TrailerLineFeed
        )
    }

    /// What is wrong when no byte of this kind may stand here.
    fn fault(self) -> Malformed {
        Malformed(match self {
            Self::Size { .. } => "the size of a chunk is none",
            Self::Padding { .. } | Self::Extension { .. } | Self::SizeLineFeed { .. } => {
                "the line of a chunk's size does not end"
            }
            Self::ContentReturn | Self::ContentLineFeed => "a chunk is longer than its size",
            _ => "a trailer cannot be read",
        })
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

/// The fields of a section whose bytes were found to be in order. Each ends with its line feed alone.
fn trailers(section: &Bytes) -> Result<HeaderMap, Malformed> {
    let unreadable = || Malformed("a trailer cannot be read");
    let mut trailers = HeaderMap::new();
    for line in section.split(|byte| *byte == b'\n') {
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let name = line.get(..colon).unwrap_or_default();
        let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
        let name = HeaderName::from_bytes(name).map_err(|_| unreadable())?;
        let value = HeaderValue::from_bytes(value).map_err(|_| unreadable())?;
        trailers.append(name, value);
    }
    Ok(trailers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Progress {
        More,
        /// It ends in front of this byte.
        Done(usize),
        /// This byte may not stand there.
        Broken(usize),
    }

    fn read(reader: Reader, bytes: &str) -> Progress {
        let mut input = BytesMut::from(bytes);
        let mut chunked = Chunked::new(reader);
        loop {
            let taken = chunked.take(&mut input);
            let at = bytes.len() - input.len();
            match taken {
                Ok(Piece::Data(_) | Piece::Trailers(_)) => {}
                Ok(Piece::More) => return Progress::More,
                Ok(Piece::End) => return Progress::Done(at),
                Err(_) => return Progress::Broken(at),
            }
        }
    }

    fn chunked(bytes: &str) -> Progress {
        read(Reader::OfRequest, bytes)
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

    const READERS: [Reader; 2] = [Reader::OfRequest, Reader::OfAnswer];

    /// All of a chunked body that came in these pieces, its trailers and what is left behind it. An error where it
    /// is none.
    fn dechunked(
        reader: Reader,
        pieces: &[&str],
    ) -> Result<(String, Option<String>, String), String> {
        let (mut chunked, mut input) = (Chunked::new(reader), BytesMut::new());
        let (mut data, mut trailers) = (Vec::new(), None);
        let mut pieces = pieces.iter();
        loop {
            match chunked
                .take(&mut input)
                .map_err(|fault| fault.to_string())?
            {
                Piece::Data(more) => data.extend_from_slice(&more),
                Piece::Trailers(fields) => {
                    let value = fields
                        .get("x-sum")
                        .map(|value| value.to_str().expect("text"));
                    trailers = value.map(str::to_owned);
                }
                Piece::End => {
                    let rest = String::from_utf8(input.to_vec()).expect("text");
                    return Ok((String::from_utf8(data).expect("text"), trailers, rest));
                }
                Piece::More => match pieces.next() {
                    Some(piece) => input.extend_from_slice(piece.as_bytes()),
                    None => return Err("it does not end".to_owned()),
                },
            }
        }
    }

    #[test]
    fn a_chunked_body_is_read_however_it_is_cut() {
        let whole = "5\r\nhello\r\n6;a=b\r\n world\r\n00\r\nX-Sum: 7\r\n\r\nnext";
        let expected = (
            "hello world".to_owned(),
            Some("7".to_owned()),
            "next".to_owned(),
        );
        for at in 0..whole.len() - "next".len() {
            let cut = [&whole[..at], &whole[at..]];
            for reader in READERS {
                assert_eq!(dechunked(reader, &cut), Ok(expected.clone()), "{at}");
            }
        }
        let bytes: Vec<String> = whole.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        let (data, trailers, _) = dechunked(Reader::OfAnswer, &bytes).expect("a body");
        assert_eq!((data, trailers), (expected.0, expected.1));
    }

    #[test]
    fn chunks_that_two_readers_cut_in_two_ways_are_refused() {
        for body in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhelloXX0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            ";x\r\nhello\r\n0\r\n\r\n",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "11111111111111111\r\nhello\r\n0\r\n\r\n",
            "0\r\nX Y: 1\r\n\r\n",
            "0\r\n\n",
            "0\r\nX: 1\n\r\n",
        ] {
            for reader in READERS {
                let fault = dechunked(reader, &[body]).expect_err(body);
                assert!(fault != "it does not end", "{body}");
            }
        }
        let extended = "1;aaaaaaaaaaaaaaa\r\nx\r\n".repeat(2000);
        assert!(
            dechunked(Reader::OfAnswer, &[&extended])
                .is_err_and(|fault| fault != "it does not end")
        );
        let long = format!("5;{}", "x".repeat(1000));
        assert!(
            dechunked(Reader::OfAnswer, &[&long]).is_err_and(|fault| fault != "it does not end")
        );
        let trailers = format!("0\r\nX: {}", "x".repeat(9000));
        assert!(
            dechunked(Reader::OfAnswer, &[&trailers])
                .is_err_and(|fault| fault != "it does not end")
        );
    }

    #[test]
    fn only_a_backend_may_pad_a_size() {
        for body in [
            "5  \r\nhello\r\n0\t\r\n\r\n",
            "5 ;a=b\r\nhello\r\n0\r\n\r\n",
        ] {
            let read = dechunked(Reader::OfAnswer, &[body]).expect(body);
            assert_eq!(read.0, "hello");
            assert!(dechunked(Reader::OfRequest, &[body]).is_err());
        }
        let many = format!("0\r\n{}\r\n", "x: 1\r\n".repeat(33));
        assert!(
            dechunked(Reader::OfAnswer, &[&many]).is_err_and(|fault| fault != "it does not end")
        );
    }
}
