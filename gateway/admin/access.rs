//! Who can call what: `/access`. Worked out once for each policy, beside the requests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::answer::{Answer, error, of_kind};
use crate::clock::{Clock, SystemClock};
use crate::files::Mode;
use crate::policy::told::{Who, by_name, table};
use crate::policy::{Policy, Route};
use crate::reload::giving_way;
use crate::snapshot::Snapshot;

/// It is not worked on for longer.
const LONGEST: Duration = Duration::from_secs(10);

/// The last policy that was asked about, by its digest, and the answer. Whoever holds it works it out.
#[derive(Clone, Default)]
pub(super) struct Access(Arc<Mutex<Option<(String, Bytes)>>>);

impl Access {
    /// The answer for a policy.
    pub(super) async fn of(&self, snapshot: Arc<Snapshot>) -> Answer {
        let kept = Arc::clone(&self.0);
        // A task of its own: whoever asked may leave, and what was begun goes on for the next.
        let found = tokio::spawn(async move {
            let mut kept = kept.lock().await;
            let digest = snapshot.origin.digest.clone();
            if let Some((_, page)) = kept.as_ref().filter(|(of, _)| *of == digest) {
                return Some(page.clone());
            }
            let work = move || Bytes::from(page(&snapshot.rules.policy, &snapshot.origin.digest));
            let page = giving_way("access", work).await?;
            *kept = Some((digest, page.clone()));
            Some(page)
        });
        match found.await.ok().flatten() {
            Some(page) => of_kind(StatusCode::OK, "application/json", page),
            None => error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "who can call what could not be worked out",
            ),
        }
    }
}

fn page(policy: &Policy, digest: &str) -> String {
    let begun = SystemClock.instant();
    let goes_on = || SystemClock.instant().saturating_duration_since(begun) < LONGEST;
    let routes = by_name(policy).into_iter();
    let routes = routes.map(|route| one(policy, route, goes_on()));
    let page = json!({ "digest": digest, "routes": routes.collect::<Value>() });
    format!("{page}\n")
}

fn one(policy: &Policy, route: &Route, goes_on: bool) -> Value {
    let who = match goes_on {
        true => Who::of(policy, route, |reach| reach).map_err(|why| why.to_string()),
        false => Err("to work out all routes takes too long".to_owned()),
    };
    let (exact, callers, once_enforced, text) = match &who {
        Ok(who) => (
            true,
            json!(who.let_in.callers),
            json!(who.let_in.callers_once_enforced),
            who.text(table::plain),
        ),
        Err(why) => (false, json!([]), Value::Null, why.clone()),
    };
    let taken = route.taken();
    let methods = taken.methods.methods().map(|method| method.to_string());
    let backend = policy.names().backend(route.backend());
    json!({
        "route": **route.name(),
        "hosts": taken.host.iter().collect::<Vec<_>>(),
        "methods": methods.collect::<Vec<_>>(),
        "path": &*taken.path,
        "backend": backend.map(|name| name.to_string()),
        "mode": match route.mode() {
            Mode::Enforce => "enforce",
            Mode::ReportOnly => "reportOnly",
        },
        "public": route.is_public(),
        "exact": exact,
        "callers": callers,
        "callersOnceEnforced": once_enforced,
        "text": text.lines().collect::<Vec<_>>(),
    })
}
