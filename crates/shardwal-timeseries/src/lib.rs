//! Time series on top of the log: labels, samples, the codec for batches of samples, and
//! [`Storage`]. A storage logs batches, applies them in memory and answers queries. It does not
//! know the format of the log.
//!
//! | label | invariant |
//! |---|---|
//! | S3 COMPLETE | whatever happens, snapshot and log together hold every sample that was acknowledged |

mod admission;
mod budget;
pub mod codec;
mod column;
mod head;
mod head_shard;
mod labels;
mod labels_error;
mod matcher;
mod quote;
mod sample;
mod series_log;
mod snapshot;
mod state_machine;
mod storage;
mod storage_error;
mod storage_options;
mod writing;

pub use head::SeriesHandle;
pub use labels::{LABELS_BYTES_MAX, LABELS_MAX, LabelIter, Labels, METRIC_NAME, SeriesId};
pub use labels_error::LabelsError;
pub use matcher::{Matcher, PatternError};
pub use sample::{STALE_MARKER_BITS, Sample, TimeSeries};
pub use series_log::{Machines, Replayed, SeriesLog};
pub use snapshot::SnapshotReport;
pub use storage::Storage;
pub use storage_error::{StorageError, WriteError};
pub use storage_options::StorageOptions;
pub use writing::Writing;

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
