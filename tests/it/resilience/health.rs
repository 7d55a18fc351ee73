//! Endpoints that are asked whether they are well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{BUSY, gets, moody};
use crate::support::{RawBackend, Scene, Stage, Step};

/// A backend whose app says how it is, and serves all the same.
fn candid(scene: &Scene) -> (Arc<AtomicBool>, RawBackend) {
    let is_well = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&is_well);
    let raw = moody(scene, move |request| {
        let is_unwell = request.starts_with("GET /healthz ") && !told.load(Ordering::SeqCst);
        is_unwell.then(|| vec![Step::text(BUSY)])
    });
    (is_well, raw)
}

fn questions(raw: &RawBackend) -> Vec<String> {
    let requests = raw.seen().requests.into_iter();
    requests
        .filter(|request| request.starts_with("GET /healthz "))
        .collect()
}

fn served(raw: &RawBackend) -> usize {
    raw.seen().requests.len() - questions(raw).len()
}

/// Lets so many questions be asked of each.
fn ask(stage: &Stage, raws: &[&RawBackend], times: usize) {
    for _ in 0..times {
        let before: Vec<usize> = raws.iter().map(|raw| questions(raw).len()).collect();
        stage.clock.advance(Duration::from_secs(10));
        stage.until("the questions", |stage| {
            // The one before may not have been answered yet.
            stage.clock.advance(Duration::from_millis(250));
            let mut both = raws.iter().zip(&before);
            both.all(|(raw, before)| questions(raw).len() > *before)
        });
    }
}

#[test]
fn an_endpoint_that_is_not_well_gets_no_requests_until_it_is() {
    let scene = Scene::new();
    let (_, good) = candid(&scene);
    let (is_well, ill) = candid(&scene);
    is_well.store(false, Ordering::SeqCst);
    let more = "health: { path: /healthz, every: 10s, unhealthy: 2, healthy: 2 }";
    let stage = super::before(scene, &[good.url(), ill.url()], more);
    stage.until("the first questions", |_| {
        !questions(&good).is_empty() && !questions(&ill).is_empty()
    });
    ask(&stage, &[&good, &ill], 2);
    let available = |endpoint: &RawBackend, value: &str| {
        let address = endpoint.url().replace("http://", "");
        let name = format!("portcullis_backend_available{{backend=\"b\",endpoint=\"{address}\"}}");
        super::metric(&stage, &name).as_deref() == Some(value)
    };
    stage.until("what is known", |_| available(&ill, "0"));
    assert!(available(&good, "1"));
    let before = served(&ill);
    assert_eq!(gets(&stage, 20, 200), 20);
    assert_eq!(served(&ill), before);
    assert!(stage.admin("/readyz?verbose").contains("[+] backend/b ok"));
    is_well.store(true, Ordering::SeqCst);
    ask(&stage, &[&good, &ill], 2);
    stage.until("that it is well", |_| available(&ill, "1"));
    assert_eq!(gets(&stage, 40, 200), 40);
    assert!(served(&ill) > before + 3);
    let question = &questions(&ill)[0].to_lowercase();
    assert!(
        question.contains("user-agent: portcullis-health"),
        "{question}"
    );
    assert!(!question.contains("authorization"), "{question}");
}

#[test]
fn the_only_endpoint_is_called_whatever_it_says_and_readiness_tells() {
    let scene = Scene::new();
    let (is_well, raw) = candid(&scene);
    let stage = super::before(
        scene,
        &[raw.url()],
        "health: { path: /healthz, unhealthy: 1 }",
    );
    is_well.store(false, Ordering::SeqCst);
    ask(&stage, &[&raw], 2);
    stage.until("what is known", |stage| {
        let told = stage.admin("/readyz?verbose");
        told.contains("[!] backend/b degraded: it answers 503\n")
            && told.starts_with("HTTP/1.1 200 ")
    });
    assert_eq!(gets(&stage, 3, 200), 3);
}

#[test]
fn what_is_asked_carries_the_credential_where_the_policy_says_so_alone() {
    for (credential, expected) in [("true", true), ("false", false)] {
        let scene = Scene::new();
        let (_, raw) = candid(&scene);
        let url = raw.url();
        let resource = portcullis::demo::names::FUNCTION_RESOURCE;
        let stage = scene
            .backend(
                "b",
                &format!("function: '{url}', credential: {{ managedIdentity: {{ resource: '{resource}' }} }}, health: {{ path: /healthz, credential: {credential} }}"),
            )
            .portal_route("a", "GET", "/a", "b")
            .start();
        // While there is no token nothing is asked; it is looked again every now and then.
        stage.until("a question", |stage| {
            stage.clock.advance(Duration::from_millis(250));
            !questions(&raw).is_empty()
        });
        let question = questions(&raw)[0].to_lowercase();
        assert_eq!(
            question.contains("\r\nauthorization: bearer "),
            expected,
            "{question}"
        );
    }
}

#[test]
fn an_endpoint_that_closes_behind_its_answer_is_as_well_as_any_other() {
    let scene = Scene::new();
    let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let raw = RawBackend::start(&scene, vec![Step::text(answer), Step::Close]);
    let more = "health: { path: /healthz, every: 10s, unhealthy: 1 }";
    let stage = super::before(scene, &[raw.url()], more);
    // Which of the two comes first is a matter of chance.
    for _ in 0..20 {
        ask(&stage, &[&raw], 1);
        let told = stage.admin("/readyz?verbose");
        assert!(told.contains("[+] backend/b ok"), "{told}");
    }
}
