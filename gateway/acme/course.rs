//! One certificate over time: what there is of it, and when something has to be done.

use std::sync::Arc;
use std::time::Duration;

use super::ca::Suggestion;
use super::issued::Issued;
use super::names::Names;
use super::schedule::{Trouble, renew_at, within};

const HOUR: Duration = Duration::from_hours(1);
/// How often a CA is asked when to renew that does not say how often, or says nothing sensible
/// (RFC 9773 section 4.3.2).
const ASK: Duration = Duration::from_hours(6);
/// How often one is asked that does not answer: most of them know nothing of it.
const ASK_THE_DUMB: Duration = Duration::from_hours(24);

/// A certificate that is wanted.
pub(super) struct Course {
    pub(super) names: Names,
    pub(super) issued: Option<Arc<Issued>>,
    pub(super) trouble: Option<Trouble>,
    /// When the CA would have it renewed.
    suggested: Option<Duration>,
    /// When the CA is asked for that again.
    ask_at: Duration,
}

impl Course {
    pub(super) fn new(names: Names) -> Self {
        Self {
            names,
            issued: None,
            trouble: None,
            suggested: None,
            ask_at: Duration::ZERO,
        }
    }

    /// When it is renewed. What the CA suggests counts if it is earlier: later than with a third of its life left, no
    /// time would be left for what goes wrong.
    pub(super) fn renews_at(&self) -> Option<Duration> {
        let own = renew_at(self.issued.as_deref()?);
        Some(self.suggested.map_or(own, |suggested| suggested.min(own)))
    }

    /// When it is ordered: at once if there is none, later if that has failed. A failure that lies ahead was noted
    /// before the clock was set back, and what it says of later would be years.
    pub(super) fn due_at(&self, now: Duration) -> Duration {
        let renews = self.renews_at().unwrap_or_default();
        let trouble = self.trouble.as_ref().filter(|trouble| trouble.at <= now);
        trouble.map_or(renews, |trouble| trouble.again.max(renews))
    }

    /// Whether the CA is to be asked when to renew it.
    pub(super) fn is_unasked(&self, now: Duration) -> bool {
        self.ask_at <= now || self.ask_at > now + ASK_THE_DUMB
    }

    /// Whether callers can be shown it.
    pub(super) fn is_good(&self, now: Duration) -> bool {
        self.issued
            .as_ref()
            .is_some_and(|issued| now < issued.not_after)
    }

    /// Whether this one is newer than what there is.
    pub(super) fn is_news(&self, found: &Issued) -> bool {
        self.issued.as_ref().is_none_or(|known| {
            found.serial != known.serial && found.not_before >= known.not_before
        })
    }

    /// Puts a certificate in the place of what there was.
    pub(super) fn set(&mut self, issued: Arc<Issued>) {
        self.issued = Some(issued);
        self.trouble = None;
        self.suggested = None;
        self.ask_at = Duration::ZERO;
    }

    /// Notes what the CA said of a certificate, if it is still the one.
    pub(super) fn suggest(&mut self, of: &Issued, said: Option<Suggestion>, now: Duration) {
        if self
            .issued
            .as_ref()
            .is_none_or(|known| known.serial != of.serial)
        {
            return;
        }
        self.ask_at = now
            + said.map_or(ASK_THE_DUMB, |said| {
                let asked = said.ask_again.map_or(ASK, |at| at.saturating_sub(now));
                asked.clamp(HOUR, ASK_THE_DUMB)
            });
        if let Some(said) = said {
            self.suggested = Some(within(said.window, of));
        }
    }
}
