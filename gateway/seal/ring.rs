//! The keys that seal: the first seals, all of them open, so that a key can be replaced while URLs
//! sealed under the old one are still followed.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::link::Link;
use crate::secret::Secret;

/// The fewest characters of a key's text. It is stretched, not strengthened.
const SHORTEST: usize = 32;

/// The form of a blob, its first byte: version, key ID, nonce, ciphertext with its tag.
const VERSION: u8 = 1;
const ID_LENGTH: usize = 4;
const PREFIX_LENGTH: usize = 1 + ID_LENGTH;

/// Both labels hold the version: what another version derives is another key.
const SALT: &[u8] = b"portcullis seal 1";
const KEY_LABEL: &[u8] = b"key";
const ID_LABEL: &[u8] = b"key id";

/// The sealing keys. There is at least one.
pub struct Ring {
    first: Key,
    others: Vec<Key>,
}

struct Key {
    id: [u8; ID_LENGTH],
    cipher: LessSafeKey,
}

/// Why there is no ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingFault {
    /// No key was given.
    NoKey,
    /// The key of this number, counted from one, has fewer than 32 characters.
    TooShort(usize),
    /// The cryptographic library failed, or gave no random bytes.
    Unavailable,
}

/// Why a blob was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// It is no blob of this version.
    Malformed,
    /// It names a key that is not on the ring, or no longer.
    UnknownKey,
    /// Its tag does not verify.
    Forged,
}

impl Ring {
    /// A ring of keys written as text, the one that seals first.
    ///
    /// # Errors
    /// If there is none, or one is too short; the text is not told.
    pub fn new(secrets: &[Secret<String>]) -> Result<Self, RingFault> {
        let mut keys = Vec::with_capacity(secrets.len());
        for (secret, number) in secrets.iter().zip(1..) {
            if secret.expose().chars().count() < SHORTEST {
                return Err(RingFault::TooShort(number));
            }
            keys.push(Key::derived(secret.expose().as_bytes())?);
        }
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or(RingFault::NoKey)?;
        let others = keys.collect();
        Ok(Self { first, others })
    }

    /// The keys of some texts, one a line; what is empty is none. As [`Ring::new`].
    ///
    /// # Errors
    /// As there.
    pub fn of_texts(texts: &[Secret<String>]) -> Result<Self, RingFault> {
        let lines = texts.iter().flat_map(|text| text.expose().lines());
        let keys = lines.map(str::trim).filter(|line| !line.is_empty());
        let keys: Vec<_> = keys.map(|key| Secret::new(key.to_owned())).collect();
        Self::new(&keys)
    }

    /// A ring for this process alone: what it seals, no other process opens.
    ///
    /// # Errors
    /// If there are no random bytes to be had.
    pub fn random() -> Result<Self, RingFault> {
        let mut secret = [0; 32];
        rand::fill(&mut secret)?;
        let first = Key::derived(&secret)?;
        let others = Vec::new();
        Ok(Self { first, others })
    }

    /// How many keys there are: at least one.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        1 + self.others.len()
    }

    /// Seals a link into text that is fit for a URL's path. `None` only if the cryptographic library
    /// fails.
    pub fn seal(&self, link: &Link) -> Option<String> {
        let blob = self.first.seal(link.write()?).ok()?;
        Some(URL_SAFE_NO_PAD.encode(blob))
    }

    /// Opens what a key of this ring sealed. Whether its time is over is for who knows the time.
    ///
    /// # Errors
    /// If it was not sealed here.
    pub fn open(&self, text: &str) -> Result<Link, Unopened> {
        // The engine takes neither padding nor stray bits: a blob has one spelling.
        let blob = URL_SAFE_NO_PAD.decode(text);
        let blob = Blob::read(blob.as_deref().map_err(|_| Unopened::Malformed)?)?;
        let plain = self.decrypt(&blob)?;
        Link::read(&plain).ok_or(Unopened::Malformed)
    }

    /// IDs are short, so two keys may share one: each is tried.
    fn decrypt(&self, blob: &Blob<'_>) -> Result<Vec<u8>, Unopened> {
        let mut fault = Unopened::UnknownKey;
        for key in self.keys().filter(|key| key.id == blob.id) {
            match key.open(blob) {
                Ok(plain) => return Ok(plain),
                Err(Unspecified) => fault = Unopened::Forged,
            }
        }
        Err(fault)
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// Says nothing of the keys.
impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

impl fmt::Display for RingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey => f.write_str("there is no sealing key"),
            Self::TooShort(number) => write!(
                f,
                "sealing key {number} is too short: it needs at least {SHORTEST} characters"
            ),
            Self::Unavailable => f.write_str("the cryptographic library made no sealing key"),
        }
    }
}

impl std::error::Error for RingFault {}

impl From<Unspecified> for RingFault {
    fn from(_: Unspecified) -> Self {
        Self::Unavailable
    }
}

/// How many bytes HKDF is to make of an ID.
struct IdLength;

impl KeyType for IdLength {
    fn len(&self) -> usize {
        ID_LENGTH
    }
}

impl Key {
    fn derived(secret: &[u8]) -> Result<Self, Unspecified> {
        let root = Salt::new(HKDF_SHA256, SALT).extract(secret);
        let cipher = root.expand(&[KEY_LABEL], &AES_256_GCM_SIV)?.into();
        Ok(Self {
            id: Self::id(&root)?,
            cipher: LessSafeKey::new(cipher),
        })
    }

    fn id(root: &Prk) -> Result<[u8; ID_LENGTH], Unspecified> {
        let mut id = [0; ID_LENGTH];
        root.expand(&[ID_LABEL], IdLength)?.fill(&mut id)?;
        Ok(id)
    }

    /// The nonce is random; GCM-SIV forgives should two ever be the same (RFC 8452 section 9).
    fn seal(&self, mut plain: Vec<u8>) -> Result<Vec<u8>, Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce)?;
        let mut blob = vec![VERSION];
        blob.extend(self.id);
        let prefix = Aad::from(blob.clone());
        blob.extend(nonce);
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.cipher
            .seal_in_place_append_tag(nonce, prefix, &mut plain)?;
        blob.extend(plain);
        Ok(blob)
    }

    fn open(&self, blob: &Blob<'_>) -> Result<Vec<u8>, Unspecified> {
        let nonce = Nonce::assume_unique_for_key(*blob.nonce);
        let mut text = blob.ciphertext.to_vec();
        let prefix = Aad::from(blob.prefix);
        let length = self.cipher.open_in_place(nonce, prefix, &mut text)?.len();
        text.truncate(length);
        Ok(text)
    }
}

/// A blob taken apart.
struct Blob<'b> {
    /// Version and key ID: sent in clear, and bound to the rest by the tag.
    prefix: &'b [u8],
    id: [u8; ID_LENGTH],
    nonce: &'b [u8; NONCE_LEN],
    ciphertext: &'b [u8],
}

impl<'b> Blob<'b> {
    fn read(blob: &'b [u8]) -> Result<Self, Unopened> {
        Self::split(blob).ok_or(Unopened::Malformed)
    }

    fn split(blob: &'b [u8]) -> Option<Self> {
        let (prefix, rest) = blob.split_at_checked(PREFIX_LENGTH)?;
        let (nonce, ciphertext) = rest.split_first_chunk()?;
        let id = match prefix {
            [VERSION, id @ ..] => id.try_into().ok()?,
            _ => return None,
        };
        Some(Self {
            prefix,
            id,
            nonce,
            ciphertext,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::link::{Issued, Methods, Signed};
    use super::*;

    const OLD: &str = "the old key of thirty-two letters";
    const NEW: &str = "the new key of thirty-two letters";
    const END: Duration = Duration::from_secs(1_000);

    fn ring(texts: &[&str]) -> Ring {
        Ring::new(&secrets(texts)).expect("a ring")
    }

    fn secrets(texts: &[&str]) -> Vec<Secret<String>> {
        let texts = texts.iter().map(|text| (*text).to_owned());
        texts.map(Secret::new).collect()
    }

    fn link() -> Link {
        Link {
            issued: Issued {
                route: "orders".to_owned(),
                tenant: None,
                app: None,
                method: http::Method::POST,
                host: "api.contoso.com".to_owned(),
                path: "/orders".to_owned(),
            },
            target: "/runs/1?sig=topsecret".to_owned(),
            methods: Methods::Read,
            signed: Signed::Alone,
            expires: END,
        }
    }

    #[test]
    fn what_is_sealed_opens_again_and_shows_nothing() {
        let ring = ring(&[NEW]);
        let blob = ring.seal(&link()).expect("a blob");
        assert_eq!(ring.open(&blob), Ok(link()));
        assert_ne!(ring.seal(&link()), Some(blob.clone()), "a nonce each");
        let bytes = URL_SAFE_NO_PAD.decode(&blob).expect("base64url");
        assert_eq!(memchr::memmem::find(&bytes, b"topsecret"), None);
        let shown = format!("{ring:?} {:?}", link());
        assert!(!shown.contains("secret") && !shown.contains("letters"));
    }

    #[test]
    fn a_blob_with_any_bit_flipped_is_refused() {
        let ring = ring(&[NEW]);
        let blob = URL_SAFE_NO_PAD.decode(ring.seal(&link()).expect("a blob"));
        let blob = blob.expect("base64url");
        for bit in 0..blob.len() * 8 {
            let mut flipped = blob.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let expected = match bit / 8 {
                0 => Unopened::Malformed,
                1..=4 => Unopened::UnknownKey,
                _ => Unopened::Forged,
            };
            let opened = ring.open(&URL_SAFE_NO_PAD.encode(flipped));
            assert_eq!(opened, Err(expected), "bit {bit}");
        }
    }

    #[test]
    fn a_blob_cut_short_or_spelled_otherwise_is_refused() {
        let ring = ring(&[NEW]);
        let blob = ring.seal(&link()).expect("a blob");
        for length in 0..blob.len() {
            assert!(ring.open(&blob[..length]).is_err(), "{length}");
        }
        let mut shifted = blob.clone();
        // A link one letter longer at a time, until the last character has bits to spare.
        let mut longer = link();
        while shifted.len().is_multiple_of(4) {
            longer.target.push('x');
            shifted = ring.seal(&longer).expect("a blob");
        }
        assert_eq!(ring.open(&shifted), Ok(longer));
        let last = shifted.pop().expect("a character");
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for other in alphabet.chars().filter(|other| *other != last) {
            let other = format!("{shifted}{other}");
            assert!(ring.open(&other).is_err(), "{other}");
        }
        for other in [format!("{blob}="), format!(" {blob}"), format!("{blob}\n")] {
            assert_eq!(ring.open(&other), Err(Unopened::Malformed));
        }
    }

    #[test]
    fn an_old_key_opens_behind_a_new_one_and_not_once_it_is_gone() {
        let sealed = ring(&[OLD]).seal(&link()).expect("a blob");
        let both = ring(&[NEW, OLD]);
        assert_eq!(both.open(&sealed), Ok(link()));
        let gone = ring(&[NEW]).open(&sealed);
        assert_eq!(gone, Err(Unopened::UnknownKey));
        let resealed = both.seal(&link()).expect("a blob");
        assert_eq!(ring(&[NEW]).open(&resealed), Ok(link()));
    }

    #[test]
    fn a_random_ring_opens_its_own_alone() {
        let (one, other) = (Ring::random(), Ring::random());
        let (one, other) = (one.expect("a ring"), other.expect("a ring"));
        let blob = one.seal(&link()).expect("a blob");
        assert_eq!(one.open(&blob), Ok(link()));
        assert_eq!(other.open(&blob), Err(Unopened::UnknownKey));
    }

    #[test]
    fn a_fault_of_a_key_is_told_by_its_number() {
        let exact = "x".repeat(SHORTEST);
        let short = "y".repeat(SHORTEST - 1);
        for (texts, expected) in [
            (vec![], Some(RingFault::NoKey)),
            (vec![exact.as_str()], None),
            (
                vec![exact.as_str(), short.as_str()],
                Some(RingFault::TooShort(2)),
            ),
        ] {
            let fault = Ring::new(&secrets(&texts)).err();
            assert_eq!(fault, expected, "{texts:?}");
        }
        let told = format!("{} {:?}", RingFault::TooShort(2), RingFault::TooShort(2));
        assert!(told.contains("key 2") && !told.contains("yy"), "{told}");
    }
}
