//! Who still calls with a signature or key in the URL, counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::HashMap;

use super::record::{Record, Sighting};
use crate::canonical::KeyParameters;
use crate::metric::{Family, Metric, Point, Unit};

/// So many user agents have a label of their own; callers choose these names, and could choose any number.
const MOST_AGENTS: usize = 64;
/// The label of who names none.
const NO_AGENT: &str = "none";
/// The label of all who have none of their own.
const OTHER_AGENT: &str = "other";
/// The longest name of a user agent in a label.
const LONGEST_AGENT: usize = 40;

/// Requests with a signature or key in their URLs.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    /// What was counted last and is not yet among the others.
    latest: Option<(Seen, u64)>,
    /// The user agent that was counted last, as it was sent, and its label.
    agent: Option<(Option<Box<str>>, Arc<str>)>,
    counts: HashMap<Seen, u64>,
    agents: Agents,
}

/// The user agents that have a label of their own. All who count share them, so that who was known before a
/// stranger came with many names is known to all and for good.
#[derive(Clone, Debug, Default)]
pub struct Agents(Arc<Mutex<BTreeSet<Arc<str>>>>);

impl Agents {
    /// The label of a user agent: its product, as long as there are not too many. Strangers take no more than half of
    /// them.
    fn label(&self, agent: Option<&str>, is_known: bool) -> Arc<str> {
        let Some(product) = agent.map(product) else {
            return NO_AGENT.into();
        };
        let mut agents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(label) = agents.get(product) {
            return Arc::clone(label);
        }
        let most = if is_known {
            MOST_AGENTS
        } else {
            MOST_AGENTS / 2
        };
        if agents.len() >= most {
            return OTHER_AGENT.into();
        }
        let label: Arc<str> = product.into();
        agents.insert(Arc::clone(&label));
        label
    }
}

/// What a record says of the keys in its URL. Bounded, for routes and apps are named in the files, few agents have
/// a label, and few parameters are keys.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Seen {
    route: Option<Arc<str>>,
    app: Option<Arc<str>>,
    /// Whether a token said who called, though the policy has no name for it.
    is_known: bool,
    agent: Arc<str>,
    keys: KeyParameters,
    refused: bool,
}

impl Seen {
    fn is_of(&self, record: &Record, sighting: &Sighting, agent: &str) -> bool {
        self.keys == sighting.keys
            && *self.agent == *agent
            && self.is_known == record.principal.is_some()
            && self.refused == record.refused_for_key()
            && self.route == record.route
            && self.app == record.app_name
    }
}

impl Sightings {
    /// None yet.
    pub(super) fn new(agents: Agents) -> Self {
        Self {
            agents,
            ..Self::default()
        }
    }

    /// None yet, with the same user agents.
    pub(super) fn beside(&self) -> Self {
        Self::new(self.agents.clone())
    }

    /// Counts a record, if its request brought one. Most are like the one before.
    pub(super) fn count(&mut self, record: &Record) {
        let Some(sighting) = record.sighting.as_deref() else {
            return;
        };
        let agent = self.agent_of(sighting, record.principal.is_some());
        if let Some((seen, count)) = &mut self.latest
            && seen.is_of(record, sighting, &agent)
        {
            *count += 1;
            return;
        }
        self.settle();
        let seen = Seen {
            route: record.route.clone(),
            app: record.app_name.clone(),
            is_known: record.principal.is_some(),
            agent,
            keys: sighting.keys,
            refused: record.refused_for_key(),
        };
        self.latest = Some((seen, 1));
    }

    /// Puts what was counted last among the others.
    pub(super) fn settle(&mut self) {
        if let Some((seen, count)) = self.latest.take() {
            *self.counts.entry(seen).or_default() += count;
        }
    }

    /// Adds what another has counted and settled.
    pub(super) fn add(&mut self, other: Self) {
        for (seen, count) in other.counts {
            *self.counts.entry(seen).or_default() += count;
        }
    }

    /// The label of a sighting's user agent.
    fn agent_of(&mut self, sighting: &Sighting, is_known: bool) -> Arc<str> {
        if let Some((sent, label)) = &self.agent
            && *sent == sighting.agent
            && !(is_known && **label == *OTHER_AGENT)
        {
            return Arc::clone(label);
        }
        let label = self.agents.label(sighting.agent.as_deref(), is_known);
        self.agent = Some((sighting.agent.clone(), Arc::clone(&label)));
        label
    }

    /// The counts, one for each key.
    pub(super) fn family(&self) -> Family {
        let mut counts: BTreeMap<_, u64> = BTreeMap::new();
        for (seen, count) in &self.counts {
            let route = seen.route.as_deref().unwrap_or("none");
            let unnamed = if seen.is_known { "other" } else { "none" };
            let app = seen.app.as_deref().unwrap_or(unnamed);
            for key in seen.keys.names() {
                let labels = (route, app, &*seen.agent, key, seen.refused);
                *counts.entry(labels).or_default() += count;
            }
        }
        let point = |((route, app, agent, key, refused), count)| {
            let refused = if refused { "true" } else { "false" };
            let labels = [
                ("route", route),
                ("app", app),
                ("agent", agent),
                ("key", key),
                ("refused", refused),
            ];
            Point::new(labels, count)
        };
        SEEN.with(counts.into_iter().map(point).collect())
    }
}

static SEEN: Metric = Metric::counter(
    "portcullis.sas.seen",
    Unit::Of("{request}"),
    "Requests that brought a signature or key in the URL.",
);

/// The product that a user agent names first (RFC 9110 section 10.1.5); `other` for what is not one.
fn product(agent: &str) -> &str {
    let product = agent.split(['/', ' ', '(']).next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match (1..=LONGEST_AGENT).contains(&product.len()) && product.chars().all(plain) {
        true => product,
        false => OTHER_AGENT,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::super::prometheus::Exposition;
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

    /// The counters, from the user agent on.
    fn counts(sightings: &Sightings) -> Vec<String> {
        let text = Exposition::Text.write(&[sightings.family()]);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let nobody = "portcullis_sas_seen_total{route=\"none\",app=\"none\",";
        let rest = lines.map(|line| line.strip_prefix(nobody).expect("nobody's").to_owned());
        rest.collect()
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
        refused.denied(&Denial::from(Reason::KeyInUrl), None);
        sightings.count(&refused);
        sightings.settle();
        let expected = [
            r#"agent="curl",key="code",refused="false"} 2"#,
            r#"agent="curl",key="sig",refused="false"} 5"#,
            r#"agent="wget",key="sig",refused="false"} 1"#,
            r#"agent="wget",key="sig",refused="true"} 1"#,
        ];
        assert_eq!(counts(&sightings), expected);
    }

    #[test]
    fn who_is_known_stays_known_to_all_who_count() {
        let agents = Agents::default();
        let mut all = Sightings::new(agents.clone());
        let mut workers = [
            Sightings::new(agents.clone()),
            Sightings::new(agents.clone()),
        ];
        let mut count = |worker: usize, agent: &str| {
            let worker = &mut workers[worker];
            worker.count(&record(agent, KeyParameters::SIG));
            worker.settle();
            let next = worker.beside();
            all.add(std::mem::replace(worker, next));
        };
        count(0, "known/1");
        for at in 1..MOST_AGENTS {
            agents.label(Some(&format!("agent-{at}")), true);
        }
        for worker in 0..2 {
            count(worker, "late/1");
            count(worker, "known/1");
        }
        let expected = [
            r#"agent="known",key="sig",refused="false"} 3"#,
            r#"agent="other",key="sig",refused="false"} 2"#,
        ];
        assert_eq!(counts(&all), expected);
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
        let agents = Agents::default();
        for at in 0..MOST_AGENTS {
            let agent = format!("agent-{at}/1");
            assert_eq!(*agents.label(Some(&agent), true), *format!("agent-{at}"));
        }
        assert_eq!(&*agents.label(Some("one-more/1"), true), "other");
        assert_eq!(&*agents.label(Some("agent-0/2"), true), "agent-0");
        assert_eq!(&*agents.label(None, true), "none");
    }

    #[test]
    fn strangers_leave_half_of_the_labels_to_those_who_are_known() {
        let agents = Agents::default();
        for at in 0..MOST_AGENTS {
            agents.label(Some(&format!("stranger-{at}/1")), false);
        }
        assert_eq!(&*agents.label(Some("stranger-0/1"), false), "stranger-0");
        assert_eq!(&*agents.label(Some("late/1"), false), "other");
        assert_eq!(&*agents.label(Some("known/1"), true), "known");
        assert_eq!(&*agents.label(Some("known/1"), false), "known");
    }
}
