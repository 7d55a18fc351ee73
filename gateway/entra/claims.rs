//! The claims of a principal beyond those that have fields of their own. Of a token that was verified, only
//! those are kept that the policy asks for: there are many tokens, and most policies ask for nothing more.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::json::Object;

/// The names of claims, in order.
pub type ClaimNames = Arc<[Box<str>]>;

/// Claims by name.
pub(super) struct Claims {
    /// Those that were kept if the token has them; `None` for all.
    of: Option<ClaimNames>,
    values: Map<String, Value>,
}

impl Claims {
    /// Those of these names.
    pub(super) fn some(claims: &Object<'_>, names: &ClaimNames) -> Self {
        let value = |name: &str| Some((name.to_owned(), claims.get(name)?.to_value()));
        Self {
            of: Some(Arc::clone(names)),
            values: names.iter().filter_map(|name| value(name)).collect(),
        }
    }

    /// All of them.
    pub(super) fn every(claims: &Object<'_>) -> Self {
        Self {
            of: None,
            values: claims.to_map(),
        }
    }

    /// Whether it would hold a claim of this name.
    pub(super) fn knows(&self, name: &str) -> bool {
        let of = self.of.as_deref();
        of.is_none_or(|of| of.binary_search_by(|own| (**own).cmp(name)).is_ok())
    }

    /// The same of all these names.
    pub(super) fn knows_all(&self, names: &ClaimNames) -> bool {
        let same = self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, names));
        same || names.iter().all(|name| self.knows(name))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }
}
