//! Who gains and who loses, as `diff` tells.

use std::fs;

use serde_json::{Value, json};

use super::{NAMES, PORTCULLIS, Place, READ, command, rule};

#[test]
fn diff_compares_what_git_keeps_with_what_lies_there() {
    let place = Place::new(READ);
    place.commit();
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
        told["access"][0]["gained"][0]["callers"]["words"]["tenants"],
        "fabrikam"
    );
    assert_eq!(told["access"][0]["lost"], json!([]));
    assert_eq!(
        told["access"][0]["gained"][0]["example"]["claims"]["idtyp"],
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

#[test]
fn diff_names_the_requests_that_change_and_no_more() {
    let place = Place::new(READ);
    place.write("old/policy.yaml", &format!("{NAMES}{READ}"));
    let special = "  special: { match: { methods: [PUT], path: /guests/special }, backend: b, allow: [{ tenants: [contoso] }] }\n";
    place.write("policies/policy.yaml", &format!("{NAMES}{READ}{special}"));
    let (said, _) = place.ask("diff old policies");
    assert!(
        said.contains("\nGET /guests/special (route read takes them no more)\n  lost by\n"),
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
        said.starts_with("GET /guests/*/* (route read takes them no more)\n  lost by\n"),
        "{said}"
    );
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
fn diff_shows_each_kind_of_caller_with_a_request_of_theirs() {
    let place = Place::new(READ);
    let route = |more: &str| {
        let narrow = "{ tenants: [contoso], apps: [portal, batch], tokenKinds: [appOnly] }";
        let allow = READ.replace(narrow, &format!("{narrow}{more}"));
        format!("{NAMES}{allow}")
    };
    let more = ", { tenants: [fabrikam], apps: [batch], roles: [A] }, { tenants: [contoso], apps: [portal], scopes: [S], from: [203.0.113.0/24] }";
    place.write("new/policy.yaml", &route(more));
    let (said, _) = place.ask("diff policies new");
    let (_, examples) = said
        .split_once("    for example, row by row\n")
        .expect("examples");
    let examples: Vec<&str> = examples.lines().collect();
    let [contoso, fabrikam] = examples.as_slice() else {
        panic!("{said}")
    };
    assert!(contoso.contains("from 203.0.113.0, token ") && contoso.contains("scp=S"));
    assert!(fabrikam.contains("from 192.0.2.1, token ") && fabrikam.contains("roles=[A]"));
    let (said, _) = place.ask("diff policies new --format json");
    let told: Value = serde_json::from_str(&said).expect("JSON");
    let gained = told["access"][0]["gained"].as_array().expect("a list");
    let asked = gained
        .iter()
        .map(|one| &one["callers"]["tenants"]["only"][0]["name"]);
    assert_eq!(asked.collect::<Vec<_>>(), ["contoso", "fabrikam"]);
    let sent = gained.iter().map(|one| &one["example"]["claims"]["tid"]);
    assert_eq!(
        sent.collect::<Vec<_>>(),
        [
            "11111111-1111-1111-1111-111111111111",
            "22222222-2222-2222-2222-222222222222"
        ]
    );
}

#[test]
fn diff_tells_apart_what_both_sides_call_by_one_name() {
    let place = Place::new(READ);
    let names = NAMES
        .replace("contoso: 1", "contoso: 3")
        .replace("portal: a", "portal: b");
    place.write("new/policy.yaml", &format!("{names}{READ}"));
    let (said, _) = place.ask("diff policies new");
    for id in [
        "contoso (11111111-1111-1111-1111-111111111111)",
        "contoso (31111111-1111-1111-1111-111111111111)",
        "portal (aaaaaaaa-0000-0000-0000-000000000001)",
        "portal (baaaaaaa-0000-0000-0000-000000000001)",
    ] {
        assert!(said.contains(id), "{id}\n{said}");
    }
    assert!(!said.contains("batch ("), "{said}");
}

#[test]
fn diff_answers_where_many_deny_rules_stay_as_they_are() {
    let place = Place::new(READ);
    let route = |apps: &str| {
        let deny = (0..40).map(|n| format!("{{ roles: {{ allOf: [A{n}, B{n}] }} }}"));
        let deny = deny.collect::<Vec<_>>().join(", ");
        let allow = format!("{{ tenants: [contoso], apps: [{apps}], tokenKinds: [appOnly] }}");
        format!(
            "{NAMES}{}",
            rule(&format!("allow: [{allow}], deny: [{deny}]"))
        )
    };
    place.write("policies/policy.yaml", &route("portal"));
    place.write(
        "new/policy.yaml",
        &route("portal").replace("other:", "another:"),
    );
    assert_eq!(
        place.ask("diff policies new"),
        ("Nobody gains or loses access.\n".to_owned(), Some(0))
    );
    // Whom all these rules leave would be too much to read.
    let output = place.run("who-can POST /other --policies policies");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("overlap in too many ways"), "{said}");
}

/// A policy in which one route takes what another leaves, or nobody does.
fn with_routes(routes: &[(&str, &str)]) -> String {
    let route = |(number, (path, app)): (usize, &(&str, &str))| {
        format!(
            "  r{number}: {{ match: {{ methods: [GET], path: '{path}' }}, backend: b, allow: [{{ tenants: [contoso], apps: [{app}], tokenKinds: [appOnly] }}] }}\n"
        )
    };
    let routes: String = routes.iter().enumerate().map(route).collect();
    format!("{NAMES}{routes}")
}

#[test]
fn diff_finds_gains_in_every_corner_between_patterns() {
    let place = Place::new(READ);
    let portal = "portal";
    let batch = "batch";
    for (old, new, expected) in [
        // A word that no pattern writes must not fit `a{code}`.
        (
            &[("/guests/{id}", portal), ("/guests/a{code}", portal)][..],
            &[("/guests/{id}", batch), ("/guests/a{code}", portal)][..],
            "GET /guests/{id}",
        ),
        // What two open patterns share may be longer than either is written.
        (
            &[
                ("/a/{x}/{*rest}", portal),
                ("/a/b/{z}", portal),
                ("/{y}/b/{*rest}", batch),
            ],
            &[("/a/b/{z}", portal), ("/{y}/b/{*rest}", batch)],
            "GET /a/b/*/*",
        ),
        // A path was refused because of its letter case alone.
        (
            &[("/files/Report-{id}", batch), ("/files/{x}", batch)],
            &[("/files/{x}", batch)],
            "GET /files/report-*",
        ),
        // One pattern stands aside although it fits the beginning.
        (
            &[("/{id}/{part}", portal), ("/{name}.pdf/meta", batch)],
            &[("/{id}/{part}", batch), ("/{name}.pdf/meta", batch)],
            "GET /{id}/{part}",
        ),
    ] {
        place.write("old/policy.yaml", &with_routes(old));
        place.write("policies/policy.yaml", &with_routes(new));
        let (said, code) = place.ask("diff old policies --fail-on gained");
        assert_eq!(code, Some(1), "{said}");
        let gained = format!("{expected} (");
        let told = said
            .split("\n\n")
            .find(|change| change.starts_with(&gained));
        assert!(
            told.is_some_and(|change| change.contains("  gained by\n")),
            "{said}"
        );
    }
}

#[test]
fn what_could_be_a_path_and_a_revision_is_neither() {
    let place = Place::new(READ);
    place.commit();
    let wider = READ.replace("[contoso]", "[contoso, fabrikam]");
    place.write("policies/policy.yaml", &format!("{NAMES}{wider}"));
    assert_eq!(place.ask("diff main policies --fail-on gained").1, Some(1));
    // Who adds a folder of the name of the branch decides nothing.
    place.write("main/policy.yaml", &format!("{NAMES}{wider}"));
    let output = place.run("diff main policies --fail-on gained");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("write `./main` for the one"), "{said}");
    assert_eq!(
        place.ask("diff ./main policies --fail-on gained").1,
        Some(0)
    );
    assert_eq!(
        place
            .ask("diff refs/heads/main policies --fail-on gained")
            .1,
        Some(1)
    );
}

#[test]
fn diff_takes_a_file_as_its_policy_names_it() {
    let place = Place::new(READ);
    let keyed = NAMES.replace(
        "credential: none",
        "credential: { functionKey: { file: ../keys/b } }",
    );
    for folder in ["policies", "copy"] {
        place.write(&format!("{folder}/policy.yaml"), &format!("{keyed}{READ}"));
    }
    assert_eq!(
        place.ask("diff policies copy"),
        ("Nobody gains or loses access.\n".to_owned(), Some(0))
    );
}

#[test]
fn markdown_holds_nothing_that_is_more_than_text() {
    let place = Place::new(READ);
    let odd = "allow: [{ tenants: [contoso], apps: [portal], roles: ['<b>@all|`*'], when: \"request.headers['x-a'] == '```'\" }]";
    place.write("new/policy.yaml", &format!("{NAMES}{}", rule(odd)));
    let (said, _) = place.ask("diff policies new --format markdown");
    assert!(said.contains("role &lt;b&gt;&#64;all\\|\\`\\* |"), "{said}");
    assert!(said.contains("\nFor example ```` POST "), "{said}");
}

#[test]
fn a_repository_among_the_files_of_a_change_is_not_asked() {
    let place = Place::new(READ);
    place.commit();
    let wider = READ.replace("[contoso]", "[contoso, fabrikam]");
    place.write("policies/policy.yaml", &format!("{NAMES}{wider}"));
    // A bare repository, as ordinary files: in it, main is already what the change makes of it.
    let evil = Place::new(&wider);
    evil.commit();
    let root = place.0.path();
    for name in ["HEAD", "config", "objects", "refs"] {
        let from = evil.0.path().join(".git").join(name);
        let to = root.join("policies");
        let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
        assert!(command(root, "cp", &["-r", &from, &to]).status.success());
    }
    place.write(
        "policies/config",
        "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
    );
    let output = place.run("diff main policies --fail-on gained");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("git cannot be asked"), "{said}");
}

#[test]
fn a_tag_of_the_name_of_a_branch_is_not_taken_for_it() {
    let place = Place::new(READ);
    place.commit();
    let root = place.0.path();
    assert!(command(root, "git", &["tag", "main"]).status.success());
    let output = place.run("diff main policies");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("`main` is `refs/tags/main` and `refs/heads/main`"),
        "{said}"
    );
    assert_eq!(place.ask("diff refs/heads/main policies").1, Some(0));
}
