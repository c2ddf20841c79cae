//! Labelled time series that survive: a log, and what it says in memory.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use super::admission::{Part, admit};
use super::budget::Budget;
use super::machine::{Machine, Mark};
use super::memories::{Memories, Restorer, SeriesHandle};
use super::memory::ShardMemory;
use super::series_log::SeriesLog;
use super::snapshot::{self, SnapshotReport};
use super::storage_error::{StorageError, WriteError};
use super::writing::{Writing, append_wait};
use super::{Labels, Matcher, Sample, TimeSeries};
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::directory::{create_dirs, open_log_dir, sync_the_way_to, take_lock};
use crate::disk::{Disk, DiskFile};
use crate::error::{CloseError, Position};
use crate::log::ShardedWal;
use crate::replay::ReplayOptions;
use crate::sync::channel::{Receiver, bounded};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Tells the storages of this process apart.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// How to open a [`Storage`].
#[derive(Clone, Debug)]
pub struct StorageOptions {
    log: Config,
    replay: ReplayOptions,
    series_max: u32,
    samples_max: u64,
}

impl StorageOptions {
    /// A storage in the directory of `log`, whose log lies in the folder `log`
    /// of it: at most a million series in a shard and 500 million samples in
    /// memory (16 bytes each).
    #[must_use]
    pub fn new(log: Config) -> Self {
        let replay = ReplayOptions::default();
        Self { log, replay, series_max: 1_000_000, samples_max: 500_000_000 }
    }

    /// How the log is replayed at open, and who is told of its progress.
    #[must_use]
    pub fn replay(mut self, options: ReplayOptions) -> Self {
        self.replay = options;
        self
    }

    /// The most series in one shard. A write that needs another one is refused;
    /// series that are on their way count. What the log holds is opened all the
    /// same.
    #[must_use]
    pub fn series_max(mut self, series: u32) -> Self {
        self.series_max = series;
        self
    }

    /// The most samples in memory. A write that would pass it is refused as a
    /// whole; samples that are on their way count, each as a new one until it is
    /// applied. What the log holds is opened all the same: a storage that holds
    /// more refuses writes.
    #[must_use]
    pub fn samples_max(mut self, samples: u64) -> Self {
        self.samples_max = samples;
        self
    }
}

/// Labelled time series on a log: writes are logged, then applied once they are
/// durable as the log's [`crate::Durability`] says; open replays.
///
/// Samples of a series may come in any order. Of two with one timestamp the one
/// that was logged later holds; writing a sample again changes nothing. Two
/// label sets whose ids collide are two series. Share it behind a reference or
/// an `Arc`; dropping it does what [`Storage::close`] does.
#[derive(Debug)]
pub struct Storage<L: SeriesLog = ShardedWal> {
    log: L,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    memories: Memories,
    /// Written by open's threads alone.
    lost_batches: AtomicU64,
    /// From each shard's machine. Held while a snapshot is taken, and by close.
    marks: Mutex<Vec<Receiver<Mark>>>,
    /// The directory, snapshots included, is ours until this is dropped, by
    /// close.
    lock: Mutex<Option<Box<dyn DiskFile>>>,
}

impl Storage {
    /// Opens or creates a storage on a [`ShardedWal`]: loads the snapshot and
    /// replays the log into memory, shards in parallel. Blocks until that is
    /// done.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn open(options: StorageOptions) -> Result<Self, StorageError> {
        Self::open_on(options)
    }
}

impl<L: SeriesLog> Storage<L> {
    /// The same on another log.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn open_on(options: StorageOptions) -> Result<Self, StorageError> {
        let StorageOptions { mut log, replay, series_max, samples_max } = options;
        let mut dir = log.dir.clone();
        if dir.as_os_str().is_empty() {
            dir.push(".");
        }
        create_dirs(log.disk.as_ref(), &dir).map_err(StorageError::Log)?;
        sync_the_way_to(log.disk.as_ref(), &dir).map_err(StorageError::Log)?;
        let disk = open_log_dir(&log.disk, &dir).map_err(StorageError::Log)?;
        let lock = take_lock(disk.as_ref(), &dir).map_err(StorageError::Log)?;
        snapshot::remove_unfinished(disk.as_ref(), &dir)?;
        log.dir = dir.join("log");
        log.disk = disk.clone();
        let (mut shards, mut marks) = (Vec::new(), Vec::new());
        let budget = Budget::new(samples_max);
        let log = L::open(log, &mut |_| {
            let memory = Arc::new(ShardMemory::new(budget.clone()));
            let (sender, receiver) = bounded(1);
            shards.push(memory.clone());
            marks.push(receiver);
            Box::new(Machine::new(memory, sender))
        })
        .map_err(StorageError::Log)?;
        // ORDERING: Relaxed; the numbers only have to differ.
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let storage = Self {
            log,
            disk,
            dir,
            memories: Memories::new(shards, id, series_max, budget),
            lost_batches: AtomicU64::new(0),
            marks: Mutex::new(marks),
            lock: Mutex::new(Some(lock)),
        };
        storage.restore(replay)?;
        Ok(storage)
    }

    fn restore(&self, options: ReplayOptions) -> Result<(), StorageError> {
        let (disk, path) = (self.disk.as_ref(), snapshot::path(&self.dir));
        let check = |checkpoint: Option<&Checkpoint>| {
            let unfit = |error| StorageError::unfit_snapshot(&path, error);
            self.log.check(checkpoint).map_err(unfit)
        };
        let checkpoint = snapshot::load(disk, &self.dir, &check, &self.memories)?;
        // One restorer a shard of a generation. Only its own thread takes it.
        let restorers = Mutex::new(HashMap::<_, Arc<Mutex<Restorer<'_>>>>::new());
        let restore = |position: Position, batch: &[u8]| {
            let run = (position.generation, position.shard);
            let new = || Arc::new(Mutex::new(Restorer::new(&self.memories)));
            let restorer = restorers.lock().entry(run).or_insert_with(new).clone();
            match restorer.lock().restore(batch) {
                Ok(()) => Ok(()),
                Err(error) if error.fault.lacks_another() && self.log.has_gap(run.0, run.1) => {
                    // ORDERING: Relaxed; the replay's end orders it.
                    self.lost_batches.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                Err(error) => Err(StorageError::Batch { position, error }),
            }
        };
        self.log.replay_from(checkpoint.as_ref(), options, &restore)
    }

    /// The log that it stands on, for its figures. Do not append to it: only
    /// the storage's own batches mean something there, and a shard stops at
    /// another. Do not truncate it: only [`Storage::snapshot`] may.
    #[must_use]
    pub fn log(&self) -> &L {
        &self.log
    }

    /// Batches of the log that are whole but were coded after some that a repair
    /// has given up ([`crate::Repair`]), and so cannot be decoded: up to the
    /// next segment, and to the next snapshot's place. 0 for a log that was
    /// never repaired, or was since truncated beyond it.
    #[must_use]
    pub fn lost_batches(&self) -> u64 {
        // ORDERING: Relaxed; open has ended, and nobody writes it since.
        self.lost_batches.load(Ordering::Relaxed)
    }

    /// The handle of a series, by which samples are written without looking its
    /// labels up each time.
    ///
    /// A handle registers its series, with samples or without: it takes one of
    /// the shard's [`StorageOptions::series_max`] places and some 150 bytes
    /// beside the labels until the storage is closed. Where clients choose the
    /// labels, write by labels instead ([`Storage::write_batch`],
    /// [`Storage::try_write_batch`]), and ask for handles of series that are
    /// there ([`Storage::find_handle`]): a write that is refused leaves nothing.
    ///
    /// # Errors
    /// [`WriteError::TooManySeries`].
    pub fn series_handle(&self, labels: &Labels) -> Result<SeriesHandle, WriteError> {
        let max = self.memories.series_max();
        self.memories.handle(labels).ok_or(WriteError::TooManySeries { max })
    }

    /// The handle of a series that has samples or a handle; else `None`, and
    /// nothing is registered.
    #[must_use]
    pub fn find_handle(&self, labels: &Labels) -> Option<SeriesHandle> {
        self.memories.find(labels)
    }

    /// Writes the samples of one series, and waits until they are applied.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write(&self, series: &TimeSeries) -> Result<(), WriteError> {
        self.write_batch(std::slice::from_ref(series))
    }

    /// Writes the samples of many series, and waits until they are applied. Of
    /// several shards' parts the last is the one that the calling thread may
    /// commit and apply itself, as [`ShardedWal::append_wait`] does.
    ///
    /// # Errors
    /// See [`WriteError`]. Other series of the batch may have been written.
    pub fn write_batch(&self, batch: &[TimeSeries]) -> Result<(), WriteError> {
        let mut parts = self.admit(&[], batch)?;
        let Some(last) = parts.pop() else { return Ok(()) };
        let others = Writing::append(&self.log, parts);
        let written = append_wait(&self.log, last);
        others.wait().and(written)
    }

    /// Queues samples, blocking while a queue is full. What lies in one shard
    /// is one record, whole or absent after a crash (several, where it would
    /// pass the log's limits). When the answer is `Ok`, queries find them.
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
    /// [`WriteError::Refused`] where a queue or the disk is full; parts for
    /// other shards may have been queued.
    pub fn try_write_samples(
        &self,
        samples: &[(SeriesHandle, Sample)],
    ) -> Result<Writing<'_>, WriteError> {
        self.try_write_batch(samples, &[])
    }

    /// Queues samples by handle and others by labels. Never blocks. A series of
    /// `batch` that is not there yet exists once samples of it are applied; a
    /// write that is refused leaves no trace of it.
    ///
    /// # Errors
    /// [`WriteError::Refused`] where a queue or the disk is full; parts for
    /// other shards may have been queued.
    pub fn try_write_batch(
        &self,
        samples: &[(SeriesHandle, Sample)],
        batch: &[TimeSeries],
    ) -> Result<Writing<'_>, WriteError> {
        Writing::try_append(&self.log, self.admit(samples, batch)?)
    }

    fn admit(
        &self,
        samples: &[(SeriesHandle, Sample)],
        batch: &[TimeSeries],
    ) -> Result<Vec<Part<'_>>, WriteError> {
        admit(&self.memories, samples, batch)
    }

    /// The series that fulfil all matchers, sorted by their labels, with their
    /// samples of the range (milliseconds, both ends included), sorted by time.
    /// Series without samples there are left out. No matchers mean every series.
    #[must_use]
    pub fn query(&self, matchers: &[Matcher], range: RangeInclusive<i64>) -> Vec<TimeSeries> {
        let shards = self.memories.shards().iter();
        let mut found: Vec<_> = shards.flat_map(|shard| shard.query(matchers, &range)).collect();
        found.sort_by(|one, other| one.labels.cmp(&other.labels));
        found
    }

    /// The series that fulfil all matchers and have samples, sorted.
    #[must_use]
    pub fn series(&self, matchers: &[Matcher]) -> Vec<Labels> {
        let shards = self.memories.shards().iter();
        let mut found: Vec<_> = shards.flat_map(|shard| shard.labels(matchers)).collect();
        found.sort();
        found
    }

    /// Samples in memory.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.memories.samples()
    }

    /// Series that have samples or a handle.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.memories.shards().iter().map(|shard| shard.series()).sum()
    }

    /// Writes all that was applied to the snapshot file, and truncates the log
    /// below it. Durable when it returns; a crash at any point leaves a storage
    /// that opens complete. Writes go on meanwhile. One at a time: a second
    /// caller waits.
    ///
    /// # Errors
    /// See [`StorageError`]; nothing is lost. The new snapshot stands after
    /// [`StorageError::Truncate`], and may after an `Io` of its renaming.
    pub fn snapshot(&self) -> Result<SnapshotReport, StorageError> {
        if let Some(cause) = self.log.cannot_wait() {
            return Err(StorageError::NotHere(cause));
        }
        let receivers = self.marks.lock();
        // Somebody may have marked the log by hand.
        receivers.iter().for_each(|marks| drop(marks.try_recv()));
        self.log.mark();
        let marks: Result<Vec<_>, _> = receivers.iter().map(Receiver::recv).collect();
        let marks = marks.map_err(|_disconnected| StorageError::ShardFailed)?;
        // What the snapshot holds must not be lost from the log and its numbers
        // given to other records, while a snapshot says that they are dealt with.
        self.log.flush().map_err(StorageError::Flush)?;
        let (generation, id) = (self.log.generation(), self.log.id());
        let report = snapshot::write(self.disk.as_ref(), &self.dir, id, generation, &marks)?;
        let checkpoint = Checkpoint::new(generation, marks.iter().map(|mark| mark.next)).of_log(id);
        self.log.truncate_before(&checkpoint).map_err(StorageError::Truncate)?;
        Ok(report)
    }

    /// Closes the log, see [`ShardedWal::close`], once a snapshot that is under
    /// way has ended. Queries still answer.
    ///
    /// # Errors
    /// The first shard's that did not close in order.
    pub fn close(&self) -> Result<(), CloseError> {
        if self.log.cannot_wait().is_some() {
            // A snapshot that is under way may wait for this thread.
            return self.log.close();
        }
        // The directory may be somebody else's as soon as its locks are gone.
        let _no_snapshot = self.marks.lock();
        let closed = self.log.close();
        drop(self.lock.lock().take());
        closed
    }
}
