//! `portcullis doctor`: what it finds in the demo's world, whole and with one thing broken at a time.

mod admin;
mod listeners;
mod telemetry;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::Full;
use portcullis::clock::Clock as _;
use portcullis::demo::backend::TRIGGER;
use portcullis::demo::ca::Ca;
use portcullis::demo::entra::{App, Fault};
use portcullis::demo::identity::IDENTITY_HEADER;
use portcullis::demo::names::{CONTOSO, FUNCTION_RESOURCE, LOGIC_APP_RESOURCE};
use portcullis::demo::serve::serve;
use portcullis::doctor::{Area, Finding, Outcome, Report, examine};
use portcullis::entra::Version;
use portcullis::net::address::{Found, Resolver, resolve};
use portcullis::running::Options;

use crate::resilience::silent;
use crate::support::redis::Redis;
use crate::support::{LogBuffer, RawBackend, Scene, Step};

const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");
const DAY: Duration = Duration::from_hours(24);
const HOUR: Duration = Duration::from_hours(1);
const APP: &str = "aaaaaaaa-0000-0000-0000-000000000077";

/// A Function by token, a Logic App by token, a backend by a key out of Key Vault, and keys of its own.
fn whole() -> Scene {
    let mut scene = Scene::new();
    scene
        .world
        .vault
        .set("guest-api-key", "planted-vault-value");
    scene.world.vault.set("sealing", &"planted-seal-".repeat(4));
    let logic_app = scene.world.logic_app.url();
    let keyed = scene.world.keyed_function.url();
    let vault = scene.world.vault.url();
    scene.more = format!(
        "keyVault: {{ ca: ca.crt }}\nseal: {{ keys: [{{ keyVault: '{vault}/secrets/sealing' }}] }}\ntelemetry: {{ fingerprintKey: {{ file: fingerprint.key }} }}\nstate: {{ folder: state }}\n"
    );
    scene
        .function("guest-api")
        .backend(
            "invite-flow",
            &format!("logicApp: '{logic_app}{TRIGGER}', credential: {{ managedIdentity: {{ resource: '{LOGIC_APP_RESOURCE}' }} }}, ca: ca.crt"),
        )
        .backend(
            "legacy",
            &format!("function: '{keyed}', credential: {{ functionKey: {{ keyVault: '{vault}/secrets/guest-api-key' }} }}, ca: ca.crt"),
        )
        .portal_route("guests", "GET, POST", "/guests/{id}", "guest-api")
        .portal_route("invite", "POST", "/invitations", "invite-flow")
        .portal_route("legacy", "GET", "/legacy/{id}", "legacy")
}

/// Examines a scene's gateway, after something was done to its files. No planted secret may be told.
fn examined_after(scene: &Scene, probing: bool, change: impl FnOnce(&Path)) -> Report {
    let folder = tempfile::tempdir().expect("a folder");
    let config = scene.write(folder.path());
    let key = "planted-fingerprint-key-0123456789abcdef";
    fs::write(folder.path().join("fingerprint.key"), key).expect("written");
    change(folder.path());
    let options = Options {
        clock: Arc::new(scene.clock.clone()),
        imds: Some(scene.world.identity.imds()),
        resolver: Arc::clone(&scene.resolver),
        log: Box::new(LogBuffer::default()),
    };
    let report = examine(&config, &options, probing);
    let told = report.to_json().to_string() + &report.diagnostics.render();
    assert_silent(scene, &told);
    report
}

fn assert_silent(scene: &Scene, told: &str) {
    assert!(!told.contains("planted-"), "{told}");
    for (what, secret) in scene.world.secrets() {
        assert!(!told.contains(&secret), "{what} is told: {told}");
    }
}

fn examined(scene: &Scene) -> Report {
    examined_after(scene, false, |_| ())
}

fn probed(scene: &Scene) -> Report {
    examined_after(scene, true, |_| ())
}

/// What did not pass.
fn complaints(report: &Report) -> Vec<&Finding> {
    let findings = report.findings.iter();
    findings
        .filter(|finding| finding.outcome != Outcome::Good)
        .collect()
}

/// The only findings of an area that are not good, which are of this outcome and say this.
fn assert_complains(report: &Report, area: Area, outcome: Outcome, about: &str, says: &[&str]) {
    let complaints = complaints(report);
    let found = complaints
        .iter()
        .find(|finding| finding.area == area && finding.name.contains(about));
    let finding = found.unwrap_or_else(|| panic!("{area:?} {about}: {:#?}", report.findings));
    assert_eq!(finding.outcome, outcome, "{finding:?}");
    let text = format!(
        "{} {}",
        finding.found,
        finding.advice.as_deref().expect("advice")
    );
    for part in says {
        assert!(text.contains(part), "{part:?} is missing in {finding:#?}");
    }
}

/// Every complaint is of these areas.
fn assert_only(report: &Report, areas: &[Area]) {
    let complaints = complaints(report);
    let strays = complaints.iter().filter(|one| !areas.contains(&one.area));
    assert_eq!(strays.collect::<Vec<_>>(), Vec::<&&Finding>::new());
}

fn of(report: &Report, area: Area) -> Vec<&Finding> {
    let findings = report.findings.iter();
    findings.filter(|finding| finding.area == area).collect()
}

#[test]
fn where_all_is_well_every_check_passes_and_says_what_it_found() {
    let scene = whole();
    let report = examined(&scene);
    assert_eq!(complaints(&report), Vec::<&Finding>::new());
    assert!(report.diagnostics.is_empty());
    for (area, count, says) in [
        (Area::Files, 2, "3 routes and 3 backends"),
        (Area::Platform, 1, "IMDS"),
        // The Function's, the Logic App's and the vault's.
        (Area::Identities, 3, "lives another 23 h 59 min"),
        (Area::KeyVault, 2, "read with the system-assigned identity"),
        (Area::SigningKeys, 4, "1 key"),
        (Area::Clock, 1, "the authority's clock"),
        (Area::Certificates, 1, "for localhost, 127.0.0.1; good for"),
        (Area::Backends, 3, "its certificate verifies"),
        (Area::OwnKeys, 2, "can be read"),
        (Area::Limits, 0, ""),
        (Area::Telemetry, 0, ""),
        (Area::Admin, 1, "can be listened on"),
        (Area::Probes, 0, ""),
    ] {
        let found = of(&report, area);
        assert_eq!(found.len(), count, "{area:?} {found:#?}");
        let says_so = |finding: &&&Finding| finding.found.contains(says);
        assert!(
            count == 0 || found.iter().any(|one| says_so(&one)),
            "{found:#?}"
        );
    }
    let names = |area| -> Vec<_> {
        of(&report, area)
            .iter()
            .map(|one| one.name.clone())
            .collect()
    };
    let tokens = names(Area::Identities);
    let expected = format!("the system-assigned identity for {FUNCTION_RESOURCE} (for guest-api)");
    assert!(tokens.contains(&expected), "{tokens:?}");
    // One token reads both secrets.
    let vault = "the system-assigned identity for https://vault.azure.net (for legacy, seal.keys)";
    assert!(tokens.contains(&vault.to_owned()), "{tokens:?}");
}

#[test]
fn an_identity_that_is_not_there_is_told_apart_from_an_endpoint_that_is_down() {
    for (status, advice) in [
        (400, "switch on the system-assigned identity"),
        (500, "run the doctor again in a minute"),
    ] {
        let scene = whole();
        scene.world.identity.set_fault(Some(status));
        let report = examined(&scene);
        let says = [&format!("answered {status}"), advice];
        assert_complains(
            &report,
            Area::Identities,
            Outcome::Bad,
            FUNCTION_RESOURCE,
            &says,
        );
        // What needs its token fails with it.
        let says = ["has no token for Key Vault"];
        assert_complains(
            &report,
            Area::KeyVault,
            Outcome::Bad,
            "guest-api-key",
            &says,
        );
        assert_only(&report, &[Area::Identities, Area::KeyVault, Area::OwnKeys]);
    }
}

#[test]
fn a_secret_that_is_disabled_is_named_with_who_wants_it() {
    let scene = whole();
    scene.world.vault.disable("guest-api-key", true);
    let report = examined(&scene);
    let says = ["SecretDisabled", "enable guest-api-key again"];
    let about = "/secrets/guest-api-key (for legacy)";
    assert_complains(&report, Area::KeyVault, Outcome::Bad, about, &says);
    assert_only(&report, &[Area::KeyVault]);
}

#[test]
fn a_secret_that_is_not_there_is_told_as_that() {
    let scene = whole();
    scene.world.vault.delete("guest-api-key");
    let report = examined(&scene);
    let says = [
        "SecretNotFound",
        "there is no secret guest-api-key in https://localhost:",
    ];
    let about = "/secrets/guest-api-key (for legacy)";
    assert_complains(&report, Area::KeyVault, Outcome::Bad, about, &says);
}

#[test]
fn a_vault_that_lets_the_identity_not_in_is_told_apart_from_one_that_fails() {
    for (status, advice) in [
        (403, "the role Key Vault Secrets User on https://localhost:"),
        (404, "let this network through the vault's firewall"),
        (503, "privatelink.vaultcore.azure.net"),
    ] {
        let scene = whole();
        scene.world.vault.set_fault(Some(status));
        let report = examined(&scene);
        let says = [&format!("answered {status}"), advice];
        let about = "/secrets/guest-api-key (for legacy)";
        assert_complains(&report, Area::KeyVault, Outcome::Bad, about, &says);
    }
}

#[test]
fn a_folder_for_keys_that_cannot_be_written_is_told_and_nothing_is_left_in_one_that_can() {
    let scene = whole();
    let report = examined_after(&scene, false, |folder| {
        // A file stands where the folder should.
        fs::write(folder.join("state"), "").expect("written");
    });
    let says = ["cannot be written", "the user that the gateway runs as"];
    assert_complains(&report, Area::Files, Outcome::Bad, "state.folder", &says);

    let folder = tempfile::tempdir().expect("a folder");
    let config = scene.write(folder.path());
    fs::create_dir(folder.path().join("state")).expect("made");
    let output = command(&scene, &config, &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("state: can be written"), "{text}");
    let mut left = fs::read_dir(folder.path().join("state")).expect("a folder");
    assert!(left.next().is_none(), "keys or a probe were left");
}

#[test]
fn a_secret_that_cannot_be_what_it_is_used_as_is_told() {
    let scene = whole();
    scene.world.vault.set("guest-api-key", "planted\nlines");
    let report = examined(&scene);
    let says = ["cannot be the value of a header field", "bare key"];
    assert_complains(
        &report,
        Area::KeyVault,
        Outcome::Bad,
        "guest-api-key",
        &says,
    );
    scene
        .world
        .vault
        .set("guest-api-key", "planted-vault-value");
    scene.world.vault.set("sealing", "planted-short");
    let report = examined(&scene);
    let says = ["key 1 has fewer than 32 characters", "openssl rand"];
    assert_complains(&report, Area::OwnKeys, Outcome::Bad, "seal.keys", &says);
    assert_only(&report, &[Area::OwnKeys]);

    let vault = scene.world.vault.url();
    scene
        .world
        .vault
        .set("link", "https://a.example/planted-nothing");
    let sas = format!(
        "logicApp: '{}{TRIGGER}', credential: {{ sas: {{ keyVault: '{vault}/secrets/link' }} }}, ca: ca.crt",
        scene.world.logic_app.url()
    );
    let scene = scene.backend("linked", &sas);
    let report = examined(&scene);
    let says = ["without a signature", "whole callback URL"];
    assert_complains(
        &report,
        Area::KeyVault,
        Outcome::Bad,
        "/secrets/link",
        &says,
    );
}

#[test]
fn a_pinned_version_is_warned_of() {
    let scene = Scene::new();
    let version = scene.world.vault.set("key", "planted-vault-value");
    let url = format!("{}/secrets/key/{version}", scene.world.vault.url());
    let backend = format!(
        "function: '{}', credential: {{ functionKey: {{ keyVault: '{url}' }} }}, ca: ca.crt",
        scene.world.keyed_function.url()
    );
    let mut scene = scene
        .backend("b", &backend)
        .portal_route("r", "GET", "/a", "b");
    scene.more = "keyVault: { ca: ca.crt }\n".to_owned();
    let report = examined(&scene);
    let says = ["the version is pinned", "leave the version out"];
    assert_complains(&report, Area::KeyVault, Outcome::Warning, &version, &says);
    // And there are no keys of the gateway's own.
    for key in ["seal.keys", "telemetry.fingerprintKey"] {
        assert_complains(
            &report,
            Area::OwnKeys,
            Outcome::Warning,
            key,
            &["Key Vault"],
        );
    }
    assert_eq!(report.count(Outcome::Bad), 0);
}

#[test]
fn keys_of_one_issuer_that_cannot_be_fetched_leave_the_others() {
    let scene = whole();
    for (fault, says) in [
        (Fault::Refuse, "broke off"),
        (Fault::Status(404), "404"),
        (Fault::Empty, "no usable key"),
    ] {
        scene
            .world
            .entra
            .set_fault(CONTOSO, Version::V2, Some(fault));
        let report = examined(&scene);
        let says = [says, "entra.authority", "port 443"];
        assert_complains(
            &report,
            Area::SigningKeys,
            Outcome::Bad,
            "contoso v2",
            &says,
        );
        let bad = of(&report, Area::SigningKeys);
        let bad = bad.iter().filter(|one| one.outcome == Outcome::Bad);
        assert_eq!(bad.count(), 1, "{fault:?}");
    }
}

#[test]
fn an_authority_that_cannot_be_reached_fails_every_key_and_hides_the_clock() {
    let mut scene = whole();
    let closed = closed_port(&scene);
    let here = scene.world.entra.authority();
    let report = examined_after(&scene, false, |folder| {
        let path = folder.join("gateway.yaml");
        let text = fs::read_to_string(&path).expect("text");
        fs::write(
            path,
            text.replace(&here, &format!("https://localhost:{closed}")),
        )
        .expect("written");
    });
    for issuer in ["contoso v1", "contoso v2", "fabrikam v1", "fabrikam v2"] {
        assert_complains(
            &report,
            Area::SigningKeys,
            Outcome::Bad,
            issuer,
            &["cannot be reached"],
        );
    }
    assert_complains(
        &report,
        Area::Clock,
        Outcome::Warning,
        "clock",
        &["could not be compared"],
    );
    assert_only(&report, &[Area::SigningKeys, Area::Clock]);

    // Nobody fetches keys of a version that does not count.
    scene.entra = "  tokenVersions: [v2]".to_owned();
    assert_eq!(of(&examined(&scene), Area::SigningKeys).len(), 2);
}

#[test]
fn a_clock_that_is_off_fails() {
    let scene = whole();
    // The world has gone on since the clock stood still.
    scene.clock.advance(2 * HOUR + Duration::from_secs(30));
    let report = examined(&scene);
    let says = ["2 h ahead of", "NTP"];
    assert_complains(&report, Area::Clock, Outcome::Bad, "clock", &says);
    assert_only(&report, &[Area::Clock]);
}

/// A port where nobody listens.
fn closed_port(scene: &Scene) -> u16 {
    let listener = scene
        .runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.expect("bound");
    listener.local_addr().expect("an address").port()
}

/// Resolves one name as told, all else as the machine does.
struct Named(&'static str, IpAddr);

impl Resolver for Named {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, std::io::Result<Found>> {
        if host != self.0 {
            return Box::pin(resolve(host, port));
        }
        let found = Found {
            addresses: vec![SocketAddr::new(self.1, port)],
            holds: None,
        };
        Box::pin(async { Ok(found) })
    }
}

#[test]
fn a_way_that_is_not_open_is_told_by_where_it_ends() {
    let mut scene = whole();
    let port = closed_port(&scene);
    let other = Ca::new().expect("a CA");
    let tls = other.server_config(&[b"http/1.1"]).expect("TLS");
    let answer = |_| async { Some(http::Response::new(Full::new(Bytes::new()))) };
    let untrusted = scene
        .runtime
        .block_on(serve(Some(tls), answer))
        .expect("served");
    scene.resolver = Arc::new(Named("inner.test", "169.254.169.254".parse().expect("IP")));
    let bare = |url: &str| format!("http: '{url}', credential: none, ca: ca.crt");
    let scene = scene
        .backend("gone", &bare(&format!("https://localhost:{port}")))
        .backend(
            "gone-too",
            &bare(&format!("https://localhost:{port}/elsewhere")),
        )
        .backend(
            "other",
            &bare(&format!("https://localhost:{}", untrusted.address.port())),
        )
        .backend("inner", &bare("https://inner.test"))
        .backend("lost", &bare("https://nowhere.invalid"));
    let report = examined(&scene);
    for (about, says) in [
        // Two backends, one place.
        (
            "(for gone, gone-too)",
            ["backend-connection-refused", "listens there"],
        ),
        ("(for other)", ["backend-tls", "`ca`"]),
        ("(for inner)", ["169.254.169.254", "hand out credentials"]),
        ("(for lost)", ["backend-dns", "spelt right"]),
    ] {
        assert_complains(&report, Area::Backends, Outcome::Bad, about, &says);
    }
    assert_eq!(
        complaints(&report).len(),
        4 + warnings(&report),
        "{report:#?}",
        report = report.findings
    );
}

/// Warnings of the files: backends that no route leads to.
fn warnings(report: &Report) -> usize {
    let files = of(report, Area::Files);
    files
        .iter()
        .filter(|one| one.outcome == Outcome::Warning)
        .count()
}

#[test]
fn certificates_are_judged_by_how_long_they_last() {
    let scene = whole();
    let now = scene.clock.now().unix;
    for (end, outcome, says) in [
        (
            now + 31 * DAY + HOUR,
            Outcome::Good,
            "good for another 31 days",
        ),
        (
            now + 29 * DAY + HOUR,
            Outcome::Warning,
            "good for another 29 days",
        ),
        (now - 3 * DAY, Outcome::Bad, "expired 3 days ago"),
    ] {
        let pair = scene
            .world
            .ca
            .certificate_until(&["a.example"], end)
            .expect("made");
        let report = examined_after(&scene, false, |folder| {
            fs::write(folder.join("gateway.crt"), &pair.cert_pem).expect("written");
            fs::write(folder.join("gateway.key"), &pair.key_pem).expect("written");
        });
        let [found] = of(&report, Area::Certificates)[..] else {
            panic!("{:#?}", report.findings);
        };
        assert_eq!(found.outcome, outcome, "{found:?}");
        assert!(found.found.contains(says), "{found:?}");
        assert!(found.found.contains("for a.example"), "{found:?}");
        assert_only(&report, &[Area::Certificates]);
    }
}

#[test]
fn a_key_of_another_certificate_is_told_with_its_place() {
    let scene = whole();
    let other = scene.world.ca.certificate(&["localhost"]).expect("made");
    let report = examined_after(&scene, false, |folder| {
        fs::write(folder.join("gateway.key"), &other.key_pem).expect("written");
    });
    assert_complains(
        &report,
        Area::Certificates,
        Outcome::Bad,
        "gateway.crt",
        &["diagnostics"],
    );
    assert!(
        report
            .diagnostics
            .render()
            .contains("this key cannot be used")
    );
}

#[test]
fn the_certificate_of_an_app_is_read_where_it_stands() {
    let scene = Scene::new();
    let pair = scene
        .world
        .ca
        .rsa_certificate(&["app.example"])
        .expect("made");
    let der = pem_to_der(&pair.cert_pem);
    scene.world.entra.register(
        APP,
        App {
            secret: String::new(),
            roles: Vec::new(),
            version: Version::V2,
        },
    );
    scene.world.entra.trust_certificate(APP, &der);
    scene
        .world
        .vault
        .set("app", &format!("{}{}", pair.key_pem, pair.cert_pem));
    let backend = |place: &str| {
        format!(
            "function: '{}', credential: {{ app: {{ resource: '{FUNCTION_RESOURCE}', tenantId: {CONTOSO}, clientId: {APP}, certificate: {{ {place} }} }} }}, ca: ca.crt",
            scene.world.function.url()
        )
    };
    let (vault, file) = (
        backend(&format!(
            "keyVault: '{}/secrets/app'",
            scene.world.vault.url()
        )),
        backend("file: app.pem"),
    );
    let mut scene = scene
        .backend("vaulted", &vault)
        .backend("filed", &file)
        .portal_route("r", "GET", "/a", "vaulted")
        .portal_route("s", "GET", "/b", "filed");
    scene.more = "keyVault: { ca: ca.crt }\n".to_owned();
    let pem = format!("{}{}", pair.key_pem, pair.cert_pem);
    let report = examined_after(&scene, false, |folder| {
        fs::write(folder.join("app.pem"), &pem).expect("written");
    });
    assert_eq!(report.count(Outcome::Bad), 0, "{:#?}", report.findings);
    let certificates = of(&report, Area::Certificates);
    for place in ["/secrets/app", "app.pem"] {
        let of_app = |one: &&&Finding| one.name.contains(APP) && one.name.contains(place);
        let found = certificates.iter().find(of_app).expect(place);
        assert!(
            found.found.contains("for app.example; good for"),
            "{found:?}"
        );
    }

    scene.world.entra.distrust_certificates(APP);
    let report = examined_after(&scene, false, |folder| {
        fs::write(folder.join("app.pem"), &pem).expect("written");
    });
    let says = ["Entra answered", "Certificates & secrets"];
    assert_complains(
        &report,
        Area::Identities,
        Outcome::Bad,
        "(for filed)",
        &says,
    );
}

fn pem_to_der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let der = CertificateDer::from_pem_slice(pem.as_bytes());
    der.expect("a certificate").to_vec()
}

#[test]
fn what_can_be_checked_is_checked_though_the_policies_are_at_fault() {
    let scene = whole().route(
        "broken",
        "match: { methods: [GET], path: /x }, backend: nobody",
    );
    let report = examined(&scene);
    assert_complains(
        &report,
        Area::Files,
        Outcome::Bad,
        "gateway.yaml",
        &["1 error"],
    );
    assert!(
        report
            .diagnostics
            .render()
            .contains("no backend is named `nobody`")
    );
    assert_only(&report, &[Area::Files]);
    assert_eq!(of(&report, Area::Identities).len(), 3);
    assert_eq!(of(&report, Area::SigningKeys).len(), 4);
    assert_eq!(of(&report, Area::Backends).len(), 3);

    let report = examined_after(&whole(), false, |folder| {
        fs::remove_file(folder.join("gateway.yaml")).expect("removed");
    });
    assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
    assert_eq!(report.findings[0].outcome, Outcome::Bad);
}

#[test]
fn probes_say_what_lets_strangers_in() {
    let scene = whole();
    let report = probed(&scene);
    let probes = of(&report, Area::Probes);
    assert_eq!(probes.len(), 9, "{probes:#?}");
    let sas = [
        "AuthorizationFailed",
        "`properties.accessControl.triggers.sasAuthenticationPolicy.state: Disabled`",
    ];
    assert_complains(
        &report,
        Area::Probes,
        Outcome::Warning,
        "invite-flow with a wrong signature",
        &sas,
    );
    assert_eq!(complaints(&report).len(), 1, "{probes:#?}");
    let posted = probes
        .iter()
        .find(|one| one.name == "invite-flow without a credential");
    let posted = &posted.expect("probed").found;
    assert!(posted.starts_with("POST https://localhost:"), "{posted}");
    assert!(
        posted.ends_with("with an empty body was answered 401 (DirectApiAuthorizationRequired)"),
        "{posted}"
    );
    let read = probes
        .iter()
        .find(|one| one.name == "guest-api without a credential");
    let read = &read.expect("probed").found;
    assert!(
        read.starts_with("GET ") && read.ends_with("/guests/0 was answered 401"),
        "{read}"
    );
    for seen in [
        scene.world.function.seen(),
        scene.world.keyed_function.seen(),
    ]
    .concat()
    {
        assert!(!seen.headers.contains_key("authorization"), "{seen:?}");
        assert!(!seen.headers.contains_key("x-functions-key"), "{seen:?}");
        assert_eq!(seen.headers["user-agent"], "portcullis-doctor");
    }

    scene.world.logic_app.set_sas(false);
    let report = probed(&scene);
    assert_eq!(complaints(&report), Vec::<&Finding>::new());
    let probes = of(&report, Area::Probes);
    assert!(
        probes
            .iter()
            .any(|one| one.found.contains("SAS is switched off")),
        "{probes:#?}"
    );
}

#[test]
fn a_logic_app_that_is_called_by_its_link_must_keep_links_on() {
    let scene = Scene::new();
    let (url, query) = (
        scene.world.logic_app.url(),
        portcullis::demo::backend::sas_query(),
    );
    let backend =
        format!("logicApp: '{url}{TRIGGER}', credential: {{ sas: {{ file: link }} }}, ca: ca.crt");
    let scene = scene
        .backend("flow", &backend)
        .portal_route("r", "POST", "/a", "flow");
    let link = |folder: &Path| fs::write(folder.join("link"), &query).expect("written");
    let report = examined_after(&scene, true, link);
    let probes = of(&report, Area::Probes);
    assert!(
        probes.iter().all(|one| one.outcome == Outcome::Good),
        "{probes:#?}"
    );
    scene.world.logic_app.set_sas(false);
    let report = examined_after(&scene, true, link);
    let says = ["SAS is switched off", "`managedIdentity`"];
    assert_complains(
        &report,
        Area::Probes,
        Outcome::Bad,
        "flow with a wrong signature",
        &says,
    );
}

/// A Function that answers as told, called with a token and reached by a wildcard.
fn answering(
    answer: impl Fn(&str) -> &'static str + Send + Sync + 'static,
) -> (Report, RawBackend) {
    let scene = Scene::new();
    let raw = RawBackend::answering(&scene, move |request| {
        vec![Step::text(&format!(
            "HTTP/1.1 {}\r\nContent-Length: 0\r\n\r\n",
            answer(request)
        ))]
    });
    let url = raw.url();
    let backend =
        format!("function: '{url}', credential: {{ managedIdentity: {{ resource: 'api://x' }} }}");
    let scene = scene
        .raw("bare", &raw)
        .backend("open", &backend)
        .portal_route("r", "POST, GET", "/{*rest}", "open");
    (probed(&scene), raw)
}

#[test]
fn a_function_that_lets_everybody_in_fails_with_what_closes_it() {
    let (report, raw) = answering(|_| "200 OK");
    for (stranger, says) in [
        (
            "open without a credential",
            "globalValidation.requireAuthentication: true",
        ),
        (
            "open with a forged x-ms-client-principal",
            "removes x-ms-client-principal",
        ),
        (
            "open with a wrong function key",
            "publicNetworkAccess: Disabled",
        ),
    ] {
        let says = [
            "answered 200: anyone who can reach it passes the gateway by",
            says,
        ];
        assert_complains(&report, Area::Probes, Outcome::Bad, stranger, &says);
    }
    let bare = of(&report, Area::Probes)
        .into_iter()
        .find(|one| one.name == "bare");
    assert!(bare.expect("told").found.contains("not probed"));
    let requests = raw.seen().requests;
    assert_eq!(requests.len(), 3);
    for (request, target) in
        requests
            .iter()
            .zip(["/", "/", "/?code=portcullis-doctor-sends-a-wrong-key"])
    {
        assert!(
            request.starts_with(&format!("GET {target} HTTP/1.1\r\n")),
            "{request}"
        );
        assert!(
            !request.to_lowercase().contains("authorization:"),
            "{request}"
        );
    }
    for field in [
        "x-ms-client-principal",
        "x-ms-client-principal-id",
        "x-ms-client-principal-name",
        "x-ms-client-principal-idp",
    ] {
        assert!(!requests[0].contains(&format!("{field}: ")), "{field}");
        assert!(requests[1].contains(&format!("\r\n{field}: ")), "{field}");
    }
}

#[test]
fn a_probe_changes_nothing_where_a_route_would_and_prefers_routes_that_ask_for_a_principal() {
    const ASKS: &str = "allow: [{ tenants: [contoso], apps: [marketing-portal] }]";
    const OPEN: &str = "public: true";
    /// Methods, path, and whom the route lets in.
    type Routes = &'static [(&'static str, &'static str, &'static str)];
    let rows: [(Routes, &str); 5] = [
        (&[("DELETE, PUT", "/a/{id}", ASKS)], "GET /a/0 "),
        (&[("OPTIONS", "/o", ASKS), ("POST", "/p", ASKS)], "POST /p "),
        (&[("POST", "/p", ASKS), ("HEAD", "/h", ASKS)], "HEAD /h "),
        (
            &[("GET", "/{x}", ASKS), ("GET", "/plain", ASKS)],
            "GET /plain ",
        ),
        (&[("GET", "/open", OPEN), ("POST", "/p", ASKS)], "POST /p "),
    ];
    for (routes, expected) in rows {
        let scene = Scene::new();
        let refusal = Step::text("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
        let raw = RawBackend::start(&scene, vec![refusal]);
        let credential = "credential: { managedIdentity: { resource: 'api://x' } }";
        let mut scene = scene.backend("b", &format!("http: '{}', {credential}", raw.url()));
        for (at, (methods, path, more)) in routes.iter().enumerate() {
            let rest =
                format!("match: {{ methods: [{methods}], path: '{path}' }}, backend: b, {more}");
            scene = scene.route(&format!("r{at}"), &rest);
        }
        let report = probed(&scene);
        assert!(
            !report.diagnostics.has_errors(),
            "{}",
            report.diagnostics.render()
        );
        let requests = raw.seen().requests;
        assert_eq!(requests.len(), 2, "{routes:?}");
        assert!(
            requests[0].starts_with(expected),
            "{routes:?} {}",
            requests[0]
        );
    }
}

#[test]
fn only_a_function_that_believes_forged_principals_fails_for_that_alone() {
    let (report, _raw) = answering(|request| match request.contains("x-ms-client-principal") {
        true => "200 OK",
        false => "401 Unauthorized",
    });
    let bad = report
        .findings
        .iter()
        .filter(|one| one.outcome == Outcome::Bad);
    let bad: Vec<_> = bad.map(|one| one.name.as_str()).collect();
    assert_eq!(bad, ["open with a forged x-ms-client-principal"]);
}

#[test]
fn a_login_page_refuses_and_an_answer_that_proves_nothing_is_said_to() {
    for (answer, outcome) in [
        (
            "302 Found\r\nLocation: https://login.windows.net/x/oauth2/v2.0/authorize?y",
            Outcome::Good,
        ),
        ("302 Found\r\nLocation: /.auth/login/aad?z", Outcome::Good),
        (
            "302 Found\r\nLocation: https://elsewhere.example/?//login.",
            Outcome::Warning,
        ),
        ("403 Forbidden", Outcome::Good),
        ("404 Not Found", Outcome::Warning),
        ("500 Oh", Outcome::Warning),
        ("204 No Content", Outcome::Bad),
    ] {
        let (report, _raw) = answering(move |_| answer);
        let probes = of(&report, Area::Probes);
        let open = probes.iter().filter(|one| one.name.starts_with("open "));
        let outcomes: Vec<_> = open.map(|one| one.outcome).collect();
        assert_eq!(outcomes, [outcome; 3], "{answer}");
    }
}

fn command(scene: &Scene, config: &Path, more: &[&str]) -> Output {
    let mut command = command_in(scene, config);
    command.args(more).output().expect("it runs")
}

/// The command, in a scene's environment.
fn command_in(scene: &Scene, config: &Path) -> Command {
    let mut command = Command::new(PORTCULLIS);
    command
        .args(["doctor", "--config"])
        .arg(config)
        .env("IDENTITY_ENDPOINT", scene.world.identity.endpoint())
        .env("IDENTITY_HEADER", IDENTITY_HEADER);
    command
}

#[test]
fn the_command_tells_people_and_programs_and_ends_by_what_it_found() {
    let scene = whole();
    let folder = tempfile::tempdir().expect("a folder");
    let config = scene.write(folder.path());
    let key = "planted-fingerprint-key-0123456789abcdef";
    fs::write(folder.path().join("fingerprint.key"), key).expect("written");
    let said = |output: &Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_silent(
            &scene,
            &(text.clone() + &String::from_utf8_lossy(&output.stderr)),
        );
        text
    };
    let output = command(&scene, &config, &[]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.ends_with("\n21 passed, 0 warnings, 0 failed\n"),
        "{text}"
    );
    assert!(text.contains("\npassed   platform      managed identities: managed identities are those of App Service"), "{text}");

    let output = command(&scene, &config, &["--probe-backends", "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "a warning fails nothing");
    assert!(String::from_utf8_lossy(&output.stderr).contains("real requests"));
    let report: serde_json::Value = serde_json::from_str(&said(&output)).expect("JSON");
    let findings = report["findings"].as_array().expect("a list");
    assert_eq!(findings.len(), 30);
    let warnings: Vec<_> = findings
        .iter()
        .filter(|one| one["outcome"] == "warning")
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0]["area"], "probes");

    scene.world.vault.disable("guest-api-key", true);
    let output = command(&scene, &config, &[]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("\nfailed   key-vault     https://localhost:"),
        "{text}"
    );
    assert!(
        text.contains("\n         -> enable guest-api-key again in https://localhost:"),
        "{text}"
    );
    assert!(text.ends_with("1 failed\n"), "{text}");

    let wrong = command(&scene, &config, &["--formt", "json"]);
    assert_eq!(wrong.status.code(), Some(2));
}

/// What is found of a store of limits, with what gateway.yaml says of it beside its URL.
fn store_examined(address: SocketAddr, more: &str) -> Report {
    let mut scene = whole();
    scene.more +=
        &format!("limits: {{ store: {{ redis: {{ url: 'redis://{address}' {more} }} }} }}\n");
    examined_after(&scene, false, |folder| {
        fs::write(folder.join("password"), "planted-password").expect("written");
    })
}

#[test]
fn a_store_of_limits_is_tried_and_nothing_is_left_in_it() {
    let redis = Redis::with(&["--requirepass", "planted-password"]);
    let report = store_examined(redis.address(), ", password: { file: password }");
    assert_eq!(complaints(&report), Vec::<&Finding>::new());
    let found = of(&report, Area::Limits);
    let [finding] = found.as_slice() else {
        panic!("{found:#?}");
    };
    assert_eq!(
        finding.name,
        format!("limits.store redis://{}", redis.address())
    );
    assert!(finding.found.contains("runs its scripts"), "{finding:?}");
    let url = format!("redis://:planted-password@{}", redis.address());
    let client = redis::Client::open(url).expect("a client");
    let mut link = client.get_connection().expect("signed in");
    let keys: u64 = redis::cmd("DBSIZE").query(&mut link).expect("a count");
    assert_eq!(keys, 0, "nobody has joined");
}

#[test]
fn what_keeps_the_gateway_from_its_store_of_limits_is_told_with_what_mends_it() {
    let redis = Redis::with(&["--requirepass", "another"]);
    let (_held, nobody) = silent();
    let cluster = Redis::cluster();
    let alone = Redis::start();
    alone.tell(&[
        "ACL",
        "SETUSER",
        "gateway",
        "on",
        ">planted-password",
        "~*",
        "+@all",
        "-eval",
    ]);
    alone.tell(&[
        "ACL",
        "SETUSER",
        "reader",
        "on",
        ">planted-password",
        "~*",
        "+@all",
        "-hset",
    ]);
    alone.tell(&[
        "ACL",
        "SETUSER",
        "other",
        "on",
        ">planted-password",
        "~other:*",
        "+@all",
    ]);
    let full = Redis::with(&["--maxmemory", "1"]);
    let by = |user: &str| format!(", user: {user}, password: {{ file: password }}");
    let rows: [(&str, SocketAddr, String, &[&str]); 8] = [
        (
            "a wrong password",
            redis.address(),
            ", password: { file: password }".to_owned(),
            &[
                "see that `user` and `password`",
                "the default one's password",
            ],
        ),
        (
            "none",
            redis.address(),
            String::new(),
            &["it wants to know who calls"],
        ),
        (
            "nobody there",
            nobody,
            String::new(),
            &["refused", "listens on that port"],
        ),
        (
            "no scripts",
            alone.address(),
            by("gateway"),
            &["+eval +evalsha"],
        ),
        (
            "no writing",
            alone.address(),
            by("reader"),
            &["hset", "+hset"],
        ),
        (
            "no keys",
            alone.address(),
            by("other"),
            &["on ~{portcullis}:*"],
        ),
        (
            "no cluster",
            alone.address(),
            ", cluster: true".to_owned(),
            &["it is no cluster"],
        ),
        ("full", full.address(), String::new(), &["give it room"]),
    ];
    for (row, address, more, says) in rows {
        let report = store_examined(address, &more);
        assert_eq!(of(&report, Area::Limits).len(), 1, "{row}");
        assert_complains(&report, Area::Limits, Outcome::Bad, "limits.store", says);
        assert_only(&report, &[Area::Limits]);
    }
    let report = store_examined(cluster.address(), "");
    let says = ["one server of a cluster", "write `cluster: true`"];
    assert_complains(
        &report,
        Area::Limits,
        Outcome::Warning,
        "limits.store",
        &says,
    );
    let report = store_examined(cluster.address(), ", cluster: true");
    assert_eq!(complaints(&report), Vec::<&Finding>::new());
}
