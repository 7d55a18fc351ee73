//! What conditions mean, what is refused, and that nothing makes them panic.

mod bounds;
mod garbage;
mod meaning;
mod spelling;
mod wrong;

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::{Condition, Fact, Facts, Failure, Fault, Field, Outcome, Value};

fn found(value: Option<Value<'_>>) -> Fact<'_> {
    value.map_or(Fact::Absent, Fact::Is)
}

/// A request that somebody made.
struct World {
    claims: HashMap<&'static str, Json>,
    headers: HashMap<&'static str, String>,
    parameters: HashMap<&'static str, &'static str>,
    roles: Vec<Box<str>>,
    overage: bool,
    unknown: Vec<Field>,
}

impl World {
    fn new() -> World {
        World {
            claims: HashMap::from([
                ("upn", json!("ann@example.com")),
                ("exp", json!(1_769_862_615)),
                ("acct", json!("zero")),
                ("amr", json!(["pwd", "mfa"])),
                ("level", json!(3)),
                ("ratio", json!(0.5)),
                ("huge", json!(u64::MAX)),
                ("flag", json!(true)),
                ("nothing", json!(null)),
                ("address", json!({"city": "Bern", "zip": 3000})),
                ("mixed", json!([1, "a", null, [2], {"b": 1.0}])),
            ]),
            headers: HashMap::from([("x-region", "EU-west".to_owned())]),
            parameters: HashMap::from([("id", "42")]),
            roles: ["Reader", "Writer"].map(Into::into).into(),
            overage: false,
            unknown: Vec::new(),
        }
    }
}

impl Facts for World {
    fn look(&self, field: &Field) -> Fact<'_> {
        if self.unknown.contains(field) {
            return Fact::Unknown;
        }
        let text = |text: &'static str| Fact::Is(Value::Text(Cow::Borrowed(text)));
        match field {
            Field::Tenant => text("0f0e0d0c-0000-4000-8000-000000000001"),
            Field::App => text("0f0e0d0c-0000-4000-8000-00000000000a"),
            Field::Principal => Fact::Absent,
            Field::Kind => text("appOnly"),
            Field::Version => text("2.0"),
            Field::Roles => Fact::Is(Value::Texts(&self.roles)),
            Field::Scopes => Fact::Is(Value::Texts(&[])),
            Field::Groups if self.overage => Fact::Failed(Failure::GroupOverage),
            Field::Groups => Fact::Is(Value::List(vec![
                Value::Text("g1".into()),
                Value::Text("g2".into()),
            ])),
            Field::Claim(name) => found(self.claims.get(&**name).map(Value::Json)),
            Field::Method => text("GET"),
            Field::Host => text("api.example.com"),
            Field::Path => text("/orders/42"),
            Field::Header(name) => {
                let value = self.headers.get(&**name);
                found(value.map(|value| Value::Text(Cow::Borrowed(value))))
            }
            Field::Parameter(name) => {
                let value = self.parameters.get(&**name);
                found(value.map(|value| Value::Text(Cow::Borrowed(value))))
            }
            // A Saturday.
            Field::Time => Fact::Is(Value::Time(1_769_862_615)),
            Field::Address => text("192.0.2.7"),
            Field::CertificateThumbprint | Field::CertificateSubject | Field::CertificateIssuer => {
                Fact::Absent
            }
            Field::Protocol => text("HTTP/2"),
        }
    }
}

fn compiled(text: &str) -> Condition {
    Condition::compile(text, &|_, _| None).unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
}

fn faults(text: &str) -> Vec<Fault> {
    match Condition::compile(text, &|_, _| None) {
        Ok(_) => panic!("{text} compiles"),
        Err(faults) => faults,
    }
}

fn outcome(text: &str) -> Outcome {
    compiled(text).evaluate(&World::new())
}
