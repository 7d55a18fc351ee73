//! What each stage of a request's path costs by itself: `cargo bench --bench micro`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark that fails says where"
)]
#![allow(missing_docs, reason = "a benchmark has no outside")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use portcullis::canonical::{self, KeptParameters, KeyParameters};
use portcullis::clock::{Clock, Now, SystemClock};
use portcullis::demo::mint::{Key, Token, issuer};
use portcullis::demo::names::{AUDIENCE, CONTOSO, MARKETING_PORTAL};
use portcullis::entra::{
    Algorithm, ClaimRules, Entra, Fetched, Fetching, KeySource, Principal, Rhythm, TokenRules,
    Version,
};
use portcullis::files::{Diagnostics, PolicyDocument, parse_policies};
use portcullis::ids::TenantId;
use portcullis::limits::LimitStore;
use portcullis::policy::{self, Circumstances, Policy};
use portcullis::seal::{Issued, Place, Ring, Sealer, Text, may_hold_urls};
use tokio::runtime::Runtime;

/// Lists one key for everybody.
struct OneKey(Key);

impl KeySource for OneKey {
    fn fetch(&self, tenant: TenantId, version: Version) -> Fetching<'_> {
        let keys = serde_json::json!({ "keys": [self.0.jwk(None)] });
        let fetched = Fetched {
            issuer: issuer(version, &tenant.to_string()),
            keys: Bytes::from(keys.to_string()),
        };
        Box::pin(async { Ok(fetched) })
    }
}

struct Authority {
    runtime: Runtime,
    entra: Arc<Entra>,
    rules: TokenRules,
    key: Arc<OneKey>,
    now: Now,
}

impl Authority {
    fn new(cached_tokens: u64) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let key = Arc::new(OneKey(Key::new().expect("a key")));
        let source: Arc<dyn KeySource> = key.clone();
        let entra = Entra::new(
            Arc::new(SystemClock),
            source,
            None,
            runtime.handle().clone(),
            cached_tokens,
        );
        let tenant: TenantId = CONTOSO.parse().expect("a GUID");
        let rhythm = Rhythm {
            refresh_every: Duration::from_secs(3600),
            unknown_key_interval: Duration::from_secs(300),
            key_wait: Duration::from_secs(3),
        };
        let rules = TokenRules {
            tenants: [(tenant, entra.tenant(tenant, rhythm))].into(),
            claims: ClaimRules {
                audiences: vec![AUDIENCE.into()],
                versions: Version::ALL.to_vec(),
                clock_skew: Duration::from_secs(60),
            },
            algorithms: vec![Algorithm::Rs256],
            longest_token: 16 * 1024,
        };
        Self {
            runtime,
            entra,
            rules,
            key,
            now: SystemClock.now(),
        }
    }

    fn token(&self, number: usize) -> String {
        let token = Token::app(
            Version::V2,
            CONTOSO,
            MARKETING_PORTAL,
            AUDIENCE,
            self.now.unix_seconds(),
        );
        let token = token
            .roles(&["Guests.Invite"])
            .claim("uti", format!("{number}"));
        token.signed_by(&self.key.0).expect("signed")
    }

    fn authenticate(&self, token: &str) -> Arc<Principal> {
        let asked = self.entra.authenticate(token, &self.rules, &self.now);
        self.runtime.block_on(asked).expect("a principal")
    }
}

fn tokens(c: &mut Criterion) {
    let authority = Authority::new(10_000);
    let token = authority.token(0);
    authority.authenticate(&token);
    c.bench_function("token, verified before", |b| {
        b.iter(|| authority.authenticate(black_box(&token)));
    });
    // A cache without room forgets at once, so that every token is new.
    let forgetful = Authority::new(0);
    let token = forgetful.token(0);
    c.bench_function("token, verified for the first time", |b| {
        b.iter(|| forgetful.authenticate(black_box(&token)));
    });
}

fn parts(target: &str) -> http::request::Parts {
    let request = Request::post(target)
        .header("host", "api.contoso.com")
        .header("user-agent", "azsdk-net-Core/1.44")
        .header("accept", "application/json")
        .header("accept-encoding", "gzip, deflate, br")
        .header("content-type", "application/json")
        .header("content-length", "29")
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .header("authorization", format!("Bearer {}", "x".repeat(1200)));
    request.body(()).expect("a request").into_parts().0
}

fn canonicalisation(c: &mut Criterion) {
    let client: SocketAddr = ([203, 0, 113, 7], 4711).into();
    for (name, target) in [
        ("canonical form, plain", "/invitations/42?top=10&skip=20"),
        (
            "canonical form, SAS stripped",
            "/invitations/42?api-version=2016-10-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=abcdefghijklmnop",
        ),
    ] {
        let parts = parts(target);
        c.bench_function(name, |b| {
            b.iter_batched(
                || parts.clone(),
                |parts| {
                    let request = canonical::Request::new(parts, client).expect("canonical");
                    black_box(
                        request
                            .forwarded_query(KeptParameters::NONE)
                            .map(|query| query.len()),
                    );
                    request
                },
                criterion::BatchSize::SmallInput,
            );
        });
    }
}

fn document(routes: usize) -> PolicyDocument {
    let mut text = format!(
        "tenants: {{ contoso: {CONTOSO} }}\napps: {{ portal: {MARKETING_PORTAL} }}\naudiences: ['{AUDIENCE}']\nbackends: {{ b: {{ http: 'http://127.0.0.1:9', credential: none }} }}\nroutes:\n"
    );
    for route in 0..routes {
        text += &format!(
            "  r{route}: {{ match: {{ methods: [GET, POST], path: '/r{route}/{{id}}/{{*rest}}' }}, backend: b, allow: [{{ tenants: [contoso], apps: [portal], roles: [Guests.Invite] }}], rateLimit: {{ requests: 4000000000, per: 1s, burst: 4000000000, by: [tenant, app] }} }}\n"
        );
    }
    parse_policies(&[(Path::new("bench.yaml"), &text)], &mut Diagnostics::new())
}

fn compiled(document: &PolicyDocument) -> Policy {
    let mut diagnostics = Diagnostics::new();
    let policy = policy::compile(document, &mut diagnostics);
    policy.unwrap_or_else(|| panic!("{}", diagnostics.render()))
}

fn circumstances(headers: &HeaderMap) -> Circumstances<'_> {
    Circumstances {
        now: SystemClock.now().unix,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        method: &Method::POST,
        host: "api.contoso.com",
        path: "/",
        headers,
        keys: KeyParameters::NONE,
        version: http::Version::HTTP_11,
        parameters: &[],
        known: None,
    }
}

fn decisions(c: &mut Criterion) {
    let authority = Authority::new(10);
    let principal = authority.authenticate(&authority.token(0));
    let headers = HeaderMap::new();
    for routes in [10, 10_000] {
        let policy = compiled(&document(routes));
        let path = format!("/r{}/42/a/b", routes / 2);
        c.bench_function(&format!("route match and decision, {routes} routes"), |b| {
            b.iter(|| {
                let matched = policy
                    .find("api.contoso.com", &Method::POST, black_box(&path))
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
    let limits = LimitStore::new(Arc::new(SystemClock)).compile(&document);
    let matched = policy
        .find("h", &Method::POST, "/r5/42/a")
        .expect("matched");
    let headers = HeaderMap::new();
    let decision = matched.decide(Ok(principal), &circumstances(&headers));
    let authorized = decision.enforce().expect("allowed");
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    c.bench_function("rate limit", |b| {
        b.iter(|| {
            limits
                .admit(black_box(&authorized), client)
                .expect("within the limit")
        });
    });
}

fn sealer() -> Sealer {
    Sealer {
        ring: Some(Arc::new(Ring::random().expect("random bytes"))),
        gate: "https://api.contoso.com".into(),
        backend: Arc::new(Place {
            host: "contoso.azurewebsites.net".to_owned(),
            port: 443,
        }),
        issued: Issued::default(),
        expires: Duration::from_secs(u64::MAX),
        kept: KeptParameters::NONE,
        is_function: true,
        ways_on: Vec::new(),
    }
}

/// An answer's fields and bodies, as they come; the bodies beside a plain copy of the same.
fn sealing(c: &mut Criterion) {
    let fields = |fields: &[(&'static str, &'static str)]| -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        fields.collect()
    };
    let usual = [
        ("content-type", "application/json; charset=utf-8"),
        ("content-length", "8192"),
        ("date", "Thu, 26 Nov 2026 12:00:00 GMT"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("etag", "\"0x8DC1234\""),
    ];
    let linked = [
        ("retry-after", "10"),
        (
            "location",
            "https://contoso.azurewebsites.net/runtime/webhooks/durabletask/instances/1?code=c2VjcmV0c2VjcmV0c2VjcmV0",
        ),
    ];
    let usual = fields(&usual);
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
