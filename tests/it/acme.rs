//! Certificates from a real CA: Pebble, by which Let's Encrypt tests what speaks ACME. It rejects one nonce in twenty.

mod gateway;
mod pebble;
mod servers;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portcullis::acme::{Acme, Challenge, ExternalAccount, Issued, Settings, Status};
use portcullis::clock::{Clock, Now, Sleep, SystemClock, within};
use portcullis::credentials::Held;
use portcullis::net::address::SystemResolver;
use portcullis::net::client::Client;
use portcullis::net::tls::{Roots, client_config};
use portcullis::secret::Secret;
use tokio::task::JoinHandle;

use pebble::Pebble;
use servers::{http, meet, tls};

/// A clock that runs fifty times as fast as the machine's: what is waited for here is another process.
struct HastyClock(Now);

const HASTE: u32 = 50;

impl HastyClock {
    fn start() -> Arc<Self> {
        Arc::new(Self(SystemClock.now()))
    }
}

impl Clock for HastyClock {
    fn now(&self) -> Now {
        let elapsed = SystemClock.instant() - self.0.instant;
        self.0.later(elapsed * HASTE)
    }

    fn instant(&self) -> Instant {
        self.now().instant
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        SystemClock.sleep(duration / HASTE)
    }
}

/// One gateway's part in it, which runs until it is dropped.
struct Replica {
    acme: Arc<Acme>,
    running: JoinHandle<()>,
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Replica {
    fn start(settings: Settings) -> Self {
        let acme = Acme::open(settings).expect("opened");
        let running = tokio::spawn(Arc::clone(&acme).run());
        Self { acme, running }
    }

    async fn issued(&self, names: &[&str]) -> Arc<Issued> {
        let names = owned(names);
        let mut changes = self.acme.changes();
        let waiting = async {
            loop {
                if let Some(issued) = self.acme.issued(&names) {
                    return issued;
                }
                changes.changed().await.expect("a sender");
            }
        };
        let issued = within(Duration::from_secs(60), waiting).await;
        issued.unwrap_or_else(|| panic!("waited in vain: {:#?}", self.acme.statuses()))
    }

    async fn failed(&self) -> Status {
        let waiting = async {
            loop {
                let mut statuses = self.acme.statuses();
                statuses.retain(|status| status.last_failure.is_some());
                if let Some(status) = statuses.pop() {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        within(Duration::from_secs(60), waiting)
            .await
            .expect("a failure")
    }
}

fn settings(pebble: &Pebble, folder: &Path, challenge: Challenge) -> Settings {
    Settings {
        directory: pebble.directory(),
        contact: vec!["mailto:ops@contoso.com".to_owned()],
        external_account: None,
        challenge,
        folder: folder.join("acme"),
        client: client(pebble.server_root()),
        clock: HastyClock::start(),
    }
}

fn client(root: &str) -> Client {
    let tls = client_config(&Roots::Pem(root.as_bytes().to_vec()), &[]).expect("roots");
    Client::new(&tls, Arc::new(SystemResolver))
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).expect("set");
    folder
}

#[tokio::test]
async fn names_are_proved_over_tls_and_the_certificate_is_good_for_callers() {
    let (listener, port) = servers::listen().await;
    let pebble = Pebble::start(pebble::Ports { tls: port, http: 1 }, None).await;
    let folder = folder();
    let replica = Replica::start(settings(&pebble, folder.path(), Challenge::TlsAlpn01));
    tls(listener, Arc::clone(&replica.acme));
    let names = ["api.contoso.example", "www.contoso.example"];
    replica.acme.want(&[owned(&names)]);
    let issued = replica.issued(&names).await;

    let root = pebble.root().await;
    for name in names {
        meet(&issued, &root, name).await.expect("trusted");
    }
    let other = meet(&issued, &root, "admin.contoso.example").await;
    assert!(other.is_err(), "for its names alone");
    assert!(replica.acme.alpn_answer(names[0]).is_none(), "it is over");

    let statuses = replica.acme.statuses();
    let (status, serial) = (&statuses[0], Some(issued.serial.clone()));
    assert_eq!((&status.serial, &status.last_failure), (&serial, &None));

    // A restart needs no CA.
    let again = settings(&pebble, folder.path(), Challenge::TlsAlpn01);
    drop((pebble, replica));
    let restarted = Acme::open(again).expect("opened");
    restarted.want(&[owned(&names)]);
    let kept = restarted.issued(&owned(&names)).expect("kept");
    assert_eq!(kept.serial, issued.serial);
    assert_eq!(kept.key.secret_der(), issued.key.secret_der());
}

#[tokio::test]
async fn names_are_proved_over_http_by_whichever_replica_the_ca_comes_to() {
    let (listener, port) = servers::listen().await;
    let pebble = Pebble::start(pebble::Ports { tls: 1, http: port }, None).await;
    let folder = folder();
    let new = || Replica::start(settings(&pebble, folder.path(), Challenge::Http01));
    let (orders, answers) = (new(), new());
    http(listener, Arc::clone(&answers.acme));
    let names = ["api.contoso.example"];
    orders.acme.want(&[owned(&names)]);
    let issued = orders.issued(&names).await;
    meet(&issued, &pebble.root().await, names[0])
        .await
        .expect("trusted");

    // The other wants it later, and need not order it.
    answers.acme.want(&[owned(&names)]);
    assert_eq!(answers.issued(&names).await.serial, issued.serial);
}

#[tokio::test]
async fn what_the_ca_says_of_a_failure_is_told_and_it_is_tried_again() {
    let (listener, port) = servers::listen().await;
    let pebble = Pebble::start(pebble::Ports { tls: 1, http: port }, None).await;
    let folder = folder();
    let replica = Replica::start(settings(&pebble, folder.path(), Challenge::Http01));
    let names = ["api.contoso.example"];
    let lost = Acme::open(settings(&pebble, self::folder().path(), Challenge::Http01));
    let wrong = http(listener, lost.expect("opened"));
    replica.acme.want(&[owned(&names)]);
    let status = replica.failed().await;
    let failure = status.last_failure.expect("a failure");
    assert!(
        failure.starts_with("the CA refuses: api.contoso.example: "),
        "{failure}"
    );
    assert!(
        failure.ends_with("returned 404 (unauthorized)"),
        "{failure}"
    );
    assert_eq!(failure.matches("returned 404").count(), 1, "{failure}");
    assert_eq!(replica.acme.http_answer("any"), None);

    wrong.answer_for(Arc::clone(&replica.acme));
    replica.issued(&names).await;
    assert_eq!(replica.acme.statuses()[0].last_failure, None);
}

#[tokio::test]
async fn a_ca_that_has_lost_the_account_gets_another() {
    let (listener, port) = servers::listen().await;
    let ports = pebble::Ports { tls: port, http: 1 };
    let pebble = Pebble::start(ports, None).await;
    let folder = folder();
    let replica = Replica::start(settings(&pebble, folder.path(), Challenge::TlsAlpn01));
    tls(listener, Arc::clone(&replica.acme));
    replica.acme.want(&[owned(&["a.contoso.example"])]);
    replica.issued(&["a.contoso.example"]).await;

    let pebble = pebble.restart().await;
    let both = [owned(&["a.contoso.example"]), owned(&["b.contoso.example"])];
    replica.acme.want(&both);
    let issued = replica.issued(&["b.contoso.example"]).await;
    meet(&issued, &pebble.root().await, "b.contoso.example")
        .await
        .expect("trusted");
}

#[tokio::test]
async fn a_ca_that_wants_to_know_whom_it_deals_with_is_told() {
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let (listener, port) = servers::listen().await;
    let ports = pebble::Ports { tls: port, http: 1 };
    let pebble = Pebble::start(ports, Some(("kid-1", KEY))).await;
    let with = |folder: &Path, key: Option<&str>| {
        let held = |key: &str| ExternalAccount {
            key_id: "kid-1".to_owned(),
            hmac_key: Held::Fixed(Secret::new(key.to_owned())),
        };
        Replica::start(Settings {
            external_account: key.map(held),
            ..settings(&pebble, folder, Challenge::TlsAlpn01)
        })
    };
    let names = ["a.contoso.example"];
    for (key, said) in [
        (None, "externalAccountRequired"),
        (Some("AAAA"), "the CA refuses: "),
        (Some("!"), "acme.externalAccount.hmacKey is not base64"),
    ] {
        let folder = folder();
        let replica = with(folder.path(), key);
        replica.acme.want(&[owned(&names)]);
        let failure = replica.failed().await.last_failure.expect("a failure");
        assert!(failure.contains(said), "{failure}");
    }
    let folder = folder();
    let replica = with(folder.path(), Some(KEY));
    tls(listener, Arc::clone(&replica.acme));
    replica.acme.want(&[owned(&names)]);
    replica.issued(&names).await;
}
