//! One envelope: what stands around each item, whatever it is.

use super::Form;
use crate::metric::Distribution;
use crate::telemetry::json::Object;
use crate::telemetry::stencil::Stencil;
use crate::telemetry::words::{Fixed, Loose, Text};

/// When an item was.
#[derive(Clone, Copy)]
pub(super) enum Moment {
    /// Then: RFC 3339.
    At([u8; 24]),
    /// At one of the times of each request.
    Of(Fixed),
}

/// What an envelope says of its item.
pub(super) struct Head<'h> {
    /// The last part of its name: the table that it goes to.
    pub(super) kind: &'static str,
    /// What its data are.
    pub(super) base: &'static str,
    /// When it was.
    pub(super) at: Moment,
    /// What part of its like it stands for, in percent.
    pub(super) weight: f64,
    /// Of what belongs to a request's trace, the span above it, if there is one.
    pub(super) operation: Option<Option<Fixed>>,
    /// The name of the operation.
    pub(super) name: Option<&'h str>,
    /// Whether it says who called.
    pub(super) has_client: bool,
}

impl<'h> Head<'h> {
    /// What belongs to a request, below its span.
    pub(super) const fn of(kind: &'static str, base: &'static str, at: Fixed) -> Self {
        Self {
            operation: Some(Some(Fixed::Text(Text::Span))),
            has_client: true,
            ..Self::new(kind, base, Moment::Of(at))
        }
    }

    /// What belongs to no operation, and stands for itself.
    pub(super) const fn new(kind: &'static str, base: &'static str, at: Moment) -> Self {
        Self {
            kind,
            base,
            at,
            weight: 100.0,
            operation: None,
            name: None,
            has_client: false,
        }
    }

    /// An envelope on a line of its own; `write` writes the item's members.
    pub(super) fn envelope(&self, form: &Form, write: impl FnOnce(&mut Object<'_>)) -> Stencil {
        let mut stencil = Stencil::default();
        let mut envelope = Object::open(&mut stencil);
        envelope.shown(
            "name",
            format_args!("Microsoft.ApplicationInsights.{}", self.kind),
        );
        match &self.at {
            // INVARIANT: digits and the signs between them.
            Moment::At(time) => {
                envelope.plain("time", std::str::from_utf8(time).unwrap_or_default());
            }
            Moment::Of(slot) => envelope.fixed("time", *slot),
        }
        envelope.real("sampleRate", self.weight);
        let mut tags = Object::open(envelope.name("tags"));
        tags.text("ai.cloud.role", &form.role);
        tags.text("ai.cloud.roleInstance", &form.instance);
        tags.plain(
            "ai.internal.sdkVersion",
            concat!("portcullis:", env!("CARGO_PKG_VERSION")),
        );
        if let Some(parent) = self.operation {
            tags.fixed("ai.operation.id", Fixed::Trace);
            if let Some(parent) = parent {
                tags.fixed("ai.operation.parentId", parent);
            }
        }
        if let Some(name) = self.name {
            tags.text("ai.operation.name", name);
        }
        if self.has_client {
            tags.loose("ai.location.ip", Loose::Client);
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
        stencil.text().push(b'\n');
        stencil
    }
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
        list.text().push(b'[');
        let mut metric = Object::open(list);
        metric.text("name", name);
        metric.real("value", self.sum);
        metric.number("count", self.count);
        if let Some((least, most)) = self.range {
            metric.real("min", least);
            metric.real("max", most);
        }
        metric.close();
        list.text().push(b']');
    }
}
