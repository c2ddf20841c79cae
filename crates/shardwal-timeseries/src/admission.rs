//! Admission: the checks that a write must pass before it has any effect. Its handles must be this
//! storage's, memory must have room for its samples, and each shard for its new series. Admission
//! does not know the log. If the log refuses a part later, the part returns what was admitted here.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::codec::{SeriesHistogram, SeriesSample};
use super::cut::weight;
use super::head::{Head, SeriesHandle};
use super::head_shard::{Admitted, HeadShard, places_of};
use super::holders::Hold;
use super::state_machine::{
    BY_LABELS, QUEUED_HISTOGRAM_BYTES, QUEUED_LABELS_BYTES, QUEUED_SAMPLE_BYTES, queue,
};
use super::storage_error::WriteError;
use super::{HISTOGRAM_BYTES_MAX, HistogramSample, Labels, Sample, TimeSeries};
use shardwal::BATCH_BYTES_MAX;

/// Upper bound on a sample's bytes in a batch, if it defines a series with labels of this number of
/// bytes: its columns, the labels, and for each label at most five bytes of tokens and lengths. A
/// label has at least four bytes. For a histogram, its own bytes are beside them.
pub(crate) const fn sample_bytes_max(labels_bytes: usize) -> usize {
    96 + labels_bytes + labels_bytes / 4 * 5
}

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
    /// Keeps the numbers of the series from before they are looked up. `None` without samples.
    hold: Option<Hold>,
    /// Handles from before the hold: numbers and clocks. Their series may be gone.
    older: Vec<(u32, u32)>,
    samples: Vec<SeriesSample>,
    histograms: Vec<SeriesHistogram>,
    /// Labels of series that have no number. Samples refer to them by index.
    labels: Vec<&'a Labels>,
    /// Where each of these series is in the write.
    sources: Vec<usize>,
}

/// A part of a split, within the limits of a record.
struct Part<'s, 'a> {
    samples: Cow<'s, [SeriesSample]>,
    histograms: Cow<'s, [SeriesHistogram]>,
    /// The labels that both refer to.
    labels: Vec<&'a Labels>,
}

/// What to do with new series that a shard has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtSeriesLimit {
    /// Refuse the whole write.
    Refuse,
    /// Write the other series.
    LeaveOut,
}

/// What a write holds: samples and histograms by handle, and others by labels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write<'w> {
    pub(crate) samples: &'w [(SeriesHandle, Sample)],
    pub(crate) histograms: &'w [(SeriesHandle, HistogramSample)],
    pub(crate) batch: &'w [TimeSeries],
}

impl<'w> Write<'w> {
    fn handles(self) -> impl Iterator<Item = SeriesHandle> {
        let samples = self.samples.iter().map(|(handle, _)| *handle);
        samples.chain(self.histograms.iter().map(|(handle, _)| *handle))
    }

    fn histograms(self) -> impl Iterator<Item = &'w HistogramSample> {
        let by_labels = self.batch.iter().flat_map(|series| &series.histograms);
        self.histograms.iter().map(|(_, histogram)| histogram).chain(by_labels)
    }
}

/// An admitted write.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    /// One or more parts per shard, by shard.
    pub(crate) parts: Vec<ShardBatch<'a>>,
    /// The series that are left out: indices in the batch, in order.
    pub(crate) left_out: Vec<usize>,
}

/// Admits a write, or nothing. A part has at most `part_bytes_max` bytes, or one sample.
pub(crate) fn admit<'a>(
    head: &'a Head,
    part_bytes_max: usize,
    at_limit: AtSeriesLimit,
    write: Write<'_>,
) -> Result<Admission<'a>, WriteError> {
    if write.handles().any(|handle| !head.owns(handle)) {
        return Err(WriteError::ForeignHandle);
    }
    if let Some(bytes) = write.histograms().map(|one| one.bytes.len()).max()
        && bytes > HISTOGRAM_BYTES_MAX
    {
        return Err(WriteError::HistogramTooLarge { bytes });
    }
    let (mut splits, series_max) = (split(head, write), head.series_max());
    let mut shards = head.shards().iter().zip(&splits);
    if !shards.all(|(shard, split)| shard.are_current(&split.older)) {
        return Err(WriteError::SeriesGone);
    }
    let too_many = || WriteError::TooManySeries { max: series_max };
    let mut left_out = Vec::new();
    if at_limit == AtSeriesLimit::LeaveOut {
        for (shard, split) in head.shards().iter().zip(&mut splits) {
            let room = shard.series_room(&split.labels, series_max).ok_or_else(too_many)?;
            left_out.extend(split.leave_out(room));
        }
        left_out.sort_unstable();
    }
    let budget = head.budget();
    let count = splits.iter().map(|split| weight(&split.samples, &split.histograms)).sum();
    let claim = budget.claim(count);
    let mut claim = claim.ok_or_else(|| WriteError::MemoryFull { max: budget.max() })?;
    let mut parts = Vec::new();
    for (shard, split) in head.shards().iter().zip(&splits) {
        let ranges = split.parts(split.samples_max(shard), part_bytes_max);
        let batches: Vec<_> = ranges.into_iter().map(|ranges| split.part(ranges)).collect();
        let places = |labels: &[&Labels]| places_of(labels.iter().map(|labels| labels.canonical()));
        let sizes = batches.iter().map(|part| {
            let weight = weight(&part.samples, &part.histograms);
            (weight, places(&part.labels))
        });
        let (hold, places) = (split.hold.as_ref(), places(&split.labels));
        let epoch = hold.map(Hold::epoch).unwrap_or_default();
        let admitted = shard.admit(&mut claim, sizes, places, series_max, hold);
        for (part, admitted) in batches.iter().zip(admitted.ok_or_else(too_many)?) {
            let payload = queue(epoch, &part.labels, &part.histograms, &part.samples);
            parts.push(ShardBatch { key: split.key, payload, admitted });
        }
    }
    Ok(Admission { parts, left_out })
}

fn split<'a>(head: &Head, write: Write<'a>) -> Vec<Split<'a>> {
    let mut splits = Vec::new();
    splits.resize_with(head.shards().len(), Split::default);
    for (handle, sample) in write.samples {
        let shard = head.shard_of(handle.key);
        let split = &mut splits[shard];
        split.hold(&head.shards()[shard], handle);
        split.samples.push(handle.with(*sample));
    }
    for (handle, histogram) in write.histograms {
        let shard = head.shard_of(handle.key);
        let split = &mut splits[shard];
        split.hold(&head.shards()[shard], handle);
        let histogram = histogram.clone();
        split.histograms.push(SeriesHistogram { series: handle.number, histogram });
    }
    let sampled = write.batch.iter().enumerate().filter(|(_, series)| !series.is_empty());
    for (source, TimeSeries { labels, samples, histograms }) in sampled {
        let shard = head.shard_of(labels.id().0);
        let split = &mut splits[shard];
        split.key = labels.id().0;
        split.hold.get_or_insert_with(|| head.shards()[shard].hold());
        let known = head.shards()[shard].find_to_write(labels);
        let series = known.unwrap_or_else(|| split.by_labels(labels, source));
        split.samples.extend(samples.iter().map(|sample| SeriesSample { series, sample: *sample }));
        let histograms = histograms.iter().cloned();
        split.histograms.extend(histograms.map(|histogram| SeriesHistogram { series, histogram }));
    }
    splits
}

impl<'a> Split<'a> {
    /// Keeps the number of a handle's series, if it is not too late.
    #[inline]
    fn hold(&mut self, shard: &HeadShard, handle: &SeriesHandle) {
        self.key = handle.key;
        let hold = self.hold.get_or_insert_with(|| shard.hold());
        let older = (handle.number, handle.clock);
        if handle.clock < hold.clock && self.older.last() != Some(&older) {
            self.older.push(older);
        }
    }

    fn by_labels(&mut self, labels: &'a Labels, source: usize) -> u32 {
        let index = u32::try_from(self.labels.len()).expect("fewer series than numbers");
        self.labels.push(labels);
        self.sources.push(source);
        BY_LABELS | index
    }

    /// Keeps the first `room` new series. Returns where the others are in the write.
    fn leave_out(&mut self, room: usize) -> Vec<usize> {
        if room >= self.labels.len() {
            return Vec::new();
        }
        self.labels.truncate(room);
        let is_kept = |series| by_labels(series).is_none_or(|index| index < room);
        self.samples.retain(|sample| is_kept(sample.series));
        self.histograms.retain(|histogram| is_kept(histogram.series));
        self.sources.split_off(room)
    }

    /// Cuts the samples, then the histograms, into parts. Each is within both limits, or one of
    /// them.
    fn parts(&self, samples_max: usize, bytes_max: usize) -> Vec<Ranges> {
        let mut parts = Cutter { samples_max, bytes_max, ..Cutter::default() };
        for sample in &self.samples {
            parts.add(sample.series, self.labels_bytes(sample.series), 1, QUEUED_SAMPLE_BYTES);
            parts.current.samples.end += 1;
        }
        for SeriesHistogram { series, histogram } in &self.histograms {
            let bytes = histogram.bytes.len();
            let samples = 1 + bytes.div_ceil(sample_bytes_max(0));
            let queued = QUEUED_HISTOGRAM_BYTES + bytes;
            parts.add(*series, self.labels_bytes(*series), samples, queued);
            parts.current.histograms.end += 1;
        }
        if parts.samples > 0 {
            parts.done.push(parts.current);
        }
        parts.done
    }

    /// Bytes that the labels of a series take in a queue.
    fn labels_bytes(&self, series: u32) -> usize {
        let bytes = |index: usize| QUEUED_LABELS_BYTES + self.labels[index].canonical().len();
        by_labels(series).map_or(0, bytes)
    }

    /// The largest number of samples in a part. The log accepts the part even if every sample
    /// defines a series.
    fn samples_max(&self, shard: &HeadShard) -> usize {
        let new = self.labels.iter().map(|labels| labels.canonical().len()).max();
        let max = |known: usize| BATCH_BYTES_MAX / sample_bytes_max(known.max(new.unwrap_or(0)));
        let least = max(usize::try_from(shard.labels_bytes()).unwrap_or(usize::MAX));
        if self.samples.len() + self.histograms.len() <= least {
            return least;
        }
        // The longest labels of the shard need not be in this write. To look at each series costs
        // more, and few writes are so large.
        let series = self.samples.iter().map(|sample| sample.series);
        let series = series.chain(self.histograms.iter().map(|histogram| histogram.series));
        let mut known: Vec<u32> = series.filter(|series| series & BY_LABELS == 0).collect();
        known.dedup();
        max(shard.longest_labels(&known))
    }

    /// Returns some of the samples and histograms, renumbered, with the labels that they refer to.
    fn part(&self, ranges: Ranges) -> Part<'_, 'a> {
        let (samples, histograms) =
            (&self.samples[ranges.samples], &self.histograms[ranges.histograms]);
        let mut used: Vec<usize> = if self.labels.is_empty() {
            Vec::new()
        } else {
            let series = samples.iter().map(|sample| sample.series);
            let series = series.chain(histograms.iter().map(|histogram| histogram.series));
            series.filter_map(by_labels).collect()
        };
        if used.is_empty() {
            return Part { samples: samples.into(), histograms: histograms.into(), labels: vec![] };
        }
        used.sort_unstable();
        used.dedup();
        let renumbered = |series| match by_labels(series).map(|index| used.binary_search(&index)) {
            Some(Ok(index)) => BY_LABELS | u32::try_from(index).expect("it is below the old one"),
            _ => series,
        };
        let sample = |SeriesSample { series, sample }: &SeriesSample| SeriesSample {
            series: renumbered(*series),
            sample: *sample,
        };
        let histogram = |SeriesHistogram { series, histogram }: &SeriesHistogram| SeriesHistogram {
            series: renumbered(*series),
            histogram: histogram.clone(),
        };
        Part {
            samples: samples.iter().map(sample).collect(),
            histograms: histograms.iter().map(histogram).collect(),
            labels: used.iter().map(|index| self.labels[*index]).collect(),
        }
    }
}

/// The index of the labels of a series that has no number.
#[inline]
fn by_labels(series: u32) -> Option<usize> {
    (series & BY_LABELS != 0).then_some((series ^ BY_LABELS) as usize)
}

/// Where a part is in its split.
#[derive(Clone, Debug, Default)]
struct Ranges {
    samples: Range<usize>,
    histograms: Range<usize>,
}

/// Cuts a split into parts.
#[derive(Default)]
struct Cutter {
    samples_max: usize,
    bytes_max: usize,
    done: Vec<Ranges>,
    current: Ranges,
    /// What the current part counts as: a number of samples, and bytes in a queue.
    samples: usize,
    bytes: usize,
    /// The series that was added last.
    last: Option<u32>,
}

impl Cutter {
    /// Makes room for a sample or a histogram: ends the current part if it is full.
    #[inline]
    fn add(&mut self, series: u32, labels_bytes: usize, samples: usize, bytes: usize) {
        let more = if self.last.replace(series) == Some(series) { 0 } else { labels_bytes };
        let is_full =
            self.samples + samples > self.samples_max || self.bytes + more + bytes > self.bytes_max;
        if is_full && self.samples > 0 {
            let Ranges { samples: Range { end, .. }, histograms } = self.current.clone();
            let rest = Ranges { samples: end..end, histograms: histograms.end..histograms.end };
            self.done.push(std::mem::replace(&mut self.current, rest));
            (self.samples, self.bytes) = (0, labels_bytes);
        } else {
            self.bytes += more;
        }
        self.samples += samples;
        self.bytes += bytes;
    }
}
