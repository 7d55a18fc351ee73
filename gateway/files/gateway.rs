//! gateway.yaml, the platform team's file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::acme::{Acme, acme};
use super::admin::{Admin, admin};
use super::credential::{Identity, reader};
use super::decode::{Table, list, spanned};
use super::diagnostics::Diagnostics;
use super::entra::{Entra, entra};
use super::limit::{GatewayLimits, gateway_limits};
use super::node::{Node, Value};
use super::secret::{SecretSource, secret_source};
use super::source::Spanned;
use super::telemetry::{Telemetry, telemetry};
use super::values::{address, boolean, choice, count, duration, path, size, url};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_mins(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);
pub(super) const DAY: Duration = Duration::from_hours(24);
/// The least of most durations: less is a slip of the unit.
pub(super) const LEAST: Duration = Duration::from_millis(1);

/// The whole of gateway.yaml, with defaults filled in and paths resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayDocument {
    /// `listen`: where callers connect.
    pub listen: Listen,
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

/// `listen`.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// The address and port.
    pub address: Spanned<SocketAddr>,
    /// Whether another gateway may listen on the same address. Default no.
    pub reuse_port: bool,
    /// Where TLS ends.
    pub tls: ListenTls,
    /// Longest TLS handshake. Default 10 s.
    pub handshake_timeout: Duration,
    /// Longest wait for a complete request head. Default 10 s.
    pub header_timeout: Duration,
    /// Longest time that a kept-alive connection may lie idle. Default 75 s.
    pub idle_timeout: Duration,
    /// Most connections at once. Default 10,000.
    pub max_connections: usize,
    /// Most connections at once from one address. No limit where it is absent.
    pub max_connections_per_address: Option<usize>,
    /// Slowest that a request's body may come and an answer be taken, in bytes a second; 0 for any. Default 240.
    pub min_rate: usize,
    /// How long it may be slower. Default 10 s.
    pub min_rate_grace: Duration,
    /// Most requests on one connection. No limit where it is absent.
    pub max_requests: Option<u64>,
    /// Longest that a connection may last. Default 1 h.
    pub max_age: Duration,
    /// Largest request head, in bytes: 8 KiB to 1 MiB. Default 32 KiB.
    pub max_head_bytes: usize,
    /// Most concurrent HTTP/2 streams per connection. Default 128.
    pub max_streams: u32,
}

/// `listen.tls`.
#[derive(Clone, Debug, PartialEq)]
pub enum ListenTls {
    /// The gateway ends TLS with these certificates; at least one.
    Certificates(Vec<CertificatePair>),
    /// The platform in front ends TLS.
    Platform,
}

/// A certificate chain and its key, both PEM files.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificatePair {
    /// The chain.
    pub cert: Spanned<PathBuf>,
    /// The private key.
    pub key: Spanned<PathBuf>,
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
        listen,
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
    Some(document)
}

fn refuse_shared_address(document: &GatewayDocument, d: &mut Diagnostics) {
    let address = &document.listen.address;
    let admin = document.admin.as_ref().map(|admin| &admin.address);
    if let Some(admin) = admin.filter(|admin| admin.value == address.value)
        && address.value.port() != 0
    {
        d.error(
            &admin.span,
            "callers and administrators cannot share one address",
        )
        .also(&address.span, "callers connect here");
    }
}

fn listen(node: &Node, d: &mut Diagnostics) -> Option<Listen> {
    let mut table = Table::of(node, "the keys `address` and `tls`", d)?;
    let address = table.required(
        "address",
        "write `address: 0.0.0.0:8443`",
        d,
        spanned(address),
    );
    let tls = table.required(
        "tls",
        "write `tls: { certificates: [{ cert: .., key: .. }] }`, or `tls: platform` where the platform ends TLS in front",
        d,
        tls,
    );
    let reuse_port = table.optional("reusePort", d, boolean);
    let time = LEAST..=HOUR;
    let handshake_timeout =
        table.optional("handshakeTimeout", d, |n, d| duration(n, time.clone(), d));
    let header_timeout = table.optional("headerTimeout", d, |n, d| duration(n, time.clone(), d));
    let idle_timeout = table.optional("idleTimeout", d, |n, d| duration(n, time.clone(), d));
    let max_connections = table.optional("maxConnections", d, |n, d| count(n, 1..=1_000_000, d));
    let max_per_address = table.optional(
        "maxConnectionsPerAddress",
        d,
        spanned(|n, d| count(n, 1..=1_000_000, d)),
    );
    let min_rate = table.optional("minRate", d, |n, d| size(n, 0..=1 << 20, d));
    let min_rate_grace = table.optional("minRateGrace", d, |n, d| duration(n, time.clone(), d));
    let max_requests = table.optional("maxRequests", d, |n, d| count(n, 1..=1_000_000_000, d));
    let max_age = table.optional("maxAge", d, |n, d| duration(n, LEAST..=30 * DAY, d));
    // A head with a usual token has to fit.
    let max_head_bytes = table.optional("maxHeadBytes", d, |n, d| size(n, 8 << 10..=1 << 20, d));
    let max_streams = table.optional("maxStreams", d, |n, d| count(n, 1..=10_000, d));
    table.finish(d);
    if let (Some(ListenTls::Platform), Some(most)) = (&tls, &max_per_address) {
        d.error(
            &most.span,
            "behind a platform every connection comes from the platform",
        )
        .help("remove the key; `rateLimit` by `clientAddress` counts callers by the address that the platform names");
    }
    Some(Listen {
        address: address?,
        reuse_port: reuse_port.unwrap_or(false),
        tls: tls?,
        handshake_timeout: handshake_timeout.unwrap_or(10 * SECOND),
        header_timeout: header_timeout.unwrap_or(10 * SECOND),
        idle_timeout: idle_timeout.unwrap_or(75 * SECOND),
        max_connections: max_connections.unwrap_or(10_000),
        max_connections_per_address: max_per_address.map(|most| most.value),
        min_rate: min_rate.unwrap_or(240),
        min_rate_grace: min_rate_grace.unwrap_or(10 * SECOND),
        max_requests,
        max_age: max_age.unwrap_or(HOUR),
        max_head_bytes: max_head_bytes.unwrap_or(32 << 10),
        max_streams: max_streams.unwrap_or(128),
    })
}

fn tls(node: &Node, d: &mut Diagnostics) -> Option<ListenTls> {
    if let Value::Plain(_) | Value::Quoted(_) = node.value {
        return choice(node, &[("platform", ())], d).map(|()| ListenTls::Platform);
    }
    let mut table = Table::of(node, "`platform`, or the key `certificates`", d)?;
    let certificates = certificates(&mut table, d);
    table.finish(d);
    certificates.map(ListenTls::Certificates)
}

/// The key `certificates`, which has to be there.
pub(super) fn certificates(
    table: &mut Table<'_>,
    d: &mut Diagnostics,
) -> Option<Vec<CertificatePair>> {
    let help = "name the files: `certificates: [{ cert: .., key: .. }]`";
    table.required("certificates", help, d, |node, d| {
        list(
            node,
            "without a certificate there is no TLS",
            d,
            certificate,
        )
    })
}

fn certificate(node: &Node, d: &mut Diagnostics) -> Option<CertificatePair> {
    let mut table = Table::of(node, "`{ cert: .., key: .. }`", d)?;
    let cert = table.required("cert", "name the PEM file of the chain", d, spanned(path));
    let key = table.required(
        "key",
        "name the PEM file of the private key",
        d,
        spanned(path),
    );
    table.finish(d);
    Some(CertificatePair {
        cert: cert?,
        key: key?,
    })
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
