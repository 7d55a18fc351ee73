//! Readiness: whether requests that arrive now could be served.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::keys;
use super::protection::Protection;
use crate::certificates::{Certificates, Front, Standing as CertificateStanding};
use crate::clock::{Clock, Now};
use crate::credentials::{Credential, Derived, Slot, Wanted};
use crate::drain::{Drain, Phase};
use crate::limits::LimitStore;
use crate::limits::shared::{OnStoreFailure, State};
use crate::snapshot::Snapshot;
use crate::telemetry::{Health, Standing};

/// Knows what readiness depends on.
pub struct Readiness {
    /// What is in force.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Whether the gateway is leaving.
    pub drain: Drain,
    /// The counts of limits.
    pub limits: Arc<LimitStore>,
    /// What protects the admin address, if there is one.
    pub protection: Option<Arc<Protection>>,
    /// What callers meet on each listener.
    pub fronts: Arc<Vec<Front>>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// How it stands with what is told.
    pub telemetry: Arc<Health>,
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
    /// Whether what is wrong lasts until somebody acts.
    pub lasts: bool,
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
            lasts: _,
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
        let keys = Self::keys(&snapshot);
        let (credentials, proofs) = self.credentials(&snapshot);
        let mut checks = vec![
            Check {
                name: SERVING.to_owned(),
                passes: self.drain.phase() == Phase::Serving,
                serves: self.drain.phase() == Phase::Serving,
                lasts: false,
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
        checks.extend(proofs);
        checks.extend(backends(&snapshot));
        checks.extend(self.own_keys(&snapshot));
        checks.extend(self.certificates());
        let protection = self.protection.as_ref();
        if let Some(slot) = protection.and_then(|protection| protection.slot()) {
            checks.push(held("admin.bearer".to_owned(), &slot, &self.clock.now()));
        }
        if let Some(shared) = self.limits.shared() {
            let state = shared.state();
            checks.push(store(&state));
            checks.extend(astray(&state));
        }
        checks.extend(told(&self.telemetry));
        checks
    }

    fn keys(snapshot: &Snapshot) -> Vec<Check> {
        let checks = keys::statuses(snapshot).into_iter().map(|status| Check {
            name: format!("keys/{}/{}", status.tenant, status.version.name()),
            passes: status.fetched.is_some(),
            serves: status.fetched.is_some(),
            lasts: false,
            required: false,
            why: status
                .failure
                .unwrap_or_else(|| "not fetched yet".to_owned()),
        });
        checks.collect()
    }

    /// Those of the backends, and what apps prove themselves by to have theirs.
    fn credentials(&self, snapshot: &Snapshot) -> (Vec<Check>, Vec<Check>) {
        let now = self.clock.now();
        let (mut credentials, mut proofs) = (Vec::new(), Vec::new());
        for backend in snapshot.backends.iter() {
            let credential = backend.credential();
            let Some(slot) = credential.slot() else {
                continue;
            };
            let mut check = held(format!("credential/{}", backend.name()), slot, &now);
            if let (true, Credential::Sas(query)) = (check.passes, credential) {
                unusable(&mut check, query.fault(&now));
            }
            credentials.push(check);
            // Without it, the token ends as it is.
            let proof = slot
                .needed()
                .filter(|slot| matches!(slot.wanted(), Wanted::Secret(_)));
            if let Some(proof) = proof {
                proofs.push(held(format!("proof/{}", backend.name()), proof, &now));
            }
        }
        (credentials, proofs)
    }

    /// Whether requests that arrive now could be served.
    pub fn is_ready(&self) -> bool {
        let checks = self.checks();
        checks.iter().all(|check| check.passes || !check.required)
    }

    fn of_callers(&self) -> impl Iterator<Item = Arc<Certificates>> {
        let fronts = self.fronts.iter();
        fronts.filter_map(|front| front.certificates().cloned())
    }

    fn of_admin(&self) -> Option<Arc<Certificates>> {
        self.protection.as_ref()?.certificates()
    }

    /// The certificates that callers see, and those of the admin address.
    pub fn all_certificates(&self) -> impl Iterator<Item = Arc<Certificates>> {
        self.of_callers().chain(self.of_admin())
    }

    /// Whether there is something to show to callers, and how it stands with each certificate.
    fn certificates(&self) -> Vec<Check> {
        let now = self.clock.now();
        let mut checks = Vec::new();
        let (mut is_bare, mut is_ordered, mut lasts) = (false, false, false);
        for certificates in self.of_callers() {
            let standings = certificates.standings(&now);
            if standings.iter().all(|one| one.presented.is_none()) {
                is_bare = true;
                is_ordered |= !certificates.ordered().is_empty();
                lasts |= standings.iter().all(|one| one.lasts);
            }
            checks.extend(standings.into_iter().map(shown));
        }
        let of_admin = self.of_admin().into_iter();
        let of_admin = of_admin.flat_map(|certificates| certificates.standings(&now));
        checks.extend(of_admin.map(shown));
        if is_bare {
            checks.push(Check {
                name: "certificates".to_owned(),
                passes: false,
                serves: false,
                lasts,
                // Where nobody is sent here, the authority is not either, and there would never be one.
                required: !is_ordered,
                why: "a listener has none yet, and without one there is no TLS".to_owned(),
            });
        }
        checks.extend(self.lists(&now));
        checks
    }

    /// Lists of certificates that were withdrawn.
    fn lists(&self, now: &Now) -> Vec<Check> {
        let mut checks = Vec::new();
        for clients in self.fronts.iter().filter_map(Front::clients) {
            let clients = clients.load();
            checks.extend(clients.faults(now.unix).map(|(file, why)| Check {
                name: format!("listen.clientCertificates/{file}"),
                passes: false,
                serves: false,
                lasts: true,
                required: false,
                why,
            }));
        }
        checks
    }

    /// Keys of the gateway's own that are read in a key vault.
    fn own_keys(&self, snapshot: &Snapshot) -> Vec<Check> {
        let now = self.clock.now();
        let sealing = snapshot.sealing.configured();
        let sealing = sealing.map(|keys| derived("seal.keys", true, keys, &now));
        let fingerprints = snapshot.fingerprints.configured();
        let fingerprints =
            fingerprints.map(|key| derived("telemetry.fingerprintKey", false, key, &now));
        sealing.into_iter().chain(fingerprints).flatten().collect()
    }
}

/// Those backends of which it can be known whether they are well. Without one, the others are served.
fn backends(snapshot: &Snapshot) -> impl Iterator<Item = Check> {
    snapshot.backends.iter().filter_map(|backend| {
        let fault = backend.fault()?.err();
        Some(Check {
            name: format!("backend/{}", backend.name()),
            passes: fault.is_none(),
            serves: fault.is_none(),
            lasts: false,
            required: false,
            why: fault.unwrap_or_default(),
        })
    })
}

/// The logs, and where telemetry is sent. Without a log that lets nobody in, nothing is served.
fn told(health: &Health) -> impl Iterator<Item = Check> {
    let standings = health.standings().into_iter();
    standings.map(|(name, Standing { required, fault })| Check {
        name: name.to_owned(),
        passes: fault.is_none(),
        serves: fault.is_none() || !required,
        lasts: required,
        required,
        why: fault.unwrap_or_default(),
    })
}

/// The store of limits that replicas share. What holds without it is written in gateway.yaml.
fn store(state: &State) -> Check {
    let State {
        reachable,
        met,
        why,
        on_failure,
        ..
    } = state;
    let is_needed = match on_failure {
        OnStoreFailure::Allow => false,
        // Who never met it does not know how many others there are, and would take all for its share.
        OnStoreFailure::LocalShare => !met,
        OnStoreFailure::Deny => true,
    };
    Check {
        name: "limits.store".to_owned(),
        passes: *reachable,
        serves: *reachable || !is_needed,
        lasts: false,
        required: is_needed,
        why: why.clone(),
    }
}

/// Keys in the store that hold something else. Until somebody removes that, it is for each of those limits as if the
/// store were away.
fn astray(state: &State) -> impl Iterator<Item = Check> {
    let serves = state.on_failure != OnStoreFailure::Deny;
    state.astray.iter().map(move |(key, why)| Check {
        name: format!("limits.store/{key}"),
        passes: false,
        serves,
        lasts: true,
        required: false,
        why: format!("a key that begins so holds something else; delete it: {why}"),
    })
}

/// A certificate. An expired one is shown all the same: some callers may be content with it.
fn shown(standing: CertificateStanding) -> Check {
    let CertificateStanding {
        name,
        presented,
        fault,
        lasts,
    } = standing;
    Check {
        name: format!("certificate/{name}"),
        passes: fault.is_none(),
        serves: presented.is_some(),
        lasts,
        required: false,
        why: fault.unwrap_or_default(),
    }
}

/// What a slot holds.
fn held(name: String, slot: &Slot, now: &Now) -> Check {
    let status = slot.status();
    let fault = status.fault(now);
    Check {
        name,
        passes: fault.is_none(),
        serves: status.is_ready(now),
        lasts: fault.as_ref().is_some_and(|fault| fault.is_final),
        required: false,
        why: fault.map(|fault| fault.why).unwrap_or_default(),
    }
}

/// What is made of secrets, where any of them is read in a key vault. Without it, if it is `required`,
/// answers would lose their links.
fn derived<T>(name: &str, required: bool, made: &Derived<T>, now: &Now) -> Vec<Check> {
    let mut checks: Vec<Check> = made
        .slots()
        .map(|slot| held(name.to_owned(), slot, now))
        .collect();
    for check in &mut checks {
        check.serves = made.current(now).is_some();
        check.required = required && !check.serves;
        if check.passes {
            unusable(check, made.fault(now));
        }
    }
    checks
}

fn unusable(check: &mut Check, fault: Option<String>) {
    if let Some(why) = fault {
        check.passes = false;
        check.lasts = true;
        check.why = format!("what was read cannot be used: {why}");
    }
}

/// Passes if any of `checks` serves, or there are none.
fn some(checks: &[Check], name: &str, why: &str) -> Check {
    let passes = checks.is_empty() || checks.iter().any(|check| check.serves);
    Check {
        name: name.to_owned(),
        passes,
        serves: passes,
        lasts: false,
        required: true,
        why: why.to_owned(),
    }
}
