//! The HTTP client of the control plane: small, bounded, and without a will of its own. HTTP/1.1,
//! a connection per request, no redirects, no proxy, no cookies. Keys and tokens are fetched a few
//! times an hour: what a pool would save is not worth what it can do wrong.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::{self, Resolver};
use super::tls::{self, Roots, TlsError};
use crate::clock::within;

/// More addresses than this are not tried.
const MOST_ADDRESSES: usize = 4;
/// More header bytes than this are not read. hyper's least is 8 KiB.
const HEAD_LIMIT: usize = 32 * 1024;

/// How long an exchange may take and how much it may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// From the look-up of the name to the last byte of the answer.
    pub timeout: Duration,
    /// Bytes of the answer's body.
    pub max_body: usize,
}

/// The client. Plain http goes to loopback addresses alone, https never to those that
/// [`address::refused`] names.
#[derive(Clone)]
pub struct Client {
    trust: Trust,
    resolver: Arc<dyn Resolver>,
    plain: Plain,
}

/// Whom TLS believes.
#[derive(Clone)]
enum Trust {
    Given(TlsConnector),
    /// Those that the platform believes. Empty until TLS is first spoken.
    Platform(Arc<OnceLock<TlsConnector>>),
}

impl Trust {
    fn connector(&self) -> Result<TlsConnector, TlsError> {
        let slot = match self {
            Self::Given(connector) => return Ok(connector.clone()),
            Self::Platform(slot) => slot,
        };
        if let Some(connector) = slot.get() {
            return Ok(connector.clone());
        }
        // Of two who come at once, the later takes what the earlier made.
        let made = tls::client_config(&Roots::Platform, &[b"http/1.1"])?;
        Ok(slot.get_or_init(|| TlsConnector::from(made)).clone())
    }
}

/// Where plain http may go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    Loopback,
    LoopbackAndLinkLocal,
    Anywhere,
}

impl Client {
    /// A client that trusts as `tls` says. The protocols offered there are overwritten: this client
    /// speaks HTTP/1.1.
    pub fn new(tls: &ClientConfig, resolver: Arc<dyn Resolver>) -> Self {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self::with(Trust::Given(TlsConnector::from(Arc::new(tls))), resolver)
    }

    /// A client that trusts as the platform does. The platform's certificates are read when TLS is first
    /// spoken: that takes 10 ms, and many a gateway has no use for them.
    pub fn of_platform(resolver: Arc<dyn Resolver>) -> Self {
        Self::with(Trust::Platform(Arc::default()), resolver)
    }

    /// A client that trusts as `tls` says and offers the protocols that stand there: for a
    /// [`Channel`](super::channel::Channel) that speaks one of them.
    pub(super) fn offering(tls: ClientConfig, resolver: Arc<dyn Resolver>) -> Self {
        Self::with(Trust::Given(TlsConnector::from(Arc::new(tls))), resolver)
    }

    fn with(trust: Trust, resolver: Arc<dyn Resolver>) -> Self {
        Self {
            trust,
            resolver,
            plain: Plain::Loopback,
        }
    }

    /// Lets plain http go to link-local addresses too. Only for the platform's identity endpoint:
    /// IMDS is at 169.254.169.254, and App Service puts its own there on Linux.
    pub fn allow_plain_link_local(mut self) -> Self {
        self.plain = Plain::LoopbackAndLinkLocal;
        self
    }

    /// Lets plain http go to any address. Only where an operator has said so for a collector of
    /// telemetry, and to an address of this machine's own.
    pub fn allow_plain(mut self) -> Self {
        self.plain = Plain::Anywhere;
        self
    }

    /// Sends the request, whose URI is absolute, and reads the whole answer, whatever its status.
    /// A redirect is an answer like any other. `Host`, `Connection` and the framing are set here.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        bounds: Bounds,
    ) -> Result<Response<Bytes>, FetchError> {
        let target = Target::of(request.uri())?;
        let request = target.origin_form(request)?;
        within(bounds.timeout, self.exchange(&target, request, bounds))
            .await
            .unwrap_or_else(|| Err(FetchError::Timeout(target.host.clone())))
    }

    async fn exchange(
        &self,
        target: &Target,
        request: Request<Full<Bytes>>,
        bounds: Bounds,
    ) -> Result<Response<Bytes>, FetchError> {
        let addresses = self.addresses(target).await?;
        let tcp = connect(target, &addresses, bounds.timeout).await?;
        if target.tls {
            let tls = self.secure(target, tcp).await?;
            converse(target, tls, request, bounds.max_body).await
        } else {
            converse(target, tcp, request, bounds.max_body).await
        }
    }

    pub(super) async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, FetchError> {
        let found = self.resolver.resolve(target.bare_host(), target.port).await;
        let found = found.map_err(|cause| FetchError::Dns(target.host.clone(), cause))?;
        let mut addresses = found.addresses;
        addresses.retain(|address| self.may_call(target, address.ip()));
        match (addresses.is_empty(), target.tls) {
            (false, _) => Ok(addresses),
            (true, true) => Err(FetchError::AddressRefused(target.host.clone())),
            (true, false) => Err(FetchError::PlainHttpRefused(target.host.clone())),
        }
    }

    fn may_call(&self, target: &Target, ip: IpAddr) -> bool {
        if target.tls {
            return !address::refused(ip);
        }
        match self.plain {
            Plain::Loopback => address::is_loopback(ip),
            Plain::LoopbackAndLinkLocal => address::is_loopback(ip) || address::is_link_local(ip),
            Plain::Anywhere => true,
        }
    }

    pub(super) async fn secure(
        &self,
        target: &Target,
        tcp: TcpStream,
    ) -> Result<tokio_rustls::client::TlsStream<TcpStream>, FetchError> {
        let name = ServerName::try_from(target.bare_host().to_owned())
            .map_err(|_| FetchError::BadRequest("the host is not a DNS name or an address"))?;
        let failed = |cause| FetchError::Tls(target.host.clone(), cause);
        let connector = self.trust.connector();
        let connector = connector.map_err(|cause| failed(io::Error::other(cause)))?;
        connector.connect(name, tcp).await.map_err(failed)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

/// Why there is no answer. Names the host and never the path, the query or a header, which may
/// carry secrets.
#[derive(Debug)]
pub enum FetchError {
    /// The request itself is not one that can be sent; the text says what is wrong.
    BadRequest(&'static str),
    /// The host's name does not resolve.
    Dns(String, io::Error),
    /// The host resolves to addresses that are never called, and to no other.
    AddressRefused(String),
    /// Plain http to a host that is not this machine.
    PlainHttpRefused(String),
    /// No address of the host accepts the connection; the cause is the last one's.
    Connect(String, io::Error),
    /// The host's certificate does not verify, or the handshake fails.
    Tls(String, io::Error),
    /// The time ran out.
    Timeout(String),
    /// The answer's body is longer than this many bytes.
    TooLarge(String, usize),
    /// The answer is not HTTP, or broke off.
    Protocol(String, hyper::Error),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRequest(fault) => f.write_str(fault),
            Self::Dns(host, cause) => write!(f, "{host} does not resolve: {cause}"),
            Self::AddressRefused(host) => {
                write!(f, "{host} has an address that may not be called")
            }
            Self::PlainHttpRefused(host) => {
                write!(f, "plain http to {host}, which is not this machine")
            }
            Self::Connect(host, cause) => write!(f, "{host} cannot be reached: {cause}"),
            Self::Tls(host, cause) => write!(f, "no trusted TLS with {host}: {cause}"),
            Self::Timeout(host) => write!(f, "{host} did not answer in time"),
            Self::TooLarge(host, limit) => {
                write!(f, "the answer of {host} is longer than {limit} bytes")
            }
            Self::Protocol(host, cause) => write!(f, "the answer of {host} broke off: {cause}"),
        }
    }
}

impl std::error::Error for FetchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Dns(_, cause) | Self::Connect(_, cause) | Self::Tls(_, cause) => Some(cause),
            Self::Protocol(_, cause) => Some(cause),
            Self::BadRequest(_)
            | Self::AddressRefused(_)
            | Self::PlainHttpRefused(_)
            | Self::Timeout(_)
            | Self::TooLarge(..) => None,
        }
    }
}

/// Whom a URI means.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// As written in the URI: an IPv6 literal keeps its brackets.
    pub(super) host: String,
    port: u16,
    pub(super) tls: bool,
    pub(super) authority: HeaderValue,
}

impl Target {
    pub(super) fn of(uri: &Uri) -> Result<Self, FetchError> {
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(FetchError::BadRequest("the URL is neither http nor https")),
        };
        let authority = uri
            .authority()
            .ok_or(FetchError::BadRequest("the URL has no host"))?;
        if authority.as_str().contains('@') {
            return Err(FetchError::BadRequest("the URL holds a user name"));
        }
        Ok(Self {
            host: authority.host().to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            tls,
            authority: HeaderValue::from_str(authority.as_str())
                .map_err(|_| FetchError::BadRequest("the URL's host is not printable"))?,
        })
    }

    fn bare_host(&self) -> &str {
        self.host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(&self.host)
    }

    /// The request as an origin server wants it (RFC 9112 section 3.2.1).
    fn origin_form(&self, request: Request<Bytes>) -> Result<Request<Full<Bytes>>, FetchError> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().cloned();
        parts.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        parts.version = Version::HTTP_11;
        // The framing is hyper's business; what a caller copied from elsewhere would contradict it.
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.remove(header::TRANSFER_ENCODING);
        parts.headers.insert(header::HOST, self.authority.clone());
        parts
            .headers
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
        Ok(Request::from_parts(parts, Full::new(body)))
    }

    pub(super) fn broke_off(&self, cause: hyper::Error) -> FetchError {
        FetchError::Protocol(self.host.clone(), cause)
    }
}

/// Tries the addresses in turn. Each gets an equal share of the time, and one share is left for the
/// exchange, so that a dead first address does not use up the life of a live second.
pub(super) async fn connect(
    target: &Target,
    addresses: &[SocketAddr],
    timeout: Duration,
) -> Result<TcpStream, FetchError> {
    let tried = addresses.len().min(MOST_ADDRESSES);
    let share = timeout / u32::try_from(tried + 1).unwrap_or(u32::MAX);
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses.iter().take(tried) {
        match within(share, TcpStream::connect(address)).await {
            Some(Ok(stream)) => {
                // Without it a request waits for what the handshake sent to be acknowledged; failing costs only that.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Some(Err(cause)) => last = cause,
            None => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(FetchError::Connect(target.host.clone(), last))
}

/// One request and its answer on a fresh connection.
async fn converse<S>(
    target: &Target,
    stream: S,
    request: Request<Full<Bytes>>,
    max_body: usize,
) -> Result<Response<Bytes>, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_LIMIT)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|cause| target.broke_off(cause))?;
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|cause| target.broke_off(cause))?;
        whole(target, response, max_body).await
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The connection may end before the last byte is taken from it. Why it ended, where that
        // matters, reaches the answer as its error.
        _ = connection => answer.await,
    }
}

pub(super) async fn whole(
    target: &Target,
    response: Response<Incoming>,
    limit: usize,
) -> Result<Response<Bytes>, FetchError> {
    let (mut parts, mut body) = response.into_parts();
    let mut taken = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|cause| target.broke_off(cause))?;
        let Some(data) = frame.data_ref() else {
            // gRPC says in the trailers how it went.
            if let Ok(trailers) = frame.into_trailers() {
                parts.headers.extend(trailers);
            }
            continue;
        };
        if data.len() > limit.saturating_sub(taken.len()) {
            return Err(FetchError::TooLarge(target.host.clone(), limit));
        }
        taken.extend_from_slice(data);
    }
    Ok(Response::from_parts(parts, taken.freeze()))
}

#[cfg(test)]
mod tests;
