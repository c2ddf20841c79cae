//! The log reader: reads a log without opening it for appends.
//!
//! It changes nothing and takes no lock. So it works beside a live writer and on a
//! read-only mount. Knows scans and replay; it does not know queues or writers.

use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::{Checkpoint, CheckpointError, LogId};
use crate::error::{FollowError, OpenError, ReplayError};
use crate::follow::Follower;
use crate::follow::log_files::LogFiles;
use crate::fs::{FileSystem, OsFileSystem, open_dir};
use crate::layout::manifest::Manifest;
use crate::recovery::RecoveryReport;
use crate::recovery::beside_writer::scan_until_stable;
use crate::recovery::inspect::{
    Inspected, check_manifest_is_latest, durability_warnings, find_manifest, reports, shards_of,
};
use crate::recovery::replay::{
    Record, ReplayOptions, ReplayReport, Replayed, ShardId, ShardPlan, reach, replay, replay_into,
    start_from,
};
use crate::util::parallel::{in_parallel, threads_each};
use crate::util::sync::Arc;

/// A log that is opened for reading only.
///
/// It takes no lock and changes nothing, so a live writer may have the log open.
/// Then the reader sees the records that had been written when it was opened. It
/// may see a part of the last commit, and reports it as a torn tail.
#[derive(Debug)]
pub struct LogReader {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    id: LogId,
    plans: Vec<Vec<ShardPlan>>,
    report: RecoveryReport,
}

impl LogReader {
    /// Reads and checks the whole log in `dir`. Blocks until it is read.
    ///
    /// Corruption is not an error: [`LogReader::report`] describes it, and a replay
    /// stops before it.
    ///
    /// # Errors
    /// [`OpenError::NotALog`] if there is no manifest. [`OpenError::Manifest`] if
    /// the manifest or a truncation mark is missing or cannot be read.
    /// [`OpenError::NewerFormat`] or [`OpenError::OlderFormat`] for a log of
    /// another version. [`OpenError::Io`] for an error of the system.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_in(Arc::new(OsFileSystem), dir)
    }

    /// Reads and checks the log in `dir` of the file system `fs`. Otherwise like
    /// [`LogReader::open`].
    ///
    /// # Errors
    /// As for [`LogReader::open`].
    pub fn open_in(fs: Arc<dyn FileSystem>, dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        let dir = dir.as_ref();
        let fs = match open_dir(&fs, dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::NotALog { dir: dir.to_path_buf() });
            }
            opened => opened.map_err(OpenError::io("opening the directory", dir))?,
        };
        let (manifest, inspected) = scan_latest(&fs, dir)?;
        let report = RecoveryReport {
            shards: reports(&inspected),
            durability_warnings: durability_warnings(fs.as_ref(), dir),
            ..RecoveryReport::default()
        };
        let plans = plans(&manifest, inspected);
        let (dir, id) = (dir.to_path_buf(), LogId(manifest.log));
        Ok(Self { fs, dir, id, plans, report })
    }

    /// The log's id. It never changes.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.id
    }

    /// The end of each shard at open. The reader has every record below it, except
    /// those that were truncated.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        let current = self.plans.last().map_or(&[][..], Vec::as_slice);
        let generation = current.first().map_or(0, |plan| plan.shard_dir.identity.generation);
        Checkpoint::new(generation, current.iter().map(|plan| plan.to)).of_log(self.id)
    }

    /// What the reader found in the log, shard by shard.
    #[must_use]
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// Replays the records that the log had when the reader was opened. Otherwise
    /// like [`crate::ShardedWal::replay`].
    ///
    /// # Errors
    /// [`ReplayError::Callback`] if the callback failed. [`ReplayError::Log`] if the
    /// log cannot be read, also because a writer truncated it meanwhile.
    ///
    /// # Panics
    /// If the callback panics.
    pub fn replay<E: Send>(
        &self,
        options: ReplayOptions,
        callback: impl Fn(&Record<'_>) -> Result<(), E> + Sync,
    ) -> Result<ReplayReport, ReplayError<E>> {
        replay(self.plans_from(None)?, &options, &callback)
    }

    /// Replays the records from a checkpoint on that the log had when the reader was
    /// opened. Otherwise like [`crate::ShardedWal::replay_from`].
    ///
    /// # Errors
    /// [`ReplayError::Checkpoint`] if the checkpoint does not fit the log, or if
    /// records above it were truncated. Otherwise as for [`LogReader::replay`].
    ///
    /// # Panics
    /// If the callback panics.
    pub fn replay_from<E: Send>(
        &self,
        checkpoint: &Checkpoint,
        options: ReplayOptions,
        callback: impl Fn(&Record<'_>) -> Result<(), E> + Sync,
    ) -> Result<ReplayReport, ReplayError<E>> {
        replay(self.plans_from(Some(checkpoint))?, &options, &callback)
    }

    /// Replays the records that the log had when the reader was opened, each shard into a
    /// state of its own. Otherwise like [`crate::ShardedWal::replay_into`].
    ///
    /// # Errors
    /// As for [`LogReader::replay_from`].
    ///
    /// # Panics
    /// If a callback panics.
    pub fn replay_into<S: Send, E: Send>(
        &self,
        from: Option<&Checkpoint>,
        options: ReplayOptions,
        new: impl Fn(ShardId) -> S + Sync,
        apply: impl Fn(&mut S, &Record<'_>) -> Result<(), E> + Sync,
    ) -> Result<Replayed<S>, ReplayError<E>> {
        replay_into(self.plans_from(from)?, &options, &new, &apply)
    }

    /// Follows the log from a checkpoint on, also while another process writes it: see
    /// [`crate::ShardedWal::follow`]. The follower takes no lock and changes nothing, so the log
    /// may be on a read-only mount.
    ///
    /// No writer wakes it, so it looks at the files 50 times per second: a few system calls per
    /// shard. It passes what the files prove to be durable. The proof of a record is in a later
    /// frame of its shard. So the last commit is passed after the next one, or at the latest about
    /// a second later, when the idle writer has said so. It does not end with its log: another
    /// process may open it at any time. A log whose writer was killed or lost its power gets the
    /// proof of its last commit from the next open.
    ///
    /// # Errors
    /// As for [`crate::ShardedWal::follow`]. [`FollowError::Log`] if a shard is corrupted.
    pub fn follow(&self, from: &Checkpoint) -> Result<Follower, FollowError> {
        let checked = match reach(self.id, &self.plans).check_position(from) {
            // The log may have grown since this reader was opened.
            Err(CheckpointError::BeyondEnd { .. } | CheckpointError::NoSuchGeneration { .. }) => {
                let (manifest, inspected) =
                    scan_latest(&self.fs, &self.dir).map_err(FollowError::Log)?;
                reach(self.id, &plans(&manifest, inspected)).check_position(from)
            }
            checked => checked,
        };
        checked.map_err(FollowError::Checkpoint)?;
        let files = LogFiles::new(self.fs.clone(), self.dir.clone());
        Follower::of_files(self.id, files, from)
    }

    /// The plans of a replay, from a checkpoint on if there is one.
    fn plans_from<E>(
        &self,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Vec<Vec<ShardPlan>>, ReplayError<E>> {
        start_from(self.id, self.plans.clone(), checkpoint)
    }
}

/// Scans the shards of all generations. Begins again if a writer changes the manifest
/// meanwhile.
fn scan_latest(
    fs: &Arc<dyn FileSystem>,
    dir: &Path,
) -> Result<(Manifest, Vec<Inspected>), OpenError> {
    let load = || find_manifest(fs.as_ref(), dir);
    let not_a_log = || OpenError::NotALog { dir: dir.to_path_buf() };
    let mut manifest = load()?.ok_or_else(not_a_log)?;
    loop {
        let shards = shards_of(dir, &manifest);
        let threads = threads_each(shards.len());
        let inspected =
            in_parallel(&shards, |(dir, identity)| scan_until_stable(fs, dir, identity, threads));
        let latest = inspected.and_then(|inspected| {
            check_manifest_is_latest(fs.as_ref(), dir, &manifest, &inspected).map(|()| inspected)
        });
        let failed = match latest {
            Ok(inspected) => return Ok((manifest, inspected)),
            Err(failed) => failed,
        };
        // A writer may have added or retired generations since the manifest was read.
        let later = load()?.ok_or_else(not_a_log)?;
        if later == manifest {
            return Err(failed);
        }
        manifest = later;
    }
}

/// What a replay reads, per generation.
fn plans(manifest: &Manifest, inspected: Vec<Inspected>) -> Vec<Vec<ShardPlan>> {
    let mut plans: Vec<Vec<ShardPlan>> = Vec::new();
    plans.resize_with(manifest.generations.len(), Vec::new);
    for inspected in inspected {
        let number = inspected.shard_dir.identity.generation;
        let at = manifest.generations.partition_point(|known| known.number < number);
        plans[at].push(ShardPlan {
            from: inspected.shard_dir.truncated_below,
            to: inspected.end(),
            shard_dir: inspected.shard_dir,
            segments: inspected.scan.segments,
        });
    }
    plans
}
