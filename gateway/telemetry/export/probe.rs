//! Whether what is exported would be taken, asked by somebody who has nothing to tell: a collector by requests without
//! an item, Azure Monitor by a connection alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Response, Uri};

use super::breeze::AzureMonitorTo;
use super::counts::Signal;
use super::otlp::{OtlpProtocol, OtlpTo, OtlpWay, Unanswered, delivered, grpc_status};
use super::pipe::{Delivered, Load};
use crate::clock::{Clock, Now};
use crate::net::channel::{Channel, Protocol};
use crate::net::client::FetchError;

/// The longest that one of them is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// The step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Its URL cannot be called.
    Url,
    /// The value of a header field is not there.
    HaveHeaders,
    /// Its name does not resolve.
    Resolve,
    /// It has an address that is not called.
    Address,
    /// Nobody takes the connection.
    Connect,
    /// Its certificate does not verify, or it does not speak TLS.
    Verify,
    /// It does not let the gateway in.
    SignIn,
    /// It takes nothing at this path, or not this signal.
    Find,
    /// It speaks something else.
    Speak,
    /// It takes nothing now, and may later.
    Wait,
    /// It does not take what it was sent, perhaps because nothing is in it.
    Take,
    /// It answers something else, or nothing.
    Answer,
}

/// Why nothing would be taken. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// At which step.
    pub step: Step,
    /// What was met.
    pub why: String,
}

impl Fault {
    fn of(error: &FetchError) -> Self {
        let step = match error {
            FetchError::BadRequest(_) => Step::Url,
            FetchError::Dns(..) => Step::Resolve,
            FetchError::AddressRefused(_) | FetchError::PlainHttpRefused(_) => Step::Address,
            FetchError::Connect(..) => Step::Connect,
            FetchError::Tls(..) => Step::Verify,
            FetchError::Timeout(_) => Step::Answer,
            FetchError::TooLarge(..) | FetchError::Protocol(..) => Step::Speak,
        };
        let why = match error {
            // How it breaks off is a race, and says nothing.
            FetchError::Protocol(host, _) => {
                format!("{host} answers something else, or breaks off")
            }
            _ => error.to_string(),
        };
        Self { step, why }
    }
}

/// Sends a collector a request without an item for each signal that goes there, as the gateway would. OTLP lets it be
/// empty, and nothing comes of it.
pub async fn ask_collector(
    to: &OtlpTo,
    clock: &Arc<dyn Clock>,
) -> Vec<(&'static str, Result<(), Fault>)> {
    let to = OtlpTo {
        timeout: to.timeout.min(PATIENCE),
        ..to.clone()
    };
    let signals = [
        (to.traces, Signal::Traces),
        (to.metrics, Signal::Metrics),
        (to.logs, Signal::Logs),
    ];
    let sent = signals.into_iter().filter(|(sent, _)| *sent);
    let asked = sent.map(|(_, signal)| {
        let to = &to;
        async move { (signal.name(), ask(to, signal, clock).await) }
    });
    join_all(asked).await
}

async fn ask(to: &OtlpTo, signal: Signal, clock: &Arc<dyn Clock>) -> Result<(), Fault> {
    have_headers(to, &clock.now())?;
    let nothing = Load {
        pieces: Vec::new(),
        items: 0,
    };
    let mut way = OtlpWay::new(to, signal, Arc::clone(clock));
    let answer = way
        .ask(&nothing)
        .await
        .map_err(|unanswered| match unanswered {
            Unanswered::Unmade(why) => Fault {
                step: Step::Url,
                why,
            },
            Unanswered::Unsent(error) => Fault::of(&error),
        })?;
    match delivered(to.protocol, &answer) {
        Delivered::Taken { .. } => Ok(()),
        Delivered::Refused(why) | Delivered::Later { why, .. } => Err(Fault {
            step: step(to.protocol, &answer),
            why,
        }),
    }
}

/// What stands in Key Vault may be no field's value, or not be there.
fn have_headers(to: &OtlpTo, now: &Now) -> Result<(), Fault> {
    for (name, value) in &to.headers {
        let why = match (value.fault(now), value.current(now)) {
            (Some(why), _) => why,
            (None, None) => "it was not read".to_owned(),
            (None, Some(_)) => continue,
        };
        return Err(Fault {
            step: Step::HaveHeaders,
            why: format!("there is no value of `{name}`: {why}"),
        });
    }
    Ok(())
}

/// What an answer means that takes nothing.
fn step(protocol: OtlpProtocol, answer: &Response<Bytes>) -> Step {
    let status = answer.status().as_u16();
    match (protocol, grpc_status(answer)) {
        // Permission denied, unauthenticated.
        (OtlpProtocol::Grpc, Some(7 | 16)) => Step::SignIn,
        // Unimplemented.
        (OtlpProtocol::Grpc, Some(12)) => Step::Find,
        // Resource exhausted, unavailable.
        (OtlpProtocol::Grpc, Some(8 | 14)) => Step::Wait,
        // Invalid argument.
        (OtlpProtocol::Grpc, Some(3)) => Step::Take,
        (OtlpProtocol::Grpc, Some(_)) => Step::Answer,
        // Something in front of it has answered, or it is not gRPC at all.
        (OtlpProtocol::Grpc, None) if status == 200 => Step::Speak,
        (OtlpProtocol::Grpc | OtlpProtocol::Http, _) => match status {
            400 | 422 => Step::Take,
            401 | 403 => Step::SignIn,
            301 | 302 | 307 | 308 | 404 | 405 => Step::Find,
            200 | 415 => Step::Speak,
            429 | 502 | 503 | 504 => Step::Wait,
            _ => Step::Answer,
        },
    }
}

/// Goes the way to the place where Azure Monitor takes telemetry, as far as TLS. Nothing is sent: no request is known
/// that is answered and leaves nothing behind.
///
/// # Errors
/// [`Fault`]: the step that failed.
pub async fn reach_azure_monitor(to: &AzureMonitorTo, endpoint: &Uri) -> Result<(), Fault> {
    let channel = Channel::new(&to.tls, Protocol::Http1, Arc::clone(&to.resolver), false);
    let reached = channel.reach(endpoint, PATIENCE).await;
    reached.map_err(|error| Fault::of(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, grpc: Option<&str>) -> Response<Bytes> {
        let mut answer = Response::builder().status(status);
        if let Some(grpc) = grpc {
            answer = answer.header("grpc-status", grpc);
        }
        answer.body(Bytes::new()).expect("an answer")
    }

    #[test]
    fn an_answer_that_takes_nothing_is_told_apart_by_what_mends_it() {
        for (protocol, status, grpc, expected) in [
            (OtlpProtocol::Http, 400, None, Step::Take),
            (OtlpProtocol::Http, 401, None, Step::SignIn),
            (OtlpProtocol::Http, 403, None, Step::SignIn),
            (OtlpProtocol::Http, 404, None, Step::Find),
            (OtlpProtocol::Http, 302, None, Step::Find),
            (OtlpProtocol::Http, 200, None, Step::Speak),
            (OtlpProtocol::Http, 415, None, Step::Speak),
            (OtlpProtocol::Http, 503, None, Step::Wait),
            (OtlpProtocol::Http, 500, None, Step::Answer),
            // Only gRPC has a status of gRPC.
            (OtlpProtocol::Http, 401, Some("14"), Step::SignIn),
            (OtlpProtocol::Grpc, 200, Some("16"), Step::SignIn),
            (OtlpProtocol::Grpc, 200, Some("7"), Step::SignIn),
            (OtlpProtocol::Grpc, 200, Some("12"), Step::Find),
            (OtlpProtocol::Grpc, 200, Some("14"), Step::Wait),
            (OtlpProtocol::Grpc, 200, Some("3"), Step::Take),
            (OtlpProtocol::Grpc, 200, Some("13"), Step::Answer),
            (OtlpProtocol::Grpc, 200, None, Step::Speak),
            (OtlpProtocol::Grpc, 401, None, Step::SignIn),
            (OtlpProtocol::Grpc, 404, None, Step::Find),
        ] {
            let found = step(protocol, &answered(status, grpc));
            assert_eq!(found, expected, "{protocol:?} {status} {grpc:?}");
        }
    }
}
