//! What is told of requests that are like one before, kept for the next. Callers that matter come again and again, by
//! the same routes and with the same outcome.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, Weighter};

use super::azure_monitor::Form;
use super::otlp::{self, Item};
use super::record::Record;
use super::sink::{RequestLog, Telling};
use super::stencil::Stencil;
use super::{decision, format};

/// All that is told of records that are alike.
#[derive(Debug)]
pub(super) struct Forms {
    /// The line of the request log, where that is JSON.
    pub(super) request: Option<Stencil>,
    /// The line of the decision log.
    pub(super) decision: Option<Stencil>,
    /// The span of the request that was served, and of the one that was sent.
    pub(super) spans: Option<(Item, Option<Item>)>,
    /// The record of the decision.
    pub(super) log: Option<Item>,
    /// What goes to Azure Monitor.
    pub(super) envelopes: Vec<Stencil>,
}

impl Forms {
    fn of(record: &Record, telling: &Telling) -> Self {
        let scheme = telling.scheme;
        let envelopes = |form: &Form| form.envelopes(record, telling);
        let spans = telling.spans && record.is_told();
        Self {
            request: (telling.request_log == RequestLog::Json).then(|| format::json(record)),
            decision: (telling.decision_log.then(|| decision::line(record))).flatten(),
            spans: spans.then(|| (otlp::served(record, scheme), otlp::sent(record))),
            log: (telling.logs.take(record)).then(|| otlp::decision(record, scheme)),
            envelopes: (telling.azure_monitor.as_ref()).map_or_else(Vec::new, envelopes),
        }
    }

    fn size(&self) -> usize {
        let stencils = [&self.request, &self.decision];
        let stencils = stencils.into_iter().flatten().chain(&self.envelopes);
        let spans = self.spans.iter();
        let items = spans
            .flat_map(|(served, sent)| std::iter::once(served).chain(sent))
            .chain(&self.log);
        stencils.map(Stencil::size).sum::<usize>() + items.map(Item::size).sum::<usize>()
    }
}

/// What was told before.
pub(super) struct Alike(Cache<Like, Arc<Forms>, Size, RandomState>);

impl Default for Alike {
    fn default() -> Self {
        /// About as many bytes as one takes.
        const USUAL: u64 = 8 << 10;
        let count = Self::MOST / USUAL;
        let (hasher, lifecycle) = (RandomState::default(), DefaultLifecycle::default());
        Self(Cache::with(
            count as usize,
            Self::MOST,
            Size,
            hasher,
            lifecycle,
        ))
    }
}

impl fmt::Debug for Alike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Alike").field(&self.0.len()).finish()
    }
}

impl Alike {
    /// The most bytes that a worker keeps.
    pub(super) const MOST: u64 = 2 << 20;

    /// What is told of all records like this one.
    pub(super) fn forms(&mut self, record: &Record, telling: &Telling) -> Arc<Forms> {
        if let Some(forms) = self.0.get(&Asked(record)) {
            return Arc::clone(forms);
        }
        let forms = Arc::new(Forms::of(record, telling));
        if forms.size() > 0 {
            let like = Like(Box::new(record.stands_for_all()));
            self.0.insert(like, Arc::clone(&forms));
        }
        forms
    }
}

#[cfg(test)]
impl Alike {
    /// How many bytes are kept.
    pub(super) fn bytes(&self) -> u64 {
        self.0.weight()
    }
}

/// A record that stands for all like it.
struct Like(Box<Record>);

impl PartialEq for Like {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_like(&other.0)
    }
}

impl Eq for Like {}

impl Hash for Like {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.mark().hash(state);
    }
}

/// The one that is asked for.
struct Asked<'r>(&'r Record);

impl Hash for Asked<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.mark().hash(state);
    }
}

impl Equivalent<Like> for Asked<'_> {
    fn equivalent(&self, like: &Like) -> bool {
        like.0.is_like(self.0)
    }
}

#[derive(Clone)]
struct Size;

impl Weighter<Like, Arc<Forms>> for Size {
    fn weight(&self, like: &Like, forms: &Arc<Forms>) -> u64 {
        (like.0.size() + forms.size()) as u64
    }
}
