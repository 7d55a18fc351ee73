//! Connections to the admin address.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::Admin;
use crate::clock::{pause, within};
use crate::telemetry::{Level, OnceAMinute, event};

/// Probes, scrapers and operators are few.
const MOST_CONNECTIONS: usize = 64;

const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);

/// From when a connection is taken, or was last answered on, to the end of a request's head.
const LONGEST_HEAD: Duration = Duration::from_secs(15);

/// A connection that is kept for the next probe is opened again now and then.
const LONGEST_CONNECTION: Duration = Duration::from_secs(60);

/// For how long an answer may go on that has no end of its own.
const LONGEST_ANSWER: Duration = Duration::from_secs(60 * 60);

/// A connection that was taken.
struct Held {
    task: AbortHandle,
    /// Whether a request is being answered on it.
    is_busy: Arc<AtomicBool>,
}

/// Those that were taken, the oldest first.
#[derive(Default)]
struct Crowd {
    held: VecDeque<Held>,
    /// That there are too many.
    told: OnceAMinute,
}

impl Crowd {
    /// Makes room for another: whoever has asked nothing for longest gives way, so that nobody keeps probes out by
    /// holding connections. `false` where all are busy.
    fn make_room(&mut self, now: Duration) -> bool {
        self.held.retain(|held| !held.task.is_finished());
        if self.held.len() < MOST_CONNECTIONS {
            return true;
        }
        if self.told.is_due(now) {
            let detail = format!(
                "more than {MOST_CONNECTIONS} connections to the admin address; those give way that ask nothing"
            );
            event(now, Level::Warning, "admin-crowded", &detail);
        }
        let idle = self
            .held
            .iter()
            .position(|held| !held.is_busy.load(Ordering::Relaxed));
        let idle = idle.and_then(|at| self.held.remove(at));
        if let Some(idle) = &idle {
            idle.task.abort();
        }
        idle.is_some()
    }
}

impl Admin {
    /// Answers for ever.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut crowd = Crowd::default();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Where all are being answered, a further one is closed as it comes.
                    if !crowd.make_room(self.readiness.clock.now().unix) {
                        continue;
                    }
                    let is_busy = Arc::new(AtomicBool::new(false));
                    let connection = Arc::clone(&self).begin(stream, Arc::clone(&is_busy));
                    let task = tokio::spawn(connection).abort_handle();
                    crowd.held.push_back(Held { task, is_busy });
                }
                Err(_) => pause(Duration::from_millis(20)).await,
            }
        }
    }

    async fn begin(self: Arc<Self>, stream: TcpStream, is_busy: Arc<AtomicBool>) {
        let Some(config) = self.protection.tls() else {
            return self.serve_on(stream, false, is_busy).await;
        };
        let handshake = TlsAcceptor::from(config).accept(stream);
        if let Some(Ok(stream)) = within(LONGEST_HANDSHAKE, handshake).await {
            // One that is not good ends the handshake.
            let by_certificate = stream.get_ref().1.peer_certificates().is_some();
            self.serve_on(stream, by_certificate, is_busy).await;
        }
    }

    async fn serve_on<IO>(
        self: Arc<Self>,
        stream: IO,
        by_certificate: bool,
        is_busy: Arc<AtomicBool>,
    ) where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let is_endless = Arc::new(AtomicBool::new(false));
        let service = service_fn(|request: Request<Incoming>| {
            let (admin, is_endless) = (Arc::clone(&self), Arc::clone(&is_endless));
            let is_busy = Arc::clone(&is_busy);
            async move {
                is_busy.store(true, Ordering::Relaxed);
                let answer = admin.answer(request, by_certificate).await;
                // What has no length goes on until somebody ends it.
                let length = answer.body().size_hint().exact();
                is_endless.store(length.is_none(), Ordering::Relaxed);
                is_busy.store(length.is_none(), Ordering::Relaxed);
                Ok::<_, Infallible>(answer)
            }
        });
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(LONGEST_HEAD)
                .serve_connection(TokioIo::new(stream), service)
        );
        // Whoever asks and leaves is no fault of ours.
        let ended = within(LONGEST_CONNECTION, connection.as_mut()).await;
        if ended.is_none() && is_endless.load(Ordering::Relaxed) {
            connection.as_mut().graceful_shutdown();
            let _ = within(LONGEST_ANSWER, connection).await;
        }
    }
}
