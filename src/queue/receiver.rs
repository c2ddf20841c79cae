//! The one consumer of a queue. Threads may hand it to each other.
//!
//! This file does not know what the values are, nor which thread receives them.

use crate::queue::queue::{PushError, Queue};
use crate::queue::requests::Work;
use crate::queue::ring::Held;
use crate::util::sync::{Arc, Ordering};
use crate::wait::sleeper::{Sleeper, Tasks};

/// Values to receive for each push that waits, before they are admitted. With 64 threads that do
/// not wait, 128 reached 0.75 of the throughput: docs/performance.md, "Buffered commits".
const VALUES_PER_WAKE: u64 = 512;

/// One value that [`Receiver::drain`] hands out.
#[derive(Debug)]
pub(crate) struct Received<'a, T> {
    /// Its first ticket.
    pub(crate) ticket: u64,
    /// The number of its tickets.
    pub(crate) tickets: u32,
    /// Its size in bytes, as passed to the push.
    pub(crate) bytes: u32,
    /// The value stays in its slot; the next producer overwrites it in place.
    pub(crate) value: &'a mut T,
}

/// The one consumer.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    queue: Arc<Queue<T>>,
    /// The next ticket to receive.
    head: u64,
    /// A value that the owner pushed past the ring, with the ticket `head`. It is
    /// valid while `has_bypassed`, and its memory is reused as a slot's is.
    bypass: Held<T>,
    has_bypassed: bool,
    /// Where the ring puts memory that it uses again.
    place: u64,
    /// The ticket before which a drain does not admit the pushes that wait for room. `None` if
    /// none waited at the last look, or they were admitted.
    admits_from: Option<u64>,
}

impl<T: Default> Receiver<T> {
    pub(super) fn new(queue: Arc<Queue<T>>) -> Self {
        Self {
            queue,
            head: 0,
            bypass: Held::default(),
            has_bypassed: false,
            place: 0,
            admits_from: None,
        }
    }
}

impl<T> Receiver<T> {
    /// The next ticket to receive. Every ticket below it is received.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Clears a request that [`Queue::next_work`] returned, because it is about to be done.
    pub(crate) fn accept(&self, work: Work) {
        self.queue.requests.accept(work, self.head);
    }

    /// Pushes one value for the owner of the receiver, which drains it next. If the queue
    /// is empty, the value bypasses the ring, whose memory may be in no cache.
    pub(crate) fn try_push(
        &mut self,
        bytes: u32,
        fill: impl FnOnce(u64, &mut T),
    ) -> Result<u64, PushError> {
        let ticket = self.queue.claim(1, bytes)?;
        if ticket == self.head {
            self.queue.add_bytes(bytes);
            self.bypass.fill(ticket, 1, bytes, fill);
            self.has_bypassed = true;
        } else {
            self.queue.publish(ticket, 1, bytes, fill);
        }
        Ok(ticket)
    }

    /// Whether there is a value that bypassed the ring. [`Queue::next_work`] does not show it.
    pub(crate) fn has_bypassed(&self) -> bool {
        self.has_bypassed
    }

    /// The next work, with a value that bypassed the ring. Requests come before that value: a
    /// busy shard would never serve them otherwise.
    pub(crate) fn next_work(&self) -> Option<Work> {
        let work = self.queue.next_work();
        let is_request = matches!(work, Some(Work::Stop | Work::Snapshot | Work::Sync));
        if self.has_bypassed && !is_request { Some(Work::Values) } else { work }
    }

    /// Receives values in ticket order, until `take` returns `false` or the ring is
    /// empty. Admits pushes meanwhile, as [`Receiver::admit`] does.
    ///
    /// It first lets some values be received for each push that waits, up to half of those that are
    /// queued. A queue that is always full then does not wake all its producers for a few values.
    pub(crate) fn drain(
        &mut self,
        mut register: impl FnMut(u64, Sleeper) -> Option<Sleeper>,
        mut take: impl FnMut(Received<'_, T>) -> bool,
    ) -> Tasks {
        let (mut values, mut bytes) = (0_u32, 0);
        let mut tasks = Tasks::default();
        loop {
            let Self { queue, head, bypass, has_bypassed, .. } = &mut *self;
            let ticket = *head;
            let mut receive = |held: &mut Held<T>| {
                let Held { tickets, bytes: size, value } = held;
                let (tickets, size) = (*tickets, *size);
                // First, so that a value that makes `take` panic is not received again.
                *head += u64::from(tickets);
                bytes += u64::from(size);
                take(Received { ticket, tickets, bytes: size, value })
            };
            let is_bypass = std::mem::take(has_bypassed);
            let goes_on = if is_bypass {
                Some(receive(bypass))
            } else {
                // SAFETY: this is the receiver, and `free` comes later.
                unsafe { queue.ring.take(ticket, receive) }
            };
            let Some(goes_on) = goes_on else { break };
            // Free slots every so often, without a wake-up each.
            values += 1;
            if values.is_multiple_of(64) {
                self.free(std::mem::take(&mut bytes));
                tasks.append(self.admit_if_due(&mut register));
            }
            if !goes_on || is_bypass && self.queue.tail() == self.head {
                break;
            }
        }
        self.free(bytes);
        tasks.append(self.admit_if_due(register));
        tasks
    }

    /// B1 FIFO: admits the pushes that wait for room, in order, while there is room. Wakes their
    /// threads, and returns their tasks.
    ///
    /// `register` gets the first ticket and the sleeper of a push whose producer waits for the
    /// answer. It may return the sleeper, which is then woken too.
    pub(crate) fn admit(&mut self, register: impl FnMut(u64, Sleeper) -> Option<Sleeper>) -> Tasks {
        self.admits_from = None;
        if !self.queue.is_gated() {
            return Tasks::default();
        }
        self.queue.admit(self.head, register).wake_threads()
    }

    /// Admits once the values before [`Receiver::admits_from`] are received.
    fn admit_if_due(&mut self, register: impl FnMut(u64, Sleeper) -> Option<Sleeper>) -> Tasks {
        let Self { queue, head, admits_from, .. } = &mut *self;
        if !queue.is_gated() {
            *admits_from = None;
            return Tasks::default();
        }
        let first_look = || {
            let half = (queue.tail() - *head) / 2;
            *head + half.min(VALUES_PER_WAKE * queue.tidy_backlog())
        };
        if *head < *admits_from.get_or_insert_with(first_look) {
            return Tasks::default();
        }
        self.admit(register)
    }

    /// Receives the values that are claimed by now, and no later ones. Otherwise fast
    /// producers could keep the caller here forever. Admits as [`Receiver::drain`] does.
    pub(crate) fn drain_present(
        &mut self,
        register: impl FnMut(u64, Sleeper) -> Option<Sleeper>,
        mut take: impl FnMut(Received<'_, T>),
    ) -> Tasks {
        let end = self.queue.tail();
        if self.head == end {
            return self.admit(register);
        }
        self.drain(register, |received| {
            let next = received.ticket + u64::from(received.tickets);
            take(received);
            next < end
        })
    }

    /// Frees the slots of the tickets that were received since the last call, which had `bytes`.
    fn free(&mut self, bytes: u64) {
        // ORDERING: Relaxed; only the receiver stores it.
        let freed = self.queue.received.load(Ordering::Relaxed);
        // Before producers may claim their places.
        self.queue.ring.reuse(freed, self.head, &mut self.place);
        // ORDERING: Relaxed; a limit that racing callers may exceed.
        self.queue.claims.bytes.fetch_sub(bytes, Ordering::Relaxed);
        // ORDERING: Release pairs with the Acquire in `claim`: the receiver no longer
        // uses the slots that it hands on.
        self.queue.received.store(self.head, Ordering::Release);
    }
}

impl<T> Drop for Receiver<T> {
    /// Closes the queue: nothing would receive its values.
    fn drop(&mut self) {
        self.queue.close();
    }
}
