//! JSON for lines that are written for each request: straight into the text, without a value in between.

use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::stencil::Stencil;
use super::words::{Fixed, Loose};

/// An object that is being written.
pub(super) struct Object<'o> {
    out: &'o mut Stencil,
    is_empty: bool,
}

impl<'o> Object<'o> {
    /// Begins an object.
    pub(super) fn open(out: &'o mut Stencil) -> Self {
        out.text().push(b'{');
        Self {
            out,
            is_empty: true,
        }
    }

    /// Ends it.
    pub(super) fn close(self) {
        self.out.text().push(b'}');
    }

    /// Writes the name of a member, whose value is to be written next. The name holds nothing to escape.
    pub(super) fn name(&mut self, name: &str) -> &mut Stencil {
        let before: &[u8] = match self.is_empty {
            true => b"\"",
            false => b",\"",
        };
        self.is_empty = false;
        let out = self.out.text();
        out.extend_from_slice(before);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        self.out
    }

    /// Leaves room for text of a known width, which holds nothing to escape.
    pub(super) fn fixed(&mut self, name: &str, slot: Fixed) {
        let out = self.name(name);
        out.text().push(b'"');
        out.fixed(slot);
        out.text().push(b'"');
    }

    /// Leaves a slot for a value.
    pub(super) fn loose(&mut self, name: &str, slot: Loose) {
        self.name(name).loose(slot);
    }

    /// Leaves a slot for a value between quotes.
    pub(super) fn quoted(&mut self, name: &str, before: &str, slot: Loose) {
        let out = self.name(name);
        text(before, out.text());
        out.text().pop();
        out.loose(slot);
        out.text().push(b'"');
    }

    /// Writes text.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        text(value, self.name(name).text());
    }

    /// Writes text that holds nothing to escape: codes, names of files' own, digits.
    pub(super) fn plain(&mut self, name: &str, value: &str) {
        quoted(value.as_bytes(), self.name(name).text());
    }

    /// Writes what is displayed without anything to escape.
    pub(super) fn shown(&mut self, name: &str, value: impl Display) {
        let out = self.name(name).text();
        out.push(b'"');
        // A vector takes all that is written to it.
        let _ = write!(out, "{value}");
        out.push(b'"');
    }

    /// Writes a whole number.
    pub(super) fn number(&mut self, name: &str, value: u64) {
        number(value, self.name(name).text());
    }

    /// Writes a number. What is none is written as `null`.
    pub(super) fn real(&mut self, name: &str, value: f64) {
        self.value(name, &value);
    }

    /// Writes `true` or `false`.
    pub(super) fn flag(&mut self, name: &str, value: bool) {
        let word: &[u8] = if value { b"true" } else { b"false" };
        self.name(name).text().extend_from_slice(word);
    }

    /// Writes a list of texts.
    pub(super) fn texts<'t>(&mut self, name: &str, values: impl Iterator<Item = &'t str>) {
        let out = self.name(name).text();
        out.push(b'[');
        for (at, value) in values.enumerate() {
            if at > 0 {
                out.push(b',');
            }
            text(value, out);
        }
        out.push(b']');
    }

    /// Writes what is rare by way of serde.
    pub(super) fn value(&mut self, name: &str, value: &impl Serialize) {
        let out = self.name(name).text();
        if serde_json::to_writer(&mut *out, value).is_err() {
            // Nothing in a record can fail to be written.
            out.extend_from_slice(b"null");
        }
    }
}

/// A duration in milliseconds, to the microsecond.
pub(super) fn milliseconds(value: Duration, out: &mut Vec<u8>) {
    let micros = (value.as_nanos() + 500) / 1000;
    number(u64::try_from(micros / 1000).unwrap_or(u64::MAX), out);
    let [a, b, c] = three_digits((micros % 1000) as u16);
    let fraction = [b'.', a, b, c];
    let length = match (b, c) {
        (b'0', b'0') => 2,
        (_, b'0') => 3,
        _ => 4,
    };
    out.extend_from_slice(fraction.get(..length).unwrap_or_default());
}

/// Three digits of a number below a thousand.
pub(super) fn three_digits(value: u16) -> [u8; 3] {
    let digit = |value: u16| b'0' + (value % 10) as u8;
    [digit(value / 100), digit(value / 10), digit(value)]
}

/// A whole number.
pub(super) fn number(value: u64, out: &mut Vec<u8>) {
    let mut text = [b'0'; 20];
    let (mut left, mut at) = (value, text.len());
    for place in text.iter_mut().rev() {
        *place = b'0' + (left % 10) as u8;
        left /= 10;
        at -= 1;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(text.get(at..).unwrap_or_default());
}

/// Text that holds nothing to escape, in quotes.
pub(super) fn quoted(value: &[u8], out: &mut Vec<u8>) {
    debug_assert!(!value.iter().copied().any(needs_escape));
    out.push(b'"');
    out.extend_from_slice(value);
    out.push(b'"');
}

/// Text in quotes, as RFC 8259 section 7 wants it.
pub(super) fn text(value: &str, out: &mut Vec<u8>) {
    // All are looked at, so that many are at once.
    if value
        .bytes()
        .fold(false, |found, byte| found | needs_escape(byte))
    {
        // Its own escapes are serde's; writing to a vector cannot fail.
        let _ = serde_json::to_writer(out, value);
        return;
    }
    quoted(value.as_bytes(), out);
}

/// The same without the quotes, within other text.
pub(super) fn within(value: &str, out: &mut Vec<u8>) {
    let start = out.len();
    text(value, out);
    out.pop();
    if start < out.len() {
        out.remove(start);
    }
}

fn needs_escape(byte: u8) -> bool {
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

/// Writes times, which mostly lie in the second of the one before.
#[derive(Clone, Debug)]
pub struct Times {
    second: u64,
    text: [u8; 24],
}

impl Default for Times {
    fn default() -> Self {
        Self {
            second: u64::MAX,
            text: *b"1970-01-01T00:00:00.000Z",
        }
    }
}

impl Times {
    /// RFC 3339, UTC, milliseconds.
    pub(super) fn of(&mut self, unix: Duration) -> [u8; 24] {
        if unix.as_secs() != self.second {
            let whole = super::event::timestamp(Duration::from_secs(unix.as_secs()));
            if let Ok(text) = <[u8; 24]>::try_from(whole.as_bytes()) {
                self.text = text;
                self.second = unix.as_secs();
            }
        }
        if let Some(place) = self.text.get_mut(20..23) {
            place.copy_from_slice(&three_digits(unix.subsec_millis() as u16));
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::event::timestamp;
    use super::*;

    fn written(write: impl FnOnce(&mut Object<'_>)) -> Value {
        let mut out = Stencil::default();
        let mut object = Object::open(&mut out);
        write(&mut object);
        object.close();
        serde_json::from_slice(&out.whole()).expect("JSON")
    }

    #[test]
    fn members_are_written_as_a_reader_expects_them() {
        let value = written(|object| {
            object.plain("plain", "word");
            object.flag("yes", true);
            object.flag("no", false);
            object.shown("shown", 1.5);
            object.texts("texts", ["a", "\""].into_iter());
            object.texts("none", std::iter::empty());
            object.value("value", &json!({ "a": [1] }));
        });
        let expected = json!({
            "plain": "word",
            "yes": true,
            "no": false,
            "shown": "1.5",
            "texts": ["a", "\""],
            "none": [],
            "value": { "a": [1] },
        });
        assert_eq!(value, expected);
        assert_eq!(written(|_| ()), json!({}));
    }

    proptest! {
        #[test]
        fn text_and_numbers_are_read_as_they_were(value in any::<String>(), count in any::<u64>(), shift in 0_u32..64) {
            let count = count >> shift;
            let read = written(|object| {
                object.text("text", &value);
                object.number("number", count);
            });
            prop_assert_eq!(read, json!({ "text": value, "number": count }));
        }

        #[test]
        fn text_within_text_is_read_as_it_was(before in any::<String>(), value in any::<String>()) {
            let mut out = Vec::new();
            text(&before, &mut out);
            out.pop();
            within(&value, &mut out);
            out.push(b'"');
            let read: String = serde_json::from_slice(&out).expect("JSON");
            prop_assert_eq!(read, before + &value);
        }

        #[test]
        fn milliseconds_are_written_as_serde_writes_a_number(nanos in 0_u64..10_000_000_000_000) {
            let duration = Duration::from_nanos(nanos);
            let mut out = Vec::new();
            milliseconds(duration, &mut out);
            let expected = ((nanos + 500) / 1000) as f64 / 1e3;
            prop_assert_eq!(String::from_utf8(out).expect("text"), json!(expected).to_string());
        }

        #[test]
        fn a_time_is_the_same_whatever_stood_there_before(first in 0_u64..4_000_000_000_000, step in 0_u64..3_000) {
            let mut times = Times::default();
            for millis in [first, first + step, first] {
                let at = Duration::from_millis(millis);
                let told = times.of(at);
                prop_assert_eq!(std::str::from_utf8(&told).expect("text"), timestamp(at));
            }
        }
    }
}
