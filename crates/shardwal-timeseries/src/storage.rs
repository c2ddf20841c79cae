//! [`Storage`]: labelled time series, held in memory and made durable by a log. It does not know
//! how a series or a batch is represented.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::admission::{Admission, AtSeriesLimit, ShardBatch, Write, admit};
use super::budget::Budget;
use super::head::{Head, SeriesHandle};
use super::head_shard::HeadShard;
use super::prepared_write::PreparedWrite;
use super::replayed_batches::ReplayedBatches;
use super::series_log::SeriesLog;
use super::snapshot::{self, SnapshotReport};
use super::state_machine::{ShardSnapshot, StorageMachine};
use super::storage_error::{StorageError, WriteError};
use super::storage_options::StorageOptions;
use super::writing::{Writing, append_wait};
use super::{HistogramSample, Labels, Matcher, Sample, TimeSeries};
use crossbeam_channel::{Receiver, bounded};
use parking_lot::Mutex;
use shardwal::Checkpoint;
use shardwal::ReplayOptions;
use shardwal::ShardedWal;
use shardwal::fs::{FileHandle, FileSystem};
use shardwal::internals::{self, LockedDir};
use shardwal::{CloseError, Position};
use std::sync::atomic::{AtomicU64, Ordering};

/// Distinguishes the storages of this process.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// A queue has room for at least this number of parts of writes.
const PARTS_PER_QUEUE: usize = 4;

/// Labelled time series on a log. A write is logged, and applied in memory once it is as durable as
/// the log's [`shardwal::Durability`] demands. Opening replays the log.
///
/// Samples of a series may arrive in any order. If two samples have equal timestamps, the one
/// logged later wins. Writing a sample twice therefore changes nothing. Label sets whose ids
/// collide remain separate series. Share the storage by reference or in an `Arc`. Dropping it
/// closes it, as [`Storage::close`] does.
#[derive(Debug)]
pub struct Storage<L: SeriesLog = ShardedWal> {
    log: L,
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    head: Head,
    /// Maximum bytes of a part of a write: a fraction of a queue, so that parts of many fit.
    part_bytes_max: usize,
    /// Written only by `open`.
    lost_batches: AtomicU64,
    /// Samples inserted into the head that the last snapshot covers. Written by `open`, and by
    /// `snapshot` while it holds the lock below.
    covered: AtomicU64,
    /// The age at which samples expire.
    pub(crate) retention: Option<Duration>,
    /// Number of samples dropped by age since `open` began.
    pub(crate) expired: AtomicU64,
    /// Number of series that were without samples in a pass of the retention.
    pub(crate) expired_series: AtomicU64,
    /// Held by a pass of the retention. Taken after `snapshots`.
    pub(crate) retention_pass: Mutex<()>,
    /// One receiver per shard's state machine. The lock is held while a snapshot is taken, and by
    /// `close`.
    snapshots: Mutex<Vec<Receiver<ShardSnapshot>>>,
    /// Holds the lock on the directory and its snapshots. `close` releases it.
    lock: Mutex<Option<Box<dyn FileHandle>>>,
}

impl Storage {
    /// Opens or creates a storage on a [`ShardedWal`]. Loads the snapshot, then replays the log
    /// into memory, the shards in parallel. Blocks until the replay is complete.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn open(options: StorageOptions) -> Result<Self, StorageError> {
        Self::open_in(options)
    }

    /// Prepares a write of samples and histograms by handle and others by labels, for a task.
    /// Checks every limit, and has no effect yet: see [`PreparedWrite`]. Never blocks.
    ///
    /// New series beyond [`StorageOptions::series_max`] are left out, and
    /// [`PreparedWrite::left_out`] names them.
    ///
    /// # Errors
    /// [`WriteError::TooManySeries`] if room for series depends on writes that are in flight.
    /// Otherwise see [`WriteError`].
    pub fn prepare_write(
        &self,
        samples: &[(SeriesHandle, Sample)],
        histograms: &[(SeriesHandle, HistogramSample)],
        batch: &[TimeSeries],
    ) -> Result<PreparedWrite<'_>, WriteError> {
        let (at_limit, write) = (AtSeriesLimit::LeaveOut, Write { samples, histograms, batch });
        let admission = admit(&self.head, self.part_bytes_max, at_limit, write)?;
        let Admission { parts, left_out } = admission;
        Ok(PreparedWrite::new(&self.log, parts, left_out))
    }
}

impl<L: SeriesLog> Storage<L> {
    /// Opens or creates a storage on the log type `L`. Blocks like [`Storage::open`].
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn open_in(options: StorageOptions) -> Result<Self, StorageError> {
        let StorageOptions { mut log, replay, series_max, samples_max, retention } = options;
        let mut dir = log.dir().to_path_buf();
        if dir.as_os_str().is_empty() {
            dir.push(".");
        }
        let LockedDir { fs, lock } =
            internals::create_and_lock(log.get_file_system(), &dir).map_err(StorageError::Log)?;
        snapshot::remove_unfinished(fs.as_ref(), &dir)?;
        internals::set_dir(&mut log, dir.join("log"), fs.clone());
        let part_bytes_max = log.get_queue_bytes() / PARTS_PER_QUEUE;
        let (mut shards, mut snapshots) = (Vec::new(), Vec::new());
        let budget = Budget::new(samples_max);
        let log = L::open(log, &mut |_| {
            let head = Arc::new(HeadShard::new(budget.clone()));
            let (sender, receiver) = bounded(1);
            shards.push(head.clone());
            snapshots.push(receiver);
            Box::new(StorageMachine::new(head, sender))
        })
        .map_err(StorageError::Log)?;
        // ORDERING: Relaxed; the numbers only have to differ.
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let storage = Self {
            log,
            fs,
            dir,
            head: Head::new(shards, id, series_max, budget),
            part_bytes_max,
            lost_batches: AtomicU64::new(0),
            covered: AtomicU64::new(0),
            retention,
            expired: AtomicU64::new(0),
            expired_series: AtomicU64::new(0),
            retention_pass: Mutex::new(()),
            snapshots: Mutex::new(snapshots),
            lock: Mutex::new(Some(lock)),
        };
        storage.restore(replay)?;
        if storage.retention.is_some() {
            storage.drop_expired();
            storage.head.shards().iter().for_each(|shard| shard.remove_empty_series());
        }
        Ok(storage)
    }

    fn restore(&self, options: ReplayOptions) -> Result<(), StorageError> {
        let (fs, path) = (self.fs.as_ref(), snapshot::path(&self.dir));
        let check = |checkpoint: Option<&Checkpoint>| {
            let unfit = |error| StorageError::unfit_snapshot(&path, error);
            self.log.check(checkpoint).map_err(unfit)
        };
        let checkpoint = snapshot::load(fs, &self.dir, &check, &self.head)?;
        // ORDERING: Relaxed; a statistic.
        self.covered.store(self.head.inserted(), Ordering::Relaxed);
        let has_gap = |generation, shard| self.log.has_gap(generation, shard);
        let batches = ReplayedBatches::new(&self.head, &has_gap);
        let restore = |position: Position, batch: &[u8]| batches.restore(position, batch);
        let replayed = self.log.replay_from(checkpoint.as_ref(), options, &restore);
        // ORDERING: Relaxed; only `open` writes it.
        self.lost_batches.store(batches.lost(), Ordering::Relaxed);
        replayed
    }

    /// The underlying log, for its statistics. Do not append to it: a shard fails at a record that
    /// is not a batch of the storage. Do not truncate it: only [`Storage::snapshot`] may.
    #[must_use]
    pub fn log(&self) -> &L {
        &self.log
    }

    /// Number of whole batches in the log that cannot be decoded, because a repair truncated
    /// batches that they continue ([`shardwal::Repair`]). The loss ends at the next segment or at
    /// the position of the next snapshot. It is 0 for a log that was never repaired,
    /// or was truncated beyond the repair.
    #[must_use]
    pub fn lost_batches(&self) -> u64 {
        // ORDERING: Relaxed; `open` has ended, and no thread has written it since.
        self.lost_batches.load(Ordering::Relaxed)
    }

    /// Returns the handle of a series. A write by handle does not look up the labels.
    ///
    /// This registers the series, even if it has no samples. It counts towards
    /// [`StorageOptions::series_max`] and takes about 100 bytes beside the names and values that
    /// no other series has, until the storage is closed.
    ///
    /// If clients choose the labels, write by labels instead ([`Storage::write_batch`],
    /// [`Storage::try_write_batch`]): a refused write leaves nothing behind.
    /// [`Storage::find_handle`] returns handles of existing series only.
    /// # Errors
    /// [`WriteError::TooManySeries`].
    pub fn series_handle(&self, labels: &Labels) -> Result<SeriesHandle, WriteError> {
        let max = self.head.series_max();
        self.head.handle(labels).ok_or(WriteError::TooManySeries { max })
    }

    /// The handle of a series that has samples or a handle, or `None`. Registers nothing.
    #[must_use]
    pub fn find_handle(&self, labels: &Labels) -> Option<SeriesHandle> {
        self.head.find(labels)
    }

    /// Writes samples of one series. Blocks until they are applied.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write(&self, series: &TimeSeries) -> Result<(), WriteError> {
        self.write_batch(std::slice::from_ref(series))
    }

    /// Writes samples of many series. Blocks until they are applied.
    ///
    /// The calling thread may commit and apply the last shard's part itself, as
    /// [`ShardedWal::append_wait`] does.
    /// # Errors
    /// See [`WriteError`]. Other series of the batch may have been written.
    pub fn write_batch(&self, batch: &[TimeSeries]) -> Result<(), WriteError> {
        let mut batches = self.admit(&[], batch)?;
        let Some(last) = batches.pop() else { return Ok(()) };
        let others = Writing::append(&self.log, batches);
        let written = append_wait(&self.log, last);
        others.wait().and(written)
    }

    /// Queues samples. Blocks while a queue is full. Once the returned [`Writing`] reports `Ok`,
    /// queries find the samples.
    ///
    /// The samples of one shard form one record, which is whole or absent after a crash. If that
    /// record would exceed the log's limits, it is split into several.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write_samples(
        &self,
        samples: &[(SeriesHandle, Sample)],
    ) -> Result<Writing<'_>, WriteError> {
        Ok(Writing::append(&self.log, self.admit(samples, &[])?))
    }

    /// Queues samples as [`Storage::write_samples`] does, but never blocks.
    ///
    /// # Errors
    /// [`WriteError::Refused`] if a queue or the disk is full. Parts for other shards may have been
    /// queued.
    pub fn try_write_samples(
        &self,
        samples: &[(SeriesHandle, Sample)],
    ) -> Result<Writing<'_>, WriteError> {
        self.try_write_batch(samples, &[])
    }

    /// Queues samples by handle and others by labels. Never blocks. A new series of `batch` exists
    /// once its samples are applied. A refused write leaves no trace of it.
    ///
    /// # Errors
    /// [`WriteError::Refused`] if a queue or the disk is full. Parts for other shards may have been
    /// queued.
    pub fn try_write_batch(
        &self,
        samples: &[(SeriesHandle, Sample)],
        batch: &[TimeSeries],
    ) -> Result<Writing<'_>, WriteError> {
        Writing::try_append(&self.log, self.admit(samples, batch)?)
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    fn admit(
        &self,
        samples: &[(SeriesHandle, Sample)],
        batch: &[TimeSeries],
    ) -> Result<Vec<ShardBatch<'_>>, WriteError> {
        let (refuse, write) = (AtSeriesLimit::Refuse, Write { samples, histograms: &[], batch });
        let admission = admit(&self.head, self.part_bytes_max, refuse, write)?;
        Ok(admission.parts)
    }

    /// Returns the series that satisfy all matchers, sorted by labels, each with its samples and
    /// histograms in `range`, sorted by time. The range is in milliseconds and includes both ends.
    /// Series with neither in the range are left out. An empty list of matchers selects every
    /// series.
    ///
    /// Of the samples that one commit applied to a shard, a query finds all or none. It may find a
    /// write to several shards in some of them only.
    #[must_use]
    pub fn query(&self, matchers: &[Matcher], range: RangeInclusive<i64>) -> Vec<TimeSeries> {
        self.head.query(matchers, &range)
    }

    /// The labels of all series that satisfy all matchers and have samples or histograms, sorted.
    #[must_use]
    pub fn series(&self, matchers: &[Matcher]) -> Vec<Labels> {
        let shards = self.head.shards().iter();
        let mut found: Vec<_> = shards.flat_map(|shard| shard.labels(matchers)).collect();
        found.sort();
        found
    }

    /// Number of samples and histograms in memory.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.head.samples()
    }

    /// Number of samples and histograms in the log that the last snapshot does not cover, also
    /// those that `open` found there. A sample that was written twice counts twice.
    #[must_use]
    pub fn samples_since_snapshot(&self) -> u64 {
        // ORDERING: Relaxed; a statistic.
        self.head.inserted().saturating_sub(self.covered.load(Ordering::Relaxed))
    }

    /// Number of series that have samples or a handle.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.head.shards().iter().map(|shard| shard.series()).sum()
    }

    /// Number of series that satisfy all matchers and have samples or a handle.
    #[must_use]
    pub fn count_series(&self, matchers: &[Matcher]) -> u64 {
        self.head.shards().iter().map(|shard| shard.select(matchers, u32::MAX).len()).sum()
    }

    /// The labels of a series. `None` if another storage returned the handle, or the series has
    /// left the storage.
    #[must_use]
    pub fn labels(&self, series: SeriesHandle) -> Option<Labels> {
        let shard = &self.head.shards()[self.head.shard_of(series.key)];
        let SeriesHandle { number, clock, .. } = series;
        self.head.owns(series).then(|| shard.labels_of_handle(number, clock)).flatten()
    }

    /// Whether a write with the handle would find its series. It may leave the storage later: see
    /// [`Storage::drop_expired`].
    #[must_use]
    pub fn is_current(&self, series: SeriesHandle) -> bool {
        let shard = &self.head.shards()[self.head.shard_of(series.key)];
        self.head.owns(series) && shard.are_current(&[(series.number, series.clock)])
    }

    /// Writes everything applied so far to the snapshot file, then truncates the log below it. The
    /// snapshot is durable when this returns. A crash at any point leaves a storage that opens
    /// complete.
    ///
    /// Blocks, while writes continue. A second caller waits for the first.
    ///
    /// # Errors
    /// See [`StorageError`]. No samples are lost. The new snapshot is in place after
    /// [`StorageError::Truncate`], and may be after an `Io` error from its renaming.
    pub fn snapshot(&self) -> Result<SnapshotReport, StorageError> {
        if let Some(cause) = self.log.would_deadlock() {
            return Err(StorageError::NotHere(cause));
        }
        let receivers = self.snapshots.lock();
        self.drop_expired();
        // Discards the result of a `snapshot` that a caller requested on the log itself.
        receivers.iter().for_each(|snapshots| drop(snapshots.try_recv()));
        self.log.request_snapshot();
        let snapshots: Result<Vec<_>, _> = receivers.iter().map(Receiver::recv).collect();
        let mut snapshots = snapshots.map_err(|_disconnected| StorageError::ShardFailed)?;
        // The log must not lose a record that the snapshot covers. Its sequence would be used
        // again, and replay would skip the new record.
        self.log.flush().map_err(StorageError::Flush)?;
        let (generation, id) = (self.log.generation(), self.log.id());
        let report = snapshot::write(self.fs.as_ref(), &self.dir, id, generation, &mut snapshots)?;
        let checkpoint =
            Checkpoint::new(generation, snapshots.iter().map(|snapshot| snapshot.next)).of_log(id);
        self.log.truncate_before(&checkpoint).map_err(StorageError::Truncate)?;
        let covered = snapshots.iter().map(|snapshot| snapshot.inserted).sum();
        // ORDERING: Relaxed; a statistic.
        self.covered.store(covered, Ordering::Relaxed);
        Ok(report)
    }

    /// Closes the log, see [`ShardedWal::close`]. Blocks until a running snapshot has ended.
    /// Queries still work afterwards.
    ///
    /// # Errors
    /// The error of the first shard that did not close cleanly.
    pub fn close(&self) -> Result<(), CloseError> {
        if self.log.would_deadlock().is_some() {
            // A running snapshot may be waiting for this thread.
            return self.log.close();
        }
        // Once the locks are released, another process may own the directory.
        let _no_snapshot = self.snapshots.lock();
        let closed = self.log.close();
        drop(self.lock.lock().take());
        closed
    }
}
