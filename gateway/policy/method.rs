//! The methods that a route may list, as a set in one byte.

use http::Method;

/// Every method that the gateway forwards. What is not here has no bit and matches no route.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// How many methods there are.
pub(super) const COUNT: usize = METHODS.len();

/// A set of methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MethodSet(u8);

impl MethodSet {
    /// Every method that the gateway forwards.
    pub const fn all() -> Self {
        Self((1 << COUNT) - 1)
    }

    /// Adds a method. False if it is none that the gateway forwards.
    pub fn insert(&mut self, method: &Method) -> bool {
        let Some(slot) = slot(method) else {
            return false;
        };
        self.0 |= 1 << slot;
        true
    }

    /// The methods of either set.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether no method is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The methods, in the order of the table above.
    pub fn methods(self) -> impl Iterator<Item = Method> {
        METHODS
            .into_iter()
            .enumerate()
            .filter(move |(slot, _)| self.0 & (1 << slot) != 0)
            .map(|(_, method)| method)
    }
}

/// The place of a method in a table of [`COUNT`].
pub(super) fn slot(method: &Method) -> Option<usize> {
    METHODS.iter().position(|known| known == method)
}
