//! A log for those who only read: inspection and dumps. Changes nothing, and
//! takes no lock, so it works beside a live writer and on a read-only mount.

use std::io;
use std::path::{Path, PathBuf};

use crate::checkpoint::{Checkpoint, LogId};
use crate::disk::{Disk, OpenMode, RealDisk, open_dir};
use crate::error::{Damage, OpenError, ReplayError};
use crate::found::{
    Found, check_manifest_is_latest, durability_warnings, find_manifest, read_shard, shards_of,
};
use crate::frame_reader::{FrameReader, is_consistent};
use crate::parallel::{in_parallel, threads_each};
use crate::recovery::{Purpose, RecoveryReport};
use crate::replay::{Record, ReplayOptions, ReplayReport, ShardPlan, replay, start_from};
use crate::segment::SegmentIdentity;
use crate::sync::Arc;

/// A log opened for reading only.
///
/// Beside a live writer it sees what had been written when it was opened, and
/// the last commit perhaps in part, as a torn tail.
#[derive(Debug)]
pub struct LogReader {
    id: LogId,
    plans: Vec<Vec<ShardPlan>>,
    report: RecoveryReport,
}

impl LogReader {
    /// Reads and checks the whole log in `dir`. Damage is told by the report,
    /// and replay stops before it.
    ///
    /// # Errors
    /// `NotALog` where there is no manifest, else as for
    /// [`crate::ShardedWal::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_on(Arc::new(RealDisk), dir)
    }

    /// The same on another file system.
    ///
    /// # Errors
    /// As for [`LogReader::open`].
    pub fn open_on(disk: Arc<dyn Disk>, dir: impl AsRef<Path>) -> Result<Self, OpenError> {
        let dir = dir.as_ref();
        let disk = match open_dir(&disk, dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OpenError::NotALog { dir: dir.to_path_buf() });
            }
            opened => opened.map_err(OpenError::io("opening the directory", dir))?,
        };
        let load = || find_manifest(disk.as_ref(), dir);
        let not_a_log = || OpenError::NotALog { dir: dir.to_path_buf() };
        let mut manifest = load()?.ok_or_else(not_a_log)?;
        let found = loop {
            let shards = shards_of(dir, &manifest);
            let threads = threads_each(shards.len());
            let found = in_parallel(&shards, |(dir, identity)| look(&disk, dir, identity, threads));
            let latest = found.and_then(|found| {
                check_manifest_is_latest(disk.as_ref(), dir, &manifest, &found).map(|()| found)
            });
            let failed = match latest {
                Ok(found) => break found,
                Err(failed) => failed,
            };
            // Generations may have come and gone since the manifest was read.
            let later = load()?.ok_or_else(not_a_log)?;
            if later == manifest {
                return Err(failed);
            }
            manifest = later;
        };
        let report = RecoveryReport {
            shards: found.iter().map(Found::report).collect(),
            durability_warnings: durability_warnings(disk.as_ref(), dir),
            ..RecoveryReport::default()
        };
        let mut plans: Vec<Vec<ShardPlan>> = Vec::new();
        plans.resize_with(manifest.generations.len(), Vec::new);
        for found in found {
            let number = found.folder.identity.generation;
            let at = manifest.generations.partition_point(|known| known.number < number);
            plans[at].push(ShardPlan {
                from: found.folder.purged_below,
                to: found.end(),
                folder: found.folder,
                segments: found.survey.segments,
            });
        }
        Ok(Self { id: LogId(manifest.log), plans, report })
    }

    /// Tells this log from all others. Never changes.
    #[must_use]
    pub fn id(&self) -> LogId {
        self.id
    }

    /// Where each shard ends: everything below was there at open, except what
    /// was truncated.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        let current = self.plans.last().map_or(&[][..], Vec::as_slice);
        let generation = current.first().map_or(0, |plan| plan.folder.identity.generation);
        Checkpoint::new(generation, current.iter().map(|plan| plan.to)).of_log(self.id)
    }

    /// What stands in the log.
    #[must_use]
    pub fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// As [`crate::ShardedWal::replay`], of what stood in the log at open.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn replay<E: Send>(
        &self,
        options: ReplayOptions,
        callback: impl Fn(&Record<'_>) -> Result<(), E> + Sync,
    ) -> Result<ReplayReport, ReplayError<E>> {
        replay(self.plans.clone(), &options, &callback)
    }

    /// As [`crate::ShardedWal::replay_from`], of what stood in the log at open.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Panics
    /// As there.
    pub fn replay_from<E: Send>(
        &self,
        checkpoint: &Checkpoint,
        options: ReplayOptions,
        callback: impl Fn(&Record<'_>) -> Result<(), E> + Sync,
    ) -> Result<ReplayReport, ReplayError<E>> {
        let mut plans = self.plans.clone();
        start_from(self.id, &mut plans, checkpoint)?;
        replay(plans, &options, &callback)
    }
}

/// More looks at a shard than any race needs.
const LOOKS: usize = 16;

/// Surveys a shard beside a writer. What is wrong while it is read need not be:
/// frames come behind the end that was read, a segment is rolled, truncated or
/// superseded. Each look begins after the one before has ended, and what that
/// one could not read at a place has been written, or marked as gone, by then:
/// so damage is what two looks find at the same place. **That a listed file is
/// gone says nothing**, whatever an earlier look found there: the next look has
/// a list without it, and a purge mark that says why, or it is missing.
fn look(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    identity: &SegmentIdentity,
    threads: usize,
) -> Result<Found, OpenError> {
    let mut last = None;
    for _ in 1..LOOKS {
        let mut found = match read_shard(disk, dir, identity, threads, Purpose::Look) {
            Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                continue;
            }
            looked => looked?,
        };
        let Some(damage) = &found.survey.damage else { return Ok(found) };
        let place = Some(Place::of(disk.as_ref(), damage)?);
        if place == last {
            return Ok(found);
        }
        if went_on(disk.as_ref(), &found)? {
            found.survey.forget_what_came_meanwhile();
            return Ok(found);
        }
        last = place;
    }
    read_shard(disk, dir, identity, threads, Purpose::Look)
}

/// Where a look found damage.
#[derive(PartialEq, Eq)]
enum Place {
    /// At this byte of a file that has its name still. No name is a second
    /// segment's, so what was read was that segment's.
    Within(PathBuf, u64),
    /// In a file that is not there, or that was taken for another segment while
    /// it was read.
    Gone(PathBuf),
}

impl Place {
    fn of(disk: &dyn Disk, damage: &Damage) -> Result<Self, OpenError> {
        let file = damage.file.clone();
        match disk.open(&file, OpenMode::Read) {
            Ok(_) => Ok(Self::Within(file, damage.offset)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Gone(file)),
            Err(error) => Err(OpenError::io("opening", &file)(error)),
        }
    }
}

/// Whether the frame that belongs where reading stopped stands there now. It
/// spares a second look at a long shard, which would be overtaken as well.
fn went_on(disk: &dyn Disk, found: &Found) -> Result<bool, OpenError> {
    let survey = &found.survey;
    let (Some(damage), Some(link)) = (&survey.damage, survey.links.last()) else {
        return Ok(false);
    };
    if !survey.damaged_at_the_end {
        return Ok(false);
    }
    let file = match disk.open(&damage.file, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(OpenError::io("opening", &damage.file))?,
    };
    let end = file.len().map_err(OpenError::io("reading the size of", &damage.file))?;
    let seed = found.folder.seed(link.header.identity.number);
    let mut frames = FrameReader::new(file, seed, damage.offset, end, 1 << 16);
    let frame = frames.next().map_err(OpenError::io("reading", &damage.file))?;
    Ok(frame.is_ok_and(|frame| {
        let first = link.header.first_sequence + u64::from(frame.header.first);
        first >= damage.first_sequence && is_consistent(&frame)
    }))
}
