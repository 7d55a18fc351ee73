//! What callers meet on one listener, as far as it changes with the files while they are served: TLS, and who judges
//! their certificates.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use rustls::version::{TLS12, TLS13};

use super::{ACME_PROTOCOL, Certificates, Clients, Origins, Terms, Tickets};
use crate::clock::Clock;
use crate::files::{CertificateHeader, Diagnostics, Listen, ListenTls, TlsPolicy};

/// What callers meet on one listener.
pub struct Front {
    tls: Option<Spoken>,
    /// Who judges certificates of callers, if they are asked for one.
    clients: Option<Arc<ArcSwap<Clients>>>,
    /// Whether callers are asked for certificates, and in which field these are passed on, if in any. It stays so until
    /// a restart.
    asks: Asks,
    clock: Arc<dyn Clock>,
}

/// Whether callers are asked for certificates, and in which field these are passed on, if in any.
type Asks = Option<Option<CertificateHeader>>;

/// TLS, where it ends here.
struct Spoken {
    certificates: Arc<Certificates>,
    config: Arc<ArcSwap<ServerConfig>>,
    /// What makes session tickets where no keys are written: kept, so that a reload ends no session.
    own_tickets: Arc<dyn ProducesTickets>,
    /// What makes them now: it goes on while the keys that are written are at fault.
    tickets: ArcSwap<Arc<dyn ProducesTickets>>,
}

impl Front {
    /// As a listener says. `None` when an error was added.
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn read(
        written: &Listen,
        origins: Origins<'_>,
        clock: &Arc<dyn Clock>,
        diagnostics: &mut Diagnostics,
    ) -> Result<Option<Self>, rustls::Error> {
        let clients = clients(written, diagnostics);
        let tls = match written.tls() {
            None => Some(None),
            Some(tls) => {
                let own_tickets = Ticketer::new()?;
                let certificates = Certificates::read(&tls.certificates, origins, diagnostics);
                let tickets = tickets(tls, &own_tickets, origins, clock, diagnostics);
                match (certificates, tickets, &clients) {
                    (Some(certificates), Some(tickets), Some(clients)) => {
                        let shaken = clients.as_ref().filter(|_| shakes(asks(written)));
                        let config = config(tls, &certificates, shaken, Arc::clone(&tickets))?;
                        Some(Some(Spoken {
                            certificates,
                            config: Arc::new(ArcSwap::from_pointee(config)),
                            own_tickets,
                            tickets: ArcSwap::from_pointee(tickets),
                        }))
                    }
                    _ => None,
                }
            }
        };
        let (Some(tls), Some(clients)) = (tls, clients) else {
            return Ok(None);
        };
        Ok(Some(Self {
            tls,
            asks: asks(written),
            clients: clients.map(|clients| Arc::new(ArcSwap::from_pointee(clients))),
            clock: Arc::clone(clock),
        }))
    }

    /// Takes up what the files say now. New connections get it; old ones go on. What cannot be read changes nothing.
    pub fn replace(&self, written: &Listen, origins: Origins<'_>, diagnostics: &mut Diagnostics) {
        // Whether callers are asked otherwise waits for a restart; certificates that end do not.
        let clients = match asks(written) == self.asks {
            true => clients(written, diagnostics),
            false => Some(self.clients.as_ref().map(|now| Clients::clone(&now.load()))),
        };
        if let (Some(now), Some(Some(clients))) = (&self.clients, &clients) {
            now.store(Arc::new(clients.clone()));
        }
        let (Some(spoken), Some(tls)) = (&self.tls, written.tls()) else {
            return;
        };
        let own = &spoken.own_tickets;
        if let Some(tickets) = tickets(tls, own, origins, &self.clock, diagnostics) {
            spoken.tickets.store(Arc::new(tickets));
        }
        let certificates = &spoken.certificates;
        certificates.replace(&tls.certificates, origins, diagnostics);
        // What else is at fault keeps nobody in who was shut out.
        if let Some(clients) = clients {
            let shaken = clients.as_ref().filter(|_| shakes(self.asks));
            let tickets = Arc::clone(&**spoken.tickets.load());
            if let Ok(config) = config(tls, certificates, shaken, tickets) {
                spoken.config.store(Arc::new(config));
            }
        }
    }

    /// The certificates that callers see, where TLS ends here.
    pub fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.tls.as_ref().map(|spoken| &spoken.certificates)
    }

    /// The settings of TLS, as they are from one moment to the next, where it ends here.
    pub fn config(&self) -> Option<&Arc<ArcSwap<ServerConfig>>> {
        self.tls.as_ref().map(|spoken| &spoken.config)
    }

    /// Who judges certificates of callers, if they are asked for one.
    pub fn clients(&self) -> Option<&Arc<ArcSwap<Clients>>> {
        self.clients.as_ref()
    }

    /// The same, where they are passed on by those in front.
    pub fn passed_on(&self) -> Option<&Arc<ArcSwap<Clients>>> {
        self.clients().filter(|_| !shakes(self.asks))
    }
}

fn asks(written: &Listen) -> Asks {
    let clients = written.client_certificates.as_ref();
    clients.map(|clients| clients.header)
}

/// Whether certificates of callers come in handshakes.
fn shakes(asks: Asks) -> bool {
    asks == Some(None)
}

/// Who judges certificates of callers, if they are asked for one. `None` when an error was added.
fn clients(written: &Listen, diagnostics: &mut Diagnostics) -> Option<Option<Clients>> {
    match &written.client_certificates {
        None => Some(None),
        Some(clients) => Clients::read(clients, diagnostics).map(Some),
    }
}

fn config(
    written: &ListenTls,
    certificates: &Arc<Certificates>,
    clients: Option<&Clients>,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, rustls::Error> {
    let terms = Terms {
        certificates,
        clients,
        versions: match written.policy {
            TlsPolicy::Modern => &[&TLS13],
            TlsPolicy::Intermediate => &[&TLS13, &TLS12],
        },
        // Who asks by the last is told nothing but a proof.
        protocols: &[b"h2", b"http/1.1", ACME_PROTOCOL],
        tickets: Some(tickets),
    };
    terms.config()
}

/// What makes session tickets. `None` when an error was added.
fn tickets(
    written: &ListenTls,
    own: &Arc<dyn ProducesTickets>,
    origins: Origins<'_>,
    clock: &Arc<dyn Clock>,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<dyn ProducesTickets>> {
    if written.ticket_keys.is_empty() {
        return Some(Arc::clone(own));
    }
    let tickets = Tickets::read(written, origins.presenting, clock, diagnostics)?;
    Some(Arc::new(tickets.ok()?))
}
