//! gRPC: HTTP/2 from end to end, both directions at once, and the status behind the body.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::{Piped, Scene, Stage, patiently};

/// Sends every message back as it comes, and a status behind the last.
struct Echo(Option<Incoming>);

impl Body for Echo {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        if frame.is_some() {
            return Poll::Ready(frame);
        }
        self.0 = None;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

type Heads = watch::Receiver<Vec<http::request::Parts>>;

/// A backend that speaks HTTP/2 and nothing else, with prior knowledge.
fn start(scene: &Scene) -> (SocketAddr, Heads) {
    let listener = TcpListener::bind("127.0.0.1:0");
    let listener = scene.runtime.block_on(listener).expect("bound");
    let address = listener.local_addr().expect("an address");
    let (heads, seen) = watch::channel(Vec::new());
    scene.runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let heads = heads.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let (parts, body) = request.into_parts();
                heads.send_modify(|heads| heads.push(parts));
                let mut answer = Response::new(Echo(Some(body)));
                let kind = HeaderValue::from_static("application/grpc");
                answer.headers_mut().insert("content-type", kind);
                async { Ok::<_, Infallible>(answer) }
            });
            let served = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(served);
        }
    });
    (address, seen)
}

fn stage() -> (Heads, Stage) {
    let scene = Scene::new();
    let (address, seen) = start(&scene);
    let stage = scene
        .backend(
            "grpc",
            &format!("http: 'http://{address}', credential: none, protocol: http2"),
        )
        .all("grpc")
        .start();
    (seen, stage)
}

fn call(stage: &Stage, body: Piped) -> Request<Piped> {
    Request::post("https://localhost/greet.Greeter/Chat?sig=planted-key&a=1")
        .header("authorization", format!("Bearer {}", stage.portal_token()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-ms-client-principal-id", "forged")
        .body(body)
        .expect("a request")
}

#[test]
fn messages_stream_both_ways_at_once_and_the_status_comes_behind_them() {
    let (seen, stage) = stage();
    stage.runtime.block_on(async {
        let mut sender = stage.http2().await;
        let (pipe, body) = Piped::new();
        let answer = patiently(sender.send_request(call(&stage, body))).await;
        // The answer has begun while the request has not ended, nor its first message been sent.
        let answer = answer.expect("an answer");
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        let mut body = answer.into_body();
        for message in ["one", "two", "three"] {
            let frame = Frame::data(Bytes::from_static(message.as_bytes()));
            patiently(pipe.send(frame)).await.expect("taken");
            let back = patiently(body.frame()).await.expect("more");
            let back = back.expect("unbroken").into_data().expect("data");
            assert_eq!(back, message);
        }
        drop(pipe);
        let end = patiently(body.collect()).await.expect("an end");
        assert_eq!(end.trailers().expect("trailers")["grpc-status"], "0");
    });
    let heads = seen.borrow();
    let head = heads.first().expect("a request");
    let target = head.uri.path_and_query().expect("a path");
    assert_eq!(target, "/greet.Greeter/Chat?a=1");
    assert_eq!(head.headers["te"], "trailers");
    assert_eq!(head.headers["x-forwarded-for"], "127.0.0.1");
    let id = &head.headers["x-ms-client-principal-id"];
    assert_ne!(id, "forged");
    assert!(!head.headers.contains_key("authorization"));
    assert!(!head.headers.contains_key("host"));
}

#[test]
fn calls_share_one_connection_and_one_that_is_given_up_leaves_the_others_alone() {
    let (seen, stage) = stage();
    stage.runtime.block_on(async {
        let mut sender = stage.http2().await;
        let (kept, body) = Piped::new();
        let answer = patiently(sender.send_request(call(&stage, body))).await;
        let mut staying = answer.expect("an answer").into_body();
        let (_pipe, body) = Piped::new();
        let answer = patiently(sender.send_request(call(&stage, body))).await;
        drop(answer.expect("an answer"));
        let frame = Frame::data(Bytes::from_static(b"still here"));
        patiently(kept.send(frame)).await.expect("taken");
        let back = patiently(staying.frame()).await.expect("more");
        assert_eq!(
            back.expect("unbroken").into_data().expect("data"),
            "still here"
        );
    });
    assert_eq!(seen.borrow().len(), 2);
    stage.record("the one that left", |record| record["complete"] == false);
}

#[test]
fn a_caller_over_http_1_reaches_a_backend_that_speaks_http_2_alone() {
    let (seen, stage) = stage();
    let call = stage.call("POST", "/a").portal().body("hello");
    let answer = call.header("te", "trailers").send();
    assert_eq!(
        (answer.verdict().as_str(), answer.text().as_str()),
        ("200", "hello")
    );
    assert_eq!(seen.borrow().len(), 1);
}
