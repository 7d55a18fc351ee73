//! Callers as they are: curl over both protocols, and MSAL for Python, which gets its token from the
//! demo's Entra.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use portcullis::demo::backend::{TRIGGER, sas_query};
use portcullis::demo::names::{
    AUDIENCE, CONTOSO, FUNCTION_RESOURCE, LOGIC_APP_RESOURCE, MARKETING_PORTAL, NIGHTLY_BATCH,
};
use portcullis::demo::world::CLIENT_SECRET;
use serde_json::Value;

use crate::support::{Scene, Stage};

/// The Function and the Logic App, as the portal may call them.
fn azure() -> Stage {
    let scene = Scene::new();
    let logic_app = format!("{}{TRIGGER}", scene.world.logic_app.url());
    let resource = LOGIC_APP_RESOURCE;
    scene
        .function("guest-api")
        .backend(
            "invite-flow",
            &format!("logicApp: '{logic_app}', credential: {{ managedIdentity: {{ resource: '{resource}' }} }}, ca: ca.crt"),
        )
        .portal_route("guests", "GET, HEAD, POST", "/guests/{*rest}", "guest-api")
        .portal_route("invite", "POST", "/invitations", "invite-flow")
        .start()
}

/// What curl printed of an answer.
struct Curled {
    /// Version and status, as `2 200`.
    end: String,
    head: String,
    body: String,
}

/// Calls the gateway with curl, the only thing given being its CA.
fn curl(stage: &Stage, protocol: &str, target: &str, arguments: &[&str]) -> Curled {
    let folder = stage.folder.path();
    let port = stage.address.port();
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--noproxy",
            "*",
            protocol,
        ])
        .args([
            "--write-out",
            "%{http_version} %{http_code}",
            "--dump-header",
        ])
        .arg(folder.join("head"))
        .arg("--output")
        .arg(folder.join("body"))
        .arg("--cacert")
        .arg(folder.join("ca.crt"))
        .args(arguments)
        .arg(format!("https://localhost:{port}{target}"))
        .output()
        .expect("curl, which tests/run installs");
    assert!(output.status.success(), "{output:?}");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let curled = Curled {
        end: String::from_utf8(output.stdout).expect("text"),
        head: read("head").to_lowercase(),
        body: read("body"),
    };
    // The next call must not find what this one left.
    for name in ["head", "body"] {
        let _ = std::fs::remove_file(folder.join(name));
    }
    curled
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

#[test]
fn curl_calls_through_the_gateway_over_both_protocols() {
    let stage = azure();
    let token = bearer(&stage.portal_token());
    for (protocol, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let calls = stage.world.function.seen().len();
        let invited = stage.world.logic_app.seen().len();
        let get = curl(
            &stage,
            protocol,
            "/guests/7?x=1&code=planted",
            &["-H", &token],
        );
        assert_eq!(get.end, format!("{version} 200"));
        let echo: Value = serde_json::from_str(&get.body).expect("the Function's JSON");
        assert_eq!(echo["target"], "/guests/7?x=1");
        assert!(get.head.contains("x-request-id: "), "{}", get.head);

        let head = curl(&stage, protocol, "/guests/7", &["-I", "-H", &token]);
        assert_eq!(head.end, format!("{version} 200"));
        let link = format!("/invitations?{}", sas_query());
        let posted = curl(&stage, protocol, &link, &["-d", "{}", "-H", &token]);
        assert_eq!(posted.end, format!("{version} 200"));
        assert_eq!(posted.body, r#"{"invited":true}"#);

        // Large enough that curl asks with `Expect: 100-continue` and has to wait for windows.
        let upload = stage.folder.path().join("upload");
        std::fs::write(&upload, vec![b'x'; 3 << 20]).expect("written");
        let upload = format!("@{}", upload.display());
        let arguments = ["--data-binary", &upload, "-H", &token];
        let large = curl(&stage, protocol, "/guests/upload", &arguments);
        assert_eq!(large.end, format!("{version} 200"));

        let seen = stage.world.function.seen().split_off(calls);
        let methods: Vec<&str> = seen.iter().map(|seen| seen.method.as_str()).collect();
        assert_eq!(methods, ["GET", "HEAD", "POST"]);
        assert_eq!(seen[2].body.len(), 3 << 20);
        let seen: Vec<_> = seen
            .into_iter()
            .map(|seen| (seen, FUNCTION_RESOURCE))
            .chain(
                stage
                    .world
                    .logic_app
                    .seen()
                    .split_off(invited)
                    .into_iter()
                    .map(|seen| (seen, LOGIC_APP_RESOURCE)),
            )
            .collect();
        assert_eq!(seen.len(), 4);
        for (seen, resource) in seen {
            let presented = seen.bearer().expect("a token");
            let issued = stage.world.identity.issued().resource(presented);
            assert_eq!(issued.as_deref(), Some(resource), "{seen:?}");
            assert!(!token.contains(presented));
        }
    }
}

#[test]
fn curl_is_refused_over_both_protocols_with_an_answer_that_says_why() {
    let stage = azure();
    let token = bearer(&stage.portal_token());
    let stranger = stage.portal().claim("azp", NIGHTLY_BATCH);
    let stranger = bearer(&stage.world.entra.sign(&stranger).expect("signed"));
    let link = format!("/invitations?{}", sas_query());
    for (protocol, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let rows: [(&str, Vec<&str>, &str, &str); 6] = [
            (&link, vec!["-d", "{}"], "401", "token-missing"),
            (
                "/guests/7",
                vec!["-u", "user:planted"],
                "401",
                "scheme-not-supported",
            ),
            (
                "/guests/7",
                vec!["-H", "Authorization: Bearer planted"],
                "401",
                "token-malformed",
            ),
            (
                "/invitations",
                vec!["-d", "{}", "-H", &stranger],
                "403",
                "app-not-allowed",
            ),
            (
                "/invitations",
                vec!["-H", &token],
                "405",
                "method-not-allowed",
            ),
            (
                "/guests/..%2fadmin",
                vec!["--path-as-is", "-H", &token],
                "400",
                "ambiguous-path",
            ),
        ];
        for (target, arguments, status, reason) in rows {
            let answer = curl(&stage, protocol, target, &arguments);
            assert_eq!(answer.end, format!("{version} {status}"), "{reason}");
            let problem: Value = serde_json::from_str(&answer.body).expect("a problem");
            assert_eq!(problem["reason"], reason);
            assert!(
                answer
                    .head
                    .contains("content-type: application/problem+json"),
                "{reason}"
            );
            let challenged = answer.head.contains("www-authenticate: bearer realm=");
            assert_eq!(challenged, status == "401", "{reason}");
        }
    }
    assert_eq!(
        stage.world.function.seen().len() + stage.world.logic_app.seen().len(),
        0
    );
}

/// The Python that has the libraries which the tests call by.
pub fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("PORTCULLIS_TEST_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| root.join("target/python/bin/python"));
    assert!(
        python.exists(),
        "there is no {}: run tests/run, which installs MSAL and websockets for Python there, or name a Python that has them in PORTCULLIS_TEST_PYTHON",
        python.display()
    );
    python
}

/// Asks the demo's Entra for a token by MSAL, and returns MSAL's answer.
fn msal(stage: &Stage, app: &str, secret: &str, scope: &str) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/msal_client.py");
    let mut command = Command::new(python());
    // What this machine says of proxies and CAs is not about Entra, and requests heeds it before `verify`.
    for name in [
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ] {
        command.env_remove(name);
    }
    let output: Output = command
        .arg(script)
        .arg(format!("{}/{CONTOSO}", stage.world.entra.authority()))
        .args([app, scope])
        .arg(stage.folder.path().join("ca.crt"))
        .env("CLIENT_SECRET", secret)
        .output()
        .expect("Python");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn msal_for_python_obtains_tokens_that_the_gateway_knows() {
    let stage = azure();
    let scope = format!("{AUDIENCE}/.default");
    let answer = msal(&stage, MARKETING_PORTAL, CLIENT_SECRET, &scope);
    let token = answer["access_token"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["cached"], true, "MSAL keeps it until it expires");
    let call = stage.call("POST", "/invitations").bearer(token).body("{}");
    let allowed = call.send();
    assert_eq!(allowed.verdict(), "200");
    let record = stage.record_of(&allowed);
    assert_eq!(record["appName"], "marketing-portal");
    assert_eq!(record["tokenVersion"], "v2");
    for protocol in ["--http1.1", "--http2"] {
        let curled = curl(&stage, protocol, "/guests/7", &["-H", &bearer(token)]);
        assert!(
            curled.end.ends_with(" 200"),
            "{} {}",
            curled.end,
            curled.body
        );
    }

    // Another app's token is as good, and not allowed.
    let other = msal(&stage, NIGHTLY_BATCH, CLIENT_SECRET, &scope);
    let other = other["access_token"].as_str().expect("a token");
    let refused = stage.call("POST", "/invitations").bearer(other).send();
    assert_eq!(refused.verdict(), "403 app-not-allowed");
    let elsewhere = msal(
        &stage,
        MARKETING_PORTAL,
        CLIENT_SECRET,
        "api://another/.default",
    );
    let elsewhere = elsewhere["access_token"].as_str().expect("a token");
    let refused = stage.call("POST", "/invitations").bearer(elsewhere).send();
    assert_eq!(refused.verdict(), "401 audience-mismatch");
}

#[test]
fn the_demos_entra_refuses_what_entra_refuses() {
    let stage = azure();
    let scope = format!("{AUDIENCE}/.default");
    for (app, secret, scope, error, code) in [
        (
            MARKETING_PORTAL,
            "wrong",
            scope.as_str(),
            "invalid_client",
            7_000_215,
        ),
        (
            CONTOSO,
            CLIENT_SECRET,
            scope.as_str(),
            "unauthorized_client",
            700_016,
        ),
        (
            MARKETING_PORTAL,
            CLIENT_SECRET,
            AUDIENCE,
            "invalid_scope",
            1_002_012,
        ),
    ] {
        let answer = msal(&stage, app, secret, scope);
        assert_eq!(answer["error"], error, "{answer}");
        assert_eq!(answer["error_codes"][0], code, "{answer}");
    }
}
