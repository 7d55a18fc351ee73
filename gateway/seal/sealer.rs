//! Seals the URLs of one answer: here those in its fields; `BodySealer` does the same for its body.

use std::ops::{Add, AddAssign};
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::body::BodySealer;
use super::link::{Issued, Link, Methods, Signed, is_below};
use super::place::{Absolute, Place, without_fragment};
use super::ring::Ring;
use super::scan::{self, Text};
use super::spelling::Spelt;
use super::url::{self, Keyed};
use super::{SEALED_PATH, keys, placeholders};
use crate::canonical::{
    self, KeptParameters, KeyParameters, URL_FIELDS, canonical_path, text_carries_key,
};

/// Fields whose whole value is one URL.
const SINGLE: [HeaderName; 4] = [
    header::LOCATION,
    header::CONTENT_LOCATION,
    HeaderName::from_static("operation-location"),
    HeaderName::from_static("azure-asyncoperation"),
];

/// What is part of a SAS URL, and by itself lets nobody in.
const NO_KEYS: KeyParameters = KeyParameters::SP
    .with(KeyParameters::SV)
    .with(KeyParameters::SE);

/// The longest target of a sealed URL in bytes: with room for the rest of a request line of 8 KiB.
const LONGEST: usize = 8 * 1024 - 64;

/// What seals the URLs of one answer. It owns all it needs, for the body outlives the call.
#[derive(Clone, Debug)]
pub struct Sealer {
    /// The keys; without them, what carries a key is withheld.
    pub ring: Option<Arc<Ring>>,
    /// The gateway as the caller knows it: scheme, host and port, without a slash at the end.
    pub gate: Arc<str>,
    /// Where the answer comes from: only what leads there is sealed.
    pub backend: Arc<[Place]>,
    /// The request that is answered.
    pub issued: Issued,
    /// When what is sealed ends, since the Unix epoch.
    pub expires: Duration,
    /// Parameters that are no keys on this route.
    pub kept: KeptParameters,
    /// Whether it is a Functions app, whose Durable Functions hand out links of their own.
    pub is_function: bool,
    /// Where URLs are sealed though they carry no key, in the fields of one URL, so that the caller is not
    /// sent past the gateway. To what lies elsewhere they are not: they are followed with the gateway's own
    /// credential, and who can have the backend redirect to a URL of their own making would reach all of it.
    pub ways_on: Vec<WayOn>,
}

/// Where what a request began goes on at the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayOn {
    /// Below this path, which has a slash at its end.
    pub below: String,
    /// And there only where this is part of the path; empty for everywhere.
    pub through: &'static str,
}

impl WayOn {
    fn holds(&self, path: &str) -> bool {
        is_below(path, &self.below) && path.contains(self.through)
    }
}

/// The path at the gateway, on this host, of what lies at a path of the backend, if another route takes it:
/// what is published leads there, where it is decided on by its own rules.
pub type Published<'p> = dyn Fn(&str, &Method, &str) -> Option<String> + 'p;

/// How many URLs were replaced, and how many removed for want of a way to replace them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caught {
    /// Replaced by a sealed URL.
    pub sealed: u32,
    /// Removed: a URL or what carries a key otherwise in a body, a whole value of a field.
    pub withheld: u32,
}

impl Caught {
    pub(super) const SEALED: Self = Self {
        sealed: 1,
        withheld: 0,
    };
    pub(super) const WITHHELD: Self = Self {
        sealed: 0,
        withheld: 1,
    };
}

impl Add for Caught {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            sealed: self.sealed.saturating_add(other.sealed),
            withheld: self.withheld.saturating_add(other.withheld),
        }
    }
}

impl AddAssign for Caught {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// Why a URL is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// It carries a key, in whatever form: it is followed with that, never with the gateway's credential.
    Keyed,
    /// It leads on to where the gateway's credential may go.
    Plain,
}

/// What becomes of a field's value.
enum Verdict {
    Stays,
    Becomes(HeaderValue, Caught),
    Goes,
}

impl Sealer {
    /// Seals the URLs in the fields of an answer to a request of this method. A value goes if it carries a
    /// key that cannot be sealed: to another place, not readable as a URL, or for want of keys.
    pub fn headers(
        &self,
        method: &Method,
        status: StatusCode,
        headers: &mut HeaderMap,
        published: &Published<'_>,
    ) -> Caught {
        let after = After {
            methods: methods_after(method, status),
            published,
        };
        let concerned = |name: &&HeaderName| {
            let mut values = headers.get_all(*name).iter();
            values.any(|value| may_hold_url(name, value))
        };
        let names: Vec<HeaderName> = headers.keys().filter(concerned).cloned().collect();
        let mut caught = Caught::default();
        for name in names {
            caught += self.field(name, headers, &after);
        }
        caught
    }

    /// Seals the URLs in the answer's body.
    pub fn body(self, text: Text) -> BodySealer {
        BodySealer::new(self, text)
    }

    /// The sealed URL for one that leads to the backend, in full or from its root. `None` for one that
    /// leads elsewhere or cannot be read, and if there is nothing to seal with.
    pub(super) fn seal(&self, what: What, url: &str, methods: &Methods) -> Option<String> {
        let ring = self.ring.as_deref()?;
        let target = self.target(url)?;
        let query = placeholders::query(&target);
        let signed = match what {
            What::Plain => Signed::None,
            What::Keyed if self.is_function => {
                let found = keys::find(target.as_bytes(), self.kept);
                let keys = found.map_or(KeyParameters::NONE, |found| found.named);
                Signed::by(keys, path_of(&target))
            }
            What::Keyed => Signed::Alone,
        };
        let blob = ring.seal(&Link {
            issued: self.issued.clone(),
            target,
            methods: methods.clone(),
            signed,
            expires: self.expires,
        })?;
        let sealed = format!("{SEALED_PATH}{blob}{query}");
        // Longer ones the gateway itself would refuse.
        (sealed.len() <= LONGEST).then(|| format!("{}{sealed}", self.gate))
    }

    fn target(&self, url: &str) -> Option<String> {
        if !url.bytes().all(url::may_stand_in_url) {
            return None;
        }
        // Behind two slashes stands a host (RFC 3986 section 4.2).
        let target = if url.starts_with('/') && !url.starts_with("//") {
            without_fragment(url).to_owned()
        } else {
            let url = Absolute::read(url)?;
            self.backend
                .iter()
                .any(|place| url.is_at(place))
                .then(|| url.target())?
        };
        let query = target.split_once('?').map_or("", |(_, query)| query);
        canonical::key_parameters(query).ok()?;
        Some(target)
    }

    /// Seals the values of one field, each by itself and in their order.
    fn field(&self, name: HeaderName, headers: &mut HeaderMap, after: &After<'_>) -> Caught {
        let judged = |value: &HeaderValue| (value.clone(), self.judge(&name, value, after));
        let values: Vec<_> = headers.get_all(&name).iter().map(judged).collect();
        headers.remove(&name);
        let mut caught = Caught::default();
        for (value, verdict) in values {
            match verdict {
                Verdict::Stays => {
                    headers.append(&name, value);
                }
                Verdict::Becomes(value, count) => {
                    headers.append(&name, value);
                    caught += count;
                }
                Verdict::Goes => caught += Caught::WITHHELD,
            }
        }
        caught
    }

    fn judge(&self, name: &HeaderName, value: &HeaderValue, after: &After<'_>) -> Verdict {
        if !may_hold_url(name, value) {
            return Verdict::Stays;
        }
        let Ok(text) = value.to_str() else {
            // What is not readable as a URL cannot be shown to be harmless.
            return Verdict::Goes;
        };
        match (SINGLE.contains(name), carries_key(name, text, self.kept)) {
            (true, true) => {
                let sealed = self.single(What::Keyed, text, &after.methods);
                sealed.unwrap_or(Verdict::Goes)
            }
            (true, false) => self.plain(text, after).unwrap_or(Verdict::Stays),
            (false, true) => {
                let sealed = self.several(name, text, &after.methods);
                sealed.unwrap_or(Verdict::Goes)
            }
            (false, false) => Verdict::Stays,
        }
    }

    fn single(&self, what: What, text: &str, methods: &Methods) -> Option<Verdict> {
        let sealed = self.seal(what, text.trim(), methods)?;
        let value = HeaderValue::try_from(sealed).ok()?;
        Some(Verdict::Becomes(value, Caught::SEALED))
    }

    /// A URL without a key is sealed only where it would lead past the gateway. One from the root does
    /// not: it leads to the gateway again.
    fn plain(&self, text: &str, after: &After<'_>) -> Option<Verdict> {
        let target = self
            .target(text.trim())
            .filter(|_| !text.trim().starts_with('/'))?;
        let path = canonical_path(path_of(&target)).ok()?;
        let (host, method) = (&self.issued.host, after.methods.first());
        if let Some(published) = (after.published)(host, &method, &path) {
            let query = target.split_once('?').map(|(_, query)| format!("?{query}"));
            let url = format!("{}{published}{}", self.gate, query.unwrap_or_default());
            return Some(Verdict::Becomes(url.try_into().ok()?, Caught::default()));
        }
        let path = format!("{}/", path.trim_end_matches('/'));
        if !self.ways_on.iter().any(|way| way.holds(&path)) {
            return None;
        }
        self.single(What::Plain, text, &after.methods)
    }

    /// Seals each URL with a key where it stands in a value. `None` if a key would be left.
    fn several(&self, name: &HeaderName, text: &str, methods: &Methods) -> Option<Verdict> {
        let mut value = String::with_capacity(text.len());
        let mut rest = String::new();
        let mut caught = Caught::default();
        let parts = |c: char| u8::try_from(c).is_ok_and(scan::parts);
        for piece in text.split_inclusive(parts) {
            let token = piece.trim_end_matches(parts).as_bytes();
            match url::keyed(&Spelt::raw(token), self.kept) {
                None => {
                    value.push_str(piece);
                    rest.push_str(piece);
                }
                Some(Keyed::Elsewhere) => return None,
                Some(Keyed::Url { at, url }) => {
                    if url.starts_with('/') && !URL_FIELDS.contains(name) {
                        return None;
                    }
                    let (before, after) = (piece.get(..at.start)?, piece.get(at.end..)?);
                    value.extend([before, &self.seal(What::Keyed, &url, methods)?, after]);
                    rest.extend([before, after]);
                    caught += Caught::SEALED;
                }
            }
        }
        if carries_key(name, &rest, self.kept) {
            return None;
        }
        let value = HeaderValue::try_from(value).ok()?;
        Some(Verdict::Becomes(value, caught))
    }
}

/// What follows an answer.
struct After<'p> {
    methods: Methods,
    published: &'p Published<'p>,
}

/// A redirection that keeps the method is followed with it (RFC 9110 section 15.4.8).
fn methods_after(method: &Method, status: StatusCode) -> Methods {
    match status {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => match *method {
            Method::GET | Method::HEAD => Methods::Read,
            _ => Methods::Only(method.clone()),
        },
        _ => Methods::Read,
    }
}

fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

/// Whether anything of an answer's fields may have to be sealed: nearly never, and so asked first.
pub fn may_hold_urls(headers: &HeaderMap) -> bool {
    headers
        .iter()
        .any(|(name, value)| may_hold_url(name, value))
}

/// A key stands behind `?`, as it is or in some code. Values are short, so that one look at each byte is less than
/// a search for each of these.
fn may_hold_url(name: &HeaderName, value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    let follows = |at: usize, front: &[u8]| value.get(..at).is_some_and(|all| all.ends_with(front));
    let mut bytes = value.iter().enumerate();
    URL_FIELDS.contains(name)
        || bytes.any(|(at, byte)| match byte {
            b'?' | b'%' | b'\\' => true,
            b'/' => follows(at, b":/"),
            b'#' => follows(at, b"&"),
            _ => false,
        })
}

/// Removes the fields that carry a key, from what stands behind a body: nobody follows a link there. How
/// many they were.
pub fn withhold(trailers: &mut HeaderMap) -> Caught {
    let carries = |(name, value): (&HeaderName, &HeaderValue)| {
        let text = value.to_str();
        let carries = text.map_or(true, |text| carries_key(name, text, KeptParameters::NONE));
        (may_hold_url(name, value) && carries).then(|| name.clone())
    };
    let names: Vec<HeaderName> = trailers.iter().filter_map(carries).collect();
    let mut caught = Caught::default();
    for name in names {
        if trailers.remove(name).is_some() {
            caught += Caught::WITHHELD;
        }
    }
    caught
}

/// What cannot be read is a key where a URL is meant, and none where that only may be: a cookie or a file's
/// name is not lost for a `%`, nor for an `sv` that lets nobody in.
fn carries_key(name: &HeaderName, text: &str, kept: KeptParameters) -> bool {
    let kept = kept.with(KeyParameters::API_VERSION);
    let is_url = URL_FIELDS.contains(name) || text.contains("://");
    let kept = match is_url {
        true => kept,
        false => kept.with(NO_KEYS),
    };
    let unpacked = || keys::first(&Spelt::unpacked(text.as_bytes()), kept).is_some();
    (is_url && text_carries_key(text, kept))
        || keys::carries(text.as_bytes(), kept)
        || (text.contains(['\\', '&']) && unpacked())
}
