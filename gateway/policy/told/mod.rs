//! Answers to who can call what, and to what a change changes: in words for people, as values for programs.

pub(crate) mod destination;
mod difference;
mod let_in;
pub(crate) mod table;
mod token;
mod who;

pub use difference::{Said, Sides};
pub(crate) use let_in::LetIn;
pub use token::spec;
pub(crate) use who::{Who, access_table, by_name, cells, requests};
