//! Backends as they are written: what is called, how, and with which credential.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::credential::{Credential, credential};
use super::decode::{Table, list, spanned, warn_of_repeats};
use super::diagnostics::Diagnostics;
use super::limit::{Concurrency, shared_concurrency};
use super::node::{Entry, Node, Value};
use super::resilience::{
    Breaker, Ejection, FAILURES, Health, MOMENT, Retry, breaker, cold_start, ejection,
    failure_statuses, health, retry,
};
use super::secret::literal_secret;
use super::source::{Span, Spanned};
use super::values::{choice, duration, path, url};

/// What a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// An Azure Functions app.
    Function,
    /// The trigger of a Logic App: its URL is called as it stands.
    LogicApp,
    /// Anything else that speaks HTTP.
    Http,
}

const KINDS: [(&str, BackendKind); 3] = [
    ("function", BackendKind::Function),
    ("logicApp", BackendKind::LogicApp),
    ("http", BackendKind::Http),
];

impl BackendKind {
    /// The longest wait for the first byte of an answer, where the file says none: a Logic App is
    /// cut off after 120 s, a Function after 230 s, of which 5 s are left to the gateway's side.
    const fn first_byte(self) -> Duration {
        Duration::from_secs(match self {
            Self::Function => 225,
            Self::LogicApp => 120,
            Self::Http => 100,
        })
    }
}

/// The protocol that a backend is spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
}

/// How long the gateway waits for a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection: DNS and TCP. Default 5 s.
    pub connect: Duration,
    /// For the TLS handshake on it. Default 5 s.
    pub tls: Duration,
    /// From the end of the request to the first byte of the answer. Default by kind: 100 s for
    /// `http`, 225 s for `function`, 120 s for `logicApp`.
    pub first_byte: Duration,
    /// Between two bytes of the answer. Default 60 s.
    pub idle: Duration,
    /// From sending to the last byte of the answer, all attempts together. Default: no limit.
    pub total: Option<Duration>,
}

/// What of a backend's times is otherwise on a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteTimeouts {
    /// As [`Timeouts::first_byte`].
    pub first_byte: Option<Duration>,
    /// As [`Timeouts::idle`].
    pub idle: Option<Duration>,
    /// As [`Timeouts::total`].
    pub total: Option<Duration>,
}

/// A backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// What it is.
    pub kind: BackendKind,
    /// Where it is: `https`, or `http` on this machine. Only a Logic App's has a query, which is
    /// `api-version` alone. The first of several.
    pub url: Spanned<Uri>,
    /// The others: endpoints that do the same, with the same scheme and path.
    pub others: Vec<Spanned<Uri>>,
    /// What the gateway presents to it.
    pub credential: Spanned<Credential>,
    /// A PEM file of roots to trust for it, instead of the platform's.
    pub ca: Option<Spanned<PathBuf>>,
    /// The protocol. Default HTTP/1.1.
    pub protocol: Protocol,
    /// How long to wait for it.
    pub timeouts: Timeouts,
    /// How many requests are under way to it at once.
    pub concurrency: Option<Spanned<Concurrency>>,
    /// Statuses that count as its failure, for `ejection` and `breaker`. Default 502, 503, 504.
    pub failure_statuses: Vec<u16>,
    /// When one of several endpoints is left out.
    pub ejection: Ejection,
    /// When nothing is sent any more. Default: never.
    pub breaker: Option<Breaker>,
    /// What is sent again. Default: what was never sent, on a kept connection that proved closed.
    pub retry: Option<Retry>,
    /// How its endpoints are asked whether they are well. Default: not at all.
    pub health: Option<Health>,
    /// How long a request waits while the backend starts. Default: not at all.
    pub cold_start: Option<Duration>,
}

impl Backend {
    /// Where it is: one URL or several.
    pub fn urls(&self) -> impl Iterator<Item = &Spanned<Uri>> {
        std::iter::once(&self.url).chain(&self.others)
    }

    /// The same backend at each of its URLs alone.
    pub fn at_each(&self) -> impl Iterator<Item = Self> {
        self.urls().map(|url| Self {
            url: url.clone(),
            others: Vec::new(),
            ..self.clone()
        })
    }
}

/// Takes a backend apart.
pub(super) fn backend(node: &Node, d: &mut Diagnostics) -> Option<Backend> {
    const PROTOCOLS: [(&str, Protocol); 2] =
        [("http1", Protocol::Http1), ("http2", Protocol::Http2)];
    let mut table = Table::of(
        node,
        "a backend with its kind, its URL and a `credential`",
        d,
    )?;
    let place = place(&mut table, d);
    let help = "say what the gateway presents to the backend; write `credential: none` if it really is to be called bare";
    let credential = table.required("credential", help, d, spanned(credential));
    let ca = table.optional("ca", d, spanned(path));
    let protocol = table.optional("protocol", d, |node, d| choice(node, &PROTOCOLS, d));
    let kind = place.as_ref().map_or(BackendKind::Http, |(kind, _)| *kind);
    let timeouts = timeouts(table.section("timeouts", d), kind, d);
    let concurrency = table.optional("concurrency", d, spanned(shared_concurrency));
    let failure_statuses = table.optional("failureStatuses", d, failure_statuses);
    let ejection = table.optional("ejection", d, spanned(ejection));
    let breaker = table.optional("breaker", d, breaker);
    let retry = table.optional("retry", d, retry);
    let health = table.optional("health", d, spanned(health));
    let cold_start = table.optional("coldStart", d, cold_start);
    table.finish(d);
    let (kind, urls) = place?;
    let mut urls = urls.into_iter();
    let url = urls.next()?;
    let others: Vec<_> = urls.collect();
    check_ejection(ejection.as_ref(), &others, d);
    check_health(health.as_ref(), kind, d);
    if let Some(written) = &credential
        && matches!(written.value, Credential::Sas { .. })
        && kind != BackendKind::LogicApp
    {
        d.error(
            &written.span,
            "only Logic Apps are called with a SAS signature",
        )
        .help("use `functionKey` for a Function, or `header`");
    }
    Some(Backend {
        kind,
        url,
        others,
        credential: credential?,
        ca,
        protocol: protocol.unwrap_or_default(),
        timeouts,
        concurrency,
        failure_statuses: failure_statuses.unwrap_or_else(|| FAILURES.to_vec()),
        ejection: ejection.map(|written| written.value).unwrap_or_default(),
        breaker,
        retry,
        health: health.map(|written| written.value),
        cold_start,
    })
}

fn check_ejection(
    ejection: Option<&Spanned<Ejection>>,
    others: &[Spanned<Uri>],
    d: &mut Diagnostics,
) {
    if let Some(ejection) = ejection
        && others.is_empty()
    {
        d.error(
            &ejection.span,
            "a backend with one URL has no other to go to instead",
        )
        .help("write several URLs, or `breaker` in place of `ejection`");
    }
}

fn check_health(health: Option<&Spanned<Health>>, kind: BackendKind, d: &mut Diagnostics) {
    if let Some(health) = health
        && kind == BackendKind::LogicApp
    {
        d.error(
            &health.span,
            "a Logic App cannot be asked whether it is well",
        )
        .help("its trigger is all that it has, and each call of it is a run; remove `health`");
    }
}

/// The one key that says what and where the backend is.
fn place(table: &mut Table<'_>, d: &mut Diagnostics) -> Option<(BackendKind, Urls)> {
    let written: Vec<(BackendKind, &Entry)> = KINDS
        .iter()
        .filter_map(|(key, kind)| Some((*kind, table.entry(key)?)))
        .collect();
    let read = |(kind, entry): &(BackendKind, &Entry), d: &mut Diagnostics| {
        Some((*kind, urls(&entry.value, *kind, d)?))
    };
    match written.as_slice() {
        [] => {
            d.error(table.title(), "this backend does not say where it is")
                .help("write `function:`, `logicApp:` or `http:` with its URL");
            None
        }
        [one] => read(one, d),
        [first, others @ ..] => {
            for (_, other) in others {
                d.error(&other.span, "a backend is one thing only")
                    .also(&first.1.span, "and this says already what it is")
                    .help("write two backends, each with a name of its own");
            }
            read(first, d)
        }
    }
}

/// At least one.
type Urls = Vec<Spanned<Uri>>;

/// One URL, or a list of them.
fn urls(node: &Node, kind: BackendKind, d: &mut Diagnostics) -> Option<Urls> {
    let decode = |node: &Node, d: &mut Diagnostics| backend_url(node, kind, d);
    if !matches!(node.value, Value::List(_)) {
        return spanned(decode)(node, d).map(|url| vec![url]);
    }
    if kind == BackendKind::LogicApp {
        d.error(&node.span, "a Logic App has one URL")
            .help("write a backend for each");
        return None;
    }
    let urls = list(node, "write at least one URL", d, spanned(decode))?;
    warn_of_repeats(&urls, d);
    let (first, others) = urls.split_first()?;
    for other in others
        .iter()
        .filter(|other| !is_alike(&first.value, &other.value))
    {
        d.error(
            &other.span,
            "the URLs of one backend differ in host and port alone",
        )
        .also(&first.span, "the first has another scheme or path")
        .help("a request may go to any of them; write two backends");
    }
    Some(urls)
}

fn is_alike(one: &Uri, other: &Uri) -> bool {
    one.scheme() == other.scheme()
        && one.path().trim_end_matches('/') == other.path().trim_end_matches('/')
}

fn backend_url(node: &Node, kind: BackendKind, d: &mut Diagnostics) -> Option<Uri> {
    let url = url(node, d)?;
    let query = url.query().unwrap_or_default();
    let names: Vec<String> = query.split(['&', ';']).map(parameter_name).collect();
    let mut of_segments = url.path().split(';').skip(1).map(parameter_name);
    let mut of_query = names.iter();
    if of_segments.any(|name| is_key_like(&name)) || of_query.any(|name| is_key_like(name)) {
        literal_secret(&node.span, d).help(
            "leave the signature or key out of the URL: the gateway calls with the `credential`",
        );
        return None;
    }
    match kind {
        _ if url.query().is_none() => Some(url),
        BackendKind::LogicApp if names.iter().eq(["api-version"]) => Some(url),
        BackendKind::LogicApp => refuse_query(
            &node.span,
            "the query of a Logic App's URL holds `api-version` and nothing else",
            d,
        ),
        BackendKind::Function | BackendKind::Http => {
            refuse_query(&node.span, "a backend's URL has no query (`?`) here", d)
        }
    }
}

fn refuse_query(span: &Span, message: &str, d: &mut Diagnostics) -> Option<Uri> {
    d.error(span, message)
        .help("remove the rest of it; the caller's own query is appended");
    None
}

/// The parameters of SAS URLs and of Functions' keys.
fn is_key_like(name: &str) -> bool {
    ["sig", "sp", "sv", "se", "code"].contains(&name)
}

/// A parameter's name, decoded and folded: a key is a key in any spelling.
fn parameter_name(parameter: &str) -> String {
    let name = parameter.split('=').next().unwrap_or_default();
    let mut decoded = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let byte = after
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, after.get(2..)) {
            (Some(byte), Some(after)) => {
                decoded.push(char::from(byte));
                rest = after;
            }
            _ => {
                decoded.push('%');
                rest = after;
            }
        }
    }
    decoded.push_str(rest);
    decoded.to_ascii_lowercase()
}

/// A time limit of a backend.
fn limit(table: &mut Table<'_>, key: &'static str, d: &mut Diagnostics) -> Option<Duration> {
    table.optional(key, d, |node, d| duration(node, MOMENT, d))
}

fn timeouts(mut table: Table<'_>, kind: BackendKind, d: &mut Diagnostics) -> Timeouts {
    const FIVE: Duration = Duration::from_secs(5);
    let connect = limit(&mut table, "connect", d);
    let tls = limit(&mut table, "tls", d);
    let RouteTimeouts {
        first_byte,
        idle,
        total,
    } = of_answers(&mut table, d);
    table.finish(d);
    Timeouts {
        connect: connect.unwrap_or(FIVE),
        tls: tls.unwrap_or(FIVE),
        first_byte: first_byte.unwrap_or(kind.first_byte()),
        idle: idle.unwrap_or(Duration::from_secs(60)),
        total,
    }
}

/// `timeouts` of a route. A connection is not a route's, so its times are the backend's alone.
pub(super) fn route_timeouts(mut table: Table<'_>, d: &mut Diagnostics) -> RouteTimeouts {
    let timeouts = of_answers(&mut table, d);
    table.finish(d);
    timeouts
}

fn of_answers(table: &mut Table<'_>, d: &mut Diagnostics) -> RouteTimeouts {
    RouteTimeouts {
        first_byte: limit(table, "firstByte", d),
        idle: limit(table, "idle", d),
        total: limit(table, "total", d),
    }
}

#[cfg(test)]
mod tests {
    use super::parameter_name;

    #[test]
    fn a_parameter_is_known_in_any_spelling() {
        for (written, name) in [
            ("sig=abc", "sig"),
            ("%73IG=abc", "sig"),
            ("s%69g", "sig"),
            ("a%zz=1", "a%zz"),
            ("a%", "a%"),
            ("%4", "%4"),
            ("", ""),
        ] {
            assert_eq!(parameter_name(written), name, "{written}");
        }
    }
}
