//! Retirement: removes generations that were truncated as a whole.
//!
//! A generation first leaves the manifest, durably, then its directory is deleted.
//! **The newest truncated generation stays in the manifest.** Its mark keeps where
//! it ended, and the caller's last checkpoint may name it. Older generations are
//! below every checkpoint that the log was truncated with. This file knows
//! directories and truncation marks; it does not know what a frame is.

use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::fs::{FileSystem, unlink_if_exists};
use crate::layout::manifest::{Manifest, generation_dir, generation_number, shard_number};
use crate::layout::truncation_mark::{self, ALL_TRUNCATED};
use crate::segment::header::{SegmentIdentity, is_unfinished, recycled_number, segment_number};
use crate::util::sync::{Arc, Mutex};

/// The manifest without the generations that can be retired. `None` if there is
/// none. `is_empty` says whether a generation was truncated as a whole.
pub(crate) fn without_retired(
    manifest: &Manifest,
    is_empty: impl Fn(u32) -> bool,
) -> Option<Manifest> {
    let leading = manifest.generations.iter().take_while(|it| is_empty(it.number)).count();
    let retired = leading.min(manifest.generations.len().saturating_sub(1)).saturating_sub(1);
    (retired > 0).then(|| Manifest {
        log: manifest.log,
        generations: manifest.generations[retired..].to_vec(),
    })
}

/// The generations of an open log, as its manifest names them.
#[derive(Debug)]
pub(crate) struct Generations {
    fs: Arc<dyn FileSystem>,
    log: PathBuf,
    manifest: Mutex<Manifest>,
}

impl Generations {
    pub(crate) fn new(fs: Arc<dyn FileSystem>, log: &Path, manifest: Manifest) -> Self {
        Self { fs, log: log.to_path_buf(), manifest: Mutex::new(manifest) }
    }

    /// The number of the oldest generation.
    pub(crate) fn first(&self) -> u32 {
        self.manifest.lock().first()
    }

    /// Removes the generations that can be retired from the manifest, durably, and
    /// deletes their directories. Ignores errors: a new manifest takes room, and
    /// there may be none. A later call tries again.
    pub(crate) fn retire(&self, is_empty: impl Fn(u32) -> bool) {
        let mut manifest = self.manifest.lock();
        let Some(without) = without_retired(&manifest, is_empty) else { return };
        // After an error the disk may have either manifest. Keep the directories.
        if without.store(self.fs.as_ref(), &self.log).is_ok() {
            *manifest = without;
            drop(manifest);
            drop(self.sweep());
        }
    }

    /// Deletes the directories of generations below the manifest's first. Keeps a
    /// directory with records that no truncation mark covers: this log did not
    /// leave it. The next open tries again to delete what could not be deleted.
    pub(crate) fn sweep(&self) -> Result<(), OpenError> {
        let (fs, log) = (self.fs.as_ref(), &self.log);
        let id = self.manifest.lock().log;
        let first = self.first();
        let names = fs.list(log).map_err(OpenError::io("listing", log))?;
        let numbers = names.iter().filter_map(|name| generation_number(name));
        let mut is_changed = false;
        for generation in numbers.filter(|number| *number < first) {
            let dir = generation_dir(log, generation);
            is_changed |= remove_generation(fs, &dir, id, generation)?;
        }
        if is_changed {
            fs.sync_dir(log).map_err(OpenError::io("syncing", log))?;
        }
        Ok(())
    }
}

/// Deletes a generation's directory if each shard was truncated as a whole.
fn remove_generation(
    fs: &dyn FileSystem,
    dir: &Path,
    log: [u8; 16],
    generation: u32,
) -> Result<bool, OpenError> {
    for name in fs.list(dir).map_err(OpenError::io("listing", dir))? {
        let Some(shard) = shard_number(&name) else { return Ok(false) };
        let identity = SegmentIdentity { log, generation, shard, number: 0 };
        if !remove_shard(fs, &dir.join(name), &identity)? {
            return Ok(false);
        }
    }
    fs.remove_dir(dir).map_err(OpenError::io("removing", dir))?;
    Ok(true)
}

/// Deletes a shard's directory if its mark says that the shard was truncated as a
/// whole, or if only marks are left. The marks are deleted last.
fn remove_shard(
    fs: &dyn FileSystem,
    dir: &Path,
    identity: &SegmentIdentity,
) -> Result<bool, OpenError> {
    let names = fs.list(dir).map_err(OpenError::io("listing", dir))?;
    let (marks, others): (Vec<_>, Vec<_>) =
        names.iter().partition(|name| truncation_mark::is_mark(name));
    let is_ours = |name: &str| {
        segment_number(name).or(recycled_number(name)).is_some() || is_unfinished(name)
    };
    if !others.iter().all(|name| is_ours(name)) {
        return Ok(false);
    }
    let is_all_truncated =
        || truncation_mark::load(fs, dir, identity).is_ok_and(|mark| mark.below == ALL_TRUNCATED);
    // Without segments an earlier removal was interrupted. Then some of the marks
    // may be missing, so they are not checked.
    if !others.is_empty() && !is_all_truncated() {
        return Ok(false);
    }
    if !others.is_empty() {
        remove_files(fs, dir, &others)?;
        fs.sync_dir(dir).map_err(OpenError::io("syncing", dir))?;
    }
    remove_files(fs, dir, &marks)?;
    fs.remove_dir(dir).map_err(OpenError::io("removing", dir))?;
    Ok(true)
}

fn remove_files(fs: &dyn FileSystem, dir: &Path, names: &[&String]) -> Result<(), OpenError> {
    let mut paths = names.iter().map(|name| dir.join(name));
    paths.try_for_each(|path| unlink_if_exists(fs, &path).map_err(OpenError::io("removing", &path)))
}
