//! Listeners: whether their addresses can be listened on, who judges callers' certificates, what tickets are made with, and
//! whether certificates could be ordered.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};

use super::{Area, Finding, Surroundings, writable};
use crate::certificates::{Clients, Tickets};
use crate::files::{Acme, Diagnostics, Listen};
use crate::net::client::{Bounds, Client};
use crate::net::tls;
use crate::running::{self, roots};
use crate::server::{self, Beside};
use crate::upstream::Presenting;

/// A directory is short.
const BOUNDS: Bounds = Bounds {
    timeout: Duration::from_secs(5),
    max_body: 64 * 1024,
};

/// What can be found out on this machine. What is wrong with files is added to the diagnostics.
pub(super) fn here(surroundings: &Surroundings<'_>, diagnostics: &mut Diagnostics) -> Vec<Finding> {
    let mut findings = Vec::new();
    for listen in &surroundings.gateway.listen {
        findings.push(address(listen));
        findings.extend(clients(surroundings, listen, diagnostics));
        findings.extend(tickets(surroundings, listen, diagnostics));
    }
    findings
}

fn address(listen: &Listen) -> Finding {
    let address = listen.address.value;
    let name = format!("listen.address {address}");
    let beside = match listen.reuse_port {
        true => Beside::Another,
        false => Beside::Nobody,
    };
    match server::try_address(address, beside) {
        Ok(()) => Finding::good(Area::Listeners, name, "can be listened on"),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::warning(
            Area::Listeners,
            name,
            "somebody listens there",
            "all is well if it is this gateway, or systemd for it; otherwise write another port, or end who listens there",
        ),
        Err(error) => Finding::bad(
            Area::Listeners,
            name,
            format!("cannot be listened on: {}", running::explained(&error)),
            "write an address that this machine has, and a port that the gateway's user may take",
        ),
    }
}

fn clients(
    surroundings: &Surroundings<'_>,
    listen: &Listen,
    diagnostics: &mut Diagnostics,
) -> Option<Finding> {
    let written = listen.client_certificates.as_ref()?;
    let name = format!("clientCertificates of {}", listen.address.value);
    let Some(clients) = Clients::read(written, diagnostics) else {
        return Some(Finding::bad(
            Area::Listeners,
            name,
            "they cannot be used: the diagnostics say why",
            "let the gateway's user read the CAs and their revocation lists",
        ));
    };
    let now = surroundings.lasting.clock.now().unix;
    let stale: Vec<String> = clients
        .faults(now)
        .map(|(file, why)| format!("{file}: {why}"))
        .collect();
    Some(match stale.is_empty() {
        true => Finding::good(Area::Listeners, name, "can be read, and hold certificates"),
        false => Finding::bad(
            Area::Listeners,
            name,
            stale.join("; "),
            "fetch the list anew from the CA: a running gateway takes it up by itself",
        ),
    })
}

fn tickets(
    surroundings: &Surroundings<'_>,
    listen: &Listen,
    diagnostics: &mut Diagnostics,
) -> Option<Finding> {
    let written = listen.tls()?;
    if written.ticket_keys.is_empty() {
        return None;
    }
    let name = format!("ticketKeys of {}", listen.address.value);
    let presenting = Presenting {
        credentials: &surroundings.lasting.credentials,
        key_vault: &surroundings.gateway.key_vault,
    };
    let clock = &surroundings.lasting.clock;
    let why = match Tickets::read(written, presenting, clock, diagnostics) {
        Some(Ok(_)) => return Some(Finding::good(Area::Listeners, name, "can be read")),
        Some(Err(why)) => why,
        None => "they cannot be read: the diagnostics say why".to_owned(),
    };
    let advice = "put 32 random bytes there in base64: `openssl rand -base64 32`";
    Some(Finding::bad(Area::Listeners, name, why, advice))
}

/// Whether certificates could be ordered.
pub(super) async fn ordering(surroundings: &Surroundings<'_>) -> Vec<Finding> {
    match &surroundings.gateway.acme {
        None => Vec::new(),
        Some(acme) => vec![folder(acme), directory(surroundings, acme).await],
    }
}

fn folder(acme: &Acme) -> Finding {
    let folder = &acme.folder.value;
    let name = format!("acme.folder {}", folder.display());
    match writable(folder) {
        Ok(()) => Finding::good(Area::Listeners, name, "can be written"),
        Err(error) => Finding::bad(
            Area::Listeners,
            name,
            format!("cannot be written: {error}"),
            "let the user that the gateway runs as write there, and nobody else read it",
        ),
    }
}

async fn directory(surroundings: &Surroundings<'_>, acme: &Acme) -> Finding {
    let name = format!("acme.directory {}", acme.directory.value);
    match asked(surroundings, acme).await {
        Ok(()) => Finding::good(
            Area::Listeners,
            name,
            "it answers as a directory of ACME does",
        ),
        Err(why) => Finding::bad(
            Area::Listeners,
            name,
            why,
            "see that the URL is the CA's directory, that this machine may reach it, and that `acme.ca` vouches for it if it is not a public one",
        ),
    }
}

async fn asked(surroundings: &Surroundings<'_>, acme: &Acme) -> Result<(), String> {
    let roots = roots(acme.ca.as_ref(), "acme.ca").map_err(|error| error.to_string())?;
    let config = tls::client_config(&roots, &[b"http/1.1"]).map_err(|error| error.to_string())?;
    let client = Client::new(&config, Arc::clone(surroundings.resolver));
    let request = Request::get(acme.directory.value.clone()).body(Bytes::new());
    let request = request.map_err(|error| error.to_string())?;
    let answer = client.send(request, BOUNDS).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let said: Option<serde_json::Value> = serde_json::from_slice(answer.body()).ok();
    let is_directory = said.is_some_and(|said| said.get("newOrder").is_some());
    match (answer.status(), is_directory) {
        (StatusCode::OK, true) => Ok(()),
        (status, _) => Err(format!("what is there is no directory of ACME ({status})")),
    }
}
