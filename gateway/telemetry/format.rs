//! A record as a line: JSON for machines, or one that a person reads.

use std::fmt::Write as _;

use serde::Serialize;

use super::event::timestamp;
use super::json::{Object, Times};
use super::record::{Disagreement, Outcome, Record, shortened};
use super::stencil::Stencil;
use super::words::{Fixed, Loose, Words};
use crate::policy::Rehearsed;

/// What would have been done instead, had what only reports been in force.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Instead<'r> {
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_name: Option<&'r str>,
}

impl<'r> Instead<'r> {
    pub(super) fn rehearsed(rehearsed: &Rehearsed) -> Self {
        let (decision, reason, rule) = match rehearsed {
            Rehearsed::Denial(reason, rule) => ("deny", Some(reason.code()), *rule),
            Rehearsed::Allow(rule) => ("allow", None, Some(*rule)),
        };
        Self {
            decision,
            reason,
            route: None,
            rule: rule.map(|rule| rule.to_string()),
            app: None,
            app_name: None,
        }
    }

    pub(super) fn candidate(other: &'r Disagreement) -> Self {
        Self {
            decision: other.decision(),
            reason: other.denial.map(|reason| reason.code()),
            route: other.route.as_deref(),
            rule: other.rule.map(|rule| rule.to_string()),
            app: other.app.map(|app| app.to_string()),
            app_name: other.app_name.as_deref(),
        }
    }
}

/// Writes a record as one line of JSON.
pub fn request_line(record: &Record, times: &mut Times, out: &mut Vec<u8>) {
    json(record).stamp(&Words::of(record, times), out);
}

/// The line of JSON for all records like this one.
pub(super) fn json(record: &Record) -> Stencil {
    let mut stencil = Stencil::default();
    let mut line = Object::open(&mut stencil);
    line.fixed("time", Fixed::Arrived);
    line.fixed("id", Fixed::Id);
    if record.trace.is_some() {
        line.fixed("trace", Fixed::Trace);
    }
    line.loose("client", Loose::Client);
    line.text("method", shortened(record.method.as_str()));
    line.text("host", &record.host);
    line.loose("path", Loose::ShownPath);
    line.plain("protocol", protocol(record.version));
    let optional = |line: &mut Object<'_>, name, value: Option<&str>| {
        if let Some(value) = value {
            line.text(name, value);
        }
    };
    optional(&mut line, "route", record.route.as_deref());
    line.plain("decision", record.outcome.decision());
    line.plain("reason", record.outcome.reason());
    if let Some(rule) = record.rule {
        line.shown("rule", rule);
    }
    if let Some(rehearsed) = &record.rehearsed {
        line.value("reportOnly", &Instead::rehearsed(rehearsed));
    }
    if let Some(other) = &record.candidate {
        line.value("candidate", &Instead::candidate(other));
    }
    if let Some(principal) = record.principal.as_deref() {
        line.shown("tenant", principal.tenant());
        optional(&mut line, "tenantName", record.tenant_name.as_deref());
        line.shown("app", principal.app());
        optional(&mut line, "appName", record.app_name.as_deref());
        if let Some(object) = record.object() {
            line.shown("principal", object);
        }
        line.plain("tokenKind", principal.kind().as_str());
        line.plain("tokenVersion", principal.version().name());
    }
    if let Some(note) = record.note() {
        line.text("expected", &note.expected);
        line.text("got", &note.got);
    }
    let limit = match record.limited {
        true => "limit",
        false => "reportOnlyLimit",
    };
    optional(&mut line, limit, record.limit.as_deref());
    if record.has_keys() {
        line.texts("keysStripped", record.keys());
    }
    if let Some(first) = record.followed.as_deref() {
        line.text("followed", &first.path);
    }
    for (name, count) in [
        ("sealed", record.caught.sealed),
        ("withheld", record.caught.withheld),
    ] {
        if count > 0 {
            line.number(name, count.into());
        }
    }
    optional(&mut line, "backend", record.backend.as_deref());
    if record.attempts > 0 {
        line.number("attempts", record.attempts.into());
    }
    line.number("status", record.status.as_u16().into());
    line.loose("sentBytes", Loose::Sent);
    line.flag("complete", record.complete);
    line.loose("durationMs", Loose::DurationMillis);
    if record.upstream.is_some() {
        line.loose("upstreamMs", Loose::UpstreamMillis);
    }
    line.close();
    stencil.text().push(b'\n');
    stencil
}

/// Writes a record as one line for people.
pub(super) fn human(record: &Record, out: &mut Vec<u8>) {
    let mut line = format!(
        "{} {:<5} {} {}{} {} {:.2} ms reason={}",
        timestamp(record.arrived.unix),
        record.outcome.decision(),
        record.method,
        record.host,
        shortened(&record.path),
        record.status.as_u16(),
        milliseconds(record.duration),
        record.outcome.reason(),
    );
    let mut add = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            let _ = write!(line, " {name}={value}");
        }
    };
    add("route", record.route.as_deref());
    add("tenant", record.tenant_name.as_deref());
    add("app", record.app_name.as_deref());
    match &record.rehearsed {
        Some(Rehearsed::Denial(reason, _)) => {
            let _ = write!(line, " would-deny={reason}");
        }
        Some(Rehearsed::Allow(rule)) => {
            let _ = write!(line, " would-allow={rule}");
        }
        None => {}
    }
    if let Some(other) = &record.candidate {
        let reason = other.denial.map_or("", |reason| reason.code());
        let _ = write!(line, " candidate={}", other.decision());
        if !reason.is_empty() {
            let _ = write!(line, ":{reason}");
        }
    }
    if let Some(note) = record.note() {
        // Escaped: what came is the caller's own, and must not pass for a field of ours.
        let _ = write!(line, " expected={:?} got={:?}", note.expected, note.got);
    }
    if let Some(limit) = &record.limit {
        let name = match record.limited {
            true => "limit",
            false => "would-limit",
        };
        let _ = write!(line, " {name}={limit}");
    }
    let keys: Vec<_> = record.keys().collect();
    if !keys.is_empty() {
        let _ = write!(line, " stripped={}", keys.join(","));
    }
    if record.followed.is_some() {
        line.push_str(" followed");
    }
    for (name, count) in [
        ("sealed", record.caught.sealed),
        ("withheld", record.caught.withheld),
    ] {
        if count > 0 {
            let _ = write!(line, " {name}={count}");
        }
    }
    if !record.complete && !matches!(record.outcome, Outcome::Denied(_)) {
        line.push_str(" incomplete");
    }
    let _ = write!(line, " id={}", record.id);
    out.extend_from_slice(line.as_bytes());
    out.push(b'\n');
}

pub(super) fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_2 => "HTTP/2",
        http::Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

fn milliseconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
