//! Reloads against files that change at the worst moment. The clock stands still but for the looks.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::clock::{Clock, ManualClock, SystemClock};
use crate::credentials::Credentials;
use crate::credentials::azure::{AzureSource, Settings};
use crate::entra::{Authority, Entra};
use crate::files::Span;
use crate::limits::LimitStore;
use crate::net::address::SystemResolver;
use crate::net::client::Client;
use crate::net::tls;
use crate::upstream::Endpoints;

/// A folder with a gateway.yaml and policies, and what watches them.
struct Site {
    folder: tempfile::TempDir,
    clock: ManualClock,
    snapshot: Arc<ArcSwap<Snapshot>>,
    reloader: Arc<Reloader>,
    documents: Option<Documents>,
}

/// A policy of one route at `path`.
fn policy(path: &str) -> String {
    format!("{}{}", backend("http: 'http://127.0.0.1:9'"), route(path))
}

fn backend(rest: &str) -> String {
    format!("backends:\n  b: {{ {rest}, credential: none }}\n")
}

fn route(path: &str) -> String {
    format!(
        "routes:\n  r: {{ match: {{ methods: [GET], path: {path} }}, backend: b, public: true }}\n"
    )
}

fn lasting(clock: &ManualClock) -> Lasting {
    tls::install_provider();
    let client = Client::of_platform(Arc::new(SystemResolver));
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let handle = tokio::runtime::Handle::current();
    let azure = AzureSource::new(&Settings {
        platform: &client,
        authority: &client,
        vault: &client,
        authority_url: "https://127.0.0.1:9".to_owned(),
        clock: Arc::clone(&clock),
    });
    let authority = Authority::new(&http::Uri::from_static("https://127.0.0.1:9"), client);
    Lasting {
        entra: Entra::new(Arc::clone(&clock), authority, None, handle.clone(), 8),
        credentials: Credentials::new(Arc::clone(&clock), Arc::new(azure), handle),
        endpoints: Endpoints::default(),
        limits: LimitStore::new(Arc::clone(&clock), None),
        ring: Arc::new(crate::seal::Ring::random().expect("a ring")),
        fingerprint_key: Arc::new(crate::fingerprint::FingerprintKey::random()),
        clock,
    }
}

impl Site {
    /// With these policy files. `meanwhile` is run by every reload, once the files have been read.
    fn new(files: &[(&str, &str)], meanwhile: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        Self::applying(files, move |folder, _| meanwhile(folder))
    }

    /// The same, where it may also say that something is wrong.
    fn applying(
        files: &[(&str, &str)],
        meanwhile: impl Fn(&Path, &mut Diagnostics) + Send + Sync + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = ManualClock::at(SystemClock.now());
        fs::create_dir(folder.path().join("policies")).expect("a folder");
        for (name, text) in files {
            fs::write(folder.path().join("policies").join(name), text).expect("written");
        }
        let path = folder.path().join("gateway.yaml");
        fs::write(&path, gateway("policies")).expect("written");
        let lasting = Arc::new(lasting(&clock));
        let mut faults = Diagnostics::new();
        let documents = Documents::read(&path, &mut faults);
        let documents = documents.unwrap_or_else(|| panic!("{}", faults.render()));
        let snapshot = documents.compile(&lasting, &mut faults);
        let snapshot = snapshot.unwrap_or_else(|| panic!("{}", faults.render()));
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let place = folder.path().to_owned();
        let apply: Apply = Box::new(move |_, diagnostics| meanwhile(&place, diagnostics));
        let reloader = Reloader::new(&path, lasting, Arc::clone(&snapshot), apply);
        Self {
            folder,
            clock,
            snapshot,
            reloader,
            documents: Some(documents),
        }
    }

    /// Begins to watch, and waits for the first look.
    async fn watch(&mut self) {
        let documents = self.documents.take().expect("not watched yet");
        tokio::spawn(Arc::clone(&self.reloader).watch(documents));
        self.look().await;
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("written");
    }

    /// The path of the route in force.
    fn path(&self) -> String {
        let snapshot = self.snapshot.load();
        let route = snapshot.rules.policy.routes().first();
        route.expect("a route").taken().path.to_string()
    }

    fn counts(&self) -> (u64, u64) {
        let reloads = self.reloader.reloads();
        let reloads = reloads.borrow();
        (reloads.taken, reloads.refused)
    }

    /// Looks again and again until what was written is in force, and for a while after.
    async fn looks_until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = SystemClock.now().instant;
        while !holds(self) {
            let waited = SystemClock.now().instant.duration_since(begun);
            assert!(
                waited.as_secs() < 20,
                "waited in vain: {what}, {:?}",
                self.counts()
            );
            self.look().await;
        }
        for _ in 0..5 {
            self.look().await;
        }
    }

    /// One look of the reloader's. What it does that blocks may go on.
    async fn look(&self) {
        self.clock.advance(LOOK_EVERY);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

fn gateway(policies: &str) -> String {
    format!(
        "listen: {{ address: '127.0.0.1:0', tls: platform }}\npolicies: {policies}\nentra: {{ authority: 'https://127.0.0.1:9' }}\n"
    )
}

#[tokio::test]
async fn a_file_that_is_written_while_the_files_are_read_is_not_missed() {
    let reloads = AtomicU64::new(0);
    let mut site = Site::new(&[("p.yaml", &policy("/one"))], move |folder| {
        // Just after the first reload has read `/two`.
        if reloads.fetch_add(1, Ordering::Relaxed) == 0 {
            fs::write(folder.join("policies/p.yaml"), policy("/three")).expect("written");
        }
    });
    site.watch().await;
    site.write("policies/p.yaml", &policy("/two"));
    site.looks_until("the last", |site| site.path() == "/three")
        .await;
    assert_eq!(site.counts(), (2, 0));
}

#[tokio::test]
async fn a_file_that_is_written_while_the_gateway_starts_is_not_missed() {
    let mut site = Site::new(&[("p.yaml", &policy("/one"))], |_| ());
    // Read, compiled and in force, and not watched yet.
    site.write("policies/p.yaml", &policy("/two"));
    site.watch().await;
    site.looks_until("the write", |site| site.path() == "/two")
        .await;
    assert_eq!(site.counts(), (1, 0));
}

#[tokio::test]
async fn files_that_a_reload_names_for_the_first_time_are_no_second_change() {
    let mut site = Site::new(&[("p.yaml", &policy("/one"))], |_| ());
    site.watch().await;
    let ca = crate::demo::ca::Ca::new().expect("a CA");
    site.write("ca.crt", ca.pem());
    let named = backend("http: 'https://localhost:9', ca: ../ca.crt") + &route("/two");
    site.write("policies/p.yaml", &named);
    site.looks_until("the CA", |site| site.path() == "/two")
        .await;
    assert_eq!(site.counts(), (1, 0));
}

#[tokio::test]
async fn what_a_refused_reload_names_is_watched_for_its_repair() {
    let mut site = Site::new(&[("p.yaml", &policy("/one"))], |_| ());
    site.watch().await;
    fs::create_dir(site.folder.path().join("other")).expect("a folder");
    site.write("other/p.yaml", "routes: [");
    site.write("gateway.yaml", &gateway("other"));
    site.looks_until("the refusal", |site| site.counts().1 > 0)
        .await;
    assert_eq!(site.counts(), (0, 1), "what stays at fault is told once");
    assert_eq!(site.path(), "/one");
    site.write("other/p.yaml", &policy("/two"));
    site.looks_until("the repair", |site| site.path() == "/two")
        .await;
    assert_eq!(site.counts(), (1, 1));

    // A file that is missing, beside the policies, until somebody brings it.
    let secret = "backends:\n  b: { http: 'https://localhost:9', credential: { functionKey: { file: b.key } } }\n";
    site.write("other/p.yaml", &(secret.to_owned() + &route("/three")));
    site.looks_until("the refusal", |site| site.counts().1 > 1)
        .await;
    assert_eq!(site.counts(), (1, 2), "what stays missing is told once");
    site.write("other/b.key", "planted-key");
    site.looks_until("the key", |site| site.path() == "/three")
        .await;
    assert_eq!(site.counts(), (2, 2));
}

#[tokio::test]
async fn files_that_still_change_are_not_taken() {
    let mut site = Site::new(&[("a.yaml", &policy("/one"))], |_| ());
    site.watch().await;
    let (names, routes) = (backend("http: 'http://127.0.0.1:9'"), route("/two"));
    // Moved from one file into two, a step between each two looks. None of them compiles but the last.
    for step in [
        |site: &Site, names: &str, _: &str| site.write("policies/a.yaml", names),
        |site: &Site, _: &str, _: &str| site.write("policies/b.yaml", "routes: ["),
        |site: &Site, _: &str, routes: &str| site.write("policies/b.yaml", routes),
    ] {
        step(&site, &names, &routes);
        site.look().await;
        assert_eq!((site.path().as_str(), site.counts()), ("/one", (0, 0)));
    }
    site.looks_until("the whole", |site| site.path() == "/two")
        .await;
    assert_eq!(site.counts(), (1, 0));
}

fn fails(diagnostics: &mut Diagnostics) {
    let file = Span::nowhere_in(Path::new("gateway.yaml"));
    diagnostics.error(&file, "it cannot be read just now");
}

#[tokio::test]
async fn what_failed_for_no_fault_of_the_files_is_tried_again_and_told_once() {
    let reloads = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&reloads);
    let mut site = Site::applying(&[("p.yaml", &policy("/one"))], move |_, diagnostics| {
        if counting.fetch_add(1, Ordering::Relaxed) < 3 {
            fails(diagnostics);
        }
    });
    site.watch().await;
    site.write("policies/p.yaml", &policy("/two"));
    site.looks_until("the refusal", |site| site.counts() == (0, 1))
        .await;
    assert_eq!(site.path(), "/one");
    site.looks_until("another try", |site| site.path() == "/two")
        .await;
    assert_eq!(site.counts(), (1, 1));
    assert_eq!(reloads.load(Ordering::Relaxed), 4);
    // It is over then.
    for _ in 0..2 * LAST_TRY {
        site.look().await;
    }
    assert_eq!(reloads.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn files_that_a_refused_reload_did_not_come_to_are_watched_on() {
    let site = Site::new(&[("p.yaml", &policy("/one"))], |_| ());
    let whole = &site.documents.as_ref().expect("read").look;
    let mut partial = Look::default();
    partial.at_file(&site.folder.path().join("gateway.yaml"));
    let watched = partial.and(whole);
    assert_eq!(watched, *whole);
    site.write("policies/p.yaml", &policy("/three"));
    assert_ne!(watched.again(), watched);
}
