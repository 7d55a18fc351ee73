//! Worker threads: each accepts on a socket of its own and runs its connections on a runtime of its
//! own, so that no request ever waits for a lock or a thread of another.

use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use super::accept::{Gate, accept};
use super::connection::Shared;
use super::http1::{Authorizations, Dates};
use super::pace::MinRate;
use super::places::Places;
use super::present::Present;
use super::tls::TlsScratch;
use crate::clock::pause;
use crate::pipeline::Worker;

/// Limits on connections.
#[derive(Clone, Debug)]
pub struct ListenSettings {
    /// For a TLS handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a request's head to its last.
    pub header_timeout: Duration,
    /// Without a request on a connection.
    pub idle_timeout: Duration,
    /// At once, in all. Further ones are closed as they come.
    pub max_connections: usize,
    /// At once, from one address. Further ones are closed as they come.
    pub max_connections_per_address: Option<usize>,
    /// The slowest that callers may be, unless they may be as slow as they like.
    pub min_rate: Option<MinRate>,
    /// Requests on one connection.
    pub max_requests: Option<u64>,
    /// How long a connection may last.
    pub max_age: Duration,
    /// Whether the listening sockets end with this process, and nobody else holds them.
    pub is_sole: bool,
    /// Bytes of a request's head.
    pub max_head_bytes: usize,
    /// Requests in flight on one HTTP/2 connection.
    pub max_streams: u32,
}

/// How callers are spoken to.
#[derive(Clone, Debug)]
pub enum Security {
    /// With TLS.
    Tls(Arc<ServerConfig>),
    /// The platform in front of the gateway has ended TLS.
    Platform,
}

/// The running workers.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    abandon: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
}

impl Workers {
    /// Starts a worker on each listener. `make` is called on each worker's own thread.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be started.
    pub fn start(
        listeners: Vec<StdListener>,
        security: Security,
        settings: &ListenSettings,
        make: impl Fn(usize) -> Worker + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let make = Arc::new(make);
        let abandon = watch::Sender::new(false);
        let (end, ended) = mpsc::channel(1);
        let gate = Gate {
            places: Places::new(
                settings.max_connections,
                settings.max_connections_per_address,
            ),
            short: Arc::default(),
        };
        let mut threads = Vec::with_capacity(listeners.len());
        for (index, listener) in listeners.into_iter().enumerate() {
            let (make, end) = (Arc::clone(&make), end.clone());
            let (security, settings) = (security.clone(), settings.clone());
            let gate = gate.clone();
            let mut abandoned = abandon.subscribe();
            let (begun, begins) = std::sync::mpsc::sync_channel(1);
            let thread = std::thread::Builder::new().name(format!("worker-{index}"));
            threads.push(thread.spawn(move || {
                let _end = end;
                // A runtime that knows that it stays on its thread: what is spawned on it needs no second
                // queue, and no lock to be woken.
                let runtime = match Builder::new_current_thread()
                    .enable_all()
                    .build_local(LocalOptions::default())
                {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let _ = begun.send(Err(error));
                        return;
                    }
                };
                let _ = begun.send(Ok(()));
                let shared = Rc::new(Shared {
                    worker: make(index),
                    settings,
                    dates: Dates::default(),
                    authorizations: Authorizations::default(),
                    tls: TlsScratch::default(),
                    present: Present::default(),
                });
                runtime.block_on(async {
                    let tidying = tokio::task::spawn_local(tidy(Rc::clone(&shared)));
                    tokio::select! {
                        () = accept(shared, security, gate, listener) => tidying.abort(),
                        // Whoever is still being served after the drain's time is cut off.
                        _ = abandoned.wait_for(|abandoned| *abandoned) => {}
                    }
                });
            })?);
            let ended = |_| io::Error::other("the worker ended");
            begins.recv().map_err(ended)??;
        }
        Ok(Self {
            threads,
            abandon,
            ended,
        })
    }

    /// Completes when every worker has ended: all requests in flight when the drain began are answered.
    pub async fn ended(&mut self) {
        // Nobody sends; the channel closes when the last worker lets go of it.
        let _ = self.ended.recv().await;
    }

    /// Ends the workers now.
    pub fn abandon(self) {
        let _ = self.abandon.send(true);
        for thread in self.threads {
            // A worker that panicked has ended too.
            let _ = thread.join();
        }
    }
}

/// How often a worker looks after its idle connections.
const TIDY_EVERY: Duration = Duration::from_secs(15);

async fn tidy(shared: Rc<Shared>) {
    loop {
        pause(TIDY_EVERY).await;
        shared.worker.pools.tidy();
        shared.authorizations.tidy();
    }
}
