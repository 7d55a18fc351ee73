//! Requests that are sent again, and those that never are: what arrives at the backend is counted.

use std::sync::atomic::{AtomicUsize, Ordering};

use portcullis::clock::{Clock as _, SystemClock};

use super::{BUSY, OK, before, get, gets, metric, silent};
use crate::support::{RawBackend, Scene, Step};

/// Fails by these steps so often, and then answers.
fn failing(scene: &Scene, times: usize, steps: Vec<Step>) -> RawBackend {
    let left = AtomicUsize::new(times);
    RawBackend::answering(scene, move |_| {
        let less = |left: usize| left.checked_sub(1);
        match left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less) {
            Ok(_) => steps.clone(),
            Err(_) => vec![Step::text(OK)],
        }
    })
}

#[test]
fn only_what_may_be_repeated_is_sent_again() {
    let reset = || vec![Step::Reset];
    let half = || vec![Step::text("HTTP/1.1 200 OK\r\nContent-Le"), Step::Close];
    let busy = || vec![Step::text(BUSY)];
    let error = || {
        vec![Step::text(
            "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
        )]
    };
    let late = || vec![Step::Wait];
    for (name, method, body, steps, verdict, arrived) in [
        ("GET", "GET", "", reset(), "200", 2),
        ("HEAD", "HEAD", "", reset(), "200", 2),
        ("OPTIONS", "OPTIONS", "", reset(), "200", 2),
        ("PUT", "PUT", "", reset(), "200", 2),
        ("DELETE", "DELETE", "", reset(), "200", 2),
        (
            "PUT with a body",
            "PUT",
            "x",
            reset(),
            "502 backend-broken",
            1,
        ),
        (
            "DELETE with a body",
            "DELETE",
            "x",
            reset(),
            "502 backend-broken",
            1,
        ),
        ("POST", "POST", "", reset(), "502 backend-broken", 1),
        (
            "POST with a body",
            "POST",
            "x",
            reset(),
            "502 backend-broken",
            1,
        ),
        ("PATCH", "PATCH", "", reset(), "502 backend-broken", 1),
        ("half a head", "GET", "", half(), "200", 2),
        (
            "half a head of a POST",
            "POST",
            "",
            half(),
            "502 backend-broken",
            1,
        ),
        ("busy", "GET", "", busy(), "200", 2),
        ("busy, to a POST", "POST", "x", busy(), "503", 1),
        ("an error of the app's own", "GET", "", error(), "500", 1),
        ("late", "GET", "", late(), "504 backend-timeout", 1),
    ] {
        let scene = Scene::new();
        let raw = failing(&scene, 1, steps);
        let more = "timeouts: { firstByte: 400ms }, retry: { backoff: 1ms }";
        let stage = before(scene, &[raw.url()], more);
        let call = stage.call(method, "/a").portal();
        let call = if body.is_empty() {
            call
        } else {
            call.body(body)
        };
        let answer = call.send();
        assert_eq!(answer.verdict(), verdict, "{name}");
        assert_eq!(raw.seen().requests.len(), arrived, "{name}");
        assert_eq!(stage.record_of(&answer)["attempts"], arrived, "{name}");
        let first = &raw.seen().requests[0];
        assert!(
            raw.seen().requests.iter().all(|request| request == first),
            "{name}"
        );
    }
}

#[test]
fn what_was_never_sent_goes_to_another_endpoint_whatever_it_is() {
    let scene = Scene::new();
    let good = RawBackend::start(&scene, vec![Step::text(OK)]);
    let (_held, address) = silent();
    let gone = format!("http://{address}");
    let more = "retry: { backoff: 1ms }, ejection: { consecutive: 1000 }";
    let stage = before(scene, &[gone, good.url()], more);
    let host = format!("\r\nhost: {}\r\n", good.url().trim_start_matches("http://"));
    for sent in 1..=20 {
        let answer = stage.call("POST", "/a").portal().body("hello").send();
        assert_eq!(answer.verdict(), "200");
        let seen = good.seen();
        assert_eq!(seen.requests.len(), sent);
        let request = seen.requests.last().expect("a request");
        assert!(
            request.contains(&host) && request.ends_with("\r\n\r\nhello"),
            "{request}"
        );
    }
    let made = metric(
        &stage,
        "portcullis_retries_total{backend=\"b\",outcome=\"made\"}",
    );
    let made: usize = made.expect("a count").parse().expect("a number");
    assert!((1..=20).contains(&made), "{made}");
}

#[test]
fn a_backend_is_left_alone_for_as_long_as_it_asks_or_its_answer_is_passed_on() {
    let asking = |after: &str| {
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {after}\r\nContent-Length: 0\r\n\r\n"
        );
        vec![Step::text(&answer)]
    };
    for (after, most, verdict, arrived) in [
        ("1", "2s", "200", 2),
        ("3", "2s", "503", 1),
        ("120", "1h", "503", 1),
    ] {
        let scene = Scene::new();
        let raw = failing(&scene, 1, asking(after));
        let more = format!("retry: {{ maxBackoff: {most} }}");
        let stage = before(scene, &[raw.url()], &more);
        let begun = SystemClock.now().instant;
        let answer = get(&stage);
        let waited = SystemClock.now().instant.duration_since(begun);
        assert_eq!(answer.verdict(), verdict, "{after}");
        assert_eq!(raw.seen().requests.len(), arrived, "{after}");
        match arrived {
            1 => assert_eq!(answer.header("retry-after"), Some(after)),
            _ => assert!(waited.as_secs_f64() >= 1.0, "{waited:?}"),
        }
    }
}

#[test]
fn a_further_attempt_has_what_is_left_of_the_time_for_an_answers_head() {
    let scene = Scene::new();
    let asked = AtomicUsize::new(0);
    let raw = RawBackend::answering(&scene, move |_| {
        match asked.fetch_add(1, Ordering::SeqCst) {
            0 => vec![Step::text(
                "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
            )],
            _ => vec![Step::Wait],
        }
    });
    let more = "timeouts: { firstByte: 3s }, retry: { maxBackoff: 1s, attempts: 2 }";
    let stage = before(scene, &[raw.url()], more);
    let answer = get(&stage);
    assert_eq!(answer.verdict(), "504 backend-timeout");
    assert_eq!(raw.seen().requests.len(), 2);
    let record = stage.record_of(&answer);
    let expected = record["expected"].as_str().expect("a note");
    let limit = expected.split("`firstByte`, ").nth(1).expect("a limit");
    let seconds: f64 = match limit.strip_suffix("ms") {
        Some(millis) => millis.parse::<f64>().expect("a number") / 1000.0,
        None => limit.trim_end_matches('s').parse().expect("a number"),
    };
    // It was let alone for a second first.
    assert!(seconds > 0.0 && seconds <= 2.0, "{expected}");
}

#[test]
fn further_attempts_have_a_budget() {
    let scene = Scene::new();
    let raw = RawBackend::start(&scene, vec![Step::Reset]);
    let more = "retry: { attempts: 2, backoff: 1ms, budget: 20% }";
    let stage = before(scene, &[raw.url()], more);
    assert_eq!(gets(&stage, 100, 502), 100);
    // Three a second over ten seconds, and a fifth of the requests.
    assert_eq!(raw.seen().requests.len(), 100 + 30 + 20);
    for (outcome, count) in [("made", "50"), ("refused", "50")] {
        let name = format!("portcullis_retries_total{{backend=\"b\",outcome=\"{outcome}\"}}");
        assert_eq!(metric(&stage, &name).as_deref(), Some(count));
    }
    stage.clock.advance(std::time::Duration::from_secs(11));
    assert_eq!(gets(&stage, 10, 502), 10);
    assert_eq!(raw.seen().requests.len(), 150 + 20);
}

#[test]
fn a_request_is_tried_as_often_as_it_may_be_and_no_more() {
    let scene = Scene::new();
    let raw = failing(&scene, 5, vec![Step::Reset]);
    let stage = before(scene, &[raw.url()], "retry: { attempts: 4, backoff: 1ms }");
    let answer = get(&stage);
    assert_eq!(answer.verdict(), "502 backend-broken");
    assert_eq!(raw.seen().requests.len(), 4);
    assert_eq!(get(&stage).verdict(), "200");
    assert_eq!(raw.seen().requests.len(), 6);
}

#[test]
fn nothing_is_tried_again_once_the_time_for_all_of_it_is_over() {
    let scene = Scene::new();
    // As long as it asks for, rather than by chance: longer than all of it may take, and shorter than its head may.
    let busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n";
    let raw = RawBackend::start(&scene, vec![Step::text(busy)]);
    let more = "timeouts: { firstByte: 1h, total: 500ms }, retry: { attempts: 10, maxBackoff: 1h }";
    let stage = before(scene, &[raw.url()], more);
    assert_eq!(get(&stage).verdict(), "504 backend-timeout");
    assert_eq!(raw.seen().requests.len(), 1);
}
