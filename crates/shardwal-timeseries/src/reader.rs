//! [`StorageReader`]: reads a storage without opening it for writes.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use super::budget::Budget;
use super::head::Head;
use super::head_shard::HeadShard;
use super::replayed_batches::ReplayedBatches;
use super::series_log::has_gap;
use super::snapshot;
use super::storage_error::StorageError;
use super::{Matcher, TimeSeries};
use shardwal::fs::{FileSystem, OsFileSystem};
use shardwal::{Checkpoint, LogReader, RecoveryReport, ReplayError, ReplayOptions};

/// Number of attempts. Each fails if the writer takes a snapshot in the middle of it.
const ATTEMPTS: usize = 10;

/// A storage as it was at one moment, in memory. It takes no lock and changes nothing, so another
/// process may have the storage open. Then it holds the samples that had been written to the log
/// when it was opened, at least all that were acknowledged before.
#[derive(Debug)]
pub struct StorageReader {
    head: Head,
    report: RecoveryReport,
    lost_batches: u64,
}

impl StorageReader {
    /// Reads the storage in `dir`: its snapshot and its log. Blocks until both are read.
    ///
    /// Corruption of the log is not an error: see [`StorageReader::report`]. What follows it in its
    /// shard is not read.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, StorageError> {
        Self::open_in(Arc::new(OsFileSystem), dir)
    }

    /// Reads the storage in `dir` of the file system `fs`. Otherwise like [`StorageReader::open`].
    ///
    /// # Errors
    /// As for [`StorageReader::open`].
    pub fn open_in(fs: Arc<dyn FileSystem>, dir: impl AsRef<Path>) -> Result<Self, StorageError> {
        let mut attempt = 1;
        loop {
            match Self::read(&fs, dir.as_ref()) {
                // The writer has taken a snapshot meanwhile, and truncated the log.
                Err(
                    StorageError::SnapshotTooOld { .. }
                    | StorageError::LogTooShort { .. }
                    | StorageError::UnfitSnapshot { .. }
                    | StorageError::Log(_),
                ) if attempt < ATTEMPTS => attempt += 1,
                read => return read,
            }
        }
    }

    fn read(fs: &Arc<dyn FileSystem>, dir: &Path) -> Result<Self, StorageError> {
        // The log first: whatever a later snapshot covers was in the log before.
        let log = LogReader::open_in(fs.clone(), dir.join("log")).map_err(StorageError::Log)?;
        let budget = Budget::new(0);
        let head = Head::new(vec![Arc::new(HeadShard::new(budget.clone()))], 0, 0, budget);
        let checkpoint = snapshot::load(fs.as_ref(), dir, &|_| Ok(()), &head)?;
        let checkpoint = checkpoint.unwrap_or_else(Checkpoint::start);
        let is_gap = |generation, shard| has_gap(log.report(), generation, shard);
        let batches = ReplayedBatches::new(&head, &is_gap);
        let replayed = log.replay_from(&checkpoint, ReplayOptions::default(), |record| {
            batches.restore(record.position(), record.payload())
        });
        let lost_batches = batches.lost();
        match replayed {
            Ok(_) => Ok(Self { head, report: log.report().clone(), lost_batches }),
            Err(ReplayError::Checkpoint(error)) => {
                Err(StorageError::unfit_snapshot(&snapshot::path(dir), error))
            }
            Err(error) => Err(StorageError::of_replay(error)),
        }
    }

    /// The findings in the log, shard by shard.
    #[must_use]
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// See [`Storage::lost_batches`](crate::Storage::lost_batches).
    #[must_use]
    pub fn lost_batches(&self) -> u64 {
        self.lost_batches
    }

    /// See [`Storage::query`](crate::Storage::query).
    #[must_use]
    pub fn query(&self, matchers: &[Matcher], range: RangeInclusive<i64>) -> Vec<TimeSeries> {
        self.head.query(matchers, &range)
    }
}
