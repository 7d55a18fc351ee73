//! How many requests, how fast: the durations that OpenTelemetry's conventions for HTTP name, and the gateway's own
//! share of them.
//! <https://opentelemetry.io/docs/specs/semconv/http/http-metrics/>

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Version};

use super::record::{Outcome, Record};
use super::series::{MOST, Series};
use crate::metric::{Distribution, Exemplar, Family, Kind, Label, Metric, Point, Unit};
use crate::upstream::Site;

/// The bounds that the conventions advise, in seconds.
const ADVISED: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Bounds for what takes the gateway microseconds, in seconds.
const FINE: &[f64] = &[
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1,
    0.5, 1.0, 5.0,
];

static SERVED: Metric = Metric::new(
    "http.server.request.duration",
    Kind::Histogram,
    Unit::Seconds,
    "From a request's arrival to the last byte of its answer.",
);
static CALLED: Metric = Metric::new(
    "http.client.request.duration",
    Kind::Histogram,
    Unit::Seconds,
    "From sending a request to a backend until its answer began.",
);
static OVERHEAD: Metric = Metric::new(
    "portcullis.overhead.duration",
    Kind::Histogram,
    Unit::Seconds,
    "From a request's arrival until it was sent on, or refused.",
);
static ACTIVE: Metric = Metric::new(
    "http.server.active_requests",
    Kind::UpDown,
    Unit::Of("{request}"),
    "Requests that are being served.",
);

/// The methods that are named; any other is `_OTHER`.
const METHODS: [Method; 9] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
    Method::CONNECT,
    Method::TRACE,
];

/// Their number, and one for all others.
pub(super) const METHOD_COUNT: usize = METHODS.len() + 1;

/// A method's place among those that are named, or the one behind.
pub(super) fn method_index(method: &Method) -> usize {
    let place = METHODS.iter().position(|named| named == method);
    place.unwrap_or(METHODS.len())
}

/// The name of a method that is none of those.
/// <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>
pub const OTHER_METHOD: &str = "_OTHER";

/// The name of a method in a label.
fn method_name(index: usize) -> &'static str {
    match METHODS.get(index) {
        Some(method) if *method == Method::GET => "GET",
        Some(method) if *method == Method::POST => "POST",
        Some(method) if *method == Method::PUT => "PUT",
        Some(method) if *method == Method::PATCH => "PATCH",
        Some(method) if *method == Method::DELETE => "DELETE",
        Some(method) if *method == Method::HEAD => "HEAD",
        Some(method) if *method == Method::OPTIONS => "OPTIONS",
        Some(method) if *method == Method::CONNECT => "CONNECT",
        Some(method) if *method == Method::TRACE => "TRACE",
        Some(_) | None => OTHER_METHOD,
    }
}

/// The name of a method, where callers may not make one up.
pub(super) fn known_method(method: &Method) -> &'static str {
    method_name(method_index(method))
}

/// The version of HTTP, as the conventions write it.
pub(super) fn version_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

/// What went wrong, as the conventions' `error.type`: the reason of a refusal, or the status of a backend that failed.
pub(super) fn error_type(record: &Record) -> Option<&'static str> {
    match record.outcome {
        Outcome::Denied(reason) => Some(reason.code()),
        _ if record.status.is_server_error() => Some("5xx"),
        _ => None,
    }
}

/// What durations are told apart by. Bounded: names of the files, methods that are known, and numbers of few digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kept {
    route: Option<Arc<str>>,
    template: Option<Arc<str>>,
    backend: Option<Arc<str>>,
    site: Option<Arc<Site>>,
    method: usize,
    status: u16,
    version: &'static str,
    error: Option<&'static str>,
}

impl Kept {
    fn of(record: &Record) -> Self {
        Self {
            route: record.route.clone(),
            template: record.template.clone(),
            backend: record.backend.clone(),
            site: record.site.clone(),
            method: method_index(&record.method),
            status: record.status.as_u16(),
            version: version_name(record.version),
            error: error_type(record),
        }
    }
}

#[derive(Debug)]
struct Times {
    served: Distribution,
    called: Distribution,
    overhead: Distribution,
}

impl Times {
    fn new() -> Self {
        Self {
            served: Distribution::new(ADVISED),
            called: Distribution::new(ADVISED),
            overhead: Distribution::new(FINE),
        }
    }
}

/// A worker's durations.
#[derive(Debug, Default)]
pub(super) struct Durations(Series<Kept, Times>);

impl Durations {
    /// Counts a record.
    pub(super) fn count(&mut self, record: &Record) {
        let (method, status) = (method_index(&record.method), record.status.as_u16());
        let (version, error) = (version_name(record.version), error_type(record));
        let is = |kept: &Kept| {
            kept.method == method
                && kept.status == status
                && kept.version == version
                && kept.error == error
                && is_same(&kept.route, &record.route)
                && is_same(&kept.template, &record.template)
                && is_same(&kept.backend, &record.backend)
        };
        let parts = (
            method,
            status,
            version,
            error,
            &record.route,
            &record.backend,
        );
        let times = self.0.of(parts, is, || Kept::of(record), Times::new);
        let at = record.arrived.unix;
        let exemplar = |value: f64| {
            let trace = record.trace.filter(|trace| trace.is_sampled())?;
            Some(Exemplar { value, at, trace })
        };
        let count = |into: &mut Distribution, value: Duration| {
            let value = value.as_secs_f64();
            into.count(value, exemplar(value));
        };
        count(&mut times.served, record.duration);
        if let Some(upstream) = record.upstream {
            count(&mut times.called, upstream);
        }
        count(&mut times.overhead, record.overhead());
    }

    /// Hands over what was counted, and begins anew.
    pub(super) fn take(&mut self) -> Self {
        Self(std::mem::take(&mut self.0))
    }
}

fn is_same(one: &Option<Arc<str>>, other: &Option<Arc<str>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        (None, None) => true,
        _ => false,
    }
}

/// The durations of all workers, since the start.
#[derive(Debug, Default)]
pub(super) struct AllDurations {
    served: Folded,
    called: Folded,
    overhead: Folded,
}

/// Distributions by labels; beyond the most, all under one label that says so.
#[derive(Debug, Default)]
struct Folded(BTreeMap<Vec<Label>, Distribution>);

/// The label of what has none of its own for want of room.
const OVERFLOW: &str = "otel.metric.overflow";

impl Folded {
    fn add(&mut self, labels: Option<Vec<Label>>, values: &Distribution) {
        if values.total() == 0 {
            return;
        }
        let fits = |labels: &Vec<Label>| self.0.len() < MOST || self.0.contains_key(labels);
        let labels = labels.filter(fits);
        let labels = labels.unwrap_or_else(|| vec![(OVERFLOW, "true".to_owned())]);
        let into = self.0.entry(labels);
        into.or_insert_with(|| Distribution::new(values.bounds()))
            .add(values);
    }

    fn family(&self, metric: &'static Metric) -> Family {
        let points = self.0.iter().map(|(labels, values)| Point {
            labels: labels.clone(),
            value: values.clone().into(),
        });
        metric.with(points.collect())
    }
}

impl AllDurations {
    /// Adds what a worker has counted of what it serves under this scheme.
    pub(super) fn add(&mut self, mut worker: Durations, scheme: &'static str) {
        for (kept, times) in worker.0.take() {
            let kept = kept.as_ref();
            self.served
                .add(kept.map(|kept| served(kept, scheme)), &times.served);
            self.called.add(kept.map(called), &times.called);
            let route = |kept: &Kept| vec![("route", named(kept.route.as_deref()))];
            self.overhead.add(kept.map(route), &times.overhead);
        }
    }

    /// The families.
    pub(super) fn families(&self) -> [Family; 3] {
        [
            self.served.family(&SERVED),
            self.called.family(&CALLED),
            self.overhead.family(&OVERHEAD),
        ]
    }
}

/// The family of requests that are being served, by the workers' counts and their scheme.
pub(super) fn active(counts: &[u64; METHOD_COUNT], scheme: &'static str) -> Family {
    let points = counts.iter().enumerate().map(|(method, count)| {
        let method = method_name(method);
        Point::new(
            [("http.request.method", method), ("url.scheme", scheme)],
            *count,
        )
    });
    ACTIVE.with(points.collect())
}

fn named(name: Option<&str>) -> String {
    name.unwrap_or("none").to_owned()
}

fn served(kept: &Kept, scheme: &'static str) -> Vec<Label> {
    let mut labels = vec![
        ("http.request.method", method_name(kept.method).to_owned()),
        ("url.scheme", scheme.to_owned()),
        ("http.response.status_code", kept.status.to_string()),
        ("network.protocol.version", kept.version.to_owned()),
        ("route", named(kept.route.as_deref())),
    ];
    if let Some(template) = &kept.template {
        labels.push(("http.route", template.to_string()));
    }
    if let Some(error) = kept.error {
        labels.push(("error.type", error.to_owned()));
    }
    labels
}

fn called(kept: &Kept) -> Vec<Label> {
    let mut labels = vec![
        ("http.request.method", method_name(kept.method).to_owned()),
        ("http.response.status_code", kept.status.to_string()),
        ("backend", named(kept.backend.as_deref())),
    ];
    if let Some(site) = &kept.site {
        labels.push(("server.address", site.host.to_string()));
        labels.push(("server.port", site.port.to_string()));
        labels.push(("url.scheme", site.scheme().to_owned()));
    }
    if let Some(error) = kept.error {
        labels.push(("error.type", error.to_owned()));
    }
    labels
}
