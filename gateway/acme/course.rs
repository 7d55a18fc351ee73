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
/// How soon behind a certificate another is ordered because the CA suggests it, or a sixth of its life if that is less.
const NO_SOONER: Duration = Duration::from_hours(24);
/// How often one is asked that does not answer: most of them know nothing of it.
const ASK_THE_DUMB: Duration = Duration::from_hours(24);

/// A certificate that is wanted.
pub(super) struct Course {
    pub(super) names: Names,
    pub(super) issued: Option<Arc<Issued>>,
    /// What is shown while there is none: one for some of the names, from before they were written otherwise.
    pub(super) stand_in: Option<Arc<Issued>>,
    /// When it came, if that was in this process.
    came: Duration,
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
            stand_in: None,
            came: Duration::ZERO,
            trouble: None,
            suggested: None,
            ask_at: Duration::ZERO,
        }
    }

    /// When it is renewed. What the CA suggests counts if it is earlier: later than with a third of its life left, no
    /// time would be left for what goes wrong.
    pub(super) fn renews_at(&self) -> Option<Duration> {
        let issued = self.issued.as_deref()?;
        let own = renew_at(issued);
        // A CA that would have each renewed at once would be ordered from for ever.
        let life = issued.not_after.saturating_sub(issued.not_before);
        let soonest = self.came + NO_SOONER.min(life / 6);
        let suggested = self.suggested.map(|suggested| suggested.max(soonest));
        Some(suggested.map_or(own, |suggested| suggested.min(own)))
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

    /// What callers are shown.
    pub(super) fn shown(&self) -> Option<&Arc<Issued>> {
        self.issued.as_ref().or(self.stand_in.as_ref())
    }

    /// Whether that is good.
    pub(super) fn is_good(&self, now: Duration) -> bool {
        self.shown().is_some_and(|shown| now < shown.not_after)
    }

    /// Whether this one is newer than what there is.
    pub(super) fn is_news(&self, found: &Issued) -> bool {
        self.issued.as_ref().is_none_or(|known| {
            found.serial != known.serial && found.not_before >= known.not_before
        })
    }

    /// Puts a certificate in the place of what there was.
    pub(super) fn set(&mut self, issued: Arc<Issued>, now: Duration) {
        self.issued = Some(issued);
        self.stand_in = None;
        self.came = now;
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
