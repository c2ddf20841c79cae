//! Time series on top of the log: what names a series, what is measured of it,
//! and the bytes that a batch of samples becomes. Knows no file, no thread and
//! no shard.

pub mod codec;
mod labels;
mod labels_error;
mod quote;
mod sample;
mod xxh64;

pub use labels::{LABELS_BYTES_MAX, LABELS_MAX, LabelIter, Labels, METRIC_NAME, SeriesId};
pub use labels_error::LabelsError;
pub use sample::{STALE_MARKER_BITS, Sample, TimeSeries};
