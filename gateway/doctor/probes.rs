//! Probes: backends are called as a stranger would call them who passes the gateway by. Each must refuse, or
//! the gateway is a door beside a gap in the wall.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::join_all;
use http::request::Builder;
use http::{Method, Request, Response, StatusCode, Uri, header};
use serde_json::{Value, json};

use super::{Area, Finding, Surroundings};
use crate::files::{Backend, BackendKind, Credential, Named, Protocol, Route};
use crate::net::client::{Bounds, Client, FetchError};
use crate::net::tls;
use crate::policy::some_path;
use crate::running;
use crate::upstream::called;

const BOUNDS: Bounds = Bounds {
    timeout: Duration::from_secs(15),
    max_body: 1024 * 1024,
};

/// A signature that no workflow has made.
const WRONG_SIGNATURE: &str = "portcullis-doctor-sends-a-wrong-signature00";
/// A key that no function has.
const WRONG_KEY: &str = "portcullis-doctor-sends-a-wrong-key";

/// Calls every backend that has a credential.
pub(super) async fn probe(surroundings: &Surroundings<'_>) -> Vec<Finding> {
    let backends = surroundings.policies.backends.iter();
    let findings = backends.map(|backend| one(surroundings, backend));
    join_all(findings).await.concat()
}

async fn one(surroundings: &Surroundings<'_>, backend: &Named<Backend>) -> Vec<Finding> {
    let name = &backend.name.value;
    if backend.value.credential.value == Credential::None {
        let found = "not probed: its credential is `none`, so it is meant to be called without";
        return vec![Finding::good(Area::Probes, name.as_str(), found)];
    }
    let aim = Aim::at(backend, &surroundings.policies.routes);
    let (aim, client) = match (aim, client(surroundings, &backend.value)) {
        (Some(aim), Ok(client)) => (aim, client),
        (_, Err(why)) => return vec![unprobed(name, &why)],
        (None, _) => return vec![unprobed(name, "its URL cannot be called")],
    };
    let mut findings = Vec::new();
    for stranger in Stranger::of(backend.value.kind) {
        let answer = aim.ask(&client, stranger).await;
        findings.push(aim.judged(backend, stranger, answer));
    }
    findings
}

fn unprobed(name: &str, why: &str) -> Finding {
    Finding::warning(
        Area::Probes,
        name,
        format!("not probed: {why}"),
        "see the backend's own line; or call it by hand without a credential, and expect 401 or 403",
    )
}

fn client(surroundings: &Surroundings<'_>, backend: &Backend) -> Result<Client, String> {
    if backend.protocol == Protocol::Http2 {
        return Err("it is spoken to over HTTP/2, and probes speak HTTP/1.1".to_owned());
    }
    let roots = running::roots(backend.ca.as_ref(), "ca").map_err(|why| why.to_string())?;
    let config = tls::client_config(&roots, &[b"http/1.1"]).map_err(|why| why.to_string())?;
    Ok(Client::new(&config, surroundings.resolver.clone()))
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stranger {
    /// With nothing.
    Bare,
    /// With the fields in which App Service tells who a caller is.
    Forger,
    /// With a wrong signature in the URL of a Logic App.
    Signer,
    /// With a wrong function key in the URL.
    KeyHolder,
}

impl Stranger {
    /// Those that a kind of backend has to refuse.
    fn of(kind: BackendKind) -> Vec<Self> {
        let own = match kind {
            BackendKind::LogicApp => Some(Self::Signer),
            BackendKind::Function => Some(Self::KeyHolder),
            BackendKind::Http => None,
        };
        [Self::Bare, Self::Forger].into_iter().chain(own).collect()
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Bare => "without a credential",
            Self::Forger => "with a forged x-ms-client-principal",
            Self::Signer => "with a wrong signature",
            Self::KeyHolder => "with a wrong function key",
        }
    }

    fn dress(self, request: Builder) -> Builder {
        match self {
            Self::Forger => request
                .header("x-ms-client-principal", forged_principal())
                .header("x-ms-client-principal-id", FORGED_ID)
                .header("x-ms-client-principal-name", "portcullis-doctor")
                .header("x-ms-client-principal-idp", "aad"),
            Self::Bare | Self::Signer | Self::KeyHolder => request,
        }
    }

    fn query(self, path: &str) -> Option<String> {
        match self {
            Self::Signer => Some(format!(
                "sp=%2Ftriggers%2F{}%2Frun&sv=1.0&sig={WRONG_SIGNATURE}",
                trigger(path)
            )),
            Self::KeyHolder => Some(format!("code={WRONG_KEY}")),
            Self::Bare | Self::Forger => None,
        }
    }
}

const FORGED_ID: &str = "00000000-0000-0000-0000-000000000000";

/// Somebody whom nobody has let in, as App Service would tell of them.
fn forged_principal() -> String {
    let principal = json!({
        "auth_typ": "aad",
        "claims": [{
            "typ": "http://schemas.microsoft.com/identity/claims/objectidentifier",
            "val": FORGED_ID,
        }],
        "name_typ": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
        "role_typ": "roles",
    });
    STANDARD.encode(principal.to_string())
}

/// The trigger that a Logic App's URL names.
fn trigger(path: &str) -> &str {
    let after = path.split_once("/triggers/").map(|(_, after)| after);
    let name = after.and_then(|after| after.split('/').next());
    name.unwrap_or("manual")
}

/// What is called.
#[derive(Debug)]
struct Aim {
    method: Method,
    uri: Uri,
}

impl Aim {
    /// By the route that does the least harm: one that asks for a principal, by a method that changes
    /// nothing, with a path that needs no making up.
    fn at(backend: &Named<Backend>, routes: &[Named<Route>]) -> Option<Self> {
        let name = &backend.name.value;
        let routes = routes.iter().map(|route| &route.value);
        let routes = routes.filter(|route| route.backend.value == *name);
        let ways = routes.flat_map(|route| {
            let methods = route.r#match.methods.iter().flatten();
            methods.map(move |method| (&method.value, route))
        });
        let harm = |(method, route): &(&Method, &Route)| {
            let is_public = route.public.as_ref().is_some_and(|public| public.value);
            (is_public, rank(method), pattern(route).contains('{'))
        };
        let (method, path) = match ways.min_by_key(harm) {
            Some((method, route)) => (method.clone(), path(route, backend.value.kind)),
            None => (Method::GET, default_path(backend.value.kind).to_owned()),
        };
        let uri = called(&backend.value, &path)?;
        Some(Self { method, uri })
    }

    async fn ask(
        &self,
        client: &Client,
        stranger: Stranger,
    ) -> Result<Response<Bytes>, FetchError> {
        let mut url = self.uri.to_string();
        if let Some(query) = stranger.query(self.uri.path()) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&query);
        }
        let request = Request::builder().method(self.method.clone()).uri(url);
        let request = request.header(header::USER_AGENT, "portcullis-doctor");
        let request = stranger.dress(request).body(Bytes::new());
        let request = request.map_err(|_| FetchError::BadRequest("its URL cannot be called"))?;
        client.send(request, BOUNDS).await
    }

    fn judged(
        &self,
        backend: &Named<Backend>,
        stranger: Stranger,
        answer: Result<Response<Bytes>, FetchError>,
    ) -> Finding {
        let name = format!("{} {}", backend.name.value, stranger.words());
        let answer = match answer {
            Ok(answer) => answer,
            // No refusal is that long.
            Err(FetchError::TooLarge(..)) => {
                let found = format!(
                    "{} was answered with more than 1 MiB: it lets strangers in",
                    self.told()
                );
                return Finding::bad(Area::Probes, name, found, closing(backend, stranger));
            }
            Err(why) => return unprobed(&name, &why.to_string()),
        };
        let code = error_code(answer.body());
        let status = answer.status();
        let said = match &code {
            Some(code) => format!("{} was answered {} ({code})", self.told(), status.as_u16()),
            None => format!("{} was answered {}", self.told(), status.as_u16()),
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                refused(backend, stranger, name, said, code.as_deref())
            }
            status if status.is_redirection() && leads_to_login(&answer) => Finding::good(
                Area::Probes,
                name,
                format!(
                    "{said}, a login page; `unauthenticatedClientAction: Return401` would tell programs better"
                ),
            ),
            status if status.is_success() && self.may_be_the_hosts_own(backend) => {
                Finding::warning(
                    Area::Probes,
                    name,
                    format!("{said}, which may be the host's own page and no function"),
                    "call a function of the app by hand without a key, and expect 401",
                )
            }
            status if status.is_success() => Finding::bad(
                Area::Probes,
                name,
                format!("{said}: anyone who can reach it passes the gateway by"),
                closing(backend, stranger),
            ),
            _ => Finding::warning(
                Area::Probes,
                name,
                format!("{said}, neither let in nor refused"),
                "call the backend by hand with a path and body that it knows and without a credential, and expect 401 or 403",
            ),
        }
    }

    /// The method and URL, without the query.
    fn told(&self) -> String {
        let Self { method, uri } = self;
        let url = uri.to_string();
        let url = url.split('?').next().unwrap_or_default();
        match *method == Method::POST {
            true => format!("POST {url} with an empty body"),
            false => format!("{method} {url}"),
        }
    }

    /// A Functions host shows a page of its own at `/` to everybody; its keys are for functions.
    fn may_be_the_hosts_own(&self, backend: &Named<Backend>) -> bool {
        let is_keyed = matches!(
            backend.value.credential.value,
            Credential::FunctionKey { .. }
        );
        is_keyed && self.uri.path() == "/"
    }
}

/// The less it changes, the sooner it is tried.
fn rank(method: &Method) -> u8 {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::OPTIONS => 3,
        _ => 4,
    }
}

/// The path at the backend, as it is written.
fn pattern(route: &Route) -> &str {
    let rewrite = route.rewrite.as_ref();
    &rewrite.unwrap_or(&route.r#match.path).value
}

fn default_path(kind: BackendKind) -> &'static str {
    match kind {
        BackendKind::LogicApp => "",
        BackendKind::Function | BackendKind::Http => "/",
    }
}

/// A path that leads to the backend by a route.
fn path(route: &Route, kind: BackendKind) -> String {
    let pattern = pattern(route);
    match (kind, &route.rewrite) {
        (BackendKind::LogicApp, None) => String::new(),
        _ if pattern.starts_with("/{*") => "/".to_owned(),
        _ => some_path(pattern, "0"),
    }
}

/// What a refusal tells.
fn refused(
    backend: &Named<Backend>,
    stranger: Stranger,
    name: String,
    said: String,
    code: Option<&str>,
) -> Finding {
    let called_by_sas = matches!(backend.value.credential.value, Credential::Sas { .. });
    match (stranger, code) {
        (Stranger::Signer, Some("DirectApiInvalidAuthorizationScheme")) if called_by_sas => {
            Finding::bad(
                Area::Probes,
                name,
                format!("{said}: SAS is switched off, and the gateway itself calls by SAS"),
                "give the backend `managedIdentity` in place of `sas`, with an OAuth policy in the workflow that lets it in",
            )
        }
        (Stranger::Signer, Some("DirectApiInvalidAuthorizationScheme")) => {
            Finding::good(Area::Probes, name, format!("{said}: SAS is switched off"))
        }
        (Stranger::Signer, Some("AuthorizationFailed")) if called_by_sas => Finding::good(
            Area::Probes,
            name,
            format!("{said}; the gateway itself calls by SAS, so it has to be on"),
        ),
        (Stranger::Signer, Some("AuthorizationFailed")) => Finding::warning(
            Area::Probes,
            name,
            format!(
                "{said}: SAS is still accepted, so whoever holds a link to the workflow passes the gateway by"
            ),
            sas_off(&backend.value),
        ),
        _ => Finding::good(Area::Probes, name, said),
    }
}

/// Where SAS is switched off: in the workflow of the Consumption plan, in the site of the Standard plan.
fn sas_off(backend: &Backend) -> &'static str {
    match backend.url.value.path().starts_with("/api/") {
        true => {
            "set `properties.logicAppsAccessControlConfiguration.triggers.sasAuthenticationPolicy.state: Disabled` of the site (`Microsoft.Web/sites`)"
        }
        false => {
            "set `properties.accessControl.triggers.sasAuthenticationPolicy.state: Disabled` of the workflow (`Microsoft.Logic/workflows`)"
        }
    }
}

const CLOSED_NETWORK: &str = "or close its network, so that only the gateway reaches it (`publicNetworkAccess: Disabled` with a private endpoint, or `ipSecurityRestrictions`)";

/// How the gap is closed.
fn closing(backend: &Named<Backend>, stranger: Stranger) -> String {
    let keyed = matches!(
        backend.value.credential.value,
        Credential::FunctionKey { .. }
    );
    let own = match (backend.value.kind, stranger) {
        (BackendKind::LogicApp, _) => {
            "give the workflow an OAuth policy (`accessControl.triggers.openAuthenticationPolicies`) and switch SAS off (`sasAuthenticationPolicy.state: Disabled`)"
        }
        (BackendKind::Function, _) if keyed => {
            "set the `authLevel` of its functions to `function`, which asks for a key"
        }
        (BackendKind::Function, Stranger::Forger) => {
            "switch on App Service authentication, which removes x-ms-client-principal from what strangers send (`authsettingsV2`: `platform.enabled: true`, `globalValidation.unauthenticatedClientAction: Return401`)"
        }
        (BackendKind::Function, _) => {
            "switch on App Service authentication (`authsettingsV2`: `globalValidation.requireAuthentication: true`, `unauthenticatedClientAction: Return401`) and let the gateway's identity alone in (`azureActiveDirectory.validation.defaultAuthorizationPolicy.allowedPrincipals.identities`)"
        }
        (BackendKind::Http, _) => {
            "have the backend ask for the credential that the gateway brings, or listen on loopback beside it"
        }
    };
    format!("{own}; {CLOSED_NETWORK}")
}

/// Whether a redirect asks to log in, as App Service authentication does.
fn leads_to_login(answer: &Response<Bytes>) -> bool {
    let location = answer.headers().get(header::LOCATION);
    let location = location.and_then(|value| value.to_str().ok());
    location.is_some_and(|location| {
        let place = location.split('?').next().unwrap_or_default();
        ["/.auth/login", "/oauth2/", "//login."]
            .iter()
            .any(|part| place.contains(part))
    })
}

/// `error.code` of Azure's answers. What is no plain word is nobody's code.
fn error_code(body: &Bytes) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let code = body.get("error")?.get("code")?.as_str()?;
    let is_word = code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then(|| code.to_owned())
}
