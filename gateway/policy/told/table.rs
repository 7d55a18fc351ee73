//! Tables for people: columns as wide as they must be, or Markdown.

use serde_json::Value;

/// A table in plain text, with two spaces between columns.
pub(crate) fn plain(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        longest.max(head.get(column).map_or(0, |title| title.chars().count()))
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let line = padded.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    let rows = rows
        .iter()
        .map(|row| row.iter().map(String::as_str).collect());
    std::iter::once(head.to_vec())
        .chain(rows)
        .map(line)
        .collect()
}

/// The same with a line between columns and no space for others' sake: a row that changes leaves those
/// around it as they are.
pub(crate) fn ragged(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[&str]| format!("{}\n", cells.join(" | "));
    let rows = rows.iter().map(|row| {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        line(&cells)
    });
    std::iter::once(line(head)).chain(rows).collect()
}

/// The same as Markdown.
pub(crate) fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head.iter().map(|title| (*title).to_owned()).collect());
    text += &line(vec!["---".to_owned(); head.len()]);
    for row in rows {
        text += &line(row.iter().map(|cell| escaped(cell)).collect());
    }
    text
}

/// Text with what Markdown would take for more than text written out.
pub(crate) fn escaped(text: &str) -> String {
    let letters = text.chars().map(|letter| match letter {
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '&' => "&amp;".to_owned(),
        // Or else somebody is called.
        '@' => "&#64;".to_owned(),
        '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '~' | '#' | '!' => format!("\\{letter}"),
        letter => letter.to_string(),
    });
    letters.collect()
}

/// An object with the keys of another beside its own.
pub(crate) fn extend(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}
