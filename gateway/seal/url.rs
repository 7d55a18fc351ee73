//! The URL in a token: where it begins and ends, and what of the token is none of it.

use std::ops::Range;

use memchr::memmem;

use super::keys;
use super::spelling::Spelt;
use crate::canonical::KeptParameters;

/// A token that carries a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keyed {
    /// In a URL, which stands here in the token as it was sent. What is around it carries none.
    Url { at: Range<usize>, url: String },
    /// Elsewhere, or in more than one place.
    Elsewhere,
}

/// Looks for a key in a token. `None` if it carries none.
pub(super) fn keyed(token: &Spelt, kept: KeptParameters) -> Option<Keyed> {
    keys::first(token, kept)?;
    Some(in_url(token, kept).unwrap_or(Keyed::Elsewhere))
}

fn in_url(token: &Spelt, kept: KeptParameters) -> Option<Keyed> {
    let at = span(&token.text)?;
    let carries = |range: Range<usize>| {
        let text = token.text.get(range).unwrap_or_default();
        keys::carries(text, kept)
    };
    let alone = !carries(0..at.start) && !carries(at.end..token.text.len());
    if !alone || !carries(at.clone()) {
        return None;
    }
    let url = String::from_utf8(token.text.get(at.clone())?.to_vec()).ok()?;
    let at = token.sent_at(at.start)..token.sent_at(at.end);
    Some(Keyed::Url { at, url })
}

/// Where the URL of a token stands: the whole token from its scheme or its first slash on, but for
/// what cannot be part of a URL and the punctuation of a sentence at its end.
fn span(token: &[u8]) -> Option<Range<usize>> {
    let start = match token.first() {
        Some(b'/') => 0,
        _ => absolute(token).or_else(|| refreshed(token))?,
    };
    let rest = token.get(start..)?;
    let end = rest.iter().position(|byte| !may_stand_in_url(*byte));
    let url = rest.get(..end.unwrap_or(rest.len()))?;
    Some(start..start + trimmed(url).len())
}

/// Where the first absolute URL begins.
fn absolute(token: &[u8]) -> Option<usize> {
    let scheme = |at: usize| {
        let before = token.get(at.saturating_sub(5)..at)?.to_ascii_lowercase();
        let secure = before.ends_with(b"https");
        let length = if secure { 5 } else { 4 };
        (secure || before.ends_with(b"http")).then(|| at - length)
    };
    memmem::find_iter(token, b"://").find_map(scheme)
}

/// Where a relative URL begins in `0;url=/path` (the `Refresh` field, and HTML's imitation of it).
fn refreshed(token: &[u8]) -> Option<usize> {
    let lower = token.to_ascii_lowercase();
    memmem::find(&lower, b"url=/").map(|at| at + 4)
}

/// Printable, and not among what RFC 3986 leaves out, save the braces of placeholders.
pub(super) fn may_stand_in_url(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'|')
}

/// Without the punctuation of a sentence at the end. No sentence has more than this.
fn trimmed(mut url: &[u8]) -> &[u8] {
    for _ in 0..8 {
        match url.split_last() {
            Some((last, rest)) if ends_a_sentence(*last, rest) => url = rest,
            _ => break,
        }
    }
    url
}

/// A closing bracket belongs to the URL if it was opened there.
fn ends_a_sentence(last: u8, before: &[u8]) -> bool {
    let opening = match last {
        b'.' | b',' | b';' | b':' | b'!' | b'?' => return true,
        b')' => b'(',
        b']' => b'[',
        b'}' => b'{',
        _ => return false,
    };
    let count = |bracket| before.iter().filter(|byte| **byte == bracket).count();
    count(opening) <= count(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(token: &str) -> Option<Keyed> {
        let token = Spelt::unpacked(token.as_bytes());
        keyed(&token, KeptParameters::NONE)
    }

    #[test]
    fn a_url_is_found_within_its_token() {
        for (before, sent, after, url) in [
            ("", "https://b/x?sig=s", "", None),
            ("(", "https://b/x?sig=s", ").", None),
            ("see:", "HTTP://b/x?sig=s", ",", None),
            ("", "https://b/x?sig=s(1)", ")", None),
            ("", "https://b/x?sig=s&r={text}", "", None),
            ("{u:", "https://b/x?sig=s", "}", None),
            ("", "https://b/x?sig=s", "\u{3002}", None),
            ("", "/x?sig=s", "", None),
            ("0;URL=", "/x?sig=s", ";", None),
            ("", "/x?next=https://b&sig=s", "", None),
            ("a://b,", "https://b/x?sig=s", "", None),
            (
                "",
                "https://b/x?a&amp;sig=s",
                "",
                Some("https://b/x?a&sig=s"),
            ),
            (
                "",
                r"https:\/\/b\/x?a\u0026sig\u003ds",
                "",
                Some("https://b/x?a&sig=s"),
            ),
            (
                "",
                r"https:\\/\\/b/x?a\\u0026sig=s",
                r"\\",
                Some("https://b/x?a&sig=s"),
            ),
        ] {
            let token = format!("{before}{sent}{after}");
            let at = before.len()..before.len() + sent.len();
            let url = url.unwrap_or(sent).to_owned();
            assert_eq!(look(&token), Some(Keyed::Url { at, url }), "{token}");
        }
    }

    #[test]
    fn a_key_outside_a_url_is_elsewhere() {
        for token in [
            "?sig=s",
            "a/b?sig=s",
            "code=1&sig=s",
            "?sig=s,https://b/x",
            "?sig=s,https://b/x?sig=s",
            "https://b/x|&sig=s",
            "https://b/x?code=1|&sig=s",
            "ftp://b/x?sig=s",
            "https%3A%2F%2Fb%2Fx%3Fsig%3Ds",
        ] {
            assert_eq!(look(token), Some(Keyed::Elsewhere), "{token}");
        }
        assert_eq!(look("https://b/x?a=1"), None);
    }
}
