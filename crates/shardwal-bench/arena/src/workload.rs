//! The workloads of the arena, and shardwal's targets in each.

use crate::load::{Load, Manner};
use crate::peer::{Durability, Kind};

/// A workload.
#[derive(Clone, Copy)]
pub struct Workload {
    /// Its name in the raw figures.
    pub id: &'static str,
    /// The load. `None` for a replay.
    pub load: Option<Load>,
    /// The numbers of shards to run.
    shards: &'static [usize],
}

const fn load(threads: usize, manner: Manner, durability: Durability) -> Option<Load> {
    Some(Load { threads, manner, durability })
}

/// All workloads, in the order of the table.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        id: "sync-64-waiting",
        load: load(64, Manner::Waiting, Durability::Sync),
        shards: &[1, 2, 4, 16],
    },
    Workload {
        id: "sync-2x256-in-flight",
        load: load(2, Manner::InFlight(256), Durability::Sync),
        shards: &[1, 2],
    },
    Workload {
        id: "sync-8-batches-100",
        load: load(8, Manner::Batches(100), Durability::Sync),
        shards: &[1, 2, 4],
    },
    Workload {
        id: "sync-1-waiting",
        load: load(1, Manner::Waiting, Durability::Sync),
        shards: &[1],
    },
    Workload {
        id: "os-64-waiting",
        load: load(64, Manner::Waiting, Durability::Buffered),
        shards: &[1, 4, 16],
    },
    Workload {
        id: "os-2-batches-100",
        load: load(2, Manner::Batches(100), Durability::Buffered),
        shards: &[1, 2, 4],
    },
    Workload {
        id: "os-64-forgetting",
        load: load(64, Manner::Forgetting, Durability::Buffered),
        shards: &[1, 4, 16],
    },
    Workload { id: "replay", load: None, shards: &[1, 4] },
];

impl Workload {
    /// The numbers of shards with which the peer takes part.
    pub fn shards(&self, kind: &Kind) -> Vec<usize> {
        let takes_part = match self.load.map(|load| load.durability) {
            Some(Durability::Sync) => kind.sync,
            Some(Durability::Buffered) => kind.os,
            None => true,
        };
        let tried = |shards: &usize| takes_part && self.shards.contains(shards);
        kind.shards.iter().copied().filter(tried).collect()
    }
}

/// Records per second.
pub const RATE: &str = "per_second";
/// Records per second of a replay, including opening and recovery. `RATE` counts from the end of
/// the opening.
pub const WITH_OPEN: &str = "with_open_per_second";
/// Counted from the end of the opening, with the files dropped from the page cache then.
pub const COLD: &str = "cold_per_second";
/// Including the opening, with the files dropped before it.
pub const COLD_WITH_OPEN: &str = "cold_with_open_per_second";
/// The speed of fio reading shardwal's files from the page cache, one after the other, as records
/// per second. It is in the `replay` workload, with the peer `fio`.
pub const FIO_READ: &str = "read_per_second";

/// Whether more is better.
pub fn is_rate(metric: &str) -> bool {
    metric.ends_with("per_second")
}

/// The share of the machine's CPU that other programs used during the run.
pub const OTHERS: &str = "others_cpu";
/// Nanoseconds of a cache line's way to another core and back, before and after the run.
pub const LINE: &str = "line_ns";
/// Median latency of an append or a batch.
pub const P50: &str = "p50_us";
/// 99th percentile of these latencies.
pub const P99: &str = "p99_us";

/// What shardwal is compared with.
#[derive(Clone, Copy)]
pub enum Against {
    /// The best of the peers that promise as much.
    Best,
    /// The best of the peers whose name contains the text.
    Named(&'static str),
    /// shardwal with this number of shards.
    Ours(usize),
    /// fio, by the name of its figure.
    Fio(&'static str),
    /// fio reading the files that were replayed.
    FioRead,
}

/// A row of the table of targets.
#[derive(Clone, Copy)]
pub struct Target {
    /// The title of the row.
    pub title: &'static str,
    /// The workload.
    pub workload: &'static str,
    /// The metric.
    pub metric: &'static str,
    /// The number of shards. `None`: the best one.
    pub shards: Option<usize>,
    /// The rival.
    pub against: Against,
    /// The target ratio: at least this, or at most this for a latency.
    pub times: f64,
}

const fn target(
    title: &'static str,
    workload: &'static str,
    against: Against,
    times: f64,
) -> Target {
    Target { title, workload, metric: RATE, shards: None, against, times }
}

impl Target {
    const fn of(self, metric: &'static str) -> Self {
        Self { metric, ..self }
    }
}

/// All targets.
pub const TARGETS: &[Target] = &[
    target("`Sync`, 64 threads waiting", "sync-64-waiting", Against::Named("one mutex"), 25.0),
    Target {
        shards: Some(1),
        ..target("`Sync`, 64 threads waiting, 1 shard", "sync-64-waiting", Against::Best, 1.7)
    },
    Target {
        shards: Some(16),
        ..target("`Sync`, 64 threads waiting, 16 shards", "sync-64-waiting", Against::Best, 2.0)
    },
    Target {
        shards: Some(16),
        ..target("`Sync`, 64 threads waiting, 16 shards", "sync-64-waiting", Against::Ours(1), 0.9)
    },
    target("`Sync`, 2 threads, 256 in flight", "sync-2x256-in-flight", Against::Best, 1.5),
    target("`Sync`, 8 threads, batches of 100", "sync-8-batches-100", Against::Best, 1.3),
    target(
        "`Sync`, 8 threads, batches of 100",
        "sync-8-batches-100",
        Against::Fio("208 KiB records/s"),
        0.95,
    ),
    Target {
        metric: P50,
        ..target("`Sync`, 1 thread, P50", "sync-1-waiting", Against::Fio("4 KiB P50 us"), 1.05)
    },
    target("`Os`, 64 threads waiting", "os-64-waiting", Against::Named("mutex"), 1.0),
    target("`Os`, batches of 100, 2 threads", "os-2-batches-100", Against::Named("mutex"), 1.1),
    target(
        "fire and forget, `Os`, 64 threads",
        "os-64-forgetting",
        Against::Named("user-space buffer"),
        1.3,
    ),
    target(
        "fire and forget, `Os`, 64 threads",
        "os-64-forgetting",
        Against::Named("one mutex"),
        6.0,
    ),
    target("replay, warm", "replay", Against::Named("writeahead"), 2.0),
    target("replay, warm, a plain reader", "replay", Against::Named("one mutex"), 1.2),
    target("replay, cold", "replay", Against::FioRead, 0.9).of(COLD),
    target("replay, warm, opening included", "replay", Against::Named("writeahead"), 2.0)
        .of(WITH_OPEN),
    target(
        "replay, warm, opening included, a plain reader",
        "replay",
        Against::Named("one mutex"),
        1.2,
    )
    .of(WITH_OPEN),
    target("replay, cold, opening included", "replay", Against::FioRead, 0.9).of(COLD_WITH_OPEN),
    target(
        "replay, cold, opening included, a plain reader (no target)",
        "replay",
        Against::Named("one mutex"),
        1.0,
    )
    .of(COLD_WITH_OPEN),
    Target {
        metric: P99,
        ..target("P99 at 64 threads, `Sync`", "sync-64-waiting", Against::Best, 0.8)
    },
];
