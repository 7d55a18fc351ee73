//! Entra's token endpoint: client credentials (RFC 6749 section 4.4), with Entra's way of naming what
//! the token is for.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use http::{StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::entra::App;
use super::issued::Issued;
use super::lock;
use super::mint::{Key, Token};
use super::proof::{Attempt, Proofs, Refusal};
use super::serve::{Answer, Whole, json as answer_json, parameter, parameters, with_field};

/// What the token endpoint knows.
pub(super) struct Grants {
    pub(super) issued: Issued,
    pub(super) proofs: Proofs,
    apps: Mutex<HashMap<String, App>>,
    manner: Mutex<Manner>,
    asked: watch::Sender<u64>,
}

/// How it answers.
struct Manner {
    lifetime: u64,
    refresh_in: Option<u64>,
    fault: Option<u16>,
}

/// One call of the endpoint.
pub(super) struct Call<'a> {
    pub(super) tenant: &'a str,
    /// The parameter that says what the token is for: `scope`, or `resource` in v1.
    pub(super) named_by: &'a str,
    pub(super) request: &'a Whole,
    /// Seconds since the Unix epoch.
    pub(super) now: u64,
    pub(super) key: Arc<Key>,
}

impl Grants {
    pub(super) fn new(issued: Issued) -> io::Result<Self> {
        Ok(Self {
            issued,
            proofs: Proofs::new()?,
            apps: Mutex::default(),
            manner: Mutex::new(Manner {
                lifetime: 3599,
                refresh_in: None,
                fault: None,
            }),
            asked: watch::Sender::new(0),
        })
    }

    pub(super) fn register(&self, app: &str, registration: App) {
        lock(&self.apps).insert(app.to_owned(), registration);
    }

    pub(super) fn secrets(&self) -> Vec<String> {
        let apps = lock(&self.apps);
        apps.values().map(|app| app.secret.clone()).collect()
    }

    pub(super) fn set_lifetime(&self, seconds: u64) {
        lock(&self.manner).lifetime = seconds;
    }

    pub(super) fn set_refresh_in(&self, seconds: Option<u64>) {
        lock(&self.manner).refresh_in = seconds;
    }

    pub(super) fn set_fault(&self, status: Option<u16>) {
        lock(&self.manner).fault = status;
    }

    pub(super) fn asked(&self) -> watch::Receiver<u64> {
        self.asked.subscribe()
    }

    pub(super) fn answer(&self, call: &Call<'_>) -> Answer {
        self.asked.send_modify(|asked| *asked += 1);
        let fault = lock(&self.manner).fault;
        if let Some(status) = fault {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            return answer_json(status, &json!({ "error": "temporarily_unavailable" }));
        }
        self.grant(call).unwrap_or_else(|refusal| told(&refusal))
    }

    fn grant(&self, call: &Call<'_>) -> Result<Answer, Refusal> {
        let form = parameters(&String::from_utf8_lossy(call.request.body()));
        let field = |name: &str| parameter(&form, name).unwrap_or_default();
        if field("grant_type") != "client_credentials" {
            let why = "The app requested an unsupported grant type.".to_owned();
            return Err(Refusal(70_003, "unsupported_grant_type", why));
        }
        let id = field("client_id");
        let app = lock(&self.apps).get(&id).cloned();
        let app = app.ok_or_else(|| {
            let why = "Application was not found in the directory.".to_owned();
            Refusal(700_016, "unauthorized_client", why)
        })?;
        let attempt = Attempt {
            app: &id,
            secret: &app.secret,
            form: &form,
            called: &called(call.request),
            now: call.now,
        };
        self.proofs.check(&attempt, &self.issued)?;
        let audience = audience(call.named_by, &field(call.named_by))?;
        self.token(call, &id, &app, &audience)
    }

    fn token(
        &self,
        call: &Call<'_>,
        id: &str,
        app: &App,
        audience: &str,
    ) -> Result<Answer, Refusal> {
        let (lifetime, refresh_in) = {
            let manner = lock(&self.manner);
            (manner.lifetime, manner.refresh_in)
        };
        let roles: Vec<&str> = app.roles.iter().map(String::as_str).collect();
        let token = Token::app(app.version, call.tenant, id, audience, call.now)
            .claim("exp", call.now + lifetime)
            .roles(&roles)
            .signed_by(&call.key)
            .map_err(|error| Refusal(90_000, "server_error", error.to_string()))?;
        self.issued.register(&token, audience, id);
        let mut answer = json!({
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": token,
        });
        if let (Some(seconds), Some(members)) = (refresh_in, answer.as_object_mut()) {
            members.insert("refresh_in".to_owned(), seconds.into());
        }
        Ok(answer_json(StatusCode::OK, &answer))
    }
}

/// What `scope` or `resource` names. Of a scope, only what ends in `/.default` is for an app; a
/// resource that itself ends in a slash has two before it.
fn audience(named_by: &str, wanted: &str) -> Result<String, Refusal> {
    let audience = match named_by {
        "scope" => wanted.strip_suffix("/.default").unwrap_or_default(),
        _ => wanted,
    };
    if audience.is_empty() {
        let why = "The provided value for scope is not valid.".to_owned();
        return Err(Refusal(1_002_012, "invalid_scope", why));
    }
    Ok(audience.to_owned())
}

/// The URL of the endpoint, as it was called.
fn called(request: &Whole) -> String {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    format!("https://{host}{}", request.uri().path())
}

/// RFC 6749 section 5.2; Entra answers 401 to a client that did not prove who it is.
fn told(Refusal(code, error, why): &Refusal) -> Answer {
    let status = match *error {
        "invalid_client" => StatusCode::UNAUTHORIZED,
        _ => StatusCode::BAD_REQUEST,
    };
    let problem: Value = json!({
        "error": error,
        "error_description": format!("AADSTS{code}: {why}"),
        "error_codes": [code],
    });
    with_field(
        answer_json(status, &problem),
        header::CACHE_CONTROL,
        Some("no-store, no-cache"),
    )
}
