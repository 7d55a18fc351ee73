//! Requests that stand for all others: for two policies, a host and a path for every way in which their
//! routes can divide the requests between them.
//!
//! Which route takes a request depends on its host, path and method alone. Two requests that no pattern
//! of either policy tells apart are alike, so one of each kind is enough to compare the policies: every
//! pattern filled with words that nobody wrote, every pair of patterns laid over each other, and each of
//! these in the spellings that a looser reader folds.

use std::collections::{BTreeSet, HashMap};

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
            Some(host) => match host.strip_prefix('*') {
                Some(suffix) => format!("{fresh}{suffix}"),
                None => host.to_owned(),
            },
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
    let takes = |pattern: Option<&str>| match pattern {
        None => true,
        Some(pattern) => match pattern.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => pattern == host,
        },
    };
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
        match text.split_once('{') {
            None => Self::Literal(text.to_owned()),
            Some((before, parameter)) => match parameter.split_once('}') {
                Some((name, _)) if name.starts_with('*') => Self::Rest(before.to_owned()),
                Some((_, after)) => Self::Parameter(before.to_owned(), after.to_owned()),
                None => Self::Literal(text.to_owned()),
            },
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
    let by_first = ByFirst::of(new);
    for shape in old {
        for other in by_first.like(shape) {
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

/// Patterns by their first segment, so that those that cannot meet are not laid over each other.
struct ByFirst<'s> {
    literal: HashMap<&'s str, Vec<&'s Shape>>,
    other: Vec<&'s Shape>,
    all: &'s [Shape],
}

impl<'s> ByFirst<'s> {
    fn of(shapes: &'s [Shape]) -> Self {
        let mut by_first = Self {
            literal: HashMap::new(),
            other: Vec::new(),
            all: shapes,
        };
        for shape in shapes {
            match shape.0.first() {
                Some(Segment::Literal(text)) => {
                    by_first.literal.entry(text).or_default().push(shape);
                }
                _ => by_first.other.push(shape),
            }
        }
        by_first
    }

    fn like(&self, shape: &Shape) -> Vec<&'s Shape> {
        match shape.0.first() {
            Some(Segment::Literal(text)) => {
                let same = self.literal.get(text.as_str()).into_iter().flatten();
                same.chain(&self.other).copied().collect()
            }
            _ => self.all.iter().collect(),
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
