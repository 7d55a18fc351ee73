//! A condition in its one canonical spelling: what people may write in several ways without meaning
//! another thing reads the same here.

use std::fmt;

use super::field::Field;
use super::node::{Comparison, Each, Function, Literal, Macro, Node, Part, Sum, TextTest, name_of};
use super::time;
use super::types::Type;

/// How tightly a part binds, as in CEL's table of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Choice,
    Or,
    And,
    Relation,
    Plus,
    Times,
    Unary,
    Primary,
}

/// The canonical spelling. The same text compiles to the same condition again.
impl fmt::Display for Node {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Literal(literal) => write!(out, "{literal}"),
            Node::Read(field, kind) => read(out, field, *kind),
            Node::Variable(name, _) => out.write_str(name),
            Node::Has(field) => has(out, field),
            Node::HasMember(of, name) => write!(out, "has({}.{name})", At(of, Rank::Primary)),
            Node::Not(of) => write!(out, "!{}", At(of, Rank::Primary)),
            Node::Negate(of) => write!(out, "-{}", At(of, Rank::Primary)),
            Node::All(parts) => joined(out, parts, " && ", Rank::Relation),
            Node::Any(parts) => joined(out, parts, " || ", Rank::And),
            Node::Choose(parts) => {
                let [condition, yes, no] = &**parts;
                let (condition, yes) = (At(condition, Rank::Or), At(yes, Rank::Or));
                write!(out, "{condition} ? {yes} : {no}")
            }
            Node::Compare(_, parts) | Node::In(parts) => {
                binary(out, parts, self.sign(), Rank::Relation, Rank::Plus)
            }
            Node::Reckon(Sum::Plus | Sum::Minus, parts) => {
                binary(out, parts, self.sign(), Rank::Plus, Rank::Times)
            }
            Node::Reckon(Sum::Times | Sum::Over | Sum::Modulo, parts) => {
                binary(out, parts, self.sign(), Rank::Times, Rank::Unary)
            }
            Node::List(parts) => {
                out.write_str("[")?;
                joined(out, parts, ", ", Rank::Choice)?;
                out.write_str("]")
            }
            Node::At(of, index) => write!(out, "{}[{index}]", At(of, Rank::Primary)),
            Node::Member(of, name) => {
                write!(out, "{}[{}]", At(of, Rank::Primary), quoted(name))
            }
            Node::Test(test, parts) => {
                let [text, part] = &**parts;
                let name = name_of(&TextTest::NAMES, test);
                write!(out, "{}.{name}({part})", At(text, Rank::Primary))
            }
            Node::Matches(of, pattern) => {
                let source = quoted(&pattern.source);
                write!(out, "{}.matches({source})", At(of, Rank::Primary))
            }
            Node::Apply(function, of) => apply(out, *function, of),
            Node::Each(each) => write!(out, "{each}"),
        }
    }
}

impl Node {
    fn rank(&self) -> Rank {
        match self {
            Node::Choose(_) => Rank::Choice,
            Node::Any(_) => Rank::Or,
            Node::All(_) => Rank::And,
            Node::Compare(..) | Node::In(_) => Rank::Relation,
            Node::Has(Field::Claim(_) | Field::Header(_) | Field::Parameter(_)) => Rank::Relation,
            Node::Reckon(Sum::Plus | Sum::Minus, _) => Rank::Plus,
            Node::Reckon(Sum::Times | Sum::Over | Sum::Modulo, _) => Rank::Times,
            Node::Not(_) | Node::Negate(_) => Rank::Unary,
            Node::Literal(Literal::Int(number)) if *number < 0 => Rank::Unary,
            Node::Literal(Literal::Double(number)) if number.is_sign_negative() => Rank::Unary,
            Node::Literal(_)
            | Node::Read(..)
            | Node::Variable(..)
            | Node::Has(_)
            | Node::HasMember(..)
            | Node::List(_)
            | Node::At(..)
            | Node::Member(..)
            | Node::Test(..)
            | Node::Matches(..)
            | Node::Apply(..)
            | Node::Each(_) => Rank::Primary,
        }
    }

    /// The sign between the two parts of a node that has one.
    pub(super) fn sign(&self) -> &'static str {
        match self {
            Node::Compare(Comparison::Equal, _) => "==",
            Node::Compare(Comparison::Unequal, _) => "!=",
            Node::Compare(Comparison::Less, _) => "<",
            Node::Compare(Comparison::LessOrEqual, _) => "<=",
            Node::Compare(Comparison::More, _) => ">",
            Node::Compare(Comparison::MoreOrEqual, _) => ">=",
            Node::Reckon(Sum::Plus, _) => "+",
            Node::Reckon(Sum::Minus, _) => "-",
            Node::Reckon(Sum::Times, _) => "*",
            Node::Reckon(Sum::Over, _) => "/",
            Node::Reckon(Sum::Modulo, _) => "%",
            _ => "in",
        }
    }
}

/// A part in a place that asks for a rank: in parentheses if it binds less tightly.
struct At<'n>(&'n Node, Rank);

impl fmt::Display for At<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.rank() < self.1 {
            true => write!(out, "({})", self.0),
            false => write!(out, "{}", self.0),
        }
    }
}

fn read(out: &mut fmt::Formatter<'_>, field: &Field, kind: Type) -> fmt::Result {
    match field {
        // `token.claims['upn']` may be of any type, `token.upn` is a string.
        Field::Claim(name) if kind == Type::Dyn => {
            write!(out, "token.claims[{}]", quoted(name))
        }
        field => write!(out, "{field}"),
    }
}

fn has(out: &mut fmt::Formatter<'_>, field: &Field) -> fmt::Result {
    match field {
        Field::Claim(name) => write!(out, "{} in token.claims", quoted(name)),
        Field::Header(name) => write!(out, "{} in request.headers", quoted(name)),
        Field::Parameter(name) => write!(out, "{} in request.parameters", quoted(name)),
        named => write!(out, "has({named})"),
    }
}

fn binary(
    out: &mut fmt::Formatter<'_>,
    parts: &[Node; 2],
    sign: &str,
    left_rank: Rank,
    right_rank: Rank,
) -> fmt::Result {
    let [left, right] = parts;
    let (left, right) = (At(left, left_rank), At(right, right_rank));
    write!(out, "{left} {sign} {right}")
}

fn joined(out: &mut fmt::Formatter<'_>, parts: &[Node], between: &str, rank: Rank) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            out.write_str(between)?;
        }
        write!(out, "{}", At(part, rank))?;
    }
    Ok(())
}

fn apply(out: &mut fmt::Formatter<'_>, function: Function, of: &Node) -> fmt::Result {
    let primary = At(of, Rank::Primary);
    match function {
        Function::Size => write!(out, "size({of})"),
        Function::Int => write!(out, "int({of})"),
        Function::Text => write!(out, "string({of})"),
        Function::Lower => write!(out, "{primary}.lowerAscii()"),
        Function::Part(part) => write!(out, "{primary}.{}()", name_of(&Part::NAMES, &part)),
    }
}

impl fmt::Display for Each {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = name_of(&Macro::NAMES, &self.kind);
        write!(
            out,
            "{}.{name}({}",
            At(&self.over, Rank::Primary),
            self.variable
        )?;
        for part in [&self.condition, &self.result].into_iter().flatten() {
            write!(out, ", {part}")?;
        }
        out.write_str(")")
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Literal::Null => out.write_str("null"),
            Literal::Bool(truth) => write!(out, "{truth}"),
            Literal::Int(number) => write!(out, "{number}"),
            Literal::Double(number) => write!(out, "{number:?}"),
            Literal::Text(text) => out.write_str(&quoted(text)),
            Literal::Time(seconds) => {
                let text = time::write(*seconds).unwrap_or_default();
                write!(out, "timestamp({})", quoted(&text))
            }
        }
    }
}

/// A string as CEL writes it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for letter in text.chars() {
        match letter {
            '\'' => out.push_str("\\'"),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control.is_control() => {
                out.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('\'');
    out
}
