//! Path patterns: from a canonical path to the one entry that is most specific.
//!
//! Backends read paths more loosely than a rule is written: Azure Functions and Logic Apps route without
//! regard to letter case or to a slash at the end, all decode percent codes, some cut a segment at `;` or
//! drop dots and spaces behind it. A path that such a reading would have led to another rule is therefore
//! ambiguous, and refused rather than guessed at.

use std::collections::HashMap;

use matchit::{InsertError, Params, Router};

use super::pattern::{self, Part, some_path};

/// The patterns of one host.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    exact: Router<usize>,
    /// The same patterns folded, to see what a loose backend would see.
    folded: Router<usize>,
    /// Whether a pattern is another when it is folded, so that every path has to be looked up twice.
    any_loose: bool,
    /// The patterns so far, folded, and each as it was written but for the names of parameters.
    known: HashMap<String, (String, usize)>,
}

/// What a path leads to.
pub(super) enum Found<'r, 'p> {
    Entry(usize, Params<'r, 'p>),
    Nothing,
    /// A looser reader would be led elsewhere.
    Ambiguous,
}

/// Why a pattern cannot be added as one of its own.
pub(super) enum Clash {
    /// It is the pattern of this entry, but for the names of parameters: further methods may join.
    Same(usize),
    /// It takes paths of this entry, and no order between the two says whose they are.
    Overlaps(usize),
    /// Where this entry has a parameter it has one of another kind: `{name}` and `{*name}`.
    OtherKind(usize),
    /// It is no pattern.
    Invalid(String),
}

impl Paths {
    /// Adds a pattern under a number. Parameter names play no part: `/{a}` and `/{b}` are one pattern.
    pub(super) fn insert(&mut self, pattern: &str, entry: usize) -> Result<(), Clash> {
        let pattern = by_position(pattern);
        let folded = fold_pattern(&pattern);
        if fold(&some_path(&pattern, "x")) != some_path(&folded, "x") {
            let why = "a percent code, `;` or a dot at the end of a segment beside a parameter is read differently by some, so no request would get through";
            return Err(Clash::Invalid(why.to_owned()));
        }
        if let Some((known, entry)) = self.known.get(&folded) {
            return Err(match *known == pattern {
                true => Clash::Same(*entry),
                false => Clash::Overlaps(*entry),
            });
        }
        // Whatever clashes exactly clashes when it is folded too, so this comes first.
        if let Err(error) = self.folded.insert(folded.as_str(), entry) {
            return Err(match (error, self.of_other_kind(&folded)) {
                (InsertError::Conflict { .. }, Some(entry)) => Clash::OtherKind(entry),
                (error, _) => Clash::Invalid(error.to_string()),
            });
        }
        self.any_loose |= folded != pattern;
        let inserted = self.exact.insert(pattern.as_str(), entry);
        self.known.insert(folded, (pattern, entry));
        inserted.map_err(|error| Clash::Invalid(error.to_string()))
    }

    /// The first entry that has a parameter where this pattern has a different one, and the same before.
    fn of_other_kind(&self, folded: &str) -> Option<usize> {
        let clashes = |known: &str| {
            let mut segments = known.split('/').zip(folded.split('/'));
            let differ = segments.find(|(one, other)| one != other);
            differ.is_some_and(|(one, other)| one.contains('{') && other.contains('{'))
        };
        let known = self.known.iter();
        let others = known.filter(|(known, _)| clashes(known));
        others.map(|(_, (_, entry))| *entry).min()
    }

    /// Looks a canonical path up.
    pub(super) fn find<'r, 'p>(&'r self, path: &'p str) -> Found<'r, 'p> {
        let exact = self.exact.at(path).ok();
        if self.any_loose || is_loose(path) {
            let folded = fold(path);
            let folded = self.folded.at(&folded).ok().map(|found| *found.value);
            if folded != exact.as_ref().map(|found| *found.value) {
                return Found::Ambiguous;
            }
        }
        match exact {
            Some(found) => Found::Entry(*found.value, found.params),
            None => Found::Nothing,
        }
    }
}

/// Whether a looser reader might see another path. Most paths are read in one way alone.
fn is_loose(path: &str) -> bool {
    let odd = |byte: u8| byte.is_ascii_uppercase() || matches!(byte, b'%' | b';' | b'.');
    path.bytes().any(odd) || (path.len() > 1 && path.ends_with('/'))
}

/// The path as the loosest of readers sees it.
fn fold(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        let segment = decode(segment);
        let segment = segment.split(';').next().unwrap_or_default();
        segment.trim_end_matches(['.', ' ']).to_lowercase()
    });
    let folded = segments.collect::<Vec<_>>().join("/");
    match folded.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => shorter.to_owned(),
        _ => folded,
    }
}

/// Percent codes decoded. A canonical path holds only whole ones, and none that hides a slash.
fn decode(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        match (first, code) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The pattern with its literal parts folded; parameters stay as they are.
fn fold_pattern(pattern: &str) -> String {
    let segments = pattern
        .split('/')
        .map(|segment| match segment.contains('{') {
            // Text beside a parameter is only the beginning or the end of what a reader folds.
            true => lower_literals(segment),
            false => fold(segment),
        });
    let folded = segments.collect::<Vec<_>>().join("/");
    match folded.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => shorter.to_owned(),
        _ => folded,
    }
}

/// The text around parameters in lower case; their names keep theirs.
fn lower_literals(segment: &str) -> String {
    let texts = pattern::parts(segment).map(|part| match part {
        Part::Text(text) => text.to_ascii_lowercase(),
        Part::Parameter(name) => format!("{{{name}}}"),
        Part::Rest(name) => format!("{{*{name}}}"),
    });
    texts.collect()
}

/// The name of the parameter in this place: what people call it plays no part in matching.
pub(super) fn parameter_name(position: usize) -> String {
    format!("p{position}")
}

/// The pattern with its parameters named by their places.
pub(super) fn by_position(pattern: &str) -> String {
    let mut position = 0;
    let mut name = || {
        position += 1;
        parameter_name(position - 1)
    };
    let texts = pattern::parts(pattern).map(|part| match part {
        Part::Text(text) => text.to_owned(),
        Part::Parameter(_) => format!("{{{}}}", name()),
        Part::Rest(_) => format!("{{*{}}}", name()),
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(patterns: &[&str]) -> Paths {
        let mut paths = Paths::default();
        for (entry, pattern) in patterns.iter().enumerate() {
            assert!(paths.insert(pattern, entry).is_ok(), "{pattern}");
        }
        paths
    }

    #[test]
    fn the_most_specific_pattern_wins_whatever_the_order() {
        for patterns in [
            ["/guests/admin", "/guests/{id}", "/guests/{id}/{*rest}"],
            ["/guests/{id}/{*rest}", "/guests/{id}", "/guests/admin"],
        ] {
            let paths = paths(&patterns);
            for (path, expected) in [
                ("/guests/admin", "/guests/admin"),
                ("/guests/1", "/guests/{id}"),
                ("/guests/1/a/b", "/guests/{id}/{*rest}"),
            ] {
                match paths.find(path) {
                    Found::Entry(entry, _) => assert_eq!(patterns[entry], expected),
                    _ => panic!("{path} leads nowhere"),
                }
            }
        }
    }

    #[test]
    fn a_path_that_a_looser_reader_takes_elsewhere_is_ambiguous() {
        let paths = paths(&[
            "/guests/admin",
            "/guests/{id}",
            "/Reports",
            "/open/{*rest}",
            "/open/$metadata",
        ]);
        for (path, ambiguous) in [
            ("/guests/admin/", true),
            ("/guests/admin;x=1", true),
            ("/guests/admin.", true),
            ("/guests/admin%20", true),
            ("/guests/a.b", false),
            ("/guests/a%20b", false),
            ("/guests/1/", true),
            ("/open/a/b.c/D%20e/", false),
            ("/open/%24metadata", true),
            ("/open/$metadata", false),
            ("/open/$metadata/x", false),
            ("/guests/admin", false),
            ("/guests/ADMIN", true),
            ("/guests/Bob", false),
            ("/Guests/bob", true),
            ("/Reports", false),
            ("/reports", true),
        ] {
            assert_eq!(
                matches!(paths.find(path), Found::Ambiguous),
                ambiguous,
                "{path}"
            );
        }
    }

    #[test]
    fn patterns_for_the_same_paths_are_one_and_those_that_overlap_name_the_other() {
        for (first, second, same) in [
            ("/a/{x}", "/a/{y}", true),
            ("/a/{x}/b", "/a/{x}/b", true),
            ("/Reports", "/reports", false),
            ("/a", "/a/", false),
        ] {
            let mut paths = paths(&[first]);
            match paths.insert(second, 1) {
                Err(Clash::Same(0)) => assert!(same, "{first} {second}"),
                Err(Clash::Overlaps(0)) => assert!(!same, "{first} {second}"),
                _ => panic!("{first} {second}"),
            }
        }
        for (first, second) in [
            ("/g/{*rest}", "/g/{id}"),
            ("/g/{id}", "/g/{*rest}"),
            ("/g/{id}/photos/{*rest}", "/g/{*rest}"),
            ("/g/{*rest}", "/g/{id}/photos"),
            ("/G/a{id}", "/g/a{*rest}"),
        ] {
            let mut paths = paths(&["/g/other", first]);
            let clash = paths.insert(second, 2);
            assert!(
                matches!(clash, Err(Clash::OtherKind(1))),
                "{first} {second}"
            );
        }
    }
}
