//! Signing keys: rotated, withdrawn, unknown, out of reach, and kept on disk.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::demo::entra::Fault;
use portcullis::demo::mint::{Token, issuer};
use portcullis::demo::names::{AUDIENCE, CONTOSO, FABRIKAM, MARKETING_PORTAL};
use portcullis::entra::Version;
use portcullis::ids::PERSONAL_ACCOUNTS;

use crate::support::{RawBackend, Scene, Stage, patiently};

/// Every issuer that the policy names: two tenants, two versions.
const ISSUERS: u64 = 4;

const FAULTS: [Fault; 8] = [
    Fault::Refuse,
    Fault::Status(500),
    Fault::Status(404),
    Fault::Hang,
    Fault::Huge,
    Fault::Garbage,
    Fault::Empty,
    Fault::Redirect,
];

/// Contoso's portal and Fabrikam's may call everything; requests do not wait long for keys.
fn open() -> (RawBackend, Scene) {
    let mut scene = Scene::new();
    scene.entra = "  keyWait: 300ms".to_owned();
    let raw = RawBackend::ok(&scene, "fine");
    let allow = "allow: [{ tenants: [contoso, fabrikam], apps: [marketing-portal] }]";
    let rest = format!("match: {{ methods: [GET], path: '/{{*rest}}' }}, backend: raw, {allow}");
    let scene = scene.raw("raw", &raw).route("all", &rest);
    (raw, scene)
}

fn token(stage: &Stage, version: Version, tenant: &str) -> String {
    let now = stage.world.entra.now();
    let token = Token::app(version, tenant, MARKETING_PORTAL, AUDIENCE, now);
    stage.world.entra.sign(&token).expect("signed")
}

fn contoso(stage: &Stage) -> String {
    token(stage, Version::V2, CONTOSO)
}

fn ask(stage: &Stage, token: &str) -> String {
    stage.call("GET", "/a").bearer(token).send().verdict()
}

/// The checks of single issuers that fail, by name.
fn failing(stage: &Stage) -> Vec<String> {
    let checks = stage.gateway().readiness().checks();
    let issuers = checks
        .into_iter()
        .filter(|check| check.name.starts_with("keys/"));
    issuers
        .filter(|check| !check.passes)
        .map(|check| check.name)
        .collect()
}

/// How many issuers' first fetches have not ended yet.
fn untried(stage: &Stage) -> usize {
    let checks = stage.gateway().readiness().checks();
    let untried = checks
        .iter()
        .filter(|check| check.name.starts_with("keys/"));
    untried
        .filter(|check| check.why == "not fetched yet" && !check.passes)
        .count()
}

/// Moves the clock until the condition holds, in steps that no pause of the background outlasts.
fn in_time(stage: &Stage, what: &str, holds: impl Fn(&Stage) -> bool) {
    stage.until(what, |stage| {
        stage.clock.advance(Duration::from_secs(1));
        holds(stage)
    });
}

#[test]
fn the_first_request_with_a_rotated_key_passes_and_a_withdrawn_key_stops_its_cached_tokens() {
    let (_raw, scene) = open();
    let stage = scene.start();
    let fetched = stage.world.entra.fetches();
    assert_eq!(fetched, ISSUERS, "every issuer once, at start");
    let old = contoso(&stage);
    assert_eq!(ask(&stage, &old), "200");
    assert_eq!(ask(&stage, &old), "200", "cached");

    stage.world.entra.rotate().expect("a key");
    let new = contoso(&stage);
    assert_eq!(ask(&stage, &old), "200", "nobody has looked yet");
    assert_eq!(ask(&stage, &new), "200", "the very first request");
    assert_eq!(stage.world.entra.fetches(), fetched + 1);
    assert_eq!(ask(&stage, &old), "401 key-unknown");
    assert_eq!(ask(&stage, &new), "200");

    // The other issuers, whose keys are the same, have not been asked; what they knew stays.
    let v1 = token(&stage, Version::V1, CONTOSO);
    assert_eq!(ask(&stage, &v1), "200");
    assert_eq!(stage.world.entra.fetches(), fetched + 2);
}

#[test]
fn a_withdrawn_key_stops_by_the_background_alone() {
    let (_raw, mut scene) = open();
    scene.entra += "\n  refreshEvery: 10m";
    let stage = scene.start();
    let old = contoso(&stage);
    assert_eq!(ask(&stage, &old), "200");
    stage.world.entra.rotate().expect("a key");
    // A tenth sooner at the soonest.
    stage.clock.advance(Duration::from_secs(539));
    assert_eq!(ask(&stage, &old), "200");
    assert_eq!(stage.world.entra.fetches(), ISSUERS);
    in_time(&stage, "the refresh", |stage| {
        stage.world.entra.fetches() >= 2 * ISSUERS
    });
    in_time(&stage, "the withdrawal", |stage| {
        ask(stage, &old) == "401 key-unknown"
    });
    assert_eq!(ask(&stage, &contoso(&stage)), "200");
}

/// Sends all tokens at once, on one connection, and returns how each was answered.
fn flood(stage: &Stage, tokens: &[String]) -> Vec<u16> {
    stage.runtime.block_on(patiently(async {
        let io = TokioIo::new(stage.tls(b"h2").await);
        let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (sender, connection) = shaken.expect("HTTP/2");
        tokio::spawn(connection);
        let calls = tokens.iter().map(|token| {
            let mut sender = sender.clone();
            let request = Request::get("https://localhost/a")
                .header("authorization", format!("Bearer {token}"))
                .body(Full::new(Bytes::new()));
            async move {
                let answer = sender.send_request(request.expect("a request")).await;
                let (parts, body) = answer.expect("an answer").into_parts();
                body.collect().await.expect("a body");
                parts.status.as_u16()
            }
        });
        join_all(calls).await
    }))
}

#[test]
fn a_flood_of_unknown_key_ids_asks_once_in_the_interval_and_waits_for_the_answer() {
    let (_raw, mut scene) = open();
    scene.entra = "  keyWait: 10s\n  unknownKeyInterval: 2m\n  refreshEvery: 24h".to_owned();
    let stage = scene.start();
    let entra = &stage.world.entra;
    let unknown = |round: &str| -> Vec<String> {
        let kids = (0..50).map(|n| format!("{round}-{n}"));
        kids.map(|kid| {
            let now = entra.now();
            let token = Token::app(Version::V2, CONTOSO, MARKETING_PORTAL, AUDIENCE, now);
            entra.sign(&token.header("kid", kid)).expect("signed")
        })
        .collect()
    };
    for (round, seconds, fetches) in [
        ("the first asks", 0, ISSUERS + 1),
        ("within the interval", 119, ISSUERS + 1),
        ("when it is over", 1, ISSUERS + 2),
        ("and again within", 119, ISSUERS + 2),
    ] {
        stage.clock.advance(Duration::from_secs(seconds));
        let answers = flood(&stage, &unknown(round));
        assert_eq!(answers, vec![401; 50], "{round}");
        assert_eq!(entra.fetches(), fetches, "{round}");
    }

    // Good tokens of a key that is new: all of them wait for the one fetch, and all of them pass.
    stage.clock.advance(Duration::from_secs(1));
    entra.rotate().expect("a key");
    let fresh: Vec<String> = (0..50).map(|_| contoso(&stage)).collect();
    assert_eq!(flood(&stage, &fresh), vec![200; 50]);
    assert_eq!(entra.fetches(), ISSUERS + 3);
}

#[test]
fn whatever_the_key_endpoint_says_the_last_good_keys_serve() {
    for fault in FAULTS {
        let (_raw, mut scene) = open();
        scene.entra += "\n  refreshEvery: 1m";
        let stage = scene.start();
        let entra = &stage.world.entra;
        // However far the clock goes, it is not the token that ends.
        let cached = Token::app(
            Version::V2,
            CONTOSO,
            MARKETING_PORTAL,
            AUDIENCE,
            entra.now(),
        );
        let cached = cached.claim("exp", entra.now() + 10 * 365 * 24 * 3600);
        let cached = entra.sign(&cached).expect("signed");
        assert_eq!(ask(&stage, &cached), "200");
        for version in Version::ALL {
            entra.set_fault(CONTOSO, version, Some(fault));
        }
        let before = entra.fetches();
        in_time(&stage, "several fetches that fail", |_| {
            entra.fetches() >= before + 8
        });
        assert_eq!(ask(&stage, &cached), "200", "{fault:?}, cached");
        assert_eq!(ask(&stage, &contoso(&stage)), "200", "{fault:?}, new");
        assert_eq!(
            ask(&stage, &token(&stage, Version::V1, CONTOSO)),
            "200",
            "{fault:?}, v1"
        );
        assert_eq!(failing(&stage), Vec::<String>::new(), "{fault:?}");

        // A key that is not known may be new: the token may be good, so it is no 401.
        for version in Version::ALL {
            let unknown = Token::app(version, CONTOSO, MARKETING_PORTAL, AUDIENCE, entra.now());
            let unknown = entra.sign(&unknown.header("kid", "perhaps-new"));
            let unknown = unknown.expect("signed");
            assert_eq!(ask(&stage, &unknown), "503 keys-unavailable", "{fault:?}");
            let known = token(&stage, version, CONTOSO);
            assert_eq!(ask(&stage, &known), "200", "{fault:?}, after that");
        }
    }
}

#[test]
fn without_any_keys_the_answer_is_503_and_not_401_and_the_background_mends_it() {
    for fault in FAULTS {
        let (raw, scene) = open();
        for version in Version::ALL {
            scene.world.entra.set_fault(CONTOSO, version, Some(fault));
        }
        let stage = scene.start_unready();
        let entra = &stage.world.entra;
        for version in Version::ALL {
            let answer = stage
                .call("GET", "/a")
                .bearer(&token(&stage, version, CONTOSO))
                .send();
            assert_eq!(answer.verdict(), "503 keys-unavailable", "{fault:?}");
            assert_eq!(answer.header("retry-after"), Some("5"), "{fault:?}");
            assert_eq!(answer.header("www-authenticate"), None, "{fault:?}");
            assert_eq!(stage.record_of(&answer)["reason"], "keys-unavailable");
        }
        assert_eq!(raw.seen().requests.len(), 0);

        // The other tenant, and those who bring no token, notice nothing.
        stage.until("the other tenant's keys", |stage| failing(stage).len() == 2);
        for version in Version::ALL {
            assert_eq!(
                ask(&stage, &token(&stage, version, FABRIKAM)),
                "200",
                "{fault:?}"
            );
        }
        assert_eq!(
            stage.call("GET", "/a").send().verdict(),
            "401 token-missing"
        );
        let expected = [format!("keys/{CONTOSO}/v1"), format!("keys/{CONTOSO}/v2")];
        assert_eq!(failing(&stage), expected, "{fault:?}");

        for version in Version::ALL {
            entra.set_fault(CONTOSO, version, None);
        }
        // Nobody calls meanwhile.
        stage.until("the fetches under way", |stage| untried(stage) == 0);
        in_time(&stage, "the background", |stage| failing(stage).is_empty());
        assert_eq!(ask(&stage, &contoso(&stage)), "200", "{fault:?}, mended");
    }
}

#[test]
fn the_outage_of_one_version_leaves_the_other_version_of_the_same_tenant() {
    for (down, up) in [(Version::V1, Version::V2), (Version::V2, Version::V1)] {
        let (_raw, scene) = open();
        scene
            .world
            .entra
            .set_fault(CONTOSO, down, Some(Fault::Status(503)));
        let stage = scene.start_unready();
        stage.until("the other keys", |stage| failing(stage).len() == 1);
        assert_eq!(
            ask(&stage, &token(&stage, down, CONTOSO)),
            "503 keys-unavailable"
        );
        assert_eq!(ask(&stage, &token(&stage, up, FABRIKAM)), "200");
        let own = ask(&stage, &token(&stage, up, CONTOSO));
        assert_eq!(own, "200", "{down:?} is down");
    }
}

/// Waits until the keys of every issuer are in the state folder.
fn all_kept(stage: &Stage) {
    let folder = stage.folder.path().join("state/keys");
    stage.until("the files", |_| {
        let files = fs::read_dir(&folder).expect("a folder").flatten();
        let kept = files.filter(|file| file.path().extension().is_some_and(|kind| kind == "json"));
        kept.count() as u64 == ISSUERS
    });
}

#[test]
fn keys_in_the_state_folder_serve_a_restart_during_an_outage() {
    let (_raw, mut scene) = open();
    scene.more = "state: { folder: state, maxKeyAge: 2h }".to_owned();
    let mut stage = scene.start();
    assert_eq!(ask(&stage, &contoso(&stage)), "200");
    all_kept(&stage);
    for tenant in [CONTOSO, FABRIKAM] {
        for version in Version::ALL {
            stage
                .world
                .entra
                .set_fault(tenant, version, Some(Fault::Refuse));
        }
    }
    stage.clock.advance(Duration::from_secs(3600));
    stage.restart();
    assert_eq!(ask(&stage, &contoso(&stage)), "200", "an hour old");
    assert_eq!(ask(&stage, &token(&stage, Version::V1, FABRIKAM)), "200");

    // Older than the configuration allows: a key may have been withdrawn meanwhile.
    stage.clock.advance(Duration::from_secs(3601));
    stage.restart();
    assert_eq!(ask(&stage, &contoso(&stage)), "503 keys-unavailable");

    // A file that was damaged is as good as none, and the next good fetch mends it.
    for tenant in [CONTOSO, FABRIKAM] {
        for version in Version::ALL {
            stage.world.entra.set_fault(tenant, version, None);
        }
    }
    in_time(&stage, "the background", |stage| failing(stage).is_empty());
    let file = format!("state/keys/{CONTOSO}.v2.json");
    let down = Some(Fault::Refuse);
    stage.world.entra.set_fault(CONTOSO, Version::V2, down);
    let mut length = 0;
    stage.restart_after(|folder| {
        let good = fs::read(folder.join(&file)).expect("kept anew");
        length = good.len();
        fs::write(folder.join(&file), &good[..length / 2]).expect("damaged");
    });
    assert_eq!(ask(&stage, &contoso(&stage)), "503 keys-unavailable");
    stage.world.entra.set_fault(CONTOSO, Version::V2, None);
    in_time(&stage, "the background", |stage| failing(stage).is_empty());
    stage.until("the file", |stage| {
        let kept = fs::read(stage.folder.path().join(&file));
        kept.is_ok_and(|kept| kept.len() == length)
    });
    assert_eq!(ask(&stage, &contoso(&stage)), "200");
}

#[test]
fn keys_of_another_clock_are_not_believed() {
    let (_raw, mut scene) = open();
    scene.more = "state: { folder: state }".to_owned();
    let mut stage = scene.start();
    all_kept(&stage);
    let ahead = stage.world.entra.now() + 60;
    let down = Some(Fault::Refuse);
    stage.world.entra.set_fault(CONTOSO, Version::V2, down);
    stage.restart_after(|folder| {
        let file = folder.join(format!("state/keys/{CONTOSO}.v2.json"));
        let kept = fs::read_to_string(&file).expect("kept");
        let mut kept: serde_json::Value = serde_json::from_str(&kept).expect("JSON");
        // Written by a clock that was ahead: how old the keys are is not known.
        kept["fetchedAt"] = serde_json::json!(ahead);
        fs::write(&file, kept.to_string()).expect("written");
    });
    assert_eq!(ask(&stage, &contoso(&stage)), "503 keys-unavailable");
}

#[test]
fn the_key_of_personal_accounts_signs_for_nobody_else() {
    let (raw, scene) = open();
    let stage = scene.start();
    let entra = &stage.world.entra;
    let app = |version, tenant: &str| {
        Token::app(version, tenant, MARKETING_PORTAL, AUDIENCE, entra.now())
    };
    let personal = PERSONAL_ACCOUNTS.to_string();
    let rows = [
        (
            "posing as a v2 tenant",
            app(Version::V2, CONTOSO),
            "401 key-not-for-issuer",
        ),
        // The v1 document does not list it.
        (
            "posing as a v1 tenant",
            app(Version::V1, CONTOSO),
            "401 key-unknown",
        ),
        (
            "as itself",
            app(Version::V2, &personal),
            "401 personal-account",
        ),
        (
            "as itself, with a tenant's issuer",
            app(Version::V2, &personal).claim("iss", issuer(Version::V2, CONTOSO)),
            "401 personal-account",
        ),
        (
            "as a tenant, with its own issuer",
            app(Version::V2, CONTOSO).claim("iss", issuer(Version::V2, &personal)),
            "401 issuer-mismatch",
        ),
    ];
    for (row, token, verdict) in rows {
        let token = entra.sign_personal(&token).expect("signed");
        assert_eq!(ask(&stage, &token), verdict, "{row}");
    }
    assert_eq!(raw.seen().requests.len(), 0);
}
