//! One spelling for every path. A path that two readers may read in two ways is refused: what the
//! policy matched must be what the backend serves, and the backend decodes as it likes.

use super::percent::{self, Table, escape, is_sub_delim, is_unreserved};
use crate::denial::Reason;

/// The canonical spelling of `path`: `None` if it is that already, which costs one pass and no
/// allocation.
///
/// - It begins with `/` and holds no empty segment; a trailing slash is kept.
/// - Unreserved characters stand decoded, every other percent code stands with upper-case digits
///   (RFC 3986 section 6.2.2), and percent codes are UTF-8 together.
/// - `.` and `..` are resolved; what climbs out is refused, as is a dot segment with parameters
///   (`..;x`), which some servers resolve after they cut the parameters off.
/// - Encoded slashes, backslashes, control characters and double encoding are refused.
pub(super) fn canonical(path: &str) -> Result<Option<String>, Reason> {
    match examine(path.as_bytes())? {
        Spelling::Canonical => Ok(None),
        Spelling::Other => respelled(path).map(Some),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    Canonical,
    Other,
}

impl Spelling {
    fn other_if(other: bool) -> Self {
        if other { Self::Other } else { Self::Canonical }
    }

    fn and(self, next: Self) -> Self {
        Self::other_if(self == Self::Other || next == Self::Other)
    }
}

#[derive(Clone, Copy)]
enum Class {
    /// `pchar` (RFC 3986 section 3.3).
    Plain,
    Slash,
    Percent,
    Refused,
}

static CLASSES: Table<Class> = Table::new(classes());

const fn classes() -> [Class; 256] {
    let mut classes = [Class::Refused; 256];
    let mut byte = 0u8;
    loop {
        #[expect(clippy::indexing_slicing, reason = "256 entries, one for every byte")]
        {
            classes[byte as usize] = match byte {
                b'/' => Class::Slash,
                b'%' => Class::Percent,
                b':' | b'@' => Class::Plain,
                _ if is_unreserved(byte) || is_sub_delim(byte) => Class::Plain,
                _ => Class::Refused,
            };
        }
        if byte == u8::MAX {
            return classes;
        }
        byte += 1;
    }
}

const REFUSED: Reason = Reason::AmbiguousPath;

fn examine(path: &[u8]) -> Result<Spelling, Reason> {
    if path.first() != Some(&b'/') {
        return Err(REFUSED);
    }
    let mut spelling = Spelling::Canonical;
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match CLASSES.class(byte) {
            Class::Plain => tail,
            Class::Slash => {
                spelling = spelling.and(segment(tail)?);
                tail
            }
            Class::Percent => {
                let (code, tail) = percent_code(rest)?;
                spelling = spelling.and(code);
                tail
            }
            Class::Refused => return Err(REFUSED),
        };
    }
    Ok(spelling)
}

/// Looks at what follows a slash.
fn segment(rest: &[u8]) -> Result<Spelling, Reason> {
    match rest {
        [b'/', ..] => Err(REFUSED),
        [b'.', b'.', tail @ ..] | [b'.', tail @ ..] => after_dots(tail),
        _ => Ok(Spelling::Canonical),
    }
}

fn after_dots(tail: &[u8]) -> Result<Spelling, Reason> {
    match tail {
        [] | [b'/', ..] => Ok(Spelling::Other),
        [b';', ..] | [b'%', b'3', b'B' | b'b', ..] => Err(REFUSED),
        _ => Ok(Spelling::Canonical),
    }
}

/// Reads the percent code, or the percent codes of one character, at the front of `rest`.
fn percent_code(rest: &[u8]) -> Result<(Spelling, &[u8]), Reason> {
    let byte = escape(rest).ok_or(REFUSED)?;
    let length = if byte.is_ascii() {
        ascii_code(byte, rest)?;
        3
    } else {
        3 * utf8_code(byte, rest)?
    };
    let (code, tail) = rest.split_at_checked(length).ok_or(REFUSED)?;
    let other = is_unreserved(byte) || code.iter().any(u8::is_ascii_lowercase);
    Ok((Spelling::other_if(other), tail))
}

fn ascii_code(byte: u8, rest: &[u8]) -> Result<(), Reason> {
    match (byte, rest) {
        (b'/' | b'\\', _) => Err(REFUSED),
        (b'%', [_, _, _, high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            Err(REFUSED)
        }
        _ if byte.is_ascii_control() => Err(REFUSED),
        _ => Ok(()),
    }
}

/// How many percent codes make up the character that begins with `lead`. Overlong forms, lone
/// surrogates and C1 controls are refused: lenient decoders make other characters of them.
fn utf8_code(lead: u8, rest: &[u8]) -> Result<usize, Reason> {
    let length = match lead {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => return Err(REFUSED),
    };
    let mut bytes = [0u8; 4];
    for (byte, code) in bytes.iter_mut().zip(rest.chunks(3)).take(length) {
        *byte = escape(code).ok_or(REFUSED)?;
    }
    let encoded = bytes.get(..length).ok_or(REFUSED)?;
    let text = std::str::from_utf8(encoded).map_err(|_| REFUSED)?;
    if text.chars().any(char::is_control) {
        return Err(REFUSED);
    }
    Ok(length)
}

/// Writes the canonical spelling, then proves it: what decoding brought to light is refused by the
/// same examination, so that a canonical path never holds what would be refused.
fn respelled(path: &str) -> Result<String, Reason> {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let start = out.len();
        out.push('/');
        push_decoded(&mut out, segment);
        let dots = match out.get(start..) {
            Some("/.") => out.get(..start),
            Some("/..") => Some(parent(out.get(..start)).ok_or(REFUSED)?),
            _ => None,
        };
        if let Some(length) = dots.map(str::len) {
            out.truncate(length);
            if segments.peek().is_none() {
                out.push('/');
            }
        }
    }
    match examine(out.as_bytes())? {
        Spelling::Canonical => Ok(out),
        Spelling::Other => Err(REFUSED),
    }
}

fn parent(path: Option<&str>) -> Option<&str> {
    path?.rsplit_once('/').map(|(parent, _)| parent)
}

fn push_decoded(out: &mut String, segment: &str) {
    let mut rest = segment.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        match escape(rest) {
            Some(code) => {
                push_code(out, code);
                rest = rest.get(3..).unwrap_or_default();
            }
            None => {
                out.push(char::from(byte));
                rest = tail;
            }
        }
    }
}

fn push_code(out: &mut String, code: u8) {
    if is_unreserved(code) {
        out.push(char::from(code));
    } else {
        out.extend(['%', percent::digit(code >> 4), percent::digit(code)]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_canonical_path_is_left_alone() {
        for path in [
            "/",
            "/guests",
            "/guests/",
            "/a/b.c/~d/e-f_g",
            "/a:b@c!$&'()*+,;=",
            "/with%20space",
            "/caf%C3%A9",
            "/%F0%9F%98%80/x",
            "/100%25",
            "/50%25zz",
            "/...",
            "/.well-known/x",
            "/..a/.b",
            "/a;v=1/b",
        ] {
            assert_eq!(canonical(path), Ok(None), "{path}");
        }
    }

    #[test]
    fn another_spelling_becomes_the_canonical_one() {
        for (path, spelled) in [
            ("/%67uests", "/guests"),
            ("/%7Euser", "/~user"),
            ("/a%2db", "/a-b"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%3ab", "/a%3Ab"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/./", "/"),
            ("/.", "/"),
            ("/a/b/../../c/", "/c/"),
            ("/a/%2e%2e/b", "/b"),
            ("/a/%2E./b", "/b"),
            ("/a/.%2e", "/"),
            ("/%2e/a", "/a"),
        ] {
            assert_eq!(canonical(path), Ok(Some(spelled.to_owned())), "{path}");
        }
    }

    #[test]
    fn an_ambiguous_path_is_refused() {
        for (why, path) in [
            ("empty", ""),
            ("the asterisk of OPTIONS", "*"),
            ("no slash in front", "guests"),
            ("encoded slash", "/a%2Fb"),
            ("encoded slash, lower case", "/a%2fb"),
            ("backslash", "/a\\b"),
            ("encoded backslash", "/a%5cb"),
            ("NUL", "/a%00"),
            ("raw NUL", "/a\0"),
            ("line feed", "/a%0Ab"),
            ("delete", "/a%7f"),
            ("C1 control", "/a%C2%85"),
            ("incomplete code", "/a%2"),
            ("no code at all", "/100%"),
            ("no digits", "/a%zz"),
            ("IIS's own encoding", "/a%u002fb"),
            ("empty segment in front", "//a"),
            ("empty segment", "/a//b"),
            ("empty segment at the end", "/a//"),
            ("empty segment behind a dot", "/a/.//b"),
            ("double encoding", "/a%252Fb"),
            ("double encoding of anything", "/a%2541"),
            ("double encoding, itself encoded", "/a%25%32%46b"),
            ("triple encoding", "/a%25252Fb"),
            ("climbs out", "/.."),
            ("climbs out later", "/a/../../b"),
            ("climbs out encoded", "/%2e%2e/b"),
            ("dots with parameters", "/a/..;x/b"),
            ("dot with parameters", "/a/.;/b"),
            ("dots with an encoded parameter", "/a/..%3bx/b"),
            ("encoded dots with parameters", "/a/%2e%2e;x/b"),
            ("encoded dots with an encoded parameter", "/a/%2e%2e%3Bx/b"),
            ("overlong slash", "/a%C0%AFb"),
            ("overlong dot", "/a/%C0%AE%C0%AE/b"),
            ("overlong in three", "/%E0%80%AF"),
            ("cut short", "/%E2%82"),
            ("continuation alone", "/%80"),
            ("lead and a plain letter", "/%C3a"),
            ("surrogate", "/%ED%A0%80"),
            ("beyond Unicode", "/%F5%80%80%80"),
            ("raw beyond ASCII", "/caf\u{e9}"),
            ("quote", "/a\"b"),
            ("brace", "/{a}"),
            ("bracket", "/a[1]"),
            ("pipe", "/a|b"),
            ("caret", "/a^b"),
            ("space", "/a b"),
            ("fragment", "/a#b"),
            ("query", "/a?b"),
        ] {
            assert_eq!(canonical(path), Err(Reason::AmbiguousPath), "{why}: {path}");
        }
    }

    fn paths() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[a-zA-Z0-9._~;=-]{1,3}",
            4 => "%[0-9a-fA-F]{2}",
            2 => Just("/".to_owned()),
            2 => prop_oneof![Just("/.".to_owned()), Just("/..".to_owned()), Just("/%2e%2E".to_owned())],
            1 => prop_oneof![Just("%25".to_owned()), Just("%c3%A9".to_owned()), Just("%e2%82%ac".to_owned())],
            1 => "[ -~]",
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn canonicalising_twice_is_canonicalising_once(path in paths()) {
            if let Ok(Some(once)) = canonical(&path) {
                prop_assert_eq!(canonical(&once), Ok(None), "{}", once);
            }
        }

        #[test]
        fn a_canonical_path_holds_nothing_that_would_be_refused(path in paths()) {
            let Ok(spelled) = canonical(&path) else { return Ok(()) };
            let path = spelled.unwrap_or(path);
            prop_assert!(path.starts_with('/'));
            prop_assert!(!path.contains("//") && !path.contains('\\'));
            prop_assert!(!path.contains("%2F") && !path.contains("%5C") && !path.contains("%00"));
            for segment in path.split('/') {
                prop_assert!(segment != "." && segment != "..");
                prop_assert!(!segment.starts_with("..;") && !segment.starts_with(".;"));
            }
            for (at, _) in path.match_indices('%') {
                let byte = escape(&path.as_bytes()[at..]).expect("a full code");
                prop_assert!(!is_unreserved(byte) && !byte.is_ascii_control());
                prop_assert!(!path[at..at + 3].bytes().any(|b| b.is_ascii_lowercase()));
            }
        }

        #[test]
        fn an_encoded_letter_changes_nothing(path in "(/[a-z]{1,4}){1,4}", at in 0usize..8) {
            let mut encoded = path.clone();
            if let Some((at, letter)) = path.char_indices().filter(|(_, c)| *c != '/').nth(at) {
                encoded.replace_range(at..=at, &format!("%{:02x}", u32::from(letter)));
            }
            prop_assert_eq!(canonical(&encoded).expect("plain").unwrap_or(encoded), path);
        }
    }
}
