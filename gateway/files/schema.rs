//! JSON schemas of the files, for editors: completion, hover text, and faults while typing. They are
//! generated from the types in this folder, which say what may be written and in which words it is told;
//! what a file means is decided by the decoders, and tests hold the two against each other.

mod gateway;
mod policy;
mod test;
mod words;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// A kind of file that has a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaOf {
    /// gateway.yaml.
    Gateway,
    /// A policy file.
    Policy,
    /// A `*.test.yaml`.
    Test,
}

/// The JSON schema (draft 2020-12) of a kind of file.
pub fn schema(of: SchemaOf) -> Value {
    match of {
        SchemaOf::Gateway => generate::<gateway::Gateway>(),
        SchemaOf::Policy => generate::<policy::Policy>(),
        SchemaOf::Test => generate::<test::Tests>(),
    }
}

fn generate<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12();
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    without_null(&mut schema);
    schema
}

/// A key that may be left out may still not be written without a value.
fn without_null(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(Value::Array(kinds)) = object.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [one] = kinds.as_slice() {
                    let one = one.clone();
                    object.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(forms)) = object.get_mut("enum") {
                forms.retain(|form| !form.is_null());
            }
            if let Some(Value::Array(forms)) = object.get_mut("anyOf") {
                forms.retain(|form| form.get("type").is_none_or(|kind| kind != "null"));
                if let [Value::Object(one)] = forms.as_slice() {
                    let one = one.clone();
                    object.remove("anyOf");
                    object.extend(one);
                }
            }
            object.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
