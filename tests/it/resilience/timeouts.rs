//! Time limits: which one ends a request, and whose it is.

use super::{OK, refused};
use crate::support::{RawBackend, Scene, Stage, Step};

/// A gateway in front of a raw backend, with these timeouts of the backend and of the route.
fn timed(steps: Vec<Step>, of_backend: &str, of_route: &str) -> (RawBackend, Stage) {
    let scene = Scene::new();
    let raw = RawBackend::start(&scene, steps);
    let url = raw.url();
    let backend = format!("http: '{url}', credential: none, timeouts: {of_backend}");
    let rule = "allow: [{ tenants: [contoso], apps: [marketing-portal] }]";
    let route = format!(
        "match: {{ methods: [GET, POST], path: '/a' }}, backend: b, {rule}, timeouts: {of_route}"
    );
    let stage = scene.backend("b", &backend).route("a", &route).start();
    (raw, stage)
}

#[test]
fn the_log_says_which_limit_ended_a_request_and_the_answer_does_not() {
    for (name, of_backend, of_route, limit) in [
        (
            "first byte",
            "{ firstByte: 150ms }",
            "{}",
            "`firstByte`, 150ms",
        ),
        (
            "the route's first",
            "{ firstByte: 1h }",
            "{ firstByte: 150ms }",
            "`firstByte`, 150ms",
        ),
        ("total", "{ total: 150ms }", "{}", "`total`, 150ms"),
        (
            "the route's total",
            "{ total: 1h }",
            "{ total: 150ms }",
            "`total`, 150ms",
        ),
    ] {
        let (raw, stage) = timed(vec![Step::Wait], of_backend, of_route);
        let answer = stage.call("GET", "/a").portal().send();
        assert_eq!(answer.verdict(), "504 backend-timeout", "{name}");
        // With its unit, for the digits may stand in the request's ID.
        assert!(
            !answer.text().contains("150ms"),
            "{name}: {}",
            answer.text()
        );
        let record = stage.record_of(&answer);
        let expected = record["expected"].as_str().expect("a note");
        assert!(expected.contains(limit), "{name}: {record}");
        stage.until("the end", |_| raw.seen().closed == 1);
        assert_eq!(raw.seen().requests.len(), 1, "{name}");
    }
}

#[test]
fn a_route_may_give_a_backend_longer_than_others_do() {
    let steps = vec![Step::Wait, Step::text(OK)];
    let (raw, stage) = timed(
        steps,
        "{ firstByte: 1ms, total: 1ms }",
        "{ firstByte: 1m, total: 1m }",
    );
    let mut wire = stage.asking("GET /a", "\r\n");
    stage.until("the request", |_| !raw.seen().requests.is_empty());
    raw.release();
    let answer = wire.until("fine");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn an_answer_that_trickles_ends_with_the_total_time() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let steps = vec![Step::text(head), Step::Trickle(b"1\r\nx\r\n".to_vec())];
    let (raw, stage) = timed(steps, "{ idle: 1h }", "{ total: 300ms }");
    let text = stage.asking("GET /a", "\r\n").rest();
    assert!(text.contains("1\r\nx\r\n"), "{text}");
    assert!(!text.contains("0\r\n\r\n"), "{text}");
    let record = stage.record("the record", |record| record["path"] == "/a");
    assert_eq!(record["reason"], "backend-timeout", "{record}");
    assert_eq!(record["complete"], false, "{record}");
    stage.until("the end", |_| raw.seen().closed == 1);
}

#[test]
fn times_of_connections_are_no_routes() {
    let scene = Scene::new().backend("b", "http: 'http://127.0.0.1:9', credential: none").route(
        "a",
        "match: { methods: [GET], path: /a }, backend: b, public: true, timeouts: { connect: 1s, tls: 1s }",
    );
    let said = refused(&scene);
    for key in ["connect", "tls"] {
        assert!(said.contains(&format!("unknown key `{key}`")), "{said}");
    }
}
