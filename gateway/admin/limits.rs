//! How limits stand: `/limits`.

use serde_json::{Value, json};

use crate::limits::LimitStore;
use crate::limits::shared::State;

pub(super) fn page(limits: &LimitStore) -> Value {
    let concurrency = limits.under_way().into_iter().map(|standing| {
        json!({
            "of": standing.kind,
            "name": standing.name,
            "by": standing.by,
            "underWay": standing.under_way,
            "waiting": standing.waiting,
            "limit": standing.limit,
        })
    });
    json!({
        "requestsUnderWay": limits.requests_under_way(),
        "concurrency": concurrency.collect::<Value>(),
        "store": limits.shared().map(|shared| store(&shared.state())),
    })
}

fn store(state: &State) -> Value {
    json!({
        "reachable": state.reachable,
        "replicas": state.replicas,
        "meters": state.meters,
        "leases": state.leases,
        "waits": state.waits,
        "failures": state.failures,
        "admittedLocally": state.admitted_locally,
        "why": state.why,
    })
}
