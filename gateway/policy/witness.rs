//! Requests that stand for all others: for two policies, a host and a path for every way in which their
//! routes can divide the requests between them.
//!
//! Which route takes a request depends on its host, path and method alone, and of the path on nothing but
//! which patterns fit it, as it stands and as a looser reader sees it. So paths are made segment by segment,
//! following all patterns of both policies at once: at each place one segment for every way in which some
//! segment may fit some of them and not others, and no two paths that the same patterns fit. Of those that
//! would do, the plainest is shown.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashSet};

use super::access::TooComplex;
use super::difference::Unfinished;
use super::path::Reading;
use super::pattern::some_host;
use super::routes::Policy;
use super::tree::{NodeId, Tree};

/// The most segments that are tried behind one place.
const MOST_SEGMENTS: usize = 100_000;

/// A host and path that stand for a kind of requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Witness {
    /// The pattern of hosts that it stands for: exact, `*.suffix`, or `None` for hosts that nobody named.
    pub pattern: Option<Box<str>>,
    /// Whether the path is spelled as nobody writes it, for a looser reader to fold.
    pub is_odd: bool,
    /// The host.
    pub host: String,
    /// The path.
    pub path: String,
    /// The path with `*` for words that nobody wrote.
    pub shown: String,
}

/// The hosts and paths that stand for all requests to either of two policies, for as long as `goes_on` says so.
///
/// # Errors
/// When they are too many, or not wanted any more.
pub fn witnesses(
    old: &Policy,
    new: &Policy,
    goes_on: &dyn Fn() -> bool,
) -> Result<Vec<Witness>, Unfinished> {
    let policies = [old, new];
    let routes = || policies.iter().flat_map(|policy| policy.routes());
    let patterns: BTreeSet<Option<Box<str>>> = routes()
        .map(|route| route.taken().host.clone())
        .chain([None])
        .collect();
    let fresh = fresh_word(routes().flat_map(|route| {
        let taken = route.taken();
        [&*taken.path, taken.host.as_deref().unwrap_or_default()]
    }))?;
    let mut all = Vec::new();
    for pattern in patterns {
        if !goes_on() {
            return Err(Unfinished::GivenUp);
        }
        let host = match pattern.as_deref() {
            None => format!("{fresh}.invalid"),
            Some(host) => some_host(host, &fresh),
        };
        let trees = policies.iter().flat_map(|policy| policy.trees(&host));
        let paths = Paths {
            trees: trees.collect(),
            fresh: &fresh,
        };
        all.extend(paths.all()?.into_iter().map(|(is_odd, path)| Witness {
            pattern: pattern.clone(),
            is_odd,
            host: host.clone(),
            shown: path.replace(&fresh, "*"),
            path,
        }));
    }
    Ok(all)
}

/// A word of which no pattern holds any part: neither does one hold it, nor could its ends complete the text
/// beside a parameter.
fn fresh_word<'p>(written: impl Iterator<Item = &'p str>) -> Result<String, TooComplex> {
    let (mut texts, mut beside) = (Vec::new(), HashSet::new());
    for text in written {
        let text = text.to_lowercase();
        let segments = text.split('/').filter(|segment| segment.contains('{'));
        for segment in segments {
            let outside = segment
                .split('{')
                .flat_map(|part| match part.split_once('}') {
                    Some((_, after)) => after.chars(),
                    None => part.chars(),
                });
            beside.extend(outside);
        }
        texts.push(text);
    }
    let ends = ('a'..='z')
        .chain('0'..='9')
        .filter(|end| !beside.contains(end));
    let ends: Vec<char> = ends.collect();
    let usual = ["any".to_owned(), "some".to_owned(), "other".to_owned()].into_iter();
    let made = ends
        .iter()
        .flat_map(|first| ends.iter().map(move |last| format!("{first}{last}")));
    let is_free = |word: &String| {
        let free = |end: Option<char>| end.is_some_and(|end| !beside.contains(&end));
        free(word.chars().next())
            && free(word.chars().last())
            && !texts.iter().any(|text| text.contains(word.as_str()))
    };
    usual.chain(made).find(is_free).ok_or(TooComplex)
}

/// The patterns that may take paths of one host, of both policies and in both readings.
struct Paths<'t> {
    trees: Vec<(&'t Tree, Reading)>,
    fresh: &'t str,
}

/// Which patterns go on, and which take whatever follows, by their trees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Alive {
    nodes: Vec<(usize, NodeId)>,
    open: Vec<(usize, usize)>,
}

/// A path so far. The least odd and then the shortest is looked at first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Begun {
    oddities: usize,
    segments: usize,
    path: String,
    alive: Alive,
}

impl Paths<'_> {
    /// Every kind of path, and whether it is oddly spelled.
    fn all(&self) -> Result<BTreeSet<(bool, String)>, TooComplex> {
        let mut paths = BTreeSet::new();
        let (mut told, mut followed) = (HashSet::new(), HashSet::new());
        let roots = (0..self.trees.len()).map(|tree| (tree, Tree::ROOT));
        let mut queue = BinaryHeap::from([Reverse(Begun {
            oddities: 0,
            segments: 0,
            path: String::new(),
            alive: Alive {
                nodes: roots.collect(),
                open: Vec::new(),
            },
        })]);
        while let Some(Reverse(begun)) = queue.pop() {
            if begun.segments > 0 && told.insert(begun.alive.clone()) {
                paths.insert((begun.oddities > 0, begun.path.clone()));
                if !begun.path.ends_with('/') {
                    paths.insert((true, format!("{}/", begun.path)));
                }
            }
            let mut further = begun.alive.clone();
            further
                .nodes
                .retain(|(tree, node)| self.goes_on(*tree, *node));
            // Where no pattern goes on, those that take whatever follows still do, and those that end here no
            // more.
            let is_left = !further.nodes.is_empty() || !begun.alive.nodes.is_empty();
            if !is_left || !followed.insert(further.clone()) {
                continue;
            }
            for (segment, odd) in self.segments(&further)? {
                let alive = self.step(&further, &segment);
                if alive.nodes.is_empty() && alive.open.is_empty() {
                    continue;
                }
                queue.push(Reverse(Begun {
                    oddities: begun.oddities + usize::from(odd),
                    segments: begun.segments + 1,
                    path: format!("{}/{segment}", begun.path),
                    alive,
                }));
            }
        }
        Ok(paths)
    }

    fn goes_on(&self, tree: usize, node: NodeId) -> bool {
        self.trees
            .get(tree)
            .is_some_and(|(tree, _)| tree.goes_on(node))
    }

    fn step(&self, from: &Alive, segment: &str) -> Alive {
        let mut alive = Alive {
            nodes: Vec::new(),
            open: from.open.clone(),
        };
        let (mut nodes, mut open) = (Vec::new(), Vec::new());
        for (at, node) in &from.nodes {
            if let Some((tree, reading)) = self.trees.get(*at) {
                tree.step(*node, &reading.of(segment), &mut nodes, &mut open);
                alive.nodes.extend(nodes.drain(..).map(|node| (*at, node)));
                alive.open.extend(open.drain(..).map(|entry| (*at, entry)));
            }
        }
        alive.nodes.sort_unstable();
        alive.open.sort_unstable();
        alive.open.dedup();
        alive
    }

    /// A segment for every way in which one may fit some of the patterns that go on and not others, and
    /// whether it is oddly spelled.
    fn segments(&self, alive: &Alive) -> Result<BTreeSet<(String, bool)>, TooComplex> {
        let mut texts = Texts::default();
        for (at, node) in &alive.nodes {
            if let Some((tree, _)) = self.trees.get(*at) {
                texts
                    .literals
                    .extend(tree.literals(*node).map(str::to_owned));
                for (before, after) in tree.around(*node) {
                    texts.before.insert(before.to_owned());
                    texts.after.insert(after.to_owned());
                }
            }
        }
        texts.before.insert(String::new());
        texts.after.insert(String::new());
        texts.segments(self.fresh)
    }
}

/// What is written of the patterns that go on in one place.
#[derive(Default)]
struct Texts {
    literals: BTreeSet<String>,
    /// What stands before parameters, and nothing.
    before: BTreeSet<String>,
    /// What stands behind them, and nothing.
    after: BTreeSet<String>,
}

impl Texts {
    fn segments(&self, fresh: &str) -> Result<BTreeSet<(String, bool)>, TooComplex> {
        let mut segments = BTreeSet::new();
        for literal in &self.literals {
            segments.insert((literal.clone(), false));
            if !literal.is_empty() {
                segments.insert((format!("{literal};x"), true));
                segments.extend(self.recased(literal).map(|text| (text, true)));
            }
        }
        let before = spellings(
            &self.before,
            |whole, part| whole.strip_prefix(part),
            |part, rest| part + rest,
        );
        let after = spellings(
            &self.after,
            |whole, part| whole.strip_suffix(part),
            |part, rest| rest.to_owned() + &part,
        );
        let around = before.len().saturating_mul(after.len());
        if around.saturating_add(segments.len()) > MOST_SEGMENTS {
            return Err(TooComplex);
        }
        for (before, odd_before) in &before {
            for (after, odd_after) in &after {
                let segment = format!("{before}{fresh}{after}");
                segments.insert((format!("{segment};x"), true));
                segments.insert((segment, *odd_before || *odd_after));
            }
        }
        Ok(segments)
    }

    /// A literal in another case, but for what it shares with the text beside parameters.
    fn recased<'t>(&'t self, literal: &'t str) -> impl Iterator<Item = String> + 't {
        self.before.iter().flat_map(move |before| {
            self.after.iter().filter_map(move |after| {
                let rest = literal.strip_prefix(before.as_str())?;
                let between = rest.strip_suffix(after.as_str())?;
                let other = recase(between);
                (other != between).then(|| format!("{before}{other}{after}"))
            })
        })
    }
}

/// Texts beside parameters as they are written, and in another case: of each all but what it shares with
/// another, for that may fit where the whole does not. Whether a spelling is odd.
fn spellings(
    texts: &BTreeSet<String>,
    without: for<'t> fn(&'t str, &str) -> Option<&'t str>,
    with: fn(String, &str) -> String,
) -> BTreeSet<(String, bool)> {
    let mut spellings = BTreeSet::new();
    for text in texts {
        spellings.insert((text.clone(), false));
        for shared in texts {
            let Some(rest) = without(text, shared) else {
                continue;
            };
            let other = recase(rest);
            if other != rest {
                spellings.insert((with(shared.clone(), &other), true));
            }
        }
    }
    spellings
}

/// Every letter in its other case. Percent codes have one spelling, so they stay.
fn recase(text: &str) -> String {
    let mut code = 0;
    let recased = text.chars().map(|letter| {
        if letter == '%' {
            code = 3;
        }
        let in_code = code > 0;
        code -= usize::from(in_code);
        match letter {
            letter if in_code => letter,
            letter if letter.is_ascii_lowercase() => letter.to_ascii_uppercase(),
            letter => letter.to_ascii_lowercase(),
        }
    });
    recased.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_word_completes_nothing_that_is_written() {
        for (written, expected) in [
            (vec!["/a/{x}"], "any"),
            (vec!["/many/{x}"], "some"),
            (vec!["/a{x}"], "some"),
            (vec!["/{x}y"], "some"),
            (vec!["/a{x}", "/{x}s"], "other"),
            (vec!["/a{x}o", "/{x}s"], "bb"),
        ] {
            let word = fresh_word(written.iter().copied()).expect("a word");
            assert_eq!(word, expected, "{written:?}");
        }
        let all: String = ('a'..='z').chain('0'..='9').collect();
        assert_eq!(
            fresh_word([&*format!("/{all}{{x}}")].into_iter()),
            Err(TooComplex)
        );
    }

    #[test]
    fn another_case_leaves_percent_codes() {
        assert_eq!(recase("Caf%C3%A9-b"), "cAF%C3%A9-B");
        assert_eq!(recase("1-2"), "1-2");
    }
}
