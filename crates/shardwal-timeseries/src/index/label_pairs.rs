//! The labels of a shard's series: each name and each pair of name and value once, by number, with
//! the series that have it. This file does not know the labels of a series as a whole.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use roaring::RoaringBitmap;
use slab::Slab;

use super::Hashed;
use super::postings::Postings;

/// A label name.
#[derive(Debug)]
struct Name {
    text: Arc<str>,
    /// The pairs with this name.
    pairs: RoaringBitmap,
    /// The series with this name.
    series: RoaringBitmap,
}

/// A name and a value.
#[derive(Debug)]
struct Pair {
    name: u32,
    value: Arc<str>,
    series: Postings,
}

/// All pairs. A pair exists as long as a series has it. The tables hash with a random key, so no
/// client can choose texts that collide.
#[derive(Debug, Default)]
pub(super) struct LabelPairs {
    hasher: RandomState,
    names: Slab<Name>,
    numbers_of_names: HashTable<Hashed>,
    pairs: Slab<Pair>,
    numbers_of_pairs: HashTable<Hashed>,
}

impl LabelPairs {
    /// Adds a label of a series. Returns the number of the pair.
    pub(super) fn insert(&mut self, name: &str, value: &str, series: u32) -> u32 {
        let hash_of_name = self.hasher.hash_one(name);
        let name = self.find_name(name).unwrap_or_else(|| {
            let (pairs, series) = (RoaringBitmap::new(), RoaringBitmap::new());
            let number = to_u32(self.names.insert(Name { text: name.into(), pairs, series }));
            Hashed::insert(&mut self.numbers_of_names, hash_of_name, number);
            number
        });
        self.names[name as usize].series.insert(series);
        if let Some(pair) = self.find_pair(name, value) {
            self.pairs[pair as usize].series.insert(series);
            return pair;
        }
        let pair = Pair { name, value: value.into(), series: Postings::One(series) };
        let pair = to_u32(self.pairs.insert(pair));
        let hash = self.hasher.hash_one((name, value));
        Hashed::insert(&mut self.numbers_of_pairs, hash, pair);
        self.names[name as usize].pairs.insert(pair);
        pair
    }

    /// Removes a label of a series.
    pub(super) fn remove(&mut self, number: u32, series: u32) {
        let pair = &mut self.pairs[number as usize];
        let (name, is_last) = (pair.name, pair.series.remove(series));
        if is_last {
            let Pair { value, .. } = self.pairs.remove(number as usize);
            let hash = self.hasher.hash_one((name, &*value));
            Hashed::remove(&mut self.numbers_of_pairs, hash, number);
        }
        let of_name = &mut self.names[name as usize];
        of_name.series.remove(series);
        if is_last {
            of_name.pairs.remove(number);
        }
        if of_name.pairs.is_empty() {
            let Name { text, .. } = self.names.remove(name as usize);
            Hashed::remove(&mut self.numbers_of_names, self.hasher.hash_one(&*text), name);
        }
    }

    /// Name and value of a pair.
    pub(super) fn text(&self, pair: u32) -> (&str, &str) {
        let pair = &self.pairs[pair as usize];
        (&self.names[pair.name as usize].text, &pair.value)
    }

    /// The value of a pair, if its name is the one with this number.
    pub(super) fn value_of(&self, pair: u32, name: u32) -> Option<&Arc<str>> {
        let pair = &self.pairs[pair as usize];
        (pair.name == name).then_some(&pair.value)
    }

    pub(super) fn find_name(&self, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        let is_name = |number: u32| *self.names[number as usize].text == *name;
        Hashed::find(&self.numbers_of_names, hash, is_name)
    }

    fn find_pair(&self, name: u32, value: &str) -> Option<u32> {
        let hash = self.hasher.hash_one((name, value));
        let is_pair = |number: u32| {
            let pair = &self.pairs[number as usize];
            pair.name == name && *pair.value == *value
        };
        Hashed::find(&self.numbers_of_pairs, hash, is_pair)
    }

    /// The series with a label, if there are any.
    pub(super) fn series(&self, name: &str, value: &str) -> Option<&Postings> {
        let pair = self.find_pair(self.find_name(name)?, value)?;
        Some(&self.pairs[pair as usize].series)
    }

    /// The series with a label of this name.
    pub(super) fn series_with_name(&self, name: &str) -> Option<&RoaringBitmap> {
        self.find_name(name).map(|name| &self.names[name as usize].series)
    }

    /// Number of values of a name.
    pub(super) fn value_count(&self, name: u32) -> u64 {
        self.names.get(name as usize).map_or(0, |name| name.pairs.len())
    }

    /// Some pairs of a name and their values, in the order of their numbers, from number `from` on.
    pub(super) fn some_values(&self, name: u32, from: u32, max: usize) -> Vec<(u32, Arc<str>)> {
        let Some(name) = self.names.get(name as usize) else { return Vec::new() };
        let pairs = name.pairs.range(from..).take(max);
        pairs.map(|pair| (pair, self.pairs[pair as usize].value.clone())).collect()
    }

    /// Number of names and pairs.
    #[cfg(test)]
    pub(super) fn texts(&self) -> usize {
        self.names.len() + self.pairs.len()
    }

    /// Adds the series of a pair to `found`, if it still exists. `value` is that of
    /// [`LabelPairs::some_values`]: another pair may have got the number since.
    pub(super) fn add_series(&self, pair: u32, value: &Arc<str>, found: &mut RoaringBitmap) {
        if let Some(pair) = self.pairs.get(pair as usize).filter(|p| Arc::ptr_eq(&p.value, value)) {
            pair.series.add_to(found);
        }
    }
}

pub(super) fn to_u32(number: usize) -> u32 {
    u32::try_from(number).expect("memory holds fewer labels than numbers")
}

#[cfg(test)]
mod tests {
    use super::{LabelPairs, RoaringBitmap};

    /// A selection matches values without the lock. Meanwhile a pair may go, and another one, of
    /// another name even, may get its number.
    #[test]
    fn a_pair_that_got_the_number_of_another_is_not_taken_for_it() {
        let mut pairs = LabelPairs::default();
        let first = pairs.insert("host", "a", 0);
        let name = pairs.find_name("host").expect("it was inserted");
        let values = pairs.some_values(name, 0, 10);
        let [(number, value)] = &values[..] else { panic!("there is one value: {values:?}") };
        let mut found = RoaringBitmap::new();
        pairs.add_series(*number, value, &mut found);
        assert_eq!(found.iter().collect::<Vec<_>>(), [0]);

        pairs.remove(first, 0);
        assert_eq!(pairs.insert("job", "a", 1), first, "the number is used again");
        let mut found = RoaringBitmap::new();
        pairs.add_series(*number, value, &mut found);
        assert!(found.is_empty(), "series 1 has no label `host`");
    }
}
