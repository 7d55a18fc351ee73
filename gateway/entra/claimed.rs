//! What a token says: of its origin, before anything of it is believed, and of who calls and for how
//! long. Nothing here looks at a signature, so that the same checks serve where there is none: when a
//! policy is tested, explained or replayed.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::claims::Claims;
use super::json::{self, Object};
use super::principal::{self, Principal};
use super::rules::ClaimRules;
use super::token::printable;
use super::version::Version;
use crate::denial::{Denial, Reason};
use crate::ids::{PERSONAL_ACCOUNTS, TenantId};

/// What a token says of its origin, before anything of it is believed.
pub(super) struct Claimed<'c> {
    pub(super) tenant: TenantId,
    pub(super) version: Version,
    issuer: &'c str,
}

impl<'c> Claimed<'c> {
    pub(super) fn read(
        claims: &'c Object<'_>,
        trusted: impl Fn(TenantId) -> bool,
        rules: &ClaimRules,
    ) -> Result<Self, Denial> {
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
        if !trusted(tenant) {
            return Err(claimed.not_trusted());
        }
        rules.accepts(version)?;
        Ok(claimed)
    }

    pub(super) fn not_trusted(&self) -> Denial {
        Denial::from(Reason::IssuerNotTrusted).expected(
            "a tenant that the policy names",
            format!("tenant {} ({})", self.tenant, printable(self.issuer)),
        )
    }

    /// Whether the issuer is the tenant's own, in the token's version. `other` is the tenant's issuer of
    /// the other version, where it is known.
    pub(super) fn is_of(&self, own: &str, other: Option<&str>) -> Result<(), Denial> {
        if own == self.issuer {
            return Ok(());
        }
        let reason = match other {
            Some(other) if other == self.issuer => Reason::TokenVersionMismatch,
            _ => Reason::IssuerMismatch,
        };
        Err(Denial::from(reason).expected(own, printable(self.issuer)))
    }
}

/// What a token says that cannot change: who calls, and for how long.
pub(super) struct Established {
    pub(super) principal: Arc<Principal>,
    /// Seconds since the Unix epoch.
    pub(super) expires: u64,
    not_before: Option<u64>,
}

impl Established {
    /// Reads the claims of a token of this tenant and version; `kept` are those that may be asked for later.
    pub(super) fn read(
        claims: &Object<'_>,
        kept: Claims,
        tenant: TenantId,
        version: Version,
    ) -> Result<Self, Denial> {
        if claims.contains("cnf") {
            return Err(
                Denial::from(Reason::TokenBound).expected("a bearer token", "a token with `cnf`")
            );
        }
        // Members of an ID token alone (OpenID Connect Core section 3.1.3.6 and 2).
        if ["nonce", "at_hash", "c_hash"]
            .iter()
            .any(|name| claims.contains(name))
        {
            return Err(Denial::from(Reason::IdToken).expected("an access token", "an ID token"));
        }
        let expires = seconds(claims, "exp")?;
        Ok(Self {
            principal: Arc::new(Principal::read(claims, kept, tenant, version)?),
            expires: expires.ok_or_else(|| malformed("`exp`", "none"))?,
            not_before: seconds(claims, "nbf")?,
        })
    }

    /// Asks what may change: the time (seconds since the Unix epoch), and whom tokens are meant for.
    pub(super) fn admit(&self, rules: &ClaimRules, now: u64) -> Result<(), Denial> {
        self.in_time(rules, now)?;
        rules.audience(self.principal.audience())
    }

    /// RFC 7519 sections 4.1.4 and 4.1.5, each with the skew that is configured.
    fn in_time(&self, rules: &ClaimRules, now: u64) -> Result<(), Denial> {
        let skew = rules.clock_skew.as_secs();
        if now >= self.expires.saturating_add(skew) {
            let late = now.saturating_sub(self.expires);
            return Err(Denial::from(Reason::TokenExpired).expected(
                "a token that has not expired",
                format!("expired {late} s ago"),
            ));
        }
        let early = self.not_before.unwrap_or(0).saturating_sub(now);
        if early > skew {
            return Err(Denial::from(Reason::TokenNotYetValid)
                .expected("a token that is valid now", format!("valid in {early} s")));
        }
        Ok(())
    }
}

/// The principal that claims would prove if somebody had signed them, or the denial that they would
/// get. For tools that ask what a policy says; the path of a request has no use for it.
///
/// # Errors
/// As verification would refuse a token with these claims and a good signature. The issuer is held
/// against those of the clouds that are known, for there is no metadata to ask.
pub fn simulate(
    claims: &Map<String, Value>,
    trusted: impl Fn(TenantId) -> bool,
    rules: &ClaimRules,
    now: u64,
) -> Result<Arc<Principal>, Denial> {
    let text = serde_json::to_string(claims).map_err(|_| Reason::ClaimsMalformed)?;
    let read = json::object(&text).ok_or(Reason::ClaimsMalformed)?;
    let claimed = Claimed::read(&read, trusted, rules)?;
    let own = claimed.version.issuers(claimed.tenant);
    let other = claimed.version.other().issuers(claimed.tenant);
    let named = |issuers: &[String]| issuers.iter().any(|issuer| *issuer == claimed.issuer);
    if !named(&own) {
        let first = own.first().map(String::as_str).unwrap_or_default();
        let other = named(&other).then_some(claimed.issuer);
        claimed.is_of(first, other)?;
    }
    let established =
        Established::read(&read, Claims::every(&read), claimed.tenant, claimed.version)?;
    established.admit(rules, now)?;
    Ok(established.principal)
}

fn malformed(expected: &str, got: &str) -> Denial {
    Denial::from(Reason::ClaimsMalformed).expected(expected, got)
}

/// A NumericDate (RFC 7519 section 2) in whole seconds. Fractions and negatives are no form of Entra's.
fn seconds(claims: &Object<'_>, name: &str) -> Result<Option<u64>, Denial> {
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
