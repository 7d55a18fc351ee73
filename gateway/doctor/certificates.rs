//! Certificates: the gateway's own, and those that apps prove themselves with: whether they can be read, for
//! whom they are and how long they last.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::identities::Held;
use super::{Area, Finding, Surroundings, spoken};
use crate::acme::Acme;
use crate::certificates::{Certificates, Origins};
use crate::clock::Clock;
use crate::credentials::azure::app_certificate;
use crate::credentials::{Identity, Place, Proof, Wanted};
use crate::files::{CertificateSource, Diagnostics, GatewayDocument, Listen, Speaks};
use crate::secret::Secret;
use crate::upstream::Presenting;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Less than this is time to renew.
const SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A certificate of the gateway's own, which a key of gateway.yaml names.
pub(super) struct Shown<'e> {
    area: Area,
    key: &'static str,
    written: &'e CertificateSource,
    /// Nothing where the diagnostics say why.
    read: Option<Arc<Certificates>>,
}

/// Reads the gateway's own certificates, or begins to fetch them. What is wrong with their files is added to the
/// diagnostics.
pub(super) fn read<'e>(
    surroundings: &Surroundings<'e>,
    acme: Option<&Arc<Acme>>,
    diagnostics: &mut Diagnostics,
) -> Vec<Shown<'e>> {
    let gateway = surroundings.gateway;
    let origins = Origins {
        presenting: Presenting {
            credentials: &surroundings.lasting.credentials,
            key_vault: &gateway.key_vault,
        },
        acme,
    };
    let shown = own(gateway).map(|(area, key, written)| Shown {
        area,
        key,
        written,
        read: Certificates::read(std::slice::from_ref(written), origins, diagnostics),
    });
    shown.collect()
}

/// The gateway's own certificates, of callers and of the admin address.
pub(super) fn own(
    gateway: &GatewayDocument,
) -> impl Iterator<Item = (Area, &'static str, &CertificateSource)> {
    let of_callers = gateway.listen.iter().filter_map(Listen::tls);
    let of_callers = of_callers
        .flat_map(|tls| &tls.certificates)
        .map(|one| (Area::Certificates, "listen.tls", one));
    let admin = gateway.admin.iter().filter_map(|admin| admin.tls.as_ref());
    let of_admin = admin.flat_map(|tls| &tls.certificates);
    of_callers.chain(of_admin.map(|one| (Area::Admin, "admin.tls", one)))
}

/// Where the platform ends TLS.
pub(super) fn of_platform(gateway: &GatewayDocument) -> Option<Finding> {
    let is_platform = |listen: &Listen| listen.speaks == Speaks::Platform;
    gateway.listen.iter().any(is_platform).then(|| {
        Finding::good(
            Area::Certificates,
            "listen.tls",
            "the platform in front ends TLS, with a certificate of its own",
        )
    })
}

/// Tells of the gateway's own certificates, once the fetches are over.
pub(super) fn shown(surroundings: &Surroundings<'_>, shown: &[Shown<'_>]) -> Vec<Finding> {
    let told = shown.iter().map(|one| told(surroundings, one));
    told.collect()
}

fn told(surroundings: &Surroundings<'_>, shown: &Shown<'_>) -> Finding {
    let Shown {
        area,
        key,
        written,
        read,
    } = shown;
    let (area, name) = (*area, format!("{key} {written}"));
    let clock = &*surroundings.lasting.clock;
    let standing = read.as_ref().map(|read| read.standings(&clock.now()));
    let standing = standing.and_then(|standings| standings.into_iter().next());
    let is_ordered = written.ordered().is_some();
    let is_there = standing.as_ref().is_some_and(|one| one.presented.is_some());
    if is_ordered && !is_there {
        let why = standing.and_then(|standing| standing.fault);
        return Finding::warning(
            area,
            name,
            format!("none is kept yet: {}", why.unwrap_or_default()),
            "start the gateway, which orders it, and look at its events `acme-issued` and `acme-failing`; the names have to lead to it",
        );
    }
    let Some(standing) = standing else {
        return Finding::bad(
            area,
            name,
            "it cannot be used: the diagnostics say why",
            "let the gateway's user read its files: a chain and the key that belongs to it",
        );
    };
    match (standing.presented, standing.fault) {
        (Some(presented), _) => {
            let renewal = match written {
                CertificateSource::KeyVault(_) => {
                    "renew it in Key Vault: a running gateway takes it up by itself"
                }
                CertificateSource::Acme(_) => {
                    "see why it is not renewed: the gateway's events `acme-failing` say so"
                }
                _ => {
                    "renew it and put the new files in its place: a running gateway takes them up by itself"
                }
            };
            dated((area, name), presented.leaf(), clock, renewal)
        }
        (None, why) => Finding::bad(
            area,
            name,
            format!("it was not read: {}", why.unwrap_or_default()),
            "see the line of Key Vault first; then put a certificate with its key there, PEM or PFX",
        ),
    }
}

/// The certificates of apps, from files, variables or Key Vault.
pub(super) fn of_apps(surroundings: &Surroundings<'_>, held: &[Held]) -> Vec<Finding> {
    let apps = held.iter().filter_map(|held| match held.slot.wanted() {
        Wanted::Token(token) => of_app(surroundings, &token.identity),
        Wanted::Secret(_) => None,
    });
    let mut findings: Vec<Finding> = Vec::new();
    for finding in apps {
        // An app that has tokens for two resources has one certificate.
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    findings
}

/// `None` if there is none, or it was not read, which is told elsewhere.
fn of_app(surroundings: &Surroundings<'_>, identity: &Identity) -> Option<Finding> {
    let Identity::App {
        client,
        proof: Proof::Certificate(place),
        ..
    } = identity
    else {
        return None;
    };
    let clock = &*surroundings.lasting.clock;
    let (text, place): (Secret<String>, String) = match place {
        Place::Here(from) => (from.text().ok()?, from.to_string()),
        Place::Vault(secret) => {
            let credentials = &surroundings.lasting.credentials;
            let slot = credentials.slot(Wanted::Secret((**secret).clone()));
            (slot.text(&clock.now())?, secret.secret.to_string())
        }
    };
    let name = format!("of the app {client} in {place}");
    Some(match app_certificate(&text) {
        Ok(der) => {
            let renewal = format!(
                "make a new one, add it to the app registration {client} under Certificates & secrets, then put it in place of the old"
            );
            dated((Area::Certificates, name), &der, clock, &renewal)
        }
        Err(why) => Finding::bad(
            Area::Certificates,
            name,
            format!("it cannot be used: {why}"),
            "put a certificate with its unencrypted RSA key there, PEM or PFX without a password",
        ),
    })
}

/// By when a certificate is good.
fn dated((area, name): (Area, String), der: &[u8], clock: &dyn Clock, renewal: &str) -> Finding {
    let Ok(certificate) = Certificate::from_der(der) else {
        return Finding::warning(
            area,
            name,
            "its dates cannot be read",
            "see by hand how long it lasts: `openssl x509 -noout -dates -in <file>`",
        );
    };
    let now = clock.now().unix;
    let validity = certificate.tbs_certificate().validity();
    let (from, until) = (
        validity.not_before.to_unix_duration(),
        validity.not_after.to_unix_duration(),
    );
    let names = names(&certificate);
    let left = until.saturating_sub(now);
    if now < from {
        let found = format!("{names}; it is good only in {}", spoken(from - now));
        let advice = "put the one in place that is good now, or set the machine's clock right";
        return Finding::bad(area, name, found, advice);
    }
    if left.is_zero() {
        let found = format!("{names}; it expired {} ago", spoken(now - until));
        return Finding::bad(area, name, found, renewal);
    }
    let found = format!(
        "{names}; good for another {} days",
        left.as_secs() / DAY.as_secs()
    );
    match left < SOON {
        true => Finding::warning(area, name, found, renewal),
        false => Finding::good(area, name, found),
    }
}

/// Whom it is for: its names, or its subject where it has none.
fn names(certificate: &Certificate) -> String {
    let extension = certificate
        .tbs_certificate()
        .get_extension::<SubjectAltName>();
    let Ok(Some((_, SubjectAltName(names)))) = extension else {
        return format!("for {}", certificate.tbs_certificate().subject());
    };
    let names: Vec<String> = names.iter().filter_map(written).collect();
    format!("for {}", names.join(", "))
}

fn written(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}
