//! TLS as a client: rustls on aws-lc, TLS 1.2 and 1.3, and whom to trust.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_platform_verifier::Verifier;

/// Whose certificates are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// Those that the platform believes.
    Platform,
    /// Those that these authorities signed, in PEM, and nobody else's.
    Pem(Vec<u8>),
}

/// No TLS settings can be made of these roots.
#[derive(Debug)]
pub enum TlsError {
    /// The text is not PEM.
    NotPem(pem::Error),
    /// The PEM holds no certificate.
    NoCertificate,
    /// A certificate cannot be a root, the platform's roots cannot be read, or the like.
    Rustls(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPem(cause) => write!(f, "the CA certificates are not PEM: {cause}"),
            Self::NoCertificate => f.write_str("the PEM holds no CA certificate"),
            Self::Rustls(cause) => write!(f, "the CA certificates cannot be used: {cause}"),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotPem(cause) => Some(cause),
            Self::NoCertificate => None,
            Self::Rustls(cause) => Some(cause),
        }
    }
}

impl From<rustls::Error> for TlsError {
    fn from(cause: rustls::Error) -> Self {
        Self::Rustls(cause)
    }
}

/// Makes aws-lc the cryptography of the process. Calling it again changes nothing.
pub fn install_provider() {
    // An error says that one is installed already: by an earlier call, as no other room installs one.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// Settings for TLS 1.2 and 1.3 to servers that `roots` vouch for, offering the protocols `alpn`
/// (such as `b"http/1.1"`) in this order.
pub fn client_config(roots: &Roots, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    let trusting = match roots {
        // What the crate's own `with_platform_verifier` does, but for reading everything each time.
        Roots::Platform => builder()?
            .dangerous()
            .with_custom_certificate_verifier(platform_verifier()?),
        Roots::Pem(pem) => builder()?.with_root_certificates(root_store(pem)?),
    };
    let mut config = trusting.with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

/// The platform's verifier, one for all: it reads hundreds of certificates, which takes 10 ms, and there may be
/// as many clients as backends.
fn platform_verifier() -> Result<Arc<Verifier>, rustls::Error> {
    static SHARED: OnceLock<Arc<Verifier>> = OnceLock::new();
    if let Some(verifier) = SHARED.get() {
        return Ok(Arc::clone(verifier));
    }
    let made = Arc::new(Verifier::new(provider())?);
    Ok(Arc::clone(SHARED.get_or_init(|| made)))
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
}

fn provider() -> Arc<CryptoProvider> {
    // Named, not looked up: settings do not depend on whether `install_provider` ran before.
    Arc::new(aws_lc_rs::default_provider())
}

fn root_store(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        store.add(certificate.map_err(TlsError::NotPem)?)?;
    }
    if store.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem() -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        made.cert.pem().into_bytes()
    }

    #[test]
    fn own_roots_and_protocols_are_taken() {
        let config = client_config(&Roots::Pem(pem()), &[b"h2", b"http/1.1"]).expect("settings");
        assert_eq!(
            config.alpn_protocols,
            [b"h2".to_vec(), b"http/1.1".to_vec()]
        );
    }

    #[test]
    fn pem_without_a_usable_certificate_is_an_error() {
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
        let unclosed = b"-----BEGIN CERTIFICATE-----\nAAAA\n".to_vec();
        assert!(matches!(
            client_config(&Roots::Pem(Vec::new()), &[]),
            Err(TlsError::NoCertificate)
        ));
        assert!(matches!(
            client_config(&Roots::Pem(broken), &[]),
            Err(TlsError::Rustls(_))
        ));
        assert!(matches!(
            client_config(&Roots::Pem(unclosed), &[]),
            Err(TlsError::NotPem(_))
        ));
    }

    #[test]
    fn the_platforms_certificates_are_read_once_for_all() {
        let one = platform_verifier().expect("a verifier");
        assert!(Arc::ptr_eq(&one, &platform_verifier().expect("a verifier")));
    }

    #[test]
    fn the_provider_may_be_installed_twice() {
        install_provider();
        install_provider();
        assert!(CryptoProvider::get_default().is_some());
    }
}
