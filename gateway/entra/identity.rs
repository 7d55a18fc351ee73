//! The principal as a backend is told of it: the headers of App Service's built-in authentication.
//! <https://learn.microsoft.com/azure/app-service/configure-authentication-user-identities>

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, InvalidHeaderValue};
use serde_json::Error;

use super::json::{Json, Object};
use crate::denial::{Denial, Reason};
use crate::ids::{AppId, ObjectId};

static PRINCIPAL: HeaderName = HeaderName::from_static("x-ms-client-principal");
static ID: HeaderName = HeaderName::from_static("x-ms-client-principal-id");
static NAME: HeaderName = HeaderName::from_static("x-ms-client-principal-name");
static PROVIDER: HeaderName = HeaderName::from_static("x-ms-client-principal-idp");
static ENTRA: HeaderValue = HeaderValue::from_static("aad");

/// The values of the `x-ms-client-principal` family.
pub(super) struct Identity {
    principal: HeaderValue,
    id: HeaderValue,
    name: HeaderValue,
}

impl Identity {
    pub(super) fn of(
        claims: &Object<'_>,
        app: AppId,
        object: Option<ObjectId>,
    ) -> Result<Self, Denial> {
        let principal = principal(claims).map_err(|_| Reason::ClaimsMalformed)?;
        let id = object.map_or_else(|| app.to_string(), |object| object.to_string());
        // People have names, apps have IDs. Only for display: no one may decide by it.
        let shown = ["upn", "preferred_username", "unique_name", "email"];
        let shown = shown.iter().find_map(|name| claims.get(name)?.as_str());
        let name = shown.map_or_else(|| app.to_string(), str::to_owned);
        Self::new(&principal, &id, &name).map_err(|_| Reason::ClaimsMalformed.into())
    }

    /// The values in one piece of memory: there are as many of them as tokens are remembered.
    fn new(principal: &[u8], id: &str, name: &str) -> Result<Self, InvalidHeaderValue> {
        let encoded = principal.len().div_ceil(3) * 4;
        let mut text = String::with_capacity(encoded + id.len() + name.len());
        STANDARD.encode_string(principal, &mut text);
        let id_from = text.len();
        text.push_str(id);
        let name_from = text.len();
        text.push_str(name);
        let text = Bytes::from(text);
        let value = |range: Range<usize>| HeaderValue::from_maybe_shared(text.slice(range));
        Ok(Self {
            principal: value(0..id_from)?,
            id: value(id_from..name_from)?,
            name: value(name_from..text.len())?,
        })
    }

    pub(super) fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        let headers = [
            (&PRINCIPAL, &self.principal),
            (&ID, &self.id),
            (&NAME, &self.name),
            (&PROVIDER, &ENTRA),
        ];
        headers.into_iter()
    }
}

/// The claims as JSON, one `{typ, val}` for each.
fn principal(claims: &Object<'_>) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(2048);
    out.extend_from_slice(br#"{"auth_typ":"aad","claims":["#);
    for (name, value) in claims.iter() {
        claim(&mut out, name, value)?;
    }
    // Behind the last one, if there is one.
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.extend_from_slice(br#"],"name_typ":"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress","role_typ":"http://schemas.microsoft.com/ws/2008/06/identity/claims/role"}"#);
    Ok(out)
}

/// A claim with a comma behind it; a list becomes one entry an item, and what is not text is written as text.
fn claim(out: &mut Vec<u8>, name: &str, value: &Json<'_>) -> Result<(), Error> {
    match value {
        Json::List(items) => items.iter().try_for_each(|item| claim(out, name, item)),
        Json::Text(text) => entry(out, name, text),
        Json::Null => Ok(()),
        Json::Number(number) => entry(out, name, &number.to_string()),
        Json::Bool(truth) => entry(out, name, if *truth { "true" } else { "false" }),
        Json::Object(_) => entry(out, name, &value.to_value().to_string()),
    }
}

fn entry(out: &mut Vec<u8>, name: &str, value: &str) -> Result<(), Error> {
    out.extend_from_slice(br#"{"typ":"#);
    serde_json::to_writer(&mut *out, claim_type(name))?;
    out.extend_from_slice(br#","val":"#);
    serde_json::to_writer(&mut *out, value)?;
    out.extend_from_slice(b"},");
    Ok(())
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
