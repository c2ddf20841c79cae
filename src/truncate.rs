//! Gives up what a checkpoint covers: first the purge mark, durably, then the
//! files. A crash between leaves files that the next open removes.

use std::io;

use crate::checkpoint::Checkpoint;
use crate::disk::Disk;
use crate::error::TruncateError;
use crate::purge::{self, PurgeMark};
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

/// A shard's purge mark as truncation knows it: `None` once a write of it has
/// failed, for then the disk may hold either and a second sync proves nothing.
pub(crate) type Purge = Mutex<Option<PurgeMark>>;

/// A shard of an earlier generation: read, and truncated in time.
#[derive(Debug)]
pub(crate) struct OldShard {
    pub(crate) folder: Folder,
    pub(crate) segments: Mutex<Vec<SegmentMeta>>,
    pub(crate) next_sequence: u64,
    pub(crate) purge: Purge,
    /// Sequences below are not replayed.
    pub(crate) purged_below: Mutex<u64>,
}

impl OldShard {
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

/// One shard to truncate, of whichever generation.
struct Target<'a> {
    folder: &'a Folder,
    purge: &'a Purge,
    purged_below: &'a Mutex<u64>,
    segments: &'a Mutex<Vec<SegmentMeta>>,
    below: u64,
    /// The shard, where it is written to: not all of it need be on the disk.
    live: Option<&'a WalShard>,
}

pub(crate) fn truncate(
    disk: &dyn Disk,
    old: &[OldShard],
    current: &[WalShard],
    checkpoint: &Checkpoint,
) -> Result<TruncateReport, TruncateError> {
    check(old, current, checkpoint)?;
    let old = old.iter().map(|shard| Target {
        folder: &shard.folder,
        purge: &shard.purge,
        purged_below: &shard.purged_below,
        segments: &shard.segments,
        below: checkpoint.below(&shard.folder.identity),
        live: None,
    });
    let current = current.iter().map(|shard| Target {
        folder: shard.folder(),
        purge: shard.purge(),
        purged_below: shard.purged_below(),
        segments: shard.catalogue(),
        below: checkpoint.below(&shard.folder().identity),
        live: Some(shard),
    });
    let mut report = TruncateReport::default();
    for target in old.chain(current) {
        target.mark_and_delete(disk, &mut report)?;
    }
    Ok(report)
}

fn check(
    old: &[OldShard],
    current: &[WalShard],
    checkpoint: &Checkpoint,
) -> Result<(), TruncateError> {
    let foreign = |what: String| Err(TruncateError::ForeignCheckpoint { what });
    let ends = old
        .iter()
        .map(|shard| (&shard.folder, shard.next_sequence))
        .chain(current.iter().map(|shard| (shard.folder(), shard.acknowledged_below())));
    let ends: Vec<_> = ends
        .filter(|(folder, _)| folder.identity.generation == checkpoint.generation())
        .map(|(_, end)| end)
        .collect();
    let found = checkpoint.sequences();
    if ends.len() != found.len() {
        let (generation, shards) = (checkpoint.generation(), ends.len());
        return foreign(format!(
            "it names {} shards of generation {generation}, which has {shards} here",
            found.len()
        ));
    }
    match found.iter().zip(&ends).position(|(below, end)| below > end) {
        Some(shard) => foreign(format!(
            "it names sequence {} of shard {shard}, which has only come to {}",
            found[shard], ends[shard]
        )),
        None => Ok(()),
    }
}

impl Target<'_> {
    fn mark_and_delete(
        &self,
        disk: &dyn Disk,
        report: &mut TruncateReport,
    ) -> Result<(), TruncateError> {
        let dir = &self.folder.dir;
        let mut purge = self.purge.lock();
        let last = purge.ok_or_else(|| {
            let failed = io::Error::other("an earlier truncation could not be made durable");
            TruncateError::io("truncating (reopen the log first)", dir)(failed)
        })?;
        if self.below > last.below {
            *purge = None;
            let identity = &self.folder.identity;
            let mark = purge::store(disk, dir, identity, last, self.below)
                .map_err(TruncateError::io("writing the purge mark of", dir))?;
            *purge = Some(mark);
            *self.purged_below.lock() = self.below;
        }
        self.delete(disk, report)
    }

    /// Deletes, oldest first, the segments that lie below the mark. What was
    /// marked before and could not be deleted is tried again.
    fn delete(&self, disk: &dyn Disk, report: &mut TruncateReport) -> Result<(), TruncateError> {
        let dir = &self.folder.dir;
        let mut deleted = 0;
        let durable_below = self.live.map_or(u64::MAX, WalShard::sync_what_is_acknowledged);
        while let Some(oldest) = self.oldest_to_delete(durable_below) {
            let path = self.folder.path(oldest.number);
            match disk.unlink(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(TruncateError::io("deleting", &path)(error));
                }
                _ => {}
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

    /// The oldest segment, where it lies below the mark and is not needed to
    /// know where the shard goes on: a later one says that, durably, or
    /// nothing of the shard is left and the mark itself says so.
    fn oldest_to_delete(&self, durable_below: u64) -> Option<SegmentMeta> {
        let segments = self.segments.lock();
        let oldest = segments.first().copied()?;
        let lies_below = oldest.next_sequence.is_some_and(|next| next <= self.below);
        // A segment's header became durable with its first record.
        let is_succeeded =
            segments.get(1).is_some_and(|successor| successor.first_sequence < durable_below);
        (lies_below && (is_succeeded || self.below == u64::MAX)).then_some(oldest)
    }
}
