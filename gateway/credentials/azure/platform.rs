//! Who hands out managed identities where the gateway runs, by the environment, as Azure's own libraries
//! tell it.

use std::fmt;
use std::path::Path;

/// Who hands out managed identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Platform {
    /// App Service, Functions and Container Apps.
    AppService,
    /// The agent of Azure Arc, at this URL.
    Arc {
        /// Its token endpoint.
        endpoint: String,
        /// How it is known.
        why: &'static str,
    },
    /// The metadata service of virtual machines.
    Imds,
    /// Somebody whose protocol the gateway does not speak.
    Unsupported {
        /// Who, and what to do.
        why: String,
    },
}

/// The agent's program, which is there where the agent is.
const ARC_AGENT: &str = "/opt/azcmagent/bin/himds";
/// Where the agent listens if nobody says.
const ARC_ENDPOINT: &str = "http://127.0.0.1:40342/metadata/identity/oauth2/token";

impl Platform {
    /// By the environment of the process.
    pub fn detect() -> Self {
        let env = |name: &str| std::env::var(name).ok();
        Self::by(env, Path::new(ARC_AGENT).exists())
    }

    fn by(env: impl Fn(&str) -> Option<String>, has_arc_agent: bool) -> Self {
        let has = |name: &str| env(name).is_some();
        if let Some(endpoint) = env("IDENTITY_ENDPOINT") {
            if has("IDENTITY_HEADER") && has("IDENTITY_SERVER_THUMBPRINT") {
                return Self::unsupported("Service Fabric");
            }
            if has("IDENTITY_HEADER") {
                return Self::AppService;
            }
            if has("IMDS_ENDPOINT") {
                return Self::Arc {
                    endpoint,
                    why: "IDENTITY_ENDPOINT and IMDS_ENDPOINT are set",
                };
            }
        } else if has("MSI_ENDPOINT") {
            let who = match has("MSI_SECRET") {
                true => "Azure Machine Learning",
                false => "Cloud Shell",
            };
            return Self::unsupported(who);
        }
        match has_arc_agent {
            true => Self::Arc {
                endpoint: ARC_ENDPOINT.to_owned(),
                why: "its agent is installed",
            },
            false => Self::Imds,
        }
    }

    fn unsupported(who: &str) -> Self {
        Self::Unsupported {
            why: format!(
                "managed identities of {who} are not supported; use `app` with a certificate, or a key"
            ),
        }
    }
}

/// Who was chosen, and why.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AppService => f.write_str(
                "managed identities are those of App Service, Functions or Container Apps, because IDENTITY_ENDPOINT and IDENTITY_HEADER are set",
            ),
            Self::Arc { why, .. } => write!(
                f,
                "managed identities are those of Azure Arc, because {why}"
            ),
            Self::Imds => f.write_str(
                "managed identities are those of IMDS, because the environment names no other identity endpoint",
            ),
            Self::Unsupported { why } => f.write_str(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_who_hands_out_identities() {
        let arc = |endpoint: &str| Platform::Arc {
            endpoint: endpoint.to_owned(),
            why: match endpoint {
                ARC_ENDPOINT => "its agent is installed",
                _ => "IDENTITY_ENDPOINT and IMDS_ENDPOINT are set",
            },
        };
        let rows: &[(&[&str], bool, Platform)] = &[
            (&[], false, Platform::Imds),
            (&[], true, arc(ARC_ENDPOINT)),
            (
                &["IDENTITY_ENDPOINT", "IDENTITY_HEADER"],
                true,
                Platform::AppService,
            ),
            (
                &["IDENTITY_ENDPOINT", "IMDS_ENDPOINT"],
                false,
                arc("IDENTITY_ENDPOINT"),
            ),
            (&["IDENTITY_ENDPOINT"], false, Platform::Imds),
            (&["IDENTITY_HEADER"], false, Platform::Imds),
            (
                &[
                    "IDENTITY_ENDPOINT",
                    "IDENTITY_HEADER",
                    "IDENTITY_SERVER_THUMBPRINT",
                ],
                false,
                Platform::unsupported("Service Fabric"),
            ),
            (
                &["MSI_ENDPOINT", "MSI_SECRET"],
                false,
                Platform::unsupported("Azure Machine Learning"),
            ),
            (
                &["MSI_ENDPOINT"],
                false,
                Platform::unsupported("Cloud Shell"),
            ),
        ];
        for (set, has_agent, expected) in rows {
            let env = |name: &str| set.contains(&name).then(|| name.to_owned());
            assert_eq!(
                Platform::by(env, *has_agent),
                *expected,
                "{set:?} {has_agent}"
            );
        }
    }
}
