//! A fault as text for people, in the shape that rustc made familiar, and as JSON.

use std::fmt::Write as _;
use std::ops::Range;

use serde_json::{Value, json};

use super::diagnostics::{Diagnostic, Label};
use super::source::{Position, Source};

/// What stands for whatever must not be printed.
const MASK: &str = "***";
/// The longest part of a line that is shown, in characters, and how much of it comes before the fault.
const WIDEST: usize = 140;
const BEFORE: usize = 50;

/// The fault as text, ending in a line break.
pub(super) fn human(found: &Diagnostic) -> String {
    let labels = || std::iter::once(found.primary()).chain(found.related());
    let last = labels().map(|label| label.span.start().line).max();
    let gutter = last.unwrap_or(1).to_string().len();

    let mut out = String::new();
    let severity = found.severity().as_str();
    line(
        &mut out,
        &format!("{severity}: {}", printable(found.message())),
    );
    for (index, label) in labels().enumerate() {
        place(&mut out, label, gutter, index == 0);
    }
    for help in found.helps() {
        line(
            &mut out,
            &format!("{:gutter$} = help: {}", "", printable(help)),
        );
    }
    out
}

fn place(out: &mut String, label: &Label, gutter: usize, primary: bool) {
    let source = label.span.source();
    let arrow = if primary { "-->" } else { ":::" };
    let text = printable(&label.text);
    if source.text().is_empty() {
        let said = if text.is_empty() { "" } else { ": " };
        let name = printable(source.name());
        return line(out, &format!("{:gutter$}{arrow} {name}{said}{text}", ""));
    }
    let Position { line: number, .. } = label.span.start();
    let shown = Shown::of(source, label.span.range());
    let under = if primary { "^" } else { "-" };
    line(
        out,
        &format!(
            "{:gutter$}{arrow} {}",
            "",
            printable(&label.span.to_string())
        ),
    );
    line(out, &format!("{:gutter$} |", ""));
    line(out, &format!("{number:gutter$} | {}", shown.text));
    line(
        out,
        &format!(
            "{:gutter$} | {}{} {text}",
            "",
            " ".repeat(shown.underlined.start),
            under.repeat(shown.underlined.len().max(1))
        ),
    );
}

fn line(out: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{}", text.trim_end());
}

/// A line as it is shown, and which of its characters are underlined.
struct Shown {
    text: String,
    underlined: Range<usize>,
}

impl Shown {
    fn of(source: &Source, span: Range<usize>) -> Self {
        let line = source.line_range(source.line_of(span.start));
        let cells = cells(source, line);
        let start = visible_start(source, span.start);
        let first = cells.partition_point(|cell| cell.offset < start);
        let end = cells.partition_point(|cell| cell.offset < span.end);
        Self::cut(&cells, first..end.max(first))
    }

    /// Keeps the part of a long line around the fault.
    fn cut(cells: &[Cell], underlined: Range<usize>) -> Self {
        let from = match cells.len() > WIDEST {
            true => underlined.start.saturating_sub(BEFORE),
            false => 0,
        };
        let kept = cells.iter().skip(from).take(WIDEST);
        let (before, after) = (
            if from > 0 { "..." } else { "" },
            if cells.len() > from + WIDEST {
                "..."
            } else {
                ""
            },
        );
        let text: String = kept.map(|cell| cell.shown).collect();
        let moved = |at: usize| (at - from).min(WIDEST) + before.len();
        Self {
            text: format!("{before}{text}{after}"),
            underlined: moved(underlined.start)..moved(underlined.end),
        }
    }
}

/// One character on the screen and the byte of the file that it stands for.
struct Cell {
    shown: char,
    offset: usize,
}

fn cells(source: &Source, line: Range<usize>) -> Vec<Cell> {
    let text = source.text().get(line.clone()).unwrap_or_default();
    let mut cells = Vec::with_capacity(text.len());
    let mut masked_until = 0;
    for (at, letter) in text.char_indices() {
        let offset = line.start + at;
        if offset < masked_until {
            continue;
        }
        match source.mask_at(offset) {
            Some(mask) => {
                masked_until = mask.end;
                cells.extend(MASK.chars().map(|shown| Cell { shown, offset }));
            }
            None if letter == '\t' => {
                cells.extend((0..4).map(|_| Cell { shown: ' ', offset }));
            }
            None => cells.push(Cell {
                shown: safe(letter),
                offset,
            }),
        }
    }
    cells
}

/// Where the underlining of a fault begins: a fault within a mask is shown at the mask.
fn visible_start(source: &Source, start: usize) -> usize {
    let line = source.line_range(source.line_of(start));
    source
        .mask_at(start)
        .map_or(start, |mask| mask.start.max(line.start))
}

/// Text without anything that would move a terminal's cursor or turn its direction of writing.
fn printable(text: &str) -> String {
    text.chars().map(safe).collect()
}

fn safe(letter: char) -> char {
    let turns = matches!(
        letter,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    );
    if turns || letter.is_control() {
        char::REPLACEMENT_CHARACTER
    } else {
        letter
    }
}

/// The fault as JSON.
pub(super) fn json(found: &Diagnostic) -> Value {
    let primary = found.primary();
    let mut value = json!({
        "severity": found.severity().as_str(),
        "message": found.message(),
        "label": primary.text,
        "help": found.helps(),
        "related": found.related().iter().map(related).collect::<Vec<_>>(),
    });
    if let (Some(value), Value::Object(place)) = (value.as_object_mut(), position(primary)) {
        value.extend(place);
    }
    value
}

fn related(label: &Label) -> Value {
    let mut value = position(label);
    if let Some(value) = value.as_object_mut() {
        value.insert("message".to_owned(), Value::from(label.text.as_str()));
    }
    value
}

fn position(label: &Label) -> Value {
    let (start, end) = (label.span.start(), label.span.end());
    json!({
        "file": label.span.source().name(),
        "line": start.line,
        "column": start.column,
        "endLine": end.line,
        "endColumn": end.column,
    })
}
