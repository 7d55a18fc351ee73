//! Gateways that share their limits by one Redis: real processes, a real Redis, and what befalls it.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use portcullis::clock::{Clock as _, SystemClock, pause};

use super::{app, ask};
use crate::documents::{bare, marked, read, rows};
use crate::edge::{Process, shake};
use crate::support::redis::{Open, Redis, Road};
use crate::support::{RawBackend, Scene, Stage, patiently};
use portcullis::demo::names::{CONTOSO, MARKETING_PORTAL};

const LIMIT: u64 = 2_000;
const TEN: usize = 10;
/// What one of ten leases at a time: `LIMIT / (40 * 10)`.
const BATCH: u64 = 5;
/// Between two requests of one caller.
const PACE: Duration = Duration::from_millis(15);

/// What callers have seen.
#[derive(Default)]
struct Seen {
    admitted: AtomicU64,
    /// By gateway, since it was last set to nothing.
    refused: [AtomicU64; TEN],
    over: AtomicBool,
}

impl Seen {
    async fn until(&self, what: &str, fits: impl Fn(&Self) -> bool) {
        let begun = SystemClock.instant();
        while !fits(self) {
            let waited = SystemClock.instant().duration_since(begun).as_secs();
            let admitted = self.admitted.load(Ordering::Relaxed);
            assert!(waited < 60, "waited in vain for {what}: {admitted}");
            pause(Duration::from_millis(5)).await;
        }
    }

    async fn admits(&self, many: u64) {
        let fits = |seen: &Self| seen.admitted.load(Ordering::Relaxed) >= many;
        self.until("admissions", fits).await;
    }
}

/// One caller of one gateway, who never tires.
async fn call_on(at: usize, connection: impl Future<Output = Sender>, seen: Arc<Seen>) {
    let mut sender = connection.await;
    while !seen.over.load(Ordering::Relaxed) {
        let request = Request::get("/a").header("host", "localhost");
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        sender.ready().await.expect("open");
        let answer = sender.send_request(request).await.expect("an answer");
        let status = answer.status().as_u16();
        answer.into_body().collect().await.expect("a body");
        match status {
            200 => seen.admitted.fetch_add(1, Ordering::Relaxed),
            429 => seen.refused[at].fetch_add(1, Ordering::Relaxed),
            other => panic!("answered {other}"),
        };
        pause(PACE).await;
    }
}

type Sender = hyper::client::conn::http1::SendRequest<Empty<Bytes>>;

#[test]
fn ten_gateways_let_through_what_one_would_while_redis_is_restarted_paused_and_cut_off() {
    let mut scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    scene = scene.raw("raw", &raw).route(
        "shared",
        &format!("match: {{ methods: [GET], path: /a }}, backend: raw, public: true, quota: {{ requests: {LIMIT}, per: month, by: [route] }}"),
    );
    let mut redis = Redis::start();
    let (mut roads, mut gateways, mut folders) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TEN {
        let road = scene.runtime.block_on(Road::to(redis.address()));
        let node = road.node();
        scene.more = format!(
            "limits: {{ store: {{ redis: 'redis://{}:{}' }} }}",
            node.host, node.port
        );
        let folder = tempfile::tempdir().expect("a folder");
        let config = scene.write(folder.path());
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("run").arg("--config").arg(config);
        gateways.push(Process::start(command));
        roads.push(road);
        folders.push(folder);
    }
    let seen = Arc::new(Seen::default());
    scene.runtime.block_on(async {
        let mut callers = Vec::new();
        for (at, gateway) in gateways.iter().enumerate() {
            let stream = shake(&scene, gateway.address, b"http/1.1").await;
            let io = TokioIo::new(stream.expect("let in"));
            let connection = async move {
                let shaken = hyper::client::conn::http1::handshake(io).await;
                let (sender, connection) = shaken.expect("HTTP/1.1");
                tokio::spawn(connection);
                sender
            };
            callers.push(tokio::spawn(call_on(at, connection, Arc::clone(&seen))));
        }
        let cut_off = |open: Open, many: usize| {
            roads.iter().take(many).for_each(|road| road.set(open));
        };
        seen.admits(LIMIT / 8).await;
        redis.kill();
        redis.start_again();
        seen.admits(LIMIT * 2 / 8).await;
        redis.pause();
        pause(Duration::from_millis(1200)).await;
        redis.resume();
        seen.admits(LIMIT * 3 / 8).await;
        cut_off(Open::Refused, 5);
        pause(Duration::from_millis(1200)).await;
        cut_off(Open::Through, TEN);
        seen.admits(LIMIT / 2).await;
        cut_off(Open::Nowhere, TEN);
        pause(Duration::from_millis(1200)).await;
        cut_off(Open::Through, TEN);
        // Until nobody is let in any more, wherever they ask.
        seen.admits(LIMIT * 95 / 100).await;
        seen.refused
            .iter()
            .for_each(|refused| refused.store(0, Ordering::Relaxed));
        let often = |refused: &AtomicU64| refused.load(Ordering::Relaxed) > 50;
        seen.until("refusals", |seen| seen.refused.iter().all(often))
            .await;
        seen.over.store(true, Ordering::Relaxed);
        for caller in callers {
            patiently(caller)
                .await
                .expect("no caller was answered otherwise");
        }
    });
    let admitted = seen.admitted.load(Ordering::Relaxed);
    let most = LIMIT + TEN as u64 * BATCH;
    assert!(
        (LIMIT * 95 / 100..=most).contains(&admitted),
        "admitted {admitted}"
    );
    let kept = redis.keys();
    assert!(
        !kept.is_empty() && kept.iter().all(|(_, left)| *left > 0),
        "{kept:?}"
    );
}

fn limits(redis: &Redis, more: &str) -> String {
    format!(
        "limits: {{ store: {{ redis: {{ url: 'redis://{}' {more} }} }} }}",
        redis.address()
    )
}

fn check(stage: &Stage, name: &str) -> bool {
    let checks = stage.gateway().readiness().checks();
    let mut checks = checks.iter().filter(|check| check.name == name);
    checks.next().expect("a check").passes
}

#[test]
fn how_it_stands_with_the_store_is_told_and_requests_go_on_without_it() {
    let mut scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let mut redis = Redis::start();
    scene.more = limits(&redis, "");
    let rest = format!(
        "match: {{ methods: [GET], path: /a }}, backend: raw, {}, rateLimit: {{ requests: 100, per: 1h, by: [app] }}",
        super::ANYONE
    );
    let stage = scene.raw("raw", &raw).route("shared", &rest).start();
    let portal = app(&stage, CONTOSO, MARKETING_PORTAL);
    let answer = ask(&stage, &portal);
    assert_eq!(answer.verdict(), "200");
    let policy = Some(r#""route";q=100;w=3600"#);
    assert_eq!(answer.header("ratelimit-policy"), policy);

    let text = stage.admin("/metrics");
    let told = text
        .lines()
        .filter(|line| line.starts_with("portcullis_limit_store_"));
    let told: BTreeSet<String> = told
        .map(|line| line.split(' ').next().expect("a name").to_owned())
        .collect();
    let readme = read("README.md");
    let documented = rows(marked(&readme, "store-metrics"));
    let documented: BTreeSet<String> = documented.iter().map(|row| bare(&row[0])).collect();
    assert_eq!(documented, told);
    assert!(
        text.contains("portcullis_limit_store_reachable 1\n"),
        "{text}"
    );
    assert!(
        text.contains("portcullis_limit_store_replicas 1\n"),
        "{text}"
    );

    redis.kill();
    stage.until("the store to be missed", |stage| {
        !check(stage, "limits.store")
    });
    let verbose = stage.admin("/readyz?verbose");
    assert!(verbose.starts_with("HTTP/1.1 200"), "{verbose}");
    assert!(verbose.contains("[!] limits.store degraded: "), "{verbose}");
    assert!(
        stage
            .admin("/metrics")
            .contains("portcullis_limit_store_reachable 0\n")
    );
    assert_eq!(ask(&stage, &portal).verdict(), "200");
    redis.start_again();
    stage.until("the store to be back", |stage| check(stage, "limits.store"));
}

#[test]
fn who_begins_to_use_up_bytes_takes_one_of_them_and_a_fortieth_of_all_ahead() {
    for (bytes, leased, told) in [
        (20, "1", &["200 19", "200 10", "200 1", "429 0"][..]),
        (4_000, "101", &["200 3999", "200 3990"]),
    ] {
        let mut scene = Scene::new();
        let raw = RawBackend::ok(&scene, "fine");
        let redis = Redis::start();
        scene.more = limits(&redis, ", timeout: 5s");
        let rest = format!(
            "match: {{ methods: [POST], path: /a }}, backend: raw, public: true, quota: {{ bytes: {bytes}, per: month, by: [route] }}"
        );
        let stage = scene.raw("raw", &raw).route("shared", &rest).start();
        stage.until("the store", |stage| check(stage, "limits.store"));
        for (at, told) in told.iter().enumerate() {
            // Five bytes of a request and four of an answer, one of which was taken before.
            let answer = stage.call("POST", "/a").body("hello").send();
            let standing = answer.header("ratelimit").expect("a standing");
            let left = standing.split(['=', ';']).nth(2).expect("what is left");
            assert_eq!(format!("{} {left}", answer.status.as_u16()), *told);
            if at > 0 {
                continue;
            }
            let mut keys = redis.keys().into_iter().map(|(key, _)| key);
            let key = keys.find(|key| key.contains("shared/")).expect("a meter");
            let level = || redis.tell(&["HGET", &key, "l"]);
            let is =
                |level: redis::Value, units: &str| level == redis::Value::BulkString(units.into());
            match leased {
                // What has passed beyond what is leased is told.
                "1" => stage.until("the rest", |_| is(level(), "9")),
                _ => assert!(is(level(), leased), "{:?}", level()),
            }
        }
    }
}

#[test]
fn a_limit_whose_key_holds_something_else_is_told_of_and_the_others_go_on() {
    let mut scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let redis = Redis::start();
    scene.more = limits(&redis, "").replace("limits: {", "limits: { onStoreFailure: deny,");
    for (name, path) in [("spoilt", "/a"), ("sound", "/b")] {
        let rest = format!(
            "match: {{ methods: [GET], path: {path} }}, backend: raw, public: true, rateLimit: {{ requests: 2, per: 1d, by: [route] }}"
        );
        scene = scene.route(name, &rest);
    }
    let stage = scene.raw("raw", &raw).start();
    let verdict = |path: &str| stage.call("GET", path).send().verdict();
    assert_eq!(verdict("/a"), "200");
    let mut keys = redis.keys().into_iter().map(|(key, _)| key);
    let key = keys.find(|key| key.contains("spoilt/")).expect("a meter");
    redis.tell(&["SET", &key, "of another kind"]);
    assert_eq!(verdict("/a"), "429 rate-limited");
    assert_eq!(verdict("/b"), "200");
    let (begins, caller) = key.rsplit_once('/').expect("a caller");
    let name = format!("limits.store/{begins}/");
    assert!(!check(&stage, &name) && check(&stage, "limits.store"));
    let verbose = stage.admin("/readyz?verbose");
    assert!(verbose.starts_with("HTTP/1.1 200"), "{verbose}");
    let says = format!("[!] {name} degraded: a key that begins so holds something else");
    assert!(
        verbose.contains(&says) && !verbose.contains(caller),
        "{verbose}"
    );
}

#[test]
fn where_nothing_is_to_pass_without_the_store_the_gateway_is_not_ready_without_it() {
    let mut scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let redis = Redis::start();
    scene.more = limits(&redis, "").replace("limits: {", "limits: { onStoreFailure: deny,");
    let rest = format!(
        "match: {{ methods: [GET], path: /a }}, backend: raw, {}, rateLimit: {{ requests: 100, per: 1h, by: [app] }}",
        super::ANYONE
    );
    let stage = scene.raw("raw", &raw).route("shared", &rest).start();
    drop(redis);
    stage.until("the store to be missed", |stage| {
        !check(stage, "limits.store")
    });
    assert!(stage.admin("/readyz").starts_with("HTTP/1.1 503"));
}

#[test]
fn a_managed_identity_signs_in_at_redis_and_its_token_is_for_redis() {
    let mut scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let redis = Redis::start();
    let oid = "00000000-0000-0000-0000-0000000000aa";
    // Nobody but the identity is let in with what limits need, and it has no token yet.
    scene.more = limits(
        &redis,
        &format!(", identity: {{ managedIdentity: {{}} }}, user: {oid}"),
    );
    let stage = scene
        .raw("raw", &raw)
        .route(
            "open",
            "match: { methods: [GET], path: /a }, backend: raw, public: true",
        )
        .start_unready();
    let issued = stage.world.identity.issued();
    let token = || {
        let tokens = issued.tokens().into_iter();
        let mut tokens = tokens.filter(|(_, resource)| resource == "https://redis.azure.com");
        tokens.next().map(|(token, _)| token)
    };
    stage.until("a token for Redis", |_| token().is_some());
    assert!(
        !check(&stage, "limits.store"),
        "nobody of that name is known yet"
    );
    let password = format!(">{}", token().expect("found above"));
    redis.tell(&["ACL", "SETUSER", oid, "on", &password, "~*", "+@all"]);
    stage.until("the sign-in", |stage| check(stage, "limits.store"));
    assert_eq!(stage.call("GET", "/a").send().verdict(), "200");
}
