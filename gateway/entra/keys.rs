//! Signing keys, as a JWKS document lists them (RFC 7517), each bound to the issuer that it signs for.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::signature::{ParsedPublicKey, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::algorithm::Algorithm;
use super::template::IssuerTemplate;
use crate::ids::TenantId;

/// One public key of an issuer.
pub(super) struct SigningKey {
    id: Box<str>,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    /// The `alg` member, where the issuer pins the key to one algorithm.
    algorithm: Option<Box<str>>,
    /// The `issuer` member.
    issuer: Option<IssuerTemplate>,
    /// The key made ready for the algorithm that Entra uses; others are made ready when asked for.
    rs256: ParsedPublicKey,
    withdrawn: AtomicBool,
}

impl SigningKey {
    /// Whether the issuer has stopped listing the key. A token that it signed stops passing.
    pub(super) fn is_withdrawn(&self) -> bool {
        // Acquire: who sees the flag sees the set that replaced this one.
        self.withdrawn.load(Ordering::Acquire)
    }

    /// Whether the key counts for tokens of `tenant` whose issuer is one of `issuers` (v1, v2).
    ///
    /// Entra's rule: the key's `issuer`, `{tenantid}` replaced by the token's tenant, is the token's
    /// issuer; or it is the tenant's other issuer, for v1 and v2 share keys. A key that names a tenant
    /// outright (personal accounts) equals neither and signs for nobody else.
    /// <https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-the-signing-key-issuer>
    pub(super) fn counts_for<'i>(
        &self,
        tenant: TenantId,
        mut issuers: impl Iterator<Item = &'i str>,
    ) -> bool {
        let Some(own) = &self.issuer else {
            return true;
        };
        issuers.any(|issuer| own.is_for(tenant, issuer))
    }

    /// Verifies a signature over `signed`.
    pub(super) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        if self
            .algorithm
            .as_deref()
            .is_some_and(|only| only != algorithm.name())
        {
            return false;
        }
        match algorithm {
            Algorithm::Rs256 => self.rs256.verify_sig(signed, signature).is_ok(),
            other => RsaPublicKeyComponents {
                n: &self.modulus,
                e: &self.exponent,
            }
            .verify(other.parameters(), signed, signature)
            .is_ok(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.id == other.id
            && self.modulus == other.modulus
            && self.exponent == other.exponent
            && self.issuer == other.issuer
            && self.algorithm == other.algorithm
    }

    /// `None` for a key that is not for RSA signatures: an issuer may list others.
    fn read(key: &Value) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        if text("kty") != Some("RSA") || text("use").is_some_and(|used| used != "sig") {
            return None;
        }
        let modulus = URL_SAFE_NO_PAD.decode(text("n")?).ok()?;
        let exponent = URL_SAFE_NO_PAD.decode(text("e")?).ok()?;
        if modulus.len() < SMALLEST_MODULUS {
            return None;
        }
        let rs256 = RsaPublicKeyComponents {
            n: &modulus,
            e: &exponent,
        }
        .to_parsed_public_key(Algorithm::Rs256.parameters())
        .ok()?;
        let issuer = text("issuer").filter(|issuer| !issuer.is_empty());
        Some(Self {
            id: text("kid")?.into(),
            rs256,
            modulus,
            exponent,
            algorithm: text("alg").map(Into::into),
            issuer: issuer.map(IssuerTemplate::parse),
            withdrawn: AtomicBool::new(false),
        })
    }
}

/// 2048 bits, in bytes.
const SMALLEST_MODULUS: usize = 256;

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// The keys of one issuer by key ID. Two keys may share an ID (Entra lists one for work and one for
/// personal accounts at times); which counts is decided by their issuers.
#[derive(Debug, Default)]
pub(super) struct KeySet(HashMap<Box<str>, Vec<Arc<SigningKey>>>);

/// A JWKS document that holds no usable key. It never replaces one that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoUsableKey;

impl KeySet {
    /// Reads a JWKS document. Keys for other purposes are passed over; a set with none left is an error.
    pub(super) fn parse(document: &[u8]) -> Result<Self, NoUsableKey> {
        let document: Value = serde_json::from_slice(document).map_err(|_| NoUsableKey)?;
        let listed = document.get("keys").and_then(Value::as_array);
        let mut keys: HashMap<Box<str>, Vec<Arc<SigningKey>>> = HashMap::new();
        for key in listed
            .ok_or(NoUsableKey)?
            .iter()
            .filter_map(SigningKey::read)
        {
            keys.entry(key.id.clone()).or_default().push(Arc::new(key));
        }
        if keys.is_empty() {
            return Err(NoUsableKey);
        }
        Ok(Self(keys))
    }

    pub(super) fn find(&self, key_id: &str) -> &[Arc<SigningKey>] {
        self.0.get(key_id).map_or(&[], Vec::as_slice)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(AsRef::as_ref)
    }

    /// Withdraws every key.
    pub(super) fn withdraw(&self) {
        for key in self.0.values().flatten() {
            key.withdrawn.store(true, Ordering::Release);
        }
    }

    /// Takes over from `old`: keys that are listed still stay the same objects, so that tokens
    /// verified with them stay known; all others are withdrawn.
    pub(super) fn succeed(mut self, old: &KeySet) -> Self {
        for key in old.0.values().flatten() {
            let listed = self.0.get_mut(&key.id);
            let same = listed.and_then(|keys| keys.iter_mut().find(|new| new.is(key)));
            match same {
                Some(new) => *new = Arc::clone(key),
                None => key.withdrawn.store(true, Ordering::Release),
            }
        }
        self
    }
}
