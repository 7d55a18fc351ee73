//! Comments, and what each belongs to.
//!
//! The tree of a file knows where every key and value stands, so what is left between them is white
//! space, punctuation and comments.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::super::node::{Node, Value};
use super::super::source::Span;

/// A place that comments can belong to: an entry of a mapping or an item of a list, by the offset at
/// which it begins. An item that is a mapping begins where its first entry does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Anchor {
    pub(super) start: usize,
    pub(super) is_entry: bool,
}

/// All comments of a file.
#[derive(Debug, Default)]
pub(super) struct Comments {
    /// On lines of their own before it; an empty one is a blank line.
    pub(super) before: HashMap<Anchor, Vec<String>>,
    /// At the end of its line.
    pub(super) beside: HashMap<Anchor, Vec<String>>,
    /// On lines of their own after it.
    pub(super) after: HashMap<Anchor, Vec<String>>,
    /// At the beginning of the file; they stay there.
    pub(super) first: Vec<String>,
    /// At the end of the file.
    pub(super) last: Vec<String>,
    /// What has a blank line before it.
    pub(super) spaced: HashSet<Anchor>,
    /// Where comments begin.
    starts: Vec<usize>,
}

impl Comments {
    /// Whether there is a comment in a range of the text.
    pub(super) fn any_in(&self, range: &Range<usize>) -> bool {
        self.starts.iter().any(|start| range.contains(start))
    }

    pub(super) fn read(text: &str, root: &Node) -> Self {
        let mut places = Places::default();
        places.add(text, root, false);
        places.anchors.sort_unstable_by_key(|place| place.anchor);
        let mut comments = Self::default();
        let mut line_start = 0;
        let mut blank = false;
        let mut pending: Vec<(usize, String)> = Vec::new();
        for line in text.split_inclusive('\n') {
            let range = line_start..line_start + line.len();
            line_start = range.end;
            let found = places.comment_in(line, range.start);
            let is_own =
                found.is_some_and(|at| line.get(..at).is_some_and(|t| t.trim().is_empty()));
            let inside = places.inside_scalar(range.start);
            if line.trim().is_empty() && !inside {
                blank = true;
                continue;
            }
            let body = |at: usize| line.get(at..).unwrap_or_default().trim_end().to_owned();
            match found {
                Some(at) if is_own => {
                    comments.starts.push(range.start + at);
                    if blank {
                        pending.push((at, String::new()));
                    }
                    pending.push((at, body(at)));
                }
                _ => {
                    let first = places.first_on(&range);
                    if let Some(first) = first {
                        comments.settle(&places, first, range.start, blank, &mut pending);
                    } else if let Some(key) = places.key_above(&range) {
                        comments.above(&places, key, &mut pending);
                    }
                    if let Some(at) = found {
                        comments.starts.push(range.start + at);
                        let place = places.last_before(range.start + at, range.start);
                        match place {
                            Some(anchor) => {
                                comments.beside.entry(anchor).or_default().push(body(at));
                            }
                            // Behind a dash or a bracket alone: it is about what follows.
                            None => pending.push((0, body(at))),
                        }
                    }
                }
            }
            blank = false;
        }
        comments.finish(&places, pending);
        comments
    }

    /// Gives the comments that wait to what follows them, or to what they are indented like.
    fn settle(
        &mut self,
        places: &Places,
        next: Anchor,
        line_start: usize,
        blank: bool,
        pending: &mut Vec<(usize, String)>,
    ) {
        let column = places.column(next);
        let mut before = Vec::new();
        for (indent, text) in pending.drain(..) {
            let deeper = places
                .last_at_column(indent, line_start)
                .filter(|_| indent > column);
            match deeper {
                Some(anchor) if before.is_empty() => {
                    self.after.entry(anchor).or_default().push(text);
                }
                _ => before.push(text),
            }
        }
        if before.first().is_some_and(String::is_empty) {
            before.remove(0);
            self.spaced.insert(next);
        }
        if places.is_first(next) {
            self.first = before;
            if blank && !self.first.is_empty() {
                self.first.push(String::new());
            }
            return;
        }
        if blank && before.is_empty() {
            self.spaced.insert(next);
        } else if blank {
            before.push(String::new());
        }
        if !before.is_empty() {
            self.before.insert(next, before);
        }
    }

    /// Gives the comments between a key and its value, which stands on a line of its own, to the key.
    fn above(&mut self, places: &Places, key: Anchor, pending: &mut Vec<(usize, String)>) {
        let texts = pending.drain(..).map(|(_, text)| text);
        let texts = texts.filter(|text| !text.is_empty());
        match places.is_first(key) {
            true => self.first.extend(texts),
            false => self.before.entry(key).or_default().extend(texts),
        }
    }

    fn finish(&mut self, places: &Places, pending: Vec<(usize, String)>) {
        for (indent, text) in pending {
            let like = places
                .last_at_column(indent, usize::MAX)
                .filter(|_| indent > 0);
            match like {
                Some(anchor) if self.last.is_empty() => {
                    self.after.entry(anchor).or_default().push(text);
                }
                _ => self.last.push(text),
            }
        }
    }
}

struct Place {
    anchor: Anchor,
    column: usize,
    /// Whether it stands within brackets, where indentation means nothing.
    in_brackets: bool,
}

#[derive(Default)]
struct Places {
    anchors: Vec<Place>,
    /// What is text, in which `#` means nothing.
    scalars: Vec<Range<usize>>,
    /// Where the key or value of an anchor ends.
    ends: Vec<(usize, Anchor)>,
    /// Where the plain or quoted value of a key begins.
    values: Vec<(usize, Anchor)>,
}

impl Places {
    fn add(&mut self, text: &str, node: &Node, around: bool) {
        let inside = around || is_in_brackets(text, node);
        match &node.value {
            Value::Mapping(entries) => {
                for entry in entries {
                    let anchor = self.anchor(&entry.span, true, inside);
                    self.scalars.push(entry.span.range());
                    self.ends.push((entry.span.range().end, anchor));
                    self.end(&entry.value, anchor);
                    if matches!(entry.value.value, Value::Plain(_) | Value::Quoted(_)) {
                        self.values.push((entry.value.span.range().start, anchor));
                    }
                    self.add(text, &entry.value, inside);
                }
            }
            Value::List(items) => {
                for item in items {
                    let anchor = self.anchor(&item.span, false, inside);
                    self.end(item, anchor);
                    self.add(text, item, inside);
                }
            }
            Value::Null | Value::Plain(_) | Value::Quoted(_) | Value::Refused => {
                self.scalars.push(node.span.range());
            }
        }
    }

    fn anchor(&mut self, span: &Span, is_entry: bool, in_brackets: bool) -> Anchor {
        let start = span.range().start;
        let anchor = Anchor { start, is_entry };
        let column = span.start().column - 1;
        self.anchors.push(Place {
            anchor,
            column,
            in_brackets,
        });
        anchor
    }

    /// A comment behind a value belongs to it where the value ends on that line.
    fn end(&mut self, value: &Node, anchor: Anchor) {
        self.ends.push((value.span.range().end, anchor));
    }

    fn inside_scalar(&self, offset: usize) -> bool {
        self.scalars
            .iter()
            .any(|range| range.start < offset && offset < range.end)
    }

    /// Where a comment begins in a line, in bytes: a `#` after white space that is no text.
    fn comment_in(&self, line: &str, start: usize) -> Option<usize> {
        let mut before = b' ';
        for (at, byte) in line.bytes().enumerate() {
            let offset = start + at;
            let is_text = || self.scalars.iter().any(|range| range.contains(&offset));
            if byte == b'#' && matches!(before, b' ' | b'\t') && !is_text() {
                return Some(at);
            }
            before = byte;
        }
        None
    }

    fn first_on(&self, line: &Range<usize>) -> Option<Anchor> {
        let at = self
            .anchors
            .partition_point(|place| place.anchor.start < line.start);
        let first = self.anchors.get(at)?.anchor;
        (first.start < line.end).then_some(first)
    }

    /// The key on a line above whose value this line begins with.
    fn key_above(&self, line: &Range<usize>) -> Option<Anchor> {
        let values = self.values.iter();
        let mut keys = values.filter(|(start, key)| line.contains(start) && key.start < line.start);
        keys.next().map(|(_, key)| *key)
    }

    /// What ends last on a line before a comment, the innermost of several.
    fn last_before(&self, comment: usize, line_start: usize) -> Option<Anchor> {
        let ends = self.ends.iter();
        let on_line = ends.filter(|(end, _)| *end <= comment && *end > line_start);
        on_line
            .max_by_key(|(end, anchor)| (*end, *anchor))
            .map(|(_, anchor)| *anchor)
    }

    fn is_first(&self, anchor: Anchor) -> bool {
        self.anchors
            .first()
            .is_some_and(|place| place.anchor.start == anchor.start)
    }

    fn column(&self, anchor: Anchor) -> usize {
        let place = self.anchors.iter().find(|place| place.anchor == anchor);
        place.map_or(0, |place| place.column)
    }

    /// What began last at a column before an offset.
    fn last_at_column(&self, column: usize, before: usize) -> Option<Anchor> {
        let earlier = self
            .anchors
            .iter()
            .rev()
            .filter(|place| place.anchor.start < before && !place.in_brackets);
        earlier
            .take_while(|place| place.column >= column)
            .find(|place| place.column == column)
            .map(|place| place.anchor)
    }
}

/// Whether a collection was written in brackets. A block begins where its first part does, which may
/// well be a bracket of its own.
pub(super) fn is_in_brackets(text: &str, node: &Node) -> bool {
    let range = node.span.range();
    let first = match &node.value {
        Value::Mapping(entries) => entries.first().map(|entry| entry.span.range().start),
        Value::List(items) => items.first().map(|item| item.span.range().start),
        Value::Null | Value::Plain(_) | Value::Quoted(_) | Value::Refused => return false,
    };
    let written = text.get(range.clone()).unwrap_or_default();
    written.starts_with(['[', '{']) && first != Some(range.start)
}
