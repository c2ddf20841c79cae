//! All shards' series: which shard a series lives in, and what number it has
//! there; and the way back from coded batches.

use std::sync::Arc;

use super::budget::Budget;
use super::codec::{BatchDecoder, BatchSink, DecodeError, SeriesSample};
use super::memory::{SERIES_MAX, ShardMemory};
use super::{Labels, Sample};
use crate::router::shard_of;

/// A series of an open storage: cheap to copy, void when the storage is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeriesHandle {
    /// The storage that gave it.
    pub(crate) storage: u64,
    /// The series' id, which routes it.
    pub(crate) key: u64,
    /// Its number in its shard.
    pub(crate) number: u32,
}

/// The shards of a storage.
#[derive(Debug)]
pub(crate) struct Memories {
    shards: Vec<Arc<ShardMemory>>,
    /// The storage's, in every handle that it gives: numbers mean nothing to
    /// another one.
    id: u64,
    series_max: u32,
    budget: Arc<Budget>,
}

impl Memories {
    /// `budget` is the one of all shards.
    pub(crate) fn new(
        shards: Vec<Arc<ShardMemory>>,
        id: u64,
        series_max: u32,
        budget: Arc<Budget>,
    ) -> Self {
        Self { shards, id, series_max: series_max.min(SERIES_MAX), budget }
    }

    /// What all shards may hold.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) fn shards(&self) -> &[Arc<ShardMemory>] {
        &self.shards
    }

    /// The most series in one shard.
    pub(crate) fn series_max(&self) -> u32 {
        self.series_max
    }

    /// The shard that a series lives in.
    pub(crate) fn shard_of(&self, key: u64) -> usize {
        shard_of(key, self.shards.len())
    }

    /// A series' handle; `None` where its shard has no room for another one.
    pub(crate) fn handle(&self, labels: &Labels) -> Option<SeriesHandle> {
        self.handle_within(labels, self.series_max)
    }

    /// The handle of a series that is there.
    pub(crate) fn find(&self, labels: &Labels) -> Option<SeriesHandle> {
        let key = labels.id().0;
        let number = self.shards[self.shard_of(key)].find(labels)?;
        Some(SeriesHandle { storage: self.id, key, number })
    }

    fn handle_within(&self, labels: &Labels, series_max: u32) -> Option<SeriesHandle> {
        let key = labels.id().0;
        let number = self.shards[self.shard_of(key)].number(labels, series_max)?;
        Some(SeriesHandle { storage: self.id, key, number })
    }

    /// Whether the handle is this storage's.
    pub(crate) fn gave(&self, handle: SeriesHandle) -> bool {
        handle.storage == self.id
    }

    /// Samples in all shards.
    pub(crate) fn samples(&self) -> u64 {
        self.shards.iter().map(|shard| shard.samples()).sum()
    }
}

/// Decodes one run of batches, in order, into memory. The run's shards need not
/// be the storage's: it may be older than they are, or a snapshot.
pub(crate) struct Restorer<'a> {
    decoder: BatchDecoder,
    restored: Restored<'a>,
}

struct Restored<'a> {
    memories: &'a Memories,
    /// By reference.
    handles: Vec<SeriesHandle>,
    /// Of the block in hand, for each shard.
    samples: Vec<Vec<SeriesSample>>,
}

impl<'a> Restorer<'a> {
    pub(crate) fn new(memories: &'a Memories) -> Self {
        let (samples, handles) = (vec![Vec::new(); memories.shards.len()], Vec::new());
        Self { decoder: BatchDecoder::new(), restored: Restored { memories, handles, samples } }
    }

    /// Applies one batch, whatever the limits are: it was acknowledged.
    pub(crate) fn restore(&mut self, batch: &[u8]) -> Result<(), DecodeError> {
        self.decoder.decode(batch, &mut self.restored)
    }
}

impl BatchSink for Restored<'_> {
    fn series(&mut self, reference: u32, labels: Labels) {
        self.handles.truncate(reference as usize);
        let handle = self.memories.handle_within(&labels, u32::MAX);
        self.handles.push(handle.expect("memory holds fewer series than numbers"));
    }

    fn samples(&mut self, samples: &[SeriesSample]) {
        for SeriesSample { series, sample } in samples {
            let handle = self.handles[*series as usize];
            let shard = self.memories.shard_of(handle.key);
            self.samples[shard].push(handle.with(*sample));
        }
        for (shard, samples) in self.memories.shards.iter().zip(&mut self.samples) {
            if !samples.is_empty() {
                shard.restore(samples);
                samples.clear();
            }
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
    use super::{Budget, Memories, Restorer, ShardMemory};

    fn memories() -> Memories {
        let budget = Budget::new(100);
        let shards = (0..4).map(|_| Arc::new(ShardMemory::new(budget.clone()))).collect();
        Memories::new(shards, 0, 10, budget)
    }

    /// Two label sets with one id have one shard and one key, and stay two.
    #[test]
    fn series_whose_ids_collide_stay_two() {
        let labels = |host| Labels::new([("host", host)]).expect("they are valid");
        let colliding = ["a", "b"].map(|host| labels(host).with_id(SeriesId(7)));
        let memories = memories();
        let handles = colliding.each_ref().map(|labels| memories.handle(labels).expect("room"));
        assert_eq!(handles[0].key, handles[1].key, "they collide");
        let samples = handles.map(|handle| handle.with(Sample::new(1, f64::from(handle.number))));
        let shard = &memories.shards()[memories.shard_of(7)];
        shard.restore(&samples);
        let found = shard.query(&[], &(0..=9));
        assert_eq!(found.len(), 2);
        assert_ne!(found[0].samples, found[1].samples);

        let mut stored = Vec::new();
        BatchEncoder::new().encode(true, &samples, shard.as_ref(), &mut stored);
        let again = self::memories();
        assert!(Restorer::new(&again).restore(&stored).is_ok());
        let held: u64 = again.shards().iter().map(|shard| shard.samples()).sum();
        assert_eq!(held, 2, "the log tells them apart too");
    }
}
