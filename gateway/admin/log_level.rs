//! What is logged: `/log-level`.

use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, error, json as answer};
use crate::clock::Now;
use crate::telemetry::{Level, LogLevel, Requests, level_changed};

/// What is logged now.
pub(super) fn page(level: &LogLevel) -> Value {
    json!({ "events": level.events().name(), "requests": level.requests().name() })
}

/// What is to be logged from now on. What is left out stays as it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    events: Option<String>,
    requests: Option<String>,
}

/// The longest change, in bytes.
const LONGEST: usize = 1024;

/// Changes it, and tells what is logged then.
pub(super) async fn change(level: &LogLevel, body: Incoming, now: &Now) -> Answer {
    let body = Limited::new(body, LONGEST).collect().await;
    let Ok(body) = body.map(http_body_util::Collected::to_bytes) else {
        return bad("the body broke off, or is longer than 1,024 bytes");
    };
    let Ok(Change { events, requests }) = serde_json::from_slice(&body) else {
        return bad(
            "the body is to be JSON such as { \"events\": \"warning\", \"requests\": \"denied\" }",
        );
    };
    let events = match events.map(|name| Level::named(&name)) {
        Some(None) => return bad("`events` is one of info, warning and error"),
        Some(known) => known,
        None => None,
    };
    let requests = match requests.map(|name| Requests::named(&name)) {
        Some(None) => return bad("`requests` is one of all, denied and none"),
        Some(Some(_)) if !level.logs_requests() => {
            return error(
                StatusCode::CONFLICT,
                "there is no request log: `telemetry.requestLog` is off",
            );
        }
        Some(known) => known,
        None => None,
    };
    if events.is_none() && requests.is_none() {
        return bad("say what is to change: `events`, `requests` or both");
    }
    level.set(events, requests);
    let detail = format!(
        "events from {} on, requests: {}",
        level.events().name(),
        level.requests().name()
    );
    level_changed(now.unix, &detail);
    answer(&page(level))
}

fn bad(sentence: &str) -> Answer {
    error(StatusCode::BAD_REQUEST, sentence)
}
