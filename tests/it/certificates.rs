//! The gateway's own certificates: which of them is shown to whom, where they come from, and how they change while
//! callers are served.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use portcullis::clock::Clock as _;
use portcullis::demo::ca::Certificate;
use portcullis::demo::vault::Vault;

use crate::support::handshake::{Caller, der, shake};
use crate::support::{Scene, Stage, Stopping, simple};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Puts a chain and its key into a folder, and says so as gateway.yaml does.
fn keep(folder: &Path, name: &str, certificate: &Certificate) -> String {
    let path = |end: &str| folder.join(format!("{name}.{end}")).display().to_string();
    fs::write(path("crt"), &certificate.cert_pem).expect("written");
    fs::write(path("key"), &certificate.key_pem).expect("written");
    format!("cert: '{}', key: '{}'", path("crt"), path("key"))
}

/// Runs OpenSSL in a folder.
fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .expect("openssl");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {said}");
}

fn shown(stage: &Stage, caller: &Caller) -> Vec<u8> {
    caller.shake(stage.address).expect("a handshake").leaf()
}

/// The line of a check in `/readyz?verbose`.
fn check(stage: &Stage, name: &str) -> String {
    let answer = stage.admin("/readyz?verbose");
    let line = answer.lines().find(|line| line.contains(name));
    line.unwrap_or_else(|| panic!("no {name} in {answer}"))
        .to_owned()
}

#[test]
fn a_whole_name_goes_before_a_wildcard_and_who_asks_for_nothing_known_gets_the_first() {
    let (_raw, scene) = simple();
    let folder = tempfile::tempdir().expect("a folder");
    let make = |names: &[&str]| scene.world.ca.certificate(names).expect("made");
    let (wildcard, exact) = (make(&["*.example.org"]), make(&["api.example.org"]));
    let pairs = [
        keep(folder.path(), "wildcard", &wildcard),
        keep(folder.path(), "exact", &exact),
    ];
    let pairs = pairs.map(|pair| format!("{{ {pair} }}")).join(", ");
    let stage = scene.certificate(&pairs).start();
    let (wildcard, exact) = (der(&wildcard.cert_pem), der(&exact.cert_pem));
    let first = shown(&stage, &Caller::new(&stage, "localhost"));
    for (name, leaf) in [
        ("api.example.org", &exact),
        ("API.Example.ORG", &exact),
        ("www.example.org", &wildcard),
    ] {
        let caller = Caller::new(&stage, name);
        assert_eq!(shown(&stage, &caller), *leaf, "{name}");
    }
    let nameless = Caller::new(&stage, "localhost").without_name();
    assert_eq!(shown(&stage, &nameless), first);
    // A wildcard stands for one label, and strangers get what they will not believe.
    for name in ["a.b.example.org", "example.org", "elsewhere.example"] {
        let refused = Caller::new(&stage, name).shake(stage.address);
        let why = refused.err().expect(name);
        assert!(why.contains("not valid for name"), "{name}: {why}");
    }
}

#[test]
fn rsa_and_ecdsa_serve_one_name_by_what_the_caller_can_verify() {
    let (_raw, scene) = simple();
    let folder = tempfile::tempdir().expect("a folder");
    let ca = &scene.world.ca;
    let rsa = ca.rsa_certificate(&["both.example"]).expect("made");
    let ecdsa = ca.certificate(&["both.example"]).expect("made");
    let pairs = [
        keep(folder.path(), "rsa", &rsa),
        keep(folder.path(), "ecdsa", &ecdsa),
    ];
    let pairs = pairs.map(|pair| format!("{{ {pair} }}")).join(", ");
    let stage = scene.certificate(&pairs).start();
    let (rsa, ecdsa) = (der(&rsa.cert_pem), der(&ecdsa.cert_pem));
    let both = Caller::new(&stage, "both.example");
    for version in rustls::ALL_VERSIONS {
        let caller = both.clone().version(version);
        assert_eq!(shown(&stage, &caller), ecdsa, "{version:?}: both");
        // The CA signs by ECDSA, so that is verified of it in either case: what differs is who signs the handshake.
        let caller = both.clone().version(version).signed_by("RSA");
        assert_eq!(shown(&stage, &caller), rsa, "{version:?}: RSA");
        let caller = both.clone().version(version).signed_by("ECDSA");
        assert_eq!(shown(&stage, &caller), ecdsa, "{version:?}: ECDSA");
    }
}

#[test]
fn keys_with_a_passphrase_and_pfx_files_are_read_as_openssl_writes_them() {
    let (_raw, scene) = simple();
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let name = |name: &str| at.join(name).display().to_string();
    fs::write(at.join("word"), "open sesame\n").expect("written");
    scene.world.vault.set("pfx-word", "of-the-vault");
    let ca = &scene.world.ca;
    fs::write(at.join("ca.crt"), ca.pem()).expect("written");
    let mut expected = Vec::new();
    for host in [
        "pem.example",
        "rsa.example",
        "file.example",
        "vault.example",
        "bare.example",
    ] {
        let made = match host {
            "rsa.example" => ca.rsa_certificate(&[host]),
            _ => ca.certificate(&[host]),
        };
        let made = made.expect("made");
        keep(at, host, &made);
        expected.push((host, der(&made.cert_pem)));
    }
    for host in ["pem.example", "rsa.example"] {
        openssl(
            at,
            &format!(
                "pkcs8 -topk8 -v2 aes-256-cbc -in {host}.key -out {host}.enc -passout file:word"
            ),
        );
    }
    openssl(
        at,
        "pkcs12 -export -inkey file.example.key -in file.example.crt -certfile ca.crt -out file.pfx -passout file:word",
    );
    openssl(
        at,
        "pkcs12 -export -inkey vault.example.key -in vault.example.crt -out vault.pfx -passout pass:of-the-vault",
    );
    openssl(
        at,
        "pkcs12 -export -inkey bare.example.key -in bare.example.crt -out bare.pfx -passout pass:",
    );
    let vault = scene.world.vault.url();
    let word = name("word");
    let sources = [
        format!(
            "cert: '{}', key: '{}', passphrase: {{ file: '{word}' }}",
            name("pem.example.crt"),
            name("pem.example.enc")
        ),
        format!(
            "cert: '{}', key: '{}', passphrase: {{ file: '{word}' }}",
            name("rsa.example.crt"),
            name("rsa.example.enc")
        ),
        format!(
            "pfx: '{}', passphrase: {{ file: '{word}' }}",
            name("file.pfx")
        ),
        format!(
            "pfx: '{}', passphrase: {{ keyVault: '{vault}/secrets/pfx-word' }}",
            name("vault.pfx")
        ),
        format!("pfx: '{}'", name("bare.pfx")),
    ];
    let sources = sources.map(|source| format!("{{ {source} }}")).join(", ");
    let mut scene = scene.certificate(&sources);
    scene.more += "keyVault: { ca: ca.crt }\n";
    let stage = scene.start();
    for (host, leaf) in expected {
        stage.until(host, |stage| {
            Caller::new(stage, host).shake(stage.address).is_ok()
        });
        assert_eq!(shown(&stage, &Caller::new(&stage, host)), leaf, "{host}");
    }
}

#[test]
fn what_cannot_be_read_is_told_with_its_reason_and_without_what_is_secret() {
    let scene = Scene::new();
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let name = |name: &str| at.join(name).display().to_string();
    let made = scene.world.ca.certificate(&["a.example"]).expect("made");
    keep(at, "a", &made);
    let other = scene.world.ca.certificate(&["a.example"]).expect("made");
    keep(at, "b", &other);
    fs::write(at.join("word"), "open-sesame").expect("written");
    fs::write(at.join("wrong"), "planted-passphrase").expect("written");
    fs::write(at.join("empty.crt"), "").expect("written");
    openssl(
        at,
        "pkcs8 -topk8 -v2 aes-256-cbc -in a.key -out a.enc -passout file:word",
    );
    openssl(
        at,
        "pkcs12 -export -inkey a.key -in a.crt -out a.pfx -passout file:word",
    );
    openssl(
        at,
        "pkcs8 -topk8 -v2 aes-256-cbc -iter 3000000 -in a.key -out slow.enc -passout file:word",
    );
    let made = Command::new("mkfifo").arg(at.join("pipe")).status();
    assert!(made.expect("mkfifo").success());
    openssl(at, "ec -in a.key -out old.key -aes128 -passout file:word");
    let (crt, wrong) = (name("a.crt"), name("wrong"));
    for (source, place, says) in [
        (
            format!("cert: '{crt}', key: '{}'", name("a.enc")),
            "a.enc",
            "it is encrypted, and no `passphrase`",
        ),
        (
            format!(
                "cert: '{crt}', key: '{}', passphrase: {{ file: '{wrong}' }}",
                name("a.enc")
            ),
            "a.enc",
            "its passphrase is another",
        ),
        (
            format!(
                "cert: '{crt}', key: '{}', passphrase: {{ file: '{wrong}' }}",
                name("old.key")
            ),
            "old.key",
            "openssl pkcs8 -topk8",
        ),
        (
            format!(
                "cert: '{crt}', key: '{}', passphrase: {{ env: NOT_SET_HERE }}",
                name("a.enc")
            ),
            "NOT_SET_HERE",
            "is not set",
        ),
        (
            format!("pfx: '{}'", name("a.pfx")),
            "a.pfx",
            "or it has a passphrase",
        ),
        (
            format!(
                "pfx: '{}', passphrase: {{ file: '{wrong}' }}",
                name("a.pfx")
            ),
            "a.pfx",
            "its passphrase is another",
        ),
        (format!("pfx: '{crt}'"), "a.crt", "this is no PFX"),
        (
            format!(
                "cert: '{crt}', key: '{}', passphrase: {{ file: '{}' }}",
                name("slow.enc"),
                name("word")
            ),
            "slow.enc",
            "more rounds than the 2000000",
        ),
        (
            format!("cert: '{}', key: '{}'", name("pipe"), name("a.key")),
            "pipe",
            "cannot be read",
        ),
        (
            format!("cert: '{crt}', key: '{}'", name("b.key")),
            "b.key",
            "does not belong to the certificate",
        ),
        (
            format!("cert: '{}', key: '{}'", name("empty.crt"), name("a.key")),
            "empty.crt",
            "is empty",
        ),
        (
            format!("cert: '{}', key: '{}'", name("a.key"), name("a.key")),
            "a.key",
            "the file holds none",
        ),
        (
            format!("cert: '{crt}', key: '{crt}'"),
            "a.crt",
            "no such PEM section",
        ),
        (
            format!(
                "cert: '{crt}', key: '{}', pfx: '{}'",
                name("a.key"),
                name("a.pfx")
            ),
            "pfx",
            "one place only",
        ),
        (
            "keyVault: 'https://contoso.vault.azure.net/keys/a'".to_owned(),
            "keys/a",
            "not the identifier",
        ),
        (
            "keyVault: 'https://contoso.vault.azure.net/certificates/a', passphrase: { env: A }"
                .to_owned(),
            "passphrase",
            "has no passphrase",
        ),
    ] {
        let text = format!(
            "listen:\n  address: 127.0.0.1:0\n  tls: {{ certificates: [{{ {source} }}] }}\npolicies: policy.yaml\n"
        );
        let config = at.join("gateway.yaml");
        fs::write(&config, text).expect("written");
        fs::write(at.join("policy.yaml"), scene.policy()).expect("written");
        let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .arg("check")
            .arg(&config)
            .env("NO_COLOR", "1")
            .output()
            .expect("the command");
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{source}: {said}");
        assert!(
            said.contains(says) && said.contains(place),
            "{source}: {said}"
        );
        assert!(!said.contains("planted"), "{said}");
    }
}

#[test]
fn a_certificate_of_key_vault_is_read_in_either_form_and_renewed_by_polling() {
    let (_raw, scene) = simple();
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let ca = &scene.world.ca;
    let make = || ca.certificate(&["vault.example"]).expect("made");
    let (first, second) = (make(), make());
    keep(at, "second", &second);
    openssl(
        at,
        "pkcs12 -export -inkey second.key -in second.crt -out second.pfx -passout pass:",
    );
    let pfx = {
        use base64::Engine as _;
        let bytes = fs::read(at.join("second.pfx")).expect("read");
        base64::engine::general_purpose::STANDARD.encode(bytes)
    };
    // Key Vault puts the key in front.
    let pem = format!("{}{}", first.key_pem, first.cert_pem);
    let vault = scene.world.vault.url();
    scene
        .world
        .vault
        .set_with_type("Gateway", &pem, "application/x-pem-file");
    let mut scene = scene.certificate(&format!("{{ keyVault: '{vault}/certificates/Gateway' }}"));
    scene.more += "keyVault: { ca: ca.crt, refreshEvery: 1h }\n";
    let stage = scene.start();
    let caller = Caller::new(&stage, "vault.example");
    assert_eq!(shown(&stage, &caller), der(&first.cert_pem));

    stage
        .world
        .vault
        .set_with_type("Gateway", &pfx, "application/x-pkcs12");
    stage.clock.advance(Duration::from_secs(3601));
    let second = der(&second.cert_pem);
    stage.until("the renewed certificate", |stage| {
        shown(stage, &caller) == second
    });

    // What cannot be used is told, and the last good one goes on.
    stage.world.vault.set("Gateway", "planted: no certificate");
    stage.clock.advance(Duration::from_secs(3601));
    stage.until("the fault", |stage| {
        let answer = stage.admin("/readyz?verbose");
        let line = answer.lines().find(|line| line.contains("/gateway "));
        line.is_some_and(|line| line.contains("[!]") && line.contains("no PFX"))
    });
    assert_eq!(shown(&stage, &caller), second);
    let said = stage.admin("/readyz?verbose") + &stage.log.lines().join("\n");
    assert!(!said.contains("planted"), "{said}");
}

#[test]
fn without_any_certificate_yet_the_gateway_is_not_ready() {
    let (_raw, scene) = simple();
    let vault = scene.world.vault.url();
    let mut scene = scene.only_certificate(&format!("{{ keyVault: '{vault}/certificates/late' }}"));
    scene.more += "keyVault: { ca: ca.crt }\n";
    let made = scene.world.ca.certificate(&["localhost"]).expect("made");
    let stage = scene.start_unready();
    let answer = stage.admin("/readyz?verbose");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("[-] certificates failed"), "{answer}");
    let pem = format!("{}{}", made.key_pem, made.cert_pem);
    stage.world.vault.set("late", &pem);
    stage.until("the certificate", |stage| {
        stage.clock.advance(Duration::from_secs(60));
        stage.ready()
    });
    assert_eq!(stage.call("GET", "/a").portal().send().verdict(), "200");
}

#[test]
fn the_end_of_a_certificate_is_a_metric_and_warned_of_in_time() {
    let (_raw, scene) = simple();
    let folder = tempfile::tempdir().expect("a folder");
    let now = scene.clock.now().unix;
    let ends = now + 100 * DAY;
    let made = scene
        .world
        .ca
        .certificate_until(&["a.example"], ends)
        .expect("made");
    let pair = keep(folder.path(), "a", &made);
    let stage = scene.certificate(&format!("{{ {pair} }}")).start();
    let metric = format!("a.crt\"}} {}\n", ends.as_secs());
    let metrics = stage.admin("/metrics");
    assert!(
        metrics.contains("portcullis_certificate_not_after_seconds{certificate=")
            && metrics.contains(&metric),
        "{metrics}"
    );
    let mut passed = 0;
    for (days, says) in [
        (85, "ok"),
        (87, "it expires in 311 hours"),
        (102, "it expired 48 hours ago"),
    ] {
        stage.clock.advance((days - passed) * DAY);
        passed = days;
        let line = check(&stage, "a.crt");
        assert!(line.contains(says), "{days}: {line}");
    }
    assert_eq!(
        stage.admin("/readyz").lines().next(),
        Some("HTTP/1.1 200 OK"),
        "it is shown all the same"
    );
}

#[test]
fn one_that_has_expired_is_shown_only_where_there_is_no_other() {
    for other in ["a.b.example", "*.b.example"] {
        shown_by_turns(other);
    }
}

fn shown_by_turns(other: &str) {
    let (_raw, scene) = simple();
    let folder = tempfile::tempdir().expect("a folder");
    let now = scene.clock.now().unix;
    let ca = &scene.world.ca;
    let until = |name: &str, days: u32| {
        ca.certificate_until(&[name], now + days * DAY)
            .expect("made")
    };
    let (short, long) = (until("a.b.example", 20), until(other, 40));
    let pairs = [
        keep(folder.path(), "short", &short),
        keep(folder.path(), "long", &long),
    ];
    let pairs = pairs.map(|pair| format!("{{ {pair} }}")).join(", ");
    let stage = scene.certificate(&pairs).start();
    // The machine's clock, by which the caller looks, stands still meanwhile.
    let caller = Caller::new(&stage, "a.b.example");
    for (days, expected) in [(0, &short), (21, &long), (20, &short)] {
        stage.clock.advance(days * DAY);
        let leaf = der(&expected.cert_pem);
        stage.until("the right one", |stage| {
            stage.admin("/readyz?verbose");
            shown(stage, &caller) == leaf
        });
    }
}

#[test]
fn a_certificate_is_renewed_while_other_changes_of_its_listener_wait_for_a_restart() {
    renewed_beside(|text| {
        let asking = "listen:\n  clientCertificates: { mode: require, ca: ca.crt }\n";
        text.replacen("listen:\n", asking, 1)
    });
    renewed_beside(|text| {
        let ordering = text.replacen(
            "certificates: [",
            "certificates: [{ acme: [b.example] }, ",
            1,
        );
        ordering
            + "acme: { directory: 'https://ca.example/', termsOfServiceAgreed: true, folder: acme }\n"
    });
}

/// A certificate is renewed although gateway.yaml is edited in this way meanwhile.
fn renewed_beside(edit: impl Fn(&str) -> String) {
    let (_raw, scene) = simple();
    let folder = tempfile::tempdir().expect("a folder");
    let ca = &scene.world.ca;
    let make = || ca.certificate(&["a.example"]).expect("made");
    let (first, second) = (make(), make());
    let pair = keep(folder.path(), "a", &first);
    let stage = scene.certificate(&format!("{{ {pair} }}")).start();
    let caller = Caller::new(&stage, "a.example");
    assert_eq!(shown(&stage, &caller), der(&first.cert_pem));
    let config = stage.folder.path().join("gateway.yaml");
    let text = fs::read_to_string(&config).expect("read");
    let edited = edit(&text);
    assert_ne!(edited, text);
    fs::write(&config, edited).expect("written");
    keep(folder.path(), "a", &second);
    stage.gateway().reload();
    stage.until_taken(1);
    // Nobody is asked for a certificate before the restart.
    assert_eq!(shown(&stage, &caller), der(&second.cert_pem));
    let token = format!("Authorization: Bearer {}\r\n", stage.portal_token());
    let shaken = caller.shake(stage.address).expect("a handshake");
    shaken.get("/a", &token).expect("an answer");
}

/// As ConfigMaps and Secrets are mounted: what is named is a link by way of `..data`, which is put in place at once.
fn swap(folder: &Path, number: usize, certificate: &Certificate) {
    let data = folder.join(format!("..{number}"));
    fs::create_dir(&data).expect("a folder");
    fs::write(data.join("tls.crt"), &certificate.cert_pem).expect("written");
    fs::write(data.join("tls.key"), &certificate.key_pem).expect("written");
    let link = folder.join("..next");
    symlink(&data, &link).expect("a link");
    fs::rename(&link, folder.join("..data")).expect("swapped");
}

/// Does something while callers shake hands and ask, of whom none may fail, nor one who was connected before. How many
/// were served.
fn under_load(stage: &Stage, name: &str, act: impl FnOnce()) -> u64 {
    let caller = Caller::new(stage, name);
    let held = caller.shake(stage.address).expect("a handshake");
    let (config, address) = (caller.config(), stage.address);
    let token = format!("Authorization: Bearer {}\r\n", stage.portal_token());
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let load = || {
            while !stop.load(Ordering::Relaxed) {
                let shaken = shake(&config, name, address).expect("a handshake");
                let answer = shaken.get("/a", &token).expect("an answer");
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        let callers = [scope.spawn(load), scope.spawn(load), scope.spawn(load)];
        let stopping = Stopping(&stop);
        act();
        drop(stopping);
        for caller in callers {
            caller.join().expect("no handshake failed");
        }
    });
    let answer = held.get("/a", &token).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    done.into_inner()
}

#[test]
fn pfx_files_and_certificates_of_key_vault_are_rotated_under_load_without_one_failed_handshake() {
    const ROTATIONS: usize = 4;
    let (_raw, scene) = simple();
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let make = |name: &str| scene.world.ca.certificate(&[name]).expect("made");
    let made: Vec<_> = (0..=ROTATIONS)
        .map(|_| (make("pfx.example"), make("vault.example")))
        .collect();
    let bundle = |certificate: &Certificate| {
        keep(at, "made", certificate);
        openssl(
            at,
            "pkcs12 -export -inkey made.key -in made.crt -out made.pfx -passout pass:",
        );
        fs::rename(at.join("made.pfx"), at.join("site.pfx")).expect("renamed");
    };
    let put = |scene: &Vault, certificate: &Certificate| {
        scene.set(
            "rotated",
            &format!("{}{}", certificate.key_pem, certificate.cert_pem),
        );
    };
    bundle(&made[0].0);
    put(&scene.world.vault, &made[0].1);
    let sources = format!(
        "{{ pfx: '{}' }}, {{ keyVault: '{}/certificates/rotated' }}",
        at.join("site.pfx").display(),
        scene.world.vault.url()
    );
    let mut scene = scene.certificate(&sources);
    scene.more += "keyVault: { ca: ca.crt, refreshEvery: 1m }\n";
    let stage = scene.workers(2).start();
    let shows = |stage: &Stage, name: &str, certificate: &Certificate| {
        let leaf = caller_sees(stage, name);
        leaf.is_some_and(|leaf| leaf == der(&certificate.cert_pem))
    };
    stage.until("both", |stage| shows(stage, "vault.example", &made[0].1));
    for (name, of) in [("pfx.example", 0), ("vault.example", 1)] {
        let served = under_load(&stage, name, || {
            for pair in made.iter().skip(1) {
                let certificate = if of == 0 { &pair.0 } else { &pair.1 };
                match of {
                    0 => bundle(certificate),
                    _ => put(&stage.world.vault, certificate),
                }
                stage.until(name, |stage| {
                    stage.clock.advance(Duration::from_secs(1));
                    shows(stage, name, certificate)
                });
            }
        });
        assert!(served > ROTATIONS as u64);
    }
}

/// The certificate that is shown to who asks for a name, if it is good for that.
fn caller_sees(stage: &Stage, name: &str) -> Option<Vec<u8>> {
    let shaken = Caller::new(stage, name).shake(stage.address).ok()?;
    Some(shaken.leaf())
}

#[test]
fn certificates_are_rotated_under_load_without_one_failed_handshake() {
    const ROTATIONS: usize = 12;
    let (_raw, scene) = simple();
    let folder = tempfile::tempdir().expect("a folder");
    let make = || {
        scene
            .world
            .ca
            .certificate(&["rotated.example"])
            .expect("made")
    };
    let certificates: Vec<Certificate> = (0..=ROTATIONS).map(|_| make()).collect();
    swap(folder.path(), 0, &certificates[0]);
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), folder.path().join(name)).expect("a link");
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let pair = format!(
        "{{ cert: '{}', key: '{}' }}",
        path("tls.crt"),
        path("tls.key")
    );
    let stage = scene.certificate(&pair).workers(2).start();
    let served = under_load(&stage, "rotated.example", || {
        for (number, certificate) in certificates.iter().enumerate().skip(1) {
            swap(folder.path(), number, certificate);
            let leaf = der(&certificate.cert_pem);
            // By the look at the files alone: nobody asks for it.
            stage.until("the next certificate", |stage| {
                stage.clock.advance(Duration::from_secs(1));
                shown(stage, &Caller::new(stage, "rotated.example")) == leaf
            });
        }
    });
    assert!(served > ROTATIONS as u64);
    assert_eq!(stage.gateway().reloads().borrow().refused, 0);
}
