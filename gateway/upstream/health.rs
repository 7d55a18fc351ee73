//! Endpoints that are asked, again and again, whether they are well. That is the control plane's: one question at a
//! time for each, on a connection of its own, whatever the number of workers.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, Version};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::backend::Backends;
use super::care::Member;
use super::connect::connect;
use super::endpoint::Endpoint;
use super::moment::{millis, moment};
use crate::clock::{Now, within};
use crate::credentials::{Carried, Credential};
use crate::files::{Health, Protocol, Timeouts};
use crate::net::address::Resolver;
use crate::seal::Signed;

/// What is known of an endpoint by asking. It is thought to be well until it was asked.
#[derive(Debug)]
pub(super) struct Checked {
    is_healthy: AtomicBool,
    /// Answers in a row that say otherwise.
    otherwise: AtomicU32,
    why: Mutex<Option<String>>,
    /// When it was asked last; 0 before the first time.
    asked_at: AtomicU64,
    is_asked: AtomicBool,
}

impl Default for Checked {
    fn default() -> Self {
        Self {
            is_healthy: AtomicBool::new(true),
            otherwise: AtomicU32::new(0),
            why: Mutex::default(),
            asked_at: AtomicU64::new(0),
            is_asked: AtomicBool::new(false),
        }
    }
}

impl Checked {
    /// Whether it is thought to be well.
    pub(super) fn is_healthy(&self) -> bool {
        self.is_healthy.load(Ordering::Acquire)
    }

    /// What was wrong when it was asked last.
    pub(super) fn why(&self) -> Option<String> {
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        why.clone()
    }

    /// Whether it is time to ask. It counts as asked from then on.
    fn is_due(&self, settings: &Health, at: u64) -> bool {
        let asked_at = self.asked_at.load(Ordering::Relaxed);
        let is_due = asked_at == 0 || at >= asked_at + millis(settings.every);
        if !is_due || self.is_asked.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.asked_at.store(at, Ordering::Relaxed);
        true
    }

    /// Takes note of an answer: none, or what is wrong with it.
    pub(super) fn note(&self, settings: &Health, wrong: Option<String>) {
        let is_good = wrong.is_none();
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = wrong;
        if is_good == self.is_healthy() {
            self.otherwise.store(0, Ordering::Relaxed);
            return;
        }
        let enough = match is_good {
            true => settings.healthy,
            false => settings.unhealthy,
        };
        if self.otherwise.fetch_add(1, Ordering::Relaxed) + 1 >= enough {
            self.otherwise.store(0, Ordering::Relaxed);
            self.is_healthy.store(is_good, Ordering::Release);
        }
    }
}

/// A question to an endpoint.
struct Question {
    endpoint: Arc<Endpoint>,
    checked: Arc<Checked>,
    host: HeaderValue,
    settings: Health,
    timeouts: Timeouts,
    /// The field that carries the credential, where it goes along.
    field: Option<(HeaderName, HeaderValue)>,
}

/// Asks all endpoints that it is time to ask, each by a task of its own on the runtime that this is called on.
pub fn ask_whether_well(backends: &Backends, resolver: &Arc<dyn Resolver>, now: &Now) {
    for question in questions(backends, now) {
        let resolver = Arc::clone(resolver);
        tokio::spawn(async move {
            let wrong = question.ask(&resolver).await.err();
            question.checked.note(&question.settings, wrong);
            question.checked.is_asked.store(false, Ordering::Release);
        });
    }
}

fn questions(backends: &Backends, now: &Now) -> Vec<Question> {
    let mut questions = Vec::new();
    for backend in backends.iter() {
        let Some((care, settings)) = backend
            .care
            .as_ref()
            .and_then(|care| Some((care, care.health.as_ref()?)))
        else {
            continue;
        };
        let field = match settings.credential {
            false => None,
            // As long as there is none, nothing can be said of the endpoint.
            true => match field(backend.credential(), now) {
                Some(field) => field,
                None => continue,
            },
        };
        for Member {
            endpoint,
            host,
            checked,
        } in &care.members
        {
            let checked = checked.as_ref();
            if let Some(checked) =
                checked.filter(|checked| checked.is_due(settings, moment(now.instant)))
            {
                questions.push(Question {
                    endpoint: Arc::clone(endpoint),
                    checked: Arc::clone(checked),
                    host: host.clone(),
                    settings: settings.clone(),
                    timeouts: backend.timeouts,
                    field: field.clone(),
                });
            }
        }
    }
    questions
}

/// The field that a credential goes in, if it goes in one. `None` while there is none to be had.
fn field(credential: &Credential, now: &Now) -> Option<Option<(HeaderName, HeaderValue)>> {
    let presented = credential.present(now, std::time::Duration::ZERO, Signed::None);
    match presented.now_or_never()?.ok()?.into_carried() {
        Carried::Field(name, value) => Some(Some((name, value))),
        Carried::Nothing | Carried::InTheUrl(_) | Carried::Query(_) => Some(None),
    }
}

/// An answer, and the connection that has to be driven until it is there. The connection may end with it.
async fn driven_by<T>(connection: impl Future, answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

impl Question {
    /// # Errors
    /// What is wrong.
    async fn ask(&self, resolver: &Arc<dyn Resolver>) -> Result<(), String> {
        let answer = within(self.settings.timeout, self.answer(resolver)).await;
        let late = || format!("no answer within {:?}", self.settings.timeout);
        let status = answer.ok_or_else(late)??.status();
        match self.settings.status.contains(&status.as_u16()) {
            true => Ok(()),
            false => Err(format!("it answers {}", status.as_u16())),
        }
    }

    async fn answer(&self, resolver: &Arc<dyn Resolver>) -> Result<Response<Incoming>, String> {
        let wire = connect(&self.endpoint, resolver, &self.timeouts).await;
        let wire = TokioIo::new(wire.map_err(|denial| denial.reason().title().to_owned())?);
        let wrong = |error: hyper::Error| error.to_string();
        // The connection is driven as long as its answer is waited for, and closed then.
        match self.endpoint.protocol {
            Protocol::Http1 => {
                let (mut sender, connection) = http1::handshake(wire).await.map_err(wrong)?;
                let answer = sender.send_request(self.request()?);
                driven_by(connection, answer).await.map_err(wrong)
            }
            Protocol::Http2 => {
                let shaken = http2::handshake(TokioExecutor::new(), wire).await;
                let (mut sender, connection) = shaken.map_err(wrong)?;
                let answer = sender.send_request(self.request()?);
                driven_by(connection, answer).await.map_err(wrong)
            }
        }
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, String> {
        let host = self.host.to_str().unwrap_or_default();
        let scheme = if self.endpoint.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let is_http2 = self.endpoint.protocol == Protocol::Http2;
        let uri = match is_http2 {
            true => format!("{scheme}://{host}{}", self.settings.path),
            false => self.settings.path.clone(),
        };
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(uri)
            .version(if is_http2 {
                Version::HTTP_2
            } else {
                Version::HTTP_11
            })
            .header(header::USER_AGENT, "portcullis-health");
        if !is_http2 {
            request = request.header(header::HOST, self.host.clone());
        }
        if let Some((name, value)) = &self.field {
            request = request.header(name, value.clone());
        }
        request
            .body(Empty::new())
            .map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_endpoint_changes_its_standing_by_answers_in_a_row() {
        let settings = Health {
            path: "/".to_owned(),
            every: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
            status: 200..=299,
            credential: false,
        };
        let checked = Checked::default();
        for (index, (is_good, healthy)) in [
            (false, true),
            (false, true),
            (true, true),
            (false, true),
            (false, true),
            (false, false),
            (true, false),
            (false, false),
            (true, false),
            (true, true),
        ]
        .into_iter()
        .enumerate()
        {
            checked.note(&settings, (!is_good).then(|| "500".to_owned()));
            assert_eq!(checked.is_healthy(), healthy, "{index}");
            assert_eq!(checked.why().is_none(), is_good, "{index}");
        }
    }
}
