//! Authentication as a whole: real signatures, a scripted source of keys, a clock that is moved.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{self, KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::secret::Secret;
use crate::token::TokenKind;

const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const OTHER_TENANT: &str = "22222222-2222-2222-2222-222222222222";
const APP: &str = "aaaaaaaa-0000-0000-0000-000000000001";
const AUDIENCE: &str = "api://contoso-gateway";

/// Key pairs are slow to make, so all tests share a few.
static KEYS: LazyLock<[KeyPair; 3]> =
    LazyLock::new(|| std::array::from_fn(|_| KeyPair::generate(KeySize::Rsa2048).expect("a key")));

fn issuer(version: Version, tenant: &str) -> String {
    match version {
        Version::V1 => format!("https://sts.windows.net/{tenant}/"),
        Version::V2 => format!("https://login.microsoftonline.com/{tenant}/v2.0"),
    }
}

const TEMPLATE: &str = "https://login.microsoftonline.com/{tenantid}/v2.0";
const PERSONAL: &str =
    "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0";

fn jwk(kid: &str, key: usize, issuer: Option<&str>) -> Value {
    let public = KEYS[key].public_key();
    let mut jwk = json!({
        "kty": "RSA", "use": "sig", "kid": kid,
        "n": URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero()),
        "e": URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero()),
    });
    if let Some(issuer) = issuer {
        jwk["issuer"] = json!(issuer);
    }
    jwk
}

fn sign(header: &Value, claims: &str, key: usize) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let der = KEYS[key].as_der().expect("DER");
    let pair = RsaKeyPair::from_pkcs8(der.as_ref()).expect("a key pair");
    let mut signature = vec![0; pair.public_modulus_len()];
    let random = aws_lc_rs::rand::SystemRandom::new();
    pair.sign(
        &signature::RSA_PKCS1_SHA256,
        &random,
        signed.as_bytes(),
        &mut signature,
    )
    .expect("a signature");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn claims(version: Version, now: &Now) -> Value {
    let mut claims = json!({
        "aud": AUDIENCE,
        "iss": issuer(version, TENANT),
        "iat": now.unix_seconds(), "nbf": now.unix_seconds(), "exp": now.unix_seconds() + 3600,
        "idtyp": "app",
        "oid": "00000000-0000-0000-0000-00000000000a",
        "roles": ["Guests.Invite"],
        "tid": TENANT,
        "uti": "x",
        "ver": match version { Version::V1 => "1.0", Version::V2 => "2.0" },
    });
    claims[version.app_claim()] = json!(APP);
    claims
}

fn header(kid: &str) -> Value {
    json!({ "typ": "JWT", "alg": "RS256", "kid": kid })
}

/// Answers what the test says, and counts.
struct Script {
    answers: Mutex<HashMap<Version, Result<Value, String>>>,
    fetches: AtomicUsize,
    fetched: Notify,
    /// While held, no fetch ends.
    gate: tokio::sync::Mutex<()>,
}

impl KeySource for Script {
    fn fetch(&self, tenant: TenantId, version: Version) -> Fetching<'_> {
        Box::pin(async move {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            self.fetched.notify_waiters();
            drop(self.gate.lock().await);
            let answer = self.answers.lock().unwrap().get(&version).cloned();
            match answer.unwrap_or(Err("no answer".to_owned())) {
                Ok(keys) => Ok(Fetched {
                    issuer: issuer(version, &tenant.to_string()),
                    keys: Bytes::from(keys.to_string()),
                }),
                Err(why) => Err(FetchFailure(why)),
            }
        })
    }
}

struct World {
    entra: Arc<Entra>,
    rules: TokenRules,
    clock: ManualClock,
    script: Arc<Script>,
}

const RHYTHM: Rhythm = Rhythm {
    refresh_every: Duration::from_secs(3600),
    unknown_key_interval: Duration::from_secs(300),
    key_wait: Duration::from_secs(5),
};

impl World {
    fn new(v1: Result<Value, String>, v2: Result<Value, String>) -> Self {
        Self::with_folder(v1, v2, None, ManualClock::at(SystemClock.now()))
    }

    fn with_folder(
        v1: Result<Value, String>,
        v2: Result<Value, String>,
        folder: Option<KeyFolder>,
        clock: ManualClock,
    ) -> Self {
        let script = Arc::new(Script {
            answers: Mutex::new(HashMap::from([(Version::V1, v1), (Version::V2, v2)])),
            fetches: AtomicUsize::new(0),
            fetched: Notify::new(),
            gate: tokio::sync::Mutex::default(),
        });
        let source: Arc<dyn KeySource> = Arc::clone(&script) as _;
        let handle = tokio::runtime::Handle::current();
        let entra = Entra::new(Arc::new(clock.clone()), source, folder, handle, 1000);
        let tenant: TenantId = TENANT.parse().expect("a GUID");
        let rules = TokenRules {
            tenants: [(tenant, entra.tenant(tenant, RHYTHM))]
                .into_iter()
                .collect(),
            claims: ClaimRules {
                audiences: vec![AUDIENCE.into()],
                versions: Version::ALL.to_vec(),
                clock_skew: Duration::from_secs(60),
            },
            algorithms: vec![Algorithm::Rs256],
            longest_token: 16 * 1024,
            kept: Arc::new([]),
        };
        Self {
            entra,
            rules,
            clock,
            script,
        }
    }

    /// Both issuers list the key `one`.
    fn usual() -> Self {
        let keys = |issuer| Ok(json!({ "keys": [jwk("one", 0, issuer)] }));
        Self::new(keys(None), keys(Some(TEMPLATE)))
    }

    fn list(&self, version: Version, answer: Result<Value, String>) {
        self.script.answers.lock().unwrap().insert(version, answer);
    }

    async fn ask(&self, token: &str) -> Result<Arc<Principal>, Reason> {
        let now = self.clock.now();
        let asked = self.entra.authenticate(token, &self.rules, &now).await;
        asked
            .map(|(principal, _)| principal)
            .map_err(|denial| denial.reason())
    }

    /// Lets a minute pass, and the background see it.
    async fn minute(&self) {
        self.clock.advance(Duration::from_secs(60));
        tokio::task::yield_now().await;
    }

    fn token(&self, version: Version) -> String {
        sign(
            &header("one"),
            &claims(version, &self.clock.now()).to_string(),
            0,
        )
    }

    fn fetches(&self) -> usize {
        self.script.fetches.load(Ordering::SeqCst)
    }

    /// Waits until `count` fetches have begun.
    async fn until_fetched(&self, count: usize) {
        loop {
            let fetched = self.script.fetched.notified();
            if self.fetches() >= count {
                return;
            }
            fetched.await;
        }
    }
}

#[tokio::test]
async fn v1_and_v2_tokens_of_the_tenant_prove_their_principal() {
    let world = World::usual();
    for version in Version::ALL {
        let principal = world.ask(&world.token(version)).await.expect("a principal");
        assert_eq!(principal.tenant().to_string(), TENANT);
        assert_eq!(principal.app().to_string(), APP);
        assert_eq!(principal.version(), version);
        assert_eq!(principal.kind(), TokenKind::AppOnly);
        assert!(principal.has_role("Guests.Invite") && !principal.has_role("Guests"));
    }
}

#[tokio::test]
async fn every_defect_of_a_token_has_its_reason() {
    let world = World::usual();
    let now = world.clock.now();
    let v2 = || claims(Version::V2, &now);
    let v1 = || claims(Version::V1, &now);
    let with = |mut claims: Value, name: &str, value: Value| {
        claims[name] = value;
        claims
    };
    let without = |mut claims: Value, name: &str| {
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let good = |claims: Value| sign(&header("one"), &claims.to_string(), 0);
    let head = |name: &str, value: Value| {
        let mut header = header("one");
        header[name] = value;
        sign(&header, &v2().to_string(), 0)
    };
    let seconds = now.unix_seconds();
    let other_issuer = issuer(Version::V2, OTHER_TENANT);
    let cases: Vec<(&str, String, Reason)> = vec![
        ("no token", "x".to_owned(), Reason::TokenMalformed),
        (
            "four parts",
            format!("{}.x", good(v2())),
            Reason::TokenMalformed,
        ),
        (
            "two parts",
            good(v2()).rsplit_once('.').unwrap().0.to_owned(),
            Reason::TokenMalformed,
        ),
        (
            "alg none",
            head("alg", json!("none")),
            Reason::AlgorithmNotAllowed,
        ),
        (
            "alg HS256",
            head("alg", json!("HS256")),
            Reason::AlgorithmNotAllowed,
        ),
        (
            "alg RS512",
            head("alg", json!("RS512")),
            Reason::AlgorithmNotAllowed,
        ),
        (
            "alg in another case",
            head("alg", json!("rs256")),
            Reason::AlgorithmNotAllowed,
        ),
        (
            "alg missing",
            head("alg", Value::Null),
            Reason::TokenMalformed,
        ),
        (
            "kid missing",
            head("kid", Value::Null),
            Reason::TokenMalformed,
        ),
        ("kid unknown", head("kid", json!("two")), Reason::KeyUnknown),
        (
            "crit",
            head("crit", json!(["exp"])),
            Reason::TokenHeaderNotSupported,
        ),
        (
            "b64",
            head("b64", json!(false)),
            Reason::TokenHeaderNotSupported,
        ),
        (
            "typ pop",
            head("typ", json!("pop")),
            Reason::TokenHeaderNotSupported,
        ),
        (
            "graph's nonce",
            head("nonce", json!("x")),
            Reason::GraphToken,
        ),
        (
            "a key of its own",
            {
                let mut header = header("one");
                header["jwk"] = jwk("one", 1, None);
                sign(&header, &v2().to_string(), 1)
            },
            Reason::SignatureInvalid,
        ),
        (
            "another key",
            sign(&header("one"), &v2().to_string(), 1),
            Reason::SignatureInvalid,
        ),
        (
            "a name twice",
            sign(
                &header("one"),
                &v2().to_string().replacen('{', "{\"tid\":\"x\",", 1),
                0,
            ),
            Reason::ClaimsMalformed,
        ),
        (
            "tid and TID",
            good(with(v2(), "TID", json!(OTHER_TENANT))),
            Reason::ClaimsMalformed,
        ),
        (
            "no tid",
            good(without(v2(), "tid")),
            Reason::ClaimsMalformed,
        ),
        (
            "no iss",
            good(without(v2(), "iss")),
            Reason::ClaimsMalformed,
        ),
        (
            "no exp",
            good(without(v2(), "exp")),
            Reason::ClaimsMalformed,
        ),
        (
            "exp as text",
            good(with(v2(), "exp", json!("9999999999"))),
            Reason::ClaimsMalformed,
        ),
        (
            "exp as a fraction",
            good(with(v2(), "exp", json!(9999999999.5))),
            Reason::ClaimsMalformed,
        ),
        (
            "aud as a list",
            good(with(v2(), "aud", json!([AUDIENCE]))),
            Reason::ClaimsMalformed,
        ),
        (
            "roles as text",
            good(with(v2(), "roles", json!("Guests.Invite"))),
            Reason::ClaimsMalformed,
        ),
        (
            "ver 3.0",
            good(with(v2(), "ver", json!("3.0"))),
            Reason::ClaimsMalformed,
        ),
        (
            "another tenant",
            good(with(
                with(v2(), "tid", json!(OTHER_TENANT)),
                "iss",
                json!(other_issuer),
            )),
            Reason::IssuerNotTrusted,
        ),
        (
            "another tenant's issuer",
            good(with(v2(), "iss", json!(other_issuer))),
            Reason::IssuerMismatch,
        ),
        (
            "a slash more",
            good(with(v2(), "iss", json!(issuer(Version::V2, TENANT) + "/"))),
            Reason::IssuerMismatch,
        ),
        (
            "v2 with the v1 issuer",
            good(with(v2(), "iss", json!(issuer(Version::V1, TENANT)))),
            Reason::TokenVersionMismatch,
        ),
        (
            "personal account",
            good(with(
                v2(),
                "tid",
                json!(crate::ids::PERSONAL_ACCOUNTS.to_string()),
            )),
            Reason::PersonalAccount,
        ),
        (
            "wrong audience",
            good(with(v2(), "aud", json!("api://other"))),
            Reason::AudienceMismatch,
        ),
        (
            "audience with a slash",
            good(with(v2(), "aud", json!("api://contoso-gateway/"))),
            Reason::AudienceForm,
        ),
        (
            "audience as a GUID",
            good(with(v2(), "aud", json!(APP))),
            Reason::AudienceForm,
        ),
        (
            "graph's audience",
            good(with(v1(), "aud", json!("https://graph.microsoft.com"))),
            Reason::GraphToken,
        ),
        (
            "expired",
            good(with(v2(), "exp", json!(seconds - 61))),
            Reason::TokenExpired,
        ),
        (
            "not yet valid",
            good(with(v2(), "nbf", json!(seconds + 61))),
            Reason::TokenNotYetValid,
        ),
        (
            "azp in v1",
            good(with(without(v1(), "appid"), "azp", json!(APP))),
            Reason::AppClaimForm,
        ),
        (
            "appid in v2",
            good(with(without(v2(), "azp"), "appid", json!(APP))),
            Reason::AppClaimForm,
        ),
        ("no app", good(without(v2(), "azp")), Reason::IdToken),
        (
            "an ID token's nonce",
            good(with(v2(), "nonce", json!("x"))),
            Reason::IdToken,
        ),
        (
            "bound to a key",
            good(with(v2(), "cnf", json!({"kid": "x"}))),
            Reason::TokenBound,
        ),
        (
            "a header too large",
            head("x5c", json!("x".repeat(7000))),
            Reason::TokenTooLarge,
        ),
        (
            "too many claims",
            {
                let mut claims = v2();
                (0..200).for_each(|n| claims[format!("c{n}")] = json!(n));
                good(claims)
            },
            Reason::ClaimsMalformed,
        ),
        (
            "too large",
            good(with(v2(), "x", json!("x".repeat(20_000)))),
            Reason::TokenTooLarge,
        ),
    ];
    for (name, token, expected) in cases {
        assert_eq!(world.ask(&token).await.err(), Some(expected), "{name}");
    }
    assert!(world.ask(&good(v2())).await.is_ok());
}

#[tokio::test]
async fn a_version_that_is_not_accepted_is_named() {
    let mut world = World::usual();
    world.rules.claims.versions = vec![Version::V2];
    let now = world.clock.now();
    let token = world.token(Version::V1);
    let denial = world
        .entra
        .authenticate(&token, &world.rules, &now)
        .await
        .map(|_| ())
        .unwrap_err();
    assert_eq!(denial.reason(), Reason::TokenVersionNotAccepted);
    let note = denial.note().expect("expected and got");
    assert_eq!(
        (note.expected.as_str(), note.got.as_str()),
        ("a v2 token", "a v1 token")
    );
}

#[tokio::test]
async fn a_cached_token_stops_passing_when_its_time_is_over() {
    let world = World::usual();
    let token = world.token(Version::V2);
    assert!(world.ask(&token).await.is_ok());
    world.clock.advance(Duration::from_secs(3600 + 59));
    assert!(world.ask(&token).await.is_ok(), "within the skew");
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.ask(&token).await.err(), Some(Reason::TokenExpired));
}

#[tokio::test]
async fn a_token_that_has_expired_is_forgotten_once_no_skew_lets_it_pass() {
    let world = World::usual();
    assert!(world.ask(&world.token(Version::V2)).await.is_ok());
    // For an hour, and for the longest skew that can be configured.
    for minute in 0..(60 + 5) {
        assert_eq!(world.entra.cached_tokens(), 1, "after {minute} minutes");
        world.minute().await;
    }
    assert_eq!(world.entra.cached_tokens(), 0);
}

#[tokio::test]
async fn a_cached_token_is_held_to_the_policy_of_now() {
    let mut world = World::usual();
    let token = world.token(Version::V2);
    assert!(world.ask(&token).await.is_ok());
    world.rules.claims.audiences = vec!["api://another".into()];
    assert_eq!(
        world.ask(&token).await.err(),
        Some(Reason::AudienceMismatch)
    );
    world.rules.claims.audiences = vec![AUDIENCE.into()];
    world.rules.tenants.clear();
    assert_eq!(
        world.ask(&token).await.err(),
        Some(Reason::IssuerNotTrusted)
    );
}

#[tokio::test]
async fn what_a_connection_remembers_of_a_token_is_asked_anew_each_time() {
    let mut world = World::usual();
    let token = world.token(Version::V1);
    let now = world.clock.now();
    let asked = world.entra.authenticate(&token, &world.rules, &now).await;
    let (principal, known) = asked.unwrap();
    let field = |text: &str| Secret::new(Bytes::from(text.to_owned()));
    let last = LastToken::default();
    let brought = field(&format!("Bearer {token}"));
    assert!(last.known(&brought).is_none());
    last.keep(&brought, known);
    assert!(last.known(&field("Bearer other")).is_none());
    assert!(last.known(&field(&format!("bearer {token}"))).is_none());
    let known = last.known(&brought).unwrap();
    let same = known.admit(&world.rules, &now).unwrap().unwrap();
    assert!(Arc::ptr_eq(&same, &principal));

    let late = now.later(Duration::from_secs(2 * 3600));
    let reason = known.admit(&world.rules, &late).unwrap().unwrap_err();
    assert_eq!(reason.reason(), Reason::TokenExpired);
    world.rules.longest_token = token.len() - 1;
    assert!(known.admit(&world.rules, &now).is_none(), "too long by now");
    world.rules.longest_token = token.len();
    world.rules.claims.versions = vec![Version::V2];
    let reason = known.admit(&world.rules, &now).unwrap().unwrap_err();
    assert_eq!(reason.reason(), Reason::TokenVersionNotAccepted);
    world.rules.claims.versions = vec![Version::V1];
    world.rules.tenants.clear();
    let reason = known.admit(&world.rules, &now).unwrap().unwrap_err();
    assert_eq!(reason.reason(), Reason::IssuerNotTrusted);
}

#[tokio::test]
async fn a_cached_token_tells_what_the_policy_of_now_asks_for() {
    let mut world = World::usual();
    let mut claims = claims(Version::V1, &world.clock.now());
    claims["upn"] = json!("ada@contoso.example");
    let token = sign(&header("one"), &claims.to_string(), 0);
    let before = world.ask(&token).await.expect("a principal");
    assert_eq!(
        (before.knows_claim("upn"), before.claim("upn")),
        (false, None)
    );
    world.rules.kept = Arc::new(["email".into(), "upn".into()]);
    let after = world.ask(&token).await.expect("a principal");
    assert_eq!(after.claim("upn"), Some(&json!("ada@contoso.example")));
    assert!(after.knows_claim("email") && after.claim("email").is_none());
    world.rules.kept = Arc::new(["upn".into()]);
    let still = world.ask(&token).await.expect("a principal");
    assert!(Arc::ptr_eq(&after, &still), "verified again for nothing");
}

#[tokio::test]
async fn an_unknown_key_asks_once_however_many_wait_and_finds_the_new_key() {
    let world = World::usual();
    assert!(world.ask(&world.token(Version::V2)).await.is_ok());
    world.until_fetched(2).await;
    world.list(
        Version::V2,
        Ok(json!({ "keys": [jwk("two", 1, Some(TEMPLATE))] })),
    );
    let claims = claims(Version::V2, &world.clock.now());
    let tokens: Vec<String> = (0..20)
        .map(|n| {
            let mut claims = claims.clone();
            claims["uti"] = json!(n);
            sign(&header("two"), &claims.to_string(), 1)
        })
        .collect();
    let answers = futures_util::future::join_all(tokens.iter().map(|token| world.ask(token))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(world.fetches(), 3, "two at the start, one on demand");
}

#[tokio::test]
async fn unknown_keys_ask_no_more_than_once_in_the_interval() {
    let world = World::usual();
    assert!(world.ask(&world.token(Version::V2)).await.is_ok());
    world.until_fetched(2).await;
    let token = sign(
        &header("nobodys"),
        &claims(Version::V2, &world.clock.now()).to_string(),
        1,
    );
    for _ in 0..10 {
        assert_eq!(world.ask(&token).await.err(), Some(Reason::KeyUnknown));
    }
    assert_eq!(world.fetches(), 3);
    world.clock.advance(RHYTHM.unknown_key_interval);
    assert_eq!(world.ask(&token).await.err(), Some(Reason::KeyUnknown));
    assert_eq!(world.fetches(), 4);
}

#[tokio::test]
async fn a_withdrawn_key_stops_the_tokens_that_it_signed_and_no_others() {
    let world = World::usual();
    let (v1, v2) = (world.token(Version::V1), world.token(Version::V2));
    assert!(world.ask(&v1).await.is_ok() && world.ask(&v2).await.is_ok());
    world.list(
        Version::V2,
        Ok(json!({ "keys": [jwk("two", 1, Some(TEMPLATE))] })),
    );
    let new = sign(
        &header("two"),
        &claims(Version::V2, &world.clock.now()).to_string(),
        1,
    );
    assert!(
        world.ask(&new).await.is_ok(),
        "the new key needs no restart"
    );
    assert_eq!(world.ask(&v2).await.err(), Some(Reason::KeyUnknown));
    assert!(
        world.ask(&v1).await.is_ok(),
        "the other issuer lists its key still"
    );
}

#[tokio::test]
async fn another_rhythm_or_a_tenants_absence_leaves_no_withdrawn_key_in_memory() {
    let mut world = World::usual();
    let tenant: TenantId = TENANT.parse().expect("a GUID");
    let token = world.token(Version::V2);
    assert!(world.ask(&token).await.is_ok());
    let slower = Rhythm {
        key_wait: Duration::from_secs(2),
        ..RHYTHM
    };
    let keys = world.entra.tenant(tenant, slower);
    world.rules.tenants.insert(tenant, keys);
    world.list(
        Version::V2,
        Ok(json!({ "keys": [jwk("two", 1, Some(TEMPLATE))] })),
    );
    let new = claims(Version::V2, &world.clock.now()).to_string();
    let new = sign(&header("two"), &new, 1);
    assert!(world.ask(&new).await.is_ok());
    assert_eq!(world.ask(&token).await.err(), Some(Reason::KeyUnknown));

    // The tenant leaves the policy and comes back: what is remembered of it must be proved anew.
    world.rules.tenants.clear();
    world.list(
        Version::V2,
        Ok(json!({ "keys": [jwk("three", 2, Some(TEMPLATE))] })),
    );
    while world.entra.issuers_kept() > 0 {
        world.clock.advance(Duration::from_secs(30));
        tokio::task::yield_now().await;
    }
    let keys = world.entra.tenant(tenant, RHYTHM);
    world.rules.tenants.insert(tenant, keys);
    assert_eq!(world.ask(&new).await.err(), Some(Reason::KeyUnknown));
}

#[tokio::test]
async fn the_last_good_keys_serve_whatever_the_endpoint_says() {
    for (name, answer) in [
        ("down", Err("down".to_owned())),
        ("empty", Ok(json!({ "keys": [] }))),
        ("garbage", Ok(json!("garbage"))),
        (
            "no usable key",
            Ok(json!({ "keys": [{ "kty": "EC", "kid": "one" }] })),
        ),
    ] {
        let world = World::usual();
        let token = world.token(Version::V2);
        assert!(world.ask(&token).await.is_ok());
        world.until_fetched(2).await;
        world.list(Version::V2, answer);
        let unknown = sign(
            &header("two"),
            &claims(Version::V2, &world.clock.now()).to_string(),
            1,
        );
        let asked = world.ask(&unknown).await.err();
        assert_eq!(
            asked,
            Some(Reason::KeysUnavailable),
            "{name}: the token may be good"
        );
        let mut fresh = claims(Version::V2, &world.clock.now());
        fresh["uti"] = json!("another");
        let fresh = sign(&header("one"), &fresh.to_string(), 0);
        assert!(world.ask(&fresh).await.is_ok(), "{name}");
        assert!(world.ask(&token).await.is_ok(), "{name}");
    }
}

#[tokio::test]
async fn one_issuers_outage_leaves_the_other() {
    let world = World::new(
        Err("down".to_owned()),
        Ok(json!({ "keys": [jwk("one", 0, Some(TEMPLATE))] })),
    );
    assert_eq!(
        world.ask(&world.token(Version::V1)).await.err(),
        Some(Reason::KeysUnavailable)
    );
    assert!(world.ask(&world.token(Version::V2)).await.is_ok());
    world.list(Version::V1, Ok(json!({ "keys": [jwk("one", 0, None)] })));
    world.clock.advance(Duration::from_secs(2));
    world.until_fetched(3).await;
    let _ = world
        .rules
        .tenants
        .values()
        .next()
        .unwrap()
        .v1
        .refresh(&world.clock.now())
        .await;
    assert!(
        world.ask(&world.token(Version::V1)).await.is_ok(),
        "it is asked again in the background"
    );
}

#[tokio::test]
async fn a_request_waits_for_the_very_first_keys() {
    let world = World::usual();
    let gate = world.script.gate.lock().await;
    let token = world.token(Version::V2);
    let (asked, ()) = futures_util::join!(world.ask(&token), async {
        world.until_fetched(2).await;
        drop(gate);
    });
    assert!(asked.is_ok());
}

#[tokio::test]
async fn a_key_counts_only_for_the_issuer_that_it_belongs_to() {
    let other = issuer(Version::V2, OTHER_TENANT);
    for (name, key_issuer, accepted) in [
        ("a template", Some(TEMPLATE), true),
        (
            "a template in another case",
            Some("https://login.microsoftonline.com/{TenantId}/v2.0"),
            true,
        ),
        ("none", None, true),
        ("the personal accounts'", Some(PERSONAL), false),
        ("another tenant's", Some(other.as_str()), false),
    ] {
        for version in Version::ALL {
            let keys = Ok(json!({ "keys": [jwk("one", 0, key_issuer)] }));
            let world = World::new(keys.clone(), keys);
            world.until_fetched(2).await;
            for other in Version::ALL {
                world
                    .rules
                    .tenants
                    .values()
                    .next()
                    .unwrap()
                    .of(other)
                    .first()
                    .await;
            }
            let asked = world.ask(&world.token(version)).await;
            let expected = (!accepted).then_some(Reason::KeyNotForIssuer);
            assert_eq!(asked.err(), expected, "{name}, {version:?}");
        }
    }
}

#[tokio::test]
async fn keys_on_disk_serve_a_restart_during_an_outage_until_they_are_too_old() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Some(KeyFolder::open(folder.path(), Duration::from_secs(600)).expect("opened"));
    let keys = || Ok(json!({ "keys": [jwk("one", 0, None)] }));
    let down = || Err("down".to_owned());
    let clock = ManualClock::at(SystemClock.now());
    let before = World::with_folder(keys(), keys(), open(), clock.clone());
    let token = before.token(Version::V2);
    assert!(before.ask(&token).await.is_ok());

    let restarted = World::with_folder(down(), down(), open(), clock.clone());
    assert!(restarted.ask(&token).await.is_ok());
    clock.advance(Duration::from_secs(601));
    let late = World::with_folder(down(), down(), open(), clock);
    assert_eq!(late.ask(&token).await.err(), Some(Reason::KeysUnavailable));
}

#[tokio::test]
async fn keys_are_refreshed_in_the_background() {
    let world = World::usual();
    world.until_fetched(2).await;
    for version in Version::ALL {
        world
            .rules
            .tenants
            .values()
            .next()
            .unwrap()
            .of(version)
            .first()
            .await;
    }
    // The loops look up from their sleep every 30 s at the latest.
    for _ in 0..200 {
        world.clock.advance(Duration::from_secs(30));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    assert!(world.fetches() >= 4, "{}", world.fetches());
}

#[tokio::test]
async fn the_backend_learns_the_caller_as_built_in_authentication_tells_it() {
    let world = World::usual();
    let mut claims = claims(Version::V1, &world.clock.now());
    claims["upn"] = json!("ada@contoso.example");
    claims["scp"] = json!("Guests.Read Guests.Write");
    claims.as_object_mut().unwrap().remove("idtyp");
    let principal = world
        .ask(&sign(&header("one"), &claims.to_string(), 0))
        .await
        .expect("a principal");
    assert_eq!(principal.kind(), TokenKind::Delegated);
    assert!(principal.has_scope("Guests.Write"));
    let headers: HashMap<&str, &str> = principal
        .identity_headers()
        .fields()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(headers["x-ms-client-principal-idp"], "aad");
    assert_eq!(headers["x-ms-client-principal-name"], "ada@contoso.example");
    assert_eq!(
        headers["x-ms-client-principal-id"],
        "00000000-0000-0000-0000-00000000000a"
    );
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(headers["x-ms-client-principal"])
        .unwrap();
    let decoded: Value = serde_json::from_slice(&decoded).unwrap();
    assert_eq!(decoded["auth_typ"], "aad");
    let entries = decoded["claims"].as_array().unwrap();
    let has = |typ: &str, val: &str| entries.contains(&json!({ "typ": typ, "val": val }));
    assert!(has("roles", "Guests.Invite"));
    assert!(has(
        "http://schemas.microsoft.com/identity/claims/tenantid",
        TENANT
    ));
    assert!(has("exp", &claims["exp"].to_string()));
}
