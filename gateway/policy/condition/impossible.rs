//! What a field can never be. A condition that compares it with such a text would be a rule that never
//! holds, and a deny rule that lets in whom it names.

use std::net::IpAddr;

use uuid::Uuid;

use super::field::Field;
use crate::files::nearest;

/// The GUID to which the policy gives a name, for those fields that hold GUIDs.
pub(crate) type Names<'n> = dyn Fn(&Field, &str) -> Option<Uuid> + 'n;

/// Why a field is never a text.
pub(super) struct Impossible {
    /// What was probably meant.
    pub(super) near: Option<String>,
    /// What to write.
    pub(super) help: String,
}

/// Whether and why a field is never this text.
pub(super) fn impossible(field: &Field, text: &str, names: &Names<'_>) -> Option<Impossible> {
    let because = |near: Option<String>, help: &str| {
        let help = help.to_owned();
        Some(Impossible { near, help })
    };
    let lower = || Some(text.to_ascii_lowercase());
    let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    match field {
        Field::Kind => one_of(&["appOnly", "delegated", "unknown"], text),
        Field::Version => one_of(&["1.0", "2.0"], text),
        Field::Protocol => one_of(&["HTTP/1.1", "HTTP/2"], text),
        Field::Method => one_of(
            &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"],
            text,
        ),
        Field::Tenant | Field::App | Field::Principal => {
            match (Uuid::try_parse(text), is_guid(text)) {
                (_, true) => None,
                (Ok(guid), false) => because(Some(guid.to_string()), "GUIDs are in lower case"),
                (Err(_), _) => because(
                    names(field, text).map(|guid| guid.to_string()),
                    "a GUID belongs here: the policy's names stand for GUIDs under `tenants`, `apps` and \
                 `principals` of a rule, and not in a condition",
                ),
            }
        }
        // Entra can be told to list names of groups; those are not the policy's names.
        Field::Groups => match (Uuid::try_parse(text), names(field, text)) {
            (Ok(guid), _) if !is_guid(text) => {
                because(Some(guid.to_string()), "GUIDs are in lower case")
            }
            (_, Some(guid)) => because(
                Some(guid.to_string()),
                "tokens list object IDs: the policy's names stand for them under `groups` of a rule, \
                 and not in a condition",
            ),
            (_, None) => None,
        },
        Field::Host if !is_lower => because(lower(), "hosts are in lower case"),
        Field::Host if text.contains('/') || (text.contains(':') && !text.starts_with('[')) => {
            because(None, "a host has neither scheme nor port nor path here")
        }
        Field::Path if !text.starts_with('/') => because(None, "paths begin with `/`"),
        Field::Address => match text.parse::<IpAddr>() {
            Ok(address) if address.to_canonical().to_string() == text => None,
            Ok(address) => because(
                Some(address.to_canonical().to_string()),
                "an address has one spelling (RFC 5952)",
            ),
            Err(_) => because(
                None,
                "an address belongs here; networks go under `from` of a rule",
            ),
        },
        Field::CertificateThumbprint => thumbprint(text),
        Field::CertificateSubject | Field::CertificateIssuer if !text.contains('=') => because(
            None,
            "a distinguished name belongs here, the most telling part first (RFC 4514): `CN=partner,O=Fabrikam`",
        ),
        Field::CertificateSubject
        | Field::CertificateIssuer
        | Field::Host
        | Field::Path
        | Field::Roles
        | Field::Scopes
        | Field::Claim(_)
        | Field::Header(_)
        | Field::Parameter(_)
        | Field::Time => None,
    }
}

fn thumbprint(text: &str) -> Option<Impossible> {
    const SHA_1: &str = "this is a thumbprint by SHA-1, which can be forged; write the one by SHA-256: openssl x509 -noout -fingerprint -sha256 -in client.crt";
    let plain: String = text.chars().filter(|letter| *letter != ':').collect();
    let plain = plain.to_ascii_lowercase();
    let is_hexadecimal = plain.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (near, help) = match plain.len() {
        64 if is_hexadecimal && plain == text => return None,
        64 if is_hexadecimal => (Some(plain), "thumbprints are in lower case, without colons"),
        40 if is_hexadecimal => (None, SHA_1),
        _ => (
            None,
            "a thumbprint is 64 hexadecimal digits: the certificate's SHA-256",
        ),
    };
    Some(Impossible {
        near,
        help: help.to_owned(),
    })
}

fn one_of(values: &[&str], text: &str) -> Option<Impossible> {
    if values.contains(&text) {
        return None;
    }
    Some(Impossible {
        near: nearest(text, values.iter().copied()).map(str::to_owned),
        help: format!("it is one of {}", values.join(", ")),
    })
}

/// Whether this is how the gateway writes a GUID.
fn is_guid(text: &str) -> bool {
    Uuid::try_parse(text).is_ok_and(|guid| guid.to_string() == text)
}
