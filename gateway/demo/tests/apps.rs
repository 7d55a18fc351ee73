//! The token endpoint.

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::{Stage, told};
use crate::demo::entra::App;
use crate::demo::mint::{Key, Token, damaged};
use crate::demo::names::{CONTOSO, FUNCTION_RESOURCE};
use crate::demo::proof::{ASSERTION_TYPE, EXCHANGE_AUDIENCE, thumbprint};
use crate::demo::world::CLIENT_SECRET;
use crate::entra::Version;

const APP: &str = "aaaaaaaa-0000-0000-0000-00000000000a";

fn register(stage: &Stage, secret: &str) {
    let app = App {
        secret: secret.to_owned(),
        roles: Vec::new(),
        version: Version::V2,
    };
    stage.world.entra.register(APP, app);
}

fn endpoint(stage: &Stage) -> String {
    format!(
        "{}/{CONTOSO}/oauth2/v2.0/token",
        stage.world.entra.authority()
    )
}

/// Asks for a token for the Function; the verdict is the status and Entra's number.
async fn ask(stage: &Stage, proof: &[(&str, &str)]) -> (String, Value) {
    let scope = format!("{FUNCTION_RESOURCE}/.default");
    let mut form = vec![
        ("grant_type", "client_credentials"),
        ("client_id", APP),
        ("scope", &scope),
    ];
    form.extend(proof);
    let form: Vec<String> = form
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let answer = stage
        .send(http::Method::POST, &endpoint(stage), &kind, &form.join("&"))
        .await;
    let body = told(&answer);
    let status = answer.status().as_u16();
    let verdict = match body.pointer("/error_codes/0") {
        Some(code) => format!("{status} {code}"),
        None => status.to_string(),
    };
    (verdict, body)
}

async fn assert_with(stage: &Stage, assertion: &str) -> (String, Value) {
    let proof = [
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion),
    ];
    ask(stage, &proof).await
}

#[tokio::test]
async fn a_service_account_token_is_exchanged_for_a_token_that_the_function_takes() {
    let stage = Stage::new().await;
    register(&stage, "");
    let entra = &stage.world.entra;
    let token = entra.federated_token().expect("a token");
    assert_eq!(assert_with(&stage, &token).await.0, "401 700213");
    entra.federate(APP);
    entra.set_refresh_in(Some(1800));
    entra.set_token_lifetime(7200);
    let (verdict, body) = assert_with(&stage, &token).await;
    assert_eq!(verdict, "200");
    assert_eq!(body["expires_in"], 7200);
    assert_eq!(body["refresh_in"], 1800);
    let access = body["access_token"].as_str().expect("a token");
    let issued = stage.world.identity.issued();
    assert_eq!(issued.resource(access).as_deref(), Some(FUNCTION_RESOURCE));
    assert_eq!(issued.identity(access).as_deref(), Some(APP));
    let url = format!("{}/api/guests", stage.world.function.url());
    let bearer = format!("Bearer {access}");
    let answer = stage.get(&url, &[("authorization", &bearer)]).await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_service_account_token_that_has_ended_is_refused() {
    let stage = Stage::new().await;
    register(&stage, "");
    let entra = &stage.world.entra;
    entra.federate(APP);
    let revoked = entra.federated_token().expect("a token");
    entra.revoke_federated(&revoked);
    assert_eq!(assert_with(&stage, &revoked).await.0, "401 700024");
    let old = entra.federated_token().expect("a token");
    stage.clock.advance(std::time::Duration::from_secs(3600));
    assert_eq!(assert_with(&stage, &old).await.0, "401 700024");
    let fresh = entra.federated_token().expect("a token");
    assert_eq!(assert_with(&stage, &fresh).await.0, "200");
    let (verdict, _) = assert_with(&stage, &damaged(&fresh)).await;
    assert_eq!(verdict, "401 700027");
}

#[tokio::test]
async fn a_managed_identity_stands_behind_an_app_only_for_the_exchange() {
    let stage = Stage::new().await;
    register(&stage, "");
    stage.world.entra.federate(APP);
    let issued = stage.world.identity.issued();
    let good = issued.issue(EXCHANGE_AUDIENCE, "system");
    assert_eq!(assert_with(&stage, &good).await.0, "200");
    let other = issued.issue(FUNCTION_RESOURCE, "system");
    assert_eq!(assert_with(&stage, &other).await.0, "400 50027");
}

#[tokio::test]
async fn an_app_proves_itself_in_exactly_one_way() {
    let stage = Stage::new().await;
    stage.world.entra.federate(APP);
    let token = stage.world.entra.federated_token().expect("a token");
    let (assertion, kind) = (
        ("client_assertion", token.as_str()),
        ("client_assertion_type", ASSERTION_TYPE),
    );
    let secret = ("client_secret", CLIENT_SECRET);
    for (name, registered, proof, expected) in [
        ("the secret", CLIENT_SECRET, vec![secret], "200"),
        ("another secret", "another", vec![secret], "401 7000215"),
        ("a secret where none is", "", vec![secret], "401 7000215"),
        ("nothing", "", vec![], "401 7000218"),
        (
            "an empty secret",
            "",
            vec![("client_secret", "")],
            "401 7000218",
        ),
        (
            "an assertion of no type",
            CLIENT_SECRET,
            vec![assertion],
            "400 900144",
        ),
        (
            "both",
            CLIENT_SECRET,
            vec![secret, assertion, kind],
            "400 90023",
        ),
        ("an assertion", CLIENT_SECRET, vec![assertion, kind], "200"),
    ] {
        register(&stage, registered);
        assert_eq!(ask(&stage, &proof).await.0, expected, "{name}");
    }
}

/// A key with a certificate, DER.
fn certified(stage: &Stage) -> (Key, Vec<u8>) {
    let certificate = stage.world.ca.rsa_certificate(&["app.example"]);
    let certificate = certificate.expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).expect("a key");
    let der = CertificateDer::from_pem_slice(certificate.cert_pem.as_bytes());
    let key = Key::from_pkcs8(key.secret_der()).expect("an RSA key");
    (key, der.expect("a certificate").to_vec())
}

fn assertion(stage: &Stage, der: &[u8]) -> Token {
    let now = stage.world.entra.now();
    let mut token = Token {
        header: serde_json::Map::new(),
        claims: serde_json::Map::new(),
    };
    for (name, value) in [
        ("alg", "PS256".to_owned()),
        ("typ", "JWT".to_owned()),
        ("x5t#S256", thumbprint(der)),
    ] {
        token = token.header(name, value);
    }
    for (name, value) in [
        ("aud", json!(endpoint(stage))),
        ("iss", json!(APP)),
        ("sub", json!(APP)),
        ("jti", json!("6f0f9c3e")),
        ("nbf", json!(now)),
        ("exp", json!(now + 600)),
    ] {
        token = token.claim(name, value);
    }
    token
}

#[tokio::test]
async fn an_assertion_is_held_to_the_certificate_and_to_its_claims() {
    let stage = Stage::new().await;
    register(&stage, "");
    let (key, der) = certified(&stage);
    let (other_key, other_der) = certified(&stage);
    let good = || assertion(&stage, &der);
    let signed = |token: Token| token.signed_by(&key).expect("an assertion");
    let before = assert_with(&stage, &signed(good())).await.0;
    assert_eq!(before, "401 700027", "not trusted yet");
    stage.world.entra.trust_certificate(APP, &der);
    let now = stage.world.entra.now();
    let v1 = endpoint(&stage).replace("/v2.0", "");
    let metadata = stage.world.entra.authority();
    for (name, assertion, expected) in [
        ("as it should be", signed(good()), "200"),
        (
            "signed by another key",
            good().signed_by(&other_key).expect("an assertion"),
            "401 700027",
        ),
        (
            "a damaged signature",
            damaged(&signed(good())),
            "401 700027",
        ),
        ("RS256", signed(good().header("alg", "RS256")), "401 700027"),
        (
            "no signature",
            signed(good().header("alg", "none")),
            "401 700027",
        ),
        (
            "a certificate that the app does not have",
            signed(good().header("x5t#S256", thumbprint(&other_der))),
            "401 700027",
        ),
        (
            "for v1's endpoint",
            signed(good().claim("aud", v1)),
            "401 700023",
        ),
        (
            "for the authority",
            signed(good().claim("aud", metadata)),
            "401 700023",
        ),
        (
            "of another app",
            signed(good().claim("iss", CONTOSO)),
            "401 700021",
        ),
        (
            "about another app",
            signed(good().claim("sub", CONTOSO)),
            "401 700021",
        ),
        ("without an ID", signed(good().without("jti")), "401 50027"),
        ("without an end", signed(good().without("exp")), "401 50027"),
        ("at its end", signed(good().claim("exp", now)), "401 700024"),
        (
            "ahead of time",
            signed(good().claim("nbf", now + 1)),
            "401 700024",
        ),
        (
            "good for too long",
            signed(good().claim("exp", now + 601)),
            "401 700024",
        ),
        ("not a token", "opensesame".to_owned(), "400 50027"),
    ] {
        assert_eq!(assert_with(&stage, &assertion).await.0, expected, "{name}");
    }
    stage.world.entra.distrust_certificates(APP);
    assert_eq!(assert_with(&stage, &signed(good())).await.0, "401 700027");
}
