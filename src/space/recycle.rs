//! Recycled segments: files that a shard keeps for its next segments.
//!
//! They come from truncated segments, and from an open that made them ahead. A write
//! over allocated blocks costs the file system less than a write that grows a file.
//!
//! A recycled segment has a name that is no segment's, and its content does not count.
//! It becomes a segment by [`recycle`], which blanks its header first. Truncation adds
//! files, and the preparer thread takes them. **If free space is low, none is kept**,
//! because a truncation is to free space.
//!
//! This file knows files. It does not know which segments may be truncated.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::fs::{FileSystem, OpenMode, unlink_if_exists};
use crate::segment::catalogue::SegmentMeta;
use crate::segment::header::recycled_path;
use crate::segment::writer::{Prepared, fill, lengths, recycle};
use crate::space::free_space::FreeSpaceMonitor;
use crate::util::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};

/// How many files are kept, and of which size.
#[derive(Clone, Debug)]
pub(crate) struct RecyclePolicy {
    /// Maximum number of files per shard.
    pub(crate) recycled_max: usize,
    /// Size of a segment in bytes.
    pub(crate) segment_bytes: u64,
    /// If the file system has fewer free bytes, no file is kept.
    pub(crate) free_bytes_min: u64,
}

/// The recycled segments of one shard. A clone shares them. The default keeps none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recycler {
    pool: Option<Arc<Pool>>,
}

#[derive(Debug)]
struct Pool {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    policy: RecyclePolicy,
    space: Arc<FreeSpaceMonitor>,
    kept: Mutex<Kept>,
    /// Number of full segments that the sealer has not cut yet; see [`Recycler::hold`].
    /// The writer adds (Relaxed), [`RecycleHold`] subtracts (Release), a truncation reads
    /// (Acquire).
    held: AtomicU64,
    /// Whether a file is kept: a hint for the writer, which must not take the lock.
    /// Each thread that changes `kept` stores it while it holds the lock (Relaxed).
    has_any: AtomicBool,
}

/// The lock is held during a rename, so that two threads never choose one name. Renames
/// are rare.
#[derive(Debug, Default)]
struct Kept {
    /// Names of the files, oldest first.
    names: VecDeque<PathBuf>,
    /// Number in the next name.
    next: u64,
}

impl Recycler {
    /// The recycled segments of a shard whose directory holds these numbers.
    /// Keeps as many as the policy allows, and deletes the others.
    pub(crate) fn open(
        fs: &Arc<dyn FileSystem>,
        dir: &Path,
        policy: RecyclePolicy,
        space: Arc<FreeSpaceMonitor>,
        recycled: &[u64],
    ) -> io::Result<Self> {
        let (kept, others) = recycled.split_at(recycled.len().min(policy.recycled_max));
        others
            .iter()
            .try_for_each(|number| unlink_if_exists(fs.as_ref(), &recycled_path(dir, *number)))?;
        let kept = Kept {
            names: kept.iter().map(|number| recycled_path(dir, *number)).collect(),
            next: recycled.iter().max().map_or(1, |last| last + 1),
        };
        let pool = Pool {
            fs: fs.clone(),
            dir: dir.to_path_buf(),
            policy,
            space,
            held: AtomicU64::new(0),
            has_any: AtomicBool::new(!kept.names.is_empty()),
            kept: Mutex::new(kept),
        };
        Ok(Self { pool: Some(Arc::new(pool)) })
    }

    /// Makes files until `ready` are kept, or free space gets low. Blocks for the
    /// writes and syncs. Ignores errors, because the files only save time.
    pub(crate) fn preallocate(&self, ready: usize) {
        let Some(pool) = &self.pool else { return };
        let mut kept = pool.kept.lock();
        while kept.names.len() < ready.min(pool.policy.recycled_max) && !pool.is_scarce() {
            let path = kept.next_name(&pool.dir);
            let made = pool
                .fs
                .open(&path, OpenMode::CreateNew)
                .and_then(|mut file| fill(file.as_mut(), pool.policy.segment_bytes));
            if made.is_err() {
                drop(pool.fs.unlink(&path));
                return;
            }
            kept.names.push_back(path);
            pool.publish(&kept);
        }
    }

    /// Keeps truncated files from being recycled until the result is dropped. The file
    /// of a full segment must not become another segment before its tail is cut.
    pub(crate) fn hold(&self) -> RecycleHold {
        if let Some(pool) = &self.pool {
            // ORDERING: Relaxed; the writer takes the catalogue's lock after this, and
            // a truncation learns from the catalogue that the segment is full.
            pool.held.fetch_add(1, Ordering::Relaxed);
        }
        RecycleHold { pool: self.pool.clone() }
    }

    /// Whether a recycled segment is available. A hint.
    pub(crate) fn has_any(&self) -> bool {
        // ORDERING: Relaxed; a hint.
        self.pool.as_ref().is_some_and(|pool| pool.has_any.load(Ordering::Relaxed))
    }

    /// Whether free space was below a configured threshold at the last check.
    pub(crate) fn is_space_low(&self) -> bool {
        self.pool.as_ref().is_some_and(|pool| pool.space.is_scarce(0))
    }

    /// Renames the file of a truncated segment, to keep it. The rename is as durable as
    /// an unlink. If this returns false, the caller must delete the file.
    pub(crate) fn keep(&self, path: &Path, segment: &SegmentMeta) -> bool {
        let Some(pool) = &self.pool else { return false };
        let RecyclePolicy { recycled_max, segment_bytes, .. } = pool.policy;
        // ORDERING: Acquire pairs with the Release in `RecycleHold::drop`: the tail is cut.
        let is_held = pool.held.load(Ordering::Acquire) > 0;
        let is_full = lengths(segment_bytes).contains(&segment.end) && !is_held;
        let mut kept = pool.kept.lock();
        if !is_full || kept.names.len() >= recycled_max || pool.is_scarce() {
            return false;
        }
        let name = kept.next_name(&pool.dir);
        let renamed = pool.fs.rename_new(path, &name).is_ok();
        if renamed {
            kept.names.push_back(name);
            pool.publish(&kept);
        }
        renamed
    }

    /// Turns a recycled file into segment `number`. Deletes files that cannot be used.
    /// `None` if no file is left.
    pub(crate) fn take(&self, number: u64) -> Option<Prepared> {
        let pool = self.pool.as_ref()?;
        loop {
            let recycled = pool.pop()?;
            match recycle(pool.fs.as_ref(), &recycled, &pool.dir, number, pool.policy.segment_bytes)
            {
                Ok(Some(prepared)) => return Some(prepared),
                // If the old name stays, the next open finds it. If the file has the
                // segment's name, the new file replaces it.
                Ok(None) | Err(_) => drop(pool.fs.unlink(&recycled)),
            }
        }
    }

    /// Deletes all files if free space is low, or if `full` is true.
    pub(crate) fn delete_if_scarce(&self, full: bool) {
        let Some(pool) = &self.pool else { return };
        if full || pool.was_scarce() {
            let names: Vec<_> = std::iter::from_fn(|| pool.pop()).collect();
            names.iter().for_each(|name| drop(pool.fs.unlink(name)));
        }
    }
}

/// A full segment whose tail is not cut yet. See [`Recycler::hold`].
#[derive(Debug)]
pub(crate) struct RecycleHold {
    pool: Option<Arc<Pool>>,
}

impl Drop for RecycleHold {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            // ORDERING: Release pairs with the Acquire in `Recycler::keep`.
            pool.held.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Pool {
    fn pop(&self) -> Option<PathBuf> {
        let mut kept = self.kept.lock();
        let oldest = kept.names.pop_front();
        self.publish(&kept);
        oldest
    }

    fn publish(&self, kept: &Kept) {
        // ORDERING: Relaxed; a hint.
        self.has_any.store(!kept.names.is_empty(), Ordering::Relaxed);
    }

    /// Asks the file system. If that fails, the last result holds.
    fn is_scarce(&self) -> bool {
        drop(self.space.check());
        self.was_scarce()
    }

    fn was_scarce(&self) -> bool {
        self.space.is_scarce(self.policy.free_bytes_min)
    }
}

impl Kept {
    fn next_name(&mut self, dir: &Path) -> PathBuf {
        self.next += 1;
        recycled_path(dir, self.next - 1)
    }
}
