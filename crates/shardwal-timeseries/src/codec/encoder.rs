//! Encodes samples as batches. The encoder does not know the log. The caller decides when a fresh
//! period begins, and appends the batches to the log in order.

use super::bytes::push_varint;
use super::definitions::Definer;
use super::references::References;
use super::series_table::SeriesTable;
use super::timestamps::Timestamps;
use super::values::Values;
use super::{
    BLOCK_SAMPLES_MAX, KIND_CONTINUED, KIND_CONTINUED_HISTOGRAMS, KIND_FRESH,
    KIND_FRESH_HISTOGRAMS, SeriesHistogram, SeriesSample,
};
use crate::{HISTOGRAM_BYTES_MAX, Labels, Sample};

/// Provides the labels of the caller's series.
pub trait SeriesLabels {
    /// Returns the labels of a series. Called once per fresh period, when the series first occurs.
    fn labels(&self, series: u32) -> Labels;
}

/// Bytes that an encoder has written since it was created, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodedBytes {
    /// Kinds, checksums and counts.
    pub heads: u64,
    /// Definitions of references.
    pub labels: u64,
    /// The column of references.
    pub references: u64,
    /// The column of timestamps.
    pub timestamps: u64,
    /// The column of values.
    pub values: u64,
    /// The bytes of histograms, and their lengths.
    pub histograms: u64,
}

impl EncodedBytes {
    /// The sum.
    #[must_use]
    pub const fn total(&self) -> u64 {
        let columns = self.references + self.timestamps + self.values + self.histograms;
        self.heads + self.labels + columns
    }
}

/// Encodes samples as batches. It uses about 80 bytes per series of the fresh period, and one copy
/// of the distinct strings of their labels. It allocates nothing for a series that already occurred
/// in the period.
#[derive(Default)]
pub struct BatchEncoder {
    /// T2 PERIOD: the checksum of the fresh period's batches so far, which the next batch contains.
    /// `None` before the first batch.
    check: Option<u32>,
    table: SeriesTable,
    definer: Definer,
    references: References,
    timestamps: Timestamps,
    values: Values,
    /// The current block: references, and series that are new in it.
    block: Vec<u32>,
    new: Vec<u32>,
    /// The series and timestamps of a block of histograms.
    timed: Vec<SeriesSample>,
    written: EncodedBytes,
}

impl BatchEncoder {
    /// Creates an encoder. Its first batch will be fresh.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one batch of samples and histograms to `out`. They may be in any order.
    ///
    /// `fresh` begins a fresh period, which relies on nothing encoded before. All batches of a
    /// period must be decoded, in the order of these calls. If a batch does not get into the log,
    /// the next one must be fresh.
    ///
    /// # Panics
    /// A histogram has more than [`HISTOGRAM_BYTES_MAX`] bytes.
    pub fn encode(
        &mut self,
        fresh: bool,
        samples: &[SeriesSample],
        histograms: &[SeriesHistogram],
        labels: &dyn SeriesLabels,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        // Readers of the first version know no histograms, and refuse the other kinds.
        let (new, next) = match histograms {
            [] => (KIND_FRESH, KIND_CONTINUED),
            _ => (KIND_FRESH_HISTOGRAMS, KIND_CONTINUED_HISTOGRAMS),
        };
        if let (Some(check), false) = (self.check, fresh) {
            out.push(next);
            out.extend_from_slice(&check.to_le_bytes());
        } else {
            out.push(new);
            self.clear();
        }
        self.written.heads += (out.len() - start) as u64;
        for block in samples.chunks(BLOCK_SAMPLES_MAX) {
            self.encode_block(block, labels, out);
        }
        for block in histograms.chunks(BLOCK_SAMPLES_MAX) {
            self.encode_histograms(block, labels, out);
        }
        let mut check = crc32fast::Hasher::new_with_initial(self.check.unwrap_or(0));
        check.update(&out[start..]);
        self.check = Some(check.finalize());
    }

    /// Forgets a series, because its number may become that of another one. The next sample with
    /// the number defines its series again.
    pub fn forget(&mut self, series: u32) {
        self.table.forget(series);
    }

    /// Bytes written so far, by purpose.
    #[must_use]
    pub const fn encoded_bytes(&self) -> EncodedBytes {
        self.written
    }

    fn clear(&mut self) {
        self.check = None;
        self.table.clear();
        self.definer.clear();
        self.references.clear();
        self.timestamps.clear();
        self.values.clear();
    }

    fn encode_block(
        &mut self,
        samples: &[SeriesSample],
        labels: &dyn SeriesLabels,
        out: &mut Vec<u8>,
    ) {
        self.encode_times(samples, labels, out);
        let start = out.len();
        self.values.encode(&self.block, samples, out);
        self.written.values += (out.len() - start) as u64;
    }

    fn encode_histograms(
        &mut self,
        histograms: &[SeriesHistogram],
        labels: &dyn SeriesLabels,
        out: &mut Vec<u8>,
    ) {
        push_varint(out, 0);
        self.written.heads += 1;
        let mut timed = std::mem::take(&mut self.timed);
        timed.clear();
        timed.extend(histograms.iter().map(|SeriesHistogram { series, histogram }| {
            let sample = Sample::new(histogram.timestamp_ms, 0.0);
            SeriesSample { series: *series, sample }
        }));
        self.encode_times(&timed, labels, out);
        self.timed = timed;
        let start = out.len();
        for SeriesHistogram { histogram, .. } in histograms {
            let length = histogram.bytes.len();
            assert!(length <= HISTOGRAM_BYTES_MAX, "a histogram of {length} bytes");
            push_varint(out, length as u64);
            out.extend_from_slice(&histogram.bytes);
        }
        self.written.histograms += (out.len() - start) as u64;
    }

    /// Encodes what both kinds of blocks begin with: the definitions of new series, the references
    /// and the timestamps.
    fn encode_times(
        &mut self,
        samples: &[SeriesSample],
        labels: &dyn SeriesLabels,
        out: &mut Vec<u8>,
    ) {
        self.block.clear();
        self.new.clear();
        for SeriesSample { series, .. } in samples {
            let (reference, is_new) = self.table.reference(*series);
            self.block.push(reference);
            if is_new {
                self.new.push(*series);
            }
        }
        let mut end = out.len();
        let mut since = |out: &Vec<u8>| {
            let bytes = (out.len() - end) as u64;
            end = out.len();
            bytes
        };
        push_varint(out, samples.len() as u64);
        push_varint(out, self.new.len() as u64);
        self.written.heads += since(out);
        for series in &self.new {
            self.definer.encode(&labels.labels(*series), out);
            self.references.define();
            self.timestamps.define();
            self.values.define();
        }
        self.written.labels += since(out);
        self.references.encode(&self.block, out);
        self.written.references += since(out);
        self.timestamps.encode(&self.block, samples, out);
        self.written.timestamps += since(out);
    }
}
