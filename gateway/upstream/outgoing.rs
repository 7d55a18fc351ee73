//! The request as the backend receives it: the caller's, in canonical form, with what the gateway
//! asserts put in last.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version};

use super::target::Target;
use crate::canonical::{self, KeyParameters};
use crate::credentials::{Carried, FUNCTIONS_KEY, Presented};
use crate::denial::{Denial, Reason};
use crate::files::{self, BackendKind, Credential, Protocol};
use crate::ids::RequestId;
use crate::policy::{Authorized, SealsBody};
use crate::trace::Trace;

/// What the gateway says of the caller's connection, which is TLS: to the gateway, or to the platform in
/// front of it. Made once a connection.
#[derive(Clone, Debug)]
pub struct Caller {
    address: HeaderValue,
    forwarded: HeaderValue,
}

impl Caller {
    /// A caller at this address.
    pub fn new(address: IpAddr) -> Self {
        let address = address.to_canonical();
        // RFC 7239 section 6: an IPv6 address stands in brackets, and so in quotes.
        let node = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("\"[{address}]\""),
        };
        let text = |text: String| {
            HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("unknown"))
        };
        Self {
            address: text(address.to_string()),
            forwarded: text(format!("for={node};proto=https")),
        }
    }
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const ARR_LOG_ID: HeaderName = HeaderName::from_static("x-arr-log-id");

/// What a request is made of, beside its body.
pub(super) struct Parts<'r> {
    pub(super) authorized: &'r Authorized<'r>,
    pub(super) target: &'r Target,
    /// Path and query, where a sealed URL is followed.
    pub(super) followed: Option<&'r str>,
    pub(super) caller: &'r Caller,
    pub(super) trace: Trace,
    pub(super) id: RequestId,
}

impl Parts<'_> {
    /// Makes the head of the request, with what the backend wants to see.
    pub(super) fn head(
        self,
        request: canonical::Request,
        credential: Presented,
    ) -> Result<Request<()>, Denial> {
        self.with(request, credential.into_carried())
    }

    fn with(
        self,
        mut request: canonical::Request,
        credential: Carried,
    ) -> Result<Request<()>, Denial> {
        let signature = match &credential {
            Carried::Query(query) => query.expose(),
            Carried::Nothing | Carried::InTheUrl(_) | Carried::Field(..) => "",
        };
        let target = self.path_and_query(&request, signature)?;
        let callers_token = self.callers_token(&request);
        let method = request.method().clone();
        let host = HeaderValue::from_str(request.host());
        let trailers = request.te_trailers();
        let mut headers = request.take_headers();
        self.tell_claims(&mut headers);
        self.assert(&mut headers, host.ok());
        if self.searches_the_body(&method) {
            ask_for_plain(&mut headers);
        }
        if let Some(token) = callers_token {
            headers.insert(header::AUTHORIZATION, token);
        }
        match credential {
            Carried::Field(name, value) => {
                // What callers send as `Authorization` is gone already, in every spelling.
                if name != header::AUTHORIZATION {
                    canonical::remove_spellings(&mut headers, &name);
                }
                headers.insert(name, value);
            }
            Carried::InTheUrl(Some(name)) => canonical::remove_spellings(&mut headers, &name),
            Carried::Nothing | Carried::InTheUrl(None) | Carried::Query(_) => {}
        }
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        address(self.target, method, target, headers)
    }

    /// Path and query. The path is the canonical one, or what the route rewrote it to, behind the
    /// backend's own; a Logic App's URL is called as it stands.
    fn path_and_query(
        &self,
        request: &canonical::Request,
        signature: &str,
    ) -> Result<PathAndQuery, Denial> {
        if let Some(followed) = self.followed {
            return PathAndQuery::try_from(followed).map_err(|_| Reason::SealedUrlInvalid.into());
        }
        let matched = self.authorized.matched();
        let path = match (matched.rewritten(), self.target.kind) {
            (Some(path), _) => path,
            (None, BackendKind::LogicApp) => "",
            (None, BackendKind::Function | BackendKind::Http) => request.path(),
        };
        let kept = matched.route().kept_parameters();
        let kept = match self.target.kind {
            // A caller who could name another version would call another API.
            BackendKind::LogicApp => kept,
            BackendKind::Function | BackendKind::Http => kept.with(KeyParameters::API_VERSION),
        };
        let query = request.forwarded_query(kept);
        let query = query.as_deref().unwrap_or_default();
        let base = self.target.base_query.as_deref().unwrap_or_default();
        let mut target = String::with_capacity(
            self.target.base_path.len()
                + path.len()
                + query.len()
                + base.len()
                + signature.len()
                + 3,
        );
        target.push_str(&self.target.base_path);
        target.push_str(path);
        if target.is_empty() {
            target.push('/');
        }
        for part in [base, signature, query]
            .into_iter()
            .filter(|part| !part.is_empty())
        {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(part);
        }
        PathAndQuery::try_from(target).map_err(|_| Reason::Internal.into())
    }

    /// Whether the answer's body will be searched for keys. That of a plain GET is not kept from being
    /// compressed for the sake of a 202 that hardly ever comes.
    fn searches_the_body(&self, method: &Method) -> bool {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        match self.authorized.matched().route().seals_body() {
            SealsBody::Never => false,
            SealsBody::Always => true,
            SealsBody::Accepted => !reads || self.followed.is_some(),
        }
    }

    /// The caller's own token, where the route says that the backend gets it. Where the caller was let in
    /// without a good one, there is none.
    fn callers_token(&self, request: &canonical::Request) -> Option<HeaderValue> {
        let forwards = self.authorized.matched().route().forwards_caller_token();
        // Beside a signature there is no place for it, and a link may lead anywhere at the backend.
        let follows = self.followed.is_some();
        if !forwards || follows || self.authorized.principal().is_none() {
            return None;
        }
        let mut token = HeaderValue::try_from(format!("Bearer {}", request.bearer().ok()?)).ok()?;
        token.set_sensitive(true);
        Some(token)
    }

    /// Puts in the claims that the route has told, and takes out what the caller sent in their names.
    fn tell_claims(&self, headers: &mut HeaderMap) {
        for (name, claim) in self.authorized.matched().route().claim_headers().iter() {
            canonical::remove_spellings(headers, name);
            let principal = self.authorized.principal();
            let value = principal.and_then(|principal| principal.claim_text(claim));
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name.clone(), value);
            }
        }
    }

    /// Puts in what the gateway asserts. Everything of these names that the caller sent is gone.
    fn assert(&self, headers: &mut HeaderMap, host: Option<HeaderValue>) {
        let Caller { address, forwarded } = self.caller;
        headers.insert(FORWARDED_FOR, address.clone());
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
        headers.insert(header::FORWARDED, forwarded.clone());
        if let Some(host) = host {
            headers.insert(FORWARDED_HOST, host);
        }
        headers.append(header::VIA, HeaderValue::from_static("1.1 portcullis"));
        // Without this header a Functions host takes a call for the platform's own and opens its
        // admin endpoints.
        if self.target.kind == BackendKind::Function && !headers.contains_key(&ARR_LOG_ID) {
            headers.insert(ARR_LOG_ID, self.id.header());
        }
        headers.insert(REQUEST_ID, self.id.header());
        self.trace.inject(headers);
        if let Some(principal) = self.authorized.principal() {
            for (name, value) in principal.identity_headers() {
                headers.insert(name.clone(), value.clone());
            }
        }
    }
}

/// What is to be searched has to come whole, and as it is.
fn ask_for_plain(headers: &mut HeaderMap) {
    headers.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    for name in [header::RANGE, header::IF_RANGE] {
        headers.remove(name);
    }
}

/// What a backend would get of an authorised request, with a placeholder for the credential: for tools
/// that show what a policy does. Nothing is sent.
///
/// # Errors
/// As the request itself would fail.
pub fn preview(
    backend: &files::Backend,
    authorized: &Authorized<'_>,
    request: canonical::Request,
) -> Result<Request<()>, Denial> {
    let target = Target::of(backend).ok_or(Reason::Internal)?;
    let caller = Caller::new(request.client().ip());
    let parts = Parts {
        authorized,
        target: &target,
        followed: None,
        caller: &caller,
        trace: Trace::take(&mut HeaderMap::new()),
        id: RequestId::fresh(),
    };
    let placeholder = HeaderValue::from_static("(the gateway's)");
    let credential = match &backend.credential.value {
        Credential::None => None,
        Credential::Token { .. } => Some(header::AUTHORIZATION),
        Credential::FunctionKey { .. } => Some(FUNCTIONS_KEY),
        Credential::Header { name, .. } => Some(name.value.clone()),
        // It stands in the query, which is not for tools to show.
        Credential::Sas { .. } => None,
    };
    let carried = credential.map_or(Carried::Nothing, |name| Carried::Field(name, placeholder));
    parts.with(request, carried)
}

/// Addresses the head to the backend, as its protocol does.
fn address(
    target: &Target,
    method: Method,
    path: PathAndQuery,
    mut headers: HeaderMap,
) -> Result<Request<()>, Denial> {
    let mut head = Request::new(());
    *head.method_mut() = method;
    match target.protocol {
        Protocol::Http1 => {
            headers.insert(header::HOST, target.host.clone());
            *head.uri_mut() = Uri::from(path);
        }
        Protocol::Http2 => {
            let scheme = if target.secure { "https" } else { "http" };
            let uri = Uri::builder()
                .scheme(scheme)
                .authority(target.host.as_bytes())
                .path_and_query(path)
                .build();
            *head.uri_mut() = uri.map_err(|_| Denial::from(Reason::Internal))?;
            *head.version_mut() = Version::HTTP_2;
        }
    }
    *head.headers_mut() = headers;
    Ok(head)
}
