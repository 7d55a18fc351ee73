//! What users read, held against the code: tables, defaults, examples, commands and links.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use portcullis::denial::Reason;
use portcullis::files::{Diagnostics, GatewayDocument, parse_gateway, parse_policies, parse_tests};

use crate::questions::sas_report;
use crate::support::{RawBackend, Scene};

const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).expect(name)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

// Reading Markdown

/// What stands between `<!-- name -->` and `<!-- /name -->`.
pub(crate) fn marked<'t>(document: &'t str, name: &str) -> &'t str {
    let (open, close) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let after = document.split_once(&open).expect(name).1;
    after.split_once(&close).expect(name).0
}

/// The rows of a table, without its head.
pub(crate) fn rows(table: &str) -> Vec<Vec<String>> {
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(2);
    let cells = |line: &str| {
        let inner = line.trim_matches('|');
        inner
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    lines.map(cells).collect()
}

pub(crate) fn bare(cell: &str) -> String {
    cell.trim_matches('`').to_owned()
}

/// The code spans of a text.
pub(crate) fn spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Fenced blocks: what stands behind the fence, and the text.
fn blocks(document: &str) -> Vec<(&str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    let mut open = false;
    for line in document.lines() {
        match line.strip_prefix("```") {
            Some(info) if !open => {
                open = true;
                found.push((info, String::new()));
            }
            Some(_) => open = false,
            None if open => {
                let block = &mut found.last_mut().expect("open").1;
                block.push_str(line);
                block.push('\n');
            }
            None => {}
        }
    }
    found
}

/// The document without its fenced blocks, for reading code spans.
fn prose(document: &str) -> String {
    let outside = document.split("```").step_by(2);
    outside.collect()
}

// Running the command

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(PORTCULLIS)
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("it runs")
}

/// What `check` tells of a file, but for what most fragments deserve.
fn told(folder: &Path, file: &str) -> (Vec<String>, Option<i32>) {
    const EXPECTED: [&str; 3] = [
        "this app is allowed on no route",
        "there are no tests, so no test reaches any route",
        "anybody may reach this address, so it tells no more than `/livez` and `/readyz`",
    ];
    let output = run(folder, &["check", "--format", "json", file]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let told = told.as_array().expect("a list").iter();
    let told = told.filter_map(|one| one["message"].as_str());
    let told = told.filter(|message| !EXPECTED.contains(message));
    (told.map(str::to_owned).collect(), output.status.code())
}

/// Checks a file by the real command: it must be good, and hear of no warning.
fn assert_good(folder: &Path, file: &str, what: &str) {
    assert_eq!(told(folder, file), (Vec::new(), Some(0)), "{what}");
}

/// A folder with certificates, and the example policy where gateway.yaml looks for it.
fn folder_with_certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let write =
        |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    write("tls.crt", &made.cert.pem());
    write("tls.key", &made.signing_key.serialize_pem());
    write("rsa.crt", &made.cert.pem());
    write("word", "open sesame");
    let encrypt = "pkcs8 -topk8 -in tls.key -out rsa.key -passout file:word";
    let bundle = "pkcs12 -export -inkey tls.key -in tls.crt -out site.pfx -passout file:word";
    for arguments in [encrypt, bundle] {
        let mut openssl = Command::new("openssl");
        let openssl = openssl.args(arguments.split(' '));
        let output = openssl
            .current_dir(folder.path())
            .output()
            .expect("openssl");
        assert!(output.status.success(), "{arguments}");
    }
    fs::create_dir(folder.path().join("policies")).expect("a folder");
    write("policies/contoso.yaml", &read("policies/contoso.yaml"));
    folder
}

/// Checks a gateway.yaml with certificates that there are in place of those that it names.
fn assert_good_gateway(document: &str, what: &str) {
    let folder = folder_with_certificates();
    let certs = format!("{}/", folder.path().display());
    let document = document
        .replace("/certs/", &certs)
        .replace("../policies", "./policies");
    fs::write(folder.path().join("gateway.yaml"), document).expect("written");
    assert_good(folder.path(), "gateway.yaml", what);
}

/// A fragment of gateway.yaml with what it lacks.
fn whole_gateway(part: &str) -> String {
    let mut document = part.to_owned();
    for (key, line) in [
        (
            "listen:",
            "listen: { address: 127.0.0.1:0, tls: platform }\n",
        ),
        ("policies:", "policies: ./policies\n"),
    ] {
        if !part.lines().any(|line| line.starts_with(key)) {
            document.push_str(line);
        }
    }
    document
}

const NAMES: &str = "\
tenants: { contoso: 11111111-1111-1111-1111-111111111111 }
apps:
  marketing-portal: aaaaaaaa-0000-0000-0000-000000000001
  nightly-batch: aaaaaaaa-0000-0000-0000-000000000002
audiences: [api://contoso-gateway]
";

fn indented(fragment: &str) -> String {
    fragment.lines().map(|line| format!("  {line}\n")).collect()
}

/// A fragment of a policy, as a whole file.
fn whole_policy(kind: &str, fragment: &str) -> String {
    let fragment = indented(fragment);
    match kind {
        "route" => format!(
            "{NAMES}backends:\n  guest-api: {{ http: http://127.0.0.1:9000, credential: none }}\nroutes:\n{fragment}"
        ),
        "backend" => format!("{NAMES}backends:\n{fragment}"),
        other => panic!("nobody knows how to make a whole file of `yaml {other}`"),
    }
}

// The tests

#[test]
fn the_table_of_reasons_is_the_one_of_the_code() {
    let document = read("policies/README.md");
    let written = rows(marked(&document, "reasons"));
    let told: Vec<_> = written
        .iter()
        .map(|row| (bare(&row[0]), row[1].clone(), row[2].clone()))
        .collect();
    let reasons = Reason::ALL.iter();
    let known: Vec<_> = reasons
        .map(|reason| {
            let status = reason.status().as_u16().to_string();
            (reason.code().to_owned(), status, reason.title().to_owned())
        })
        .collect();
    assert_eq!(told, known);
    assert!(
        written
            .iter()
            .all(|row| row.len() == 4 && !row[3].is_empty())
    );
}

#[test]
fn a_reason_that_a_document_names_exists() {
    let document = read("policies/README.md");
    let (before, _) = document.split_once("<!-- reasons -->").expect("a table");
    let (_, mistakes) = before.split_once("## Entra: mistakes").expect("a section");
    let named = rows(mistakes).into_iter().flat_map(|row| {
        let codes = spans(&row[1]).into_iter().map(str::to_owned);
        codes.collect::<Vec<_>>()
    });
    let named: Vec<_> = named.collect();
    assert!(named.len() > 10, "{named:?}");
    for code in named {
        assert!(
            Reason::ALL.iter().any(|reason| reason.code() == code),
            "{code}"
        );
    }
}

#[test]
fn every_yaml_block_is_a_sound_document() {
    let mut checked = 0;
    for name in ["README.md", "policies/README.md"] {
        for (info, block) in blocks(&read(name)) {
            let Some(kind) = info.strip_prefix("yaml") else {
                continue;
            };
            let kind = kind.trim();
            let what = format!("{name}, a block of `{kind}`:\n{block}");
            match kind {
                "gateway" | "gateway-part" => assert_good_gateway(&whole_gateway(&block), &what),
                // What is wrong with it is another test's.
                "faulty" => {}
                _ => {
                    let policy = match kind {
                        "policy" => block,
                        _ => whole_policy(kind, &block),
                    };
                    let folder = tempfile::tempdir().expect("a folder");
                    fs::write(folder.path().join("policy.yaml"), policy).expect("written");
                    assert_good(folder.path(), "policy.yaml", &what);
                }
            }
            checked += 1;
        }
    }
    assert!(checked >= 7, "{checked} blocks");
}

#[test]
fn the_example_policy_and_the_example_gateway_are_good() {
    assert_good(&root(), "policies", "policies/");
    assert_good(&root(), "policies/contoso.yaml", "policies/contoso.yaml");
    assert_good_gateway(&read("deploy/gateway.yaml"), "deploy/gateway.yaml");
}

#[test]
fn the_faults_of_the_faulty_example_are_told_as_documented() {
    let document = read("policies/README.md");
    let blocks = blocks(&document);
    let block = |info: &str| {
        &blocks
            .iter()
            .find(|(found, _)| *found == info)
            .expect(info)
            .1
    };
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("policies")).expect("a folder");
    let file = "policies/contoso.yaml";
    fs::write(folder.path().join(file), block("yaml faulty")).expect("written");
    let output = run(folder.path(), &["check", file]);
    assert_eq!(text(&output.stdout), *block("text faulty"));
    assert_eq!(output.status.code(), Some(1));
    assert!(document.contains(&format!("`portcullis check {file}` says")));
}

/// Every command that there is.
const COMMANDS: [&str; 13] = [
    "run",
    "check",
    "doctor",
    "demo",
    "test",
    "who-can",
    "what-can",
    "diff",
    "fmt",
    "explain",
    "replay",
    "sas-report",
    "schema",
];

/// Every `portcullis ..` that somebody could paste, as arguments.
fn command_lines() -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut add = |line: &str| {
        let line = line.split(" > ").next().unwrap_or(line);
        let line = line.trim().trim_end_matches('.');
        let rest = line
            .strip_prefix("portcullis ")
            .or(line.strip_prefix("cargo run --release -- "));
        found.extend(rest.map(|rest| rest.split_whitespace().map(str::to_owned).collect()));
    };
    for name in ["README.md", "policies/README.md", "CHANGELOG.md"] {
        let document = read(name);
        spans(&prose(&document)).into_iter().for_each(&mut add);
        for (info, block) in blocks(&document) {
            if info == "sh" {
                block.lines().for_each(&mut add);
            }
        }
    }
    for name in [
        "policies/contoso.yaml",
        "policies/contoso.test.yaml",
        "deploy/gateway.yaml",
    ] {
        for line in read(name).lines().filter(|line| line.starts_with('#')) {
            if let Some(at) = line.find("portcullis ") {
                add(&line[at..]);
            }
        }
    }
    for name in [
        "policies/ci/github-actions.yaml",
        "policies/ci/azure-pipelines.yaml",
    ] {
        for line in read(name)
            .lines()
            .filter(|line| !line.trim().starts_with('#'))
        {
            if let Some(at) = line.find("portcullis ") {
                // Where its answer goes is the shell's, and what the CI fills in is some text.
                let command = line[at..].split(" > ").next().expect("a command");
                add(&command
                    .replace("${{ github.base_ref }}", "main")
                    .replace('"', ""));
            }
        }
    }
    found
}

#[test]
fn every_command_line_in_the_documents_is_understood() {
    let lines = command_lines();
    assert!(lines.len() >= 10, "{lines:?}");
    for line in &lines {
        // With `--help` at its end a line is parsed and not obeyed.
        let arguments: Vec<&str> = line.iter().map(String::as_str).chain(["--help"]).collect();
        let output = run(&root(), &arguments);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{line:?}: {}",
            text(&output.stderr)
        );
    }
    for command in COMMANDS {
        assert!(
            lines.iter().any(|line| line[0] == command),
            "{command} is not documented"
        );
    }
}

#[test]
fn every_flag_that_the_prose_names_exists() {
    let helps: Vec<String> = COMMANDS
        .iter()
        .map(|command| text(&run(&root(), &[command, "--help"]).stdout))
        .collect();
    for name in ["README.md", "policies/README.md", "CHANGELOG.md"] {
        let prose = prose(&read(name));
        for flag in spans(&prose)
            .into_iter()
            .filter(|span| span.starts_with("--"))
        {
            let flag = flag.split(' ').next().unwrap_or(flag);
            assert!(
                helps.iter().any(|help| help.contains(flag)),
                "{name}: {flag}"
            );
        }
    }
}

#[test]
fn every_link_to_a_file_leads_to_one() {
    for name in ["README.md", "policies/README.md", "CHANGELOG.md"] {
        let folder = root().join(name).parent().expect("a folder").to_owned();
        let document = read(name);
        let links = document.split("](").skip(1);
        let links = links.filter_map(|rest| rest.split_once(')').map(|(link, _)| link));
        for link in links.filter(|link| !link.starts_with("http")) {
            assert!(folder.join(link).exists(), "{name}: {link}");
        }
    }
}

// Keys, as the parser knows them

/// How a mapping stands below its key.
#[derive(Clone, Copy)]
enum Shape {
    Plain,
    List,
    Named,
}

const STRANGER: &str = "zzzzzz";

/// Something of every kind under `path`, with a key that nobody knows.
fn with_stranger(path: &[(String, Shape)]) -> String {
    let inner = format!("{{ {STRANGER}: 1 }}");
    path.iter()
        .rev()
        .fold(inner, |inner, (key, shape)| match shape {
            Shape::Plain => format!("{{ {key}: {inner} }}"),
            Shape::List => format!("{{ {key}: [{inner}] }}"),
            Shape::Named => format!("{{ {key}: {{ x: {inner} }} }}"),
        })
}

/// The keys that may stand at `path`, by what is said of one that may not. `None` if no mapping
/// with keys of its own stands there.
fn keys_at(parse: fn(&str) -> Diagnostics, path: &[(String, Shape)]) -> Option<Vec<String>> {
    let document = with_stranger(path);
    let column = document.find(STRANGER).expect("it is there") + 1;
    let diagnostics = parse(&document);
    let sorted = diagnostics.sorted();
    let said = sorted.iter().find(|found| {
        found.message().starts_with("unknown key") && found.primary().span.start().column == column
    })?;
    let help = said.helps().first().expect("no key is near");
    Some(spans(help).into_iter().map(str::to_owned).collect())
}

fn discover(
    parse: fn(&str) -> Diagnostics,
    path: &[(String, Shape)],
    known: &mut BTreeSet<String>,
) {
    for key in keys_at(parse, path).unwrap_or_default() {
        let below = |shape| {
            path.iter()
                .cloned()
                .chain([(key.clone(), shape)])
                .collect::<Vec<_>>()
        };
        let names = below(Shape::Plain);
        let (last, above) = names.split_last().expect("one at least");
        let above = above.iter().map(|(key, shape)| match shape {
            Shape::Plain => format!("{key}."),
            Shape::List => format!("{key}[]."),
            Shape::Named => format!("{key}.*."),
        });
        known.insert(above.collect::<String>() + &last.0);
        for shape in [Shape::Plain, Shape::List, Shape::Named] {
            let below = below(shape);
            if keys_at(parse, &below).is_some() {
                discover(parse, &below, known);
            }
        }
    }
}

pub(crate) fn known_keys(parse: fn(&str) -> Diagnostics) -> Vec<String> {
    let mut known = BTreeSet::new();
    discover(parse, &[], &mut known);
    known.into_iter().collect()
}

fn documented_keys(rows: &[Vec<String>]) -> Vec<String> {
    // What may stand in several places is told once for all of them.
    const PLACES: [(&str, &[&str]); 5] = [
        ("listen.", &["listen.", "listen[]."]),
        ("rule.", &["routes.*.allow[].", "routes.*.deny[]."]),
        (
            "rateLimit.",
            &[
                "routes.*.rateLimit.",
                "routes.*.rateLimit[].",
                "defaults.rateLimit.",
                "defaults.rateLimit[].",
            ],
        ),
        ("quota.", &["routes.*.quota.", "routes.*.quota[]."]),
        (
            "concurrency.",
            &["routes.*.concurrency.", "routes.*.concurrency[]."],
        ),
    ];
    let expanded = |key: String| {
        let place = PLACES.iter().find(|(told, _)| key.starts_with(told));
        match place {
            Some((told, places)) => {
                let places = places.iter();
                places.map(|place| key.replacen(told, place, 1)).collect()
            }
            None => vec![key],
        }
    };
    let mut keys: Vec<_> = rows
        .iter()
        .flat_map(|row| expanded(bare(&row[0])))
        .collect();
    keys.sort();
    keys
}

pub(crate) fn gateway_faults(document: &str) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    parse_gateway(Path::new("gateway.yaml"), document, &mut diagnostics);
    diagnostics
}

pub(crate) fn policy_faults(document: &str) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    parse_policies(&[(Path::new("policy.yaml"), document)], &mut diagnostics);
    diagnostics
}

pub(crate) fn test_faults(document: &str) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let list = format!("[\n{document}\n]");
    parse_tests(Path::new("policy.test.yaml"), &list, &mut diagnostics);
    diagnostics
}

fn gateway_rows() -> Vec<Vec<String>> {
    rows(marked(&read("README.md"), "gateway.yaml"))
}

#[test]
fn the_reference_of_gateway_yaml_names_exactly_the_keys_that_it_may_hold() {
    assert_eq!(documented_keys(&gateway_rows()), known_keys(gateway_faults));
}

#[test]
fn the_reference_of_policies_names_exactly_the_keys_that_they_may_hold() {
    let written = rows(marked(&read("policies/README.md"), "policy.yaml"));
    assert_eq!(documented_keys(&written), known_keys(policy_faults));
}

#[test]
fn the_reference_of_tests_names_exactly_the_keys_that_they_may_hold() {
    let written = rows(marked(&read("policies/README.md"), "test.yaml"));
    assert_eq!(documented_keys(&written), known_keys(test_faults));
}

// Commands with what they answer

/// The policies of this repository, and beside them those of the change that the page tells of.
fn folder_with_policies(document: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let [old, new] = ["policies", "policies-next"].map(|name| folder.path().join(name));
    for place in [&old, &new] {
        fs::create_dir(place).expect("a folder");
        for name in ["contoso.yaml", "contoso.test.yaml", "access.expected"] {
            let text = fs::read_to_string(root().join("policies").join(name)).expect(name);
            fs::write(place.join(name), text).expect("written");
        }
    }
    let blocks = blocks(document);
    let change = blocks
        .iter()
        .find(|(info, _)| *info == "diff policies-next");
    let mut text = read("policies/contoso.yaml");
    let (mut removed, mut added) = (String::new(), String::new());
    let apply = |text: &mut String, removed: &mut String, added: &mut String| {
        assert_eq!(
            text.matches(&**removed).count(),
            1,
            "{removed:?} stands there once"
        );
        *text = text.replace(&**removed, added);
        removed.clear();
        added.clear();
    };
    for line in change.expect("a change").1.lines() {
        match line.split_at(1) {
            ("-", line) => {
                if !added.is_empty() {
                    apply(&mut text, &mut removed, &mut added);
                }
                removed += &format!("{line}\n");
            }
            ("+", line) => added += &format!("{line}\n"),
            other => panic!("{other:?}"),
        }
    }
    apply(&mut text, &mut removed, &mut added);
    fs::write(new.join("contoso.yaml"), text).expect("written");
    folder
}

#[test]
fn every_command_answers_as_documented() {
    let folder = folder_with_policies(&read("policies/README.md"));
    fs::write(folder.path().join("decisions.jsonl"), sas_report::day()).expect("written");
    assert_eq!(answers("policies/README.md", folder.path()), 6);
    assert_eq!(answers("README.md", folder.path()), 1);
}

/// Runs every command that a document shows the answer of; how many there are.
fn answers(name: &str, folder: &Path) -> usize {
    let mut document = read(name);
    let mut ran = 0;
    for (info, block) in blocks(&document.clone()) {
        let Some(line) = info.strip_prefix("text portcullis ") else {
            // Any other block of text is what some test of its own looks at.
            assert!(
                info != "text" || block.starts_with("# yaml-language-server"),
                "{block}"
            );
            continue;
        };
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = run(folder, &arguments);
        let answer = text(&output.stdout);
        if std::env::var_os("BLESS").is_some() {
            let open = format!("```{info}\n");
            document = document.replace(&format!("{open}{block}"), &format!("{open}{answer}"));
        } else {
            assert_eq!(answer, block, "{line}\n{}", text(&output.stderr));
        }
        ran += 1;
    }
    if std::env::var_os("BLESS").is_some() {
        fs::write(root().join(name), document).expect("written");
    }
    ran
}

/// The lines of a CI file that run the command, as a shell would get them for a pull request into main.
fn lines_of_ci(name: &str) -> Vec<String> {
    let text = read(name);
    let mut diagnostics = granit_parser::Parser::new_from_str(&text);
    assert!(diagnostics.all(|event| event.is_ok()), "{name} is YAML");
    let commands = text.lines().map(|line| {
        let line = line.trim().trim_start_matches("- ");
        let line = line
            .trim_start_matches("run: ")
            .trim_start_matches("script: ");
        line.replace("${{ github.base_ref }}", "main")
            .replace("$(target)", "main")
    });
    commands
        .filter(|line| line.starts_with("portcullis "))
        .collect()
}

#[test]
fn what_ci_is_told_to_run_does_what_it_is_meant_to() {
    let shell = |folder: &Path, line: &str| {
        let binary = Path::new(PORTCULLIS).parent().expect("a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        Command::new("bash")
            .current_dir(folder)
            .env("PATH", format!("{}:{path}", binary.display()))
            .args(["-c", line])
            .output()
            .expect("it runs")
    };
    for name in [
        "policies/ci/github-actions.yaml",
        "policies/ci/azure-pipelines.yaml",
    ] {
        let lines = lines_of_ci(name);
        assert_eq!(lines.len(), 4, "{lines:?}");
        let folder = folder_with_policies(&read("policies/README.md"));
        let place = folder.path();
        let made = shell(
            place,
            "git init -q -b main && git add policies && git -c user.name=x -c user.email=x@x.example commit -qm one && git update-ref refs/remotes/origin/main HEAD",
        );
        assert!(made.status.success(), "{}", text(&made.stderr));
        for line in &lines {
            let output = shell(place, line);
            assert!(output.status.success(), "{line}\n{}", text(&output.stderr));
        }
        // Somebody gains, and the table beside is stale.
        fs::copy(
            place.join("policies-next/contoso.yaml"),
            place.join("policies/contoso.yaml"),
        )
        .expect("copied");
        let failed: Vec<bool> = lines
            .iter()
            .map(|line| !shell(place, line).status.success())
            .collect();
        assert_eq!(failed, [true, false, false, true], "{lines:?}");
        let report = fs::read_to_string(place.join("access.md")).expect("a report");
        assert!(
            report.contains("**Access changes:** gained on 2, lost on 0."),
            "{report}"
        );
    }
}

// Defaults and bounds

/// What has to stand in a mapping as soon as there is one.
const NEEDED: [(&str, &str, &str); 17] = [
    ("acme", "directory", "'https://x.example'"),
    ("acme", "termsOfServiceAgreed", "true"),
    ("acme", "folder", "acme"),
    ("acme.externalAccount", "keyId", "x"),
    ("acme.externalAccount", "hmacKey", "{ env: X }"),
    ("admin", "address", "127.0.0.1:2"),
    ("listen", "address", "127.0.0.1:1"),
    ("listen", "tls", "platform"),
    (
        "listen.tls",
        "certificates",
        "[{ keyVault: 'https://x.vault.azure.net/certificates/x' }]",
    ),
    ("state", "folder", "state"),
    ("limits.store.redis", "url", "'rediss://x.example'"),
    ("telemetry.requestLog", "path", "x"),
    ("telemetry.requestLog.rotate", "size", "1MiB"),
    ("telemetry.decisionLog", "path", "x"),
    ("telemetry.decisionLog.rotate", "size", "1MiB"),
    ("telemetry.otlp", "endpoint", "'http://localhost:1'"),
    ("telemetry.azureMonitor", "connectionString", "{ env: X }"),
];

/// A gateway.yaml with these values, and otherwise no more than it must hold.
fn gateway_with(values: &[(String, String)]) -> String {
    let own = [("listen", ""), ("state", ""), ("policies", "policies")];
    let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
    written("", &[&own, values].concat())
}

/// The mapping at a place, with these values below it; an empty one is a mapping that holds what it must.
fn written(place: &str, values: &[(String, String)]) -> String {
    let mut below: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    for (key, value) in values {
        let (first, rest) = key.split_once('.').unwrap_or((key, ""));
        let below = below.entry(first).or_default();
        below.push((rest.to_owned(), value.clone()));
    }
    for (_, key, value) in NEEDED.iter().filter(|(at, ..)| *at == place) {
        let given = || vec![(String::new(), (*value).to_owned())];
        below.entry(key).or_insert_with(given);
    }
    let entries = below.iter().map(|(key, values)| {
        let place = format!("{place}{}{key}", if place.is_empty() { "" } else { "." });
        match values
            .iter()
            .find(|(rest, value)| rest.is_empty() && !value.is_empty())
        {
            Some((_, value)) => format!("{key}: {value}"),
            None => {
                let mut values = values.clone();
                values.retain(|(rest, _)| !rest.is_empty());
                format!("{key}: {}", written(&place, &values))
            }
        }
    });
    match place {
        "" => entries.map(|entry| entry + "\n").collect(),
        _ => format!("{{ {} }}", entries.collect::<Vec<_>>().join(", ")),
    }
}

fn parsed(document: &str) -> GatewayDocument {
    let mut diagnostics = Diagnostics::new();
    let parsed = parse_gateway(Path::new("gateway.yaml"), document, &mut diagnostics);
    assert!(diagnostics.is_empty(), "{}", diagnostics.render());
    parsed.expect("understood")
}

#[test]
fn the_documented_defaults_are_those_of_the_parser() {
    let rows = gateway_rows();
    let defaults = rows.iter().filter(|row| row[1].starts_with('`'));
    let defaults: Vec<_> = defaults.map(|row| (bare(&row[0]), bare(&row[1]))).collect();
    assert!(defaults.len() >= 19, "{defaults:?}");
    for default in &defaults {
        let with = parsed(&gateway_with(std::slice::from_ref(default)));
        // The mapping around it, with nothing in it that need not be.
        let around = default.0.rsplit_once('.').map(|(around, _)| around);
        let around = around.filter(|around| NEEDED.iter().any(|(place, ..)| place == around));
        let without = around.map(|around| (around.to_owned(), String::new()));
        let without: Vec<_> = without.into_iter().collect();
        assert_eq!(with, parsed(&gateway_with(&without)), "{default:?}");
    }
    // Whatever else is absent is a section, has to be written, or is said to be absent.
    let absent = parsed(&gateway_with(&[]));
    assert_eq!((absent.workers, absent.entra.ca), (None, None));
}

/// The bounds as the parser writes them.
fn as_told(bound: &str) -> String {
    for (unit, size) in [("KiB", 1 << 10), ("MiB", 1 << 20)] {
        if let Some(number) = bound.strip_suffix(unit) {
            return (number.parse::<u64>().expect(bound) * size).to_string();
        }
    }
    bound.to_owned()
}

#[test]
fn the_documented_bounds_are_those_of_the_parser() {
    let mut bounded = 0;
    for row in gateway_rows() {
        let key = bare(&row[0]);
        // More than any duration, number or size may be; what is none of them says something else.
        let told: String = ["99999d", "99999999999"]
            .iter()
            .map(|much| {
                gateway_faults(&gateway_with(&[(key.clone(), (*much).to_owned())])).render()
            })
            .collect();
        let told = told.split("out of bounds: from ").nth(1).map(|rest| {
            let line = rest.lines().next().expect("a line");
            line.trim_end_matches(" bytes").to_owned()
        });
        let documented = match spans(&row[2]).as_slice() {
            [least, most] => Some(format!("{} to {}", as_told(least), as_told(most))),
            [] => None,
            other => panic!("{key}: {other:?}"),
        };
        assert_eq!(documented, told, "{key}");
        bounded += usize::from(told.is_some());
    }
    assert!(bounded >= 16, "only {bounded}");
}

#[test]
fn the_documented_timeouts_of_backends_are_those_of_the_parser() {
    let written = rows(marked(&read("policies/README.md"), "policy.yaml"));
    let row = |key: &str| {
        let key = format!("backends.*.timeouts.{key}");
        let row = written.iter().find(|row| bare(&row[0]) == key);
        row.expect(&key)[1].clone()
    };
    let seconds = |duration: Duration| format!("`{}s`", duration.as_secs());
    for kind in ["function", "logicApp", "http"] {
        let text = format!("backends: {{ x: {{ {kind}: https://x.example, credential: none }} }}");
        let mut diagnostics = Diagnostics::new();
        let document = parse_policies(&[(Path::new("p.yaml"), &text)], &mut diagnostics);
        let timeouts = document.backends[0].value.timeouts;
        let first_byte = format!("{} for `{kind}`", seconds(timeouts.first_byte));
        assert!(row("firstByte").contains(&first_byte), "{first_byte}");
        assert!(row("tls").contains(&format!("Default {}", seconds(timeouts.tls))));
        assert_eq!(timeouts.total, None);
        assert!(row("total").contains("Default: no limit"));
        assert!(row("connect").contains(&format!("Default {}", seconds(timeouts.connect))));
        assert!(row("idle").contains(&format!("Default {}", seconds(timeouts.idle))));
    }
}

// The log and the counters

/// What the admin address answers.
fn fetched(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn the_log_has_exactly_the_documented_fields_and_the_counters_the_documented_labels() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let (other, linked) = (
        RawBackend::ok(&scene, "fine"),
        RawBackend::with_links(&scene),
    );
    let several = format!("http: ['{}', '{}']", raw.url(), other.url());
    let careful = "credential: none, breaker: {}, retry: {}, coldStart: 30s";
    let stage = scene
        .raw("raw", &raw)
        .raw("linked", &linked)
        .backend("several", &format!("{several}, {careful}"))
        .portal_route("all", "GET", "/all", "several")
        .portal_route("linked", "GET", "/linked", "linked")
        .backend(
            "gone",
            "http: 'http://127.0.0.1:9', credential: { managedIdentity: { resource: 'api://gone' } }",
        )
        .portal_route("gone", "GET", "/gone", "gone")
        .route(
            "watched",
            "match: { methods: [GET], path: /watched }, backend: raw, mode: reportOnly",
        )
        .route(
            "limited",
            "match: { methods: [GET], path: /limited }, backend: raw, public: true, rateLimit: [{ name: trial, requests: 1, per: 1h, by: [route], mode: reportOnly }, { name: real, requests: 2, per: 1h, by: [route] }], concurrency: { requests: 9 }",
        )
        .candidate(|policy| policy.replace("/watched", "/elsewhere"))
        .start();
    let watched = stage.call("GET", "/watched").portal().send();
    assert_eq!(watched.verdict(), "200");
    let allowed = stage.call("GET", "/all?sig=planted-sig").portal().send();
    assert_eq!(allowed.verdict(), "200");
    let late = stage.portal().claim("exp", stage.world.entra.now() - 3600);
    let late = stage.world.entra.sign(&late).expect("signed");
    let refused = stage.call("GET", "/all").bearer(&late).send();
    assert_eq!(refused.verdict(), "401 token-expired");
    let begun = stage.call("GET", "/linked").portal().send();
    let sealed = begun.header("location").expect("a sealed URL");
    let sealed = sealed
        .strip_prefix("https://localhost")
        .expect("the host that was asked for");
    assert_eq!(stage.call("GET", sealed).portal().send().verdict(), "200");
    for verdict in ["200", "200", "429 rate-limited"] {
        assert_eq!(stage.call("GET", "/limited").send().verdict(), verdict);
    }
    let failed = stage.call("GET", "/gone").portal().send();
    assert_eq!(failed.status, 502);
    stage.until("all records", |stage| stage.records().len() == 9);

    let readme = read("README.md");
    let records = stage.records();
    let fields = records
        .iter()
        .flat_map(|record| record.as_object().expect("an object").keys().cloned());
    let fields: BTreeSet<String> = fields.collect();
    let documented = documented_keys(&rows(marked(&readme, "log")));
    assert_eq!(documented, fields.into_iter().collect::<Vec<_>>());

    let text = fetched(
        stage.gateway().admin_address().expect("an admin address"),
        "/metrics",
    );
    let histograms: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram"))
        .collect();
    let mut counters: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (_, body) = text.split_once("\r\n\r\n").expect("a body");
    for line in body
        .lines()
        .filter(|line| line.starts_with(char::is_alphabetic))
    {
        let sample = line.split(['{', ' ']).next().expect("a name");
        let name = histograms.iter().find(|name| {
            let part = sample.strip_prefix(**name);
            matches!(part, Some("_bucket" | "_sum" | "_count"))
        });
        let labels = counters.entry((*name.unwrap_or(&sample)).to_owned());
        let labels = labels.or_default();
        let inside = line
            .split_once('{')
            .and_then(|(_, rest)| rest.rsplit_once('}'));
        let pairs = inside
            .map(|(inside, _)| inside.split("\","))
            .into_iter()
            .flatten();
        let names = pairs.filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
        labels.extend(names.filter(|name| name != "le"));
    }
    let documented = rows(marked(&readme, "metrics")).into_iter().map(|row| {
        let labels = spans(&row[1]).into_iter().map(str::to_owned).collect();
        (bare(&row[0]), labels)
    });
    assert_eq!(documented.collect::<BTreeMap<_, BTreeSet<_>>>(), counters);
}

// What the prose says of matching

#[test]
fn routes_are_matched_as_the_language_is_described() {
    let route = |name: &str, rest: &str| {
        format!(
            "  {name}: {{ match: {{ {rest} }}, backend: guest-api, allow: [{{ tenants: [contoso] }}] }}\n"
        )
    };
    let routes: String = [
        ("admin", "methods: [GET], path: /guests/admin"),
        ("guest", "methods: [GET, POST], path: '/guests/{id}'"),
        ("all", "methods: [GET], path: '/guests/{id}/{*rest}'"),
        ("rest", "methods: [GET], path: '/guests/{*rest}'"),
        ("pdf", "methods: [GET], path: '/files/{name}.pdf'"),
        ("left", "methods: [GET], path: '/a/{x}'"),
        ("right", "methods: [GET], path: '/{x}/b'"),
        (
            "exact",
            "host: api.contoso.com, methods: [GET], path: /guests/admin",
        ),
        (
            "suffix",
            "host: '*.contoso.com', methods: [GET], path: /guests/admin",
        ),
        (
            "longer",
            "host: '*.eu.contoso.com', methods: [GET], path: /guests/admin",
        ),
    ]
    .iter()
    .map(|(name, rest)| route(name, rest))
    .collect();
    let text = format!(
        "{NAMES}backends:\n  guest-api: {{ http: http://127.0.0.1:9000, credential: none }}\nroutes:\n{routes}"
    );
    let mut diagnostics = Diagnostics::new();
    let document = parse_policies(&[(Path::new("p.yaml"), &text)], &mut diagnostics);
    let policy = portcullis::policy::compile(&document, &mut diagnostics);
    assert!(diagnostics.is_empty(), "{}", diagnostics.render());
    let policy = policy.expect("a policy");
    for (host, method, path, expected) in [
        ("x", "GET", "/guests/admin", "admin"),
        ("x", "GET", "/guests/7", "guest"),
        ("x", "GET", "/guests/Bob", "guest"),
        ("x", "GET", "/guests/7/photos", "all"),
        ("x", "GET", "/guests/7/", "ambiguous-path"),
        ("x", "GET", "/guests/admin;x", "ambiguous-path"),
        ("x", "GET", "/guests/admin.", "ambiguous-path"),
        ("x", "GET", "/guests", "route-not-found"),
        ("x", "GET", "/guests/", "route-not-found"),
        ("x", "HEAD", "/guests/7", "method-not-allowed"),
        ("x", "POST", "/guests/admin", "method-not-allowed"),
        ("x", "GET", "/guests/ADMIN", "ambiguous-path"),
        ("x", "GET", "/GUESTS/7", "ambiguous-path"),
        ("x", "GET", "/guests/1/", "ambiguous-path"),
        ("x", "GET", "/files/a.pdf", "pdf"),
        ("x", "GET", "/a/b", "left"),
        ("x", "GET", "/c/b", "right"),
        ("api.contoso.com", "GET", "/guests/admin", "exact"),
        (
            "api.contoso.com",
            "POST",
            "/guests/admin",
            "method-not-allowed",
        ),
        ("api.contoso.com", "GET", "/guests/7", "guest"),
        ("a.b.contoso.com", "GET", "/guests/admin", "suffix"),
        ("a.eu.contoso.com", "GET", "/guests/admin", "longer"),
        ("contoso.com", "GET", "/guests/admin", "admin"),
    ] {
        let method = method.parse().expect("a method");
        let found = match policy.find(host, &method, path) {
            Ok(matched) => matched.route().name().to_string(),
            Err(unmatched) => unmatched.denial().reason().code().to_owned(),
        };
        assert_eq!(found, expected, "{host} {method} {path}");
    }
}

// What deploy/monitor counts on

/// The names that the queries, rules and dashboards of deploy/monitor use: tests/monitor holds them to this list.
fn monitored() -> serde_json::Value {
    serde_json::from_str(&read("tests/monitor/names.json")).expect("JSON")
}

#[test]
fn what_is_monitored_is_what_the_gateway_tells() {
    let readme = read("README.md");
    let mut documented: BTreeMap<String, BTreeSet<String>> = rows(marked(&readme, "metrics"))
        .into_iter()
        .map(|row| {
            let labels = spans(&row[1]).into_iter().map(str::to_owned).collect();
            (bare(&row[0]), labels)
        })
        .collect();
    let store = rows(marked(&readme, "store-metrics"));
    documented.extend(store.iter().map(|row| (bare(&row[0]), BTreeSet::new())));
    let monitored = monitored();
    let metrics = monitored["metrics"].as_array().expect("a list").iter();
    let metrics = metrics.map(|metric| {
        let labels = metric["attributes"].as_array().expect("a list").iter();
        let labels = labels.map(|label| label.as_str().expect("text").replace('.', "_"));
        let name = metric["prometheus"].as_str().expect("text").to_owned();
        (name, labels.collect())
    });
    let metrics: BTreeMap<String, BTreeSet<String>> = metrics.collect();
    assert_eq!(metrics, documented);
}

#[test]
fn what_queries_ask_of_requests_is_what_they_are_told_with() {
    let source = read("gateway/telemetry/attributes.rs");
    let told: BTreeSet<&str> = source
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|text| text.contains('.') && !text.contains(' '))
        .collect();
    let monitored = monitored();
    let asked = monitored["attributes"].as_array().expect("a list").iter();
    let asked: BTreeSet<&str> = asked.map(|name| name.as_str().expect("text")).collect();
    assert_eq!(told, asked);
}
