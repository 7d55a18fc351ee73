//! A connection that is kept for the next request, to a place that is called again and again: where telemetry goes.
//! One request at a time; a connection that fails is made anew for the next.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};

use super::address::Resolver;
use super::client::{Bounds, Client, FetchError, Target, connect, whole};
use crate::clock::within;

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, without asking over plain connections.
    Http2,
}

impl Protocol {
    const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// The connection, and how to make another.
pub struct Channel {
    client: Client,
    protocol: Protocol,
    /// The connection, and to whom it is.
    open: Option<(Target, Open)>,
}

enum Open {
    Http1(http1::SendRequest<Pieces>),
    Http2(http2::SendRequest<Pieces>),
}

/// A body in pieces, which are sent as they are and not put together first.
#[derive(Debug)]
pub struct Pieces(VecDeque<Bytes>);

impl Pieces {
    /// These, one behind the other.
    pub fn new(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        // An empty one would look like the end.
        Self(
            pieces
                .into_iter()
                .filter(|piece| !piece.is_empty())
                .collect(),
        )
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

impl Channel {
    /// None yet. It trusts as `tls` says; plain http goes to this machine alone, unless `plain` says otherwise.
    pub fn new(
        tls: &ClientConfig,
        protocol: Protocol,
        resolver: Arc<dyn Resolver>,
        plain: bool,
    ) -> Self {
        let mut tls = tls.clone();
        tls.alpn_protocols = vec![protocol.alpn().to_vec()];
        let client = Client::offering(tls, resolver);
        Self {
            client: if plain { client.allow_plain() } else { client },
            protocol,
            open: None,
        }
    }

    /// Sends a request, whose URI is absolute, and reads the whole answer; a trailer counts as a field.
    ///
    /// # Errors
    /// When there is no answer. The connection is given up then.
    pub async fn send(
        &mut self,
        request: Request<Pieces>,
        bounds: Bounds,
    ) -> Result<Response<Bytes>, FetchError> {
        let target = Target::of(request.uri())?;
        let outcome = within(bounds.timeout, self.exchange(&target, request, bounds)).await;
        let outcome = outcome.unwrap_or_else(|| Err(FetchError::Timeout(target.host.clone())));
        if outcome.is_err() {
            self.open = None;
        }
        outcome
    }

    /// Makes a connection to where a URI leads, and gives it up again. Nothing is asked.
    ///
    /// # Errors
    /// When there is none.
    pub async fn reach(&self, uri: &Uri, timeout: Duration) -> Result<(), FetchError> {
        let target = Target::of(uri)?;
        let opened = within(timeout, self.connect(&target, timeout)).await;
        let opened = opened.unwrap_or_else(|| Err(FetchError::Timeout(target.host.clone())));
        opened.map(drop)
    }

    async fn exchange(
        &mut self,
        target: &Target,
        request: Request<Pieces>,
        bounds: Bounds,
    ) -> Result<Response<Bytes>, FetchError> {
        let ready = match &mut self.open {
            // Whom it was opened to may have sent us elsewhere.
            Some((to, _)) if to != target => false,
            Some((_, Open::Http1(sender))) => sender.ready().await.is_ok(),
            Some((_, Open::Http2(sender))) => sender.ready().await.is_ok(),
            None => false,
        };
        if !ready {
            let open = self.connect(target, bounds.timeout).await?;
            self.open = Some((target.clone(), open));
        }
        let request = self.form(target, request);
        let answer = match &mut self.open {
            Some((_, Open::Http1(sender))) => sender.send_request(request).await,
            Some((_, Open::Http2(sender))) => sender.send_request(request).await,
            None => return Err(FetchError::BadRequest("there is no connection")),
        };
        let answer = answer.map_err(|cause| target.broke_off(cause))?;
        whole(target, answer, bounds.max_body).await
    }

    /// The request as its protocol wants it.
    fn form(&self, target: &Target, request: Request<Pieces>) -> Request<Pieces> {
        let (mut parts, body) = request.into_parts();
        match self.protocol {
            Protocol::Http1 => {
                let path = parts.uri.path_and_query().cloned();
                let root = || PathAndQuery::from_static("/");
                parts.uri = Uri::from(path.unwrap_or_else(root));
                parts.version = Version::HTTP_11;
                parts.headers.insert(header::HOST, target.authority.clone());
            }
            Protocol::Http2 => {
                parts.version = Version::HTTP_2;
                parts
                    .headers
                    .insert(header::TE, HeaderValue::from_static("trailers"));
            }
        }
        Request::from_parts(parts, body)
    }

    async fn connect(&self, target: &Target, timeout: Duration) -> Result<Open, FetchError> {
        let addresses = self.client.addresses(target).await?;
        let tcp = connect(target, &addresses, timeout).await?;
        match target.tls {
            true => {
                let tls = self.client.secure(target, tcp).await?;
                self.shake_hands(target, tls).await
            }
            false => self.shake_hands(target, tcp).await,
        }
    }

    async fn shake_hands<S>(&self, target: &Target, stream: S) -> Result<Open, FetchError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broke_off = |cause| target.broke_off(cause);
        let io = TokioIo::new(stream);
        Ok(match self.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await.map_err(broke_off)?;
                tokio::spawn(connection);
                Open::Http1(sender)
            }
            Protocol::Http2 => {
                let executor = TokioExecutor::new();
                let shaken = http2::handshake(executor, io).await;
                let (sender, connection) = shaken.map_err(broke_off)?;
                tokio::spawn(connection);
                Open::Http2(sender)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::address::SystemResolver;
    use crate::net::tls::{self, Roots};

    /// Somebody who answers every request on a connection, and says who it is.
    async fn somebody(name: &'static str) -> Uri {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut asked = [0; 4096];
                    while stream.read(&mut asked).await.is_ok_and(|read| read > 0) {
                        let length = name.len();
                        let answer =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}");
                        stream.write_all(answer.as_bytes()).await.expect("written");
                    }
                });
            }
        });
        format!("http://{address}/").parse().expect("a URL")
    }

    #[tokio::test]
    async fn who_is_asked_is_who_the_url_names_whoever_was_asked_before() {
        tls::install_provider();
        let config = tls::client_config(&Roots::Platform, &[]).expect("TLS");
        let mut channel = Channel::new(&config, Protocol::Http1, Arc::new(SystemResolver), false);
        let bounds = Bounds {
            timeout: Duration::from_secs(10),
            max_body: 100,
        };
        let (one, other) = (somebody("one").await, somebody("other").await);
        for (url, name) in [
            (&one, "one"),
            (&one, "one"),
            (&other, "other"),
            (&one, "one"),
        ] {
            let request = Request::get(url.clone()).body(Pieces::new([]));
            let answer = channel.send(request.expect("a request"), bounds).await;
            assert_eq!(answer.expect("an answer").body().as_ref(), name.as_bytes());
        }
    }
}
