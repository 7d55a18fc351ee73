//! Limits as they are written: how often, how much, and how many at once.

use std::collections::HashSet;
use std::time::Duration;

use http::Method;
use http::header::HeaderName;

use super::decode::{Table, expected, list, scalar, spanned, warn_of_repeats};
use super::diagnostics::Diagnostics;
use super::gateway::{DAY, SECOND};
use super::look::holds_a_credential;
use super::node::{Entry, Node, Value};
use super::route::method_of;
use super::rule::{Mode, mode};
use super::source::{Span, Spanned};
use super::store::{LimitStore, OnStoreFailure, store_of};
use super::values::{amount, choice, count, duration, token};

/// An entry of `rateLimit`: evenly, after a burst.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// `name`: what it is called in answers, logs and metrics. There where a route has several limits.
    pub name: Option<Spanned<String>>,
    /// How many requests are let through per `per`; at least 1.
    pub requests: u32,
    /// The period: 1 s to 1 d.
    pub per: Duration,
    /// How many may come at once; at least 1.
    pub burst: Option<u32>,
    /// What each have a count of their own; never empty.
    pub by: Vec<Spanned<LimitKey>>,
    /// `cost`: as how many requests one of these methods counts; no more than may come at once.
    pub cost: Vec<Cost>,
    /// Whether it acts.
    pub mode: Mode,
}

/// An entry of `quota`: so much in a day or month of the calendar.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// `name`, as of a rate limit.
    pub name: Option<Spanned<String>>,
    /// How much.
    pub amount: Amount,
    /// `per`: the window, which begins anew for all at once.
    pub per: Window,
    /// What each have a count of their own; never empty.
    pub by: Vec<Spanned<LimitKey>>,
    /// `cost`: as how many requests one of these methods counts.
    pub cost: Vec<Cost>,
    /// Whether it acts.
    pub mode: Mode,
}

/// What a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Amount {
    /// `requests`; at least 1.
    Requests(u64),
    /// `bytes`: of the bodies of requests and answers; at least 1.
    Bytes(u64),
}

/// `limits` of gateway.yaml.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayLimits {
    /// `headers`: what answers say of limits. Default IETF.
    pub fields: LimitFields,
    /// `beforeAuthentication`: how often an address may call, whoever calls from it. No limit where it is absent.
    pub before_authentication: Option<AddressLimit>,
    /// `maxRequests`: how many requests are under way at once, in all. No limit where it is absent.
    pub max_requests: Option<u64>,
    /// `store`: where they are counted. Default: in the process.
    pub store: LimitStore,
    /// `onStoreFailure`: what holds while the store cannot be reached. Default: each replica's share.
    pub on_store_failure: OnStoreFailure,
}

/// `limits.headers`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitFields {
    /// `RateLimit` and `RateLimit-Policy`.
    #[default]
    Ietf,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
    Legacy,
    /// None.
    Off,
}

/// `limits.beforeAuthentication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressLimit {
    /// How many per `per`; at least 1.
    pub requests: u32,
    /// The period: 1 s to 1 d.
    pub per: Duration,
    /// How many may come at once; at least 1.
    pub burst: Option<u32>,
    /// `count`: what counts. Default requests.
    pub count: Counted,
}

/// `limits.beforeAuthentication.count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Every request.
    Requests,
    /// Those whose caller does not prove who they are.
    Failures,
}

/// A window of the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// From midnight to midnight.
    Day,
    /// From the first of a month to the first of the next.
    Month,
}

/// `concurrency`, of a route or of a backend: how many requests at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Concurrency {
    /// How many are under way at once; at least 1.
    pub requests: u32,
    /// What each have a count of their own. Empty where all share one.
    pub by: Vec<Spanned<LimitKey>>,
    /// How long a request waits for its turn; not at all where it is zero.
    pub wait: Duration,
    /// How many requests wait, for all callers together.
    pub queue: u32,
    /// Whether, and how, the limit follows the latency of the backend.
    pub adaptive: Option<Adaptive>,
}

/// `adaptive`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Adaptive {
    /// `least`: the limit never falls below it. Default 1.
    pub least: u32,
    /// `latency`: the limit grows while answers begin sooner, and falls when they do not. Where it is absent, answers
    /// are compared with how soon they usually begin.
    pub latency: Option<Duration>,
}

/// An entry of `cost`.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// The method.
    pub method: Spanned<Method>,
    /// As how many requests it counts.
    pub units: u32,
}

/// What a limit counts by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LimitKey {
    /// The tenant.
    Tenant,
    /// The client application.
    App,
    /// The principal.
    Principal,
    /// The address of the caller.
    ClientAddress,
    /// The route.
    Route,
    /// `{ claim: .. }`: a claim of the token.
    Claim(String),
    /// `{ header: .. }`: a header, which the caller writes as it likes.
    Header(HeaderName),
}

impl LimitKey {
    /// As it is written, but for its braces.
    pub fn text(&self) -> String {
        match self {
            Self::Tenant => "tenant".to_owned(),
            Self::App => "app".to_owned(),
            Self::Principal => "principal".to_owned(),
            Self::ClientAddress => "clientAddress".to_owned(),
            Self::Route => "route".to_owned(),
            Self::Claim(claim) => format!("claim {claim}"),
            Self::Header(header) => format!("header {header}"),
        }
    }
}

/// Where nobody says how long to wait, and how many may.
const USUAL_WAIT: Duration = Duration::from_secs(1);
const USUAL_QUEUE: u32 = 100;

/// `rateLimit`: one or several.
pub(super) fn rate_limits(node: &Node, d: &mut Diagnostics) -> Option<Vec<Spanned<RateLimit>>> {
    one_or_several(node, d, rate_limit)
}

/// `quota`: one or several.
pub(super) fn quotas(node: &Node, d: &mut Diagnostics) -> Option<Vec<Spanned<Quota>>> {
    one_or_several(node, d, quota)
}

/// `concurrency` of a route: one or several.
pub(super) fn concurrencies(node: &Node, d: &mut Diagnostics) -> Option<Vec<Spanned<Concurrency>>> {
    let limits = one_or_several(node, d, concurrency)?;
    refuse_same_keys(&limits, d);
    Some(limits)
}

/// Two limits that count by the same are one: a request would wait for itself.
fn refuse_same_keys(limits: &[Spanned<Concurrency>], d: &mut Diagnostics) {
    let keys = |limit: &Spanned<Concurrency>| -> HashSet<LimitKey> {
        let keys = limit.value.by.iter().map(|key| key.value.clone());
        // Every limit stands by its own route already.
        keys.filter(|key| *key != LimitKey::Route).collect()
    };
    for (at, limit) in limits.iter().enumerate() {
        let mut before = limits.iter().take(at);
        if let Some(first) = before.find(|first| keys(first) == keys(limit)) {
            d.error(
                &limit.span,
                "another limit of this route counts by the same",
            )
            .also(&first.span, "which is this one")
            .help("keep the one that is meant, or count by something else");
        }
    }
}

fn one_or_several<T>(
    node: &Node,
    d: &mut Diagnostics,
    decode: impl Fn(&Node, &mut Diagnostics) -> Option<T>,
) -> Option<Vec<Spanned<T>>> {
    match &node.value {
        Value::List(_) => list(node, "leave the key out instead", d, spanned(decode)),
        _ => spanned(decode)(node, d).map(|one| vec![one]),
    }
}

/// The keys of a limit on how often, each as far as it is sound.
struct RateKeys {
    requests: Option<u32>,
    per: Option<Duration>,
    burst: Option<u32>,
}

impl RateKeys {
    /// `how_many` is what whoever forgot `requests` is told to write.
    fn of(table: &mut Table<'_>, how_many: &'static str, d: &mut Diagnostics) -> Self {
        let positive = 1..=u64::from(u32::MAX);
        Self {
            requests: table.required("requests", how_many, d, |node, d| {
                count(node, positive.clone(), d)
            }),
            per: table.required("per", "write the period: `per: 1m`", d, |node, d| {
                duration(node, SECOND..=DAY, d)
            }),
            burst: table.optional("burst", d, |node, d| count(node, positive.clone(), d)),
        }
    }
}

fn rate_limit(node: &Node, d: &mut Diagnostics) -> Option<RateLimit> {
    let mut table = Table::of(node, "`{ requests: .., per: .., by: [..] }`", d)?;
    let name = table.optional("name", d, spanned(name));
    let rate = RateKeys::of(&mut table, "write how many: `requests: 60`", d);
    let by = by(&mut table, d);
    let cost = table.optional("cost", d, costs);
    let mode = table.optional("mode", d, mode);
    table.finish(d);
    let cost = cost.unwrap_or_default();
    if let Some(most) = rate.burst.or(rate.requests) {
        refuse_costs_above(&cost, u64::from(most), d);
    }
    Some(RateLimit {
        name,
        requests: rate.requests?,
        per: rate.per?,
        burst: rate.burst,
        by: by?,
        cost,
        mode: mode.unwrap_or(Mode::Enforce),
    })
}

fn quota(node: &Node, d: &mut Diagnostics) -> Option<Quota> {
    const WINDOWS: [(&str, Window); 2] = [("day", Window::Day), ("month", Window::Month)];
    /// What a count of 64 bits holds with room to spare, and Redis' numbers hold exactly.
    const MOST: u64 = 1 << 50;
    let mut table = Table::of(
        node,
        "`{ requests: .., per: day, by: [..] }`, or `bytes` in the place of `requests`",
        d,
    )?;
    let name = table.optional("name", d, spanned(name));
    let written = (table.entry("requests"), table.entry("bytes"));
    let per = table.required("per", "write `per: day` or `per: month`", d, |node, d| {
        choice(node, &WINDOWS, d)
    });
    let by = by(&mut table, d);
    let cost = table.optional("cost", d, spanned(costs));
    let mode = table.optional("mode", d, mode);
    let much = match written {
        (Some(requests), Some(bytes)) => {
            d.error(&bytes.span, "a quota counts one thing only")
                .also(&requests.span, "and this says already what it counts")
                .help("write two quotas, each with a name of its own");
            None
        }
        (None, None) => {
            d.error(table.title(), "this quota does not say how much")
                .help("write `requests: 10000` or `bytes: 10GiB`");
            None
        }
        (Some(requests), None) => count(&requests.value, 1..=MOST, d).map(Amount::Requests),
        (None, Some(bytes)) => amount(&bytes.value, 1..=MOST, d).map(Amount::Bytes),
    };
    table.finish(d);
    match (&cost, much) {
        (Some(cost), Some(Amount::Bytes(_))) => {
            d.error(&cost.span, "where bytes are counted, no method has a cost")
                .help("remove it, or count `requests`");
        }
        (Some(cost), Some(Amount::Requests(most))) => refuse_costs_above(&cost.value, most, d),
        (None, _) | (_, None) => {}
    }
    Some(Quota {
        name,
        amount: much?,
        per: per?,
        by: by?,
        cost: cost.map(|cost| cost.value).unwrap_or_default(),
        mode: mode.unwrap_or(Mode::Enforce),
    })
}

fn concurrency(node: &Node, d: &mut Diagnostics) -> Option<Concurrency> {
    let mut table = Table::of(node, "`{ requests: 20, by: [app] }`", d)?;
    let limit = concurrency_of(&mut table, true, d);
    table.finish(d);
    limit
}

/// `limits` of gateway.yaml.
pub(super) fn gateway_limits(mut table: Table<'_>, d: &mut Diagnostics) -> Option<GatewayLimits> {
    const FIELDS: [(&str, LimitFields); 3] = [
        ("ietf", LimitFields::Ietf),
        ("legacy", LimitFields::Legacy),
        ("off", LimitFields::Off),
    ];
    let fields = table.optional("headers", d, |node, d| choice(node, &FIELDS, d));
    let before_authentication = table.optional("beforeAuthentication", d, address_limit);
    let max_requests = table.optional("maxRequests", d, |node, d| count(node, 1..=10_000_000, d));
    let store = store_of(&mut table, d);
    table.finish(d);
    let (store, on_store_failure) = store?;
    Some(GatewayLimits {
        fields: fields.unwrap_or_default(),
        before_authentication,
        max_requests,
        store,
        on_store_failure,
    })
}

fn address_limit(node: &Node, d: &mut Diagnostics) -> Option<AddressLimit> {
    const COUNTED: [(&str, Counted); 2] = [
        ("requests", Counted::Requests),
        ("failures", Counted::Failures),
    ];
    let mut table = Table::of(node, "`{ requests: .., per: .. }`", d)?;
    let rate = RateKeys::of(&mut table, "write how many: `requests: 600`", d);
    let counted = table.optional("count", d, |node, d| choice(node, &COUNTED, d));
    table.finish(d);
    Some(AddressLimit {
        requests: rate.requests?,
        per: rate.per?,
        burst: rate.burst,
        count: counted.unwrap_or(Counted::Requests),
    })
}

/// `concurrency` of a backend, which all who call it share.
pub(super) fn shared_concurrency(node: &Node, d: &mut Diagnostics) -> Option<Concurrency> {
    let mut table = Table::of(node, "`{ requests: 100 }`", d)?;
    let limit = concurrency_of(&mut table, false, d);
    table.finish(d);
    limit
}

fn concurrency_of(
    table: &mut Table<'_>,
    has_keys: bool,
    d: &mut Diagnostics,
) -> Option<Concurrency> {
    const MOST: u64 = 1_000_000;
    let requests = table.required(
        "requests",
        "write how many at once: `requests: 20`",
        d,
        |node, d| count(node, 1..=MOST, d),
    );
    let by = match has_keys {
        true => table.optional("by", d, |node, d| {
            keys(node, "leave the key out instead", d)
        }),
        false => None,
    };
    let wait = table.optional("wait", d, |node, d| {
        duration(node, Duration::ZERO..=Duration::from_mins(1), d)
    });
    let queue = table.optional("queue", d, |node, d| count(node, 1..=MOST, d));
    let adaptive = table.optional("adaptive", d, spanned(adaptive));
    if let (Some(requests), Some(adaptive)) = (requests, &adaptive)
        && adaptive.value.least > requests
    {
        d.error(
            &adaptive.span,
            "`least` is above `requests`, so that the limit could not move",
        )
        .help("`requests` is the most, `least` the least that the limit becomes");
    }
    Some(Concurrency {
        requests: requests?,
        by: by.unwrap_or_default(),
        wait: wait.unwrap_or(USUAL_WAIT),
        queue: queue.unwrap_or(USUAL_QUEUE),
        adaptive: adaptive.map(|adaptive| adaptive.value),
    })
}

fn adaptive(node: &Node, d: &mut Diagnostics) -> Option<Adaptive> {
    let mut table = Table::of(node, "`{ least: 5 }`, `{ latency: 500ms }` or both", d)?;
    let least = table.optional("least", d, |node, d| count(node, 1..=1_000_000, d));
    let latency = table.optional("latency", d, |node, d| {
        duration(node, Duration::from_millis(1)..=Duration::from_hours(1), d)
    });
    table.finish(d);
    Some(Adaptive {
        least: least.unwrap_or(1),
        latency,
    })
}

fn by(table: &mut Table<'_>, d: &mut Diagnostics) -> Option<Vec<Spanned<LimitKey>>> {
    let help =
        "say what has a count of its own: `by: [tenant, app]`, or `by: [route]` for all together";
    table.required("by", help, d, |node, d| keys(node, help, d))
}

fn keys(node: &Node, help: &str, d: &mut Diagnostics) -> Option<Vec<Spanned<LimitKey>>> {
    let keys = list(node, help, d, spanned(key))?;
    warn_of_repeats(&keys, d);
    let is_header = |key: &Spanned<LimitKey>| matches!(key.value, LimitKey::Header(_));
    if !keys.is_empty() && keys.iter().all(is_header) {
        d.warning(
            &node.span,
            "callers write headers as they like, so this limits nobody who means to pass it",
        )
        .help(
            "add what they cannot choose: `tenant`, `app`, `principal`, `clientAddress` or a claim",
        );
    }
    Some(keys)
}

fn key(node: &Node, d: &mut Diagnostics) -> Option<LimitKey> {
    const KEYS: [(&str, LimitKey); 5] = [
        ("tenant", LimitKey::Tenant),
        ("app", LimitKey::App),
        ("principal", LimitKey::Principal),
        ("clientAddress", LimitKey::ClientAddress),
        ("route", LimitKey::Route),
    ];
    let Value::Mapping(_) = &node.value else {
        let words = KEYS.each_ref().map(|(word, _)| *word);
        let places: Vec<(&str, usize)> = words.into_iter().zip(0..).collect();
        let place = choice(node, &places, d)?;
        return KEYS.into_iter().nth(place).map(|(_, key)| key);
    };
    let before = d.errors();
    let mut table = Table::of(node, "a word, `{ claim: .. }` or `{ header: .. }`", d)?;
    let claim = table.optional("claim", d, |node, d| token(node, "the name of a claim", d));
    let header = table.optional("header", d, header);
    table.finish(d);
    match (claim, header) {
        (Some(claim), None) => Some(LimitKey::Claim(claim)),
        (None, Some(header)) => Some(LimitKey::Header(header)),
        (Some(_), Some(_)) => {
            d.error(&node.span, "this names two things")
                .help("write `[{ claim: .. }, { header: .. }]`");
            None
        }
        (None, None) => {
            if before == d.errors() {
                expected(node, "`{ claim: .. }` or `{ header: .. }`", d);
            }
            None
        }
    }
}

/// A header that callers may send and that holds no secret.
fn header(node: &Node, d: &mut Diagnostics) -> Option<HeaderName> {
    let text = scalar(node, "the name of a header", d)?;
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        d.error(&node.span, "this is no name of a header")
            .help("names of headers have letters, digits and `-`");
        return None;
    };
    if holds_a_credential(name.as_str()) {
        d.error(&node.span, "this header holds credentials")
            .help("what the caller proved is in the token: count by `app`, `principal` or a claim");
        return None;
    }
    if let Some(why) = super::credential::unfit(&name) {
        d.error(
            &node.span,
            format!("nothing can be counted by this header: {why}"),
        );
        return None;
    }
    Some(name)
}

fn costs(node: &Node, d: &mut Diagnostics) -> Option<Vec<Cost>> {
    let Value::Mapping(entries) = &node.value else {
        expected(node, "a mapping of methods to numbers: `{ POST: 5 }`", d);
        return None;
    };
    if entries.is_empty() {
        d.error(&node.span, "this mapping is empty")
            .help("leave the key out instead: every request counts as one");
        return None;
    }
    let entries = entries.iter().filter(|entry| !entry.refused);
    Some(entries.filter_map(|entry| cost(entry, d)).collect())
}

fn cost(entry: &Entry, d: &mut Diagnostics) -> Option<Cost> {
    let method = method_of(&entry.key, &entry.span, d);
    let units = count(&entry.value, 1..=u64::from(u32::MAX), d);
    Some(Cost {
        method: Spanned::new(method?, entry.span.clone()),
        units: units?,
    })
}

/// What costs more than may ever come at once would never be let through.
fn refuse_costs_above(costs: &[Cost], most: u64, d: &mut Diagnostics) {
    for cost in costs.iter().filter(|cost| u64::from(cost.units) > most) {
        d.error(
            &cost.method.span,
            format!("this method costs more than may come at once, which is {most}"),
        )
        .help("lower the cost, or raise `burst` or the limit");
    }
}

/// What is written into fields of answers, logs and labels.
fn name(node: &Node, d: &mut Diagnostics) -> Option<String> {
    let text = scalar(node, "a name", d)?;
    let is_good =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if text.len() > 64 || !text.chars().all(is_good) {
        d.error(&node.span, "this cannot be the name of a limit")
            .help("use 64 letters, digits, `-`, `_` and `.` at most: callers see it");
        return None;
    }
    Some(text.to_owned())
}

/// So many limits on how often and how much a route has at most: each is asked for each of its requests.
pub const MOST_LIMITS: usize = 8;

/// The limits of one route that answers call by name: several need names, and no two the same one.
pub(super) fn check_names(limits: &[(Option<&Spanned<String>>, &Span)], d: &mut Diagnostics) {
    let several = limits.len() > 1;
    if let Some((_, span)) = limits.get(MOST_LIMITS) {
        d.error(
            span,
            format!("a route has {MOST_LIMITS} rate limits and quotas at most"),
        );
    }
    for (at, (name, span)) in limits.iter().enumerate() {
        let Some(name) = name else {
            if several {
                d.error(span, "this limit has no name")
                    .help("where a route has several, answers and logs tell them apart by name: `name: burst`");
            }
            continue;
        };
        let mut before = limits.iter().take(at).filter_map(|(name, _)| *name);
        if let Some(first) = before.find(|first| first.value == name.value) {
            d.error(&name.span, "another limit of this route has this name")
                .also(&first.span, "first named here");
        }
    }
}
