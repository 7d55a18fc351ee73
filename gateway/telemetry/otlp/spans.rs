//! A request's two spans, and the record of its decision.

use std::time::Duration;

use super::ITEM;
use super::wire::Message;
use crate::telemetry::attributes::{self, Attributes};
use crate::telemetry::event::{Event, Level};
use crate::telemetry::record::{Outcome, Record};
use crate::telemetry::said::Said;
use crate::telemetry::traffic::known_method;
use crate::trace::{SpanId, Trace};

const SERVER: u64 = 2;
const CLIENT: u64 = 3;
const ERROR: u64 = 2;

/// Bytes of a usual span or record, as far as its length's own length is concerned.
const USUAL: usize = 500;

/// Attributes as a field of a message.
struct Field<'m, 'o>(&'m mut Message<'o>, u32);

impl Attributes for Field<'_, '_> {
    fn text(&mut self, name: &'static str, value: &str) {
        self.0.text_attribute(self.1, name, value);
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.0.number_attribute(self.1, name, value);
    }
}

const SPAN_ATTRIBUTES: u32 = 9;
const RECORD_ATTRIBUTES: u32 = 6;

/// Writes the span of a request that was served, and of the one that was sent for it.
pub(in crate::telemetry) fn spans(said: &Said<'_>, scheme: &'static str, out: &mut Vec<u8>) {
    let record = said.record;
    let trace = record.trace_or_own();
    let mut scope = Message::new(out);
    let times = (record.arrived.unix, record.arrived.unix + record.duration);
    let head = Head {
        trace,
        span: trace.span(),
        parent: trace.parent_span(),
        is_remote: true,
        kind: SERVER,
        times,
    };
    scope.message_of(ITEM, USUAL, |span| {
        head.write(span);
        span.parts(5, attributes::name(record));
        let mut to = Field(span, SPAN_ATTRIBUTES);
        attributes::http(said, scheme, &mut to);
        attributes::decision(said, &mut to);
        // Of a server's spans only its own failures are errors: a refused caller is none.
        if attributes::is_failure(record) || record.status.is_server_error() {
            failed(record, span);
        }
    });
    let Some((started, lasted)) = record.called() else {
        return;
    };
    let head = Head {
        span: trace.sent_span(),
        parent: Some(trace.span()),
        is_remote: false,
        kind: CLIENT,
        times: (started, started + lasted),
        ..head
    };
    scope.message_of(ITEM, USUAL, |span| {
        head.write(span);
        let method = known_method(&record.method);
        span.bytes(5, method.as_bytes());
        let mut to = Field(span, SPAN_ATTRIBUTES);
        to.text("http.request.method", method);
        if let Some(site) = record.site.as_deref() {
            to.text("server.address", &site.host);
            to.number("server.port", site.port.into());
            to.text("url.scheme", site.scheme());
        }
        if let Some(backend) = record.backend.as_deref() {
            to.text("portcullis.backend", backend);
        }
        if record.attempts > 1 {
            to.number("http.request.resend_count", u64::from(record.attempts) - 1);
        }
        match record.outcome {
            Outcome::Denied(reason) => {
                to.text("error.type", reason.code());
                failed(record, span);
            }
            _ => {
                let status = record.status;
                to.number("http.response.status_code", status.as_u16().into());
                // Of a client's spans every answer that is an error is one.
                if status.is_client_error() || status.is_server_error() {
                    to.text("error.type", status.as_str());
                    failed(record, span);
                }
            }
        }
    });
}

fn failed(record: &Record, span: &mut Message<'_>) {
    span.message(15, |status| {
        if let Outcome::Denied(reason) = record.outcome {
            status.bytes(2, reason.code().as_bytes());
        }
        status.number(3, ERROR);
    });
}

/// What all spans begin with.
struct Head {
    trace: Trace,
    span: SpanId,
    parent: Option<SpanId>,
    is_remote: bool,
    kind: u64,
    times: (Duration, Duration),
}

impl Head {
    fn write(&self, span: &mut Message<'_>) {
        span.bytes(1, &self.trace.id());
        span.bytes(2, &self.span.bytes());
        if let Some(parent) = self.parent {
            span.bytes(4, &parent.bytes());
        }
        span.number(6, self.kind);
        span.fixed64(7, nanos(self.times.0));
        span.fixed64(8, nanos(self.times.1));
        // Whether the parent is remote is known; and that, if it is.
        let remote = if self.is_remote { 0x300 } else { 0x100 };
        span.fixed32(16, remote | u32::from(self.trace.is_sampled()));
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

const INFO: u64 = 9;
const WARN: u64 = 13;
const SEVERE: u64 = 17;

/// The name of a decision's record.
pub(in crate::telemetry) const DECISION: &str = "portcullis.decision";

/// Writes the record of a decision.
pub(in crate::telemetry) fn decision(said: &Said<'_>, scheme: &'static str, out: &mut Vec<u8>) {
    let record = said.record;
    let trace = record.trace_or_own();
    let ended = nanos(record.arrived.unix + record.duration);
    Message::new(out).message_of(ITEM, USUAL, |line| {
        line.fixed64(1, ended);
        let (number, name) = match record.outcome {
            Outcome::Denied(_) if attributes::is_failure(record) => (SEVERE, "ERROR"),
            Outcome::Denied(_) => (WARN, "WARN"),
            _ => (INFO, "INFO"),
        };
        line.number(2, number);
        line.bytes(3, name.as_bytes());
        line.message(5, |body| {
            body.bytes(1, record.outcome.reason().as_bytes());
        });
        let mut to = Field(line, RECORD_ATTRIBUTES);
        attributes::http(said, scheme, &mut to);
        attributes::decision(said, &mut to);
        attributes::policy(record, &mut to);
        line.fixed32(8, trace.is_sampled().into());
        line.bytes(9, &trace.id());
        line.bytes(10, &trace.span().bytes());
        line.fixed64(11, ended);
        line.bytes(12, DECISION.as_bytes());
    });
}

/// Writes an event of the gateway's own.
pub(in crate::telemetry) fn event(event: &Event, out: &mut Vec<u8>) {
    Message::new(out).message_of(ITEM, USUAL, |line| {
        line.fixed64(1, nanos(event.at));
        let (number, text) = match event.level {
            Level::Info => (INFO, "INFO"),
            Level::Warning => (WARN, "WARN"),
            Level::Error => (SEVERE, "ERROR"),
        };
        line.number(2, number);
        line.bytes(3, text.as_bytes());
        line.message(5, |body| body.bytes(1, event.detail.as_bytes()));
        line.text_attribute(RECORD_ATTRIBUTES, "event.name", &event.name);
        line.fixed64(11, nanos(event.at));
        line.bytes(12, event.name.as_bytes());
    });
}
