//! What the gateway presents to backends. It is in memory ahead of need: a request never waits for
//! a token or a secret, save for the first, and never goes on without one or with an expired one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};

use crate::clock::Now;
use crate::denial::{Denial, Reason};
use crate::seal::Signed;
use crate::secret::Secret;

pub mod azure;
mod derived;
pub mod fixed;
mod refresh;
pub mod sas;
pub mod slot;
pub mod source;
pub mod store;
pub mod wanted;

pub use azure::AzureSource;
pub use derived::{Derived, Make};
pub use sas::SasQuery;
pub use slot::{Fault, Slot, Status, Unavailable};
pub use source::{FetchFailure, Fetched, Refusal, Source};
pub use store::Credentials;
pub use wanted::{Asked, Identity, Place, Proof, Wanted, WantedSecret, WantedToken};

/// The field in which Azure Functions takes its keys.
pub const FUNCTIONS_KEY: HeaderName = HeaderName::from_static("x-functions-key");
/// What a caller is told to wait when a credential is missing: about what the next attempt or two
/// to fetch it take.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What one backend wants to see.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Nothing, and somebody wrote that down.
    None,
    /// An Entra token, as `Authorization: Bearer`.
    Token(Arc<Slot>),
    /// A secret in a field of its own.
    Header {
        /// The field.
        name: HeaderName,
        /// The secret.
        value: Held<HeaderValue>,
    },
    /// The signature of a Logic App's SAS URL, in the query.
    Sas(Arc<Derived<SasQuery>>),
}

/// A secret that stands fast until the next reload, or one that is kept fresh.
#[derive(Clone, Debug)]
pub enum Held<T> {
    /// From a file or variable.
    Fixed(Secret<T>),
    /// From a key vault.
    Slot(Arc<Slot>),
}

impl<T> Held<T> {
    fn slot(&self) -> Option<&Arc<Slot>> {
        match self {
            Self::Fixed(_) => None,
            Self::Slot(slot) => Some(slot),
        }
    }
}

impl Credential {
    /// A key of an Azure Functions app.
    pub fn function_key(value: Held<HeaderValue>) -> Self {
        Self::Header {
            name: FUNCTIONS_KEY,
            value,
        }
    }

    /// The slot that it is kept fresh in, if it is.
    pub fn slot(&self) -> Option<&Arc<Slot>> {
        match self {
            Self::None => None,
            Self::Token(slot) => Some(slot),
            Self::Header { value, .. } => value.slot(),
            Self::Sas(query) => query.slots().next(),
        }
    }

    /// What to send with a request that came at `now`, to a URL that is `signed` by itself or not. Waits
    /// only while something is fetched for the first time, and no longer than `wait`.
    ///
    /// # Errors
    /// `CredentialUnavailable`.
    pub async fn present(
        &self,
        now: &Now,
        wait: Duration,
        signed: Signed,
    ) -> Result<Presented, Denial> {
        if self.yields_to(signed) {
            let name = match self {
                Self::Header { name, .. } => Some(name.clone()),
                Self::None | Self::Token(_) | Self::Sas(_) => None,
            };
            return Ok(Presented(Carried::InTheUrl(name)));
        }
        Ok(Presented(match self {
            Self::None => Carried::Nothing,
            Self::Token(slot) => {
                Carried::Field(header::AUTHORIZATION, field(slot, now, wait).await?)
            }
            Self::Header { name, value } => {
                let value = match value {
                    Held::Fixed(value) => sensitive(value.expose()),
                    Held::Slot(slot) => field(slot, now, wait).await?,
                };
                Carried::Field(name.clone(), value)
            }
            Self::Sas(query) => match query.ready(now, wait).await {
                Some(query) => Carried::Query(query),
                None => return Err(no_signature(query, now)),
            },
        }))
    }

    /// Whether the signature in the URL takes its place. A Logic App refuses a request with two of them;
    /// a Functions host would check `x-functions-key` and not the `code` beside it, while a token is for
    /// App Service's built-in authentication in front of the host, which knows no keys.
    fn yields_to(&self, signed: Signed) -> bool {
        match (signed, self) {
            (Signed::None, _) => false,
            (Signed::Alone, _) | (Signed::Durable, Self::None | Self::Sas(_)) => true,
            (Signed::Durable, Self::Header { name, .. }) => *name == FUNCTIONS_KEY,
            (Signed::Durable, Self::Token(_)) => false,
        }
    }

    /// The backend answered 401 to this credential. What is fetched is fetched anew, at most every 30 s; a
    /// fixed secret can do nothing about it.
    pub fn refused(&self) {
        if let Some(slot) = self.slot() {
            slot.refused();
        }
    }
}

async fn field(slot: &Slot, now: &Now, wait: Duration) -> Result<HeaderValue, Denial> {
    let field = slot.ready(now, wait).await;
    field.map_err(|why| denied(slot, &why.to_string()))
}

fn no_signature(query: &Derived<SasQuery>, now: &Now) -> Denial {
    let failed = query.slots().find_map(|slot| slot.status().fault(now));
    let why = query.fault(now).or_else(|| Some(failed?.why));
    Denial::from(Reason::CredentialUnavailable)
        .retry_after(RETRY_AFTER)
        .expected("a SAS signature", why.unwrap_or_default())
}

fn denied(slot: &Slot, why: &str) -> Denial {
    Denial::from(Reason::CredentialUnavailable)
        .retry_after(RETRY_AFTER)
        .expected(slot.wanted().to_string(), why)
}

/// The secret's own flag is not relied on: whoever made it may have forgotten.
fn sensitive(value: &HeaderValue) -> HeaderValue {
    let mut value = value.clone();
    value.set_sensitive(true);
    value
}

/// Proof that the backend's credential was taken care of, and what carries it, if anything does.
/// Only [`Credential::present`] makes it.
#[must_use = "the request has to carry it"]
pub struct Presented(Carried);

/// What carries a credential.
pub enum Carried {
    /// There is none.
    Nothing,
    /// The URL is signed already. A field of this name would carry the credential otherwise; the caller's own
    /// must not take its place.
    InTheUrl(Option<HeaderName>),
    /// A field to set on the request, replacing what stands there. The value is marked sensitive.
    Field(HeaderName, HeaderValue),
    /// Parameters to add to the query.
    Query(Arc<SasQuery>),
}

impl Presented {
    /// Whether a credential goes along, so that a 401 of the backend's is an answer to it.
    pub fn carries(&self) -> bool {
        !matches!(self.0, Carried::Nothing)
    }

    /// Whether it is the gateway's own, which can be fetched anew.
    pub fn is_own(&self) -> bool {
        matches!(self.0, Carried::Field(..) | Carried::Query(_))
    }

    /// The name of the field that carries it, or would if the URL did not.
    pub fn name(&self) -> Option<&HeaderName> {
        match &self.0 {
            Carried::Field(name, _) | Carried::InTheUrl(Some(name)) => Some(name),
            Carried::Nothing | Carried::InTheUrl(None) | Carried::Query(_) => None,
        }
    }

    /// What the request has to carry.
    pub fn into_carried(self) -> Carried {
        self.0
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name().map(HeaderName::as_str);
        f.debug_tuple("Presented").field(&name).finish()
    }
}

#[cfg(test)]
mod tests;
