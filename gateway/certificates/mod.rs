//! The gateway's own certificates: read from files and Key Vault, chosen by the name that a caller asks for, and
//! changed without a restart.

mod choice;
mod clients;
mod config;
mod front;
mod ordered;
mod passed_on;
mod presented;
mod read;
mod tickets;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

pub use self::clients::{Clients, Unfit};
pub use self::config::Terms;
pub use self::front::Front;
pub use self::passed_on::PassedOn;
pub use self::presented::Presented;
pub use self::tickets::Tickets;

use self::choice::Choice;
use self::ordered::Ordered;
use self::read::{Fault, Part};
use crate::acme::Acme;
use crate::clock::Now;
use crate::credentials::fixed::SecretFrom;
use crate::credentials::{Derived, Fault as SlotFault, Held, Make};
use crate::files::{CertificateSource, Diagnostics, SecretSource, Spanned};
use crate::secret::Secret;
use crate::upstream::Presenting;

/// The protocol by which an authority asks for a proof in a handshake, and by which nothing is said (RFC 8737).
pub const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// The certificates in use.
pub struct Certificates {
    sources: ArcSwap<Vec<Source>>,
    choice: ArcSwap<Choice>,
    /// Who answers authorities that ask in handshakes.
    acme: Option<Arc<Acme>>,
}

/// Where certificates come from that are not in files.
#[derive(Clone, Copy)]
pub struct Origins<'o> {
    /// What is held ready of Key Vault.
    pub presenting: Presenting<'o>,
    /// Where certificates are ordered, if they are.
    pub acme: Option<&'o Arc<Acme>>,
}

impl Origins<'_> {
    fn now(self) -> Now {
        self.presenting.credentials.now()
    }
}

/// Where one of them comes from, and what came of it.
struct Source {
    name: String,
    held: Came,
}

enum Came {
    /// From files, until the next reload.
    Read(Arc<Presented>),
    /// From files and Key Vault, kept fresh.
    Kept(Arc<Derived<Presented>>),
    /// By ACME, kept fresh.
    Ordered(Ordered),
}

/// How it stands with one of the certificates.
pub struct Standing {
    /// The file of the chain, or its place in Key Vault.
    pub name: String,
    /// What callers are shown, if there is anything.
    pub presented: Option<Arc<Presented>>,
    /// Why there is nothing, or nothing newer, or not for much longer.
    pub fault: Option<String>,
    /// Whether that lasts until somebody acts.
    pub lasts: bool,
}

impl Certificates {
    /// Reads certificates and keys, and begins to fetch those of Key Vault. `None` when an error was added.
    pub fn read(
        written: &[CertificateSource],
        origins: Origins<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<Self>> {
        let sources = sources(written, origins, diagnostics)?;
        let certificates = Self {
            sources: ArcSwap::from_pointee(sources),
            choice: ArcSwap::from_pointee(Choice::default()),
            acme: origins.acme.cloned(),
        };
        certificates.look(&origins.now());
        Some(Arc::new(certificates))
    }

    /// Adds what is wrong with the files of certificates to the diagnostics; nothing is fetched.
    pub fn check(written: &[CertificateSource], diagnostics: &mut Diagnostics) {
        let passphrase: Passphrase<'_> = &|source, d| {
            let place = match &source.value {
                SecretSource::Env(name) => SecretFrom::Env(name.clone()),
                SecretSource::File(file) => SecretFrom::File(file.clone()),
                SecretSource::KeyVault(_) => return None,
            };
            let read = place.text().map(Held::Fixed);
            if let Err(why) = &read {
                d.error(&source.span, why.to_string());
            }
            Some(read.ok())
        };
        for one in written {
            from_files(one, passphrase, diagnostics);
        }
    }

    /// Puts other certificates into use. New connections get them; old ones go on. When one cannot be
    /// read, nothing changes.
    pub fn replace(
        &self,
        written: &[CertificateSource],
        origins: Origins<'_>,
        diagnostics: &mut Diagnostics,
    ) {
        if let Some(sources) = sources(written, origins, diagnostics) {
            self.sources.store(Arc::new(sources));
            self.look(&origins.now());
        }
    }

    /// Puts into use what has come since: certificates are fetched and renewed while the gateway runs.
    pub fn look(&self, now: &Now) {
        let sources = self.sources.load();
        let come = sources.iter().filter_map(|source| source.held.current(now));
        let come: Vec<Arc<Presented>> = come.collect();
        if !self.choice.load().is_of(&come, now.unix) {
            let choice = Choice::among(come, now.unix);
            self.choice.store(Arc::new(choice));
        }
    }

    /// The names that each certificate is ordered for.
    pub fn ordered(&self) -> Vec<Vec<String>> {
        let sources = self.sources.load();
        let ordered = sources.iter().filter_map(|source| match &source.held {
            Came::Ordered(ordered) => Some(ordered.names().to_vec()),
            Came::Read(_) | Came::Kept(_) => None,
        });
        ordered.collect()
    }

    /// How it stands with each of them. What has come is in use from then on.
    pub fn standings(&self, now: &Now) -> Vec<Standing> {
        self.look(now);
        let sources = self.sources.load();
        let standings = sources.iter().map(|source| {
            let presented = source.held.current(now);
            let dates = presented.as_ref().and_then(|one| one.dates_fault(now.unix));
            let is_over = presented.as_ref().is_some_and(|one| !one.is_good(now.unix));
            let fault = source.held.fault(now);
            Standing {
                name: source.name.clone(),
                lasts: is_over || fault.as_ref().is_some_and(|fault| fault.is_final),
                fault: fault.map(|fault| fault.why).or(dates),
                presented,
            }
        });
        standings.collect()
    }
}

impl Came {
    fn current(&self, now: &Now) -> Option<Arc<Presented>> {
        match self {
            Self::Read(presented) => Some(Arc::clone(presented)),
            Self::Kept(derived) => derived.current(now),
            Self::Ordered(ordered) => ordered.current(),
        }
    }

    fn fault(&self, now: &Now) -> Option<SlotFault> {
        let told = |is_final| move |why| SlotFault { why, is_final };
        let derived = match self {
            Self::Read(_) => return None,
            // It is ordered again and again.
            Self::Ordered(ordered) => return ordered.fault().map(told(false)),
            Self::Kept(derived) => derived,
        };
        let slots = || {
            let mut slots = derived.slots();
            slots.find_map(|slot| slot.status().fault(now))
        };
        derived.fault(now).map(told(true)).or_else(slots)
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({})", self.choice.load().all().len())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Who asks so is no caller (RFC 8737 section 3).
        let mut protocols = hello.alpn().into_iter().flatten();
        if let (Some(ACME_PROTOCOL), None) = (protocols.next(), protocols.next()) {
            let acme = self.acme.as_ref()?;
            return acme.alpn_answer(&hello.server_name()?.to_ascii_lowercase());
        }
        self.choice.load().resolve(&hello)
    }
}

/// What reads a passphrase: nothing where it is out of reach, `Some(None)` where an error was added.
type Passphrase<'r> =
    &'r dyn Fn(&Spanned<SecretSource>, &mut Diagnostics) -> Option<Option<Held<String>>>;

fn sources(
    written: &[CertificateSource],
    origins: Origins<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<Source>> {
    let presenting = origins.presenting;
    let passphrase: Passphrase<'_> = &|source, d| Some(presenting.text(source, d));
    let mut source = |one: &CertificateSource| {
        let held = match one {
            CertificateSource::KeyVault(secret) => {
                let text = presenting.vault(&secret.value, &secret.span, diagnostics)?;
                Came::Kept(Derived::new(vec![Held::Slot(text)], |texts| {
                    told(read::vault(texts))
                }))
            }
            CertificateSource::Acme(names) => {
                Came::Ordered(Ordered::new(origins.acme, names.value.clone()))
            }
            CertificateSource::Pem { .. } | CertificateSource::Pfx { .. } => {
                from_files(one, passphrase, diagnostics)?
            }
        };
        let name = one.to_string();
        Some(Source { name, held })
    };
    // Every one is read before one that is faulty ends the list, so that all faults are told.
    let sources: Vec<_> = written.iter().map(&mut source).collect();
    sources.into_iter().collect()
}

/// Reads a certificate that is in files. `None` where an error was added, or its passphrase is out of reach.
fn from_files(
    written: &CertificateSource,
    passphrase: Passphrase<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Came> {
    let (files, named) = match written {
        CertificateSource::Pem {
            cert,
            key,
            passphrase,
        } => (vec![(cert, CERTIFICATE), (key, KEY)], passphrase),
        CertificateSource::Pfx { pfx, passphrase } => (vec![(pfx, PFX)], passphrase),
        CertificateSource::KeyVault(_) | CertificateSource::Acme(_) => return None,
    };
    let (make, derive): (Read, Make<Presented>) = match written {
        CertificateSource::Pem { .. } => (read::pem, |texts| told(read::pem(texts))),
        _ => (read::pfx, |texts| told(read::pfx(texts))),
    };
    let texts = files.iter().map(|(file, form)| {
        let read = SecretFrom::File(file.value.clone()).text();
        read.map_err(|why| unusable(file, form, &why.to_string(), diagnostics))
            .ok()
    });
    let texts: Vec<_> = texts.collect();
    // Where none is named, the empty one stands in its place.
    let passphrase = match named {
        None => Some(Some(Held::Fixed(Secret::new(String::new())))),
        Some(named) => passphrase(named, diagnostics),
    };
    let texts = texts.into_iter().collect::<Option<Vec<_>>>()?;
    let passphrase = match passphrase?? {
        Held::Fixed(passphrase) => passphrase,
        slot @ Held::Slot(_) => {
            let texts = texts.into_iter().map(Held::Fixed);
            let texts = texts.chain([slot]).collect();
            return Some(Came::Kept(Derived::new(texts, derive)));
        }
    };
    let texts: Vec<_> = texts.into_iter().chain([passphrase]).collect();
    let made = make(&texts).map_err(|fault| {
        let at = match fault.of {
            Part::Certificate => files.first(),
            Part::Key => files.last(),
        };
        if let Some((file, form)) = at {
            unusable(file, form, &fault.why, diagnostics);
        }
    });
    Some(Came::Read(Arc::new(made.ok()?)))
}

/// Makes a certificate of what was read of it, its passphrase last.
type Read = fn(&[Secret<String>]) -> Result<Presented, Fault>;

fn told(read: Result<Presented, Fault>) -> Result<Presented, String> {
    read.map_err(|fault| fault.to_string())
}

/// What is expected of a file.
struct Form {
    what: &'static str,
    help: &'static str,
}

const CERTIFICATE: Form = Form {
    what: "certificate",
    help: "name a readable PEM file: the certificate first, then those that issued it",
};
const KEY: Form = Form {
    what: "key",
    help: "name a readable PEM file with the private key that belongs to the certificate (PKCS#8, PKCS#1 or SEC1)",
};
const PFX: Form = Form {
    what: "certificate",
    help: "name a readable PFX file (PKCS #12) with a certificate and its private key",
};

fn unusable(file: &Spanned<PathBuf>, form: &Form, why: &str, diagnostics: &mut Diagnostics) {
    let help = match why.contains("passphrase") {
        true => {
            "say where its passphrase is read: `passphrase: { file: .. }`, `{ keyVault: .. }` or `{ env: .. }`"
        }
        false => form.help,
    };
    diagnostics
        .error(
            &file.span,
            format!("this {} cannot be used: {why}", form.what),
        )
        .help(help);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock as _, SystemClock};

    #[test]
    fn what_cannot_be_used_lasts_until_somebody_acts() {
        let text = Held::Fixed(Secret::new("no certificate".to_owned()));
        let held = Came::Kept(Derived::new(vec![text], |texts| told(read::vault(texts))));
        let fault = held.fault(&SystemClock.now()).expect("a fault");
        assert!(fault.is_final && fault.why.contains("no PFX"), "{fault:?}");
    }
}
