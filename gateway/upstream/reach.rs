//! Backends as the doctor sees them: whether the way there is open, and what is called there. Nothing of a
//! request is sent, and no credential goes along.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use http::Uri;

use super::backend;
use super::connect::{dial, prove, unconnected};
use super::endpoint::{Endpoint, Endpoints};
use super::target::Target;
use crate::denial::Denial;
use crate::files::{self, Diagnostics};
use crate::net::address::Resolver;

/// Where a backend listens. Backends that share an endpoint are equal here.
pub struct Place(Arc<Endpoint>);

impl Place {
    /// The places of a backend. None where an error was added.
    pub fn of(
        written: &files::Backend,
        endpoints: &Endpoints,
        diagnostics: &mut Diagnostics,
    ) -> Vec<Self> {
        let endpoints = backend::all_endpoints(written, endpoints, diagnostics);
        endpoints
            .unwrap_or_default()
            .into_iter()
            .map(Self)
            .collect()
    }

    /// Whether it is reached over TLS; plain HTTP is for loopback alone.
    pub fn is_secure(&self) -> bool {
        self.0.tls.is_some()
    }

    /// Resolves, connects and proves the backend's identity, as a request would, and hangs up. Whoever calls
    /// bounds the time. The answer is where it was found.
    ///
    /// # Errors
    /// As a request would fail: `BackendDns`, `BackendAddressRefused`, `BackendConnectionRefused`,
    /// `BackendTls`.
    pub async fn reach(&self, resolver: &Arc<dyn Resolver>) -> Result<SocketAddr, Denial> {
        let stream = dial(&self.0, resolver).await?;
        let address = stream.peer_addr().map_err(unconnected)?;
        if let Some(tls) = &self.0.tls {
            prove(tls, stream).await?;
        }
        Ok(address)
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.host, self.0.port)
    }
}

/// What is called when a request with this path goes to a backend: behind the backend's own path, with its
/// own query and no credential. A Logic App's URL is called as it stands where `path` is empty.
pub fn called(written: &files::Backend, path: &str) -> Option<Uri> {
    let target = Target::of(written)?;
    let scheme = if target.secure { "https" } else { "http" };
    let host = target.host.to_str().ok()?;
    let slash = match target.base_path.is_empty() && path.is_empty() {
        true => "/",
        false => "",
    };
    let query = target.base_query.map(|query| format!("?{query}"));
    let query = query.unwrap_or_default();
    let url = format!("{scheme}://{host}{}{path}{slash}{query}", target.base_path);
    url.parse().ok()
}
