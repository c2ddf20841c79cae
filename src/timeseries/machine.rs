//! What a shard's writer drives for the storage: batches of samples become
//! coded batches in the log's order, and are applied once acknowledged.

use std::sync::Arc;

use bytes::Bytes;

use super::Sample;
use super::codec::{BatchEncoder, SeriesSample};
use super::memory::{Frozen, ShardMemory};
use crate::state_machine::StateMachine;
use crate::sync::channel::Sender;

/// A queued sample: the series' number, the timestamp, the value's bits.
pub(crate) const QUEUED_BYTES: usize = 4 + 8 + 8;

/// Samples as they stand in a shard's queue. Nothing of it reaches the disk.
pub(crate) fn queue(samples: impl ExactSizeIterator<Item = SeriesSample>) -> Bytes {
    let mut bytes = Vec::with_capacity(samples.len() * QUEUED_BYTES);
    for SeriesSample { series, sample } in samples {
        bytes.extend_from_slice(&series.to_le_bytes());
        bytes.extend_from_slice(&sample.timestamp_ms.to_le_bytes());
        bytes.extend_from_slice(&sample.value.to_bits().to_le_bytes());
    }
    bytes.into()
}

fn queued(bytes: &[u8]) -> impl Iterator<Item = SeriesSample> {
    let (samples, rest) = bytes.as_chunks::<QUEUED_BYTES>();
    assert!(rest.is_empty(), "a queued batch is whole samples");
    samples.iter().map(|bytes| {
        let [n0, n1, n2, n3, t0, t1, t2, t3, t4, t5, t6, t7, value @ ..] = *bytes;
        SeriesSample {
            series: u32::from_le_bytes([n0, n1, n2, n3]),
            sample: Sample {
                timestamp_ms: i64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
                value: f64::from_bits(u64::from_le_bytes(value)),
            },
        }
    })
}

/// Where a shard stood, and what it held there.
pub(crate) struct Mark {
    /// The sequence below which all had been applied.
    pub(crate) next: u64,
    pub(crate) frozen: Frozen,
}

/// See the module's words.
pub(crate) struct Machine {
    memory: Arc<ShardMemory>,
    encoder: BatchEncoder,
    /// S2 APPLY: what the commit under way has stored, in order.
    stored: Vec<SeriesSample>,
    marks: Sender<Mark>,
}

impl Machine {
    /// The marks it is asked for go to `marks`, whose other end learns from the
    /// disconnection that the shard has ended.
    pub(crate) fn new(memory: Arc<ShardMemory>, marks: Sender<Mark>) -> Self {
        Self { memory, encoder: BatchEncoder::new(), stored: Vec::new(), marks }
    }
}

impl StateMachine for Machine {
    fn store(&mut self, fresh: bool, _key: u64, payload: &[u8], stored: &mut Vec<u8>) {
        let first = self.stored.len();
        self.stored.extend(queued(payload));
        self.encoder.encode(fresh, &self.stored[first..], self.memory.as_ref(), stored);
    }

    fn apply(&mut self) {
        self.memory.apply(&self.stored);
        self.stored.clear();
    }

    fn discard(&mut self) {
        self.stored.clear();
    }

    fn mark(&mut self, next: u64) {
        let frozen = self.memory.freeze();
        // Nobody may be there to take it any more, and nobody else is owed it.
        drop(self.marks.try_send(Mark { next, frozen }));
    }
}

#[cfg(test)]
mod tests {
    use super::{Sample, SeriesSample, queue, queued};

    #[test]
    fn what_is_queued_comes_out_bit_by_bit() {
        let values = [0.0, -0.0, f64::NAN, f64::from_bits(0x7ff0_0000_0000_0002), f64::MAX];
        let samples: Vec<_> = values
            .into_iter()
            .zip([i64::MIN, -1, 0, 1, i64::MAX])
            .zip([0, 1, 2, 70_000, u32::MAX])
            .map(|((value, time), series)| SeriesSample {
                series,
                sample: Sample::new(time, value),
            })
            .collect();
        let bytes = queue(samples.iter().copied());
        assert_eq!(queued(&bytes).collect::<Vec<_>>(), samples);
    }
}
