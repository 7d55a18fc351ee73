//! The story of the audit, told by requests: what closes each of its findings, and what happens to
//! those who try anyway.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::request::Builder;
use http::{Request, Response, StatusCode, header};
use serde_json::Value;

use super::backend::{FUNCTION_KEY, SAS_SIGNATURE, Seen, sas_query};
use super::mint::{Token, damaged};
use super::names::{AUDIENCE, CONTOSO, FABRIKAM, MARKETING_PORTAL, NIGHTLY_BATCH, STRANGERS};
use super::world::World;
use super::{fault, table};
use crate::clock::pause;
use crate::denial::Reason;
use crate::entra::Version;
use crate::net::client::{Bounds, Client};

/// One request of the story.
pub struct Row {
    /// What was sent.
    pub sent: &'static str,
    /// What was expected: a status and a reason.
    pub expected: String,
    /// What came.
    pub came: String,
    /// What the backend saw.
    pub saw: String,
    /// Whether all of it is as it should be.
    pub good: bool,
}

/// What should come.
#[derive(Clone, Copy)]
enum Expect {
    /// 200, and a backend that saw a managed identity and no key.
    Allowed,
    /// The same with 202, and a sealed link to what goes on.
    Begun,
    /// 200, and a backend that saw the signature that was sealed, and no token.
    Followed,
    /// 200, and a backend that saw the function key of the gateway's.
    Keyed,
    /// This refusal, and a backend that saw nothing.
    Refused(Reason),
}

/// Tells the story to a gateway.
pub struct Story<'w> {
    world: &'w World,
    client: Client,
    base: String,
    rows: Vec<Row>,
}

const BOUNDS: Bounds = Bounds {
    timeout: Duration::from_secs(10),
    max_body: 1024 * 1024,
};

/// A value of `x-ms-client-principal` that a caller would like the backend to believe.
const FORGED: &str = "eyJhdXRoX3R5cCI6ImFhZCIsImNsYWltcyI6W119";
/// A function key that a caller has found somewhere.
const FOUND_KEY: &str = "planted-function-key-77c1";

impl<'w> Story<'w> {
    /// A story for the gateway at `base` (`https://host:port`).
    pub fn new(world: &'w World, client: Client, base: String) -> Self {
        Self {
            world,
            client,
            base,
            rows: Vec::new(),
        }
    }

    /// Tells all of it.
    ///
    /// # Errors
    /// When the demo itself fails. A row that is not as expected is no error here.
    pub async fn tell(mut self) -> io::Result<Vec<Row>> {
        self.links().await?;
        self.tokens_of_the_right_caller().await?;
        self.wrong_callers().await?;
        self.broken_tokens().await?;
        self.planted_headers().await?;
        self.keys_that_stay_behind().await?;
        self.rotation().await?;
        self.rate_limit().await?;
        Ok(self.rows)
    }

    async fn links(&mut self) -> io::Result<()> {
        let link = format!("/invitations?{}", sas_query());
        let bare = self.invite(&link).body(invitation()).map_err(fault)?;
        self.ask(
            "the bare SAS link",
            bare,
            Expect::Refused(Reason::TokenMissing),
        )
        .await?;
        let token = self.world.entra.sign(&self.portal(Version::V2))?;
        let request = self.with_token(&link, &token)?;
        self.ask("the SAS link with a good token", request, Expect::Allowed)
            .await?;
        let coded = self.with_token("/invitations?code=0123&x=1", &token)?;
        self.ask(
            "`code` in the query, with a good token",
            coded,
            Expect::Allowed,
        )
        .await?;
        Ok(())
    }

    async fn tokens_of_the_right_caller(&mut self) -> io::Result<()> {
        for (sent, version) in [
            ("a v1 token of the right tenant and app", Version::V1),
            ("a v2 token of the right tenant and app", Version::V2),
        ] {
            self.invite_with(sent, self.portal(version), Expect::Allowed)
                .await?;
        }
        Ok(())
    }

    async fn wrong_callers(&mut self) -> io::Result<()> {
        let now = self.world.entra.now();
        let app = |tenant, app| {
            Token::app(Version::V2, tenant, app, AUDIENCE, now).roles(&["Guests.Invite"])
        };
        for (sent, token, reason) in [
            (
                "a token of another app",
                app(CONTOSO, NIGHTLY_BATCH),
                Reason::AppNotAllowed,
            ),
            (
                "a token of another tenant that the policy names",
                app(FABRIKAM, MARKETING_PORTAL),
                Reason::TenantNotAllowed,
            ),
            (
                "a token of a tenant that nobody names",
                app(STRANGERS, MARKETING_PORTAL),
                Reason::IssuerNotTrusted,
            ),
            (
                "a token without the role",
                self.portal(Version::V2).without("roles"),
                Reason::RoleMissing,
            ),
            (
                "a token for another audience",
                self.portal(Version::V2).claim("aud", "api://another"),
                Reason::AudienceMismatch,
            ),
            (
                "a token for Microsoft Graph",
                self.portal(Version::V1).header("nonce", "x"),
                Reason::GraphToken,
            ),
            (
                "an expired token",
                self.portal(Version::V2).claim("exp", now - 120),
                Reason::TokenExpired,
            ),
            (
                "a token that is not yet valid",
                self.portal(Version::V2).claim("nbf", now + 120),
                Reason::TokenNotYetValid,
            ),
        ] {
            self.invite_with(sent, token, Expect::Refused(reason))
                .await?;
        }
        let personal = self
            .world
            .entra
            .sign_personal(&self.portal(Version::V2).personal())?;
        self.invite_text(
            "a token of a personal account",
            &personal,
            Reason::PersonalAccount,
        )
        .await?;
        let posing = self.world.entra.sign_personal(&self.portal(Version::V2))?;
        self.invite_text(
            "the personal accounts' key, posing as the tenant",
            &posing,
            Reason::KeyNotForIssuer,
        )
        .await
    }

    async fn broken_tokens(&mut self) -> io::Result<()> {
        let good = self.world.entra.sign(&self.portal(Version::V2))?;
        let none = self
            .world
            .entra
            .sign(&self.portal(Version::V2).header("alg", "none"))?;
        let symmetric = self
            .world
            .entra
            .sign(&self.portal(Version::V2).header("alg", "HS256"))?;
        for (sent, token, reason) in [
            ("a bad signature", damaged(&good), Reason::SignatureInvalid),
            ("`alg: none`", none, Reason::AlgorithmNotAllowed),
            (
                "HS256, signed with the public key",
                symmetric,
                Reason::AlgorithmNotAllowed,
            ),
            (
                "not a token at all",
                "opensesame".to_owned(),
                Reason::TokenMalformed,
            ),
        ] {
            self.invite_text(sent, &token, reason).await?;
        }
        Ok(())
    }

    async fn planted_headers(&mut self) -> io::Result<()> {
        let token = self.world.entra.sign(&self.portal(Version::V2))?;
        for (sent, name, value) in [
            (
                "`x-ms-client-principal` sent by the caller",
                "X-MS-CLIENT-PRINCIPAL",
                FORGED,
            ),
            (
                "the same, as `x_ms_client_principal`",
                "X_MS_CLIENT_PRINCIPAL",
                FORGED,
            ),
            (
                "`x-functions-key` sent by the caller",
                "x-functions-key",
                FOUND_KEY,
            ),
        ] {
            let mut request = self.with_token("/invitations", &token)?;
            request.headers_mut().insert(
                http::HeaderName::from_bytes(name.as_bytes()).map_err(fault)?,
                http::HeaderValue::from_static(value),
            );
            self.ask(sent, request, Expect::Allowed).await?;
        }
        Ok(())
    }

    /// A run that is polled by a sealed link, and a key that only Key Vault and the gateway know.
    async fn keys_that_stay_behind(&mut self) -> io::Result<()> {
        self.world.logic_app.set_polls(0);
        let token = self.world.entra.sign(&self.portal(Version::V2))?;
        let begin = self.with_token("/approvals", &token)?;
        let sent = "a workflow that goes on, with a good token";
        let begun = self.ask(sent, begin, Expect::Begun).await?;
        let location = begun.headers().get(header::LOCATION);
        let link = location.and_then(|link| link.to_str().ok());
        let link = link.unwrap_or_default().to_owned();
        let get = |link: &str, token: &str| {
            let request = Request::get(link);
            let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            request.body(Bytes::new()).map_err(fault)
        };
        let now = self.world.entra.now();
        let other = Token::app(Version::V2, CONTOSO, NIGHTLY_BATCH, AUDIENCE, now);
        let other = self.world.entra.sign(&other)?;
        let bare = Request::get(&link).body(Bytes::new()).map_err(fault)?;
        let (before, behind) = link.split_at_checked(link.len() / 2).unwrap_or_default();
        let mut behind = behind.chars();
        let other_letter = if behind.next() == Some('A') { 'B' } else { 'A' };
        let changed = format!("{before}{other_letter}{}", behind.as_str());
        let refused = Expect::Refused;
        for (sent, request, expect) in [
            (
                "its sealed link without a token",
                bare,
                refused(Reason::TokenMissing),
            ),
            (
                "its sealed link with another app's token",
                get(&link, &other)?,
                refused(Reason::SealedUrlNotYours),
            ),
            (
                "its sealed link with a letter changed",
                get(&changed, &token)?,
                refused(Reason::SealedUrlInvalid),
            ),
            ("its sealed link", get(&link, &token)?, Expect::Followed),
            (
                "a Function whose key is in Key Vault",
                get(&format!("{}/partners/7", self.base), &token)?,
                Expect::Keyed,
            ),
        ] {
            self.ask(sent, request, expect).await?;
        }
        Ok(())
    }

    async fn rotation(&mut self) -> io::Result<()> {
        let old = self.world.entra.sign(&self.portal(Version::V2))?;
        self.world.entra.rotate()?;
        let new = self.portal(Version::V2);
        self.invite_with(
            "a token of the key that was rotated in while the gateway runs",
            new,
            Expect::Allowed,
        )
        .await?;
        self.invite_text(
            "a token of the key that was withdrawn",
            &old,
            Reason::KeyUnknown,
        )
        .await?;
        let unknown = self.portal(Version::V2).header("kid", "nobodys-key");
        self.invite_with(
            "a token with an unknown key ID",
            unknown,
            Expect::Refused(Reason::KeyUnknown),
        )
        .await
    }

    async fn rate_limit(&mut self) -> io::Result<()> {
        let now = self.world.entra.now();
        let token = Token::app(Version::V2, CONTOSO, NIGHTLY_BATCH, AUDIENCE, now);
        let token = self.world.entra.sign(&token)?;
        let report = |story: &Self| {
            let request = Request::get(format!("{}/reports/guests", story.base));
            request
                .header(header::AUTHORIZATION, format!("Bearer {token}"))
                .body(Bytes::new())
                .map_err(fault)
        };
        for sent in [
            "a report, first of the burst",
            "a report, last of the burst",
        ] {
            self.ask(sent, report(self)?, Expect::Allowed).await?;
        }
        let refused = Expect::Refused(Reason::RateLimited);
        let answer = self
            .ask("a report beyond the rate limit", report(self)?, refused)
            .await?;
        let after = answer
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        pause(Duration::from_secs(after.unwrap_or(0))).await;
        self.ask(
            "the same, after the time that Retry-After named",
            report(self)?,
            Expect::Allowed,
        )
        .await?;
        Ok(())
    }

    /// The app that may invite, as it should be.
    fn portal(&self, version: Version) -> Token {
        let now = self.world.entra.now();
        Token::app(version, CONTOSO, MARKETING_PORTAL, AUDIENCE, now).roles(&["Guests.Invite"])
    }

    fn invite(&self, target: &str) -> Builder {
        Request::post(format!("{}{target}", self.base))
            .header(header::CONTENT_TYPE, "application/json")
    }

    fn with_token(&self, target: &str, token: &str) -> io::Result<Request<Bytes>> {
        let request = self
            .invite(target)
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        request.body(invitation()).map_err(fault)
    }

    async fn invite_with(
        &mut self,
        sent: &'static str,
        token: Token,
        expect: Expect,
    ) -> io::Result<()> {
        let token = self.world.entra.sign(&token)?;
        let request = self.with_token("/invitations", &token)?;
        self.ask(sent, request, expect).await.map(drop)
    }

    async fn invite_text(
        &mut self,
        sent: &'static str,
        token: &str,
        reason: Reason,
    ) -> io::Result<()> {
        let request = self.with_token("/invitations", token)?;
        self.ask(sent, request, Expect::Refused(reason))
            .await
            .map(drop)
    }

    /// Sends a request and writes its row.
    async fn ask(
        &mut self,
        sent: &'static str,
        request: Request<Bytes>,
        expect: Expect,
    ) -> io::Result<Response<Bytes>> {
        let before = self.counts();
        let token = bearer(&request);
        let answer = self.client.send(request, BOUNDS).await.map_err(fault)?;
        let seen = self.seen_since(before);
        let reason = reason(&answer);
        let came = format!("{} {reason}", answer.status().as_u16());
        let (expected, good_answer) = match expect {
            Expect::Allowed | Expect::Followed | Expect::Keyed => {
                ("200 allowed".to_owned(), answer.status() == StatusCode::OK)
            }
            Expect::Begun => ("202 sealed".to_owned(), came == "202 sealed"),
            Expect::Refused(reason) => {
                let expected = format!("{} {reason}", reason.status().as_u16());
                let good = expected == came;
                (expected, good)
            }
        };
        let (saw, good_backend) = match (expect, seen.as_slice()) {
            (Expect::Refused(_), []) => ("nothing".to_owned(), true),
            (Expect::Allowed | Expect::Begun, [one]) => self.judge(one, &token),
            (Expect::Followed, [one]) => followed(one),
            (Expect::Keyed, [one]) => keyed(one),
            (_, several) => (format!("{} requests", several.len()), false),
        };
        self.rows.push(Row {
            sent,
            expected,
            came,
            saw,
            good: good_answer && good_backend,
        });
        Ok(answer)
    }

    /// How many requests the Logic App and the Functions have seen.
    fn counts(&self) -> [usize; 3] {
        self.seen().map(|seen| seen.len())
    }

    fn seen(&self) -> [Vec<Seen>; 3] {
        [
            self.world.logic_app.seen(),
            self.world.function.seen(),
            self.world.keyed_function.seen(),
        ]
    }

    fn seen_since(&self, before: [usize; 3]) -> Vec<Seen> {
        let all = self.seen().into_iter().zip(before);
        all.flat_map(|(seen, before)| seen.into_iter().skip(before))
            .collect()
    }

    /// Whether the backend saw what it should, and none of what it should not.
    fn judge(&self, seen: &Seen, callers_token: &str) -> (String, bool) {
        let mut faults = Vec::new();
        let resource = seen
            .bearer()
            .and_then(|token| self.world.identity.issued().resource(token));
        if resource.is_none() {
            faults.push("no managed identity".to_owned());
        }
        let everything = format!(
            "{} {:?} {}",
            seen.target,
            seen.headers,
            String::from_utf8_lossy(&seen.body)
        );
        for (what, secret) in [
            ("the SAS signature", SAS_SIGNATURE),
            ("the function key", FOUND_KEY),
            ("the forged principal", FORGED),
            ("the caller's token", callers_token),
        ] {
            if everything.contains(secret) {
                faults.push(what.to_owned());
            }
        }
        let query = seen.target.split_once('?').map_or("", |(_, query)| query);
        let parameters = super::serve::parameters(query);
        for name in ["sig", "sp", "sv", "se", "code"] {
            if parameters
                .iter()
                .any(|(known, _)| known.eq_ignore_ascii_case(name))
            {
                faults.push(format!("`{name}` in the query"));
            }
        }
        if !seen.headers.contains_key("x-ms-client-principal") {
            faults.push("no principal".to_owned());
        }
        match faults.is_empty() {
            true => {
                let names: Vec<_> = parameters.iter().map(|(name, _)| name.as_str()).collect();
                let resource = resource.unwrap_or_default();
                (
                    format!(
                        "managed identity for {resource}; query: {}",
                        table::listed(&names)
                    ),
                    true,
                )
            }
            false => (faults.join(", "), false),
        }
    }
}

/// Whether the backend saw the sealed signature alone.
fn followed(seen: &Seen) -> (String, bool) {
    let is_signed = seen.target.contains("sig=");
    let has_token = seen.headers.contains_key(header::AUTHORIZATION);
    let saw = match (is_signed, has_token) {
        (true, false) => "the run's own signature, no token",
        (true, true) => "a signature and a token",
        (false, _) => "no signature",
    };
    (saw.to_owned(), is_signed && !has_token)
}

/// Whether the backend saw its key.
fn keyed(seen: &Seen) -> (String, bool) {
    let key = seen.headers.get("x-functions-key");
    match key.is_some_and(|key| key == FUNCTION_KEY) {
        true => ("the key from Key Vault".to_owned(), true),
        false => ("no key".to_owned(), false),
    }
}

fn invitation() -> Bytes {
    Bytes::from_static(br#"{"email":"guest@example.org"}"#)
}

/// The token of a request, or something that no backend could see.
fn bearer(request: &Request<Bytes>) -> String {
    let value = request.headers().get(header::AUTHORIZATION);
    let value = value.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    value.unwrap_or("no token was sent").to_owned()
}

fn reason(answer: &Response<Bytes>) -> String {
    if answer.status() == StatusCode::OK {
        return "allowed".to_owned();
    }
    let location = answer.headers().get(header::LOCATION);
    if location.is_some_and(|location| {
        location
            .as_bytes()
            .windows(9)
            .any(|part| part == b"/.sealed/")
    }) {
        return "sealed".to_owned();
    }
    let problem: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let reason = problem.get("reason").and_then(Value::as_str);
    reason.unwrap_or("no reason").to_owned()
}
