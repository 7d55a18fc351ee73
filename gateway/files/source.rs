//! A file's text, and places in it. A place holds on to its text, so that it can be named long
//! after loading is over: in the answer of `explain`, say.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::look;

/// One file that was read. Its text may hold a secret that somebody wrote where none belongs, so
/// it is printed by [`Diagnostics::render`](super::Diagnostics::render) alone, which masks those.
pub struct Source {
    name: String,
    folder: PathBuf,
    text: String,
    /// The byte offset at which each line begins.
    lines: Vec<usize>,
    /// Byte ranges never to print: set once the file has been understood.
    masks: OnceLock<Vec<Range<usize>>>,
}

impl Source {
    /// A file of this path and text. The path is shown as it is given.
    pub fn new(path: &Path, text: String) -> Arc<Self> {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0)
            .chain(breaks.map(|(at, _)| at + 1))
            .collect();
        Arc::new(Self {
            name: path.display().to_string(),
            folder: path.parent().map(Path::to_path_buf).unwrap_or_default(),
            text,
            lines,
            masks: OnceLock::new(),
        })
    }

    /// The path, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder against which relative paths in this file resolve.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Settles what is never printed. Only the first call counts.
    pub(super) fn mask(&self, ranges: Vec<Range<usize>>) {
        let ranges = merged(ranges);
        // A second call would come from a second parse of the same text, and find the same.
        let _ = self.masks.set(ranges);
    }

    /// What is never printed. A file that was not understood is masked by the look of its lines.
    fn masks(&self) -> &[Range<usize>] {
        self.masks
            .get_or_init(|| merged(look::by_lines(&self.text)))
    }

    /// The mask that covers an offset.
    pub(super) fn mask_at(&self, offset: usize) -> Option<&Range<usize>> {
        let masks = self.masks();
        let before = masks.partition_point(|mask| mask.start <= offset);
        let mask = masks.get(before.checked_sub(1)?)?;
        mask.contains(&offset).then_some(mask)
    }

    /// The text with `***` for what is never printed.
    pub(super) fn masked(&self) -> String {
        let mut masked = String::with_capacity(self.text.len());
        let mut shown = 0;
        for mask in self.masks() {
            masked.push_str(self.text.get(shown..mask.start).unwrap_or_default());
            masked.push_str("***");
            shown = mask.end;
        }
        masked.push_str(self.text.get(shown..).unwrap_or_default());
        masked
    }

    /// The line (from 0) on which an offset lies.
    pub(super) fn line_of(&self, offset: usize) -> usize {
        self.lines
            .partition_point(|start| *start <= offset)
            .saturating_sub(1)
    }

    /// The byte range of a line (from 0), without its line break.
    pub(super) fn line_range(&self, line: usize) -> Range<usize> {
        let start = self.lines.get(line).copied().unwrap_or(self.text.len());
        let next = self.lines.get(line + 1).copied();
        let end = next.map_or(self.text.len(), |next| next.saturating_sub(1));
        let line = self.text.get(start..end).unwrap_or_default();
        start..start + line.trim_end_matches('\r').len()
    }

    fn position(&self, offset: usize) -> Position {
        let line = self.line_of(offset);
        let start = self.lines.get(line).copied().unwrap_or_default();
        let before = self.text.get(start..offset).unwrap_or_default();
        Position {
            line: line + 1,
            column: before.chars().count() + 1,
        }
    }
}

/// The same ranges in order, those that touch made one.
fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Line and column, both counted from 1; the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
}

/// A place in a file. Cheap to clone; shows itself as `file:line:column`.
#[derive(Clone)]
pub struct Span {
    source: Arc<Source>,
    start: usize,
    end: usize,
}

impl Span {
    /// The bytes `range` of a file.
    pub fn new(source: &Arc<Source>, range: Range<usize>) -> Self {
        let length = source.text.len();
        let start = range.start.min(length);
        Self {
            source: Arc::clone(source),
            start,
            end: range.end.clamp(start, length),
        }
    }

    /// The file as a whole: what is said of it is said at its beginning.
    pub fn whole(source: &Arc<Source>) -> Self {
        Self::new(source, 0..0)
    }

    /// A place in a file of which no text is known.
    pub fn nowhere_in(path: &Path) -> Self {
        Self::whole(&Source::new(path, String::new()))
    }

    /// A line (from 0) of a text that is no document and holds no secret.
    pub fn line_in(path: &Path, text: &str, line: usize) -> Self {
        let source = Source::new(path, text.to_owned());
        source.mask(Vec::new());
        let range = source.line_range(line);
        Self::new(&source, range)
    }

    /// The bytes `range` of a scalar's text, if they stand in the file as they are read; otherwise the
    /// whole scalar, because of its escapes or line breaks.
    pub fn within(scalar: &Self, text: &str, range: Range<usize>) -> Self {
        let written = scalar.source.text.get(scalar.range()).unwrap_or_default();
        let quoted = written.starts_with(['"', '\'']);
        let at = scalar.start + usize::from(quoted);
        if scalar.source.text.get(at..at + text.len()) != Some(text) {
            return scalar.clone();
        }
        Self::new(&scalar.source, at + range.start..at + range.end)
    }

    /// The file.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The byte range in the file.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Where it begins.
    pub fn start(&self) -> Position {
        self.source.position(self.start)
    }

    /// Where it ends (exclusive).
    pub fn end(&self) -> Position {
        self.source.position(self.end)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.start();
        write!(f, "{}:{line}:{column}", self.source.name)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value and where it was written. A value that was not written (a default) bears the place of
/// the mapping that lacks it.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// A value at a place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// Another value at the same place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned::new(change(self.value), self.span)
    }
}

/// By value alone: where a thing is written does not change what it is.
impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}
