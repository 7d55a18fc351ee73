//! Entra's tokens, good and bad, at the gateway's own door: what the caller is told, and what the log
//! holds for whoever has to help.

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use portcullis::demo::mint::{Key, Token, damaged, issuer};
use portcullis::demo::names::{AUDIENCE, CONTOSO, FABRIKAM, MARKETING_PORTAL, STRANGERS};
use portcullis::entra::Version;
use portcullis::ids::PERSONAL_ACCOUNTS;
use serde_json::{Value, json};

use crate::support::{Answer, Call, RawBackend, Scene, Stage};

/// What the caller must be told, and the log hold.
#[derive(Clone)]
struct Told {
    /// Status and reason.
    verdict: &'static str,
    /// The `error` of the challenge: `None` where there must be no challenge, "" for one without.
    error: Option<&'static str>,
    /// Expected and got in the log.
    note: Option<(String, String)>,
}

fn told(verdict: &'static str) -> Told {
    let error = verdict.starts_with("401").then_some("invalid_token");
    Told {
        verdict,
        error,
        note: None,
    }
}

impl Told {
    fn error(mut self, error: &'static str) -> Self {
        self.error = Some(error);
        self
    }

    fn note(mut self, expected: impl Into<String>, got: impl Into<String>) -> Self {
        self.note = Some((expected.into(), got.into()));
        self
    }

    /// Fails unless answer and log hold exactly this.
    fn check(&self, row: &str, stage: &Stage, answer: &Answer) {
        assert_eq!(answer.verdict(), self.verdict, "{row}");
        let challenge = answer.header("www-authenticate");
        match self.error {
            None => assert_eq!(challenge, None, "{row}"),
            Some("") => assert_eq!(challenge, Some(r#"Bearer realm="portcullis""#), "{row}"),
            Some(error) => {
                let title = problem(answer)["title"].as_str().expect("text").to_owned();
                let expected = format!(
                    r#"Bearer realm="portcullis", error="{error}", error_description="{title}""#
                );
                assert_eq!(challenge, Some(expected.as_str()), "{row}");
            }
        }
        let record = stage.record_of(answer);
        let (status, reason) = match self.verdict.split_once(' ') {
            Some((status, reason)) => (status, reason),
            None => (self.verdict, "rule"),
        };
        assert_eq!(record["status"].to_string(), status, "{row}");
        assert_eq!(record["reason"], reason, "{row}");
        let found = |name: &str| record[name].as_str().map(str::to_owned);
        let note = self.note.clone().unzip();
        assert_eq!((found("expected"), found("got")), note, "{row}");
    }
}

fn problem(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).expect("a problem")
}

/// Fails if a part of the token stands in the answer or in the log.
fn stays_secret(row: &str, token: &str, stage: &Stage, answer: &Answer) {
    let said = format!("{:?} {}", answer.headers, answer.text());
    let log = stage.log.lines().join("\n");
    for part in token.split('.').filter(|part| part.len() >= 12) {
        assert!(!said.contains(part), "{row}: the answer holds {part}");
        assert!(!log.contains(part), "{row}: the log holds {part}");
    }
}

/// Everything that the portal may call, on a backend of the test's own.
fn open() -> (RawBackend, Scene) {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let scene = scene
        .raw("raw", &raw)
        .portal_route("all", "GET, POST", "/{*rest}", "raw");
    (raw, scene)
}

/// A token of the portal in either version.
fn portal(stage: &Stage, version: Version) -> Token {
    let now = stage.world.entra.now();
    Token::app(version, CONTOSO, MARKETING_PORTAL, AUDIENCE, now)
}

/// Header and claims as they stand, with the current key's signature.
fn raw_claims(stage: &Stage, claims: &str) -> String {
    let key = stage.world.entra.key();
    let header = json!({ "typ": "JWT", "alg": "RS256", "kid": key.id });
    key.sign(&header, claims).expect("signed")
}

/// The token with another JOSE header, written out; the signature no longer fits.
fn reheaded(token: &str, header: &str) -> String {
    let (_, rest) = token.split_once('.').expect("a token");
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header))
}

type Row = (&'static str, String, Told);

fn headers(stage: &Stage) -> Vec<Row> {
    let entra = &stage.world.entra;
    let sign = |token: Token| entra.sign(&token).expect("signed");
    let v2 = || portal(stage, Version::V2);
    let head = |name: &str, value: Value| sign(v2().header(name, value));
    let good = sign(v2());
    let algorithm = |name: &str| told("401 algorithm-not-allowed").note("RS256", name);
    let unsupported =
        |got: &str| told("401 token-header-not-supported").note("an ordinary JWS header", got);
    vec![
        (
            "not a token",
            "planted-opensesame".into(),
            told("401 token-malformed"),
        ),
        (
            "two parts",
            good.rsplit_once('.').expect("parts").0.into(),
            told("401 token-malformed"),
        ),
        (
            "four parts",
            format!("{good}.x"),
            told("401 token-malformed").note("a signed token of three parts", "more parts"),
        ),
        (
            "five parts",
            format!("{good}.x.x"),
            told("401 token-malformed").note("a signed token of three parts", "more parts"),
        ),
        (
            "no signature",
            format!("{}.", good.rsplit_once('.').expect("parts").0),
            told("401 signature-invalid"),
        ),
        ("padding", format!("{good}=="), told("401 token-malformed")),
        (
            "the alphabet of other base64",
            format!("+/+/.{}", good.split_once('.').expect("parts").1),
            told("401 token-malformed"),
        ),
        ("damaged", damaged(&good), told("401 signature-invalid")),
        ("alg none", head("alg", json!("none")), algorithm("none")),
        (
            "alg None",
            reheaded(&good, r#"{"alg":"None","kid":"x"}"#),
            algorithm("None"),
        ),
        (
            "alg HS256 with the public key",
            head("alg", json!("HS256")),
            algorithm("HS256"),
        ),
        ("alg PS256", head("alg", json!("PS256")), algorithm("PS256")),
        ("alg RS512", head("alg", json!("RS512")), algorithm("RS512")),
        (
            "alg in lower case",
            reheaded(&good, r#"{"alg":"rs256","kid":"x"}"#),
            algorithm("rs256"),
        ),
        (
            "alg missing",
            reheaded(&good, r#"{"kid":"x"}"#),
            told("401 token-malformed"),
        ),
        (
            "alg twice",
            reheaded(&good, r#"{"alg":"none","alg":"RS256","kid":"x"}"#),
            told("401 token-malformed"),
        ),
        (
            "kid twice",
            reheaded(&good, r#"{"alg":"RS256","kid":"x","kid":"y"}"#),
            told("401 token-malformed"),
        ),
        (
            "kid and KID",
            reheaded(&good, r#"{"alg":"RS256","kid":"x","KID":"y"}"#),
            told("401 token-malformed"),
        ),
        (
            "kid missing",
            reheaded(&good, r#"{"alg":"RS256"}"#),
            told("401 token-malformed").note("a key ID (kid)", "none"),
        ),
        (
            "kid as a number",
            head("kid", json!(1)),
            told("401 token-malformed").note("a key ID (kid)", "none"),
        ),
        (
            "kid unknown",
            head("kid", json!("nobodys-key")),
            told("401 key-unknown").note("a key of the issuer", "kid nobodys-key"),
        ),
        (
            "kid that climbs",
            head("kid", json!("../../dev/null")),
            told("401 key-unknown").note("a key of the issuer", "kid ../../dev/null"),
        ),
        (
            "crit",
            head("crit", json!(["exp"])),
            unsupported("a header with `crit`"),
        ),
        (
            "b64",
            head("b64", json!(false)),
            unsupported("a header with `b64`"),
        ),
        (
            "zip",
            head("zip", json!("DEF")),
            unsupported("a header with `zip`"),
        ),
        (
            "enc",
            head("enc", json!("A256GCM")),
            unsupported("a header with `enc`"),
        ),
        (
            "typ pop",
            head("typ", json!("pop")),
            told("401 token-header-not-supported").note("typ JWT", "pop"),
        ),
        ("typ at+jwt", head("typ", json!("at+jwt")), told("200")),
        ("typ in lower case", head("typ", json!("jwt")), told("200")),
        (
            "Graph's nonce",
            sign(portal(stage, Version::V1).header("nonce", "x")),
            told("401 graph-token").note(
                "a token for this API",
                "a token for Microsoft Graph (`nonce` in its header)",
            ),
        ),
    ]
}

fn claims(stage: &Stage) -> Vec<Row> {
    let entra = &stage.world.entra;
    let now = entra.now();
    let sign = |token: Token| entra.sign(&token).expect("signed");
    let v1 = || portal(stage, Version::V1);
    let v2 = || portal(stage, Version::V2);
    let text = Value::Object(v2().claims).to_string();
    let malformed = || told("401 claims-malformed");
    let other = issuer(Version::V2, FABRIKAM);
    let (own_v1, own_v2) = (issuer(Version::V1, CONTOSO), issuer(Version::V2, CONTOSO));
    vec![
        (
            "tid twice",
            raw_claims(
                stage,
                &text.replacen('{', &format!(r#"{{"tid":"{FABRIKAM}","#), 1),
            ),
            malformed(),
        ),
        (
            "aud twice, once escaped",
            raw_claims(stage, &text.replacen('{', r#"{"\u0061ud":"x","#, 1)),
            malformed(),
        ),
        (
            "tid and TID",
            sign(v2().claim("TID", FABRIKAM)),
            malformed(),
        ),
        (
            "a name twice further in",
            raw_claims(stage, &text.replacen('{', r#"{"x":{"a":1,"a":2},"#, 1)),
            malformed(),
        ),
        (
            "claims that are a list",
            raw_claims(stage, "[1]"),
            malformed(),
        ),
        (
            "claims that are not JSON",
            raw_claims(stage, "{x}"),
            malformed(),
        ),
        (
            "201 claims",
            sign((0..201).fold(v2(), |token, n| token.claim(&format!("c{n}"), n))),
            malformed(),
        ),
        (
            "no tid",
            sign(v2().without("tid")),
            malformed().note("`tid`", "none"),
        ),
        (
            "no iss",
            sign(v2().without("iss")),
            malformed().note("`iss`", "none"),
        ),
        (
            "no ver",
            sign(v2().without("ver")),
            malformed().note("`ver`", "none"),
        ),
        (
            "ver 3.0",
            sign(v2().claim("ver", "3.0")),
            malformed().note("`ver` 1.0 or 2.0", "3.0"),
        ),
        (
            "tid as a name",
            sign(v2().claim("tid", "contoso.com")),
            malformed().note("`tid` as a GUID", "another form"),
        ),
        (
            "no exp",
            sign(v2().without("exp")),
            malformed().note("`exp`", "none"),
        ),
        (
            "exp as text",
            sign(v2().claim("exp", "9999999999")),
            malformed().note("`exp` in whole seconds", "another form"),
        ),
        (
            "exp below zero",
            sign(v2().claim("exp", -1)),
            malformed().note("`exp` in whole seconds", "another form"),
        ),
        (
            "nbf as a fraction",
            sign(v2().claim("nbf", 1.5)),
            malformed().note("`nbf` in whole seconds", "another form"),
        ),
        (
            "no aud",
            sign(v2().without("aud")),
            malformed().note("`aud` as text", "none"),
        ),
        (
            "aud as a list",
            sign(v2().claim("aud", json!([AUDIENCE]))),
            malformed().note("`aud` as text", "another form"),
        ),
        (
            "roles as text",
            sign(v2().claim("roles", "Guests.Invite")),
            malformed().note("`roles` as a list of text", "another form"),
        ),
        (
            "a tenant that nobody names",
            sign(
                v2().claim("tid", STRANGERS)
                    .claim("iss", issuer(Version::V2, STRANGERS)),
            ),
            told("401 issuer-not-trusted").note(
                "a tenant that the policy names",
                format!("tenant {STRANGERS} ({})", issuer(Version::V2, STRANGERS)),
            ),
        ),
        (
            "another tenant's issuer",
            sign(v2().claim("iss", other.as_str())),
            told("401 issuer-mismatch").note(&own_v2, &other),
        ),
        (
            "the issuer with a slash more",
            sign(v2().claim("iss", format!("{own_v2}/"))),
            told("401 issuer-mismatch").note(&own_v2, format!("{own_v2}/")),
        ),
        (
            "the issuer by plain http",
            sign(v2().claim("iss", own_v2.replace("https", "http"))),
            told("401 issuer-mismatch").note(&own_v2, own_v2.replace("https", "http")),
        ),
        (
            "ver 2.0 with the v1 issuer",
            sign(v2().claim("iss", own_v1.as_str())),
            told("401 token-version-mismatch").note(&own_v2, &own_v1),
        ),
        (
            "ver 1.0 with the v2 issuer",
            sign(v1().claim("iss", own_v2.as_str())),
            told("401 token-version-mismatch").note(&own_v1, &own_v2),
        ),
        (
            "a personal account",
            entra.sign_personal(&v2().personal()).expect("signed"),
            told("401 personal-account").note(
                "a tenant that the policy names",
                format!("tenant {PERSONAL_ACCOUNTS}"),
            ),
        ),
        (
            "another API",
            sign(v2().claim("aud", "api://other")),
            told("401 audience-mismatch").note(AUDIENCE, "api://other"),
        ),
        (
            "the audience and more",
            sign(v2().claim("aud", format!("{AUDIENCE}/x"))),
            told("401 audience-mismatch").note(AUDIENCE, format!("{AUDIENCE}/x")),
        ),
        (
            "the audience with a slash",
            sign(v2().claim("aud", format!("{AUDIENCE}/"))),
            told("401 audience-form").note(AUDIENCE, format!("{AUDIENCE}/")),
        ),
        (
            "the audience in capitals",
            sign(v2().claim("aud", "api://Contoso-Gateway")),
            told("401 audience-form").note(AUDIENCE, "api://Contoso-Gateway"),
        ),
        (
            "a GUID for the App ID URI",
            sign(v2().claim("aud", MARKETING_PORTAL)),
            told("401 audience-form").note(AUDIENCE, MARKETING_PORTAL),
        ),
        (
            "Graph's audience",
            sign(v1().claim("aud", "https://graph.microsoft.com")),
            told("401 graph-token").note(AUDIENCE, "https://graph.microsoft.com"),
        ),
        (
            "Graph's app",
            sign(v1().claim("aud", "00000003-0000-0000-c000-000000000000")),
            told("401 graph-token").note(AUDIENCE, "00000003-0000-0000-c000-000000000000"),
        ),
        (
            "expired",
            sign(v2().claim("exp", now - 60)),
            told("401 token-expired").note("a token that has not expired", "expired 60 s ago"),
        ),
        (
            "expired within the skew",
            sign(v2().claim("exp", now - 59)),
            told("200"),
        ),
        (
            "not yet valid",
            sign(v2().claim("nbf", now + 61)),
            told("401 token-not-yet-valid").note("a token that is valid now", "valid in 61 s"),
        ),
        (
            "valid soon, within the skew",
            sign(v2().claim("nbf", now + 60)),
            told("200"),
        ),
        (
            "azp in v1",
            sign(v1().without("appid").claim("azp", MARKETING_PORTAL)),
            told("401 app-claim-form").note("`appid` in a v1 token", "`azp`"),
        ),
        (
            "appid in v2",
            sign(v2().without("azp").claim("appid", MARKETING_PORTAL)),
            told("401 app-claim-form").note("`azp` in a v2 token", "`appid`"),
        ),
        (
            "azp and another appid",
            sign(v2().claim("appid", STRANGERS)),
            told("401 app-claim-form").note("`azp` in a v2 token", "`appid`"),
        ),
        (
            "an ID token",
            sign(v2().without("azp").without("idtyp")),
            told("401 id-token").note("an access token, with `azp`", "a token that names no app"),
        ),
        (
            "an ID token, by its nonce",
            sign(v2().claim("nonce", "planted")),
            told("401 id-token").note("an access token", "an ID token"),
        ),
        (
            "an ID token, by its c_hash",
            sign(v2().claim("c_hash", "x")),
            told("401 id-token").note("an access token", "an ID token"),
        ),
        (
            "bound to a key",
            sign(v2().claim("cnf", json!({ "kid": "x" }))),
            told("401 token-bound").note("a bearer token", "a token with `cnf`"),
        ),
        ("v1", sign(v1()), told("200")),
        ("v2", sign(v2()), told("200")),
    ]
}

#[test]
fn every_defect_of_a_token_is_told_by_its_own_reason_and_the_token_stays_secret() {
    let (raw, scene) = open();
    let stage = scene.start();
    let mut rows = headers(&stage);
    rows.extend(claims(&stage));
    let mut allowed = 0;
    for (row, token, told) in &rows {
        for call in [stage.call("GET", "/a"), stage.call("GET", "/a").http2()] {
            let answer = call.bearer(token).send();
            told.check(row, &stage, &answer);
            allowed += usize::from(told.verdict == "200");
        }
    }
    assert_eq!(
        raw.seen().requests.len(),
        allowed,
        "nothing else was forwarded"
    );
    for (row, token, _) in &rows {
        let answer = stage.call("GET", "/a").bearer(token).send();
        stays_secret(row, token, &stage, &answer);
    }
}

#[test]
fn a_key_that_a_token_brings_along_proves_nothing_and_is_not_fetched() {
    let scene = Scene::new();
    let raw = RawBackend::ok(&scene, "fine");
    let attackers = RawBackend::ok(&scene, "{}");
    let stage = scene
        .raw("raw", &raw)
        .portal_route("all", "GET", "/{*rest}", "raw")
        .start();
    let attacker = Key::new().expect("a key");
    let url = format!("{}/keys", attackers.url());
    let real = stage.world.entra.key().id.clone();
    for (name, value) in [
        ("jwk", attacker.jwk(None)),
        ("jku", json!(url)),
        ("x5u", json!(url)),
        (
            "x5c",
            json!([base64::engine::general_purpose::STANDARD.encode("a certificate")]),
        ),
    ] {
        for (kid, verdict) in [
            (&real, "401 signature-invalid"),
            (&attacker.id, "401 key-unknown"),
        ] {
            let token = portal(&stage, Version::V2).header(name, value.clone());
            let token = token.header("kid", kid.as_str()).signed_by(&attacker);
            let token = token.expect("signed");
            let answer = stage.call("GET", "/a").bearer(&token).send();
            assert_eq!(answer.verdict(), verdict, "{name}, kid {kid}");
            stays_secret(name, &token, &stage, &answer);
        }
        // Beside a good signature it is not read either.
        let token = portal(&stage, Version::V2).header(name, value.clone());
        let token = stage.world.entra.sign(&token).expect("signed");
        let answer = stage.call("GET", "/a").bearer(&token).send();
        assert_eq!(answer.verdict(), "200", "{name}");
    }
    assert_eq!(
        attackers.seen().connections,
        0,
        "nobody went where the token pointed"
    );
    assert_eq!(raw.seen().requests.len(), 4);
}

#[test]
fn authorization_is_read_in_one_way_alone() {
    let (raw, scene) = open();
    let stage = scene.start();
    let token = stage.portal_token();
    let field = |value: String| stage.call("GET", "/a").header("authorization", &value);
    let bare = |verdict: &'static str| told(verdict).error("");
    let twice = told("400 authorization-ambiguous").error("invalid_request");
    let rows: Vec<(&str, Call<'_>, Told)> = vec![
        ("none", stage.call("GET", "/a"), bare("401 token-missing")),
        (
            "nothing in it",
            field(String::new()),
            bare("401 token-missing"),
        ),
        ("Bearer", field(format!("Bearer {token}")), told("200")),
        ("bearer", field(format!("bearer {token}")), told("200")),
        ("BEARER", field(format!("BEARER   {token}")), told("200")),
        (
            "Basic",
            field("Basic cGxhbnRlZC11c2VyOng=".to_owned()),
            bare("401 scheme-not-supported"),
        ),
        (
            "no scheme",
            field(token.clone()),
            bare("401 scheme-not-supported"),
        ),
        (
            "DPoP",
            field(format!("DPoP {token}")),
            bare("401 scheme-not-supported"),
        ),
        (
            "no token",
            field("Bearer".to_owned()),
            told("401 token-malformed"),
        ),
        (
            "two tokens in one",
            field(format!("Bearer {token}, Bearer {token}")),
            told("401 token-malformed"),
        ),
        (
            "two fields",
            field(format!("Bearer {token}")).bearer(&token),
            twice.clone(),
        ),
        (
            "two fields, one Basic",
            field("Basic eDp5".to_owned()).bearer(&token),
            twice.clone(),
        ),
        (
            "two fields over HTTP/2",
            field("Basic eDp5".to_owned()).bearer(&token).http2(),
            twice,
        ),
        (
            "in the query",
            stage.call("GET", &format!("/a?access_token={token}&x=1")),
            bare("401 token-missing"),
        ),
        (
            "in a form",
            stage
                .call("POST", "/a")
                .header("content-type", "application/x-www-form-urlencoded")
                .body(format!("access_token={token}")),
            bare("401 token-missing"),
        ),
        (
            "in X-Authorization and a cookie",
            stage
                .call("GET", "/a")
                .header("x-authorization", &format!("Bearer {token}"))
                .header("cookie", &format!("AppServiceAuthSession={token}")),
            bare("401 token-missing"),
        ),
    ];
    for (row, call, told) in rows {
        let answer = call.send();
        told.check(row, &stage, &answer);
        stays_secret(row, &token, &stage, &answer);
    }
    assert_eq!(raw.seen().requests.len(), 3, "the three schemes");

    // Beside a good token, the one in the query is stripped.
    let target = format!("/a?x=1&access_token={token}&Access%5FToken={token}");
    let answer = stage.call("GET", &target).bearer(&token).send();
    assert_eq!(answer.verdict(), "200");
    let request = raw.seen().requests.last().expect("forwarded").clone();
    assert!(request.starts_with("GET /a?x=1 HTTP/1.1\r\n"), "{request}");
    assert!(!request.contains(&token), "{request}");
    stays_secret("in the query", &token, &stage, &answer);
    assert_eq!(
        stage.record_of(&answer)["keysStripped"],
        json!(["access_token"])
    );
}

#[test]
fn a_token_or_its_header_that_is_too_large_is_refused_before_it_is_read() {
    let (_raw, scene) = open();
    let stage = scene.start();
    let entra = &stage.world.entra;
    let large = entra.sign(&portal(&stage, Version::V2).claim("x", "x".repeat(16_000)));
    let large = large.expect("signed");
    let answer = stage.call("GET", "/a").bearer(&large).send();
    told("400 token-too-large")
        .error("invalid_request")
        .note("at most 16384 bytes", format!("{} bytes", large.len()))
        .check("a large token", &stage, &answer);
    stays_secret("a large token", &large, &stage, &answer);
    let head = entra.sign(&portal(&stage, Version::V2).header("x5t", "x".repeat(6_200)));
    let head = head.expect("signed");
    let answer = stage.call("GET", "/a").bearer(&head).send();
    let length = head.split('.').next().expect("a header").len();
    told("400 token-too-large")
        .error("invalid_request")
        .note("a header of at most 8192 bytes", format!("{length} bytes"))
        .check("a large header", &stage, &answer);
}

#[test]
fn the_borders_of_the_skew_are_exact_for_a_cached_token_too() {
    let (_raw, mut scene) = open();
    scene.entra = "  clockSkew: 90s".to_owned();
    let stage = scene.start();
    let now = stage.world.entra.now();
    let early = portal(&stage, Version::V2).claim("nbf", now + 100);
    let early = early.claim("exp", now + 200);
    let token = stage.world.entra.sign(&early).expect("signed");
    let ask = || stage.call("GET", "/a").bearer(&token).send().verdict();
    for (seconds, verdict) in [
        (0, "401 token-not-yet-valid"),
        (9, "401 token-not-yet-valid"),
        (10, "200"),
        (100, "200"),
        (289, "200"),
        (290, "401 token-expired"),
        (4000, "401 token-expired"),
    ] {
        let passed = stage.world.entra.now() - now;
        stage.clock.advance(Duration::from_secs(seconds - passed));
        assert_eq!(ask(), verdict, "after {seconds} s");
    }
}

#[test]
fn what_the_configuration_names_is_accepted_and_nothing_beside_it() {
    let (_raw, mut scene) = open();
    scene.entra = "  algorithms: [RS256, PS256]\n  tokenVersions: [v2]".to_owned();
    let guid = "99999999-9999-9999-9999-999999999999";
    scene.audiences = format!("{AUDIENCE}, {guid}, 'api://{guid}'");
    let stage = scene.start();
    let audiences = format!("{AUDIENCE}, {guid}, api://{guid}");
    let v2 = || portal(&stage, Version::V2);
    let rows = [
        ("RS256", v2(), told("200")),
        ("PS256", v2().header("alg", "PS256"), told("200")),
        (
            "RS512",
            v2().header("alg", "RS512"),
            told("401 algorithm-not-allowed").note("RS256, PS256", "RS512"),
        ),
        (
            "v1",
            portal(&stage, Version::V1),
            told("401 token-version-not-accepted").note("a v2 token", "a v1 token"),
        ),
        ("the GUID", v2().claim("aud", guid), told("200")),
        (
            "the GUID's App ID URI",
            v2().claim("aud", format!("api://{guid}")),
            told("200"),
        ),
        (
            "the GUID in braces",
            v2().claim("aud", format!("{{{guid}}}")),
            told("401 audience-mismatch").note(&audiences, format!("{{{guid}}}")),
        ),
    ];
    for (row, token, told) in rows {
        let token = stage.world.entra.sign(&token).expect("signed");
        let answer = stage.call("GET", "/a").bearer(&token).send();
        told.check(row, &stage, &answer);
    }
    // A PS256 signature under the name of RS256, and the other way round.
    for (signed, named) in [("PS256", "RS256"), ("RS256", "PS256")] {
        let token = stage
            .world
            .entra
            .sign(&v2().header("alg", signed))
            .expect("signed");
        let kid = &stage.world.entra.key().id;
        let header = json!({ "alg": named, "kid": kid }).to_string();
        let answer = stage
            .call("GET", "/a")
            .bearer(&reheaded(&token, &header))
            .send();
        assert_eq!(
            answer.verdict(),
            "401 signature-invalid",
            "{signed} as {named}"
        );
    }
}

/// The mint of the demo is what every test trusts, so another library has a say about it.
#[test]
fn the_tokens_of_the_demo_verify_by_another_library_too() {
    let key = Key::new().expect("a key");
    let jwk = key.jwk(None);
    let part = |name: &str| jwk[name].as_str().expect("text").to_owned();
    let decoding = DecodingKey::from_rsa_components(&part("n"), &part("e")).expect("a key");
    let decode = |algorithm, token: &str| {
        let mut validation = Validation::new(algorithm);
        validation.validate_exp = false;
        validation.required_spec_claims = HashSet::new();
        validation.set_audience(&[AUDIENCE]);
        jsonwebtoken::decode::<Value>(token, &decoding, &validation)
    };
    for (name, algorithm) in [
        ("RS256", Algorithm::RS256),
        ("RS512", Algorithm::RS512),
        ("PS256", Algorithm::PS256),
    ] {
        for version in Version::ALL {
            let token = Token::app(version, CONTOSO, MARKETING_PORTAL, AUDIENCE, 1_700_000_000);
            let token = token.header("alg", name);
            let signed = token.signed_by(&key).expect("signed");
            let decoded = decode(algorithm, &signed).expect("a good token");
            assert_eq!(decoded.claims, Value::Object(token.claims), "{name}");
            assert_eq!(
                decoded.header.kid.as_deref(),
                Some(key.id.as_str()),
                "{name}"
            );
            assert!(decode(algorithm, &damaged(&signed)).is_err(), "{name}");
        }
    }
    let none =
        Token::app(Version::V2, CONTOSO, MARKETING_PORTAL, AUDIENCE, 0).header("alg", "none");
    let none = none.signed_by(&key).expect("made");
    assert!(decode(Algorithm::RS256, &none).is_err());
}
