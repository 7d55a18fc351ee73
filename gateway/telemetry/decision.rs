//! The decision log: for each request that had a canonical form one line of JSON, with what its
//! decision was made by and no secret. `replay` and `explain` read it back.
//!
//! A line is written whole, with those of the same batch, by the thread of the log; nothing is synced to
//! the disk, so that a crash of the machine loses what its kernel had not written yet.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::event::timestamp;
use super::format::{Instead, protocol};
use super::record::Record;
use crate::entra::{Groups, Principal};
use crate::upgrade::Protocol;

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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'r> {
    v: u32,
    time: String,
    id: String,
    client: String,
    method: &'r str,
    host: &'r str,
    path: &'r str,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    upgrade: Option<&'r str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<&'r str, &'r [Box<str>]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Token<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authentication: Option<&'static str>,
    decision: &'static str,
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report_only: Option<Instead<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate: Option<Instead<'r>>,
    /// A sealed URL was followed: method, host and path are those of the request that it was given in answer
    /// to.
    #[serde(skip_serializing_if = "is_false")]
    followed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sas: Option<Sas<'r>>,
    policy: &'r str,
    trust: &'r str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// A signature or key that the caller brought in the URL.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sas<'r> {
    keys: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'r str>,
    refused: bool,
}

impl<'r> Sas<'r> {
    fn of(record: &'r Record) -> Option<Self> {
        let seen = record.sighting.as_deref()?;
        Some(Self {
            keys: seen.keys.names().collect(),
            fingerprint: seen.fingerprint.map(|fingerprint| fingerprint.to_string()),
            agent: seen.agent.as_deref(),
            refused: record.refused_for_key(),
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Token<'r> {
    tenant: String,
    version: &'static str,
    app: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
    kind: &'static str,
    strength: &'static str,
    audience: &'r str,
    roles: &'r [Box<str>],
    scopes: &'r [Box<str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<&'r [Box<str>]>,
    group_overage: bool,
    /// `null` for one that the token has not.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    claims: BTreeMap<&'r str, Option<&'r Value>>,
}

impl<'r> Token<'r> {
    fn of(principal: &'r Principal, recorded: &'r Recorded) -> Self {
        let claims = recorded.claims.iter();
        Self {
            tenant: principal.tenant().to_string(),
            version: principal.version().claim(),
            app: principal.app().to_string(),
            principal: principal.object().map(|id| id.to_string()),
            kind: principal.kind().as_str(),
            strength: principal.strength().as_str(),
            audience: principal.audience(),
            roles: principal.roles(),
            scopes: principal.scopes(),
            groups: match principal.groups() {
                Groups::Listed(groups) => Some(groups),
                Groups::Overage => None,
            },
            group_overage: principal.groups_unknown(),
            claims: claims
                .map(|name| (&**name, principal.claim(name)))
                .collect(),
        }
    }
}

/// Writes the decision of a record as one line of JSON, if it is to be recorded.
pub fn decision_line(record: &Record, out: &mut Vec<u8>) {
    let Some(recorded) = &record.recorded else {
        return;
    };
    let (method, host, path) = match record.followed.as_deref() {
        Some(first) => (&first.method, &*first.host, &*first.path),
        None => (&record.method, &*record.host, &*record.path),
    };
    let line = Line {
        v: DECISION_VERSION,
        time: timestamp(record.arrived.unix),
        id: record.id.to_string(),
        client: record.client.to_string(),
        method: method.as_str(),
        host,
        path,
        protocol: protocol(record.version),
        upgrade: record.upgrade.as_ref().map(Protocol::name),
        fields: recorded
            .fields
            .iter()
            .zip(&record.fields)
            .filter_map(|(name, values)| Some((&**name, values.as_deref()?)))
            .collect(),
        token: record
            .principal
            .as_ref()
            .map(|principal| Token::of(principal, recorded)),
        authentication: record.authentication.map(|reason| reason.code()),
        decision: record.decided.decision(),
        reason: record.decided.reason(),
        route: record.route.as_deref(),
        rule: record.rule.map(|rule| rule.to_string()),
        report_only: record.rehearsed.as_ref().map(Instead::rehearsed),
        candidate: record.candidate.as_ref().map(Instead::candidate),
        followed: record.followed.is_some(),
        sas: Sas::of(record),
        policy: &recorded.policy,
        trust: &recorded.trust,
    };
    let before = out.len();
    match serde_json::to_writer(&mut *out, &line) {
        Ok(()) => out.push(b'\n'),
        // Nothing in a record can fail to be written; half a line would break readers.
        Err(_) => out.truncate(before),
    }
}

/// The file, opened anew when somebody has moved it away.
pub struct DecisionLog {
    path: PathBuf,
    file: File,
    /// Batches until it is asked again whether the file is still there.
    until_looked: u32,
}

/// Batches between two looks at the file: at one each 20 ms, a second.
const LOOK_EVERY: u32 = 50;

impl DecisionLog {
    /// Opens the file to append to it, and makes it if there is none, for this user alone to read.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        Ok(Self {
            file: append_to(&path)?,
            path,
            until_looked: LOOK_EVERY,
        })
    }

    /// Writes the decisions of records. How many were lost.
    pub(super) fn write(&mut self, records: &[Record]) -> u64 {
        self.look();
        let mut text = Vec::new();
        for record in records {
            decision_line(record, &mut text);
        }
        if text.is_empty() {
            return 0;
        }
        match self.file.write_all(&text) {
            Ok(()) => 0,
            Err(_) => {
                // Half a line may stand there: what follows begins on a line of its own.
                let _ = self.file.write_all(b"\n");
                records
                    .iter()
                    .filter(|record| record.recorded.is_some())
                    .count() as u64
            }
        }
    }

    /// Whoever rotates logs moves the file away; what is written from then on belongs into a new one.
    pub(super) fn look(&mut self) {
        self.until_looked = self.until_looked.saturating_sub(1);
        if self.until_looked > 0 {
            return;
        }
        self.until_looked = LOOK_EVERY;
        let place = |metadata: io::Result<std::fs::Metadata>| {
            metadata
                .ok()
                .map(|metadata| (metadata.dev(), metadata.ino()))
        };
        if place(std::fs::metadata(&self.path)) != place(self.file.metadata())
            && let Ok(file) = append_to(&self.path)
        {
            self.file = file;
        }
    }
}

fn append_to(path: &PathBuf) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).open(path)
}
