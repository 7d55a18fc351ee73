//! Credentials as they are written: a managed identity, or where a key is to be read. Never a key.

use std::path::PathBuf;

use http::header::{self, HeaderName};

use super::decode::{Table, expected, scalar, spanned};
use super::diagnostics::{Diagnostic, Diagnostics};
use super::node::{Entry, Node, Value};
use super::source::{Span, Spanned};
use super::values::{guid, path, token};

/// What the gateway presents to a backend.
#[derive(Clone, Debug, PartialEq)]
pub enum Credential {
    /// Nothing, by the word `none`.
    None,
    /// A token of a managed identity.
    ManagedIdentity {
        /// What the token is for: a resource, without `/.default`.
        resource: Spanned<String>,
        /// Whose token.
        identity: Identity,
    },
    /// A Functions key, sent as `x-functions-key`.
    FunctionKey {
        /// Where the key is read.
        value: SecretSource,
    },
    /// A header of the backend's own.
    Header {
        /// The header.
        name: Spanned<HeaderName>,
        /// Where its value is read.
        value: SecretSource,
    },
}

/// Which managed identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The one that the platform gave to this workload.
    System,
    /// `clientId`: a user-assigned one, by its client ID (a GUID in lower case).
    ClientId(String),
    /// `objectId`: a user-assigned one, by its object ID (a GUID in lower case).
    ObjectId(String),
    /// `resourceId`: a user-assigned one, by its ARM ID, `/subscriptions/..`.
    ResourceId(String),
}

/// Where a secret is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// `env`: an environment variable.
    Env(String),
    /// `file`: a file.
    File(PathBuf),
}

const WHAT: &str = "`none`, `{ managedIdentity: .. }`, `{ functionKey: .. }` or `{ header: .. }`";

/// Takes a credential apart.
pub(super) fn credential(node: &Node, d: &mut Diagnostics) -> Option<Credential> {
    if let Value::Plain(text) | Value::Quoted(text) = &node.value {
        if text == "none" {
            return Some(Credential::None);
        }
        // A word of the language is no secret, whatever its case.
        let words = ["none", "managedIdentity", "functionKey", "header"];
        match words.iter().find(|word| word.eq_ignore_ascii_case(text)) {
            Some(_) => d.error(&node.span, "this credential lacks what belongs to it"),
            None => literal_secret(&node.span, d),
        }
        .help(format!("a credential is {WHAT}"));
        return None;
    }
    let mut table = Table::of(node, WHAT, d)?;
    let written: Vec<&Entry> = ["managedIdentity", "functionKey", "header"]
        .into_iter()
        .filter_map(|key| table.entry(key))
        .collect();
    let title = table.title().clone();
    let before = d.errors();
    table.finish(d);
    match written.as_slice() {
        [] if d.errors() > before => None,
        [] => {
            d.error(&title, format!("this credential is empty: expected {WHAT}"));
            None
        }
        [one] => kind(one, d),
        [first, others @ ..] => {
            for other in others {
                d.error(&other.span, "a backend has one credential only")
                    .also(&first.span, "and this is one already");
            }
            None
        }
    }
}

fn kind(entry: &Entry, d: &mut Diagnostics) -> Option<Credential> {
    match &*entry.key {
        "managedIdentity" => managed_identity(&entry.value, d),
        "functionKey" => {
            secret_source(&entry.value, d).map(|value| Credential::FunctionKey { value })
        }
        _ => header(&entry.value, d),
    }
}

fn managed_identity(node: &Node, d: &mut Diagnostics) -> Option<Credential> {
    let mut table = Table::of(node, "`{ resource: .. }`", d)?;
    let help = "say what the token is for, such as `resource: api://contoso-functions`";
    let resource = table.required("resource", help, d, spanned(resource));
    let identity = identity(&mut table, d);
    table.finish(d);
    Some(Credential::ManagedIdentity {
        resource: resource?,
        identity: identity?,
    })
}

fn resource(node: &Node, d: &mut Diagnostics) -> Option<String> {
    let resource = token(node, "a resource", d)?;
    // A scope would be sent as a resource, which Entra does not know.
    if let Some(bare) = resource.strip_suffix("/.default") {
        d.error(
            &node.span,
            "this is a scope; a resource is written without `/.default`",
        )
        .help(format!("write `{bare}`"));
        return None;
    }
    Some(resource)
}

fn identity(table: &mut Table<'_>, d: &mut Diagnostics) -> Option<Identity> {
    let written: Vec<&Entry> = ["clientId", "objectId", "resourceId"]
        .into_iter()
        .filter_map(|key| table.entry(key))
        .collect();
    let (first, others) = match written.as_slice() {
        [] => return Some(Identity::System),
        [first, others @ ..] => (first, others),
    };
    for other in others {
        d.error(&other.span, "an identity is named in one way only")
            .also(&first.span, "and this names it already");
    }
    let lower = |id: uuid::Uuid| id.hyphenated().to_string();
    match &*first.key {
        "clientId" => guid(&first.value, d).map(lower).map(Identity::ClientId),
        "objectId" => guid(&first.value, d).map(lower).map(Identity::ObjectId),
        _ => resource_id(&first.value, d).map(Identity::ResourceId),
    }
}

fn resource_id(node: &Node, d: &mut Diagnostics) -> Option<String> {
    const START: &str = "/subscriptions/";
    let id = token(node, "the ARM ID of an identity", d)?;
    let start = id.get(..START.len());
    if !start.is_some_and(|start| start.eq_ignore_ascii_case(START)) {
        d.error(&node.span, format!("an ARM ID begins with `{START}`"));
        return None;
    }
    Some(id)
}

fn header(node: &Node, d: &mut Diagnostics) -> Option<Credential> {
    const SHAPE: &str = "`{ name: .., value: { env: .. } }`";
    if is_literal(node) {
        literal_secret(&node.span, d).help(format!("a header is {SHAPE}"));
        return None;
    }
    let mut table = Table::of(node, SHAPE, d)?;
    let name = table.required(
        "name",
        "name the header: `name: x-api-key`",
        d,
        spanned(header_name),
    );
    let help = "say where its value is read: `value: { env: .. }` or `value: { file: .. }`";
    let value = table.required("value", help, d, secret_source);
    table.finish(d);
    Some(Credential::Header {
        name: name?,
        value: value?,
    })
}

fn header_name(node: &Node, d: &mut Diagnostics) -> Option<HeaderName> {
    let text = scalar(node, "the name of a header", d)?;
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        d.error(&node.span, "this cannot be the name of a header");
        return None;
    };
    if let Some(why) = unfit(&name) {
        d.error(
            &node.span,
            format!("this header cannot carry a credential: {why}"),
        );
        return None;
    }
    Some(name)
}

/// Why a header is not the operator's to set.
fn unfit(name: &HeaderName) -> Option<&'static str> {
    // RFC 9110 section 7.6.1, and the older fields that proxies treat alike.
    let of_the_connection = [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    let text = name.as_str();
    if of_the_connection.contains(name) {
        Some("it belongs to one connection and is not passed on")
    } else if [header::HOST, header::CONTENT_LENGTH].contains(name) {
        Some("it says where a request goes or how long it is")
    } else if [header::FORWARDED, header::VIA].contains(name)
        || ["x-forwarded-", "x-ms-client-principal", "x-ms-token-"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
    {
        Some("the gateway writes it itself")
    } else {
        None
    }
}

fn is_literal(node: &Node) -> bool {
    matches!(node.value, Value::Plain(_) | Value::Quoted(_))
}

/// Where a secret is read: by reference, since a literal would be in the history of the files for ever.
fn secret_source(node: &Node, d: &mut Diagnostics) -> Option<SecretSource> {
    const SHAPE: &str = "`{ file: .. }` or `{ env: .. }`";
    if is_literal(node) {
        by_reference(&node.span, d);
        return None;
    }
    let mut table = Table::of(node, SHAPE, d)?;
    table.later("keyVault", d);
    let title = table.title().clone();
    let written: Vec<&Entry> = ["env", "file"]
        .into_iter()
        .filter_map(|key| table.entry(key))
        .collect();
    let refused = matches!(&node.value, Value::Mapping(entries) if entries.len() > written.len());
    table.finish(d);
    match written.as_slice() {
        [] if refused => None,
        [] => {
            expected(node, SHAPE, d).map(|diagnostic| diagnostic.also(&title, "for this secret"));
            None
        }
        [one] if one.key == "env" => variable(&one.value, d).map(SecretSource::Env),
        [one] => path(&one.value, d).map(SecretSource::File),
        [first, others @ ..] => {
            for other in others {
                d.error(&other.span, "a secret is read in one place only")
                    .also(&first.span, "and this names one already");
            }
            None
        }
    }
}

/// The name of an environment variable. What cannot be one may be the secret itself.
fn variable(node: &Node, d: &mut Diagnostics) -> Option<String> {
    let name = scalar(node, "the name of an environment variable", d)?;
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    if name.starts_with(|first: char| first.is_ascii_digit()) || !name.chars().all(allowed) {
        d.error(
            &node.span,
            "this cannot be the name of an environment variable",
        )
        .help("write the variable's name, not its value: letters, digits and `_`");
        return None;
    }
    Some(name.to_owned())
}

/// A secret stands in the file. Its value is never repeated, here or in the line that is shown.
pub(super) fn literal_secret<'d>(span: &Span, d: &'d mut Diagnostics) -> &'d mut Diagnostic {
    d.error(span, "a literal secret in a policy file")
        .label("whoever can read this file can use it: withdraw it")
}

fn by_reference(span: &Span, d: &mut Diagnostics) {
    d.error(span, "a secret must not stand in a policy file")
        .label("if this is a real one, withdraw it")
        .help(
            "put it in a file or an environment variable and write `{ file: .. }` or `{ env: .. }`",
        );
}
