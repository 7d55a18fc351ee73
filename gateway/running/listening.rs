//! Listeners: their sockets, what is spoken on them, and what of it changes with the files.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use super::{Options, StartError, machine};
use crate::certificates::{Front, Origins};
use crate::clock::Clock;
use crate::drain::Drain;
use crate::files::{
    self, ClientMode, Diagnostics, ForwardedHeader, GatewayDocument, Listen, ListenTls, Speaks,
    TlsPolicy,
};
use crate::server::{
    self, Answers, Beside, Certified, Hops, ListenSettings, Listener, MinRate, Porter, SaidIn,
    Security,
};
use crate::telemetry::{Level, event};

/// What callers meet on each listener, in their order.
pub(super) type Fronts = Vec<Front>;

/// What callers meet on each listener. `None` when an error was added.
pub(super) fn fronts(
    gateway: &GatewayDocument,
    origins: Origins<'_>,
    clock: &Arc<dyn Clock>,
    diagnostics: &mut Diagnostics,
) -> Result<Option<Fronts>, StartError> {
    let front = |listen: &Listen| Front::read(listen, origins, clock, diagnostics);
    let fronts: Result<Vec<Option<Front>>, _> = gateway.listen.iter().map(front).collect();
    let fronts = fronts.map_err(machine("making the TLS settings"))?;
    Ok(fronts.into_iter().collect())
}

/// Takes up what the files say now of listeners that are still what they were at `first`, whatever else of them waits
/// for a restart: certificates end, and lists of what was withdrawn go out of date.
pub(super) fn replace(
    fronts: &Fronts,
    first: &GatewayDocument,
    gateway: &GatewayDocument,
    origins: Origins<'_>,
    diagnostics: &mut Diagnostics,
) {
    for (at, (front, before)) in fronts.iter().zip(&first.listen).enumerate() {
        let is_same = |now: &&Listen| now.address.value == before.address.value;
        // Several may have port 0, which is another for each.
        let place = first.listen.iter().take(at).filter(is_same).count();
        if let Some(now) = gateway.listen.iter().filter(is_same).nth(place) {
            front.replace(now, origins, diagnostics);
        }
    }
}

/// The listeners without what is taken up while they run.
pub(super) fn settled(listeners: &[Listen]) -> Vec<Listen> {
    let settled = listeners.iter().map(|listen| {
        let mut settled = listen.clone();
        if let Some(clients) = &mut settled.client_certificates {
            clients.mode = ClientMode::Request;
            clients.ca.value.clear();
            clients.crl.clear();
        }
        if listen.tls().is_some() {
            settled.speaks = Speaks::Tls(ListenTls {
                certificates: Vec::new(),
                policy: TlsPolicy::Intermediate,
                ticket_keys: Vec::new(),
            });
        }
        settled
    });
    settled.collect()
}

/// The sockets of all listeners.
pub(super) struct Listening {
    /// Those by which requests are forwarded.
    pub(super) listeners: Vec<Listener>,
    /// Those that answer plain HTTP.
    plain: Vec<(TcpListener, files::PlainHttp)>,
    /// Where each listens, in their order.
    pub(super) addresses: Vec<SocketAddr>,
}

impl Listening {
    /// Binds what is not handed over, a socket for each of `count` workers.
    pub(super) fn begin(
        mut handed: Vec<TcpListener>,
        gateway: &GatewayDocument,
        fronts: &Fronts,
        count: usize,
    ) -> Result<Self, StartError> {
        let mut listening = Self {
            listeners: Vec::new(),
            plain: Vec::new(),
            addresses: Vec::new(),
        };
        for (listen, front) in gateway.listen.iter().zip(fronts) {
            let address = listen.address.value;
            let mine = server::those_for(&mut handed, address);
            let is_sole = mine.is_empty();
            let beside = match listen.reuse_port {
                true => Beside::Another,
                false => Beside::Nobody,
            };
            let count = if listen.forwards() { count } else { 1 };
            let sockets = match is_sole {
                true => server::bind(address, count, beside),
                false => server::share_out(mine, address, count),
            };
            let sockets = sockets
                .map_err(|error| machine(format!("listening on {address}"))(explained(&error)))?;
            let bound = sockets.first().and_then(|socket| socket.local_addr().ok());
            listening.addresses.push(bound.unwrap_or(address));
            let security = match (&listen.speaks, front.config()) {
                (Speaks::Tls(_), Some(config)) => Security::Tls(Arc::clone(config)),
                (Speaks::Tls(_) | Speaks::Platform, _) => Security::Platform,
                (Speaks::Plain(plain), _) => {
                    let sockets = sockets.into_iter().map(|socket| (socket, *plain));
                    listening.plain.extend(sockets);
                    continue;
                }
            };
            listening.listeners.push(Listener {
                sockets,
                security,
                settings: settings(listen, front, is_sole),
            });
        }
        match handed.first().map(TcpListener::local_addr) {
            None => Ok(listening),
            Some(bound) => Err(machine("taking sockets over")(format!(
                "the socket that was handed over (LISTEN_FDS) is for {}, where no listener is written",
                bound.map_or_else(|error| error.to_string(), |bound| bound.to_string())
            ))),
        }
    }

    /// Begins to answer plain HTTP.
    pub(super) fn porters(
        &mut self,
        answers: &Answers,
        drain: &Drain,
    ) -> Result<Vec<Porter>, StartError> {
        let begin = |(socket, plain): (TcpListener, files::PlainHttp)| {
            let answers = Answers {
                redirect: plain.redirect,
                ready: answers.ready.clone().filter(|_| plain.probes),
                ..answers.clone()
            };
            Porter::start(socket, answers, drain.clone())
        };
        let porters: Result<Vec<_>, _> = self.plain.drain(..).map(begin).collect();
        porters.map_err(machine("starting to answer plain HTTP"))
    }
}

fn settings(listen: &Listen, front: &Front, is_sole: bool) -> ListenSettings {
    ListenSettings {
        handshake_timeout: listen.handshake_timeout,
        header_timeout: listen.header_timeout,
        idle_timeout: listen.idle_timeout,
        max_connections: listen.max_connections,
        max_connections_per_address: listen.max_connections_per_address,
        min_rate: (listen.min_rate > 0).then_some(MinRate {
            rate: listen.min_rate as u64,
            grace: listen.min_rate_grace,
        }),
        max_requests: listen.max_requests,
        max_age: listen.max_age,
        is_sole,
        max_head_bytes: listen.max_head_bytes,
        max_streams: listen.max_streams,
        hops: listen.trusted_hops.as_ref().map(hops).map(Arc::new),
        proxy_protocol: listen.proxy_protocol,
        certified: certified(listen, front),
    }
}

/// Why an address cannot be listened on, and what to do about it.
pub(crate) fn explained(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; take a port from 1024 on, or let systemd open it, or give the program the capability CAP_NET_BIND_SERVICE"
        }
        io::ErrorKind::AddrInUse => {
            "; end who listens there, take another port, or write `reusePort: true` to take over from another gateway"
        }
        io::ErrorKind::AddrNotAvailable => "; write an address that this machine has",
        _ => "",
    };
    format!("{error}{advice}")
}

/// Where certificates of callers come from, if they are asked for one.
fn certified(listen: &Listen, front: &Front) -> Certified {
    let header = listen.client_certificates.as_ref();
    let header = header.and_then(|written| written.header);
    match (header, front.passed_on()) {
        (Some(header), Some(clients)) => Certified::PassedOn {
            header,
            clients: Arc::clone(clients),
        },
        _ => Certified::Shaken,
    }
}

fn hops(written: &files::TrustedHops) -> Hops {
    let files::TrustedHops {
        networks,
        count,
        header,
        front_doors,
    } = written;
    Hops {
        networks: networks.clone(),
        count: *count,
        said_in: match header {
            ForwardedHeader::XForwardedFor => SaidIn::XForwardedFor,
            ForwardedHeader::Forwarded => SaidIn::Forwarded,
        },
        front_doors: front_doors.iter().map(ToString::to_string).collect(),
    }
}

/// Each connection of a caller's needs a descriptor, and mostly one to its backend. The soft limit is
/// often 1024; what is missing is told, since it would be felt only under attack.
pub(super) fn raise_descriptors(gateway: &GatewayDocument, options: &Options) {
    let forwarding = gateway.listen.iter().filter(|listen| listen.forwards());
    let connections: usize = forwarding.map(|listen| listen.max_connections).sum();
    let wanted = connections as u64 * 2 + 256;
    let raised = rlimit::increase_nofile_limit(wanted);
    if raised.as_ref().map_or(true, |limit| *limit < wanted) {
        let limit = raised.map_or_else(|error| error.to_string(), |limit| limit.to_string());
        let detail = format!(
            "{wanted} file descriptors would be needed for listen.maxConnections; the limit is {limit}"
        );
        event(
            options.clock.now().unix,
            Level::Warning,
            "few-descriptors",
            &detail,
        );
    }
}
