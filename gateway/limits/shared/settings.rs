//! Where the shared store is, how to sign in there, and what holds while it cannot be reached.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::link::LinkError;
pub use crate::files::{OnStoreFailure, RedisNode as Node};
use crate::net::tls::Roots;
use crate::secret::Secret;

/// Settings of a shared store.
#[derive(Clone)]
pub struct Settings {
    /// The server; of a cluster, one of its nodes.
    pub node: Node,
    /// Whether it is a cluster.
    pub cluster: bool,
    /// Whose certificates are believed.
    pub roots: Roots,
    /// How long a request waits for the store.
    pub timeout: Duration,
    /// What all keys begin with: gateways with one prefix share their limits. Without `{` and `}`.
    pub prefix: String,
    /// How to sign in, if one has to.
    pub authentication: Option<Arc<dyn Authentication>>,
    /// What holds while the store cannot be reached.
    pub on_failure: OnStoreFailure,
    /// This many meters are kept in memory at most. Beyond it, new ones of one rate are counted as one.
    pub most_meters: usize,
}

/// Where the user and the password come from. They may change: a token does, every few hours.
pub trait Authentication: Send + Sync {
    /// Who signs in by now, and the password or token. An empty user is the default one. `None` while there is
    /// no token yet.
    fn current(&self) -> Option<(String, Secret<String>)>;
}

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SignIn {
    pub(super) user: String,
    pub(super) password: Secret<String>,
}

impl Settings {
    /// Settings with the defaults: a request waits 100 ms, and each replica keeps to its share in a failure.
    pub fn new(node: Node) -> Self {
        Self {
            node,
            cluster: false,
            roots: Roots::Platform,
            timeout: Duration::from_millis(100),
            prefix: "portcullis".to_owned(),
            authentication: None,
            on_failure: OnStoreFailure::LocalShare,
            most_meters: 100_000,
        }
    }

    /// How to sign in by now. `Err` while nobody can.
    pub(super) fn sign_in(&self) -> Result<Option<SignIn>, LinkError> {
        let Some(authentication) = &self.authentication else {
            return Ok(None);
        };
        let (user, password) = authentication.current().ok_or(LinkError::NoSignIn)?;
        Ok(Some(SignIn { user, password }))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("node", &self.node)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_not_printed_with_what_signs_in() {
        struct Fixed;
        impl Authentication for Fixed {
            fn current(&self) -> Option<(String, Secret<String>)> {
                Some(("user".to_owned(), Secret::new("hunter2".to_owned())))
            }
        }
        let node = Node {
            host: "a.example".to_owned(),
            port: 6379,
            tls: true,
        };
        let mut settings = Settings::new(node);
        settings.authentication = Some(Arc::new(Fixed));
        let signs_in = settings.sign_in().expect("somebody").expect("signs in");
        assert_eq!(signs_in.password.expose(), "hunter2");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
