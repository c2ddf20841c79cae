//! Inspection: reads what a log holds, before anything is written.
//!
//! Serves opens, readers, repairs and backups. It finds the manifest and scans
//! the shards; it does not know what its caller makes of them.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::fs::{DurabilityWarning, FileSystem, open_dir};
use crate::layout::manifest::{Generation, Manifest, generation_number};
use crate::layout::orphans;
use crate::layout::shard_dir::ShardDir;
use crate::layout::truncation_mark::{self, TruncationMark};
use crate::recovery::{ScanPurpose, ShardRecovery, ShardScan, scan_shard};
use crate::segment::header::SegmentIdentity;
use crate::space::recycle::Recycler;
use crate::util::parallel::{in_parallel, threads_each};
use crate::util::sync::Arc;

/// A scanned shard.
pub(crate) struct Inspected {
    pub(crate) shard_dir: ShardDir,
    pub(crate) mark: TruncationMark,
    pub(crate) scan: ShardScan,
}

/// The recovery report of each shard.
pub(crate) fn reports(inspected: &[Inspected]) -> Vec<ShardRecovery> {
    let has_carriers = inspected.iter().any(|inspected| inspected.mark.carriers() > 0);
    inspected.iter().map(|inspected| inspected.report(has_carriers)).collect()
}

impl Inspected {
    /// `has_carriers` says whether a shard of the log has a file whose name carries a
    /// truncation mark. Then each shard has two: no log has some but one of which they
    /// were removed, or one whose first open with them was cut short.
    fn report(&self, has_carriers: bool) -> ShardRecovery {
        let identity = &self.shard_dir.identity;
        let below = self.shard_dir.truncated_below;
        let report = ShardRecovery::of(identity.generation, identity.shard, below, &self.scan);
        let mark_file_missing = has_carriers && self.mark.carriers() < 2;
        ShardRecovery { mark_file_missing, ..report }
    }

    /// The sequence after the shard's last record, truncated ones included.
    pub(crate) fn end(&self) -> u64 {
        if self.shard_dir.is_all_truncated() { self.mark.ended() } else { self.scan.next_sequence }
    }

    /// Whether the shard's files can stay as they are: a resume need not copy any
    /// record or replace any segment.
    pub(crate) fn is_resumable(&self) -> bool {
        let scan = &self.scan;
        let is_whole = scan.durable_below >= scan.next_sequence && scan.torn_bytes == 0;
        is_whole || scan.segments.is_empty()
    }
}

/// Reasons to distrust syncs on the log's file system. Empty if the system does
/// not report any.
pub(crate) fn durability_warnings(fs: &dyn FileSystem, dir: &Path) -> Vec<DurabilityWarning> {
    fs.durability_warnings(dir).unwrap_or_default()
}

/// Refuses a manifest that is older than the log's files. An open that went on
/// from it would lose the records of later generations.
pub(crate) fn check_manifest_is_latest(
    fs: &dyn FileSystem,
    dir: &Path,
    manifest: &Manifest,
    inspected: &[Inspected],
) -> Result<(), OpenError> {
    let stale = |what: String| {
        let what = format!("it is older than the log: {what}");
        Err(OpenError::Manifest { file: dir.join("MANIFEST"), what })
    };
    let current = manifest.current().map_or(0, |generation| generation.number);
    let is_all_truncated = |inspected: &Inspected| {
        inspected.shard_dir.identity.generation == current && inspected.shard_dir.is_all_truncated()
    };
    if inspected.iter().any(is_all_truncated) {
        return stale(format!("its last generation, {current}, was truncated for a later one"));
    }
    let next = Generation { number: current + 1, shards: 0 }.dir(dir);
    if orphans::hold_records(fs, &next)? {
        return stale(format!("it does not name {}, which holds records", next.display()));
    }
    Ok(())
}

/// Loads the manifest. `None` if the directory does not exist or holds no log.
pub(crate) fn find_manifest(
    fs: &dyn FileSystem,
    dir: &Path,
) -> Result<Option<Manifest>, OpenError> {
    if let Some(manifest) = Manifest::load(fs, dir)? {
        return Ok(Some(manifest));
    }
    let names = match fs.list(dir) {
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
    fs: &Arc<dyn FileSystem>,
    dir: &Path,
    manifest: &Manifest,
    purpose: ScanPurpose,
) -> Result<Vec<Inspected>, OpenError> {
    let shards = shards_of(dir, manifest);
    let threads = threads_each(shards.len());
    let current = manifest.current().map(|generation| generation.number);
    in_parallel(&shards, |(dir, identity)| {
        // Earlier generations use the log's own descriptor, to save descriptors:
        // there may be many generations.
        let fs = match current == Some(identity.generation) {
            true => open_shard_dir(fs, dir)?,
            false => fs.clone(),
        };
        read_shard(&fs, dir, identity, threads, purpose)
    })
}

/// Opens a shard's directory. If it is missing, the caller finds out when it reads
/// the truncation mark.
pub(crate) fn open_shard_dir(
    fs: &Arc<dyn FileSystem>,
    dir: &Path,
) -> Result<Arc<dyn FileSystem>, OpenError> {
    match open_dir(fs, dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(fs.clone()),
        opened => opened.map_err(OpenError::io("opening the directory", dir)),
    }
}

/// Scans a shard on at most `threads` threads. Writes nothing.
pub(crate) fn read_shard(
    fs: &Arc<dyn FileSystem>,
    dir: &Path,
    identity: &SegmentIdentity,
    threads: usize,
    purpose: ScanPurpose,
) -> Result<Inspected, OpenError> {
    let mark = truncation_mark::load(fs.as_ref(), dir, identity)?;
    let shard_dir = ShardDir {
        fs: fs.clone(),
        dir: dir.to_path_buf(),
        identity: *identity,
        truncated_below: mark.below,
        recycler: Recycler::default(),
    };
    let scan = scan_shard(fs.as_ref(), &shard_dir, threads, purpose)?;
    Ok(Inspected { shard_dir, mark, scan })
}
