//! The head shard: the series of one shard in memory, with their numbers, labels and samples. It
//! does not know the log. Everything applied here was acknowledged.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use super::budget::{Budget, Claim, Pending};
use super::codec::{SeriesLabels, SeriesSample};
use super::column::Column;
use super::{Labels, Matcher, Sample, TimeSeries};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of labels copied per lock hold. The writer thread needs the lock too.
const SERIES_AT_A_TIME: usize = 1024;

/// Series numbers are below this. The bit marks a sample whose series has no number yet.
pub(crate) const SERIES_MAX: u32 = 1 << 31;

/// The series of one shard. Numbers are not on disk. While the storage is open, the number of a
/// series that has a sample or a handle never changes.
#[derive(Debug)]
pub(crate) struct HeadShard {
    index: Mutex<Index>,
    /// Columns by number. The committer of the shard applies samples (before that, the threads of
    /// `open` restore them). Queries read.
    columns: Mutex<Vec<Column>>,
    /// Samples in `columns`. Written under the lock of `columns`, read by any thread.
    samples: AtomicU64,
    /// Samples admitted to this shard and not applied yet.
    pending: Pending,
    /// Canonical bytes of the longest labels. Raised under the lock of `index`. A caller that
    /// writes bounds a batch by it.
    labels_bytes: AtomicU64,
}

/// The series that exist. The map hashes whole labels with a random key.
#[derive(Debug, Default)]
struct Index {
    numbers: HashMap<Labels, u32>,
    /// Labels by number. A dropped series has empty labels here.
    labels: Vec<Labels>,
    /// Numbers of dropped series, for reuse.
    free: Vec<u32>,
    /// Series that only the current commit defines. They are dropped if the commit is not applied.
    tentative: HashSet<u32>,
    /// Upper bound on the series that were admitted and are not defined yet.
    reserved: u32,
}

/// The head snapshot: the series of a shard at one moment, by number.
#[derive(Debug)]
pub(crate) struct HeadSnapshot {
    pub(crate) labels: Vec<Labels>,
    pub(crate) columns: Vec<Column>,
}

/// Samples, and reserved numbers of new series, that were admitted to a shard. Dropping it returns
/// both, unless the samples were queued.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    head: &'a HeadShard,
    samples: u64,
    reserved: u32,
}

impl Admitted<'_> {
    /// Marks the samples as queued. The shard's state machine then releases them.
    pub(crate) fn queued(mut self) {
        (self.samples, self.reserved) = (0, 0);
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.head.refuse(self.samples, self.reserved);
    }
}

impl Index {
    /// Returns the number of the series, and whether the series is new.
    fn number(&mut self, labels: &Labels) -> (u32, bool) {
        if let Some(number) = self.numbers.get(labels) {
            return (*number, false);
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.labels.push(Labels::default());
            u32::try_from(self.labels.len() - 1).expect("memory holds fewer series than numbers")
        });
        assert!(number < SERIES_MAX, "memory holds fewer series than numbers");
        self.numbers.insert(labels.clone(), number);
        self.labels[number as usize] = labels.clone();
        (number, true)
    }

    fn has_room(&self, series: u32, series_max: u32) -> bool {
        let taken = self.numbers.len() as u64 + u64::from(self.reserved);
        taken + u64::from(series) <= u64::from(series_max)
    }
}

impl HeadShard {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self {
            index: Mutex::default(),
            columns: Mutex::default(),
            samples: AtomicU64::new(0),
            pending: Pending::new(budget),
            labels_bytes: AtomicU64::new(0),
        }
    }

    /// Returns the number of a series. A new series gets one, unless the shard already has
    /// `series_max` series: then the result is `None`.
    pub(crate) fn number(&self, labels: &Labels, series_max: u32) -> Option<u32> {
        let mut index = self.index.lock();
        if !index.numbers.contains_key(labels) && !index.has_room(1, series_max) {
            return None;
        }
        let (number, _) = index.number(labels);
        // A handle keeps the series, whether the commit succeeds or not.
        index.tentative.remove(&number);
        self.raise_labels_bytes(labels);
        Some(number)
    }

    /// The number of a series that is not tentative.
    pub(crate) fn find(&self, labels: &Labels) -> Option<u32> {
        let index = self.index.lock();
        let number = index.numbers.get(labels).copied();
        number.filter(|number| !index.tentative.contains(number))
    }

    /// Admits samples and `reserved` new series. `None` if the shard would exceed `series_max`.
    pub(crate) fn admit(
        &self,
        claim: &mut Claim<'_>,
        samples: u64,
        reserved: u32,
        series_max: u32,
    ) -> Option<Admitted<'_>> {
        if reserved > 0 {
            let mut index = self.index.lock();
            if !index.has_room(reserved, series_max) {
                return None;
            }
            index.reserved += reserved;
        }
        self.pending.take_over(claim, samples);
        Some(Admitted { head: self, samples, reserved })
    }

    /// Returns samples and places that were admitted but will not be used.
    pub(crate) fn refuse(&self, samples: u64, reserved: u32) {
        self.pending.refuse(samples);
        if reserved > 0 {
            let mut index = self.index.lock();
            index.reserved = index.reserved.saturating_sub(reserved);
        }
    }

    /// Numbers the series that a commit defines. Each had a place.
    pub(crate) fn define(&self, series: impl ExactSizeIterator<Item = Labels>) -> Vec<u32> {
        let mut index = self.index.lock();
        let reserved = u32::try_from(series.len()).expect("a batch is bounded far below u32");
        index.reserved = index.reserved.saturating_sub(reserved);
        let number = |labels: Labels| {
            let (number, is_new) = index.number(&labels);
            if is_new {
                index.tentative.insert(number);
            }
            number
        };
        series.map(number).collect()
    }

    fn raise_labels_bytes(&self, labels: &Labels) {
        // ORDERING: Relaxed; a thread can write to a series only after it obtained its number,
        // which is published under the lock.
        self.labels_bytes.fetch_max(labels.canonical().len() as u64, Ordering::Relaxed);
    }

    /// Canonical bytes of the longest labels of the shard's series.
    pub(crate) fn labels_bytes(&self) -> u64 {
        // ORDERING: Relaxed; see `raise_labels_bytes`.
        self.labels_bytes.load(Ordering::Relaxed)
    }

    /// Applies the samples of a commit, in order. Its new series become permanent.
    pub(crate) fn apply(&self, samples: &[SeriesSample], defined: bool) {
        let added = self.insert(samples);
        self.pending.release_applied(samples.len() as u64, added);
        if defined {
            let index = &mut *self.index.lock();
            for number in index.tentative.drain() {
                self.raise_labels_bytes(&index.labels[number as usize]);
            }
        }
    }

    /// Drops the series and samples of a failed commit: the log holds none of them.
    pub(crate) fn rollback(&self, samples: u64) {
        self.pending.refuse(samples);
        let index = &mut *self.index.lock();
        for number in index.tentative.drain() {
            let labels = std::mem::take(&mut index.labels[number as usize]);
            index.numbers.remove(&labels);
            index.free.push(number);
        }
    }

    /// Ends the shard: pending samples will not be applied.
    pub(crate) fn end(&self) {
        self.pending.refuse_all();
    }

    /// Applies samples that the log or a snapshot already holds.
    pub(crate) fn restore(&self, samples: &[SeriesSample]) {
        self.pending.restored(self.insert(samples));
    }

    /// Inserts samples. Returns the number of new ones.
    fn insert(&self, samples: &[SeriesSample]) -> u64 {
        let mut columns = self.columns.lock();
        let mut added = 0;
        for SeriesSample { series, sample } in samples {
            let number = *series as usize;
            if number >= columns.len() {
                columns.resize_with(number + 1, Column::default);
            }
            added += u64::from(columns[number].insert(*sample));
        }
        // ORDERING: Relaxed; a statistic, stored under the lock.
        self.samples.fetch_add(added, Ordering::Relaxed);
        added
    }

    /// Number of samples in the shard.
    pub(crate) fn samples(&self) -> u64 {
        // ORDERING: Relaxed; a statistic.
        self.samples.load(Ordering::Relaxed)
    }

    /// Number of series that have samples or a handle.
    pub(crate) fn series(&self) -> usize {
        let index = self.index.lock();
        index.numbers.len() - index.tentative.len()
    }

    /// Takes a snapshot of the shard. It is cheap, because the clone shares the chunks of samples.
    pub(crate) fn snapshot(&self) -> HeadSnapshot {
        let columns = self.columns.lock().clone();
        HeadSnapshot { labels: self.index.lock().labels.clone(), columns }
    }

    /// Returns the series that satisfy all matchers and have samples in the range, with those
    /// samples. The lock is taken per series, so that a large query does not delay the writer
    /// thread.
    pub(crate) fn query(
        &self,
        matchers: &[Matcher],
        range: &RangeInclusive<i64>,
    ) -> Vec<TimeSeries> {
        let mut found = Vec::new();
        for (number, labels) in self.matching(matchers) {
            let samples = self.range(number, range);
            if !samples.is_empty() {
                found.push(TimeSeries { labels, samples });
            }
        }
        found
    }

    fn range(&self, number: usize, range: &RangeInclusive<i64>) -> Vec<Sample> {
        // The clone shares the chunks, so they are read without the lock.
        let column = self.columns.lock().get(number).cloned();
        column.map(|column| column.range(range)).unwrap_or_default()
    }

    /// The labels of the series that satisfy all matchers and have samples.
    pub(crate) fn labels(&self, matchers: &[Matcher]) -> Vec<Labels> {
        let matching = self.matching(matchers);
        let columns = self.columns.lock();
        let has_samples =
            |number: usize| columns.get(number).is_some_and(|column| !column.is_empty());
        let with_samples = matching.into_iter().filter(|(number, _)| has_samples(*number));
        with_samples.map(|(_, labels)| labels).collect()
    }

    fn matching(&self, matchers: &[Matcher]) -> Vec<(usize, Labels)> {
        let accepted = |labels: &Labels| matchers.iter().all(|matcher| matcher.accepts(labels));
        let mut matching = Vec::new();
        for from in (0..).step_by(SERIES_AT_A_TIME) {
            let index = self.index.lock();
            let Some(rest) = index.labels.get(from..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            let some: Vec<_> = rest.iter().take(SERIES_AT_A_TIME).cloned().collect();
            // Match patterns without the lock.
            drop(index);
            matching.extend((from..).zip(some).filter(|(_, labels)| accepted(labels)));
        }
        matching
    }
}

impl SeriesLabels for HeadShard {
    fn labels(&self, series: u32) -> Labels {
        let index = self.index.lock();
        index.labels[series as usize].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::SeriesId;
    use super::super::labels::COMPARISONS;
    use super::{Budget, HeadShard, Labels};

    /// Without a keyed hash, each series would be compared with all before it.
    #[test]
    fn series_whose_ids_collide_cost_no_more_comparisons_than_others() {
        const SERIES: u64 = 4096;
        let head = HeadShard::new(Budget::new(0));
        let before = COMPARISONS.get();
        for host in 0..SERIES {
            let labels = Labels::new([("host", host.to_string())]).expect("they are valid");
            let labels = labels.with_id(SeriesId(7));
            assert!(head.number(&labels, u32::MAX).is_some());
            assert!(head.find(&labels).is_some());
        }
        let made = COMPARISONS.get() - before;
        assert!(made < 8 * SERIES, "{made} comparisons for {SERIES} series");
    }

    /// A handle requested while a commit defines its series keeps the number.
    #[test]
    fn a_discarded_commit_drops_what_it_alone_defined() {
        let head = HeadShard::new(Budget::new(0));
        let labels = |host: &str| Labels::new([("host", host)]).expect("they are valid");
        let all = ["a", "b", "c"].map(labels);
        let numbers = head.define(all.iter().cloned());
        assert_eq!((head.find(&all[1]), head.series()), (None, 0));
        assert_eq!(head.number(&all[1], 10), Some(numbers[1]));
        head.rollback(0);
        assert_eq!(all.each_ref().map(|labels| head.find(labels)), [None, Some(1), None]);
        assert_eq!(head.series(), 1);
        // Later series reuse the numbers.
        let others = head.define([labels("d"), labels("e")].into_iter());
        head.apply(&[], true);
        assert_eq!(head.find(&labels("d")), Some(others[0]));
        assert!(others.iter().all(|number| *number != 1 && *number < 3), "{others:?}");
    }
}
