//! How the receiver of a queue gives room to the pushes that wait for it.
//!
//! While a push waits, the queue's **gate** is closed: later pushes line up behind it, and only
//! the receiver claims tickets, beside those that were reserved. It opens the gate once none
//! waits. The gate is a flag in the word that pushes claim their tickets from. So a claim comes
//! before the gate closes or after it opens, and none gets past a push that waits (B1 FIFO).
//!
//! This file does not know what the values are, nor what a sleeper waits for.

use crate::queue::backlog::{Line, PendingPush, WaitsFor};
use crate::queue::queue::{ARRIVED, CLOSED, GATED, ONE_RESERVED, Queue, TICKETS};
use crate::util::sync::{Arc, Ordering, fence};
use crate::wait::sleeper::{Sleeper, Sleepers};

/// Rounds of collecting and admitting in one call.
const ROUNDS_MAX: u32 = if cfg!(loom) { 3 } else { 64 };

impl<T> Queue<T> {
    /// Admits pushes that wait, in order, while there is room. For the thread that has the
    /// receiver, whose next ticket is `head`. Returns the sleepers to wake.
    pub(super) fn admit(
        &self,
        head: u64,
        register: impl FnMut(u64, Sleeper) -> Option<Sleeper>,
    ) -> Sleepers {
        let mut sleepers = Sleepers::default();
        self.with_line(|line| self.admit_from(line, head, register, &mut sleepers));
        sleepers
    }

    /// Removes from the backlog what was withdrawn, and returns the number of pushes that are left.
    /// Returns 0 if another thread has the line. A producer that calls this then requests an
    /// admission, which this may have kept away.
    pub(super) fn tidy_backlog(&self) -> u64 {
        let count = self.with_line(|line| {
            self.backlog.collect(line);
            line.len() as u64
        });
        count.unwrap_or(0)
    }

    /// Runs `work` on the line, unless another thread has it. Q3 CLOSE: if the queue was closed
    /// meanwhile, the closer has left the pushes in the line to this thread.
    fn with_line<R>(&self, work: impl FnOnce(&mut Line<T>) -> R) -> Option<R> {
        let done = self.backlog.line.try_lock().map(|mut line| work(&mut line));
        // ORDERING: SeqCst fence, pairs with the fence in `refuse_waiting`: this thread sees
        // that the queue was closed, or the closer finds the line free.
        fence(Ordering::SeqCst);
        if self.is_closed() {
            self.refuse_waiting();
        }
        done
    }

    fn admit_from(
        &self,
        line: &mut Line<T>,
        head: u64,
        mut register: impl FnMut(u64, Sleeper) -> Option<Sleeper>,
        sleepers: &mut Sleepers,
    ) {
        for _ in 0..ROUNDS_MAX {
            // ORDERING: AcqRel: a push whose mark this clears is seen as the line is collected.
            let tail = self.claims.tail.fetch_and(!ARRIVED, Ordering::AcqRel);
            self.backlog.collect(line);
            if tail & CLOSED != 0 {
                return;
            }
            while let Some(pending) = line.front() {
                if !pending.is_withdrawn() && !self.has_room(head, pending.tickets, pending.bytes) {
                    return;
                }
                if let Some(sleeper) = self.put(pending, head, &mut register) {
                    sleepers.push(sleeper);
                }
                line.pop_front();
            }
            if self.open_gate() {
                return;
            }
        }
        // Pushes keep coming that need no room. A commit may wait for this thread.
        self.requests.admit();
    }

    /// Q3 CLOSE: refuses the pushes that wait, and wakes them. The queue is closed: a push that
    /// comes later refuses itself. If another thread has the line, that thread refuses them.
    pub(super) fn refuse_waiting(&self) {
        // ORDERING: SeqCst fence, pairs with the fence in `with_line`.
        fence(Ordering::SeqCst);
        let Some(mut line) = self.backlog.line.try_lock() else { return };
        self.backlog.collect(&mut line);
        let refused = std::mem::take(&mut *line);
        drop(line);
        let mut sleepers = Sleepers::default();
        let woken = refused.iter().filter_map(|pending| pending.refuse());
        woken.for_each(|sleeper| sleepers.push(sleeper));
        drop(sleepers.wake_threads());
        // Last, because the drop of a value whose producer is gone may be a caller's code.
        drop(refused);
    }

    /// Gives a push its tickets and its slot, or counts its reservation. Returns the sleeper to
    /// wake now.
    fn put(
        &self,
        pending: &Arc<PendingPush<T>>,
        head: u64,
        register: &mut impl FnMut(u64, Sleeper) -> Option<Sleeper>,
    ) -> Option<Sleeper> {
        let (tickets, bytes) = (pending.tickets, pending.bytes);
        if pending.waits_for == WaitsFor::Reservation {
            self.reserve_unchecked(bytes);
            let granted = pending.grant();
            if granted.is_none() {
                self.end_reservation(bytes);
            }
            return granted.flatten();
        }
        let (mut value, sleeper) = pending.begin_admission()?;
        // ORDERING: Relaxed; as in `claim`. The gate is closed, and only this thread frees slots.
        let tail = self.claims.tail.fetch_add(tickets.into(), Ordering::Relaxed);
        let first = tail & TICKETS;
        // A slot in use must never be written, whatever was counted wrong.
        assert!(first + u64::from(tickets) <= head + self.capacity(), "Q1 BOUND");
        self.publish(first, tickets, bytes, |_, slot| std::mem::swap(slot, &mut value));
        let now = match pending.waits_for {
            WaitsFor::Room | WaitsFor::Reservation => sleeper,
            WaitsFor::Answer => sleeper.and_then(|sleeper| register(first, sleeper)),
        };
        pending.finish_admission(first);
        now
    }

    /// Whether there is room for a push that waits. For the receiver, while the gate is closed.
    fn has_room(&self, head: u64, tickets: u32, bytes: u32) -> bool {
        // ORDERING: Acquire pairs with the Release in `end_reservation`: the ticket that was
        // claimed before is counted below.
        let queued = self.claims.bytes.load(Ordering::Acquire);
        let used = self.tail() - head + queued / ONE_RESERVED;
        used + u64::from(tickets) <= self.capacity() && !self.exceeds(queued, bytes.into())
    }

    /// Opens the gate, unless a push has arrived since the last look or the queue is closed.
    fn open_gate(&self) -> bool {
        let open = |tail| (tail & (ARRIVED | CLOSED) == 0).then_some(tail & !GATED);
        // ORDERING: AcqRel, as every change of the flags.
        self.claims.tail.fetch_update(Ordering::AcqRel, Ordering::Relaxed, open).is_ok()
    }
}
