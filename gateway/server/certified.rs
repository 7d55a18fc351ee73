//! Certificates of callers: from handshakes, or passed on by those in front.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderMap;
use rustls::pki_types::CertificateDer;

use crate::certificates::{Clients, PassedOn, Unfit};
use crate::client_certificate::ClientCertificate;
use crate::denial::Reason;
use crate::files::CertificateHeader;
use crate::telemetry::{Level, OnceAMinute, event};

/// Where certificates of callers come from.
#[derive(Clone, Debug)]
pub enum Certified {
    /// From handshakes, if callers are asked for one there.
    Shaken,
    /// From a field, by those who may speak for callers.
    PassedOn {
        /// The field.
        header: CertificateHeader,
        /// Who judges them.
        clients: Arc<ArcSwap<Clients>>,
    },
}

/// How long a certificate that was passed on is good without being judged anew.
const JUDGED_FOR: Duration = Duration::from_secs(30);

/// So many are remembered by a worker.
const MOST_JUDGED: usize = 512;

type Chain = Vec<CertificateDer<'static>>;

/// Why a handshake has failed, if it was for the caller's certificate.
pub(super) fn refused(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    match error {
        rustls::Error::InvalidCertificate(_)
        | rustls::Error::InvalidCertRevocationList(_)
        | rustls::Error::NoCertificatesPresented => Some(error.to_string()),
        _ => None,
    }
}

/// Refusals of certificates, whose reasons no request tells.
#[derive(Default)]
pub(super) struct Refusals(OnceAMinute);

impl Refusals {
    /// Tells operators of one, and of no other for a minute: whoever connects can cause them.
    pub(super) fn tell(&self, why: &str, now: Duration) {
        if self.0.is_due(now) {
            let detail = format!(
                "a caller's certificate was refused: {why}; further ones are told once a minute"
            );
            event(now, Level::Warning, "client-certificate-refused", &detail);
        }
    }
}

/// What a worker remembers of certificates that were passed on: each request brings the same ones again.
#[derive(Default)]
pub(super) struct Judged(RefCell<Known>);

#[derive(Default)]
struct Known {
    /// Who has judged them.
    by: Option<Arc<Clients>>,
    chains: HashMap<Chain, (Arc<ClientCertificate>, Duration)>,
}

impl Judged {
    /// The certificate that a request brings in a field. `speaks` tells whether who sent it may speak for callers.
    ///
    /// # Errors
    /// `CertificateMissing`, `CertificateInvalid`.
    pub(super) fn passed_on(
        &self,
        headers: &HeaderMap,
        header: CertificateHeader,
        clients: &ArcSwap<Clients>,
        speaks: bool,
        refusals: &Refusals,
        now: Duration,
    ) -> Result<Option<Arc<ClientCertificate>>, Reason> {
        let clients = clients.load_full();
        let brought = match speaks {
            true => PassedOn::read(headers, header),
            false => PassedOn::Nothing,
        };
        match brought {
            PassedOn::Nothing if clients.is_required => Err(Reason::CertificateMissing),
            PassedOn::Nothing => Ok(None),
            PassedOn::Unreadable => {
                refusals.tell("what was passed on cannot be read", now);
                Err(Reason::CertificateInvalid)
            }
            PassedOn::Chain(chain) => {
                let judged = self.judge(chain, &clients, now);
                judged.map(Some).map_err(|why| {
                    refusals.tell(&why.to_string(), now);
                    Reason::CertificateInvalid
                })
            }
        }
    }

    fn judge(
        &self,
        chain: Chain,
        clients: &Arc<Clients>,
        now: Duration,
    ) -> Result<Arc<ClientCertificate>, Unfit> {
        let mut known = self.0.borrow_mut();
        // Other authorities, or another list of what they have withdrawn.
        if known.by.as_ref().is_none_or(|by| !Arc::ptr_eq(by, clients)) {
            known.by = Some(Arc::clone(clients));
            known.chains.clear();
        }
        if let Some((certificate, until)) = known.chains.get(&chain)
            && now < *until
        {
            return Ok(Arc::clone(certificate));
        }
        let certificate = Arc::new(clients.judge(&chain, now)?);
        if known.chains.len() >= MOST_JUDGED {
            known.chains.clear();
        }
        let until = now + JUDGED_FOR;
        let kept = (Arc::clone(&certificate), until);
        known.chains.insert(chain, kept);
        Ok(certificate)
    }
}
