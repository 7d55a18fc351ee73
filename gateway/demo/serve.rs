//! The small server under each part of the demo: loopback, any free port, TLS or not, HTTP/1.1 or
//! HTTP/2, gone when its handle is dropped.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// An answer of the demo's.
pub type Answer = Response<Full<Bytes>>;

/// An answer that refuses. Boxed, for it stands in the `Err` of what mostly goes well.
pub(super) type Refused = Box<Answer>;

/// A request with its body in memory.
pub type Whole = Request<Bytes>;

/// A server that runs as long as this is held.
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves on a free loopback port. `None` from `answer` closes the connection without an answer.
///
/// # Errors
/// When no port is free.
pub async fn serve<A, F>(tls: Option<Arc<ServerConfig>>, answer: A) -> io::Result<Served>
where
    A: Fn(Whole) -> F + Send + Sync + 'static,
    F: Future<Output = Option<Answer>> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let acceptor = tls.map(TlsAcceptor::from);
    let answer = Arc::new(answer);
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // As Azure's own: an answer does not wait until the ticket of the handshake is acknowledged, 40 ms at worst.
            let _ = stream.set_nodelay(true);
            let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
            tokio::spawn(async move {
                match acceptor {
                    None => connection(stream, false, answer).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                            connection(stream, is_http2, answer).await;
                        }
                    }
                }
            });
        }
    });
    Ok(Served { address, task })
}

async fn connection<IO, A, F>(stream: IO, is_http2: bool, answer: Arc<A>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Whole) -> F + Send + Sync + 'static,
    F: Future<Output = Option<Answer>> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = Arc::clone(&answer);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes());
            let request = Request::from_parts(parts, body.unwrap_or_default());
            answer(request).await.ok_or(NoAnswer)
        }
    });
    let io = TokioIo::new(stream);
    // Whoever breaks off is no fault of the demo's.
    if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        let _ = builder
            .timer(TokioTimer::new())
            .serve_connection(io, service)
            .await;
    } else {
        let mut builder = http1::Builder::new();
        let _ = builder
            .timer(TokioTimer::new())
            .serve_connection(io, service)
            .await;
    }
}

/// The connection is closed instead of answered.
#[derive(Debug)]
struct NoAnswer;

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no answer")
    }
}

impl std::error::Error for NoAnswer {}

impl From<Infallible> for NoAnswer {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// An answer in JSON.
pub fn json(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// An answer with a field, if there is a value that can stand in one.
pub(super) fn with_field(mut answer: Answer, name: HeaderName, value: Option<&str>) -> Answer {
    if let Some(Ok(value)) = value.map(HeaderValue::from_str) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// Text without its percent codes.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match byte {
            b'%' => match (hex(rest.next()), hex(rest.next())) {
                (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
                _ => bytes.push(b'?'),
            },
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The parameters of a query or a form, decoded.
pub fn parameters(text: &str) -> Vec<(String, String)> {
    let decode = |part: &str| decoded(&part.replace('+', " "));
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

/// The first parameter of a name.
pub fn parameter(parameters: &[(String, String)], name: &str) -> Option<String> {
    let found = parameters.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.clone())
}

/// The first parameter of a name, whatever its case: .NET reads queries so.
pub(super) fn parameter_of_any_case(parameters: &[(String, String)], name: &str) -> Option<String> {
    let mut known = parameters.iter();
    let found = known.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.clone())
}
