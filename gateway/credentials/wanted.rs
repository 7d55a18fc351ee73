//! What can be held ready: a token of an identity, or a secret of a key vault.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::fixed::SecretFrom;
use crate::files::VaultSecret;

/// One thing to hold ready. Equal ones share a slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// A token: whose it is and whom it is for.
    Token(WantedToken),
    /// A secret.
    Secret(WantedSecret),
}

/// A token: whose it is and whom it is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WantedToken {
    /// The resource whose token is wanted, exactly as the backend compares it: with or without a
    /// trailing slash is not the same audience.
    pub resource: String,
    /// Who asks for it.
    pub identity: Identity,
}

/// A secret of a key vault, and how it is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WantedSecret {
    /// The secret.
    pub secret: VaultSecret,
    /// Whose token is shown to the vault.
    pub reader: Identity,
    /// How often it is read again.
    pub refresh_every: Duration,
}

impl WantedSecret {
    /// The token that is shown to the vault.
    pub fn shown(&self) -> WantedToken {
        WantedToken {
            resource: self.secret.resource.clone(),
            identity: self.reader.clone(),
        }
    }
}

/// Who asks for a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The managed identity that was born with the app.
    System,
    /// A user-assigned one, by its client ID.
    ClientId(String),
    /// A user-assigned one, by the object ID of its service principal.
    ObjectId(String),
    /// A user-assigned one, by its Azure resource ID.
    ResourceId(String),
    /// The one that AKS federates with the pod's service account. What is absent is read from the
    /// environment (`AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_FEDERATED_TOKEN_FILE`).
    Workload {
        /// The tenant.
        tenant: Option<String>,
        /// The client ID.
        client: Option<String>,
        /// The service account's token.
        token_file: Option<PathBuf>,
    },
    /// An app registration.
    App {
        /// The tenant.
        tenant: String,
        /// The client ID.
        client: String,
        /// How it proves itself.
        proof: Proof,
    },
}

/// How an app proves itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// By a client secret, which stands here.
    Secret(Place),
    /// By a certificate and its RSA key, PEM or PFX, which stand here.
    Certificate(Place),
}

/// Where a secret stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// In a file or an environment variable.
    Here(SecretFrom),
    /// In a key vault.
    Vault(Box<WantedSecret>),
}

impl Wanted {
    /// Who is asked for it.
    pub const fn asked(&self) -> Asked {
        match self {
            Self::Secret(_) => Asked::KeyVault,
            Self::Token(token) => token.identity.asked(),
        }
    }
}

impl Identity {
    const fn asked(&self) -> Asked {
        match self {
            Self::System | Self::ClientId(_) | Self::ObjectId(_) | Self::ResourceId(_) => {
                Asked::IdentityEndpoint
            }
            Self::Workload { .. } | Self::App { .. } => Asked::Entra,
        }
    }

    /// Whether the platform's identity endpoint is asked for it.
    pub const fn is_managed(&self) -> bool {
        matches!(self.asked(), Asked::IdentityEndpoint)
    }
}

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The platform's identity endpoint, IMDS among them.
    IdentityEndpoint,
    /// The token endpoint of Entra.
    Entra,
    /// Key Vault.
    KeyVault,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IdentityEndpoint => "the identity endpoint",
            Self::Entra => "Entra",
            Self::KeyVault => "Key Vault",
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("the system-assigned identity"),
            Self::ClientId(id) => write!(f, "the identity with client ID {id}"),
            Self::ObjectId(id) => write!(f, "the identity with object ID {id}"),
            Self::ResourceId(id) => write!(f, "the identity {id}"),
            Self::Workload { client: None, .. } => f.write_str("the workload identity"),
            Self::Workload {
                client: Some(client),
                ..
            } => write!(f, "the workload identity with client ID {client}"),
            Self::App { client, tenant, .. } => write!(f, "the app {client} of tenant {tenant}"),
        }
    }
}

impl fmt::Display for WantedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.identity, self.resource)
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(token) => write!(f, "a token of {token}"),
            Self::Secret(wanted) => write!(f, "the secret {}", wanted.secret),
        }
    }
}
