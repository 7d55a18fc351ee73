//! A development CA: certificates for everything on loopback. Made afresh each time, never kept.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;

use super::fault;

/// A CA that signs for loopback names.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, both PEM.
pub struct Certificate {
    /// The chain.
    pub cert_pem: String,
    /// The private key.
    pub key_pem: String,
}

impl Ca {
    /// Makes a CA.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> io::Result<Self> {
        let key = KeyPair::generate().map_err(fault)?;
        let mut params = CertificateParams::new(Vec::new()).map_err(fault)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params
            .distinguished_name
            .push(DnType::CommonName, "Portcullis development CA");
        let certificate = params.self_signed(&key).map_err(fault)?;
        Ok(Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The CA's own certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for names and addresses.
    ///
    /// # Errors
    /// When a name is none.
    pub fn certificate(&self, names: &[&str]) -> io::Result<Certificate> {
        self.certify(names, &KeyPair::generate().map_err(fault)?, None)
    }

    /// The same, good until so long after the Unix epoch.
    ///
    /// # Errors
    /// When a name is none, or nobody counts so far.
    pub fn certificate_until(&self, names: &[&str], end: Duration) -> io::Result<Certificate> {
        let seconds = i64::try_from(end.as_secs()).map_err(fault)?;
        let end = OffsetDateTime::from_unix_timestamp(seconds).map_err(fault)?;
        self.certify(names, &KeyPair::generate().map_err(fault)?, Some(end))
    }

    /// The same with an RSA key of 2048 bits, as apps have them that sign assertions.
    ///
    /// # Errors
    /// When a name is none.
    pub fn rsa_certificate(&self, names: &[&str]) -> io::Result<Certificate> {
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).map_err(fault)?;
        self.certify(names, &key, None)
    }

    fn certify(
        &self,
        names: &[&str],
        key: &KeyPair,
        end: Option<OffsetDateTime>,
    ) -> io::Result<Certificate> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(fault)?;
        params.not_after = end.unwrap_or(params.not_after);
        let certificate = params.signed_by(key, &self.issuer).map_err(fault)?;
        Ok(Certificate {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// TLS for a server on this machine.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn server_config(&self, alpn: &[&[u8]]) -> io::Result<Arc<ServerConfig>> {
        let Certificate { cert_pem, key_pem } = self.certificate(&["localhost", "127.0.0.1"])?;
        let cert = CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(fault)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(fault)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(fault)?
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .map_err(fault)?;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}
