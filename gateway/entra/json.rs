//! JSON as a token may hold it: objects in which no name stands twice. A parser that takes the first
//! and one that takes the last would see two tokens in one (RFC 7519 section 4 allows refusing).
//!
//! What is read borrows from its text wherever no escape stands in the way: a token that was never seen is
//! read once, and little of it is kept.

use std::fmt;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A value.
#[derive(PartialEq)]
pub(super) enum Json<'t> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Text<'t>),
    List(Vec<Self>),
    Object(Object<'t>),
}

/// An object: its members, in the order of their names.
#[derive(PartialEq)]
pub(super) struct Object<'t>(Vec<(Text<'t>, Json<'t>)>);

/// Text, without its quotes.
pub(super) enum Text<'t> {
    /// Without what needs an escape, for it stood in JSON without one. INVARIANT: [`object`], which reads text, is the
    /// only way to a [`Json`]: values that serde_json has read already would lend out what they hold unescaped.
    Plain(&'t str),
    /// Whatever else it may hold.
    Any(String),
}

/// Parses one JSON object. At its top no two names may be equal even when letter case is ignored:
/// `tid` beside `TID` is an attack on readers that fold case, never a token of Entra's.
pub(super) fn object(text: &str) -> Option<Object<'_>> {
    let Json::Object(object) = serde_json::from_str(text).ok()? else {
        return None;
    };
    // No two names are the same, and in lower case they are what they fold to.
    let is_lower = |name: &str| {
        name.bytes()
            .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
    };
    if object.members().all(|(name, _)| is_lower(name)) {
        return Some(object);
    }
    let mut folded: Vec<String> = object
        .members()
        .map(|(name, _)| name.to_lowercase())
        .collect();
    folded.sort_unstable();
    let unique = folded.windows(2).all(|pair| pair.first() != pair.get(1));
    unique.then_some(object)
}

impl<'t> Object<'t> {
    /// `None` when a name stands twice.
    fn new(mut members: Vec<(Text<'t>, Json<'t>)>) -> Option<Self> {
        members.sort_unstable_by(|(name, _), (other, _)| str::cmp(name, other));
        let mut pairs = members.iter().zip(members.iter().skip(1));
        let unique = pairs.all(|((name, _), (next, _))| name != next);
        unique.then_some(Self(members))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Json<'t>> {
        let at = self.0.binary_search_by(|(other, _)| (**other).cmp(name));
        self.0.get(at.ok()?).map(|(_, value)| value)
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&Text<'t>, &Json<'t>)> {
        self.0.iter().map(|(name, value)| (name, value))
    }

    /// The same, borrowing nothing.
    pub(super) fn to_map(&self) -> Map<String, Value> {
        let members = self.members();
        members
            .map(|(name, value)| (name.to_string(), value.to_value()))
            .collect()
    }
}

impl Json<'_> {
    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    /// The same, borrowing nothing.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::from(&**text),
            Self::List(items) => items.iter().map(Self::to_value).collect(),
            Self::Object(object) => Value::Object(object.to_map()),
        }
    }
}

impl Text<'_> {
    /// Writes it as JSON, in quotes.
    pub(super) fn write_to(&self, out: &mut Vec<u8>) {
        match self {
            Self::Plain(text) => {
                debug_assert!(!text.contains(['"', '\\']) && !text.contains(|c| c < ' '));
                out.push(b'"');
                out.extend_from_slice(text.as_bytes());
                out.push(b'"');
            }
            Self::Any(text) => out.extend_from_slice(Value::from(&**text).to_string().as_bytes()),
        }
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Any(text) => text,
        }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Strict)
    }
}

struct Strict;

impl<'de> Visitor<'de> for Strict {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate names")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json<'de>, E> {
        Number::from_f64(value)
            .map(Json::Number)
            .ok_or_else(|| E::custom("not a number"))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Text::Plain(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Text::Any(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some((Name(name), value)) = map.next_entry()? {
            members.push((name, value));
        }
        let object = Object::new(members).ok_or_else(|| A::Error::custom("a name stands twice"))?;
        Ok(Json::Object(object))
    }
}

/// A member's name, which must be text.
struct Name<'t>(Text<'t>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(Text::Plain(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Name<'de>, E> {
        Ok(Name(Text::Any(value.to_owned())))
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
            assert_eq!(object(text).is_some(), accepted, "{name}");
        }
    }

    #[test]
    fn what_is_empty_takes_no_room() {
        let read = object(r#"{"a":[{},{},[]]}"#).expect("an object");
        let Some(Json::List(items)) = read.get("a") else {
            panic!("a list");
        };
        for item in items {
            let room = match item {
                Json::Object(object) => object.0.capacity(),
                Json::List(items) => items.capacity(),
                _ => panic!("an object or a list"),
            };
            assert_eq!(room, 0);
        }
    }

    #[test]
    fn nesting_without_end_is_refused_not_followed() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(object(&deep).is_none());
    }

    #[test]
    fn text_is_written_as_serde_json_writes_it() {
        let each = (0..=0x100).filter_map(char::from_u32);
        let each = each.map(|character| format!("a{character}b"));
        for value in each.chain([String::new(), "\u{1f600}".to_owned()]) {
            let written = serde_json::to_string(&value).expect("written");
            let inner = written.trim_matches('"');
            let escaped: String = value
                .encode_utf16()
                .map(|unit| format!("\\u{unit:04x}"))
                .collect();
            for inside in [inner, &escaped] {
                let text = format!("{{\"{inside}\":\"{inside}\"}}");
                let read = object(&text).expect("an object");
                let (name, _) = read.members().next().expect("a member");
                for text in [Some(name), read.get(&value).and_then(text_of)] {
                    let mut out = Vec::new();
                    text.expect("text").write_to(&mut out);
                    assert_eq!(out, written.as_bytes(), "{value:?}");
                }
            }
        }
    }

    fn text_of<'t>(value: &'t Json<'_>) -> Option<&'t Text<'t>> {
        match value {
            Json::Text(text) => Some(text),
            _ => None,
        }
    }

    #[test]
    fn what_is_read_is_what_serde_json_reads() {
        let text = r#"{"z":"a\"b","a":[1,-2,1.5,true,null,{"y":"\u00e9","b":[]}],"b":{"c":18446744073709551615}}"#;
        let read = object(text).expect("an object");
        let expected: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(Value::Object(read.to_map()), expected);
        assert_eq!(read.get("z").and_then(Json::as_str), Some("a\"b"));
        assert!(read.get("y").is_none());
    }
}
