//! Path patterns: from a canonical path to the one entry that is most specific.
//!
//! Backends read paths more loosely than a rule is written: Azure Functions and Logic Apps route without
//! regard to letter case or to a slash at the end, all decode percent codes, some cut a segment at `;` or
//! drop dots and spaces behind it. A path that such a reading would have led to another rule is therefore
//! ambiguous, and refused rather than guessed at.

use std::borrow::Cow;

use super::pattern::some_path;
use super::tree::{NoOrder, Segment, Tree, Values, segments};

/// The patterns of one host.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    exact: Tree,
    /// The same patterns folded, to see what a loose backend would see.
    folded: Tree,
    /// Whether a pattern is another when it is folded, so that every path has to be looked up twice.
    any_loose: bool,
}

/// What a path leads to.
pub(super) enum Found<'p> {
    Entry(usize, Values<'p>),
    Nothing,
    /// A looser reader would be led elsewhere.
    Ambiguous,
}

/// Why a pattern cannot be added as one of its own.
pub(super) enum Clash {
    /// It is the pattern of this entry, but for the names of parameters: further methods may join.
    Same(usize),
    /// It takes the paths of this entry as a looser reader sees them.
    Overlaps(usize),
    /// Some path fits it and this entry, which has a parameter in the same place, and nothing says whose
    /// it is.
    NoOrder(usize),
    /// It is no pattern.
    Invalid(String),
}

impl Paths {
    /// Adds a pattern under a number. Parameter names play no part: `/{a}` and `/{b}` are one pattern.
    pub(super) fn insert(&mut self, pattern: &str, entry: usize) -> Result<(), Clash> {
        let exact = segments(pattern).map_err(Clash::Invalid)?;
        let folded = fold_pattern(&exact);
        if fold(&some_path(pattern, "x")) != joined(&folded, "x") {
            let why = "a percent code, `;` or a dot at the end of a segment beside a parameter is read \
                       differently by some, so no request would get through";
            return Err(Clash::Invalid(why.to_owned()));
        }
        if let Some(known) = self.exact.entry(&exact) {
            return Err(Clash::Same(known));
        }
        if let Some(known) = self.folded.entry(&folded) {
            return Err(Clash::Overlaps(known));
        }
        // What has no order exactly has none when it is folded.
        let no_order = |NoOrder(other)| Clash::NoOrder(other);
        self.folded.insert(&folded, entry).map_err(no_order)?;
        self.exact.insert(&exact, entry).map_err(no_order)?;
        self.any_loose |= folded != exact;
        Ok(())
    }

    /// The patterns as they are written, and as a loose reader sees them.
    pub(super) fn trees(&self) -> [(&Tree, Reading); 2] {
        [
            (&self.exact, Reading::Exact),
            (&self.folded, Reading::Folded),
        ]
    }

    /// Looks a canonical path up.
    pub(super) fn find<'p>(&self, path: &'p str) -> Found<'p> {
        let exact = self.exact.find(path);
        if self.any_loose || is_loose(path) {
            let folded = self.folded.find(&fold(path)).map(|(entry, _)| entry);
            if folded != exact.as_ref().map(|(entry, _)| *entry) {
                return Found::Ambiguous;
            }
        }
        match exact {
            Some((entry, values)) => Found::Entry(entry, values),
            None => Found::Nothing,
        }
    }
}

/// How a path is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// As it stands.
    Exact,
    /// As the loosest of readers sees it.
    Folded,
}

impl Reading {
    /// A segment, so read.
    pub(super) fn of(self, segment: &str) -> Cow<'_, str> {
        match self {
            Self::Exact => Cow::Borrowed(segment),
            Self::Folded => Cow::Owned(fold_segment(segment)),
        }
    }
}

/// Whether a looser reader might see another path. Most paths are read in one way alone.
fn is_loose(path: &str) -> bool {
    let odd = |byte: u8| byte.is_ascii_uppercase() || matches!(byte, b'%' | b';' | b'.');
    path.bytes().any(odd) || (path.len() > 1 && path.ends_with('/'))
}

/// The path as the loosest of readers sees it.
pub(super) fn fold(path: &str) -> String {
    let segments = path.split('/').map(fold_segment);
    let folded = segments.collect::<Vec<_>>().join("/");
    match folded.strip_suffix('/') {
        Some(shorter) if !shorter.is_empty() => shorter.to_owned(),
        _ => folded,
    }
}

fn fold_segment(segment: &str) -> String {
    let segment = decode(segment);
    let segment = segment.split(';').next().unwrap_or_default();
    segment.trim_end_matches(['.', ' ']).to_lowercase()
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

/// The pattern with its literal parts folded.
fn fold_pattern(pattern: &[Segment]) -> Vec<Segment> {
    // Text beside a parameter is only the beginning or the end of what a reader folds.
    let lower = |text: &str| text.to_lowercase().into_boxed_str();
    let mut folded: Vec<Segment> = pattern
        .iter()
        .map(|segment| match segment {
            Segment::Literal(text) => Segment::Literal(fold_segment(text).into()),
            Segment::Parameter(before, after) => Segment::Parameter(lower(before), lower(after)),
            Segment::Rest(before) => Segment::Rest(lower(before)),
        })
        .collect();
    if folded.len() > 1 && folded.last() == Some(&Segment::Literal(Box::default())) {
        folded.pop();
    }
    folded
}

/// A path that a pattern takes, with this word for each parameter.
fn joined(pattern: &[Segment], word: &str) -> String {
    let segments = pattern.iter().map(|segment| match segment {
        Segment::Literal(text) => format!("/{text}"),
        Segment::Parameter(before, after) => format!("/{before}{word}{after}"),
        Segment::Rest(before) => format!("/{before}{word}"),
    });
    segments.collect()
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
        let mut paths = paths(&["/g/other", "/G/f-{id}"]);
        let clash = paths.insert("/g/{id}.PDF", 2);
        assert!(matches!(clash, Err(Clash::NoOrder(1))));
    }
}
