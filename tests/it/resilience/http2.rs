//! The same for backends that speak HTTP/2, whose connections all requests share.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use super::silent;
use crate::support::{Scene, Stage};

/// What came: method, authority and body.
type Seen = Arc<Mutex<Vec<(String, String, String)>>>;

/// A backend that resets so many streams, and then answers.
fn resetting(scene: &Scene, times: usize) -> (SocketAddr, Seen) {
    let listener = scene
        .runtime
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .expect("bound");
    let address = listener.local_addr().expect("an address");
    let (left, seen) = (Arc::new(AtomicUsize::new(times)), Seen::default());
    let noting = Arc::clone(&seen);
    scene.runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (left, seen) = (Arc::clone(&left), Arc::clone(&noting));
            let service = service_fn(move |request: Request<Incoming>| {
                let (left, seen) = (Arc::clone(&left), Arc::clone(&seen));
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body
                        .collect()
                        .await
                        .map(http_body_util::Collected::to_bytes);
                    let body = String::from_utf8_lossy(&body.unwrap_or_default()).into_owned();
                    let authority = parts.uri.authority().map(ToString::to_string);
                    let came = (
                        parts.method.to_string(),
                        authority.unwrap_or_default(),
                        body,
                    );
                    seen.lock().expect("not poisoned").push(came);
                    let less = |left: usize| left.checked_sub(1);
                    match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
                        Ok(_) => Err(io::Error::other("reset")),
                        Err(_) => Ok(Response::new(Full::new(Bytes::from("fine")))),
                    }
                }
            });
            let served = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(served);
        }
    });
    (address, seen)
}

fn before(scene: Scene, addresses: &[SocketAddr], more: &str) -> Stage {
    let urls: Vec<String> = addresses
        .iter()
        .map(|address| format!("http://{address}"))
        .collect();
    super::before(scene, &urls, &format!("protocol: http2, {more}"))
}

#[test]
fn only_what_may_be_repeated_is_sent_again() {
    for (method, body, verdict, arrived) in [
        ("GET", "", "200", 2),
        ("DELETE", "", "200", 2),
        ("PUT", "x", "502 backend-broken", 1),
        ("POST", "", "502 backend-broken", 1),
        ("POST", "x", "502 backend-broken", 1),
        ("PATCH", "x", "502 backend-broken", 1),
    ] {
        let scene = Scene::new();
        let (address, seen) = resetting(&scene, 1);
        let stage = before(scene, &[address], "retry: { backoff: 1ms }");
        let call = stage.call(method, "/a").portal();
        let call = if body.is_empty() {
            call
        } else {
            call.body(body)
        };
        let answer = call.send();
        assert_eq!(answer.verdict(), verdict, "{method} {body}");
        let seen = seen.lock().expect("not poisoned");
        assert_eq!(seen.len(), arrived, "{method} {body}: {seen:?}");
    }
}

#[test]
fn what_was_never_sent_goes_to_another_endpoint_whatever_it_is() {
    let scene = Scene::new();
    let (good, seen) = resetting(&scene, 0);
    let (_held, gone) = silent();
    let more = "retry: { backoff: 1ms }, ejection: { consecutive: 1000 }";
    let stage = before(scene, &[gone, good], more);
    for sent in 1..=12 {
        let answer = stage.call("POST", "/a").portal().body("hello").send();
        assert_eq!(answer.verdict(), "200");
        let seen = seen.lock().expect("not poisoned");
        assert_eq!(seen.len(), sent);
        let expected = ("POST".to_owned(), good.to_string(), "hello".to_owned());
        assert_eq!(seen.last(), Some(&expected));
    }
}

#[test]
fn health_is_asked_in_the_backends_own_protocol() {
    let scene = Scene::new();
    let (address, seen) = resetting(&scene, 0);
    let more = "health: { path: /healthz, every: 10s, unhealthy: 1 }";
    let stage = before(scene, &[address], more);
    // With the second, the answer to the first is known.
    stage.until("two questions", |stage| {
        stage.clock.advance(Duration::from_millis(250));
        seen.lock().expect("not poisoned").len() > 1
    });
    assert!(stage.admin("/readyz?verbose").contains("[+] backend/b ok"));
    let first = seen.lock().expect("not poisoned")[0].clone();
    assert_eq!(
        first,
        ("GET".to_owned(), address.to_string(), String::new())
    );
}
