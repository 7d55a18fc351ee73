//! Verified tokens, remembered under a hash of their bytes. The cache only saves work and frees
//! memory; whether a token passes is asked of what it remembers, never of the cache.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use moka::Expiry;
use moka::sync::Cache;

use super::verify::Verified;
use crate::clock::Now;

/// What a token is remembered under: a universal hash of all its bytes (GHASH, by way of AES-256-GCM over nothing
/// with the token as associated data), under a key that this process drew and nobody sees. For any two tokens
/// that somebody chooses without the key, the odds that they are taken for one are below 2^-113 (a polynomial of
/// at most 2^14 blocks has no more roots, among 2^128 keys); hashes are never shown, so that the fixed nonce gives nothing away.
///
/// All of the token is hashed. The signature alone would not do: one good signature behind other claims would be
/// taken for the token that it was made for.
pub(super) type Digest = [u8; 16];

pub(super) struct TokenCache {
    tokens: Cache<Digest, Remembered, BuildHasherDefault<DigestHasher>>,
    key: LessSafeKey,
}

#[derive(Clone)]
struct Remembered {
    verified: Arc<Verified>,
    lifetime: Duration,
}

impl TokenCache {
    /// A cache of at most `most` tokens.
    #[expect(
        clippy::expect_used,
        reason = "AWS-LC ends the process rather than go without randomness; a key of 32 bytes fits AES-256"
    )]
    pub(super) fn new(most: u64) -> Self {
        let mut key = [0; 32];
        rand::fill(&mut key).expect("randomness");
        let key = UnboundKey::new(&AES_256_GCM, &key).expect("a key");
        let tokens = Cache::builder()
            .max_capacity(most)
            .expire_after(WhenItExpires)
            .build_with_hasher(BuildHasherDefault::default());
        Self {
            tokens,
            key: LessSafeKey::new(key),
        }
    }

    /// `None` when AWS-LC fails; then the token is verified like one that was never seen.
    pub(super) fn digest(&self, token: &str) -> Option<Digest> {
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let aad = Aad::from(token.as_bytes());
        let tag = self.key.seal_in_place_separate_tag(nonce, aad, &mut []);
        tag.ok()?.as_ref().try_into().ok()
    }

    pub(super) fn find(&self, digest: &Digest) -> Option<Arc<Verified>> {
        Some(self.tokens.get(digest)?.verified)
    }

    pub(super) fn remember(&self, digest: Digest, verified: Arc<Verified>, now: &Now) {
        // Longer than any skew that can be configured, so that memory is not freed before the end.
        const GRACE: u64 = 300;
        let seconds = verified
            .expires()
            .saturating_add(GRACE)
            .saturating_sub(now.unix_seconds());
        let remembered = Remembered {
            lifetime: Duration::from_secs(seconds.min(A_WEEK)),
            verified,
        };
        self.tokens.insert(digest, remembered);
    }

    pub(super) fn forget(&self, digest: &Digest) {
        self.tokens.invalidate(digest);
    }
}

/// Seconds. No token of Entra's lives as long; a claim far in the future must not overflow the cache.
const A_WEEK: u64 = 7 * 24 * 3600;

struct WhenItExpires;

impl Expiry<Digest, Remembered> for WhenItExpires {
    fn expire_after_create(&self, _: &Digest, value: &Remembered, _: Instant) -> Option<Duration> {
        Some(value.lifetime)
    }
}

/// A digest is its own hash: its bytes are as good as random, and callers cannot choose them.
#[derive(Default)]
pub(super) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    // The length prefix that arrays write.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
