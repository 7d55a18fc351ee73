//! What `check` finds.

use std::fs;

use super::{Place, READ, rule};

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
fn no_condition_reads_the_header_of_a_backends_credential() {
    let place = Place::new(&rule(
        "allow: [{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], when: \"request.headers['X_Door'] == 'open'\" }]",
    ));
    let (said, _) = place.ask("check policies");
    assert!(!said.contains("error"), "{said}");
    place.write(
        "policies/more.yaml",
        "backends: { old: { http: 'http://127.0.0.1:9', credential: { header: { name: x-door, value: { env: DOOR } } } } }\n",
    );
    let (said, code) = place.ask("check policies");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("this reads the header in which the backend `old` gets its credential"),
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
