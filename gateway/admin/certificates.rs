//! How the gateway's own certificates stand: `/certificates`.

use serde_json::{Value, json};

use super::answer::timestamp;
use super::readiness::Readiness;

/// Those that callers see, and those of the admin address. Never a key.
pub(super) fn page(readiness: &Readiness) -> Value {
    let now = readiness.clock.now();
    let standings = readiness
        .all_certificates()
        .flat_map(|certificates| certificates.standings(&now));
    let certificates = standings.map(|standing| {
        let presented = standing.presented.as_deref();
        json!({
            "source": standing.name,
            "names": presented.map(|one| one.names()),
            "thumbprint": presented.map(|one| &one.thumbprint),
            "notBefore": presented.map(|one| timestamp(one.not_before)),
            "notAfter": presented.map(|one| timestamp(one.not_after)),
            "fault": standing.fault,
        })
    });
    json!({ "certificates": certificates.collect::<Value>() })
}
