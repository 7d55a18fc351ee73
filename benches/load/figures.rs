//! Figures out of rounds: medians and spread, and where to find them.

use std::fmt;

use crate::caller::Round;
use crate::contender::{Contender, Job, Program};
use crate::measure::{Measured, Outcome};

/// Several measurements of one thing.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Some(Self {
            median: *values.get(values.len() / 2)?,
            low: *values.first()?,
            high: *values.last()?,
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, low, high } = self;
        write!(f, "{median:.1} ({low:.1}–{high:.1})")
    }
}

/// The median of something of each round.
pub(crate) fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    Spread::of(rounds.iter().map(of)).map_or(0.0, |spread| spread.median)
}

/// Where something was measured.
pub(crate) type Place<'p> = (&'p str, Program, Job);

/// All that was measured, by case and proxy.
pub(crate) struct Figures<'all>(pub(crate) &'all [Measured]);

impl Figures<'_> {
    fn find(&self, case: &str, program: Program, job: Job) -> Option<&Outcome> {
        let contender = Contender { program, job };
        let mut all = self.0.iter();
        let found = all.find(|one| one.case.name == case && one.contender == contender);
        found.map(|one| &one.outcome)
    }

    /// CPU per request of one by another's, round by round: a machine whose speed changes from one minute to the
    /// next is as fast for both in a round that they share, and cases that are compared share theirs.
    pub(crate) fn cpu_ratio(&self, one: Place<'_>, other: Place<'_>) -> Option<Spread> {
        let rounds = |(case, program, job)| match self.find(case, program, job)? {
            Outcome::Rounds(rounds) => Some(rounds),
            Outcome::Start(_) | Outcome::Memory { .. } | Outcome::Held(_) => None,
        };
        let pairs = rounds(one)?.iter().zip(rounds(other)?);
        Spread::of(pairs.map(|(one, other)| one.cpu_per_request() / other.cpu_per_request()))
    }

    /// Milliseconds.
    pub(crate) fn p99(&self, case: &str, program: Program, job: Job) -> Option<f64> {
        match self.find(case, program, job)? {
            Outcome::Rounds(rounds) => Some(median(rounds, |round| round.permille(990))),
            Outcome::Start(_) | Outcome::Memory { .. } | Outcome::Held(_) => None,
        }
    }

    /// Milliseconds.
    pub(crate) fn start(&self, program: Program, job: Job) -> Option<f64> {
        match self.find("start", program, job)? {
            Outcome::Start(times) => Spread::of(times.iter().copied()).map(|spread| spread.median),
            Outcome::Rounds(_) | Outcome::Memory { .. } | Outcome::Held(_) => None,
        }
    }

    /// MiB: idle, and under 1,000 connections.
    pub(crate) fn memory(&self, program: Program, job: Job) -> Option<(f64, f64)> {
        let of = |values: &[f64]| Spread::of(values.iter().copied()).map(|spread| spread.median);
        match self.find("memory", program, job)? {
            Outcome::Memory { idle, loaded } => of(idle).zip(of(loaded)),
            Outcome::Rounds(_) | Outcome::Start(_) | Outcome::Held(_) => None,
        }
    }
}
