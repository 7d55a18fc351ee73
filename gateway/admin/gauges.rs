//! What stands now, beside what has been counted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::keys::statuses;
use super::readiness::Readiness;
use crate::clock::Now;
use crate::limits::shared::State;
use crate::limits::{LimitStore, UnderWay};
use crate::metric::{Family, Metric, Point, Unit};
use crate::reload::Reloads;
use crate::snapshot::Snapshot;
use crate::upstream;

static REQUESTS: Metric = Metric::gauge(
    "portcullis.concurrency.requests",
    Unit::Of("{request}"),
    "Requests under way, where their number is limited.",
);
static WAITING: Metric = Metric::gauge(
    "portcullis.concurrency.waiting",
    Unit::Of("{request}"),
    "Requests that wait for their turn.",
);
static LIMIT: Metric = Metric::gauge(
    "portcullis.concurrency.limit",
    Unit::Of("{request}"),
    "How many may be under way, for each that has a count of its own.",
);
static UNDER_WAY: Metric = Metric::gauge(
    "portcullis.requests_under_way",
    Unit::Of("{request}"),
    "Requests under way through the whole gateway, where `limits.maxRequests` bounds them.",
);

static CHECK: Metric = Metric::gauge(
    "portcullis.check",
    Unit::Of("{check}"),
    "1 for each check of readiness that passes, else 0.",
);
static KEYS_AGE: Metric = Metric::gauge(
    "portcullis.keys.age",
    Unit::Seconds,
    "How long ago the signing keys of a tenant's issuer were fetched.",
);
static KEY_REFRESHES: Metric = Metric::counter(
    "portcullis.keys.refreshes",
    Unit::Of("{fetch}"),
    "Fetches of signing keys, by whether they were taken.",
);
static CREDENTIAL_AGE: Metric = Metric::gauge(
    "portcullis.credential.age",
    Unit::Seconds,
    "How long ago a backend's token or secret was fetched.",
);
static CREDENTIAL_FAILURES: Metric = Metric::counter(
    "portcullis.credential.failures",
    Unit::Of("{fetch}"),
    "Fetches of a backend's token or secret that failed.",
);
static CREDENTIAL_READY: Metric = Metric::gauge(
    "portcullis.credential.ready",
    Unit::Of("{credential}"),
    "1 if a backend's credential can be presented, else 0.",
);
static CREDENTIAL_EXPIRES: Metric = Metric::gauge(
    "portcullis.credential.expires_in",
    Unit::Seconds,
    "How long the token of a backend's credential still lasts; 0 once it has expired.",
);
static CERTIFICATE_NOT_AFTER: Metric = Metric::gauge(
    "portcullis.certificate.not_after",
    Unit::Seconds,
    "Until when a certificate of the gateway's is good, in seconds since 1970.",
);
static POLICY: Metric = Metric::gauge(
    "portcullis.policy.info",
    Unit::Of("{policy}"),
    "1, with the digest of the policy in force.",
);
static POLICY_LOADED: Metric = Metric::gauge(
    "portcullis.policy.loaded",
    Unit::Seconds,
    "When the policy in force was taken, in seconds since 1970.",
);
static RELOADS: Metric = Metric::counter(
    "portcullis.reloads",
    Unit::Of("{reload}"),
    "Reloads, by whether they took effect.",
);

/// What stands now: of readiness, keys, credentials, the policy, backends and limits.
pub fn standing(readiness: &Readiness, reloads: &Reloads) -> Vec<Family> {
    let snapshot = readiness.snapshot.load_full();
    let now = readiness.clock.now();
    let checks = readiness.checks();
    let checks = checks
        .iter()
        .map(|check| Point::new([("check", &*check.name)], check.passes));
    let compiled = snapshot.compiled.unix;
    let mut families = vec![CHECK.with(checks.collect())];
    families.extend(keys(&snapshot, now.unix));
    families.extend(credentials(&snapshot, &now));
    families.extend(certificates(readiness, &now));
    families.extend([
        POLICY.with(vec![Point::new(
            [("digest", &*snapshot.origin.digest)],
            1_u64,
        )]),
        POLICY_LOADED.of(compiled),
        RELOADS.with(vec![
            Point::new([("outcome", "taken")], reloads.taken),
            Point::new([("outcome", "refused")], reloads.refused),
        ]),
    ]);
    families.extend(upstream::metrics(&snapshot.backends));
    families.extend(limits(&readiness.limits));
    families
}

fn certificates(readiness: &Readiness, now: &Now) -> Option<Family> {
    let all = readiness.all_certificates();
    let standings = all.flat_map(|certificates| certificates.standings(now));
    // One that stands in two places is told once.
    let ends: BTreeMap<String, u64> = standings
        .filter_map(|standing| Some((standing.name, standing.presented?.not_after.as_secs())))
        .collect();
    let ends = ends.into_iter();
    let points: Vec<Point> = ends
        .map(|(name, end)| Point::new([("certificate", &*name)], end))
        .collect();
    (!points.is_empty()).then(|| CERTIFICATE_NOT_AFTER.with(points))
}

fn keys(snapshot: &Snapshot, now: Duration) -> [Family; 2] {
    let (mut ages, mut refreshes) = (Vec::new(), Vec::new());
    for status in statuses(snapshot) {
        let name = status.tenant.to_string();
        let (tenant, version) = (("tenant", &*name), ("version", status.version.name()));
        if let Some(fetched) = status.fetched {
            ages.push(Point::new([tenant, version], now.saturating_sub(fetched)));
        }
        for (outcome, count) in [("taken", status.taken), ("failed", status.failed)] {
            refreshes.push(Point::new([tenant, version, ("outcome", outcome)], count));
        }
    }
    [KEYS_AGE.with(ages), KEY_REFRESHES.with(refreshes)]
}

fn credentials(snapshot: &Snapshot, now: &Now) -> [Family; 4] {
    let (mut ready, mut expires) = (Vec::new(), Vec::new());
    let (mut ages, mut failures) = (Vec::new(), Vec::new());
    for backend in snapshot.backends.iter() {
        let Some(slot) = backend.credential().slot() else {
            continue;
        };
        let status = slot.status();
        let labels = [("backend", &**backend.name())];
        ready.push(Point::new(labels, status.is_ready(now)));
        if let Some(end) = status.expires {
            expires.push(Point::new(labels, end.saturating_sub(now.unix)));
        }
        if let Some(fetched) = status.fetched {
            ages.push(Point::new(labels, now.unix.saturating_sub(fetched)));
        }
        failures.push(Point::new(labels, status.failures));
    }
    [
        CREDENTIAL_READY.with(ready),
        CREDENTIAL_EXPIRES.with(expires),
        CREDENTIAL_AGE.with(ages),
        CREDENTIAL_FAILURES.with(failures),
    ]
}

/// What is under way and what waits, where that is limited.
fn limits(store: &LimitStore) -> Vec<Family> {
    let standing = store.under_way();
    let family = |metric: &'static Metric, read: fn(&UnderWay) -> u64| {
        let points = standing.iter().map(|each| {
            let labels = [("of", each.kind), ("name", &*each.name), ("by", &*each.by)];
            Point::new(labels, read(each))
        });
        metric.with(points.collect())
    };
    let mut families = vec![
        family(&REQUESTS, |standing| standing.under_way),
        family(&WAITING, |standing| standing.waiting),
        family(&LIMIT, |standing| standing.limit.into()),
        UNDER_WAY.of(store.requests_under_way()),
    ];
    if let Some(shared) = store.shared() {
        families.extend(shared_store(&shared.state()));
    }
    families
}

static REACHABLE: Metric = Metric::gauge(
    "portcullis.limit_store.reachable",
    Unit::Of("{store}"),
    "1 if the store of limits answers, else 0.",
);
static REPLICAS: Metric = Metric::gauge(
    "portcullis.limit_store.replicas",
    Unit::Of("{replica}"),
    "Replicas that share limits, as far as is known, this one among them.",
);
static METERS: Metric = Metric::gauge(
    "portcullis.limit_store.meters",
    Unit::Of("{meter}"),
    "Callers with a count of their own that are held here.",
);
static LEASES: Metric = Metric::counter(
    "portcullis.limit_store.leases",
    Unit::Of("{lease}"),
    "Batches that were leased from the store.",
);
static WAITS: Metric = Metric::counter(
    "portcullis.limit_store.waits",
    Unit::Of("{request}"),
    "Requests that waited for the store.",
);
static FAILURES: Metric = Metric::counter(
    "portcullis.limit_store.failures",
    Unit::Of("{connection}"),
    "Connections to the store that failed or could not be made.",
);
static ADMITTED_LOCALLY: Metric = Metric::counter(
    "portcullis.limit_store.admitted_locally",
    Unit::Of("{unit}"),
    "Units that were let through without the store.",
);

/// How it stands with the store that replicas share.
fn shared_store(state: &State) -> [Family; 7] {
    [
        REACHABLE.of(state.reachable),
        REPLICAS.of(state.replicas),
        METERS.of(state.meters as u64),
        LEASES.of(state.leases),
        WAITS.of(state.waits),
        FAILURES.of(state.failures),
        ADMITTED_LOCALLY.of(state.admitted_locally),
    ]
}
