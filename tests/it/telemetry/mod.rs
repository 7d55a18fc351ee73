//! What the gateway tells of requests to others than its own log: collectors, Azure Monitor, Prometheus.

mod azure_monitor;
mod collector;
mod logs;
mod otlp;

use std::time::Duration;

use crate::support::Stage;

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
