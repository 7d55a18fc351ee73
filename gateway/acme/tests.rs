//! Time is moved, and a CA answers that does what it is told.

use std::collections::VecDeque;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::pin::pin;

use futures_util::future::BoxFuture;
use futures_util::poll;
use rcgen::{CertificateParams, KeyPair};

use super::ca::Suggestion;
use super::*;
use crate::clock::{ManualClock, Now, SystemClock};
use crate::secret::Secret;

const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
const LIFE: Duration = Duration::from_hours(90 * 24);
const START: Duration = Duration::from_secs(1_800_000_000);

/// What a CA is asked and what it answers, for all replicas.
#[derive(Default)]
struct Desk {
    /// Failures to come; then certificates.
    failures: VecDeque<Failure>,
    suggestion: Option<Suggestion>,
    /// Whether it never comes to an end.
    stalls: bool,
    /// How far its certificates begin in the past.
    late_by: Duration,
    /// Which names were ordered, and whether as a replacement.
    orders: Vec<(String, bool)>,
    asked_when: usize,
}

struct FakeCa {
    desk: Arc<Mutex<Desk>>,
    clock: Arc<dyn Clock>,
}

impl Authority for FakeCa {
    fn obtain<'a>(
        &'a self,
        names: &'a Names,
        replaces: Option<&'a Issued>,
    ) -> BoxFuture<'a, Result<Pem, Failure>> {
        let mut desk = self.desk.lock().expect("a desk");
        desk.orders.push((names.to_string(), replaces.is_some()));
        if desk.stalls {
            return Box::pin(std::future::pending());
        }
        let answer = match desk.failures.pop_front() {
            Some(failure) => Err(failure),
            None => Ok(made(names, self.clock.now().unix - desk.late_by)),
        };
        Box::pin(async move { answer })
    }

    fn suggestion<'a>(&'a self, _: &'a Issued) -> BoxFuture<'a, Option<Suggestion>> {
        let mut desk = self.desk.lock().expect("a desk");
        desk.asked_when += 1;
        let said = desk.suggestion;
        Box::pin(async move { said })
    }
}

fn made(names: &Names, now: Duration) -> Pem {
    let at = |unix: Duration| {
        OffsetDateTime::from_unix_timestamp(unix.as_secs().cast_signed()).expect("a time")
    };
    let mut params = CertificateParams::new(names.as_slice()).expect("names");
    params.not_before = at(now);
    params.not_after = at(now + LIFE);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    Secret::new(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

struct Scene {
    root: tempfile::TempDir,
    clock: ManualClock,
    desk: Arc<Mutex<Desk>>,
}

impl Scene {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let only_ours = Permissions::from_mode(0o700);
        fs::set_permissions(root.path(), only_ours).expect("set");
        let now = Now {
            unix: START,
            ..SystemClock.now()
        };
        Self {
            root,
            clock: ManualClock::at(now),
            desk: Arc::default(),
        }
    }

    fn folder(&self) -> Folder {
        let directory = Uri::from_static("https://ca.example/directory");
        Folder::open(self.root.path(), &directory).expect("opened")
    }

    /// Another process on the same folder.
    fn replica(&self, names: &[&str]) -> Replica {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let ca = FakeCa {
            desk: Arc::clone(&self.desk),
            clock: Arc::clone(&clock),
        };
        let answers = Answers::new(self.folder(), Challenge::TlsAlpn01);
        let acme = Acme::with(Box::new(ca), self.folder(), answers, clock);
        acme.want(&[owned(names)]);
        Replica {
            acme,
            names: owned(names),
            rounds: Rounds::default(),
        }
    }

    fn fail(&self, sentence: &str, asked: Option<Duration>) {
        let sentence = sentence.to_owned();
        let mut desk = self.desk.lock().expect("a desk");
        desk.failures.push_back(Failure { sentence, asked });
    }

    fn orders(&self) -> usize {
        self.desk.lock().expect("a desk").orders.len()
    }
}

struct Replica {
    acme: Arc<Acme>,
    names: Vec<String>,
    rounds: Rounds,
}

impl Replica {
    async fn round(&mut self) {
        self.acme.round(&mut self.rounds).await;
    }

    fn serial(&self) -> Option<String> {
        let issued = self.acme.issued(&self.names)?;
        Some(issued.serial.clone())
    }

    fn status(&self) -> Status {
        self.acme.statuses().pop().expect("a status")
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[tokio::test]
async fn what_is_missing_is_ordered_at_once_and_is_there_after_a_restart_without_a_ca() {
    let scene = Scene::new();
    let mut one = scene.replica(&["b.example", "A.example"]);
    let changes = one.acme.changes();
    let before = *changes.borrow();
    assert_eq!(one.serial(), None);
    one.round().await;
    let serial = one.serial().expect("a certificate");
    assert!(*changes.borrow() > before);
    assert_eq!(
        scene.desk.lock().expect("a desk").orders,
        [("a.example, b.example".to_owned(), false)]
    );
    let restarted = scene.replica(&["a.example", "b.example"]);
    assert_eq!(restarted.serial(), Some(serial));
    assert_eq!(scene.orders(), 1);
}

#[tokio::test]
async fn a_certificate_is_renewed_with_a_new_key_when_a_third_of_its_life_is_left() {
    let scene = Scene::new();
    let mut one = scene.replica(&["a.example"]);
    one.round().await;
    let first = one.acme.issued(&one.names).expect("a certificate");
    let at = one.status().orders_at;
    assert!((START + 57 * DAY..=START + 60 * DAY).contains(&at));
    scene.clock.advance(at - START - MINUTE);
    one.round().await;
    assert_eq!(scene.orders(), 1, "not yet");
    scene.clock.advance(MINUTE);
    one.round().await;
    let second = one.acme.issued(&one.names).expect("a certificate");
    assert_ne!(first.serial, second.serial);
    assert_ne!(first.key.secret_der(), second.key.secret_der());
    let last = scene.desk.lock().expect("a desk").orders.pop();
    assert_eq!(last, Some(("a.example".to_owned(), true)), "it replaces");
}

#[tokio::test]
async fn an_order_that_comes_to_no_end_fails() {
    let scene = Scene::new();
    scene.desk.lock().expect("a desk").stalls = true;
    let mut one = scene.replica(&["a.example"]);
    {
        let mut round = pin!(one.round());
        assert!(poll!(&mut round).is_pending());
        scene.clock.advance(LONGEST_ORDER - MINUTE);
        assert!(poll!(&mut round).is_pending(), "not yet");
        scene.clock.advance(MINUTE);
        assert!(poll!(&mut round).is_ready());
    }
    let failure = one.status().last_failure;
    let failure = failure.expect("it failed");
    assert!(failure.contains("within 20 minutes"), "{failure}");
    // The lock is free again.
    assert!(scene.folder().try_lock().expect("a folder").is_some());
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_certificate_and_is_tried_less_and_less_often() {
    let scene = Scene::new();
    let mut one = scene.replica(&["a.example"]);
    one.round().await;
    let serial = one.serial();
    for _ in 0..3 {
        scene.fail("the CA refuses: no", None);
    }
    scene.clock.advance(60 * DAY);
    let mut waits = Vec::new();
    for failures in 1..=3 {
        one.round().await;
        assert_eq!(scene.orders(), 1 + failures);
        assert_eq!(one.serial(), serial, "it still serves");
        let status = one.status();
        assert_eq!(status.last_failure.as_deref(), Some("the CA refuses: no"));
        let wait = status.orders_at - scene.clock.now().unix;
        one.round().await;
        assert_eq!(scene.orders(), 1 + failures, "not before its time");
        scene.clock.advance(wait);
        waits.push(wait);
    }
    for (wait, minutes) in waits.iter().zip([1, 2, 4]) {
        let range = MINUTE * minutes * 3 / 4..=MINUTE * minutes * 5 / 4;
        assert!(range.contains(wait), "{wait:?}");
    }
    one.round().await;
    assert_ne!(one.serial(), serial);
    assert_eq!(one.status().last_failure, None);
    let orders = scene.desk.lock().expect("a desk").orders.clone();
    let replacing: Vec<bool> = orders.iter().map(|(_, replaces)| *replaces).collect();
    let expected = [false, true, false, false, false];
    assert_eq!(replacing, expected, "plain orders after a failure");
}

#[tokio::test]
async fn one_that_would_have_to_be_renewed_at_once_is_shown_and_not_ordered_again_and_again() {
    let scene = Scene::new();
    scene.desk.lock().expect("a desk").late_by = 61 * DAY;
    let mut one = scene.replica(&["a.example"]);
    let mut waits = Vec::new();
    for orders in 1..=3 {
        one.round().await;
        one.round().await;
        assert_eq!(scene.orders(), orders, "not before its time");
        assert!(one.serial().is_some(), "it may be the clock that is wrong");
        let status = one.status();
        let failure = status.last_failure.expect("a failure");
        assert!(failure.contains("clock"), "{failure}");
        let wait = status.orders_at - scene.clock.now().unix;
        scene.clock.advance(wait);
        waits.push(wait);
    }
    assert!(waits[0] < waits[1] && waits[1] < waits[2], "{waits:?}");
}

#[tokio::test]
async fn neither_a_restart_nor_a_replica_asks_a_ca_that_wants_to_be_left_alone() {
    let scene = Scene::new();
    let mut one = scene.replica(&["a.example"]);
    let later = scene.clock.now().unix + 3 * DAY;
    scene.fail("the CA refuses: too many (rateLimited)", Some(later));
    let mut other = scene.replica(&["a.example"]);
    one.round().await;
    for _ in 0..2 {
        other.round().await;
        let mut restarted = scene.replica(&["a.example"]);
        restarted.round().await;
        assert_eq!(restarted.status().orders_at, later);
        assert_eq!(other.status().orders_at, later);
        scene.clock.advance(DAY);
    }
    assert_eq!(scene.orders(), 1);
    scene.clock.advance(DAY);
    other.round().await;
    assert!(other.serial().is_some());
    assert_eq!(scene.orders(), 2);
}

#[test]
fn replicas_that_begin_in_the_same_moment_do_not_hinder_each_other() {
    let scene = Scene::new();
    let root = scene.root.path();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let directory = Uri::from_static("https://ca.example/directory");
                    Folder::open(root, &directory).expect("opened");
                }
            });
        }
    });
}

#[tokio::test]
async fn replicas_order_once_and_take_up_what_another_has_stored() {
    let scene = Scene::new();
    let (mut one, mut other) = (scene.replica(&["a.example"]), scene.replica(&["a.example"]));
    one.round().await;
    other.round().await;
    assert_eq!(one.serial(), other.serial());
    assert_eq!(scene.orders(), 1);

    // A renewal, by whoever comes first; the other looks within a minute.
    let at = one.status().orders_at;
    assert_eq!(other.status().orders_at, at);
    scene.clock.advance(at - START);
    other.round().await;
    assert_ne!(one.serial(), other.serial());
    scene.clock.advance(MINUTE);
    one.round().await;
    assert_eq!(one.serial(), other.serial());
    assert_eq!(scene.orders(), 2);
}

#[tokio::test]
async fn who_orders_is_waited_for_and_told_of_when_it_never_ends() {
    let scene = Scene::new();
    let lock = scene.folder().try_lock().expect("no error").expect("free");
    let mut one = scene.replica(&["a.example"]);
    one.round().await;
    scene.clock.advance(59 * MINUTE);
    one.round().await;
    assert_eq!(one.status().last_failure, None);
    scene.clock.advance(MINUTE);
    one.round().await;
    let failure = one.status().last_failure.expect("a failure");
    assert!(failure.contains("lock"), "{failure}");
    drop(lock);
    scene.clock.advance(2 * MINUTE);
    one.round().await;
    assert!(one.serial().is_some());
    assert_eq!(scene.orders(), 1);
}

#[tokio::test]
async fn a_ca_that_wants_a_certificate_renewed_earlier_is_heard() {
    let scene = Scene::new();
    let mut one = scene.replica(&["a.example"]);
    one.round().await;
    let own = one.status().orders_at;
    one.round().await;
    assert_eq!(one.status().orders_at, own, "it says nothing");
    one.round().await;
    assert_eq!(scene.desk.lock().expect("a desk").asked_when, 1);

    let now = scene.clock.now().unix;
    scene.desk.lock().expect("a desk").suggestion = Some(Suggestion {
        window: (now + 2 * DAY, now + 3 * DAY),
        ask_again: Some(now),
    });
    scene.clock.advance(DAY);
    one.round().await;
    let at = one.status().orders_at;
    assert!((now + 2 * DAY..now + 3 * DAY).contains(&at), "{at:?}");

    // The certificate is to be withdrawn.
    scene.desk.lock().expect("a desk").suggestion = Some(Suggestion {
        window: (now - DAY, now - DAY),
        ask_again: None,
    });
    scene.clock.advance(Duration::from_hours(1));
    one.round().await;
    assert_eq!(scene.orders(), 1);
    one.round().await;
    assert_eq!(scene.orders(), 2);
}

#[tokio::test]
async fn a_ca_that_would_have_each_renewed_at_once_is_asked_once_a_day() {
    let scene = Scene::new();
    scene.desk.lock().expect("a desk").suggestion = Some(Suggestion {
        window: (START - DAY, START - DAY),
        ask_again: None,
    });
    let mut one = scene.replica(&["a.example"]);
    for _ in 0..20 {
        one.round().await;
        scene.clock.advance(MINUTE);
    }
    assert_eq!(scene.orders(), 1);
    scene.clock.advance(DAY);
    for _ in 0..20 {
        one.round().await;
        scene.clock.advance(MINUTE);
    }
    assert_eq!(scene.orders(), 2);
}

#[tokio::test]
async fn names_that_are_written_otherwise_leave_what_there_is_until_the_new_one_is_there() {
    let scene = Scene::new();
    let mut one = scene.replica(&["a.example"]);
    one.round().await;
    let old = one.serial();
    assert!(old.is_some());
    let both = ["a.example", "b.example"];
    for _ in 0..2 {
        scene.fail("the CA refuses: no", None);
    }
    one.acme.want(&[owned(&both)]);
    one.names = owned(&both);
    let mut restarted = scene.replica(&both);
    for replica in [&mut one, &mut restarted] {
        replica.round().await;
        assert_eq!(replica.serial(), old, "it still serves");
        assert_eq!(replica.status().serial, None, "and another is due");
        scene.clock.advance(20 * MINUTE);
    }
    one.round().await;
    assert_ne!(one.serial(), old);
    assert_eq!(one.serial(), one.status().serial);
    // Of other names nobody is shown it, nor when it has ended.
    assert_eq!(scene.replica(&["c.example"]).serial(), None);
    scene.clock.advance(91 * DAY);
    assert_eq!(scene.replica(&["a.example", "c.example"]).serial(), None);
}

#[tokio::test]
async fn a_suggestion_of_never_is_not_followed() {
    let scene = Scene::new();
    let mut one = scene.replica(&["a.example"]);
    one.round().await;
    let own = one.status().orders_at;
    let now = scene.clock.now().unix;
    scene.desk.lock().expect("a desk").suggestion = Some(Suggestion {
        window: (now + 1000 * DAY, now + 1001 * DAY),
        ask_again: None,
    });
    one.round().await;
    assert_eq!(one.status().orders_at, own);
}

#[tokio::test]
async fn one_order_that_fails_leaves_the_others_as_they_were() {
    let scene = Scene::new();
    let mut one = scene.replica(&["a.example"]);
    let orders = [owned(&["a.example"]), owned(&["b.example"])];
    one.acme.want(&orders);
    scene.fail("the CA refuses: no", None);
    one.round().await;
    one.round().await;
    let issued: Vec<bool> = orders
        .iter()
        .map(|names| one.acme.issued(names).is_some())
        .collect();
    assert_eq!(issued.iter().filter(|&&issued| issued).count(), 1);

    // What is not wanted any more is not ordered, and is found again when it is.
    one.acme.want(&[]);
    scene.clock.advance(DAY);
    one.round().await;
    assert_eq!(scene.orders(), 2);
    assert!(one.acme.statuses().is_empty());
    one.acme.want(&orders);
    let again: Vec<bool> = orders
        .iter()
        .map(|names| one.acme.issued(names).is_some())
        .collect();
    assert_eq!(issued, again);
}

#[tokio::test]
async fn a_certificate_on_disk_that_is_damaged_is_ordered_anew() {
    let scene = Scene::new();
    let mut one = scene.replica(&["a.example"]);
    one.round().await;
    let file = pem_file(&Names::of(&one.names));
    scene.folder().replace(&file, b"nothing").expect("written");
    let mut restarted = scene.replica(&["a.example"]);
    assert_eq!(restarted.serial(), None);
    restarted.round().await;
    assert!(restarted.serial().is_some());
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_keep_anything_waiting() {
    let mut scene = Scene::new();
    scene.fail("the CA refuses: no", None);
    scene.clock.advance(1000 * DAY);
    let mut one = scene.replica(&["a.example"]);
    one.round().await;
    assert!(one.status().last_failure.is_some());

    let now = Now {
        unix: START,
        ..SystemClock.now()
    };
    scene.clock = ManualClock::at(now);
    let mut restarted = scene.replica(&["a.example"]);
    assert_eq!(restarted.status().last_failure, None);
    restarted.round().await;
    assert!(restarted.serial().is_some());
}

#[test]
fn what_was_noted_before_the_clock_was_set_back_says_nothing() {
    let mut course = Course::new(Names::of(&owned(&["a.example"])));
    let ahead = START + 1000 * DAY;
    course.trouble = Some(Trouble::after(None, ahead, String::new(), None, 0.5));
    assert!(course.due_at(ahead) > ahead);
    assert_eq!(course.due_at(START), Duration::ZERO);
}
