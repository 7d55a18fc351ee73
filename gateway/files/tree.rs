//! YAML becomes a tree of nodes that know their places.
//!
//! This stands on granit-parser, the event parser beneath serde-saphyr, and not on serde: its
//! events carry byte ranges, which makes an exact underlining; serde stops at the first fault,
//! where all are wanted; and an event keeps a scalar's text as written, so that
//! `1e3`, `0123` or a GUID of digits is never guessed to be a number.
//!
//! The YAML is that of 1.2 without what makes a policy hard to review: no anchors, aliases, merge
//! keys, tags, directives or second documents.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, ScanError};

use super::diagnostics::Diagnostics;
use super::node::{Entry, Node, Value};
use super::source::{Source, Span};
use super::{look, masks, syntax};

/// How deep lists and mappings may lie in one another: far deeper than any document here goes, far
/// less than would exhaust the stack.
const DEEPEST: usize = 64;

/// Reads a text and settles what of it may be printed. `None` where it is not YAML, or is empty;
/// the reason has then been added.
pub(super) fn parse(source: &Arc<Source>, diagnostics: &mut Diagnostics) -> Option<Node> {
    let options = granit_parser::options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        emit_comments: false,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    let mut builder = Builder {
        events: Parser::new_from_str_with_options(source.text(), options),
        source,
        diagnostics,
        hidden: Vec::new(),
    };
    let mut root = builder.document()?;
    let mut hidden = builder.hidden;
    hidden.extend(masks::by_place(&root));
    source.mask(hidden);
    root.title = Span::whole(source);
    Some(root)
}

/// A text as it may be shown: `***` stands for what may be a secret.
pub fn masked(path: &Path, text: &str) -> String {
    let source = Source::new(path, text.to_owned());
    parse(&source, &mut Diagnostics::new());
    source.masked()
}

/// What one step of the parser brought: the end of a list or mapping, or a node.
enum Step {
    End(granit_parser::Span),
    Node(Node),
}

/// The text was not YAML; the reason has been added.
struct Broken;

struct Builder<'a, I: Iterator> {
    events: I,
    source: &'a Arc<Source>,
    diagnostics: &'a mut Diagnostics,
    /// What must not be printed of that which does not become part of the tree.
    hidden: Vec<Range<usize>>,
}

type Item<'i> = Result<(Event<'i>, granit_parser::Span), ScanError>;

impl<'i, I: Iterator<Item = Item<'i>>> Builder<'_, I> {
    fn document(&mut self) -> Option<Node> {
        let root = match self.step() {
            Ok(Step::Node(root)) => root,
            Ok(Step::End(_)) => return self.empty(),
            Err(Broken) => return None,
        };
        match self.next() {
            Ok((Event::StreamEnd, _)) => {}
            Ok((_, span)) => self.second_document(span),
            Err(Broken) => return None,
        }
        match root.value {
            Value::Null => self.empty(),
            _ => Some(root),
        }
    }

    fn empty<T>(&mut self) -> Option<T> {
        let whole = Span::whole(self.source);
        self.diagnostics.error(&whole, "the file is empty");
        None
    }

    fn second_document(&mut self, at: granit_parser::Span) {
        let span = self.span(at);
        self.diagnostics
            .error(&span, "a file holds one document")
            .help("put what follows `---` into a file of its own");
        self.hidden.push(span.range().end..self.source.text().len());
    }

    /// The next event that is not mere framing.
    fn next(&mut self) -> Result<(Event<'i>, granit_parser::Span), Broken> {
        while let Some(item) = self.events.next() {
            match item {
                Ok((Event::StreamStart | Event::DocumentEnd, _)) => {}
                Ok((Event::Anchor(..), at)) => self.refuse_anchor(at),
                Ok(event) => return Ok(event),
                Err(error) => {
                    syntax::explain(self.source, &error, self.diagnostics);
                    return Err(Broken);
                }
            }
        }
        Ok((Event::StreamEnd, granit_parser::Span::default()))
    }

    fn step(&mut self) -> Result<Step, Broken> {
        let (event, at) = self.next()?;
        if let Some(tag) = at.tag_span() {
            self.refuse_tag(tag);
        }
        let span = self.span(at);
        let value = match event {
            Event::DocumentStart(..) => return self.step(),
            Event::Scalar(text, style, ..) => scalar(text.into_owned(), style),
            Event::SequenceStart(..) => return self.list(span).map(Step::Node),
            Event::MappingStart(..) => return self.mapping(span).map(Step::Node),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.refuse_anchor(at);
                Value::Refused
            }
            // The events that remain end something, or are not asked for in the options.
            _ => return Ok(Step::End(at)),
        };
        Ok(Step::Node(Node::new(span, value)))
    }

    fn list(&mut self, start: Span) -> Result<Node, Broken> {
        let mut items = Vec::new();
        let end = loop {
            match self.step()? {
                Step::Node(item) => items.push(item),
                Step::End(at) => break self.span(at),
            }
        };
        let reach = items.first().zip(items.last());
        let reach = reach.map(|(first, last)| first.span.range().start..last.span.range().end);
        let span = around(&start, reach, &end);
        Ok(Node::new(span, Value::List(items)))
    }

    fn mapping(&mut self, start: Span) -> Result<Node, Broken> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, Span> = HashMap::new();
        let end = loop {
            let key = match self.step()? {
                Step::Node(key) => key,
                Step::End(at) => break self.span(at),
            };
            match self.step()? {
                Step::Node(value) => entries.push(self.entry(key, value, &mut seen)),
                Step::End(at) => break self.span(at),
            }
        };
        let reach = entries.first().zip(entries.last()).map(|(first, last)| {
            let end = last.value.span.range().end.max(last.span.range().end);
            first.span.range().start..end
        });
        let span = around(&start, reach, &end);
        Ok(Node::new(span, Value::Mapping(entries)))
    }

    fn entry(&mut self, key: Node, mut value: Node, seen: &mut HashMap<String, Span>) -> Entry {
        let text = self.key_text(&key);
        let refused = text
            .as_ref()
            .is_none_or(|text| self.repeats(text, &key, seen));
        value.title = key.span.clone();
        if matches!(value.value, Value::Null) && value.span.range().is_empty() {
            value.span = key.span.clone();
        }
        Entry {
            key: text.unwrap_or_default(),
            refused,
            span: key.span,
            value,
        }
    }

    fn repeats(&mut self, text: &str, key: &Node, seen: &mut HashMap<String, Span>) -> bool {
        let Some(first) = seen.get(text) else {
            seen.insert(text.to_owned(), key.span.clone());
            return false;
        };
        self.diagnostics
            .error(&key.span, "this key is written twice")
            .label("and here again")
            .also(first, "first written here");
        true
    }

    fn key_text(&mut self, key: &Node) -> Option<String> {
        match &key.value {
            Value::Plain(text) if text == "<<" => {
                self.diagnostics
                    .error(&key.span, "merge keys are not supported")
                    .help("write out what is meant, so that it can be read where it holds");
                None
            }
            Value::Plain(text) | Value::Quoted(text) => Some(text.clone()),
            Value::Refused => None,
            Value::Null | Value::List(_) | Value::Mapping(_) => {
                self.diagnostics
                    .error(&key.span, "a key is a word")
                    .help("write `name: value`");
                None
            }
        }
    }

    fn refuse_anchor(&mut self, at: granit_parser::Span) {
        let span = self.span(at);
        self.hidden.extend(look::by_look(&span));
        self.diagnostics
            .error(&span, "anchors (`&`) and aliases (`*`) are not supported")
            .help("write the value out at each place, or put it in quotes if it is text");
    }

    fn refuse_tag(&mut self, at: granit_parser::Span) {
        let span = self.span(at);
        self.hidden.extend(look::by_look(&span));
        self.diagnostics
            .error(&span, "tags (`!`) are not supported")
            .help("leave the tag out, or put the value in quotes if it is text");
    }

    fn span(&self, at: granit_parser::Span) -> Span {
        // INVARIANT: a parser that reads from a string knows the byte range of every event.
        Span::new(self.source, at.byte_range().unwrap_or(0..0))
    }
}

/// The range of a list or mapping: from bracket to bracket, or else what its parts reach over. The
/// end of a block is told only after the blank lines and comments that follow it.
fn around(start: &Span, parts: Option<Range<usize>>, end: &Span) -> Span {
    let brackets = start.range().start..end.range().end;
    let in_brackets = !start.range().is_empty() && !end.range().is_empty();
    let range = match parts {
        Some(parts) if !in_brackets => parts,
        Some(_) => brackets,
        None if in_brackets => brackets,
        None => start.range(),
    };
    Span::new(start.source(), range)
}

fn scalar(text: String, style: ScalarStyle) -> Value {
    match style {
        // The core schema's spellings of null (YAML 1.2.2 section 10.3.2).
        ScalarStyle::Plain if matches!(&*text, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        ScalarStyle::Plain => Value::Plain(text),
        _ => Value::Quoted(text),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> (Option<Node>, String) {
        let mut diagnostics = Diagnostics::new();
        let source = Source::new(Path::new("a.yaml"), text.to_owned());
        let root = parse(&source, &mut diagnostics);
        (root, diagnostics.render())
    }

    fn shape(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".to_owned(),
            Value::Plain(text) => text.clone(),
            Value::Quoted(text) => format!("{text:?}"),
            Value::List(items) => format!("{:?}", items.iter().map(shape).collect::<Vec<_>>()),
            Value::Mapping(entries) => entries
                .iter()
                .map(|entry| format!("{}={} ", entry.key, shape(&entry.value)))
                .collect(),
            Value::Refused => "refused".to_owned(),
        }
    }

    #[test]
    fn a_scalar_is_its_text_and_never_guessed_at() {
        for text in [
            "11111111-1111-1111-1111-111111111111",
            "1e3",
            "0x10",
            "0123",
            "yes",
            "1.10",
        ] {
            let (root, rendered) = read(&format!("a: {text}\n"));
            assert_eq!(shape(&root.expect(text)), format!("a={text} "));
            assert_eq!(rendered, "");
        }
    }

    #[test]
    fn places_are_those_of_the_text() {
        let text = "\u{feff}# ä\nä: [ b , 'c d' ]\ne:\n  f: g h\n\n# end\n";
        let source = Source::new(Path::new("a.yaml"), text.to_owned());
        let root = parse(&source, &mut Diagnostics::new()).expect("YAML");
        let Value::Mapping(entries) = &root.value else {
            panic!("{root:?}");
        };
        let slices: Vec<_> = entries
            .iter()
            .flat_map(|entry| [&entry.span, &entry.value.span])
            .map(|span| (&text[span.range()], span.to_string()))
            .collect();
        assert_eq!(
            slices,
            [
                ("ä", "a.yaml:2:1".to_owned()),
                ("[ b , 'c d' ]", "a.yaml:2:4".to_owned()),
                ("e", "a.yaml:3:1".to_owned()),
                ("f: g h", "a.yaml:4:3".to_owned()),
            ]
        );
    }

    #[test]
    fn a_text_that_is_not_yaml_is_explained() {
        for (text, said) in [
            ("", "error: the file is empty"),
            ("# nothing\n", "error: the file is empty"),
            ("~\n", "error: the file is empty"),
            (
                "a: 'b\n",
                "error: a quotation mark is opened and never closed",
            ),
            ("a: [b\n", "error: `[` is opened and never closed"),
            (
                "a: b: c\n",
                "error: a second `: ` on this line, or a line that is indented differently from its neighbours",
            ),
            (
                "a:\n\tb: c\n",
                "error: a tab stands where only spaces may indent",
            ),
            (
                "%YAML 1.2\n---\na: b\n",
                "error: directives (`%`) are not supported",
            ),
            (
                "a: b\n c: d\n",
                "error: a second `: ` on this line, or a line that is indented differently from its neighbours",
            ),
        ] {
            let (root, rendered) = read(text);
            assert!(root.is_none(), "{text:?}");
            assert_eq!(rendered.lines().next(), Some(said), "{text:?}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let (root, rendered) = read(&"[".repeat(100));
        assert!(root.is_none());
        assert!(rendered.contains("too deep"), "{rendered}");
        let (root, rendered) = read(&"- ".repeat(100));
        assert!(root.is_none());
        assert!(rendered.contains("too deep"), "{rendered}");
    }
}
