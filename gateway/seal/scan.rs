//! Where a text's tokens end. No URL holds white space, quotes, angle brackets or control characters,
//! so they part tokens, and so does an escape that stands for one of them, as a whole.

use super::spelling::{Escape, json_escape};

/// What kind of text a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// JSON, or lines of it.
    Json,
    /// Anything else that is text: HTML, XML, CSV, scripts.
    Plain,
}

/// How far a scan came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A token ends here, and the next one begins behind what parts them.
    Token { end: usize, next: usize },
    /// The token is longer than the limit; this much of it was scanned.
    TooLong { next: usize },
    /// The text ends here, or breaks off in an escape that begins here.
    End { at: usize },
}

/// A byte, or an escape as a whole.
struct Unit {
    length: usize,
    parts: bool,
}

impl Text {
    /// Scans on from `at`, until a token ends or has grown beyond `limit`.
    pub(super) fn step(self, text: &[u8], mut at: usize, limit: usize) -> Step {
        while let Some(unit) = self.unit(text.get(at..).unwrap_or_default()) {
            let next = at + unit.length;
            if unit.parts {
                return Step::Token { end: at, next };
            }
            if next > limit {
                return Step::TooLong { next };
            }
            at = next;
        }
        Step::End { at }
    }

    /// The last place up to `limit` where the text can be cut without cutting an escape.
    pub(super) fn cut(self, text: &[u8], limit: usize) -> usize {
        let mut at = 0;
        while let Some(unit) = self.unit(text.get(at..).unwrap_or_default())
            && at + unit.length <= limit
        {
            at += unit.length;
        }
        at
    }

    fn unit(self, rest: &[u8]) -> Option<Unit> {
        let first = *rest.first()?;
        let (byte, length) = match (self, first) {
            (Self::Json, b'\\') => match json_escape(rest) {
                Escape::Of(byte, length) => (byte, length),
                Escape::No => (first, 1),
                Escape::Cut => return None,
            },
            _ => (first, 1),
        };
        Some(Unit {
            length,
            parts: parts(byte),
        })
    }
}

/// Whether the byte parts tokens.
pub(super) fn parts(byte: u8) -> bool {
    byte <= b' ' || matches!(byte, b'"' | b'\'' | b'<' | b'>' | 0x7F)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(kind: Text, text: &str) -> Vec<&str> {
        let (mut tokens, mut from, mut at) = (Vec::new(), 0, 0);
        loop {
            match kind.step(text.as_bytes(), at, usize::MAX) {
                Step::Token { end, next } => {
                    tokens.push(&text[from..end]);
                    (from, at) = (next, next);
                }
                Step::TooLong { next } => at = next,
                Step::End { .. } => break,
            }
        }
        tokens.push(&text[from..]);
        tokens.retain(|token| !token.is_empty());
        tokens
    }

    #[test]
    fn tokens_end_where_no_url_goes_on() {
        for (kind, text, expected) in [
            (Text::Plain, "a b\tc\r\nd", vec!["a", "b", "c", "d"]),
            (
                Text::Plain,
                "<a href='b'>\"c\"",
                vec!["a", "href=", "b", "c"],
            ),
            (Text::Plain, r"a\u0022b\nc", vec![r"a\u0022b\nc"]),
            (
                Text::Json,
                r#"{"a":"b\"c"}"#,
                vec!["{", "a", ":", "b", "c", "}"],
            ),
            (Text::Json, r"a\u0022b\u0020c\nd", vec!["a", "b", "c", "d"]),
            (Text::Json, r"a\u0026b\/c\\d", vec![r"a\u0026b\/c\\d"]),
            (Text::Json, r#"a\\"b"#, vec![r"a\\", "b"]),
            (Text::Json, r"a\qb\u00", vec![r"a\qb\u00"]),
            (Text::Plain, "\u{e9}\u{a0}x", vec!["\u{e9}\u{a0}x"]),
        ] {
            assert_eq!(tokens(kind, text), expected, "{text}");
        }
    }

    #[test]
    fn a_cut_spares_escapes() {
        let text = br"ab\u0026cd";
        for (kind, limit, at) in [
            (Text::Json, 2, 2),
            (Text::Json, 5, 2),
            (Text::Json, 8, 8),
            (Text::Json, 99, 10),
            (Text::Plain, 5, 5),
        ] {
            assert_eq!(kind.cut(text, limit), at, "{kind:?} {limit}");
        }
    }
}
