//! The decision log: for each request that had a canonical form one line of JSON, with what its
//! decision was made by and no secret. `replay` and `explain` read it back.

use std::collections::BTreeMap;

use serde_json::Value;

use super::format::{Instead, protocol};
use super::json::Object;
use super::record::{Record, shortened};
use super::stencil::Stencil;
use super::words::{Fixed, Loose};
use crate::entra::{Groups, Principal};

/// The version of the form. A reader passes over lines of versions that it does not know.
pub const DECISION_VERSION: u32 = 1;

/// What of a request is kept for its decision, beside what every record holds.
#[derive(Debug)]
pub struct Recorded {
    /// The fields that conditions read, in lower case.
    pub fields: Vec<Box<str>>,
    /// The claims that conditions read.
    pub claims: Vec<Box<str>>,
    /// The digest of the policy in force.
    pub policy: String,
    /// The digest of whose tokens count and whom they are meant for.
    pub trust: String,
}

/// The line for all records like this one, if their decisions are to be recorded.
pub(super) fn line(record: &Record) -> Option<Stencil> {
    let recorded = record.recorded.as_deref()?;
    let (method, host, path) = record.decided_on();
    let mut stencil = Stencil::default();
    let mut line = Object::open(&mut stencil);
    line.number("v", DECISION_VERSION.into());
    line.fixed("time", Fixed::Arrived);
    line.fixed("id", Fixed::Id);
    line.loose("client", Loose::Client);
    line.text("method", shortened(method.as_str()));
    line.text("host", host);
    match record.followed {
        None => line.loose("path", Loose::Path),
        Some(_) => line.text("path", path),
    }
    line.plain("protocol", protocol(record.version));
    // Whom it names may be who calls.
    if let Some(certificate) = record.certificate.as_ref().filter(|_| !record.is_hashed()) {
        let mut told = Object::open(line.name("certificate"));
        told.text("thumbprint", &certificate.thumbprint);
        told.text("subject", &certificate.subject);
        told.text("issuer", &certificate.issuer);
        told.close();
    }
    if let Some(upgrade) = &record.upgrade {
        line.text("upgrade", upgrade.name());
    }
    if !recorded.fields.is_empty() {
        let names = recorded.fields.iter().zip(&record.fields);
        let known = names.filter_map(|(name, values)| Some((&**name, values.as_deref()?)));
        let known: BTreeMap<&str, &[Box<str>]> = known.collect();
        if !known.is_empty() {
            line.value("fields", &known);
        }
    }
    if let Some(principal) = record.principal.as_deref() {
        let mut token = Object::open(line.name("token"));
        token.shown("tenant", principal.tenant());
        token.plain("version", principal.version().claim());
        token.shown("app", principal.app());
        if let Some(object) = record.object() {
            token.shown("principal", object);
        }
        self::token(principal, recorded, record.is_hashed(), &mut token);
        token.close();
    }
    if let Some(reason) = record.authentication {
        line.plain("authentication", reason.code());
    }
    line.plain("decision", record.decided.decision());
    line.plain("reason", record.decided.reason());
    if let Some(route) = record.route.as_deref() {
        line.text("route", route);
    }
    if let Some(rule) = record.rule {
        line.shown("rule", rule);
    }
    if let Some(rehearsed) = &record.rehearsed {
        line.value("reportOnly", &Instead::rehearsed(rehearsed));
    }
    if let Some(other) = &record.candidate {
        line.value("candidate", &Instead::candidate(other));
    }
    // A sealed URL was followed: method, host and path are those of the request that it was given in answer to.
    if record.followed.is_some() {
        line.flag("followed", true);
    }
    // A signature or key that the caller brought in the URL.
    if let Some(seen) = record.sighting.as_deref() {
        let mut sas = Object::open(line.name("sas"));
        sas.texts("keys", seen.keys.names());
        if let Some(fingerprint) = seen.fingerprint {
            sas.shown("fingerprint", fingerprint);
        }
        if let Some(agent) = &seen.agent {
            sas.text("agent", agent);
        }
        sas.flag("refused", record.refused_for_key());
        sas.close();
    }
    line.plain("policy", &recorded.policy);
    line.plain("trust", &recorded.trust);
    line.close();
    stencil.text().push(b'\n');
    Some(stencil)
}

fn token(principal: &Principal, recorded: &Recorded, is_hashed: bool, token: &mut Object<'_>) {
    token.plain("kind", principal.kind().as_str());
    token.plain("strength", principal.strength().as_str());
    token.text("audience", principal.audience());
    token.texts("roles", principal.roles().iter().map(|role| &**role));
    token.texts("scopes", principal.scopes().iter().map(|scope| &**scope));
    match principal.groups() {
        Groups::Listed(groups) => token.texts("groups", groups.iter().map(|group| &**group)),
        Groups::Overage => {}
    }
    token.flag("groupOverage", principal.groups_unknown());
    // What else a token says may say who calls.
    if !recorded.claims.is_empty() && !is_hashed {
        // `null` for one that the token has not.
        let claims = recorded.claims.iter();
        let claims: BTreeMap<&str, Option<&Value>> = claims
            .map(|name| (&**name, principal.claim(name)))
            .collect();
        token.value("claims", &claims);
    }
}
