//! Several endpoints of one backend: which one a request goes to, and which one is left out.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{BUSY, OK, before, get, gets, metric, moody, refused, silent};
use crate::support::{RawBackend, Scene, Step};

fn two(scene: &Scene) -> [RawBackend; 2] {
    [(); 2].map(|()| RawBackend::start(scene, vec![Step::text(OK)]))
}

fn urls(raws: &[RawBackend]) -> Vec<String> {
    raws.iter().map(RawBackend::url).collect()
}

#[test]
fn requests_go_to_all_endpoints_and_each_is_told_its_own_name() {
    let scene = Scene::new();
    let raws = two(&scene);
    let stage = before(scene, &urls(&raws), "timeouts: { total: 1m }");
    for _ in 0..40 {
        let answer = stage.call("POST", "/a").portal().body("host: other").send();
        assert_eq!(answer.verdict(), "200");
    }
    for raw in &raws {
        let seen = raw.seen();
        assert!(seen.requests.len() > 2, "{seen:?}");
        let host = format!("\r\nhost: {}\r\n", raw.url().trim_start_matches("http://"));
        for request in seen.requests {
            assert!(request.contains(&host), "{host} is not in {request}");
            assert!(request.ends_with("\r\n\r\nhost: other"), "{request}");
        }
    }
}

#[test]
fn a_request_goes_to_the_less_busy_endpoint() {
    let scene = Scene::new();
    let raws = [(); 2].map(|()| {
        moody(&scene, |request| {
            let waits = request.starts_with("GET /wait ");
            waits.then(|| vec![Step::Wait, Step::text(OK)])
        })
    });
    let stage = before(scene, &urls(&raws), "timeouts: { total: 1m }");
    let mut wire = stage.asking("GET /wait", "\r\n");
    let count = |raw: &RawBackend| raw.seen().requests.len();
    stage.until("the request that waits", |_| {
        raws.iter().any(|raw| count(raw) == 1)
    });
    let (busy, free) = match count(&raws[0]) {
        1 => (&raws[0], &raws[1]),
        _ => (&raws[1], &raws[0]),
    };
    assert_eq!(gets(&stage, 12, 200), 12);
    assert_eq!((count(busy), count(free)), (1, 12));
    busy.release();
    wire.until("fine");
    // It is free again once its answer is whole.
    stage.until("the free one not to be alone", |stage| {
        get(stage);
        count(busy) > 1
    });
}

#[test]
fn an_endpoint_that_fails_is_left_out_and_comes_back_by_one_request() {
    let scene = Scene::new();
    let good = RawBackend::start(&scene, vec![Step::text(OK)]);
    let (_held, address) = silent();
    let gone = format!("http://{address}");
    let stage = before(
        scene,
        &[good.url(), gone],
        "ejection: { consecutive: 2, time: 5s, maxTime: 8s }",
    );
    let available = format!("portcullis_backend_available{{backend=\"b\",endpoint=\"{address}\"}}");
    assert_eq!(metric(&stage, &available).as_deref(), Some("1"));
    let mut failed = 0;
    while failed < 2 {
        failed += gets(&stage, 1, 502);
    }
    assert_eq!(metric(&stage, &available).as_deref(), Some("0"));
    assert_eq!(gets(&stage, 30, 200), 30);
    for (time, ejections) in [(5, "2"), (8, "3"), (8, "4")] {
        stage.clock.advance(Duration::from_millis(time * 1000 - 1));
        assert_eq!(gets(&stage, 10, 200), 10);
        stage.clock.advance(Duration::from_millis(1));
        assert_eq!(gets(&stage, 20, 502), 1, "one tries, and no more");
        let name = available.replace("available", "ejections_total");
        assert_eq!(metric(&stage, &name).as_deref(), Some(ejections));
    }
}

#[test]
fn an_endpoint_that_is_well_again_serves_as_before() {
    let scene = Scene::new();
    let is_busy = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&is_busy);
    let moody = moody(&scene, move |_| {
        told.load(Ordering::SeqCst).then(|| vec![Step::text(BUSY)])
    });
    let good = RawBackend::start(&scene, vec![Step::text(OK)]);
    let stage = before(
        scene,
        &[good.url(), moody.url()],
        "ejection: { consecutive: 3 }",
    );
    let mut failed = 0;
    while failed < 3 {
        failed += gets(&stage, 1, 503);
    }
    assert_eq!(gets(&stage, 20, 200), 20);
    is_busy.store(false, Ordering::SeqCst);
    stage.clock.advance(Duration::from_secs(5));
    let before = moody.seen().requests.len();
    assert_eq!(gets(&stage, 40, 200), 40);
    assert!(moody.seen().requests.len() > before + 2);
}

#[test]
fn half_of_the_endpoints_stay_whatever_they_answer() {
    let scene = Scene::new();
    let raws = [(); 3].map(|()| RawBackend::start(&scene, vec![Step::text(BUSY)]));
    let stage = before(scene, &urls(&raws), "ejection: { consecutive: 1 }");
    assert_eq!(gets(&stage, 30, 503), 30);
    let text = stage.admin("/metrics");
    let available = text
        .lines()
        .filter(|line| line.starts_with("portcullis_backend_available{"));
    let available: Vec<_> = available.map(|line| line.ends_with(" 1")).collect();
    assert_eq!(
        available.iter().filter(|well| **well).count(),
        2,
        "{available:?}"
    );
}

#[test]
fn an_answer_that_breaks_off_in_its_body_counts_as_a_failure() {
    let scene = Scene::new();
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\nhalf";
    let broken = RawBackend::start(&scene, vec![Step::text(half), Step::Close]);
    let good = RawBackend::start(&scene, vec![Step::text(OK)]);
    let stage = before(
        scene,
        &[broken.url(), good.url()],
        "ejection: { consecutive: 2 }",
    );
    stage.until("two broken answers", |stage| {
        stage.asking("GET /a", "Connection: close\r\n\r\n").rest();
        broken.seen().requests.len() == 2
    });
    assert_eq!(gets(&stage, 20, 200), 20);
    assert_eq!(broken.seen().requests.len(), 2);
}

#[test]
fn links_to_any_endpoint_are_the_backends_own() {
    let scene = Scene::new();
    let other = RawBackend::start(&scene, vec![Step::text(OK)]);
    let link = format!("{}/runs/1?sig=planted-sig", other.url());
    let accepted =
        format!("HTTP/1.1 202 Accepted\r\nLocation: {link}\r\nContent-Length: 0\r\n\r\n");
    let first = RawBackend::answering(&scene, move |request| {
        let is_link = request.contains("sig=planted-sig");
        vec![Step::text(if is_link { OK } else { &accepted })]
    });
    let stage = before(
        scene,
        &[first.url(), other.url()],
        "timeouts: { total: 1m }",
    );
    let mut location = None;
    while location.is_none() {
        let answer = stage.call("POST", "/start").portal().send();
        location = answer.header("location").map(str::to_owned);
    }
    let location = location.expect("a link");
    let (_, path) = location.split_once("localhost").expect("the gateway's own");
    let path = path
        .find('/')
        .and_then(|at| path.get(at..))
        .expect("a path");
    assert!(path.starts_with("/.sealed/"), "{location}");
    let answer = stage.call("GET", path).portal().send();
    assert_eq!(
        (answer.verdict().as_str(), answer.text().as_str()),
        ("200", "fine")
    );
}

#[test]
fn an_endpoint_that_may_not_be_called_is_refused_wherever_it_stands() {
    let scene = Scene::new().backend(
        "b",
        "http: [https://a.example, https://169.254.169.254], credential: none",
    );
    let said = refused(&scene);
    assert!(said.contains("this address may not be a backend"), "{said}");
}

/// Answers as soon as a head has come, and takes what follows for as long as it comes.
fn early() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer);
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
            while matches!(stream.read(&mut buffer), Ok(1..)) {}
        }
    });
    format!("http://{address}")
}

#[test]
fn a_body_that_its_caller_breaks_behind_the_beginning_of_the_answer_is_no_failure() {
    let stage = before(
        Scene::new(),
        &[early(), early()],
        "ejection: { consecutive: 1 }, timeouts: { idle: 200ms }",
    );
    for _ in 0..3 {
        let mut wire = stage.asking(
            "POST /a",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        );
        wire.until("half");
        wire.send("no chunk\r\n");
        wire.rest();
    }
    let text = stage.admin("/metrics");
    let ejections = text
        .lines()
        .filter(|line| line.starts_with("portcullis_backend_ejections_total{"));
    let ejections: Vec<_> = ejections.map(|line| line.ends_with(" 0")).collect();
    assert_eq!(ejections, [true, true]);
}

#[test]
fn the_only_endpoint_of_a_backend_is_well_although_another_backend_leaves_it_out() {
    let scene = Scene::new();
    let good = RawBackend::start(&scene, vec![Step::text(OK)]);
    let busy = RawBackend::start(&scene, vec![Step::text(BUSY)]);
    let alone = format!("http: {}, credential: none, breaker: {{}}", busy.url());
    let stage = before(
        scene.backend("c", &alone),
        &[good.url(), busy.url()],
        "ejection: { consecutive: 1 }",
    );
    stage.until("one left out", |stage| {
        get(stage);
        let text = stage.admin("/metrics");
        text.lines()
            .any(|line| line.starts_with("portcullis_backend_available{") && line.ends_with(" 0"))
    });
    let ready = stage.admin("/readyz?verbose");
    assert!(ready.contains("[+] backend/c ok"), "{ready}");
}
