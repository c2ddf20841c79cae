//! [`SeriesLog`]: what the storage needs of a log. The sharded log and the log behind one mutex
//! both implement it, so that a benchmark can swap them.

use bytes::Bytes;
use shardwal::internals;

use super::storage_error::StorageError;
use shardwal::Completion;
use shardwal::Config;
use shardwal::ShardedWal;
use shardwal::StateMachine;
use shardwal::{
    AppendError, Cause, CloseError, OpenError, Position, RecoveryReport, ShardRecovery,
    TruncateError, TryAppendError,
};
use shardwal::{Checkpoint, CheckpointError, LogId};
use shardwal::{Record, ReplayOptions};

/// Makes the state machine of the shard with the given index.
pub type Machines<'a> = &'a mut dyn FnMut(usize) -> Box<dyn StateMachine>;

/// Receives each replayed record: its position and its stored bytes.
pub type Replayed<'a> = &'a (dyn Fn(Position, &[u8]) -> Result<(), StorageError> + Sync);

/// A log of batches. Each batch belongs to one shard. The methods keep the promises of
/// [`ShardedWal`]'s methods of equal name. A key belongs to the shard that [`ShardedWal::shard_of`]
/// returns for an equal number of shards.
pub trait SeriesLog: Sized + Send + Sync {
    /// Opens the log. Each shard drives a state machine from `machines`.
    ///
    /// # Errors
    /// See [`OpenError`].
    fn open(config: Config, machines: Machines<'_>) -> Result<Self, OpenError>;

    /// Appends to the shard of the key. Blocks while its queue is full.
    fn append(&self, key: u64, batch: Bytes) -> Completion<'_>;

    /// Appends and waits. The calling thread may commit the batch itself.
    ///
    /// # Errors
    /// See [`AppendError`].
    fn append_wait(&self, key: u64, batch: Bytes) -> Result<Position, AppendError> {
        self.append(key, batch).wait()
    }

    /// Appends, or returns the batch at once. Never blocks.
    ///
    /// # Errors
    /// [`TryAppendError`], with the cause and the batch.
    fn try_append(&self, key: u64, batch: Bytes) -> Result<Completion<'_>, TryAppendError>;

    /// Requests a snapshot: calls each shard's state machine with its position.
    fn request_snapshot(&self);

    /// Why the calling thread must not wait for the log, if so: see [`Cause::WouldDeadlock`] and
    /// [`Cause::Forked`].
    fn would_deadlock(&self) -> Option<Cause> {
        None
    }

    /// The permanent id of this log. All zeros if the log has none.
    fn id(&self) -> LogId;

    /// The generation that appends go to.
    fn generation(&self) -> u32;

    /// Blocks until everything appended so far is on stable storage.
    ///
    /// # Errors
    /// A shard has failed.
    fn flush(&self) -> Result<(), AppendError>;

    /// Checks that the log holds everything from the checkpoint on. Without a checkpoint, the log
    /// must hold everything that was ever appended.
    ///
    /// # Errors
    /// What does not fit.
    fn check(&self, checkpoint: Option<&Checkpoint>) -> Result<(), CheckpointError>;

    /// Whether a repair truncated records of this shard. If so, a batch may lack the batches that
    /// it continues.
    fn has_gap(&self, generation: u32, shard: u32) -> bool {
        let _a_log_that_is_never_repaired = (generation, shard);
        false
    }

    /// Replays all records at or after the checkpoint, or all records without one.
    ///
    /// # Errors
    /// The first error of the callback, or the error of the log.
    fn replay_from(
        &self,
        checkpoint: Option<&Checkpoint>,
        options: ReplayOptions,
        callback: Replayed<'_>,
    ) -> Result<(), StorageError>;

    /// Truncates the log below the checkpoint.
    ///
    /// # Errors
    /// See [`TruncateError`].
    fn truncate_before(&self, checkpoint: &Checkpoint) -> Result<(), TruncateError>;

    /// Closes the log. Blocks until queued batches are committed.
    ///
    /// # Errors
    /// The error of the first shard that did not close cleanly.
    fn close(&self) -> Result<(), CloseError>;
}

/// Whether a repair truncated records of this shard.
pub(crate) fn has_gap(report: &RecoveryReport, generation: u32, shard: u32) -> bool {
    let is_gap = |found: &ShardRecovery| {
        (found.generation, found.shard) == (generation, shard) && found.lost_sequences > 0
    };
    report.shards.iter().any(is_gap)
}

impl SeriesLog for ShardedWal {
    fn open(config: Config, machines: Machines<'_>) -> Result<Self, OpenError> {
        Self::open_with_state_machine(config, machines)
    }

    fn append(&self, key: u64, batch: Bytes) -> Completion<'_> {
        self.append(key, batch)
    }

    fn append_wait(&self, key: u64, batch: Bytes) -> Result<Position, AppendError> {
        self.append_wait(key, batch)
    }

    fn try_append(&self, key: u64, batch: Bytes) -> Result<Completion<'_>, TryAppendError> {
        self.try_append(key, batch)
    }

    fn request_snapshot(&self) {
        drop(self.request_snapshot());
    }

    fn would_deadlock(&self) -> Option<Cause> {
        internals::would_deadlock(self)
    }

    fn id(&self) -> LogId {
        self.id()
    }

    fn generation(&self) -> u32 {
        self.durable_checkpoint().generation()
    }

    fn flush(&self) -> Result<(), AppendError> {
        self.flush().wait()
    }

    fn check(&self, checkpoint: Option<&Checkpoint>) -> Result<(), CheckpointError> {
        internals::check(self, checkpoint)
    }

    fn has_gap(&self, generation: u32, shard: u32) -> bool {
        has_gap(self.recovery(), generation, shard)
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
            Err(error) => Err(StorageError::of_replay(error)),
        }
    }

    fn truncate_before(&self, checkpoint: &Checkpoint) -> Result<(), TruncateError> {
        self.truncate_before(checkpoint).map(drop)
    }

    fn close(&self) -> Result<(), CloseError> {
        self.close()
    }
}
