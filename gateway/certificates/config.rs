//! The settings of TLS with those who connect, to the gateway or to its admin address.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::{Certificates, Clients};

/// What TLS is spoken by.
pub struct Terms<'t> {
    /// What callers are shown.
    pub certificates: &'t Arc<Certificates>,
    /// Who judges the certificates of callers, if they are asked for one.
    pub clients: Option<&'t Clients>,
    /// The versions of TLS.
    pub versions: &'t [&'static SupportedProtocolVersion],
    /// The protocols that may be agreed on, the best first (RFC 7301).
    pub protocols: &'t [&'static [u8]],
    /// What makes session tickets. None are made for callers who are asked for a certificate: a session that is taken
    /// up again would vouch for one whose CA may be trusted no more.
    pub tickets: Option<Arc<dyn ProducesTickets>>,
}

impl Terms<'_> {
    /// The settings.
    ///
    /// # Errors
    /// When the provider does not support the versions, which a test excludes.
    pub fn config(self) -> Result<ServerConfig, rustls::Error> {
        let tickets = self.tickets.filter(|_| self.clients.is_none());
        let clients = self.clients.map(Clients::verifier);
        let clients = clients.unwrap_or_else(WebPkiClientVerifier::no_client_auth);
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(self.versions)?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::clone(self.certificates) as _);
        config.alpn_protocols = self.protocols.iter().map(|name| name.to_vec()).collect();
        match tickets {
            Some(tickets) => config.ticketer = tickets,
            None => {
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.send_tls13_tickets = 0;
            }
        }
        Ok(config)
    }
}

/// What callers are spoken to with. X25519MLKEM768 first: what is recorded today cannot be read by a quantum computer
/// of tomorrow (draft-ietf-tls-ecdhe-mlkem). Who does not speak it loses nothing.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![
        aws_lc_rs::kx_group::X25519MLKEM768,
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
        aws_lc_rs::kx_group::SECP384R1,
    ];
    provider
}
