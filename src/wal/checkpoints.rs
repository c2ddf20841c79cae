//! Snapshots, checkpoints and truncation of an open log.

use super::ShardedWal;
use crate::checkpoint::Checkpoint;
use crate::error::TruncateError;
use crate::recovery::replay::reach;
use crate::shard::snapshot::SnapshotRequest;
use crate::shard::truncate::{TruncateReport, is_empty, truncate};

impl ShardedWal {
    /// Requests a snapshot of the state machines. Does not block.
    ///
    /// Each shard's writer calls its [`StateMachine::snapshot`] soon, once, between two commits.
    /// The state then holds every record below the `next` that it gets, and no other. Appends
    /// go on. The result says when all shards have done so, and the checkpoint to store with
    /// the state. It may be dropped.
    ///
    /// A request that comes before a shard has begun the snapshot of an earlier request shares
    /// that snapshot. In a log without state machines, the checkpoint lies between two commits
    /// of each shard.
    ///
    /// Below a free-space limit, or after a full disk, the writer begins a new segment first. A
    /// truncation at the snapshot can then delete all earlier segments of the shard. A shard
    /// that has failed or closed takes no snapshot, because its state machine is dropped.
    ///
    /// [`StateMachine::snapshot`]: crate::StateMachine::snapshot
    pub fn request_snapshot(&self) -> SnapshotRequest<'_> {
        SnapshotRequest::new(self.id(), &self.shards)
    }

    /// The checkpoint of stable storage. Every record below it is durable, in every mode, and
    /// no sequence below it can be lost and given to another record. In the modes
    /// [`crate::Durability::Interval`] and [`crate::Durability::Buffered`] it is behind the
    /// acknowledged records. [`ShardedWal::flush`] brings it up to them.
    ///
    /// It does not say what the caller has applied. A record may be durable before the caller
    /// gets its answer, so a truncation here may delete records that the caller's state does
    /// not hold yet. For a snapshot of state, use [`ShardedWal::request_snapshot`] or
    /// [`crate::Applied`].
    #[must_use]
    pub fn durable_checkpoint(&self) -> Checkpoint {
        let generation = self.shards[0].shard_dir().identity.generation;
        let below = self.shards.iter().map(|shard| shard.durable_below());
        Checkpoint::new(generation, below).of_log(self.id())
    }

    /// Truncates the log below the checkpoint. Records below it will never be replayed again,
    /// and segments that hold no others are deleted. The truncation is durable when this
    /// returns, and needs no free space. Segments are deleted as a whole, and the active
    /// segment stays. Generations without records are removed, except the newest of them.
    ///
    /// **It passes no hold** ([`ShardedWal::hold`]). In each shard it ends at the lowest hold, if
    /// that is below the checkpoint. Then a replay returns the records from the hold on, and a
    /// replay from the checkpoint leaves those out that are below it. The report names the
    /// holds. A hold that exceeds its limits may be dropped first: see [`crate::HoldPolicy`].
    ///
    /// Blocks until the files are deleted. If the log is in use, files of more than 8 MiB are
    /// freed in pieces, with pauses of up to 50 ms, so that appends need not wait for the disk.
    /// Then 4 GiB take up to 30 s longer than the deletions alone. There are no pauses if room
    /// is needed, or once the log is being closed.
    ///
    /// # Errors
    /// See [`TruncateError`]. Nothing at or above the checkpoint is changed.
    pub fn truncate_before(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<TruncateReport, TruncateError> {
        self.truncate_at(|| Ok(Some(checkpoint.clone())))
    }

    /// Truncates at the checkpoint that `choose` returns, if it returns one.
    pub(super) fn truncate_at(
        &self,
        choose: impl FnOnce() -> Result<Option<Checkpoint>, TruncateError>,
    ) -> Result<TruncateReport, TruncateError> {
        if let Some(cause) = self.would_deadlock() {
            return Err(TruncateError::NotHere(cause));
        }
        let lock = self.lock.lock();
        if lock.is_none() {
            return Err(TruncateError::Closed);
        }
        let Some(checkpoint) = choose()? else { return Ok(TruncateReport::default()) };
        let reach = reach(self.id(), &self.plans());
        reach.check_position(&checkpoint).map_err(TruncateError::Checkpoint)?;
        let truncated = truncate(&self.old, &self.shards, &checkpoint, &self.holds);
        if truncated.is_ok() {
            self.generations.retire(|number| is_empty(&self.old, number));
        }
        // Update the free space now, rather than at the next housekeeping check. If it cannot
        // be read, the housekeeping thread tries again.
        drop(self.space.check());
        truncated
    }
}
