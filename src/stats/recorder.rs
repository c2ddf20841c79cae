//! The counters and histograms of one shard.
//!
//! A [`Recorder`] is counted into while the shard works; a [`Tally`] is a copy
//! of it at rest. Neither knows who decides what is sampled, nor how the
//! numbers are shown.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_utils::CachePadded;

use super::distribution::{Distribution, Stage};
use super::facade::Facade;
use super::{CommitSample, Observer, ShardStats};

/// What one shard counts: about 46 KiB, made when the shard is opened.
///
/// Its atomics are `std`'s and not those of the `sync` facade: they order
/// nothing, no protocol reads them, and the models pass `()` in its place.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// When the recorder was made. Never changes; any thread reads it to tell
    /// the time.
    made: Instant,
    /// The same numbers for the `metrics` facade. Its handles never change, and
    /// are shared as the installed recorder sees fit.
    facade: Facade,
    /// On cache lines of its own, so that a commit does not take `made` away
    /// from the threads that append.
    by_writer: CachePadded<ByWriter>,
    /// Nanoseconds spent blocked on a full queue. Any caller adds, once it has
    /// been blocked; any thread reads.
    blocked_nanos: CachePadded<AtomicU64>,
}

/// What the writer thread counts. It alone stores; any thread reads, through
/// [`Recorder::tally`]; nobody waits for anybody.
#[derive(Debug)]
struct ByWriter {
    records: WriterCounter,
    bytes: WriterCounter,
    commits: WriterCounter,
    syncs: WriterCounter,
    rolls: WriterCounter,
    refused_records: WriterCounter,
    queue_depth_max: WriterCounter,
    /// The writer thread sets it, once; any thread reads.
    poisoned: AtomicBool,
    records_per_commit: Stage,
    queue_wait: Stage,
    write: Stage,
    sync: Stage,
    acknowledged: Stage,
}

impl Recorder {
    /// The recorder of a shard. The names tell its series in the `metrics`
    /// facade from those of other shards, and of other logs in the process.
    pub(crate) fn new(log_name: &str, shard: usize) -> Self {
        Self {
            made: Instant::now(),
            facade: Facade::new(log_name, shard),
            by_writer: CachePadded::new(ByWriter {
                records: WriterCounter::default(),
                bytes: WriterCounter::default(),
                commits: WriterCounter::default(),
                syncs: WriterCounter::default(),
                rolls: WriterCounter::default(),
                refused_records: WriterCounter::default(),
                queue_depth_max: WriterCounter::default(),
                poisoned: AtomicBool::new(false),
                records_per_commit: Stage::new(),
                queue_wait: Stage::new(),
                write: Stage::new(),
                sync: Stage::new(),
                acknowledged: Stage::new(),
            }),
            blocked_nanos: CachePadded::new(AtomicU64::new(0)),
        }
    }

    /// A caller was blocked on the full queue for so long. From any thread.
    pub(crate) fn blocked(&self, nanos: u64) {
        // ORDERING: Relaxed: many callers add, so it must be one indivisible
        // step, but a sum publishes nothing besides itself.
        self.blocked_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.facade.blocked(nanos);
    }

    /// What was counted so far, with the depth of the queue now; can still be
    /// merged. From any thread; copies the histograms, so not for every append.
    pub(super) fn tally(&self, queue_depth: u64) -> Tally {
        let counted = &self.by_writer;
        Tally {
            counts: ShardStats {
                records: counted.records.get(),
                bytes: counted.bytes.get(),
                commits: counted.commits.get(),
                syncs: counted.syncs.get(),
                rolls: counted.rolls.get(),
                refused_records: counted.refused_records.get(),
                // ORDERING: Relaxed: a report; whoever must not append to a
                // poisoned shard learns it from the shard, not from here.
                poisoned: counted.poisoned.load(Ordering::Relaxed),
                queue_depth,
                queue_depth_max: counted.queue_depth_max.get(),
                // ORDERING: Relaxed: a recent sum is all that is promised.
                blocked_nanos: self.blocked_nanos.load(Ordering::Relaxed),
                ..ShardStats::default()
            },
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
        // 584 years fit; and 0 would mean "not sampled".
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
        counted.records.add(sample.records);
        counted.bytes.add(sample.bytes);
        counted.commits.add(1);
        counted.queue_depth_max.raise(sample.queue_depth);
        counted.records_per_commit.record(sample.records);
        sample.write_nanos.iter().for_each(|nanos| counted.write.record(*nanos));
        self.facade.committed(sample);
    }

    fn synced(&self, nanos: u64) {
        self.by_writer.syncs.add(1);
        self.by_writer.sync.record(nanos);
        self.facade.synced(nanos);
    }

    fn rolled(&self) {
        self.by_writer.rolls.add(1);
        self.facade.rolled();
    }

    fn refused(&self, records: u64) {
        self.by_writer.refused_records.add(records);
        self.facade.refused(records);
    }

    fn poisoned(&self) {
        // ORDERING: Relaxed: see the load in `tally`.
        self.by_writer.poisoned.store(true, Ordering::Relaxed);
        self.facade.poisoned();
    }
}

/// A number that only the writer thread stores and any thread reads.
///
/// A second thread that stored would lose counts, no more.
#[derive(Debug, Default)]
pub(super) struct WriterCounter(AtomicU64);

impl WriterCounter {
    /// For the writer thread alone.
    fn add(&self, more: u64) {
        // ORDERING: Relaxed: nothing else is published through a counter. A
        // load and a store instead of a fetch_add, for with one thread storing
        // its load is never stale, and a plain add needs no locked instruction.
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(more);
        self.0.store(sum, Ordering::Relaxed);
    }

    /// Keeps the larger of both. For the writer thread alone.
    pub(super) fn raise(&self, value: u64) {
        // ORDERING: Relaxed: as in `add`; no fetch_max for the same reason.
        if value > self.0.load(Ordering::Relaxed) {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    /// From any thread.
    pub(super) fn get(&self) -> u64 {
        // ORDERING: Relaxed: a recent number is all that is promised, and one
        // thread's stores are seen in their order, so it never falls.
        self.0.load(Ordering::Relaxed)
    }
}

/// What one shard, or several together, had counted at some time.
#[derive(Debug)]
pub(super) struct Tally {
    /// The counters; its percentiles are empty until [`Tally::into_stats`].
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

    /// Adds another shard's.
    pub(super) fn merge(&mut self, other: &Self) {
        let (sum, more) = (&mut self.counts, &other.counts);
        sum.records += more.records;
        sum.bytes += more.bytes;
        sum.commits += more.commits;
        sum.syncs += more.syncs;
        sum.rolls += more.rolls;
        sum.refused_records += more.refused_records;
        sum.poisoned |= more.poisoned;
        sum.queue_depth += more.queue_depth;
        sum.queue_depth_max = sum.queue_depth_max.max(more.queue_depth_max);
        sum.blocked_nanos = sum.blocked_nanos.saturating_add(more.blocked_nanos);
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
    use crate::stats::{DiskSpace, WalStats};

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

        let stats = WalStats::of([(&fast, 3), (&slow, 4)], DiskSpace::default());
        assert_eq!(stats.shards, [fast.tally(3).into_stats(), slow.tally(4).into_stats()]);
        assert_eq!(stats.poisoned_shards(), 1);

        let total = &stats.total;
        assert_eq!((total.records, total.commits), (120, 100));
        assert_eq!((total.queue_depth, total.queue_depth_max), (7, 42));
        assert!(total.poisoned);
        assert!((total.records_per_commit.mean - 1.2).abs() < 1e-9);
        // An average of the shards' medians would be half a millisecond.
        assert_eq!((total.write.p50_nanos, total.write.p99_nanos), (10, 10));
        assert_eq!(total.write.max_nanos, 1_000_000);
    }

    #[test]
    fn a_log_without_shards_has_empty_stats() {
        assert_eq!(WalStats::of([], DiskSpace::default()), WalStats::default());
    }
}
