//! What every load needs around the proxies: an Entra, an identity endpoint, and a runtime for callers
//! and backends, all on core 1.

use std::process::{Command, Stdio};
use std::sync::Arc;

use portcullis::clock::SystemClock;
use portcullis::demo::ca::Ca;
use portcullis::demo::entra::Entra;
use portcullis::demo::identity::IdentityEndpoint;
use portcullis::net::tls;
use tokio::runtime::{Builder, Runtime};

pub(crate) struct Stage {
    pub(crate) ca: Ca,
    pub(crate) entra: Entra,
    pub(crate) identity: IdentityEndpoint,
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
        let (entra, identity) = azure.block_on(async {
            let clock = Arc::new(SystemClock);
            let entra = Entra::start(&ca, clock.clone()).await.expect("Entra");
            let identity = IdentityEndpoint::start(clock).await;
            (entra, identity.expect("an identity endpoint"))
        });
        let stage = Self {
            ca,
            entra,
            identity,
            _azure: azure,
        };
        let load = Builder::new_current_thread().enable_all().build();
        (stage, load.expect("a runtime"))
    }
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
