//! The gateway's own certificates: read from files, chosen by the name that the caller asks for, and
//! changed without a restart.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

use crate::files::{CertificatePair, Diagnostics};

/// The certificates in use.
pub struct Certificates(ArcSwap<Vec<Arc<CertifiedKey>>>);

impl Certificates {
    /// Reads certificates and keys. `None` when the diagnostics hold an error.
    pub fn read(pairs: &[CertificatePair], diagnostics: &mut Diagnostics) -> Option<Arc<Self>> {
        let keys = read(pairs, diagnostics)?;
        Some(Arc::new(Self(ArcSwap::from_pointee(keys))))
    }

    /// Puts other certificates into use. New connections get them; old ones go on. When one cannot be
    /// read, nothing changes.
    pub fn replace(&self, pairs: &[CertificatePair], diagnostics: &mut Diagnostics) {
        if let Some(keys) = read(pairs, diagnostics) {
            self.0.store(Arc::new(keys));
        }
    }

    /// TLS 1.3 and 1.2, HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// When the provider does not support them, which a test excludes.
    pub fn server_config(self: &Arc<Self>) -> Result<ServerConfig, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(config)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({})", self.0.load().len())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = self.0.load();
        let named = match keys.as_slice() {
            [_] => None,
            several => hello
                .server_name()
                .and_then(|name| several.iter().find(|key| is_for(key, name))),
        };
        // A caller that names nobody we know gets the first; it will not believe it, and should not.
        named.or_else(|| keys.first()).cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &str) -> bool {
    let (Some(leaf), Ok(name)) = (key.cert.first(), ServerName::try_from(name)) else {
        return false;
    };
    EndEntityCert::try_from(leaf)
        .is_ok_and(|leaf| leaf.verify_is_valid_for_subject_name(&name).is_ok())
}

fn read(
    pairs: &[CertificatePair],
    diagnostics: &mut Diagnostics,
) -> Option<Vec<Arc<CertifiedKey>>> {
    // Every pair is read before one that is faulty ends the list, so that all faults are told.
    let keys: Vec<_> = pairs
        .iter()
        .map(|pair| read_pair(pair, diagnostics))
        .collect();
    keys.into_iter().collect()
}

fn read_pair(pair: &CertificatePair, diagnostics: &mut Diagnostics) -> Option<Arc<CertifiedKey>> {
    let CertificatePair { cert, key } = pair;
    let mut fault = |span, what: &str, why: String, help: &str| {
        diagnostics
            .error(span, format!("this {what} cannot be used: {why}"))
            .help(help);
    };
    let chain =
        CertificateDer::pem_file_iter(&cert.value).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = match chain {
        Ok(chain) if !chain.is_empty() => Some(chain),
        Ok(_) => {
            fault(
                &cert.span,
                "certificate",
                "the file holds none".to_owned(),
                CERTIFICATE_HELP,
            );
            None
        }
        Err(error) => {
            fault(&cert.span, "certificate", plain(&error), CERTIFICATE_HELP);
            None
        }
    };
    let private = match PrivateKeyDer::from_pem_file(&key.value) {
        Ok(private) => Some(private),
        Err(error) => {
            fault(&key.span, "key", plain(&error), KEY_HELP);
            None
        }
    };
    match CertifiedKey::from_der(chain?, private?, &aws_lc_rs::default_provider()) {
        Ok(certified) => Some(Arc::new(certified)),
        Err(error) => {
            fault(
                &key.span,
                "key",
                error.to_string(),
                "give the key that belongs to the certificate",
            );
            None
        }
    }
}

const CERTIFICATE_HELP: &str =
    "name a readable PEM file: the certificate first, then those that issued it";
const KEY_HELP: &str =
    "name a readable PEM file with one unencrypted private key (PKCS#8, PKCS#1 or SEC1)";

/// What a person can do something with.
fn plain(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(error) => error.to_string(),
        Error::NoItemsFound => "the file holds no such PEM section".to_owned(),
        _ => "the file is not valid PEM".to_owned(),
    }
}
