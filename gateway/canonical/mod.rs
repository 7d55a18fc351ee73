//! One canonical form of every request: its method, host, path, query and header fields. What is
//! ambiguous is refused, not guessed at, and the keys that a caller sent are gone. Pure: nothing
//! here reads a clock or does I/O, and a request in plain spelling costs no allocation.

mod bearer;
mod headers;
mod host;
mod keys;
mod names;
mod path;
mod percent;
mod query;
mod urls;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Uri, Version};

pub use self::headers::{remove_spellings, strip_response, strip_trailers};
pub use self::keys::{KeptParameters, KeyHeaders, KeyParameters};
pub use self::names::{caller_may_send, folds_alike, gateway_writes, must_arrive};

pub(crate) use self::bearer::is_token68;
pub(crate) use self::percent::escape;
pub(crate) use self::urls::{URL_FIELDS, text_carries_key};

use self::host::Host;
use crate::client_certificate::ClientCertificate;
use crate::denial::{Denial, Reason};
use crate::secret::Secret;
use crate::upgrade;

/// The canonical form of a path that somebody wrote into a policy.
///
/// # Errors
/// Why the path would be refused in a request.
pub fn canonical_path(path: &str) -> Result<Cow<'_, str>, Reason> {
    Ok(match path::canonical(path)? {
        Some(canonical) => Cow::Owned(canonical),
        None => Cow::Borrowed(path),
    })
}

/// The keys that the parameters of a query name, in every spelling that some backend reads.
///
/// # Errors
/// Why the query would be refused in a request.
pub(crate) fn key_parameters(query: &str) -> Result<KeyParameters, Reason> {
    query::examine(query).map(|examined| examined.all)
}

/// A request that can be read in one way alone. That one exists is the proof that it was checked.
pub struct Request {
    method: Method,
    version: Version,
    client: SocketAddr,
    certificate: Option<Arc<ClientCertificate>>,
    uri: Uri,
    /// The canonical path, where it is not the one in `uri`.
    path: Option<String>,
    headers: HeaderMap,
    findings: Findings,
}

struct Findings {
    host: Host,
    path: Option<String>,
    query: query::Examined,
    headers: headers::Findings,
}

/// The host of a request that goes no further, as [`Request::host`].
///
/// # Errors
/// `AmbiguousHost`.
pub fn host_of(parts: &Parts) -> Result<String, Reason> {
    let host = Host::read(parts.version, &parts.uri, &parts.headers)?;
    Ok(host.name().to_owned())
}

impl Request {
    /// Makes the canonical form of a request. Whatever is ambiguous is refused:
    ///
    /// # Errors
    /// `MethodNotSupported` (TRACE, CONNECT, unknown methods), `AmbiguousFraming`, `AmbiguousHeader`,
    /// `UpgradeNotSupported`, `AmbiguousHost`, `AmbiguousPath` (`OPTIONS *` among them: it names no
    /// route), `AmbiguousQuery`; in this order.
    pub fn new(parts: Parts, client: SocketAddr) -> Result<Self, Refused> {
        Self::of(parts, None, client)
    }

    /// The same, where an `Authorization` may have been taken out of the fields before: see [`Request::new`].
    ///
    /// # Errors
    /// As for `new`.
    pub fn of(
        mut parts: Parts,
        authorization: Option<Secret<Bytes>>,
        client: SocketAddr,
    ) -> Result<Self, Refused> {
        match examine(&mut parts, authorization) {
            Ok(mut findings) => Ok(Self {
                method: parts.method,
                version: parts.version,
                client,
                certificate: None,
                uri: parts.uri,
                path: findings.path.take(),
                headers: parts.headers,
                findings,
            }),
            Err(reason) => Err(Refused::new(reason, parts)),
        }
    }

    /// The method: one of GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The version of HTTP that the caller speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The address that the connection comes from.
    pub fn client(&self) -> SocketAddr {
        self.client
    }

    /// The same from a caller who has proved to hold a certificate.
    pub fn certified(mut self, certificate: Option<Arc<ClientCertificate>>) -> Self {
        self.certificate = certificate;
        self
    }

    /// The certificate that the caller has proved to hold, if any.
    pub fn certificate(&self) -> Option<&Arc<ClientCertificate>> {
        self.certificate.as_ref()
    }

    /// The host, in lower case, without port and trailing dot; an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        self.findings.host.name()
    }

    /// The port that the caller named beside the host.
    pub fn port(&self) -> Option<u16> {
        self.findings.host.port()
    }

    /// The canonical path: what is matched, forwarded and recorded.
    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or_else(|| self.uri.path())
    }

    /// The fields that may be passed on. `Host`, `Authorization`, fields of one hop and everything
    /// that the gateway itself asserts are gone.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The fields, to put them back where they were moved out.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// Moves the fields out, for the request to the backend.
    pub fn take_headers(&mut self) -> HeaderMap {
        std::mem::take(&mut self.headers)
    }

    /// The bearer token, as it was sent: text of whatever form.
    ///
    /// # Errors
    /// `TokenMissing`, `AuthorizationAmbiguous`, `SchemeNotSupported` or `TokenMalformed`.
    pub fn bearer(&self) -> Result<&str, Denial> {
        Ok(self.findings.headers.authorization.bearer()?)
    }

    /// The only `Authorization`, as it was sent.
    pub fn authorization(&self) -> Option<&Secret<Bytes>> {
        self.findings.headers.authorization.only()
    }

    /// The query as it was sent, for who follows a sealed URL: what it holds was named by the gateway.
    pub fn raw_query(&self) -> Option<&str> {
        self.uri.query()
    }

    /// The query to forward: without the key parameters, save those that the route keeps. All else
    /// stays byte for byte and in order. `None` if there is nothing to forward; borrowed if there
    /// is nothing to strip.
    pub fn forwarded_query(&self, kept: KeptParameters) -> Option<Cow<'_, str>> {
        let query = self.uri.query()?;
        let strip = self.findings.query.all.without(kept);
        let forwarded = if strip.is_empty() {
            Cow::Borrowed(query)
        } else {
            Cow::Owned(self.findings.query.without(query, strip))
        };
        (!forwarded.is_empty()).then_some(forwarded)
    }

    /// The key parameters that the caller sent: their names, for the record.
    pub fn key_parameters_seen(&self) -> KeyParameters {
        self.findings.query.all.without(KeyParameters::API_VERSION)
    }

    /// The signature or key in the URL, as it was sent: the value of the first `sig` that has one, else of
    /// `code`, else of `x-functions-key`. For its fingerprint alone: it is a key.
    pub fn key_in_url(&self, kept: KeptParameters) -> Option<&str> {
        query::key_value(
            self.uri.query()?,
            self.findings.query.all.keys().without(kept),
        )
    }

    /// The fields with keys or asserted identities that the caller sent: their names, for the record.
    pub fn key_headers_seen(&self) -> KeyHeaders {
        self.findings.headers.key_headers
    }

    /// What the caller wants to speak on the connection from here on. Whoever lets it has to say so to the backend:
    /// `Upgrade` and `Connection` are gone.
    pub fn upgrade(&self) -> Option<&upgrade::Asked> {
        self.findings.headers.upgrade.as_deref()
    }

    /// Whether the caller takes trailer fields (`TE: trailers`, RFC 9110 section 10.1.4).
    pub fn te_trailers(&self) -> bool {
        self.findings.headers.te_trailers
    }
}

/// Says nothing of query, token and fields.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("host", &self.host())
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

/// A request that was refused, and what of it the record needs.
pub struct Refused {
    denial: Denial,
    method: Method,
    // Boxed: who is refused pays, not everyone whose result carries the room for it.
    uri: Box<Uri>,
}

impl Refused {
    fn new(reason: Reason, parts: Parts) -> Self {
        Self {
            denial: reason.into(),
            method: parts.method,
            uri: Box::new(parts.uri),
        }
    }

    /// Why.
    pub fn denial(&self) -> &Denial {
        &self.denial
    }

    /// The method as it was sent.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path as it was sent: not canonical, not fit to be matched, only to be recorded. The query
    /// is not to be had, because keys may be in it.
    pub fn raw_path(&self) -> &str {
        self.uri.path()
    }

    /// The denial alone.
    pub fn into_denial(self) -> Denial {
        self.denial
    }
}

/// Says nothing of the query.
impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused")
            .field("denial", &self.denial)
            .field("method", &self.method)
            .field("raw_path", &self.raw_path())
            .finish()
    }
}

fn examine(parts: &mut Parts, authorization: Option<Secret<Bytes>>) -> Result<Findings, Reason> {
    if !is_supported(&parts.method) {
        return Err(Reason::MethodNotSupported);
    }
    // The host is read after the framing was checked and before `Host` is removed.
    let host = Host::read(parts.version, &parts.uri, &parts.headers);
    let headers = headers::clean(
        &parts.method,
        parts.version,
        &mut parts.headers,
        authorization,
    )?;
    Ok(Findings {
        host: host?,
        path: path::canonical(parts.uri.path())?,
        query: parts
            .uri
            .query()
            .map_or(Ok(query::Examined::default()), query::examine)?,
        headers,
    })
}

fn is_supported(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::PATCH
            | Method::DELETE
            | Method::OPTIONS
    )
}
