//! A small Entra ID: metadata, keys and token endpoints of v1 and v2, for any tenant.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::ca::Ca;
use super::grant::{Call, Grants};
use super::issued::Issued;
use super::lock;
use super::mint::{Key, Token, issuer};
use super::serve::{Answer, Served, Whole, json as answer_json, serve};
use crate::clock::Clock;
use crate::entra::Version;
use crate::ids::PERSONAL_ACCOUNTS;

/// An Entra that runs as long as this is held.
pub struct Entra {
    served: Served,
    state: Arc<State>,
}

struct State {
    clock: Arc<dyn Clock>,
    keys: Mutex<Keys>,
    personal: Key,
    grants: Grants,
    signed: Mutex<Vec<String>>,
    faults: Mutex<HashMap<(String, Version), Fault>>,
    fetches: watch::Sender<u64>,
    authority: Mutex<String>,
}

struct Keys {
    signing: Arc<Key>,
    listed: Vec<Arc<Key>>,
}

/// An application that may ask for tokens.
#[derive(Clone, Debug)]
pub struct App {
    /// Its client secret; empty for none.
    pub secret: String,
    /// The roles that it has been assigned.
    pub roles: Vec<String>,
    /// The version of tokens that the API's registration asks for.
    pub version: Version,
}

/// What can be wrong with a tenant's key document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection closes without an answer.
    Refuse,
    /// This status.
    Status(u16),
    /// No answer, ever.
    Hang,
    /// A document without end: larger than anybody should read.
    Huge,
    /// Not JSON.
    Garbage,
    /// No keys in it.
    Empty,
    /// Redirects elsewhere.
    Redirect,
}

impl Entra {
    /// Starts it, with one signing key.
    ///
    /// # Errors
    /// When no port is free or no key can be made.
    pub async fn start(ca: &Ca, clock: Arc<dyn Clock>) -> io::Result<Self> {
        Self::sharing(ca, clock, Issued::default()).await
    }

    /// Starts it, and writes down what it issues where the demo's backends look.
    ///
    /// # Errors
    /// When no port is free or no key can be made.
    pub async fn sharing(ca: &Ca, clock: Arc<dyn Clock>, issued: Issued) -> io::Result<Self> {
        let first = Arc::new(Key::new()?);
        let state = Arc::new(State {
            clock,
            keys: Mutex::new(Keys {
                signing: Arc::clone(&first),
                listed: vec![first],
            }),
            personal: Key::new()?,
            grants: Grants::new(issued)?,
            signed: Mutex::default(),
            faults: Mutex::default(),
            fetches: watch::Sender::new(0),
            authority: Mutex::default(),
        });
        let answering = Arc::clone(&state);
        let served = serve(Some(ca.server_config(&[b"http/1.1"])?), move |request| {
            Arc::clone(&answering).answer(request)
        })
        .await?;
        *lock(&state.authority) = format!("https://localhost:{}", served.address.port());
        Ok(Self { served, state })
    }

    /// Its base URL, for `entra.authority`.
    pub fn authority(&self) -> String {
        format!("https://localhost:{}", self.served.address.port())
    }

    /// The time by which it issues tokens, in seconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        self.state.clock.now().unix_seconds()
    }

    /// Lets an application ask for tokens.
    pub fn register(&self, app: &str, registration: App) {
        self.state.grants.register(app, registration);
    }

    /// A service account token of the demo's Kubernetes, good for an hour.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn federated_token(&self) -> io::Result<String> {
        self.state.grants.proofs.federated_token(self.now())
    }

    /// Lets an application exchange service account tokens.
    pub fn federate(&self, app: &str) {
        self.state.grants.proofs.federate(app);
    }

    /// Takes a service account token for one that has ended.
    pub fn revoke_federated(&self, token: &str) {
        self.state.grants.proofs.revoke_federated(token);
    }

    /// Lets an application prove who it is by the key of one more certificate, which is DER.
    pub fn trust_certificate(&self, app: &str, der: &[u8]) {
        self.state.grants.proofs.trust_certificate(app, der);
    }

    /// Forgets all certificates of an application.
    pub fn distrust_certificates(&self, app: &str) {
        self.state.grants.proofs.distrust_certificates(app);
    }

    /// How long the token endpoint's tokens live from now on, in seconds.
    pub fn set_token_lifetime(&self, seconds: u64) {
        self.state.grants.set_lifetime(seconds);
    }

    /// The token endpoint advises to refresh after so many seconds.
    pub fn set_refresh_in(&self, seconds: Option<u64>) {
        self.state.grants.set_refresh_in(seconds);
    }

    /// The token endpoint answers with this status from now on, or well again.
    pub fn set_token_fault(&self, status: Option<u16>) {
        self.state.grants.set_fault(status);
    }

    /// How often the token endpoint has been asked.
    pub fn tokens_asked(&self) -> watch::Receiver<u64> {
        self.state.grants.asked()
    }

    /// The tokens of the token endpoint, and whatever else shares the list.
    pub fn issued(&self) -> Issued {
        self.state.grants.issued.clone()
    }

    /// Every secret that it knows: what it is, and its value.
    pub(super) fn secrets(&self) -> Vec<(String, String)> {
        let named = |what: &'static str, values: Vec<String>| {
            let values = values.into_iter();
            values.map(move |value| (what.to_owned(), value))
        };
        let grants = &self.state.grants;
        named("a caller's token", lock(&self.state.signed).clone())
            .chain(named("a client secret", grants.secrets()))
            .chain(named(
                "a service account token",
                grants.proofs.federated_tokens(),
            ))
            .collect()
    }

    /// Signs a token with the current key.
    ///
    /// # Errors
    /// When its header asks for the impossible.
    pub fn sign(&self, token: &Token) -> io::Result<String> {
        let key = Arc::clone(&lock(&self.state.keys).signing);
        self.remembered(token.signed_by(&key)?)
    }

    /// Signs a token with the key of personal accounts.
    ///
    /// # Errors
    /// When its header asks for the impossible.
    pub fn sign_personal(&self, token: &Token) -> io::Result<String> {
        self.remembered(token.signed_by(&self.state.personal)?)
    }

    fn remembered(&self, token: String) -> io::Result<String> {
        lock(&self.state.signed).push(token.clone());
        Ok(token)
    }

    /// The current signing key.
    pub fn key(&self) -> Arc<Key> {
        Arc::clone(&lock(&self.state.keys).signing)
    }

    /// Signs with a new key from now on, and lists no other.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn rotate(&self) -> io::Result<()> {
        let key = Arc::new(Key::new()?);
        *lock(&self.state.keys) = Keys {
            signing: Arc::clone(&key),
            listed: vec![key],
        };
        Ok(())
    }

    /// Breaks the key document of one issuer, or mends it.
    pub fn set_fault(&self, tenant: &str, version: Version, fault: Option<Fault>) {
        let mut faults = lock(&self.state.faults);
        let issuer = (tenant.to_owned(), version);
        match fault {
            Some(fault) => faults.insert(issuer, fault),
            None => faults.remove(&issuer),
        };
    }

    /// How often key documents have been asked for.
    pub fn fetches(&self) -> u64 {
        *self.state.fetches.borrow()
    }

    /// Waits until key documents have been asked for this often.
    pub async fn fetched(&self, times: u64) {
        let mut fetches = self.state.fetches.subscribe();
        // INVARIANT: the sender lives in what is borrowed.
        let _ = fetches.wait_for(|fetched| *fetched >= times).await;
    }
}

impl State {
    async fn answer(self: Arc<Self>, request: Whole) -> Option<Answer> {
        let path = request.uri().path().to_owned();
        let mut segments = path.trim_start_matches('/').split('/');
        let tenant = segments.next().unwrap_or_default().to_owned();
        let rest: Vec<&str> = segments.collect();
        Some(match (request.method(), rest.as_slice()) {
            (&Method::GET, [".well-known", "openid-configuration"]) => {
                self.metadata(&tenant, Version::V1)
            }
            (&Method::GET, ["v2.0", ".well-known", "openid-configuration"]) => {
                self.metadata(&tenant, Version::V2)
            }
            (&Method::GET, ["discovery", "keys"]) => return self.keys(&tenant, Version::V1).await,
            (&Method::GET, ["discovery", "v2.0", "keys"]) => {
                return self.keys(&tenant, Version::V2).await;
            }
            (&Method::POST, ["oauth2", "v2.0", "token"]) => self.token(&tenant, "scope", &request),
            (&Method::POST, ["oauth2", "token"]) => self.token(&tenant, "resource", &request),
            _ => answer_json(StatusCode::NOT_FOUND, &json!({ "error": "not_found" })),
        })
    }

    fn token(&self, tenant: &str, named_by: &str, request: &Whole) -> Answer {
        self.grants.answer(&Call {
            tenant,
            named_by,
            request,
            now: self.clock.now().unix_seconds(),
            key: Arc::clone(&lock(&self.keys).signing),
        })
    }

    fn metadata(&self, tenant: &str, version: Version) -> Answer {
        let base = format!("{}/{tenant}", lock(&self.authority));
        let (oauth, keys) = match version {
            Version::V1 => ("oauth2", "discovery/keys"),
            Version::V2 => ("oauth2/v2.0", "discovery/v2.0/keys"),
        };
        let document = json!({
            "issuer": issuer(version, tenant),
            "authorization_endpoint": format!("{base}/{oauth}/authorize"),
            "token_endpoint": format!("{base}/{oauth}/token"),
            "jwks_uri": format!("{base}/{keys}"),
            "response_types_supported": ["code", "id_token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        answer_json(StatusCode::OK, &document)
    }

    async fn keys(&self, tenant: &str, version: Version) -> Option<Answer> {
        self.fetches.send_modify(|fetches| *fetches += 1);
        let fault = lock(&self.faults)
            .get(&(tenant.to_owned(), version))
            .copied();
        let plain = |body: String| Response::new(Full::new(Bytes::from(body)));
        Some(match fault {
            None => answer_json(StatusCode::OK, &self.key_document(version)),
            Some(Fault::Refuse) => return None,
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Huge) => plain(" ".repeat(8 * 1024 * 1024)),
            Some(Fault::Garbage) => plain("<html>Our services aren't available</html>".to_owned()),
            Some(Fault::Empty) => answer_json(StatusCode::OK, &json!({ "keys": [] })),
            Some(Fault::Status(status)) => {
                let mut answer = plain(String::new());
                *answer.status_mut() =
                    StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                answer
            }
            Some(Fault::Redirect) => {
                let mut answer = plain(String::new());
                *answer.status_mut() = StatusCode::FOUND;
                let elsewhere = http::HeaderValue::from_static("https://localhost:1/keys");
                answer
                    .headers_mut()
                    .insert(http::header::LOCATION, elsewhere);
                answer
            }
        })
    }

    /// v2 lists each key with its issuer, that of personal accounts among them; v1 does not.
    fn key_document(&self, version: Version) -> Value {
        let keys = lock(&self.keys);
        let mut listed: Vec<Value> = Vec::new();
        for key in &keys.listed {
            listed.push(key.jwk(match version {
                Version::V1 => None,
                Version::V2 => Some("https://login.microsoftonline.com/{tenantid}/v2.0"),
            }));
        }
        if version == Version::V2 {
            let personal = issuer(Version::V2, &PERSONAL_ACCOUNTS.to_string());
            listed.push(self.personal.jwk(Some(&personal)));
        }
        json!({ "keys": listed })
    }
}
