use bytes::BytesMut;
use http::Method;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use super::head::take;
use super::{Http1, Wire};
use crate::clock::{Clock as _, SystemClock};
use crate::http1::{Content, Scratch};

#[derive(Debug, PartialEq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

fn framing(method: &Method, text: &str) -> Result<Option<(u16, Framing, bool)>, String> {
    let mut input = BytesMut::from(text);
    let head = take(&mut input, method).map_err(|fault| fault.to_string())?;
    Ok(head.map(|head| {
        let status = head.response.status().as_u16();
        let framing = match head.content {
            Content::Length(length) => Framing::Length(length),
            Content::Chunked(_) => Framing::Chunked,
            Content::UntilClose { .. } => Framing::UntilClose,
        };
        (status, framing, head.keeps_alive)
    }))
}

#[test]
fn an_answer_ends_where_its_head_says() {
    use Framing::{Chunked as Chunks, Length, UntilClose};
    let get = Method::GET;
    for (method, text, expected) in [
        (
            &get,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            (200, Length(5), true),
        ),
        (
            &get,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            (200, Length(5), true),
        ),
        (
            &get,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
            (200, Chunks, true),
        ),
        (
            &get,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            (200, Chunks, false),
        ),
        (&get, "HTTP/1.1 200 OK\r\n\r\n", (200, UntilClose, false)),
        (
            &get,
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
            (200, Length(5), false),
        ),
        (
            &get,
            "HTTP/1.1 200 OK\r\nConnection: x, CLOSE\r\nContent-Length: 5\r\n\r\n",
            (200, Length(5), false),
        ),
        (
            &Method::HEAD,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            (200, Length(0), true),
        ),
        (
            &get,
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
            (204, Length(0), true),
        ),
        (
            &get,
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
            (304, Length(0), true),
        ),
        (
            &get,
            "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n",
            (200, Length(1), true),
        ),
    ] {
        assert_eq!(framing(method, text), Ok(Some(expected)), "{text}");
    }
}

#[test]
fn a_length_that_is_said_twice_is_passed_on_once() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n";
    let head = take(&mut BytesMut::from(text), &Method::GET)
        .expect("an answer")
        .expect("whole");
    let lengths = head.response.headers().get_all("content-length");
    assert_eq!(lengths.iter().collect::<Vec<_>>(), ["5"]);
}

#[test]
fn a_head_that_is_not_whole_is_waited_for() {
    let whole = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX: 1\r\nContent-Length: 5\r\n\r\n";
    for end in 0..whole.len() {
        assert_eq!(framing(&Method::GET, &whole[..end]), Ok(None), "{end}");
    }
    assert!(matches!(framing(&Method::GET, whole), Ok(Some((200, ..)))));
}

#[test]
fn what_can_be_read_in_two_ways_is_no_answer() {
    for fields in [
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: x\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length:\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "X : 1\r\n",
        "X: a\0b\r\n",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        assert!(framing(&Method::GET, &text).is_err(), "{fields}");
    }
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(framing(&Method::GET, old).is_err());
}

#[test]
fn however_many_connections_were_closed_each_is_known_to_be() {
    // More than what tokio lets a task do before it makes way for others.
    const MANY: usize = 300;
    let now = SystemClock.instant();
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let mut connections = Vec::new();
        for _ in 0..MANY {
            let stream = TcpStream::connect(address).await.expect("connected");
            let (accepted, _) = listener.accept().await.expect("accepted");
            drop(accepted);
            stream.readable().await.expect("closed");
            connections.push(Http1::new(Wire::Plain(stream), Scratch::default(), now));
        }
        let open = connections
            .iter_mut()
            .filter_map(|one| one.is_open().then_some(()));
        assert_eq!(open.count(), 0);
    });
}
