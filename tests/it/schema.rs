//! The JSON schemas, held against the decoders: the same keys, and the same verdict on files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use portcullis::files::{
    Diagnostics, SchemaOf, parse_gateway, parse_policies, parse_tests, schema,
};
use serde_json::Value;

use crate::documents::{gateway_faults, known_keys, policy_faults, test_faults};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_schemas_that_are_kept_are_those_of_the_types() {
    for (name, of) in [
        ("gateway", SchemaOf::Gateway),
        ("policy", SchemaOf::Policy),
        ("test", SchemaOf::Test),
    ] {
        let path = root().join(format!("policies/schema/{name}.schema.json"));
        let now = format!("{:#}\n", schema(of));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &now).expect("written");
        }
        assert_eq!(
            fs::read_to_string(&path).expect(name),
            now,
            "{name}: BLESS=1 writes it anew"
        );
        let said = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["schema", name])
            .output()
            .expect("it runs");
        assert_eq!(String::from_utf8_lossy(&said.stdout), now);
    }
}

/// The keys that a schema knows, as the tables of the documents write them.
fn keys(document: &Value, at: &Value, place: &str, found: &mut BTreeSet<String>) {
    let Some(object) = at.as_object() else {
        return;
    };
    if let Some(Value::String(reference)) = object.get("$ref") {
        let name = reference.trim_start_matches("#/$defs/");
        keys(document, &document["$defs"][name], place, found);
    }
    for form in ["anyOf", "oneOf", "allOf"]
        .iter()
        .filter_map(|key| object.get(*key)?.as_array())
    {
        form.iter()
            .for_each(|form| keys(document, form, place, found));
    }
    if let Some(items) = object.get("items") {
        keys(document, items, &format!("{place}[]"), found);
    }
    if let Some(inner) = object.get("additionalProperties") {
        keys(document, inner, &format!("{place}.*"), found);
    }
    for (name, inner) in object
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let name = format!("{place}.{name}");
        found.insert(name.trim_start_matches('.').to_owned());
        keys(document, inner, &name, found);
        assert!(
            inner
                .get("description")
                .and_then(Value::as_str)
                .is_some_and(|text| text.len() > 8),
            "{name} has no hover text: {inner}"
        );
    }
}

#[test]
fn a_schema_knows_the_keys_of_the_decoder_and_no_others() {
    for (of, known, prefix) in [
        (SchemaOf::Gateway, known_keys(gateway_faults), ""),
        (SchemaOf::Policy, known_keys(policy_faults), ""),
        (SchemaOf::Test, known_keys(test_faults), "[]."),
    ] {
        let schema = schema(of);
        let mut found = BTreeSet::new();
        keys(&schema, &schema, "", &mut found);
        let found: BTreeSet<String> = found
            .iter()
            .map(|key| key.trim_start_matches(prefix).to_owned())
            .collect();
        assert_eq!(found, known.into_iter().collect(), "{of:?}");
    }
}

/// The words that a schema takes at each place where a text may stand, none where it takes any. A place
/// is the document around it, with `@` for the text.
fn texts(
    document: &Value,
    at: &Value,
    place: &str,
    found: &mut BTreeMap<String, BTreeSet<String>>,
) {
    let Some(object) = at.as_object() else {
        return;
    };
    if let Some(Value::String(reference)) = object.get("$ref") {
        let name = reference.trim_start_matches("#/$defs/");
        texts(document, &document["$defs"][name], place, found);
    }
    for form in ["anyOf", "oneOf"]
        .iter()
        .filter_map(|key| object.get(*key)?.as_array())
        .flatten()
    {
        texts(document, form, place, found);
    }
    if object.get("type").is_some_and(|kind| kind == "string") {
        let listed = object.get("enum").and_then(Value::as_array);
        let words = object
            .get("const")
            .into_iter()
            .chain(listed.into_iter().flatten());
        let words = words.filter_map(Value::as_str).map(str::to_owned);
        let words: Vec<String> = words.collect();
        assert!(
            words.is_empty() || object.contains_key("description"),
            "{words:?} at {place} have no hover text"
        );
        found.entry(place.to_owned()).or_default().extend(words);
    }
    let below = |shape: &str| place.replace('@', shape);
    if let Some(items) = object.get("items") {
        texts(document, items, &below("[@]"), found);
    }
    if let Some(inner) = object.get("additionalProperties") {
        texts(document, inner, &below("{ x: @ }"), found);
    }
    let properties = object.get("properties").and_then(Value::as_object);
    for (name, inner) in properties.into_iter().flatten() {
        texts(document, inner, &below(&format!("{{ {name}: @ }}")), found);
    }
}

/// What a decoder says of a word at a place.
fn said_of(of: SchemaOf, place: &str, word: &str) -> Vec<String> {
    let document = place.replace('@', word);
    let mut diagnostics = Diagnostics::new();
    match of {
        SchemaOf::Gateway => {
            parse_gateway(Path::new("gateway.yaml"), &document, &mut diagnostics);
        }
        SchemaOf::Policy => {
            parse_policies(&[(Path::new("p.yaml"), &document)], &mut diagnostics);
        }
        SchemaOf::Test => {
            parse_tests(Path::new("p.test.yaml"), &document, &mut diagnostics);
        }
    }
    let start = place.find('@').expect("a place");
    let sorted = diagnostics.sorted();
    let here = sorted
        .iter()
        .filter(|found| found.primary().span.range().start == start);
    here.flat_map(|found| [&[found.message().to_owned()], found.helps()].concat())
        .collect()
}

#[test]
fn a_schema_knows_the_words_of_the_decoder_and_no_others() {
    const STRANGER: &str = "zzzzzz";
    for (of, some) in [
        (SchemaOf::Gateway, "{ telemetry: { requestLog: @ } }"),
        (
            SchemaOf::Policy,
            "{ routes: { x: { match: { methods: [@] } } } }",
        ),
        (SchemaOf::Test, "[{ expect: @ }]"),
    ] {
        let schema = schema(of);
        let mut places = BTreeMap::new();
        texts(&schema, &schema, "@", &mut places);
        assert!(
            places.get(some).is_some_and(|words| words.len() > 1),
            "{some}"
        );
        for (place, words) in places {
            for word in &words {
                let said = said_of(of, &place, word);
                assert!(said.is_empty(), "{word} at {place}: {said:?}");
            }
            let said = said_of(of, &place, STRANGER).join(" ");
            if words.is_empty() {
                let is_closed = said.contains("this is not one of");
                assert!(!is_closed, "the schema takes any text at {place}: {said}");
                continue;
            }
            let is_word = |text: &&str| {
                text.chars()
                    .all(|c| c.is_alphanumeric() || "/-".contains(c))
            };
            let known = said.split('`').skip(1).step_by(2).filter(is_word);
            let known: BTreeSet<String> = known.map(str::to_owned).collect();
            assert_eq!(words, known, "{place}: {said}");
        }
    }
}

/// A small reader of YAML as JSON, by the core schema, on the parser of the gateway itself: a test file
/// may hold any claims.
fn json(text: &str) -> Value {
    let indented: String = text.lines().map(|line| format!("      {line}\n")).collect();
    let test = format!(
        "- name: x\n  request: {{ method: GET, path: /x }}\n  token:\n    tenant: t\n    app: a\n    claims:\n      document:\n{}\n  expect: deny\n",
        indented
            .replace("\n      ", "\n        ")
            .replacen("      ", "        ", 1)
    );
    let mut diagnostics = Diagnostics::new();
    let document = parse_tests(Path::new("x.test.yaml"), &test, &mut diagnostics);
    let case = document
        .cases
        .first()
        .unwrap_or_else(|| panic!("{}\n{test}", diagnostics.render()));
    case.token.as_ref().expect("a token").value.claims["document"].clone()
}

fn valid(of: SchemaOf, document: &Value) -> Result<(), String> {
    let schema = schema(of);
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let faults: Vec<String> = validator
        .iter_errors(document)
        .map(|fault| format!("{} {fault}", fault.instance_path()))
        .collect();
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("\n"))
    }
}

#[test]
fn what_is_sound_is_sound_by_the_schema_too() {
    for (name, of) in [
        ("policies/contoso.yaml", SchemaOf::Policy),
        ("policies/contoso.test.yaml", SchemaOf::Test),
        ("deploy/gateway.yaml", SchemaOf::Gateway),
    ] {
        let text = fs::read_to_string(root().join(name)).expect(name);
        assert_eq!(valid(of, &json(&text)), Ok(()), "{name}");
    }
    for text in [
        "routes: { r: { match: { methods: [GET], path: /a }, backend: b, allow: [{ tenants: [t], roles: { allOf: [A] }, from: [office, 10.0.0.0/8] }], deny: [{ from: [x] }] } }",
        "backends: { b: { http: 'http://127.0.0.1:9', credential: none }, c: { function: 'https://a.example', credential: { functionKey: { env: K } }, timeouts: { connect: 5 s } } }",
        "networks: { one: 10.0.0.0/8, two: [10.0.0.0/8, '::1'] }\ndefaults: { mode: reportOnly }",
    ] {
        assert_eq!(valid(SchemaOf::Policy, &json(text)), Ok(()), "{text}");
    }
}

#[test]
fn what_the_decoder_refuses_for_its_form_the_schema_refuses_too() {
    let route = |rest: &str| {
        format!("routes: {{ r: {{ match: {{ methods: [GET], path: /a }}, backend: b, {rest} }} }}")
    };
    let policies = [
        "tennants: { a: 11111111-1111-1111-1111-111111111111 }".to_owned(),
        "tenants: { a: contoso.com }".to_owned(),
        "tenants: [a]".to_owned(),
        "audiences: []".to_owned(),
        "backends: { b: { http: 'http://127.0.0.1:9' } }".to_owned(),
        "backends: { b: { http: 'http://127.0.0.1:9', function: 'https://a.example', credential: none } }".to_owned(),
        "backends: { b: { http: 'http://127.0.0.1:9', credential: {} } }".to_owned(),
        "backends: { b: { http: 'http://127.0.0.1:9', credential: none, timeouts: { connect: 5 } } }".to_owned(),
        route("public: 'yes'"),
        route("allow: []"),
        route("allow: [{ apps: [a] }]"),
        route("allow: [{ tenants: [] }]"),
        route("allow: [{ tenants: [t], tokenKinds: [user] }]"),
        route("allow: [{ tenants: [t], expires: 2027-01-01 }]"),
        route("mode: report"),
        route("rateLimit: { requests: 0, per: 1m, by: [app] }"),
        route("allow:"),
        "routes: { r: { match: { methods: [get], path: /a }, backend: b } }".to_owned(),
        "routes: { r: { match: { methods: [GET], path: a }, backend: b } }".to_owned(),
    ];
    for text in &policies {
        let mut diagnostics = Diagnostics::new();
        parse_policies(&[(Path::new("p.yaml"), text)], &mut diagnostics);
        assert!(diagnostics.has_errors(), "the decoder takes {text}");
        assert!(
            valid(SchemaOf::Policy, &json(text)).is_err(),
            "the schema takes {text}"
        );
    }
    for text in [
        "listen: { address: 127.0.0.1:1, tls: none }\npolicies: p",
        "listen: { address: 127.0.0.1:1, tls: platform }",
        "listen: { address: 127.0.0.1:1, tls: platform }\npolicies: p\nworkers: 0",
        "listen: { address: 127.0.0.1:1, tls: platform }\npolicies: p\ndrain: { delay: soon }",
    ] {
        let mut diagnostics = Diagnostics::new();
        parse_gateway(Path::new("gateway.yaml"), text, &mut diagnostics);
        assert!(diagnostics.has_errors(), "the decoder takes {text}");
        assert!(
            valid(SchemaOf::Gateway, &json(text)).is_err(),
            "the schema takes {text}"
        );
    }
}
