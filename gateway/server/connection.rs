//! One connection: TLS, then HTTP/1.1 or HTTP/2, each request through the pipeline, until the caller
//! leaves, is idle for too long, or the gateway drains.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::drain::{Drain, Phase};
use super::socket::Socket;
use super::stall::{Asking, Movement, WatchedBody, WatchedIo, still};
use super::wire::{Fault, Guard, HeadWatch};
use super::worker::ListenSettings;
use crate::clock::{pause, within};
use crate::denial::Reason;
use crate::pipeline::{self, Arrival, Worker};
use crate::upstream::Caller;

/// What the connections of a worker share.
pub(super) struct Shared {
    pub(super) worker: Worker,
    pub(super) settings: ListenSettings,
    pub(super) drain: Drain,
}

/// Runs on this worker what hyper hands over: the streams of HTTP/2.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// Serves a connection on which callers speak TLS.
pub(super) async fn serve_tls(
    shared: Rc<Shared>,
    config: Arc<ServerConfig>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    // Boxed, as are the requests below: what they need is given back when they are over, and a connection that
    // waits holds little.
    let handshake = Box::pin(TlsAcceptor::from(config).accept(Socket::new(stream)));
    let Some(Ok(stream)) = within(shared.settings.handshake_timeout, handshake).await else {
        return;
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let served = Served::new(shared, peer, Trust::Peer);
    match is_http2 {
        true => Box::pin(served.http2(stream)).await,
        false => served.http1(stream).await,
    }
}

/// Serves a connection behind a platform that has ended TLS in front of us.
pub(super) async fn serve_plain(shared: Rc<Shared>, stream: TcpStream, peer: SocketAddr) {
    // HTTP/2 begins with "PRI", and no method that we forward does.
    let mut first = [0; 3];
    let peeked = within(shared.settings.handshake_timeout, async {
        let mut wait = Duration::from_millis(1);
        loop {
            match stream.peek(&mut first).await {
                Ok(0) | Err(_) => return None,
                Ok(3) => return Some(first == *b"PRI"),
                // A lone "P" or "PR" is rare; more of it is on its way, or nothing ever is.
                Ok(_) => pause(wait).await,
            }
            wait = (wait * 2).min(Duration::from_millis(250));
        }
    });
    let Some(Some(is_http2)) = peeked.await else {
        return;
    };
    let served = Served::new(shared, peer, Trust::Platform);
    match is_http2 {
        true => Box::pin(served.http2(stream)).await,
        false => served.http1(stream).await,
    }
}

/// Whose word on the caller's address counts.
#[derive(Clone, Copy)]
enum Trust {
    /// Nobody's: the peer is the caller.
    Peer,
    /// The platform's, which appends the address that it saw to `X-Forwarded-For`.
    Platform,
}

struct Served {
    shared: Rc<Shared>,
    peer: SocketAddr,
    caller: Caller,
    trust: Trust,
    movement: Rc<Movement>,
}

impl Served {
    fn new(shared: Rc<Shared>, peer: SocketAddr, trust: Trust) -> Rc<Self> {
        Rc::new(Self {
            caller: Caller::new(peer.ip()),
            shared,
            peer,
            trust,
            movement: Rc::default(),
        })
    }

    async fn answer(
        self: Rc<Self>,
        framing: Option<Reason>,
        request: Request<Incoming>,
    ) -> Result<Response<WatchedBody>, Infallible> {
        let asking = Asking::begin(&self.movement);
        let platform = match self.trust {
            Trust::Peer => None,
            Trust::Platform => Some(forwarded_for(request.headers(), self.peer)),
        };
        let closing = request.version() < Version::HTTP_2
            && (framing.is_some() || self.shared.drain.phase() > Phase::Serving);
        let elsewhere = platform.map(|client| Caller::new(client.ip()));
        let arrival = Arrival {
            client: platform.unwrap_or(self.peer),
            caller: elsewhere.as_ref().unwrap_or(&self.caller),
            framing,
        };
        let mut response = pipeline::handle(&self.shared.worker, arrival, request).await;
        if closing {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        drop(asking);
        let movement = Rc::clone(&self.movement);
        Ok(response.map(|body| WatchedBody::new(body, movement)))
    }

    async fn http1<IO: AsyncRead + AsyncWrite + Unpin + 'static>(self: Rc<Self>, stream: IO) {
        let settings = &self.shared.settings;
        let stream = WatchedIo::new(stream, Rc::clone(&self.movement));
        let guard = Guard::new(stream, settings.max_head_bytes);
        let (fault, head): (Fault, HeadWatch) = (guard.fault(), guard.head_watch());
        let service =
            service_fn(|request| Box::pin(Rc::clone(&self).answer(fault.take(), request)));
        let mut builder = http1::Builder::new();
        // The time for a head is minded below, without a timer for each.
        builder.header_read_timeout(None);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(guard), service));
        let served = Rc::clone(&self);
        let minded = Minder::begin(async move {
            let settings = &served.shared.settings;
            tokio::select! {
                () = slow_head(&head, settings.header_timeout) => End::Now,
                () = served.movement.stalled(settings.idle_timeout) => End::Now,
                // In order: a request that comes this very moment is answered.
                () = served.movement.idle(settings.idle_timeout) => End::Gracefully(head),
                () = served.shared.drain.draining() => End::Gracefully(head),
            }
        });
        let head = tokio::select! {
            // A caller that breaks off is no fault of the gateway's.
            _ = connection.as_mut() => return,
            end = minded.end() => match end {
                End::Gracefully(head) => head,
                End::Now => return,
            }
        };
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection.as_mut() => {}
            () = slow_head(&head, settings.header_timeout) => {}
            () = self.movement.stalled(settings.idle_timeout) => {}
        }
    }

    async fn http2<IO: AsyncRead + AsyncWrite + Unpin + 'static>(self: Rc<Self>, stream: IO) {
        let settings = &self.shared.settings;
        let watched = WatchedIo::new(stream, Rc::clone(&self.movement));
        let service = service_fn(|request| Box::pin(Rc::clone(&self).answer(None, request)));
        let mut builder = http2::Builder::new(Local);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(settings.max_streams)
            .max_header_list_size(settings.max_head_bytes.try_into().unwrap_or(u32::MAX))
            .keep_alive_interval(settings.idle_timeout)
            .keep_alive_timeout(settings.header_timeout);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(watched), service));
        let served = Rc::clone(&self);
        let minded = Minder::begin(async move {
            let settings = &served.shared.settings;
            tokio::select! {
                () = served.shared.drain.draining() => End::Gracefully(()),
                () = served.movement.idle(settings.idle_timeout) => End::Gracefully(()),
                () = served.movement.stalled(settings.idle_timeout) => End::Now,
            }
        });
        tokio::select! {
            _ = connection.as_mut() => return,
            end = minded.end() => match end {
                End::Gracefully(()) => {}
                End::Now => return,
            }
        }
        // GOAWAY; what is in flight is answered, as long as somebody takes the answers.
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection => {}
            () = self.movement.idle(settings.idle_timeout) => {}
            () = self.movement.stalled(settings.idle_timeout) => {}
        }
    }
}

/// How a connection is to end.
enum End<T> {
    /// Whatever is on its way.
    Now,
    /// Once what is in flight is answered.
    Gracefully(T),
}

/// What says when a connection is to end. A task of its own, so that its timers are not looked at whenever
/// something moves on the connection.
struct Minder<T>(JoinHandle<End<T>>);

impl<T: 'static> Minder<T> {
    fn begin(minding: impl Future<Output = End<T>> + 'static) -> Self {
        Self(tokio::task::spawn_local(minding))
    }

    async fn end(mut self) -> End<T> {
        // A minder that cannot go on minds nothing.
        (&mut self.0).await.unwrap_or(End::Now)
    }
}

impl<T> Drop for Minder<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Completes when one head has been incomplete for as long as a head may take.
async fn slow_head(watch: &HeadWatch, timeout: Duration) {
    still(timeout, || watch.incomplete()).await;
}

/// The caller's address as the platform saw it: the last entry, for the platform appends, and all
/// before it is the caller's own word. App Service writes a port behind the address.
fn forwarded_for(headers: &HeaderMap, peer: SocketAddr) -> SocketAddr {
    let last = headers.get_all("x-forwarded-for").iter().next_back();
    let last = last.and_then(|value| value.to_str().ok()?.rsplit(',').next());
    let entry = last.unwrap_or_default().trim();
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    let address: Option<IpAddr> = bare.parse().ok();
    let address = address.map(|address| SocketAddr::new(address, 0));
    address.or_else(|| entry.parse().ok()).unwrap_or(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platforms_word_on_the_caller_is_the_last_entry() {
        let peer: SocketAddr = "10.0.0.1:1".parse().expect("an address");
        for (lines, expected) in [
            (vec!["203.0.113.7"], "203.0.113.7:0"),
            (vec!["1.1.1.1, 203.0.113.7:4711"], "203.0.113.7:4711"),
            (vec!["1.1.1.1", "203.0.113.7"], "203.0.113.7:0"),
            (vec!["[2001:db8::1]:443"], "[2001:db8::1]:443"),
            (vec!["[2001:db8::1]"], "[2001:db8::1]:0"),
            (vec!["2001:db8::1"], "[2001:db8::1]:0"),
            (vec!["unknown"], "10.0.0.1:1"),
            (vec![], "10.0.0.1:1"),
        ] {
            let mut headers = HeaderMap::new();
            for line in &lines {
                headers.append("x-forwarded-for", HeaderValue::from_static(line));
            }
            assert_eq!(
                forwarded_for(&headers, peer).to_string(),
                expected,
                "{lines:?}"
            );
        }
    }
}
