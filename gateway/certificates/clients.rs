//! Certificates of callers: who issues them, which were withdrawn, and where they come from.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode as _;

use crate::client_certificate::ClientCertificate;
use crate::files::{ClientCertificates, ClientMode, Diagnostics, Spanned, read_ca, read_whole};

/// Who judges certificates of callers.
#[derive(Clone)]
pub struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Whether a caller without one is refused.
    pub is_required: bool,
    lists: Arc<[List]>,
}

/// A list of what was withdrawn, as far as it says something of itself.
struct List {
    file: String,
    /// Who has issued it.
    issuer: String,
    /// Until when it is good, since the Unix epoch, if it says so.
    next_update: Option<Duration>,
}

/// A certificate that does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit(String);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Clients {
    /// As `listen.clientCertificates` says. `None` when an error was added.
    pub fn read(written: &ClientCertificates, diagnostics: &mut Diagnostics) -> Option<Self> {
        let roots = authorities(&written.ca, diagnostics);
        let read: Vec<_> = written
            .crl
            .iter()
            .map(|list| revocations(list, diagnostics))
            .collect();
        let mut told = Vec::new();
        let mut lists = Vec::new();
        for (written, read) in written.crl.iter().zip(read) {
            let read = read?;
            for list in &read {
                let file = written.value.display().to_string();
                let Some(list) = List::of(list, file) else {
                    diagnostics
                        .error(&written.span, "this revocation list cannot be read")
                        .help("have the CA issue it as RFC 5280 says");
                    return None;
                };
                // Of two lists by one issuer only the first is looked at, and what the other withdraws would be let in.
                let issuer = &list.issuer;
                if told.iter().any(|other: &List| other.issuer == *issuer) {
                    diagnostics
                        .error(
                            &written.span,
                            format!("there are two revocation lists of {issuer}, of which only one would count"),
                        )
                        .help("keep the newest; have the CA issue one whole list, for lists in parts are not understood here, and CAs of one name with two keys cannot be told apart");
                    return None;
                }
                told.push(list);
            }
            lists.extend(read);
        }
        let is_required = written.mode == ClientMode::Require;
        let verifier = verifier(roots?, lists, is_required);
        if let Err(why) = &verifier {
            diagnostics.error(&written.ca.span, format!("these cannot be used: {why}"));
        }
        Some(Self {
            verifier: verifier.ok()?,
            is_required,
            lists: told.into(),
        })
    }

    /// The lists that are out of date at `now`, each with what is wrong: they let nobody in.
    pub fn faults(&self, now: Duration) -> impl Iterator<Item = (&str, String)> {
        self.lists.iter().filter_map(move |list| {
            let late = now.checked_sub(list.next_update?)?;
            let hours = late.as_secs() / 3600;
            let why = format!(
                "this revocation list is out of date since {hours} hours, so callers whose certificates it is about are refused"
            );
            Some((list.file.as_str(), why))
        })
    }

    /// By these authorities alone, in PEM; a caller may go without.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub fn by(pem: &[u8]) -> Result<Self, String> {
        Ok(Self {
            verifier: verifier(roots(pem)?, Vec::new(), false)?,
            is_required: false,
            lists: Arc::default(),
        })
    }

    /// For handshakes.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// Judges a certificate that somebody else has taken in a handshake, with what came along to lead to its issuer.
    ///
    /// # Errors
    /// Why it does not do.
    pub fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        now: Duration,
    ) -> Result<ClientCertificate, Unfit> {
        let (leaf, others) = chain
            .split_first()
            .ok_or_else(|| Unfit("there is none".to_owned()))?;
        let now = UnixTime::since_unix_epoch(now);
        self.verifier
            .verify_client_cert(leaf, others, now)
            .map_err(|error| Unfit(error.to_string()))?;
        ClientCertificate::of(leaf).ok_or_else(|| Unfit("it cannot be read".to_owned()))
    }
}

impl List {
    /// Nothing where it cannot be read.
    fn of(list: &CertificateRevocationListDer<'_>, file: String) -> Option<Self> {
        let read = CertificateList::<Rfc5280>::from_der(list.as_ref()).ok()?;
        let read = read.tbs_cert_list;
        Some(Self {
            file,
            issuer: read.issuer.to_string(),
            next_update: read.next_update.map(|time| time.to_unix_duration()),
        })
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clients(required: {})", self.is_required)
    }
}

/// Withdrawal is looked for up to the root, and a list that is out of date says nothing: whoever writes one wants to
/// know.
fn verifier(
    roots: RootCertStore,
    lists: Vec<CertificateRevocationListDer<'static>>,
    is_required: bool,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = builder.with_crls(lists).enforce_revocation_expiration();
    let builder = match is_required {
        true => builder,
        false => builder.allow_unauthenticated(),
    };
    let verifier = builder.build().map_err(|error| error.to_string())?;
    Ok(verifier)
}

/// The largest file of lists, in bytes: authorities with millions of certificates have such ones.
const LARGEST_LIST: usize = 64 << 20;

fn authorities(written: &Spanned<PathBuf>, diagnostics: &mut Diagnostics) -> Option<RootCertStore> {
    let read = read_ca(&written.value).map_err(|error| error.to_string());
    let read = read.and_then(|pem| roots(&pem));
    if let Err(why) = &read {
        diagnostics
            .error(&written.span, format!("this CA file cannot be used: {why}"))
            .help("name a readable PEM file with CA certificates");
    }
    read.ok()
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| "it is not valid PEM".to_owned())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    match roots.is_empty() {
        true => Err("it holds no certificate".to_owned()),
        false => Ok(roots),
    }
}

/// Lists of what was withdrawn (RFC 5280 section 5): PEM, or one in DER, as authorities publish them.
fn revocations(
    written: &Spanned<PathBuf>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    let read = read_whole(&written.value, LARGEST_LIST);
    let read = read.map_err(|error| error.to_string());
    let read = read.and_then(|bytes| {
        let lists: Result<Vec<_>, _> =
            CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
        let lists = match lists {
            Ok(lists) if lists.is_empty() => vec![CertificateRevocationListDer::from(bytes)],
            Ok(lists) => lists,
            Err(_) => return Err("it is not valid PEM".to_owned()),
        };
        let is_one = |list: &CertificateRevocationListDer<'_>| {
            webpki::BorrowedCertRevocationList::from_der(list.as_ref()).is_ok()
        };
        match lists.iter().all(is_one) {
            true => Ok(lists),
            false => Err("it holds no revocation list".to_owned()),
        }
    });
    if let Err(why) = &read {
        diagnostics
            .error(
                &written.span,
                format!("this revocation list cannot be used: {why}"),
            )
            .help("name a readable file, PEM or DER, as the CA publishes it");
    }
    read.ok()
}

/// The certificates of PEM text; nothing if any cannot be read, or there is something else.
pub(super) fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let sections = <(SectionKind, Vec<u8>) as PemObject>::pem_slice_iter(pem);
    let certificates = sections.map(|section| match section {
        Ok((SectionKind::Certificate, der)) => Some(CertificateDer::from(der)),
        _ => None,
    });
    certificates.collect()
}
