//! The report in words, as JSON and as Markdown.

use serde_json::{Value, json};

use super::Format;
use super::report::{Caller, Calls, Report, Seen, Traffic, Uses};
use crate::fingerprint::Fingerprint;
use crate::policy::Policy;
use crate::policy::told::table;

/// What apps are called.
pub(super) struct Names<'p>(&'p Policy);

impl<'p> Names<'p> {
    pub(super) const fn of(policy: &'p Policy) -> Self {
        Self(policy)
    }

    fn name(&self, app: Option<&str>) -> Option<&'p str> {
        let app = app?.parse().ok()?;
        self.0.names().apps().name(app).map(|name| &**name)
    }

    /// The name of an app, or its ID.
    fn shown(&self, app: Option<&str>) -> String {
        self.name(app).or(app).map_or_else(none, line)
    }
}

fn none() -> String {
    "none".to_owned()
}

/// What a caller or a log says stays in its line.
fn line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn route(route: Option<&str>) -> String {
    route.map_or_else(|| "no route".to_owned(), line)
}

fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// Everything that the logs show.
pub(super) fn report(report: &Report, names: &Names<'_>, format: Format) -> String {
    match format {
        Format::Json => format!("{:#}\n", json(report, names)),
        Format::Text => text(report, names, &PLAIN),
        Format::Markdown => text(report, names, &MARKDOWN),
    }
}

/// Who used one signature or key; the report holds its requests alone.
pub(super) fn trace(
    report: &Report,
    leaked: Fingerprint,
    names: &Names<'_>,
    format: Format,
) -> String {
    match format {
        Format::Json => format!("{:#}\n", trace_json(report, leaked, names)),
        Format::Text => trace_text(report, leaked, names, &PLAIN),
        Format::Markdown => trace_text(report, leaked, names, &MARKDOWN),
    }
}

/// How text is laid out.
struct Layout {
    table: fn(&[&str], &[Vec<String>]) -> String,
    /// A sentence of a list.
    item: fn(&str) -> String,
}

const PLAIN: Layout = Layout {
    table: table::plain,
    item: |sentence| format!("{sentence}\n"),
};

const MARKDOWN: Layout = Layout {
    table: table::markdown,
    item: |sentence| format!("- {}\n", table::escaped(sentence)),
};

const CALLERS: [&str; 9] = [
    "COUNT",
    "REFUSED",
    "ROUTE",
    "APP",
    "AGENT",
    "KEYS",
    "FINGERPRINTS",
    "FIRST",
    "LAST",
];

const FINGERPRINTS: [&str; 5] = ["FINGERPRINT", "COUNT", "ROUTES", "APPS", "LAST"];

fn text(report: &Report, names: &Names<'_>, layout: &Layout) -> String {
    let mut text = format!("{}\n", totals(report));
    text += &unread(report);
    text += &callers(report, names, layout);
    let rows = report.fingerprints();
    if !rows.is_empty() {
        let rows: Vec<_> = rows.into_iter().map(|row| uses(row, names)).collect();
        text += &format!("\n{}", (layout.table)(&FINGERPRINTS, &rows));
    }
    let routes = report.routes();
    if !routes.is_empty() {
        text.push('\n');
    }
    for (name, traffic) in routes {
        text += &(layout.item)(&sentence(name, traffic));
    }
    text
}

fn totals(report: &Report) -> String {
    let mut text = format!(
        "{}, {} with a key in the URL ({} refused for it), {}",
        counted(report.requests, "request"),
        report.with_keys(),
        report.refused(),
        counted(report.fingerprints().len() as u64, "different key"),
    );
    if report.without_fingerprint > 0 {
        let count = report.without_fingerprint;
        text += &format!(" and {} without a fingerprint", counted(count, "request"));
    }
    text
}

/// What could not be read.
fn unread(report: &Report) -> String {
    let mut text = String::new();
    for (count, what) in [
        (report.unreadable, "torn or no decision"),
        (
            report.unknown_version,
            "of a version that this one does not know",
        ),
    ] {
        if count > 0 {
            text += &format!("{} not read: {what}\n", counted(count, "line"));
        }
    }
    text
}

fn callers(report: &Report, names: &Names<'_>, layout: &Layout) -> String {
    let callers = report.callers();
    if callers.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = callers.into_iter().map(|row| calls(row, names)).collect();
    format!("\n{}", (layout.table)(&CALLERS, &rows))
}

fn calls((caller, calls): (&Caller, &Calls), names: &Names<'_>) -> Vec<String> {
    let keys: Vec<String> = calls.keys.iter().map(|key| line(key)).collect();
    vec![
        calls.count.to_string(),
        calls.refused.to_string(),
        route(caller.route.as_deref()),
        names.shown(caller.app.as_deref()),
        caller.agent.as_deref().map_or_else(none, line),
        keys.join(", "),
        calls.fingerprints.len().to_string(),
        line(&calls.seen.first),
        line(&calls.seen.last),
    ]
}

fn uses((fingerprint, uses): (&Fingerprint, &Uses), names: &Names<'_>) -> Vec<String> {
    let routes = uses.routes.iter().map(|name| route(name.as_deref()));
    let apps = uses.apps.iter().map(|app| names.shown(app.as_deref()));
    vec![
        fingerprint.to_string(),
        uses.count.to_string(),
        routes.collect::<Vec<_>>().join(", "),
        apps.collect::<Vec<_>>().join(", "),
        line(&uses.seen.last),
    ]
}

/// What the log shows of a route, and no more: who has not called yet may still hold a key.
fn sentence(name: &str, traffic: &Traffic) -> String {
    let name = line(name);
    let requests = counted(traffic.requests, "request");
    if traffic.with_keys == 0 {
        let Seen { first, last } = &traffic.seen;
        return format!("{name}: {requests} from {first} to {last}, none with a key");
    }
    let with = traffic.with_keys;
    let last = &traffic.seen_with_key.last;
    let clean = traffic.clean_since().map(|_| {
        let until = &traffic.seen.last;
        format!("; clean since then, until {until}")
    });
    format!(
        "{name}: {requests}, {with} with a key, the last at {last}{}",
        clean.unwrap_or_default()
    )
}

fn json(report: &Report, names: &Names<'_>) -> Value {
    let callers = report.callers().into_iter();
    let fingerprints = report.fingerprints().into_iter();
    let routes = report.routes().into_iter();
    json!({
        "requests": report.requests,
        "withKeys": report.with_keys(),
        "refused": report.refused(),
        "withoutFingerprint": report.without_fingerprint,
        "unreadable": report.unreadable,
        "unknownVersion": report.unknown_version,
        "callers": callers.map(|row| calls_json(row, names)).collect::<Vec<_>>(),
        "fingerprints": fingerprints.map(|row| uses_json(row, names)).collect::<Vec<_>>(),
        "routes": routes.map(traffic_json).collect::<Vec<_>>(),
    })
}

fn app_json(app: Option<&str>, names: &Names<'_>) -> Value {
    app.map_or(
        Value::Null,
        |id| json!({ "id": id, "name": names.name(app) }),
    )
}

fn calls_json((caller, calls): (&Caller, &Calls), names: &Names<'_>) -> Value {
    json!({
        "route": caller.route,
        "app": app_json(caller.app.as_deref(), names),
        "agent": caller.agent,
        "count": calls.count,
        "refused": calls.refused,
        "keys": calls.keys,
        "fingerprints": calls.fingerprints.len(),
        "first": calls.seen.first,
        "last": calls.seen.last,
    })
}

fn uses_json((fingerprint, uses): (&Fingerprint, &Uses), names: &Names<'_>) -> Value {
    let apps = uses.apps.iter();
    let apps: Vec<Value> = apps.map(|app| app_json(app.as_deref(), names)).collect();
    json!({
        "fingerprint": fingerprint.to_string(),
        "count": uses.count,
        "routes": uses.routes,
        "apps": apps,
        "last": uses.seen.last,
    })
}

fn traffic_json((name, traffic): (&String, &Traffic)) -> Value {
    let last_with_key = &traffic.seen_with_key.last;
    json!({
        "route": name,
        "requests": traffic.requests,
        "withKeys": traffic.with_keys,
        "first": traffic.seen.first,
        "last": traffic.seen.last,
        "lastWithKey": (!last_with_key.is_empty()).then_some(last_with_key),
        "cleanSince": traffic.clean_since(),
    })
}

fn trace_text(report: &Report, leaked: Fingerprint, names: &Names<'_>, layout: &Layout) -> String {
    let mut text = format!("fingerprint {leaked}: ");
    text += &match report.requests {
        0 => "no request brought it, unless the gateway had another fingerprint key then\n"
            .to_owned(),
        count => format!(
            "{}, {} refused for it\n",
            counted(count, "request"),
            report.refused()
        ),
    };
    text + &unread(report) + &callers(report, names, layout)
}

fn trace_json(report: &Report, leaked: Fingerprint, names: &Names<'_>) -> Value {
    let callers = report.callers().into_iter();
    json!({
        "fingerprint": leaked.to_string(),
        "requests": report.requests,
        "refused": report.refused(),
        "unreadable": report.unreadable,
        "unknownVersion": report.unknown_version,
        "callers": callers.map(|row| calls_json(row, names)).collect::<Vec<_>>(),
    })
}
