//! What each stage of a request's path costs by itself: `cargo bench --bench micro`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark that fails says where"
)]
#![allow(missing_docs, reason = "a benchmark has no outside")]

mod stages;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use http::{HeaderMap, Method, StatusCode};
use portcullis::canonical::KeptParameters;
use portcullis::clock::{Clock as _, SystemClock};
use portcullis::files::GatewayLimits;
use portcullis::limits::{Asker, LimitStore};
use portcullis::seal::{Issued, Place, Ring, Sealer, Text, may_hold_urls};

use stages::{
    Authority, CLIENT, HOST, PLAIN, SIGNED, USUAL, canonical, circumstances, compiled, document,
    fields, parts, path,
};

fn tokens(c: &mut Criterion) {
    let authority = Authority::new(10_000);
    let token = authority.token(0);
    authority.authenticate(&token);
    c.bench_function("token, verified before", |b| {
        b.iter(|| authority.recognise(black_box(&token)));
    });
    // A cache without room forgets at once, so that every token is new.
    let forgetful = Authority::new(0);
    let token = forgetful.token(0);
    c.bench_function("token, verified for the first time", |b| {
        b.iter(|| forgetful.authenticate(black_box(&token)));
    });
}

fn canonicalisation(c: &mut Criterion) {
    for (name, target) in [
        ("canonical form, plain", PLAIN),
        ("canonical form, SAS stripped", SIGNED),
    ] {
        let parts = parts(target);
        c.bench_function(name, |b| {
            b.iter_batched(|| parts.clone(), canonical, BatchSize::SmallInput);
        });
    }
}

fn decisions(c: &mut Criterion) {
    let authority = Authority::new(10);
    let principal = authority.authenticate(&authority.token(0));
    let headers = HeaderMap::new();
    for routes in [10, 10_000] {
        let policy = compiled(&document(routes));
        let path = path(routes);
        c.bench_function(&format!("route match and decision, {routes} routes"), |b| {
            b.iter(|| {
                let matched = policy
                    .find(HOST, &Method::POST, black_box(&path))
                    .expect("matched");
                matched
                    .decide(Ok(Arc::clone(&principal)), &circumstances(&headers))
                    .enforce()
                    .expect("allowed")
            });
        });
    }
}

fn limits(c: &mut Criterion) {
    let authority = Authority::new(10);
    let principal = authority.authenticate(&authority.token(0));
    let document = document(10);
    let policy = compiled(&document);
    let limits =
        LimitStore::new(Arc::new(SystemClock), None).compile(&document, &GatewayLimits::default());
    let matched = policy
        .find(HOST, &Method::POST, &path(10))
        .expect("matched");
    let headers = HeaderMap::new();
    let decision = matched.decide(Ok(principal), &circumstances(&headers));
    let authorized = decision.enforce().expect("allowed");
    let now = SystemClock.now();
    c.bench_function("rate limit", |b| {
        b.iter(|| {
            let entry = limits.enter(CLIENT.ip(), &now).expect("no limit");
            let asker = Asker {
                authorized: black_box(&authorized),
                client: CLIENT.ip(),
                method: &Method::POST,
                headers: &headers,
            };
            let admitted = limits.admit(entry, &asker, &now).now_or_never();
            admitted.expect("at once").expect("within the limit")
        });
    });
}

fn sealer() -> Sealer {
    Sealer {
        ring: Some(Arc::new(Ring::random().expect("random bytes"))),
        gate: "https://api.contoso.com".into(),
        backend: Arc::new([Place {
            host: "contoso.azurewebsites.net".to_owned(),
            port: 443,
        }]),
        issued: Issued::default(),
        expires: Duration::from_secs(u64::MAX),
        kept: KeptParameters::NONE,
        is_function: true,
        ways_on: Vec::new(),
    }
}

/// An answer's fields and bodies, as they come; the bodies beside a plain copy of the same.
fn sealing(c: &mut Criterion) {
    let linked = [
        ("retry-after", "10"),
        (
            "location",
            "https://contoso.azurewebsites.net/runtime/webhooks/durabletask/instances/1?code=c2VjcmV0c2VjcmV0c2VjcmV0",
        ),
    ];
    let usual = fields(&USUAL);
    c.bench_function("answer's fields, nothing to seal", |b| {
        b.iter(|| may_hold_urls(black_box(&usual)));
    });
    let (linked, sealer) = (fields(&linked), sealer());
    c.bench_function("answer's fields, a location to seal", |b| {
        b.iter_batched(
            || linked.clone(),
            |mut fields| {
                sealer.headers(
                    &Method::POST,
                    StatusCode::ACCEPTED,
                    &mut fields,
                    &|_, _, _| None,
                )
            },
            BatchSize::SmallInput,
        );
    });
    let object = r#"{"id":"4711","name":"Ada Lovelace","mail":"ada@contoso.com","url":"https://contoso.com/a?b=c&d=e"},"#;
    let body = object.repeat(64 * 1024 / object.len());
    let mut out = Vec::with_capacity(2 * body.len());
    let mut group = c.benchmark_group("body of 64 KiB");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("copied", |b| {
        b.iter(|| {
            out.clear();
            out.extend_from_slice(black_box(body.as_bytes()));
        });
    });
    for (name, text) in [
        ("JSON, searched", Text::Json),
        ("text, searched", Text::Plain),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                let mut body_sealer = sealer.clone().body(text);
                for chunk in black_box(body.as_bytes()).chunks(16 * 1024) {
                    body_sealer.push(chunk, &mut out);
                }
                body_sealer.finish(&mut out);
            });
        });
    }
    group.finish();
}

criterion_group!(stages, tokens, canonicalisation, decisions, limits, sealing);
criterion_main!(stages);
