//! Backends that start from nothing: who waits for them, how long, and that nothing is run twice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Request;
use socket2::Socket;
use tokio::net::TcpListener;

use super::{BUSY, OK, before, get, metric, silent};
use crate::support::{Piped, RawBackend, Scene, Stage, Step};

/// The backend at last, on the port that was held for it.
fn starts(stage: &Stage, held: Socket) -> RawBackend {
    held.listen(16).expect("listening");
    held.set_nonblocking(true).expect("set");
    let entered = stage.runtime.enter();
    let listener = TcpListener::from_std(held.into()).expect("a listener");
    drop(entered);
    RawBackend::on(&stage.runtime, listener, |_| vec![Step::text(OK)])
}

#[test]
fn a_request_waits_for_a_backend_on_whose_port_nobody_listens_yet() {
    let (held, address) = silent();
    let stage = before(
        Scene::new(),
        &[format!("http://{address}")],
        "coldStart: 1m",
    );
    let mut wire = stage.asking("POST /a", "Content-Length: 5\r\n\r\nhello");
    let waiting = "portcullis_cold_start_waiting{backend=\"b\"}";
    stage.until("the wait", |stage| {
        metric(stage, waiting).as_deref() == Some("1")
    });
    let raw = starts(&stage, held);
    let answer = wire.until("fine");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(raw.only().ends_with("\r\n\r\nhello"));
    for (name, value) in [
        (waiting, "0"),
        (
            "portcullis_cold_starts_total{backend=\"b\",outcome=\"served\"}",
            "1",
        ),
        (
            "portcullis_cold_starts_total{backend=\"b\",outcome=\"failed\"}",
            "0",
        ),
    ] {
        assert_eq!(metric(&stage, name).as_deref(), Some(value), "{name}");
    }
    let seconds = metric(&stage, "portcullis_cold_start_seconds_total{backend=\"b\"}");
    let seconds: f64 = seconds.expect("a metric").parse().expect("a number");
    assert!(seconds > 0.0, "{seconds}");
}

#[test]
fn so_many_wait_for_a_start_and_who_comes_behind_them_gets_the_failure_at_once() {
    const MOST: usize = 1024;
    let (_held, address) = silent();
    let mut scene = Scene::new();
    scene.listen = "  maxStreams: 2000\n".to_owned();
    let stage = before(scene, &[format!("http://{address}")], "coldStart: 1m");
    let token = format!("Bearer {}", stage.portal_token());
    let waiting = "portcullis_cold_start_waiting{backend=\"b\"}";
    let most = MOST.to_string();
    let (sender, asked) = stage.runtime.block_on(async {
        let mut sender = stage.http2().await;
        let mut asked = Vec::new();
        for _ in 0..MOST {
            let request = Request::get("https://localhost/a").header("authorization", &token);
            let request = request.body(Piped::empty()).expect("a request");
            sender.ready().await.expect("open");
            asked.push(tokio::spawn(sender.send_request(request)));
        }
        (sender, asked)
    });
    stage.until("the waits", |stage| {
        metric(stage, waiting).as_deref() == Some(&most)
    });
    let answer = get(&stage);
    assert_eq!(answer.verdict(), "502 backend-connection-refused");
    assert_eq!(stage.record_of(&answer)["attempts"], 1);
    assert_eq!(metric(&stage, waiting).as_deref(), Some(&*most));
    assert!(asked.iter().all(|asked| !asked.is_finished()));
    // Whoever leaves makes room.
    asked[0].abort();
    stage.until("room", |stage| {
        metric(stage, waiting).as_deref() == Some("1023")
    });
    let _wire = stage.asking("GET /a", "\r\n");
    stage.until("the last wait", |stage| {
        metric(stage, waiting).as_deref() == Some(&most)
    });
    drop(sender);
}

#[test]
fn who_has_waited_long_enough_gets_the_failure() {
    let (_held, address) = silent();
    let stage = before(
        Scene::new(),
        &[format!("http://{address}")],
        "coldStart: 1s",
    );
    let answer = get(&stage);
    assert_eq!(answer.verdict(), "502 backend-connection-refused");
    let attempts = stage.record_of(&answer)["attempts"]
        .as_u64()
        .expect("a count");
    assert!((2..30).contains(&attempts), "{attempts}");
    let failed = "portcullis_cold_starts_total{backend=\"b\",outcome=\"failed\"}";
    assert_eq!(metric(&stage, failed).as_deref(), Some("1"));
}

#[test]
fn a_busy_answer_is_waited_out_only_for_what_may_be_repeated() {
    for (method, verdict, arrived) in [("GET", "200", 3), ("POST", "503", 1), ("PATCH", "503", 1)] {
        let scene = Scene::new();
        let sent = AtomicUsize::new(0);
        let raw = RawBackend::answering(&scene, move |_| {
            let answer = if sent.fetch_add(1, Ordering::SeqCst) < 2 {
                BUSY
            } else {
                OK
            };
            vec![Step::text(answer)]
        });
        let stage = before(scene, &[raw.url()], "coldStart: 1m");
        let answer = stage.call(method, "/a").portal().send();
        assert_eq!(answer.verdict(), verdict, "{method}");
        assert_eq!(raw.seen().requests.len(), arrived, "{method}");
    }
}

#[test]
fn what_was_sent_and_broke_off_is_no_start() {
    let scene = Scene::new();
    let raw = RawBackend::start(&scene, vec![Step::Reset]);
    let stage = before(scene, &[raw.url()], "coldStart: 1m");
    for (sent, method) in ["GET", "POST"].into_iter().enumerate() {
        let answer = stage.call(method, "/a").portal().send();
        assert_eq!(answer.verdict(), "502 backend-broken");
        assert_eq!(raw.seen().requests.len(), sent + 1);
    }
}

#[test]
fn a_backend_that_asks_to_be_left_alone_for_ever_is_not_waited_for() {
    let scene = Scene::new();
    let busy = |time: &str| {
        format!(
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {time}\r\nContent-Length: 4\r\n\r\nbusy"
        )
    };
    let asked = AtomicUsize::new(0);
    let raw = RawBackend::answering(&scene, move |_| {
        let time = match asked.fetch_add(1, Ordering::SeqCst) {
            0 => "1".to_owned(),
            _ => u64::MAX.to_string(),
        };
        vec![Step::text(&busy(&time))]
    });
    let stage = before(scene, &[raw.url()], "coldStart: 1m");
    assert_eq!(get(&stage).verdict(), "503");
    assert_eq!(raw.seen().requests.len(), 2);
}

#[test]
fn the_wait_for_a_start_opens_no_breaker_for_slowness() {
    let (held, address) = silent();
    let stage = before(
        Scene::new(),
        &[format!("http://{address}")],
        "coldStart: 1m, breaker: { slowAfter: 10s, slowRate: 1%, minimum: 1, window: 1h }",
    );
    let mut wire = stage.asking("GET /a", "\r\n");
    stage.until("the wait", |stage| {
        metric(stage, "portcullis_cold_start_waiting{backend=\"b\"}").as_deref() == Some("1")
    });
    stage.clock.advance(Duration::from_secs(10));
    let _raw = starts(&stage, held);
    wire.until("fine");
    assert_eq!(get(&stage).verdict(), "200");
}
