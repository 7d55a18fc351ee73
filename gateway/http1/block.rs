//! Fields that are said together again and again, written out once.

use std::sync::OnceLock;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{HeaderName, HeaderValue};

use super::{Place, has_controls};

/// Fields, and their lines as HTTP/1 writes them. The values lie in the lines, so that nothing is kept twice.
#[derive(Clone, Debug, Default)]
pub struct Block {
    lines: Bytes,
    names: Box<[(HeaderName, Place)]>,
    /// Made when somebody asks for them one by one: HTTP/1 does not, and the `http` crate looks through them byte by
    /// byte.
    values: OnceLock<Box<[HeaderValue]>>,
}

impl Block {
    /// These fields, in this order. `None` when a value may not stand in a field (RFC 9110 section 5.5).
    pub fn new<const N: usize>(fields: [(HeaderName, &[u8]); N]) -> Option<Self> {
        let room = |(name, value): &(HeaderName, &[u8])| name.as_str().len() + value.len() + 4;
        let mut lines = BytesMut::with_capacity(fields.iter().map(room).sum());
        let mut is_good = true;
        let names = fields.map(|(name, value)| {
            is_good &= !has_controls(value);
            lines.put_slice(name.as_str().as_bytes());
            lines.put_slice(b": ");
            let place = Place::at(lines.len(), value.len());
            lines.put_slice(value);
            lines.put_slice(b"\r\n");
            (name, place)
        });
        is_good.then(|| Self {
            lines: lines.freeze(),
            names: Box::new(names),
            values: OnceLock::new(),
        })
    }

    /// The names of the fields.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.names.iter().map(|(name, _)| name)
    }

    /// The fields one by one.
    pub fn fields(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let values = self.values.get_or_init(|| self.values());
        self.names().zip(values)
    }

    #[expect(
        clippy::expect_used,
        reason = "what `new` lets pass is what the `http` crate takes"
    )]
    fn values(&self) -> Box<[HeaderValue]> {
        let values = self.names.iter().map(|(_, place)| {
            let value = self.lines.slice(place.range());
            HeaderValue::from_maybe_shared(value).expect("a value without controls")
        });
        values.collect()
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
            assert!(Block::new([field]).is_none(), "{value:?}");
        }
    }

    #[test]
    fn a_block_takes_what_the_http_crate_takes() {
        for byte in 0..=u8::MAX {
            let value = [b'a', byte];
            let block = Block::new([(HeaderName::from_static("x-one"), &value)]);
            let expected = HeaderValue::from_bytes(&value).ok();
            let taken = block.as_ref().and_then(|block| block.fields().next());
            assert_eq!(taken.map(|(_, value)| value.clone()), expected, "{byte}");
        }
    }
}
