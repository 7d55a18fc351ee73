//! Tokens, as Entra issues them and as it never would.

use std::io;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{self, KeyPair as _, RsaKeyPair};
use aws_lc_rs::{digest, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::fault;
use crate::entra::Version;
use crate::ids::{PERSONAL_ACCOUNTS, random_u128};

/// A signing key of the authority's.
pub struct Key {
    /// Its key ID.
    pub id: String,
    pair: RsaKeyPair,
    public: Vec<u8>,
}

impl Key {
    /// Makes an RSA key of 2048 bits.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> io::Result<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(fault)?;
        let der = pair.as_der().map_err(fault)?;
        let public = pair.public_key().as_der().map_err(fault)?.as_ref().to_vec();
        Ok(Self {
            id: format!("{:032x}", random_u128()),
            pair: RsaKeyPair::from_pkcs8(der.as_ref()).map_err(fault)?,
            public,
        })
    }

    /// A key that was made elsewhere: PKCS #8, DER. Its ID is of no meaning.
    ///
    /// # Errors
    /// When it is no RSA key.
    pub fn from_pkcs8(der: &[u8]) -> io::Result<Self> {
        let pair = RsaKeyPair::from_pkcs8(der).map_err(fault)?;
        Ok(Self {
            id: format!("{:032x}", random_u128()),
            public: pair.public_key().as_ref().to_vec(),
            pair,
        })
    }

    /// The key as a JWKS lists it (RFC 7517), with Entra's `issuer` member if there is one.
    pub fn jwk(&self, issuer: Option<&str>) -> Value {
        let public = self.pair.public_key();
        let mut jwk = json!({
            "kty": "RSA",
            "use": "sig",
            "kid": self.id,
            "x5t": self.id,
            "n": URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero()),
            "e": URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero()),
        });
        if let (Some(issuer), Some(members)) = (issuer, jwk.as_object_mut()) {
            members.insert("issuer".to_owned(), issuer.into());
        }
        jwk
    }

    /// Signs header and claims, both as they stand, by the `alg` that the header names. `none` and
    /// HS256 (with the public key for a secret) are there to be refused.
    ///
    /// # Errors
    /// When the algorithm is not one of these.
    pub fn sign(&self, header: &Value, claims: &str) -> io::Result<String> {
        let header_text = URL_SAFE_NO_PAD.encode(header.to_string());
        let signed = format!("{header_text}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = match header.get("alg").and_then(Value::as_str) {
            Some("none") => Vec::new(),
            Some("HS256") => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, &self.public);
                hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
            }
            Some("RS256") => self.rsa(&signature::RSA_PKCS1_SHA256, &signed)?,
            Some("RS512") => self.rsa(&signature::RSA_PKCS1_SHA512, &signed)?,
            Some("PS256") => self.rsa(&signature::RSA_PSS_SHA256, &signed)?,
            other => return Err(fault(format!("no such algorithm: {other:?}"))),
        };
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn rsa(
        &self,
        encoding: &'static dyn signature::RsaEncoding,
        signed: &str,
    ) -> io::Result<Vec<u8>> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let random = rand::SystemRandom::new();
        let done = self
            .pair
            .sign(encoding, &random, signed.as_bytes(), &mut signature);
        done.map_err(fault)?;
        Ok(signature)
    }
}

/// SHA-256 of some bytes.
pub(super) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

/// The issuer of a tenant's tokens, as Azure names it.
pub fn issuer(version: Version, tenant: &str) -> String {
    match version {
        Version::V1 => format!("https://sts.windows.net/{tenant}/"),
        Version::V2 => format!("https://login.microsoftonline.com/{tenant}/v2.0"),
    }
}

/// What a token says. Begins as an ordinary app-only token; change what a case needs.
#[derive(Clone, Debug)]
pub struct Token {
    /// The JOSE header.
    pub header: Map<String, Value>,
    /// The claims.
    pub claims: Map<String, Value>,
}

impl Token {
    /// An app-only token of a tenant's app, valid from `now` (seconds since the Unix epoch) for an hour.
    pub fn app(version: Version, tenant: &str, app: &str, audience: &str, now: u64) -> Self {
        let mut token = Self {
            header: Map::new(),
            claims: Map::new(),
        };
        token.header.insert("typ".to_owned(), "JWT".into());
        token.header.insert("alg".to_owned(), "RS256".into());
        let (number, app_claim, strength) = match version {
            Version::V1 => ("1.0", "appid", "appidacr"),
            Version::V2 => ("2.0", "azp", "azpacr"),
        };
        for (name, value) in [
            ("aud", json!(audience)),
            ("iss", json!(issuer(version, tenant))),
            ("iat", json!(now)),
            ("nbf", json!(now)),
            ("exp", json!(now + 3600)),
            ("aio", json!("k2RgYJgs0SR8rNOkgTe3")),
            (app_claim, json!(app)),
            (strength, json!("1")),
            ("idtyp", json!("app")),
            ("oid", json!(object_of(app))),
            ("rh", json!("0.AAAA")),
            ("sub", json!(object_of(app))),
            ("tid", json!(tenant)),
            ("uti", json!(format!("{:022x}", random_u128() >> 48))),
            ("ver", json!(number)),
        ] {
            token.claims.insert(name.to_owned(), value);
        }
        token
    }

    /// Sets a claim.
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Leaves a claim out.
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Sets a member of the JOSE header.
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// App roles.
    pub fn roles(self, roles: &[&str]) -> Self {
        self.claim("roles", roles.to_vec())
    }

    /// Makes it a user's token with these scopes, with a space between them.
    pub fn user(self, name: &str, scopes: &str) -> Self {
        self.without("idtyp")
            .claim("scp", scopes)
            .claim("preferred_username", name)
            .claim("name", name)
    }

    /// Makes it a token of a personal account.
    pub fn personal(self) -> Self {
        let tenant = PERSONAL_ACCOUNTS.to_string();
        let issuer = issuer(Version::V2, &tenant);
        self.claim("tid", tenant).claim("iss", issuer)
    }

    /// Signs it with a key, whose ID the header names unless it names one already.
    ///
    /// # Errors
    /// When the header names an algorithm that the demo does not know.
    pub fn signed_by(&self, key: &Key) -> io::Result<String> {
        let mut header = self.header.clone();
        header.entry("kid").or_insert_with(|| key.id.clone().into());
        key.sign(
            &Value::Object(header),
            &Value::Object(self.claims.clone()).to_string(),
        )
    }
}

/// The object ID of an app's service principal: in the demo, the app ID with another beginning.
fn object_of(app: &str) -> String {
    format!("0b1ec7{}", app.get(6..).unwrap_or_default())
}

/// A token with another signature: the right length, the wrong bytes.
pub fn damaged(token: &str) -> String {
    match token.rsplit_once('.') {
        Some((signed, signature)) => {
            let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
            if let Some(first) = bytes.first_mut() {
                *first ^= 1;
            }
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes))
        }
        None => token.to_owned(),
    }
}
