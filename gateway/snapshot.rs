//! The snapshot: one immutable, compiled set of policy and configuration. A request loads it once and
//! sees nothing else; a reload makes a whole new one or none.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::{Clock, Now};
use crate::credentials::Credentials;
use crate::entra::{Entra, Rhythm, TokenRules, Version};
use crate::files::{Diagnostics, GatewayDocument, PolicyDocument, TokenVersions};
use crate::limits::{LimitStore, Limits};
use crate::policy::{self, Policy};
use crate::upstream::{Backends, Endpoints};

/// What is in force.
pub struct Snapshot {
    /// The routes and rules.
    pub policy: Policy,
    /// What tokens are held to.
    pub token_rules: TokenRules,
    /// The rate limits.
    pub limits: Limits,
    /// The backends and their credentials.
    pub backends: Backends,
    /// When it was compiled.
    pub compiled: Now,
}

/// What outlives every snapshot: keys and tokens, credentials, connections, counts.
pub struct Lasting {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Signing keys and verified tokens.
    pub entra: Arc<Entra>,
    /// Credentials for backends.
    pub credentials: Arc<Credentials>,
    /// Where backends are.
    pub endpoints: Endpoints,
    /// The counts of rate limits.
    pub limits: Arc<LimitStore>,
}

impl Lasting {
    /// Compiles documents into a snapshot. `None` when the diagnostics hold an error.
    pub fn compile(
        &self,
        gateway: &GatewayDocument,
        policies: &PolicyDocument,
        diagnostics: &mut Diagnostics,
    ) -> Option<Snapshot> {
        let policy = policy::compile(policies, diagnostics);
        let backends = Backends::compile(policies, &self.endpoints, &self.credentials, diagnostics);
        let (policy, backends) = (policy?, backends?);
        Some(Snapshot {
            token_rules: self.token_rules(gateway, &policy),
            limits: self.limits.compile(policies),
            policy,
            backends,
            compiled: self.clock.now(),
        })
    }

    fn token_rules(&self, gateway: &GatewayDocument, policy: &Policy) -> TokenRules {
        let entra = &gateway.entra;
        let rhythm = Rhythm {
            refresh_every: entra.refresh_every,
            unknown_key_interval: entra.unknown_key_interval,
            key_wait: entra.key_wait,
        };
        let TokenVersions { v1, v2 } = entra.token_versions;
        let versions = [v1.then_some(Version::V1), v2.then_some(Version::V2)];
        let tenants = policy.tenants().iter();
        let tenants: HashMap<_, _> = tenants
            .map(|tenant| (*tenant, self.entra.tenant(*tenant, rhythm)))
            .collect();
        TokenRules {
            tenants,
            audiences: policy.audiences().to_vec(),
            algorithms: entra.algorithms.clone(),
            versions: versions.into_iter().flatten().collect(),
            clock_skew: entra.clock_skew,
            longest_token: entra.max_token_bytes,
        }
    }
}
