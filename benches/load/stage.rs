//! What every load needs around the proxies: an Entra, an identity endpoint, a backend and a caller's token,
//! all on core 1.

use std::sync::Arc;

use portcullis::clock::SystemClock;
use portcullis::demo::ca::Ca;
use portcullis::demo::entra::Entra;
use portcullis::demo::identity::IdentityEndpoint;
use portcullis::demo::mint::Token;
use portcullis::demo::names::{AUDIENCE, CONTOSO, MARKETING_PORTAL};
use portcullis::entra::Version;
use portcullis::net::tls;
use tokio::runtime::Runtime;

use crate::backend::Backend;
use crate::peers;

/// The query of a SAS link, which the gateway strips and the others pass on.
pub(crate) const TARGET: &str = "/invitations?api-version=2016-10-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=planted-sas-signature";

pub(crate) struct Stage {
    pub(crate) runtime: Runtime,
    pub(crate) ca: Ca,
    pub(crate) entra: Entra,
    pub(crate) identity: IdentityEndpoint,
    pub(crate) backend: Backend,
    /// With the role that the policy asks for, and as long as tokens usually are.
    pub(crate) token: String,
}

impl Stage {
    pub(crate) fn start() -> Self {
        tls::install_provider();
        peers::install();
        // Threads that are made from now on inherit it.
        peers::pin_this_process(1);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let ca = Ca::new().expect("a CA");
        let (entra, identity, backend) = runtime.block_on(async {
            let clock = Arc::new(SystemClock);
            let entra = Entra::start(&ca, clock.clone()).await.expect("Entra");
            let identity = IdentityEndpoint::start(clock)
                .await
                .expect("an identity endpoint");
            let backend = Backend::start(identity.issued()).await;
            (entra, identity, backend)
        });
        let now = entra.now();
        let token = Token::app(Version::V2, CONTOSO, MARKETING_PORTAL, AUDIENCE, now)
            .roles(&["Guests.Invite"])
            .claim("filler", "x".repeat(300));
        let token = entra.sign(&token).expect("signed");
        Self {
            runtime,
            ca,
            entra,
            identity,
            backend,
            token,
        }
    }
}
