//! The head: the series of all shards in memory. It assigns each series a shard and a number there,
//! and restores coded batches. It does not know the log.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::budget::Budget;
use super::codec::{BatchDecoder, BatchSink, DecodeError, SeriesHistogram, SeriesSample};
use super::head_shard::HeadShard;
use super::index::SERIES_MAX;
use super::{Labels, Matcher, Sample, TimeSeries};
use shardwal::internals::shard_of;

/// A handle of a series of an open storage. It is cheap to copy, and invalid once the storage is
/// closed, or the series has left it for want of samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeriesHandle {
    /// The storage that returned it.
    pub(crate) storage: u64,
    /// The id of the series, which selects the shard.
    pub(crate) key: u64,
    /// The number of the series in its shard.
    pub(crate) number: u32,
    /// The clock of the shard's index, at a time at which the series had the number.
    pub(crate) clock: u32,
}

/// The head shards of a storage.
#[derive(Debug)]
pub(crate) struct Head {
    shards: Vec<Arc<HeadShard>>,
    /// The id of the storage, copied into every handle. Another storage refuses the handle, because
    /// numbers are local to a storage.
    id: u64,
    series_max: u32,
    budget: Arc<Budget>,
}

impl Head {
    /// `budget` is shared by all shards.
    pub(crate) fn new(
        shards: Vec<Arc<HeadShard>>,
        id: u64,
        series_max: u32,
        budget: Arc<Budget>,
    ) -> Self {
        Self { shards, id, series_max: series_max.min(SERIES_MAX), budget }
    }

    /// The limit on samples, shared by all shards.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) fn shards(&self) -> &[Arc<HeadShard>] {
        &self.shards
    }

    /// The limit on series per shard.
    pub(crate) fn series_max(&self) -> u32 {
        self.series_max
    }

    /// The index of the shard that holds the series with this id.
    pub(crate) fn shard_of(&self, key: u64) -> usize {
        shard_of(key, self.shards.len())
    }

    /// The handle of a series, which is registered. `None` if its shard is full.
    pub(crate) fn handle(&self, labels: &Labels) -> Option<SeriesHandle> {
        let shard = &self.shards[self.shard_of(labels.id().0)];
        let (number, clock) = shard.register(labels, self.series_max)?;
        Some(self.numbered(labels, number, clock))
    }

    /// The handle of an existing series.
    pub(crate) fn find(&self, labels: &Labels) -> Option<SeriesHandle> {
        let (number, clock) = self.shards[self.shard_of(labels.id().0)].find(labels)?;
        Some(self.numbered(labels, number, clock))
    }

    /// The handle of a series of the log or a snapshot. It gets a number if it is new.
    fn restored(&self, labels: &Labels) -> SeriesHandle {
        let number = self.shards[self.shard_of(labels.id().0)].restored_number(labels);
        self.numbered(labels, number, 0)
    }

    /// The handle of a series that had this number in its shard at the time of `clock`.
    pub(crate) fn numbered(&self, labels: &Labels, number: u32, clock: u32) -> SeriesHandle {
        SeriesHandle { storage: self.id, key: labels.id().0, number, clock }
    }

    /// The id of the storage.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The series that satisfy all matchers and have samples or histograms in the range, sorted
    /// by labels.
    pub(crate) fn query(
        &self,
        matchers: &[Matcher],
        range: &RangeInclusive<i64>,
    ) -> Vec<TimeSeries> {
        let shards = self.shards.iter();
        let mut found: Vec<_> = shards.flat_map(|shard| shard.query(matchers, range)).collect();
        found.sort_by(|one, other| one.labels.cmp(&other.labels));
        found
    }

    /// Whether this storage returned the handle.
    pub(crate) fn owns(&self, handle: SeriesHandle) -> bool {
        handle.storage == self.id
    }

    /// Number of samples inserted into all shards since `open` began.
    pub(crate) fn inserted(&self) -> u64 {
        self.shards.iter().map(|shard| shard.inserted()).sum()
    }

    /// Number of samples in all shards.
    pub(crate) fn samples(&self) -> u64 {
        self.shards.iter().map(|shard| shard.samples()).sum()
    }
}

/// Decodes one sequence of batches, in order, into the head. The shards that wrote it may differ
/// from the storage's: the batches may be of an older generation, or of a snapshot.
pub(crate) struct Restorer<'a> {
    decoder: BatchDecoder,
    restored: Restored<'a>,
}

struct Restored<'a> {
    head: &'a Head,
    /// Handles by reference.
    handles: Vec<SeriesHandle>,
    /// Samples of the current block, per shard.
    samples: Vec<Vec<SeriesSample>>,
}

impl<'a> Restorer<'a> {
    pub(crate) fn new(head: &'a Head) -> Self {
        let (samples, handles) = (vec![Vec::new(); head.shards.len()], Vec::new());
        Self { decoder: BatchDecoder::new(), restored: Restored { head, handles, samples } }
    }

    /// Applies one batch. No limits apply, because the batch was acknowledged.
    pub(crate) fn restore(&mut self, batch: &[u8]) -> Result<(), DecodeError> {
        self.decoder.decode(batch, &mut self.restored)
    }
}

impl BatchSink for Restored<'_> {
    fn series(&mut self, reference: u32, labels: Labels) {
        self.handles.truncate(reference as usize);
        self.handles.push(self.head.restored(&labels));
    }

    fn samples(&mut self, samples: &[SeriesSample]) {
        for SeriesSample { series, sample } in samples {
            let handle = self.handles[*series as usize];
            let shard = self.head.shard_of(handle.key);
            self.samples[shard].push(handle.with(*sample));
        }
        for (shard, samples) in self.head.shards.iter().zip(&mut self.samples) {
            if !samples.is_empty() {
                shard.restore(samples, &[]);
                samples.clear();
            }
        }
    }

    fn histograms(&mut self, histograms: &[SeriesHistogram]) {
        for SeriesHistogram { series, histogram } in histograms {
            let SeriesHandle { key, number, .. } = self.handles[*series as usize];
            let histogram = SeriesHistogram { series: number, histogram: histogram.clone() };
            self.head.shards[self.head.shard_of(key)].restore(&[], &[histogram]);
        }
    }
}

impl SeriesHandle {
    pub(crate) fn with(self, sample: Sample) -> SeriesSample {
        SeriesSample { series: self.number, sample }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::codec::BatchEncoder;
    use super::super::{Labels, Sample, SeriesId};
    use super::{Budget, Head, HeadShard, Restorer};

    fn head() -> Head {
        let budget = Budget::new(100);
        let shards = (0..4).map(|_| Arc::new(HeadShard::new(budget.clone()))).collect();
        Head::new(shards, 0, 10, budget)
    }

    /// Two label sets with equal ids share shard and key, but remain two series.
    #[test]
    fn series_whose_ids_collide_stay_two() {
        let labels = |host| Labels::new([("host", host)]).expect("they are valid");
        let colliding = ["a", "b"].map(|host| labels(host).with_id(SeriesId(7)));
        let head = head();
        let handles = colliding.each_ref().map(|labels| head.handle(labels).expect("room"));
        assert_eq!(handles[0].key, handles[1].key, "they collide");
        let samples = handles.map(|handle| handle.with(Sample::new(1, f64::from(handle.number))));
        let shard = &head.shards()[head.shard_of(7)];
        shard.restore(&samples, &[]);
        let found = shard.query(&[], &(0..=9));
        assert_eq!(found.len(), 2);
        assert_ne!(found[0].samples, found[1].samples);

        let mut stored = Vec::new();
        BatchEncoder::new().encode(true, &samples, &[], shard.as_ref(), &mut stored);
        let again = self::head();
        assert!(Restorer::new(&again).restore(&stored).is_ok());
        let held: u64 = again.shards().iter().map(|shard| shard.samples()).sum();
        assert_eq!(held, 2, "the log distinguishes them too");
    }
}
