//! Comments, and what each belongs to.
//!
//! The tree of a file knows where every key and value stands, so what is left between them is white
//! space, punctuation and comments. The file is read once, from its first line to its last, and the
//! tables beside it are in the same order: however long it is, a line costs a search in them at most.

use std::collections::{HashMap, HashSet};
use std::iter::Peekable;
use std::ops::Range;
use std::vec::IntoIter;

use super::super::comments::Scalars;
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
    /// Where comments begin, in order.
    starts: Vec<usize>,
}

impl Comments {
    /// Those of a file whose lines end in `\n`.
    pub(super) fn read(root: &Node) -> Self {
        let text = root.span.source().text();
        let places = Places::of(root);
        let mut reader = Reader::new(root, &places);
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            reader.line(start..start + line.len());
            start += line.len();
        }
        reader.finish()
    }

    /// Whether there is a comment in a range of the text.
    pub(super) fn any_in(&self, range: &Range<usize>) -> bool {
        let first = self.starts.partition_point(|start| *start < range.start);
        self.starts
            .get(first)
            .is_some_and(|start| *start < range.end)
    }
}

/// A comment that waits for what follows it, and its column; an empty one is a blank line.
struct Waiting {
    column: usize,
    text: String,
}

/// What is known between two lines.
struct Reader<'n> {
    text: &'n str,
    places: &'n Places,
    scalars: Scalars<'n>,
    /// The comments of the lines to come.
    coming: Peekable<IntoIter<Range<usize>>>,
    open: Open<'n>,
    waiting: Vec<Waiting>,
    /// Whether the line before was blank.
    blank: bool,
    comments: Comments,
}

impl<'n> Reader<'n> {
    fn new(root: &'n Node, places: &'n Places) -> Self {
        let scalars = Scalars::of(root);
        let comments = scalars.comments();
        Self {
            text: root.span.source().text(),
            places,
            scalars,
            open: Open::new(&places.anchors),
            waiting: Vec::new(),
            blank: false,
            comments: Comments {
                starts: comments.iter().map(|comment| comment.start).collect(),
                ..Comments::default()
            },
            coming: comments.into_iter().peekable(),
        }
    }

    fn line(&mut self, line: Range<usize>) {
        let comment = self.coming.next_if(|comment| comment.start < line.end);
        let end = comment.as_ref().map_or(line.end, |comment| comment.start);
        let is_bare = self.slice(line.start..end).trim().is_empty();
        match comment {
            Some(comment) if is_bare => self.wait(comment.start - line.start, comment),
            None if is_bare && !self.scalars.go_on_at(line.start) => {
                self.blank = true;
                return;
            }
            comment => {
                self.content(&line);
                if let Some(comment) = comment {
                    self.beside(comment, line.start);
                }
            }
        }
        self.blank = false;
    }

    fn slice(&self, range: Range<usize>) -> &'n str {
        self.text.get(range).unwrap_or_default()
    }

    /// A comment on a line of its own.
    fn wait(&mut self, column: usize, comment: Range<usize>) {
        if self.blank {
            let text = String::new();
            self.waiting.push(Waiting { column, text });
        }
        let text = self.slice(comment).trim_end().to_owned();
        self.waiting.push(Waiting { column, text });
    }

    /// A comment at the end of a line that says something.
    fn beside(&mut self, comment: Range<usize>, line_start: usize) {
        let start = comment.start;
        let text = self.slice(comment).trim_end().to_owned();
        match self.places.last_before(start, line_start) {
            Some(anchor) => self.comments.beside.entry(anchor).or_default().push(text),
            // Behind a dash or a bracket alone: it is about what follows.
            None => self.waiting.push(Waiting { column: 0, text }),
        }
    }

    /// A line that says something takes the comments that wait.
    fn content(&mut self, line: &Range<usize>) {
        if let Some(first) = self.places.first_on(line) {
            self.settle(first, line.start);
        } else if let Some(key) = self.places.key_of(line) {
            self.above(key);
        }
    }

    /// Gives the comments that wait to what follows them, or to what they are indented like.
    fn settle(&mut self, next: Anchor, line_start: usize) {
        let column = self.slice(line_start..next.start).chars().count();
        let mut before = Vec::new();
        for comment in self.waiting.drain(..) {
            let deeper = self
                .open
                .at(comment.column, line_start)
                .filter(|_| comment.column > column);
            match deeper {
                Some(anchor) if before.is_empty() => {
                    let after = self.comments.after.entry(anchor).or_default();
                    after.push(comment.text);
                }
                _ => before.push(comment.text),
            }
        }
        if before.first().is_some_and(String::is_empty) {
            before.remove(0);
            self.comments.spaced.insert(next);
        }
        if self.places.is_first(next) {
            if self.blank && !before.is_empty() {
                before.push(String::new());
            }
            self.comments.first = before;
            return;
        }
        if self.blank && before.is_empty() {
            self.comments.spaced.insert(next);
        } else if self.blank {
            before.push(String::new());
        }
        if !before.is_empty() {
            self.comments.before.insert(next, before);
        }
    }

    /// Gives the comments between a key and its value, which stands on a line of its own, to the key.
    fn above(&mut self, key: Anchor) {
        let texts = self.waiting.drain(..).map(|comment| comment.text);
        let texts = texts.filter(|text| !text.is_empty());
        match self.places.is_first(key) {
            true => self.comments.first.extend(texts),
            false => self.comments.before.entry(key).or_default().extend(texts),
        }
    }

    fn finish(mut self) -> Comments {
        for Waiting { column, text } in self.waiting {
            let like = self.open.at(column, usize::MAX).filter(|_| column > 0);
            match like {
                Some(anchor) if self.comments.last.is_empty() => {
                    self.comments.after.entry(anchor).or_default().push(text);
                }
                _ => self.comments.last.push(text),
            }
        }
        self.comments
    }
}

/// Where something begins that comments can belong to.
struct Place {
    anchor: Anchor,
    /// `None` within brackets, where indentation means nothing.
    column: Option<usize>,
}

/// What began before an offset and was not followed by anything further to the left: at each column
/// the last.
struct Open<'p> {
    coming: &'p [Place],
    /// Columns rise.
    columns: Vec<(usize, Anchor)>,
}

impl<'p> Open<'p> {
    fn new(coming: &'p [Place]) -> Self {
        let columns = Vec::new();
        Self { coming, columns }
    }

    /// What is open at a column. Offsets may only grow from call to call.
    fn at(&mut self, column: usize, offset: usize) -> Option<Anchor> {
        while let [place, coming @ ..] = self.coming
            && place.anchor.start < offset
        {
            self.coming = coming;
            self.begin(place);
        }
        let columns = &self.columns;
        let at = columns.binary_search_by_key(&column, |(column, _)| *column);
        columns.get(at.ok()?).map(|(_, anchor)| *anchor)
    }

    fn begin(&mut self, place: &Place) {
        let Some(column) = place.column else {
            return;
        };
        let kept = self.columns.partition_point(|(open, _)| *open < column);
        self.columns.truncate(kept);
        self.columns.push((column, place.anchor));
    }
}

/// Where things begin and end, each list in the order of the text.
#[derive(Default)]
struct Places {
    anchors: Vec<Place>,
    /// Where the key or value of an anchor ends.
    ends: Vec<(usize, Anchor)>,
    /// Where the plain or quoted value of a key begins.
    values: Vec<(usize, Anchor)>,
}

impl Places {
    fn of(root: &Node) -> Self {
        let mut places = Self::default();
        places.add(root, false);
        places.anchors.sort_unstable_by_key(|place| place.anchor);
        places.ends.sort_unstable();
        places.values.sort_unstable();
        places
    }

    fn add(&mut self, node: &Node, around: bool) {
        let inside = around || is_in_brackets(node);
        match &node.value {
            Value::Mapping(entries) => {
                for entry in entries {
                    let anchor = self.anchor(&entry.span, true, inside);
                    self.ends.push((entry.span.range().end, anchor));
                    self.end(&entry.value, anchor);
                    if matches!(entry.value.value, Value::Plain(_) | Value::Quoted(_)) {
                        self.values.push((entry.value.span.range().start, anchor));
                    }
                    self.add(&entry.value, inside);
                }
            }
            Value::List(items) => {
                for item in items {
                    let anchor = self.anchor(&item.span, false, inside);
                    self.end(item, anchor);
                    self.add(item, inside);
                }
            }
            Value::Null | Value::Plain(_) | Value::Quoted(_) | Value::Refused => {}
        }
    }

    fn anchor(&mut self, span: &Span, is_entry: bool, in_brackets: bool) -> Anchor {
        let start = span.range().start;
        let anchor = Anchor { start, is_entry };
        let column = (!in_brackets).then(|| span.start().column - 1);
        self.anchors.push(Place { anchor, column });
        anchor
    }

    /// A comment behind a value belongs to it where the value ends on that line.
    fn end(&mut self, value: &Node, anchor: Anchor) {
        self.ends.push((value.span.range().end, anchor));
    }

    fn first_on(&self, line: &Range<usize>) -> Option<Anchor> {
        let at = self
            .anchors
            .partition_point(|place| place.anchor.start < line.start);
        let first = self.anchors.get(at)?.anchor;
        (first.start < line.end).then_some(first)
    }

    /// The key whose value stands on this line, on which no key does.
    fn key_of(&self, line: &Range<usize>) -> Option<Anchor> {
        let at = self
            .values
            .partition_point(|(start, _)| *start < line.start);
        let (start, key) = self.values.get(at)?;
        (*start < line.end).then_some(*key)
    }

    /// What ends last on a line before a comment, the innermost of several.
    fn last_before(&self, comment: usize, line_start: usize) -> Option<Anchor> {
        let behind = self.ends.partition_point(|(end, _)| *end <= comment);
        let (end, anchor) = self.ends.get(behind.checked_sub(1)?)?;
        (*end > line_start).then_some(*anchor)
    }

    fn is_first(&self, anchor: Anchor) -> bool {
        self.anchors
            .first()
            .is_some_and(|place| place.anchor.start == anchor.start)
    }
}

/// Whether a collection was written in brackets. A block begins where its first part does, which may
/// well be a bracket of its own.
pub(super) fn is_in_brackets(node: &Node) -> bool {
    let range = node.span.range();
    let first = match &node.value {
        Value::Mapping(entries) => entries.first().map(|entry| entry.span.range().start),
        Value::List(items) => items.first().map(|item| item.span.range().start),
        Value::Null | Value::Plain(_) | Value::Quoted(_) | Value::Refused => return false,
    };
    let written = node.span.source().text().get(range.clone());
    written.unwrap_or_default().starts_with(['[', '{']) && first != Some(range.start)
}
