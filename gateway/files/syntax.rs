//! What the parser says when a text is not YAML, in words for those who wrote it.

use std::sync::Arc;

use granit_parser::{ErrorKind, ScanError};

use super::diagnostics::Diagnostics;
use super::look;
use super::source::{Source, Span};

/// Adds the fault. It is the only one of its file: what follows it cannot be understood.
pub(super) fn explain(source: &Arc<Source>, error: &ScanError, diagnostics: &mut Diagnostics) {
    let text = source.text();
    let at = error.marker().byte_offset().unwrap_or(text.len());
    // The end of the file is the line break after the last line that has anything on it.
    let at = at.min(text.trim_end().len());
    let width = text
        .get(at..)
        .and_then(|rest| rest.chars().next())
        .filter(|letter| *letter != '\n')
        .map_or(0, char::len_utf8);
    let span = Span::new(source, at..at + width);

    // What follows the fault is not understood, and so not known to be harmless.
    let mut hidden = look::by_lines(text);
    hidden.push(at + width..text.len());
    source.mask(hidden);

    let (message, help) = said(error.kind());
    diagnostics.error(&span, message).help(help);
}

fn said(kind: &ErrorKind) -> (String, &'static str) {
    let (message, help) = match kind {
        ErrorKind::UnclosedQuotedScalar => (
            "a quotation mark is opened and never closed",
            "close it; within '..' a single mark is written twice",
        ),
        ErrorKind::UnclosedFlowCollection { open } => {
            return (
                format!("`{open}` is opened and never closed"),
                "close it, or indent its lines further than the key they belong to",
            );
        }
        ErrorKind::UnexpectedEofFlowSequence | ErrorKind::ExpectedFlowSequenceSeparator => (
            "`[` is opened and not closed here",
            "put `,` between its parts and `]` at its end, and text that holds a bracket or a brace in quotes: `\"allow[0]\"`",
        ),
        ErrorKind::UnexpectedEofFlowMapping | ErrorKind::ExpectedFlowMappingSeparator => (
            "`{` is opened and not closed here",
            "put `,` between its parts and `}` at its end, and text that holds a bracket or a brace in quotes: `\"/guests/{id}\"`",
        ),
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => {
            return (
                format!("`{open}` is closed by `{close}`"),
                "close each bracket by its own kind",
            );
        }
        ErrorKind::MisplacedFlowCollectionEnd => (
            "a bracket is closed that was never opened",
            "remove it, or put the text in quotes",
        ),
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => (
            "a second `: ` on this line, or a line that is indented differently from its neighbours",
            "put text that holds `: ` in quotes, indent keys of one mapping alike, and see whether the line above lacks its colon or its bracket",
        ),
        ErrorKind::SimpleKeyExpected | ErrorKind::ExpectedBlockMappingKey => (
            "a key was expected here",
            "write `name: value`, with a space after the colon, indented like its neighbours",
        ),
        ErrorKind::InvalidIndentation => (
            "the indentation fits none of the lines above",
            "indent the keys of one mapping alike",
        ),
        ErrorKind::TabInIndentation
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabNotAllowed
        | ErrorKind::TabAtBlockScalarStart => (
            "a tab stands where only spaces may indent",
            "indent with spaces",
        ),
        ErrorKind::DirectiveDisallowed => (
            "directives (`%`) are not supported",
            "remove the line, or put the text in quotes",
        ),
        ErrorKind::RecursionLimitExceeded => (
            "lists and mappings lie too deep in one another",
            "no document here needs such depth",
        ),
        other => {
            return (
                format!("this is not YAML: {other}"),
                "mend the line, or put its text in quotes",
            );
        }
    };
    (message.to_owned(), help)
}
