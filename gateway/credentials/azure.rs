//! Managed identities through Azure's own crate: App Service, Functions and Container Apps where
//! the environment names IDENTITY_ENDPOINT and IDENTITY_HEADER, else IMDS. The crate decides whom
//! to ask and how; the bytes go over the gateway's own client.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::{AccessToken, TokenCredential};
use azure_core::error::ErrorKind;
use azure_core::http::headers::Headers;
use azure_core::http::{
    AsyncRawResponse, Body, ClientOptions, HttpClient, Request as AzureRequest,
    StatusCode as AzureStatus, Transport, Url,
};
use azure_identity::{ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::RETRY_AFTER;
use http::{Request, Response};
use rustls::ClientConfig;
use serde::Deserialize;

use super::identity::{
    FetchFailure, FetchedToken, Identity, ManagedIdentity, Refusal, TokenSource,
};
use crate::net::address::{Resolver, is_loopback};
use crate::net::client::{Bounds, Client, FetchError};
use crate::secret::Secret;

/// The address of IMDS, the same on every Azure machine.
const IMDS: &str = "169.254.169.254";
/// IMDS and its cousins answer within milliseconds from their cache, within seconds otherwise.
const BOUNDS: Bounds = Bounds {
    timeout: Duration::from_secs(10),
    max_body: 64 * 1024,
};

/// The managed identities of the machine.
#[derive(Debug)]
pub struct AzureIdentity {
    transport: Arc<Door>,
}

impl AzureIdentity {
    /// Those that the platform offers here. `tls` is for an identity endpoint on https, which is
    /// rare: they are on loopback or link-local addresses.
    pub fn new(tls: &ClientConfig, resolver: Arc<dyn Resolver>) -> Self {
        Self {
            transport: Arc::new(Door {
                client: Client::new(tls, resolver).allow_plain_link_local(),
                imds: None,
            }),
        }
    }

    /// Sends what is meant for IMDS to this loopback address instead. For tests and the demo: the
    /// crate knows one address of IMDS. `None` if the address is not loopback, as a token source
    /// elsewhere would hand the gateway whatever it likes.
    pub fn with_imds_at(
        tls: &ClientConfig,
        resolver: Arc<dyn Resolver>,
        imds: SocketAddr,
    ) -> Option<Self> {
        is_loopback(imds.ip()).then(|| Self {
            transport: Arc::new(Door {
                client: Client::new(tls, resolver),
                imds: Some(imds),
            }),
        })
    }

    /// A credential for one fetch. The crate's credentials keep a token until five minutes before
    /// its end and would answer an earlier refresh with the old one; a fresh one has nothing kept.
    fn credential(
        &self,
        identity: &Identity,
    ) -> Result<Arc<ManagedIdentityCredential>, FetchFailure> {
        let options = ManagedIdentityCredentialOptions {
            user_assigned_id: user_assigned(identity),
            client_options: ClientOptions {
                transport: Some(Transport::new(self.transport.clone())),
                ..ClientOptions::default()
            },
        };
        // This far the crate has read the environment and spoken with nobody: its words are safe.
        ManagedIdentityCredential::new(Some(options))
            .map_err(|cause| FetchFailure::Unsupported(cause.to_string()))
    }

    async fn token(&self, wanted: &ManagedIdentity) -> Result<FetchedToken, FetchFailure> {
        // The crate calls it a scope, and sends it as the resource as it stands.
        let token = self
            .credential(&wanted.identity)?
            .get_token(&[&wanted.resource], None)
            .await
            .map_err(failure)?;
        fetched(&token)
    }
}

impl TokenSource for AzureIdentity {
    fn fetch<'a>(
        &'a self,
        wanted: &'a ManagedIdentity,
    ) -> BoxFuture<'a, Result<FetchedToken, FetchFailure>> {
        Box::pin(self.token(wanted))
    }

    fn check(&self, wanted: &ManagedIdentity) -> Result<(), FetchFailure> {
        self.credential(&wanted.identity).map(drop)
    }
}

fn user_assigned(identity: &Identity) -> Option<UserAssignedId> {
    match identity {
        Identity::System => None,
        Identity::ClientId(id) => Some(UserAssignedId::ClientId(id.clone())),
        Identity::ObjectId(id) => Some(UserAssignedId::ObjectId(id.clone())),
        Identity::ResourceId(id) => Some(UserAssignedId::ResourceId(id.clone())),
    }
}

fn fetched(token: &AccessToken) -> Result<FetchedToken, FetchFailure> {
    let expires = u64::try_from(token.expires_on.unix_timestamp());
    Ok(FetchedToken {
        token: Secret::new(token.token.secret().to_owned()),
        expires: Duration::from_secs(expires.map_err(|_| FetchFailure::AlreadyExpired)?),
    })
}

/// Finds the gateway's own error within the crate's. Of the rest nothing is quoted: a parser's
/// complaint may hold a piece of the token.
fn failure(error: azure_core::Error) -> FetchFailure {
    match error.into_downcast::<Refused>() {
        Ok(Refused::Unreachable(cause)) => FetchFailure::Unreachable(cause),
        Ok(Refused::Answer(refusal)) => FetchFailure::Refused(refusal),
        Err(outer) => match outer.into_downcast::<azure_core::Error>() {
            Ok(inner) => failure(inner),
            Err(_) => FetchFailure::Unreadable,
        },
    }
}

/// The way out: the crate's requests over the gateway's client.
#[derive(Debug)]
struct Door {
    client: Client,
    imds: Option<SocketAddr>,
}

impl Door {
    async fn pass(&self, request: &AzureRequest) -> azure_core::Result<AsyncRawResponse> {
        let request = self.outgoing(request).map_err(stop)?;
        let answer = self.client.send(request, BOUNDS).await;
        let answer = answer.map_err(|cause| stop(Refused::Unreachable(cause)))?;
        if !answer.status().is_success() {
            return Err(stop(Refused::Answer(refusal(&answer))));
        }
        Ok(AsyncRawResponse::from_bytes(
            AzureStatus::from(answer.status().as_u16()),
            Headers::new(),
            answer.into_body(),
        ))
    }

    fn outgoing(&self, request: &AzureRequest) -> Result<Request<Bytes>, Refused> {
        let Body::Bytes(body) = request.body() else {
            return Err(BAD_REQUEST);
        };
        let mut outgoing = Request::builder()
            .method(request.method().as_str())
            .uri(self.redirected(request.url()).as_str());
        for (name, value) in request.headers().iter() {
            outgoing = outgoing.header(name.as_str(), value.as_str());
        }
        outgoing.body(body.clone()).map_err(|_| BAD_REQUEST)
    }

    fn redirected(&self, url: &Url) -> Url {
        let mut url = url.clone();
        if let Some(imds) = self.imds
            && url.host_str() == Some(IMDS)
        {
            // Neither can fail for an http URL with a host; if it did, IMDS would be asked, and the
            // client refuses plain http to it.
            let _ = url.set_ip_host(imds.ip());
            let _ = url.set_port(Some(imds.port()));
        }
        url
    }
}

const BAD_REQUEST: Refused = Refused::Unreachable(FetchError::BadRequest(
    "the request for a token cannot be sent",
));

impl HttpClient for Door {
    // As `async_trait` writes it, which the trait was made with.
    fn execute_request<'a, 'b, 'c>(
        &'a self,
        request: &'b AzureRequest,
    ) -> Pin<Box<dyn Future<Output = azure_core::Result<AsyncRawResponse>> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(self.pass(request))
    }
}

/// Why a request brought no token response, on its way through the crate.
#[derive(Debug)]
enum Refused {
    Unreachable(FetchError),
    Answer(Refusal),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(cause) => fmt::Display::fmt(cause, f),
            Self::Answer(refusal) => fmt::Display::fmt(refusal, f),
        }
    }
}

impl StdError for Refused {}

/// An error of a kind that the crate does not retry. Its own retries sleep by a thread each, on a
/// clock that tests cannot move, for up to 72 s; the loop in `refresh` retries instead.
fn stop(refused: Refused) -> azure_core::Error {
    azure_core::Error::new(ErrorKind::Other, refused)
}

fn refusal(answer: &Response<Bytes>) -> Refusal {
    #[derive(Deserialize)]
    struct Problem {
        error: String,
    }
    let problem: Option<Problem> = serde_json::from_slice(answer.body()).ok();
    let seconds = answer.headers().get(RETRY_AFTER);
    let seconds = seconds.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Refusal {
        status: answer.status(),
        code: problem
            .map(|problem| problem.error)
            .filter(|code| is_code(code)),
        retry_after: seconds.map(Duration::from_secs),
    }
}

/// Codes are short words; what is not one does not reach the log.
fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

#[cfg(test)]
mod tests;
