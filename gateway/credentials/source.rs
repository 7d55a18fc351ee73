//! The seam behind which tokens and secrets are fetched, and how a fetch fails.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::StatusCode;

use super::wanted::{Asked, Wanted};
use crate::net::client::FetchError;
use crate::secret::Secret;

/// A token or secret as it came.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The access token, or the secret's value.
    pub secret: Secret<String>,
    /// When it expires, since the Unix epoch; `None` for a secret, which is good until another comes.
    pub expires: Option<Duration>,
    /// When the issuer wants a new one to be fetched (`refresh_in`), from now.
    pub refresh_in: Option<Duration>,
}

/// What a fetch needs that another slot or a file holds: an app's secret or certificate, or a token to
/// show to a key vault.
pub type Needed = Option<Secret<String>>;

/// Where tokens and secrets come from: the seam that tests and clouds replace.
pub trait Source: Send + Sync + 'static {
    /// Fetches something afresh: a cache in between would answer a refresh with the old one. One
    /// attempt; whoever calls retries, and stops waiting after 20 s.
    fn fetch<'a>(
        &'a self,
        wanted: &'a Wanted,
        needed: Needed,
    ) -> BoxFuture<'a, Result<Fetched, FetchFailure>>;

    /// Says at start, without asking anybody, whether this can never be had here.
    ///
    /// # Errors
    /// What to write instead.
    fn check(&self, wanted: &Wanted) -> Result<(), FetchFailure> {
        let _ = wanted;
        Ok(())
    }
}

/// Why there is no token or secret, for operators. Holds nothing of either, or of a request.
#[derive(Debug)]
pub enum FetchFailure {
    /// This machine, or this kind of identity on it, is not supported; the text says what to do.
    Unsupported(String),
    /// What the fetch needs is not to be had; the text says why.
    Needs(String),
    /// Whoever was asked was not reached or did not answer.
    Unreachable(FetchError),
    /// They answered no.
    Refused(Refusal),
    /// The answer is not what was asked for.
    Unreadable,
    /// The token has expired, or is about to, the moment it comes.
    AlreadyExpired,
    /// The attempt took too long.
    TimedOut,
    /// The attempt panicked: a fault in the gateway.
    Panicked,
}

/// How the answer says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of its answer.
    pub status: StatusCode,
    /// Its error code, such as `invalid_request`, or several: `Forbidden SecretDisabled`.
    pub code: Option<String>,
    /// When it wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl FetchFailure {
    /// When they want to be asked again, if they said.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::Unsupported(_)
            | Self::Needs(_)
            | Self::Unreachable(_)
            | Self::Unreadable
            | Self::AlreadyExpired
            | Self::TimedOut
            | Self::Panicked => None,
        }
    }

    /// Whether asking again changes nothing until somebody has changed something. IMDS answers 404 and 410
    /// while it is being updated; 429 and what follows 500 pass everywhere.
    /// <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#retry-guidance>
    pub fn is_final(&self, asked: Asked) -> bool {
        match self {
            Self::Unsupported(_) => true,
            Self::Refused(refusal) => {
                let passing: &[u16] = match asked {
                    Asked::IdentityEndpoint => &[404, 408, 410, 429],
                    Asked::Entra | Asked::KeyVault => &[408, 429],
                };
                refusal.status.is_client_error() && !passing.contains(&refusal.status.as_u16())
            }
            Self::Needs(_)
            | Self::Unreachable(_)
            | Self::Unreadable
            | Self::AlreadyExpired
            | Self::TimedOut
            | Self::Panicked => false,
        }
    }

    /// In words, of whom was asked.
    pub fn words(&self, asked: Asked) -> String {
        match self {
            Self::Unsupported(text) | Self::Needs(text) => text.clone(),
            Self::Unreachable(cause) => format!("{asked}: {cause}"),
            Self::Refused(refusal) => refusal.words(asked),
            Self::Unreadable => format!("{asked} gave an answer that cannot be read"),
            Self::AlreadyExpired => format!("{asked} gave a token that has already expired"),
            Self::TimedOut => format!("{asked} did not answer in time"),
            Self::Panicked => "fetching it panicked".to_owned(),
        }
    }
}

impl Refusal {
    fn words(&self, asked: Asked) -> String {
        let status = self.status.as_u16();
        let code = self.code.as_deref();
        let mut text = format!("{asked} answered {status}");
        if let Some(code) = code {
            text.push_str(&format!(" ({code})"));
        }
        let disabled = code.is_some_and(|code| code.contains("SecretDisabled"));
        text.push_str(match (asked, status) {
            // The usual reason, which the endpoint words in many ways.
            (Asked::IdentityEndpoint, 400) => "; is the identity assigned to this resource?",
            (Asked::KeyVault, 403) if disabled => "; enable the secret again, or name another",
            (Asked::KeyVault, 401 | 403) => {
                "; has the identity the role Key Vault Secrets User, and may this network read the vault?"
            }
            (Asked::KeyVault, 404) => "; there is no such secret, or it was deleted",
            _ => "",
        });
        text
    }
}

impl fmt::Display for FetchFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words(Asked::IdentityEndpoint))
    }
}

impl std::error::Error for FetchFailure {}
