//! Where the comments of a file stand. The tree knows where every key and value is, so a `#` that lies
//! in none of them begins a comment. Both who hides comments and who keeps them ask here: one that
//! either overlooked would be printed, or lost.

use std::ops::Range;

use super::node::{Node, Value};

/// Where keys and single values stand, in the order of the text: in them `#` means nothing.
pub(super) struct Scalars<'n> {
    text: &'n str,
    ranges: Vec<Range<usize>>,
}

impl<'n> Scalars<'n> {
    /// Those of a file.
    pub(super) fn of(root: &'n Node) -> Self {
        let mut scalars = Self {
            text: root.span.source().text(),
            ranges: Vec::new(),
        };
        scalars.collect(root);
        scalars
    }

    fn collect(&mut self, node: &Node) {
        match &node.value {
            // The place of a block of text without a line is its mark, with the comment behind it.
            Value::Quoted(text) if text.trim().is_empty() => {}
            Value::Plain(_) | Value::Quoted(_) => self.add(node.span.range()),
            Value::List(items) => items.iter().for_each(|item| self.collect(item)),
            Value::Mapping(entries) => {
                for entry in entries {
                    // A key that is no word may be a list, with comments in it.
                    if !entry.key.is_empty() {
                        self.add(entry.span.range());
                    }
                    self.collect(&entry.value);
                }
            }
            Value::Null | Value::Refused => {}
        }
    }

    /// A block of text reaches over the blank lines behind it, which are none of its lines.
    fn add(&mut self, range: Range<usize>) {
        let written = self.text.get(range.clone()).unwrap_or_default();
        self.ranges
            .push(range.start..range.start + written.trim_end().len());
    }

    /// The one that ends behind an offset, if it has begun there or begins later.
    fn next(&self, offset: usize) -> Option<&Range<usize>> {
        let next = self.ranges.partition_point(|range| range.end <= offset);
        self.ranges.get(next)
    }

    /// Whether one that began before an offset goes on there.
    pub(super) fn go_on_at(&self, offset: usize) -> bool {
        self.next(offset).is_some_and(|range| range.start < offset)
    }

    /// The comments, each from its `#` to the end of the line, in the order of the text.
    pub(super) fn comments(&self) -> Vec<Range<usize>> {
        let mut comments: Vec<Range<usize>> = Vec::new();
        for (mark, _) in self.text.match_indices('#') {
            let is_in_comment = comments.last().is_some_and(|last| mark < last.end);
            let is_text = || self.next(mark).is_some_and(|range| range.contains(&mark));
            if !is_in_comment && self.may_begin(mark) && !is_text() {
                let rest = self.text.get(mark..).unwrap_or_default();
                let length = rest.find(['\n', '\r']).unwrap_or(rest.len());
                comments.push(mark..mark + length);
            }
        }
        comments
    }

    /// A comment stands at the beginning of the text or behind white space (YAML 1.2.2 section 6.6).
    fn may_begin(&self, mark: usize) -> bool {
        let before = self.text.get(..mark).unwrap_or_default();
        let is_space = |letter: char| letter.is_whitespace() || letter == '\u{feff}';
        before.chars().next_back().is_none_or(is_space)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::diagnostics::Diagnostics;
    use super::super::source::Source;
    use super::super::tree;
    use super::*;

    #[test]
    fn a_comment_is_what_the_parser_skips() {
        for (text, comments) in [
            ("a: b # c\n", &["# c"][..]),
            ("# a\n#b\n\nc: d", &["# a", "#b"]),
            ("\u{feff}# a\nb: c\n", &["# a"]),
            ("a: b#c\n", &[]),
            ("a: b\t# c\r\n", &["# c"]),
            ("a: b # c\rd: e # f\r", &["# c", "# f"]),
            ("'a # b': \"c # d\" # e # f\n", &["# e # f"]),
            ("a: | # b\n  # c\n\n# d\ne: f\n", &["# b", "# d"]),
            ("a: | # b\n", &["# b"]),
            ("a: b\n  c # d\n", &["# d"]),
            ("a: [b, # c\n  d] # e\n", &["# c", "# e"]),
            ("--- # a\nb: c\n... # d\n", &["# a", "# d"]),
            // Faults, of which a part is shown.
            ("? [a, # b\n  c]\n: d\n", &["# b"]),
            ("a: *b # c\n", &["# c"]),
        ] {
            let source = Source::new(Path::new("a.yaml"), text.to_owned());
            let root = tree::parse(&source, &mut Diagnostics::new()).expect(text);
            let found = Scalars::of(&root).comments();
            let found: Vec<_> = found.into_iter().map(|range| &text[range]).collect();
            assert_eq!(found, comments, "{text:?}");
        }
    }
}
