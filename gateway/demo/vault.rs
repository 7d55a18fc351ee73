//! A small Key Vault: secrets with versions, for whoever brings a token that was issued for it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use http::{Method, StatusCode, header};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::ca::Ca;
use super::issued::Issued;
use super::lock;
use super::names;
use super::serve::{
    Answer, Refused, Served, Whole, json as answer_json, parameter_of_any_case, parameters, serve,
    with_field,
};
use crate::clock::Clock;
use crate::ids::random_u128;

/// What a token for Key Vault is for, to the letter: with a slash behind it, it is another resource.
pub const VAULT_RESOURCE: &str = "https://vault.azure.net";

/// The content type of a certificate with its key as PKCS #12, in base64.
pub const PFX: &str = "application/x-pkcs12";

/// The content type of a certificate with its key as PEM.
pub const PEM: &str = "application/x-pem-file";

/// A vault that runs as long as this is held.
pub struct Vault {
    served: Served,
    state: Arc<State>,
}

struct State {
    clock: Arc<dyn Clock>,
    issued: Issued,
    secrets: Mutex<BTreeMap<String, Secret>>,
    values: Mutex<Vec<String>>,
    fault: Mutex<Option<Fault>>,
    asked: watch::Sender<Vec<(String, Option<String>)>>,
}

/// A status, and what `Retry-After` says beside it.
#[derive(Clone)]
struct Fault {
    status: u16,
    retry_after: Option<String>,
}

/// A secret by the name under which it was set; the last version is the current one.
struct Secret {
    name: String,
    versions: Vec<Version>,
}

#[derive(Clone)]
struct Version {
    id: String,
    value: String,
    content_type: Option<String>,
    enabled: bool,
    created: u64,
    updated: u64,
    expires: Option<u64>,
}

impl Vault {
    /// Starts it, empty.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(ca: &Ca, issued: Issued, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let state = Arc::new(State {
            clock,
            issued,
            secrets: Mutex::default(),
            values: Mutex::default(),
            fault: Mutex::default(),
            asked: watch::Sender::default(),
        });
        let answering = Arc::clone(&state);
        let served = serve(Some(ca.server_config(&[b"http/1.1"])?), move |request| {
            let answer = answering.answer(&request);
            async { Some(answer) }
        })
        .await?;
        Ok(Self { served, state })
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.served.address.port())
    }

    /// Sets a secret; returns its new version, which is the current one from now on.
    pub fn set(&self, name: &str, value: &str) -> String {
        self.add(name, value, None)
    }

    /// Sets a secret that says what it holds; returns its new version.
    pub fn set_with_type(&self, name: &str, value: &str, content_type: &str) -> String {
        self.add(name, value, Some(content_type.to_owned()))
    }

    fn add(&self, name: &str, value: &str, content_type: Option<String>) -> String {
        let now = self.state.clock.now().unix_seconds();
        let id = format!("{:032x}", random_u128());
        let version = Version {
            id: id.clone(),
            value: value.to_owned(),
            content_type,
            enabled: true,
            created: now,
            updated: now,
            expires: None,
        };
        lock(&self.state.values).push(value.to_owned());
        let mut secrets = lock(&self.state.secrets);
        let secret = secrets.entry(name.to_ascii_lowercase());
        let secret = secret.or_insert_with(|| Secret {
            name: name.to_owned(),
            versions: Vec::new(),
        });
        secret.versions.push(version);
        id
    }

    /// Disables the current version of a secret, or enables it again.
    pub fn disable(&self, name: &str, disabled: bool) {
        self.change(name, |version| version.enabled = !disabled);
    }

    /// Says when the current version of a secret ends, in seconds since the Unix epoch.
    pub fn expire(&self, name: &str, at: Option<u64>) {
        self.change(name, |version| version.expires = at);
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Version)) {
        let now = self.state.clock.now().unix_seconds();
        let mut secrets = lock(&self.state.secrets);
        let secret = secrets.get_mut(&name.to_ascii_lowercase());
        if let Some(version) = secret.and_then(|secret| secret.versions.last_mut()) {
            change(version);
            version.updated = now;
        }
    }

    /// Deletes a secret with all its versions.
    pub fn delete(&self, name: &str) {
        lock(&self.state.secrets).remove(&name.to_ascii_lowercase());
    }

    /// Answers authorised reads with this status from now on, or well again.
    pub fn set_fault(&self, status: Option<u16>) {
        self.set_fault_with(status, None);
    }

    /// The same, with a `Retry-After`.
    pub fn set_fault_with(&self, status: Option<u16>, retry_after: Option<&str>) {
        *lock(&self.state.fault) = status.map(|status| Fault {
            status,
            retry_after: retry_after.map(str::to_owned),
        });
    }

    /// The authorised reads so far: the name as it was asked for, and the version if one was.
    pub fn asked(&self) -> watch::Receiver<Vec<(String, Option<String>)>> {
        self.state.asked.subscribe()
    }

    /// Every value that was ever set.
    pub(super) fn values(&self) -> Vec<String> {
        lock(&self.state.values).clone()
    }
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Refused {
    let problem = json!({ "error": { "code": code, "message": message } });
    Box::new(answer_json(status, &problem))
}

/// 403, whose reason Key Vault tells in an inner error.
fn inoperable(inner: &str, message: &str) -> Refused {
    let problem = json!({ "error": {
        "code": "Forbidden",
        "message": message,
        "innererror": { "code": inner },
    } });
    Box::new(answer_json(StatusCode::FORBIDDEN, &problem))
}

fn unauthorized(message: &str) -> Refused {
    let challenge = format!(
        "Bearer authorization=\"https://login.microsoftonline.com/{}\", resource=\"{VAULT_RESOURCE}\"",
        names::CONTOSO
    );
    let refusal = refuse(StatusCode::UNAUTHORIZED, "Unauthorized", message);
    Box::new(with_field(
        *refusal,
        header::WWW_AUTHENTICATE,
        Some(&challenge),
    ))
}

fn bad_parameter(message: &str) -> Refused {
    refuse(StatusCode::BAD_REQUEST, "BadParameter", message)
}

impl State {
    fn answer(&self, request: &Whole) -> Answer {
        self.read(request).unwrap_or_else(|refusal| *refusal)
    }

    fn read(&self, request: &Whole) -> Result<Answer, Refused> {
        self.authorise(request)?;
        let (name, version) = secret_of(request)?;
        self.asked
            .send_modify(|asked| asked.push((name.clone(), version.clone())));
        if let Some(fault) = lock(&self.fault).clone() {
            let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::BAD_GATEWAY);
            let refusal = refuse(status, "Unavailable", "The vault cannot answer.");
            let after = fault.retry_after.as_deref();
            let refusal = with_field(*refusal, header::RETRY_AFTER, after);
            return Err(Box::new(refusal));
        }
        let query = parameters(request.uri().query().unwrap_or_default());
        if parameter_of_any_case(&query, "api-version").is_none() {
            return Err(bad_parameter(
                "The api-version query parameter is required.",
            ));
        }
        let (stored_as, found) = self.find(&name, version.as_deref())?;
        self.may_be_read(&found)?;
        may_be_written_as(
            &found,
            parameter_of_any_case(&query, "outContentType").as_deref(),
        )?;
        Ok(bundle(&host_of(request), &stored_as, found))
    }

    fn authorise(&self, request: &Whole) -> Result<(), Refused> {
        let Some(sent) = request.headers().get(header::AUTHORIZATION) else {
            return Err(unauthorized(
                "AKV10000: Request is missing a Bearer or PoP token.",
            ));
        };
        let token = sent.to_str().ok().and_then(|sent| sent.split_once(' '));
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        match token.and_then(|(_, token)| self.issued.resource(token)) {
            Some(resource) if resource == VAULT_RESOURCE => Ok(()),
            Some(_) => Err(unauthorized("AKV10022: Invalid audience.")),
            None => Err(unauthorized("AKV10032: Invalid issuer.")),
        }
    }

    fn find(&self, name: &str, version: Option<&str>) -> Result<(String, Version), Refused> {
        let secrets = lock(&self.secrets);
        let secret = secrets.get(&name.to_ascii_lowercase());
        let found = secret.and_then(|secret| {
            let mut versions = secret.versions.iter();
            let found = match version {
                None => versions.next_back(),
                Some(version) => versions.find(|known| known.id.eq_ignore_ascii_case(version)),
            };
            Some((secret.name.clone(), found?.clone()))
        });
        found.ok_or_else(|| {
            let message =
                format!("A secret with (name/id) {name} was not found in this key vault.");
            refuse(StatusCode::NOT_FOUND, "SecretNotFound", &message)
        })
    }

    /// A disabled secret cannot be read, nor the secret of a certificate that has ended.
    fn may_be_read(&self, version: &Version) -> Result<(), Refused> {
        if !version.enabled {
            return Err(inoperable(
                "SecretDisabled",
                "Operation get is not allowed on a disabled secret.",
            ));
        }
        let now = self.clock.now().unix_seconds();
        let ended = version.expires.is_some_and(|expires| expires <= now);
        if ended && certificate(version) {
            return Err(inoperable(
                "SecretExpired",
                "Operation get is not allowed on an expired secret.",
            ));
        }
        Ok(())
    }
}

fn certificate(version: &Version) -> bool {
    matches!(version.content_type.as_deref(), Some(PFX | PEM))
}

/// The name and version that a path names. The official Rust crate ends the path of the current
/// version with a slash.
fn secret_of(request: &Whole) -> Result<(String, Option<String>), Refused> {
    let path = request.uri().path();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let (name, version) = match segments.as_slice() {
        ["secrets", name] | ["secrets", name, ""] => (*name, None),
        ["secrets", name, version] | ["secrets", name, version, ""] => (*name, Some(*version)),
        _ => {
            return Err(refuse(
                StatusCode::NOT_FOUND,
                "NotFound",
                "No such operation.",
            ));
        }
    };
    if request.method() != Method::GET {
        return Err(refuse(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "This vault is for reading.",
        ));
    }
    let named = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if name.is_empty() || name.len() > 127 || !name.chars().all(named) {
        return Err(bad_parameter("The request URI contains an invalid name."));
    }
    Ok((name.to_owned(), version.map(str::to_owned)))
}

/// This vault converts nothing, as services before the conversion from PFX to PEM did.
fn may_be_written_as(version: &Version, wanted: Option<&str>) -> Result<(), Refused> {
    match wanted {
        Some(wanted) if version.content_type.as_deref() != Some(wanted) => Err(bad_parameter(
            "The parameter outContentType is not supported.",
        )),
        Some(_) | None => Ok(()),
    }
}

fn host_of(request: &Whole) -> String {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok());
    host.unwrap_or("localhost").to_owned()
}

/// A secret as the REST reference shows it.
fn bundle(host: &str, name: &str, version: Version) -> Answer {
    let mut attributes = json!({
        "enabled": version.enabled,
        "created": version.created,
        "updated": version.updated,
        "recoveryLevel": "Recoverable+Purgeable",
        "recoverableDays": 90,
    });
    let mut whole = json!({
        "id": format!("https://{host}/secrets/{name}/{}", version.id),
        "tags": {},
    });
    let add = |object: &mut Value, name: &str, value: Value| {
        let object: Option<&mut Map<String, Value>> = object.as_object_mut();
        if let Some(members) = object {
            members.insert(name.to_owned(), value);
        }
    };
    if let Some(expires) = version.expires {
        add(&mut attributes, "exp", expires.into());
    }
    if certificate(&version) {
        let key = format!("https://{host}/keys/{name}/{}", version.id);
        add(&mut whole, "kid", key.into());
        add(&mut whole, "managed", true.into());
    }
    if let Some(content_type) = version.content_type {
        add(&mut whole, "contentType", content_type.into());
    }
    add(&mut whole, "attributes", attributes);
    add(&mut whole, "value", version.value.into());
    answer_json(StatusCode::OK, &whole)
}
