//! Truncation: removes the records that a checkpoint covers.
//!
//! It first stores the truncation mark durably, then deletes segments or recycles
//! them. After a crash in between, the next open deletes the files. Knows marks and
//! whole segments; it does not know frames.

use std::collections::VecDeque;
use std::io;

use crate::checkpoint::Checkpoint;
use crate::error::{TruncateError, means_full};
use crate::fs::unlink_if_exists;
use crate::layout::shard_dir::ShardDir;
use crate::layout::truncation_mark::{self, ALL_TRUNCATED, StoreError, TruncationMark};
use crate::recovery::replay::ShardPlan;
use crate::segment::catalogue::{Catalogue, SegmentMeta};
use crate::segment::header::SegmentIdentity;
use crate::shard::gradual_deletion::{Deletion, Pace};
use crate::shard::holds::{HeldBack, Holds, LockedHolds};
use crate::shard::shard::WalShard;
use crate::util::sync::{Arc, Mutex};

/// What a truncation removed, and what holds kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TruncateReport {
    /// The number of segments that were deleted or recycled.
    pub segments: u64,
    /// The bytes of headers and frames in these segments.
    pub bytes: u64,
    /// The holds that kept full segments below the truncation's end, sorted by name.
    pub held: Vec<HeldBack>,
    /// The names of the holds that were dropped, because they exceeded a limit and were in the
    /// way.
    pub dropped: Vec<String>,
}

/// A shard's truncation mark. `None` after a failed sync of the mark: the disk may
/// hold the old or the new one, and a second sync proves nothing.
pub(crate) type SharedMark = Mutex<Option<TruncationMark>>;

/// A shard of an earlier generation. It takes no appends; it can be replayed and
/// truncated.
#[derive(Debug)]
pub(crate) struct OldShard {
    pub(crate) shard_dir: ShardDir,
    pub(crate) segments: Catalogue,
    /// The sequence after the last record, truncated or not.
    pub(crate) next_sequence: u64,
    pub(crate) mark: SharedMark,
    /// Records below this sequence are not replayed.
    pub(crate) truncated_below: Mutex<u64>,
}

impl OldShard {
    fn is_empty(&self) -> bool {
        *self.truncated_below.lock() == ALL_TRUNCATED && self.segments.lock().is_empty()
    }

    /// The replay plan of all its remaining records.
    pub(crate) fn plan(&self) -> ShardPlan {
        ShardPlan {
            shard_dir: self.shard_dir.clone(),
            segments: self.segments.lock().iter().copied().collect(),
            from: *self.truncated_below.lock(),
            to: self.next_sequence,
        }
    }
}

/// Whether a generation was truncated as a whole and all its segments are deleted.
pub(crate) fn is_empty(old: &[Arc<OldShard>], generation: u32) -> bool {
    let first = old.partition_point(|shard| shard.shard_dir.identity.generation < generation);
    let mut shards = old[first..]
        .iter()
        .take_while(|shard| shard.shard_dir.identity.generation == generation)
        .peekable();
    shards.peek().is_some() && shards.all(|shard| shard.is_empty())
}

/// One shard to truncate, of any generation.
struct Target<'a> {
    shard_dir: &'a ShardDir,
    mark: &'a SharedMark,
    truncated_below: &'a Mutex<u64>,
    segments: &'a Mutex<VecDeque<SegmentMeta>>,
    below: u64,
    /// The next sequence of a shard of an earlier generation, otherwise `u64::MAX`.
    end: u64,
    /// The open shard, in the current generation.
    current: Option<&'a WalShard>,
}

/// Truncates below a checkpoint that [`crate::checkpoint::Reach::check_position`]
/// has accepted, and above no hold.
pub(crate) fn truncate(
    old: &[Arc<OldShard>],
    current: &[Arc<WalShard>],
    checkpoint: &Checkpoint,
    holds: &Holds,
) -> Result<TruncateReport, TruncateError> {
    let mut holds = holds.lock();
    // Dropped durably before anything that it keeps is truncated.
    let dropped = holds.drop_beyond(checkpoint)?;
    let held = holds.kept(checkpoint);
    let mut report = TruncateReport { dropped, held, ..TruncateReport::default() };
    let targets = targets(old, current, checkpoint, &holds);
    // All marks first: a hold that is set later must see them.
    let mut marked = 0;
    let stored = targets.iter().try_for_each(|target| {
        target.store_marks()?;
        marked += 1;
        Ok(())
    });
    if targets.iter().any(|target| target.mark.lock().is_none()) {
        // The next open may find a mark that this log does not know.
        holds.refuse_changes();
    }
    drop(holds);
    let mut deletion = Deletion::default();
    let deleted =
        targets[..marked].iter().try_for_each(|target| target.delete(&mut report, &mut deletion));
    // Delete the files renamed so far, even if a later shard failed. No lock that an append or
    // a replay takes is held meanwhile.
    let freed = deletion.run(Pace::of(current));
    stored.and(deleted).and(freed).map(|()| report)
}

/// The shards to truncate, each with the sequence below which its records go.
fn targets<'a>(
    old: &'a [Arc<OldShard>],
    current: &'a [Arc<WalShard>],
    checkpoint: &Checkpoint,
    holds: &LockedHolds<'_>,
) -> Vec<Target<'a>> {
    let below = |shard_dir: &ShardDir| {
        let SegmentIdentity { generation, shard, .. } = shard_dir.identity;
        checkpoint.below(generation, shard).min(holds.below(generation, shard))
    };
    // A later generation stays, even if it is empty: checkpoints of earlier
    // generations must stay valid.
    let last = holds.generation().unwrap_or(u32::MAX).min(checkpoint.generation());
    let is_covered = |shard: &&Arc<OldShard>| shard.shard_dir.identity.generation <= last;
    let old = old.iter().filter(is_covered).map(|shard| Target {
        shard_dir: &shard.shard_dir,
        mark: &shard.mark,
        truncated_below: &shard.truncated_below,
        segments: &shard.segments,
        below: match below(&shard.shard_dir) {
            // The shard gets no more records, so all its segments are deleted. The
            // mark must say that no segment is missing.
            below if below >= shard.next_sequence => ALL_TRUNCATED,
            below => below,
        },
        end: shard.next_sequence,
        current: None,
    });
    let targets = current.iter().map(|shard| Target {
        shard_dir: shard.shard_dir(),
        mark: shard.mark(),
        truncated_below: shard.truncated_below(),
        segments: shard.catalogue(),
        below: below(shard.shard_dir()),
        end: u64::MAX,
        current: Some(shard),
    });
    old.chain(targets).collect()
}

impl Target<'_> {
    /// Stores the marks of the shard durably.
    fn store_marks(&self) -> Result<(), TruncateError> {
        let dir = &self.shard_dir.dir;
        let mut mark = self.mark.lock();
        let last = mark.ok_or_else(|| {
            let failed = io::Error::other("an earlier mark could not be synced; reopen the log");
            TruncateError::io("truncating", dir)(failed)
        })?;
        // A shard that is truncated as a whole gets two marks: the first keeps the
        // sequence at which it ended, to check later checkpoints against.
        for below in [self.end.min(self.below), self.below] {
            let last = mark.unwrap_or(last);
            if below > last.below {
                let stored = self.store(last, below);
                *mark = match &stored {
                    Ok(mark) => Some(*mark),
                    Err(StoreError::Unchanged(_)) => Some(last),
                    Err(StoreError::Unknown(_)) => None,
                };
                stored.map_err(|error| {
                    let (StoreError::Unchanged(error) | StoreError::Unknown(error)) = error;
                    TruncateError::io("writing the truncation mark of", dir)(error)
                })?;
                *self.truncated_below.lock() = below;
            }
        }
        Ok(())
    }

    /// Stores the next mark. If there is no room, deletes recycled segments and
    /// tries again: btrfs without room for metadata allows only deletions.
    fn store(&self, last: TruncationMark, below: u64) -> Result<TruncationMark, StoreError> {
        let ShardDir { fs, dir, identity, recycler, .. } = self.shard_dir;
        let fs = fs.as_ref();
        match truncation_mark::store(fs, dir, identity, last, below) {
            Err(StoreError::Unchanged(error)) if means_full(&error) => {
                recycler.delete_if_scarce(true);
                fs.sync_dir(dir).map_err(StoreError::Unchanged)?;
                truncation_mark::store(fs, dir, identity, last, below)
            }
            stored => stored,
        }
    }

    /// Deletes or recycles the segments below the mark, oldest first. This includes
    /// segments that an earlier truncation could not delete. Large files only lose their
    /// names, and `deletion` gets them.
    fn delete(
        &self,
        report: &mut TruncateReport,
        deletion: &mut Deletion,
    ) -> Result<(), TruncateError> {
        let (fs, dir) = (self.shard_dir.fs.as_ref(), &self.shard_dir.dir);
        // A quota, for example, does not show in the file system's free bytes.
        let is_full = self.current.is_some_and(|shard| shard.committer().progress.is_disk_full());
        self.shard_dir.recycler.delete_if_scarce(is_full);
        let mut deleted = 0;
        loop {
            let oldest = self.deletable().or_else(|| self.deletable_after_sync());
            let Some(oldest) = oldest else { break };
            let path = self.shard_dir.path(oldest.number);
            let is_gone = !is_full
                && (self.shard_dir.recycler.keep(&path, &oldest)
                    || deletion.take(self.shard_dir, &oldest));
            if !is_gone {
                unlink_if_exists(fs, &path).map_err(TruncateError::io("deleting", &path))?;
            }
            self.segments.lock().pop_front();
            deleted += 1;
            report.bytes += oldest.end;
        }
        report.segments += deleted;
        if deleted > 0 {
            fs.sync_dir(dir).map_err(TruncateError::io("syncing", dir))?;
        }
        Ok(())
    }

    /// The oldest segment, if it lies below the mark and its successor is durable.
    /// Recovery needs the successor's header to begin at.
    fn deletable(&self) -> Option<SegmentMeta> {
        let segments = self.segments.lock();
        let oldest = segments.front()?;
        let is_succeeded = match segments.get(1) {
            Some(successor) => successor.durable,
            // A shard that takes appends keeps one segment, even between two.
            None => self.current.is_none(),
        };
        (self.covers(oldest) && is_succeeded).then_some(*oldest)
    }

    fn covers(&self, segment: &SegmentMeta) -> bool {
        segment.next_sequence.is_some_and(|next| next <= self.below)
    }

    /// Requests a sync of the successor, then returns the oldest segment if it can
    /// be deleted. Blocks until the sync is done. A failed shard syncs nothing
    /// more; then the next open deletes the segment.
    fn deletable_after_sync(&self) -> Option<SegmentMeta> {
        let committer = self.current?.committer();
        if !self.segments.lock().front().is_some_and(|oldest| self.covers(oldest)) {
            return None;
        }
        let end = committer.queue.request_sync();
        committer.progress.wait_synced(end).ok()?;
        self.deletable()
    }
}
