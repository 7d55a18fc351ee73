//! HTTP/2 in the test's own frames: no client library would send what an attacker sends.

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::open;
use crate::support::{RawBackend, Scene, Stage, patiently};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame");
    let mut out = length.to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// Literal fields without indexing (RFC 7541 section 6.2.2): what is written is what arrives.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            push_length(&mut out, text.len());
            out.extend(text.as_bytes());
        }
    }
    out
}

fn push_length(out: &mut Vec<u8>, length: usize) {
    if length < 127 {
        out.push(u8::try_from(length).expect("small"));
        return;
    }
    out.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).expect("small") | 128);
        rest /= 128;
    }
    out.push(u8::try_from(rest).expect("small"));
}

/// How the gateway took a request.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// It answered with this status.
    Status(u16),
    /// The stream or the connection was broken off.
    BrokenOff,
}

/// Sends one request on a connection of its own.
async fn ask(stage: &Stage, fields: &[(&str, &str)]) -> Taken {
    ask_in_frames(stage, &block(fields)).await
}

/// The same, with a head that may take several frames (RFC 9113 section 4.3).
async fn ask_in_frames(stage: &Stage, block: &[u8]) -> Taken {
    let mut stream = stage.tls(b"h2").await;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // A table of no size, so that statuses come as literals or from the static table.
    bytes.extend(frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]));
    let pieces: Vec<&[u8]> = block.chunks(16_000).collect();
    for (at, piece) in pieces.iter().enumerate() {
        let ends = if at + 1 == pieces.len() {
            END_HEADERS
        } else {
            0
        };
        bytes.extend(match at {
            0 => frame(HEADERS, ends | END_STREAM, 1, piece),
            _ => frame(CONTINUATION, ends, 1, piece),
        });
    }
    stream.write_all(&bytes).await.expect("written");
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return Taken::BrokenOff;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("small")];
        if stream.read_exact(&mut payload).await.is_err() {
            return Taken::BrokenOff;
        }
        match head[3] {
            HEADERS => return Taken::Status(status(&payload)),
            RST_STREAM | GOAWAY => return Taken::BrokenOff,
            _ => {}
        }
    }
}

/// `:status` comes first, by its place in the static table (RFC 7541 appendix A) or as a literal
/// whose name is there. A change of the table's size may stand in front.
fn status(block: &[u8]) -> u16 {
    let at = block.iter().position(|byte| byte & 0xE0 != 0x20);
    let block = &block[at.expect("a field")..];
    match block[0] {
        indexed @ 0x88..=0x8E => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        // Huffman codes of digits: '0' to '2' have five bits, the others six.
        _ => digits(
            &block[2..2 + usize::from(block[1] & 0x7F)],
            block[1] & 0x80 != 0,
        ),
    }
}

fn digits(text: &[u8], huffman: bool) -> u16 {
    if !huffman {
        return String::from_utf8_lossy(text).parse().expect("a status");
    }
    let bits: Vec<u8> = text
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let value = |length: usize| bits[at..at + length].iter().fold(0, |n, bit| n << 1 | bit);
        let (digit, length) = match value(5) {
            short @ 0..=2 => (short, 5),
            _ => (value(6) - 0x19 + 3, 6),
        };
        number = number * 10 + u16::from(digit);
        at += length;
    }
    number
}

#[test]
fn a_malformed_or_ambiguous_message_of_http_2_never_reaches_the_backend() {
    let (raw, stage) = open();
    let token = format!("Bearer {}", stage.portal_token());
    let plain = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/a"),
        ("authorization", &token),
    ];
    let with = |more: &[(&'static str, &'static str)]| [&plain[..], more].concat();
    let instead = |name: &str, value: &'static str| {
        let mut fields = plain.to_vec();
        let field = fields.iter_mut().find(|(known, _)| *known == name);
        field.expect("known").1 = value;
        fields
    };
    let without = |name: &str| {
        let mut fields = plain.to_vec();
        fields.retain(|(known, _)| *known != name);
        fields
    };
    let refused = |status| vec![Taken::Status(status)];
    let either = |status| vec![Taken::Status(status), Taken::BrokenOff];
    let rows = [
        ("another Host", with(&[("host", "elsewhere")]), refused(400)),
        (
            "two Hosts",
            with(&[("host", "localhost"), ("host", "localhost")]),
            refused(400),
        ),
        ("no authority", without(":authority"), refused(400)),
        (
            "userinfo",
            instead(":authority", "user@localhost"),
            either(400),
        ),
        (
            "connection",
            with(&[("connection", "keep-alive")]),
            either(400),
        ),
        (
            "a nominated field",
            with(&[("connection", "x-arr-log-id")]),
            either(400),
        ),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
            either(400),
        ),
        ("upgrade", with(&[("upgrade", "h2c")]), either(400)),
        ("keep-alive", with(&[("keep-alive", "1")]), either(400)),
        (
            "proxy-connection",
            with(&[("proxy-connection", "keep-alive")]),
            either(400),
        ),
        ("another te", with(&[("te", "gzip")]), either(400)),
        (
            "two lengths",
            with(&[("content-length", "0"), ("content-length", "0")]),
            either(400),
        ),
        (
            "a length and no body",
            with(&[("content-length", "5")]),
            either(400),
        ),
        ("an upper-case name", with(&[("X-Upper", "1")]), either(400)),
        (
            "a line end in a value",
            with(&[("x", "1\r\ny: 2")]),
            either(400),
        ),
        ("NUL in a value", with(&[("x", "1\x002")]), either(400)),
        ("a space in a name", with(&[("x y", "1")]), either(400)),
        ("a colon in a name", with(&[("x:y", "1")]), either(400)),
        ("two paths", with(&[(":path", "/b")]), either(400)),
        ("no path", without(":path"), either(400)),
        ("an empty path", instead(":path", ""), either(400)),
        ("a path without a slash", instead(":path", "a"), either(400)),
        ("a space in the path", instead(":path", "/a b"), either(400)),
        (
            "a request line in the path",
            instead(":path", "/a HTTP/1.1\r\nx: 1"),
            either(400),
        ),
        ("an encoded slash", instead(":path", "/a%2fb"), refused(400)),
        ("climbing out", instead(":path", "/../a"), refused(400)),
        (
            "a space in the method",
            instead(":method", "GET /b"),
            either(501),
        ),
        ("TRACE", instead(":method", "TRACE"), refused(501)),
        ("an unknown method", instead(":method", "get"), refused(501)),
        (
            "an unknown pseudo-field",
            with(&[(":protocol", "websocket")]),
            either(400),
        ),
        (
            "two tokens",
            with(&[("authorization", "Bearer x")]),
            refused(400),
        ),
    ];
    stage.runtime.block_on(async {
        for (why, fields, expected) in rows {
            let taken = patiently(ask(&stage, &fields)).await;
            assert!(expected.contains(&taken), "{why}: {taken:?}");
        }
        // CONNECT has neither scheme nor path (RFC 9113 section 8.5).
        let connect = [
            (":method", "CONNECT"),
            (":authority", "localhost:443"),
            ("authorization", &token),
        ];
        let taken = patiently(ask(&stage, &connect)).await;
        assert_eq!(taken, Taken::Status(501));
        let seen = raw.seen();
        assert_eq!((seen.connections, seen.requests.len()), (0, 0), "{seen:?}");

        // So that the table above proves something: the plain one is let in. A fragment is nobody's
        // business but the caller's; it is dropped before anything is matched.
        for (at, fields) in [plain.to_vec(), instead(":path", "/a#/b")]
            .iter()
            .enumerate()
        {
            let taken = patiently(ask(&stage, fields)).await;
            assert_eq!(taken, Taken::Status(200));
            let request = raw.seen().requests[at].clone();
            assert!(request.starts_with("GET /a HTTP/1.1\r\n"), "{request}");
        }
    });
}

/// The GOAWAY frames in what the gateway has said: the last stream and the code of each.
fn goodbyes(mut said: &[u8]) -> Vec<(u32, u32)> {
    let mut goodbyes = Vec::new();
    while let Some((head, rest)) = said.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let length = rest.len().min(usize::try_from(length).expect("small"));
        let (payload, rest) = rest.split_at(length);
        if head[3] == GOAWAY {
            let number = |at: usize| {
                let bytes = payload[at..at + 4].try_into().expect("four bytes");
                u32::from_be_bytes(bytes)
            };
            goodbyes.push((number(0), number(4)));
        }
        said = rest;
    }
    goodbyes
}

/// Sends `first` and then `again` for ever, until the gateway closes the connection. What it said.
async fn flood(stage: &Stage, first: Vec<u8>, mut again: impl FnMut() -> Vec<u8>) -> Vec<u8> {
    let (mut reads, mut writes) = tokio::io::split(stage.tls(b"h2").await);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    bytes.extend(first);
    let writing = async {
        while writes.write_all(&bytes).await.is_ok() {
            bytes.clear();
            for _ in 0..100 {
                bytes.extend(again());
            }
        }
    };
    let mut said = Vec::new();
    let reading = reads.read_to_end(&mut said);
    tokio::select! {
        () = writing => {}
        _ = reading => {}
    }
    // What was said before the connection ended.
    let _ = reads.read_to_end(&mut said).await;
    said
}

#[test]
fn a_flood_of_frames_that_ask_for_nothing_ends_its_connection_and_no_other() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let stage = scene
        .raw("raw", &raw)
        .portal_route("all", "GET, POST", "/{*rest}", "raw")
        .start();
    let token = format!("Bearer {}", stage.portal_token());
    let request = |method: &'static str| {
        block(&[
            (":method", method),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/a"),
            ("authorization", &token),
        ])
    };
    let post = |flags: u8| frame(HEADERS, flags, 1, &request("POST"));
    let get = |stream: u32| {
        let flags = END_HEADERS | END_STREAM;
        frame(HEADERS, flags, stream, &request("GET"))
    };
    let rows: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("PING", vec![], frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", vec![], frame(SETTINGS, 0, 0, &[])),
        ("PRIORITY", vec![], frame(PRIORITY, 0, 1, &[0; 5])),
        (
            "PRIORITY behind requests",
            [get(3), get(7)].concat(),
            frame(PRIORITY, 0, 99, &[0; 5]),
        ),
        (
            "WINDOW_UPDATE",
            vec![],
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        ),
        ("unknown", vec![], frame(0x42, 0, 0, &[])),
        ("empty DATA", post(END_HEADERS), frame(DATA, 0, 1, &[])),
        ("CONTINUATION", post(0), frame(CONTINUATION, 0, 1, &[])),
    ];
    let (mut honest, connection) = stage.runtime.block_on(async {
        let io = TokioIo::new(stage.tls(b"h2").await);
        let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        shaken.expect("HTTP/2")
    });
    let connection = stage.runtime.spawn(connection);
    let count = rows.len() as u64 + 1;
    stage.runtime.block_on(async {
        for (what, first, again) in rows {
            let said = patiently(flood(&stage, first, || again.clone())).await;
            // The last stream on which a request came whole (RFC 9113 section 6.8).
            let last = match what {
                "empty DATA" => 1,
                "PRIORITY behind requests" => 7,
                _ => 0,
            };
            // ENHANCE_YOUR_CALM (RFC 9113 section 7).
            assert_eq!(goodbyes(&said), [(last, 11)], "{what}");
        }
        let mut stream = 1;
        let reset = || {
            stream += 2;
            let mut frames = get(stream);
            frames.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
            frames
        };
        let said = patiently(flood(&stage, vec![], reset)).await;
        let [(last, 11)] = goodbyes(&said)[..] else {
            panic!("{:?}", goodbyes(&said));
        };
        assert!(last > 1 && last <= stream, "{last} of {stream}");
        let request = http::Request::get("https://localhost/a").header("authorization", &token);
        let request = request.body(Full::new(Bytes::new())).expect("a request");
        let answer = patiently(honest.send_request(request)).await;
        assert_eq!(answer.expect("an answer").status(), 200);
    });
    assert!(!connection.is_finished());
    let flooded = "portcullis_connections_closed_total{reason=\"flood\"}";
    stage.until("all are counted", |stage| {
        stage
            .admin("/metrics")
            .contains(&format!("{flooded} {count}\n"))
    });
}

#[test]
fn a_head_over_http_2_that_is_larger_than_heads_may_be_is_refused() {
    let (raw, stage) = open();
    let token = format!("Bearer {}", stage.portal_token());
    let long = "x".repeat(4000);
    let fields = |long_ones: usize| {
        let mut fields = vec![
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/a"),
            ("authorization", token.as_str()),
        ];
        fields.extend((0..long_ones).map(|_| ("x-long", long.as_str())));
        block(&fields)
    };
    stage.runtime.block_on(async {
        let taken = patiently(ask_in_frames(&stage, &fields(6))).await;
        assert_eq!(taken, Taken::Status(200));
        let taken = patiently(ask_in_frames(&stage, &fields(10))).await;
        assert_eq!(taken, Taken::Status(431));
    });
    assert_eq!(raw.seen().requests.len(), 1);
}

#[test]
fn a_stream_that_is_reset_because_its_request_is_malformed_is_counted() {
    let (raw, stage) = open();
    let usual = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "localhost"),
    ];
    let malformed = [
        [(":path", "/a<"), ("x", "y")],
        [(":path", "/a b"), ("x", "y")],
        [(":path", "/a"), ("te", "gzip")],
        [(":path", "/a"), ("connection", "close")],
    ];
    for (at, fields) in malformed.iter().enumerate() {
        let fields = [&usual[..], &fields[..]].concat();
        let taken = stage.runtime.block_on(patiently(ask(&stage, &fields)));
        assert_eq!(taken, Taken::BrokenOff, "{fields:?}");
        let reset = "portcullis_streams_reset_total{code=\"protocol-error\"}";
        let counted = format!("{reset} {}\n", at + 1);
        stage.until("it is counted", |stage| {
            stage.admin("/metrics").contains(&counted)
        });
    }
    assert_eq!(raw.seen().requests.len(), 0);
}
