//! A condition as it is evaluated: CEL's syntax tree with fields resolved, patterns compiled and
//! macros named. Only the checker makes it.

use regex::Regex;

use super::field::Field;
use super::types::Type;

/// A part of a condition.
#[derive(Debug)]
pub(super) enum Node {
    /// `'a'`, `1`, `null`, `timestamp('..')`.
    Literal(Literal),
    /// A field that is read, and the type that it must turn out to have.
    Read(Field, Type),
    /// A macro's variable: its name, and how many macros further out it belongs to.
    Variable(Box<str>, usize),
    /// Whether a field is there.
    Has(Field),
    /// Whether a value that comes from a token has a member of that name.
    HasMember(Box<Node>, Box<str>),
    /// `!a`
    Not(Box<Node>),
    /// `-a`
    Negate(Box<Node>),
    /// `a && b && c`: two or more.
    All(Vec<Node>),
    /// `a || b || c`: two or more.
    Any(Vec<Node>),
    /// `a ? b : c`
    Choose(Box<[Node; 3]>),
    /// `a == b` and its kin.
    Compare(Comparison, Box<[Node; 2]>),
    /// `a + b` and its kin.
    Reckon(Sum, Box<[Node; 2]>),
    /// `a in b`
    In(Box<[Node; 2]>),
    /// `[a, b]`
    List(Vec<Node>),
    /// `a[0]`
    At(Box<Node>, usize),
    /// `a['b']`
    Member(Box<Node>, Box<str>),
    /// `a.startsWith(b)` and its kin.
    Test(TextTest, Box<[Node; 2]>),
    /// `a.matches('..')`
    Matches(Box<Node>, Pattern),
    /// A function of one value.
    Apply(Function, Box<Node>),
    /// `a.exists(x, b)` and its kin.
    Each(Box<Each>),
}

impl Node {
    /// The parts that it is made of.
    pub(super) fn parts(&self) -> Vec<&Node> {
        match self {
            Node::Literal(_) | Node::Read(..) | Node::Variable(..) | Node::Has(_) => Vec::new(),
            Node::HasMember(of, _)
            | Node::Not(of)
            | Node::Negate(of)
            | Node::At(of, _)
            | Node::Member(of, _)
            | Node::Matches(of, _)
            | Node::Apply(_, of) => vec![of],
            Node::All(parts) | Node::Any(parts) | Node::List(parts) => parts.iter().collect(),
            Node::Choose(parts) => parts.iter().collect(),
            Node::Compare(_, both)
            | Node::Reckon(_, both)
            | Node::In(both)
            | Node::Test(_, both) => both.iter().collect(),
            Node::Each(each) => {
                let more = each.condition.iter().chain(&each.result);
                std::iter::once(&each.over).chain(more).collect()
            }
        }
    }

    /// Whether it holds such a part, or is one.
    pub(super) fn holds(&self, is: &impl Fn(&Node) -> bool) -> bool {
        is(self) || self.parts().iter().any(|part| part.holds(is))
    }
}

/// A value that stands in the text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// `1`
    Int(i64),
    /// `1.5`
    Double(f64),
    /// `'a'`
    Text(Box<str>),
    /// `timestamp('..')`: whole seconds since the Unix epoch.
    Time(i64),
}

/// A pattern and where it came from.
#[derive(Debug)]
pub(super) struct Pattern {
    /// As written.
    pub(super) source: Box<str>,
    /// Compiled, within bounds of size.
    pub(super) regex: Regex,
}

/// A macro over a list.
#[derive(Debug)]
pub(super) struct Each {
    /// Which.
    pub(super) kind: Macro,
    /// The list.
    pub(super) over: Node,
    /// The variable's name.
    pub(super) variable: Box<str>,
    /// What picks elements: of all macros but `map` with two arguments.
    pub(super) condition: Option<Node>,
    /// What becomes of them: of `map` alone.
    pub(super) result: Option<Node>,
}

/// The macros over lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Macro {
    /// Whether it holds of every element.
    All,
    /// Whether it holds of any.
    Exists,
    /// Whether it holds of exactly one.
    ExistsOne,
    /// Those of which it holds.
    Filter,
    /// What becomes of each.
    Map,
}

/// The relations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    More,
    /// `>=`
    MoreOrEqual,
}

/// The operators that make a value of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sum {
    /// `+`, of ints and of strings.
    Plus,
    /// `-`
    Minus,
    /// `*`
    Times,
    /// `/`
    Over,
    /// `%`
    Modulo,
}

/// Tests of a string against another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextTest {
    /// `startsWith`
    Starts,
    /// `endsWith`
    Ends,
    /// `contains`
    Contains,
}

/// Functions of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    /// Characters of a string, elements of a list.
    Size,
    /// `int(..)`
    Int,
    /// `string(..)`
    Text,
    /// `lowerAscii()`
    Lower,
    /// A part of a timestamp.
    Part(Part),
}

/// Parts of a timestamp in UTC, numbered as CEL numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// 0 to 23.
    Hours,
    /// 0 to 59.
    Minutes,
    /// 0 to 6, where 0 is Sunday.
    DayOfWeek,
    /// 0 to 30.
    DayOfMonth,
    /// 0 to 11.
    Month,
    /// As people write it.
    FullYear,
}

impl Macro {
    /// Every macro by its name.
    pub(super) const NAMES: [(&str, Macro); 5] = [
        ("all", Macro::All),
        ("exists", Macro::Exists),
        ("exists_one", Macro::ExistsOne),
        ("filter", Macro::Filter),
        ("map", Macro::Map),
    ];
}

impl TextTest {
    /// Every test by its name.
    pub(super) const NAMES: [(&str, TextTest); 3] = [
        ("startsWith", TextTest::Starts),
        ("endsWith", TextTest::Ends),
        ("contains", TextTest::Contains),
    ];
}

impl Part {
    /// Every part by the name of the method that reads it.
    pub(super) const NAMES: [(&str, Part); 6] = [
        ("getHours", Part::Hours),
        ("getMinutes", Part::Minutes),
        ("getDayOfWeek", Part::DayOfWeek),
        ("getDayOfMonth", Part::DayOfMonth),
        ("getMonth", Part::Month),
        ("getFullYear", Part::FullYear),
    ];
}

/// The value that goes by a name.
pub(super) fn named<T: Copy>(names: &[(&str, T)], name: &str) -> Option<T> {
    names
        .iter()
        .find(|(spelling, _)| *spelling == name)
        .map(|(_, value)| *value)
}

/// The name of a value.
pub(super) fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    names
        .iter()
        .find(|(_, named)| named == value)
        .map_or("", |(name, _)| *name)
}
