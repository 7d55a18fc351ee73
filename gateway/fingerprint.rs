//! Fingerprints of SAS signatures and function keys: two requests that brought the same one can be told to have,
//! by who does not hold it and does not learn it.
//!
//! They are keyed: a function key may be short or guessable, and whoever read a plain digest in a log could try
//! guesses against it.

use std::fmt;

use aws_lc_rs::hmac;

use crate::secret::Secret;

/// Fewest characters of a key's text.
pub const LEAST_KEY_LENGTH: usize = 32;

/// What the value stands behind, so that the same key used for something else gives nothing away here.
const PURPOSE: &[u8] = b"portcullis fingerprint\0";

const CALLER: &[u8] = b"portcullis caller\0";

/// The text of a key has fewer than [`LEAST_KEY_LENGTH`] characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooShort;

impl fmt::Display for TooShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the fingerprint key has fewer than {LEAST_KEY_LENGTH} characters"
        )
    }
}

impl std::error::Error for TooShort {}

/// What fingerprints are made with. Only those made with the same key can be compared.
#[derive(Clone)]
pub struct FingerprintKey(hmac::Key);

impl FingerprintKey {
    /// The key of this text, as `telemetry.fingerprintKey` of gateway.yaml holds it. Space around it is none
    /// of it.
    ///
    /// # Errors
    /// When the text is too short to be no guess.
    pub fn new(text: &Secret<String>) -> Result<Self, TooShort> {
        let text = text.expose().trim();
        if text.chars().count() < LEAST_KEY_LENGTH {
            return Err(TooShort);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes())))
    }

    /// A key that nobody else has: its fingerprints can be compared for as long as the process runs.
    #[expect(
        clippy::expect_used,
        reason = "AWS-LC ends the process rather than go without randomness; a fixed key in its place would be a lie"
    )]
    pub fn random() -> Self {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).expect("randomness");
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    /// The hash that a caller's address or principal is told by.
    pub fn caller(&self, text: &str) -> Fingerprint {
        self.digest(CALLER, text.as_bytes())
    }

    /// The fingerprint of a signature or key as it stands in a URL. Its percent codes are decoded once, so that one
    /// that was copied out of a portal and one out of a URL are the same.
    pub fn fingerprint(&self, raw_value: &str) -> Fingerprint {
        self.digest(PURPOSE, &decoded(raw_value.as_bytes()))
    }

    fn digest(&self, purpose: &[u8], value: &[u8]) -> Fingerprint {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(purpose);
        context.update(value);
        let mut first = [0; 8];
        for (to, from) in first.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        Fingerprint(first)
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The first 64 bits of a keyed digest: enough that two of a log are never the same by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 8]);

impl Fingerprint {
    /// Reads one back as it is written: 16 lower-case hexadecimal digits.
    pub fn read(text: &str) -> Option<Self> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 16 || !text.bytes().all(digit) {
            return None;
        }
        let number = u64::from_str_radix(text, 16).ok()?;
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// Text with its percent codes decoded once; what is no whole code stands for itself.
pub fn decoded(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    while let Some((first, rest)) = text.split_first() {
        let code = match text {
            [b'%', high, low, after @ ..] => {
                digit(*high).zip(digit(*low)).map(|code| (code, after))
            }
            _ => None,
        };
        let (byte, after) = match code {
            Some(((high, low), after)) => (high << 4 | low, after),
            None => (*first, rest),
        };
        out.push(byte);
        text = after;
    }
    out
}

/// What one hexadecimal digit counts.
fn digit(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> FingerprintKey {
        let text = Secret::new("0123456789abcdef0123456789abcdef".to_owned());
        FingerprintKey::new(&text).expect("long enough")
    }

    #[test]
    fn a_fingerprint_is_the_beginning_of_what_openssl_makes() {
        // printf 'portcullis fingerprint\0a+b/c=' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
        assert_eq!(key().fingerprint("a+b/c=").to_string(), "7e878ef6aaa082a7");
    }

    #[test]
    fn percent_codes_are_decoded_once_and_only_where_they_are_whole() {
        for (name, left, right, same) in [
            ("encoded", "a%2Bb%2fc%3D", "a+b/c=", true),
            ("twice encoded", "a%252Bb", "a%2Bb", false),
            ("a plus is no space", "a+b", "a b", false),
            ("torn", "a%2", "a%252", true),
            ("no digits", "a%+1", "a%25+1", true),
            ("other letter case", "A", "a", false),
        ] {
            let equal = key().fingerprint(left) == key().fingerprint(right);
            assert_eq!(equal, same, "{name}");
        }
    }

    #[test]
    fn a_key_of_31_characters_is_refused_and_one_of_32_is_not() {
        for (length, short) in [(0, true), (31, true), (32, false)] {
            let text = Secret::new("ü".repeat(length));
            assert_eq!(FingerprintKey::new(&text).is_err(), short, "{length}");
        }
    }

    #[test]
    fn a_random_key_is_another_each_time_and_says_nothing() {
        let [one, other] = [FingerprintKey::random(), FingerprintKey::random()];
        assert_ne!(one.fingerprint("a"), other.fingerprint("a"));
        assert_eq!(format!("{one:?}"), "***");
    }

    #[test]
    fn what_is_no_fingerprint_is_not_read_as_one() {
        for text in [
            "",
            "9f86d081884c7d6",
            "9f86d081884c7d655",
            "9F86D081884C7D65",
            "+f86d081884c7d65",
            "9f86d081884c7d6é",
        ] {
            assert_eq!(Fingerprint::read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_fingerprint_is_read_as_it_is_written(bytes in any::<[u8; 8]>()) {
            let text = Fingerprint(bytes).to_string();
            prop_assert_eq!(text.len(), 16);
            prop_assert_eq!(Fingerprint::read(&text), Some(Fingerprint(bytes)));
        }

        #[test]
        fn encoding_a_value_whole_changes_no_fingerprint(value in "[ -~]{0,40}") {
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let plain = value.replace('%', "%25");
            prop_assert_eq!(key().fingerprint(&encoded), key().fingerprint(&plain));
        }
    }
}
