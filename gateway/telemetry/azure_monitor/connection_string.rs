//! The connection string of an Application Insights resource.
//! <https://learn.microsoft.com/azure/azure-monitor/app/connection-strings>

use std::fmt;

use http::Uri;
use uuid::Uuid;

use crate::secret::Secret;

/// Where telemetry goes, and for which resource. Whoever has the key can write there, so it is nobody's to read.
#[derive(Clone)]
pub struct ConnectionString {
    instrumentation_key: Secret<String>,
    endpoint: Uri,
}

/// Why a text is no connection string. Nothing of the text is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAConnectionString {
    /// A part is no `name=value`.
    Part,
    /// There is no `InstrumentationKey`, or it is no GUID.
    InstrumentationKey,
    /// `Authorization` asks for something else than `ikey`.
    Authorization,
    /// An endpoint is no `https://` URL of a host alone; `http://` is for this machine.
    Endpoint,
    /// It is longer than 4,096 characters.
    TooLong,
}

impl fmt::Display for NotAConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Part => "a part of it is not `name=value`",
            Self::InstrumentationKey => "it has no `InstrumentationKey=` with a GUID",
            Self::Authorization => "its `Authorization` is not `ikey`",
            Self::Endpoint => "its ingestion endpoint is not an `https://` URL without a user name",
            Self::TooLong => "it is longer than 4,096 characters",
        })
    }
}

impl std::error::Error for NotAConnectionString {}

const LONGEST: usize = 4096;
/// Where telemetry goes when the string does not say.
const DEFAULT_ENDPOINT: &str = "https://dc.services.visualstudio.com/";

impl ConnectionString {
    /// Reads one. Names count whatever their case, and those that nobody knows are passed over.
    ///
    /// # Errors
    /// When it is none, or names what is not supported.
    pub fn read(text: &Secret<String>) -> Result<Self, NotAConnectionString> {
        let text = text.expose().trim();
        if text.len() > LONGEST {
            return Err(NotAConnectionString::TooLong);
        }
        let (mut key, mut ingestion, mut suffix, mut location) = (None, None, None, None);
        for part in text
            .split(';')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (name, value) = part.split_once('=').ok_or(NotAConnectionString::Part)?;
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "instrumentationkey" => key = Some(value),
                "ingestionendpoint" => ingestion = Some(value.to_owned()),
                "endpointsuffix" => suffix = Some(value),
                "location" => location = Some(value),
                "authorization" if !value.eq_ignore_ascii_case("ikey") => {
                    return Err(NotAConnectionString::Authorization);
                }
                _ => {}
            }
        }
        let key = key.filter(|key| Uuid::try_parse(key).is_ok());
        let key = key.ok_or(NotAConnectionString::InstrumentationKey)?;
        let with_suffix = suffix.map(|suffix| {
            let location = location.map(|location| format!("{location}."));
            format!("https://{}dc.{suffix}/", location.unwrap_or_default())
        });
        let endpoint = ingestion
            .or(with_suffix)
            .unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        Ok(Self {
            instrumentation_key: Secret::new(key.to_owned()),
            endpoint: endpoint_of(&endpoint).ok_or(NotAConnectionString::Endpoint)?,
        })
    }

    /// The key that stands in each envelope.
    pub(in crate::telemetry) fn instrumentation_key(&self) -> &Secret<String> {
        &self.instrumentation_key
    }

    /// Where envelopes are sent.
    pub fn endpoint(&self) -> &Uri {
        &self.endpoint
    }
}

/// The URL of `v2.1/track` below an ingestion endpoint.
fn endpoint_of(text: &str) -> Option<Uri> {
    let uri: Uri = format!("{}/v2.1/track", text.trim_end_matches('/'))
        .parse()
        .ok()?;
    let host = uri.host()?;
    // A password, wherever it stands, would be told with the host.
    let authority = uri.authority()?.as_str();
    let port = authority.strip_prefix(host)?;
    let is_port = port.is_empty() || uri.port_u16().is_some();
    if text.contains('@') || !is_port {
        return None;
    }
    let is_loopback = host.eq_ignore_ascii_case("localhost")
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => Some(uri),
        Some("http") if is_loopback => Some(uri),
        _ => None,
    }
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionString({})", self.endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "00000000-1111-2222-3333-444444444444";

    fn read(text: &str) -> Result<String, NotAConnectionString> {
        let read = ConnectionString::read(&Secret::new(text.to_owned()))?;
        assert_eq!(read.instrumentation_key().expose(), KEY);
        assert!(!format!("{read:?}").contains(KEY));
        Ok(read.endpoint().to_string())
    }

    #[test]
    fn the_portals_string_and_its_kin_are_read() {
        for (rest, endpoint) in [
            ("", "https://dc.services.visualstudio.com/v2.1/track"),
            (
                ";IngestionEndpoint=https://westeurope-5.in.applicationinsights.azure.com/;LiveEndpoint=https://westeurope.livediagnostics.monitor.azure.com/;ApplicationId=5",
                "https://westeurope-5.in.applicationinsights.azure.com/v2.1/track",
            ),
            (
                ";EndpointSuffix=applicationinsights.us;Location=usgovvirginia",
                "https://usgovvirginia.dc.applicationinsights.us/v2.1/track",
            ),
            (
                ";EndpointSuffix=applicationinsights.azure.cn;",
                "https://dc.applicationinsights.azure.cn/v2.1/track",
            ),
            (
                ";authorization=IKEY;ingestionendpoint=http://127.0.0.1:81",
                "http://127.0.0.1:81/v2.1/track",
            ),
        ] {
            let text = format!("InstrumentationKey={KEY}{rest}");
            assert_eq!(read(&text), Ok(endpoint.to_owned()), "{rest}");
        }
    }

    #[test]
    fn what_is_none_is_refused_without_being_told() {
        let with = |rest: &str| format!("InstrumentationKey={KEY};{rest}");
        for (text, why) in [
            (String::new(), NotAConnectionString::InstrumentationKey),
            (
                "InstrumentationKey=abc".to_owned(),
                NotAConnectionString::InstrumentationKey,
            ),
            (with("nonsense"), NotAConnectionString::Part),
            (
                with("Authorization=aad"),
                NotAConnectionString::Authorization,
            ),
            (
                with("IngestionEndpoint=http://example.org"),
                NotAConnectionString::Endpoint,
            ),
            (
                with("IngestionEndpoint=https://user:secret@example.org"),
                NotAConnectionString::Endpoint,
            ),
            (
                with("EndpointSuffix=example.org;Location=user:secret/@west"),
                NotAConnectionString::Endpoint,
            ),
            (
                with("EndpointSuffix=example.org;Location=user:secret/west"),
                NotAConnectionString::Endpoint,
            ),
            (
                with("IngestionEndpoint=ftp://example.org"),
                NotAConnectionString::Endpoint,
            ),
            (
                with(&format!("a={}", "b".repeat(LONGEST))),
                NotAConnectionString::TooLong,
            ),
        ] {
            assert_eq!(read(&text), Err(why));
        }
    }
}
