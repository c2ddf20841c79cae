//! What the writer thread says about its work, and to whom.
//!
//! The writer asks its observer for the time and has no clock of its own: a
//! model that passes `()` is a function of its inputs alone. This file does
//! not know what becomes of a report.

/// Whom a shard's writer thread reports to.
///
/// Called a few times a commit and at most twice a *sampled* record, and asked for
/// the time where a commit holds one; which
/// records are sampled is decided where they are appended. All but
/// [`Observer::now`] are called by the shard's writer thread alone.
pub(crate) trait Observer: Send + Sync {
    /// Nanoseconds since the observer was made, from any thread. An observer
    /// with a clock never answers 0, for as a record's time 0 means "not
    /// sampled".
    fn now(&self) -> u64;

    /// A sampled record was drained so long after its append.
    fn queue_waited(&self, nanos: u64);

    /// A sampled record was acknowledged so long after its append.
    fn acknowledged(&self, nanos: u64);

    /// A commit was written.
    fn committed(&self, sample: CommitSample);

    /// A data sync succeeded and took so long.
    fn synced(&self, nanos: u64);

    /// The next segment was begun.
    fn rolled(&self);

    /// So many records were answered `NotWritten`.
    fn refused(&self, records: u64);

    /// The shard takes no more appends.
    fn poisoned(&self);
}

/// One commit, as [`Observer::committed`] gets it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitSample {
    /// Records in it.
    pub(crate) records: u64,
    /// Bytes of their payloads.
    pub(crate) bytes: u64,
    /// Records that the writer found in the queue when it came to drain it.
    pub(crate) queue_depth: u64,
    /// How long the write took, if it was timed.
    pub(crate) write_nanos: Option<u64>,
}

/// Nobody listens, and time stands still.
impl Observer for () {
    fn now(&self) -> u64 {
        0
    }
    fn queue_waited(&self, _nanos: u64) {}
    fn acknowledged(&self, _nanos: u64) {}
    fn committed(&self, _sample: CommitSample) {}
    fn synced(&self, _nanos: u64) {}
    fn rolled(&self) {}
    fn refused(&self, _records: u64) {}
    fn poisoned(&self) {}
}
