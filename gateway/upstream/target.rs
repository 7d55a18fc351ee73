//! Where a backend's URL leads, as the head of a request names it.

use std::sync::Arc;

use http::HeaderValue;

use crate::files::{self, BackendKind, Protocol};
use crate::seal::Place;

/// What of a backend the head of a request depends on.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) kind: BackendKind,
    pub(super) protocol: Protocol,
    pub(super) secure: bool,
    /// What `Host` says: the first URL's host, with its port where it is not the scheme's own.
    pub(super) host: HeaderValue,
    /// The path of the URL, without a slash at its end.
    pub(super) base_path: Box<str>,
    /// The query of the URL; only Logic Apps have one (`api-version`).
    pub(super) base_query: Option<Box<str>>,
    /// Where its URLs lead, for the search for those that carry keys.
    pub(super) places: Arc<[Place]>,
}

impl Target {
    /// The target of a backend. `None` if its URL names no host, which files are refused for.
    pub(super) fn of(written: &files::Backend) -> Option<Self> {
        let url = &written.url.value;
        let path = url.path().trim_end_matches('/');
        Some(Self {
            kind: written.kind,
            protocol: written.protocol,
            secure: url.scheme_str() == Some("https"),
            host: host(url)?,
            base_path: path.into(),
            base_query: base_query(written.kind, url).map(Into::into),
            places: written
                .urls()
                .map(|url| place(&url.value))
                .collect::<Option<_>>()?,
        })
    }
}

/// What `Host` says at a URL.
pub(super) fn host(url: &http::Uri) -> Option<HeaderValue> {
    HeaderValue::from_str(url.authority()?.as_str()).ok()
}

fn place(url: &http::Uri) -> Option<Place> {
    let default = match url.scheme_str() {
        Some("https") => 443,
        _ => 80,
    };
    Some(Place {
        host: url.host()?.trim_end_matches('.').to_ascii_lowercase(),
        port: url.port_u16().unwrap_or(default),
    })
}

/// The query that every request to the backend carries. Logic Apps refuse a trigger call without
/// `api-version`, so the one that Azure writes into callback URLs is put in place where the URL names
/// none: Consumption workflows live below `/workflows/`, those of the Standard plan below `/api/`.
fn base_query(kind: BackendKind, url: &http::Uri) -> Option<&str> {
    match (kind, url.query()) {
        (_, Some(query)) => Some(query),
        (BackendKind::LogicApp, None) if url.path().starts_with("/api/") => {
            Some("api-version=2022-05-01")
        }
        (BackendKind::LogicApp, None) => Some("api-version=2016-10-01"),
        (BackendKind::Function | BackendKind::Http, None) => None,
    }
}
