//! Protocol Buffers as far as OTLP needs them: a message is written field by field, straight into the bytes that are
//! sent. Spans are written for each request that is recorded, and messages built from values first would cost as much
//! as the rest of its telemetry.
//! <https://protobuf.dev/programming-guides/encoding/>

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

    /// Fields that are written already.
    pub(in crate::telemetry) fn raw(&mut self, fields: &[u8]) {
        self.0.extend_from_slice(fields);
    }

    /// A message in it.
    pub(in crate::telemetry) fn message(
        &mut self,
        field: u32,
        write: impl FnOnce(&mut Message<'_>),
    ) {
        self.tag(field, LENGTH);
        let before = self.0.len();
        // Most are short, and their length takes one byte.
        self.0.push(0);
        write(&mut Message(self.0));
        let length = self.0.len() - before - 1;
        let mut text = Vec::new();
        match (u8::try_from(length), self.0.get_mut(before)) {
            (Ok(length), Some(place)) if length < 0x80 => *place = length,
            _ => {
                varint(length as u64, &mut text);
                self.0.splice(before..=before, text);
            }
        }
    }

    /// `KeyValue` with a text.
    pub(in crate::telemetry) fn text_attribute(&mut self, field: u32, name: &str, value: &str) {
        self.message(field, |pair| {
            pair.bytes(1, name.as_bytes());
            pair.message(2, |any| any.bytes(1, value.as_bytes()));
        });
    }

    /// `KeyValue` with a whole number.
    pub(in crate::telemetry) fn number_attribute(&mut self, field: u32, name: &str, value: u64) {
        self.message(field, |pair| {
            pair.bytes(1, name.as_bytes());
            pair.message(2, |any| any.number(3, value));
        });
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
