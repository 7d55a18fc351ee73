//! JSON as a token may hold it: objects in which no name stands twice. A parser that takes the first
//! and one that takes the last would see two tokens in one (RFC 7519 section 4 allows refusing).

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Parses one JSON object. At its top no two names may be equal even when letter case is ignored:
/// `tid` beside `TID` is an attack on readers that fold case, never a token of Entra's.
pub(crate) fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    let Strict(Value::Object(object)) = serde_json::from_slice(bytes).ok()? else {
        return None;
    };
    // No two names are the same, and in lower case they are what they fold to.
    let is_lower = |name: &String| {
        name.bytes()
            .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
    };
    if object.keys().all(is_lower) {
        return Some(object);
    }
    let mut folded: Vec<String> = object.keys().map(|name| name.to_lowercase()).collect();
    folded.sort_unstable();
    let unique = folded.windows(2).all(|pair| pair.first() != pair.get(1));
    unique.then_some(object)
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> DeserializeSeed<'de> for StrictVisitor {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate names")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(StrictVisitor)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(StrictVisitor)?;
            if object.insert(name, value).is_some() {
                return Err(serde::de::Error::custom("a name stands twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_with_a_name_twice_is_refused_at_any_depth() {
        for (name, text, accepted) in [
            ("plain", r#"{"a":1,"b":[{"c":2},{"c":3}]}"#, true),
            ("twice at the top", r#"{"tid":"x","tid":"y"}"#, false),
            ("twice in another case", r#"{"tid":"x","TID":"y"}"#, false),
            ("twice, one escaped", r#"{"tid":"x","\u0074id":"y"}"#, false),
            ("twice inside", r#"{"a":{"b":1,"b":1}}"#, false),
            ("twice inside a list", r#"{"a":[{"b":1,"b":1}]}"#, false),
            ("not an object", r#"["a"]"#, false),
            ("more after it", r#"{"a":1} {"a":2}"#, false),
            ("not JSON", "{a:1}", false),
        ] {
            assert_eq!(object(text.as_bytes()).is_some(), accepted, "{name}");
        }
    }

    #[test]
    fn nesting_without_end_is_refused_not_followed() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(object(deep.as_bytes()).is_none());
    }
}
