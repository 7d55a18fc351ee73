//! Families of metrics.

use std::time::Duration;

use super::ITEM;
use super::wire::{Message, nanos};
use crate::metric::{Bucket, Distribution, Family, Kind, Label, Point, Value};

/// Whether sums are told since the start, or since they were told before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// Since they were told before.
    Delta,
    /// Since the start.
    Cumulative,
}

impl Temporality {
    const fn number(self) -> u64 {
        match self {
            Self::Delta => 1,
            Self::Cumulative => 2,
        }
    }
}

/// Writes families, as they stand at the end of `period`.
pub(in crate::telemetry) fn metrics(
    families: &[Family],
    temporality: Temporality,
    period: (Duration, Duration),
    out: &mut Vec<u8>,
) {
    let mut scope = Message::new(out);
    for family in families.iter().filter(|family| !family.points.is_empty()) {
        let metric = family.metric;
        scope.message(ITEM, |message| {
            message.bytes(1, metric.name.as_bytes());
            message.bytes(2, metric.help.as_bytes());
            message.bytes(3, metric.unit.ucum().as_bytes());
            let field = match metric.kind {
                Kind::Gauge => 5,
                Kind::Counter | Kind::UpDown => 7,
                Kind::Histogram => 9,
            };
            message.message(field, |data| {
                for point in &family.points {
                    data.message(1, |to| write(point, period, to));
                }
                match metric.kind {
                    Kind::Gauge => {}
                    // What grows and shrinks is told as it stands, whatever the others are.
                    Kind::UpDown => data.number(2, Temporality::Cumulative.number()),
                    Kind::Counter => {
                        data.number(2, temporality.number());
                        data.number(3, 1);
                    }
                    Kind::Histogram => data.number(2, temporality.number()),
                }
            });
        });
    }
}

fn write(point: &Point, (from, to): (Duration, Duration), out: &mut Message<'_>) {
    out.fixed64(2, nanos(from));
    out.fixed64(3, nanos(to));
    match &point.value {
        Value::Whole(value) => {
            labels(&point.labels, 7, out);
            out.fixed64(6, *value);
        }
        Value::Real(value) => {
            labels(&point.labels, 7, out);
            out.double(4, *value);
        }
        Value::Distribution(values) => {
            labels(&point.labels, 9, out);
            distribution(values, out);
        }
    }
}

fn labels(labels: &[Label], field: u32, out: &mut Message<'_>) {
    for (name, value) in labels {
        // These are numbers by the conventions.
        match (*name, value.parse()) {
            ("http.response.status_code" | "server.port", Ok(number)) => {
                out.number_attribute(field, name, number);
            }
            _ => out.text_attribute(field, name, value.as_bytes()),
        }
    }
}

fn distribution(values: &Distribution, out: &mut Message<'_>) {
    out.fixed64(4, values.total());
    out.double(5, values.sum());
    out.packed64(6, values.buckets().iter().map(|bucket| bucket.count));
    out.packed64(7, values.bounds().iter().map(|bound| bound.to_bits()));
    for Bucket { exemplar, .. } in values.buckets() {
        let Some(exemplar) = exemplar else { continue };
        out.message(8, |to| {
            to.fixed64(2, nanos(exemplar.at));
            to.double(3, exemplar.value);
            to.bytes(4, &exemplar.trace.span().bytes());
            to.bytes(5, &exemplar.trace.id());
        });
    }
    if let Some((least, most)) = values.range() {
        out.double(11, least);
        out.double(12, most);
    }
}
