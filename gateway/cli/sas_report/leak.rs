//! The signature or key that leaked, as somebody found it: alone, or in its URL.

use std::io::Read as _;
use std::path::Path;

use crate::canonical::KeyParameters;
use crate::cli::{Unanswered, open};
use crate::fingerprint::{Fingerprint, FingerprintKey};
use crate::secret::Secret;

/// The fingerprint that the gateway with the key of one file would give to what stands in another. Faults name
/// the options and not the files: whoever writes the signature itself in place of a file must not see it printed.
pub(super) fn fingerprint(leaked: &Path, key: &Path) -> Result<Fingerprint, Unanswered> {
    let text = text_of("--key", key)?;
    let text = Secret::new(without_newline(text.expose()).to_owned());
    let key = FingerprintKey::new(&text)
        .map_err(|error| Unanswered::UsedWrongly(format!("the file of --key: {error}")))?;
    let text = text_of("--trace", leaked)?;
    let value = value(text.expose().trim())
        .map_err(|why| Unanswered::UsedWrongly(format!("the file of --trace: {why}")))?;
    Ok(key.fingerprint(value))
}

fn text_of(option: &str, file: &Path) -> Result<Secret<String>, Unanswered> {
    let mut text = String::new();
    let read = open(file).and_then(|mut file| file.read_to_string(&mut text));
    read.map(|_| Secret::new(text))
        .map_err(|error| Unanswered::AtFault(format!("the file of {option}: {error}")))
}

/// The text without one newline at its end, as the gateway reads files that hold secrets.
fn without_newline(text: &str) -> &str {
    let line = text.strip_suffix('\n').unwrap_or(text);
    line.strip_suffix('\r').unwrap_or(line)
}

/// The signature or key in a text: the `sig` of a URL, else its function key, else the text itself. Why not,
/// in words that repeat none of it.
fn value(text: &str) -> Result<&str, &'static str> {
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err("it must hold one signature or key, or one SAS URL, and nothing else");
    }
    let query = text.split_once('?').map_or(text, |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let keys = [
        KeyParameters::SIG,
        KeyParameters::CODE,
        KeyParameters::X_FUNCTIONS_KEY,
    ];
    let found = keys.into_iter().find_map(|key| parameter(query, key));
    // Neither a signature nor a function key, both Base64, holds what only a URL does.
    let is_url = text.contains(['?', '&', ':']);
    match found {
        Some(value) => Ok(value),
        None if is_url => Err("this URL has neither `sig` nor `code`"),
        None => Ok(text),
    }
}

/// The value of the first parameter of this name that has one.
fn parameter(query: &str, key: KeyParameters) -> Option<&str> {
    let pairs = query
        .split(['&', ';'])
        .filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(name, _)| KeyParameters::named(name) == Some(key));
    let (_, value) = values.find(|(_, value)| !value.is_empty())?;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_found_however_it_was_copied() {
        for (name, text, expected) in [
            ("alone", "aB+/c=", Ok("aB+/c=")),
            ("alone, encoded", "aB%2B%2Fc%3D", Ok("aB%2B%2Fc%3D")),
            ("a key", "aB-_c==", Ok("aB-_c==")),
            ("a URL", "https://h/p?sp=r&sig=aB%2B&sv=1.0", Ok("aB%2B")),
            ("a URL with both", "https://h/p?code=c&sig=s", Ok("s")),
            ("a URL with a key", "https://h/p?code=c%3D&x=1", Ok("c%3D")),
            ("a header's name", "https://h/p?x-functions-key=c", Ok("c")),
            ("in capitals", "https://h/p?SIG=s", Ok("s")),
            ("a fragment behind", "https://h/p?sig=s#top", Ok("s")),
            ("a query alone", "sp=r&sig=s", Ok("s")),
            ("a parameter alone", "sig=s", Ok("s")),
            ("empty, then not", "https://h/p?sig=&sig=s", Ok("s")),
            (
                "none",
                "https://h/p?a=b",
                Err("this URL has neither `sig` nor `code`"),
            ),
            (
                "no query",
                "https://h/p",
                Err("this URL has neither `sig` nor `code`"),
            ),
            (
                "nothing",
                "",
                Err("it must hold one signature or key, or one SAS URL, and nothing else"),
            ),
            (
                "two",
                "a\nb",
                Err("it must hold one signature or key, or one SAS URL, and nothing else"),
            ),
        ] {
            assert_eq!(value(text), expected, "{name}");
        }
    }

    #[test]
    fn one_newline_at_the_end_is_not_part_of_the_key() {
        for (text, expected) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            (" a ", " a "),
        ] {
            assert_eq!(without_newline(text), expected, "{text:?}");
        }
    }
}
