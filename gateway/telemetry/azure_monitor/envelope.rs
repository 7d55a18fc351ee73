//! One envelope: what stands around each item, whatever it is.

use std::time::Duration;

use super::Form;
use crate::metric::Distribution;
use crate::telemetry::json::{Object, Times};
use crate::telemetry::said::Said;
use crate::trace::SpanId;

/// What an envelope says of its item.
pub(super) struct Head<'h> {
    /// The last part of its name: the table that it goes to.
    pub(super) kind: &'static str,
    /// What its data are.
    pub(super) base: &'static str,
    /// When, since the Unix epoch.
    pub(super) at: Duration,
    /// What part of its like it stands for, in percent.
    pub(super) weight: f64,
    /// The trace that it belongs to, and the span in it.
    pub(super) operation: Option<(&'h str, Option<SpanId>)>,
    /// The name of the operation.
    pub(super) name: Option<&'h str>,
    /// Who called.
    pub(super) client: Option<&'h str>,
}

impl<'h> Head<'h> {
    /// What belongs to a request, below its span.
    pub(super) fn of(
        said: &'h Said<'_>,
        kind: &'static str,
        base: &'static str,
        at: Duration,
    ) -> Self {
        let span = said.record.trace_or_own().span();
        Self {
            operation: Some((said.any_trace(), Some(span))),
            client: Some(said.client()),
            ..Self::new(kind, base, at)
        }
    }

    /// The same below another span, or none.
    pub(super) fn below(self, said: &'h Said<'_>, parent: Option<SpanId>) -> Self {
        Self {
            operation: Some((said.any_trace(), parent)),
            ..self
        }
    }

    /// What belongs to no operation, and stands for itself.
    pub(super) fn new(kind: &'static str, base: &'static str, at: Duration) -> Self {
        Self {
            kind,
            base,
            at,
            weight: 100.0,
            operation: None,
            name: None,
            client: None,
        }
    }

    /// Writes an envelope on a line of its own; `write` writes the item's members.
    pub(super) fn write(
        &self,
        form: &Form,
        times: &mut Times,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Object<'_>),
    ) {
        let mut envelope = Object::open(out);
        envelope.shown(
            "name",
            format_args!("Microsoft.ApplicationInsights.{}", self.kind),
        );
        let time = times.of(self.at);
        // INVARIANT: digits and the signs between them.
        envelope.plain("time", std::str::from_utf8(&time).unwrap_or_default());
        envelope.real("sampleRate", self.weight);
        let mut tags = Object::open(envelope.name("tags"));
        tags.text("ai.cloud.role", &form.role);
        tags.text("ai.cloud.roleInstance", &form.instance);
        tags.plain(
            "ai.internal.sdkVersion",
            concat!("portcullis:", env!("CARGO_PKG_VERSION")),
        );
        if let Some((trace, parent)) = &self.operation {
            tags.plain("ai.operation.id", trace);
            if let Some(parent) = parent {
                tags.shown("ai.operation.parentId", parent);
            }
        }
        if let Some(name) = self.name {
            tags.text("ai.operation.name", name);
        }
        if let Some(client) = self.client {
            tags.plain("ai.location.ip", client);
        }
        tags.close();
        let mut data = Object::open(envelope.name("data"));
        data.plain("baseType", self.base);
        let mut base = Object::open(data.name("baseData"));
        base.number("ver", 2);
        write(&mut base);
        base.close();
        data.close();
        envelope.close();
        out.push(b'\n');
    }
}

/// A duration, as the service reads it: `D.HH:MM:SS.ffffff`, of less than a thousand days.
pub(super) fn duration(duration: Duration) -> impl std::fmt::Display {
    const DAY: u64 = 24 * 60 * 60;
    let seconds = duration.as_secs().min(DAY * 1000 - 1);
    let (days, rest) = (seconds / DAY, seconds % DAY);
    let (hours, minutes, seconds) = (rest / 3600, rest / 60 % 60, rest % 60);
    let micros = duration.subsec_micros();
    format!("{days}.{hours:02}:{minutes:02}:{seconds:02}.{micros:06}")
}

/// What a point of a metric comes to.
pub(super) struct MetricPoint {
    sum: f64,
    count: u64,
    range: Option<(f64, f64)>,
}

impl MetricPoint {
    /// One number.
    pub(super) fn single(value: f64) -> Self {
        Self {
            sum: value,
            count: 1,
            range: None,
        }
    }

    /// A distribution.
    pub(super) fn of(values: &Distribution) -> Self {
        Self {
            sum: values.sum(),
            count: values.total(),
            range: values.range(),
        }
    }

    /// Writes it as an item's members.
    pub(super) fn write(&self, name: &str, item: &mut Object<'_>) {
        let list = item.name("metrics");
        list.push(b'[');
        let mut metric = Object::open(list);
        metric.text("name", name);
        metric.real("value", self.sum);
        metric.number("count", self.count);
        if let Some((least, most)) = self.range {
            metric.real("min", least);
            metric.real("max", most);
        }
        metric.close();
        list.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_days_and_microseconds() {
        for (micros, expected) in [
            (0, "0.00:00:00.000000"),
            (12_345, "0.00:00:00.012345"),
            (90_061_000_001, "1.01:01:01.000001"),
            (u64::MAX, "999.23:59:59.551615"),
        ] {
            assert_eq!(
                duration(Duration::from_micros(micros)).to_string(),
                expected
            );
        }
    }
}
