//! What backends have come to. Labels are names and hosts of the policy.

use std::time::Duration;

use super::backend::Backends;
use super::care::{BackendState, EndpointState};
use crate::metric::{Family, Label, Metric, Point, Unit, Value};

static AVAILABLE: Metric = Metric::gauge(
    "portcullis.backend.available",
    Unit::Of("{endpoint}"),
    "Whether an endpoint of a backend is thought to be well.",
);
static UNDER_WAY: Metric = Metric::gauge(
    "portcullis.backend.requests",
    REQUESTS,
    "Requests under way at an endpoint of a backend that has several.",
);
static EJECTIONS: Metric = Metric::counter(
    "portcullis.backend.ejections",
    Unit::Of("{ejection}"),
    "How often an endpoint of a backend was left out for a while.",
);
static OPEN: Metric = Metric::gauge(
    "portcullis.breaker.open",
    Unit::Of("{breaker}"),
    "Whether a backend's breaker is open, or lets a few requests try.",
);
static TRANSITIONS: Metric = Metric::counter(
    "portcullis.breaker.transitions",
    Unit::Of("{transition}"),
    "How often a backend's breaker has opened and closed.",
);
static REFUSED: Metric = Metric::counter(
    "portcullis.breaker.refused",
    REQUESTS,
    "Requests that a backend's breaker has refused.",
);
static RETRIES: Metric = Metric::counter(
    "portcullis.retries",
    Unit::Of("{attempt}"),
    "Attempts after the first: made, or not granted by the budget.",
);
static STARTS: Metric = Metric::counter(
    "portcullis.cold_starts",
    REQUESTS,
    "Requests that waited for a backend's start, by whether they were served.",
);
static STARTS_SECONDS: Metric = Metric::counter(
    "portcullis.cold_start",
    Unit::Seconds,
    "How long requests have waited for a backend's start.",
);
static STARTS_WAITING: Metric = Metric::gauge(
    "portcullis.cold_start.waiting",
    REQUESTS,
    "Requests that wait for a backend's start.",
);

const REQUESTS: Unit = Unit::Of("{request}");

/// All of them, for those backends that ask for what they count.
pub fn metrics(backends: &Backends) -> Vec<Family> {
    let states = backends
        .iter()
        .filter_map(|backend| Some((&**backend.name(), backend.state()?)));
    let states: Vec<(&str, BackendState)> = states.collect();
    let endpoints = |pick: fn(&EndpointState) -> u64| {
        move |state: &BackendState| {
            let endpoints = state.endpoints.iter();
            let values = endpoints.map(|endpoint| {
                (
                    Some(("endpoint", endpoint.name.to_string())),
                    pick(endpoint),
                )
            });
            values.collect()
        }
    };
    let each = |label: &'static str, counts: [(&str, u64); 2]| {
        counts.map(|(value, count)| (Some((label, value.to_owned())), count))
    };
    let breaker = |state: &BackendState| state.breaker;
    vec![
        family(
            &AVAILABLE,
            &states,
            endpoints(|endpoint| endpoint.is_well.into()),
        ),
        family(
            &UNDER_WAY,
            &states,
            endpoints(|endpoint| endpoint.under_way as u64),
        ),
        family(
            &EJECTIONS,
            &states,
            endpoints(|endpoint| endpoint.ejections),
        ),
        family(&OPEN, &states, |state| {
            let breaker = breaker(state).into_iter();
            breaker
                .map(|breaker| (None, u64::from(!breaker.is_closed)))
                .collect()
        }),
        family(&TRANSITIONS, &states, |state| {
            let breaker = breaker(state).into_iter();
            breaker
                .flat_map(|breaker| {
                    each("to", [("open", breaker.opened), ("closed", breaker.closed)])
                })
                .collect()
        }),
        family(&REFUSED, &states, |state| {
            let breaker = breaker(state).into_iter();
            breaker.map(|breaker| (None, breaker.refused)).collect()
        }),
        family(&RETRIES, &states, |state| {
            let counts = state.retries.iter();
            counts
                .flat_map(|(made, refused)| {
                    each("outcome", [("made", *made), ("refused", *refused)])
                })
                .collect()
        }),
        family(&STARTS, &states, |state| {
            let counts = state.cold_starts.iter();
            counts
                .flat_map(|(served, failed, ..)| {
                    each("outcome", [("served", *served), ("failed", *failed)])
                })
                .collect()
        }),
        family(&STARTS_SECONDS, &states, |state| {
            let waited = state.cold_starts.iter();
            waited
                .map(|(_, _, waited, _)| (None, Duration::from_millis(*waited)))
                .collect()
        }),
        family(&STARTS_WAITING, &states, |state| {
            let waiting = state.cold_starts.iter();
            waiting
                .map(|(_, _, _, waiting)| (None, *waiting as u64))
                .collect()
        }),
    ]
}

/// A metric, with what `values` knows of each backend: a further label, and a value.
fn family<V: Into<Value>>(
    metric: &'static Metric,
    states: &[(&str, BackendState)],
    values: impl Fn(&BackendState) -> Vec<(Option<Label>, V)>,
) -> Family {
    let points = states.iter().flat_map(|(backend, state)| {
        values(state).into_iter().map(|(further, value)| {
            let mut labels = vec![("backend", (*backend).to_owned())];
            labels.extend(further);
            Point {
                labels,
                value: value.into(),
            }
        })
    });
    metric.with(points.collect())
}
