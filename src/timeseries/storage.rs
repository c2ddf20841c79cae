//! Labelled time series that survive: a log, and what it says in memory.

use std::collections::HashMap;
use std::future::Future;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::machine::{Machine, Mark, QUEUED_BYTES, queue};
use super::memories::{Memories, RestoreError, Restorer, SeriesHandle};
use super::memory::ShardMemory;
use super::series_log::SeriesLog;
use super::snapshot::{self, SnapshotReport};
use super::storage_error::{StorageError, WriteError};
use super::{LABELS_MAX, Labels, Matcher, Sample, TimeSeries};
use crate::checkpoint::Checkpoint;
use crate::completion::Completion;
use crate::config::{BATCH_BYTES_MAX, Config};
use crate::directory::{create_dirs, take_lock};
use crate::disk::{Disk, DiskFile};
use crate::error::{AppendError, CloseError, Position};
use crate::log::ShardedWal;
use crate::replay::ReplayOptions;
use crate::sync::channel::{Receiver, bounded};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// What a sample may take in a batch beside the bytes of its series' labels: a
/// definition's tokens and lengths for each name and value, and its columns.
pub(crate) const SAMPLE_BYTES_MAX: usize = 96 + 4 * LABELS_MAX;

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

    /// The most series in one shard; a write that needs another one is refused.
    /// What the log holds is opened all the same.
    #[must_use]
    pub fn series_max(mut self, series: u32) -> Self {
        self.series_max = series;
        self
    }

    /// The most samples in memory; while they are reached, writes are refused.
    /// What is queued may pass it. A storage that holds more than could have
    /// passed it so is not opened.
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
    samples_max: u64,
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
        let (disk, mut dir) = (log.disk.clone(), log.dir.clone());
        if dir.as_os_str().is_empty() {
            dir.push(".");
        }
        let queued = log.queue_bytes.max(BATCH_BYTES_MAX) / QUEUED_BYTES * log.shards;
        create_dirs(disk.as_ref(), &dir).map_err(StorageError::Log)?;
        let lock = take_lock(disk.as_ref(), &dir).map_err(StorageError::Log)?;
        snapshot::remove_unfinished(disk.as_ref(), &dir)?;
        log.dir = dir.join("log");
        let (mut shards, mut marks) = (Vec::new(), Vec::new());
        let log = L::open(log, &mut |_| {
            let memory = Arc::new(ShardMemory::default());
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
            memories: Memories::new(shards, id, series_max),
            samples_max,
            lost_batches: AtomicU64::new(0),
            marks: Mutex::new(marks),
            lock: Mutex::new(Some(lock)),
        };
        storage.restore(replay, samples_max.saturating_add(queued as u64))?;
        Ok(storage)
    }

    fn restore(&self, options: ReplayOptions, samples_max: u64) -> Result<(), StorageError> {
        let (disk, path) = (self.disk.as_ref(), snapshot::path(&self.dir));
        let check = |checkpoint: Option<&Checkpoint>| {
            let unfit = |error| StorageError::unfit_snapshot(&path, error);
            self.log.check(checkpoint).map_err(unfit)
        };
        let checkpoint = snapshot::load(disk, &self.dir, &check, &self.memories, samples_max)?;
        // One restorer a shard of a generation. Only its own thread takes it.
        let restorers = Mutex::new(HashMap::<_, Arc<Mutex<Restorer<'_>>>>::new());
        let restore = |position: Position, batch: &[u8]| {
            let run = (position.generation, position.shard);
            let new = || Arc::new(Mutex::new(Restorer::new(&self.memories, samples_max)));
            let restorer = restorers.lock().entry(run).or_insert_with(new).clone();
            match restorer.lock().restore(batch) {
                Ok(()) => Ok(()),
                Err(RestoreError::Decode(error))
                    if error.fault.lacks_another() && self.log.has_gap(run.0, run.1) =>
                {
                    // ORDERING: Relaxed; the replay's end orders it.
                    self.lost_batches.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                Err(RestoreError::Decode(error)) => Err(StorageError::Batch { position, error }),
                Err(RestoreError::MemoryFull) => Err(StorageError::MemoryFull { max: samples_max }),
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
    /// # Errors
    /// [`WriteError::TooManySeries`].
    pub fn series_handle(&self, labels: &Labels) -> Result<SeriesHandle, WriteError> {
        let max = self.memories.series_max();
        self.memories.handle(labels).ok_or(WriteError::TooManySeries { max })
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
        self.check_room()?;
        let mut samples = Vec::with_capacity(batch.iter().map(|one| one.samples.len()).sum());
        for series in batch {
            let handle = self.series_handle(&series.labels)?;
            samples.extend(series.samples.iter().map(|sample| (handle, *sample)));
        }
        let mut parts = self.parts(&samples)?;
        let Some((key, last)) = parts.pop() else { return Ok(()) };
        let others = self.queue_parts(parts);
        let written = self.log.append_wait(key, last).map(drop).map_err(answer);
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
        self.check_room()?;
        Ok(self.queue_parts(self.parts(samples)?))
    }

    fn queue_parts(&self, parts: Vec<(u64, Bytes)>) -> Writing<'_> {
        let parts = parts.into_iter();
        Writing { parts: parts.map(|(key, part)| self.log.append(key, part)).collect() }
    }

    /// The same, but never blocks.
    ///
    /// # Errors
    /// [`WriteError::Refused`] where a queue or the disk is full; parts for
    /// other shards may have been queued.
    pub fn try_write_samples(
        &self,
        samples: &[(SeriesHandle, Sample)],
    ) -> Result<Writing<'_>, WriteError> {
        self.check_room()?;
        let parts = self.parts(samples)?.into_iter();
        let parts = parts.map(|(key, part)| self.log.try_append(key, part)).collect();
        let refused = |refused: crate::error::Refused| WriteError::Refused(refused.cause);
        Ok(Writing { parts: Result::map_err(parts, refused)? })
    }

    fn check_room(&self) -> Result<(), WriteError> {
        if self.memories.samples() < self.samples_max {
            return Ok(());
        }
        Err(WriteError::MemoryFull { max: self.samples_max })
    }

    /// One or more parts a shard, each with a key that routes there.
    fn parts(&self, samples: &[(SeriesHandle, Sample)]) -> Result<Vec<(u64, Bytes)>, WriteError> {
        let shards = self.memories.shards();
        let mut split = vec![Vec::new(); shards.len()];
        for (handle, sample) in samples {
            if !self.memories.gave(*handle) {
                return Err(WriteError::ForeignHandle);
            }
            split[self.memories.shard_of(handle.key)].push((handle.key, handle.with(*sample)));
        }
        let mut parts = Vec::new();
        for (shard, samples) in shards.iter().zip(&split) {
            // Were each sample the first of its series, the log would still
            // take them.
            let most = BATCH_BYTES_MAX as u64 / (shard.labels_bytes() + SAMPLE_BYTES_MAX as u64);
            for part in samples.chunks(usize::try_from(most).unwrap_or(usize::MAX)) {
                parts.push((part[0].0, queue(part.iter().map(|(_, sample)| *sample))));
            }
        }
        Ok(parts)
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

    /// Series that have a handle.
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
        // The directory may be somebody else's as soon as its locks are gone.
        let _no_snapshot = self.marks.lock();
        let closed = self.log.close();
        drop(self.lock.lock().take());
        closed
    }
}

/// Samples on their way into the log: wait, await, or drop it and let them go.
#[derive(Debug)]
#[must_use = "a write that is not waited for may still fail; drop it on purpose if that is meant"]
pub struct Writing<'log> {
    /// Without an answer yet; answered ones are popped.
    parts: Vec<Completion<'log>>,
}

impl Writing<'_> {
    /// Blocks until all of it is applied.
    ///
    /// # Errors
    /// [`WriteError::Append`], for the first part that failed. The other parts
    /// are not waited for then.
    pub fn wait(self) -> Result<(), WriteError> {
        self.parts.into_iter().try_for_each(|part| part.wait().map(drop)).map_err(answer)
    }
}

fn answer(error: AppendError) -> WriteError {
    match error {
        AppendError::NotWritten { position: None, cause } => WriteError::Refused(cause),
        error => WriteError::Append(error),
    }
}

impl Future for Writing<'_> {
    type Output = Result<(), WriteError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let parts = &mut self.get_mut().parts;
        while let Some(part) = parts.last_mut() {
            match Pin::new(part).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(answer(error))),
                Poll::Ready(Ok(_)) => drop(parts.pop()),
            }
        }
        Poll::Ready(Ok(()))
    }
}
