//! The guard under scripted reads, and under hyper.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::Waker;

use http::{Response, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::body::Reply;
use crate::denial::Denial;
use crate::ids::RequestId;

const MAX_HEAD: usize = 16 * 1024;

/// A peer that sends these pieces and then ends its side, or waits.
struct Script {
    pieces: VecDeque<Vec<u8>>,
    ends: bool,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut piece) = self.pieces.pop_front() else {
            return if self.ends {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        };
        let length = piece.len().min(buf.remaining());
        buf.put_slice(&piece[..length]);
        if length < piece.len() {
            self.pieces.push_front(piece.split_off(length));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[derive(Debug, PartialEq)]
enum End {
    Eof,
    Waits,
    Error(io::ErrorKind),
}

#[derive(Debug, PartialEq)]
struct Seen {
    delivered: String,
    fault: Option<Reason>,
    end: End,
}

fn guard(pieces: Vec<Vec<u8>>, ends: bool) -> Guard<Script> {
    let pieces = pieces
        .into_iter()
        .filter(|piece| !piece.is_empty())
        .collect();
    Guard::new(Script { pieces, ends }, MAX_HEAD)
}

/// One read into a buffer of this size.
fn read(guard: &mut Guard<Script>, size: usize) -> Poll<io::Result<Vec<u8>>> {
    let mut bytes = vec![0; size];
    let mut buf = ReadBuf::new(&mut bytes);
    let mut cx = Context::from_waker(Waker::noop());
    ready!(Pin::new(guard).poll_read(&mut cx, &mut buf))?;
    Poll::Ready(Ok(buf.filled().to_vec()))
}

fn run(mut guard: Guard<Script>, size: usize) -> Seen {
    let fault = guard.fault();
    let mut delivered = Vec::new();
    let end = loop {
        match read(&mut guard, size) {
            Poll::Pending => break End::Waits,
            Poll::Ready(Err(error)) => break End::Error(error.kind()),
            Poll::Ready(Ok(bytes)) if bytes.is_empty() => break End::Eof,
            Poll::Ready(Ok(bytes)) => delivered.extend(bytes),
        }
    };
    let delivered = String::from_utf8_lossy(&delivered).into_owned();
    Seen {
        delivered,
        fault: fault.take(),
        end,
    }
}

fn whole(stream: &str) -> Seen {
    run(guard(vec![stream.as_bytes().to_vec()], true), 64 * 1024)
}

fn replacement() -> String {
    String::from_utf8(REPLACEMENT.to_vec()).expect("text")
}

const GET: &str = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
const POST: &str = "POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 7\r\n\r\nGET / H";
const CHUNKED: &str = "PUT /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4;x\r\n\r\n\r\n\r\n10\r\n0123456789abcdef\r\n0\r\nt: 1\r\n\r\n";

#[test]
fn what_is_unambiguous_is_delivered_byte_for_byte() {
    for stream in [
        GET.to_owned(),
        POST.to_owned(),
        CHUNKED.to_owned(),
        format!("{GET}{POST}{CHUNKED}\r\n{GET}"),
    ] {
        let delivered = stream.clone();
        assert_eq!(
            whole(&stream),
            Seen {
                delivered,
                fault: None,
                end: End::Eof
            }
        );
    }
}

#[test]
fn a_refused_head_is_replaced_and_nothing_is_delivered_behind_it() {
    let bad = "GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n";
    for front in ["", GET, POST, CHUNKED] {
        let seen = whole(&format!("{front}{bad}{GET}"));
        let delivered = format!("{front}{}", replacement());
        let fault = Some(Reason::AmbiguousFraming);
        assert_eq!(
            seen,
            Seen {
                delivered,
                fault,
                end: End::Waits
            }
        );
    }
}

#[test]
fn the_fault_is_told_with_the_replacement_and_not_before() {
    let mut guard = guard(
        vec![format!("{GET}GET  / HTTP/1.1\r\n").into_bytes()],
        false,
    );
    let fault = guard.fault();
    assert!(matches!(read(&mut guard, 1024), Poll::Ready(Ok(bytes)) if bytes == GET.as_bytes()));
    assert_eq!(fault.take(), None);
    assert!(matches!(read(&mut guard, 1024), Poll::Ready(Ok(bytes)) if bytes == REPLACEMENT));
    assert_eq!(fault.take(), Some(Reason::AmbiguousFraming));
    assert_eq!(fault.take(), None);
}

#[test]
fn a_broken_body_is_delivered_up_to_the_byte_that_breaks_it() {
    let head = "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for (body, good) in [
        ("3\nabc", "3"),
        ("3\r\nabcd", "3\r\nabc"),
        ("0\r\n x: y\r\n", "0\r\n"),
    ] {
        let seen = whole(&format!("{head}{body}"));
        let delivered = format!("{head}{good}");
        let end = End::Error(io::ErrorKind::InvalidData);
        assert_eq!(
            seen,
            Seen {
                delivered,
                fault: None,
                end
            }
        );
    }
}

#[test]
fn an_incomplete_head_is_held_back_and_known_to_have_begun() {
    let (front, back) = GET.split_at(9);
    let mut guard = guard(vec![front.into()], false);
    let watch = guard.head_watch();
    assert_eq!(watch.incomplete(), None);
    assert!(read(&mut guard, 1024).is_pending());
    assert_eq!(watch.incomplete(), Some(0));
    guard.io.pieces.push_back(back.into());
    assert!(matches!(read(&mut guard, 1024), Poll::Ready(Ok(bytes)) if bytes == GET.as_bytes()));
    assert_eq!(watch.incomplete(), None);
    assert_eq!(
        guard.held.capacity(),
        0,
        "an idle connection keeps no buffer"
    );
}

#[test]
fn a_refused_head_is_no_longer_waited_for() {
    let mut guard = guard(
        vec![b"GET / HTTP/1.1\r\nho".to_vec(), b"st : a\r\nx".to_vec()],
        false,
    );
    let watch = guard.head_watch();
    assert!(matches!(read(&mut guard, 1024), Poll::Ready(Ok(bytes)) if bytes == REPLACEMENT));
    assert_eq!(watch.incomplete(), None);
}

#[test]
fn a_whole_head_is_never_copied() {
    let mut guard = guard(vec![GET.into(), format!("{POST}{GET}").into_bytes()], false);
    for _ in 0..2 {
        assert!(matches!(read(&mut guard, 1024), Poll::Ready(Ok(_))));
        assert_eq!(guard.held.capacity(), 0);
    }
}

#[test]
fn a_head_cut_off_by_the_end_is_forgotten() {
    let seen = whole(&format!("{GET}GET / HT"));
    assert_eq!(
        seen,
        Seen {
            delivered: GET.into(),
            fault: None,
            end: End::Eof
        }
    );
}

#[test]
fn the_end_behind_a_refused_head_is_told_once_the_answer_is_written() {
    let mut guard = guard(vec![b"?".to_vec()], true);
    let fault = guard.fault();
    assert!(matches!(read(&mut guard, 1024), Poll::Ready(Ok(bytes)) if bytes == REPLACEMENT));
    write(&mut guard, b"the answer to an earlier request");
    assert!(read(&mut guard, 1024).is_pending());
    assert_eq!(fault.take(), Some(Reason::AmbiguousFraming));
    assert!(read(&mut guard, 1024).is_pending());
    write(&mut guard, b"HTTP/1.1 400 Bad Request");
    assert!(matches!(read(&mut guard, 1024), Poll::Ready(Ok(bytes)) if bytes.is_empty()));
}

fn write(guard: &mut Guard<Script>, bytes: &[u8]) {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(guard).poll_write(&mut cx, bytes).is_ready());
}

#[test]
fn a_head_beyond_the_limit_is_refused_however_it_comes() {
    let head = format!(
        "GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "y".repeat(MAX_HEAD)
    );
    for size in [1, 100, 8192, 64 * 1024] {
        let pieces = head.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
        assert_eq!(
            run(guard(pieces, false), 64 * 1024).fault,
            Some(Reason::HeadTooLarge),
            "{size}"
        );
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
        size in 1usize..64,
        ends: bool,
    ) {
        let stream = messages.concat();
        let bytes = stream.as_bytes();
        let once = run(guard(vec![bytes.to_vec()], ends), 64 * 1024);
        let mut pieces = Vec::new();
        let mut rest = bytes;
        for length in splits.iter().cycle() {
            let (piece, tail) = rest.split_at((*length).min(rest.len()));
            pieces.push(piece.to_vec());
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(&run(guard(pieces.clone(), ends), 64 * 1024), &once);
        prop_assert_eq!(&run(guard(pieces, ends), size), &once);
        let single = bytes.iter().map(|byte| vec![*byte]).collect();
        prop_assert_eq!(&run(guard(single, ends), 1), &once);
    }

    #[test]
    fn no_bytes_at_all_upset_the_guard(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in 1usize..50) {
        let once = run(guard(vec![bytes.clone()], true), 1024);
        let single = bytes.iter().map(|byte| vec![*byte]).collect();
        prop_assert_eq!(run(guard(single, true), size), once);
    }
}

/// What a caller reads who sends this and then stops sending.
async fn answered(sent: &str) -> String {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let guard = Guard::new(server, MAX_HEAD);
    let fault = guard.fault();
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let fault = fault.take();
        async move {
            // Gives hyper the time to read ahead.
            tokio::task::yield_now().await;
            let mut answer = match fault {
                Some(reason) => Denial::from(reason).answer(RequestId::fresh()),
                None => Response::new(Reply::full(request.uri().path().to_owned())),
            };
            answer.headers_mut().remove("cache-control");
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(guard), service);
    let caller = async {
        let (mut reader, mut writer) = tokio::io::split(client);
        writer.write_all(sent.as_bytes()).await.expect("sent");
        writer.shutdown().await.expect("shut down");
        let mut answer = Vec::new();
        reader.read_to_end(&mut answer).await.expect("answered");
        String::from_utf8(answer).expect("text")
    };
    // How the connection ends is hyper's business; what the caller read is ours.
    let (answer, _) = tokio::join!(caller, connection);
    answer
}

#[tokio::test]
async fn a_caller_of_ambiguous_framing_is_told_so_and_the_connection_ends() {
    for (sent, reason) in [
        ("GET / HTTP/1.1\nhost: a\n\n", Reason::AmbiguousFraming),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            Reason::AmbiguousFraming,
        ),
        ("GET / HTTP/1.1\r\n\r\n", Reason::AmbiguousHost),
        ("\u{16}\u{3}\u{1}", Reason::AmbiguousFraming),
    ] {
        let answer = answered(sent).await;
        let status = format!("HTTP/1.1 {} ", StatusCode::BAD_REQUEST.as_u16());
        assert!(answer.starts_with(&status), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(answer.contains(reason.code()), "{answer}");
    }
}

#[tokio::test]
async fn a_good_request_in_front_of_a_bad_one_is_answered_for_itself() {
    let answer = answered(&format!("{GET}{GET}GET /  HTTP/1.1\r\n\r\n{GET}")).await;
    let statuses: Vec<_> = answer
        .match_indices("HTTP/1.1 ")
        .map(|(at, _)| &answer[at + 9..at + 12])
        .collect();
    assert_eq!(statuses, ["200", "200", "400"], "{answer}");
    assert_eq!(
        answer.matches(Reason::AmbiguousFraming.code()).count(),
        2,
        "type and reason, once"
    );
}
