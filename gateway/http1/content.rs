//! Where a body ends (RFC 9112 section 6.3).

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::SizeHint;

use super::{Chunked, Input, Malformed, Reader, take_off};

/// What is left of a message's body.
#[derive(Debug)]
pub enum Content {
    /// So many bytes.
    Length(u64),
    /// Chunks, of which the last is empty.
    Chunked(Box<Chunked>),
    /// Everything up to the end of the connection.
    UntilClose {
        /// Whether that has come.
        ended: bool,
    },
}

/// What was taken off a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of it, at least one.
    Data(Bytes),
    /// What stands behind it.
    Trailers(HeaderMap),
    /// Nothing: it has ended.
    End,
    /// Nothing: what is there is not enough to go on.
    More,
}

impl Content {
    /// A chunked body, of which nothing was read.
    pub fn chunked(reader: Reader) -> Self {
        Self::Chunked(Box::new(Chunked::new(reader)))
    }

    /// Takes the next piece off `input`.
    ///
    /// # Errors
    /// When it is no chunked coding.
    pub fn take(&mut self, input: &mut BytesMut) -> Result<Piece, Malformed> {
        Ok(match self {
            Self::Length(0) => Piece::End,
            Self::UntilClose { ended: true } if input.is_empty() => Piece::End,
            Self::Chunked(chunked) => chunked.take(input)?,
            Self::Length(_) | Self::UntilClose { .. } if input.is_empty() => Piece::More,
            Self::Length(left) => Piece::Data(up_to(left, input)),
            Self::UntilClose { .. } => Piece::Data(input.split().freeze()),
        })
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// When more was to come.
    pub fn end(&mut self) -> Result<(), Malformed> {
        match self {
            Self::UntilClose { ended } => *ended = true,
            Self::Length(0) => {}
            Self::Chunked(chunked) if chunked.is_done() => {}
            Self::Length(_) | Self::Chunked(_) => {
                return Err(Malformed(
                    "the connection closed before the message was complete",
                ));
            }
        }
        Ok(())
    }

    /// Whether nothing is left of it; `input` is what was read behind the head and not yet taken.
    pub fn is_done(&self, input: &Input) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_done(),
            Self::UntilClose { ended } => *ended && input.is_empty(),
        }
    }

    /// How much is left of it.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Length(left) => SizeHint::with_exact(*left),
            Self::Chunked(_) | Self::UntilClose { .. } => SizeHint::default(),
        }
    }
}

/// Takes what is there of `left` bytes.
pub(super) fn up_to(left: &mut u64, input: &mut BytesMut) -> Bytes {
    let there = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    *left -= there as u64;
    take_off(there, input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_what_belongs_to_a_body_is_taken() {
        for (length, text, taken, rest) in [
            (5, "hello world", "hello", " world"),
            (5, "hello", "hello", ""),
            (9, "hello", "hello", ""),
        ] {
            let mut input = BytesMut::from(text);
            let mut content = Content::Length(length);
            let piece = content.take(&mut input);
            assert_eq!(piece, Ok(Piece::Data(Bytes::from(taken))));
            assert_eq!(input, rest);
            let left = length - taken.len() as u64;
            assert_eq!(content.size_hint().exact(), Some(left));
            assert_eq!(content.end().is_ok(), left == 0);
        }
    }

    #[test]
    fn what_ends_with_its_connection_ends_with_it() {
        let mut content = Content::UntilClose { ended: false };
        let mut input = BytesMut::from("all");
        assert_eq!(
            content.take(&mut input),
            Ok(Piece::Data(Bytes::from("all")))
        );
        assert_eq!(content.take(&mut input), Ok(Piece::More));
        assert_eq!(content.end(), Ok(()));
        assert_eq!(content.take(&mut input), Ok(Piece::End));
    }
}
