//! A column: the samples of one series in memory, sorted by time and compressed. It does not know
//! labels or the log.

use std::iter;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::Sample;
use super::codec::SeriesSample;
use super::columns::{Aging, Dropped};
use super::xor_chunk::{XorAppender, XorChunk};

/// Maximum number of samples per chunk, as in Prometheus. A sample that does not come in time order
/// costs the decoding and the encoding of one chunk.
const CHUNK_SAMPLES_MAX: usize = 120;

/// The samples of one series, sorted by time, one per timestamp. Each chunk ends before the next
/// begins.
///
/// A clone shares the closed chunks, and copies the open one. Snapshots and reads rely on that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Column {
    /// All chunks but the last.
    closed: Option<Arc<Vec<XorChunk>>>,
    /// The last chunk, which grows. It is empty only in a column without samples.
    open: XorAppender,
}

impl Column {
    /// Inserts samples, one after the other. Returns the number of new ones.
    ///
    /// Neighbours that come late and belong to one chunk cost the decoding and the encoding of that
    /// chunk once.
    pub(crate) fn insert_all(&mut self, samples: &[SeriesSample]) -> u64 {
        let (mut rest, mut added) = (samples, 0);
        while let Some(first) = rest.first() {
            let late = self.late_neighbours(rest);
            if late > 1 {
                added += self.merge(&rest[..late]);
            } else {
                added += u64::from(self.insert(first.sample));
            }
            rest = &rest[late.max(1)..];
        }
        added
    }

    /// The number of samples, from the first on, that come late and belong to the chunk of the
    /// first.
    fn late_neighbours(&self, samples: &[SeriesSample]) -> usize {
        let Some(last) = self.open.last() else { return 0 };
        let time_ms = samples[0].sample.timestamp_ms;
        if samples.len() < 2 || last.timestamp_ms < time_ms {
            return 0;
        }
        let index = self.closed_for(time_ms);
        let begin_ms = |index: usize| match self.closed().get(index) {
            Some(chunk) => chunk.first_ms(),
            None => self.open.samples().next().map_or(i64::MAX, |sample| sample.timestamp_ms),
        };
        let begin_of_this = index.unwrap_or(self.closed().len());
        let from = (begin_of_this > 0).then(|| begin_ms(begin_of_this));
        let until = index.map(|index| begin_ms(index + 1));
        let belongs = |sample: &&SeriesSample| {
            let time_ms = sample.sample.timestamp_ms;
            from.is_none_or(|from| from <= time_ms) && until.is_none_or(|until| time_ms < until)
        };
        samples.iter().take_while(belongs).count()
    }

    /// Inserts samples that belong to the chunk of the first. Returns the number of new ones.
    fn merge(&mut self, late: &[SeriesSample]) -> u64 {
        let index = self.closed_for(late[0].sample.timestamp_ms);
        let kept: Vec<Sample> = match index {
            Some(index) => self.closed()[index].samples().collect(),
            None => self.open.samples().collect(),
        };
        let mut merged = kept.clone();
        merged.extend(late.iter().map(|late| late.sample));
        // Stable: of equal times, the last is the later value.
        merged.sort_by_key(|sample| sample.timestamp_ms);
        merged.dedup_by(|later, sample| {
            let is_same_time = later.timestamp_ms == sample.timestamp_ms;
            if is_same_time {
                *sample = *later;
            }
            is_same_time
        });
        let added = merged.len() - kept.len();
        if merged == kept {
            return 0;
        }
        let mut chunks: Vec<&[Sample]> = merged.chunks(CHUNK_SAMPLES_MAX).collect();
        if let Some(index) = index {
            let closed = Arc::make_mut(self.closed.get_or_insert_default());
            closed.splice(index..=index, chunks.into_iter().map(XorChunk::encode));
        } else {
            self.open = XorAppender::new(chunks.pop().unwrap_or_default());
            chunks.into_iter().for_each(|samples| self.push_closed(XorChunk::encode(samples)));
        }
        added as u64
    }

    /// The closed chunk for a sample that comes late: the last that begins at or before it, or the
    /// first. `None` if that is the open one.
    fn closed_for(&self, time_ms: i64) -> Option<usize> {
        let closed = self.closed();
        let is_in_open = self.open.samples().next().is_some_and(|s| s.timestamp_ms <= time_ms);
        (!is_in_open && !closed.is_empty())
            .then(|| closed.partition_point(|chunk| chunk.first_ms() <= time_ms).saturating_sub(1))
    }

    /// Inserts a sample in time order. It replaces a sample of equal timestamp. Returns whether the
    /// number of samples grew.
    pub(crate) fn insert(&mut self, sample: Sample) -> bool {
        match self.open.last() {
            Some(last) if last == sample => return false,
            Some(last) if last.timestamp_ms >= sample.timestamp_ms => {
                return self.insert_out_of_order(sample);
            }
            _ => {}
        }
        if self.open.len() == CHUNK_SAMPLES_MAX {
            let chunk = std::mem::take(&mut self.open).into_chunk();
            self.push_closed(chunk.expect("it has samples"));
        }
        self.open.append(sample);
        true
    }

    /// Inserts a sample that is not after the last one.
    fn insert_out_of_order(&mut self, sample: Sample) -> bool {
        let time_ms = sample.timestamp_ms;
        let (closed, index) = (self.closed(), self.closed_for(time_ms));
        if index.is_none() && self.open.len() < CHUNK_SAMPLES_MAX {
            return self.open.insert(sample);
        }
        let mut samples: Vec<_> = match index {
            Some(index) => closed[index].samples().collect(),
            None => self.open.samples().collect(),
        };
        let position = samples.binary_search_by_key(&time_ms, |kept| kept.timestamp_ms);
        match position {
            Ok(same) if samples[same] == sample => return false,
            Ok(same) => samples[same] = sample,
            Err(position) => samples.insert(position, sample),
        }
        let is_full = samples.len() > CHUNK_SAMPLES_MAX;
        let rest = is_full.then(|| samples.split_off(CHUNK_SAMPLES_MAX / 2));
        self.replace(index, &samples, rest.as_deref());
        position.is_err()
    }

    /// Replaces the samples of a closed chunk, or of the open one. A chunk with the `rest` follows.
    fn replace(&mut self, index: Option<usize>, samples: &[Sample], rest: Option<&[Sample]>) {
        match (index, rest) {
            (None, None) => self.open = XorAppender::new(samples),
            (None, Some(rest)) => {
                self.push_closed(XorChunk::encode(samples));
                self.open = XorAppender::new(rest);
            }
            (Some(index), rest) => {
                let closed = Arc::make_mut(self.closed.get_or_insert_default());
                closed[index] = XorChunk::encode(samples);
                if let Some(rest) = rest {
                    closed.insert(index + 1, XorChunk::encode(rest));
                }
            }
        }
    }

    fn push_closed(&mut self, chunk: XorChunk) {
        let closed = Arc::make_mut(self.closed.get_or_insert_default());
        if closed.len() == closed.capacity() {
            closed.reserve_exact(1 + closed.len() / 4);
        }
        closed.push(chunk);
    }

    fn closed(&self) -> &[XorChunk] {
        self.closed.as_deref().map_or(&[], Vec::as_slice)
    }

    /// The closed chunks that overlap with a time range, in order.
    fn closed_in(&self, range: &RangeInclusive<i64>) -> impl Iterator<Item = &XorChunk> {
        let (start, end) = (*range.start(), *range.end());
        let closed = self.closed();
        let closed = closed[closed.partition_point(|chunk| chunk.last_ms() < start)..].iter();
        closed.take_while(move |chunk| chunk.first_ms() <= end)
    }

    /// The open chunk, if it has samples at or after a time.
    fn open_from(&self, start_ms: i64) -> Option<&XorAppender> {
        let last = self.open.last().filter(|last| last.timestamp_ms >= start_ms);
        last.map(|_| &self.open)
    }

    /// The samples in a time range, in order.
    pub(crate) fn range(&self, range: &RangeInclusive<i64>) -> Vec<Sample> {
        self.in_range(range).collect()
    }

    fn in_range(&self, range: &RangeInclusive<i64>) -> impl Iterator<Item = Sample> {
        let (start, end) = (*range.start(), *range.end());
        let closed = self.closed_in(range).flat_map(XorChunk::samples);
        let open = self.open_from(start).into_iter().flat_map(XorAppender::samples);
        let from_start = closed.chain(open).skip_while(move |s| s.timestamp_ms < start);
        from_start.take_while(move |s| s.timestamp_ms <= end)
    }

    /// The first `max` samples in a time range, in order.
    pub(crate) fn first(&self, range: &RangeInclusive<i64>, max: usize) -> Vec<Sample> {
        self.in_range(range).take(max).collect()
    }

    /// Chunks of the samples in a time range, in order: the first `max` chunks. Those within the
    /// range are shared.
    pub(crate) fn first_chunks(&self, range: &RangeInclusive<i64>, max: usize) -> Vec<XorChunk> {
        let open = iter::once_with(|| self.open_from(*range.start())?.to_chunk()).flatten();
        let chunks = self.closed_in(range).cloned().chain(open);
        chunks.filter_map(|chunk| chunk.within(range)).take(max).collect()
    }

    /// All samples, in order.
    pub(crate) fn samples(&self) -> impl Iterator<Item = Sample> {
        self.closed().iter().flat_map(XorChunk::samples).chain(self.open.samples())
    }
}

impl Aging for Column {
    fn is_before(&self, time_ms: i64) -> bool {
        self.open.last().is_none_or(|last| last.timestamp_ms < time_ms)
    }

    fn has_chunk_before(&self, time_ms: i64) -> bool {
        let first_end_ms = self.closed().first().map(XorChunk::last_ms);
        let end_ms = first_end_ms.or_else(|| self.open.last().map(|last| last.timestamp_ms));
        end_ms.is_some_and(|end_ms| end_ms < time_ms)
    }

    fn drop_closed_before(&mut self, time_ms: i64) -> Dropped {
        let count = self.closed().partition_point(|chunk| chunk.last_ms() < time_ms);
        let dropped = self.closed()[..count].iter().map(XorChunk::len).sum();
        self.closed = match &self.closed()[count..] {
            [] => None,
            kept => Some(Arc::new(kept.to_vec())),
        };
        Dropped::samples(dropped)
    }

    fn all(&self) -> Dropped {
        Dropped::samples(self.closed().iter().map(XorChunk::len).sum::<usize>() + self.open.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{CHUNK_SAMPLES_MAX, Column, RangeInclusive, Sample, SeriesSample, XorChunk};

    const COUNT: i64 = 20 * CHUNK_SAMPLES_MAX as i64;

    const BACKWARDS: RangeInclusive<i64> = RangeInclusive::new(1000, 999);

    /// Times in several orders. Some repeat.
    const ORDERS: [fn(i64) -> i64; 6] = [
        |n| n,
        |n| COUNT - n,
        |n| n * 7919 % COUNT,
        |n| n * 7919 % (COUNT / 3),
        |n| if n % 2 == 0 { n } else { COUNT - n },
        |n| if n % 7 == 0 { n - 300 } else { n },
    ];

    /// In any order of insertion, the column equals a map.
    #[test]
    fn a_column_is_a_map_from_time_to_the_last_value() {
        for (number, order) in ORDERS.iter().enumerate() {
            let (mut column, mut map) = (Column::default(), BTreeMap::new());
            for n in 0..COUNT {
                let sample = Sample::new(order(n), (n / 2) as f64);
                let is_new = map.insert(sample.timestamp_ms, sample).is_none();
                assert_eq!(column.insert(sample), is_new, "{sample:?}");
                assert!(!column.insert(sample), "a sample that is sent again changes nothing");
            }
            assert!(column.samples().eq(map.values().copied()), "order {number}");
            for range in [i64::MIN..=i64::MAX, 0..=0, 1000..=1500, BACKWARDS, COUNT..=i64::MAX] {
                let expected: Vec<_> = if range.is_empty() {
                    Vec::new()
                } else {
                    map.range(range.clone()).map(|(_, kept)| *kept).collect()
                };
                assert_eq!(column.range(&range), expected, "{range:?}");
                let chunks = column.first_chunks(&range, usize::MAX);
                let in_chunks: Vec<_> = chunks.iter().flat_map(XorChunk::samples).collect();
                assert_eq!(in_chunks, expected, "{range:?} in chunks");
                assert!(
                    chunks.iter().all(|c| (1..=CHUNK_SAMPLES_MAX).contains(&c.samples().count()))
                );
                for max in [1, 1000, CHUNK_SAMPLES_MAX, 3000] {
                    let first = column.first(&range, max);
                    assert_eq!(first, expected[..max.min(expected.len())], "{range:?} {max}");
                    let few = column.first_chunks(&range, max);
                    assert_eq!(few.len(), max.min(chunks.len()));
                }
            }
        }
    }

    /// Batches are inserted as their samples are, one after the other.
    #[test]
    fn a_batch_is_inserted_as_its_samples_are() {
        for (number, order) in ORDERS.iter().enumerate() {
            for batch in [2, 7, 300, 2 * CHUNK_SAMPLES_MAX + 1, 3000] {
                let (mut column, mut map) = (Column::default(), BTreeMap::new());
                let samples: Vec<_> = (0..COUNT)
                    .map(|n| Sample::new(order(n), (n / 2) as f64))
                    .map(|sample| SeriesSample { series: 0, sample })
                    .collect();
                for some in samples.chunks(batch) {
                    let before = map.len();
                    map.extend(some.iter().map(|one| (one.sample.timestamp_ms, one.sample)));
                    let added = map.len() - before;
                    assert_eq!(column.insert_all(some), added as u64, "order {number}");
                    column.insert_all(some);
                }
                assert!(column.samples().eq(map.values().copied()), "order {number} by {batch}");
                let chunks = column.first_chunks(&(i64::MIN..=i64::MAX), usize::MAX);
                let sizes = chunks.iter().map(|chunk| chunk.samples().count());
                assert!(sizes.into_iter().all(|size| (1..=CHUNK_SAMPLES_MAX).contains(&size)));
            }
        }
    }

    /// A chunk begins and ends with the times that it says.
    #[test]
    fn a_chunk_within_the_range_is_shared() {
        let mut column = Column::default();
        (0..300).for_each(|n| assert!(column.insert(Sample::new(n, 1.0))));
        let chunks = column.first_chunks(&(0..=149), usize::MAX);
        let ends: Vec<_> = chunks.iter().map(|chunk| (chunk.first_ms(), chunk.last_ms())).collect();
        assert_eq!(ends, [(0, 119), (120, 149)]);
        assert_eq!(chunks[0].bytes().as_ptr(), column.closed()[0].bytes().as_ptr());
    }

    #[test]
    fn a_frozen_clone_does_not_change() {
        for order in ORDERS {
            let mut column = Column::default();
            (0..500).for_each(|n| assert!(column.insert(Sample::new(n, 1.0))));
            let head = column.clone();
            for n in 0..2000 {
                column.insert(Sample::new(order(n), 2.0));
            }
            assert!(head.samples().eq((0..500).map(|n| Sample::new(n, 1.0))));
            assert!((0..2000).map(order).all(|at| column.range(&(at..=at))[0].value == 2.0));
        }
    }
}
