//! Which identity a token is for, and the seam behind which tokens are fetched.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::StatusCode;

use crate::net::client::FetchError;
use crate::secret::Secret;

/// A token to hold ready: whose it is and whom it is for. Equal ones share a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ManagedIdentity {
    /// The resource whose token is wanted, exactly as the backend compares it: with or without a
    /// trailing slash is not the same audience.
    pub resource: String,
    /// Who asks for it.
    pub identity: Identity,
}

/// One of the identities that are assigned to where the gateway runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The one that was born with the app.
    System,
    /// A user-assigned one, by its client ID.
    ClientId(String),
    /// A user-assigned one, by the object ID of its service principal.
    ObjectId(String),
    /// A user-assigned one, by its Azure resource ID.
    ResourceId(String),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("the system-assigned identity"),
            Self::ClientId(id) => write!(f, "the identity with client ID {id}"),
            Self::ObjectId(id) => write!(f, "the identity with object ID {id}"),
            Self::ResourceId(id) => write!(f, "the identity {id}"),
        }
    }
}

impl fmt::Display for ManagedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.identity, self.resource)
    }
}

/// A token as it was issued.
#[derive(Clone, Debug)]
pub struct FetchedToken {
    /// The access token.
    pub token: Secret<String>,
    /// When it expires, since the Unix epoch.
    pub expires: Duration,
}

/// Where tokens come from: the seam that tests and clouds replace.
pub trait TokenSource: Send + Sync + 'static {
    /// Fetches a token afresh: a cache in between would answer a refresh with the old one. One
    /// attempt; whoever calls retries, and stops waiting after 20 s.
    fn fetch<'a>(
        &'a self,
        wanted: &'a ManagedIdentity,
    ) -> BoxFuture<'a, Result<FetchedToken, FetchFailure>>;

    /// Says at start, without asking anybody, whether this identity can never be had here.
    fn check(&self, wanted: &ManagedIdentity) -> Result<(), FetchFailure> {
        let _ = wanted;
        Ok(())
    }
}

/// Why there is no token, for operators. Holds nothing of a token or of a request.
#[derive(Debug)]
pub enum FetchFailure {
    /// This machine, or this kind of identity on it, is not supported; the text says what to do.
    Unsupported(String),
    /// The identity endpoint was not reached or did not answer.
    Unreachable(FetchError),
    /// The identity endpoint answered no.
    Refused(Refusal),
    /// The identity endpoint's answer is not a token response.
    Unreadable,
    /// The token has expired, or is about to, the moment it comes.
    AlreadyExpired,
    /// The attempt took too long.
    TimedOut,
    /// The attempt panicked: a fault in the gateway.
    Panicked,
}

/// How the identity endpoint says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of its answer.
    pub status: StatusCode,
    /// Its `error` code, such as `invalid_request`.
    pub code: Option<String>,
    /// When it wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the identity endpoint answered {}", self.status.as_u16())?;
        if let Some(code) = &self.code {
            write!(f, " ({code})")?;
        }
        // The usual reason, which the endpoint words in many ways.
        if self.status == StatusCode::BAD_REQUEST {
            f.write_str("; is the identity assigned to this resource?")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

impl FetchFailure {
    /// When the endpoint wants to be asked again, if it said.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::Unsupported(_)
            | Self::Unreachable(_)
            | Self::Unreadable
            | Self::AlreadyExpired
            | Self::TimedOut
            | Self::Panicked => None,
        }
    }
}

impl fmt::Display for FetchFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(text) => f.write_str(text),
            Self::Unreachable(cause) => write!(f, "the identity endpoint: {cause}"),
            Self::Refused(refusal) => fmt::Display::fmt(refusal, f),
            Self::Unreadable => {
                f.write_str("the identity endpoint's answer is not a token response")
            }
            Self::AlreadyExpired => {
                f.write_str("the identity endpoint's token has already expired")
            }
            Self::TimedOut => f.write_str("the identity endpoint did not answer in time"),
            Self::Panicked => f.write_str("fetching the token panicked"),
        }
    }
}

impl std::error::Error for FetchFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(cause) => Some(cause),
            Self::Refused(cause) => Some(cause),
            Self::Unsupported(_)
            | Self::Unreadable
            | Self::AlreadyExpired
            | Self::TimedOut
            | Self::Panicked => None,
        }
    }
}
