//! The certificates that gateway.yaml has ordered, and from whom.

use std::sync::Arc;

use super::{Options, StartError, machine, presenting, roots};
use crate::acme::{Acme, Challenge, ExternalAccount, Settings};
use crate::files::{self, AcmeChallenge, Diagnostics, GatewayDocument};
use crate::net::client::Client;
use crate::net::tls;
use crate::server;
use crate::snapshot::Lasting;

/// Opens what is kept of them, if any are ordered. Nothing also where an error was added.
pub(super) fn open(
    gateway: &GatewayDocument,
    options: &Options,
    lasting: &Lasting,
    diagnostics: &mut Diagnostics,
) -> Result<Option<Arc<Acme>>, StartError> {
    let Some(acme) = &gateway.acme else {
        return Ok(None);
    };
    let external_account = match &acme.external_account {
        None => None,
        Some(account) => {
            let own = presenting(gateway, lasting);
            let Some(hmac_key) = own.text(&account.hmac_key, diagnostics) else {
                return Ok(None);
            };
            Some(ExternalAccount {
                key_id: account.key_id.clone(),
                hmac_key,
            })
        }
    };
    let roots = roots(acme.ca.as_ref(), "acme.ca")?;
    let config = tls::client_config(&roots, &[b"http/1.1"]).map_err(machine("reading acme.ca"))?;
    let settings = Settings {
        directory: acme.directory.value.clone(),
        contact: acme.contact.clone(),
        external_account,
        challenge: match acme.challenge {
            AcmeChallenge::TlsAlpn01 => Challenge::TlsAlpn01,
            AcmeChallenge::Http01 => Challenge::Http01,
        },
        folder: acme.folder.value.clone(),
        client: Client::new(&config, Arc::clone(&options.resolver)),
        clock: Arc::clone(&options.clock),
    };
    let folder = acme.folder.value.display();
    let opened = Acme::open(settings).map_err(machine(format!("opening acme.folder {folder}")))?;
    opened.want(&wanted(gateway));
    Ok(Some(opened))
}

/// What an earlier gateway has kept of them, for who orders nothing itself. Nothing where there is no folder yet.
pub(crate) fn kept(
    gateway: &GatewayDocument,
    options: &Options,
    lasting: &Lasting,
    diagnostics: &mut Diagnostics,
) -> Result<Option<Arc<Acme>>, StartError> {
    let acme = gateway.acme.as_ref();
    let is_there = |acme: &&files::Acme| Acme::has_kept(&acme.folder.value, &acme.directory.value);
    match acme.filter(is_there) {
        None => Ok(None),
        Some(_) => open(gateway, options, lasting, diagnostics),
    }
}

/// The names of each certificate that is ordered.
pub(super) fn wanted(gateway: &GatewayDocument) -> Vec<Vec<String>> {
    gateway.ordered().map(|names| names.value.clone()).collect()
}

/// What a CA is told that asks by plain HTTP, where it does.
pub(super) fn told_over_http(acme: Arc<Acme>) -> Option<Arc<server::Challenge>> {
    match acme.challenge() {
        Challenge::TlsAlpn01 => None,
        Challenge::Http01 => Some(Arc::new(move |token: &str| acme.http_answer(token))),
    }
}
