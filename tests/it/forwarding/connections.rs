//! HTTP/1 connections of callers: one request after the other, where each answer ends, and what becomes of a
//! body that nobody wants.

use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::behind;
use crate::support::{RawBackend, Scene, Stage, Step, patiently};

/// A head with a token that is let in.
fn head(stage: &Stage, line: &str, fields: &str) -> String {
    let token = stage.portal_token();
    format!("{line}\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{fields}\r\n")
}

/// A gateway in front of a backend that answers with the path that it was asked for.
fn echo() -> (RawBackend, Stage) {
    let scene = Scene::new();
    let raw = RawBackend::answering(&scene, |request| {
        let path = request.split(' ').nth(1).unwrap_or_default();
        let length = path.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{path}");
        vec![Step::text(&answer)]
    });
    let stage = scene.all_to(&raw).start();
    (raw, stage)
}

#[test]
fn requests_that_come_at_once_are_answered_in_order() {
    let (raw, stage) = echo();
    let mut wire = stage.wire();
    let requests = [
        head(&stage, "GET /a HTTP/1.1", ""),
        head(&stage, "POST /b HTTP/1.1", "Content-Length: 5\r\n") + "hello",
        head(&stage, "POST /c HTTP/1.1", "Transfer-Encoding: chunked\r\n") + "2\r\nhi\r\n0\r\n\r\n",
        "GET /d HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        head(&stage, "GET /e HTTP/1.1", "Connection: close\r\n"),
        head(&stage, "GET /f HTTP/1.1", ""),
    ];
    wire.send(requests.concat());
    for (status, end) in [
        ("200", "/a"),
        ("200", "/b"),
        ("200", "/c"),
        ("401", "}"),
        ("200", "/e"),
    ] {
        let answer = wire.until("\r\n\r\n") + &wire.until(end);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert_eq!(
            answer.contains("connection: close"),
            end == "/e",
            "{answer}"
        );
    }
    assert_eq!(wire.rest(), "", "nothing is answered behind the last");
    let bodies: Vec<String> = raw
        .seen()
        .requests
        .iter()
        .map(|request| {
            request
                .split("\r\n\r\n")
                .skip(1)
                .collect::<Vec<_>>()
                .join("|")
        })
        .collect();
    assert_eq!(bodies, ["", "hello", "2\r\nhi\r\n0|", ""]);
}

#[test]
fn a_request_that_comes_byte_by_byte_is_one_request() {
    let (raw, stage) = echo();
    let mut wire = stage.wire();
    let request = head(&stage, "POST /a HTTP/1.1", "Transfer-Encoding: chunked\r\n")
        + "3;x=y\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
    for byte in request.as_bytes() {
        wire.send([*byte]);
    }
    wire.until("\r\n\r\n/a");
    let request = raw.only();
    let chunks = request.split_once("\r\n\r\n").expect("a body").1;
    let data: String = chunks.chars().filter(char::is_ascii_lowercase).collect();
    assert_eq!(data, "abcd", "{request}");
    assert!(!chunks.contains(';'), "{request}");
}

#[test]
fn who_speaks_http_1_0_is_answered_so_that_it_finds_the_end() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let sized = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    for (answer, fields, closes) in [
        (chunked, "Connection: keep-alive\r\n", true),
        (chunked, "", true),
        (sized, "", true),
        (sized, "Connection: keep-alive\r\n", false),
    ] {
        let (_raw, stage) = behind(vec![Step::text(answer)]);
        let mut wire = stage.wire();
        wire.send(head(&stage, "GET /a HTTP/1.0", fields));
        let head = wire.until("\r\n\r\n");
        assert!(!head.contains("transfer-encoding"), "{head}");
        let says = match closes {
            true => "connection: close\r\n",
            false => "connection: keep-alive\r\n",
        };
        assert!(head.contains(says), "{head}");
        wire.until("hello");
        if closes {
            assert_eq!(wire.rest(), "");
        }
    }
}

#[test]
fn an_answer_without_a_body_ends_with_its_head() {
    let not_modified = "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: \"1\"\r\n\r\n";
    let no_content = "HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n";
    let sized = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    let empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for (method, answer, length) in [
        ("GET", not_modified, Some("9")),
        ("GET", no_content, None),
        ("HEAD", sized, Some("9")),
        ("GET", empty, Some("0")),
    ] {
        let (_raw, stage) = behind(vec![Step::text(answer)]);
        let mut wire = stage.wire();
        wire.send(head(&stage, &format!("{method} /a HTTP/1.1"), ""));
        let first = wire.until("\r\n\r\n");
        let said = first.split("content-length: ").nth(1);
        let said = said.and_then(|rest| rest.split("\r\n").next());
        assert_eq!(said, length, "{first}");
        assert!(!first.contains("transfer-encoding"), "{first}");
        // Whatever came of a body would stand in front of the next answer.
        wire.send(head(&stage, &format!("{method} /a HTTP/1.1"), ""));
        let second = wire.until("\r\n\r\n");
        assert!(second.starts_with("HTTP/1.1 "), "{second}");
    }
}

#[test]
fn every_answer_says_when_it_was_made_once() {
    let dated =
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n";
    let undated = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for (answer, is_backends) in [(dated, true), (undated, false)] {
        let (_raw, stage) = behind(vec![Step::text(answer)]);
        let mut wire = stage.wire();
        wire.send(head(&stage, "GET /a HTTP/1.1", ""));
        let head = wire.until("\r\n\r\n");
        let dates: Vec<_> = head
            .lines()
            .filter(|line| line.starts_with("date: "))
            .collect();
        assert_eq!(dates.len(), 1, "{head}");
        assert!(
            dates[0].ends_with(" GMT") && dates[0].len() == "date: ".len() + 29,
            "{head}"
        );
        assert_eq!(dates[0].contains("1994"), is_backends, "{head}");
    }
}

#[test]
fn a_small_body_that_nobody_wants_is_read_on_and_the_connection_serves_again() {
    let (_raw, stage) = echo();
    let mut wire = stage.wire();
    let refused = "POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello";
    wire.send(refused);
    let answer = wire.until("}");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(!answer.contains("connection: close"), "{answer}");
    wire.send("world");
    wire.send(head(&stage, "GET /b HTTP/1.1", ""));
    let answer = wire.until("\r\n\r\n/b");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn who_sends_much_that_nobody_wants_reads_why_before_the_connection_closes() {
    let (raw, stage) = echo();
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let mut wire = stage.wire();
        wire.send(format!(
            "POST /a HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n"
        ));
        if framing.starts_with("Transfer") {
            wire.send("40000\r\n");
        }
        wire.pour(256 * 1024);
        let answer = wire.rest();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{framing}: {answer}");
        assert!(answer.ends_with('}'), "{framing}: {answer}");
    }
    assert!(raw.seen().requests.is_empty());
}

#[test]
fn a_body_that_turns_out_to_be_none_ends_the_connection() {
    let (raw, stage) = echo();
    let mut wire = stage.wire();
    wire.send(head(
        &stage,
        "POST /a HTTP/1.1",
        "Transfer-Encoding: chunked\r\n",
    ));
    wire.send("3\r\nabcXX");
    wire.send(head(&stage, "GET /smuggled HTTP/1.1", ""));
    let answer = wire.rest();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    let requests = raw.seen().requests;
    assert!(!requests.concat().contains("smuggled"), "{requests:?}");
}

/// A gateway in front of a backend that speaks HTTP/2, answers before it has read anything, and keeps the bodies
/// open: here they are.
fn hasty() -> (mpsc::UnboundedReceiver<Incoming>, Stage) {
    let scene = Scene::new();
    let listener = TcpListener::bind("127.0.0.1:0");
    let listener = scene.runtime.block_on(listener).expect("bound");
    let address = listener.local_addr().expect("an address");
    let (kept, bodies) = mpsc::unbounded_channel();
    scene.runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = kept.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let _ = kept.send(request.into_body());
                async { Ok::<_, Infallible>(Response::new("early".to_owned())) }
            });
            let io = TokioIo::new(stream);
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(1024);
            tokio::spawn(builder.serve_connection(io, service));
        }
    });
    let backend = format!("http: 'http://{address}', credential: none, protocol: http2");
    let stage = scene.backend("hasty", &backend).all("hasty").start();
    (bodies, stage)
}

/// Whether the backend took what came for the whole body.
fn seemed_whole(stage: &Stage, bodies: &mut mpsc::UnboundedReceiver<Incoming>) -> bool {
    stage.runtime.block_on(async {
        let body = patiently(bodies.recv()).await.expect("a request");
        patiently(body.collect()).await.is_ok()
    })
}

#[test]
fn an_upload_that_was_answered_early_ends_at_an_http_2_backend_without_seeming_whole() {
    let (mut bodies, stage) = hasty();
    let mut wire = stage.wire();
    wire.send(head(
        &stage,
        "POST /a HTTP/1.1",
        "Content-Length: 60000\r\n",
    ));
    wire.send("begun");
    wire.until("\r\n\r\nearly");
    // Nothing holds the connection open behind its limits.
    assert_eq!(wire.rest(), "");
    assert!(!seemed_whole(&stage, &mut bodies));
}

#[test]
fn a_backend_that_answers_early_is_told_when_the_rest_of_the_body_will_not_come() {
    let scene = Scene::new();
    let listener = TcpListener::bind("127.0.0.1:0");
    let listener = scene.runtime.block_on(listener).expect("bound");
    let address = listener.local_addr().expect("an address");
    let backend = format!("http: 'http://{address}', credential: none");
    let stage = scene.backend("early", &backend).all("early").start();
    let mut wire = stage.wire();
    wire.send(head(
        &stage,
        "POST /a HTTP/1.1",
        "Content-Length: 60000\r\n",
    ));
    wire.send("begun");
    let mut stream = stage.runtime.block_on(async {
        let (mut stream, _) = patiently(listener.accept()).await.expect("a connection");
        let mut came = Vec::new();
        while !came.ends_with(b"begun") {
            came.push(patiently(stream.read_u8()).await.expect("what was sent"));
        }
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n";
        stream.write_all(answer).await.expect("written");
        stream
    });
    wire.until("early");
    drop(wire);
    // Long before either side has been quiet for too long.
    let mut came = Vec::new();
    let read = stage
        .runtime
        .block_on(patiently(stream.read_to_end(&mut came)));
    read.expect("the end");
    assert_eq!(came, b"");
}

#[test]
fn who_leaves_with_the_beginning_of_another_request_unanswered_is_noticed() {
    let scene = Scene::new();
    let raw = RawBackend::start(&scene, vec![Step::Wait]);
    let stage = scene.raw("raw", &raw).all("raw").start();
    let mut wire = stage.wire();
    wire.send(head(&stage, "GET /a HTTP/1.1", "") + "GET /b");
    stage
        .runtime
        .block_on(patiently(raw.saw(|seen| seen.requests.len() == 1)));
    drop(wire);
    stage
        .runtime
        .block_on(patiently(raw.saw(|seen| seen.closed == 1)));
}

#[test]
fn what_the_connection_reads_on_of_a_body_is_not_cut_out_of_it() {
    let (mut bodies, stage) = hasty();
    let mut wire = stage.wire();
    let piece = "x".repeat(4096);
    wire.send(head(
        &stage,
        "POST /a HTTP/1.1",
        "Transfer-Encoding: chunked\r\n",
    ));
    wire.send(format!("1000\r\n{piece}\r\n"));
    wire.until("\r\n\r\nearly");
    wire.send(format!("1000\r\n{piece}\r\n0\r\n\r\n"));
    wire.send(head(&stage, "GET /b HTTP/1.1", ""));
    wire.until("\r\n\r\nearly");
    assert!(!seemed_whole(&stage, &mut bodies));
}

#[test]
fn a_length_that_a_backend_says_twice_is_passed_on_once() {
    for (method, answer) in [
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nfine",
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n",
        ),
    ] {
        let (_raw, stage) = behind(vec![Step::text(answer)]);
        let mut wire = stage.wire();
        wire.send(head(&stage, &format!("{method} /a HTTP/1.1"), ""));
        let head = wire.until("\r\n\r\n");
        assert_eq!(head.matches("content-length: 4\r\n").count(), 1, "{head}");
    }
}

#[test]
fn who_asks_whether_to_send_and_sends_at_once_keeps_the_connection() {
    let (_raw, stage) = echo();
    let mut wire = stage.wire();
    let fields = "Expect: 100-continue\r\nContent-Length: 5\r\n";
    wire.send(head(&stage, "POST /a HTTP/1.1", fields) + "hello");
    let answer = wire.until("\r\n\r\n/a");
    assert!(!answer.contains("connection: close"), "{answer}");
    wire.send(head(&stage, "GET /b HTTP/1.1", ""));
    wire.until("\r\n\r\n/b");
}
