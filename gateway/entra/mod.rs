//! Entra ID: issuers and their signing keys, verification of access tokens, the cache of verified
//! tokens, and the [`Principal`] that comes of them.

mod algorithm;
mod cache;
mod claimed;
mod claims;
mod disk;
mod identity;
mod issuer;
mod json;
mod keys;
mod last;
mod metadata;
mod principal;
mod rules;
mod source;
mod spec;
mod template;
mod token;
mod verify;
mod version;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

pub use algorithm::Algorithm;
pub use claimed::simulate;
pub use claims::ClaimNames;
pub use disk::KeyFolder;
pub use issuer::{IssuerKeys, KeyStatus, Rhythm};
pub use last::{Known, LastToken, Lookup};
pub use principal::{Groups, Principal};
pub use rules::{ClaimRules, TenantKeys, TokenRules};
pub use source::{Authority, FetchFailure, Fetched, Fetching, KeySource};
pub use spec::TokenSpec;
pub use token::{claims, unverified_claims};
pub use version::Version;

use cache::TokenCache;
use issuer::Upkeep;
use verify::Verified;

use crate::clock::{Clock, Now};
use crate::denial::{Denial, Reason};
use crate::ids::TenantId;

/// What outlives a snapshot: the keys that are kept fresh, and the tokens that were verified.
pub struct Entra {
    upkeep: Upkeep,
    control: tokio::runtime::Handle,
    issuers: Mutex<HashMap<(TenantId, Version), Weak<IssuerKeys>>>,
    cache: TokenCache,
}

impl Entra {
    /// Keeps keys from `source` on the runtime `control`, and at most `cached_tokens` verified tokens.
    pub fn new(
        clock: Arc<dyn Clock>,
        source: Arc<dyn KeySource>,
        folder: Option<KeyFolder>,
        control: tokio::runtime::Handle,
        cached_tokens: usize,
    ) -> Arc<Self> {
        let entra = Arc::new(Self {
            upkeep: Upkeep {
                clock: Arc::clone(&clock),
                source,
                folder: folder.map(Arc::new),
            },
            control,
            issuers: Mutex::default(),
            cache: TokenCache::new(cached_tokens),
        });
        entra.control.spawn(sweep(Arc::downgrade(&entra), clock));
        entra
    }

    /// The keys of a tenant's issuers: those that are kept already, in this rhythm from now on.
    pub fn tenant(&self, tenant: TenantId, rhythm: Rhythm) -> TenantKeys {
        let mut issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        issuers.retain(|_, kept| kept.strong_count() > 0);
        let mut of = |version| {
            let kept = issuers.get(&(tenant, version)).and_then(Weak::upgrade);
            if let Some(kept) = kept {
                kept.set_rhythm(rhythm);
                return kept;
            }
            let upkeep = self.upkeep.clone();
            let keys = IssuerKeys::start(tenant, version, rhythm, upkeep, &self.control);
            issuers.insert((tenant, version), Arc::downgrade(&keys));
            keys
        };
        TenantKeys {
            v1: of(Version::V1),
            v2: of(Version::V2),
        }
    }

    /// How many verified tokens are remembered.
    pub fn cached_tokens(&self) -> usize {
        self.cache.len()
    }

    /// How many issuers' keys somebody holds.
    #[cfg(test)]
    fn issuers_kept(&self) -> usize {
        let issuers = self.issuers.lock().unwrap_or_else(PoisonError::into_inner);
        issuers
            .values()
            .filter(|kept| kept.strong_count() > 0)
            .count()
    }

    /// Whether a token was verified before, so that asking for its principal costs little.
    pub fn knows(&self, token: &str) -> bool {
        let digest = self.cache.digest(token);
        digest.is_some_and(|digest| self.cache.find(&digest).is_some())
    }

    /// Turns a bearer token into the principal that it proves. A token that was verified before costs
    /// a hash and a look-up; what may have changed since is asked again. With it comes what is known of the
    /// token, for a connection that brings it once more.
    ///
    /// # Errors
    /// The denial that says what is wrong with the token, or that its keys are not to be had.
    pub async fn authenticate(
        &self,
        token: &str,
        rules: &TokenRules,
        now: &Now,
    ) -> Result<(Arc<Principal>, Known), Denial> {
        if token.len() > rules.longest_token {
            return Err(Denial::from(Reason::TokenTooLarge).expected(
                format!("at most {} bytes", rules.longest_token),
                format!("{} bytes", token.len()),
            ));
        }
        let digest = self.cache.digest(token);
        if let Some(digest) = &digest
            && let Some(verified) = self.cache.find(digest)
        {
            let known = Known::new(verified, token.len(), Lookup::Cache);
            match known.admit(rules, now) {
                Some(outcome) => return outcome.map(|principal| (principal, known)),
                // The token is looked at as if for the first time: a key that was withdrawn may have come
                // back, and if not, the reason comes out as it would for a stranger.
                None => self.cache.forget(digest),
            }
        }
        // Boxed, for it is rare and large, and every request would carry the room for it.
        let verified = Arc::new(Box::pin(Verified::establish(token, rules, now)).await?);
        let principal = verified.admit(rules, now).cloned()?;
        if let Some(digest) = digest {
            self.cache.remember(digest, Arc::clone(&verified));
        }
        let known = Known::new(verified, token.len(), Lookup::Verified);
        Ok((principal, known))
    }
}

/// How often the memory of tokens that have expired is given back.
const BETWEEN_SWEEPS: Duration = Duration::from_secs(60);

/// Gives back the memory of tokens that have expired, for as long as anybody has use for the others.
async fn sweep(entra: Weak<Entra>, clock: Arc<dyn Clock>) {
    loop {
        clock.sleep(BETWEEN_SWEEPS).await;
        let Some(entra) = entra.upgrade() else { return };
        entra.cache.sweep(&clock.now());
    }
}
