use bytes::{Bytes, BytesMut};
use http::Method;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use super::chunked::{Chunked, Piece};
use super::head::{Framing, take};
use super::{Http1, Scratch, Wire};

fn framing(method: &Method, text: &str) -> Result<Option<(u16, Framing, bool)>, String> {
    let mut input = BytesMut::from(text);
    let head = take(&mut input, method).map_err(|fault| fault.to_string())?;
    Ok(head.map(|head| {
        let status = head.response.status().as_u16();
        (status, head.framing, head.keeps_alive)
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

/// All of a chunked body that came in these pieces, its trailers and what is left behind it. An error where it
/// is none.
fn dechunked(pieces: &[&str]) -> Result<(String, Option<String>, String), String> {
    let (mut chunked, mut input) = (Chunked::default(), BytesMut::new());
    let (mut data, mut trailers) = (Vec::new(), None);
    let mut pieces = pieces.iter();
    loop {
        match chunked
            .take(&mut input)
            .map_err(|fault| fault.to_string())?
        {
            Piece::Data(more) => data.extend_from_slice(&more),
            Piece::Trailers(fields) => {
                let value = fields
                    .get("x-sum")
                    .map(|value| value.to_str().expect("text"));
                trailers = value.map(str::to_owned);
            }
            Piece::End => {
                let rest = String::from_utf8(input.to_vec()).expect("text");
                return Ok((String::from_utf8(data).expect("text"), trailers, rest));
            }
            Piece::More => match pieces.next() {
                Some(piece) => input.extend_from_slice(piece.as_bytes()),
                None => return Err("it does not end".to_owned()),
            },
        }
    }
}

#[test]
fn a_chunked_body_is_read_however_it_is_cut() {
    let whole = "5\r\nhello\r\n6;a=b\r\n world\r\n00\r\nX-Sum: 7\r\n\r\nnext";
    let expected = (
        "hello world".to_owned(),
        Some("7".to_owned()),
        "next".to_owned(),
    );
    for at in 0..whole.len() - "next".len() {
        let cut = [&whole[..at], &whole[at..]];
        assert_eq!(dechunked(&cut), Ok(expected.clone()), "{at}");
    }
    let bytes: Vec<String> = whole.chars().map(String::from).collect();
    let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
    let (data, trailers, _) = dechunked(&bytes).expect("a body");
    assert_eq!((data, trailers), (expected.0, expected.1));
}

#[test]
fn chunks_that_two_readers_cut_in_two_ways_are_refused() {
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";x\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "11111111111111111\r\nhello\r\n0\r\n\r\n",
        "0\r\nX Y: 1\r\n\r\n",
        "0\r\n\n",
        "0\r\nX: 1\n\r\n",
    ] {
        let refused = dechunked(&[body]);
        let fault = refused.expect_err(body);
        assert!(fault != "it does not end", "{body}");
    }
    let extended = "1;aaaaaaaaaaaaaaa\r\nx\r\n".repeat(2000);
    assert!(dechunked(&[&extended]).is_err_and(|fault| fault != "it does not end"));
    let long = format!("5;{}", "x".repeat(1000));
    assert!(dechunked(&[&long]).is_err_and(|fault| fault != "it does not end"));
    let trailers = format!("0\r\nX: {}", "x".repeat(9000));
    assert!(dechunked(&[&trailers]).is_err_and(|fault| fault != "it does not end"));
}

#[test]
fn no_more_than_what_belongs_to_a_body_is_taken() {
    let mut input = BytesMut::from("hello world");
    let taken = super::chunked::up_to(5, &mut input);
    assert_eq!(
        (taken, input.freeze()),
        (Bytes::from("hello"), Bytes::from(" world"))
    );
}

#[test]
fn however_many_connections_were_closed_each_is_known_to_be() {
    // More than what tokio lets a task do before it makes way for others.
    const MANY: usize = 300;
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
            connections.push(Http1::new(Wire::Plain(stream), Scratch::default()));
        }
        let open = connections
            .iter_mut()
            .filter_map(|one| one.is_open().then_some(()));
        assert_eq!(open.count(), 0);
    });
}
