//! Verified tokens, remembered under a hash of their bytes. The cache only saves work and frees
//! memory; whether a token passes is asked of what it remembers, never of the cache.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use moka::Expiry;
use moka::sync::Cache;

use super::verify::Verified;
use crate::clock::Now;

/// SHA-256 of a token: who could find two tokens of one hash could forge signatures just as well.
pub(super) type Digest = [u8; 32];

pub(super) struct TokenCache(Cache<Digest, Remembered, BuildHasherDefault<DigestHasher>>);

#[derive(Clone)]
struct Remembered {
    verified: Arc<Verified>,
    lifetime: Duration,
}

impl TokenCache {
    /// A cache of at most `most` tokens.
    pub(super) fn new(most: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(most)
            .expire_after(WhenItExpires)
            .build_with_hasher(BuildHasherDefault::default());
        Self(cache)
    }

    pub(super) fn digest(token: &str) -> Digest {
        let mut bytes = Digest::default();
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        bytes.copy_from_slice(digest.as_ref());
        bytes
    }

    pub(super) fn find(&self, digest: &Digest) -> Option<Arc<Verified>> {
        Some(self.0.get(digest)?.verified)
    }

    pub(super) fn remember(&self, digest: Digest, verified: Verified, now: &Now) {
        // Longer than any skew that can be configured, so that memory is not freed before the end.
        const GRACE: u64 = 300;
        let seconds = verified
            .expires()
            .saturating_add(GRACE)
            .saturating_sub(now.unix_seconds());
        let remembered = Remembered {
            lifetime: Duration::from_secs(seconds.min(A_WEEK)),
            verified: Arc::new(verified),
        };
        self.0.insert(digest, remembered);
    }

    pub(super) fn forget(&self, digest: &Digest) {
        self.0.invalidate(digest);
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
