//! A table of the threads and tasks that wait for tickets, with a slot per ticket.
//!
//! Tickets are dense and answered in order. So a ticket, masked, is the index of its slot,
//! and the thread that answers a range of tickets touches the slots of that range and no
//! others. A registration allocates nothing once its group of slots exists, and a waiter
//! that goes away leaves its slot free. This file does not know what an answer is: after
//! it has registered, the waiter checks for its answer once more.
//!
//! Two tickets share a slot if they are a whole table apart. If both wait, the second one must
//! register elsewhere. So the number of slots is a matter of speed alone.
//!
//! Invariants:
//!
//! - Q4 WAKE: a waiter that registers before a range is taken, and finds no answer after it has
//!   registered, is taken with that range
//! - W3 SLOT: one thread at a time touches a slot's sleeper: the one that moved its state away
//!   from `FREE` or from `WAITING`

use crate::util::slot_groups::SlotGroups;
use crate::util::sync::{AtomicU64, Ordering, UnsafeCell, fence};
use crate::wait::sleeper::Sleeper;

/// No waiter is registered.
const FREE: u64 = 0;
/// The waiter, or the thread that takes it, is at the slot's sleeper.
const BUSY: u64 = 1;
/// A waiter is registered.
const WAITING: u64 = 2;
/// The bits of a state that hold one of the three. The ticket is above them.
const PHASE_BITS: u32 = 2;
const PHASE: u64 = (1 << PHASE_BITS) - 1;

/// The waiters of the tickets of one shard.
#[derive(Debug)]
pub(crate) struct WaiterTable {
    slots: SlotGroups<Slot>,
}

#[derive(Debug)]
struct Slot {
    /// W3 SLOT: the phase, and above it the ticket that registered last.
    state: AtomicU64,
    sleeper: UnsafeCell<Option<Sleeper>>,
}

// SAFETY: W3 SLOT: the phase gives the cell to one thread at a time.
unsafe impl Sync for Slot {}

impl WaiterTable {
    /// A table for at least `slots` tickets without an answer.
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots: SlotGroups::new(slots, Slot::new) }
    }

    /// Registers the waiter of `ticket`, in place of the ticket's earlier one. Only that
    /// waiter calls it. It must then check for its answer once more, and withdraw if there is
    /// one. Returns the sleeper if the slot belongs to another ticket: the waiter must register
    /// elsewhere.
    #[must_use = "if there is one, nothing is registered"]
    pub(crate) fn register(&self, ticket: u64, sleeper: Sleeper) -> Option<Sleeper> {
        let refused = self.register_unfenced(ticket, sleeper);
        // ORDERING: SeqCst fence, pairs with the fence in `take`: either this waiter's next
        // check sees its answer, or the thread that answered sees the registration.
        fence(Ordering::SeqCst);
        refused
    }

    /// Registers as [`WaiterTable::register`] does. The caller executes a SeqCst fence before the
    /// waiter checks for its answer, or the ticket is answered only after the call.
    #[must_use = "if there is one, nothing is registered"]
    pub(crate) fn register_unfenced(&self, ticket: u64, sleeper: Sleeper) -> Option<Sleeper> {
        self.slots.get_or_new(ticket).register(ticket, sleeper)
    }

    /// Ends the ticket's registration, if no thread has taken it. Only its waiter calls it.
    pub(crate) fn withdraw(&self, ticket: u64) {
        let slot = self.slots.get(ticket);
        if let Some(sleeper) = slot.and_then(|slot| slot.take_if(|waiting| waiting == ticket)) {
            sleeper.discard();
        }
    }

    /// Takes the waiters of the tickets `from..to` out. The caller has answered them before.
    pub(crate) fn take(&self, from: u64, to: u64, each: &mut impl FnMut(Sleeper)) {
        // ORDERING: SeqCst fence, pairs with the fence in `register`.
        fence(Ordering::SeqCst);
        let first = from.max(to.saturating_sub(self.slots.count()));
        let slots = self.slots.range(first, to);
        slots.filter_map(|slot| slot.take_if(|ticket| ticket < to)).for_each(each);
    }

    /// Takes every waiter out, whatever its ticket.
    pub(crate) fn take_all(&self, each: &mut impl FnMut(Sleeper)) {
        // ORDERING: SeqCst fence, pairs with the fence in `register`.
        fence(Ordering::SeqCst);
        self.slots.iter().filter_map(|slot| slot.take_if(|_| true)).for_each(each);
    }
}

impl Drop for WaiterTable {
    fn drop(&mut self) {
        // Their futures may have been leaked, and then never withdraw.
        self.take_all(&mut Sleeper::discard);
    }
}

impl Slot {
    fn new() -> Self {
        Self { state: AtomicU64::new(FREE), sleeper: UnsafeCell::new(None) }
    }

    /// See [`WaiterTable::register`].
    fn register(&self, ticket: u64, new: Sleeper) -> Option<Sleeper> {
        // ORDERING: Relaxed; the exchange below checks what was read.
        let found = self.state.load(Ordering::Relaxed);
        let is_usable = match found & PHASE {
            FREE => true,
            WAITING => found >> PHASE_BITS == ticket,
            _ => false,
        };
        if !is_usable || !self.enter(found, ticket) {
            return Some(new);
        }
        let replaced = self.sleeper.with_mut(|sleeper| {
            // SAFETY: W3 SLOT: this thread has made the slot busy.
            unsafe { (*sleeper).replace(new) }
        });
        // ORDERING: Release pairs with the Acquire in `enter`.
        self.state.store(ticket << PHASE_BITS | WAITING, Ordering::Release);
        if let Some(replaced) = replaced {
            replaced.discard();
        }
        None
    }

    /// Takes the waiter out, if there is one and `is_meant` is true for its ticket.
    fn take_if(&self, is_meant: impl FnOnce(u64) -> bool) -> Option<Sleeper> {
        // ORDERING: Relaxed; the exchange below checks what was read. A registration that a
        // thread misses has yet to check for its answer, by the fences.
        let found = self.state.load(Ordering::Relaxed);
        let ticket = found >> PHASE_BITS;
        if found & PHASE != WAITING || !is_meant(ticket) || !self.enter(found, ticket) {
            return None;
        }
        let sleeper = self.sleeper.with_mut(|sleeper| {
            // SAFETY: W3 SLOT: this thread has made the slot busy.
            unsafe { (*sleeper).take() }
        });
        // ORDERING: Release pairs with the Acquire in `enter`.
        self.state.store(ticket << PHASE_BITS | FREE, Ordering::Release);
        sleeper
    }

    /// Makes the slot busy for this thread, if its state is still `found`.
    fn enter(&self, found: u64, ticket: u64) -> bool {
        let busy = ticket << PHASE_BITS | BUSY;
        // ORDERING: Acquire pairs with the Release of the thread that left the slot.
        self.state.compare_exchange(found, busy, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}
