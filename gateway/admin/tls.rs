//! TLS on the admin address.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::files::{AdminTls, Diagnostics, Spanned};
use crate::server::Certificates;

/// The settings. `None` when an error was added.
pub(super) fn config(
    written: &AdminTls,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<ServerConfig>> {
    let AdminTls {
        certificates,
        client_ca: ca,
    } = written;
    let certificates = Certificates::read(certificates, diagnostics);
    let verifier = match ca {
        None => Some(WebPkiClientVerifier::no_client_auth()),
        Some(ca) => client_ca(ca, diagnostics),
    };
    let (certificates, verifier) = (certificates?, verifier?);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions);
    let mut config = builder
        .ok()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A session that is taken up again would vouch for a certificate whose CA may be trusted no more.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Some(Arc::new(config))
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
