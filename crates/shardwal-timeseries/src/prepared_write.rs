//! [`PreparedWrite`]: an admitted write that has no effect yet. It does not know the samples.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::admission::ShardBatch;
use super::storage_error::WriteError;
use super::writing::answer;
use shardwal::{AppendError, AppendFuture, Cause, Permit, ShardedWal};

/// A write that was checked against every limit, and is not queued yet. Dropping it gives the room
/// back, and nothing is written.
#[derive(Debug)]
#[must_use = "nothing is written until it is awaited"]
pub struct PreparedWrite<'log> {
    log: &'log ShardedWal,
    /// By shard. The parts of one shard are adjacent.
    parts: Vec<ShardBatch<'log>>,
    left_out: Vec<usize>,
}

impl<'log> PreparedWrite<'log> {
    pub(crate) fn new(
        log: &'log ShardedWal,
        parts: Vec<ShardBatch<'log>>,
        left_out: Vec<usize>,
    ) -> Self {
        Self { log, parts, left_out }
    }

    /// New series that are not written, because the storage has no room for them: indices in the
    /// batch, in order. Each shard takes the first that fit.
    #[must_use]
    pub fn left_out(&self) -> &[usize] {
        &self.left_out
    }

    /// Writes the samples, and resolves once they are applied. Never blocks the thread.
    ///
    /// Either every shard that the write needs has room in its queue, or the write is refused and
    /// nothing is queued. A write that is larger than the queues is queued part by part, as they
    /// become free.
    ///
    /// # Errors
    /// [`WriteError::Refused`] if a queue or the disk is full: nothing was queued, except for a
    /// write larger than a queue, if the disk fills up meanwhile. See [`WriteError`].
    ///
    /// Cancel-safety: parts that are queued when the future is dropped are written, and the others
    /// are not.
    pub async fn write(self) -> Result<(), WriteError> {
        let Self { log, parts, left_out: _ } = self;
        let (mut first, mut others) = (Vec::new(), Vec::new());
        let mut shard = None;
        for part in parts {
            let is_first = shard.replace(part.key) != Some(part.key);
            if is_first {
                first.push((reserve_now(log, &part)?, part));
            } else {
                others.push(part);
            }
        }
        let mut queued = Vec::with_capacity(first.len() + others.len());
        for (permit, part) in first {
            queued.push(append(permit, part)?);
        }
        for part in others {
            let permit = log.reserve(part.key, part.payload.len()).await.map_err(answer)?;
            queued.push(append(permit, part)?);
        }
        for part in queued {
            part.await.map_err(answer)?;
        }
        Ok(())
    }
}

/// Reserves room for a part, or refuses it.
fn reserve_now<'log>(
    log: &'log ShardedWal,
    part: &ShardBatch<'_>,
) -> Result<Permit<'log>, WriteError> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(log.reserve(part.key, part.payload.len())).poll(&mut context) {
        Poll::Ready(reserved) => reserved.map_err(answer),
        // Dropping the future leaves the line.
        Poll::Pending => Err(WriteError::Refused(Cause::QueueFull)),
    }
}

/// Queues a part. A part that is refused returns its admitted samples.
fn append<'log>(
    permit: Permit<'log>,
    part: ShardBatch<'_>,
) -> Result<AppendFuture<'log>, WriteError> {
    let ShardBatch { key: _, payload, admitted } = part;
    let mut queued = permit.append(payload);
    if queued.position().is_none() {
        let mut context = Context::from_waker(Waker::noop());
        let polled: Poll<Result<_, AppendError>> = pin!(&mut queued).poll(&mut context);
        if let Poll::Ready(Err(error)) = polled {
            return Err(answer(error));
        }
    }
    admitted.queued();
    Ok(queued)
}
