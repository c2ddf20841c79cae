//! Admission: the checks that a write must pass before it has any effect. Its handles must be this
//! storage's, memory must have room for its samples, and each shard for its new series. Admission
//! does not know the log. If the log refuses a part later, the part returns what was admitted here.

use std::borrow::Cow;

use bytes::Bytes;

use super::codec::SeriesSample;
use super::head::{Head, SeriesHandle};
use super::head_shard::{Admitted, HeadShard};
use super::state_machine::{BY_LABELS, queue};
use super::storage_error::WriteError;
use super::{LABELS_MAX, Labels, Sample, TimeSeries};
use shardwal::BATCH_BYTES_MAX;

/// Upper bound on a sample's bytes in a batch, beside the bytes of its labels: its columns, and the
/// tokens and lengths of a definition for each name and value.
pub(crate) const SAMPLE_BYTES_MAX: usize = 96 + 4 * LABELS_MAX;

/// One record of a write.
#[derive(Debug)]
pub(crate) struct ShardBatch<'a> {
    /// Selects the shard.
    pub(crate) key: u64,
    pub(crate) payload: Bytes,
    pub(crate) admitted: Admitted<'a>,
}

/// The samples of a write that belong to one shard.
#[derive(Default)]
struct Split<'a> {
    key: u64,
    samples: Vec<SeriesSample>,
    /// Labels of series that have no number. Samples refer to them by index.
    labels: Vec<&'a Labels>,
}

/// Admits a whole write, or nothing. Returns one or more parts per shard.
pub(crate) fn admit<'a>(
    head: &'a Head,
    samples: &[(SeriesHandle, Sample)],
    batch: &[TimeSeries],
) -> Result<Vec<ShardBatch<'a>>, WriteError> {
    if samples.iter().any(|(handle, _)| !head.owns(*handle)) {
        return Err(WriteError::ForeignHandle);
    }
    let budget = head.budget();
    let count = samples.len() + batch.iter().map(|series| series.samples.len()).sum::<usize>();
    let claim = budget.claim(count as u64);
    let mut claim = claim.ok_or_else(|| WriteError::MemoryFull { max: budget.max() })?;
    let mut batches = Vec::new();
    for (shard, split) in head.shards().iter().zip(split(head, samples, batch)) {
        for samples in split.samples.chunks(split.samples_max(shard)) {
            let (samples, labels) = split.batch(samples);
            let reserved = u32::try_from(labels.len()).expect("a batch is bounded far below u32");
            let max = head.series_max();
            let admitted = shard.admit(&mut claim, samples.len() as u64, reserved, max);
            let admitted = admitted.ok_or(WriteError::TooManySeries { max })?;
            batches.push(ShardBatch { key: split.key, payload: queue(labels, &samples), admitted });
        }
    }
    Ok(batches)
}

fn split<'a>(
    head: &Head,
    samples: &[(SeriesHandle, Sample)],
    batch: &'a [TimeSeries],
) -> Vec<Split<'a>> {
    let mut splits = Vec::new();
    splits.resize_with(head.shards().len(), Split::default);
    for (handle, sample) in samples {
        let split = &mut splits[head.shard_of(handle.key)];
        split.key = handle.key;
        split.samples.push(handle.with(*sample));
    }
    for TimeSeries { labels, samples } in batch.iter().filter(|series| !series.samples.is_empty()) {
        let split = &mut splits[head.shard_of(labels.id().0)];
        split.key = labels.id().0;
        let known = head.find(labels).map(|handle| handle.number);
        let series = known.unwrap_or_else(|| split.by_labels(labels));
        split.samples.extend(samples.iter().map(|sample| SeriesSample { series, sample: *sample }));
    }
    splits
}

impl<'a> Split<'a> {
    fn by_labels(&mut self, labels: &'a Labels) -> u32 {
        let index = u32::try_from(self.labels.len()).expect("fewer series than numbers");
        self.labels.push(labels);
        BY_LABELS | index
    }

    /// The largest number of samples in a part. The log accepts the part even if every sample
    /// defines a series.
    fn samples_max(&self, shard: &HeadShard) -> usize {
        let new = self.labels.iter().map(|labels| labels.canonical().len()).max();
        let known = usize::try_from(shard.labels_bytes()).unwrap_or(usize::MAX);
        BATCH_BYTES_MAX / (known.max(new.unwrap_or(0)) + SAMPLE_BYTES_MAX)
    }

    /// Returns some of the samples, renumbered, with the labels that they refer to.
    fn batch<'s>(&self, samples: &'s [SeriesSample]) -> (Cow<'s, [SeriesSample]>, &[&'a Labels]) {
        if self.labels.is_empty() {
            return (samples.into(), &[]);
        }
        let by_labels = samples.iter().filter(|sample| sample.series & BY_LABELS != 0);
        let mut indices = by_labels.map(|sample| sample.series ^ BY_LABELS);
        let Some(first) = indices.next() else { return (samples.into(), &[]) };
        let last = indices.next_back().unwrap_or(first);
        let renumbered = |sample: &SeriesSample| {
            let moved = if sample.series & BY_LABELS != 0 { first } else { 0 };
            SeriesSample { series: sample.series - moved, sample: sample.sample }
        };
        let labels = &self.labels[first as usize..=last as usize];
        (samples.iter().map(renumbered).collect(), labels)
    }
}
