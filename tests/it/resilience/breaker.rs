//! Circuit breakers: nothing is sent to a backend that fails too often.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{BUSY, OK, before, get, gets, metric, moody};
use crate::support::{RawBackend, Scene, Step};

/// A backend that is busy until it is told otherwise; on `/wait` it waits.
fn switched(scene: &Scene) -> (Arc<AtomicBool>, RawBackend) {
    let is_busy = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&is_busy);
    let raw = moody(scene, move |request| {
        if told.load(Ordering::SeqCst) {
            return Some(vec![Step::text(BUSY)]);
        }
        let waits = request.starts_with("GET /wait ");
        waits.then(|| vec![Step::Wait, Step::text(OK)])
    });
    (is_busy, raw)
}

#[test]
fn a_backend_that_fails_is_not_called_for_a_while_and_then_a_few_try() {
    let scene = Scene::new();
    let (is_busy, raw) = switched(&scene);
    let stage = before(
        scene,
        &[raw.url()],
        "breaker: { failures: 4, open: 30s, probes: 2 }",
    );
    assert_eq!(gets(&stage, 4, 503), 4);
    assert_eq!(raw.seen().requests.len(), 4);
    stage.clock.advance(Duration::from_millis(10_500));
    let answer = get(&stage);
    assert_eq!(answer.verdict(), "503 backend-open");
    assert_eq!(answer.header("retry-after"), Some("20"));
    let status = answer.header("proxy-status");
    assert_eq!(status, Some("portcullis; error=destination_unavailable"));
    assert_eq!(raw.seen().requests.len(), 4, "nothing was sent");
    assert!(
        stage
            .admin("/readyz?verbose")
            .contains("[!] backend/b degraded: it failed too often")
    );
    assert_eq!(
        metric(&stage, "portcullis_breaker_open{backend=\"b\"}").as_deref(),
        Some("1")
    );

    // One that tries and fails opens it anew.
    stage.clock.advance(Duration::from_millis(19_500));
    assert_eq!(get(&stage).verdict(), "503");
    assert_eq!(get(&stage).verdict(), "503 backend-open");
    assert_eq!(raw.seen().requests.len(), 5);

    // As many as are asked for try at once, and no more.
    is_busy.store(false, Ordering::SeqCst);
    stage.clock.advance(Duration::from_secs(30));
    let mut wires = [(); 2].map(|()| stage.asking("GET /wait", "\r\n"));
    stage.until("both", |_| raw.seen().requests.len() == 7);
    let answer = get(&stage);
    assert_eq!(answer.verdict(), "503 backend-open");
    assert_eq!(answer.header("retry-after"), Some("1"));
    for _ in &wires {
        raw.release();
    }
    for wire in &mut wires {
        wire.until("fine");
    }
    assert_eq!(gets(&stage, 5, 200), 5);
    for (name, value) in [
        (
            "portcullis_breaker_transitions_total{backend=\"b\",to=\"open\"}",
            "2",
        ),
        (
            "portcullis_breaker_transitions_total{backend=\"b\",to=\"closed\"}",
            "1",
        ),
        ("portcullis_breaker_refused_total{backend=\"b\"}", "3"),
        ("portcullis_breaker_open{backend=\"b\"}", "0"),
    ] {
        assert_eq!(metric(&stage, name).as_deref(), Some(value), "{name}");
    }
    assert!(stage.admin("/readyz?verbose").contains("[+] backend/b ok"));
}

#[test]
fn what_is_slow_too_often_counts_as_failing_also_where_the_caller_left() {
    for leaves in [false, true] {
        let scene = Scene::new();
        let (is_busy, raw) = switched(&scene);
        is_busy.store(false, Ordering::SeqCst);
        let breaker = "breaker: { slowAfter: 10s, slowRate: 80%, minimum: 3, window: 1h }";
        let stage = before(scene, &[raw.url()], breaker);
        for sent in 1..=3 {
            assert_eq!(
                metric(&stage, "portcullis_breaker_open{backend=\"b\"}").as_deref(),
                Some("0")
            );
            let mut wire = stage.asking("GET /wait", "\r\n");
            stage.until("the request", |_| raw.seen().requests.len() == sent);
            stage.clock.advance(Duration::from_secs(10));
            if leaves {
                drop(wire);
                stage.until("the end", |_| raw.seen().closed == sent);
            } else {
                raw.release();
                wire.until("fine");
            }
        }
        assert_eq!(get(&stage).verdict(), "503 backend-open", "{leaves}");
    }
}

#[test]
fn who_is_late_with_all_of_it_has_failed() {
    let scene = Scene::new();
    let raw = RawBackend::start(&scene, vec![Step::Wait]);
    let more = "breaker: { failures: 1 }, timeouts: { total: 200ms }";
    let stage = before(scene, &[raw.url()], more);
    assert_eq!(get(&stage).verdict(), "504 backend-timeout");
    assert_eq!(get(&stage).verdict(), "503 backend-open");
}

#[test]
fn a_breaker_stays_as_it_is_when_the_policy_changes_around_it() {
    let scene = Scene::new();
    let (_, raw) = switched(&scene);
    let stage = before(scene, &[raw.url()], "breaker: { failures: 2 }");
    assert_eq!(gets(&stage, 2, 503), 2);
    stage.change_policy(|policy| policy.replace("failures: 2", "failures: 5"));
    assert_eq!(get(&stage).verdict(), "503 backend-open");
    assert_eq!(raw.seen().requests.len(), 2);
}

#[test]
fn a_caller_who_breaks_off_its_body_says_nothing_of_the_backend() {
    let scene = Scene::new();
    let raw = RawBackend::start(&scene, vec![Step::text(OK)]);
    let stage = before(scene, &[raw.url()], "breaker: { failures: 1 }");
    for sent in 1..=3 {
        let wire = stage.asking("POST /a", "Content-Length: 10\r\n\r\nhello");
        stage.until("a connection", |_| raw.seen().connections == sent);
        drop(wire);
        stage.until("the end", |_| raw.seen().closed == sent);
    }
    assert_eq!(get(&stage).verdict(), "200");
}

#[test]
fn callers_who_are_slow_with_their_bodies_open_no_breaker() {
    enum Then {
        Leaves,
        Sends,
        IsLate,
    }
    for (name, timeouts, then) in [
        ("leaves in the middle", "total: 1m", Then::Leaves),
        ("sends the rest late", "total: 1m", Then::Sends),
        ("stalls for firstByte", "firstByte: 100ms", Then::IsLate),
        ("stalls for total", "total: 100ms", Then::IsLate),
    ] {
        let scene = Scene::new();
        let raw = RawBackend::start(&scene, vec![Step::text(OK)]);
        let more = format!(
            "breaker: {{ failures: 1, slowAfter: 10s, slowRate: 1%, minimum: 1, window: 1h }}, timeouts: {{ {timeouts} }}"
        );
        let stage = before(scene, &[raw.url()], &more);
        let mut wire = stage.asking("POST /a", "Content-Length: 10\r\n\r\nhello");
        stage.until("a connection", |_| raw.seen().connections == 1);
        stage.clock.advance(Duration::from_secs(10));
        match then {
            Then::Leaves => {
                drop(wire);
                stage.until("the end", |_| raw.seen().closed == 1);
            }
            Then::Sends => {
                wire.send("there");
                wire.until("fine");
            }
            Then::IsLate => {
                wire.until("backend-timeout");
            }
        }
        assert_eq!(get(&stage).verdict(), "200", "{name}");
    }
}
