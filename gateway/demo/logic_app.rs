//! A Logic App on the Consumption plan: one workflow that answers at once, and one that answers later,
//! by a URL that is a key.

use std::collections::HashMap;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::backend::{Backend, Model, Seen};
use super::issued::Issued;
use super::serve::{Answer, Refused, json as answer_json, parameter_of_any_case, with_field};
use super::{lock, names};
use crate::ids::random_u128;

/// The path of the demo's workflow.
pub const TRIGGER: &str =
    "/workflows/0123456789abcdef0123456789abcdef/triggers/manual/paths/invoke";

/// The path of the workflow that answers later.
pub const ASYNC_TRIGGER: &str =
    "/workflows/fedcba9876543210fedcba9876543210/triggers/manual/paths/invoke";

const ASYNC_WORKFLOW: &str = "fedcba9876543210fedcba9876543210";

/// The signature that makes the workflow's link a key for everyone who holds it.
pub const SAS_SIGNATURE: &str = "planted-sas-signature-1f9a";

/// The same of the workflow that answers later.
pub const ASYNC_SAS_SIGNATURE: &str = "planted-sas-signature-2c4e";

/// The permission that a trigger's link grants.
const RUN_TRIGGER: &str = "/triggers/manual/run";

/// When links into a run end.
const LINKS_END: &str = "2099-12-31T23%3A00%3A00.0000000Z";

/// The parameters of the workflow's SAS link, in the form in which Azure hands it out.
pub fn sas_query() -> String {
    trigger_query(SAS_SIGNATURE)
}

/// The same of the workflow that answers later.
pub fn async_sas_query() -> String {
    trigger_query(ASYNC_SAS_SIGNATURE)
}

fn trigger_query(signature: &str) -> String {
    format!("api-version=2016-10-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig={signature}")
}

/// The workflows and their runs.
pub struct LogicApp {
    issued: Issued,
    settings: Mutex<Settings>,
    runs: Mutex<HashMap<String, Run>>,
}

struct Settings {
    sas: bool,
    oauth: bool,
    polls: u32,
}

/// A run of the workflow that answers later: what may be read of it, by which signature.
struct Run {
    /// How often it says that it is not done yet.
    polls: u32,
    operation: Link,
    contents: [Link; 2],
}

/// A path below the run, and the signature that makes its URL a key.
#[derive(Clone)]
struct Link {
    path: String,
    signature: String,
}

impl Link {
    fn new(path: String) -> Self {
        let mut bytes = random_u128().to_be_bytes().to_vec();
        bytes.extend(random_u128().to_be_bytes());
        Self {
            path,
            signature: URL_SAFE_NO_PAD.encode(bytes),
        }
    }

    /// What the link permits, decoded, as `sp` says it.
    fn permission(&self) -> String {
        format!("{}/read", self.path)
    }

    /// Whether what a request brings is this link, whole.
    fn opens(&self, path: &str, signature: &str, permission: &str) -> bool {
        self.path == path && self.signature == signature && self.permission() == permission
    }

    fn url(&self, base: &str, ends: bool) -> String {
        let permission = self.permission().replace('/', "%2F");
        let ends = match ends {
            true => format!("se={LINKS_END}&"),
            false => String::new(),
        };
        format!(
            "{base}/workflows/{ASYNC_WORKFLOW}{}?api-version=2016-06-01&{ends}sp={permission}&sv=1.0&sig={}",
            self.path, self.signature
        )
    }
}

impl Run {
    fn new(id: &str, polls: u32) -> Self {
        let content = |name| Link::new(format!("/runs/{id}/contents/{name}"));
        Self {
            polls,
            operation: Link::new(format!("/runs/{id}/operations/{:032x}", random_u128())),
            contents: [content("TriggerInputs"), content("TriggerOutputs")],
        }
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        std::iter::once(&self.operation).chain(&self.contents)
    }

    /// 202 with the operation's URL, and a body with more such URLs.
    fn accepted(&self, base: &str) -> Answer {
        let [inputs, outputs] = &self.contents;
        let body = json!({ "properties": {
            "status": "Running",
            "workflow": { "name": ASYNC_WORKFLOW },
            "trigger": {
                "name": "manual",
                "inputsLink": { "uri": inputs.url(base, true), "contentSize": 29 },
                "outputsLink": { "uri": outputs.url(base, true), "contentSize": 29 },
            },
        } });
        let answer = answer_json(StatusCode::ACCEPTED, &body);
        let location = self.operation.url(base, false);
        let answer = with_field(answer, header::LOCATION, Some(&location));
        with_field(answer, header::RETRY_AFTER, Some("1"))
    }
}

impl Backend<LogicApp> {
    /// Whether a SAS link starts a workflow (`sasAuthenticationPolicy`). Links into runs stay good.
    pub fn set_sas(&self, on: bool) {
        lock(&self.model.settings).sas = on;
    }

    /// Whether there is an OAuth policy.
    pub fn set_oauth(&self, on: bool) {
        lock(&self.model.settings).oauth = on;
    }

    /// How often a run that begins from now on says that it is not done yet. Once, unless set.
    pub fn set_polls(&self, times: u32) {
        lock(&self.model.settings).polls = times;
    }

    /// Every signature that there is.
    pub fn signatures(&self) -> Vec<String> {
        let mut signatures = vec![SAS_SIGNATURE.to_owned(), ASYNC_SAS_SIGNATURE.to_owned()];
        let runs = lock(&self.model.runs);
        let links = runs.values().flat_map(Run::links);
        signatures.extend(links.map(|link| link.signature.clone()));
        signatures
    }
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Refused {
    let problem = json!({ "error": { "code": code, "message": message } });
    Box::new(answer_json(status, &problem))
}

fn unauthorized(code: &str, message: &str) -> Refused {
    refuse(StatusCode::UNAUTHORIZED, code, message)
}

/// What a request brings to be let in.
enum Scheme {
    Sas {
        signature: String,
        permission: String,
    },
    Bearer(String),
}

impl Scheme {
    /// Exactly one scheme: a SAS signature beside any `Authorization`, whatever its scheme, is two.
    fn of(seen: &Seen, query: &[(String, String)]) -> Result<Self, Refused> {
        let authorization = seen.headers.get(header::AUTHORIZATION);
        let authorization =
            authorization.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let signature = parameter_of_any_case(query, "sig");
        match (signature, authorization) {
            (Some(_), Some(value)) => Err(two_schemes(&value)),
            (Some(signature), None) => {
                let version = parameter_of_any_case(query, "sv");
                let permission = parameter_of_any_case(query, "sp");
                let permission = permission.filter(|_| version.as_deref() == Some("1.0"));
                Ok(Self::Sas {
                    signature,
                    permission: permission.unwrap_or_default(),
                })
            }
            (None, Some(value)) => match value.split_once(' ') {
                Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                    Ok(Self::Bearer(token.to_owned()))
                }
                _ => Err(unauthorized(
                    "DirectApiInvalidAuthorizationScheme",
                    "The provided authorization token is not valid. The request should have a valid authorization header with 'Bearer' scheme.",
                )),
            },
            (None, None) => Err(unauthorized(
                "DirectApiAuthorizationRequired",
                "The request must be authenticated by Shared Access scheme.",
            )),
        }
    }
}

fn two_schemes(authorization: &str) -> Refused {
    let scheme = authorization.split(' ').next().unwrap_or_default();
    let message = format!(
        "The request has SAS authentication scheme, '{scheme}' authorization scheme or internal token scheme. Only one scheme should be used."
    );
    unauthorized("DirectApiRequestHasMoreThanOneAuthorization", &message)
}

fn wrong_signature() -> Refused {
    unauthorized(
        "AuthorizationFailed",
        "The authentication credentials are not valid.",
    )
}

impl Model for LogicApp {
    fn answer(&self, base: &str, seen: &Seen) -> Answer {
        let answered = match seen.path() {
            TRIGGER => self.invoked(seen, SAS_SIGNATURE).map(|()| done()),
            ASYNC_TRIGGER => self
                .invoked(seen, ASYNC_SAS_SIGNATURE)
                .map(|()| self.begin(base)),
            _ => self.read(base, seen),
        };
        answered.unwrap_or_else(|refusal| *refusal)
    }
}

fn done() -> Answer {
    answer_json(StatusCode::OK, &json!({ "invited": true }))
}

fn no_trigger() -> Refused {
    refuse(
        StatusCode::NOT_FOUND,
        "WorkflowTriggerNotFound",
        "No such trigger.",
    )
}

fn has_version(query: &[(String, String)]) -> Result<(), Refused> {
    match parameter_of_any_case(query, "api-version") {
        Some(_) => Ok(()),
        None => Err(refuse(
            StatusCode::BAD_REQUEST,
            "MissingApiVersionParameter",
            "The api-version query parameter is required.",
        )),
    }
}

impl LogicApp {
    pub(super) fn new(issued: Issued) -> Self {
        Self {
            issued,
            settings: Mutex::new(Settings {
                sas: true,
                oauth: true,
                polls: 1,
            }),
            runs: Mutex::default(),
        }
    }

    /// The rules of a request trigger.
    fn invoked(&self, seen: &Seen, expected: &str) -> Result<(), Refused> {
        if seen.method != Method::POST {
            return Err(no_trigger());
        }
        let query = seen.query();
        has_version(&query)?;
        match Scheme::of(seen, &query)? {
            Scheme::Sas { .. } if !lock(&self.settings).sas => Err(unauthorized(
                "DirectApiInvalidAuthorizationScheme",
                "The request has SAS authentication scheme while it is disabled under your access control policy.",
            )),
            Scheme::Sas {
                signature,
                permission,
            } => match signature == expected && permission == RUN_TRIGGER {
                true => Ok(()),
                false => Err(wrong_signature()),
            },
            Scheme::Bearer(_) if !lock(&self.settings).oauth => Err(unauthorized(
                "OAuthAccessPolicyNotFound",
                "The workflow has no open authentication access policy.",
            )),
            Scheme::Bearer(token) => self.claims_match(&token),
        }
    }

    fn claims_match(&self, token: &str) -> Result<(), Refused> {
        match self.issued.resource(token).as_deref() {
            Some(names::LOGIC_APP_RESOURCE) => Ok(()),
            _ => Err(refuse(
                StatusCode::FORBIDDEN,
                "MisMatchingOAuthClaims",
                "One or more claims either missing or does not match with the open authentication access control policy.",
            )),
        }
    }

    fn begin(&self, base: &str) -> Answer {
        let id = format!("0858{:032X}CU01", random_u128());
        let run = Run::new(&id, lock(&self.settings).polls);
        let answer = run.accepted(base);
        lock(&self.runs).insert(id.clone(), run);
        let name = header::HeaderName::from_static("x-ms-workflow-run-id");
        with_field(answer, name, Some(&id))
    }

    /// What is read by the URLs that a run hands out. OAuth is for triggers alone.
    fn read(&self, base: &str, seen: &Seen) -> Result<Answer, Refused> {
        let below = format!("/workflows/{ASYNC_WORKFLOW}/runs/");
        let Some(rest) = seen.path().strip_prefix(&below) else {
            return Err(no_trigger());
        };
        let query = seen.query();
        has_version(&query)?;
        let Scheme::Sas {
            signature,
            permission,
        } = Scheme::of(seen, &query)?
        else {
            return Err(unauthorized(
                "InvalidUseOfOAuthToken",
                "OAuth tokens can only be used for requests of a trigger.",
            ));
        };
        let path = format!("/runs/{rest}");
        let id = rest.split('/').next().unwrap_or_default();
        let mut runs = lock(&self.runs);
        let run = runs.get_mut(id).ok_or_else(wrong_signature)?;
        let mut links = run.links();
        let opens = |link: &&Link| link.opens(&path, &signature, &permission);
        let link = links.find(opens).ok_or_else(wrong_signature)?;
        let is_operation = link.path == run.operation.path;
        drop(links);
        match seen.method {
            Method::GET => Ok(run.told(base, is_operation)),
            _ => Err(refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "This link is for reading.",
            )),
        }
    }
}

impl Run {
    fn told(&mut self, base: &str, is_operation: bool) -> Answer {
        if !is_operation {
            let content: Value = json!({ "email": "guest@example.org" });
            return answer_json(StatusCode::OK, &content);
        }
        match self.polls.checked_sub(1) {
            None => done(),
            Some(left) => {
                self.polls = left;
                self.accepted(base)
            }
        }
    }
}
