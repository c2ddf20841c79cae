//! Appends of one record.

use std::time::Duration;

use super::ShardedWal;
use crate::error::{AppendError, Position, TryAppendError};
use crate::payload::Payload;
use crate::shard::append_future::AppendFuture;
use crate::shard::completion::Completion;
use crate::shard::reserve::ReserveFuture;
use crate::shard::shard::ShardRef;
use crate::util::sync::now;

impl ShardedWal {
    /// Appends a record. Blocks while its shard's queue is full. Records that one thread
    /// appends with one key are written in that order. The completion may be dropped: the
    /// record is still written.
    ///
    /// The completion also reports a refused record. To get the payload back, use
    /// [`ShardedWal::try_append`]. To wait at once, use [`ShardedWal::append_wait`], which is
    /// cheaper.
    ///
    /// Do not hold a lock that a waker, a payload's `Drop` or a [`crate::StateMachine`] takes:
    /// the shard's writer runs them, and this call may wait for that writer. Inside such code,
    /// a call that would block is refused with [`crate::Cause::WouldDeadlock`].
    pub fn append<'p>(&self, key: u64, payload: impl Into<Payload<'p>>) -> Completion<'_> {
        let shard = self.shard(key);
        let admitted = shard.admit(payload.into());
        let appended = admitted.and_then(|payload| shard.append(key, payload, None));
        appended.unwrap_or_else(|refused| Completion::refused(shard.count_refusal(refused).cause))
    }

    /// Appends a record and waits until it is acknowledged. It does what `append(..).wait()`
    /// does, but if the shard is idle, the calling thread commits the record itself, together
    /// with all records queued before it. No other thread is woken for that. Meanwhile the
    /// calling thread may run the log's [`crate::StateMachine`].
    ///
    /// The calling thread may run the wakers of other tasks, and the `Drop` of other
    /// callers' payloads. Do not hold a lock that one of them takes: the thread would wait
    /// for itself.
    ///
    /// # Errors
    /// See [`AppendError`]. Calls from a waker, a payload's `Drop` or a [`crate::StateMachine`] are
    /// always refused, with [`crate::Cause::WouldDeadlock`].
    pub fn append_wait<'p>(
        &self,
        key: u64,
        payload: impl Into<Payload<'p>>,
    ) -> Result<Position, AppendError> {
        let shard = self.shard(key);
        let admitted = shard.admit(payload.into());
        let appended = admitted.and_then(|payload| shard.append_inline(key, payload));
        appended
            .unwrap_or_else(|refused| Completion::refused(shard.count_refusal(refused).cause))
            .wait()
    }

    /// Appends a record, or returns its payload at once. Never blocks.
    ///
    /// # Errors
    /// [`TryAppendError`], with the cause and the payload.
    pub fn try_append<'p>(
        &self,
        key: u64,
        payload: impl Into<Payload<'p>>,
    ) -> Result<Completion<'_>, TryAppendError> {
        let shard = self.shard(key);
        let admitted = shard.admit(payload.into());
        let appended = admitted.and_then(|payload| shard.try_append(key, payload));
        appended.map_err(|refused| shard.count_refusal(refused))
    }

    /// Appends a record. Blocks while the queue is full, for at most `timeout`.
    ///
    /// # Errors
    /// [`TryAppendError`], with the cause and the payload.
    pub fn append_timeout<'p>(
        &self,
        key: u64,
        payload: impl Into<Payload<'p>>,
        timeout: Duration,
    ) -> Result<Completion<'_>, TryAppendError> {
        let deadline = now().checked_add(timeout);
        let shard = self.shard(key);
        let admitted = shard.admit(payload.into());
        let appended = admitted.and_then(|payload| shard.append(key, payload, deadline));
        appended.map_err(|refused| shard.count_refusal(refused))
    }

    /// Appends a record for a task. The future resolves once the record is acknowledged. It never
    /// blocks: while the queue is full, the record waits in line for room, in the order of the
    /// first polls. Records that one task polls with one key are written in that order.
    ///
    /// To wait for room alone, and to keep the payload until there is some, use
    /// [`ShardedWal::reserve`]. To await many records at once, await the last position with
    /// [`ShardedWal::acknowledged`], which costs one wake-up.
    ///
    /// # Errors
    /// See [`crate::AppendError`]. A refused record is `NotWritten`.
    ///
    /// Cancel-safety: see [`AppendFuture`].
    pub fn append_async<'a>(
        &'a self,
        key: u64,
        payload: impl Into<Payload<'a>>,
    ) -> AppendFuture<'a> {
        AppendFuture::new(ShardRef::Borrowed(self.shard(key)), key, payload.into())
    }

    /// Waits for room for one record of at most `bytes` payload bytes with this key. The future
    /// resolves to a [`crate::Permit`], which appends without waiting. Room is given in the order
    /// of the first polls, to requests and to appends that wait for it.
    ///
    /// # Errors
    /// `NotWritten`, as for an append: the log is closed or has failed, `bytes` is above
    /// [`crate::BATCH_BYTES_MAX`], or the disk is full. [`crate::Cause::QueueFull`] is none of
    /// them: the future waits.
    ///
    /// Cancel-safety: see [`ReserveFuture`].
    pub fn reserve(&self, key: u64, bytes: usize) -> ReserveFuture<'_> {
        ReserveFuture::new(ShardRef::Borrowed(self.shard(key)), key, bytes)
    }

    /// Returns a completion of the record at `position`, which must be one of this log. It
    /// resolves once that record, and with it every earlier record of its shard, is answered.
    /// Any number of tasks and threads may wait for one position. The answer is that record's:
    /// only its own completion says that an earlier record was refused.
    ///
    /// To await many appends, await the last position of each shard. That takes one wake-up,
    /// where each record's own completion takes one each.
    ///
    /// The position may be one that no record has yet. If the log closes before it has one, the
    /// completion resolves to `NotWritten` with [`crate::Cause::Closed`]. A position from before
    /// this open resolves to itself at once: its record was recovered, or is not in the log any
    /// more.
    pub fn acknowledged(&self, position: Position) -> Completion<'_> {
        let current = self.shards[0].shard_dir().identity.generation;
        let shard = usize::try_from(position.shard).ok().and_then(|index| self.shards.get(index));
        match shard {
            Some(shard) if position.generation == current => {
                Completion::of_position(ShardRef::Borrowed(shard), position)
            }
            _ => Completion::answered(Ok(position)),
        }
    }
}
