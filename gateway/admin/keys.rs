//! How signing keys stand: `/keys`.

use serde_json::{Value, json};

use super::answer::timestamp;
use crate::clock::Now;
use crate::entra::{KeyStatus, Version};
use crate::snapshot::Snapshot;

/// Those of the versions that are accepted, in the order of tenants and versions.
pub(super) fn statuses(snapshot: &Snapshot) -> Vec<KeyStatus> {
    let rules = &snapshot.rules.tokens;
    let issuers = rules
        .tenants
        .values()
        .flat_map(|keys| Version::ALL.map(|version| keys.of(version)));
    let mut statuses: Vec<KeyStatus> = issuers.map(|issuer| issuer.status()).collect();
    statuses.retain(|status| rules.claims.versions.contains(&status.version));
    statuses.sort_by_key(|status| (status.tenant, status.version));
    statuses
}

pub(super) fn page(snapshot: &Snapshot, now: &Now) -> Value {
    let tenants = snapshot.rules.policy.names().tenants();
    let issuers = statuses(snapshot).into_iter().map(|status| {
        let age = status
            .fetched
            .map(|at| now.unix.saturating_sub(at).as_secs());
        let mut told = json!({
            "tenant": status.tenant.to_string(),
            "version": status.version.name(),
            "keyIds": status.key_ids,
            "fetched": status.fetched.map(timestamp),
            "ageSeconds": age,
            "failure": status.failure,
        });
        if let (Some(name), Some(told)) = (tenants.name(status.tenant), told.as_object_mut()) {
            told.insert("tenantName".to_owned(), (**name).into());
        }
        told
    });
    json!({ "issuers": issuers.collect::<Value>() })
}
