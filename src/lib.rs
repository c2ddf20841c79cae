//! A sharded, group-committed write-ahead log for time-series ingest.
//!
//! ```
//! use shardwal::{Config, ReplayOptions, ShardedWal};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let scratch = tempfile::tempdir()?;
//! # let dir = scratch.path().join("log");
//! let log = ShardedWal::open(Config::new(&dir).shards(4))?;
//! let first = log.append(7, "cpu 0.93");   // queued, not yet durable
//! let second = log.append(7, "cpu 0.95");
//! println!("durable at {}", second.wait()?); // after its fdatasync
//! drop(first);                               // fire and forget
//! log.close()?;
//!
//! let log = ShardedWal::open(Config::new(&dir).shards(4))?;
//! let report = log.replay(ReplayOptions::default(), |record| {
//!     println!("{} {:?}", record.key(), record.payload());
//!     Ok::<_, std::io::Error>(())
//! })?;
//! assert_eq!(report.records, 2);
//! # Ok(())
//! # }
//! ```
//!
//! What survives depends on [`Durability`]:
//!
//! | mode | a completion resolves after | survives |
//! |---|---|---|
//! | `Sync` | the commit's write and fdatasync | power loss |
//! | `Interval(d)` | the write; a sync follows within d | process death |
//! | `Buffered` | the write | process death |
//!
//! In mode `Interval(d)`, a power loss may take the records of the last d.
//!
//! README.md says when to use it. ARCHITECTURE.md explains how it works. FORMAT.md describes
//! the bytes on disk.

mod backup;
mod checkpoint;
mod commit;
mod config;
mod error;
pub mod fs;
#[doc(hidden)]
pub mod internals;
mod layout;
mod open;
mod payload;
mod position;
mod queue;
mod recovery;
mod segment;
mod shard;
mod space;
mod stats;
mod trace;
mod util;
mod wait;
mod wal;

pub use backup::{Backup, BackupError, BackupReport};
pub use checkpoint::{Checkpoint, CheckpointError, LogId};
pub use commit::state_machine::StateMachine;
pub use config::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Config, Durability, OnCorruption, QUEUE_CAPACITY_MAX,
    SHARDS_MAX,
};
pub use error::{
    AppendError, BatchError, Cause, CloseError, Corruption, FailedShard, OpenError, Position,
    ReplayError, TruncateError, TryAppendError,
};
pub use open::log_reader::LogReader;
pub use payload::Payload;
pub use recovery::repair::Repair;
pub use recovery::replay::{Record, ReplayOptions, ReplayProgress, ReplayReport};
pub use recovery::{LostRange, RecoveryReport, RepairReport, ShardRecovery};
pub use shard::completion::{BatchCompletion, Completion, Flush};
pub use shard::truncate::TruncateReport;
pub use stats::{FreeSpace, FreeSpaceState, Latency, RecordsPerCommit, ShardStats, WalStats};
pub use wal::{AppendFuture, ShardedWal};

/// Compiles and runs the README's example with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles and runs the examples of the embedding guide.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;

#[cfg(all(test, loom))]
#[path = "../loom-tests/mod.rs"]
mod loom_tests;
