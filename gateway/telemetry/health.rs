//! How it stands with what is to be told: which logs cannot be written, and which places take nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// By the name of a check of readiness.
#[derive(Debug, Default)]
pub struct Health(Mutex<BTreeMap<&'static str, Standing>>);

/// How one of them stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether requests are refused without it.
    pub required: bool,
    /// What is wrong.
    pub fault: Option<String>,
}

impl Health {
    /// Watches one from now on.
    pub(super) fn watch(&self, name: &'static str, required: bool) {
        let standing = Standing {
            required,
            fault: None,
        };
        self.held().insert(name, standing);
    }

    /// It fails.
    pub(super) fn fails(&self, name: &'static str, why: &str) {
        if let Some(standing) = self.held().get_mut(name) {
            standing.fault = Some(why.to_owned());
        }
    }

    /// It is well again.
    pub(super) fn recovers(&self, name: &'static str) {
        if let Some(standing) = self.held().get_mut(name) {
            standing.fault = None;
        }
    }

    /// All that are watched.
    pub fn standings(&self) -> BTreeMap<&'static str, Standing> {
        self.held().clone()
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<&'static str, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
