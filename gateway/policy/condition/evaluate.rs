//! The evaluation of a condition: three-valued, with a budget of steps, borrowing what it reads.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::field::{Fact, Facts, Field, Value};
use super::macros::Verdict;
use super::node::{Comparison, Literal, Node, Sum};
use super::operate::{self, Budget};
use super::types::Type;
use super::{Failure, Outcome};

/// One evaluation.
pub(super) struct Evaluation<'e> {
    facts: &'e dyn Facts,
    /// The steps that are left to it.
    pub(super) budget: Budget,
}

/// Why a part has no value.
#[derive(Debug)]
pub(super) enum Stop {
    /// It could not be evaluated.
    Failed(Failure),
    /// It hangs on what is not known.
    Unknown,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failed(failure)
    }
}

/// What comes of a part.
pub(super) type Valued<'e> = Result<Value<'e>, Stop>;

/// The variables of the macros around, from the inside out.
#[derive(Clone, Copy)]
pub(super) struct Scope<'s, 'e> {
    /// The value of the innermost.
    pub(super) value: &'s Value<'e>,
    /// Those around it.
    pub(super) outer: Option<&'s Scope<'s, 'e>>,
}

/// The variables around a part, if there are any.
pub(super) type Around<'s, 'e> = Option<&'s Scope<'s, 'e>>;

impl<'e> Evaluation<'e> {
    /// One over what is known.
    pub(super) fn new(facts: &'e dyn Facts) -> Evaluation<'e> {
        Evaluation {
            facts,
            budget: Budget::new(),
        }
    }

    /// What comes of a condition.
    pub(super) fn outcome(mut self, root: &'e Node) -> Outcome {
        match self.truth(root, None) {
            Ok(truth) => Outcome::Is(truth),
            Err(Stop::Failed(failure)) => Outcome::Failed(failure),
            Err(Stop::Unknown) => Outcome::Unknown,
        }
    }

    /// The value of a part.
    pub(super) fn value(&mut self, node: &'e Node, around: Around<'_, 'e>) -> Valued<'e> {
        self.budget.spend(1)?;
        Ok(match node {
            Node::Literal(literal) => value_of(literal),
            Node::Read(field, kind) => self.read(field, *kind)?,
            Node::Variable(name, up) => self.variable(name, *up, around)?,
            Node::Has(field) => Value::Bool(self.has(field)?),
            Node::HasMember(of, name) => Value::Bool(self.has_member(of, name, around)?),
            Node::Not(of) => Value::Bool(!self.truth(of, around)?),
            Node::Negate(of) => self.negate(of, around)?,
            Node::All(parts) => Value::Bool(self.junction(parts, around, false)?),
            Node::Any(parts) => Value::Bool(self.junction(parts, around, true)?),
            Node::Choose(parts) => self.choose(parts, around)?,
            Node::Compare(comparison, parts) => {
                Value::Bool(self.compare(*comparison, parts, around)?)
            }
            Node::Reckon(sum, parts) => self.reckon(*sum, parts, around)?,
            Node::In(parts) => Value::Bool(self.within(parts, around)?),
            Node::List(parts) => self.list(parts, around)?,
            Node::At(of, index) => self.at(node, of, *index, around)?,
            Node::Member(of, name) => self.member(node, of, name, around)?,
            Node::Test(test, parts) => Value::Bool(self.test(*test, parts, around)?),
            Node::Matches(of, pattern) => Value::Bool(self.matches(of, pattern, around)?),
            Node::Apply(function, of) => self.apply(*function, of, around)?,
            Node::Each(each) => self.each(each, around)?,
        })
    }

    /// The value of a part that must be a bool.
    pub(super) fn truth(&mut self, node: &'e Node, around: Around<'_, 'e>) -> Result<bool, Stop> {
        match self.value(node, around)? {
            Value::Bool(truth) => Ok(truth),
            other => Err(mismatch(node, "a bool", &other)),
        }
    }

    /// The value of a part that must be a string.
    pub(super) fn text(
        &mut self,
        node: &'e Node,
        around: Around<'_, 'e>,
    ) -> Result<Cow<'e, str>, Stop> {
        match self.value(node, around)? {
            Value::Text(text) => Ok(text),
            other => Err(mismatch(node, "a string", &other)),
        }
    }

    fn read(&mut self, field: &'e Field, kind: Type) -> Valued<'e> {
        let facts = self.facts;
        match facts.look(field) {
            Fact::Is(value) => {
                let value = operate::plain(value);
                match operate::is_of(&value, kind) {
                    true => Ok(value),
                    false => {
                        let found = operate::kind(&value);
                        Err(Failure::Type(format!("{field} is {found}, not {kind}")).into())
                    }
                }
            }
            Fact::Absent => Err(Failure::Absent(field.to_string()).into()),
            Fact::Unknown => Err(Stop::Unknown),
            Fact::Failed(failure) => Err(failure.into()),
        }
    }

    fn has(&mut self, field: &'e Field) -> Result<bool, Stop> {
        match self.facts.look(field) {
            Fact::Is(_) => Ok(true),
            Fact::Absent => Ok(false),
            Fact::Unknown => Err(Stop::Unknown),
            Fact::Failed(failure) => Err(failure.into()),
        }
    }

    fn has_member(
        &mut self,
        of: &'e Node,
        name: &str,
        around: Around<'_, 'e>,
    ) -> Result<bool, Stop> {
        match self.value(of, around)? {
            value @ Value::Json(serde_json::Value::Object(_)) => {
                Ok(operate::member(&value, name).is_some())
            }
            other => Err(mismatch(of, "an object", &other)),
        }
    }

    fn variable(&mut self, name: &str, up: usize, around: Around<'_, 'e>) -> Valued<'e> {
        let mut scope = around;
        for _ in 0..up {
            scope = scope.and_then(|scope| scope.outer);
        }
        // INVARIANT: the checker has seen the variable's macro around this part.
        let value = scope.map(|scope| scope.value);
        let value = value.ok_or_else(|| Failure::Absent(name.to_owned()))?;
        Ok(self.budget.copy(value)?)
    }

    fn negate(&mut self, of: &'e Node, around: Around<'_, 'e>) -> Valued<'e> {
        match self.value(of, around)? {
            Value::Int(number) => Ok(Value::Int(number.checked_neg().ok_or(Failure::Overflow)?)),
            Value::Double(number) => Ok(Value::Double(-number)),
            other => Err(mismatch(of, "a number", &other)),
        }
    }

    /// `&&` and `||`: one part that decides does so whatever the others are.
    fn junction(
        &mut self,
        parts: &'e [Node],
        around: Around<'_, 'e>,
        decides: bool,
    ) -> Result<bool, Stop> {
        let mut verdict = Verdict::new(decides);
        for part in parts {
            let truth = self.truth(part, around);
            if verdict.takes(truth)? {
                return Ok(decides);
            }
        }
        verdict.end()
    }

    fn choose(&mut self, parts: &'e [Node; 3], around: Around<'_, 'e>) -> Valued<'e> {
        let [condition, yes, no] = parts;
        match self.truth(condition, around)? {
            true => self.value(yes, around),
            false => self.value(no, around),
        }
    }

    fn compare(
        &mut self,
        comparison: Comparison,
        parts: &'e [Node; 2],
        around: Around<'_, 'e>,
    ) -> Result<bool, Stop> {
        let [left_node, right_node] = parts;
        let left = self.value(left_node, around)?;
        let right = self.value(right_node, around)?;
        let accepts: fn(Ordering) -> bool = match comparison {
            Comparison::Equal => return Ok(operate::equal(&left, &right, &mut self.budget)?),
            Comparison::Unequal => return Ok(!operate::equal(&left, &right, &mut self.budget)?),
            Comparison::Less => Ordering::is_lt,
            Comparison::LessOrEqual => Ordering::is_le,
            Comparison::More => Ordering::is_gt,
            Comparison::MoreOrEqual => Ordering::is_ge,
        };
        match operate::order(&left, &right, &mut self.budget)? {
            Some(ordering) => Ok(accepts(ordering)),
            None => {
                let (left, right) = (operate::kind(&left), operate::kind(&right));
                let message = format!("{left_node} is {left} and {right_node} is {right}");
                Err(Failure::Type(message).into())
            }
        }
    }

    fn reckon(&mut self, sum: Sum, parts: &'e [Node; 2], around: Around<'_, 'e>) -> Valued<'e> {
        let [left_node, right_node] = parts;
        let left = self.value(left_node, around)?;
        let right = self.value(right_node, around)?;
        match (left, right) {
            (Value::Int(left), Value::Int(right)) => {
                Ok(Value::Int(operate::reckon(sum, left, right)?))
            }
            (Value::Text(left), Value::Text(right)) if sum == Sum::Plus => {
                self.budget.look(left.len() + right.len())?;
                Ok(Value::Text(left + right))
            }
            (Value::Int(_), right) => Err(mismatch(right_node, "an int", &right)),
            (Value::Text(_), right) if sum == Sum::Plus => {
                Err(mismatch(right_node, "a string", &right))
            }
            (left, _) => Err(mismatch(left_node, "an int", &left)),
        }
    }

    fn within(&mut self, parts: &'e [Node; 2], around: Around<'_, 'e>) -> Result<bool, Stop> {
        let [what, list_node] = parts;
        let what = self.value(what, around)?;
        if let Node::List(parts) = list_node
            && parts.iter().all(|part| matches!(part, Node::Literal(_)))
        {
            return self.among(&what, parts);
        }
        let list = self.value(list_node, around)?;
        match (&list, &what, operate::length(&list)) {
            (_, _, Some(length)) => {
                for index in 0..length {
                    let item = operate::item(&list, index, &mut self.budget)?;
                    if let Some(item) = item
                        && operate::equal(&what, &item, &mut self.budget)?
                    {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Value::Json(serde_json::Value::Object(members)), Value::Text(name), None) => {
                Ok(members.contains_key(&**name))
            }
            (Value::Json(_), _, None) => Ok(false),
            (_, _, None) => Err(mismatch(list_node, "a list", &list)),
        }
    }

    /// Whether a value is one of those that stand in the text: no list is made for it.
    fn among(&mut self, what: &Value<'e>, literals: &'e [Node]) -> Result<bool, Stop> {
        for literal in literals {
            let literal = self.value(literal, None)?;
            if operate::equal(what, &literal, &mut self.budget)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn list(&mut self, parts: &'e [Node], around: Around<'_, 'e>) -> Valued<'e> {
        let values: Result<_, Stop> = parts.iter().map(|part| self.value(part, around)).collect();
        Ok(Value::List(values?))
    }

    fn at(
        &mut self,
        node: &'e Node,
        of: &'e Node,
        index: usize,
        around: Around<'_, 'e>,
    ) -> Valued<'e> {
        let list = self.value(of, around)?;
        if operate::length(&list).is_none() {
            return Err(mismatch(of, "a list", &list));
        }
        let item = operate::item(&list, index, &mut self.budget)?;
        Ok(item.ok_or_else(|| Failure::Absent(node.to_string()))?)
    }

    fn member(
        &mut self,
        node: &'e Node,
        of: &'e Node,
        name: &str,
        around: Around<'_, 'e>,
    ) -> Valued<'e> {
        let value = self.value(of, around)?;
        match (operate::member(&value, name), &value) {
            (Some(member), _) => Ok(member),
            (None, Value::Json(serde_json::Value::Object(_))) => {
                Err(Failure::Absent(node.to_string()).into())
            }
            (None, other) => Err(mismatch(of, "an object", other)),
        }
    }
}

fn value_of(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(truth) => Value::Bool(*truth),
        Literal::Int(number) => Value::Int(*number),
        Literal::Double(number) => Value::Double(*number),
        Literal::Text(text) => Value::Text(Cow::Borrowed(text)),
        Literal::Time(seconds) => Value::Time(*seconds),
    }
}

/// The failure of a part whose value has another type than it must. It names no value.
pub(super) fn mismatch(node: &Node, wanted: &str, found: &Value<'_>) -> Stop {
    let found = operate::kind(found);
    Stop::Failed(Failure::Type(format!("{node} is {found}, not {wanted}")))
}
