//! The evaluation of functions and methods.

use std::borrow::Cow;

use super::evaluate::{Around, Evaluation, Stop, Valued, mismatch};
use super::field::Value;
use super::node::{Function, Node, Pattern, TextTest};
use super::{Failure, operate, time};

impl<'e> Evaluation<'e> {
    /// Tests a string against another.
    pub(super) fn test(
        &mut self,
        test: TextTest,
        parts: &'e [Node; 2],
        around: Around<'_, 'e>,
    ) -> Result<bool, Stop> {
        let [text, part] = parts;
        let text = self.text(text, around)?;
        let part = self.text(part, around)?;
        self.budget.look(match test {
            TextTest::Starts | TextTest::Ends => text.len().min(part.len()),
            TextTest::Contains => text.len() + part.len(),
        })?;
        Ok(match test {
            TextTest::Starts => text.starts_with(&*part),
            TextTest::Ends => text.ends_with(&*part),
            TextTest::Contains => text.contains(&*part),
        })
    }

    /// Tests a string against a pattern.
    pub(super) fn matches(
        &mut self,
        of: &'e Node,
        pattern: &Pattern,
        around: Around<'_, 'e>,
    ) -> Result<bool, Stop> {
        /// A pattern may look at each byte several times over.
        const DEARER: usize = 8;
        let text = self.text(of, around)?;
        self.budget.look(text.len().saturating_mul(DEARER))?;
        Ok(pattern.regex.is_match(&text))
    }

    /// Makes a value of another.
    pub(super) fn apply(
        &mut self,
        function: Function,
        of: &'e Node,
        around: Around<'_, 'e>,
    ) -> Valued<'e> {
        let value = self.value(of, around)?;
        match function {
            Function::Size => self.size(of, &value),
            Function::Int => int(of, &value),
            Function::Text => self.string(of, value),
            Function::Lower => match value {
                Value::Text(text) => self.lower(text),
                other => Err(mismatch(of, "a string", &other)),
            },
            Function::Part(part) => match value {
                Value::Time(seconds) => Ok(Value::Int(
                    time::part(seconds, part).ok_or(Failure::Overflow)?,
                )),
                other => Err(mismatch(of, "a timestamp", &other)),
            },
        }
    }

    fn size(&mut self, of: &Node, value: &Value<'e>) -> Valued<'e> {
        let size = match value {
            Value::Text(text) => {
                self.budget.look(text.len())?;
                Some(text.chars().count())
            }
            Value::Json(serde_json::Value::Object(members)) => Some(members.len()),
            other => operate::length(other),
        };
        let size = size.ok_or_else(|| mismatch(of, "a string or a list", value))?;
        Ok(Value::Int(
            i64::try_from(size).map_err(|_| Failure::Overflow)?,
        ))
    }

    fn string(&mut self, of: &Node, value: Value<'e>) -> Valued<'e> {
        let text = match value {
            Value::Text(_) => return Ok(value),
            Value::Bool(truth) => truth.to_string(),
            Value::Int(number) => number.to_string(),
            Value::Double(number) => number.to_string(),
            Value::Time(seconds) => time::write(seconds).ok_or(Failure::Overflow)?,
            other @ (Value::Null | Value::Texts(_) | Value::Json(_) | Value::List(_)) => {
                return Err(mismatch(of, "a string", &other));
            }
        };
        Ok(Value::Text(Cow::Owned(text)))
    }

    fn lower(&mut self, text: Cow<'e, str>) -> Valued<'e> {
        self.budget.look(text.len())?;
        let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        Ok(Value::Text(match is_lower {
            true => text,
            false => Cow::Owned(text.to_ascii_lowercase()),
        }))
    }
}

fn int<'e>(of: &Node, value: &Value<'e>) -> Valued<'e> {
    let number = match value {
        Value::Int(number) | Value::Time(number) => Some(*number),
        Value::Double(number) => Some(operate::whole(*number).ok_or(Failure::Overflow)?),
        Value::Text(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Texts(_) | Value::Json(_) | Value::List(_) => None,
    };
    Ok(Value::Int(
        number.ok_or_else(|| mismatch(of, "an int", value))?,
    ))
}
