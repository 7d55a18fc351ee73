//! How credentials for backends stand: `/credentials`. Where they come from, and never what they are.

use serde_json::{Value, json};

use super::answer::timestamp;
use super::written;
use crate::clock::Now;
use crate::credentials::{Credential, Status, Wanted};
use crate::policy::told::destination;
use crate::snapshot::Snapshot;
use crate::upstream::Backend;

pub(super) fn page(snapshot: &Snapshot, now: &Now) -> Value {
    let backends = snapshot.backends.iter();
    let credentials = backends.filter_map(|backend| one(snapshot, backend, now));
    json!({ "credentials": credentials.collect::<Value>() })
}

fn one(snapshot: &Snapshot, backend: &Backend, now: &Now) -> Option<Value> {
    let credential = backend.credential();
    let kind = match credential {
        Credential::None => return None,
        Credential::Token(_) => "token",
        Credential::Header { .. } | Credential::Sas(_) => "secret",
    };
    let slot = credential.slot();
    let status = slot.map(|slot| slot.status());
    let written = written::backend(snapshot, backend.name());
    let mut told = json!({
        "backend": **backend.name(),
        "kind": kind,
        "from": written.map(|written| destination::credential(&written.credential)).unwrap_or_default(),
        "ready": is_ready(credential, status.as_ref(), now),
        "fetched": status.as_ref().and_then(|status| status.fetched).map(timestamp),
        "expires": status.as_ref().and_then(|status| status.expires).map(timestamp),
        "expiresInSeconds": status.as_ref().and_then(|status| status.expires).map(|at| left(at, now)),
        "lastError": last_error(credential, status.as_ref(), now),
        "lastErrorFinal": is_final(status.as_ref()),
    });
    if let (Some(Wanted::Token(token)), Some(told)) =
        (slot.map(|slot| slot.wanted()), told.as_object_mut())
    {
        told.insert("resource".to_owned(), token.resource.clone().into());
    }
    Some(told)
}

/// What stands in a file or variable was read when it was compiled.
fn is_ready(credential: &Credential, status: Option<&Status>, now: &Now) -> bool {
    match credential {
        Credential::Sas(query) => query.current(now).is_some(),
        _ => status.is_none_or(|status| status.is_ready(now)),
    }
}

/// Seconds until then; less than none where it is over.
fn left(at: std::time::Duration, now: &Now) -> i64 {
    let seconds = |time: std::time::Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    seconds(at).saturating_sub(seconds(now.unix))
}

fn last_error(credential: &Credential, status: Option<&Status>, now: &Now) -> Option<String> {
    let failed = status.and_then(|status| status.last_failure.as_ref());
    let unusable = match credential {
        Credential::Sas(query) => query.fault(now),
        _ => None,
    };
    failed.map(|failure| failure.text.clone()).or(unusable)
}

fn is_final(status: Option<&Status>) -> bool {
    let failed = status.and_then(|status| status.last_failure.as_ref());
    failed.is_some_and(|failure| failure.is_final)
}
