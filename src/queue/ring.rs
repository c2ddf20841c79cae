//! The ring of slots that holds a queue's values until they are received.
//!
//! A ticket's slot is found by masking the ticket. Values **stay in their slots**: the
//! producer and the receiver take turns at them, and the next value reuses the
//! memory of the last. This file does not know who may push, nor the limits.

use crate::util::sync::{AtomicU64, Ordering, UnsafeCell};

/// A ring of slots, one per ticket that is claimed and not received.
#[derive(Debug)]
pub(crate) struct Ring<T>(Box<[Slot<T>]>);

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
    /// A ring for `capacity` tickets, which must be a power of two.
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(capacity.is_power_of_two(), "a slot is found by masking its ticket");
        let slot =
            |_| Slot { published: AtomicU64::new(0), held: UnsafeCell::new(Held::default()) };
        Self((0..capacity).map(slot).collect())
    }
}

impl<T> Ring<T> {
    /// The number of tickets that can be claimed and not received.
    pub(crate) fn capacity(&self) -> u64 {
        self.0.len() as u64
    }

    /// Calls `fill` with the slot's previous value, to be overwritten with the ticket's,
    /// and publishes it.
    ///
    /// # Safety
    ///
    /// The calling thread has claimed the ticket, once. It has seen (Acquire) that the
    /// receiver has freed every ticket up to [`Ring::capacity`] below it.
    pub(crate) unsafe fn put(&self, ticket: u64, fill: impl FnOnce(&mut Held<T>)) {
        let slot = self.slot(ticket);
        slot.held.with_mut(|held| {
            // SAFETY: Q1 BOUND: this thread claimed the ticket, and the receiver has
            // freed the slot; no other thread touches it until `published` says so.
            fill(unsafe { &mut *held });
        });
        // ORDERING: Release pairs with the Acquire in `is_published`: the value
        // is complete before it can be received.
        slot.published.store(ticket + 1, Ordering::Release);
    }

    /// Whether the ticket's value can be received.
    pub(crate) fn is_published(&self, ticket: u64) -> bool {
        // ORDERING: Acquire pairs with the Release in `put`.
        self.slot(ticket).published.load(Ordering::Acquire) == ticket + 1
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
        self.is_published(ticket).then(|| {
            self.slot(ticket).held.with_mut(|held| {
                // SAFETY: the producer has published the value, and none reuses the
                // slot before the receiver frees it; there is no other receiver.
                take(unsafe { &mut *held })
            })
        })
    }

    fn slot(&self, ticket: u64) -> &Slot<T> {
        #[expect(clippy::cast_possible_truncation, reason = "masked below the number of slots")]
        let index = (ticket & (self.capacity() - 1)) as usize;
        &self.0[index]
    }
}
