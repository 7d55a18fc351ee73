//! The backend: answers 200 with 256 bytes, and looks at what each proxy sent.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use portcullis::demo::identity::Issued;
use tokio::net::TcpListener;

pub(crate) struct Backend {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    issued: Issued,
    behind_gateway: AtomicBool,
    faults: AtomicU64,
}

impl Backend {
    pub(crate) async fn start(issued: Issued) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            issued,
            behind_gateway: AtomicBool::new(true),
            faults: AtomicU64::new(0),
        });
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let state = Arc::clone(&serving);
                tokio::spawn(async move {
                    let service = service_fn(|request| answer(Arc::clone(&state), request));
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, state }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who sends from now on.
    pub(crate) fn expect_gateway(&self, gateway: bool) {
        self.state.behind_gateway.store(gateway, Ordering::SeqCst);
    }

    /// Requests that were not as they should be.
    pub(crate) fn faults(&self) -> u64 {
        self.state.faults.load(Ordering::SeqCst)
    }
}

async fn answer(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let query = request.uri().query().unwrap_or_default();
    let bearer = request.headers().get(header::AUTHORIZATION);
    let bearer = bearer.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let is_identity = bearer.is_some_and(|token| state.issued.resource(token).is_some());
    let good = if state.behind_gateway.load(Ordering::Relaxed) {
        is_identity && query == "api-version=2016-10-01"
    } else {
        !is_identity && query.contains("sig=")
    };
    if !good {
        state.faults.fetch_add(1, Ordering::SeqCst);
    }
    let _ = request.into_body().collect().await;
    Ok(Response::new(Full::new(Bytes::from_static(&[b'x'; 256]))))
}
