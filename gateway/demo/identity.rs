//! A small identity endpoint, as App Service, Functions and Container Apps have one, and as IMDS is.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use serde_json::json;
use tokio::sync::watch;

use super::serve::{Answer, Served, Whole, json as answer_json, parameter, parameters, serve};
use crate::clock::Clock;
use crate::ids::random_u128;

/// The value of IDENTITY_HEADER that the endpoint asks for.
pub const IDENTITY_HEADER: &str = "demo-identity-header";

/// An identity endpoint that runs as long as this is held.
pub struct IdentityEndpoint {
    served: Served,
    state: Arc<State>,
}

struct State {
    clock: Arc<dyn Clock>,
    issued: Issued,
    fault: Mutex<Option<u16>>,
    lifetime: Mutex<u64>,
    asked: watch::Sender<Vec<Asked>>,
}

/// A request for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What the token is for.
    pub resource: String,
    /// Which identity was asked for: the parameter and its value; `None` for the system's.
    pub identity: Option<(String, String)>,
    /// By IMDS's protocol instead of App Service's.
    pub imds: bool,
}

/// The tokens that were issued, by their text, and what each is for. Backends look them up.
#[derive(Clone, Default)]
pub struct Issued(Arc<Mutex<HashMap<String, String>>>);

impl Issued {
    /// What a token is for, if it was issued here.
    pub fn resource(&self, token: &str) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(token)
            .cloned()
    }

    fn issue(&self, resource: &str) -> String {
        let token = format!("demo.{:032x}.managed-identity", random_u128());
        let mut issued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        issued.insert(token.clone(), resource.to_owned());
        token
    }
}

impl IdentityEndpoint {
    /// Starts it; tokens live for a day.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(clock: Arc<dyn Clock>) -> io::Result<Self> {
        let state = Arc::new(State {
            clock,
            issued: Issued::default(),
            fault: Mutex::default(),
            lifetime: Mutex::new(24 * 3600),
            asked: watch::Sender::default(),
        });
        let answering = Arc::clone(&state);
        let served = serve(None, move |request| {
            let answer = answering.answer(&request);
            async { Some(answer) }
        })
        .await?;
        Ok(Self { served, state })
    }

    /// IDENTITY_ENDPOINT.
    pub fn endpoint(&self) -> String {
        format!("http://{}/msi/token", self.served.address)
    }

    /// Where IMDS's protocol is spoken.
    pub fn imds(&self) -> SocketAddr {
        self.served.address
    }

    /// The tokens that were issued.
    pub fn issued(&self) -> Issued {
        self.state.issued.clone()
    }

    /// Answers with this status from now on, or well again.
    pub fn set_fault(&self, status: Option<u16>) {
        *self
            .state
            .fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// How long tokens live from now on, in seconds.
    pub fn set_lifetime(&self, seconds: u64) {
        *self
            .state
            .lifetime
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = seconds;
    }

    /// The requests so far.
    pub fn asked(&self) -> watch::Receiver<Vec<Asked>> {
        self.state.asked.subscribe()
    }
}

impl State {
    fn answer(&self, request: &Whole) -> Answer {
        let refuse = |status: StatusCode, error: &str| {
            answer_json(
                status,
                &json!({ "error": error, "error_description": "see error" }),
            )
        };
        let query = parameters(request.uri().query().unwrap_or_default());
        let Some(resource) = parameter(&query, "resource") else {
            return refuse(StatusCode::BAD_REQUEST, "invalid_request");
        };
        let imds = request.uri().path() == "/metadata/identity/oauth2/token";
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let selectors: &[&str] = if imds {
            if header("metadata") != Some("true") {
                return refuse(StatusCode::BAD_REQUEST, "bad_request_102");
            }
            if header("x-forwarded-for").is_some() {
                return refuse(StatusCode::BAD_REQUEST, "invalid_request");
            }
            &["client_id", "object_id", "msi_res_id"]
        } else {
            if header("x-identity-header") != Some(IDENTITY_HEADER) {
                return refuse(StatusCode::UNAUTHORIZED, "unknown_source");
            }
            &["client_id", "principal_id", "object_id", "mi_res_id"]
        };
        let identity = selectors
            .iter()
            .find_map(|name| Some(((*name).to_owned(), parameter(&query, name)?)));
        let asked = Asked {
            resource: resource.clone(),
            identity,
            imds,
        };
        self.asked.send_modify(|requests| requests.push(asked));
        if let Some(status) = *self.fault.lock().unwrap_or_else(PoisonError::into_inner) {
            return refuse(
                StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY),
                "unavailable",
            );
        }
        let lifetime = *self.lifetime.lock().unwrap_or_else(PoisonError::into_inner);
        let expires = self.clock.now().unix_seconds() + lifetime;
        // Numbers as text, as both endpoints write them.
        let mut answer = json!({
            "access_token": self.issued.issue(&resource),
            "expires_on": expires.to_string(),
            "resource": resource,
            "token_type": "Bearer",
        });
        if let (true, Some(members)) = (imds, answer.as_object_mut()) {
            members.insert("expires_in".to_owned(), lifetime.to_string().into());
            members.insert("refresh_token".to_owned(), "".into());
        }
        answer_json(StatusCode::OK, &answer)
    }
}
