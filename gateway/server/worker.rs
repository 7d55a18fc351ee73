//! Worker threads: each accepts on a socket of its own and runs its connections on a runtime of its
//! own, so that no request ever waits for a lock or a thread of another.

use std::cell::Cell;
use std::io;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use super::connection::{Shared, serve_plain, serve_tls};
use super::drain::Drain;
use super::http1::{Authorizations, Dates};
use super::tls::TlsScratch;
use crate::clock::{pause, within};
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
    /// At once, for each worker. Further ones are closed as they come.
    pub max_connections: usize,
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
        drain: &Drain,
        make: impl Fn(usize) -> Worker + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let make = Arc::new(make);
        let abandon = watch::Sender::new(false);
        let (end, ended) = mpsc::channel(1);
        let mut threads = Vec::with_capacity(listeners.len());
        for (index, listener) in listeners.into_iter().enumerate() {
            let (make, drain, end) = (Arc::clone(&make), drain.clone(), end.clone());
            let (security, settings) = (security.clone(), settings.clone());
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
                    drain,
                    dates: Dates::default(),
                    authorizations: Authorizations::default(),
                    tls: TlsScratch::default(),
                });
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(shared, security, listener) => {}
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

/// How long a worker that drains still takes what the kernel has accepted already.
const LAST_ACCEPTS: Duration = Duration::from_millis(100);

async fn accept(shared: Rc<Shared>, security: Security, listener: StdListener) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let open = Rc::new(Open::default());
    let tidying = tokio::task::spawn_local(tidy(Rc::clone(&shared)));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => begin(&shared, &security, &open, stream, peer),
                // Out of descriptors, mostly: others must end before it is worth trying again.
                Err(_) => pause(Duration::from_millis(20)).await,
            },
            () = shared.drain.draining() => break,
        }
    }
    // What the kernel has accepted for us is ours to answer: closing would reset it.
    let last = async {
        while let Ok((stream, peer)) = listener.accept().await {
            begin(&shared, &security, &open, stream, peer);
        }
    };
    let _ = within(LAST_ACCEPTS, last).await;
    drop(listener);
    open.none().await;
    tidying.abort();
}

async fn tidy(shared: Rc<Shared>) {
    loop {
        pause(TIDY_EVERY).await;
        shared.worker.pools.tidy();
        shared.authorizations.tidy();
    }
}

fn begin(
    shared: &Rc<Shared>,
    security: &Security,
    open: &Rc<Open>,
    stream: TcpStream,
    peer: std::net::SocketAddr,
) {
    if open.count.get() >= shared.settings.max_connections {
        return;
    }
    // Without it small answers wait for acknowledgements; failing costs only that.
    let _ = stream.set_nodelay(true);
    let opened = Opened::new(open);
    let shared = Rc::clone(shared);
    let security = security.clone();
    tokio::task::spawn_local(async move {
        let _opened = opened;
        match security {
            Security::Tls(config) => serve_tls(shared, config, stream, peer).await,
            // Boxed, for the room that it takes would be in every connection.
            Security::Platform => Box::pin(serve_plain(shared, stream, peer)).await,
        }
    });
}

/// Counts the connections of a worker.
#[derive(Default)]
struct Open {
    count: Cell<usize>,
    closed: tokio::sync::Notify,
}

impl Open {
    async fn none(&self) {
        while self.count.get() > 0 {
            self.closed.notified().await;
        }
    }
}

struct Opened(Rc<Open>);

impl Opened {
    fn new(open: &Rc<Open>) -> Self {
        open.count.set(open.count.get() + 1);
        Self(Rc::clone(open))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        self.0.closed.notify_one();
    }
}
