//! The number of samples that memory may hold: applied samples, and admitted samples that are still
//! pending. A histogram counts as several: its **weight**. This file knows counts, not samples.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::HistogramSample;

/// Bytes of memory that count as one sample.
const SAMPLE_BYTES: usize = 16;

/// Bytes of memory per histogram beside its own: its place in a chunk, a head, an allocation.
const HISTOGRAM_HEAD_BYTES: usize = 56;

/// The number of samples that a histogram counts as.
pub(crate) fn histogram_weight(histogram: &HistogramSample) -> u64 {
    (histogram.bytes.len() + HISTOGRAM_HEAD_BYTES).div_ceil(SAMPLE_BYTES) as u64
}

/// The sample budget of a storage.
#[derive(Debug)]
pub(crate) struct Budget {
    max: u64,
    /// Samples applied plus samples pending. Any thread adds before it queues samples, so that the
    /// sum never exceeds `max`. Only `open` may exceed it.
    taken: AtomicU64,
}

/// Samples of one write that no shard has taken over yet. Dropping the claim returns the rest to
/// the budget.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    budget: &'a Budget,
    left: u64,
}

impl Budget {
    pub(crate) fn new(max: u64) -> Arc<Self> {
        Arc::new(Self { max, taken: AtomicU64::new(0) })
    }

    /// The limit.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// Claims room for a whole write, or for nothing.
    pub(crate) fn claim(&self, samples: u64) -> Option<Claim<'_>> {
        let within = |taken: u64| taken.checked_add(samples).filter(|after| *after <= self.max);
        // ORDERING: Relaxed; the counter decides by itself and publishes nothing.
        let claimed = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within);
        claimed.is_ok().then(|| Claim { budget: self, left: samples })
    }

    /// Counts samples that the log held at `open`. They were acknowledged, so they stay even above
    /// the limit.
    fn exceed(&self, samples: u64) {
        // ORDERING: Relaxed; see `claim`.
        self.taken.fetch_add(samples, Ordering::Relaxed);
    }

    fn release(&self, samples: u64) {
        // ORDERING: Relaxed; see `claim`.
        self.taken.fetch_sub(samples, Ordering::Relaxed);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.budget.release(self.left);
    }
}

/// One shard's part of the budget: samples admitted, and neither applied nor refused.
#[derive(Debug)]
pub(crate) struct Pending {
    budget: Arc<Budget>,
    /// Any thread adds and subtracts. A sample counts here exactly while the budget counts it as
    /// pending.
    samples: AtomicU64,
}

impl Pending {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { budget, samples: AtomicU64::new(0) }
    }

    /// Takes over `samples` of a claim.
    pub(crate) fn take_over(&self, claim: &mut Claim<'_>, samples: u64) {
        claim.left = claim.left.checked_sub(samples).expect("a write claims all of its samples");
        // ORDERING: Relaxed; as in `Budget::claim`.
        self.samples.fetch_add(samples, Ordering::Relaxed);
    }

    /// Ends the wait of samples that were applied. Releases what they `replaced` in memory.
    pub(crate) fn release_applied(&self, samples: u64, replaced: u64) {
        self.take(samples);
        self.budget.release(replaced);
    }

    /// Counts samples that `open` found in the log, without what they `replaced` in memory. They
    /// were never admitted.
    pub(crate) fn restored(&self, samples: u64, replaced: u64) {
        self.budget.exceed(samples);
        self.budget.release(replaced);
    }

    /// Returns the room of applied samples that have left memory.
    pub(crate) fn dropped(&self, samples: u64) {
        self.budget.release(samples);
    }

    /// Returns the room of pending samples that will not be applied.
    pub(crate) fn refuse(&self, samples: u64) {
        self.budget.release(self.take(samples));
    }

    /// Returns the room of all pending samples, because the shard has ended. The log refuses
    /// samples that are admitted later, and their writer returns them.
    pub(crate) fn refuse_all(&self) {
        self.refuse(u64::MAX);
    }

    /// Subtracts at most what is pending. After the shard has ended, the samples may already have
    /// been returned.
    fn take(&self, samples: u64) -> u64 {
        let rest = |pending: u64| Some(pending.saturating_sub(samples));
        // ORDERING: Relaxed; as in `Budget::claim`.
        let before = self.samples.fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest);
        before.unwrap_or(0).min(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, Ordering, Pending};

    #[test]
    fn what_is_refused_is_returned_once() {
        let budget = Budget::new(10);
        let (one, other) = (Pending::new(budget.clone()), Pending::new(budget.clone()));
        let taken = || budget.taken.load(Ordering::Relaxed);
        assert!(budget.claim(11).is_none());
        assert!(budget.claim(u64::MAX).is_none());
        let mut claim = budget.claim(10).expect("there is room");
        assert!(budget.claim(1).is_none(), "what is on its way counts");
        one.take_over(&mut claim, 6);
        other.take_over(&mut claim, 1);
        drop(claim);
        assert_eq!(taken(), 7, "nobody took over the other 3");
        one.release_applied(4, 3);
        assert_eq!(taken(), 4, "3 of the 4 had been there");
        one.refuse_all();
        one.refuse(2);
        assert_eq!(taken(), 2, "1 is applied, 1 is pending elsewhere");
        other.refuse(1);
        other.restored(25, 5);
        assert_eq!(taken(), 21, "open may pass the limit");
        assert!(budget.claim(0).is_none());
    }
}
