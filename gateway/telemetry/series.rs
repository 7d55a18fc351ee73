//! Values by what they are of, found without making a key: most of what is counted was counted before.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use foldhash::{HashMap, HashMapExt as _};

/// So many keys have a value of their own; what comes beyond shares one.
/// <https://opentelemetry.io/docs/specs/otel/metrics/sdk/#cardinality-limits>
pub(super) const MOST: usize = 2000;

/// Values by their keys.
#[derive(Debug)]
pub(super) struct Series<K, V> {
    hasher: RandomState,
    places: HashMap<u64, usize>,
    values: Vec<(K, V)>,
    overflow: Option<V>,
}

impl<K, V> Default for Series<K, V> {
    fn default() -> Self {
        Self {
            hasher: RandomState::default(),
            places: HashMap::new(),
            values: Vec::new(),
            overflow: None,
        }
    }
}

impl<K, V> Series<K, V> {
    /// The value of what hashes as `parts` and `is` the key, which is made where there is none yet.
    pub(super) fn of(
        &mut self,
        parts: impl std::hash::Hash,
        is: impl Fn(&K) -> bool,
        key: impl FnOnce() -> K,
        value: impl FnOnce() -> V,
    ) -> &mut V {
        let mut hash = self.hasher.hash_one(parts);
        // Two keys with one hash: the later lies at the next that is free.
        let found = loop {
            match self.places.get(&hash) {
                None => break None,
                Some(at) if self.values.get(*at).is_some_and(|(key, _)| is(key)) => {
                    break Some(*at);
                }
                Some(_) => hash = hash.wrapping_add(1),
            }
        };
        let at = match found {
            Some(at) => at,
            None if self.values.len() >= MOST => {
                return self.overflow.get_or_insert_with(value);
            }
            None => {
                self.places.insert(hash, self.values.len());
                self.values.push((key(), value()));
                self.values.len() - 1
            }
        };
        #[expect(clippy::indexing_slicing, reason = "it was found or made right above")]
        &mut self.values[at].1
    }

    /// Hands over all values, and those beyond the most as what has no key.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (Option<K>, V)> + use<K, V> {
        self.places.clear();
        let values = std::mem::take(&mut self.values).into_iter();
        let overflow = self.overflow.take();
        values
            .map(|(key, value)| (Some(key), value))
            .chain(overflow.map(|value| (None, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(series: &mut Series<String, u64>, name: &str, hash: &str) {
        *series.of(hash, |key| key == name, || name.to_owned(), || 0) += 1;
    }

    #[test]
    fn each_key_has_a_value_of_its_own_even_where_hashes_are_the_same() {
        let mut series = Series::default();
        for name in ["a", "b", "a", "c", "b", "a"] {
            count(&mut series, name, "same");
        }
        let values: Vec<_> = series.take().collect();
        let expected = [("a", 3), ("b", 2), ("c", 1)];
        assert_eq!(
            values,
            expected.map(|(name, count)| (Some(name.to_owned()), count))
        );
        assert_eq!(series.take().count(), 0);
        count(&mut series, "a", "a");
        assert_eq!(
            series.take().collect::<Vec<_>>(),
            [(Some("a".to_owned()), 1)]
        );
    }

    #[test]
    fn what_comes_beyond_the_most_shares_one_value() {
        let mut series = Series::default();
        for number in 0..MOST + 3 {
            let name = number.to_string();
            count(&mut series, &name, &name);
        }
        count(&mut series, "0", "0");
        let values: Vec<_> = series.take().collect();
        assert_eq!(values.len(), MOST + 1);
        assert_eq!(values.first(), Some(&(Some("0".to_owned()), 2)));
        assert_eq!(values.last(), Some(&(None, 3)));
    }
}
