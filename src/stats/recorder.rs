//! The counters and histograms of one shard.
//!
//! A shard counts into its [`Recorder`]. A [`Tally`] is a copy of the counts. Neither
//! knows which records are sampled, nor how the numbers are shown.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_utils::CachePadded;

use super::counter::{COUNTERS, Counter, ROWS};
use super::distribution::{Distribution, Stage};
use super::metrics::Metrics;
use super::{CommitSample, Observer, RefusedAppends, ShardStats};
use crate::error::Cause;

/// The counters and histograms of one shard, about 46 KiB. Made when the shard is
/// opened.
///
/// Its atomics are those of `std`, not of the `sync` facade. They order nothing, no
/// protocol reads them, and the models pass `()` in its place.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// When the recorder was made. Never changes. Any thread reads it to measure time.
    made: Instant,
    /// Exports the numbers to the `metrics` facade. Its handles never change. The
    /// installed recorder decides how they are shared.
    facade: Metrics,
    /// On its own cache lines, so that a commit does not invalidate `made` in the
    /// caches of appending threads.
    by_writer: CachePadded<ByWriter>,
    /// What other threads than the writer counted, by [`Counter`]. Any thread adds, and
    /// any thread reads.
    by_callers: CachePadded<[AtomicU64; COUNTERS]>,
    /// Records that were refused before they were queued, by [`Cause::LABELS`]. Any caller
    /// adds after a refusal, and any thread reads.
    refused_appends: CachePadded<[AtomicU64; Cause::LABELS.len()]>,
}

/// The counts of the writer thread. It alone stores. Any thread reads them through
/// [`Recorder::tally`]. No thread waits.
#[derive(Debug)]
struct ByWriter {
    /// By [`Counter`].
    counters: [WriterCounter; COUNTERS],
    queue_depth_max: WriterCounter,
    /// The writer thread sets it, once. Any thread reads it.
    poisoned: AtomicBool,
    records_per_commit: Stage,
    queue_wait: Stage,
    write: Stage,
    sync: Stage,
    acknowledged: Stage,
}

impl Recorder {
    /// The recorder of a shard. `log_name` and `shard` label its series in the
    /// `metrics` facade.
    pub(crate) fn new(log_name: &str, shard: usize) -> Self {
        Self {
            made: Instant::now(),
            facade: Metrics::new(log_name, shard),
            by_writer: CachePadded::new(ByWriter {
                counters: Default::default(),
                queue_depth_max: WriterCounter::default(),
                poisoned: AtomicBool::new(false),
                records_per_commit: Stage::new(),
                queue_wait: Stage::new(),
                write: Stage::new(),
                sync: Stage::new(),
                acknowledged: Stage::new(),
            }),
            by_callers: CachePadded::default(),
            refused_appends: CachePadded::default(),
        }
    }

    /// The number of commits so far, and the bytes of their payloads. Any thread may call this.
    pub(crate) fn committed_so_far(&self) -> (u64, u64) {
        let count = |counter: Counter| self.by_writer.counters[counter as usize].get();
        (count(Counter::Commits), count(Counter::Bytes))
    }

    /// A caller was blocked on a full queue for `nanos`. Any thread may call this.
    pub(crate) fn blocked(&self, nanos: u64) {
        self.count(Counter::BlockedNanos, nanos);
    }

    /// An append refused this number of records before they were queued. Any thread may call
    /// this.
    pub(crate) fn refused_append(&self, cause: &Cause, records: u64) {
        let cause = cause.label_index();
        // ORDERING: Relaxed: as in `count`.
        self.refused_appends[cause].fetch_add(records, Ordering::Relaxed);
        self.facade.refused_appends(cause, records);
    }

    /// Adds to a counter. Any thread may call this.
    pub(crate) fn count(&self, counter: Counter, more: u64) {
        // ORDERING: Relaxed: many callers add, so the addition must be atomic. A sum
        // publishes nothing else.
        self.by_callers[counter as usize].fetch_add(more, Ordering::Relaxed);
        self.facade.count(counter, more);
    }

    /// Adds to a counter, without a locked instruction. Only the writer thread may call
    /// this.
    fn count_by_writer(&self, counter: Counter, more: u64) {
        self.by_writer.counters[counter as usize].add(more);
        self.facade.count(counter, more);
    }

    /// Copies the counts, with the queue's current depth. Any thread may call this. It
    /// copies the histograms, so it is too slow for each append.
    pub(super) fn tally(&self, queue_depth: u64) -> Tally {
        let counted = &self.by_writer;
        // ORDERING: Relaxed: only recent numbers are promised.
        let refused =
            std::array::from_fn(|label| self.refused_appends[label].load(Ordering::Relaxed));
        let mut counts = ShardStats {
            refused_appends: RefusedAppends::new(refused),
            // ORDERING: Relaxed: a report. A caller learns from the shard that it
            // is poisoned, not from here.
            poisoned: counted.poisoned.load(Ordering::Relaxed),
            queue_depth,
            queue_depth_max: counted.queue_depth_max.get(),
            ..ShardStats::default()
        };
        for row in &ROWS {
            let counter = row.counter as usize;
            // ORDERING: Relaxed: only a recent sum is promised.
            let by_callers = self.by_callers[counter].load(Ordering::Relaxed);
            *(row.field)(&mut counts) = counted.counters[counter].get().wrapping_add(by_callers);
        }
        Tally {
            counts,
            records_per_commit: counted.records_per_commit.load(),
            queue_wait: counted.queue_wait.load(),
            write: counted.write.load(),
            sync: counted.sync.load(),
            acknowledged: counted.acknowledged.load(),
        }
    }
}

impl Observer for Recorder {
    fn now(&self) -> u64 {
        // A u64 holds 584 years. 0 would mean "not sampled".
        u64::try_from(self.made.elapsed().as_nanos()).map_or(u64::MAX, |nanos| nanos.max(1))
    }

    fn queue_waited(&self, nanos: u64) {
        self.by_writer.queue_wait.record(nanos);
        self.facade.queue_waited(nanos);
    }

    fn acknowledged(&self, nanos: u64) {
        self.by_writer.acknowledged.record(nanos);
        self.facade.acknowledged(nanos);
    }

    fn committed(&self, sample: CommitSample) {
        let counted = &self.by_writer;
        self.count_by_writer(Counter::Records, sample.records);
        self.count_by_writer(Counter::Bytes, sample.bytes);
        self.count_by_writer(Counter::Commits, 1);
        counted.queue_depth_max.raise(sample.queue_depth);
        counted.records_per_commit.record(sample.records);
        sample.write_nanos.iter().for_each(|nanos| counted.write.record(*nanos));
        self.facade.committed(sample);
    }

    fn synced(&self, nanos: u64) {
        self.count_by_writer(Counter::Syncs, 1);
        self.by_writer.sync.record(nanos);
        self.facade.synced(nanos);
    }

    fn rolled(&self) {
        self.count_by_writer(Counter::Rolls, 1);
    }

    fn refused(&self, records: u64) {
        self.count_by_writer(Counter::RefusedRecords, records);
    }

    fn poisoned(&self) {
        // ORDERING: Relaxed: see the load in `tally`.
        self.by_writer.poisoned.store(true, Ordering::Relaxed);
        self.facade.poisoned();
    }
}

/// A number that only the writer thread stores, and any thread reads.
///
/// If a second thread stored too, counts would be lost, but nothing else.
#[derive(Debug, Default)]
pub(super) struct WriterCounter(AtomicU64);

impl WriterCounter {
    /// Only the writer thread may call this.
    pub(super) fn add(&self, more: u64) {
        // ORDERING: Relaxed: a counter publishes nothing else. A load and a store
        // replace a fetch_add: only one thread stores, so its load is never stale, and
        // a plain add needs no locked instruction.
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(more);
        self.0.store(sum, Ordering::Relaxed);
    }

    /// Keeps the larger of both. Only the writer thread may call this.
    pub(super) fn raise(&self, value: u64) {
        // ORDERING: Relaxed: as in `add`. It uses no fetch_max for that reason too.
        if value > self.0.load(Ordering::Relaxed) {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    /// Any thread may call this.
    pub(super) fn get(&self) -> u64 {
        // ORDERING: Relaxed: only a recent number is promised. A thread sees the stores
        // of one thread in their order, so the number never falls.
        self.0.load(Ordering::Relaxed)
    }
}

/// A copy of the counts of one shard, or of several together.
#[derive(Debug)]
pub(super) struct Tally {
    /// The counters. The percentiles are empty until [`Tally::into_stats`].
    counts: ShardStats,
    records_per_commit: Distribution,
    queue_wait: Distribution,
    write: Distribution,
    sync: Distribution,
    acknowledged: Distribution,
}

impl Tally {
    pub(super) fn empty() -> Self {
        Self {
            counts: ShardStats::default(),
            records_per_commit: Distribution::empty(),
            queue_wait: Distribution::empty(),
            write: Distribution::empty(),
            sync: Distribution::empty(),
            acknowledged: Distribution::empty(),
        }
    }

    /// Adds the counts of another shard.
    pub(super) fn merge(&mut self, other: &Self) {
        let (sum, mut more) = (&mut self.counts, other.counts.clone());
        for row in &ROWS {
            let field = (row.field)(sum);
            *field = field.saturating_add(*(row.field)(&mut more));
        }
        sum.refused_appends.add(&more.refused_appends);
        sum.poisoned |= more.poisoned;
        sum.queue_depth += more.queue_depth;
        sum.queue_depth_max = sum.queue_depth_max.max(more.queue_depth_max);
        self.records_per_commit.merge(&other.records_per_commit);
        self.queue_wait.merge(&other.queue_wait);
        self.write.merge(&other.write);
        self.sync.merge(&other.sync);
        self.acknowledged.merge(&other.acknowledged);
    }

    pub(super) fn into_stats(self) -> ShardStats {
        let mean = match self.counts.commits {
            0 => 0.0,
            commits => self.counts.records as f64 / commits as f64,
        };
        ShardStats {
            records_per_commit: self.records_per_commit.records_per_commit(mean),
            queue_wait: self.queue_wait.latency(),
            write: self.write.latency(),
            sync: self.sync.latency(),
            acknowledged: self.acknowledged.latency(),
            ..self.counts
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{FreeSpace, WalStats};

    fn commit(records: u64, write_nanos: u64) -> CommitSample {
        CommitSample {
            records,
            bytes: 100 * records,
            queue_depth: 2 * records,
            write_nanos: Some(write_nanos),
        }
    }

    #[test]
    fn the_clock_never_shows_the_zero_of_an_unsampled_record() {
        let recorder = Recorder::new("log", 0);
        let first = recorder.now();
        assert!(first > 0);
        assert!(recorder.now() >= first);
        assert_eq!(().now(), 0);
    }

    #[test]
    fn a_shard_counts_what_its_writer_and_its_callers_report() {
        let recorder = Recorder::new("log", 0);
        recorder.committed(commit(10, 50));
        recorder.committed(commit(30, 60));
        recorder.synced(40);
        recorder.rolled();
        recorder.refused(7);
        recorder.queue_waited(20);
        recorder.acknowledged(63);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| recorder.blocked(3)));
            }
        });

        let stats = recorder.tally(5).into_stats();
        assert_eq!((stats.records, stats.bytes, stats.commits), (40, 4000, 2));
        assert_eq!((stats.syncs, stats.rolls, stats.refused_records), (1, 1, 7));
        assert_eq!((stats.queue_depth, stats.queue_depth_max), (5, 60));
        assert_eq!(stats.blocked_nanos, 12_000);
        assert!((stats.records_per_commit.mean - 20.0).abs() < 1e-9);
        assert_eq!(stats.records_per_commit.max, 30);
        assert_eq!((stats.write.p50_nanos, stats.write.max_nanos), (50, 60));
        assert_eq!((stats.sync.count, stats.sync.max_nanos), (1, 40));
        assert_eq!(stats.queue_wait.p999_nanos, 20);
        assert_eq!(stats.acknowledged.p50_nanos, 63);
        assert!(!stats.poisoned);

        recorder.poisoned();
        assert!(recorder.tally(0).into_stats().poisoned);
    }

    #[test]
    fn the_total_is_of_the_merged_histograms() {
        let (fast, slow) = (Recorder::new("log", 0), Recorder::new("log", 1));
        (0..99).for_each(|_| fast.committed(commit(1, 10)));
        slow.committed(commit(21, 1_000_000));
        slow.poisoned();

        let stats = WalStats::of([(&fast, 3), (&slow, 4)], FreeSpace::default());
        assert_eq!(stats.shards, [fast.tally(3).into_stats(), slow.tally(4).into_stats()]);
        assert_eq!(stats.poisoned_shards(), 1);

        let total = &stats.total;
        assert_eq!((total.records, total.commits), (120, 100));
        assert_eq!((total.queue_depth, total.queue_depth_max), (7, 42));
        assert!(total.poisoned);
        assert!((total.records_per_commit.mean - 1.2).abs() < 1e-9);
        // The average of the shards' medians would be half a millisecond.
        assert_eq!((total.write.p50_nanos, total.write.p99_nanos), (10, 10));
        assert_eq!(total.write.max_nanos, 1_000_000);
    }

    #[test]
    fn a_log_without_shards_has_empty_stats() {
        assert_eq!(WalStats::of([], FreeSpace::default()), WalStats::default());
    }
}
