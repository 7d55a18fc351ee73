//! How backends stand: `/backends`.

use http::Uri;
use serde_json::{Value, json};

use super::written;
use crate::policy::told::destination;
use crate::snapshot::Snapshot;
use crate::upstream::{Backend, BackendState};

pub(super) fn page(snapshot: &Snapshot) -> Value {
    let backends = snapshot.backends.iter();
    let backends = backends.map(|backend| one(snapshot, backend));
    json!({ "backends": backends.collect::<Value>() })
}

fn one(snapshot: &Snapshot, backend: &Backend) -> Value {
    let written = written::backend(snapshot, backend.name());
    let urls = written.iter().flat_map(|written| written.urls());
    let BackendState {
        breaker,
        endpoints,
        retries,
        cold_starts,
    } = backend.state().unwrap_or_default();
    let endpoints = endpoints.iter().map(|endpoint| {
        json!({
            "name": endpoint.name,
            "isWell": endpoint.is_well,
            "underWay": endpoint.under_way,
            "ejections": endpoint.ejections,
        })
    });
    json!({
        "name": **backend.name(),
        "kind": written.map(|written| destination::kind(written.kind)).unwrap_or_default(),
        "urls": urls.map(|url| without_query(&url.value)).collect::<Value>(),
        "fault": backend.fault().and_then(Result::err),
        "endpoints": endpoints.collect::<Value>(),
        "breaker": breaker.map(|breaker| json!({
            "isClosed": breaker.is_closed,
            "opened": breaker.opened,
            "closed": breaker.closed,
            "refused": breaker.refused,
        })),
        "retries": retries.map(|(made, refused)| json!({ "made": made, "refused": refused })),
        "coldStarts": cold_starts.map(|(served, failed, waited, waiting)| json!({
            "served": served,
            "failed": failed,
            "waitedSeconds": waited as f64 / 1000.0,
            "waiting": waiting,
        })),
    })
}

/// A query may hold what is nobody's business.
fn without_query(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or_default();
    let host = url.host().unwrap_or_default();
    let port = url.port_u16().map(|port| format!(":{port}"));
    format!(
        "{scheme}://{host}{}{}",
        port.unwrap_or_default(),
        url.path()
    )
}
