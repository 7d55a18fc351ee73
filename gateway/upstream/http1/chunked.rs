//! The chunked coding of an answer (RFC 9112 section 7.1), taken off piece by piece.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::{memchr_iter, memmem};

use super::Fault;

/// The longest line of a chunk's size with its extensions, in bytes.
const LONGEST_LINE: usize = 512;

/// The longest trailer section, in bytes, and the most fields of it.
const LONGEST_TRAILERS: usize = 8 * 1024;
const MOST_TRAILERS: usize = 32;

/// The most bytes of extensions in one body: nobody needs them, and each costs its sender less than us.
const MOST_EXTENSIONS: usize = 16 * 1024;

/// A chunked body, and how far it was read.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    state: State,
    extensions: usize,
}

/// Where the next byte stands.
#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    /// In the line of a chunk's size.
    #[default]
    Size,
    /// In a chunk, of which so much is left.
    Data(u64),
    /// Behind a chunk.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
    /// Behind everything.
    Done,
}

/// What was taken off.
pub(super) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    /// The body has ended.
    End,
    /// What is there is not enough to go on.
    More,
}

impl Chunked {
    /// Whether nothing more of it is to come.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes the next piece off `input`.
    pub(super) fn take(&mut self, input: &mut BytesMut) -> Result<Piece, Fault> {
        loop {
            match &mut self.state {
                State::Size => match line(input, LONGEST_LINE)? {
                    None => return Ok(Piece::More),
                    Some(line) => self.begin(&line)?,
                },
                State::Data(_) if input.is_empty() => return Ok(Piece::More),
                State::Data(left) => {
                    let data = up_to(*left, input);
                    *left -= data.len() as u64;
                    if *left == 0 {
                        self.state = State::DataEnd;
                    }
                    return Ok(Piece::Data(data));
                }
                State::DataEnd => match line(input, 0)? {
                    None => return Ok(Piece::More),
                    Some(_) => self.state = State::Size,
                },
                State::Trailers => {
                    let Some(trailers) = trailers(input)? else {
                        return Ok(Piece::More);
                    };
                    self.state = State::Done;
                    if !trailers.is_empty() {
                        return Ok(Piece::Trailers(trailers));
                    }
                }
                State::Done => return Ok(Piece::End),
            }
        }
    }

    fn begin(&mut self, line: &[u8]) -> Result<(), Fault> {
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
        self.extensions += line.len() - digits.count();
        if self.extensions > MOST_EXTENSIONS {
            return Err(Fault::Malformed("too many chunk extensions"));
        }
        self.state = match size(line)? {
            0 => State::Trailers,
            size => State::Data(size),
        };
        Ok(())
    }
}

/// Takes what is there of `left` bytes.
pub(super) fn up_to(left: u64, input: &mut BytesMut) -> Bytes {
    let there = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    input.split_to(there).freeze()
}

/// Takes a line off, without its end. None if its end is not there yet.
fn line(input: &mut BytesMut, longest: usize) -> Result<Option<BytesMut>, Fault> {
    let Some(end) = memmem::find(input, b"\r\n") else {
        return match input.len() > longest + 1 {
            true => Err(Fault::Malformed("a chunk without its line")),
            false => Ok(None),
        };
    };
    if end > longest {
        return Err(Fault::Malformed("a chunk without its line"));
    }
    let line = input.split_to(end);
    drop(input.split_to(2));
    Ok(Some(line))
}

/// Hexadecimal digits, and perhaps extensions, which nobody reads.
fn size(line: &[u8]) -> Result<u64, Fault> {
    let wrong = Fault::Malformed("the size of a chunk is none");
    let mut parts = line.splitn(2, |byte| *byte == b';');
    let digits = parts.next().unwrap_or_default().trim_ascii_end();
    let is_size = matches!(digits.len(), 1..=16) && digits.iter().all(u8::is_ascii_hexdigit);
    // A line feed by itself is a line's end to some readers.
    let is_line = !line.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
    let digits = std::str::from_utf8(digits).unwrap_or_default();
    match u64::from_str_radix(digits, 16) {
        Ok(size) if is_size && is_line => Ok(size),
        Ok(_) | Err(_) => Err(wrong),
    }
}

fn trailers(input: &mut BytesMut) -> Result<Option<HeaderMap>, Fault> {
    let wrong = || Fault::Malformed("a trailer of the answer cannot be read");
    let mut fields = [httparse::EMPTY_HEADER; MOST_TRAILERS];
    let (length, fields) = match httparse::parse_headers(input, &mut fields) {
        Ok(httparse::Status::Complete(complete)) => complete,
        Ok(httparse::Status::Partial) if input.len() <= LONGEST_TRAILERS => return Ok(None),
        Ok(httparse::Status::Partial) | Err(_) => return Err(wrong()),
    };
    // httparse takes a line feed alone for a line's end; others do not.
    let section = input.get(..length).unwrap_or_default();
    let ends = memchr_iter(b'\n', section);
    if !ends
        .into_iter()
        .all(|at| at > 0 && section.get(at - 1) == Some(&b'\r'))
    {
        return Err(wrong());
    }
    let mut trailers = HeaderMap::new();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        trailers.append(name.map_err(|_| wrong())?, value.map_err(|_| wrong())?);
    }
    drop(input.split_to(length));
    Ok(Some(trailers))
}
