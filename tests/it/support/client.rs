//! Callers: HTTP/1.1 and HTTP/2 over real TLS, and raw bytes. Every answer is looked through for
//! planted secrets and for header fields that nobody has decided to send.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::net::tls::{Roots, client_config};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Stage;

/// A call that has not been made yet.
pub struct Call<'s> {
    stage: &'s Stage,
    request: http::request::Builder,
    target: String,
    body: Bytes,
    http2: bool,
    checked: bool,
    from: Ipv4Addr,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// The reason code of a problem.
    pub fn reason(&self) -> String {
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        problem["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// Status and reason of a refusal, or the status alone.
    pub fn verdict(&self) -> String {
        format!("{} {}", self.status.as_u16(), self.reason())
            .trim()
            .to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().expect("text"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What the gateway may send, or let through from the backends of the tests.
const KNOWN: &[&str] = &[
    "allow",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "date",
    "etag",
    "location",
    "proxy-status",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "te",
    "trailer",
    "transfer-encoding",
    "www-authenticate",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-request-id",
    "x-test",
    "x-ms-workflow-run-id",
    "grpc-status",
    "vary",
];

/// Parts of every secret that the tests plant.
const PLANTED: &[&str] = &["planted-", ".managed-identity"];

impl<'s> Call<'s> {
    pub(super) fn new(stage: &'s Stage, method: &str, target: &str) -> Self {
        Self {
            stage,
            request: Request::builder().method(method),
            target: target.to_owned(),
            body: Bytes::new(),
            http2: false,
            checked: true,
            from: Ipv4Addr::LOCALHOST,
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        let value = format!("Bearer {token}");
        self.header("authorization", &value)
    }

    /// With a good token of the marketing portal.
    pub fn portal(self) -> Self {
        let token = self.stage.portal_token();
        self.bearer(&token)
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// From another address of this machine.
    pub fn from(mut self, address: Ipv4Addr) -> Self {
        self.from = address;
        self
    }

    /// Does not look through the answer: for a backend that echoes what the test sent it.
    pub fn unchecked(mut self) -> Self {
        self.checked = false;
        self
    }

    /// Makes the call on a connection of its own.
    pub fn send(self) -> Answer {
        let runtime = &self.stage.runtime;
        runtime.block_on(self.sending())
    }

    /// The same, for several at once, on whatever thread.
    pub fn sending(self) -> impl Future<Output = Answer> + Send + use<> {
        let Self {
            stage,
            request,
            target,
            body,
            http2,
            checked,
            from,
        } = self;
        let alpn: &[u8] = if http2 { b"h2" } else { b"http/1.1" };
        let connecting = stage.tls_from(from, alpn);
        sent(connecting, request, target, body, http2, checked)
    }
}

async fn sent(
    connecting: impl Future<Output = TlsStream<TcpStream>>,
    request: http::request::Builder,
    target: String,
    body: Bytes,
    http2: bool,
    checked: bool,
) -> Answer {
    let io = TokioIo::new(connecting.await);
    let uri = match http2 {
        true => format!("https://localhost{target}"),
        false => target,
    };
    let mut request = request.uri(uri).body(Full::new(body)).expect("a request");
    let response = if http2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                .await
                .expect("HTTP/2");
        tokio::spawn(connection);
        sender.send_request(request).await.expect("an answer")
    } else {
        if !request.headers().contains_key("host") {
            request
                .headers_mut()
                .insert("host", "localhost".parse().expect("a value"));
        }
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
            .await
            .expect("HTTP/1.1");
        tokio::spawn(connection);
        sender.send_request(request).await.expect("an answer")
    };
    let answer = read(response).await;
    if checked {
        answer.check();
    }
    answer
}

async fn read(response: http::Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body");
    Answer {
        status: parts.status,
        headers: parts.headers,
        trailers: body.trailers().cloned(),
        body: body.to_bytes(),
    }
}

impl Answer {
    fn check(&self) {
        for name in self.headers.keys() {
            assert!(KNOWN.contains(&name.as_str()), "who sends {name}? {self:?}");
        }
        let everything = format!("{:?} {}", self.headers, self.text());
        for secret in PLANTED {
            assert!(!everything.contains(secret), "{secret} in {everything}");
        }
    }
}

impl Stage {
    /// A TLS connection to the gateway with one protocol offered.
    pub async fn tls(&self, alpn: &[u8]) -> TlsStream<TcpStream> {
        self.tls_from(Ipv4Addr::LOCALHOST, alpn).await
    }

    /// The same, from one of this machine's loopback addresses.
    pub fn tls_from(
        &self,
        from: Ipv4Addr,
        alpn: &[u8],
    ) -> impl Future<Output = TlsStream<TcpStream>> + Send + use<> {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("bound");
        self.tls_on(socket, alpn)
    }

    /// The same, on a socket that the test has prepared.
    pub fn tls_on(
        &self,
        socket: TcpSocket,
        alpn: &[u8],
    ) -> impl Future<Output = TlsStream<TcpStream>> + Send + use<> {
        self.tls_to(self.address, socket, alpn)
    }

    /// The same, to a gateway that listens elsewhere.
    pub fn tls_to(
        &self,
        address: SocketAddr,
        socket: TcpSocket,
        alpn: &[u8],
    ) -> impl Future<Output = TlsStream<TcpStream>> + Send + use<> {
        let roots = Roots::Pem(self.world.ca.pem().into());
        let config = client_config(&roots, &[alpn]).expect("TLS");
        async move {
            let stream = socket.connect(address).await.expect("connected");
            let name = ServerName::try_from("localhost").expect("a name");
            let connecting = TlsConnector::from(config).connect(name, stream);
            connecting.await.expect("a handshake")
        }
    }

    /// Sends bytes as they stand and returns what comes until the gateway closes the connection.
    pub fn raw(&self, bytes: &[u8]) -> String {
        self.runtime.block_on(async {
            let mut stream = self.tls(b"http/1.1").await;
            stream.write_all(bytes).await.expect("written");
            let mut answer = Vec::new();
            // A connection that is reset has said all it will.
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        })
    }
}
