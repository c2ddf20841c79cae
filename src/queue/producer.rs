//! How a producer waits for room: it lines up its push, and may give it up.
//!
//! The receiver admits it ([`crate::queue::admission`]). This file does not know when there is
//! room.

use std::task::Waker;
use std::time::Instant;

use crate::queue::backlog::{Admission, PendingPush, Replaced, WaitsFor, Withdrawn};
use crate::queue::queue::{ARRIVED, CLOSED, GATED, PushError, Queue};
use crate::util::sync::{Arc, Ordering, now};
use crate::wait::sleeper::{NO_TASK, Sleeper, TaskAddress, task_address};
use crate::wait::wake_chain::ParkState;

/// A push that was refused, perhaps after it had waited for room.
#[derive(Debug)]
pub(crate) struct Refused<T> {
    pub(crate) error: PushError,
    /// The value, if the push had waited.
    pub(crate) value: Option<T>,
}

impl<T> From<PushError> for Refused<T> {
    fn from(error: PushError) -> Self {
        Self { error, value: None }
    }
}

impl<T: Default> Queue<T> {
    /// Pushes a value, and blocks until there is room for it or the deadline passes.
    pub(crate) fn push(
        &self,
        tickets: u32,
        bytes: u32,
        deadline: Option<Instant>,
        fill: impl FnOnce(u64, &mut T),
    ) -> Result<u64, Refused<T>> {
        match self.claim(tickets, bytes) {
            Ok(first) => {
                self.publish(first, tickets, bytes, fill);
                self.wake_receiver();
                return Ok(first);
            }
            Err(PushError::Closed) => return Err(PushError::Closed.into()),
            Err(PushError::Full) => {}
        }
        let thread = ParkState::of_this_thread();
        let sleeper = Sleeper::Thread(thread.clone());
        let pending = self.line_up(tickets, bytes, WaitsFor::Room, sleeper, fill);
        let mut deadline = deadline;
        loop {
            match pending.admission() {
                Admission::Admitted(first) => return Ok(first),
                Admission::Refused => {
                    let value = pending.take_refused();
                    return Err(Refused { error: PushError::Closed, value });
                }
                Admission::Waiting if deadline.is_some_and(|deadline| deadline <= now()) => {
                    if let Some(Withdrawn { value }) = self.withdraw(&pending) {
                        return Err(Refused { error: PushError::Full, value });
                    }
                    // It is being admitted, or was refused.
                    deadline = None;
                }
                Admission::Waiting => {}
            }
            thread.park(|| pending.admission() == Admission::Waiting, deadline);
        }
    }

    /// B1 FIFO: lines up a push that found no room, and wakes the receiver. Does not block.
    pub(crate) fn line_up(
        &self,
        tickets: u32,
        bytes: u32,
        waits_for: WaitsFor,
        sleeper: Sleeper,
        fill: impl FnOnce(u64, &mut T),
    ) -> Arc<PendingPush<T>> {
        self.check_count(tickets);
        let mut value = T::default();
        // Its ticket is not known yet. The next one is near.
        fill(self.tail(), &mut value);
        self.line_up_pending(PendingPush::new((tickets, bytes), Some(value), waits_for, sleeper))
    }
}

impl<T> Queue<T> {
    /// Lines up a reservation of one ticket and `bytes`, and wakes the receiver. Does not block.
    pub(crate) fn line_up_reservation(&self, bytes: u32, sleeper: Sleeper) -> Arc<PendingPush<T>> {
        let waits_for = WaitsFor::Reservation;
        self.line_up_pending(PendingPush::new((1, bytes), None, waits_for, sleeper))
    }

    /// B1 FIFO: puts the push behind those that wait already, and closes the gate.
    fn line_up_pending(&self, pending: Arc<PendingPush<T>>) -> Arc<PendingPush<T>> {
        self.backlog.push(pending.clone());
        // ORDERING: AcqRel: a thread that changes the flags later sees the push.
        let tail = self.claims.tail.fetch_or(GATED | ARRIVED, Ordering::AcqRel);
        if tail & CLOSED != 0 {
            // Q3 CLOSE: the closer may have had its last look. A task is woken, because it
            // returns without another look at the push.
            if let Some(sleeper) = pending.refuse() {
                sleeper.wake();
            }
        }
        self.request_admission();
        pending
    }

    /// Requests that the receiver admits pushes that wait for room.
    pub(super) fn request_admission(&self) {
        self.requests.admit();
        self.wake_receiver();
    }

    /// Withdraws a push. Returns its value, or `None` if it no longer waits.
    pub(crate) fn withdraw(&self, pending: &PendingPush<T>) -> Option<Withdrawn<T>> {
        let (withdrawn, sleeper) = pending.withdraw()?;
        if self.backlog.note_withdrawn() {
            self.tidy_backlog();
        }
        self.request_admission();
        // Last, because the drop of a waker may be a caller's code.
        if let Some(sleeper) = sleeper {
            sleeper.discard();
        }
        Some(withdrawn)
    }

    /// Gives the waker of this poll to a push that waits, unless it is that of `task`, which the
    /// push has. If the push no longer waits, or is being admitted, wakes it now.
    pub(crate) fn set_waker(&self, pending: &PendingPush<T>, task: &mut TaskAddress, now: &Waker) {
        if *task == task_address(now) {
            return;
        }
        let (sleeper, address) = Sleeper::of_task(now);
        match pending.replace_sleeper(sleeper) {
            Replaced::Earlier(earlier) => {
                *task = address;
                if let Some(earlier) = earlier {
                    earlier.discard();
                }
            }
            Replaced::TooLate(sleeper) => {
                *task = NO_TASK;
                sleeper.wake();
            }
        }
    }
}
