//! What a token must be, by the configuration and the policy in force.

use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;

use uuid::Uuid;

use super::algorithm::Algorithm;
use super::claims::ClaimNames;
use super::issuer::IssuerKeys;
use super::version::Version;
use crate::denial::{Denial, Reason};
use crate::ids::TenantId;

/// The keys of a tenant's two issuers. They share nothing, so that the outage of one leaves the other.
#[derive(Clone, Debug)]
pub struct TenantKeys {
    pub(super) v1: Arc<IssuerKeys>,
    pub(super) v2: Arc<IssuerKeys>,
}

impl TenantKeys {
    /// The issuer of one version.
    pub fn of(&self, version: Version) -> &Arc<IssuerKeys> {
        match version {
            Version::V1 => &self.v1,
            Version::V2 => &self.v2,
        }
    }
}

/// The rules that every token is held to, cached or not.
#[derive(Debug)]
pub struct TokenRules {
    /// The tenants that the policy names, and their keys.
    pub tenants: HashMap<TenantId, TenantKeys>,
    /// What claims are held to.
    pub claims: ClaimRules,
    /// The algorithms that are allowed.
    pub algorithms: Vec<Algorithm>,
    /// The longest token, in bytes.
    pub longest_token: usize,
    /// The claims that principals keep for what is asked behind verification.
    pub kept: ClaimNames,
}

/// What claims are held to, whosever they are and whoever signed them.
#[derive(Clone, Debug)]
pub struct ClaimRules {
    /// The audiences that tokens may be meant for, exactly as written.
    pub audiences: Vec<Box<str>>,
    /// The versions that are accepted.
    pub versions: Vec<Version>,
    /// How far the authority's clock may be from ours.
    pub clock_skew: Duration,
}

impl ClaimRules {
    /// Whether tokens of this version are accepted.
    pub(super) fn accepts(&self, version: Version) -> Result<(), Denial> {
        if self.versions.contains(&version) {
            return Ok(());
        }
        let names: Vec<_> = self.versions.iter().map(|version| version.name()).collect();
        Err(Denial::from(Reason::TokenVersionNotAccepted).expected(
            format!("a {} token", names.join(" or ")),
            format!("a {} token", version.name()),
        ))
    }

    /// Whether a token for `audience` is meant for this gateway: exactly as configured. A near miss
    /// is told apart, for it is the mistake that most people make.
    pub(super) fn audience(&self, audience: &str) -> Result<(), Denial> {
        if self.audiences.iter().any(|own| **own == *audience) {
            return Ok(());
        }
        let reason = if is_graph(audience) {
            Reason::GraphToken
        } else if self
            .audiences
            .iter()
            .any(|own| same_in_other_form(own, audience))
            || !self
                .audiences
                .iter()
                .any(|own| is_guid(own) == is_guid(audience))
        {
            Reason::AudienceForm
        } else {
            Reason::AudienceMismatch
        };
        Err(Denial::from(reason)
            .expected(self.audiences.join(", "), super::token::printable(audience)))
    }
}

fn is_guid(audience: &str) -> bool {
    audience.len() == 36 && Uuid::try_parse(audience).is_ok()
}

/// Microsoft Graph, by its URI or its app ID.
fn is_graph(audience: &str) -> bool {
    matches!(
        audience.trim_end_matches('/'),
        "https://graph.microsoft.com" | "00000003-0000-0000-c000-000000000000"
    )
}

/// `api://{guid}` and `{guid}`, a trailing slash more or less, another letter case.
fn same_in_other_form(own: &str, audience: &str) -> bool {
    let bare = |text: &str| {
        let text = text.trim_end_matches('/');
        text.strip_prefix("api://")
            .unwrap_or(text)
            .to_ascii_lowercase()
    };
    bare(own) == bare(audience)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_is_exact_and_a_near_miss_is_named() {
        const GUID: &str = "99999999-9999-9999-9999-999999999999";
        let with_guid = format!("api://{GUID}");
        for (name, own, audience, expected) in [
            ("exact", "api://gateway", "api://gateway", None),
            (
                "slash more",
                "api://gateway",
                "api://gateway/",
                Some(Reason::AudienceForm),
            ),
            (
                "case",
                "api://gateway",
                "api://Gateway",
                Some(Reason::AudienceForm),
            ),
            (
                "guid for its uri",
                &with_guid,
                GUID,
                Some(Reason::AudienceForm),
            ),
            (
                "uri for its guid",
                GUID,
                &with_guid,
                Some(Reason::AudienceForm),
            ),
            (
                "guid where a uri is configured",
                "api://gateway",
                GUID,
                Some(Reason::AudienceForm),
            ),
            (
                "uri where a guid is configured",
                GUID,
                "api://gateway",
                Some(Reason::AudienceForm),
            ),
            (
                "another api",
                "api://gateway",
                "api://other",
                Some(Reason::AudienceMismatch),
            ),
            (
                "a prefix",
                "api://gateway",
                "api://gateway/x",
                Some(Reason::AudienceMismatch),
            ),
            (
                "graph",
                "api://gateway",
                "https://graph.microsoft.com",
                Some(Reason::GraphToken),
            ),
            (
                "graph by id",
                GUID,
                "00000003-0000-0000-c000-000000000000",
                Some(Reason::GraphToken),
            ),
        ] {
            let rules = ClaimRules {
                audiences: vec![own.into()],
                versions: vec![],
                clock_skew: Duration::ZERO,
            };
            let got = rules.audience(audience).err().map(|denial| denial.reason());
            assert_eq!(got, expected, "{name}");
        }
    }
}
