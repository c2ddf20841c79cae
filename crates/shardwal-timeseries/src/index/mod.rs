//! The inverted index of a shard: its series by labels, and the labels of each series. A series is
//! its pairs of name and value, by number. Each pair has a posting list. The index does not know
//! samples.

mod label_pairs;
mod lifetimes;
mod postings;
mod select;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use roaring::RoaringBitmap;
use slab::Slab;

use super::Labels;
use label_pairs::{LabelPairs, to_u32};
use lifetimes::Lifetimes;
pub(crate) use select::select;

/// Series numbers are below this. The bit marks a sample whose series has no number yet.
pub(crate) const SERIES_MAX: u32 = 1 << 31;

/// Bytes of labels that a place of a series has room for.
const PLACE_BYTES: usize = 1024;

/// The places that a series takes among those of its shard, by the canonical bytes of its labels.
/// One with long labels takes several, so that the limit on series bounds the memory of labels too.
pub(crate) fn places(labels_bytes: usize) -> u32 {
    to_u32(1 + labels_bytes / PLACE_BYTES)
}

/// An entry of a hash table: a number, and half of the hash of what it numbers. A table that grows
/// need not hash the texts again.
#[derive(Clone, Copy, Debug)]
struct Hashed {
    hash: u32,
    number: u32,
}

impl Hashed {
    fn new(hash: u64, number: u32) -> Self {
        Self { hash: (hash >> 32) as u32, number }
    }

    /// Spreads the kept half over the bits that a table uses: the lowest and the highest.
    fn spread(self) -> u64 {
        u64::from(self.hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn insert(table: &mut HashTable<Self>, hash: u64, number: u32) {
        let entry = Self::new(hash, number);
        table.insert_unique(entry.spread(), entry, |other| other.spread());
    }

    fn find(table: &HashTable<Self>, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let wanted = Self::new(hash, 0);
        let is = |entry: &Self| entry.hash == wanted.hash && is(entry.number);
        table.find(wanted.spread(), is).map(|entry| entry.number)
    }

    fn remove(table: &mut HashTable<Self>, hash: u64, number: u32) {
        let entry = Self::new(hash, number);
        let found = table.find_entry(entry.spread(), |other| other.number == number);
        if let Ok(found) = found {
            found.remove();
        }
    }
}

/// The series that exist. The table hashes whole labels with a random key.
#[derive(Debug, Default)]
pub(crate) struct Index {
    hasher: RandomState,
    numbers: HashTable<Hashed>,
    /// The pairs of each series, sorted by name.
    series: Slab<Box<[u32]>>,
    /// The numbers in `series`.
    all: RoaringBitmap,
    pairs: LabelPairs,
    pub(crate) lifetimes: Lifetimes,
    /// Places of the series, tentative ones too.
    pub(crate) taken: u64,
    /// Upper bound on the places of series that were admitted and are not defined yet.
    pub(crate) reserved: u32,
}

impl Index {
    /// The number of series, hidden ones too.
    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// The numbers of all series, hidden ones too, from one on.
    pub(crate) fn numbers_from(&self, first: u32) -> impl Iterator<Item = u32> {
        self.all.range(first..)
    }

    /// Whether a series has the number.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.series.contains(number as usize)
    }

    /// The number of an existing series, also of a hidden one.
    pub(crate) fn find(&self, labels: &Labels) -> Option<u32> {
        let is = |number: u32| self.has_labels(number, labels);
        Hashed::find(&self.numbers, self.hasher.hash_one(labels), is)
    }

    fn has_labels(&self, number: u32, labels: &Labels) -> bool {
        #[cfg(test)]
        COMPARISONS.set(COMPARISONS.get() + 1);
        labels.iter().eq(self.pairs_of(number))
    }

    /// Returns the number of the series, and whether the series is new.
    pub(crate) fn number(&mut self, labels: &Labels) -> (u32, bool) {
        if let Some(number) = self.find(labels) {
            return (number, false);
        }
        let number = to_u32(self.series.insert(Box::default()));
        assert!(number < SERIES_MAX, "memory holds fewer series than numbers");
        let pairs = labels.iter().map(|(name, value)| self.pairs.insert(name, value, number));
        self.series[number as usize] = pairs.collect();
        self.all.insert(number);
        self.lifetimes.begin(number);
        self.taken += u64::from(places(labels.canonical().len()));
        Hashed::insert(&mut self.numbers, self.hasher.hash_one(labels), number);
        (number, true)
    }

    /// Drops a series. A later one may get its number.
    pub(crate) fn remove(&mut self, number: u32) {
        let labels = self.labels(number);
        self.taken -= u64::from(places(labels.canonical().len()));
        let hash = self.hasher.hash_one(labels);
        Hashed::remove(&mut self.numbers, hash, number);
        self.all.remove(number);
        self.lifetimes.end(number);
        for pair in self.series.remove(number as usize) {
            self.pairs.remove(pair, number);
        }
    }

    /// The labels of a series.
    ///
    /// # Panics
    /// There is no such series.
    pub(crate) fn labels(&self, number: u32) -> Labels {
        Labels::of_sorted(self.pairs_of(number))
    }

    /// Canonical bytes of the labels of a series.
    pub(crate) fn labels_bytes(&self, number: u32) -> usize {
        Labels::canonical_bytes(self.pairs_of(number))
    }

    fn pairs_of(&self, number: u32) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.series[number as usize].iter().map(|pair| self.pairs.text(*pair))
    }
}

#[cfg(test)]
std::thread_local! {
    /// Number of comparisons of labels that this thread has made, for tests that bound it.
    pub(crate) static COMPARISONS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}
