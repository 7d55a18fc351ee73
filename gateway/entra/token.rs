//! A bearer token taken apart: the compact form, its JOSE header, its claims. Nothing here trusts
//! anything: what comes out has the right shape, and no more than that.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::json::{self, Json, Object};
use crate::canonical::is_token68;
use crate::denial::{Denial, Reason};

/// A signed JWT in compact form (RFC 7515 section 7.1), decoded but not verified.
pub(super) struct Token<'t> {
    pub(super) header: Header,
    pub(super) claims: Object<'t>,
    /// The bytes that the signature covers.
    pub(super) signed: &'t [u8],
    pub(super) signature: Vec<u8>,
}

/// What is read of a JOSE header. `jwk`, `jku`, `x5u` and `x5c` are not: a key that the token brings
/// along proves nothing.
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: String,
}

/// Bytes of the JOSE header, encoded: room for a certificate chain that nobody reads, and no more.
const LONGEST_HEADER: usize = 8 * 1024;

/// More claims than this are not what Entra issues (groups end at 200 by overage).
const MOST_CLAIMS: usize = 200;

impl<'t> Token<'t> {
    /// Takes a token apart. `accepted` are the algorithms that the configuration allows; the claims are
    /// decoded into `room`.
    pub(super) fn parse(
        text: &'t str,
        accepted: &[Algorithm],
        room: &'t mut String,
    ) -> Result<Self, Denial> {
        // What can be taken apart is three parts in base64 and so a token68. Of what cannot, the form is the
        // first fault.
        Self::take_apart(text, accepted, room).map_err(|denial| match is_token68(text) {
            true => denial,
            false => Reason::TokenMalformed.into(),
        })
    }

    fn take_apart(
        text: &'t str,
        accepted: &[Algorithm],
        room: &'t mut String,
    ) -> Result<Self, Denial> {
        let malformed = || Denial::from(Reason::TokenMalformed);
        let (signed, signature) = text.rsplit_once('.').ok_or_else(malformed)?;
        let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
        if claims.contains('.') {
            return Err(malformed().expected("a signed token of three parts", "more parts"));
        }
        if header.len() > LONGEST_HEADER {
            return Err(Denial::from(Reason::TokenTooLarge).expected(
                format!("a header of at most {LONGEST_HEADER} bytes"),
                format!("{} bytes", header.len()),
            ));
        }
        let header = decode(header).ok_or_else(malformed)?;
        let header = json::object(&header).ok_or_else(malformed)?;
        let header = Header::read(&header, accepted)?;
        *room = decode(claims).ok_or(Reason::ClaimsMalformed)?;
        let claims = json::object(room).ok_or(Reason::ClaimsMalformed)?;
        if claims.len() > MOST_CLAIMS {
            return Err(Reason::ClaimsMalformed.into());
        }
        Ok(Self {
            header,
            claims,
            signed: signed.as_bytes(),
            signature: URL_SAFE_NO_PAD.decode(signature).map_err(|_| malformed())?,
        })
    }
}

impl Header {
    fn read(header: &Object<'_>, accepted: &[Algorithm]) -> Result<Self, Denial> {
        // RFC 7515 section 4.1.11: an extension that is not understood must be refused. None is.
        for name in ["crit", "b64", "zip", "enc"] {
            if header.contains(name) {
                return Err(Denial::from(Reason::TokenHeaderNotSupported)
                    .expected("an ordinary JWS header", format!("a header with `{name}`")));
            }
        }
        // Microsoft Graph signs over a hashed nonce, so such a token can never be verified here.
        if header.contains("nonce") {
            return Err(Denial::from(Reason::GraphToken).expected(
                "a token for this API",
                "a token for Microsoft Graph (`nonce` in its header)",
            ));
        }
        if let Some(kind) = header.get("typ") {
            let kind = kind.as_str().unwrap_or_default();
            if !kind.eq_ignore_ascii_case("JWT") && !kind.eq_ignore_ascii_case("at+jwt") {
                return Err(Denial::from(Reason::TokenHeaderNotSupported)
                    .expected("typ JWT", printable(kind)));
            }
        }
        let named = header.get("alg").and_then(Json::as_str);
        let named = named.ok_or(Reason::TokenMalformed)?;
        let algorithm = accepted.iter().find(|accepted| accepted.name() == named);
        let algorithm = *algorithm.ok_or_else(|| {
            let names: Vec<_> = accepted.iter().map(|accepted| accepted.name()).collect();
            Denial::from(Reason::AlgorithmNotAllowed).expected(names.join(", "), printable(named))
        })?;
        let key_id = header.get("kid").and_then(Json::as_str);
        let key_id = key_id.ok_or_else(|| {
            Denial::from(Reason::TokenMalformed).expected("a key ID (kid)", "none")
        })?;
        Ok(Self {
            algorithm,
            key_id: key_id.to_owned(),
        })
    }
}

/// The claims of a token of which nothing was verified, for tools that explain. `accepted` are the
/// algorithms that it may name.
///
/// # Errors
/// As verification would refuse its form.
pub fn unverified_claims(
    token: &str,
    accepted: &[Algorithm],
) -> Result<Map<String, Value>, Denial> {
    Token::parse(token, accepted, &mut String::new()).map(|token| token.claims.to_map())
}

/// Claims that were written out, read as those of a token are: a name that stands twice is a fault.
pub fn claims(text: &str) -> Option<Map<String, Value>> {
    json::object(text).map(|claims| claims.to_map())
}

fn decode(part: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// Text of a token's, for the log: short, and without what could break a line or a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}
