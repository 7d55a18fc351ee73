//! How an application proves to Entra that it is the one it says: by a secret, or by an assertion
//! (RFC 7523) that a Kubernetes cluster or the application's own certificate stands behind.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use super::issued::Issued;
use super::lock;
use super::mint::{Key, sha256};
use super::serve::parameter;
use crate::ids::random_u128;

/// What a token that is to be exchanged is meant for.
pub const EXCHANGE_AUDIENCE: &str = "api://AzureADTokenExchange";

/// The one type of assertion that Entra takes.
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// An assertion may be good for no longer than this, in seconds.
const LONGEST: u64 = 600;

/// A refusal of the token endpoint: Entra's number, OAuth's word, and a sentence.
pub(super) struct Refusal(pub(super) u32, pub(super) &'static str, pub(super) String);

fn refusal(code: u32, error: &'static str, why: &str) -> Refusal {
    Refusal(code, error, why.to_owned())
}

fn invalid(code: u32, why: &str) -> Refusal {
    refusal(code, "invalid_client", why)
}

/// Who is trusted to speak for an application.
pub(super) struct Proofs {
    cluster: Key,
    federated: Mutex<HashMap<String, Federated>>,
    apps: Mutex<HashSet<String>>,
    certificates: Mutex<HashMap<String, Vec<Vec<u8>>>>,
}

/// A service account token.
struct Federated {
    expires: u64,
    revoked: bool,
}

/// What is asked, and where and when.
pub(super) struct Attempt<'a> {
    pub(super) app: &'a str,
    /// The secret that the app was registered with; empty for none.
    pub(super) secret: &'a str,
    pub(super) form: &'a [(String, String)],
    /// The URL of the token endpoint, as it was called.
    pub(super) called: &'a str,
    /// Seconds since the Unix epoch.
    pub(super) now: u64,
}

impl Attempt<'_> {
    fn field(&self, name: &str) -> String {
        parameter(self.form, name).unwrap_or_default()
    }
}

impl Proofs {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            cluster: Key::new()?,
            federated: Mutex::default(),
            apps: Mutex::default(),
            certificates: Mutex::default(),
        })
    }

    /// A service account token, as a cluster writes it into a pod.
    pub(super) fn federated_token(&self, now: u64) -> io::Result<String> {
        let (issuer, account) = (
            "https://cluster.example",
            "system:serviceaccount:demo:gateway",
        );
        let expires = now + 3600;
        let claims = json!({
            "aud": [EXCHANGE_AUDIENCE],
            "exp": expires,
            "iat": now,
            "iss": issuer,
            "jti": format!("{:032x}", random_u128()),
            "nbf": now,
            "sub": account,
        });
        let header = json!({ "alg": "RS256", "kid": self.cluster.id });
        let token = self.cluster.sign(&header, &claims.to_string())?;
        let federated = Federated {
            expires,
            revoked: false,
        };
        lock(&self.federated).insert(token.clone(), federated);
        Ok(token)
    }

    pub(super) fn federated_tokens(&self) -> Vec<String> {
        lock(&self.federated).keys().cloned().collect()
    }

    pub(super) fn revoke_federated(&self, token: &str) {
        if let Some(federated) = lock(&self.federated).get_mut(token) {
            federated.revoked = true;
        }
    }

    pub(super) fn federate(&self, app: &str) {
        lock(&self.apps).insert(app.to_owned());
    }

    pub(super) fn trust_certificate(&self, app: &str, der: &[u8]) {
        let mut certificates = lock(&self.certificates);
        let trusted = certificates.entry(app.to_owned()).or_default();
        trusted.push(der.to_vec());
    }

    pub(super) fn distrust_certificates(&self, app: &str) {
        lock(&self.certificates).remove(app);
    }

    /// Whether the app is the one that it says.
    pub(super) fn check(&self, attempt: &Attempt<'_>, issued: &Issued) -> Result<(), Refusal> {
        let (secret, assertion) = (
            attempt.field("client_secret"),
            attempt.field("client_assertion"),
        );
        match (secret.is_empty(), assertion.is_empty()) {
            // RFC 6749 section 2.3: no more than one way in a request.
            (false, false) => Err(refusal(
                90_023,
                "invalid_request",
                "The request has more than one client credential.",
            )),
            (false, true) if secret == attempt.secret => Ok(()),
            (false, true) => Err(invalid(7_000_215, "Invalid client secret provided.")),
            (true, true) => Err(invalid(
                7_000_218,
                "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
            )),
            (true, false) => self.assertion(attempt, &assertion, issued),
        }
    }

    fn assertion(
        &self,
        attempt: &Attempt<'_>,
        assertion: &str,
        issued: &Issued,
    ) -> Result<(), Refusal> {
        if attempt.field("client_assertion_type") != ASSERTION_TYPE {
            return Err(refusal(
                900_144,
                "invalid_request",
                "The request body must contain the following parameter: 'client_assertion_type'.",
            ));
        }
        let federated = lock(&self.federated)
            .get(assertion)
            .map(|known| !known.revoked && attempt.now < known.expires);
        // A managed identity may stand behind an app as well as a cluster may.
        let identity = issued.resource(assertion).as_deref() == Some(EXCHANGE_AUDIENCE);
        match federated {
            Some(false) => Err(invalid(
                700_024,
                "Client assertion is not within its valid time range.",
            )),
            Some(true) => self.may_exchange(attempt.app),
            None if identity => self.may_exchange(attempt.app),
            None => self.signed_by_certificate(attempt, assertion),
        }
    }

    fn may_exchange(&self, app: &str) -> Result<(), Refusal> {
        match lock(&self.apps).contains(app) {
            true => Ok(()),
            false => Err(invalid(
                700_213,
                "No matching federated identity record found for presented assertion.",
            )),
        }
    }

    /// PS256 by an RSA key whose certificate the app is registered with, named by its SHA-256.
    fn signed_by_certificate(&self, attempt: &Attempt<'_>, assertion: &str) -> Result<(), Refusal> {
        let parts = Parts::of(assertion).ok_or_else(|| {
            refusal(
                50_027,
                "invalid_request",
                "JWT token is invalid or malformed.",
            )
        })?;
        let trusted = lock(&self.certificates)
            .get(attempt.app)
            .cloned()
            .unwrap_or_default();
        let named = parts.header.get("x5t#S256").and_then(Value::as_str);
        let named = trusted
            .iter()
            .find(|der| named == Some(thumbprint(der).as_str()));
        let Some(der) = named else {
            return Err(invalid(
                700_027,
                "The certificate with identifier used to sign the client assertion is not registered on application.",
            ));
        };
        let algorithm = parts.header.get("alg").and_then(Value::as_str);
        if algorithm != Some("PS256") || !parts.signed_by(der) {
            return Err(invalid(
                700_027,
                "Client assertion failed signature validation.",
            ));
        }
        claims_hold(attempt, &parts.claims)
    }
}

/// `x5t#S256` (RFC 7515 section 4.1.8) of a certificate.
pub fn thumbprint(der: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(sha256(der))
}

/// A JWT taken apart.
struct Parts<'a> {
    header: Value,
    claims: Value,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        Some(Self {
            header: serde_json::from_slice(&decoded(header)?).ok()?,
            claims: serde_json::from_slice(&decoded(claims)?).ok()?,
            signed,
            signature: decoded(signature)?,
        })
    }

    fn signed_by(&self, certificate: &[u8]) -> bool {
        let der = CertificateDer::from(certificate);
        let Ok(certificate) = webpki::EndEntityCert::try_from(&der) else {
            return false;
        };
        let algorithm = webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA256_LEGACY_KEY;
        let signed = self.signed.as_bytes();
        certificate
            .verify_signature(algorithm, signed, &self.signature)
            .is_ok()
    }
}

fn claims_hold(attempt: &Attempt<'_>, claims: &Value) -> Result<(), Refusal> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let time = |name: &str| claims.get(name).and_then(Value::as_u64);
    if text("aud") != attempt.called {
        return Err(invalid(
            700_023,
            "Client assertion audience claim does not match Realm issuer.",
        ));
    }
    if text("iss") != attempt.app || text("sub") != attempt.app {
        return Err(invalid(
            700_021,
            "Client assertion application identifier doesn't match 'client_id' parameter.",
        ));
    }
    if text("jti").is_empty() {
        return Err(invalid(50_027, "Client assertion has no 'jti' claim."));
    }
    let (Some(from), Some(to)) = (time("nbf"), time("exp")) else {
        return Err(invalid(50_027, "Client assertion has no time range."));
    };
    let now = attempt.now;
    if now < from || to <= now || to - from > LONGEST {
        return Err(invalid(
            700_024,
            "Client assertion is not within its valid time range.",
        ));
    }
    Ok(())
}
