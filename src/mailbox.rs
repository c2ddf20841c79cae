//! A ticketed, bounded, many-producer single-consumer ring with parking.
//!
//! Each push claims the next *tickets*, dense from 0, with one exchange; the
//! ticket is also the slot. Pushes that claim several tickets appear to the
//! receiver whole. The mailbox knows no file and no record: it carries values
//! and their weight in bytes.
//!
//! **Requests** (sync, seal, mark) travel beside the slots, as a ticket each: "once
//! all below ticket t has been received, do this". Their place among the
//! values is thereby fixed, as it would be in the ring, but they take no
//! ticket (tickets become the records' permanent numbers, which have no
//! holes) and a full ring cannot delay them.
//!
//! | label | invariant |
//! |---|---|
//! | Q1 BOUND | at most `capacity` tickets are claimed and not yet received |
//! | Q2 ORDER | values are received in ticket order, each once |
//! | Q3 CLOSE | after `close`, every claimed ticket is still received, none is claimed |
//! | Q4 WAKE | no wake-up is lost: a full ring parks its producers, an empty one its receiver |

use std::mem::MaybeUninit;
use std::task::Context;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, UnsafeCell, fence, yield_now};
use crate::waiters::{EVERYONE, WaitList, Waiter};

/// Set in `tail` by `close`. Tickets stay far below it: at 10^9 a second they
/// would take 292 years to reach it.
const CLOSED: u64 = 1 << 63;

/// Why a push was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    /// No room in records or in bytes; or the deadline passed before there was.
    Full,
    /// The mailbox has been closed.
    Closed,
}

#[derive(Debug)]
struct Slot<T> {
    /// Q2 ORDER: ticket + 1 of the value that was last put here. The producer
    /// that claimed the ticket stores (Release), the receiver loads (Acquire).
    published: AtomicU64,
    /// Owned by the producer that claimed the ticket until it publishes, then
    /// by the receiver until it moves `received` past the ticket.
    value: UnsafeCell<MaybeUninit<T>>,
}

/// The shared part: producers push, anyone may close or request.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    /// Q1 BOUND, Q3 CLOSE: the next ticket, and `CLOSED`. Producers exchange
    /// it upwards, `close` sets the bit; everybody reads.
    tail: CachePadded<AtomicU64>,
    /// Q1 BOUND: tickets below have left their slots. Only the receiver stores
    /// (Release); producers load (Acquire) before they claim a slot again.
    received: CachePadded<AtomicU64>,
    /// Q1 BOUND: weight of what is claimed and not received, in bytes.
    /// Producers add before they publish, the receiver subtracts.
    bytes: CachePadded<AtomicU64>,
    /// Sync once all below this ticket has been received. Raised by anyone.
    sync_below: AtomicU64,
    /// Write a seal. Set by anyone, cleared by the receiver.
    seal: AtomicBool,
    /// Say where the shard stands. The same.
    mark: AtomicBool,
    bytes_max: u64,
    slots: Box<[Slot<T>]>,
    /// Q4 WAKE: producers that found no room.
    room: WaitList,
    /// Q4 WAKE: the receiver, when there was nothing to do.
    work: WaitList,
}

// SAFETY: a slot's value is touched by one thread at a time: by the producer
// that claimed its ticket (the exchange on `tail` gives a ticket to one
// producer only), then, after `published`, by the one receiver.
unsafe impl<T: Send> Sync for Mailbox<T> {}

impl<T> Mailbox<T> {
    /// A mailbox for `capacity` values (a power of two) and about `bytes_max`
    /// bytes, and its one receiver.
    pub(crate) fn new(capacity: usize, bytes_max: u64) -> (Arc<Self>, Receiver<T>) {
        assert!(capacity.is_power_of_two(), "a slot is found by masking its ticket");
        let slot = |_| Slot {
            published: AtomicU64::new(0),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        };
        let mailbox = Arc::new(Self {
            tail: CachePadded::new(AtomicU64::new(0)),
            received: CachePadded::new(AtomicU64::new(0)),
            bytes: CachePadded::new(AtomicU64::new(0)),
            sync_below: AtomicU64::new(0),
            seal: AtomicBool::new(false),
            mark: AtomicBool::new(false),
            bytes_max,
            slots: (0..capacity).map(slot).collect(),
            room: WaitList::new(),
            work: WaitList::new(),
        });
        let receiver = Receiver { mailbox: mailbox.clone(), head: 0, synced: 0 };
        (mailbox, receiver)
    }

    /// Tickets that the ring can hold.
    pub(crate) fn capacity(&self) -> u64 {
        self.slots.len() as u64
    }

    /// The next ticket: all appends of this thread so far lie below it.
    pub(crate) fn tail(&self) -> u64 {
        // ORDERING: Relaxed; a thread always sees its own claims and those
        // that happened before, and no slot is read on the strength of this.
        self.tail.load(Ordering::Relaxed) & !CLOSED
    }

    /// Values claimed and not yet received.
    pub(crate) fn depth(&self) -> u64 {
        // ORDERING: Relaxed; a figure for people, and a hint.
        let received = self.received.load(Ordering::Relaxed);
        self.tail().saturating_sub(received)
    }

    /// Pushes `count` values of `bytes` together, made by `make` from their
    /// tickets, or says why not at once. `make` must not panic: a ticket once
    /// claimed has to be published.
    pub(crate) fn try_push(
        &self,
        count: u64,
        bytes: u64,
        make: impl FnMut(u64) -> T,
    ) -> Result<u64, PushError> {
        let first = self.claim(count, bytes)?;
        self.publish(first, count, bytes, make);
        Ok(first)
    }

    /// Blocks while there is no room, until the deadline; then pushes.
    pub(crate) fn push(
        &self,
        count: u64,
        bytes: u64,
        deadline: Option<Instant>,
        make: impl FnMut(u64) -> T,
    ) -> Result<u64, PushError> {
        let claim = || self.claim_unless_full(count, bytes);
        let first = self.room.wait(0, deadline, claim).unwrap_or(Err(PushError::Full))?;
        self.publish(first, count, bytes, make);
        Ok(first)
    }

    /// The same for a task; `None` means that its waker will be called.
    pub(crate) fn poll_push(
        &self,
        bytes: u64,
        context: &mut Context<'_>,
        enrolled: &mut Option<Arc<Waiter>>,
        make: impl FnMut(u64) -> T,
    ) -> Option<Result<u64, PushError>> {
        let claim = || self.claim_unless_full(1, bytes);
        let claimed = self.room.poll(0, context, enrolled, claim)?;
        Some(claimed.inspect(|&first| self.publish(first, 1, bytes, make)))
    }

    fn claim_unless_full(&self, count: u64, bytes: u64) -> Option<Result<u64, PushError>> {
        match self.claim(count, bytes) {
            Err(PushError::Full) => None,
            decided => Some(decided),
        }
    }

    /// Claims `count` consecutive tickets.
    ///
    /// The bound in bytes is checked first and added after, so that a refusal
    /// has nothing to undo; callers that race may pass it by one push each,
    /// whose payload they would hold anyway. A push heavier than the bound goes
    /// in alone.
    fn claim(&self, count: u64, bytes: u64) -> Result<u64, PushError> {
        assert!(
            (1..=self.capacity()).contains(&count),
            "a push of {count} tickets never fits a ring of {}",
            self.capacity()
        );
        // ORDERING: Relaxed; the exchange below checks what was read.
        let mut tail = self.tail.load(Ordering::Relaxed);
        loop {
            if tail & CLOSED != 0 {
                // ORDERING: Acquire fence pairs with the Release in `close`: who
                // is refused sees why, where the closer has said so before.
                fence(Ordering::Acquire);
                return Err(PushError::Closed);
            }
            // ORDERING: Acquire pairs with the receiver's Release in `free`:
            // it has taken the values out of the slots claimed here.
            let received = self.received.load(Ordering::Acquire);
            if tail + count > received + self.capacity() || self.is_heavy(bytes) {
                return Err(PushError::Full);
            }
            // ORDERING: Relaxed; the claim publishes nothing, `published`
            // does that. A stale `tail` fails here.
            match self.tail.compare_exchange_weak(
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

    fn is_heavy(&self, bytes: u64) -> bool {
        // ORDERING: Relaxed; a bound that racing callers may pass by one push
        // each. A caller that parks on it has fenced, and so has the receiver
        // that subtracts (Q4 WAKE).
        let queued = self.bytes.load(Ordering::Relaxed);
        queued != 0 && queued + bytes > self.bytes_max
    }

    fn publish(&self, first: u64, count: u64, bytes: u64, mut make: impl FnMut(u64) -> T) {
        // ORDERING: Relaxed; the Release below comes after it, so that the
        // receiver never subtracts what was not yet added.
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // The first slot last: when the receiver sees it, it sees them all.
        for ticket in (first..first + count).rev() {
            let slot = &self.slots[self.index(ticket)];
            let value = make(ticket);
            slot.value.with_mut(|cell| {
                // SAFETY: this thread claimed `ticket`, and `claim` saw that
                // the receiver had emptied the slot; nobody else touches it
                // until `published` says so.
                unsafe { (*cell).write(value) };
            });
            // ORDERING: Release pairs with the Acquire in `Receiver::next`:
            // the value is written before it can be taken.
            slot.published.store(ticket + 1, Ordering::Release);
        }
        self.work.wake(EVERYONE);
    }

    fn index(&self, ticket: u64) -> usize {
        // The mask is below the slots' count, which is a `usize`.
        #[expect(clippy::cast_possible_truncation, reason = "masked below the number of slots")]
        let index = (ticket & (self.capacity() - 1)) as usize;
        index
    }

    /// Asks for a sync once all that this thread has pushed is received.
    /// Returns the ticket below which that is.
    pub(crate) fn request_sync(&self) -> u64 {
        let below = self.tail();
        // ORDERING: Relaxed; the fences of `work` order it (Q4 WAKE), and the
        // receiver acts on it only by what it has itself received.
        self.sync_below.fetch_max(below, Ordering::Relaxed);
        self.work.wake(EVERYONE);
        below
    }

    /// Asks for a seal when there is nothing else to do.
    pub(crate) fn request_seal(&self) {
        // ORDERING: Relaxed; a hint, ordered by the fences of `work`.
        self.seal.store(true, Ordering::Relaxed);
        self.work.wake(EVERYONE);
    }

    /// Asks for a mark, before any value that is still inside.
    pub(crate) fn request_mark(&self) {
        // ORDERING: Relaxed; the request says no more than itself, and the
        // fences of `work` order it (Q4 WAKE).
        self.mark.store(true, Ordering::Relaxed);
        self.work.wake(EVERYONE);
    }

    /// Q3 CLOSE: refuses every later push. What has been claimed will still be
    /// received. Idempotent.
    pub(crate) fn close(&self) {
        // ORDERING: Release pairs with the Acquire fence in `claim`. The bit and
        // the tickets are one word, so every exchange comes before or after it.
        self.tail.fetch_or(CLOSED, Ordering::Release);
        self.work.wake(EVERYONE);
        self.room.wake(EVERYONE);
    }
}

/// What the receiver should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// There are values to receive.
    Values,
    /// All below a requested ticket has been received: sync.
    Sync,
    /// Somebody asked for a seal, and there is nothing else to do.
    Seal,
    /// Somebody asked for a mark.
    Mark,
    /// Closed, and everything has been received.
    Closed,
}

/// The one consumer.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    mailbox: Arc<Mailbox<T>>,
    /// The next ticket to receive.
    head: u64,
    /// The sync request that was last answered.
    synced: u64,
}

impl<T> Receiver<T> {
    /// The next ticket to receive: all below has been received.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Parks until there is something to do, and says what.
    pub(crate) fn wait(&mut self) -> Work {
        let mailbox = self.mailbox.clone();
        // One turn for the producers before parking: where they are about to
        // push, nobody needs to be woken. Two producers and four shards
        // without a disk took 0.9 us of CPU a record without it, 0.4 with it;
        // more turns gained nothing.
        if self.look().is_none() {
            yield_now();
        }
        let work = mailbox.work.wait(0, None, || self.look());
        match work {
            // ORDERING: Relaxed; a request that comes now is the next one.
            Some(Work::Seal) => mailbox.seal.store(false, Ordering::Relaxed),
            // ORDERING: Relaxed; likewise.
            Some(Work::Mark) => mailbox.mark.store(false, Ordering::Relaxed),
            Some(Work::Sync) => self.synced = self.head,
            _ => {}
        }
        work.unwrap_or(Work::Closed)
    }

    fn look(&self) -> Option<Work> {
        // ORDERING: Relaxed on all four; see `request_mark`, `request_sync`,
        // `request_seal` and `close`.
        if self.mailbox.mark.load(Ordering::Relaxed) {
            return Some(Work::Mark);
        }
        let sync_below = self.mailbox.sync_below.load(Ordering::Relaxed);
        if sync_below > self.synced && sync_below <= self.head {
            return Some(Work::Sync);
        }
        if self.is_published() {
            return Some(Work::Values);
        }
        let tail = self.mailbox.tail.load(Ordering::Relaxed);
        if tail == self.head | CLOSED {
            return Some(Work::Closed);
        }
        let idle = tail == self.head;
        (idle && self.mailbox.seal.load(Ordering::Relaxed)).then_some(Work::Seal)
    }

    fn is_published(&self) -> bool {
        let slot = &self.mailbox.slots[self.mailbox.index(self.head)];
        // ORDERING: Acquire pairs with the Release in `publish`.
        slot.published.load(Ordering::Acquire) == self.head + 1
    }

    /// Receives what is there, in ticket order, until `take` says stop or there
    /// is no more. `take` sees `(ticket, value)`; its weight in bytes is what
    /// `weigh` says, as it was said to the push.
    pub(crate) fn drain(
        &mut self,
        weigh: impl Fn(&T) -> u64,
        mut take: impl FnMut(u64, T) -> bool,
    ) {
        let mut bytes = 0;
        let mut go_on = true;
        while go_on && self.is_published() {
            let slot = &self.mailbox.slots[self.mailbox.index(self.head)];
            let value = slot.value.with_mut(|cell| {
                // SAFETY: `published` holds ticket + 1, so its producer has
                // written the value and let go; only this receiver takes, and
                // `head` moves on at once, so it takes it once.
                unsafe { (*cell).assume_init_read() }
            });
            let ticket = self.head;
            self.head += 1;
            bytes += weigh(&value);
            go_on = take(ticket, value);
            // Let producers on in good time, without a wake-up each.
            if self.head.is_multiple_of(64) {
                self.free(std::mem::take(&mut bytes));
            }
        }
        self.free(bytes);
        self.mailbox.room.wake(EVERYONE);
    }

    fn free(&self, bytes: u64) {
        // ORDERING: Relaxed; see `is_heavy`.
        self.mailbox.bytes.fetch_sub(bytes, Ordering::Relaxed);
        // ORDERING: Release pairs with the Acquire in `claim`: the values are
        // out of the slots that it hands on.
        self.mailbox.received.store(self.head, Ordering::Release);
    }
}

impl<T> Drop for Receiver<T> {
    /// Nobody receives any more: closes, and drops what was left inside.
    fn drop(&mut self) {
        self.mailbox.close();
        self.drain(|_| 0, |_, _| true);
    }
}

impl<T> Drop for Mailbox<T> {
    /// Drops values whose publication came after the receiver had gone.
    fn drop(&mut self) {
        // ORDERING: Relaxed; exclusive access.
        for ticket in self.received.load(Ordering::Relaxed)..self.tail() {
            let slot = &self.slots[self.index(ticket)];
            if slot.published.load(Ordering::Relaxed) == ticket + 1 {
                // SAFETY: published and not received, and nobody else is left.
                slot.value.with_mut(|cell| unsafe { (*cell).assume_init_drop() });
            }
        }
    }
}
