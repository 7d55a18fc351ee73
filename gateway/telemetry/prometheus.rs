//! Metrics in Prometheus' text form, and in OpenMetrics' for who asks for that.
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>,
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>

use std::fmt::{self, Display, Write as _};

use crate::metric::{Distribution, Exemplar, Family, Kind, Label, Metric, Unit, Value};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' own, version 0.0.4.
    Text,
    /// OpenMetrics, which knows exemplars.
    OpenMetrics,
}

impl Exposition {
    /// What an `Accept` field asks for.
    pub fn accepted(accept: &str) -> Self {
        let is_named = |range: &str| {
            let kind = range.split(';').next().unwrap_or_default();
            kind.trim()
                .eq_ignore_ascii_case("application/openmetrics-text")
        };
        match accept.split(',').any(is_named) {
            true => Self::OpenMetrics,
            false => Self::Text,
        }
    }

    /// The media type of what is written.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Writes families.
    pub fn write(self, families: &[Family]) -> String {
        let mut text = String::new();
        for family in families {
            self.family(family, &mut text);
        }
        if self == Self::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }

    fn family(self, family: &Family, text: &mut String) {
        let metric = family.metric;
        let name = name(metric);
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge | Kind::UpDown => "gauge",
            Kind::Histogram => "histogram",
        };
        // OpenMetrics names a family of counters without what its samples end on.
        let family_name = match self {
            Self::OpenMetrics => name.strip_suffix(TOTAL).unwrap_or(&name),
            Self::Text => &name,
        };
        let _ = writeln!(text, "# HELP {family_name} {}", metric.help);
        let _ = writeln!(text, "# TYPE {family_name} {kind}");
        for point in &family.points {
            let labels = Labels(&point.labels, None);
            match &point.value {
                Value::Whole(value) => {
                    let _ = writeln!(text, "{name}{labels} {value}");
                }
                Value::Real(value) => {
                    let _ = writeln!(text, "{name}{labels} {value}");
                }
                Value::Distribution(values) => {
                    self.distribution(&name, &point.labels, values, text);
                }
            }
        }
    }

    fn distribution(self, name: &str, labels: &[Label], values: &Distribution, text: &mut String) {
        let bounds = values.bounds().iter().copied().chain([f64::INFINITY]);
        let mut below = 0;
        for (bound, bucket) in bounds.zip(values.buckets()) {
            below += bucket.count;
            let labels = Labels(labels, Some(bound));
            let _ = write!(text, "{name}_bucket{labels} {below}");
            if let (Self::OpenMetrics, Some(exemplar)) = (self, &bucket.exemplar) {
                let Exemplar { value, at, trace } = exemplar;
                let (id, span) = (trace, trace.span());
                let at = at.as_secs_f64();
                let _ = write!(
                    text,
                    " # {{trace_id=\"{id}\",span_id=\"{span}\"}} {value} {at}"
                );
            }
            text.push('\n');
        }
        let labels = Labels(labels, None);
        let _ = writeln!(text, "{name}_sum{labels} {}", values.sum());
        let _ = writeln!(text, "{name}_count{labels} {}", values.total());
    }
}

const TOTAL: &str = "_total";

/// The name that Prometheus knows a metric by.
/// <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/#metric-metadata-1>
fn name(metric: &Metric) -> String {
    let mut name = metric.name.replace('.', "_");
    name += match metric.unit {
        Unit::Of(_) => "",
        Unit::Seconds => "_seconds",
        Unit::Bytes => "_bytes",
    };
    if metric.kind == Kind::Counter {
        name += TOTAL;
    }
    name
}

/// Labels in braces, and the bound of a bucket.
struct Labels<'l>(&'l [Label], Option<f64>);

impl Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(labels, bound) = self;
        if labels.is_empty() && bound.is_none() {
            return Ok(());
        }
        let mut before = '{';
        for (name, value) in *labels {
            f.write_char(before)?;
            for part in name.split('.').enumerate().flat_map(|(at, part)| {
                let between = if at == 0 { "" } else { "_" };
                [between, part]
            }) {
                f.write_str(part)?;
            }
            write!(f, "=\"{}\"", Escaped(value))?;
            before = ',';
        }
        match bound {
            None => {}
            Some(bound) if bound.is_finite() => write!(f, "{before}le=\"{bound}\"")?,
            Some(_) => write!(f, "{before}le=\"+Inf\"")?,
        }
        f.write_char('}')
    }
}

/// What stands between the quotes of a label.
struct Escaped<'t>(&'t str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metric::Point;
    use crate::trace::Trace;

    static WAITED: Metric = Metric::counter("a.waited", Unit::Seconds, "How long.");
    static TIMES: Metric = Metric::new("a.times", Kind::Histogram, Unit::Seconds, "Times.");

    #[test]
    fn names_labels_and_values_are_as_prometheus_wants_them() {
        let point = Point::new([("b.c", "say \"a\\b\"\n"), ("d", "")], 1.5);
        let family = WAITED.with(vec![point]);
        assert_eq!(
            Exposition::Text.write(std::slice::from_ref(&family)),
            "# HELP a_waited_seconds_total How long.\n\
             # TYPE a_waited_seconds_total counter\n\
             a_waited_seconds_total{b_c=\"say \\\"a\\\\b\\\"\\n\",d=\"\"} 1.5\n"
        );
        let text = Exposition::OpenMetrics.write(&[family]);
        assert!(
            text.contains("# TYPE a_waited_seconds counter\na_waited_seconds_total{"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn a_distribution_is_told_by_what_lies_below_each_bound() {
        let mut values = Distribution::new(&[0.5, 1.0]);
        let trace = Trace::begin();
        let at = Duration::from_millis(1500);
        values.count(
            0.25,
            Some(Exemplar {
                value: 0.25,
                at,
                trace,
            }),
        );
        values.count(0.75, None);
        values.count(2.0, None);
        let family = TIMES.with(vec![Point::new([("a", "b")], values)]);
        assert_eq!(
            Exposition::Text.write(std::slice::from_ref(&family)),
            "# HELP a_times_seconds Times.\n\
             # TYPE a_times_seconds histogram\n\
             a_times_seconds_bucket{a=\"b\",le=\"0.5\"} 1\n\
             a_times_seconds_bucket{a=\"b\",le=\"1\"} 2\n\
             a_times_seconds_bucket{a=\"b\",le=\"+Inf\"} 3\n\
             a_times_seconds_sum{a=\"b\"} 3\n\
             a_times_seconds_count{a=\"b\"} 3\n"
        );
        let text = Exposition::OpenMetrics.write(&[family]);
        let exemplar = format!(
            "le=\"0.5\"}} 1 # {{trace_id=\"{trace}\",span_id=\"{}\"}} 0.25 1.5\n",
            trace.span()
        );
        assert!(text.contains(&exemplar), "{text}");
    }

    #[test]
    fn openmetrics_is_for_those_who_name_it() {
        for (accept, expected) in [
            ("", Exposition::Text),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Exposition::Text),
            (
                "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
                Exposition::OpenMetrics,
            ),
        ] {
            assert_eq!(Exposition::accepted(accept), expected, "{accept}");
        }
    }
}
