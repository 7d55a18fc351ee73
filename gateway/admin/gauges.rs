//! What stands now, beside what has been counted, in Prometheus' text form.

use std::fmt::Write as _;

use crate::limits::shared::State;
use crate::limits::{LimitStore, UnderWay};

/// What is under way and what waits, where that is limited.
pub(super) fn limits(store: &LimitStore) -> String {
    /// The name of a gauge, what it tells, and how it is read.
    type Gauge = (&'static str, &'static str, fn(&UnderWay) -> u64);
    const GAUGES: [Gauge; 3] = [
        (
            "portcullis_concurrency_requests",
            "Requests under way, where their number is limited.",
            |standing| standing.under_way,
        ),
        (
            "portcullis_concurrency_waiting",
            "Requests that wait for their turn.",
            |standing| standing.waiting,
        ),
        (
            "portcullis_concurrency_limit",
            "How many may be under way, for each that has a count of its own.",
            |standing| u64::from(standing.limit),
        ),
    ];
    let standing = store.under_way();
    let mut text = String::new();
    for (name, help, read) in GAUGES {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
        for each in &standing {
            let (kind, of, value) = (each.kind, &each.name, read(each));
            let by = escaped(&each.by);
            let _ = writeln!(
                text,
                "{name}{{of=\"{kind}\",name=\"{of}\",by=\"{by}\"}} {value}"
            );
        }
    }
    let _ = write!(
        text,
        "# HELP portcullis_requests_under_way Requests under way through the whole gateway, where `limits.maxRequests` bounds them.\n\
         # TYPE portcullis_requests_under_way gauge\n\
         portcullis_requests_under_way {}\n",
        store.requests_under_way()
    );
    if let Some(shared) = store.shared() {
        text += &shared_store(&shared.state());
    }
    text
}

/// What stands between the quotes of a label. Names of claims may hold anything but spaces.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// How it stands with the store that replicas share.
fn shared_store(state: &State) -> String {
    let rows = [
        (
            "portcullis_limit_store_reachable",
            "gauge",
            "1 if the store of limits answers, else 0.",
            u64::from(state.reachable),
        ),
        (
            "portcullis_limit_store_replicas",
            "gauge",
            "Replicas that share limits, as far as is known, this one among them.",
            state.replicas,
        ),
        (
            "portcullis_limit_store_meters",
            "gauge",
            "Callers with a count of their own that are held here.",
            state.meters as u64,
        ),
        (
            "portcullis_limit_store_leases_total",
            "counter",
            "Batches that were leased from the store.",
            state.leases,
        ),
        (
            "portcullis_limit_store_waits_total",
            "counter",
            "Requests that waited for the store.",
            state.waits,
        ),
        (
            "portcullis_limit_store_failures_total",
            "counter",
            "Connections to the store that failed or could not be made.",
            state.failures,
        ),
        (
            "portcullis_limit_store_admitted_locally_total",
            "counter",
            "Units that were let through without the store.",
            state.admitted_locally,
        ),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in rows {
        let _ = write!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
        );
    }
    text
}
