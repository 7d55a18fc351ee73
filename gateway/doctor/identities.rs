//! Identities: who hands them out here, and whether each token that is needed can be had now.

use std::iter::successors;
use std::sync::Arc;

use futures_util::future::join_all;

use super::{Area, Finding, PATIENCE, Surroundings, certificates, spoken};
use crate::clock::within;
use crate::credentials::azure::Platform;
use crate::credentials::slot::Failure;
use crate::credentials::{
    Asked, Credential, Identity, Place, Proof, Slot, Wanted, WantedSecret, WantedToken,
};
use crate::files::{self, Diagnostics, LimitStore, SecretSource};
use crate::running::store_signed_in_by;
use crate::snapshot::Lasting;
use crate::upstream::{Presenting, wanted_secret};

/// One token or secret that is held ready, for whom and as what.
pub(super) struct Held {
    pub(super) slot: Arc<Slot>,
    /// The backends and keys of gateway.yaml that need it, perhaps to get at something else.
    pub(super) users: Vec<String>,
    /// What a secret has to be good for.
    pub(super) purposes: Vec<Purpose>,
}

/// What a secret of a key vault is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The value of a header field.
    Field,
    /// The signature of a SAS URL.
    Sas,
    /// The client secret of an app.
    ClientSecret,
    /// The certificate of an app, with its key.
    Certificate,
    /// A key of the gateway's own.
    OwnKey,
}

impl Held {
    /// Whom it is for, in words.
    pub(super) fn users(&self) -> String {
        self.users.join(", ")
    }
}

/// Begins to fetch everything that policies and gateway.yaml need. Secrets that cannot be read are added
/// to the diagnostics.
pub(super) fn wanted(surroundings: &Surroundings<'_>, diagnostics: &mut Diagnostics) -> Vec<Held> {
    let Surroundings {
        gateway, lasting, ..
    } = surroundings;
    let presenting = Presenting {
        credentials: &lasting.credentials,
        key_vault: &gateway.key_vault,
    };
    let mut held = Vec::new();
    for backend in &surroundings.policies.backends {
        let written = &backend.value.credential;
        let credential = presenting.compile(written, diagnostics);
        if let Some(slot) = credential.as_ref().and_then(Credential::slot) {
            let purpose = match &written.value {
                files::Credential::Sas { .. } => Purpose::Sas,
                _ => Purpose::Field,
            };
            note(
                surroundings,
                &mut held,
                slot.wanted(),
                &backend.name.value,
                purpose,
            );
        }
    }
    for (key, source) in own(gateway) {
        if let SecretSource::KeyVault(secret) = source {
            let wanted = Wanted::Secret(wanted_secret(secret, &gateway.key_vault));
            note(surroundings, &mut held, &wanted, key, Purpose::OwnKey);
        }
    }
    for (_, key, source) in certificates::own(gateway) {
        if let Some(secret) = source.in_key_vault() {
            let wanted = Wanted::Secret(wanted_secret(secret, &gateway.key_vault));
            note(surroundings, &mut held, &wanted, key, Purpose::OwnKey);
        }
    }
    if let LimitStore::Redis(redis) = &gateway.limits.store
        && let Some(wanted) = store_signed_in_by(&redis.sign_in, &gateway.key_vault)
    {
        // A password is no key of the gateway's own, but nothing is asked of it either.
        note(
            surroundings,
            &mut held,
            &wanted,
            "limits.store",
            Purpose::OwnKey,
        );
    }
    held
}

/// The secrets that gateway.yaml itself names, and their keys.
fn own(gateway: &files::GatewayDocument) -> impl Iterator<Item = (&'static str, &SecretSource)> {
    let sealing = gateway.seal.keys.iter();
    let sealing = sealing.map(|source| ("seal.keys", &source.value));
    let tickets = gateway.listen.iter().filter_map(files::Listen::tls);
    let tickets = tickets.flat_map(|tls| &tls.ticket_keys);
    let tickets = tickets.map(|source| ("listen.tls.ticketKeys", &source.value));
    let fingerprints = gateway.telemetry.fingerprint_key.iter();
    let otlp = gateway.telemetry.otlp.iter();
    let headers = otlp.flat_map(|otlp| &otlp.headers);
    let headers = headers.map(|(_, source)| ("telemetry.otlp.headers", &source.value));
    let azure_monitor = gateway.telemetry.azure_monitor.iter();
    let strings = azure_monitor.map(|to| ("telemetry.azureMonitor", &to.connection_string.value));
    let admin = gateway.admin.iter();
    let bearer = admin.filter_map(|admin| Some(("admin.bearer", &admin.bearer.as_ref()?.value)));
    sealing
        .chain(tickets)
        .chain(fingerprints.map(|source| ("telemetry.fingerprintKey", &source.value)))
        .chain(headers)
        .chain(strings)
        .chain(bearer)
}

/// Notes that `user` needs this, and what this needs in turn.
fn note(
    surroundings: &Surroundings<'_>,
    held: &mut Vec<Held>,
    wanted: &Wanted,
    user: &str,
    purpose: Purpose,
) {
    let chain = successors(Some((wanted.clone(), purpose)), |(wanted, _)| needs(wanted));
    for (wanted, purpose) in chain {
        let known = held.iter_mut().find(|held| *held.slot.wanted() == wanted);
        let one = match known {
            Some(known) => known,
            None => held.push_mut(Held {
                slot: surroundings.lasting.credentials.slot(wanted),
                users: Vec::new(),
                purposes: Vec::new(),
            }),
        };
        if !one.users.iter().any(|known| known == user) {
            one.users.push(user.to_owned());
        }
        if !one.purposes.contains(&purpose) {
            one.purposes.push(purpose);
        }
    }
}

/// What has to be had first, and as what.
fn needs(wanted: &Wanted) -> Option<(Wanted, Purpose)> {
    match wanted {
        Wanted::Secret(secret) => Some((Wanted::Token(secret.shown()), Purpose::Field)),
        Wanted::Token(token) => {
            let (secret, purpose) = proof(&token.identity)?;
            Some((Wanted::Secret(secret.clone()), purpose))
        }
    }
}

/// The secret of a key vault that an app proves itself by.
fn proof(identity: &Identity) -> Option<(&WantedSecret, Purpose)> {
    match identity {
        Identity::App {
            proof: Proof::Secret(Place::Vault(secret)),
            ..
        } => Some((secret, Purpose::ClientSecret)),
        Identity::App {
            proof: Proof::Certificate(Place::Vault(secret)),
            ..
        } => Some((secret, Purpose::Certificate)),
        _ => None,
    }
}

/// Who hands out managed identities here.
pub(super) fn platform(held: &[Held]) -> Finding {
    const NAME: &str = "managed identities";
    let platform = Platform::detect();
    let wants = |held: &Held| match held.slot.wanted() {
        Wanted::Token(token) => token.identity.is_managed(),
        Wanted::Secret(_) => false,
    };
    match &platform {
        Platform::Unsupported { why } if held.iter().any(wants) => Finding::bad(
            Area::Platform,
            NAME,
            why.as_str(),
            "write `app: { tenantId: .., clientId: .., certificate: .. }` in place of `managedIdentity` in the policies",
        ),
        // Half of what App Service sets: somebody copied it, or lost the rest.
        Platform::Imds if std::env::var_os("IDENTITY_ENDPOINT").is_some() => Finding::warning(
            Area::Platform,
            NAME,
            "IDENTITY_ENDPOINT is set without IDENTITY_HEADER, and so IMDS is asked instead",
            "set both as App Service does, or neither",
        ),
        _ => Finding::good(Area::Platform, NAME, platform.to_string()),
    }
}

/// Waits for everything that is being fetched, and tells of the tokens.
pub(super) async fn tokens(surroundings: &Surroundings<'_>, held: &[Held]) -> Vec<Finding> {
    join_all(held.iter().map(|held| async {
        // Past that time the slot says that nothing was fetched yet.
        let _ = within(PATIENCE, held.slot.first_fetch(PATIENCE)).await;
    }))
    .await;
    let tokens = held.iter().filter_map(|held| match held.slot.wanted() {
        Wanted::Token(token) => Some(told(surroundings, held, token)),
        Wanted::Secret(_) => None,
    });
    tokens.collect()
}

fn told(surroundings: &Surroundings<'_>, held: &Held, token: &WantedToken) -> Finding {
    let now = surroundings.lasting.clock.now();
    let status = held.slot.status();
    let name = format!("{token} (for {})", held.users());
    match status.fault(&now) {
        Some(why) => Finding::bad(
            Area::Identities,
            name,
            why.why,
            advice(surroundings, token, status.last_failure.as_ref()),
        ),
        None => {
            let lives = status.expires.unwrap_or_default().saturating_sub(now.unix);
            let found = format!("a token was fetched; it lives another {}", spoken(lives));
            Finding::good(Area::Identities, name, found)
        }
    }
}

fn advice(
    surroundings: &Surroundings<'_>,
    token: &WantedToken,
    failure: Option<&Failure>,
) -> String {
    let is_final = failure.is_some_and(|failure| failure.is_final);
    if failure.is_some_and(|failure| failure.text.contains("unknown_source")) {
        return "IDENTITY_HEADER is not what App Service gave to this process: take it from the environment as it is, and set it nowhere yourself".to_owned();
    }
    let asked = Wanted::Token(token.clone()).asked();
    match (&token.identity, is_final) {
        (identity, true) => mended_by(identity, &token.resource),
        (identity, false) if waits_for_its_proof(surroundings, identity) => {
            "it proves itself by a secret of Key Vault: see that line first".to_owned()
        }
        (_, false) if asked == Asked::Entra => format!(
            "see that this network may reach {} on port 443, and run the doctor again",
            surroundings.gateway.entra.authority.value
        ),
        (_, false) => "run the doctor again in a minute; if it stays, see that the machine is in Azure and that nothing keeps this process from the identity endpoint (a network policy for 169.254.169.254, a proxy)".to_owned(),
    }
}

/// Whether what an app proves itself by is not there yet.
fn waits_for_its_proof(surroundings: &Surroundings<'_>, identity: &Identity) -> bool {
    let secret = proof(identity).map(|(secret, _)| Wanted::Secret(secret.clone()));
    secret.is_some_and(|secret| !is_ready(surroundings, secret))
}

/// Whether this is there.
pub(super) fn is_ready(surroundings: &Surroundings<'_>, wanted: Wanted) -> bool {
    let Lasting {
        clock, credentials, ..
    } = surroundings.lasting;
    credentials.slot(wanted).status().is_ready(&clock.now())
}

/// What to change where asking again changes nothing.
fn mended_by(identity: &Identity, resource: &str) -> String {
    match identity {
        Identity::System => "switch on the system-assigned identity of this app (portal: Identity, System assigned; ARM: `identity.type: SystemAssigned`), or name a user-assigned one by `clientId`; see that the resource is one that the tenant knows".to_owned(),
        Identity::ClientId(id) | Identity::ObjectId(id) | Identity::ResourceId(id) => format!(
            "assign the user-assigned identity {id} to this app (portal: Identity, User assigned; ARM: `identity.userAssignedIdentities`), or mend its ID in the policy; see that the tenant knows {resource}"
        ),
        Identity::Workload { .. } => "label the pod `azure.workload.identity/use: \"true\"`, annotate its service account with `azure.workload.identity/client-id`, and give the identity a federated credential for it with the audience `api://AzureADTokenExchange`".to_owned(),
        Identity::App { client, .. } => format!(
            "look at the app registration {client} under Certificates & secrets: is the secret or certificate there and not expired? See that `tenantId` and `clientId` are right, and that the tenant knows {resource}"
        ),
    }
}
