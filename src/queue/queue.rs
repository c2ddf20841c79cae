//! The queue of a shard: an MPSC variant of Vyukov's bounded queue, with parking.
//!
//! Each push claims the next *tickets* with one compare-exchange. Tickets are dense
//! and start at 0. The first ticket of a push also selects its slot ([`Ring`]).
//! A push may claim several tickets: one value then carries them all, and the
//! receiver gets it whole. The queue does not know files or records. It knows
//! values, the number of their tickets and their size in bytes.
//!
//! A push that finds no room, or others that wait for it, lines up behind those
//! ([`crate::queue::backlog`]). The receiver admits it.
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
//! - Q3 CLOSE: after `close`, every claimed ticket is still received, no producer claims one, and
//!   every push that waits is refused
//! - Q4 WAKE: no wake-up is lost: a full ring parks its producers, an empty one its receiver

use crossbeam_utils::CachePadded;

use crate::config::QUEUE_CAPACITY_MAX;
use crate::queue::backlog::Backlog;
use crate::queue::receiver::Receiver;
use crate::queue::requests::{Requests, Work};
use crate::queue::ring::Ring;
use crate::util::sync::{Arc, AtomicU64, Ordering, fence, yield_now};
use crate::wait::wait_list::WaitList;

/// Flag of `tail`: the queue is closed.
pub(super) const CLOSED: u64 = 1 << 63;
/// Flag of `tail`: pushes wait for room, and later ones line up behind them.
pub(super) const GATED: u64 = 1 << 62;
/// Flag of `tail`: a push has lined up since the receiver last collected those.
pub(super) const ARRIVED: u64 = 1 << 61;
/// The tickets in `tail`. At 10^9 per second, they would exceed it after 36 years.
pub(super) const TICKETS: u64 = (1 << 60) - 1;
/// One reserved ticket in `Claims::bytes`, above any number of bytes.
pub(super) const ONE_RESERVED: u64 = 1 << 43;
const _: () = assert!(QUEUE_CAPACITY_MAX as u64 <= u64::MAX / ONE_RESERVED);

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
    /// B1 FIFO: the pushes that wait for room.
    pub(super) backlog: Backlog<T>,
    /// Q4 WAKE: threads that wait for work.
    not_empty: WaitList,
}

/// The fields that producers change with each push.
#[derive(Debug)]
pub(super) struct Claims {
    /// Q1 BOUND, Q3 CLOSE, B1 FIFO: the next ticket, and the three flags. Every change is an
    /// exchange, so all threads agree on the order of claims and flags.
    pub(super) tail: AtomicU64,
    /// Q1 BOUND: bytes of the values that are claimed and not yet received, and of the
    /// reservations. Producers add before they publish, the receiver subtracts. In units of
    /// `ONE_RESERVED`: the tickets that are reserved and not yet claimed.
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
            // So far below `ONE_RESERVED` that racing callers do not reach it.
            bytes_max: bytes_max.min(ONE_RESERVED / 2),
            ring: Ring::new(capacity),
            backlog: Backlog::new(),
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
        self.claims.tail.load(Ordering::Relaxed) & TICKETS
    }

    /// The number of tickets claimed and not yet received. A hint while others push.
    pub(crate) fn depth(&self) -> u64 {
        // ORDERING: Relaxed; a statistic, and a hint.
        let received = self.received.load(Ordering::Relaxed);
        self.tail().saturating_sub(received)
    }

    /// Pushes a value of `count` tickets and `bytes`, and wakes the threads that wait
    /// for work. Does not block: without room, or while others wait for it, it returns
    /// [`PushError::Full`].
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
        match pushed {
            // The push that has closed the gate may not have requested an admission yet.
            Err(PushError::Full) if self.is_admission_overdue() => self.request_admission(),
            // Also without room: another caller may have filled the ring without waking the
            // receiver, and may not have reached its own commit yet.
            _ => self.wake_receiver(),
        }
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

    pub(super) fn check_count(&self, tickets: u32) {
        assert!(
            (1..=self.capacity()).contains(&u64::from(tickets)),
            "a push of {tickets} tickets never fits a ring of {}",
            self.capacity()
        );
    }

    /// Whether the gate is closed, and no admission is requested. A hint.
    fn is_admission_overdue(&self) -> bool {
        self.is_gated() && !self.requests.is_admission_requested()
    }

    /// Whether the gate is closed. A hint.
    pub(super) fn is_gated(&self) -> bool {
        // ORDERING: Relaxed; a push requests an admission after it has closed the gate.
        self.claims.tail.load(Ordering::Relaxed) & GATED != 0
    }

    /// Claims `count` consecutive tickets.
    ///
    /// The byte limit is checked before the bytes are added, so that a refusal has
    /// nothing to undo. Each racing caller may exceed the limit by one push, whose
    /// payload it would hold in memory anyway. A push larger than the limit is accepted
    /// when the queue is empty.
    pub(super) fn claim(&self, count: u32, bytes: u32) -> Result<u64, PushError> {
        self.check_count(count);
        self.claim_if(count, |tail| self.check_room(tail, count, bytes))
    }

    /// Claims `count` consecutive tickets after a `tail` that passes `check`.
    pub(super) fn claim_if(
        &self,
        count: u32,
        check: impl Fn(u64) -> Result<(), PushError>,
    ) -> Result<u64, PushError> {
        // ORDERING: Relaxed; the exchange below checks what was read.
        let mut tail = self.claims.tail.load(Ordering::Relaxed);
        loop {
            check(tail)?;
            // ORDERING: Relaxed; the claim publishes nothing, `published`
            // does that. A stale `tail` fails here.
            match self.claims.tail.compare_exchange_weak(
                tail,
                tail + u64::from(count),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(tail & TICKETS),
                Err(now) => tail = now,
            }
        }
    }

    /// Checks that a push has room after `tail`, and that no other waits for room.
    pub(super) fn check_room(&self, tail: u64, count: u32, bytes: u32) -> Result<(), PushError> {
        self.check_open(tail)?;
        // ORDERING: Acquire pairs with the receiver's Release in `free`:
        // it has taken the values out of the slots claimed here.
        let received = self.received.load(Ordering::Acquire);
        // ORDERING: Relaxed; a limit that each racing caller may exceed by one push.
        let queued = self.claims.bytes.load(Ordering::Relaxed);
        let end = (tail & TICKETS) + u64::from(count) + queued / ONE_RESERVED;
        let is_full = end > received + self.capacity() || self.exceeds(queued, bytes.into());
        if is_full || tail & GATED != 0 { Err(PushError::Full) } else { Ok(()) }
    }

    pub(super) fn check_open(&self, tail: u64) -> Result<(), PushError> {
        if tail & CLOSED == 0 {
            return Ok(());
        }
        // ORDERING: Acquire fence pairs with the Release in `close`: a
        // refused caller sees the cause that the closer stored before.
        fence(Ordering::Acquire);
        Err(PushError::Closed)
    }

    /// Whether `bytes` more exceed the limit, if `queued` was loaded from `Claims::bytes`.
    pub(super) fn exceeds(&self, queued: u64, bytes: u64) -> bool {
        let queued = queued % ONE_RESERVED;
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

    /// Q3 CLOSE: refuses every later push, and those that wait for room. Values already claimed
    /// are still received. Idempotent.
    pub(crate) fn close(&self) {
        // ORDERING: Release pairs with the Acquire fence in `claim`. The bit and
        // the tickets are one word, so every exchange comes before or after it.
        self.claims.tail.fetch_or(CLOSED, Ordering::AcqRel);
        self.wake_receiver();
        self.refuse_waiting();
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
        let idle = tail & TICKETS == head;
        if !idle && self.ring.is_published(head) {
            return Some(Work::Values);
        }
        if tail & GATED != 0 && self.requests.is_admission_requested() {
            return Some(Work::Admit);
        }
        if idle && tail & CLOSED != 0 {
            return Some(Work::Closed);
        }
        (idle && self.requests.is_seal_requested()).then_some(Work::Seal)
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
