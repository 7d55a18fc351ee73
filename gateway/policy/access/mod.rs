//! The algebra of access: who may call, as a union of products of sets. Pure and exact: what is computed
//! is neither more nor less than what the rules say, or it is not answered ([`TooComplex`]).

mod cube;
mod ranges;
mod region;
mod set;

#[cfg(test)]
mod tests;

pub use cube::{Atom, Cube, Pieces, Point, TokenPoint};
pub use ranges::{Number, Ranges};
pub use region::{Region, TooComplex};
pub use set::{Mask, Set, masks};
