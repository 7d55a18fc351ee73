//! New connections to backends.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::body::RequestBody;
use super::endpoint::Endpoint;
use crate::denial::{Denial, Reason};
use crate::files::Protocol;
use crate::net::address::Resolver;

/// A connection that takes requests.
pub(super) enum Connection {
    Http1(Http1),
    Http2(http2::SendRequest<RequestBody>),
}

/// An HTTP/1.1 connection. Dropping it closes it, whatever is still on its way on it: a caller's body
/// that the backend no longer waits for must not hold both ends open.
pub(super) struct Http1 {
    pub(super) sender: http1::SendRequest<RequestBody>,
    task: AbortHandle,
}

impl Drop for Http1 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs on this worker what hyper hands over.
#[derive(Clone, Copy)]
pub(super) struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// How often an HTTP/2 connection is asked whether it is alive, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(10);

/// Resolves, connects, proves the backend's identity and begins to speak HTTP.
pub(super) async fn connect(
    endpoint: &Endpoint,
    resolver: &Arc<dyn Resolver>,
) -> Result<Connection, Denial> {
    let stream = dial(endpoint, resolver).await?;
    let Some((config, name)) = &endpoint.tls else {
        return speak(endpoint.protocol, stream).await;
    };
    let connector = TlsConnector::from(Arc::clone(config));
    let stream = connector.connect(name.clone(), stream).await;
    let stream = stream.map_err(|error| {
        Denial::from(Reason::BackendTls).expected("a certificate that verifies", error.to_string())
    })?;
    speak(endpoint.protocol, stream).await
}

pub(super) async fn dial(
    endpoint: &Endpoint,
    resolver: &Arc<dyn Resolver>,
) -> Result<TcpStream, Denial> {
    let addresses = resolver.resolve(endpoint.dial_name(), endpoint.port).await;
    let addresses = addresses.map_err(|error| {
        Denial::from(Reason::BackendDns).expected("an address", error.to_string())
    })?;
    if addresses.is_empty() {
        return Err(Reason::BackendDns.into());
    }
    // One address that may not be dialled taints all: a name that also points at a metadata
    // endpoint is an attack or a mistake.
    if let Some(refused) = addresses
        .iter()
        .find(|address| !endpoint.may_dial(address.ip()))
    {
        return Err(Denial::from(Reason::BackendAddressRefused)
            .expected("an address that may be called", refused.ip().to_string()));
    }
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Without it small requests wait for acknowledgements; failing costs only that.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    let got = last.map_or_else(String::new, |error| error.to_string());
    Err(Denial::from(Reason::BackendConnectionRefused).expected("a connection", got))
}

async fn speak<IO>(protocol: Protocol, stream: IO) -> Result<Connection, Denial>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let broken = |error: hyper::Error| {
        Denial::from(Reason::BackendBroken).expected("HTTP", error.to_string())
    };
    let io = TokioIo::new(stream);
    match protocol {
        Protocol::Http1 => {
            let handshake = http1::Builder::new().handshake(io).await;
            let (sender, connection) = handshake.map_err(broken)?;
            // How it ends is told to whoever waits on the sender.
            let task = tokio::task::spawn_local(connection).abort_handle();
            Ok(Connection::Http1(Http1 { sender, task }))
        }
        Protocol::Http2 => {
            let mut builder = http2::Builder::new(Local);
            // A connection whose other end fell silent must not be used for ever.
            builder
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_EVERY)
                .keep_alive_while_idle(true);
            let (sender, connection) = builder.handshake(io).await.map_err(broken)?;
            Local.execute(connection);
            Ok(Connection::Http2(sender))
        }
    }
}
