//! Before authentication: what an address has sent lately, and how much is under way. Both are asked before a token is
//! looked at, so that a flood of bad ones is cheap to refuse.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;

use super::counts::Counts;
use super::fields::{Telling, Told};
use super::keys::{Key, Who};
use super::measure::{Left, Measure, Moment};
use super::overload::{OneOf, UnderWay};
use crate::denial::{Denial, Reason};
use crate::files::{AddressLimit, Counted, LimitFields};

/// What a limit by address is called in answers and logs.
const NAME: &str = "address";

/// What is asked of everybody.
pub(super) struct Door {
    pub(super) by_address: Option<Arc<ByAddress>>,
    pub(super) most_under_way: Option<u64>,
    pub(super) under_way: Arc<UnderWay>,
}

/// A rate for each address.
pub(super) struct ByAddress {
    counted: Counted,
    told: Told,
    telling: Telling,
    counts: Arc<Counts>,
}

impl ByAddress {
    pub(super) fn measure(written: &AddressLimit) -> Measure {
        Measure::rate(
            written.requests,
            written.per,
            written.burst.unwrap_or(written.requests),
        )
    }

    pub(super) fn new(written: &AddressLimit, fields: LimitFields, counts: Arc<Counts>) -> Self {
        let told = Told::rate(NAME.into(), written.requests, written.per);
        Self {
            counted: written.count,
            telling: Telling::of(fields, std::iter::once(&told)),
            told,
            counts,
        }
    }

    fn admit(&self, key: &Key, now: Moment) -> Result<(), Denial> {
        let admitted = match self.counted {
            Counted::Requests => self.counts.take(key, 1, now),
            Counted::Failures => self.counts.would_take(key, 1, now),
        };
        let Err(wait) = admitted else { return Ok(()) };
        let refusing = std::iter::once((&self.told, wait));
        Err(refusal(Reason::RateLimited, &self.telling, refusing))
    }
}

/// The proof that a request may be looked at. Only [`Limits::enter`](super::Limits::enter) makes it.
pub struct Entry {
    one: Option<OneOf>,
    failures: Option<(Arc<ByAddress>, Key)>,
}

impl Door {
    pub(super) fn enter(&self, client: IpAddr, now: Moment) -> Result<Entry, Denial> {
        let one = match self.most_under_way {
            None => None,
            Some(most) => Some(self.under_way.enter(most)?),
        };
        let mut failures = None;
        if let Some(by_address) = &self.by_address {
            let key = Key::of_address(client);
            by_address.admit(&key, now)?;
            if by_address.counted == Counted::Failures {
                failures = Some((Arc::clone(by_address), key));
            }
        }
        Ok(Entry { one, failures })
    }
}

impl Entry {
    /// Whether there is no room for a token that was never verified.
    pub fn is_pressed(&self) -> bool {
        self.one.as_ref().is_some_and(OneOf::is_pressed)
    }

    /// Whether anybody asks whether authentication failed.
    pub fn counts_failures(&self) -> bool {
        self.failures.is_some()
    }

    /// The caller has not proved who they are.
    pub(super) fn failed(&self, now: Moment) {
        if let Some((by_address, key)) = &self.failures {
            by_address.counts.charge(key, 1, now);
        }
    }

    /// The caller is known.
    pub(super) fn taken_by(mut self, who: Who) -> Result<Option<OneOf>, Denial> {
        if let Some(one) = &mut self.one {
            one.taken_by(who)?;
        }
        Ok(self.one)
    }
}

/// A refusal by limits, each with the time after which it lets the request through.
pub(super) fn refusal<'t>(
    reason: Reason,
    telling: &Telling,
    refusing: impl Iterator<Item = (&'t Told, Duration)> + Clone,
) -> Denial {
    let waits = refusing.clone().map(|(_, wait)| wait);
    let longest = waits.fold(Duration::from_secs(1), Duration::max);
    let denial = Denial::from(reason).retry_after(longest);
    let names = refusing.clone().map(|(told, _)| &told.name);
    let denial = names.fold(denial, Denial::violates);
    let left = refusing.map(|(told, wait)| (told, Left::none(wait)));
    let fields = telling.standing(left).into_fields();
    fields
        .iter()
        .fold(denial, |denial, (name, value): (_, &HeaderValue)| {
            denial.field(name.clone(), value.clone())
        })
}
