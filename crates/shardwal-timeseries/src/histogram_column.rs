//! A column of native histograms: those of one series in memory, sorted by time. It does not know
//! labels or the log.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::HistogramSample;
use super::budget::histogram_weight;
use super::columns::{Aging, Dropped};

/// Maximum number of histograms per chunk. An insertion moves at most one chunk, and copies it if a
/// cut shares it.
const CHUNK_MAX: usize = 64;

/// The histograms of one series, sorted by time, one per timestamp.
///
/// A clone is cheap, because it shares the chunks.
#[derive(Clone, Debug, Default)]
pub(crate) struct HistogramColumn {
    /// No chunk is empty. Each chunk ends before the next begins.
    chunks: Vec<Arc<Vec<HistogramSample>>>,
}

impl HistogramColumn {
    /// Inserts a histogram in time order. It replaces one of equal timestamp, which is returned.
    pub(crate) fn insert(&mut self, histogram: HistogramSample) -> Option<HistogramSample> {
        let time = histogram.timestamp_ms;
        // The chunk for the histogram is the last that begins at or before it.
        let after = self.chunks.partition_point(|chunk| chunk[0].timestamp_ms <= time);
        let at = after.saturating_sub(1);
        if at == self.chunks.len() {
            self.chunks.push(Arc::default());
        }
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        match chunk.binary_search_by_key(&time, |kept| kept.timestamp_ms) {
            Ok(same) => return Some(std::mem::replace(&mut chunk[same], histogram)),
            Err(index) => chunk.insert(index, histogram),
        }
        if chunk.len() > CHUNK_MAX {
            // Times usually rise. So the chunk that stays is full.
            let rest = chunk.split_off(CHUNK_MAX);
            self.chunks.insert(at + 1, Arc::new(rest));
        }
        None
    }

    /// The histograms in a time range, in order.
    pub(crate) fn range(
        &self,
        range: &RangeInclusive<i64>,
    ) -> impl Iterator<Item = &HistogramSample> {
        let (start, end) = (*range.start(), *range.end());
        let is_before = |chunk: &Arc<Vec<HistogramSample>>| {
            chunk.last().is_some_and(|last| last.timestamp_ms < start)
        };
        let chunks = self.chunks[self.chunks.partition_point(is_before)..].iter();
        let all = chunks.flat_map(|chunk| chunk.iter());
        all.skip_while(move |kept| kept.timestamp_ms < start)
            .take_while(move |kept| kept.timestamp_ms <= end)
    }

    /// All histograms, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &HistogramSample> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }
}

impl Aging for HistogramColumn {
    fn is_before(&self, time_ms: i64) -> bool {
        let last = self.chunks.last().and_then(|chunk| chunk.last());
        last.is_none_or(|last| last.timestamp_ms < time_ms)
    }

    fn has_chunk_before(&self, time_ms: i64) -> bool {
        let last = self.chunks.first().and_then(|chunk| chunk.last());
        last.is_some_and(|last| last.timestamp_ms < time_ms)
    }

    fn drop_closed_before(&mut self, time_ms: i64) -> Dropped {
        let is_before = |chunk: &Arc<Vec<HistogramSample>>| {
            chunk.last().is_some_and(|last| last.timestamp_ms < time_ms)
        };
        // The last chunk is the one that grows.
        let closed = self.chunks.len().saturating_sub(1);
        let count = self.chunks[..closed].partition_point(is_before);
        let dropped = self.chunks.drain(..count);
        dropped.fold(Dropped::default(), |mut sum, chunk| {
            chunk.iter().for_each(|kept| sum.add(one(kept)));
            sum
        })
    }

    fn all(&self) -> Dropped {
        let mut sum = Dropped::default();
        self.iter().for_each(|kept| sum.add(one(kept)));
        sum
    }
}

/// What one histogram is if it is dropped.
fn one(histogram: &HistogramSample) -> Dropped {
    Dropped { samples: 1, weight: histogram_weight(histogram) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{CHUNK_MAX, HistogramColumn, HistogramSample};

    fn histogram(timestamp_ms: i64, byte: u8) -> HistogramSample {
        HistogramSample { timestamp_ms, bytes: [byte].into() }
    }

    /// In any order of insertion, the column equals a map.
    #[test]
    fn a_column_is_a_map_from_time_to_the_last_histogram() {
        let count = 5 * CHUNK_MAX as i64;
        let orders: [fn(i64, i64) -> i64; 5] = [
            |n, _| n,
            |n, count| count - n,
            |n, count| n * 7919 % count,
            |n, count| n * 7919 % (count / 3),
            |n, count| if n % 2 == 0 { n } else { count - n },
        ];
        for order in orders {
            let (mut column, mut map) = (HistogramColumn::default(), BTreeMap::new());
            for n in 0..count {
                let one = histogram(order(n, count), n.to_le_bytes()[0]);
                let before = map.insert(one.timestamp_ms, one.clone());
                assert_eq!(column.insert(one), before);
            }
            assert!(column.iter().eq(map.values()));
            assert!(column.chunks.iter().all(|chunk| !chunk.is_empty()));
            for range in [i64::MIN..=i64::MAX, 0..=0, 100..=250, count..=i64::MAX] {
                let expected = map.range(range.clone()).map(|(_, kept)| kept);
                assert!(column.range(&range).eq(expected), "{range:?}");
            }
        }
    }

    #[test]
    fn a_cut_does_not_change() {
        let mut column = HistogramColumn::default();
        (0..200).for_each(|n| assert!(column.insert(histogram(n, 1)).is_none()));
        let cut = column.clone();
        (0..200).for_each(|n| assert!(column.insert(histogram(n, 2)).is_some()));
        assert!(cut.iter().all(|kept| *kept.bytes == [1]));
        assert!(column.iter().all(|kept| *kept.bytes == [2]));
    }
}
