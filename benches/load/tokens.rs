//! What callers send: a token each, in a request whose bytes are made once.

use std::sync::OnceLock;

use bytes::Bytes;
use portcullis::demo::entra::Entra;
use portcullis::demo::mint::Token;
use portcullis::demo::names::{AUDIENCE, CONTOSO, MARKETING_PORTAL};
use portcullis::entra::Version;

/// The role that the policy asks for.
pub(crate) const ROLE: &str = "Guests.Invite";

/// The query of a SAS link: the full job is to strip its signature, the plain one to pass it on.
pub(crate) const TARGET: &str = "/invitations?api-version=2016-10-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=planted-sas-signature";

/// The body, unless a case sends a larger one.
pub(crate) const BODY: &[u8] = br#"{"email":"guest@example.org"}"#;

/// How long tokens are good, in seconds: longer than all cases take.
const LIFETIME: u64 = 12 * 3600;

/// An app beside the portal, as the policy lists them.
pub(crate) fn app(number: usize) -> String {
    match number {
        0 => MARKETING_PORTAL.to_owned(),
        _ => format!("cccccccc-0000-0000-0000-{number:012}"),
    }
}

fn token(entra: &Entra, app: &str, role: &str, number: usize) -> String {
    let now = entra.now();
    let token = Token::app(Version::V2, CONTOSO, app, AUDIENCE, now)
        .roles(&[role])
        .claim("exp", now + LIFETIME)
        .claim("uti", format!("load-{number:017}"))
        // As long as tokens usually are.
        .claim("filler", "x".repeat(300));
    // Not `Entra::sign`, which remembers them all.
    token.signed_by(&entra.key()).expect("signed")
}

/// One that is let in.
pub(crate) fn good(entra: &Entra) -> String {
    token(entra, MARKETING_PORTAL, ROLE, 0)
}

/// One with another role than the policy asks for.
pub(crate) fn without_role(entra: &Entra) -> String {
    token(entra, MARKETING_PORTAL, "Guests.Watch", 0)
}

/// So many that are let in, all different, of one app.
pub(crate) fn different(entra: &Entra, count: usize) -> Vec<String> {
    let numbers = 1..=count;
    numbers
        .map(|number| token(entra, MARKETING_PORTAL, ROLE, number))
        .collect()
}

/// One for each of so many apps.
pub(crate) fn of_apps(entra: &Entra, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| token(entra, &app(number), ROLE, number))
        .collect()
}

/// A request, as HTTP/1.1 has it on the wire, and what it is made of, for HTTP/2.
pub(crate) struct Request {
    pub(crate) http1: Bytes,
    pub(crate) body: Bytes,
    token: String,
    http2: OnceLock<http::Request<()>>,
}

impl Request {
    pub(crate) fn new(token: &str, body: &Bytes) -> Self {
        let length = body.len();
        let mut http1 = format!(
            "POST {TARGET} HTTP/1.1\r\nhost: localhost\r\nuser-agent: load\r\naccept: application/json\r\ncontent-type: application/json\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n"
        )
        .into_bytes();
        http1.extend_from_slice(body);
        Self {
            http1: http1.into(),
            body: body.clone(),
            token: token.to_owned(),
            http2: OnceLock::new(),
        }
    }

    pub(crate) fn http2(&self) -> http::Request<()> {
        self.http2.get_or_init(|| self.make_http2()).clone()
    }

    fn make_http2(&self) -> http::Request<()> {
        http::Request::post(format!("https://localhost{TARGET}"))
            .header("user-agent", "load")
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-length", self.body.len())
            .body(())
            .expect("a request")
    }
}
