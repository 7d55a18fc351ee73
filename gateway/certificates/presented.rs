//! One certificate with its key, and what it says of itself.

use std::fmt;
use std::time::Duration;

use rustls::sign::CertifiedKey;
use std::sync::Arc;
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::client_certificate::thumbprint;

/// A certificate with its key, ready to be shown to callers.
pub struct Presented {
    pub(super) certified: Arc<CertifiedKey>,
    /// The DNS names that it is for, in lower case (RFC 5280 section 4.2.1.6).
    pub(super) names: Vec<String>,
    /// From when on it is good, since the Unix epoch.
    pub not_before: Duration,
    /// Until when it is good, since the Unix epoch.
    pub not_after: Duration,
    /// The SHA-256 of its bytes, in lower-case hexadecimal.
    pub thumbprint: String,
}

/// What is shown before less than a sixth of a lifetime is left, and two weeks at most: who renews with a third left
/// has had time to fail and be seen.
const LONGEST_WARNING: Duration = Duration::from_secs(14 * 24 * 60 * 60);

impl Presented {
    pub(super) fn of(certified: CertifiedKey, leaf: &Certificate) -> Result<Self, &'static str> {
        let tbs = leaf.tbs_certificate();
        let validity = tbs.validity();
        Ok(Self {
            names: dns_names(leaf)?,
            not_before: validity.not_before.to_unix_duration(),
            not_after: validity.not_after.to_unix_duration(),
            thumbprint: thumbprint(certified.cert.first().map_or(&[], |der| der.as_ref())),
            certified: Arc::new(certified),
        })
    }

    /// The DNS names that it is for, in lower case.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The certificate itself, DER.
    pub fn leaf(&self) -> &[u8] {
        self.certified
            .cert
            .first()
            .map_or(&[], |leaf| leaf.as_ref())
    }

    /// What is wrong with its dates at `now`: it is not good yet, not any more, or not much longer.
    pub fn dates_fault(&self, now: Duration) -> Option<String> {
        let lifetime = self.not_after.saturating_sub(self.not_before);
        let warning = (lifetime / 6).min(LONGEST_WARNING);
        let hours = |time: Duration| time.as_secs() / 3600;
        if now < self.not_before {
            let left = hours(self.not_before - now);
            return Some(format!("it is good only in {left} hours"));
        }
        match self.not_after.checked_sub(now) {
            None => Some(format!(
                "it expired {} hours ago",
                hours(now - self.not_after)
            )),
            Some(left) if left < warning => Some(format!("it expires in {} hours", hours(left))),
            Some(_) => None,
        }
    }

    /// Whether it is good at `now`.
    pub fn is_good(&self, now: Duration) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Presented").field(&self.names).finish()
    }
}

fn dns_names(leaf: &Certificate) -> Result<Vec<String>, &'static str> {
    let alternatives = leaf.tbs_certificate().get_extension::<SubjectAltName>();
    let alternatives = alternatives.map_err(|_| "its names cannot be read")?;
    let alternatives = alternatives.map(|(_, names)| names.0).unwrap_or_default();
    let names = alternatives.iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        _ => None,
    });
    Ok(names.collect())
}
