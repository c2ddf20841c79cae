//! Holds of an open log, and retention.

use super::ShardedWal;
use crate::checkpoint::Checkpoint;
use crate::error::{HoldError, TruncateError};
use crate::layout::hold_file::{HoldFile, HoldLimits};
use crate::recovery::replay::reach;
use crate::shard::holds::Holder;
use crate::shard::retention::Retention;
use crate::shard::truncate::TruncateReport;

/// A hold of an open log, to move it. Dropping this value does not release the hold.
#[derive(Clone, Debug)]
pub struct Hold<'log> {
    log: &'log ShardedWal,
    name: String,
}

impl Hold<'_> {
    /// The hold's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Moves the hold forward. The new position is durable when this returns. It costs two
    /// syncs, so call it every few seconds and not for each record. Blocks for them.
    ///
    /// # Errors
    /// See [`HoldError`]. [`HoldError::Dropped`] if the hold was dropped beyond its limits.
    pub fn advance(&self, checkpoint: &Checkpoint) -> Result<(), HoldError> {
        self.log.check_may_hold()?;
        let check = |checkpoint: &Checkpoint| self.log.check(Some(checkpoint));
        self.log.holds.advance(&self.name, checkpoint, check)
    }
}

impl ShardedWal {
    /// Sets a hold: a named position, stored in the log's directory. No truncation removes a
    /// record at or above it, in this process or a later one, until the hold advances, is
    /// released, or exceeds its limits. If there is a hold of this name, it moves forward and
    /// gets these limits.
    ///
    /// The hold is durable when this returns. It costs two syncs and blocks for them, but never
    /// for an append. A log has at most [`crate::HOLDS_MAX`] holds.
    ///
    /// Beyond a limit, [`crate::HoldPolicy`] says what happens. Only full segments count, so a
    /// hold at the end of the log never exceeds one.
    ///
    /// # Errors
    /// See [`HoldError`]. [`HoldError::Checkpoint`] if the log no longer has every record from
    /// the checkpoint on.
    pub fn hold(
        &self,
        name: &str,
        checkpoint: &Checkpoint,
        limits: HoldLimits,
    ) -> Result<Hold<'_>, HoldError> {
        self.check_may_hold()?;
        let (name, checkpoint) = (name.to_owned(), checkpoint.clone());
        let hold = HoldFile { name: name.clone(), checkpoint, limits, dropped: None };
        self.holds.set(hold, |checkpoint| self.check(Some(checkpoint)))?;
        Ok(Hold { log: self, name })
    }

    /// Releases a hold, also one that was dropped. It is gone durably when this returns. Needs no
    /// free space. Deletes no segment: the next truncation does.
    ///
    /// # Errors
    /// See [`HoldError`]. [`HoldError::NoSuchHold`] if there is none of this name.
    pub fn release_hold(&self, name: &str) -> Result<(), HoldError> {
        self.check_may_hold()?;
        self.holds.release(name)
    }

    /// Lists the holds, sorted by name: their positions, their limits, and what they keep. Reads
    /// the times of segment files. [`Holder::list`] does the same without an open log.
    #[must_use]
    pub fn holders(&self) -> Vec<Holder> {
        self.holds.list(&reach(self.id(), &self.plans()))
    }

    /// Deletes the oldest full segments that are beyond a limit, in all shards. It truncates
    /// before the first record that is to be kept, so what
    /// [`ShardedWal::truncate_before`] says applies here too: no hold is passed, and the report
    /// says which holds kept what. Nothing is deleted unless this is called.
    ///
    /// Segments leave in the order in which they were last written. An earlier generation leaves
    /// as a whole before a later one loses anything. A file's time of modification is its age: a
    /// copy of a log may have new times, and an open changes that of the newest segment.
    ///
    /// **It deletes records that no state may have**: use it for logs whose records expire.
    ///
    /// # Errors
    /// See [`TruncateError`]. `Io` with `Unsupported` if there is a limit in age, and the file
    /// system does not report times.
    pub fn retain(&self, retention: Retention) -> Result<TruncateReport, TruncateError> {
        self.truncate_at(|| retention.checkpoint(self.id(), self.holds.shards()))
    }

    fn check_may_hold(&self) -> Result<(), HoldError> {
        self.would_deadlock().map_or(Ok(()), |cause| Err(HoldError::NotHere(cause)))
    }
}
