//! Where a mailbox's values stand until they are received: a ring of slots.
//!
//! A ticket's slot is found by masking it. Values **stay in their slots**, producer
//! and receiver take turns at them, so that what a value has allocated is used
//! again. This file does not know who may push, nor how many.

use crate::sync::{AtomicU64, Ordering, UnsafeCell};

/// See the module's words.
#[derive(Debug)]
pub(crate) struct Slots<T>(Box<[Slot<T>]>);

#[derive(Debug)]
#[repr(align(64))]
struct Slot<T> {
    /// Q2 ORDER: ticket + 1 of what was last put here. The producer that
    /// claimed the ticket stores (Release), the receiver loads (Acquire).
    published: AtomicU64,
    /// Owned by the producer that claimed the ticket until it publishes, then
    /// by the receiver until it moves `received` past the ticket.
    held: UnsafeCell<Held<T>>,
}

/// What a slot holds.
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

// SAFETY: a slot's value is touched by one thread at a time: by the producer
// that claimed its ticket, then, after `published`, by the one receiver. The two
// `unsafe` functions leave it to their callers to be those.
unsafe impl<T: Send> Sync for Slots<T> {}

impl<T: Default> Slots<T> {
    /// For so many tickets under way, a power of two.
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(capacity.is_power_of_two(), "a slot is found by masking its ticket");
        let slot =
            |_| Slot { published: AtomicU64::new(0), held: UnsafeCell::new(Held::default()) };
        Self((0..capacity).map(slot).collect())
    }
}

impl<T> Slots<T> {
    /// Tickets that can be under way.
    pub(crate) fn capacity(&self) -> u64 {
        self.0.len() as u64
    }

    /// Lets `fill` make the ticket's value of what its slot last held, and
    /// publishes it.
    ///
    /// # Safety
    ///
    /// The calling thread has claimed the ticket, once, and has seen (Acquire) that
    /// the receiver has done with all tickets up to [`Slots::capacity`] below it.
    pub(crate) unsafe fn put(&self, ticket: u64, fill: impl FnOnce(&mut Held<T>)) {
        let slot = self.slot(ticket);
        slot.held.with_mut(|held| {
            // SAFETY: Q1 BOUND: this thread claimed the ticket, and the receiver has
            // done with the slot; nobody else touches it until `published` says so.
            fill(unsafe { &mut *held });
        });
        // ORDERING: Release pairs with the Acquire in `is_published`: the value
        // is whole before it can be received.
        slot.published.store(ticket + 1, Ordering::Release);
    }

    /// Whether the ticket's value can be received.
    pub(crate) fn is_published(&self, ticket: u64) -> bool {
        // ORDERING: Acquire pairs with the Release in `put`.
        self.slot(ticket).published.load(Ordering::Acquire) == ticket + 1
    }

    /// Shows `take` the ticket's value, if it was published.
    ///
    /// # Safety
    ///
    /// The calling thread has the one receiver, which has not done with the ticket.
    pub(crate) unsafe fn take<R>(
        &self,
        ticket: u64,
        take: impl FnOnce(&mut Held<T>) -> R,
    ) -> Option<R> {
        self.is_published(ticket).then(|| {
            self.slot(ticket).held.with_mut(|held| {
                // SAFETY: its producer has let go, and none comes back before the
                // receiver has done with it; there is no other receiver.
                take(unsafe { &mut *held })
            })
        })
    }

    fn slot(&self, ticket: u64) -> &Slot<T> {
        // The mask is below the slots' count, which is a `usize`.
        #[expect(clippy::cast_possible_truncation, reason = "masked below the number of slots")]
        let index = (ticket & (self.capacity() - 1)) as usize;
        &self.0[index]
    }
}
