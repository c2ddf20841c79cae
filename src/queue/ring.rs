//! The ring of slots that holds a queue's values until they are received.
//!
//! Values **stay in their slots**: the producer and the receiver take turns at them, and a later
//! value reuses the memory. The receiver moves groups of slots that it has received to the place
//! of the tickets that come next. So the memory in use follows the number of values that wait at
//! once, and stays in the caches of the cores. This file does not know who may push, nor the
//! limits.

use crate::util::slot_groups::{GROUP_LEN, SlotGroups, next_group};
use crate::util::sync::{AtomicU64, Ordering, UnsafeCell};

/// A ring of slots, one per ticket that is claimed and not received. It allocates no more of them
/// than have been in use at once, and uses their memory in turn.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    slots: SlotGroups<Slot<T>>,
    capacity: u64,
}

#[derive(Debug)]
#[repr(align(64))]
struct Slot<T> {
    /// Q2 ORDER: the ticket last published here, plus 1. The producer that
    /// claimed the ticket stores (Release), the receiver loads (Acquire).
    published: AtomicU64,
    /// Owned by the producer that claimed the ticket until it publishes, then
    /// by the receiver until it moves `received` past the ticket.
    held: UnsafeCell<Held<T>>,
}

/// The content of a slot.
#[derive(Debug, Default)]
pub(crate) struct Held<T> {
    pub(crate) tickets: u32,
    pub(crate) bytes: u32,
    pub(crate) value: T,
}

impl<T> Held<T> {
    pub(crate) fn fill(
        &mut self,
        ticket: u64,
        tickets: u32,
        bytes: u32,
        fill: impl FnOnce(u64, &mut T),
    ) {
        (self.tickets, self.bytes) = (tickets, bytes);
        fill(ticket, &mut self.value);
    }
}

// SAFETY: one thread at a time touches a slot's value: the producer that claimed its
// ticket, then, after `published`, the one receiver. The two `unsafe` functions
// require their callers to be those.
unsafe impl<T: Send> Sync for Ring<T> {}

impl<T: Default> Ring<T> {
    /// A ring for `capacity` tickets.
    pub(crate) fn new(capacity: usize) -> Self {
        let new_slot =
            || Slot { published: AtomicU64::new(0), held: UnsafeCell::new(Held::default()) };
        // One more than it needs, so that no two groups in use have one place.
        let slots = SlotGroups::new(capacity + GROUP_LEN, new_slot);
        // So that the first push of a shard does not allocate it.
        slots.get_or_new(0);
        Self { slots, capacity: capacity as u64 }
    }
}

impl<T> Ring<T> {
    /// The number of tickets that can be claimed and not received.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Calls `fill` with the slot's previous value, to be overwritten with the ticket's,
    /// and publishes it.
    ///
    /// # Safety
    ///
    /// The calling thread has claimed the ticket, once. It has seen (Acquire) that the
    /// receiver has freed every ticket up to [`Ring::capacity`] below it.
    pub(crate) unsafe fn put(&self, ticket: u64, fill: impl FnOnce(&mut Held<T>)) {
        let slot = self.slots.get_or_new(ticket);
        slot.held.with_mut(|held| {
            // SAFETY: Q1 BOUND: this thread claimed the ticket, and the receiver has
            // freed the slot; no other thread touches it until `published` says so.
            fill(unsafe { &mut *held });
        });
        // ORDERING: Release pairs with the Acquire in `published`: the value
        // is complete before it can be received.
        slot.published.store(ticket + 1, Ordering::Release);
    }

    /// Whether the ticket's value can be received.
    pub(crate) fn is_published(&self, ticket: u64) -> bool {
        self.published(ticket).is_some()
    }

    /// Calls `take` with the ticket's value, if it is published.
    ///
    /// # Safety
    ///
    /// The calling thread has the one receiver, which has not freed the ticket.
    pub(crate) unsafe fn take<R>(
        &self,
        ticket: u64,
        take: impl FnOnce(&mut Held<T>) -> R,
    ) -> Option<R> {
        let slot = self.published(ticket)?;
        Some(slot.held.with_mut(|held| {
            // SAFETY: the producer has published the value, and none reuses the
            // slot before the receiver frees it; there is no other receiver.
            take(unsafe { &mut *held })
        }))
    }

    /// Moves the groups whose last ticket is in `from..to`, which the receiver has received and
    /// not yet freed, to where the next tickets will use them. `place` is the receiver's, and 0
    /// at first.
    pub(crate) fn reuse(&self, from: u64, to: u64, place: &mut u64) {
        let mut first = from;
        while next_group(first) <= to {
            self.slots.move_ahead(first, place);
            first = next_group(first);
        }
    }

    /// The slot of a ticket whose value can be received.
    fn published(&self, ticket: u64) -> Option<&Slot<T>> {
        let slot = self.slots.get(ticket)?;
        // ORDERING: Acquire pairs with the Release in `put`.
        (slot.published.load(Ordering::Acquire) == ticket + 1).then_some(slot)
    }
}
