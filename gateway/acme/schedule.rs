//! When to order: pure arithmetic on times since the Unix epoch.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::issued::Issued;
use super::names::short_digest;
use crate::clock::doubled;

const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
/// The wait behind the first failure. CAs bound failures by the hour, Let's Encrypt to five for a name.
const FIRST: Duration = MINUTE;
/// The longest wait between two attempts, unless the CA says more.
const LONGEST: Duration = DAY;
/// What a CA says is believed up to this: a slip of it must not keep the gateway waiting until a certificate ends.
const MOST_ASKED: Duration = Duration::from_hours(7 * 24);
/// Behind a restart, the wait for the next attempt is no longer than this since the last: whoever has mended something
/// restarts, and four attempts an hour stay within the CAs' bounds though the gateway restarts for ever.
const AFTER_RESTART: Duration = Duration::from_mins(15);

/// When the certificate is renewed: when a third of its life is left, or up to a thirtieth earlier. The moment is the
/// certificate's own, so that replicas agree on it, and gateways that began at once do not renew at once.
pub(super) fn renew_at(issued: &Issued) -> Duration {
    let life = issued.not_after.saturating_sub(issued.not_before);
    let early = (life / 30).mul_f64(fraction(issued));
    issued.not_after.saturating_sub(life / 3 + early)
}

/// A moment in what the CA suggests (RFC 9773 section 4.2), the same each time.
pub(super) fn within(window: (Duration, Duration), issued: &Issued) -> Duration {
    let (start, end) = window;
    start + end.saturating_sub(start).mul_f64(fraction(issued))
}

/// Where in `0.0..1.0` the certificate falls, by its serial number, which CAs draw by lot.
fn fraction(issued: &Issued) -> f64 {
    let digits = short_digest(&issued.serial);
    let digits = digits.get(..8).unwrap_or_default();
    let drawn = u32::from_str_radix(digits, 16).unwrap_or_default();
    f64::from(drawn) / (f64::from(u32::MAX) + 1.0)
}

/// What has gone wrong with an order since the last certificate. Kept in the folder too, so that neither a restart nor
/// another replica asks the CA more often than is good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Trouble {
    /// How often in a row.
    pub(super) failures: u32,
    /// When, the last time.
    pub(super) at: Duration,
    /// When it is tried again.
    pub(super) again: Duration,
    /// Whether the CA said so.
    pub(super) by_ca: bool,
    /// What went wrong, as a sentence.
    pub(super) sentence: String,
}

impl Trouble {
    /// What comes behind `before`, by a failure now. `draw` is a random fraction.
    pub(super) fn after(
        before: Option<&Self>,
        now: Duration,
        sentence: String,
        asked: Option<Duration>,
        draw: f64,
    ) -> Self {
        let earlier = before.map_or(0, |before| before.failures);
        // Three quarters to five quarters of the wait.
        let wait = doubled(FIRST, earlier, LONGEST).mul_f64(0.75 + draw / 2.0);
        let own = now + wait;
        let asked = asked.map(|asked| asked.min(now + MOST_ASKED));
        let asked = asked.filter(|asked| *asked > own);
        Self {
            failures: earlier.saturating_add(1),
            at: now,
            again: asked.unwrap_or(own),
            by_ca: asked.is_some(),
            sentence,
        }
    }

    /// What an earlier process left. What lies in the future was written under another clock, and says nothing.
    pub(super) fn after_restart(mut self, now: Duration) -> Option<Self> {
        if self.at > now {
            return None;
        }
        if !self.by_ca {
            self.again = self.again.min(self.at + AFTER_RESTART);
        }
        self.again = self.again.min(now + MOST_ASKED);
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn issued(serial: u32, life: Duration) -> Issued {
        Issued {
            chain: Vec::new(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(Vec::new())),
            serial: format!("{serial:08x}"),
            not_before: NOW,
            not_after: NOW + life,
        }
    }

    fn after(before: Option<&Trouble>, asked: Option<Duration>, draw: f64) -> Trouble {
        Trouble::after(before, NOW, "it failed".to_owned(), asked, draw)
    }

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left_or_a_little_earlier() {
        let moments: Vec<Duration> = (0..100)
            .map(|serial| renew_at(&issued(serial, 90 * DAY)))
            .collect();
        for moment in &moments {
            let since = moment.saturating_sub(NOW);
            assert!((57 * DAY..=60 * DAY).contains(&since), "{since:?}");
        }
        let apart = moments
            .iter()
            .max()
            .expect("one")
            .saturating_sub(*moments.iter().min().expect("one"));
        assert!(apart > 2 * DAY, "{apart:?}");
        assert_eq!(renew_at(&issued(7, DAY)), renew_at(&issued(7, DAY)));
    }

    #[test]
    fn a_window_of_the_cas_is_met_somewhere_within() {
        for serial in 0..100 {
            let at = within((NOW, NOW + DAY), &issued(serial, 90 * DAY));
            assert!((NOW..NOW + DAY).contains(&at), "{at:?}");
        }
        assert_eq!(within((NOW, NOW), &issued(1, DAY)), NOW);
    }

    #[test]
    fn waits_grow_from_a_minute_to_a_day() {
        let mut trouble = after(None, None, 0.5);
        let mut waits = Vec::new();
        for _ in 0..14 {
            waits.push((trouble.again - NOW).as_secs() / 60);
            trouble = after(Some(&trouble), None, 0.5);
        }
        assert_eq!(
            waits,
            [
                1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1440, 1440, 1440
            ]
        );
        assert_eq!(after(None, None, 0.0).again, NOW + Duration::from_secs(45));
        let most = after(None, None, 0.999).again;
        assert!(most < NOW + Duration::from_secs(75), "{most:?}");
    }

    #[test]
    fn a_ca_that_asks_for_more_time_gets_it_and_for_less_does_not() {
        for (asked, wait, by_ca) in [
            (Duration::from_secs(1), MINUTE, false),
            (Duration::from_hours(3), Duration::from_hours(3), true),
            (400 * DAY, MOST_ASKED, true),
        ] {
            let trouble = after(None, Some(NOW + asked), 0.5);
            assert_eq!((trouble.again - NOW, trouble.by_ca), (wait, by_ca));
        }
    }

    #[test]
    fn a_restart_tries_earlier_but_not_than_the_ca_said() {
        let day = Trouble {
            failures: 20,
            ..after(None, None, 0.5)
        };
        let day = after(Some(&day), None, 0.5);
        assert_eq!(day.again, NOW + DAY);
        let restarted = day.clone().after_restart(NOW + MINUTE).expect("kept");
        assert_eq!(restarted.again, NOW + AFTER_RESTART);
        assert_eq!(restarted.failures, 21);
        assert_eq!(day.after_restart(NOW - MINUTE), None);

        let asked = after(None, Some(NOW + 2 * DAY), 0.5);
        let restarted = asked.clone().after_restart(NOW + MINUTE);
        assert_eq!(restarted, Some(asked));
    }
}
