//! deploy/admin.openapi.json, held against the gateway.

use std::collections::BTreeSet;

use portcullis::admin::{DESCRIPTION, endpoints};
use serde_json::{Value, json};

use super::{Asker, SECRET, Told, file};
use crate::support::{RawBackend, Scene, Stage};

fn description() -> Value {
    serde_json::from_str(DESCRIPTION).expect("JSON")
}

/// Every method and path of the description, with what it says of them.
fn operations(description: &Value) -> Vec<(String, String, Value)> {
    let paths = description["paths"].as_object().expect("paths").iter();
    let operations = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").iter();
        methods.map(|(method, operation)| (method.to_uppercase(), path.clone(), operation.clone()))
    });
    operations.collect()
}

/// What is said of a status, wherever that stands.
fn response<'d>(description: &'d Value, operation: &'d Value, status: u16) -> &'d Value {
    let said = &operation["responses"][status.to_string()];
    match said["$ref"].as_str() {
        Some(at) => description.pointer(&at[1..]).expect(at),
        None => said,
    }
}

/// Whether an answer is one that the description knows.
fn hold_to(description: &Value, operation: &Value, told: &Told, what: &str) {
    let said = response(description, operation, told.status);
    assert!(said.is_object(), "{what}: nobody said {}", told.status);
    let kind = told.field("content-type").expect("a type");
    let kind = kind.split(';').next().expect("a type");
    let schema = &said["content"][kind]["schema"];
    assert!(schema.is_object(), "{what}: nobody said {kind}");
    if kind == "application/json" {
        let mut whole = schema.clone();
        whole["components"] = description["components"].clone();
        let validator = jsonschema::validator_for(&whole).expect("a schema");
        let page = told.json();
        let faults: Vec<String> = validator
            .iter_errors(&page)
            .map(|fault| format!("{} at {}", fault, fault.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{what}: {faults:#?}\n{page:#}");
    }
    let headers = said["headers"].as_object();
    for (name, header) in headers.into_iter().flatten() {
        let value = told.field(name).expect(name);
        let validator = jsonschema::validator_for(&header["schema"]).expect("a schema");
        assert!(validator.is_valid(&json!(value)), "{what}: {name}: {value}");
    }
}

/// A gateway of which there is something to tell everywhere.
fn stage(folder: &std::path::Path) -> (Vec<RawBackend>, Stage) {
    let mut scene = Scene::new();
    let raws = vec![
        RawBackend::ok(&scene, "fine"),
        RawBackend::ok(&scene, "fine"),
    ];
    let bearer = file(folder, "bearer", SECRET);
    let key = file(folder, "key", "planted-key");
    scene.admin = format!("{{ address: '127.0.0.1:0', bearer: {{ file: '{bearer}' }} }}");
    let urls: Vec<String> = raws
        .iter()
        .map(|raw| format!("'{}/x'", raw.url()))
        .collect();
    scene.more = "limits: { maxRequests: 1000 }\n".to_owned();
    let stage = scene
        .function("guests")
        .raw("raw", &raws[0])
        .backend(
            "several",
            &format!(
                "http: [{}], credential: {{ functionKey: {{ file: '{key}' }} }}, breaker: {{}}, retry: {{}}, coldStart: 30s, concurrency: {{ requests: 9 }}",
                urls.join(", ")
            ),
        )
        .portal_route("guests", "GET", "/guests/{id}", "guests")
        .portal_route("several", "GET, POST", "/several", "several")
        .route(
            "watched",
            "match: { host: api.contoso.com, methods: [GET], path: /watched }, backend: raw, mode: reportOnly, allow: [{ tenants: [contoso], apps: [nightly-batch], when: \"request.path == '/watched'\", notBefore: 2026-01-01T00:00:00Z }], concurrency: { requests: 9, by: [app] }",
        )
        .route(
            "open",
            "match: { methods: [GET], path: /open }, backend: raw, public: true",
        )
        .candidate(|policy| policy.replace("/watched", "/elsewhere"))
        .start();
    (raws, stage)
}

/// Everything that the gateway answers is asked, and held to the description.
fn ask_all(asker: &Asker<'_>, when: &str) {
    let description = description();
    for (method, path, operation) in operations(&description) {
        if method != "GET" {
            continue;
        }
        let told = asker.get(&path);
        hold_to(&description, &operation, &told, &format!("{when}: {path}"));
        let head = asker.ask("HEAD", &path).expect("an answer");
        assert_eq!((head.status, &*head.body), (told.status, ""), "{path}");
        assert_eq!(head.field("content-type"), told.field("content-type"));
    }
}

#[test]
fn every_answer_is_as_its_description_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_raws, stage) = stage(folder.path());
    let asker = Asker::new(&stage).bearer(SECRET);
    ask_all(&asker, "at first");
    ask_all(&Asker::new(&stage), "without a credential");

    stage.change_policy(|policy| {
        let gone =
            "  open: { match: { methods: [GET], path: /open }, backend: raw, public: true }\n";
        policy
            .replace(gone, "")
            .replace("[GET, POST]", "[GET]")
            .replace("coldStart: 30s", "coldStart: 20s")
    });
    stage.until("the difference", |_| {
        asker.get("/policies").json()["lastDiff"].is_object()
    });
    std::fs::write(stage.folder.path().join("policy.yaml"), "routes: [a]").expect("written");
    stage.gateway().reload();
    stage.until_refused(1);
    ask_all(&asker, "after a change and a refusal");
    let diff = &asker.get("/policies").json()["lastDiff"];
    assert_eq!(diff["exact"], true);
    assert_eq!(
        diff["changes"].as_array().expect("changes").len(),
        3,
        "{diff:#}"
    );
}

#[test]
fn the_description_and_the_gateway_know_the_same_endpoints() {
    let description = description();
    let described: BTreeSet<(String, String)> = operations(&description)
        .into_iter()
        .map(|(method, path, _)| (method, path))
        .collect();
    let known: BTreeSet<(String, String)> = endpoints()
        .map(|(method, path)| (method.to_owned(), path.to_owned()))
        .collect();
    assert_eq!(described, known);
    assert_eq!(known.len(), endpoints().count(), "none twice");
}

#[test]
fn the_description_names_each_operation_once_and_every_object_is_closed() {
    let description = description();
    let operations = operations(&description);
    let names: BTreeSet<&str> = operations
        .iter()
        .map(|(_, _, operation)| operation["operationId"].as_str().expect("a name"))
        .collect();
    assert_eq!(names.len(), operations.len());
    open_objects(&description["components"]["schemas"], "");
}

/// A new field has to be described, so no object of a known form takes any.
fn open_objects(at: &Value, place: &str) {
    match at {
        Value::Object(object) => {
            if object.get("properties").is_some_and(Value::is_object)
                && object.get("type").is_some_and(|kind| kind != "string")
            {
                let more = object.get("additionalProperties");
                assert_eq!(more, Some(&json!(false)), "{place}");
            }
            for (name, inner) in object {
                open_objects(inner, &format!("{place}/{name}"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| open_objects(item, place)),
        _ => {}
    }
}

#[test]
fn the_readme_lists_what_the_gateway_answers() {
    let readme = include_str!("../../../README.md");
    let rows = crate::documents::rows(crate::documents::marked(readme, "admin"));
    let listed: BTreeSet<String> = rows
        .iter()
        .flat_map(|row| crate::documents::spans(&row[0]))
        .map(str::to_owned)
        .collect();
    let answered: BTreeSet<String> = endpoints().map(|(_, path)| path.to_owned()).collect();
    assert_eq!(listed, answered);
}
