//! Limits that many replicas share by one Redis: however it fares, together they admit what one would.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis::clock::{Clock, SystemClock, pause};
use portcullis::demo::ca::Ca;
use portcullis::limits::shared::{
    Authentication, Meter, Node, OnStoreFailure, Rate, Settings, Shared, State, Taken,
};
use portcullis::net::tls::Roots;
use portcullis::secret::Secret;
use tokio::runtime::{Handle, Runtime};

use crate::support::patiently;
use crate::support::redis::{Open, Redis, Road, until};

/// What ten replicas share in these tests.
const LIMIT: u64 = 2_000;
const TEN: usize = 10;
/// What one of ten leases at a time: `LIMIT / (40 * 10)`.
const BATCH: u64 = 5;

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// So many in a day that ends tomorrow.
fn daily(capacity: u64) -> Rate {
    let ends = SystemClock.now().unix + Duration::from_secs(86_400);
    Rate {
        capacity,
        per_second: 0.0,
        ends: Some(ends),
    }
}

fn settings(node: Node) -> Settings {
    Settings::new(node)
}

fn start(settings: Settings) -> Arc<Shared> {
    Shared::start(settings, Arc::new(SystemClock), &Handle::current())
}

async fn met(shared: &Shared) {
    state(shared, |state| state.reachable).await;
}

async fn state(shared: &Shared, fits: impl Fn(&State) -> bool) {
    let waiting = async {
        while !fits(&shared.state()) {
            pause(Duration::from_millis(2)).await;
        }
    };
    patiently(waiting).await;
}

async fn take(meter: &Arc<Meter>) -> Taken {
    meter.take(1, &SystemClock.now()).await
}

/// Takes until that is refused; how often it was granted.
async fn drain(meter: &Arc<Meter>) -> u64 {
    let mut granted = 0;
    while let Taken::Granted { .. } = patiently(take(meter)).await {
        granted += 1;
    }
    granted
}

/// Ten replicas with callers who never tire, each on a road of its own.
struct Ten {
    roads: Vec<Road>,
    shared: Vec<Arc<Shared>>,
    admitted: Arc<AtomicU64>,
    /// Refusals since it was last asked, by replica.
    refused: Vec<Arc<AtomicU64>>,
    over: Arc<AtomicBool>,
}

impl Ten {
    /// `pace` is between two requests of one replica.
    async fn start(redis: &Redis, rate: Rate, pace: Duration) -> Self {
        let admitted = Arc::new(AtomicU64::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let (mut roads, mut shared, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..TEN {
            let road = Road::to(redis.address()).await;
            shared.push(start(settings(road.node())));
            roads.push(road);
        }
        for replica in &shared {
            state(replica, |state| {
                state.reachable && state.replicas == TEN as u64
            })
            .await;
            let refusals = Arc::new(AtomicU64::new(0));
            refused.push(Arc::clone(&refusals));
            let meter = replica.meter("contoso", rate);
            let (admitted, over) = (Arc::clone(&admitted), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    match take(&meter).await {
                        Taken::Granted { .. } => admitted.fetch_add(1, Ordering::Relaxed),
                        Taken::Refused { .. } => refusals.fetch_add(1, Ordering::Relaxed),
                        Taken::Wait => panic!("whoever waits is answered"),
                    };
                    pause(pace).await;
                }
            });
        }
        Self {
            roads,
            shared,
            admitted,
            refused,
            over,
        }
    }

    fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let begun = SystemClock.instant();
        while !condition(self) {
            let waited = SystemClock.instant().duration_since(begun);
            assert!(
                waited.as_secs() < 20,
                "waited in vain for {what}: {}",
                self.admitted()
            );
            pause(Duration::from_millis(1)).await;
        }
    }

    async fn until_admitted(&self, many: u64) {
        self.until("admissions", |ten| ten.admitted() >= many).await;
    }

    /// Nobody is let in any more: each was refused so often since this was called, and each has its road.
    async fn until_dry(&self) {
        for replica in &self.shared {
            state(replica, |state| state.reachable && state.unheard == 0).await;
        }
        self.until_admitted(LIMIT * 95 / 100).await;
        self.refused
            .iter()
            .for_each(|refused| refused.store(0, Ordering::Relaxed));
        let often = |refused: &Arc<AtomicU64>| refused.load(Ordering::Relaxed) > 100;
        self.until("refusals", |ten| ten.refused.iter().all(often))
            .await;
    }

    /// What the limit promises, when all is well again.
    async fn assert_kept(&self) {
        self.until_dry().await;
        let admitted = self.admitted();
        let most = LIMIT + TEN as u64 * BATCH;
        assert!(
            (LIMIT * 95 / 100..=most).contains(&admitted),
            "admitted {admitted}"
        );
    }
}

impl Drop for Ten {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Callers who come as fast as they are answered, and some who take their time.
const PACES: [Duration; 2] = [Duration::ZERO, Duration::from_millis(15)];

/// Lets ten replicas run into a limit, and something happen when a quarter is spent.
fn ten(happens: impl AsyncFn(&mut Redis, &Ten)) {
    for pace in PACES {
        let runtime = runtime();
        let mut redis = Redis::start();
        runtime.block_on(async {
            let ten = Ten::start(&redis, daily(LIMIT), pace).await;
            ten.until_admitted(LIMIT / 4).await;
            happens(&mut redis, &ten).await;
            ten.assert_kept().await;
        });
    }
}

/// Long enough for a replica to know that it is cut off, and to live by its share.
async fn outage(ten: &Ten) {
    let locally = |replica: &Arc<Shared>| replica.state().admitted_locally;
    let before: u64 = ten.shared.iter().map(locally).sum();
    let begun = SystemClock.instant();
    // By then those who are cut off live by their share, whatever it is.
    ten.until("an outage", |ten| {
        let waited = SystemClock.instant().duration_since(begun);
        let admitted: u64 = ten.shared.iter().map(locally).sum();
        waited > Duration::from_millis(900) && (admitted > before || waited.as_secs() > 2)
    })
    .await;
}

#[test]
fn ten_replicas_admit_what_is_theirs_together() {
    ten(async |_, _| {});
}

#[test]
fn ten_replicas_keep_a_limit_while_redis_is_restarted_empty() {
    ten(async |redis, _| {
        redis.kill();
        redis.start_again();
    });
}

#[test]
fn ten_replicas_keep_a_limit_while_redis_is_gone_for_long_and_comes_back_empty() {
    ten(async |redis, ten| {
        redis.kill();
        outage(ten).await;
        redis.start_again();
    });
}

#[test]
fn ten_replicas_keep_a_limit_while_redis_is_paused() {
    ten(async |redis, ten| {
        redis.pause();
        outage(ten).await;
        redis.resume();
    });
}

#[test]
fn ten_replicas_keep_a_limit_while_some_are_cut_off() {
    for (open, many) in [(Open::Refused, 5), (Open::Nowhere, 5), (Open::Refused, 1)] {
        ten(async |_, ten| {
            ten.roads.iter().take(many).for_each(|road| road.set(open));
            outage(ten).await;
            ten.roads.iter().for_each(|road| road.set(Open::Through));
        });
    }
}

#[test]
fn ten_replicas_keep_a_limit_while_all_are_cut_off() {
    for open in [Open::Refused, Open::Nowhere] {
        ten(async |_, ten| {
            ten.roads.iter().for_each(|road| road.set(open));
            outage(ten).await;
            ten.roads.iter().for_each(|road| road.set(Open::Through));
        });
    }
}

#[test]
fn ten_replicas_keep_a_limit_while_roads_open_and_close_in_turn() {
    ten(async |_, ten| {
        for road in &ten.roads {
            road.set(Open::Refused);
            pause(Duration::from_millis(40)).await;
            road.set(Open::Through);
        }
    });
}

/// A limit that leaks all the time: whoever is cut off, over any time it lets pass no more than its burst, and what
/// leaks in that time.
#[test]
fn ten_replicas_keep_a_rate_while_some_are_cut_off_and_afterwards() {
    let rate = Rate {
        capacity: 400,
        per_second: 400.0,
        ends: None,
    };
    let runtime = runtime();
    let redis = Redis::start();
    runtime.block_on(async {
        let begun = SystemClock.instant();
        let ten = Ten::start(&redis, rate, Duration::from_millis(1)).await;
        let kept = |ten: &Ten| {
            let admitted = ten.admitted();
            let leaked = SystemClock.instant().duration_since(begun).as_secs_f64() * 400.0;
            let most = 400.0 + leaked + TEN as f64;
            assert!(admitted as f64 <= most, "{admitted} of {most}");
        };
        for open in [Open::Refused, Open::Through, Open::Nowhere, Open::Through] {
            ten.roads.iter().take(4).for_each(|road| road.set(open));
            let until = ten.admitted() + 400;
            ten.until("admissions", |ten| {
                kept(ten);
                ten.admitted() >= until
            })
            .await;
        }
    });
}

/// Runs a test with one Redis.
fn with_redis(redis: Redis, test: impl AsyncFnOnce(&mut Redis)) {
    let mut redis = redis;
    runtime().block_on(async { test(&mut redis).await });
}

#[test]
fn what_remains_is_told_and_what_is_refused_says_until_when() {
    with_redis(Redis::start(), async |redis| {
        let shared = start(settings(redis.node()));
        met(&shared).await;
        let rate = Rate {
            capacity: 2,
            per_second: 0.1,
            ends: None,
        };
        let meter = shared.meter("slow", rate);
        assert_eq!(take(&meter).await, Taken::Granted { remaining: 1 });
        assert_eq!(take(&meter).await, Taken::Granted { remaining: 0 });
        let Taken::Refused { retry_after } = take(&meter).await else {
            panic!("the third of two");
        };
        let (least, most) = (Duration::from_secs(5), Duration::from_secs(10));
        assert!(
            retry_after > least && retry_after <= most,
            "{retry_after:?}"
        );
        // Known to be dry, it is not asked for.
        assert!(matches!(
            meter.try_take(1, &SystemClock.now()),
            Taken::Refused { .. }
        ));

        meter.give_back(1);
        let again = meter.try_take(1, &SystemClock.now());
        assert_eq!(again, Taken::Granted { remaining: 0 });

        let quota = shared.meter("quota", daily(1));
        assert_eq!(take(&quota).await, Taken::Granted { remaining: 0 });
        let Taken::Refused { retry_after } = take(&quota).await else {
            panic!("the second of one");
        };
        let day = Duration::from_secs(86_400);
        assert!(
            retry_after <= day && retry_after > day / 2,
            "{retry_after:?}"
        );
        let two = quota.take(2, &SystemClock.now()).await;
        assert!(
            matches!(two, Taken::Refused { .. }),
            "more than ever fits: {two:?}"
        );
    });
}

#[test]
fn most_requests_do_not_wait_for_the_store() {
    with_redis(Redis::start(), async |redis| {
        let shared = start(settings(redis.node()));
        met(&shared).await;
        let meter = shared.meter("contoso", daily(4_000));
        assert!(matches!(take(&meter).await, Taken::Granted { .. }));
        for _ in 0..2_000 {
            assert!(matches!(
                patiently(take(&meter)).await,
                Taken::Granted { .. }
            ));
            tokio::task::yield_now().await;
        }
        let State { waits, leases, .. } = shared.state();
        assert!(
            leases <= 2_000 / 50 + 3,
            "{leases} leases, of a hundred each"
        );
        assert!(waits <= leases, "{waits} waits, {leases} leases");
    });
}

#[test]
fn what_one_replica_keeps_back_goes_to_another_that_wants_it() {
    with_redis(Redis::start(), async |redis| {
        let (one, other) = (start(settings(redis.node())), start(settings(redis.node())));
        for shared in [&one, &other] {
            state(shared, |state| state.replicas == 2).await;
        }
        let rate = daily(400);
        assert!(matches!(
            take(&one.meter("contoso", rate)).await,
            Taken::Granted { .. }
        ));
        // All but what the first has leased: a batch of five.
        let drained = drain(&other.meter("contoso", rate)).await;
        assert!((380..=399).contains(&drained), "{drained}");
    });
}

#[test]
fn who_leaves_gives_everything_back_and_is_forgotten() {
    with_redis(Redis::start(), async |redis| {
        let rate = daily(400);
        let first = start(settings(redis.node()));
        met(&first).await;
        for _ in 0..30 {
            assert!(matches!(
                take(&first.meter("contoso", rate)).await,
                Taken::Granted { .. }
            ));
        }
        patiently(first.leave()).await;
        drop(first);

        let second = start(settings(redis.node()));
        met(&second).await;
        assert_eq!(second.state().replicas, 1);
        assert_eq!(drain(&second.meter("contoso", rate)).await, 370);
    });
}

#[test]
fn every_key_in_redis_expires() {
    with_redis(Redis::start(), async |redis| {
        let shared = start(settings(redis.node()));
        met(&shared).await;
        let leaking = |capacity, per_second| Rate {
            capacity,
            per_second,
            ends: None,
        };
        for (name, rate) in [
            ("quota", daily(10)),
            ("fast", leaking(10, 100.0)),
            ("slow", leaking(10, 0.01)),
            ("never", leaking(10, 0.0)),
        ] {
            drain(&shared.meter(name, rate)).await;
        }
        // Somebody wants more than is left, so that there is a recall too.
        let keys = redis.keys();
        assert_eq!(keys.len(), 5, "{keys:?}");
        for (key, left) in keys {
            let most = match key.rsplit(':').next() {
                Some("quota" | "never") => 86_400_000 + 120_000,
                Some("fast") => 120_100,
                Some("slow") => 1_000_000 + 120_000,
                Some("group") => 3_600_000,
                other => panic!("{other:?}"),
            };
            assert!(left > 0 && left <= most, "{key} {left}");
        }
    });
}

#[test]
fn meters_in_memory_are_bounded_and_those_beyond_share_one() {
    with_redis(Redis::start(), async |redis| {
        let mut settings = settings(redis.node());
        settings.most_meters = 10;
        let shared = start(settings);
        met(&shared).await;
        let (rate, mut granted) = (daily(3), Vec::new());
        for at in 0..100 {
            let meter = shared.meter(&format!("caller {at}"), rate);
            granted.push(matches!(take(&meter).await, Taken::Granted { .. }));
        }
        assert_eq!(shared.state().meters, 11);
        let yes = |granted: &[bool]| granted.iter().filter(|granted| **granted).count();
        assert_eq!((yes(&granted[..10]), yes(&granted[10..])), (10, 3));
        // Who fills one limit leaves room in another of the same rate.
        let meter = shared.meter("orders/daily/caller", rate);
        assert_eq!(drain(&meter).await, 3);
    });
}

#[test]
fn a_server_that_forgets_its_scripts_learns_them_again() {
    with_redis(Redis::start(), async |redis| {
        let shared = start(settings(redis.node()));
        met(&shared).await;
        for name in ["one", "two", "three"] {
            redis.tell(&["SCRIPT", "FLUSH"]);
            assert_eq!(drain(&shared.meter(name, daily(20))).await, 20);
        }
        assert_eq!(shared.state().failures, 0);
    });
}

#[test]
fn a_store_that_lets_join_and_answers_no_question_is_asked_later_and_later() {
    with_redis(Redis::start(), async |redis| {
        let shared = start(settings(redis.node()));
        met(&shared).await;
        let meter = shared.meter("contoso", daily(5));
        let begun = SystemClock.instant();
        // Who is known may join a store that is full.
        redis.tell(&["CONFIG", "SET", "maxmemory", "1"]);
        take(&meter).await;
        state(&shared, |state| state.failures >= 8).await;
        assert!(begun.elapsed() >= Duration::from_millis(500));
    });
}

/// Puts something else in place of a meter whose name ends so; the key.
fn put_astray(redis: &Redis, name: &str) -> String {
    let mut keys = redis.keys().into_iter().map(|(key, _)| key);
    let key = keys.find(|key| key.ends_with(name)).expect("a meter");
    redis.tell(&["SET", &key, "of another kind"]);
    key
}

#[test]
fn a_key_of_another_kind_takes_the_store_away_from_its_own_meter_alone_and_until_it_is_gone() {
    for (on_failure, locally, afterwards) in [
        (OnStoreFailure::Deny, 0, 20),
        (OnStoreFailure::Allow, 100, 0),
        // Alone, its share is all that was left.
        (OnStoreFailure::LocalShare, 20, 0),
    ] {
        with_redis(Redis::start(), async |redis| {
            let mut settings = settings(redis.node());
            settings.on_failure = on_failure;
            let shared = start(settings);
            met(&shared).await;
            let meter = shared.meter("orders/daily/one", daily(30));
            let other = shared.meter("orders/daily/other", daily(30));
            for _ in 0..10 {
                assert!(matches!(take(&meter).await, Taken::Granted { .. }));
                assert!(matches!(take(&other).await, Taken::Granted { .. }));
            }
            let key = put_astray(redis, "orders/daily/one");
            let mut granted = 0;
            for _ in 0..100 {
                granted += u64::from(matches!(take(&meter).await, Taken::Granted { .. }));
            }
            assert_eq!(granted, locally, "{on_failure:?}");
            assert_eq!(drain(&other).await, 20, "{on_failure:?}");
            assert_eq!(drain(&shared.meter("new", daily(30))).await, 30);
            let State {
                reachable,
                failures,
                astray,
                ..
            } = shared.state();
            assert!(reachable && failures == 0);
            // Which limit it is, and not who is counted there.
            let told: Vec<_> = astray.into_iter().collect();
            let [(named, why)] = told.as_slice() else {
                panic!("{told:?}");
            };
            assert_eq!(format!("{named}one"), key);
            assert!(why.contains("WRONGTYPE"), "{why}");

            redis.tell(&["DEL", &key]);
            let mut more = 0;
            let mended = async {
                while !shared.state().astray.is_empty() {
                    // It is looked at again by whoever uses it.
                    more += u64::from(matches!(take(&meter).await, Taken::Granted { .. }));
                    pause(Duration::from_millis(20)).await;
                }
            };
            patiently(mended).await;
            // What was counted before is remembered, and what was admitted meanwhile is told.
            let drained = drain(&meter).await;
            match on_failure {
                OnStoreFailure::Allow => assert_eq!(drained, afterwards),
                _ => assert_eq!(more + drained, afterwards, "{on_failure:?}"),
            }
        });
    }
}

#[test]
fn a_key_of_another_kind_in_a_cluster_takes_only_its_own_meter_away_too() {
    with_redis(Redis::cluster(), async |redis| {
        let mut settings = settings(redis.node());
        settings.cluster = true;
        settings.on_failure = OnStoreFailure::Deny;
        let shared = start(settings);
        met(&shared).await;
        let meter = shared.meter("orders/daily/one", daily(30));
        assert!(matches!(take(&meter).await, Taken::Granted { .. }));
        put_astray(redis, "orders/daily/one");
        assert_eq!(drain(&meter).await, 0);
        assert_eq!(drain(&shared.meter("new", daily(30))).await, 30);
        assert_eq!(shared.state().failures, 0);
    });
}

#[test]
fn nobody_waits_long_for_a_store_that_does_not_answer() {
    with_redis(Redis::start(), async |redis| {
        let shared = start(settings(redis.node()));
        met(&shared).await;
        let meter = shared.meter("contoso", daily(40));
        redis.pause();
        let begun = SystemClock.instant();
        // One batch may pass without anybody knowing; a second may not, before it is known who is cut off.
        let taken = [take(&meter).await, take(&meter).await];
        let waited = SystemClock.instant().duration_since(begun);
        redis.resume();
        let [Taken::Granted { .. }, Taken::Refused { retry_after }] = taken else {
            panic!("{taken:?}");
        };
        assert!(retry_after > Duration::ZERO);
        assert!(waited < Duration::from_secs(2), "{waited:?}");
        // It is counted afterwards.
        met(&shared).await;
        assert_eq!(drain(&meter).await, 39);
    });
}

/// Kills Redis, waits until the replica lives by itself, and takes so often.
async fn cut_off(redis: &mut Redis, shared: &Shared, meter: &Arc<Meter>, times: u64) -> u64 {
    redis.kill();
    state(shared, |state| !state.reachable).await;
    pause(Duration::from_millis(600)).await;
    let mut granted = 0;
    for _ in 0..times {
        granted += u64::from(matches!(take(meter).await, Taken::Granted { .. }));
    }
    granted
}

#[test]
fn what_holds_without_the_store_is_what_was_chosen_and_is_counted_afterwards() {
    for (on_failure, locally, afterwards) in [
        (OnStoreFailure::Deny, 0, 40),
        (OnStoreFailure::Allow, 100, 0),
        // Alone, its share is all that was left.
        (OnStoreFailure::LocalShare, 40, 0),
    ] {
        with_redis(Redis::start(), async |redis| {
            let mut settings = settings(redis.node());
            settings.on_failure = on_failure;
            let shared = start(settings);
            met(&shared).await;
            let meter = shared.meter("contoso", daily(50));
            for _ in 0..10 {
                assert!(matches!(take(&meter).await, Taken::Granted { .. }));
            }
            let granted = cut_off(redis, &shared, &meter, 100).await;
            assert_eq!(granted, locally, "{on_failure:?}");
            let State { reachable, why, .. } = shared.state();
            assert!(!reachable && !why.is_empty(), "{why}");

            redis.start_again();
            met(&shared).await;
            assert_eq!(drain(&meter).await, afterwards, "{on_failure:?}");
        });
    }
}

/// Somebody whose password changes.
struct Changing(Mutex<(&'static str, &'static str)>);

impl Changing {
    fn new(user: &'static str, password: &'static str) -> Arc<Self> {
        Arc::new(Self(Mutex::new((user, password))))
    }
}

impl Authentication for Changing {
    fn current(&self) -> Option<(String, Secret<String>)> {
        let (user, password) = *self.0.lock().expect("not poisoned");
        Some((user.to_owned(), Secret::new(password.to_owned())))
    }
}

fn signed_in(node: Node, who: &Arc<Changing>) -> Settings {
    let mut settings = settings(node);
    settings.authentication = Some(Arc::clone(who) as Arc<dyn Authentication>);
    settings
}

#[test]
fn a_password_is_asked_for_and_a_wrong_one_is_told_of_without_being_told() {
    with_redis(
        Redis::with(&["--requirepass", "correct-horse"]),
        async |redis| {
            let right = start(signed_in(redis.node(), &Changing::new("", "correct-horse")));
            met(&right).await;
            assert_eq!(drain(&right.meter("contoso", daily(5))).await, 5);

            let wrong = start(signed_in(
                redis.node(),
                &Changing::new("", "battery-staple"),
            ));
            state(&wrong, |state| state.failures > 0).await;
            let State { met, why, .. } = wrong.state();
            assert!(!met);
            assert!(
                why.contains("uthentication") || why.contains("WRONGPASS"),
                "{why}"
            );
            assert!(!why.contains("battery-staple"), "{why}");
            assert!(!format!("{wrong:?}").contains("battery-staple"));
        },
    );
}

#[test]
fn a_token_that_changes_signs_in_anew_on_the_connection_that_there_is() {
    for cluster in [false, true] {
        let redis = if cluster {
            Redis::cluster()
        } else {
            Redis::start()
        };
        with_redis(redis, async |redis| {
            let user = |rest: &[&str]| {
                let words = [&["ACL", "SETUSER", "gateway", "on", "~*", "+@all"], rest].concat();
                redis.tell(&words);
            };
            user(&[">first"]);
            let who = Changing::new("gateway", "first");
            let mut settings = signed_in(redis.node(), &who);
            settings.cluster = cluster;
            let shared = start(settings);
            met(&shared).await;
            let meter = shared.meter("contoso", daily(1_000));
            assert!(matches!(take(&meter).await, Taken::Granted { .. }));

            user(&["resetpass", ">second"]);
            let before = sign_ins(redis);
            assert!(before > 0);
            who.0.lock().expect("not poisoned").1 = "second";
            until("the sign-in", || sign_ins(redis) > before);
            assert_eq!(drain(&meter).await, 999);
            assert_eq!(shared.state().failures, 0);
        });
    }
}

#[test]
fn a_password_of_the_default_user_that_changes_signs_in_anew_too() {
    with_redis(Redis::with(&["--requirepass", "first"]), async |redis| {
        let who = Changing::new("", "first");
        let shared = start(signed_in(redis.node(), &who));
        met(&shared).await;
        let by = |password: &str| {
            let url = format!("redis://:{password}@127.0.0.1:{}", redis.node().port);
            let client = redis::Client::open(url).expect("a client");
            client.get_connection().expect("signed in")
        };
        let mut admin = by("first");
        redis::cmd("CONFIG")
            .arg(&["SET", "requirepass", "second"])
            .exec(&mut admin)
            .expect("changed");
        redis::cmd("CONFIG")
            .arg("RESETSTAT")
            .exec(&mut admin)
            .expect("reset");
        who.0.lock().expect("not poisoned").1 = "second";
        let mut signed = || {
            let stats: String = redis::cmd("INFO")
                .arg("commandstats")
                .query(&mut admin)
                .expect("told");
            stats.contains("cmdstat_auth:")
        };
        until("the sign-in", &mut signed);
        let meter = shared.meter("contoso", daily(5));
        assert_eq!(drain(&meter).await, 5);
        assert_eq!(shared.state().failures, 0);
    });
}

/// How often somebody has signed in.
fn sign_ins(redis: &Redis) -> u64 {
    let stats = format!("{:?}", redis.tell(&["INFO", "commandstats"]));
    let calls = stats.split("cmdstat_auth:calls=").nth(1).unwrap_or("0");
    let digits: String = calls.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

#[test]
fn tls_is_spoken_to_who_proves_itself_by_the_given_authority_and_to_nobody_else() {
    let (ca, another) = (Ca::new().expect("a CA"), Ca::new().expect("a CA"));
    with_redis(Redis::tls(&ca), async |redis| {
        let trusting = |ca: &Ca| {
            let mut settings = settings(redis.node());
            settings.roots = Roots::Pem(ca.pem().as_bytes().to_vec());
            start(settings)
        };
        let shared = trusting(&ca);
        met(&shared).await;
        assert_eq!(drain(&shared.meter("contoso", daily(100))).await, 100);

        let shared = trusting(&another);
        state(&shared, |state| state.failures > 0).await;
        let State { met, why, .. } = shared.state();
        assert!(!met && why.contains("certificate"), "{why}");
    });
}

#[test]
fn a_cluster_keeps_a_limit_too() {
    with_redis(Redis::cluster(), async |redis| {
        let start_one = || {
            let mut settings = settings(redis.node());
            settings.cluster = true;
            start(settings)
        };
        let (one, other) = (start_one(), start_one());
        for shared in [&one, &other] {
            state(shared, |state| state.replicas == 2).await;
        }
        let rate = daily(400);
        let half = [
            take(&one.meter("a", rate)).await,
            take(&other.meter("a", rate)).await,
        ];
        assert!(
            half.iter()
                .all(|taken| matches!(taken, Taken::Granted { .. })),
            "{half:?}"
        );
        let drained = drain(&one.meter("a", rate)).await + drain(&other.meter("a", rate)).await;
        assert_eq!(drained, 398);
    });
}
