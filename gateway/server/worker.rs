//! Worker threads: each accepts on a socket of its own and runs its connections on a runtime of its
//! own, so that no request ever waits for a lock or a thread of another.

use std::io;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use rustls::ServerConfig;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use super::accept::{Gate, accept};
use super::certified::Certified;
use super::connection::Common;
use super::hops::Hops;
use super::pace::MinRate;
use super::places::Places;
use super::shortage::Scarce;
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
    /// Those who may speak for callers, if anybody may.
    pub hops: Option<Arc<Hops>>,
    /// Whether the PROXY protocol is spoken in front of each connection.
    pub proxy_protocol: bool,
    /// Where certificates of callers come from.
    pub certified: Certified,
}

/// Where callers connect, and how they are served there.
pub struct Listener {
    /// A socket for each worker.
    pub sockets: Vec<StdListener>,
    /// What is spoken.
    pub security: Security,
    /// Limits on connections.
    pub settings: ListenSettings,
}

/// How callers are spoken to.
#[derive(Clone, Debug)]
pub enum Security {
    /// With TLS, by the settings as they are when a connection begins.
    Tls(Arc<ArcSwap<ServerConfig>>),
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
    /// Starts `count` workers, each on a socket of each listener. `make` is called on each worker's own thread.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be started.
    pub fn start(
        count: usize,
        listeners: Vec<Listener>,
        make: impl Fn(usize) -> Worker + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let make = Arc::new(make);
        let abandon = watch::Sender::new(false);
        let (end, ended) = mpsc::channel(1);
        let mut threads = Vec::with_capacity(count);
        for (index, doors) in doors(count, listeners).into_iter().enumerate() {
            let (make, end) = (Arc::clone(&make), end.clone());
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
                let common = Common::of(make(index));
                runtime.block_on(async {
                    let tidying = tokio::task::spawn_local(tidy(common.clone()));
                    let accepting = doors.into_iter().map(|door| {
                        let Door {
                            socket,
                            security,
                            settings,
                            gate,
                        } = door;
                        accept(common.listening(settings), security, gate, socket)
                    });
                    tokio::select! {
                        _ = join_all(accepting) => tidying.abort(),
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

/// One listener, as a worker has it.
struct Door {
    socket: StdListener,
    security: Security,
    settings: ListenSettings,
    gate: Gate,
}

/// The listeners of each worker.
fn doors(count: usize, listeners: Vec<Listener>) -> Vec<Vec<Door>> {
    let scarce = Arc::new(Scarce::new());
    let mut doors: Vec<Vec<Door>> = (0..count).map(|_| Vec::new()).collect();
    for listener in listeners {
        let Listener {
            sockets,
            security,
            settings,
        } = listener;
        let gate = Gate {
            places: Places::new(
                settings.max_connections,
                settings.max_connections_per_address,
            ),
            scarce: Arc::clone(&scarce),
        };
        for (socket, doors) in sockets.into_iter().zip(&mut doors) {
            doors.push(Door {
                socket,
                security: security.clone(),
                settings: settings.clone(),
                gate: gate.clone(),
            });
        }
    }
    doors
}

/// How often a worker looks after its idle connections.
const TIDY_EVERY: Duration = Duration::from_secs(15);

async fn tidy(common: Common) {
    loop {
        pause(TIDY_EVERY).await;
        common.worker.pools.tidy();
        common.authorizations.tidy();
    }
}
