//! Room for one record, reserved before the record exists.
//!
//! This file does not know how room is counted, nor who grants it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::{AppendError, Cause};
use crate::payload::Payload;
use crate::queue::backlog::Admission;
use crate::queue::queue::PushError;
use crate::shard::append_future::AppendFuture;
use crate::shard::shard::ShardRef;
use crate::shard::task_append::PendingTask;

/// Waits for room for one record: see [`crate::ShardedWal::reserve`]. Lines up at its first poll.
///
/// Cancel-safety: a future that is dropped leaves the line, and appends nothing.
#[derive(Debug)]
#[must_use = "nothing is reserved until it is polled"]
pub struct ReserveFuture<'a> {
    shard: ShardRef<'a>,
    key: u64,
    bytes: usize,
    /// The reservation, while it waits.
    pending: Option<PendingTask>,
}

impl<'a> ReserveFuture<'a> {
    pub(crate) fn new(shard: ShardRef<'a>, key: u64, bytes: usize) -> Self {
        Self { shard, key, bytes, pending: None }
    }

    /// Ends the borrow of the log. See [`crate::Completion::into_owned`].
    pub fn into_owned(mut self) -> ReserveFuture<'static> {
        let shard = self.shard.clone().into_owned();
        ReserveFuture { shard, key: self.key, bytes: self.bytes, pending: self.pending.take() }
    }

    fn reserved_bytes(&self) -> u32 {
        u32::try_from(self.bytes).expect("the first poll has checked it")
    }

    fn permit(&self) -> Permit<'a> {
        let (shard, reserved) = (self.shard.clone(), self.reserved_bytes());
        Permit { shard, key: self.key, reserved, is_used: false }
    }

    fn refused(&mut self, cause: Cause) -> Poll<Result<Permit<'a>, AppendError>> {
        self.shard.recorder().refused_append(&cause, 1);
        Poll::Ready(Err(AppendError::NotWritten { position: None, cause }))
    }
}

impl<'a> Future for ReserveFuture<'a> {
    type Output = Result<Permit<'a>, AppendError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(pending) = &mut this.pending else {
            return match this.shard.reserve(this.bytes, context.waker()) {
                Ok(None) => Poll::Ready(Ok(this.permit())),
                Ok(pending) => {
                    this.pending = pending;
                    Poll::Pending
                }
                Err(cause) => this.refused(cause),
            };
        };
        let admission = match pending.poll(&this.shard, context) {
            Ok(admission) => admission,
            Err(cause) => return this.refused(cause),
        };
        let answer = match admission {
            Admission::Waiting => return Poll::Pending,
            Admission::Admitted(_) => Poll::Ready(Ok(this.permit())),
            Admission::Refused => this.refused(this.shard.refusal(PushError::Closed)),
        };
        this.pending = None;
        answer
    }
}

impl Drop for ReserveFuture<'_> {
    /// Withdraws the reservation, or gives it back.
    fn drop(&mut self) {
        let Some(PendingTask { push, .. }) = self.pending.take() else { return };
        let queue = &self.shard.committer().queue;
        let has_ended = queue.withdraw(&push).is_none();
        if has_ended && matches!(push.admission(), Admission::Admitted(_)) {
            queue.unreserve(self.reserved_bytes());
        }
    }
}

/// Room for one record in a shard's queue. Dropping it gives the room back.
///
/// The room counts against [`crate::Config::queue_capacity`] and
/// [`crate::Config::queue_bytes`], so hold a permit only until the record is ready. A permit that
/// is leaked keeps its room until the log is closed.
#[derive(Debug)]
#[must_use = "the room is given back when it is dropped"]
pub struct Permit<'a> {
    shard: ShardRef<'a>,
    key: u64,
    reserved: u32,
    is_used: bool,
}

impl<'a> Permit<'a> {
    /// Appends a record with the permit's key. Does not block or wait. The record is queued when
    /// this returns, unless the shard has ended or the payload is larger than what was reserved:
    /// then the future reports it. A lack of free space since the reservation does not matter.
    ///
    /// The room is the record's own: it does not wait for appends in line, also not for those of
    /// one task with one key. In rare cases the record lines up behind those instead, because
    /// another append had missed the reservation: [`AppendFuture::position`] is `None` then.
    ///
    /// The future resolves to the answer. It may be dropped: the record is still written, unless
    /// it is still in line as the log is closed.
    pub fn append<'p>(mut self, payload: impl Into<Payload<'p>>) -> AppendFuture<'a> {
        let payload = payload.into();
        self.is_used = true;
        let appended = self.shard.shared().append_reserved(self.key, payload, self.reserved);
        AppendFuture::begun(self.shard.clone(), self.key, appended)
    }

    /// Ends the borrow of the log. See [`crate::Completion::into_owned`].
    pub fn into_owned(mut self) -> Permit<'static> {
        self.is_used = true;
        let shard = self.shard.clone().into_owned();
        Permit { shard, key: self.key, reserved: self.reserved, is_used: false }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.is_used {
            self.shard.committer().queue.unreserve(self.reserved);
        }
    }
}
