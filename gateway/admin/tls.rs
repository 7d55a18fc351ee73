//! TLS on the admin address.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;

use crate::certificates::{Certificates, Clients, Origins, Terms};
use crate::files::{AdminTls, Diagnostics, Spanned, read_ca};

/// Certificates and settings. `None` when an error was added.
pub(super) fn read(
    written: &AdminTls,
    origins: Origins<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<(Arc<Certificates>, Arc<ServerConfig>)> {
    let AdminTls {
        certificates,
        client_ca: ca,
    } = written;
    let certificates = Certificates::read(certificates, origins, diagnostics);
    let clients = match ca {
        None => Some(None),
        Some(ca) => client_ca(ca, diagnostics).map(Some),
    };
    let (certificates, clients) = (certificates?, clients?);
    let terms = Terms {
        certificates: &certificates,
        clients: clients.as_ref(),
        versions: rustls::ALL_VERSIONS,
        protocols: &[b"http/1.1"],
        tickets: None,
    };
    let config = terms.config().ok()?;
    Some((certificates, Arc::new(config)))
}

/// Who judges the certificates of those who ask. `None` when an error was added.
pub fn client_ca(written: &Spanned<PathBuf>, diagnostics: &mut Diagnostics) -> Option<Clients> {
    let read = read_ca(&written.value).map_err(|error| error.to_string());
    let clients = read.and_then(|pem| Clients::by(&pem));
    if let Err(why) = &clients {
        diagnostics
            .error(&written.span, format!("this CA file cannot be used: {why}"))
            .help("name a readable PEM file with CA certificates");
    }
    clients.ok()
}
