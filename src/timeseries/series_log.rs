//! What the storage needs of a log, so that the sharded one and the one behind
//! a mutex can be swapped in one line.

use bytes::Bytes;

use super::storage_error::StorageError;
use crate::checkpoint::Checkpoint;
use crate::completion::Completion;
use crate::config::Config;
use crate::error::{
    AppendError, CloseError, OpenError, Position, Refused, ReplayError, TruncateError,
};
use crate::log::ShardedWal;
use crate::recovery::ShardRecovery;
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

    /// What tells it from other logs, for ever; zeros where nothing does.
    fn id(&self) -> [u8; 16];

    /// The generation that is written to.
    fn generation(&self) -> u32;

    /// Waits until all that was appended is on stable storage.
    ///
    /// # Errors
    /// A shard has failed.
    fn flush(&self) -> Result<(), AppendError>;

    /// A place above the checkpoint that was truncated all the same: what stood
    /// in between is gone.
    fn truncated_above(&self, checkpoint: &Checkpoint) -> Option<Position>;

    /// Where the log ends, if it ends below the checkpoint: what it is given
    /// next would be taken for what the checkpoint covers.
    fn ends_below(&self, checkpoint: &Checkpoint) -> Option<Position>;

    /// Whether a repair has given up records of this shard: a batch may lack
    /// those that it continues.
    fn has_gap(&self, generation: u32, shard: u32) -> bool {
        let _a_log_that_is_never_repaired = (generation, shard);
        false
    }

    /// Replays what is not below the checkpoint.
    ///
    /// # Errors
    /// The callback's first, or the log's.
    fn replay_from(
        &self,
        checkpoint: &Checkpoint,
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

    fn id(&self) -> [u8; 16] {
        self.log_id()
    }

    fn generation(&self) -> u32 {
        self.checkpoint().generation()
    }

    fn flush(&self) -> Result<(), AppendError> {
        self.flush().wait()
    }

    fn truncated_above(&self, checkpoint: &Checkpoint) -> Option<Position> {
        let shards = self.recovery().shards.iter();
        let mut gaps = shards
            .filter(|shard| shard.purged_below > checkpoint.below(shard.generation, shard.shard));
        gaps.next().map(|shard| Position {
            generation: shard.generation,
            shard: shard.shard,
            sequence: shard.purged_below,
        })
    }

    fn ends_below(&self, checkpoint: &Checkpoint) -> Option<Position> {
        let generation = checkpoint.generation();
        let next = |shard: u32| {
            let mut found = self.recovery().shards.iter();
            let is_it =
                |found: &&ShardRecovery| (found.generation, found.shard) == (generation, shard);
            found.find(is_it).map_or(0, |found| found.next_sequence)
        };
        let mut shards = checkpoint.sequences().iter().zip(0..);
        shards.find_map(|(below, shard)| {
            let sequence = next(shard);
            (sequence < *below).then_some(Position { generation, shard, sequence })
        })
    }

    fn has_gap(&self, generation: u32, shard: u32) -> bool {
        self.recovery().shards.iter().any(|found| {
            (found.generation, found.shard) == (generation, shard) && found.gap_sequences > 0
        })
    }

    fn replay_from(
        &self,
        checkpoint: &Checkpoint,
        options: ReplayOptions,
        callback: Replayed<'_>,
    ) -> Result<(), StorageError> {
        let each = |record: &Record<'_>| callback(record.position(), record.payload());
        match self.replay_from(checkpoint, options, each) {
            Ok(_) => Ok(()),
            Err(ReplayError::Callback(error)) => Err(error),
            Err(ReplayError::Log(error)) => Err(StorageError::Log(error)),
        }
    }

    fn truncate_before(&self, checkpoint: &Checkpoint) -> Result<(), TruncateError> {
        self.truncate_before(checkpoint).map(drop)
    }

    fn close(&self) -> Result<(), CloseError> {
        self.close()
    }
}
