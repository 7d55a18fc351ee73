//! URLs in a response's fields. A backend may answer with a link that is a key in itself: the SAS URL
//! of a Logic App's run, the system key of Durable Functions. No key leaves through the gate.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use memchr::memmem;

use super::keys::{KeptParameters, KeyParameters};
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

/// Removes the fields whose URL carries a key parameter, save for those that the route keeps. A URL
/// without its key would lead nowhere, so the whole field goes.
pub fn withhold_key_urls(headers: &mut HeaderMap, kept: KeptParameters) {
    let kept = kept.with(KeyParameters::API_VERSION);
    let carries = |(name, value): (&HeaderName, &HeaderValue)| {
        let may_be_url =
            URL_FIELDS.contains(name) || memmem::find(value.as_bytes(), b"://").is_some();
        (may_be_url && carries_key(value, kept)).then(|| name.clone())
    };
    let withheld: Vec<HeaderName> = headers.iter().filter_map(carries).collect();
    for name in withheld {
        headers.remove(name);
    }
}

fn carries_key(value: &HeaderValue, kept: KeptParameters) -> bool {
    // What is not readable as a URL cannot be shown to be harmless.
    value
        .to_str()
        .map_or(true, |text| text_carries_key(text, kept))
}

/// Whether a URL in the text carries a key, or cannot be read.
pub(crate) fn text_carries_key(text: &str, kept: KeptParameters) -> bool {
    // Parameters stand behind `?`, and for some readers behind `;` or `#`. `Link` holds several URLs,
    // each in angle brackets; a query ends where its URL does.
    let queries = text.split(['?', '#', ';']).skip(1);
    let queries = queries.map(|rest| rest.split(['>', '"', ' ', ',']).next().unwrap_or(rest));
    queries
        .into_iter()
        .any(|query| match query::examine(query) {
            Ok(seen) => !seen.without(kept).is_empty(),
            Err(_) => true,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_carries_a_key_is_withheld() {
        for (name, value, stays) in [
            ("location", "/guests/7", true),
            ("location", "https://a.example/x?y=1#top", true),
            ("location", "https://a.example/x?y=1#sig=2", false),
            ("location", "https://a.example/a;sig=2?x=1", false),
            ("x-ms-redirect", "https://a.example/x?code=s", false),
            ("x-note", "see https://a.example/x?api-version=1", true),
            ("x-note", "code=7?sig=8", true),
            ("location", "https://a.example/x?api-version=1&SIG=s", false),
            ("location", "https://a.example/x?%73ig=s", false),
            ("operation-location", "https://a.example/x?code=s", false),
            (
                "link",
                "<https://a.example/x?a=1>; rel=next, <https://a.example/x?sig=s>; rel=prev",
                false,
            ),
            ("link", "<https://a.example/x?a=1>; rel=next", true),
            ("location", "https://a.example/x?a=%zz", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            withhold_key_urls(&mut headers, KeptParameters::NONE);
            assert_eq!(headers.contains_key(name), stays, "{name}: {value}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("location", HeaderValue::from_static("/signed-in?code=x"));
        withhold_key_urls(&mut headers, KeyParameters::CODE);
        assert!(
            headers.contains_key("location"),
            "the route says that `code` is no key"
        );
    }
}
