//! Placeholders in a URL. Durable Functions write `/raiseEvent/{eventName}` and `reason={text}` and
//! leave it to the client to replace them in the URL's text. A sealed URL has no such text, so it
//! names each placeholder as a parameter of its own, which the follower's values are taken from.

use super::link::Altered;
use crate::canonical::{KeyParameters, canonical_path, escape};

/// The longest name of a placeholder in bytes; what is longer is text.
const LONGEST: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Placeholder(&'t str),
}

/// The query of the sealed URL, with its `?`: empty if the target has no placeholders.
pub(super) fn query(target: &str) -> String {
    let mut query = String::new();
    for name in names(&pieces(target)) {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(&format!("{name}={{{name}}}"));
    }
    query
}

/// The target with the values of `query` in the places of its placeholders.
pub(super) fn fill(target: &str, query: &str) -> Result<String, Altered> {
    let pieces = pieces(target);
    let values = parameters(query)?;
    // As many as there are names, and each name among them: none is there twice, none is too many.
    if values.len() != names(&pieces).len() {
        return Err(Altered);
    }
    let mut filled = String::with_capacity(target.len() + query.len());
    let mut in_query = false;
    for piece in pieces {
        match piece {
            Piece::Text(text) => {
                in_query |= text.contains('?');
                filled.push_str(text);
            }
            Piece::Placeholder(name) => {
                let value = value_of(name, &values)?;
                let fits = if in_query { fits_query } else { fits_path };
                if !fits(value) {
                    return Err(Altered);
                }
                filled.push_str(value);
            }
        }
    }
    Ok(filled)
}

fn pieces(target: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for (at, _) in target.match_indices('{') {
        if at < start {
            continue;
        }
        let (before, after) = target.split_at(at);
        if let Some(name) = name_at(after).filter(|_| !ends_in_half_a_code(before)) {
            pieces.push(Piece::Text(target.get(start..at).unwrap_or_default()));
            pieces.push(Piece::Placeholder(name));
            start = at + name.len() + 2;
        }
    }
    pieces.push(Piece::Text(target.get(start..).unwrap_or_default()));
    pieces
}

/// The name in the braces at the front of `text`. One that is a key's name would be taken for the key
/// where the follower's query is read, so it is none.
fn name_at(text: &str) -> Option<&str> {
    let text = text.strip_prefix('{')?;
    let end = text
        .bytes()
        .take(LONGEST + 1)
        .position(|byte| byte == b'}')?;
    let name = text.get(..end)?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fits = (1..=LONGEST).contains(&name.len()) && name.bytes().all(is_name);
    (fits && KeyParameters::named(name).is_none()).then_some(name)
}

/// Whether a value behind this text would complete a percent code.
fn ends_in_half_a_code(text: &str) -> bool {
    text.bytes().rev().take(2).any(|byte| byte == b'%')
}

/// Each name once, in order.
fn names<'t>(pieces: &[Piece<'t>]) -> Vec<&'t str> {
    let mut names = Vec::new();
    for piece in pieces {
        if let Piece::Placeholder(name) = piece
            && !names.contains(name)
        {
            names.push(*name);
        }
    }
    names
}

fn parameters(query: &str) -> Result<Vec<(&str, &str)>, Altered> {
    if query.is_empty() {
        return Ok(Vec::new());
    }
    let parameters = query.split('&');
    let pairs = parameters.map(|parameter| parameter.split_once('=').ok_or(Altered));
    pairs.collect()
}

fn value_of<'q>(name: &str, values: &[(&str, &'q str)]) -> Result<&'q str, Altered> {
    let value = values.iter().find(|(other, _)| *other == name);
    let (_, value) = value.ok_or(Altered)?;
    if is_still(name, value) {
        Err(Altered)
    } else {
        Ok(value)
    }
}

/// Whether the value is the placeholder itself, as it stands or with its braces encoded.
fn is_still(name: &str, value: &str) -> bool {
    let inner = |open, close| value.strip_prefix(open)?.strip_suffix(close);
    let bare = inner("{", "}");
    let encoded = inner("%7B", "%7D").or_else(|| inner("%7b", "%7d"));
    bare.or(encoded) == Some(name)
}

/// One segment in its canonical spelling. `.` and `..` are spelled otherwise, once resolved.
fn fits_path(value: &str) -> bool {
    let path = format!("/{value}");
    let canonical = canonical_path(&path).is_ok_and(|canonical| canonical == path);
    !value.is_empty() && !value.contains('/') && canonical
}

fn fits_query(value: &str) -> bool {
    value.bytes().enumerate().all(|(at, byte)| match byte {
        b'%' => escape(value.as_bytes().get(at..).unwrap_or_default()).is_some(),
        b'&' | b';' | b'#' | b'=' | b'+' | b'?' => false,
        _ => byte.is_ascii_graphic(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAISE: &str = "/instances/7/raiseEvent/{eventName}?code=k";
    const STOP: &str = "/instances/7/terminate?reason={text}&code=k";
    const BOTH: &str = "/a/{x}/b?y={y}&again={x}&code=k";

    #[test]
    fn each_placeholder_becomes_a_parameter() {
        for (target, expected) in [
            (RAISE, "?eventName={eventName}"),
            (STOP, "?text={text}"),
            (BOTH, "?x={x}&y={y}"),
            ("/a?b=c", ""),
            ("/{}/{a b}/{a-b}/{/}", ""),
            ("/%{x}/%2{x}", ""),
            ("/{code}?a={SIG}", ""),
            ("/{{x}}", "?x={x}"),
            ("/{x", ""),
        ] {
            assert_eq!(query(target), expected, "{target}");
        }
    }

    #[test]
    fn values_take_the_places_of_their_placeholders_as_they_were_sent() {
        for (target, query, filled) in [
            ("/a?sig=1", "", "/a?sig=1"),
            (
                RAISE,
                "eventName=approved",
                "/instances/7/raiseEvent/approved?code=k",
            ),
            (
                RAISE,
                "eventName=a%20b%C3%A9",
                "/instances/7/raiseEvent/a%20b%C3%A9?code=k",
            ),
            (
                STOP,
                "text=too%20late%2f%26",
                "/instances/7/terminate?reason=too%20late%2f%26&code=k",
            ),
            (STOP, "text=", "/instances/7/terminate?reason=&code=k"),
            (
                STOP,
                "text=a/b:c",
                "/instances/7/terminate?reason=a/b:c&code=k",
            ),
            (BOTH, "y=2&x=1", "/a/1/b?y=2&again=1&code=k"),
            ("/{{x}}", "x=1", "/{1}"),
            (
                BOTH,
                "x={y}".replace("{y}", "1&y=%7B").as_str(),
                "/a/1/b?y=%7B&again=1&code=k",
            ),
        ] {
            assert_eq!(fill(target, query), Ok(filled.to_owned()), "{query}");
        }
    }

    #[test]
    fn another_query_than_the_one_given_is_refused() {
        for (why, target, query) in [
            ("none expected", "/a?sig=1", "x=1"),
            ("none expected, not even an empty one", "/a", "&"),
            ("missing", RAISE, ""),
            ("another name", RAISE, "text=1"),
            ("another case", RAISE, "eventname=1"),
            ("no value", RAISE, "eventName"),
            ("one more", RAISE, "eventName=1&x=2"),
            ("twice", RAISE, "eventName=1&eventName=1"),
            ("twice instead of both", BOTH, "x=1&x=1"),
            ("still a placeholder", RAISE, "eventName={eventName}"),
            ("still one in a query", STOP, "text={text}"),
            ("still one, encoded", STOP, "text=%7Btext%7D"),
            ("empty segment", RAISE, "eventName="),
            ("slash", RAISE, "eventName=a/b"),
            ("encoded slash", RAISE, "eventName=a%2Fb"),
            ("twice encoded slash", RAISE, "eventName=a%252Fb"),
            ("encoded backslash", RAISE, "eventName=a%5Cb"),
            ("backslash", RAISE, "eventName=a\\b"),
            ("dot", RAISE, "eventName=."),
            ("two dots", RAISE, "eventName=.."),
            ("two dots, encoded", RAISE, "eventName=%2e%2e"),
            ("two dots and a parameter", RAISE, "eventName=..;x"),
            ("question mark", RAISE, "eventName=a?b"),
            ("hash", RAISE, "eventName=a#b"),
            ("incomplete code", RAISE, "eventName=a%2"),
            ("not canonical", RAISE, "eventName=%61"),
            ("another parameter", STOP, "text=a;code=x"),
            ("equals", STOP, "text=a=b"),
            ("plus", STOP, "text=a+b"),
            ("fragment", STOP, "text=a#b"),
            ("question mark in a query", STOP, "text=a?b"),
            ("incomplete code in a query", STOP, "text=a%2"),
            ("no code in a query", STOP, "text=%zz"),
            ("space", STOP, "text=a b"),
            ("control", STOP, "text=a\u{7f}b"),
            ("beyond ASCII", STOP, "text=\u{e9}"),
            ("a value that fits one place of two", BOTH, "x=a/b&y=1"),
        ] {
            assert_eq!(fill(target, query), Err(Altered), "{why}");
        }
    }
}
