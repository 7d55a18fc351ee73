//! Who is let in: by a bearer, by a client certificate, on loopback and elsewhere.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::{Asker, SECRET, Told, client, file, scene, started};

const CHALLENGE: Option<&str> = Some("Bearer realm=\"portcullis-admin\"");

const GUARDED: [&str; 9] = [
    "/readyz?verbose",
    "/metrics",
    "/policies",
    "/keys",
    "/credentials",
    "/backends",
    "/limits",
    "/access",
    "/openapi.json",
];

const PAIR: &str = "certificates: [{ cert: gateway.crt, key: gateway.key }]";

fn refused(told: &Told, status: u16, what: &str) {
    assert_eq!(told.status, status, "{what}: {told:?}");
    let challenge = CHALLENGE.filter(|_| status == 401);
    assert_eq!(told.field("www-authenticate"), challenge, "{what}");
    assert!(!told.error().is_empty(), "{what}");
}

#[test]
fn whoever_brings_the_bearer_is_told_and_others_hear_of_health_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let bearer = file(folder.path(), "bearer", &format!("{SECRET}\n"));
    let (_raw, stage) = started(&format!(
        "{{ address: '127.0.0.1:0', bearer: {{ file: '{bearer}' }} }}"
    ));
    let (right, wrong, nothing) = (
        Asker::new(&stage).bearer(SECRET),
        Asker::new(&stage).bearer(&SECRET[1..]),
        Asker::new(&stage),
    );
    for path in GUARDED {
        assert_eq!(right.get(path).status, 200, "{path}");
        refused(&wrong.get(path), 401, path);
        refused(&nothing.get(path), 401, path);
    }
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(nothing.get(path).status, 200, "{path}");
        assert_eq!(wrong.get(path).status, 200, "{path}");
    }
    // A name is no danger where a browser has nothing to bring.
    let by_name = Asker::new(&stage).bearer(SECRET).host("gateway.internal");
    assert_eq!(by_name.get("/keys").status, 200);
    refused(&right.get("/profile"), 403, "without admin.profile");
    refused(&nothing.get("/nowhere"), 401, "what there is, is not told");
    refused(&right.get("/nowhere"), 404, "/nowhere");
}

#[test]
fn another_bearer_counts_once_its_file_has_changed_even_if_a_policy_is_at_fault() {
    const NEXT: &str = "planted-another-planted-another-planted";
    let folder = tempfile::tempdir().expect("a folder");
    let bearer = file(folder.path(), "bearer", SECRET);
    let (_raw, stage) = started(&format!(
        "{{ address: '127.0.0.1:0', bearer: {{ file: '{bearer}' }} }}"
    ));
    let (before, after) = (
        Asker::new(&stage).bearer(SECRET),
        Asker::new(&stage).bearer(NEXT),
    );
    let refusals = || stage.gateway().reloads().borrow().refused;
    let statuses = || (before.get("/keys").status, after.get("/keys").status);
    assert_eq!(statuses(), (200, 401));

    fs::write(&bearer, "planted-short").expect("written");
    stage.gateway().reload();
    stage.until("the refusal", |_| refusals() == 1);
    assert_eq!(statuses(), (200, 401), "the last good one stays");

    fs::write(&bearer, NEXT).expect("written");
    fs::write(stage.folder.path().join("policy.yaml"), "faulty: yes").expect("written");
    stage.gateway().reload();
    stage.until("another refusal", |_| refusals() == 2);
    assert_eq!(statuses(), (401, 200));
}

#[test]
fn the_files_of_the_admin_address_are_looked_at_by_themselves() {
    const NEXT: &str = "planted-another-planted-another-planted";
    let folder = tempfile::tempdir().expect("a folder");
    let bearer = file(folder.path(), "bearer", SECRET);
    let (ca, certificate) = client();
    let (_, stranger) = client();
    let client_ca = file(folder.path(), "clients.crt", "");
    fs::write(&client_ca, stranger.cert_pem).expect("written");
    let (_raw, stage) = started(&format!(
        "{{ address: '127.0.0.1:0', bearer: {{ file: '{bearer}' }}, tls: {{ {PAIR}, clientCa: '{client_ca}' }} }}"
    ));
    let becomes = |what: &str, asker: &Asker<'_>| {
        stage.until(what, |stage| {
            stage.clock.advance(Duration::from_secs(1));
            let told = asker.ask("GET", "/keys");
            told.is_some_and(|told| told.status == 200)
        });
    };
    fs::write(&bearer, NEXT).expect("written");
    becomes("the bearer", &Asker::new(&stage).tls(None).bearer(NEXT));
    fs::write(&client_ca, ca.pem()).expect("written");
    becomes("the CA", &Asker::new(&stage).tls(Some(&certificate)));
}

#[test]
fn a_client_certificate_takes_the_bearers_place_over_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let bearer = file(folder.path(), "bearer", SECRET);
    let (ca, certificate) = client();
    let (_, stranger) = client();
    let client_ca = file(folder.path(), "clients.crt", ca.pem());
    let (_raw, stage) = started(&format!(
        "{{ address: '0.0.0.0:0', bearer: {{ file: '{bearer}' }}, tls: {{ {PAIR}, clientCa: '{client_ca}' }} }}"
    ));
    let asker = || Asker::new(&stage);
    assert!(asker().ask("GET", "/livez").is_none(), "no plain HTTP");
    assert_eq!(asker().tls(Some(&certificate)).get("/keys").status, 200);
    let by_bearer = asker().tls(None).bearer(SECRET);
    assert_eq!(by_bearer.get("/keys").status, 200);
    refused(&asker().tls(None).get("/keys"), 401, "neither");
    assert_eq!(asker().tls(None).get("/livez").status, 200);
    assert_eq!(asker().tls(None).get("/readyz").status, 200);
    let by_stranger = asker().tls(Some(&stranger)).bearer(SECRET);
    assert!(by_stranger.ask("GET", "/livez").is_none(), "not by that CA");

    // Another CA counts as soon as it stands there.
    let (next, follower) = client();
    fs::write(&client_ca, next.pem()).expect("written");
    stage.reload();
    assert_eq!(asker().tls(Some(&follower)).get("/keys").status, 200);
    let former = asker().tls(Some(&certificate));
    assert!(former.ask("GET", "/keys").is_none(), "believed no more");
}

#[test]
fn on_loopback_nothing_has_to_be_brought_but_for_what_acts() {
    let (_raw, stage) = started("{ address: '127.0.0.1:0', profile: true }");
    let asker = Asker::new(&stage);
    for path in GUARDED {
        assert_eq!(asker.get(path).status, 200, "{path}");
    }
    let profile = asker.get("/profile");
    refused(&profile, 403, "/profile");
    assert!(profile.error().contains("admin.bearer"), "{profile:?}");
}

#[test]
fn without_a_credential_no_name_leads_there() {
    let (_raw, stage) = started("{ address: '127.0.0.1:0' }");
    for (host, status) in [
        ("127.0.0.1", 200),
        ("127.0.0.1:9901", 200),
        ("[::1]:9901", 200),
        ("localhost", 200),
        ("evil.example", 421),
        ("evil.example:9901", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ] {
        let asker = Asker::new(&stage).host(host);
        assert_eq!(asker.get("/keys").status, status, "{host}");
        assert_eq!(asker.get("/livez").status, 200, "{host}");
    }
}

#[test]
fn off_loopback_only_health_is_told_without_tls_and_a_credential() {
    let folder = tempfile::tempdir().expect("a folder");
    let bearer = file(folder.path(), "bearer", SECRET);
    for (more, is_tls) in [
        (String::new(), false),
        (format!(", bearer: {{ file: '{bearer}' }}"), false),
        (format!(", tls: {{ {PAIR} }}"), true),
    ] {
        let (_raw, stage) = started(&format!("{{ address: '0.0.0.0:0'{more} }}"));
        let asker = Asker::new(&stage).bearer(SECRET);
        let asker = if is_tls { asker.tls(None) } else { asker };
        for path in ["/livez", "/readyz", "/healthz"] {
            assert_eq!(asker.get(path).status, 200, "{more} {path}");
        }
        for path in GUARDED.into_iter().chain(["/profile", "/nowhere"]) {
            let told = asker.get(path);
            refused(&told, 403, path);
            assert!(told.error().contains("write `admin.tls`"), "{told:?}");
        }
    }
}

#[test]
fn head_is_answered_without_a_body_and_other_methods_are_refused() {
    let (_raw, stage) = started("{ address: '127.0.0.1:0' }");
    let asker = Asker::new(&stage);
    for path in ["/livez", "/keys", "/openapi.json"] {
        let (get, head) = (asker.get(path), asker.ask("HEAD", path).expect("an answer"));
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(head.field("content-type"), get.field("content-type"));
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let told = asker.ask(method, path).expect("an answer");
            refused(&told, 405, method);
            assert_eq!(told.field("allow"), Some("GET, HEAD"), "{method} {path}");
        }
    }
    let told = asker.get("/nowhere");
    refused(&told, 404, "/nowhere");
    let sentence = told.error();
    assert!(sentence.contains("/livez, /readyz, /healthz"), "{sentence}");
    assert!(sentence.ends_with(" and /console.js"), "{sentence}");
}

/// What `check` says of a gateway with this `admin`.
fn checked(admin: &str) -> String {
    let (_raw, scene) = scene(admin);
    let folder = tempfile::tempdir().expect("a folder");
    let config = scene.write(folder.path());
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("check")
        .arg(config)
        .output();
    String::from_utf8(output.expect("it runs").stdout).expect("text")
}

#[test]
fn check_says_what_is_wrong_with_the_admin_address_and_what_to_write() {
    let unprotected =
        "anybody may reach this address, so it tells no more than `/livez` and `/readyz`";
    for (admin, said) in [
        (
            "{ address: '0.0.0.0:9901' }",
            &[unprotected, "write `admin.tls` and `admin.bearer`"][..],
        ),
        (
            "{ address: '0.0.0.0:9901', bearer: { env: X } }",
            &[unprotected],
        ),
        (
            "{ address: '127.0.0.1:9901', profile: true }",
            &["`profile` is for who brings a credential"],
        ),
        (
            "{ address: '127.0.0.1:9901', bearer: Pl4nted }",
            &["a secret must not stand in this file"],
        ),
        (
            "{ address: '127.0.0.1:9901', bearers: { env: X } }",
            &["unknown key"],
        ),
        (
            "{ address: '127.0.0.1:9901', tls: { clientCa: gateway.crt } }",
            &["the key `certificates` is missing here", "name the files"],
        ),
        (
            "{ address: '127.0.0.1:9901', tls: { certificates: [{ cert: ca.crt, key: gone.key }], clientCa: gateway.key } }",
            &["this key cannot be used", "this CA file cannot be used"],
        ),
    ] {
        let told = checked(admin);
        for said in said {
            assert!(told.contains(said), "{admin}: {told}");
        }
        assert!(!told.contains("Pl4nted"), "{told}");
    }
    for admin in [
        "{ address: '127.0.0.1:9901' }".to_owned(),
        format!("{{ address: '0.0.0.0:9901', bearer: {{ env: X }}, tls: {{ {PAIR} }} }}"),
        format!(
            "{{ address: '0.0.0.0:9901', tls: {{ {PAIR}, clientCa: ca.crt }}, profile: true }}"
        ),
    ] {
        let told = checked(&admin);
        assert!(
            !told.contains("admin") && !told.contains("address"),
            "{admin}: {told}"
        );
    }
}

#[test]
fn a_bearer_that_could_be_guessed_keeps_the_gateway_from_starting() {
    let folder = tempfile::tempdir().expect("a folder");
    let bearer = file(folder.path(), "bearer", "planted-short");
    let (_raw, scene) = scene(&format!(
        "{{ address: '127.0.0.1:0', bearer: {{ file: '{bearer}' }} }}"
    ));
    let config = scene.write(folder.path());
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["run", "--config"])
        .arg(config)
        .output()
        .expect("it runs");
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("it has fewer than 32 characters"), "{told}");
    assert!(!told.contains("planted"), "{told}");
}

#[test]
fn the_lines_of_the_readme_do_what_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let bearer = file(folder.path(), "bearer", SECRET);
    let (_raw, stage) = started(&format!(
        "{{ address: '0.0.0.0:0', bearer: {{ file: '{bearer}' }}, tls: {{ {PAIR} }} }}"
    ));
    let address = stage.gateway().admin_address().expect("an admin address");
    let readme = include_str!("../../../README.md");
    let block = readme.split("```sh admin\n").nth(1).expect("a block");
    let lines: Vec<&str> = block
        .split("```")
        .next()
        .expect("its end")
        .lines()
        .collect();
    assert_eq!(lines.len(), 3);
    for (line, said) in lines.into_iter().zip(["\"issuers\"", "\"inForce\"", "ok"]) {
        let output = Command::new("sh")
            .args(["-c", line])
            .env("ADMIN", format!("https://localhost:{}", address.port()))
            .env("TOKEN", &bearer)
            .env("CA", stage.folder.path().join("ca.crt"))
            .output()
            .expect("it runs");
        let told = String::from_utf8(output.stdout).expect("text");
        assert!(told.contains(said), "{line}: {told}");
    }
}

#[test]
fn who_holds_connections_and_asks_nothing_keeps_no_probe_out() {
    let (_raw, stage) = started("{ address: '127.0.0.1:0' }");
    let admin = stage.gateway().admin_address().expect("an admin address");
    let held: Vec<std::net::TcpStream> = (0..200)
        .map(|_| std::net::TcpStream::connect(admin).expect("connected"))
        .collect();
    let asker = Asker::new(&stage);
    for _ in 0..20 {
        assert_eq!(asker.get("/livez").status, 200);
    }
    drop(held);
}
