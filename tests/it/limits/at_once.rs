//! How many requests are under way at once: who waits, whose turn it is, and who is refused.

use std::time::Duration;

use futures_util::future::join_all;
use portcullis::demo::names::{CONTOSO, MARKETING_PORTAL, NIGHTLY_BATCH};

use super::{ANYONE, app};
use crate::support::{Answer, RawBackend, Scene, Stage, Step, patiently};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";

/// A backend that answers each request when the test says so.
fn held(scene: &Scene) -> RawBackend {
    RawBackend::start(scene, vec![Step::Wait, Step::text(OK)])
}

fn limited(concurrency: &str) -> (RawBackend, Stage) {
    let scene = Scene::new();
    let raw = held(&scene);
    let rest = format!(
        "match: {{ methods: [GET], path: '/{{name}}' }}, backend: raw, {ANYONE}, concurrency: {concurrency}"
    );
    let stage = scene.raw("raw", &raw).route("limited", &rest).start();
    (raw, stage)
}

fn by(stage: &Stage, app_id: &str) -> String {
    let token = app(stage, CONTOSO, app_id);
    stage.world.entra.sign(&token).expect("signed")
}

/// Asks, and goes on while the answer is waited for.
fn asking(stage: &Stage, path: &str, token: &str) -> tokio::task::JoinHandle<Answer> {
    let sending = stage.call("GET", path).bearer(token).sending();
    stage.runtime.spawn(patiently(sending))
}

fn gauge(stage: &Stage, name: &str) -> u64 {
    let text = stage.admin("/metrics");
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .expect("a gauge");
    line.rsplit(' ')
        .next()
        .and_then(|value| value.parse().ok())
        .expect("a number")
}

fn until(stage: &Stage, under_way: u64, waiting: u64) {
    stage.until("requests under way and waiting", |stage| {
        gauge(stage, "portcullis_concurrency_requests{") == under_way
            && gauge(stage, "portcullis_concurrency_waiting{") == waiting
    });
}

fn verdicts(stage: &Stage, asked: Vec<tokio::task::JoinHandle<Answer>>) -> Vec<String> {
    let answers = stage.runtime.block_on(patiently(join_all(asked)));
    let answers = answers.into_iter().map(|answer| answer.expect("answered"));
    answers.map(|answer| answer.verdict()).collect()
}

/// The paths of the requests in the order in which they came.
fn came(raw: &RawBackend) -> Vec<String> {
    let requests = raw.seen().requests;
    let paths = requests.iter().map(|request| {
        let target = request.split(' ').nth(1).expect("a target");
        target.trim_start_matches('/').to_owned()
    });
    paths.collect()
}

#[test]
fn who_finds_no_room_waits_for_a_turn_and_callers_take_turns() {
    let (raw, stage) = limited("{ requests: 1, wait: 1m, queue: 10 }");
    let (portal, batch) = (by(&stage, MARKETING_PORTAL), by(&stage, NIGHTLY_BATCH));
    let mut asked = vec![asking(&stage, "/a0", &portal)];
    until(&stage, 1, 0);
    for (at, (path, token)) in [
        ("/a1", &portal),
        ("/a2", &portal),
        ("/a3", &portal),
        ("/b1", &batch),
        ("/b2", &batch),
    ]
    .into_iter()
    .enumerate()
    {
        asked.push(asking(&stage, path, token));
        until(&stage, 1, at as u64 + 1);
    }
    for _ in 0..6 {
        raw.release();
    }
    assert_eq!(verdicts(&stage, asked), ["200"; 6]);
    assert_eq!(came(&raw), ["a0", "a1", "b1", "a2", "b2", "a3"]);
    until(&stage, 0, 0);
}

#[test]
fn when_the_queue_is_full_who_has_most_in_it_gives_way() {
    let (raw, stage) = limited("{ requests: 1, wait: 1m, queue: 3 }");
    let (portal, batch) = (by(&stage, MARKETING_PORTAL), by(&stage, NIGHTLY_BATCH));
    let mut noisy = vec![asking(&stage, "/a0", &portal)];
    until(&stage, 1, 0);
    for waiting in 1..=3 {
        noisy.push(asking(&stage, &format!("/a{waiting}"), &portal));
        until(&stage, 1, waiting);
    }
    // The noisy one finds the queue full of itself.
    let refused = stage.call("GET", "/a4").bearer(&portal).send();
    assert_eq!(refused.verdict(), "429 concurrency-limited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Another does not: the last of the noisy one's gives way.
    let quiet = asking(&stage, "/b1", &batch);
    let last = noisy.pop().expect("the last");
    assert_eq!(verdicts(&stage, vec![last]), ["429 concurrency-limited"]);
    until(&stage, 1, 3);
    for _ in 0..4 {
        raw.release();
    }
    assert_eq!(verdicts(&stage, vec![quiet]), ["200"]);
    assert_eq!(verdicts(&stage, noisy), ["200"; 3]);
    assert_eq!(came(&raw), ["a0", "a1", "b1", "a2"]);
}

#[test]
fn a_turn_that_does_not_come_in_time_is_given_up() {
    let (raw, stage) = limited("{ requests: 1, wait: 1ms }");
    let portal = by(&stage, MARKETING_PORTAL);
    let first = asking(&stage, "/a", &portal);
    until(&stage, 1, 0);
    let late = stage.call("GET", "/b").bearer(&portal).send();
    assert_eq!(late.verdict(), "429 concurrency-limited");
    until(&stage, 1, 0);
    raw.release();
    assert_eq!(verdicts(&stage, vec![first]), ["200"]);
    assert_eq!(came(&raw), ["a"], "who gave up was not sent on");
}

#[test]
fn a_caller_who_leaves_gives_up_its_place() {
    let (raw, stage) = limited("{ requests: 1, wait: 1m }");
    let portal = by(&stage, MARKETING_PORTAL);
    let first = asking(&stage, "/a", &portal);
    until(&stage, 1, 0);
    let second = asking(&stage, "/b", &portal);
    until(&stage, 1, 1);
    let third = asking(&stage, "/c", &portal);
    until(&stage, 1, 2);
    second.abort();
    until(&stage, 1, 1);
    first.abort();
    stage
        .runtime
        .block_on(patiently(raw.saw(|seen| seen.requests.len() == 2)));
    raw.release();
    assert_eq!(verdicts(&stage, vec![third]), ["200"]);
    assert_eq!(came(&raw), ["a", "c"]);
    until(&stage, 0, 0);
}

#[test]
fn each_has_a_count_of_their_own_and_a_refusal_uses_up_no_rate() {
    let scene = Scene::new();
    let raw = held(&scene);
    let rest = format!(
        "match: {{ methods: [GET], path: /a }}, backend: raw, {ANYONE}, rateLimit: {{ requests: 2, per: 1h, by: [app] }}, concurrency: {{ requests: 1, by: [app], wait: 0s }}"
    );
    let stage = scene.raw("raw", &raw).route("limited", &rest).start();
    let (portal, batch) = (by(&stage, MARKETING_PORTAL), by(&stage, NIGHTLY_BATCH));
    let first = asking(&stage, "/a", &portal);
    until(&stage, 1, 0);
    for _ in 0..5 {
        let refused = stage.call("GET", "/a").bearer(&portal).send();
        assert_eq!(refused.verdict(), "429 concurrency-limited");
    }
    let other = asking(&stage, "/a", &batch);
    until(&stage, 2, 0);
    raw.release();
    raw.release();
    assert_eq!(verdicts(&stage, vec![first, other]), ["200", "200"]);
    let second = asking(&stage, "/a", &portal);
    raw.release();
    assert_eq!(
        verdicts(&stage, vec![second]),
        ["200"],
        "the five cost nothing"
    );
    let third = stage.call("GET", "/a").bearer(&portal).send();
    assert_eq!(third.verdict(), "429 rate-limited");
}

#[test]
fn a_backend_that_is_full_answers_503_on_every_route_that_leads_to_it() {
    let scene = Scene::new();
    let raw = held(&scene);
    let url = raw.url();
    let route =
        |path: &str| format!("match: {{ methods: [GET], path: {path} }}, backend: raw, {ANYONE}");
    let stage = scene
        .backend(
            "raw",
            &format!("http: '{url}', credential: none, concurrency: {{ requests: 1, wait: 0s }}"),
        )
        .route("one", &route("/one"))
        .route("two", &route("/two"))
        .start();
    let portal = by(&stage, MARKETING_PORTAL);
    let first = asking(&stage, "/one", &portal);
    until(&stage, 1, 0);
    let refused = stage.call("GET", "/two").bearer(&portal).send();
    assert_eq!(refused.verdict(), "503 backend-busy");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(
        refused.header("proxy-status"),
        Some("portcullis; error=connection_limit_reached")
    );
    // As long as the body of the answer is on its way, it is under way.
    raw.release();
    assert_eq!(verdicts(&stage, vec![first]), ["200"]);
    until(&stage, 0, 0);
}

#[test]
fn a_limit_that_follows_the_latency_falls_when_answers_are_late_and_never_below_the_least() {
    let scene = Scene::new();
    let raw = held(&scene);
    let rest = format!(
        "match: {{ methods: [GET], path: /a }}, backend: raw, {ANYONE}, concurrency: {{ requests: 10, adaptive: {{ least: 7, latency: 1s }} }}"
    );
    let stage = scene.raw("raw", &raw).route("limited", &rest).start();
    let portal = by(&stage, MARKETING_PORTAL);
    let limit = |stage: &Stage| gauge(stage, "portcullis_concurrency_limit{");
    assert_eq!(limit(&stage), 10);
    let answer = |late: Duration| {
        let before = raw.seen().requests.len();
        let asked = asking(&stage, "/a", &portal);
        // The latency counts from then on at the latest.
        stage
            .runtime
            .block_on(patiently(raw.saw(|seen| seen.requests.len() > before)));
        stage.clock.advance(late);
        raw.release();
        assert_eq!(verdicts(&stage, vec![asked]), ["200"]);
        // The next is not to be taken for this one, which may be counted a moment longer.
        until(&stage, 0, 0);
    };
    answer(Duration::from_millis(10));
    assert_eq!(limit(&stage), 10);
    answer(Duration::from_secs(2));
    assert_eq!(limit(&stage), 9);
    for _ in 0..5 {
        answer(Duration::from_secs(2));
    }
    assert_eq!(limit(&stage), 7);
}

#[test]
fn a_body_that_is_the_callers_own_fault_lowers_no_limit() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let rest = format!(
        "match: {{ methods: [POST], path: /a }}, backend: raw, {ANYONE}, maxBody: 8, concurrency: {{ requests: 10, adaptive: {{ least: 2, latency: 1s }} }}"
    );
    let stage = scene.raw("raw", &raw).route("limited", &rest).start();
    let portal = by(&stage, MARKETING_PORTAL);
    for _ in 0..3 {
        let said = stage.raw(
            format!(
                "POST /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {portal}\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n5\r\n78901\r\n0\r\n\r\n"
            )
            .as_bytes(),
        );
        assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    }
    assert_eq!(gauge(&stage, "portcullis_concurrency_limit{"), 10);
}

#[test]
fn several_limits_of_one_route_are_told_apart() {
    let (_raw, stage) = limited("[{ requests: 3 }, { requests: 2, by: [app, { claim: 'a\"b' }] }]");
    let text = stage.admin("/metrics");
    for line in [
        r#"portcullis_concurrency_limit{of="route",name="limited",by=""} 3"#,
        r#"portcullis_concurrency_limit{of="route",name="limited",by="app, claim a\"b"} 2"#,
    ] {
        assert!(text.lines().any(|told| told == line), "{text}");
    }
}

#[test]
fn a_reload_changes_the_limit_and_calls_those_for_whom_there_is_room_now() {
    let (raw, stage) = limited("{ requests: 1, wait: 1m }");
    let portal = by(&stage, MARKETING_PORTAL);
    let asked = vec![
        asking(&stage, "/a", &portal),
        asking(&stage, "/b", &portal),
        asking(&stage, "/c", &portal),
    ];
    until(&stage, 1, 2);
    stage.change_policy(|policy| policy.replace("requests: 1, wait", "requests: 2, wait"));
    until(&stage, 2, 1);
    for _ in 0..3 {
        raw.release();
    }
    assert_eq!(verdicts(&stage, asked), ["200"; 3]);
}
