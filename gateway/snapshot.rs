//! The snapshot: one immutable, compiled set of policy and configuration. A request loads it once and
//! sees nothing else; a reload makes a whole new one or none.

use std::sync::Arc;

use crate::clock::{Clock, Now};
use crate::credentials::{Credentials, Derived};
use crate::entra::{ClaimRules, Entra, Rhythm, TokenRules, Version};
use crate::files::{Diagnostics, GatewayDocument, PolicyDocument, PolicyFile};
use crate::fingerprint::{Fingerprint, FingerprintKey};
use crate::limits::{self, LimitStore, Limits};
use crate::policy::{self, Policy};
use crate::seal::Ring;
use crate::telemetry::Recorded;
use crate::upstream::{Backends, Endpoints, Presenting, Sealing};

/// What is in force.
pub struct Snapshot {
    /// What is decided by.
    pub rules: Rules,
    /// Where it comes from.
    pub origin: Origin,
    /// As it was written, where the gateway tells of itself.
    pub written: Option<Arc<PolicyDocument>>,
    /// What decides beside it and does not act.
    pub candidate: Candidate,
    /// What of a request is kept for its decision, where decisions are recorded.
    pub recorded: Option<Arc<Recorded>>,
    /// The limits.
    pub limits: Limits,
    /// The backends and their credentials.
    pub backends: Backends,
    /// What URLs in answers are sealed with.
    pub sealing: Sealing,
    /// What fingerprints of keys in callers' URLs are made with.
    pub fingerprints: Fingerprints,
    /// When it was compiled.
    pub compiled: Now,
}

/// A policy that only watches.
pub enum Candidate {
    /// None is configured.
    None,
    /// It decides each request, too.
    Watching {
        /// What it decides by.
        rules: Box<Rules>,
        /// Where it comes from.
        origin: Origin,
        /// Whether it trusts the tenants and audiences that the policy in force trusts: a token is then to
        /// the one what it is to the other.
        same_trust: bool,
    },
    /// It has faults, and decides nothing.
    Faulty(Diagnostics),
}

/// What decisions are made by.
pub struct Rules {
    /// The routes and rules.
    pub policy: Policy,
    /// What tokens are held to.
    pub tokens: TokenRules,
}

/// What makes fingerprints.
pub enum Fingerprints {
    /// With the key of the file.
    Configured(Arc<Derived<FingerprintKey>>),
    /// With the process's own.
    Random(Arc<FingerprintKey>),
}

impl Fingerprints {
    /// The configured key, if there is one.
    pub fn configured(&self) -> Option<&Derived<FingerprintKey>> {
        match self {
            Self::Configured(key) => Some(key),
            Self::Random(_) => None,
        }
    }

    /// The hash that a caller's address or principal is told by. `None` while there is no key.
    pub fn of_caller(&self, text: &str, now: &Now) -> Option<Fingerprint> {
        match self {
            Self::Random(key) => Some(key.caller(text)),
            Self::Configured(key) => Some(key.current(now)?.caller(text)),
        }
    }

    /// The key that they are made with now. `None` while there is none.
    pub fn key(&self, now: &Now) -> Option<Arc<FingerprintKey>> {
        match self {
            Self::Random(key) => Some(Arc::clone(key)),
            Self::Configured(key) => key.current(now),
        }
    }
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
    /// What URLs are sealed with where the file names no keys.
    pub ring: Arc<Ring>,
    /// What fingerprints are made with where the file names no key.
    pub fingerprint_key: Arc<FingerprintKey>,
}

/// Where a policy comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// One SHA-256 over all files.
    pub digest: String,
    /// The files.
    pub files: Vec<PolicyFile>,
}

impl Origin {
    /// The origin of a document.
    pub fn of(document: &PolicyDocument) -> Self {
        Self {
            digest: document.digest(),
            files: document.files.clone(),
        }
    }
}

impl Snapshot {
    /// Lets a candidate decide beside it, or says why there is none.
    pub fn with_candidate(mut self, candidate: Result<(Rules, Origin), Diagnostics>) -> Self {
        match candidate {
            Ok((mut candidate, origin)) => {
                // Both ask the same cache, and one asks for the other.
                let kept = both(&self.rules.tokens.kept, candidate.policy.claims_kept());
                self.rules.tokens.kept = kept.into();
                candidate.tokens.kept = Arc::clone(&self.rules.tokens.kept);
                if let Some(recorded) = &self.recorded {
                    self.recorded = Some(Arc::new(Recorded {
                        fields: both(&recorded.fields, candidate.policy.fields_read()),
                        claims: both(&recorded.claims, candidate.policy.claims_read()),
                        policy: recorded.policy.clone(),
                        trust: recorded.trust.clone(),
                    }));
                }
                self.candidate = Candidate::Watching {
                    same_trust: candidate.policy.trust() == self.rules.policy.trust(),
                    rules: Box::new(candidate),
                    origin,
                };
            }
            Err(fault) => self.candidate = Candidate::Faulty(fault),
        }
        self
    }
}

/// The names of two lists, each once.
fn both(one: &[Box<str>], mut other: Vec<Box<str>>) -> Vec<Box<str>> {
    other.extend(one.iter().cloned());
    other.sort_unstable();
    other.dedup();
    other
}

impl Lasting {
    /// Compiles documents into a snapshot. `None` when the diagnostics hold an error.
    pub fn compile(
        &self,
        gateway: &GatewayDocument,
        policies: &Arc<PolicyDocument>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Snapshot> {
        let policy = policy::compile(policies, diagnostics);
        let presenting = Presenting {
            credentials: &self.credentials,
            key_vault: &gateway.key_vault,
        };
        let backends = Backends::compile(policies, &self.endpoints, presenting, diagnostics);
        let sealing = Sealing::compile(gateway, presenting, &self.ring, diagnostics);
        let fingerprints = self.fingerprints(gateway, presenting, diagnostics);
        let (policy, backends, sealing) = (policy?, backends?, sealing?);
        let fingerprints = fingerprints?;
        // Limits are changed where they are: what is refused must not come so far.
        if diagnostics.has_errors() {
            return None;
        }
        let mut rules = self.rules(gateway, policy);
        rules.tokens.kept = both(&rules.tokens.kept, limits::claims_counted(policies)).into();
        Some(Snapshot {
            limits: self.limits.compile(policies, &gateway.limits),
            recorded: gateway.telemetry.decision_log.is_some().then(|| {
                Arc::new(Recorded {
                    fields: rules.policy.fields_read(),
                    claims: rules.policy.claims_read(),
                    policy: policies.digest(),
                    trust: rules.policy.trust(),
                })
            }),
            rules,
            origin: Origin::of(policies),
            written: gateway.admin.is_some().then(|| Arc::clone(policies)),
            candidate: Candidate::None,
            backends,
            sealing,
            fingerprints,
            compiled: self.clock.now(),
        })
    }

    fn fingerprints(
        &self,
        gateway: &GatewayDocument,
        presenting: Presenting<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Fingerprints> {
        let Some(source) = &gateway.telemetry.fingerprint_key else {
            return Some(Fingerprints::Random(Arc::clone(&self.fingerprint_key)));
        };
        let held = presenting.text(source, diagnostics)?;
        let key = Derived::new(vec![held], |texts| match texts.first() {
            Some(text) => FingerprintKey::new(text).map_err(|why| why.to_string()),
            None => Err("there is none".to_owned()),
        });
        if let Some(why) = key.fault(&self.clock.now()) {
            diagnostics
                .error(
                    &source.span,
                    format!("this is no key for fingerprints: {why}"),
                )
                .help("write 32 characters or more: `openssl rand -base64 32`");
            return None;
        }
        Some(Fingerprints::Configured(key))
    }

    /// Compiles a policy that only watches. `None` when the diagnostics hold an error.
    pub fn compile_candidate(
        &self,
        gateway: &GatewayDocument,
        policies: &PolicyDocument,
        diagnostics: &mut Diagnostics,
    ) -> Option<Rules> {
        let policy = policy::compile(policies, diagnostics)?;
        Some(self.rules(gateway, policy))
    }

    fn rules(&self, gateway: &GatewayDocument, policy: Policy) -> Rules {
        Rules {
            tokens: self.token_rules(gateway, &policy),
            policy,
        }
    }

    fn token_rules(&self, gateway: &GatewayDocument, policy: &Policy) -> TokenRules {
        let entra = &gateway.entra;
        let rhythm = Rhythm {
            refresh_every: entra.refresh_every,
            unknown_key_interval: entra.unknown_key_interval,
            key_wait: entra.key_wait,
        };
        let tenants = policy.tenants().iter();
        let tenants = tenants
            .map(|tenant| (*tenant, self.entra.tenant(*tenant, rhythm)))
            .collect();
        TokenRules {
            tenants,
            claims: ClaimRules {
                audiences: policy.audiences().to_vec(),
                versions: Version::accepted(entra.token_versions),
                clock_skew: entra.clock_skew,
            },
            algorithms: entra.algorithms.clone(),
            longest_token: entra.max_token_bytes,
            kept: policy.claims_kept().into(),
        }
    }
}
