//! Readiness: whether requests that arrive now could be served.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::clock::Clock;
use crate::entra::{KeyStatus, Version};
use crate::server::{Drain, Phase};
use crate::snapshot::Snapshot;

/// Knows what readiness depends on.
pub struct Readiness {
    /// What is in force.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Whether the gateway is leaving.
    pub drain: Drain,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

/// The check that fails while the gateway drains.
pub const SERVING: &str = "serving";

/// One thing that readiness depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is checked.
    pub name: String,
    /// Whether all is well.
    pub passes: bool,
    /// Whether requests can be served all the same: by the last good secret, say.
    pub serves: bool,
    /// Whether the gateway is not ready without it. One tenant's keys are not: other tenants are served.
    pub required: bool,
    /// Why it does not pass.
    pub why: String,
}

impl Check {
    pub(super) fn line(&self) -> String {
        let Self {
            name,
            passes,
            serves: _,
            required,
            why,
        } = self;
        match (passes, required) {
            (true, _) => format!("[+] {name} ok\n"),
            (false, true) => format!("[-] {name} failed: {why}\n"),
            (false, false) => format!("[!] {name} degraded: {why}\n"),
        }
    }
}

impl Readiness {
    /// Every check, those that are required first.
    pub fn checks(&self) -> Vec<Check> {
        let snapshot = self.snapshot.load_full();
        let keys = self.keys(&snapshot);
        let credentials = self.credentials(&snapshot);
        let mut checks = vec![
            Check {
                name: SERVING.to_owned(),
                passes: self.drain.phase() == Phase::Serving,
                serves: self.drain.phase() == Phase::Serving,
                required: true,
                why: "the gateway is shutting down".to_owned(),
            },
            // If nothing at all could be served, another replica should be asked.
            some(&keys, "keys", "no tenant's signing keys are loaded"),
            some(
                &credentials,
                "credentials",
                "no backend's credential is ready",
            ),
        ];
        checks.extend(keys);
        checks.extend(credentials);
        checks
    }

    fn keys(&self, snapshot: &Snapshot) -> Vec<Check> {
        let rules = &snapshot.rules.tokens;
        let issuers = rules
            .tenants
            .values()
            .flat_map(|keys| Version::ALL.map(|version| keys.of(version)));
        let mut statuses: Vec<KeyStatus> = issuers.map(|issuer| issuer.status()).collect();
        statuses.retain(|status| rules.claims.versions.contains(&status.version));
        statuses.sort_by_key(|status| (status.tenant, status.version));
        let checks = statuses.into_iter().map(|status| Check {
            name: format!("keys/{}/{}", status.tenant, status.version.name()),
            passes: status.fetched.is_some(),
            serves: status.fetched.is_some(),
            required: false,
            why: status
                .failure
                .unwrap_or_else(|| "not fetched yet".to_owned()),
        });
        checks.collect()
    }

    fn credentials(&self, snapshot: &Snapshot) -> Vec<Check> {
        let now = self.clock.now();
        let checks = snapshot.backends.iter().filter_map(|backend| {
            let slot = backend.credential().slot()?;
            let status = slot.status();
            let fault = status.fault(&now);
            Some(Check {
                name: format!("credential/{}", backend.name()),
                passes: fault.is_none(),
                serves: status.is_ready(&now),
                required: false,
                why: fault.unwrap_or_default(),
            })
        });
        checks.collect()
    }
}

/// Passes if any of `checks` serves, or there are none.
fn some(checks: &[Check], name: &str, why: &str) -> Check {
    let passes = checks.is_empty() || checks.iter().any(|check| check.serves);
    Check {
        name: name.to_owned(),
        passes,
        serves: passes,
        required: true,
        why: why.to_owned(),
    }
}
