//! How many bytes of requests may be in the process at once.
//!
//! Whoever wants to hold bytes of a request reserves them first, from the
//! moment they are read off the socket until the log has acknowledged what
//! they became. What cannot be reserved is refused, so that memory is bounded
//! at any offered load. This file knows no request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes that all requests share.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    /// Any thread adds and takes away. Relaxed: it is a count by itself, and
    /// the memory that it stands for belongs to whoever reserved it.
    in_use: AtomicUsize,
}

/// Bytes that are taken; they go back when this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of which nothing is in use.
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, in_use: AtomicUsize::new(0) })
    }

    /// How many bytes are taken now.
    pub(crate) fn in_use(&self) -> usize {
        // Relaxed: see the field.
        self.in_use.load(Ordering::Relaxed)
    }

    /// A reservation that holds nothing yet.
    pub(crate) fn reserve_nothing(self: &Arc<Self>) -> Reservation {
        Reservation { budget: Arc::clone(self), bytes: 0 }
    }
}

impl Reservation {
    /// Takes more bytes; says whether there were as many left. If not, what was
    /// taken before stays taken.
    #[must_use]
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let within = |in_use: usize| {
            let after = in_use.checked_add(bytes)?;
            (after <= self.budget.bytes_max).then_some(after)
        };
        // Relaxed: see the field.
        let taken = self.budget.in_use.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        if taken.is_ok() {
            self.bytes += bytes;
        }
        taken.is_ok()
    }

    /// Makes room for one more element if there is none, and so much more that
    /// filling a vector stays linear: as much as there is, `step` at least.
    #[must_use]
    pub(crate) fn make_room<T>(&mut self, vector: &mut Vec<T>, step: usize) -> bool {
        if vector.len() < vector.capacity() {
            return true;
        }
        let more = vector.capacity().max(step);
        let fits = self.grow(more * size_of::<T>());
        if fits {
            vector.reserve_exact(more);
        }
        fits
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // Relaxed: see the field.
        self.budget.in_use.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
