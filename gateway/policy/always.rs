//! What a condition comes to whoever asks: over every value that the rule and its route leave of fields
//! that have but few, and times that stand for all that a condition can tell apart.

use std::borrow::Cow;

use super::condition::{Condition, Fact, Facts, Field, Outcome, Value};
use super::routes::Route;
use super::rule::{Clause, Rule};
use crate::entra::Version;
use crate::files::point_in_time;
use crate::token::TokenKind;

/// The most combinations of values that are tried.
const MOST: usize = 20_000;

/// The first second of 2000, and the seconds of common spans.
const Y2000: i64 = 946_684_800;
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 31_556_952;

/// What the condition of a rule always is. `None` if it is now this and now that, or hangs on what may be
/// anything.
pub(super) fn always(condition: &Condition, rule: &Rule, route: &Route) -> Option<bool> {
    if let Some(constant) = condition.constant() {
        return Some(constant);
    }
    let known = condition.fields().iter();
    let known: Vec<(&Field, Vec<Value<'static>>)> = known
        .filter_map(|field| Some((field, values(field, condition, rule, route)?)))
        .collect();
    let combinations = known.iter().try_fold(1_usize, |all, (_, values)| {
        all.checked_mul(values.len()).filter(|all| *all <= MOST)
    })?;
    let mut outcomes = (0..combinations).map(|at| {
        let supposed = Supposed { known: &known, at };
        match condition.evaluate(&supposed) {
            Outcome::Is(holds) => Some(holds),
            Outcome::Failed(_) | Outcome::Unknown => None,
        }
    });
    let first = outcomes.next()??;
    outcomes
        .all(|outcome| outcome == Some(first))
        .then_some(first)
}

/// One combination of values, by its number.
struct Supposed<'k> {
    known: &'k [(&'k Field, Vec<Value<'static>>)],
    at: usize,
}

impl Facts for Supposed<'_> {
    fn look(&self, field: &Field) -> Fact<'_> {
        let mut at = self.at;
        for (known, values) in self.known {
            if *known == field {
                let value = values.get(at % values.len());
                return value.map_or(Fact::Unknown, |value| Fact::Is(value.clone()));
            }
            at /= values.len();
        }
        Fact::Unknown
    }
}

/// The values that a field can have where the rule is asked, if they are few.
fn values(
    field: &Field,
    condition: &Condition,
    rule: &Rule,
    route: &Route,
) -> Option<Vec<Value<'static>>> {
    let taken = route.taken();
    let values: Vec<Value<'static>> = match field {
        Field::Method => taken
            .methods
            .methods()
            .map(|method| text(&method))
            .collect(),
        Field::Protocol => ["HTTP/1.1", "HTTP/2"].iter().map(text).collect(),
        Field::Version => Version::ALL
            .iter()
            .map(|version| text(&version.claim()))
            .collect(),
        Field::Host => match taken.host.as_deref() {
            Some(host) if !host.starts_with('*') => vec![text(&host)],
            Some(_) | None => return None,
        },
        Field::Path if !taken.path.contains('{') => vec![text(&taken.path)],
        Field::Kind => {
            let asked = rule.clauses().iter().find_map(|clause| match clause {
                Clause::Kinds(kinds) => Some(&**kinds),
                _ => None,
            });
            asked.unwrap_or(TokenKind::ALL).iter().map(text).collect()
        }
        Field::Tenant => rule.clauses().iter().find_map(|clause| match clause {
            Clause::Tenants(ids) => Some(ids.iter().map(|id| text(&id)).collect()),
            _ => None,
        })?,
        Field::App => rule.clauses().iter().find_map(|clause| match clause {
            Clause::Apps(ids) => Some(ids.iter().map(|id| text(&id)).collect()),
            _ => None,
        })?,
        Field::Time => times(condition).map(Value::Time).collect(),
        Field::Path
        | Field::Principal
        | Field::Roles
        | Field::Scopes
        | Field::Groups
        | Field::Claim(_)
        | Field::Header(_)
        | Field::Parameter(_)
        | Field::CertificateThumbprint
        | Field::CertificateSubject
        | Field::CertificateIssuer
        | Field::Address => return None,
    };
    Some(values).filter(|values| !values.is_empty())
}

fn text(value: &impl ToString) -> Value<'static> {
    Value::Text(Cow::Owned(value.to_string()))
}

/// Times around every one that the condition names, and one of every hour of a week, of every part of a
/// year, and of every year of a century.
fn times(condition: &Condition) -> impl Iterator<Item = i64> {
    let quoted = condition.text().split(['\'', '"']);
    let named = quoted.filter_map(point_in_time);
    let named: Vec<i64> = named
        .filter_map(|time| i64::try_from(time.as_secs()).ok())
        .collect();
    let around = named
        .into_iter()
        .flat_map(|time| [time - 1, time, time + 1]);
    let hours = (0..7 * 24).flat_map(|hour| {
        let begins = Y2000 + hour * HOUR;
        [begins, begins + HOUR - 60]
    });
    let days = (0..366).map(|day| Y2000 + day * DAY);
    let years = (0..100).map(|year| Y2000 + year * YEAR + 200 * DAY);
    around.chain(hours).chain(days).chain(years)
}
