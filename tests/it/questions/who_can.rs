//! Who can call what: `who-can` and `what-can`.

use serde_json::{Value, json};

use super::{Place, READ, rule};

#[test]
fn who_can_names_everybody_and_says_when_nobody_can() {
    let place = Place::new(&rule(
        "allow: [{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], expires: 2020-01-01T00:00:00Z }]",
    ));
    let (said, code) = place.ask("who-can GET /guests/7 --policies policies --format json");
    assert_eq!(code, Some(0));
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(told["callers"][0]["words"]["apps"], "batch, portal");
    assert_eq!(told["callers"][0]["words"]["tokens"], "appOnly");
    // The rule has ended; before that, it let somebody in.
    let (said, _) = place.ask("who-can POST /other --policies policies");
    assert!(said.ends_with("  nobody\n"), "{said}");
    let (said, _) = place.ask("who-can POST /other --policies policies --at 2019-12-31T00:00:00Z");
    assert!(said.contains("until 2020-01-01T00:00:00Z"), "{said}");
    let output = place.run("who-can POST /nothing --policies policies");
    assert_eq!(output.status.code(), Some(1));
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
fn who_can_says_that_a_token_must_list_its_groups_where_a_deny_rule_asks_for_one() {
    let place = Place::new(&rule(
        "allow: [{ tenants: [contoso], apps: [portal], roles: [R] }], deny: [{ groups: [desk] }]",
    ));
    place.write(
        "policies/groups.yaml",
        "groups: { desk: dddddddd-0000-0000-0000-000000000001 }\n",
    );
    let (said, _) = place.ask("who-can POST /other --policies policies");
    assert!(
        said.contains("  role R; no group desk; no more groups than it lists  "),
        "{said}"
    );
}

#[test]
fn who_can_writes_ipv4_networks_beside_all_of_ipv6() {
    let place = Place::new(&rule(
        "allow: [{ tenants: [contoso], apps: [portal], roles: [R], from: ['::/0', 203.0.113.0/24, 198.51.100.7] }]",
    ));
    let (said, _) = place.ask("who-can POST /other --policies policies");
    assert!(
        said.contains("  198.51.100.7, 203.0.113.0/24, ::/0  "),
        "{said}"
    );
}

#[test]
fn each_of_several_names_for_one_app_is_understood() {
    let place = Place::new(READ);
    place.write(
        "policies/more.yaml",
        "apps: { another-portal: aaaaaaaa-0000-0000-0000-000000000001 }\n",
    );
    for name in ["portal", "another-portal"] {
        let (said, code) = place.ask(&format!("what-can --app {name} --policies policies"));
        assert_eq!(code, Some(0), "{name}");
        assert!(
            said.contains("  contoso  another-portal  appOnly  "),
            "{said}"
        );
    }
    place.write(
        "policies/a.test.yaml",
        "- { name: one, request: { method: GET, path: /guests/1 }, token: { tenant: contoso, app: portal }, expect: allow }\n",
    );
    let (said, code) = place.ask("test policies");
    assert_eq!(code, Some(0), "{said}");
    let (said, _) = place.ask("who-can --all --policies policies");
    let (_, meanings) = said.split_once("\napps").expect("names");
    for name in ["another-portal", "portal"] {
        let line = format!("  {name} | aaaaaaaa-0000-0000-0000-000000000001\n");
        assert!(meanings.contains(&line), "{said}");
    }
}

#[test]
fn of_networks_that_fit_the_largest_is_named_whatever_the_order_of_the_files() {
    let from = rule("allow: [{ tenants: [contoso], apps: [portal], roles: [R], from: [corp] }]");
    let networks = ["office: 203.0.113.0/25", "corp: 203.0.113.0/24"];
    for order in [[0, 1], [1, 0]] {
        let place = Place::new(&from);
        let networks = order.map(|at| networks[at]).join(", ");
        place.write(
            "policies/more.yaml",
            &format!("networks: {{ {networks} }}\n"),
        );
        let (said, _) = place.ask("who-can POST /other --policies policies");
        assert!(said.contains("  corp  always"), "{said}");
    }
}

#[test]
fn who_can_takes_what_people_type_and_does_not_say_nobody_for_a_slip() {
    let place = Place::new(READ);
    for line in [
        "who-can get /guests/7",
        "who-can GET https://localhost/guests/7?a=b",
    ] {
        let (said, code) = place.ask(line);
        assert_eq!(code, Some(0), "{line}");
        assert!(said.starts_with("read: GET /guests/{id} to b\n"), "{said}");
    }
    for (line, expected) in [
        ("who-can GET guests/7", "it begins with `/`"),
        (
            "who-can GET /guests/{id}",
            "has values in place of parameters",
        ),
        (
            "who-can GET /guests/%2F",
            "whoever sends it (ambiguous-path)",
        ),
        (
            "who-can FOO /guests/7",
            "whoever sends it (method-not-supported)",
        ),
        (
            "who-can GET /guests/7 --policies nowhere",
            "name the policies by `--policies`",
        ),
    ] {
        let output = place.run(line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            said.contains(expected) && !said.contains("nobody can"),
            "{said}"
        );
    }
}

#[test]
fn what_can_leaves_out_what_is_over_and_says_which_audience_a_route_has_of_its_own() {
    let place = Place::new(&rule(
        "audiences: [api://own], allow: [{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly] }, { tenants: [fabrikam], apps: [portal], tokenKinds: [appOnly], expires: 2020-01-01T00:00:00Z }]",
    ));
    let (said, _) = place.ask("what-can --app portal --policies policies");
    assert!(!said.contains("fabrikam"), "{said}");
    assert!(said.contains("  audience api://own  "), "{said}");
    let (said, _) =
        place.ask("what-can --app portal --policies policies --at 2019-01-01T00:00:00Z");
    assert!(said.contains("until 2020-01-01T00:00:00Z"), "{said}");
}

#[test]
fn a_row_of_the_table_that_is_kept_leaves_the_others_as_they_are() {
    let place = Place::new(READ);
    let table = |place: &Place| place.ask("who-can --all --policies policies").0;
    let before = table(&place);
    let longer = "  other: { match: { methods: [GET], path: /other }, backend: b, allow: [{ tenants: [contoso, fabrikam], apps: [batch], tokenKinds: [appOnly], roles: [A.Role.With.A.Long.Name] }] }\n";
    place.write("policies/more.yaml", &format!("routes:\n{longer}"));
    let after = table(&place);
    let lost = before
        .lines()
        .filter(|line| !after.lines().any(|other| other == *line));
    assert_eq!(lost.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn a_group_of_zeros_is_a_group_as_any_other() {
    let place = Place::new(&rule(
        "allow: [{ tenants: [contoso], apps: [portal], groups: [g, h] }], deny: [{ groups: [nil] }]",
    ));
    place.write(
        "policies/more.yaml",
        "groups: { g: dddddddd-0000-0000-0000-000000000001, h: dddddddd-0000-0000-0000-000000000002, nil: 00000000-0000-0000-0000-000000000000 }\n",
    );
    let (said, _) = place.ask("who-can POST /other --policies policies");
    assert!(
        said.contains("  group g or group h; no group nil  "),
        "{said}"
    );
}

#[test]
fn who_can_shows_what_rules_that_only_report_will_change() {
    let usual = "tenants: [contoso], apps: [portal], tokenKinds: [appOnly]";
    let place = Place::new(&rule(&format!(
        "allow: [{{ {usual} }}, {{ tenants: [contoso], apps: [batch], tokenKinds: [appOnly], mode: reportOnly }}], deny: [{{ from: [203.0.113.0/24], mode: reportOnly }}]"
    )));
    let (said, _) = place.ask("who-can POST /other");
    let (now, later) = said
        .split_once("  It has rules that only report. Once they act:\n")
        .expect("both");
    assert!(
        now.contains("  portal  ") && now.contains("anywhere  always"),
        "{said}"
    );
    assert!(
        later.contains("  batch, portal  ") && later.contains("anywhere but 203.0.113.0/24"),
        "{said}"
    );
    let (said, _) = place.ask("what-can --app batch");
    assert!(
        said.contains("\nother has rules that only report. Once they act:\n"),
        "{said}"
    );
    let (said, _) = place.ask("who-can GET /guests/1 --format json");
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(told["callersOnceEnforced"], Value::Null);
}
