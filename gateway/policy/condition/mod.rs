//! Conditions: what a rule's `when` says, in CEL (the Common Expression Language).
//!
//! The parser is the `cel` crate's. Types are checked when a file is loaded, so that a slip in a
//! policy is a fault with a place and never a request that is refused for no visible reason. What
//! is evaluated is a tree of our own: it borrows what it reads, it counts its steps, it cannot
//! panic, and it says `Unknown` where it is asked about requests that nobody has made yet.
//!
//! The variables:
//!
//! | written | type |
//! | --- | --- |
//! | `token.tenant`, `token.app`, `token.principal` | string, a GUID in lower case |
//! | `token.kind` | string: `appOnly`, `delegated`, `unknown` |
//! | `token.version` | string: `1.0`, `2.0` |
//! | `token.roles`, `token.scopes`, `token.groups` | list of string |
//! | `token.upn` and the other claims that Entra documents | string, int or list of string |
//! | `token.claims['name']` | any other claim, of any type |
//! | `request.method`, `request.host`, `request.path` | string |
//! | `request.headers['x-name']`, `request.parameters['id']` | string |
//! | `request.time` | timestamp |
//! | `connection.address` | string |
//! | `connection.certificateThumbprint`, `.certificateSubject`, `.certificateIssuer` | string |
//! | `connection.protocol` | string: `HTTP/1.1`, `HTTP/2` |
//!
//! The language: literals, lists, `== != < <= > >=`, `&& || !`, `? :`, `in`, `+ - * / %` on ints,
//! `+` on strings, `[..]` by literals, `has size int string timestamp`, `startsWith endsWith contains
//! matches lowerAscii`, `getHours getMinutes getDayOfWeek getDayOfMonth getMonth getFullYear` in UTC,
//! and the macros `all exists exists_one filter map`.
//!
//! To read what is absent fails, and a condition that fails does not hold. A failure stays one under
//! `!`; only `&&` and `||` pass over it, where another side decides alone, in whatever order they
//! stand (CEL's language definition, "Logical Operators").

mod calls;
mod check;
mod evaluate;
mod field;
mod functions;
mod impossible;
mod macros;
mod node;
mod operate;
mod paths;
mod print;
mod scan;
mod syntax;
mod time;
mod types;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

pub use field::{Fact, Facts, Field, Value};

use evaluate::Evaluation;
use impossible::Names;
use node::Node;

/// A compiled condition.
#[derive(Debug)]
pub struct Condition {
    text: Box<str>,
    normal: Box<str>,
    root: Node,
    fields: Box<[Field]>,
    constant: Option<bool>,
}

/// What came of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds or it does not.
    Is(bool),
    /// It could not be evaluated, and so does not hold.
    Failed(Failure),
    /// It hangs on what is not known.
    Unknown,
}

/// Why a condition could not be evaluated. For the log: names what was read, never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What was to be read is not there, as CEL spells it.
    Absent(String),
    /// The token does not list the caller's groups, for there are too many of them.
    GroupOverage,
    /// A value of another type than its use asks for.
    Type(String),
    /// It took more steps than a condition may.
    Budget,
    /// A number out of range, or a division by zero.
    Overflow,
}

/// What is wrong with the text of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, in bytes of the text. Empty or not, it lies within the text and on characters' bounds.
    pub range: Range<usize>,
    /// What.
    pub message: String,
    /// What was probably meant in place of what stands there.
    pub near: Option<String>,
    /// What to write instead, as a sentence.
    pub help: Option<String>,
}

impl Condition {
    /// Compiles the text of a condition, in a policy that gives names to GUIDs.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in the order of the text: one fault where it is no CEL, else every
    /// unknown name, every clash of types and every comparison with what a field can never be.
    pub fn compile(text: &str, names: &Names<'_>) -> Result<Condition, Vec<Fault>> {
        let parsed = syntax::parse(text)?;
        let (root, fields) = check::check(&parsed, names)?;
        let mut condition = Condition {
            text: text.into(),
            normal: root.to_string().into(),
            root,
            fields: fields.into(),
            constant: None,
        };
        condition.constant = match condition.evaluate(&Nothing) {
            Outcome::Is(truth) => Some(truth),
            Outcome::Failed(_) | Outcome::Unknown => None,
        };
        Ok(condition)
    }

    /// The text as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text in the one canonical spelling. White space, comments, quotes and parentheses that
    /// change nothing play no part in it.
    pub fn normal(&self) -> &str {
        &self.normal
    }

    /// Whether it holds.
    pub fn evaluate(&self, facts: &dyn Facts) -> Outcome {
        Evaluation::new(facts).outcome(&self.root)
    }

    /// Its value, if that hangs on no field: `true || x`, `1 == 2`. None too if it always fails.
    pub fn constant(&self) -> Option<bool> {
        self.constant
    }

    /// Every field that it reads or asks for, once, in the order of the text.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Whether it reads anything of the token.
    pub fn reads_token(&self) -> bool {
        self.fields.iter().any(Field::is_of_token)
    }

    /// Whether it looks into the text of such a field (`startsWith`, `endsWith`, `contains`, `matches`) in place of
    /// comparing the whole.
    pub fn looks_into(&self, is: impl Fn(&Field) -> bool) -> bool {
        let reads = |node: &Node| matches!(node, Node::Read(field, _) if is(field));
        let looks = |node: &Node| match node {
            Node::Test(..) | Node::Matches(..) => node.holds(&reads),
            _ => false,
        };
        self.root.holds(&looks)
    }

    /// Whether it reads a parameter of the path.
    pub fn reads_parameters(&self) -> bool {
        self.parameters().next().is_some()
    }

    /// The names of the parameters of the path that it reads.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter_map(|field| match field {
            Field::Parameter(name) => Some(&**name),
            _ => None,
        })
    }

    /// The names of the headers that it reads, in lower case.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter_map(|field| match field {
            Field::Header(name) => Some(&**name),
            _ => None,
        })
    }

    /// The names of the claims that it reads as they stand in the token.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().filter_map(|field| match field {
            Field::Claim(name) => Some(&**name),
            _ => None,
        })
    }

    /// Every field that it reads, as CEL spells it, with its value: as JSON, or `absent`, `unknown`
    /// or why it cannot be told. For `explain`, whose reader may see the token.
    pub fn values(&self, facts: &dyn Facts) -> Vec<(String, String)> {
        let text = |field: &Field| match facts.look(field) {
            Fact::Is(value) => operate::json(&value).to_string(),
            Fact::Absent => "absent".to_owned(),
            Fact::Unknown => "unknown".to_owned(),
            Fact::Failed(failure) => failure.to_string(),
        };
        self.fields
            .iter()
            .map(|field| (field.to_string(), text(field)))
            .collect()
    }
}

/// What is known when there is no request.
struct Nothing;

impl Facts for Nothing {
    fn look(&self, _: &Field) -> Fact<'_> {
        Fact::Unknown
    }
}

impl Fault {
    fn new(range: Range<usize>, message: impl Into<String>) -> Fault {
        Fault {
            range,
            message: message.into(),
            near: None,
            help: None,
        }
    }

    fn near(self, near: Option<&str>) -> Fault {
        Fault {
            near: near.map(str::to_owned),
            ..self
        }
    }

    fn help(self, help: impl Into<String>) -> Fault {
        Fault {
            help: Some(help.into()),
            ..self
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Absent(what) => write!(out, "{what} is absent"),
            Failure::GroupOverage => {
                out.write_str("the token lists no groups, for the caller is in too many")
            }
            Failure::Type(what) => out.write_str(what),
            Failure::Budget => out.write_str("the condition takes too many steps"),
            Failure::Overflow => out.write_str("a number is out of range or divided by zero"),
        }
    }
}
