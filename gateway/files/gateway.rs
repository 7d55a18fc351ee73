//! gateway.yaml, the platform team's file.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::acme::{Acme, AcmeChallenge, acme};
use super::admin::{Admin, admin};
use super::certificate::CertificateSource;
use super::credential::{Identity, reader};
use super::decode::{Table, list, spanned};
use super::diagnostics::Diagnostics;
use super::entra::{Entra, entra};
use super::limit::{GatewayLimits, gateway_limits};
use super::listen::{ClientMode, Listen, listeners};
use super::node::Node;
use super::secret::{SecretSource, secret_source};
use super::source::Spanned;
use super::telemetry::{Telemetry, telemetry};
use super::values::{count, duration, path, url};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const DAY: Duration = Duration::from_hours(24);
/// The least of most durations: less is a slip of the unit.
pub(super) const LEAST: Duration = Duration::from_millis(1);

/// The whole of gateway.yaml, with defaults filled in and paths resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayDocument {
    /// `listen`: where callers connect; at least one, by which requests are forwarded.
    pub listen: Vec<Listen>,
    /// `workers`: data-plane threads, 1 to 1024; one a core where it is absent.
    pub workers: Option<usize>,
    /// `acme`: from which CA certificates are ordered; none are where it is absent.
    pub acme: Option<Acme>,
    /// `admin`: where the gateway tells of itself; nowhere where it is absent.
    pub admin: Option<Admin>,
    /// `policies`: a policy file, or a folder of them.
    pub policies: Spanned<PathBuf>,
    /// `candidate`: a policy file or folder that decides beside the one in force and does not act.
    pub candidate: Option<Spanned<PathBuf>>,
    /// `entra`: whose tokens count, and how they are verified.
    pub entra: Entra,
    /// `publicUrl`: what sealed URLs are built on, without a slash at its end; the host that the caller
    /// asked for, where it is absent.
    pub public_url: Option<String>,
    /// `keyVault`: who reads it, and how often.
    pub key_vault: KeyVault,
    /// `seal`: what happens to keys in answers.
    pub seal: Seal,
    /// `state`: what survives a restart; nothing does where it is absent.
    pub state: Option<State>,
    /// `drain`: how the gateway stops.
    pub drain: Drain,
    /// `telemetry`: what the gateway tells of itself.
    pub telemetry: Telemetry,
    /// `limits`: what everybody is held to, and how limits are told.
    pub limits: GatewayLimits,
}

impl GatewayDocument {
    /// The names that certificates are ordered for: of callers' listeners and of the admin address.
    pub fn ordered(&self) -> impl Iterator<Item = &Spanned<Vec<String>>> {
        let of_callers = self.listen.iter().filter_map(Listen::tls);
        let of_callers = of_callers.flat_map(|tls| &tls.certificates);
        let admin = self.admin.iter().filter_map(|admin| admin.tls.as_ref());
        let of_admin = admin.flat_map(|tls| &tls.certificates);
        let all = of_callers.chain(of_admin);
        all.filter_map(CertificateSource::ordered)
    }

    /// Whether callers are asked for certificates, at any listener.
    pub fn asks_for_certificates(&self) -> bool {
        let mut listeners = self.listen.iter();
        listeners.any(|listen| listen.client_certificates.is_some())
    }

    /// Warns of what is legal and does nothing.
    pub fn review(&self, d: &mut Diagnostics) {
        if let Some(admin) = &self.admin {
            admin.review(d);
        }
        if let (Some(acme), None) = (&self.acme, self.ordered().next()) {
            d.warning(&acme.directory.span, "no certificate is ordered from this CA")
                .help("write `certificates: [{ acme: [api.contoso.com] }]` in a listener's `tls`, or leave `acme` out");
        }
    }
}

/// `state`.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The folder that signing keys are kept in across restarts.
    pub folder: Spanned<PathBuf>,
    /// Keys older than this are not used from there. Default 24 h.
    pub max_key_age: Duration,
}

/// `keyVault`.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyVault {
    /// Whose token is shown to it. Default: the system-assigned identity's.
    pub identity: Identity,
    /// How often each secret is read again. Default 1 h.
    pub refresh_every: Duration,
    /// A PEM file of roots to trust for it, instead of the platform's.
    pub ca: Option<Spanned<PathBuf>>,
}

/// `seal`.
#[derive(Clone, Debug, PartialEq)]
pub struct Seal {
    /// Where the sealing keys are read, one a line: the first seals, all open. Empty: a random key of the
    /// process.
    pub keys: Vec<Spanned<SecretSource>>,
    /// How long a sealed URL can be followed. Default 1 d.
    pub lifetime: Duration,
}

/// `drain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long the gateway says that it is not ready before it stops accepting. Default 5 s.
    pub delay: Duration,
    /// How long requests in flight may then take to finish. Default 30 s.
    pub timeout: Duration,
}

/// Takes gateway.yaml apart. `None` where something that has no default is missing or at fault.
pub(super) fn document(root: &Node, d: &mut Diagnostics) -> Option<GatewayDocument> {
    let mut table = Table::of(root, "the keys of gateway.yaml", d)?;
    let listen = table.required(
        "listen",
        "say where: `listen: { address: .., tls: .. }`",
        d,
        listeners,
    );
    let workers = table.optional("workers", d, |node, d| count(node, 1..=1024, d));
    let acme = table.optional("acme", d, acme);
    let admin = table.optional("admin", d, admin);
    let policies = table.required(
        "policies",
        "name a policy file or a folder of them: `policies: ./policies`",
        d,
        spanned(path),
    );
    let candidate = table.optional("candidate", d, spanned(path));
    let entra = entra(table.section("entra", d), d);
    let public_url = table.optional("publicUrl", d, public_url);
    let key_vault = key_vault(table.section("keyVault", d), d);
    let seal = seal(table.section("seal", d), d);
    let state = table.optional("state", d, state);
    let drain = drain(table.section("drain", d), d);
    let telemetry = telemetry(table.section("telemetry", d), d);
    let limits = gateway_limits(table.section("limits", d), d);
    table.finish(d);

    let document = GatewayDocument {
        listen: listen?,
        workers,
        acme,
        admin,
        policies: policies?,
        candidate,
        entra: entra?,
        public_url,
        key_vault,
        seal,
        state,
        drain,
        telemetry: telemetry?,
        limits: limits?,
    };
    refuse_shared_address(&document, d);
    // What is at fault by itself may be wrong about the rest.
    if !d.has_errors() {
        refuse_unanswered_orders(&document, d);
    }
    Some(document)
}

fn refuse_shared_address(document: &GatewayDocument, d: &mut Diagnostics) {
    let Some(admin) = document.admin.as_ref().map(|admin| &admin.address) else {
        return;
    };
    let mut listeners = document.listen.iter().map(|listen| &listen.address);
    let shared = listeners.find(|address| address.value == admin.value);
    if let Some(address) = shared.filter(|address| address.value.port() != 0) {
        d.error(
            &admin.span,
            "callers and administrators cannot share one address",
        )
        .also(&address.span, "callers connect here");
    }
}

/// What a certificate's authority comes to see must be there to be seen.
fn refuse_unanswered_orders(document: &GatewayDocument, d: &mut Diagnostics) {
    let Some(first) = document.ordered().next() else {
        return;
    };
    let Some(acme) = &document.acme else {
        d.error(&first.span, "it is not said where certificates are ordered")
            .help("write `acme: { directory: .., termsOfServiceAgreed: true, folder: .. }` beside `listen`");
        return;
    };
    let listeners = || document.listen.iter();
    match acme.challenge {
        AcmeChallenge::Http01 if listeners().all(Listen::forwards) => {
            d.error(&acme.directory.span, "nobody would answer the CA (`http-01`)")
                .help("add a listener for port 80: `- { address: 0.0.0.0:8080, http: { redirect: true } }`");
        }
        AcmeChallenge::TlsAlpn01 if listeners().all(|listen| listen.tls().is_none()) => {
            d.error(
                &acme.directory.span,
                "nobody would answer the CA (`tls-alpn-01`): TLS ends in front",
            )
            .help("write `challenge: http-01`, or end TLS here");
        }
        AcmeChallenge::Http01 | AcmeChallenge::TlsAlpn01 => {}
    }
    let requires = |listen: &&Listen| {
        let clients = listen.client_certificates.as_ref();
        clients
            .is_some_and(|clients| clients.mode == ClientMode::Require && clients.header.is_none())
    };
    let mut requiring = listeners().filter(requires);
    if let (Some(clients), AcmeChallenge::TlsAlpn01) = (
        requiring.find_map(|listen| listen.client_certificates.as_ref()),
        acme.challenge,
    ) {
        d.error(
            &clients.ca.span,
            "the CA brings no certificate when it asks (`tls-alpn-01`)",
        )
        .help("write `acme: { challenge: http-01 }`, or `mode: request`");
    }
}

fn state(node: &Node, d: &mut Diagnostics) -> Option<State> {
    let mut table = Table::of(node, "`{ folder: .. }`", d)?;
    let folder = table.required(
        "folder",
        "name a folder to keep signing keys in",
        d,
        spanned(path),
    );
    let max_key_age = table.optional("maxKeyAge", d, |n, d| duration(n, MINUTE..=30 * DAY, d));
    table.finish(d);
    Some(State {
        folder: folder?,
        max_key_age: max_key_age.unwrap_or(DAY),
    })
}

fn public_url(node: &Node, d: &mut Diagnostics) -> Option<String> {
    let written: Uri = url(node, d)?;
    if written.scheme_str() != Some("https") || !matches!(written.path(), "" | "/") {
        d.error(&node.span, "this is not the gateway's own base URL")
            .help("write `https://` and the host that callers use, without a path");
        return None;
    }
    if written.query().is_some() {
        d.error(&node.span, "the gateway's own base URL has no query");
        return None;
    }
    Some(written.to_string().trim_end_matches('/').to_owned())
}

fn key_vault(mut table: Table<'_>, d: &mut Diagnostics) -> KeyVault {
    let identity = table.optional("identity", d, reader);
    let refresh_every = table.optional("refreshEvery", d, |n, d| duration(n, MINUTE..=DAY, d));
    let ca = table.optional("ca", d, spanned(path));
    table.finish(d);
    KeyVault {
        identity: identity.unwrap_or(Identity::System),
        refresh_every: refresh_every.unwrap_or(HOUR),
        ca,
    }
}

fn seal(mut table: Table<'_>, d: &mut Diagnostics) -> Seal {
    let keys = table.optional("keys", d, |node, d| {
        let help = "leave the key out: sealed URLs then end with the process that made them";
        list(node, help, d, spanned(secret_source))
    });
    let lifetime = table.optional("lifetime", d, |n, d| duration(n, MINUTE..=90 * DAY, d));
    table.finish(d);
    Seal {
        keys: keys.unwrap_or_default(),
        lifetime: lifetime.unwrap_or(DAY),
    }
}

fn drain(mut table: Table<'_>, d: &mut Diagnostics) -> Drain {
    let delay = table.optional("delay", d, |n, d| duration(n, Duration::ZERO..=HOUR, d));
    let timeout = table.optional("timeout", d, |n, d| duration(n, Duration::ZERO..=HOUR, d));
    table.finish(d);
    Drain {
        delay: delay.unwrap_or(5 * SECOND),
        timeout: timeout.unwrap_or(30 * SECOND),
    }
}
