//! A request's two spans, and the record of its decision.

use super::ITEM;
use super::wire::{Message, nanos};
use crate::telemetry::attributes::{self, Attributes, Slot};
use crate::telemetry::event::{Event, Level};
use crate::telemetry::record::{Outcome, Record};
use crate::telemetry::stencil::Stencil;
use crate::telemetry::traffic::known_method;
use crate::telemetry::words::{Fixed, Loose, Words};

const SERVER: u64 = 2;
const CLIENT: u64 = 3;
const ERROR: u64 = 2;

/// Bytes of a usual span or record, as far as its length's own length is concerned.
const USUAL: usize = 500;

/// A span or record for all requests that are alike.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Item {
    fields: Stencil,
    /// Attributes that are as long as what is told by them, which come last: what stands before is copied at once.
    last: Vec<Loose>,
}

impl Item {
    /// Writes what is told of one of them.
    pub(in crate::telemetry) fn stamp(&self, words: &Words<'_>, out: &mut Vec<u8>) {
        Message::new(out).message_of(ITEM, USUAL, |item| {
            self.fields.stamp(words, item.raw());
            for slot in &self.last {
                words.write(*slot, item.raw());
            }
        });
    }

    /// About how many bytes of memory it takes.
    pub(in crate::telemetry) fn size(&self) -> usize {
        self.fields.size()
    }

    fn fields(&mut self) -> Message<'_> {
        Message::new(self.fields.text())
    }

    /// A time, in nanoseconds.
    fn time(&mut self, field: u32, slot: Fixed) {
        self.fields().before_fixed64(field);
        self.fields.fixed(slot);
    }

    fn bytes(&mut self, field: u32, slot: Fixed) {
        self.fields().before_bytes(field, slot.width());
        self.fields.fixed(slot);
    }
}

/// Attributes as a field of an item.
struct Field<'i>(&'i mut Item, u32);

impl Attributes for Field<'_> {
    fn text(&mut self, name: &'static str, value: &str) {
        self.0
            .fields()
            .text_attribute(self.1, name, value.as_bytes());
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.0.fields().number_attribute(self.1, name, value);
    }

    fn slot(&mut self, slot: Slot) {
        let Self(item, field) = self;
        match slot {
            Slot::Client => item.last.push(Loose::ClientAttribute(*field)),
            Slot::Path => item.last.push(Loose::ShownPathAttribute(*field)),
            Slot::Id => {
                let width = Fixed::Id.width();
                item.fields()
                    .before_text_attribute(*field, slot.name(), width);
                item.fields.fixed(Fixed::Id);
            }
        }
    }
}

const SPAN_ATTRIBUTES: u32 = 9;
const RECORD_ATTRIBUTES: u32 = 6;

/// The span of a request that was served.
pub(in crate::telemetry) fn served(record: &Record, scheme: &'static str) -> Item {
    let trace = record.trace_or_own();
    let mut span = Item::default();
    let parent = trace.parent_span().map(|_| Fixed::ParentSpanBytes);
    identify(&mut span, Fixed::SpanBytes, parent, SERVER);
    span.time(7, Fixed::ArrivedNanos);
    span.time(8, Fixed::EndedNanos);
    // Whether the parent is remote is known; and that, if there is one.
    let remote = if parent.is_some() { 0x300 } else { 0x100 };
    let flags = remote | u32::from(trace.is_sampled());
    span.fields().fixed32(16, flags);
    span.fields().parts(5, attributes::name(record));
    let mut to = Field(&mut span, SPAN_ATTRIBUTES);
    attributes::http(record, scheme, &mut to);
    attributes::decision(record, &mut to);
    // Of a server's spans only its own failures are errors: a refused caller is none.
    if attributes::is_failure(record) || record.status.is_server_error() {
        failed(record, &mut span);
    }
    span
}

/// The span of the request that was sent on, if it was.
pub(in crate::telemetry) fn sent(record: &Record) -> Option<Item> {
    record.called()?;
    let mut span = Item::default();
    identify(
        &mut span,
        Fixed::SentSpanBytes,
        Some(Fixed::SpanBytes),
        CLIENT,
    );
    span.time(7, Fixed::StartedNanos);
    span.time(8, Fixed::AnsweredNanos);
    // Whether the parent is remote is known, and it is not.
    let flags = 0x100 | u32::from(record.trace_or_own().is_sampled());
    span.fields().fixed32(16, flags);
    let method = known_method(&record.method);
    span.fields().bytes(5, method.as_bytes());
    let mut to = Field(&mut span, SPAN_ATTRIBUTES);
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
            failed(record, &mut span);
        }
        _ => {
            let status = record.status;
            to.number("http.response.status_code", status.as_u16().into());
            // Of a client's spans every answer that is an error is one.
            if status.is_client_error() || status.is_server_error() {
                to.text("error.type", status.as_str());
                failed(record, &mut span);
            }
        }
    }
    Some(span)
}

fn failed(record: &Record, span: &mut Item) {
    span.fields().message(15, |status| {
        if let Outcome::Denied(reason) = record.outcome {
            status.bytes(2, reason.code().as_bytes());
        }
        status.number(3, ERROR);
    });
}

/// What all spans begin with.
fn identify(span: &mut Item, own: Fixed, parent: Option<Fixed>, kind: u64) {
    span.bytes(1, Fixed::TraceBytes);
    span.bytes(2, own);
    if let Some(parent) = parent {
        span.bytes(4, parent);
    }
    span.fields().number(6, kind);
}

const INFO: u64 = 9;
const WARN: u64 = 13;
const SEVERE: u64 = 17;

/// The name of a decision's record.
pub(in crate::telemetry) const DECISION: &str = "portcullis.decision";

/// The record of a decision.
pub(in crate::telemetry) fn decision(record: &Record, scheme: &'static str) -> Item {
    let mut line = Item::default();
    line.time(1, Fixed::EndedNanos);
    line.time(11, Fixed::EndedNanos);
    line.bytes(9, Fixed::TraceBytes);
    line.bytes(10, Fixed::SpanBytes);
    let (number, name) = match record.outcome {
        Outcome::Denied(_) if attributes::is_failure(record) => (SEVERE, "ERROR"),
        Outcome::Denied(_) => (WARN, "WARN"),
        _ => (INFO, "INFO"),
    };
    let mut fields = line.fields();
    fields.number(2, number);
    fields.bytes(3, name.as_bytes());
    fields.message(5, |body| {
        body.bytes(1, record.outcome.reason().as_bytes());
    });
    fields.fixed32(8, record.trace_or_own().is_sampled().into());
    fields.bytes(12, DECISION.as_bytes());
    let mut to = Field(&mut line, RECORD_ATTRIBUTES);
    attributes::http(record, scheme, &mut to);
    attributes::decision(record, &mut to);
    attributes::policy(record, &mut to);
    line
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
        line.text_attribute(RECORD_ATTRIBUTES, "event.name", event.name.as_bytes());
        line.fixed64(11, nanos(event.at));
        line.bytes(12, event.name.as_bytes());
    });
}
