//! What backends have come to, in Prometheus' text form. Labels are names and hosts of the policy.

use std::fmt::{self, Display, Write as _};

use super::backend::Backends;
use super::care::{BackendState, EndpointState};

/// A metric, by its name, its kind and what it says.
type Metric = (&'static str, &'static str, &'static str);

const AVAILABLE: Metric = (
    "portcullis_backend_available",
    "gauge",
    "Whether an endpoint of a backend is thought to be well.",
);
const UNDER_WAY: Metric = (
    "portcullis_backend_requests",
    "gauge",
    "Requests under way at an endpoint of a backend that has several.",
);
const EJECTIONS: Metric = (
    "portcullis_backend_ejections_total",
    "counter",
    "How often an endpoint of a backend was left out for a while.",
);
const OPEN: Metric = (
    "portcullis_breaker_open",
    "gauge",
    "Whether a backend's breaker is open, or lets a few requests try.",
);
const TRANSITIONS: Metric = (
    "portcullis_breaker_transitions_total",
    "counter",
    "How often a backend's breaker has opened and closed.",
);
const REFUSED: Metric = (
    "portcullis_breaker_refused_total",
    "counter",
    "Requests that a backend's breaker has refused.",
);
const RETRIES: Metric = (
    "portcullis_retries_total",
    "counter",
    "Attempts after the first: made, or not granted by the budget.",
);
const STARTS: Metric = (
    "portcullis_cold_starts_total",
    "counter",
    "Requests that waited for a backend's start, by whether they were served.",
);
const STARTS_SECONDS: Metric = (
    "portcullis_cold_start_seconds_total",
    "counter",
    "How long requests have waited for a backend's start.",
);
const STARTS_WAITING: Metric = (
    "portcullis_cold_start_waiting",
    "gauge",
    "Requests that wait for a backend's start.",
);

/// All of them, for those backends that ask for what they count.
pub fn metrics(backends: &Backends) -> String {
    let states = backends
        .iter()
        .filter_map(|backend| Some((&**backend.name(), backend.state()?)));
    let states: Vec<(&str, BackendState)> = states.collect();
    let mut text = String::new();
    let endpoints = |pick: fn(&EndpointState) -> u64| {
        move |state: &BackendState| {
            let endpoints = state.endpoints.iter();
            let values = endpoints
                .map(|endpoint| (format!(",endpoint=\"{}\"", endpoint.name), pick(endpoint)));
            values.collect()
        }
    };
    write(
        &mut text,
        AVAILABLE,
        &states,
        endpoints(|endpoint| endpoint.is_well.into()),
    );
    write(
        &mut text,
        UNDER_WAY,
        &states,
        endpoints(|endpoint| endpoint.under_way as u64),
    );
    write(
        &mut text,
        EJECTIONS,
        &states,
        endpoints(|endpoint| endpoint.ejections),
    );
    write(&mut text, OPEN, &states, |state| {
        let breaker = state.breaker.iter();
        breaker
            .map(|breaker| (String::new(), u64::from(!breaker.is_closed)))
            .collect()
    });
    write(&mut text, TRANSITIONS, &states, |state| {
        let breaker = state.breaker.iter();
        let counts =
            breaker.flat_map(|breaker| [("open", breaker.opened), ("closed", breaker.closed)]);
        counts
            .map(|(to, count)| (format!(",to=\"{to}\""), count))
            .collect()
    });
    write(&mut text, REFUSED, &states, |state| {
        let breaker = state.breaker.iter();
        breaker
            .map(|breaker| (String::new(), breaker.refused))
            .collect()
    });
    write(&mut text, RETRIES, &states, |state| {
        let counts = state.retries.iter();
        let counts = counts.flat_map(|(made, refused)| [("made", *made), ("refused", *refused)]);
        counts
            .map(|(outcome, count)| (format!(",outcome=\"{outcome}\""), count))
            .collect()
    });
    write(&mut text, STARTS, &states, |state| {
        let counts = state.cold_starts.iter();
        let counts =
            counts.flat_map(|(served, failed, ..)| [("served", *served), ("failed", *failed)]);
        counts
            .map(|(outcome, count)| (format!(",outcome=\"{outcome}\""), count))
            .collect()
    });
    write(&mut text, STARTS_SECONDS, &states, |state| {
        let waited = state.cold_starts.iter();
        waited
            .map(|(_, _, waited, _)| (String::new(), Thousandths(*waited)))
            .collect()
    });
    write(&mut text, STARTS_WAITING, &states, |state| {
        let waiting = state.cold_starts.iter();
        waiting
            .map(|(_, _, _, waiting)| (String::new(), *waiting))
            .collect()
    });
    text
}

/// Writes a metric, with what `values` knows of each backend: further labels, and a value.
fn write<V: Display>(
    text: &mut String,
    (name, kind, help): Metric,
    states: &[(&str, BackendState)],
    values: impl Fn(&BackendState) -> Vec<(String, V)>,
) {
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    for (backend, state) in states {
        for (labels, value) in values(state) {
            // Names and hosts of the policy: nothing to escape.
            let _ = writeln!(text, "{name}{{backend=\"{backend}\"{labels}}} {value}");
        }
    }
}

/// A number of thousandths, as a number of ones.
struct Thousandths(u64);

impl Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}
