//! TLS on the admin address.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::certificates::{Certificates, Terms};
use crate::files::{AdminTls, Diagnostics, Spanned};
use crate::upstream::Presenting;

/// Certificates and settings. `None` when an error was added.
pub(super) fn read(
    written: &AdminTls,
    presenting: Presenting<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<(Arc<Certificates>, Arc<ServerConfig>)> {
    let AdminTls {
        certificates,
        client_ca: ca,
    } = written;
    let certificates = Certificates::read(certificates, presenting, diagnostics);
    let clients = match ca {
        None => Some(None),
        Some(ca) => client_ca(ca, diagnostics).map(Some),
    };
    let (certificates, clients) = (certificates?, clients?);
    let terms = Terms {
        certificates: &certificates,
        clients,
        versions: rustls::ALL_VERSIONS,
        protocols: &[b"http/1.1"],
        tickets: None,
    };
    let config = terms.config().ok()?;
    Some((certificates, Arc::new(config)))
}

/// Who judges the certificates of those who ask. `None` when an error was added.
pub fn client_ca(
    written: &Spanned<PathBuf>,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let read = std::fs::read(&written.value).map_err(|error| error.to_string());
    let verifier = read.and_then(|pem| verifier(&pem));
    if let Err(why) = &verifier {
        diagnostics
            .error(&written.span, format!("this CA file cannot be used: {why}"))
            .help("name a readable PEM file with CA certificates");
    }
    verifier.ok()
}

/// Asks for a certificate, and goes on without one.
fn verifier(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| "it is not valid PEM".to_owned())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("it holds no certificate".to_owned());
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = builder.allow_unauthenticated().build();
    verifier.map_err(|error| error.to_string())
}
