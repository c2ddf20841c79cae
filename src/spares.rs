//! The files that a shard keeps for its next segments: those of segments that
//! were given up, and those that open made ahead. To write over what a file
//! has costs the disk less than to make it grow.
//!
//! A spare has a name that is no segment's, and what is in it does not count:
//! it becomes a segment by [`recycle`], which sees to that. Knows files; it does
//! not know which segments may be given up. Truncation brings files, the
//! housekeeping thread takes them; **none is kept where room is scarce**, for a
//! truncation is to make room.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, OpenMode, unlink_if_there};
use crate::segment::spare_path;
use crate::segment_writer::{Prepared, SegmentMeta, fill, lengths, recycle};
use crate::space::Space;
use crate::sync::{Arc, AtomicBool, AtomicU64, Mutex, Ordering};

/// How many files are kept, and what for.
#[derive(Clone, Debug)]
pub(crate) struct SparesPolicy {
    /// So many a shard.
    pub(crate) spares_max: usize,
    /// The size of a segment.
    pub(crate) segment_bytes: u64,
    /// Below so many free bytes of the file system none is kept.
    pub(crate) free_bytes_min: u64,
}

/// One shard's. A clone is another handle on the same; the default keeps none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spares {
    pool: Option<Arc<Pool>>,
}

#[derive(Debug)]
struct Pool {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    policy: SparesPolicy,
    space: Arc<Space>,
    kept: Mutex<Kept>,
    /// The number of full segments that the sealer has not settled: see
    /// [`Spares::hold`].
    held: AtomicU64,
    /// Whether there is one: a hint for the writer, who must not meet the lock.
    /// Whoever has changed `kept` stores it.
    is_any: AtomicBool,
}

/// Held over a rename, so that no name is taken before it is one: seldom enough.
#[derive(Debug, Default)]
struct Kept {
    /// Oldest first.
    names: VecDeque<PathBuf>,
    /// The number of the next name.
    next: u64,
}

impl Spares {
    /// Of a shard whose folder holds `found`: keeps as many of them as it may,
    /// and removes the others.
    pub(crate) fn open(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        policy: SparesPolicy,
        space: Arc<Space>,
        found: &[u64],
    ) -> io::Result<Self> {
        let (kept, others) = found.split_at(found.len().min(policy.spares_max));
        others
            .iter()
            .try_for_each(|number| unlink_if_there(disk.as_ref(), &spare_path(dir, *number)))?;
        let kept = Kept {
            names: kept.iter().map(|number| spare_path(dir, *number)).collect(),
            next: found.iter().max().map_or(1, |last| last + 1),
        };
        let pool = Pool {
            disk: disk.clone(),
            dir: dir.to_path_buf(),
            policy,
            space,
            held: AtomicU64::new(0),
            is_any: AtomicBool::new(!kept.names.is_empty()),
            kept: Mutex::new(kept),
        };
        Ok(Self { pool: Some(Arc::new(pool)) })
    }

    /// Makes spares until there are `ready`, or room gets scarce. They are for
    /// speed alone: where one cannot be made, there is none.
    pub(crate) fn make_ready(&self, ready: usize) {
        let Some(pool) = &self.pool else { return };
        let mut kept = pool.kept.lock();
        while kept.names.len() < ready.min(pool.policy.spares_max) && !pool.is_scarce() {
            let path = kept.next_name(&pool.dir);
            let made = pool
                .disk
                .open(&path, OpenMode::CreateNew)
                .and_then(|mut file| fill(file.as_mut(), pool.policy.segment_bytes));
            if made.is_err() {
                drop(pool.disk.unlink(&path));
                return;
            }
            kept.names.push_back(path);
            pool.tell(&kept);
        }
    }

    /// Lets no truncated file become a spare until the answer is dropped. The file of
    /// a full segment must not be another segment's before its tail is cut.
    pub(crate) fn hold(&self) -> SpareHold {
        if let Some(pool) = &self.pool {
            // ORDERING: Relaxed; a truncation knows that the segment is full by the
            // catalogue's lock, which the writer takes after this.
            pool.held.fetch_add(1, Ordering::Relaxed);
        }
        SpareHold { pool: self.pool.clone() }
    }

    /// Whether there is one.
    pub(crate) fn is_any(&self) -> bool {
        // ORDERING: Relaxed; a hint.
        self.pool.as_ref().is_some_and(|pool| pool.is_any.load(Ordering::Relaxed))
    }

    /// Whether the last look has found less room than a watermark asks for.
    pub(crate) fn is_room_low(&self) -> bool {
        self.pool.as_ref().is_some_and(|pool| pool.space.is_scarce(0))
    }

    /// Takes the file of a segment that was given up from under its name, which
    /// is durable like an unlink; else the caller has to remove it.
    pub(crate) fn keep(&self, path: &Path, segment: &SegmentMeta) -> bool {
        let Some(pool) = &self.pool else { return false };
        let SparesPolicy { spares_max, segment_bytes, .. } = pool.policy;
        // ORDERING: Acquire pairs with the Release in `SpareHold::drop`: the tail is cut.
        let is_held = pool.held.load(Ordering::Acquire) > 0;
        let is_full = lengths(segment_bytes).contains(&segment.end) && !is_held;
        let mut kept = pool.kept.lock();
        if !is_full || kept.names.len() >= spares_max || pool.is_scarce() {
            return false;
        }
        let name = kept.next_name(&pool.dir);
        let renamed = pool.disk.rename_new(path, &name).is_ok();
        if renamed {
            kept.names.push_back(name);
            pool.tell(&kept);
        }
        renamed
    }

    /// The file of segment `number`, if one of the spares will do; those that
    /// will not are removed.
    pub(crate) fn take(&self, number: u64) -> Option<Prepared> {
        let pool = self.pool.as_ref()?;
        loop {
            let spare = pool.pop()?;
            match recycle(pool.disk.as_ref(), &spare, &pool.dir, number, pool.policy.segment_bytes)
            {
                Ok(Some(prepared)) => return Some(prepared),
                // A name that stays is found by the next open; a file under the
                // segment's is replaced by the one that is made instead.
                Ok(None) | Err(_) => drop(pool.disk.unlink(&spare)),
            }
        }
    }

    /// Removes all of them where room is scarce, or `full` says that it is.
    pub(crate) fn give_up_if_scarce(&self, full: bool) {
        let Some(pool) = &self.pool else { return };
        if full || pool.is_scarce_by_the_last_look() {
            let names: Vec<_> = std::iter::from_fn(|| pool.pop()).collect();
            names.iter().for_each(|name| drop(pool.disk.unlink(name)));
        }
    }
}

/// A full segment whose file is not settled yet. See [`Spares::hold`].
#[derive(Debug)]
pub(crate) struct SpareHold {
    pool: Option<Arc<Pool>>,
}

impl Drop for SpareHold {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            // ORDERING: Release pairs with the Acquire in `Spares::keep`.
            pool.held.fetch_sub(1, Ordering::Release);
        }
    }
}

impl Pool {
    fn pop(&self) -> Option<PathBuf> {
        let mut kept = self.kept.lock();
        let oldest = kept.names.pop_front();
        self.tell(&kept);
        oldest
    }

    fn tell(&self, kept: &Kept) {
        // ORDERING: Relaxed; a hint.
        self.is_any.store(!kept.names.is_empty(), Ordering::Relaxed);
    }

    /// Asks the disk. One that does not answer has what it had.
    fn is_scarce(&self) -> bool {
        drop(self.space.look());
        self.is_scarce_by_the_last_look()
    }

    fn is_scarce_by_the_last_look(&self) -> bool {
        self.space.is_scarce(self.policy.free_bytes_min)
    }
}

impl Kept {
    fn next_name(&mut self, dir: &Path) -> PathBuf {
        self.next += 1;
        spare_path(dir, self.next - 1)
    }
}
