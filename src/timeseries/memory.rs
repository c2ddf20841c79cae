//! The series of one shard in memory: their numbers, their labels, their
//! samples. Knows no log: what is applied here was acknowledged there.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::codec::{SeriesLabels, SeriesSample};
use super::column::Column;
use super::{Labels, Matcher, Sample, TimeSeries};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// So many labels are looked at under one hold of the lock, which the writer
/// meets too.
const SERIES_AT_A_TIME: usize = 1024;

/// One shard's series. Numbers are dense from 0 and never change while the
/// storage is open; they are not on disk.
#[derive(Debug, Default)]
pub(crate) struct ShardMemory {
    index: Mutex<Index>,
    /// By number. Applied to by the shard's writer thread (or by the loader,
    /// before it takes appends), read by queries.
    columns: Mutex<Vec<Column>>,
    /// Samples in `columns`. Whoever holds that lock stores, anyone loads.
    samples: AtomicU64,
    /// The most canonical bytes of one series' labels. Raised under the lock
    /// of `index`; read by writers, who bound a batch by it.
    labels_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Index {
    numbers: HashMap<Labels, u32>,
    labels: Vec<Labels>,
}

/// A shard's series as they stood at one moment, by number.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) labels: Vec<Labels>,
    pub(crate) columns: Vec<Column>,
}

impl ShardMemory {
    /// The number of a series, which is given one if it has none: at most
    /// `series_max`, else `None`.
    pub(crate) fn number(&self, labels: &Labels, series_max: u32) -> Option<u32> {
        let mut index = self.index.lock();
        if let Some(number) = index.numbers.get(labels) {
            return Some(*number);
        }
        let number = u32::try_from(index.labels.len()).ok().filter(|next| *next < series_max)?;
        index.numbers.insert(labels.clone(), number);
        index.labels.push(labels.clone());
        // ORDERING: Relaxed; a series' number, without which nobody can write
        // to it, is handed on under the lock.
        self.labels_bytes.fetch_max(labels.canonical().len() as u64, Ordering::Relaxed);
        Some(number)
    }

    /// The most bytes that the labels of one of its series take.
    pub(crate) fn labels_bytes(&self) -> u64 {
        // ORDERING: Relaxed; see `number`.
        self.labels_bytes.load(Ordering::Relaxed)
    }

    /// Adds samples in this order.
    pub(crate) fn apply(&self, samples: &[SeriesSample]) {
        let mut columns = self.columns.lock();
        let mut added = 0;
        for SeriesSample { series, sample } in samples {
            let number = *series as usize;
            if number >= columns.len() {
                columns.resize_with(number + 1, Column::default);
            }
            added += u64::from(columns[number].insert(*sample));
        }
        // ORDERING: Relaxed; a figure, stored under the lock.
        self.samples.fetch_add(added, Ordering::Relaxed);
    }

    /// Samples that it holds.
    pub(crate) fn samples(&self) -> u64 {
        // ORDERING: Relaxed; a figure.
        self.samples.load(Ordering::Relaxed)
    }

    /// Series that have been given a number.
    pub(crate) fn series(&self) -> usize {
        self.index.lock().labels.len()
    }

    /// Takes the whole of it, cheaply: the chunks of samples are shared.
    pub(crate) fn freeze(&self) -> Frozen {
        let columns = self.columns.lock().clone();
        Frozen { labels: self.index.lock().labels.clone(), columns }
    }

    /// The series that fulfil all matchers and have samples in the range, with
    /// those. One series at a time is copied under the lock, so that a large
    /// query does not hold up the writer.
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
        // The copy shares the chunks; they are read without the lock.
        let column = self.columns.lock().get(number).cloned();
        column.map(|column| column.range(range)).unwrap_or_default()
    }

    /// The series that fulfil all matchers and have samples at all.
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
            // Patterns are tried without the lock.
            drop(index);
            matching.extend((from..).zip(some).filter(|(_, labels)| accepted(labels)));
        }
        matching
    }
}

impl SeriesLabels for ShardMemory {
    fn labels(&self, series: u32) -> Labels {
        let index = self.index.lock();
        index.labels[series as usize].clone()
    }
}
