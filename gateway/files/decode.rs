//! Taking a tree of nodes apart, key by key, without stopping at the first fault: a decoder adds
//! what is wrong, answers `None`, and its caller goes on to the next key.

use std::collections::HashMap;
use std::hash::Hash;

use super::diagnostics::{Diagnostic, Diagnostics};
use super::nearest::nearest;
use super::node::{Entry, Node, Value};
use super::source::{Span, Spanned};

/// A mapping, while its keys are asked for one by one. [`Table::finish`] complains of the keys that
/// nobody asked for.
pub(super) struct Table<'n> {
    title: Span,
    entries: &'n [Entry],
    known: Vec<&'static str>,
}

impl<'n> Table<'n> {
    /// The mapping that this node is. `what` completes "expected ..".
    pub(super) fn of(
        node: &'n Node,
        what: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<Table<'n>> {
        match &node.value {
            Value::Mapping(entries) => Some(Self::new(node.title.clone(), entries)),
            _ => {
                expected(node, what, diagnostics);
                None
            }
        }
    }

    fn new(title: Span, entries: &'n [Entry]) -> Self {
        Self {
            title,
            entries,
            known: Vec::new(),
        }
    }

    /// Where to say what is missing in the mapping.
    pub(super) fn title(&self) -> &Span {
        &self.title
    }

    /// The entry of a key. The key counts as known from now on.
    pub(super) fn entry(&mut self, key: &'static str) -> Option<&'n Entry> {
        self.known.push(key);
        let mut entries = self.entries.iter();
        entries.find(|entry| !entry.refused && entry.key == key)
    }

    /// The entry of a key that has to be there.
    pub(super) fn required_entry(
        &mut self,
        key: &'static str,
        help: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<&'n Entry> {
        let entry = self.entry(key);
        if entry.is_none() {
            diagnostics
                .error(&self.title, format!("the key `{key}` is missing here"))
                .help(help);
        }
        entry
    }

    /// The value of a key: `None` where it is absent or at fault.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        diagnostics: &mut Diagnostics,
        decode: impl FnOnce(&'n Node, &mut Diagnostics) -> Option<T>,
    ) -> Option<T> {
        let entry = self.entry(key)?;
        decode(&entry.value, diagnostics)
    }

    /// The value of a key that has to be there: `None` where it is absent or at fault.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        help: &str,
        diagnostics: &mut Diagnostics,
        decode: impl FnOnce(&'n Node, &mut Diagnostics) -> Option<T>,
    ) -> Option<T> {
        let entry = self.required_entry(key, help, diagnostics)?;
        decode(&entry.value, diagnostics)
    }

    /// The mapping below a key. Where it is absent or at fault, one without entries, so that every
    /// default stands in one place: where its key is asked for.
    pub(super) fn section(
        &mut self,
        key: &'static str,
        diagnostics: &mut Diagnostics,
    ) -> Table<'n> {
        self.optional(key, diagnostics, |node, diagnostics| {
            Table::of(node, "a mapping", diagnostics)
        })
        .unwrap_or_else(|| Table::new(self.title.clone(), &[]))
    }

    /// Complains of every key that was not asked for.
    pub(super) fn finish(self, diagnostics: &mut Diagnostics) {
        let unknown = self.entries.iter().filter(|entry| {
            let key = &&*entry.key;
            !entry.refused && !self.known.contains(key)
        });
        for entry in unknown {
            self.unknown(entry, diagnostics);
        }
    }

    fn unknown(&self, entry: &Entry, diagnostics: &mut Diagnostics) {
        let meant = nearest(&entry.key, self.known.iter().copied());
        // What is not shown in the line is not repeated in the message.
        let hidden = entry
            .span
            .source()
            .mask_at(entry.span.range().start)
            .is_some();
        let message = match hidden {
            true => "unknown key".to_owned(),
            false => format!("unknown key `{}`", entry.key),
        };
        let diagnostic = diagnostics.error(&entry.span, message);
        match meant {
            Some(_) => diagnostic.did_you_mean(meant),
            None => diagnostic.help(format!("the keys here are {}", words(&self.known))),
        };
    }
}

/// Says what was expected, and what was found, in general terms: the value itself may be a secret
/// that stands in the wrong place.
pub(super) fn expected<'d>(
    node: &Node,
    what: &str,
    diagnostics: &'d mut Diagnostics,
) -> Option<&'d mut Diagnostic> {
    let found = match &node.value {
        Value::Null => "nothing",
        Value::Plain(_) | Value::Quoted(_) => "a single value",
        Value::List(_) => "a list",
        Value::Mapping(_) => "a mapping",
        Value::Refused => return None,
    };
    let message = match &node.value {
        Value::Null => format!("a value is missing: expected {what}"),
        _ => format!("expected {what}, found {found}"),
    };
    Some(diagnostics.error(&node.span, message))
}

/// The text of a scalar, however it is quoted. Never empty.
pub(super) fn scalar<'n>(
    node: &'n Node,
    what: &str,
    diagnostics: &mut Diagnostics,
) -> Option<&'n str> {
    match &node.value {
        Value::Plain(text) | Value::Quoted(text) if !text.trim().is_empty() => Some(text),
        Value::Plain(_) | Value::Quoted(_) => {
            diagnostics.error(&node.span, format!("this is empty: expected {what}"));
            None
        }
        Value::Null | Value::List(_) | Value::Mapping(_) | Value::Refused => {
            expected(node, what, diagnostics);
            None
        }
    }
}

/// A list with at least one element; `why` says what an empty one would mean.
pub(super) fn list<'n, T>(
    node: &'n Node,
    why: &str,
    diagnostics: &mut Diagnostics,
    mut decode: impl FnMut(&'n Node, &mut Diagnostics) -> Option<T>,
) -> Option<Vec<T>> {
    match &node.value {
        Value::List(items) if items.is_empty() => {
            diagnostics
                .error(&node.span, "this list is empty")
                .help(why);
            None
        }
        Value::List(items) => Some(
            items
                .iter()
                .filter_map(|item| decode(item, diagnostics))
                .collect(),
        ),
        Value::Null | Value::Plain(_) | Value::Quoted(_) | Value::Mapping(_) | Value::Refused => {
            if let Some(diagnostic) = expected(node, "a list", diagnostics) {
                diagnostic.help("write `[one, another]`, or each on a line of its own after `- `");
            }
            None
        }
    }
}

/// Warns of elements that a list holds twice.
pub(super) fn warn_of_repeats<T: Eq + Hash>(list: &[Spanned<T>], diagnostics: &mut Diagnostics) {
    let mut seen: HashMap<&T, &Span> = HashMap::new();
    for Spanned { value, span } in list {
        match seen.get(value) {
            Some(first) => {
                diagnostics
                    .warning(span, "this stands in the list twice")
                    .also(first, "first written here");
            }
            None => {
                seen.insert(value, span);
            }
        }
    }
}

/// A decoder that also keeps the place.
pub(super) fn spanned<T>(
    mut decode: impl FnMut(&Node, &mut Diagnostics) -> Option<T>,
) -> impl FnMut(&Node, &mut Diagnostics) -> Option<Spanned<T>> {
    move |node, diagnostics| {
        let value = decode(node, diagnostics)?;
        Some(Spanned::new(value, node.span.clone()))
    }
}

/// The words in backquotes, with commas between.
pub(super) fn words(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}
