//! New connections to backends.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::body::RequestBody;
use super::endpoint::Endpoint;
use super::http1::Wire;
use crate::clock::{pause, within};
use crate::denial::{Denial, Reason};
use crate::files::Timeouts;
use crate::net::address::Resolver;
use crate::net::descriptors;

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

/// Resolves, connects, and has the backend prove its identity, each in its time.
pub(super) async fn connect(
    endpoint: &Endpoint,
    resolver: &Arc<dyn Resolver>,
    timeouts: &Timeouts,
) -> Result<Wire, Denial> {
    let dialled = within(timeouts.connect, dial(endpoint, resolver)).await;
    let late = || late(Reason::BackendConnectTimeout, "connect", timeouts.connect);
    let stream = dialled.ok_or_else(late)??;
    let Some(tls) = &endpoint.tls else {
        return Ok(Wire::Plain(stream));
    };
    // Boxed: who connects without it needs no room for it.
    let proved = Box::pin(within(timeouts.tls, prove(tls, stream))).await;
    let late = || self::late(Reason::BackendTlsTimeout, "tls", timeouts.tls);
    Ok(Wire::Tls(Box::new(proved.ok_or_else(late)??)))
}

/// Has the backend prove that it is the one.
pub(super) async fn prove(
    (config, name): &(Arc<ClientConfig>, ServerName<'static>),
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Denial> {
    let connector = TlsConnector::from(Arc::clone(config));
    let proved = connector.connect(name.clone(), stream).await;
    proved.map_err(|error| failed(Reason::BackendTls, "a certificate that verifies", &error))
}

/// A limit has passed; which one is for the log alone.
pub(super) fn late(reason: Reason, limit: &str, duration: Duration) -> Denial {
    Denial::from(reason).expected(format!("no longer than `{limit}`, {duration:?}"), "longer")
}

/// Resolves and connects.
pub(super) async fn dial(
    endpoint: &Endpoint,
    resolver: &Arc<dyn Resolver>,
) -> Result<TcpStream, Denial> {
    let found = resolver.resolve(endpoint.dial_name(), endpoint.port).await;
    let found = found.map_err(|error| failed(Reason::BackendDns, "an address", &error))?;
    let addresses = found.addresses;
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
    let stream = race(interleaved(addresses)).await;
    let stream = stream.map_err(unconnected)?;
    // Without it small requests wait for acknowledgements; failing costs only that.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// No connection came about.
pub(super) fn unconnected(error: io::Error) -> Denial {
    failed(Reason::BackendConnectionRefused, "a connection", &error)
}

/// What was wanted did not come about. That the gateway has no descriptors left is not the backend's fault.
fn failed(reason: Reason, wanted: &str, error: &io::Error) -> Denial {
    match descriptors::are_out(error) {
        true => Denial::from(Reason::DescriptorsExhausted).retry_after(Duration::from_secs(1)),
        false => Denial::from(reason).expected(wanted, error.to_string()),
    }
}

/// When the next address is tried beside the one before (RFC 8305 section 5).
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// More addresses than this are not tried.
const MOST_ADDRESSES: usize = 8;

/// One address of each family in turn, beginning with the first (RFC 8305 section 4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_first_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == is_first_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let pairs = std::iter::from_fn(|| {
        let pair = [first.next(), second.next()];
        pair.iter().any(Option::is_some).then_some(pair)
    });
    pairs.flatten().flatten().take(MOST_ADDRESSES).collect()
}

/// The first connection that comes about: the next address is tried when the one before fails, or takes long.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    attempts.extend(addresses.next().map(TcpStream::connect));
    loop {
        tokio::select! {
            connected = attempts.next() => match connected {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => match addresses.next() {
                    Some(next) => attempts.push(TcpStream::connect(next)),
                    None if attempts.is_empty() => return Err(error),
                    None => {}
                },
                None => return Err(io::ErrorKind::NotFound.into()),
            },
            () = pause(NEXT_AFTER), if addresses.len() > 0 => {
                attempts.extend(addresses.next().map(TcpStream::connect));
            }
        }
    }
}

/// Begins to speak HTTP/2.
pub(super) async fn speak_http2(wire: Wire) -> Result<http2::SendRequest<RequestBody>, Denial> {
    let mut builder = http2::Builder::new(Local);
    // A connection whose other end fell silent must not be used for ever.
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .keep_alive_while_idle(true);
    let shaken = builder.handshake(TokioIo::new(wire)).await;
    let (sender, connection) = shaken
        .map_err(|error| Denial::from(Reason::BackendBroken).expected("HTTP", error.to_string()))?;
    Local.execute(connection);
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_take_turns() {
        for (addresses, expected) in [
            ("6a 6b 4a 4b", "6a 4a 6b 4b"),
            ("4a 6a 6b 6c", "4a 6a 6b 6c"),
            ("4a 4b 4c 6a", "4a 6a 4b 4c"),
            ("4a", "4a"),
            ("", ""),
            ("6a 6b 6c 6d 6e 6f 4a 4b 4c 4d", "6a 4a 6b 4b 6c 4c 6d 4d"),
        ] {
            let read = |word: &str| {
                let ip = match word.split_at(1) {
                    ("6", letter) => format!("[2001:db8::{letter}]"),
                    (_, letter) => format!(
                        "192.0.2.{}",
                        u32::from_str_radix(letter, 16).expect("a letter")
                    ),
                };
                format!("{ip}:443")
                    .parse::<SocketAddr>()
                    .expect("an address")
            };
            let read = |words: &str| words.split_whitespace().map(read).collect::<Vec<_>>();
            assert_eq!(interleaved(read(addresses)), read(expected), "{addresses}");
        }
    }
}
