//! Fields that are said together again and again, written out once.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{HeaderName, HeaderValue, InvalidHeaderValue};

/// Fields, and their lines as HTTP/1 writes them. The values lie in the lines, so that nothing is kept twice.
#[derive(Clone, Debug, Default)]
pub struct Block {
    lines: Bytes,
    fields: Box<[(HeaderName, HeaderValue)]>,
}

impl Block {
    /// These fields, in this order.
    ///
    /// # Errors
    /// When a value may not stand in a field (RFC 9110 section 5.5).
    pub fn new<const N: usize>(
        fields: [(HeaderName, &[u8]); N],
    ) -> Result<Self, InvalidHeaderValue> {
        let room = |(name, value): &(HeaderName, &[u8])| name.as_str().len() + value.len() + 4;
        let mut lines = BytesMut::with_capacity(fields.iter().map(room).sum());
        let placed = fields.map(|(name, value)| {
            lines.put_slice(name.as_str().as_bytes());
            lines.put_slice(b": ");
            let from = lines.len();
            lines.put_slice(value);
            let place = from..lines.len();
            lines.put_slice(b"\r\n");
            (name, place)
        });
        let lines = lines.freeze();
        let fields = placed.into_iter().map(|(name, place)| {
            let value = HeaderValue::from_maybe_shared(lines.slice(place))?;
            Ok((name, value))
        });
        Ok(Self {
            fields: fields.collect::<Result<_, _>>()?,
            lines,
        })
    }

    /// The fields one by one.
    pub fn fields(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.fields.iter().map(|(name, value)| (name, value))
    }

    /// All of their lines, each with its end.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_says_its_fields_in_both_ways() {
        let name = HeaderName::from_static;
        let block = Block::new([(name("x-one"), b"1".as_slice()), (name("x-two"), b"")]);
        let block = block.expect("a block");
        assert_eq!(block.lines(), b"x-one: 1\r\nx-two: \r\n");
        let fields: Vec<_> = block.fields().collect();
        let one = (&name("x-one"), &HeaderValue::from_static("1"));
        let two = (&name("x-two"), &HeaderValue::from_static(""));
        assert_eq!(fields, [one, two]);
    }

    #[test]
    fn what_would_be_two_lines_is_no_value() {
        for value in ["a\r\nx-three: 3", "a\n", "\r", "a\0"] {
            let field = (HeaderName::from_static("x-one"), value.as_bytes());
            assert!(Block::new([field]).is_err(), "{value:?}");
        }
    }
}
