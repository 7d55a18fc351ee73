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

/// The `x-ms-client-principal` family.
pub(super) fn headers(
    claims: &Object<'_>,
    app: AppId,
    object: Option<ObjectId>,
) -> Result<Box<[(HeaderName, HeaderValue)]>, Denial> {
    let principal = principal(claims).map_err(|_| Reason::ClaimsMalformed)?;
    let id = object.map_or_else(|| app.to_string(), |object| object.to_string());
    // People have names, apps have IDs. Only for display: no one may decide by it.
    let shown = ["upn", "preferred_username", "unique_name", "email"];
    let shown = shown.iter().find_map(|name| claims.get(name)?.as_str());
    let name = shown.map_or_else(|| app.to_string(), str::to_owned);
    values(&principal, &id, &name).map_err(|_| Reason::ClaimsMalformed.into())
}

/// The headers' values in one piece of memory: there are as many of these as tokens are remembered.
fn values(
    principal: &[u8],
    id: &str,
    name: &str,
) -> Result<Box<[(HeaderName, HeaderValue)]>, InvalidHeaderValue> {
    let encoded = principal.len().div_ceil(3) * 4;
    let mut text = String::with_capacity(encoded + id.len() + name.len());
    STANDARD.encode_string(principal, &mut text);
    let end_of_principal = text.len();
    text.push_str(id);
    let end_of_id = text.len();
    text.push_str(name);
    let text = Bytes::from(text);
    let value = |range: Range<usize>| HeaderValue::from_maybe_shared(text.slice(range));
    let header = |name, value| (HeaderName::from_static(name), value);
    Ok(Box::new([
        header("x-ms-client-principal", value(0..end_of_principal)?),
        header(
            "x-ms-client-principal-id",
            value(end_of_principal..end_of_id)?,
        ),
        header("x-ms-client-principal-name", value(end_of_id..text.len())?),
        header("x-ms-client-principal-idp", HeaderValue::from_static("aad")),
    ]))
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
