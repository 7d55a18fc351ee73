//! A file as a tree of nodes that know their places.

use super::source::Span;

/// A value as it was written.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it stands.
    pub(super) span: Span,
    /// Where to say that something in it is missing: its key, or else the node itself.
    pub(super) title: Span,
    pub(super) value: Value,
}

impl Node {
    /// A node that is its own title.
    pub(super) fn new(span: Span, value: Value) -> Self {
        Self {
            title: span.clone(),
            span,
            value,
        }
    }
}

/// What kinds of value there are. What a scalar means, its place decides.
#[derive(Debug)]
pub(super) enum Value {
    /// Nothing at all, `~` or `null`.
    Null,
    /// A scalar without quotes.
    Plain(String),
    /// A scalar in quotes, or a block of text.
    Quoted(String),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
    /// What has been complained of already.
    Refused,
}

/// A key and its value.
#[derive(Debug)]
pub(super) struct Entry {
    /// Empty where it was no word.
    pub(super) key: String,
    /// It has been complained of already. It stays for the sake of what must not be printed.
    pub(super) refused: bool,
    pub(super) span: Span,
    pub(super) value: Node,
}
