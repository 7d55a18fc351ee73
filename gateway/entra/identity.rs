//! The principal as a backend is told of it: the headers of App Service's built-in authentication.
//! <https://learn.microsoft.com/azure/app-service/configure-authentication-user-identities>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HeaderName;
use serde_json::Error;

use super::json::{Json, Object};
use crate::denial::{Denial, Reason};
use crate::http1::Block;
use crate::ids::{AppId, ObjectId};

const PRINCIPAL: HeaderName = HeaderName::from_static("x-ms-client-principal");
const ID: HeaderName = HeaderName::from_static("x-ms-client-principal-id");
const NAME: HeaderName = HeaderName::from_static("x-ms-client-principal-name");
const PROVIDER: HeaderName = HeaderName::from_static("x-ms-client-principal-idp");

/// The `x-ms-client-principal` family.
pub(super) fn of(
    claims: &Object<'_>,
    app: AppId,
    object: Option<ObjectId>,
) -> Result<Block, Denial> {
    let principal = principal(claims).map_err(|_| Reason::ClaimsMalformed)?;
    let principal = STANDARD.encode(principal);
    let id = object.map_or_else(|| app.to_string(), |object| object.to_string());
    // People have names, apps have IDs. Only for display: no one may decide by it.
    let shown = ["upn", "preferred_username", "unique_name", "email"];
    let shown = shown.iter().find_map(|name| claims.get(name)?.as_str());
    let name = shown.map_or_else(|| app.to_string(), str::to_owned);
    let fields = [
        (PRINCIPAL, principal.as_bytes()),
        (ID, id.as_bytes()),
        (NAME, name.as_bytes()),
        (PROVIDER, b"aad"),
    ];
    Block::new(fields).ok_or(Reason::ClaimsMalformed.into())
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
    text(out, claim_type(name))?;
    out.extend_from_slice(br#","val":"#);
    text(out, value)?;
    out.extend_from_slice(b"},");
    Ok(())
}

/// Text in quotes. Hardly any needs an escape (RFC 8259 section 7), which is told without a branch for each byte,
/// so that the compiler can look at many at once.
fn text(out: &mut Vec<u8>, text: &str) -> Result<(), Error> {
    let found = text.bytes().fold(0, |found, byte| {
        found | u8::from((byte < b' ') | (byte == b'"') | (byte == b'\\'))
    });
    if found != 0 {
        return serde_json::to_writer(out, text);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_written_as_serde_json_writes_it() {
        let each = (0..=0x100).filter_map(char::from_u32);
        let each = each.map(|character| format!("a{character}b"));
        for value in each.chain([String::new(), "\u{1f600}".to_owned()]) {
            let mut out = Vec::new();
            text(&mut out, &value).expect("written");
            let expected = serde_json::to_vec(&value).expect("written");
            assert_eq!(out, expected, "{value:?}");
        }
    }
}
