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

use std::ptr;

use crate::util::sync::{AtomicPtr, AtomicU64, Ordering, UnsafeCell, fence};
use crate::wait::sleeper::Sleeper;

/// Slots of a group, which is allocated as a whole once one of its tickets has a waiter.
const GROUP_LEN: usize = if cfg!(loom) { 2 } else { 64 };
const GROUP_SLOTS: u64 = GROUP_LEN as u64;

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
    /// Null until a waiter registers in the group. Never changes after that.
    groups: Box<[AtomicPtr<Group>]>,
}

#[derive(Debug)]
struct Group([Slot; GROUP_LEN]);

#[derive(Debug)]
struct Slot {
    /// W3 SLOT: the phase, and above it the ticket that registered last.
    state: AtomicU64,
    sleeper: UnsafeCell<Option<Sleeper>>,
}

// SAFETY: W3 SLOT: the phase gives the cell to one thread at a time.
unsafe impl Sync for Slot {}

impl WaiterTable {
    /// A table for at least `slots` tickets without an answer. Allocates 8 bytes for each 64.
    pub(crate) fn new(slots: usize) -> Self {
        let groups = slots.div_ceil(GROUP_LEN).next_power_of_two();
        Self { groups: (0..groups).map(|_| AtomicPtr::new(ptr::null_mut())).collect() }
    }

    /// Registers the waiter of `ticket`, in place of the ticket's earlier one. Only that
    /// waiter calls it. It must then check for its answer once more, and withdraw if there is
    /// one. Returns `false` if the slot belongs to another ticket: the waiter must register
    /// elsewhere.
    #[must_use = "if it is false, nothing is registered"]
    pub(crate) fn register(&self, ticket: u64, sleeper: Sleeper) -> bool {
        match self.register_sleeper(ticket, sleeper) {
            None => true,
            Some(refused) => {
                refused.discard();
                false
            }
        }
    }

    /// Registers as [`WaiterTable::register`] does. Returns the sleeper if the slot belongs to
    /// another ticket.
    pub(crate) fn register_sleeper(&self, ticket: u64, sleeper: Sleeper) -> Option<Sleeper> {
        let refused = self.group_or_new(ticket).slot(ticket).register(ticket, sleeper);
        // ORDERING: SeqCst fence, pairs with the fence in `take`: either this waiter's next
        // check sees its answer, or the thread that answered sees the registration.
        fence(Ordering::SeqCst);
        refused
    }

    /// Ends the ticket's registration, if no thread has taken it. Only its waiter calls it.
    pub(crate) fn withdraw(&self, ticket: u64) {
        if let Some(group) = self.group(ticket) {
            let sleeper = group.slot(ticket).take_if(|waiting| waiting == ticket);
            if let Some(sleeper) = sleeper {
                sleeper.discard();
            }
        }
    }

    /// Takes the waiters of the tickets `from..to` out. The caller has answered them before.
    pub(crate) fn take(&self, from: u64, to: u64, each: &mut impl FnMut(Sleeper)) {
        // ORDERING: SeqCst fence, pairs with the fence in `register`.
        fence(Ordering::SeqCst);
        let slots = self.groups.len() as u64 * GROUP_SLOTS;
        let mut first = from.max(to.saturating_sub(slots));
        while first < to {
            let next = (first + 1).next_multiple_of(GROUP_SLOTS).min(to);
            if let Some(group) = self.group(first) {
                let slots = (first..next).map(|ticket| group.slot(ticket));
                slots.filter_map(|slot| slot.take_if(|ticket| ticket < to)).for_each(&mut *each);
            }
            first = next;
        }
    }

    /// Takes every waiter out, whatever its ticket.
    pub(crate) fn take_all(&self, each: &mut impl FnMut(Sleeper)) {
        // ORDERING: SeqCst fence, pairs with the fence in `register`.
        fence(Ordering::SeqCst);
        for group in &self.groups {
            if let Some(group) = Group::of(group) {
                group.0.iter().filter_map(|slot| slot.take_if(|_| true)).for_each(&mut *each);
            }
        }
    }

    fn group_cell(&self, ticket: u64) -> &AtomicPtr<Group> {
        let index = ((ticket / GROUP_SLOTS) & (self.groups.len() as u64 - 1)) as usize;
        &self.groups[index]
    }

    fn group(&self, ticket: u64) -> Option<&Group> {
        Group::of(self.group_cell(ticket))
    }

    fn group_or_new(&self, ticket: u64) -> &Group {
        let cell = self.group_cell(ticket);
        if let Some(group) = Group::of(cell) {
            return group;
        }
        let new = Box::into_raw(Box::new(Group::new()));
        // ORDERING: AcqRel: the group is complete for a thread that finds it, and another's
        // group for this one. Acquire also if it fails.
        let placed =
            cell.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire);
        let group = match placed {
            Ok(_) => new,
            Err(other) => {
                // SAFETY: no other thread has seen it.
                drop(unsafe { Box::from_raw(new) });
                other
            }
        };
        // SAFETY: a group stays as long as its table, and changes through atomics.
        unsafe { &*group }
    }
}

impl Drop for WaiterTable {
    fn drop(&mut self) {
        // Their futures may have been leaked, and then never withdraw.
        self.take_all(&mut Sleeper::discard);
        for cell in &self.groups {
            // ORDERING: Relaxed; exclusive access.
            let group = cell.swap(ptr::null_mut(), Ordering::Relaxed);
            if !group.is_null() {
                // SAFETY: it came from `Box::into_raw`, and no thread uses the table.
                drop(unsafe { Box::from_raw(group) });
            }
        }
    }
}

impl Group {
    fn new() -> Self {
        let slot = |_| Slot { state: AtomicU64::new(FREE), sleeper: UnsafeCell::new(None) };
        Self(std::array::from_fn(slot))
    }

    fn of(cell: &AtomicPtr<Self>) -> Option<&Self> {
        // ORDERING: Acquire pairs with the exchange in `group_or_new`.
        let group = cell.load(Ordering::Acquire);
        // SAFETY: a group stays as long as its table, and changes through atomics.
        (!group.is_null()).then(|| unsafe { &*group })
    }

    fn slot(&self, ticket: u64) -> &Slot {
        let index = (ticket % GROUP_SLOTS) as usize;
        &self.0[index]
    }
}

impl Slot {
    /// See [`WaiterTable::register_sleeper`].
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
