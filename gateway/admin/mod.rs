//! The admin address: health, readiness and metrics, for platforms and operators. Read only, and apart
//! from the callers' listener.

mod gauges;
mod policies;
mod readiness;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::body::Reply;
use crate::clock::{pause, within};
use crate::reload::Reloads;
use crate::telemetry::{Exposition, Gather};

pub use gauges::standing;
pub use readiness::{Check, Readiness, SERVING};

/// Probes and scrapers are few.
const MOST_CONNECTIONS: usize = 64;

/// A connection that is kept for the next probe is opened again now and then.
const LONGEST_CONNECTION: Duration = Duration::from_secs(60);

/// What the admin address answers from.
pub struct Admin {
    /// Whether the gateway is ready.
    pub readiness: Readiness,
    /// All metrics as they stand.
    pub gather: Gather,
    /// How reloads went.
    pub reloads: watch::Receiver<Reloads>,
}

impl Admin {
    /// Answers for ever.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Beyond the limit a connection is closed as it comes.
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                        continue;
                    };
                    let connection = Arc::clone(&self).connection(stream);
                    tokio::spawn(async move {
                        let _place = place;
                        within(LONGEST_CONNECTION, connection).await
                    });
                }
                Err(_) => pause(Duration::from_millis(20)).await,
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(|request: Request<Incoming>| {
            let answer = self.answer(
                request.method(),
                request.uri().path(),
                request.uri().query(),
            );
            async { Ok::<_, Infallible>(answer) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(30))
            .serve_connection(TokioIo::new(stream), service);
        // Whoever asks and leaves is no fault of ours.
        let _ = connection.await;
    }

    fn answer(&self, method: &Method, path: &str, query: Option<&str>) -> Response<Reply> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut refused = text(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD\n".to_owned(),
            );
            refused
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match path {
            "/livez" => text(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" | "/healthz" => self.ready(query == Some("verbose")),
            "/policies" => self.policies(),
            "/metrics" => text(StatusCode::OK, self.metrics()),
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /livez, /readyz (?verbose), /policies and /metrics\n".to_owned(),
            ),
        }
    }

    fn metrics(&self) -> String {
        Exposition::Text.write(&(self.gather)())
    }

    fn policies(&self) -> Response<Reply> {
        // In this order, a reload that counts as taken is never missing from what is in force.
        let reloads = self.reloads.borrow().clone();
        json(&policies::page(&self.readiness.snapshot.load(), &reloads))
    }

    fn ready(&self, verbose: bool) -> Response<Reply> {
        let checks = self.readiness.checks();
        let ready = checks.iter().all(|check| check.passes || !check.required);
        let (status, word) = match ready {
            true => (StatusCode::OK, "ok"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        };
        let mut body = String::new();
        if verbose {
            for check in &checks {
                body.push_str(&check.line());
            }
        }
        text(status, body + word + "\n")
    }
}

fn json(page: &serde_json::Value) -> Response<Reply> {
    let mut response = text(StatusCode::OK, format!("{page:#}\n"));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn text(status: StatusCode, body: String) -> Response<Reply> {
    let mut response = Response::new(Reply::full(body));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// Binds the admin address, on the runtime that will serve it.
///
/// # Errors
/// When the address cannot be bound.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}
