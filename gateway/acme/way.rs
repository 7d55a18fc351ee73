//! The way to the CA: the crate's requests over the gateway's own client. It also hears what the crate does not hand
//! on: when the CA wants to be asked again.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient, Problem};

use crate::clock::Clock;
use crate::net::client::{Bounds, Client};

/// CAs answer within seconds; a chain is some KiB.
const BOUNDS: Bounds = Bounds {
    timeout: Duration::from_secs(30),
    max_body: 1024 * 1024,
};

/// Who asks (RFC 8555 section 6.1).
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("portcullis/", env!("CARGO_PKG_VERSION")));

/// The way, for one attempt.
#[derive(Clone)]
pub(super) struct Way {
    client: Client,
    clock: Arc<dyn Clock>,
    /// When to ask again, since the Unix epoch, if the last answer said so.
    asked: Arc<Mutex<Option<Duration>>>,
}

impl Way {
    pub(super) fn new(client: Client, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
            clock,
            asked: Arc::default(),
        }
    }

    /// When the CA wants to be asked again, since the Unix epoch, by its last answer.
    pub(super) fn asked(&self) -> Option<Duration> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let (mut parts, body) = request.into_parts();
        let Ok(body) = body.collect().await;
        parts.headers.insert(USER_AGENT, AGENT);
        let is_get = parts.method == Method::GET;
        let request = Request::from_parts(parts, body.to_bytes());
        self.hear(None);
        let answer = self.client.send(request, BOUNDS).await;
        let answer = answer.map_err(|cause| Error::Other(Box::new(cause)))?;
        self.hear(retry_after(&answer, self.clock.now().unix));
        let status = answer.status();
        if !status.is_success() && (is_get || !is_problem(&answer)) {
            return Err(Error::Other(Box::new(Answered(status))));
        }
        Ok(BytesResponse::from(answer.map(Full::new)))
    }

    fn hear(&self, asked: Option<Duration>) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = asked;
    }
}

impl HttpClient for Way {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().pass(request))
    }
}

/// An answer that is not what ACME knows: of a proxy on the way, or of another service. The crate would say of it that
/// it is no JSON.
#[derive(Debug)]
struct Answered(StatusCode);

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it answered {}, and no ACME", self.0)
    }
}

impl std::error::Error for Answered {}

fn is_problem(answer: &Response<Bytes>) -> bool {
    serde_json::from_slice::<Problem>(answer.body()).is_ok()
}

/// `Retry-After` (RFC 9110 section 10.2.3) as a time since the Unix epoch.
fn retry_after<B>(answer: &Response<B>, now: Duration) -> Option<Duration> {
    let text = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return now.checked_add(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    date.duration_since(UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_to_ask_again_is_read_in_both_forms() {
        let now = Duration::from_secs(1_800_000_000);
        for (text, expected) in [
            (Some("120"), Some(1_800_000_120)),
            (Some(" 0 "), Some(1_800_000_000)),
            (Some("Fri, 15 Jan 2027 08:01:00 GMT"), Some(1_800_000_060)),
            (Some("soon"), None),
            (Some("-1"), None),
            (None, None),
        ] {
            let mut answer = Response::new(());
            if let Some(text) = text {
                answer
                    .headers_mut()
                    .insert(RETRY_AFTER, HeaderValue::from_static(text));
            }
            let found = retry_after(&answer, now).map(|at| at.as_secs());
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
