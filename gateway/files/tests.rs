//! Files in, the whole rendered text out. `BLESS=1 cargo test` writes the expected texts anew, for
//! a review to look at.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::strategy::Strategy as _;

use super::*;

fn testdata(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("gateway/files/testdata").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(testdata(name)).expect(name)
}

fn assert_text(name: &str, rendered: &str) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(testdata(name), rendered).expect(name);
    }
    assert_eq!(rendered, read(name), "{name}");
}

fn policies(files: &[(&str, &str)]) -> (PolicyDocument, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (Path::new(*name), *text))
        .collect();
    let document = parse_policies(&files, &mut diagnostics);
    (document, diagnostics)
}

fn gateway(text: &str) -> (Option<GatewayDocument>, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let document = parse_gateway(Path::new("/etc/gateway.yaml"), text, &mut diagnostics);
    (document, diagnostics)
}

#[test]
fn a_gateway_file_with_many_faults_hears_of_them_all() {
    let (document, diagnostics) = gateway(&read("gateway.yaml"));
    assert_eq!(document, None);
    assert_text("gateway.txt", &diagnostics.render());
}

#[test]
fn a_policy_file_with_many_faults_hears_of_them_all() {
    let (document, diagnostics) = policies(&[("policies/contoso.yaml", &read("policy.yaml"))]);
    assert_text("policy.txt", &diagnostics.render());
    assert_eq!(document.routes, []);
    assert!(document.faulty.may_hold("invite-flow"));
}

#[test]
fn what_is_wrong_with_limits_is_told_where_it_stands() {
    let (_, diagnostics) = policies(&[("limits.yaml", &read("limits.yaml"))]);
    assert_text("limits.txt", &diagnostics.render());
}

#[test]
fn names_that_two_files_share_are_told_with_both_places() {
    let files = [
        ("one.yaml", read("one.yaml")),
        ("two.yaml", read("two.yaml")),
    ];
    let (document, diagnostics) = policies(&[(files[0].0, &files[0].1), (files[1].0, &files[1].1)]);
    assert_text("two.txt", &diagnostics.render());
    assert_eq!((diagnostics.errors(), diagnostics.warnings()), (2, 1));
    assert_eq!(document.backends.len(), 1);
}

#[test]
fn what_makes_a_policy_hard_to_review_is_refused_by_name() {
    let (_, diagnostics) = policies(&[("refused.yaml", &read("refused.yaml"))]);
    assert_text("refused.txt", &diagnostics.render());
}

#[test]
fn a_secret_in_a_file_is_never_printed() {
    for (name, expected) in [
        ("secrets.yaml", "secrets.txt"),
        ("broken.yaml", "broken.txt"),
    ] {
        let (_, diagnostics) = policies(&[(name, &read(name))]);
        let rendered = diagnostics.render();
        let json = diagnostics.to_json().to_string();
        assert!(!rendered.contains("hunter2"), "{rendered}");
        assert!(!json.contains("hunter2"), "{json}");
        assert_text(expected, &rendered);
    }
}

#[test]
fn a_secret_in_the_place_of_something_else_is_not_printed() {
    for credential in [
        "header: { name: 'x-key: hunter2', value: { env: KEY } }",
        "header: { name: X-Key:hunter2, value: { env: KEY } }",
        "header: { name: hunter2==, value: { env: KEY } }",
        "managedIdentity: hunter2",
    ] {
        let text = format!(
            "backends: {{ b: {{ http: 'https://b.example', credential: {{ {credential} }} }} }}\n"
        );
        let (_, diagnostics) = policies(&[("a.yaml", &text)]);
        let rendered = diagnostics.render();
        assert!(
            diagnostics.has_errors() && !rendered.contains("hunter2"),
            "{rendered}"
        );
    }
}

#[test]
fn a_name_that_people_chose_hides_no_guid_whatever_it_is() {
    for names in ["tenants", "apps", "principals", "groups"] {
        let text = format!(
            "{names}: {{ secret-rotator: dddddddd-0000-0000-0000-000000000001, other: nobody }}\n"
        );
        let rendered = policies(&[("names.yaml", &text)]).1.render();
        assert!(rendered.contains("dddddddd-0000"), "{rendered}");
    }
}

/// A slip anywhere in a file does not make its secrets show.
#[test]
fn a_secret_is_not_printed_whichever_letter_of_the_file_is_wrong() {
    let text = read("slips.yaml");
    let whole = text
        .char_indices()
        .filter(|(at, _)| !in_a_secret(&text, *at));
    for (at, letter) in whole {
        for slip in [
            "", "x", " ", "\n", "\t", "\"", ":", "#", "{", "]", "*", "!", "- ",
        ] {
            let slipped = format!("{}{slip}{}", &text[..at], &text[at + letter.len_utf8()..]);
            let (_, diagnostics) = policies(&[("slips.yaml", &slipped)]);
            let rendered = diagnostics.render();
            assert!(
                !rendered.contains("hunter2"),
                "{slip:?} at byte {at}:\n{rendered}"
            );
        }
    }
}

fn in_a_secret(text: &str, at: usize) -> bool {
    text.match_indices("hunter2")
        .any(|(start, secret)| (start..start + secret.len()).contains(&at))
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        parts in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::sample::select(vec![
                    "routes", "credential", "functionKey", ": ", "\n", "  ", "- ", "{", "}", "[", "]", "'", "\"",
                    "&a ", "*a", "!t ", "<<", "? ", "|", "---", ", ", "#", "\t", "\u{feff}", "%", "é", "\r", "none",
                ]).prop_map(str::to_owned),
                ".{0,3}",
            ],
            0..40,
        )
    ) {
        let text = parts.concat();
        let (_, diagnostics) = policies(&[("a.yaml", &text)]);
        diagnostics.render();
        diagnostics.to_json();
        gateway(&text).1.render();
    }
}

#[test]
fn the_json_holds_places_and_words() {
    let (_, diagnostics) = policies(&[("a.yaml", "routes: {}\nroutes: {}\nrout: {}\n")]);
    assert_eq!(
        diagnostics.to_json(),
        serde_json::json!([
            {
                "severity": "error", "message": "this key is written twice", "file": "a.yaml",
                "line": 2, "column": 1, "endLine": 2, "endColumn": 7,
                "label": "and here again", "help": [],
                "related": [{
                    "message": "first written here", "file": "a.yaml",
                    "line": 1, "column": 1, "endLine": 1, "endColumn": 7,
                }],
            },
            {
                "severity": "error", "message": "unknown key `rout`", "file": "a.yaml",
                "line": 3, "column": 1, "endLine": 3, "endColumn": 5,
                "label": "did you mean `routes`?", "help": [], "related": [],
            },
        ])
    );
}

#[test]
fn a_line_shows_nothing_that_would_move_a_terminal_and_not_all_of_a_long_one() {
    let long = format!("x\u{1b}[2J\u{202e}: 1\n{}: 1\t\n\ty: z\n", "k".repeat(300));
    let (_, diagnostics) = policies(&[("a.yaml", &long)]);
    let rendered = diagnostics.render();
    assert!(
        !rendered.contains(['\u{1b}', '\u{202e}', '\t']),
        "{rendered}"
    );
    let widest = rendered.lines().map(|line| line.chars().count()).max();
    assert!(widest < Some(200), "{rendered}");
}

#[test]
fn a_gateway_file_that_says_little_gets_the_defaults() {
    let text = concat!(
        "listen: { address: '0.0.0.0:8443', tls: platform }\n",
        "policies: ./policies\n",
        "entra: { authority: 'http://127.0.0.1:1/base/' }\n",
        "state: { folder: keys }\n",
        "limits: { store: local }\n"
    );
    let (document, diagnostics) = gateway(text);
    assert_eq!(diagnostics.render(), "");
    let document = document.expect("a document");
    let seconds = Duration::from_secs;
    let Listen {
        address,
        reuse_port,
        speaks,
        trusted_hops,
        proxy_protocol,
        client_certificates,
        handshake_timeout,
        header_timeout,
        idle_timeout,
        max_connections,
        max_connections_per_address,
        min_rate,
        min_rate_grace,
        max_requests,
        max_age,
        max_head_bytes,
        max_streams,
    } = document.listen.into_iter().next().expect("a listener");
    assert_eq!(address.value.to_string(), "0.0.0.0:8443");
    assert!(!reuse_port);
    assert_eq!(speaks, Speaks::Platform);
    assert!(!proxy_protocol && client_certificates.is_none());
    assert_eq!(trusted_hops.and_then(|hops| hops.count), Some(1));
    assert_eq!(
        (handshake_timeout, header_timeout, idle_timeout),
        (seconds(10), seconds(10), seconds(75))
    );
    assert_eq!(
        (max_connections, max_head_bytes, max_streams),
        (10_000, 32_768, 128)
    );
    assert_eq!((max_connections_per_address, max_requests), (None, None));
    assert_eq!(
        (min_rate, min_rate_grace, max_age),
        (240, seconds(10), seconds(3600))
    );
    assert_eq!((document.workers, document.admin), (None, None));
    assert_eq!(document.policies.value, Path::new("/etc/./policies"));
    let entra = document.entra;
    assert_eq!(entra.authority.value.to_string(), "http://127.0.0.1:1/base");
    assert_eq!(
        (
            entra.clock_skew,
            entra.refresh_every,
            entra.unknown_key_interval,
            entra.key_wait
        ),
        (seconds(60), seconds(3600), seconds(60), seconds(3))
    );
    assert_eq!(
        (entra.max_token_bytes, entra.cached_tokens),
        (16_384, 20_000)
    );
    assert_eq!(entra.algorithms, [Algorithm::Rs256]);
    assert_eq!(entra.token_versions, TokenVersions { v1: true, v2: true });
    let state = document.state.expect("state");
    assert_eq!(state.folder.value, Path::new("/etc/keys"));
    assert_eq!(state.max_key_age, seconds(86_400));
    assert_eq!(
        document.drain,
        Drain {
            delay: seconds(5),
            timeout: seconds(30)
        }
    );
    assert_eq!(document.telemetry.request_log.form, LogForm::Json);
}

#[test]
fn a_sound_policy_file_comes_out_as_it_was_meant() {
    let (document, diagnostics) = policies(&[("policies/good.yaml", &read("good.yaml"))]);
    assert_eq!(diagnostics.render(), "");
    assert_text("good.txt", &format!("{document:#?}\n"));
}

#[test]
fn urls_are_taken_only_where_they_lead_somewhere_safe() {
    for (kind, url, message) in [
        ("http", "https://x", None),
        ("http", "https://x:8443/base", None),
        ("http", "http://127.0.0.1:9000", None),
        ("http", "http://[::1]:9000", None),
        ("http", "http://localhost", None),
        (
            "http",
            "http://10.0.0.1",
            Some("plain `http` is for this machine alone"),
        ),
        (
            "http",
            "http://localhost.evil.com",
            Some("plain `http` is for this machine alone"),
        ),
        (
            "http",
            "http://127.0.0.1.evil.com",
            Some("plain `http` is for this machine alone"),
        ),
        (
            "http",
            "https://u@x",
            Some("a URL here holds no user name or password"),
        ),
        (
            "http",
            "https://x/#a",
            Some("a URL that is called has no fragment (`#`)"),
        ),
        (
            "http",
            "https://x:99999",
            Some("the host or port of this URL makes no sense"),
        ),
        (
            "http",
            "https://x:",
            Some("the host or port of this URL makes no sense"),
        ),
        ("http", "https:///x", Some("this is not a URL")),
        (
            "http",
            "x.com",
            Some("this URL begins with neither `https://` nor `http://`"),
        ),
        (
            "http",
            "https://x?a=1",
            Some("a backend's URL has no query (`?`) here"),
        ),
        (
            "function",
            "https://x?code=1",
            Some("a literal secret in this file"),
        ),
        ("logicApp", "https://x?api-version=2016-10-01", None),
        (
            "logicApp",
            "https://x?api-version=1;s%69g=1",
            Some("a literal secret in this file"),
        ),
        (
            "logicApp",
            "https://x/y;Sig=1/z",
            Some("a literal secret in this file"),
        ),
        (
            "logicApp",
            "https://x?SP=1",
            Some("a literal secret in this file"),
        ),
    ] {
        let text = format!("backends: {{ a: {{ {kind}: '{url}', credential: none }} }}");
        let (document, diagnostics) = policies(&[("a.yaml", &text)]);
        let messages: Vec<_> = diagnostics
            .sorted()
            .iter()
            .map(|found| found.message().to_owned())
            .collect();
        assert_eq!(messages.first().map(String::as_str), message, "{url}");
        assert_eq!(
            document.backends.len(),
            usize::from(message.is_none()),
            "{url}"
        );
    }
}

#[test]
fn a_secret_that_stands_in_gateway_yaml_is_refused_and_not_repeated() {
    for written in [
        "seal: Pl4nted",
        "seal: [Pl4nted]",
        "seal: { Pl4nted }",
        "seal: { key: Pl4nted }",
        "seal: { keys: Pl4nted }",
        "seal: { keys: [Pl4nted] }",
        "seal: { keys: [{ keyVault: Pl4nted }] }",
        "seal: { keys: [{ keyVault: { url: Pl4nted } }] }",
        "seal: { keys: [{ file: a, key: Pl4nted }] }",
        "seal: { keys: [{ env: Pl4nted/ }] }",
        "seals: { keys: [Pl4nted] }",
        "Seal: { Key: Pl4nted }",
        "telemetry: { fingerprintKey: Pl4nted }",
        "telemetry: { fingerprintKey: [Pl4nted] }",
        "telemetry: { fingerprintKey: { file: a, key: Pl4nted } }",
        "telemetry: { fingerprintKey: { keyVault: Pl4nted } }",
        "telemetry: { fingerprintkey: Pl4nted }",
        "telemetry: { fingerprint-keys: Pl4nted }",
        "fingerprintKey: Pl4nted",
        "admin: { bearer: Pl4nted }",
        "admin: { bearer: { file: a, key: Pl4nted } }",
        "admin: { bearers: [Pl4nted] }",
        "keyVault: { secret: Pl4nted }",
        "keyVault: { key: 'https://a.vault.azure.net/secrets/a?code=Pl4nted' }",
    ] {
        let text = format!(
            "listen: {{ address: 1.2.3.4:1, tls: platform }}\npolicies: a\nentra: {{}}\n{written}\n"
        );
        let (_, diagnostics) = gateway(&text);
        assert!(diagnostics.has_errors(), "{written}");
        let rendered = diagnostics.render();
        assert!(!rendered.contains("Pl4nted"), "{written}: {rendered}");
    }
}

#[test]
fn a_folder_is_read_in_the_order_of_its_policy_files() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [
        (
            "b.yaml",
            "tenants: { b: 22222222-2222-2222-2222-222222222222 }",
        ),
        (
            "a.yml",
            "tenants: { a: 11111111-1111-1111-1111-111111111111 }",
        ),
        ("a.test.yaml", "- not a policy"),
        (".a.yaml", "- not a policy"),
        ("readme.md", "- not a policy"),
    ] {
        fs::write(folder.path().join(name), text).expect(name);
    }
    let mut diagnostics = Diagnostics::new();
    let document = load_policies(folder.path(), &mut diagnostics).expect("a document");
    assert_eq!(diagnostics.render(), "");
    let names: Vec<_> = document
        .tenants
        .iter()
        .map(|named| named.name.value.as_str())
        .collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn what_cannot_be_read_is_told_like_any_other_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect(name);
        path
    };
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).expect("a folder");
    for (path, message) in [
        (
            folder.path().join("none.yaml"),
            "the file cannot be read: there is none of this name",
        ),
        (
            file("latin.yaml", b"a: b\nc: \xe9\n"),
            "the file is not UTF-8 text: line 2 holds other bytes",
        ),
        (
            file("large.yaml", &vec![b' '; (4 << 20) + 1]),
            "the file is larger than 4 MiB",
        ),
        (file("nothing.yaml", b""), "the file is empty"),
        (empty, "there is no policy file in this folder"),
    ] {
        let mut diagnostics = Diagnostics::new();
        load_policies(&path, &mut diagnostics);
        let rendered = diagnostics.render();
        let start = format!("error: {message}\n --> {}\n", path.display());
        assert!(rendered.starts_with(&start), "{rendered}");
        let mut diagnostics = Diagnostics::new();
        assert_eq!(load_gateway(&path, &mut diagnostics), None);
        assert!(diagnostics.has_errors());
    }
}
