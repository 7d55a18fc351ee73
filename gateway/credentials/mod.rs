//! What the gateway presents to backends. It is in memory ahead of need: a request never waits for
//! a token, save for the first, and never goes on without one or with an expired one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};

use crate::clock::Now;
use crate::denial::{Denial, Reason};
use crate::secret::Secret;

pub mod azure;
pub mod fixed;
pub mod identity;
mod refresh;
pub mod slot;
pub mod store;

pub use azure::AzureIdentity;
pub use identity::{FetchFailure, FetchedToken, Identity, ManagedIdentity, TokenSource};
pub use slot::{Slot, Status, Unavailable};
pub use store::Credentials;

/// The field in which Azure Functions takes its keys.
pub const FUNCTIONS_KEY: HeaderName = HeaderName::from_static("x-functions-key");
/// What a caller is told to wait when a credential is missing: about what the next attempt or two
/// to fetch it take.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What one backend wants to see.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Nothing, and somebody wrote that down.
    None,
    /// An Entra token of a managed identity, as `Authorization: Bearer`.
    ManagedIdentity(Arc<Slot>),
    /// A secret in a field of its own.
    Header {
        /// The field.
        name: HeaderName,
        /// The secret.
        value: Secret<HeaderValue>,
    },
}

impl Credential {
    /// A key of an Azure Functions app.
    pub fn function_key(value: Secret<HeaderValue>) -> Self {
        Self::Header {
            name: FUNCTIONS_KEY,
            value,
        }
    }

    /// What to send with a request that came at `now`. Waits only for a managed identity whose
    /// first token is still being fetched, and no longer than `wait`.
    pub async fn present(&self, now: &Now, wait: Duration) -> Result<Presented, Denial> {
        Ok(Presented(match self {
            Self::None => None,
            Self::ManagedIdentity(slot) => {
                let bearer = slot.ready(now, wait).await;
                Some((
                    header::AUTHORIZATION,
                    bearer.map_err(|why| denied(slot, &why))?,
                ))
            }
            Self::Header { name, value } => Some((name.clone(), sensitive(value.expose()))),
        }))
    }

    /// The backend answered 401 to this credential. A managed identity asks for a new token, at most
    /// every 30 s; a fixed secret can do nothing about it.
    pub fn refused(&self) {
        match self {
            Self::ManagedIdentity(slot) => slot.refused(),
            Self::None | Self::Header { .. } => {}
        }
    }
}

fn denied(slot: &Slot, why: &Unavailable) -> Denial {
    Denial::from(Reason::CredentialUnavailable)
        .retry_after(RETRY_AFTER)
        .expected(format!("a token of {}", slot.wanted()), why.to_string())
}

/// The secret's own flag is not relied on: whoever made it may have forgotten.
fn sensitive(value: &HeaderValue) -> HeaderValue {
    let mut value = value.clone();
    value.set_sensitive(true);
    value
}

/// Proof that the backend's credential was taken care of, and the field that carries it, if any.
/// Only [`Credential::present`] makes it.
#[must_use = "the request has to carry it"]
pub struct Presented(Option<(HeaderName, HeaderValue)>);

impl Presented {
    /// Whether a credential goes along, so that a 401 of the backend's is an answer to it.
    pub fn carries(&self) -> bool {
        self.0.is_some()
    }

    /// The name of the field that carries it, if any.
    pub fn name(&self) -> Option<&HeaderName> {
        self.0.as_ref().map(|(name, _)| name)
    }

    /// The field to set on the request, replacing what stands there. The value is marked sensitive.
    pub fn into_field(self) -> Option<(HeaderName, HeaderValue)> {
        self.0
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.as_ref().map(|(name, _)| name.as_str());
        f.debug_tuple("Presented").field(&name).finish()
    }
}

#[cfg(test)]
mod tests;
