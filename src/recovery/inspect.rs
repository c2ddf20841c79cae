//! Inspection: reads what a log holds, before anything is written.
//!
//! Serves opens, readers, repairs and backups. It finds the manifest and scans
//! the shards; it does not know what its caller makes of them.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::fs::{Disk, DurabilityWarning, open_dir};
use crate::layout::manifest::{Generation, Manifest, generation_number};
use crate::layout::orphans;
use crate::layout::truncation_mark::{self, PurgeMark};
use crate::recovery::{Folder, Purpose, ShardRecovery, Survey, survey};
use crate::segment::header::SegmentIdentity;
use crate::space::recycle::Spares;
use crate::util::parallel::{in_parallel, threads_each};
use crate::util::sync::Arc;

/// A scanned shard.
pub(crate) struct Found {
    pub(crate) folder: Folder,
    pub(crate) purge: PurgeMark,
    pub(crate) survey: Survey,
}

/// What is reported of each shard.
pub(crate) fn reports(found: &[Found]) -> Vec<ShardRecovery> {
    let has_carriers = found.iter().any(|found| found.purge.carriers() > 0);
    found.iter().map(|found| found.report(has_carriers)).collect()
}

impl Found {
    /// `has_carriers` says whether a shard of the log has a file whose name carries a
    /// truncation mark. Then each shard has two: no log has some but one of which they
    /// were removed, or one whose first open with them was cut short.
    fn report(&self, has_carriers: bool) -> ShardRecovery {
        let identity = &self.folder.identity;
        let below = self.folder.purged_below;
        let report = ShardRecovery::of(identity.generation, identity.shard, below, &self.survey);
        let mark_file_missing = has_carriers && self.purge.carriers() < 2;
        ShardRecovery { mark_file_missing, ..report }
    }

    /// The sequence after the shard's last record, truncated ones included.
    pub(crate) fn end(&self) -> u64 {
        if self.folder.is_given_up() { self.purge.ended() } else { self.survey.next_sequence }
    }

    /// Whether the shard's files can stay as they are: a resume need not copy any
    /// record or replace any segment.
    pub(crate) fn is_settled(&self) -> bool {
        let survey = &self.survey;
        let is_whole = survey.durable_below >= survey.next_sequence && survey.torn_bytes == 0;
        is_whole || survey.segments.is_empty()
    }
}

/// Reasons to distrust syncs on the log's file system. Empty if the system does
/// not report any.
pub(crate) fn durability_warnings(disk: &dyn Disk, dir: &Path) -> Vec<DurabilityWarning> {
    disk.durability_warnings(dir).unwrap_or_default()
}

/// Refuses a manifest that is older than the log's files. An open that went on
/// from it would lose the records of later generations.
pub(crate) fn check_manifest_is_latest(
    disk: &dyn Disk,
    dir: &Path,
    manifest: &Manifest,
    found: &[Found],
) -> Result<(), OpenError> {
    let stale = |what: String| {
        let what = format!("it is older than the log: {what}");
        Err(OpenError::Manifest { file: dir.join("MANIFEST"), what })
    };
    let current = manifest.current().map_or(0, |generation| generation.number);
    let is_given_up =
        |found: &Found| found.folder.identity.generation == current && found.folder.is_given_up();
    if found.iter().any(is_given_up) {
        return stale(format!("its last generation, {current}, was truncated for a later one"));
    }
    let next = Generation { number: current + 1, shards: 0 }.dir(dir);
    if orphans::hold_records(disk, &next)? {
        return stale(format!("it does not name {}, which holds records", next.display()));
    }
    Ok(())
}

/// Loads the manifest. `None` if the directory does not exist or holds no log.
pub(crate) fn find_manifest(disk: &dyn Disk, dir: &Path) -> Result<Option<Manifest>, OpenError> {
    if let Some(manifest) = Manifest::load(disk, dir)? {
        return Ok(Some(manifest));
    }
    let names = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        listed => listed.map_err(OpenError::io("listing", dir))?,
    };
    if names.iter().any(|name| generation_number(name).is_some()) {
        let what = "it is missing, but the directory has generations".into();
        return Err(OpenError::Manifest { file: dir.join("MANIFEST"), what });
    }
    Ok(None)
}

/// Every shard of every generation: its directory and its identity.
pub(crate) fn shards_of(dir: &Path, manifest: &Manifest) -> Vec<(PathBuf, SegmentIdentity)> {
    let of = |generation: &Generation| {
        let (generation, log) = (*generation, manifest.log);
        (0..generation.shards).map(move |shard| {
            let identity = SegmentIdentity { log, generation: generation.number, shard, number: 0 };
            (generation.shard_dir(dir, shard), identity)
        })
    };
    manifest.generations.iter().flat_map(of).collect()
}

/// Scans all shards, in parallel. Writes nothing.
pub(crate) fn read_shards(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    manifest: &Manifest,
    purpose: Purpose,
) -> Result<Vec<Found>, OpenError> {
    let shards = shards_of(dir, manifest);
    let threads = threads_each(shards.len());
    let current = manifest.current().map(|generation| generation.number);
    in_parallel(&shards, |(dir, identity)| {
        // Earlier generations use the log's own descriptor, to save descriptors:
        // there may be many generations.
        let disk = match current == Some(identity.generation) {
            true => open_shard_dir(disk, dir)?,
            false => disk.clone(),
        };
        read_shard(&disk, dir, identity, threads, purpose)
    })
}

/// Opens a shard's directory. If it is missing, the caller finds out when it reads
/// the truncation mark.
pub(crate) fn open_shard_dir(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Arc<dyn Disk>, OpenError> {
    match open_dir(disk, dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(disk.clone()),
        opened => opened.map_err(OpenError::io("opening the directory", dir)),
    }
}

/// Scans a shard on at most `threads` threads. Writes nothing.
pub(crate) fn read_shard(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    identity: &SegmentIdentity,
    threads: usize,
    purpose: Purpose,
) -> Result<Found, OpenError> {
    let purge = truncation_mark::load(disk.as_ref(), dir, identity)?;
    let folder = Folder {
        disk: disk.clone(),
        dir: dir.to_path_buf(),
        identity: *identity,
        purged_below: purge.below,
        spares: Spares::default(),
    };
    let survey = survey(disk.as_ref(), &folder, threads, purpose)?;
    Ok(Found { folder, purge, survey })
}
