//! A long mixed run, after which everything that the gateway said is searched for every secret that there
//! is: answers, log, events, decisions, counters, readiness.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use portcullis::clock::{Clock as _, SystemClock};
use portcullis::demo;
use portcullis::demo::backend::{ASYNC_TRIGGER, FUNCTION_KEY, SAS_SIGNATURE, TRIGGER, sas_query};
use portcullis::demo::entra::App;
use portcullis::demo::identity::IDENTITY_HEADER;
use portcullis::demo::mint::damaged;
use portcullis::demo::names::{CONTOSO, FUNCTION_RESOURCE, LOGIC_APP_RESOURCE};
use portcullis::entra::Version;
use portcullis::net::client::{Bounds, Client};

use crate::support::{RawBackend, Scene};

const GATEWAY_APP: &str = "cccccccc-0000-0000-0000-000000000009";
const SEAL_KEY: &str = "planted-seal-key-0123456789abcdef0123";
const FINGERPRINT_KEY: &str = "planted-fingerprint-key-0123456789abcdef";
const APP_SECRET: &str = "planted-app-secret";

/// A gateway in front of everything that the demo has, with every kind of credential.
fn scene(keys: &Path) -> (Scene, RawBackend) {
    let mut scene = Scene::new();
    let raw = RawBackend::with_links(&scene);
    let world = &scene.world;
    world.entra.register(
        GATEWAY_APP,
        App {
            secret: APP_SECRET.to_owned(),
            roles: Vec::new(),
            version: Version::V2,
        },
    );
    world.entra.federate(GATEWAY_APP);
    let federated = world.entra.federated_token().expect("signed");
    for (name, text) in [
        ("seal", SEAL_KEY),
        ("fingerprint", FINGERPRINT_KEY),
        ("federated", &federated),
        ("plain", "planted-file-key"),
    ] {
        fs::write(keys.join(name), text).expect("written");
    }
    let (flow, vault) = (world.logic_app.url(), world.vault.url());
    world.vault.set("guest-key", FUNCTION_KEY);
    world.vault.set("app-secret", APP_SECRET);
    world
        .vault
        .set("flow-sas", &format!("{flow}{TRIGGER}?{}", sas_query()));
    world.vault.set("disabled", "planted-disabled");
    world.vault.disable("disabled", true);
    let (function, keyed, raw_url) = (world.function.url(), world.keyed_function.url(), raw.url());
    let keys = keys.display().to_string();
    scene.more += &format!(
        "keyVault: {{ ca: ca.crt }}\nseal: {{ keys: [{{ file: {keys}/seal }}] }}\ntelemetry: {{ decisionLog: {{ path: decisions.jsonl }}, fingerprintKey: {{ file: {keys}/fingerprint }} }}\n"
    );
    let portal = "allow: [{ tenants: [contoso], apps: [marketing-portal] }]";
    let backends = [
        (
            "flow",
            format!(
                "logicApp: '{flow}{ASYNC_TRIGGER}', credential: {{ managedIdentity: {{ resource: '{LOGIC_APP_RESOURCE}' }} }}, ca: ca.crt"
            ),
        ),
        (
            "signed",
            format!(
                "logicApp: '{flow}{TRIGGER}', credential: {{ sas: {{ keyVault: '{vault}/secrets/flow-sas' }} }}, ca: ca.crt"
            ),
        ),
        (
            "tokened",
            format!(
                "function: '{function}', credential: {{ managedIdentity: {{ resource: '{FUNCTION_RESOURCE}' }} }}, ca: ca.crt"
            ),
        ),
        (
            "workload",
            format!(
                "function: '{function}', credential: {{ workloadIdentity: {{ resource: '{FUNCTION_RESOURCE}', tenantId: {CONTOSO}, clientId: {GATEWAY_APP}, tokenFile: '{keys}/federated' }} }}, ca: ca.crt"
            ),
        ),
        (
            "app",
            format!(
                "function: '{function}', credential: {{ app: {{ resource: '{FUNCTION_RESOURCE}', tenantId: {CONTOSO}, clientId: {GATEWAY_APP}, secret: {{ keyVault: '{vault}/secrets/app-secret' }} }} }}, ca: ca.crt"
            ),
        ),
        (
            "keyed",
            format!(
                "function: '{keyed}', credential: {{ functionKey: {{ keyVault: '{vault}/secrets/guest-key' }} }}, ca: ca.crt"
            ),
        ),
        (
            "missing",
            format!(
                "function: '{keyed}', credential: {{ functionKey: {{ keyVault: '{vault}/secrets/disabled' }} }}, ca: ca.crt"
            ),
        ),
        (
            "legacy",
            format!(
                "http: '{raw_url}', credential: {{ header: {{ name: x-api-key, value: {{ file: '{keys}/plain' }} }} }}"
            ),
        ),
    ];
    for (name, rest) in &backends {
        scene = scene.backend(name, rest).route(
            name,
            &format!("match: {{ methods: [GET, POST], path: '/{name}/{{*rest}}' }}, backend: {name}, rewrite: '{}', {portal}", match *name {
                "flow" | "signed" => "",
                _ => "/api/{rest}",
            })
            .replace(", rewrite: ''", ""),
        );
    }
    let scene = scene
        .route("orchestrate", &format!("match: {{ methods: [POST], path: '/orchestrate/{{x}}' }}, backend: tokened, rewrite: '/api/orchestrators/{{x}}', sealBody: true, {portal}"))
        .route("strict", &format!("match: {{ methods: [GET], path: /strict }}, backend: legacy, sas: reject, {portal}"));
    (scene, raw)
}

/// Everything that callers were answered.
struct Answers {
    client: Client,
    base: String,
    text: String,
    count: usize,
}

impl Answers {
    async fn send(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> Option<String> {
        let bounds = Bounds {
            timeout: Duration::from_secs(20),
            max_body: 1 << 20,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{target}", self.base));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::from_static(b"{}")).expect("a request");
        let answer = self.client.send(request, bounds).await.expect("an answer");
        let body = String::from_utf8_lossy(answer.body());
        self.count += 1;
        self.text += &format!("{} {:?} {body}\n", answer.status(), answer.headers());
        let location = answer.headers().get("location")?.to_str().ok()?;
        Some(
            location
                .strip_prefix(&self.base)
                .unwrap_or(location)
                .to_owned(),
        )
    }
}

/// Good requests and bad ones, with keys in every place that a caller can put one.
async fn traffic(answers: &mut Answers, good: &str, bad: &[String]) {
    let bearer = format!("Bearer {good}");
    let authorized = ("authorization", bearer.as_str());
    for target in [
        "/flow/x",
        "/signed/x",
        "/tokened/guests",
        "/workload/guests",
        "/app/guests",
        "/keyed/guests",
        "/missing/guests",
        "/legacy/x",
        "/strict",
        "/nothing",
        "/tokened/..%2fadmin",
        "/orchestrate/Hello",
    ] {
        let query = format!("?sig={SAS_SIGNATURE}&code=planted-callers-code&api-version=1");
        for (method, target) in [
            ("GET", target.to_owned()),
            ("POST", target.to_owned()),
            ("POST", format!("{target}{query}")),
        ] {
            let mut next = answers.send(method, &target, &[authorized]).await;
            for _ in 0..4 {
                let Some(sealed) = next.take().filter(|url| url.starts_with("/.sealed/")) else {
                    break;
                };
                answers.send("GET", &sealed, &[]).await;
                answers
                    .send(
                        "GET",
                        &sealed.replace("/.sealed/A", "/.sealed/B"),
                        &[authorized],
                    )
                    .await;
                next = answers.send("GET", &sealed, &[authorized]).await;
            }
        }
        answers.send("GET", target, &[]).await;
        for token in bad {
            answers
                .send(
                    "GET",
                    target,
                    &[("authorization", &format!("Bearer {token}"))],
                )
                .await;
        }
        for name in [
            "x-functions-key",
            "x-ms-client-principal",
            "x_functions_key",
        ] {
            answers
                .send(
                    "GET",
                    target,
                    &[authorized, (name, "planted-callers-header")],
                )
                .await;
        }
        answers
            .send(
                "GET",
                target,
                &[("authorization", "Basic cGxhbnRlZC1jYWxsZXJzLWJhc2lj")],
            )
            .await;
    }
}

/// Everything that must never be said.
fn secrets(
    scene: &portcullis::demo::world::World,
    tokens: &[String],
) -> BTreeSet<(String, String)> {
    let mut secrets: BTreeSet<(String, String)> = scene.secrets().into_iter().collect();
    for (what, secret) in [
        ("the sealing key", SEAL_KEY),
        ("the key of fingerprints", FINGERPRINT_KEY),
        ("the file's key", "planted-file-key"),
        ("a caller's code", "planted-callers-code"),
        ("a caller's header", "planted-callers-header"),
        ("a caller's Basic", "cGxhbnRlZC1jYWxsZXJzLWJhc2lj"),
        ("anything planted", "planted-"),
    ] {
        secrets.insert((what.to_owned(), secret.to_owned()));
    }
    for token in tokens {
        secrets.insert(("a caller's token".to_owned(), token.clone()));
        // A signature alone is enough to be a leak.
        let signature = token.rsplit('.').next().expect("a part");
        secrets.insert(("a token's signature".to_owned(), signature.to_owned()));
    }
    secrets
}

fn assert_silent(place: &str, text: &str, secrets: &BTreeSet<(String, String)>) {
    assert!(!text.is_empty(), "nothing was said in {place}");
    for (what, secret) in secrets {
        if let Some(at) = text.find(secret.as_str()) {
            let around = &text[text.floor_char_boundary(at.saturating_sub(120))..at];
            panic!("{what} in {place}, behind {around}");
        }
    }
}

fn tokens(
    stage_portal: impl Fn() -> String,
    sign: impl Fn(&str) -> String,
) -> (String, Vec<String>) {
    let good = stage_portal();
    (
        good.clone(),
        vec![
            damaged(&good),
            sign("exp"),
            sign("aud"),
            "planted-no-token".to_owned(),
        ],
    )
}

#[test]
fn no_secret_of_a_long_mixed_run_is_in_answers_log_decisions_or_on_the_admin_address() {
    let keys = tempfile::tempdir().expect("a folder");
    let (scene, _raw) = scene(keys.path());
    let stage = scene.start_unready();
    stage.until("credentials", |stage| {
        stage
            .admin("/readyz?verbose")
            .matches("[+] credential/")
            .count()
            == 6
    });
    stage.world.function.set_polls(1);
    let (good, bad) = tokens(
        || stage.portal_token(),
        |claim| {
            let token = match claim {
                "exp" => stage.portal().claim("exp", stage.world.entra.now() - 3600),
                _ => stage.portal().claim("aud", "api://another"),
            };
            stage.world.entra.sign(&token).expect("signed")
        },
    );
    let mut answers = Answers {
        client: demo::client(&stage.world).expect("a client"),
        base: format!("https://localhost:{}", stage.address.port()),
        text: String::new(),
        count: 0,
    };
    stage.runtime.block_on(traffic(&mut answers, &good, &bad));
    // The same while everything that can fail does.
    stage.world.identity.set_fault(Some(500));
    stage.world.vault.set_fault(Some(403));
    stage.clock.advance(Duration::from_hours(30));
    let late = stage.portal_token();
    stage
        .runtime
        .block_on(traffic(&mut answers, &late, &bad[..1]));

    let mut all = bad;
    all.extend([good, late]);
    let secrets = secrets(&stage.world, &all);
    assert!(secrets.len() > 40, "{}", secrets.len());
    assert_silent("the answers", &answers.text, &secrets);
    for page in ["/metrics", "/policies", "/readyz?verbose"] {
        assert_silent(page, &stage.admin(page), &secrets);
    }
    let log = stage.log.clone();
    let folder = stage.folder.path().join("decisions.jsonl");
    stage.until("the log", |stage| stage.log.lines().len() == answers.count);
    assert_silent("the log", &log.lines().join("\n"), &secrets);
    assert_silent(
        "the decisions",
        &fs::read_to_string(folder).expect("decisions"),
        &secrets,
    );
    assert!(answers.text.contains("/.sealed/"), "nothing was sealed");
}

/// The command itself, and what it writes to its two outputs.
struct Process {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(scene: &Scene) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = scene.write(folder.path());
        let file = |name: &str| File::create(folder.path().join(name)).expect("a file");
        let child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["run", "--config"])
            .arg(config)
            .env("IDENTITY_ENDPOINT", scene.world.identity.endpoint())
            .env("IDENTITY_HEADER", IDENTITY_HEADER)
            .env("RUST_BACKTRACE", "full")
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .expect("started");
        Self { child, folder }
    }

    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn until(&self, what: &str, fits: impl Fn(&str) -> bool) {
        let begun = SystemClock.now().instant;
        while !fits(&self.said("stderr")) {
            let waited = SystemClock.now().instant.duration_since(begun);
            assert!(
                waited.as_secs() < 30,
                "waited in vain for {what}: {}",
                self.said("stderr")
            );
            std::thread::yield_now();
        }
    }

    fn port(&self) -> u16 {
        let said = self.said("stderr");
        let at = said
            .split("listening on 127.0.0.1:")
            .nth(1)
            .expect("an address");
        let digits: String = at.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a port")
    }
}

#[test]
fn no_secret_is_in_what_the_command_writes_to_its_outputs() {
    let keys = tempfile::tempdir().expect("a folder");
    let (scene, _raw) = scene(keys.path());
    let process = Process::start(&scene);
    process.until("the start", |said| said.contains("listening on"));
    process.until("the fault", |said| said.contains("credential/missing"));
    let stage_portal = || {
        let token = demo::mint::Token::app(
            Version::V2,
            CONTOSO,
            demo::names::MARKETING_PORTAL,
            demo::names::AUDIENCE,
            scene.world.entra.now(),
        );
        scene.world.entra.sign(&token).expect("signed")
    };
    let (good, bad) = tokens(stage_portal, |_| stage_portal());
    let mut answers = Answers {
        client: demo::client(&scene.world).expect("a client"),
        base: format!("https://localhost:{}", process.port()),
        text: String::new(),
        count: 0,
    };
    scene.runtime.block_on(traffic(&mut answers, &good, &bad));
    // Somebody writes secrets where they do not belong, and the reload is refused.
    let policy = process.folder.path().join("policy.yaml");
    let text = fs::read_to_string(&policy).expect("a policy");
    let faulty = text.replace(
        "x-api-key, value: {",
        "x-api-key, value: planted-literal, x: {",
    );
    fs::write(&policy, faulty).expect("written");
    process.until("the refusal", |said| said.contains("reload-refused"));
    fs::write(keys.path().join("seal"), "planted-short").expect("written");
    fs::write(&policy, text).expect("written");
    process.until("the second refusal", |said| {
        said.matches("reload-refused").count() == 2
    });

    let mut all = bad;
    all.push(good);
    let secrets = secrets(&scene.world, &all);
    for name in ["stdout", "stderr", "decisions.jsonl"] {
        assert_silent(name, &process.said(name), &secrets);
    }
    assert_silent("the answers", &answers.text, &secrets);
    assert!(process.said("stderr").contains("identity-source"));
}
