//! One token or secret, held ready for every route and worker that wants it. Reading it costs a load
//! and a comparison.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::header::HeaderValue;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::fixed::{SecretFrom, header_value};
use super::refresh::{self, Due};
use super::source::{FetchFailure, Fetched, Needed, Source};
use super::wanted::Wanted;
use crate::canonical::is_token68;
use crate::clock::{Clock, Now};
use crate::secret::Secret;

/// A token that ends sooner than this is not sent: it has to be alive when the backend looks at it.
pub(super) const MARGIN: Duration = Duration::from_secs(10);

/// The place of one token or secret. While somebody holds it, it is kept fresh.
pub struct Slot {
    shared: Arc<Shared>,
    /// What it needs, where another slot holds that.
    needed: Option<Arc<Slot>>,
    clock: Arc<dyn Clock>,
    refresher: AbortHandle,
}

impl Slot {
    pub(super) fn start(
        wanted: Wanted,
        needs: Needs,
        source: Arc<dyn Source>,
        clock: Arc<dyn Clock>,
        control: &Handle,
    ) -> Arc<Self> {
        let shared = Arc::new(Shared::new(wanted));
        let needed = match &needs {
            Needs::Slot(slot) => Some(Arc::clone(slot)),
            Needs::Nothing | Needs::Here(_) => None,
        };
        let refreshing = refresh::keep_fresh(shared.clone(), needs, source, clock.clone());
        let refresher = control.spawn(refreshing).abort_handle();
        Arc::new(Self {
            shared,
            needed,
            clock,
            refresher,
        })
    }

    /// What this is.
    pub fn wanted(&self) -> &Wanted {
        &self.shared.wanted
    }

    /// The slot of what has to be there before this can be fetched: an app's secret, a token for Key Vault.
    pub fn needed(&self) -> Option<&Arc<Slot>> {
        self.needed.as_ref()
    }

    /// The value of the header field, marked sensitive: `Bearer` and the token, or the secret itself.
    /// `None` if there is no token that lives for another 10 s, or no secret that can be a field's value.
    pub fn current(&self, now: &Now) -> Option<HeaderValue> {
        let held = self.shared.held.load();
        let held = held.as_ref().filter(|held| held.is_good(now))?;
        held.field.clone()
    }

    /// The token or secret itself.
    pub fn text(&self, now: &Now) -> Option<Secret<String>> {
        let held = self.shared.held.load();
        let held = held.as_ref().filter(|held| held.is_good(now))?;
        Some(held.text.clone())
    }

    /// Whether this is what it holds now.
    pub(super) fn holds(&self, text: Option<&Secret<String>>, now: &Now) -> bool {
        let held = self.shared.held.load();
        let held = held.as_ref().filter(|held| held.is_good(now));
        held.map(|held| &held.text) == text
    }

    /// As [`Slot::current`], but waits, no longer than `wait`, while the first fetch is under way.
    /// After that it never waits: what is not there now will not be there in a moment.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ready(&self, now: &Now, wait: Duration) -> Result<HeaderValue, Unavailable> {
        if let Some(field) = self.current(now) {
            return Ok(field);
        }
        // Boxed, for it is rare, and every request would carry the room for it.
        Box::pin(self.first_fetch(wait)).await;
        // `now` has aged while this waited.
        self.current(&self.clock.now())
            .ok_or_else(|| self.unavailable())
    }

    /// The same for the token or secret itself.
    ///
    /// # Errors
    /// As for [`Slot::ready`].
    pub async fn ready_text(
        &self,
        now: &Now,
        wait: Duration,
    ) -> Result<Secret<String>, Unavailable> {
        if let Some(text) = self.text(now) {
            return Ok(text);
        }
        self.first_fetch(wait).await;
        self.text(&self.clock.now())
            .ok_or_else(|| self.unavailable())
    }

    /// Waits, no longer than `wait`, while the first fetch is under way.
    pub async fn first_fetch(&self, wait: Duration) {
        let mut progress = self.shared.progress.subscribe();
        if progress.borrow().first_is_over {
            return;
        }
        let over = async {
            // An error says that the slot is gone, which holds the sender and is borrowed here.
            let _ = progress.wait_for(|progress| progress.first_is_over).await;
        };
        tokio::select! {
            () = over => {}
            () = self.clock.sleep(wait) => {}
        }
    }

    fn unavailable(&self) -> Unavailable {
        let progress = self.shared.progress.borrow();
        if !progress.first_is_over {
            return Unavailable::FirstFetchUnderWay;
        }
        let failure = progress.last_failure.as_ref();
        let held = self.shared.held.load();
        let unfit = held.as_ref().is_some_and(|held| held.field.is_none());
        Unavailable::NoToken(match failure {
            Some(failure) => failure.text.clone(),
            None if unfit => "the secret cannot be a header's value: it is longer than 8 KiB, or holds a line break or what is not ASCII".to_owned(),
            None => String::new(),
        })
    }

    /// The backend answered 401 to this token: asks for a new one, unless the last fetch began less
    /// than 30 s ago. The old one is used until the new one is there.
    pub fn refused(&self) {
        self.shared.again.notify_one();
    }

    /// For readiness and metrics.
    pub fn status(&self) -> Status {
        let held = self.shared.held.load();
        Status {
            is_held: held.is_some(),
            fetched: held.as_ref().map(|held| held.fetched),
            expires: held.as_ref().and_then(|held| held.expires),
            last_failure: self.shared.progress.borrow().last_failure.clone(),
            failures: self.shared.failures.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.refresher.abort();
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.shared.wanted)
    }
}

/// How a slot is doing. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether there ever was one.
    pub is_held: bool,
    /// When the newest was fetched, since the Unix epoch.
    pub fetched: Option<Duration>,
    /// When the newest token expires, since the Unix epoch, though that may be in the past; `None` for
    /// a secret, and if there never was a token.
    pub expires: Option<Duration>,
    /// The newest failure since the last success.
    pub last_failure: Option<Failure>,
    /// Fetches that have failed since the slot began.
    pub failures: u64,
}

impl Status {
    /// Whether it can be presented at `now`.
    pub fn is_ready(&self, now: &Now) -> bool {
        self.is_held
            && self
                .expires
                .is_none_or(|expires| now.unix + MARGIN < expires)
    }

    /// Why it is not as it should be: it cannot be presented, or the last fetch failed in a way that will not
    /// pass by itself, so that what is held is the last that there will be.
    pub fn fault(&self, now: &Now) -> Option<Fault> {
        let failure = self.last_failure.as_ref();
        let is_ready = self.is_ready(now);
        let is_final = failure.is_some_and(|failure| failure.is_final);
        let why = match (is_ready, failure) {
            (true, Some(failure)) if is_final => {
                format!("{}; the last good one is still used", failure.text)
            }
            (true, _) => return None,
            (false, Some(failure)) => failure.text.clone(),
            (false, None) => "not fetched yet".to_owned(),
        };
        Some(Fault { why, is_final })
    }
}

/// What is wrong with a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// In words for operators.
    pub why: String,
    /// Whether it lasts until somebody acts.
    pub is_final: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// A fetch that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When it failed, since the Unix epoch.
    pub at: Duration,
    /// Why, in words for operators.
    pub text: String,
    /// How many fetches have failed in a row.
    pub in_a_row: u32,
    /// Whether it will not pass by itself.
    pub is_final: bool,
}

/// There is no token that may be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The first fetch took longer than the request may wait.
    FirstFetchUnderWay,
    /// The fetches failed, or the last token has expired; the text is the last failure's.
    NoToken(String),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FirstFetchUnderWay => f.write_str("it is still being fetched for the first time"),
            Self::NoToken(why) if why.is_empty() => f.write_str("there is no valid one"),
            Self::NoToken(why) => write!(f, "there is no valid one: {why}"),
        }
    }
}

impl std::error::Error for Unavailable {}

/// What the slot and its loop share.
pub(super) struct Shared {
    pub(super) wanted: Wanted,
    held: ArcSwapOption<Held>,
    progress: watch::Sender<Progress>,
    failures: AtomicU64,
    pub(super) again: Notify,
}

// No `Debug`: it holds the token.
struct Held {
    text: Secret<String>,
    /// `None` for a secret that cannot be the value of a field.
    field: Option<HeaderValue>,
    fetched: Duration,
    expires: Option<Duration>,
}

impl Held {
    fn is_good(&self, now: &Now) -> bool {
        self.expires
            .is_none_or(|expires| now.unix + MARGIN < expires)
    }
}

#[derive(Default)]
struct Progress {
    first_is_over: bool,
    last_failure: Option<Failure>,
}

impl Shared {
    fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            held: ArcSwapOption::empty(),
            progress: watch::Sender::new(Progress::default()),
            failures: AtomicU64::new(0),
            again: Notify::new(),
        }
    }

    /// Takes what was fetched into use and says when to fetch again. A token that is malformed or as good
    /// as expired is not taken.
    pub(super) fn hold(&self, fetched: &Fetched, now: &Now) -> Result<Due, FetchFailure> {
        let text = fetched.secret.expose();
        let (field, due) = match (&self.wanted, fetched.expires) {
            (Wanted::Token(_), Some(expires)) => {
                let bearer = bearer(text).ok_or(FetchFailure::Unreadable)?;
                let lifetime = expires.saturating_sub(now.unix);
                if lifetime <= MARGIN {
                    return Err(FetchFailure::AlreadyExpired);
                }
                let refresh_in = fetched.refresh_in;
                let due = Due::Token {
                    lifetime,
                    refresh_in,
                };
                (Some(bearer), due)
            }
            (Wanted::Secret(wanted), _) if !text.trim().is_empty() => {
                let field = header_value(text.as_bytes()).ok();
                let every = wanted.refresh_every;
                (field.map(sensitive), Due::Secret { every })
            }
            (Wanted::Token(_), None) | (Wanted::Secret(_), _) => {
                return Err(FetchFailure::Unreadable);
            }
        };
        self.held.store(Some(Arc::new(Held {
            text: fetched.secret.clone(),
            field,
            fetched: now.unix,
            expires: fetched.expires,
        })));
        // After it is there: whoever is woken by this looks for it.
        self.progress.send_replace(Progress {
            first_is_over: true,
            last_failure: None,
        });
        Ok(due)
    }

    /// Remembers why there is nothing new. What was there stays.
    pub(super) fn failed(&self, failure: &FetchFailure, now: &Now, in_a_row: u32) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let asked = self.wanted.asked();
        self.progress.send_replace(Progress {
            first_is_over: true,
            last_failure: Some(Failure {
                at: now.unix,
                text: failure.words(asked),
                in_a_row,
                is_final: failure.is_final(asked),
            }),
        });
    }
}

fn sensitive(value: Secret<HeaderValue>) -> HeaderValue {
    let mut value = value.expose().clone();
    value.set_sensitive(true);
    value
}

/// What has to be there before a fetch.
pub(super) enum Needs {
    /// Nothing.
    Nothing,
    /// What another slot holds.
    Slot(Arc<Slot>),
    /// What stands in a file or variable.
    Here(SecretFrom),
}

impl Needs {
    /// Has it ready; waits while it is fetched for the first time.
    pub(super) async fn ready(
        &self,
        clock: &dyn Clock,
        wait: Duration,
    ) -> Result<Needed, FetchFailure> {
        match self {
            Self::Nothing => Ok(None),
            Self::Here(place) => match place.text() {
                Ok(text) => Ok(Some(text)),
                Err(why) => Err(FetchFailure::Needs(why.to_string())),
            },
            Self::Slot(slot) => match slot.ready_text(&clock.now(), wait).await {
                Ok(text) => Ok(Some(text)),
                Err(why) => Err(FetchFailure::Needs(format!("{}: {why}", slot.wanted()))),
            },
        }
    }

    /// What was needed may be why the answer was no: it is fetched anew, too.
    pub(super) fn refused_by(&self, failure: &FetchFailure) {
        if let (Self::Slot(slot), FetchFailure::Refused(refusal)) = (self, failure)
            && matches!(refusal.status.as_u16(), 400 | 401)
        {
            slot.refused();
        }
    }
}

/// The value of `Authorization` (RFC 6750 section 2.1), if the token is a `b64token`.
fn bearer(token: &str) -> Option<HeaderValue> {
    if !is_token68(token) {
        return None;
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_rfc_6750_calls_a_token_becomes_a_header() {
        for (token, taken) in [
            ("eyJ0.eyJh.c2ln", true),
            ("a-._~+/9==", true),
            ("", false),
            ("==", false),
            ("a=b", false),
            ("a b", false),
            ("a\r\nx-evil: 1", false),
            ("a\"", false),
            ("ä", false),
        ] {
            assert_eq!(bearer(token).is_some(), taken, "{token:?}");
        }
        let value = bearer("abc").expect("a header");
        assert_eq!(value, "Bearer abc");
        assert!(value.is_sensitive());
    }
}
