//! Probes: backends are called as a stranger would call them who passes the gateway by. Each must refuse, or
//! the gateway is a door beside a gap in the wall.

mod verdict;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::join_all;
use http::request::Builder;
use http::{Method, Request, Response, Uri, header};
use serde_json::json;

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
    let backends: Vec<Named<Backend>> = backends
        .flat_map(|backend| {
            backend.value.at_each().map(|value| Named {
                value,
                ..backend.clone()
            })
        })
        .collect();
    let findings = backends.iter().map(|backend| one(surroundings, backend));
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
        findings.push(verdict::judged(&aim, backend, stranger, answer));
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
            methods.map(move |method| (harmless(&method.value), route))
        });
        let harm = |((rank, _), route): &((u8, Method), &Route)| {
            let is_public = route.public.as_ref().is_some_and(|public| public.value);
            (is_public, *rank, pattern(route).contains('{'))
        };
        let (method, path) = match ways.min_by_key(harm) {
            Some(((_, method), route)) => (method, path(route, backend.value.kind)),
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
}

/// What is sent where a route takes this method, and how soon it is tried. Nothing that might change or delete
/// is sent for the sake of a probe, and `OPTIONS` is answered to everybody.
fn harmless(method: &Method) -> (u8, Method) {
    match *method {
        Method::GET => (0, Method::GET),
        Method::HEAD => (1, Method::HEAD),
        Method::POST => (2, Method::POST),
        _ => (3, Method::GET),
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
