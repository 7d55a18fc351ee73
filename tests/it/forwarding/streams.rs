//! Bodies on their way: as they come, at the pace of whoever is slower, and no longer than somebody
//! wants them.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use portcullis::clock::within;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::behind;
use crate::support::{Piped, RawBackend, STILL, Scene, Stage, Step, patiently};

const MIB: usize = 1024 * 1024;
/// More than all buffers between two ends hold together: the kernel's of two connections are some
/// ten MiB when they have grown.
const BUFFERED: usize = 20 * MIB;
const LARGE: usize = 40 * MIB;

fn head(stage: &Stage, line: &str, fields: &str) -> String {
    let token = stage.portal_token();
    format!("{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{fields}\r\n")
}

/// A request over HTTP/2 with a body to come.
fn request(stage: &Stage, method: &str, body: Piped) -> Request<Piped> {
    Request::builder()
        .method(method)
        .uri("https://localhost/a")
        .header("authorization", format!("Bearer {}", stage.portal_token()))
        .body(body)
        .expect("a request")
}

#[test]
fn who_waits_for_100_continue_gets_it_when_let_in_and_never_when_refused() {
    let (raw, stage) = behind(vec![Step::text(
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine",
    )]);
    let fields = "Expect: 100-continue\r\nContent-Length: 5\r\n";

    let mut wire = stage.wire();
    wire.send(format!(
        "POST /a HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"
    ));
    let refused = wire.until("\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");

    let mut wire = stage.wire();
    wire.send(head(&stage, "POST /a", fields));
    assert_eq!(wire.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(raw.seen().requests.is_empty());
    wire.send("hello");
    let answer = wire.until("fine");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let request = raw.only().to_lowercase();
    assert!(request.ends_with("\r\n\r\nhello"), "{request}");
    assert!(!request.contains("expect"), "{request}");
}

/// Three events, each but the first only when the test releases it.
fn events() -> Vec<Step> {
    let event = |at: u8| Step::text(&format!("9\r\ndata: {at}\n\n\r\n"));
    vec![
        Step::text(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        event(1),
        Step::Wait,
        event(2),
        Step::Wait,
        event(3),
        Step::text("0\r\n\r\n"),
    ]
}

#[test]
fn each_server_sent_event_arrives_before_the_next_one_exists() {
    let (raw, stage) = behind(events());
    let mut wire = stage.wire();
    wire.send(head(&stage, "GET /a", "Accept: text/event-stream\r\n"));
    wire.until("content-type: text/event-stream\r\n");
    wire.until("data: 1\n\n\r\n");
    assert_eq!(wire.held(), "");
    raw.release();
    wire.until("data: 2\n\n\r\n");
    assert_eq!(wire.held(), "");
    raw.release();
    wire.until("data: 3\n\n\r\n0\r\n\r\n");
    let record = stage.record("the record", |record| record["path"] == "/a");
    assert_eq!(record["complete"], true);
    assert_eq!(record["sentBytes"], 27);
}

#[test]
fn each_server_sent_event_arrives_over_http_2_as_well() {
    let (raw, stage) = behind(events());
    stage.runtime.block_on(async {
        let mut sender = stage.http2().await;
        let request = request(&stage, "GET", Piped::empty());
        let answer = patiently(sender.send_request(request)).await;
        let mut body = answer.expect("an answer").into_body();
        for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
            let frame = patiently(body.frame()).await.expect("more");
            let data = frame.expect("unbroken").into_data().expect("data");
            assert_eq!(data, event);
            raw.release();
        }
        // What ends the stream may come as an empty frame.
        let end = patiently(body.collect()).await.expect("an end");
        assert!(end.to_bytes().is_empty());
    });
}

#[test]
fn megabytes_pass_both_ways_unharmed() {
    let scene = Scene::new();
    let large: String = (0..8 * MIB)
        .map(|at| char::from(b'a' + u8::try_from(at % 23).expect("small")))
        .collect();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{large}",
        large.len()
    );
    let raw = RawBackend::start(&scene, vec![Step::text(&answer)]);
    let stage = scene.all_to(&raw).start();
    for (at, http2) in [false, true].into_iter().enumerate() {
        let call = stage.call("POST", "/a").portal().body(large.clone());
        let answer = if http2 { call.http2() } else { call }.send();
        assert_eq!(answer.verdict(), "200");
        assert!(answer.body == large.as_bytes(), "{}", answer.body.len());
        let request = raw.seen().requests[at].clone();
        let (_, body) = request.split_once("\r\n\r\n").expect("a head");
        assert!(body == large, "{}", body.len());
    }
}

/// A listener whose connections buffer little.
fn listen(scene: &Scene) -> (TcpListener, String) {
    let _inside = scene.runtime.enter();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // Still more than a segment of the loopback device, or every one of them would wait for a timer.
    socket.set_recv_buffer_size(MIB).expect("a buffer");
    socket.set_send_buffer_size(MIB).expect("a buffer");
    socket.set_nonblocking(true).expect("non-blocking");
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("bound");
    socket.listen(16).expect("listening");
    let listener = TcpListener::from_std(socket.into()).expect("a listener");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, url)
}

/// Accepts a connection and reads the head of a request.
async fn accept(listener: TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(stream.read_u8().await.expect("a head"));
    }
    stream
}

/// A backend that reads a head and then nothing until it may go on; then the body, and answers.
fn slow_reader(scene: Scene) -> (oneshot::Sender<()>, Stage) {
    let (listener, url) = listen(&scene);
    let (go, gone) = oneshot::channel();
    scene.runtime.spawn(async move {
        let mut stream = accept(listener).await;
        gone.await.expect("the test goes on");
        let mut buffer = vec![0; MIB];
        let mut left = LARGE;
        while left > 0 {
            left -= stream.read(&mut buffer).await.expect("more");
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
        stream.write_all(answer).await.expect("written");
    });
    (go, in_front_of(scene, &url))
}

/// A backend that answers as fast as its answer is taken, and says how much was taken when it first
/// had to wait.
fn fast_writer(scene: Scene) -> (oneshot::Receiver<usize>, Stage) {
    let (listener, url) = listen(&scene);
    let (stalled, taken) = oneshot::channel();
    scene.runtime.spawn(async move {
        let mut stream = accept(listener).await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("written");
        let piece = vec![b'x'; 64 * 1024];
        let mut written = 0;
        while written < LARGE {
            match within(STILL, stream.write(&piece)).await {
                None => break,
                Some(more) => written += more.expect("written"),
            }
        }
        stalled.send(written).expect("the test waits");
        while written < LARGE {
            let next = &piece[..piece.len().min(LARGE - written)];
            written += stream.write(next).await.expect("written");
        }
    });
    (taken, in_front_of(scene, &url))
}

/// A backend that begins to answer before it has the body, and takes the one while the other is on its way.
fn both_at_once(scene: Scene) -> Stage {
    let (listener, url) = listen(&scene);
    scene.runtime.spawn(async move {
        let stream = accept(listener).await;
        let (mut reading, mut writing) = stream.into_split();
        let answering = async move {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
            writing.write_all(head.as_bytes()).await.expect("written");
            let answer = vec![b'y'; LARGE];
            writing.write_all(&answer).await.expect("written");
            writing
        };
        let taking = async move {
            let mut buffer = vec![0; MIB];
            let mut left = LARGE;
            while left > 0 {
                left -= reading.read(&mut buffer).await.expect("more");
            }
        };
        tokio::join!(answering, taking)
    });
    in_front_of(scene, &url)
}

fn in_front_of(scene: Scene, url: &str) -> Stage {
    scene
        .backend("b", &format!("http: '{url}', credential: none"))
        .all("b")
        .start()
}

#[test]
fn a_backend_that_does_not_read_holds_back_a_caller_over_http_1() {
    let (go, stage) = slow_reader(Scene::new());
    let mut wire = stage.wire();
    let fields = format!("Content-Length: {LARGE}\r\n");
    wire.send(head(&stage, "POST /a", &fields));
    let taken = wire.pour(LARGE);
    assert!(taken < BUFFERED, "{taken} bytes were taken in");
    go.send(()).expect("the backend waits");
    wire.send(vec![b'x'; LARGE - taken]);
    wire.until("\r\n\r\nfine");
}

#[test]
fn a_backend_that_does_not_read_holds_back_a_caller_over_http_2() {
    let (go, stage) = slow_reader(Scene::new());
    stage.runtime.block_on(async {
        let mut sender = stage.http2().await;
        let (pipe, body) = Piped::new();
        let mut request = request(&stage, "POST", body);
        request.headers_mut().insert("content-length", LARGE.into());
        let answer = tokio::spawn(sender.send_request(request));
        let piece = Bytes::from(vec![b'x'; 64 * 1024]);
        let mut taken = 0;
        while let Some(sent) = within(STILL, pipe.send(Frame::data(piece.clone()))).await {
            sent.expect("taken");
            taken += piece.len();
            assert!(taken < BUFFERED, "{taken} bytes were taken in");
        }
        go.send(()).expect("the backend waits");
        while taken < LARGE {
            let sent = pipe.send(Frame::data(piece.clone()));
            patiently(sent).await.expect("taken");
            taken += piece.len();
        }
        drop(pipe);
        let answer = patiently(answer).await.expect("ended");
        assert_eq!(answer.expect("an answer").status(), 200);
    });
}

#[test]
fn a_caller_that_reads_only_once_it_has_sent_everything_gets_its_answer() {
    let stage = both_at_once(Scene::new());
    let mut wire = stage.wire();
    let fields = format!("Connection: close\r\nContent-Length: {LARGE}\r\n");
    wire.send(head(&stage, "POST /a", &fields));
    wire.send(vec![b'x'; LARGE]);
    let text = wire.rest();
    let (_, body) = text.split_once("\r\n\r\n").expect("a head");
    assert_eq!(body.len(), LARGE);
}

#[test]
fn a_caller_over_http_1_that_does_not_read_holds_back_the_backend() {
    let (taken, stage) = fast_writer(Scene::new());
    let mut wire = stage.wire();
    wire.send(head(&stage, "GET /a", "Connection: close\r\n"));
    let taken = stage.runtime.block_on(patiently(taken)).expect("told");
    assert!(taken < BUFFERED, "{taken} bytes were taken in");
    let text = wire.rest();
    let (_, body) = text.split_once("\r\n\r\n").expect("a head");
    assert_eq!(body.len(), LARGE);
}

#[test]
fn a_caller_over_http_2_that_does_not_read_holds_back_the_backend() {
    let (taken, stage) = fast_writer(Scene::new());
    stage.runtime.block_on(async {
        let mut sender = stage.http2().await;
        let request = request(&stage, "GET", Piped::empty());
        let answer = patiently(sender.send_request(request)).await;
        let taken = patiently(taken).await.expect("told");
        assert!(taken < BUFFERED, "{taken} bytes were taken in");
        let body = answer.expect("an answer").into_body();
        let body = patiently(body.collect()).await.expect("unbroken");
        assert_eq!(body.to_bytes().len(), LARGE);
    });
}

#[test]
fn a_caller_that_leaves_ends_the_request_at_the_backend() {
    let before = vec![Step::Wait];
    let midway = vec![
        Step::text("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
        Step::Wait,
    ];
    for (steps, reason, sent) in [(before, "caller-left", 0), (midway, "rule", 5)] {
        for http2 in [false, true] {
            let (raw, stage) = behind(steps.clone());
            if http2 {
                stage.runtime.block_on(async {
                    let mut sender = stage.http2().await;
                    let mut answer =
                        Box::pin(sender.send_request(request(&stage, "GET", Piped::empty())));
                    if sent == 0 {
                        tokio::select! {
                            _ = &mut answer => panic!("no answer was due"),
                            _ = patiently(raw.saw(|seen| seen.requests.len() == 1)) => {}
                        }
                    } else {
                        let mut body = patiently(answer).await.expect("an answer").into_body();
                        patiently(body.frame())
                            .await
                            .expect("more")
                            .expect("unbroken");
                    }
                });
            } else {
                let mut wire = stage.wire();
                wire.send(head(&stage, "GET /a", ""));
                if sent == 0 {
                    stage.until("a request", |_| raw.seen().requests.len() == 1);
                } else {
                    wire.until("\r\n\r\nhello");
                }
            }
            stage.until("the end", |_| raw.seen().closed == 1);
            let record = stage.record("the record", |record| record["path"] == "/a");
            assert_eq!(record["reason"], reason, "{record}");
            assert_eq!(record["complete"], false, "{record}");
            assert_eq!(record["sentBytes"], sent, "{record}");
        }
    }
}

#[test]
fn a_backend_that_answers_before_the_body_has_come_is_heard() {
    let scene = Scene::new();
    let (listener, url) = listen(&scene);
    let _backend = scene.runtime.spawn(async move {
        let mut stream = accept(listener).await;
        let answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig";
        stream.write_all(answer).await.expect("written");
        let mut byte = [0];
        while !matches!(stream.read(&mut byte).await, Ok(0) | Err(_)) {}
    });
    let stage = scene
        .backend("early", &format!("http: '{url}', credential: none"))
        .all("early")
        .start();
    let mut wire = stage.wire();
    wire.send(head(&stage, "POST /a", "Content-Length: 1000000\r\n"));
    wire.send("begun");
    let answer = wire.until("\r\n\r\nbig");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[test]
fn an_upload_may_take_longer_than_the_wait_for_an_answer_as_long_as_it_moves() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let url = raw.url();
    let short = "timeouts: { firstByte: 400ms }";
    let stage = scene
        .backend("b", &format!("http: '{url}', credential: none, {short}"))
        .all("b")
        .start();
    let mut wire = stage.wire();
    wire.send(head(&stage, "POST /a", "Content-Length: 10\r\n"));
    for _ in 0..10 {
        // A caller that is slow is what this is about.
        let slow = async { within(STILL / 4, std::future::pending::<()>()).await };
        assert_eq!(stage.runtime.block_on(slow), None);
        wire.send("x");
    }
    wire.until("\r\n\r\nfine");

    let mut wire = stage.wire();
    wire.send(head(&stage, "POST /a", "Content-Length: 10\r\n"));
    wire.send("x");
    let answer = wire.until("}");
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
}

#[test]
fn trailers_of_a_caller_come_behind_its_body() {
    let (raw, stage) = behind(vec![Step::text(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    )]);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "1".parse().expect("a value"));
    stage.runtime.block_on(async {
        let mut sender = stage.http2().await;
        let mut request = request(&stage, "POST", Piped::of("hello", trailers));
        let names = "x-checksum".parse().expect("a value");
        request.headers_mut().insert("trailer", names);
        let answer = patiently(sender.send_request(request)).await;
        assert_eq!(answer.expect("an answer").status(), 200);
    });
    let request = raw.only();
    assert!(
        request.ends_with("\r\n5\r\nhello\r\n0\r\nx-checksum: 1\r\n\r\n"),
        "{request}"
    );
}
