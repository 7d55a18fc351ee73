//! Requests as they come, in whatever pieces.

use bytes::BytesMut;
use http::Method;
use proptest::prelude::*;

use super::authorizations::Authorizations;
use super::head::{Head, Heads, Wishes};
use crate::denial::Reason;
use crate::http1::{Content, Piece};

const MAX_HEAD: usize = 16 * 1024;

/// How reading a connection ended.
#[derive(Debug, PartialEq)]
enum End {
    /// Between two requests.
    Between,
    Within,
    Refused(Reason),
    Broken,
}

#[derive(Debug, PartialEq)]
struct Seen {
    /// The requests that were whole, as text.
    requests: Vec<String>,
    end: End,
}

/// Reads what comes in these pieces.
fn run<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Seen {
    let mut reading = Reading::default();
    let mut seen = Vec::new();
    for piece in pieces {
        reading.input.extend_from_slice(piece);
        if let Err(end) = reading.read(&mut seen) {
            return Seen {
                requests: seen,
                end,
            };
        }
    }
    let is_between = reading.body.is_none() && reading.input.is_empty();
    Seen {
        requests: seen,
        end: match is_between {
            true => End::Between,
            false => End::Within,
        },
    }
}

struct Reading {
    heads: Heads,
    input: BytesMut,
    body: Option<(String, Content)>,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            heads: Heads::new(MAX_HEAD, Authorizations::default()),
            input: BytesMut::new(),
            body: None,
        }
    }
}

impl Reading {
    /// Reads as far as what is there goes.
    fn read(&mut self, seen: &mut Vec<String>) -> Result<(), End> {
        loop {
            match &mut self.body {
                None => match self.heads.take(&mut self.input) {
                    Err(reason) => return Err(End::Refused(reason)),
                    Ok(None) => return Ok(()),
                    Ok(Some(head)) => {
                        let request = &head.request;
                        let mut text = format!("{} {}", request.method(), request.uri());
                        for (name, value) in request.headers() {
                            text +=
                                &format!("|{name}:{}", String::from_utf8_lossy(value.as_bytes()));
                        }
                        self.body = Some((text + "|", head.content));
                    }
                },
                Some((text, content)) => match content.take(&mut self.input) {
                    Err(_) => return Err(End::Broken),
                    Ok(Piece::More) => return Ok(()),
                    Ok(Piece::Data(data)) => *text += &String::from_utf8_lossy(&data),
                    Ok(Piece::Trailers(fields)) => {
                        for (name, value) in &fields {
                            *text += &format!("|{name}:{}", value.to_str().expect("text"));
                        }
                    }
                    Ok(Piece::End) => seen.extend(self.body.take().map(|(text, _)| text)),
                },
            }
        }
    }
}

fn whole(stream: &str) -> Seen {
    run([stream.as_bytes()])
}

const GET: &str = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
const POST: &str = "POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 7\r\n\r\nGET / H";
const CHUNKED: &str = "PUT /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4;x\r\n\r\n\r\n\r\n10\r\n0123456789abcdef\r\n0\r\nt: 1\r\n\r\n";

const GET_SEEN: &str = "GET /a|host:a|";
const POST_SEEN: &str = "POST /b|host:a|content-length:7|GET / H";
const CHUNKED_SEEN: &str = "PUT /c|host:a|transfer-encoding:chunked|\r\n\r\n0123456789abcdef|t:1";

#[test]
fn what_is_unambiguous_is_read_for_what_it_is() {
    for (stream, requests) in [
        (GET.to_owned(), vec![GET_SEEN]),
        (POST.to_owned(), vec![POST_SEEN]),
        (CHUNKED.to_owned(), vec![CHUNKED_SEEN]),
        (
            format!("{GET}{POST}{CHUNKED}\r\n{GET}"),
            vec![GET_SEEN, POST_SEEN, CHUNKED_SEEN, GET_SEEN],
        ),
    ] {
        let seen = whole(&stream);
        assert_eq!(seen.requests, requests, "{stream}");
        assert_eq!(seen.end, End::Between, "{stream}");
    }
}

#[test]
fn nothing_behind_a_refused_head_is_read() {
    let bad = "GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n";
    for (front, requests) in [
        ("", vec![]),
        (GET, vec![GET_SEEN]),
        (POST, vec![POST_SEEN]),
        (CHUNKED, vec![CHUNKED_SEEN]),
    ] {
        let seen = whole(&format!("{front}{bad}{GET}"));
        assert_eq!(seen.requests, requests);
        assert_eq!(seen.end, End::Refused(Reason::AmbiguousFraming));
    }
}

#[test]
fn nothing_behind_an_ambiguous_body_is_read() {
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for body in ["3\nabc", "3\r\nabcd", "0\r\n x: y\r\n"] {
        let seen = whole(&format!("{head}{body}{GET}"));
        let expected = Seen {
            requests: vec![],
            end: End::Broken,
        };
        assert_eq!(seen, expected, "{body}");
    }
}

#[test]
fn a_head_beyond_the_limit_is_refused_however_it_comes() {
    let head = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "y".repeat(MAX_HEAD)
    );
    for size in [1, 100, 8192, 64 * 1024] {
        let seen = run(head.as_bytes().chunks(size));
        assert_eq!(seen.end, End::Refused(Reason::HeadTooLarge), "{size}");
    }
}

/// The `Authorization` that stands apart, and nowhere else.
fn brought(head: &Head) -> &str {
    assert!(!head.request.headers().contains_key("authorization"));
    let brought = head
        .brought
        .authorization
        .as_ref()
        .expect("an Authorization");
    std::str::from_utf8(brought.expose()).expect("text")
}

#[test]
fn a_connection_remembers_a_token_and_never_takes_another_for_it() {
    let mut heads = Heads::new(MAX_HEAD, Authorizations::default());
    let signed = |claims: &str| format!("Bearer a.b{claims}.{}", "c".repeat(43));
    for (token, lasts) in [
        (&signed("1"), false),
        (&signed("1"), true),
        (&signed("1"), true),
        (&signed("2"), true),
        (&"Bearer a.b".to_owned(), false),
        (&"Bearer a.b".to_owned(), false),
        (&format!("{}d", signed("2")), false),
        // Held since it seemed to have come twice, and not yet forgotten.
        (&signed("2"), true),
        // Its place was taken.
        (&signed("1"), true),
        (&format!("{}d", signed("1")), false),
    ] {
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\nauthorization: {token}\r\n\r\n");
        let head = heads.take(&mut BytesMut::from(head.as_str()));
        let head = head.expect("a head").expect("whole");
        assert_eq!(brought(&head), token);
        assert_eq!(head.brought.lasts, lasts, "{token}");
        assert!(!format!("{heads:?} {head:?}").contains("a.b"));
    }
    let twice =
        "GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n";
    let head = heads.take(&mut BytesMut::from(twice));
    let head = head.expect("a head").expect("whole");
    assert_eq!(head.brought.authorization, None);
    let values = head.request.headers().get_all("authorization");
    assert_eq!(values.iter().collect::<Vec<_>>(), ["Bearer a", "Bearer b"]);
}

#[test]
fn a_connection_keeps_no_token_that_is_longer_than_any() {
    let mut heads = Heads::new(64 * 1024, Authorizations::default());
    for (length, is_kept) in [(3000, true), (30_000, false)] {
        let token = "x".repeat(length);
        let text = format!("GET / HTTP/1.1\r\nhost: a\r\nauthorization: {token}\r\n\r\n");
        for _ in 0..2 {
            let head = heads.take(&mut BytesMut::from(text.as_str()));
            let head = head.expect("a head").expect("whole");
            assert_eq!(brought(&head), token);
        }
        assert_eq!(heads.keeps_token(), is_kept, "{length}");
    }
}

#[test]
fn what_a_request_says_of_the_connection_is_understood() {
    let nothing = Wishes::default();
    let stays = Wishes {
        keeps_alive: true,
        ..nothing
    };
    for (version, fields, expected) in [
        ("1.1", "", stays),
        ("1.1", "connection: close\r\n", nothing),
        ("1.1", "connection: x, Close\r\n", nothing),
        ("1.1", "connection: x\r\nconnection: close\r\n", nothing),
        ("1.1", "connection: closed\r\n", stays),
        ("1.0", "", nothing),
        ("1.0", "connection: Keep-Alive\r\n", stays),
        ("1.0", "connection: keep-alive, close\r\n", nothing),
        (
            "1.1",
            "expect: 100-Continue\r\n",
            Wishes {
                expects_continue: true,
                ..stays
            },
        ),
        ("1.0", "expect: 100-continue\r\n", nothing),
        ("1.1", "expect: other\r\n", stays),
        (
            "1.1",
            "te: gzip, trailers\r\n",
            Wishes {
                takes_trailers: true,
                ..stays
            },
        ),
        ("1.1", "te: gzip\r\n", stays),
        (
            "1.1",
            "connection: keep-alive, Upgrade\r\n",
            Wishes {
                upgrades: true,
                ..stays
            },
        ),
        ("1.0", "connection: upgrade\r\n", nothing),
    ] {
        let text = format!("POST / HTTP/{version}\r\nhost: a\r\n{fields}\r\n");
        let head = Heads::new(MAX_HEAD, Authorizations::default())
            .take(&mut BytesMut::from(text.as_str()));
        let head = head.expect("a head").expect("whole");
        assert_eq!(head.request.method(), Method::POST);
        assert_eq!(head.wishes, expected, "{text}");
    }
}

/// A message, well formed or not.
fn message() -> impl Strategy<Value = String> {
    let good = prop_oneof![
        Just(GET.to_owned()),
        Just(POST.to_owned()),
        Just(CHUNKED.to_owned()),
        Just("\r\nGET / HTTP/1.0\r\n\r\n".to_owned()),
        (0usize..40).prop_map(|n| {
            format!(
                "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {n}\r\n\r\n{}",
                "\n".repeat(n)
            )
        }),
    ];
    let damaged = (
        good.clone(),
        any::<prop::sample::Index>(),
        "[\r\n\\x00 :;0-9a]",
    )
        .prop_map(|(text, at, byte)| {
            let mut text = text;
            let at = at.index(text.len());
            text.replace_range(at..=at, &byte);
            text
        });
    prop_oneof![3 => good, 1 => damaged]
}

proptest! {
    #[test]
    fn it_does_not_matter_how_the_bytes_are_split(
        messages in proptest::collection::vec(message(), 1..5),
        splits in proptest::collection::vec(1usize..40, 1..40),
    ) {
        let stream = messages.concat();
        let mut pieces = Vec::new();
        let mut rest = stream.as_bytes();
        for length in splits.iter().cycle() {
            let (piece, tail) = rest.split_at((*length).min(rest.len()));
            pieces.push(piece);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        let once = whole(&stream);
        prop_assert_eq!(&run(pieces), &once);
        prop_assert_eq!(&run(stream.as_bytes().chunks(1)), &once);
    }

    #[test]
    fn no_bytes_at_all_upset_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(run(bytes.chunks(1)), run([bytes.as_slice()]));
    }
}
