//! W3C trace context: a caller's trace is continued, or one is begun.
//! <https://www.w3.org/TR/trace-context/>

use std::fmt;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::ids::{random_u64, random_u128};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The trace that a request belongs to, and the gateway's own span in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    span: u64,
    flags: u8,
}

impl Trace {
    /// Continues the trace of the headers, or begins one. A `tracestate` without a usable
    /// `traceparent` means nothing and is removed (section 3.3.1.1).
    pub fn take(headers: &mut HeaderMap) -> Self {
        // Most callers send neither, which is told without a look-up for each.
        let is_traced = headers
            .keys()
            .any(|name| name.as_str().starts_with("trace"));
        if !is_traced {
            return Self::begin();
        }
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let parent = match (parents.next(), parents.next()) {
            (Some(parent), None) => parse(parent.as_bytes()),
            _ => None,
        };
        headers.remove(TRACEPARENT);
        let Some((id, flags)) = parent else {
            headers.remove(TRACESTATE);
            return Self::begin();
        };
        Self::go_on(id, flags)
    }

    /// A trace of its own.
    fn begin() -> Self {
        // Zero is not a valid ID; the odds are those of the generator.
        Self::go_on(random_u128().max(1), 0)
    }

    fn go_on(id: u128, flags: u8) -> Self {
        let span = random_u64().max(1);
        Self { id, span, flags }
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
        hexadecimal(&self.span.to_be_bytes(), text.get_mut(36..52));
        hexadecimal(&[self.flags], text.get_mut(53..));
    }
}

/// Two digits for each byte.
fn hexadecimal(bytes: &[u8], text: Option<&mut [u8]>) {
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

/// Trace ID and flags of a `traceparent`. Versions above 00 may say more behind the flags.
fn parse(text: &[u8]) -> Option<(u128, u8)> {
    let text = std::str::from_utf8(text).ok()?;
    let mut parts = text.split('-');
    let version = hex(parts.next()?, 2)?;
    let id = hex(parts.next()?, 32)?;
    let span = hex(parts.next()?, 16)?;
    let flags = hex(parts.next()?, 2)?;
    let ends = parts.next().is_none() || version > 0;
    let valid = version != 0xff && id != 0 && span != 0 && ends;
    // Only the sampled flag is defined.
    valid.then_some((id, flags as u8 & 1))
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

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn taken(parents: &[&str]) -> (Trace, HeaderMap) {
        let mut headers = HeaderMap::new();
        for parent in parents {
            headers.append(TRACEPARENT, HeaderValue::from_str(parent).expect("a value"));
        }
        headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
        (Trace::take(&mut headers), headers)
    }

    #[test]
    fn a_trace_is_continued_with_a_span_of_the_gateways_own() {
        let (trace, headers) = taken(&[PARENT]);
        let (name, value) = trace.parent();
        assert_eq!(name, TRACEPARENT);
        let sent = value.to_str().expect("text");
        assert!(
            sent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
            "{sent}"
        );
        assert!(
            sent.ends_with("-01") && !sent.contains("b7ad6b7169203331"),
            "{sent}"
        );
        assert_eq!(sent.len(), PARENT.len());
        assert_eq!(headers[TRACESTATE], "a=b");
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
            let (trace, headers) = taken(&parents);
            assert_ne!(
                trace.to_string(),
                "0af7651916cd43dd8448eb211c80319c",
                "{parents:?}"
            );
            assert!(!headers.contains_key(TRACESTATE), "{parents:?}");
        }
    }
}
