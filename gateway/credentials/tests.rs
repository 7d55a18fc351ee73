//! The clock is moved by hand, and the token source says what the test tells it to. Nothing sleeps.

use std::time::Instant;

use futures_util::future::{BoxFuture, poll_immediate};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::clock::{Clock, ManualClock, within};
use crate::denial::Reason;

const WAIT: Duration = Duration::from_secs(2);
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

type Outcome = Result<Fetched, FetchFailure>;

struct Asked {
    wanted: Wanted,
    answer: oneshot::Sender<Outcome>,
}

/// Asks the test for each token.
struct Scripted(mpsc::UnboundedSender<Asked>);

impl Source for Scripted {
    fn fetch<'a>(
        &'a self,
        wanted: &'a Wanted,
        _: Option<Secret<String>>,
    ) -> BoxFuture<'a, Outcome> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            wanted: wanted.clone(),
            answer,
        };
        self.0.send(asked).expect("the test listens");
        Box::pin(async { answered.await.expect("the test answers") })
    }
}

struct World {
    clock: ManualClock,
    asked: mpsc::UnboundedReceiver<Asked>,
    credentials: Arc<Credentials>,
}

impl World {
    #[expect(
        clippy::disallowed_methods,
        reason = "a ManualClock starts at some instant"
    )]
    fn new() -> Self {
        let clock = ManualClock::at(Now {
            unix: Duration::from_secs(1_700_000_000),
            instant: Instant::now(),
        });
        let (source, asked) = mpsc::unbounded_channel();
        let credentials = Credentials::new(
            Arc::new(clock.clone()),
            Arc::new(Scripted(source)),
            Handle::current(),
        );
        Self {
            clock,
            asked,
            credentials,
        }
    }

    fn slot(&self) -> Arc<Slot> {
        self.credentials.slot(arm())
    }

    fn now(&self) -> Now {
        self.clock.now()
    }

    async fn asked(&mut self) -> Asked {
        self.asked.recv().await.expect("a fetch")
    }

    /// Lets every task do what it can, and says whether a fetch came of it.
    async fn is_asked(&mut self) -> bool {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        !self.asked.is_empty()
    }

    /// Answers the fetch that is waiting or comes next with a token that lives for `lifetime`.
    async fn grant(&mut self, slot: &Slot, token: &str, lifetime: Duration) {
        let expires = self.now().unix + lifetime;
        let asked = self.asked().await;
        let token = Fetched {
            secret: Secret::new(token.to_owned()),
            expires: Some(expires),
            refresh_in: None,
        };
        asked.answer.send(Ok(token)).expect("awaited");
        until(|| slot.status().expires == Some(expires)).await;
    }

    async fn fail(&mut self, slot: &Slot) {
        let before = in_a_row(slot);
        let asked = self.asked().await;
        asked
            .answer
            .send(Err(FetchFailure::Unreadable))
            .expect("awaited");
        until(|| in_a_row(slot) == before + 1).await;
    }
}

fn in_a_row(slot: &Slot) -> u32 {
    slot.status()
        .last_failure
        .map_or(0, |failure| failure.in_a_row)
}

async fn until(condition: impl Fn() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the condition does not come true");
}

fn arm() -> Wanted {
    token_of(Identity::System)
}

fn token_of(identity: Identity) -> Wanted {
    Wanted::Token(WantedToken {
        resource: "https://management.azure.com/".to_owned(),
        identity,
    })
}

fn bearer(slot: &Slot, now: &Now) -> Option<String> {
    let value = slot.current(now)?;
    assert!(value.is_sensitive());
    Some(value.to_str().expect("ASCII").to_owned())
}

fn holds(slot: &Slot, now: &Now, token: &str) -> bool {
    bearer(slot, now) == Some(format!("Bearer {token}"))
}

#[tokio::test]
async fn a_token_is_fetched_at_start_and_presented() {
    let mut world = World::new();
    let slot = world.slot();
    world.grant(&slot, "one", HOUR).await;
    assert!(slot.status().is_ready(&world.now()));
    let credential = Credential::Token(slot);
    let presented = credential
        .present(&world.now(), WAIT, Signed::None)
        .await
        .expect("a token");
    assert!(!format!("{presented:?} {credential:?}").contains("one"));
    let (name, value) = field_of(presented);
    assert_eq!(name, header::AUTHORIZATION);
    assert_eq!(value, "Bearer one");
    assert!(value.is_sensitive());
}

#[tokio::test]
async fn the_first_request_waits_for_the_first_fetch() {
    let mut world = World::new();
    let slot = world.slot();
    let now = world.now();
    let (ready, ()) = tokio::join!(slot.ready(&now, WAIT), world.grant(&slot, "one", HOUR));
    assert_eq!(ready.expect("a token"), "Bearer one");
}

#[tokio::test]
async fn the_first_request_waits_no_longer_than_it_may() {
    let mut world = World::new();
    let slot = world.slot();
    let pending = world.asked().await;
    let now = world.now();
    let mut waiting = Box::pin(slot.ready(&now, WAIT));
    assert!(poll_immediate(&mut waiting).await.is_none());
    world.clock.advance(WAIT - Duration::from_millis(1));
    assert!(poll_immediate(&mut waiting).await.is_none());
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(waiting.await, Err(Unavailable::FirstFetchUnderWay));
    drop(pending);
}

#[tokio::test]
async fn a_token_that_ran_out_while_the_request_waited_is_not_presented() {
    let mut world = World::new();
    let slot = world.slot();
    let now = world.now();
    let mut waiting = Box::pin(slot.ready(&now, WAIT));
    assert!(poll_immediate(&mut waiting).await.is_none());
    world.grant(&slot, "one", 11 * SECOND).await;
    world.clock.advance(SECOND);
    assert_eq!(waiting.await, Err(Unavailable::NoToken(String::new())));
}

#[tokio::test]
async fn after_a_failed_first_fetch_nobody_waits() {
    let mut world = World::new();
    let slot = world.slot();
    let credential = Credential::Token(slot.clone());
    world.fail(&slot).await;
    let present = poll_immediate(credential.present(&world.now(), WAIT, Signed::None)).await;
    let denial = present.expect("at once").expect_err("no token");
    assert_eq!(denial.reason(), Reason::CredentialUnavailable);
    let answer = denial.answer(crate::ids::RequestId::fresh());
    assert_eq!(answer.headers()[header::RETRY_AFTER], "5");
    assert_eq!(
        denial.note().map(|note| note.got.as_str()),
        Some("there is no valid one: the identity endpoint gave an answer that cannot be read")
    );
}

#[tokio::test]
async fn a_failed_first_fetch_is_retried_within_two_seconds() {
    let mut world = World::new();
    let slot = world.slot();
    world.fail(&slot).await;
    assert!(!world.is_asked().await);
    world.clock.advance(2 * SECOND);
    world.grant(&slot, "one", HOUR).await;
    assert!(holds(&slot, &world.now(), "one"));
    let status = slot.status();
    assert_eq!(status.last_failure, None);
    assert_eq!(
        (status.failures, status.fetched),
        (1, Some(world.now().unix))
    );
}

#[tokio::test]
async fn a_token_is_refreshed_ahead_of_its_end_and_the_old_one_serves_meanwhile() {
    let mut world = World::new();
    let slot = world.slot();
    world.grant(&slot, "one", HOUR).await;
    world.clock.advance(49 * MINUTE);
    assert!(!world.is_asked().await);
    world.clock.advance(6 * MINUTE);
    assert!(world.is_asked().await);
    assert!(holds(&slot, &world.now(), "one"));
    world.grant(&slot, "two", HOUR).await;
    assert!(holds(&slot, &world.now(), "two"));
}

#[tokio::test]
async fn a_long_token_is_refreshed_at_half_its_life() {
    let mut world = World::new();
    let slot = world.slot();
    world.grant(&slot, "one", 24 * HOUR).await;
    world.clock.advance(10 * HOUR);
    assert!(!world.is_asked().await);
    world.clock.advance(2 * HOUR);
    assert!(world.is_asked().await);
}

#[tokio::test]
async fn while_refreshing_fails_the_old_token_serves_until_ten_seconds_before_its_end() {
    let mut world = World::new();
    let slot = world.slot();
    world.grant(&slot, "one", HOUR).await;
    let end = world.now().later(HOUR);
    world.clock.advance(55 * MINUTE);
    world.fail(&slot).await;
    world.clock.advance(4 * MINUTE);
    world.fail(&slot).await;
    assert_eq!(in_a_row(&slot), 2);
    assert!(holds(&slot, &world.now(), "one"));
    world.clock.advance(50 * SECOND - Duration::from_millis(1));
    assert!(holds(&slot, &world.now(), "one"));
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(world.now().later(10 * SECOND), end);
    assert_eq!(bearer(&slot, &world.now()), None);
    assert!(!slot.status().is_ready(&world.now()));
    let ready = poll_immediate(slot.ready(&world.now(), WAIT)).await;
    assert!(
        matches!(ready, Some(Err(Unavailable::NoToken(_)))),
        "{ready:?}"
    );
}

#[tokio::test]
async fn a_fetch_that_hangs_fails_after_twenty_seconds() {
    let mut world = World::new();
    let slot = world.slot();
    let _pending = world.asked().await;
    world.clock.advance(20 * SECOND);
    until(|| in_a_row(&slot) == 1).await;
    let failure = slot.status().last_failure.expect("a failure");
    assert_eq!(failure.text, FetchFailure::TimedOut.to_string());
}

#[tokio::test]
async fn a_fetch_that_panics_is_a_failure_and_not_the_end() {
    let mut world = World::new();
    let slot = world.slot();
    // The source panics when the test does not answer.
    drop(world.asked().await);
    until(|| in_a_row(&slot) == 1).await;
    world.clock.advance(2 * SECOND);
    world.grant(&slot, "one", HOUR).await;
}

#[tokio::test]
async fn a_token_that_is_expired_or_malformed_is_never_taken() {
    let mut world = World::new();
    let slot = world.slot();
    for (token, lifetime) in [("one", Duration::ZERO), ("one", 10 * SECOND), ("a b", HOUR)] {
        let before = in_a_row(&slot);
        let asked = world.asked().await;
        let token = Fetched {
            secret: Secret::new(token.to_owned()),
            expires: Some(world.now().unix + lifetime),
            refresh_in: None,
        };
        asked.answer.send(Ok(token)).expect("awaited");
        until(|| in_a_row(&slot) == before + 1).await;
        assert_eq!(slot.status().expires, None);
        world.clock.advance(MINUTE);
    }
}

#[tokio::test]
async fn the_endpoint_may_ask_for_patience() {
    let mut world = World::new();
    let slot = world.slot();
    let refusal = Refusal {
        status: http::StatusCode::TOO_MANY_REQUESTS,
        code: None,
        retry_after: Some(30 * SECOND),
    };
    let asked = world.asked().await;
    asked
        .answer
        .send(Err(FetchFailure::Refused(refusal)))
        .expect("awaited");
    until(|| in_a_row(&slot) == 1).await;
    world.clock.advance(29 * SECOND);
    assert!(!world.is_asked().await);
    world.clock.advance(SECOND);
    assert!(world.is_asked().await);
}

#[tokio::test]
async fn a_refused_token_is_fetched_anew_once_and_at_most_every_thirty_seconds() {
    let mut world = World::new();
    let slot = world.slot();
    world.grant(&slot, "one", HOUR).await;
    let credential = Credential::Token(slot.clone());

    world.clock.advance(29 * SECOND);
    credential.refused();
    assert!(!world.is_asked().await);

    world.clock.advance(SECOND);
    credential.refused();
    credential.refused();
    assert!(world.is_asked().await);
    assert!(holds(&slot, &world.now(), "one"));
    world.grant(&slot, "two", HOUR).await;
    assert!(holds(&slot, &world.now(), "two"));

    credential.refused();
    assert!(!world.is_asked().await);
}

#[tokio::test]
async fn the_same_identity_and_resource_share_one_slot_and_others_do_not() {
    let mut world = World::new();
    let slot = world.slot();
    assert!(Arc::ptr_eq(&slot, &world.slot()));
    let other = Wanted::Token(WantedToken {
        resource: "https://management.azure.com".to_owned(),
        identity: Identity::System,
    });
    let theirs = world.credentials.slot(other.clone());
    assert!(!Arc::ptr_eq(&slot, &theirs));
    assert_eq!(world.asked().await.wanted, arm());
    assert_eq!(world.asked().await.wanted, other);
    assert!(!world.is_asked().await);
    assert_eq!(world.credentials.in_use().len(), 2);
}

#[tokio::test]
async fn the_fetching_ends_when_the_last_holder_lets_go_and_begins_again_for_the_next() {
    let mut world = World::new();
    let (first, second) = (world.slot(), world.slot());
    let mut asked = world.asked().await;
    drop(first);
    assert!(!world.is_asked().await);
    assert!(!asked.answer.is_closed());
    drop(second);
    within(20 * SECOND, asked.answer.closed())
        .await
        .expect("the fetch is given up");
    assert!(world.credentials.in_use().is_empty());
    let third = world.slot();
    world.grant(&third, "one", HOUR).await;
}

#[tokio::test]
async fn a_fixed_secret_is_presented_in_its_field_and_never_printed() {
    let world = World::new();
    let key = || Held::Fixed(Secret::new(HeaderValue::from_static("planted")));
    let named = Credential::Header {
        name: HeaderName::from_static("x-api-key"),
        value: key(),
    };
    for (credential, field) in [
        (Credential::function_key(key()), "x-functions-key"),
        (named, "x-api-key"),
    ] {
        let presented = credential
            .present(&world.now(), WAIT, Signed::None)
            .await
            .expect("a key");
        assert!(!format!("{credential:?} {presented:?}").contains("planted"));
        let (name, value) = field_of(presented);
        assert_eq!(name, field);
        assert_eq!(value, "planted");
        assert!(value.is_sensitive());
    }
}

#[tokio::test]
async fn no_credential_is_presented_as_no_field() {
    let world = World::new();
    let presented = Credential::None
        .present(&world.now(), WAIT, Signed::None)
        .await;
    let carried = presented.expect("nothing").into_carried();
    assert!(matches!(carried, Carried::Nothing));
}

fn field_of(presented: Presented) -> (HeaderName, HeaderValue) {
    match presented.into_carried() {
        Carried::Field(name, value) => (name, value),
        Carried::Nothing | Carried::InTheUrl(_) | Carried::Query(_) => panic!("no field"),
    }
}

/// What each credential presents beside each kind of signature in the URL.
#[tokio::test]
async fn a_signature_in_the_url_takes_the_place_of_what_would_contradict_it() {
    let mut world = World::new();
    let slot = world.slot();
    world.grant(&slot, "one", HOUR).await;
    let key = || Held::Fixed(Secret::new(HeaderValue::from_static("planted")));
    let sas = Derived::new(
        vec![Held::Fixed(Secret::new("sig=planted".to_owned()))],
        SasQuery::of_texts,
    );
    let own = Credential::Header {
        name: HeaderName::from_static("x-api-key"),
        value: key(),
    };
    let rows = [
        ("none", Credential::None, [false, false]),
        ("token", Credential::Token(slot), [false, true]),
        ("key", Credential::function_key(key()), [false, false]),
        ("header", own, [false, true]),
        ("sas", Credential::Sas(sas), [false, false]),
    ];
    for (name, credential, goes_along) in rows {
        for (signed, goes) in [Signed::Alone, Signed::Durable].into_iter().zip(goes_along) {
            let presented = credential.present(&world.now(), WAIT, signed).await;
            let presented = presented.expect("presented");
            assert!(presented.carries(), "a 401 is about the gateway's: {name}");
            assert_eq!(presented.is_own(), goes, "{name} {signed:?}");
            let by_header = matches!(name, "key" | "header");
            assert_eq!(
                presented.name().is_some(),
                goes || by_header,
                "the caller's own field of the name goes: {name} {signed:?}"
            );
        }
    }
}

fn vault_secret(refresh_every: Duration) -> Wanted {
    Wanted::Secret(WantedSecret {
        secret: crate::files::VaultSecret {
            vault: "https://contoso.vault.azure.net".to_owned(),
            resource: "https://vault.azure.net".to_owned(),
            name: "guest-key".to_owned(),
            version: None,
        },
        reader: Identity::System,
        refresh_every,
    })
}

fn value(secret: &str) -> Fetched {
    Fetched {
        secret: Secret::new(secret.to_owned()),
        expires: None,
        refresh_in: None,
    }
}

#[tokio::test]
async fn a_vaults_secret_is_read_with_a_token_for_the_vault_and_polled() {
    let mut world = World::new();
    let slot = world.credentials.slot(vault_secret(HOUR));
    let asked = world.asked().await;
    let Wanted::Token(token) = &asked.wanted else {
        panic!("{:?}", asked.wanted);
    };
    assert_eq!(token.resource, "https://vault.azure.net");
    let granted = Fetched {
        expires: Some(world.now().unix + 24 * HOUR),
        ..value("token")
    };
    asked.answer.send(Ok(granted)).expect("awaited");
    let asked = world.asked().await;
    assert_eq!(asked.wanted, vault_secret(HOUR));
    asked.answer.send(Ok(value("first\n"))).expect("awaited");
    until(|| slot.current(&world.now()).is_some()).await;
    assert_eq!(slot.current(&world.now()).expect("a key"), "first");

    world.clock.advance(HOUR);
    let asked = world.asked().await;
    asked.answer.send(Ok(value("second"))).expect("awaited");
    until(|| {
        slot.current(&world.now())
            .is_some_and(|key| key == "second")
    })
    .await;
}

#[tokio::test]
async fn a_disabled_secret_is_told_at_once_and_the_last_good_value_kept() {
    let mut world = World::new();
    let slot = world.credentials.slot(vault_secret(HOUR));
    let asked = world.asked().await;
    let granted = Fetched {
        expires: Some(world.now().unix + 24 * HOUR),
        ..value("token")
    };
    asked.answer.send(Ok(granted)).expect("awaited");
    let asked = world.asked().await;
    asked.answer.send(Ok(value("first"))).expect("awaited");
    until(|| slot.status().is_held).await;
    assert_eq!(slot.status().fault(&world.now()), None);

    world.clock.advance(HOUR);
    let disabled = Refusal {
        status: http::StatusCode::FORBIDDEN,
        code: Some("Forbidden SecretDisabled".to_owned()),
        retry_after: None,
    };
    let asked = world.asked().await;
    asked
        .answer
        .send(Err(FetchFailure::Refused(disabled)))
        .expect("awaited");
    until(|| in_a_row(&slot) == 1).await;
    assert_eq!(slot.current(&world.now()).expect("a key"), "first");
    assert!(slot.status().is_ready(&world.now()));
    let fault = slot.status().fault(&world.now()).expect("a fault");
    assert!(fault.is_final);
    let why = fault.why;
    assert!(
        why.contains("SecretDisabled") && why.contains("last good"),
        "{why}"
    );

    // An outage alone is no fault as long as there is a value.
    world.clock.advance(MINUTE);
    let asked = world.asked().await;
    asked
        .answer
        .send(Err(FetchFailure::TimedOut))
        .expect("awaited");
    until(|| in_a_row(&slot) == 2).await;
    assert_eq!(slot.status().fault(&world.now()), None);
}
