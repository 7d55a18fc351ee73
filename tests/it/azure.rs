//! Credentials that nobody holds: from Key Vault, by federated tokens, by certificates; and what the
//! backend learns of who calls.

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p12_keystore::{Certificate, KeyStore, KeyStoreEntry, PrivateKey, PrivateKeyChain};
use portcullis::clock::Clock as _;
use portcullis::demo::backend::{FUNCTION_KEY, SAS_SIGNATURE, TRIGGER, sas_query};
use portcullis::demo::entra::App;
use portcullis::demo::identity::ExpiresOn;
use portcullis::demo::names::{CONTOSO, FUNCTION_RESOURCE};
use portcullis::entra::Version;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::{RawBackend, Scene, Stage};

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// An app registration of the gateway's own.
const GATEWAY_APP: &str = "cccccccc-0000-0000-0000-000000000009";

/// A scene whose gateway reads the demo's Key Vault.
fn vaulted() -> Scene {
    let mut scene = Scene::new();
    scene.more += "keyVault: { ca: ca.crt }\n";
    scene
}

impl Scene {
    fn secret(&self, name: &str) -> String {
        format!("{}/secrets/{name}", self.world.vault.url())
    }

    /// The Function that wants a key, with the key in Key Vault.
    fn keyed(self) -> Self {
        self.world.vault.set("guest-key", FUNCTION_KEY);
        let (url, secret) = (self.world.keyed_function.url(), self.secret("guest-key"));
        self.backend(
            "keyed",
            &format!("function: '{url}', credential: {{ functionKey: {{ keyVault: '{secret}' }} }}, ca: ca.crt"),
        )
        .portal_route("keyed", "GET", "/api/{*rest}", "keyed")
    }

    /// The Function that wants a token, of this identity.
    fn tokened(self, credential: &str) -> Self {
        let url = self.world.function.url();
        self.backend(
            "tokened",
            &format!("function: '{url}', credential: {{ {credential} }}, ca: ca.crt"),
        )
        .portal_route("tokened", "GET", "/api/{*rest}", "tokened")
    }
}

fn get(stage: &Stage, target: &str) -> String {
    stage.call("GET", target).portal().send().verdict()
}

/// Has four callers call on and on while something changes, until it has come through. All are served.
fn under_load(stage: &Stage, change: impl Fn(&Stage), done: impl Fn(&Stage) -> bool) {
    const LEAST: usize = 10;
    const MOST: usize = 5_000;
    let caller = |at: usize| {
        let (change, done) = (&change, &done);
        async move {
            for call in 0..MOST {
                if at == 0 && call == LEAST / 2 {
                    change(stage);
                }
                let answer = stage.call("GET", "/api/guests").portal().sending().await;
                assert_eq!(answer.verdict(), "200");
                if call > LEAST && done(stage) {
                    return;
                }
            }
            panic!("it does not come through");
        }
    };
    stage
        .runtime
        .block_on(futures_util::future::join_all((0..4).map(caller)));
}

#[test]
fn a_function_key_comes_from_key_vault_and_its_rotation_is_noticed() {
    let stage = vaulted().keyed().start();
    assert_eq!(get(&stage, "/api/guests"), "200");
    assert_eq!(stage.world.vault.asked().borrow().len(), 1);

    // The key is rotated in the vault first: the poll takes it up before the Function changes.
    let second = "planted-function-key-second";
    stage.world.vault.set("guest-key", second);
    stage.clock.advance(HOUR);
    stage.until("the poll", |stage| {
        stage.world.vault.asked().borrow().len() == 2
    });
    stage.world.keyed_function.set_function_key(second);
    stage.until("the new key", |stage| get(stage, "/api/guests") == "200");

    // Rotated at the Function first: its refusal has the secret read at once.
    let third = "planted-function-key-third";
    stage.world.vault.set("guest-key", third);
    stage.world.keyed_function.set_function_key(third);
    stage.clock.advance(MINUTE);
    assert_eq!(get(&stage, "/api/guests"), "502 backend-refused-credential");
    stage.until("the third key", |stage| get(stage, "/api/guests") == "200");
    assert_eq!(stage.world.vault.asked().borrow().len(), 3);
}

#[test]
fn a_secret_is_rotated_under_load_and_no_request_fails_or_goes_without() {
    let scene = vaulted();
    let raw = RawBackend::ok(&scene, "fine");
    scene.world.vault.set("legacy-key", "planted-first");
    let (url, secret) = (raw.url(), scene.secret("legacy-key"));
    let stage = scene
        .backend(
            "legacy",
            &format!("http: '{url}', credential: {{ header: {{ name: x-api-key, value: {{ keyVault: '{secret}' }} }} }}"),
        )
        .portal_route("legacy", "GET", "/api/{*rest}", "legacy")
        .start();
    let shows = |key: &str| {
        let line = format!("\r\nx-api-key: {key}\r\n");
        move |request: &String| request.contains(&line)
    };
    under_load(
        &stage,
        |stage| {
            stage.world.vault.set("legacy-key", "planted-second");
            stage.clock.advance(HOUR);
        },
        |_| {
            raw.seen()
                .requests
                .last()
                .is_some_and(shows("planted-second"))
        },
    );
    let requests = raw.seen().requests;
    let first = requests
        .iter()
        .filter(|request| shows("planted-first")(request));
    let second = requests
        .iter()
        .filter(|request| shows("planted-second")(request));
    assert_eq!(first.count() + second.count(), requests.len());
}

#[test]
fn a_disabled_secret_is_a_loud_fault_and_the_last_good_value_serves() {
    let stage = vaulted().keyed().start();
    for (what, undo) in [("disabled", true), ("deleted", false)] {
        match undo {
            true => stage.world.vault.disable("guest-key", true),
            false => stage.world.vault.delete("guest-key"),
        }
        stage.clock.advance(HOUR);
        stage.until("the fault", |stage| !stage.ready());
        assert_eq!(get(&stage, "/api/guests"), "200", "{what}");
        let ready = stage.admin("/readyz?verbose");
        assert!(
            ready.starts_with("HTTP/1.1 200"),
            "others are served: {ready}"
        );
        assert!(
            ready.contains("[!] credential/keyed degraded: Key Vault answered 40"),
            "{ready}"
        );
        assert!(ready.contains("the last good one is still used"), "{ready}");
        if undo {
            stage.world.vault.disable("guest-key", false);
            stage.clock.advance(MINUTE);
            stage.until("recovery", Stage::ready);
        }
    }
}

#[test]
fn without_the_secret_from_the_start_nothing_is_forwarded() {
    let scene = vaulted().keyed();
    scene.world.vault.set_fault(Some(503));
    let stage = scene.start_unready();
    let answer = stage.call("GET", "/api/guests").portal().send();
    assert_eq!(answer.verdict(), "503 credential-unavailable");
    let record = stage.record_of(&answer);
    assert!(
        record["expected"]
            .as_str()
            .expect("a note")
            .contains("/secrets/guest-key"),
        "{record}"
    );
    assert!(
        record["got"]
            .as_str()
            .expect("a note")
            .contains("Key Vault answered 503"),
        "{record}"
    );
    assert_eq!(stage.world.keyed_function.seen().len(), 0);
    stage.world.vault.set_fault(None);
    stage.until("recovery", |stage| {
        stage.clock.advance(Duration::from_secs(5));
        get(stage, "/api/guests") == "200"
    });
}

#[test]
fn a_logic_app_that_takes_no_token_is_called_with_a_signature_that_callers_never_see() {
    let scene = vaulted();
    scene.world.logic_app.set_oauth(false);
    let base = scene.world.logic_app.url();
    scene
        .world
        .vault
        .set("flow-sas", &format!("{base}{TRIGGER}?{}", sas_query()));
    let secret = scene.secret("flow-sas");
    let stage = scene
        .backend("flow", &format!("logicApp: '{base}{TRIGGER}', credential: {{ sas: {{ keyVault: '{secret}' }} }}, ca: ca.crt"))
        .portal_route("invite", "POST", "/invitations", "flow")
        .start();
    for target in ["/invitations", "/invitations?sig=planted-other&x=1"] {
        let answer = stage.call("POST", target).portal().body("{}").send();
        assert_eq!(answer.verdict(), "200");
    }
    for seen in stage.world.logic_app.seen() {
        assert!(
            seen.target.contains(&format!("sig={SAS_SIGNATURE}")),
            "{}",
            seen.target
        );
        assert!(!seen.target.contains("planted-other"), "{}", seen.target);
        assert_eq!(seen.headers.get("authorization"), None);
    }
    // What is no signature is told without being shown.
    stage.world.vault.set("flow-sas", "planted-nonsense");
    stage.clock.advance(HOUR);
    stage.until("the poll", |stage| {
        stage.world.vault.asked().borrow().len() == 2
    });
    stage.until("the fault", |stage| !stage.ready());
    let ready = stage.admin("/readyz?verbose");
    assert!(
        ready.contains("what was read cannot be used: the secret holds no `sig`"),
        "{ready}"
    );
    assert!(!ready.contains("planted"), "{ready}");
    let answer = stage
        .call("POST", "/invitations")
        .portal()
        .body("{}")
        .send();
    assert_eq!(answer.verdict(), "200", "the last good one is still used");
}

/// A service account's token in a file, as Kubernetes projects it.
fn project(scene: &Scene, folder: &Path) -> String {
    register(scene, "");
    scene.world.entra.federate(GATEWAY_APP);
    let token = scene.world.entra.federated_token().expect("signed");
    fs::write(folder.join("token"), &token).expect("written");
    token
}

fn federated(folder: &Path) -> String {
    format!(
        "workloadIdentity: {{ resource: '{FUNCTION_RESOURCE}', tenantId: {CONTOSO}, clientId: {GATEWAY_APP}, tokenFile: '{}' }}",
        folder.join("token").display()
    )
}

#[test]
fn a_workload_identity_exchanges_its_token_and_reads_the_file_anew_when_it_rotates_under_load() {
    let scene = Scene::new();
    let folder = tempfile::tempdir().expect("a folder");
    let first = project(&scene, folder.path());
    scene.world.entra.set_refresh_in(Some(600));
    let stage = scene.tokened(&federated(folder.path())).start();
    assert_eq!(get(&stage, "/api/guests"), "200");
    assert_eq!(*stage.world.entra.tokens_asked().borrow(), 1);
    let issued = stage.world.identity.issued();
    let identity = |stage: &Stage| {
        let seen = stage.world.function.seen();
        let token = seen
            .last()
            .expect("seen")
            .bearer()
            .expect("a token")
            .to_owned();
        issued.identity(&token)
    };
    assert_eq!(identity(&stage).as_deref(), Some(GATEWAY_APP));
    let seen = stage.world.function.seen();
    let before = seen[0].bearer().expect("a token").to_owned();

    under_load(
        &stage,
        |stage| {
            let second = stage.world.entra.federated_token().expect("signed");
            fs::write(folder.path().join("token"), second).expect("written");
            stage.world.entra.revoke_federated(&first);
            // Long before the token's end, because its issuer asked for it.
            stage.clock.advance(Duration::from_secs(600));
        },
        |stage| {
            let last = stage
                .world
                .function
                .seen()
                .last()
                .and_then(|seen| seen.bearer().map(str::to_owned));
            last.is_some_and(|last| last != before)
        },
    );
    assert_eq!(*stage.world.entra.tokens_asked().borrow(), 2);
    assert_eq!(get(&stage, "/api/guests"), "200");
    assert!(stage.ready());
}

#[test]
fn a_federated_token_that_entra_refuses_leaves_the_last_token_in_use() {
    let scene = Scene::new();
    let folder = tempfile::tempdir().expect("a folder");
    let token = project(&scene, folder.path());
    let stage = scene.tokened(&federated(folder.path())).start();
    stage.world.entra.revoke_federated(&token);
    stage.clock.advance(Duration::from_secs(56 * 60));
    stage.until("the refusal", |stage| {
        *stage.world.entra.tokens_asked().borrow() == 2
    });
    assert_eq!(get(&stage, "/api/guests"), "200");
    stage.until("the fault", |stage| !stage.ready());
    let ready = stage.admin("/readyz?verbose");
    assert!(
        ready.contains("Entra answered 401 (invalid_client"),
        "{ready}"
    );
    // Once the last one has ended, nothing goes on without.
    stage.clock.advance(4 * MINUTE);
    assert_eq!(get(&stage, "/api/guests"), "503 credential-unavailable");
}

fn app(proof: &str) -> String {
    format!(
        "app: {{ resource: '{FUNCTION_RESOURCE}', tenantId: {CONTOSO}, clientId: {GATEWAY_APP}, {proof} }}"
    )
}

fn register(scene: &Scene, secret: &str) {
    let registration = App {
        secret: secret.to_owned(),
        roles: Vec::new(),
        version: Version::V2,
    };
    scene.world.entra.register(GATEWAY_APP, registration);
}

#[test]
fn an_app_proves_itself_by_a_secret_from_key_vault_which_may_be_rotated() {
    let scene = vaulted();
    register(&scene, "planted-client-secret");
    scene.world.vault.set("app-secret", "planted-client-secret");
    let secret = scene.secret("app-secret");
    let stage = scene
        .tokened(&app(&format!("secret: {{ keyVault: '{secret}' }}")))
        .start();
    assert_eq!(get(&stage, "/api/guests"), "200");

    let second = App {
        secret: "planted-second-client-secret".to_owned(),
        roles: Vec::new(),
        version: Version::V2,
    };
    stage.world.entra.register(GATEWAY_APP, second);
    stage
        .world
        .vault
        .set("app-secret", "planted-second-client-secret");
    // The next fetch is refused, which has the secret read anew; the one after it goes well.
    stage.clock.advance(Duration::from_secs(55 * 60));
    stage.until("the refusal or the new token", |stage| {
        *stage.world.entra.tokens_asked().borrow() >= 2
    });
    stage.until("the new token", |stage| {
        stage.clock.advance(SECOND);
        stage.ready() && *stage.world.entra.tokens_asked().borrow() >= 3
    });
    assert_eq!(get(&stage, "/api/guests"), "200");
}

/// A certificate with its key, PEM and PFX without a password, as Key Vault gives them out.
fn proofs(scene: &Scene) -> (String, String) {
    let made = scene
        .world
        .ca
        .rsa_certificate(&["gateway.test"])
        .expect("a certificate");
    let der = CertificateDer::from_pem_slice(made.cert_pem.as_bytes()).expect("DER");
    let key = PrivateKeyDer::from_pem_slice(made.key_pem.as_bytes()).expect("DER");
    scene.world.entra.trust_certificate(GATEWAY_APP, &der);
    let chain = PrivateKeyChain::new(
        vec![1, 2, 3],
        PrivateKey::from_der(key.secret_der()).expect("a key"),
        [Certificate::from_der(&der).expect("a certificate")],
    );
    let mut store = KeyStore::new();
    store.add_entry("gateway", KeyStoreEntry::PrivateKeyChain(chain));
    let pfx = store.writer("").write().expect("a PFX");
    // The chain may stand before its key, and the CA before the leaf.
    let pem = format!("{}{}{}", scene.world.ca.pem(), made.cert_pem, made.key_pem);
    (pem, STANDARD.encode(pfx))
}

#[test]
fn an_app_proves_itself_by_a_certificate_pem_or_pfx_from_key_vault_or_a_file() {
    for from_vault in [true, false] {
        for is_pfx in [true, false] {
            let scene = vaulted();
            register(&scene, "");
            let (pem, pfx) = proofs(&scene);
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("proof");
            let binary = STANDARD.decode(&pfx).expect("base64");
            fs::write(&file, if is_pfx { &binary } else { pem.as_bytes() }).expect("written");
            let kind = if is_pfx {
                "application/x-pkcs12"
            } else {
                "application/x-pem-file"
            };
            scene
                .world
                .vault
                .set_with_type("app-cert", if is_pfx { &pfx } else { &pem }, kind);
            let place = match from_vault {
                true => format!("keyVault: '{}'", scene.secret("app-cert")),
                false => format!("file: '{}'", file.display()),
            };
            let stage = scene
                .tokened(&app(&format!("certificate: {{ {place} }}")))
                .start();
            assert_eq!(get(&stage, "/api/guests"), "200", "{place} {is_pfx}");
        }
    }
}

#[test]
fn what_is_no_certificate_is_told_without_being_shown() {
    for (text, told) in [
        ("planted-nonsense", "it is neither PEM nor PFX"),
        ("cGxhbnRlZC0=", "it is no PFX, or one with a password"),
        (
            "-----BEGIN CERTIFICATE-----\nplanted-\n-----END CERTIFICATE-----",
            "there is no private key",
        ),
    ] {
        let scene = vaulted();
        register(&scene, "");
        scene.world.vault.set("app-cert", text);
        let secret = scene.secret("app-cert");
        let stage = scene
            .tokened(&app(&format!("certificate: {{ keyVault: '{secret}' }}")))
            .start_unready();
        stage.until("the fault", |stage| {
            stage.admin("/readyz?verbose").contains(told)
        });
        let answer = stage.call("GET", "/api/guests").portal().send();
        assert_eq!(answer.verdict(), "503 credential-unavailable");
        assert!(!stage.admin("/readyz?verbose").contains("planted"));
    }
}

#[test]
fn every_way_in_which_an_identity_endpoint_fails_passes_or_is_told() {
    let scene = Scene::new();
    let identity = &scene.world.identity;
    identity.set_faults(&[404, 410, 429, 500, 503]);
    let stage = scene
        .function("function")
        .portal_route("r", "GET", "/api/{*rest}", "function")
        .start_unready();
    stage.until("a token", |stage| {
        stage.clock.advance(SECOND);
        get(stage, "/api/guests") == "200"
    });
    assert_eq!(stage.world.identity.asked().borrow().len(), 6);
}

/// Each way in which an endpoint that was well goes bad, after half a token's life.
#[test]
fn a_dead_identity_endpoint_is_no_matter_to_a_request_that_has_a_token() {
    type Dies = fn(&Stage);
    let ways: [(&str, Dies); 7] = [
        ("500", |stage| stage.world.identity.set_fault(Some(500))),
        ("400", |stage| stage.world.identity.set_fault(Some(400))),
        ("401", |stage| stage.world.identity.set_fault(Some(401))),
        ("429 with Retry-After", |stage| {
            stage.world.identity.set_retry_after(Some("120"));
            stage.world.identity.set_fault(Some(429));
        }),
        ("garbage", |stage| stage.world.identity.set_garbage(true)),
        ("a hang", |stage| stage.world.identity.set_hang(true)),
        ("no end of the token", |stage| {
            stage.world.identity.set_expires_on(ExpiresOn::Empty);
            stage.world.identity.set_garbage(true);
        }),
    ];
    for (way, die) in ways {
        let stage = Scene::new()
            .function("function")
            .portal_route("r", "GET", "/api/{*rest}", "function")
            .start();
        assert_eq!(get(&stage, "/api/guests"), "200", "{way}");
        die(&stage);
        stage.clock.advance(12 * HOUR);
        stage.until(way, |stage| {
            stage.world.identity.asked().borrow().len() == 2
        });
        for _ in 0..3 {
            assert_eq!(get(&stage, "/api/guests"), "200", "{way}");
        }
        stage.clock.advance(12 * HOUR);
        let verdict = get(&stage, "/api/guests");
        assert_eq!(verdict, "503 credential-unavailable", "{way}");
    }
}

#[test]
fn an_identity_endpoint_may_write_the_end_of_a_token_in_any_form() {
    for form in [
        ExpiresOn::Text,
        ExpiresOn::Number,
        ExpiresOn::Iso,
        ExpiresOn::IsoWithSpace,
        ExpiresOn::American,
        ExpiresOn::Empty,
    ] {
        let scene = Scene::new();
        scene.world.identity.set_expires_on(form);
        let stage = scene
            .function("function")
            .portal_route("r", "GET", "/api/{*rest}", "function")
            .start();
        assert_eq!(get(&stage, "/api/guests"), "200", "{form:?}");
        // It was understood: the refresh comes at half of the token's life, and not before.
        stage.clock.advance(10 * HOUR);
        assert_eq!(get(&stage, "/api/guests"), "200", "{form:?}");
        assert_eq!(stage.world.identity.asked().borrow().len(), 1, "{form:?}");
        stage.clock.advance(2 * HOUR);
        stage.until("the refresh", |stage| {
            stage.world.identity.asked().borrow().len() == 2
        });
    }
}

#[test]
fn a_managed_identitys_issuer_says_when_to_refresh() {
    let scene = Scene::new();
    scene.world.identity.set_refresh_in(Some(1800));
    let stage = scene
        .function("function")
        .portal_route("r", "GET", "/api/{*rest}", "function")
        .start();
    assert_eq!(stage.world.identity.asked().borrow().len(), 1);
    stage.clock.advance(Duration::from_secs(1800));
    stage.until("the refresh", |stage| {
        stage.world.identity.asked().borrow().len() == 2
    });
}

#[test]
fn the_functions_host_makes_the_callers_principal_of_what_it_is_told() {
    let scene = Scene::new();
    let stage = scene
        .function("function")
        .portal_route("r", "GET", "/api/{*rest}", "function")
        .start();
    let answer = stage
        .call("GET", "/api/whoami")
        .header("x-ms-client-principal", "planted-forged")
        .header("X_MS_CLIENT_PRINCIPAL_ID", "planted-forged")
        .portal()
        .send();
    assert_eq!(answer.verdict(), "200", "{}", answer.text());
    let who: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let text = who.to_string();
    assert!(text.contains("\"aad\""), "{who}");
    for claim in [
        "http://schemas.microsoft.com/identity/claims/tenantid",
        "http://schemas.microsoft.com/identity/claims/objectidentifier",
        CONTOSO,
        "Guests.Invite",
    ] {
        assert!(text.contains(claim), "{claim}: {who}");
    }
}

#[test]
fn chosen_claims_are_told_in_headers_and_callers_cannot_send_them() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene
        .raw("raw", &raw)
        .route("r", "match: { methods: [POST], path: /r }, backend: raw, claimHeaders: { x-caller-department: department, x-caller-roles: roles, x-caller-none: nothing }, allow: [{ tenants: [contoso] }]")
        .start();
    let token = stage.portal().claim("department", "Küche, 100 %");
    let token = token.roles(&["Guests.Invite", "a,b"]);
    let token = stage.world.entra.sign(&token).expect("signed");
    for name in [
        "x-caller-department",
        "X_Caller_Department",
        "x-caller.roles",
        "x-caller-none",
    ] {
        let answer = stage
            .call("POST", "/r")
            .header(name, "forged")
            .bearer(&token)
            .body("x")
            .send();
        assert_eq!(answer.verdict(), "200");
    }
    for request in raw.seen().requests {
        assert!(!request.contains("forged"), "{request}");
        assert!(
            request.contains("\r\nx-caller-department: K%C3%BCche%2C 100 %25\r\n"),
            "{request}"
        );
        assert!(
            request.contains("\r\nx-caller-roles: Guests.Invite,a%2Cb\r\n"),
            "{request}"
        );
        assert!(!request.contains("x-caller-none"), "{request}");
    }
}

#[test]
fn the_callers_token_goes_on_only_where_the_route_says_so() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene
        .raw("raw", &raw)
        .portal_route("kept", "GET", "/kept", "raw")
        .route("passed", "match: { methods: [GET], path: /passed }, backend: raw, forwardCallerToken: true, allow: [{ tenants: [contoso] }]")
        .route("watched", "match: { methods: [GET], path: /watched }, backend: raw, mode: reportOnly, forwardCallerToken: true, allow: [{ tenants: [contoso] }]")
        .start();
    let token = stage.portal_token();
    for (target, goes) in [("/kept", false), ("/passed", true)] {
        assert_eq!(
            stage.call("GET", target).bearer(&token).send().verdict(),
            "200"
        );
        let request = raw.seen().requests.last().expect("a request").clone();
        assert_eq!(request.contains(&token), goes, "{target}");
    }
    // A token that proved nothing goes nowhere, though the route lets everybody in.
    let late = stage.portal().claim("exp", stage.world.entra.now() - 3600);
    let late = stage.world.entra.sign(&late).expect("signed");
    assert_eq!(
        stage.call("GET", "/watched").bearer(&late).send().verdict(),
        "200"
    );
    assert!(
        !raw.seen()
            .requests
            .last()
            .expect("a request")
            .contains(&late)
    );
}

#[test]
fn the_hosts_back_doors_open_by_name_alone_and_never_as_to_the_platform() {
    let scene = Scene::new();
    let stage = scene
        .function("function")
        .portal_route("all", "GET, POST", "/{*rest}", "function")
        .portal_route("named", "GET", "/admin/host/ping", "function")
        .start();
    for target in [
        "/admin/host/status",
        "/ADMIN/host/status",
        "/%61dmin/functions",
        "/admin;x/host",
        "/runtime/webhooks/durabletask/instances",
        "/.auth/me",
        "/api/vfs/site/wwwroot",
        "/Runtime/Webhooks/eventgrid",
    ] {
        let verdict = get(&stage, target);
        assert!(
            ["403 host-path-not-allowed", "400 ambiguous-path"].contains(&verdict.as_str()),
            "{target}: {verdict}"
        );
        assert_eq!(stage.call("GET", target).send().status.as_u16() / 100, 4);
    }
    assert_eq!(stage.world.function.seen().len(), 0);
    assert_eq!(get(&stage, "/admin/host/ping"), "200");
    // Whoever tries to pass for the platform does not.
    for name in [
        "x-ms-platform-internal",
        "x-ms-site-restricted-token",
        "disguised-host",
        "x-identity-header",
        "X_MS_Platform_Internal",
    ] {
        let answer = stage
            .call("GET", "/api/guests")
            .header(name, "planted-forged")
            .portal()
            .send();
        assert_eq!(answer.verdict(), "200");
    }
    for seen in stage.world.function.seen() {
        assert!(seen.headers.contains_key("x-arr-log-id"));
        assert!(!format!("{:?}", seen.headers).contains("forged"));
    }
}

#[test]
fn keys_in_urls_are_counted_traced_and_from_a_day_on_refused() {
    let mut scene = Scene::new();
    scene.more +=
        "telemetry: { decisionLog: { path: decisions.jsonl }, fingerprintKey: { file: fp.key } }\n";
    let raw = RawBackend::ok(&scene, "fine");
    let folder = tempfile::tempdir().expect("a folder");
    let key = folder.path().join("fp.key");
    fs::write(&key, "planted-fingerprint-key-0123456789abcdef\n").expect("written");
    scene.more = scene.more.replace("fp.key", key.to_str().expect("text"));
    let soon = scene.clock.now().unix + HOUR;
    let soon = OffsetDateTime::from_unix_timestamp(soon.as_secs() as i64).expect("a time");
    let soon = soon.format(&Rfc3339).expect("RFC 3339");
    let stage = scene
        .raw("raw", &raw)
        .route("now", "match: { methods: [GET], path: /now }, backend: raw, sas: reject, allow: [{ tenants: [contoso] }]")
        .route("then", &format!("match: {{ methods: [GET], path: /then }}, backend: raw, rejectFrom: {soon}, allow: [{{ tenants: [contoso] }}]"))
        .route("kept", "match: { methods: [GET], path: /kept }, backend: raw, sas: reject, keepParameters: [code], allow: [{ tenants: [contoso] }]")
        .start();
    for (target, expected) in [
        ("/now", "200"),
        ("/now?sig=planted-sig", "400 key-in-url"),
        ("/now?%53IG=planted-sig", "400 key-in-url"),
        ("/now?code=planted-code", "400 key-in-url"),
        ("/now?x-functions-key=planted-code", "400 key-in-url"),
        ("/now?sp=1&sv=1", "200"),
        ("/kept?code=planted-code", "200"),
        ("/kept?code=planted-code&sig=planted-sig", "400 key-in-url"),
        ("/then?sig=planted-sig", "200"),
    ] {
        let call = stage.call("GET", target).header("user-agent", "curl/8.5.0");
        assert_eq!(
            call.portal().unchecked().send().verdict(),
            expected,
            "{target}"
        );
    }
    // A stranger learns nothing of it.
    assert_eq!(
        stage.call("GET", "/now?sig=planted-sig").send().verdict(),
        "401 token-missing"
    );
    stage.clock.advance(HOUR);
    assert_eq!(get(&stage, "/then?sig=planted-sig"), "400 key-in-url");

    let line = "portcullis_sas_seen_total{route=\"now\",app=\"marketing-portal\",agent=\"curl\",key=\"sig\",refused=\"true\"} 2";
    stage.until("the counters", |stage| {
        stage.admin("/metrics").contains(line)
    });
    let metrics = stage.admin("/metrics");
    assert!(!metrics.contains("planted"), "{metrics}");
    stage.until("the decisions", |stage| {
        let text =
            fs::read_to_string(stage.folder.path().join("decisions.jsonl")).unwrap_or_default();
        text.lines().count() == 11
    });
    let text = fs::read_to_string(stage.folder.path().join("decisions.jsonl")).expect("a log");
    assert!(!text.contains("planted"), "{text}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let prints: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["sas"]["fingerprint"].as_str())
        .collect();
    assert_eq!(prints.len(), 8, "{prints:?}");
    let of_sig: std::collections::BTreeSet<_> = lines
        .iter()
        .filter(|line| line["sas"]["keys"] == serde_json::json!(["sig"]))
        .filter_map(|line| line["sas"]["fingerprint"].as_str())
        .collect();
    assert_eq!(
        of_sig.len(),
        1,
        "one signature, one fingerprint, however it is written"
    );

    // Whoever has the leaked signature and the key finds who used it.
    let leaked = folder.path().join("leaked");
    fs::write(&leaked, "https://x.logic.azure.com/?sp=1&sig=planted-sig").expect("written");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .current_dir(stage.folder.path())
        .arg("sas-report")
        .arg("--trace")
        .arg(&leaked)
        .arg("--key")
        .arg(&key)
        .arg("decisions.jsonl")
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let print = of_sig.iter().next().expect("one");
    assert!(
        told.contains(print),
        "{told} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!told.contains("planted"), "{told}");
}
