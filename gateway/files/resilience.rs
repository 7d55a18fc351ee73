//! What of a backend is for bad days, as it is written: which of several endpoints is left out, when nothing is
//! sent any more, what is sent again, who asks whether it is well, and how long one waits while it starts.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::decode::{Table, list, scalar, spanned, warn_of_repeats};
use super::diagnostics::Diagnostics;
use super::gateway::{HOUR, LEAST, MINUTE, SECOND};
use super::node::Node;
use super::source::Spanned;
use super::values::{boolean, choice, count, duration, token, with_unit};

/// `ejection`: when one of several endpoints is left out for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// So many failures in a row. Default 5.
    pub consecutive: u32,
    /// For how long, at first; twice as long each time. Default 5 s.
    pub time: Duration,
    /// The longest. Default 60 s.
    pub max_time: Duration,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            consecutive: 5,
            time: Duration::from_secs(5),
            max_time: Duration::from_secs(60),
        }
    }
}

/// `breaker`: when nothing is sent to a backend for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// So many failures in a row open it. Default 10.
    pub failures: u32,
    /// Or this part of the requests of a window, in per cent. Default 50.
    pub failure_rate: u32,
    /// An answer that begins later than this is slow. Default 10 s.
    pub slow_after: Duration,
    /// This part of slow requests opens it as well, in per cent. Default 80.
    pub slow_rate: u32,
    /// How far back parts are reckoned. Default 10 s.
    pub window: Duration,
    /// From how many requests on. Default 20.
    pub minimum: u32,
    /// How long it stays open. Default 30 s.
    pub open: Duration,
    /// How many requests go behind that to try, and must succeed. Default 3.
    pub probes: u32,
}

/// `retry`: what is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often a request is tried in all. Default 2.
    pub attempts: u32,
    /// After what. Default: `connect`, `reset`, `status502`, `status503`, `status504`.
    pub on: Vec<RetryOn>,
    /// The longest wait before the second attempt; twice as long before each further one. Default 50 ms.
    pub backoff: Duration,
    /// The longest wait of all, also where a backend asks for one. Default 1 s.
    pub max_backoff: Duration,
    /// How many of the requests may be sent again, in per cent. Default 20.
    pub budget: u32,
}

/// After what a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryOn {
    /// No connection came about.
    Connect,
    /// The connection ended before an answer.
    Reset,
    /// This status.
    Status(u16),
}

impl RetryOn {
    /// The word for it.
    pub fn word(self) -> &'static str {
        let mut words = RETRY_ON.iter();
        let found = words.find(|(_, on)| *on == self);
        found.map_or("", |(word, _)| word)
    }
}

const RETRY_ON: [(&str, RetryOn); 6] = [
    ("connect", RetryOn::Connect),
    ("reset", RetryOn::Reset),
    ("status429", RetryOn::Status(429)),
    ("status502", RetryOn::Status(502)),
    ("status503", RetryOn::Status(503)),
    ("status504", RetryOn::Status(504)),
];

/// `health`: how a backend's endpoints are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Health {
    /// The path that is asked for, as it stands.
    pub path: String,
    /// How often. Default 10 s.
    pub every: Duration,
    /// How long the answer may take. Default 2 s.
    pub timeout: Duration,
    /// So many good answers in a row make an endpoint well again. Default 2.
    pub healthy: u32,
    /// So many bad ones make it unwell. Default 3.
    pub unhealthy: u32,
    /// Which answers are good. Default 200 to 399.
    pub status: RangeInclusive<u16>,
    /// Whether the backend's credential goes along. Default false.
    pub credential: bool,
}

/// Statuses by which a backend fails, where nobody writes others.
pub(super) const FAILURES: [u16; 3] = [502, 503, 504];

pub(super) const MOMENT: RangeInclusive<Duration> = LEAST..=HOUR;

/// `ejection`.
pub(super) fn ejection(node: &Node, d: &mut Diagnostics) -> Option<Ejection> {
    let mut table = Table::of(node, "`{ consecutive: 5, time: 5s, maxTime: 60s }`", d)?;
    let usual = Ejection::default();
    let consecutive = table.optional("consecutive", d, |node, d| count(node, 1..=10_000, d));
    let time = table.optional("time", d, |node, d| duration(node, MOMENT, d));
    let max_time = table.optional("maxTime", d, |node, d| duration(node, MOMENT, d));
    table.finish(d);
    let time = time.unwrap_or(usual.time);
    Some(Ejection {
        consecutive: consecutive.unwrap_or(usual.consecutive),
        time,
        max_time: max_time.unwrap_or(usual.max_time).max(time),
    })
}

/// `breaker`. All that it may say has a default.
pub(super) fn breaker(node: &Node, d: &mut Diagnostics) -> Option<Breaker> {
    let mut table = Table::of(node, "`{ failures: 10, failureRate: 50%, open: 30s }`", d)?;
    let failures = table.optional("failures", d, |node, d| count(node, 1..=10_000, d));
    let failure_rate = table.optional("failureRate", d, percent);
    let slow_after = table.optional("slowAfter", d, |node, d| duration(node, MOMENT, d));
    let slow_rate = table.optional("slowRate", d, percent);
    let window = table.optional("window", d, |node, d| duration(node, WINDOW, d));
    let minimum = table.optional("minimum", d, |node, d| count(node, 1..=10_000, d));
    let open = table.optional("open", d, |node, d| duration(node, MOMENT, d));
    let probes = table.optional("probes", d, |node, d| count(node, 1..=1_000, d));
    table.finish(d);
    Some(Breaker {
        failures: failures.unwrap_or(10),
        failure_rate: failure_rate.unwrap_or(50),
        slow_after: slow_after.unwrap_or(Duration::from_secs(10)),
        slow_rate: slow_rate.unwrap_or(80),
        window: window.unwrap_or(Duration::from_secs(10)),
        minimum: minimum.unwrap_or(20),
        open: open.unwrap_or(Duration::from_secs(30)),
        probes: probes.unwrap_or(3),
    })
}

const WINDOW: RangeInclusive<Duration> = SECOND..=HOUR;

/// `retry`. All that it may say has a default.
pub(super) fn retry(node: &Node, d: &mut Diagnostics) -> Option<Retry> {
    let mut table = Table::of(node, "`{ attempts: 2, budget: 20% }`", d)?;
    let attempts = table.optional("attempts", d, |node, d| count(node, 2..=10, d));
    let on = table.optional("on", d, |node, d| {
        let decode = |node: &Node, d: &mut Diagnostics| choice(node, &RETRY_ON, d);
        let on = list(
            node,
            "nothing would be sent again; remove `retry`",
            d,
            spanned(decode),
        )?;
        warn_of_repeats(&on, d);
        Some(
            on.into_iter()
                .map(|on: Spanned<RetryOn>| on.value)
                .collect(),
        )
    });
    let backoff = table.optional("backoff", d, |node, d| duration(node, MOMENT, d));
    let max_backoff = table.optional("maxBackoff", d, |node, d| duration(node, MOMENT, d));
    let budget = table.optional("budget", d, percent);
    table.finish(d);
    let backoff = backoff.unwrap_or(Duration::from_millis(50));
    Some(Retry {
        attempts: attempts.unwrap_or(2),
        on: on.unwrap_or_else(|| {
            let usual = RETRY_ON.iter().map(|(_, on)| *on);
            usual.filter(|on| *on != RetryOn::Status(429)).collect()
        }),
        backoff,
        max_backoff: max_backoff.unwrap_or(Duration::from_secs(1)).max(backoff),
        budget: budget.unwrap_or(20),
    })
}

/// `health`.
pub(super) fn health(node: &Node, d: &mut Diagnostics) -> Option<Health> {
    const LATE: RangeInclusive<Duration> = LEAST..=MINUTE;
    let mut table = Table::of(node, "`{ path: /healthz }`", d)?;
    let path = table.required("path", "say what is asked for: `path: /healthz`", d, asked);
    let every = table.optional("every", d, |node, d| duration(node, WINDOW, d));
    let timeout = table.optional("timeout", d, |node, d| duration(node, LATE, d));
    let healthy = table.optional("healthy", d, |node, d| count(node, 1..=100, d));
    let unhealthy = table.optional("unhealthy", d, |node, d| count(node, 1..=100, d));
    let status = table.optional("status", d, statuses);
    let credential = table.optional("credential", d, boolean);
    table.finish(d);
    Some(Health {
        path: path?,
        every: every.unwrap_or(Duration::from_secs(10)),
        timeout: timeout.unwrap_or(Duration::from_secs(2)),
        healthy: healthy.unwrap_or(2),
        unhealthy: unhealthy.unwrap_or(3),
        status: status.unwrap_or(200..=399),
        credential: credential.unwrap_or(false),
    })
}

/// A path of a request, which may have a query.
fn asked(node: &Node, d: &mut Diagnostics) -> Option<String> {
    let path = token(node, "a path", d)?;
    let is_plain = path
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !path.starts_with('/') || !is_plain {
        d.error(&node.span, "this is no path that can be asked for")
            .help("write it as it is sent, with a `/` in front: `/healthz`");
        return None;
    }
    Some(path)
}

/// `coldStart`.
pub(super) fn cold_start(node: &Node, d: &mut Diagnostics) -> Option<Duration> {
    duration(node, Duration::from_secs(1)..=Duration::from_mins(10), d)
}

/// `failureStatuses`.
pub(super) fn failure_statuses(node: &Node, d: &mut Diagnostics) -> Option<Vec<u16>> {
    let decode = |node: &Node, d: &mut Diagnostics| count(node, 400..=599, d);
    let statuses = list(node, "leave the key out instead", d, spanned(decode))?;
    warn_of_repeats(&statuses, d);
    let statuses = statuses
        .into_iter()
        .map(|status: Spanned<u16>| status.value);
    Some(statuses.collect())
}

/// A part, from 1 to 100 per cent.
fn percent(node: &Node, d: &mut Diagnostics) -> Option<u32> {
    let text = scalar(node, "a part such as `50%`", d)?;
    let part = match with_unit(text) {
        Some((part @ 1..=100, "%")) => u32::try_from(part).ok(),
        _ => None,
    };
    if part.is_none() {
        d.error(&node.span, "this is not a part of a hundred")
            .help("write `50%`, from `1%` to `100%`");
    }
    part
}

/// One status, or a range of them.
fn statuses(node: &Node, d: &mut Diagnostics) -> Option<RangeInclusive<u16>> {
    let text = scalar(node, "statuses such as `200-399`", d)?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let read = |text: &str| {
        let is_plain = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>()
            .ok()
            .filter(|status| is_plain && (100..=599).contains(status))
    };
    let range = read(first)
        .zip(read(last))
        .filter(|(first, last)| first <= last);
    if range.is_none() {
        d.error(&node.span, "this is neither a status nor a range of them")
            .help("write `200`, or `200-399`");
    }
    range.map(|(first, last)| first..=last)
}
