//! HTTP/1 from callers (RFC 9112). Heads, the lines of chunks and trailers are read strictly: what can be read in
//! two ways is refused, never repaired, so that nobody behind the gateway reads it otherwise. One task serves a
//! connection, and a request's body is read by whoever wants it.

mod answer;
mod authorizations;
mod body;
mod head;
mod line;

#[cfg(test)]
mod tests;

pub use authorizations::Authorizations;
pub use head::{Head, Heads, Wishes};

pub(super) use answer::Dates;
pub(super) use line::Line;
