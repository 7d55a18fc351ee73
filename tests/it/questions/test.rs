//! What `test` runs, reaches and attacks.

use std::fs;

use serde_json::{Value, json};

use super::{Place, READ, rule};

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
fn a_near_miss_changes_what_the_rule_asks_for_and_leaves_nothing_of_it() {
    // Of two scopes in one token neither is left; a user with the app's ID is another person, in no group.
    let rules = [
        "{ tenants: [contoso], apps: [portal], scopes: [A], reason: x }",
        "{ tenants: [contoso], apps: [portal], principals: [batch-identity], reason: x }",
        "{ tenants: [contoso], apps: [portal], groups: [desk], reason: x }",
    ];
    let tokens = [
        "scopes: [A, B]",
        "principal: batch-identity",
        "groups: [desk]",
    ];
    for (asked, token) in rules.iter().zip(tokens) {
        let place = Place::new(&rule(&format!("allow: [{asked}]")));
        place.write(
            "policies/more.yaml",
            "groups: { desk: dddddddd-0000-0000-0000-000000000001 }\nprincipals: { batch-identity: cccccccc-0000-0000-0000-000000000001 }\n",
        );
        place.write(
            "policies/a.test.yaml",
            &format!("- {{ name: one, request: {{ method: POST, path: /other }}, token: {{ tenant: contoso, app: portal, {token} }}, expect: allow }}\n"),
        );
        let (said, code) = place.ask("test policies --attack");
        assert_eq!(code, Some(0), "{asked}\n{said}");
    }
}

#[test]
fn the_attack_tries_every_kind_of_near_miss_and_tells_what_other_rules_let_in() {
    let place = Place::new(&rule(
        "audiences: [api://own], allow: [{ tenants: [contoso], apps: [portal], principals: [p], tokenKinds: [appOnly], authStrength: [certificate], roles: [R], from: [203.0.113.0/24], notBefore: 2027-01-01T00:00:00Z, expires: 2027-02-01T00:00:00Z }]",
    ));
    place.write(
        "policies/more.yaml",
        "principals: { p: cccccccc-0000-0000-0000-000000000001 }\n",
    );
    place.write(
        "policies/a.test.yaml",
        "- { name: one, request: { method: GET, path: /guests/1 }, token: { tenant: contoso, app: portal }, expect: allow }\n",
    );
    let (said, code) = place.ask("test policies --attack --format json");
    assert_eq!(code, Some(0), "{said}");
    let told: Value = serde_json::from_str(&said).expect("JSON");
    let tried: Vec<&str> = told["attack"]["changes"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for kind in [
        "no token",
        "the tenant fabrikam",
        "a tenant that nobody names",
        "the issuer of another tenant",
        "a personal account",
        "the app batch",
        "an app that nobody names",
        "another audience",
        "an audience of another route",
        "a user's token with the same app ID and roles",
        "another principal",
        "an app that proved itself otherwise: secret",
        "a token without the role",
        "a role of a similar name",
        "an expired token",
        "a token that is not valid yet",
        "another network",
        "before the rule begins",
        "after it has ended",
        "an encoded slash in the path",
        "a path that is encoded twice",
        "the path in capitals",
        "the method PUT",
        "a SAS signature added to the URL",
    ] {
        assert!(tried.contains(&kind), "{kind} {tried:?}");
    }
    // A wider rule beside it.
    let place = Place::new(&rule(
        "allow: [{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], roles: [R] }, { tenants: [contoso], scopes: [S], reason: x }, { tenants: [contoso], apps: [portal], tokenKinds: [appOnly] }]",
    ));
    place.write(
        "policies/a.test.yaml",
        "- { name: one, request: { method: GET, path: /guests/1 }, token: { tenant: contoso, app: portal }, expect: allow }\n",
    );
    let (said, _) = place.ask("test policies --attack");
    assert!(
        said.contains(
            "  look  other allow[0]: a token without the role is let in by allow[2] of other\n"
        ),
        "{said}"
    );
}

#[test]
fn the_attack_keeps_a_users_roles_and_tries_what_only_reports() {
    for more in ["", "mode: reportOnly, "] {
        let place = Place::new(&rule(&format!(
            "{more}allow: [{{ tenants: [contoso], apps: [portal], roles: [R] }}]"
        )));
        place.write(
            "policies/a.test.yaml",
            "- { name: one, request: { method: GET, path: /guests/1 }, token: { tenant: contoso, app: portal }, expect: allow }\n",
        );
        let (said, code) = place.ask("test policies --attack");
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("  FAIL  other allow[0]: a user's token with the same app ID is let in by allow[0] of other\n"),
            "{said}"
        );
    }
}

#[test]
fn coverage_that_is_not_whole_is_not_rounded_up_to_it() {
    let allow =
        (0..299).map(|n| format!("{{ tenants: [contoso], apps: [portal], roles: [R{n}] }}"));
    let allow = allow.collect::<Vec<_>>().join(", ");
    let place = Place::new(&rule(&format!("allow: [{allow}]")));
    let roles = (0..299)
        .map(|n| format!("R{n}"))
        .collect::<Vec<_>>()
        .join(", ");
    place.write(
        "policies/a.test.yaml",
        &format!("- {{ name: one, request: {{ method: POST, path: /other }}, token: {{ tenant: contoso, app: portal, roles: [{roles}] }}, expect: allow }}\n"),
    );
    let (said, code) = place.ask("test policies --min-coverage 100");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("\n299 of 300 rules reached: 99 %\n"),
        "{said}"
    );
}

#[test]
fn a_failed_test_shows_no_secret_that_the_backend_would_get() {
    let place = Place::new(READ);
    place.write(
        "policies/a.test.yaml",
        "- name: one\n  request: { method: GET, path: '/guests/1?x=1&token=planted', headers: { cookie: planted } }\n  token: { tenant: contoso, app: portal }\n  expect: { decision: allow, backend: { query: other, headers: { cookie: other } } }\n",
    );
    for format in ["human", "json", "junit"] {
        let (said, code) = place.ask(&format!("test policies --format {format}"));
        assert_eq!(code, Some(1));
        assert!(
            said.contains("x=1&") && said.contains("token=***"),
            "{said}"
        );
        assert!(!said.contains("planted"), "{said}");
    }
}
