//! The queue of a shard: an MPSC variant of Vyukov's bounded queue, with parking.
//!
//! Each push claims the next *tickets* with one compare-exchange. Tickets are dense
//! and start at 0. The first ticket of a push also selects its slot ([`Ring`]).
//! A push may claim several tickets: one value then carries them all, and the
//! receiver gets it whole. The queue does not know files or records. It knows
//! values, the number of their tickets and their size in bytes.
//!
//! Requests to the receiver travel beside the values ([`Requests`]).
//!
//! There is one [`Receiver`]. Threads may hand it to each other. Any thread may call
//! [`Queue::next_work`] to see whether the receiver has work.
//!
//! Invariants:
//!
//! - Q1 BOUND: at most `capacity` tickets are claimed and not yet received
//! - Q2 ORDER: values are received in ticket order, each once
//! - Q3 CLOSE: after `close`, every claimed ticket is still received, none is claimed
//! - Q4 WAKE: no wake-up is lost: a full ring parks its producers, an empty one its receiver

use std::task::Context;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::queue::receiver::Receiver;
use crate::queue::requests::{Requests, Work};
use crate::queue::ring::Ring;
use crate::util::sync::{Arc, AtomicU64, Ordering, fence, yield_now};
use crate::wait::wait_list::WaitList;
use crate::wait::waiter::Registration;

/// `close` sets this bit in `tail`. At 10^9 tickets per second, the tickets would
/// reach it after 292 years.
const CLOSED: u64 = 1 << 63;

/// Why a push was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    /// The limit in records or in bytes was reached, until the deadline if there is one.
    Full,
    /// The queue is closed.
    Closed,
}

/// The shared part: producers push, any thread may close it or make a request.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// The fields that producers change with each push, on a cache line of their own.
    pub(super) claims: CachePadded<Claims>,
    /// Q1 BOUND: every ticket below this has left its slot. Only the receiver stores
    /// (Release). Producers load (Acquire) before they claim a slot again.
    pub(super) received: CachePadded<AtomicU64>,
    /// Work for the receiver beside the values.
    pub(super) requests: Requests,
    bytes_max: u64,
    pub(super) ring: Ring<T>,
    /// Q4 WAKE: producers that wait for room.
    pub(super) not_full: WaitList,
    /// Q4 WAKE: threads that wait for work.
    not_empty: WaitList,
}

/// The fields that producers change with each push.
#[derive(Debug)]
pub(super) struct Claims {
    /// Q1 BOUND, Q3 CLOSE: the next ticket, and `CLOSED`. Producers raise it by
    /// exchange, `close` sets the bit, every thread reads it.
    tail: AtomicU64,
    /// Q1 BOUND: bytes of the values that are claimed and not yet received.
    /// Producers add before they publish, the receiver subtracts.
    pub(super) bytes: AtomicU64,
}

impl<T: Default> Queue<T> {
    /// Makes a queue for `capacity` tickets (a power of two) and about `bytes_max`
    /// bytes, and its one receiver.
    pub(crate) fn new(capacity: usize, bytes_max: u64) -> (Arc<Self>, Receiver<T>) {
        let queue = Arc::new(Self {
            claims: CachePadded::new(Claims { tail: AtomicU64::new(0), bytes: AtomicU64::new(0) }),
            received: CachePadded::new(AtomicU64::new(0)),
            requests: Requests::new(),
            bytes_max,
            ring: Ring::new(capacity),
            not_full: WaitList::new(),
            not_empty: WaitList::new(),
        });
        let receiver = Receiver::new(queue.clone());
        (queue, receiver)
    }
}

impl<T> Queue<T> {
    /// The number of tickets that the ring can hold.
    pub(crate) fn capacity(&self) -> u64 {
        self.ring.capacity()
    }

    /// The next ticket. Every append that this thread has made is below it.
    pub(crate) fn tail(&self) -> u64 {
        // ORDERING: Relaxed; a thread always sees its own claims and those
        // that happened before, and no slot is read on the strength of this.
        self.claims.tail.load(Ordering::Relaxed) & !CLOSED
    }

    /// The number of tickets claimed and not yet received. A hint while others push.
    pub(crate) fn depth(&self) -> u64 {
        // ORDERING: Relaxed; a statistic, and a hint.
        let received = self.received.load(Ordering::Relaxed);
        self.tail().saturating_sub(received)
    }

    /// Pushes a value of `count` tickets and `bytes`, and wakes the threads that wait
    /// for work. Does not block: without room it returns [`PushError::Full`].
    ///
    /// `fill` gets the first ticket and overwrites the slot's previous value. It must
    /// not panic, because a claimed ticket must be published.
    pub(crate) fn try_push(
        &self,
        count: u32,
        bytes: u32,
        fill: impl FnOnce(u64, &mut T),
    ) -> Result<u64, PushError> {
        let pushed = self.try_push_no_wake(count, bytes, fill);
        // Also without room: see `push`.
        self.wake_receiver();
        pushed
    }

    /// Pushes as [`Queue::try_push`] does, but wakes no thread. The caller either
    /// makes sure that a receiver runs, or calls [`Queue::wake_receiver`].
    pub(crate) fn try_push_no_wake(
        &self,
        count: u32,
        bytes: u32,
        fill: impl FnOnce(u64, &mut T),
    ) -> Result<u64, PushError> {
        let first = self.claim(count, bytes)?;
        self.publish(first, count, bytes, fill);
        Ok(first)
    }

    /// Pushes a value, and blocks until there is room for it or the deadline passes.
    pub(crate) fn push(
        &self,
        count: u32,
        bytes: u32,
        deadline: Option<Instant>,
        fill: impl FnOnce(u64, &mut T),
    ) -> Result<u64, PushError> {
        let claim = || self.claim_unless_full(count, bytes);
        // Another caller may have filled the ring without waking the receiver, and may
        // not have reached its own commit yet.
        self.wake_receiver();
        let first = self.not_full.wait(0, deadline, claim).unwrap_or(Err(PushError::Full))?;
        self.publish(first, count, bytes, fill);
        self.wake_receiver();
        Ok(first)
    }

    /// Pushes a value of one ticket for a task. Returns `None` if there is no room:
    /// the task's waker is then called once there is.
    pub(crate) fn poll_push(
        &self,
        bytes: u32,
        context: &mut Context<'_>,
        registration: &mut Option<Registration>,
        fill: impl FnOnce(u64, &mut T),
    ) -> Option<Result<u64, PushError>> {
        let claim = || self.claim_unless_full(1, bytes);
        let claimed = self.not_full.poll(0, context, registration, claim);
        let pushed =
            claimed.map(|claimed| claimed.inspect(|&first| self.publish(first, 1, bytes, fill)));
        self.wake_receiver();
        pushed
    }

    fn claim_unless_full(&self, count: u32, bytes: u32) -> Option<Result<u64, PushError>> {
        match self.claim(count, bytes) {
            Err(PushError::Full) => None,
            decided => Some(decided),
        }
    }

    /// Claims `count` consecutive tickets.
    ///
    /// The byte limit is checked before the bytes are added, so that a refusal has
    /// nothing to undo. Each racing caller may exceed the limit by one push, whose
    /// payload it would hold in memory anyway. A push larger than the limit is accepted
    /// when the queue is empty.
    pub(super) fn claim(&self, count: u32, bytes: u32) -> Result<u64, PushError> {
        let (count, bytes) = (u64::from(count), u64::from(bytes));
        assert!(
            (1..=self.capacity()).contains(&count),
            "a push of {count} tickets never fits a ring of {}",
            self.capacity()
        );
        // ORDERING: Relaxed; the exchange below checks what was read.
        let mut tail = self.claims.tail.load(Ordering::Relaxed);
        loop {
            if tail & CLOSED != 0 {
                // ORDERING: Acquire fence pairs with the Release in `close`: a
                // refused caller sees the cause that the closer stored before.
                fence(Ordering::Acquire);
                return Err(PushError::Closed);
            }
            // ORDERING: Acquire pairs with the receiver's Release in `free`:
            // it has taken the values out of the slots claimed here.
            let received = self.received.load(Ordering::Acquire);
            if tail + count > received + self.capacity() || self.exceeds_byte_limit(bytes) {
                return Err(PushError::Full);
            }
            // ORDERING: Relaxed; the claim publishes nothing, `published`
            // does that. A stale `tail` fails here.
            match self.claims.tail.compare_exchange_weak(
                tail,
                tail + count,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(tail),
                Err(now) => tail = now,
            }
        }
    }

    fn exceeds_byte_limit(&self, bytes: u64) -> bool {
        // ORDERING: Relaxed; a limit that each racing caller may exceed by one
        // push. A caller that parks on it has fenced, and so has the receiver
        // that subtracts (Q4 WAKE).
        let queued = self.claims.bytes.load(Ordering::Relaxed);
        queued != 0 && queued + bytes > self.bytes_max
    }

    pub(super) fn publish(
        &self,
        first: u64,
        tickets: u32,
        bytes: u32,
        fill: impl FnOnce(u64, &mut T),
    ) {
        self.add_bytes(bytes);
        // SAFETY: `claim` gave `first` to this thread alone, and had seen that the
        // ring has room for it.
        unsafe { self.ring.put(first, |held| held.fill(first, tickets, bytes, fill)) };
    }

    pub(super) fn add_bytes(&self, bytes: u32) {
        // ORDERING: Relaxed; the Release of `put` comes after it, so that the
        // receiver never subtracts bytes that are not yet added.
        self.claims.bytes.fetch_add(bytes.into(), Ordering::Relaxed);
    }

    /// Requests a sync after every value that this thread has pushed. Returns the
    /// ticket below which those values are.
    pub(crate) fn request_sync(&self) -> u64 {
        let below = self.tail();
        self.requests.sync(below);
        self.not_empty.wake_everyone();
        below
    }

    /// Requests a seal. The receiver writes it once there is nothing else to do.
    pub(crate) fn request_seal(&self) {
        self.requests.seal();
        self.not_empty.wake_everyone();
    }

    /// Requests a snapshot, ahead of the values that are still queued.
    pub(crate) fn request_snapshot(&self) {
        self.requests.snapshot();
        self.not_empty.wake_everyone();
    }

    /// Requests that the receiver stops, ahead of the values that are still queued.
    pub(crate) fn request_stop(&self) {
        self.requests.stop();
        self.not_empty.wake_everyone();
    }

    /// Whether [`Queue::request_stop`] was called.
    pub(crate) fn is_stop_requested(&self) -> bool {
        self.requests.is_stop_requested()
    }

    /// Q3 CLOSE: refuses every later push. Values already claimed are still received.
    /// Idempotent.
    pub(crate) fn close(&self) {
        // ORDERING: Release pairs with the Acquire fence in `claim`. The bit and
        // the tickets are one word, so every exchange comes before or after it.
        self.claims.tail.fetch_or(CLOSED, Ordering::Release);
        self.not_empty.wake_everyone();
        self.not_full.wake_everyone();
    }

    /// Whether the queue is closed. A caller that gets `true` also sees the cause that
    /// the closer stored before, as a refused caller does.
    pub(crate) fn is_closed(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `close`.
        self.claims.tail.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Returns the receiver's next work. The answer is exact for the thread that has
    /// the receiver. For any other thread it is a hint, but it never misses an event
    /// that happened before the call.
    pub(crate) fn next_work(&self) -> Option<Work> {
        // ORDERING: Relaxed; the thread that has the receiver stored it, or got the
        // receiver from the thread that did.
        let head = self.received.load(Ordering::Relaxed);
        if let Some(request) = self.requests.due(head) {
            return Some(request);
        }
        // ORDERING: Relaxed; see `close`.
        let tail = self.claims.tail.load(Ordering::Relaxed);
        // Check `tail` first: the slot of an unclaimed ticket is in no cache.
        if tail & !CLOSED != head && self.ring.is_published(head) {
            return Some(Work::Values);
        }
        if tail == head | CLOSED {
            return Some(Work::Closed);
        }
        let idle = tail == head;
        (idle && self.requests.is_seal_requested()).then_some(Work::Seal)
    }

    /// Q4 WAKE: whether half of the ring is free. Producers that wait for room are woken
    /// only then, so that one wake-up serves many tickets. If half is not free, a claimed
    /// value is still to be received, and its receiver checks again.
    pub(super) fn is_half_free(&self, head: u64) -> bool {
        // ORDERING: Relaxed; bytes added since belong to later claims, whose receiver
        // checks again.
        let bytes = self.claims.bytes.load(Ordering::Relaxed);
        self.tail() - head <= self.capacity() / 2 && bytes <= self.bytes_max / 2
    }

    /// Parks until `take` returns a result. `take` gets the work that there is, if any.
    /// It returns `None` despite work if another thread is doing it. That thread calls
    /// [`Queue::wake_receiver`] if it leaves some work behind.
    pub(crate) fn wait_for_work<R>(
        &self,
        mut take: impl FnMut(Option<Work>) -> Option<R>,
    ) -> Option<R> {
        // Yield once before parking: a producer that is about to push then needs no
        // wake-up. Two producers and four shards without a disk took 0.9 us of CPU per
        // record without the yield, and 0.4 us with it. More yields gained nothing.
        if self.next_work().is_none() {
            yield_now();
        }
        self.not_empty.wait(0, None, || take(self.next_work()))
    }

    /// Wakes the threads that wait for work.
    pub(crate) fn wake_receiver(&self) {
        self.not_empty.wake_everyone();
    }
}
