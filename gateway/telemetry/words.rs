//! What differs between requests that are alike otherwise, put into words once for all who tell of them: the same
//! identifiers stand in both logs, on spans, in records and in envelopes.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;

use super::attributes::Slot;
use super::json::{self, Times};
use super::otlp::{self, Message};
use super::record::{Record, Told};
use crate::trace::{Trace, hexadecimal};

/// A slot that is as wide in every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fixed {
    /// When the request arrived: RFC 3339, UTC, milliseconds.
    Arrived,
    /// The same, in nanoseconds since the Unix epoch, least significant byte first.
    ArrivedNanos,
    /// When it began to be sent on.
    StartedNanos,
    /// When its answer began.
    AnsweredNanos,
    /// When it was over.
    EndedNanos,
    /// The request's ID.
    Id,
    /// The trace's, in hexadecimal digits.
    Trace,
    /// The same in bytes.
    TraceBytes,
    /// The span of the request that is served.
    SpanBytes,
    /// The span of the request that is sent.
    SentSpanBytes,
    /// The caller's span.
    ParentSpanBytes,
    /// What Azure Monitor alone has as text.
    Text(Text),
}

/// What others have in bytes, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// When the request began to be sent on: RFC 3339, UTC, milliseconds.
    Started,
    /// When it was over.
    Ended,
    /// The span of the request that is served, in hexadecimal digits.
    Span,
    /// The span of the request that is sent.
    SentSpan,
    /// The caller's span.
    ParentSpan,
}

impl Fixed {
    /// In bytes.
    pub(super) const fn width(self) -> usize {
        match self {
            Self::Arrived | Self::Text(Text::Started | Text::Ended) => 24,
            Self::ArrivedNanos | Self::StartedNanos | Self::AnsweredNanos | Self::EndedNanos => 8,
            Self::Id => 36,
            Self::Trace => 32,
            Self::TraceBytes | Self::Text(Text::Span | Text::SentSpan | Text::ParentSpan) => 16,
            Self::SpanBytes | Self::SentSpanBytes | Self::ParentSpanBytes => 8,
        }
    }
}

/// A slot that is as wide as what comes into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loose {
    /// The caller's address or its hash, as JSON.
    Client,
    /// The same, as an attribute in this field.
    ClientAttribute(u32),
    /// The path, whole, as JSON.
    Path,
    /// The path, no longer than a line can bear, as JSON.
    ShownPath,
    /// The same without quotes, within other text.
    ShownPathWithin,
    /// The same, as an attribute in this field.
    ShownPathAttribute(u32),
    /// Bytes of the answer.
    Sent,
    /// How long the request lasted, in milliseconds.
    DurationMillis,
    /// How long its answer took to begin, in milliseconds.
    UpstreamMillis,
    /// How long the request lasted, as Azure Monitor reads it.
    Lasted,
    /// How long the one lasted that was sent on.
    SentLasted,
}

/// The words for what differs.
pub(super) struct Words<'r> {
    record: &'r Record,
    times: Times,
    arrived: [u8; 24],
    id: Guid,
    trace: Trace,
    trace_digits: [u8; 32],
    client: Short,
}

impl<'r> Words<'r> {
    /// Finds the words.
    pub(super) fn of(record: &'r Record, times: &mut Times) -> Self {
        let trace = record.trace_or_own();
        let mut trace_digits = [0; 32];
        hexadecimal(&trace.id(), Some(&mut trace_digits));
        Self {
            record,
            arrived: times.of(record.arrived.unix),
            times: times.clone(),
            id: guid(record.id.uuid()),
            trace,
            trace_digits,
            client: Short::told(record.client()),
        }
    }

    /// When the request that was sent on began, and how long it lasted. What was not sent on has no slot for it.
    fn sent(&self) -> (Duration, Duration) {
        self.record.called().unwrap_or_default()
    }

    fn ended(&self) -> Duration {
        self.record.arrived.unix + self.record.duration
    }

    /// Of who has none there is no slot for it.
    fn parent(&self) -> [u8; 8] {
        let parent = self.trace.parent_span();
        parent.map_or([0; 8], |parent| parent.bytes())
    }

    /// Fills a slot at the beginning of `place`.
    #[inline]
    pub(super) fn put(&self, slot: Fixed, place: &mut [u8]) {
        match slot {
            Fixed::Arrived => fill(place, self.arrived),
            Fixed::ArrivedNanos => fill(place, nanos(self.record.arrived.unix)),
            Fixed::StartedNanos => fill(place, nanos(self.sent().0)),
            Fixed::AnsweredNanos => {
                let (started, lasted) = self.sent();
                fill(place, nanos(started + lasted));
            }
            Fixed::EndedNanos => fill(place, nanos(self.ended())),
            Fixed::Id => fill(place, self.id),
            Fixed::Trace => fill(place, self.trace_digits),
            Fixed::TraceBytes => fill(place, self.trace.id()),
            Fixed::SpanBytes => fill(place, self.trace.span().bytes()),
            Fixed::SentSpanBytes => fill(place, self.trace.sent_span().bytes()),
            Fixed::ParentSpanBytes => fill(place, self.parent()),
            Fixed::Text(text) => self.put_text(text, place),
        }
    }

    /// Apart, or a compiler makes these texts for every slot before it knows which one it is.
    #[inline(never)]
    fn put_text(&self, text: Text, place: &mut [u8]) {
        let time = |at: Duration| self.times.clone().of(at);
        match text {
            Text::Started => fill(place, time(self.sent().0)),
            Text::Ended => fill(place, time(self.ended())),
            Text::Span => fill(place, hexadecimals(self.trace.span().bytes())),
            Text::SentSpan => fill(place, hexadecimals(self.trace.sent_span().bytes())),
            Text::ParentSpan => fill(place, hexadecimals(self.parent())),
        }
    }

    /// Writes what belongs into a slot.
    #[inline]
    pub(super) fn write(&self, slot: Loose, out: &mut Vec<u8>) {
        let record = self.record;
        match slot {
            Loose::Client => json::quoted(self.client.text(), out),
            Loose::ClientAttribute(field) => {
                Message::new(out).text_attribute(field, Slot::Client.name(), self.client.text());
            }
            Loose::Path => json::text(&record.path, out),
            Loose::ShownPath => json::text(record.shown_path(), out),
            Loose::ShownPathWithin => json::within(record.shown_path(), out),
            Loose::ShownPathAttribute(field) => {
                let path = record.shown_path().as_bytes();
                Message::new(out).text_attribute(field, Slot::Path.name(), path);
            }
            Loose::Sent => json::number(record.sent, out),
            Loose::DurationMillis => json::milliseconds(record.duration, out),
            Loose::UpstreamMillis => {
                json::milliseconds(record.upstream.unwrap_or_default(), out);
            }
            Loose::Lasted => lasted(record.duration, out),
            Loose::SentLasted => lasted(self.sent().1, out),
        }
    }
}

fn fill<const N: usize>(place: &mut [u8], with: [u8; N]) {
    debug_assert!(place.len() >= N, "a slot that is too narrow");
    if let Some(place) = place.first_chunk_mut() {
        *place = with;
    }
}

fn nanos(time: Duration) -> [u8; 8] {
    otlp::nanos(time).to_le_bytes()
}

fn hexadecimals(bytes: [u8; 8]) -> [u8; 16] {
    let mut digits = [0; 16];
    hexadecimal(&bytes, Some(&mut digits));
    digits
}

/// A duration, as Azure Monitor reads it: `D.HH:MM:SS.ffffff`, of less than a thousand days.
fn lasted(duration: Duration, out: &mut Vec<u8>) {
    const DAY: u64 = 24 * 60 * 60;
    let seconds = duration.as_secs().min(DAY * 1000 - 1);
    let (days, rest) = (seconds / DAY, seconds % DAY);
    json::number(days, out);
    for (sign, number) in [
        (b'.', rest / 3600),
        (b':', rest / 60 % 60),
        (b':', rest % 60),
    ] {
        let [_, tens, ones] = json::three_digits(number as u16);
        out.extend_from_slice(&[sign, tens, ones]);
    }
    let micros = duration.subsec_micros();
    let [a, b, c] = json::three_digits((micros / 1000) as u16);
    let [d, e, f] = json::three_digits((micros % 1000) as u16);
    out.extend_from_slice(&[b'.', a, b, c, d, e, f]);
}

/// An identifier, as it is displayed.
pub(super) type Guid = [u8; uuid::fmt::Hyphenated::LENGTH];

fn guid(id: Uuid) -> Guid {
    let mut digits = [0; uuid::fmt::Hyphenated::LENGTH];
    id.as_hyphenated().encode_lower(&mut digits);
    digits
}

/// A short text, where it is made.
struct Short {
    bytes: [u8; 48],
    length: usize,
}

impl Short {
    const EMPTY: Self = Self {
        bytes: [0; 48],
        length: 0,
    };

    /// As it is displayed. Most addresses are of version 4.
    fn told(told: Told) -> Self {
        let mut short = Self::EMPTY;
        match told {
            Told::Address(IpAddr::V4(address)) => {
                for (at, part) in address.octets().into_iter().enumerate() {
                    if at > 0 {
                        short.push(b'.');
                    }
                    if part >= 100 {
                        short.push(b'0' + part / 100);
                    }
                    if part >= 10 {
                        short.push(b'0' + part / 10 % 10);
                    }
                    short.push(b'0' + part % 10);
                }
            }
            Told::Address(_) | Told::Object(_) | Told::Hashed(_) => {
                // None is longer than there is room.
                let _ = write!(short, "{told}");
            }
        }
        short
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    /// Text, without anything to escape.
    fn text(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.push(byte);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ObjectId;

    #[test]
    fn what_is_told_reads_as_it_is_displayed() {
        let object = ObjectId::new(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        let addresses = [
            "0.0.0.0",
            "127.0.0.1",
            "10.99.100.255",
            "::1",
            "2001:db8::ffff:1",
        ];
        let addresses =
            addresses.map(|address| Told::Address(address.parse().expect("an address")));
        let others = [Told::Object(object), Told::Hashed(None)];
        for told in addresses.into_iter().chain(others) {
            assert_eq!(Short::told(told).text(), told.to_string().as_bytes());
        }
    }

    #[test]
    fn a_duration_has_days_and_microseconds() {
        for (micros, expected) in [
            (0, "0.00:00:00.000000"),
            (12_345, "0.00:00:00.012345"),
            (90_061_000_001, "1.01:01:01.000001"),
            (u64::MAX, "999.23:59:59.551615"),
        ] {
            let mut out = Vec::new();
            lasted(Duration::from_micros(micros), &mut out);
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        }
    }
}
