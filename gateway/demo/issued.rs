//! The tokens that the demo's Azure has handed out. Its backends look them up instead of verifying
//! them, for they ask one thing alone: whether a token is for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::lock;
use crate::ids::random_u128;

/// The system-assigned identity, as [`Issued::identity`] names it.
pub const SYSTEM: &str = "system";

/// The tokens that were issued, by their text: what each is for, and whose it is.
#[derive(Clone, Default)]
pub struct Issued(Arc<Mutex<HashMap<String, Grant>>>);

struct Grant {
    resource: String,
    identity: String,
}

impl Issued {
    /// What a token is for, if it was issued here.
    pub fn resource(&self, token: &str) -> Option<String> {
        lock(&self.0).get(token).map(|grant| grant.resource.clone())
    }

    /// Whose a token is, if it was issued here: [`SYSTEM`], the value by which a managed identity
    /// was selected, or an app's client ID.
    pub fn identity(&self, token: &str) -> Option<String> {
        lock(&self.0).get(token).map(|grant| grant.identity.clone())
    }

    /// Every token, and what it is for.
    pub fn tokens(&self) -> Vec<(String, String)> {
        let issued = lock(&self.0);
        let pairs = issued.iter();
        pairs
            .map(|(token, grant)| (token.clone(), grant.resource.clone()))
            .collect()
    }

    /// Writes down a token that another part of the demo has made.
    pub(super) fn register(&self, token: &str, resource: &str, identity: &str) {
        let grant = Grant {
            resource: resource.to_owned(),
            identity: identity.to_owned(),
        };
        lock(&self.0).insert(token.to_owned(), grant);
    }

    /// A managed identity's token.
    pub(super) fn issue(&self, resource: &str, identity: &str) -> String {
        let token = format!("demo.{:032x}.managed-identity", random_u128());
        self.register(&token, resource, identity);
        token
    }
}
