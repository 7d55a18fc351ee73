//! Requests on their way to backends and back.

use crate::support::{RawBackend, Scene};

#[test]
fn a_request_is_forwarded_with_what_the_gateway_asserts_and_nothing_that_the_caller_claims() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene
        .raw("raw", &raw)
        .portal_route("all", "GET, POST", "/{*rest}", "raw")
        .start();
    let answer = stage
        .call("POST", "/a/b?x=1&sig=planted-sig&y=%20z")
        .portal()
        .header("x-functions-key", "planted-key")
        .header("x-ms-client-principal-id", "forged")
        .header("x-forwarded-for", "6.6.6.6")
        .header("connection", "x-private")
        .header("x-private", "1")
        .header("x-public", "2")
        .body("hello")
        .send();
    assert_eq!(answer.verdict(), "200");
    assert_eq!(answer.text(), "fine");
    let request = raw.only().to_lowercase();
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    assert!(
        head.starts_with("post /a/b?x=1&y=%20z http/1.1\r\n"),
        "{head}"
    );
    assert_eq!(body, "hello");
    for line in [
        "x-public: 2",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: https",
        "x-forwarded-host: localhost",
        "forwarded: for=127.0.0.1;proto=https",
        "via: 1.1 portcullis",
        "x-ms-client-principal-idp: aad",
    ] {
        assert!(
            head.lines().any(|found| found == line),
            "{line} is missing in {head}"
        );
    }
    for gone in ["planted", "forged", "6.6.6.6", "x-private", "authorization"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    let record = stage.record("the record", |record| record["path"] == "/a/b");
    assert_eq!(record["decision"], "allow");
    assert_eq!(
        record["keysStripped"],
        serde_json::json!(["sig", "x-functions-key", "x-ms-client-principal"])
    );
}
