//! What is in force, and the last reload that was refused: `/policies`.

use serde_json::{Value, json};

use super::answer::timestamp;
use crate::reload::Reloads;
use crate::snapshot::{Candidate, Origin, Snapshot};

/// The page, as JSON. No text of a file is in it, for that may hold a secret.
pub(super) fn page(snapshot: &Snapshot, reloads: &Reloads, last_diff: Value) -> Value {
    let candidate = match &snapshot.candidate {
        Candidate::None => Value::Null,
        Candidate::Watching {
            rules,
            origin: from,
            same_trust: _,
        } => origin(from, rules.policy.routes().len()),
        Candidate::Faulty(faults) => json!({ "diagnostics": faults.to_json() }),
    };
    let mut in_force = origin(&snapshot.origin, snapshot.rules.policy.routes().len());
    if let Some(page) = in_force.as_object_mut() {
        page.insert("since".to_owned(), timestamp(snapshot.compiled.unix).into());
    }
    let refused = reloads.last_refused.as_ref();
    json!({
        "inForce": in_force,
        "candidate": candidate,
        "reloads": { "taken": reloads.taken, "refused": reloads.refused },
        "lastRefused": refused.map(|refused| json!({
            "time": timestamp(refused.at),
            "diagnostics": refused.diagnostics,
        })),
        "lastDiff": last_diff,
    })
}

fn origin(origin: &Origin, routes: usize) -> Value {
    let files = origin.files.iter();
    let files = files.map(|file| json!({ "file": file.name, "sha256": file.digest }));
    json!({
        "digest": origin.digest,
        "files": files.collect::<Vec<_>>(),
        "routes": routes,
    })
}
