//! Verification: a token and the keys of its issuer become a principal, or a denial.
//!
//! What does not change while a token lives is established once and remembered ([`Verified`]): its
//! shape, its signature, its claims. What may change is asked anew for every request
//! ([`Verified::admit`]): the time, the policy's tenants and audiences, and whether the key still counts.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::issuer::{IssuerKeys, Loaded, Refreshed};
use super::keys::SigningKey;
use super::principal::{self, Principal};
use super::rules::{TenantKeys, TokenRules};
use super::token::{Token, printable};
use super::version::Version;
use crate::clock::Now;
use crate::denial::{Denial, Reason};
use crate::ids::{PERSONAL_ACCOUNTS, TenantId};

/// How soon a caller may try again when keys are missing. The background tries at least this often.
const KEYS_RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// A token whose signature was verified, and what about it cannot change.
pub(super) struct Verified {
    principal: Arc<Principal>,
    audience: Box<str>,
    /// Seconds since the Unix epoch.
    expires: u64,
    not_before: Option<u64>,
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
        let token = Token::parse(text, &rules.algorithms)?;
        let claimed = Claimed::read(&token.claims, rules)?;
        let keys = rules.tenants.get(&claimed.tenant);
        let keys = keys.ok_or_else(|| claimed.not_trusted())?;
        let loaded = claimed.issuer(keys).await?;
        let key = find_key(&token, &claimed, keys, loaded, now).await?;
        if !key.verifies(token.header.algorithm, token.signed, &token.signature) {
            return Err(Reason::SignatureInvalid.into());
        }
        Self::read(&token, &claimed, key)
    }

    /// Reads the claims of a token whose signature is good.
    fn read(
        token: &Token<'_>,
        claimed: &Claimed<'_>,
        key: Arc<SigningKey>,
    ) -> Result<Self, Denial> {
        let claims = &token.claims;
        if claims.contains_key("cnf") {
            return Err(
                Denial::from(Reason::TokenBound).expected("a bearer token", "a token with `cnf`")
            );
        }
        // Members of an ID token alone (OpenID Connect Core section 3.1.3.6 and 2).
        if ["nonce", "at_hash", "c_hash"]
            .iter()
            .any(|name| claims.contains_key(*name))
        {
            return Err(Denial::from(Reason::IdToken).expected("an access token", "an ID token"));
        }
        let audience = principal::text(claims, "aud")?;
        let audience = audience.ok_or_else(|| malformed("`aud` as text", "none"))?;
        let expires = seconds(claims, "exp")?;
        Ok(Self {
            principal: Arc::new(Principal::read(claims, claimed.tenant, claimed.version)?),
            audience: audience.into(),
            expires: expires.ok_or_else(|| malformed("`exp`", "none"))?,
            not_before: seconds(claims, "nbf")?,
            algorithm: token.header.algorithm,
            key,
        })
    }

    /// Asks what may have changed. Allocates nothing when all is well.
    pub(super) fn admit(&self, rules: &TokenRules, now: &Now) -> Result<&Arc<Principal>, Denial> {
        if !rules.tenants.contains_key(&self.principal.tenant()) {
            return Err(Reason::IssuerNotTrusted.into());
        }
        if !rules.algorithms.contains(&self.algorithm) {
            return Err(Reason::AlgorithmNotAllowed.into());
        }
        rules.accepts(self.principal.version())?;
        if self.key.is_withdrawn() {
            return Err(Reason::KeyUnknown.into());
        }
        self.in_time(rules, now)?;
        rules.audience(&self.audience)?;
        Ok(&self.principal)
    }

    /// RFC 7519 sections 4.1.4 and 4.1.5, each with the skew that is configured.
    fn in_time(&self, rules: &TokenRules, now: &Now) -> Result<(), Denial> {
        let (seconds, skew) = (now.unix_seconds(), rules.clock_skew.as_secs());
        if seconds >= self.expires.saturating_add(skew) {
            let late = seconds.saturating_sub(self.expires);
            return Err(Denial::from(Reason::TokenExpired).expected(
                "a token that has not expired",
                format!("expired {late} s ago"),
            ));
        }
        let early = self.not_before.unwrap_or(0).saturating_sub(seconds);
        if early > skew {
            return Err(Denial::from(Reason::TokenNotYetValid)
                .expected("a token that is valid now", format!("valid in {early} s")));
        }
        Ok(())
    }

    /// When the token ends, in seconds since the Unix epoch, for the cache to free its memory.
    pub(super) fn expires(&self) -> u64 {
        self.expires
    }
}

/// What a token says of its origin, before anything of it is believed.
struct Claimed<'c> {
    tenant: TenantId,
    version: Version,
    issuer: &'c str,
}

impl<'c> Claimed<'c> {
    fn read(claims: &'c Map<String, Value>, rules: &TokenRules) -> Result<Self, Denial> {
        let required = |name: &str| {
            let claim = principal::text(claims, name)?;
            claim.ok_or_else(|| malformed(&format!("`{name}`"), "none"))
        };
        let issuer = required("iss")?;
        let tenant = required("tid")?;
        let tenant = tenant
            .parse()
            .map_err(|_| malformed("`tid` as a GUID", "another form"))?;
        if tenant == PERSONAL_ACCOUNTS {
            return Err(Denial::from(Reason::PersonalAccount)
                .expected("a tenant that the policy names", format!("tenant {tenant}")));
        }
        let version = required("ver")?;
        let version = Version::of_claim(version)
            .ok_or_else(|| malformed("`ver` 1.0 or 2.0", &printable(version)))?;
        let claimed = Self {
            tenant,
            version,
            issuer,
        };
        if !rules.tenants.contains_key(&tenant) {
            return Err(claimed.not_trusted());
        }
        rules.accepts(version)?;
        Ok(claimed)
    }

    fn not_trusted(&self) -> Denial {
        Denial::from(Reason::IssuerNotTrusted).expected(
            "a tenant that the policy names",
            format!("tenant {} ({})", self.tenant, printable(self.issuer)),
        )
    }

    /// The keys of the issuer that the token names, which must be its tenant's own, in its version.
    async fn issuer(&self, keys: &TenantKeys) -> Result<Arc<Loaded>, Denial> {
        let issuer = keys.of(self.version);
        let loaded = match issuer.loaded() {
            Some(loaded) => loaded,
            None => {
                issuer.first().await;
                issuer.loaded().ok_or_else(keys_unavailable)?
            }
        };
        if loaded.issuer == self.issuer {
            return Ok(loaded);
        }
        let other = keys.of(self.version.other()).loaded();
        let reason = match other {
            Some(other) if other.issuer == self.issuer => Reason::TokenVersionMismatch,
            _ => Reason::IssuerMismatch,
        };
        Err(Denial::from(reason).expected(loaded.issuer.clone(), printable(self.issuer)))
    }
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

fn malformed(expected: &str, got: &str) -> Denial {
    Denial::from(Reason::ClaimsMalformed).expected(expected, got)
}

/// A NumericDate (RFC 7519 section 2) in whole seconds. Fractions and negatives are no form of Entra's.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, Denial> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(malformed(
                &format!("`{name}` in whole seconds"),
                "another form",
            )),
        },
    }
}
