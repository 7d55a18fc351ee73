//! Policy: compiled rules that match, decide and enforce. Pure: no input or output, no clock.
//!
//! The types carry the proof: only [`Policy::find`] makes a [`Matched`], only [`Matched::decide`] a
//! [`Decision`], only [`Decision::enforce`] an [`Authorized`], and `upstream` asks for that.

pub mod access;
pub mod condition;

mod always;
mod back_door;
mod callers;
mod circumstances;
mod compile;
mod decide;
mod difference;
pub mod explain;
mod follow;
mod method;
mod named;
mod names;
mod path;
mod pattern;
mod reach;
mod refusal;
mod review;
mod rewrite;
mod routes;
mod rule;
mod rule_set;
mod rules;
pub mod told;
mod tree;
mod witness;
pub mod words;

#[cfg(test)]
mod tests;

pub use circumstances::{Circumstances, Known};
pub use compile::compile;
pub use decide::{Authorized, Decision, Grounds, Refusal, Rehearsed, Upgrade};
pub use difference::{Change, Difference, Kept, Unfinished, difference};
pub use method::MethodSet;
pub use named::{Meanings, Named, Register};
pub use pattern::{some_host, some_path};
pub use review::{review, review_uncertified};
pub use routes::{
    BackendId, Matched, Policy, Route, RouteId, SealsBody, Taken, Unmatched, Unrouted,
};
pub use rule::{Clause, Effect, Ids, Network, Rule, RuleId, Undecided, Verdict, Wanted};
pub use rule_set::RuleSet;
pub use witness::{Witness, witnesses};
