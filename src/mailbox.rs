//! A ticketed, bounded, many-producer single-consumer ring with parking.
//!
//! Each push claims the next *tickets*, dense from 0, with one exchange; the
//! first ticket also finds the slot ([`Slots`]). A push may claim several: its one
//! value stands for all of them, and the receiver gets it whole. The mailbox knows no
//! file and no record: it carries values, the number of their tickets and their
//! weight in bytes.
//!
//! **Requests** (sync, seal, mark) travel beside the slots, as a ticket each: "once
//! all below ticket t has been received, do this". Their place among the
//! values is thereby fixed, as it would be in the ring, but they take no
//! ticket (tickets become the records' permanent numbers, which have no
//! holes) and a full ring cannot delay them.
//!
//! There is one [`Receiver`], but whoever has it may change; anybody may
//! [`Mailbox::look`] whether there is something for it to do.
//!
//! | label | invariant |
//! |---|---|
//! | Q1 BOUND | at most `capacity` tickets are claimed and not yet received |
//! | Q2 ORDER | values are received in ticket order, each once |
//! | Q3 CLOSE | after `close`, every claimed ticket is still received, none is claimed |
//! | Q4 WAKE | no wake-up is lost: a full ring parks its producers, an empty one its receiver |

use std::task::Context;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::slots::{Held, Slots};
use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, fence, yield_now};
use crate::waiter::Enrolled;
use crate::waiters::WaitList;

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

/// What a drain hands out.
#[derive(Debug)]
pub(crate) struct Received<'a, T> {
    /// The first of its tickets.
    pub(crate) ticket: u64,
    /// How many it has.
    pub(crate) tickets: u32,
    /// Its weight, as it was said to the push.
    pub(crate) bytes: u32,
    /// It stays in the slot, for the next producer to change.
    pub(crate) value: &'a mut T,
}

/// The shared part: producers push, anyone may close or request.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    /// What producers change with each push, on one cache line.
    claims: CachePadded<Claims>,
    /// Q1 BOUND: tickets below have left their slots. Only the receiver stores
    /// (Release); producers load (Acquire) before they claim a slot again.
    received: CachePadded<AtomicU64>,
    /// Sync once all below this ticket has been received. Raised by anyone.
    sync_below: AtomicU64,
    /// Where the receiver stood when it last began a sync. It alone stores.
    synced_below: AtomicU64,
    /// The request that it works towards, which those that come meanwhile do not
    /// put off. It alone stores.
    sync_goal: AtomicU64,
    /// Write a seal. Set by anyone, cleared by the receiver.
    seal: AtomicBool,
    /// Say where the shard stands. The same.
    mark: AtomicBool,
    /// Whether the receiver is to stop, whatever there is to do.
    stop: AtomicBool,
    bytes_max: u64,
    slots: Slots<T>,
    /// Q4 WAKE: producers that found no room.
    room: WaitList,
    /// Q4 WAKE: who waits for work, when there was none.
    work: WaitList,
}

#[derive(Debug)]
struct Claims {
    /// Q1 BOUND, Q3 CLOSE: the next ticket, and `CLOSED`. Producers exchange
    /// it upwards, `close` sets the bit; everybody reads.
    tail: AtomicU64,
    /// Q1 BOUND: weight of what is claimed and not received, in bytes.
    /// Producers add before they publish, the receiver subtracts.
    bytes: AtomicU64,
}

impl<T: Default> Mailbox<T> {
    /// A mailbox for `capacity` values (a power of two) and about `bytes_max`
    /// bytes, and its one receiver.
    pub(crate) fn new(capacity: usize, bytes_max: u64) -> (Arc<Self>, Receiver<T>) {
        let mailbox = Arc::new(Self {
            claims: CachePadded::new(Claims { tail: AtomicU64::new(0), bytes: AtomicU64::new(0) }),
            received: CachePadded::new(AtomicU64::new(0)),
            sync_below: AtomicU64::new(0),
            synced_below: AtomicU64::new(0),
            sync_goal: AtomicU64::new(0),
            seal: AtomicBool::new(false),
            mark: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            bytes_max,
            slots: Slots::new(capacity),
            room: WaitList::new(),
            work: WaitList::new(),
        });
        let receiver =
            Receiver { mailbox: mailbox.clone(), head: 0, own: Held::default(), has_own: false };
        (mailbox, receiver)
    }
}

impl<T> Mailbox<T> {
    /// Tickets that the ring can hold.
    pub(crate) fn capacity(&self) -> u64 {
        self.slots.capacity()
    }

    /// The next ticket: all appends of this thread so far lie below it.
    pub(crate) fn tail(&self) -> u64 {
        // ORDERING: Relaxed; a thread always sees its own claims and those
        // that happened before, and no slot is read on the strength of this.
        self.claims.tail.load(Ordering::Relaxed) & !CLOSED
    }

    /// Values claimed and not yet received.
    pub(crate) fn depth(&self) -> u64 {
        // ORDERING: Relaxed; a figure for people, and a hint.
        let received = self.received.load(Ordering::Relaxed);
        self.tail().saturating_sub(received)
    }

    /// Pushes a value of `count` tickets and `bytes`, or says why not at once,
    /// and wakes who waits for work. `fill` is told the first ticket, and makes
    /// the value of what the slot last held. It must not panic: a ticket once
    /// claimed has to be published.
    pub(crate) fn try_push(
        &self,
        count: u32,
        bytes: u32,
        fill: impl FnOnce(u64, &mut T),
    ) -> Result<u64, PushError> {
        let pushed = self.try_push_quietly(count, bytes, fill);
        // Where there is no room as well, see `push`.
        self.wake_receiver();
        pushed
    }

    /// The same, and wakes nobody: the caller sees to it that there is a
    /// receiver, or calls [`Mailbox::wake_receiver`].
    pub(crate) fn try_push_quietly(
        &self,
        count: u32,
        bytes: u32,
        fill: impl FnOnce(u64, &mut T),
    ) -> Result<u64, PushError> {
        let first = self.claim(count, bytes)?;
        self.publish(first, count, bytes, fill);
        Ok(first)
    }

    /// Blocks while there is no room, until the deadline; then pushes.
    pub(crate) fn push(
        &self,
        count: u32,
        bytes: u32,
        deadline: Option<Instant>,
        fill: impl FnOnce(u64, &mut T),
    ) -> Result<u64, PushError> {
        let claim = || self.claim_unless_full(count, bytes);
        // What fills the ring may have been pushed quietly by somebody who has not
        // come to see to it yet.
        self.wake_receiver();
        let first = self.room.wait(0, deadline, claim).unwrap_or(Err(PushError::Full))?;
        self.publish(first, count, bytes, fill);
        self.wake_receiver();
        Ok(first)
    }

    /// The same for a task; `None` means that its waker will be called.
    pub(crate) fn poll_push(
        &self,
        bytes: u32,
        context: &mut Context<'_>,
        enrolled: &mut Option<Enrolled>,
        fill: impl FnOnce(u64, &mut T),
    ) -> Option<Result<u64, PushError>> {
        let claim = || self.claim_unless_full(1, bytes);
        let claimed = self.room.poll(0, context, enrolled, claim);
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
    /// The bound in bytes is checked first and added after, so that a refusal
    /// has nothing to undo; callers that race may pass it by one push each,
    /// whose payload they would hold anyway. A push heavier than the bound goes
    /// in alone.
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

    fn is_heavy(&self, bytes: u64) -> bool {
        // ORDERING: Relaxed; a bound that racing callers may pass by one push
        // each. A caller that parks on it has fenced, and so has the receiver
        // that subtracts (Q4 WAKE).
        let queued = self.claims.bytes.load(Ordering::Relaxed);
        queued != 0 && queued + bytes > self.bytes_max
    }

    fn publish(&self, first: u64, tickets: u32, bytes: u32, fill: impl FnOnce(u64, &mut T)) {
        self.weigh(bytes);
        // SAFETY: `claim` gave `first` to this thread alone, and had seen that the
        // ring holds it.
        unsafe { self.slots.put(first, |held| held.fill(first, tickets, bytes, fill)) };
    }

    fn weigh(&self, bytes: u32) {
        // ORDERING: Relaxed; the Release of `put` comes after it, so that the
        // receiver never subtracts what was not yet added.
        self.claims.bytes.fetch_add(bytes.into(), Ordering::Relaxed);
    }

    /// Asks for a sync once all that this thread has pushed is received.
    /// Returns the ticket below which that is.
    pub(crate) fn request_sync(&self) -> u64 {
        let below = self.tail();
        // ORDERING: Relaxed; the fences of `work` order it (Q4 WAKE), and the
        // receiver acts on it only by what it has itself received.
        self.sync_below.fetch_max(below, Ordering::Relaxed);
        self.work.wake_everyone();
        below
    }

    /// Asks for a seal when there is nothing else to do.
    pub(crate) fn request_seal(&self) {
        // ORDERING: Relaxed; a hint, ordered by the fences of `work`.
        self.seal.store(true, Ordering::Relaxed);
        self.work.wake_everyone();
    }

    /// Asks for a mark, before any value that is still inside.
    pub(crate) fn request_mark(&self) {
        // ORDERING: Relaxed; the request says no more than itself, and the
        // fences of `work` order it (Q4 WAKE).
        self.mark.store(true, Ordering::Relaxed);
        self.work.wake_everyone();
    }

    /// Asks the receiver to stop, before anything that is still inside.
    pub(crate) fn request_stop(&self) {
        // ORDERING: Release pairs with the Acquire in `is_stop_requested`; the
        // fences of `work` order it for a receiver that sleeps (Q4 WAKE).
        self.stop.store(true, Ordering::Release);
        self.work.wake_everyone();
    }

    /// Whether [`Mailbox::request_stop`] was called.
    pub(crate) fn is_stop_requested(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `request_stop`.
        self.stop.load(Ordering::Acquire)
    }

    /// Q3 CLOSE: refuses every later push. What has been claimed will still be
    /// received. Idempotent.
    pub(crate) fn close(&self) {
        // ORDERING: Release pairs with the Acquire fence in `claim`. The bit and
        // the tickets are one word, so every exchange comes before or after it.
        self.claims.tail.fetch_or(CLOSED, Ordering::Release);
        self.work.wake_everyone();
        self.room.wake_everyone();
    }

    /// Whether it takes nothing any more. Who is told so sees why, like who is
    /// refused.
    pub(crate) fn is_closed(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `close`.
        self.claims.tail.load(Ordering::Acquire) & CLOSED != 0
    }

    /// What the receiver should do next. Who has the receiver is told truly;
    /// to anybody else it is a hint, but for what happened before, which it does
    /// not miss.
    pub(crate) fn look(&self) -> Option<Work> {
        // ORDERING: Relaxed; whoever has the receiver stored it, or got it from
        // who did.
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
        // The slot of a ticket that nobody has claimed is in no cache.
        if tail & !CLOSED != head && self.slots.is_published(head) {
            return Some(Work::Values);
        }
        if tail == head | CLOSED {
            return Some(Work::Closed);
        }
        let idle = tail == head;
        (idle && self.seal.load(Ordering::Relaxed)).then_some(Work::Seal)
    }

    /// Q4 WAKE: whether half of the ring is free, so that those who found no room
    /// are woken once for many tickets. Where it is not, something was claimed that
    /// is still to be received, and whoever receives it asks again.
    fn has_much_room(&self, head: u64) -> bool {
        // ORDERING: Relaxed; what came since was claimed since, as above.
        let bytes = self.claims.bytes.load(Ordering::Relaxed);
        self.tail() - head <= self.capacity() / 2 && bytes <= self.bytes_max / 2
    }

    /// Parks until `begin`, told what there is to do, if anything, gives a
    /// result. Where it gives none although there is work, somebody else is at
    /// it, who calls [`Mailbox::wake_receiver`] if he leaves something over.
    pub(crate) fn wait_for_work<R>(
        &self,
        mut begin: impl FnMut(Option<Work>) -> Option<R>,
    ) -> Option<R> {
        // One turn for the producers before parking: where they are about to
        // push, nobody needs to be woken. Two producers and four shards
        // without a disk took 0.9 us of CPU a record without it, 0.4 with it;
        // more turns gained nothing.
        if self.look().is_none() {
            yield_now();
        }
        self.work.wait(0, None, || begin(self.look()))
    }

    /// Wakes who waits for work.
    pub(crate) fn wake_receiver(&self) {
        self.work.wake_everyone();
    }
}

/// What the receiver should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Somebody asked for the end, whatever there is to do.
    Stop,
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
    /// What its owner has pushed to itself, with the ticket `head`, while
    /// `has_own`. It stays as a slot's value does.
    own: Held<T>,
    has_own: bool,
}

impl<T> Receiver<T> {
    /// The next ticket to receive: all below has been received.
    pub(crate) fn head(&self) -> u64 {
        self.head
    }

    /// Takes a request that [`Mailbox::look`] has shown: it is about to be done.
    pub(crate) fn begin(&mut self, work: Work) {
        let mailbox = &self.mailbox;
        match work {
            // ORDERING: Relaxed on all; a request that comes now is the next one.
            Work::Seal => mailbox.seal.store(false, Ordering::Relaxed),
            Work::Mark => mailbox.mark.store(false, Ordering::Relaxed),
            Work::Sync => mailbox.synced_below.store(self.head, Ordering::Relaxed),
            Work::Values => self.set_sync_goal(),
            Work::Stop | Work::Closed => {}
        }
    }

    /// A request that waits for values is kept in mind until it is done.
    fn set_sync_goal(&self) {
        let mailbox = &self.mailbox;
        // ORDERING: Relaxed on all; the receiver's own, and a request that is
        // missed now is found at the next values.
        let synced_below = mailbox.synced_below.load(Ordering::Relaxed);
        let goal = mailbox.sync_goal.load(Ordering::Relaxed);
        let sync_below = mailbox.sync_below.load(Ordering::Relaxed);
        // A store where nothing changes would take the line from who pushes.
        if goal <= synced_below && goal != sync_below {
            mailbox.sync_goal.store(sync_below, Ordering::Relaxed);
        }
    }

    /// Pushes one value for whoever has the receiver, who drains it next: past the
    /// slots where nothing is before it, whose memory no cache may hold.
    pub(crate) fn try_push(
        &mut self,
        bytes: u32,
        fill: impl FnOnce(u64, &mut T),
    ) -> Result<u64, PushError> {
        let ticket = self.mailbox.claim(1, bytes)?;
        if ticket == self.head {
            self.mailbox.weigh(bytes);
            self.own.fill(ticket, 1, bytes, fill);
            self.has_own = true;
        } else {
            self.mailbox.publish(ticket, 1, bytes, fill);
        }
        Ok(ticket)
    }

    /// Whether there is a value that [`Mailbox::look`] does not show.
    pub(crate) fn has_own(&self) -> bool {
        self.has_own
    }

    /// Receives what is there, in ticket order, until `take` says stop or there
    /// is no more.
    pub(crate) fn drain(&mut self, mut take: impl FnMut(Received<'_, T>) -> bool) {
        let (mut values, mut bytes) = (0_u32, 0);
        loop {
            let Self { mailbox, head, own, has_own } = &mut *self;
            let ticket = *head;
            let mut receive = |held: &mut Held<T>| {
                let Held { tickets, bytes: weight, value } = held;
                let (tickets, weight) = (*tickets, *weight);
                // First, so that what makes `take` panic is not received again.
                *head += u64::from(tickets);
                bytes += u64::from(weight);
                take(Received { ticket, tickets, bytes: weight, value })
            };
            let was_own = std::mem::take(has_own);
            let goes_on = if was_own {
                Some(receive(own))
            } else {
                // SAFETY: this is the receiver, and `free` comes later.
                unsafe { mailbox.slots.take(ticket, receive) }
            };
            let Some(goes_on) = goes_on else { break };
            // Let producers on in good time, without a wake-up each.
            values += 1;
            if values.is_multiple_of(64) {
                self.free(std::mem::take(&mut bytes));
            }
            if !goes_on || was_own && self.mailbox.tail() == self.head {
                break;
            }
        }
        self.free(bytes);
        if self.mailbox.has_much_room(self.head) {
            self.mailbox.room.wake_everyone();
        }
    }

    /// Receives what has been claimed by now, as far as it is there, and no more,
    /// however much comes meanwhile: producers may be as fast as `take`.
    pub(crate) fn drain_present(&mut self, mut take: impl FnMut(Received<'_, T>)) {
        let end = self.mailbox.tail();
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
        // ORDERING: Relaxed; see `is_heavy`.
        self.mailbox.claims.bytes.fetch_sub(bytes, Ordering::Relaxed);
        // ORDERING: Release pairs with the Acquire in `claim`: the receiver has
        // done with the slots that it hands on.
        self.mailbox.received.store(self.head, Ordering::Release);
    }
}

impl<T> Drop for Receiver<T> {
    /// Nobody receives any more.
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Q2 ORDER: what its owner pushes to itself comes after what was queued.
    #[test]
    fn what_a_receiver_pushes_passes_by_nothing() {
        let (mailbox, mut receiver) = Mailbox::<u64>::new(8, u64::MAX);
        let fill = |ticket, value: &mut u64| *value = 10 * (ticket + 1);
        mailbox.try_push(1, 1, fill).expect("there is room");
        receiver.try_push(1, fill).expect("there is room");
        assert!(!receiver.has_own(), "it stands in its slot");
        let mut received = Vec::new();
        let mut drain = |receiver: &mut Receiver<u64>| {
            receiver.drain(|Received { ticket, value, .. }| {
                received.push((ticket, *value));
                true
            });
        };
        drain(&mut receiver);
        receiver.try_push(1, fill).expect("there is room");
        assert!(receiver.has_own(), "nothing was before it");
        mailbox.try_push(1, 1, fill).expect("there is room");
        drain(&mut receiver);
        drain(&mut receiver);
        assert_eq!(received, [(0, 10), (1, 20), (2, 30), (3, 40)]);
        assert_eq!((mailbox.depth(), mailbox.look()), (0, None));
    }

    /// Q4 WAKE: requests come faster than what lies below them is received, and
    /// the ring is never empty: each is done all the same.
    #[test]
    fn a_sync_request_is_not_put_off_by_later_ones() {
        let (mailbox, mut receiver) = Mailbox::<u64>::new(8, u64::MAX);
        let push = || mailbox.try_push(1, 0, |_, _| {}).expect("there is room");
        for _ in 0..3 {
            push();
        }
        let mut syncs = 0;
        for _ in 0..100 {
            push();
            mailbox.request_sync();
            let work = mailbox.look().expect("the ring is not empty");
            receiver.begin(work);
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

    /// C3 ANSWER: whoever drains comes to an end, and to telling those he has
    /// received, though each value that he takes lets a producer push another.
    #[test]
    fn what_comes_while_the_ring_is_drained_is_left_for_later() {
        let (mailbox, mut receiver) = Mailbox::<u64>::new(256, u64::MAX);
        let push = || mailbox.try_push(1, 0, |_, _| {}).is_ok();
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
