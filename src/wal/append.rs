//! Appends of one record.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use super::ShardedWal;
use crate::error::{AppendError, Position, TryAppendError};
use crate::payload::Payload;
use crate::shard::completion::Completion;
use crate::shard::shard::ShardRef;
use crate::util::sync::now;
use crate::wait::waiter::Registration;

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

    /// Appends a record without blocking. The future waits for room in the queue. It resolves
    /// to the record's completion once the record is queued.
    ///
    /// Nothing is appended before the first poll: the record's position is that of the poll that
    /// finds room.
    ///
    /// Cancel-safety: a future that is dropped before it has resolved appends nothing.
    pub fn append_async(&self, key: u64, payload: impl Into<Bytes>) -> AppendFuture<'_> {
        let payload = Some(payload.into().into());
        let shard = ShardRef::Borrowed(self.shard(key));
        AppendFuture { shard, key, payload, registration: None }
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

/// Waits for room in a shard's queue, then queues a record. See
/// [`ShardedWal::append_async`].
#[derive(Debug)]
#[must_use = "nothing is appended until it is polled"]
pub struct AppendFuture<'log> {
    shard: ShardRef<'log>,
    key: u64,
    /// `None` once the record is queued or refused.
    payload: Option<Payload<'static>>,
    registration: Option<Registration>,
}

impl AppendFuture<'_> {
    /// Ends the borrow of the log, also for the completion that it resolves to. See
    /// [`Completion::into_owned`]. Once the log is closed, the future resolves to
    /// [`crate::Cause::Closed`].
    pub fn into_owned(self) -> AppendFuture<'static> {
        let Self { shard, key, payload, registration } = self;
        AppendFuture { shard: shard.into_owned(), key, payload, registration }
    }
}

impl<'log> Future for AppendFuture<'log> {
    type Output = Result<Completion<'log>, TryAppendError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { shard, key, payload, registration } = self.get_mut();
        if let Some(given) = payload.take() {
            match shard.admit(given) {
                Ok(admitted) => *payload = Some(admitted),
                Err(refused) => return Poll::Ready(Err(shard.count_refusal(refused))),
            }
        }
        match shard.shared().poll_append(*key, payload, context, registration) {
            Some(Ok(ticket)) => Poll::Ready(Ok(Completion::queued(shard.clone(), ticket))),
            Some(Err(refused)) => Poll::Ready(Err(shard.count_refusal(refused))),
            None => Poll::Pending,
        }
    }
}
