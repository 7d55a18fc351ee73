//! How TLS is spoken on one listener: all that changes with the files while callers are served.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use rustls::version::{TLS12, TLS13};

use super::{Certificates, Terms, Tickets};
use crate::clock::Clock;
use crate::files::{Diagnostics, ListenTls, TlsPolicy};
use crate::upstream::Presenting;

/// TLS on one listener.
pub struct Front {
    certificates: Arc<Certificates>,
    config: Arc<ArcSwap<ServerConfig>>,
    /// What makes session tickets where no keys are written: kept, so that a reload ends no session.
    own_tickets: Arc<dyn ProducesTickets>,
    clock: Arc<dyn Clock>,
}

impl Front {
    /// As `listen.tls` says. `None` when an error was added.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn read(
        written: &ListenTls,
        presenting: Presenting<'_>,
        clock: &Arc<dyn Clock>,
        diagnostics: &mut Diagnostics,
    ) -> Result<Option<Self>, rustls::Error> {
        let own_tickets = Ticketer::new()?;
        let certificates = Certificates::read(&written.certificates, presenting, diagnostics);
        let tickets = tickets(written, &own_tickets, presenting, clock, diagnostics);
        let (Some(certificates), Some(tickets)) = (certificates, tickets) else {
            return Ok(None);
        };
        let config = config(written, &certificates, tickets)?;
        Ok(Some(Self {
            certificates,
            config: Arc::new(ArcSwap::from_pointee(config)),
            own_tickets,
            clock: Arc::clone(clock),
        }))
    }

    /// Takes up what the files say now. New connections get it; old ones go on. What cannot be read changes nothing.
    pub fn replace(
        &self,
        written: &ListenTls,
        presenting: Presenting<'_>,
        diagnostics: &mut Diagnostics,
    ) {
        let own = &self.own_tickets;
        let tickets = tickets(written, own, presenting, &self.clock, diagnostics);
        let written_certificates = &written.certificates;
        self.certificates
            .replace(written_certificates, presenting, diagnostics);
        let config = tickets.map(|tickets| config(written, &self.certificates, tickets));
        if let Some(Ok(config)) = config {
            self.config.store(Arc::new(config));
        }
    }

    /// The certificates.
    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// The settings, as they are from one moment to the next.
    pub fn config(&self) -> &Arc<ArcSwap<ServerConfig>> {
        &self.config
    }
}

fn config(
    written: &ListenTls,
    certificates: &Arc<Certificates>,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, rustls::Error> {
    let terms = Terms {
        certificates,
        clients: None,
        versions: match written.policy {
            TlsPolicy::Modern => &[&TLS13],
            TlsPolicy::Intermediate => &[&TLS13, &TLS12],
        },
        protocols: &[b"h2", b"http/1.1"],
        tickets: Some(tickets),
    };
    terms.config()
}

/// What makes session tickets. `None` when an error was added.
fn tickets(
    written: &ListenTls,
    own: &Arc<dyn ProducesTickets>,
    presenting: Presenting<'_>,
    clock: &Arc<dyn Clock>,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<dyn ProducesTickets>> {
    let Some(first) = written.ticket_keys.first() else {
        return Some(Arc::clone(own));
    };
    let keys = written.ticket_keys.iter();
    let places: Vec<_> = keys.map(|key| presenting.text(key, diagnostics)).collect();
    let places = places.into_iter().collect::<Option<Vec<_>>>()?;
    match Tickets::of(places, Arc::clone(clock)) {
        Ok(tickets) => Some(Arc::new(tickets)),
        Err(why) => {
            diagnostics
                .error(
                    &first.span,
                    format!("no session tickets can be made: {why}"),
                )
                .help("put 32 random bytes there in base64: `openssl rand -base64 32`");
            None
        }
    }
}
