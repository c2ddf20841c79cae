//! A sharded, group-committed write-ahead log for time-series ingest.

pub mod disk;
#[allow(
    dead_code,
    unused_imports,
    reason = "until the writer and the log use it"
)]
mod stats;

pub use stats::{Latency, RecordsPerCommit, ShardStats, WalStats};
