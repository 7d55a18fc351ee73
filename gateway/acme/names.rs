//! The names of one certificate, in one spelling: whoever asks for the same names means the same certificate.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

/// Names in lower case and in order, each once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Names(Vec<String>);

impl Names {
    pub(super) fn of(written: &[String]) -> Self {
        let mut names: Vec<String> = written
            .iter()
            .map(|name| name.to_ascii_lowercase())
            .collect();
        names.sort();
        names.dedup();
        Self(names)
    }

    pub(super) fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// What files of theirs are called, without an ending: for people the first name, and a digest of all.
    pub(super) fn file(&self) -> String {
        let first = self.0.first().map_or("none", String::as_str);
        format!("{}-{}", plain(first), short_digest(&self.0.join(",")))
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// A text as a part of a file's name: what might mean something to a file system is replaced, and what is long cut.
pub(super) fn plain(text: &str) -> String {
    let harmless = |letter: char| match letter {
        'a'..='z' | '0'..='9' | '-' | '.' => letter,
        _ => '_',
    };
    text.chars().take(100).map(harmless).collect()
}

/// Enough of a digest that no two texts of one operator share it.
pub(super) fn short_digest(text: &str) -> String {
    let digest = digest(&SHA256, text.as_bytes());
    let first = digest.as_ref().iter().take(8);
    first.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(written: &[&str]) -> Names {
        let written: Vec<String> = written.iter().map(|&name| name.to_owned()).collect();
        Names::of(&written)
    }

    #[test]
    fn the_same_names_mean_the_same_certificate_however_they_are_written() {
        let one = names(&["b.example", "A.example", "a.EXAMPLE"]);
        assert_eq!(one, names(&["a.example", "b.example"]));
        assert_eq!(one.to_string(), "a.example, b.example");
    }

    #[test]
    fn files_are_apart_and_stay_in_their_folder() {
        let one = names(&["a.example", "b.example"]);
        assert_ne!(one.file(), names(&["a.example"]).file());
        let odd = names(&["../*.example/x"]).file();
        assert!(odd.starts_with("..__.example_x-"), "{odd}");
        assert!(!odd.contains('/') && !odd.contains('*'), "{odd}");
    }
}
