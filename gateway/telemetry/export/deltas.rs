//! What has been counted since it was told last.

use std::collections::HashMap;

use crate::metric::{Family, Kind, Label, Point, Value};

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Deltas(HashMap<(&'static str, Vec<Label>), Value>);

impl Deltas {
    /// What has changed: of sums and distributions what came since they were told, of all else how it stands.
    pub(super) fn since(&self, families: &[Family]) -> Vec<Family> {
        let changed = |family: &Family| {
            let points = family.points.iter();
            let points = points.filter_map(|point| self.change(family, point));
            Family {
                metric: family.metric,
                points: points.collect(),
            }
        };
        families.iter().map(changed).collect()
    }

    fn change(&self, family: &Family, point: &Point) -> Option<Point> {
        if matches!(family.metric.kind, Kind::Gauge | Kind::UpDown) {
            return Some(point.clone());
        }
        let before = self.0.get(&(family.metric.name, point.labels.clone()));
        let value = match (&point.value, before) {
            (Value::Whole(0), _) => return None,
            (value, None) => value.clone(),
            (Value::Whole(now), Some(Value::Whole(before))) if now > before => {
                Value::Whole(now - before)
            }
            (Value::Real(now), Some(Value::Real(before))) if now > before => {
                Value::Real(now - before)
            }
            (Value::Distribution(now), Some(Value::Distribution(before)))
                if now.total() > before.total() =>
            {
                Value::Distribution(Box::new(now.since(before)))
            }
            _ => return None,
        };
        Some(Point {
            labels: point.labels.clone(),
            value,
        })
    }

    /// They were told.
    pub(super) fn told(&mut self, families: Vec<Family>) {
        for family in families {
            if matches!(family.metric.kind, Kind::Gauge | Kind::UpDown) {
                continue;
            }
            for point in family.points {
                self.0
                    .insert((family.metric.name, point.labels), point.value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{Distribution, Metric, Unit};

    static SUM: Metric = Metric::counter("a.sum", Unit::Of("{a}"), "A sum.");
    static NOW: Metric = Metric::gauge("a.now", Unit::Of("{a}"), "A value.");
    static TIMES: Metric = Metric::new("a.times", Kind::Histogram, Unit::Seconds, "Times.");

    fn point(label: &str, value: impl Into<Value>) -> Point {
        Point::new([("l", label)], value)
    }

    fn told(families: &[Family]) -> Vec<(String, String)> {
        let points = families.iter().flat_map(|family| &family.points);
        points
            .map(|point| {
                let value = match &point.value {
                    Value::Whole(value) => value.to_string(),
                    Value::Real(value) => value.to_string(),
                    Value::Distribution(values) => {
                        format!("{} of {}", values.total(), values.sum())
                    }
                };
                (point.labels[0].1.clone(), value)
            })
            .collect()
    }

    fn rows(rows: &[(&str, &str)]) -> Vec<(String, String)> {
        let rows = rows.iter();
        rows.map(|(label, value)| ((*label).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn sums_are_told_by_what_came_and_values_as_they_stand() {
        let mut times = Distribution::new(&[1.0]);
        times.count(0.5, None);
        let first = vec![
            SUM.with(vec![point("a", 3_u64), point("b", 0_u64)]),
            NOW.with(vec![point("n", 5_u64)]),
            TIMES.with(vec![point("t", times.clone())]),
        ];
        let mut deltas = Deltas::default();
        let expected = rows(&[("a", "3"), ("n", "5"), ("t", "1 of 0.5")]);
        assert_eq!(told(&deltas.since(&first)), expected);
        // What was not taken is told again.
        assert_eq!(told(&deltas.since(&first)), expected);
        deltas.told(first);
        times.count(2.0, None);
        let second = vec![
            SUM.with(vec![point("a", 3_u64), point("b", 2_u64)]),
            NOW.with(vec![point("n", 5_u64)]),
            TIMES.with(vec![point("t", times)]),
        ];
        let expected = rows(&[("b", "2"), ("n", "5"), ("t", "1 of 2")]);
        assert_eq!(told(&deltas.since(&second)), expected);
    }
}
