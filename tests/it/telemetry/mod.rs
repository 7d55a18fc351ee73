//! What the gateway tells of requests to others than its own log: collectors, Azure Monitor, Prometheus.

mod azure_monitor;
pub(crate) mod collector;
mod logs;
mod otlp;

use std::time::Duration;

use crate::support::{RawBackend, Scene, Stage, Step};

/// A route to a backend that answers, with `telemetry:` as given.
fn scene(telemetry: &str) -> (RawBackend, Scene) {
    let mut scene = Scene::new();
    scene.more = format!("telemetry: {{ {telemetry} }}\n");
    let fine = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
    let raw = RawBackend::start(&scene, vec![Step::text(fine)]);
    let scene = scene
        .raw("raw", &raw)
        .portal_route("guests", "GET, POST", "/guests/{id}", "raw");
    (raw, scene)
}

/// Lets time pass until a condition comes true: exporters wait by the clock.
fn passing(stage: &Stage, what: &str, condition: impl Fn() -> bool) {
    stage.until(what, |stage| {
        stage.clock.advance(Duration::from_millis(2));
        condition()
    });
}

/// The value of a metric with these labels, as `/metrics` tells it.
fn metric(stage: &Stage, name: &str) -> Option<f64> {
    let text = stage.admin("/metrics");
    let line = text.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(' '))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}
