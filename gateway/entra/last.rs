//! The token that a connection brought last. Most bring the same one again and again: then neither is it looked
//! through nor hashed.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;

use super::principal::Principal;
use super::rules::TokenRules;
use super::verify::Verified;
use crate::clock::Now;
use crate::denial::{Denial, Reason};
use crate::secret::Secret;

/// A token that was verified. Whether it passes is asked anew each time.
#[derive(Clone)]
pub struct Known {
    verified: Arc<Verified>,
    /// Of the token, in bytes.
    length: usize,
    lookup: Lookup,
}

/// How a token was found to be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It came on the connection before.
    Connection,
    /// It was verified before.
    Cache,
    /// Its signature was verified.
    Verified,
    /// It was not.
    Refused,
}

impl Lookup {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Connection, Self::Cache, Self::Verified, Self::Refused];

    /// The value of the label `outcome`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Cache => "cache",
            Self::Verified => "verified",
            Self::Refused => "refused",
        }
    }
}

impl Known {
    pub(super) fn new(verified: Arc<Verified>, length: usize, lookup: Lookup) -> Self {
        Self {
            verified,
            length,
            lookup,
        }
    }

    /// How it was found.
    pub fn lookup(&self) -> Lookup {
        self.lookup
    }

    /// The principal that it proves, by what may have changed since. `None` if that has to be found out as if
    /// the token had never been seen: its key is listed no more, or more is asked for than was kept.
    pub fn admit(&self, rules: &TokenRules, now: &Now) -> Option<Result<Arc<Principal>, Denial>> {
        if self.length > rules.longest_token || !self.verified.suffices(rules) {
            return None;
        }
        match self.verified.admit(rules, now) {
            Err(denial) if denial.reason() == Reason::KeyUnknown => None,
            outcome => Some(outcome.cloned()),
        }
    }
}

/// The token of a connection's last request, by the `Authorization` that brought it.
#[derive(Default)]
pub struct LastToken(RefCell<Option<(Secret<Bytes>, Known)>>);

impl LastToken {
    /// What is known of this `Authorization`, if it is the last one, byte for byte.
    pub fn known(&self, authorization: &Secret<Bytes>) -> Option<Known> {
        let last = self.0.borrow();
        let (brought, known) = last.as_ref()?;
        is_same(brought, authorization).then(|| known.clone())
    }

    /// Keeps what was found out, in place of what was kept before.
    pub fn keep(&self, authorization: &Secret<Bytes>, known: Known) {
        *self.0.borrow_mut() = Some((authorization.clone(), known));
    }
}

/// Whether both hold the same bytes. Who read the request may have found that already, and hand over the very ones.
fn is_same(one: &Secret<Bytes>, other: &Secret<Bytes>) -> bool {
    let (one, other) = (one.expose(), other.expose());
    let is_one = one.as_ptr() == other.as_ptr() && one.len() == other.len();
    is_one || one == other
}
