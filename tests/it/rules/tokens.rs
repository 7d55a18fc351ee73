//! What a rule may ask of a token, row by row, with the rule and the words that the record holds.

use portcullis::demo::mint::Token;
use portcullis::entra::Version;
use serde_json::{Value, json};

use super::{send, stage, token};
use crate::support::Stage;

/// Claims to add; `null` takes one away.
type Claims = Vec<(&'static str, Value)>;

fn with(base: Token, claims: &Claims) -> Token {
    claims
        .iter()
        .fold(base, |token, (name, value)| match value {
            Value::Null => token.without(name),
            value => token.claim(name, value.clone()),
        })
}

/// Asks with tokens of both versions, and compares verdict, rule and what came.
fn check(stage: &Stage, rows: &[(&str, Claims, &str, &str)]) {
    for version in Version::ALL {
        for (target, claims, verdict, got) in rows {
            let row = format!("{version:?} {target} {claims:?}");
            // The claim for the strength has another name in each version.
            let strength = match version {
                Version::V1 => "appidacr",
                Version::V2 => "azpacr",
            };
            let named = |(name, value): &(&'static str, Value)| match *name {
                "strength" => (strength, value.clone()),
                name => (name, value.clone()),
            };
            let claims: Claims = claims.iter().map(named).collect();
            let answer = send(stage, target, &with(token(stage, version), &claims));
            assert_eq!(answer.verdict(), *verdict, "{row}");
            let record = stage.record_of(&answer);
            match *verdict {
                "200" => assert_eq!(record["reason"], "rule", "{row}"),
                refused => assert!(
                    refused.ends_with(record["reason"].as_str().expect("a reason")),
                    "{row}: {record}"
                ),
            }
            if verdict.starts_with("401") {
                assert_eq!(record["rule"], Value::Null, "{row}");
                continue;
            }
            assert_eq!(record["rule"], "allow[0]", "{row}");
            if *verdict != "200" {
                assert_eq!(record["got"], *got, "{row}");
            }
        }
    }
}

#[test]
fn how_the_app_proved_itself_is_asked_for_by_name_and_unknown_is_none_of_the_names() {
    let allow = |words: &str| format!("allow: [{{ tenants: [contoso], authStrength: [{words}] }}]");
    let bodies = ["public", "secret", "certificate", "secret, certificate"].map(allow);
    let (_raw, stage) = stage(&bodies.each_ref().map(String::as_str));
    let refused = "403 auth-strength-not-allowed";
    let mut rows = Vec::new();
    for (claim, word, let_in) in [
        (json!("0"), "public", [true, false, false, false]),
        (json!("1"), "secret", [false, true, false, true]),
        (json!("2"), "certificate", [false, false, true, true]),
        (json!("3"), "unknown", [false; 4]),
        (json!(""), "unknown", [false; 4]),
        (Value::Null, "unknown", [false; 4]),
    ] {
        for (target, let_in) in ["/0", "/1", "/2", "/3"].iter().zip(let_in) {
            let verdict = if let_in { "200" } else { refused };
            rows.push((*target, vec![("strength", claim.clone())], verdict, word));
        }
    }
    // Entra writes text; a number is not read as if it were.
    rows.push((
        "/1",
        vec![("strength", json!(1))],
        "401 claims-malformed",
        "",
    ));
    check(&stage, &rows);
    // The other version's claim says nothing.
    for (version, other) in [(Version::V1, "azpacr"), (Version::V2, "appidacr")] {
        let strength = if version == Version::V1 {
            "appidacr"
        } else {
            "azpacr"
        };
        let claims = vec![(strength, Value::Null), (other, json!("2"))];
        let answer = send(&stage, "/2", &with(token(&stage, version), &claims));
        assert_eq!(answer.verdict(), refused, "{version:?}");
    }
    let answer = send(
        &stage,
        "/3",
        &token(&stage, Version::V2).claim("azpacr", "0"),
    );
    assert_eq!(
        stage.record_of(&answer)["expected"],
        "one of: secret, certificate"
    );
}

#[test]
fn the_kind_of_a_token_is_what_it_proves_and_a_contradiction_proves_nothing() {
    let allow = |words: &str| format!("allow: [{{ tenants: [contoso], tokenKinds: [{words}] }}]");
    let bodies = ["appOnly", "delegated", "appOnly, delegated"].map(allow);
    let (_raw, stage) = stage(&bodies.each_ref().map(String::as_str));
    let mut rows = Vec::new();
    for (claims, kind) in [
        (vec![("idtyp", json!("app"))], "appOnly"),
        (
            vec![("idtyp", json!("app")), ("roles", json!(["A"]))],
            "appOnly",
        ),
        (vec![("idtyp", json!("user"))], "delegated"),
        (
            vec![("idtyp", json!("user")), ("scp", json!("A"))],
            "delegated",
        ),
        (vec![("idtyp", json!("device"))], "unknown"),
        (
            vec![("idtyp", json!("device")), ("scp", json!("A"))],
            "unknown",
        ),
        (vec![("idtyp", json!("App"))], "unknown"),
        (vec![("idtyp", json!(""))], "unknown"),
        (
            vec![("idtyp", json!("app")), ("scp", json!("A"))],
            "unknown",
        ),
        (vec![("scp", json!("A"))], "delegated"),
        // A user may have roles too.
        (
            vec![("scp", json!("A")), ("roles", json!(["A"]))],
            "delegated",
        ),
        (vec![("roles", json!(["A"]))], "appOnly"),
        (vec![("roles", json!([]))], "unknown"),
        (vec![("scp", json!(" "))], "unknown"),
        (vec![], "unknown"),
    ] {
        for (target, kinds) in [
            ("/0", &["appOnly"][..]),
            ("/1", &["delegated"]),
            ("/2", &["appOnly", "delegated"]),
        ] {
            let verdict = match kinds.contains(&kind) {
                true => "200",
                false => "403 token-kind-not-allowed",
            };
            rows.push((target, claims.clone(), verdict, kind));
        }
    }
    rows.push((
        "/0",
        vec![("idtyp", json!(["app"]))],
        "401 claims-malformed",
        "",
    ));
    check(&stage, &rows);
    let odd = token(&stage, Version::V1).claim("idtyp", "device");
    let record = stage.record_of(&send(&stage, "/2", &odd));
    assert_eq!(record["tokenKind"], "unknown");
    assert_eq!(record["expected"], "one of: appOnly, delegated");
}

const MANAGERS: &str = "dddddddd-0000-0000-0000-000000000001";
const DESK: &str = "DDDDDDDD-0000-0000-0000-000000000002";

#[test]
fn groups_are_listed_missing_or_unknown_and_unknown_is_never_none() {
    let (_raw, stage) = stage(&[
        "allow: [{ tenants: [contoso], groups: [managers, desk] }]",
        "allow: [{ tenants: [contoso], groups: { allOf: [managers, desk] } }]",
        "allow: [{ tenants: [contoso], groups: { anyOf: [managers], allOf: [desk] } }]",
    ]);
    let groups = |list: &[&str]| vec![("groups", json!(list))];
    let named = ("_claim_names", json!({ "groups": "src1" }));
    let missing = "403 group-missing";
    let unknown = "403 group-overage";
    let more = "one with more groups than it lists";
    let rows = [
        ("/0", groups(&[MANAGERS]), "200", ""),
        ("/0", groups(&[DESK]), "200", ""),
        (
            "/0",
            groups(&["eeeeeeee-0000-0000-0000-000000000001"]),
            missing,
            "none of them",
        ),
        // A name is not the group's object ID, nor is the ID in another form.
        ("/0", groups(&["managers"]), missing, "none of them"),
        (
            "/0",
            groups(&["dddddddd000000000000000000000001"]),
            missing,
            "none of them",
        ),
        ("/0", groups(&[]), missing, "none of them"),
        ("/0", vec![], missing, "none of them"),
        (
            "/0",
            vec![("groups", json!(MANAGERS))],
            "401 claims-malformed",
            "",
        ),
        (
            "/0",
            vec![("groups", json!([1]))],
            "401 claims-malformed",
            "",
        ),
        ("/1", groups(&[DESK, MANAGERS]), "200", ""),
        ("/1", groups(&[MANAGERS]), missing, "none of them"),
        ("/2", groups(&[MANAGERS, DESK]), "200", ""),
        ("/2", groups(&[DESK]), missing, "none of them"),
        // More than the token lists, whatever it lists beside.
        ("/0", vec![named.clone()], unknown, more),
        (
            "/0",
            vec![("groups", json!([MANAGERS])), named.clone()],
            unknown,
            more,
        ),
        ("/1", vec![named], unknown, more),
        ("/0", vec![("hasgroups", json!(true))], unknown, more),
        ("/0", vec![("hasgroups", json!("true"))], unknown, more),
        (
            "/0",
            vec![("hasgroups", json!(false))],
            missing,
            "none of them",
        ),
        ("/0", vec![("_claim_names", json!("groups"))], unknown, more),
        (
            "/0",
            vec![("_claim_names", json!({ "photo": "src1" }))],
            missing,
            "none of them",
        ),
    ];
    check(&stage, &rows);
}

#[test]
fn a_deny_rule_for_a_group_keeps_out_whose_groups_nobody_knows() {
    let (_raw, stage) = stage(&[
        "allow: [{ tenants: [contoso] }], deny: [{ groups: [desk] }]",
        "allow: [{ tenants: [contoso] }], deny: [{ groups: [desk], tenants: [fabrikam] }]",
        "allow: [{ tenants: [contoso] }], deny: [{ groups: [desk] }, { tenants: [contoso] }]",
    ]);
    let overage = json!({ "groups": "src1" });
    for version in Version::ALL {
        let plain = token(&stage, version);
        for (target, token, verdict, rule) in [
            ("/0", plain.clone(), "200", "allow[0]"),
            (
                "/0",
                plain.clone().claim("groups", vec![MANAGERS]),
                "200",
                "allow[0]",
            ),
            (
                "/0",
                plain.clone().claim("groups", vec![DESK]),
                "403 denied-by-rule",
                "deny[0]",
            ),
            (
                "/0",
                plain.clone().claim("_claim_names", overage.clone()),
                "403 group-overage",
                "deny[0]",
            ),
            (
                "/0",
                plain.clone().claim("hasgroups", true),
                "403 group-overage",
                "deny[0]",
            ),
            // A rule that holds is the reason before one of which nobody can tell.
            (
                "/2",
                plain.clone().claim("hasgroups", true),
                "403 denied-by-rule",
                "deny[1]",
            ),
            // Another clause of the rule is known not to hold.
            (
                "/1",
                plain.claim("_claim_names", overage.clone()),
                "200",
                "allow[0]",
            ),
        ] {
            let answer = send(&stage, target, &token);
            assert_eq!(answer.verdict(), verdict, "{target} {:?}", token.claims);
            assert_eq!(
                stage.record_of(&answer)["rule"],
                rule,
                "{target} {:?}",
                token.claims
            );
        }
    }
}

#[test]
fn the_refusal_is_that_of_the_rule_that_came_closest_whatever_the_order() {
    let (_raw, stage) = stage(&[
        "allow: [{ tenants: [contoso], roles: [A] }, { tenants: [contoso], apps: [nightly-batch] }, { tenants: [fabrikam] }]",
        "allow: [{ tenants: [fabrikam] }, { tenants: [contoso], apps: [nightly-batch] }, { tenants: [contoso], roles: [A] }]",
        "allow: [{ tenants: [contoso], roles: [A] }, { tenants: [contoso], roles: [B] }]",
        "allow: [{ tenants: [contoso], from: [elsewhere], roles: [A] }, { tenants: [contoso], scopes: [S] }]",
        "allow: [{ tenants: [contoso], authStrength: [certificate], mode: reportOnly }, { tenants: [contoso], apps: [nightly-batch] }]",
    ]);
    for (target, roles, reason, rule) in [
        ("/0", &[][..], "role-missing", "allow[0]"),
        ("/1", &[], "role-missing", "allow[2]"),
        ("/2", &[], "role-missing", "allow[0]"),
        ("/3", &[], "scope-missing", "allow[1]"),
        ("/3", &["A"], "network-not-allowed", "allow[0]"),
        // What only reports says nothing to callers.
        ("/4", &[], "app-not-allowed", "allow[1]"),
    ] {
        let answer = send(&stage, target, &token(&stage, Version::V2).roles(roles));
        assert_eq!(
            answer.verdict(),
            format!("403 {reason}"),
            "{target} {roles:?}"
        );
        assert_eq!(stage.record_of(&answer)["rule"], rule, "{target} {roles:?}");
    }
}

#[test]
fn a_deny_rule_for_a_kind_or_a_strength_keeps_out_a_token_that_does_not_say() {
    let (_raw, stage) = stage(&[
        "allow: [{ tenants: [contoso] }], deny: [{ tokenKinds: [appOnly] }]",
        "allow: [{ tenants: [contoso] }], deny: [{ authStrength: [public, secret] }]",
        "allow: [{ tenants: [contoso] }], deny: [{ tokenKinds: [appOnly], tenants: [fabrikam] }]",
    ]);
    for version in Version::ALL {
        let plain = token(&stage, version);
        let strength = match version {
            Version::V1 => "appidacr",
            Version::V2 => "azpacr",
        };
        let kindless = plain.clone().claim("idtyp", "device");
        let delegated = plain.clone().claim("idtyp", "user");
        for (target, token, verdict) in [
            ("/0", plain.clone(), "403 denied-by-rule"),
            ("/0", kindless.clone(), "403 denied-by-rule"),
            ("/0", delegated, "200"),
            (
                "/1",
                plain.clone().claim(strength, "1"),
                "403 denied-by-rule",
            ),
            (
                "/1",
                plain.clone().claim(strength, "7"),
                "403 denied-by-rule",
            ),
            ("/1", plain.clone().claim(strength, "2"), "200"),
            ("/2", kindless, "200"),
        ] {
            let answer = send(&stage, target, &token);
            assert_eq!(answer.verdict(), verdict, "{target} {:?}", token.claims);
        }
    }
}
