//! Who still calls with a signature or key in the URL, counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::record::{Record, Sighting};
use crate::canonical::KeyParameters;

/// So many user agents have a label of their own; callers choose these names, and could choose any number.
const MOST_AGENTS: usize = 64;
/// The label of who names none.
const NO_AGENT: &str = "none";
/// The longest name of a user agent in a label.
const LONGEST_AGENT: usize = 40;

/// Requests with a signature or key in their URLs.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    /// What was counted last and is not yet among the others.
    latest: Option<(Seen, u64)>,
    counts: BTreeMap<Labels, u64>,
    agents: BTreeSet<Box<str>>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    route: Option<Arc<str>>,
    app: Option<Arc<str>>,
    /// Whether a token said who called, though the policy has no name for it.
    is_known: bool,
    agent: Box<str>,
    key: &'static str,
    refused: bool,
}

/// What a record says of the keys in its URL.
#[derive(Debug)]
struct Seen {
    route: Option<Arc<str>>,
    app: Option<Arc<str>>,
    is_known: bool,
    /// As it was sent.
    agent: Option<Box<str>>,
    keys: KeyParameters,
    refused: bool,
}

impl Seen {
    fn of(record: &Record, sighting: &Sighting) -> Self {
        Self {
            route: record.route.clone(),
            app: record.app_name.clone(),
            is_known: record.principal.is_some(),
            agent: sighting.agent.clone(),
            keys: sighting.keys,
            refused: record.refused_for_key(),
        }
    }

    fn is_of(&self, record: &Record, sighting: &Sighting) -> bool {
        self.keys == sighting.keys
            && self.is_known == record.principal.is_some()
            && self.refused == record.refused_for_key()
            && self.route == record.route
            && self.app == record.app_name
            && self.agent == sighting.agent
    }
}

impl Sightings {
    /// Counts a record, if its request brought one. Most are like the one before.
    pub(super) fn count(&mut self, record: &Record) {
        let Some(sighting) = record.sighting.as_deref() else {
            return;
        };
        if let Some((seen, count)) = &mut self.latest
            && seen.is_of(record, sighting)
        {
            *count += 1;
            return;
        }
        self.settle();
        self.latest = Some((Seen::of(record, sighting), 1));
    }

    /// Puts what was counted last among the others.
    pub(super) fn settle(&mut self) {
        let Some((seen, count)) = self.latest.take() else {
            return;
        };
        let agent = self.agent(seen.agent.as_deref());
        for key in seen.keys.names() {
            let labels = Labels {
                route: seen.route.clone(),
                app: seen.app.clone(),
                is_known: seen.is_known,
                agent: agent.clone(),
                key,
                refused: seen.refused,
            };
            *self.counts.entry(labels).or_default() += count;
        }
    }

    /// Adds what another has counted and settled.
    pub(super) fn add(&mut self, other: Self) {
        for (mut labels, count) in other.counts {
            // There may be too many agents by now, though there were not there.
            if &*labels.agent != NO_AGENT {
                labels.agent = self.label(&labels.agent);
            }
            *self.counts.entry(labels).or_default() += count;
        }
    }

    /// The label of a user agent: its product, as long as there are not too many.
    fn agent(&mut self, agent: Option<&str>) -> Box<str> {
        match agent.map(product) {
            None => NO_AGENT.into(),
            Some(product) => self.label(product),
        }
    }

    fn label(&mut self, product: &str) -> Box<str> {
        if !self.agents.contains(product) {
            if self.agents.len() >= MOST_AGENTS {
                return "other".into();
            }
            self.agents.insert(product.into());
        }
        product.into()
    }

    /// Writes the counters.
    pub(super) fn text(&self, text: &mut String) {
        text.push_str(
            "# HELP portcullis_sas_seen_total Requests that brought a signature or key in the URL.\n\
             # TYPE portcullis_sas_seen_total counter\n",
        );
        for (labels, count) in &self.counts {
            let Labels {
                route,
                app,
                is_known,
                agent,
                key,
                refused,
            } = labels;
            let route = route.as_deref().unwrap_or("none");
            let app = app
                .as_deref()
                .unwrap_or(if *is_known { "other" } else { "none" });
            let _ = writeln!(
                text,
                "portcullis_sas_seen_total{{route=\"{route}\",app=\"{app}\",agent=\"{agent}\",key=\"{key}\",refused=\"{refused}\"}} {count}"
            );
        }
    }
}

/// The product that a user agent names first (RFC 9110 section 10.1.5); `other` for what is not one.
fn product(agent: &str) -> &str {
    let product = agent.split(['/', ' ', '(']).next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match (1..=LONGEST_AGENT).contains(&product.len()) && product.chars().all(plain) {
        true => product,
        false => "other",
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::body::CallerBody;
    use crate::clock::{Clock as _, SystemClock};
    use crate::denial::{Denial, Reason};

    fn record(agent: &str, keys: KeyParameters) -> Record {
        let client = "192.0.2.1:1".parse().expect("an address");
        let now = SystemClock.now();
        let mut record = Record::open(now, &client, &Request::new(CallerBody::nothing()));
        record.saw(keys, None, Some(agent));
        record
    }

    #[test]
    fn nothing_is_lost_between_one_caller_and_the_next() {
        let (sig, both) = (
            KeyParameters::SIG,
            KeyParameters::SIG.with(KeyParameters::CODE),
        );
        let mut sightings = Sightings::default();
        for (agent, keys) in [
            ("curl/8", sig),
            ("curl/8", sig),
            ("wget/1", sig),
            ("curl/8", sig),
            ("curl/9", both),
            ("curl/9", both),
        ] {
            sightings.count(&record(agent, keys));
        }
        let mut refused = record("wget/1", sig);
        refused.denied(&Denial::from(Reason::KeyInUrl));
        sightings.count(&refused);
        sightings.settle();
        let counts: Vec<_> = sightings
            .counts
            .iter()
            .map(|(one, count)| (&*one.agent, one.key, one.refused, *count))
            .collect();
        let expected = [
            ("curl", "code", false, 2),
            ("curl", "sig", false, 5),
            ("wget", "sig", false, 1),
            ("wget", "sig", true, 1),
        ];
        assert_eq!(counts, expected);
    }

    #[test]
    fn agents_stay_bounded_when_counts_are_added() {
        let labels = |agent: &str| Labels {
            route: None,
            app: None,
            is_known: false,
            agent: agent.into(),
            key: "sig",
            refused: false,
        };
        let mut all = Sightings::default();
        for at in 0..MOST_AGENTS {
            all.agent(Some(&format!("agent-{at}")));
        }
        for _ in 0..2 {
            let mut one = Sightings::default();
            for agent in ["agent-1", "late", NO_AGENT] {
                one.counts.insert(labels(agent), 3);
            }
            all.add(one);
        }
        let counts: Vec<_> = all
            .counts
            .iter()
            .map(|(one, count)| (&*one.agent, *count))
            .collect();
        assert_eq!(counts, [("agent-1", 6), (NO_AGENT, 6), ("other", 6)]);
    }

    #[test]
    fn agents_are_named_by_their_product_and_bounded_in_number() {
        for (agent, label) in [
            ("curl/8.5.0", "curl"),
            ("azure-logic-apps/1.0 (workflow 0123)", "azure-logic-apps"),
            ("Mozilla/5.0 (X11)", "Mozilla"),
            ("", "other"),
            ("a\"b/1", "other"),
            ("sig=planted", "other"),
        ] {
            assert_eq!(product(agent), label, "{agent}");
        }
        let mut sightings = Sightings::default();
        for at in 0..MOST_AGENTS {
            let agent = format!("agent-{at}/1");
            assert_eq!(*sightings.agent(Some(&agent)), *format!("agent-{at}"));
        }
        assert_eq!(&*sightings.agent(Some("one-more/1")), "other");
        assert_eq!(&*sightings.agent(Some("agent-0/2")), "agent-0");
        assert_eq!(&*sightings.agent(None), "none");
    }
}
