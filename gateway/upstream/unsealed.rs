//! An answer whose keys have not been looked for yet. Nothing can be done with it but to seal it.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::Body as _;

use super::body::ResponseBody;
use crate::denial::{Denial, Reason};
use crate::policy::SealsBody;
use crate::seal::{Caught, Published, Sealer, Text, may_hold_urls};

/// An answer that may hold keys. Only [`Unsealed::seal`] makes an answer of it that can be passed on.
#[must_use = "it has to be sealed"]
pub struct Unsealed {
    response: Response<ResponseBody>,
    /// Whether keys are looked for in its body, too.
    bodies: SealsBody,
}

impl Unsealed {
    pub(super) fn new(response: Response<ResponseBody>, bodies: SealsBody) -> Self {
        Self { response, bodies }
    }

    /// Replaces the URLs that carry keys, and those that lead past the gateway. Asks for what seals only if
    /// there is anything to look at; the method is that of the request.
    ///
    /// # Errors
    /// `AnswerUnreadable` for a body in which keys are to be looked for, and that is compressed or in an
    /// encoding that is not ASCII's.
    pub fn seal(
        mut self,
        method: &Method,
        sealer: impl FnOnce() -> Sealer,
        published: &Published<'_>,
    ) -> Result<(Response<ResponseBody>, Caught), Denial> {
        let kind = match self.looks_into_body() {
            true => text_kind(self.response.headers()),
            false => Kind::Other,
        };
        if matches!(kind, Kind::Other) && !may_hold_urls(self.response.headers()) {
            return Ok((self.response, Caught::default()));
        }
        let sealer = sealer();
        let status = self.response.status();
        let caught = sealer.headers(method, status, self.response.headers_mut(), published);
        if let Kind::Text(text) = kind {
            self.seal_body(method, sealer, text)?;
        }
        Ok((self.response, caught))
    }

    fn looks_into_body(&self) -> bool {
        match self.bodies {
            SealsBody::Never => false,
            SealsBody::Always => true,
            SealsBody::Accepted => self.response.status() == StatusCode::ACCEPTED,
        }
    }

    fn seal_body(&mut self, method: &Method, sealer: Sealer, text: Text) -> Result<(), Denial> {
        // Without a body, fields that speak of one speak of another answer's: 304, HEAD.
        if self.response.body().is_end_stream() || *method == Method::HEAD {
            return Ok(());
        }
        let headers = self.response.headers_mut();
        if let Some(why) = unreadable(headers) {
            return Err(Denial::from(Reason::AnswerUnreadable)
                .expected("a body that can be searched for keys", why));
        }
        // They speak of the body as the backend sent it.
        for name in OF_THE_BODY {
            headers.remove(name);
        }
        self.response.body_mut().seal(sealer.body(text));
        Ok(())
    }
}

/// Fields that no longer hold once a body is another.
const OF_THE_BODY: [HeaderName; 7] = [
    header::CONTENT_LENGTH,
    header::ETAG,
    header::ACCEPT_RANGES,
    header::CONTENT_RANGE,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// What a body is.
enum Kind {
    Text(Text),
    /// Nothing that anybody reads URLs in, or nothing that they could be found in.
    Other,
}

/// What is known to be no text. All else is searched, whatever it says of itself.
fn is_binary(essence: &str) -> bool {
    let (family, kind) = essence.split_once('/').unwrap_or_default();
    let packed = ["zip", "gzip", "pdf", "x-tar", "x-7z-compressed", "zstd"];
    match family {
        "image" => !kind.ends_with("+xml"),
        "audio" | "video" | "font" => true,
        "application" => {
            packed.contains(&kind)
                || kind.starts_with("grpc")
                || kind.ends_with("+zip")
                || kind.starts_with("vnd.openxmlformats-")
        }
        _ => false,
    }
}

fn text_kind(headers: &HeaderMap) -> Kind {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return Kind::Text(Text::Plain);
    };
    let kind = kind.to_str().unwrap_or_default().to_ascii_lowercase();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if is_binary(essence) && headers.get_all(header::CONTENT_TYPE).iter().count() == 1 {
        return Kind::Other;
    }
    match essence.contains("json") {
        true => Kind::Text(Text::Json),
        false => Kind::Text(Text::Plain),
    }
}

/// Why keys in a body could hide from a search for them.
fn unreadable(headers: &HeaderMap) -> Option<&'static str> {
    let is_identity = |value: &HeaderValue| {
        let value = value.as_bytes().trim_ascii();
        value.eq_ignore_ascii_case(b"identity")
    };
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    if !encodings.all(is_identity) {
        return Some("a compressed body");
    }
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    let kind = kinds.next()?;
    if kinds.next().is_some() {
        return Some("a body of two types");
    }
    let Ok(kind) = kind.to_str() else {
        return Some("a body whose type cannot be read");
    };
    let kind = kind.to_ascii_lowercase();
    let parameters = kind.split(';').skip(1);
    let mut charsets = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        (name.trim() == "charset").then(|| value.trim().trim_matches(['"', '\'']))
    });
    let like_ascii = |charset: &str| {
        ["utf-8", "utf8", "us-ascii", "ascii"].contains(&charset)
            || charset.starts_with("iso-8859-")
            || charset.starts_with("windows-125")
    };
    (!charsets.all(like_ascii)).then_some("a body in an encoding that is not ASCII's")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        fields.collect()
    }

    #[test]
    fn bodies_in_which_urls_stand_are_searched() {
        for (kind, expected) in [
            ("application/json; charset=utf-8", "json"),
            ("application/problem+JSON", "json"),
            ("text/html", "plain"),
            ("application/atom+xml", "plain"),
            ("image/png", "other"),
            ("image/svg+xml", "plain"),
            ("application/octet-stream", "plain"),
            ("application/yaml", "plain"),
            ("application/json-seq", "json"),
            ("json", "json"),
            ("application/json, image/png", "json"),
            ("application/zip", "other"),
            ("video/mp4; codecs=x", "other"),
        ] {
            let found = match text_kind(&headers(&[("content-type", kind)])) {
                Kind::Text(Text::Json) => "json",
                Kind::Text(Text::Plain) => "plain",
                Kind::Other => "other",
            };
            assert_eq!(found, expected, "{kind}");
        }
        assert!(matches!(
            text_kind(&HeaderMap::new()),
            Kind::Text(Text::Plain)
        ));
    }

    #[test]
    fn a_body_that_could_hide_keys_is_not_passed_on() {
        for (fields, is_readable) in [
            (&[("content-encoding", "gzip")][..], false),
            (&[("content-encoding", "identity")], true),
            (
                &[("content-type", "application/json; charset=UTF-16")],
                false,
            ),
            (
                &[("content-type", "application/json; charset=\"utf-8\"; x=1")],
                true,
            ),
            (&[("content-type", "text/plain; charset=iso-8859-1")], true),
            (&[], true),
        ] {
            assert_eq!(
                unreadable(&headers(fields)).is_none(),
                is_readable,
                "{fields:?}"
            );
        }
    }
}
