//! What of the language is a fault before anything decides, and what beside a rule plays no part in it.

use std::path::Path;

use portcullis::entra::Version;
use portcullis::files::{Diagnostics, parse_policies};
use portcullis::policy;
use serde_json::Value;

use super::{send, stage, token};

const NAMES: &str = "tenants: { contoso: 11111111-1111-1111-1111-111111111111 }
audiences: [api://gateway]
backends: { b: { http: 'http://127.0.0.1:9', credential: none } }
";

/// What these files are told.
fn told(files: &[&str]) -> Diagnostics {
    let names: Vec<String> = (0..files.len()).map(|at| format!("{at}.yaml")).collect();
    let files: Vec<(&Path, &str)> = names
        .iter()
        .map(Path::new)
        .zip(files.iter().copied())
        .collect();
    let mut faults = Diagnostics::new();
    let document = parse_policies(&files, &mut faults);
    let compiled = policy::compile(&document, &mut faults);
    assert_eq!(
        compiled.is_none(),
        faults.has_errors(),
        "{}",
        faults.render()
    );
    faults
}

/// The messages of the errors that these files have.
fn faults(files: &[&str]) -> Vec<String> {
    let told = told(files).to_json();
    let told = told.as_array().expect("a list").iter();
    let errors = told.filter(|fault| fault["severity"] == "error");
    errors
        .map(|fault| fault["message"].as_str().expect("text").to_owned())
        .collect()
}

fn route(rest: &str) -> String {
    format!(
        "{NAMES}routes:\n  r: {{ match: {{ methods: [GET], path: /a }}, backend: b, {rest} }}\n"
    )
}

/// A deny rule that compares a GUID with a name would keep nobody out.
#[test]
fn a_condition_compares_with_guids_and_is_told_which_a_name_stands_for() {
    const OTHERS: &str = "apps: { shop: aaaaaaaa-0000-0000-0000-000000000001 }
principals: { ada: cccccccc-0000-0000-0000-000000000001 }
groups: { desk: dddddddd-0000-0000-0000-000000000001 }
";
    for (when, meant) in [
        (
            "token.tenant == 'contoso'",
            Some("11111111-1111-1111-1111-111111111111"),
        ),
        (
            "token.app in ['shop']",
            Some("aaaaaaaa-0000-0000-0000-000000000001"),
        ),
        (
            "'ada' != token.principal",
            Some("cccccccc-0000-0000-0000-000000000001"),
        ),
        (
            "'desk' in token.groups",
            Some("dddddddd-0000-0000-0000-000000000001"),
        ),
        // What Entra calls a group, if it is told to, is no name of the policy.
        ("'Service Desk' in token.groups", None),
    ] {
        let text = route(&format!(
            "allow: [{{ tenants: [contoso] }}], deny: [{{ when: \"{when}\" }}]"
        ));
        let told = told(&[&format!("{text}{OTHERS}")]).render();
        match meant {
            Some(guid) => assert!(
                told.contains(&format!("did you mean `'{guid}'`?")),
                "{told}"
            ),
            None => assert!(!told.contains("error"), "{told}"),
        }
    }
}

#[test]
fn a_deny_rule_of_a_public_route_asks_for_no_token() {
    let asks = "a public route does not look at tokens, and this rule asks what one holds";
    for (rule, expected) in [
        ("{ from: [127.0.0.0/8] }", vec![]),
        (
            "{ from: [127.0.0.0/8], expires: 2030-01-01T00:00:00Z }",
            vec![],
        ),
        ("{ tenants: [contoso] }", vec![asks]),
        (
            "{ from: [127.0.0.0/8], tokenKinds: [delegated] }",
            vec![asks],
        ),
        ("{ roles: [A] }", vec![asks]),
        ("{ scopes: { allOf: [A] } }", vec![asks]),
        ("{ authStrength: [public] }", vec![asks]),
        ("{ when: \"token.version == '1.0'\" }", vec![asks]),
        ("{ when: \"request.method == 'GET'\" }", vec![]),
        (
            "{ from: [127.0.0.0/8] }, { roles: [A] }, { roles: [B] }",
            vec![asks, asks],
        ),
        // One that only reports would report of nobody.
        ("{ roles: [A], mode: reportOnly }", vec![asks]),
    ] {
        let text = route(&format!("public: true, deny: [{rule}]"));
        assert_eq!(faults(&[&text]), expected, "{rule}");
        let text = route(&format!(
            "allow: [{{ tenants: [contoso] }}], deny: [{rule}]"
        ));
        assert_eq!(faults(&[&text]), Vec::<String>::new(), "{rule}");
    }
}

#[test]
fn defaults_stand_in_one_file_whatever_they_say() {
    let own = route("allow: [{ tenants: [contoso] }]");
    let defaults = "defaults: { owner: desk }\n";
    let none: Vec<String> = Vec::new();
    assert_eq!(faults(&[&own, defaults]), none);
    assert_eq!(faults(&[defaults, &own]), none, "in any file");
    for second in [defaults, "defaults: { mode: enforce }\n", "defaults: {}\n"] {
        let twice = faults(&[defaults, second, &own]);
        assert_eq!(
            twice,
            ["`defaults` stand in one file of a folder"],
            "{second}"
        );
    }
}

#[test]
fn a_public_route_stays_public_where_others_have_audiences_of_their_own() {
    let (_raw, stage) = stage(&[
        "public: true",
        "audiences: [api://payments], public: true",
        "audiences: [api://payments], allow: [{ tenants: [contoso] }]",
        "allow: [{ tenants: [contoso] }]",
    ]);
    let usual = token(&stage, Version::V1);
    let payments = usual.clone().claim("aud", "api://payments");
    for target in ["/0", "/1"] {
        for answer in [
            stage.call("GET", target).send(),
            send(&stage, target, &usual),
            send(&stage, target, &payments),
        ] {
            assert_eq!(answer.verdict(), "200", "{target}");
            let record = stage.record_of(&answer);
            assert_eq!(record["reason"], "public", "{target}");
            assert_eq!(record["tenant"], Value::Null, "{target}");
        }
    }
    for (target, token) in [("/2", &usual), ("/3", &payments)] {
        let answer = send(&stage, target, token);
        assert_eq!(answer.verdict(), "401 audience-mismatch", "{target}");
        let challenge = answer.header("www-authenticate").expect("a challenge");
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        let record = stage.record_of(&answer);
        assert_eq!(record["rule"], Value::Null, "{target}");
        // What it is that the other route asks for, a caller does not learn.
        assert!(!answer.text().contains("api://"), "{target}");
    }
}
