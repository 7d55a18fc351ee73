//! Sets of numbers as ranges: addresses and times.

/// A number that ranges are made of.
pub trait Number: Copy + Ord {
    /// The least there is.
    const LEAST: Self;
    /// The greatest there is.
    const GREATEST: Self;
    /// The one after it; `None` after the greatest.
    fn next(self) -> Option<Self>;
    /// The one before it; `None` before the least.
    fn before(self) -> Option<Self>;
}

macro_rules! number {
    ($($kind:ty),*) => {$(
        impl Number for $kind {
            const LEAST: Self = Self::MIN;
            const GREATEST: Self = Self::MAX;
            fn next(self) -> Option<Self> { self.checked_add(1) }
            fn before(self) -> Option<Self> { self.checked_sub(1) }
        }
    )*};
}

number!(u64, u128);

/// Inclusive ranges, in order, with something between any two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ranges<N>(Vec<(N, N)>);

impl<N: Number> Ranges<N> {
    /// Every number.
    pub fn any() -> Self {
        Self(vec![(N::LEAST, N::GREATEST)])
    }

    /// None.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// All numbers from the first to the second of each pair. A pair in the wrong order holds none.
    pub fn of(ranges: impl IntoIterator<Item = (N, N)>) -> Self {
        let mut ranges: Vec<(N, N)> = ranges.into_iter().filter(|(a, b)| a <= b).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(N, N)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if end.next().is_none_or(|next| first <= next) => {
                    *end = (*end).max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// The ranges, first and last of each.
    pub fn iter(&self) -> impl Iterator<Item = (N, N)> {
        self.0.iter().copied()
    }

    /// Whether it is every number.
    pub fn is_any(&self) -> bool {
        matches!(self.0.as_slice(), [(first, last)] if *first == N::LEAST && *last == N::GREATEST)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The least number in it.
    pub fn first(&self) -> Option<N> {
        self.0.first().map(|(first, _)| *first)
    }

    /// Whether a number is in it.
    pub fn contains(&self, number: N) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < number);
        self.0.get(at).is_some_and(|(first, _)| *first <= number)
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Vec::new();
        let (mut ours, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some((a, b)), Some((c, d))) = (ours.peek(), theirs.peek()) {
            let (first, last) = (*a.max(c), *b.min(d));
            if first <= last {
                both.push((first, last));
            }
            match b <= d {
                true => ours.next(),
                false => theirs.next(),
            };
        }
        Self(both)
    }

    /// What is in either.
    pub fn union(&self, other: &Self) -> Self {
        Self::of(self.iter().chain(other.iter()))
    }

    /// What is in this and not in the other.
    pub fn minus(&self, other: &Self) -> Self {
        self.intersection(&other.complement())
    }

    /// Whether all of the other is in it.
    pub fn covers(&self, other: &Self) -> bool {
        self.is_any() || other.minus(self).is_empty()
    }

    fn complement(&self) -> Self {
        let mut between = Vec::with_capacity(self.0.len() + 1);
        let mut from = Some(N::LEAST);
        for (first, last) in self.iter() {
            if let (Some(from), Some(to)) = (from, first.before())
                && from <= to
            {
                between.push((from, to));
            }
            from = last.next();
        }
        between.extend(from.map(|from| (from, N::GREATEST)));
        Self(between)
    }
}
