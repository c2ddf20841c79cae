//! The interface by which the writer thread reports its work.
//!
//! The writer asks its observer for the time, and has no clock of its own. A model that
//! passes `()` therefore depends on its inputs alone. This file does not know what
//! becomes of a report.

/// Receives the reports of a shard's writer thread.
///
/// The writer calls it a few times per commit, and at most twice per *sampled* record.
/// It asks for the time only in commits that hold a sampled record. The append decides
/// which records are sampled. The writer thread alone calls all methods but
/// [`Observer::now`].
pub(crate) trait Observer: Send + Sync {
    /// Nanoseconds since the observer was made. Any thread may call it. An observer
    /// with a clock never returns 0, because 0 means "not sampled" in a record.
    fn now(&self) -> u64;

    /// A sampled record was drained this long after its append.
    fn queue_waited(&self, nanos: u64);

    /// A sampled record was acknowledged this long after its append.
    fn acknowledged(&self, nanos: u64);

    /// A commit was written.
    fn committed(&self, sample: CommitSample);

    /// A data sync succeeded, and took this long.
    fn synced(&self, nanos: u64);

    /// The writer rolled to the next segment.
    fn rolled(&self);

    /// This number of records was answered `NotWritten`.
    fn refused(&self, records: u64);

    /// The shard has failed, and accepts no more appends.
    fn poisoned(&self);
}

/// The numbers of one commit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitSample {
    /// Records in it.
    pub(crate) records: u64,
    /// Bytes of their payloads.
    pub(crate) bytes: u64,
    /// Records in the queue when the writer began to drain it.
    pub(crate) queue_depth: u64,
    /// Duration of the write, if it was timed.
    pub(crate) write_nanos: Option<u64>,
}

/// An observer that ignores every report, with a clock that always shows 0.
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
