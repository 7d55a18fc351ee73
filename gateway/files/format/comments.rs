//! Comments, and what each belongs to.
//!
//! The tree of a file knows where every key and value stands, so what is left between them is white
//! space, punctuation and comments. The file is read once, from its first line to its last, and the
//! tables beside it are in the same order: however long it is, a line costs a search in them at most.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::super::comments::Scalars;
use super::super::node::{Node, Value};

/// A place that comments can belong to: an entry of a mapping or an item of a list, by the offset of its
/// key or value and by how far it is indented when it is written. An item that is a mapping or list is
/// where its first part is, and that is indented further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Anchor {
    pub(super) start: usize,
    pub(super) indent: usize,
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
    /// The offsets of texts that were written as blocks; others stand in quotes.
    pub(super) blocks: HashSet<usize>,
    /// Where comments begin, in order.
    starts: Vec<usize>,
}

impl Comments {
    /// Those of a file whose lines end in `\n`.
    pub(super) fn read(root: &Node) -> Self {
        let text = root.span.source().text();
        let scalars = Scalars::of(root);
        let comments = scalars.comments();
        let places = Places::of(root, &comments);
        let mut reader = Reader {
            text,
            places: &places,
            scalars: &scalars,
            coming: &comments,
            open: Open::new(&places.anchors),
            waiting: Vec::new(),
            blank: false,
            comments: Self::default(),
        };
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            reader.line(start..start + line.len());
            start += line.len();
        }
        Self {
            starts: comments.iter().map(|comment| comment.start).collect(),
            blocks: places.blocks.iter().copied().collect(),
            ..reader.finish()
        }
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
    places: &'n Places<'n>,
    scalars: &'n Scalars<'n>,
    /// The comments of the lines to come.
    coming: &'n [Range<usize>],
    open: Open<'n>,
    waiting: Vec<Waiting>,
    /// Whether the line before was blank.
    blank: bool,
    comments: Comments,
}

impl<'n> Reader<'n> {
    fn line(&mut self, line: Range<usize>) {
        let comment = self.comment_on(&line);
        let end = comment.map_or(line.end, |comment| comment.start);
        let is_bare = self.slice(line.start..end).trim().is_empty();
        match comment {
            Some(comment) if is_bare => self.wait(comment, line.start),
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

    fn comment_on(&mut self, line: &Range<usize>) -> Option<&'n Range<usize>> {
        let (comment, coming) = self.coming.split_first()?;
        if comment.start >= line.end {
            return None;
        }
        self.coming = coming;
        Some(comment)
    }

    fn slice(&self, range: Range<usize>) -> &'n str {
        self.text.get(range).unwrap_or_default()
    }

    /// A comment on a line of its own.
    fn wait(&mut self, comment: &Range<usize>, line_start: usize) {
        let column = comment.start - line_start;
        if self.blank {
            let text = String::new();
            self.waiting.push(Waiting { column, text });
        }
        let text = self.slice(comment.clone()).trim_end().to_owned();
        self.waiting.push(Waiting { column, text });
    }

    /// A comment at the end of a line that says something.
    fn beside(&mut self, comment: &Range<usize>, line_start: usize) {
        let text = self.slice(comment.clone()).trim_end().to_owned();
        match self.places.last_before(comment.start, line_start) {
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
    fn settle(&mut self, place: &Place, line_start: usize) {
        let next = place.anchor;
        let column = self.slice(line_start..place.start).chars().count();
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
    start: usize,
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
            && place.start < offset
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
struct Places<'n> {
    text: &'n str,
    comments: &'n [Range<usize>],
    anchors: Vec<Place>,
    /// Where the key or value of an anchor ends, so that a comment behind it on that line is about it.
    ends: Vec<(usize, Anchor)>,
    /// Where the plain or quoted value of a key begins.
    values: Vec<(usize, Anchor)>,
    /// The offsets of texts that were written as blocks.
    blocks: Vec<usize>,
}

impl<'n> Places<'n> {
    fn of(root: &'n Node, comments: &'n [Range<usize>]) -> Self {
        let mut places = Self {
            text: root.span.source().text(),
            comments,
            anchors: Vec::new(),
            ends: Vec::new(),
            values: Vec::new(),
            blocks: Vec::new(),
        };
        places.add(root, false, 0);
        let order = |place: &Place| (place.start, place.anchor);
        places.anchors.sort_unstable_by_key(order);
        places.ends.sort_unstable();
        places.values.sort_unstable();
        places
    }

    /// Adds what lies in a node, which is written with its parts indented so far.
    fn add(&mut self, node: &Node, around: bool, indent: usize) {
        let inside = around || is_in_brackets(node);
        match &node.value {
            Value::Mapping(entries) => {
                for entry in entries {
                    let start = entry.span.range().start;
                    let anchor = Anchor { start, indent };
                    self.begin(start, anchor, inside);
                    self.ends.push((entry.span.range().end, anchor));
                    self.value(&entry.value, anchor);
                    if matches!(entry.value.value, Value::Plain(_) | Value::Quoted(_)) {
                        self.values.push((entry.value.span.range().start, anchor));
                    }
                    self.add(&entry.value, inside, indent + 2);
                }
            }
            Value::List(items) => {
                for item in items {
                    let start = item.span.range().start;
                    let anchor = Anchor { start, indent };
                    let begins = self.value(item, anchor);
                    self.begin(begins, anchor, inside);
                    self.add(item, inside, indent + 2);
                }
            }
            Value::Null | Value::Plain(_) | Value::Quoted(_) | Value::Refused => {}
        }
    }

    fn begin(&mut self, start: usize, anchor: Anchor, in_brackets: bool) {
        let column = (!in_brackets).then(|| self.column(start));
        self.anchors.push(Place {
            start,
            anchor,
            column,
        });
    }

    fn column(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or_default();
        let (_, line) = before.rsplit_once('\n').unwrap_or(("", before));
        line.chars().count()
    }

    /// Notes where the value of an anchor ends. Where it begins.
    fn value(&mut self, value: &Node, anchor: Anchor) -> usize {
        let range = value.span.range();
        let written = self.text.get(range.clone()).unwrap_or_default();
        self.ends
            .push((range.start + written.trim_end().len(), anchor));
        match self.mark(value) {
            Some(mark) => {
                self.blocks.push(range.start);
                self.ends.push((mark + 1, anchor));
                mark
            }
            None => range.start,
        }
    }

    /// Where the `|` or `>` of a block of text stands. The place of the node is its first line.
    fn mark(&self, node: &Node) -> Option<usize> {
        let start = node.span.range().start;
        match &node.value {
            Value::Quoted(text) if text.trim().is_empty() => {
                let written = self.text.get(start..)?;
                return written.starts_with(['|', '>']).then_some(start);
            }
            Value::Quoted(_) => {}
            _ => return None,
        }
        let before = self.text.get(..start)?.trim_end();
        let last = self
            .comments
            .partition_point(|comment| comment.start < before.len());
        let beside = self.comments.get(..last)?.last();
        let line = match beside.filter(|comment| before.len() <= comment.end) {
            Some(comment) => self.text.get(..comment.start)?,
            None => before,
        };
        let hints = |letter: char| letter.is_ascii_digit() || matches!(letter, '+' | '-');
        let head = line.trim_end_matches([' ', '\t']).trim_end_matches(hints);
        head.ends_with(['|', '>']).then(|| head.len() - 1)
    }

    fn first_on(&self, line: &Range<usize>) -> Option<&Place> {
        let at = self
            .anchors
            .partition_point(|place| place.start < line.start);
        let first = self.anchors.get(at)?;
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
