//! The two forms of Entra's access tokens.

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
        match ver {
            "1.0" => Some(Self::V1),
            "2.0" => Some(Self::V2),
            _ => None,
        }
    }

    /// The claim that names the app in tokens of this version.
    pub(super) const fn app_claim(self) -> &'static str {
        match self {
            Self::V1 => "appid",
            Self::V2 => "azp",
        }
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::V1 => Self::V2,
            Self::V2 => Self::V1,
        }
    }
}
