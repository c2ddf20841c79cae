//! The storage's state machine. It encodes queued samples as batches in the log's order, and
//! applies them once they are acknowledged. It does not know queries.

use std::sync::Arc;

use bytes::Bytes;

use super::codec::{BatchEncoder, SeriesSample};
use super::head_shard::{HeadShard, HeadSnapshot, SERIES_MAX};
use super::{Labels, Sample};
use crossbeam_channel::Sender;
use shardwal::StateMachine;

/// Set in the series field of a queued sample whose series has no number yet. The other bits are an
/// index into the payload's labels.
pub(crate) const BY_LABELS: u32 = SERIES_MAX;

/// The queue payload: the labels of series without numbers, then the samples. It holds the number
/// of labels, each label set preceded by its length, and per sample the series, timestamp and
/// value. None of these bytes reaches the disk.
pub(crate) fn queue(labels: &[&Labels], samples: &[SeriesSample]) -> Bytes {
    let text: usize = labels.iter().map(|labels| 4 + labels.canonical().len()).sum();
    let mut bytes = Vec::with_capacity(4 + text + samples.len() * SAMPLE_BYTES);
    push_length(&mut bytes, labels.len());
    for labels in labels {
        push_length(&mut bytes, labels.canonical().len());
        bytes.extend_from_slice(labels.canonical().as_bytes());
    }
    for SeriesSample { series, sample } in samples {
        bytes.extend_from_slice(&series.to_le_bytes());
        bytes.extend_from_slice(&sample.timestamp_ms.to_le_bytes());
        bytes.extend_from_slice(&sample.value.to_bits().to_le_bytes());
    }
    bytes.into()
}

/// Bytes of a queued sample: series, timestamp, bits of the value.
const SAMPLE_BYTES: usize = 4 + 8 + 8;

fn push_length(bytes: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a batch is bounded far below u32");
    bytes.extend_from_slice(&length.to_le_bytes());
}

/// A parsed payload of [`queue`].
struct Queued<'a> {
    labels: Vec<&'a str>,
    samples: &'a [[u8; SAMPLE_BYTES]],
}

impl<'a> Queued<'a> {
    fn read(payload: &'a [u8]) -> Self {
        let mut rest = payload;
        let labels = (0..take_length(&mut rest)).map(|_| {
            let length = take_length(&mut rest);
            let (text, after) = rest.split_at(length);
            rest = after;
            str::from_utf8(text).expect("a canonical encoding is text")
        });
        let labels = labels.collect();
        let (samples, tail) = rest.as_chunks();
        assert!(tail.is_empty(), "a queued batch is whole samples");
        Self { labels, samples }
    }

    /// The samples. `numbers` replaces the indices of labels by series numbers.
    fn samples(&self, numbers: &[u32]) -> impl Iterator<Item = SeriesSample> {
        self.samples.iter().map(|bytes| {
            let [n0, n1, n2, n3, t0, t1, t2, t3, t4, t5, t6, t7, value @ ..] = *bytes;
            let series = u32::from_le_bytes([n0, n1, n2, n3]);
            let by_labels = series & BY_LABELS != 0;
            SeriesSample {
                series: if by_labels { numbers[(series ^ BY_LABELS) as usize] } else { series },
                sample: Sample {
                    timestamp_ms: i64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
                    value: f64::from_bits(u64::from_le_bytes(value)),
                },
            }
        })
    }
}

fn take_length(rest: &mut &[u8]) -> usize {
    let (length, after) = rest.split_first_chunk().expect("this process wrote it");
    *rest = after;
    u32::from_le_bytes(*length) as usize
}

/// A shard's position, and its head snapshot there.
pub(crate) struct ShardSnapshot {
    /// All records below this sequence have been applied.
    pub(crate) next: u64,
    pub(crate) head: HeadSnapshot,
}

/// The state machine of one shard: its encoder and the samples of the current commit.
pub(crate) struct StorageMachine {
    head: Arc<HeadShard>,
    encoder: BatchEncoder,
    /// S2 APPLY: the samples that the current commit has encoded, in order.
    stored: Vec<SeriesSample>,
    /// Whether the current commit defines series.
    defines: bool,
    snapshots: Sender<ShardSnapshot>,
}

impl StorageMachine {
    /// Requested snapshots are sent to `snapshots`. When the shard ends, the receiver sees the
    /// channel disconnected.
    pub(crate) fn new(head: Arc<HeadShard>, snapshots: Sender<ShardSnapshot>) -> Self {
        let (encoder, stored) = (BatchEncoder::new(), Vec::new());
        Self { head, encoder, stored, defines: false, snapshots }
    }

    /// Numbers the new series of a payload. Most payloads have none.
    fn define(&mut self, labels: &[&str]) -> Vec<u32> {
        if labels.is_empty() {
            return Vec::new();
        }
        self.defines = true;
        self.head.define(labels.iter().map(|text| Labels::from_canonical(text)))
    }
}

impl StateMachine for StorageMachine {
    fn encode(&mut self, reset: bool, _key: u64, payload: &[u8], stored: &mut Vec<u8>) {
        let first = self.stored.len();
        let queued = Queued::read(payload);
        let numbers = self.define(&queued.labels);
        self.stored.extend(queued.samples(&numbers));
        self.encoder.encode(reset, &self.stored[first..], self.head.as_ref(), stored);
    }

    fn apply(&mut self) {
        self.head.apply(&self.stored, std::mem::take(&mut self.defines));
        self.stored.clear();
    }

    fn rollback(&mut self) {
        self.head.rollback(self.stored.len() as u64);
        self.defines = false;
        self.stored.clear();
    }

    fn refuse(&mut self, _key: u64, payload: &[u8]) {
        let queued = Queued::read(payload);
        let reserved = u32::try_from(queued.labels.len()).expect("bounded far below u32");
        self.head.refuse(queued.samples.len() as u64, reserved);
    }

    fn snapshot(&mut self, next: u64) {
        let head = self.head.snapshot();
        // The receiver may have been dropped. No other thread needs the snapshot.
        drop(self.snapshots.try_send(ShardSnapshot { next, head }));
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
    use super::{BY_LABELS, Labels, Queued, Sample, SeriesSample, queue};

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
        let bytes = queue(&[], &samples);
        assert_eq!(Queued::read(&bytes).samples(&[]).collect::<Vec<_>>(), samples);

        let labels = Labels::new([("a", "\u{2603}".repeat(99))]).expect("they are valid");
        (samples[1].series, samples[3].series) = (BY_LABELS | 1, BY_LABELS);
        let bytes = queue(&[&labels, &Labels::default()], &samples);
        let queued = Queued::read(&bytes);
        assert_eq!(queued.labels, [labels.canonical(), ""]);
        assert_eq!(Labels::from_canonical(queued.labels[0]).id(), labels.id());
        (samples[1].series, samples[3].series) = (8, 7);
        assert_eq!(queued.samples(&[7, 8]).collect::<Vec<_>>(), samples);
    }
}
