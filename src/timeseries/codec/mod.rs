//! The bytes that a batch of samples becomes, and back. FORMAT.md, "Time series
//! batches", specifies each of them.
//!
//! Encoder and decoder keep state: labels travel once, with a series' first
//! sample, and each sample is told as a difference from what the samples before
//! it let expect. The state lives as long as a *fresh period*: a batch that is
//! fresh begins one and needs nothing before it; every other carries a checksum
//! of all bytes of its period, so that it is decoded after exactly the batches
//! after which it was encoded, or refused.
//!
//! ```
//! use shardwal::timeseries::codec::{
//!     BatchDecoder, BatchEncoder, BatchSink, SeriesLabels, SeriesSample,
//! };
//! use shardwal::timeseries::{Labels, Sample};
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
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let up = Labels::new([("__name__", "up"), ("host", "a")])?;
//! let sample = SeriesSample { series: 0, sample: Sample::new(1_700_000_000_000, 1.0) };
//! let mut bytes = Vec::new();
//! BatchEncoder::new().encode(true, &[sample], &Catalogue(vec![up.clone()]), &mut bytes);
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

use super::Sample;

/// The most samples in one block of a batch. It bounds what a decoder holds at
/// a time, whatever a batch claims.
const BLOCK_SAMPLES_MAX: usize = 4096;

/// Labels of more canonical bytes share nothing with those before them, so that
/// few bytes of a batch cannot become many of labels.
const SHARED_LABELS_BYTES_MAX: usize = 4096;

/// The most bytes that a string shares with the one before it.
const PREFIX_MAX: usize = 255;

/// First byte of a batch that begins a fresh period.
const KIND_FRESH: u8 = 1;
/// First byte of a batch that continues one.
const KIND_CONTINUED: u8 = 2;
/// A kind with this bit may be passed over by those who do not know it.
const KIND_SKIPPABLE: u8 = 0x80;

/// One sample of one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeriesSample {
    /// Which series: to the encoder a number of the caller's, dense from 0; from
    /// the decoder a *reference*, which [`BatchSink::series`] has explained.
    pub series: u32,
    /// What was measured.
    pub sample: Sample,
}
