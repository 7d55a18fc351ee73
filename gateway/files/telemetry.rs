//! `telemetry` of gateway.yaml: what the gateway tells of itself, and to whom.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, Uri};

use super::decode::{Table, expected, list, spanned};
use super::diagnostics::Diagnostics;
use super::gateway::{DAY, HOUR, LEAST, SECOND};
use super::node::{Node, Value};
use super::secret::{SecretSource, secret_source};
use super::source::Spanned;
use super::values::{
    boolean, choice, count, duration, is_loopback, path, size, text, url_of_any_host,
};

/// `telemetry`.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// `serviceName`: what the gateway is called in traces, metrics and logs. Default `OTEL_SERVICE_NAME`, or else
    /// `portcullis`.
    pub service_name: Option<String>,
    /// `resource`: what else is said of it, beside what `OTEL_RESOURCE_ATTRIBUTES` says.
    pub resource: Vec<(String, String)>,
    /// A line per request.
    pub request_log: RequestLog,
    /// A line per decision, with what it was made by. None where it is absent.
    pub decision_log: Option<DecisionLog>,
    /// `fingerprintKey`: what fingerprints of keys in callers' URLs, and hashes of callers, are made with. A random key
    /// of the process where it is absent.
    pub fingerprint_key: Option<Spanned<SecretSource>>,
    /// `privacy`: whether callers' addresses and principals are told by their hashes alone. Default no.
    pub hashes_callers: bool,
    /// Which traces are recorded.
    pub traces: Traces,
    /// `metricsInterval`: how often metrics are sent. Default 1 min.
    pub metrics_interval: Duration,
    /// Where traces, metrics and logs are sent over OTLP; nowhere if it is absent.
    pub otlp: Option<Otlp>,
    /// Where they are sent in Azure Monitor's own way; nowhere if it is absent.
    pub azure_monitor: Option<AzureMonitor>,
}

/// How requests are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogForm {
    /// A JSON object a line.
    Json,
    /// A line for people.
    Human,
    /// None.
    Off,
}

/// `telemetry.requestLog`.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestLog {
    /// Its form. Default JSON.
    pub form: LogForm,
    /// Where it goes.
    pub to: LogTarget,
}

/// `telemetry.decisionLog`.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionLog {
    /// Where it goes.
    pub to: LogTarget,
    /// Whether requests wait when too many decisions are not written yet. Default: those beyond are dropped.
    pub blocks: bool,
}

/// Where a log goes.
#[derive(Clone, Debug, PartialEq)]
pub struct LogTarget {
    /// The file; standard output where it is absent.
    pub path: Option<Spanned<PathBuf>>,
    /// When the file is put aside: bytes, and how many of those are kept. Never where it is absent.
    pub rotate: Option<(u64, u32)>,
    /// How late at most a line is on the disk; when the kernel sees fit where it is absent.
    pub sync_within: Option<Duration>,
}

/// What a caller's trace counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceParent {
    /// It is continued, and recorded if the caller says so.
    Follow,
    /// It is continued, and recorded by the gateway's own ratio.
    Continue,
    /// For nothing.
    Restart,
}

/// `telemetry.traces`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traces {
    /// The part of traces that begin here which is recorded, 0 to 1. Default 1.
    pub ratio: f64,
    /// Default: followed.
    pub parent: TraceParent,
}

/// Which decisions are sent, each as a record of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentDecisions {
    /// All.
    All,
    /// Refusals.
    Denied,
    /// None.
    None,
}

/// How OTLP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// `http/protobuf`.
    Http,
    /// `grpc`.
    Grpc,
}

/// `telemetry.otlp`.
#[derive(Clone, Debug, PartialEq)]
pub struct Otlp {
    /// The collector.
    pub endpoint: Spanned<Uri>,
    /// Default HTTP.
    pub protocol: OtlpProtocol,
    /// Fields of each request.
    pub headers: Vec<(HeaderName, Spanned<SecretSource>)>,
    /// A PEM file of roots to trust, instead of the platform's.
    pub ca: Option<Spanned<PathBuf>>,
    /// Whether plain http may go to other machines.
    pub insecure: bool,
    /// Whether requests are compressed by gzip. Default no.
    pub gzip: bool,
    /// Longest time for one request. Default 10 s.
    pub timeout: Duration,
    /// What is sent. Default all.
    pub signals: Vec<Signal>,
    /// Whether sums are told since they were told before. Default: since the start.
    pub delta: bool,
    /// Default refusals.
    pub decisions: SentDecisions,
}

/// What is sent over OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Metrics.
    Metrics,
    /// Decisions and events.
    Logs,
}

impl Signal {
    const NAMES: [(&'static str, Self); 3] = [
        ("traces", Self::Traces),
        ("metrics", Self::Metrics),
        ("logs", Self::Logs),
    ];
}

/// `telemetry.azureMonitor`.
#[derive(Clone, Debug, PartialEq)]
pub struct AzureMonitor {
    /// Where the connection string is read.
    pub connection_string: Spanned<SecretSource>,
    /// Default refusals.
    pub decisions: SentDecisions,
}

/// Least size of a file that is put aside.
const SMALLEST_FILE: u64 = 64 << 10;

/// Takes `telemetry` apart.
pub(super) fn telemetry(mut table: Table<'_>, d: &mut Diagnostics) -> Option<Telemetry> {
    let service_name = table.optional("serviceName", d, |n, d| text(n, "a name", d));
    let resource = table.optional("resource", d, resource);
    let request_log = table.optional("requestLog", d, request_log);
    let decision_log = table.optional("decisionLog", d, decision_log);
    let fingerprint_key = table.optional("fingerprintKey", d, spanned(secret_source));
    let privacy = [("plain", false), ("hash", true)];
    let hashes_callers = table.optional("privacy", d, |n, d| choice(n, &privacy, d));
    let traces = traces(table.section("traces", d), d);
    let metrics_interval =
        table.optional("metricsInterval", d, |n, d| duration(n, SECOND..=HOUR, d));
    let otlp = table.optional("otlp", d, otlp);
    let azure_monitor = table.optional("azureMonitor", d, azure_monitor);
    table.finish(d);
    refuse_one_file(request_log.as_ref(), decision_log.as_ref(), d);
    Some(Telemetry {
        service_name,
        resource: resource.unwrap_or_default(),
        request_log: request_log.unwrap_or(RequestLog {
            form: LogForm::Json,
            to: LogTarget::STDOUT,
        }),
        decision_log,
        fingerprint_key,
        hashes_callers: hashes_callers.unwrap_or(false),
        traces,
        metrics_interval: metrics_interval.unwrap_or(60 * SECOND),
        otlp,
        azure_monitor,
    })
}

/// Lines of two logs in one file would be put aside under each other's hands.
fn refuse_one_file(
    requests: Option<&RequestLog>,
    decisions: Option<&DecisionLog>,
    d: &mut Diagnostics,
) {
    let requests = requests.and_then(|log| log.to.path.as_ref());
    let decisions = decisions.and_then(|log| log.to.path.as_ref());
    let parts = |path: &Path| -> Vec<PathBuf> {
        let parts = path.components().filter(|part| *part != Component::CurDir);
        parts.map(|part| PathBuf::from(part.as_os_str())).collect()
    };
    if let (Some(one), Some(other)) = (requests, decisions)
        && parts(&one.value) == parts(&other.value)
    {
        d.error(&other.span, "two logs cannot go to one file")
            .also(&one.span, "the request log goes there");
    }
}

fn resource(node: &Node, d: &mut Diagnostics) -> Option<Vec<(String, String)>> {
    let Value::Mapping(entries) = &node.value else {
        expected(
            node,
            "names and values: `{ deployment.environment.name: production }`",
            d,
        );
        return None;
    };
    let mut attributes = Vec::new();
    for entry in entries {
        let value = text(&entry.value, "a text", d)?;
        attributes.push((entry.key.clone(), value));
    }
    Some(attributes)
}

const FORMS: [(&str, LogForm); 3] = [
    ("json", LogForm::Json),
    ("human", LogForm::Human),
    ("off", LogForm::Off),
];

impl LogTarget {
    const STDOUT: Self = Self {
        path: None,
        rotate: None,
        sync_within: None,
    };
}

fn request_log(node: &Node, d: &mut Diagnostics) -> Option<RequestLog> {
    if let Value::Plain(_) | Value::Quoted(_) = node.value {
        let form = choice(node, &FORMS, d)?;
        return Some(RequestLog {
            form,
            to: LogTarget::STDOUT,
        });
    }
    let mut table = Table::of(node, "`json`, `human`, `off`, or `{ path: .. }`", d)?;
    let form = table.optional("form", d, |node, d| {
        choice(node, FORMS.get(..2).unwrap_or_default(), d)
    });
    let help = "name the file to append to; for standard output write `requestLog: json`";
    let path = table.required("path", help, d, spanned(path));
    let to = log_target(table, path.map(Some), d);
    Some(RequestLog {
        form: form.unwrap_or(LogForm::Json),
        to: to?,
    })
}

fn decision_log(node: &Node, d: &mut Diagnostics) -> Option<DecisionLog> {
    let choices = [("drop", false), ("block", true)];
    if let Value::Plain(_) | Value::Quoted(_) = node.value {
        return choice(node, &[("stdout", ())], d).map(|()| DecisionLog {
            to: LogTarget::STDOUT,
            blocks: false,
        });
    }
    let mut table = Table::of(node, "`stdout`, or `{ path: .. }`", d)?;
    let blocks = table.optional("whenFull", d, |node, d| choice(node, &choices, d));
    let help = "name the file to append to; for standard output write `path: stdout`";
    let path = table.required("path", help, d, |node, d| match &node.value {
        Value::Plain(word) if word == "stdout" => Some(None),
        _ => spanned(path)(node, d).map(Some),
    });
    let to = log_target(table, path, d);
    Some(DecisionLog {
        to: to?,
        blocks: blocks.unwrap_or(false),
    })
}

fn log_target(
    mut table: Table<'_>,
    path: Option<Option<Spanned<PathBuf>>>,
    d: &mut Diagnostics,
) -> Option<LogTarget> {
    let rotate = table.entry("rotate").map(|entry| &entry.span).cloned();
    if let (Some(Some(None)), Some(rotate)) = (Some(&path), rotate) {
        d.error(&rotate, "standard output is nothing that can be put aside")
            .help("name a file, or leave the key out");
    }
    let rotate = table.optional("rotate", d, |node, d| {
        let mut table = Table::of(node, "`{ size: 100MiB, keep: 10 }`", d)?;
        let size = table.required("size", "write `size: 100MiB`", d, |n, d| {
            size(n, SMALLEST_FILE..=64 << 30, d)
        });
        let keep = table.optional("keep", d, |n, d| count(n, 0..=1000, d));
        table.finish(d);
        Some((size? as u64, keep.unwrap_or(10)))
    });
    let sync_within = table.optional("syncWithin", d, |n, d| duration(n, LEAST..=DAY, d));
    table.finish(d);
    Some(LogTarget {
        path: path?,
        rotate,
        sync_within,
    })
}

fn traces(mut table: Table<'_>, d: &mut Diagnostics) -> Traces {
    let ratio = table.optional("ratio", d, ratio);
    let choices = [
        ("follow", TraceParent::Follow),
        ("continue", TraceParent::Continue),
        ("restart", TraceParent::Restart),
    ];
    let parent = table.optional("parent", d, |node, d| choice(node, &choices, d));
    table.finish(d);
    Traces {
        ratio: ratio.unwrap_or(1.0),
        parent: parent.unwrap_or(TraceParent::Follow),
    }
}

fn ratio(node: &Node, d: &mut Diagnostics) -> Option<f64> {
    let written = match &node.value {
        Value::Plain(text) => text.parse::<f64>().ok(),
        _ => None,
    };
    match written {
        Some(ratio) if (0.0..=1.0).contains(&ratio) => return written,
        Some(_) => {
            d.error(&node.span, "this is out of bounds: from 0 to 1");
        }
        None => {
            expected(node, "a number from 0 to 1, such as `0.1`", d);
        }
    }
    None
}

const DECISIONS: [(&str, SentDecisions); 3] = [
    ("all", SentDecisions::All),
    ("denied", SentDecisions::Denied),
    ("none", SentDecisions::None),
];

fn otlp(node: &Node, d: &mut Diagnostics) -> Option<Otlp> {
    let mut table = Table::of(node, "`{ endpoint: http://localhost:4318 }`", d)?;
    let help = "write the collector's URL: `endpoint: http://localhost:4318`";
    let endpoint = table.required("endpoint", help, d, spanned(url_of_any_host));
    let protocols = [
        ("http/protobuf", OtlpProtocol::Http),
        ("grpc", OtlpProtocol::Grpc),
    ];
    let protocol = table.optional("protocol", d, |node, d| choice(node, &protocols, d));
    let headers = table.optional("headers", d, headers);
    let ca = table.optional("ca", d, spanned(path));
    let insecure = table.optional("insecure", d, boolean);
    let compressions = [("none", false), ("gzip", true)];
    let gzip = table.optional("compression", d, |node, d| choice(node, &compressions, d));
    let timeout = table.optional("timeout", d, |n, d| duration(n, LEAST..=60 * SECOND, d));
    let signals = table.optional("signals", d, |node, d| {
        let help = "leave the key out, and all three are sent";
        list(node, help, d, |node, d| choice(node, &Signal::NAMES, d))
    });
    let temporalities = [("cumulative", false), ("delta", true)];
    let delta = table.optional("temporality", d, |node, d| choice(node, &temporalities, d));
    let decisions = table.optional("decisions", d, |node, d| choice(node, &DECISIONS, d));
    table.finish(d);
    let (endpoint, insecure) = (endpoint?, insecure.unwrap_or(false));
    if !insecure && is_plain(&endpoint.value) && !is_here(&endpoint.value) {
        d.error(&endpoint.span, "plain `http` is for this machine alone")
            .help("write `https://`; or `insecure: true` where whoever is on the way may read who calls what");
    }
    let path = endpoint.value.path();
    let is_whole = ["/v1/traces", "/v1/metrics", "/v1/logs"]
        .iter()
        .any(|signal| path.ends_with(signal));
    if is_whole || endpoint.value.query().is_some() {
        d.error(
            &endpoint.span,
            "this is not the base of a collector's URLs",
        )
        .help("leave out `/v1/traces` and its kin, which are put behind it, and any query; what a query would say, `headers` can");
    }
    Some(Otlp {
        endpoint,
        protocol: protocol.unwrap_or(OtlpProtocol::Http),
        headers: headers.unwrap_or_default(),
        ca,
        insecure,
        gzip: gzip.unwrap_or(false),
        timeout: timeout.unwrap_or(10 * SECOND),
        signals: signals.unwrap_or_else(|| Signal::NAMES.map(|(_, signal)| signal).into()),
        delta: delta.unwrap_or(false),
        decisions: decisions.unwrap_or(SentDecisions::Denied),
    })
}

fn is_plain(url: &Uri) -> bool {
    url.scheme_str() == Some("http")
}

fn is_here(url: &Uri) -> bool {
    url.host().is_some_and(is_loopback)
}

/// Fields that say how a message is framed, and what it holds.
const OWN: [&str; 10] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "grpc-encoding",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
];

type Headers = Vec<(HeaderName, Spanned<SecretSource>)>;

fn headers(node: &Node, d: &mut Diagnostics) -> Option<Headers> {
    let Value::Mapping(entries) = &node.value else {
        expected(
            node,
            "names of fields and where their values are read: `{ api-key: { env: API_KEY } }`",
            d,
        );
        return None;
    };
    let mut headers = Vec::new();
    for entry in entries {
        let value = spanned(secret_source)(&entry.value, d)?;
        match HeaderName::from_bytes(entry.key.as_bytes()) {
            Ok(name) if OWN.contains(&name.as_str()) => {
                d.error(&entry.span, "this field is the gateway's own to write");
                return None;
            }
            Ok(name) => headers.push((name, value)),
            Err(_) => {
                d.error(&entry.span, "this is no name of a header field");
                return None;
            }
        }
    }
    Some(headers)
}

fn azure_monitor(node: &Node, d: &mut Diagnostics) -> Option<AzureMonitor> {
    let like = "`{ connectionString: { env: APPLICATIONINSIGHTS_CONNECTION_STRING } }`";
    let mut table = Table::of(node, like, d)?;
    let help =
        "say where it is read: `connectionString: { env: APPLICATIONINSIGHTS_CONNECTION_STRING }`";
    let connection_string = table.required("connectionString", help, d, spanned(secret_source));
    let decisions = table.optional("decisions", d, |node, d| choice(node, &DECISIONS, d));
    table.finish(d);
    Some(AzureMonitor {
        connection_string: connection_string?,
        decisions: decisions.unwrap_or(SentDecisions::Denied),
    })
}
