//! Tokens and secrets from Azure, through Azure's own crates. They decide whom to ask and how; the bytes
//! go over the gateway's own client, and what the crates lack stands beside them: Azure Arc, resource IDs
//! at App Service, `refresh_in`, answers in odd forms, certificates without OpenSSL.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{Secret as AzureSecret, TokenCredential};
use azure_core::error::ErrorKind;
use azure_core::http::{ClientOptions, RetryOptions, Transport};
use azure_identity::{
    ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use futures_util::future::BoxFuture;
use http::StatusCode;

use super::source::{FetchFailure, Fetched, Needed, Refusal, Source};
use super::wanted::{Identity, Proof, Wanted, WantedToken};
use crate::clock::Clock;
use crate::net::address::is_loopback;
use crate::net::client::Client;
use crate::secret::Secret;

mod answer;
mod arc;
mod assertion;
mod door;
mod platform;
mod vault;

use arc::Arc as AzureArc;
use assertion::Assertion;
pub use assertion::app_certificate;
use door::{Door, Kind, Passage, Refused};
pub use platform::Platform;

/// How Azure is reached.
pub struct Settings<'s> {
    /// For an identity endpoint on https, which is rare: they are on loopback or link-local addresses.
    pub platform: &'s Client,
    /// For the authority.
    pub authority: &'s Client,
    /// For Key Vault.
    pub vault: &'s Client,
    /// The authority's base URL, where `AZURE_AUTHORITY_HOST` names none.
    pub authority_url: String,
    /// When a token that lives so and so long ends.
    pub clock: Arc<dyn Clock>,
}

/// Azure, as it is seen from this machine.
#[derive(Debug)]
pub struct AzureSource {
    platform: Platform,
    metadata: Arc<Door>,
    entra: Arc<Door>,
    vault: Arc<Door>,
    authority_url: String,
}

impl AzureSource {
    /// What the environment and the settings say of where the gateway runs.
    pub fn new(settings: &Settings<'_>) -> Self {
        let Settings {
            platform,
            authority,
            vault,
            authority_url,
            clock,
        } = settings;
        let door = |kind, client: Client| {
            Arc::new(Door {
                kind,
                client,
                imds: None,
                clock: Arc::clone(clock),
            })
        };
        let metadata = Client::clone(platform).allow_plain_link_local();
        Self {
            platform: Platform::detect(),
            metadata: door(Kind::Metadata, metadata),
            entra: door(Kind::Entra, Client::clone(authority)),
            vault: door(Kind::Vault, Client::clone(vault)),
            authority_url: authority_url.clone(),
        }
    }

    /// Sends what is meant for IMDS to this loopback address instead. For tests and the demo: the
    /// crate knows one address of IMDS. `None` if the address is not loopback, as a token source
    /// elsewhere would hand the gateway whatever it likes.
    pub fn with_imds_at(mut self, settings: &Settings<'_>, imds: SocketAddr) -> Option<Self> {
        if !is_loopback(imds.ip()) {
            return None;
        }
        self.metadata = Arc::new(Door {
            kind: Kind::Metadata,
            client: settings.platform.clone(),
            imds: Some(imds),
            clock: Arc::clone(&settings.clock),
        });
        Some(self)
    }

    /// Who hands out managed identities here, and how that is known.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    async fn token(&self, wanted: &WantedToken, needed: Needed) -> Result<Fetched, FetchFailure> {
        if let (true, Platform::Arc { endpoint, .. }) =
            (wanted.identity.is_managed(), &self.platform)
        {
            let arc = AzureArc::new(&self.metadata, endpoint);
            return arc.token(wanted).await;
        }
        let credential = self.credential(&wanted.identity, needed)?;
        // To managed identities the crate's scope is a resource, sent as it stands; Entra's own endpoint
        // takes a scope. One slash more than the resource has is meant: Entra takes one off.
        let scope = match wanted.identity.is_managed() {
            true => wanted.resource.clone(),
            false => format!("{}/.default", wanted.resource),
        };
        let token = credential.token_credential.get_token(&[&scope], None).await;
        let token = token.map_err(failure)?;
        Ok(credential.passage.fetched(&token))
    }

    /// A credential for one fetch. The crate's credentials keep a token until five minutes before
    /// its end and would answer an earlier refresh with the old one; a fresh one has nothing kept.
    fn credential(&self, identity: &Identity, needed: Needed) -> Result<OneFetch, FetchFailure> {
        let door = match identity.is_managed() {
            true => &self.metadata,
            false => &self.entra,
        };
        let by_resource = matches!(identity, Identity::ResourceId(_))
            && matches!(self.platform, Platform::AppService);
        let passage = Passage::new(Arc::clone(door), by_resource);
        let credential = match identity {
            Identity::System
            | Identity::ClientId(_)
            | Identity::ObjectId(_)
            | Identity::ResourceId(_) => self.managed(identity, by_resource, &passage)?,
            Identity::Workload {
                tenant,
                client,
                token_file,
            } => WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                credential_options: ClientAssertionCredentialOptions {
                    client_options: self.at_authority(&passage, authority_host()),
                },
                client_id: client.clone(),
                tenant_id: tenant.clone(),
                token_file_path: token_file.clone(),
            }))
            .map(|made| made as _),
            Identity::App {
                tenant,
                client,
                proof,
            } => {
                let Some(needed) = needed else {
                    return Err(FetchFailure::Needs("the app's proof".to_owned()));
                };
                let client_options = self.at_authority(&passage, None);
                self.app(tenant, client, proof, &needed, client_options)?
            }
        };
        // This far the crate has read the environment and spoken with nobody: its words are safe.
        let credential =
            credential.map_err(|cause| FetchFailure::Unsupported(cause.to_string()))?;
        Ok(OneFetch {
            token_credential: credential,
            passage,
        })
    }

    fn managed(
        &self,
        identity: &Identity,
        by_resource: bool,
        passage: &Arc<Passage>,
    ) -> Result<Made, FetchFailure> {
        if let Platform::Unsupported { why } = &self.platform {
            return Err(FetchFailure::Unsupported(why.clone()));
        }
        let options = ManagedIdentityCredentialOptions {
            user_assigned_id: user_assigned(identity, by_resource),
            client_options: options(passage),
        };
        Ok(ManagedIdentityCredential::new(Some(options)).map(|made| made as _))
    }

    fn app(
        &self,
        tenant: &str,
        client: &str,
        proof: &Proof,
        needed: &Secret<String>,
        client_options: ClientOptions,
    ) -> Result<Made, FetchFailure> {
        Ok(match proof {
            Proof::Secret(_) => {
                let secret = needed.expose().trim_end_matches(['\r', '\n']).to_owned();
                let options = ClientSecretCredentialOptions { client_options };
                let secret = AzureSecret::new(secret);
                ClientSecretCredential::new(tenant, client.to_owned(), secret, Some(options))
                    .map(|made| made as _)
            }
            Proof::Certificate(_) => {
                let audience = format!(
                    "{}/{tenant}/oauth2/v2.0/token",
                    self.authority_url.trim_end_matches('/')
                );
                let now = self.entra.clock.now().unix;
                let assertion = Assertion::sign(needed, client, &audience, now)
                    .map_err(|why| FetchFailure::Needs(format!("the app's certificate: {why}")))?;
                let options = ClientAssertionCredentialOptions { client_options };
                ClientAssertionCredential::new(
                    tenant.to_owned(),
                    client.to_owned(),
                    assertion,
                    Some(options),
                )
                .map(|made| made as _)
            }
        })
    }

    fn at_authority(&self, passage: &Arc<Passage>, host: Option<String>) -> ClientOptions {
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = host.unwrap_or_else(|| self.authority_url.clone());
        ClientOptions {
            cloud: Some(Arc::new(CloudConfiguration::Custom(cloud))),
            ..options(passage)
        }
    }
}

/// What AKS's webhook says of the cloud.
fn authority_host() -> Option<String> {
    std::env::var("AZURE_AUTHORITY_HOST")
        .ok()
        .filter(|host| !host.is_empty())
}

fn options(passage: &Arc<Passage>) -> ClientOptions {
    ClientOptions {
        transport: Some(Transport::new(passage.clone())),
        // Its own retries sleep by a thread each, on a clock that tests cannot move, for up to 72 s; the
        // loop in `refresh` retries instead.
        retry: RetryOptions::none(),
        ..ClientOptions::default()
    }
}

/// A credential, or why the crate makes none.
type Made = azure_core::Result<Arc<dyn TokenCredential>>;

/// A credential and the way out that it uses, which has seen the answer.
struct OneFetch {
    token_credential: Arc<dyn TokenCredential>,
    passage: Arc<Passage>,
}

impl Source for AzureSource {
    fn fetch<'a>(
        &'a self,
        wanted: &'a Wanted,
        needed: Needed,
    ) -> BoxFuture<'a, Result<Fetched, FetchFailure>> {
        match wanted {
            Wanted::Token(token) => Box::pin(self.token(token, needed)),
            Wanted::Secret(secret) => {
                Box::pin(vault::read(Arc::clone(&self.vault), secret, needed))
            }
        }
    }

    fn check(&self, wanted: &Wanted) -> Result<(), FetchFailure> {
        match wanted {
            Wanted::Token(token) => self.check_identity(&token.identity),
            Wanted::Secret(secret) => self.check_identity(&secret.reader),
        }
    }
}

impl AzureSource {
    fn check_identity(&self, identity: &Identity) -> Result<(), FetchFailure> {
        match (identity, &self.platform) {
            // Its proof may not be there yet.
            (Identity::App { .. }, _) => Ok(()),
            (Identity::System, Platform::Arc { .. }) => Ok(()),
            (
                Identity::ClientId(_) | Identity::ObjectId(_) | Identity::ResourceId(_),
                Platform::Arc { .. },
            ) => Err(FetchFailure::Unsupported(
                "Azure Arc has no user-assigned identities here: leave the ID out".to_owned(),
            )),
            (Identity::Workload { token_file, .. }, _) => {
                workload_is_set_up(token_file.as_ref())?;
                // The file may come later than the gateway.
                let file = token_file.clone().or_else(federated_token_file);
                match file.is_some_and(|file| file.exists()) {
                    true => self.credential(identity, None).map(drop),
                    false => Ok(()),
                }
            }
            (_, _) => self.credential(identity, None).map(drop),
        }
    }
}

fn federated_token_file() -> Option<PathBuf> {
    std::env::var_os("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from)
}

/// AKS's proxy for token exchanges is another protocol, which the crate does not know.
fn workload_is_set_up(token_file: Option<&PathBuf>) -> Result<(), FetchFailure> {
    let is_set = |name: &str| std::env::var_os(name).is_some();
    if is_set("AZURE_KUBERNETES_TOKEN_PROXY") {
        return Err(FetchFailure::Unsupported(
            "AZURE_KUBERNETES_TOKEN_PROXY is set: identity bindings through AKS's proxy are not supported; use workload identity without them".to_owned(),
        ));
    }
    if token_file.is_none() && federated_token_file().is_none() {
        return Err(FetchFailure::Unsupported(
            "AZURE_FEDERATED_TOKEN_FILE is not set: label the pod `azure.workload.identity/use: \"true\"`, annotate its service account, or write `tokenFile`".to_owned(),
        ));
    }
    Ok(())
}

fn user_assigned(identity: &Identity, by_resource: bool) -> Option<UserAssignedId> {
    match identity {
        Identity::ClientId(id) => Some(UserAssignedId::ClientId(id.clone())),
        Identity::ObjectId(id) => Some(UserAssignedId::ObjectId(id.clone())),
        // The crate refuses these at App Service, whose parameter it does not know; `Passage` renames it.
        Identity::ResourceId(id) if by_resource => Some(UserAssignedId::ClientId(id.clone())),
        Identity::ResourceId(id) => Some(UserAssignedId::ResourceId(id.clone())),
        Identity::System | Identity::Workload { .. } | Identity::App { .. } => None,
    }
}

/// Finds the gateway's own error within the crate's. Of the rest nothing is quoted: a parser's
/// complaint may hold a piece of the token.
fn failure(error: azure_core::Error) -> FetchFailure {
    if let ErrorKind::HttpResponse { status, .. } = error.kind()
        && let Ok(status) = StatusCode::from_u16(u16::from(*status))
    {
        return FetchFailure::Refused(Refusal {
            status,
            code: None,
            retry_after: None,
        });
    }
    match error.into_downcast::<Refused>() {
        Ok(Refused::Unreachable(cause)) => FetchFailure::Unreachable(cause),
        Ok(Refused::Answer(refusal)) => FetchFailure::Refused(refusal),
        Ok(Refused::Needs(why)) => FetchFailure::Needs(why.to_owned()),
        Err(outer) => match outer.into_downcast::<azure_core::Error>() {
            Ok(inner) => failure(inner),
            Err(_) => FetchFailure::Unreadable,
        },
    }
}

/// The longest that one exchange with Azure takes.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
