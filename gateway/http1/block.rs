//! Fields that are said together again and again, written out once.

use std::sync::OnceLock;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{HeaderName, HeaderValue};
use memchr::memchr;

use super::has_controls;

/// Fields, and their lines as HTTP/1 writes them. The values lie in the lines, so that nothing is kept twice.
#[derive(Clone, Debug, Default)]
pub struct Block {
    names: &'static [HeaderName],
    lines: Bytes,
    /// Made when somebody asks for them one by one: HTTP/1 does not, and the `http` crate looks through them byte by
    /// byte.
    values: OnceLock<Box<[HeaderValue]>>,
}

/// Between a name and its value.
const COLON: &[u8] = b": ";
/// Behind a value.
const END: &[u8] = b"\r\n";

impl Block {
    /// The fields of these names, each with the value in its place. `None` when a value may not stand in a field
    /// (RFC 9110 section 5.5).
    pub fn new<const N: usize>(
        names: &'static [HeaderName; N],
        values: [&[u8]; N],
    ) -> Option<Self> {
        let fields = || names.iter().zip(values);
        let room = |(name, value): (&HeaderName, &[u8])| {
            name.as_str().len() + COLON.len() + value.len() + END.len()
        };
        let mut lines = BytesMut::with_capacity(fields().map(room).sum());
        for (name, value) in fields() {
            if has_controls(value) {
                return None;
            }
            lines.put_slice(name.as_str().as_bytes());
            lines.put_slice(COLON);
            lines.put_slice(value);
            lines.put_slice(END);
        }
        Some(Self {
            names,
            lines: lines.freeze(),
            values: OnceLock::new(),
        })
    }

    /// The names of the fields.
    pub fn names(&self) -> impl Iterator<Item = &'static HeaderName> {
        self.names.iter()
    }

    /// The fields one by one.
    pub fn fields(&self) -> impl Iterator<Item = (&'static HeaderName, &HeaderValue)> {
        let values = self.values.get_or_init(|| self.values());
        self.names().zip(values)
    }

    #[expect(
        clippy::expect_used,
        reason = "what `new` lets pass is what the `http` crate takes"
    )]
    fn values(&self) -> Box<[HeaderValue]> {
        let mut at = 0;
        let values = self.names().map(|name| {
            at += name.as_str().len() + COLON.len();
            let rest = self.lines.slice(at..);
            // Nothing in a value looks like its end.
            let length = memchr(b'\r', &rest).unwrap_or(rest.len());
            at += length + END.len();
            HeaderValue::from_maybe_shared(rest.slice(..length)).expect("a value without controls")
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

    static ONE: [HeaderName; 1] = [HeaderName::from_static("x-one")];
    static THREE: [HeaderName; 3] = [
        HeaderName::from_static("x-one"),
        HeaderName::from_static("x-two"),
        HeaderName::from_static("x-three"),
    ];

    #[test]
    fn a_block_says_its_fields_in_both_ways() {
        let block = Block::new(&THREE, [b"1: 2", b"", b"a "]).expect("a block");
        assert_eq!(block.lines(), b"x-one: 1: 2\r\nx-two: \r\nx-three: a \r\n");
        let fields: Vec<_> = block
            .fields()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let expected: [(&str, &[u8]); 3] = [("x-one", b"1: 2"), ("x-two", b""), ("x-three", b"a ")];
        assert_eq!(fields, expected);
    }

    #[test]
    fn what_would_be_two_lines_is_no_value() {
        for value in ["a\r\nx-three: 3", "a\n", "\r", "a\0"] {
            assert!(Block::new(&ONE, [value.as_bytes()]).is_none(), "{value:?}");
        }
    }

    #[test]
    fn a_block_takes_what_the_http_crate_takes() {
        for byte in 0..=u8::MAX {
            let value = [b'a', byte];
            let block = Block::new(&ONE, [&value]);
            let expected = HeaderValue::from_bytes(&value).ok();
            let taken = block.as_ref().and_then(|block| block.fields().next());
            assert_eq!(taken.map(|(_, value)| value.clone()), expected, "{byte}");
        }
    }
}
