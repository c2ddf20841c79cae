//! What a log has done and how long it took.
//!
//! The writer thread reports to an [`Observer`], which is a [`Recorder`] in
//! use and `()` in the models; [`WalStats`] is what a reader gets out of the
//! recorders. This layer counts and sorts durations into buckets; it does not
//! know what a queue, a segment or a completion is, it decides nothing, and
//! nothing in it takes a lock.

mod distribution;
mod facade;
mod observer;
mod recorder;
mod table;

pub(crate) use facade::SpaceGauges;
pub(crate) use observer::{CommitSample, Observer};
pub(crate) use recorder::Recorder;

use std::fmt;

use recorder::Tally;

/// What a log has done since it was opened, as [`crate::ShardedWal::stats`]
/// found it.
///
/// The numbers are read one by one while the log goes on, so that two of them
/// may differ by the commit in between; each by itself is right, and a counter
/// never falls.
///
/// # Percentiles
/// [`ShardStats::queue_wait`] and [`ShardStats::acknowledged`] are of *sampled*
/// records, one in eight, and [`ShardStats::write`] of the commits that hold one;
/// [`ShardStats::sync`] and [`ShardStats::records_per_commit`] are of every commit. A percentile is
/// never below the true one of what was counted and at most 1/32 (3.1 %) above
/// it; below 64 it is exact. The maximum is exact, of what was counted.
/// Durations over 2^40 ns (18 minutes) count as that long in the percentiles;
/// the maximum still shows them.
///
/// `Display` prints a table with a line for each shard and one for each stage.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct WalStats {
    /// All shards together: counters are sums, and the percentiles are of the
    /// merged histograms, not averages of the shards' percentiles.
    pub total: ShardStats,
    /// Each shard, in the order of their numbers.
    pub shards: Vec<ShardStats>,
    /// The room on the log's file system, whoever else uses it.
    pub disk: DiskSpace,
}

/// How much room the log's file system had when the log last looked, some
/// moments ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DiskSpace {
    /// Bytes that were free; `None` where the disk does not say.
    pub free_bytes: Option<u64>,
    /// What that means.
    pub state: DiskState,
}

/// How a disk's room stands to the watermarks of the config.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum DiskState {
    /// There is room, as far as anybody has asked.
    #[default]
    Ok,
    /// Less than [`crate::Config::disk_soft_bytes`] is free.
    Low,
    /// Less than [`crate::Config::disk_hard_bytes`] is free: no append is taken.
    Refusing,
}

impl fmt::Display for DiskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Low => "low",
            Self::Refusing => "refusing",
        })
    }
}

impl WalStats {
    /// The stats of a log, from each shard's recorder and the depth of its
    /// queue now, in the order of the shards' numbers, and the disk's room.
    pub(crate) fn of<'a>(
        shards: impl IntoIterator<Item = (&'a Recorder, u64)>,
        disk: DiskSpace,
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
        Self { total: total.into_stats(), shards, disk }
    }

    /// How many shards are poisoned: a sync failed, and they refuse appends
    /// until the log is opened again.
    #[must_use]
    pub fn poisoned_shards(&self) -> usize {
        self.shards.iter().filter(|shard| shard.poisoned).count()
    }
}

/// What one shard has done since the log was opened, or all of them together
/// in [`WalStats::total`].
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ShardStats {
    /// Records that commits have written.
    pub records: u64,
    /// Bytes of those records' payloads, without keys and framing.
    pub bytes: u64,
    /// Commits that were written.
    pub commits: u64,
    /// Data syncs that succeeded.
    pub syncs: u64,
    /// Times that the writer went on to the next segment.
    pub rolls: u64,
    /// Records whose commit failed cleanly (disk full, say): answered
    /// `NotWritten`, they will never appear in a replay.
    pub refused_records: u64,
    /// Whether a sync failed, so that the shard takes no more appends. In the
    /// total: whether any shard did; see [`WalStats::poisoned_shards`].
    pub poisoned: bool,
    /// Records in the queue now. In the total: the sum.
    pub queue_depth: u64,
    /// The most records that the writer has found in the queue when it came to
    /// drain it. In the total: the deepest queue of any one shard.
    pub queue_depth_max: u64,
    /// Nanoseconds that callers have spent blocked on a full queue, summed over
    /// the callers: two threads blocked for a second make two seconds.
    pub blocked_nanos: u64,
    /// How many records the commits held.
    pub records_per_commit: RecordsPerCommit,
    /// From the append to the drain of the queue, of sampled records.
    pub queue_wait: Latency,
    /// The write of a commit, of those that hold a sampled record.
    pub write: Latency,
    /// A data sync.
    pub sync: Latency,
    /// From the append to its acknowledgement, of sampled records.
    pub acknowledged: Latency,
}

/// How long one stage took, in nanoseconds; all zero while `count` is.
///
/// What the percentiles are of and how exact they are: see [`WalStats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Latency {
    /// How many durations were counted.
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

/// How many records a commit held: what group commit achieves.
///
/// How exact the percentiles are: see [`WalStats`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RecordsPerCommit {
    /// All records by all commits; 0 while there is no commit.
    pub mean: f64,
    /// Half of the commits held at most so many.
    pub p50: u64,
    /// Nine commits in ten held at most so many.
    pub p90: u64,
    /// 99 commits in a hundred held at most so many.
    pub p99: u64,
    /// 999 commits in a thousand held at most so many.
    pub p999: u64,
    /// The most that one commit held, exact.
    pub max: u64,
}
