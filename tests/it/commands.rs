//! The commands, as a person runs them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");

fn run(arguments: &[&str]) -> Output {
    Command::new(PORTCULLIS)
        .args(arguments)
        .output()
        .expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_demo_tells_its_story_and_every_row_is_as_expected() {
    let output = run(&["demo", "--check"]);
    let table = text(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{table}{}",
        text(&output.stderr)
    );
    assert!(table.ends_with("all as expected\n"), "{table}");
    assert!(table.lines().count() > 25, "{table}");
}

/// Writes a program of the shell's; returns its path.
fn program(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("gateway");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("executable");
    path
}

#[test]
fn the_demo_tells_its_story_to_another_program_and_ends_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = format!(
        "echo \"$@\" >\"$0.asked\"\n{PORTCULLIS} \"$@\" & one=$!\ntrap 'kill $one; wait $one; echo $? >\"$0.ended\"; exit 3' TERM\nwait"
    );
    let gateway = program(folder.path(), &script);
    let output = run(&[
        "demo",
        "--check",
        "--gateway",
        gateway.to_str().expect("text"),
    ]);
    let table = text(&output.stdout);
    assert!(table.ends_with("all as expected\n"), "{table}");
    let told = |name: &str| fs::read_to_string(folder.path().join(name)).expect("told");
    assert!(told("gateway.asked").starts_with("run --config /"));
    assert_eq!(told("gateway.ended"), "0\n");
    let said = text(&output.stderr);
    assert!(
        said.contains("did not end in order: exit status: 3"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_allocates_is_mimalloc() {
    let output = Command::new(PORTCULLIS)
        .arg("--version")
        .env("MIMALLOC_VERBOSE", "1")
        .output();
    let said = text(&output.expect("it runs").stderr);
    assert!(said.contains("mimalloc: process init"), "{said}");
}

#[test]
fn check_tells_every_fault_of_both_files_in_one_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let write =
        |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    write(
        "gateway.yaml",
        "listen:\n  address: 127.0.0.1:0\n  tls: { certificates: [{ cert: missing.crt, key: missing.key }] }\n  adress: x\npolicies: policy.yaml\n",
    );
    write(
        "policy.yaml",
        "tenants: { contoso: not-a-guid }\naudiences: [api://x]\nbackends:\n  b: { http: http://127.0.0.1:9, credential: none }\nroutes:\n  one: { match: { methods: [GET], path: /a }, backend: c, allow: [{ tenants: [contoso] }] }\n  two: { match: { methods: [GET], path: /a }, backend: b, allow: [{ tenants: [contso] }] }\n",
    );
    let config = folder.path().join("gateway.yaml");
    let config = config.to_str().expect("text");
    for command in [vec!["check", config], vec!["run", "--config", config]] {
        let output = run(&command);
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stdout) + &text(&output.stderr);
        for expected in ["unknown key `adress`", "gateway.yaml:4:3", "^^^^^^"] {
            assert!(
                said.contains(expected),
                "{command:?}: {expected:?} is missing in:\n{said}"
            );
        }
        for expected in [
            "GUID",
            "no backend is named `c`",
            "no tenant is named `contso`",
            "route `two` takes requests",
            "missing.crt",
            "policy.yaml:7:",
        ] {
            assert!(
                said.contains(expected),
                "{command:?}: {expected:?} is missing in:\n{said}"
            );
        }
    }
    let output = run(&["check", "--format", "json", config]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(json.to_string().contains("no backend is named"), "{json}");
}

#[test]
fn a_command_used_wrongly_ends_with_2() {
    for arguments in [
        &["chek"][..],
        &[],
        &["run", "--confg", "x"],
        &["check", "--format", "xml"],
    ] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_missing_file_is_told_plainly() {
    let output = run(&["check", "nowhere/gateway.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stdout);
    assert!(said.contains("nowhere/gateway.yaml"), "{said}");
}
