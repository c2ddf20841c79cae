//! The budget: a bound on the bytes of requests in the process.
//!
//! A task reserves the bytes of a request before it holds them. It keeps the reservation from the
//! read off the socket until the log has acknowledged the samples. A request without a reservation
//! is refused, so memory is bounded at any offered load. This file does not know requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of bytes that all requests share.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    /// Bytes reserved. Any thread adds and subtracts. Relaxed: the count protects no memory,
    /// because the owner of a reservation owns its bytes.
    in_use: AtomicUsize,
}

/// Reserved bytes. Dropping the reservation returns them.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

/// Why a reservation cannot grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exhausted {
    /// Other reservations hold too much. That passes.
    Busy,
    /// This reservation alone would exceed the budget.
    TooLarge {
        /// The bytes that it would hold.
        needed: usize,
        /// The budget.
        max: usize,
    },
}

impl Budget {
    /// Creates a budget with nothing reserved.
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, in_use: AtomicUsize::new(0) })
    }

    /// Number of bytes reserved now.
    pub(crate) fn in_use(&self) -> usize {
        // Relaxed: see the field.
        self.in_use.load(Ordering::Relaxed)
    }

    /// Creates an empty reservation.
    pub(crate) fn reserve_nothing(self: &Arc<Self>) -> Reservation {
        Reservation { budget: Arc::clone(self), bytes: 0 }
    }
}

impl Reservation {
    /// Reserves `bytes` more.
    ///
    /// # Errors
    /// The budget has too few left. What was reserved before remains.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Exhausted> {
        let within = |in_use: usize| {
            let after = in_use.checked_add(bytes)?;
            (after <= self.budget.bytes_max).then_some(after)
        };
        // Relaxed: see the field.
        let taken = self.budget.in_use.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        if taken.is_ok() {
            self.bytes += bytes;
            return Ok(());
        }
        let (needed, max) = (self.bytes.saturating_add(bytes), self.budget.bytes_max);
        Err(if needed > max { Exhausted::TooLarge { needed, max } } else { Exhausted::Busy })
    }

    /// Returns `bytes` that were reserved for memory that is free again.
    pub(crate) fn release(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.bytes, "only reserved bytes are released");
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        // Relaxed: see the field.
        self.budget.in_use.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Ensures room for one more element, and reserves the memory. A full vector at least doubles,
    /// and grows by at least `step` elements, so that filling it stays linear.
    ///
    /// # Errors
    /// See [`Reservation::grow`].
    pub(crate) fn make_room<T>(
        &mut self,
        vector: &mut Vec<T>,
        step: usize,
    ) -> Result<(), Exhausted> {
        if vector.len() < vector.capacity() {
            return Ok(());
        }
        let more = vector.capacity().max(step);
        self.grow(more * size_of::<T>())?;
        vector.reserve_exact(more);
        Ok(())
    }

    /// Ensures room for `count` more elements, and reserves the memory. A vector at least doubles,
    /// so that filling it stays linear.
    ///
    /// # Errors
    /// See [`Reservation::grow`].
    pub(crate) fn make_room_for<T>(
        &mut self,
        vector: &mut Vec<T>,
        count: usize,
    ) -> Result<(), Exhausted> {
        let room = vector.capacity() - vector.len();
        if count <= room {
            return Ok(());
        }
        let more = vector.capacity().max(count - room);
        self.grow(more * size_of::<T>())?;
        vector.reserve_exact(room + more);
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Relaxed: see the field.
        self.budget.in_use.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
