//! Lines of the decision log, read back as requests to decide on again.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Version};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::TokenSpec;
use super::{Caller, Question};
use crate::canonical::KeyParameters;
use crate::client_certificate::ClientCertificate;
use crate::denial::Reason;
use crate::entra;
use crate::files::point_in_time;
use crate::policy::Known;
use crate::telemetry::{DECISION_VERSION, UNOPENED};
use crate::token::{AuthStrength, TokenKind};
use crate::upgrade::Protocol;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    time: String,
    id: String,
    client: String,
    method: String,
    host: String,
    path: String,
    protocol: String,
    upgrade: Option<String>,
    certificate: Option<Certificate>,
    #[serde(default)]
    fields: BTreeMap<String, Vec<String>>,
    token: Option<Token>,
    authentication: Option<String>,
    decision: String,
    reason: String,
    route: Option<String>,
    rule: Option<String>,
    #[serde(default)]
    followed: bool,
    sas: Option<Sas>,
    trust: String,
}

#[derive(Deserialize)]
struct Certificate {
    thumbprint: Box<str>,
    subject: Box<str>,
    issuer: Box<str>,
}

#[derive(Deserialize)]
struct Sas {
    keys: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    tenant: String,
    version: String,
    app: String,
    principal: Option<String>,
    kind: String,
    strength: String,
    audience: String,
    roles: Vec<String>,
    scopes: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    group_overage: bool,
    #[serde(default)]
    claims: Map<String, Value>,
}

/// A recorded decision.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The request ID.
    pub id: String,
    /// When it came, as it was written.
    pub time: String,
    /// Whether it was let in.
    pub allowed: bool,
    /// The reason code.
    pub reason: String,
    /// The route that took it.
    pub route: Option<String>,
    /// The rule that decided, or came closest.
    pub rule: Option<String>,
    /// The request, to decide on again.
    pub question: Question,
    /// What is known of it.
    pub known: Known,
    /// Why its token was refused, if it was.
    pub refused: Option<Reason>,
    /// Whether anybody looked for a token: a public route does not.
    pub token_looked_at: bool,
    /// Whether a sealed URL was followed: more than the policy may have refused it.
    pub followed: bool,
    /// Whether a sealed URL was refused that could not be opened: where it led, the record does not say.
    pub unopened: bool,
    /// The digest of whose tokens counted then.
    pub trust: String,
}

/// Why a line cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is the last one, and not written to its end: the gateway may be about to.
    Unfinished,
    /// It is torn, or no line of a decision log.
    Broken,
    /// It was written by a version that this one does not know.
    Version,
}

/// The lines of a decision log as requests to decide on again, but for empty ones.
///
/// # Errors
/// Each line that cannot be had from the file ends the iteration.
pub fn recorded(
    log: impl BufRead,
) -> impl Iterator<Item = io::Result<Result<Recorded, Unreadable>>> {
    log_lines(log, |value| {
        let line: Line = serde_json::from_value(value).ok()?;
        line.recorded()
    })
}

/// The lines of a decision log, but for empty ones, as `read` understands them: `None` for one that is no
/// decision.
///
/// # Errors
/// Each line that cannot be had from the file ends the iteration.
pub fn log_lines<T>(
    mut log: impl BufRead,
    read: impl Fn(Value) -> Option<T>,
) -> impl Iterator<Item = io::Result<Result<T, Unreadable>>> {
    let mut line = Vec::new();
    let mut failed = false;
    std::iter::from_fn(move || {
        while !failed {
            line.clear();
            match read_line(&mut log, &mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    failed = true;
                    return Some(Err(error));
                }
            }
            let text = String::from_utf8_lossy(&line);
            if text.trim().is_empty() {
                continue;
            }
            let read =
                of_this_version(&text).and_then(|value| read(value).ok_or(Unreadable::Broken));
            return Some(Ok(read.map_err(|why| match why {
                Unreadable::Broken if !text.ends_with('\n') => Unreadable::Unfinished,
                why => why,
            })));
        }
        None
    })
}

/// The longest line in bytes that is looked at. The gateway writes far shorter ones.
const LONGEST: usize = 1024 * 1024;

/// Reads a line, and how long it is. Of one that is too long the beginning is kept, which is no decision.
fn read_line(log: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    let length = log.by_ref().take(LONGEST as u64).read_until(b'\n', line)?;
    if length == LONGEST && !line.ends_with(b"\n") {
        log.skip_until(b'\n')?;
        line.push(b'\n');
    }
    Ok(length)
}

/// A line, if it is one that this version writes.
fn of_this_version(line: &str) -> Result<Value, Unreadable> {
    let value: Value = serde_json::from_str(line).map_err(|_| Unreadable::Broken)?;
    let version = value.get("v").and_then(Value::as_u64);
    match version.ok_or(Unreadable::Broken)? {
        version if version == u64::from(DECISION_VERSION) => Ok(value),
        _ => Err(Unreadable::Version),
    }
}

/// Whether it stands for somebody who is told by a hash alone.
fn is_hash(text: &str) -> bool {
    text.starts_with("h:")
}

/// Claims that every record holds in other words.
const ALWAYS_KNOWN: [&str; 3] = ["tid", "aud", "ver"];

impl Line {
    fn recorded(self) -> Option<Recorded> {
        let now = point_in_time(&self.time)?;
        let refused = match &self.authentication {
            None => None,
            Some(code) => Some(*Reason::ALL.iter().find(|reason| reason.code() == code)?),
        };
        let mut known = Known::default();
        let mut headers = HeaderMap::new();
        for (name, values) in &self.fields {
            known.headers.insert(name.as_str().into());
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            for value in values {
                headers.append(name.clone(), HeaderValue::from_str(value).ok()?);
            }
        }
        let keys = self.sas.iter().flat_map(|sas| &sas.keys);
        for name in keys {
            known.keys = known.keys.with(KeyParameters::named(name)?);
        }
        if let Some(upgrade) = &self.upgrade {
            known.upgrade = Some(Protocol::read(upgrade)?);
        }
        let client = match is_hash(&self.client) {
            true => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            false => self.client.parse().ok()?,
        };
        known.hashed = is_hash(&self.client);
        let unopened = self.path == UNOPENED;
        let token_looked_at = self.token.is_some() || refused.is_some();
        let caller = match (&self.token, refused) {
            (Some(token), _) => {
                let recorded = token.claims.keys().map(String::as_str);
                let names = recorded.chain(ALWAYS_KNOWN);
                known.claims.extend(names.map(Into::into));
                Caller::Claims(token.spec(now)?.claims())
            }
            (None, Some(reason)) => Caller::Refused(reason.into()),
            (None, None) => Caller::Nobody,
        };
        Some(Recorded {
            question: Question {
                method: Method::from_bytes(self.method.as_bytes()).ok()?,
                host: self.host,
                target: self.path,
                headers,
                client,
                certificate: self.certificate.map(|one| ClientCertificate {
                    thumbprint: one.thumbprint,
                    subject: one.subject,
                    issuer: one.issuer,
                }),
                now,
                version: match self.protocol.as_str() {
                    "HTTP/2" => Version::HTTP_2,
                    _ => Version::HTTP_11,
                },
                caller,
            },
            id: self.id,
            time: self.time,
            allowed: match self.decision.as_str() {
                "allow" => true,
                "deny" => false,
                _ => return None,
            },
            reason: self.reason,
            route: self.route,
            rule: self.rule,
            known,
            refused,
            followed: self.followed,
            unopened,
            token_looked_at,
            trust: self.trust,
        })
    }
}

impl Token {
    fn spec(&self, now: Duration) -> Option<TokenSpec> {
        let tenant = self.tenant.parse().ok()?;
        let app = self.app.parse().ok()?;
        let version = entra::Version::ALL.into_iter();
        let mut version = version.filter(|version| version.claim() == self.version);
        Some(TokenSpec {
            version: version.next()?,
            principal: match &self.principal {
                None => None,
                Some(principal) if is_hash(principal) => None,
                Some(principal) => Some(principal.parse().ok()?),
            },
            kind: TokenKind::of_word(&self.kind)?,
            strength: AuthStrength::of_word(&self.strength)?,
            roles: self.roles.clone(),
            scopes: self.scopes.clone(),
            groups: self.groups.clone(),
            group_overage: self.group_overage,
            claims: self.claims.clone(),
            ..TokenSpec::new(tenant, app, &self.audience, now)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_any_length_is_one_line_and_costs_no_more_than_the_longest() {
        for length in [LONGEST - 2, LONGEST - 1, LONGEST, 3 * LONGEST] {
            let text = format!("{}\n{{\"v\":{DECISION_VERSION}}}\n", "a".repeat(length));
            let mut lines = log_lines(text.as_bytes(), Some);
            let mut next = || lines.next().map(|line| line.expect("read").map(|_| ()));
            assert_eq!(next(), Some(Err(Unreadable::Broken)), "{length}");
            assert_eq!(next(), Some(Ok(())), "{length}");
            assert_eq!(next(), None, "{length}");
        }
        let mut line = Vec::new();
        let text = "a".repeat(3 * LONGEST);
        read_line(&mut text.as_bytes(), &mut line).expect("read");
        assert_eq!(line.len(), LONGEST + 1);
    }
}
