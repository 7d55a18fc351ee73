//! The claims of a principal beyond those that have fields of their own. Most policies ask for none of
//! them, so they are kept as the token writes them, and read when somebody asks.

use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::json;

/// Every claim of a token.
pub(super) struct Claims {
    written: Box<str>,
    read: OnceLock<Map<String, Value>>,
}

impl Claims {
    /// Claims that were found to be good, as JSON.
    pub(super) fn written(text: &str) -> Self {
        Self {
            written: text.into(),
            read: OnceLock::new(),
        }
    }

    /// Claims that are read already.
    pub(super) fn read(claims: Map<String, Value>) -> Self {
        Self {
            written: Box::default(),
            read: claims.into(),
        }
    }

    pub(super) fn all(&self) -> &Map<String, Value> {
        self.read.get_or_init(|| {
            // INVARIANT: the text was parsed before, by the same function.
            let claims = json::object(&self.written);
            claims.map(|claims| claims.to_map()).unwrap_or_default()
        })
    }
}
