//! The two forms of Entra's access tokens.

use crate::files::TokenVersions;
use crate::ids::TenantId;

/// A token's version, which the API's registration chooses, not the endpoint that was asked.
/// <https://learn.microsoft.com/entra/identity-platform/access-tokens#token-formats>
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// `ver` 1.0, issuer at `sts.windows.net`, the app in `appid`.
    V1,
    /// `ver` 2.0, issuer ending in `/v2.0`, the app in `azp`.
    V2,
}

impl Version {
    /// Those that a configuration accepts.
    pub fn accepted(by: TokenVersions) -> Vec<Self> {
        let TokenVersions { v1, v2 } = by;
        let versions = [v1.then_some(Self::V1), v2.then_some(Self::V2)];
        versions.into_iter().flatten().collect()
    }

    /// Both, oldest first.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];

    /// As configuration and logs write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    /// Reads the `ver` claim.
    pub(super) fn of_claim(ver: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.claim() == ver)
    }

    /// The claim that names the app in tokens of this version.
    pub(super) const fn app_claim(self) -> &'static str {
        match self {
            Self::V1 => "appid",
            Self::V2 => "azp",
        }
    }

    /// The claim that says how the app proved itself.
    pub(super) const fn strength_claim(self) -> &'static str {
        match self {
            Self::V1 => "appidacr",
            Self::V2 => "azpacr",
        }
    }

    /// As the `ver` claim writes it.
    pub const fn claim(self) -> &'static str {
        match self {
            Self::V1 => "1.0",
            Self::V2 => "2.0",
        }
    }

    /// The issuers of a tenant's tokens in the clouds that are known, the global one first.
    /// <https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud>
    pub fn issuers(self, tenant: TenantId) -> Vec<String> {
        let (hosts, end): (&[&str], _) = match self {
            Self::V1 => (&["sts.windows.net", "sts.chinacloudapi.cn"], "/"),
            Self::V2 => (
                &[
                    "login.microsoftonline.com",
                    "login.microsoftonline.us",
                    "login.partner.microsoftonline.cn",
                ],
                "/v2.0",
            ),
        };
        let issuer = |host: &&str| format!("https://{host}/{tenant}{end}");
        hosts.iter().map(issuer).collect()
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::V1 => Self::V2,
            Self::V2 => Self::V1,
        }
    }
}
