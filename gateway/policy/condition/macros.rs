//! The evaluation of macros over lists, and of every row of truths of which one may decide.

use super::Failure;
use super::evaluate::{Around, Evaluation, Scope, Stop, Valued, mismatch};
use super::field::Value;
use super::node::{Each, Macro};
use super::operate;

impl<'e> Evaluation<'e> {
    /// The value of a macro.
    pub(super) fn each(&mut self, each: &'e Each, around: Around<'_, 'e>) -> Valued<'e> {
        let list = self.value(&each.over, around)?;
        let Some(length) = operate::length(&list) else {
            return Err(mismatch(&each.over, "a list", &list));
        };
        match each.kind {
            Macro::All => self.quantify(each, &list, length, around, false),
            Macro::Exists => self.quantify(each, &list, length, around, true),
            Macro::ExistsOne => {
                let kept = self.keep(each, &list, length, around)?;
                Ok(Value::Bool(kept.len() == 1))
            }
            Macro::Filter | Macro::Map => Ok(Value::List(self.keep(each, &list, length, around)?)),
        }
    }

    /// `all` and `exists`: a long `&&` or `||`.
    fn quantify(
        &mut self,
        each: &'e Each,
        list: &Value<'e>,
        length: usize,
        around: Around<'_, 'e>,
        decides: bool,
    ) -> Valued<'e> {
        let mut verdict = Verdict::new(decides);
        for index in 0..length {
            let Some(item) = operate::item(list, index, &mut self.budget)? else {
                break;
            };
            let scope = Scope {
                value: &item,
                outer: around,
            };
            let truth = self.picks(each, &scope);
            if verdict.takes(truth)? {
                return Ok(Value::Bool(decides));
            }
        }
        Ok(Value::Bool(verdict.end()?))
    }

    /// `filter`, `map` and `exists_one`: what is kept of a list.
    fn keep(
        &mut self,
        each: &'e Each,
        list: &Value<'e>,
        length: usize,
        around: Around<'_, 'e>,
    ) -> Result<Vec<Value<'e>>, Stop> {
        let mut kept = Vec::new();
        for index in 0..length {
            let Some(item) = operate::item(list, index, &mut self.budget)? else {
                break;
            };
            let scope = Scope {
                value: &item,
                outer: around,
            };
            if !self.picks(each, &scope)? {
                continue;
            }
            kept.push(match &each.result {
                Some(result) => self.value(result, Some(&scope))?,
                None => item,
            });
        }
        Ok(kept)
    }

    fn picks(&mut self, each: &'e Each, scope: &Scope<'_, 'e>) -> Result<bool, Stop> {
        match &each.condition {
            Some(condition) => self.truth(condition, Some(scope)),
            None => Ok(true),
        }
    }
}

/// What is known so far of a row of truths of which one value decides.
pub(super) struct Verdict {
    decides: bool,
    stop: Option<Stop>,
}

impl Verdict {
    /// Nothing yet.
    pub(super) fn new(decides: bool) -> Verdict {
        Verdict {
            decides,
            stop: None,
        }
    }

    /// Takes the next truth. Whether it decides. An exhausted budget ends everything.
    pub(super) fn takes(&mut self, truth: Result<bool, Stop>) -> Result<bool, Stop> {
        match (truth, &self.stop) {
            (Ok(truth), _) => return Ok(truth == self.decides),
            (Err(Stop::Failed(Failure::Budget)), _) => return Err(Failure::Budget.into()),
            // What is unknown may yet decide, a failure may not: so the first outweighs the second.
            (Err(Stop::Unknown), _) => self.stop = Some(Stop::Unknown),
            (Err(failed), None) => self.stop = Some(failed),
            (Err(Stop::Failed(_)), Some(_)) => {}
        }
        Ok(false)
    }

    /// What comes of them when none has decided.
    pub(super) fn end(self) -> Result<bool, Stop> {
        self.stop.map_or(Ok(!self.decides), Err)
    }
}
