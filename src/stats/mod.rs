//! Counters and latencies of a log.
//!
//! The writer thread reports to an [`Observer`]. That is a [`Recorder`] in a real log,
//! and `()` in the models. [`WalStats`] is a copy of all recorders for a reader. This
//! layer counts, and sorts durations into buckets. It does not know queues, segments or
//! completions. It decides nothing and takes no lock.

mod counter;
mod distribution;
mod metrics;
mod observer;
mod recorder;
mod refused;
mod table;

pub(crate) use counter::Counter;
pub(crate) use metrics::SpaceGauges;
#[cfg(feature = "metrics")]
pub use metrics::describe_metrics;
pub(crate) use observer::{CommitSample, Observer};
pub(crate) use recorder::Recorder;
pub use refused::RefusedAppends;

use std::fmt;

use recorder::Tally;

/// The counters and latencies of a log since it was opened.
/// [`crate::ShardedWal::stats`] returns them.
///
/// The numbers are read one by one while the log runs. Two of them may therefore differ
/// by a commit in between. Each by itself is right, and a counter never falls.
///
/// # Percentiles
/// [`ShardStats::queue_wait`] and [`ShardStats::acknowledged`] cover *sampled* records,
/// one in eight. [`ShardStats::write`] covers the commits that hold one.
/// [`ShardStats::sync`] and [`ShardStats::records_per_commit`] cover every commit. A
/// percentile is never below the true one of the counted values, and at most 1/32 (3.1
/// %) above it. Below 64 it is exact. The maximum of the counted values is exact.
/// Durations above 2^40 ns (18 minutes) count as that long in the percentiles, but not
/// in the maximum.
///
/// `Display` prints a table with a line per shard and a line per stage.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct WalStats {
    /// All shards together. Counters are sums. Percentiles are of the merged
    /// histograms, not averages of the shards' percentiles.
    pub total: ShardStats,
    /// Each shard, in the order of the shard numbers.
    pub shards: Vec<ShardStats>,
    /// The free space of the log's file system, at the last check.
    pub free_space: FreeSpace,
}

/// The free space of the log's file system at the last check, some moments ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FreeSpace {
    /// Free bytes; `None` if the file system does not report them.
    pub free_bytes: Option<u64>,
    /// How that relates to the thresholds of the config.
    pub state: FreeSpaceState,
}

/// How the free space relates to the thresholds of the config.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum FreeSpaceState {
    /// There is enough space, or it is unknown.
    #[default]
    Ok,
    /// Fewer bytes than [`crate::Config::free_space_low_bytes`] are free.
    Low,
    /// Fewer bytes than [`crate::Config::free_space_min_bytes`] are free. The log refuses
    /// appends.
    Refusing,
}

impl fmt::Display for FreeSpaceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Low => "low",
            Self::Refusing => "refusing",
        })
    }
}

impl WalStats {
    /// The stats of a log, from each shard's recorder and current queue depth, in shard
    /// order, and the free space.
    pub(crate) fn of<'a>(
        shards: impl IntoIterator<Item = (&'a Recorder, u64)>,
        free_space: FreeSpace,
    ) -> Self {
        let mut total = Tally::empty();
        let shards = shards
            .into_iter()
            .map(|(recorder, queue_depth)| {
                let tally = recorder.tally(queue_depth);
                total.merge(&tally);
                tally.into_stats()
            })
            .collect();
        Self { total: total.into_stats(), shards, free_space }
    }

    /// Number of poisoned shards: a sync failed there, and they refuse appends until
    /// the log is opened again.
    #[must_use]
    pub fn poisoned_shards(&self) -> usize {
        self.shards.iter().filter(|shard| shard.poisoned).count()
    }
}

/// The counters and latencies of one shard since the log was opened, or of all shards
/// together in [`WalStats::total`].
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ShardStats {
    /// Records written by commits.
    pub records: u64,
    /// Payload bytes of those records, without keys and framing.
    pub bytes: u64,
    /// Commits written.
    pub commits: u64,
    /// Data syncs that succeeded.
    pub syncs: u64,
    /// Number of times that the writer rolled to the next segment.
    pub rolls: u64,
    /// Records whose commit failed without effect, for instance because the disk was
    /// full. They were answered `NotWritten`, and no replay will return them.
    pub refused_records: u64,
    /// Records that appends refused before they were queued, by cause.
    pub refused_appends: RefusedAppends,
    /// Whether a sync failed, so that the shard refuses appends. In the total: whether
    /// any shard did; see [`WalStats::poisoned_shards`].
    pub poisoned: bool,
    /// Records in the queue now. In the total: the sum.
    pub queue_depth: u64,
    /// The most records in the queue when the writer began to drain it. In the total:
    /// the maximum of all shards.
    pub queue_depth_max: u64,
    /// Nanoseconds that callers were blocked on a full queue, summed over the callers:
    /// two threads blocked for a second make two seconds.
    pub blocked_nanos: u64,
    /// Number of records per commit.
    pub records_per_commit: RecordsPerCommit,
    /// From the append to the drain of the queue, of sampled records.
    pub queue_wait: Latency,
    /// The write of a commit, of the commits that hold a sampled record.
    pub write: Latency,
    /// A data sync.
    pub sync: Latency,
    /// From the append to its acknowledgement, of sampled records.
    pub acknowledged: Latency,
}

/// The duration of one stage in nanoseconds; all zero while `count` is 0.
///
/// [`WalStats`] says what the percentiles cover, and how exact they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Latency {
    /// Number of durations counted.
    pub count: u64,
    /// Half of them took at most this long.
    pub p50_nanos: u64,
    /// Nine in ten took at most this long.
    pub p90_nanos: u64,
    /// 99 in a hundred took at most this long.
    pub p99_nanos: u64,
    /// 999 in a thousand took at most this long.
    pub p999_nanos: u64,
    /// The longest, exact.
    pub max_nanos: u64,
}

/// Number of records per commit: the effect of group commit.
///
/// [`WalStats`] says how exact the percentiles are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RecordsPerCommit {
    /// Records divided by commits; 0 while there is no commit.
    pub mean: f64,
    /// Half of the commits held at most this number.
    pub p50: u64,
    /// Nine commits in ten held at most this number.
    pub p90: u64,
    /// 99 commits in a hundred held at most this number.
    pub p99: u64,
    /// 999 commits in a thousand held at most this number.
    pub p999: u64,
    /// The most that one commit held, exact.
    pub max: u64,
}
