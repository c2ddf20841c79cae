//! Tickets that are reserved before there is a value for them.
//!
//! A reservation is a number beside the bytes of the queue, and keeps room free for one ticket. A
//! push that is claimed meanwhile counts it. One that has checked for room before, and claims
//! after, does not: so a reservation may rarely find its room taken.

use crate::queue::queue::{ONE_RESERVED, PushError, Queue, TICKETS};
use crate::util::sync::Ordering;

impl<T> Queue<T> {
    /// Reserves one ticket and `bytes` at once, if there is room and no push waits.
    pub(crate) fn try_reserve(&self, bytes: u32) -> Result<(), PushError> {
        // ORDERING: Relaxed; checked once more below.
        self.check_room(self.claims.tail.load(Ordering::Relaxed), 1, bytes)?;
        // First, so that a claim from now on counts it.
        self.reserve_unchecked(bytes);
        // ORDERING: AcqRel; an exchange that changes nothing has a place among the changes of the
        // gate. Either it sees the gate closed, or the receiver that admits counts the
        // reservation.
        let tail = self.claims.tail.fetch_or(0, Ordering::AcqRel);
        let checked = self.check_room(tail, 0, 0);
        if checked.is_err() {
            // The receiver may have counted it, and have found no room for a push that waits.
            self.unreserve(bytes);
        }
        checked
    }

    /// Counts a reservation. The caller knows that there is room, or looks after it.
    pub(super) fn reserve_unchecked(&self, bytes: u32) {
        // ORDERING: Relaxed; a claim that misses it takes its room, see `push_reserved`.
        self.claims.bytes.fetch_add(ONE_RESERVED + u64::from(bytes), Ordering::Relaxed);
    }

    /// Gives a reservation back.
    pub(crate) fn unreserve(&self, bytes: u32) {
        self.end_reservation(bytes);
        self.request_admission();
    }

    pub(super) fn end_reservation(&self, bytes: u32) {
        // ORDERING: Release pairs with the Acquire in `has_room`: a receiver that no longer
        // counts the reservation counts the ticket.
        self.claims.bytes.fetch_sub(ONE_RESERVED + u64::from(bytes), Ordering::Release);
    }

    /// Pushes a value of one ticket and `bytes` for a reservation of `reserved` bytes, which it
    /// ends. Does not block. `Full` is rare: another push had missed the reservation. The caller
    /// then lines up, which requests an admission for what waits before it too.
    pub(crate) fn push_reserved(
        &self,
        reserved: u32,
        bytes: u32,
        fill: impl FnOnce(u64, &mut T),
    ) -> Result<u64, PushError> {
        let claimed = self.claim_reserved();
        // The bytes of the value are added as it is published.
        self.end_reservation(reserved);
        let first = claimed?;
        self.publish(first, 1, bytes, fill);
        self.wake_receiver();
        Ok(first)
    }

    /// Claims a ticket that was reserved, also while the gate is closed.
    fn claim_reserved(&self) -> Result<u64, PushError> {
        self.claim_if(1, |tail| {
            self.check_open(tail)?;
            // ORDERING: Acquire; as in `check_room`.
            let received = self.received.load(Ordering::Acquire);
            let is_full = (tail & TICKETS) + 1 > received + self.capacity();
            if is_full { Err(PushError::Full) } else { Ok(()) }
        })
    }
}
