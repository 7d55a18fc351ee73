//! Requests that stand for all others: for two policies, a host and a path for every way in which their
//! routes can divide the requests between them.
//!
//! Which route takes a request depends on its host, path and method alone. Two requests that no pattern
//! of either policy tells apart are alike, so one of each kind is enough to compare the policies: every
//! pattern filled with words that nobody wrote, every pair of patterns laid over each other, and each of
//! these in the spellings that a looser reader folds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::pattern::{self, Part, some_host, takes_host};
use super::routes::Policy;

/// A host and path that stand for a kind of requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Witness {
    /// The pattern of hosts that it stands for: exact, `*.suffix`, or `None` for hosts that nobody named.
    pub pattern: Option<Box<str>>,
    /// The host.
    pub host: String,
    /// The path.
    pub path: String,
}

/// The hosts and paths that stand for all requests to either of two policies.
pub fn witnesses(old: &Policy, new: &Policy) -> Vec<Witness> {
    let fresh = fresh_word(&[old, new]);
    let patterns: BTreeSet<Option<Box<str>>> = [old, new]
        .iter()
        .flat_map(|policy| policy.routes())
        .map(|route| route.taken().host.clone())
        .chain([None])
        .collect();
    let mut all = Vec::new();
    for pattern in patterns {
        let host = match pattern.as_deref() {
            None => format!("{fresh}.invalid"),
            Some(host) => some_host(host, &fresh),
        };
        let paths = paths(&shapes(old, &host), &shapes(new, &host), &fresh);
        all.extend(paths.into_iter().map(|path| Witness {
            pattern: pattern.clone(),
            host: host.clone(),
            path,
        }));
    }
    all
}

/// A word that stands in no pattern.
fn fresh_word(policies: &[&Policy]) -> String {
    let written: Vec<String> = policies
        .iter()
        .flat_map(|policy| policy.routes())
        .map(|route| {
            let taken = route.taken();
            let host = taken.host.as_deref().unwrap_or_default();
            format!("{} {host}", taken.path).to_lowercase()
        })
        .collect();
    let mut word = "any".to_owned();
    let mut number = 0;
    while written.iter().any(|text| text.contains(&word)) {
        number += 1;
        word = format!("any{number}");
    }
    word
}

/// A pattern, segment by segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Shape(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Segment {
    /// As it stands.
    Literal(String),
    /// A parameter, with text before and after it.
    Parameter(String, String),
    /// All that follows, after this text.
    Rest(String),
}

/// The patterns of the routes that may take requests to a host.
fn shapes(policy: &Policy, host: &str) -> Vec<Shape> {
    let takes = |pattern: Option<&str>| pattern.is_none_or(|pattern| takes_host(pattern, host));
    let routes = policy.routes().iter();
    let routes = routes.filter(|route| takes(route.taken().host.as_deref()));
    let shapes: BTreeSet<Shape> = routes
        .map(|route| Shape::read(&route.taken().path))
        .collect();
    shapes.into_iter().collect()
}

impl Shape {
    fn read(pattern: &str) -> Self {
        let path = pattern.strip_prefix('/').unwrap_or(pattern);
        Self(path.split('/').map(Segment::read).collect())
    }

    /// Whether it ends with whatever follows.
    fn is_open(&self) -> bool {
        matches!(self.0.last(), Some(Segment::Rest(_)))
    }

    /// A path that the pattern takes, and no more specific one if that can be avoided. What follows is
    /// `depth` segments long.
    fn filled(&self, fresh: &str, depth: usize) -> String {
        let segments = self.0.iter().map(|segment| match segment {
            Segment::Literal(text) => text.clone(),
            Segment::Parameter(before, after) => format!("{before}{fresh}{after}"),
            Segment::Rest(before) => {
                let more = format!("/{fresh}").repeat(depth.saturating_sub(1));
                format!("{before}{fresh}{more}")
            }
        });
        let segments: Vec<String> = segments.collect();
        format!("/{}", segments.join("/"))
    }

    /// A path that both patterns take, if there is one.
    fn laid_over(&self, other: &Self, fresh: &str) -> Option<String> {
        let mut path = String::new();
        let (mut ours, mut theirs) = (self.0.iter(), other.0.iter());
        loop {
            let segment = match (ours.next(), theirs.next()) {
                (None, None) => return Some(path),
                // What follows takes the rest of the other, which has a segment at least.
                (Some(Segment::Rest(before)), Some(next)) => {
                    return Some(path + &under(before, next, theirs.as_slice(), fresh)?);
                }
                (Some(next), Some(Segment::Rest(before))) => {
                    return Some(path + &under(before, next, ours.as_slice(), fresh)?);
                }
                (Some(one), Some(two)) => one.laid_over(two, fresh)?,
                (None, Some(_)) | (Some(_), None) => return None,
            };
            path = format!("{path}/{segment}");
        }
    }
}

/// The rest of a path below `before{*rest}`, as the other pattern goes on.
fn under(before: &str, next: &Segment, more: &[Segment], fresh: &str) -> Option<String> {
    let open = Segment::Parameter(before.to_owned(), String::new());
    let first = match next {
        // Both go on: the longer of the two beginnings.
        Segment::Rest(theirs) => {
            open.laid_over(&Segment::Parameter(theirs.clone(), String::new()), fresh)?
        }
        next => open.laid_over(next, fresh)?,
    };
    let more = Shape(more.to_vec());
    let more = match more.0.is_empty() {
        true => String::new(),
        false => more.filled(fresh, 1),
    };
    Some(format!("/{first}{more}"))
}

impl Segment {
    fn read(text: &str) -> Self {
        let owned = |text: Option<Part<'_>>| match text {
            Some(Part::Text(text)) => text.to_owned(),
            Some(Part::Parameter(_) | Part::Rest(_)) | None => String::new(),
        };
        let mut parts = pattern::parts(text).peekable();
        let before = owned(parts.next_if(|part| matches!(part, Part::Text(_))));
        match parts.next() {
            None | Some(Part::Text(_)) => Self::Literal(text.to_owned()),
            Some(Part::Parameter(_)) => Self::Parameter(before, owned(parts.next())),
            Some(Part::Rest(_)) => Self::Rest(before),
        }
    }

    /// A text that both take.
    fn laid_over(&self, other: &Self, fresh: &str) -> Option<String> {
        match (self, other) {
            (Self::Literal(one), Self::Literal(two)) => (one == two).then(|| one.clone()),
            (Self::Literal(text), Self::Parameter(before, after))
            | (Self::Parameter(before, after), Self::Literal(text)) => {
                let takes = text.len() > before.len() + after.len()
                    && text.starts_with(before.as_str())
                    && text.ends_with(after.as_str());
                takes.then(|| text.clone())
            }
            (Self::Parameter(before, after), Self::Parameter(other, end)) => {
                let before = longer(before, other, |long, short| long.starts_with(short))?;
                let after = longer(after, end, |long, short| long.ends_with(short))?;
                Some(format!("{before}{fresh}{after}"))
            }
            // Only whole patterns are laid over what follows.
            (Self::Rest(_), _) | (_, Self::Rest(_)) => None,
        }
    }
}

/// The longer of two texts, if it holds the other where it must.
fn longer<'t>(one: &'t str, two: &'t str, holds: fn(&str, &str) -> bool) -> Option<&'t str> {
    let (long, short) = if one.len() >= two.len() {
        (one, two)
    } else {
        (two, one)
    };
    holds(long, short).then_some(long)
}

/// Every kind of path that two sets of patterns tell apart.
fn paths(old: &[Shape], new: &[Shape], fresh: &str) -> BTreeSet<String> {
    let deepest = old.iter().chain(new).map(|shape| shape.0.len()).max();
    let deepest = deepest.unwrap_or(1) + 1;
    let mut paths = BTreeSet::from([format!("/{fresh}")]);
    for shape in old.iter().chain(new) {
        let depths = if shape.is_open() { deepest } else { 1 };
        paths.extend((1..=depths).map(|depth| shape.filled(fresh, depth)));
    }
    let mut tree = Tree::default();
    for shape in new {
        tree.add(&shape.0, shape);
    }
    for shape in old {
        let mut others = Vec::new();
        tree.meeting(&shape.0, &mut others);
        for other in others {
            paths.extend(shape.laid_over(other, fresh));
        }
    }
    let loose: Vec<String> = paths
        .iter()
        .flat_map(|path| loosened(path, fresh))
        .collect();
    paths.extend(loose);
    paths
}

/// Patterns by their segments, so that those that plainly cannot meet are not laid over each other.
#[derive(Default)]
struct Tree<'s> {
    /// What follows a segment that is written out.
    literal: HashMap<&'s str, Tree<'s>>,
    /// What follows a parameter, with the text around it.
    parameter: BTreeMap<&'s Segment, Tree<'s>>,
    /// The patterns that end here.
    ends: Vec<&'s Shape>,
    /// The patterns that end with whatever follows.
    open: Vec<&'s Shape>,
}

impl<'s> Tree<'s> {
    fn add(&mut self, segments: &'s [Segment], shape: &'s Shape) {
        match segments.split_first() {
            None => self.ends.push(shape),
            Some((Segment::Rest(_), _)) => self.open.push(shape),
            Some((Segment::Literal(text), more)) => {
                self.literal.entry(text).or_default().add(more, shape);
            }
            Some((parameter @ Segment::Parameter(..), more)) => {
                self.parameter
                    .entry(parameter)
                    .or_default()
                    .add(more, shape);
            }
        }
    }

    /// The patterns that may take a path that these segments take; all that do are among them.
    fn meeting(&self, segments: &[Segment], found: &mut Vec<&'s Shape>) {
        let Some((first, more)) = segments.split_first() else {
            found.extend(&self.ends);
            return;
        };
        found.extend(&self.open);
        match first {
            Segment::Rest(_) => {
                self.below(found);
                return;
            }
            Segment::Literal(text) => {
                if let Some(same) = self.literal.get(text.as_str()) {
                    same.meeting(more, found);
                }
            }
            Segment::Parameter(..) => {
                for tree in self.literal.values() {
                    tree.meeting(more, found);
                }
            }
        }
        for tree in self.parameter.values() {
            tree.meeting(more, found);
        }
    }

    /// Every pattern with a segment more, but for those that are open here.
    fn below(&self, found: &mut Vec<&'s Shape>) {
        for tree in self.literal.values().chain(self.parameter.values()) {
            found.extend(&tree.ends);
            found.extend(&tree.open);
            tree.below(found);
        }
    }
}

/// The spellings of a path that a looser reader folds into it: a slash at the end, a parameter behind
/// each written segment and behind all of them.
fn loosened(path: &str, fresh: &str) -> Vec<String> {
    let mut loose = Vec::new();
    if !path.ends_with('/') {
        loose.push(format!("{path}/"));
    }
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let written = |segment: &str| !segment.is_empty() && segment != fresh;
    let respelled = |only: Option<usize>| {
        let segments = segments.iter().enumerate().map(|(at, segment)| {
            let respell = written(segment) && only.is_none_or(|only| only == at);
            format!("/{segment}{}", if respell { ";x" } else { "" })
        });
        segments.collect::<String>()
    };
    for (at, segment) in segments.iter().enumerate() {
        if written(segment) {
            loose.push(respelled(Some(at)));
        }
    }
    loose.push(respelled(None));
    loose.retain(|other| other != path);
    loose
}
