//! Files that change under a running gateway: taken once and whole, and no request is lost.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;

use crate::support::{Piped, RawBackend, Scene, Stage, Step, patiently};

#[test]
fn a_folder_that_changes_in_several_writes_is_taken_once_and_whole() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let scene = scene
        .raw("raw", &raw)
        .portal_route("one", "GET", "/one", "raw");
    let folder = tempfile::tempdir().expect("a folder");
    // As a ConfigMap is mounted: files are links into a folder that is swapped.
    let generation = |name: &str, path: &str| {
        let place = folder.path().join(name);
        fs::create_dir(&place).expect("a folder");
        let policy = scene.policy().replace("/one", path);
        let (names, routes) = policy.split_once("routes:").expect("routes");
        fs::write(place.join("names.yaml"), names).expect("written");
        fs::write(place.join("routes.yaml"), format!("routes:{routes}")).expect("written");
    };
    generation("..1", "/one");
    generation("..2", "/two");
    let link = |from: &str, to: &str| {
        std::os::unix::fs::symlink(from, folder.path().join(to)).expect("linked")
    };
    link("..1", "..data");
    link("..data/names.yaml", "names.yaml");
    link("..data/routes.yaml", "routes.yaml");
    let config = scene.write(folder.path());
    fs::remove_file(folder.path().join("policy.yaml")).expect("removed");
    let text = fs::read_to_string(&config).expect("there");
    fs::create_dir(folder.path().join("config")).expect("a folder");
    let absolute = |name: &str| folder.path().join(name).display().to_string();
    let text = text
        .replace(
            "policies: policy.yaml",
            &format!("policies: {}", folder.path().display()),
        )
        .replace("gateway.crt", &absolute("gateway.crt"))
        .replace("gateway.key", &absolute("gateway.key"))
        .replace("ca: ca.crt", &format!("ca: {}", absolute("ca.crt")));
    fs::remove_file(&config).expect("removed");
    let config = folder.path().join("config/gateway.yaml");
    fs::write(&config, text).expect("written");
    let stage = scene.start_at(&config);
    assert_eq!(stage.call("GET", "/one").portal().send().verdict(), "200");

    link("..2", "..fresh");
    fs::rename(folder.path().join("..fresh"), folder.path().join("..data")).expect("swapped");
    stage.until("the swap", |stage| {
        look(stage);
        stage.gateway().reloads().borrow().taken == 1
    });
    assert_eq!(stage.call("GET", "/two").portal().send().verdict(), "200");

    // Two files that only fit together, with a look between the two writes.
    fs::write(folder.path().join("..2/names.yaml"), "# not yet\n").expect("written");
    look(&stage);
    let names = fs::read_to_string(folder.path().join("..1/names.yaml")).expect("there");
    fs::write(
        folder.path().join("..2/names.yaml"),
        format!("{names}# changed\n"),
    )
    .expect("written");
    stage.until("the second", |stage| {
        look(stage);
        stage.gateway().reloads().borrow().taken == 2
    });
    assert_eq!(stage.gateway().reloads().borrow().refused, 0);
    for _ in 0..5 {
        look(&stage);
    }
    assert_eq!(stage.gateway().reloads().borrow().taken, 2);
}

/// Lets the reloader look once.
fn look(stage: &Stage) {
    stage.clock.advance(Duration::from_secs(1));
}

/// The targets that are answered 200, of `/one`, `/two` and `/three`.
fn published(stage: &Stage) -> Vec<&'static str> {
    let mut targets = vec!["/one", "/two", "/three"];
    targets.retain(|target| stage.call("GET", target).portal().send().verdict() == "200");
    targets
}

#[test]
fn a_checkout_that_deletes_and_creates_files_is_taken_once_and_whole() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let scene = scene
        .raw("raw", &raw)
        .portal_route("one", "GET", "/one", "raw")
        .portal_route("two", "GET", "/two", "raw");
    let folder = tempfile::tempdir().expect("a folder");
    let config = scene.write(folder.path());
    let text = fs::read_to_string(&config).expect("there");
    fs::write(
        &config,
        text.replace("policies: policy.yaml", "policies: policies"),
    )
    .expect("written");
    let place = folder.path().join("policies");
    fs::create_dir(&place).expect("a folder");
    let (names, routes) = {
        let policy = scene.policy();
        let (names, routes) = policy.split_once("routes:").expect("routes");
        (names.to_owned(), format!("routes:{routes}"))
    };
    let write = |name: &str, text: &str| fs::write(place.join(name), text).expect("written");
    let remove = |name: &str| fs::remove_file(place.join(name)).expect("removed");
    write("names.yaml", &names);
    write("routes.yaml", &routes);
    let stage = scene.start_at(&config);
    assert_eq!(published(&stage), ["/one", "/two"]);

    // As git does it: each file goes and comes again as another one. Looks come between any two steps.
    let mut lines = routes.lines();
    let first = lines.next().expect("the key");
    let one = lines.next().expect("the first route");
    let three = lines.next().expect("the second").replace("two", "three");
    let steps: [&dyn Fn(); 6] = [
        &|| remove("routes.yaml"),
        &|| remove("names.yaml"),
        &|| write("a-routes.yaml", &format!("{first}\n{one}\n")),
        &|| write(".git-index.lock", "not ours"),
        &|| write("names.yaml", &names),
        &|| write("b-routes.yaml", &format!("{first}\n{three}\n")),
    ];
    for step in steps {
        step();
        look(&stage);
        assert_eq!(
            published(&stage),
            ["/one", "/two"],
            "what was, while files move"
        );
    }
    stage.until("the checkout", |stage| {
        look(stage);
        stage.gateway().reloads().borrow().taken == 1
    });
    assert_eq!(published(&stage), ["/one", "/three"]);
    for _ in 0..5 {
        look(&stage);
    }
    // A last change, which is the second that is taken.
    remove("b-routes.yaml");
    stage.until("the removal", |stage| {
        look(stage);
        published(stage) == ["/one"]
    });
    let reloads = stage.gateway().reloads().borrow().clone();
    assert_eq!((reloads.taken, reloads.refused), (2, 0));
}

/// What callers have been answered.
#[derive(Default)]
struct Tally {
    good: AtomicU64,
    enough: AtomicBool,
}

impl Tally {
    fn count(&self, status: http::StatusCode, body: &[u8]) {
        assert_eq!((status, body), (http::StatusCode::OK, &b"fine"[..]));
        self.good.fetch_add(1, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.enough.load(Ordering::Relaxed)
    }
}

fn get(uri: &str, token: &str) -> http::request::Builder {
    Request::get(uri)
        .header("host", "localhost")
        .header("authorization", format!("Bearer {token}"))
}

/// Asks again and again on one connection over HTTP/1.1, which must never be closed.
async fn over_http1(stage: &Stage, token: &str, tally: &Arc<Tally>) -> JoinHandle<()> {
    let io = TokioIo::new(stage.tls(b"http/1.1").await);
    let shaken = hyper::client::conn::http1::handshake(io).await;
    let (mut sender, connection) = shaken.expect("HTTP/1.1");
    tokio::spawn(connection);
    let (token, tally) = (token.to_owned(), Arc::clone(tally));
    tokio::spawn(async move {
        while tally.goes_on() {
            let request = get("/one", &token).body(Empty::<Bytes>::new());
            sender.ready().await.expect("an open connection");
            let answer = sender.send_request(request.expect("a request")).await;
            let (head, body) = answer.expect("an answer").into_parts();
            let body = body.collect().await.expect("a whole body").to_bytes();
            tally.count(head.status, &body);
        }
    })
}

/// The same on several streams of one connection over HTTP/2.
async fn over_http2(stage: &Stage, token: &str, tally: &Arc<Tally>) -> Vec<JoinHandle<()>> {
    let sender = stage.http2().await;
    let stream = || {
        let mut sender = sender.clone();
        let (token, tally) = (token.to_owned(), Arc::clone(tally));
        tokio::spawn(async move {
            while tally.goes_on() {
                let request = Request::get("https://localhost/one")
                    .header("authorization", format!("Bearer {token}"))
                    .body(Piped::empty());
                let answer = sender.send_request(request.expect("a request")).await;
                let (head, body) = answer.expect("an answer").into_parts();
                let body = body.collect().await.expect("a whole body").to_bytes();
                tally.count(head.status, &body);
            }
        })
    };
    (0..4).map(|_| stream()).collect()
}

#[test]
fn no_request_is_lost_while_policies_and_backends_are_reloaded_under_load() {
    const RELOADS: u64 = 20;
    let scene = Scene::new();
    let first = RawBackend::ok(&scene, "fine");
    let second = RawBackend::ok(&scene, "fine");
    let slow = [
        Step::text("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfi"),
        Step::Wait,
        Step::text("ne"),
    ];
    let slow = RawBackend::start(&scene, slow.to_vec());
    let stage = scene
        .workers(2)
        .raw("first", &first)
        .raw("second", &second)
        .raw("slow", &slow)
        .portal_route("one", "GET", "/one", "first")
        .portal_route("slow", "GET", "/slow", "slow")
        .start();
    let token = stage.portal_token();
    let tally = Arc::new(Tally::default());
    let begun: Vec<JoinHandle<()>> = stage.runtime.block_on(async {
        let mut begun = Vec::new();
        for _ in 0..4 {
            begun.push(over_http1(&stage, &token, &tally).await);
        }
        for _ in 0..2 {
            begun.extend(over_http2(&stage, &token, &tally).await);
        }
        begun
    });
    // One that outlives every reload, and the route and backend that it goes by.
    let mut long = stage.wire();
    long.send(format!(
        "GET /slow HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    ));
    long.until("\r\n\r\nfi");

    for round in 0..RELOADS {
        let before = tally.good.load(Ordering::Relaxed);
        stage.change_policy(|policy| match round % 2 {
            0 => policy.replace(
                "path: '/one' }, backend: first",
                "path: '/one' }, backend: second",
            ),
            _ => policy.replace(
                "path: '/one' }, backend: second",
                "path: '/one' }, backend: first",
            ),
        });
        if round == 0 {
            let gone = |policy: String| {
                let kept = policy.lines().filter(|line| !line.contains("slow"));
                kept.map(|line| format!("{line}\n")).collect()
            };
            stage.change_policy(gone);
        }
        stage.until("answers since the reload", |_| {
            begun.iter().any(JoinHandle::is_finished)
                || tally.good.load(Ordering::Relaxed) > before + 40
        });
    }
    tally.enough.store(true, Ordering::Relaxed);
    stage.runtime.block_on(async {
        for caller in begun {
            patiently(caller).await.expect("a caller who lost nothing");
        }
    });
    slow.release();
    assert!(long.rest().ends_with("ne"));
    assert_eq!(stage.gateway().reloads().borrow().taken, RELOADS + 1);
    assert!(!first.seen().requests.is_empty() && !second.seen().requests.is_empty());
    // As many as the callers know of, and each of them allowed.
    let good = tally.good.load(Ordering::Relaxed) + 1;
    let counted = |route: &str| {
        let metrics = stage.admin("/metrics");
        let name = format!(
            "portcullis_decisions_total{{route=\"{route}\",decision=\"allow\",reason=\"rule\"}} "
        );
        metrics
            .lines()
            .find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok())
    };
    stage.until("the counts", |_| {
        counted("one").unwrap_or_default() + counted("slow").unwrap_or_default() == good
    });
    assert!(!stage.admin("/metrics").contains("decision=\"deny\""));
}
