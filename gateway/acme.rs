//! Certificates from a CA that speaks ACME (RFC 8555): ordered, kept in a folder, and renewed for as long as the gateway
//! runs. What there is changes nothing by failing: a certificate serves until another has taken its place.
//!
//! [`Acme::run`] does all of it, one order at a time, on a thread that may wait for the folder; the workers read what is ready.

mod account;
mod answers;
mod ca;
mod course;
mod failure;
mod folder;
mod issued;
mod names;
mod schedule;
mod way;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Uri;
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};

pub use account::ExternalAccount;
pub use issued::Issued;

use crate::clock::Clock;
use crate::ids;
use crate::net::client::Client;
use crate::telemetry::{Level, event};
use answers::{Answers, LOOK};
use ca::{Authority, Ca, Pem};
use course::Course;
use failure::Failure;
use folder::Folder;
use names::Names;
use schedule::{Trouble, renew_at};

/// How often it is looked whether another replica has put certificates into the folder.
const REREAD: Duration = Duration::from_mins(1);
/// When another has held the folder's lock for this long, that is told.
const STUCK: Duration = Duration::from_hours(1);

/// An order that is not over by then has failed: others wait behind it, in every replica.
const LONGEST_ORDER: Duration = Duration::from_mins(20);

/// How names are proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// By a certificate that is shown on port 443 (RFC 8737).
    TlsAlpn01,
    /// By a text that is told on port 80 (RFC 8555 section 8.3).
    Http01,
}

impl Challenge {
    /// Every one, with its name.
    pub const NAMES: [(&'static str, Self); 2] =
        [("tls-alpn-01", Self::TlsAlpn01), ("http-01", Self::Http01)];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        }
    }
}

/// From whom certificates come, and where they are kept.
pub struct Settings {
    /// The URL of the CA's directory.
    pub directory: Uri,
    /// Whom the CA writes to: `mailto:` URLs.
    pub contact: Vec<String>,
    /// The account that the CA's operator knows already, where it asks for one.
    pub external_account: Option<ExternalAccount>,
    /// How names are proved.
    pub challenge: Challenge,
    /// Where the account, certificates and keys are kept.
    pub folder: PathBuf,
    /// Who calls the CA.
    pub client: Client,
    /// By which time passes.
    pub clock: Arc<dyn Clock>,
}

/// How one certificate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The names that it is for.
    pub names: Vec<String>,
    /// Its serial number, in hexadecimal digits. `None` while there is none.
    pub serial: Option<String>,
    /// Until when it is good, since the Unix epoch.
    pub not_after: Option<Duration>,
    /// When it is ordered, for the first time or anew, since the Unix epoch.
    pub orders_at: Duration,
    /// Why the last order failed, as a sentence, if it did.
    pub last_failure: Option<String>,
}

/// The certificates of one CA.
pub struct Acme {
    authority: Box<dyn Authority>,
    folder: Folder,
    answers: Arc<Answers>,
    clock: Arc<dyn Clock>,
    courses: Mutex<Vec<Course>>,
    wanted: Notify,
    changes: watch::Sender<u64>,
}

/// What one round of [`Acme::run`] leaves to the next.
#[derive(Default)]
struct Rounds {
    /// When the folder was read last.
    read: Option<Instant>,
    /// Since when another has held the lock.
    locked: Option<Instant>,
}

impl Acme {
    /// Whether a gateway has kept there what it ordered from this CA, or has begun to.
    pub fn has_kept(folder: &Path, directory: &Uri) -> bool {
        Folder::is_there(folder, directory)
    }

    /// Opens the folder, and makes it if it is missing. Nothing is ordered before [`Acme::run`].
    ///
    /// # Errors
    /// When others may read the folder, or the gateway cannot write to it.
    pub fn open(settings: Settings) -> io::Result<Arc<Self>> {
        let folder = Folder::open(&settings.folder, &settings.directory)?;
        let answers = Answers::new(folder.clone(), settings.challenge);
        let clock = Arc::clone(&settings.clock);
        let ca = Ca {
            settings,
            folder: folder.clone(),
            answers: Arc::clone(&answers),
        };
        Ok(Self::with(Box::new(ca), folder, answers, clock))
    }

    fn with(
        authority: Box<dyn Authority>,
        folder: Folder,
        answers: Arc<Answers>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self {
            authority,
            folder,
            answers,
            clock,
            courses: Mutex::default(),
            wanted: Notify::new(),
            changes: watch::channel(0).0,
        })
    }

    /// Says which certificates are wanted from now on, each by its names. Those that are kept are there at once.
    pub fn want(&self, orders: &[Vec<String>]) {
        let wanted: Vec<Names> = orders.iter().map(|names| Names::of(names)).collect();
        self.want_also(orders);
        self.courses()
            .retain(|course| wanted.contains(&course.names));
    }

    /// The same, and what was wanted before still is.
    pub fn want_also(&self, orders: &[Vec<String>]) {
        let mut new: Vec<Names> = orders.iter().map(|names| Names::of(names)).collect();
        new.sort();
        new.dedup();
        let is_known =
            |courses: &[Course], names: &Names| courses.iter().any(|course| course.names == *names);
        new.retain(|names| !is_known(&self.courses(), names));
        // Reading may take its time, and others look at the courses meanwhile.
        let new: Vec<Course> = new.into_iter().map(|names| self.kept(names)).collect();
        let mut courses = self.courses();
        for course in new {
            if !is_known(&courses, &course.names) {
                courses.push(course);
            }
        }
        drop(courses);
        self.changes.send_modify(|changes| *changes += 1);
        self.wanted.notify_one();
    }

    /// The certificate for these names, in whatever order, or one for some of them while there is none. `None` where
    /// there is none either.
    pub fn issued(&self, names: &[String]) -> Option<Arc<Issued>> {
        let names = Names::of(names);
        let courses = self.courses();
        let course = courses.iter().find(|course| course.names == names)?;
        course.shown().cloned()
    }

    /// Changes whenever [`Acme::issued`] may answer otherwise than before.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What is shown in a handshake that asks for this name, in lower case, and for the protocol `acme-tls/1` alone.
    /// Takes no lock and no file.
    pub fn alpn_answer(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.answers.of_name(name)
    }

    /// The body of `/.well-known/acme-challenge/{token}`.
    pub fn http_answer(&self, token: &str) -> Option<String> {
        self.answers.of_token(token)
    }

    /// How all certificates stand that are wanted.
    pub fn statuses(&self) -> Vec<Status> {
        let now = self.clock.now().unix;
        let courses = self.courses();
        let status = |course: &Course| Status {
            names: course.names.as_slice().to_vec(),
            serial: course.issued.as_ref().map(|issued| issued.serial.clone()),
            not_after: course.issued.as_ref().map(|issued| issued.not_after),
            orders_at: course.due_at(now),
            last_failure: course
                .trouble
                .as_ref()
                .map(|trouble| trouble.sentence.clone()),
        };
        courses.iter().map(status).collect()
    }

    /// How the certificate for these names stands, if it is wanted.
    pub fn status(&self, names: &[String]) -> Option<Status> {
        let names = Names::of(names);
        let mut statuses = self.statuses().into_iter();
        statuses.find(|status| status.names == names.as_slice())
    }

    /// How names are proved.
    pub fn challenge(&self) -> Challenge {
        self.answers.challenge()
    }

    /// Orders what is missing and renews what there is, for ever. The folder may be far away: what reads it waits for
    /// it, so nothing else belongs on the thread that this runs on.
    pub async fn run(self: Arc<Self>) {
        // A CA may come for another replica's order while it lets us wait.
        let looking = async {
            loop {
                self.answers.look();
                self.clock.sleep(LOOK).await;
            }
        };
        let ordering = async {
            let mut rounds = Rounds::default();
            loop {
                self.round(&mut rounds).await;
                tokio::select! {
                    () = self.clock.sleep(LOOK) => {}
                    () = self.wanted.notified() => {}
                }
            }
        };
        tokio::join!(looking, ordering);
    }

    /// Takes up what other replicas have put into the folder, and does the one thing that is most due.
    async fn round(&self, rounds: &mut Rounds) {
        let now = self.clock.now();
        let is_old = |read: Instant| now.instant.duration_since(read) >= REREAD;
        if rounds.read.is_none_or(is_old) {
            rounds.read = Some(now.instant);
            self.read_all();
        }
        let due = self.due(now.unix);
        if due.is_none() {
            rounds.locked = None;
        }
        if let Some(names) = due {
            self.turn(&names, rounds).await;
        } else if let Some((names, issued)) = self.unasked(now.unix) {
            let said = self.authority.suggestion(&issued).await;
            self.with_course(&names, |course| course.suggest(&issued, said, now.unix));
        }
    }

    /// Orders, unless another does.
    async fn turn(&self, names: &Names, rounds: &mut Rounds) {
        match self.folder.try_lock() {
            Ok(Some(lock)) => {
                rounds.locked = None;
                self.order(names).await;
                drop(lock);
            }
            Ok(None) => {
                let now = self.clock.now().instant;
                let since = *rounds.locked.get_or_insert(now);
                if now.duration_since(since) >= STUCK {
                    rounds.locked = None;
                    let sentence = "another process has held the lock of acme.folder for an hour";
                    self.failed(names, Failure::told(sentence));
                }
            }
            Err(cause) => self.failed(names, Failure::told(format!("acme.folder: {cause}"))),
        }
    }

    /// The lock must be held.
    async fn order(&self, names: &Names) {
        // Another may have ordered it meanwhile, or failed to.
        self.read(names);
        let now = self.clock.now().unix;
        let state = self.with_course(names, |course| {
            let failed_before = course.trouble.is_some();
            (course.due_at(now) <= now).then(|| (course.issued.clone(), failed_before))
        });
        let Some((issued, failed_before)) = state.flatten() else {
            return;
        };
        // CAs refuse to replace twice, and some refuse more than that: after a failure it is an order like any other.
        let replaces = issued.filter(|_| !failed_before);
        self.answers.clear();
        let obtained = tokio::select! {
            obtained = self.authority.obtain(names, replaces.as_deref()) => obtained,
            () = self.clock.sleep(LONGEST_ORDER) => {
                Err(Failure::told("the CA has not come to an end within 20 minutes"))
            }
        };
        self.answers.clear();
        let taken = obtained.and_then(|pem| {
            let read = Issued::read(pem.expose().as_bytes(), names);
            let read = read.map_err(|why| Failure::told(format!("the certificate {why}")));
            Ok((read?, pem))
        });
        match taken {
            Ok((issued, pem)) if renew_at(&issued) <= self.clock.now().unix => {
                self.came_late(names, issued, &pem);
            }
            Ok((issued, pem)) => self.succeeded(names, issued, &pem),
            Err(failure) => self.failed(names, failure),
        }
    }

    fn succeeded(&self, names: &Names, issued: Issued, pem: &Pem) {
        let now = self.clock.now().unix;
        let until = date(issued.not_after);
        let detail = format!("for {names}: serial {}, good until {until}", issued.serial);
        // What had failed is over before the certificate is there: other replicas read both.
        let forgotten = self.folder.remove(&trouble_file(names));
        let text = pem.expose().as_bytes();
        let kept = forgotten.and_then(|()| self.folder.replace(&pem_file(names), text));
        self.put(names, issued);
        event(now, Level::Info, "acme-issued", &detail);
        if let Err(cause) = kept {
            let detail = format!(
                "for {names}: the certificate is in use, but could not be kept in acme.folder: {cause}"
            );
            event(now, Level::Error, "acme-failing", &detail);
        }
    }

    /// One that would have to be renewed at once would be ordered again at once, and for ever. It is shown all the same if
    /// there is no newer one: it may be this machine's clock that is wrong.
    fn came_late(&self, names: &Names, issued: Issued, pem: &Pem) {
        let until = date(issued.not_after);
        self.with_course(names, |course| {
            if course.is_news(&issued) {
                course.issued = Some(Arc::new(issued));
            }
        });
        // What cannot be kept is known to this process alone.
        let text = pem.expose().as_bytes();
        let _ = self.folder.replace(&pem_file(names), text);
        self.changes.send_modify(|changes| *changes += 1);
        let sentence = format!(
            "the certificate is good until {until}, so that it would have to be renewed already: is this machine's clock right?"
        );
        self.failed(names, Failure::told(sentence));
    }

    fn failed(&self, names: &Names, failure: Failure) {
        let now = self.clock.now().unix;
        let Failure { sentence, asked } = failure;
        let told = self.with_course(names, |course| {
            let before = course.trouble.as_ref();
            let trouble = Trouble::after(before, now, sentence, asked, ids::jitter());
            course.trouble = Some(trouble.clone());
            (trouble, course.is_good(now))
        });
        let Some((trouble, is_good)) = told else {
            return;
        };
        if let Ok(text) = serde_json::to_vec(&trouble) {
            // What cannot be kept is known to this process alone.
            let _ = self.folder.replace(&trouble_file(names), &text);
        }
        let (level, serves) = match is_good {
            true => (Level::Warning, "the one that there is still serves"),
            false => (Level::Error, "there is none that is good"),
        };
        let wait = trouble.again.saturating_sub(now).as_secs().div_ceil(60);
        let detail = format!(
            "no new certificate for {names}: {}; {serves}; tried again in {wait} min",
            trouble.sentence
        );
        event(now, level, "acme-failing", &detail);
    }

    /// Puts a certificate in its place, and tells whoever waits for it.
    fn put(&self, names: &Names, issued: Issued) {
        let now = self.clock.now().unix;
        let healed = self.with_course(names, |course| {
            let trouble = course.trouble.take();
            course.set(Arc::new(issued), now);
            trouble
        });
        self.changes.send_modify(|changes| *changes += 1);
        if let Some(trouble) = healed.flatten() {
            let detail = format!(
                "there is a new certificate for {names}; attempts that had failed: {}",
                trouble.failures
            );
            event(now, Level::Info, "acme-recovered", &detail);
        }
    }

    /// The course of what is wanted for the first time, as an earlier process left it.
    fn kept(&self, names: Names) -> Course {
        let now = self.clock.now().unix;
        let mut course = Course::new(names);
        course.issued = self.issued_on_disk(&course.names).map(Arc::new);
        if course.issued.is_none() {
            course.stand_in = self.stand_in_on_disk(&course.names, now).map(Arc::new);
        }
        let trouble = self.trouble_on_disk(&course.names);
        course.trouble = trouble.and_then(|trouble| trouble.after_restart(now));
        course
    }

    fn read_all(&self) {
        let all: Vec<Names> = self
            .courses()
            .iter()
            .map(|course| course.names.clone())
            .collect();
        all.iter().for_each(|names| self.read(names));
    }

    /// Takes up what another replica has put into the folder: a newer certificate, or a failure.
    fn read(&self, names: &Names) {
        let found = self.issued_on_disk(names);
        let is_news = self.with_course(names, |course| {
            found.as_ref().is_some_and(|found| course.is_news(found))
        });
        if let (Some(found), Some(true)) = (found, is_news) {
            self.put(names, found);
            return;
        }
        let now = self.clock.now().unix;
        let trouble = self.trouble_on_disk(names);
        let trouble = trouble.filter(|trouble| trouble.at <= now);
        self.with_course(names, |course| {
            let known = course.trouble.as_ref().map(|trouble| trouble.at);
            if let Some(trouble) = trouble.filter(|trouble| Some(trouble.at) > known) {
                course.trouble = Some(trouble);
            }
        });
    }

    fn issued_on_disk(&self, names: &Names) -> Option<Issued> {
        let pem = self.folder.read(&pem_file(names)).ok()??;
        Issued::read(&pem, names).ok()
    }

    /// A good certificate for as many of the names as any in the folder is, and then the one that lasts longest.
    fn stand_in_on_disk(&self, names: &Names, now: Duration) -> Option<Issued> {
        let files = self.folder.files(".pem").into_iter();
        let read = files.filter_map(|file| Issued::of_any(&self.folder.read(&file).ok()??).ok());
        let good = read.filter(|issued| issued.is_good(now) && issued.covered(names) > 0);
        good.max_by_key(|issued| (issued.covered(names), issued.not_after))
    }

    fn trouble_on_disk(&self, names: &Names) -> Option<Trouble> {
        let text = self.folder.read(&trouble_file(names)).ok()??;
        serde_json::from_slice(&text).ok()
    }

    /// What is most overdue.
    fn due(&self, now: Duration) -> Option<Names> {
        let courses = self.courses();
        let due = courses.iter().filter(|course| course.due_at(now) <= now);
        let most = due.min_by_key(|course| course.due_at(now))?;
        Some(most.names.clone())
    }

    /// A certificate of which the CA has not been asked lately when to renew it.
    fn unasked(&self, now: Duration) -> Option<(Names, Arc<Issued>)> {
        let courses = self.courses();
        courses.iter().find_map(|course| {
            let issued = course.issued.as_ref().filter(|_| course.is_unasked(now))?;
            Some((course.names.clone(), Arc::clone(issued)))
        })
    }

    /// `None` if it is not wanted any more.
    fn with_course<T>(&self, names: &Names, change: impl FnOnce(&mut Course) -> T) -> Option<T> {
        let mut courses = self.courses();
        let course = courses.iter_mut().find(|course| course.names == *names)?;
        Some(change(course))
    }

    fn courses(&self) -> MutexGuard<'_, Vec<Course>> {
        self.courses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key and the chain in one file, so that they change as one.
fn pem_file(names: &Names) -> String {
    format!("{}.pem", names.file())
}

fn trouble_file(names: &Names) -> String {
    format!("{}.trouble", names.file())
}

fn date(unix: Duration) -> String {
    let seconds = i64::try_from(unix.as_secs()).unwrap_or_default();
    let time = OffsetDateTime::from_unix_timestamp(seconds);
    time.map(|time| time.date().to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
