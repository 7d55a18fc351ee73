use std::hash::BuildHasher as _;

use serde_json::{Map, Value, json};

use super::super::alike::{Alike, Forms};
use super::super::azure_monitor::Form;
use super::super::json::Times;
use super::super::level::Requests;
use super::super::sink::{RequestLog, Telling};
use super::super::words::Words;
use super::*;
use crate::body::CallerBody;
use crate::clock::{Clock as _, SystemClock};
use crate::denial::Denial;
use crate::entra::{ClaimRules, Version as TokenVersion, simulate};
use crate::fingerprint::FingerprintKey;
use crate::ids::random_u128;
use crate::policy::Effect;
use crate::trace::{Parent, Sampling};

const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const APP: &str = "6731de76-14a6-49ae-97bc-6eba6914391e";
const OTHER_APP: &str = "00000003-0000-0000-c000-000000000000";

/// All that can be told is told.
fn telling() -> Telling {
    Telling {
        request_log: RequestLog::Json,
        decision_log: true,
        spans: true,
        logs: Requests::All,
        azure_monitor: Some(Form {
            role: "gateway".to_owned(),
            instance: "one".to_owned(),
            decisions: Requests::All,
        }),
        sampling: Sampling {
            parent: Parent::Follow,
            ratio: 1.0,
        },
        ..Telling::NOTHING
    }
}

fn principal(app: &str) -> Arc<Principal> {
    let claims = json!({
        "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
        "aud": "api://orders", "tid": TENANT, "azp": app, "azpacr": "1", "ver": "2.0", "idtyp": "app",
        "oid": "fe4e75b2-3fb6-4bbb-a7c2-6c2a4e5f6a7b", "sub": "fe4e75b2-3fb6-4bbb-a7c2-6c2a4e5f6a7b",
        "roles": ["Orders.Read"], "iat": 1_000, "nbf": 1_000, "exp": 2_000,
    });
    let claims: Map<String, Value> = serde_json::from_value(claims).expect("claims");
    let rules = ClaimRules {
        audiences: vec!["api://orders".into()],
        versions: vec![TokenVersion::V2],
        clock_skew: Duration::ZERO,
    };
    simulate(&claims, |_| true, &rules, 1_500).expect("a principal")
}

fn recorded() -> Arc<Recorded> {
    Arc::new(Recorded {
        fields: vec!["x-tier".into()],
        claims: Vec::new(),
        policy: "p".repeat(64),
        trust: "t".repeat(64),
    })
}

fn trace(parents: &[&str]) -> Trace {
    let mut headers = HeaderMap::new();
    for parent in parents {
        headers.append("traceparent", parent.parse().expect("a value"));
    }
    Trace::take(&mut headers, telling().sampling)
}

/// Of a request that was let in and answered.
fn usual() -> Record {
    let client = "192.0.2.1:1".parse().expect("an address");
    let now = SystemClock.now();
    let mut record = Record::open(now, &client, &Request::new(CallerBody::nothing()));
    record.trace = Some(trace(&[]));
    record.path = "/orders/1".into();
    record.host = "orders.example".into();
    record.route = Some("orders".into());
    record.template = Some("/orders/{id}".into());
    record.backend = Some("function".into());
    record.site = Some(Arc::new(site("function.example")));
    record.principal = Some(principal(APP));
    record.app_name = Some("shop".into());
    record.tenant_name = Some("contoso".into());
    record.rule = Some(rule(0));
    record.recorded = Some(recorded());
    record.decided = Outcome::Allowed;
    record.outcome = Outcome::Allowed;
    record.granted = Some(Outcome::Allowed);
    record.sent_on = Some(now.instant);
    record.upstream = Some(Duration::from_micros(1_234));
    record.duration = Duration::from_micros(2_345);
    record.status = StatusCode::OK;
    record.sent = 256;
    record.complete = true;
    record
}

fn site(host: &str) -> Site {
    Site {
        host: host.into(),
        port: 443,
        secure: true,
    }
}

fn rule(index: usize) -> RuleId {
    RuleId {
        effect: Effect::Allow,
        index,
    }
}

fn sighting(agent: &str) -> Option<Box<Sighting>> {
    Some(Box::new(Sighting {
        keys: KeyParameters::SIG,
        fingerprint: Fingerprint::read("0123456789abcdef"),
        agent: Some(agent.into()),
    }))
}

fn note(got: &str) -> Option<Note> {
    let denial = Denial::from(Reason::AppNotAllowed).expected("the shop", got);
    denial.note().cloned()
}

type Change = fn(&mut Record);

/// What each request has its own of.
const OWN: [Change; 10] = [
    |record| record.id = RequestId::fresh(),
    |record| record.arrived.unix += Duration::from_millis(1_234),
    |record| record.duration = Duration::from_secs(90_000),
    |record| record.upstream = Some(Duration::from_nanos(1)),
    |record| record.trace = Some(trace(&[])),
    |record| record.client = "2001:db8::1".parse().expect("an address"),
    |record| record.path = "/orders/\"2\" and 3".into(),
    |record| record.path = "/x".repeat(2_000).into(),
    |record| record.sent = 70_000,
    |record| record.sent_on = Some(record.arrived.instant + Duration::from_millis(1)),
];

/// What is told otherwise of requests of which something else is true.
const OTHERWISE: [Change; 47] = [
    |record| record.method = Method::DELETE,
    |record| record.method = Method::from_bytes(b"BREW").expect("a method"),
    |record| record.version = Version::HTTP_2,
    |record| record.host = "other.example".into(),
    |record| record.port = Some(8443),
    |record| record.route = Some("other".into()),
    |record| record.template = None,
    |record| record.backend = Some("other".into()),
    |record| record.site = Some(Arc::new(site("other.example"))),
    |record| record.principal = Some(principal(OTHER_APP)),
    |record| record.principal = None,
    |record| record.app_name = None,
    |record| record.tenant_name = Some("fabrikam".into()),
    |record| record.rule = Some(rule(12)),
    |record| record.rehearsed = Some(Rehearsed::Allow(rule(1))),
    |record| record.rehearsed = Some(Rehearsed::Denial(Reason::AppNotAllowed, None)),
    |record| {
        record.candidate = Some(Disagreement {
            denial: Some(Reason::AppNotAllowed),
            route: None,
            rule: None,
            app: None,
            app_name: None,
        });
    },
    |record| record.fields = vec![Some(vec!["gold".into()])],
    |record| record.recorded = None,
    |record| {
        record.recorded = Some(Arc::new(Recorded {
            policy: "q".repeat(64),
            ..Arc::into_inner(recorded()).expect("one")
        }));
    },
    |record| record.authentication = Some(Reason::TokenMissing),
    |record| record.decided = Outcome::ReportOnly,
    |record| record.outcome = Outcome::Public,
    |record| record.outcome = Outcome::Denied(Reason::BackendTimeout),
    |record| record.limit = Some("per-app".into()),
    |record| record.denied(&Denial::from(Reason::AppNotAllowed), None),
    |record| record.sent_on = None,
    |record| record.upstream = None,
    |record| record.attempts = 2,
    |record| record.key_parameters = KeyParameters::SIG,
    |record| record.key_headers = KeyHeaders::X_FUNCTIONS_KEY,
    |record| record.upgrade = Protocol::read("websocket"),
    |record| record.sighting = sighting("curl/8"),
    |record| record.sighting = sighting("wget/1"),
    |record| record.caught.sealed = 1,
    |record| record.caught.withheld = 1,
    |record| {
        record.limit = Some("per-app".into());
        record.limited = true;
    },
    |record| record.note = note("one"),
    |record| record.note = note("another"),
    |record| {
        record.sighting = sighting("curl/8").map(|seen| {
            Box::new(Sighting {
                fingerprint: None,
                ..*seen
            })
        })
    },
    |record| {
        record.hash(|_| None);
        record.hashed = record.hashed.map(|hashed| Hashed {
            object: Fingerprint::read("0123456789abcdef"),
            ..hashed
        });
    },
    |record| record.status = StatusCode::BAD_GATEWAY,
    |record| record.complete = false,
    |record| record.trace = None,
    |record| {
        record.trace = Some(trace(&[
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ]))
    },
    |record| {
        record.trace = Some(trace(&[
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        ]))
    },
    |record| {
        record.followed = Some(Box::new(Followed {
            method: Method::GET,
            host: "orders.example".into(),
            path: "/orders/0".into(),
        }));
    },
];

/// What is told of a record by these forms.
fn told(forms: &Forms, record: &Record) -> Vec<Vec<u8>> {
    let words = &Words::of(record, &mut Times::default());
    let mut all = Vec::new();
    let mut add = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        all.push(out);
    };
    let Forms {
        request,
        decision,
        spans,
        log,
        envelopes,
    } = forms;
    for stencil in [request, decision].into_iter().flatten().chain(envelopes) {
        add(&|out| stencil.stamp(words, out));
    }
    let items = spans
        .iter()
        .flat_map(|(served, sent)| std::iter::once(served).chain(sent));
    for item in items.chain(log) {
        add(&|out| item.stamp(words, out));
    }
    all
}

fn told_anew(record: &Record) -> Vec<Vec<u8>> {
    told(&Alike::default().forms(record, &telling()), record)
}

#[test]
fn what_each_request_has_its_own_of_is_told_by_the_forms_of_one_before() {
    let usual = usual();
    let mut alike = Alike::default();
    let forms = alike.forms(&usual, &telling());
    assert_eq!(told(&forms, &usual).len(), 8);
    let mut record = usual.clone();
    for (at, change) in OWN.iter().enumerate() {
        let before = told_anew(&record);
        change(&mut record);
        assert!(usual.is_like(&record), "{at}");
        assert_ne!(told_anew(&record), before, "{at}");
        assert_eq!(told(&forms, &record), told_anew(&record), "{at}");
        assert!(
            Arc::ptr_eq(&alike.forms(&record, &telling()), &forms),
            "{at}"
        );
    }
}

#[test]
fn requests_of_which_something_else_is_told_are_not_alike() {
    let usual = usual();
    let others: Vec<Record> = OTHERWISE
        .iter()
        .map(|change| {
            let mut record = usual.clone();
            change(&mut record);
            record
        })
        .collect();
    let mut alike = Alike::default();
    for (at, one) in others.iter().enumerate() {
        assert!(!usual.is_like(one) && !one.is_like(&usual), "{at}");
        for (other, record) in others.iter().enumerate() {
            assert_eq!(one.is_like(record), at == other, "{at} and {other}");
        }
    }
    // Whichever came before: what is told is what would be told of it alone.
    for record in others.iter().chain([&usual]).chain(&others) {
        let forms = alike.forms(record, &telling());
        assert_eq!(told(&forms, record), told_anew(record));
    }
}

#[test]
fn a_callers_own_span_is_told_of_its_request_alone() {
    let parent = |span: &str| {
        let parent = format!("00-0af7651916cd43dd8448eb211c80319c-{span}-01");
        Some(trace(&[&parent]))
    };
    let mut one = usual();
    one.trace = parent("b7ad6b7169203331");
    let mut other = one.clone();
    other.trace = parent("00f067aa0ba902b7");
    let forms = Alike::default().forms(&one, &telling());
    assert!(one.is_like(&other));
    assert_ne!(told_anew(&one), told_anew(&other));
    assert_eq!(told(&forms, &other), told_anew(&other));
}

/// What nobody has to prove, callers could change with every request.
#[test]
fn what_callers_choose_is_no_reason_to_compare_each_with_all() {
    const CHOSEN: [fn(&mut Record, usize); 7] = [
        |record, at| record.host = format!("h{at}.example").into(),
        |record, at| record.port = Some(at as u16),
        |record, at| {
            record.method = Method::from_bytes(format!("M{at}").as_bytes()).expect("a method");
        },
        |record, at| record.sighting = sighting(&format!("agent/{at}")),
        |record, at| record.note = note(&at.to_string()),
        |record, at| record.fields = vec![Some(vec![at.to_string().into()])],
        |record, at| record.upgrade = Protocol::read(&format!("p{at}")),
    ];
    let hasher = foldhash::fast::RandomState::default();
    for (which, choose) in CHOSEN.iter().enumerate() {
        let marks: std::collections::BTreeSet<u64> = (0..1000)
            .map(|at| {
                let mut record = usual();
                (record.principal, record.route) = (None, None);
                choose(&mut record, at);
                hasher.hash_one(record.mark())
            })
            .collect();
        assert_eq!(marks.len(), 1000, "{which}");
    }
}

#[test]
fn a_hash_of_who_is_told_is_told_of_nobody_else() {
    let key = FingerprintKey::random();
    let mut one = usual();
    let mut other = one.clone();
    other.client = "192.0.2.2".parse().expect("an address");
    for record in [&mut one, &mut other] {
        record.hash(|text| Some(key.caller(text)));
    }
    assert!(one.is_like(&other) && !one.is_like(&usual()));
    let forms = Alike::default().forms(&one, &telling());
    assert_eq!(told(&forms, &other), told_anew(&other));
    // What came was the address: the note holds its hash.
    let denial = Denial::from(Reason::AppNotAllowed);
    let denial = denial
        .expected("another", "192.0.2.1")
        .naming(Names::Address);
    for record in [&mut one, &mut other] {
        record.denied(&denial, None);
    }
    assert!(!one.is_like(&other));
}

#[test]
fn what_nobody_comes_back_for_is_not_kept_for_ever() {
    let mut alike = Alike::default();
    let mut record = usual();
    let texts = |length: usize| vec![Some(vec!["x".repeat(length).into()])];
    for at in 0..10_000 {
        record.host = format!("host-{at}-{}.example", random_u128()).into();
        record.fields = texts(1_000);
        alike.forms(&record, &telling());
    }
    assert!(alike.bytes() <= Alike::MOST, "{}", alike.bytes());
    assert!(alike.bytes() > Alike::MOST / 2, "{}", alike.bytes());
}

#[test]
fn what_is_too_long_is_cut_before_an_escape_and_not_within() {
    let path = |before: usize| format!("/{}%C3%A9 and more", "x".repeat(before));
    for (before, kept) in [(1020, 1024), (1021, 1022), (1022, 1023), (1023, 1024)] {
        let path = path(before);
        assert_eq!(shortened(&path).len(), kept, "{before}");
        assert!(path.starts_with(shortened(&path)));
    }
    let short = "/%C3%A9%";
    assert_eq!(shortened(short), short);
}
