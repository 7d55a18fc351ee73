//! Callers: persistent TLS connections, each with one request in flight.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use portcullis::clock::{Clock, SystemClock, pause};
use portcullis::demo::ca::Ca;
use portcullis::net::tls::{Roots, client_config};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Connections at once.
const CONNECTIONS: usize = 32;

pub(crate) struct Traffic {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    target: &'static str,
    token: String,
}

/// What one round measured.
#[derive(Clone, Default)]
pub(crate) struct Round {
    requests: usize,
    seconds: f64,
    /// Seconds of CPU that the proxy used.
    pub(crate) cpu: f64,
    /// Milliseconds, sorted.
    latencies: Vec<f64>,
}

impl Round {
    pub(crate) fn cpu_per_request(&self) -> f64 {
        self.cpu * 1e6 / self.requests as f64
    }

    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// Both rounds together.
    #[allow(dead_code, reason = "not every benchmark puts rounds together")]
    pub(crate) fn join(mut self, other: &Self) -> Self {
        self.requests += other.requests;
        self.seconds += other.seconds;
        self.cpu += other.cpu;
        self.latencies.extend(&other.latencies);
        self.latencies.sort_by(f64::total_cmp);
        self
    }

    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        self.latencies[(self.latencies.len() - 1) * percent / 100]
    }
}

impl Traffic {
    pub(crate) fn new(address: SocketAddr, ca: &Ca, target: &'static str, token: &str) -> Self {
        let config = client_config(&Roots::Pem(ca.pem().into()), &[b"http/1.1"]).expect("TLS");
        Self {
            address,
            config,
            target,
            token: token.to_owned(),
        }
    }

    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.expect("connected");
        stream.set_nodelay(true).expect("no delay");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(Arc::clone(&self.config))
            .connect(name, stream)
            .await
            .expect("TLS");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        sender
    }

    fn request(&self, token: &str) -> Request<Full<Bytes>> {
        Request::post(self.target)
            .header("host", "localhost")
            .header("user-agent", "load")
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(Bytes::from_static(
                br#"{"email":"guest@example.org"}"#,
            )))
            .expect("a request")
    }

    /// One request by itself: its status.
    pub(crate) async fn ask(&self, token: Option<&str>) -> u16 {
        let mut sender = self.connect().await;
        let request = self.request(token.unwrap_or(&self.token));
        sender
            .send_request(request)
            .await
            .expect("an answer")
            .status()
            .as_u16()
    }

    /// All connections for a while, as fast as they can.
    pub(crate) async fn run(&self, duration: Duration) -> Round {
        self.paced(duration, Duration::ZERO).await
    }

    /// All connections for a while, each with a rest after every answer.
    pub(crate) async fn paced(&self, duration: Duration, rest: Duration) -> Round {
        let mut senders = Vec::new();
        for _ in 0..CONNECTIONS {
            senders.push(self.connect().await);
        }
        let begun = SystemClock.now().instant;
        let callers = senders
            .into_iter()
            .map(|sender| self.call(sender, duration, rest));
        let latencies = futures_util::future::join_all(callers).await;
        let seconds = SystemClock
            .now()
            .instant
            .duration_since(begun)
            .as_secs_f64();
        let mut latencies: Vec<f64> = latencies.into_iter().flatten().collect();
        latencies.sort_by(f64::total_cmp);
        Round {
            requests: latencies.len(),
            seconds,
            cpu: 0.0,
            latencies,
        }
    }

    async fn call(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        duration: Duration,
        rest: Duration,
    ) -> Vec<f64> {
        let mut latencies = Vec::new();
        let begun = SystemClock.now().instant;
        let mut before = begun;
        while before.duration_since(begun) < duration {
            if !rest.is_zero() {
                pause(rest).await;
                before = SystemClock.now().instant;
            }
            sender.ready().await.expect("an open connection");
            let answer = sender
                .send_request(self.request(&self.token))
                .await
                .expect("an answer");
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.expect("a whole body");
            let now = SystemClock.now().instant;
            latencies.push(now.duration_since(before).as_secs_f64() * 1e3);
            before = now;
        }
        latencies
    }
}
