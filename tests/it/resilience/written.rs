//! What may be written of all this, and what is said of what may not.

use std::path::Path;

use portcullis::files::{Diagnostics, parse_policies};

fn said(rest: &str) -> String {
    let text = format!("backends: {{ b: {{ {rest}, credential: none }} }}");
    let mut diagnostics = Diagnostics::new();
    parse_policies(&[(Path::new("p.yaml"), &text)], &mut diagnostics);
    diagnostics.render()
}

#[test]
fn what_makes_no_sense_is_told_with_what_to_write() {
    const A: &str = "http: 'https://a.example'";
    for (rest, told) in [
        ("http: []", "this list is empty"),
        (
            "http: [https://a.example, 'https://b.example/x']",
            "the URLs of one backend differ in host and port alone",
        ),
        (
            "http: ['https://127.0.0.1:1', 'http://127.0.0.1:2']",
            "the URLs of one backend differ in host and port alone",
        ),
        (
            "http: [https://a.example, https://A.example]",
            "this stands in the list twice",
        ),
        (
            "logicApp: [https://a.example, https://b.example]",
            "a Logic App has one URL",
        ),
        (
            "http: [https://a.example, 'https://b.example?sig=x']",
            "secret",
        ),
        (
            &format!("{A}, ejection: {{}}"),
            "a backend with one URL has no other to go to instead",
        ),
        (
            "http: [https://a.example, https://b.example], ejection: { consecutive: 0 }",
            "out of bounds: from 1 to 10000",
        ),
        (
            &format!("{A}, breaker: {{ failureRate: 50 }}"),
            "this is not a part of a hundred",
        ),
        (
            &format!("{A}, breaker: {{ failureRate: 0% }}"),
            "this is not a part of a hundred",
        ),
        (
            &format!("{A}, breaker: {{ slowRate: 101% }}"),
            "this is not a part of a hundred",
        ),
        (
            &format!("{A}, breaker: {{ faliures: 3 }}"),
            "did you mean `failures`?",
        ),
        (
            &format!("{A}, retry: {{ attempts: 1 }}"),
            "out of bounds: from 2 to 10",
        ),
        (
            &format!("{A}, retry: {{ on: [status500] }}"),
            "this is not one of",
        ),
        (
            &format!("{A}, retry: {{ on: [] }}"),
            "nothing would be sent again; remove `retry`",
        ),
        (
            &format!("{A}, health: {{}}"),
            "the key `path` is missing here",
        ),
        (
            &format!("{A}, health: {{ path: healthz }}"),
            "this is no path that can be asked for",
        ),
        (
            &format!("{A}, health: {{ path: /h, status: 399-200 }}"),
            "this is neither a status nor a range of them",
        ),
        (
            &format!("{A}, health: {{ path: /h, status: 2xx }}"),
            "this is neither a status nor a range of them",
        ),
        (
            "logicApp: 'https://a.example', health: { path: /h }",
            "a Logic App cannot be asked whether it is well",
        ),
        (
            &format!("{A}, coldStart: 1ms"),
            "this duration is out of bounds: from 1s to 10m",
        ),
        (
            &format!("{A}, failureStatuses: [200]"),
            "out of bounds: from 400 to 599",
        ),
    ] {
        let said = said(rest);
        assert!(said.contains(told), "{rest}:\n{said}");
    }
}

#[test]
fn what_makes_sense_is_taken() {
    for rest in [
        "http: [https://a.example/x, 'https://b.example:8443/x/']",
        "http: [https://a.example, https://b.example], ejection: { time: 1s, maxTime: 2m }",
        "function: https://a.example, breaker: {}, retry: {}, coldStart: 30s",
        "http: https://a.example, health: { path: '/h?x=1', status: 200, credential: true }",
        "http: https://a.example, health: { path: /h, status: 200-204 }, failureStatuses: [500, 502]",
        "logicApp: https://a.example, breaker: { failureRate: 5 %, window: 1m }, retry: { on: [connect, status429] }",
    ] {
        assert_eq!(said(rest), "", "{rest}");
    }
}
