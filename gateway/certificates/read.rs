//! Certificates and keys out of what people keep them in: PEM, PFX, keys with a passphrase.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Kdf;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

use super::Presented;
use crate::secret::Secret;

/// Why a certificate and its key cannot be used: what is at fault, in words that show nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) of: Part,
    pub(super) why: String,
}

/// What is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Certificate,
    Key,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.of {
            Part::Certificate => "certificate",
            Part::Key => "key",
        };
        write!(f, "the {part} cannot be used: {}", self.why)
    }
}

fn certificate(why: impl Into<String>) -> Fault {
    Fault {
        of: Part::Certificate,
        why: why.into(),
    }
}

fn key(why: impl Into<String>) -> Fault {
    Fault {
        of: Part::Key,
        why: why.into(),
    }
}

const NOT_READ: &str = "its passphrase was not read yet";

/// Of a chain and a key, each in PEM, and the passphrase of the key, which is empty if it has none.
pub(super) fn pem(texts: &[Secret<String>]) -> Result<Presented, Fault> {
    let [chain, private, passphrase] = texts else {
        return Err(key(NOT_READ));
    };
    pem_pair(chain.expose(), private.expose(), line(passphrase))
}

/// Of a PFX (PKCS #12) in base64, and its passphrase.
pub(super) fn pfx(texts: &[Secret<String>]) -> Result<Presented, Fault> {
    let [store, passphrase] = texts else {
        return Err(certificate(NOT_READ));
    };
    store_of_both(store.expose(), line(passphrase))
}

/// Of what Key Vault holds as a certificate's secret: PEM with its key, or a PFX in base64 without a passphrase.
pub(super) fn vault(texts: &[Secret<String>]) -> Result<Presented, Fault> {
    let text = texts.first().map(|text| text.expose().as_str());
    match text.unwrap_or_default() {
        text if text.contains("-----BEGIN") => pem_pair(text, text, ""),
        text => store_of_both(text, ""),
    }
}

/// A passphrase is a line: editors end it.
fn line(passphrase: &Secret<String>) -> &str {
    let text = passphrase.expose();
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

fn pem_pair(chain: &str, private: &str, passphrase: &str) -> Result<Presented, Fault> {
    let certificates = certificates(chain)?;
    assemble(certificates, &private_key(private, passphrase)?)
}

fn store_of_both(text: &str, passphrase: &str) -> Result<Presented, Fault> {
    let base64: String = text.split_ascii_whitespace().collect();
    let der = STANDARD
        .decode(base64)
        .map_err(|_| certificate("this is no PFX"))?;
    let store = KeyStore::from_pkcs12(&der, passphrase, Pkcs12ImportPolicy::Relaxed);
    let store = store.map_err(|_| {
        certificate(match passphrase {
            "" => "it is no PFX, or it has a passphrase",
            _ => "it is no PFX, its passphrase is another, or it is encrypted in more than a million rounds",
        })
    })?;
    let (_, chain) = store
        .private_key_chain()
        .ok_or_else(|| key("there is none in it"))?;
    let certificates = chain.certs().iter();
    let certificates = certificates.map(|certificate| certificate.as_der().to_vec().into());
    let private = PrivatePkcs8KeyDer::from(chain.key().as_der().to_vec());
    assemble(certificates.collect(), &private.into())
}

fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let read = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    match read {
        Ok(chain) if chain.is_empty() => Err(certificate("the file holds none")),
        Ok(chain) => Ok(chain),
        Err(_) => Err(certificate("the file is not valid PEM")),
    }
}

const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const ENCRYPTED_END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
/// A header of keys that OpenSSL encrypted in the way of old (RFC 1421), whose passphrase is no better than none.
const LEGACY: &str = "Proc-Type: 4,ENCRYPTED";

fn private_key(text: &str, passphrase: &str) -> Result<PrivateKeyDer<'static>, Fault> {
    if text.contains(LEGACY) {
        return Err(key(
            "it is encrypted in a way of old; encrypt it anew: openssl pkcs8 -topk8 -in old.key -out new.key",
        ));
    }
    let encrypted = text
        .split_once(ENCRYPTED)
        .and_then(|(_, rest)| rest.split_once(ENCRYPTED_END));
    match (encrypted, passphrase) {
        (Some(_), "") => Err(key("it is encrypted, and no `passphrase` is named for it")),
        (Some((body, _)), passphrase) => decrypted(body, passphrase),
        (None, _) => PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| {
            key(match error {
                rustls::pki_types::pem::Error::NoItemsFound => "the file holds no such PEM section",
                _ => "the file is not valid PEM",
            })
        }),
    }
}

/// Decrypts what stands between the lines of PEM (RFC 5958 section 3, RFC 8018).
fn decrypted(body: &str, passphrase: &str) -> Result<PrivateKeyDer<'static>, Fault> {
    let base64: String = body.split_ascii_whitespace().collect();
    let der = STANDARD
        .decode(base64)
        .map_err(|_| key("the file is not valid PEM"))?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(der.as_slice())
        .map_err(|_| key("it is encrypted in a way that is not known here: PBES2 is"))?;
    if !is_bearable(&encrypted.encryption_algorithm) {
        return Err(key(format!(
            "it is encrypted in more rounds than the {MOST_ROUNDS} that are done here; encrypt it anew: openssl pkcs8 -topk8 -in old.key -out new.key"
        )));
    }
    let plain = encrypted.decrypt(passphrase).map_err(|_| {
        key("its passphrase is another, or it is encrypted in a way that is not known here")
    })?;
    Ok(PrivatePkcs8KeyDer::from(plain.as_bytes().to_vec()).into())
}

/// The most rounds of PBKDF2: a second or so. What a key is decrypted by waits meanwhile.
const MOST_ROUNDS: u32 = 2_000_000;

/// The most memory of scrypt, as its cost: N.
const MOST_COST: u64 = 1 << 17;

fn is_bearable(scheme: &EncryptionScheme) -> bool {
    match scheme {
        EncryptionScheme::Pbes2(pbes2) => match &pbes2.kdf {
            Kdf::Pbkdf2(params) => params.iteration_count <= MOST_ROUNDS,
            Kdf::Scrypt(params) => params.cost_parameter <= MOST_COST,
            _ => false,
        },
        _ => true,
    }
}

/// Puts a chain in order behind the certificate that the key belongs to.
pub(super) fn assemble(
    mut chain: Vec<CertificateDer<'static>>,
    private: &PrivateKeyDer<'static>,
) -> Result<Presented, Fault> {
    let signs = any_supported_type(private)
        .map_err(|_| key("it is of a kind that TLS does not use: RSA of 2048 bits or more, P-256, P-384 or Ed25519"))?;
    let read: Vec<Option<Certificate>> = chain
        .iter()
        .map(|der| Certificate::from_der(der).ok())
        .collect();
    if read.iter().any(Option::is_none) {
        return Err(certificate("the file holds what is no certificate"));
    }
    let mut read: Vec<Certificate> = read.into_iter().flatten().collect();
    let at = read
        .iter()
        .position(|certificate| is_of(certificate, &*signs))
        .ok_or_else(|| key("it does not belong to the certificate; give the key that does"))?;
    let (leaf, der) = (read.remove(at), chain.remove(at));
    let mut ordered = vec![der];
    let mut last = leaf.tbs_certificate().issuer().clone();
    while let Some(at) = read
        .iter()
        .position(|issuer| *issuer.tbs_certificate().subject() == last)
    {
        last = read.remove(at).tbs_certificate().issuer().clone();
        ordered.push(chain.remove(at));
    }
    // What leads nowhere may still help somebody, and was put there by who knows why.
    ordered.append(&mut chain);
    let certified = CertifiedKey::new(ordered, signs);
    Presented::of(certified, &leaf).map_err(certificate)
}

/// Whether a certificate holds the public half of a key.
fn is_of(certificate: &Certificate, signs: &dyn SigningKey) -> bool {
    let public = certificate.tbs_certificate().subject_public_key_info();
    match (signs.public_key(), public.to_der()) {
        (Some(held), Ok(said)) => held.as_ref() == said.as_slice(),
        _ => false,
    }
}
