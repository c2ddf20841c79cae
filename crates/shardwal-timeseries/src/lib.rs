//! Time series on top of the log: labels, samples, native histograms, the codec for batches of
//! them, and [`Storage`]. A storage logs batches, applies them in memory and answers queries. It
//! does not know the format of the log.
//!
//! | label | invariant |
//! |---|---|
//! | S3 COMPLETE | whatever happens, snapshot and log together hold every acknowledged sample that has not expired |
//! | R5 CUT | a read sees each shard between two commits: all samples of a commit, or none |

mod admission;
mod budget;
pub mod codec;
mod column;
mod columns;
mod cut;
mod head;
mod head_shard;
mod histogram_column;
mod holders;
mod index;
mod labels;
mod labels_error;
mod matcher;
mod prepared_write;
mod quote;
mod re2;
mod reader;
mod replayed_batches;
mod retention;
mod sample;
mod series_log;
mod series_scan;
mod snapshot;
mod state_machine;
mod storage;
mod storage_error;
mod storage_options;
mod writing;
mod xor_chunk;

pub use head::SeriesHandle;
pub use labels::{
    LABELS_BYTES_MAX, LABELS_MAX, LabelIter, LabelLimits, Labels, METRIC_NAME, SeriesId,
};
pub use labels_error::LabelsError;
pub use matcher::{Matcher, PatternError};
pub use prepared_write::PreparedWrite;
pub use reader::StorageReader;
pub use sample::{HISTOGRAM_BYTES_MAX, HistogramSample, STALE_MARKER_BITS, Sample, TimeSeries};
pub use series_log::{Machines, Replayed, SeriesLog};
pub use series_scan::SeriesScan;
pub use snapshot::SnapshotReport;
pub use storage::Storage;
pub use storage_error::{StorageError, WriteError};
pub use storage_options::StorageOptions;
pub use writing::Writing;
pub use xor_chunk::XorChunk;

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
