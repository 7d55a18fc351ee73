//! A record as a line: JSON for machines, or one that a person reads.

use std::fmt::Write as _;

use serde::Serialize;

use super::event::timestamp;
use super::record::{Disagreement, Outcome, Record, shortened};
use crate::policy::Rehearsed;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'r> {
    time: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    client: String,
    method: &'r str,
    host: &'r str,
    path: &'r str,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'r str>,
    decision: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report_only: Option<Instead<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate: Option<Instead<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_name: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_name: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    got: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report_only_limit: Option<&'r str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys_stripped: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    followed: Option<&'r str>,
    #[serde(skip_serializing_if = "is_none_of_them")]
    sealed: u32,
    #[serde(skip_serializing_if = "is_none_of_them")]
    withheld: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'r str>,
    #[serde(skip_serializing_if = "is_none_of_them")]
    attempts: u32,
    status: u16,
    sent_bytes: u64,
    complete: bool,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_ms: Option<f64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none_of_them(count: &u32) -> bool {
    *count == 0
}

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

impl<'r> Line<'r> {
    fn of(record: &'r Record) -> Self {
        let principal = record.principal.as_ref();
        let note = record.note.as_ref();
        Self {
            time: timestamp(record.arrived.unix),
            id: record.id.to_string(),
            trace: record.trace.map(|trace| trace.to_string()),
            client: record.client.to_string(),
            method: record.method.as_str(),
            host: &record.host,
            path: shortened(&record.path),
            protocol: protocol(record.version),
            route: record.route.as_deref(),
            decision: record.outcome.decision(),
            reason: record.outcome.reason(),
            rule: record.rule.map(|rule| rule.to_string()),
            report_only: record.rehearsed.as_ref().map(Instead::rehearsed),
            candidate: record.candidate.as_ref().map(Instead::candidate),
            tenant: principal.map(|p| p.tenant().to_string()),
            tenant_name: record.tenant_name.as_deref(),
            app: principal.map(|p| p.app().to_string()),
            app_name: record.app_name.as_deref(),
            principal: principal.and_then(|p| p.object()).map(|id| id.to_string()),
            token_kind: principal.map(|p| p.kind().as_str()),
            token_version: principal.map(|p| p.version().name()),
            expected: note.map(|note| note.expected.as_str()),
            got: note.map(|note| note.got.as_str()),
            limit: record.limit.as_deref().filter(|_| record.limited),
            report_only_limit: record.limit.as_deref().filter(|_| !record.limited),
            keys_stripped: record.keys().collect(),
            followed: record.followed.as_deref().map(|first| &*first.path),
            sealed: record.caught.sealed,
            withheld: record.caught.withheld,
            backend: record.backend.as_deref(),
            attempts: record.attempts,
            status: record.status.as_u16(),
            sent_bytes: record.sent,
            complete: record.complete,
            duration_ms: milliseconds(record.duration),
            upstream_ms: record.upstream.map(milliseconds),
        }
    }
}

/// Writes a record as one line of JSON.
pub(super) fn json(record: &Record, out: &mut Vec<u8>) {
    let before = out.len();
    match serde_json::to_writer(&mut *out, &Line::of(record)) {
        Ok(()) => out.push(b'\n'),
        // Nothing in a record can fail to be written; half a line would break readers.
        Err(_) => out.truncate(before),
    }
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
    if let Some(note) = &record.note {
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
