//! Header hygiene: what is for one hop goes, what only the gateway may say goes, and what two
//! readers may read in two ways is refused. The fields that stay are never copied.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};

use super::bearer::Authorization;
use super::keys::KeyHeaders;
use super::names::{Fate, fate, folds_alike, must_arrive};
use crate::denial::Reason;
use crate::http1::length;
use crate::secret::Secret;
use crate::upgrade::Asked;

/// What was learned while a request's fields were cleaned.
pub(super) struct Findings {
    pub(super) authorization: Authorization,
    pub(super) key_headers: KeyHeaders,
    pub(super) te_trailers: bool,
    pub(super) upgrade: Option<Box<Asked>>,
}

/// Cleans a request's fields in place. `Host` is not read here: it is only removed. `authorization` is one that
/// stood among them.
///
/// # Errors
/// `AmbiguousFraming`, `AmbiguousHeader` or `UpgradeNotSupported`.
pub(super) fn clean(
    method: &Method,
    version: Version,
    headers: &mut HeaderMap,
    authorization: Option<Secret<Bytes>>,
) -> Result<Findings, Reason> {
    let mut survey = Survey::of(headers);
    if version >= Version::HTTP_2 {
        survey.check_http2()?;
    } else {
        survey.check_http1(version)?;
    }
    if survey.connection {
        remove_nominated(headers)?;
    }
    // What is left of it is what the backend gets.
    let has_body = !matches!(survey.transfer_encoding, Times::Never);
    let upgrade = match survey.upgrade.take() {
        None => None,
        Some(_) if has_body => return Err(Reason::UpgradeNotSupported),
        Some(asked) => Some(asked.read(method, version, headers)?),
    };
    let authorization = Authorization::take(headers, authorization);
    if survey.unwanted.take_from(headers) {
        remove_where(headers, |name| !passes(fate(name)));
    }
    Ok(Findings {
        authorization,
        key_headers: survey.keys,
        te_trailers: survey.te_trailers,
        upgrade,
    })
}

/// Cleans a response's fields in place: those of one hop, those that name the backend's software or
/// its Application Insights resource, echoes of keys, tokens and asserted identities, and what else is `unwanted`.
pub fn strip_response(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    if headers.contains_key(header::CONNECTION) {
        // A backend that names a field of the message's own framing is not obeyed.
        for name in nominated(headers).into_iter().flatten() {
            if fate(&name) != Fate::ContentLength {
                headers.remove(name);
            }
        }
    }
    remove_where(headers, |name| {
        !passes(fate(name)) || tells_on_backend(name) || unwanted(name)
    });
}

/// Removes every field that some backend reads as `name`: what the gateway presents under a name stands
/// there alone.
pub fn remove_spellings(headers: &mut HeaderMap, name: &HeaderName) {
    remove_where(headers, |other| folds_alike(other, name));
}

/// Cleans a response's trailer fields in place. Callers merge them into the header fields, so they say no
/// more than those may; and a length has no business behind the body at all.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    strip_response(trailers, |name| *name == header::CONTENT_LENGTH);
}

fn passes(fate: Fate) -> bool {
    matches!(fate, Fate::Pass | Fate::ContentLength)
}

/// `alt-svc` would send callers past the gateway.
fn tells_on_backend(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "server"
            | "request-context"
            | "x-powered-by"
            | "x-aspnet-version"
            | "x-aspnetmvc-version"
            | "alt-svc"
    )
}

/// What one pass over the fields finds.
#[derive(Default)]
struct Survey {
    content_length: Times,
    transfer_encoding: Times,
    connection: bool,
    upgrade: Option<Upgrade>,
    connection_specific: bool,
    te_trailers: bool,
    te_other: bool,
    /// What has to be removed.
    unwanted: Batch,
    keys: KeyHeaders,
}

/// What `Upgrade` names.
enum Upgrade {
    To(HeaderValue),
    ToSeveral,
}

impl Upgrade {
    /// What is asked for, if nobody reads it otherwise.
    fn read(
        self,
        method: &Method,
        version: Version,
        headers: &HeaderMap,
    ) -> Result<Box<Asked>, Reason> {
        let asked = match self {
            Self::To(protocol) => Asked::read(&protocol, method, version, headers),
            Self::ToSeveral => None,
        };
        asked.map(Box::new).ok_or(Reason::UpgradeNotSupported)
    }
}

/// How often a field came, and whether its only value is one that is understood.
#[derive(Default)]
enum Times {
    #[default]
    Never,
    Once {
        understood: bool,
    },
    Oftener,
}

impl Times {
    fn add(&mut self, understood: bool) {
        *self = match self {
            Self::Never => Self::Once { understood },
            Self::Once { .. } | Self::Oftener => Self::Oftener,
        };
    }
}

impl Survey {
    fn of(headers: &HeaderMap) -> Self {
        let mut survey = Self::default();
        for (name, value) in headers {
            let fate = fate(name);
            if !passes(fate) {
                survey.unwanted.add(name);
            }
            survey.note(fate, value);
        }
        survey
    }

    fn note(&mut self, fate: Fate, value: &HeaderValue) {
        match fate {
            Fate::Pass | Fate::Authorization | Fate::Host | Fate::Hop => {}
            Fate::ContentLength => self.content_length.add(length(value.as_bytes()).is_some()),
            Fate::TransferEncoding => self
                .transfer_encoding
                .add(value.as_bytes().eq_ignore_ascii_case(b"chunked")),
            Fate::Te => self.note_te(value),
            Fate::Connection => self.connection = true,
            Fate::Upgrade => self.note_upgrade(value),
            Fate::ConnectionSpecific => self.connection_specific = true,
            Fate::Asserted(keys) => self.keys = self.keys.with(keys),
        }
    }

    fn note_upgrade(&mut self, value: &HeaderValue) {
        self.upgrade = Some(match self.upgrade {
            None => Upgrade::To(value.clone()),
            Some(_) => Upgrade::ToSeveral,
        });
    }

    fn note_te(&mut self, value: &HeaderValue) {
        for coding in value.as_bytes().split(|byte| *byte == b',') {
            if coding.trim_ascii().eq_ignore_ascii_case(b"trailers") {
                self.te_trailers = true;
            } else {
                self.te_other = true;
            }
        }
    }

    /// RFC 9113 section 8.2.2: a message with these fields is malformed.
    fn check_http2(&self) -> Result<(), Reason> {
        let framed = !matches!(self.transfer_encoding, Times::Never);
        if framed
            || self.connection
            || self.upgrade.is_some()
            || self.connection_specific
            || self.te_other
        {
            return Err(Reason::AmbiguousHeader);
        }
        self.check_content_length()
    }

    /// RFC 9112 section 6.1 lets a server repair `Transfer-Encoding` beside `Content-Length`; two
    /// repairs that differ are request smuggling, so nothing is repaired.
    fn check_http1(&self, version: Version) -> Result<(), Reason> {
        match (&self.transfer_encoding, &self.content_length) {
            (Times::Never, _) => self.check_content_length()?,
            (Times::Once { understood: true }, Times::Never) if version == Version::HTTP_11 => {}
            _ => return Err(Reason::AmbiguousFraming),
        }
        Ok(())
    }

    fn check_content_length(&self) -> Result<(), Reason> {
        match self.content_length {
            Times::Never | Times::Once { understood: true } => Ok(()),
            _ => Err(Reason::AmbiguousFraming),
        }
    }
}

/// Removes what `Connection` names (RFC 9110 section 7.6.1), unless that would change where the
/// message ends, where it goes or who sends it.
fn remove_nominated(headers: &mut HeaderMap) -> Result<(), Reason> {
    let names = nominated(headers).ok_or(Reason::AmbiguousHeader)?;
    for name in names {
        let essential = matches!(
            fate(&name),
            Fate::Host | Fate::ContentLength | Fate::Authorization
        );
        if essential || must_arrive(&name) {
            return Err(Reason::AmbiguousHeader);
        }
        headers.remove(name);
    }
    Ok(())
}

/// The fields that `Connection` names; `None` if one is no field name. `close` and `keep-alive`,
/// which nearly every `Connection` holds, cost nothing.
fn nominated(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        for option in value.as_bytes().split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            let ordinary = option.is_empty()
                || option.eq_ignore_ascii_case(b"close")
                || option.eq_ignore_ascii_case(b"keep-alive");
            if !ordinary {
                names.push(HeaderName::from_bytes(option).ok()?);
            }
        }
    }
    Some(names)
}

/// Removes all fields whose name is unwanted.
fn remove_where(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let mut goes_on = true;
    while goes_on {
        let mut batch = Batch::default();
        for name in headers.keys().filter(|name| unwanted(name)) {
            batch.add(name);
        }
        goes_on = batch.take_from(headers);
    }
}

/// Names of fields that are to be removed. A `HeaderMap` cannot be changed while it is read, so they are gathered
/// first, as many as usually are there.
#[derive(Default)]
struct Batch {
    names: [Option<HeaderName>; 4],
    found: usize,
}

impl Batch {
    fn add(&mut self, name: &HeaderName) {
        if let Some(place) = self.names.get_mut(self.found) {
            *place = Some(name.clone());
        }
        self.found += 1;
    }

    /// Removes them. Whether there were more than it holds, which are to be looked for again.
    fn take_from(&mut self, headers: &mut HeaderMap) -> bool {
        for name in self.names.iter_mut().filter_map(Option::take) {
            headers.remove(name);
        }
        self.found > self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields<'a> = &'a [(&'a str, &'a str)];

    fn map(fields: Fields<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().expect("a field name");
            headers.append(name, value.parse().expect("a field value"));
        }
        headers
    }

    fn left(headers: &HeaderMap) -> Vec<(&str, &str)> {
        let fields = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().expect("text")));
        let mut fields: Vec<_> = fields.collect();
        fields.sort_unstable();
        fields
    }

    #[test]
    fn fields_of_one_hop_go_and_the_others_stay() {
        let mut headers = map(&[
            ("connection", "close, x-mine, Keep-Alive"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "Chunked"),
            ("trailer", "x-checksum"),
            ("expect", "100-continue"),
            ("proxy-authorization", "Basic x"),
            ("proxy-authenticate", "Basic"),
            ("http2-settings", "AAA"),
            ("host", "a"),
            ("accept", "*/*"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("x-arr-log-id", "5"),
            ("traceparent", "00-1-2-01"),
            ("baggage", "a=b"),
        ]);
        let findings = clean(&Method::GET, Version::HTTP_11, &mut headers, None).expect("clean");
        assert!(findings.te_trailers);
        assert_eq!(
            left(&headers),
            [
                ("accept", "*/*"),
                ("cookie", "a=1"),
                ("cookie", "b=2"),
                ("traceparent", "00-1-2-01"),
                ("trailer", "x-checksum"),
                ("x-arr-log-id", "5"),
            ]
        );
    }

    #[test]
    fn keys_and_asserted_identities_go_and_their_names_are_remembered() {
        let mut headers = map(&[
            ("X-Functions-Key", "secret"),
            ("x_functions_key", "secret"),
            ("X_MS_CLIENT_PRINCIPAL", "forged"),
            ("x-ms-client-principal", "forged"),
            ("x-ms-client-principal", "forged twice"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-other", "1"),
        ]);
        let findings = clean(&Method::GET, Version::HTTP_11, &mut headers, None).expect("clean");
        let names: Vec<_> = findings.key_headers.names().collect();
        assert_eq!(names, ["x-functions-key", "x-ms-client-principal"]);
        assert_eq!(left(&headers), [("x-other", "1")]);
    }

    #[test]
    fn more_unwanted_fields_than_one_batch_all_go() {
        let mut headers = map(&[("accept", "*/*")]);
        for at in 0..50 {
            let name: HeaderName = format!("x-forwarded-{at}").parse().expect("a field name");
            headers.append(name, HeaderValue::from_static("1"));
        }
        clean(&Method::GET, Version::HTTP_11, &mut headers, None).expect("clean");
        assert_eq!(left(&headers), [("accept", "*/*")]);
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        use Reason::{
            AmbiguousFraming as Framing, AmbiguousHeader as Header, UpgradeNotSupported as Upgrade,
        };
        let (v10, v11, v2) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
        let rows: &[(&str, Version, Fields<'_>, Reason)] = &[
            (
                "two lengths",
                v11,
                &[("content-length", "5"), ("content-length", "6")],
                Framing,
            ),
            (
                "one length twice",
                v11,
                &[("content-length", "5"), ("content-length", "5")],
                Framing,
            ),
            (
                "a list of lengths",
                v11,
                &[("content-length", "5, 5")],
                Framing,
            ),
            ("a signed length", v11, &[("content-length", "+5")], Framing),
            ("an empty length", v11, &[("content-length", "")], Framing),
            (
                "a length in hex",
                v11,
                &[("content-length", "0x5")],
                Framing,
            ),
            (
                "a length beyond 64 bits",
                v11,
                &[("content-length", "99999999999999999999")],
                Framing,
            ),
            (
                "length and coding",
                v11,
                &[("content-length", "5"), ("transfer-encoding", "chunked")],
                Framing,
            ),
            (
                "two codings",
                v11,
                &[("transfer-encoding", "gzip, chunked")],
                Framing,
            ),
            (
                "chunked twice",
                v11,
                &[
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "chunked"),
                ],
                Framing,
            ),
            (
                "another coding",
                v11,
                &[("transfer-encoding", "identity")],
                Framing,
            ),
            (
                "chunked with a parameter",
                v11,
                &[("transfer-encoding", "chunked;q=1")],
                Framing,
            ),
            (
                "chunked in HTTP/1.0",
                v10,
                &[("transfer-encoding", "chunked")],
                Framing,
            ),
            (
                "two lengths in HTTP/2",
                v2,
                &[("content-length", "5"), ("content-length", "5")],
                Framing,
            ),
            (
                "h2c",
                v11,
                &[("upgrade", "h2c"), ("connection", "upgrade")],
                Upgrade,
            ),
            ("websocket", v11, &[("upgrade", "websocket")], Upgrade),
            (
                "a WebSocket with a body",
                v11,
                &[
                    ("upgrade", "websocket"),
                    ("connection", "upgrade, transfer-encoding"),
                    ("transfer-encoding", "chunked"),
                    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                    ("sec-websocket-version", "13"),
                ],
                Upgrade,
            ),
            (
                "a WebSocket whose key is for this hop",
                v11,
                &[
                    ("upgrade", "websocket"),
                    ("connection", "upgrade, sec-websocket-key"),
                    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                    ("sec-websocket-version", "13"),
                ],
                Upgrade,
            ),
            (
                "Connection names Host",
                v11,
                &[("connection", "Host")],
                Header,
            ),
            (
                "Connection names the length",
                v11,
                &[("connection", "close, content-length")],
                Header,
            ),
            (
                "Connection names the token",
                v11,
                &[("connection", "authorization")],
                Header,
            ),
            (
                "Connection names the log ID",
                v11,
                &[("connection", "X-ARR-Log-ID")],
                Header,
            ),
            (
                "Connection names it folded",
                v11,
                &[("connection", "x_arr_log_id")],
                Header,
            ),
            (
                "Connection names a pseudo-header",
                v11,
                &[("connection", ":path")],
                Header,
            ),
            (
                "Connection names no name",
                v11,
                &[("connection", "a b")],
                Header,
            ),
            (
                "Connection in HTTP/2",
                v2,
                &[("connection", "close")],
                Header,
            ),
            ("Keep-Alive in HTTP/2", v2, &[("keep-alive", "1")], Header),
            (
                "Proxy-Connection in HTTP/2",
                v2,
                &[("proxy-connection", "close")],
                Header,
            ),
            (
                "a coding in HTTP/2",
                v2,
                &[("transfer-encoding", "chunked")],
                Header,
            ),
            ("Upgrade in HTTP/2", v2, &[("upgrade", "websocket")], Header),
            (
                "TE with more than trailers in HTTP/2",
                v2,
                &[("te", "trailers, gzip")],
                Header,
            ),
        ];
        for (why, version, fields, reason) in rows {
            let refused = clean(&Method::GET, *version, &mut map(fields), None).err();
            assert_eq!(refused, Some(*reason), "{why}");
        }
    }

    #[test]
    fn plain_framing_passes() {
        let rows: &[(Version, Fields<'_>)] = &[
            (Version::HTTP_11, &[]),
            (Version::HTTP_11, &[("content-length", "0")]),
            (Version::HTTP_10, &[("content-length", "42")]),
            (
                Version::HTTP_11,
                &[("transfer-encoding", "chunked"), ("te", "gzip;q=0.5")],
            ),
            (
                Version::HTTP_2,
                &[("content-length", "42"), ("te", "trailers")],
            ),
        ];
        for (version, fields) in rows {
            assert!(
                clean(&Method::GET, *version, &mut map(fields), None).is_ok(),
                "{fields:?}"
            );
        }
    }

    #[test]
    fn a_response_says_nothing_of_the_backend_or_of_keys() {
        let mut headers = map(&[
            ("connection", "x-hop, content-length, set-cookie2"),
            ("x-hop", "1"),
            ("content-length", "3"),
            ("content-type", "text/plain"),
            ("server", "Kestrel"),
            ("x-powered-by", "ASP.NET"),
            ("request-context", "appId=cid-v1:1"),
            ("transfer-encoding", "chunked"),
            ("alt-svc", "h3=\":443\""),
            ("x-functions-key", "secret"),
            ("X-MS-Client-Principal-Id", "1"),
            ("authorization", "Bearer x"),
            ("trailer", "x-checksum"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("location", "/status"),
        ]);
        strip_response(&mut headers, |_| false);
        assert_eq!(
            left(&headers),
            [
                ("content-length", "3"),
                ("content-type", "text/plain"),
                ("location", "/status"),
                ("set-cookie", "a=1"),
                ("set-cookie", "b=2"),
                ("trailer", "x-checksum"),
            ]
        );
    }
}
