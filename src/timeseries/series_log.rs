//! What the storage needs of a log, so that the sharded one and the one behind
//! a mutex can be swapped in one line.

use bytes::Bytes;

use super::storage_error::StorageError;
use crate::checkpoint::{Checkpoint, CheckpointError, LogId};
use crate::completion::Completion;
use crate::config::Config;
use crate::error::{
    AppendError, Cause, CloseError, OpenError, Position, Refused, ReplayError, TruncateError,
};
use crate::log::ShardedWal;
use crate::replay::{Record, ReplayOptions};
use crate::state_machine::StateMachine;

/// Makes a shard's state machine.
pub type Machines<'a> = &'a mut dyn FnMut(usize) -> Box<dyn StateMachine>;

/// Takes a record of a replay: its place, and what was stored.
pub type Replayed<'a> = &'a (dyn Fn(Position, &[u8]) -> Result<(), StorageError> + Sync);

/// A log of batches, each of which lives in one shard. What each method
/// promises is said at [`ShardedWal`]'s method of the same name. A key lives in
/// the shard that [`ShardedWal::shard_of`] names for as many shards.
pub trait SeriesLog: Sized + Send + Sync {
    /// Opens the log, whose shards each drive a state machine.
    ///
    /// # Errors
    /// See [`OpenError`].
    fn open(config: Config, machines: Machines<'_>) -> Result<Self, OpenError>;

    /// Appends to the shard of the key, blocking while there is no room.
    fn append(&self, key: u64, batch: Bytes) -> Completion<'_>;

    /// Appends and waits, if need be by committing the batch itself.
    ///
    /// # Errors
    /// See [`AppendError`].
    fn append_wait(&self, key: u64, batch: Bytes) -> Result<Position, AppendError> {
        self.append(key, batch).wait()
    }

    /// Appends, or gives the batch back at once.
    ///
    /// # Errors
    /// [`Refused`], with the reason.
    fn try_append(&self, key: u64, batch: Bytes) -> Result<Completion<'_>, Refused>;

    /// Has each shard's machine called with its place.
    fn mark(&self);

    /// Why the calling thread must not wait for the log, if it must not: see
    /// [`Cause::WouldDeadlock`] and [`Cause::Forked`].
    fn cannot_wait(&self) -> Option<Cause> {
        None
    }

    /// What tells it from other logs, for ever; zeros where nothing does.
    fn id(&self) -> LogId;

    /// The generation that is written to.
    fn generation(&self) -> u32;

    /// Waits until all that was appended is on stable storage.
    ///
    /// # Errors
    /// A shard has failed.
    fn flush(&self) -> Result<(), AppendError>;

    /// Whether the log has everything from the checkpoint on; without one,
    /// everything that was ever appended.
    ///
    /// # Errors
    /// What does not fit.
    fn check(&self, checkpoint: Option<&Checkpoint>) -> Result<(), CheckpointError>;

    /// Whether a repair has given up records of this shard: a batch may lack
    /// those that it continues.
    fn has_gap(&self, generation: u32, shard: u32) -> bool {
        let _a_log_that_is_never_repaired = (generation, shard);
        false
    }

    /// Replays what is not below the checkpoint; everything without one.
    ///
    /// # Errors
    /// The callback's first, or the log's.
    fn replay_from(
        &self,
        checkpoint: Option<&Checkpoint>,
        options: ReplayOptions,
        callback: Replayed<'_>,
    ) -> Result<(), StorageError>;

    /// Gives up what is below the checkpoint.
    ///
    /// # Errors
    /// See [`TruncateError`].
    fn truncate_before(&self, checkpoint: &Checkpoint) -> Result<(), TruncateError>;

    /// Closes it.
    ///
    /// # Errors
    /// The first shard's.
    fn close(&self) -> Result<(), CloseError>;
}

impl SeriesLog for ShardedWal {
    fn open(config: Config, machines: Machines<'_>) -> Result<Self, OpenError> {
        Self::open_with(config, machines)
    }

    fn append(&self, key: u64, batch: Bytes) -> Completion<'_> {
        self.append(key, batch)
    }

    fn append_wait(&self, key: u64, batch: Bytes) -> Result<Position, AppendError> {
        self.append_wait(key, batch)
    }

    fn try_append(&self, key: u64, batch: Bytes) -> Result<Completion<'_>, Refused> {
        self.try_append(key, batch)
    }

    fn mark(&self) {
        self.mark();
    }

    fn cannot_wait(&self) -> Option<Cause> {
        self.cannot_wait()
    }

    fn id(&self) -> LogId {
        self.id()
    }

    fn generation(&self) -> u32 {
        self.checkpoint().generation()
    }

    fn flush(&self) -> Result<(), AppendError> {
        self.flush().wait()
    }

    fn check(&self, checkpoint: Option<&Checkpoint>) -> Result<(), CheckpointError> {
        self.check(checkpoint)
    }

    fn has_gap(&self, generation: u32, shard: u32) -> bool {
        self.recovery().shards.iter().any(|found| {
            (found.generation, found.shard) == (generation, shard) && found.gap_sequences > 0
        })
    }

    fn replay_from(
        &self,
        checkpoint: Option<&Checkpoint>,
        options: ReplayOptions,
        callback: Replayed<'_>,
    ) -> Result<(), StorageError> {
        let each = |record: &Record<'_>| callback(record.position(), record.payload());
        let replayed = match checkpoint {
            Some(checkpoint) => self.replay_from(checkpoint, options, each),
            None => self.replay(options, each),
        };
        match replayed {
            Ok(_) => Ok(()),
            Err(ReplayError::Checkpoint(error)) => Err(StorageError::Checkpoint(error)),
            Err(ReplayError::Callback(error)) => Err(error),
            Err(ReplayError::Log(error)) => Err(StorageError::Log(error)),
            Err(ReplayError::NotHere(cause)) => Err(StorageError::NotHere(cause)),
        }
    }

    fn truncate_before(&self, checkpoint: &Checkpoint) -> Result<(), TruncateError> {
        self.truncate_before(checkpoint).map(drop)
    }

    fn close(&self) -> Result<(), CloseError> {
        self.close()
    }
}
