//! Which of several certificates a caller is shown: by the name that it asks for, and by what it can verify.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, SignatureAlgorithm, SignatureScheme};

use super::Presented;

/// Certificates by the names that they are for.
#[derive(Default)]
pub(super) struct Choice {
    all: Vec<Arc<Presented>>,
    /// Which of them were good when this was made.
    good: Vec<bool>,
    /// By a whole name.
    exact: HashMap<String, Vec<usize>>,
    /// By what stands behind the `*` of a name, with the dot (RFC 6125 section 6.4.3: it stands for one label).
    wildcard: HashMap<String, Vec<usize>>,
    /// For who asks for no name, or for one that nobody has: the first, and those for the same names.
    default: Vec<usize>,
}

impl Choice {
    /// Among these; those that are not good at `now` are shown only where there is no other.
    pub(super) fn among(all: Vec<Arc<Presented>>, now: Duration) -> Self {
        let mut choice = Self::default();
        for (at, certificate) in all.iter().enumerate() {
            for name in &certificate.names {
                let (names, name) = match name.strip_prefix('*') {
                    Some(suffix) => (&mut choice.wildcard, suffix),
                    None => (&mut choice.exact, name.as_str()),
                };
                names.entry(name.to_owned()).or_default().push(at);
            }
        }
        let first = all.first().map(|first| &first.names);
        let is_alike = |at: &usize| *at == 0 || all.get(*at).map(|one| &one.names) == first;
        choice.default = (0..all.len()).filter(is_alike).collect();
        let good: Vec<bool> = all.iter().map(|one| one.is_good(now)).collect();
        let is_good = |at: &usize| good.get(*at) == Some(&true);
        let named = choice
            .exact
            .values_mut()
            .chain(choice.wildcard.values_mut());
        for candidates in named.chain([&mut choice.default]) {
            if candidates.iter().any(is_good) {
                candidates.retain(is_good);
            }
        }
        choice.all = all;
        choice.good = good;
        choice
    }

    pub(super) fn all(&self) -> &[Arc<Presented>] {
        &self.all
    }

    /// Whether it would be made otherwise of these.
    pub(super) fn is_of(&self, all: &[Arc<Presented>], now: Duration) -> bool {
        let same = |(one, other)| Arc::ptr_eq(one, other);
        let goods = all.iter().map(|one| one.is_good(now));
        self.all.len() == all.len()
            && self.all.iter().zip(all).all(same)
            && goods.eq(self.good.iter().copied())
    }

    /// What a caller is shown. One that names nobody we know gets the first; it will not believe it, and should not.
    pub(super) fn resolve(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = match hello.server_name() {
            Some(name) => self.named(name),
            None => &self.default,
        };
        let candidates = || candidates.iter().filter_map(|at| self.all.get(*at));
        // ECDSA costs us a tenth of RSA, so it goes first where the caller can verify it.
        let elliptic = candidates().find(|one| !is_rsa(one) && can_verify(hello, one));
        let any = || candidates().find(|one| can_verify(hello, one));
        let chosen = elliptic.or_else(any).or_else(|| candidates().next());
        chosen.map(|one| Arc::clone(&one.certified))
    }

    fn named(&self, name: &str) -> &[usize] {
        let name = name.to_ascii_lowercase();
        let wildcard = || {
            let at = name.find('.')?;
            self.wildcard.get(name.get(at..)?)
        };
        let exact = self.exact.get(&name);
        // One that holds for many names and is good does, where the one for this name has expired.
        let is_good = |at: &usize| self.good.get(*at) == Some(&true);
        let good = |candidates: &&Vec<usize>| candidates.iter().any(is_good);
        let better = exact.filter(good).or_else(|| wildcard().filter(good));
        let chosen = better.or(exact).or_else(wildcard);
        chosen.unwrap_or(&self.default)
    }
}

fn is_rsa(certificate: &Presented) -> bool {
    certificate.certified.key.algorithm() == SignatureAlgorithm::RSA
}

/// Whether a caller can verify what a key signs: in TLS 1.2 that hangs on the cipher suites, too (RFC 8422 section 5.1).
fn can_verify(hello: &ClientHello<'_>, certificate: &Presented) -> bool {
    let key = &certificate.certified.key;
    let knows = |schemes: &[SignatureScheme]| key.choose_scheme(schemes).is_some();
    let suites = hello.cipher_suites();
    let suits = |suite: &CipherSuite| match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS13_AES_256_GCM_SHA384
        | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => true,
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => !is_rsa(certificate),
        _ => is_rsa(certificate),
    };
    knows(hello.signature_schemes()) && suites.iter().any(suits)
}
