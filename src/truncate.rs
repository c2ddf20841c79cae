//! Gives up what a checkpoint covers: first the purge mark, durably, then the
//! files, some of which are kept for later segments. A crash between leaves
//! files that the next open removes.

use std::io;

use crate::checkpoint::Checkpoint;
use crate::disk::unlink_if_there;
use crate::error::{TruncateError, means_full};
use crate::purge::{self, GIVEN_UP, PurgeMark, StoreError};
use crate::recovery::Folder;
use crate::replay::ShardPlan;
use crate::segment_writer::SegmentMeta;
use crate::shard::WalShard;
use crate::sync::Mutex;

/// What a truncation has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TruncateReport {
    /// Segments deleted.
    pub segments: u64,
    /// Bytes of frames in them.
    pub bytes: u64,
}

/// A shard's purge mark as truncation knows it: `None` once a sync of it has
/// failed, for then the disk may hold either and a second sync proves nothing.
pub(crate) type Purge = Mutex<Option<PurgeMark>>;

/// A shard of an earlier generation: read, and truncated in time.
#[derive(Debug)]
pub(crate) struct OldShard {
    pub(crate) folder: Folder,
    pub(crate) segments: Mutex<Vec<SegmentMeta>>,
    /// The sequence after its last record, truncated or not.
    pub(crate) next_sequence: u64,
    pub(crate) purge: Purge,
    /// Sequences below are not replayed.
    pub(crate) purged_below: Mutex<u64>,
}

impl OldShard {
    fn is_empty(&self) -> bool {
        *self.purged_below.lock() == GIVEN_UP && self.segments.lock().is_empty()
    }

    /// All that is left of it.
    pub(crate) fn plan(&self) -> ShardPlan {
        ShardPlan {
            folder: self.folder.clone(),
            segments: self.segments.lock().clone(),
            from: *self.purged_below.lock(),
            to: self.next_sequence,
        }
    }
}

/// Whether nothing is left of a generation.
pub(crate) fn is_empty(old: &[OldShard], generation: u32) -> bool {
    let first = old.partition_point(|shard| shard.folder.identity.generation < generation);
    let mut shards = old[first..]
        .iter()
        .take_while(|shard| shard.folder.identity.generation == generation)
        .peekable();
    shards.peek().is_some() && shards.all(OldShard::is_empty)
}

/// One shard to truncate, of whichever generation.
struct Target<'a> {
    folder: &'a Folder,
    purge: &'a Purge,
    purged_below: &'a Mutex<u64>,
    segments: &'a Mutex<Vec<SegmentMeta>>,
    below: u64,
    /// Where an old shard ends.
    end: u64,
    /// The shard, where it is still written to.
    current: Option<&'a WalShard>,
}

/// Truncates below a checkpoint that [`crate::checkpoint::Reach::check_place`]
/// has accepted.
pub(crate) fn truncate(
    old: &[OldShard],
    current: &[WalShard],
    checkpoint: &Checkpoint,
) -> Result<TruncateReport, TruncateError> {
    let below =
        |folder: &Folder| checkpoint.below(folder.identity.generation, folder.identity.shard);
    // A later generation stays as it is, even where it is empty: a checkpoint of
    // an earlier one must find it.
    let is_covered =
        |shard: &&OldShard| shard.folder.identity.generation <= checkpoint.generation();
    let old = old.iter().filter(is_covered).map(|shard| Target {
        folder: &shard.folder,
        purge: &shard.purge,
        purged_below: &shard.purged_below,
        segments: &shard.segments,
        below: match below(&shard.folder) {
            // Nothing more will come, so this is not a place but the end: all
            // of the segments go, and the mark must say that none is missing.
            below if below >= shard.next_sequence => GIVEN_UP,
            below => below,
        },
        end: shard.next_sequence,
        current: None,
    });
    let current = current.iter().map(|shard| Target {
        folder: shard.folder(),
        purge: shard.purge(),
        purged_below: shard.purged_below(),
        segments: shard.catalogue(),
        below: below(shard.folder()),
        end: u64::MAX,
        current: Some(shard),
    });
    let mut report = TruncateReport::default();
    for target in old.chain(current) {
        target.mark_and_delete(&mut report)?;
    }
    Ok(report)
}

impl Target<'_> {
    fn mark_and_delete(&self, report: &mut TruncateReport) -> Result<(), TruncateError> {
        let dir = &self.folder.dir;
        let mut purge = self.purge.lock();
        let last = purge.ok_or_else(|| {
            let failed = io::Error::other("an earlier truncation could not be made durable");
            TruncateError::io("truncating (reopen the log first)", dir)(failed)
        })?;
        // Where it ended is said by the mark before the last one, so that its own
        // checkpoints can be told from others.
        for below in [self.end.min(self.below), self.below] {
            let last = purge.unwrap_or(last);
            if below > last.below {
                let stored = self.store(last, below);
                *purge = match &stored {
                    Ok(mark) => Some(*mark),
                    Err(StoreError::Unchanged(_)) => Some(last),
                    Err(StoreError::Unknown(_)) => None,
                };
                stored.map_err(|error| {
                    let (StoreError::Unchanged(error) | StoreError::Unknown(error)) = error;
                    TruncateError::io("writing the purge mark of", dir)(error)
                })?;
                *self.purged_below.lock() = below;
            }
        }
        self.delete(report)
    }

    /// Stores the next mark. If there is no room for it the spares make some: on
    /// btrfs without room for metadata a file can be removed, and nothing else.
    fn store(&self, last: PurgeMark, below: u64) -> Result<PurgeMark, StoreError> {
        let Folder { disk, dir, identity, spares, .. } = self.folder;
        let disk = disk.as_ref();
        match purge::store(disk, dir, identity, last, below) {
            Err(StoreError::Unchanged(error)) if means_full(&error) => {
                spares.give_up_if_scarce(true);
                disk.sync_dir(dir).map_err(StoreError::Unchanged)?;
                purge::store(disk, dir, identity, last, below)
            }
            stored => stored,
        }
    }

    /// Deletes, oldest first, the segments that lie below the mark. What was
    /// marked before and could not be deleted is tried again.
    fn delete(&self, report: &mut TruncateReport) -> Result<(), TruncateError> {
        let (disk, dir) = (self.folder.disk.as_ref(), &self.folder.dir);
        // Not all that limits a shard shows in the file system's free bytes.
        let is_full = self.current.is_some_and(|shard| shard.lane().progress.is_disk_full());
        self.folder.spares.give_up_if_scarce(is_full);
        let mut deleted = 0;
        loop {
            let oldest = self.deletable().or_else(|| self.deletable_after_sync());
            let Some(oldest) = oldest else { break };
            let path = self.folder.path(oldest.number);
            if is_full || !self.folder.spares.keep(&path, &oldest) {
                unlink_if_there(disk, &path).map_err(TruncateError::io("deleting", &path))?;
            }
            self.segments.lock().remove(0);
            deleted += 1;
            report.bytes += oldest.end;
        }
        report.segments += deleted;
        if deleted > 0 {
            disk.sync_dir(dir).map_err(TruncateError::io("syncing", dir))?;
        }
        Ok(())
    }

    /// The oldest segment, if it lies below the mark and what comes after it
    /// stands on the disk: recovery begins at a segment's header.
    fn deletable(&self) -> Option<SegmentMeta> {
        let segments = self.segments.lock();
        let oldest = segments.first()?;
        let is_succeeded = match segments.get(1) {
            Some(successor) => successor.durable,
            // One that is written to keeps a segment, even between two of them.
            None => self.current.is_none(),
        };
        (self.covers(oldest) && is_succeeded).then_some(*oldest)
    }

    fn covers(&self, segment: &SegmentMeta) -> bool {
        segment.next_sequence.is_some_and(|next| next <= self.below)
    }

    /// The same once the successor was synced, which may be the only thing
    /// that is missing. In a shard that has failed nothing more is synced; the
    /// segment is left to the next open.
    fn deletable_after_sync(&self) -> Option<SegmentMeta> {
        let lane = self.current?.lane();
        if !self.segments.lock().first().is_some_and(|oldest| self.covers(oldest)) {
            return None;
        }
        let end = lane.mailbox.request_sync();
        lane.progress.wait_synced(end).ok()?;
        self.deletable()
    }
}
