//! Key Vault, through its own crate: it answers the challenge, and the token is one that is held ready.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use azure_security_keyvault_secrets::models::SecretClientGetSecretOptions;
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};

use super::super::source::{FetchFailure, Fetched, Needed};
use super::super::wanted::WantedSecret;
use super::door::{Door, Passage, Refused, stop};
use super::{failure, options};
use crate::secret::Secret;

/// The stable version of the API that the crate was released with.
const API_VERSION: &str = "2025-07-01";

/// Reads a secret's value.
pub(super) async fn read(
    door: Arc<Door>,
    wanted: &WantedSecret,
    needed: Needed,
) -> Result<Fetched, FetchFailure> {
    let token = needed.ok_or_else(|| FetchFailure::Needs("a token for Key Vault".to_owned()))?;
    let secret = &wanted.secret;
    let passage = Passage::new(door, false);
    let shown = Arc::new(Shown {
        token,
        scope: format!("{}/.default", secret.resource),
    });
    let options = SecretClientOptions {
        api_version: API_VERSION.to_owned(),
        client_options: options(&passage),
        // `Shown` is stricter: one resource, which the vault's own host decides. A vault on loopback, in
        // tests, is none of those that the crate knows.
        verify_challenge_resource: Some(false),
    };
    let client = SecretClient::new(&secret.vault, shown, Some(options)).map_err(failure)?;
    let options = SecretClientGetSecretOptions {
        secret_version: secret.version.clone(),
        ..SecretClientGetSecretOptions::default()
    };
    let answer = client.get_secret(&secret.name, Some(options)).await;
    // What the crate says of a body that it cannot read may quote it.
    let model = answer.map_err(failure)?.into_model();
    let value = model.ok().and_then(|model| model.value);
    Ok(Fetched {
        secret: Secret::new(value.ok_or(FetchFailure::Unreadable)?),
        expires: None,
        refresh_in: None,
    })
}

/// A token that is shown to a vault which asks for just that one.
struct Shown {
    token: Secret<String>,
    scope: String,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shown").field(&self.scope).finish()
    }
}

impl Shown {
    fn to(&self, scopes: &[&str]) -> azure_core::Result<AccessToken> {
        // A host that poses as a vault could ask for a token that is good elsewhere.
        if scopes != [self.scope.as_str()] {
            return Err(stop(Refused::Needs(
                "the vault asks for a token that is not for Key Vault",
            )));
        }
        // It is used at once; when it really ends, the slot knows.
        let soon = OffsetDateTime::now_utc() + Duration::from_secs(600);
        Ok(AccessToken::new(self.token.expose().clone(), soon))
    }
}

impl TokenCredential for Shown {
    // As `async_trait` writes it, which the trait was made with.
    fn get_token<'a, 'b, 'c, 'd, 'e>(
        &'a self,
        scopes: &'b [&'c str],
        _: Option<TokenRequestOptions<'d>>,
    ) -> Pin<Box<dyn Future<Output = azure_core::Result<AccessToken>> + Send + 'e>>
    where
        'a: 'e,
        'b: 'e,
        'c: 'e,
        'd: 'e,
        Self: 'e,
    {
        let shown = self.to(scopes);
        Box::pin(async { shown })
    }
}
