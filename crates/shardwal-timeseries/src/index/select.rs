//! Selects the series that satisfy matchers. A label's values are walked, never all series, and
//! patterns are matched without the lock.
//!
//! A series that exists before and after the selection is found if it satisfies all matchers.

use std::sync::Arc;

use parking_lot::RwLock;
use roaring::RoaringBitmap;

use super::super::Matcher;
use super::Index;

/// Number of values copied per lock hold. The writer thread needs the lock too.
const VALUES_AT_A_TIME: usize = 1024;

/// The numbers of the series that satisfy all matchers. Those that were hidden at the time of
/// `clock` are not among them.
pub(crate) fn select(index: &RwLock<Index>, matchers: &[Matcher], clock: u32) -> RoaringBitmap {
    let mut found = index.read().select_by_value(matchers, clock);
    for matcher in matchers.iter().filter(|matcher| matcher.value().is_none()) {
        if found.is_empty() {
            break;
        }
        let Some((name, values)) = index.read().name(matcher.name()) else {
            // No series has the label.
            if !matcher.accepts_value("") {
                found.clear();
            }
            continue;
        };
        if found.len() <= values {
            keep_accepted(index, name, matcher, &mut found);
        } else {
            keep_by_values(index, name, matcher, &mut found);
        }
    }
    found
}

/// Matches the value of each found series.
fn keep_accepted(index: &RwLock<Index>, name: u32, matcher: &Matcher, found: &mut RoaringBitmap) {
    let mut rest = std::mem::take(found).into_iter();
    loop {
        let some: Vec<u32> = rest.by_ref().take(VALUES_AT_A_TIME).collect();
        if some.is_empty() {
            return;
        }
        let values = index.read().values_of(name, &some);
        let accepts =
            |value: &Option<Arc<str>>| matcher.accepts_value(value.as_deref().unwrap_or(""));
        let accepted = some.into_iter().zip(&values).filter(|(_, value)| accepts(value));
        found.extend(accepted.map(|(number, _)| number));
    }
}

/// Matches each value of the label. Series without the label have an empty value.
fn keep_by_values(index: &RwLock<Index>, name: u32, matcher: &Matcher, found: &mut RoaringBitmap) {
    let accepts_empty = matcher.accepts_value("");
    let (mut from, mut series) = (0, RoaringBitmap::new());
    loop {
        let some = index.read().pairs.some_values(name, from, VALUES_AT_A_TIME);
        let Some((last, _)) = some.last() else { break };
        from = *last + 1;
        // Either the values that are accepted, or those that are not, whose series are fewer.
        let differs = |value: &str| matcher.accepts_value(value) != accepts_empty;
        let differing: Vec<_> = some.iter().filter(|(_, value)| differs(value)).collect();
        let index = index.read();
        differing
            .iter()
            .for_each(|(pair, value)| index.pairs.add_series(*pair, value, &mut series));
    }
    if accepts_empty {
        *found -= series;
    } else {
        *found &= series;
    }
}

impl Index {
    /// The series that satisfy the matchers that name one value. Costs in proportion to what the
    /// most selective of them selects, unless all of them are negative.
    fn select_by_value(&self, matchers: &[Matcher], clock: u32) -> RoaringBitmap {
        let by_value = || matchers.iter().filter_map(|m| m.value().map(|value| (m, value)));
        let (equal, others): (Vec<_>, Vec<_>) =
            by_value().partition(|(matcher, value)| matcher.is_equal() && !value.is_empty());
        let postings =
            equal.iter().map(|(matcher, value)| self.pairs.series(matcher.name(), value));
        let Some(mut postings) = postings.collect::<Option<Vec<_>>>() else {
            return RoaringBitmap::new();
        };
        postings.sort_by_key(|postings| postings.len());
        let mut found = RoaringBitmap::new();
        match postings.split_first() {
            None => found.clone_from(&self.all),
            Some((smallest, rest)) => {
                smallest.add_to(&mut found);
                rest.iter().for_each(|postings| found = postings.intersect(&found));
            }
        }
        for (matcher, value) in others {
            match (self.pairs.series_with_name(matcher.name()), matcher.is_equal()) {
                (None, true) => {}
                (Some(with_name), true) => found -= with_name,
                (with_name, false) if value.is_empty() => match with_name {
                    Some(with_name) => found &= with_name,
                    None => found.clear(),
                },
                (_, false) => {
                    let unwanted = self.pairs.series(matcher.name(), value);
                    unwanted.into_iter().for_each(|series| series.remove_from(&mut found));
                }
            }
        }
        self.lifetimes.hide(&mut found, clock);
        found
    }

    /// The number of a label name, and the number of its values.
    fn name(&self, name: &str) -> Option<(u32, u64)> {
        let name = self.pairs.find_name(name)?;
        Some((name, self.pairs.value_count(name)))
    }

    /// The value that each series has for a name. A series that is gone has none.
    fn values_of(&self, name: u32, series: &[u32]) -> Vec<Option<Arc<str>>> {
        let value = |number: &u32| {
            let pairs = self.series.get(*number as usize)?;
            pairs.iter().find_map(|pair| self.pairs.value_of(*pair, name)).cloned()
        };
        series.iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use parking_lot::RwLock;

    use super::super::super::matcher::PATTERNS_MATCHED;
    use super::super::super::{Labels, Matcher};
    use super::{Index, select};

    fn labels(pairs: &[(&str, String)]) -> Labels {
        Labels::new(pairs.iter().map(|(name, value)| (*name, value))).expect("they are valid")
    }

    /// Series with one to three of the labels `a`, `b`, `c`, of 3, 40 and 900 values.
    fn some_labels(n: u32) -> Labels {
        let value = |n: u32, count: u32| format!("v{}", n.wrapping_mul(2_654_435_761) % count);
        let all = [("a", value(n, 3)), ("b", value(n, 40)), ("c", value(n, 900))];
        let first = n as usize % 3;
        labels(&all[first..=(first + n as usize / 7 % 3).min(2)])
    }

    fn matchers(name: &str) -> Vec<Matcher> {
        let matches = |pattern| Matcher::matches(name, pattern).expect("it is a pattern");
        let differs = |pattern| Matcher::not_matches(name, pattern).expect("it is a pattern");
        let values = ["", "v1", "v2", "v17", "absent"];
        let by_value =
            values.iter().flat_map(|v| [Matcher::equal(name, *v), Matcher::not_equal(name, *v)]);
        let patterns = ["", ".*", ".+", "v1.*", "v1?", "absent", "v2|v7|v500"];
        by_value.chain(patterns.iter().flat_map(|p| [matches(p), differs(p)])).collect()
    }

    /// Any one, and any two matchers select what they accept.
    #[test]
    fn a_selection_is_what_the_matchers_accept() {
        let (mut index, mut all) = (Index::default(), BTreeMap::new());
        for n in 0..3_000 {
            let (number, _) = index.number(&some_labels(n));
            all.insert(number, some_labels(n));
        }
        // Some are dropped, and others get their numbers. Some are tentative.
        let numbers: Vec<u32> = all.keys().copied().collect();
        for number in numbers.iter().step_by(3) {
            index.remove(*number);
            all.remove(number);
        }
        for n in 3_000..3_300 {
            let (number, _) = index.number(&some_labels(n));
            all.insert(number, some_labels(n));
        }
        for number in numbers.iter().skip(1).step_by(7).filter(|n| all.remove(n).is_some()) {
            index.lifetimes.tentative.insert(*number);
        }
        let index = RwLock::new(index);
        let check = |matchers: &[Matcher]| {
            let expected =
                all.iter().filter(|(_, labels)| matchers.iter().all(|m| m.accepts(labels)));
            let found = select(&index, matchers, u32::MAX);
            assert!(found.iter().eq(expected.map(|(number, _)| *number)), "{matchers:?}");
        };
        check(&[]);
        let every: Vec<_> = ["a", "b", "c", "absent"].into_iter().flat_map(matchers).collect();
        for one in &every {
            check(std::slice::from_ref(one));
            every.iter().step_by(5).for_each(|other| check(&[one.clone(), other.clone()]));
        }
        all.iter().for_each(|(number, labels)| assert_eq!(index.read().labels(*number), *labels));
    }

    /// The cost follows the values of a label, or the series that are left, never all series.
    #[test]
    fn a_pattern_is_matched_once_per_value_or_per_series_that_is_left() {
        let mut index = Index::default();
        for n in 0..10_000 {
            let host = ("host", format!("h{}", n / 10));
            index.number(&labels(&[("__name__", format!("m{}", n % 10)), host]));
        }
        let index = RwLock::new(index);
        let matches = |name, pattern| Matcher::matches(name, pattern).expect("it is a pattern");
        let differs = |name, pattern| Matcher::not_matches(name, pattern).expect("it is a pattern");
        let cases = [
            (vec![Matcher::equal("host", "h7"), Matcher::not_equal("__name__", "m1")], 9, 0),
            (vec![matches("__name__", "m[12]")], 2_000, 10),
            (vec![differs("__name__", "m[12]")], 8_000, 10),
            (vec![matches("__name__", "m[12]"), Matcher::equal("host", "h7")], 2, 10),
            (vec![Matcher::equal("host", "h7"), differs("host", "h1.*")], 10, 10),
            (vec![matches("host", "h7|h8"), Matcher::equal("__name__", "m1")], 2, 1_000),
        ];
        for (matchers, expected, matched_max) in cases {
            let before = PATTERNS_MATCHED.get();
            assert_eq!(select(&index, &matchers, u32::MAX).len(), expected, "{matchers:?}");
            let matched = PATTERNS_MATCHED.get() - before;
            assert!(matched <= matched_max + 2, "{matched} times for {matchers:?}");
        }
    }

    #[test]
    fn an_index_without_series_holds_no_texts() {
        let mut index = Index::default();
        let numbers: Vec<u32> = (0..100).map(|n| index.number(&some_labels(n)).0).collect();
        numbers.into_iter().for_each(|number| {
            if index.series.contains(number as usize) {
                index.remove(number);
            }
        });
        assert_eq!((index.len(), index.pairs.texts()), (0, 0));
        assert!(index.all.is_empty());
    }
}
