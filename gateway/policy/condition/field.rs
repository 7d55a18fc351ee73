//! What a condition may read: the fields, their names in CEL, their types, and the seam through
//! which their values come.

use std::borrow::Cow;
use std::fmt;

use http::HeaderName;

use super::Failure;
use super::print::quoted;
use super::types::Type;
use crate::canonical::caller_may_send;
use crate::files::holds_a_credential;

/// A value of the outside world that a condition reads, resolved when the condition is compiled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `token.tenant`: a GUID in lower case.
    Tenant,
    /// `token.app`: a GUID in lower case.
    App,
    /// `token.principal`: a GUID in lower case.
    Principal,
    /// `token.kind`: `appOnly`, `delegated` or `unknown`.
    Kind,
    /// `token.version`: `1.0` or `2.0`.
    Version,
    /// `token.roles`: a list of strings.
    Roles,
    /// `token.scopes`: a list of strings.
    Scopes,
    /// `token.groups`: a list of strings.
    Groups,
    /// A claim as it stands in the token, by its name there.
    Claim(Box<str>),
    /// `request.method`: a string.
    Method,
    /// `request.host`: a string.
    Host,
    /// `request.path`: a string.
    Path,
    /// `request.headers[..]`: a string, by its name in lower case.
    Header(Box<str>),
    /// `request.parameters[..]`: a string, by its name in the route's path.
    Parameter(Box<str>),
    /// `request.time`: a timestamp.
    Time,
    /// `connection.address`: a string.
    Address,
    /// `connection.certificateThumbprint`: a string.
    CertificateThumbprint,
    /// `connection.certificateSubject`: a string.
    CertificateSubject,
    /// `connection.certificateIssuer`: a string.
    CertificateIssuer,
    /// `connection.protocol`: `HTTP/1.1` or `HTTP/2`.
    Protocol,
}

impl Field {
    /// Whether its value comes from the caller's token.
    pub fn is_of_token(&self) -> bool {
        match self {
            Field::Tenant
            | Field::App
            | Field::Principal
            | Field::Kind
            | Field::Version
            | Field::Roles
            | Field::Scopes
            | Field::Groups
            | Field::Claim(_) => true,
            Field::Method
            | Field::Host
            | Field::Path
            | Field::Header(_)
            | Field::Parameter(_)
            | Field::Time
            | Field::Address
            | Field::CertificateThumbprint
            | Field::CertificateSubject
            | Field::CertificateIssuer
            | Field::Protocol => false,
        }
    }

    /// Whether its value comes from the caller's certificate.
    pub fn is_of_certificate(&self) -> bool {
        matches!(
            self,
            Field::CertificateThumbprint | Field::CertificateSubject | Field::CertificateIssuer
        )
    }
}

/// The field as CEL spells it.
impl fmt::Display for Field {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((room, name, _, _)) = NAMED.iter().find(|(_, _, field, _)| field == self) {
            return write!(out, "{room}.{name}");
        }
        match self {
            Field::Claim(name) if claim_type(name).is_some() => write!(out, "token.{name}"),
            Field::Claim(name) => write!(out, "token.claims[{}]", quoted(name)),
            Field::Header(name) => write!(out, "request.headers[{}]", quoted(name)),
            Field::Parameter(name) => write!(out, "request.parameters[{}]", quoted(name)),
            named => write!(out, "{named:?}"),
        }
    }
}

/// Where the values of fields come from.
pub trait Facts {
    /// What is known of a field. A claim comes back as it is in the token ([`Value::Json`]); whether
    /// it has the type that the condition counts on is checked afterwards.
    fn look(&self, field: &Field) -> Fact<'_>;
}

/// What is known of a field.
#[derive(Clone, Debug)]
pub enum Fact<'f> {
    /// Its value.
    Is(Value<'f>),
    /// It is known not to be there. Reading it fails; `has()` and `in` say so.
    Absent,
    /// It may have any value or be absent, as when nobody's request is looked at.
    Unknown,
    /// It could not be found out.
    Failed(Failure),
}

/// A value, borrowed where it can be.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'f> {
    /// Nothing.
    Null,
    /// A truth.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
    /// A string.
    Text(Cow<'f, str>),
    /// A list of strings.
    Texts(&'f [Box<str>]),
    /// Anything that a token can hold.
    Json(&'f serde_json::Value),
    /// Whole seconds since the Unix epoch.
    Time(i64),
    /// A list.
    List(Vec<Value<'f>>),
}

/// The variables. Below each of them stand the fields.
pub(super) const ROOMS: [&str; 3] = ["token", "request", "connection"];

/// The fields that have names of their own, by variable.
pub(super) const NAMED: [(&str, &str, Field, Type); 17] = [
    ("token", "tenant", Field::Tenant, Type::Text),
    ("token", "app", Field::App, Type::Text),
    ("token", "principal", Field::Principal, Type::Text),
    ("token", "kind", Field::Kind, Type::Text),
    ("token", "version", Field::Version, Type::Text),
    ("token", "roles", Field::Roles, Type::TEXTS),
    ("token", "scopes", Field::Scopes, Type::TEXTS),
    ("token", "groups", Field::Groups, Type::TEXTS),
    ("request", "method", Field::Method, Type::Text),
    ("request", "host", Field::Host, Type::Text),
    ("request", "path", Field::Path, Type::Text),
    ("request", "time", Field::Time, Type::Time),
    ("connection", "address", Field::Address, Type::Text),
    (
        "connection",
        "certificateThumbprint",
        Field::CertificateThumbprint,
        Type::Text,
    ),
    (
        "connection",
        "certificateSubject",
        Field::CertificateSubject,
        Type::Text,
    ),
    (
        "connection",
        "certificateIssuer",
        Field::CertificateIssuer,
        Type::Text,
    ),
    ("connection", "protocol", Field::Protocol, Type::Text),
];

/// The maps of fields, by variable: what is in them is found by a literal key.
pub(super) const MAPS: [(&str, &str); 3] = [
    ("token", "claims"),
    ("request", "headers"),
    ("request", "parameters"),
];

/// The claims of Entra tokens that are strings ("Access token claims reference" and "Optional
/// claims reference" of the Microsoft identity platform).
const TEXT_CLAIMS: [&str; 23] = [
    "sub",
    "iss",
    "aud",
    "tid",
    "oid",
    "appid",
    "azp",
    "appidacr",
    "azpacr",
    "acr",
    "idp",
    "idtyp",
    "ver",
    "upn",
    "unique_name",
    "preferred_username",
    "email",
    "name",
    "ipaddr",
    "uti",
    "sid",
    "scp",
    "tenant_region_scope",
];

/// The claims that are whole numbers.
const INT_CLAIMS: [&str; 5] = ["exp", "nbf", "iat", "auth_time", "acct"];

/// The claims that are lists of strings.
const TEXTS_CLAIMS: [&str; 4] = ["wids", "acrs", "amr", "xms_cc"];

/// The type of a claim that may be read by its own name, as `token.upn`.
pub(super) fn claim_type(name: &str) -> Option<Type> {
    if TEXT_CLAIMS.contains(&name) {
        return Some(Type::Text);
    }
    if INT_CLAIMS.contains(&name) {
        return Some(Type::Int);
    }
    TEXTS_CLAIMS.contains(&name).then_some(Type::TEXTS)
}

/// Every name that may follow a variable and a dot.
pub(super) fn names_in(room: &str) -> impl Iterator<Item = &'static str> {
    let claims = [&TEXT_CLAIMS[..], &INT_CLAIMS[..], &TEXTS_CLAIMS[..]];
    let claims = claims.into_iter().flatten().copied();
    let named = NAMED.iter().map(|(room, name, _, _)| (*room, *name));
    named
        .chain(MAPS)
        .chain(claims.map(|name| ("token", name)))
        .filter(move |(of, _)| *of == room)
        .map(|(_, name)| name)
}

/// What is wrong with a name in a map, and what to do about it.
pub(super) type Refused = (String, &'static str);

/// The claim of a name, as it stands in the token.
///
/// # Errors
///
/// `groups`: it is missing from the token of a caller in too many groups, which looks just like the
/// token of a caller in none. `token.groups` knows the difference.
pub(super) fn claim(name: &str) -> Result<Field, Refused> {
    match name {
        "groups" => Err((
            "the claim `groups` may be missing though the caller has groups".to_owned(),
            "read `token.groups`",
        )),
        name => Ok(Field::Claim(name.into())),
    }
}

/// The header of a name.
///
/// # Errors
///
/// What is no name; headers that carry credentials, which must not decide or be written to a log by
/// way of a condition; headers that the gateway drops, whose absence would prove nothing.
pub(super) fn header(name: &str) -> Result<Field, Refused> {
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        let message = "this is no name of a header".to_owned();
        return Err((message, "names of headers have letters, digits and `-`"));
    };
    let name = parsed.as_str();
    if holds_a_credential(name) {
        let message = format!("the header `{name}` holds credentials");
        return Err((message, "what the caller proved is in `token`"));
    }
    if name == "host" {
        let message = "the header `host` is read as a part of the URL".to_owned();
        return Err((message, "read `request.host`"));
    }
    if name != "content-length" && !caller_may_send(&parsed) {
        let message = format!("the gateway does not take the header `{name}` from callers");
        return Err((message, "what the caller proved is in `token`"));
    }
    Ok(Field::Header(name.into()))
}
