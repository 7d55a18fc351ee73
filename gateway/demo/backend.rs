//! A Function and a Logic App. Each writes down what it saw, and answers as its model in Azure does.

use std::io;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::ca::Ca;
use super::identity::Issued;
use super::names;
use super::serve::{Answer, Served, Whole, json as answer_json, parameter, parameters, serve};

/// What a backend saw of one request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// Path and query, as they came.
    pub target: String,
    /// Every header field.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Seen {
    fn of(request: &Whole) -> Self {
        Self {
            method: request.method().clone(),
            target: request
                .uri()
                .path_and_query()
                .map_or_else(String::new, ToString::to_string),
            headers: request.headers().clone(),
            body: request.body().to_vec(),
        }
    }

    /// The bearer token, if one came.
    pub fn bearer(&self) -> Option<&str> {
        self.headers
            .get(header::AUTHORIZATION)?
            .to_str()
            .ok()?
            .strip_prefix("Bearer ")
    }
}

/// A backend that runs as long as this is held.
pub struct Backend {
    served: Served,
    seen: watch::Sender<Vec<Seen>>,
}

impl Backend {
    /// A Function that is called with a managed identity's token, on https.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn function(ca: &Ca, issued: Issued) -> io::Result<Self> {
        Self::start(ca, move |seen| function(seen, &issued)).await
    }

    /// A Logic App on the Consumption plan, with an OAuth policy, on https.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn logic_app(ca: &Ca, issued: Issued) -> io::Result<Self> {
        Self::start(ca, move |seen| logic_app(seen, &issued)).await
    }

    async fn start(
        ca: &Ca,
        answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let seen = watch::Sender::new(Vec::new());
        let (writing, answer) = (seen.clone(), Arc::new(answer));
        let tls = ca.server_config(&[b"http/1.1"])?;
        let served = serve(Some(tls), move |request| {
            let one = Seen::of(&request);
            let answer = answer(&one);
            writing.send_modify(|seen: &mut Vec<Seen>| seen.push(one));
            async { Some(answer) }
        })
        .await?;
        Ok(Self { served, seen })
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.served.address.port())
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }
}

/// The path of the demo's workflow.
pub const TRIGGER: &str =
    "/workflows/0123456789abcdef0123456789abcdef/triggers/manual/paths/invoke";

/// The signature that makes the workflow's link a key for everyone who holds it.
pub const SAS_SIGNATURE: &str = "planted-sas-signature-1f9a";

/// The parameters of the workflow's SAS link, in the form in which Azure hands it out.
pub fn sas_query() -> String {
    format!("api-version=2016-10-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig={SAS_SIGNATURE}")
}

fn function(seen: &Seen, issued: &Issued) -> Answer {
    let resource = seen.bearer().and_then(|token| issued.resource(token));
    if resource.as_deref() != Some(names::FUNCTION_RESOURCE) {
        let mut answer = answer_json(StatusCode::UNAUTHORIZED, &Value::Null);
        let challenge =
            HeaderValue::from_static("Bearer realm=\"contoso-guests.azurewebsites.net\"");
        answer
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, challenge);
        return answer;
    }
    let headers: Vec<Value> = seen
        .headers
        .iter()
        .map(|(name, value)| shown(name.as_str(), value))
        .collect();
    let echo = json!({ "method": seen.method.as_str(), "target": seen.target, "headers": headers });
    answer_json(StatusCode::OK, &echo)
}

fn shown(name: &str, value: &HeaderValue) -> Value {
    let value = match name {
        "authorization" => format!(
            "Bearer <managed identity token for {}>",
            names::FUNCTION_RESOURCE
        ),
        _ => String::from_utf8_lossy(value.as_bytes()).into_owned(),
    };
    json!([name, value])
}

/// The rules of a Logic App's request trigger: exactly one credential, and `api-version`.
fn logic_app(seen: &Seen, issued: &Issued) -> Answer {
    let refuse = |status: StatusCode, code: &str, message: &str| {
        answer_json(
            status,
            &json!({ "error": { "code": code, "message": message } }),
        )
    };
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let query = parameters(query);
    let signature = parameter(&query, "sig");
    let bearer = seen.bearer().map(|token| issued.resource(token));
    if path != TRIGGER || seen.method != Method::POST {
        return refuse(
            StatusCode::NOT_FOUND,
            "WorkflowTriggerNotFound",
            "No such trigger.",
        );
    }
    if parameter(&query, "api-version").is_none() {
        return refuse(
            StatusCode::BAD_REQUEST,
            "MissingApiVersionParameter",
            "The api-version query parameter is required.",
        );
    }
    match (signature, bearer) {
        (Some(_), Some(_)) => refuse(
            StatusCode::UNAUTHORIZED,
            "DirectApiRequestHasMoreThanOneAuthorization",
            "The request has SAS authentication scheme, 'Bearer' authorization scheme or internal token scheme. Only one scheme should be used.",
        ),
        (None, None) => refuse(
            StatusCode::UNAUTHORIZED,
            "DirectApiAuthorizationRequired",
            "The request must be authenticated by Shared Access scheme.",
        ),
        (Some(signature), None) if signature != SAS_SIGNATURE => refuse(
            StatusCode::UNAUTHORIZED,
            "AuthorizationFailed",
            "The authentication credentials are not valid.",
        ),
        (None, Some(resource)) if resource.as_deref() != Some(names::LOGIC_APP_RESOURCE) => refuse(
            StatusCode::FORBIDDEN,
            "MisMatchingOAuthClaims",
            "One or more claims either missing or does not match with the open authentication access control policy.",
        ),
        (Some(_), None) | (None, Some(_)) => {
            answer_json(StatusCode::OK, &json!({ "invited": true }))
        }
    }
}
