//! Backends, compiled from policy documents: where they are, what they are called with.

use std::sync::Arc;

use super::care::{BackendState, Care, Member};
use super::credential::Presenting;
use super::endpoint::{Endpoint, EndpointId, Endpoints, Site};
use super::target::{Target, host};
use crate::credentials::Credential;
use crate::files::{self, BackendKind, Diagnostics, Named, PolicyDocument, Spanned, Timeouts};
use crate::net::address::{is_loopback, refused};
use crate::policy::{Authorized, BackendId, Matched};
use crate::seal::{Place, WayOn};

/// A backend, ready to be called. Its credential goes to its own endpoint and nowhere else: both stand
/// here, and nothing of a request can change either.
pub struct Backend {
    pub(super) name: Arc<str>,
    pub(super) endpoint: Arc<Endpoint>,
    site: Arc<Site>,
    pub(super) target: Target,
    pub(super) timeouts: Timeouts,
    /// What it gets beyond being called, if anything.
    pub(super) care: Option<Arc<Care>>,
    credential: Credential,
}

/// Where the runs of a Standard app's workflows are, but not their triggers and not the interface by which the
/// app is managed.
fn runs() -> WayOn {
    WayOn {
        below: "/runtime/webhooks/workflow/scaleUnits/".to_owned(),
        through: "/runs/",
    }
}

impl Backend {
    /// Its name in the policy files.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where it is told to be: its first endpoint.
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// Whether an endpoint is one of its.
    pub fn has(&self, endpoint: EndpointId) -> bool {
        let mut members = self.care.iter().flat_map(|care| &care.members);
        self.endpoint.id == endpoint || members.any(|member| member.endpoint.id == endpoint)
    }

    /// Where it is.
    pub fn places(&self) -> &Arc<[Place]> {
        &self.target.places
    }

    /// What its endpoints, its breaker and further attempts have come to, if it asks for any of them.
    pub fn state(&self) -> Option<BackendState> {
        self.care.as_ref().map(|care| care.state())
    }

    /// What is wrong with it, where that can be known: no endpoint is well, or its breaker is open.
    pub fn fault(&self) -> Option<Result<(), String>> {
        let state = self.state()?;
        if state.breaker.is_none() && state.endpoints.is_empty() {
            return None;
        }
        let is_open = state.breaker.is_some_and(|breaker| !breaker.is_closed);
        let fault = match is_open {
            true => Some("it failed too often, and is not called for a while".to_owned()),
            false => self.care.as_ref().and_then(|care| care.fault()),
        };
        Some(fault.map_or(Ok(()), Err))
    }

    /// Where its URLs lead on with what an authorised request began, at this canonical path; nowhere where
    /// the gateway knows nothing of the backend's ways.
    pub fn ways_on(&self, matched: &Matched<'_>, path: &str) -> Vec<WayOn> {
        let base = &self.target.base_path;
        let everywhere = |path: &str| WayOn {
            below: format!("{}/", path.trim_end_matches('/')),
            through: "",
        };
        match self.target.kind {
            BackendKind::Http => Vec::new(),
            BackendKind::Function => {
                let called = format!("{base}{}", matched.rewritten().unwrap_or(path));
                let way = everywhere(&called);
                // From the root or the folder of all functions, everything would be on the way.
                let is_all = ["/", "/api/"]
                    .iter()
                    .any(|all| way.below.eq_ignore_ascii_case(all));
                if is_all { Vec::new() } else { vec![way] }
            }
            BackendKind::LogicApp => {
                let called = format!("{base}{}", matched.rewritten().unwrap_or_default());
                // A workflow's runs stand beside its triggers.
                match called.split_once("/triggers/") {
                    Some((workflow, _)) => vec![everywhere(workflow), runs()],
                    None => Vec::new(),
                }
            }
        }
    }

    /// Whether it is a Functions app.
    pub fn is_function(&self) -> bool {
        self.target.kind == BackendKind::Function
    }

    /// What the gateway presents to it.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }
}

/// The backends of a policy, by [`BackendId`](crate::policy::BackendId).
pub struct Backends(Vec<Backend>);

impl Backends {
    /// Compiles the backends of a policy document, and begins to fetch their credentials. `None` when
    /// the diagnostics hold an error.
    pub fn compile(
        document: &PolicyDocument,
        endpoints: &Endpoints,
        presenting: Presenting<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let backends: Vec<_> = document
            .backends
            .iter()
            .map(|written| compile(written, endpoints, presenting, diagnostics))
            .collect();
        Some(Self(backends.into_iter().collect::<Option<_>>()?))
    }

    /// Reports what is wrong with the backends of a policy document, without reading a secret or
    /// fetching a credential.
    pub fn check(document: &PolicyDocument, endpoints: &Endpoints, diagnostics: &mut Diagnostics) {
        for written in &document.backends {
            all_endpoints(&written.value, endpoints, diagnostics);
        }
    }

    /// The backend that the route of an authorised request names: no other can be had for it.
    pub fn of(&self, authorized: &Authorized<'_>) -> &Backend {
        let BackendId(id) = authorized.matched().route().backend();
        #[expect(
            clippy::indexing_slicing,
            reason = "the policy was compiled from the same document"
        )]
        &self.0[id]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Backend> {
        self.0.iter()
    }
}

fn compile(
    written: &Named<files::Backend>,
    endpoints: &Endpoints,
    presenting: Presenting<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Backend> {
    let files::Backend {
        kind: _,
        url: _,
        others: _,
        credential,
        ca: _,
        protocol: _,
        timeouts,
        concurrency: _,
        failure_statuses: _,
        ejection: _,
        breaker: _,
        retry: _,
        health: _,
        cold_start: _,
    } = &written.value;
    let members = all_endpoints(&written.value, endpoints, diagnostics);
    let credential = presenting.compile(credential, diagnostics);
    let members = members?;
    let first = members.first()?;
    Some(Backend {
        name: written.name.value.as_str().into(),
        endpoint: Arc::clone(first),
        site: Arc::new(Site {
            host: first.host.clone(),
            port: first.port,
            secure: first.tls.is_some(),
        }),
        care: care(written, &members, endpoints)?,
        target: Target::of(&written.value)?,
        timeouts: *timeouts,
        credential: credential?,
    })
}

/// What a backend asks for beyond being called: nothing mostly. The outer `None` is for URLs without a host, which
/// files are refused for.
fn care(
    written: &Named<files::Backend>,
    members: &[Arc<Endpoint>],
    endpoints: &Endpoints,
) -> Option<Option<Arc<Care>>> {
    let files::Backend {
        failure_statuses,
        ejection,
        breaker,
        retry,
        health,
        cold_start,
        ..
    } = &written.value;
    let asks = breaker.is_some() || retry.is_some() || health.is_some() || cold_start.is_some();
    if members.len() == 1 && !asks {
        return Some(None);
    }
    let name = &written.name.value;
    let ids = members.iter().map(|endpoint| endpoint.id).collect();
    let urls = written.value.urls();
    let members = urls.zip(members).map(|(url, endpoint)| {
        Some(Member {
            endpoint: Arc::clone(endpoint),
            host: host(&url.value)?,
            checked: health
                .as_ref()
                .map(|health| endpoints.checked(endpoint.id, health)),
        })
    });
    Some(Some(Arc::new(Care {
        members: members.collect::<Option<_>>()?,
        failure_statuses: failure_statuses.clone(),
        ejection: *ejection,
        breaker: *breaker,
        retry: retry.clone(),
        health: health.clone(),
        cold_start: *cold_start,
        kept: endpoints.kept(name, ids),
    })))
}

/// Where a backend listens: at least one endpoint. `None` when an error was added.
pub(super) fn all_endpoints(
    written: &files::Backend,
    endpoints: &Endpoints,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<Arc<Endpoint>>> {
    let found: Vec<_> = written
        .urls()
        .map(|url| endpoint(written, url, endpoints, diagnostics))
        .collect();
    found.into_iter().collect()
}

fn endpoint(
    written: &files::Backend,
    url: &Spanned<http::Uri>,
    endpoints: &Endpoints,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<Endpoint>> {
    let files::Backend { ca, protocol, .. } = written;
    if literal_address(&url.value).is_some_and(refused) {
        diagnostics
            .error(&url.span, "this address may not be a backend")
            .help("link-local and platform addresses hand out credentials; name the backend's own host");
        return None;
    }
    if is_identity_endpoint(&url.value) {
        diagnostics
            .error(
                &url.span,
                "this address hands out this machine's tokens, so it may not be a backend",
            )
            .help("name the backend's own host and port");
        return None;
    }
    match endpoints.of(
        &url.value,
        *protocol,
        ca.as_ref().map(|ca| ca.value.as_path()),
    ) {
        Ok(endpoint) => Some(endpoint),
        Err(why) => {
            let span = ca.as_ref().map_or(&url.span, |ca| &ca.span);
            diagnostics
                .error(span, format!("this backend cannot be called: {why}"))
                .help("name a readable PEM file with CA certificates");
            None
        }
    }
}

/// Whether the environment names this place as the platform's identity endpoint. Its own header guards
/// it, but nothing that a caller sends should get so far.
fn is_identity_endpoint(url: &http::Uri) -> bool {
    let named = ["IDENTITY_ENDPOINT", "MSI_ENDPOINT"].into_iter();
    named
        .filter_map(|name| std::env::var(name).ok()?.parse().ok())
        .any(|endpoint| same_place(url, &endpoint))
}

/// Whether two URLs lead to one listener. All of loopback counts as one, for a listener may take all
/// of it.
fn same_place(one: &http::Uri, other: &http::Uri) -> bool {
    let port = |url: &http::Uri| {
        let default = if url.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        url.port_u16().unwrap_or(default)
    };
    let host = |url: &http::Uri| match literal_address(url) {
        Some(address) if is_loopback(address) => "localhost".to_owned(),
        _ => url.host().unwrap_or_default().to_ascii_lowercase(),
    };
    port(one) == port(other) && host(one) == host(other)
}

fn literal_address(url: &http::Uri) -> Option<std::net::IpAddr> {
    let host = url.host()?;
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_listener_has_many_urls() {
        for (one, other, same) in [
            ("http://127.0.0.1:81/a", "http://127.0.0.1:81/b", true),
            ("http://localhost:81", "http://127.0.0.1:81", true),
            ("http://[::1]:81", "http://LocalHost:81", true),
            ("http://127.0.0.1", "http://127.0.0.1:80", true),
            ("https://a.example", "https://A.example:443/x", true),
            ("http://127.0.0.1:81", "http://127.0.0.1:82", false),
            ("https://a.example", "https://b.example", false),
        ] {
            let url = |text: &str| text.parse::<http::Uri>().expect("a URL");
            assert_eq!(same_place(&url(one), &url(other)), same, "{one} {other}");
        }
    }
}
