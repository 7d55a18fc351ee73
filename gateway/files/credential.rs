//! Credentials as they are written: whose token, or where a key is to be read. Never a key.

use std::path::PathBuf;

use http::header::{self, HeaderName};

use super::decode::{Table, expected, scalar, spanned};
use super::diagnostics::Diagnostics;
use super::node::{Entry, Node, Value};
use super::secret::{SecretSource, is_literal, literal_secret, secret_source};
use super::source::Spanned;
use super::values::{guid, path, token};

/// What the gateway presents to a backend.
#[derive(Clone, Debug, PartialEq)]
pub enum Credential {
    /// Nothing, by the word `none`.
    None,
    /// An Entra token, sent as `Authorization: Bearer`.
    Token {
        /// What the token is for: a resource, without `/.default`.
        resource: Spanned<String>,
        /// Whose token.
        holder: Holder,
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
    /// The SAS signature of a Logic App, sent in the query: for workflows that take no token.
    Sas {
        /// Where the signed URL, or its query, is read.
        value: SecretSource,
    },
}

/// Whose token is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// An identity that needs no secret.
    Identity(Identity),
    /// `app`: an app registration, which proves itself by a secret or a certificate.
    App(Box<AppIdentity>),
}

/// An identity that the platform vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// `managedIdentity`: the one that the platform gave to this workload.
    System,
    /// `clientId`: a user-assigned one, by its client ID (a GUID in lower case).
    ClientId(String),
    /// `objectId`: a user-assigned one, by its object ID (a GUID in lower case).
    ObjectId(String),
    /// `resourceId`: a user-assigned one, by its ARM ID, `/subscriptions/..`.
    ResourceId(String),
    /// `workloadIdentity`: the one that AKS federates with the pod's service account.
    Workload(WorkloadIdentity),
}

/// `workloadIdentity`. What is absent, the webhook of AKS has put into the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadIdentity {
    /// The tenant, in lower case; `AZURE_TENANT_ID` where it is absent.
    pub tenant_id: Option<String>,
    /// The client ID, in lower case; `AZURE_CLIENT_ID` where it is absent.
    pub client_id: Option<String>,
    /// The service account's token; `AZURE_FEDERATED_TOKEN_FILE` where it is absent.
    pub token_file: Option<PathBuf>,
}

/// `app`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppIdentity {
    /// The tenant, in lower case.
    pub tenant_id: String,
    /// The client ID, in lower case.
    pub client_id: String,
    /// How it proves itself.
    pub proof: Proof,
}

/// How an app proves itself to Entra.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// By a client secret.
    Secret(SecretSource),
    /// By a certificate with its RSA key, PEM or PFX.
    Certificate(SecretSource),
}

const WHAT: &str = "`none`, `{ managedIdentity: .. }`, `{ workloadIdentity: .. }`, `{ app: .. }`, `{ functionKey: .. }`, `{ header: .. }` or `{ sas: .. }`";

const KINDS: [&str; 6] = [
    "managedIdentity",
    "workloadIdentity",
    "app",
    "functionKey",
    "header",
    "sas",
];

/// Takes a credential apart.
pub(super) fn credential(node: &Node, d: &mut Diagnostics) -> Option<Credential> {
    if let Value::Plain(text) | Value::Quoted(text) = &node.value {
        if text == "none" {
            return Some(Credential::None);
        }
        // A word of the language is no secret, whatever its case.
        let mut words = KINDS.iter().chain(&["none"]);
        match words.find(|word| word.eq_ignore_ascii_case(text)) {
            Some(_) => d.error(&node.span, "this credential lacks what belongs to it"),
            None => literal_secret(&node.span, d),
        }
        .help(format!("a credential is {WHAT}"));
        return None;
    }
    let mut table = Table::of(node, WHAT, d)?;
    let written: Vec<&Entry> = KINDS
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
        "workloadIdentity" => workload_identity(&entry.value, d),
        "app" => app(&entry.value, d),
        "functionKey" => {
            secret_source(&entry.value, d).map(|value| Credential::FunctionKey { value })
        }
        "sas" => secret_source(&entry.value, d).map(|value| Credential::Sas { value }),
        _ => header(&entry.value, d),
    }
}

fn wanted_resource(table: &mut Table<'_>, d: &mut Diagnostics) -> Option<Spanned<String>> {
    let help = "say what the token is for, such as `resource: api://contoso-functions`";
    table.required("resource", help, d, spanned(resource))
}

fn managed_identity(node: &Node, d: &mut Diagnostics) -> Option<Credential> {
    let mut table = Table::of(node, "`{ resource: .. }`", d)?;
    let resource = wanted_resource(&mut table, d);
    let identity = assigned(&mut table, d);
    table.finish(d);
    Some(Credential::Token {
        resource: resource?,
        holder: Holder::Identity(identity?),
    })
}

fn workload_identity(node: &Node, d: &mut Diagnostics) -> Option<Credential> {
    let mut table = Table::of(node, "`{ resource: .. }`", d)?;
    let resource = wanted_resource(&mut table, d);
    let identity = workload(&mut table, d);
    table.finish(d);
    Some(Credential::Token {
        resource: resource?,
        holder: Holder::Identity(Identity::Workload(identity)),
    })
}

fn workload(table: &mut Table<'_>, d: &mut Diagnostics) -> WorkloadIdentity {
    WorkloadIdentity {
        tenant_id: table.optional("tenantId", d, lower_guid),
        client_id: table.optional("clientId", d, lower_guid),
        token_file: table.optional("tokenFile", d, path),
    }
}

fn app(node: &Node, d: &mut Diagnostics) -> Option<Credential> {
    let mut table = Table::of(
        node,
        "`{ resource: .., tenantId: .., clientId: .., certificate: .. }`",
        d,
    )?;
    let resource = wanted_resource(&mut table, d);
    let tenant_id = table.required("tenantId", "name the app's tenant", d, lower_guid);
    let client_id = table.required("clientId", "name the app by its client ID", d, lower_guid);
    let proof = proof(&mut table, d);
    table.finish(d);
    Some(Credential::Token {
        resource: resource?,
        holder: Holder::App(Box::new(AppIdentity {
            tenant_id: tenant_id?,
            client_id: client_id?,
            proof: proof?,
        })),
    })
}

fn proof(table: &mut Table<'_>, d: &mut Diagnostics) -> Option<Proof> {
    let written = (table.entry("certificate"), table.entry("secret"));
    match written {
        (Some(entry), None) => secret_source(&entry.value, d).map(Proof::Certificate),
        (None, Some(entry)) => secret_source(&entry.value, d).map(Proof::Secret),
        (Some(first), Some(other)) => {
            d.error(&other.span, "an app proves itself in one way only")
                .also(&first.span, "and this is one already");
            None
        }
        (None, None) => {
            d.error(table.title(), "this app does not say how it proves itself")
                .help("write `certificate: { keyVault: .. }`, or `secret: { keyVault: .. }`");
            None
        }
    }
}

/// Who reads Key Vault, or signs in to Redis: a managed identity or a workload identity, without a resource.
pub(super) fn reader(node: &Node, d: &mut Diagnostics) -> Option<Identity> {
    const SHAPE: &str = "`{ managedIdentity: .. }` or `{ workloadIdentity: .. }`";
    let mut table = Table::of(node, SHAPE, d)?;
    let managed = table.entry("managedIdentity");
    let federated = table.entry("workloadIdentity");
    table.finish(d);
    match (managed, federated) {
        (Some(entry), None) => {
            let mut table = Table::of(&entry.value, "`{}` or `{ clientId: .. }`", d)?;
            let identity = assigned(&mut table, d);
            table.finish(d);
            identity
        }
        (None, Some(entry)) => {
            let mut table = Table::of(&entry.value, "`{}` or `{ clientId: .. }`", d)?;
            let identity = workload(&mut table, d);
            table.finish(d);
            Some(Identity::Workload(identity))
        }
        (Some(first), Some(other)) => {
            d.error(&other.span, "one identity is enough")
                .also(&first.span, "and this is one already");
            None
        }
        (None, None) => {
            expected(node, SHAPE, d);
            None
        }
    }
}

fn lower_guid(node: &Node, d: &mut Diagnostics) -> Option<String> {
    guid(node, d).map(|id| id.hyphenated().to_string())
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

fn assigned(table: &mut Table<'_>, d: &mut Diagnostics) -> Option<Identity> {
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
    match &*first.key {
        "clientId" => lower_guid(&first.value, d).map(Identity::ClientId),
        "objectId" => lower_guid(&first.value, d).map(Identity::ObjectId),
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
    let help =
        "say where its value is read: `value: { keyVault: .. }`, `{ file: .. }` or `{ env: .. }`";
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
pub(super) fn unfit(name: &HeaderName) -> Option<&'static str> {
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
