//! Endpoints: where a backend listens, and how it proves that it is the one. Backends that share an
//! endpoint share its connections, and a reload that leaves an endpoint as it was leaves them open.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::Uri;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::care::Kept;
use super::health::Checked;
use super::standing::Standing;
use crate::files::{Health, Protocol, read_ca};
use crate::net::tls::{self, Roots};

/// One place that speaks HTTP.
pub(super) struct Endpoint {
    /// Never used again for another endpoint, so that a pool cannot be mistaken for another's.
    pub(super) id: EndpointId,
    pub(super) host: Box<str>,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    /// `None` for plain HTTP, which is for loopback alone.
    pub(super) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// How it stands among others.
    pub(super) standing: Standing,
}

/// Where an endpoint is, for those who tell of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// A name or an address.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
    /// Whether TLS is spoken there.
    pub secure: bool,
}

impl Site {
    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }
}

/// Names an endpoint for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(u64);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Spec {
    host: Box<str>,
    port: u16,
    protocol: Protocol,
    secure: bool,
    /// The CA file's path and content: a file that changes makes another endpoint.
    authority: Option<(PathBuf, Vec<u8>)>,
}

/// What is in use, by what defines it.
type Known<K, V> = Mutex<HashMap<K, Weak<V>>>;

/// The endpoints in use.
#[derive(Default)]
pub struct Endpoints {
    next: AtomicU64,
    known: Known<Spec, Endpoint>,
    checked: Known<(EndpointId, Health), Checked>,
    kept: Known<(Box<str>, Vec<EndpointId>), Kept>,
}

impl Endpoints {
    /// The endpoint of a URL: the one in use already, or a new one.
    pub(super) fn of(
        &self,
        url: &Uri,
        protocol: Protocol,
        ca: Option<&Path>,
    ) -> Result<Arc<Endpoint>, String> {
        let secure = url.scheme_str() == Some("https");
        let authority = match ca {
            None => None,
            Some(path) => {
                let pem = read_ca(path);
                Some((
                    path.to_owned(),
                    pem.map_err(|error| format!("{}: {error}", path.display()))?,
                ))
            }
        };
        let spec = Spec {
            host: url.host().unwrap_or_default().to_ascii_lowercase().into(),
            port: url.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            protocol,
            secure,
            authority,
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, endpoint| endpoint.strong_count() > 0);
        if let Some(endpoint) = known.get(&spec).and_then(Weak::upgrade) {
            return Ok(endpoint);
        }
        let id = EndpointId(self.next.fetch_add(1, Ordering::Relaxed));
        let endpoint = Arc::new(Endpoint::new(id, &spec)?);
        known.insert(spec, Arc::downgrade(&endpoint));
        Ok(endpoint)
    }
}

impl Endpoints {
    /// What is known of an endpoint by asking it so.
    pub(super) fn checked(&self, endpoint: EndpointId, health: &Health) -> Arc<Checked> {
        shared(&self.checked, (endpoint, health.clone()))
    }

    /// What outlives a snapshot of the backend of this name at these endpoints.
    pub(super) fn kept(&self, backend: &str, endpoints: Vec<EndpointId>) -> Arc<Kept> {
        shared(&self.kept, (backend.into(), endpoints))
    }
}

/// The one in use already, or a new one.
fn shared<K: Eq + Hash, V: Default>(known: &Known<K, V>, key: K) -> Arc<V> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    known.retain(|_, value| value.strong_count() > 0);
    if let Some(value) = known.get(&key).and_then(Weak::upgrade) {
        return value;
    }
    let value = Arc::new(V::default());
    known.insert(key, Arc::downgrade(&value));
    value
}

impl Endpoint {
    fn new(id: EndpointId, spec: &Spec) -> Result<Self, String> {
        let tls = match spec.secure {
            false => None,
            true => {
                let roots = match &spec.authority {
                    None => Roots::Platform,
                    Some((_, pem)) => Roots::Pem(pem.clone()),
                };
                let alpn: &[&[u8]] = match spec.protocol {
                    Protocol::Http1 => &[b"http/1.1"],
                    Protocol::Http2 => &[b"h2"],
                };
                let config = tls::client_config(&roots, alpn).map_err(|error| error.to_string())?;
                Some((config, server_name(&spec.host)?))
            }
        };
        Ok(Self {
            id,
            host: spec.host.clone(),
            port: spec.port,
            protocol: spec.protocol,
            tls,
            standing: Standing::default(),
        })
    }

    /// The host as a name or an address to resolve: without the brackets of IPv6.
    pub(super) fn dial_name(&self) -> &str {
        let host = self
            .host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        host.unwrap_or(&self.host)
    }

    /// Plain HTTP goes to this machine alone; a name must not lead it elsewhere.
    pub(super) fn may_dial(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let prohibited = crate::net::address::refused(address);
        !prohibited && (self.tls.is_some() || address.is_loopback())
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned())
        .map_err(|_| format!("`{host}` is not a host name that a certificate could name"))
}
