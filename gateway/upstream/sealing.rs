//! The keys for URLs in answers, as they are configured, and the URLs that come back.

use std::sync::Arc;
use std::time::Duration;

use super::backend::Backend;
use super::credential::Presenting;
use crate::canonical;
use crate::clock::Now;
use crate::credentials::{Derived, Held, RETRY_AFTER};
use crate::denial::{Denial, Reason};
use crate::files::{Diagnostics, GatewayDocument};
use crate::policy::Matched;
use crate::seal::{Issued, Link, Ring, Sealer, Unopened, opaque};
use crate::secret::Secret;

/// What URLs are sealed with and opened by.
pub struct Sealing {
    keys: Keys,
    /// The gateway's own base URL; the host that the caller asked for, where it is absent.
    public_url: Option<Arc<str>>,
    lifetime: Duration,
}

enum Keys {
    /// Those of the file.
    Configured(Arc<Derived<Ring>>),
    /// The process's own.
    Random(Arc<Ring>),
}

/// A sealed URL that was followed, opened.
pub struct Opened {
    /// What was sealed.
    pub link: Link,
    /// Path and query at the backend, with the follower's values in them. A secret, as the link's is.
    pub target: String,
}

fn ring(texts: &[Secret<String>]) -> Result<Ring, String> {
    Ring::of_texts(texts).map_err(|why| why.to_string())
}

impl Sealing {
    /// What the file says. `random` is for where it names no keys. `None` when an error was added.
    pub fn compile(
        gateway: &GatewayDocument,
        presenting: Presenting<'_>,
        random: &Arc<Ring>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let written = &gateway.seal;
        let mut places = Vec::with_capacity(written.keys.len());
        for source in &written.keys {
            let held = presenting.text(source, diagnostics)?;
            if let Held::Fixed(text) = &held
                && let Err(why) = ring(std::slice::from_ref(text))
            {
                diagnostics
                    .error(
                        &source.span,
                        format!("these are no sealing keys: {why}"),
                    )
                    .help("write keys of 32 characters or more, one a line: `openssl rand -base64 32`");
                return None;
            }
            places.push(held);
        }
        Some(Self {
            keys: match places.is_empty() {
                true => Keys::Random(Arc::clone(random)),
                false => Keys::Configured(Derived::new(places, ring)),
            },
            public_url: gateway.public_url.as_deref().map(Into::into),
            lifetime: written.lifetime,
        })
    }

    /// The gateway's own base URL, without a slash at its end, if one is written.
    pub fn public_url(&self) -> Option<&str> {
        self.public_url.as_deref()
    }

    fn ring(&self, now: &Now) -> Option<Arc<Ring>> {
        match &self.keys {
            Keys::Random(ring) => Some(Arc::clone(ring)),
            Keys::Configured(keys) => keys.current(now),
        }
    }

    /// The configured keys, if there are any.
    pub fn configured(&self) -> Option<&Derived<Ring>> {
        match &self.keys {
            Keys::Random(_) => None,
            Keys::Configured(keys) => Some(keys),
        }
    }

    /// Opens the sealed URL that a request follows; `None` if it follows none.
    ///
    /// # Errors
    /// `SealedUrlInvalid`; `CredentialUnavailable` while the keys are not there.
    pub fn open(&self, request: &canonical::Request, now: &Now) -> Option<Result<Opened, Denial>> {
        let blob = opaque(request.path())?;
        Some(self.opened(blob, request.raw_query(), now))
    }

    fn opened(&self, blob: &str, query: Option<&str>, now: &Now) -> Result<Opened, Denial> {
        let invalid =
            |got: &str| Denial::from(Reason::SealedUrlInvalid).expected("a sealed URL", got);
        let Some(ring) = self.ring(now) else {
            return Err(Denial::from(Reason::CredentialUnavailable)
                .retry_after(RETRY_AFTER)
                .expected("sealing keys", "none that could be read"));
        };
        let link = ring.open(blob).map_err(|why| match why {
            Unopened::Malformed => invalid("something else"),
            Unopened::UnknownKey => invalid("one sealed with a key that is not among `seal.keys`"),
            Unopened::Forged => invalid("one that was changed"),
        })?;
        let target = link.filled(query);
        let target =
            target.map_err(|_| invalid("one with another query than it was given with"))?;
        Ok(Opened { link, target })
    }

    /// What seals the URLs in the answer of a backend to a request, `asked` for at this host and port.
    pub fn sealer(
        &self,
        backend: &Backend,
        matched: &Matched<'_>,
        asked: &str,
        issued: Issued,
        now: &Now,
    ) -> Sealer {
        let gate = self.public_url.clone();
        Sealer {
            ring: self.ring(now),
            gate: gate.unwrap_or_else(|| format!("https://{asked}").into()),
            backend: Arc::clone(backend.places()),
            is_function: backend.is_function(),
            ways_on: backend.ways_on(matched, &issued.path),
            kept: matched.route().kept_parameters(),
            expires: now.unix + self.lifetime,
            issued,
        }
    }
}
