//! Rate limits: who has a count of their own, and when they are let in again.

mod at_once;
mod overload;
mod replicas;
mod several;

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::future::join_all;
use portcullis::demo::mint::Token;
use portcullis::demo::names::{AUDIENCE, CONTOSO, FABRIKAM, MARKETING_PORTAL, NIGHTLY_BATCH};
use portcullis::entra::Version;

use crate::support::{Answer, RawBackend, Scene, Stage, patiently};

const ANYONE: &str = "allow: [{ tenants: [contoso, fabrikam] }]";

/// Two requests at once, and one more every ten seconds.
fn limit(by: &str) -> String {
    format!("rateLimit: {{ requests: 6, per: 1m, burst: 2, by: [{by}] }}")
}

/// `/a` with this limit.
fn limited(by: &str) -> (RawBackend, Scene) {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let rest = format!(
        "match: {{ methods: [GET], path: /a }}, backend: raw, {ANYONE}, {}",
        limit(by)
    );
    let scene = scene.raw("raw", &raw).route("limited", &rest);
    (raw, scene)
}

fn app(stage: &Stage, tenant: &str, app: &str) -> Token {
    Token::app(Version::V2, tenant, app, AUDIENCE, stage.world.entra.now())
}

fn ask_at(stage: &Stage, path: &str, token: &Token) -> Answer {
    let token = stage.world.entra.sign(token).expect("signed");
    stage.call("GET", path).bearer(&token).send()
}

fn ask(stage: &Stage, token: &Token) -> Answer {
    ask_at(stage, "/a", token)
}

/// How many of four requests are let in.
fn of_four(stage: &Stage, token: &Token) -> usize {
    let answers = (0..4).map(|_| ask(stage, token).verdict());
    answers.filter(|verdict| verdict == "200").count()
}

#[test]
fn beyond_the_burst_the_answer_says_when_to_come_back_and_that_time_is_kept_exactly() {
    let (raw, scene) = limited("tenant, app");
    let stage = scene.start();
    let portal = app(&stage, CONTOSO, MARKETING_PORTAL);
    assert_eq!(ask(&stage, &portal).verdict(), "200");
    assert_eq!(ask(&stage, &portal).verdict(), "200", "the burst");
    let refused = ask(&stage, &portal);
    assert_eq!(refused.verdict(), "429 rate-limited");
    assert_eq!(refused.header("retry-after"), Some("10"));
    assert_eq!(
        refused.header("ratelimit-policy"),
        Some(r#""route";q=6;w=60"#)
    );
    assert_eq!(refused.header("ratelimit"), Some(r#""route";r=0;t=10"#));
    assert_eq!(refused.header("www-authenticate"), None);
    let record = stage.record_of(&refused);
    assert_eq!(record["expected"], "6 in 60 s, burst 2");
    assert_eq!(record["route"], "limited");
    assert_eq!(record["appName"], "marketing-portal");

    // Time rounds up, so who waits as told is let in, and nobody sooner.
    for (milliseconds, verdict, after) in [
        (1, "429 rate-limited", Some("10")),
        (8_999, "429 rate-limited", Some("1")),
        (999, "429 rate-limited", Some("1")),
        (1, "200", None),
        (0, "429 rate-limited", Some("10")),
        // Trying in vain costs nothing.
        (10_000, "200", None),
        // A long rest fills the burst, and no more.
        (3_600_000, "200", None),
        (0, "200", None),
        (0, "429 rate-limited", Some("10")),
    ] {
        stage.clock.advance(Duration::from_millis(milliseconds));
        let answer = ask(&stage, &app(&stage, CONTOSO, MARKETING_PORTAL));
        assert_eq!(answer.verdict(), verdict, "{milliseconds} ms later");
        assert_eq!(
            answer.header("retry-after"),
            after,
            "{milliseconds} ms later"
        );
    }
    assert_eq!(raw.seen().requests.len(), 6);
}

#[test]
fn each_has_a_count_of_their_own_by_what_the_limit_names() {
    let users = [
        "00000000-0000-0000-0000-00000000000a",
        "00000000-0000-0000-0000-00000000000b",
    ];
    // Who may still come when the portal of Contoso has used its allowance.
    for (by, other_app, other_tenant, other_user) in [
        ("tenant", 0, 2, 0),
        ("app", 2, 0, 0),
        ("tenant, app", 2, 2, 0),
        ("principal", 2, 0, 2),
        ("tenant, principal", 2, 2, 2),
        ("route", 0, 0, 0),
        ("clientAddress", 0, 0, 0),
    ] {
        let (_raw, scene) = limited(by);
        let stage = scene.start();
        let portal = app(&stage, CONTOSO, MARKETING_PORTAL);
        let user = |token: Token, user: usize| token.user("ada", "x").claim("oid", users[user]);
        assert_eq!(of_four(&stage, &portal), 2, "{by}");
        let found = (
            of_four(&stage, &app(&stage, CONTOSO, NIGHTLY_BATCH)),
            of_four(&stage, &app(&stage, FABRIKAM, MARKETING_PORTAL)),
        );
        assert_eq!(found, (other_app, other_tenant), "{by}");
        // Two users of one app.
        stage.clock.advance(Duration::from_secs(600));
        let portal = app(&stage, CONTOSO, MARKETING_PORTAL);
        assert_eq!(of_four(&stage, &user(portal.clone(), 0)), 2, "{by}");
        assert_eq!(of_four(&stage, &user(portal, 1)), other_user, "{by}");
    }
}

#[test]
fn by_client_address_each_address_counts_for_itself_and_needs_no_token() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let rest = format!(
        "match: {{ methods: [GET], path: /open }}, backend: raw, public: true, {}",
        limit("clientAddress")
    );
    let stage = scene.raw("raw", &raw).route("open", &rest).start();
    let from = |last: u8| {
        let call = stage
            .call("GET", "/open")
            .from(Ipv4Addr::new(127, 0, 0, last));
        // What a caller says of itself is no address.
        call.header("x-forwarded-for", "10.0.0.1").send().verdict()
    };
    for (row, last, verdict) in [
        ("the first", 1, "200"),
        ("of the burst", 1, "200"),
        ("beyond it", 1, "429 rate-limited"),
        ("another address", 2, "200"),
        ("of its burst", 2, "200"),
        ("beyond that", 2, "429 rate-limited"),
        ("a third", 3, "200"),
    ] {
        assert_eq!(from(last), verdict, "{row}");
    }
}

#[test]
fn every_route_counts_for_itself_and_who_is_refused_is_not_counted() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let limit = limit("tenant, app");
    let rest = |path: &str, allow: &str| {
        format!("match: {{ methods: [GET], path: {path} }}, backend: raw, {allow}, {limit}")
    };
    let portal_alone = "allow: [{ tenants: [contoso], apps: [marketing-portal], roles: [Yes] }]";
    let stage = scene
        .raw("raw", &raw)
        .route("one", &rest("/one", ANYONE))
        .route("two", &rest("/two", ANYONE))
        .route("strict", &rest("/strict", portal_alone))
        .start();
    let portal = app(&stage, CONTOSO, MARKETING_PORTAL);
    for (path, verdict) in [
        ("/one", "200"),
        ("/one", "200"),
        ("/one", "429 rate-limited"),
        ("/two", "200"),
        ("/two", "200"),
        ("/two", "429 rate-limited"),
        ("/strict", "403 role-missing"),
        ("/strict", "403 role-missing"),
        ("/strict", "403 role-missing"),
    ] {
        assert_eq!(ask_at(&stage, path, &portal).verdict(), verdict, "{path}");
    }
    let with_role = portal.roles(&["Yes"]);
    assert_eq!(ask_at(&stage, "/strict", &with_role).verdict(), "200");
    assert_eq!(ask_at(&stage, "/strict", &with_role).verdict(), "200");
    // Nor do bad tokens use up the allowance of whom they name.
    stage.clock.advance(Duration::from_secs(600));
    let good = app(&stage, CONTOSO, MARKETING_PORTAL);
    let bad = good.clone().claim("aud", "api://another");
    for _ in 0..3 {
        assert_eq!(
            ask_at(&stage, "/one", &bad).verdict(),
            "401 audience-mismatch"
        );
    }
    assert_eq!(ask_at(&stage, "/one", &good).verdict(), "200");
}

#[test]
fn however_many_come_at_once_over_however_many_workers_no_more_than_the_burst_pass() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let rest = format!(
        "match: {{ methods: [GET], path: /a }}, backend: raw, {ANYONE}, rateLimit: {{ requests: 1, per: 1d, burst: 7, by: [tenant, app] }}"
    );
    let stage = scene
        .raw("raw", &raw)
        .route("limited", &rest)
        .workers(4)
        .start();
    let token = stage.portal_token();
    let answers = stage.runtime.block_on(patiently(join_all(
        (0..40).map(|_| stage.call("GET", "/a").bearer(&token).http2().sending()),
    )));
    let verdicts: Vec<String> = answers.iter().map(Answer::verdict).collect();
    let passed = verdicts.iter().filter(|verdict| *verdict == "200").count();
    let refused = verdicts
        .iter()
        .filter(|verdict| *verdict == "429 rate-limited")
        .count();
    assert_eq!((passed, refused), (7, 33), "{verdicts:?}");
    assert_eq!(raw.seen().requests.len(), 7);
    assert_eq!(
        answers
            .iter()
            .find_map(|answer| answer.header("retry-after")),
        Some("86400")
    );
}

#[test]
fn a_reload_keeps_the_count_of_a_limit_that_stays_and_begins_one_that_changes() {
    let (_raw, scene) = limited("tenant, app");
    let stage = scene.start();
    let portal = app(&stage, CONTOSO, MARKETING_PORTAL);
    assert_eq!(of_four(&stage, &portal), 2);

    let more = "  beside: { match: { methods: [GET], path: /b }, backend: raw, public: true }\n";
    stage.change_policy(|policy| policy + more);
    assert_eq!(
        stage.call("GET", "/b").send().verdict(),
        "200",
        "it is in force"
    );
    assert_eq!(of_four(&stage, &portal), 0, "another route was added");

    stage.change_policy(|policy| {
        policy.replace("tenants: [contoso, fabrikam] }]", "tenants: [contoso] }]")
    });
    assert_eq!(of_four(&stage, &portal), 0, "the rules were changed");

    stage.change_policy(|policy| policy.replace("burst: 2", "burst: 3"));
    assert_eq!(of_four(&stage, &portal), 3, "the limit was changed");

    // Back again is a change too; what was counted under it then has been let go.
    stage.change_policy(|policy| policy.replace("burst: 3", "burst: 2"));
    assert_eq!(of_four(&stage, &portal), 2);
}

#[test]
fn requests_that_cannot_be_read_count_for_their_address_too() {
    for count in ["requests", "failures"] {
        let (raw, mut scene) = limited("app");
        scene.more = format!(
            "limits: {{ beforeAuthentication: {{ requests: 2, per: 1h, count: {count} }} }}"
        );
        let stage = scene.start();
        let two_hosts = b"GET /a HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n";
        for (row, request) in [
            (
                "two readings",
                &b"GET /a%2Fb HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"[..],
            ),
            ("two hosts", &two_hosts[..]),
        ] {
            let said = stage.raw(request);
            assert!(said.starts_with("HTTP/1.1 400"), "{count} {row}: {said}");
        }
        let said = stage.raw(two_hosts);
        assert!(said.starts_with("HTTP/1.1 429"), "{count}: {said}");
        let portal = app(&stage, CONTOSO, MARKETING_PORTAL);
        assert_eq!(
            ask(&stage, &portal).verdict(),
            "429 rate-limited",
            "{count}"
        );
        assert_eq!(raw.seen().requests.len(), 0);
    }
}
