//! What is counted and measured, as families of points: named once, by OpenTelemetry's rules, and told in
//! Prometheus' text form and over OTLP alike.

use std::time::Duration;

use crate::trace::Trace;

/// What a metric's points are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sum that only grows.
    Counter,
    /// What stands now.
    Gauge,
    /// A sum that grows and shrinks.
    UpDown,
    /// How values are distributed.
    Histogram,
}

/// What a metric counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things of a kind, such as `{request}`: no unit to Prometheus.
    Of(&'static str),
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// As UCUM writes it.
    /// <https://opentelemetry.io/docs/specs/semconv/general/metrics/#instrument-units>
    pub const fn ucum(self) -> &'static str {
        match self {
            Self::Of(things) => things,
            Self::Seconds => "s",
            Self::Bytes => "By",
        }
    }
}

/// A metric: what stands for all its points.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name, as OpenTelemetry writes it.
    pub name: &'static str,
    /// What its points are.
    pub kind: Kind,
    /// What it counts in.
    pub unit: Unit,
    /// What it tells, in a sentence.
    pub help: &'static str,
}

impl Metric {
    /// A sum that only grows.
    pub const fn counter(name: &'static str, unit: Unit, help: &'static str) -> Self {
        Self::new(name, Kind::Counter, unit, help)
    }

    /// What stands now.
    pub const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Self {
        Self::new(name, Kind::Gauge, unit, help)
    }

    /// Any metric.
    pub const fn new(name: &'static str, kind: Kind, unit: Unit, help: &'static str) -> Self {
        Self {
            name,
            kind,
            unit,
            help,
        }
    }

    /// The metric with these points.
    pub fn with(&'static self, points: Vec<Point>) -> Family {
        Family {
            metric: self,
            points,
        }
    }

    /// The metric with one point that has no labels.
    pub fn of(&'static self, value: impl Into<Value>) -> Family {
        self.with(vec![Point::new([], value)])
    }
}

/// A metric and its points.
#[derive(Clone, Debug)]
pub struct Family {
    /// The metric.
    pub metric: &'static Metric,
    /// Its points, no two of which have the same labels.
    pub points: Vec<Point>,
}

/// The name of a label and its value.
pub type Label = (&'static str, String);

/// One value of a metric.
#[derive(Clone, Debug)]
pub struct Point {
    /// What tells it from the metric's other points.
    pub labels: Vec<Label>,
    /// The value.
    pub value: Value,
}

impl Point {
    /// A point with these labels.
    pub fn new<const N: usize>(labels: [(&'static str, &str); N], value: impl Into<Value>) -> Self {
        Self {
            labels: labels.map(|(name, text)| (name, text.to_owned())).into(),
            value: value.into(),
        }
    }
}

/// A value.
#[derive(Clone, Debug)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// A number.
    Real(f64),
    /// How values are distributed.
    Distribution(Box<Distribution>),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<Duration> for Value {
    fn from(value: Duration) -> Self {
        Self::Real(value.as_secs_f64())
    }
}

impl From<Distribution> for Value {
    fn from(value: Distribution) -> Self {
        Self::Distribution(Box::new(value))
    }
}

/// How many values fell between which bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// The upper bounds, inclusive and ascending. What is above all of them has a bucket of its own.
    bounds: &'static [f64],
    /// One for each bound, and one for what is above.
    buckets: Box<[Bucket]>,
    sum: f64,
    least: f64,
    most: f64,
}

/// What fell between two bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bucket {
    /// How many values.
    pub count: u64,
    /// One of them that can be looked up.
    pub exemplar: Option<Exemplar>,
}

/// A value and the span that it was measured in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    /// The value.
    pub value: f64,
    /// When, since the Unix epoch.
    pub at: Duration,
    /// The span.
    pub trace: Trace,
}

impl Distribution {
    /// Nothing yet.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            buckets: vec![Bucket::default(); bounds.len() + 1].into(),
            sum: 0.0,
            least: f64::INFINITY,
            most: f64::NEG_INFINITY,
        }
    }

    /// Counts a value. The exemplar is kept in its bucket, in the place of an older one.
    pub fn count(&mut self, value: f64, exemplar: Option<Exemplar>) {
        let at = self
            .bounds
            .iter()
            .take_while(|bound| value > **bound)
            .count();
        // INVARIANT: there is a bucket for each bound and one more.
        if let Some(bucket) = self.buckets.get_mut(at) {
            bucket.count += 1;
            if exemplar.is_some() {
                bucket.exemplar = exemplar;
            }
        }
        self.sum += value;
        self.least = self.least.min(value);
        self.most = self.most.max(value);
    }

    /// Adds what another with the same bounds has counted.
    pub fn add(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds);
        for (bucket, other) in self.buckets.iter_mut().zip(&other.buckets) {
            bucket.count += other.count;
            bucket.exemplar = other.exemplar.or(bucket.exemplar);
        }
        self.sum += other.sum;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }

    /// What has been counted since it stood as `before` says. The least and the greatest value are those of all.
    pub fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        for (bucket, before) in since.buckets.iter_mut().zip(&before.buckets) {
            bucket.count = bucket.count.saturating_sub(before.count);
            // One that was told is not told again.
            if bucket.exemplar == before.exemplar {
                bucket.exemplar = None;
            }
        }
        since.sum -= before.sum;
        since
    }

    /// The upper bounds, without the last, which is none.
    pub fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// The buckets, one more than there are bounds.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// How many values.
    pub fn total(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    /// The sum of the values.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// The least and the greatest value; `None` where there is none.
    pub fn range(&self) -> Option<(f64, f64)> {
        (self.least <= self.most).then_some((self.least, self.most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_below_the_bound_that_it_equals() {
        let mut counted = Distribution::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 2.0, 2.5, 9.0] {
            counted.count(value, None);
        }
        let counts: Vec<u64> = counted
            .buckets()
            .iter()
            .map(|bucket| bucket.count)
            .collect();
        assert_eq!(counts, [2, 2, 2]);
        assert_eq!((counted.total(), counted.sum()), (6, 16.5));
        assert_eq!(counted.range(), Some((0.5, 9.0)));
        assert_eq!(Distribution::new(&[1.0]).range(), None);
    }

    #[test]
    fn what_two_have_counted_adds_up() {
        let exemplar = |value| {
            Some(Exemplar {
                value,
                at: Duration::ZERO,
                trace: Trace::begin(),
            })
        };
        let (mut one, mut other) = (Distribution::new(&[1.0]), Distribution::new(&[1.0]));
        let (older, newer) = (exemplar(0.5), exemplar(0.25));
        one.count(0.5, older);
        other.count(0.25, newer);
        other.count(3.0, None);
        one.add(&other);
        assert_eq!((one.total(), one.sum()), (3, 3.75));
        assert_eq!(
            one.buckets()[0],
            Bucket {
                count: 2,
                exemplar: newer
            }
        );
        assert_eq!(
            one.buckets()[1],
            Bucket {
                count: 1,
                exemplar: None
            }
        );
        assert_eq!(one.range(), Some((0.25, 3.0)));
    }
}
