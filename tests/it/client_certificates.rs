//! Certificates of callers: in handshakes and passed on, by whom they are issued, which were withdrawn, and what policies
//! ask of them. They are made by OpenSSL, as a CA of a partner's would.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use portcullis::demo::ca::Certificate;

use crate::support::handshake::Caller;
use crate::support::{RawBackend, Scene, Stage};

const OK: &str = "HTTP/1.1 200";
const FORBIDDEN: &str = "HTTP/1.1 403";

/// A CA of partners, and what it has issued.
struct Partners(tempfile::TempDir);

impl Partners {
    fn new() -> Self {
        let partners = Self(tempfile::tempdir().expect("a folder"));
        fs::write(partners.path("index.txt"), "").expect("written");
        fs::write(partners.path("crlnumber"), "01\n").expect("written");
        let config = "[ca]\ndefault_ca=us\n[us]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ndefault_crl_days=30\n";
        fs::write(partners.path("ca.cnf"), config).expect("written");
        partners.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 365 -subj /O=Fabrikam/CN=Partners -addext keyUsage=critical,keyCertSign,cRLSign");
        partners.revoke(&[]);
        partners
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &str) -> String {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.0.path())
            .output()
            .expect("openssl");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Issues a certificate for `name` with an extended use.
    fn issue(&self, name: &str, used_for: &str) -> Certificate {
        self.openssl(&format!("req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /O=Fabrikam/CN={name}"));
        fs::write(self.path("use"), format!("extendedKeyUsage={used_for}\n")).expect("written");
        self.openssl(&format!("x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.crt -days 30 -extfile use"));
        self.read(name)
    }

    fn client(&self, name: &str) -> Certificate {
        self.issue(name, "clientAuth")
    }

    fn read(&self, name: &str) -> Certificate {
        let read = |end: &str| fs::read_to_string(self.path(&format!("{name}.{end}")));
        Certificate {
            cert_pem: read("crt").expect("read"),
            key_pem: read("key").expect("read"),
        }
    }

    /// Withdraws certificates and publishes the list of all that were.
    fn revoke(&self, names: &[&str]) {
        for name in names {
            self.openssl(&format!(
                "ca -config ca.cnf -keyfile ca.key -cert ca.crt -revoke {name}.crt"
            ));
        }
        self.openssl("ca -config ca.cnf -keyfile ca.key -cert ca.crt -gencrl -out new.crl");
        fs::rename(self.path("new.crl"), self.path("ca.crl")).expect("renamed");
    }

    fn thumbprint(&self, name: &str) -> String {
        let said = self.openssl(&format!("x509 -in {name}.crt -noout -fingerprint -sha256"));
        let (_, print) = said.trim().split_once('=').expect("a fingerprint");
        print.replace(':', "").to_ascii_lowercase()
    }

    fn written(&self, mode: &str, more: &str) -> String {
        let (ca, crl) = (self.path("ca.crt"), self.path("ca.crl"));
        format!(
            "  clientCertificates: {{ mode: {mode}, ca: '{}', crl: ['{}']{more} }}\n",
            ca.display(),
            crl.display()
        )
    }
}

/// A gateway whose routes ask for certificates in several ways.
fn scene(listen: String, thumbprint: &str) -> (RawBackend, Scene) {
    let mut scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    scene.listen = listen;
    let rule = "tenants: [contoso], apps: [marketing-portal]";
    let asking = |when: &str| format!("backend: raw, allow: [{{ {rule}, when: \"{when}\" }}]");
    let scene = scene
        .raw("raw", &raw)
        .portal_route("all", "GET", "/all", "raw")
        .route(
            "one",
            &format!(
                "match: {{ methods: [GET], path: /one }}, {}",
                asking(&format!("connection.certificateThumbprint == '{thumbprint}'"))
            ),
        )
        .route(
            "partners",
            &format!(
                "match: {{ methods: [GET], path: /partners }}, {}",
                asking("connection.certificateSubject == 'CN=partner,O=Fabrikam' && connection.certificateIssuer == 'CN=Partners,O=Fabrikam'")
            ),
        );
    (raw, scene)
}

/// A gateway that requires certificates, and one that does.
fn requiring() -> (Partners, Certificate, RawBackend, Stage) {
    let partners = Partners::new();
    let good = partners.client("partner");
    let thumbprint = partners.thumbprint("partner");
    let (raw, scene) = scene(partners.written("require", ""), &thumbprint);
    (partners, good, raw, scene.start())
}

fn asked(stage: &Stage, certificate: Option<&Certificate>, path: &str) -> Result<String, String> {
    let mut caller = Caller::new(stage, "localhost");
    if let Some(certificate) = certificate {
        caller = caller.with(certificate);
    }
    let token = format!("Authorization: Bearer {}\r\n", stage.portal_token());
    let answer = caller.shake(stage.address)?.get(path, &token)?;
    Ok(answer.chars().take(OK.len()).collect())
}

#[test]
fn where_a_certificate_is_required_nobody_gets_in_without_a_good_one() {
    let partners = Partners::new();
    let good = partners.client("partner");
    let server = partners.issue("server", "serverAuth");
    let withdrawn = partners.client("withdrawn");
    partners.revoke(&["withdrawn"]);
    let thumbprint = partners.thumbprint("partner");
    let (raw, scene) = scene(partners.written("require", ""), &thumbprint);
    let stranger = scene.world.ca.certificate(&["partner"]).expect("made");
    let stage = scene.start();
    for path in ["/all", "/one", "/partners"] {
        assert_eq!(
            asked(&stage, Some(&good), path).as_deref(),
            Ok(OK),
            "{path}"
        );
    }
    for (certificate, what) in [
        (None, "none"),
        (Some(&stranger), "one of another CA"),
        (Some(&server), "one for servers"),
        (Some(&withdrawn), "one that was withdrawn"),
    ] {
        assert!(asked(&stage, certificate, "/all").is_err(), "{what}");
    }
    assert_eq!(raw.seen().requests.len(), 3);
    stage.until("the count", |stage| {
        stage
            .admin("/metrics")
            .contains("closed_total{reason=\"client-certificate\"} 4")
    });
}

#[test]
fn where_one_is_requested_policies_decide_and_sessions_are_not_taken_up_again() {
    let partners = Partners::new();
    let (good, other) = (partners.client("partner"), partners.client("other"));
    let thumbprint = partners.thumbprint("partner");
    let (_raw, scene) = scene(partners.written("request", ""), &thumbprint);
    let stage = scene.start();
    for (certificate, path, expected) in [
        (None, "/all", OK),
        (None, "/one", FORBIDDEN),
        (None, "/partners", FORBIDDEN),
        (Some(&other), "/all", OK),
        (Some(&other), "/one", FORBIDDEN),
        (Some(&other), "/partners", FORBIDDEN),
        (Some(&good), "/one", OK),
        (Some(&good), "/partners", OK),
    ] {
        let line = asked(&stage, certificate, path);
        assert_eq!(line.as_deref(), Ok(expected), "{path}");
    }
    let caller = Caller::new(&stage, "localhost").with(&good);
    let config = caller.config();
    for _ in 0..2 {
        let shaken = crate::support::handshake::shake(&config, "localhost", stage.address);
        let shaken = shaken.expect("a handshake");
        assert_eq!(shaken.kind(), "Full");
        let token = format!("Authorization: Bearer {}\r\n", stage.portal_token());
        shaken.get("/all", &token).expect("an answer");
    }
}

#[test]
fn what_was_withdrawn_is_read_again_and_a_faulty_list_changes_nothing() {
    let (partners, good, _raw, stage) = requiring();
    assert_eq!(asked(&stage, Some(&good), "/all").as_deref(), Ok(OK));
    fs::write(partners.path("ca.crl"), "no list").expect("written");
    stage.gateway().reload();
    stage.until_refused(1);
    assert_eq!(asked(&stage, Some(&good), "/all").as_deref(), Ok(OK));
    partners.revoke(&["partner"]);
    stage.gateway().reload();
    stage.until_taken(1);
    assert!(asked(&stage, Some(&good), "/all").is_err());
}

#[test]
fn what_was_withdrawn_is_shut_out_although_ticket_keys_are_at_fault() {
    let partners = Partners::new();
    let good = partners.client("partner");
    let thumbprint = partners.thumbprint("partner");
    let (_raw, mut scene) = scene(partners.written("require", ""), &thumbprint);
    let keys = partners.path("tickets");
    fs::write(&keys, "a key of at least thirty-two characters").expect("written");
    let file = format!("ticketKeys: [{{ file: '{}' }}]", keys.display());
    scene.tls_more = format!(", {file}");
    let stage = scene.start();
    assert_eq!(asked(&stage, Some(&good), "/all").as_deref(), Ok(OK));
    fs::write(&keys, "short").expect("written");
    partners.revoke(&["partner"]);
    stage.gateway().reload();
    stage.until_refused(1);
    assert!(asked(&stage, Some(&good), "/all").is_err());
}

#[test]
fn a_list_that_is_out_of_date_is_told_before_callers_wonder() {
    let (partners, good, _raw, stage) = requiring();
    let name = "clientCertificates/";
    assert!(!stage.admin("/readyz?verbose").contains(name));
    partners.openssl("ca -config ca.cnf -keyfile ca.key -cert ca.crt -gencrl -out ca.crl -crl_lastupdate 20200101000000Z -crl_nextupdate 20200201000000Z");
    stage.gateway().reload();
    stage.until_taken(1);
    let answer = stage.admin("/readyz?verbose");
    let line = answer.lines().find(|line| line.contains(name));
    let line = line.unwrap_or_else(|| panic!("{answer}"));
    assert!(
        line.contains("[!]") && line.contains("out of date"),
        "{line}"
    );
    assert!(asked(&stage, Some(&good), "/all").is_err());
    let (said, code) = portcullis(stage.folder.path(), &["check", "gateway.yaml"]);
    assert!(said.contains("out of date") && code == Some(0), "{said}");
}

#[test]
fn two_lists_of_one_ca_are_refused_for_only_one_would_count() {
    let (partners, good, _raw, stage) = requiring();
    partners.client("withdrawn");
    let empty = fs::read_to_string(partners.path("ca.crl")).expect("read");
    partners.revoke(&["withdrawn"]);
    let full = fs::read_to_string(partners.path("ca.crl")).expect("read");
    fs::write(partners.path("ca.crl"), empty + &full).expect("written");
    stage.gateway().reload();
    stage.until_refused(1);
    let fault = stage.gateway().reloads().borrow().fault.clone();
    let fault = fault.expect("a fault");
    assert!(
        fault.contains("two revocation lists of CN=Partners"),
        "{fault}"
    );
    assert_eq!(asked(&stage, Some(&good), "/all").as_deref(), Ok(OK));
}

#[test]
fn authorities_and_lists_are_taken_up_though_other_changes_wait_for_a_restart() {
    let (partners, good, _raw, stage) = requiring();
    let config = stage.folder.path().join("gateway.yaml");
    let text = fs::read_to_string(&config).expect("read");
    let text = text.replacen("listen:\n", "listen:\n  idleTimeout: 60s\n", 1);
    fs::write(&config, text).expect("written");
    partners.revoke(&["partner"]);
    stage.gateway().reload();
    stage.until_taken(1);
    assert!(asked(&stage, Some(&good), "/all").is_err());
}

#[test]
fn a_certificate_that_cannot_be_read_is_not_taken_for_none() {
    let partners = Partners::new();
    partners.openssl("req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout big.key -out big.csr -subj /CN=big");
    fs::write(partners.path("use"), "extendedKeyUsage=clientAuth\n").expect("written");
    let serial = "0x1234567890123456789012345678901234567890abcd";
    partners.openssl(&format!("x509 -req -in big.csr -CA ca.crt -CAkey ca.key -set_serial {serial} -out big.crt -days 30 -extfile use"));
    let big = partners.read("big");
    let thumbprint = partners.thumbprint("big");
    let (_raw, scene) = scene(partners.written("request", ""), &thumbprint);
    let stage = scene.start();
    assert!(asked(&stage, Some(&big), "/all").is_err());
}

/// Asks a gateway behind a platform, with a certificate in a field.
fn passed_on(stage: &Stage, path: &str, field: &str) -> (String, String) {
    let mut stream = TcpStream::connect(stage.address).expect("connected");
    let said = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{field}Connection: close\r\n\r\n",
        stage.portal_token()
    );
    stream.write_all(said.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let reason = answer.split("\"reason\":\"").nth(1).unwrap_or_default();
    let reason = reason.split('"').next().unwrap_or_default().to_owned();
    (answer.chars().take(OK.len()).collect(), reason)
}

fn xfcc(certificate: &Certificate) -> String {
    let coded = certificate.cert_pem.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    let coded: String = coded.collect();
    format!("X-Forwarded-Client-Cert: Hash=00;Cert=\"{coded}\"\r\n")
}

#[test]
fn a_certificate_that_the_platform_passes_on_is_judged_here_and_not_passed_further() {
    let partners = Partners::new();
    let good = partners.client("partner");
    let withdrawn = partners.client("withdrawn");
    partners.revoke(&["withdrawn"]);
    let thumbprint = partners.thumbprint("partner");
    let header = ", header: x-forwarded-client-cert";
    let (raw, scene) = scene(partners.written("require", header), &thumbprint);
    let stranger = scene.world.ca.certificate(&["partner"]).expect("made");
    let stage = scene.platform().start();
    for (field, path, expected) in [
        (xfcc(&good), "/one", (OK, "")),
        (xfcc(&good), "/partners", (OK, "")),
        (String::new(), "/all", (FORBIDDEN, "certificate-missing")),
        (xfcc(&stranger), "/all", (FORBIDDEN, "certificate-invalid")),
        (xfcc(&withdrawn), "/all", (FORBIDDEN, "certificate-invalid")),
        (
            format!("X-Forwarded-Client-Cert: Hash={thumbprint}\r\n"),
            "/one",
            (FORBIDDEN, "certificate-invalid"),
        ),
        (
            xfcc(&good) + &xfcc(&good),
            "/one",
            (FORBIDDEN, "certificate-invalid"),
        ),
    ] {
        let (line, reason) = passed_on(&stage, path, &field);
        assert_eq!((line.as_str(), reason.as_str()), expected, "{path} {field}");
    }
    for request in raw.seen().requests {
        let request = request.to_ascii_lowercase();
        assert!(!request.contains("client-cert"), "{request}");
    }
    // What was judged good is withdrawn.
    partners.revoke(&["partner"]);
    stage.gateway().reload();
    stage.until_taken(1);
    let (line, reason) = passed_on(&stage, "/one", &xfcc(&good));
    assert_eq!(
        (line.as_str(), reason.as_str()),
        (FORBIDDEN, "certificate-invalid")
    );
}

#[test]
fn a_field_of_somebody_who_may_not_speak_for_callers_says_nothing() {
    let partners = Partners::new();
    let good = partners.client("partner");
    let thumbprint = partners.thumbprint("partner");
    let listen = partners.written("request", ", header: x-arr-clientcert")
        + "  trustedHops: { networks: [192.0.2.0/24] }\n";
    let (_raw, scene) = scene(listen, &thumbprint);
    let stage = scene.start();
    let der: String = good
        .cert_pem
        .lines()
        .filter(|line| !line.starts_with("---"))
        .collect();
    let field = format!("X-ARR-ClientCert: {der}\r\n");
    let token = format!("Authorization: Bearer {}\r\n{field}", stage.portal_token());
    let shaken = Caller::new(&stage, "localhost").shake(stage.address);
    let answer = shaken
        .expect("a handshake")
        .get("/one", &token)
        .expect("an answer");
    assert!(answer.starts_with(FORBIDDEN), "{answer}");
}

fn portcullis(folder: &Path, arguments: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .output()
        .expect("the command");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (said, output.status.code())
}

#[test]
fn tests_explanations_and_replays_know_certificates_as_the_gateway_does() {
    let partners = Partners::new();
    let (good, other) = (partners.client("partner"), partners.client("other"));
    let thumbprint = partners.thumbprint("partner");
    let (_raw, mut scene) = scene(partners.written("request", ""), &thumbprint);
    scene.more += "telemetry: { decisionLog: { path: decisions.jsonl } }\n";
    let stage = scene.start();
    assert_eq!(asked(&stage, Some(&good), "/one").as_deref(), Ok(OK));
    assert_eq!(
        asked(&stage, Some(&other), "/one").as_deref(),
        Ok(FORBIDDEN)
    );
    let folder = stage.folder.path();
    let log = folder.join("decisions.jsonl");
    stage.until("the decisions", |_| {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.lines().count() == 2
    });
    let line = fs::read_to_string(&log).expect("read");
    let recorded: serde_json::Value =
        serde_json::from_str(line.lines().next().expect("a line")).expect("JSON");
    assert_eq!(recorded["certificate"]["thumbprint"], thumbprint.as_str());
    assert_eq!(recorded["certificate"]["subject"], "CN=partner,O=Fabrikam");

    let (said, code) = portcullis(
        folder,
        &["replay", "--policies", "policy.yaml", "decisions.jsonl"],
    );
    assert_eq!(code, Some(0), "{said}");
    let changed = fs::read_to_string(folder.join("policy.yaml")).expect("read");
    let changed = changed.replace(&thumbprint, &partners.thumbprint("other"));
    fs::create_dir(folder.join("next")).expect("a folder");
    fs::write(folder.join("next/policy.yaml"), changed).expect("written");
    let (said, code) = portcullis(folder, &["replay", "--policies", "next", "decisions.jsonl"]);
    assert_eq!(code, Some(1), "{said}");
    let both = "0 decided as before, 1 would be refused, 1 would be let in";
    assert!(said.contains(both), "{said}");

    let token = stage.portal_token();
    fs::write(folder.join("token"), token).expect("written");
    let path = partners.path("partner.crt").display().to_string();
    let wrong = partners.path("other.crt").display().to_string();
    for (certificate, code) in [(&path, Some(0)), (&wrong, Some(1))] {
        let (said, got) = portcullis(
            folder,
            &[
                "explain",
                "GET",
                "/one",
                "--policies",
                "policy.yaml",
                "--token",
                "token",
                "--certificate",
                certificate,
            ],
        );
        assert_eq!(got, code, "{said}");
        assert!(said.contains("certificate CN="), "{said}");
    }

    let tests = format!(
        "- name: the partner may\n  request: {{ method: GET, path: /one, certificate: {{ thumbprint: {thumbprint} }} }}\n  token: {{ tenant: contoso, app: marketing-portal }}\n  expect: allow\n- name: nobody else may\n  request: {{ method: GET, path: /one, certificate: {{ subject: 'CN=partner,O=Fabrikam' }} }}\n  token: {{ tenant: contoso, app: marketing-portal }}\n  expect: deny\n- name: nor who has none\n  request: {{ method: GET, path: /partners }}\n  token: {{ tenant: contoso, app: marketing-portal }}\n  expect: deny\n"
    );
    fs::create_dir(folder.join("tested")).expect("a folder");
    fs::copy(
        folder.join("policy.yaml"),
        folder.join("tested/policy.yaml"),
    )
    .expect("copied");
    fs::write(folder.join("tested/policy.test.yaml"), tests).expect("written");
    let (said, code) = portcullis(folder, &["test", "tested"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("3 passed") || said.contains("3 tests"),
        "{said}"
    );
}

#[test]
fn what_makes_no_sense_of_certificates_is_refused_with_what_to_write() {
    let partners = Partners::new();
    partners.client("partner");
    let folder = tempfile::tempdir().expect("a folder");
    let ca = partners.path("ca.crt").display().to_string();
    let key = partners.path("partner.key").display().to_string();
    fs::write(folder.path().join("policies.yaml"), "routes: {}\n").expect("written");
    for (listen, says) in [
        (
            format!("tls: platform, clientCertificates: {{ mode: require, ca: '{ca}' }}"),
            "x-forwarded-client-cert",
        ),
        (
            format!(
                "tls: {{ certificates: [{{ cert: '{ca}', key: '{key}' }}] }}, clientCertificates: {{ mode: require, ca: '{ca}', header: x-arr-clientcert }}"
            ),
            "could write any certificate",
        ),
        (
            format!(
                "tls: platform, clientCertificates: {{ mode: demand, ca: '{ca}', header: x-arr-clientcert }}"
            ),
            "`require`",
        ),
        (
            format!(
                "tls: platform, clientCertificates: {{ mode: require, ca: '{key}', header: x-arr-clientcert }}"
            ),
            "it holds no certificate",
        ),
        (
            format!(
                "tls: platform, clientCertificates: {{ mode: require, ca: '{ca}', crl: ['{ca}'], header: x-arr-clientcert }}"
            ),
            "no revocation list",
        ),
    ] {
        let text =
            format!("listen: {{ address: '127.0.0.1:0', {listen} }}\npolicies: policies.yaml\n");
        fs::write(folder.path().join("gateway.yaml"), text).expect("written");
        let (said, code) = portcullis(folder.path(), &["check", "gateway.yaml"]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(says), "{listen}: {said}");
    }
    for (condition, says) in [
        (
            "connection.certificateThumbprint == 'AB:CD'",
            "64 hexadecimal digits",
        ),
        (
            "connection.certificateThumbprint == '0123456789012345678901234567890123456789'",
            "SHA-1",
        ),
        ("connection.certificateSubject == 'partner'", "RFC 4514"),
    ] {
        let text = format!(
            "audiences: [api://x]\ntenants: {{ c: 11111111-1111-1111-1111-111111111111 }}\nbackends: {{ b: {{ http: 'http://127.0.0.1:1', credential: none }} }}\nroutes: {{ r: {{ match: {{ methods: [GET], path: /a }}, backend: b, allow: [{{ tenants: [c], when: \"{condition}\" }}] }} }}\n"
        );
        fs::write(folder.path().join("policies.yaml"), text).expect("written");
        let (said, _) = portcullis(folder.path(), &["check", "policies.yaml"]);
        assert!(said.contains(says), "{condition}: {said}");
    }
}
