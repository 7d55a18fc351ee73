//! What callers may write on the wire, and what of it reaches a backend.

mod http2;

use http::HeaderMap;
use portcullis::demo::mint::damaged;

use crate::support::{Piped, RawBackend, Scene, Stage, patiently};

const ALL_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// A gateway that passes everything of the marketing portal's on to a backend that answers 200.
fn open() -> (RawBackend, Stage) {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene
        .raw("raw", &raw)
        .portal_route("all", ALL_METHODS, "/{*rest}", "raw")
        .start();
    (raw, stage)
}

/// What a caller read on a connection: exactly one refusal and then its end.
struct Refusal {
    head: String,
    status: String,
    reason: String,
}

impl Refusal {
    fn read(text: &str) -> Self {
        assert_eq!(text.matches("HTTP/1.").count(), 1, "one answer: {text}");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let head = head.to_lowercase();
        assert!(
            head.contains("\r\ncontent-type: application/problem+json"),
            "{text}"
        );
        let problem: serde_json::Value = serde_json::from_str(body).expect("a problem");
        let status = head.split(' ').nth(1).expect("a status").to_owned();
        assert_eq!(problem["status"].to_string(), status);
        Self {
            status,
            reason: problem["reason"].as_str().expect("a reason").to_owned(),
            head,
        }
    }

    fn verdict(&self) -> String {
        format!("{} {}", self.status, self.reason)
    }
}

#[test]
fn a_message_that_two_servers_frame_in_two_ways_is_refused_and_ends_the_connection() {
    let (raw, stage) = open();
    let auth = format!("Authorization: Bearer {}\r\n", stage.portal_token());
    let many = "x: 1\r\n".repeat(101);
    let large = format!("x: {}\r\n", "y".repeat(33 * 1024));
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n", "a".repeat(9000));
    let post = |fields: &str, body: &str| {
        format!("POST /a HTTP/1.1\r\nHost: localhost\r\n{auth}{fields}\r\n\r\n{body}")
    };
    let get = |fields: &str| format!("GET /a HTTP/1.1\r\n{auth}{fields}\r\n\r\n");
    let rows: Vec<(&str, String, &str)> = vec![
        (
            "a length and a coding",
            post(
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                "0\r\n\r\n",
            ),
            "400 ambiguous-framing",
        ),
        (
            "a coding and a length",
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 5",
                "0\r\n\r\n",
            ),
            "400 ambiguous-framing",
        ),
        (
            "two lengths",
            post("Content-Length: 1\r\nContent-Length: 2", "ab"),
            "400 ambiguous-framing",
        ),
        (
            "the same length twice",
            post("Content-Length: 1\r\nContent-Length: 1", "a"),
            "400 ambiguous-framing",
        ),
        (
            "a list of lengths",
            post("Content-Length: 1, 1", "a"),
            "400 ambiguous-framing",
        ),
        (
            "a signed length",
            post("Content-Length: +1", "a"),
            "400 ambiguous-framing",
        ),
        (
            "a negative length",
            post("Content-Length: -1", "a"),
            "400 ambiguous-framing",
        ),
        (
            "a hexadecimal length",
            post("Content-Length: 0x1", "a"),
            "400 ambiguous-framing",
        ),
        (
            "no length",
            post("Content-Length:", ""),
            "400 ambiguous-framing",
        ),
        (
            "a length beyond 64 bits",
            post("Content-Length: 18446744073709551617", "a"),
            "400 ambiguous-framing",
        ),
        (
            "two codings",
            post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
            "400 ambiguous-framing",
        ),
        (
            "chunked twice",
            post("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"),
            "400 ambiguous-framing",
        ),
        (
            "chunked in two fields",
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "0\r\n\r\n",
            ),
            "400 ambiguous-framing",
        ),
        (
            "identity",
            post("Transfer-Encoding: identity", ""),
            "400 ambiguous-framing",
        ),
        (
            "nearly chunked",
            post("Transfer-Encoding: xchunked", "0\r\n\r\n"),
            "400 ambiguous-framing",
        ),
        (
            "a quoted coding",
            post("Transfer-Encoding: \"chunked\"", "0\r\n\r\n"),
            "400 ambiguous-framing",
        ),
        (
            "a coding behind a vertical tab",
            post("Transfer-Encoding: \x0bchunked", "0\r\n\r\n"),
            "400 ambiguous-header",
        ),
        (
            "a coding with a space in front of its colon",
            post("Transfer-Encoding : chunked", "0\r\n\r\n"),
            "400 ambiguous-framing",
        ),
        (
            "a coding in HTTP/1.0",
            post("Transfer-Encoding: chunked", "0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0"),
            "400 ambiguous-framing",
        ),
        (
            "bare line feeds",
            get("Host: localhost").replace("\r\n", "\n"),
            "400 ambiguous-framing",
        ),
        (
            "one bare line feed",
            get("Host: localhost\nX: 1"),
            "400 ambiguous-framing",
        ),
        (
            "a bare carriage return",
            get("Host: localhost\r\nX: 1\rY: 2"),
            "400 ambiguous-framing",
        ),
        (
            "a folded field",
            get("Host: localhost\r\nX: 1\r\n Y: 2"),
            "400 ambiguous-framing",
        ),
        (
            "a field folded with a tab",
            get("Host: localhost\r\nX: 1\r\n\tContent-Length: 5"),
            "400 ambiguous-framing",
        ),
        (
            "NUL in a value",
            get("Host: localhost\r\nX: a\0b"),
            "400 ambiguous-header",
        ),
        (
            "a line without a colon",
            get("Host: localhost\r\nX"),
            "400 ambiguous-header",
        ),
        (
            "no field name",
            get("Host: localhost\r\n: 1"),
            "400 ambiguous-header",
        ),
        (
            "a name that is none",
            get("Host: localhost\r\nX(Y): 1"),
            "400 ambiguous-header",
        ),
        ("no Host", get("X: 1"), "400 ambiguous-host"),
        (
            "two Hosts",
            get("Host: localhost\r\nHost: elsewhere"),
            "400 ambiguous-host",
        ),
        (
            "the same Host twice",
            get("Host: localhost\r\nHost: localhost"),
            "400 ambiguous-host",
        ),
        (
            "no Host in HTTP/1.0",
            get("X: 1").replace("HTTP/1.1", "HTTP/1.0"),
            "400 ambiguous-host",
        ),
        (
            "two spaces",
            get("Host: localhost").replace("GET /a", "GET  /a"),
            "400 ambiguous-framing",
        ),
        (
            "a space in the target",
            get("Host: localhost").replace("GET /a", "GET /a b"),
            "400 ambiguous-framing",
        ),
        (
            "a space in front of the method",
            format!(" {}", get("Host: localhost")),
            "400 ambiguous-framing",
        ),
        (
            "an unknown version",
            get("Host: localhost").replace("HTTP/1.1", "HTTP/1.2"),
            "400 ambiguous-framing",
        ),
        ("HTTP/0.9", "GET /a\r\n".to_owned(), "400 ambiguous-framing"),
        (
            "the preface of HTTP/2",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
            "400 ambiguous-framing",
        ),
        (
            "no HTTP at all",
            "\x16\x03\x01".to_owned(),
            "400 ambiguous-framing",
        ),
        (
            "a fragment",
            get("Host: localhost").replace("/a", "/a#b"),
            "400 ambiguous-path",
        ),
        (
            "a fragment behind the query",
            get("Host: localhost").replace("/a", "/a?b#c"),
            "400 ambiguous-query",
        ),
        (
            "a target that is not ASCII",
            get("Host: localhost").replace("/a", "/\u{e9}"),
            "400 ambiguous-path",
        ),
        (
            "too many fields",
            get(&format!("Host: localhost\r\n{many}x: 1")),
            "431 head-too-large",
        ),
        (
            "too large a field",
            get(&format!("Host: localhost\r\n{large}x: 1")),
            "431 head-too-large",
        ),
        (
            "too long a target",
            format!("{long}\r\n"),
            "414 uri-too-long",
        ),
    ];
    let behind = format!("GET /behind HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n");
    for (why, bytes, verdict) in rows {
        let text = stage.raw(format!("{bytes}{behind}").as_bytes());
        let refusal = Refusal::read(&text);
        assert_eq!(refusal.verdict(), verdict, "{why}: {text}");
        // HTTP/1.0 closes unless told otherwise.
        let closes = refusal.head.contains("\r\nconnection: close");
        assert!(closes || bytes.contains("HTTP/1.0"), "{why}: {text}");
    }
    let seen = raw.seen();
    assert_eq!((seen.connections, seen.requests.len()), (0, 0), "{seen:?}");
}

#[test]
fn a_request_that_two_readers_read_in_two_ways_is_refused_with_its_reason() {
    let (raw, stage) = open();
    let auth = format!("Authorization: Bearer {}", stage.portal_token());
    for (line, fields, verdict) in [
        ("TRACE /a", "", "501 method-not-supported"),
        ("CONNECT localhost:443", "", "501 method-not-supported"),
        ("PROPFIND /a", "", "501 method-not-supported"),
        ("get /a", "", "501 method-not-supported"),
        (
            "GET /a",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            "400 upgrade-not-supported",
        ),
        (
            "GET /a",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "400 upgrade-not-supported",
        ),
        ("GET /a", "Upgrade: h2c\r\n", "400 upgrade-not-supported"),
        ("GET /a%2fb", "", "400 ambiguous-path"),
        ("GET /a%2Fb", "", "400 ambiguous-path"),
        ("GET /a%5cb", "", "400 ambiguous-path"),
        ("GET /a\\b", "", "400 ambiguous-path"),
        ("GET //a", "", "400 ambiguous-path"),
        ("GET /a//b", "", "400 ambiguous-path"),
        ("GET /..", "", "400 ambiguous-path"),
        ("GET /a/../../b", "", "400 ambiguous-path"),
        ("GET /%2e%2e/a", "", "400 ambiguous-path"),
        ("GET /a/..;x/b", "", "400 ambiguous-path"),
        ("GET /%252e%252e/a", "", "400 ambiguous-path"),
        ("GET /a%252fb", "", "400 ambiguous-path"),
        ("GET /a%00", "", "400 ambiguous-path"),
        ("GET /a%0d%0ab", "", "400 ambiguous-path"),
        ("GET /a%zz", "", "400 ambiguous-path"),
        ("GET /a%2", "", "400 ambiguous-path"),
        ("GET /a%c0%afb", "", "400 ambiguous-path"),
        ("GET /a%ff", "", "400 ambiguous-path"),
        ("OPTIONS *", "", "400 ambiguous-path"),
        ("GET /a?%zz", "", "400 ambiguous-query"),
        ("GET /a?a%00=1", "", "400 ambiguous-query"),
        ("GET http://elsewhere/a", "", "400 ambiguous-host"),
        ("GET ftp://localhost/a", "", "400 ambiguous-host"),
        ("GET /a", "Connection: host\r\n", "400 ambiguous-header"),
        (
            "GET /a",
            "Connection: Authorization\r\n",
            "400 ambiguous-header",
        ),
        (
            "GET /a",
            "Connection: close, x-arr-log-id\r\n",
            "400 ambiguous-header",
        ),
        (
            "GET /a",
            "Authorization: Bearer x\r\n",
            "400 authorization-ambiguous",
        ),
    ] {
        let request = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n{fields}Connection: close\r\n\r\n"
        );
        let refusal = Refusal::read(&stage.raw(request.as_bytes()));
        assert_eq!(refusal.verdict(), verdict, "{line} {fields}");
    }
    for host in ["localhost:0", "a b", "user@localhost", "local%68ost", ""] {
        let request =
            format!("GET /a HTTP/1.1\r\nHost: {host}\r\n{auth}\r\nConnection: close\r\n\r\n");
        let refusal = Refusal::read(&stage.raw(request.as_bytes()));
        assert_eq!(refusal.verdict(), "400 ambiguous-host", "{host}");
    }
    let seen = raw.seen();
    assert_eq!((seen.connections, seen.requests.len()), (0, 0), "{seen:?}");
    let record = stage.record("a record", |record| record["path"] == "/a%2fb");
    assert_eq!(record["reason"], "ambiguous-path");
    assert_eq!(record["status"], 400);
}

#[test]
fn a_chunked_body_arrives_whole_however_it_is_cut() {
    let (raw, stage) = open();
    let auth = format!("Authorization: Bearer {}", stage.portal_token());
    for (at, (body, expected)) in [
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("2\r\nhe\r\n3\r\nllo\r\n000\r\n\r\n", "hello"),
        ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("a;name=value\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("5\r\nhello\r\n0\r\nX-Checksum: 1\r\n\r\n", "hello"),
        ("0\r\n\r\n", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let request = format!(
            "POST /a HTTP/1.1\r\nHost: localhost\r\n{auth}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        );
        let text = stage.raw(request.as_bytes());
        assert!(text.starts_with("HTTP/1.1 200 "), "{body:?}: {text}");
        let request = raw.seen().requests[at].clone();
        assert_eq!(dechunked(&request), expected, "{request}");
    }
}

/// The content of a request, however it is framed.
fn dechunked(request: &str) -> String {
    let (head, mut rest) = request.split_once("\r\n\r\n").expect("a head");
    if !head
        .to_lowercase()
        .contains("\r\ntransfer-encoding: chunked")
    {
        return rest.to_owned();
    }
    let mut content = String::new();
    loop {
        let (size, behind) = rest.split_once("\r\n").expect("a chunk");
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            return content;
        }
        content += &behind[..size];
        rest = behind[size..].strip_prefix("\r\n").expect("a line end");
    }
}

#[test]
fn a_chunked_body_that_two_servers_cut_in_two_ways_never_reaches_the_backend_whole() {
    let (raw, stage) = open();
    let auth = format!("Authorization: Bearer {}", stage.portal_token());
    let behind = format!("GET /behind HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n\r\n");
    for body in [
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello\r\n0\r\n\n",
        "5;a=\nb\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: 1\nY: 2\r\n\r\n",
        "5\r\nhello\r\n0\r\n X: 1\r\n\r\n",
        "5\r\nhello\r\n0\r\nGET /behind HTTP/1.1\r\n\r\n",
        "11111111111111115\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
    ] {
        let request = format!(
            "POST /a HTTP/1.1\r\nHost: localhost\r\n{auth}\r\nTransfer-Encoding: chunked\r\n\r\n{body}{behind}"
        );
        let text = stage.raw(request.as_bytes());
        assert!(!text.contains("HTTP/1.1 200 "), "{body:?}: {text}");
        assert!(text.matches("HTTP/1.1 ").count() <= 1, "{body:?}: {text}");
        let seen = raw.seen();
        assert!(seen.requests.is_empty(), "{body:?}: {seen:?}");
    }
    let left = patiently(raw.saw(|seen| seen.closed == seen.connections));
    stage.runtime.block_on(left);
}

#[test]
fn keys_go_from_the_query_in_every_spelling_and_the_rest_stays_byte_for_byte() {
    let (raw, stage) = open();
    for (at, (query, left)) in [
        (
            "api-version=2016-10-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=planted-key",
            "?api-version=2016-10-01",
        ),
        ("a=1&SIG=planted-key&b=2", "?a=1&b=2"),
        ("sIg=planted-key&a=1&sig=planted-key", "?a=1"),
        ("%73ig=planted-key&a=1", "?a=1"),
        ("%53%49%47=planted-key", ""),
        ("%2573ig=planted-key&a", "?a"),
        ("sig[]=planted-key&a=", "?a="),
        ("+sig=planted-key&a=1", "?a=1"),
        ("%20sig=planted-key&a=1", "?a=1"),
        ("a=1;sig=planted-key", "?a=1"),
        ("a%26sig=planted-key&b=2", "?b=2"),
        ("sig%3Dplanted-key&b=2", "?b=2"),
        ("%EF%BD%93ig=planted-key&b=2", "?b=2"),
        ("code=planted-key&b=2", "?b=2"),
        ("CoDe=planted-key&b=2", "?b=2"),
        ("x-functions-key=planted-key&b=2", "?b=2"),
        ("X_Functions_Key=planted-key&b=2", "?b=2"),
        ("access_token=planted-key&b=2", "?b=2"),
        ("se=planted-key&sv=planted-key&b=2", "?b=2"),
        (
            "z=1&a=2&a=1&%7e=%7E&b=+%20&c=%c3%a9&d=;e",
            "?z=1&a=2&a=1&%7e=%7E&b=+%20&c=%c3%a9&d=;e",
        ),
        (
            "design=1&signature=2&codes=3&mysig=4",
            "?design=1&signature=2&codes=3&mysig=4",
        ),
        ("a=sig&b=?code=1", "?a=sig&b=?code=1"),
        ("", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let call = stage.call("GET", &format!("/a?{query}")).portal();
        let call = if at % 2 == 0 { call } else { call.http2() };
        assert_eq!(call.send().verdict(), "200", "{query}");
        let request = raw.seen().requests[at].clone();
        let line = request.lines().next().expect("a line");
        assert_eq!(line, format!("GET /a{left} HTTP/1.1"), "{query}");
        assert!(!request.contains("planted-key"), "{request}");
    }
}

#[test]
fn only_the_gateway_asserts_an_identity() {
    let (raw, stage) = open();
    let names = [
        "x-ms-client-principal",
        "x-ms-client-principal-id",
        "X-MS-CLIENT-PRINCIPAL-NAME",
        "x-ms-client-principal-idp",
        "x_ms_client_principal",
        "x-ms_client.principal-id",
        "x-ms-token-aad-id-token",
        "x-ms-token-aad-access-token",
        "x-zumo-auth",
        "x-functions-key",
        "x_functions_key",
        "x-functions-clientid",
        "x-ms-site-token",
        "x-forwarded-for",
        "x-forwarded-host",
        "x_forwarded_for",
        "forwarded",
        "x-real-ip",
        "x-client-ip",
        "true-client-ip",
        "client-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "x-arr-ssl",
        "x-arr-clientcert",
        "x-forwarded-client-cert",
        "client-cert",
        "client_cert_chain",
        "x-client-cert",
        "x-client-certificate",
        "x-ssl-client-cert",
        "ssl-client-verify",
        "x-azure-clientip",
        "x-identity-header",
        "disguised-host",
        "was-default-hostname",
        "baggage",
        "proxy",
        "proxy-authorization",
    ];
    for http2 in [false, true] {
        let mut call = stage.call("GET", "/a").portal();
        for name in names {
            call = call.header(name, "forged");
        }
        let call = if http2 { call.http2() } else { call };
        assert_eq!(call.send().verdict(), "200");
    }
    let seen = raw.seen();
    assert_eq!(seen.requests.len(), 2);
    for request in &seen.requests {
        assert!(!request.contains("forged"), "{request}");
        let ours: Vec<&str> = request
            .lines()
            .filter(|line| line.starts_with("x-ms-client-principal"))
            .map(|line| line.split(':').next().expect("a name"))
            .collect();
        let once: std::collections::HashSet<_> = ours.iter().collect();
        assert_eq!(ours.len(), once.len(), "{request}");
        assert!(ours.contains(&"x-ms-client-principal"), "{request}");
    }
}

#[test]
fn a_trailer_claims_no_more_than_a_header_may() {
    let (raw, stage) = open();
    let auth = format!("Authorization: Bearer {}", stage.portal_token());
    let request = format!(
        "POST /a HTTP/1.1\r\nHost: localhost\r\n{auth}\r\nConnection: close\r\nTrailer: x-checksum, x-ms-client-principal, x_ms_client_principal_id, authorization, x-functions-key, content-length, host, content-type, set-cookie, x-request-id, traceparent\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Checksum: kept\r\nX-MS-CLIENT-PRINCIPAL: forged\r\nx_ms_client_principal_id: forged\r\nAuthorization: Bearer forged\r\nX-Functions-Key: forged\r\nContent-Length: 7\r\nHost: forged\r\nContent-Type: text/forged\r\nSet-Cookie: forged=1\r\nX-Request-Id: forged\r\nTraceparent: forged\r\nx-unannounced: forged\r\n\r\n"
    );
    let text = stage.raw(request.as_bytes());
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");

    let mut trailers = HeaderMap::new();
    for (name, value) in [
        ("x-checksum", "kept"),
        ("x-ms-client-principal", "forged"),
        ("x_ms_client_principal_id", "forged"),
        ("authorization", "Bearer forged"),
        ("x-functions-key", "forged"),
        ("x-forwarded-for", "forged"),
    ] {
        trailers.insert(name, value.parse().expect("a value"));
    }
    stage.runtime.block_on(async {
        let request = http::Request::post("https://localhost/a")
            .header("authorization", format!("Bearer {}", stage.portal_token()))
            .header("trailer", "x-checksum, x-ms-client-principal, x_ms_client_principal_id, authorization, x-functions-key, x-forwarded-for")
            .body(Piped::of("hello", trailers))
            .expect("a request");
        let mut sender = stage.http2().await;
        let answer = patiently(sender.send_request(request)).await;
        assert_eq!(answer.expect("an answer").status(), 200);
    });
    let seen = raw.seen();
    assert_eq!(seen.requests.len(), 2);
    for request in &seen.requests {
        assert_eq!(dechunked(request), "hello", "{request}");
        assert!(request.contains("x-checksum: kept\r\n"), "{request}");
        assert!(!request.contains("forged"), "{request}");
    }
}

#[test]
fn a_stranger_learns_nothing_of_what_is_published() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene
        .raw("raw", &raw)
        .portal_route("known", "GET", "/known/{*rest}", "raw")
        .portal_route("exact", "POST", "/Exact", "raw")
        .start();
    let stranger = stage
        .world
        .entra
        .sign(&stage.portal().claim("azp", STRANGER));
    let stranger = stranger.expect("signed");
    for (who, token) in [
        ("nobody", None),
        ("garbage", Some("garbage".to_owned())),
        ("a forger", Some(damaged(&stage.portal_token()))),
    ] {
        for http2 in [false, true] {
            let ask = |method: &str, target: &str| {
                let call = stage.call(method, target);
                let call = match &token {
                    Some(token) => call.bearer(token),
                    None => call,
                };
                let call = if http2 { call.http2() } else { call };
                let answer = call.send();
                let id = answer.header("x-request-id").expect("an ID").to_owned();
                let mut headers: Vec<(String, String)> = answer
                    .headers
                    .iter()
                    .map(|(name, value)| {
                        let value = value.to_str().expect("text").replace(&id, "ID");
                        (name.to_string(), value)
                    })
                    .filter(|(name, _)| name != "date")
                    .collect();
                headers.sort();
                (answer.status, answer.text().replace(&id, "ID"), headers)
            };
            let known = ask("GET", "/known/a");
            assert_eq!(known.0, 401);
            for (method, target) in [
                ("GET", "/unknown"),
                ("GET", "/"),
                ("POST", "/known/a"),
                ("POST", "/Exact"),
                ("POST", "/exact"),
                ("OPTIONS", "/known/a"),
                ("GET", "/known/a?sig=planted-x"),
            ] {
                assert_eq!(ask(method, target), known, "{who}: {method} {target}");
            }
        }
    }
    // With a good token of an app that nobody named, a route is told from none.
    let ask = |target: &str| stage.call("GET", target).bearer(&stranger).send().verdict();
    assert_eq!(ask("/known/a"), "403 app-not-allowed");
    assert_eq!(ask("/unknown"), "404 route-not-found");
    assert_eq!(raw.seen().connections, 0);
}

const STRANGER: &str = "aaaaaaaa-0000-0000-0000-00000000000f";
