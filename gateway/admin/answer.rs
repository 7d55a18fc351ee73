//! Answers of the admin address.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// An answer, whose body may come bit by bit.
pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A body that is there in full, of a kind.
pub(super) fn of_kind(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).boxed_unsync());
    *answer.status_mut() = status;
    let fields = answer.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // What stands now is no answer to who asks later.
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
}

/// Plain text.
pub(super) fn text(status: StatusCode, body: String) -> Answer {
    of_kind(status, "text/plain; charset=utf-8", body)
}

/// JSON, as people read it.
pub(super) fn json(page: &Value) -> Answer {
    of_kind(StatusCode::OK, "application/json", format!("{page:#}\n"))
}

/// A refusal or a fault, in a sentence.
pub(super) fn error(status: StatusCode, sentence: &str) -> Answer {
    let page = json!({ "error": sentence });
    of_kind(status, "application/json", format!("{page:#}\n"))
}

/// RFC 3339, UTC, whole seconds; of a time since the Unix epoch.
pub(super) fn timestamp(unix: Duration) -> String {
    let seconds = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}
