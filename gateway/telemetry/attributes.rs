//! What is told of a request, by name: the same names on spans, in records over OTLP, and in Azure Monitor.
//! <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>

use std::fmt::Write as _;

use super::record::{Outcome, Record};
use super::traffic::{OTHER_METHOD, error_type, known_method, version_name};
use crate::denial::Reason;
use crate::policy::Rehearsed;

/// Who is told.
pub(super) trait Attributes {
    /// A text.
    fn text(&mut self, name: &'static str, value: &str);
    /// A whole number.
    fn number(&mut self, name: &'static str, value: u64);
    /// What each request has its own of, under the name that it has everywhere.
    fn slot(&mut self, slot: Slot);
}

/// Attributes that differ between requests that are alike otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// The request's ID.
    Id,
    /// The caller's address or its hash.
    Client,
    /// The path, no longer than a line can bear.
    Path,
}

impl Slot {
    /// The attribute's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Id => "portcullis.request.id",
            Self::Client => "client.address",
            Self::Path => "url.path",
        }
    }
}

fn known(to: &mut impl Attributes, name: &'static str, value: Option<&str>) {
    if let Some(value) = value {
        to.text(name, value);
    }
}

/// What a request was, by the conventions for HTTP servers.
pub(super) fn http(record: &Record, scheme: &'static str, to: &mut impl Attributes) {
    to.text("http.request.method", known_method(&record.method));
    to.text("url.scheme", scheme);
    to.slot(Slot::Path);
    to.text("server.address", &record.host);
    if let Some(port) = record.port {
        to.number("server.port", port.into());
    }
    known(to, "http.route", record.template.as_deref());
    to.number("http.response.status_code", record.status.as_u16().into());
    to.text("network.protocol.version", version_name(record.version));
    to.slot(Slot::Client);
    known(to, "error.type", error_type(record));
}

/// What was decided, for whom, and why.
pub(super) fn decision(record: &Record, to: &mut impl Attributes) {
    to.slot(Slot::Id);
    to.text("portcullis.decision", record.outcome.decision());
    to.text("portcullis.reason", record.outcome.reason());
    known(to, "portcullis.route", record.route.as_deref());
    if let Some(rule) = record.rule {
        shown(to, "security_rule.name", rule);
    }
    known(to, "portcullis.backend", record.backend.as_deref());
    caller(record, to);
    if let Some(note) = record.note() {
        to.text("portcullis.expected", &note.expected);
        to.text("portcullis.got", &note.got);
    }
    keys(record, to);
    known(to, "portcullis.limit", record.limit.as_deref());
    if let Some(rehearsed) = &record.rehearsed {
        let (decision, reason) = match rehearsed {
            Rehearsed::Denial(reason, _) => ("deny", Some(reason.code())),
            Rehearsed::Allow(_) => ("allow", None),
        };
        to.text("portcullis.report_only.decision", decision);
        known(to, "portcullis.report_only.reason", reason);
    }
    if let Some(other) = &record.candidate {
        to.text("portcullis.candidate.decision", other.decision());
        let reason = other.denial.map(|reason| reason.code());
        known(to, "portcullis.candidate.reason", reason);
    }
    if record.attempts > 0 {
        to.number("portcullis.attempts", record.attempts.into());
    }
}

/// The policy that a decision was made by, where decisions are recorded.
pub(super) fn policy(record: &Record, to: &mut impl Attributes) {
    if let Some(recorded) = &record.recorded {
        to.text("portcullis.policy.digest", &recorded.policy);
    }
}

fn caller(record: &Record, to: &mut impl Attributes) {
    let Some(principal) = record.principal.as_deref() else {
        return;
    };
    shown(to, "portcullis.tenant.id", principal.tenant());
    known(to, "portcullis.tenant.name", record.tenant_name.as_deref());
    shown(to, "portcullis.app.id", principal.app());
    known(to, "portcullis.app.name", record.app_name.as_deref());
    if let Some(object) = record.object() {
        shown(to, "portcullis.principal.id", object);
    }
    to.text("portcullis.token.kind", principal.kind().as_str());
    to.text("portcullis.token.version", principal.version().name());
}

fn keys(record: &Record, to: &mut impl Attributes) {
    let joined = |names: &mut dyn Iterator<Item = &'static str>| {
        let mut text = String::new();
        for name in names {
            text.push_str(if text.is_empty() { "" } else { "," });
            text.push_str(name);
        }
        text
    };
    if record.has_keys() {
        to.text("portcullis.keys", &joined(&mut record.keys()));
    }
    if let Some(sighting) = record.sighting.as_deref() {
        to.text("portcullis.sas.keys", &joined(&mut sighting.keys.names()));
        if let Some(fingerprint) = sighting.fingerprint {
            shown(to, "portcullis.sas.fingerprint", fingerprint);
        }
        known(to, "portcullis.sas.agent", sighting.agent.as_deref());
    }
}

fn shown(to: &mut impl Attributes, name: &'static str, value: impl std::fmt::Display) {
    let mut text = String::new();
    // Text takes all that is written to it.
    let _ = write!(text, "{value}");
    to.text(name, &text);
}

/// The name of a request's span, in parts: the method and the path's template, which are few.
pub(super) fn name(record: &Record) -> [&str; 3] {
    let method = match known_method(&record.method) {
        OTHER_METHOD => "HTTP",
        method => method,
    };
    match &record.template {
        Some(template) => [method, " ", template],
        None => [method, "", ""],
    }
}

/// Whether the gateway itself failed: what no caller can mend.
pub(super) fn is_failure(record: &Record) -> bool {
    match record.outcome {
        // What nobody forwards (501) is the caller's mistake.
        Outcome::Denied(reason) => {
            reason.status().is_server_error() && reason != Reason::MethodNotSupported
        }
        _ => false,
    }
}
