//! The whole request: what its parts do together.

use super::*;

type Fields<'a> = &'a [(&'a str, &'a str)];

fn client() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4711))
}

fn parts(method: &str, target: &str, fields: Fields<'_>) -> Parts {
    let mut request = http::Request::builder().method(method).uri(target);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

fn request(target: &str) -> Result<Request, Refused> {
    Request::new(parts("GET", target, &[("host", "a")]), client())
}

#[test]
fn a_plain_request_is_passed_on_as_it_came() {
    let fields = [
        ("host", "API.contoso.com:8443"),
        ("authorization", "Bearer abc"),
        ("accept", "*/*"),
    ];
    let parts = parts("POST", "/invitations?a=1&b=%20", &fields);
    let mut request = Request::new(parts, client()).expect("canonical");
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.version(), Version::HTTP_11);
    assert_eq!(request.client(), client());
    assert_eq!(request.host(), "api.contoso.com");
    assert_eq!(request.port(), Some(8443));
    assert_eq!(request.path(), "/invitations");
    assert_eq!(request.bearer(), Ok("abc"));
    assert!(!request.te_trailers());
    assert!(request.key_parameters_seen().is_empty() && request.key_headers_seen().is_empty());
    let query = request.forwarded_query(KeptParameters::NONE);
    assert!(matches!(query, Some(Cow::Borrowed("a=1&b=%20"))));
    assert_eq!(
        request.take_headers().keys().collect::<Vec<_>>(),
        ["accept"]
    );
    assert!(request.headers().is_empty());
}

#[test]
fn keys_are_stripped_unless_the_route_keeps_them() {
    let request = request("/a?code=c&x=1&SIG=s").expect("canonical");
    let seen: Vec<_> = request.key_parameters_seen().names().collect();
    assert_eq!(seen, ["sig", "code"]);
    let rows = [
        (KeptParameters::NONE, "x=1"),
        (KeptParameters::CODE, "code=c&x=1"),
        (
            KeptParameters::CODE.with(KeptParameters::SIG),
            "code=c&x=1&SIG=s",
        ),
    ];
    for (kept, query) in rows {
        assert_eq!(request.forwarded_query(kept).as_deref(), Some(query));
    }
}

#[test]
fn a_query_of_which_nothing_is_left_is_none() {
    for target in ["/a", "/a?", "/a?sig=x", "/a?&sig=x&"] {
        let request = request(target).expect("canonical");
        assert_eq!(
            request.forwarded_query(KeptParameters::NONE),
            None,
            "{target}"
        );
    }
}

#[test]
fn another_spelling_of_the_path_is_the_same_request() {
    let request = request("/a/%2e%2e/%67uests").expect("canonical");
    assert_eq!(request.path(), "/guests");
}

#[test]
fn methods_that_are_not_forwarded_are_refused() {
    for method in ["TRACE", "CONNECT", "PROPFIND", "get", "GET1"] {
        let refused =
            Request::new(parts(method, "/a", &[("host", "a")]), client()).expect_err(method);
        assert_eq!(
            refused.denial().reason(),
            Reason::MethodNotSupported,
            "{method}"
        );
    }
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        assert!(
            Request::new(parts(method, "/a", &[("host", "a")]), client()).is_ok(),
            "{method}"
        );
    }
}

#[test]
fn each_part_is_refused_for_its_own_reason() {
    let rows: &[(&str, &str, Fields<'_>, Reason)] = &[
        ("OPTIONS", "*", &[("host", "a")], Reason::AmbiguousPath),
        ("GET", "a", &[("host", "a")], Reason::AmbiguousPath),
        ("GET", "//a", &[("host", "a")], Reason::AmbiguousPath),
        ("GET", "/a%2Fb", &[("host", "a")], Reason::AmbiguousPath),
        ("GET", "/a?b%=1", &[("host", "a")], Reason::AmbiguousQuery),
        ("GET", "/a", &[], Reason::AmbiguousHost),
        (
            "GET",
            "/a",
            &[("host", "a"), ("host", "a")],
            Reason::AmbiguousHost,
        ),
        (
            "GET",
            "/a",
            &[("host", "a"), ("upgrade", "h2c")],
            Reason::UpgradeNotSupported,
        ),
        (
            "GET",
            "/a",
            &[("host", "a"), ("content-length", "1,1")],
            Reason::AmbiguousFraming,
        ),
        (
            "GET",
            "/a",
            &[("host", "a"), ("connection", "host")],
            Reason::AmbiguousHeader,
        ),
    ];
    for (method, target, fields, reason) in rows {
        let refused = Request::new(parts(method, target, fields), client()).expect_err(target);
        assert_eq!(refused.denial().reason(), *reason, "{target} {fields:?}");
    }
}

#[test]
fn what_was_refused_can_be_recorded_but_its_query_cannot() {
    let refused = request("/a%2Fb?sig=secret").expect_err("an encoded slash");
    assert_eq!(refused.method(), Method::GET);
    assert_eq!(refused.raw_path(), "/a%2Fb");
    assert!(!format!("{refused:?}").contains("secret"));
    assert_eq!(refused.into_denial().reason(), Reason::AmbiguousPath);
}

#[test]
fn a_request_prints_no_secret() {
    let fields = [
        ("host", "a"),
        ("authorization", "Bearer secret"),
        ("x-functions-key", "secret"),
    ];
    let request =
        Request::new(parts("GET", "/a?sig=secret", &fields), client()).expect("canonical");
    assert!(!format!("{request:?}").contains("secret"));
}
