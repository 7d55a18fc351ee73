//! Verification: a token and the keys of its issuer become a principal, or a denial.
//!
//! What does not change while a token lives is established once and remembered ([`Verified`]): its
//! shape, its signature, its claims. What may change is asked anew for every request
//! ([`Verified::admit`]): the time, the policy's tenants and audiences, and whether the key still counts.

use std::sync::Arc;

use super::algorithm::Algorithm;
use super::claimed::{Claimed, Established};
use super::claims::Claims;
use super::issuer::{IssuerKeys, Loaded, Refreshed};
use super::keys::SigningKey;
use super::principal::Principal;
use super::rules::{TenantKeys, TokenRules};
use super::token::{Token, printable};
use crate::clock::Now;
use crate::denial::{Denial, Reason};

/// How soon a caller may try again when keys are missing. The background tries at least this often.
const KEYS_RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// A token whose signature was verified, and what about it cannot change.
pub(super) struct Verified {
    claimed: Established,
    algorithm: Algorithm,
    key: Arc<SigningKey>,
}

impl Verified {
    /// Establishes what cannot change: everything up to and including the signature, and the claims.
    pub(super) async fn establish(
        text: &str,
        rules: &TokenRules,
        now: &Now,
    ) -> Result<Self, Denial> {
        let mut room = String::new();
        let token = Token::parse(text, &rules.algorithms, &mut room)?;
        let trusted = |tenant| rules.tenants.contains_key(&tenant);
        let claimed = Claimed::read(&token.claims, trusted, &rules.claims)?;
        let keys = rules.tenants.get(&claimed.tenant);
        let keys = keys.ok_or_else(|| claimed.not_trusted())?;
        let loaded = issuer(&claimed, keys).await?;
        let key = find_key(&token, &claimed, keys, loaded, now).await?;
        if !key.verifies(token.header.algorithm, token.signed, &token.signature) {
            return Err(Reason::SignatureInvalid.into());
        }
        let kept = Claims::some(&token.claims, &rules.kept);
        Ok(Self {
            claimed: Established::read(&token.claims, kept, claimed.tenant, claimed.version)?,
            algorithm: token.header.algorithm,
            key,
        })
    }

    /// Asks what may have changed. Allocates nothing when all is well.
    pub(super) fn admit(&self, rules: &TokenRules, now: &Now) -> Result<&Arc<Principal>, Denial> {
        if !rules.tenants.contains_key(&self.claimed.principal.tenant()) {
            return Err(Reason::IssuerNotTrusted.into());
        }
        if !rules.algorithms.contains(&self.algorithm) {
            return Err(Reason::AlgorithmNotAllowed.into());
        }
        rules.claims.accepts(self.claimed.principal.version())?;
        if self.key.is_withdrawn() {
            return Err(Reason::KeyUnknown.into());
        }
        self.claimed.admit(&rules.claims, now.unix_seconds())?;
        Ok(&self.claimed.principal)
    }

    /// Whether all is known of the token that these rules ask for.
    pub(super) fn suffices(&self, rules: &TokenRules) -> bool {
        self.claimed.principal.knows_claims(&rules.kept)
    }

    /// When the token ends, in seconds since the Unix epoch, for the cache to free its memory.
    pub(super) fn expires(&self) -> u64 {
        self.claimed.expires
    }
}

/// The keys of the issuer that the token names, which must be its tenant's own, in its version.
async fn issuer(claimed: &Claimed<'_>, keys: &TenantKeys) -> Result<Arc<Loaded>, Denial> {
    let issuer = keys.of(claimed.version);
    let loaded = match issuer.loaded() {
        Some(loaded) => loaded,
        None => {
            issuer.first().await;
            issuer.loaded().ok_or_else(keys_unavailable)?
        }
    };
    let other = keys.of(claimed.version.other()).loaded();
    let other = other.as_ref().map(|other| other.issuer.as_str());
    claimed.is_of(&loaded.issuer, other)?;
    Ok(loaded)
}

/// The key that the token names, among those that count for its issuer; fresher keys are asked for once.
async fn find_key(
    token: &Token<'_>,
    claimed: &Claimed<'_>,
    keys: &TenantKeys,
    loaded: Arc<Loaded>,
    now: &Now,
) -> Result<Arc<SigningKey>, Denial> {
    let id = &token.header.key_id;
    let issuer: &IssuerKeys = keys.of(claimed.version);
    let found = match pick(&loaded, id, claimed, keys) {
        Err(Reason::KeyUnknown) => {
            let refreshed = issuer.refresh(now).await;
            let loaded = issuer.loaded().ok_or_else(keys_unavailable)?;
            match (pick(&loaded, id, claimed, keys), refreshed) {
                // The endpoint is down, and the key may be new: the token may be good.
                (Err(Reason::KeyUnknown), Refreshed::Failed) => return Err(keys_unavailable()),
                (picked, _) => picked,
            }
        }
        picked => picked,
    };
    found.map_err(|reason| match reason {
        Reason::KeysUnavailable => keys_unavailable(),
        reason => {
            Denial::from(reason).expected("a key of the issuer", format!("kid {}", printable(id)))
        }
    })
}

fn pick(
    loaded: &Loaded,
    id: &str,
    claimed: &Claimed<'_>,
    keys: &TenantKeys,
) -> Result<Arc<SigningKey>, Reason> {
    let listed = loaded.keys.find(id);
    if listed.is_empty() {
        return Err(Reason::KeyUnknown);
    }
    let other = keys.of(claimed.version.other()).loaded();
    let issuers = || {
        let other = other.as_ref().map(|other| other.issuer.as_str());
        std::iter::once(loaded.issuer.as_str()).chain(other)
    };
    let counts = listed
        .iter()
        .find(|key| key.counts_for(claimed.tenant, issuers()));
    // A key may belong to the tenant's other issuer, which is not known while that one is down.
    let unknown = if other.is_some() {
        Reason::KeyNotForIssuer
    } else {
        Reason::KeysUnavailable
    };
    counts.cloned().ok_or(unknown)
}

fn keys_unavailable() -> Denial {
    Denial::from(Reason::KeysUnavailable).retry_after(KEYS_RETRY)
}
