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
//! | `Os` | the write | process death |
//!
//! In mode `Interval(d)`, a power loss may take the records of the last d.
//!
//! README.md says when to use it. ARCHITECTURE.md explains how it works. FORMAT.md describes
//! the bytes on disk.

mod aligned_bytes;
mod backup;
mod checkpoint;
mod committing;
mod completion;
mod config;
mod directory;
pub mod disk;
mod entry;
mod error;
mod foreign;
mod found;
mod frame;
mod frame_reader;
mod frame_search;
mod housekeeping;
mod human_duration;
mod lane;
mod leftovers;
mod log;
mod mailbox;
mod manifest;
mod open;
mod parallel;
mod payload;
mod position;
mod progress;
mod purge;
mod reader;
mod recovery;
mod refusals;
mod repair;
mod replay;
mod retire;
mod router;
mod sealer;
mod segment;
mod segment_writer;
mod shard;
mod slots;
mod space;
mod spares;
mod state_machine;
mod stats;
mod sync;
#[cfg(feature = "timeseries")]
pub mod timeseries;
mod token;
mod trace;
mod truncate;
mod waiter;
mod waiters;
mod wake_chain;
mod writer;

pub use backup::{Backup, BackupError, BackupReport};
pub use checkpoint::{Checkpoint, CheckpointError, LogId};
pub use completion::{Barrier, BatchCompletion, Completion};
pub use config::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Config, Durability, OnDamage, QUEUE_RECORDS_MAX, SHARDS_MAX,
};
pub use error::{
    AppendError, BatchError, Cause, CloseError, Damage, FailedPart, OpenError, Position, Refused,
    ReplayError, TruncateError,
};
pub use log::{AppendFuture, ShardedWal};
pub use payload::Payload;
pub use reader::LogReader;
pub use recovery::{Lost, RecoveryReport, RepairReport, ShardRecovery};
pub use repair::Repair;
pub use replay::{Record, ReplayOptions, ReplayProgress, ReplayReport};
pub use state_machine::StateMachine;
pub use stats::{DiskSpace, DiskState, Latency, RecordsPerCommit, ShardStats, WalStats};
pub use truncate::TruncateReport;

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
