//! Path patterns: from a canonical path to the one entry that is most specific.
//!
//! Azure Functions and Logic Apps route without regard to letter case. A path that another case would
//! have led to another rule is therefore ambiguous, and refused rather than guessed at.

use std::borrow::Cow;

use matchit::{InsertError, Params, Router};

/// The patterns of one host.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    exact: Router<usize>,
    /// The same patterns in lower case, to see what a backend that folds case would see.
    folded: Router<usize>,
    /// Whether a pattern holds an upper-case letter, so that a path without one is looked up twice too.
    any_upper: bool,
}

/// What a path leads to.
pub(super) enum Found<'r, 'p> {
    Entry(usize, Params<'r, 'p>),
    Nothing,
    /// With another letter case it would lead elsewhere.
    Ambiguous,
}

/// Why a pattern cannot be added.
pub(super) enum Clash {
    /// The same paths as an entry that is there already.
    Same(usize),
    /// Not a pattern, or one that overlaps with others without an order between them.
    Invalid(String),
}

impl Paths {
    /// Adds a pattern under a number. Parameter names play no part: `/{a}` and `/{b}` are one pattern.
    pub(super) fn insert(&mut self, pattern: &str, entry: usize) -> Result<(), Clash> {
        let folded = lower_literals(pattern);
        // Whatever clashes exactly clashes in lower case too, so this comes first.
        if let Err(error) = self.folded.insert(folded.as_str(), entry) {
            return Err(self.clash(&error, &folded));
        }
        self.any_upper |= folded != pattern;
        let inserted = self.exact.insert(pattern, entry);
        inserted.map_err(|error| Clash::Invalid(error.to_string()))
    }

    fn clash(&self, error: &InsertError, folded: &str) -> Clash {
        let taken = self
            .folded
            .at(&sample(folded))
            .ok()
            .map(|found| *found.value);
        match (error, taken) {
            (InsertError::Conflict { .. }, Some(entry)) => Clash::Same(entry),
            (error, _) => Clash::Invalid(error.to_string()),
        }
    }

    /// Looks a canonical path up.
    pub(super) fn find<'r, 'p>(&'r self, path: &'p str) -> Found<'r, 'p> {
        let exact = self.exact.at(path).ok();
        if self.any_upper || path.bytes().any(|byte| byte.is_ascii_uppercase()) {
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

fn fold(path: &str) -> Cow<'_, str> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(path.to_ascii_lowercase())
    } else {
        Cow::Borrowed(path)
    }
}

/// The pattern with its literal parts in lower case; parameter names keep theirs.
fn lower_literals(pattern: &str) -> String {
    let mut inside = false;
    let lowered = pattern.chars().map(|c| {
        match c {
            '{' => inside = true,
            '}' => inside = false,
            _ => {}
        }
        if inside { c } else { c.to_ascii_lowercase() }
    });
    lowered.collect()
}

/// A path that the pattern matches, to find what it clashes with.
fn sample(pattern: &str) -> String {
    let segments = pattern
        .split('/')
        .map(|segment| match segment.split_once('{') {
            Some((before, parameter)) => {
                let after = parameter.split_once('}').map_or("", |(_, after)| after);
                format!("{before}x{after}")
            }
            None => segment.to_owned(),
        });
    segments.collect::<Vec<_>>().join("/")
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
    fn a_path_that_another_letter_case_leads_elsewhere_is_ambiguous() {
        let paths = paths(&["/guests/admin", "/guests/{id}", "/Reports"]);
        for (path, ambiguous) in [
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
    fn patterns_for_the_same_paths_clash_and_name_the_other() {
        for (first, second) in [
            ("/a/{x}", "/a/{y}"),
            ("/a/{x}/b", "/a/{x}/b"),
            ("/Reports", "/reports"),
        ] {
            let mut paths = paths(&[first]);
            assert!(
                matches!(paths.insert(second, 1), Err(Clash::Same(0))),
                "{first} {second}"
            );
        }
    }
}
