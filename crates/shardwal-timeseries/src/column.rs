//! A column: the samples of one series in memory, sorted by time. It does not know labels or the
//! log.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::Sample;

/// Maximum number of samples per chunk. An insertion moves at most one chunk, and copies it if a
/// snapshot shares it.
const CHUNK_SAMPLES_MAX: usize = 1024;

/// The samples of one series, sorted by time, one per timestamp.
///
/// A clone is cheap, because it shares the chunks. Snapshots rely on that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Column {
    /// No chunk is empty. Each chunk ends before the next begins.
    chunks: Vec<Arc<Vec<Sample>>>,
}

impl Column {
    /// Inserts a sample in time order. It replaces a sample of equal timestamp. Returns whether the
    /// number of samples grew.
    pub(crate) fn insert(&mut self, sample: Sample) -> bool {
        // The chunk for the sample is the last that begins at or before it.
        let after = match self.chunks.last() {
            Some(last) if last[0].timestamp_ms <= sample.timestamp_ms => self.chunks.len(),
            _ => self.chunks.partition_point(|chunk| chunk[0].timestamp_ms <= sample.timestamp_ms),
        };
        let Some(at) = after.checked_sub(1).or((!self.chunks.is_empty()).then_some(0)) else {
            self.chunks.push(Arc::new(vec![sample]));
            return true;
        };
        let is_last = at + 1 == self.chunks.len();
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        let index = match chunk.last() {
            Some(last) if last.timestamp_ms < sample.timestamp_ms => Err(chunk.len()),
            _ => chunk.binary_search_by_key(&sample.timestamp_ms, |kept| kept.timestamp_ms),
        };
        match index {
            Ok(same) => chunk[same] = sample,
            Err(end) if end == CHUNK_SAMPLES_MAX && is_last => {
                self.chunks.push(Arc::new(vec![sample]));
            }
            Err(index) => {
                chunk.insert(index, sample);
                if chunk.len() > CHUNK_SAMPLES_MAX {
                    let rest = chunk.split_off(CHUNK_SAMPLES_MAX / 2);
                    self.chunks.insert(at + 1, Arc::new(rest));
                }
            }
        }
        index.is_err()
    }

    /// The samples in a time range, in order.
    pub(crate) fn range(&self, range: &RangeInclusive<i64>) -> Vec<Sample> {
        let first = self
            .chunks
            .partition_point(|chunk| chunk.last().is_some_and(|s| s.timestamp_ms < *range.start()));
        let chunks = self.chunks[first..].iter();
        let chunks = chunks.take_while(|chunk| chunk[0].timestamp_ms <= *range.end());
        chunks
            .flat_map(|chunk| {
                let from = chunk.partition_point(|s| s.timestamp_ms < *range.start());
                let to = chunk.partition_point(|s| s.timestamp_ms <= *range.end());
                chunk[from..to.max(from)].iter().copied()
            })
            .collect()
    }

    /// All samples, in order.
    pub(crate) fn samples(&self) -> impl Iterator<Item = Sample> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().copied())
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{CHUNK_SAMPLES_MAX, Column, Sample};

    /// In any order of insertion, the column equals a map.
    #[test]
    fn a_column_is_a_map_from_time_to_the_last_value() {
        let count = 5 * CHUNK_SAMPLES_MAX as i64;
        let orders: [fn(i64, i64) -> i64; 5] = [
            |n, _| n,
            |n, count| count - n,
            |n, count| n * 7919 % count,
            |n, count| n * 7919 % (count / 3),
            |n, count| if n % 2 == 0 { n } else { count - n },
        ];
        for order in orders {
            let (mut column, mut map) = (Column::default(), BTreeMap::new());
            for n in 0..count {
                let sample = Sample::new(order(n, count), n as f64);
                let is_new = map.insert(sample.timestamp_ms, sample).is_none();
                assert_eq!(column.insert(sample), is_new, "{sample:?}");
            }
            assert!(column.samples().eq(map.values().copied()));
            for range in [i64::MIN..=i64::MAX, 0..=0, 1000..=2500, count..=i64::MAX] {
                let expected: Vec<_> = map.range(range.clone()).map(|(_, kept)| *kept).collect();
                assert_eq!(column.range(&range), expected, "{range:?}");
            }
        }
    }

    #[test]
    fn a_frozen_clone_does_not_change() {
        let mut column = Column::default();
        (0..2000).for_each(|n| assert!(column.insert(Sample::new(n, 1.0))));
        let head = column.clone();
        (0..2000).for_each(|n| assert!(!column.insert(Sample::new(n, 2.0))));
        assert!(head.samples().all(|sample| sample.value == 1.0));
        assert!(column.samples().all(|sample| sample.value == 2.0));
    }
}
