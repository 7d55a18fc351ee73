//! One token, held ready for every route and worker that wants it. Reading it costs a load and a
//! comparison.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::header::HeaderValue;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::identity::{FetchFailure, FetchedToken, ManagedIdentity, TokenSource};
use super::refresh;
use crate::clock::{Clock, Now};

/// A token that ends sooner than this is not sent: it has to be alive when the backend looks at it.
pub(super) const MARGIN: Duration = Duration::from_secs(10);

/// The place of one token. While somebody holds it, the token is kept fresh.
pub struct Slot {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    refresher: AbortHandle,
}

impl Slot {
    pub(super) fn start(
        wanted: ManagedIdentity,
        source: Arc<dyn TokenSource>,
        clock: Arc<dyn Clock>,
        control: &Handle,
    ) -> Arc<Self> {
        let shared = Arc::new(Shared::new(wanted));
        let refresher = control
            .spawn(refresh::keep_fresh(shared.clone(), source, clock.clone()))
            .abort_handle();
        Arc::new(Self {
            shared,
            clock,
            refresher,
        })
    }

    /// Whose token this is, and for whom.
    pub fn wanted(&self) -> &ManagedIdentity {
        &self.shared.wanted
    }

    /// `Bearer` and the token, marked sensitive; `None` if there is none that lives for another 10 s.
    pub fn current(&self, now: &Now) -> Option<HeaderValue> {
        let held = self.shared.held.load();
        let held = held.as_ref()?;
        (now.unix + MARGIN < held.expires).then(|| held.bearer.clone())
    }

    /// As [`Slot::current`], but waits, no longer than `wait`, while the first fetch is under way.
    /// After that it never waits: what is not there now will not be there in a moment.
    pub async fn ready(&self, now: &Now, wait: Duration) -> Result<HeaderValue, Unavailable> {
        if let Some(bearer) = self.current(now) {
            return Ok(bearer);
        }
        self.first_fetch(wait).await;
        // `now` has aged while this waited.
        self.current(&self.clock.now())
            .ok_or_else(|| self.unavailable())
    }

    async fn first_fetch(&self, wait: Duration) {
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
        Unavailable::NoToken(failure.map_or_else(String::new, |failure| failure.text.clone()))
    }

    /// The backend answered 401 to this token: asks for a new one, unless the last fetch began less
    /// than 30 s ago. The old one is used until the new one is there.
    pub fn refused(&self) {
        self.shared.again.notify_one();
    }

    /// For readiness and metrics.
    pub fn status(&self) -> Status {
        Status {
            expires: self.shared.held.load().as_ref().map(|held| held.expires),
            last_failure: self.shared.progress.borrow().last_failure.clone(),
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
    /// When the newest token expires, since the Unix epoch, though that may be in the past; `None`
    /// if there never was one.
    pub expires: Option<Duration>,
    /// The newest failure since the last success.
    pub last_failure: Option<Failure>,
}

impl Status {
    /// Whether the token can be presented at `now`.
    pub fn is_ready(&self, now: &Now) -> bool {
        self.expires
            .is_some_and(|expires| now.unix + MARGIN < expires)
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
            Self::FirstFetchUnderWay => f.write_str("the first token is still being fetched"),
            Self::NoToken(why) if why.is_empty() => f.write_str("no valid token"),
            Self::NoToken(why) => write!(f, "no valid token: {why}"),
        }
    }
}

impl std::error::Error for Unavailable {}

/// What the slot and its loop share.
pub(super) struct Shared {
    pub(super) wanted: ManagedIdentity,
    held: ArcSwapOption<Held>,
    progress: watch::Sender<Progress>,
    pub(super) again: Notify,
}

// No `Debug`: it holds the token.
struct Held {
    bearer: HeaderValue,
    expires: Duration,
}

#[derive(Default)]
struct Progress {
    first_is_over: bool,
    last_failure: Option<Failure>,
}

impl Shared {
    fn new(wanted: ManagedIdentity) -> Self {
        Self {
            wanted,
            held: ArcSwapOption::empty(),
            progress: watch::Sender::new(Progress::default()),
            again: Notify::new(),
        }
    }

    /// Takes the token into use and says how long it will live. A token that is malformed or as good
    /// as expired is not taken.
    pub(super) fn hold(&self, token: &FetchedToken, now: &Now) -> Result<Duration, FetchFailure> {
        let bearer = bearer(token.token.expose()).ok_or(FetchFailure::Unreadable)?;
        let lifetime = token.expires.saturating_sub(now.unix);
        if lifetime <= MARGIN {
            return Err(FetchFailure::AlreadyExpired);
        }
        let expires = token.expires;
        self.held.store(Some(Arc::new(Held { bearer, expires })));
        // After the token is there: whoever is woken by this looks for it.
        self.progress.send_replace(Progress {
            first_is_over: true,
            last_failure: None,
        });
        Ok(lifetime)
    }

    /// Remembers why there is no new token. The old one stays.
    pub(super) fn failed(&self, failure: &FetchFailure, now: &Now, in_a_row: u32) {
        self.progress.send_replace(Progress {
            first_is_over: true,
            last_failure: Some(Failure {
                at: now.unix,
                text: failure.to_string(),
                in_a_row,
            }),
        });
    }
}

/// The value of `Authorization` (RFC 6750 section 2.1), if the token is a `b64token`.
fn bearer(token: &str) -> Option<HeaderValue> {
    let body = token.trim_end_matches('=');
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
    if body.is_empty() || !body.bytes().all(allowed) {
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
