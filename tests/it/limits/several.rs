//! Several limits of one route, costs, quotas, limits on trial, and what answers say of them.

use std::time::Duration;

use portcullis::demo::mint::Token;
use portcullis::demo::names::{CONTOSO, FABRIKAM, MARKETING_PORTAL};

use super::{ANYONE, app, ask};
use crate::support::{Answer, RawBackend, Scene, Stage};

/// `/a`, for GET and POST, with these keys more.
fn scene(more: &str) -> (RawBackend, Scene) {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let rest =
        format!("match: {{ methods: [GET, POST], path: /a }}, backend: raw, {ANYONE}, {more}");
    let scene = scene.raw("raw", &raw).route("limited", &rest);
    (raw, scene)
}

fn start(more: &str) -> (RawBackend, Stage) {
    let (raw, scene) = scene(more);
    (raw, scene.start())
}

fn post(stage: &Stage, token: &Token) -> Answer {
    let token = stage.world.entra.sign(token).expect("signed");
    stage.call("POST", "/a").bearer(&token).body("12345").send()
}

fn portal(stage: &Stage) -> Token {
    app(stage, CONTOSO, MARKETING_PORTAL)
}

/// Moves the clock to the beginning of the next month, and returns by how much.
fn to_the_next_month(stage: &Stage) -> Duration {
    use portcullis::clock::Clock as _;
    use time::{Date, OffsetDateTime, Time};
    let unix = stage.clock.now().unix;
    let seconds = i64::try_from(unix.as_secs()).expect("not so far away");
    let today = OffsetDateTime::from_unix_timestamp(seconds)
        .expect("a date")
        .date();
    let (year, month) = match today.month() {
        time::Month::December => (today.year() + 1, time::Month::January),
        month => (today.year(), month.next()),
    };
    let next = Date::from_calendar_date(year, month, 1).expect("a date");
    let next = OffsetDateTime::new_utc(next, Time::MIDNIGHT).unix_timestamp();
    let left = Duration::from_secs(u64::try_from(next).expect("after 1970")) - unix;
    stage.clock.advance(left);
    left
}

#[test]
fn all_limits_hold_and_who_is_refused_by_one_is_counted_by_none() {
    let (_raw, stage) = start(
        "rateLimit: [{ name: burst, requests: 6, per: 1m, burst: 2, by: [app] }, { name: hourly, requests: 3, per: 1h, by: [route] }]",
    );
    let portal = portal(&stage);
    for (row, wait, verdict, limit, after) in [
        ("the first", 0, "200", None, None),
        ("the burst", 0, "200", None, None),
        (
            "beyond it",
            0,
            "429 rate-limited",
            Some("burst"),
            Some("10"),
        ),
        (
            "ten seconds later, the last of the hour",
            10,
            "200",
            None,
            None,
        ),
        (
            "beyond both",
            0,
            "429 rate-limited",
            Some("burst"),
            Some("1190"),
        ),
        (
            "beyond the hour's",
            60,
            "429 rate-limited",
            Some("hourly"),
            Some("1130"),
        ),
        ("when the hour lets one through", 1130, "200", None, None),
    ] {
        stage.clock.advance(Duration::from_secs(wait));
        let answer = ask(&stage, &portal);
        assert_eq!(answer.verdict(), verdict, "{row}");
        assert_eq!(answer.header("retry-after"), after, "{row}");
        let record = stage.record_of(&answer);
        assert_eq!(record["limit"].as_str(), limit, "{row}");
    }
    let text = stage.admin("/metrics");
    for line in [
        r#"portcullis_limited_total{route="limited",limit="burst",mode="enforce"} 2"#,
        r#"portcullis_limited_total{route="limited",limit="hourly",mode="enforce"} 1"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn every_answer_says_what_is_left_and_a_refusal_names_the_limits_that_refuse() {
    let (_raw, stage) = start(
        "rateLimit: [{ name: burst, requests: 6, per: 1m, burst: 2, by: [app] }, { name: hourly, requests: 2, per: 1h, by: [route] }]",
    );
    let portal = portal(&stage);
    let policy = r#""burst";q=6;w=60, "hourly";q=2;w=3600"#;
    for (status, standing) in [
        (200, r#""burst";r=1;t=10, "hourly";r=1;t=1800"#),
        (200, r#""burst";r=0;t=20, "hourly";r=0;t=3600"#),
        (429, r#""burst";r=0;t=10, "hourly";r=0;t=1800"#),
    ] {
        let answer = ask(&stage, &portal);
        assert_eq!(answer.status.as_u16(), status, "{standing}");
        assert_eq!(answer.header("ratelimit-policy"), Some(policy));
        assert_eq!(answer.header("ratelimit"), Some(standing));
        let problem: serde_json::Value = serde_json::from_str(&answer.text()).unwrap_or_default();
        let violated = (status == 429).then(|| serde_json::json!(["burst", "hourly"]));
        assert_eq!(problem.get("violated-policies").cloned(), violated);
    }
}

#[test]
fn the_older_fields_or_none_are_sent_where_gateway_yaml_says_so() {
    for (fields, limit, remaining, reset) in [
        ("legacy", Some("6"), Some("1"), Some("10")),
        ("off", None, None, None),
    ] {
        let (_raw, mut scene) = scene("rateLimit: { requests: 6, per: 1m, burst: 2, by: [app] }");
        scene.more = format!("limits: {{ headers: {fields} }}");
        let stage = scene.start();
        let portal = portal(&stage);
        let answer = ask(&stage, &portal);
        assert_eq!(answer.header("x-ratelimit-limit"), limit, "{fields}");
        assert_eq!(
            answer.header("x-ratelimit-remaining"),
            remaining,
            "{fields}"
        );
        assert_eq!(answer.header("x-ratelimit-reset"), reset, "{fields}");
        ask(&stage, &portal);
        let refused = ask(&stage, &portal);
        assert_eq!(refused.verdict(), "429 rate-limited");
        assert_eq!(refused.header("retry-after"), Some("10"), "{fields}");
        assert_eq!(
            refused.header("x-ratelimit-remaining"),
            remaining.map(|_| "0")
        );
        assert_eq!(refused.header("ratelimit"), None, "{fields}");
        assert_eq!(refused.header("ratelimit-policy"), None, "{fields}");
    }
}

#[test]
fn a_backends_own_429_passes_with_all_that_it_says() {
    let scene = Scene::new();
    let answer = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 77\r\nRateLimit: \"theirs\";r=0;t=77\r\nX-RateLimit-Limit: 5\r\nContent-Length: 4\r\n\r\nbusy";
    let raw = RawBackend::start(&scene, vec![crate::support::Step::text(answer)]);
    let rest = format!(
        "match: {{ methods: [GET], path: /a }}, backend: raw, {ANYONE}, rateLimit: {{ requests: 6, per: 1m, by: [app] }}"
    );
    let stage = scene.raw("raw", &raw).route("limited", &rest).start();
    let answer = ask(&stage, &portal(&stage));
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (429, "busy")
    );
    assert_eq!(answer.header("retry-after"), Some("77"));
    assert_eq!(answer.header("x-ratelimit-limit"), Some("5"));
    let standing: Vec<_> = answer.headers.get_all("ratelimit").iter().collect();
    assert_eq!(standing, [r#""theirs";r=0;t=77"#, r#""route";r=5;t=10"#]);
    assert_eq!(stage.record_of(&answer)["reason"], "rule");
}

#[test]
fn the_older_fields_of_a_backend_stay_as_they_are_and_those_of_a_refusal_are_the_gateways() {
    for own in [
        &["X-RateLimit-Limit: 5"][..],
        &["X-RateLimit-Remaining: 3"],
        &["X-RateLimit-Reset: 1795454645"],
        &[
            "X-RateLimit-Limit: 5",
            "X-RateLimit-Remaining: 3",
            "X-RateLimit-Reset: 9",
        ],
    ] {
        let mut scene = Scene::new();
        let fields = own.join("\r\n");
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: 4\r\n\r\nfine");
        let raw = RawBackend::start(&scene, vec![crate::support::Step::text(&answer)]);
        scene.more = "limits: { headers: legacy }".to_owned();
        let rest = format!(
            "match: {{ methods: [GET], path: /a }}, backend: raw, {ANYONE}, rateLimit: {{ requests: 6, per: 1m, burst: 1, by: [app] }}"
        );
        let stage = scene.raw("raw", &raw).route("limited", &rest).start();
        let portal = portal(&stage);
        let answer = ask(&stage, &portal);
        // Beside one of the backend's, one of the gateway's would be read as if they belonged together.
        let names = [
            "x-ratelimit-limit",
            "x-ratelimit-remaining",
            "x-ratelimit-reset",
        ];
        let told = names.iter().filter_map(|name| {
            let value = answer.header(name)?;
            Some(format!("{name}: {value}"))
        });
        let sent: Vec<_> = own.iter().map(|field| field.to_lowercase()).collect();
        assert_eq!(told.collect::<Vec<_>>(), sent);
        let refused = ask(&stage, &portal);
        assert_eq!(refused.verdict(), "429 rate-limited");
        assert_eq!(refused.header("x-ratelimit-limit"), Some("6"));
    }
}

#[test]
fn a_method_counts_as_many_times_as_it_costs() {
    let (_raw, stage) =
        start("rateLimit: { requests: 6, per: 1m, burst: 6, by: [app], cost: { POST: 4 } }");
    let portal = portal(&stage);
    assert_eq!(post(&stage, &portal).verdict(), "200");
    let refused = post(&stage, &portal);
    assert_eq!(refused.verdict(), "429 rate-limited");
    assert_eq!(refused.header("retry-after"), Some("20"), "two are missing");
    for verdict in ["200", "200", "429 rate-limited"] {
        assert_eq!(ask(&stage, &portal).verdict(), verdict);
    }
}

#[test]
fn a_limit_on_trial_refuses_nobody_and_is_told() {
    let (_raw, stage) = start(
        "rateLimit: [{ name: trial, requests: 1, per: 1h, by: [app], mode: reportOnly }, { name: real, requests: 3, per: 1h, by: [app] }]",
    );
    let portal = portal(&stage);
    for (row, verdict, limit, would) in [
        ("within both", "200", None, None),
        ("beyond the one on trial", "200", None, Some("trial")),
        ("again", "200", None, Some("trial")),
        ("beyond both", "429 rate-limited", Some("real"), None),
    ] {
        let answer = ask(&stage, &portal);
        assert_eq!(answer.verdict(), verdict, "{row}");
        let policy = Some(r#""real";q=3;w=3600"#);
        assert_eq!(answer.header("ratelimit-policy"), policy, "{row}");
        let record = stage.record_of(&answer);
        assert_eq!(record["limit"].as_str(), limit, "{row}");
        assert_eq!(record["reportOnlyLimit"].as_str(), would, "{row}");
    }
    let line = r#"portcullis_limited_total{route="limited",limit="trial",mode="reportOnly"} 2"#;
    assert!(stage.admin("/metrics").contains(line));
}

#[test]
fn claims_and_headers_have_counts_of_their_own_and_what_is_absent_is_one_of_them() {
    let (_raw, stage) = start(
        "rateLimit: { requests: 1, per: 1h, by: [{ claim: department }, { header: x-site }] }",
    );
    let call = |department: Option<&str>, site: Option<&str>| {
        let mut token = portal(&stage);
        if let Some(department) = department {
            token = token.claim("department", department);
        }
        let token = stage.world.entra.sign(&token).expect("signed");
        let call = stage.call("GET", "/a").bearer(&token);
        let call = match site {
            Some(site) => call.header("x-site", site),
            None => call,
        };
        call.send().verdict()
    };
    for (department, site) in [
        (Some("sales"), Some("north")),
        (Some("sales"), Some("south")),
        (Some("desk"), Some("north")),
        (Some("sales"), None),
        (Some("sales"), Some("")),
        (None, Some("north")),
        (None, None),
        // Not the two of the first, put together otherwise.
        (Some("salesnorth"), Some("")),
        (Some("sale"), Some("snorth")),
    ] {
        assert_eq!(call(department, site), "200", "{department:?} {site:?}");
        assert_eq!(
            call(department, site),
            "429 rate-limited",
            "{department:?} {site:?}"
        );
    }
}

#[test]
fn a_quota_of_requests_holds_until_the_window_of_the_calendar_ends() {
    let (_raw, stage) = start("quota: { requests: 2, per: month, by: [tenant] }");
    to_the_next_month(&stage);
    // Somewhere within it.
    stage.clock.advance(Duration::from_secs(86_400 * 3 + 5));
    let first = portal(&stage);
    assert_eq!(ask(&stage, &first).verdict(), "200");
    stage.clock.advance(Duration::from_secs(86_400 * 10));
    let renewed = portal(&stage);
    assert_eq!(ask(&stage, &renewed).verdict(), "200");
    let refused = ask(&stage, &renewed);
    assert_eq!(refused.verdict(), "429 quota-exceeded");
    assert_eq!(
        refused.header("ratelimit-policy"),
        Some(r#""quota";q=2;w=2419200"#)
    );
    let other = app(&stage, FABRIKAM, MARKETING_PORTAL);
    assert_eq!(ask(&stage, &other).verdict(), "200", "another tenant");
    let left = to_the_next_month(&stage);
    let told: u64 = refused
        .header("retry-after")
        .and_then(|after| after.parse().ok())
        .expect("a number");
    assert_eq!(told, left.as_secs() + u64::from(left.subsec_nanos() > 0));
    assert_eq!(
        ask(&stage, &portal(&stage)).verdict(),
        "200",
        "the next month"
    );
}

#[test]
fn a_quota_of_bytes_counts_both_bodies_when_they_have_passed() {
    let (raw, stage) = start("quota: { bytes: 20, per: day, by: [app] }");
    let portal = portal(&stage);
    // Five bytes of a request and four of an answer.
    for (row, verdict, left) in [
        ("the first", "200", Some(r#""quota";r=20"#)),
        ("nine have passed", "200", Some(r#""quota";r=11"#)),
        ("eighteen have passed", "200", Some(r#""quota";r=2"#)),
        (
            "27 have passed",
            "429 quota-exceeded",
            Some(r#""quota";r=0"#),
        ),
    ] {
        let answer = post(&stage, &portal);
        assert_eq!(answer.verdict(), verdict, "{row}");
        let standing = answer
            .header("ratelimit")
            .and_then(|text| text.split(";t=").next());
        assert_eq!(standing, left, "{row}");
        let policy = Some(r#""quota";q=20;qu="content-bytes";w=86400"#);
        assert_eq!(answer.header("ratelimit-policy"), policy, "{row}");
    }
    assert_eq!(raw.seen().requests.len(), 3);
}
