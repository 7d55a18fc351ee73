//! The way out: the crates' requests over the gateway's client. A door stands for the life of the
//! process; each fetch passes it by a passage of its own, which remembers what the crates do not read.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use azure_core::credentials::AccessToken;
use azure_core::error::ErrorKind;
use azure_core::http::headers::{HeaderName, Headers};
use azure_core::http::{
    AsyncRawResponse, Body, HttpClient, Request as AzureRequest, StatusCode as AzureStatus, Url,
};
use bytes::Bytes;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use serde_json::Value;

use super::super::source::{Fetched, Refusal};
use super::PATIENCE;
use super::answer::{self, Lifetime};
use crate::clock::Clock;
use crate::net::client::{Bounds, Client, FetchError};
use crate::secret::Secret;

/// The address of IMDS, the same on every Azure machine.
const IMDS: &str = "169.254.169.254";
/// Identity endpoints answer within milliseconds from their cache, within seconds otherwise.
pub(super) const BOUNDS: Bounds = Bounds {
    timeout: PATIENCE,
    max_body: 256 * 1024,
};

/// Who is behind a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Metadata,
    Entra,
    Vault,
}

/// The way to one service.
pub(super) struct Door {
    pub(super) kind: Kind,
    pub(super) client: Client,
    /// Where what is meant for IMDS goes, in tests.
    pub(super) imds: Option<SocketAddr>,
    pub(super) clock: Arc<dyn Clock>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Door").field(&self.kind).finish()
    }
}

/// One fetch through a door.
#[derive(Debug)]
pub(super) struct Passage {
    door: Arc<Door>,
    /// `client_id` is a resource ID, and has to be called `mi_res_id`.
    by_resource: bool,
    lifetime: Mutex<Lifetime>,
}

impl Passage {
    pub(super) fn new(door: Arc<Door>, by_resource: bool) -> Arc<Self> {
        Arc::new(Self {
            door,
            by_resource,
            lifetime: Mutex::default(),
        })
    }

    /// The token that came this way, with what the crate does not tell of it. The crate reckons by the
    /// system's clock where an answer says how long a token lives; here the gateway's own counts.
    pub(super) fn fetched(&self, token: &AccessToken) -> Fetched {
        let lifetime = *self.lifetime.lock().unwrap_or_else(PoisonError::into_inner);
        let written = u64::try_from(token.expires_on.unix_timestamp()).unwrap_or_default();
        let now = self.door.clock.now().unix;
        let expires = match lifetime.expires_in {
            Some(lives) => now + lives,
            None => Duration::from_secs(written),
        };
        Fetched {
            secret: Secret::new(token.token.secret().to_owned()),
            expires: Some(expires),
            refresh_in: lifetime.refresh_in,
        }
    }

    async fn pass(&self, request: &AzureRequest) -> azure_core::Result<AsyncRawResponse> {
        let request = self.outgoing(request).map_err(stop)?;
        let answer = self.door.client.send(request, BOUNDS).await;
        let answer = answer.map_err(|cause| stop(Refused::Unreachable(cause)))?;
        let status = AzureStatus::from(answer.status().as_u16());
        if let Some(challenge) = self.challenge(&answer) {
            return Ok(AsyncRawResponse::from_bytes(
                status,
                challenge,
                Bytes::new(),
            ));
        }
        if !answer.status().is_success() {
            return Err(stop(Refused::Answer(refusal(&answer))));
        }
        let body = self.read(answer.into_body()).map_err(stop)?;
        Ok(AsyncRawResponse::from_bytes(status, Headers::new(), body))
    }

    /// Key Vault asks for a token by a 401, which the crate has to see.
    fn challenge(&self, answer: &Response<Bytes>) -> Option<Headers> {
        let asks = self.door.kind == Kind::Vault && answer.status() == StatusCode::UNAUTHORIZED;
        let value = answer.headers().get(WWW_AUTHENTICATE).filter(|_| asks)?;
        let mut headers = Headers::new();
        headers.insert(
            HeaderName::from_static("www-authenticate"),
            value.to_str().ok()?.to_owned(),
        );
        Some(headers)
    }

    /// A token's answer in the one form that the crate reads.
    fn read(&self, body: Bytes) -> Result<Bytes, Refused> {
        let now = self.door.clock.now().unix;
        let read = match self.door.kind {
            Kind::Vault => return Ok(body),
            Kind::Metadata => answer::of_identity_endpoint(&body, now),
            Kind::Entra => answer::of_entra(&body),
        };
        let Some((body, lifetime)) = read else {
            return Ok(body);
        };
        *self.lifetime.lock().unwrap_or_else(PoisonError::into_inner) = lifetime;
        Ok(body)
    }

    fn outgoing(&self, request: &AzureRequest) -> Result<Request<Bytes>, Refused> {
        let Body::Bytes(body) = request.body() else {
            return Err(BAD_REQUEST);
        };
        let mut outgoing = Request::builder()
            .method(request.method().as_str())
            .uri(self.address(request.url()).as_str());
        for (name, value) in request.headers().iter() {
            outgoing = outgoing.header(name.as_str(), value.as_str());
        }
        outgoing.body(body.clone()).map_err(|_| BAD_REQUEST)
    }

    fn address(&self, url: &Url) -> Url {
        let mut url = self.door.redirected(url);
        if self.by_resource {
            let pairs: Vec<_> = url.query_pairs().into_owned().collect();
            let mut query = url.query_pairs_mut();
            query.clear();
            for (name, value) in pairs {
                let name = if name == "client_id" {
                    "mi_res_id"
                } else {
                    &name
                };
                query.append_pair(name, &value);
            }
            drop(query);
        }
        url
    }
}

impl Door {
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

impl HttpClient for Passage {
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

/// Why a request brought nothing, on its way through the crate.
#[derive(Debug)]
pub(super) enum Refused {
    Unreachable(FetchError),
    Answer(Refusal),
    Needs(&'static str),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(cause) => fmt::Display::fmt(cause, f),
            Self::Answer(refusal) => write!(f, "refused with {}", refusal.status),
            Self::Needs(why) => f.write_str(why),
        }
    }
}

impl StdError for Refused {}

/// An error of a kind that the crate does not retry.
pub(super) fn stop(refused: Refused) -> azure_core::Error {
    azure_core::Error::new(ErrorKind::Other, refused)
}

/// What an answer says of why it is none. Entra and identity endpoints write `error` as a text, Key Vault
/// as a mapping with a code and one within it.
pub(super) fn refusal(answer: &Response<Bytes>) -> Refusal {
    let problem: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let error = problem.get("error");
    let entra = problem
        .get("error_codes")
        .and_then(|codes| codes.get(0)?.as_u64());
    let codes = [
        error.and_then(Value::as_str).map(str::to_owned),
        error.and_then(|error| Some(error.get("code")?.as_str()?.to_owned())),
        error.and_then(|error| Some(error.get("innererror")?.get("code")?.as_str()?.to_owned())),
        entra.map(|code| format!("AADSTS{code}")),
    ];
    let codes: Vec<String> = codes
        .into_iter()
        .flatten()
        .filter(|code| is_code(code))
        .collect();
    let seconds = answer.headers().get(RETRY_AFTER);
    let seconds = seconds.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Refusal {
        status: answer.status(),
        code: (!codes.is_empty()).then(|| codes.join(" ")),
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
