//! Where metadata and keys come from: the seam that tests replace, and the real thing over HTTPS.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};

use super::metadata::Metadata;
use super::version::Version;
use crate::ids::TenantId;
use crate::net::client::{Bounds, Client};

/// An issuer's name and its key document, as fetched together.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The `iss` of the tenant's tokens.
    pub issuer: String,
    /// The JWKS document, not yet read.
    pub keys: Bytes,
}

/// Why a fetch failed, for operators. Holds no query and no header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchFailure(pub String);

impl fmt::Display for FetchFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a [`KeySource`] promises.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<Fetched, FetchFailure>> + Send + 'a>>;

/// Fetches the metadata and keys of a tenant.
pub trait KeySource: Send + Sync {
    /// Fetches afresh, within bounded time and size.
    fn fetch(&self, tenant: TenantId, version: Version) -> Fetching<'_>;
}

/// The authority's own endpoints, over verified TLS.
pub struct Authority {
    client: Client,
    /// Without a slash at its end.
    base: String,
}

const METADATA_BOUNDS: Bounds = Bounds {
    timeout: Duration::from_secs(10),
    max_body: 256 * 1024,
};

const KEYS_BOUNDS: Bounds = Bounds {
    timeout: Duration::from_secs(10),
    max_body: 1024 * 1024,
};

impl Authority {
    /// Reads metadata below `base`, the `entra.authority` of the configuration.
    pub fn new(base: &Uri, client: Client) -> Arc<Self> {
        Arc::new(Self {
            client,
            base: base.to_string().trim_end_matches('/').to_owned(),
        })
    }

    async fn read(&self, uri: Uri, bounds: Bounds, what: &str) -> Result<Bytes, FetchFailure> {
        let request = Request::get(uri)
            .header(header::ACCEPT, "application/json")
            .body(Bytes::new())
            .map_err(|_| FetchFailure(format!("the URL of the {what} is not usable")))?;
        let answer = self.client.send(request, bounds).await;
        let answer = answer.map_err(|error| FetchFailure(format!("{what}: {error}")))?;
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            status => Err(FetchFailure(format!("{what}: answered {status}"))),
        }
    }
}

impl KeySource for Authority {
    fn fetch(&self, tenant: TenantId, version: Version) -> Fetching<'_> {
        Box::pin(async move {
            let path = match version {
                Version::V1 => "",
                Version::V2 => "/v2.0",
            };
            let uri = format!(
                "{}/{tenant}{path}/.well-known/openid-configuration",
                self.base
            );
            let uri = uri
                .parse()
                .map_err(|_| FetchFailure("entra.authority is not a usable URL".to_owned()))?;
            let document = self.read(uri, METADATA_BOUNDS, "metadata").await?;
            let metadata = Metadata::parse(&document, tenant).map_err(FetchFailure)?;
            Ok(Fetched {
                keys: self
                    .read(metadata.keys, KEYS_BOUNDS, "signing keys")
                    .await?,
                issuer: metadata.issuer,
            })
        })
    }
}
