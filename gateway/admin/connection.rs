//! Connections to the admin address.

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
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::Admin;
use crate::clock::{pause, within};

/// Probes, scrapers and operators are few.
const MOST_CONNECTIONS: usize = 64;

const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection that is kept for the next probe is opened again now and then.
const LONGEST_CONNECTION: Duration = Duration::from_secs(60);

/// For how long an answer may go on that has no end of its own.
const LONGEST_ANSWER: Duration = Duration::from_secs(60 * 60);

impl Admin {
    /// Answers for ever.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Beyond the limit a connection is closed as it comes.
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                        continue;
                    };
                    let connection = Arc::clone(&self).begin(stream);
                    tokio::spawn(async move {
                        let _place = place;
                        connection.await;
                    });
                }
                Err(_) => pause(Duration::from_millis(20)).await,
            }
        }
    }

    async fn begin(self: Arc<Self>, stream: TcpStream) {
        let Some(config) = self.protection.tls() else {
            return self.serve_on(stream, false).await;
        };
        let handshake = TlsAcceptor::from(config).accept(stream);
        if let Some(Ok(stream)) = within(LONGEST_HANDSHAKE, handshake).await {
            // One that is not good ends the handshake.
            let by_certificate = stream.get_ref().1.peer_certificates().is_some();
            self.serve_on(stream, by_certificate).await;
        }
    }

    async fn serve_on<IO>(self: Arc<Self>, stream: IO, by_certificate: bool)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let is_endless = Arc::new(AtomicBool::new(false));
        let service = service_fn(|request: Request<Incoming>| {
            let (admin, is_endless) = (Arc::clone(&self), Arc::clone(&is_endless));
            async move {
                let answer = admin.answer(request, by_certificate).await;
                // What has no length goes on until somebody ends it.
                let length = answer.body().size_hint().exact();
                is_endless.store(length.is_none(), Ordering::Relaxed);
                Ok::<_, Infallible>(answer)
            }
        });
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(30))
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
