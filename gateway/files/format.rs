//! The canonical form of a file: two spaces of indentation, keys in the order of the documentation,
//! double quotes; every comment stays with what it belongs to. What comes out is read again and must
//! say what went in, or nothing comes out.

mod comments;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use self::comments::{Anchor, Comments};
use super::comments::Scalars;
use super::diagnostics::Diagnostics;
use super::node::{Entry, Node, Value};
use super::source::{Source, Span};
use super::tree;

/// Lists and mappings in brackets that would make a line longer are written on several.
const WIDEST: usize = 100;

/// The keys of each place in the order in which they are written; others follow in the author's order.
const POLICY: [&str; 9] = [
    "tenants",
    "apps",
    "principals",
    "groups",
    "networks",
    "audiences",
    "defaults",
    "backends",
    "routes",
];
const ROUTE: [&str; 22] = [
    "match",
    "backend",
    "owner",
    "reason",
    "mode",
    "public",
    "audiences",
    "allow",
    "deny",
    "rateLimit",
    "quota",
    "concurrency",
    "rewrite",
    "keepParameters",
    "sas",
    "rejectFrom",
    "sealBody",
    "maxBody",
    "upgrades",
    "claimHeaders",
    "forwardCallerToken",
    "timeouts",
];
const MATCH: [&str; 3] = ["host", "methods", "path"];
const RULE: [&str; 15] = [
    "tenants",
    "apps",
    "principals",
    "tokenKinds",
    "authStrength",
    "roles",
    "scopes",
    "groups",
    "from",
    "when",
    "mode",
    "notBefore",
    "expires",
    "owner",
    "reason",
];
const RATE_LIMIT: [&str; 7] = ["name", "requests", "per", "burst", "by", "cost", "mode"];
const QUOTA: [&str; 7] = ["name", "requests", "bytes", "per", "by", "cost", "mode"];
const CONCURRENCY: [&str; 5] = ["requests", "by", "wait", "queue", "adaptive"];
const TEST: [&str; 5] = ["name", "request", "token", "at", "expect"];

/// The canonical form of a policy file, of its tests or of a gateway.yaml; `path` is what the file is
/// called. `None` where it cannot be read, or not be formatted without changing what it says; the
/// reason has then been added.
pub fn format(path: &Path, text: &str, diagnostics: &mut Diagnostics) -> Option<String> {
    let root = read(path, text.to_owned(), diagnostics)?;
    let formatted = match plain(text) {
        Cow::Borrowed(_) => write(&root),
        Cow::Owned(plain) => write(&read(path, plain, diagnostics)?),
    };
    if says_the_same(path, &root, &formatted) {
        return Some(formatted);
    }
    diagnostics
        .error(
            &Span::whole(root.span.source()),
            "this file cannot be formatted without changing what it says",
        )
        .help(
            "write what is unusual in it (a key or text over several lines, say) in a plainer way",
        );
    None
}

/// A file without a fault.
fn read(path: &Path, text: String, diagnostics: &mut Diagnostics) -> Option<Node> {
    let before = diagnostics.errors();
    let source = Source::new(path, text);
    let root = tree::parse(&source, diagnostics)?;
    (diagnostics.errors() == before).then_some(root)
}

/// A text whose lines end in `\n` and before which no byte order mark stands.
fn plain(text: &str) -> Cow<'_, str> {
    let marked = text.strip_prefix('\u{feff}');
    match marked.is_some() || text.contains('\r') {
        true => {
            let text = marked.unwrap_or(text);
            Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"))
        }
        false => Cow::Borrowed(text),
    }
}

fn write(root: &Node) -> String {
    let text = root.span.source().text();
    let mut writer = Writer {
        text,
        comments: &Comments::read(root),
        out: String::with_capacity(text.len()),
    };
    writer.document(root);
    writer.out
}

/// Whether a formatted text holds the same values and the same comments.
fn says_the_same(path: &Path, root: &Node, formatted: &str) -> bool {
    let again = read(path, formatted.to_owned(), &mut Diagnostics::new());
    again.is_some_and(|again| meaning(root) == meaning(&again) && remarks(root) == remarks(&again))
}

/// The comments without their places.
fn remarks(root: &Node) -> Vec<&str> {
    let text = root.span.source().text();
    let comments = Scalars::of(root).comments().into_iter();
    let remark = |range: Range<usize>| text.get(range).unwrap_or_default().trim_end();
    let mut remarks: Vec<&str> = comments.map(remark).collect();
    remarks.sort_unstable();
    remarks
}

/// A value without its places and the order of keys.
#[derive(Debug, PartialEq)]
enum Meaning<'n> {
    Null,
    Plain(&'n str),
    Quoted(&'n str),
    List(Vec<Meaning<'n>>),
    Mapping(BTreeMap<&'n str, Meaning<'n>>),
}

fn meaning(node: &Node) -> Meaning<'_> {
    match &node.value {
        Value::Null | Value::Refused => Meaning::Null,
        Value::Plain(text) => Meaning::Plain(text),
        Value::Quoted(text) => Meaning::Quoted(text),
        Value::List(items) => Meaning::List(items.iter().map(meaning).collect()),
        Value::Mapping(entries) => Meaning::Mapping(
            entries
                .iter()
                .map(|entry| (entry.key.as_str(), meaning(&entry.value)))
                .collect(),
        ),
    }
}

/// What a mapping is, which says in what order its keys are written.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Policy,
    Routes,
    Route,
    Match,
    Rules,
    RateLimit,
    Quota,
    Concurrency,
    Tests,
    Other,
}

impl Kind {
    /// What stands below a key of it.
    fn below(self, key: &str) -> Self {
        match (self, key) {
            (Self::Policy, "routes") => Self::Routes,
            (Self::Routes, _) => Self::Route,
            (Self::Route, "match") => Self::Match,
            (Self::Route, "allow" | "deny") => Self::Rules,
            (Self::Route, "rateLimit") => Self::RateLimit,
            (Self::Route, "quota") => Self::Quota,
            (Self::Route, "concurrency") => Self::Concurrency,
            _ => Self::Other,
        }
    }

    fn order(self) -> &'static [&'static str] {
        match self {
            Self::Policy => &POLICY,
            Self::Route => &ROUTE,
            Self::Match => &MATCH,
            Self::Rules => &RULE,
            Self::RateLimit => &RATE_LIMIT,
            Self::Quota => &QUOTA,
            Self::Concurrency => &CONCURRENCY,
            Self::Tests => &TEST,
            Self::Routes | Self::Other => &[],
        }
    }
}

struct Writer<'t> {
    text: &'t str,
    comments: &'t Comments,
    out: String,
}

impl Writer<'_> {
    fn document(&mut self, root: &Node) {
        let kind = match &root.value {
            // gateway.yaml is in the order of its author.
            Value::Mapping(entries) if entries.iter().any(|e| e.key == "listen") => Kind::Other,
            Value::Mapping(_) => Kind::Policy,
            _ => Kind::Tests,
        };
        for comment in &self.comments.first {
            self.line(0, comment);
        }
        match &root.value {
            Value::Mapping(entries) => self.mapping(entries, 0, kind, true),
            Value::List(items) => self.list(items, 0, kind),
            Value::Null | Value::Plain(_) | Value::Quoted(_) | Value::Refused => {
                let scalar = self.scalar(root, 0);
                self.out.push_str(&scalar);
                self.out.push('\n');
            }
        }
        for comment in &self.comments.last {
            self.line(0, comment);
        }
    }

    fn line(&mut self, indent: usize, text: &str) {
        if !text.is_empty() {
            self.out.push_str(&" ".repeat(indent));
            self.out.push_str(text);
        }
        self.out.push('\n');
    }

    /// Blank line and comments before something.
    fn open(&mut self, anchor: Anchor, indent: usize, is_first: bool) {
        if self.comments.spaced.contains(&anchor) && !is_first {
            self.out.push('\n');
        }
        for comment in self.comments.before.get(&anchor).into_iter().flatten() {
            self.line(indent, comment);
        }
    }

    fn close(&mut self, anchor: Anchor, indent: usize) {
        for comment in self.comments.after.get(&anchor).into_iter().flatten() {
            self.line(indent, comment);
        }
    }

    /// The comments at the end of a line, and its end.
    fn end_line(&mut self, anchor: Anchor) {
        for comment in self.comments.beside.get(&anchor).into_iter().flatten() {
            self.out.push_str("  ");
            self.out.push_str(comment);
        }
        self.out.push('\n');
    }

    /// A mapping, an entry a line. `is_first` says that nothing precedes it in the file or list item.
    fn mapping(&mut self, entries: &[Entry], indent: usize, kind: Kind, on_new_line: bool) {
        for (at, entry) in sorted(entries, kind).into_iter().enumerate() {
            let anchor = entry_anchor(entry, indent);
            if at > 0 || on_new_line {
                self.open(anchor, indent, at == 0);
                self.out.push_str(&" ".repeat(indent));
            }
            self.out.push_str(&key(&entry.key));
            self.out.push(':');
            self.value(
                &entry.value,
                anchor,
                indent,
                kind.below(&entry.key),
                indent + entry.key.len() + 2,
            );
            self.close(anchor, indent);
        }
    }

    fn list(&mut self, items: &[Node], indent: usize, kind: Kind) {
        for (at, item) in items.iter().enumerate() {
            let anchor = Anchor {
                start: item.span.range().start,
                indent,
            };
            self.open(anchor, indent, at == 0);
            // An entry that has become the first of its item has no line of its own to stand above.
            if let Value::Mapping(entries) = &item.value
                && let Some(first) = sorted(entries, kind).first()
            {
                for comment in self
                    .comments
                    .before
                    .get(&entry_anchor(first, indent + 2))
                    .into_iter()
                    .flatten()
                {
                    self.line(indent, comment);
                }
            }
            self.out.push_str(&" ".repeat(indent));
            self.out.push('-');
            match &item.value {
                Value::Mapping(entries)
                    if !entries.is_empty() && self.is_block(item, indent + 2) =>
                {
                    self.out.push(' ');
                    self.mapping(entries, indent + 2, kind, false);
                }
                _ => self.value(item, anchor, indent, kind, indent + 2),
            }
            self.close(anchor, indent);
        }
    }

    /// A value behind its key or dash, with the end of the line. `column` is where it would begin.
    fn value(&mut self, node: &Node, anchor: Anchor, indent: usize, kind: Kind, column: usize) {
        if !self.is_block(node, column) {
            let text = self.inline(node, kind, indent);
            // A block of text has its comment beside its mark, not in it.
            let (line, block) = text.split_once('\n').unwrap_or((&text, ""));
            if !line.is_empty() {
                self.out.push(' ');
                self.out.push_str(line);
            }
            self.end_line(anchor);
            if !block.is_empty() {
                self.out.push_str(block);
                self.out.push('\n');
            }
            return;
        }
        self.end_line(anchor);
        match &node.value {
            Value::Mapping(entries) => self.mapping(entries, indent + 2, kind, true),
            Value::List(items) => self.list(items, indent + 2, kind),
            Value::Null | Value::Plain(_) | Value::Quoted(_) | Value::Refused => {}
        }
    }

    /// Whether a collection is written on several lines: as its author did, or because it must be.
    fn is_block(&self, node: &Node, column: usize) -> bool {
        let is_empty = match &node.value {
            Value::Mapping(entries) => entries.is_empty(),
            Value::List(items) => items.is_empty(),
            Value::Null | Value::Plain(_) | Value::Quoted(_) | Value::Refused => return false,
        };
        let in_brackets = comments::is_in_brackets(node);
        !is_empty
            && (!in_brackets
                || self.comments.any_in(&node.span.range())
                || column + self.inline(node, Kind::Other, 0).chars().count() > WIDEST)
    }

    /// A value on one line.
    fn inline(&self, node: &Node, kind: Kind, indent: usize) -> String {
        match &node.value {
            Value::Mapping(entries) if entries.is_empty() => "{}".to_owned(),
            Value::Mapping(entries) => {
                let parts = sorted(entries, kind).into_iter().map(|entry| {
                    let value = self.inline(&entry.value, kind.below(&entry.key), indent);
                    match value.is_empty() {
                        true => format!("{}:", key(&entry.key)),
                        false => format!("{}: {value}", key(&entry.key)),
                    }
                });
                format!("{{ {} }}", parts.collect::<Vec<_>>().join(", "))
            }
            Value::List(items) => {
                let parts = items.iter().map(|item| self.inline(item, kind, indent));
                format!("[{}]", parts.collect::<Vec<_>>().join(", "))
            }
            Value::Null | Value::Plain(_) | Value::Quoted(_) | Value::Refused => {
                self.scalar(node, indent)
            }
        }
    }

    fn scalar(&self, node: &Node, indent: usize) -> String {
        let range = node.span.range();
        let start = range.start;
        let written = self.text.get(range).unwrap_or_default();
        match &node.value {
            // A key without a value is its own place.
            Value::Null if matches!(written, "~" | "null" | "Null" | "NULL") => "null".to_owned(),
            Value::Plain(text) => text.clone(),
            Value::Quoted(text) if self.comments.blocks.contains(&start) => {
                block_text(text, indent)
            }
            Value::Quoted(text) => quoted(text),
            Value::Null | Value::List(_) | Value::Mapping(_) | Value::Refused => String::new(),
        }
    }
}

fn entry_anchor(entry: &Entry, indent: usize) -> Anchor {
    let start = entry.span.range().start;
    Anchor { start, indent }
}

/// The entries in their order.
fn sorted(entries: &[Entry], kind: Kind) -> Vec<&Entry> {
    let order = kind.order();
    let rank = |entry: &&Entry| {
        let known = order.iter().position(|key| *key == entry.key);
        known.unwrap_or(order.len())
    };
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by_key(rank);
    sorted
}

fn key(text: &str) -> String {
    let plain =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-' | '/');
    let is_plain = text.chars().all(plain) && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    match is_plain && !matches!(text, "null" | "Null" | "NULL") {
        true => text.to_owned(),
        false => quoted(text),
    }
}

/// Text in double quotes (YAML 1.2.2 section 7.3.1).
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            letter
                if letter.is_control()
                    || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{feff}') =>
            {
                out.push_str(&format!("\\U{:08X}", u32::from(letter)));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// Text over several lines as a block; in quotes where a block could not hold it.
fn block_text(text: &str, indent: usize) -> String {
    let body = text.trim_end_matches('\n');
    let ends = text.len() - body.len();
    let odd = |line: &str| line.starts_with([' ', '\t']) || line.ends_with([' ', '\t', '\r']);
    if body.is_empty() || ends > 1 || body.split('\n').any(odd) {
        return quoted(text);
    }
    let margin = " ".repeat(indent + 2);
    let lines = body.split('\n').map(|line| match line.is_empty() {
        true => String::new(),
        false => format!("{margin}{line}"),
    });
    let mark = if ends == 1 { "|" } else { "|-" };
    format!("{mark}\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests;
