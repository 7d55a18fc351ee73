//! That the answers are exact: over random policies and random requests, what `who-can` and `diff` say is
//! what the evaluator does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderValue, Method, Version};
use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::{Answer, Caller, Question, TokenSpec, Tokens, Trial, example};
use crate::files::{Diagnostics, parse_policies};
use crate::ids::{AppId, ObjectId, TenantId};
use crate::policy::access::{Atom, Mask, Point, TokenPoint, masks};
use crate::policy::condition::Condition;
use crate::policy::words::{self, Naming};
use crate::policy::{self, Policy, difference};
use crate::token::{AuthStrength, TokenKind};

const NOW: Duration = Duration::from_secs(1_800_000_000);

const NAMES: &str = "
tenants:
  t1: 11111111-1111-1111-1111-111111111111
  t2: 22222222-2222-2222-2222-222222222222
apps:
  a1: aaaaaaaa-0000-0000-0000-000000000001
  a2: aaaaaaaa-0000-0000-0000-000000000002
principals: { p1: cccccccc-0000-0000-0000-000000000001 }
groups:
  g1: dddddddd-0000-0000-0000-000000000001
  g2: dddddddd-0000-0000-0000-000000000002
networks: { office: [192.0.2.0/24, '2001:db8::/32'] }
audiences: [api://one, api://two]
backends: { b: { http: 'http://127.0.0.1:9', credential: none } }
routes:
";

const TENANTS: [&str; 3] = [
    "11111111-1111-1111-1111-111111111111",
    "22222222-2222-2222-2222-222222222222",
    "33333333-3333-3333-3333-333333333333",
];
const APPS: [&str; 3] = [
    "aaaaaaaa-0000-0000-0000-000000000001",
    "aaaaaaaa-0000-0000-0000-000000000002",
    "aaaaaaaa-0000-0000-0000-000000000003",
];
const GROUPS: [&str; 2] = [
    "dddddddd-0000-0000-0000-000000000001",
    "dddddddd-0000-0000-0000-000000000002",
];

/// Some of a few words, as a YAML list; nothing where none are chosen.
fn some(key: &'static str, words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just(String::new()),
        2 => subsequence(words, 1..=words.len())
            .prop_map(move |some| format!("{key}: [{}], ", some.join(", "))),
    ]
}

/// As [`some`], or all of them at once.
fn wanted(key: &'static str, words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let all = Just(format!("{key}: {{ allOf: [{}] }}, ", words.join(", ")));
    prop_oneof![4 => some(key, words), 1 => all]
}

fn clauses() -> impl Strategy<Value = String> {
    (
        some("apps", &["a1", "a2"]),
        some("principals", &["p1"]),
        some("tokenKinds", &["appOnly", "delegated"]),
        some("authStrength", &["secret", "certificate"]),
        wanted("roles", &["R1", "R2"]),
        wanted("scopes", &["S1", "S2"]),
        wanted("groups", &["g1", "g2"]),
        some("from", &["office", "198.51.100.7"]),
        prop_oneof![
            4 => Just(""),
            1 => Just("expires: 2027-01-15T08:00:00Z, "),
            1 => Just("notBefore: 2027-01-15T08:00:00Z, "),
        ],
        prop_oneof![
            5 => Just(""),
            1 => Just("mode: reportOnly, "),
            1 => Just("when: \"request.headers['x-a'] == 'yes'\", "),
            1 => Just("when: \"request.headers['x-b'] == 'yes'\", "),
            1 => Just("when: \"token.claims['x-a'] == 'yes'\", "),
        ],
    )
        .prop_map(|(a, b, c, d, e, f, g, h, i, j)| [&a, &b, &c, &d, &e, &f, &g, &h, i, j].concat())
}

fn allow_rule() -> impl Strategy<Value = String> {
    (subsequence(&["t1", "t2"][..], 1..=2), clauses())
        .prop_map(|(tenants, more)| format!("{{ {more}tenants: [{}] }}", tenants.join(", ")))
}

fn deny_rule() -> impl Strategy<Value = String> {
    (some("tenants", &["t1", "t2"]), clauses()).prop_map(|(tenants, more)| {
        // A deny rule has to say something of callers.
        format!("{{ {more}{tenants}from: ['0.0.0.0/0', '::/0'] }}").replacen(
            "from: ['0.0.0.0/0', '::/0']",
            if more.contains("from:") {
                ""
            } else {
                "from: ['0.0.0.0/0', '::/0']"
            },
            1,
        )
    })
}

fn route() -> impl Strategy<Value = String> {
    let host = select(vec!["", "host: one.example, ", "host: '*.example', "]);
    let path = select(vec![
        "/a",
        "/a/{x}",
        "/a/b",
        "/{x}/b",
        "/{x}",
        "/a/{*rest}",
        "/{*rest}",
        "/{x}/b/c",
        "/{x}/b/{*rest}",
        "/a/{x}/{*rest}",
        "/a/f-{x}",
        "/a/F-a{x}",
        "/a{x}",
        "/{x}.pdf",
        "/{x}.pdf/b",
        "/f-{*rest}",
        "/B",
        "/a/",
    ]);
    let methods = select(vec!["GET", "POST", "GET, POST"]);
    let access = prop_oneof![
        6 => (prop::collection::vec(allow_rule(), 1..3), prop::collection::vec(deny_rule(), 0..2))
            .prop_map(|(allow, deny)| {
                let deny = match deny.is_empty() {
                    true => String::new(),
                    false => format!(", deny: [{}]", deny.join(", ")),
                };
                format!("allow: [{}]{deny}", allow.join(", "))
            }),
        1 => Just("public: true".to_owned()),
        1 => Just("public: true, deny: [{ from: [office] }]".to_owned()),
    ];
    let more = select(vec![
        "",
        "",
        "",
        "",
        "mode: reportOnly, ",
        "audiences: [api://two], ",
    ]);
    (host, path, methods, access, more).prop_map(|(host, path, methods, access, more)| {
        format!("{{ match: {{ {host}methods: [{methods}], path: '{path}' }}, backend: b, {more}{access} }}")
    })
}

fn compiled(routes: &[String]) -> Option<Policy> {
    let mut text = NAMES.to_owned();
    for (number, route) in routes.iter().enumerate() {
        let _ = writeln!(text, "  r{number}: {route}");
    }
    let mut diagnostics = Diagnostics::new();
    let document = parse_policies(&[(Path::new("random.yaml"), &text)], &mut diagnostics);
    policy::compile(&document, &mut diagnostics)
}

/// A policy without a fault: routes that clash with earlier ones are left out.
fn policies() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(route(), 1..4).prop_map(|routes| {
        let mut kept: Vec<String> = Vec::new();
        for route in routes {
            kept.push(route);
            if compiled(&kept).is_none() {
                kept.pop();
            }
        }
        kept
    })
}

fn token() -> impl Strategy<Value = TokenSpec> {
    (
        (select(&TENANTS[..]), select(&APPS[..])),
        prop::option::of(select(vec![
            "cccccccc-0000-0000-0000-000000000001",
            "cccccccc-0000-0000-0000-000000000002",
        ])),
        select(TokenKind::ALL),
        select(AuthStrength::ALL),
        select(vec!["api://one", "api://two", "api://three"]),
        subsequence(&["R1", "R2"][..], 0..=2),
        subsequence(&["S1", "S2"][..], 0..=2),
        subsequence(&GROUPS[..], 0..=2),
        proptest::bool::weighted(0.2),
        (any::<bool>(), select(vec![None, Some("yes"), Some("no")])),
    )
        .prop_map(
            |(
                (tenant, app),
                principal,
                kind,
                strength,
                audience,
                roles,
                scopes,
                groups,
                overage,
                (v1, claim),
            )| {
                let owned =
                    |words: Vec<&str>| words.into_iter().map(str::to_owned).collect::<Vec<_>>();
                let tenant: TenantId = tenant.parse().expect("a GUID");
                let app: AppId = app.parse().expect("a GUID");
                let mut spec = TokenSpec::new(tenant, app, audience, Duration::from_secs(0));
                spec.expires = Duration::from_secs(4_000_000_000);
                spec.principal = principal.map(|id| id.parse().expect("a GUID"));
                spec.kind = kind;
                spec.strength = strength;
                spec.roles = owned(roles);
                spec.scopes = owned(scopes);
                spec.groups = owned(groups);
                spec.group_overage = overage;
                if let Some(claim) = claim {
                    spec.claims.insert("x-a".to_owned(), json!(claim));
                }
                if v1 {
                    spec.version = crate::entra::Version::V1;
                }
                spec
            },
        )
}

fn question() -> impl Strategy<Value = Question> {
    let caller = prop_oneof![
        1 => Just(Caller::Nobody),
        9 => token().prop_map(|token| Caller::Claims(token.claims())),
    ];
    let segment = prop_oneof![
        4 => select(vec!["a", "b", "c", "z", "f-z", "f-a", "z.pdf"]),
        1 => select(vec!["A", "B", "a;x", "f-Z", "F-z", "F-az", "az", "Az", "f-.pdf", "a.PDF", "any", "%62", "z."]),
    ];
    let path = (
        prop::collection::vec(segment, 1..4),
        proptest::bool::weighted(0.1),
    )
        .prop_map(|(segments, slash)| {
            format!("/{}{}", segments.join("/"), if slash { "/" } else { "" })
        });
    (
        select(vec![Method::GET, Method::POST, Method::PUT]),
        select(vec!["one.example", "two.example", "elsewhere"]),
        path,
        select(vec![
            "192.0.2.9",
            "198.51.100.7",
            "203.0.113.1",
            "2001:db8::9",
            "2001:db9::1",
        ]),
        select(vec![0_i64, -1, 60]),
        caller,
        prop::collection::vec(
            (select(vec!["x-a", "x-b"]), select(vec!["yes", "no"])),
            0..2,
        ),
    )
        .prop_map(
            |(method, host, path, client, later, caller, fields)| Question {
                method,
                host: host.to_owned(),
                target: path,
                headers: fields
                    .into_iter()
                    .map(|(name, value)| {
                        (
                            HeaderName::from_static(name),
                            HeaderValue::from_static(value),
                        )
                    })
                    .collect(),
                client: client.parse().expect("an address"),
                certificate: None,
                // 2027-01-15T08:00:00Z, and the seconds around it.
                now: Duration::from_secs(NOW.as_secs().saturating_add_signed(later)),
                version: Version::HTTP_11,
                caller,
            },
        )
}

/// A request as a point of the space that regions divide.
fn point(question: &Question, answer: &Answer<'_>) -> Point {
    let token = answer.caller.as_ref().ok().map(|caller| {
        let roles = caller.roles().iter().cloned().map(Atom::Role);
        let scopes = caller.scopes().iter().cloned().map(Atom::Scope);
        let groups = GROUPS
            .iter()
            .map(|id| id.parse::<ObjectId>().expect("a GUID"));
        let groups = groups
            .filter(|group| caller.has_group(*group))
            .map(Atom::Group);
        let overage = caller.groups_unknown().then_some(Atom::GroupOverage);
        TokenPoint {
            tenant: Some(caller.tenant()),
            app: Some(caller.app()),
            principal: caller.object(),
            kind: caller.kind(),
            strength: caller.strength(),
            audience: Some(caller.audience().into()),
            has: roles.chain(scopes).chain(groups).chain(overage).collect(),
        }
    });
    let address = match question.client {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    Point {
        token,
        address,
        time: question.now.as_secs(),
        conditions: conditions(question),
    }
}

/// A condition as regions name it.
fn normal(text: &str) -> Box<str> {
    let condition = Condition::compile(text, &|_, _| None);
    condition.expect("a condition").normal().into()
}

/// The fields that conditions of the random policies read, each with the condition.
fn read_fields() -> [(&'static str, Box<str>); 2] {
    ["x-a", "x-b"].map(|field| {
        (
            field,
            normal(&format!("request.headers['{field}'] == 'yes'")),
        )
    })
}

/// The claim that they read, with the condition.
fn read_claim() -> (&'static str, Box<str>) {
    ("x-a", normal("token.claims['x-a'] == 'yes'"))
}

/// What the conditions of the random policies come to in a request.
fn conditions(question: &Question) -> BTreeMap<Box<str>, Mask> {
    let truth = |value: Option<&str>| match value {
        None => masks::FAILED,
        Some("yes") => masks::TRUE,
        Some(_) => masks::FALSE,
    };
    let field = |name: &str| question.headers.get(name)?.to_str().ok();
    let fields = read_fields().into_iter();
    let fields = fields.map(|(name, condition)| (condition, truth(field(name))));
    let (name, condition) = read_claim();
    let claim = match &question.caller {
        Caller::Claims(claims) => claims.get(name).and_then(Value::as_str),
        Caller::Nobody | Caller::Refused(_) => None,
    };
    fields.chain([(condition, truth(claim))]).collect()
}

/// Sets what conditions read, so that they come to what a point says.
fn satisfy(question: &mut Question, point: &Point) {
    let value = |condition: &str| match point.conditions.get(condition) {
        Some(&masks::TRUE) => Some("yes"),
        Some(&masks::FAILED) => None,
        Some(_) | None => Some("no"),
    };
    for (field, condition) in read_fields() {
        if let Some(value) = value(&condition) {
            question
                .headers
                .insert(field, HeaderValue::from_static(value));
        }
    }
    let (claim, condition) = read_claim();
    if let (Caller::Claims(claims), Some(value)) = (&mut question.caller, value(&condition)) {
        claims.insert(claim.to_owned(), json!(value));
    }
}

/// Whether a caller is one of those that `who-can --format json` tells of, read as a program would that
/// knows nothing but the document.
fn is_told(callers: &Value, point: &Point) -> bool {
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let listed = |values: &Value, own: &str| {
        list(values)
            .iter()
            .any(|value| value.get("id").unwrap_or(value) == own)
    };
    let chosen = |key: &str, own: Option<&str>| match &callers[key]["only"] {
        Value::Null => !own.is_some_and(|own| listed(&callers[key]["allBut"], own)),
        only => own.is_some_and(|own| listed(only, own)),
    };
    let by_token = |token: &TokenPoint| {
        let id = |id: Option<String>, key| chosen(key, id.as_deref());
        let has = |key: &str, word: &dyn Fn(&Atom) -> Option<String>| {
            let own: Vec<String> = token.has.iter().filter_map(word).collect();
            let wanted = |value: &Value| {
                own.iter()
                    .any(|own| value.get("id").unwrap_or(value) == own)
            };
            let held = &callers[key];
            let any_of = list(&held["anyOf"]);
            (any_of.is_empty() || any_of.iter().any(wanted))
                && list(&held["allOf"]).iter().all(wanted)
                && !list(&held["noneOf"]).iter().any(wanted)
        };
        let overage = token.has.contains(&Atom::GroupOverage);
        id(token.tenant.map(|id| id.to_string()), "tenants")
            && id(token.app.map(|id| id.to_string()), "apps")
            && id(token.principal.map(|id| id.to_string()), "principals")
            && chosen("audiences", token.audience.as_deref())
            && listed(&callers["tokenKinds"], token.kind.as_str())
            && listed(&callers["authStrengths"], token.strength.as_str())
            && callers["groupOverage"]
                .as_bool()
                .is_none_or(|asked| asked == overage)
            && has("roles", &|atom| match atom {
                Atom::Role(role) => Some(role.to_string()),
                _ => None,
            })
            && has("scopes", &|atom| match atom {
                Atom::Scope(scope) => Some(scope.to_string()),
                _ => None,
            })
            && has("groups", &|atom| match atom {
                Atom::Group(group) => Some(group.to_string()),
                _ => None,
            })
    };
    let client = words::address(point.address);
    let inside = |networks: &Value| {
        let network = |text: &Value| {
            text.as_str()
                .expect("text")
                .parse::<IpNet>()
                .expect("a network")
        };
        list(networks)
            .iter()
            .any(|text| network(text).contains(&client))
    };
    let time = json!(words::timestamp(point.time));
    let time = time.as_str();
    let within = |span: &Value| {
        span["from"].as_str().is_none_or(|from| Some(from) <= time)
            && span["until"]
                .as_str()
                .is_none_or(|until| time < Some(until))
    };
    let holds = |when: &Value| {
        let condition = when["condition"].as_str().expect("text");
        let truth = match point.conditions.get(condition) {
            Some(&masks::TRUE) => "true",
            Some(&masks::FAILED) => "failed",
            Some(_) | None => "false",
        };
        listed(&when["is"], truth)
    };
    let by_token = match &point.token {
        None => callers["token"] != json!("required"),
        Some(token) => callers["token"] != json!("absent") && by_token(token),
    };
    by_token
        && match &callers["from"]["only"] {
            Value::Null => !inside(&callers["from"]["allBut"]),
            only => inside(only),
        }
        && list(&callers["times"]).iter().any(within)
        && list(&callers["when"]).iter().all(holds)
}

proptest! {
    #[test]
    fn who_can_holds_exactly_those_whom_the_evaluator_lets_in(
        routes in policies(),
        questions in prop::collection::vec(question(), 30),
    ) {
        let policy = compiled(&routes).expect("without fault");
        let trial = Trial::new(&policy, &Tokens::default());
        for question in &questions {
            let answer = trial.ask(question);
            let reach = trial.route(question).map(|route| policy.reach(route).expect("simple"));
            let point = point(question, &answer);
            let said = reach.as_ref().is_ok_and(|reach| reach.contains(&point));
            prop_assert_eq!(said, answer.lets_in(), "{:?}\n{:?}\n{:?}", routes, question, reach);
            let told = reach.as_ref().is_ok_and(|reach| {
                let rows = words::rows(reach, Naming(&[policy.names()]), &[]);
                let told = rows.iter().map(|row| serde_json::to_value(row).expect("JSON"));
                told.collect::<Vec<_>>().iter().any(|row| is_told(row, &point))
            });
            prop_assert_eq!(told, said, "as JSON\n{:?}\n{:?}\n{:?}", routes, question, reach);
        }
    }

    #[test]
    fn diff_says_what_changes_and_nothing_else(
        old_routes in policies(),
        new_routes in policies(),
        keep in proptest::bool::weighted(0.3),
        questions in prop::collection::vec(question(), 30),
    ) {
        let new_routes = if keep { old_routes.iter().rev().cloned().collect() } else { new_routes };
        let old = compiled(&old_routes).expect("without fault");
        let Some(new) = compiled(&new_routes) else { panic!("the order plays no part: {new_routes:#?}") };
        let changes = difference(&old, &new, &|| true).expect("simple").access;
        if keep {
            prop_assert!(changes.is_empty(), "{:?}\n{:?}", old_routes, changes);
        }
        let (before, after) = (Trial::new(&old, &Tokens::default()), Trial::new(&new, &Tokens::default()));
        for question in &questions {
            let (was, is) = (before.ask(question), after.ask(question));
            let point = point(question, if is.caller.is_ok() { &is } else { &was });
            let pair = (
                before.route(question).ok().map(|route| route.id()),
                after.route(question).ok().map(|route| route.id()),
            );
            let told = changes.iter().filter(|change| {
                pair == (change.old.map(|route| route.id()), change.new.map(|route| route.id()))
            });
            let (mut gained, mut lost) = (false, false);
            for change in told {
                gained |= change.gained.contains(&point);
                lost |= change.lost.contains(&point);
            }
            let context = || format!("{old_routes:#?}\n{new_routes:#?}\n{question:?}\n{changes:?}");
            prop_assert_eq!(gained, !was.lets_in() && is.lets_in(), "gained\n{}", context());
            prop_assert_eq!(lost, was.lets_in() && !is.lets_in(), "lost\n{}", context());
        }
    }

    #[test]
    fn every_gain_and_loss_comes_with_a_request_that_shows_it(
        old_routes in policies(),
        new_routes in policies(),
    ) {
        let old = compiled(&old_routes).expect("without fault");
        let new = compiled(&new_routes).expect("without fault");
        let (before, after) = (Trial::new(&old, &Tokens::default()), Trial::new(&new, &Tokens::default()));
        for change in difference(&old, &new, &|| true).expect("simple").access {
            let sides = [(&change.gained, &before, &after), (&change.lost, &after, &before)];
            for (region, without, with) in sides {
                let rows = words::rows(region, Naming(&[new.names(), old.names()]), &[]);
                prop_assert_eq!(rows.is_empty(), region.is_empty());
                for row in rows {
                    let point = row.some.point(NOW.as_secs()).expect("somebody");
                    for (witness, methods) in &change.requests {
                        let method = methods.methods().next().expect("a method");
                        let mut question = example(&point, witness, &method);
                        satisfy(&mut question, &point);
                        let context = || format!("{old_routes:#?}\n{new_routes:#?}\n{question:?}\n{change:?}");
                        prop_assert!(!without.ask(&question).lets_in(), "let in without it\n{}", context());
                        prop_assert!(with.ask(&question).lets_in(), "refused with it\n{}", context());
                    }
                }
            }
        }
    }
}
