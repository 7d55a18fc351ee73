//! Credentials, compiled from policy documents: what is written there becomes what is held ready.

use std::sync::Arc;

use http::HeaderValue;

use crate::credentials::fixed::SecretFrom;
use crate::credentials::{
    Credential, Credentials, Derived, Held, Identity, Place, Proof, SasQuery, Wanted, WantedSecret,
    WantedToken,
};
use crate::files::{self, Diagnostics, SecretSource, Span, Spanned, VaultSecret};

/// What credentials are compiled with.
#[derive(Clone, Copy)]
pub struct Presenting<'c> {
    /// What is held ready.
    pub credentials: &'c Arc<Credentials>,
    /// Who reads Key Vault, and how often.
    pub key_vault: &'c files::KeyVault,
}

/// Variables whose value makes the identity endpoint hand out this machine's tokens.
const PLATFORM_SECRETS: [&str; 2] = ["IDENTITY_HEADER", "MSI_SECRET"];

impl Presenting<'_> {
    /// Begins to fetch a credential, or reads it. `None` when an error was added.
    pub fn compile(
        self,
        written: &Spanned<files::Credential>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Credential> {
        let span = &written.span;
        Some(match &written.value {
            files::Credential::None => Credential::None,
            files::Credential::FunctionKey { value } => {
                Credential::function_key(self.field(value, span, diagnostics)?)
            }
            files::Credential::Header { name, value } => Credential::Header {
                name: name.value.clone(),
                value: self.field(value, span, diagnostics)?,
            },
            files::Credential::Sas { value } => {
                Credential::Sas(self.sas(value, span, diagnostics)?)
            }
            files::Credential::Token { resource, holder } => {
                let wanted = Wanted::Token(WantedToken {
                    resource: resource.value.clone(),
                    identity: self.identity(holder, span, diagnostics)?,
                });
                if let Err(why) = self.credentials.check(&wanted) {
                    diagnostics.error(span, format!("this identity cannot be had here: {why}"));
                    return None;
                }
                Credential::Token(self.credentials.slot(wanted))
            }
        })
    }

    fn field(
        self,
        source: &SecretSource,
        span: &Span,
        diagnostics: &mut Diagnostics,
    ) -> Option<Held<HeaderValue>> {
        let place = match here_or_vault(source, span, diagnostics)? {
            Ok(place) => place,
            Err(secret) => return self.vault(secret, span, diagnostics).map(Held::Slot),
        };
        let read = place.read();
        read.map(Held::Fixed)
            .map_err(|why| unusable(span, &why.to_string(), diagnostics))
            .ok()
    }

    /// A secret of any form, from wherever it is read.
    pub fn text(
        self,
        written: &Spanned<SecretSource>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Held<String>> {
        let span = &written.span;
        let place = match here_or_vault(&written.value, span, diagnostics)? {
            Ok(place) => place,
            Err(secret) => return self.vault(secret, span, diagnostics).map(Held::Slot),
        };
        let text = place.text();
        text.map(Held::Fixed)
            .map_err(|why| unusable(span, &why.to_string(), diagnostics))
            .ok()
    }

    fn sas(
        self,
        source: &SecretSource,
        span: &Span,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<Derived<SasQuery>>> {
        let written = Spanned::new(source.clone(), span.clone());
        let text = self.text(&written, diagnostics)?;
        let query = Derived::new(vec![text], SasQuery::of_texts);
        if let Some(why) = query.fault(&self.credentials.now()) {
            unusable(span, &why, diagnostics);
            return None;
        }
        Some(query)
    }

    /// A secret of Key Vault, which begins to be fetched. `None` when an error was added.
    pub fn vault(
        self,
        secret: &VaultSecret,
        span: &Span,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<crate::credentials::Slot>> {
        let wanted = Wanted::Secret(wanted_secret(secret, self.key_vault));
        self.check_vault(&wanted, span, diagnostics)?;
        Some(self.credentials.slot(wanted))
    }

    fn check_vault(
        self,
        wanted: &Wanted,
        span: &Span,
        diagnostics: &mut Diagnostics,
    ) -> Option<()> {
        let checked = self.credentials.check(wanted);
        if let Err(why) = &checked {
            diagnostics
                .error(span, format!("Key Vault cannot be read here: {why}"))
                .help("say in gateway.yaml who reads it: `keyVault: { identity: .. }`");
        }
        checked.ok()
    }

    fn identity(
        self,
        written: &files::Holder,
        span: &Span,
        diagnostics: &mut Diagnostics,
    ) -> Option<Identity> {
        let app = match written {
            files::Holder::Identity(written) => return Some(identity(written)),
            files::Holder::App(app) => app,
        };
        let (files::Proof::Secret(source) | files::Proof::Certificate(source)) = &app.proof;
        let place = match here_or_vault(source, span, diagnostics)? {
            Ok(place) => {
                // Told now, rather than when the first token is fetched.
                if let Err(why) = place.text() {
                    unusable(span, &why.to_string(), diagnostics);
                    return None;
                }
                Place::Here(place)
            }
            Err(secret) => {
                let wanted = wanted_secret(secret, self.key_vault);
                self.check_vault(&Wanted::Secret(wanted.clone()), span, diagnostics)?;
                Place::Vault(Box::new(wanted))
            }
        };
        Some(Identity::App {
            tenant: app.tenant_id.clone(),
            client: app.client_id.clone(),
            proof: match &app.proof {
                files::Proof::Secret(_) => Proof::Secret(place),
                files::Proof::Certificate(_) => Proof::Certificate(place),
            },
        })
    }
}

/// A secret of a key vault, as it is held ready.
pub fn wanted_secret(secret: &VaultSecret, key_vault: &files::KeyVault) -> WantedSecret {
    WantedSecret {
        secret: secret.clone(),
        reader: identity(&key_vault.identity),
        refresh_every: key_vault.refresh_every,
    }
}

/// An identity that needs no secret.
pub fn identity(written: &files::Identity) -> Identity {
    match written {
        files::Identity::System => Identity::System,
        files::Identity::ClientId(id) => Identity::ClientId(id.clone()),
        files::Identity::ObjectId(id) => Identity::ObjectId(id.clone()),
        files::Identity::ResourceId(id) => Identity::ResourceId(id.clone()),
        files::Identity::Workload(workload) => Identity::Workload {
            tenant: workload.tenant_id.clone(),
            client: workload.client_id.clone(),
            token_file: workload.token_file.clone(),
        },
    }
}

type HereOrVault<'s> = Result<SecretFrom, &'s VaultSecret>;

/// Where a secret is read; `None` where it may not be.
fn here_or_vault<'s>(
    source: &'s SecretSource,
    span: &Span,
    diagnostics: &mut Diagnostics,
) -> Option<HereOrVault<'s>> {
    match source {
        SecretSource::Env(name) if PLATFORM_SECRETS.contains(&name.as_str()) => {
            diagnostics
                .error(
                    span,
                    "this variable guards the platform's identity endpoint",
                )
                .help(
                    "a backend is never shown it; use `managedIdentity` to call with the identity",
                );
            None
        }
        SecretSource::Env(name) => Some(Ok(SecretFrom::Env(name.clone()))),
        SecretSource::File(path) => Some(Ok(SecretFrom::File(path.clone()))),
        SecretSource::KeyVault(secret) => Some(Err(secret)),
    }
}

fn unusable(span: &Span, why: &str, diagnostics: &mut Diagnostics) {
    diagnostics
        .error(span, format!("the secret cannot be used: {why}"))
        .help("set the variable, or make the file readable, before the gateway starts");
}
