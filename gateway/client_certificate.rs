//! The certificate that a caller has proved to hold: what of it policies may ask for.

use aws_lc_rs::digest::{SHA256, digest};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// A caller's certificate. It was verified before: by whom, for what, and until when it is good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientCertificate {
    /// The SHA-256 of its bytes, in lower-case hexadecimal.
    pub thumbprint: Box<str>,
    /// Whom it names (RFC 4514): `CN=partner,O=Fabrikam`.
    pub subject: Box<str>,
    /// Who issued it, as the subject.
    pub issuer: Box<str>,
}

impl ClientCertificate {
    /// Of DER. `None` if it is no certificate.
    pub fn of(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let tbs = certificate.tbs_certificate();
        Some(Self {
            thumbprint: thumbprint(der).into(),
            subject: tbs.subject().to_string().into(),
            issuer: tbs.issuer().to_string().into(),
        })
    }
}

/// What a certificate is told apart by: the SHA-256 of its bytes, in lower-case hexadecimal.
pub fn thumbprint(der: &[u8]) -> String {
    let digest = digest(&SHA256, der);
    let bytes = digest.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}
