//! Azure Monitor without a collector: envelopes as Application Insights takes them.
//! <https://learn.microsoft.com/azure/azure-monitor/app/data-model-complete>

mod connection_string;
mod envelope;

pub use connection_string::{ConnectionString, NotAConnectionString};

use std::time::Duration;

use envelope::{Head, MetricPoint, Moment};

use super::attributes::{self, Attributes, Slot};
use super::batches::Batches;
use super::event::{Event, Level};
use super::handover::Bells;
use super::json::{Object, Times};
use super::level::Requests;
use super::otlp::DECISION;
use super::record::{Outcome, Record};
use super::sink::Telling;
use super::stencil::Stencil;
use super::traffic::known_method;
use super::words::{Fixed, Loose, Text};
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

    fn slot(&mut self, slot: Slot) {
        let name = slot.name();
        match slot {
            Slot::Id => self.0.fixed(name, Fixed::Id),
            Slot::Client => self.0.loose(name, Loose::Client),
            // No longer than the service takes.
            Slot::Path => self.0.loose(name, Loose::ShownPath),
        }
    }
}

fn cut(text: &str, longest: usize) -> &str {
    text.get(..text.floor_char_boundary(longest))
        .unwrap_or(text)
}

impl Form {
    /// What all records like this one come to, each on a line of its own.
    pub(super) fn envelopes(&self, record: &Record, telling: &Telling) -> Vec<Stencil> {
        let scheme = telling.scheme;
        let mut envelopes = Vec::new();
        if record.is_told() {
            let name = attributes::name(record).concat();
            let (name, weight) = (cut(&name, LONGEST_NAME), weight(record, telling));
            let parent = record.trace_or_own().parent_span();
            let head = Head {
                weight,
                name: Some(name),
                operation: Some(parent.map(|_| Fixed::Text(Text::ParentSpan))),
                ..Head::of("Request", "RequestData", Fixed::Arrived)
            };
            envelopes.push(head.envelope(self, |item| request(record, name, scheme, item)));
            if record.called().is_some() {
                let head = Head {
                    weight,
                    name: Some(name),
                    has_client: false,
                    ..Head::of(
                        "RemoteDependency",
                        "RemoteDependencyData",
                        Fixed::Text(Text::Started),
                    )
                };
                envelopes.push(head.envelope(self, |item| dependency(record, item)));
            }
            if let (Outcome::Denied(reason), true) =
                (record.outcome, attributes::is_failure(record))
            {
                let head = Head::of("Exception", "ExceptionData", Fixed::Text(Text::Ended));
                let write = |item: &mut Object<'_>| exception(record, reason, scheme, item);
                envelopes.push(head.envelope(self, write));
            }
        }
        if self.decisions.take(record) {
            let head = Head::of("Event", "EventData", Fixed::Text(Text::Ended));
            envelopes.push(head.envelope(self, |item| {
                item.plain("name", DECISION);
                told(record, scheme, item, true);
            }));
        }
        envelopes
    }

    /// Writes an event of the gateway's own.
    pub(super) fn event(&self, event: &Event, times: &mut Times, out: &mut Vec<u8>) {
        let Event {
            at,
            level,
            name,
            detail,
        } = event;
        let head = Head::new("Message", "MessageData", Moment::At(times.of(*at)));
        let envelope = head.envelope(self, |item| {
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
        out.extend_from_slice(&envelope.whole());
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
                let head = Head::new("Metric", "MetricData", Moment::At(times.of(at)));
                let envelope = head.envelope(self, |item| {
                    value.write(family.metric.name, item);
                    let mut properties = Object::open(item.name("properties"));
                    for (name, value) in &point.labels {
                        properties.text(name, cut(value, LONGEST_TEXT));
                    }
                    properties.close();
                });
                let write = |out: &mut Vec<u8>| out.extend_from_slice(&envelope.whole());
                // Whoever has it written takes it along.
                to.add(1, write, &mut Bells::default());
            }
        }
    }
}

fn request(record: &Record, name: &str, scheme: &'static str, item: &mut Object<'_>) {
    item.fixed("id", Fixed::Text(Text::Span));
    item.text("name", name);
    item.quoted("duration", "", Loose::Lasted);
    item.plain("responseCode", record.status.as_str());
    let success = !matches!(record.outcome, Outcome::Denied(_)) && !is_error(record);
    item.flag("success", success);
    // Host and path together are no longer than the service takes: 2048.
    let before = format!("{scheme}://{}", record.host);
    item.quoted("url", &before, Loose::ShownPathWithin);
    told(record, scheme, item, false);
}

fn dependency(record: &Record, item: &mut Object<'_>) {
    item.fixed("id", Fixed::Text(Text::SentSpan));
    item.plain("type", "HTTP");
    item.quoted("duration", "", Loose::SentLasted);
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
    properties.fixed(Slot::Id.name(), Fixed::Id);
    properties.close();
}

fn exception(record: &Record, reason: Reason, scheme: &'static str, item: &mut Object<'_>) {
    let list = item.name("exceptions");
    list.text().push(b'[');
    let mut exception = Object::open(list);
    exception.plain("typeName", reason.code());
    let message = match record.note() {
        Some(note) => format!("{}: {}", reason.title(), note.got),
        None => reason.title().to_owned(),
    };
    exception.text("message", cut(&message, LONGEST_TEXT));
    exception.flag("hasFullStack", false);
    exception.close();
    list.text().push(b']');
    item.number("severityLevel", 3);
    told(record, scheme, item, false);
}

/// All that is told of a request, as an item's properties.
fn told(record: &Record, scheme: &'static str, item: &mut Object<'_>, with_policy: bool) {
    let mut properties = Object::open(item.name("properties"));
    let mut to = Members(&mut properties);
    attributes::http(record, scheme, &mut to);
    attributes::decision(record, &mut to);
    if with_policy {
        attributes::policy(record, &mut to);
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
