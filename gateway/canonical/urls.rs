//! URLs in a response's fields. A backend may answer with a link that is a key in itself: the SAS URL
//! of a Logic App's run, the system key of Durable Functions.

use http::header::{self, HeaderName};

use super::keys::KeptParameters;
use super::query;

/// Fields whose value is a URL even where it names no host.
pub(crate) const URL_FIELDS: [HeaderName; 6] = [
    header::LOCATION,
    header::CONTENT_LOCATION,
    header::LINK,
    header::REFRESH,
    HeaderName::from_static("operation-location"),
    HeaderName::from_static("azure-asyncoperation"),
];

/// Whether a text carries a key, to some reader. Parameters stand behind `?`, and for some readers behind
/// `;` or `#`; a query ends where its URL does, and at a comma it may.
pub(crate) fn text_carries_key(text: &str, kept: KeptParameters) -> bool {
    let queries = text.split(['?', '#', ';']).skip(1);
    let mut parts = queries.flat_map(|rest| {
        let url = rest.split(['>', '"', ' ']).next().unwrap_or(rest);
        [url, url.split(',').next().unwrap_or(url)]
    });
    parts.any(|query| match query::examine(query) {
        Ok(seen) => !seen.all.without(kept).is_empty(),
        Err(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::KeyParameters;

    #[test]
    fn a_key_in_a_field_is_seen() {
        let kept = KeyParameters::API_VERSION;
        for (value, carries) in [
            ("/guests/7", false),
            ("https://a.example/x?y=1#top", false),
            ("https://a.example/x?y=1#sig=2", true),
            ("https://a.example/a;sig=2?x=1", true),
            ("https://a.example/x?code=s", true),
            ("see https://a.example/x?api-version=1", false),
            ("https://a.example/x?api-version=1&SIG=s", true),
            ("https://a.example/x?%73ig=s", true),
            ("https://a.example/x?a=1,2&sig=s", true),
            (
                "<https://a.example/x?a=1>; rel=next, <https://a.example/x?sig=s>; rel=prev",
                true,
            ),
            ("<https://a.example/x?a=1>; rel=next", false),
            ("https://a.example/x?a=%zz", true),
        ] {
            assert_eq!(text_carries_key(value, kept), carries, "{value}");
        }
        let kept = kept.with(KeyParameters::CODE);
        assert!(!text_carries_key("/signed-in?code=x", kept));
    }
}
