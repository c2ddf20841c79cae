//! Decodes batches to samples. The decoder trusts no byte: any input ends with samples or an error.
//! The number of bytes bounds its time. It holds at most one block of samples.

use super::bytes::Reader;
use super::definitions::Definitions;
use super::references::References;
use super::timestamps::Timestamps;
use super::values::Values;
use super::{
    BLOCK_SAMPLES_MAX, DecodeError, DecodeFault, KIND_CONTINUED, KIND_CONTINUED_HISTOGRAMS,
    KIND_FRESH, KIND_FRESH_HISTOGRAMS, KIND_SKIPPABLE, SeriesHistogram, SeriesSample,
};
use crate::{HISTOGRAM_BYTES_MAX, HistogramSample, Labels};

/// Receives decoded series and samples.
pub trait BatchSink {
    /// Assigns `reference` to the series with these labels. References start at 0 in each fresh
    /// period and rise by one, so reference 0 invalidates all earlier ones. Two references of a
    /// period may name one series.
    fn series(&mut self, reference: u32, labels: Labels);

    /// Receives at least one sample, in the order of encoding. Each sample's `series` is a
    /// reference.
    fn samples(&mut self, samples: &[SeriesSample]);

    /// Receives at least one histogram, in the order of encoding. Each histogram's `series` is a
    /// reference.
    fn histograms(&mut self, histograms: &[SeriesHistogram]);
}

/// Decodes batches to samples. It uses about 70 bytes per series of the fresh period, the distinct
/// strings of their labels, and the memory of one block.
#[derive(Default)]
pub struct BatchDecoder {
    /// T2 PERIOD: the checksum of the fresh period's batches so far, which the next batch must
    /// name. `None` if no batch can be continued.
    check: Option<u32>,
    definitions: Definitions,
    references: References,
    timestamps: Timestamps,
    values: Values,
    /// References of the current block.
    block: Vec<u32>,
    samples: Vec<SeriesSample>,
    histograms: Vec<SeriesHistogram>,
}

impl BatchDecoder {
    /// Creates a decoder. Its first batch must be fresh.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes one batch, which must be all of `bytes`. A batch of an unknown but skippable kind
    /// yields nothing.
    ///
    /// # Errors
    /// The bytes are not a batch, or not the next batch. Discard what the sink received of it. The
    /// decoder then accepts only a fresh batch, unless it refused this one for its kind or its
    /// order.
    pub fn decode(&mut self, bytes: &[u8], sink: &mut impl BatchSink) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.byte()?;
        match kind {
            KIND_FRESH | KIND_FRESH_HISTOGRAMS => {
                self.clear();
                self.check = Some(0);
            }
            KIND_CONTINUED | KIND_CONTINUED_HISTOGRAMS => {
                let Some(found) = self.check else {
                    return Err(DecodeError { offset: 0, fault: DecodeFault::NotFresh });
                };
                let expected = reader.check()?;
                if found != expected {
                    let fault = DecodeFault::OutOfOrder { found, expected };
                    return Err(DecodeError { offset: 1, fault });
                }
            }
            kind if kind & KIND_SKIPPABLE != 0 => return Ok(()),
            kind => return Err(DecodeError { offset: 0, fault: DecodeFault::UnknownKind(kind) }),
        }
        // An early return leaves `None`, so that no batch can continue this period.
        let check = self.check.take().unwrap_or(0);
        let has_histograms = matches!(kind, KIND_FRESH_HISTOGRAMS | KIND_CONTINUED_HISTOGRAMS);
        while !reader.is_at_end() {
            match reader.at_most(BLOCK_SAMPLES_MAX, "a number of samples")? {
                0 if has_histograms => self.decode_histograms(&mut reader, sink)?,
                count => self.decode_block(&mut reader, count, sink)?,
            }
        }
        let mut check = crc32fast::Hasher::new_with_initial(check);
        check.update(bytes);
        self.check = Some(check.finalize());
        Ok(())
    }

    fn clear(&mut self) {
        self.definitions.clear();
        self.references.clear();
        self.timestamps.clear();
        self.values.clear();
    }

    /// Decodes a block of `count` samples.
    fn decode_block(
        &mut self,
        reader: &mut Reader<'_>,
        count: usize,
        sink: &mut impl BatchSink,
    ) -> Result<(), DecodeError> {
        self.decode_times(reader, count, sink)?;
        self.values.decode(reader, &self.block, &mut self.samples)?;
        sink.samples(&self.samples);
        Ok(())
    }

    fn decode_histograms(
        &mut self,
        reader: &mut Reader<'_>,
        sink: &mut impl BatchSink,
    ) -> Result<(), DecodeError> {
        let count = reader.at_most(BLOCK_SAMPLES_MAX, "a number of histograms")?;
        self.decode_times(reader, count, sink)?;
        self.histograms.clear();
        for SeriesSample { series, sample } in &self.samples {
            let length = reader.at_most(HISTOGRAM_BYTES_MAX, "a histogram's length")?;
            let bytes = reader.slice(length)?.into();
            let histogram = HistogramSample { timestamp_ms: sample.timestamp_ms, bytes };
            self.histograms.push(SeriesHistogram { series: *series, histogram });
        }
        sink.histograms(&self.histograms);
        self.histograms.clear();
        Ok(())
    }

    /// Decodes what both kinds of blocks begin with: the definitions of new series, the references
    /// and the timestamps.
    fn decode_times(
        &mut self,
        reader: &mut Reader<'_>,
        count: usize,
        sink: &mut impl BatchSink,
    ) -> Result<(), DecodeError> {
        if count == 0 {
            let fault = DecodeFault::OutOfRange { what: "a number of samples", found: 0 };
            return Err(reader.fault(fault));
        }
        let new = reader.at_most(count, "a number of series")?;
        for _ in 0..new {
            let labels = self.definitions.decode(reader)?;
            let reference = u32::try_from(self.references.len()).expect("fewer than bytes");
            self.references.define();
            self.timestamps.define();
            self.values.define();
            sink.series(reference, labels);
        }
        self.references.decode(reader, count, &mut self.block)?;
        self.samples.clear();
        let sample_of = |series: &u32| SeriesSample { series: *series, ..SeriesSample::default() };
        self.samples.extend(self.block.iter().map(sample_of));
        self.timestamps.decode(reader, &self.block, &mut self.samples)
    }
}
