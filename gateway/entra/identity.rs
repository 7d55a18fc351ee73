//! The principal as a backend is told of it: the headers of App Service's built-in authentication.
//! <https://learn.microsoft.com/azure/app-service/configure-authentication-user-identities>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderName;

use super::json::{Json, Object, Text};
use crate::denial::{Denial, Reason};
use crate::http1::Block;
use crate::ids::{AppId, ObjectId};

static NAMES: [HeaderName; 4] = [
    HeaderName::from_static("x-ms-client-principal"),
    HeaderName::from_static("x-ms-client-principal-id"),
    HeaderName::from_static("x-ms-client-principal-name"),
    HeaderName::from_static("x-ms-client-principal-idp"),
];

/// The `x-ms-client-principal` family.
pub(super) fn of(
    claims: &Object<'_>,
    app: AppId,
    object: Option<ObjectId>,
) -> Result<Block, Denial> {
    let principal = STANDARD.encode(principal(claims));
    let id = object.map_or_else(|| app.to_string(), |object| object.to_string());
    // People have names, apps have IDs. Only for display: no one may decide by it.
    let shown = ["upn", "preferred_username", "unique_name", "email"];
    let shown = shown.iter().find_map(|name| claims.get(name)?.as_str());
    let name = shown.map_or_else(|| app.to_string(), str::to_owned);
    let values = [principal.as_bytes(), id.as_bytes(), name.as_bytes(), b"aad"];
    Block::new(&NAMES, values).ok_or(Reason::ClaimsMalformed.into())
}

/// The claims as JSON, one `{typ, val}` for each.
fn principal(claims: &Object<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(2048);
    out.extend_from_slice(br#"{"auth_typ":"aad","claims":["#);
    for (name, value) in claims.members() {
        claim(&mut out, name, value);
    }
    // Behind the last one, if there is one.
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.extend_from_slice(br#"],"name_typ":"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress","role_typ":"http://schemas.microsoft.com/ws/2008/06/identity/claims/role"}"#);
    out
}

/// A claim with a comma behind it; a list becomes one entry an item, and what is not text is written as text.
fn claim(out: &mut Vec<u8>, name: &Text<'_>, value: &Json<'_>) {
    match value {
        Json::List(items) => items.iter().for_each(|item| claim(out, name, item)),
        Json::Text(text) => entry(out, name, text),
        Json::Null => {}
        Json::Number(number) => entry(out, name, &Text::Plain(&number.to_string())),
        Json::Bool(true) => entry(out, name, &Text::Plain("true")),
        Json::Bool(false) => entry(out, name, &Text::Plain("false")),
        Json::Object(_) => entry(out, name, &Text::Any(value.to_value().to_string())),
    }
}

fn entry(out: &mut Vec<u8>, name: &Text<'_>, value: &Text<'_>) {
    out.extend_from_slice(br#"{"typ":"#);
    match claim_type(name) {
        Some(renamed) => Text::Plain(renamed).write_to(out),
        None => name.write_to(out),
    }
    out.extend_from_slice(br#","val":"#);
    value.write_to(out);
    out.extend_from_slice(b"},");
}

/// The claim types that built-in authentication renames; all others keep their names.
fn claim_type(name: &str) -> Option<&'static str> {
    let renamed = match name {
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
        _ => return None,
    };
    Some(renamed)
}
