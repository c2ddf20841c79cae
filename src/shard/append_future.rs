//! The future of an append: queues a record for a task, and resolves to its answer.
//!
//! This file does not know how a record is committed, nor how it gets room.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::commit::progress::TicketRegistration;
use crate::error::{AppendError, Cause, Position};
use crate::payload::Payload;
use crate::queue::backlog::Admission;
use crate::queue::queue::PushError;
use crate::shard::shard::ShardRef;
use crate::shard::task_append::{PendingTask, TaskAppend};

/// An append of a task: see [`crate::ShardedWal::append_async`].
///
/// **Nothing is appended before the first poll**, which gives the record its position, or its
/// place in the line of those that wait for room. Awaiting allocates nothing, unless the queue
/// is full.
///
/// Cancel-safety: a future that is dropped before its record has a position appends nothing. One
/// that is dropped later has appended the record, and its answer is lost.
/// [`AppendFuture::position`] distinguishes the two. A record that waits for room can get its
/// position at any time, so to stop waiting and to know that nothing was appended, use
/// [`crate::ShardedWal::reserve`].
#[derive(Debug)]
#[must_use = "nothing is appended until it is polled"]
pub struct AppendFuture<'a> {
    shard: ShardRef<'a>,
    key: u64,
    stage: Stage<'a>,
    /// Where the task waits for the answer.
    registration: TicketRegistration,
}

#[derive(Debug)]
enum Stage<'a> {
    /// Not polled yet.
    New(Payload<'a>),
    /// It waits for room. `withdraws` if a drop of the future then appends nothing.
    Pending {
        pending: PendingTask,
        withdraws: bool,
    },
    /// It waits for the answer to this ticket.
    Queued(u64),
    /// It was refused, which the next poll reports.
    Refused(Cause),
    Resolved(Option<Position>),
}

impl<'a> AppendFuture<'a> {
    pub(crate) fn new(shard: ShardRef<'a>, key: u64, payload: Payload<'a>) -> Self {
        Self { shard, key, stage: Stage::New(payload), registration: TicketRegistration::None }
    }

    /// The future of a record that has used a reservation. Dropping it does not withdraw it.
    pub(super) fn begun(
        shard: ShardRef<'a>,
        key: u64,
        appended: Result<TaskAppend, Cause>,
    ) -> Self {
        let (stage, registration) = (Stage::Resolved(None), TicketRegistration::None);
        let mut future = Self { shard, key, stage, registration };
        match appended {
            Ok(appended) => future.accepted(appended, false),
            Err(cause) => future.stage = Stage::Refused(cause),
        }
        future
    }

    /// Goes on with a record that was accepted. `withdraws` says whether a drop withdraws it while
    /// it waits for room.
    fn accepted(&mut self, appended: TaskAppend, withdraws: bool) {
        self.stage = match appended {
            TaskAppend::Queued(ticket, registration) => {
                self.registration = registration;
                Stage::Queued(ticket)
            }
            TaskAppend::Pending(pending) => Stage::Pending { pending, withdraws },
        };
    }

    /// Ends the borrow of the log and of the payload, so that the future can be spawned or stored.
    /// Copies a borrowed payload. See [`crate::Completion::into_owned`].
    pub fn into_owned(mut self) -> AppendFuture<'static> {
        let stage = match std::mem::replace(&mut self.stage, Stage::Resolved(None)) {
            Stage::New(payload) => Stage::New(payload.into_bytes().into()),
            Stage::Pending { pending, withdraws } => Stage::Pending { pending, withdraws },
            Stage::Queued(ticket) => Stage::Queued(ticket),
            Stage::Refused(cause) => Stage::Refused(cause),
            Stage::Resolved(position) => Stage::Resolved(position),
        };
        AppendFuture {
            shard: self.shard.clone().into_owned(),
            key: self.key,
            stage,
            registration: std::mem::take(&mut self.registration),
        }
    }

    /// The record's position. `None` if it has none yet: before the first poll, and while it
    /// waits for room.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match &self.stage {
            Stage::New(_) | Stage::Refused(_) => None,
            Stage::Pending { pending, .. } => match pending.push.admission() {
                Admission::Admitted(ticket) => Some(self.shard.position(ticket)),
                Admission::Waiting | Admission::Refused => None,
            },
            Stage::Queued(ticket) => Some(self.shard.position(*ticket)),
            Stage::Resolved(position) => *position,
        }
    }

    /// Queues the record, or lets it wait for room.
    fn begin(&mut self, payload: Payload<'a>, context: &Context<'_>) -> Result<(), Cause> {
        let payload = self.shard.admit(payload).map_err(|refused| refused.cause)?;
        let waker = context.waker();
        let appended = self.shard.shared().append_for_task(self.key, payload, waker)?;
        self.accepted(appended, true);
        Ok(())
    }

    /// Moves a record that waits for room on, if it has a ticket. `Err` if it was refused.
    fn check_pending(&mut self, context: &Context<'_>) -> Result<(), Cause> {
        let Stage::Pending { pending, .. } = &mut self.stage else { return Ok(()) };
        match pending.poll(&self.shard, context)? {
            Admission::Waiting => {}
            Admission::Refused => {
                drop(pending.push.take_refused());
                return Err(self.shard.refusal(PushError::Closed));
            }
            Admission::Admitted(ticket) => {
                // Its waker was registered with the ticket.
                self.registration = TicketRegistration::InTable;
                self.stage = Stage::Queued(ticket);
            }
        }
        Ok(())
    }

    fn refused(&mut self, cause: Cause) -> Poll<Result<Position, AppendError>> {
        self.stage = Stage::Resolved(None);
        self.shard.recorder().refused_append(&cause, 1);
        Poll::Ready(Err(AppendError::NotWritten { position: None, cause }))
    }
}

impl Future for AppendFuture<'_> {
    type Output = Result<Position, AppendError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let is_first_poll = matches!(this.stage, Stage::New(_) | Stage::Refused(_));
        if is_first_poll {
            // Left so if a caller's code panics below.
            let begun = match std::mem::replace(&mut this.stage, Stage::Resolved(None)) {
                Stage::New(payload) => this.begin(payload, context),
                Stage::Refused(cause) => Err(cause),
                _ => Ok(()),
            };
            if let Err(cause) = begun {
                return this.refused(cause);
            }
        } else if let Err(cause) = this.check_pending(context) {
            return this.refused(cause);
        }
        let ticket = match &this.stage {
            Stage::Pending { .. } => return Poll::Pending,
            Stage::Queued(ticket) => *ticket,
            _ => panic!("an append future was polled after it had resolved"),
        };
        let registration = &mut this.registration;
        let answer = if is_first_poll && matches!(registration, TicketRegistration::InTable) {
            this.shard.committer().progress.check_registered(ticket, registration)
        } else {
            this.shard.poll_answer(ticket, context, registration)
        };
        let Some(answer) = answer else { return Poll::Pending };
        this.stage = Stage::Resolved(Some(this.shard.position(ticket)));
        Poll::Ready(this.shard.outcome(ticket, answer))
    }
}

impl Drop for AppendFuture<'_> {
    /// Withdraws the record if it waits for room, and takes the waker back, so that the future
    /// leaves nothing behind.
    fn drop(&mut self) {
        let committer = self.shard.committer();
        if let Stage::Pending { pending: PendingTask { push, task }, withdraws } = &mut self.stage {
            if *withdraws {
                drop(committer.queue.withdraw(push));
            } else {
                committer.queue.set_waker(push, task, Waker::noop());
            }
            match push.admission() {
                Admission::Admitted(ticket) => self.stage = Stage::Queued(ticket),
                Admission::Refused => drop(push.take_refused()),
                // Withdrawn, or being admitted: then its waker stays until the answer.
                Admission::Waiting => {}
            }
            self.registration = TicketRegistration::InTable;
        }
        if let Stage::Queued(ticket) = &self.stage {
            committer.progress.withdraw(*ticket, &mut self.registration);
        }
    }
}
