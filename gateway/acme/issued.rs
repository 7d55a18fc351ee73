//! A certificate that was issued, with its key: read out of PEM, and looked at before anybody is shown it.

use std::fmt;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::names::Names;

/// A chain and its key.
pub struct Issued {
    /// The chain, the gateway's own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key that belongs to it.
    pub key: PrivateKeyDer<'static>,
    /// The serial number, in hexadecimal digits.
    pub serial: String,
    /// From when on it is good, since the Unix epoch.
    pub not_before: Duration,
    /// Until when it is good, since the Unix epoch.
    pub not_after: Duration,
}

impl Issued {
    /// Reads the key and the chain for these names.
    ///
    /// # Errors
    /// What is wrong with them, in words that go behind "the certificate".
    pub(super) fn read(pem: &[u8], names: &Names) -> Result<Self, &'static str> {
        let issued = Self::of_any(pem)?;
        match issued.covered(names) == names.as_slice().len() {
            true => Ok(issued),
            false => Err("is not for all the names that it was asked for"),
        }
    }

    /// The same, whatever its names are.
    pub(super) fn of_any(pem: &[u8]) -> Result<Self, &'static str> {
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| "has no key with it")?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let chain = chain.map_err(|_| "is not PEM")?;
        let parsed: Result<Vec<_>, _> =
            chain.iter().map(|one| Certificate::from_der(one)).collect();
        let parsed = parsed.map_err(|_| "has one in its chain that cannot be read")?;
        let parsed = parsed.first().ok_or("is missing")?.tbs_certificate();
        belongs(&chain, &key)?;
        let serial = parsed.serial_number().as_bytes().iter();
        Ok(Self {
            serial: serial.map(|byte| format!("{byte:02x}")).collect(),
            not_before: parsed.validity().not_before.to_unix_duration(),
            not_after: parsed.validity().not_after.to_unix_duration(),
            chain,
            key,
        })
    }

    /// For how many of these names it is.
    pub(super) fn covered(&self, names: &Names) -> usize {
        let leaf = self.chain.first();
        let Some(parsed) = leaf.and_then(|leaf| EndEntityCert::try_from(leaf).ok()) else {
            return 0;
        };
        let is_for = |name: &&String| {
            ServerName::try_from(name.as_str())
                .is_ok_and(|name| parsed.verify_is_valid_for_subject_name(&name).is_ok())
        };
        names.as_slice().iter().filter(is_for).count()
    }

    pub(super) fn is_good(&self, now: Duration) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

// The key stays out.
impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

fn belongs(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<(), &'static str> {
    let key = any_supported_type(key).map_err(|_| "has a key of an unknown kind")?;
    let certified = CertifiedKey::new(chain.to_vec(), key);
    certified
        .keys_match()
        .map_err(|_| "does not belong to its key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::ca::Ca;

    fn names(written: &[&str]) -> Names {
        let written: Vec<String> = written.iter().map(|&name| name.to_owned()).collect();
        Names::of(&written)
    }

    #[test]
    fn a_certificate_is_for_its_names_and_belongs_to_its_key() {
        let ca = Ca::new().expect("a CA");
        let made = ca.certificate(&["a.example", "b.example"]).expect("made");
        let other = ca.certificate(&["a.example"]).expect("made");
        let good = format!("{}{}", made.key_pem, made.cert_pem);
        let read = |pem: &str, written: &[&str]| {
            let read = Issued::read(pem.as_bytes(), &names(written));
            read.map(|issued| issued.chain.len())
        };
        assert!(read(&good, &["a.example", "b.example"]).is_ok_and(|length| length >= 1));
        assert_eq!(
            read(&good, &["a.example", "c.example"]),
            Err("is not for all the names that it was asked for")
        );
        let foreign = format!("{}{}", other.key_pem, made.cert_pem);
        assert_eq!(
            read(&foreign, &["a.example"]),
            Err("does not belong to its key")
        );
        assert_eq!(
            read(&made.cert_pem, &["a.example"]),
            Err("has no key with it")
        );
        assert_eq!(read(&made.key_pem, &["a.example"]), Err("is missing"));
        let junk = "-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n";
        assert_eq!(
            read(&format!("{good}{junk}"), &["a.example"]),
            Err("has one in its chain that cannot be read")
        );
    }

    #[test]
    fn its_key_is_not_printed() {
        let ca = Ca::new().expect("a CA");
        let made = ca.certificate(&["a.example"]).expect("made");
        let pem = format!("{}{}", made.key_pem, made.cert_pem);
        let issued = Issued::read(pem.as_bytes(), &names(&["a.example"])).expect("good");
        let shown = format!("{issued:?}");
        assert!(shown.contains(&issued.serial), "{shown}");
        assert!(!shown.contains("key"), "{shown}");
        assert_eq!(issued.serial.len() % 2, 0);
    }
}
