//! Tokens in the words of a policy, written out as the claims that Entra would put into one.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::version::Version;
use crate::ids::{AppId, ObjectId, TenantId};
use crate::token::{AuthStrength, TokenKind};

/// How long a token lives where nothing is said of it (Entra's mean is 75 minutes).
const LIFETIME: Duration = Duration::from_secs(3600);

/// What a token says, in the words of a policy.
#[derive(Clone, Debug)]
pub struct TokenSpec {
    /// v1 or v2.
    pub version: Version,
    /// The tenant (`tid`, `iss`).
    pub tenant: TenantId,
    /// The app (`appid` or `azp`).
    pub app: AppId,
    /// The user or service principal (`oid`).
    pub principal: Option<ObjectId>,
    /// App-only or delegated (`idtyp`).
    pub kind: TokenKind,
    /// How the app proved itself (`appidacr` or `azpacr`).
    pub strength: AuthStrength,
    /// Whom it is meant for (`aud`).
    pub audience: String,
    /// App roles (`roles`).
    pub roles: Vec<String>,
    /// Scopes (`scp`).
    pub scopes: Vec<String>,
    /// Groups (`groups`).
    pub groups: Vec<String>,
    /// Whether there are more groups than a token lists (`_claim_names`).
    pub group_overage: bool,
    /// From when on it is valid (`nbf`), since the Unix epoch.
    pub not_before: Duration,
    /// When it ends (`exp`), since the Unix epoch.
    pub expires: Duration,
    /// Further claims, as they stand. One of a name that is set above takes its place; null takes it away.
    pub claims: Map<String, Value>,
}

impl TokenSpec {
    /// An app-only v2 token, issued at `now` (since the Unix epoch) and valid for an hour.
    pub fn new(tenant: TenantId, app: AppId, audience: &str, now: Duration) -> Self {
        Self {
            version: Version::V2,
            tenant,
            app,
            principal: None,
            kind: TokenKind::AppOnly,
            strength: AuthStrength::Secret,
            audience: audience.to_owned(),
            roles: Vec::new(),
            scopes: Vec::new(),
            groups: Vec::new(),
            group_overage: false,
            not_before: now,
            expires: now.saturating_add(LIFETIME),
            claims: Map::new(),
        }
    }

    /// The claims, as Entra would write them.
    pub fn claims(&self) -> Map<String, Value> {
        let mut claims = Map::new();
        let mut set = |name: &str, value: Value| {
            claims.insert(name.to_owned(), value);
        };
        let issuers = self.version.issuers(self.tenant);
        let (app, strength) = match self.version {
            Version::V1 => ("appid", "appidacr"),
            Version::V2 => ("azp", "azpacr"),
        };
        set("aud", json!(self.audience));
        set("iss", json!(issuers.first()));
        set("tid", json!(self.tenant.to_string()));
        set("ver", json!(self.version.claim()));
        set("iat", json!(self.not_before.as_secs()));
        set("nbf", json!(self.not_before.as_secs()));
        set("exp", json!(self.expires.as_secs()));
        set(app, json!(self.app.to_string()));
        match self.strength {
            AuthStrength::Public => set(strength, json!("0")),
            AuthStrength::Secret => set(strength, json!("1")),
            AuthStrength::Certificate => set(strength, json!("2")),
            AuthStrength::Unknown => {}
        }
        match self.kind {
            TokenKind::AppOnly => set("idtyp", json!("app")),
            TokenKind::Delegated => set("idtyp", json!("user")),
            // Left out, it would be told from scopes and roles.
            TokenKind::Unknown if self.roles.is_empty() && self.scopes.is_empty() => {}
            TokenKind::Unknown => set("idtyp", json!("device")),
        }
        if let Some(principal) = self.principal {
            set("oid", json!(principal.to_string()));
        }
        if !self.roles.is_empty() {
            set("roles", json!(self.roles));
        }
        if !self.scopes.is_empty() {
            set("scp", json!(self.scopes.join(" ")));
        }
        match self.group_overage {
            true => set("_claim_names", json!({ "groups": "src1" })),
            false if self.groups.is_empty() => {}
            false => set("groups", json!(self.groups)),
        }
        for (name, value) in &self.claims {
            match value {
                Value::Null => claims.remove(name),
                value => claims.insert(name.clone(), value.clone()),
            };
        }
        claims
    }
}
