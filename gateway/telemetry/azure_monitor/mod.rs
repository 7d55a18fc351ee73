//! Azure Monitor without a collector: envelopes as Application Insights takes them.
//! <https://learn.microsoft.com/azure/azure-monitor/app/data-model-complete>

mod connection_string;
mod envelope;

pub use connection_string::{ConnectionString, NotAConnectionString};

use std::time::Duration;

use envelope::{Head, MetricPoint, duration};

use super::attributes::{self, Attributes};
use super::batches::Batches;
use super::event::{Event, Level};
use super::json::{Object, Times};
use super::level::Requests;
use super::otlp::DECISION;
use super::record::{Outcome, Record};
use super::said::Said;
use super::sink::Telling;
use super::traffic::known_method;
use crate::denial::Reason;
use crate::metric::{Family, Value};
use crate::trace::Parent;

/// Who tells, and what. Whose telemetry it is (`iKey`), the sender puts in.
#[derive(Clone, Debug)]
pub struct Form {
    /// `cloud_RoleName`.
    pub role: String,
    /// `cloud_RoleInstance`.
    pub instance: String,
    /// Which decisions are told, each as an event of its own.
    pub decisions: Requests,
}

/// The longest that the service takes: <https://learn.microsoft.com/azure/azure-monitor/app/data-model-complete>.
const LONGEST_NAME: usize = 1024;
const LONGEST_URL: usize = 2048;
const LONGEST_TEXT: usize = 8192;

/// Attributes as members of an object.
struct Members<'m, 'o>(&'m mut Object<'o>);

impl Attributes for Members<'_, '_> {
    fn text(&mut self, name: &'static str, value: &str) {
        self.0.text(name, cut(value, LONGEST_TEXT));
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.0.shown(name, value);
    }
}

fn cut(text: &str, longest: usize) -> &str {
    text.get(..text.floor_char_boundary(longest))
        .unwrap_or(text)
}

impl Form {
    /// Writes what a record comes to.
    pub(super) fn write(
        &self,
        said: &Said<'_>,
        is_told: bool,
        telling: &Telling,
        times: &mut Times,
        to: &mut Batches,
    ) {
        let (record, scheme) = (said.record, telling.scheme);
        if is_told {
            let name = attributes::name(record).concat();
            let (name, weight) = (cut(&name, LONGEST_NAME), weight(record, telling));
            to.add(1, |out| {
                let head = Head {
                    weight,
                    name: Some(name),
                    ..Head::of(said, "Request", "RequestData", record.arrived.unix)
                };
                let parent = record.trace_or_own().parent_span();
                let head = head.below(said, parent);
                head.write(self, times, out, |item| request(said, name, scheme, item));
            });
            if let Some((started, lasted)) = record.called() {
                to.add(1, |out| {
                    let head = Head {
                        weight,
                        name: Some(name),
                        client: None,
                        ..Head::of(said, "RemoteDependency", "RemoteDependencyData", started)
                    };
                    head.write(self, times, out, |item| dependency(said, lasted, item));
                });
            }
            if let (Outcome::Denied(reason), true) =
                (record.outcome, attributes::is_failure(record))
            {
                to.add(1, |out| {
                    let head = Head::of(said, "Exception", "ExceptionData", ended(record));
                    head.write(self, times, out, |item| {
                        exception(said, reason, scheme, item)
                    });
                });
            }
        }
        if self.decisions.take(record) {
            to.add(1, |out| {
                let head = Head::of(said, "Event", "EventData", ended(record));
                head.write(self, times, out, |item| {
                    item.plain("name", DECISION);
                    told(said, scheme, item, true);
                });
            });
        }
    }

    /// Writes an event of the gateway's own.
    pub(super) fn event(&self, event: &Event, times: &mut Times, out: &mut Vec<u8>) {
        let Event {
            at,
            level,
            name,
            detail,
        } = event;
        Head::new("Message", "MessageData", *at).write(self, times, out, |item| {
            let message = if detail.is_empty() { name } else { detail };
            item.text("message", cut(message, LONGEST_TEXT));
            let severity = match level {
                Level::Info => 1,
                Level::Warning => 2,
                Level::Error => 3,
            };
            item.number("severityLevel", severity);
            let mut properties = Object::open(item.name("properties"));
            properties.text("event.name", name);
            properties.close();
        });
    }

    /// Writes what has been counted since it was told last.
    pub(super) fn metrics(
        &self,
        families: &[Family],
        at: Duration,
        times: &mut Times,
        to: &mut Batches,
    ) {
        for family in families {
            for point in &family.points {
                let value = match &point.value {
                    Value::Whole(value) => MetricPoint::single(*value as f64),
                    Value::Real(value) => MetricPoint::single(*value),
                    Value::Distribution(values) => MetricPoint::of(values),
                };
                let head = Head::new("Metric", "MetricData", at);
                to.add(1, |out| {
                    head.write(self, times, out, |item| {
                        value.write(family.metric.name, item);
                        let mut properties = Object::open(item.name("properties"));
                        for (name, value) in &point.labels {
                            properties.text(name, cut(value, LONGEST_TEXT));
                        }
                        properties.close();
                    });
                });
            }
        }
    }
}

/// When a request was over.
fn ended(record: &Record) -> Duration {
    record.arrived.unix + record.duration
}

fn request(said: &Said<'_>, name: &str, scheme: &'static str, item: &mut Object<'_>) {
    let record = said.record;
    item.shown("id", record.trace_or_own().span());
    item.text("name", name);
    item.shown("duration", duration(record.duration));
    item.plain("responseCode", record.status.as_str());
    let success = !matches!(record.outcome, Outcome::Denied(_)) && !is_error(record);
    item.flag("success", success);
    let url = format!("{scheme}://{}{}", record.host, record.shown_path());
    item.text("url", cut(&url, LONGEST_URL));
    told(said, scheme, item, false);
}

fn dependency(said: &Said<'_>, lasted: Duration, item: &mut Object<'_>) {
    let record = said.record;
    item.shown("id", record.trace_or_own().sent_span());
    item.plain("type", "HTTP");
    item.shown("duration", duration(lasted));
    let (code, success) = match record.outcome {
        Outcome::Denied(reason) => (reason.code(), false),
        _ => (record.status.as_str(), !is_error(record)),
    };
    item.plain("resultCode", code);
    item.flag("success", success);
    item.plain("name", known_method(&record.method));
    if let Some(site) = record.site.as_deref() {
        let port = match (site.secure, site.port) {
            (true, 443) | (false, 80) => String::new(),
            (_, port) => format!(":{port}"),
        };
        item.text("target", &format!("{}{port}", site.host));
        // Where, and not what: what follows the host may hold a key.
        item.text("data", &format!("{}://{}{port}", site.scheme(), site.host));
    }
    let mut properties = Object::open(item.name("properties"));
    if let Some(backend) = record.backend.as_deref() {
        properties.text("portcullis.backend", backend);
    }
    if let Some(route) = record.route.as_deref() {
        properties.text("portcullis.route", route);
    }
    properties.plain("portcullis.request.id", said.id());
    properties.close();
}

fn exception(said: &Said<'_>, reason: Reason, scheme: &'static str, item: &mut Object<'_>) {
    let list = item.name("exceptions");
    list.push(b'[');
    let mut exception = Object::open(list);
    exception.plain("typeName", reason.code());
    let message = match said.record.note() {
        Some(note) => format!("{}: {}", reason.title(), note.got),
        None => reason.title().to_owned(),
    };
    exception.text("message", cut(&message, LONGEST_TEXT));
    exception.flag("hasFullStack", false);
    exception.close();
    list.push(b']');
    item.number("severityLevel", 3);
    told(said, scheme, item, false);
}

/// All that is told of a request, as an item's properties.
fn told(said: &Said<'_>, scheme: &'static str, item: &mut Object<'_>, with_policy: bool) {
    let mut properties = Object::open(item.name("properties"));
    let mut to = Members(&mut properties);
    attributes::http(said, scheme, &mut to);
    attributes::decision(said, &mut to);
    if with_policy {
        attributes::policy(said.record, &mut to);
    }
    properties.close();
}

fn is_error(record: &Record) -> bool {
    record.status.is_client_error() || record.status.is_server_error()
}

/// What part of its like a request stands for, in percent: refusals are all told, and of others those that the ratio
/// takes. What a caller's own sampling left out, nobody here knows.
fn weight(record: &Record, telling: &Telling) -> f64 {
    let trace = record.trace_or_own();
    let follows = trace.parent_span().is_some() && telling.sampling.parent == Parent::Follow;
    match record.outcome {
        Outcome::Denied(_) => 100.0,
        _ if follows => 100.0,
        _ => telling.sampling.ratio * 100.0,
    }
}
