//! A client assertion: an app proves to Entra that it holds its certificate's key, by a JWT signed with
//! it. The crate's own credential for this needs OpenSSL.
//! <https://learn.microsoft.com/entra/identity-platform/certificate-credentials>

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PSS_SHA256, RsaKeyPair};
use azure_core::http::ClientMethodOptions;
use azure_identity::ClientAssertion;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

use crate::ids::random_u128;
use crate::secret::Secret;

/// How long an assertion can be used: Entra recommends ten minutes at most.
const LIFETIME: Duration = Duration::from_secs(5 * 60);

/// An assertion, ready to be sent once.
pub(super) struct Assertion(Secret<String>);

/// A certificate's key, and what names the certificate.
struct Credential {
    key: RsaKeyPair,
    thumbprint: String,
}

impl Assertion {
    /// Signs one. `proof` is a certificate and its key, PEM or PFX (in base64, without a password).
    pub(super) fn sign(
        proof: &Secret<String>,
        client: &str,
        audience: &str,
        now: Duration,
    ) -> Result<Self, &'static str> {
        let credential = Credential::read(proof.expose())?;
        let header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": credential.thumbprint });
        let claims = json!({
            "aud": audience,
            "iss": client,
            "sub": client,
            "jti": uuid::Builder::from_random_bytes(random_u128().to_be_bytes()).into_uuid(),
            "nbf": now.as_secs(),
            "iat": now.as_secs(),
            "exp": (now + LIFETIME).as_secs(),
        });
        let part = |part: &serde_json::Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let mut signature = vec![0; credential.key.public_modulus_len()];
        let random = SystemRandom::new();
        credential
            .key
            .sign(&RSA_PSS_SHA256, &random, signed.as_bytes(), &mut signature)
            .map_err(|_| "its key cannot sign")?;
        let signature = URL_SAFE_NO_PAD.encode(signature);
        Ok(Self(Secret::new(format!("{signed}.{signature}"))))
    }
}

impl Credential {
    fn read(proof: &str) -> Result<Self, &'static str> {
        let (key, certificate) = pair(proof)?;
        Ok(Self {
            key: RsaKeyPair::from_pkcs8(&key)
                .or_else(|_| RsaKeyPair::from_der(&key))
                .map_err(|_| "its key is no RSA key, which Entra wants")?,
            thumbprint: URL_SAFE_NO_PAD.encode(digest(&SHA256, &certificate)),
        })
    }
}

/// The certificate that an app proves itself with, DER, out of what holds it and its key.
///
/// # Errors
/// Why it cannot be used.
pub fn app_certificate(proof: &Secret<String>) -> Result<Vec<u8>, &'static str> {
    Credential::read(proof.expose())?;
    pair(proof.expose()).map(|(_, certificate)| certificate)
}

/// The key and the certificate, DER.
type Pair = (Vec<u8>, Vec<u8>);

fn pair(proof: &str) -> Result<Pair, &'static str> {
    match proof.contains("-----BEGIN") {
        true => pem(proof),
        false => pfx(proof),
    }
}

fn pem(text: &str) -> Result<Pair, &'static str> {
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| "there is no private key that is not encrypted in it")?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .filter_map(Result::ok)
        .collect();
    let leaf = certificates
        .iter()
        .find(|certificate| belongs(certificate, key.secret_der()))
        .or(certificates.first())
        .ok_or("there is no certificate in it")?;
    Ok((key.secret_der().to_vec(), leaf.to_vec()))
}

/// Whether a certificate holds the public half of a key: a chain may stand in any order.
fn belongs(certificate: &[u8], key: &[u8]) -> bool {
    let pair = RsaKeyPair::from_pkcs8(key).or_else(|_| RsaKeyPair::from_der(key));
    let modulus = pair.map(|pair| {
        use aws_lc_rs::signature::KeyPair as _;
        let modulus = pair.public_key().modulus();
        modulus.big_endian_without_leading_zero().to_vec()
    });
    modulus.is_ok_and(|modulus| memchr::memmem::find(certificate, &modulus).is_some())
}

fn pfx(text: &str) -> Result<Pair, &'static str> {
    let base64: String = text.split_ascii_whitespace().collect();
    let der = STANDARD
        .decode(base64)
        .map_err(|_| "it is neither PEM nor PFX")?;
    let store = KeyStore::from_pkcs12(&der, "", Pkcs12ImportPolicy::Relaxed)
        .map_err(|_| "it is no PFX, or one with a password")?;
    let (_, chain) = store
        .private_key_chain()
        .ok_or("there is no private key in it")?;
    let key = chain.key().as_der();
    let certificates = chain.certs();
    let leaf = certificates
        .iter()
        .find(|certificate| belongs(certificate.as_der(), key))
        .or(certificates.first())
        .ok_or("there is no certificate in it")?;
    Ok((key.to_vec(), leaf.as_der().to_vec()))
}

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Assertion")
    }
}

impl ClientAssertion for Assertion {
    // As `async_trait` writes it, which the trait was made with.
    fn secret<'a, 'b, 'c>(
        &'a self,
        _: Option<ClientMethodOptions<'b>>,
    ) -> Pin<Box<dyn Future<Output = azure_core::Result<String>> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        let assertion = self.0.expose().clone();
        Box::pin(async { Ok(assertion) })
    }
}
