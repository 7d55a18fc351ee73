//! The commands that answer questions about policies, as they are typed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");

const NAMES: &str = "\
tenants: { contoso: 11111111-1111-1111-1111-111111111111, fabrikam: 22222222-2222-2222-2222-222222222222 }
apps: { portal: aaaaaaaa-0000-0000-0000-000000000001, batch: aaaaaaaa-0000-0000-0000-000000000002 }
audiences: [api://gateway]
backends: { b: { http: 'http://127.0.0.1:9', credential: none } }
routes:
";

/// The route that most tests begin with: nothing in it smells.
const READ: &str = "  read: { match: { methods: [GET], path: '/guests/{id}' }, backend: b, allow: [{ tenants: [contoso], apps: [portal, batch], tokenKinds: [appOnly] }] }\n";

struct Place(tempfile::TempDir);

impl Place {
    fn new(policy: &str) -> Self {
        let place = Self(tempfile::tempdir().expect("a folder"));
        place.write("policies/policy.yaml", &format!("{NAMES}{policy}"));
        place
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn run(&self, line: &str) -> Output {
        command(
            self.0.path(),
            PORTCULLIS,
            &line.split(' ').collect::<Vec<_>>(),
        )
    }

    /// What a command says, and its exit code.
    fn ask(&self, line: &str) -> (String, Option<i32>) {
        let output = self.run(line);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (said, output.status.code())
    }

    /// The messages of `check`.
    fn warnings(&self) -> Vec<String> {
        let (said, _) = self.ask("check policies --format json");
        let told: Value = serde_json::from_str(&said).expect("JSON");
        let told = told.as_array().expect("a list").iter();
        told.map(|one| one["message"].as_str().expect("a message").to_owned())
            .collect()
    }
}

fn command(folder: &Path, name: &str, arguments: &[&str]) -> Output {
    Command::new(name)
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("it runs")
}

fn rule(rule: &str) -> String {
    format!("{READ}  other: {{ match: {{ methods: [POST], path: /other }}, backend: b, {rule} }}\n")
}

#[test]
fn what_smells_is_told() {
    let allow = |text: &str| rule(&format!("allow: [{text}]"));
    let usual = "{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly] }";
    for (policy, expected) in [
        (allow(usual), vec![]),
        (
            allow("{ tenants: [contoso], scopes: [A] }"),
            vec!["this rule lets in any app of its tenants"],
        ),
        (
            allow("{ tenants: [contoso], scopes: [A], reason: users choose their app }"),
            vec![],
        ),
        (
            allow("{ tenants: [contoso], apps: [portal] }"),
            vec!["this rule lets an app in by its ID alone, and users' tokens carry the same ID"],
        ),
        (
            allow(&format!(
                "{usual}, {{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], roles: [A] }}"
            )),
            vec!["another rule says all that this one says"],
        ),
        (
            allow(&format!("{usual}, {usual}")),
            vec!["another rule says all that this one says"],
        ),
        (
            allow(&format!(
                "{usual}, {{ tenants: [fabrikam], apps: [portal], tokenKinds: [appOnly] }}"
            )),
            vec![],
        ),
        (
            allow(
                "{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], expires: 2020-01-01T00:00:00Z }",
            ),
            vec!["this rule has expired and holds for nobody"],
        ),
        (
            allow("{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], when: '1 == 2' }"),
            vec!["`when` is always false, so this rule lets nobody in"],
        ),
        (
            allow(
                "{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], when: 'true || request.path == request.host' }",
            ),
            vec!["`when` is always true, so this rule asks for nothing"],
        ),
        (
            rule(
                "public: true, allow: [{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly] }]",
            ),
            vec!["`public: true` lets everybody in, so the allow rules say nothing"],
        ),
        (
            allow("{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], scopes: [A] }"),
            vec!["no caller can meet all that this rule asks for"],
        ),
        (
            rule(&format!(
                "allow: [{usual}], deny: [{{ roles: [A], scopes: [B], tokenKinds: [appOnly] }}]"
            )),
            vec!["no caller can meet all that this rule asks for"],
        ),
        (
            rule(&format!("allow: [{usual}], deny: [{{ apps: [portal] }}]")),
            vec!["the deny rules of this route keep out everybody whom its allow rules let in"],
        ),
        (
            rule(&format!(
                "allow: [{usual}], audiences: [api://gateway/.default]"
            )),
            vec!["this is a scope that clients ask for; no token names it as its audience"],
        ),
        (
            rule(&format!("allow: [{usual}]")).replace("/other", "/other/:id"),
            vec!["`:id` is no wildcard, but plain text"],
        ),
        (
            rule(&format!("allow: [{usual}]")).replace("/other", "/other/*"),
            vec!["`*` is no wildcard, but plain text"],
        ),
    ] {
        assert_eq!(Place::new(&policy).warnings(), expected, "{policy}");
    }
    let idle = READ.replace("portal, batch", "portal");
    assert_eq!(
        Place::new(&idle).warnings(),
        ["this app is allowed on no route"]
    );
}

#[test]
fn a_rule_that_ends_soon_is_told_ahead_with_its_owner() {
    let soon = std::process::Command::new("date")
        .args(["-u", "-d", "+10 days 12 hours", "+%Y-%m-%dT%H:%M:%SZ"])
        .output()
        .expect("a date");
    let soon = String::from_utf8(soon.stdout).expect("text");
    let policy = rule(&format!(
        "allow: [{{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], expires: {}, owner: ada@contoso.example }}]",
        soon.trim()
    ));
    let (said, code) = Place::new(&policy).ask("check policies");
    assert_eq!(code, Some(0));
    assert!(said.contains("this rule ends in 10 days"), "{said}");
    assert!(
        said.contains("ask its owner, ada@contoso.example"),
        "{said}"
    );
}

#[test]
fn a_condition_is_checked_with_the_file_and_its_part_is_underlined() {
    let place = Place::new(&rule(
        "allow: [{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], when: \"token.kidn == 'appOnly' && request.parameters['id'] == 'x'\" }]",
    ));
    let (said, code) = place.ask("check policies");
    assert_eq!(code, Some(1));
    let line = said
        .lines()
        .find(|line| line.contains("^^^"))
        .expect("underlined");
    assert!(line.contains("did you mean"), "{said}");
    let place = Place::new(&rule(
        "allow: [{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], when: \"request.parameters['id'] == 'x'\" }]",
    ));
    let (said, code) = place.ask("check policies");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("asks for the parameter `id`, which the route's path has not"),
        "{said}"
    );
}

#[test]
fn a_route_without_a_test_and_a_stale_table_are_found() {
    let place = Place::new(&rule(
        "allow: [{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], from: [office] }]",
    ));
    place.write(
        "policies/networks.yaml",
        "networks: { office: 203.0.113.0/24 }\n",
    );
    place.write(
        "policies/a.test.yaml",
        "- { name: one, request: { method: GET, path: /guests/1 }, token: { tenant: contoso, app: portal }, expect: allow }\n",
    );
    assert_eq!(place.warnings(), ["no test reaches this route"]);
    let (table, _) = place.ask("who-can --all --policies policies");
    place.write("policies/access.expected", &table);
    assert_eq!(place.warnings(), ["no test reaches this route"]);
    place.write("policies/access.expected", &table.replace('\n', "\r\n"));
    assert_eq!(place.warnings(), ["no test reaches this route"]);
    place.write("policies/access.expected", &table);
    // Whatever changes who may call makes it stale, though no rule is written otherwise.
    let policy = fs::read_to_string(place.0.path().join("policies/policy.yaml")).expect("it");
    for (old, new) in [
        ("[api://gateway]", "[api://gateway, api://other]"),
        ("22222222-2222", "33333333-3333"),
        ("000000000001", "000000000009"),
        (
            "backend: b, allow",
            "backend: b, audiences: [api://own], allow",
        ),
    ] {
        let changed = policy.replace(old, new);
        assert_ne!(changed, policy, "{old}");
        place.write("policies/policy.yaml", &changed);
        let (said, _) = place.ask("check policies");
        assert!(
            said.contains("is not what the policies say"),
            "{new}\n{said}"
        );
    }
    place.write("policies/policy.yaml", &policy);
    place.write(
        "policies/networks.yaml",
        "networks: { office: 203.0.0.0/8 }\n",
    );
    let (said, _) = place.ask("check policies");
    assert!(said.contains("is not what the policies say"), "{said}");
    place.write(
        "policies/networks.yaml",
        "networks: { office: 203.0.113.0/24 }\n",
    );
    place.write(
        "policies/access.expected",
        &table.replace("portal", "batch"),
    );
    let output = place.run("check policies");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("is not what the policies say"), "{said}");
    assert!(
        said.contains("who-can --all --policies policies > policies/access.expected"),
        "{said}"
    );
}

#[test]
fn tests_that_fail_say_what_came_and_the_exit_code_says_so() {
    let place = Place::new(READ);
    place.write(
        "policies/a.test.yaml",
        "\
- { name: good, request: { method: GET, path: /guests/1 }, token: { tenant: contoso, app: portal }, expect: allow }
- { name: bad, request: { method: GET, path: /guests/1 }, token: { tenant: fabrikam, app: portal }, expect: { decision: allow, route: read } }
",
    );
    let (said, code) = place.ask("test policies");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("  ok    good\n  FAIL  bad (policies/a.test.yaml:2:"),
        "{said}"
    );
    assert!(
        said.contains("expected allow, came deny: tenant-not-allowed (read"),
        "{said}"
    );
    assert!(said.contains("2 tests: 1 passed, 1 failed"), "{said}");
    let (said, _) = place.ask("test policies --format junit");
    assert!(
        said.contains("<testsuites name=\"portcullis\" tests=\"2\" failures=\"1\">"),
        "{said}"
    );
    let (said, _) = place.ask("test policies --format json");
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(told["tests"][1]["passed"], false);
    assert_eq!(told["coverage"]["rules"], 1);
}

#[test]
fn a_test_that_names_what_there_is_not_is_a_fault_with_its_place() {
    let place = Place::new(READ);
    place.write(
        "policies/a.test.yaml",
        "- { name: one, request: { method: GET, path: /guests/1 }, token: { tenant: contso, app: portal }, expect: { deny: tenant-not-alowed } }\n",
    );
    let (said, code) = place.ask("test policies");
    assert_eq!(code, Some(1));
    assert!(said.contains("no tenant is named `contso`"), "{said}");
    assert!(said.contains("did you mean `contoso`?"), "{said}");
    place.write(
        "policies/a.test.yaml",
        "- { name: one, request: { method: GET, path: /guests/1 }, expect: { deny: token-mising } }\n",
    );
    let (said, _) = place.ask("test policies");
    assert!(said.contains("there is no such reason"), "{said}");
    assert!(said.contains("did you mean `token-missing`?"), "{said}");
}

#[test]
fn a_test_shows_what_its_token_says_and_hides_a_token() {
    let place = Place::new(READ);
    let ask = |token: &str| {
        let test =
            "- { name: one, request: { method: GET, path: /guests/1 }, expect: deny, token: ";
        place.write("policies/a.test.yaml", &format!("{test}{token} }}\n"));
        let (said, code) = place.ask("test policies");
        assert_eq!(code, Some(1), "{said}");
        said
    };
    let said = ask("{ tenant: contoso, app: portal, knd: appOnly, roles: [A] }");
    assert!(said.starts_with("error: unknown key `knd`\n"), "{said}");
    assert!(
        said.contains("token: { tenant: contoso, app: portal, knd: appOnly, roles: [A] } }\n"),
        "{said}"
    );
    assert!(said.contains("^^^ did you mean `kind`?"), "{said}");
    let said = ask("{ tenant: contso, app: portal, claims: { acrs: [c1], password: planted } }");
    assert!(said.contains("no tenant is named `contso`"), "{said}");
    assert!(
        said.contains(
            "token: { tenant: contso, app: portal, claims: { acrs: [c1], password: *** } } }\n"
        ),
        "{said}"
    );
    for token in [
        "planted",
        "'planted'",
        "[planted]",
        "{ planted }",
        "{ tenant: contoso, app: portal, secret: planted }",
        "{ tenant: contoso, app: portal, jwt: planted }",
        "{ tenant: contoso, app: portal, token: { tenant: planted } }",
        "{ tenant: contoso, app: portal, value: { tenant: planted }, kidn: appOnly }",
    ] {
        let said = ask(token);
        assert!(
            said.contains("***") && !said.contains("planted"),
            "{token}\n{said}"
        );
    }
}

#[test]
fn a_slip_in_a_request_is_no_refusal_by_the_policy() {
    let place = Place::new(READ);
    let ask = |method: &str, path: &str, expect: &str| {
        place.write(
            "policies/a.test.yaml",
            &format!("- {{ name: one, request: {{ method: {method}, path: {path} }}, expect: {expect} }}\n"),
        );
        place.ask("test policies")
    };
    for (method, path, expect, faults) in [
        (
            "get",
            "/guests/1",
            "deny",
            &["a method that can be routed", "  ^^^ did you mean `GET`?\n"][..],
        ),
        (
            "GTE",
            "/guests/1",
            "{ deny: token-missing }",
            &["  ^^^ did you mean `GET`?\n"],
        ),
        (
            "PROPFIND",
            "/guests/1",
            "allow",
            &["  ^^^^^^^^\n", "`expect: { deny: method-not-supported }`"],
        ),
        (
            "GET",
            "guests/1",
            "deny",
            &[
                "a path begins with `/`",
                "  ^^^^^^^^\n",
                "`expect: { deny: ambiguous-path }`",
            ],
        ),
        (
            "GET",
            "guests/1",
            "{ deny: method-not-supported }",
            &["a path begins with `/`"],
        ),
        (
            "get",
            "guests/1",
            "deny",
            &["can be routed", "begins with `/`"],
        ),
    ] {
        let (said, code) = ask(method, path, expect);
        assert_eq!(code, Some(1), "{said}");
        for fault in faults {
            assert!(said.contains(fault), "{fault:?} is missing in:\n{said}");
        }
    }
    for (method, path, expect) in [
        ("get", "/guests/1", "{ deny: method-not-supported }"),
        (
            "TRACE",
            "/guests/1",
            "{ decision: deny, reason: method-not-supported }",
        ),
        ("GET", "guests/1", "{ deny: ambiguous-path }"),
        ("GET", "/guests/1", "deny"),
    ] {
        let (said, code) = ask(method, path, expect);
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn coverage_and_attack_fail_when_they_should() {
    let place = Place::new(&rule("allow: [{ tenants: [contoso], apps: [portal] }]"));
    place.write(
        "policies/a.test.yaml",
        "- { name: one, request: { method: GET, path: /guests/1 }, token: { tenant: contoso, app: portal }, expect: allow }\n",
    );
    let (said, code) = place.ask("test policies --min-coverage 50");
    assert_eq!(code, Some(0), "{said}");
    let (said, code) = place.ask("test policies --min-coverage 51");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("not reached: other allow[0] (policies/policy.yaml:7:"),
        "{said}"
    );
    let (said, code) = place.ask("test policies --attack");
    assert_eq!(code, Some(1));
    assert!(
        said.contains(
            "other allow[0]: a user's token with the same app ID is let in by allow[0] of other"
        ),
        "{said}"
    );
}

#[test]
fn what_ci_reads_says_why_a_test_run_failed() {
    let place = Place::new(&rule("allow: [{ tenants: [contoso], apps: [portal] }]"));
    let good = "- { name: one, request: { method: GET, path: /guests/1 }, token: { tenant: contoso, app: portal }, expect: allow }\n";
    place.write("policies/a.test.yaml", good);
    let (said, code) = place.ask("test policies --format junit --min-coverage 99.5");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("<testsuites name=\"portcullis\" tests=\"2\" failures=\"1\">")
            && said.contains("name=\"rule coverage is at least 99.5 %\">")
            && said.contains(
                "<failure message=\"no test reaches other allow[0] (policies/policy.yaml:7:"
            ),
        "{said}"
    );
    let (said, code) = place.ask("test policies --format junit --min-coverage 50");
    assert!(said.contains("at least 50 %\"/>"), "{said}");
    assert_eq!(code, Some(0));
    for percent in ["101", "-1", "NaN", "all"] {
        let output = place.run(&format!("test policies --min-coverage={percent}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{percent}");
        assert!(said.contains("a number from 0 to 100"), "{said}");
    }

    let faults = |text: &str, message: &str| {
        place.write("policies/a.test.yaml", text);
        let output = place.run("test policies --format junit");
        let xml = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            xml.starts_with("<?xml") && xml.ends_with("</testsuites>\n"),
            "{xml}"
        );
        assert!(
            xml.contains(&format!(
                "<error message=\"{message}\">policies/a.test.yaml:1:"
            )),
            "{xml}"
        );
        assert!(said.starts_with(&format!("error: {message}\n")), "{said}");
        let (said, code) = place.ask("test policies --format json");
        let told: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(
            (&told["diagnostics"][0]["message"], code),
            (&json!(message), Some(1))
        );
    };
    faults(
        &good.replace("contoso", "contso"),
        "no tenant is named `contso`",
    );
    faults("a: [b\n", "`[` is opened and never closed");
    fs::remove_file(place.0.path().join("policies/a.test.yaml")).expect("removed");
    let (said, code) = place.ask("test policies --format junit");
    assert!(
        said.contains("<error message=\"there are no tests\">policies:1:1<"),
        "{said}"
    );
    assert_eq!(code, Some(1));
}

#[test]
fn diff_compares_what_git_keeps_with_what_lies_there() {
    let place = Place::new(READ);
    let git = |arguments: &[&str]| {
        let output = command(place.0.path(), "git", arguments);
        assert!(output.status.success(), "{arguments:?} {output:?}");
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&[
        "-c",
        "user.name=x",
        "-c",
        "user.email=x@x.example",
        "commit",
        "-q",
        "-m",
        "one",
    ]);
    // Another order, other names and another layout say the same.
    let same = READ
        .replace("  read:", "  lesen:")
        .replace("portal, batch", "batch, portal");
    place.write("policies/policy.yaml", &format!("# changed\n{NAMES}{same}"));
    for old in ["main", "HEAD:policies", "main:policies/policy.yaml"] {
        let (said, code) = place.ask(&format!("diff {old} policies --fail-on any"));
        assert_eq!(
            (said.as_str(), code),
            ("Nobody gains or loses access.\n", Some(0)),
            "{old}"
        );
    }
    let wider = READ.replace("[contoso]", "[contoso, fabrikam]");
    place.write("policies/policy.yaml", &format!("{NAMES}{wider}"));
    let (said, code) = place.ask("diff main policies --fail-on gained --format json");
    assert_eq!(code, Some(1));
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(told["access"][0]["requests"][0], "GET /guests/{id}");
    assert_eq!(
        told["access"][0]["gained"]["callers"][0]["tenants"],
        "fabrikam"
    );
    assert_eq!(told["access"][0]["lost"]["callers"], serde_json::json!([]));
    assert_eq!(
        told["access"][0]["gained"]["example"]["claims"]["idtyp"],
        "app"
    );
    assert_eq!(place.ask("diff main policies --fail-on lost").1, Some(0));
    let (said, _) = place.ask("diff main policies --format markdown");
    assert!(
        said.contains("| fabrikam | batch, portal | appOnly |"),
        "{said}"
    );
    // From within the folder, and from one beside it.
    for (folder, arguments) in [
        ("policies", ["diff", "main", ".", "--fail-on", "gained"]),
        (
            "policies",
            [
                "diff",
                "main:policies",
                "policy.yaml",
                "--fail-on",
                "gained",
            ],
        ),
        (
            "policies",
            ["diff", "HEAD", "policy.yaml", "--fail-on", "gained"],
        ),
        (
            "other",
            ["diff", "main", "../policies", "--fail-on", "gained"],
        ),
    ] {
        fs::create_dir_all(place.0.path().join(folder)).expect("a folder");
        let output = command(&place.0.path().join(folder), PORTCULLIS, &arguments);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            said.starts_with("GET /guests/{id} (route read)\n  gained by\n"),
            "{output:?}"
        );
        assert_eq!(output.status.code(), Some(1));
    }
    // The first policies of all: everything is gained, and said so.
    place.write("fresh/policy.yaml", &format!("{NAMES}{READ}"));
    let output = place.run("diff main fresh --fail-on gained");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("(route read is new)"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("the revision `main` has no policies in `fresh`"),
        "{said}"
    );
    for (arguments, why) in [
        (
            "diff main:fresh policies",
            "the revision `main` has no policy file in `fresh`",
        ),
        (
            "diff policies main:fresh",
            "the revision `main` has no policy file in `fresh`",
        ),
    ] {
        let output = place.run(arguments);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(why), "{said}");
    }
    let output = place.run("diff nowhere policies");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("`nowhere` is no file or folder here, and no revision"),
        "{said}"
    );
}

/// Who may call is only half of what they reach.
#[test]
fn diff_tells_what_becomes_of_requests_beside_who_may_send_them() {
    let place = Place::new(READ);
    place.write("old/policy.yaml", &format!("{NAMES}{READ}"));
    let reached = |changed: &str| {
        place.write("policies/policy.yaml", changed);
        let (said, code) = place.ask("diff old policies --fail-on any --format json");
        assert_eq!(code, Some(0), "{said}");
        let told: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(told["access"], serde_json::json!([]), "{said}");
        told["otherwise"].clone()
    };
    let same = format!("{NAMES}{READ}");
    assert_eq!(reached(&same), serde_json::json!([]));
    let changed = |what: &str, old: &str, new: &str| {
        serde_json::json!([{
            "requests": ["GET /guests/{id}"],
            "routes": "route read",
            "changes": [{ "what": what, "old": old, "new": new }],
        }])
    };
    let url = "http http://127.0.0.1:9/";
    assert_eq!(
        reached(&same.replace("127.0.0.1:9", "127.0.0.1:10")),
        changed("goes to", url, "http http://127.0.0.1:10/")
    );
    assert_eq!(
        reached(&same.replace(
            "credential: none",
            "credential: { functionKey: { env: KEY } }"
        )),
        changed("credential", "none", "function key from the variable KEY")
    );
    let with = |more: &str| same.replace("backend: b,", &format!("backend: b, {more},"));
    assert_eq!(
        reached(&with("rewrite: '/admin/{id}'")),
        changed("rewrite", "none", "/admin/{id}")
    );
    assert_eq!(
        reached(&with("rateLimit: { requests: 5, per: 1m, by: [app] }")),
        changed("rateLimit", "none", "5 per 60s, by app")
    );
    place.write("policies/policy.yaml", &with("keepParameters: [sp]"));
    for (format, expected) in [
        (
            "human",
            "Nobody gains or loses access.\n\nWhat becomes of these requests changes, whoever may send them:\n\nGET /guests/{id} (route read)\n    what            as it was  as it would be\n    keepParameters  none       sp\n",
        ),
        (
            "markdown",
            "**Access:** Nobody gains or loses access.\n\n**What becomes of these requests changes, whoever may send them:**\n\n### `GET /guests/{id}` (route read)\n\n| what | as it was | as it would be |\n| --- | --- | --- |\n| keepParameters | none | sp |\n",
        ),
    ] {
        let (said, _) = place.ask(&format!("diff old policies --format {format}"));
        assert_eq!(said, expected);
    }
}

/// A route that leaves some of its requests to another is not gone.
#[test]
fn diff_names_the_requests_that_change_and_no_more() {
    let place = Place::new(READ);
    place.write("old/policy.yaml", &format!("{NAMES}{READ}"));
    let special = "  special: { match: { methods: [PUT], path: /guests/special }, backend: b, allow: [{ tenants: [contoso] }] }\n";
    place.write("policies/policy.yaml", &format!("{NAMES}{READ}{special}"));
    let (said, _) = place.ask("diff old policies");
    assert!(
        said.contains("GET /guests/special, GET /guests/special;x (route read takes them no more)\n  lost by\n"),
        "{said}"
    );
    assert!(
        said.contains("PUT /guests/special (route special is new)\n  gained by\n"),
        "{said}"
    );
    let wide = READ.replace("/guests/{id}", "/guests/{*rest}");
    place.write("old/policy.yaml", &format!("{NAMES}{wide}"));
    place.write("policies/policy.yaml", &format!("{NAMES}{READ}"));
    let (said, _) = place.ask("diff old policies");
    assert!(
        said.contains("(route read takes them no more)\n  lost by\n"),
        "{said}"
    );
    assert!(!said.contains("GET /guests/{*rest}"), "{said}");
    // What a condition must be is said with the request that shows the change.
    let asked = READ.replace(
        "apps: [",
        "when: \"request.headers['x-case'] == 'a'\", apps: [",
    );
    place.write("old/policy.yaml", &format!("{NAMES}{asked}"));
    let (said, _) = place.ask("diff old policies");
    assert!(
        said.contains(", where `request.headers['x-case'] == 'a'` is "),
        "{said}"
    );
}

#[test]
fn who_can_names_everybody_and_says_when_nobody_can() {
    let place = Place::new(&rule(
        "allow: [{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], expires: 2020-01-01T00:00:00Z }]",
    ));
    let (said, code) = place.ask("who-can GET /guests/7 --policies policies --format json");
    assert_eq!(code, Some(0));
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(told["callers"][0]["apps"], "batch, portal");
    assert_eq!(told["callers"][0]["tokens"], "appOnly");
    // The rule has ended; before that, it let somebody in.
    let (said, _) = place.ask("who-can POST /other --policies policies");
    assert!(said.ends_with("  nobody\n"), "{said}");
    let (said, _) = place.ask("who-can POST /other --policies policies --at 2019-12-31T00:00:00Z");
    assert!(said.contains("until 2020-01-01T00:00:00Z"), "{said}");
    let output = place.run("who-can POST /nothing --policies policies");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.ends_with("on the host localhost (route-not-found)\n"),
        "{said}"
    );
    place.write(
        "policies/more.yaml",
        "routes:\n  far: { match: { host: '*.b.example', methods: [GET], path: /far }, backend: b, public: true }\n",
    );
    let output = place.run("who-can GET /far --policies policies");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("; a route does on *.b.example: say --host"),
        "{said}"
    );
    let (said, _) = place.ask("who-can GET /far --host a.b.example --policies policies");
    assert!(
        said.starts_with("far: GET *.b.example/far to b\n"),
        "{said}"
    );
    let output = place.run("what-can --app portl --policies policies");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean `portal`?"));
}

#[test]
fn what_can_says_which_routes_only_report() {
    let watched = |app: &str| {
        let policy = rule(&format!(
            "mode: reportOnly, allow: [{{ tenants: [contoso], apps: [{app}], tokenKinds: [appOnly] }}]"
        ));
        Place::new(&policy)
    };
    let (said, _) = watched("portal").ask("what-can --app portal --policies policies");
    let (_, once) = said
        .split_once("\nother only reports. Once it refuses:\n")
        .expect("it is said");
    assert_eq!(
        once,
        "  TENANTS  APPS    TOKENS   NEEDS         FROM      WHEN\n  contoso  portal  appOnly  nothing more  anywhere  always\n"
    );
    let place = watched("batch");
    let (said, _) = place.ask("what-can --app portal --policies policies");
    assert!(
        said.ends_with("\n\nother only reports. Once it refuses:\n  nothing\n"),
        "{said}"
    );
    let (said, _) = place.ask("what-can --app portal --policies policies --format json");
    let told: Value = serde_json::from_str(&said).expect("JSON");
    let reports = |at: usize| {
        (
            &told[at]["route"],
            &told[at]["reportOnly"],
            &told[at]["callersOnceEnforced"],
        )
    };
    assert_eq!(reports(0), (&json!("read"), &json!(false), &Value::Null));
    assert_eq!(reports(1), (&json!("other"), &json!(true), &json!([])));
}

#[test]
fn fmt_writes_the_one_form_and_check_only_tells() {
    let place = Place::new(READ);
    place.write(
        "policies/a.test.yaml",
        "- {request: {path: /a, method: GET}, name: 'one', expect: deny} # x\n",
    );
    let (said, code) = place.ask("fmt --check policies");
    assert_eq!(code, Some(1));
    assert!(
        said.contains(
            "+- { name: \"one\", request: { path: /a, method: GET }, expect: deny }  #***"
        ),
        "{said}"
    );
    // What may be a secret shows in no build log.
    place.write(
        "policies/b.yaml",
        "backends: { b: { http: https://b.example,   credential: {functionKey: hunter2} } }\n",
    );
    let (said, code) = place.ask("fmt --check policies/b.yaml");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("functionKey: ***") && !said.contains("hunter2"),
        "{said}"
    );
    place.write("policies/b.yaml", "backends: {} # hunter2\n");
    let (said, code) = place.ask("fmt --check policies/b.yaml");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("+backends: {}  #***") && !said.contains("hunter2"),
        "{said}"
    );
    let (said, code) = place.ask("fmt policies");
    assert_eq!(code, Some(0));
    assert!(said.contains("policies/a.test.yaml\n"), "{said}");
    assert_eq!(place.ask("fmt --check policies"), (String::new(), Some(0)));
    place.write("policies/broken.yaml", "a: [b\n");
    let (said, code) = place.ask("fmt policies");
    assert_eq!(code, Some(1));
    assert!(said.contains("policies/broken.yaml:1:"), "{said}");
    assert_eq!(place.ask("fmt nowhere").1, Some(2));
}

/// A token as Entra would write it, with a signature that nobody has checked.
fn token(claims: &Value) -> String {
    let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
    let header = json!({ "typ": "JWT", "alg": "RS256", "kid": "k" });
    format!(
        "{}.{}.{}",
        encode(header.to_string()),
        encode(claims.to_string()),
        encode("planted-signature".to_owned())
    )
}

#[test]
fn explain_says_why_and_never_prints_a_signature() {
    let place = Place::new(&rule(
        "allow: [{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], roles: [A, B], owner: ada }], deny: [{ from: [203.0.113.0/24] }]",
    ));
    let claims = json!({
        "aud": "api://gateway",
        "iss": "https://login.microsoftonline.com/11111111-1111-1111-1111-111111111111/v2.0",
        "tid": "11111111-1111-1111-1111-111111111111",
        "ver": "2.0",
        "azp": "aaaaaaaa-0000-0000-0000-000000000001",
        "idtyp": "app",
        "roles": ["C"],
        "exp": 1_900_000_000,
    });
    let token = token(&claims);
    place.write("token.txt", &format!("Bearer {token}\n"));
    place.write("claims.json", &claims.to_string());
    let (said, code) = place.ask("explain POST https://localhost/other?sig=planted-sas --token token.txt --at 2027-01-15T12:00:00Z");
    assert_eq!(code, Some(1));
    let expected = "\
request   POST localhost/other from 127.0.0.1
          taken out: sig
route     other (policies/policy.yaml:7:3), /other
token     v2 appOnly of contoso (11111111-1111-1111-1111-111111111111) by portal (aaaaaaaa-0000-0000-0000-000000000001); the signature is not looked at here
          principal none, audience api://gateway
rule      deny[0] (policies/policy.yaml:7:172) does not hold
        - from: 203.0.113.0/24; got 127.0.0.1
rule      allow[0] (policies/policy.yaml:7:74) does not hold
          owner: ada
        + tenants: contoso (11111111-1111-1111-1111-111111111111); got contoso (11111111-1111-1111-1111-111111111111)
        + apps: portal (aaaaaaaa-0000-0000-0000-000000000001); got portal (aaaaaaaa-0000-0000-0000-000000000001)
        + tokenKinds: appOnly; got appOnly
        - roles: any of A, B; got C
decision  deny, 403: role-missing: A role is missing (expected one of the roles: A B, got none of them); closest allow[0]
";
    assert_eq!(said, expected);
    let (by_claims, _) = place
        .ask("explain POST /other?sig=planted-sas --claims claims.json --at 2027-01-15T12:00:00Z");
    assert_eq!(by_claims, expected);
    let (said, code) = place.ask("explain POST /other --token token.txt --at 2027-01-15T12:00:00Z --client 203.0.113.9 --format json");
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (told["decision"]["reason"].as_str(), code),
        (Some("denied-by-rule"), Some(1))
    );
    assert_eq!(told["rules"][0]["holds"], true);
    let (said, _) = place.ask("explain POST /other --token token.txt");
    let signature = token.rsplit('.').next().expect("a signature");
    assert!(
        !said.contains(signature) && !said.contains("planted") && !said.contains("eyJ"),
        "{said}"
    );
    let (said, code) = place.ask("explain GET /guests/1");
    assert_eq!(code, Some(1));
    assert!(said.contains("deny, 401: token-missing"), "{said}");
    place.write("token.txt", "not-a-token");
    let (said, _) = place.ask("explain GET /guests/1 --token token.txt");
    assert!(said.contains("token     token-malformed"), "{said}");
    assert!(!said.contains("not-a-token"), "{said}");
}

#[test]
fn a_token_in_a_field_is_refused_and_not_dropped() {
    let place = Place::new(READ);
    for value in ["Bearer planted", "planted", "\u{1}planted"] {
        for name in ["Authorization", "authorization "] {
            let field = format!("{name}: {value}");
            let arguments = ["explain", "GET", "/guests/1", "--header", &field];
            let output = command(place.0.path(), PORTCULLIS, &arguments);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{field}");
            assert!(
                said.contains("`--token`") && said.contains("`--claims`"),
                "{said}"
            );
            assert!(
                !said.contains("planted") && output.stdout.is_empty(),
                "{said}"
            );
        }
    }
    for value in ["Bearer planted", "planted", "[planted]", "'planted'"] {
        place.write(
            "policies/a.test.yaml",
            &format!("- {{ name: one, request: {{ method: GET, path: /guests/1, headers: {{ authorization: {value} }} }}, expect: deny }}\n"),
        );
        let (said, code) = place.ask("test policies");
        assert_eq!(code, Some(1));
        assert!(
            said.starts_with("error: a token is not written as a field\n"),
            "{said}"
        );
        assert!(said.contains("`token: { tenant: .., app: .. }`"), "{said}");
        assert!(!said.contains("planted"), "{said}");
    }
}

#[test]
fn explain_does_not_say_that_no_token_came_when_one_was_refused() {
    let place = Place::new(&rule(
        "allow: [{ tenants: [contoso], roles: [A], when: \"'A' in token.roles || request.method == 'PUT'\" }]",
    ));
    let claims = |name: &str, value: Value| {
        let mut claims = json!({
            "aud": "api://gateway",
            "iss": "https://login.microsoftonline.com/11111111-1111-1111-1111-111111111111/v2.0",
            "tid": "11111111-1111-1111-1111-111111111111",
            "ver": "2.0",
            "azp": "aaaaaaaa-0000-0000-0000-000000000001",
            "idtyp": "app",
            "roles": ["A"],
            "exp": 1_900_000_000,
        });
        claims[name] = value;
        place.write("claims.json", &claims.to_string());
    };
    let ask = |more: &str| {
        place
            .ask(&format!(
                "explain POST /other --at 2027-01-15T12:00:00Z {more}"
            ))
            .0
    };
    for (name, value, reason) in [
        ("exp", json!(1_700_000_000), "token-expired"),
        ("aud", json!("api://another"), "audience-mismatch"),
    ] {
        claims(name, value);
        let said = ask("--claims claims.json");
        assert!(
            said.contains(&format!("decision  deny, 401: {reason}")),
            "{said}"
        );
        assert!(!said.contains("no token"), "{said}");
        for expected in [
            "- tenants: contoso (11111111-1111-1111-1111-111111111111); got a token that was refused\n",
            "- roles: any of A; got a token that was refused\n",
            "; got a token that was refused, and so token.roles is absent, request.method is \"POST\"",
        ] {
            assert!(
                said.contains(expected),
                "{expected:?} is missing in:\n{said}"
            );
        }
    }
    let said = ask("--format human");
    assert!(said.contains("roles: any of A; got no token\n"), "{said}");
    assert!(!said.contains("that was refused"), "{said}");
}
