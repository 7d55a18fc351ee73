//! The store of limits that replicas share, as gateway.yaml names it: where it is, and who signs in there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::{StartError, machine, roots};
use crate::clock::Clock;
use crate::credentials::fixed::SecretFrom;
use crate::credentials::{Credentials, Slot, Wanted, WantedToken};
use crate::entra::{Algorithm, unverified_claims};
use crate::files::{self, GatewayDocument, RedisSignIn, SecretSource};
use crate::limits::shared::{Authentication, Settings, Shared};
use crate::secret::Secret;
use crate::upstream::{identity, wanted_secret};

/// Whom tokens for Azure's Redis are meant for.
/// <https://learn.microsoft.com/azure/redis/entra-for-authentication>
const RESOURCE: &str = "https://redis.azure.com";

/// How often a password in a file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Begins to speak with the store, if there is one.
pub(super) fn start(
    gateway: &GatewayDocument,
    credentials: &Arc<Credentials>,
    clock: &Arc<dyn Clock>,
    control: &Handle,
) -> Result<Option<Arc<Shared>>, StartError> {
    let files::LimitStore::Redis(redis) = &gateway.limits.store else {
        return Ok(None);
    };
    let settings = settings(gateway, redis, credentials, clock)?;
    let shared = Shared::start(settings, Arc::clone(clock), control);
    Ok(Some(shared))
}

/// What gateway.yaml says of the store.
pub(crate) fn settings(
    gateway: &GatewayDocument,
    redis: &files::Redis,
    credentials: &Arc<Credentials>,
    clock: &Arc<dyn Clock>,
) -> Result<Settings, StartError> {
    let files::Redis {
        node,
        cluster,
        ca,
        prefix,
        timeout,
        sign_in,
    } = redis;
    Ok(Settings {
        cluster: *cluster,
        roots: roots(ca.as_ref(), "limits.store.redis.ca")?,
        timeout: *timeout,
        prefix: prefix.clone(),
        authentication: authentication(sign_in, gateway, credentials, clock)?,
        on_failure: gateway.limits.on_store_failure,
        ..Settings::new(node.value.clone())
    })
}

/// What has to be fetched to sign in there, if anything has.
pub(crate) fn signed_in_by(sign_in: &RedisSignIn, key_vault: &files::KeyVault) -> Option<Wanted> {
    match sign_in {
        RedisSignIn::Nobody => None,
        RedisSignIn::Identity { identity: of, .. } => Some(token(of)),
        RedisSignIn::Password { password, .. } => match &password.value {
            SecretSource::KeyVault(secret) => {
                Some(Wanted::Secret(wanted_secret(secret, key_vault)))
            }
            SecretSource::Env(_) | SecretSource::File(_) => None,
        },
    }
}

fn token(of: &files::Identity) -> Wanted {
    Wanted::Token(WantedToken {
        resource: RESOURCE.to_owned(),
        identity: identity(of),
    })
}

fn authentication(
    sign_in: &RedisSignIn,
    gateway: &GatewayDocument,
    credentials: &Arc<Credentials>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Arc<dyn Authentication>>, StartError> {
    let clock = Arc::clone(clock);
    let slot = |wanted: Wanted, what: &str| {
        credentials.check(&wanted).map_err(machine(what))?;
        Ok(credentials.slot(wanted))
    };
    Ok(Some(match sign_in {
        RedisSignIn::Nobody => return Ok(None),
        RedisSignIn::Identity { user, identity: of } => Arc::new(Fetched {
            user: user.clone(),
            slot: slot(token(of), "signing in at limits.store.redis")?,
            clock,
        }),
        RedisSignIn::Password { user, password } => {
            let user = user.clone().unwrap_or_default();
            let here = match &password.value {
                SecretSource::Env(name) => SecretFrom::Env(name.clone()),
                SecretSource::File(path) => SecretFrom::File(path.clone()),
                SecretSource::KeyVault(secret) => {
                    let wanted = Wanted::Secret(wanted_secret(secret, &gateway.key_vault));
                    let slot = slot(wanted, "reading limits.store.redis.password")?;
                    let user = Some(user);
                    return Ok(Some(Arc::new(Fetched { user, slot, clock })));
                }
            };
            here.text()
                .map_err(machine("reading limits.store.redis.password"))?;
            Arc::new(Here {
                user,
                place: here,
                clock,
                looked: Mutex::default(),
            })
        }
    }))
}

/// An Entra token, or a password in a key vault.
struct Fetched {
    /// Who signs in; whom the token is about where it is absent.
    user: Option<String>,
    slot: Arc<Slot>,
    clock: Arc<dyn Clock>,
}

impl Authentication for Fetched {
    fn current(&self) -> Option<(String, Secret<String>)> {
        let secret = self.slot.text(&self.clock.now())?;
        let user = match &self.user {
            Some(user) => user.clone(),
            None => object_of(secret.expose())?,
        };
        Some((user, secret))
    }
}

/// Whom a token of the gateway's own is about. Redis compares it with what it verifies itself.
fn object_of(token: &str) -> Option<String> {
    let claims = unverified_claims(token, &[Algorithm::Rs256]).ok()?;
    Some(claims.get("oid")?.as_str()?.to_owned())
}

/// A password in a file or variable.
struct Here {
    user: String,
    place: SecretFrom,
    clock: Arc<dyn Clock>,
    looked: Mutex<Option<(Instant, Secret<String>)>>,
}

impl Authentication for Here {
    fn current(&self) -> Option<(String, Secret<String>)> {
        let now = self.clock.instant();
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |(at, _): &(Instant, _)| now.saturating_duration_since(*at) < LOOK_EVERY;
        if !looked.as_ref().is_some_and(is_fresh) {
            // The last good one serves while the file cannot be read.
            let last = looked.take().map(|(_, password)| password);
            *looked = Some((now, self.place.text().ok().or(last)?));
        }
        let (_, password) = looked.as_ref()?;
        Some((self.user.clone(), password.clone()))
    }
}
