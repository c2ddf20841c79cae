//! The codec: batches of samples to bytes, and back. FORMAT.md, "Time series batches", specifies
//! each byte. The codec does not know the log or the storage.
//!
//! Encoder and decoder keep state. The labels of a series are encoded once, with its first sample.
//! Each sample is encoded as the difference from a prediction. The state lasts for a *fresh
//! period*. A fresh batch begins a period and depends on no earlier batch. Every other batch
//! contains a checksum of all bytes of its period so far. A batch is therefore decoded after
//! exactly the batches after which it was encoded, or refused.
//!
//! ```
//! use shardwal_timeseries::codec::{
//!     BatchDecoder, BatchEncoder, BatchSink, SeriesHistogram, SeriesLabels, SeriesSample,
//! };
//! use shardwal_timeseries::{Labels, Sample};
//!
//! struct Catalogue(Vec<Labels>);
//!
//! impl SeriesLabels for Catalogue {
//!     fn labels(&self, series: u32) -> Labels {
//!         self.0[series as usize].clone()
//!     }
//! }
//!
//! #[derive(Default)]
//! struct Found(Vec<Labels>, Vec<SeriesSample>);
//!
//! impl BatchSink for Found {
//!     fn series(&mut self, reference: u32, labels: Labels) {
//!         assert_eq!(reference as usize, self.0.len());
//!         self.0.push(labels);
//!     }
//!     fn samples(&mut self, samples: &[SeriesSample]) {
//!         self.1.extend_from_slice(samples);
//!     }
//!     fn histograms(&mut self, _: &[SeriesHistogram]) {}
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let up = Labels::new([("__name__", "up"), ("host", "a")])?;
//! let sample = SeriesSample { series: 0, sample: Sample::new(1_700_000_000_000, 1.0) };
//! let mut bytes = Vec::new();
//! BatchEncoder::new().encode(true, &[sample], &[], &Catalogue(vec![up.clone()]), &mut bytes);
//!
//! let mut found = Found::default();
//! BatchDecoder::new().decode(&bytes, &mut found)?;
//! assert_eq!((found.0, found.1), (vec![up], vec![sample]));
//! # Ok(())
//! # }
//! ```

mod bytes;
mod decimal;
mod decode_error;
mod decoder;
mod definitions;
mod encoder;
mod references;
mod series_table;
mod timestamps;
mod values;

pub use decode_error::{DecodeError, DecodeFault};
pub use decoder::{BatchDecoder, BatchSink};
pub use encoder::{BatchEncoder, EncodedBytes, SeriesLabels};

use super::{HistogramSample, Sample};

/// Maximum number of samples per block. It bounds the decoder's memory, whatever a batch claims.
const BLOCK_SAMPLES_MAX: usize = 4096;

/// Labels of more canonical bytes share nothing with earlier labels. Otherwise a few bytes of a
/// batch could expand to many bytes of labels.
const SHARED_LABELS_BYTES_MAX: usize = 4096;

/// Maximum number of bytes that a string shares with the string before it.
const PREFIX_MAX: usize = 255;

/// First byte of a batch that begins a fresh period.
const KIND_FRESH: u8 = 1;
/// First byte of a batch that continues a period.
const KIND_CONTINUED: u8 = 2;
/// As [`KIND_FRESH`], and blocks of histograms may follow.
const KIND_FRESH_HISTOGRAMS: u8 = 3;
/// As [`KIND_CONTINUED`], and blocks of histograms may follow.
const KIND_CONTINUED_HISTOGRAMS: u8 = 4;
/// A decoder may skip a batch of unknown kind if this bit is set.
const KIND_SKIPPABLE: u8 = 0x80;

/// One sample of one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeriesSample {
    /// The series. For the encoder, this is the caller's number, dense from 0. From the decoder, it
    /// is a *reference*, which [`BatchSink::series`] has defined.
    pub series: u32,
    /// The sample.
    pub sample: Sample,
}

/// One native histogram of one series.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeriesHistogram {
    /// The series, as in [`SeriesSample::series`].
    pub series: u32,
    /// The histogram.
    pub histogram: HistogramSample,
}
