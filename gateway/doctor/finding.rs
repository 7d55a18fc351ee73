//! What one check found.

use serde_json::{Value, json};

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// gateway.yaml and the policies.
    Files,
    /// Who hands out managed identities here.
    Platform,
    /// Tokens for backends and Key Vault.
    Identities,
    /// Secrets in Key Vault.
    KeyVault,
    /// Signing keys of tenants.
    SigningKeys,
    /// The machine's clock.
    Clock,
    /// Where callers connect, and what is needed there.
    Listeners,
    /// The gateway's own certificates, and those of apps.
    Certificates,
    /// The way to backends.
    Backends,
    /// Keys that sealed URLs and fingerprints are made with.
    OwnKeys,
    /// The store of limits that replicas share.
    Limits,
    /// Where telemetry is sent, and where logs are written.
    Telemetry,
    /// The admin address, and what protects it.
    Admin,
    /// Backends that are called as a stranger would.
    Probes,
}

impl Area {
    /// As reports write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Platform => "platform",
            Self::Identities => "identities",
            Self::KeyVault => "key-vault",
            Self::SigningKeys => "signing-keys",
            Self::Clock => "clock",
            Self::Listeners => "listeners",
            Self::Certificates => "certificates",
            Self::Backends => "backends",
            Self::OwnKeys => "own-keys",
            Self::Limits => "limits",
            Self::Telemetry => "telemetry",
            Self::Admin => "admin",
            Self::Probes => "probes",
        }
    }
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Good,
    /// It works, and will not for ever or not for everybody.
    Warning,
    /// It does not work, or lets in whom it should not.
    Bad,
}

impl Outcome {
    /// As reports write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "passed",
            Self::Warning => "warning",
            Self::Bad => "failed",
        }
    }
}

/// One check: what was looked at, what was found, what to do about it. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub area: Area,
    /// What was looked at.
    pub name: String,
    /// How it came out.
    pub outcome: Outcome,
    /// What was found.
    pub found: String,
    /// What to do, unless all is well.
    pub advice: Option<String>,
}

impl Finding {
    pub(super) fn good(area: Area, name: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            area,
            name: name.into(),
            outcome: Outcome::Good,
            found: found.into(),
            advice: None,
        }
    }

    pub(super) fn warning(
        area: Area,
        name: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            outcome: Outcome::Warning,
            advice: Some(advice.into()),
            ..Self::good(area, name, found)
        }
    }

    pub(super) fn bad(
        area: Area,
        name: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            outcome: Outcome::Bad,
            advice: Some(advice.into()),
            ..Self::good(area, name, found)
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "area": self.area.name(),
            "name": self.name,
            "outcome": self.outcome.name(),
            "found": self.found,
            "advice": self.advice,
        })
    }
}
