//! Batches to samples. Takes no byte on trust: whatever comes, it ends with an
//! error or with samples, in time that the number of bytes bounds, and with
//! memory for one block.

use super::bytes::Reader;
use super::definitions::Definitions;
use super::references::References;
use super::timestamps::Timestamps;
use super::values::Values;
use super::{
    BLOCK_SAMPLES_MAX, DecodeError, DecodeFault, KIND_CONTINUED, KIND_FRESH, KIND_SKIPPABLE,
    SeriesSample,
};
use crate::timeseries::Labels;

/// Who takes what is decoded.
pub trait BatchSink {
    /// From now on `reference` means the series of these labels. References
    /// begin with 0 in each fresh period and rise by one: a 0 says that all
    /// before are void. Two of a period may mean the same labels.
    fn series(&mut self, reference: u32, labels: Labels);

    /// Samples in the order in which they were encoded, at least one; `series`
    /// is the reference.
    fn samples(&mut self, samples: &[SeriesSample]);
}

/// Turns batches into samples. Memory: some 70 bytes and the distinct strings
/// of the labels for each series of the fresh period, and one block.
#[derive(Default)]
pub struct BatchDecoder {
    /// T2 PERIOD: the checksum of the fresh period's batches so far, which the
    /// next one names; `None` where no batch can be continued.
    check: Option<u32>,
    definitions: Definitions,
    references: References,
    timestamps: Timestamps,
    values: Values,
    /// Of the block in hand.
    block: Vec<u32>,
    samples: Vec<SeriesSample>,
}

impl BatchDecoder {
    /// A decoder whose first batch must be fresh.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes one batch, whose bytes are all of `bytes`. A batch of a kind that
    /// may be passed over gives nothing.
    ///
    /// # Errors
    /// The bytes are no batch, or not the one that comes next. What the sink has
    /// been given of them is not to be used. Unless it was refused for its kind
    /// or its place, only a fresh batch is taken from then on.
    pub fn decode(&mut self, bytes: &[u8], sink: &mut impl BatchSink) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.byte()? {
            KIND_FRESH => {
                self.clear();
                self.check = Some(0);
            }
            KIND_CONTINUED => {
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
        // Taken: an early return leaves no period that could be continued.
        let check = self.check.take().unwrap_or(0);
        while !reader.is_at_end() {
            self.decode_block(&mut reader, sink)?;
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

    fn decode_block(
        &mut self,
        reader: &mut Reader<'_>,
        sink: &mut impl BatchSink,
    ) -> Result<(), DecodeError> {
        let count = reader.at_most(BLOCK_SAMPLES_MAX, "a number of samples")?;
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
        self.timestamps.decode(reader, &self.block, &mut self.samples)?;
        self.values.decode(reader, &self.block, &mut self.samples)?;
        sink.samples(&self.samples);
        Ok(())
    }
}
