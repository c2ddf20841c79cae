//! Appends of tasks to one shard, which never block: what finds no room lines up.
//!
//! This file does not know how a record is checked, nor how room is given.

use std::task::{Context, Waker};

use crate::commit::progress::TicketRegistration;
use crate::error::{Cause, TryAppendError};
use crate::payload::Payload;
use crate::queue::backlog::{Admission, PendingPush, WaitsFor};
use crate::queue::entry::Entry;
use crate::queue::queue::PushError;
use crate::shard::append::{Limit, PendingRecord, to_u32};
use crate::shard::shard::WalShard;
use crate::util::sync::Arc;
use crate::wait::sleeper::{Sleeper, TaskAddress};

/// A task's record that was accepted.
pub(super) enum TaskAppend {
    /// It has this ticket, and its waker is registered so.
    Queued(u64, TicketRegistration),
    /// It waits for room.
    Pending(PendingTask),
}

/// A push of a task that waits for room.
#[derive(Debug)]
pub(super) struct PendingTask {
    pub(super) push: Arc<PendingPush<Entry>>,
    /// The task whose waker is with the push.
    pub(super) task: TaskAddress,
}

impl PendingTask {
    /// What became of it. If it waits, the waker of this poll is with it from now on. `Err` in a
    /// forked child, where no thread will admit it.
    pub(super) fn poll(
        &mut self,
        shard: &WalShard,
        context: &Context<'_>,
    ) -> Result<Admission, Cause> {
        if self.push.admission() == Admission::Waiting {
            if let Some(cause) = shard.forked() {
                return Err(cause);
            }
            let queue = &shard.committer().queue;
            queue.set_waker(&self.push, &mut self.task, context.waker());
        }
        Ok(self.push.admission())
    }
}

impl WalShard {
    /// Queues a record for a task. Does not block: without room, the record waits for it in the
    /// queue's backlog, and the task's waker is called once the record is answered.
    pub(super) fn append_for_task(
        self: &Arc<Self>,
        key: u64,
        payload: Payload<'_>,
        waker: &Waker,
    ) -> Result<TaskAppend, Cause> {
        let mut record = self.check_record(key, payload).map_err(|refused| refused.cause)?;
        // First, because it is a caller's code, and a record in the queue must get a wake-up.
        let (sleeper, task) = Sleeper::of_task(waker);
        match self.committer().push_for_task(record.bytes(), record.fill(), sleeper) {
            Ok((ticket, registration)) => Ok(TaskAppend::Queued(ticket, registration)),
            Err((PushError::Full, sleeper)) => Ok(record.line_up(sleeper, task)),
            Err((PushError::Closed, sleeper)) => {
                sleeper.discard();
                Err(self.refusal(PushError::Closed))
            }
        }
    }

    /// Queues a record for a reservation of `reserved` bytes, which it ends. Does not block.
    pub(super) fn append_reserved(
        self: &Arc<Self>,
        key: u64,
        payload: Payload<'_>,
        reserved: u32,
    ) -> Result<TaskAppend, Cause> {
        let queue = &self.committer().queue;
        let too_large = Limit::Reservation(reserved).check(payload.len() as u64);
        let checked = match too_large {
            Some(cause) => Err(TryAppendError { payload: payload.into_bytes(), cause }),
            None => self.check_record(key, payload),
        };
        let mut record = match checked {
            Ok(record) => record,
            Err(refused) => {
                // Before the payload is dropped, which may panic.
                queue.unreserve(reserved);
                return Err(refused.cause);
            }
        };
        let bytes = record.bytes();
        match queue.push_reserved(reserved, bytes, record.fill()) {
            Ok(ticket) => Ok(TaskAppend::Queued(ticket, TicketRegistration::None)),
            Err(PushError::Full) => {
                let (sleeper, task) = Sleeper::of_task(Waker::noop());
                Ok(record.line_up(sleeper, task))
            }
            Err(PushError::Closed) => Err(self.refusal(PushError::Closed)),
        }
    }

    /// Reserves room for one record of `bytes`, or lines up for it. `None` if it is reserved.
    pub(super) fn reserve(
        &self,
        bytes: usize,
        waker: &Waker,
    ) -> Result<Option<PendingTask>, Cause> {
        let no_room = || self.admit(Payload::default()).err().map(|refused| refused.cause);
        let too_large = Limit::RecordBytes.check(bytes as u64);
        if let Some(cause) = too_large.or_else(no_room).or_else(|| self.check_state()) {
            return Err(cause);
        }
        let (bytes, queue) = (to_u32(bytes as u64), &self.committer().queue);
        match queue.try_reserve(bytes) {
            Ok(()) => Ok(None),
            Err(PushError::Full) => {
                let (sleeper, task) = Sleeper::of_task(waker);
                let push = queue.line_up_reservation(bytes, sleeper);
                Ok(Some(PendingTask { push, task }))
            }
            Err(PushError::Closed) => Err(self.refusal(PushError::Closed)),
        }
    }
}

impl PendingRecord<'_, '_> {
    /// Lets the record of a task wait for room. The task is woken once it is answered.
    #[cold]
    fn line_up(&mut self, sleeper: Sleeper, task: TaskAddress) -> TaskAppend {
        let bytes = self.bytes();
        let queue = &self.shard.committer().queue;
        let push = queue.line_up(1, bytes, WaitsFor::Answer, sleeper, self.fill());
        TaskAppend::Pending(PendingTask { push, task })
    }
}
