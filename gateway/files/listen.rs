//! `listen` of gateway.yaml: where callers connect, and what they are held to there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use uuid::Uuid;

use super::certificate::{CertificateSource, certificates};
use super::decode::{Table, list, spanned};
use super::diagnostics::Diagnostics;
use super::gateway::{DAY, HOUR, LEAST, SECOND};
use super::node::{Node, Value};
use super::rule::cidrs;
use super::secret::{SecretSource, secret_source};
use super::source::Spanned;
use super::values::{address, boolean, choice, count, duration, guid, path, size};

/// `listen`.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// The address and port.
    pub address: Spanned<SocketAddr>,
    /// Whether another gateway may listen on the same address. Default no.
    pub reuse_port: bool,
    /// What is spoken there.
    pub speaks: Speaks,
    /// Those who stand in front and may speak for callers.
    pub trusted_hops: Option<TrustedHops>,
    /// Whether the PROXY protocol is spoken in front of each connection. Default no.
    pub proxy_protocol: bool,
    /// Which certificates callers bring. They are asked for none where it is absent.
    pub client_certificates: Option<ClientCertificates>,
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

/// What is spoken with callers.
#[derive(Clone, Debug, PartialEq)]
pub enum Speaks {
    /// `tls`: TLS, which ends at the gateway.
    Tls(ListenTls),
    /// `tls: platform`: the platform in front ends TLS.
    Platform,
    /// `http`: plain HTTP, by which nothing is forwarded.
    Plain(PlainHttp),
}

/// `listen.tls`.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenTls {
    /// The gateway's certificates; at least one.
    pub certificates: Vec<CertificateSource>,
    /// The versions of TLS. Default 1.3 and 1.2.
    pub policy: TlsPolicy,
    /// Where the keys of session tickets are read, one a line: the first makes them, all take them. Empty: random keys
    /// of the process.
    pub ticket_keys: Vec<Spanned<SecretSource>>,
}

/// `listen.tls.policy`, as Mozilla's guidelines call them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPolicy {
    /// TLS 1.3 alone.
    Modern,
    /// TLS 1.3 and 1.2, both with forward secrecy and authenticated encryption alone.
    Intermediate,
}

/// `listen.http`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainHttp {
    /// Whether callers are sent to `https`.
    pub redirect: bool,
    /// Whether `/livez` and `/readyz` are answered.
    pub probes: bool,
}

/// `listen.trustedHops`.
#[derive(Clone, Debug, PartialEq)]
pub struct TrustedHops {
    /// Where they are; anywhere if it is empty.
    pub networks: Vec<IpNet>,
    /// How many of them say whom they saw; all in `networks` where it is absent.
    pub count: Option<usize>,
    /// Where they say it. Default `X-Forwarded-For`.
    pub header: ForwardedHeader,
    /// The Front Door profiles that requests have to come through, if there are any.
    pub front_doors: Vec<Uuid>,
}

/// `listen.clientCertificates`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientCertificates {
    /// Whether a caller may go without.
    pub mode: ClientMode,
    /// A PEM file of the CAs that issue them.
    pub ca: Spanned<PathBuf>,
    /// Files of what those have withdrawn, PEM or DER.
    pub crl: Vec<Spanned<PathBuf>>,
    /// The field in which those in front pass them on; handshakes where it is absent.
    pub header: Option<CertificateHeader>,
}

/// Whether a caller may go without a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientMode {
    /// It may not.
    Require,
    /// It may, and policies decide.
    Request,
}

/// A field in which certificates of callers are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateHeader {
    /// `x-forwarded-client-cert`: Container Apps and Envoy.
    ForwardedClientCert,
    /// `x-arr-clientcert`: App Service.
    ArrClientCert,
}

/// The field in which hops say whom they saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `x-forwarded-for`.
    XForwardedFor,
    /// `forwarded`: RFC 7239.
    Forwarded,
}

impl Listen {
    /// TLS that ends here, if it does.
    pub fn tls(&self) -> Option<&ListenTls> {
        match &self.speaks {
            Speaks::Tls(tls) => Some(tls),
            Speaks::Platform | Speaks::Plain(_) => None,
        }
    }

    /// Whether requests are forwarded that come in here.
    pub fn forwards(&self) -> bool {
        !matches!(self.speaks, Speaks::Plain(_))
    }
}

/// Takes `listen` apart: one listener, or a list of them. `None` when an error was added.
pub(super) fn listeners(node: &Node, d: &mut Diagnostics) -> Option<Vec<Listen>> {
    let Value::List(written) = &node.value else {
        return Some(vec![listen(node, d)?]);
    };
    let listeners = list(node, "without a listener there is no gateway", d, listen)?;
    if listeners.len() == written.len() && !listeners.iter().any(Listen::forwards) {
        d.error(&node.span, "nothing is forwarded by plain `http`")
            .help("add a listener with `tls`");
        return None;
    }
    for (at, listener) in listeners.iter().enumerate() {
        let address = &listener.address;
        let mut before = listeners.iter().take(at);
        let is_same = |other: &&Listen| other.address.value == address.value;
        if let Some(first) = before.find(is_same).filter(|_| address.value.port() != 0) {
            d.error(&address.span, "two listeners cannot share one address")
                .also(&first.address.span, "the other one");
        }
    }
    (listeners.len() == written.len()).then_some(listeners)
}

fn listen(node: &Node, d: &mut Diagnostics) -> Option<Listen> {
    let before = d.errors();
    let mut table = Table::of(node, "the keys `address` and `tls`", d)?;
    let address = table.required(
        "address",
        "write `address: 0.0.0.0:8443`",
        d,
        spanned(address),
    );
    let speaks = speaks(&mut table, d);
    let reuse_port = table.optional("reusePort", d, boolean);
    let trusted_hops = table.optional("trustedHops", d, spanned(trusted_hops));
    let proxy_protocol = table.optional("proxyProtocol", d, spanned(boolean));
    let client_certificates = table.optional("clientCertificates", d, spanned(client_certificates));
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
    if let Some(Speaks::Plain(_)) = speaks {
        // What follows is for who forwards.
        table = only_of_plain(node, d)?;
    }
    table.finish(d);
    if let (Some(Speaks::Platform), Some(most)) = (&speaks, &max_per_address) {
        d.error(
            &most.span,
            "behind a platform every connection comes from the platform",
        )
        .help("remove the key; `rateLimit` by `clientAddress` counts callers by the address that the platform names");
    }
    let is_platform = speaks == Some(Speaks::Platform);
    // What is at fault by itself may be wrong about the rest.
    if d.errors() == before {
        let hops = trusted_hops.as_ref();
        refuse_blind_trust(is_platform, hops, proxy_protocol.as_ref(), d);
        refuse_unheard_certificates(is_platform, hops.is_some(), client_certificates.as_ref(), d);
    }
    let proxy_protocol = proxy_protocol.is_some_and(|spoken| spoken.value);
    if let (true, Some(most)) = (proxy_protocol, &max_per_address) {
        d.error(
            &most.span,
            "with `proxyProtocol` every connection comes from those in front",
        )
        .help("remove the key; `rateLimit` by `clientAddress` counts callers");
    }
    Some(Listen {
        client_certificates: client_certificates.map(|written| written.value),
        trusted_hops: hops(is_platform, trusted_hops.map(|written| written.value)),
        proxy_protocol,
        address: address?,
        reuse_port: reuse_port.unwrap_or(false),
        speaks: speaks?,
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

fn trusted_hops(node: &Node, d: &mut Diagnostics) -> Option<TrustedHops> {
    let mut table = Table::of(
        node,
        "the keys `networks`, `count`, `header` and `frontDoor`",
        d,
    )?;
    let networks = table.optional("networks", d, cidrs);
    let count = table.optional("count", d, |node, d| count(node, 1..=16, d));
    let headers = [
        ("x-forwarded-for", ForwardedHeader::XForwardedFor),
        ("forwarded", ForwardedHeader::Forwarded),
    ];
    let header = table.optional("header", d, |node, d| choice(node, &headers, d));
    let front_doors = table.optional("frontDoor", d, |node, d| {
        let help = "leave the key out where requests need not come through Front Door";
        list(node, help, d, guid)
    });
    table.finish(d);
    let networks = networks.unwrap_or_default().into_iter();
    Some(TrustedHops {
        networks: networks.map(|network| network.value).collect(),
        count,
        header: header.unwrap_or(ForwardedHeader::XForwardedFor),
        front_doors: front_doors.unwrap_or_default(),
    })
}

/// Where the platform ends TLS it says whom it saw, whatever else is written: one hop, if nobody says otherwise.
fn hops(is_platform: bool, written: Option<TrustedHops>) -> Option<TrustedHops> {
    let mut hops = match written {
        None if !is_platform => return None,
        None => TrustedHops {
            networks: Vec::new(),
            count: None,
            header: ForwardedHeader::XForwardedFor,
            front_doors: Vec::new(),
        },
        Some(written) => written,
    };
    if hops.networks.is_empty() {
        hops.count = hops.count.or(Some(1));
    }
    Some(hops)
}

/// Anybody could speak for callers where callers connect themselves.
fn refuse_blind_trust(
    is_platform: bool,
    hops: Option<&Spanned<TrustedHops>>,
    proxy_protocol: Option<&Spanned<bool>>,
    d: &mut Diagnostics,
) {
    const HELP: &str = "write where they are: `trustedHops: { networks: [10.0.0.0/8] }`";
    let known = hops.is_some_and(|hops| !hops.value.networks.is_empty());
    if let Some(hops) = hops.filter(|_| !known && !is_platform) {
        d.error(
            &hops.span,
            "callers connect here themselves, and each could speak for others",
        )
        .help(HELP);
    }
    if let Some(spoken) = proxy_protocol.filter(|spoken| spoken.value && !known) {
        d.error(
            &spoken.span,
            "whoever connects could say who they are by the PROXY protocol",
        )
        .help(HELP);
    }
}

fn client_certificates(node: &Node, d: &mut Diagnostics) -> Option<ClientCertificates> {
    let mut table = Table::of(node, "the keys `mode`, `ca`, `crl` and `header`", d)?;
    let modes = [
        ("require", ClientMode::Require),
        ("request", ClientMode::Request),
    ];
    let help = "write `mode: require`, or `mode: request` where callers may go without";
    let mode = table.required("mode", help, d, |node, d| choice(node, &modes, d));
    let help = "name the PEM file of the CAs that issue callers' certificates";
    let ca = table.required("ca", help, d, spanned(path));
    let crl = table.optional("crl", d, |node, d| {
        let help = "leave the key out where nothing is withdrawn";
        list(node, help, d, spanned(path))
    });
    let headers = [
        (
            "x-forwarded-client-cert",
            CertificateHeader::ForwardedClientCert,
        ),
        ("x-arr-clientcert", CertificateHeader::ArrClientCert),
    ];
    let header = table.optional("header", d, |node, d| choice(node, &headers, d));
    table.finish(d);
    Some(ClientCertificates {
        mode: mode?,
        ca: ca?,
        crl: crl.unwrap_or_default(),
        header,
    })
}

/// Behind a platform there are no handshakes, and where callers connect themselves a field is their own word.
fn refuse_unheard_certificates(
    is_platform: bool,
    has_hops: bool,
    written: Option<&Spanned<ClientCertificates>>,
    d: &mut Diagnostics,
) {
    let Some(Spanned { value, span }) = written else {
        return;
    };
    if is_platform && value.header.is_none() {
        d.error(span, "the platform in front takes callers' certificates")
            .help("say in which header it passes them on: `header: x-forwarded-client-cert` (Container Apps, Envoy) or `header: x-arr-clientcert` (App Service)");
    }
    if value.header.is_some() && !is_platform && !has_hops {
        d.error(span, "callers connect here themselves, and could write any certificate into a header")
            .help("leave `header` out, or write who stands in front: `trustedHops: { networks: [10.0.0.0/8] }`");
    }
}

/// What is spoken: `tls`, or `http`.
fn speaks(table: &mut Table<'_>, d: &mut Diagnostics) -> Option<Speaks> {
    let plain = table.entry("http");
    match (table.entry("tls"), plain) {
        (Some(tls), Some(plain)) => {
            d.error(&plain.span, "a listener speaks `tls` or plain `http`")
                .also(&tls.span, "this one speaks TLS")
                .help("write a listener of its own for plain HTTP, with another address");
            None
        }
        (None, Some(plain)) => plain_http(&plain.value, d).map(Speaks::Plain),
        (_, None) => {
            let help = "write `tls: { certificates: [{ cert: .., key: .. }] }`, or `tls: platform` where the platform ends TLS in front";
            table.required("tls", help, d, tls)
        }
    }
}

/// The keys of a listener by which nothing is forwarded.
fn only_of_plain<'n>(node: &'n Node, d: &mut Diagnostics) -> Option<Table<'n>> {
    let mut table = Table::of(node, "the keys `address` and `http`", d)?;
    for key in ["address", "http", "reusePort"] {
        table.entry(key);
    }
    Some(table)
}

fn tls(node: &Node, d: &mut Diagnostics) -> Option<Speaks> {
    if let Value::Plain(_) | Value::Quoted(_) = node.value {
        return choice(node, &[("platform", ())], d).map(|()| Speaks::Platform);
    }
    let mut table = Table::of(node, "`platform`, or the key `certificates`", d)?;
    let certificates = certificates(&mut table, d);
    let policies = [
        ("intermediate", TlsPolicy::Intermediate),
        ("modern", TlsPolicy::Modern),
    ];
    let policy = table.optional("policy", d, |node, d| choice(node, &policies, d));
    let ticket_keys = table.optional("ticketKeys", d, |node, d| {
        let help = "leave the key out: tickets then end with the process that made them";
        list(node, help, d, spanned(secret_source))
    });
    table.finish(d);
    Some(Speaks::Tls(ListenTls {
        certificates: certificates?,
        policy: policy.unwrap_or(TlsPolicy::Intermediate),
        ticket_keys: ticket_keys.unwrap_or_default(),
    }))
}

fn plain_http(node: &Node, d: &mut Diagnostics) -> Option<PlainHttp> {
    let before = d.errors();
    let mut table = Table::of(node, "the keys `redirect` and `probes`", d)?;
    let redirect = table.optional("redirect", d, boolean).unwrap_or(false);
    let probes = table.optional("probes", d, boolean).unwrap_or(false);
    table.finish(d);
    if !redirect && !probes && d.errors() == before {
        d.error(&node.span, "nothing is answered here")
            .help("write `redirect: true`, `probes: true` or both");
        return None;
    }
    Some(PlainHttp { redirect, probes })
}
