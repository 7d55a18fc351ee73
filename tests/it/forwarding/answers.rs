//! What backends answer, and what of it callers see.

use super::behind;
use crate::support::{RawBackend, Scene, Stage, Step};

/// A backend that answers by the path, for callers of both protocols.
fn answering(answers: &'static [(&'static str, &'static str)]) -> (RawBackend, Stage) {
    let scene = Scene::new();
    let raw = RawBackend::answering(&scene, move |request| {
        let path = request.split(' ').nth(1).expect("a target");
        let answer = answers.iter().find(|(known, _)| *known == path);
        vec![Step::text(answer.expect("a known path").1)]
    });
    let stage = scene.all_to(&raw).start();
    (raw, stage)
}

#[test]
fn answers_without_a_body_have_none_and_leave_the_connection_usable() {
    let (raw, stage) = answering(&[
        (
            "/head",
            "HTTP/1.1 200 OK\r\nContent-Length: 4711\r\nETag: \"a\"\r\n\r\n",
        ),
        ("/none", "HTTP/1.1 204 No Content\r\nETag: \"a\"\r\n\r\n"),
        ("/same", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"),
    ]);
    for (method, path, status) in [
        ("HEAD", "/head", "200"),
        ("GET", "/none", "204"),
        ("DELETE", "/none", "204"),
        ("GET", "/same", "304"),
        ("HEAD", "/same", "304"),
    ] {
        for http2 in [false, true] {
            let call = stage.call(method, path).portal();
            let answer = if http2 { call.http2() } else { call }.send();
            assert_eq!(answer.verdict(), status, "{method} {path}");
            assert_eq!(answer.header("etag"), Some("\"a\""), "{method} {path}");
            assert!(answer.body.is_empty(), "{answer:?}");
            if path == "/head" {
                assert_eq!(answer.header("content-length"), Some("4711"));
            }
        }
    }
    assert_eq!(raw.seen().connections, 1);
    let record = stage.record("HEAD", |record| record["method"] == "HEAD");
    assert_eq!(record["complete"], true);
    assert_eq!(record["sentBytes"], 0);
}

#[test]
fn a_refusal_of_head_has_no_body() {
    let (_raw, stage) = answering(&[]);
    let mut wire = stage.wire();
    wire.send("HEAD /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let text = wire.rest();
    assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
    assert!(text.ends_with("\r\n\r\n"), "{text}");
}

#[test]
fn trailers_reach_callers_of_both_protocols_without_what_no_header_may_say() {
    let (raw, stage) = behind(vec![Step::text(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-test\r\n\r\n5\r\nhello\r\n0\r\nX-Test: checksum\r\nLocation: https://a.example/?sig=planted-key\r\nServer: Kestrel\r\nConnection: x\r\nContent-Length: 7\r\n\r\n",
    )]);
    for http2 in [false, true] {
        let call = stage.call("GET", "/a").portal().header("te", "trailers");
        let answer = if http2 { call.http2() } else { call }.send();
        assert_eq!(answer.text(), "hello");
        let trailers = answer.trailers.expect("trailers");
        assert_eq!(trailers["x-test"], "checksum");
        assert_eq!(trailers.len(), 1, "{trailers:?}");
    }
    // Who does not ask for them gets the body alone.
    let answer = stage.call("GET", "/a").portal().send();
    assert_eq!((answer.text().as_str(), answer.trailers), ("hello", None));
    for (request, asked) in raw.seen().requests.iter().zip([true, true, false]) {
        assert_eq!(request.contains("te: trailers\r\n"), asked, "{request}");
    }
}

#[test]
fn interim_answers_are_followed_by_the_answer() {
    let (_raw, stage) = behind(vec![Step::text(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine",
    )]);
    for http2 in [false, true] {
        let call = stage.call("POST", "/a").portal().body("hello");
        let answer = if http2 { call.http2() } else { call }.send();
        assert_eq!(
            (answer.verdict().as_str(), answer.text().as_str()),
            ("200", "fine")
        );
    }
}

#[test]
fn a_backends_own_refusals_and_redirects_are_passed_on_and_not_followed() {
    let (raw, stage) = answering(&[
        (
            "/busy",
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 17\r\nContent-Length: 4\r\n\r\nbusy",
        ),
        (
            "/login",
            "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"legacy\"\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            "/moved",
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://169.254.169.254/metadata\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            "/broken",
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\ndown",
        ),
        (
            "/accepted",
            "HTTP/1.1 202 Accepted\r\nLocation: https://a.example/runs/1?api-version=1&SIG=planted-key\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            "/created",
            "HTTP/1.1 201 Created\r\nLocation: /things/1?view=full\r\nContent-Length: 0\r\n\r\n",
        ),
    ]);
    let ask = |path: &str| stage.call("GET", path).portal().send();
    let busy = ask("/busy");
    assert_eq!(
        (busy.verdict().as_str(), busy.text().as_str()),
        ("429", "busy")
    );
    assert_eq!(busy.header("retry-after"), Some("17"));
    let login = ask("/login");
    assert_eq!(login.verdict(), "401");
    assert_eq!(
        login.header("www-authenticate"),
        Some("Basic realm=\"legacy\"")
    );
    let moved = ask("/moved");
    assert_eq!(moved.verdict(), "307");
    assert_eq!(
        moved.header("location"),
        Some("http://169.254.169.254/metadata")
    );
    let broken = ask("/broken");
    assert_eq!(
        (broken.verdict().as_str(), broken.header("proxy-status")),
        ("503", None)
    );
    let accepted = ask("/accepted");
    assert_eq!(
        (accepted.verdict().as_str(), accepted.header("location")),
        ("202", None)
    );
    assert_eq!(accepted.header("retry-after"), Some("5"));
    let created = ask("/created");
    assert_eq!(created.header("location"), Some("/things/1?view=full"));
    assert_eq!(raw.seen().requests.len(), 6);
}

#[test]
fn what_tells_on_the_backend_or_speaks_for_one_hop_stays_inside() {
    let (_raw, stage) = behind(vec![Step::text(
        "HTTP/1.1 200 OK\r\nServer: Kestrel\r\nX-Powered-By: ASP.NET\r\nX-AspNet-Version: 4\r\nRequest-Context: appId=cid-v1:1\r\nAlt-Svc: h3=\":443\"\r\nKeep-Alive: timeout=5\r\nConnection: keep-alive, x-private\r\nX-Private: 1\r\nProxy-Connection: keep-alive\r\nUpgrade: h2c\r\nX-MS-Client-Principal: leaked\r\nAuthorization: Bearer planted-token\r\nX-Functions-Key: planted-key\r\nX-Test: kept\r\nContent-Length: 4\r\n\r\nfine",
    )]);
    for http2 in [false, true] {
        let call = stage.call("GET", "/a").portal();
        let answer = if http2 { call.http2() } else { call }.send();
        assert_eq!(
            (answer.text().as_str(), answer.header("x-test")),
            ("fine", Some("kept"))
        );
        let mut names: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
        names.sort();
        assert_eq!(names, ["content-length", "date", "x-request-id", "x-test"]);
    }
}

#[test]
fn a_backend_that_refuses_the_gateways_own_credential_is_the_gateways_trouble() {
    let scene = Scene::new();
    let url = scene.world.function.url();
    let stage = scene
        .backend(
            "guests",
            &format!(
                "function: '{url}', ca: ca.crt, credential: {{ managedIdentity: {{ resource: 'api://another' }} }}"
            ),
        )
        .all("guests")
        .start();
    for http2 in [false, true] {
        let call = stage.call("GET", "/a").portal();
        let answer = if http2 { call.http2() } else { call }.send();
        assert_eq!(answer.verdict(), "502 backend-refused-credential");
        assert_eq!(answer.header("www-authenticate"), None);
        let status = "portcullis; error=http_response_incomplete";
        assert_eq!(answer.header("proxy-status"), Some(status));
    }
    assert_eq!(stage.world.function.seen().len(), 2);
    let record = stage.record("the record", |record| record["path"] == "/a");
    assert_eq!(record["decision"], "deny");
    assert_eq!(record["reason"], "backend-refused-credential");
}
