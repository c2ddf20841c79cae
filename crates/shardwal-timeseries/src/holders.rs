//! Epoch-based reclamation of the numbers of series. A series leaves the index only once no thread
//! can hold its number. This file does not know series.
//!
//! A read or a write takes a [`Hold`] before it looks up numbers, and keeps it until it has used
//! the last one. A pass of the retention first hides series from every look-up, then begins an
//! epoch. Holds of later epochs never see a hidden number. So the numbers are free once the epoch
//! before has no holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The two epochs, which take turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epoch(bool);

impl Epoch {
    pub(crate) fn other(self) -> Self {
        Self(!self.0)
    }

    pub(crate) fn to_byte(self) -> u8 {
        self.0.into()
    }

    pub(crate) fn from_byte(byte: u8) -> Self {
        Self(byte != 0)
    }
}

/// Number of holds per epoch. A shard's holds begin under the read lock of its index, and epochs
/// under the write lock, so a hold is of the epoch that its index has.
#[derive(Debug, Default)]
pub(crate) struct Holders([AtomicU64; 2]);

impl Holders {
    fn of(&self, epoch: Epoch) -> &AtomicU64 {
        &self.0[usize::from(epoch.0)]
    }

    /// Whether an epoch has holds.
    pub(crate) fn has(&self, epoch: Epoch) -> bool {
        // ORDERING: Acquire; what the last holder did with its numbers is over.
        self.of(epoch).load(Ordering::Acquire) > 0
    }

    /// Ends holds that [`Hold::hand_over`] has left to the caller.
    pub(crate) fn end(&self, epoch: Epoch, holds: u64) {
        // ORDERING: Release; see `has`.
        self.of(epoch).fetch_sub(holds, Ordering::Release);
    }
}

/// As long as it lives, the numbers that are looked up after it stay those of their series.
#[derive(Debug)]
pub(crate) struct Hold {
    holders: Arc<Holders>,
    epoch: Epoch,
    /// The clock of the index as it began.
    pub(crate) clock: u32,
}

impl Hold {
    /// Begins a hold. The caller has the lock of the index, whose epoch and clock these are.
    pub(crate) fn begin(holders: &Arc<Holders>, epoch: Epoch, clock: u32) -> Self {
        // ORDERING: Relaxed; the lock orders it before the end of the epoch.
        holders.of(epoch).fetch_add(1, Ordering::Relaxed);
        Self { holders: holders.clone(), epoch, clock }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Leaves the end of the hold to another thread, which calls [`Holders::end`].
    pub(crate) fn hand_over(self) {
        // ORDERING: Relaxed; this hold is still counted.
        self.holders.of(self.epoch).fetch_add(1, Ordering::Relaxed);
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        Self::begin(&self.holders, self.epoch, self.clock)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.holders.end(self.epoch, 1);
    }
}
