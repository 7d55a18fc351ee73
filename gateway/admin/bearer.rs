//! The secret that whoever asks has to bring.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use http::{HeaderMap, header};

use crate::canonical::is_token68;
use crate::credentials::Derived;
use crate::files::{Diagnostics, SecretSource, Spanned};
use crate::secret::Secret;
use crate::upstream::Presenting;

/// The fewest characters: 24 random bytes in base64.
const LEAST_LENGTH: usize = 32;

/// The secret, by its digest: two of them are of one length, so that comparing tells nothing of it.
pub struct Bearer(Digest);

impl Bearer {
    /// Reads it where it is written, and takes up what becomes of it. `None` when an error was added.
    pub fn read(
        written: &Spanned<SecretSource>,
        presenting: Presenting<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<Derived<Self>>> {
        let text = presenting.text(written, diagnostics)?;
        let bearer = Derived::new(vec![text], Self::new);
        let Some(why) = bearer.fault(&presenting.credentials.now()) else {
            return Some(bearer);
        };
        diagnostics
            .error(&written.span, format!("this is no bearer: {why}"))
            .help("write 32 characters or more: `openssl rand -base64 32`");
        None
    }

    /// Takes what was read, or says what is wrong with it without showing it.
    pub(super) fn new(texts: &[Secret<String>]) -> Result<Self, String> {
        let text = texts.first().map(|text| text.expose().trim());
        match text {
            None | Some("") => Err("there is none".to_owned()),
            Some(text) if text.len() < LEAST_LENGTH => {
                Err(format!("it has fewer than {LEAST_LENGTH} characters"))
            }
            Some(text) if !is_token68(text) => Err(
                "it holds something else than letters, digits and `-._~+/`, which no bearer may"
                    .to_owned(),
            ),
            Some(text) => Ok(Self(hashed(text))),
        }
    }

    /// Whether the request brings it (RFC 6750 section 2.1).
    pub(super) fn is_brought(&self, fields: &HeaderMap) -> bool {
        let mut brought = fields.get_all(header::AUTHORIZATION).iter();
        let (Some(field), None) = (brought.next(), brought.next()) else {
            return false;
        };
        let text = field.to_str().unwrap_or_default();
        let Some((scheme, token)) = text.split_once(' ') else {
            return false;
        };
        let brought = hashed(token.trim_start_matches(' '));
        scheme.eq_ignore_ascii_case("Bearer")
            && verify_slices_are_equal(brought.as_ref(), self.0.as_ref()).is_ok()
    }
}

fn hashed(text: &str) -> Digest {
    digest(&SHA256, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const GOOD: &str = "planted-planted-planted-planted-";

    fn made(text: &str) -> Result<Bearer, String> {
        Bearer::new(&[Secret::new(text.to_owned())])
    }

    #[test]
    fn what_cannot_protect_is_refused_without_being_shown() {
        for text in [
            "",
            "\n",
            "planted",
            &GOOD[1..],
            &format!("{GOOD} x"),
            &format!("ä{GOOD}"),
        ] {
            let why = made(text).err().expect("refused");
            assert!(!why.contains("planted"), "{text:?} {why}");
        }
        assert!(made(&format!("{GOOD}\n")).is_ok());
    }

    #[test]
    fn only_the_whole_secret_by_itself_is_taken() {
        let bearer = made(GOOD).expect("a secret");
        for (field, taken) in [
            (format!("Bearer {GOOD}"), true),
            (format!("bearer  {GOOD}"), true),
            (format!("Bearer {GOOD}x"), false),
            (format!("Bearer {}", &GOOD[1..]), false),
            (format!("Bearer {}", GOOD.to_uppercase()), false),
            (format!("Basic {GOOD}"), false),
            (GOOD.to_owned(), false),
            ("Bearer".to_owned(), false),
            ("Bearer ".to_owned(), false),
        ] {
            let mut fields = HeaderMap::new();
            fields.append(
                header::AUTHORIZATION,
                HeaderValue::try_from(&field).expect("a field"),
            );
            assert_eq!(bearer.is_brought(&fields), taken, "{field}");
            fields.append(header::AUTHORIZATION, HeaderValue::from_static("Basic x"));
            assert!(!bearer.is_brought(&fields), "beside another: {field}");
        }
        assert!(!bearer.is_brought(&HeaderMap::new()));
    }
}
