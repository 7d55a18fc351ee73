//! Protocol Buffers as far as OTLP needs them: a message is written field by field, straight into the bytes that are
//! sent. Spans are written for each request that is recorded, and messages built from values first would cost as much
//! as the rest of its telemetry.
//! <https://protobuf.dev/programming-guides/encoding/>

use std::time::Duration;

/// A message that is being written.
pub(in crate::telemetry) struct Message<'o>(&'o mut Vec<u8>);

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

impl<'o> Message<'o> {
    /// Writes its fields behind what is there.
    pub(in crate::telemetry) fn new(out: &'o mut Vec<u8>) -> Self {
        Self(out)
    }

    fn tag(&mut self, field: u32, kind: u32) {
        varint(u64::from(field << 3 | kind), self.0);
    }

    /// A whole number or an enum.
    pub(in crate::telemetry) fn number(&mut self, field: u32, value: u64) {
        self.tag(field, VARINT);
        varint(value, self.0);
    }

    /// `fixed64`.
    pub(in crate::telemetry) fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// `fixed32`.
    pub(in crate::telemetry) fn fixed32(&mut self, field: u32, value: u32) {
        self.tag(field, FIXED32);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// `double`.
    pub(in crate::telemetry) fn double(&mut self, field: u32, value: f64) {
        self.fixed64(field, value.to_bits());
    }

    /// `bytes` and `string`.
    pub(in crate::telemetry) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.tag(field, LENGTH);
        varint(value.len() as u64, self.0);
        self.0.extend_from_slice(value);
    }

    /// Packed `fixed64` and `double`.
    pub(in crate::telemetry) fn packed64(
        &mut self,
        field: u32,
        values: impl ExactSizeIterator<Item = u64>,
    ) {
        self.tag(field, LENGTH);
        varint(values.len() as u64 * 8, self.0);
        for value in values {
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// Fields that somebody else writes, each whole.
    pub(in crate::telemetry) fn raw(&mut self) -> &mut Vec<u8> {
        self.0
    }

    /// What stands before `fixed64`, which is to be written next.
    pub(in crate::telemetry) fn before_fixed64(&mut self, field: u32) {
        self.tag(field, FIXED64);
    }

    /// What stands before so many `bytes`, which are to be written next.
    pub(in crate::telemetry) fn before_bytes(&mut self, field: u32, length: usize) {
        self.tag(field, LENGTH);
        varint(length as u64, self.0);
    }

    /// A text that is put together of parts.
    pub(in crate::telemetry) fn parts(&mut self, field: u32, parts: [&str; 3]) {
        self.tag(field, LENGTH);
        varint(parts.iter().map(|part| part.len() as u64).sum(), self.0);
        for part in parts {
            self.0.extend_from_slice(part.as_bytes());
        }
    }

    /// A message in it, which is mostly short.
    pub(in crate::telemetry) fn message(
        &mut self,
        field: u32,
        write: impl FnOnce(&mut Message<'_>),
    ) {
        self.nested(field, 1, write);
    }

    /// A message in it, of about so many bytes. Where its length takes another number of bytes than that, it has to be
    /// moved.
    pub(in crate::telemetry) fn message_of(
        &mut self,
        field: u32,
        about: usize,
        write: impl FnOnce(&mut Message<'_>),
    ) {
        self.nested(field, varint_length(about as u64), write);
    }

    /// Its length takes so many bytes, as far as is known; if it takes others, the message makes room.
    fn nested(&mut self, field: u32, expected: usize, write: impl FnOnce(&mut Message<'_>)) {
        self.tag(field, LENGTH);
        let before = self.0.len();
        self.0.resize(before + expected, 0);
        let start = before + expected;
        write(&mut Message(self.0));
        let length = self.0.len() - start;
        let taken = varint_length(length as u64);
        if taken > expected {
            self.0.resize(start + length + taken - expected, 0);
        }
        if taken != expected {
            self.0.copy_within(start..start + length, before + taken);
            self.0.truncate(before + taken + length);
        }
        let mut left = length;
        let places = self.0.get_mut(before..before + taken).unwrap_or_default();
        for (at, place) in places.iter_mut().enumerate() {
            let more = if at + 1 < taken { 0x80 } else { 0 };
            *place = (left & 0x7f) as u8 | more;
            left >>= 7;
        }
    }

    /// `KeyValue` with a text. Its lengths are known beforehand.
    pub(in crate::telemetry) fn text_attribute(&mut self, field: u32, name: &str, value: &[u8]) {
        let total = name.len() + value.len() + 6;
        if field < 16 && total < 0x80 {
            // Each tag and each length is one byte: nearly all are.
            let (key, any) = (name.len() as u8, value.len() as u8);
            let tag = (field << 3 | LENGTH) as u8;
            self.0.extend_from_slice(&[tag, total as u8, 0x0a, key]);
            self.0.extend_from_slice(name.as_bytes());
            self.0.extend_from_slice(&[0x12, any + 2, 0x0a, any]);
            self.0.extend_from_slice(value);
            return;
        }
        self.before_text_attribute(field, name, value.len());
        self.0.extend_from_slice(value);
    }

    /// What stands before a text of so many bytes in a `KeyValue`, which is to be written next.
    pub(in crate::telemetry) fn before_text_attribute(
        &mut self,
        field: u32,
        name: &str,
        length: usize,
    ) {
        self.pair(field, name, 1 + varint_length(length as u64) + length);
        self.before_bytes(1, length);
    }

    /// `KeyValue` with a whole number.
    pub(in crate::telemetry) fn number_attribute(&mut self, field: u32, name: &str, value: u64) {
        self.pair(field, name, 1 + varint_length(value));
        self.number(3, value);
    }

    /// What stands before the value, which takes `any` bytes.
    fn pair(&mut self, field: u32, name: &str, any: usize) {
        let key = 1 + varint_length(name.len() as u64) + name.len();
        let value = 1 + varint_length(any as u64) + any;
        self.tag(field, LENGTH);
        varint((key + value) as u64, self.0);
        self.bytes(1, name.as_bytes());
        self.tag(2, LENGTH);
        varint(any as u64, self.0);
    }
}

/// A time since the Unix epoch as OTLP has it, in nanoseconds.
pub(in crate::telemetry) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How many bytes a number takes.
fn varint_length(value: u64) -> usize {
    let bits = u64::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[derive(Clone, PartialEq, prost::Message)]
    struct Inner {
        #[prost(bytes = "vec", tag = "1")]
        bytes: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Outer {
        #[prost(message, repeated, tag = "2")]
        inner: Vec<Inner>,
        #[prost(uint64, tag = "3")]
        number: u64,
    }

    #[test]
    fn a_message_of_any_length_is_written_as_others_write_it() {
        for length in [
            0, 1, 125, 126, 127, 128, 129, 16_000, 16_380, 16_384, 70_000,
        ] {
            let inner = Inner {
                bytes: vec![7; length],
            };
            for number in [0, 1, 127, 128, 16_383, 16_384, u64::MAX] {
                let outer = Outer {
                    inner: vec![inner.clone(); 2],
                    number,
                };
                let mut out = Vec::new();
                let mut message = Message::new(&mut out);
                message.message(2, |to| to.bytes(1, &inner.bytes));
                message.message_of(2, 500, |to| to.bytes(1, &inner.bytes));
                message.number(3, number);
                assert_eq!(Outer::decode(&*out), Ok(outer), "{length}, {number}");
            }
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Any {
        #[prost(string, optional, tag = "1")]
        text: Option<String>,
        #[prost(uint64, optional, tag = "3")]
        number: Option<u64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Pair {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(message, optional, tag = "2")]
        value: Option<Any>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Pairs {
        #[prost(message, repeated, tag = "9")]
        pairs: Vec<Pair>,
    }

    #[test]
    fn attributes_of_any_length_are_written_as_others_write_them() {
        for length in (0..260).chain([20_000]) {
            let (name, text) = ("name".to_owned(), "x".repeat(length));
            let number = Some(length as u64);
            let mut out = Vec::new();
            let mut message = Message::new(&mut out);
            message.text_attribute(9, &name, text.as_bytes());
            message.number_attribute(9, &name, length as u64);
            let values = [
                Any {
                    text: Some(text),
                    number: None,
                },
                Any { text: None, number },
            ];
            let pairs = values.map(|value| Pair {
                name: name.clone(),
                value: Some(value),
            });
            let expected = Pairs {
                pairs: pairs.into(),
            };
            assert_eq!(Pairs::decode(&*out), Ok(expected), "{length}");
        }
    }

    #[test]
    fn a_number_takes_as_many_bytes_as_it_is_said_to() {
        for shift in 0..64 {
            for value in [(1_u64 << shift) - 1, 1 << shift, u64::MAX >> shift] {
                let mut out = Vec::new();
                varint(value, &mut out);
                assert_eq!(out.len(), varint_length(value), "{value}");
            }
        }
    }
}
