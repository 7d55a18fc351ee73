//! `/policies` on the admin address: what decides, what would, and what was refused.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use portcullis::clock::Clock as _;
use serde_json::{Value, json};

use crate::support::{RawBackend, Scene, Stage};

/// What `/policies` says.
pub fn page(stage: &Stage) -> Value {
    let answer = stage.admin("/policies");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let head = head.to_lowercase();
    assert!(head.contains("content-type: application/json"), "{head}");
    serde_json::from_str(body).expect("JSON")
}

fn scene() -> (RawBackend, Scene) {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let scene = scene
        .raw("raw", &raw)
        .portal_route("one", "GET", "/one", "raw");
    (raw, scene.portal_route("two", "GET", "/two", "raw"))
}

/// The SHA-256 of a file, as the tool that everybody has reckons it.
fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output();
    let text = String::from_utf8(output.expect("sha256sum").stdout).expect("text");
    text.split(' ').next().expect("a digest").to_owned()
}

/// Whole seconds since the Unix epoch of a time as the page writes it.
fn seconds(time: &Value) -> u64 {
    let time = time.as_str().expect("a time");
    assert!(time.ends_with('Z'), "{time}");
    let time = portcullis::files::point_in_time(time).expect("RFC 3339");
    time.as_secs()
}

#[test]
fn the_page_says_what_is_in_force_and_since_when() {
    let (_raw, scene) = scene();
    let stage = scene.start();
    let file = stage.folder.path().join("policy.yaml");
    let started = stage.clock.now().unix.as_secs();
    let first = page(&stage);
    assert_eq!(first["inForce"]["routes"], 2);
    assert_eq!(
        first["inForce"]["files"],
        json!([{ "file": file.to_str().expect("a path"), "sha256": sha256(&file) }])
    );
    assert_eq!(seconds(&first["inForce"]["since"]), started);
    assert_eq!(first["candidate"], Value::Null);
    assert_eq!(first["reloads"], json!({ "taken": 0, "refused": 0 }));
    assert_eq!(first["lastRefused"], Value::Null);

    // Another policy: another digest, from then on.
    stage.clock.advance(Duration::from_secs(90));
    stage.change_policy(|policy| policy.replace("/two'", "/zwei'"));
    let second = page(&stage);
    assert_ne!(second["inForce"]["digest"], first["inForce"]["digest"]);
    assert_eq!(second["inForce"]["files"][0]["sha256"], sha256(&file));
    assert_eq!(seconds(&second["inForce"]["since"]), started + 90);
    assert_eq!(second["reloads"]["refused"], 0);

    // The old text again: the old digest again, whatever the time.
    stage.change_policy(|policy| policy.replace("/zwei'", "/two'"));
    let third = page(&stage);
    assert_eq!(third["inForce"]["digest"], first["inForce"]["digest"]);
}

#[test]
fn the_page_says_why_a_reload_was_refused_until_another_is() {
    let (_raw, scene) = scene();
    let stage = scene.start();
    let before = page(&stage);
    let file = stage.folder.path().join("policy.yaml");
    let good = fs::read_to_string(&file).expect("a policy");
    let refuse = |text: &str, refused: u64| {
        fs::write(&file, text).expect("written");
        stage.gateway().reload();
        stage.until_refused(refused);
        page(&stage)
    };
    let told = refuse(&good.replacen("[contoso]", "[contos]", 1), 1);
    assert_eq!(told["inForce"], before["inForce"], "what was, stays");
    assert_eq!(told["reloads"], json!({ "taken": 0, "refused": 1 }));
    assert_eq!(
        told["lastRefused"]["time"], before["inForce"]["since"],
        "the clock stands"
    );
    let faults = &told["lastRefused"]["diagnostics"];
    assert_eq!(faults[0]["severity"], "error");
    assert_eq!(faults[0]["message"], "no tenant is named `contos`");
    let line = good.lines().position(|line| line.contains("[contoso]"));
    assert_eq!(faults[0]["line"], line.expect("the rule") + 1);
    assert_eq!(faults[1], Value::Null);

    // A good one does not make it forgotten; another bad one takes its place.
    stage.change_policy(|_| good.clone() + "# mended\n");
    let told = page(&stage);
    assert_eq!(told["reloads"], json!({ "taken": 1, "refused": 1 }));
    let faults = &told["lastRefused"]["diagnostics"];
    assert_eq!(faults[0]["message"], "no tenant is named `contos`");
    let told = refuse("routes: [", 2);
    assert_eq!(told["reloads"], json!({ "taken": 1, "refused": 2 }));
    let faults = &told["lastRefused"]["diagnostics"];
    assert_eq!(faults[0]["message"], "`[` is opened and never closed");
}

#[test]
fn the_page_holds_no_secret_not_even_one_that_stands_in_the_wrong_place() {
    let (_raw, scene) = scene();
    let keys = tempfile::tempdir().expect("a folder");
    let key = keys.path().join("b.key");
    fs::write(&key, "planted-secret").expect("written");
    let reference = format!("{{ file: '{}' }}", key.display());
    let rest = format!("http: 'http://127.0.0.1:9', credential: {{ functionKey: {reference} }}");
    let stage = scene
        .backend("keyed", &rest)
        .candidate(|policy| policy.replace(&reference, "planted-in-the-candidate"))
        .start();
    let file = stage.folder.path().join("policy.yaml");
    let policy = fs::read_to_string(&file).expect("a policy");
    let faulty = policy.replace(&reference, "planted-in-the-policy");
    assert_ne!(policy, faulty);
    fs::write(&file, faulty).expect("written");
    stage.gateway().reload();
    stage.until_refused(1);
    let told = page(&stage);
    let fault = "a secret must not stand in this file";
    assert_eq!(told["candidate"]["diagnostics"][0]["message"], fault);
    assert_eq!(told["lastRefused"]["diagnostics"][0]["message"], fault);
    assert!(!told.to_string().contains("planted"), "{told}");
}

#[test]
fn the_404_of_the_admin_address_names_the_page() {
    let (_raw, scene) = scene();
    let stage = scene.start();
    for path in ["/policy", "/policies/", "/policies/x"] {
        let answer = stage.admin(path);
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(answer.contains(" /policies, "), "{path}: {answer}");
    }
}
