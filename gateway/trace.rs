//! W3C trace context: a caller's trace is continued, or one is begun.
//! <https://www.w3.org/TR/trace-context/>

use std::fmt;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::ids::{random_u64, random_u128};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The trace that a request belongs to, and the gateway's own two spans in it: of the request that it serves,
/// and below that of the one that it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    /// The caller's span; 0 for none.
    parent: u64,
    span: u64,
    sampled: bool,
}

/// Whom a request's trace goes on from, and which traces are recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What a caller's trace counts for.
    pub parent: Parent,
    /// Traces of those that begin here to record, from 0 to 1.
    pub ratio: f64,
}

/// What a caller's trace counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// It is continued, and recorded if the caller says so.
    Follow,
    /// It is continued, and recorded as if it began here.
    Continue,
    /// For nothing: each request begins a trace.
    Restart,
}

impl Sampling {
    /// Nothing is recorded; what callers say is passed on.
    pub const OFF: Self = Self {
        parent: Parent::Follow,
        ratio: 0.0,
    };

    /// Whether a trace is recorded by its ID. All who use the same ratio agree, and so do OpenTelemetry's SDKs:
    /// by the last 63 bits of an ID, which are to be random.
    /// <https://opentelemetry.io/docs/specs/otel/trace/sdk/#traceidratiobased>
    fn takes(self, id: u128) -> bool {
        if self.ratio >= 1.0 {
            return true;
        }
        let threshold = (self.ratio.max(0.0) * (1_u64 << 63) as f64) as u64;
        (id as u64) >> 1 < threshold
    }
}

impl Trace {
    /// Continues the trace of the headers, or begins one. A `tracestate` without a usable
    /// `traceparent` means nothing and is removed (section 3.3.1.1).
    pub fn take(headers: &mut HeaderMap, sampling: Sampling) -> Self {
        // Most callers send neither, which is told without a look-up for each.
        let is_traced = headers
            .keys()
            .any(|name| name.as_str().starts_with("trace"));
        if !is_traced {
            return Self::begin_by(sampling);
        }
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let parent = match (parents.next(), parents.next()) {
            (Some(parent), None) => parse(parent.as_bytes()),
            _ => None,
        };
        headers.remove(TRACEPARENT);
        let (Some(parent), Parent::Follow | Parent::Continue) = (parent, sampling.parent) else {
            headers.remove(TRACESTATE);
            return Self::begin_by(sampling);
        };
        Self {
            span: fresh_span(),
            sampled: match sampling.parent {
                Parent::Follow => parent.sampled,
                Parent::Continue | Parent::Restart => sampling.takes(parent.id),
            },
            ..parent
        }
    }

    /// A trace of its own, which nobody records.
    pub fn begin() -> Self {
        Self::begin_by(Sampling::OFF)
    }

    /// The trace of this ID, whose span is made from it.
    pub fn of(id: u128) -> Self {
        let id = id.max(1);
        Self {
            id,
            parent: 0,
            span: (id as u64).max(1),
            sampled: false,
        }
    }

    fn begin_by(sampling: Sampling) -> Self {
        // Zero is not a valid ID; the odds are those of the generator.
        let id = random_u128().max(1);
        Self {
            id,
            parent: 0,
            span: fresh_span(),
            sampled: sampling.takes(id),
        }
    }

    /// Whether whoever records traces is to record this one.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The trace's ID, most significant byte first.
    pub fn id(&self) -> [u8; 16] {
        self.id.to_be_bytes()
    }

    /// The span of the request that is served.
    pub fn span(&self) -> SpanId {
        SpanId(self.span)
    }

    /// The span of the request that is sent to the backend.
    pub fn sent_span(&self) -> SpanId {
        // As random as the other; zero is not a valid ID.
        SpanId((self.span ^ 0x9e37_79b9_7f4a_7c15).max(1))
    }

    /// The caller's span.
    pub fn parent_span(&self) -> Option<SpanId> {
        (self.parent != 0).then_some(SpanId(self.parent))
    }

    /// The field that makes the gateway's span the parent of what the backend does.
    pub fn parent(&self) -> (HeaderName, HeaderValue) {
        let mut text = [0; LENGTH];
        self.write(&mut text);
        // INVARIANT: hexadecimal digits and hyphens are valid in a header field.
        let value = HeaderValue::from_bytes(&text);
        (TRACEPARENT, value.unwrap_or(HeaderValue::from_static("")))
    }

    fn write(&self, text: &mut [u8; LENGTH]) {
        text.fill(b'-');
        hexadecimal(&[0], text.get_mut(..2));
        hexadecimal(&self.id.to_be_bytes(), text.get_mut(3..35));
        hexadecimal(&self.sent_span().bytes(), text.get_mut(36..52));
        hexadecimal(&[self.sampled.into()], text.get_mut(53..));
    }
}

fn fresh_span() -> u64 {
    random_u64().max(1)
}

/// Names a span within its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(u64);

impl SpanId {
    /// Most significant byte first.
    pub fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

/// 16 hexadecimal digits.
impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Writes two digits for each byte, as far as there is room.
pub fn hexadecimal(bytes: &[u8], text: Option<&mut [u8]>) {
    let places = text.unwrap_or_default().as_chunks_mut().0;
    for ([high, low], byte) in places.iter_mut().zip(bytes) {
        *high = HEX.get(usize::from(byte >> 4)).copied().unwrap_or(b'0');
        *low = HEX.get(usize::from(byte & 0xf)).copied().unwrap_or(b'0');
    }
}

/// `00-` trace ID `-` span ID `-` flags.
const LENGTH: usize = 55;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The trace ID, 32 hexadecimal digits.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.id)
    }
}

/// The trace of a `traceparent`, and the span in it that asks. Versions above 00 may say more behind the flags.
fn parse(text: &[u8]) -> Option<Trace> {
    let text = std::str::from_utf8(text).ok()?;
    let mut parts = text.split('-');
    let version = hex(parts.next()?, 2)?;
    let id = hex(parts.next()?, 32)?;
    let span = hex(parts.next()?, 16)?;
    let flags = hex(parts.next()?, 2)?;
    let ends = parts.next().is_none() || version > 0;
    let valid = version != 0xff && id != 0 && span != 0 && ends;
    valid.then_some(Trace {
        id,
        parent: span as u64,
        span: 0,
        // Only the sampled flag is passed on.
        sampled: flags & 1 == 1,
    })
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() != digits || !text.bytes().all(lower) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn taken(parents: &[&str], sampling: Sampling) -> (Trace, HeaderMap) {
        let mut headers = HeaderMap::new();
        for parent in parents {
            headers.append(TRACEPARENT, HeaderValue::from_str(parent).expect("a value"));
        }
        headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
        (Trace::take(&mut headers, sampling), headers)
    }

    #[test]
    fn a_trace_is_continued_with_spans_of_the_gateways_own() {
        let (trace, headers) = taken(&[PARENT], Sampling::OFF);
        let (name, value) = trace.parent();
        assert_eq!(name, TRACEPARENT);
        let sent = value.to_str().expect("text");
        assert_eq!(sent, format!("00-{ID}-{}-01", trace.sent_span()));
        assert_eq!(sent.len(), PARENT.len());
        assert_eq!(headers[TRACESTATE], "a=b");
        let parent = trace.parent_span().expect("the caller's span").to_string();
        assert_eq!(parent, "b7ad6b7169203331");
        let spans = [
            parent,
            trace.span().to_string(),
            trace.sent_span().to_string(),
        ];
        let mut apart = spans.to_vec();
        apart.sort();
        apart.dedup();
        assert_eq!(apart.len(), 3, "{spans:?}");
    }

    #[test]
    fn an_unusable_parent_begins_a_new_trace_and_drops_the_state() {
        let zero = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
        let upper = PARENT.to_uppercase();
        for parents in [
            vec![],
            vec!["garbage"],
            vec![PARENT, PARENT],
            vec![&zero],
            vec![&upper],
        ] {
            let (trace, headers) = taken(&parents, Sampling::OFF);
            assert_ne!(trace.to_string(), ID, "{parents:?}");
            assert_eq!(trace.parent_span(), None, "{parents:?}");
            assert!(!headers.contains_key(TRACESTATE), "{parents:?}");
        }
    }

    #[test]
    fn what_a_callers_trace_counts_for_is_the_operators_to_say() {
        let unsampled = PARENT.replace("-01", "-00");
        for (name, parent, ratio, sent, continued, sampled) in [
            (
                "the caller says yes",
                Parent::Follow,
                0.0,
                PARENT,
                true,
                true,
            ),
            (
                "the caller says no",
                Parent::Follow,
                1.0,
                &unsampled,
                true,
                false,
            ),
            (
                "the ratio says no",
                Parent::Continue,
                0.0,
                PARENT,
                true,
                false,
            ),
            (
                "the ratio says yes",
                Parent::Continue,
                1.0,
                &unsampled,
                true,
                true,
            ),
            (
                "a new trace, no",
                Parent::Restart,
                0.0,
                PARENT,
                false,
                false,
            ),
            (
                "a new trace, yes",
                Parent::Restart,
                1.0,
                &unsampled,
                false,
                true,
            ),
        ] {
            let (trace, headers) = taken(&[sent], Sampling { parent, ratio });
            assert_eq!(trace.to_string() == ID, continued, "{name}");
            assert_eq!(headers.contains_key(TRACESTATE), continued, "{name}");
            assert_eq!(trace.is_sampled(), sampled, "{name}");
            let flags = if sampled { "-01" } else { "-00" };
            let (_, value) = trace.parent();
            assert!(value.to_str().expect("text").ends_with(flags), "{name}");
        }
    }

    #[test]
    fn a_ratio_takes_that_part_of_all_traces_and_always_the_same() {
        let half = Sampling {
            parent: Parent::Continue,
            ratio: 0.5,
        };
        for (last, sampled) in [
            (0, true),
            (u64::MAX / 2 - 1, true),
            (u64::MAX / 2 + 1, false),
            (u64::MAX, false),
        ] {
            let parent = format!("00-ffffffffffffffff{last:016x}-b7ad6b7169203331-00");
            let (trace, _) = taken(&[&parent], half);
            assert_eq!(trace.is_sampled(), sampled, "{parent}");
        }
    }
}
