//! What `check` finds.

use std::fs;

use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::Value;

use super::{NAMES, NO_TESTS, Place, READ, rule};

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
            allow(
                "{ tenants: [contoso], roles: [A], scopes: [B], tokenKinds: [appOnly], reason: x }",
            ),
            vec!["no caller can meet all that this rule asks for"],
        ),
        (
            format!(
                "{READ}  other: {{ match: {{ methods: [POST], path: '/other/{{id}}' }}, backend: b, allow: [{usual}], deny: [{{ when: \"request.parameters['id'] == 'admin'\" }}] }}\n"
            ),
            vec![
                "this deny rule knows a path by its spelling, and backends read several spellings as one",
            ],
        ),
        (
            allow(
                "{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], when: \"connection.certificateSubject.lowerAscii().endsWith(',o=fabrikam')\" }",
            ),
            vec![
                "this rule knows a certificate by a part of a name, and its holder may have chosen that part",
            ],
        ),
        (
            allow(
                "{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], when: \"request.host.endsWith('.example') && connection.certificateSubject in ['CN=partner,O=Fabrikam']\" }",
            ),
            vec![],
        ),
        (
            // A token of which nobody can tell what it is may.
            rule(&format!(
                "allow: [{usual}], deny: [{{ roles: [A], scopes: [B], tokenKinds: [appOnly] }}]"
            )),
            vec![],
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
    let function = "  f: { match: { methods: [GET], path: 'PATH' }, backend: f, public: true }\n";
    let on_a_host = |path: &str, more: &str| {
        let route = function.replace("PATH", path).replace("public", more);
        let backends = "backends: { f: { function: 'https://f.example', credential: none }, ";
        let policy = format!("{NAMES}{READ}{route}").replace("backends: { ", backends);
        let place = Place::new("");
        place.write("policies/policy.yaml", &policy);
        place.warnings()
    };
    let publishes =
        "this route publishes `/admin`, by which the Functions host is administered".to_owned();
    for (path, more, expected) in [
        ("/{*rest}", "public", vec![]),
        ("/admin/host/status", "public", vec![publishes]),
        (
            "/admin/host/status",
            "reason: a probe of ours, public",
            vec![],
        ),
        (
            "/.sealed/{x}",
            "public",
            vec![
                "no request comes this way: below `/.sealed/` are the gateway's own sealed URLs"
                    .to_owned(),
            ],
        ),
        ("/.sealed/{x}/y", "public", vec![]),
    ] {
        assert_eq!(on_a_host(path, more), expected, "{path} {more}");
    }
    let idle = READ.replace("portal, batch", "portal");
    assert_eq!(
        Place::new(&idle).warnings(),
        ["this app is allowed on no route"]
    );
}

#[test]
fn what_one_file_says_and_the_other_makes_nothing_of_is_told() {
    let place = Place::new(&rule(
        "allow: [{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly], when: \"has(connection.certificateThumbprint)\" }]",
    ));
    let told = |listen: &str, more: &str| {
        place.write(
            "gateway.yaml",
            &format!("listen: {listen}\npolicies: policies\n{more}"),
        );
        let (said, code) = place.ask("check gateway.yaml");
        assert_eq!(code, Some(0), "{said}");
        let warnings = said
            .lines()
            .filter_map(|line| line.strip_prefix("warning: "));
        let warnings = warnings.filter(|message| *message != NO_TESTS);
        warnings.map(str::to_owned).collect::<Vec<_>>()
    };
    let platform = "address: '127.0.0.1:1', tls: platform";
    let nobody = "`connection.certificateThumbprint` is never there, for no listener asks callers for certificates";
    assert_eq!(told(&format!("{{ {platform} }}"), ""), [nobody]);
    let ca = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).expect("a certificate");
    place.write("ca.pem", &ca.cert.pem());
    let asking = "trustedHops: { networks: [10.0.0.0/8] }, clientCertificates: { mode: request, ca: ca.pem, header: x-arr-clientcert }";
    let asking = format!("{{ {platform}, {asking} }}");
    assert!(told(&asking, "").is_empty());
    let acme =
        "acme: { directory: 'https://ca.example/dir', termsOfServiceAgreed: true, folder: acme }\n";
    let idle = "no certificate is ordered from this CA";
    assert_eq!(told(&asking, acme), [idle]);
}

#[test]
fn a_pipe_in_the_place_of_a_ca_is_not_waited_for() {
    let place = Place::new(READ);
    let pipe = place.0.path().join("policies/ca.pem");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a pipe");
    place.write(
        "policies/more.yaml",
        "backends: { c: { http: 'https://c.example', credential: none, ca: ca.pem } }\n",
    );
    let (said, code) = place.ask("check policies");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("it is a pipe"), "{said}");
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

#[test]
fn a_condition_that_is_always_the_same_where_it_is_asked_is_told() {
    let always = |rules: &str, more: &str| {
        let place = Place::new(&format!(
            "{READ}  other: {{ match: {{ {more}methods: [GET], path: /other }}, backend: b, allow: [{{ tenants: [contoso], apps: [portal], {rules} }}] }}\n"
        ));
        let warnings = place.warnings();
        let found = warnings
            .iter()
            .find(|warning| warning.starts_with("`when` is always"));
        found.map(|warning| warning.contains("always true"))
    };
    for (when, more, expected) in [
        ("request.method == 'GET'", "", Some(true)),
        ("request.method == 'POST'", "", Some(false)),
        ("request.path == '/other'", "", Some(true)),
        (
            "request.host == 'a.example'",
            "host: a.example, ",
            Some(true),
        ),
        ("request.host == 'a.example'", "", None),
        ("token.kind == 'delegated'", "", Some(false)),
        (
            "token.app == 'aaaaaaaa-0000-0000-0000-000000000001'",
            "",
            Some(true),
        ),
        ("request.time.getHours() > 24", "", Some(false)),
        (
            "request.time.getHours() >= 0 && request.time.getHours() < 24",
            "",
            Some(true),
        ),
        ("request.time.getHours() < 23", "", None),
        ("request.time.getMinutes() < 59", "", None),
        (
            "request.time.getDayOfWeek() != 0 && request.time.getHours() == 3",
            "",
            None,
        ),
        (
            "request.time.getMonth() == 11 && request.time.getDayOfMonth() == 30",
            "",
            None,
        ),
        (
            "request.time > timestamp('2030-01-01T00:00:00Z') && request.time < timestamp('2029-01-01T00:00:00Z')",
            "",
            Some(false),
        ),
        ("request.time < timestamp('2099-01-01T00:00:00Z')", "", None),
        (
            "request.headers['x-a'] == 'b' || request.method == 'GET'",
            "",
            Some(true),
        ),
        ("request.headers['x-a'] == 'b'", "", None),
        ("connection.protocol == 'HTTP/2'", "", None),
    ] {
        let rules = format!("tokenKinds: [appOnly], when: \"{when}\"");
        assert_eq!(always(&rules, more), expected, "{when}");
    }
}

#[test]
fn an_app_that_no_acting_rule_lets_in_is_idle() {
    let idle = |rules: &str| {
        let portal = "{ tenants: [contoso], apps: [portal], tokenKinds: [appOnly] }";
        let place = Place::new(&format!(
            "  one: {{ match: {{ methods: [GET], path: /one }}, backend: b, allow: [{portal}, {rules} }}\n"
        ));
        let warnings = place.warnings();
        warnings.contains(&"this app is allowed on no route".to_owned())
    };
    let batch = "{ tenants: [contoso], apps: [batch], tokenKinds: [appOnly]";
    for (rules, expected) in [
        (format!("{batch} }}]"), false),
        (format!("{batch}, mode: reportOnly }}]"), true),
        (format!("{batch} }}], deny: [{{ apps: [batch] }}]"), true),
        (
            format!("{batch} }}], deny: [{{ apps: [batch], from: [203.0.113.0/24] }}]"),
            false,
        ),
    ] {
        assert_eq!(idle(&rules), expected, "{rules}");
    }
}

#[test]
fn a_folder_without_tests_is_told_once() {
    let place = Place::new(READ);
    let (said, code) = place.ask("check policies");
    assert_eq!(
        (said.matches(NO_TESTS).count(), code),
        (1, Some(0)),
        "{said}"
    );
    let (said, _) = place.ask("check policies/policy.yaml");
    assert!(!said.contains(NO_TESTS), "{said}");
}

#[test]
fn a_table_that_cannot_be_read_is_no_table_that_is_fresh() {
    let place = Place::new(READ);
    fs::write(place.0.path().join("policies/access.expected"), b"\xff\xfe").expect("written");
    let (said, code) = place.ask("check policies");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("this table cannot be read"), "{said}");
}

#[test]
fn what_is_no_name_is_not_repeated() {
    let place =
        Place::new(&READ.replace("backend: b", "backend: 'https://x.example/?sig=planted'"));
    for format in ["human", "json", "sarif"] {
        let (said, code) = place.ask(&format!("check policies --format {format}"));
        assert_eq!(code, Some(1));
        assert!(said.contains("this is no name of a backend"), "{said}");
        assert!(!said.contains("planted"), "{said}");
    }
}

#[test]
fn faults_as_sarif_have_what_code_hosts_read() {
    let place = Place::new(&READ.replace("[contoso]", "[contos]"));
    let (said, code) = place.ask("check policies --format sarif");
    assert_eq!(code, Some(1));
    let told: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(told["version"], "2.1.0");
    let run = &told["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().expect("rules");
    let result = &run["results"][0];
    assert!(rules.iter().any(|rule| rule["id"] == result["ruleId"]));
    assert_eq!(result["level"], "error");
    assert!(result["message"]["text"].is_string());
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "policies/policy.yaml");
    let (line, column) = (
        &place["region"]["startLine"],
        &place["region"]["startColumn"],
    );
    assert!(
        line.as_u64() >= Some(1) && column.as_u64() >= Some(1),
        "{place}"
    );
}

#[test]
fn slips_are_told_with_what_to_write_instead() {
    let when = |text: &str| {
        rule(&format!(
            "allow: [{{ tenants: [contoso], apps: [portal], when: \"{text}\" }}]"
        ))
    };
    for (policy, expected) in [
        (when("token.roles == 'R'"), "`'Guests.Read' in token.roles`"),
        (when("request.time.hour > 3"), "`request.time.getHours()`"),
        (
            when("request.time > '2027-01-01'"),
            "write `timestamp('2027-01-01T00:00:00Z')`",
        ),
        (
            when("token.exp > request.time"),
            "`int(request.time)` is in seconds",
        ),
        (
            when("request.query == ''"),
            "it has `method`, `host`, `path`, `time`, `headers`",
        ),
        (
            READ.replace("apps: [portal, batch]", "apps: ['*']"),
            "leave the key out where any will do",
        ),
        (
            READ.replace("portal, batch", "aaaaaaaa-0000-0000-0000-000000000001"),
            "rules say names",
        ),
        (
            READ.replace("'/guests/{id}'", "/guests/{id}"),
            "`\"/guests/{id}\"`",
        ),
        (
            READ.replace("/guests/{id}", "/guests/{id:int}"),
            "`id:int` is no name of a parameter",
        ),
    ] {
        let (said, code) = Place::new(&policy).ask("check policies");
        assert_eq!(code, Some(1), "{policy}");
        assert!(said.contains(expected), "{said}");
    }
    let place = Place::new(READ);
    for word in ["None", "managedIdentity"] {
        place.write(
            "policies/policy.yaml",
            &format!(
                "{}{READ}",
                NAMES.replace("credential: none", &format!("credential: {word}"))
            ),
        );
        let (said, _) = place.ask("check policies");
        assert!(
            said.contains("this credential lacks what belongs to it"),
            "{said}"
        );
        assert!(!said.contains("withdraw"), "{said}");
    }
}

#[test]
fn a_link_among_the_policies_leads_nobody_to_a_secret() {
    let place = Place::new(READ);
    let root = place.0.path();
    place.write("secret", "planted-key\nplanted-more\n");
    std::os::unix::fs::symlink(root.join("secret"), root.join("policies/access.expected"))
        .expect("a link");
    let (said, code) = place.ask("check policies");
    assert_eq!(code, Some(1));
    assert!(
        said.contains("it is no plain file") && !said.contains("planted"),
        "{said}"
    );
    fs::remove_file(root.join("policies/access.expected")).expect("gone");
    std::os::unix::fs::symlink(root.join("secret"), root.join("policies/k.yaml")).expect("a link");
    for line in ["check policies", "fmt --check policies", "who-can --all"] {
        let output = place.run(line);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains("planted"), "{line}\n{said}");
    }
}

#[test]
fn a_key_that_a_condition_compares_is_not_shown() {
    for text in [
        "request.headers['x-functions-key'] == 'planted'",
        "request.headers['Ocp-Apim-Subscription-Key'] == 'planted'",
    ] {
        let place = Place::new(&rule(&format!(
            "allow: [{{ tenants: [contoso], apps: [portal], when: \"{text}\" }}]"
        )));
        let (said, code) = place.ask("check policies");
        assert_eq!(code, Some(1));
        assert!(
            said.contains("holds credentials") && !said.contains("planted"),
            "{said}"
        );
    }
}

#[test]
fn a_ca_of_gateway_yaml_that_cannot_be_used_is_told_by_check() {
    let place = Place::new(READ);
    place.write("empty.crt", "");
    for (section, ca, why) in [
        ("entra", "none.crt", "No such file"),
        ("keyVault", "none.crt", "No such file"),
        ("keyVault", "empty.crt", "holds no CA certificate"),
    ] {
        let text = format!(
            "listen: {{ address: 127.0.0.1:0, tls: platform }}\npolicies: policies\n{section}: {{ ca: {ca} }}\n"
        );
        place.write("gateway.yaml", &text);
        let (said, code) = place.ask("check gateway.yaml");
        let told = said.contains("this CA file cannot be used") && said.contains(why);
        assert!(told, "{section} {ca}: {said}");
        assert_eq!(code, Some(1), "{section}");
    }
}
