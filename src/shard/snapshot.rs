//! The result of a snapshot request: a checkpoint, once every shard has taken its part.
//!
//! This file does not know the state machines, nor how a writer is driven.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::checkpoint::{Checkpoint, LogId};
use crate::commit::snapshots::Snapshot;
use crate::error::{AppendError, Cause, SnapshotError};
use crate::shard::completion::Flush;
use crate::shard::shard::WalShard;
use crate::util::sync::Arc;

/// The outcome of [`crate::ShardedWal::request_snapshot`]: wait for it, await it, or drop it.
///
/// It resolves to the snapshot's [`Checkpoint`] once the [`crate::StateMachine`] of every shard
/// has returned from [`crate::StateMachine::snapshot`], and every record below the checkpoint
/// is on stable storage, in every durability mode. The checkpoint holds the `next` that each
/// shard's state machine got for this request. Store it with the state of this snapshot, then
/// truncate below it.
///
/// It always resolves: a shard that fails or closes resolves it with an error.
///
/// Cancel safety: if it is dropped, the snapshots are taken nevertheless. Nothing is left
/// behind. As a future it needs no runtime, and resolves once.
#[derive(Debug)]
pub struct SnapshotRequest<'log> {
    log: LogId,
    shards: &'log [Arc<WalShard>],
    /// Each shard's number for this request.
    requests: Vec<u64>,
    /// The answers of the first shards.
    below: Vec<u64>,
    /// Present once every shard has answered.
    flush: Option<Flush<'log>>,
}

impl<'log> SnapshotRequest<'log> {
    pub(crate) fn new(log: LogId, shards: &'log [Arc<WalShard>]) -> Self {
        let requests = shards.iter().map(|shard| shard.snapshots().add()).collect();
        // Each writer is woken after its request is there to be found.
        shards.iter().for_each(|shard| shard.committer().queue.request_snapshot());
        Self { log, shards, requests, below: Vec::new(), flush: None }
    }

    /// Blocks until the snapshot is taken and the records that it covers are on stable storage.
    ///
    /// # Errors
    /// See [`SnapshotError`]. A thread that commits must not wait, and gets
    /// [`Cause::WouldDeadlock`].
    pub fn wait(mut self) -> Result<Checkpoint, SnapshotError> {
        while let Some((shard, request)) = self.next_shard() {
            let answer = match (shard.snapshots().answer(request), shard.would_deadlock()) {
                (Some(answer), _) => answer,
                (None, Some(cause)) => return Err(self.error(cause)),
                (None, None) => shard.snapshots().wait(request),
            };
            self.note(answer)?;
        }
        Flush::of(self.shards).wait().map_err(of_flush)?;
        Ok(self.checkpoint())
    }

    /// The next shard that has not answered yet, and its number for this request.
    fn next_shard(&self) -> Option<(&'log Arc<WalShard>, u64)> {
        let at = self.below.len();
        self.shards.get(at).map(|shard| (shard, self.requests[at]))
    }

    /// Keeps the answer of the next shard.
    fn note(&mut self, answer: Snapshot) -> Result<(), SnapshotError> {
        match answer {
            Snapshot::Taken(next) => {
                self.below.push(next);
                Ok(())
            }
            Snapshot::Ended => {
                let cause = self.shards[self.below.len()].end();
                Err(self.error(cause.unwrap_or(Cause::Closed)))
            }
        }
    }

    fn error(&self, cause: Cause) -> SnapshotError {
        SnapshotError { shard: self.below.len(), cause }
    }

    fn checkpoint(&self) -> Checkpoint {
        let generation = self.shards[0].shard_dir().identity.generation;
        Checkpoint::new(generation, self.below.iter().copied()).of_log(self.log)
    }
}

fn of_flush(error: AppendError) -> SnapshotError {
    let shard = error.position().map_or(0, |position| position.shard as usize);
    SnapshotError { shard, cause: error.cause().clone() }
}

impl Future for SnapshotRequest<'_> {
    type Output = Result<Checkpoint, SnapshotError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        while let Some((shard, request)) = this.next_shard() {
            let answer = match shard.forked() {
                Some(cause) => return Poll::Ready(Err(this.error(cause))),
                None => shard.snapshots().poll(request, context.waker()),
            };
            match answer {
                None => return Poll::Pending,
                Some(answer) => this.note(answer)?,
            }
        }
        let flush = this.flush.get_or_insert_with(|| Flush::of(this.shards));
        match Pin::new(flush).poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(of_flush(error))),
            Poll::Ready(Ok(())) => Poll::Ready(Ok(this.checkpoint())),
        }
    }
}

impl Drop for SnapshotRequest<'_> {
    fn drop(&mut self) {
        let requests = self.shards.iter().zip(&self.requests);
        requests.for_each(|(shard, request)| shard.snapshots().remove(*request));
    }
}
