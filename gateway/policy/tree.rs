//! Path patterns as a tree of segments. Which pattern takes a path depends on nothing but which patterns fit
//! it: from left to right, what is written out goes before a parameter, a parameter between longer texts
//! before one between shorter ones, and what takes one segment before what takes all that follow.

use foldhash::HashMap;

use super::pattern::{self, Part};

/// The most parameters of one pattern.
const MOST_PARAMETERS: usize = 8;

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Segment {
    /// As it stands.
    Literal(Box<str>),
    /// `f-{x}.pdf`: some of a segment, at least a character, between two texts.
    Parameter(Box<str>, Box<str>),
    /// `f-{*x}`: all that follows, at least a character, after a text.
    Rest(Box<str>),
}

/// Reads a pattern.
///
/// # Errors
/// Why it is none.
pub(super) fn segments(pattern: &str) -> Result<Vec<Segment>, String> {
    let path = pattern.strip_prefix('/').ok_or("it begins with `/`")?;
    let texts: Vec<&str> = path.split('/').collect();
    let last = texts.len().saturating_sub(1);
    let mut segments = Vec::with_capacity(texts.len());
    for (at, text) in texts.into_iter().enumerate() {
        let segment = segment(text)?;
        if matches!(segment, Segment::Rest(_)) && at < last {
            return Err("`{*name}` stands at the end, for it takes all that follows".to_owned());
        }
        segments.push(segment);
    }
    match pattern::parameters(pattern).len() {
        0..=MOST_PARAMETERS => Ok(segments),
        many => Err(format!(
            "it has {many} parameters, and {MOST_PARAMETERS} are the most"
        )),
    }
}

fn segment(text: &str) -> Result<Segment, String> {
    let (mut before, mut after, mut parameter) = ("", "", None);
    for part in pattern::parts(text) {
        match (part, parameter) {
            (Part::Text(text), _) if text.contains(['{', '}']) => {
                return Err("a `{` without its `}`, or the other way round".to_owned());
            }
            (Part::Text(text), None) => before = text,
            (Part::Text(text), Some(_)) => after = text,
            (Part::Parameter(name) | Part::Rest(name), _) if !is_name(name) => {
                return Err(format!(
                    "`{name}` is no name of a parameter: letters, digits, `_` and `-`, and nothing that \
                     narrows what it takes"
                ));
            }
            (Part::Parameter(_) | Part::Rest(_), Some(_)) => {
                return Err("a segment has one parameter".to_owned());
            }
            (part, None) => parameter = Some(part),
        }
    }
    match parameter {
        None | Some(Part::Text(_)) => Ok(Segment::Literal(text.into())),
        Some(Part::Parameter(_)) => Ok(Segment::Parameter(before.into(), after.into())),
        Some(Part::Rest(_)) if after.is_empty() => Ok(Segment::Rest(before.into())),
        Some(Part::Rest(_)) => Err("nothing stands behind `{*name}`".to_owned()),
    }
}

/// Others write types, patterns and repetitions there, which would count for nothing here.
fn is_name(text: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !text.is_empty() && text.bytes().all(valid)
}

/// Patterns, each with the number of an entry.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    /// The first is the root.
    nodes: Vec<Node>,
}

/// The place of a node in its tree.
pub(super) type NodeId = usize;

/// What may follow the segments that lead here.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    literal: HashMap<Box<str>, NodeId>,
    /// In the order in which they are tried.
    choices: Vec<Choice>,
    /// The entry of the pattern that ends here.
    end: Option<usize>,
}

/// What takes segments that are not written out.
#[derive(Clone, Debug)]
struct Choice {
    before: Box<str>,
    after: Box<str>,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    /// The segment, and what follows.
    Segment(NodeId),
    /// All that follows, for an entry.
    Rest(usize),
}

/// Why a pattern cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoOrder(
    /// An entry with a parameter in the same place, such that some paths fit both and nothing says whose
    /// they are.
    pub(super) usize,
);

/// What parameters stand for in a path, in their order.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Values<'p> {
    values: [&'p str; MOST_PARAMETERS],
    count: usize,
}

impl<'p> Values<'p> {
    /// The value of the parameter in this place.
    pub(super) fn get(&self, position: usize) -> Option<&'p str> {
        let known = self.values.get(..self.count)?;
        known.get(position).copied()
    }

    fn push(&mut self, value: &'p str) {
        // INVARIANT: no pattern has more parameters than there is room for.
        if let Some(place) = self.values.get_mut(self.count) {
            *place = value;
            self.count += 1;
        }
    }

    fn pop(&mut self) {
        self.count = self.count.saturating_sub(1);
    }
}

impl Choice {
    /// What the parameter takes of a text, if it takes some.
    fn value<'t>(&self, text: &'t str) -> Option<&'t str> {
        // Most parameters stand alone, and to compare nothing costs more than to see that it is nothing.
        let value = match &*self.before {
            "" => text,
            before => text.strip_prefix(before)?,
        };
        let value = match &*self.after {
            "" => value,
            after => value.strip_suffix(after)?,
        };
        (!value.is_empty()).then_some(value)
    }

    /// Whether it takes a segment, and what it leads to then.
    fn takes(&self, segment: &str) -> Option<Then> {
        self.value(segment).map(|_| self.then)
    }

    /// Whether some segment fits both.
    fn meets(&self, other: &Self) -> bool {
        let prefixes =
            self.before.starts_with(&*other.before) || other.before.starts_with(&*self.before);
        let suffixes = self.after.ends_with(&*other.after) || other.after.ends_with(&*self.after);
        prefixes && suffixes
    }

    /// Whether whatever segment fits this fits the other.
    fn is_within(&self, other: &Self) -> bool {
        self.before.starts_with(&*other.before) && self.after.ends_with(&*other.after)
    }

    /// The order in which choices are tried: whatever is within another goes before it.
    fn order(&self) -> (std::cmp::Reverse<usize>, bool, &str, &str) {
        (
            std::cmp::Reverse(self.before.len() + self.after.len()),
            matches!(self.then, Then::Rest(_)),
            &self.before,
            &self.after,
        )
    }

    fn is_like(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
        }
    }
}

impl Tree {
    /// Where every path begins.
    pub(super) const ROOT: NodeId = 0;

    fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// The entry of exactly this pattern, if it has been added.
    pub(super) fn entry(&self, pattern: &[Segment]) -> Option<usize> {
        let mut node = self.node(Self::ROOT)?;
        for segment in pattern {
            let choice = |before: &str, after: &str, rest: bool| {
                node.choices.iter().find(|choice| {
                    *choice.before == *before
                        && *choice.after == *after
                        && matches!(choice.then, Then::Rest(_)) == rest
                })
            };
            let then = match segment {
                Segment::Literal(text) => Then::Segment(*node.literal.get(text)?),
                Segment::Parameter(before, after) => choice(before, after, false)?.then,
                Segment::Rest(before) => choice(before, "", true)?.then,
            };
            match then {
                Then::Rest(entry) => return Some(entry),
                Then::Segment(next) => node = self.node(next)?,
            }
        }
        node.end
    }

    /// Adds a pattern, which [`Tree::entry`] does not know yet.
    ///
    /// # Errors
    /// When nothing would tell it from another.
    pub(super) fn insert(&mut self, pattern: &[Segment], entry: usize) -> Result<(), NoOrder> {
        let mut at = Self::ROOT;
        for segment in pattern {
            let fresh = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else {
                return Ok(());
            };
            let (before, after, then) = match segment {
                Segment::Literal(text) => {
                    at = *node.literal.entry(text.clone()).or_insert(fresh);
                    if at == fresh {
                        self.nodes.push(Node::default());
                    }
                    continue;
                }
                Segment::Parameter(before, after) => (before, after.clone(), Then::Segment(fresh)),
                Segment::Rest(before) => (before, Box::default(), Then::Rest(entry)),
            };
            let choice = Choice {
                before: before.clone(),
                after,
                then,
            };
            let like = node.choices.iter().find(|other| other.is_like(&choice));
            if let Some(like) = like {
                match like.then {
                    Then::Segment(next) => at = next,
                    Then::Rest(_) => return Ok(()),
                }
                continue;
            }
            let unordered = node.choices.iter().find(|other| {
                choice.meets(other) && !choice.is_within(other) && !other.is_within(&choice)
            });
            if let Some(other) = unordered {
                let then = other.then;
                return Err(NoOrder(self.some_entry(then).unwrap_or(entry)));
            }
            let place = node
                .choices
                .partition_point(|other| other.order() < choice.order());
            node.choices.insert(place, choice);
            match then {
                Then::Rest(_) => return Ok(()),
                Then::Segment(_) => {
                    self.nodes.push(Node::default());
                    at = fresh;
                }
            }
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.end = Some(entry);
        }
        Ok(())
    }

    /// The first of the entries behind a choice.
    fn some_entry(&self, then: Then) -> Option<usize> {
        match then {
            Then::Rest(entry) => Some(entry),
            Then::Segment(node) => {
                let node = self.node(node)?;
                let choices = node.choices.iter().map(|choice| choice.then);
                let literal = node.literal.values().map(|node| Then::Segment(*node));
                let below = choices
                    .chain(literal)
                    .filter_map(|then| self.some_entry(then));
                below.chain(node.end).min()
            }
        }
    }

    /// The entry of the pattern that takes a path, and what its parameters stand for.
    pub(super) fn find<'p>(&self, path: &'p str) -> Option<(usize, Values<'p>)> {
        let mut values = Values::default();
        let path = path.strip_prefix('/')?;
        let entry = self.walk(self.node(Self::ROOT)?, path, &mut values)?;
        Some((entry, values))
    }

    /// Goes no deeper than patterns do.
    fn walk<'p>(&self, node: &Node, path: &'p str, values: &mut Values<'p>) -> Option<usize> {
        let (segment, more) = match path.split_once('/') {
            Some((segment, more)) => (segment, Some(more)),
            None => (path, None),
        };
        let follow = |next: NodeId, values: &mut Values<'p>| {
            let next = self.node(next)?;
            match more {
                Some(more) => self.walk(next, more, values),
                None => next.end,
            }
        };
        if let Some(next) = node.literal.get(segment)
            && let Some(found) = follow(*next, values)
        {
            return Some(found);
        }
        for choice in &node.choices {
            match choice.then {
                Then::Segment(next) => {
                    let Some(value) = choice.value(segment) else {
                        continue;
                    };
                    values.push(value);
                    if let Some(found) = follow(next, values) {
                        return Some(found);
                    }
                    values.pop();
                }
                Then::Rest(entry) => {
                    if let Some(value) = choice.value(path) {
                        values.push(value);
                        return Some(entry);
                    }
                }
            }
        }
        None
    }
}

/// For those who ask which kinds of paths patterns tell apart.
impl Tree {
    /// The nodes and entries that a segment leads to from a node: those of every pattern that goes on so.
    pub(super) fn step(
        &self,
        from: NodeId,
        segment: &str,
        nodes: &mut Vec<NodeId>,
        open: &mut Vec<usize>,
    ) {
        let Some(node) = self.node(from) else {
            return;
        };
        nodes.extend(node.literal.get(segment));
        for then in node
            .choices
            .iter()
            .filter_map(|choice| choice.takes(segment))
        {
            match then {
                Then::Segment(next) => nodes.push(next),
                Then::Rest(entry) => open.push(entry),
            }
        }
    }

    /// Whether a pattern goes on from here.
    pub(super) fn goes_on(&self, node: NodeId) -> bool {
        self.node(node)
            .is_some_and(|node| !node.literal.is_empty() || !node.choices.is_empty())
    }

    /// The segments that are written out behind a node.
    pub(super) fn literals(&self, node: NodeId) -> impl Iterator<Item = &str> {
        let node = self.node(node).into_iter();
        node.flat_map(|node| node.literal.keys().map(|text| &**text))
    }

    /// The texts around parameters behind a node.
    pub(super) fn around(&self, node: NodeId) -> impl Iterator<Item = (&str, &str)> {
        let node = self.node(node).into_iter();
        node.flat_map(|node| {
            let choices = node.choices.iter();
            choices.map(|choice| (&*choice.before, &*choice.after))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(patterns: &[&str]) -> Result<Tree, (usize, NoOrder)> {
        let mut tree = Tree::default();
        for (entry, pattern) in patterns.iter().enumerate() {
            let segments = segments(pattern).expect(pattern);
            tree.insert(&segments, entry)
                .map_err(|clash| (entry, clash))?;
        }
        Ok(tree)
    }

    /// Every order of a few things.
    fn orders<'p>(patterns: &[&'p str]) -> Vec<Vec<&'p str>> {
        match patterns.split_first() {
            None => vec![Vec::new()],
            Some((first, more)) => orders(more)
                .into_iter()
                .flat_map(|order| {
                    (0..=order.len()).map(move |at| {
                        let mut order = order.clone();
                        order.insert(at, first);
                        order
                    })
                })
                .collect(),
        }
    }

    #[test]
    fn the_more_specific_pattern_takes_a_path_whatever_the_order() {
        for (patterns, expected) in [
            (
                &["/a", "/{x}", "/{*x}"][..],
                &[("/a", "/a"), ("/b", "/{x}"), ("/a/b", "/{*x}"), ("/", "")][..],
            ),
            (
                &["/a/{y}", "/{x}/b"],
                &[("/a/b", "/a/{y}"), ("/c/b", "/{x}/b"), ("/c/d", "")],
            ),
            (
                &["/{n}.pdf/meta", "/{id}/{part}"],
                &[
                    ("/a.pdf/meta", "/{n}.pdf/meta"),
                    ("/a.pdf/text", "/{id}/{part}"),
                    ("/.pdf/meta", "/{id}/{part}"),
                ],
            ),
            (
                &["/f-{x}", "/f-a-{x}", "/f-{*x}", "/{x}", "/f-a"],
                &[
                    ("/f-1", "/f-{x}"),
                    ("/f-a-1", "/f-a-{x}"),
                    ("/f-1/2", "/f-{*x}"),
                    ("/f-", "/{x}"),
                    ("/f-a", "/f-a"),
                ],
            ),
            (
                &["/a/b/c", "/a/{x}/{y}", "/{x}/b/{*y}"],
                &[
                    ("/a/b/c", "/a/b/c"),
                    ("/a/b/d", "/a/{x}/{y}"),
                    ("/a/b/d/e", "/{x}/b/{*y}"),
                ],
            ),
            (
                &["/a/", "/a", "/a/{*x}"],
                &[("/a", "/a"), ("/a/", "/a/"), ("/a/b", "/a/{*x}")],
            ),
        ] {
            for order in orders(patterns) {
                let tree = tree(&order).expect("an order");
                for (path, expected) in expected {
                    let found = tree.find(path).map(|(entry, _)| order[entry]);
                    assert_eq!(found.unwrap_or_default(), *expected, "{path} of {order:?}");
                }
            }
        }
    }

    #[test]
    fn parameters_stand_for_what_they_took_and_nothing_of_what_was_tried_before() {
        let tree = tree(&["/{n}.pdf/{m}/meta", "/{id}/{*rest}"]).expect("an order");
        let values = |path: &str| {
            let (_, values) = tree.find(path).expect("found");
            (0..3)
                .map_while(|at| values.get(at))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(values("/a.pdf/b/meta"), ["a", "b"]);
        assert_eq!(values("/a.pdf/b/c"), ["a.pdf", "b/c"]);
    }

    #[test]
    fn patterns_that_both_take_a_path_without_an_order_are_refused() {
        for patterns in [
            ["/f-{x}", "/{x}.pdf"],
            ["/a/f-{x}/1", "/a/{x}.pdf/2"],
            ["/{x}.pdf", "/f-{*x}"],
        ] {
            for order in orders(&patterns) {
                assert_eq!(tree(&order).err(), Some((1, NoOrder(0))), "{order:?}");
            }
        }
        for patterns in [
            ["/f-{x}", "/g-{x}"],
            ["/{x}.pdf", "/{x}.txt"],
            ["/f-{x}.pdf", "/{x}.pdf"],
        ] {
            assert!(tree(&patterns).is_ok(), "{patterns:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        for pattern in [
            "a",
            "/{a",
            "/a}",
            "/{}",
            "/{*}",
            "/{a}{b}",
            "/{*a}/b",
            "/{*a}.pdf",
            "/{{a}}",
            "/{a*}",
        ] {
            assert!(segments(pattern).is_err(), "{pattern}");
        }
        let many = "/{a}".repeat(MOST_PARAMETERS);
        assert!(segments(&many).is_ok());
        assert!(segments(&format!("{many}/{{a}}")).is_err());
    }

    #[test]
    fn a_pattern_is_known_once_it_was_added() {
        let tree = tree(&["/a/{x}", "/a/f-{*x}"]).expect("an order");
        let entry = |pattern: &str| tree.entry(&segments(pattern).expect(pattern));
        assert_eq!(entry("/a/{y}"), Some(0));
        assert_eq!(entry("/a/f-{*y}"), Some(1));
        assert_eq!(entry("/a"), None);
        assert_eq!(entry("/a/f-{y}"), None);
    }
}
