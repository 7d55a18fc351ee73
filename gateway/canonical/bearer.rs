//! `Authorization`, taken out of the header fields before anything can pass it on or print it.

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap};

use crate::denial::Reason;
use crate::secret::Secret;

/// What a request brought in `Authorization`.
#[derive(Clone, Debug)]
pub(super) enum Authorization {
    Missing,
    One(Secret<Bytes>),
    Several,
}

impl Authorization {
    /// Takes every `Authorization` out of the fields; `apart` is one that was taken out before.
    pub(super) fn take(headers: &mut HeaderMap, apart: Option<Secret<Bytes>>) -> Self {
        let several = headers.get_all(AUTHORIZATION).iter().nth(1).is_some();
        match (headers.remove(AUTHORIZATION), apart) {
            (None, None) => Self::Missing,
            (None, Some(value)) => Self::One(value),
            (Some(value), None) if !several => Self::One(Secret::new(Bytes::from_owner(value))),
            (Some(_), _) => Self::Several,
        }
    }

    /// The only one.
    pub(super) fn only(&self) -> Option<&Secret<Bytes>> {
        match self {
            Self::One(value) => Some(value),
            Self::Missing | Self::Several => None,
        }
    }

    /// The bearer token (RFC 6750 section 2.1): what stands behind `Bearer` and spaces.
    pub(super) fn bearer(&self) -> Result<&str, Reason> {
        match self {
            Self::Missing => Err(Reason::TokenMissing),
            Self::Several => Err(Reason::AuthorizationAmbiguous),
            Self::One(value) => bearer(value.expose()),
        }
    }
}

/// The token is text, and its form is left to whoever verifies it: one that was verified before need not be
/// looked through again.
fn bearer(value: &[u8]) -> Result<&str, Reason> {
    let value = std::str::from_utf8(value).map_err(|_| Reason::TokenMalformed)?;
    if value.is_empty() {
        return Err(Reason::TokenMissing);
    }
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Reason::SchemeNotSupported);
    }
    match token.trim_start_matches(' ') {
        "" => Err(Reason::TokenMalformed),
        token => Ok(token),
    }
}

/// `token68` (RFC 9110 section 11.2), which is what `Bearer` takes (RFC 6750 section 2.1).
pub(crate) fn is_token68(text: &str) -> bool {
    let body = text.trim_end_matches('=').as_bytes();
    let is_good = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
    };
    !body.is_empty() && body.iter().all(is_good)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&str]) -> Result<String, Reason> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().expect("a field value"));
        }
        let authorization = Authorization::take(&mut headers, None);
        assert!(headers.is_empty(), "Authorization stays behind");
        assert!(
            !format!("{authorization:?}").contains("abc"),
            "it can be printed"
        );
        authorization.bearer().map(str::to_owned)
    }

    #[test]
    fn one_that_was_taken_out_before_counts_as_one_that_stands_among_the_fields() {
        let apart = || Some(Secret::new(Bytes::from_static(b"Bearer abc")));
        let mut headers = HeaderMap::new();
        let alone = Authorization::take(&mut headers, apart());
        assert_eq!(alone.bearer(), Ok("abc"));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
        let with_another = Authorization::take(&mut headers, apart());
        assert_eq!(with_another.bearer(), Err(Reason::AuthorizationAmbiguous));
        assert!(headers.is_empty());
    }

    #[test]
    fn a_bearer_token_is_read_whatever_the_case_of_its_scheme() {
        for value in [
            "Bearer abc.DEF-1_2",
            "bearer abc.DEF-1_2",
            "BEARER   abc.DEF-1_2",
        ] {
            assert_eq!(read(&[value]), Ok("abc.DEF-1_2".to_owned()), "{value}");
        }
        assert_eq!(read(&["Bearer abc+/~=="]), Ok("abc+/~==".to_owned()));
    }

    #[test]
    fn a_token_that_nobody_has_verified_must_be_a_token68() {
        for value in ["Bearer abc.DEF-1_2", "Bearer abc+/~=="] {
            assert!(
                read(&[value]).is_ok_and(|token| is_token68(&token)),
                "{value}"
            );
        }
        for value in [
            "Bearer =",
            "Bearer abc def",
            "Bearer abc, Bearer def",
            "Bearer \tabc",
            "Bearer a=b",
            "Bearer \"abc\"",
            "Bearer abc\u{e9}",
        ] {
            let token = read(&[value]).expect("text");
            assert!(!is_token68(&token), "{value}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        let rows: &[(&[&str], Reason)] = &[
            (&[], Reason::TokenMissing),
            (&[""], Reason::TokenMissing),
            (
                &["Bearer abc", "Bearer abc"],
                Reason::AuthorizationAmbiguous,
            ),
            (&["Bearer abc", "Basic abc"], Reason::AuthorizationAmbiguous),
            (&["Basic abc"], Reason::SchemeNotSupported),
            (&["abc.def.ghi"], Reason::SchemeNotSupported),
            (&["Bearerabc"], Reason::SchemeNotSupported),
            (&["mtls_pop abc"], Reason::SchemeNotSupported),
            (&["Bearer"], Reason::TokenMalformed),
            (&["Bearer  "], Reason::TokenMalformed),
        ];
        for (values, reason) in rows {
            assert_eq!(read(values), Err(*reason), "{values:?}");
        }
    }
}
