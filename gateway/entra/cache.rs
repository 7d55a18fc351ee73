//! Verified tokens, remembered under a hash of their bytes. The cache only saves work and frees
//! memory; whether a token passes is asked of what it remembers, never of the cache.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, UnitWeighter};

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
    tokens: Tokens,
    key: LessSafeKey,
}

type Tokens = Cache<Digest, Arc<Verified>, UnitWeighter, BuildHasherDefault<DigestHasher>>;

impl TokenCache {
    /// A cache of at most `most` tokens, give or take one a shard.
    #[expect(
        clippy::expect_used,
        reason = "AWS-LC ends the process rather than go without randomness; a key of 32 bytes fits AES-256; \
            a capacity is all that the cache must be told"
    )]
    pub(super) fn new(most: usize) -> Self {
        let mut key = [0; 32];
        rand::fill(&mut key).expect("randomness");
        let key = UnboundKey::new(&AES_256_GCM, &key).expect("a key");
        let shards = most.div_ceil(MOST_IN_A_SHARD).max(FEWEST_SHARDS);
        let options = OptionsBuilder::new()
            .shards(shards)
            .estimated_items_capacity(most)
            .weight_capacity(most as u64)
            .build()
            .expect("a capacity");
        let tokens = Cache::with_options(
            options,
            UnitWeighter,
            BuildHasherDefault::default(),
            DefaultLifecycle::default(),
        );
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
        self.tokens.get(digest)
    }

    pub(super) fn remember(&self, digest: Digest, verified: Arc<Verified>) {
        self.tokens.insert(digest, verified);
    }

    pub(super) fn forget(&self, digest: &Digest) {
        self.tokens.remove(digest);
    }

    /// Forgets the tokens that cannot pass any more.
    pub(super) fn sweep(&self, now: &Now) {
        let past = now.unix_seconds().saturating_sub(GRACE);
        self.tokens.retain(|_, verified| verified.expires() > past);
    }

    /// How many tokens are remembered.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }
}

/// A sweep looks at all of a shard under its lock.
const MOST_IN_A_SHARD: usize = 1024;

/// So that workers seldom meet in one.
const FEWEST_SHARDS: usize = 64;

/// Seconds for which a token is remembered beyond its end: more than any skew that can be configured.
const GRACE: u64 = 300;

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
