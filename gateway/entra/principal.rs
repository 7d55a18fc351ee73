//! The principal: what a verified token says of who calls.

use std::fmt;

use serde_json::Value;

use super::claims::{ClaimNames, Claims};
use super::identity;
use super::json::{Json, Object};
use super::version::Version;
use crate::denial::{Denial, Reason};
use crate::http1::Block;
use crate::ids::{AppId, ObjectId, TenantId};
use crate::token::{AuthStrength, TokenKind};

/// Who calls, by a token that was verified. Made only by verification.
pub struct Principal {
    tenant: TenantId,
    app: AppId,
    object: Option<ObjectId>,
    kind: TokenKind,
    strength: AuthStrength,
    version: Version,
    audience: Box<str>,
    roles: Vec<Box<str>>,
    scopes: Vec<Box<str>>,
    groups: Groups,
    /// Those groups that are named by their object IDs, in order.
    group_ids: Vec<ObjectId>,
    claims: Claims,
    identity: Block,
}

/// The groups of a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Groups {
    /// Those that the token lists; none where it lists none.
    Listed(Vec<Box<str>>),
    /// More than a token holds: it says where to ask, and nobody knows which they are.
    /// <https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference#groups-overage-claim>
    Overage,
}

impl Principal {
    /// The tenant (`tid`).
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The client application (`appid` or `azp`).
    pub fn app(&self) -> AppId {
        self.app
    }

    /// The user or service principal (`oid`), where the token names it.
    pub fn object(&self) -> Option<ObjectId> {
        self.object
    }

    /// App-only or delegated.
    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    /// How the app proved itself.
    pub fn strength(&self) -> AuthStrength {
        self.strength
    }

    /// Whom the token is meant for (`aud`).
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The app roles (`roles`).
    pub fn roles(&self) -> &[Box<str>] {
        &self.roles
    }

    /// The scopes (`scp`).
    pub fn scopes(&self) -> &[Box<str>] {
        &self.scopes
    }

    /// The groups (`groups`).
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// A claim as the token holds it, if it is one that was to be kept.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.claims.get(name)
    }

    /// Whether the claim was to be kept, so that its absence says that the token has it not.
    pub fn knows_claim(&self, name: &str) -> bool {
        self.claims.knows(name)
    }

    pub(super) fn knows_claims(&self, names: &ClaimNames) -> bool {
        self.claims.knows_all(names)
    }

    /// v1 or v2.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the token carries an app role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|has| **has == *role)
    }

    /// Whether the token carries a scope.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.iter().any(|has| **has == *scope)
    }

    /// Whether there are more groups than the token lists, and so nobody knows which.
    pub fn groups_unknown(&self) -> bool {
        self.groups == Groups::Overage
    }

    /// Whether the token lists a group of this object ID.
    pub fn has_group(&self, group: ObjectId) -> bool {
        self.group_ids.binary_search(&group).is_ok()
    }

    /// A claim as the value of a header field: items of a list with commas between, numbers and words as
    /// they are, and what is not printable ASCII, `%` and the comma within an item in percent codes of UTF-8.
    pub fn claim_text(&self, name: &str) -> Option<String> {
        claim_text(self.claim(name)?)
    }

    /// The `x-ms-client-principal` family, as App Service's built-in authentication would set it.
    /// Made once when the token is verified.
    pub fn identity_headers(&self) -> &Block {
        &self.identity
    }

    /// Reads the claims of a token whose signature has been verified; `kept` are those that may be
    /// asked for later.
    pub(super) fn read(
        claims: &Object<'_>,
        kept: Claims,
        tenant: TenantId,
        version: Version,
    ) -> Result<Self, Denial> {
        let app = app(claims, version)?;
        let object = match claims.get("oid") {
            None => None,
            Some(oid) => Some(guid(oid)?),
        };
        let scopes = words(claims.get("scp"))?;
        let roles = list(claims, "roles")?;
        let audience = text(claims, "aud")?;
        let audience = audience.ok_or_else(|| {
            Denial::from(Reason::ClaimsMalformed).expected("`aud` as text", "none")
        })?;
        let groups = groups(claims)?;
        Ok(Self {
            tenant,
            app,
            object,
            kind: kind(text(claims, "idtyp")?, &roles, &scopes),
            strength: strength(text(claims, version.strength_claim())?),
            version,
            audience: audience.into(),
            roles,
            scopes,
            group_ids: ids(&groups),
            groups,
            claims: kept,
            identity: identity::of(claims, app, object)?,
        })
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("tenant", &self.tenant)
            .field("app", &self.app)
            .field("object", &self.object)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// `idtyp` says it outright, where the API's registration asks for that claim. Otherwise only users'
/// tokens have scopes, and a token with roles and no scopes is an app's. What contradicts itself, and
/// what says nothing, proves neither.
/// <https://learn.microsoft.com/entra/identity-platform/optional-claims-reference>
fn kind(written: Option<&str>, roles: &[Box<str>], scopes: &[Box<str>]) -> TokenKind {
    match written {
        Some("app") if scopes.is_empty() => TokenKind::AppOnly,
        Some("user") => TokenKind::Delegated,
        Some(_) => TokenKind::Unknown,
        None if !scopes.is_empty() => TokenKind::Delegated,
        None if !roles.is_empty() => TokenKind::AppOnly,
        None => TokenKind::Unknown,
    }
}

fn strength(written: Option<&str>) -> AuthStrength {
    match written {
        Some("0") => AuthStrength::Public,
        Some("1") => AuthStrength::Secret,
        Some("2") => AuthStrength::Certificate,
        Some(_) | None => AuthStrength::Unknown,
    }
}

/// `groups`, unless the token says that they are too many: `_claim_names` in most flows, `hasgroups` in
/// the implicit one.
fn groups(claims: &Object<'_>) -> Result<Groups, Denial> {
    let elsewhere = match claims.get("_claim_names") {
        None => false,
        Some(Json::Object(names)) => names.contains("groups"),
        // Whatever it says, it may say it of groups.
        Some(_) => true,
    };
    let has_more = claims
        .get("hasgroups")
        .is_some_and(|has| !matches!(has, Json::Bool(false)));
    match elsewhere || has_more {
        true => Ok(Groups::Overage),
        false => Ok(Groups::Listed(list(claims, "groups")?)),
    }
}

fn ids(groups: &Groups) -> Vec<ObjectId> {
    let Groups::Listed(names) = groups else {
        return Vec::new();
    };
    let mut ids: Vec<ObjectId> = names.iter().filter_map(|name| name.parse().ok()).collect();
    ids.sort_unstable();
    ids
}

/// The app, from the claim that this version uses; the other version's claim alone, or beside it with
/// another value, is a mistake that must not be guessed away.
fn app(claims: &Object<'_>, version: Version) -> Result<AppId, Denial> {
    let wanted = version.app_claim();
    let other = version.other().app_claim();
    let (app, stray) = (claims.get(wanted), claims.get(other));
    match (app, stray) {
        (Some(app), None) => guid(app),
        (Some(app), Some(stray)) if app == stray => guid(app),
        (None, None) => Err(Denial::from(Reason::IdToken).expected(
            format!("an access token, with `{wanted}`"),
            "a token that names no app",
        )),
        _ => Err(Denial::from(Reason::AppClaimForm).expected(
            format!("`{wanted}` in a {} token", version.name()),
            format!("`{other}`"),
        )),
    }
}

fn guid<T: std::str::FromStr>(claim: &Json<'_>) -> Result<T, Denial> {
    let text = claim.as_str().ok_or(Reason::ClaimsMalformed)?;
    text.parse().map_err(|_| Reason::ClaimsMalformed.into())
}

pub(super) fn text<'c>(claims: &'c Object<'_>, name: &str) -> Result<Option<&'c str>, Denial> {
    match claims.get(name) {
        None => Ok(None),
        Some(Json::Text(text)) => Ok(Some(text)),
        Some(_) => Err(Denial::from(Reason::ClaimsMalformed)
            .expected(format!("`{name}` as text"), "another form")),
    }
}

/// `scp`: names with spaces between them.
fn words(claim: Option<&Json<'_>>) -> Result<Vec<Box<str>>, Denial> {
    match claim {
        None => Ok(Vec::new()),
        Some(Json::Text(text)) => Ok(text
            .split(' ')
            .filter(|w| !w.is_empty())
            .map(Into::into)
            .collect()),
        Some(_) => {
            Err(Denial::from(Reason::ClaimsMalformed).expected("`scp` as text", "another form"))
        }
    }
}

/// `roles`, `groups`: a list of names.
fn list(claims: &Object<'_>, name: &str) -> Result<Vec<Box<str>>, Denial> {
    let malformed = || {
        Denial::from(Reason::ClaimsMalformed)
            .expected(format!("`{name}` as a list of text"), "another form")
    };
    match claims.get(name) {
        None => Ok(Vec::new()),
        Some(Json::List(names)) => names
            .iter()
            .map(|name| name.as_str().map(Into::into).ok_or_else(malformed))
            .collect(),
        Some(_) => Err(malformed()),
    }
}

fn claim_text(claim: &Value) -> Option<String> {
    match claim {
        Value::String(text) => Some(encoded(text)),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Array(items) => {
            let items = items.iter().filter(|item| !item.is_array());
            let items: Vec<String> = items.filter_map(claim_text).collect();
            Some(items.join(","))
        }
        Value::Null | Value::Object(_) => None,
    }
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | b',' => out.push_str(&format!("%{byte:02X}")),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
