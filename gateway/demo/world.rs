//! Everything around the gateway, on this machine: Entra, the identity endpoint, Key Vault, the
//! Functions, the Logic App, and the files that a gateway in front of them is started with.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::backend::{ASYNC_TRIGGER, Backend, FUNCTION_KEY, LogicApp, TRIGGER};
use super::ca::Ca;
use super::entra::{App, Entra};
use super::files::{self, Addresses};
use super::identity::{IDENTITY_HEADER, IdentityEndpoint};
use super::names;
use super::vault::Vault;
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
    /// Keeps secrets.
    pub vault: Vault,
    /// The Function.
    pub function: Backend,
    /// A Function that is called with a key.
    pub keyed_function: Backend,
    /// The Logic App.
    pub logic_app: Backend<LogicApp>,
}

/// The name in Key Vault of the key of the Function that is called with one.
const PARTNER_KEY: &str = "partner-api-key";

/// The client secret of the demo's apps.
pub const CLIENT_SECRET: &str = "demo-client-secret";

impl World {
    /// Starts all of it.
    ///
    /// # Errors
    /// When no port is free or no key can be made.
    pub async fn start(clock: Arc<dyn Clock>) -> io::Result<Self> {
        let ca = Ca::new()?;
        let identity = IdentityEndpoint::start(Arc::clone(&clock)).await?;
        let entra = Entra::sharing(&ca, Arc::clone(&clock), identity.issued()).await?;
        let vault = Vault::start(&ca, identity.issued(), clock).await?;
        vault.set(PARTNER_KEY, FUNCTION_KEY);
        let function = Backend::function(&ca, identity.issued()).await?;
        let keyed_function = Backend::keyed_function(&ca).await?;
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
            vault,
            function,
            keyed_function,
            logic_app,
        })
    }

    /// Every secret that there is or was in this Azure: what it is, and its value. None of them may
    /// be found in what a gateway says.
    pub fn secrets(&self) -> Vec<(String, String)> {
        let named = |what: &str, values: Vec<String>| -> Vec<(String, String)> {
            let values = values.into_iter();
            values.map(|value| (what.to_owned(), value)).collect()
        };
        let tokens = self.identity.issued().tokens().into_iter();
        let mut secrets: Vec<(String, String)> = tokens
            .map(|(token, resource)| (format!("a token for {resource}"), token))
            .collect();
        secrets.extend(self.entra.secrets());
        let keys = [self.function.keys(), self.keyed_function.keys()].concat();
        for (what, values) in [
            ("IDENTITY_HEADER", vec![IDENTITY_HEADER.to_owned()]),
            ("a key of Arc's agent", self.identity.arc_keys()),
            ("a signature", self.logic_app.signatures()),
            ("a function, system or master key", keys),
            ("a value of the vault", self.vault.values()),
        ] {
            secrets.extend(named(what, values));
        }
        // Everything holds the empty text.
        secrets.retain(|(_, value)| !value.is_empty());
        secrets.sort();
        secrets.dedup();
        secrets
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
            approvals: format!("{}{ASYNC_TRIGGER}", self.logic_app.url()),
            function: self.function.url(),
            keyed_function: self.keyed_function.url(),
            key: format!("{}/secrets/{PARTNER_KEY}", self.vault.url()),
        };
        files::write(folder, &self.ca, &addresses)
    }
}
