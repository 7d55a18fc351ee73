//! Certificates: the gateway's own, and those that apps prove themselves with: whether they can be read, for
//! whom they are and how long they last.

use std::net::IpAddr;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::identities::Held;
use super::{Area, Finding, Surroundings, spoken};
use crate::clock::Clock;
use crate::credentials::azure::app_certificate;
use crate::credentials::{Identity, Place, Proof, Wanted};
use crate::files::{CertificatePair, Diagnostics, GatewayDocument, ListenTls};
use crate::secret::Secret;
use crate::server::Certificates;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Less than this is time to renew.
const SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The certificates that callers see. What is wrong with their files is added to the diagnostics.
pub(super) fn listening(
    gateway: &GatewayDocument,
    clock: &dyn Clock,
    diagnostics: &mut Diagnostics,
) -> Vec<Finding> {
    match &gateway.listen.tls {
        ListenTls::Platform => vec![Finding::good(
            Area::Certificates,
            "listen.tls",
            "the platform in front ends TLS, with a certificate of its own",
        )],
        ListenTls::Certificates(pairs) => {
            let pairs = pairs.iter();
            let told = |pair| shown((Area::Certificates, "listen.tls"), pair, clock, diagnostics);
            pairs.map(told).collect()
        }
    }
}

/// A certificate of the gateway's own, which this key of gateway.yaml names.
pub(super) fn shown(
    (area, key): (Area, &str),
    pair: &CertificatePair,
    clock: &dyn Clock,
    diagnostics: &mut Diagnostics,
) -> Finding {
    let name = format!("{key} {}", pair.cert.value.display());
    if Certificates::read(std::slice::from_ref(pair), diagnostics).is_none() {
        return Finding::bad(
            area,
            name,
            "it cannot be used: the diagnostics say why",
            format!(
                "let the gateway's user read {} and {}, a PEM chain and the key that belongs to it",
                pair.cert.value.display(),
                pair.key.value.display()
            ),
        );
    }
    let leaf = CertificateDer::pem_file_iter(&pair.cert.value).ok();
    let leaf = leaf.and_then(|mut chain| chain.next()?.ok());
    let leaf = leaf.as_deref().unwrap_or_default();
    let renewal =
        "renew it and put the new files in its place: a running gateway takes them up by itself";
    dated((area, name), leaf, clock, renewal)
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
