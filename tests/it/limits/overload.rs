//! Before authentication: limits by address, and who is refused first when there is too much to do.

use std::net::Ipv4Addr;
use std::time::Duration;

use portcullis::demo::names::{CONTOSO, MARKETING_PORTAL, NIGHTLY_BATCH};

use super::{ANYONE, app};
use crate::support::{Answer, RawBackend, Scene, Stage, Step, patiently};

fn scene(limits: &str) -> (RawBackend, Scene) {
    let mut scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    scene.more = format!("limits: {{ {limits} }}");
    let rest = format!("match: {{ methods: [GET], path: /a }}, backend: raw, {ANYONE}");
    let scene = scene.raw("raw", &raw).route("open", &rest);
    (raw, scene)
}

fn from(stage: &Stage, last: u8, token: &str) -> Answer {
    let call = stage.call("GET", "/a").bearer(token);
    call.from(Ipv4Addr::new(127, 0, 0, last)).send()
}

#[test]
fn an_address_that_calls_too_often_is_refused_before_its_token_is_looked_at() {
    let (_raw, scene) = scene("beforeAuthentication: { requests: 6, per: 1m, burst: 2 }");
    let stage = scene.start();
    let portal = stage.portal_token();
    for (row, wait, address, token, verdict) in [
        ("a bad one counts", 0, 1, "x.y.z", "401 token-malformed"),
        ("a good one, too", 0, 1, portal.as_str(), "200"),
        (
            "beyond the burst, a bad one",
            0,
            1,
            "x.y.z",
            "429 rate-limited",
        ),
        ("and a good one", 0, 1, &portal, "429 rate-limited"),
        ("another address", 0, 2, &portal, "200"),
        ("later", 10, 1, &portal, "200"),
    ] {
        stage.clock.advance(Duration::from_secs(wait));
        let answer = from(&stage, address, token);
        assert_eq!(answer.verdict(), verdict, "{row}");
        if verdict.starts_with("429") {
            assert_eq!(answer.header("retry-after"), Some("10"), "{row}");
            assert_eq!(
                answer.header("ratelimit"),
                Some(r#""address";r=0;t=10"#),
                "{row}"
            );
            assert_eq!(answer.header("www-authenticate"), None, "{row}");
            let record = stage.record_of(&answer);
            assert_eq!(record["limit"], "address", "{row}");
            assert_eq!(record.get("route"), None, "nothing was looked at");
        }
    }
}

#[test]
fn where_failures_count_who_proves_who_they_are_is_not_held_up() {
    let (_raw, scene) =
        scene("beforeAuthentication: { requests: 6, per: 1m, burst: 2, count: failures }");
    let stage = scene.start();
    let portal = stage.portal_token();
    for _ in 0..20 {
        assert_eq!(from(&stage, 1, &portal).verdict(), "200");
    }
    for (row, token, verdict) in [
        ("one failure", "x.y.z", "401 token-malformed"),
        ("a good one between", portal.as_str(), "200"),
        ("two", "x.y.z", "401 token-malformed"),
        ("beyond", "x.y.z", "429 rate-limited"),
        ("the address is held to it", &portal, "429 rate-limited"),
    ] {
        assert_eq!(from(&stage, 1, token).verdict(), verdict, "{row}");
    }
    // A path that nobody publishes is a failure of who has no token.
    for verdict in ["401 token-missing", "401 token-missing", "429 rate-limited"] {
        let call = stage
            .call("GET", "/nowhere")
            .from(Ipv4Addr::new(127, 0, 0, 3));
        assert_eq!(call.send().verdict(), verdict);
    }
    assert_eq!(from(&stage, 2, &portal).verdict(), "200");
}

#[test]
fn under_overload_the_unproved_are_refused_first_then_those_beyond_their_share() {
    let mut scene = Scene::new();
    let raw = RawBackend::start(
        &scene,
        vec![
            Step::Wait,
            Step::text("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"),
        ],
    );
    let quick = RawBackend::ok(&scene, "quick");
    scene.more = "limits: { maxRequests: 10 }".to_owned();
    let rest = |path: &str, backend: &str| {
        format!("match: {{ methods: [GET], path: {path} }}, backend: {backend}, {ANYONE}")
    };
    let stage = scene
        .raw("raw", &raw)
        .raw("quick", &quick)
        .route("slow", &rest("/slow", "raw"))
        .route("quick", &rest("/quick", "quick"))
        .route(
            "open",
            "match: { methods: [GET], path: /open }, backend: quick, public: true",
        )
        .start();
    let token = |app_id: &str| {
        let token = app(&stage, CONTOSO, app_id);
        stage.world.entra.sign(&token).expect("signed")
    };
    let (portal, batch) = (token(MARKETING_PORTAL), token(NIGHTLY_BATCH));
    let call = |path: &str, token: &str| stage.call("GET", path).bearer(token).send().verdict();
    // Both are known from here on.
    assert_eq!(call("/quick", &portal), "200");
    assert_eq!(call("/quick", &batch), "200");
    let mut asked = Vec::new();
    let slow = |token: &str, count: usize, asked: &mut Vec<_>| {
        for _ in 0..count {
            let sending = stage.call("GET", "/slow").bearer(token).sending();
            asked.push(stage.runtime.spawn(patiently(sending)));
            let wanted = asked.len();
            let saw = raw.saw(|seen| seen.requests.len() == wanted);
            stage.runtime.block_on(patiently(saw));
        }
    };
    slow(&portal, 7, &mut asked);
    slow(&batch, 1, &mut asked);
    let gauge = "portcullis_requests_under_way 8\n";
    assert!(stage.admin("/metrics").contains(gauge));
    let fresh = app(&stage, CONTOSO, NIGHTLY_BATCH).claim("jti", "another");
    let fresh = stage.world.entra.sign(&fresh).expect("signed");
    for (row, path, token, verdict) in [
        (
            "a token nobody has seen",
            "/quick",
            fresh.as_str(),
            "503 overloaded",
        ),
        ("nobody at all", "/open", "", "503 overloaded"),
        ("who is known", "/quick", &batch, "200"),
        ("even who holds most", "/quick", &portal, "200"),
    ] {
        assert_eq!(call(path, token), verdict, "{row}");
    }
    slow(&portal, 1, &mut asked);
    for (row, path, token, verdict) in [
        (
            "beyond its share",
            "/quick",
            portal.as_str(),
            "503 overloaded",
        ),
        ("within its share", "/quick", &batch, "200"),
    ] {
        assert_eq!(call(path, token), verdict, "{row}");
    }
    slow(&batch, 1, &mut asked);
    let refused = stage.call("GET", "/quick").bearer(&batch).send();
    assert_eq!(refused.verdict(), "503 overloaded", "everybody");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(stage.ready(), "health is told all the same");
    for _ in 0..asked.len() {
        raw.release();
    }
    for answer in asked {
        let answer = stage.runtime.block_on(patiently(answer)).expect("answered");
        assert_eq!(answer.verdict(), "200");
    }
    assert_eq!(call("/open", ""), "200");
}
