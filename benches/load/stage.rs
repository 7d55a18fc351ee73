//! What every load needs around the proxies: an Entra, an identity endpoint, and a runtime for callers
//! and backends, all on core 1.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use portcullis::clock::SystemClock;
use portcullis::demo::ca::Ca;
use portcullis::demo::entra::Entra;
use portcullis::demo::identity::IdentityEndpoint;
use portcullis::net::tls;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

pub(crate) struct Stage {
    pub(crate) ca: Ca,
    pub(crate) entra: Entra,
    pub(crate) identity: IdentityEndpoint,
    /// Where telemetry is taken and thrown away.
    pub(crate) collector: SocketAddr,
    /// Of Entra and the identity endpoint, which must answer while nothing else here does.
    _azure: Runtime,
}

impl Stage {
    /// Takes core 1. The runtime is for callers and backends: one thread, so that
    /// what they pass each other costs no switch.
    pub(crate) fn start() -> (Self, Runtime) {
        tls::install_provider();
        // A caller and a backend for each of a thousand connections. The proxies inherit it.
        let _ = rlimit::increase_nofile_limit(1 << 16);
        pin(1);
        let azure = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let ca = Ca::new().expect("a CA");
        let (entra, identity, collector) = azure.block_on(async {
            let clock = Arc::new(SystemClock);
            let entra = Entra::start(&ca, clock.clone()).await.expect("Entra");
            let identity = IdentityEndpoint::start(clock).await;
            let collector = collector().await;
            (entra, identity.expect("an identity endpoint"), collector)
        });
        let stage = Self {
            ca,
            entra,
            identity,
            collector,
            _azure: azure,
        };
        let load = Builder::new_current_thread().enable_all().build();
        (stage, load.expect("a runtime"))
    }
}

/// Takes whatever it is sent.
async fn collector() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request: Request<Incoming>| async {
                let mut body = request.into_body();
                while let Some(Ok(_)) = body.frame().await {}
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// Threads and processes that are made from now on inherit it.
fn pin(core: usize) {
    let id = std::process::id().to_string();
    let pinned = Command::new("taskset")
        .args(["-cp", &core.to_string(), &id])
        .stdout(Stdio::null())
        .status();
    assert!(pinned.expect("taskset").success());
}
