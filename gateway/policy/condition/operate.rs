//! What is done with values, and what it costs. Every function that looks at as much as a caller
//! can send pays for it in steps.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value as Json;

use super::field::Value;
use super::node::Sum;
use super::types::{Element, Type};
use super::{Failure, time};

/// How many steps one evaluation may take.
pub(super) const STEPS: usize = 10_000;

/// How many bytes of text are looked at in one step.
const BYTES_A_STEP: usize = 64;

/// How deep values are compared: what tokens hold may be nested deeper than conditions.
const DEEPEST: usize = 64;

/// The steps that are left.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    /// All of them.
    pub(super) fn new() -> Budget {
        Budget(STEPS)
    }

    /// Takes some. Once they do not suffice, none are left.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Failure> {
        let left = self.0.checked_sub(steps);
        self.0 = left.unwrap_or(0);
        left.map(|_| ()).ok_or(Failure::Budget)
    }

    /// Takes as many as it costs to look at so many bytes.
    pub(super) fn look(&mut self, bytes: usize) -> Result<(), Failure> {
        self.spend(bytes / BYTES_A_STEP)
    }

    /// Another of the same value.
    pub(super) fn copy<'e>(&mut self, value: &Value<'e>) -> Result<Value<'e>, Failure> {
        self.weigh(value)?;
        Ok(value.clone())
    }

    fn weigh(&mut self, value: &Value<'_>) -> Result<(), Failure> {
        match value {
            Value::Text(Cow::Owned(text)) => self.look(text.len()),
            Value::List(values) => {
                self.spend(values.len())?;
                values.iter().try_for_each(|value| self.weigh(value))
            }
            Value::Text(Cow::Borrowed(_))
            | Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Double(_)
            | Value::Texts(_)
            | Value::Json(_)
            | Value::Time(_) => Ok(()),
        }
    }
}

/// A value out of JSON, unless it is a list or an object.
pub(super) fn plain(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Json(Json::Null) => Value::Null,
        Value::Json(Json::Bool(truth)) => Value::Bool(*truth),
        Value::Json(Json::String(text)) => Value::Text(Cow::Borrowed(text)),
        Value::Json(Json::Number(number)) => match number.as_i64() {
            Some(number) => Value::Int(number),
            None => Value::Double(number.as_f64().unwrap_or(f64::INFINITY)),
        },
        other => other,
    }
}

/// Whether a value that was read has the type that was counted on.
pub(super) fn is_of(value: &Value<'_>, kind: Type) -> bool {
    match kind {
        Type::Dyn => true,
        Type::List(_) => length(value).is_some(),
        kind => kind_of(value) == Some(kind),
    }
}

/// The type of a value. None for an object.
fn kind_of(value: &Value<'_>) -> Option<Type> {
    Some(match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Double(_) => Type::Double,
        Value::Text(_) => Type::Text,
        Value::Time(_) => Type::Time,
        Value::Texts(_) | Value::List(_) | Value::Json(Json::Array(_)) => Type::List(Element::Dyn),
        Value::Json(_) => return None,
    })
}

/// The type of a value in words.
pub(super) fn kind(value: &Value<'_>) -> String {
    kind_of(value).map_or_else(|| "an object".to_owned(), |kind| kind.to_string())
}

/// How many elements a list has. None if it is no list.
pub(super) fn length(value: &Value<'_>) -> Option<usize> {
    match value {
        Value::Texts(texts) => Some(texts.len()),
        Value::List(values) => Some(values.len()),
        Value::Json(Json::Array(values)) => Some(values.len()),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Double(_)
        | Value::Text(_)
        | Value::Time(_)
        | Value::Json(_) => None,
    }
}

/// An element of a list.
pub(super) fn item<'e>(
    list: &Value<'e>,
    index: usize,
    budget: &mut Budget,
) -> Result<Option<Value<'e>>, Failure> {
    budget.spend(1)?;
    Ok(match list {
        Value::Texts(texts) => texts
            .get(index)
            .map(|text| Value::Text(Cow::Borrowed(text))),
        Value::Json(Json::Array(values)) => {
            values.get(index).map(|value| plain(Value::Json(value)))
        }
        Value::List(values) => match values.get(index) {
            Some(value) => Some(budget.copy(value)?),
            None => None,
        },
        _ => None,
    })
}

/// A member of an object.
pub(super) fn member<'e>(value: &Value<'e>, name: &str) -> Option<Value<'e>> {
    match value {
        Value::Json(Json::Object(members)) => {
            members.get(name).map(|value| plain(Value::Json(value)))
        }
        _ => None,
    }
}

/// Whether two values are equal. Values of different types are not, but for numbers.
pub(super) fn equal(
    left: &Value<'_>,
    right: &Value<'_>,
    budget: &mut Budget,
) -> Result<bool, Failure> {
    equal_within(left, right, budget, DEEPEST)
}

fn equal_within(
    left: &Value<'_>,
    right: &Value<'_>,
    budget: &mut Budget,
    depth: usize,
) -> Result<bool, Failure> {
    budget.spend(1)?;
    let depth = depth.checked_sub(1).ok_or(Failure::Budget)?;
    match (left, right) {
        (Value::Null, Value::Null) => Ok(true),
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        (Value::Text(left), Value::Text(right)) if left.len() == right.len() => {
            budget.look(left.len())?;
            Ok(left == right)
        }
        (Value::Time(left), Value::Time(right)) => Ok(left == right),
        (Value::Int(_) | Value::Double(_), Value::Int(_) | Value::Double(_)) => {
            Ok(numbers(left, right) == Some(Ordering::Equal))
        }
        (Value::Json(Json::Object(left)), Value::Json(Json::Object(right))) => {
            if left.len() != right.len() {
                return Ok(false);
            }
            for (name, value) in left {
                let Some(other) = right.get(name) else {
                    return Ok(false);
                };
                let (value, other) = (plain(Value::Json(value)), plain(Value::Json(other)));
                if !equal_within(&value, &other, budget, depth)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        _ => equal_lists(left, right, budget, depth),
    }
}

fn equal_lists(
    left: &Value<'_>,
    right: &Value<'_>,
    budget: &mut Budget,
    depth: usize,
) -> Result<bool, Failure> {
    let (Some(length), Some(other)) = (length(left), length(right)) else {
        return Ok(false);
    };
    if length != other {
        return Ok(false);
    }
    for index in 0..length {
        let pair = (item(left, index, budget)?, item(right, index, budget)?);
        let (Some(left), Some(right)) = pair else {
            return Ok(false);
        };
        if !equal_within(&left, &right, budget, depth)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Which of two values is less. None if the types have no order with each other.
pub(super) fn order(
    left: &Value<'_>,
    right: &Value<'_>,
    budget: &mut Budget,
) -> Result<Option<Ordering>, Failure> {
    Ok(match (left, right) {
        (Value::Text(left), Value::Text(right)) => {
            budget.look(left.len().min(right.len()))?;
            Some(left.cmp(right))
        }
        (Value::Time(left), Value::Time(right)) => Some(left.cmp(right)),
        _ => numbers(left, right),
    })
}

fn numbers(left: &Value<'_>, right: &Value<'_>) -> Option<Ordering> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Double(left), Value::Double(right)) => left.partial_cmp(right),
        (Value::Int(left), Value::Double(right)) => mixed(*left, *right),
        (Value::Double(left), Value::Int(right)) => mixed(*right, *left).map(Ordering::reverse),
        _ => None,
    }
}

/// Compares without a loss: not every int has a double.
fn mixed(int: i64, double: f64) -> Option<Ordering> {
    match whole(double) {
        Some(number) => {
            let fraction = 0.0_f64.partial_cmp(&double.fract())?;
            Some(int.cmp(&number).then(fraction))
        }
        None => 0.0_f64.partial_cmp(&double),
    }
}

/// A double without its fraction. None if it is out of the range of ints.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the range has been looked at"
)]
pub(super) fn whole(double: f64) -> Option<i64> {
    /// 2 to the 63rd.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    (-BEYOND..BEYOND).contains(&double).then_some(double as i64)
}

/// Two ints made into one.
pub(super) fn reckon(sum: Sum, left: i64, right: i64) -> Result<i64, Failure> {
    match sum {
        Sum::Plus => left.checked_add(right),
        Sum::Minus => left.checked_sub(right),
        Sum::Times => left.checked_mul(right),
        Sum::Over => left.checked_div(right),
        Sum::Modulo => left.checked_rem(right),
    }
    .ok_or(Failure::Overflow)
}

/// A value as JSON, for people.
pub(super) fn json(value: &Value<'_>) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(truth) => Json::from(*truth),
        Value::Int(number) => Json::from(*number),
        Value::Double(number) => Json::from(*number),
        Value::Text(text) => Json::from(&**text),
        Value::Texts(texts) => texts.iter().map(|text| Json::from(&**text)).collect(),
        Value::Json(json) => (*json).clone(),
        Value::Time(seconds) => time::write(*seconds).map_or(Json::from(*seconds), Json::from),
        Value::List(values) => values.iter().map(json).collect(),
    }
}
