//! The principal: what a verified token says of who calls.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::version::Version;
use crate::denial::{Denial, Reason};
use crate::ids::{AppId, ObjectId, TenantId};

/// Who calls, by a token that was verified. Made only by verification.
pub struct Principal {
    tenant: TenantId,
    app: AppId,
    object: Option<ObjectId>,
    kind: TokenKind,
    version: Version,
    roles: Vec<Box<str>>,
    scopes: Vec<Box<str>>,
    identity_headers: Vec<(HeaderName, HeaderValue)>,
}

/// Whether an app calls by itself or for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// No user stands behind the call.
    AppOnly,
    /// The app acts for a user.
    Delegated,
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

    /// The `x-ms-client-principal` family, as App Service's built-in authentication would set it.
    /// Made once when the token is verified, and cheap to clone.
    pub fn identity_headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.identity_headers
    }

    /// Reads the claims of a token whose signature has been verified.
    pub(super) fn read(
        claims: &Map<String, Value>,
        tenant: TenantId,
        version: Version,
    ) -> Result<Self, Denial> {
        let app = app(claims, version)?;
        let object = match claims.get("oid") {
            None => None,
            Some(oid) => Some(guid(oid)?),
        };
        let scopes = words(claims.get("scp"))?;
        let kind = match text(claims, "idtyp")? {
            Some("app") => TokenKind::AppOnly,
            Some(_) => TokenKind::Delegated,
            None if scopes.is_empty() => TokenKind::AppOnly,
            None => TokenKind::Delegated,
        };
        Ok(Self {
            tenant,
            app,
            object,
            kind,
            version,
            roles: list(claims.get("roles"))?,
            scopes,
            identity_headers: identity_headers(claims, app, object)?,
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

/// The app, from the claim that this version uses; the other version's claim alone, or beside it with
/// another value, is a mistake that must not be guessed away.
fn app(claims: &Map<String, Value>, version: Version) -> Result<AppId, Denial> {
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

fn guid<T: std::str::FromStr>(claim: &Value) -> Result<T, Denial> {
    let text = claim.as_str().ok_or(Reason::ClaimsMalformed)?;
    text.parse().map_err(|_| Reason::ClaimsMalformed.into())
}

pub(super) fn text<'c>(
    claims: &'c Map<String, Value>,
    name: &str,
) -> Result<Option<&'c str>, Denial> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Denial::from(Reason::ClaimsMalformed)
            .expected(format!("`{name}` as text"), "another form")),
    }
}

/// `scp`: names with spaces between them.
fn words(claim: Option<&Value>) -> Result<Vec<Box<str>>, Denial> {
    match claim {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(text
            .split(' ')
            .filter(|w| !w.is_empty())
            .map(Into::into)
            .collect()),
        Some(_) => {
            Err(Denial::from(Reason::ClaimsMalformed).expected("`scp` as text", "another form"))
        }
    }
}

/// `roles`: a list of names.
fn list(claim: Option<&Value>) -> Result<Vec<Box<str>>, Denial> {
    let malformed = || {
        Denial::from(Reason::ClaimsMalformed).expected("`roles` as a list of text", "another form")
    };
    match claim {
        None => Ok(Vec::new()),
        Some(Value::Array(names)) => names
            .iter()
            .map(|name| name.as_str().map(Into::into).ok_or_else(malformed))
            .collect(),
        Some(_) => Err(malformed()),
    }
}

const NAME_TYPE: &str = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress";
const ROLE_TYPE: &str = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role";

/// The headers of App Service's built-in authentication.
/// <https://learn.microsoft.com/azure/app-service/configure-authentication-user-identities>
fn identity_headers(
    claims: &Map<String, Value>,
    app: AppId,
    object: Option<ObjectId>,
) -> Result<Vec<(HeaderName, HeaderValue)>, Denial> {
    let mut entries = Vec::new();
    for (name, value) in claims {
        push_claim(&mut entries, claim_type(name), value);
    }
    let principal = json!({
        "auth_typ": "aad",
        "claims": entries,
        "name_typ": NAME_TYPE,
        "role_typ": ROLE_TYPE,
    });
    let id = object.map_or_else(|| app.to_string(), |object| object.to_string());
    // People have names, apps have IDs. Only for display: no one may decide by it.
    let shown = ["upn", "preferred_username", "unique_name", "email"];
    let shown = shown.iter().find_map(|name| claims.get(*name)?.as_str());
    let name = shown.map_or_else(|| app.to_string(), str::to_owned);
    [
        (
            "x-ms-client-principal",
            STANDARD.encode(principal.to_string()),
        ),
        ("x-ms-client-principal-id", id),
        ("x-ms-client-principal-name", name),
        ("x-ms-client-principal-idp", "aad".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| {
        let value = HeaderValue::from_bytes(value.as_bytes());
        let value = value.map_err(|_| Denial::from(Reason::ClaimsMalformed))?;
        Ok((HeaderName::from_static(name), value))
    })
    .collect()
}

/// A claim as `{typ, val}`; a list becomes one entry an item, numbers become text.
fn push_claim(entries: &mut Vec<Value>, kind: &str, value: &Value) {
    match value {
        Value::Array(items) => items
            .iter()
            .for_each(|item| push_claim(entries, kind, item)),
        Value::String(text) => entries.push(json!({ "typ": kind, "val": text })),
        Value::Null => {}
        other => entries.push(json!({ "typ": kind, "val": other.to_string() })),
    }
}

/// The claim types that built-in authentication renames; all others keep their names.
fn claim_type(name: &str) -> &str {
    match name {
        "oid" => "http://schemas.microsoft.com/identity/claims/objectidentifier",
        "tid" => "http://schemas.microsoft.com/identity/claims/tenantid",
        "sub" => "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier",
        "email" => "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
        "auth_time" => {
            "http://schemas.microsoft.com/ws/2008/06/identity/claims/authenticationinstant"
        }
        "scp" => "http://schemas.microsoft.com/identity/claims/scope",
        "idp" => "http://schemas.microsoft.com/identity/claims/identityprovider",
        "upn" => "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
        "given_name" => "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/givenname",
        "family_name" => "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/surname",
        "acr" => "http://schemas.microsoft.com/claims/authnclassreference",
        "amr" => "http://schemas.microsoft.com/claims/authnmethodsreferences",
        other => other,
    }
}
