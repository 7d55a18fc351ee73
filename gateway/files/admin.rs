//! `admin` of gateway.yaml: where the gateway tells of itself, and to whom.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::certificate::{CertificateSource, certificates};
use super::decode::{Table, spanned};
use super::diagnostics::Diagnostics;
use super::node::Node;
use super::secret::{SecretSource, secret_source};
use super::source::Spanned;
use super::values::{address, boolean, path};

/// `admin`.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// `address`: the address and port.
    pub address: Spanned<SocketAddr>,
    /// `bearer`: where the secret is read that whoever asks has to bring. None is asked for where it is absent.
    pub bearer: Option<Spanned<SecretSource>>,
    /// `tls`: plain HTTP where it is absent.
    pub tls: Option<AdminTls>,
    /// `profile`: whether the process may be profiled from there. Default no.
    pub profile: bool,
}

/// `admin.tls`.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminTls {
    /// Certificates; at least one.
    pub certificates: Vec<CertificateSource>,
    /// A PEM file of CA certificates. Whoever brings a certificate by one of them needs no secret.
    pub client_ca: Option<Spanned<PathBuf>>,
}

impl Admin {
    /// Whether it can be reached from this machine alone.
    pub fn is_loopback(&self) -> bool {
        self.address.value.ip().to_canonical().is_loopback()
    }

    /// Whether anything can be brought that lets in.
    pub fn has_credential(&self) -> bool {
        let by_certificate = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        self.bearer.is_some() || by_certificate
    }

    /// Whether more than health is told there: elsewhere than on loopback only over TLS and to who brings something.
    pub fn tells(&self) -> bool {
        self.is_loopback() || (self.tls.is_some() && self.has_credential())
    }

    /// Warns of what will be told to nobody.
    pub(super) fn review(&self, diagnostics: &mut Diagnostics) {
        if !self.tells() {
            diagnostics
                .warning(
                    &self.address.span,
                    "anybody may reach this address, so it tells no more than `/livez` and `/readyz`",
                )
                .help(HOW_TO_PROTECT);
        }
        if self.profile && !self.has_credential() {
            diagnostics
                .warning(
                    &self.address.span,
                    "`profile` is for who brings a credential, and none is configured here",
                )
                .help("write `bearer`, or `tls` with `clientCa`");
        }
    }
}

/// What to write for an address that anybody may reach.
pub const HOW_TO_PROTECT: &str =
    "write `admin.tls` and `admin.bearer` (or `admin.tls.clientCa`), or a loopback address";

/// Takes `admin` apart. `None` when an error was added.
pub(super) fn admin(node: &Node, d: &mut Diagnostics) -> Option<Admin> {
    let mut table = Table::of(node, "`{ address: 127.0.0.1:9901 }`", d)?;
    let address = table.required(
        "address",
        "write `address: 127.0.0.1:9901`",
        d,
        spanned(address),
    );
    let bearer = table.optional("bearer", d, spanned(secret_source));
    let tls = table.optional("tls", d, tls);
    let profile = table.optional("profile", d, boolean);
    table.finish(d);
    Some(Admin {
        address: address?,
        bearer,
        tls,
        profile: profile.unwrap_or(false),
    })
}

fn tls(node: &Node, d: &mut Diagnostics) -> Option<AdminTls> {
    let mut table = Table::of(node, "the keys `certificates` and `clientCa`", d)?;
    let certificates = certificates(&mut table, d);
    let client_ca = table.optional("clientCa", d, spanned(path));
    table.finish(d);
    Some(AdminTls {
        certificates: certificates?,
        client_ca,
    })
}
