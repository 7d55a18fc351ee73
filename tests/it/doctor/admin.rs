//! The admin address and what protects it, as the doctor finds them.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use bytes::Bytes;
use http_body_util::Full;
use portcullis::clock::Clock as _;
use portcullis::demo::serve::serve;
use portcullis::doctor::{Area, Finding, Outcome, Report};

use super::{DAY, assert_complains, assert_only, complaints, examined, examined_after, of, whole};
use crate::support::Scene;

const BEARER: &str = "planted-bearer-0123456789-abcdef";
const PROTECTED: &str = "{ address: '127.0.0.1:0', bearer: { file: bearer }, tls: { certificates: [{ cert: gateway.crt, key: gateway.key }], clientCa: ca.crt } }";

/// What is found where the address is protected so, after something was done to the files.
fn protected_after(change: impl FnOnce(&Scene, &Path)) -> Report {
    let mut scene = whole();
    scene.admin = PROTECTED.to_owned();
    examined_after(&scene, false, |folder| {
        fs::write(folder.join("bearer"), BEARER).expect("written");
        change(&scene, folder);
    })
}

#[test]
fn what_protects_the_address_is_read_as_the_gateway_reads_it() {
    let report = protected_after(|_, _| ());
    assert_eq!(complaints(&report), Vec::<&Finding>::new());
    let found = of(&report, Area::Admin);
    let told = |about: &str| {
        let one = found.iter().find(|one| one.name.starts_with(about));
        one.unwrap_or_else(|| panic!("{about} {found:#?}"))
            .found
            .as_str()
    };
    assert_eq!(found.len(), 4, "{found:#?}");
    assert_eq!(told("admin.address 127.0.0.1:0"), "can be listened on");
    assert!(told("admin.tls ").starts_with("for localhost, 127.0.0.1; good for"));
    assert_eq!(
        told("admin.tls.clientCa"),
        "can be read, and holds certificates"
    );
    assert_eq!(told("admin.bearer"), "can be read, and is long enough");
}

#[test]
fn a_bearer_that_cannot_protect_is_told() {
    for (text, diagnosis) in [
        (Some(&BEARER[1..]), "it has fewer than 32 characters"),
        (Some(""), "bearer is empty"),
        (None, "bearer cannot be read"),
    ] {
        let report = protected_after(|_, folder| {
            let path = folder.join("bearer");
            match text {
                Some(text) => fs::write(path, text).expect("written"),
                None => fs::remove_file(path).expect("removed"),
            }
        });
        let says = ["the diagnostics say why", "openssl rand"];
        assert_complains(&report, Area::Admin, Outcome::Bad, "admin.bearer", &says);
        assert_only(&report, &[Area::Admin, Area::Files]);
        assert_eq!(report.diagnostics.errors(), 1, "told once");
        let text = report.diagnostics.render();
        assert!(text.contains(diagnosis), "{text}");
    }
}

#[test]
fn a_bearer_in_key_vault_is_judged_once_it_is_read() {
    let mut scene = whole();
    let url = scene.world.vault.url();
    scene.admin =
        format!("{{ address: '127.0.0.1:0', bearer: {{ keyVault: '{url}/secrets/bearer' }} }}");
    scene.world.vault.set("bearer", BEARER);
    assert_eq!(complaints(&examined(&scene)), Vec::<&Finding>::new());
    scene.world.vault.set("bearer", &BEARER[1..]);
    let report = examined(&scene);
    let says = ["it has fewer than 32 characters", "openssl rand"];
    assert_complains(&report, Area::Admin, Outcome::Bad, "admin.bearer", &says);
    assert_only(&report, &[Area::Admin]);
    scene.world.vault.delete("bearer");
    let report = examined(&scene);
    let says = ["was not read", "Key Vault first"];
    assert_complains(&report, Area::Admin, Outcome::Bad, "admin.bearer", &says);
    assert_only(&report, &[Area::Admin, Area::KeyVault]);
}

#[test]
fn certificates_and_cas_that_cannot_be_used_are_told() {
    let report = protected_after(|_, folder| {
        fs::write(folder.join("ca.crt.new"), "no PEM").expect("written");
        let path = folder.join("gateway.yaml");
        let text = fs::read_to_string(&path).expect("text");
        let changed = text.replace("clientCa: ca.crt", "clientCa: ca.crt.new");
        assert_ne!(text, changed);
        fs::write(path, changed).expect("written");
    });
    let says = ["the diagnostics say why", "certificates of those CAs"];
    assert_complains(
        &report,
        Area::Admin,
        Outcome::Bad,
        "admin.tls.clientCa",
        &says,
    );
    assert_only(&report, &[Area::Admin, Area::Files]);
    assert_eq!(report.diagnostics.errors(), 1, "told once");

    let report = protected_after(|scene, folder| {
        let other = scene.world.ca.certificate(&["localhost"]).expect("made");
        fs::write(folder.join("gateway.key"), other.key_pem).expect("written");
    });
    let says = ["the diagnostics say why", "the key that belongs to it"];
    assert_complains(&report, Area::Admin, Outcome::Bad, "gateway.crt", &says);
    // The listener has the same files.
    assert_only(&report, &[Area::Admin, Area::Files, Area::Certificates]);

    let report = protected_after(|scene, folder| {
        let end = scene.clock.now().unix - 3 * DAY;
        let old = scene
            .world
            .ca
            .certificate_until(&["a.example"], end)
            .expect("made");
        fs::write(folder.join("gateway.crt"), old.cert_pem).expect("written");
        fs::write(folder.join("gateway.key"), old.key_pem).expect("written");
    });
    let says = ["for a.example; it expired 3 days ago", "renew it"];
    assert_complains(&report, Area::Admin, Outcome::Bad, "gateway.crt", &says);
}

/// What is found of an address.
fn address(admin: &str) -> Report {
    let mut scene = whole();
    scene.admin = admin.to_owned();
    examined(&scene)
}

#[test]
fn an_address_that_is_taken_is_told_unless_it_is_by_a_gateway() {
    let stage = Scene::new()
        .function("guest-api")
        .portal_route("guests", "GET", "/guests/{id}", "guest-api")
        .start();
    let here = stage.gateway().admin_address().expect("an admin address");
    let report = address(&format!("{{ address: '{here}' }}"));
    assert_eq!(complaints(&report), Vec::<&Finding>::new());
    let found = of(&report, Area::Admin);
    assert_eq!(found[0].found, "a gateway answers there already");
    // It is asked on loopback for what listens everywhere.
    let report = address(&format!("{{ address: '0.0.0.0:{}' }}", here.port()));
    let found = of(&report, Area::Admin);
    assert_eq!(found[0].found, "a gateway answers there already");

    let scene = Scene::new();
    let answer = |_| async { Some(http::Response::new(Full::new(Bytes::from("hello")))) };
    let other = scene.runtime.block_on(serve(None, answer)).expect("served");
    let report = address(&format!("{{ address: '{}' }}", other.address));
    let says = ["who is no gateway", "another port"];
    assert_complains(&report, Area::Admin, Outcome::Bad, "admin.address", &says);
    assert_only(&report, &[Area::Admin]);

    let held = TcpListener::bind("127.0.0.1:0").expect("bound");
    let held = held
        .local_addr()
        .map(|address| (address, held))
        .expect("an address");
    let mut scene = whole();
    scene.admin = PROTECTED.replace("127.0.0.1:0", &held.0.to_string());
    let report = examined_after(&scene, false, |folder| {
        fs::write(folder.join("bearer"), BEARER).expect("written");
    });
    let says = ["over TLS is not asked", "all is well if it is this one"];
    assert_complains(
        &report,
        Area::Admin,
        Outcome::Warning,
        "admin.address",
        &says,
    );
    assert_only(&report, &[Area::Admin]);
}

#[test]
fn an_address_of_another_machine_cannot_be_listened_on() {
    // Kept for documentation (RFC 5737), so nobody has it.
    let report = address("{ address: '192.0.2.1:9901' }");
    let says = ["cannot be listened on", "that this machine has"];
    assert_complains(&report, Area::Admin, Outcome::Bad, "admin.address", &says);
}
