//! Policy: compiled rules that match, decide and enforce. Pure: no input or output, no clock.
//!
//! The types carry the proof: only [`Policy::find`] makes a [`Matched`], only [`Matched::decide`] a
//! [`Decision`], only [`Decision::enforce`] an [`Authorized`], and `upstream` asks for that.

mod compile;
pub mod condition;
mod decide;
mod method;
mod path;
mod rewrite;
mod routes;

#[cfg(test)]
mod tests;

pub use compile::compile;
pub use decide::{Authorized, Decision, Grounds};
pub use method::MethodSet;
pub use routes::{Access, BackendId, Matched, Policy, Route, RouteId, Rule, Unmatched};
