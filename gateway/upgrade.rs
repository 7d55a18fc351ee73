//! Other protocols on a caller's connection (RFC 9110 section 7.8): what a caller asks for, and what a backend has to
//! say before both may speak it.

pub mod websocket;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};

use crate::http1::{is_token, length, lists};

const KEY: HeaderName = header::SEC_WEBSOCKET_KEY;
const ACCEPT: HeaderName = header::SEC_WEBSOCKET_ACCEPT;
const VERSION: HeaderName = header::SEC_WEBSOCKET_VERSION;

/// A protocol as `Upgrade` names it, in lower case: `websocket`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Protocol(Box<str>);

impl Protocol {
    /// The protocol that a text names: a token, and perhaps a version behind a slash. None for other versions of HTTP
    /// and for TLS, which are the gateway's own to speak.
    pub fn read(text: &str) -> Option<Self> {
        const LONGEST: usize = 64;
        let text = text.to_ascii_lowercase();
        let (name, version) = match text.split_once('/') {
            Some((name, version)) => (name, Some(version)),
            None => (&*text, None),
        };
        let is_named = |word: &str| !word.is_empty() && word.bytes().all(is_token);
        let is_named = is_named(name) && version.is_none_or(is_named) && text.len() <= LONGEST;
        let is_ours = matches!(name, "http" | "h2" | "h2c" | "h3" | "tls");
        (is_named && !is_ours).then(|| Self(text.into()))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether it is that of RFC 6455.
    pub fn is_websocket(&self) -> bool {
        &*self.0 == "websocket"
    }
}

/// What a caller asks for, in a form that nobody reads otherwise.
#[derive(Clone, Debug)]
pub struct Asked {
    protocol: Protocol,
    /// What the backend has to say of the caller's key, where the protocol is WebSocket.
    accept: Option<Box<str>>,
}

impl Asked {
    /// Reads what a request without chunks asks for that names `protocol` in its only `Upgrade`. None for what some
    /// reader might take for less or more than that: the option `upgrade` is missing in `Connection`, the request has a
    /// body, it is not HTTP/1.1's, or it is no handshake of WebSocket (RFC 6455 section 4.1).
    pub fn read(
        protocol: &HeaderValue,
        method: &Method,
        version: Version,
        headers: &HeaderMap,
    ) -> Option<Self> {
        let protocol = Protocol::read(protocol.to_str().ok()?)?;
        let mut connection = headers.get_all(header::CONNECTION).iter();
        let is_said = connection.any(|value| lists(value.as_bytes(), b"upgrade"));
        let said_length = headers.get(header::CONTENT_LENGTH);
        let is_empty = said_length.is_none_or(|said| length(said.as_bytes()) == Some(0));
        if !is_said || !is_empty || version != Version::HTTP_11 {
            return None;
        }
        let accept = match protocol.is_websocket() {
            false => None,
            true => Some(handshake(method, headers)?),
        };
        Some(Self { protocol, accept })
    }

    /// What is to be spoken.
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// Whether an answer of 101 with these fields agrees to it, and to nothing else. One that does not was perhaps
    /// made by somebody who wants the gateway to believe that another protocol is spoken.
    pub fn is_agreed_by(&self, headers: &HeaderMap) -> bool {
        let agrees = |value: &HeaderValue| {
            let name = value.as_bytes();
            name.eq_ignore_ascii_case(self.protocol.name().as_bytes())
        };
        let mut connection = headers.get_all(header::CONNECTION).iter();
        connection.any(|value| lists(value.as_bytes(), b"upgrade"))
            && only(headers, &header::UPGRADE).is_some_and(agrees)
            && self.accept.as_ref().is_none_or(|accept| {
                only(headers, &ACCEPT).is_some_and(|value| value.as_bytes() == accept.as_bytes())
            })
    }
}

/// What has to be said to the handshake of a WebSocket.
fn handshake(method: &Method, headers: &HeaderMap) -> Option<Box<str>> {
    let key = only(headers, &KEY)?.as_bytes();
    let is_version = only(headers, &VERSION)?.as_bytes() == b"13";
    let is_one = method == Method::GET && is_version && websocket::is_key(key);
    is_one.then(|| websocket::accept(key).into())
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        headers
    }

    /// The handshake of RFC 6455 section 1.3.
    const HANDSHAKE: [(&str, &str); 3] = [
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];

    fn read(protocol: &'static str, fields: &[(&'static str, &'static str)]) -> Option<Asked> {
        let protocol = HeaderValue::from_static(protocol);
        Asked::read(&protocol, &Method::GET, Version::HTTP_11, &headers(fields))
    }

    #[test]
    fn a_protocol_is_a_token_and_none_that_the_gateway_speaks_itself() {
        for (text, expected) in [
            ("WebSocket", Some("websocket")),
            ("SPDY/3.1", Some("spdy/3.1")),
            ("tcp", Some("tcp")),
            ("h2c", None),
            ("H2", None),
            ("HTTP/2.0", None),
            ("TLS/1.0", None),
            ("websocket, h2c", None),
            ("websocket/", None),
            ("/13", None),
            ("a/b/c", None),
            ("", None),
            ("web socket", None),
        ] {
            let read = Protocol::read(text);
            assert_eq!(read.as_ref().map(Protocol::name), expected, "{text}");
        }
        assert!(Protocol::read(&"a".repeat(65)).is_none());
    }

    #[test]
    fn only_a_whole_handshake_asks_for_a_websocket() {
        assert!(read("websocket", &HANDSHAKE).is_some());
        for at in 0..HANDSHAKE.len() {
            let mut fields = HANDSHAKE.to_vec();
            let left_out = fields.remove(at);
            assert!(read("websocket", &fields).is_none(), "without {left_out:?}");
            fields.extend([left_out, left_out]);
            let is_said_twice = read("websocket", &fields).is_some();
            assert_eq!(is_said_twice, at == 0, "twice {left_out:?}");
        }
        for (at, value) in [
            (0, "keep-alive"),
            (0, "upgrades"),
            (1, "dGhlIHNhbXBsZSBub25jZQ="),
            (1, "dGhlIHNhbXBsZSBub25jZQ"),
            (1, "dGhlIHNhbXBsZSBub25jZTE="),
            (1, "dGhlIHNhbXBsZSBub25jZR=="),
            (2, "8"),
            (2, "13, 8"),
        ] {
            let mut fields = HANDSHAKE;
            fields[at].1 = value;
            assert!(read("websocket", &fields).is_none(), "{value}");
        }
        let more = ("content-length", "1");
        let fields: Vec<_> = HANDSHAKE.into_iter().chain([more]).collect();
        assert!(read("websocket", &fields).is_none());
        let protocol = HeaderValue::from_static("websocket");
        for (method, version) in [
            (Method::POST, Version::HTTP_11),
            (Method::GET, Version::HTTP_10),
        ] {
            let read = Asked::read(&protocol, &method, version, &headers(&HANDSHAKE));
            assert!(read.is_none(), "{method} {version:?}");
        }
        // Others are not known so well.
        assert!(read("tcp", &HANDSHAKE[..1]).is_some());
    }

    #[test]
    fn an_answer_agrees_to_what_was_asked_for_or_to_nothing() {
        const ANSWER: [(&str, &str); 3] = [
            ("connection", "upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ];
        let asked = read("websocket", &HANDSHAKE).expect("a handshake");
        assert!(asked.is_agreed_by(&headers(&ANSWER)));
        for at in 0..ANSWER.len() {
            let mut fields = ANSWER.to_vec();
            let left_out = fields.remove(at);
            assert!(!asked.is_agreed_by(&headers(&fields)), "{left_out:?}");
        }
        for (at, value) in [
            (1, "h2c"),
            (1, "websocket, h2c"),
            (2, "s3pPLMBiTxaQ9kYGzzhZRbK+xOO="),
        ] {
            let mut fields = ANSWER;
            fields[at].1 = value;
            assert!(!asked.is_agreed_by(&headers(&fields)), "{value}");
        }
        let twice: Vec<_> = ANSWER.into_iter().chain([("upgrade", "h2c")]).collect();
        assert!(!asked.is_agreed_by(&headers(&twice)));
    }
}
