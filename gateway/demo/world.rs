//! Everything around the gateway, on this machine: Entra, the identity endpoint, the Function, the
//! Logic App, and the files that a gateway in front of them is started with.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::backend::{Backend, TRIGGER};
use super::ca::Ca;
use super::entra::{App, Entra};
use super::files::{self, Addresses};
use super::identity::IdentityEndpoint;
use super::names;
use crate::clock::Clock;
use crate::entra::Version;

/// The surroundings of a gateway, running as long as this is held.
pub struct World {
    /// Signs everything on this machine.
    pub ca: Ca,
    /// The authority.
    pub entra: Entra,
    /// Hands out managed identity tokens.
    pub identity: IdentityEndpoint,
    /// The Function.
    pub function: Backend,
    /// The Logic App.
    pub logic_app: Backend,
}

/// The client secret of the demo's apps.
pub const CLIENT_SECRET: &str = "demo-client-secret";

impl World {
    /// Starts all of it.
    ///
    /// # Errors
    /// When no port is free or no key can be made.
    pub async fn start(clock: Arc<dyn Clock>) -> io::Result<Self> {
        let ca = Ca::new()?;
        let entra = Entra::start(&ca, Arc::clone(&clock)).await?;
        let identity = IdentityEndpoint::start(clock).await?;
        let function = Backend::function(&ca, identity.issued()).await?;
        let logic_app = Backend::logic_app(&ca, identity.issued()).await?;
        for (app, role) in [
            (names::MARKETING_PORTAL, "Guests.Invite"),
            (names::NIGHTLY_BATCH, "Guests.Read.All"),
        ] {
            entra.register(
                app,
                App {
                    secret: CLIENT_SECRET.to_owned(),
                    roles: vec![role.to_owned()],
                    version: Version::V2,
                },
            );
        }
        Ok(Self {
            ca,
            entra,
            identity,
            function,
            logic_app,
        })
    }

    /// Writes the files of a gateway in front of all this; `port` 0 for any. Returns the path of
    /// gateway.yaml.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write_files(&self, folder: &Path, port: u16) -> io::Result<PathBuf> {
        let addresses = Addresses {
            gateway: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            authority: self.entra.authority(),
            logic_app: format!("{}{TRIGGER}", self.logic_app.url()),
            function: self.function.url(),
        };
        files::write(folder, &self.ca, &addresses)
    }
}
