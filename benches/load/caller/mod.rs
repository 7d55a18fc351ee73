//! Callers: what they send, how they connect, and what they saw.

pub(crate) mod handshake;
pub(crate) mod http1;
pub(crate) mod http2;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use portcullis::clock::{Clock as _, SystemClock};
use portcullis::demo::ca::Ca;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tokens::Request;

/// What callers send, each request in turn over and over, or none twice.
#[derive(Clone)]
pub(crate) struct Supply {
    pub(crate) requests: Arc<Vec<Request>>,
    next: Arc<AtomicUsize>,
    /// Requests of a round, where none may be sent twice.
    pub(crate) once: Option<usize>,
}

impl Supply {
    pub(crate) fn new(requests: Arc<Vec<Request>>, once: Option<usize>) -> Self {
        Self {
            requests,
            next: Arc::default(),
            once,
        }
    }

    pub(crate) fn next(&self) -> &Request {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(
            self.once.is_none() || at < self.requests.len(),
            "a request would be sent twice"
        );
        &self.requests[at % self.requests.len()]
    }
}

/// What a round of callers goes by.
pub(crate) struct Work {
    supply: Supply,
    status: u16,
    begun: Instant,
    until: Instant,
    left: AtomicUsize,
}

impl Work {
    pub(crate) fn new(supply: &Supply, status: u16, duration: Duration) -> Self {
        let begun = now();
        Self {
            supply: supply.clone(),
            status,
            begun,
            until: begun + duration,
            left: AtomicUsize::new(supply.once.unwrap_or(usize::MAX)),
        }
    }

    /// The next request, until time or requests have run out.
    fn next(&self, now: Instant) -> Option<&Request> {
        let left = self.left.load(Ordering::Relaxed);
        if now >= self.until || left == 0 {
            return None;
        }
        self.left.store(left - 1, Ordering::Relaxed);
        Some(self.supply.next())
    }

    /// Are refusals what is measured?
    fn refused(&self) -> bool {
        self.status != 200
    }

    /// What a caller has to say who was answered otherwise than it should be.
    fn check(&self, status: u16) -> Result<(), String> {
        if status == self.status {
            return Ok(());
        }
        Err(format!("answered {status} instead of {}", self.status))
    }
}

/// What one round saw.
#[derive(Clone, Default)]
pub(crate) struct Round {
    /// Milliseconds, sorted.
    latencies: Vec<f64>,
    pub(crate) seconds: f64,
    /// Seconds of CPU that the proxy used.
    pub(crate) cpu: f64,
    /// MiB that the proxy held at the end, with all connections open.
    pub(crate) memory: f64,
    /// Handshakes that resumed a session.
    pub(crate) resumed: usize,
    /// Connections that were closed after an answer.
    pub(crate) anew: usize,
}

impl Round {
    fn new(mut latencies: Vec<f64>, seconds: f64) -> Self {
        latencies.sort_by(f64::total_cmp);
        Self {
            latencies,
            seconds,
            ..Self::default()
        }
    }

    pub(crate) fn requests(&self) -> usize {
        self.latencies.len()
    }

    /// Microseconds.
    pub(crate) fn cpu_per_request(&self) -> f64 {
        self.cpu * 1e6 / self.requests() as f64
    }

    /// A second.
    pub(crate) fn rate(&self) -> f64 {
        self.requests() as f64 / self.seconds
    }

    /// Milliseconds, below which so many of a thousand requests were.
    pub(crate) fn permille(&self, share: usize) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies
            .get(last * share / 1000)
            .copied()
            .unwrap_or_default()
    }

    /// Both rounds together.
    #[allow(dead_code, reason = "not every benchmark puts rounds together")]
    pub(crate) fn join(mut self, other: &Self) -> Self {
        self.latencies.extend(&other.latencies);
        self.seconds += other.seconds;
        self.cpu += other.cpu;
        Self {
            cpu: self.cpu,
            ..Self::new(self.latencies, self.seconds)
        }
    }
}

/// Where callers connect, and by what protocol.
#[derive(Clone)]
pub(crate) struct Door {
    address: SocketAddr,
    /// `None`: no TLS.
    tls: Option<Arc<ClientConfig>>,
}

impl Door {
    pub(crate) fn new(address: SocketAddr, ca: &Ca, alpn: Option<&[u8]>) -> Self {
        Self {
            address,
            tls: alpn.map(|alpn| Arc::new(config(ca, alpn))),
        }
    }

    async fn tcp(&self) -> Result<TcpStream, String> {
        let stream = TcpStream::connect(self.address).await.map_err(said)?;
        stream.set_nodelay(true).map_err(said)?;
        Ok(stream)
    }

    /// A connection with TLS.
    pub(crate) async fn connect(&self) -> Result<TlsStream<TcpStream>, String> {
        let config = self.tls.clone().ok_or("there is no TLS")?;
        self.tls(config).await
    }

    async fn tls(&self, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, String> {
        let stream = self.tcp().await?;
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(config);
        connector.connect(name, stream).await.map_err(said)
    }
}

/// X25519 is the one key exchange that is offered, since all proxies here know it: where a caller offers
/// more, some choose a post-quantum one or ask for a second hello, and handshakes could not be compared.
fn config(ca: &Ca, alpn: &[u8]) -> ClientConfig {
    let provider = CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(ca.pem().as_bytes()).expect("a certificate");
    roots.add(root).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

pub(crate) fn now() -> Instant {
    SystemClock.now().instant
}

/// Milliseconds between two moments.
pub(crate) fn between(begun: Instant, ended: Instant) -> f64 {
    ended.saturating_duration_since(begun).as_secs_f64() * 1e3
}

pub(crate) fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Waits for callers that run by themselves, and gathers what each brings.
async fn gather<T: 'static>(mut running: JoinSet<Result<T, String>>) -> Result<Vec<T>, String> {
    let mut all = Vec::new();
    while let Some(one) = running.join_next().await {
        all.push(one.map_err(said)??);
    }
    Ok(all)
}
