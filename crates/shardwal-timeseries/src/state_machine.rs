//! The storage's state machine. It encodes queued samples as batches in the log's order, and
//! applies them once they are acknowledged. It does not know queries.

use std::sync::Arc;

use bytes::Bytes;

use super::codec::{BatchEncoder, SeriesHistogram, SeriesSample};
use super::cut::{Cut, weight};
use super::head_shard::{HeadShard, places_of};
use super::holders::{Epoch, Hold};
use super::index::SERIES_MAX;
use super::{HistogramSample, Labels, Sample};
use crossbeam_channel::Sender;
use shardwal::StateMachine;

/// Set in the series field of a queued sample whose series has no number yet. The other bits are an
/// index into the payload's labels.
pub(crate) const BY_LABELS: u32 = SERIES_MAX;

/// The queue payload: the epoch of its hold, the labels of series without numbers, the histograms,
/// then the samples. It holds the number of labels, each label set preceded by its length, the
/// number of histograms, per histogram the series, timestamp, length and bytes, and per sample the
/// series, timestamp and value. None of these bytes reaches the disk.
pub(crate) fn queue(
    epoch: Epoch,
    labels: &[&Labels],
    histograms: &[SeriesHistogram],
    samples: &[SeriesSample],
) -> Bytes {
    let text: usize =
        labels.iter().map(|labels| QUEUED_LABELS_BYTES + labels.canonical().len()).sum();
    let histograms_bytes: usize =
        histograms.iter().map(|one| QUEUED_HISTOGRAM_BYTES + one.histogram.bytes.len()).sum();
    let samples_bytes = samples.len() * QUEUED_SAMPLE_BYTES;
    let mut bytes = Vec::with_capacity(9 + text + histograms_bytes + samples_bytes);
    bytes.push(epoch.to_byte());
    push_length(&mut bytes, labels.len());
    for labels in labels {
        push_length(&mut bytes, labels.canonical().len());
        bytes.extend_from_slice(labels.canonical().as_bytes());
    }
    push_length(&mut bytes, histograms.len());
    for SeriesHistogram { series, histogram } in histograms {
        bytes.extend_from_slice(&series.to_le_bytes());
        bytes.extend_from_slice(&histogram.timestamp_ms.to_le_bytes());
        push_length(&mut bytes, histogram.bytes.len());
        bytes.extend_from_slice(&histogram.bytes);
    }
    for SeriesSample { series, sample } in samples {
        bytes.extend_from_slice(&series.to_le_bytes());
        bytes.extend_from_slice(&sample.timestamp_ms.to_le_bytes());
        bytes.extend_from_slice(&sample.value.to_bits().to_le_bytes());
    }
    bytes.into()
}

/// Bytes of a queued sample: series, timestamp, bits of the value.
pub(crate) const QUEUED_SAMPLE_BYTES: usize = 4 + 8 + 8;

/// Bytes of a queued histogram beside its own: series, timestamp, length.
pub(crate) const QUEUED_HISTOGRAM_BYTES: usize = 4 + 8 + 4;

/// Bytes of the length before queued labels.
pub(crate) const QUEUED_LABELS_BYTES: usize = 4;

fn push_length(bytes: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a batch is bounded far below u32");
    bytes.extend_from_slice(&length.to_le_bytes());
}

/// A parsed payload of [`queue`].
struct Queued<'a> {
    epoch: Epoch,
    labels: Vec<&'a str>,
    histograms: Vec<SeriesHistogram>,
    samples: &'a [[u8; QUEUED_SAMPLE_BYTES]],
}

impl<'a> Queued<'a> {
    fn read(payload: &'a [u8]) -> Self {
        let mut rest = payload;
        let epoch = Epoch::from_byte(take::<1>(&mut rest)[0]);
        let labels = (0..take_length(&mut rest)).map(|_| {
            let length = take_length(&mut rest);
            let (text, after) = rest.split_at(length);
            rest = after;
            str::from_utf8(text).expect("a canonical encoding is text")
        });
        let labels = labels.collect();
        let histograms = (0..take_length(&mut rest)).map(|_| take_histogram(&mut rest)).collect();
        let (samples, tail) = rest.as_chunks();
        assert!(tail.is_empty(), "a queued batch is whole samples");
        Self { epoch, labels, histograms, samples }
    }

    /// Replaces the indices of labels by series numbers.
    fn resolve(&mut self, numbers: &[u32]) {
        self.histograms.iter_mut().for_each(|one| one.series = number(one.series, numbers));
    }

    /// The samples. `numbers` replaces the indices of labels by series numbers.
    fn samples(&self, numbers: &[u32]) -> impl Iterator<Item = SeriesSample> {
        self.samples.iter().map(|bytes| {
            let [n0, n1, n2, n3, t0, t1, t2, t3, t4, t5, t6, t7, value @ ..] = *bytes;
            SeriesSample {
                series: number(u32::from_le_bytes([n0, n1, n2, n3]), numbers),
                sample: Sample {
                    timestamp_ms: i64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
                    value: f64::from_bits(u64::from_le_bytes(value)),
                },
            }
        })
    }
}

/// The number of a series. `numbers` replaces the index of labels.
#[inline]
fn number(series: u32, numbers: &[u32]) -> u32 {
    if series & BY_LABELS == 0 { series } else { numbers[(series ^ BY_LABELS) as usize] }
}

fn take<const BYTES: usize>(rest: &mut &[u8]) -> [u8; BYTES] {
    let (bytes, after) = rest.split_first_chunk().expect("this process wrote it");
    *rest = after;
    *bytes
}

fn take_length(rest: &mut &[u8]) -> usize {
    u32::from_le_bytes(take(rest)) as usize
}

fn take_histogram(rest: &mut &[u8]) -> SeriesHistogram {
    let series = u32::from_le_bytes(take(rest));
    let timestamp_ms = i64::from_le_bytes(take(rest));
    let length = take_length(rest);
    let (bytes, after) = rest.split_at(length);
    *rest = after;
    SeriesHistogram { series, histogram: HistogramSample { timestamp_ms, bytes: bytes.into() } }
}

/// A shard's position, and its samples there.
pub(crate) struct ShardSnapshot {
    /// The series keep their numbers.
    #[expect(dead_code, reason = "it acts by its life")]
    pub(crate) hold: Hold,
    /// All records below this sequence have been applied.
    pub(crate) next: u64,
    pub(crate) cut: Cut,
    /// Samples and histograms inserted so far, see [`HeadShard::inserted`].
    pub(crate) inserted: u64,
    /// Knows the labels of the series in `cut`.
    pub(crate) shard: Arc<HeadShard>,
}

/// The state machine of one shard: its encoder and the samples of the current commit.
pub(crate) struct StorageMachine {
    head: Arc<HeadShard>,
    encoder: BatchEncoder,
    /// S2 APPLY: the samples that the current commit has encoded, in order.
    stored: Vec<SeriesSample>,
    /// S2 APPLY: its histograms, in order.
    histograms: Vec<SeriesHistogram>,
    /// Whether the current commit defines series.
    defines: bool,
    /// The epochs of the holds of its payloads.
    holds: Vec<Epoch>,
    snapshots: Sender<ShardSnapshot>,
}

impl StorageMachine {
    /// Requested snapshots are sent to `snapshots`. When the shard ends, the receiver sees the
    /// channel disconnected.
    pub(crate) fn new(head: Arc<HeadShard>, snapshots: Sender<ShardSnapshot>) -> Self {
        let (stored, histograms, holds) = (Vec::new(), Vec::new(), Vec::new());
        let encoder = BatchEncoder::new();
        Self { head, encoder, stored, histograms, defines: false, holds, snapshots }
    }

    /// Numbers the new series of a payload. Most payloads have none.
    fn define(&mut self, labels: &[&str]) -> Vec<u32> {
        if labels.is_empty() {
            return Vec::new();
        }
        self.defines = true;
        self.head.define(labels)
    }

    /// Ends the holds of the commit: nothing refers to its numbers any more.
    fn end_holds(&mut self) {
        self.holds.drain(..).for_each(|epoch| self.head.end_holds(epoch, 1));
    }
}

impl StateMachine for StorageMachine {
    fn encode(&mut self, reset: bool, _key: u64, payload: &[u8], stored: &mut Vec<u8>) {
        let (first, first_histogram) = (self.stored.len(), self.histograms.len());
        let mut queued = Queued::read(payload);
        self.holds.push(queued.epoch);
        let numbers = self.define(&queued.labels);
        // After the definition, which may have given such a number to another series.
        for number in self.head.take_removed() {
            self.encoder.forget(number);
        }
        self.stored.extend(queued.samples(&numbers));
        queued.resolve(&numbers);
        self.histograms.append(&mut queued.histograms);
        let (samples, histograms) = (&self.stored[first..], &self.histograms[first_histogram..]);
        self.encoder.encode(reset, samples, histograms, self.head.as_ref(), stored);
    }

    fn apply(&mut self) {
        let defines = std::mem::take(&mut self.defines);
        self.head.apply(&self.stored, &self.histograms, defines);
        self.stored.clear();
        self.histograms.clear();
        self.end_holds();
    }

    fn rollback(&mut self) {
        self.head.rollback(weight(&self.stored, &self.histograms));
        self.defines = false;
        self.stored.clear();
        self.histograms.clear();
        self.end_holds();
    }

    fn refuse(&mut self, _key: u64, payload: &[u8]) {
        let queued = Queued::read(payload);
        let reserved = places_of(queued.labels.iter().copied());
        let samples = queued.samples.len() as u64;
        self.head.refuse(samples + weight(&[], &queued.histograms), reserved);
        self.head.end_holds(queued.epoch, 1);
    }

    fn snapshot(&mut self, next: u64) {
        let (hold, cut, inserted) = self.head.snapshot();
        let shard = self.head.clone();
        // The receiver may have been dropped. No other thread needs the snapshot.
        drop(self.snapshots.try_send(ShardSnapshot { hold, next, cut, inserted, shard }));
    }
}

impl Drop for StorageMachine {
    /// The shard has ended, cleanly or not: nothing more will be applied.
    fn drop(&mut self) {
        self.head.end();
    }
}

#[cfg(test)]
mod tests {
    use super::{
        BY_LABELS, Epoch, HistogramSample, Labels, Queued, Sample, SeriesHistogram, SeriesSample,
        queue,
    };

    #[test]
    fn what_is_queued_comes_out_bit_by_bit() {
        let values = [0.0, -0.0, f64::NAN, f64::from_bits(0x7ff0_0000_0000_0002), f64::MAX];
        let mut samples: Vec<_> = values
            .into_iter()
            .zip([i64::MIN, -1, 0, 1, i64::MAX])
            .zip([0, 1, 2, 70_000, BY_LABELS - 1])
            .map(|((value, time), series)| SeriesSample {
                series,
                sample: Sample::new(time, value),
            })
            .collect();
        let bytes = queue(Epoch::default(), &[], &[], &samples);
        assert_eq!(Queued::read(&bytes).samples(&[]).collect::<Vec<_>>(), samples);

        let labels = Labels::new([("a", "\u{2603}".repeat(99))]).expect("they are valid");
        (samples[1].series, samples[3].series) = (BY_LABELS | 1, BY_LABELS);
        let histogram = |series, timestamp_ms, bytes: &[u8]| SeriesHistogram {
            series,
            histogram: HistogramSample { timestamp_ms, bytes: bytes.into() },
        };
        let mut histograms =
            [histogram(BY_LABELS, i64::MIN, &[]), histogram(3, i64::MAX, &[7, 8, 9])];
        let epoch = Epoch::default().other();
        let bytes = queue(epoch, &[&labels, &Labels::default()], &histograms, &samples);
        let mut queued = Queued::read(&bytes);
        assert_eq!(queued.epoch, epoch);
        assert_eq!(queued.labels, [labels.canonical(), ""]);
        assert_eq!(Labels::from_canonical(queued.labels[0]).id(), labels.id());
        (samples[1].series, samples[3].series) = (8, 7);
        assert_eq!(queued.samples(&[7, 8]).collect::<Vec<_>>(), samples);
        queued.resolve(&[7, 8]);
        histograms[0].series = 7;
        assert_eq!(queued.histograms, histograms);
    }
}
