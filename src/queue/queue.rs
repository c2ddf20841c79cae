//! The queue of a shard: an MPSC variant of Vyukov's bounded queue, with parking.
//!
//! Each push claims the next *tickets* with one compare-exchange. Tickets are dense
//! and start at 0. The first ticket of a push also selects its slot ([`Ring`]).
//! A push may claim several tickets: one value then carries them all, and the
//! receiver gets it whole. The queue does not know files or records. It knows
//! values, the number of their tickets and their size in bytes.
//!
//! **Requests** (sync, seal, mark) travel beside the slots. Each names a ticket:
//! "once every value below ticket t is received, do this". Their order among the
//! values is therefore fixed, as it would be in the ring. But a request takes no
//! ticket, because tickets become the records' permanent sequences, which have no
//! holes. And a full ring cannot delay a request.
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

use crate::queue::ring::{Held, Ring};
use crate::util::sync::{Arc, AtomicBool, AtomicU64, Ordering, fence, yield_now};
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

/// The shared part: producers push, any thread may close it or make a request.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// The fields that producers change with each push, on a cache line of their own.
    claims: CachePadded<Claims>,
    /// Q1 BOUND: every ticket below this has left its slot. Only the receiver stores
    /// (Release). Producers load (Acquire) before they claim a slot again.
    received: CachePadded<AtomicU64>,
    /// Sync once every ticket below this is received. Any thread raises it.
    sync_below: AtomicU64,
    /// The receiver's head when it last began a sync. Only the receiver stores.
    synced_below: AtomicU64,
    /// The sync request that the receiver is working towards. Later requests do not
    /// postpone it. Only the receiver stores.
    sync_goal: AtomicU64,
    /// A seal is requested. Any thread sets it, the receiver clears it.
    seal: AtomicBool,
    /// A mark is requested. Any thread sets it, the receiver clears it.
    mark: AtomicBool,
    /// The receiver must stop, even if values or requests are left.
    stop: AtomicBool,
    bytes_max: u64,
    ring: Ring<T>,
    /// Q4 WAKE: producers that wait for room.
    not_full: WaitList,
    /// Q4 WAKE: threads that wait for work.
    not_empty: WaitList,
}

#[derive(Debug)]
struct Claims {
    /// Q1 BOUND, Q3 CLOSE: the next ticket, and `CLOSED`. Producers raise it by
    /// exchange, `close` sets the bit, every thread reads it.
    tail: AtomicU64,
    /// Q1 BOUND: bytes of the values that are claimed and not yet received.
    /// Producers add before they publish, the receiver subtracts.
    bytes: AtomicU64,
}

impl<T: Default> Queue<T> {
    /// Makes a queue for `capacity` tickets (a power of two) and about `bytes_max`
    /// bytes, and its one receiver.
    pub(crate) fn new(capacity: usize, bytes_max: u64) -> (Arc<Self>, Receiver<T>) {
        let queue = Arc::new(Self {
            claims: CachePadded::new(Claims { tail: AtomicU64::new(0), bytes: AtomicU64::new(0) }),
            received: CachePadded::new(AtomicU64::new(0)),
            sync_below: AtomicU64::new(0),
            synced_below: AtomicU64::new(0),
            sync_goal: AtomicU64::new(0),
            seal: AtomicBool::new(false),
            mark: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            bytes_max,
            ring: Ring::new(capacity),
            not_full: WaitList::new(),
            not_empty: WaitList::new(),
        });
        let receiver = Receiver {
            queue: queue.clone(),
            head: 0,
            bypass: Held::default(),
            has_bypassed: false,
        };
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
    fn claim(&self, count: u32, bytes: u32) -> Result<u64, PushError> {
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

    fn publish(&self, first: u64, tickets: u32, bytes: u32, fill: impl FnOnce(u64, &mut T)) {
        self.add_bytes(bytes);
        // SAFETY: `claim` gave `first` to this thread alone, and had seen that the
        // ring has room for it.
        unsafe { self.ring.put(first, |held| held.fill(first, tickets, bytes, fill)) };
    }

    fn add_bytes(&self, bytes: u32) {
        // ORDERING: Relaxed; the Release of `put` comes after it, so that the
        // receiver never subtracts bytes that are not yet added.
        self.claims.bytes.fetch_add(bytes.into(), Ordering::Relaxed);
    }

    /// Requests a sync after every value that this thread has pushed. Returns the
    /// ticket below which those values are.
    pub(crate) fn request_sync(&self) -> u64 {
        let below = self.tail();
        // ORDERING: Relaxed; the fences of `not_empty` order it (Q4 WAKE), and the
        // receiver acts on it only by what it has itself received.
        self.sync_below.fetch_max(below, Ordering::Relaxed);
        self.not_empty.wake_everyone();
        below
    }

    /// Requests a seal. The receiver writes it once there is nothing else to do.
    pub(crate) fn request_seal(&self) {
        // ORDERING: Relaxed; a hint, ordered by the fences of `not_empty`.
        self.seal.store(true, Ordering::Relaxed);
        self.not_empty.wake_everyone();
    }

    /// Requests a mark, ahead of the values that are still queued.
    pub(crate) fn request_mark(&self) {
        // ORDERING: Relaxed; the request publishes nothing but itself, and the
        // fences of `not_empty` order it (Q4 WAKE).
        self.mark.store(true, Ordering::Relaxed);
        self.not_empty.wake_everyone();
    }

    /// Requests that the receiver stops, ahead of the values that are still queued.
    pub(crate) fn request_stop(&self) {
        // ORDERING: Release pairs with the Acquire in `is_stop_requested`; the
        // fences of `not_empty` order it for a receiver that sleeps (Q4 WAKE).
        self.stop.store(true, Ordering::Release);
        self.not_empty.wake_everyone();
    }

    /// Whether [`Queue::request_stop`] was called.
    pub(crate) fn is_stop_requested(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `request_stop`.
        self.stop.load(Ordering::Acquire)
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
        if self.is_stop_requested() {
            return Some(Work::Stop);
        }
        // ORDERING: Relaxed on all of them; see `request_mark`, `request_sync`,
        // `request_seal` and `close`.
        if self.mark.load(Ordering::Relaxed) {
            return Some(Work::Mark);
        }
        let synced_below = self.synced_below.load(Ordering::Relaxed);
        let requests = [&self.sync_goal, &self.sync_below].map(|it| it.load(Ordering::Relaxed));
        if requests.iter().any(|below| *below > synced_below && *below <= head) {
            return Some(Work::Sync);
        }
        let tail = self.claims.tail.load(Ordering::Relaxed);
        // Check `tail` first: the slot of an unclaimed ticket is in no cache.
        if tail & !CLOSED != head && self.ring.is_published(head) {
            return Some(Work::Values);
        }
        if tail == head | CLOSED {
            return Some(Work::Closed);
        }
        let idle = tail == head;
        (idle && self.seal.load(Ordering::Relaxed)).then_some(Work::Seal)
    }

    /// Q4 WAKE: whether half of the ring is free. Producers that wait for room are woken
    /// only then, so that one wake-up serves many tickets. If half is not free, a claimed
    /// value is still to be received, and its receiver checks again.
    fn is_half_free(&self, head: u64) -> bool {
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

/// The next thing for the receiver to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A stop was requested; values that are left are not received.
    Stop,
    /// There are values to receive.
    Values,
    /// Every ticket below a requested one is received: sync.
    Sync,
    /// A seal was requested, and there is nothing else to do.
    Seal,
    /// A mark was requested.
    Mark,
    /// The queue is closed, and every value is received.
    Closed,
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
}

impl<T> Receiver<T> {
    /// The next ticket to receive. Every ticket below it is received.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Clears a request that [`Queue::next_work`] returned, because it is about to be done.
    pub(crate) fn accept(&mut self, work: Work) {
        let queue = &self.queue;
        match work {
            // ORDERING: Relaxed on all; a request that comes now is the next one.
            Work::Seal => queue.seal.store(false, Ordering::Relaxed),
            Work::Mark => queue.mark.store(false, Ordering::Relaxed),
            Work::Sync => queue.synced_below.store(self.head, Ordering::Relaxed),
            Work::Values => self.set_sync_goal(),
            Work::Stop | Work::Closed => {}
        }
    }

    /// Remembers a sync request that waits for values, until it is done.
    fn set_sync_goal(&self) {
        let queue = &self.queue;
        // ORDERING: Relaxed on all; the receiver's own, and a request that is
        // missed now is found with the next values.
        let synced_below = queue.synced_below.load(Ordering::Relaxed);
        let goal = queue.sync_goal.load(Ordering::Relaxed);
        let sync_below = queue.sync_below.load(Ordering::Relaxed);
        // An unchanged store would take the cache line from the producers.
        if goal <= synced_below && goal != sync_below {
            queue.sync_goal.store(sync_below, Ordering::Relaxed);
        }
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
        let is_request = matches!(work, Some(Work::Stop | Work::Mark | Work::Sync));
        if self.has_bypassed && !is_request { Some(Work::Values) } else { work }
    }

    /// Receives values in ticket order, until `take` returns `false` or the ring is
    /// empty.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(Received<'_, T>) -> bool) {
        let (mut values, mut bytes) = (0_u32, 0);
        loop {
            let Self { queue, head, bypass, has_bypassed } = &mut *self;
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
            }
            if !goes_on || is_bypass && self.queue.tail() == self.head {
                break;
            }
        }
        self.free(bytes);
        if self.queue.is_half_free(self.head) {
            self.queue.not_full.wake_everyone();
        }
    }

    /// Receives the values that are claimed by now, and no later ones. Otherwise fast
    /// producers could keep the caller here forever.
    pub(crate) fn drain_present(&mut self, mut take: impl FnMut(Received<'_, T>)) {
        let end = self.queue.tail();
        if self.head == end {
            return;
        }
        self.drain(|received| {
            let next = received.ticket + u64::from(received.tickets);
            take(received);
            next < end
        });
    }

    fn free(&self, bytes: u64) {
        // ORDERING: Relaxed; see `exceeds_byte_limit`.
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Q2 ORDER: a value that the owner pushes to itself comes after the queued values.
    #[test]
    fn a_bypassing_value_keeps_its_place() {
        let (queue, mut receiver) = Queue::<u64>::new(8, u64::MAX);
        let fill = |ticket, value: &mut u64| *value = 10 * (ticket + 1);
        queue.try_push(1, 1, fill).expect("there is room");
        receiver.try_push(1, fill).expect("there is room");
        assert!(!receiver.has_bypassed(), "the value is in its slot");
        let mut received = Vec::new();
        let mut drain = |receiver: &mut Receiver<u64>| {
            receiver.drain(|Received { ticket, value, .. }| {
                received.push((ticket, *value));
                true
            });
        };
        drain(&mut receiver);
        receiver.try_push(1, fill).expect("there is room");
        assert!(receiver.has_bypassed(), "nothing was before it");
        queue.try_push(1, 1, fill).expect("there is room");
        drain(&mut receiver);
        drain(&mut receiver);
        assert_eq!(received, [(0, 10), (1, 20), (2, 30), (3, 40)]);
        assert_eq!((queue.depth(), queue.next_work()), (0, None));
    }

    /// Q4 WAKE: sync requests come faster than the values below them are received, and
    /// the ring is never empty. Each request is still done.
    #[test]
    fn later_requests_do_not_postpone_a_sync() {
        let (queue, mut receiver) = Queue::<u64>::new(8, u64::MAX);
        let push = || queue.try_push(1, 0, |_, _| {}).expect("there is room");
        for _ in 0..3 {
            push();
        }
        let mut syncs = 0;
        for _ in 0..100 {
            push();
            queue.request_sync();
            let work = queue.next_work().expect("the ring is not empty");
            receiver.accept(work);
            match work {
                Work::Sync => {
                    syncs += 1;
                    receiver.drain(|_| false);
                }
                _ => receiver.drain(|_| false),
            }
        }
        assert!(syncs >= 20, "{syncs} syncs for 100 requests");
    }

    /// C3 ANSWER: a drain ends, so that its callers get their answers, even if a producer
    /// pushes another value for each one that is received.
    #[test]
    fn drain_present_leaves_later_values() {
        let (queue, mut receiver) = Queue::<u64>::new(256, u64::MAX);
        let push = || queue.try_push(1, 0, |_, _| {}).is_ok();
        assert!((0..256).all(|_| push()), "there is room");
        let mut received = 0;
        receiver.drain_present(|_| {
            received += 1;
            assert!(received <= 256, "it goes on with what has come meanwhile");
            push();
        });
        assert_eq!(received, 256);
        assert_eq!(receiver.head(), 256);
    }
}
