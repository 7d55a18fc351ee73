//! The `entra` section of gateway.yaml: whose tokens count, and how they are verified.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use super::decode::{Table, list, spanned, warn_of_repeats};
use super::diagnostics::Diagnostics;
use super::gateway::{DAY, HOUR, LEAST, MINUTE, SECOND};
use super::node::Node;
use super::source::Spanned;
use super::values::{choice, count, duration, path, size, url};

/// The cloud for everyone who names no other.
const PUBLIC_CLOUD: &str = "https://login.microsoftonline.com";

/// `entra`.
#[derive(Clone, Debug, PartialEq)]
pub struct Entra {
    /// Where metadata is read from. No query and no slash at the end of its path, save that
    /// [`Uri`] shows an empty path as `/`. Default: the public cloud.
    pub authority: Spanned<Uri>,
    /// A PEM file of roots to trust for the authority, instead of the platform's.
    pub ca: Option<Spanned<PathBuf>>,
    /// How far clocks may differ: at most 300 s. Default 60 s.
    pub clock_skew: Duration,
    /// Signature algorithms that a token may use; at least one. Default RS256.
    pub algorithms: Vec<Algorithm>,
    /// Token versions that count. Default both.
    pub token_versions: TokenVersions,
    /// Longest token, in bytes: 1 KiB to 256 KiB. Default 16 KiB.
    pub max_token_bytes: usize,
    /// Most verified tokens to remember. Default 20,000.
    pub cached_tokens: usize,
    /// How often metadata and keys are fetched afresh: at least 1 min. Default 1 h.
    pub refresh_every: Duration,
    /// Least time between two fetches for keys that are not known: at least 1 s. Default 1 min.
    pub unknown_key_interval: Duration,
    /// Longest that a request waits for keys that are being fetched. Default 3 s.
    pub key_wait: Duration,
}

/// Signature algorithms of tokens: RSA with a public key, and nothing symmetric, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256: what Entra signs with.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
}

const ALGORITHMS: [(&str, Algorithm); 6] = [
    ("RS256", Algorithm::Rs256),
    ("RS384", Algorithm::Rs384),
    ("RS512", Algorithm::Rs512),
    ("PS256", Algorithm::Ps256),
    ("PS384", Algorithm::Ps384),
    ("PS512", Algorithm::Ps512),
];

/// `entra.tokenVersions`: at least one is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenVersions {
    /// Tokens of version 1.0 count.
    pub v1: bool,
    /// Tokens of version 2.0 count.
    pub v2: bool,
}

/// Takes the section apart.
pub(super) fn entra(mut table: Table<'_>, d: &mut Diagnostics) -> Option<Entra> {
    let written = table.entry("authority");
    let authority = match written {
        Some(entry) => spanned(authority)(&entry.value, d),
        None => {
            let default = Uri::from_static(PUBLIC_CLOUD);
            Some(Spanned::new(default, table.title().clone()))
        }
    };
    let ca = table.optional("ca", d, spanned(path));
    let clock_skew = table.optional("clockSkew", d, |n, d| {
        duration(n, Duration::ZERO..=5 * MINUTE, d)
    });
    let algorithms = table.optional("algorithms", d, algorithms);
    let token_versions = table.optional("tokenVersions", d, token_versions);
    let max_token_bytes =
        table.optional("maxTokenBytes", d, |n, d| size(n, 1 << 10..=256 << 10, d));
    let cached_tokens = table.optional("cachedTokens", d, |n, d| count(n, 1..=10_000_000, d));
    let refresh_every = table.optional("refreshEvery", d, |n, d| duration(n, MINUTE..=DAY, d));
    let unknown_key_interval =
        table.optional("unknownKeyInterval", d, |n, d| duration(n, SECOND..=DAY, d));
    let key_wait = table.optional("keyWait", d, |n, d| duration(n, LEAST..=MINUTE, d));
    table.finish(d);
    Some(Entra {
        authority: authority?,
        ca,
        clock_skew: clock_skew.unwrap_or(60 * SECOND),
        algorithms: algorithms.unwrap_or_else(|| vec![Algorithm::Rs256]),
        token_versions: token_versions.unwrap_or(TokenVersions { v1: true, v2: true }),
        max_token_bytes: max_token_bytes.unwrap_or(16 << 10),
        cached_tokens: cached_tokens.unwrap_or(20_000),
        refresh_every: refresh_every.unwrap_or(HOUR),
        unknown_key_interval: unknown_key_interval.unwrap_or(MINUTE),
        key_wait: key_wait.unwrap_or(3 * SECOND),
    })
}

fn authority(node: &Node, d: &mut Diagnostics) -> Option<Uri> {
    let url = url(node, d)?;
    if url.query().is_some() {
        d.error(&node.span, "an authority has no query (`?`)");
        return None;
    }
    // A metadata path is appended to it; a doubled slash would be another path.
    url.to_string().trim_end_matches('/').parse().ok()
}

fn algorithms(node: &Node, d: &mut Diagnostics) -> Option<Vec<Algorithm>> {
    let decode = |node: &Node, d: &mut Diagnostics| choice(node, &ALGORITHMS, d);
    let algorithms = list(node, "no token could be verified", d, spanned(decode))?;
    warn_of_repeats(&algorithms, d);
    Some(algorithms.into_iter().map(|named| named.value).collect())
}

fn token_versions(node: &Node, d: &mut Diagnostics) -> Option<TokenVersions> {
    let decode = |node: &Node, d: &mut Diagnostics| choice(node, &[("v1", 1), ("v2", 2)], d);
    let versions = list(node, "no token would count", d, spanned(decode))?;
    warn_of_repeats(&versions, d);
    let holds = |version| versions.iter().any(|named| named.value == version);
    Some(TokenVersions {
        v1: holds(1),
        v2: holds(2),
    })
}
