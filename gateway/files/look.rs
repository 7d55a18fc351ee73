//! How text looks that may be a secret: the words before it and the marks within it. This is all
//! there is to go by in a file that was not understood.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::nearest::nearest;
use super::source::Span;

/// What to hide of a stretch of text, whatever it is.
pub(super) fn by_look(span: &Span) -> Vec<Range<usize>> {
    let Range { start, end } = span.range();
    let text = span.source().text().get(start..end).unwrap_or_default();
    let parts = telling(text);
    parts
        .map(|part| start + part.start..start + part.end)
        .collect()
}

/// A key that promises a secret, though no document here knows it.
pub fn is_secretive(key: &str) -> bool {
    let folded: String = key
        .chars()
        .filter(|letter| letter.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    let parts = [
        "secret",
        "passw",
        "pwd",
        "connectionstring",
        "functionkey",
        "functionskey",
        "hostkey",
        "masterkey",
        "systemkey",
        "subscriptionkey",
        "zumoauth",
        "cookie",
        "authorization",
        "apikey",
        "accesskey",
        "accountkey",
        "sharedkey",
        "signature",
        "sastoken",
        "accesstoken",
        "bearer",
        "passphrase",
    ];
    let is_key = folded.ends_with("keys") || (folded.ends_with("key") && folded != "key");
    is_key
        || matches!(&*folded, "sig" | "sas" | "code" | "value" | "token")
        || parts.iter().any(|part| folded.contains(part))
        || nearest(key, ["functionKey", "fingerprintKey"]).is_some()
}

/// Whether a secret may follow: the word promises one, or is nearly a key that stands above one.
pub(super) fn promises(word: &str) -> bool {
    is_secretive(word) || nearest(word, ["credential", "header", "value"]).is_some()
}

/// Whether a key of several words, which no key here is, ends in one that promises a secret.
pub(super) fn holds_a_promise(key: &str) -> bool {
    key.contains(char::is_whitespace) && promised(&format!("{key}:")).is_some()
}

/// Where a secret may begin in running text: after a word that promises one.
fn promised(text: &str) -> Option<usize> {
    let in_word = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_');
    let mut offset = 0;
    for word in text.split(|letter: char| !in_word(letter)) {
        let end = offset + word.len();
        let after = text.get(end..)?;
        if promises(word) {
            // As in `request.headers['x-api-key'] == '…'`, too.
            let bare = after.trim_start_matches(['"', '\'', ' ', '\t', ']', ')']);
            if bare.starts_with([':', '=']) {
                return Some(text.len() - bare.len() + 1);
            }
            if after.starts_with([' ', '\t']) {
                return Some(end);
            }
        }
        offset = end + after.chars().next().map_or(0, char::len_utf8);
    }
    None
}

/// What looks like a token: three parts of Base64, of which the first is a JOSE header.
static TOKEN: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*").ok());

/// Text without what looks like a token, wherever somebody put it.
pub fn without_tokens(text: &str) -> String {
    match &*TOKEN {
        Some(token) => token.replace_all(text, "(a token)").into_owned(),
        None => "(left out)".to_owned(),
    }
}

/// The parts of a text that look like a secret: user information in a URL, a query or fragment
/// with values in it, a connection string.
pub(super) fn telling(text: &str) -> impl Iterator<Item = Range<usize>> {
    let user = text.find("://").and_then(|scheme| {
        let start = scheme + 3;
        let authority = text.get(start..)?.split(['/', '?', '#']).next()?;
        let at = authority.rfind('@')?;
        Some(start..start + at)
    });
    let query = text
        .find(['?', '#'])
        .map(|mark| mark + 1..text.len())
        .filter(|query| {
            let query = text.get(query.clone()).unwrap_or_default();
            (query.contains('=') || text.contains("://")) && !is_version(query)
        });
    let folded = text.to_ascii_lowercase();
    let connection = ["key=", "sig=", "signature=", "password=", "pwd=", "secret="]
        .iter()
        .filter_map(|word| folded.find(word).map(|at| at + word.len()))
        .min()
        .map(|start| start..text.len());
    let promised = promised(text).map(|start| start..text.len());
    let parts = [user, query, connection, promised];
    parts.into_iter().flatten().filter(|part| !part.is_empty())
}

/// The one query that a policy file may hold.
fn is_version(query: &str) -> bool {
    query
        .strip_prefix("api-version=")
        .is_some_and(|rest| !rest.contains(['&', ';', '=', '#']))
}

/// Whether a text is surely the name of an environment variable, and not a secret in its place.
pub(super) fn is_variable(text: &str) -> bool {
    let allowed = |letter: char| letter.is_ascii_uppercase() || letter == '_';
    text.starts_with(allowed)
        && text.len() <= 64
        && text
            .chars()
            .all(|letter| allowed(letter) || letter.is_ascii_digit())
}

/// What to hide in a file that was not understood: from a key that promises a secret to the end of
/// its line, and all lines below it that are indented further or belong to its open quotation.
pub(super) fn by_lines(text: &str) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    let mut offset = 0;
    let mut secret: Option<Secret> = None;
    for line in text.split_inclusive('\n') {
        let end = offset + line.trim_end().len();
        let indent = line.len() - line.trim_start().len();
        if secret.is_some_and(|secret| !secret.covers(indent, line)) {
            secret = None;
        }
        if secret.is_some() {
            hidden.push(offset..end);
        } else {
            let parts = telling(line.trim_end());
            hidden.extend(parts.map(|part| offset + part.start..offset + part.end));
            secret = promised(line).map(|value| Secret {
                indent,
                quoted: line.get(value..).is_some_and(opens_a_quotation),
            });
        }
        offset += line.len();
    }
    hidden
}

/// A line on which a secret began.
#[derive(Clone, Copy)]
struct Secret {
    indent: usize,
    quoted: bool,
}

impl Secret {
    fn covers(self, indent: usize, line: &str) -> bool {
        // An open quotation is never trusted to end.
        self.quoted || line.trim().is_empty() || indent > self.indent
    }
}

fn opens_a_quotation(value: &str) -> bool {
    let marks = |mark: char| value.matches(mark).count() % 2 == 1;
    marks('"') || marks('\'')
}

/// Whether a header holds credentials by its name, as far as names tell. A false yes keeps a condition or
/// limit from being written; a false no puts a secret into the decision log.
pub fn holds_a_credential(name: &str) -> bool {
    let known = ["authorization", "proxy-authorization", "cookie"];
    let endings = ["-token", "-subscription-key", "-auth-key", "-authorization"];
    known.contains(&name)
        || endings.iter().any(|ending| name.ends_with(ending))
        || is_secretive(name)
}

#[cfg(test)]
mod tests {
    use super::by_lines;

    #[test]
    fn a_file_that_is_not_understood_hides_what_looks_like_a_secret() {
        let text = concat!(
            "routes:\n",
            "  a: { functionKey: { env: K }\n",
            "  b: https://u:p@host/x?sig=abc\n",
            "  password: >\n",
            "    one\n",
            "\n",
            "    two\n",
            "  ä-secret: three\n",
            "  plain: four\n",
            "  \"apiKey\": \"five\n",
            "six\n"
        );
        let hidden: Vec<_> = by_lines(text)
            .into_iter()
            .map(|range| &text[range])
            .collect();
        assert_eq!(
            hidden,
            [
                " { env: K }",
                "u:p",
                "sig=abc",
                "abc",
                "abc",
                " >",
                "    one",
                "",
                "    two",
                " three",
                " \"five",
                "six"
            ]
        );
    }
}
